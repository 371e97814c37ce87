"""What networks and broken servers do to an answer, over real sockets.

Its client gets it as it was meant, or one clear error in time; the upstream is let go; one row and
the metrics say so; and the next request is answered well. The local tier takes one request at a
time here, so that one that is not let go would block the next.
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

SHORT_SECONDS = 0.25  # for the limit under test; all others are far away
LATE_SECONDS = 5.0  # how far behind its limit an answer may be on a busy machine

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
GOOD: dict[bool, Answer] = {False: whole(BODY), True: chunked(*EVENTS)}
WANTED = {False: BODY, True: STREAM}
BEGUN = EVENTS[:3]  # the role and two words

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
    """The error that an answer is, or that ends a stream."""
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


def said_before(response: httpx2.Response) -> bytes:
    """What a stream said before its error: whole events."""
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
        over = row["duration_ms"] / 1e3 - SHORT_SECONDS
        assert -0.01 < over < LATE_SECONDS  # uvloop counts in milliseconds


async def check_well_again(proxy: LiveProxy, local: FakeUpstream, *, stream: bool = False) -> None:
    """The next request gets its own answer, and nothing that was left of the one before."""
    local.answer = GOOD[stream]
    response = await ask(proxy, stream=stream)
    assert (response.status_code, response.content) == (200, WANTED[stream])


# ── Connections ───────────────────────────────────────────────────────────────────────────────


PLACES: dict[str, Callable[[int], int]] = {  # from the size of the head
    "before-the-head": lambda _: 0,
    "in-the-head": lambda size: size // 2,
    "behind-the-head": lambda size: size,
    "in-the-body": lambda size: size + 30,
}


def place_in(answer: Answer, where: str) -> int:
    """The number of bytes before a place."""
    data = b"".join(step for step in answer if isinstance(step, bytes))
    return PLACES[where](data.index(b"\r\n\r\n") + 4)


@pytest.mark.parametrize("where", PLACES)
@both_ends
@both_forms
async def test_an_answer_that_is_cut_off(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, end: End, stream: bool
) -> None:
    local.answer = GOOD[stream]
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Cut(place_in(local.answer, where), end)
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    if where in ("before-the-head", "in-the-head"):
        assert error["code"] == UNREACHABLE
    else:  # a reset may overtake the head
        assert error["code"] == BROKEN or (end is End.RESET and error["code"] == UNREACHABLE)
    await relay.released()
    relay.toxic = None
    await check_well_again(proxy, local, stream=stream)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 502)


@pytest.mark.parametrize("where", [*PLACES, "half-open"])
@both_forms
async def test_an_answer_that_stands_still(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, stream: bool
) -> None:
    local.answer = GOOD[stream]
    limit = FIRST_TOKEN if stream else TOTAL
    proxy = await start(merge(ONE_AT_A_TIME, limit), local=relay.base_url)
    relay.toxic = Deaf() if where == "half-open" else Freeze(place_in(local.answer, where))
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    assert error["code"] == (FIRST_TOKEN_TIMEOUT if stream else TOTAL_TIMEOUT)
    await relay.released()
    outcome = await proxy.finish()
    check_failure(outcome.row, error, 504)


PLACES_BEHIND_CONTENT = {"between-events": 0, "in-a-chunk-size": 1, "in-an-event": 30}


@pytest.mark.parametrize("where", PLACES_BEHIND_CONTENT)
@pytest.mark.parametrize("how", [*End, None], ids=["fin", "reset", "freeze"])
async def test_a_stream_that_breaks_off_in_the_middle(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, where: str, how: End | None
) -> None:
    answer, gate = GOOD[True], Gate()
    local.answer = answer
    before = [step for step in answer if isinstance(step, bytes)][: 1 + len(BEGUN)]
    size = len(b"".join(before)) + PLACES_BEHIND_CONTENT[where]
    limits = IDLE if how is None else {}
    proxy = await start(merge(ONE_AT_A_TIME, limits), local=relay.base_url)
    relay.toxic = Freeze(size) if how is None else Cut(size, how, gate)
    response = await read_opening(proxy, gate, behind=BEGUN[-1])
    error = one_error(response)
    assert error["code"] == (IDLE_TIMEOUT if how is None else BROKEN)
    assert said_before(response) == b"".join(BEGUN)
    await relay.released()
    relay.toxic = None
    await check_well_again(proxy, local)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 200)
    assert outcome.rows[0]["response"] == "Hello "


async def read_opening(proxy: LiveProxy, gate: Gate, *, behind: bytes) -> httpx2.Response:
    """Read a stream, and open the gate once this much of it has arrived."""
    got = b""
    url = "/v1/chat/completions"
    async with proxy.client.stream("POST", url, content=request_body(stream=True)) as response:
        async for piece in response.aiter_raw():
            got += piece
            if behind in got:
                gate.open()
    return httpx2.Response(response.status_code, headers=response.headers, content=got)


# Every kind of UTF-8 sequence, in an event as short as can be.
UNICODE_TEXT = "aé漢🙂"
UNICODE_STREAM = (
    'data: {"choices":[{"delta":{"content":"aé漢🙂"}}]}\n\n'
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
).encode()
UNICODE_BODY = '{"choices":[{"message":{"content":"aé漢🙂"}}]}'.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@both_forms
async def test_an_answer_in_slices(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, size: int, stream: bool
) -> None:
    """At every byte there is a slice that ends with it, be it in a line, an event or a letter."""
    body = UNICODE_STREAM if stream else UNICODE_BODY
    local.answer = chunked(body) if stream else whole(body)
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Slices(size, 0.0002)
    response = await ask(proxy, stream=stream)
    assert (response.status_code, response.content) == (200, body)
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["response"]) == ("ok", UNICODE_TEXT)


async def test_a_stream_that_drips_in_time_is_not_idle(
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
        pytest.param(True, TOTAL, Slices(400, 0.05), id="behind-the-first-token"),
    ],
)
async def test_an_answer_that_drips_too_slowly(
    start: StartProxy,
    local: FakeUpstream,
    relay: ToxicRelay,
    stream: bool,
    limit: dict[str, Any],
    toxic: Toxic,
) -> None:
    many = openai_events(["word "] * 100)
    local.answer = chunked(*many) if stream else whole(BODY)
    proxy = await start(merge(ONE_AT_A_TIME, limit), local=relay.base_url)
    relay.toxic = toxic
    response = await ask(proxy, stream=stream)
    error = one_error(response)
    assert error["code"] == (FIRST_TOKEN_TIMEOUT if limit is FIRST_TOKEN else TOTAL_TIMEOUT)
    if response.status_code == 200:
        assert b"".join(many).startswith(said_before(response))
    await relay.released()
    outcome = await proxy.finish()
    check_failure(outcome.row, error, response.status_code)


@both_forms
async def test_a_narrow_line(
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
async def test_a_connection_that_dies_under_the_next_request(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, end: End, stream: bool
) -> None:
    """Kept alive, and closed at the moment when it is used again."""
    local.answer = GOOD[stream]
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    first = await ask(proxy, stream=stream)
    turns: Iterator[Toxic] = itertools.chain([Cut(0, end)], itertools.repeat(None))
    relay.toxic = lambda _: next(turns)
    second = await ask(proxy, stream=stream)
    assert first.content == second.content == WANTED[stream]
    outcome = await proxy.finish(2)
    assert [row["ending"] for row in outcome.rows] == ["ok", "ok"]
    assert len(local.calls) == 3


@both_forms
async def test_a_connection_that_dies_late_counts_against_the_retries(
    start: StartProxy, cloud: FakeUpstream, stream: bool
) -> None:
    """The server may have worked on the request, which is billed each time."""
    gate = Gate()
    cloud.answer = [gate, *GOOD[stream]]
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
async def test_connections_that_close_behind_each_answer(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, end: End, stream: bool
) -> None:
    local.answer = GOOD[stream]
    size = len(b"".join(step for step in local.answer if isinstance(step, bytes)))
    gate = Gate()
    gate.open()
    proxy = await start(ONE_AT_A_TIME, local=relay.base_url)
    relay.toxic = Cut(size, end, gate)
    for _ in range(3):
        response = await ask(proxy, stream=stream)
        assert (response.status_code, response.content) == (200, WANTED[stream])
    await relay.released()
    outcome = await proxy.finish(3)
    assert {row["ending"] for row in outcome.rows} == {"ok"}


UNASKED = {
    "garbage": b"\r\ngarbage\r\n\r\n",
    "an-answer": head(headers=[("content-length", "3")]) + b"BAD",
    "a-timeout-as-of-haproxy": b"HTTP/1.0 408 Request Time-out\r\ncache-control: no-cache\r\n"
    b"connection: close\r\ncontent-type: text/html\r\n\r\nBAD",
}


@pytest.mark.parametrize("unasked", UNASKED.values(), ids=UNASKED.keys())
@both_forms
async def test_what_comes_unasked_is_nobodys_answer(
    start: StartProxy, local: FakeUpstream, unasked: bytes, stream: bool
) -> None:
    """Not of the request that happens to be next on the connection."""
    gate = Gate()
    local.answer = [*GOOD[stream], gate, unasked]
    proxy = await start(ONE_AT_A_TIME)
    assert (await ask(proxy, stream=stream)).content == WANTED[stream]
    gate.open()
    await local.call.answered.wait()
    for _ in range(2):
        await proxy.client.get("/health")  # in which the proxy sees what came
    await check_well_again(proxy, local, stream=stream)
    await proxy.finish(2)


REPLACED: dict[str, tuple[Callable[[Answer], Toxic], str, bool]] = {
    "reset-at-once": (lambda _: Cut(), UNREACHABLE, False),
    "reset-at-once-stream": (lambda _: Cut(), UNREACHABLE, True),
    "closed-in-the-head": (
        lambda answer: Cut(place_in(answer, "in-the-head"), End.FIN),
        UNREACHABLE,
        True,
    ),
    "closed-in-the-body": (
        lambda answer: Cut(place_in(answer, "in-the-body"), End.FIN),
        BROKEN,
        False,
    ),
    "closed-before-content": (
        lambda answer: Cut(place_in(answer, "in-the-body"), End.FIN),
        BROKEN,
        True,
    ),
    "half-open": (lambda _: Deaf(), FIRST_TOKEN_TIMEOUT, True),
    "frozen-before-content": (
        lambda answer: Freeze(place_in(answer, "in-the-body")),
        FIRST_TOKEN_TIMEOUT,
        True,
    ),
    "dripping": (lambda _: Slices(1, 0.02), FIRST_TOKEN_TIMEOUT, True),
}


@pytest.mark.parametrize(("toxic", "why", "stream"), REPLACED.values(), ids=REPLACED.keys())
async def test_the_cloud_answers_for_a_local_tier_behind_a_bad_line(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    relay: ToxicRelay,
    toxic: Callable[[Answer], Toxic],
    why: str,
    stream: bool,
) -> None:
    local.answer = cloud.answer = GOOD[stream]
    limits = FIRST_TOKEN if why == FIRST_TOKEN_TIMEOUT else {}
    proxy = await start(merge(ONE_AT_A_TIME, limits), local=relay.base_url)
    relay.toxic = toxic(local.answer)
    response = await ask(proxy, stream=stream, model="auto")
    assert (response.status_code, response.content) == (200, WANTED[stream])
    assert response.headers["x-router-fallback"] == f"local→cloud:{why}"
    await relay.released()
    outcome = await proxy.finish()
    row = outcome.row
    assert (row["ending"], row["target"], row["fallback_from"]) == ("ok", "cloud", "local")


# ── Answers that are odd, and yet answers ─────────────────────────────────────────────────────


def raw_head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A head of which every byte counts."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def packed(data: bytes, *, encoding: str = "gzip", stream: bool = False) -> Answer:
    headers = [("content-encoding", encoding)]
    return chunked(data, headers=headers) if stream else whole(data, headers=headers)


JSON_HEAD = b"content-type: application/json"
EVENTS_HEAD = b"content-type: text/event-stream"
IN_CHUNKS = b"transfer-encoding: chunked"
LENGTH = b"content-length: %d" % len(BODY)
IN_ONE_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)
SAID = event(chunk({"content": "a"}))
END = event(chunk({}, "stop")) + DONE

RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
RAW_DEFLATED = RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()


class Odd(NamedTuple):
    """An answer that must arrive: how, and what of it."""

    answer: Answer
    wanted: bytes
    stream: bool = False


ODD = {
    "invalid-json": Odd(whole(b'{"choices": [nothing'), b'{"choices": [nothing'),
    "invalid-utf8": Odd(whole(b'{"choices": "\xff\xfe"}'), b'{"choices": "\xff\xfe"}'),
    "empty": Odd(whole(b""), b""),
    "empty-for-a-stream": Odd(whole(b""), b"", stream=True),
    "no-content": Odd([raw_head(status=b"204 No Content")], b""),
    "gzip": Odd(packed(gzip.compress(BODY)), BODY),
    "gzip-of-two-members": Odd(packed(gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])), BODY),
    "x-gzip": Odd(packed(gzip.compress(BODY), encoding="x-gzip"), BODY),
    "gzip-of-a-megabyte": Odd(packed(gzip.compress(b" " * 2**20)), b" " * 2**20),
    "gzip-of-nothing": Odd(packed(b""), b""),
    "raw-deflate": Odd(packed(RAW_DEFLATED, encoding="deflate"), BODY),
    "encoded-as-itself": Odd(packed(BODY, encoding="Identity"), BODY),
    "without-length": Odd([raw_head(JSON_HEAD) + BODY, End.FIN], BODY),
    "http-1.0": Odd([b"HTTP/1.0 200 OK\r\n\r\n" + BODY, End.FIN], BODY),
    "bare-line-feeds": Odd([b"HTTP/1.1 200 OK\n%b\n\n%b" % (LENGTH, BODY)], BODY),
    "continue": Odd([raw_head(status=b"100 Continue"), *whole(BODY)], BODY),
    "continue-many-times": Odd([raw_head(status=b"100 Continue") * 50, *whole(BODY)], BODY),
    "early-hints": Odd(
        [raw_head(b"link: </x>", status=b"103 Early Hints"), *GOOD[True]], STREAM, stream=True
    ),
    "chunk-extension": Odd(
        [raw_head(JSON_HEAD, IN_CHUNKS) + b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY)], BODY
    ),
    "trailers": Odd([raw_head(JSON_HEAD, IN_CHUNKS) + IN_ONE_CHUNK + b"0\r\nx: 1\r\n\r\n"], BODY),
    "folded-header": Odd([raw_head(JSON_HEAD, b"x: a", b"  b", LENGTH) + BODY], BODY),
    "content-type-of-garbage": Odd(
        [raw_head(b"content-type: \xff\xfe;;charset=\xff", LENGTH) + BODY], BODY
    ),
    "no-content-type": Odd([raw_head(LENGTH) + BODY], BODY),
    "events-of-invalid-json": Odd(
        chunked(SAID, b"data: {nothing\n\n", END), SAID + b"data: {nothing\n\n" + END, stream=True
    ),
    "events-of-invalid-utf8": Odd(
        chunked(SAID, b'data: {"\xff\xfe": "\xc3"}\n\n', END),
        SAID + b'data: {"\xff\xfe": "\xc3"}\n\n' + END,
        stream=True,
    ),
    "gzip-stream-by-bytes": Odd(
        chunked(
            *(b"%c" % byte for byte in gzip.compress(STREAM)),
            headers=[("content-encoding", "gzip")],
        ),
        STREAM,
        stream=True,
    ),
    "stream-without-length": Odd([raw_head(EVENTS_HEAD) + STREAM, End.FIN], STREAM, stream=True),
    "done-twice": Odd(chunked(*EVENTS, DONE), STREAM + DONE, stream=True),
    "bytes-behind-done": Odd(chunked(*EVENTS, b"more"), STREAM + b"more", stream=True),
    "event-behind-done": Odd(chunked(*EVENTS, SAID), STREAM + SAID, stream=True),
    # The official clients have stopped reading; for others an answer is not followed by an error.
    "reset-behind-done": Odd(chunked(*EVENTS, End.RESET), STREAM, stream=True),
    "closed-behind-done": Odd(chunked(*EVENTS, End.FIN), STREAM, stream=True),
    "gzip-cut-off-behind-done": Odd(
        packed(gzip.compress(STREAM)[:-8], stream=True), STREAM, stream=True
    ),
}


@contextlib.contextmanager
def case(name: str) -> Iterator[None]:
    """Names the case that fails. Cases share a proxy: each is over sooner than that has started."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name!r}")
        raise


