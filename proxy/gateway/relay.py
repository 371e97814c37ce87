"""From the upstream to the client: bytes out as they came in, looked at on their way past.

A whole answer is read, looked at and sent on. A stream is held until it is known to be an answer,
so that the other tier can still step in, and then passed on event by event; the `StreamObserver`
sees usage, text and the finish, and takes out the one chunk the client did not
ask for (the usage that we injected); where ids must be others, it has them renamed. What an
observer cannot read is not its business: it passes.

Sources: the WHATWG event-stream format; OpenAI's clients, which stop at `[DONE]` and raise
`APIError` on a `data: {"error": …}` event.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from proxy.errors import UpstreamBroken, UpstreamError
from proxy.protocol.chat import AnswerView, Usage
from proxy.protocol.endpoints import CHAT, Endpoint
from proxy.record import CallRecord, Ending

MAX_EVENT_BYTES: Final = 2**20
MAX_HELD_BYTES: Final = 2**16  # of a stream that goes on without saying anything

_EVENT_END = re.compile(rb"\r?\n\r?\n")
# Response headers between the upstream and us only: connection matters, lengths and encodings we
# make anew, cookies of a shared connection, what a browser would take as said of our own host,
# whose account the key belongs to, and our own names.
_KEPT_HERE: Final = frozenset(
    b"connection keep-alive proxy-connection trailer transfer-encoding upgrade "
    b"content-length content-encoding set-cookie date server alt-svc "
    b"strict-transport-security openai-organization openai-project".split()
)
_KEPT_PREFIXES: Final = (b"x-router-", b"access-control-")
# The HTTP client lets control characters through, our server refuses the whole answer for one.
_UNSENDABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Takes the usage, the text, and the service tier.
Settle = Callable[[Usage | None, str, str | None], None]
Note = Callable[[AnswerView | None], None]
# Takes an event, or a whole answer, and the JSON in it; gives it with other ids.
Rename = Callable[[bytes, bytes], bytes]


class Answer(Protocol):
    """The upstream's side, as far as relaying needs it; `upstream.UpstreamResponse` is one."""

    @property
    def upstream_name(self) -> str:
        """The tier's name, for messages."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All response headers, in order, as sent."""

    @property
    def is_event_stream(self) -> bool:
        """True when the content type says so."""

    async def next_chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end."""

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Give the next pieces to `take` as they come, until it returns False.

        Returns False at the body's end.
        """

    async def read(self) -> bytes:
        """The whole body."""

    def mark_started(self) -> None:
        """From now on the time between two pieces counts, no longer that to the first one."""


