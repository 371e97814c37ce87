"""Faults of networks and servers, over real sockets.

The client gets the response or one error in time, the upstream is released, one row and the metrics
agree, and the next request succeeds. The local tier serves one request at a time here: an upstream
that is not released blocks the next one.
"""

import asyncio
import contextlib
import gc
import gzip
import itertools
import json
import logging
import re
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx2
import pytest

from fakes import (
    DONE,
    PATIENCE_SECONDS,
    Answer,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    head,
    openai_events,
    whole,
)
from live import CLOUD_KEY, LOCAL_KEY, LiveProxy, Row, StartProxy, chat_body, envelope_of, merge
from proxy import logs
from proxy.upstream.http1 import STALE_AFTER_SEND_SECONDS
from toxics import Cut, Deaf, Freeze, Slices, Toxic, ToxicRelay, bandwidth

SHORT_SECONDS = 0.25  # the timeout under test; all others are much longer
LATE_SECONDS = 5.0  # the allowed delay of a timeout on a busy machine

ONE_AT_A_TIME = {"upstreams": {"local": {"max_concurrency": 1}}}
TOTAL = {"server": {"request_timeout_seconds": SHORT_SECONDS}}
FIRST_TOKEN = {"upstreams": {"local": {"timeouts": {"first_token": SHORT_SECONDS}}}}
IDLE = {"upstreams": {"local": {"timeouts": {"idle": SHORT_SECONDS}}}}

UNREACHABLE, BROKEN = "upstream_unreachable", "upstream_broken"
FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT, TOTAL_TIMEOUT = (
    "first_token_timeout",
    "idle_timeout",
    "total_timeout",
)

BODY = answer_json()
EVENTS = openai_events()
STREAM = b"".join(EVENTS)
VALID: dict[bool, Answer] = {False: whole(BODY), True: chunked(*EVENTS)}
EXPECTED = {False: BODY, True: STREAM}
FIRST_EVENTS = EVENTS[:3]  # the role and two words

FILES = Path("/proc/self/fd")

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
both_ends = pytest.mark.parametrize("end", list(End), ids=lambda end: end.value)


@pytest.fixture
async def relay(local: FakeUpstream) -> AsyncIterator[ToxicRelay]:
    async with ToxicRelay(local) as relay:
        yield relay


async def ask(proxy: LiveProxy, *, stream: bool, model: str = "local") -> httpx2.Response:
    return await proxy.post(request_body(stream=stream, model=model))


def request_body(*, stream: bool, model: str = "local") -> bytes:
    fields = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return chat_body(model=model, **fields)


def one_error(response: httpx2.Response) -> dict[str, Any]:
    """The only error of a response or at the end of a stream."""
    if response.status_code == 200:
        assert response.content.endswith(b"}\n\n")
        last = response.content.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
        assert last.startswith(b"data: ")
        assert response.content.count(b'"error"') == 1
        error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
        assert error.keys() == {"message", "type", "param", "code"}
    else:
        error = envelope_of(response)
        assert response.status_code == (504 if is_timeout(error) else 502)
    for secret in ("127.0.0.1", "Traceback", "aiohttp", "httpx", CLOUD_KEY, LOCAL_KEY, "Errno"):
        assert secret not in error["message"]
    return error


def is_timeout(error: dict[str, Any]) -> bool:
    code: str = error["code"]
    return code.endswith("_timeout")


def content_before(response: httpx2.Response) -> bytes:
    """The complete events of a stream before its error."""
    before, blank, _ = response.content.removesuffix(b"\n\n").rpartition(b"\n\n")
    return before + blank


def check_failure(row: Row, error: dict[str, Any], status: int) -> None:
    timed_out = is_timeout(error)
    assert (row["ending"], row["status"]) == (
        "timeout" if timed_out else "upstream_error",
        status,
    )
    assert (row["target"], row["reason"], row["error"]) == ("local", "forced", error["message"])
    if timed_out:
        delay = row["duration_ms"] / 1e3 - SHORT_SECONDS
        assert -0.01 < delay < LATE_SECONDS  # uvloop counts in milliseconds


async def check_recovered(proxy: LiveProxy, local: FakeUpstream, *, stream: bool = False) -> None:
    """Check that the next request gets its own response without data of the last one."""
    local.answer = VALID[stream]
    response = await ask(proxy, stream=stream)
    assert (response.status_code, response.content) == (200, EXPECTED[stream])


# ── Connections ───────────────────────────────────────────────────────────────────────────────


POSITIONS: dict[str, Callable[[int], int]] = {  # by the size of the head
    "before-the-head": lambda _: 0,
    "in-the-head": lambda size: size // 2,
    "after-the-head": lambda size: size,
    "in-the-body": lambda size: size + 30,
}


def position_in(answer: Answer, where: str) -> int:
    """The number of bytes before this position."""
    data = b"".join(step for step in answer if isinstance(step, bytes))
    return POSITIONS[where](data.index(b"\r\n\r\n") + 4)


@pytest.mark.parametrize("where", POSITIONS)
@both_ends
@both_forms
async def test_truncated_response_is_one_error(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, end: End, stream: bool
) -> None:
    local.answer = VALID[stream]
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Cut(position_in(local.answer, where), end)
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    if where in ("before-the-head", "in-the-head"):
        assert error["code"] == UNREACHABLE
    else:  # a reset may overtake the head
        assert error["code"] == BROKEN or (end is End.RESET and error["code"] == UNREACHABLE)
    await relay.released()
    relay.toxic = None
    await check_recovered(proxy, local, stream=stream)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 502)


