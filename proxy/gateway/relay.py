"""Relay of answers from the upstream to the client, with unchanged bytes.

A complete answer is read, viewed and sent. A stream is held until its first content, so that a
fallback is still possible, and then relayed event by event. `stream_observer` reads the events.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from proxy.errors import DO_NOT_RETRY, NotAnAnswer, UpstreamError, UpstreamInterrupted
from proxy.gateway.large_bodies import run_large
from proxy.gateway.stream_observer import Outcome, Rename, StreamObserver, split_comments
from proxy.protocol import AnswerView
from proxy.protocol.endpoints import CHAT, Endpoint
from proxy.protocol.refusals import MAX_ERROR_BYTES, read_refusal
from proxy.record import CallRecord, Ending

logger = logging.getLogger(__name__)

MAX_HELD_BYTES: Final = 2**16  # of a stream without content
MAX_WHOLE_BYTES: Final = 2**24  # of a stream that is held until its end
MAX_QUOTED_CHARS: Final = 300  # of an upstream's error
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_EVENT_STREAM: Final = [(b"content-type", b"text/event-stream; charset=utf-8")]


Settle = Callable[[Outcome], None]
Note = Callable[[AnswerView | None], Awaitable[None]]
# The status and the body of an error as the text that the record keeps.
Describe = Callable[[int, bytes], str | None]


def _say_nothing(_status: int, _body: bytes) -> None:
    """Describes no error."""


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

    def headers_of_download(self) -> list[tuple[bytes, bytes]]:
        """The same for a file, which a browser saves if it could render it as a page."""

    @property
    def is_event_stream(self) -> bool:
        """Whether the content type is that of an event stream."""

    @property
    def is_page(self) -> bool:
        """Whether a browser would render the content type as a page, which may have scripts."""

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

    def mark_alive(self) -> None:
        """Restart the first-token timeout."""

    def mark_started(self) -> None:
        """Switch from the first-token timeout to the idle timeout."""

    def fail(self) -> None:
        """Count the answer as a failure of its server: it cannot be used."""


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


class CompleteResponse(NamedTuple):
    """A complete answer, of which nothing was sent yet.

    Attributes:
        is_answer: whether a success status came with what the endpoint answers with.
    """

    body: bytes
    view: AnswerView | None
    succeeded: bool
    is_answer: bool = True

    @property
    def error(self) -> bytes | None:
        """The body of an error; None for a success."""
        return None if self.succeeded else self.body

    @property
    def size(self) -> int:
        """The bytes of the answer."""
        return len(self.body)


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

    @property
    def seconds_left(self) -> float:
        """Until a sign of life is due."""
        return max(0.0, self.due - self._clock())

    async def send(self, response: UpstreamReader | None, comments: bytes) -> None:
        """Send comments, behind the headers of the first response that was held.

        Args:
            response: None before there is one; the headers are then the proxy's.
        """
        if not self.is_started:
            self.is_started = True
            status = 200 if response is None else response.status
            self._record.status, self._record.streamed = status, True
            await self._reply.start(status, _stream_headers(response, self._record))
        await self._reply.send(comments or _KEEP_ALIVE, more=True)
        self.due = self._clock() + self._seconds


class StreamStart(NamedTuple):
    """The start of a stream: its observer, and the bytes that were held.

    Attributes:
        is_whole: whether that is all of the stream, and no byte of it was sent.
    """

    observer: StreamObserver
    held: bytes
    is_whole: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether it has output or a finish, is an error that clients know, or is yet unknown."""
        return self.observer.is_answer or not self.observer.is_known

    @property
    def size(self) -> int:
        """The characters of the text so far."""
        return len(self.observer.text)

    @property
    def error(self) -> bytes | None:
        """The event of a stream that failed before any content; None otherwise."""
        return self.held if self.observer.failed and not self.observer.spoke else None


