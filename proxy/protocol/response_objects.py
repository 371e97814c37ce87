"""The Responses API's answers: Response objects, the events of a stream, and their ids.

A stream has typed events and ends with one of three, not with [DONE].
"""

import contextlib
import re
from itertools import islice
from typing import Final

import msgspec

from proxy.errors import RouterError
from proxy.protocol.fields import is_given, read_text
from proxy.protocol.outline import HEAD_BYTES, TAIL_BYTES, outline, skim
from proxy.protocol.views import (
    LARGE_BYTES,
    MAX_VIEWED_BYTES,
    UNREADABLE,
    CompletionTokensDetails,
    FirstItems,
    HostedCalls,
    PromptTokensDetails,
    Usage,
    read_usage,
)

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
# The first events, which name the response.
_STARTING: Final = frozenset({"response.created", "response.queued", "response.in_progress"})
# Events without content. All other events have content.
_SILENT: Final = frozenset(
    {
        "keepalive",
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)
_TEXT_DELTAS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})

_CALLS: Final = tuple(b'"%b_call"' % tool.encode() for tool in HostedCalls._fields)
_CALL_EVENTS: Final = {
    f"response.{tool}_call.completed": HostedCalls(**{tool: 1}) for tool in HostedCalls._fields
}

_ID: Final = re.compile(rb'("(?:item_|response_)?id"\s*:\s*)"([^"\\]+)"')
_KIND: Final = re.compile(r"[a-z]+(?=_)")
_OWN_ITEM: Final = re.compile(r"[a-z]+_(?P<response>[0-9a-f]{32})_\d+")


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: PromptTokensDetails | None = None
    output_tokens_details: CompletionTokensDetails | None = None


class _OutputPart(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Output(msgspec.Struct):
    type: str = ""
    content: list[_OutputPart] | None = None


class _Call(msgspec.Struct):
    """An output item that may be the call of a tool, of the client or of the provider."""

    type: str = ""
    call_id: msgspec.Raw = msgspec.Raw()
    container_id: msgspec.Raw = msgspec.Raw()


class _Response(msgspec.Struct):
    """A complete response: a body, or the content of a stream's last event."""

    id: str | None = None
    status: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    model: msgspec.Raw = msgspec.Raw()
    output: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    """An event of a stream; without `type`, the other fields of a complete response."""

    type: str = ""
    delta: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_response = msgspec.json.Decoder(_Response)
_event = msgspec.json.Decoder(_Event)
_output = msgspec.json.Decoder(_Output)
_call = msgspec.json.Decoder(_Call)
_encoder = msgspec.json.Encoder()


class _Loose(msgspec.Struct):
    """The fields of an event and of a complete response, unread."""

    type: msgspec.Raw = msgspec.Raw()
    delta: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    model: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


_loose = msgspec.json.Decoder(_Loose)
_MAX_ITEMS: Final = 512  # of an output that is read; models write tens
_first_items = FirstItems(_MAX_ITEMS)


def _read_event(data: bytes) -> _Event:
    if len(data) > MAX_VIEWED_BYTES:
        data = outline(data[:HEAD_BYTES], data[-TAIL_BYTES:])
    try:
        return _event.decode(data)
    except msgspec.ValidationError:
        loose = _loose.decode(data)
    return _Event(read_text(loose.type) or "", loose.delta, loose.response, loose.error)


def _read_response(data: bytes) -> _Response:
    """The fields of a response, each on its own where one has an unexpected type."""
    try:
        if len(data) <= LARGE_BYTES:
            return _response.decode(data)
    except msgspec.ValidationError:
        pass
    loose = _loose.decode(skim(data))
    return _Response(
        read_text(loose.id),
        read_text(loose.status),
        _usage_of(loose.usage),
        loose.error,
        loose.service_tier,
        loose.model,
        _first_items.read(loose.output) if len(data) <= MAX_VIEWED_BYTES else [],
    )


def _usage_of(raw: bytes) -> _Usage | None:
    usage = read_usage(raw, prompt="input", answer="output")
    if usage is None:
        return None
    return _Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details,
        usage.completion_tokens_details,
    )


