"""LangChain's ChatOpenAI, over chat completions and over responses."""

from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tools import check_tools
from scene import EASY, HARD, PNG, REPORT, TEXT, Report, Stage


def test_chat(stage: Stage) -> None:
    model = ChatOpenAI(model="auto")
    for prompt in (EASY, HARD):
        message = model.invoke(prompt)
        assert message.text == TEXT
        assert message.usage_metadata is not None
        assert message.usage_metadata["total_tokens"] == 29
    assert stage.tiers == ["local", "cloud"]


def test_chat_forced_by_header(stage: Stage) -> None:
    model = ChatOpenAI(
        model="auto",
        default_headers={"x-router-target": "cloud"},
        include_response_headers=True,
    )
    message = model.invoke(EASY)
    assert message.response_metadata["headers"]["x-router-target"] == "cloud"
    assert stage.call.tier == "cloud"


async def test_chat_asynchronous() -> None:
    assert (await ChatOpenAI(model="auto").ainvoke(EASY)).text == TEXT


def test_stream(tier: str) -> None:
    chunks = list(ChatOpenAI(model=tier, stream_usage=True).stream(EASY))
    assert "".join(chunk.text for chunk in chunks) == TEXT
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [usage["total_tokens"] for usage in usages] == [29]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(tier: str, is_streamed: bool) -> None:
    check_tools(ChatOpenAI(model=tier), is_streamed=is_streamed)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured(method: Any) -> None:
    model = ChatOpenAI(model="auto").with_structured_output(Report, method=method)
    assert model.invoke(EASY) == REPORT
    *_, last = model.stream(EASY)
    assert last == REPORT


def test_images_go_to_a_vision_model(stage: Stage) -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}}
    content = [{"type": "text", "text": EASY}, image]
    assert ChatOpenAI(model="auto").invoke([("user", content)]).text == TEXT
    assert (stage.call.tier, stage.call.body["messages"][0]["content"]) == ("cloud", content)


def test_errors_within_a_stream(tier: str) -> None:
    stream = ChatOpenAI(model=tier, max_retries=0).stream(f"VANISH {EASY}")
    with pytest.raises(openai.APIError, match="interrupted its response"):
        list(stream)


def test_responses(stage: Stage, tier: str) -> None:
    model = ChatOpenAI(model=tier, use_responses_api=True, use_previous_response_id=True)
    message = model.invoke(EASY)
    assert message.text == TEXT
    assert "".join(chunk.text for chunk in model.stream(EASY)) == TEXT
    assert model.invoke([("user", EASY), message, ("user", "And 3+3?")]).text == TEXT
    assert {call.path for call in stage.calls} == {"/v1/responses"}
    assert model.with_structured_output(Report).invoke(EASY) == REPORT


def test_embeddings(stage: Stage) -> None:
    model = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False)
    assert model.embed_documents(["a", "b"]) == [[0.25, -0.5, 0.125]] * 2
    assert stage.call.tier == "cloud"


def test_saved(measure: Any) -> None:
    measure(lambda task: ChatOpenAI(model="auto").invoke(task))
