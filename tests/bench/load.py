"""The load of the benchmark: a mock upstream, clients in a closed loop, and their requests.

    uvloop.run(run_upstream(port))                  # in its own process
    load = Load(port, requests, stream=False)
    uvloop.run(load.run(clients=64, seconds=3.0))   # then load.latencies, load.answers …

Clients and mock share one core, so both do as little work as possible: no HTTP library, minimal
parsing, and only times are stored. Of an answer they check the status and the end. 256 streams with
a chunk every 10 ms are 25,600 chunks a second. The `direct` row shows whether the load kept up.
"""

import asyncio
import random
import re
import socket
import time
from collections.abc import Iterable, Iterator
from itertools import count, cycle
from typing import Any, Final

import msgspec

from proxy.server.accepting import Acceptor

STREAM_CHUNKS: Final = 64
CHUNK_SECONDS: Final = 0.010
_TICK_SECONDS: Final = 0.001
RECURRING: Final = 50  # prompts that repeat
KEY: Final = "sk-9ad3f1c07b52e86d41f0a5c2b7e69d38"  # of the clients; some peers refuse simple keys

WORDS: Final = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had an they which one you were all her she there would their we him been has when who will no "
    "more if out so up said what its about than into them can only other time new some could these "
    "two may first then do any like my now over such our man me even most made after also did many "
    "function matrix prove integral theorem list python sort write email capital explain summarise"
).split()
SIMPLE_WORDS: Final = WORDS[:100]  # each of them is one token


# ── Requests ──────────────────────────────────────────────────────────────────────────────────


def make_prompts(seed: int) -> Iterator[str]:
    """Yield different prompts with realistic lengths: half have less than about 40 tokens, a few
    have 2,000."""
    rng = random.Random(seed)
    for number in count():
        words = min(1600, max(3, round(rng.lognormvariate(3.5, 1.1))))
        yield " ".join(rng.choices(WORDS, k=words)) + f" {number}?"


def make_requests(
    *,
    model: str,
    stream: bool = False,
    unique: bool = False,
    headers: bytes = b"",
    chunk_seconds: float = CHUNK_SECONDS,
    chunks: int = STREAM_CHUNKS,
) -> Iterator[bytes]:
    """Yield chat requests as bytes on the wire, without end.

    Args:
        unique: every prompt is new; otherwise `RECURRING` prompts repeat. Use one iterator for all
            measurements: a second one would start with known prompts.
        headers: more header lines, each with its line break.
        chunk_seconds, chunks: of a stream, from the mock.
    """
    paced = (chunk_seconds, chunks) != (CHUNK_SECONDS, STREAM_CHUNKS)
    # Fields that every gateway passes on.
    pace = {"seed": round(chunk_seconds / _TICK_SECONDS), "max_tokens": chunks} if paced else {}

    def encode(prompt: str) -> bytes:
        body = msgspec.json.encode(
            {
                "model": model,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": 0.7,
                "stream": stream,
                **pace,
            }
        )
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\nauthorization: Bearer %b\r\n"
            b"%bcontent-length: %d\r\n\r\n%b" % (KEY.encode(), headers, len(body), body)
        )

    prompts = make_prompts(seed=1 if unique else 2)
    if unique:
        return map(encode, prompts)
    return cycle([encode(next(prompts)) for _ in range(RECURRING)])


# ── Answers ───────────────────────────────────────────────────────────────────────────────────

MARK: Final = b'"@'  # precedes the send time of a chunk; occurs nowhere else in a stream
_DIGITS: Final = 19
_STAMP: Final = len(MARK) + _DIGITS
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class StreamReader:
    """Parses the send times of a stream's chunks, however the network split the stream."""

    __slots__ = ("_rest", "is_whole")

    def __init__(self) -> None:
        self._rest = b""
        self.is_whole = False

    def feed(self, data: bytes) -> list[int]:
        """Return the send times, in monotonic nanoseconds, of the chunks completed by this data."""
        data = self._rest + data
        times = []
        done = 0
        at = data.find(MARK)
        while at >= 0 and at + _STAMP <= len(data):
            done = at + _STAMP
            times.append(int(data[at + len(MARK) : done]))
            at = data.find(MARK, done)
        self.is_whole = data.endswith(_LAST_CHUNK)
        # A timestamp or the end of the stream may be incomplete.
        self._rest = data[max(done, len(data) - _STAMP + 1) :]
        return times


class AnswerReader:
    """Detects the end of a non-streamed answer without storing it."""

    __slots__ = ("_head", "_missing", "_tail")

    def __init__(self) -> None:
        self._head: bytes | None = b""
        self._missing = 0
        self._tail: bytes | None = None  # of a body without a length

    def feed(self, data: bytes) -> bool:
        """Return whether the answer is complete."""
        if self._head is not None:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return False
            self._head = None
            length = _LENGTH.search(data, 0, end + 2)
            if length is None:
                self._tail = b""
                data = data[end + 2 :]  # an empty body is the last chunk alone
            else:
                self._missing = int(length[1]) + end + 4
        if self._tail is None:
            self._missing -= len(data)
            return self._missing <= 0
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        return self._tail == _LAST_CHUNK


