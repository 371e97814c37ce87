"""Relay of answers from the upstream to the client, with unchanged bytes.

A complete answer is read, viewed and sent. A stream is held until its first content, so that a
fallback is still possible, and then relayed event by event. The `StreamObserver` reads
usage, text and the finish. It removes the usage chunk that the proxy requested and the client did
not, and renames ids where needed. Events that it cannot read pass unchanged.

Sources: the WHATWG event-stream format; OpenAI's clients, which stop at `[DONE]` and raise
`APIError` on a `data: {"error": …}` event.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from proxy.errors import UpstreamError, UpstreamInterrupted
from proxy.protocol import AnswerView, Usage
from proxy.protocol.endpoints import CHAT, Endpoint
from proxy.record import CallRecord, Ending

MAX_EVENT_BYTES: Final = 2**20
MAX_HELD_BYTES: Final = 2**16  # of a stream without content
MAX_TEXT_CHARS: Final = 2**20  # of an answer's text, for its row; no model writes as much

# Two line ends, each of CRLF, LF or CR. The first CR must not be the first half of a CRLF.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_KEEP_ALIVE: Final = b": keep-alive\n\n"


class Outcome(NamedTuple):
    """What is billed of an answer, or of the part of it that was seen."""

    usage: Usage | None = None
    text: str = ""
    other_text: str = ""  # reasoning and tool calls, which are output too
    service_tier: str | None = None
    model: str | None = None  # that answered

    @classmethod
    def of(cls, view: AnswerView | None) -> "Outcome":
        """The outcome of a complete answer."""
        if view is None:
            return cls()
        text, other_text = view.text[:MAX_TEXT_CHARS], view.other_text[:MAX_TEXT_CHARS]
        return cls(view.usage, text, other_text, view.service_tier, view.model)


Settle = Callable[[Outcome], None]
Note = Callable[[AnswerView | None], None]
# Takes an event or a complete answer, and the JSON in it; returns it with other ids.
Rename = Callable[[bytes, bytes], bytes]


class UpstreamReader(Protocol):
    """The answer of an upstream, such as `upstream.UpstreamResponse`."""

    @property
    def upstream_name(self) -> str:
        """The tier's name, for messages."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All response headers, in order, as sent."""

    def headers_for_client(self) -> list[tuple[bytes, bytes]]:
        """The headers that the client may have."""

    @property
    def is_event_stream(self) -> bool:
        """Whether the content type is that of an event stream."""

    @property
    def is_page(self) -> bool:
        """Whether the content type is that of a web page."""

    async def next_chunk(self) -> bytes:
        """The next bytes of the body; b"" at its end."""

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Pass chunks to `take` as they arrive, until it returns False.

        Returns False at the end of the body.
        """

    async def read(self) -> bytes:
        """The whole body."""

    async def next_chunk_by(self, due: float) -> bytes | None:
        """As `next_chunk`; None when nothing has arrived by `due`, in the loop's time."""

    def mark_started(self) -> None:
        """Switch from the first-token timeout to the idle timeout."""


