"""LiteLLM as a client: `openai/` before a model's name, and the address from the environment."""

import json
from typing import Any

import litellm
import openai
import pytest
from scene import CITIES, EASY, HARD, REPORT, TEXT, Report, Stage

MESSAGES = [{"role": "user", "content": EASY}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_chat(stage: Stage) -> None:
    for prompt in (EASY, HARD):
        messages = [{"role": "user", "content": prompt}]
        answer: Any = litellm.completion(model="openai/auto", messages=messages)
        assert answer.choices[0].message.content == TEXT
        assert answer.usage.total_tokens == 29
    assert stage.tiers == ["local", "cloud"]


async def test_chat_asynchronous() -> None:
    answer: Any = await litellm.acompletion(model="openai/auto", messages=MESSAGES)
    assert answer.choices[0].message.content == TEXT


def test_stream(tier: str) -> None:
    stream: Any = litellm.completion(
        model=f"openai/{tier}",
        messages=MESSAGES,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == TEXT
    assert litellm.stream_chunk_builder(chunks).usage.total_tokens == 29


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(tier: str, is_streamed: bool) -> None:
    answer: Any = litellm.completion(
        model=f"openai/{tier}", messages=MESSAGES, tools=[WEATHER], stream=is_streamed
    )
    if is_streamed:
        answer = litellm.stream_chunk_builder(list(answer))
    calls = answer.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"city": city} for city in CITIES
    ]


def test_structured(tier: str) -> None:
    answer: Any = litellm.completion(
        model=f"openai/{tier}", messages=MESSAGES, response_format=Report
    )
    assert Report.model_validate_json(answer.choices[0].message.content) == REPORT


def test_responses(stage: Stage, tier: str) -> None:
    answer: Any = litellm.responses(model=f"openai/{tier}", input=EASY)
    assert answer.output[0].content[0].text == TEXT
    events: Any = litellm.responses(model=f"openai/{tier}", input=EASY, stream=True)
    kinds = [event.type for event in events]
    assert kinds[-1] == "response.completed"
    assert {call.path for call in stage.calls} == {"/v1/responses"}


def test_embeddings(stage: Stage) -> None:
    answer = litellm.embedding(model="openai/text-embedding-3-small", input=["a"])
    assert answer.data[0]["embedding"] == [0.25, -0.5, 0.125]
    assert stage.call.tier == "cloud"


def test_errors_within_a_stream() -> None:
    messages = [{"role": "user", "content": f"VANISH {EASY}"}]
    stream: Any = litellm.completion(
        model="openai/local", messages=messages, stream=True, num_retries=0
    )
    with pytest.raises(openai.APIError):
        list(stream)


def test_saved(measure: Any) -> None:
    def ask(task: str) -> None:
        litellm.completion(model="openai/auto", messages=[{"role": "user", "content": task}])

    measure(ask)