class Reply(Protocol):
    """The client's side of a request, as far as relaying needs it."""

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a whole answer. Its length is told here."""

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status and headers; after this they are promised."""

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body; the last one with `more=False`."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body at once; False, and nothing is sent, where that takes waiting:
        for a client that reads slowly, or has gone."""


class StreamObserver:
    """Looks at a server-sent event stream in whole events, however its bytes were split.

    Feed it what arrives, send on what it returns. Incomplete events wait inside (no client could
    use them); one longer than `MAX_EVENT_BYTES` makes it give up looking and pass everything.
    """

    __slots__ = (
        "_endpoint",
        "_rename",
        "_shape",
        "_strip_usage",
        "_tail",
        "_texts",
        "began",
        "blind",
        "done",
        "failed",
        "finished",
        "last",
        "service_tier",
        "spoke",
        "usage",
    )

    def __init__(
        self, endpoint: Endpoint = CHAT, *, strip_usage: bool, rename: Rename | None = None
    ) -> None:
        self._endpoint = endpoint
        self._rename = rename
        self._strip_usage = strip_usage
        self._tail = b""
        self._shape: _Shape | None = None  # of the last event with text
        self._texts: list[str] = []
        self.usage: Usage | None = None
        self.service_tier: str | None = None  # as said last, with usage or at the finish
        self.began = False  # an event of an answer has passed, though it may say nothing yet
        self.spoke = False  # something a client would show has passed
        self.finished = False  # a choice gave its finish_reason
        self.last: AnswerView | None = None  # the event that did
        self.done = False  # [DONE] has passed, or the event that ends a stream without one
        self.failed = False  # the upstream sent an error event
        self.blind = False

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._texts)

    @property
    def is_known(self) -> bool:
        """True once the stream is known to be an answer, or to have failed."""
        return self.spoke or self.complete or self.failed

    @property
    def complete(self) -> bool:
        """True when the stream may end here. Ollama's broken streams have neither of the two."""
        return self.done or self.finished or self.blind

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those to send on now."""
        if self.blind:
            return data
        if not self._tail and 0 < data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            return self._look(data)  # one whole event, as most pieces are
        buffer = self._tail + data if self._tail else data
        kept: list[bytes] = []
        start = copied = 0
        # What waited has no end in it, at most the first bytes of one; it may be a megabyte.
        unsearched = max(0, len(self._tail) - 3)
        plain = b"\r" not in buffer
        while (end := _find_end(buffer, max(start, unsearched), plain=plain)) != -1:
            event = buffer[start:end]
            passed = self._look(event)
            if passed is not event:
                kept += (buffer[copied:start], passed)
                copied = end
            start = end
        self._tail = buffer[start:]
        if len(self._tail) > MAX_EVENT_BYTES:
            self.blind, start, self._tail = True, len(buffer), b""
        if not kept:
            return buffer[:start] if start < len(buffer) else buffer
        kept.append(buffer[copied:start])
        return b"".join(kept)

    def flush(self) -> bytes:
        """What is left at the end: a last event may lack its blank line."""
        tail, self._tail = self._tail, b""
        last = self._look(tail) if tail.strip() else b""
        return last if self.complete or self.failed else b""

    def _look(self, event: bytes) -> bytes:
        """Look at one event; return what the client gets of it, mostly the event itself."""
        if self._shape is not None and (text := self._shape.text_of(event)) is not None:
            self._texts.append(text)
            return event
        data = _data_of(event)
        if not data:
            return event
        if data == b"[DONE]":
            self.done = True
            return event
        if self._rename is not None:
            event = self._rename(event, data)
            data = _data_of(event)
        seen = self._endpoint.view(data)
        if seen is None:
            return event
        self._shape = _Shape.of(event, seen) if self._rename is None else None
        return event if self._note(seen) else b""

    def _note(self, seen: AnswerView) -> bool:
        self.began = True
        if seen.failed:
            self.failed = True
        if (usage := seen.usage) is not None:
            self.usage = usage
            self.service_tier = seen.service_tier or self.service_tier
        if seen.finished:
            self.service_tier = seen.service_tier or self.service_tier
            self.finished, self.last = True, seen
            self.done = self.done or not self._endpoint.ends_with_done
        if not self.spoke:
            self.spoke = seen.speaks
        if text := seen.text:
            self._texts.append(text)
        return not (self._strip_usage and seen.is_usage_only)


class _Shape(NamedTuple):
    """An event around its text. The next ones are mostly the same around another, and what was
    said of this one holds for them without decoding them: it is half of what a piece costs."""

    before: bytes
    behind: bytes

    @classmethod
    def of(cls, event: bytes, seen: AnswerView) -> "_Shape | None":
        """The shape of an event that has text and nothing else to say; None of any other."""
        text = seen.text
        if (
            not text
            or not _is_plain(text)
            or seen.usage is not None
            or seen.finished
            or seen.failed
        ):
            return None
        said = text.encode()
        for key in (b'"content":"', b'"content": "'):
            quoted = key + said + b'"'
            if event.count(quoted) == 1:
                start = event.index(quoted) + len(key)
                return cls(event[:start], event[start + len(said) :])
        return None

    def text_of(self, event: bytes) -> str | None:
        """The text of an event of the same shape; None of another, and of one not so simple."""
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
    """Whether JSON has a text as it is, without escapes."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _data_of(event: bytes) -> bytes:
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2].strip()  # one line, as nearly all are
    lines = event.strip(b"\r\n").splitlines()
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def _find_end(buffer: bytes, start: int, *, plain: bool) -> int:
    """The index behind the first blank line after `start`; -1 when there is none."""
    if plain:
        found = buffer.find(b"\n\n", start)
        return found + 2 if found != -1 else -1
    match = _EVENT_END.search(buffer, start)
    return match.end() if match is not None else -1


class Whole(NamedTuple):
    """An answer that is there in one piece, before anything of it was sent on."""

    body: bytes
    seen: AnswerView | None
    succeeded: bool

    @property
    def error(self) -> bytes | None:
        """What an answer that is an error says."""
        return None if self.succeeded else self.body


class Head(NamedTuple):
    """The beginning of a stream: the observer that saw it, and what waits to be sent on."""

    observer: StreamObserver
    held: bytes

    @property
    def error(self) -> bytes | None:
        """What a stream says that failed before it said anything else."""
        return self.held if self.observer.failed and not self.observer.spoke else None


async def begin(
    response: Answer,
    endpoint: Endpoint = CHAT,
    *,
    strip_usage: bool,
    rename: Rename | None = None,
) -> Whole | Head:
    """Read as much of an answer as it takes to know that it is one.

    A stream is read to its first content, tool call or finish, which costs nothing: what servers
    send before that is empty. Until then the other tier can still answer, and afterwards no more.
    Its first event of any kind ends the wait for a first token: a model that thinks without showing
    it says at most that it goes on.

    Raises:
        UpstreamError: it ended, broke off or took too long before that.
    """
    if not is_stream(response):
        response.mark_started()
        body = await response.read()
        if rename is not None:
            body = rename(body, body)
        seen = endpoint.view(body)
        # Some servers send an error with a 200.
        failed = seen is not None and seen.failed
        return Whole(body, seen, succeeded=200 <= response.status < 300 and not failed)
    observer = StreamObserver(endpoint, strip_usage=strip_usage, rename=rename)
    held: list[bytes] = []
    size = 0
    while not observer.is_known and size < MAX_HELD_BYTES:
        chunk = await response.next_chunk()
        held.append(observer.feed(chunk) if chunk else observer.flush())
        size += len(held[-1])
        if observer.began:
            response.mark_started()
        if not chunk and not observer.is_known:
            raise _unfinished(response)
    response.mark_started()
    return Head(observer, b"".join(held))


