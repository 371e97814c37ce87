"""The Responses API's wire format: the parts that the router reads.

As in `chat`, bodies travel as bytes and are only viewed. The differences:

- Input is a text or a list of items, of which only messages and tool results have text.
- A stream has typed events and ends with one of three, not with [DONE].
- A response may be continued by its id, which needs a store (`gateway.stored_responses`).

Sources: the OpenAI API reference for responses, and what Ollama's OpenAI endpoint sends.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from proxy.errors import InvalidRequest, RouterError
from proxy.protocol.bounds import MAX_ITEMS, check_length, check_metadata
from proxy.protocol.fields import (
    Shape,
    drop_forbidden_tools,
    is_given,
    read_hints,
    read_known,
    read_limit,
    read_request,
    read_text,
    refuse_lookalikes,
    require_model,
)
from proxy.protocol.ollama import REASONING_EFFORTS
from proxy.protocol.views import CompletionTokensDetails, PromptTokensDetails, Usage

T = TypeVar("T")

# The client runs these tools; the server runs all others.
_CLIENTS_TOOLS: Final = frozenset({"function", "custom"})
_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
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
# A server may trim other characters, and so read the id of another key's response.
_PREVIOUS: Final = re.compile(r"[\w.:~-]{1,200}", re.ASCII)
_TEXT_DELTAS: Final = frozenset({"response.output_text.delta", "response.refusal.delta"})


class _Part(msgspec.Struct):
    """One part of a message's content."""

    type: str = "input_text"
    text: str | None = None
    image_url: str | None = None
    file_id: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Item(msgspec.Struct):
    """The type of an input item, and the output of a tool result."""

    type: str | None = None
    output: msgspec.Raw = msgspec.Raw()


class _Tool(msgspec.Struct):
    type: str


class _Text(msgspec.Struct):
    format: msgspec.Raw = msgspec.Raw()


class _Reasoning(msgspec.Struct):
    effort: msgspec.Raw = msgspec.Raw()


class Body(msgspec.Struct):
    """What is read of a POST /v1/responses body."""

    model: str | None = None
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = msgspec.Raw()
    background: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    tools: list[_Tool] | None = None
    tool_choice: msgspec.Raw = msgspec.Raw()
    parallel_tool_calls: msgspec.Raw = msgspec.Raw()
    reasoning: _Reasoning | None = None
    text: _Text | None = None
    include: msgspec.Raw = msgspec.Raw()
    top_logprobs: msgspec.Raw = msgspec.Raw()
    max_output_tokens: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    prompt_cache_key: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class _KnownBody(Body, forbid_unknown_fields=True):
    """The same with all fields that clients usually send; see `read_known`."""

    temperature: msgspec.Raw = msgspec.Raw()
    top_p: msgspec.Raw = msgspec.Raw()
    truncation: msgspec.Raw = msgspec.Raw()
    max_tool_calls: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    safety_identifier: msgspec.Raw = msgspec.Raw()


class _KnownItem(_Item, forbid_unknown_fields=True):
    """The same with all fields of messages, tool calls, tool results and reasoning."""

    id: msgspec.Raw = msgspec.Raw()
    status: msgspec.Raw = msgspec.Raw()
    role: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    call_id: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    arguments: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    summary: msgspec.Raw = msgspec.Raw()
    encrypted_content: msgspec.Raw = msgspec.Raw()


class _KnownPart(_Part, forbid_unknown_fields=True):
    detail: msgspec.Raw = msgspec.Raw()
    annotations: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    file_data: msgspec.Raw = msgspec.Raw()
    file_url: msgspec.Raw = msgspec.Raw()
    filename: msgspec.Raw = msgspec.Raw()
    input_audio: msgspec.Raw = msgspec.Raw()
    refusal: msgspec.Raw = msgspec.Raw()


class _KnownMessage(_Message, kw_only=True):
    content: str | list[_KnownPart] | None = None  # type: ignore[assignment]