@pytest.mark.parametrize("where", [*POSITIONS, "half-open"])
@both_forms
async def test_stalled_response_times_out(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, stream: bool
) -> None:
    local.answer = VALID[stream]
    limit = FIRST_TOKEN if stream else TOTAL
    proxy = await start(
        merge(ONE_AT_A_TIME, limit), local=relay.base_url, load_seconds=SHORT_SECONDS
    )
    relay.toxic = Deaf() if where == "half-open" else Freeze(position_in(local.answer, where))
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    assert error["code"] == (FIRST_TOKEN_TIMEOUT if stream else TOTAL_TIMEOUT)
    await relay.released()
    outcome = await proxy.finish()
    check_failure(outcome.row, error, 504)


POSITIONS_AFTER_CONTENT = {"between-events": 0, "in-a-chunk-size": 1, "in-an-event": 30}


@pytest.mark.parametrize("where", POSITIONS_AFTER_CONTENT)
@pytest.mark.parametrize("how", [*End, None], ids=["fin", "reset", "freeze"])
async def test_stream_interrupted_after_content_ends_with_one_error(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, how: End | None
) -> None:
    answer, gate = VALID[True], Gate()
    local.answer = answer
    before = [step for step in answer if isinstance(step, bytes)][: 1 + len(FIRST_EVENTS)]
    size = len(b"".join(before)) + POSITIONS_AFTER_CONTENT[where]
    limits = IDLE if how is None else {}
    proxy = await start(
        merge(ONE_AT_A_TIME, limits), local=relay.base_url, load_seconds=SHORT_SECONDS
    )
    relay.toxic = Freeze(size) if how is None else Cut(size, how, gate)
    response = await read_opening(proxy, gate, behind=FIRST_EVENTS[-1])
    error = one_error(response)
    assert error["code"] == (IDLE_TIMEOUT if how is None else BROKEN)
    assert content_before(response) == b"".join(FIRST_EVENTS)
    await relay.released()
    relay.toxic = None
    await check_recovered(proxy, local)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 200)
    assert outcome.rows[0]["response"] == "Hello "


async def read_opening(proxy: LiveProxy, gate: Gate, *, behind: bytes) -> httpx2.Response:
    """Read a stream and open the gate once `behind` has arrived."""
    received = b""
    url = "/v1/chat/completions"
    async with proxy.client.stream("POST", url, content=request_body(stream=True)) as response:
        async for piece in response.aiter_raw():
            received += piece
            if behind in received:
                gate.open()
    return httpx2.Response(response.status_code, headers=response.headers, content=received)


# UTF-8 sequences of every length, in a short event.
UNICODE_TEXT = "aé漢🙂"
UNICODE_STREAM = (
    'data: {"choices":[{"delta":{"content":"aé漢🙂"}}]}\n\n'
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
).encode()
UNICODE_BODY = '{"choices":[{"message":{"content":"aé漢🙂"}}]}'.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@both_forms
async def test_response_split_at_every_byte_passes(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, size: int, stream: bool
) -> None:
    """Slices end at every byte, also within lines, events and characters."""
    body = UNICODE_STREAM if stream else UNICODE_BODY
    local.answer = chunked(body) if stream else whole(body)
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Slices(size, 0.0002)
    response = await ask(proxy, stream=stream)
    assert (response.status_code, response.content) == (200, body)
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["response"]) == ("ok", UNICODE_TEXT)


async def test_slow_stream_within_the_idle_timeout_passes(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay
) -> None:
    seconds = 1.0
    local.answer = chunked(UNICODE_STREAM)
    limits = {"upstreams": {"local": {"timeouts": {"idle": seconds}}}}
    proxy = await start(limits, local=relay.base_url)
    relay.toxic = Slices(2, 0.012)
    response = await ask(proxy, stream=True)
    assert (response.status_code, response.content) == (200, UNICODE_STREAM)
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "ok"
    assert outcome.row["duration_ms"] > seconds * 1e3


@pytest.mark.parametrize(
    ("stream", "limit", "toxic"),
    [
        pytest.param(False, TOTAL, Slices(1, 0.02), id="whole"),
        pytest.param(True, FIRST_TOKEN, Slices(1, 0.02), id="before-the-first-token"),
        pytest.param(True, TOTAL, Slices(400, 0.05), id="after-the-first-token"),
    ],
)
async def test_too_slow_response_times_out(
    start: StartProxy,
    local: FakeUpstream,
    relay: ToxicRelay,
    stream: bool,
    limit: dict[str, Any],
    toxic: Toxic,
) -> None:
    many = openai_events(["word "] * 100)
    local.answer = chunked(*many) if stream else whole(BODY)
    proxy = await start(
        merge(ONE_AT_A_TIME, limit), local=relay.base_url, load_seconds=SHORT_SECONDS
    )
    relay.toxic = toxic
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    assert error["code"] == (FIRST_TOKEN_TIMEOUT if limit is FIRST_TOKEN else TOTAL_TIMEOUT)
    if response.status_code == 200:
        assert b"".join(many).startswith(content_before(response))
    await relay.released()
    outcome = await proxy.finish()
    check_failure(outcome.row, error, response.status_code)


