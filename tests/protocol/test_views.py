"""Answers of servers that are not quite OpenAI's: each part is read on its own, in bounded work."""

import json
import time
from typing import Any

import pytest

from fakes import (
    DONE,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    response_events,
    response_fields,
    typed,
    whole,
)
from live import StartProxy
from proxy.protocol.chat import has_output, view_answer
from proxy.protocol.outline import MAX_SKIMMED_BYTES
from proxy.protocol.response_objects import view_response
from proxy.protocol.views import (
    LARGE_BYTES,
    MAX_CONTEXT_TOKENS,
    MAX_VIEWED_BYTES,
    HostedCalls,
    Usage,
)

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SAME: list[dict[str, Any]] = [
    {"prompt_tokens": 1000.0},
    {"prompt_tokens": "1000"},
    {"completion_tokens": 100.0},
    {"completion_tokens": "100.0"},
    {"prompt_tokens_details": []},
    {"prompt_tokens_details": {"cached_tokens": "no"}},
    {"completion_tokens_details": False},
    {"completion_tokens_details": {"reasoning_tokens": {}}},
]


@pytest.mark.parametrize("odd", SAME, ids=str)
def test_counts_of_another_form_are_counts(odd: dict[str, Any]) -> None:
    body = answer_json("Hi", usage=USAGE | odd)
    view = view_answer(body)
    assert view is not None
    assert view.usage is not None
    assert (view.usage.prompt_tokens, view.usage.completion_tokens) == (1000, 100)
    assert (view.text, view.finish_reason) == ("Hi", "stop")


@pytest.mark.parametrize("audio", ["600", 600.0, "6e2"])
def test_audio_counts_of_another_form_are_counts(audio: object) -> None:
    details = {"audio_tokens": audio}
    usage = USAGE | {"prompt_tokens_details": details, "completion_tokens_details": details}
    view = view_answer(answer_json(usage=usage))
    assert view is not None
    assert view.usage is not None
    assert (view.usage.audio_input_tokens, view.usage.audio_output_tokens) == (600, 600)
    possible = view.usage.bounded()
    assert (possible.audio_input_tokens, possible.audio_output_tokens) == (600, 100)


@pytest.mark.parametrize("size", [10, LARGE_BYTES, MAX_VIEWED_BYTES])
def test_calls_of_hosted_tools_are_counted_in_an_answer_of_any_size(size: int) -> None:
    call = {"type": "web_search_call", "id": "ws_1"}
    text = '"type": "web_search_call"' + " " * size
    message = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    view = view_response(json.dumps(response_fields(output=[call, call, message])).encode())
    assert view is not None
    assert view.hosted_calls == HostedCalls(web_search=2)
    view = view_response(json.dumps(response_fields(output=[message])).encode())
    assert view is not None
    assert view.hosted_calls is None


@pytest.mark.parametrize("cached", ["600", 600.0, "6e2"])
def test_cached_counts_of_another_form_are_counts(cached: object) -> None:
    details = {"cached_tokens": cached, "cache_write_tokens": 300}
    view = view_answer(answer_json(usage=USAGE | {"prompt_tokens_details": details}))
    assert view is not None
    assert view.usage is not None
    assert (view.usage.cached_tokens, view.usage.cache_write_tokens) == (600, 300)