async def test_odd_answers_arrive(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start(ONE_AT_A_TIME)
    for name, odd in ODD.items():
        with case(name):
            local.answer = odd.answer
            response = await ask(proxy, stream=odd.stream)
            assert response.status_code in (200, 204)
            assert response.content == odd.wanted
            await check_well_again(proxy, local)
    outcome = await proxy.finish(2 * len(ODD))
    for name, row in zip(ODD, outcome.rows[::2], strict=True):
        with case(name):
            assert (row["ending"], row["error"], row["fallback_from"]) == ("ok", None, None)


async def test_an_upstream_that_keeps_the_connection_behind_done(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*EVENTS, Gate())
    proxy = await start(merge(ONE_AT_A_TIME, IDLE))
    response = await ask(proxy, stream=True)
    assert (response.status_code, response.content) == (200, STREAM)
    await local.call.closed()
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["error"]) == ("ok", None)


async def test_an_answer_of_32_megabytes(start: StartProxy, local: FakeUpstream) -> None:
    body = b'{"x":"%b"}' % (b"x" * 2**25)
    local.answer = whole(body)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=False)
    assert response.content == body
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_an_event_of_8_megabytes(start: StartProxy, local: FakeUpstream) -> None:
    huge = event(chunk({"content": "x" * 2**23}))
    local.answer = chunked(SAID, huge, END)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    assert response.content == SAID + huge + END
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_a_hundred_thousand_chunks_arrive_in_order(
    start: StartProxy, local: FakeUpstream
) -> None:
    words = [f"{number} " for number in range(100_000)]
    events = [b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % w.encode() for w in words]
    first, *chunks, last = chunked(*events, END)
    steps = [
        b"".join(some)
        for some in batches([step for step in chunks if isinstance(step, bytes)], 500)
    ]
    local.answer = [first, *steps, last]
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    assert response.content == b"".join([*events, END])
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["response"]) == ("ok", "".join(words))


