"""Requests of the Responses API: the parts that the router reads, and their input items.

As in `chat`, bodies travel as bytes and are only viewed. The differences:

- Input is a text or a list of items. Only messages and tool results have text.
- A request may continue a response by its id, which needs a store (`gateway.stored_responses`).

The answers are in `response_objects`.

Sources: the OpenAI API reference for responses, and what Ollama's OpenAI endpoint sends.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from proxy.errors import InvalidRequest
from proxy.protocol.bounds import MAX_ITEMS, check_length, check_metadata
from proxy.protocol.fields import (
    Shape,
    array_of,
    drop_forbidden_tools,
    is_given,
    known_form,
    read_cache_key,
    read_hints,
    read_known,
    read_limit,
    read_metadata,
    read_service_tier,
    read_text,
    read_texts,
    read_type,
    require_model,
)
from proxy.protocol.ollama import REASONING_EFFORTS
from proxy.protocol.response_objects import is_call, read_response_id
from proxy.protocol.views import HostedCalls, Turn

# What a tool of this type needs. The client runs functions, custom tools and namespaces, which are
# groups of both. The server runs all others.
_NEED_OF_TOOL: Final = {
    "function": "tools",
    "custom": "custom_tools",
    "namespace": "namespace",
    "web_search": "web_search",
}
_HOSTED: Final = frozenset({"hosted_tools", "web_search"})  # of these needs
# These cost only their tokens: the client runs them, or they have no fee.
_FREE_TOOLS: Final = frozenset(
    {"function", "custom", "namespace", "local_shell", "apply_patch", "computer"}
    | {"computer_use_preview", "mcp", "tool_search"}
)
# Of tools with a fee. A type may have a date: web_search_preview_2025_03_11.
_HOSTED_TOOL: Final = re.compile("|".join(HostedCalls._fields))
_COUNTED_TOOL: Final = re.compile(
    rf"(?:{_HOSTED_TOOL.pattern})(?:_preview)?(?:_\d{{4}}_\d\d_\d\d)?"
)
_RESULTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
# A server may trim other characters, and so read the id of another key's response.
_PREVIOUS: Final = re.compile(r"[\w.:~-]{1,200}", re.ASCII)
# The needs of a prompt that the body does not show in full.
_REFERENCES: Final = frozenset(
    {"state", "file", "file_id", "audio", "content_part", "input_item", *_HOSTED}
)


class _Part(msgspec.Struct):
    """One part of a message's content."""

    type: str = ""
    text: str | None = None
    image_url: str | None = None
    file_id: msgspec.Raw = msgspec.Raw()
    file_data: msgspec.Raw = msgspec.Raw()
    file_url: msgspec.Raw = msgspec.Raw()
    input_audio: msgspec.Raw = msgspec.Raw()

    @property
    def kinds(self) -> tuple[str, ...]:
        """Its type; without one, what it contains, which some servers go by."""
        if self.type:
            return (self.type,)
        found = {
            "input_image": self.image_url is not None,
            "input_file": any(map(is_given, (self.file_id, self.file_data, self.file_url))),
            "input_audio": is_given(self.input_audio),
        }
        return tuple(kind for kind, is_there in found.items() if is_there)


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Item(msgspec.Struct):
    """The type of an input item, the id of a tool call, and the output of a tool result."""

    type: str | None = None
    call_id: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()


class _Tool(msgspec.Struct):
    type: str
    environment: msgspec.Raw = msgspec.Raw()  # of a shell: the client's or a container

    @property
    def is_counted(self) -> bool:
        """Whether all that it costs is counted."""
        if self.type == "shell":
            return read_type(self.environment) == "local"
        return self.type in _FREE_TOOLS or _COUNTED_TOOL.fullmatch(self.type) is not None


class _Text(msgspec.Struct):
    format: msgspec.Raw = msgspec.Raw()


class _Reasoning(msgspec.Struct):
    effort: msgspec.Raw = msgspec.Raw()


class Body(msgspec.Struct):
    """The fields of a POST /v1/responses body that the router reads."""

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
    max_calls: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="max_tool_calls")
    user: msgspec.Raw = msgspec.Raw()
    prompt_cache_key: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()