@both_forms
async def test_response_over_a_slow_connection_passes(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, stream: bool
) -> None:
    words = ["x" * 10_000] * 100
    body = b"".join(openai_events(words)) if stream else answer_json("".join(words))
    local.answer = chunked(*openai_events(words)) if stream else whole(body)
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = bandwidth(5_000_000)
    response = await ask(proxy, stream=stream)
    assert (response.status_code, response.content) == (200, body)
    assert (await proxy.finish()).row["ending"] == "ok"


@both_ends
@both_forms
async def test_request_is_repeated_if_a_reused_connection_closes(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, end: End, stream: bool
) -> None:
    """The server closes a kept-alive connection at the moment of its reuse."""
    local.answer = VALID[stream]
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    first = await ask(proxy, stream=stream)
    turns: Iterator[Toxic] = itertools.chain([Cut(0, end)], itertools.repeat(None))
    relay.toxic = lambda _: next(turns)
    second = await ask(proxy, stream=stream)
    assert first.content == second.content == EXPECTED[stream]
    outcome = await proxy.finish(2)
    assert [row["ending"] for row in outcome.rows] == ["ok", "ok"]
    assert len(local.calls) == 3


@both_forms
async def test_a_connection_that_dies_late_counts_against_the_retries(
    start: StartProxy, cloud: FakeUpstream, stream: bool
) -> None:
    """The server may have worked on the request, which is billed each time."""
    gate = Gate()
    cloud.answer = [gate, *VALID[stream]]
    proxy = await start()
    asked = [asyncio.create_task(ask(proxy, stream=stream, model="cloud")) for _ in range(8)]
    await cloud.called(8)
    gate.open()
    await asyncio.gather(*asked)  # now eight connections are kept
    cloud.calls.clear()
    cloud.answer = lambda call: [late_gate(), End.FIN]
    error = one_error(await ask(proxy, stream=stream, model="cloud"))
    assert error["code"] == UNREACHABLE
    assert len(cloud.calls) == 3  # the first, and two retries
    await proxy.finish(9)


def late_gate() -> Gate:
    """A gate that opens after the time in which a connection passes for stale."""
    gate = Gate()
    asyncio.get_running_loop().call_later(2 * STALE_AFTER_SEND_SECONDS, gate.open)
    return gate


@both_ends
@both_forms
async def test_connections_closed_after_each_response_are_replaced(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, end: End, stream: bool
) -> None:
    local.answer = VALID[stream]
    size = len(b"".join(step for step in local.answer if isinstance(step, bytes)))
    gate = Gate()
    gate.open()
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Cut(size, end, gate)
    for _ in range(3):
        response = await ask(proxy, stream=stream)
        assert (response.status_code, response.content) == (200, EXPECTED[stream])
    await relay.released()
    outcome = await proxy.finish(3)
    assert {row["ending"] for row in outcome.rows} == {"ok"}


UNSOLICITED = {
    "garbage": b"\r\ngarbage\r\n\r\n",
    "response": head(headers=[("content-length", "3")]) + b"BAD",
    "haproxy-timeout": b"HTTP/1.0 408 Request Time-out\r\ncache-control: no-cache\r\n"
    b"connection: close\r\ncontent-type: text/html\r\n\r\nBAD",
}


@pytest.mark.parametrize("unsolicited", UNSOLICITED.values(), ids=UNSOLICITED.keys())
@both_forms
async def test_unsolicited_bytes_are_no_response(
    start: StartProxy, local: FakeUpstream, unsolicited: bytes, stream: bool
) -> None:
    """They must not become the response of the next request on the connection."""
    gate = Gate()
    local.answer = [*VALID[stream], gate, unsolicited]
    proxy = await start(ONE_AT_A_TIME)
    assert (await ask(proxy, stream=stream)).content == EXPECTED[stream]
    gate.open()
    await local.call.answered.wait()
    for _ in range(2):
        await proxy.client.get("/health")  # lets the proxy read these bytes
    await check_recovered(proxy, local, stream=stream)
    await proxy.finish(2)


FALLBACK_FAULTS: dict[str, tuple[Callable[[Answer], Toxic], str, bool]] = {
    "reset-at-once": (lambda _: Cut(), UNREACHABLE, False),
    "reset-at-once-stream": (lambda _: Cut(), UNREACHABLE, True),
    "closed-in-the-head": (
        lambda answer: Cut(position_in(answer, "in-the-head"), End.FIN),
        UNREACHABLE,
        True,
    ),
    "closed-in-the-body": (
        lambda answer: Cut(position_in(answer, "in-the-body"), End.FIN),
        BROKEN,
        False,
    ),
    "closed-before-content": (
        lambda answer: Cut(position_in(answer, "in-the-body"), End.FIN),
        BROKEN,
        True,
    ),
    "half-open": (lambda _: Deaf(), FIRST_TOKEN_TIMEOUT, True),
    "frozen-before-content": (
        lambda answer: Freeze(position_in(answer, "in-the-body")),
        FIRST_TOKEN_TIMEOUT,
        True,
    ),
    "dripping": (lambda _: Slices(1, 0.02), FIRST_TOKEN_TIMEOUT, True),
}


