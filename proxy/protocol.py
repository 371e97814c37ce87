"""OpenAI's wire format, as little of it as a router must understand.

Bodies travel as bytes. A request is decoded twice, cheaply: into a *view* (a Struct of only what
we read, so that wrong types are refused with their place) and into a top-level map of raw values,
in which we replace what we decided and leave every other field, known or not, as it was sent.
Responses and stream chunks are only viewed, never rebuilt.

Sources: the OpenAI API reference for chat completions, and what Ollama's OpenAI endpoint sends.
"""

import re

import msgspec

from proxy.errors import InvalidRequest

JSON_TYPE = b"application/json"

_MOST_TOKENS = 10**12  # in one answer; beyond it a count is a mistake


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


class ContentPart(msgspec.Struct):
    """One part of a message in parts. Only text is read; images and audio pass by."""

    type: str = "text"
    text: str | None = None


class Message(msgspec.Struct):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None

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
    """What the router reads of a POST /v1/chat/completions body."""

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def wants_usage_chunk(self) -> bool:
        """True when the client asked for the usage chunk at the end of its stream."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text) pairs, in order."""
        return [(message.role, message.text) for message in self.messages]


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as an upstream reports them. Cached tokens are part of the prompt tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def is_credible(self) -> bool:
        """True for counts that can be: a server's -1 for "unknown" must not enter a sum."""
        counts = (self.prompt_tokens, self.completion_tokens or 0, self.cached_tokens)
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
    finish_reason: str | None = None


class ChatAnswer(msgspec.Struct):
    """A whole answer or one chunk of a stream: both have the fields we look at."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw()

    @property
    def failed(self) -> bool:
        """True for an error event inside a stream that began with 200."""
        return bytes(self.error) not in (b"", b"null")

    @property
    def is_usage_only(self) -> bool:
        """True for the extra chunk that `include_usage` adds: usage and no choice."""
        return self.usage is not None and not self.choices


_chat_request = msgspec.json.Decoder(ChatRequest)
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_answer = msgspec.json.Decoder(ChatAnswer)
_model_list = msgspec.json.Decoder(_ModelList)
_encoder = msgspec.json.Encoder()

# msgspec ends a validation message with " - at `$.messages[0].content`".
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")


def parse_chat(body: bytes) -> ChatRequest:
    """Decode the view of a chat request.

    Raises:
        InvalidRequest: not JSON, or a field we read is missing or wrong; `param` names it.
    """
    try:
        request = _chat_request.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if not request.model:
        raise InvalidRequest("You must name a model, for instance 'auto'.", param="model")
    if not request.messages:
        raise InvalidRequest("There must be at least one message.", param="messages")
    return request


def _invalid(text: str) -> InvalidRequest:
    """Turn msgspec's words into OpenAI's: a sentence and the field's path as `param`."""
    match = _PLACE.match(text)
    assert match is not None  # the pattern matches any text
    what, path = match["what"], match["path"] or ""
    if missing := _MISSING.search(what):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"Missing required parameter: '{path}'.", param=path)
    place = f" for '{path}'" if path else ""
    return InvalidRequest(f"Invalid value{place}: {_lower_first(what)}.", param=path or None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def rewrite_chat(body: bytes, *, model: str, include_usage: bool) -> bytes:
    """The client's body with our decisions in it; every other field keeps its bytes.

    Args:
        body: a JSON object that `parse_chat` accepted.
        model: the name the upstream knows its model by.
        include_usage: ask the upstream for the usage chunk of a stream.
    """
    fields = _raw_fields.decode(body)
    fields["model"] = msgspec.Raw(_encoder.encode(model))
    if include_usage:
        options = fields.get("stream_options")
        kept = {} if options is None or bytes(options) == b"null" else _raw_fields.decode(options)
        kept["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encoder.encode(kept))
    return _encoder.encode(fields)


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