class ResponseView:
    """A complete response or one event of a stream; a `views.AnswerView`.

    Attributes:
        id: of a complete response, or of the one that a first event names.
        output, body: those of a complete response, for storing it.
        is_pending: whether it is still being created in the background.
    """

    __slots__ = ("_event", "_response", "body", "finished", "id", "is_pending", "output")

    @property
    def is_complete(self) -> bool:
        """Whether its output was read in full. That of a very large response is not."""
        return self.finished and len(self.body) <= MAX_VIEWED_BYTES

    is_usage_only = is_bare_error = False

    def __init__(self, data: bytes) -> None:
        self._event = event = _read_event(data)
        self.finished = not event.type or event.type in _TERMINAL
        self._response: _Response | None = None
        self.id: str | None = None
        self.output: list[msgspec.Raw] = []
        self.is_pending = False
        self.body = b""
        if self.finished:
            self.body = bytes(event.response) if event.type else data
            self._response = response = _read_response(self.body)
            self.id, self.output = response.id, response.output or []
            self.is_pending = response.status in ("queued", "in_progress")
        elif event.type in _STARTING:
            with contextlib.suppress(*UNREADABLE):
                self._response = response = _read_response(event.response)
                self.id = response.id

    @property
    def usage(self) -> Usage | None:
        usage = self._response.usage if self._response is not None and self.finished else None
        if usage is None:
            return None
        return Usage(
            usage.input_tokens,
            usage.output_tokens,
            usage.input_tokens_details,
            usage.output_tokens_details,
        )

    @property
    def service_tier(self) -> str | None:
        return read_text(self._response.service_tier) if self._response is not None else None

    @property
    def model(self) -> str | None:
        return read_text(self._response.model) if self._response is not None else None

    @property
    def hosted_calls(self) -> HostedCalls | None:
        if not self.finished:
            return _CALL_EVENTS.get(self._event.type)
        # JSON strings contain no bare quotes, so a text has no match. Most answers have none.
        if b'_call"' not in self.body:
            return None
        calls = HostedCalls(*map(self.body.count, _CALLS))
        if self.is_complete and any(calls):
            calls = _count_calls(self.output)
        return calls if any(calls) else None

    @property
    def other_text(self) -> str:
        kind = self._event.type
        if kind.endswith(".delta") and kind not in _TEXT_DELTAS:
            return read_text(self._event.delta) or ""
        if kind:
            return ""
        return "".join(
            bytes(raw).decode(errors="replace") for raw in self.output if _type_of(raw) != "message"
        )

    @property
    def call_ids(self) -> list[str]:
        if b'"call_id"' not in self.body:
            return []
        return [call_id for raw in self.output if (call_id := _read_call_id(raw)) is not None]

    @property
    def is_answer(self) -> bool:
        response = self._response
        return response is not None and (response.status is not None or bool(response.output))

    @property
    def failed(self) -> bool:
        return (
            self._event.type in ("error", "response.failed")
            or is_given(self._event.error)
            or (self._response is not None and self._response.status == "failed")
        )

    @property
    def finish_reason(self) -> str | None:
        status = self._response.status if self._response is not None else None
        return {"completed": "stop", "incomplete": "length"}.get(status or "")

    @property
    def speaks(self) -> bool:
        kind = self._event.type
        return bool(kind) and kind not in _SILENT and kind not in _TERMINAL and not self.failed

    @property
    def text(self) -> str:
        if self._event.type in _TEXT_DELTAS:
            return read_text(self._event.delta) or ""
        if self._event.type:
            return ""
        texts = []
        for raw in islice(self.output, _MAX_ITEMS):
            try:
                item = _output.decode(raw)
            except UNREADABLE:
                continue
            if item.type in ("", "message"):  # the content of reasoning is no text of the answer
                texts += [part.text or part.refusal or "" for part in item.content or ()]
        return "\n".join(texts)


