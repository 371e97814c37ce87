"""OpenAI's chat, completions and embeddings formats: requests, answers and stream chunks.

A request body travels as bytes. It is decoded into a view, a Struct of the fields that the router
reads, so that a wrong type is refused with its path. Responses and stream chunks are viewed and
never rebuilt. The Responses API is in `responses`.

Sources: the OpenAI API reference, and what Ollama's OpenAI endpoint sends.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Final

import msgspec

from proxy.errors import InvalidRequest
from proxy.protocol.bounds import (
    MAX_ITEMS,
    check_length,
    check_metadata,
    check_prompts,
    check_raw_length,
)
from proxy.protocol.fields import (
    Shape,
    array_of,
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
    read_types,
    require_model,
)
from proxy.protocol.ollama import REASONING_EFFORTS
from proxy.protocol.outline import skim
from proxy.protocol.views import (
    LARGE_BYTES,
    MAX_VIEWED_BYTES,
    UNREADABLE,
    FirstItems,
    Turn,
    Usage,
    is_empty,
    read_usage,
)

JSON_MEDIA_TYPE = b"application/json"


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model] | None  # Ollama without a model has null


class ContentPart(msgspec.Struct):
    """One content part of a message. Only its text is read, and the capabilities it needs."""

    type: str = ""
    text: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    file: msgspec.Raw = msgspec.Raw()
    input_audio: msgspec.Raw = msgspec.Raw()

    @property
    def is_image(self) -> bool:
        return "image_url" in self._kinds

    @property
    def needs(self) -> tuple[str, ...]:
        """The capabilities that this part needs."""
        if self.type == "text":
            return ()
        needs: tuple[str, ...] = ()
        for kind in self._kinds:
            match kind:
                case "text":
                    pass
                case "image_url":
                    # A data URL contains the image; any other URL must be fetched.
                    needs += ("vision",) if _is_inline(self.image_url) else ("vision", "image_url")
                case "input_audio":
                    needs += ("audio",)
                case "file":
                    needs += ("file_id", "file") if _has_id(self.file) else ("file",)
                case _:
                    needs += ("content_part",)
        return needs

    @property
    def _kinds(self) -> tuple[str, ...]:
        """Its type; without one, what it contains, which some servers go by."""
        if self.type:
            return (self.type,)
        kinds = ("image_url", "file", "input_audio")
        return tuple(kind for kind in kinds if is_given(getattr(self, kind)))


class _Address(msgspec.Struct):
    url: msgspec.Raw = msgspec.Raw()


class _File(msgspec.Struct):
    file_id: msgspec.Raw = msgspec.Raw()


_address = msgspec.json.Decoder(_Address)
_file = msgspec.json.Decoder(_File)


def _is_inline(image: msgspec.Raw) -> bool:
    """Whether an `image_url`, an object or a text, has a data URL."""
    try:
        url = _address.decode(image).url if bytes(image).startswith(b"{") else image
        return bytes(url).startswith(b'"data:') or (read_text(url) or "").startswith("data:")
    except UNREADABLE:
        return False


def _has_id(file: msgspec.Raw) -> bool:
    try:
        return is_given(_file.decode(file).file_id)
    except UNREADABLE:
        return False


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()
    reasoning: msgspec.Raw = msgspec.Raw()
    audio: msgspec.Raw = msgspec.Raw()  # the id of an earlier answer

    @property
    def text(self) -> str:
        """The message's text; parts are joined by line breaks."""
        if isinstance(self.content, str):
            return self.content
        if not self.content:
            return ""
        return "\n".join(part.text for part in self.content if part.text)