@pytest.mark.parametrize("count", [10.5, "many", True, None, [], {}, "1" * 99, 1e999, "nan"])
def test_what_is_no_count_is_none(count: object) -> None:
    view = view_answer(answer_json(usage=USAGE | {"prompt_tokens": count, "x": 1, "y": 2}))
    if view is None:  # not JSON
        assert count == 1e999
        return
    assert view.usage is not None
    assert view.usage.prompt_tokens is None
    assert view.usage.completion_tokens == 100


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning": {"a": 1}},
        {"refusal": False},
        {"reasoning_content": 7},
        {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "Hi"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("fields", [{}, {"finish_reason": 0}], ids=str)
def test_a_message_of_another_form_hides_nothing(
    message: dict[str, Any], fields: dict[str, Any]
) -> None:
    choice = {"message": {"content": "Hi"} | message, "finish_reason": "stop"} | fields
    view = view_answer(json.dumps({"choices": [choice], "usage": USAGE}).encode())
    assert view is not None
    assert view.text == "Hi"
    assert view.usage is not None
    assert view.usage.prompt_tokens == 1000


def test_usage_of_another_form_leaves_the_text() -> None:
    for usage in ([USAGE], "lots", 7, True):
        view = view_answer(answer_json("Hi", usage=usage))  # type: ignore[arg-type]
        assert view is not None
        assert (view.usage, view.text) == (None, "Hi")


@pytest.mark.parametrize(
    ("usage", "bounded"),
    [
        (Usage(10, 5), Usage(10, 5)),
        (Usage(-1, -1), Usage(None, None)),
        (Usage(10**12, 10**12), Usage(MAX_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS)),
    ],
)
def test_impossible_counts_are_capped(usage: Usage, bounded: Usage) -> None:
    assert usage.bounded() == bounded
    assert usage.is_credible == (usage == bounded)


def test_parts_of_a_count_are_no_more_than_it() -> None:
    details = {"cached_tokens": 5000, "cache_write_tokens": 5000}
    answer = {"reasoning_tokens": 900}
    counts = {
        "prompt_tokens_details": details,
        "completion_tokens_details": answer,
        "prompt_tokens": 100,
    }
    view = view_answer(answer_json(usage=USAGE | counts))
    assert view is not None
    assert view.usage is not None
    assert not view.usage.is_credible
    possible = view.usage.bounded()
    assert possible.cached_tokens == 100
    assert possible.cache_write_tokens == 0
    assert possible.reasoning_tokens == 100


# ── Output in any field ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"content": [{"type": "text", "text": "a"}]},
        {"function_call": {"name": "f", "arguments": ""}},
        {"audio": {"data": "AAAA"}},
        {"images": [{"image_url": {"url": "data:,"}}]},
        {"reasoning_details": [{"text": "Hm"}]},
        {"field_of_the_year_2030": 1},
    ],
    ids=str,
)
def test_any_field_but_the_role_is_output(delta: dict[str, Any]) -> None:
    empty = {"role": "assistant", "refusal": None}
    assert has_output(json.dumps(chunk(empty | delta)).encode())
    assert not has_output(json.dumps(chunk(empty)).encode())
    for nothing in ("", [], {}, None, False):
        assert not has_output(json.dumps(chunk(empty | dict.fromkeys(delta, nothing))).encode())


@pytest.mark.parametrize("field", ["function_call", "audio", "images", "reasoning_details"])
async def test_a_stream_begins_with_its_first_output(
    start: StartProxy, local: FakeUpstream, field: str
) -> None:
    first = event(chunk({field: {"x": "y"}}))
    gate = Gate()
    local.answer = chunked(event(chunk({"role": "assistant"})), first, gate, DONE)
    proxy = await start()
    client = await proxy.connect(model="local", stream=True)
    assert (await client.read_until(first)).startswith(b"HTTP/1.1 200")
    gate.open()
    await client.read_until(DONE)
    await client.leave()


# ── Through the proxy ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "usage",
    [USAGE | odd for odd in SAME] + [[USAGE], "lots"],
    ids=str,
)
async def test_the_usage_chunk_that_nobody_asked_for_is_taken_out(
    start: StartProxy, local: FakeUpstream, usage: Any
) -> None:
    said = [event(chunk({"content": "Hi"})), event(chunk({}, "stop"))]
    local.answer = chunked(*said, event(chunk(usage=usage)), DONE)
    proxy = await start()
    response = await proxy.chat(model="local", stream=True)
    assert response.content == b"".join([*said, DONE])
    row = await proxy.row_of(response)
    if isinstance(usage, dict):
        assert (row["input_tokens"], row["output_tokens"]) == (1000, 100)
        assert row["usage_source"] == "upstream"
    else:
        assert row["usage_source"] == "estimated"


@pytest.mark.parametrize("count", [1000.0, "1000"])
async def test_a_response_with_odd_counts_is_a_good_answer(
    start: StartProxy, cloud: FakeUpstream, count: object
) -> None:
    usage = {
        "input_tokens": count,
        "output_tokens": 100.0,
        "input_tokens_details": {"cached_tokens": "8", "cache_write_tokens": 2},
    }
    events = response_events(usage=usage)
    cloud.answer = chunked(*events)
    proxy = await start()
    body = {"model": "cloud", "input": "Hi", "stream": True}
    response = await proxy.client.post("/v1/responses", json=body)
    assert response.content == b"".join(events)
    row = await proxy.row_of(response)
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (1000, 8, 100)
    assert (row["ending"], row["usage_source"]) == ("ok", "upstream")
    view = view_response(events[-1].partition(b"data: ")[2])
    assert view is not None
    assert view.usage is not None
    assert view.usage.cache_write_tokens == 2


def test_a_response_of_odd_fields_is_read() -> None:
    body = response_fields(status=7, service_tier=1, usage="lots") | {"id": 7}
    view = view_response(json.dumps(body).encode())
    assert view is not None
    assert (view.id, view.usage, view.text) == (None, None, "Hello!")
    delta = view_response(typed("response.output_text.delta", 1).partition(b"data: ")[2])
    assert delta is not None
    assert delta.text == ""