def batches(steps: list[bytes], size: int) -> Iterator[list[bytes]]:
    return (steps[start : start + size] for start in range(0, len(steps), size))


# ── Answers that are none ─────────────────────────────────────────────────────────────────────


class Bad(NamedTuple):
    """An answer that must become an error: of which codes."""

    answer: Answer
    codes: tuple[str, ...]
    stream: bool = False
    limits: Mapping[str, Any] = MappingProxyType({})


NOT_HTTP = (UNREACHABLE,)
# A parser may stop at malformed chunks without an error; then the time limit ends the request.
BAD_CHUNKS = (UNREACHABLE, BROKEN, IDLE_TIMEOUT, TOTAL_TIMEOUT)
ZIPPED, ZIPPED_STREAM = gzip.compress(BODY), gzip.compress(STREAM)


def bad_chunks(data: bytes, *, stream: bool = False) -> Bad:
    """A good piece, then this."""
    kind = EVENTS_HEAD if stream else JSON_HEAD
    good = b"".join(
        step
        for step in chunked(event(chunk({"role": "assistant"})))[1:-1]
        if isinstance(step, bytes)
    )
    return Bad(
        [raw_head(kind, IN_CHUNKS), good, data],
        BAD_CHUNKS,
        stream,
        IDLE if stream else TOTAL,
    )


