"""Names of models, compared as Ollama compares them."""

import itertools

import pytest

from proxy.protocol.ollama import (
    find_model,
    is_same_model,
    looks_local,
    shortest_name,
    spellings_of,
)

PHI = (
    "phi3",
    "phi3:latest",
    "Phi3:Latest",
    "library/phi3",
    "LIBRARY/phi3:latest",
    "registry.ollama.ai/library/phi3",
    "Registry.Ollama.AI/Library/PHI3:LATEST",
)
OWN = ("me/phi3", "Me/phi3:latest", "registry.ollama.ai/me/phi3:latest")
HUGGING_FACE = ("hf.co/Org/Phi3-GGUF", "HF.co/org/phi3-gguf:latest")
OTHERS = (
    ("phi3:mini",),
    ("hf.co/org/phi3-gguf:Q4_K_M", "hf.co/org/phi3-gguf:q4_k_m"),
    ("huggingface.co/org/phi3-gguf",),
    ("example.com/library/phi3",),
    ("hf.co/library/phi3",),
    ("library/me/phi3",),
)
MODELS = (PHI, OWN, HUGGING_FACE, *OTHERS)


@pytest.mark.parametrize("names", MODELS, ids=lambda names: names[0])
def test_the_spellings_of_a_model_are_one_model(names: tuple[str, ...]) -> None:
    for name, other in itertools.product(names, repeat=2):
        assert is_same_model(name, other)
        assert name.lower() in spellings_of(other)


def test_other_names_are_other_models() -> None:
    for names, others in itertools.permutations(MODELS, 2):
        for name, other in itertools.product(names, others):
            assert not is_same_model(name, other)
            assert name.lower() not in spellings_of(other)


@pytest.mark.parametrize("name", ["phi3", "me/phi3", "hf.co/org/phi3:q4"])
def test_each_spelling_for_a_search_is_the_model(name: str) -> None:
    spellings = spellings_of(name)
    assert len(set(spellings)) == len(spellings)
    assert {shortest_name(spelling) for spelling in spellings} == {name}


def test_a_model_is_found_in_its_spelling() -> None:
    listed = frozenset({"phi3:latest", "Qwen/Qwen3-4B"})
    assert find_model("library/PHI3", listed) == "phi3:latest"
    assert find_model("qwen/qwen3-4b", listed) == "Qwen/Qwen3-4B"
    assert find_model("phi4", listed) is None
    twice = ["phi3:latest", "phi3"]
    assert [find_model(name, twice) for name in twice] == twice


LOCAL = (
    "qwen2.5:7b Qwen3:latest me/own:q8_0 hf.co/a/b HuggingFace.co/a/b:Q4 library/x x:1 llama3.1:8"
)
CLOUD = (
    "gpt-4o openai/gpt-4o accounts/f/models/x ft:gpt-4o-mini-2024-07-18:org::id "
    "ft:gpt-4o:org:suffix:id deepseek/deepseek-r1:free openrouter/openai/gpt-5:nitro "
    "anthropic.claude-3-5-sonnet-20241022-v2:0 bedrock/us.meta.llama3-1-8b-instruct-v1:0"
)


@pytest.mark.parametrize("name", LOCAL.split())
def test_names_of_local_models_are_recognized(name: str) -> None:
    assert looks_local(name)


@pytest.mark.parametrize("name", CLOUD.split())
def test_names_of_clouds_are_not_local(name: str) -> None:
    assert not looks_local(name)
