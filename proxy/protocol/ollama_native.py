"""Requests of Ollama's native API, and the same requests in OpenAI's format.

A request of the native API is read once. The local server gets it as the client wrote it, if it has
this API itself. Every other server gets the translation, and the router reads the translation, too.

Options that only a local server has (`num_ctx`, `top_k`, `mirostat`, ...), `keep_alive` and the
thoughts of earlier answers are left out of the translation. A request whose answer depends on the
local server (a template, a suffix, a token context) has a `local_field`.

Sources: Ollama's docs/api.md, api/types.go and server/routes.go as of v0.33.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from proxy.errors import InvalidRequest
from proxy.protocol.bounds import check_length
from proxy.protocol.cut_strings import CutBody
from proxy.protocol.fields import (
    Shape,
    check_body,
    is_given,
    read_request,
    read_text,
    refuse_lookalikes,
)
from proxy.protocol.ollama import TAG
from proxy.record import OWN_NAMES

T = TypeVar("T")

CHAT_NAME: Final = "ollama.chat"
GENERATE_NAME: Final = "ollama.generate"
EMBED_NAME: Final = "ollama.embed"
EMBEDDINGS_NAME: Final = "ollama.embeddings"
MANAGEMENT_NAME: Final = "ollama.manage"

# For a client of this API whose address ends with /v1.
NO_VERSION: Final = "Ollama's API is below /api: its clients need the address without /v1"
# The requests that manage models: method and path.
MANAGED: Final = re.compile(
    r"POST /api/(?:pull|push|create|copy)|DELETE /api/delete"
    r"|(?:HEAD|POST) /api/blobs/sha256[:-][0-9a-f]{64}"
)

# The first characters of images in base64, and their types.
_IMAGE_TYPES: Final = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}
_OTHER_IMAGE: Final = "image/jpeg"
_EFFORTS: Final = ("low", "medium", "high", "max")
_EFFORT_OF_TRUE: Final = "medium"  # the default of OpenAI's reasoning models
_SCHEMA_NAME: Final = "answer"  # OpenAI requires one
# The fields of a translation that tune an answer, and that the client has not written itself.
ADDED_FIELDS: Final = frozenset({"reasoning_effort"})
_NO_CALL: Final = "call_0"  # the id of a result whose call is not in the messages
# Options with the same name and meaning in OpenAI's format.
_SHARED_OPTIONS: Final = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
)


class NativeRequest(NamedTuple):
    """A request of the native API.

    Attributes:
        body: as the client sent it.
        translated: the request to the endpoint of OpenAI's API.
        local_field: the field that only the local server's own API has; None without one.
        context_tokens: the context that the client asks for (`num_ctx`), in tokens.
        is_load: whether it loads or unloads a model and asks for no answer.
        is_unload: whether it unloads one.
        thinks: whether the model is to think before it answers.
        drops_thinking: whether `think` is left out, as no model could.
    """

    body: bytes
    translated: bytes
    local_field: str | None = None
    context_tokens: int | None = None
    is_load: bool = False
    is_unload: bool = False
    thinks: bool = False
    drops_thinking: bool = False


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw()


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | None = None
    images: list[str] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Options(msgspec.Struct):
    num_predict: float | None = None
    num_ctx: float | None = None
    temperature: msgspec.Raw = msgspec.Raw()
    top_p: msgspec.Raw = msgspec.Raw()
    seed: msgspec.Raw = msgspec.Raw()
    stop: msgspec.Raw = msgspec.Raw()
    presence_penalty: msgspec.Raw = msgspec.Raw()
    frequency_penalty: msgspec.Raw = msgspec.Raw()


class _Generation(msgspec.Struct, kw_only=True):
    """The fields that chat and generate have in common."""

    model: str
    stream: bool | None = None
    format: msgspec.Raw = msgspec.Raw()
    options: _Options | None = None
    think: bool | str | None = None
    keep_alive: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    top_logprobs: msgspec.Raw = msgspec.Raw()


class _Chat(_Generation, kw_only=True):
    messages: list[_Message] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    render_only: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="_debug_render_only")


class _Generate(_Generation, kw_only=True):
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    suffix: msgspec.Raw = msgspec.Raw()
    template: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()
    raw: msgspec.Raw = msgspec.Raw()
    width: msgspec.Raw = msgspec.Raw()
    height: msgspec.Raw = msgspec.Raw()
    steps: msgspec.Raw = msgspec.Raw()
    render_only: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="_debug_render_only")


class _Embed(msgspec.Struct):
    model: str
    input: msgspec.Raw = msgspec.Raw()
    dimensions: msgspec.Raw = msgspec.Raw()


class _Embeddings(msgspec.Struct):
    model: str
    prompt: str = ""


_chat = msgspec.json.Decoder(_Chat)
_generate = msgspec.json.Decoder(_Generate)
_embed = msgspec.json.Decoder(_Embed)
_embeddings = msgspec.json.Decoder(_Embeddings)
_encode = msgspec.json.Encoder().encode

_CHAT_SHAPE: Final = Shape.of(
    _Chat,
    messages=Shape.of(_Message, tool_calls=Shape.of(_ToolCall, function=Shape.of(_Function))),
)
_GENERATE_SHAPE: Final = Shape.of(_Generate)
_EMBED_SHAPE: Final = Shape.of(_Embed)
_EMBEDDINGS_SHAPE: Final = Shape.of(_Embeddings)

# Fields of a generate request that need the local server, and of an image model.
_LOCAL_FIELDS: Final = ("suffix", "template", "context", "raw", "width", "height", "steps")


def read_chat_request(body: bytes) -> NativeRequest:
    """Read the body of POST /api/chat.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    cut = _cut(body)
    request = _read(_chat, cut.short, _CHAT_SHAPE)
    messages = request.messages or []
    check_length(messages, "messages")
    fields = _common_fields(request)
    fields["messages"] = _translate_messages(messages, cut) or [_turn("user", "")]
    if is_given(request.tools):
        fields["tools"] = request.tools
    return NativeRequest(
        body,
        cut.restore(_encode(fields)),
        local_field=_local_field(request, ("render_only",)),
        context_tokens=_context_tokens(request.options),
        is_load=not messages,
        is_unload=not messages and _is_zero(request.keep_alive),
        thinks=bool(request.think),
    )