async def read_start(
    response: UpstreamReader,
    endpoint: Endpoint = CHAT,
    observer: StreamObserver | None = None,
    *,
    rename: Rename | None = None,
    hold: StreamHold | None = None,
) -> CompleteResponse | StreamStart:
    """Read a complete answer, or a stream until its first content, tool call or finish.

    This does not delay the content, because servers send only empty events before it. A fallback is
    possible only until then. The first-token timeout limits each silence until then: a model with
    hidden reasoning sends the role and then at most comments.

    Args:
        observer: of the stream, if the client asked for one.
        rename: replaces the ids in a complete answer.

    Raises:
        NotAnAnswer: a success status came with a web page, such as the login page of a network.
        UpstreamError: the answer ended, was interrupted or timed out before that.
    """
    if not is_stream(response):
        if 200 <= response.status < 300 and response.is_page:
            raise _page(response)
        response.mark_started()
        body = await response.read()
        if rename is not None:
            body = await run_large(len(body), partial(rename, body, body))
        view = endpoint.view(body)
        is_success = 200 <= response.status < 300
        is_answer = not is_success or (view is not None and endpoint.is_answer(view, body))
        # Some servers send errors with status 200. A response may be complete and have failed.
        failed = view is not None and view.failed and not view.is_bare_error
        succeeded = is_success and not failed
        return CompleteResponse(body, view, succeeded=succeeded, is_answer=is_answer)
    if observer is None:  # the client did not ask for a stream
        observer = StreamObserver(endpoint, strip_usage=False, rename=rename)
    held, latest = b"", b""
    while not observer.is_known and len(held) + len(latest) < MAX_HELD_BYTES:
        chunk: bytes | None = None
        events = b""
        if observer.has_more:
            await asyncio.sleep(0)
            events = observer.feed(b"")
        elif hold is None:
            chunk = await response.next_chunk()
        else:
            chunk = await response.next_chunk_by(hold.due)
        if chunk is not None:
            events = observer.feed(chunk) if chunk else observer.flush()
        if events:
            response.mark_alive()
            latest += events
        if observer.is_known:
            break
        if chunk == b"":
            raise _unfinished(response)
        if hold is not None and (hold.is_started or hold.is_due):
            comments, others = split_comments(latest)
            held, latest = held + others, b""
            if comments or hold.is_due:
                await hold.send(response, comments)
    response.mark_started()
    return StreamStart(observer, held + latest)


async def read_rest(
    response: UpstreamReader, start: StreamStart, *, hold: StreamHold
) -> StreamStart:
    """Read a stream to its end before its client gets any of it.

    The client's connection is kept alive. Of a stream longer than `MAX_WHOLE_BYTES`, the rest is
    not read: it is not whole.

    Raises:
        UpstreamError: the stream was interrupted or timed out.
    """
    observer, held, size = start.observer, [start.held], len(start.held)
    while not observer.done:
        if observer.has_more:
            await asyncio.sleep(0)
            part = observer.feed(b"")
        elif (chunk := await response.next_chunk_by(hold.due)) is None:
            part = b""
        elif chunk:
            part = observer.feed(chunk)
        else:
            break
        held.append(part)
        size += len(part)
        if size > MAX_WHOLE_BYTES:
            return StreamStart(observer, b"".join(held))
        if hold.is_due:
            await hold.send(response, b"")
    held.append(observer.flush())
    if not observer.complete and not observer.failed:
        raise _unfinished(response)
    return StreamStart(observer, b"".join(held), is_whole=True)


async def relay_complete(
    response: UpstreamReader,
    complete: CompleteResponse,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    settle: Settle,
    note: Note,
    describe: Describe = _say_nothing,
) -> None:
    """Settle the record, then relay status, headers and body unchanged.

    Args:
        settle: enters tokens and dollars into the record.
        note: called with the answer before the client gets it, because it may then continue it.
        describe: an error, for the record.
    """
    body, view, succeeded, _ = complete
    await note(view)
    record.close_upstream()
    record.status = response.status
    if succeeded:
        settle(Outcome.of(view))
    headers = response.headers_for_client() + record.router_headers() + record.cost_headers()
    if _is_quota_spent(response.status, body) and record.fallback_from is None:
        headers = [DO_NOT_RETRY, *(header for header in headers if header[0] != DO_NOT_RETRY[0])]
    await reply.answer(response.status, headers, body)
    if succeeded:
        record.finish(Ending.OK)
    else:
        record.finish(
            Ending.UPSTREAM_ERROR,
            error=describe(response.status, body),
            error_code=error_code_of(response.status),
        )


