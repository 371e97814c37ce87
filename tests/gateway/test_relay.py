"""Relaying: what passes, what is observed and what is removed, for any split of the bytes."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamInterrupted, UpstreamTimeout
from proxy.gateway.relay import (
    MAX_HELD_BYTES,
    Note,
    ResponseWriter,
    Settle,
    StreamStart,
    is_stream,
    read_start,
    relay_complete,
    relay_stream,
)
from proxy.gateway.stream_observer import (
    MAX_EVENT_BYTES,
    MAX_EVENT_LINES,
    MAX_EVENTS,
    Outcome,
    StreamObserver,
    split_comments,
)
from proxy.protocol.endpoints import CHAT, RESPONSES
from proxy.protocol.views import AnswerView, Usage
from proxy.record import CallRecord, Ending, Reason, Target
from proxy.upstream.headers import headers_for_client


class Event(NamedTuple):
    """The lines of an event and what an observer must read from it."""

    lines: list[bytes]
    text: str = ""
    usage: int | None = None  # its prompt_tokens
    usage_only: bool = False
    finished: bool = False
    done: bool = False
    failed: bool = False
    spoke: bool = False


def data(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value)


def chunk(delta: object, finish_reason: str | None = None, **more: object) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]} | more


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
one_line = st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\r" not in line)

contents = texts.map(lambda text: Event([data(chunk({"content": text}))], text=text, spoke=True))
pretty = texts.map(
    lambda text: Event(
        [
            b"data: " + line
            for line in msgspec.json.format(
                msgspec.json.encode(chunk({"content": text}, usage=None))
            ).splitlines()
        ],
        text=text,
        spoke=True,
    )
)
usages = st.integers(0, 2**40).map(
    lambda count: Event(
        [data({"choices": [], "usage": {"prompt_tokens": count}})], usage=count, usage_only=True
    )
)
last_chunks = st.integers(0, 99).map(
    lambda count: Event(
        [data(chunk({}, "stop", usage={"prompt_tokens": count}))], usage=count, finished=True
    )
)
fixed = st.sampled_from(
    [
        Event([data(chunk({"role": "assistant", "content": ""}))]),
        Event([data(chunk({"content": None, "tool_calls": [{"index": 0}]}))], spoke=True),
        Event([data(chunk({"reasoning": "Hm"}))], spoke=True),
        Event([data(chunk({"refusal": "No."}))], text="No.", spoke=True),
        Event([data(chunk({}, "length"))], finished=True),
        Event([data({"error": {"message": "overloaded"}})], failed=True),
        Event([b"data: [DONE]"], done=True),
        Event([b"data:[DONE]"], done=True),
        Event([b": keep-alive"]),
        Event([b"retry: 10"]),
        Event([b"event: ping", b"id: 7", b"data: {}"]),
        Event([b"data"]),
        Event([b"data: {", b"data: "]),
        Event([b'data: {"choices": 7}']),
        Event([b"data: \xff\xfe"]),
    ]
)
garbage = one_line.map(lambda line: Event([b"x" + line]))
events = st.one_of(contents, pretty, usages, last_chunks, fixed, garbage)
# Behind a CR an LF would be the second half of a line end.
line_ends = st.sampled_from([(b"\n", b"\r\n"), (b"\r",)]).map(st.sampled_from)


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[Event, bytes]]:
    """Events with their bytes, with mixed line ends."""
    stream = []
    for event in draw(st.lists(events, max_size=8)):
        ends = draw(line_ends)
        written = b"".join(line + draw(ends) for line in event.lines) + draw(ends)
        stream.append((event, written))
    return stream


def cut(whole: bytes, places: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[start:end] for start, end in itertools.pairwise(edges)]


def run(observer: StreamObserver, pieces: Sequence[bytes]) -> bytes:
    return b"".join([*map(observer.feed, pieces), observer.flush()])


cuts = st.lists(st.integers(0, 10_000), max_size=30)


@given(stream=streams(), places=cuts, strip=st.booleans())
def test_observer_result_is_independent_of_the_split(
    stream: list[tuple[Event, bytes]], places: list[int], strip: bool
) -> None:
    observer = StreamObserver(strip_usage=strip)
    whole = b"".join(written for _, written in stream)
    passed = run(observer, cut(whole, places))

    expected = [written for event, written in stream if not (strip and event.usage_only)]
    assert passed == b"".join(expected)
    observed = [event for event, _ in stream]
    counts = [event.usage for event in observed if event.usage is not None]
    assert (observer.usage.prompt_tokens if observer.usage else None) == (
        counts[-1] if counts else None
    )
    assert observer.text == "".join(event.text for event in observed)
    assert observer.done == any(event.done for event in observed)
    assert observer.failed == any(event.failed for event in observed)
    assert observer.finished == any(event.finished for event in observed)
    assert observer.spoke == any(event.spoke for event in observed)
    assert not observer.blind


@given(whole=st.text('data: []{}\r\n"DONE', max_size=60).map(str.encode), places=cuts)
def test_arbitrary_bytes_pass_alike_for_every_split(whole: bytes, places: list[int]) -> None:
    at_once, in_pieces, single = (StreamObserver(strip_usage=True) for _ in range(3))
    passed = run(at_once, [whole])
    assert run(in_pieces, cut(whole, places)) == passed
    assert run(single, [whole[i : i + 1] for i in range(len(whole))]) == passed
    assert whole.startswith(passed)
    assert at_once.complete == in_pieces.complete == single.complete


@given(stream=streams(), places=cuts)
def test_truncated_stream_passes_its_complete_events(
    stream: list[tuple[Event, bytes]], places: list[int]
) -> None:
    """The incomplete last event is dropped."""
    whole = b"".join(written for _, written in stream)
    observer = StreamObserver(strip_usage=False)
    incomplete = b'data: {"choices": [{"delta": {"content": "lo'
    passed = run(observer, cut(whole + incomplete, places))
    assert passed == (whole + incomplete if observer.complete or observer.failed else whole)


@pytest.mark.parametrize(
    "last",
    [
        b"data: [DONE]",
        b"data:[DONE]\n",
        b"data: [DONE]\r\n",
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}',
        b'data: {"error":{"message":"overloaded"}}',
    ],
)
def test_last_event_without_blank_line_is_read(last: bytes) -> None:
    observer = StreamObserver(strip_usage=True)
    first = data(chunk({"content": "Hi"})) + b"\n\n"
    assert run(observer, [first + last]) == first + last
    assert observer.complete or observer.failed


def test_unrequested_usage_without_blank_line_is_removed() -> None:
    observer = StreamObserver(strip_usage=True)
    done = b"data: [DONE]\n\n"
    assert run(observer, [done + b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n']) == done
    assert observer.usage == Usage(prompt_tokens=3)


@pytest.mark.parametrize(
    ("event", "text", "finished", "failed", "tokens"),
    [
        (chunk({"content": 'say "no"'}), 'say "no"', False, False, None),
        (chunk({"content": "a\\b\n"}), "a\\b\n", False, False, None),
        (chunk({"content": "ünï ☃"}), "ünï ☃", False, False, None),
        (chunk({"content": ""}), "", False, False, None),
        (chunk({"content": "end"}, "stop"), "end", True, False, None),
        (chunk({"content": "end"}, usage={"prompt_tokens": 7}), "end", False, False, 7),
        (chunk({"content": "end"}, error={"message": "broken"}), "end", False, True, None),
        (chunk({"content": "more", "refusal": "no"}), "more", False, False, None),
        (chunk({"content": "x"} | {"tool_calls": [{"index": 0}]}), "x", False, False, None),
    ],
)
def test_event_after_simple_chunks_is_fully_read(
    event: dict[str, object], text: str, finished: bool, failed: bool, tokens: int | None
) -> None:
    """Events that repeat the form of the last one are not decoded. Others must be."""
    observer = StreamObserver(strip_usage=False)
    pieces = [chunk({"content": "One"}), chunk({"content": " two"}), event, event]
    for piece in pieces:
        sent = data(piece) + b"\n\n"
        assert observer.feed(sent) == sent
    assert observer.text == "One two" + text * 2
    assert (observer.finished, observer.failed) == (finished, failed)
    prompt_tokens = observer.usage.prompt_tokens if observer.usage is not None else None
    assert prompt_tokens == tokens


@pytest.mark.parametrize("middle", [b"\xff", b'","error":{"message":"x"},"a":"', b"\\u0041"])
def test_similar_bytes_are_not_taken_for_a_simple_chunk(middle: bytes) -> None:
    observer = StreamObserver(strip_usage=False)
    simple = data(chunk({"content": "One"})) + b"\n\n"
    other = simple.replace(b"One", middle)
    observer.feed(simple)
    alone = StreamObserver(strip_usage=False)
    for watched in (observer, alone):
        assert watched.feed(other) == other
    assert (observer.text, observer.failed) == ("One" + alone.text, alone.failed)


def test_usage_in_a_chunk_with_choices_is_not_removed() -> None:
    event = data(chunk({"content": "a"}, "stop", usage={"prompt_tokens": 1})) + b"\n\n"
    assert StreamObserver(strip_usage=True).feed(event) == event


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [5_000, 65_536, MAX_EVENT_BYTES])
def test_oversized_event_passes_and_later_ones_are_observed(size: int, line_end: bytes) -> None:
    observer = StreamObserver(strip_usage=True)
    head = data(chunk({"content": "seen"})) + line_end * 2
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3}}' + line_end * 2
    endless = b"data: " + b"x" * (2 * MAX_EVENT_BYTES)
    later = data(chunk({"content": " later"})) + line_end * 2
    whole = head + usage + endless + line_end * 2 + later + usage
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    passed = run(observer, pieces)
    # Compared outside the assertion: pytest needs minutes to diff megabytes.
    same = passed == head + endless + line_end * 2 + later
    assert same
    assert (observer.blind, observer.complete, observer.text) == (True, True, "seen later")
    assert observer.usage == Usage(prompt_tokens=3)


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n", b"\n"])
def test_each_event_passes_as_soon_as_it_is_complete(line_end: bytes) -> None:
    observer = StreamObserver(strip_usage=True)
    usage = data({"choices": [], "usage": {"prompt_tokens": 3}}) + line_end * 2
    for text in ("a", "b"):
        event = data(chunk({"content": text})) + line_end * 2
        passed = b"".join(observer.feed(event[i : i + 1]) for i in range(len(event)))
        assert passed == event
        assert b"".join(observer.feed(usage[i : i + 1]) for i in range(len(usage))) == b""
    assert observer.text == "ab"


def test_large_event_in_many_pieces_is_read() -> None:
    observer = StreamObserver(strip_usage=True)
    answer = "x" * 600_000
    event = b": x\r\n" + data(chunk({"content": answer})) + b"\r\n\r\n"
    passed = run(observer, [event[i : i + 4096] for i in range(0, len(event), 4096)])
    same = passed == event and observer.text == answer
    assert same


# Relaying complete responses and streams, with in-memory fakes.


class FakeAnswer:
    """An upstream's response; an exception among the pieces is raised at its position."""

    def __init__(
        self,
        *pieces: bytes | BaseException,
        status: int = 200,
        headers: Sequence[tuple[bytes, bytes]] = (),
        is_event_stream: bool = False,
        is_page: bool = False,
    ) -> None:
        self.upstream_name = "local"
        self.status = status
        self.headers = [(name.lower(), value) for name, value in headers]  # as the engine does
        self.is_event_stream = is_event_stream
        self.is_page = is_page
        self.has_begun = self.has_failed = False
        self._pieces = list(pieces)

    async def next_chunk_by(self, due: float) -> bytes | None:
        return await self.next_chunk()

    def headers_for_client(self) -> list[tuple[bytes, bytes]]:
        return headers_for_client(self.headers)

    def headers_of_download(self) -> list[tuple[bytes, bytes]]:
        return self.headers_for_client()

    def mark_started(self) -> None:
        self.has_begun = True

    def fail(self) -> None:
        self.has_failed = True

    async def next_chunk(self) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        while piece := await self.next_chunk():
            if not take(piece):
                return True
        return False

    async def read(self) -> bytes:
        body = b""
        while piece := await self.next_chunk():
            body += piece
        return body