@pytest.mark.parametrize(
    ("toxic", "reason", "stream"), FALLBACK_FAULTS.values(), ids=FALLBACK_FAULTS.keys()
)
async def test_local_network_fault_falls_back_to_the_cloud(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    relay: ToxicRelay,
    toxic: Callable[[Answer], Toxic],
    reason: str,
    stream: bool,
) -> None:
    local.answer = cloud.answer = VALID[stream]
    limits = FIRST_TOKEN if reason == FIRST_TOKEN_TIMEOUT else {}
    proxy = await start(
        merge(ONE_AT_A_TIME, limits), local=relay.base_url, load_seconds=SHORT_SECONDS
    )
    relay.toxic = toxic(local.answer)
    response = await ask(proxy, stream=stream, model="auto")
    assert (response.status_code, response.content) == (200, EXPECTED[stream])
    assert response.headers["x-router-fallback"] == f"local->cloud:{reason}"
    await relay.released()
    outcome = await proxy.finish()
    row = outcome.row
    assert (row["ending"], row["target"], row["fallback_from"]) == ("ok", "cloud", "local")


# ── Unusual but valid responses ───────────────────────────────────────────────────────────────


def raw_head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A response head of exactly these lines."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def packed(data: bytes, *, encoding: str = "gzip", stream: bool = False) -> Answer:
    headers = [("content-encoding", encoding)]
    return chunked(data, headers=headers) if stream else whole(data, headers=headers)


JSON_HEAD = b"content-type: application/json"
EVENTS_HEAD = b"content-type: text/event-stream"
CHUNKED = b"transfer-encoding: chunked"
LENGTH = b"content-length: %d" % len(BODY)
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
ONE_EVENT = event(chunk({"content": "a"}))
END = event(chunk({}, "stop")) + DONE

RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
RAW_DEFLATED = RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()


class Unusual(NamedTuple):
    """An unusual response that must pass, and the expected body."""

    answer: Answer
    expected: bytes
    stream: bool = False


SPACES = b" " * 2**20
UNUSUAL = {
    "gzip": Unusual(packed(gzip.compress(BODY)), BODY),
    "gzip-of-two-members": Unusual(packed(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])), BODY),
    "x-gzip": Unusual(packed(gzip.compress(BODY), encoding="x-gzip"), BODY),
    "gzip-of-a-megabyte": Unusual(packed(gzip.compress(BODY + SPACES)), BODY + SPACES),
    "raw-deflate": Unusual(packed(RAW_DEFLATED, encoding="deflate"), BODY),
    "encoded-as-itself": Unusual(packed(BODY, encoding="Identity"), BODY),
    "without-length": Unusual([raw_head(JSON_HEAD) + BODY, End.FIN], BODY),
    "http-1.0": Unusual([b"HTTP/1.0 200 OK\r\n\r\n" + BODY, End.FIN], BODY),
    "bare-line-feeds": Unusual([b"HTTP/1.1 200 OK\n%b\n\n%b" % (LENGTH, BODY)], BODY),
    "continue": Unusual([raw_head(status=b"100 Continue"), *whole(BODY)], BODY),
    "continue-many-times": Unusual([raw_head(status=b"100 Continue") * 50, *whole(BODY)], BODY),
    "early-hints": Unusual(
        [raw_head(b"link: </x>", status=b"103 Early Hints"), *VALID[True]], STREAM, stream=True
    ),
    "chunk-extension": Unusual(
        [raw_head(JSON_HEAD, CHUNKED) + b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY)], BODY
    ),
    "trailers": Unusual([raw_head(JSON_HEAD, CHUNKED) + ONE_CHUNK + b"0\r\nx: 1\r\n\r\n"], BODY),
    "folded-header": Unusual([raw_head(JSON_HEAD, b"x: a", b"  b", LENGTH) + BODY], BODY),
    "content-type-of-garbage": Unusual(
        [raw_head(b"content-type: \xff\xfe;;charset=\xff", LENGTH) + BODY], BODY
    ),
    "no-content-type": Unusual([raw_head(LENGTH) + BODY], BODY),
    "events-of-invalid-json": Unusual(
        chunked(ONE_EVENT, b"data: {nothing\n\n", END),
        ONE_EVENT + b"data: {nothing\n\n" + END,
        stream=True,
    ),
    "events-of-invalid-utf8": Unusual(
        chunked(ONE_EVENT, b'data: {"\xff\xfe": "\xc3"}\n\n', END),
        ONE_EVENT + b'data: {"\xff\xfe": "\xc3"}\n\n' + END,
        stream=True,
    ),
    "gzip-stream-by-bytes": Unusual(
        chunked(
            *(b"%c" % byte for byte in gzip.compress(STREAM)),
            headers=[("content-encoding", "gzip")],
        ),
        STREAM,
        stream=True,
    ),
    "stream-without-length": Unusual(
        [raw_head(EVENTS_HEAD) + STREAM, End.FIN], STREAM, stream=True
    ),
    "done-twice": Unusual(chunked(*EVENTS, DONE), STREAM + DONE, stream=True),
    "bytes-after-done": Unusual(chunked(*EVENTS, b"more"), STREAM + b"more", stream=True),
    "event-after-done": Unusual(chunked(*EVENTS, ONE_EVENT), STREAM + ONE_EVENT, stream=True),
    # The official clients have stopped reading. Others must get no error after the response.
    "reset-after-done": Unusual(chunked(*EVENTS, End.RESET), STREAM, stream=True),
    "closed-after-done": Unusual(chunked(*EVENTS, End.FIN), STREAM, stream=True),
    "gzip-cut-off-after-done": Unusual(
        packed(gzip.compress(STREAM)[:-8], stream=True), STREAM, stream=True
    ),
}