class ResponseWriter(Protocol):
    """The answer to a client."""

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a complete answer, with its content-length."""

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status and headers; they cannot change afterwards."""

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a chunk of the body; the last one with `more=False`."""

    def send_now(self, data: bytes) -> bool:
        """Send a chunk of the body without waiting.

        Returns False, and sends nothing, for a client that reads slowly or has disconnected.
        """


class StreamObserver:
    """Observes a stream of server-sent events.

    `feed` takes the received bytes and returns the bytes to send. Incomplete events are buffered.
    After an event longer than `MAX_EVENT_BYTES` it stops observing and passes everything.
    """

    __slots__ = (
        "_endpoint",
        "_half",
        "_other_texts",
        "_rename",
        "_shape",
        "_strip_usage",
        "_tail",
        "_text_left",
        "_texts",
        "began",
        "blind",
        "done",
        "failed",
        "finished",
        "last",
        "model",
        "service_tier",
        "spoke",
        "usage",
    )

    def __init__(
        self,
        endpoint: Endpoint = CHAT,
        *,
        strip_usage: bool,
        rename: Rename | None = None,
        max_text_chars: int = MAX_TEXT_CHARS,
    ) -> None:
        self._endpoint = endpoint
        self._rename = rename
        self._strip_usage = strip_usage
        self._tail = b""
        # What becomes of an LF that comes next: it belongs to the CR that ended the last event.
        self._half: bool | None = None
        self._shape: _Shape | None = None  # of the last event with text
        self._texts: list[str] = []
        self._text_left = max_text_chars
        self._other_texts: list[str] = []
        self.model: str | None = None  # that answered, as the usage or the finish names it
        self.usage: Usage | None = None
        self.service_tier: str | None = None  # the last one, sent with the usage or the finish
        self.began = False  # whether an event has passed, perhaps without content
        self.spoke = False  # whether content that a client would show has passed
        self.finished = False  # whether a choice had its finish_reason
        self.last: AnswerView | None = None  # the event that did
        self.done = False  # whether [DONE], or the last event of a stream without it, has passed
        self.failed = False  # whether the upstream sent an error event
        self.blind = False

    @property
    def text(self) -> str:
        """The answer's text so far, up to the limit."""
        return "".join(self._texts)

    @property
    def outcome(self) -> Outcome:
        """What is billed, as far as it was seen."""
        other_text = "".join(self._other_texts)
        return Outcome(self.usage, self.text, other_text, self.service_tier, self.model)

    @property
    def is_known(self) -> bool:
        """Whether the stream is known to be an answer, or to have failed."""
        return self.spoke or self.complete or self.failed

    @property
    def complete(self) -> bool:
        """Whether the stream may end here. Interrupted streams have neither a finish nor [DONE]."""
        return self.done or self.finished or self.blind

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those to send now."""
        if self.blind:
            return data
        if self._half is not None and data:
            return self._feed_second_half(data)
        if not self._tail and 0 < data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            return self._look(data)  # one complete event, as most chunks are
        buffer = self._tail + data if self._tail else data
        parts: list[bytes] = []
        start = copied = 0
        # The buffered bytes contain no event end, at most its first bytes. They may be a megabyte.
        unsearched = max(0, len(self._tail) - 3)
        plain = b"\r" not in buffer
        while (end := _find_end(buffer, max(start, unsearched), plain=plain)) != -1:
            event = buffer[start:end]
            relayed = self._look(event)
            if relayed is not event:
                parts += (buffer[copied:start], relayed)
                copied = end
            start = end
            if not plain and end == len(buffer) and event.endswith(b"\r"):
                self._half = bool(relayed)
        self._tail = buffer[start:]
        if len(self._tail) > MAX_EVENT_BYTES:
            self.blind, start, self._tail = True, len(buffer), b""
        if not parts:
            return buffer[:start] if start < len(buffer) else buffer
        parts.append(buffer[copied:start])
        return b"".join(parts)

    def _feed_second_half(self, data: bytes) -> bytes:
        """Feed bytes behind an event that ended with CR."""
        is_passed, self._half = self._half, None
        if not data.startswith(b"\n"):
            return self.feed(data)
        rest = self.feed(data[1:]) if len(data) > 1 else b""
        return b"\n" + rest if is_passed else rest

    def flush(self) -> bytes:
        """The buffered rest at the end: a last event may lack its blank line."""
        tail, self._tail = self._tail, b""
        last = self._look(tail) if tail.strip() else b""
        return last if self.complete or self.failed else b""

    def _look(self, event: bytes) -> bytes:
        """Observe one event. Returns the bytes for the client, mostly the event itself."""
        if self._shape is not None and (text := self._shape.text_of(event)) is not None:
            self._text_left -= len(text)
            if self._text_left >= 0:
                self._texts.append(text)
            return event
        data = _data_of(event)
        if not data:
            self.began = self.began or bool(event.strip())  # a comment is a sign of life
            return event
        if data == b"[DONE]":
            self.done = True
            return event
        if self._rename is not None:
            event = self._rename(event, data)
            data = _data_of(event)
        view = self._endpoint.view(data)
        if view is None:
            return event
        self._shape = _Shape.of(event, view) if self._rename is None else None
        if not self.spoke:
            self.spoke = view.speaks or self._endpoint.has_output(data)
        return event if self._observe(view) else b""

    def _observe(self, view: AnswerView) -> bool:
        self.began = True
        if view.failed:
            self.failed = True
        if (usage := view.usage) is not None:
            self.usage = usage
            self.service_tier = view.service_tier or self.service_tier
            self.model = view.model or self.model
        if view.finished:
            self.service_tier = view.service_tier or self.service_tier
            self.model = view.model or self.model
            self.finished, self.last = True, view
            self.done = self.done or not self._endpoint.ends_with_done
        if text := view.text:
            self._text_left -= len(text)
            if self._text_left >= 0:
                self._texts.append(text)
        elif other_text := view.other_text:
            self._text_left -= len(other_text)
            if self._text_left >= 0:
                self._other_texts.append(other_text)
        return not (self._strip_usage and view.is_usage_only)


class _Shape(NamedTuple):
    """The bytes of an event around its text.

    Most events of a stream differ in their text only. An event of the same shape is not decoded,
    which saves half of the cost of a chunk.
    """

    before: bytes
    behind: bytes

    @classmethod
    def of(cls, event: bytes, view: AnswerView) -> "_Shape | None":
        """The shape of an event with text and nothing else; None for others."""
        text = view.text
        if (
            not text
            or not _is_plain(text)
            or view.usage is not None
            or view.finished
            or view.failed
        ):
            return None
        encoded = text.encode()
        for key in (b'"content":"', b'"content": "'):
            quoted = key + encoded + b'"'
            if event.count(quoted) == 1:
                start = event.index(quoted) + len(key)
                return cls(event[:start], event[start + len(encoded) :])
        return None

    def text_of(self, event: bytes) -> str | None:
        """The text of an event of this shape; None for other events and for escaped text."""
        before, behind = self
        end = len(event) - len(behind)
        if end < len(before) or not event.startswith(before) or not event.endswith(behind):
            return None
        try:
            text = event[len(before) : end].decode()
        except UnicodeDecodeError:
            return None
        return text if _is_plain(text) else None


def _is_plain(text: str) -> bool:
    """Whether a text needs no escapes in JSON."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _data_of(event: bytes) -> bytes:
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2].strip()  # one line, as in nearly all events
    lines = event.strip(b"\r\n").splitlines()
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def _find_end(buffer: bytes, start: int, *, plain: bool) -> int:
    """The index after the first blank line from `start`; -1 without one."""
    if plain:
        index = buffer.find(b"\n\n", start)
        return index + 2 if index != -1 else -1
    match = _EVENT_END.search(buffer, start)
    return match.end() if match is not None else -1


