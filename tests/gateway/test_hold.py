"""A stream whose model thinks: its client gets signs of life, and the other tier can take over."""

from collections.abc import Iterator
from typing import Any

import pytest

from fakes import (
    DONE,
    HARD,
    Answer,
    End,
    FakeUpstream,
    Gate,
    Pause,
    Step,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    response_events,
    typed,
    whole,
)
from live import RawClient, StartProxy, merge

HOLD: dict[str, Any] = {"server": {"hold_seconds": 0.1}}
FORCED = merge(HOLD, {"routing": {"fallback": False}})
PING = b": PROCESSING\n\n"
ROLE = event(chunk({"role": "assistant", "content": ""}))
EVENTS = openai_events()
HARD_MESSAGES = [{"role": "user", "content": HARD}]
WANTED = {"stream_options": {"include_usage": True}}


def pings(number: int, seconds: float = 0.05) -> Iterator[Step]:
    for _ in range(number):
        yield PING
        yield Pause(seconds)


def events_of(body: bytes) -> bytes:
    """A chunked body without its comments."""
    data = body.partition(b"\r\n\r\n")[2]
    content = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        content += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]
    return b"".join(
        item + b"\n\n" for item in content.split(b"\n\n") if item and not item.startswith(b":")
    )


async def ask(start: StartProxy, changes: dict[str, Any], **fields: Any) -> RawClient:
    proxy = await start(changes)
    return await proxy.connect(stream=True, **(WANTED | fields))