def read_generate_request(body: bytes) -> NativeRequest:
    """Read the body of POST /api/generate. Raises as `read_chat_request` does."""
    cut = _cut(body)
    request = _read(_generate, cut.short, _GENERATE_SHAPE)
    fields = _common_fields(request)
    prompt = request.prompt or ""
    messages = [_turn("user", prompt, request.images, at="images")]
    if request.system:
        messages.insert(0, _turn("system", request.system))
    fields["messages"] = messages
    return NativeRequest(
        body,
        cut.restore(_encode(fields)),
        local_field=_local_field(request, (*_LOCAL_FIELDS, "render_only")),
        context_tokens=_context_tokens(request.options),
        is_load=not prompt and not request.images,
        is_unload=not prompt and not request.images and _is_zero(request.keep_alive),
        thinks=bool(request.think),
    )


def read_embed_request(body: bytes) -> NativeRequest:
    """Read the body of POST /api/embed. Raises as `read_chat_request` does."""
    cut = _cut(body)
    request = _read(_embed, cut.short, _EMBED_SHAPE)
    fields: dict[str, Any] = {"model": without_tag(request.model), "input": request.input or ""}
    if is_given(request.dimensions):
        fields["dimensions"] = request.dimensions
    return NativeRequest(body, cut.restore(_encode(fields)), is_load=not is_given(request.input))


def read_embeddings_request(body: bytes) -> NativeRequest:
    """Read the body of POST /api/embeddings, the older form. Raises as `read_chat_request` does."""
    cut = _cut(body)
    request = _read(_embeddings, cut.short, _EMBEDDINGS_SHAPE)
    fields = {"model": without_tag(request.model), "input": request.prompt}
    return NativeRequest(body, cut.restore(_encode(fields)), is_load=not request.prompt)


def _cut(body: bytes) -> CutBody:
    """A body of which the bulk of long strings is put back after the translation.

    Raises:
        InvalidRequest: not UTF-8, or too many values.
    """
    cut = CutBody.of(body)
    if cut.short is not body:  # else `read_request` checks it
        check_body(body)
    return cut


def _read(decoder: msgspec.json.Decoder[T], body: bytes, shape: Shape) -> T:
    """Decode a request. A name that is a known one but for case is refused.

    Ollama ignores case, so it would answer another prompt than the one that was routed.
    """
    request = read_request(decoder, body)
    refuse_lookalikes(msgspec.Raw(body), shape)
    return request


def without_tag(model: str) -> str:
    """A name that the proxy itself defines, without the tag that clients add; others unchanged."""
    name = model.removesuffix(TAG)
    return name if name.lower() in OWN_NAMES or name.lower().startswith("auto:") else model


def _common_fields(request: _Generation) -> dict[str, Any]:
    """The fields of the translation that chat and generate have in common."""
    fields: dict[str, Any] = {
        "model": without_tag(request.model),
        "stream": request.stream is not False,  # Ollama streams by default
    }
    if (response_format := _response_format(request.format)) is not None:
        fields["response_format"] = response_format
    if (effort := _effort(request.think)) is not None:
        fields["reasoning_effort"] = effort
    if bytes(request.logprobs) == b"true":
        fields["logprobs"] = True
        if is_given(request.top_logprobs):
            fields["top_logprobs"] = request.top_logprobs
    if request.options is not None:
        fields |= _translate_options(request.options)
    return fields


def _translate_options(options: _Options) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in _SHARED_OPTIONS:
        value: msgspec.Raw = getattr(options, name)
        if is_given(value):
            fields[name] = value
    if options.num_predict is not None and options.num_predict >= 1:  # -1 and -2: no limit
        fields["max_completion_tokens"] = int(options.num_predict)
    return fields


