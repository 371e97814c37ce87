"""Hidden reasoning that a cloud model bills is booked."""

import asyncio
from typing import Any

import pytest

from fakes import (
    HARD,
    Answer,
    FakeUpstream,
    Gate,
    Pause,
    answer_json,
    chunk,
    chunked,
    event,
    openai_events,
    response_events,
    whole,
)
from live import Row, StartProxy, merge
from proxy.budget.hidden_reasoning import TOKENS_PER_SECOND, estimate_output

ROLE = event(chunk({"role": "assistant", "content": ""}))
SECONDS = 0.3
THOUGHT = round(SECONDS * TOKENS_PER_SECOND)
MOST = 10 * THOUGHT  # a busy machine is late, but not by that much
O3_USD = (2e-6, 8e-6)  # USD per token of input and output, by OpenAI's list
THINKER = {"names": ["o3"], "reasoning": True, "first_token": SECONDS, "idle": SECONDS}
FAST: dict[str, Any] = {
    "upstreams": {"cloud": {"models": [THINKER], "timeouts": {"first_token": SECONDS}}},
    "server": {"request_timeout_seconds": 20},
}
STREAM = {"stream": True}
SILENT = chunked(ROLE, Gate())


@pytest.mark.parametrize(
    ("seconds", "during", "after", "most", "tokens"),
    [
        (0, 0, 0, 1_000, 0),
        (2, 0, 0, 1_000, 2 * TOKENS_PER_SECOND),
        (2, 0, 7, 1_000, 2 * TOKENS_PER_SECOND + 7),
        (2, 50, 7, 1_000, 2 * TOKENS_PER_SECOND + 7),  # a part of the thinking was seen
        (0.1, 50, 7, 1_000, 57),
        (600, 0, 7, 1_000, 1_000),
        (0, 2_000, 0, 1_000, 2_000),  # what was seen is never less
    ],
)
def test_thinking_is_estimated_from_the_silence(
    seconds: float, during: int, after: int, most: int, tokens: int
) -> None:
    assert estimate_output(seconds, during=during, after=after, most=most) == tokens


def check_booked(row: Row, *, least: int = THOUGHT, most: int = MOST) -> None:
    tokens = row["output_tokens"]
    assert least <= tokens <= most
    assert row["usage_source"] == "estimated"
    assert row["cost_usd"] == pytest.approx(
        row["input_tokens"] * O3_USD[0] + tokens * O3_USD[1], rel=1e-6
    )


UNANSWERED: dict[str, tuple[Answer, dict[str, Any], dict[str, Any]]] = {
    "before-the-head": ([Gate()], STREAM, {}),
    "after-the-role": (SILENT, STREAM, {}),
    "not-streamed": ([Gate()], {}, {"server": {"request_timeout_seconds": SECONDS}}),
    "in-all": (SILENT, STREAM, {"server": {"request_timeout_seconds": SECONDS}}),
}


@pytest.mark.parametrize("name", UNANSWERED)
async def test_thinking_until_a_timeout_is_booked(
    start: StartProxy, cloud: FakeUpstream, name: str
) -> None:
    cloud.answer, fields, changes = UNANSWERED[name]
    proxy = await start(merge(FAST, changes))
    response = await proxy.chat(model="o3", **fields)
    assert response.status_code == 504
    row = (await proxy.finish()).row
    assert row["ending"] == "timeout"
    check_booked(row, least=THOUGHT - 3)  # the time of a request begins before it is sent


@pytest.mark.parametrize("fields", [STREAM, {}], ids=["stream", "whole"])
async def test_thinking_until_the_client_leaves_is_booked(
    start: StartProxy, cloud: FakeUpstream, fields: dict[str, Any]
) -> None:
    cloud.answer = SILENT if fields else [Gate()]
    proxy = await start()  # with the default timeouts of reasoning models
    client = await proxy.connect(model="o3", **fields)
    await cloud.called()
    await asyncio.sleep(SECONDS)  # it thinks
    await client.leave()
    await cloud.call.closed()
    row = (await proxy.finish()).row
    assert row["ending"] == "client_gone"
    check_booked(row, least=THOUGHT - 3)


async def test_thinking_before_an_answer_that_breaks_off_is_booked(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    word = event(chunk({"content": "Hello"}))
    cloud.answer = chunked(ROLE, Pause(SECONDS - 0.1), word, Gate())
    proxy = await start(FAST)
    response = await proxy.chat(model="o3", **STREAM)
    assert b"idle_timeout" in response.content
    thought = round((SECONDS - 0.1) * TOKENS_PER_SECOND)
    row = (await proxy.finish()).row
    # The silence after the text is none of a thinking model.
    check_booked(row, least=thought + 1, most=thought + THOUGHT)


async def test_thinking_of_a_replaced_answer_is_booked(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = chunked(*openai_events()), SILENT
    proxy = await start(merge(FAST, {"upstreams": {"cloud": {"model": "o3", "price": "auto"}}}))
    messages = [{"role": "user", "content": HARD}]
    response = await proxy.chat(messages=messages, **STREAM)
    assert response.status_code == 200
    row = (await proxy.finish()).row
    assert (row["target"], row["fallback_from"]) == ("local", "cloud")
    assert row["cost_usd"] >= THOUGHT * O3_USD[1]


async def test_no_more_is_booked_than_the_answer_may_have(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = SILENT
    proxy = await start(FAST)
    await proxy.chat(model="o3", max_completion_tokens=5, **STREAM)
    check_booked((await proxy.finish()).row, least=5, most=5)


async def test_silence_of_another_model_is_not_thinking(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = SILENT
    proxy = await start(FAST)
    await proxy.chat(model="gpt-4o", **STREAM)
    assert (await proxy.finish()).row["output_tokens"] == 0


@pytest.mark.parametrize("fields", [STREAM, {}], ids=["stream", "whole"])
async def test_reported_thinking_is_part_of_the_output(
    start: StartProxy, cloud: FakeUpstream, fields: dict[str, Any]
) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 700,
        "completion_tokens_details": {"reasoning_tokens": 690},
    }
    events = openai_events(usage=usage)
    answer = [Pause(0.1), *whole(answer_json(usage=usage))]
    cloud.answer = chunked(Pause(0.1), *events) if fields else answer
    proxy = await start(FAST)
    await proxy.chat(model="o3", **fields)
    row = (await proxy.finish()).row
    assert (row["output_tokens"], row["reasoning_tokens"]) == (700, 690)
    assert row["usage_source"] == "upstream"
    assert row["cost_usd"] == pytest.approx(9 * O3_USD[0] + 700 * O3_USD[1])


async def test_thinking_of_a_response_is_booked(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = chunked(response_events()[0], Gate())
    proxy = await start(FAST)
    fields = {"model": "o3", "input": "Hi", "stream": True}
    response = await proxy.client.post("/v1/responses", json=fields)
    assert response.json()["error"]["code"] == "first_token_timeout"
    check_booked((await proxy.finish()).row)
