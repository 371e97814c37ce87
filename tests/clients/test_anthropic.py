"""Anthropic's client for Python: its API is answered by the local model."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from scene import CITIES, EASY, LOCAL_MODEL, TEXT, Stage, weather

LIMIT = 64
WEATHER: Any = {
    "name": "weather",
    "description": "Tell the weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def client(stage: Stage) -> Iterator[Anthropic]:
    """A client with the address from the environment."""
    with Anthropic(max_retries=0) as client:
        yield client


def user(content: Any) -> Any:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("model", ["auto", "local", LOCAL_MODEL, LOCAL_MODEL.upper()])
def test_chat(client: Anthropic, stage: Stage, model: str) -> None:
    message = client.messages.create(model=model, max_tokens=LIMIT, messages=user(EASY))
    assert [block.text for block in message.content if block.type == "text"] == [TEXT]
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (19, 10)
    assert (stage.call.tier, stage.call.path) == ("local", "/v1/messages")
    assert stage.call.body["model"].lower() == LOCAL_MODEL


async def test_chat_asynchronous(stage: Stage) -> None:
    async with AsyncAnthropic() as client:
        message: Any = await client.messages.create(
            model="auto", max_tokens=LIMIT, messages=user(EASY)
        )
    assert message.content[0].text == TEXT


def test_chat_with_thoughts(client: Anthropic) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    message = client.messages.create(
        model="qwen3:4b", max_tokens=2048, messages=user(EASY), thinking=thinking
    )
    assert [block.type for block in message.content] == ["thinking", "text"]


def test_chat_counts_tokens(client: Anthropic, stage: Stage) -> None:
    counts = [
        client.messages.count_tokens(model="local", messages=user(text)).input_tokens
        for text in (EASY, EASY * 100)
    ]
    assert 0 < counts[0] < counts[1] / 10
    assert not stage.calls  # the proxy itself counts


def test_stream(client: Anthropic) -> None:
    with client.messages.stream(model="auto", max_tokens=LIMIT, messages=user(EASY)) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 10


def test_stream_closed_early_stops_the_upstream(client: Anthropic, stage: Stage) -> None:
    stream = client.messages.create(
        model="local", max_tokens=LIMIT, messages=user(f"HANG {EASY}"), stream=True
    )
    next(iter(stream))
    stream.close()
    stage.wait_until_released()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(client: Anthropic, stage: Stage, is_streamed: bool) -> None:
    request: Any = {"model": "auto", "max_tokens": LIMIT, "tools": [WEATHER]}
    if is_streamed:
        with client.messages.stream(**request, messages=user(EASY)) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**request, messages=user(EASY))
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"city": city} for city in CITIES]
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": weather(city)}
        for call, city in zip(calls, CITIES, strict=True)
    ]
    asked: Any = {"role": "assistant", "content": message.content}
    second = client.messages.create(**request, messages=[*user(EASY), asked, *user(results)])
    assert [block.text for block in second.content if block.type == "text"] == [TEXT]
    assert stage.calls[-1].body["messages"][-1]["content"] == results


@pytest.mark.parametrize("model", ["cloud", "claude-sonnet-4-5", "gpt-4o-mini"])
def test_errors_of_other_models(client: Anthropic, stage: Stage, model: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="local"):
        client.messages.create(model=model, max_tokens=LIMIT, messages=user(EASY))
    assert not stage.calls


def test_errors_of_a_prompt_that_is_too_long(client: Anthropic, stage: Stage) -> None:
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        client.messages.create(model="auto", max_tokens=LIMIT, messages=user("word " * 20_000))
    assert not stage.calls


@pytest.mark.parametrize("fault", ["BREAK", "VANISH"])
def test_errors_within_a_stream(client: Anthropic, fault: str) -> None:
    stream = client.messages.create(
        model="local", max_tokens=LIMIT, messages=user(f"{fault} {EASY}"), stream=True
    )
    with pytest.raises(anthropic.APIStatusError):
        list(stream)


def test_errors_of_a_full_model(client: Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="local", max_tokens=LIMIT, messages=user(f"FULL {EASY}"))
    assert caught.value.status_code == 503


def test_saved(measure: Any) -> None:
    def ask(task: str) -> None:
        with Anthropic() as client:
            client.messages.create(model="auto", max_tokens=LIMIT, messages=user(task))

    measure(ask)