# Of servers in between, and of model servers in their own forms.
NO_ANSWERS: dict[str, Answer] = {
    "invalid-json": whole(b'{"choices": [nothing'),
    "invalid-utf8": whole(b'{"choices": "\xff\xfe"}'),
    "empty": whole(b""),
    "no-content": [raw_head(status=b"204 No Content")],
    "gzip-of-nothing": packed(b""),
    "text": whole(b"Ollama is running", content_type="text/plain"),
    "list": whole(b"[1, 2]"),
    "no-choices": whole(b'{"choices": []}'),
    "choices-are-null": whole(b'{"choices": null, "usage": {"prompt_tokens": 1}}'),
    "another-object": whole(b'{"object": "list", "data": [{"id": "phi3"}]}'),
    "bare-error": whole(b'{"object": "error", "message": "No model.", "code": 40301}'),
    "error-code": whole(b'{"text": "Out of memory.", "error_code": 50002}'),
    "stream-of-done": chunked(DONE),
    "stream-of-comments": chunked(b": ping\n\n", DONE),
    "stream-without-choices": chunked(event({"choices": []}), DONE),
    "stream-of-a-role": chunked(event(chunk({"role": "assistant"})), DONE),
    "stream-of-a-bare-error": chunked(event({"object": "error", "message": "No."}), DONE),
    "stream-of-an-error-code": chunked(event({"text": "No.", "error_code": 50002}), DONE),
}


