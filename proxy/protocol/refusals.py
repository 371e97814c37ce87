"""How servers refuse a request: what their errors say, and which fields they do not accept.

Every server has its own envelope and its own words. Known are OpenAI's (`error`), the older one of
vLLM and Mistral (`object: error`), FastAPI's (`detail`), Databricks' (`error_code`, `message`),
TGI's and llama.cpp's (`error` as text), and plain text.

Sources: the error codes of the OpenAI API reference; pydantic's error types; the servers' sources,
as named in tests/servers.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from proxy.protocol.fields import Fields, read_text
from proxy.protocol.views import UNREADABLE

MAX_ERROR_BYTES: Final = 2**16  # of an error that is read; servers may repeat the request
MAX_MESSAGE_CHARS: Final = 4096
MAX_SENTENCES: Final = 32
MAX_FIELD_NAME_CHARS: Final = 64
MAX_FIELD_VALUE_BYTES: Final = 256
MIN_REPEATED_CHARS: Final = 16  # of the request's texts that an error may repeat

# A limit of the answer has two names: the newer one is OpenAI's for reasoning models.
RENAMED: Final = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
# They tune, label or speed up an answer, and it is of the same kind without them.
_OPTIONAL: Final = frozenset(
    # sampling
    "temperature top_p top_k top_a min_p typical_p tfs_z presence_penalty frequency_penalty "
    "repetition_penalty repeat_penalty repeat_last_n length_penalty penalize_nl mirostat "
    "mirostat_tau mirostat_eta seed min_tokens ignore_eos use_beam_search early_stopping samplers "
    # effort and style
    "reasoning reasoning_effort verbosity think thinking enable_thinking chat_template_kwargs "
    "include_reasoning separate_reasoning reasoning_format thinking_budget_tokens "
    # bookkeeping
    "user metadata safety_identifier prompt_cache_key prompt_cache_retention service_tier "
    "stream_options truncation request_id priority cache_salt "
    # how the server runs
    "keep_alive options num_ctx num_keep num_batch num_gpu num_thread cache_prompt id_slot n_keep "
    "timings_per_token return_progress skip_special_tokens spaces_between_special_tokens "
    "return_token_ids provider transforms".split()
)
# Parts of the names of fields that change what is asked for, or in which form the answer comes.
_MEANINGFUL: Final = re.compile(
    r"model|message|prompt|input|instruction|stream|tool|function|format|schema|json|grammar|guided"
    r"|regex|choice|structured|text|^n$|best_of|echo|suffix|logprob|logit|prob|stop|modalit|audio"
    r"|image|video|search|prediction|store|previous|conversation|include|background|document"
    r"|context|max_|limit|template|lora|adapter|plugin|route|fallback|language|voice"
)
_UNKNOWN_CODES: Final = frozenset({"unknown_parameter", "extra_forbidden", "unknown_field"})
_VALUE_CODES: Final = frozenset({"unsupported_value"})
_CODES: Final = _UNKNOWN_CODES | _VALUE_CODES | {"unsupported_parameter"}
# The words of an error without a code.
_NOT_ACCEPTED: Final = re.compile(
    r"un(?:recognized|supported|known|expected)"
    r"|not (?:currently |yet )?(?:be )?"
    r"(?:supported|permitted|allowed|recognized|implemented|accepted)"
    r"|(?:does|do)(?:n't| not) (?:support|accept|allow)",
    re.IGNORECASE,
)
# The same for what is not a field: tools, images, roles.
_UNABLE: Final = re.compile(
    _NOT_ACCEPTED.pattern
    + r"|requires?\b|must\b|cannot|can't|can not|incompatible|invalid|at most|only|is not a"
    r"|not enabled|not set|disabled|without|no \w+ (?:support|parser|template)|expected|missing"
    r"|fail",
    re.IGNORECASE,
)
# Features of requests, and the words by which servers name them.
_FEATURE_WORDS: Final = {
    "tools": r"tools?\b|tool[ _-]|function|--jinja",
    "vision": r"images?\b|image_|vision|multi-?\s?modal|mmproj",
    "audio": r"audio",
    "json_schema": r"schema|response_format|grammar|guided|structured",
    "logprobs": r"log_?prob",
    "developer role": r"developer|(?:message|unexpected|unknown|unsupported|invalid) role",
    "system role": r"system (?:role|prompt|message)s?['\"`]? (?:is |are )?not|no system"
    r"|not support \S{0,10} ?system|(?:unexpected|unknown|unsupported|invalid) role.{0,9}system",
    "order of roles": r"alternat|roles? must|first message|order of|user/assistant|consecutive",
    "assistant last": r"prefill|assistant messages?\b|last message|final message",
}
# The fields that an error about the length may name.
_LONG_FIELDS: Final = frozenset("messages input prompt max_tokens max_completion_tokens".split())
_TOO_LONG: Final = re.compile(
    r"context_length_exceeded|context[ _](?:length|window|size)|too many tokens"
    r"|(?:prompt|input|context|request|conversation|messages?) (?:is |are )?too long"
    r"|maximum model length|exceed(?:s|ed|ing)?\b.{0,40}(?:context|tokens|length)"
    r"|max_new_tokens.{0,40}<="
    r"|must have less than .{0,20}tokens|longer than the maximum"
    r"|max(?:imum)?[ _](?:input|prompt|sequence|context|total)[ _-]?(?:length|tokens|size)",
    re.IGNORECASE,
)
_ONE_VALUE: Final = re.compile(r"\bvalues?\b|does not support \S+ with", re.IGNORECASE)
# The server has one value of the field only, so that others are refused likewise.
_DEFAULT_ONLY: Final = re.compile(r"only the default", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"(?<=[.;!?])\s+|\n")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 32

_any = msgspec.json.Decoder()


class RefusedField(NamedTuple):
    """A field of a request that a server does not accept.

    Attributes:
        name: of the field at the top of the body.
        value: the refused value as JSON; None if the server accepts no value of the field.
    """

    name: str
    value: bytes | None = None

    @property
    def is_optional(self) -> bool:
        """Whether the answer without the field is still the one that was asked for."""
        return self.name in _OPTIONAL or _MEANINGFUL.search(self.name) is None

    @property
    def may_be_learned(self) -> bool:
        """Whether it is small enough to be remembered."""
        is_small = self.value is None or len(self.value) <= MAX_FIELD_VALUE_BYTES
        return is_small and len(self.name) <= MAX_FIELD_NAME_CHARS


USAGE_FIELD: Final = RefusedField("stream_options")  # by which the proxy asks for usage


class Refusal(NamedTuple):
    """What an error says.

    Attributes:
        message: all of its messages; "" without one.
        codes: its codes, each with the parameter that it names, or "".
        is_api_error: whether it is an API's error and not that of a web server in between.
    """

    message: str = ""
    codes: tuple[tuple[str, str], ...] = ()
    is_api_error: bool = False

    def fields_among(self, sent: Fields) -> list[RefusedField]:
        """The fields of a request that the server says it does not accept.

        Args:
            sent: the body, as it was sent.
        """
        by_code = [(code, param) for code, param in self.codes if code in _CODES and param]
        if not by_code:
            return list(dict.fromkeys(self._fields_by_words(sent)))
        is_default = _DEFAULT_ONLY.search(self.message) is not None
        return [
            _refused_field(
                _root(param),
                sent,
                is_value=code in _VALUE_CODES and not is_default,
                is_nested=param != _root(param),
            )
            for code, param in dict.fromkeys(by_code)
            if _root(param) in sent and _is_about_field(code, param)
        ]

    @property
    def is_about_length(self) -> bool:
        """Whether the request is too long for the model."""
        places = {_root(param) for _, param in self.codes if param}
        if any(place not in _LONG_FIELDS and "token" not in place for place in places):
            return False
        text = "\n".join([self.message, *(code for code, _ in self.codes)])
        return _TOO_LONG.search(text) is not None

    def features_among(self, features: Collection[str]) -> list[str]:
        """The features of a request that the server says it does not support."""
        if _UNABLE.search(self.message) is None:
            return []
        words = ((feature, _FEATURE_WORDS.get(feature)) for feature in features)
        return [
            feature
            for feature, pattern in words
            if pattern is not None and re.search(pattern, self.message, re.IGNORECASE)
        ]

    def _fields_by_words(self, sent: Fields) -> Iterator[RefusedField]:
        named = {_root(param) for _, param in self.codes if param}
        names = {
            spelling: name
            for name in sent
            if (not named or name in named) and len(name) <= MAX_FIELD_NAME_CHARS
            for spelling in (name, _camel_case(name))
        }
        message = _without_values(self.message, sent)
        for sentence in _SENTENCE_END.split(message, MAX_SENTENCES)[:MAX_SENTENCES]:
            if _NOT_ACCEPTED.search(sentence):
                is_default = _DEFAULT_ONLY.search(message) is not None
                is_value = _ONE_VALUE.search(sentence) is not None and not is_default
                for name in _mentioned(sentence, names):
                    yield _refused_field(name, sent, is_value=is_value)


def read_refusal(body: bytes) -> Refusal:
    """Read the body of an error, in any of the known forms or as plain text."""
    text = body[:MAX_ERROR_BYTES].decode(errors="replace")
    try:
        error = _any.decode(body) if len(body) <= MAX_ERROR_BYTES else text
    except UNREADABLE:
        error = text.removeprefix("data:")  # of a stream, with its first event
    messages: list[str] = []
    codes: list[tuple[str, str]] = []
    _collect(error, messages, codes)
    is_api_error = isinstance(error, dict) and bool(messages)
    return Refusal("\n".join(messages)[:MAX_MESSAGE_CHARS], tuple(codes), is_api_error)


def adapt_fields(fields: Fields, *, refused: Iterable[RefusedField]) -> None:
    """Rename a request's refused fields, or leave them out."""
    for name, value in refused:
        raw = fields.get(name)
        if raw is None or value not in (None, bytes(raw)):
            continue
        del fields[name]
        if (other := RENAMED.get(name)) is not None:
            fields.setdefault(other, raw)