BAD_CONTENT = {
    "page-instead-of-events": Bad(chunked(b"<html>Bad gateway</html>"), (BROKEN,), stream=True),
    "bytes-instead-of-events": Bad(chunked(bytes(range(256)) * 100), (BROKEN,), stream=True),
    "answer-instead-of-events": Bad(chunked(BODY), (BROKEN,), stream=True),
    "no-events": Bad([raw_head(EVENTS_HEAD, b"content-length: 0")], (BROKEN,), stream=True),
    "only-comments": Bad(chunked(b": ping\n\n" * 10), (BROKEN,), stream=True),
    "gzip-cut-off": Bad(packed(ZIPPED[:-30]), (BROKEN,)),
    "gzip-without-checksum": Bad(packed(ZIPPED[:-8]), (BROKEN,)),
    "gzip-of-a-wrong-checksum": Bad(packed(ZIPPED[:-8] + bytes(8)), (BROKEN,)),
    "gzip-that-is-none": Bad(packed(BODY), (BROKEN,)),
    "gzip-and-more": Bad(packed(ZIPPED + b"more"), (BROKEN,)),
    "deflate-cut-off": Bad(packed(zlib.compress(BODY)[:-5], encoding="deflate"), (BROKEN,)),
    "brotli": Bad(packed(BODY, encoding="br"), (BROKEN,)),
    "gzip-twice": Bad(packed(gzip.compress(ZIPPED), encoding="gzip, gzip"), (BROKEN,)),
    "gzip-stream-cut-off": Bad(packed(ZIPPED_STREAM[:100], stream=True), (BROKEN,), stream=True),
    "gzip-stream-that-is-none": Bad(packed(STREAM, stream=True), (BROKEN,), stream=True),
}