class FakeReply:
    """The client: collects what is sent to it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ended = False
        self._takes = False

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await self.start(status, headers)
        await self.send(body, more=False)

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert self.status is None
        self.status, self.headers = status, headers

    async def send(self, data: bytes, *, more: bool) -> None:
        assert self.status is not None
        assert not self.ended
        self.body += data
        self.ended = not more

    def send_now(self, data: bytes) -> bool:
        """Accept every second piece."""
        assert not self.ended
        self._takes = not self._takes
        if self._takes:
            self.body += data
        return self._takes


class Clock:
    """Time that passes only on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SettleRecorder:
    """Records the calls of `settle`."""

    def __init__(self) -> None:
        self.calls: list[tuple[Usage | None, str]] = []

    def __call__(self, outcome: Outcome) -> None:
        self.calls.append((outcome.usage, outcome.text))


def stream_of(*pieces: bytes | BaseException, **arguments: Any) -> FakeAnswer:
    return FakeAnswer(*pieces, is_event_stream=True, **arguments)


async def ignore_end(last: AnswerView | None) -> None:
    """Ignore the end of a response."""


async def relay(
    answer: FakeAnswer,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    settle: Settle,
    note: Note = ignore_end,
) -> None:
    """Start and relay a response, as the gateway does."""
    start = await read_start(answer, observer=StreamObserver(strip_usage=True))
    if isinstance(start, StreamStart):
        await relay_stream(answer, start, reply, record, settle=settle, note=note)
    else:
        await relay_complete(answer, start, reply, record, settle=settle, note=note)