def note_changes(
    changes: Sequence[Callable[[Fields], None]], noted: list[str]
) -> list[Callable[[Fields], None]]:
    """The changes, and steps around them that note the fields that they rename or leave out.

    Args:
        noted: gets `name` of a field that was left out, and `old->new` of one that was renamed.
    """
    before: list[str] = []

    def begin(fields: Fields) -> None:
        before.extend(fields)

    def end(fields: Fields) -> None:
        for name in before:
            if name not in fields:
                other = RENAMED.get(name, name)
                is_renamed = other in fields and other not in before
                noted.append(f"{name}->{other}" if is_renamed else name)

    return [begin, *changes, end]


def _collect(error: Any, messages: list[str], codes: list[tuple[str, str]], depth: int = 0) -> None:
    """Collect the messages and the codes of an error, whose parts may be nested."""
    match error:
        case str():
            messages.append(error)
        case list() if depth < _MAX_DEPTH:
            for item in error[:_MAX_ITEMS]:
                _collect(item, messages, codes, depth + 1)
        case dict() if depth < _MAX_DEPTH:
            param = error.get("param")
            if isinstance(place := error.get("loc"), list) and place:
                param = ".".join(str(step) for step in place if step != "body")
                messages.append(param)
            kinds = (error.get("code"), error.get("type"))
            param = param if isinstance(param, str) else ""
            codes.extend((kind, param) for kind in kinds if isinstance(kind, str))
            for name in ("error", "detail", "message", "msg", "errors"):
                _collect(error.get(name), messages, codes, depth + 1)


