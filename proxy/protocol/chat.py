"""OpenAI's wire format, as little of it as a router must understand: chat, completions, embeddings.

Bodies travel as bytes. A request is decoded twice, cheaply: into a *view* (a Struct of only what
we read, so that wrong types are refused with their place) and into a top-level map of raw values,
in which we replace what we decided and leave every other field, known or not, as it was sent.
Responses and stream chunks are only viewed, never rebuilt.

The Responses API has a module of its own, `responses`; what both must offer is `RoutingRequest` and
`AnswerView` here. Sources: the OpenAI API reference, and what Ollama's OpenAI endpoint sends.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

import msgspec

from proxy.errors import InvalidRequest

JSON_MEDIA_TYPE = b"application/json"

_MOST_TOKENS = 10**12  # in one answer; beyond it a count is a mistake


T = TypeVar("T")
Fields = dict[str, msgspec.Raw]  # a request's, each as it was sent


class RoutingRequest(Protocol):
    """What the router must know of a request, whichever endpoint it is for."""

    @property
    def model(self) -> str:
        """As the client named it."""

    @property
    def streams(self) -> bool:
        """Whether the answer is to be a stream."""

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text) pairs, in order."""

    @property
    def needs(self) -> dict[str, str]:
        """What a model must be able to do to answer this as asked -> the field that asks it."""

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens the answer may have; None when the client did not say."""

    @property
    def choices(self) -> int:
        """How many answers of that length are asked for."""

    @property
    def tool_chars(self) -> int:
        """Characters that tools, calls of them and a schema add to the prompt."""

    @property
    def images(self) -> int:
        """How many images the prompt has."""

    @property
    def hides_usage(self) -> bool:
        """Whether a stream's usage chunk, which we ask for, is not for the client."""

    @property
    def prompt_field(self) -> str:
        """The field that holds the prompt, to be named in errors."""

    @property
    def hints(self) -> Mapping[str, str]:
        """What tells one conversation from another, apart from its text."""


class AnswerView(Protocol):
    """What a whole answer, or one event of a stream, shows of itself."""

    @property
    def usage(self) -> "Usage | None":
        """Token counts, where it has them."""

    @property
    def service_tier(self) -> str | None:
        """By which it was served, where it says so: its price may depend on it."""

    @property
    def failed(self) -> bool:
        """True for an error, in a stream that began with 200 or in place of an answer."""

    @property
    def finished(self) -> bool:
        """True when a choice, or the whole answer, says that it is over."""

    @property
    def finish_reason(self) -> str | None:
        """Why its only choice is over: `stop` for a whole answer, `length` for one cut off."""

    @property
    def speaks(self) -> bool:
        """True when there is something a client would show or act on."""

    @property
    def text(self) -> str:
        """Its text, or piece of text."""

    @property
    def is_usage_only(self) -> bool:
        """True for the extra chunk that `include_usage` adds: usage and no choice."""


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


class ContentPart(msgspec.Struct):
    """One part of a message in parts. Only text is read; what else there is, is noticed."""

    type: str = "text"
    text: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()
    file: msgspec.Raw = msgspec.Raw()

    @property
    def needs(self) -> tuple[str, ...]:
        """What a model must be able to do for this part."""
        match self.type:
            case "text":
                return ()
            case "image_url":
                # A URL within the part is the image itself; any other must be fetched by someone.
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
    """What the router reads of a POST /v1/chat/completions body.

    Fields that only say what a model must be able to do stay raw: whether their values are right is
    for the upstream to say.
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
            if bytes(self.parallel_tool_calls) == b"false":  # a promise of one call at most
                needs["parallel_tool_calls"] = "parallel_tool_calls"
            if _CUSTOM_TOOL.search(self.tools):
                needs["custom_tools"] = "tools"
        if is_given(self.functions) and bytes(self.function_call) != b'"none"':
            needs.setdefault("tools", "functions")
            needs["functions"] = "functions"
        if b'"audio"' in bytes(self.modalities):
            needs["audio"] = "modalities"
        if bytes(self.web_search_options) not in (b"", b"null"):  # an empty one asks for it, too
            needs["hosted_tools"] = "web_search_options"
        if bytes(self.store) == b"true":
            needs["state"] = "store"
        if b'"json_schema"' in bytes(self.response_format):
            needs["json_schema"] = "response_format"
        if bytes(self.reasoning_effort) not in OLLAMAS_EFFORTS:
            needs["reasoning_effort"] = "reasoning_effort"
        if bytes(self.logprobs) == b"true":
            needs["logprobs"] = "logprobs"
        if is_given(self.logit_bias):
            needs["logit_bias"] = "logit_bias"
        if bytes(self.n) not in (b"", b"null", b"1"):
            needs["n"] = "n"
        for index, message in enumerate(self.messages):
            if message.tool_calls or message.function_call or message.role in _ROLES_OF_TOOLS:
                _note_tools(message, f"messages[{index}]", needs)
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
    def hides_usage(self) -> bool:
        return self.stream_options is None or not self.stream_options.include_usage

    @property
    def turns(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.messages]


class CompletionRequest(msgspec.Struct):
    """What the router reads of a POST /v1/completions body."""

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
    tool_chars = images = 0

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
        """The prompt as a user's; what is given as tokens has no text."""
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt or []
        return [("user", text) for text in prompts if isinstance(text, str)]