# ── The clients ───────────────────────────────────────────────────────────────────────────────


class Load:
    """Clients that load one port for some seconds. Times are in nanoseconds.

    Attributes:
        answers: the number of complete answers.
        latencies: from a request to the end of its answer; for a stream to its first event.
        first_transits: from sending a stream's first token at the upstream to its arrival.
        transits: the same for all other tokens.
        chunks_in_time: chunks that arrived while all streams ran, within `steady_seconds`.
    """

    def __init__(self, port: int, requests: Iterable[bytes], *, stream: bool) -> None:
        self.port, self.stream = port, stream
        self.requests = iter(requests)
        self.latencies: list[int] = []
        self.first_transits: list[int] = []
        self.transits: list[int] = []
        self.answers = 0
        self.chunks_in_time = 0
        self.steady_seconds = 0.0
        self.end = 0.0
        self.steady_from = float("inf")
        self.failure: str | None = None
        self._open = 0
        self._over = asyncio.Event()

    async def run(self, clients: int, seconds: float) -> None:
        """Run until the time is over and every client has its last answer.

        Raises:
            ConnectionError: an answer was an error or missing.
        """
        loop = asyncio.get_running_loop()
        kind = _StreamClient if self.stream else _Client
        self._open = clients
        ramp = STREAM_CHUNKS * CHUNK_SECONDS if self.stream and clients > 1 else 0.0
        started = time.monotonic()
        self.end = started + ramp + seconds
        for number in range(clients):
            if ramp:  # spread over a stream's length, or all would start together
                await asyncio.sleep(started + ramp * number / clients - time.monotonic())
            await loop.create_connection(lambda: kind(self), "127.0.0.1", self.port)
        self.steady_from = time.monotonic()
        self.steady_seconds = max(0.0, self.end - self.steady_from)
        await self._over.wait()
        if self.failure is not None:
            raise ConnectionError(self.failure)

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        self.end = 0.0

    def client_closed(self) -> None:
        self._open -= 1
        if self._open == 0 or self.failure is not None:
            self._over.set()