BAD_HTTP = {
    "chunk-size-of-words": bad_chunks(b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-of-words-stream": bad_chunks(b"zz\r\nhello\r\n0\r\n\r\n", stream=True),
    "chunk-size-below-zero": bad_chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk-size-beyond-numbers": bad_chunks(b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n"),
    "chunk-longer-than-it-says": bad_chunks(b"5\r\nhello, hello\r\n0\r\n\r\n"),
    "chunk-longer-than-it-says-stream": bad_chunks(b"5\r\nhello, hello\r\n0\r\n\r\n", stream=True),
    "no-final-chunk": Bad(
        [raw_head(JSON_HEAD, IN_CHUNKS) + IN_ONE_CHUNK], (TOTAL_TIMEOUT,), False, TOTAL
    ),
    "no-final-chunk-closed": Bad(
        [raw_head(JSON_HEAD, IN_CHUNKS) + IN_ONE_CHUNK, End.FIN], (BROKEN,)
    ),
    "length-too-long": Bad(
        [raw_head(JSON_HEAD, b"content-length: 10000") + BODY], (TOTAL_TIMEOUT,), False, TOTAL
    ),
    "length-too-long-closed": Bad(
        [raw_head(JSON_HEAD, b"content-length: 10000") + BODY, End.FIN], (BROKEN,)
    ),
    "length-too-long-stream-closed": Bad(
        [raw_head(EVENTS_HEAD, b"content-length: 10000") + EVENTS[0], End.FIN],
        (BROKEN,),
        stream=True,
    ),
    # What there is of it has come by then.
    "length-too-short": Bad([raw_head(JSON_HEAD, b"content-length: 100") + BODY], (BROKEN,)),
    "length-too-short-stream": Bad(
        [raw_head(EVENTS_HEAD, b"content-length: 100") + STREAM], (BROKEN,), stream=True
    ),
    "length-below-zero": Bad([raw_head(JSON_HEAD, b"content-length: -5") + BODY], NOT_HTTP),
    "length-of-words": Bad([raw_head(JSON_HEAD, b"content-length: some") + BODY], NOT_HTTP),
    "two-lengths": Bad([raw_head(JSON_HEAD, LENGTH, b"content-length: 5") + BODY], NOT_HTTP),
    "length-and-chunks": Bad(
        [raw_head(JSON_HEAD, LENGTH, IN_CHUNKS) + IN_ONE_CHUNK + b"0\r\n\r\n"], NOT_HTTP
    ),
    "switching-protocols": Bad(
        [raw_head(b"connection: upgrade", b"upgrade: x", status=b"101 Switching") + BODY], NOT_HTTP
    ),
    "only-continue": Bad([raw_head(status=b"100 Continue")], (TOTAL_TIMEOUT,), False, TOTAL),
    "only-continue-closed": Bad([raw_head(status=b"100 Continue"), End.FIN], NOT_HTTP),
    "header-without-colon": Bad([raw_head(JSON_HEAD, b"no colon", LENGTH) + BODY], NOT_HTTP),
    "header-without-name": Bad([raw_head(JSON_HEAD, b": x", LENGTH) + BODY], NOT_HTTP),
    "header-with-nul": Bad([raw_head(JSON_HEAD, b"x: a\0b", LENGTH) + BODY], NOT_HTTP),
    "long-header": Bad([raw_head(JSON_HEAD, b"x: " + b"y" * 100_000, LENGTH) + BODY], NOT_HTTP),
    "thousands-of-headers": Bad(
        [raw_head(*(b"x%d: y" % number for number in range(5000)), LENGTH) + BODY], NOT_HTTP
    ),
    "endless-headers": Bad([raw_head(*[b"x: " + b"y" * 1000] * 500)[:-2]], NOT_HTTP),
    "long-status-line": Bad([raw_head(LENGTH, status=b"200 " + b"x" * 100_000) + BODY], NOT_HTTP),
    "status-of-words": Bad([raw_head(status=b"two hundred")], NOT_HTTP),
    "http-2": Bad([b"HTTP/2 200\r\n%b\r\n\r\n%b" % (LENGTH, BODY)], NOT_HTTP),
    "http-0.9": Bad([BODY, End.FIN], NOT_HTTP),
    "tls": Bad([b"\x15\x03\x01\x00\x02\x02\x46", End.FIN], NOT_HTTP),
}