class ResponsesRequest:
    """What the router reads of a POST /v1/responses; a `views.RoutingRequest`.

    Attributes:
        previous: the id of the response that this one continues.
        may_be_continued: whether the client may continue this response later.
        in_background: whether the client fetches the response later.
        items: the input as a list of items.
    """

    prompt_field = "input"
    hides_usage = False  # it is part of the last event

    def __init__(self, body: Body, raw: bytes) -> None:
        self._body = body
        self.model = body.model or "cloud"  # stored prompts are in the cloud
        self.streams = bool(body.stream)
        self.previous = body.previous_response_id
        self.may_be_continued = body.store is not False
        self.in_background = bytes(body.background) == b"true"
        self.items = _as_items(body.input)
        self.needs = _needs(body)
        self.images = 0
        self._parts = 0  # of all items
        fields = _raw_fields.decode(raw) if body.tools or body.text is not None else {}
        drop_forbidden_tools(fields)
        self.tool_chars = sum(len(fields.get(name, b"")) for name in ("tools", "text"))
        self.turns = [("system", body.instructions)] if body.instructions else []
        if isinstance(body.input, str):
            self.turns.append(("user", body.input))
        else:
            for index, item in enumerate(body.input or ()):
                self._read_item(item, f"input[{index}]")

    @property
    def answer_tokens(self) -> int | None:
        return read_limit(self._body.max_output_tokens)

    @property
    def choices(self) -> int:
        return 1

    @property
    def hints(self) -> Mapping[str, str]:
        body = self._body
        return read_hints(body.user, body.prompt_cache_key, body.metadata)

    def _read_item(self, raw: msgspec.Raw, at: str) -> None:
        """Add an input item as a turn or by its length, and note what it needs."""
        item = _read_part(_known_item, _item, raw, _ITEM_SHAPE, at=at)
        match item.type:
            case None | "message":
                message = _read_part(_known_message, _message, raw, _ITEM_SHAPE, at=at)
                content = message.content
                if isinstance(content, list):
                    content = self._read_parts(content, f"{at}.content")
                self.turns.append((message.role, content or ""))
                return
            case "function_call" | "function_call_output":
                self.needs.setdefault("tools", at)
            case "item_reference":
                self.needs.setdefault("state", at)
            case "reasoning":
                pass
            case _:
                self.needs.setdefault("input_item", at)
        output = bytes(item.output) if item.type in _RESULTS else b""
        if output.startswith(b'"'):
            self.turns.append(("tool", msgspec.json.decode(output)))
        elif output.startswith(b"["):
            at = f"{at}.output"
            parts = _read_part(_known_parts, _parts, item.output, _PART_SHAPE, at=at)
            self.turns.append(("tool", self._read_parts(parts, at)))
        else:
            self.tool_chars += len(raw)

    def _read_parts(self, parts: list[_Part], at: str) -> str:
        needs = self.needs
        self._parts += len(parts)
        check_length(range(self._parts), "input")
        for part in parts:
            match part.type:
                case "input_text" | "output_text":
                    pass
                case "input_image":
                    self.images += 1
                    needs.setdefault("vision", at)
                    if part.image_url is None or not part.image_url.startswith("data:"):
                        needs.setdefault("image_url", at)
                case "input_file":
                    needs.setdefault("file", at)
                case "input_audio":
                    needs.setdefault("audio", at)
                case _:
                    needs.setdefault("content_part", at)
            if is_given(part.file_id):
                needs.setdefault("file_id", at)
        return "\n".join(part.text for part in parts if part.text)


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: CompletionTokensDetails | None = None


