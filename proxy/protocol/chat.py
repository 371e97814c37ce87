"""OpenAI's chat, completions and embeddings formats: requests, answers and stream chunks.

A request body travels as bytes. It is decoded into a view, a Struct of the fields that the router
reads, so that a wrong type is refused with its path. Responses and stream chunks are viewed and
never rebuilt. The Responses API is in `responses`.

Sources: the OpenAI API reference, and what Ollama's OpenAI endpoint sends.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from proxy.errors import InvalidRequest
from proxy.protocol.fields import (
    is_given,
    read_hints,
    read_limit,
    read_request,
    read_service_tier,
    read_text,
    require_model,
)
from proxy.protocol.ollama import REASONING_EFFORTS
from proxy.protocol.views import Usage

JSON_MEDIA_TYPE = b"application/json"


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


class ContentPart(msgspec.Struct):
    """One content part of a message. Only its text is read, and the capability it needs."""

    type: str = "text"
    text: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    file: msgspec.Raw = msgspec.Raw()

    @property
    def needs(self) -> tuple[str, ...]:
        """The capabilities that this part needs."""
        match self.type:
            case "text":
                return ()
            case "image_url":
                # A data URL contains the image; any other URL must be fetched.
                inline = b'"data:' in bytes(self.image_url)
                return ("vision",) if inline else ("vision", "image_url")
            case "input_audio":
                return ("audio",)
            case "file":
                return ("file_id", "file") if b'"file_id"' in bytes(self.file) else ("file",)
        return ("content_part",)


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


class ChatRequest(msgspec.Struct):
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

    @property
    def streams(self) -> bool:
        return bool(self.stream)

    @property
    def hints(self) -> Mapping[str, str]:
        return read_hints(self.user, self.prompt_cache_key, self.metadata)

    @property
    def needs(self) -> dict[str, str]:
        needs: dict[str, str] = {}
        if self._offers_tools:
            needs["tools"] = "tools"
            if bytes(self.tool_choice) not in (b"", b"null", b'"auto"'):
                needs["tool_choice"] = "tool_choice"
            if bytes(self.parallel_tool_calls) == b"false":  # requests at most one call
                needs["parallel_tool_calls"] = "parallel_tool_calls"
            if _CUSTOM_TOOL.search(self.tools):
                needs["custom_tools"] = "tools"
        if is_given(self.functions) and bytes(self.function_call) != b'"none"':
            needs.setdefault("tools", "functions")
            needs["functions"] = "functions"
        if b'"audio"' in bytes(self.modalities):
            needs["audio"] = "modalities"
        if bytes(self.web_search_options) not in (b"", b"null"):  # {} requests it, too
            needs["hosted_tools"] = "web_search_options"
        if bytes(self.store) == b"true":
            needs["state"] = "store"
        if b'"json_schema"' in bytes(self.response_format):
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
            part.type == "image_url"
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

    prompt_field = "prompt"
    images = 0
    has_references = False
    service_tier = None

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
    service_tier = None
    images = 0
    answer_tokens = None
    choices = 1

    @property
    def tool_chars(self) -> int:
        text = bytes(self.input)
        if text.startswith(b"[") and b'"' not in text:  # token ids
            return _CHARS_PER_TOKEN * (text.count(b",") + 1)
        return len(text)

    @property
    def turns(self) -> list[tuple[str, str]]:
        return []

    @property
    def needs(self) -> dict[str, str]:
        return {}

    @property
    def hints(self) -> Mapping[str, str]:
        return {}


class Delta(msgspec.Struct):
    """The content of a choice, or a part of it in a stream."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()

    @property
    def text(self) -> str:
        return self.content or self.refusal or ""

    @property
    def other_text(self) -> str:
        """Reasoning and tool calls, which are billed as output."""
        calls = bytes(self.tool_calls)
        reasoning = self.reasoning or self.reasoning_content or ""
        return reasoning + calls.decode(errors="replace") if calls != b"null" else reasoning

    @property
    def speaks(self) -> bool:
        """Whether it has content that a client would show or act on."""
        calls = bytes(self.tool_calls)
        return bool(
            self.content
            or self.refusal
            or self.reasoning
            or self.reasoning_content
            or (calls and calls not in (b"null", b"[]"))
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
    """A complete answer or one chunk of a stream; both have the fields that are read."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")
    named: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="model")

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
    def failed(self) -> bool:
        return bool(self.error) and bytes(self.error) != b"null"

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


_chat_request = msgspec.json.Decoder(ChatRequest)
_completion_request = msgspec.json.Decoder(CompletionRequest)
_embedding_request = msgspec.json.Decoder(EmbeddingRequest)
_answer = msgspec.json.Decoder(ChatAnswer)
_model_list = msgspec.json.Decoder(_ModelList)

_CUSTOM_TOOL = re.compile(rb'"type"\s*:\s*"custom"')
_ROLES_OF_TOOLS: Final = frozenset({"tool", "function"})
# The needs of a prompt that the body does not show in full.
_REFERENCES: Final = frozenset({"audio", "file", "file_id", "content_part", "hosted_tools"})
_CHARS_PER_TOKEN: Final = 4
_MAX_CHOICES: Final = 128  # OpenAI's limit, https://platform.openai.com/docs/api-reference/chat


def parse_chat(body: bytes) -> ChatRequest:
    """Decode the view of a chat request.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    request = read_request(_chat_request, body)
    require_model(request.model)
    if not request.messages:
        raise InvalidRequest("There must be at least one message.", param="messages")
    return request


def parse_completion(body: bytes) -> CompletionRequest:
    """Decode the view of a request for a completion. Raises as `parse_chat` does."""
    request = read_request(_completion_request, body)
    require_model(request.model)
    return request


def parse_embedding(body: bytes) -> EmbeddingRequest:
    """Decode the view of a request for embeddings. Raises as `parse_chat` does."""
    request = read_request(_embedding_request, body)
    require_model(request.model)
    return request


def _add_tool_needs(message: Message, at: str, needs: dict[str, str]) -> None:
    """Add the needs of a message with tool calls or a tool result."""
    if message.role == "function" or is_given(message.function_call):
        needs.setdefault("tools", at)
        needs.setdefault("functions", at)
    elif message.role == "tool" or is_given(message.tool_calls):
        needs.setdefault("tools", at)


def _count_choices(field: msgspec.Raw) -> int:
    return min(read_limit(field) or 1, _MAX_CHOICES)


def view_answer(data: bytes) -> ChatAnswer | None:
    """Read a complete answer or one chunk; None for an unknown form."""
    try:
        return _answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def view_models(data: bytes) -> list[str] | None:
    """The ids in the answer to GET /models; None if it is not a model list."""
    try:
        return [model.id for model in _model_list.decode(data).data]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
