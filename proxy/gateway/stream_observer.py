"""Observation of a stream of server-sent events: what it says, and what of it the client gets.

    observer = StreamObserver(strip_usage=True)
    send(observer.feed(chunk))
    send(observer.flush())  # at the end; then observer.outcome is what is billed

The observer reads usage, text and the finish. It removes the usage that the proxy requested and the
client did not, where it has a chunk of its own, and renames ids where needed. Events that it cannot
read pass unchanged.

Sources: the WHATWG event-stream format; OpenAI's clients, which stop at `[DONE]` and raise
`APIError` on a `data: {"error": …}` event.
"""

import re
from collections.abc import Callable, Sequence
from operator import add
from typing import Final, NamedTuple

from proxy.protocol import AnswerView, HostedCalls, Usage, without_usage
from proxy.protocol.endpoints import CHAT, Endpoint
from proxy.protocol.outline import HEAD_BYTES, TAIL_BYTES, outline
from proxy.protocol.response_objects import ResponseView
from proxy.record import MAX_TEXT_CHARS

MAX_EVENT_BYTES: Final = 2**20
MAX_EVENT_LINES: Final = 4096  # servers write an event in one line, or as indented JSON
MAX_EVENTS: Final = 256  # that one call of `feed` observes, which takes some milliseconds

# Two line ends, each of CRLF, LF or CR. The first CR must not be the first half of a CRLF.
_EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")

_BLANK_LINES = re.compile(rb"[\r\n]*")  # they end no event where none has begun
_EVENT_END_AND_BLANK_LINES = re.compile(_EVENT_END.pattern + _BLANK_LINES.pattern)
# The fields with the text of an event, in the forms that servers write them in.
_TEXT_KEYS: Final = (b'"content":"', b'"content": "', b'"text":"', b'"text": "')
_COMMENT = re.compile(rb"(?:\A|[\r\n]):")

# Takes an event or a complete answer, and the JSON in it; returns it as the client gets it.
Rename = Callable[[bytes, bytes], bytes]


class Outcome(NamedTuple):
    """What is billed of an answer, or of the part of it that was seen."""

    usage: Usage | None = None
    text: str = ""
    other_text: str = ""  # reasoning and tool calls, which are output too
    service_tier: str | None = None
    model: str | None = None  # that answered
    hosted_calls: HostedCalls | None = None
    call_ids: Sequence[str] = ()  # of the tool calls that the client is to run

    @classmethod
    def of(cls, view: AnswerView | None) -> "Outcome":
        """The outcome of a complete answer."""
        if view is None:
            return cls()
        text, other_text = view.text[:MAX_TEXT_CHARS], view.other_text[:MAX_TEXT_CHARS]
        return cls(
            view.usage,
            text,
            other_text,
            view.service_tier,
            view.model,
            view.hosted_calls,
            view.call_ids,
        )