async def test_impossible_parts_of_a_count_are_marked(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start()
    usage = USAGE | {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 5000}}
    cloud.answer = whole(answer_json(usage=usage))
    row = await proxy.row_of(await proxy.chat(model="cloud"))
    assert (row["input_tokens"], row["output_tokens"]) == (100, 100)
    assert row["cached_input_tokens"] <= 100
    assert row["usage_source"] == "estimated"


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize("count", [MAX_CONTEXT_TOKENS + 1, 10**12, 1e300])
async def test_a_broken_counter_is_not_believed(
    start: StartProxy, cloud: FakeUpstream, field: str, count: float
) -> None:
    proxy = await start()
    cloud.answer = whole(answer_json("Hello!", usage=USAGE | {field: count}))
    row = await proxy.row_of(await proxy.chat(model="cloud"))
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] < 100
    assert row["output_tokens"] < 10


async def test_an_answer_is_no_longer_than_the_largest_models_for_each_choice(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start()
    cloud.answer = whole(answer_json(usage=USAGE | {"completion_tokens": 2_000_000}))
    for choices in (1, 3):
        row = await proxy.row_of(await proxy.chat(model="cloud", n=choices))
        assert row["usage_source"] == "estimated"
        assert row["output_tokens"] == choices * 272_000


async def test_a_negative_count_of_an_answer_is_estimated(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start()
    cloud.answer = whole(answer_json("Hello!", usage=USAGE | {"completion_tokens": -1}))
    row = await proxy.row_of(await proxy.chat(model="cloud"))
    assert (row["input_tokens"], row["usage_source"]) == (1000, "estimated")
    assert 0 < row["output_tokens"] < 10


# ── Work ──────────────────────────────────────────────────────────────────────────────────────

SIZE = MAX_VIEWED_BYTES - 1000
COSTLY = {
    "choices": b'{"choices":[' + b"{}," * (SIZE // 3) + b"{}]}",
    "parts": b'{"choices":[{"message":{"content":[' + b"{}," * (SIZE // 3) + b"{}]}}]}",
    "output": b'{"output":[' + b"{}," * (SIZE // 3) + b"{}]}",
    "escapes": b'{"choices":[{"message":{"content":"' + rb"\n" * (SIZE // 2) + b'"}}]}',
    "large": b'{"choices":[' + b"{}," * 20_000_000 + b'{}],"usage":{"prompt_tokens":1}}',
}


@pytest.mark.parametrize("data", COSTLY.values(), ids=COSTLY.keys())
@pytest.mark.parametrize("view", [view_answer, view_response])
def test_no_answer_takes_long_to_view(data: bytes, view: Any) -> None:
    since = time.process_time()
    seen = view(data)
    assert len(seen.text) <= SIZE
    assert time.process_time() - since < 0.1


@pytest.mark.parametrize("size", [MAX_VIEWED_BYTES, MAX_SKIMMED_BYTES])
@pytest.mark.parametrize(
    "usage", [USAGE, {"prompt_tokens": 1000, "details": {"a": 1}, "completion_tokens": 100}]
)
def test_what_a_large_answer_costs_is_found(size: int, usage: dict[str, Any]) -> None:
    filler = '"usage": {"prompt_tokens": 1} ' * (size // 30)
    answer = json.loads(answer_json(filler, usage=usage))
    answer |= {"service_tier": "priority", "model": "gpt-5", "metadata": {"usage": "x"}}
    view = view_answer(json.dumps(answer).encode())
    assert view is not None
    assert view.usage is not None
    assert (view.usage.prompt_tokens, view.usage.completion_tokens) == (1000, 100)
    assert (view.service_tier, view.model) == ("priority", "gpt-5")
    view = view_answer(answer_json(filler, usage=None))
    assert view is not None
    assert view.usage is None


@pytest.mark.parametrize("size", [10, MAX_VIEWED_BYTES, MAX_SKIMMED_BYTES])
def test_what_a_large_response_costs_is_found(size: int) -> None:
    call = {"type": "web_search_call", "id": "ws_1"}
    metadata = {"usage": "x", "service_tier": "flex", "model": "gpt-5-nano"}
    fields = response_fields(
        id="resp_1",
        model="gpt-5",
        service_tier="priority",
        output=[call, call],
        usage={"input_tokens": 9000, "output_tokens": 40_000},
        metadata=metadata,
    )
    view = view_response(json.dumps(fields | {"instructions": " " * size}).encode())
    assert view is not None
    assert view.usage is not None
    assert (view.usage.prompt_tokens, view.usage.completion_tokens) == (9000, 40_000)
    assert (view.id, view.model, view.service_tier) == ("resp_1", "gpt-5", "priority")
    assert view.hosted_calls == HostedCalls(web_search=2)
    assert view.is_complete == (size == 10)