class EmbeddingRequest(msgspec.Struct):
    """What the proxy reads of a POST /v1/embeddings body: the name, by which it finds its tier."""

    model: str
    input: msgspec.Raw = msgspec.Raw()

    prompt_field = "input"
    streams = hides_usage = False
    images = 0
    answer_tokens = None
    choices = 1

    @property
    def tool_chars(self) -> int:
        return len(bytes(self.input))

    @property
    def turns(self) -> list[tuple[str, str]]:
        return []

    @property
    def needs(self) -> dict[str, str]:
        return {}

    @property
    def hints(self) -> Mapping[str, str]:
        return {}


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as an upstream reports them. Cached tokens are part of the prompt tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def reasoning_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0

    @property
    def is_credible(self) -> bool:
        """True for counts that can be: a server's -1 for "unknown" must not enter a sum."""
        counts = (
            self.prompt_tokens,
            self.completion_tokens or 0,
            self.cached_tokens,
            self.reasoning_tokens,
        )
        return all(count is not None and 0 <= count <= _MOST_TOKENS for count in counts)


class Delta(msgspec.Struct):
    """What a choice says; in a stream a piece of it. Thinking models use the reasoning fields."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()

    @property
    def text(self) -> str:
        return self.content or self.refusal or ""

    @property
    def speaks(self) -> bool:
        """True when there is something a client would show or act on."""
        calls = bytes(self.tool_calls)
        return bool(
            self.content
            or self.refusal
            or self.reasoning
            or self.reasoning_content
            or (calls and calls not in (b"null", b"[]"))
        )


class Choice(msgspec.Struct):
    """A choice of a whole answer (`message`) or of a stream chunk (`delta`)."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None  # of /v1/completions
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        part = self.delta or self.message
        return part.text if part is not None else self.text or ""


class ChatAnswer(msgspec.Struct):
    """A whole answer or one chunk of a stream: both have the fields we look at."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()
    tier: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="service_tier")

    @property
    def service_tier(self) -> str | None:
        return read_text(self.tier)

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
            return choices[0].said
        return "\n".join(choice.said for choice in choices)

    @property
    def is_usage_only(self) -> bool:
        return self.usage is not None and not self.choices


_chat_request = msgspec.json.Decoder(ChatRequest)
_completion_request = msgspec.json.Decoder(CompletionRequest)
_embedding_request = msgspec.json.Decoder(EmbeddingRequest)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_part = msgspec.json.Decoder(ContentPart)
_answer = msgspec.json.Decoder(ChatAnswer)
_model_list = msgspec.json.Decoder(_ModelList)
_encoder = msgspec.json.Encoder()

_CUSTOM_TOOL = re.compile(rb'"type"\s*:\s*"custom"')
DEVELOPER: Final = b'"developer"'
_ROLES_OF_TOOLS: Final = frozenset({"tool", "function"})
_MAX_CHOICES: Final = 128  # that OpenAI takes, https://platform.openai.com/docs/api-reference/chat
# It refuses others; which of them it takes depends on its version.
OLLAMAS_EFFORTS: Final = frozenset(
    {b"", b"null", b'""', b'"none"', b'"low"', b'"medium"', b'"high"', b'"max"'}
)

# msgspec ends a validation message with " - at `$.messages[0].content`".
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")


def parse_chat(body: bytes) -> ChatRequest:
    """Decode the view of a chat request.

    Raises:
        InvalidRequest: not JSON, or a field we read is missing or wrong; `param` names it.
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


def require_model(model: str) -> None:
    if not model:
        raise InvalidRequest("You must name a model, for instance 'auto'.", param="model")