class CompleteResponse(NamedTuple):
    """A complete answer, of which nothing was sent yet."""

    body: bytes
    view: AnswerView | None
    succeeded: bool

    @property
    def error(self) -> bytes | None:
        """The body of an error; None for a success."""
        return None if self.succeeded else self.body


class StreamHold:
    """Keeps a client's connection alive while a stream without output is held.

    After a time it sends the status, the headers and the stream's comments, which clients ignore;
    later a comment at least as often. Events stay held, so that another attempt, of the other tier
    too, can still be the answer.

    Args:
        seconds: before the headers are sent, and between comments.
    """

    def __init__(self, reply: "ResponseWriter", record: CallRecord, *, seconds: float) -> None:
        self._reply = reply
        self._record = record
        self._seconds = seconds
        self._clock = asyncio.get_running_loop().time
        self.is_started = False
        self.due = self._clock() + seconds

    @property
    def is_due(self) -> bool:
        """Whether the client waits for a sign of life."""
        return self._clock() >= self.due

    async def send(self, response: UpstreamReader, comments: bytes) -> None:
        """Send comments, behind the headers of the first response that was held."""
        if not self.is_started:
            self.is_started = True
            self._record.status, self._record.streamed = response.status, True
            await self._reply.start(response.status, _stream_headers(response, self._record))
        await self._reply.send(comments or _KEEP_ALIVE, more=True)
        self.due = self._clock() + self._seconds