class StreamOptions(msgspec.Struct):
    """`stream_options`, of which only the usage switch matters here."""

    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, dict=True):
    """The fields of a POST /v1/chat/completions body that the router reads.

    Fields that only imply a capability stay raw: the upstream validates their values.
    """

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()
    parallel_tool_calls: msgspec.Raw = msgspec.Raw()
    response_format: msgspec.Raw = msgspec.Raw()
    reasoning_effort: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    logit_bias: msgspec.Raw = msgspec.Raw()
    n: msgspec.Raw = msgspec.Raw()
    max_tokens: msgspec.Raw = msgspec.Raw()
    max_completion_tokens: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    prompt_cache_key: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()
    modalities: msgspec.Raw = msgspec.Raw()
    store: msgspec.Raw = msgspec.Raw()
    web_search_options: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")

    prompt_field = "messages"
    hosted_tools = ()  # the models that search are known by their names
    max_tool_calls = None

    @property
    def uncounted_tools(self) -> list[str]:
        """Tools of other servers that have OpenAI's API. One without a type is a function."""
        types = read_types(self.tools) if self._offers_tools else []
        return [kind for kind in types if kind not in (None, "function", "custom")]

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def hints(self) -> Mapping[str, str]:
        return read_hints(self.user, self.metadata) | read_cache_key(self.prompt_cache_key)

    @property
    def metadata_values(self) -> Mapping[str, str]:
        return read_metadata(self.metadata)

    @cached_property  # several parts ask for it, and long requests have many messages
    def needs(self) -> dict[str, str]:
        needs: dict[str, str] = {}
        if self._offers_tools:
            needs["tools"] = "tools"
            if bytes(self.tool_choice) not in (b"", b"null", b'"auto"'):
                needs["tool_choice"] = "tool_choice"
            if bytes(self.parallel_tool_calls) == b"false":  # requests at most one call
                needs["parallel_tool_calls"] = "parallel_tool_calls"
            if "custom" in read_types(self.tools):
                needs["custom_tools"] = "tools"
        if is_given(self.functions) and bytes(self.function_call) != b'"none"':
            needs.setdefault("tools", "functions")
            needs["functions"] = "functions"
        if "audio" in read_texts(self.modalities):
            needs["audio"] = "modalities"
        if bytes(self.web_search_options) not in (b"", b"null"):  # {} requests it, too
            needs["hosted_tools"] = "web_search_options"
        if bytes(self.store) == b"true":
            needs["state"] = "store"
        if read_type(self.response_format) == "json_schema":
            needs["json_schema"] = "response_format"
        if bytes(self.reasoning_effort) not in REASONING_EFFORTS:
            needs["reasoning_effort"] = "reasoning_effort"
        if bytes(self.logprobs) == b"true":
            needs["logprobs"] = "logprobs"
        if is_given(self.logit_bias):
            needs["logit_bias"] = "logit_bias"
        if bytes(self.n) not in (b"", b"null", b"1"):
            needs["n"] = "n"
        for index, message in enumerate(self.messages):
            if message.tool_calls or message.function_call or message.role in _ROLES_OF_TOOLS:
                _add_tool_needs(message, f"messages[{index}]", needs)
            if isinstance(message.content, list):
                for part in message.content:
                    for need in part.needs:
                        needs.setdefault(need, f"messages[{index}].content")
        return needs

    @property
    def _offers_tools(self) -> bool:
        return is_given(self.tools) and bytes(self.tool_choice) != b'"none"'

    @property
    def answer_tokens(self) -> int | None:
        return read_limit(self.max_completion_tokens, self.max_tokens)

    @property
    def choices(self) -> int:
        return _count_choices(self.n)

    @property
    def tool_chars(self) -> int:
        chars = len(self.functions) + len(self.response_format)
        if self._offers_tools:
            chars += len(self.tools)
        for message in self.messages:
            chars += len(message.tool_calls) + len(message.function_call) + len(message.reasoning)
        return chars

    @property
    def images(self) -> int:
        return sum(
            part.is_image
            for message in self.messages
            if isinstance(message.content, list)
            for part in message.content
        )

    @property
    def has_references(self) -> bool:
        return bool(_REFERENCES.intersection(self.needs)) or any(
            is_given(message.audio) for message in self.messages
        )

    @property
    def service_tier(self) -> str | None:
        return read_service_tier(self.tier)

    @property
    def hides_usage(self) -> bool:
        return self.stream_options is None or not self.stream_options.include_usage

    @property
    def turns(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.messages]

    @property
    def history(self) -> list[Turn]:
        return [
            Turn(message.role, message.text, read_call_ids(message.tool_calls))
            if message.tool_calls
            else Turn(message.role, message.text)
            for message in self.messages
        ]