@contextlib.contextmanager
def case(name: str) -> Iterator[None]:
    """Name the failing case. Cases share a proxy, which takes longer to start than a case runs."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in case {name!r}")
        raise


async def test_unusual_responses_pass(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start(ONE_AT_A_TIME)
    for name, unusual in UNUSUAL.items():
        with case(name):
            local.answer = unusual.answer
            response = await ask(proxy, stream=unusual.stream)
            assert response.status_code in (200, 204)
            assert response.content == unusual.expected
            await check_recovered(proxy, local)
    outcome = await proxy.finish(2 * len(UNUSUAL))
    for name, row in zip(UNUSUAL, outcome.rows[::2], strict=True):
        with case(name):
            assert (row["ending"], row["error"], row["fallback_from"]) == ("ok", None, None)


@both_forms
@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_a_success_without_an_answer_is_a_failure_of_the_tier(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, answer: Answer, stream: bool
) -> None:
    proxy = await start(ONE_AT_A_TIME)
    local.answer = answer
    forced = await proxy.chat(model="local", stream=stream)
    assert (forced.status_code, envelope_of(forced)["code"]) == (502, "bad_answer")
    routed = await proxy.chat(stream=stream)
    assert routed.status_code == 200
    assert routed.headers["x-router-fallback"] == "local->cloud:bad_answer"
    rows = (await proxy.finish(2)).rows
    assert [row["ending"] for row in rows] == ["upstream_error", "ok"]


async def test_open_connection_after_done_is_no_error(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*EVENTS, Gate())
    proxy = await start(merge(ONE_AT_A_TIME, IDLE))
    response = await ask(proxy, stream=True)
    assert (response.status_code, response.content) == (200, STREAM)
    await local.call.closed()
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["error"]) == ("ok", None)


async def test_response_of_32_megabytes_passes(start: StartProxy, local: FakeUpstream) -> None:
    body = b'{"x":"%b"}' % (b"x" * 2**25)
    local.answer = whole(body)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=False)
    assert response.content == body
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_event_of_8_megabytes_passes(start: StartProxy, local: FakeUpstream) -> None:
    huge = event(chunk({"content": "x" * 2**23}))
    local.answer = chunked(ONE_EVENT, huge, END)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    assert response.content == ONE_EVENT + huge + END
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_100_000_chunks_arrive_in_order(start: StartProxy, local: FakeUpstream) -> None:
    words = [f"{number} " for number in range(100_000)]
    events = [b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % w.encode() for w in words]
    first, *chunks, last = chunked(*events, END)
    steps = [
        b"".join(batch)
        for batch in batches([step for step in chunks if isinstance(step, bytes)], 500)
    ]
    local.answer = [first, *steps, last]
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    assert response.content == b"".join([*events, END])
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["response"]) == ("ok", "".join(words))


def batches(steps: list[bytes], size: int) -> Iterator[list[bytes]]:
    return (steps[start : start + size] for start in range(0, len(steps), size))


# ── Invalid responses ─────────────────────────────────────────────────────────────────────────


class Invalid(NamedTuple):
    """An invalid response and the allowed error codes."""

    answer: Answer
    codes: tuple[str, ...]
    stream: bool = False
    limits: Mapping[str, Any] = MappingProxyType({})


NOT_HTTP = (UNREACHABLE,)
# A parser may stop at malformed chunks without an error. Then a timeout ends the request.
CHUNK_ERRORS = (UNREACHABLE, BROKEN, IDLE_TIMEOUT, TOTAL_TIMEOUT)
ZIPPED, ZIPPED_STREAM = gzip.compress(BODY), gzip.compress(STREAM)


def invalid_chunks(data: bytes, *, stream: bool = False) -> Invalid:
    """A valid chunk followed by `data`."""
    kind = EVENTS_HEAD if stream else JSON_HEAD
    valid = b"".join(
        step
        for step in chunked(event(chunk({"role": "assistant"})))[1:-1]
        if isinstance(step, bytes)
    )
    return Invalid(
        [raw_head(kind, CHUNKED), valid, data],
        CHUNK_ERRORS,
        stream,
        IDLE if stream else TOTAL,
    )


INVALID_CONTENT = {
    "page-instead-of-events": Invalid(chunked(b"<html>Bad gateway</html>"), (BROKEN,), stream=True),
    "bytes-instead-of-events": Invalid(chunked(bytes(range(256)) * 100), (BROKEN,), stream=True),
    "answer-instead-of-events": Invalid(chunked(BODY), (BROKEN,), stream=True),
    "no-events": Invalid([raw_head(EVENTS_HEAD, b"content-length: 0")], (BROKEN,), stream=True),
    "only-comments": Invalid(chunked(b": ping\n\n" * 10), (BROKEN,), stream=True),
    "gzip-cut-off": Invalid(packed(ZIPPED[:-30]), (BROKEN,)),
    "gzip-without-checksum": Invalid(packed(ZIPPED[:-8]), (BROKEN,)),
    "gzip-of-a-wrong-checksum": Invalid(packed(ZIPPED[:-8] + bytes(8)), (BROKEN,)),
    "gzip-that-is-none": Invalid(packed(BODY), (BROKEN,)),
    "gzip-and-more": Invalid(packed(ZIPPED + b"more"), (BROKEN,)),
    "deflate-cut-off": Invalid(packed(zlib.compress(BODY)[:-5], encoding="deflate"), (BROKEN,)),
    "brotli": Invalid(packed(BODY, encoding="br"), (BROKEN,)),
    "gzip-twice": Invalid(packed(gzip.compress(ZIPPED), encoding="gzip, gzip"), (BROKEN,)),
    "gzip-stream-cut-off": Invalid(
        packed(ZIPPED_STREAM[:100], stream=True), (BROKEN,), stream=True
    ),
    "gzip-stream-that-is-none": Invalid(packed(STREAM, stream=True), (BROKEN,), stream=True),
}

INVALID_HTTP = {
    "chunk-size-of-words": invalid_chunks(b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-of-words-stream": invalid_chunks(b"zz\r\nhello\r\n0\r\n\r\n", stream=True),
    "chunk-size-below-zero": invalid_chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-beyond-numbers": invalid_chunks(b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-longer-than-it-says": invalid_chunks(b"5\r\nhello, hello\r\n0\r\n\r\n"),
    "chunk-longer-than-it-says-stream": invalid_chunks(
        b"5\r\nhello, hello\r\n0\r\n\r\n", stream=True
    ),
    "no-final-chunk": Invalid(
        [raw_head(JSON_HEAD, CHUNKED) + ONE_CHUNK], (TOTAL_TIMEOUT,), False, TOTAL
    ),
    "no-final-chunk-closed": Invalid(
        [raw_head(JSON_HEAD, CHUNKED) + ONE_CHUNK, End.FIN], (BROKEN,)
    ),
    "length-too-long": Invalid(
        [raw_head(JSON_HEAD, b"content-length: 10000") + BODY], (TOTAL_TIMEOUT,), False, TOTAL
    ),
    "length-too-long-closed": Invalid(
        [raw_head(JSON_HEAD, b"content-length: 10000") + BODY, End.FIN], (BROKEN,)
    ),
    "length-too-long-stream-closed": Invalid(
        [raw_head(EVENTS_HEAD, b"content-length: 10000") + EVENTS[0], End.FIN],
        (BROKEN,),
        stream=True,
    ),
    # The declared length has arrived by then.
    "length-too-short": Invalid([raw_head(JSON_HEAD, b"content-length: 100") + BODY], (BROKEN,)),
    "length-too-short-stream": Invalid(
        [raw_head(EVENTS_HEAD, b"content-length: 100") + STREAM], (BROKEN,), stream=True
    ),
    "length-below-zero": Invalid([raw_head(JSON_HEAD, b"content-length: -5") + BODY], NOT_HTTP),
    "length-of-words": Invalid([raw_head(JSON_HEAD, b"content-length: some") + BODY], NOT_HTTP),
    "two-lengths": Invalid([raw_head(JSON_HEAD, LENGTH, b"content-length: 5") + BODY], NOT_HTTP),
    "length-and-chunks": Invalid(
        [raw_head(JSON_HEAD, LENGTH, CHUNKED) + ONE_CHUNK + b"0\r\n\r\n"], NOT_HTTP
    ),
    "switching-protocols": Invalid(
        [raw_head(b"connection: upgrade", b"upgrade: x", status=b"101 Switching") + BODY], NOT_HTTP
    ),
    "only-continue": Invalid([raw_head(status=b"100 Continue")], (TOTAL_TIMEOUT,), False, TOTAL),
    "only-continue-closed": Invalid([raw_head(status=b"100 Continue"), End.FIN], NOT_HTTP),
    "header-without-colon": Invalid([raw_head(JSON_HEAD, b"no colon", LENGTH) + BODY], NOT_HTTP),
    "header-without-name": Invalid([raw_head(JSON_HEAD, b": x", LENGTH) + BODY], NOT_HTTP),
    "header-with-nul": Invalid([raw_head(JSON_HEAD, b"x: a\0b", LENGTH) + BODY], NOT_HTTP),
    "long-header": Invalid([raw_head(JSON_HEAD, b"x: " + b"y" * 100_000, LENGTH) + BODY], NOT_HTTP),
    "thousands-of-headers": Invalid(
        [raw_head(*(b"x%d: y" % number for number in range(5000)), LENGTH) + BODY], NOT_HTTP
    ),
    "endless-headers": Invalid([raw_head(*[b"x: " + b"y" * 1000] * 500)[:-2]], NOT_HTTP),
    "long-status-line": Invalid(
        [raw_head(LENGTH, status=b"200 " + b"x" * 100_000) + BODY], NOT_HTTP
    ),
    "status-of-words": Invalid([raw_head(status=b"two hundred")], NOT_HTTP),
    "http-2": Invalid([b"HTTP/2 200\r\n%b\r\n\r\n%b" % (LENGTH, BODY)], NOT_HTTP),
    "http-0.9": Invalid([BODY, End.FIN], NOT_HTTP),
    "tls": Invalid([b"\x15\x03\x01\x00\x02\x02\x46", End.FIN], NOT_HTTP),
}


async def test_invalid_responses_are_one_error(start: StartProxy, local: FakeUpstream) -> None:
    responses = {
        name: invalid
        for name, invalid in (INVALID_CONTENT | INVALID_HTTP).items()
        if not invalid.limits
    }
    proxy = await start(ONE_AT_A_TIME)
    failures = []
    for name, invalid in responses.items():
        with case(name):
            local.calls.clear()
            failures.append(await ask_invalid(proxy, local, invalid))
            for call in local.calls if name in INVALID_HTTP else ():
                await call.closed()  # the connection must not be reused
            await check_recovered(proxy, local)
    outcome = await proxy.finish(2 * len(responses))
    for name, row, (error, status) in zip(responses, outcome.rows[::2], failures, strict=True):
        with case(name):
            check_failure(row, error, status)


@pytest.mark.parametrize("name", [name for name, invalid in INVALID_HTTP.items() if invalid.limits])
async def test_incomplete_response_times_out_with_one_error(
    start: StartProxy, local: FakeUpstream, name: str
) -> None:
    invalid = INVALID_HTTP[name]
    proxy = await start(merge(ONE_AT_A_TIME, invalid.limits))
    error, status = await ask_invalid(proxy, local, invalid)
    for call in local.calls:
        await call.closed()
    check_failure((await proxy.finish()).row, error, status)


async def ask_invalid(
    proxy: LiveProxy, local: FakeUpstream, invalid: Invalid
) -> tuple[dict[str, Any], int]:
    """Check the error of an invalid response. Return it with the status."""
    local.answer = invalid.answer
    response = await ask(proxy, stream=invalid.stream)
    error = one_error(response)
    assert response.status_code != 200
    assert error["code"] in invalid.codes
    return error, response.status_code


ONE_CHUNKED_EVENT = [
    raw_head(EVENTS_HEAD, CHUNKED),
    b"%x\r\n%b\r\n" % (len(ONE_EVENT), ONE_EVENT),
]
INVALID_AFTER_CONTENT: dict[str, tuple[Answer, Answer, Mapping[str, Any]]] = {
    "malformed-chunk": (ONE_CHUNKED_EVENT, [b"zz\r\n"], IDLE),
    "no-final-chunk": (ONE_CHUNKED_EVENT, [End.FIN], {}),
    "no-final-chunk-and-no-end": (ONE_CHUNKED_EVENT, [], IDLE),
    "length-too-long": (
        [raw_head(EVENTS_HEAD, b"content-length: 10000") + ONE_EVENT],
        [End.FIN],
        {},
    ),
    "garbage": (chunked(ONE_EVENT)[:-1], chunked(bytes(range(256)) * 100)[1:], {}),
    "page": (chunked(ONE_EVENT)[:-1], chunked(b"<html>Bad gateway</html>")[1:], {}),
}


@pytest.mark.parametrize(
    ("content", "then", "limits"), INVALID_AFTER_CONTENT.values(), ids=INVALID_AFTER_CONTENT.keys()
)
async def test_stream_with_invalid_continuation_ends_with_one_error(
    start: StartProxy,
    local: FakeUpstream,
    content: Answer,
    then: Answer,
    limits: Mapping[str, Any],
) -> None:
    gate = Gate()
    local.answer = [*content, gate, *then]
    proxy = await start(merge(ONE_AT_A_TIME, limits))
    response = await read_opening(proxy, gate, behind=ONE_EVENT)
    error = one_error(response)
    assert error["code"] in (BROKEN, IDLE_TIMEOUT)
    assert (response.status_code, content_before(response)) == (200, ONE_EVENT)
    if limits:
        await local.call.closed()
    await check_recovered(proxy, local)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 200)
    assert outcome.rows[0]["response"] == "a"


async def test_truncated_gzip_stream_ends_with_one_error(
    start: StartProxy, local: FakeUpstream
) -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    first = packer.compress(b"".join(FIRST_EVENTS)) + packer.flush(zlib.Z_SYNC_FLUSH)
    local.answer = packed(first, stream=True)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    error = one_error(response)
    assert (error["code"], content_before(response)) == (BROKEN, b"".join(FIRST_EVENTS))
    check_failure((await proxy.finish()).row, error, 200)


async def test_endless_invalid_events_are_not_held_back(
    start: StartProxy, local: FakeUpstream
) -> None:
    """Bytes over the limit are passed on; the end of the stream is then an error."""
    garbage = b"data: hello\n\n" * 10_000
    local.answer = chunked(garbage)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    error = one_error(response)
    assert (error["code"], content_before(response)) == (BROKEN, garbage)
    check_failure((await proxy.finish()).row, error, 200)


# ── Mixed load ────────────────────────────────────────────────────────────────────────────────


MAX_CONCURRENT = 16


class Case(NamedTuple):
    """A request of the mixed load."""

    answer: Answer
    stream: bool = False
    toxic: Toxic = None
    disconnects: bool = False  # the client disconnects during the response


def mixed_cases() -> list[Case]:
    """One case of each kind, without the slow ones."""
    cases = [Case(unusual.answer, unusual.stream) for unusual in UNUSUAL.values()]
    cases += [
        Case(invalid.answer, invalid.stream)
        for invalid in (INVALID_CONTENT | INVALID_HTTP).values()
    ]
    for stream in (False, True):
        valid = VALID[stream]
        for where in POSITIONS:
            position = position_in(valid, where)
            toxics = (Cut(position), Cut(position, End.FIN), Freeze(position))
            cases += [Case(valid, stream, toxic) for toxic in toxics]
        cases += [Case(valid, stream, toxic) for toxic in (Deaf(), Slices(1, 0.02), None)]
    return [*cases, Case([*chunked(ONE_EVENT)[:-1], Gate()], stream=True, disconnects=True)]


class MixedLoad:
    """All cases concurrently, through one proxy."""

    def __init__(self, proxy: LiveProxy, local: FakeUpstream, relay: ToxicRelay) -> None:
        self._proxy = proxy
        self._local = local
        self._relay = relay
        self._cases = mixed_cases()
        self.requests = 0
        local.answer = lambda call: self._cases[int(call.header("x-case") or 0)].answer
        relay.toxic = self._toxic

    def _toxic(self, request: bytes) -> Toxic:
        match = re.search(rb"x-case: (\d+)", request, re.IGNORECASE)
        return self._cases[int(match[1])].toxic if match else None

    async def run(self, rounds: int) -> None:
        """Check that each client gets a response or one error."""
        slots = asyncio.Semaphore(MAX_CONCURRENT)
        for _ in range(rounds):
            async with httpx2.AsyncClient(
                base_url=self._proxy.client.base_url,
                timeout=PATIENCE_SECONDS,
                trust_env=False,
                verify=False,
            ) as client:
                await asyncio.gather(
                    *(self._ask(client, slots, number) for number in range(len(self._cases)))
                )
            self.requests += len(self._cases)

    async def _ask(self, client: httpx2.AsyncClient, slots: asyncio.Semaphore, number: int) -> None:
        case = self._cases[number]
        request = client.build_request(
            "POST",
            "/v1/chat/completions",
            content=request_body(stream=case.stream),
            headers={"x-case": str(number)},
        )
        async with slots:
            response = await client.send(request, stream=True)
            try:
                if not case.disconnects:
                    content = await response.aread()
                    assert content.count(b'data: {"error"') <= 1
                    if response.status_code >= 300:
                        envelope_of(response)
            finally:
                await response.aclose()

    async def drained(self) -> None:
        """Wait until the proxy has closed its connections and written all rows."""
        await self._proxy.settled(self.requests)
        # Open connections are kept alive, at most as many as were ever in use.
        await until(lambda: self._relay.open_connections <= MAX_CONCURRENT)
        self._relay.hang_up()
        await self._relay.released()
        self._local.calls.clear()
        await until(lambda: len(self._proxy.rows()) >= self.requests)

    async def memory_at_rest(self, *, sockets: int, tasks: int) -> tuple[int, int]:
        """Count objects and memory blocks once at most these sockets and tasks are left."""

        def is_at_rest() -> bool:
            self._relay.hang_up()  # also closes connections of the proxy's own probes
            return count_sockets() <= sockets and self.count_tasks() <= tasks

        await self.drained()
        await until(is_at_rest)
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    def count_tasks(self) -> int:
        loop = self._proxy._server._loop
        assert loop is not None
        return len(asyncio.all_tasks(loop))


async def until(met: Callable[[], bool]) -> None:
    """Poll a condition for which there is no event."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def count_sockets() -> int:
    count = 0
    for file in FILES.iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
            count += str(file.readlink()).startswith("socket:")
    return count