def _is_quota_spent(status: int, body: bytes) -> bool:
    """Whether a 429 says that waiting does not help. Not every upstream has a header for it."""
    return status == 429 and b"insufficient_quota" in body


async def relay_stream(
    response: UpstreamReader,
    head: StreamStart,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    settle: Settle,
    note: Note,
    describe: Describe = _say_nothing,
    keep: Callable[[bytes], None] | None = None,
    is_started: bool = False,
) -> None:
    """Relay a stream event by event, the held bytes first.

    Args:
        settle: enters tokens and dollars into the record.
        describe: an error event, for the record.
        keep: called with all bytes of the stream, in order.
        is_started: whether the client has the headers.
        note: called with the first event that names the response, and with the last event, before
            the client gets them: it may then disconnect, or continue the response.

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
    if keep is not None:
        keep(head.held)
    is_noted = is_named = False

    async def note_name() -> None:
        nonlocal is_named
        if not is_named and observer.named is not None:
            is_named = True
            await note(observer.named)

    def take(chunk: bytes) -> bool:
        """Send a chunk at once. Returns False when sending needs to wait."""
        nonlocal chunk_to_send
        chunk_to_send = observer.feed(chunk)
        if keep is not None:
            keep(chunk_to_send)
        if observer.spoke and record.ttft_ms is None:
            record.ttft_ms = record.elapsed_ms()
        if observer.done or observer.has_more:
            return False
        if observer.named is not None and not is_named:
            return False  # it is noted before the client gets it
        return reply.send_now(chunk_to_send)

    try:
        while True:
            await note_name()
            if observer.done and not is_noted:
                await note(observer.last)
                is_noted = True
            if chunk_to_send:
                await reply.send(chunk_to_send, more=True)
            if observer.done:
                # Clients disconnect at [DONE], often before the end of the upstream's connection.
                _finish(record, observer, describe)
            if observer.has_more:
                await asyncio.sleep(0)  # thousands of events came at once
                if take(b""):
                    chunk_to_send = b""
                continue
            try:
                if head.is_whole or not await response.pump(take):
                    break
            except UpstreamError:
                if not observer.done:
                    raise
                break  # the answer was complete: a later error does not matter to the client
        last = observer.flush()
        if keep is not None:
            keep(last)
        await note_name()
        if not observer.complete and not observer.failed:
            raise _unfinished(response)
        if not is_noted:
            await note(observer.last)
        await reply.send(last, more=False)
        _finish(record, observer, describe)
    finally:
        record.close_upstream()
        settle(observer.outcome)


async def relay_untouched(
    response: UpstreamReader,
    reply: ResponseWriter,
    record: CallRecord,
    *,
    is_download: bool,
    on_chunk: Callable[[], None] | None = None,
    describe: Describe = _say_nothing,
    keep: Callable[[bytes], None] | None = None,
) -> None:
    """Relay an answer of any type, chunk by chunk, without viewing it.

    Args:
        is_download: whether it is the content of a file, which may be a page.
        on_chunk: called when the client has taken a chunk.
        describe: an error, for the record.
        keep: called with all bytes of the answer, in order.

    Raises:
        UpstreamError: the answer was interrupted, or it is a page.
    """
    is_success = 200 <= response.status < 300
    if is_success and response.is_page and not is_download:
        raise _page(response)
    record.status = response.status
    is_file = is_success and is_download
    headers = response.headers_of_download() if is_file else response.headers_for_client()
    headers += record.router_headers()
    by_name = {name.lower(): value for name, value in response.headers}
    if b"content-encoding" not in by_name and b"content-length" in by_name:
        headers.append((b"content-length", by_name[b"content-length"]))
    await reply.start(response.status, headers)
    await reply.send(b"", more=True)  # the head, before the body's first byte
    is_error, start = response.status >= 400, b""
    while chunk := await response.next_chunk():
        if is_error and len(start) < MAX_ERROR_BYTES:
            start += chunk[:MAX_ERROR_BYTES]
        if keep is not None:
            keep(chunk)
        await reply.send(chunk, more=True)
        if on_chunk is not None:
            on_chunk()
    await reply.send(b"", more=False)
    if is_error:
        record.finish(
            Ending.UPSTREAM_ERROR,
            error=describe(response.status, start),
            error_code=error_code_of(response.status),
        )
    else:
        record.finish(Ending.OK)


def require_answer(response: UpstreamReader, start: CompleteResponse | StreamStart) -> None:
    """Check that a success is an answer: not an empty body, nor a stream that says nothing.

    Raises:
        NotAnAnswer: it is neither an answer nor an error.
    """
    is_error = isinstance(start, CompleteResponse) and start.error is not None
    if not start.is_answer and not is_error:
        raise not_an_answer(response, start)


def not_an_answer(response: UpstreamReader, start: CompleteResponse | StreamStart) -> NotAnAnswer:
    """The error for a success status without an answer."""
    body = start.body if isinstance(start, CompleteResponse) else start.held
    name, refusal = response.upstream_name, read_refusal(body)
    logger.warning("%s upstream: status %d without an answer", name, response.status)
    response.fail()
    error = NotAnAnswer(
        f"The {name} upstream answered with status {response.status}, but without an answer.",
        upstream=name,
    )
    if refusal.is_api_error:
        quoted = refusal.message[:MAX_QUOTED_CHARS]
        error.message = f"{error.message.removesuffix('.')}: {quoted}"
    error.answer = response.status, body
    return error


def error_code_of(status: int) -> str:
    """The code of an upstream's error. Some servers send errors with status 200."""
    return f"upstream_{status // 100}xx" if status >= 400 else "upstream_error"


