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
    """One part of a message in parts. Only text is read; images and audio are noticed."""

    type: str = "text"
    text: str | None = None
    image_url: msgspec.Raw = msgspec.Raw()

    @property
    def needs(self) -> tuple[str, ...]:
        """What a model must be able to do for this part."""
        match self.type:
            case "image_url":
                # A URL within the part is the image itself; any other must be fetched by someone.
                inline = b'"data:' in bytes(self.image_url)
                return ("vision",) if inline else ("vision", "image_url")
            case "input_audio" | "file":
                return ("audio",)
        return ()


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
    response_format: msgspec.Raw = msgspec.Raw()
    logprobs: msgspec.Raw = msgspec.Raw()
    logit_bias: msgspec.Raw = msgspec.Raw()
    n: msgspec.Raw = msgspec.Raw()
    max_tokens: msgspec.Raw = msgspec.Raw()
    max_completion_tokens: msgspec.Raw = msgspec.Raw()

    @property
    def needs(self) -> dict[str, str]:
        """What a model must be able to do to answer this as asked -> the field that asks it."""
        needs: dict[str, str] = {}
        choice = bytes(self.tool_choice)
        if (_given(self.tools) or _given(self.functions)) and choice != b'"none"':
            needs["tools"] = "tools"
            if choice not in (b"", b"null", b'"auto"'):
                needs["tool_choice"] = "tool_choice"
        if b'"json_schema"' in bytes(self.response_format):
            needs["json_schema"] = "response_format"
        if bytes(self.logprobs) == b"true":
            needs["logprobs"] = "logprobs"
        if _given(self.logit_bias):
            needs["logit_bias"] = "logit_bias"
        if bytes(self.n) not in (b"", b"null", b"1"):
            needs["n"] = "n"
        for index, message in enumerate(self.messages):
            if isinstance(message.content, list):
                for part in message.content:
                    for need in part.needs:
                        needs.setdefault(need, f"messages[{index}].content")
        return needs

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens the answer may have; None when the client did not say."""
        for field in (self.max_completion_tokens, self.max_tokens):
            text = bytes(field)
            if text.isdigit():
                return int(text[:9])
        return None

    @property
    def tool_chars(self) -> int:
        """Characters that tools and a schema add to the prompt."""
        return (
            len(bytes(self.tools)) + len(bytes(self.functions)) + len(bytes(self.response_format))
        )

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
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_part = msgspec.json.Decoder(ContentPart)
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
        body.decode()  # msgspec does not look into what it skips
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


def rewrite_chat(
    body: bytes, *, model: str, include_usage: bool, for_ollama: bool = False
) -> bytes:
    """The client's body with our decisions in it; every other field keeps its bytes.

    Args:
        body: a JSON object that `parse_chat` accepted.
        model: the name the upstream knows its model by.
        include_usage: ask the upstream for the usage chunk of a stream.
        for_ollama: mend what Ollama would drop or take apart: `max_completion_tokens`, which it
            knows by its old name only, and text in parts, each of which it makes a message.

    Raises:
        InvalidRequest: it is nested so deeply that it could just be read.
    """
    try:
        return _rewrite(body, model=model, include_usage=include_usage, for_ollama=for_ollama)
    except RecursionError as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None


def _rewrite(body: bytes, *, model: str, include_usage: bool, for_ollama: bool) -> bytes:
    fields = _raw_fields.decode(body)
    fields["model"] = msgspec.Raw(_encoder.encode(model))
    if for_ollama:
        limit = fields.pop("max_completion_tokens", None)
        if limit is not None and not _given(fields.get("max_tokens", msgspec.Raw())):
            fields["max_tokens"] = limit
        fields["messages"] = _join_text_parts(fields["messages"])
    if include_usage:
        options = fields.get("stream_options")
        kept = {} if options is None or bytes(options) == b"null" else _raw_fields.decode(options)
        kept["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encoder.encode(kept))
    return _encoder.encode(fields)


def _join_text_parts(messages: msgspec.Raw) -> msgspec.Raw:
    """Messages with each run of text parts as one text; a content of text alone is a string."""
    changed = False
    joined = []
    for raw in _raws.decode(messages):
        fields = _raw_fields.decode(raw)
        content = fields.get("content")
        if content is not None and bytes(content).startswith(b"["):
            fields["content"] = _joined(_raws.decode(content))
            raw, changed = msgspec.Raw(_encoder.encode(fields)), True
        joined.append(raw)
    return msgspec.Raw(_encoder.encode(joined)) if changed else messages


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
    texts = [
        {"type": "text", "text": "\n".join(run)} if isinstance(run, list) else run for run in runs
    ]
    if len(texts) == 1 and isinstance(texts[0], dict):
        return msgspec.Raw(_encoder.encode(texts[0]["text"]))
    return msgspec.Raw(_encoder.encode(texts))


def _given(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (b"", b"null", b"[]", b"{}")


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