_KnownPart = known_form(_Part, "detail annotations logprobs filename refusal")
_KnownBody = known_form(Body, "temperature top_p truncation stream_options safety_identifier")
# Of messages, tool calls, tool results and reasoning. `_Message` reads the content of a message.
_KnownItem = known_form(
    _Item, "id status role content name arguments input summary encrypted_content"
)
_KnownMessage = known_form(
    _Message, "type id status name", content=(str | array_of(_KnownPart) | None, None)
)


class ResponsesRequest:
    """The view of a POST /v1/responses body; a `views.RoutingRequest`.

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
        self.history: list[Turn] = []
        if isinstance(body.input, str):
            self._add_turn("user", body.input)
        else:
            for index, item in enumerate(body.input or ()):
                self._read_item(item, f"input[{index}]")

    @property
    def names_model(self) -> bool:
        """Whether the body names a model. Without one a stored prompt chooses it."""
        return self._body.model is not None

    @property
    def has_references(self) -> bool:
        return self.previous is not None or bool(_REFERENCES.intersection(self.needs))

    @property
    def refers_only_to_previous(self) -> bool:
        """Whether `previous_response_id` is all that the body does not show in full."""
        return self.previous is not None and not _REFERENCES.intersection(self.needs)

    @property
    def hosted_tools(self) -> list[str]:
        if is_given(self._body.prompt):  # a stored prompt may have any tools
            return list(HostedCalls._fields)
        if _HOSTED.isdisjoint(self.needs):
            return []
        kinds = (_HOSTED_TOOL.match(tool.type) for tool in self._body.tools or ())
        return [kind[0] for kind in kinds if kind is not None]

    @property
    def cloud_tools(self) -> list[str]:
        """The types of the offered tools that only the cloud runs."""
        if "hosted_tools" not in self.needs:
            return []
        return [tool.type for tool in self._body.tools or () if tool.type not in _NEED_OF_TOOL]

    @property
    def uncounted_tools(self) -> list[str]:
        if _HOSTED.isdisjoint(self.needs):
            return []
        return [tool.type for tool in self._body.tools or () if not tool.is_counted]

    @property
    def max_tool_calls(self) -> int | None:
        return read_limit(self._body.max_calls)

    @property
    def service_tier(self) -> str | None:
        return read_service_tier(self._body.service_tier)

    @property
    def answer_tokens(self) -> int | None:
        return read_limit(self._body.max_output_tokens)

    @property
    def choices(self) -> int:
        return 1

    @property
    def hints(self) -> Mapping[str, str]:
        body = self._body
        hints = read_hints(body.user, body.metadata) | read_cache_key(body.prompt_cache_key)
        stored = read_text(body.conversation) or _identify(body.conversation).id
        return {**hints, "conversation": stored} if stored else hints

    @property
    def metadata_values(self) -> Mapping[str, str]:
        return read_metadata(self._body.metadata)

    def _read_item(self, raw: msgspec.Raw, at: str) -> None:
        """Add an input item as a turn or by its length, and add its needs."""
        item = read_known(_known_item, _item, raw, _ITEM_SHAPE, at=at)
        match item.type:
            case None | "message":
                message = read_known(_known_message, _message, raw, _ITEM_SHAPE, at=at)
                content = message.content
                if isinstance(content, list):
                    content = self._read_parts(content, f"{at}.content")
                self._add_turn(message.role, content or "")
                return
            case "function_call" | "function_call_output":
                self.needs.setdefault("tools", at)
            case "item_reference":
                self.needs.setdefault("state", at)
            case "reasoning":
                pass
            case _:
                self.needs.setdefault("input_item", at)
        if is_call(item.type) and (call_id := read_text(item.call_id)):
            self.history.append(Turn("assistant", "", (call_id,)))
        output = bytes(item.output) if item.type in _RESULTS else b""
        if output.startswith(b'"'):
            self._add_turn("tool", msgspec.json.decode(output))
        elif output.startswith(b"["):
            at = f"{at}.output"
            parts = read_known(_known_parts, _parts, item.output, _PART_SHAPE, at=at)
            self._add_turn("tool", self._read_parts(parts, at))
        else:
            self.tool_chars += len(raw)

    def _add_turn(self, role: str, text: str) -> None:
        self.turns.append((role, text))
        self.history.append(Turn(role, text))

    def _read_parts(self, parts: list[_Part], at: str) -> str:
        needs = self.needs
        self._parts += len(parts)
        check_length(range(self._parts), "input")
        for part in parts:
            for kind in part.kinds:
                match kind:
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


_body = msgspec.json.Decoder(Body)
_known_body = msgspec.json.Decoder(_KnownBody)
_known_item = msgspec.json.Decoder(_KnownItem)
_known_message = msgspec.json.Decoder(_KnownMessage)
_known_parts = msgspec.json.Decoder(array_of(_KnownPart))
_PART_SHAPE: Final = Shape.of(_KnownPart)
_ITEM_SHAPE: Final = Shape.of(_KnownItem, content=_PART_SHAPE, output=_PART_SHAPE)
_BODY_SHAPE: Final = Shape.of(_KnownBody)
_item = msgspec.json.Decoder(_Item)
_message = msgspec.json.Decoder(_Message)
_parts = msgspec.json.Decoder(list[_Part])
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


def _needs(request: Body) -> dict[str, str]:
    needs: dict[str, str] = {}
    choice = bytes(request.tool_choice)
    if request.tools and choice != b'"none"':
        needs["tools"] = "tools"
        for tool in request.tools:
            needs[_NEED_OF_TOOL.get(tool.type, "hosted_tools")] = "tools"
        if choice not in (b"", b"null", b'"auto"'):
            needs["tool_choice"] = "tool_choice"
        if bytes(request.parallel_tool_calls) == b"false":  # requests at most one call
            needs["parallel_tool_calls"] = "parallel_tool_calls"
    form = read_type(request.text.format) if request.text is not None else None
    if form in ("json_schema", "json_object"):
        needs[form] = "text.format"
    if any("logprobs" in name for name in read_texts(request.include)):
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


def _as_items(value: str | list[msgspec.Raw] | None) -> list[msgspec.Raw]:
    """The input as a list of items; a text is a message of the user."""
    if isinstance(value, str):
        return [msgspec.Raw(_encoder.encode({"role": "user", "content": value}))]
    return value or []


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


class _ItemIdentity(msgspec.Struct):
    """The fields that show which tier and which response an item comes from."""

    type: str | None = None
    id: str | None = None
    encrypted_content: str | None = None


_identity = msgspec.json.Decoder(_ItemIdentity)


def read_reference(raw: msgspec.Raw) -> tuple[str, str] | None:
    """The ids of item and response that an input item refers to; None for foreign ids."""
    item = _identify(raw)
    if item.type != "item_reference" or item.id is None:
        return None
    response_id = read_response_id(item.id)
    return (item.id, response_id) if response_id is not None else None


def find_item(items: Iterable[msgspec.Raw], item_id: str) -> msgspec.Raw | None:
    """The item with this id; None without one."""
    return next((raw for raw in items if _identify(raw).id == item_id), None)


def without_foreign_reasoning(raw: bytes, items: list[msgspec.Raw], *, is_local: bool) -> bytes:
    """A request without the reasoning items of the other tier.

    Reasoning is sent in `encrypted_content`. The cloud rejects content that it did not encrypt, and
    the local server takes any content as its own model's reasoning.
    """
    identified = ((raw_item, _identify(raw_item)) for raw_item in items)
    remaining = [
        raw_item
        for raw_item, item in identified
        if item.type != "reasoning" or _is_of_local(item) == is_local
    ]
    return raw if len(remaining) == len(items) else replace_input(raw, remaining)


def _is_of_local(reasoning: _ItemIdentity) -> bool:
    """Whether the local model wrote a reasoning item. Without an id, unencrypted text tells."""
    if reasoning.id is not None:
        return read_response_id(reasoning.id) is not None
    return any(char.isspace() for char in reasoning.encrypted_content or "")


def _identify(raw: msgspec.Raw) -> _ItemIdentity:
    try:
        return _identity.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _ItemIdentity()