def read_request(decoder: msgspec.json.Decoder[T], body: bytes, *, at: str = "") -> T:
    """Decode a request, or the part of one at a place such as `input[3]`.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    try:
        if not at:
            body.decode()  # msgspec does not look into what it skips
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise validation_error(str(error), at=at) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None


def validation_error(text: str, *, at: str = "") -> InvalidRequest:
    """Turn msgspec's words into OpenAI's: a sentence and the field's path as `param`."""
    match = _PLACE.match(text)
    assert match is not None  # the pattern matches any text
    what, path = match["what"], match["path"] or ""
    if at:
        path = f"{at}.{path}" if path else at
    if missing := _MISSING.search(what):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"Missing required parameter: '{path}'.", param=path)
    place = f" for '{path}'" if path else ""
    return InvalidRequest(f"Invalid value{place}: {_lower_first(what)}.", param=path or None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _note_tools(message: Message, at: str, needs: dict[str, str]) -> None:
    """What a message needs that calls tools or brings what one gave."""
    if message.role == "function" or is_given(message.function_call):
        needs.setdefault("tools", at)
        needs.setdefault("functions", at)
    elif message.role == "tool" or is_given(message.tool_calls):
        needs.setdefault("tools", at)


def rewrite(
    body: bytes,
    *,
    model: str,
    include_usage: bool,
    adapt: Callable[[Fields], None] | None = None,
) -> bytes:
    """The client's body with our decisions in it; every other field keeps its bytes.

    Args:
        body: a JSON object that one of the parsers accepted.
        model: the name the upstream knows its model by. A request that leaves the choice to a
            stored prompt stays without one.
        include_usage: ask the upstream for the usage chunk of a stream.
        adapt: changes the fields into what this upstream understands.
    """
    fields = _raw_fields.decode(body)
    if is_given(fields.get("model", msgspec.Raw())):
        fields["model"] = msgspec.Raw(_encoder.encode(model))
    if adapt is not None:
        adapt(fields)
    if include_usage:
        options = fields.get("stream_options")
        kept = {} if options is None or bytes(options) == b"null" else _raw_fields.decode(options)
        kept["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encoder.encode(kept))
    return _encoder.encode(fields)


def adapt_for_ollama(fields: Fields) -> None:
    """Mend what Ollama would drop from a chat or take apart.

    It knows `max_completion_tokens` by its old name only, no `tool_choice`, no role `developer`,
    and makes a message of each part of a text.
    """
    limit = fields.pop("max_completion_tokens", None)
    if limit is not None and not is_given(fields.get("max_tokens", msgspec.Raw())):
        fields["max_tokens"] = limit
    drop_forbidden_tools(fields)
    fields["messages"] = _mend_messages(fields["messages"])


def drop_forbidden_tools(fields: Fields) -> None:
    """Without the tools that must not be called: what ignores `tool_choice` would call them."""
    if bytes(fields.get("tool_choice", b"")) == b'"none"':
        fields.pop("tools", None)
        del fields["tool_choice"]


def make_system(message: Fields) -> bool:
    """Whether a message was a developer's; then its role is now called by its old name."""
    found = bytes(message.get("role", b"")) == DEVELOPER
    if found:
        message["role"] = msgspec.Raw(b'"system"')
    return found


def _mend_messages(messages: msgspec.Raw) -> msgspec.Raw:
    """Messages with each run of text parts as one text; a content of text alone is a string."""
    text = bytes(messages)
    if text.find(b"[", 1) == -1 and DEVELOPER not in text:  # most have neither
        return messages
    mended, any_changed = [], False
    for raw in _raws.decode(messages):
        fields = _raw_fields.decode(raw)
        changed = make_system(fields)
        content = fields.get("content")
        if content is not None and bytes(content).startswith(b"["):
            fields["content"], changed = _joined(_raws.decode(content)), True
        mended.append(msgspec.Raw(_encoder.encode(fields)) if changed else raw)
        any_changed = any_changed or changed
    return msgspec.Raw(_encoder.encode(mended)) if any_changed else messages


def _joined(parts: list[msgspec.Raw]) -> msgspec.Raw:
    runs: list[msgspec.Raw | list[str]] = []
    for raw in parts:
        part = _part.decode(raw)
        if part.type != "text" or part.text is None:
            runs.append(raw)
        elif runs and isinstance(runs[-1], list):
            runs[-1].append(part.text)
        else:
            runs.append([part.text])
    if not runs:  # a message of calls alone: Ollama would hang them on the one before
        return msgspec.Raw(b'""')
    texts = [
        {"type": "text", "text": "\n".join(run)} if isinstance(run, list) else run for run in runs
    ]
    if len(texts) == 1 and isinstance(texts[0], dict):
        return msgspec.Raw(_encoder.encode(texts[0]["text"]))
    return msgspec.Raw(_encoder.encode(texts))


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a raw value says anything."""
    return bytes(raw) not in (b"", b"null", b"[]", b"{}")


def read_text(raw: msgspec.Raw) -> str | None:
    """A raw value that is a text."""
    return msgspec.json.decode(raw) if bytes(raw).startswith(b'"') else None


def read_limit(*fields: msgspec.Raw) -> int | None:
    """The first of the fields that is a count of tokens."""
    for field in fields:
        text = bytes(field)
        if text.isdigit():
            return int(text[:9])
    return None


def _count_choices(field: msgspec.Raw) -> int:
    return min(read_limit(field) or 1, _MAX_CHOICES)


def read_hints(*fields: msgspec.Raw) -> Mapping[str, str]:
    """The texts among the fields, and in a mapping's values, by a name each."""
    hints: dict[str, str] = {}
    for number, field in enumerate(fields):
        raw = bytes(field)
        if raw.startswith((b'"', b"{")):
            value = msgspec.json.decode(raw)
            named = {str(number): value} if isinstance(value, str) else value
            hints |= {name: one for name, one in named.items() if isinstance(one, str)}
    return hints


def view_answer(data: bytes) -> ChatAnswer | None:
    """Look at a whole answer or one chunk; None when it is nothing we know."""
    try:
        return _answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def view_models(data: bytes) -> list[str] | None:
    """The ids in the answer to GET /models; None when it is no list of models."""
    try:
        return [model.id for model in _model_list.decode(data).data]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