def routed_record(clock: Clock | None = None) -> CallRecord:
    record = CallRecord("chat.completions", clock=clock or Clock())
    record.target, record.reason, record.model = Target.LOCAL, Reason.SCORE, "phi3"
    record.open_upstream()
    return record


async def test_complete_response_passes_with_router_headers() -> None:
    body = b'{ "choices":[{"message":{"content":"Hi"}}], "usage":{"prompt_tokens":2}, "x": 1.0 }'
    answer = FakeAnswer(
        body[:10],
        body[10:],
        headers=[
            (b"content-type", b"application/json; charset=utf-8"),
            (b"x-request-id", b"theirs"),
            (b"openai-processing-ms", b"12"),
            (b"content-length", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"set-cookie", b"a=b"),
            (b"x-router-target", b"forged"),
        ],
    )
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    await relay(answer, reply, record, settle=recorder)
    assert (reply.status, reply.body, reply.ended) == (200, body, True)
    headers = dict(reply.headers)
    assert len(headers) == len(reply.headers)
    assert headers[b"content-type"] == b"application/json; charset=utf-8"
    assert b"content-length" not in headers  # set when the body is sent
    assert headers[b"x-upstream-request-id"] == b"theirs"
    assert headers[b"x-request-id"] == record.id.encode()
    assert headers[b"openai-processing-ms"] == b"12"
    assert headers[b"x-router-target"] == b"local"
    assert not {b"set-cookie", b"transfer-encoding"} & set(headers)
    assert recorder.calls == [(Usage(prompt_tokens=2), "Hi")]
    assert (record.ending, record.status) == (Ending.OK, 200)
    assert record.upstream_ms is not None