def _root(param: str) -> str:
    """The field at the top of the body: `stream_options` of `stream_options.include_usage`."""
    return re.split(r"[.\[]", param, maxsplit=1)[0]


def _is_about_field(code: str, param: str) -> bool:
    """Whether an error code refuses a field. An unknown name within a field may be an error."""
    name = _root(param)
    return code not in _UNKNOWN_CODES or param == name or RefusedField(name).is_optional


def _refused_field(
    name: str, sent: Fields, *, is_value: bool, is_nested: bool = False
) -> RefusedField:
    return RefusedField(name, bytes(sent[name]) if is_value or is_nested else None)


def _without_values(message: str, sent: Fields) -> str:
    """The message without the texts of the request that it repeats: they are not its words."""
    for raw in sent.values():
        if MIN_REPEATED_CHARS <= len(raw) <= MAX_MESSAGE_CHARS and (text := read_text(raw)):
            message = message.replace(text, "")
    return message


def _mentioned(sentence: str, names: Mapping[str, str]) -> Iterator[str]:
    """The fields that a sentence names, also in camel case as some servers do.

    Args:
        names: of the fields, by their spellings.
    """
    for word in _WORD.finditer(sentence):
        name = names.get(word[0])
        if name is None:
            continue
        # Other names are also words, unless they stand out like names.
        before = sentence[: word.start()].rstrip(" ")
        stands_out = not before or before[-1] in ":,(" or sentence[word.start() - 1] in "\"'`"
        if "_" in name or name == "temperature" or stands_out:
            yield name


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
