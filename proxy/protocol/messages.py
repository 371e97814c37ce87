"""Anthropic's Messages API: requests, answers, events of a stream, and errors.

The local tier serves it (Ollama, vLLM, llama.cpp and LM Studio do), the cloud does not. As in
`chat`, bodies travel as bytes and are only viewed. The differences:

- The system prompt is a field of its own. Tool results are blocks of a user's message.
- A stream has typed events. `message_delta` has the stop reason and the final usage; an earlier
  event, `message_start`, may alone have the tokens of the prompt.
- `input_tokens` are without those that were read from or written to a cache.
- An error has a type from a closed set, and no `param`: the message names the field.

Sources: Anthropic's API reference for messages, streaming and errors; the `anthropic` package;
Ollama's anthropic/anthropic.go.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from proxy import logs
from proxy.errors import ContextExceeded, InvalidRequest, RouterError
from proxy.protocol.bounds import MAX_ITEMS, check_length, check_raw_length
from proxy.protocol.fields import (
    Fields,
    Shape,
    array_of,
    is_given,
    known_form,
    read_known,
    read_limit,
    read_text,
    read_type,
    require_model,
)
from proxy.protocol.outline import skim
from proxy.protocol.views import (
    MAX_VIEWED_BYTES,
    UNREADABLE,
    CompletionTokensDetails,
    FirstItems,
    PromptTokensDetails,
    Usage,
    is_empty,
    read_count,
)

T = TypeVar("T")

# Further blocks whose content local servers read. They may ignore that of other types.
_KNOWN_BLOCKS: Final = frozenset(
    {"thinking", "redacted_thinking", "server_tool_use", "web_search_tool_result"}
)
_SILENT_BLOCKS: Final = frozenset({"text", "thinking"})  # empty until their first delta
# The needs of a prompt that the body does not show in full.
_REFERENCES: Final = frozenset({"file", "file_id", "image_url", "content_part"})
_FINISH_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
_ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
# The API demands a limit, so clients send the largest one (Claude Code 32,000). To reserve all of
# it would leave a local model's context no room for a prompt. An answer that is cut off says so.
_MAX_ROOM: Final = 4096
_NONE: Final[Mapping[str, str]] = {}
_MAX_BLOCKS: Final = 512  # of an answer that is read; models write a few


# ── Requests ──────────────────────────────────────────────────────────────────────────────────


class _Block(msgspec.Struct):
    """One block of a message, of the system prompt or of a tool's result."""

    type: str = ""
    text: str | None = None
    source: msgspec.Raw = msgspec.Raw()  # of an image or a document
    content: msgspec.Raw = msgspec.Raw()  # of a result
    input: msgspec.Raw = msgspec.Raw()  # of a call
    thinking: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Body(msgspec.Struct):
    """The fields of a POST /v1/messages body that the proxy reads."""

    model: str
    messages: list[_Message]
    system: str | list[_Block] | None = None
    stream: bool | None = None
    tools: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    max_tokens: msgspec.Raw = msgspec.Raw()


_KnownBlock = known_form(
    _Block, "citations cache_control id name tool_use_id is_error signature data title context"
)
_KnownMessage = known_form(_Message, "", content=str | array_of(_KnownBlock))
_KnownBody = known_form(
    _Body,
    "temperature top_p top_k stop_sequences thinking output_config metadata service_tier container "
    "context_management mcp_servers cache_control",
    messages=array_of(_KnownMessage),
    system=(str | array_of(_KnownBlock) | None, None),
)
_BLOCK_SHAPE: Final = Shape.of(_KnownBlock)
_BODY_SHAPE: Final = Shape.of(
    _KnownBody,
    messages=Shape.of(_KnownMessage, content=_BLOCK_SHAPE),
    system=_BLOCK_SHAPE,
)
_body = msgspec.json.Decoder(_Body)
_known_body = msgspec.json.Decoder(_KnownBody)
_blocks = msgspec.json.Decoder(list[_Block])
_known_blocks = msgspec.json.Decoder(array_of(_KnownBlock))