async def test_a_held_stream_sends_headers_and_comments(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = chunked(PING, ROLE, gate, PING, *EVENTS[1:])
    client = await ask(start, HOLD, model="local")
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"x-router-target: local" in head
    assert b"content-type: text/event-stream" in head
    begun = await client.read_until(PING)
    assert ROLE not in begun  # another tier would send its own
    gate.open()
    rest = await client.read_until(DONE)
    assert PING in rest
    assert ROLE in rest
    await client.leave()


async def test_a_silent_upstream_is_covered_by_comments_of_our_own(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = chunked(ROLE, gate, *EVENTS[1:])
    client = await ask(start, HOLD, model="local")
    for _ in range(3):
        await client.read_until(b": keep-alive\n\n")
    gate.open()
    await client.read_until(DONE)
    await client.leave()


async def test_a_stream_in_time_has_no_comments(start: StartProxy, local: FakeUpstream) -> None:
    local.answer = chunked(*EVENTS)
    proxy = await start()
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert response.content == b"".join(EVENTS)


def timeouts(**seconds: float) -> dict[str, Any]:
    return {"upstreams": {"local": {"timeouts": seconds}}}


# A model that thinks for 0.5 s, and what it sends meanwhile. No silence lasts 0.25 s.
SIGNS_OF_LIFE: dict[str, Answer] = {
    "comments": chunked(*pings(10), *EVENTS),
    "empty-events": chunked(*[ROLE, Pause(0.05)] * 10, *EVENTS),
    "comments-after-the-role": chunked(ROLE, *pings(10), *EVENTS[1:]),
}


@pytest.mark.parametrize("name", SIGNS_OF_LIFE)
async def test_signs_of_life_extend_the_wait_for_output(
    start: StartProxy, local: FakeUpstream, name: str
) -> None:
    local.answer = SIGNS_OF_LIFE[name]
    proxy = await start(timeouts(first_token=0.25))
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert response.status_code == 200
    assert response.content.endswith(b"".join(EVENTS[1:]))


async def test_the_role_does_not_end_the_wait_for_output(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(EVENTS[0], Pause(0.5), *EVENTS[1:])
    proxy = await start(timeouts(idle=0.2))
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert response.content == b"".join(EVENTS)


async def test_the_first_event_of_a_response_does_not_end_the_wait_for_output(
    start: StartProxy, local: FakeUpstream
) -> None:
    first, *others = response_events()
    local.answer = chunked(first, Pause(0.5), *others)
    proxy = await start(timeouts(idle=0.2))
    fields = {"model": "local", "input": "Hi", "stream": True}
    response = await proxy.client.post("/v1/responses", json=fields)
    assert b"event: response.completed" in response.content


async def test_comments_after_the_first_output_are_signs_of_life(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*EVENTS[:3], *pings(10), *EVENTS[3:])
    proxy = await start(timeouts(idle=0.25))
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert response.content.endswith(b"".join(EVENTS[3:]))


async def test_a_silence_after_output_is_one_in_the_middle_of_the_answer(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*EVENTS[:3], Gate())
    proxy = await start(timeouts(idle=0.2))
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert b"stopped in the middle of its answer: it was silent for 0.2 seconds" in response.content
    assert b'"idle_timeout"' in response.content


async def test_endless_comments_end_with_the_time_of_the_request(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = chunked(*pings(400))
    limits = timeouts(first_token=0.25)
    proxy = await start(merge(limits, {"server": {"request_timeout_seconds": 0.6}}))
    response = await proxy.chat(stream=True)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "total_timeout")
    assert not cloud.calls


THINKER = {"names": ["o3*"], "reasoning": True, "first_token": 5}


@pytest.mark.parametrize("fields", [{"model": "o3-mini"}, {"messages": HARD_MESSAGES}])
async def test_a_reasoning_model_may_think_longer(
    start: StartProxy, cloud: FakeUpstream, fields: dict[str, Any]
) -> None:
    cloud.answer = chunked(Pause(0.5), *EVENTS)
    tier = {"model": "o3", "timeouts": {"first_token": 0.2}, "models": [THINKER]}
    proxy = await start({"upstreams": {"cloud": tier}})
    response = await proxy.chat(stream=True, **(WANTED | fields))
    assert response.content == b"".join(EVENTS)
    refused = await proxy.chat(stream=True, model="gpt-4o")
    assert refused.json()["error"]["code"] == "first_token_timeout"


@pytest.mark.parametrize(
    "begin",
    [b"data", b": ping", ROLE, PING],
    ids=["half-event", "half-comment", "role", "comment"],
)
async def test_comments_of_our_own_extend_no_timeout(
    start: StartProxy, local: FakeUpstream, begin: bytes
) -> None:
    local.answer = chunked(begin, Gate())
    client = await ask(start, merge(FORCED, timeouts(first_token=0.35)), model="local")
    body = await client.read_until(b"}}\n\n")
    assert b"did not start its answer: it was silent for 0.35 seconds" in body
    assert b'"first_token_timeout"' in body
    assert 2 <= body.count(b": keep-alive") <= 4
    await local.call.closed()
    await client.leave()


FAILURES: dict[str, Answer] = {
    "closed": chunked(ROLE, Pause(0.3), End.FIN),
    "error-event": chunked(ROLE, Pause(0.3), b'data: {"error": {"message": "overloaded"}}\n\n'),
    "comments-only": chunked(*pings(6)),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_the_other_tier_takes_over_a_held_stream(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    local.answer, cloud.answer = FAILURES[name], chunked(*EVENTS)
    proxy = await start(HOLD)
    client = await proxy.connect(stream=True, **WANTED)
    body = await client.read_until(b"0\r\n\r\n")
    assert events_of(body) == b"".join(EVENTS)
    assert b"x-router-target: local" in body  # sent before the cloud was asked
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["target"], row["fallback_from"], row["ending"]) == ("cloud", "local", "ok")
    assert (row["status"], row["streamed"], row["output_tokens"]) == (200, 1, 10)


async def test_a_response_stream_is_taken_over_without_its_first_events(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    keepalive = typed("keepalive", 2)
    local.answer = chunked(*response_events()[:2], keepalive, Pause(0.3), keepalive, End.FIN)
    cloud.answer = chunked(*response_events(response_id="resp_2"))
    proxy = await start(HOLD)
    body = b'{"model":"auto","input":"Hi","stream":true}'
    head = b"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    client = await proxy.connect_raw(head + body)
    answer = await client.read_until(b"0\r\n\r\n")
    assert answer.count(b"event: response.created") == 1
    assert b"resp_2" in answer
    await client.leave()


LAST: dict[str, Answer] = {
    "error": whole(error_json("No such model."), status=404),
    "not-a-stream": whole(answer_json()),
    "closed": [End.FIN],
    "error-event": chunked(event({"error": {"message": "No."}})),
}


@pytest.mark.parametrize("name", LAST)
async def test_a_held_stream_without_an_answer_ends_with_an_error(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    local.answer, cloud.answer = chunked(ROLE, Pause(0.3), End.FIN), LAST[name]
    proxy = await start(HOLD)
    client = await proxy.connect(stream=True)
    body = await client.read_until(b"0\r\n\r\n")
    assert body.count(b"HTTP/1.1") == 1
    last = events_of(body)
    assert last.startswith(b'data: {"error":')
    assert last.count(b"data:") == 1
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["ending"], row["status"]) == ("upstream_error", 200)


async def test_a_client_that_leaves_a_held_stream_ends_it(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(ROLE, Gate())
    client = await ask(start, HOLD, model="local")
    await client.read_until(b": keep-alive\n\n")
    await client.leave()
    await local.call.closed()
