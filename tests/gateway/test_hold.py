"""A stream whose model thinks: its client gets signs of life, and the other tier can take over."""

from collections.abc import Iterator
from typing import Any

import pytest

from fakes import (
    DONE,
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


async def test_comments_are_signs_of_life(start: StartProxy, local: FakeUpstream) -> None:
    local.answer = chunked(*pings(10), *EVENTS)
    limits = {"upstreams": {"local": {"timeouts": {"first_token": 0.25, "idle": 5}}}}
    proxy = await start(limits)
    response = await proxy.chat(model="local", stream=True, **WANTED)
    assert response.status_code == 200
    assert response.content.endswith(b"".join(EVENTS))


@pytest.mark.parametrize("phase", ["first_token", "idle"])
async def test_comments_of_our_own_extend_no_timeout(
    start: StartProxy, local: FakeUpstream, phase: str
) -> None:
    local.answer = chunked(b"data" if phase == "first_token" else ROLE, Gate())
    limits = {"upstreams": {"local": {"timeouts": {phase: 0.35}}}}
    client = await ask(start, merge(FORCED, limits), model="local")
    body = await client.read_until(b"}}\n\n")
    assert f'"{phase}_timeout"'.encode() in body
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