class _OutputPart(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None


class _Output(msgspec.Struct):
    type: str = ""
    content: list[_OutputPart] | None = None


class _Response(msgspec.Struct):
    """A complete response: a body, or the content of a stream's last event."""

    id: str | None = None
    status: str | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()
    output: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    """An event of a stream; without `type`, the other fields of a complete response."""

    type: str = ""
    delta: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_body = msgspec.json.Decoder(Body)
_known_body = msgspec.json.Decoder(_KnownBody)
_known_item = msgspec.json.Decoder(_KnownItem)
_known_message = msgspec.json.Decoder(_KnownMessage)
_known_parts = msgspec.json.Decoder(list[_KnownPart])
_PART_SHAPE: Final = Shape.of(_KnownPart)
_ITEM_SHAPE: Final = Shape.of(_KnownItem, content=_PART_SHAPE, output=_PART_SHAPE)
_BODY_SHAPE: Final = Shape.of(_KnownBody)
_item = msgspec.json.Decoder(_Item)
_message = msgspec.json.Decoder(_Message)
_parts = msgspec.json.Decoder(list[_Part])
_response = msgspec.json.Decoder(_Response)
_event = msgspec.json.Decoder(_Event)
_output = msgspec.json.Decoder(_Output)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def parse_responses(raw: bytes) -> ResponsesRequest:
    """Decode the view of a POST /v1/responses body.

    Raises:
        InvalidRequest: not JSON, or a field we read is missing or wrong; `param` names it.
    """
    body = read_known(_known_body, _body, raw, _BODY_SHAPE)
    if body.model is not None:
        require_model(body.model)
    elif not is_given(body.prompt):  # a stored prompt may name one itself
        raise InvalidRequest("Missing required parameter: 'model'.", param="model")
    if body.input is None and not is_given(body.prompt) and not body.previous_response_id:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input")
    previous = body.previous_response_id
    if previous and _PREVIOUS.fullmatch(previous) is None:
        raise InvalidRequest(
            "Invalid 'previous_response_id': it is not the id of a response.",
            param="previous_response_id",
        )
    check_metadata(body.metadata)
    if len(raw) > MAX_ITEMS:  # a smaller one cannot have more
        check_length(body.tools or (), "tools")
        check_length(body.input or () if not isinstance(body.input, str) else (), "input")
    return ResponsesRequest(body, raw)


def _read_part(
    known: msgspec.json.Decoder[Any],
    lenient: msgspec.json.Decoder[T],
    raw: msgspec.Raw,
    shape: Shape,
    *,
    at: str,
) -> T:
    """Decode an item or its parts as `read_known` does a request."""
    try:
        part: T = known.decode(raw)
        return part
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        part = read_request(lenient, bytes(raw), at=at)
    refuse_lookalikes(raw, shape, at=f"{at}.")
    return part


def _needs(request: Body) -> dict[str, str]:
    needs: dict[str, str] = {}
    choice = bytes(request.tool_choice)
    if request.tools and choice != b'"none"':
        needs["tools"] = "tools"
        if any(tool.type not in _CLIENTS_TOOLS for tool in request.tools):
            needs["hosted_tools"] = "tools"
        if any(tool.type == "custom" for tool in request.tools):
            needs["custom_tools"] = "tools"
        if choice not in (b"", b"null", b'"auto"'):
            needs["tool_choice"] = "tool_choice"
        if bytes(request.parallel_tool_calls) == b"false":  # requests at most one call
            needs["parallel_tool_calls"] = "parallel_tool_calls"
    form = bytes(request.text.format) if request.text is not None else b""
    if b'"json_schema"' in form:
        needs["json_schema"] = "text.format"
    elif b'"json_object"' in form:
        needs["json_object"] = "text.format"
    if b"logprobs" in bytes(request.include):
        needs["logprobs"] = needs["response_logprobs"] = "include"
    elif bytes(request.top_logprobs) not in (b"", b"null", b"0"):
        needs["logprobs"] = needs["response_logprobs"] = "top_logprobs"
    if request.reasoning is not None and bytes(request.reasoning.effort) not in REASONING_EFFORTS:
        needs["reasoning_effort"] = "reasoning.effort"
    # These refer to the state that the cloud stores.
    for name in ("conversation", "prompt"):
        if is_given(getattr(request, name)):
            needs["state"] = name
    if bytes(request.background) == b"true":
        needs["state"] = "background"
    if request.store:
        needs["store"] = "store"
    return needs


class ResponseView:
    """A complete response or one event of a stream; a `views.AnswerView`.

    Attributes:
        id, output, body: those of a complete response, for storing it.
        is_pending: whether it is still being created in the background.
    """

    __slots__ = ("_event", "_response", "body", "finished", "id", "is_pending", "output")

    is_usage_only = False

    def __init__(self, data: bytes) -> None:
        self._event = event = _event.decode(data)
        self.finished = not event.type or event.type in _TERMINAL
        self._response: _Response | None = None
        self.id: str | None = None
        self.output: list[msgspec.Raw] = []
        self.is_pending = False
        self.body = b""
        if self.finished:
            self.body = bytes(event.response) if event.type else data
            self._response = response = _response.decode(self.body)
            self.id, self.output = response.id, response.output or []
            self.is_pending = response.status in ("queued", "in_progress")

    @property
    def usage(self) -> Usage | None:
        usage = self._response.usage if self._response is not None else None
        if usage is None:
            return None
        details = usage.input_tokens_details
        cached = PromptTokensDetails(details.cached_tokens) if details is not None else None
        return Usage(usage.input_tokens, usage.output_tokens, cached, usage.output_tokens_details)

    @property
    def service_tier(self) -> str | None:
        return read_text(self._response.service_tier) if self._response is not None else None

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
            delta = msgspec.json.decode(self._event.delta)
            return delta if isinstance(delta, str) else ""
        if self._event.type:
            return ""
        texts = []
        for raw in self.output:
            try:
                item = _output.decode(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            texts += [part.text or part.refusal or "" for part in item.content or ()]
        return "\n".join(texts)


def view_response(data: bytes) -> ResponseView | None:
    """Read a complete response or one event; None for an unknown form."""
    try:
        return ResponseView(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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


# Continuing an answer.


def _as_items(given: str | list[msgspec.Raw] | None) -> list[msgspec.Raw]:
    """The input as a list of items; a text is a message of the user."""
    if isinstance(given, str):
        return [msgspec.Raw(_encoder.encode({"role": "user", "content": given}))]
    return given or []


def replace_input(raw: bytes, items: list[msgspec.Raw], *, continues: bool = True) -> bytes:
    """A request with other input.

    Args:
        continues: whether to keep `previous_response_id`; otherwise `items` are the whole input.
    """
    fields = _raw_fields.decode(raw)
    if not continues:
        fields.pop("previous_response_id", None)
    fields["input"] = msgspec.Raw(_encoder.encode(items))
    return _encoder.encode(fields)


# Ids of the local tier's responses.


class _Named(msgspec.Struct):
    """The objects with ids in an event or a complete response."""

    id: str | None = None
    item: "_Named | None" = None
    response: "_Named | None" = None
    output: "list[_Named] | None" = None


class _Label(msgspec.Struct):
    """The fields that identify an item of the local tier."""

    type: str | None = None
    id: str | None = None
    encrypted_content: str | None = None


_named = msgspec.json.Decoder(_Named)
_label = msgspec.json.Decoder(_Label)
_ID: Final = re.compile(rb'("(?:item_|response_)?id"\s*:\s*)"([^"\\]+)"')
_KIND: Final = re.compile(r"[a-z]+(?=_)")
_OWN_ITEM: Final = re.compile(r"[a-z]+_(?P<answer>[0-9a-f]{32})_\d+")


class ResponseIdRewriter:
    """Replaces the ids of one response of the local tier and of its output items.

    The local server draws ids from a million numbers, so conversations soon share some. The new ids
    contain the id of the request, so an item's id names its response.
    """

    def __init__(self, request_id: str) -> None:
        self._unique = request_id.rpartition("_")[2]
        self._ours: dict[bytes, bytes] = {}

    def rename(self, text: bytes, data: bytes) -> bytes:
        """An event or a complete response with new ids; all other bytes stay.

        Args:
            text: the event or the response.
            data: the JSON in it, which contains the ids.

        The pattern cannot match inside a text: JSON strings contain no bare quotes.
        """
        try:
            self._learn(_named.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return text
        return _ID.sub(self._renamed, text)

    def _learn(self, named: _Named) -> None:
        if named.response is not None:
            self._learn(named.response)
        if named.id is not None:
            self._ours.setdefault(named.id.encode(), f"resp_{self._unique}".encode())
        for item in (named.item, *(named.output or ())):
            if item is not None and item.id is not None:
                kind = _KIND.match(item.id)
                own = f"{kind[0] if kind else 'item'}_{self._unique}_{len(self._ours)}"
                self._ours.setdefault(item.id.encode(), own.encode())

    def _renamed(self, found: re.Match[bytes]) -> bytes:
        return found[1] + b'"' + self._ours.get(found[2], found[2]) + b'"'


def read_reference(raw: msgspec.Raw) -> tuple[str, str] | None:
    """The ids of item and response that an input item refers to; None for foreign ids."""
    label = _label_of(raw)
    if label.type != "item_reference" or label.id is None:
        return None
    own = _OWN_ITEM.fullmatch(label.id)
    return (label.id, f"resp_{own['answer']}") if own is not None else None


def find_item(items: Iterable[msgspec.Raw], item_id: str) -> msgspec.Raw | None:
    """The item with this id; None without one."""
    return next((raw for raw in items if _label_of(raw).id == item_id), None)


def without_foreign_reasoning(raw: bytes, items: list[msgspec.Raw], *, is_local: bool) -> bytes:
    """A request without the reasoning items of the other tier.

    Reasoning is sent in `encrypted_content`. The cloud rejects content that it did not encrypt, and
    the local server takes any content as its own model's reasoning.
    """
    labels = ((item, _label_of(item)) for item in items)
    remaining = [
        item
        for item, label in labels
        if label.type != "reasoning" or _is_of_local(label) == is_local
    ]
    return raw if len(remaining) == len(items) else replace_input(raw, remaining)


def _is_of_local(label: _Label) -> bool:
    """Whether reasoning is the local model's. Without an id, unencrypted text is."""
    if label.id is not None:
        return _OWN_ITEM.fullmatch(label.id) is not None
    return any(char.isspace() for char in label.encrypted_content or "")


def _label_of(raw: msgspec.Raw) -> _Label:
    try:
        return _label.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Label()