async def test_bad_answers_are_one_clear_error(start: StartProxy, local: FakeUpstream) -> None:
    bad_ones = {name: bad for name, bad in (BAD_CONTENT | BAD_HTTP).items() if not bad.limits}
    proxy = await start(ONE_AT_A_TIME)
    failures = []
    for name, bad in bad_ones.items():
        with case(name):
            local.calls.clear()
            failures.append(await ask_badly(proxy, local, bad))
            for call in local.calls if name in BAD_HTTP else ():
                await call.closed()  # it is good for no other request
            await check_well_again(proxy, local)
    outcome = await proxy.finish(2 * len(bad_ones))
    for name, row, (error, status) in zip(bad_ones, outcome.rows[::2], failures, strict=True):
        with case(name):
            check_failure(row, error, status)


@pytest.mark.parametrize("name", [name for name, bad in BAD_HTTP.items() if bad.limits])
async def test_an_answer_that_only_time_ends_is_one_clear_error(
    start: StartProxy, local: FakeUpstream, name: str
) -> None:
    bad = BAD_HTTP[name]
    proxy = await start(merge(ONE_AT_A_TIME, bad.limits))
    error, status = await ask_badly(proxy, local, bad)
    for call in local.calls:
        await call.closed()
    check_failure((await proxy.finish()).row, error, status)