@pytest.mark.skipif(not FILES.exists(), reason="this system does not list a process's files")
async def test_faults_leak_no_sockets_tasks_or_memory(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """A leak grows with each round."""
    for name in ("", *logs.PACKAGES):  # earlier tests may have set a level
        caplog.set_level(logging.CRITICAL, logger=name)  # pytest stores log records
    limits = {
        "upstreams": {
            "local": {
                "timeouts": {"first_token": 0.1, "idle": 0.1},
                "forward_headers": ["x-case"],
            }
        },
        "server": {"request_timeout_seconds": 0.3},
    }
    proxy = await start(limits, local=relay.base_url)
    load = MixedLoad(proxy, local, relay)
    await load.drained()
    sockets, tasks = count_sockets(), load.count_tasks()
    await load.run(1)  # fills the caches
    before = await load.memory_at_rest(sockets=sockets, tasks=tasks)
    growth = []  # objects and memory blocks per request
    for _ in range(3):  # other proxies of this process may fill their caches once
        requests = -load.requests
        await load.run(2)
        after = await load.memory_at_rest(sockets=sockets, tasks=tasks)
        requests += load.requests
        growth.append([(new - old) / requests for new, old in zip(after, before, strict=True)])
        before = after
    objects, blocks = map(min, zip(*growth, strict=True))
    assert objects < 1, growth
    assert blocks < 5, growth
    await proxy.finish(load.requests)