class MessagesRequest:
    """The view of a POST /v1/messages body; a `views.RoutingRequest`."""

    prompt_field = "messages"
    hides_usage = False  # it is part of events that every client gets
    hosted_tools = uncounted_tools = ()
    history = ()  # one tier answers all turns
    max_tool_calls = service_tier = None
    choices = 1

    def __init__(self, body: _Body) -> None:
        self.model = body.model
        self.streams = bool(body.stream)
        limit = read_limit(body.max_tokens)
        self.answer_tokens = None if limit is None else min(limit, _MAX_ROOM)
        self.hints = self.metadata_values = _NONE
        self.turns: list[tuple[str, str]] = []
        self.needs: dict[str, str] = {}
        self.images = 0
        self.tool_chars = 0
        self._blocks = 0  # of all messages
        if is_given(body.tools) and not _forbids_tools(body.tool_choice):
            self.needs["tools"] = "tools"
            self.tool_chars = len(body.tools)
        if body.system:
            self.turns.append(("system", self._read_content(body.system, "system")))
        for index, message in enumerate(body.messages):
            text = self._read_content(message.content, f"messages[{index}].content")
            # A message of tool results has no text of its own.
            if text or isinstance(message.content, str):
                self.turns.append((message.role, text))

    @property
    def has_references(self) -> bool:
        return not _REFERENCES.isdisjoint(self.needs)

    def _read_content(
        self, content: str | list[_Block], at: str, *, in_result: bool = False
    ) -> str:
        """The text of a content. Tool results become turns, other parts are added by length.

        Args:
            in_result: whether it is that of a tool's result, which has no results in it.
        """
        if isinstance(content, str):
            return content
        self._blocks += len(content)
        check_length(range(self._blocks), "messages")
        for block in content:
            match block.type:
                case "tool_result" if not in_result:
                    self.needs.setdefault("tools", at)
                    self.turns.append(("tool", self._read_result(block.content, at)))
                case "image":
                    self.images += 1
                    self.needs.setdefault("vision", at)
                    if (source := read_type(block.source)) != "base64":
                        self.needs.setdefault("file_id" if source == "file" else "image_url", at)
                case "document":
                    self.needs.setdefault("file", at)
                case "text":
                    pass
                case "tool_use" if not in_result:
                    self.needs.setdefault("tools", at)
                    self.tool_chars += len(block.input)
                case kind if kind in _KNOWN_BLOCKS and not in_result:
                    self.tool_chars += len(block.thinking) + len(block.input) + len(block.content)
                case _:
                    self.needs.setdefault("content_part", at)
        return "\n".join(block.text for block in content if block.text)

    def _read_result(self, raw: msgspec.Raw, at: str) -> str:
        """The text of a tool's result: a string, or blocks."""
        if not bytes(raw).startswith(b"["):
            return read_text(raw) or ""
        blocks = read_known(_known_blocks, _blocks, raw, _BLOCK_SHAPE, at=at)
        return self._read_content(blocks, at, in_result=True)


def parse_messages(raw: bytes) -> MessagesRequest:
    """Decode the view of a request for a message, or for the count of its tokens.

    Raises:
        InvalidRequest: not JSON, or a field that is read is missing or wrong; `param` names it.
    """
    body = read_known(_known_body, _body, raw, _BODY_SHAPE)
    require_model(body.model)
    if not body.messages:
        raise InvalidRequest("There must be at least one message in 'messages'.", param="messages")
    if len(raw) > MAX_ITEMS:  # a smaller one cannot have more
        check_length(body.messages, "messages")
        check_raw_length(body.tools, "tools")
    return MessagesRequest(body)


def adapt_messages(fields: Fields) -> None:
    """Leave out tools that `tool_choice` forbids: Ollama ignores that field."""
    if _forbids_tools(fields.get("tool_choice", msgspec.Raw())):
        fields.pop("tools", None)
        del fields["tool_choice"]


def _forbids_tools(tool_choice: msgspec.Raw) -> bool:
    return read_type(tool_choice) == "none"


# ── Answers ───────────────────────────────────────────────────────────────────────────────────


class _Event(msgspec.Struct):
    """An event of a stream, or a complete answer."""

    type: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    content_block: msgspec.Raw = msgspec.Raw()
    delta: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    stop_reason: msgspec.Raw = msgspec.Raw()
    model: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()


class _Part(msgspec.Struct):
    """A block of an answer, the start or a delta of one, or the delta of the answer itself."""

    type: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    thinking: msgspec.Raw = msgspec.Raw()
    partial_json: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    stop_reason: msgspec.Raw = msgspec.Raw()

    @property
    def other_text(self) -> str:
        """Thinking, and the input of a tool, which is empty at the start of a call."""
        text = (read_text(self.thinking) or "") + (read_text(self.partial_json) or "")
        if not is_empty(self.input):
            text += bytes(self.input).decode(errors="replace")
        return text


class _Usage(msgspec.Struct):
    input_tokens: msgspec.Raw = msgspec.Raw()
    cache_read_input_tokens: msgspec.Raw = msgspec.Raw()
    cache_creation_input_tokens: msgspec.Raw = msgspec.Raw()
    output_tokens: msgspec.Raw = msgspec.Raw()
    output_tokens_details: msgspec.Raw = msgspec.Raw()


