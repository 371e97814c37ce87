"""Names of models, compared as Ollama compares them."""

import itertools

import pytest

from proxy.protocol.ollama import (
    can_pull,
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
    "qwen2.5:7b Qwen3:latest me/own:q8_0 hf.co/a/b HuggingFace.co/a/b:Q4 library/x x:1 llama3.1:8 "
    "/models/llama.gguf /models/llama ~/llama ./llama.gguf ../llama C:\\models\\llama.gguf "
    "d:/llama file:///llama llama-3-8b.Q4_K_M.gguf models/llama.GGUF llama-3-8b-q4_k_m "
    "phi-3.IQ2_XS.gguf llama.safetensors org/Llama-3-8B-GGUF org/Llama-GGUF:Q4 /models/x:free "
    "llama3:8b@sha256:abc llama3:8b?x phi3:lat\u00e9st user/model:thinking registry.lan/phi3:14 "
    "nous.hermes:7 yi.34b:1 meta.lan/phi3:14 mistral.hermes:q"
)
CLOUD = (
    "models/gemini-2.5-flash @cf/meta/llama-3.1-8b-instruct ~openai/gpt-latest "
    "eu.amazon.nova-pro-v1:0 bedrock/us-east-1/anthropic.claude-v2:1 "
    "amazon.titan-text-express-v1:0:8k openai.gpt-oss-20b-1:0 "
    "projects/p/locations/l/endpoints/1 claude-sonnet-4@20250514 mistral-small-q4 gguf "
    "gpt-4o openai/gpt-4o accounts/f/models/x ft:gpt-4o-mini-2024-07-18:org::id "
    "ft:gpt-4o:org:suffix:id deepseek/deepseek-r1:free openrouter/openai/gpt-5:nitro "
    "anthropic.claude-3-5-sonnet-20241022-v2:0 bedrock/us.meta.llama3-1-8b-instruct-v1:0"
)


@pytest.mark.parametrize("name", [*LOCAL.split(), "phi3:lat est"])
def test_names_of_local_models_are_recognized(name: str) -> None:
    assert looks_local(name)


@pytest.mark.parametrize("name", CLOUD.split())
def test_names_of_clouds_are_not_local(name: str) -> None:
    assert not looks_local(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi3", True),
        ("me/phi3:q8_0", True),
        ("hf.co/org/Phi3-GGUF:Q4_K_M", True),
        ("registry.lan:5000/me/phi3:14", True),
        ("-x", False),
        ("/models/phi3", False),
        ("./phi3", False),
        ("c:/phi3", False),
        ("phi3.Q4_K_M.gguf", False),
        ("phi3:8b@sha256:abc", False),
        ("phi3:8b?x", False),
        ("phi3;reboot", False),
    ],
)
def test_only_names_of_models_can_be_pulled(name: str, expected: bool) -> None:
    assert can_pull(name) is expected