class StreamStart(NamedTuple):
    """The start of a stream: its observer, and the bytes that were held."""

    observer: StreamObserver
    held: bytes

    @property
    def error(self) -> bytes | None:
        """The event of a stream that failed before any content; None otherwise."""
        return self.held if self.observer.failed and not self.observer.spoke else None


async def read_start(
    response: UpstreamReader,
    endpoint: Endpoint = CHAT,
    *,
    strip_usage: bool,
    rename: Rename | None = None,
    hold: StreamHold | None = None,
) -> CompleteResponse | StreamStart:
    """Read a complete answer, or a stream until its first content, tool call or finish.

    This does not delay the content, because servers send only empty events before it. A fallback is
    possible only until then. The first event of any kind ends the first-token timeout: a model with
    hidden reasoning sends at most keep-alives.

    Raises:
        UpstreamError: the answer ended, was interrupted or timed out before that; or it is a
            web page in the place of an answer, such as the login page of a network.
    """
    if not is_stream(response):
        if 200 <= response.status < 300 and response.is_page:
            raise _page(response)
        response.mark_started()
        body = await response.read()
        if rename is not None:
            body = rename(body, body)
        view = endpoint.view(body)
        # Some servers send errors with status 200.
        failed = view is not None and view.failed
        return CompleteResponse(body, view, succeeded=200 <= response.status < 300 and not failed)
    observer = StreamObserver(endpoint, strip_usage=strip_usage, rename=rename)
    held = b""
    while not observer.is_known and len(held) < MAX_HELD_BYTES:
        chunk = (
            await response.next_chunk() if hold is None else await response.next_chunk_by(hold.due)
        )
        if chunk is not None:
            held += observer.feed(chunk) if chunk else observer.flush()
        if observer.began:
            response.mark_started()
        if observer.is_known:
            break
        if chunk == b"":
            raise _unfinished(response)
        if hold is not None and (hold.is_started or hold.is_due):
            comments, held = _split_comments(held)
            if comments or hold.is_due:
                await hold.send(response, comments)
    response.mark_started()
    return StreamStart(observer, held)


def _split_comments(events: bytes) -> tuple[bytes, bytes]:
    """The comments among complete events, and the other events."""
    comments: list[bytes] = []
    others: list[bytes] = []
    start = 0
    for match in _EVENT_END.finditer(events):
        event = events[start : match.end()]
        (comments if event.startswith(b":") and not _data_of(event) else others).append(event)
        start = match.end()
    others.append(events[start:])
    return b"".join(comments), b"".join(others)


async def relay_complete(
    response: UpstreamReader,
    complete: CompleteResponse,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    settle: Settle,
    note: Note,
) -> None:
    """Settle the record, then relay status, headers and body unchanged.

    Args:
        settle: enters tokens and dollars into the record.
        note: called with the answer before the client gets it, because it may then continue it.
    """
    body, view, succeeded = complete
    note(view)
    record.close_upstream()
    record.status = response.status
    if succeeded:
        settle(Outcome.of(view))
    headers = response.headers_for_client() + record.router_headers() + record.cost_headers()
    await reply.answer(response.status, headers, body)
    if succeeded:
        record.finish(Ending.OK)
    else:
        kind = f"{response.status // 100}xx" if response.status >= 400 else "error"
        record.finish(Ending.UPSTREAM_ERROR, error_code=f"upstream_{kind}")