class CompletionRequest(msgspec.Struct):
    """The fields of a POST /v1/completions body that the router reads."""

    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: msgspec.Raw = msgspec.Raw()
    echo: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    logit_bias: msgspec.Raw = msgspec.Raw()
    n: msgspec.Raw = msgspec.Raw()
    best_of: msgspec.Raw = msgspec.Raw()
    max_tokens: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")

    prompt_field = "prompt"
    hosted_tools = uncounted_tools = history = ()
    max_tool_calls = None
    images = 0
    has_references = False

    @property
    def service_tier(self) -> str | None:
        return read_service_tier(self.tier)

    @property
    def tool_chars(self) -> int:
        """Of the suffix; a token id counts as a token's characters."""
        prompts = self.prompt if isinstance(self.prompt, list) else ()
        ids = sum(
            1 if isinstance(part, int) else len(part)
            for part in prompts
            if not isinstance(part, str)
        )
        return len(self.suffix) + _CHARS_PER_TOKEN * ids

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def hides_usage(self) -> bool:
        return self.stream_options is None or not self.stream_options.include_usage

    @property
    def hints(self) -> Mapping[str, str]:
        return read_hints(self.user)

    @property
    def metadata_values(self) -> Mapping[str, str]:
        return {}

    @property
    def needs(self) -> dict[str, str]:
        needs: dict[str, str] = {}
        if isinstance(self.prompt, list):
            needs["prompt_list"] = "prompt"
        for name in ("n", "best_of"):
            if bytes(getattr(self, name)) not in (b"", b"null", b"1"):
                needs["n"] = name
        if bytes(self.echo) == b"true":
            needs["echo"] = "echo"
        if is_given(self.logit_bias):
            needs["logit_bias"] = "logit_bias"
        if is_given(self.logprobs):
            needs["logprobs"] = "logprobs"
        return needs

    @property
    def answer_tokens(self) -> int | None:
        return read_limit(self.max_tokens)

    @property
    def choices(self) -> int:
        prompts = 1
        if isinstance(self.prompt, list) and not (self.prompt and isinstance(self.prompt[0], int)):
            prompts = len(self.prompt) or 1
        return prompts * max(_count_choices(self.n), _count_choices(self.best_of))

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The prompt as a turn of the user; token arrays have no text."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt or []
        return [("user", text) for text in prompts if isinstance(text, str)]


class EmbeddingRequest(msgspec.Struct):
    """The fields of a POST /v1/embeddings body that the proxy reads. The model decides the tier."""

    model: str
    input: msgspec.Raw = msgspec.Raw()

    prompt_field = "input"
    streams = hides_usage = has_references = False
    hosted_tools = uncounted_tools = history = ()
    max_tool_calls = None
    service_tier = None
    images = 0
    answer_tokens = None
    choices = 1

    @property
    def tool_chars(self) -> int:
        """A token id counts as a token's characters."""
        if not self._has_token_ids:
            return 0
        return _CHARS_PER_TOKEN * (bytes(self.input).count(b",") + 1)

    @property
    def text(self) -> str:
        """All texts of the input. Of a large one the JSON, which has at least as many tokens."""
        if self._has_token_ids:
            return ""
        try:
            if len(self.input) <= LARGE_BYTES:
                value = _embedded_texts.decode(self.input)
                return value if isinstance(value, str) else "".join(value)
        except UNREADABLE:
            pass
        return bytes(self.input).decode(errors="replace")

    @property
    def _has_token_ids(self) -> bool:
        raw = bytes(self.input)
        return raw.startswith(b"[") and b'"' not in raw

    @property
    def turns(self) -> list[tuple[str, str]]:
        """None: rows have no embedded texts."""
        return []

    @property
    def needs(self) -> dict[str, str]:
        return {}

    @property
    def hints(self) -> Mapping[str, str]:
        return {}

    @property
    def metadata_values(self) -> Mapping[str, str]:
        return {}


class _Call(msgspec.Struct):
    id: str | None = None