async def ask_badly(proxy: LiveProxy, local: FakeUpstream, bad: Bad) -> tuple[dict[str, Any], int]:
    """The error, checked, and the status that it came with."""
    local.answer = bad.answer
    response = await ask(proxy, stream=bad.stream)
    error = one_error(response)
    assert response.status_code != 200
    assert error["code"] in bad.codes
    return error, response.status_code


IN_CHUNKS_SAID = [raw_head(EVENTS_HEAD, IN_CHUNKS), b"%x\r\n%b\r\n" % (len(SAID), SAID)]
BAD_BEHIND_CONTENT: dict[str, tuple[Answer, Answer, Mapping[str, Any]]] = {
    "malformed-chunk": (IN_CHUNKS_SAID, [b"zz\r\n"], IDLE),
    "no-final-chunk": (IN_CHUNKS_SAID, [End.FIN], {}),
    "no-final-chunk-and-no-end": (IN_CHUNKS_SAID, [], IDLE),
    "length-too-long": ([raw_head(EVENTS_HEAD, b"content-length: 10000") + SAID], [End.FIN], {}),
    "garbage": (chunked(SAID)[:-1], chunked(bytes(range(256)) * 100)[1:], {}),
    "page": (chunked(SAID)[:-1], chunked(b"<html>Bad gateway</html>")[1:], {}),
}


@pytest.mark.parametrize(
    ("content", "then", "limits"), BAD_BEHIND_CONTENT.values(), ids=BAD_BEHIND_CONTENT.keys()
)
async def test_a_stream_that_goes_bad_ends_in_one_error(
    start: StartProxy,
    local: FakeUpstream,
    content: Answer,
    then: Answer,
    limits: Mapping[str, Any],
) -> None:
    gate = Gate()
    local.answer = [*content, gate, *then]
    proxy = await start(merge(ONE_AT_A_TIME, limits))
    response = await read_opening(proxy, gate, behind=SAID)
    error = one_error(response)
    assert error["code"] in (BROKEN, IDLE_TIMEOUT)
    assert (response.status_code, said_before(response)) == (200, SAID)
    if limits:
        await local.call.closed()
    await check_well_again(proxy, local)
    outcome = await proxy.finish(2)
    check_failure(outcome.rows[0], error, 200)
    assert outcome.rows[0]["response"] == "a"


async def test_a_gzip_stream_that_is_cut_off_behind_content(
    start: StartProxy, local: FakeUpstream
) -> None:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    begun = packer.compress(b"".join(BEGUN)) + packer.flush(zlib.Z_SYNC_FLUSH)
    local.answer = packed(begun, stream=True)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    error = one_error(response)
    assert (error["code"], said_before(response)) == (BROKEN, b"".join(BEGUN))
    check_failure((await proxy.finish()).row, error, 200)


async def test_garbage_without_end_does_not_wait_for_ever(
    start: StartProxy, local: FakeUpstream
) -> None:
    """More of it than is held back is passed on, and then it is known to have been no answer."""
    garbage = b"data: hello\n\n" * 10_000
    local.answer = chunked(garbage)
    proxy = await start(ONE_AT_A_TIME)
    response = await ask(proxy, stream=True)
    error = one_error(response)
    assert (error["code"], said_before(response)) == (BROKEN, garbage)
    check_failure((await proxy.finish()).row, error, 200)


# ── Many of all kinds ─────────────────────────────────────────────────────────────────────────


AT_ONCE = 16


class Case(NamedTuple):
    """One of the mixture."""

    answer: Answer
    stream: bool = False
    toxic: Toxic = None
    leaves: bool = False  # its client does, in the middle


def mixture() -> list[Case]:
    """Of everything something, but for what takes long."""
    cases = [Case(odd.answer, odd.stream) for odd in ODD.values()]
    cases += [Case(bad.answer, bad.stream) for bad in (BAD_CONTENT | BAD_HTTP).values()]
    for stream in (False, True):
        good = GOOD[stream]
        for where in PLACES:
            place = place_in(good, where)
            toxics = (Cut(place), Cut(place, End.FIN), Freeze(place))
            cases += [Case(good, stream, toxic) for toxic in toxics]
        cases += [Case(good, stream, toxic) for toxic in (Deaf(), Slices(1, 0.02), None)]
    return [*cases, Case([*chunked(SAID)[:-1], Gate()], stream=True, leaves=True)]