async def test_complete_response_has_cost_headers() -> None:
    record, reply = routed_record(), FakeReply()

    def settle(outcome: Outcome) -> None:
        record.cost_usd, record.saved_usd = 0.0, 0.00012

    await relay(FakeAnswer(b'{"choices": [{}]}'), reply, record, settle=settle)
    assert dict(reply.headers)[b"x-router-cost-usd"] == b"0.000000000"
    assert dict(reply.headers)[b"x-router-saved-usd"] == b"0.000120000"


async def test_error_response_passes_and_costs_nothing() -> None:
    body = b'{"error": {"message": "slow down"}}'
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    answer = FakeAnswer(body, status=429, headers=[(b"retry-after", b"3")])
    await relay(answer, reply, record, settle=recorder)
    assert (reply.status, reply.body) == (429, body)
    assert dict(reply.headers)[b"retry-after"] == b"3"
    assert recorder.calls == []
    assert (record.ending, record.status) == (Ending.UPSTREAM_ERROR, 429)


async def test_interrupted_complete_response_sends_no_status() -> None:
    reply, record = FakeReply(), routed_record()
    answer = FakeAnswer(b"{", UpstreamInterrupted("It broke.", upstream="local"))
    with pytest.raises(UpstreamInterrupted):
        await relay(answer, reply, record, settle=SettleRecorder())
    assert reply.status is None
    assert record.ending is None


DONE = b"data: [DONE]\n\n"
HELLO = data(chunk({"content": "Hello"})) + b"\n\n"
STOP = data(chunk({}, "stop")) + b"\n\n"
USAGE = data({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}) + b"\n\n"