class Delta(msgspec.Struct):
    """The content of a choice, or a part of it in a stream."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()  # of the older form

    @property
    def text(self) -> str:
        return self.content or self.refusal or ""

    @property
    def other_text(self) -> str:
        """Reasoning and tool calls, which are billed as output."""
        other = self.reasoning or self.reasoning_content or ""
        for calls in (self.tool_calls, self.function_call):
            if not is_empty(calls):
                other += bytes(calls).decode(errors="replace")
        return other

    @property
    def speaks(self) -> bool:
        """Whether it has content that a client would show or act on."""
        return bool(
            self.content
            or self.refusal
            or self.reasoning
            or self.reasoning_content
            or not is_empty(self.tool_calls)
            or not is_empty(self.function_call)
        )


class Choice(msgspec.Struct):
    """A choice of a complete answer (`message`) or of a stream chunk (`delta`)."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None  # of /v1/completions
    finish_reason: str | None = None

    @property
    def full_text(self) -> str:
        part = self.delta or self.message
        return part.text if part is not None else self.text or ""

    @property
    def other_text(self) -> str:
        part = self.delta or self.message
        return part.other_text if part is not None else ""


class ChatAnswer(msgspec.Struct):
    """A complete answer or one chunk of a stream; both have the fields that are read.

    Errors have the field `error`. Older servers send the error itself: vLLM with `object: error`,
    FastChat with an `error_code`.
    """

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    kind: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="object")
    error_code: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")
    named: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="model")

    hosted_calls = None

    @property
    def is_answer(self) -> bool:
        return bool(self.choices)

    @property
    def service_tier(self) -> str | None:
        return read_text(self.tier)

    @property
    def model(self) -> str | None:
        return read_text(self.named)

    @property
    def other_text(self) -> str:
        return "".join(choice.other_text for choice in self.choices or ())

    @property
    def call_ids(self) -> list[str]:
        parts = [choice.delta or choice.message for choice in self.choices or ()]
        return [
            call_id
            for part in parts
            if part is not None
            for call_id in read_call_ids(part.tool_calls)
        ]

    @property
    def failed(self) -> bool:
        return self._has_error or self.is_bare_error

    @property
    def _has_error(self) -> bool:
        return bool(self.error) and bytes(self.error) != b"null"

    @property
    def is_bare_error(self) -> bool:
        if self.choices or self._has_error:
            return False
        return bytes(self.kind) == b'"error"' or not is_empty(self.error_code)

    @property
    def finished(self) -> bool:
        return any(choice.finish_reason for choice in self.choices or ())

    @property
    def finish_reason(self) -> str | None:
        choices = self.choices or ()
        return choices[0].finish_reason if len(choices) == 1 else None

    @property
    def speaks(self) -> bool:
        return any(
            choice.text or (choice.delta is not None and choice.delta.speaks)
            for choice in self.choices or ()
        )

    @property
    def text(self) -> str:
        choices = self.choices or ()
        if len(choices) == 1:
            return choices[0].full_text
        return "\n".join(choice.full_text for choice in choices)

    @property
    def is_usage_only(self) -> bool:
        return self.usage is not None and not self.choices


_KnownPart = known_form(ContentPart, "refusal")
_KnownMessage = known_form(
    Message,
    "name tool_call_id refusal annotations reasoning_content",
    content=(str | array_of(_KnownPart) | None, None),
)
_KnownChatRequest = known_form(
    ChatRequest,
    "temperature top_p top_logprobs presence_penalty frequency_penalty stop seed audio prediction "
    "safety_identifier verbosity",
    messages=array_of(_KnownMessage),
)
_KnownCompletionRequest = known_form(
    CompletionRequest, "temperature top_p presence_penalty frequency_penalty stop seed"
)
_KnownEmbeddingRequest = known_form(EmbeddingRequest, "dimensions encoding_format user")


class _LargeAnswer(ChatAnswer):
    """An answer of which only the outline was read."""

    @property
    def is_answer(self) -> bool:
        return not self.failed


class _LenientAnswer(ChatAnswer):
    """An answer whose parts were read each on its own.

    Attributes:
        has_usage: whether it has one, readable or not.
    """

    has_usage: bool = False

    @property
    def is_usage_only(self) -> bool:
        return self.has_usage and not self.choices