def is_call(kind: str | None) -> bool:
    """Whether items of a type are calls of tools. Those of the client have a `call_id`."""
    return kind is not None and kind.endswith("_call")


def _read_call_id(item: msgspec.Raw) -> str | None:
    """The id by which the client returns the result of a call; None for other items."""
    try:
        call = _call.decode(item)
        return read_text(call.call_id) if is_call(call.type) else None
    except UNREADABLE:
        return None


def _type_of(item: msgspec.Raw) -> str:
    try:
        return _call.decode(item).type
    except UNREADABLE:
        return ""


def _count_calls(items: list[msgspec.Raw]) -> HostedCalls:
    """The calls among output items. Those of the code interpreter may share a container."""
    kinds: list[str] = []
    containers: set[bytes] = set()
    for raw in items:
        try:
            item = _call.decode(raw)
        except UNREADABLE:
            continue
        if item.type == "code_interpreter_call" and is_given(item.container_id):
            containers.add(bytes(item.container_id))
        else:
            kinds.append(item.type)
    web_search, file_search, code_interpreter = (
        kinds.count(f"{tool}_call") for tool in HostedCalls._fields
    )
    return HostedCalls(web_search, file_search, code_interpreter + len(containers))


def view_response(data: bytes) -> ResponseView | None:
    """Read a complete response or one event; None for an unknown form."""
    try:
        return ResponseView(data)
    except UNREADABLE:
        return None


def error_event(error: RouterError) -> bytes:
    """The last event of a failed stream, in the form that OpenAI's clients raise."""
    fields = {"message": error.message, "param": error.param, "code": error.code}
    data = {
        "type": "error",
        "sequence_number": 0,
        **fields,
        "error": {"type": error.type, **fields},
    }
    return b"event: error\ndata: " + _encoder.encode(data) + b"\n\n"


class _IdTree(msgspec.Struct):
    """The objects with ids in an event or a complete response."""

    id: str | None = None
    item: "_IdTree | None" = None
    response: "_IdTree | None" = None
    output: "list[_IdTree] | None" = None


_id_tree = msgspec.json.Decoder(_IdTree)


class ResponseIdRewriter:
    """Replaces the ids of one response of the local tier and of its output items.

    The local server draws ids from a million numbers, so conversations soon share some. The new ids
    contain the id of the request, so an item's id names its response.
    """

    def __init__(self, request_id: str) -> None:
        self._unique = request_id.rpartition("_")[2]
        self._new_ids: dict[bytes, bytes] = {}

    def rename(self, text: bytes, data: bytes) -> bytes:
        """An event or a complete response with new ids; all other bytes stay.

        Args:
            text: the event or the response.
            data: the JSON in it, which contains the ids.

        The pattern cannot match inside a text: JSON strings contain no bare quotes.
        """
        try:
            self._collect(_id_tree.decode(data))
        except UNREADABLE:
            return text
        return _ID.sub(self._replace, text)

    def _collect(self, tree: _IdTree) -> None:
        if tree.response is not None:
            self._collect(tree.response)
        if tree.id is not None:
            self._new_ids.setdefault(tree.id.encode(), f"resp_{self._unique}".encode())
        for item in (tree.item, *(tree.output or ())):
            if item is not None and item.id is not None:
                kind = _KIND.match(item.id)
                new_id = f"{kind[0] if kind else 'item'}_{self._unique}_{len(self._new_ids)}"
                self._new_ids.setdefault(item.id.encode(), new_id.encode())

    def _replace(self, match: re.Match[bytes]) -> bytes:
        return match[1] + b'"' + self._new_ids.get(match[2], match[2]) + b'"'


def read_response_id(item_id: str) -> str | None:
    """The id of the local tier's response that has this item; None for foreign ids."""
    match = _OWN_ITEM.fullmatch(item_id)
    return f"resp_{match['response']}" if match is not None else None