async def test_stream_passes_without_unrequested_usage() -> None:
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    answer = stream_of(
        HELLO + STOP,
        USAGE + DONE,
        headers=[(b"content-type", b"text/event-stream"), (b"content-length", b"9")],
    )
    await relay(answer, reply, record, settle=recorder)
    assert (reply.status, reply.body, reply.ended) == (200, HELLO + STOP + DONE, True)
    assert recorder.calls == [(Usage(prompt_tokens=5, completion_tokens=1), "Hello")]
    assert (record.ending, record.streamed) == (Ending.OK, True)
    headers = dict(reply.headers)
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"content-type"] == b"text/event-stream"
    assert b"content-length" not in headers
    assert b"x-router-cost-usd" not in headers


async def test_first_token_is_the_first_visible_output() -> None:
    clock = Clock()
    record = routed_record(clock)
    role = data(chunk({"role": "assistant", "content": ""})) + b"\n\n"

    class Timed(FakeAnswer):
        async def next_chunk(self) -> bytes:
            clock.now += 0.25
            return await super().next_chunk()

    answer = Timed(role, HELLO, HELLO, STOP + DONE, is_event_stream=True)
    await relay(answer, FakeReply(), record, settle=SettleRecorder())
    assert record.ttft_ms == pytest.approx(500)
    assert record.duration_ms == pytest.approx(1000)


async def test_unfinished_stream_is_an_error_and_its_text_is_settled() -> None:
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    with pytest.raises(
        UpstreamInterrupted, match="local upstream ended its stream without finishing"
    ):
        await relay(stream_of(HELLO, b'data: {"choi'), reply, record, settle=recorder)
    assert reply.body == HELLO
    assert not reply.ended
    assert recorder.calls == [(None, "Hello")]
    assert record.ending is None
    await reply.send(
        CHAT.error_event(UpstreamInterrupted("It stopped.", upstream="local")), more=False
    )
    event = reply.body.removeprefix(HELLO)
    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"\n\n")
    assert msgspec.json.decode(event[6:])["error"]["code"] == "upstream_broken"
    assert reply.ended


async def test_finish_reason_without_done_ends_the_stream() -> None:
    reply, record = FakeReply(), routed_record()
    await relay(stream_of(HELLO, STOP), reply, record, settle=SettleRecorder())
    assert (reply.body, reply.ended, record.ending) == (HELLO + STOP, True, Ending.OK)


@pytest.mark.parametrize("end", [b"", b"\n\n", b"\n\n" + DONE])
async def test_upstream_error_event_passes(end: bytes) -> None:
    reply, record = FakeReply(), routed_record()
    error = b'data: {"error": {"message": "overloaded"}}' + end
    await relay(stream_of(HELLO, error), reply, record, settle=SettleRecorder())
    assert (reply.body, reply.ended) == (HELLO + error, True)
    assert record.ending is Ending.UPSTREAM_ERROR


async def test_stream_error_is_raised_after_the_earlier_chunks() -> None:
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    late = UpstreamTimeout("Too late.", upstream="local", phase="idle")
    with pytest.raises(UpstreamTimeout):
        await relay(stream_of(HELLO, late), reply, record, settle=recorder)
    assert reply.body == HELLO
    assert recorder.calls == [(None, "Hello")]
    assert record.upstream_ms is not None