def _context_tokens(options: _Options | None) -> int | None:
    if options is None or options.num_ctx is None or options.num_ctx < 1:
        return None
    return int(options.num_ctx)


def _is_zero(keep_alive: msgspec.Raw) -> bool:
    """Whether a duration is 0: a number of seconds, or a text with a unit."""
    return re.fullmatch(rb'"?0+(?:\.0*)?(?:ms|[smh])?"?', bytes(keep_alive)) is not None


def _response_format(form: msgspec.Raw) -> dict[str, Any] | None:
    """`response_format` for a `format`: "json", or a JSON schema."""
    text = bytes(form)
    if text.startswith(b"{"):
        return {"type": "json_schema", "json_schema": {"name": _SCHEMA_NAME, "schema": form}}
    if text in (b"", b"null", b'""'):
        return None
    if read_text(form) == "json":
        return {"type": "json_object"}
    raise InvalidRequest(
        "Invalid value for 'format': expected \"json\" or a JSON schema.", param="format"
    )


def _effort(think: bool | str | None) -> str | None:
    """`reasoning_effort` for `think`. Without thinking it is left to the server.

    Many models without reasoning reject the field with any value.
    """
    if think is True:
        return _EFFORT_OF_TRUE
    if not think:
        return None
    if think not in _EFFORTS:
        raise InvalidRequest(
            f"Invalid value for 'think': expected true, false or one of {', '.join(_EFFORTS)}.",
            param="think",
        )
    return think


def _local_field(request: _Generation, names: Sequence[str]) -> str | None:
    """The first given field among those that only the local server has."""
    for name in names:
        value: msgspec.Raw = getattr(request, name)
        if is_given(value) and bytes(value) not in (b'""', b"false", b"0"):
            return "_debug_render_only" if name == "render_only" else name
    return None


def _translate_messages(messages: Sequence[_Message], cut: CutBody) -> list[dict[str, Any]]:
    """The messages in OpenAI's format. Calls and results without an id get one, in order.

    Args:
        cut: what the messages were read of.
    """
    translated = []
    pending = _PendingCalls()
    for index, message in enumerate(messages):
        turn = _turn(
            message.role.lower(),
            message.content or "",
            message.images,
            at=f"messages[{index}].images",
        )
        if message.tool_calls:
            check_length(message.tool_calls, f"messages[{index}].tool_calls")
            calls = [
                _translate_call(call, f"call_{index}_{number}", cut)
                for number, call in enumerate(message.tool_calls)
            ]
            pending = _PendingCalls((call["id"], call["function"]["name"]) for call in calls)
            turn["tool_calls"] = calls
            turn["content"] = turn["content"] or None
        elif turn["role"] == "tool":
            turn["tool_call_id"] = message.tool_call_id or pending.take(message.tool_name)
        translated.append(turn)
    return translated


def _translate_call(call: _ToolCall, new_id: str, cut: CutBody) -> dict[str, Any]:
    # Whole: an object becomes a string here, so that its strings are escaped once more.
    raw = cut.restore(bytes(call.function.arguments))
    arguments = "{}" if raw in (b"", b"null") else raw.decode()
    if raw.startswith(b'"'):  # some clients send OpenAI's form
        arguments = read_text(msgspec.Raw(raw)) or "{}"
    function = {"name": call.function.name, "arguments": arguments}
    return {"id": call.id or new_id, "type": "function", "function": function}


class _PendingCalls:
    """The tool calls of a message that have no result yet. Each is looked at twice at most.

    Args:
        calls: the id and the name of each, in order.
    """

    def __init__(self, calls: Iterable[tuple[str, str]] = ()) -> None:
        self._ids: OrderedDict[int, str] = OrderedDict()  # by position: ids may repeat
        self._positions: dict[str, deque[int]] = {}  # by name, also of calls that are taken
        for position, (call_id, name) in enumerate(calls):
            self._ids[position] = call_id
            self._positions.setdefault(name, deque()).append(position)

    def take(self, name: str | None) -> str:
        """The id of the call that a result answers: of the same name if it has one, else the next.

        A result without a call gets an id, too.
        """
        named = self._positions.get(name or "", deque())
        while named and named[0] not in self._ids:
            named.popleft()
        position = named[0] if named else next(iter(self._ids), None)
        return _NO_CALL if position is None else self._ids.pop(position)


def _turn(
    role: str, text: str, images: Sequence[str] | None = None, *, at: str = ""
) -> dict[str, Any]:
    if not images:
        return {"role": role, "content": text}
    check_length(images, at)
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    parts += ({"type": "image_url", "image_url": {"url": _data_url(item)}} for item in images)
    return {"role": role, "content": parts}


def _data_url(image: str) -> str:
    """An image in base64 as a data URL, with the type that its first bytes tell."""
    if image.startswith("data:"):
        return image
    kinds = (kind for start, kind in _IMAGE_TYPES.items() if image.startswith(start))
    return f"data:{next(kinds, _OTHER_IMAGE)};base64,{image}"