def error_of_complete(response: UpstreamReader, complete: CompleteResponse) -> UpstreamError:
    """The error that a complete answer is to a client whose stream has begun."""
    what = "sent an answer that is not a stream"
    if not complete.succeeded:
        what = f"answered with an error, status {response.status}"
    error = UpstreamInterrupted(
        f"The {response.upstream_name} upstream {what}.", upstream=response.upstream_name
    )
    error.answer = response.status, complete.body
    return error


def _stream_headers(
    response: UpstreamReader | None, record: CallRecord
) -> list[tuple[bytes, bytes]]:
    headers = _EVENT_STREAM if response is None else response.headers_for_client()
    return [*headers, *record.router_headers(), (b"x-accel-buffering", b"no")]


def _finish(record: CallRecord, observer: StreamObserver, describe: Describe) -> None:
    if observer.failed:
        error = describe(record.status or 200, observer.error)
        record.finish(Ending.UPSTREAM_ERROR, error=error, error_code="upstream_error")
    else:
        record.finish(Ending.OK)


def _unfinished(response: UpstreamReader) -> UpstreamInterrupted:
    return UpstreamInterrupted(
        f"The {response.upstream_name} upstream ended its stream without finishing the answer.",
        upstream=response.upstream_name,
    )


def _page(response: UpstreamReader) -> NotAnAnswer:
    logger.warning(
        "%s upstream: a web page in the place of an answer, status %d",
        response.upstream_name,
        response.status,
    )
    response.fail()
    return NotAnAnswer(
        f"The {response.upstream_name} upstream answered with a web page. Check its base_url, and "
        "whether a proxy or a login page is in front of it.",
        upstream=response.upstream_name,
    )


def is_stream(response: UpstreamReader) -> bool:
    """Whether an answer is relayed as a stream: a success with that content type."""
    return 200 <= response.status < 300 and response.is_event_stream