async def relay_stream(
    response: UpstreamReader,
    head: StreamStart,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    settle: Settle,
    note: Note,
    is_started: bool = False,
) -> None:
    """Relay a stream event by event, the held bytes first.

    Args:
        settle: enters tokens and dollars into the record.
        is_started: whether the client has the headers.
        note: called with the last event before the client gets it, because it may then disconnect.

    Raises:
        RouterError: the stream failed. The caller sends the error event and finishes the record.
    """
    observer = head.observer
    record.status, record.streamed = response.status, True
    if observer.spoke:
        record.ttft_ms = record.elapsed_ms()
    if not is_started:
        await reply.start(response.status, _stream_headers(response, record))
    chunk_to_send = head.held
    is_noted = False

    def take(chunk: bytes) -> bool:
        """Send a chunk at once. Returns False when sending needs to wait."""
        nonlocal chunk_to_send
        chunk_to_send = observer.feed(chunk)
        if observer.spoke and record.ttft_ms is None:
            record.ttft_ms = record.elapsed_ms()
        return not observer.done and reply.send_now(chunk_to_send)

    try:
        while True:
            if observer.done and not is_noted:
                note(observer.last)
                is_noted = True
            if chunk_to_send:
                await reply.send(chunk_to_send, more=True)
            if observer.done:
                # Clients disconnect at [DONE], often before the end of the upstream's connection.
                _finish(record, observer)
            try:
                if not await response.pump(take):
                    break
            except UpstreamError:
                if not observer.done:
                    raise
                break  # the answer was complete: a later error does not matter to the client
        last = observer.flush()
        if not observer.complete and not observer.failed:
            raise _unfinished(response)
        if not is_noted:
            note(observer.last)
        await reply.send(last, more=False)
        _finish(record, observer)
    finally:
        record.close_upstream()
        settle(observer.outcome)


async def relay_untouched(
    response: UpstreamReader, reply: ResponseWriter, record: CallRecord
) -> None:
    """Relay an answer of any type, chunk by chunk, without viewing it.

    Raises:
        UpstreamError: the answer was interrupted.
    """
    record.status = response.status
    headers = response.headers_for_client() + record.router_headers()
    by_name = {name.lower(): value for name, value in response.headers}
    if b"content-encoding" not in by_name and b"content-length" in by_name:
        headers.append((b"content-length", by_name[b"content-length"]))
    await reply.start(response.status, headers)
    while chunk := await response.next_chunk():
        await reply.send(chunk, more=True)
    await reply.send(b"", more=False)
    if response.status < 400:
        record.finish(Ending.OK)
    else:
        record.finish(Ending.UPSTREAM_ERROR, error_code=f"upstream_{response.status // 100}xx")


def error_of_complete(response: UpstreamReader, complete: CompleteResponse) -> UpstreamError:
    """The error that a complete answer is to a client whose stream has begun."""
    what = "sent an answer that is not a stream"
    if not complete.succeeded:
        what = f"answered with an error, status {response.status}"
    return UpstreamInterrupted(
        f"The {response.upstream_name} upstream {what}.", upstream=response.upstream_name
    )


def _stream_headers(response: UpstreamReader, record: CallRecord) -> list[tuple[bytes, bytes]]:
    headers = response.headers_for_client() + record.router_headers()
    return [*headers, (b"x-accel-buffering", b"no")]


def _finish(record: CallRecord, observer: StreamObserver) -> None:
    if observer.failed:
        record.finish(Ending.UPSTREAM_ERROR, error_code="upstream_error")
    else:
        record.finish(Ending.OK)


def _unfinished(response: UpstreamReader) -> UpstreamInterrupted:
    return UpstreamInterrupted(
        f"The {response.upstream_name} upstream ended its stream without finishing the answer.",
        upstream=response.upstream_name,
    )


def _page(response: UpstreamReader) -> UpstreamInterrupted:
    return UpstreamInterrupted(
        f"The {response.upstream_name} upstream answered with a web page. Check its base_url, and "
        "whether a proxy or a login page is in front of it.",
        upstream=response.upstream_name,
    )


def is_stream(response: UpstreamReader) -> bool:
    """Whether an answer is relayed as a stream: a success with that content type."""
    return 200 <= response.status < 300 and response.is_event_stream