class _Parts(msgspec.Struct):
    """The parts of an answer, unread."""

    choices: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    kind: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="object")
    error_code: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")
    named: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="model")


class _LooseChoice(msgspec.Struct):
    delta: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()
    finish_reason: msgspec.Raw = msgspec.Raw()


class _LooseDelta(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    refusal: msgspec.Raw = msgspec.Raw()
    reasoning: msgspec.Raw = msgspec.Raw()
    reasoning_content: msgspec.Raw = msgspec.Raw()
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()


class _ContentPart(msgspec.Struct):
    text: str | None = None


_chat_request = msgspec.json.Decoder(ChatRequest)
_known_chat_request = msgspec.json.Decoder(_KnownChatRequest)
_CHAT_SHAPE: Final = Shape.of(
    _KnownChatRequest,
    messages=Shape.of(_KnownMessage, content=Shape.of(_KnownPart)),
)
_completion_request = msgspec.json.Decoder(CompletionRequest)
_known_completion_request = msgspec.json.Decoder(_KnownCompletionRequest)
_COMPLETION_SHAPE: Final = Shape.of(_KnownCompletionRequest)
_embedding_request = msgspec.json.Decoder(EmbeddingRequest)
_embedded_texts = msgspec.json.Decoder(str | list[str])
_known_embedding_request = msgspec.json.Decoder(_KnownEmbeddingRequest)
_EMBEDDING_SHAPE: Final = Shape.of(_KnownEmbeddingRequest)
_answer = msgspec.json.Decoder(ChatAnswer)
_choice = msgspec.json.Decoder(Choice)
_parts = msgspec.json.Decoder(_Parts)
_loose_choice = msgspec.json.Decoder(_LooseChoice)
_loose_delta = msgspec.json.Decoder(_LooseDelta)
_content_part = msgspec.json.Decoder(_ContentPart)
_calls = msgspec.json.Decoder(list[_Call])
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_model_list = msgspec.json.Decoder(_ModelList)

_ROLES_OF_TOOLS: Final = frozenset({"tool", "function"})
# The needs of a prompt that the body does not show in full.
_REFERENCES: Final = frozenset({"audio", "file", "file_id", "content_part", "hosted_tools"})
_CHARS_PER_TOKEN: Final = 4
_MAX_CHOICES: Final = 128  # OpenAI's limit, https://platform.openai.com/docs/api-reference/chat

_VECTORS: Final = re.compile(rb'"data"\s*:\s*\[\s*\{')

_first_items = FirstItems(_MAX_CHOICES)


def parse_chat(body: bytes) -> ChatRequest:
    """Decode the view of a chat request.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    request = read_known(_known_chat_request, _chat_request, body, _CHAT_SHAPE)
    require_model(request.model)
    if not request.messages:
        raise InvalidRequest("There must be at least one message.", param="messages")
    check_metadata(request.metadata)
    if len(body) > MAX_ITEMS:  # a smaller one cannot have more
        check_length(request.messages, "messages")
        check_raw_length(request.tools, "tools")
        check_raw_length(request.functions, "functions")
        parts = (message.content for message in request.messages)
        count = sum(len(content) for content in parts if isinstance(content, list))
        check_length(range(count), "messages")
    return request


def parse_completion(body: bytes) -> CompletionRequest:
    """Decode the view of a request for a completion. Raises as `parse_chat` does."""
    request = read_known(_known_completion_request, _completion_request, body, _COMPLETION_SHAPE)
    require_model(request.model)
    if isinstance(request.prompt, list):
        check_prompts(request.prompt, "prompt")
    return request


def parse_embedding(body: bytes) -> EmbeddingRequest:
    """Decode the view of a request for embeddings. Raises as `parse_chat` does."""
    request = read_known(_known_embedding_request, _embedding_request, body, _EMBEDDING_SHAPE)
    require_model(request.model)
    return request


def _add_tool_needs(message: Message, at: str, needs: dict[str, str]) -> None:
    """Add the needs of a message with tool calls or a tool result."""
    if message.role == "function" or is_given(message.function_call):
        needs.setdefault("tools", at)
        needs.setdefault("functions", at)
    elif message.role == "tool" or is_given(message.tool_calls):
        needs.setdefault("tools", at)


def read_call_ids(calls: msgspec.Raw) -> list[str]:
    """The ids of tool calls, or of parts of them in a stream, of which the first has the id."""
    if is_empty(calls):
        return []
    try:
        return [call.id for call in _calls.decode(calls) if call.id]
    except UNREADABLE:
        return []


def _count_choices(field: msgspec.Raw) -> int:
    return min(read_limit(field) or 1, _MAX_CHOICES)


def view_answer(data: bytes) -> ChatAnswer | None:
    """Read a complete answer or one chunk; None for an unknown form.

    Usage, choices and error are read each on its own where one has an unexpected type.
    """
    try:
        if len(data) > MAX_VIEWED_BYTES:
            parts = _parts.decode(skim(data))
            usage = read_usage(parts.usage)
            return _LargeAnswer(usage=usage, error=parts.error, tier=parts.tier, named=parts.named)
        return _answer.decode(data) if len(data) <= LARGE_BYTES else _view_leniently(data)
    except msgspec.ValidationError:
        pass
    except UNREADABLE:
        return None
    try:
        return _view_leniently(data)
    except UNREADABLE:
        return None


def has_vectors(body: bytes) -> bool:
    """Whether a body is an answer to a request for embeddings."""
    return _VECTORS.search(body) is not None


def has_output(data: bytes) -> bool:
    """Whether a chunk has anything to show or to act on, also in fields that the view ignores.

    Slower than `ChatAnswer.speaks`, for the few chunks before the first output.
    """
    try:
        choices = _first_items.read(_parts.decode(data).choices)
        return any(_has_output(_loose_choice.decode(choice)) for choice in choices)
    except UNREADABLE:
        return False


def _has_output(choice: "_LooseChoice") -> bool:
    if not is_empty(choice.text):
        return True
    for part in (choice.delta, choice.message):
        if bytes(part).startswith(b"{"):
            fields = _raw_fields.decode(part)
            if any(name != "role" and not is_empty(raw) for name, raw in fields.items()):
                return True
    return False


def _view_leniently(data: bytes) -> ChatAnswer:
    parts = _parts.decode(data)
    return _LenientAnswer(
        choices=[_read_choice(raw) for raw in _first_items.read(parts.choices)],
        usage=read_usage(parts.usage),
        error=parts.error,
        kind=parts.kind,
        error_code=parts.error_code,
        tier=parts.tier,
        named=parts.named,
        has_usage=not is_empty(parts.usage),
    )


def _read_choice(raw: msgspec.Raw) -> Choice:
    try:
        return _choice.decode(raw)
    except UNREADABLE:
        pass
    try:
        choice = _loose_choice.decode(raw)
    except UNREADABLE:
        return Choice()
    finish = None if is_empty(choice.finish_reason) else read_text(choice.finish_reason)
    delta, message = _read_delta(choice.delta), _read_delta(choice.message)
    return Choice(delta, message, read_text(choice.text), finish)


def _read_delta(raw: msgspec.Raw) -> Delta | None:
    try:
        delta = _loose_delta.decode(raw)
    except UNREADABLE:
        return None
    return Delta(
        _read_content(delta.content),
        read_text(delta.refusal),
        read_text(delta.reasoning),
        read_text(delta.reasoning_content),
        delta.tool_calls,
        delta.function_call,
    )


def _read_content(raw: msgspec.Raw) -> str | None:
    """The text of a content: a string, or a list of parts as some servers send it."""
    if not bytes(raw).startswith(b"["):
        return read_text(raw)
    texts = []
    for part in _first_items.read(raw):
        try:
            texts.append(_content_part.decode(part).text or "")
        except UNREADABLE:
            continue
    return "".join(texts)


def view_models(data: bytes) -> list[str] | None:
    """The ids in the answer to GET /models; None if it is not a model list."""
    try:
        return [model.id for model in _model_list.decode(data).data or ()]
    except UNREADABLE:
        return None
