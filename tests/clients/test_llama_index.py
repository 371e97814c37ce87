"""LlamaIndex's OpenAILike, for OpenAI-compatible servers."""

import os
from typing import Any

import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from scene import CITIES, EASY, HARD, REPORT, TEXT, Report, Stage, weather


def llm(model: str, **options: Any) -> OpenAILike:
    return OpenAILike(
        model=model,
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key="unused",
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
        **options,
    )


def test_chat(stage: Stage) -> None:
    for prompt in (EASY, HARD):
        answer = llm("auto").chat([ChatMessage(role="user", content=prompt)])
        assert answer.message.content == TEXT
        assert answer.additional_kwargs["total_tokens"] == 29
    assert stage.tiers == ["local", "cloud"]


async def test_chat_asynchronous() -> None:
    assert (await llm("auto").acomplete(EASY)).text == TEXT


def test_stream(tier: str) -> None:
    pieces = list(llm(tier).stream_complete(EASY))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text == TEXT


def test_stream_with_usage(tier: str) -> None:
    options = {"stream_options": {"include_usage": True}}
    pieces = list(llm(tier, additional_kwargs=options).stream_complete(EASY))
    assert pieces[-1].additional_kwargs["total_tokens"] == 29


def test_tools(tier: str) -> None:
    model = llm(tier)
    answer = model.chat_with_tools(
        [FunctionTool.from_defaults(weather)], user_msg=EASY, allow_parallel_tool_calls=True
    )
    calls = model.get_tool_calls_from_response(answer)
    assert [call.tool_kwargs for call in calls] == [{"city": city} for city in CITIES]


def test_tools_streamed(tier: str) -> None:
    model = llm(tier)
    tools = [FunctionTool.from_defaults(weather)]
    *_, answer = model.stream_chat_with_tools(tools, user_msg=EASY, allow_parallel_tool_calls=True)
    calls = model.get_tool_calls_from_response(answer)
    assert [call.tool_kwargs for call in calls] == [{"city": city} for city in CITIES]


@pytest.mark.parametrize("by_schema", [False, True], ids=["tool", "schema"])
def test_structured(stage: Stage, by_schema: bool) -> None:
    model = llm("auto", should_use_structured_outputs=by_schema)
    answer = model.as_structured_llm(Report).complete(EASY)
    assert answer.raw == REPORT
    # Ollama does not support required tools.
    assert stage.call.tier == ("local" if by_schema else "cloud")


def test_errors_within_a_stream(tier: str) -> None:
    stream = llm(tier).stream_complete(f"VANISH {EASY}")
    with pytest.raises(openai.APIError, match="interrupted its response"):
        list(stream)


def test_completions(stage: Stage, tier: str) -> None:
    model = OpenAILike(
        model=tier, api_base=os.environ["OPENAI_BASE_URL"], api_key="unused", is_chat_model=False
    )
    assert model.complete(EASY).text == TEXT
    assert stage.call.path == "/v1/completions"


def test_saved(measure: Any) -> None:
    measure(lambda task: llm("auto").complete(task))