class StreamObserver:
    """Observes a stream of server-sent events.

    `feed` takes the received bytes and returns the bytes to send. Incomplete events are buffered.
    Of an event longer than `MAX_EVENT_BYTES`, or of more than `MAX_EVENT_LINES` lines, only the
    outline is seen, without content. It may have been the finish or the end.

    One call observes a limited number of events. While `has_more` is set, the caller lets the event
    loop go on and then calls `feed(b"")`.
    """

    __slots__ = (
        "_call_ids",
        "_endpoint",
        "_half",
        "_head",
        "_is_bare",
        "_other_texts",
        "_rename",
        "_shape",
        "_skipped",
        "_strip_usage",
        "_tail",
        "_text_left",
        "_texts",
        "blind",
        "done",
        "error",
        "failed",
        "finished",
        "has_more",
        "hosted_calls",
        "last",
        "model",
        "named",
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
        # The first and the last bytes of an event that passes unseen.
        self._head = b""
        self._skipped: bytes | None = None
        self._shape: _Shape | None = None  # of the last event with text
        self._texts: list[str] = []
        self._text_left = max_text_chars
        self._other_texts: list[str] = []
        self._call_ids: list[str] = []
        self.model: str | None = None  # that answered
        self.usage: Usage | None = None
        self.service_tier: str | None = None  # that the answer is billed at
        self.hosted_calls: HostedCalls | None = None  # so far; the last event has all of them
        self.named: ResponseView | None = None  # the first event with the id of the response
        self.spoke = False  # whether content that a client would show has passed
        self.finished = False  # whether a choice had its finish_reason
        self.last: AnswerView | None = None  # the event that did
        self.done = False  # whether [DONE], or the last event of a stream without it, has passed
        self._is_bare = False  # whether that has a form that OpenAI's clients do not know
        self.failed = False  # whether the upstream sent an error event
        self.error = b""  # the data of that event
        self.blind = False  # whether an event has passed unseen
        self.has_more = False  # whether buffered events are yet to be observed

    @property
    def text(self) -> str:
        """The answer's text so far, up to the limit."""
        return "".join(self._texts)

    @property
    def outcome(self) -> Outcome:
        """What is billed, as far as it was seen."""
        other_text = "".join(self._other_texts)
        return Outcome(
            self.usage,
            self.text,
            other_text,
            self.service_tier,
            self.model,
            self.hosted_calls,
            self._call_ids,
        )

    @property
    def is_known(self) -> bool:
        """Whether the stream is known to be an answer, or to have failed."""
        return self.spoke or self.complete or self.failed

    @property
    def is_answer(self) -> bool:
        """Whether the start of a stream is an answer, or an error that clients know."""
        return self.spoke or self.finished or self.blind or (self.failed and not self._is_bare)

    @property
    def complete(self) -> bool:
        """Whether the stream may end here. Interrupted streams have neither a finish nor [DONE]."""
        return self.done or self.finished or self.blind

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those to send now."""
        if self._skipped is not None:
            return self._skip(self._skipped, data)
        if self._half is not None and data:
            return self._feed_second_half(data)
        if not self._tail and 0 < data.find(b"\n\n") == len(data) - 2 and b"\r" not in data:
            return self._look(data)  # one complete event, as most chunks are
        buffer = self._tail + data if self._tail else data
        parts: list[bytes] = []
        start = copied = 0
        # An incomplete event contains no event end, at most its first bytes. It may be a megabyte.
        unsearched = 0 if self.has_more else max(0, len(self._tail) - 3)
        self.has_more = False
        plain = b"\r" not in buffer
        events_left = MAX_EVENTS
        while True:
            if buffer.startswith((b"\n", b"\r"), start):
                start = _skip_blank_lines(buffer, start)
            end = _find_end(buffer, max(start, unsearched), plain=plain)
            if end == -1:
                break
            event = buffer[start:end]
            relayed = self._look(event)
            if relayed is not event:
                parts += (buffer[copied:start], relayed)
                copied = end
            start = end
            if not plain and end == len(buffer) and event.endswith(b"\r"):
                self._half = bool(relayed)
            events_left -= 1
            if not events_left and end < len(buffer):
                self.has_more = True
                break
        self._tail = buffer[start:]
        if not self.has_more and len(self._tail) > MAX_EVENT_BYTES:
            self._begin_skipping(self._tail)
            start, self._tail = len(buffer), b""
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

    def _begin_skipping(self, event: bytes) -> None:
        """Pass an event that is too long. Its id is read at once, as the client gets it now."""
        self._head, self._skipped, self.blind = event[:HEAD_BYTES], event[-TAIL_BYTES:], True
        self._name(self._endpoint.view(outline(_data_of(self._head) or b"")))

    def _skip(self, before: bytes, data: bytes) -> bytes:
        """Pass the rest of an event, and feed what is behind it."""
        buffer = before + data
        unsearched = max(0, len(before) - 3)  # an event end has up to 4 bytes
        end = _find_end(buffer, unsearched, plain=b"\r" not in buffer)
        if end == -1:
            self._skipped = buffer[-TAIL_BYTES:]
            return data
        self._skipped = None
        self._look_at_outline(buffer[max(0, end - TAIL_BYTES) : end])
        if end == len(buffer):
            self._half = True if buffer.endswith(b"\r") else None
            return data
        return buffer[len(before) : end] + self.feed(buffer[end:])

    def _look_at_outline(self, tail: bytes) -> None:
        """Observe the outline of an event that passed unseen.

        Args:
            tail: its last bytes.
        """
        first, *others = tail.strip(b"\r\n").splitlines() or [b""]
        lines = [first, *(line[5:] for line in others if line.startswith(b"data:"))]
        view = self._endpoint.view(outline(_data_of(self._head) or b"", b"".join(lines)))
        if view is not None:
            self._observe(view)

    def flush(self) -> bytes:
        """The buffered rest at the end: a last event may lack its blank line."""
        parts = []
        while self.has_more:
            parts.append(self.feed(b""))
        if self._skipped is not None:
            self._look_at_outline(self._skipped)
            self._skipped = None
        tail, self._tail = self._tail, b""
        last = self._look(tail) if tail.strip() else b""
        if self.complete or self.failed:
            parts.append(last)
        return b"".join(parts)

    def _look(self, event: bytes) -> bytes:
        """Observe one event. Returns the bytes for the client, mostly the event itself."""
        if self._shape is not None and (text := self._shape.text_of(event)) is not None:
            self._text_left -= len(text)
            if self._text_left >= 0:
                self._texts.append(text)
            return event
        data = _data_of(event)
        if data is None:
            self._head, self.blind = event[:HEAD_BYTES], True
            self._look_at_outline(event[-TAIL_BYTES:])
            return event
        if not data:
            return event  # a comment
        if data == b"[DONE]":
            self.done = True
            return event
        if self._rename is not None:
            event = self._rename(event, data)
            data = _data_of(event) or b""
        view = self._endpoint.view(data)
        if view is None:
            return event
        self._shape = _Shape.of(event, view) if self._rename is None else None
        if not self.spoke:
            self.spoke = view.speaks or self._endpoint.has_output(data)
        self._observe(view)
        if view.failed:
            self.error = data
        if self._strip_usage and view.is_usage_only:
            return without_usage(event, data)
        return event

    def _observe(self, view: AnswerView) -> None:
        if self.named is None:
            self._name(view)
        if view.failed:
            self.failed, self._is_bare = True, view.is_bare_error
        # The first event names both, as far as they are known: the stream may be cut off.
        self.model = self.model or view.model
        self.service_tier = self.service_tier or _chosen(view.service_tier)
        if (usage := view.usage) is not None:
            self.usage = usage.after(self.usage)
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
        if other_text := view.other_text:
            self._text_left -= len(other_text)
            if self._text_left >= 0:
                self._other_texts.append(other_text)
        if (view.finished or other_text) and self._text_left >= 0:
            self._call_ids += view.call_ids
        if (calls := view.hosted_calls) is not None:
            if self.hosted_calls is not None and not view.finished:
                calls = HostedCalls(*map(add, self.hosted_calls, calls))
            self.hosted_calls = calls

    def _name(self, view: AnswerView | None) -> None:
        """Note the first event with the id of the response."""
        if self.named is None and isinstance(view, ResponseView) and view.id is not None:
            self.named = view


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
        for key in _TEXT_KEYS:
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


def _chosen(service_tier: str | None) -> str | None:
    """A service tier; None for a value that leaves the choice to the provider."""
    return None if service_tier == "auto" else service_tier


def _is_plain(text: str) -> bool:
    """Whether a text needs no escapes in JSON."""
    return text.isprintable() and '"' not in text and "\\" not in text


def _data_of(event: bytes) -> bytes | None:
    """The data of an event; None if it has too many lines."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2:
        return event[6:-2].strip()  # one line, as in nearly all events
    if len(event) > MAX_EVENT_LINES < event.count(b"\n") + event.count(b"\r"):
        return None
    lines = event.strip(b"\r\n").splitlines()
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def _find_end(buffer: bytes, start: int, *, plain: bool) -> int:
    """The index after the first blank line from `start`; -1 without one."""
    if plain:
        index = buffer.find(b"\n\n", start)
        return index + 2 if index != -1 else -1
    match = _EVENT_END.search(buffer, start)
    return match.end() if match is not None else -1


def _skip_blank_lines(buffer: bytes, start: int) -> int:
    """The index after the line ends from `start`."""
    match = _BLANK_LINES.match(buffer, start)
    return match.end() if match is not None else start


def split_comments(events: bytes) -> tuple[bytes, bytes]:
    """The comments among complete events, and the other events."""
    if _COMMENT.search(events) is None:
        return b"", events
    comments: list[bytes] = []
    others: list[bytes] = []
    start = 0
    for match in _EVENT_END_AND_BLANK_LINES.finditer(events):
        event = events[start : match.end()]
        (comments if event.startswith(b":") and _data_of(event) == b"" else others).append(event)
        start = match.end()
    others.append(events[start:])
    return b"".join(comments), b"".join(others)
