"""LangChain's ChatOllama, which speaks Ollama's own API."""

from typing import Any

import pytest
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from langchain_tools import check_tools
from ollama import ResponseError
from scene import EASY, HARD, PNG, REPORT, TEXT, Report, Stage, cancel_reading


def test_chat(stage: Stage) -> None:
    model = ChatOllama(model="auto", validate_model_on_init=True)
    for prompt in (EASY, HARD):
        message: Any = model.invoke(prompt)
        assert message.text == TEXT
        assert message.usage_metadata["total_tokens"] == 29
    assert stage.tiers == ["local", "cloud"]


async def test_chat_asynchronous(stage: Stage, tier: str) -> None:
    assert (await ChatOllama(model=tier).ainvoke(EASY)).text == TEXT
    assert stage.tiers == [tier]


def test_chat_of_a_prompt(stage: Stage, tier: str) -> None:
    assert OllamaLLM(model=tier).invoke(EASY) == TEXT
    assert stage.tiers == [tier]


def test_stream(tier: str) -> None:
    assert "".join(chunk.text for chunk in ChatOllama(model=tier).stream(EASY)) == TEXT


async def test_stream_cancelled_stops_the_upstream(stage: Stage, tier: str) -> None:
    await cancel_reading(ChatOllama(model=tier).astream(f"HANG {EASY}"))
    stage.wait_until_released()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(tier: str, is_streamed: bool) -> None:
    check_tools(ChatOllama(model=tier), is_streamed=is_streamed)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured(tier: str, method: Any) -> None:
    model = ChatOllama(model=tier).with_structured_output(Report, method=method)
    assert model.invoke(EASY) == REPORT


def test_images_go_to_a_vision_model(stage: Stage) -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}}
    content = [{"type": "text", "text": EASY}, image]
    assert ChatOllama(model="auto").invoke([("user", content)]).text == TEXT
    assert stage.call.tier == "cloud"
    assert PNG in str(stage.call.body["messages"])


def test_embeddings(stage: Stage) -> None:
    model = OllamaEmbeddings(model="nomic-embed-text")
    assert model.embed_documents(["a", "b"]) == [[0.25, -0.5, 0.125]] * 2
    assert stage.call.tier == "local"


def test_errors_within_a_stream(tier: str) -> None:
    with pytest.raises(ResponseError):
        list(ChatOllama(model=tier).stream(f"VANISH {EASY}"))


def test_saved(measure: Any) -> None:
    measure(lambda task: ChatOllama(model="auto").invoke(task))