class _OutputDetails(msgspec.Struct):
    thinking_tokens: msgspec.Raw = msgspec.Raw()


_event = msgspec.json.Decoder(_Event)
_part = msgspec.json.Decoder(_Part)
_usage = msgspec.json.Decoder(_Usage)
_output_details = msgspec.json.Decoder(_OutputDetails)
_first_blocks = FirstItems(_MAX_BLOCKS)
_encoder = msgspec.json.Encoder()


class MessageView:
    """A complete answer or one event of a stream; a `views.AnswerView`.

    Values of an unexpected type are read as absent, each on its own.
    """

    __slots__ = (
        "failed",
        "finish_reason",
        "finished",
        "is_answer",
        "is_bare_error",
        "model",
        "other_text",
        "speaks",
        "text",
        "usage",
    )

    service_tier = hosted_calls = None
    is_usage_only = False
    call_ids = ()

    def __init__(self, data: bytes) -> None:
        event = _event.decode(skim(data))
        kind = read_text(event.type)
        parts, head, stop_reason = [], event, event.stop_reason
        match kind:
            case "content_block_delta":
                parts = [_read(_part, event.delta)]
            case "content_block_start":
                parts = [_read(_part, event.content_block)]
            case "message_start":
                head = _read(_event, event.message)
            case "message_delta":
                stop_reason = _read(_part, event.delta).stop_reason
            case "message" if len(data) <= MAX_VIEWED_BYTES:
                parts = [_read(_part, raw) for raw in _first_blocks.read(event.content)]
        self.text = "".join(read_text(part.text) or "" for part in parts)
        self.other_text = "".join(part.other_text for part in parts)
        self.failed = kind == "error" or is_given(event.error)
        self.is_bare_error = self.failed and kind != "error"
        self.is_answer = kind == "message" and not self.failed
        self.finished = kind in ("message", "message_delta")
        reason = read_text(stop_reason) or ""
        self.finish_reason = _FINISH_REASONS.get(reason, reason) or None
        self.speaks = bool(self.text or self.other_text) or (
            kind == "content_block_start" and read_text(parts[0].type) not in _SILENT_BLOCKS
        )
        self.model = read_text(head.model)
        self.usage = _read_usage(head.usage)
        if self.usage is not None and kind == "message_start":  # the answer has no tokens yet
            self.usage.completion_tokens = None


def view_message(data: bytes) -> MessageView | None:
    """Read a complete answer or one event; None for an unknown form."""
    try:
        return MessageView(data)
    except UNREADABLE:
        return None


def _read(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T:
    """An object; without fields if it is absent or in another form."""
    try:
        return decoder.decode(raw or b"{}")
    except UNREADABLE:
        return decoder.decode(b"{}")


def _read_usage(raw: msgspec.Raw) -> Usage | None:
    """Token counts, whose prompt includes the cached tokens; None without any.

    A prompt of 0 tokens is not counted yet.
    """
    counts = _read(_usage, raw)
    prompt = read_count(counts.input_tokens)
    cached = max(0, read_count(counts.cache_read_input_tokens) or 0)
    written = max(0, read_count(counts.cache_creation_input_tokens) or 0)
    prompt = (prompt + cached + written or None) if prompt is not None else None
    answer = read_count(counts.output_tokens)
    if prompt is None and answer is None:
        return None
    thinking = read_count(_read(_output_details, counts.output_tokens_details).thinking_tokens)
    return Usage(
        prompt,
        answer,
        PromptTokensDetails(cached or None, written or None),
        CompletionTokensDetails(thinking),
    )


# ── Errors ────────────────────────────────────────────────────────────────────────────────────


def error_body(error: RouterError) -> bytes:
    """The body that Anthropic's clients parse: `{"type": "error", "error": {type, message}}`."""
    return _encoder.encode(_error_fields(error))


def error_event(error: RouterError) -> bytes:
    """The last event of a failed stream, which Anthropic's clients raise."""
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


def _error_fields(error: RouterError) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "error",
        "error": {"type": _type_of(error), "message": _message_of(error)},
    }
    if request_id := logs.request_id.get():
        fields["request_id"] = request_id
    return fields


def _type_of(error: RouterError) -> str:
    default = "invalid_request_error" if error.status < 500 else "api_error"
    return _ERROR_TYPES.get(error.status, default)


def _message_of(error: RouterError) -> str:
    if isinstance(error, ContextExceeded):  # clients recognise this form, and shorten the prompt
        return f"prompt is too long: {error.prompt} tokens > {error.max_prompt} maximum"
    if error.param and error.param not in error.message:
        return f"{error.param}: {error.message}"
    return error.message