class Mixture:
    """All cases at once, through one proxy."""

    def __init__(self, proxy: LiveProxy, local: FakeUpstream, relay: ToxicRelay) -> None:
        self._proxy = proxy
        self._local = local
        self._relay = relay
        self._cases = mixture()
        self.requests = 0
        local.answer = lambda call: self._cases[int(call.header("x-case") or 0)].answer
        relay.toxic = self._toxic

    def _toxic(self, request: bytes) -> Toxic:
        found = re.search(rb"x-case: (\d+)", request, re.IGNORECASE)
        return self._cases[int(found[1])].toxic if found else None

    async def run(self, rounds: int) -> None:
        """Every client gets an answer or one clear error."""
        places = asyncio.Semaphore(AT_ONCE)
        for _ in range(rounds):
            async with httpx2.AsyncClient(
                base_url=self._proxy.client.base_url,
                timeout=PATIENCE_SECONDS,
                trust_env=False,
                verify=False,
            ) as client:
                await asyncio.gather(
                    *(self._ask(client, places, number) for number in range(len(self._cases)))
                )
            self.requests += len(self._cases)

    async def _ask(
        self, client: httpx2.AsyncClient, places: asyncio.Semaphore, number: int
    ) -> None:
        case = self._cases[number]
        request = client.build_request(
            "POST",
            "/v1/chat/completions",
            content=request_body(stream=case.stream),
            headers={"x-case": str(number)},
        )
        async with places:
            response = await client.send(request, stream=True)
            try:
                if not case.leaves:
                    content = await response.aread()
                    assert content.count(b'data: {"error"') <= 1
                    if response.status_code >= 300:
                        envelope_of(response)
            finally:
                await response.aclose()

    async def alone(self) -> None:
        """Wait until the proxy has noticed that everybody else is gone, and kept all rows."""
        await self._proxy.settled(self.requests)
        # What is still open is kept for the next request: no more than were ever in use.
        await until(lambda: self._relay.open_connections <= AT_ONCE)
        self._relay.hang_up()
        await self._relay.released()
        self._local.calls.clear()
        await until(lambda: len(self._proxy.rows()) >= self.requests)

    async def rest(self, *, sockets: int, tasks: int) -> tuple[int, int]:
        """Objects and blocks of memory when no more sockets and tasks than these are left."""

        def is_at_rest() -> bool:
            self._relay.hang_up()  # on the proxy's own questions, too, whenever they come
            return count_sockets() <= sockets and self.count_tasks() <= tasks

        await self.alone()
        await until(is_at_rest)
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    def count_tasks(self) -> int:
        loop = self._proxy._server._loop
        assert loop is not None
        return len(asyncio.all_tasks(loop))


async def until(met: Callable[[], bool]) -> None:
    """Wait for what sets no event: a file of the system's, another thread's work."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def count_sockets() -> int:
    found = 0
    for file in FILES.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += str(file.readlink()).startswith("socket:")
    return found


@pytest.mark.skipif(not FILES.exists(), reason="this system does not list a process's files")
async def test_nothing_is_left_of_hundreds_of_faults(
    start: StartProxy, local: FakeUpstream, relay: ToxicRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """No socket, no task, and no memory: what leaks does so each time."""
    for name in ("", *logs.OURS):  # a command that ran before may have set its own level
        caplog.set_level(logging.CRITICAL, logger=name)  # pytest keeps what is logged
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
    mixed = Mixture(proxy, local, relay)
    await mixed.alone()
    sockets, tasks = count_sockets(), mixed.count_tasks()
    await mixed.run(1)  # which fills what is kept on purpose
    before = await mixed.rest(sockets=sockets, tasks=tasks)
    grown = []  # objects and blocks of memory for each request
    for _ in range(3):  # other proxies of this process may fill theirs, once
        requests = -mixed.requests
        await mixed.run(2)
        after = await mixed.rest(sockets=sockets, tasks=tasks)
        requests += mixed.requests
        grown.append([(new - old) / requests for new, old in zip(after, before, strict=True)])
        before = after
    objects, blocks = map(min, zip(*grown, strict=True))
    assert objects < 1, grown
    assert blocks < 5, grown
    await proxy.finish(mixed.requests)