class _Client(asyncio.Protocol):
    """A keep-alive connection in a closed loop: a request, its answer, the next request."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.asked = 0
        self.is_answered = True

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.asked = time.monotonic_ns()
        if self.asked >= self.load.end * 1e9:
            self.transport.close()
            return
        self.is_answered = False
        self.begin()
        self.transport.write(next(self.load.requests))

    def begin(self) -> None:
        self.reader = AnswerReader()
        self.is_begun = False

    def data_received(self, data: bytes) -> None:
        if not self.is_begun:
            self.check(data)
        if self.reader.feed(data):
            self.load.latencies.append(time.monotonic_ns() - self.asked)
            self.answered()

    def check(self, data: bytes) -> None:
        self.is_begun = True
        if not data.startswith(b"HTTP/1.1 200"):
            self.load.fail(f"an answer was not 200: {data[:300]!r}")
            self.transport.close()

    def answered(self) -> None:
        self.is_answered = True
        self.load.answers += 1
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_answered:
            self.load.fail(f"the server closed the connection: {error}")
        self.load.client_closed()


class _StreamClient(_Client):
    """The same with streams."""

    def begin(self) -> None:
        self.stream = StreamReader()
        self.is_begun = self.has_event = self.has_token = False

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.is_begun:
            self.check(data)
        load = self.load
        sent = self.stream.feed(data)
        if not self.has_event and b"data: " in data:
            self.has_event = True
            load.latencies.append(now - self.asked)
        if sent:
            if load.steady_from * 1e9 <= now < load.end * 1e9:
                load.chunks_in_time += len(sent)
            if not self.has_token:
                self.has_token = True
                load.first_transits.append(now - sent.pop(0))
            for when in sent:
                load.transits.append(now - when)
        if self.stream.is_whole:
            self.answered()


class Probe(asyncio.Protocol):
    """A separate connection that sends a cheap request at a fixed interval.

    It measures round trips, including waits for both event loops. If an answer takes longer than
    the interval, the missed requests are skipped.
    """

    def __init__(self, path: str, *, every_seconds: float) -> None:
        self._request = b"GET %b HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % path.encode()
        self._every = every_seconds
        self._asked = 0
        self._reader = AnswerReader()
        self._timer: asyncio.TimerHandle | None = None
        self.latencies: list[int] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._ask()

    def _ask(self) -> None:
        self._reader = AnswerReader()
        self._asked = time.monotonic_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._reader.feed(data):
            self.latencies.append(time.monotonic_ns() - self._asked)
            now = self._loop.time()
            self._due += self._every * (1 + max(0, (now - self._due) // self._every))
            self._timer = self._loop.call_at(self._due, self._ask)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()


# ── The mock upstream ─────────────────────────────────────────────────────────────────────────

_ABOUT: Final = b'"id":"chatcmpl-bench","created":0,"model":"mock"'
_USAGE: Final = b'"usage":{"prompt_tokens":42,"completion_tokens":64,"total_tokens":106}'
_ANSWER: Final = (
    b'{"object":"chat.completion",%b,"choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"%b"},"finish_reason":"stop"}],%b}'
    % (_ABOUT, b"All happy families are alike. " * 5, _USAGE)
)
_WHOLE: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
    % (
        len(_ANSWER),
        _ANSWER,
    )
)


def _event(data: bytes) -> bytes:
    data = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _chunk(choice: bytes, *more: bytes) -> bytes:
    about = b'{"object":"chat.completion.chunk",' + _ABOUT
    return _event(b",".join((about + b',"choices":[' + choice + b"]", *more)) + b"}")


_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_FIRST: Final = _STREAM_HEAD + _chunk(
    b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'
)
# The time replaces the zeros.
_BEFORE, _AFTER = _chunk(
    b'{"index":0,"delta":{"content":%b%b "},"finish_reason":null}' % (MARK, b"0" * _DIGITS)
).split(b"0" * _DIGITS)
_FINISH: Final = _chunk(b'{"index":0,"delta":{},"finish_reason":"stop"}')
_COUNTED: Final = _chunk(b"", _USAGE)
_DONE: Final = _event(b"[DONE]") + b"0\r\n\r\n"
_STREAMS: Final = re.compile(rb'"stream": ?true')
_TICKS: Final = re.compile(rb'"seed": ?(\d+)')
_CHUNKS: Final = re.compile(rb'"max_tokens": ?(\d+)')


class _Upstream(asyncio.Protocol):
    """Answers immediately. A stream starts with an empty chunk, as OpenAI's do; then it sends
    chunks with their send times. Their number is `max_tokens`, or `STREAM_CHUNKS`; their interval
    is `seed` in milliseconds, or `CHUNK_SECONDS`."""

    def __init__(self, clock: "_Clock") -> None:
        self.clock = clock
        self.buffer = b""
        self.missing = 0
        self.counts = False
        self.is_lost = False

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        length = _LENGTH.search(data, 0, end + 2)
        if length is not None:
            is_whole = len(data) >= end + 4 + int(length[1])
        else:  # without a body, or with a chunked one
            is_whole = data.startswith(b"GET ") or data.endswith(_LAST_CHUNK)
        if not is_whole:
            self.buffer = data
            return
        self.buffer = b""
        if _STREAMS.search(data, end) is None:
            self.write(_WHOLE)
            return
        self.counts = data.find(b'"include_usage"', end) >= 0
        chunks, ticks = _CHUNKS.search(data, end), _TICKS.search(data, end)
        self.missing = int(chunks[1]) if chunks else STREAM_CHUNKS
        self.write(_FIRST)
        self.clock.add(self, int(ticks[1]) if ticks else round(CHUNK_SECONDS / _TICK_SECONDS))

    def send_chunk(self) -> bool:
        """Send one chunk; return whether more follow."""
        if self.is_lost:
            return False
        if self.missing == 0:
            self.write(_FINISH + (_COUNTED if self.counts else b"") + _DONE)
            return False
        self.missing -= 1
        self.write(b"%b%019d%b" % (_BEFORE, time.monotonic_ns(), _AFTER))
        return True


class _Clock:
    """One timer for all streams, instead of one for each chunk."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # By interval, in ticks: the streams that send in each tick of it.
        self._streams: dict[int, list[list[_Upstream]]] = {}
        self._ticks = 0
        self._running = 0
        self._started = 0.0

    def add(self, stream: _Upstream, interval: int) -> None:
        """Make a stream send a chunk in each interval, the first after one. In ticks."""
        if interval not in self._streams:
            self._streams[interval] = [[] for _ in range(interval)]
        self._streams[interval][self._ticks % interval].append(stream)
        self._running += 1
        if self._running == 1:
            self._started = self._loop.time() - self._ticks * _TICK_SECONDS
            self._wait()

    def _wait(self) -> None:
        self._loop.call_at(self._started + (self._ticks + 1) * _TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        for interval, slots in self._streams.items():
            streams = slots[self._ticks % interval]
            if streams:
                running = [stream for stream in streams if stream.send_chunk()]
                self._running -= len(streams) - len(running)
                slots[self._ticks % interval] = running
        if self._running:
            self._wait()


async def run_upstream(port: int) -> None:
    """Serve until cancelled."""
    clock = _Clock()
    listening = socket.create_server(("127.0.0.1", port))
    # uvloop's own server accepts one connection a turn: bursts would measure the mock.
    acceptor = Acceptor([listening], lambda: _Upstream(clock))
    try:
        await asyncio.Event().wait()
    finally:
        acceptor.close()