async def test_disconnect_at_done_counts_as_success() -> None:
    reply, record, recorder = FakeReply(), routed_record(), SettleRecorder()
    answer = stream_of(HELLO + STOP, USAGE + DONE, asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await relay(answer, reply, record, settle=recorder)
    record.finish(Ending.CLIENT_GONE)
    assert record.ending is Ending.OK
    assert recorder.calls == [(Usage(prompt_tokens=5, completion_tokens=1), "Hello")]


async def test_stream_is_held_until_its_first_output() -> None:
    role = data(chunk({"role": "assistant", "content": ""})) + b"\n\n"
    answer = stream_of(b": ping\n\n", role, HELLO[:9], HELLO[9:], STOP)
    start = await read_start(answer, observer=StreamObserver(strip_usage=True))
    assert isinstance(start, StreamStart)
    assert start.held == b": ping\n\n" + role + HELLO
    assert start.error is None
    assert answer.has_begun
    assert await answer.next_chunk() == STOP


@pytest.mark.parametrize(
    "pieces",
    [
        (),
        (b": ping\n\n",),
        (data(chunk({"role": "assistant"})) + b"\n\n",),
        (HELLO[:20],),
    ],
    ids=["nothing", "comment", "role", "half-an-event"],
)
async def test_stream_without_output_is_interrupted(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamInterrupted, match="local upstream"):
        await read_start(stream_of(*pieces), observer=StreamObserver(strip_usage=True))


async def test_error_event_before_the_first_output_is_reported() -> None:
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    start = await read_start(stream_of(error, HELLO), observer=StreamObserver(strip_usage=True))
    assert start.error == error


async def test_error_event_after_the_first_output_passes() -> None:
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    start = await read_start(stream_of(HELLO + error), observer=StreamObserver(strip_usage=True))
    assert start.error is None


@pytest.mark.parametrize(
    "answer",
    [
        FakeAnswer(STOP[6:]),
        stream_of(HELLO + STOP + DONE),
        stream_of(HELLO, STOP, DONE, b": bye\n\n"),
        stream_of(HELLO, STOP.rstrip()),
    ],
    ids=["whole", "at once", "in pieces", "without a blank line"],
)
async def test_response_is_noted_once_before_its_end_is_sent(answer: FakeAnswer) -> None:
    reply, sent_by_then = FakeReply(), list[bytes]()

    async def note(last: AnswerView | None) -> None:
        assert last is not None
        assert last.finished
        sent_by_then.append(reply.body)

    await relay(answer, reply, routed_record(), settle=SettleRecorder(), note=note)
    (sent,) = sent_by_then
    assert len(sent) < len(reply.body)
    assert b"stop" in reply.body


async def test_held_bytes_of_a_stream_are_limited() -> None:
    ping = b": " + b"x" * 1021 + b"\n\n"
    answer = stream_of(*[ping] * 200, HELLO, STOP)
    start = await read_start(answer, observer=StreamObserver(strip_usage=True))
    assert isinstance(start, StreamStart)
    assert MAX_HELD_BYTES <= len(start.held) < MAX_HELD_BYTES + len(ping)
    reply, record = FakeReply(), routed_record()
    await relay_stream(answer, start, reply, record, settle=SettleRecorder(), note=ignore_end)
    assert reply.body == ping * 200 + HELLO + STOP
    assert record.ttft_ms is not None


def test_only_a_successful_event_stream_is_relayed_as_a_stream() -> None:
    assert is_stream(FakeAnswer(is_event_stream=True))
    assert not is_stream(FakeAnswer(is_event_stream=True, status=500))
    assert not is_stream(FakeAnswer())


def test_the_usage_of_an_oversized_last_event_is_read() -> None:
    """The provider echoes the request's instructions in it."""
    observer = StreamObserver(RESPONSES, strip_usage=False)
    usage = b'"usage":{"input_tokens":900,"output_tokens":50000,"total_tokens":50900}'
    response = b'{"id":"r","instructions":"%b","output":[],%b}' % (b"x" * MAX_EVENT_BYTES, usage)
    event = b'data: {"type":"response.completed","response":%b}\n\n' % response
    passed = b"".join(
        observer.feed(event[start : start + 50_000]) for start in range(0, len(event), 50_000)
    )
    assert passed == event
    reported = observer.usage
    assert reported is not None
    assert (reported.prompt_tokens, reported.completion_tokens) == (900, 50_000)


@pytest.mark.parametrize("end", [b"", b"\n\n"])
def test_a_usage_in_an_oversized_events_text_is_not_billed(end: bytes) -> None:
    observer = StreamObserver(strip_usage=False)
    text = b"x" * MAX_EVENT_BYTES + rb"\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9}"
    observer.feed(b'data: {"choices":[{"delta":{"content":"%b"}}]}' % text + end)
    observer.flush()
    assert observer.usage is None


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n"])
def test_blank_lines_between_events_pass_at_once(blank: bytes) -> None:
    observer = StreamObserver(strip_usage=True)
    blanks = blank * 300_000
    since = time.process_time()
    assert observer.feed(blanks + HELLO + blanks) == blanks + HELLO + blanks
    assert time.process_time() - since < 0.2
    assert (observer.text, observer.has_more) == ("Hello", False)


@given(count=st.integers(0, 9), places=cuts)
def test_blank_lines_around_removed_usage_pass_for_every_split(
    count: int, places: list[int]
) -> None:
    blanks = b"\n" * count
    whole = blanks + HELLO + blanks + USAGE + blanks + DONE + blanks
    observer = StreamObserver(strip_usage=True)
    assert run(observer, cut(whole, places)) == blanks + HELLO + blanks * 2 + DONE + blanks


def test_one_call_observes_a_limited_number_of_events() -> None:
    events = b"".join(b": %d\n\n" % number for number in range(3 * MAX_EVENTS))
    observer = StreamObserver(strip_usage=True)
    passed = observer.feed(events + HELLO[:9])
    assert (passed.count(b"\n\n"), observer.has_more) == (MAX_EVENTS, True)
    passed += observer.feed(HELLO[9:])
    while observer.has_more:
        passed += observer.feed(b"")
    assert passed == events + HELLO
    assert observer.text == "Hello"

    observer = StreamObserver(strip_usage=True)
    passed = observer.feed(events + STOP)
    assert passed + observer.flush() == events + STOP


def test_an_event_of_too_many_lines_passes_unseen() -> None:
    lines = [
        b"data: {",
        *[b'data: "x": 1,'] * MAX_EVENT_LINES,
        b'data: "usage":{"prompt_tokens":7}}',
    ]
    event = b"\n".join(lines) + b"\n\n"
    observer = StreamObserver(strip_usage=True)
    assert observer.feed(event) == event
    assert observer.blind
    assert observer.usage == Usage(prompt_tokens=7)


@pytest.mark.parametrize("is_first", [False, True], ids=["later", "held"])
async def test_many_events_in_one_chunk_let_others_work(is_first: bool) -> None:
    events = b": x\n\n" * 50 * MAX_EVENTS
    chunks = [events, HELLO, STOP] if is_first else [HELLO, events + STOP]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    reply, record = FakeReply(), routed_record()
    await relay(stream_of(*chunks), reply, record, settle=SettleRecorder())
    counting.cancel()
    assert reply.body == b"".join(chunks)
    assert turns >= 40


def test_comments_are_split_from_events_and_blank_lines() -> None:
    blanks = b"\n" * 300_000
    since = time.process_time()
    parts = split_comments(blanks + b": ping\n\n" + HELLO + b": x\ndata: y\n\n" + blanks)
    assert time.process_time() - since < 0.2
    assert parts == (b": ping\n\n", blanks + HELLO + b": x\ndata: y\n\n" + blanks)


def test_the_outline_of_oversized_events_is_read() -> None:
    """The provider echoes the request's instructions in the first and the last event."""
    observer = StreamObserver(RESPONSES, strip_usage=False)
    middle = b'"instructions":"%b","model":"gpt-5","output":[]' % (b"x" * 2 * MAX_EVENT_BYTES)
    usage = b'{"input_tokens":9,"output_tokens":8}'
    started = (
        b'data: {"type":"response.created","response":{"id":"r","status":"in_progress",%b,'
        b'"service_tier":"auto","usage":null,"metadata":{"service_tier":"flex"}}}\n\n' % middle
    )
    last = (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r",'
        b'"status":"completed",%b,"service_tier":"priority","usage":%b,"metadata":{"usage":"x"}},'
        b'"sequence_number":2}\n\n' % (middle, usage)
    )
    passed = b""
    for start in range(0, len(started), 50_000):
        passed += observer.feed(started[start : start + 50_000])
        if passed:  # the client gets the id with these bytes
            assert observer.named is not None
            assert observer.named.id == "r"
    assert (observer.model, observer.service_tier, observer.finished) == ("gpt-5", None, False)
    for start in range(0, len(last), 50_000):
        passed += observer.feed(last[start : start + 50_000])
    assert passed == started + last
    assert observer.outcome[3:5] == ("priority", "gpt-5")
    assert observer.usage is not None
    assert (observer.usage.prompt_tokens, observer.usage.completion_tokens) == (9, 8)
    assert (observer.blind, observer.finished, observer.done) == (True, True, True)
    assert observer.last is not None
    assert observer.last.finish_reason == "stop"


def test_the_tier_of_an_oversized_chunk_is_read() -> None:
    observer = StreamObserver(strip_usage=False)
    delta = b'{"choices":[{"delta":{"content":"%b"}}],' % (b"x" * MAX_EVENT_BYTES)
    for piece in (b"data: " + delta, b'"service_tier":"priority","model":"gpt-5"}\n\n'):
        observer.feed(piece)
    assert (observer.service_tier, observer.model) == ("priority", "gpt-5")