async def relay_whole(
    response: Answer, whole: Whole, reply: Reply, record: CallRecord, *, settle: Settle, note: Note
) -> None:
    """Settle the record, send status, headers and body on unchanged.

    Args:
        settle: fills tokens and dollars into the record.
        note: takes the answer, before the client has it and may ask for more.
    """
    body, seen, succeeded = whole
    note(seen)
    record.close_upstream()
    record.status = response.status
    if succeeded:
        settle(
            *(seen.usage, seen.text, seen.service_tier) if seen is not None else (None, "", None)
        )
    headers = _for_client(response) + record.router_headers() + record.cost_headers()
    await reply.answer(response.status, headers, body)
    if succeeded:
        record.finish(Ending.OK)
    else:
        kind = f"{response.status // 100}xx" if response.status >= 400 else "error"
        record.finish(Ending.UPSTREAM_ERROR, error_code=f"upstream_{kind}")


async def relay_stream(
    response: Answer, head: Head, reply: Reply, record: CallRecord, *, settle: Settle, note: Note
) -> None:
    """Pass a stream on event by event, its head first. A failure inside it ends in one error event.

    Args:
        settle: takes the usage and the text and fills tokens and dollars into the record.
        note: takes the event that ends the answer, before the client has it: clients hang up then.

    Raises:
        RouterError: after the error event was sent; the record's ending is the caller's to name.
    """
    observer = head.observer
    record.status, record.streamed = response.status, True
    if observer.spoke:
        record.ttft_ms = record.elapsed_ms()
    headers = _for_client(response) + record.router_headers()
    headers.append((b"x-accel-buffering", b"no"))
    await reply.start(response.status, headers)
    passed = head.held
    noted = False

    def take(chunk: bytes) -> bool:
        """Send a piece on in the moment it comes; False when that takes more than a moment."""
        nonlocal passed
        passed = observer.feed(chunk)
        if observer.spoke and record.ttft_ms is None:
            record.ttft_ms = record.elapsed_ms()
        return not observer.done and reply.send_now(passed)

    try:
        while True:
            if observer.done and not noted:
                note(observer.last)
                noted = True
            if passed:
                await reply.send(passed, more=True)
            if observer.done:
                # Clients hang up at [DONE], often before the connection's own end comes by.
                _finish(record, observer)
            try:
                if not await response.pump(take):
                    break
            except UpstreamError:
                if not observer.done:
                    raise
                break  # the answer was whole; an error behind it would be none of the client's
        last = observer.flush()
        if not observer.complete and not observer.failed:
            raise _unfinished(response)
        if not noted:
            note(observer.last)
        await reply.send(last, more=False)
        _finish(record, observer)
    finally:
        record.close_upstream()
        settle(observer.usage, observer.text, observer.service_tier)


async def relay_untouched(response: Answer, reply: Reply, record: CallRecord) -> None:
    """Pass an answer of any kind on, piece by piece, without a look at it.

    Raises:
        UpstreamError: it broke off.
    """
    record.status = response.status
    headers = _for_client(response) + record.router_headers()
    named = {name.lower(): value for name, value in response.headers}
    if b"content-encoding" not in named and b"content-length" in named:
        headers.append((b"content-length", named[b"content-length"]))
    await reply.start(response.status, headers)
    while chunk := await response.next_chunk():
        await reply.send(chunk, more=True)
    await reply.send(b"", more=False)
    if response.status < 400:
        record.finish(Ending.OK)
    else:
        record.finish(Ending.UPSTREAM_ERROR, error_code=f"upstream_{response.status // 100}xx")


def _finish(record: CallRecord, observer: StreamObserver) -> None:
    if observer.failed:
        record.finish(Ending.UPSTREAM_ERROR, error_code="upstream_error")
    else:
        record.finish(Ending.OK)


def _unfinished(response: Answer) -> UpstreamBroken:
    return UpstreamBroken(
        f"The {response.upstream_name} upstream ended its stream without finishing the answer.",
        upstream=response.upstream_name,
    )


def _for_client(response: Answer) -> list[tuple[bytes, bytes]]:
    """The upstream's headers for the client; its request id under a name of its own."""
    headers = []
    for name, value in response.headers:
        name = name.lower()
        if name == b"x-request-id":
            headers.append((b"x-upstream-request-id", value))
        elif (
            name not in _KEPT_HERE
            and not name.startswith(_KEPT_PREFIXES)
            and not _UNSENDABLE.search(value)
        ):
            headers.append((name, value))
    return headers


def is_stream(response: Answer) -> bool:
    """True for an answer to be relayed as a stream: success, and typed as one."""
    return 200 <= response.status < 300 and response.is_event_stream
