"""Reading and replacing single fields of a JSON request body; all other fields keep their bytes."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import GenericAlias
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from proxy.errors import InvalidRequest
from proxy.protocol.bounds import MAX_FIELDS, MAX_MODEL_CHARS, check_size
from proxy.protocol.cut_strings import CUT_FROM_BYTES, CutBody

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]  # of a request, each as the client sent it

_raw_fields = msgspec.json.Decoder(Fields)
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_any_list = msgspec.json.Decoder(list[Any])
_encoder = msgspec.json.Encoder()

# Names of hints that name a conversation, in lower case and without separators.
_CACHE_KEY: Final = "promptcachekey"  # one that names a conversation
SESSION_FIELDS: Final = frozenset(
    {"conversation", "conversationid", "sessionid", "threadid", "chatid", _CACHE_KEY}
)
# A UUID, or what says that it is the id of a conversation: `conv-42`, `session_01J…`.
_CONVERSATION_ID: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?:conv(?:ersation)?|ses(?:s|sion)?|thread|chat|dialog(?:ue)?)[-_:./](?=.*\d)\S+",
    re.IGNORECASE,
)
_NO_SEPARATORS: Final = str.maketrans("", "", "_-. ")

_STANDARD_TIERS: Final = ("default", "standard", "auto")


class _Typed(msgspec.Struct):
    type: str | None = None


_typed = msgspec.json.Decoder(_Typed)
_typed_list = msgspec.json.Decoder(list[_Typed])

_MAX_LIMIT: Final = 10**9

# msgspec ends a validation message with " - at `$.messages[0].content`".
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>.*)`", re.DOTALL)
_MAX_SHOWN_NAME: Final = 100


def read_request(decoder: msgspec.json.Decoder[T], body: bytes, *, at: str = "") -> T:
    """Decode a request, or its part at a path such as `input[3]`.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    try:
        if not at:
            check_size(body)
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise validation_error(str(error), at=at) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            raise InvalidRequest("The request body is empty.") from None
        raise _invalid_json(error) from None


def check_body(body: bytes) -> None:
    """Check the encoding and the number of values. Raises InvalidRequest."""
    try:
        check_size(body)
    except UnicodeDecodeError as error:
        raise _invalid_json(error) from None


def _invalid_json(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The request body is not valid JSON: {error}.")


class Shape(NamedTuple):
    """The names of an object's known fields, and the shapes of the objects in some of them."""

    names: frozenset[str]
    below: Mapping[str, "Shape"] = {}

    @classmethod
    def of(cls, kind: type[msgspec.Struct], **below: "Shape") -> "Shape":
        fields = msgspec.structs.fields(kind)
        return cls(frozenset(field.encode_name for field in fields), below)


def known_form(view: type[msgspec.Struct], others: str, **fields: Any) -> type[Any]:
    """A view that refuses unknown fields; for `read_known`.

    Args:
        others: the names of the API's fields that the view does not read.
        fields: the types of fields whose objects must be of a known form, too. With a default, as a
            pair.
    """
    raw = [(name, msgspec.Raw, msgspec.Raw()) for name in others.split()]
    typed = [
        (name, *(kind if isinstance(kind, tuple) else (kind,))) for name, kind in fields.items()
    ]
    return msgspec.defstruct(
        f"Known{view.__name__}",
        raw + typed,
        bases=(view,),
        forbid_unknown_fields=True,
        kw_only=True,
    )


def array_of(known: type[Any]) -> Any:
    """The type of an array of a known form."""
    return GenericAlias(list, (known,))


def read_known(
    known: msgspec.json.Decoder[Any],
    lenient: msgspec.json.Decoder[T],
    raw: bytes | msgspec.Raw,
    shape: Shape,
    *,
    at: str = "",
) -> T:
    """Decode a request, or its part at a path, whose fields are usually all known.

    Only a request with an unknown field is decoded twice.

    Args:
        known: forbids unknown fields.
        lenient: accepts them, so that unknown fields are passed on.

    Raises:
        InvalidRequest: as `read_request`, and for a field whose name is a known one but for case.
            Servers that ignore case, such as Go's, would read it in place of the known one, so that
            another prompt would be answered than the one that was routed.
    """
    if len(raw) > CUT_FROM_BYTES:
        return _read_large(known, lenient, raw, shape, at=at)
    try:
        if not at:
            check_size(bytes(raw))
        request: T = known.decode(raw)
        return request
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = read_request(lenient, bytes(raw), at=at)
    refuse_lookalikes(msgspec.Raw(raw), shape, at=f"{at}." if at else "")
    return request


def _read_large(
    known: msgspec.json.Decoder[Any],
    lenient: msgspec.json.Decoder[T],
    raw: bytes | msgspec.Raw,
    shape: Shape,
    *,
    at: str,
) -> T:
    """`read_known` of a large body, whose long strings are cut out for the decoder."""
    if not at:
        check_body(bytes(raw))
    cut = CutBody.of(raw)
    request: T
    try:
        request = known.decode(cut.short)
    except (msgspec.DecodeError, RecursionError):
        request = read_request(lenient, cut.short, at=at)
        refuse_lookalikes(msgspec.Raw(cut.short), shape, at=f"{at}." if at else "")
    try:
        request = cut.restore_view(request)
    except msgspec.DecodeError as error:
        raise _invalid_json(error) from None
    return request


def refuse_lookalikes(raw: msgspec.Raw, shape: Shape, *, at: str = "") -> None:
    """Check an object, or each object of an array. Raises InvalidRequest."""
    first = bytes(raw).lstrip()[:1]
    if first == b"[":
        for index, item in enumerate(_raw_list.decode(raw)):
            refuse_lookalikes(item, shape, at=f"{at[:-1]}[{index}].")
    elif first == b"{":
        fields = _raw_fields.decode(raw)
        if len(fields) > MAX_FIELDS:
            what = f"Invalid value for '{at[:-1]}': it" if at else "The request"
            raise InvalidRequest(
                f"{what} has more than {MAX_FIELDS} fields.",
                param=at[:-1] or None,
                code="object_above_max_properties",
            )
        for name, value in fields.items():
            if name in shape.below:
                refuse_lookalikes(value, shape.below[name], at=f"{at}{name}.")
            elif name not in shape.names and (meant := name.casefold()) in shape.names:
                raise InvalidRequest(
                    f"Unknown parameter: '{at}{name}'. Did you mean '{at}{meant}'?",
                    param=f"{at}{name}",
                    code="unknown_parameter",
                )


def validation_error(text: str, *, at: str = "") -> InvalidRequest:
    """Convert msgspec's message into OpenAI's: a sentence, and the field's path as `param`."""
    match = _PLACE.match(text)
    assert match is not None  # the pattern matches any text
    what, path = match["what"], match["path"] or ""
    if at:
        path = f"{at}.{path}" if path else at
    if missing := _MISSING.search(what):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(f"Missing required parameter: '{path}'.", param=path)
    if unknown := _UNKNOWN.search(what):
        name = unknown["field"][:_MAX_SHOWN_NAME]
        path = f"{path}.{name}" if path else name
        return InvalidRequest(f"Unknown parameter: '{path}'.", param=path, code="unknown_parameter")
    place = f" for '{path}'" if path else ""
    return InvalidRequest(f"Invalid value{place}: {_lower_first(what)}.", param=path or None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def require_model(model: str) -> None:
    """Raises InvalidRequest for a missing name, and for one that is too long to be a model's."""
    if not model:
        raise InvalidRequest("A model is required, for example 'auto'.", param="model")
    if len(model) > MAX_MODEL_CHARS:
        raise InvalidRequest(
            f"Invalid 'model': string too long. Expected a string with maximum length "
            f"{MAX_MODEL_CHARS}, but got a string with length {len(model)} instead.",
            param="model",
            code="string_above_max_length",
        )


def read_model_name(body: bytes) -> str:
    """The `model` of a JSON body, without checking other fields; empty if it has no valid one."""
    try:
        name = read_text(_named.decode(body).model) or ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return name if len(name) <= MAX_MODEL_CHARS else ""


class _Named(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw()


_named = msgspec.json.Decoder(_Named)


def rewrite(
    body: bytes,
    *,
    model: str,
    include_usage: bool,
    changes: Sequence[Callable[[Fields], None]] = (),
) -> bytes:
    """The client's body with the decided model; every other field keeps its bytes.

    Args:
        body: a JSON object that one of the parsers accepted.
        model: the upstream's name of the model. A request without a model, for a stored prompt,
            stays without one.
        include_usage: ask the upstream for the usage chunk of a stream.
        changes: other changes of the fields for the upstream, in order. They see a large body
            without the bulk of its long strings (`CutBody.short`).
    """
    cut = CutBody.of(body)
    fields = _raw_fields.decode(cut.short)
    if is_given(fields.get("model", msgspec.Raw())):
        fields["model"] = msgspec.Raw(_encoder.encode(model))
    if include_usage:
        options = fields.get("stream_options")
        stream_options = (
            {} if options is None or bytes(options) == b"null" else _raw_fields.decode(options)
        )
        stream_options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encoder.encode(stream_options))
    for change in changes:
        change(fields)
    return cut.restore(_encoder.encode(fields))


def drop_forbidden_tools(fields: Fields) -> None:
    """Remove tools that `tool_choice` forbids, for servers that ignore `tool_choice`."""
    if bytes(fields.get("tool_choice", b"")) == b'"none"':
        fields.pop("tools", None)
        del fields["tool_choice"]


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a raw value is neither absent, null nor empty."""
    return bytes(raw) not in (b"", b"null", b"[]", b"{}")


def read_text(raw: msgspec.Raw) -> str | None:
    """The text of a raw string; None for other values."""
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_texts(raw: msgspec.Raw) -> list[str]:
    """The strings of a raw array; none for other values. Escapes are decoded."""
    if not raw:
        return []
    try:
        return [item for item in _any_list.decode(raw) if isinstance(item, str)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def read_type(raw: msgspec.Raw) -> str | None:
    """The `type` of a raw object; None without one."""
    if not raw:
        return None
    try:
        return _typed.decode(raw).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_types(raw: msgspec.Raw) -> list[str | None]:
    """The `type` of each object of a raw array; none for other values."""
    if not bytes(raw).startswith(b"["):
        return []
    try:
        return [item.type for item in _typed_list.decode(raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [read_type(item) for item in _raw_list.decode(raw)]


def read_service_tier(field: msgspec.Raw) -> str | None:
    """The service tier that a request asks for; None for the standard one.

    An absent tier and `auto` are the default tier of the OpenAI project. This is taken to be the
    standard one: the proxy cannot know it.
    """
    service_tier = read_text(field) if field else None
    return None if service_tier in _STANDARD_TIERS else service_tier


def read_limit(*fields: msgspec.Raw) -> int | None:
    """The largest of the given limits, as servers differ in which one they take.

    None without one, and where one is no number of at least 0: a server may take it as no limit.
    JSON has one type of numbers: 1.6e4 is 16000 (RFC 8259, section 6).
    """
    largest = None
    for field in fields:
        text = bytes(field)
        if text[:1].isdigit():
            try:
                limit = int(min(msgspec.json.decode(text), _MAX_LIMIT))
            except msgspec.DecodeError:  # 1e999 is out of range
                limit = _MAX_LIMIT
            largest = limit if largest is None else max(largest, limit)
        elif text not in (b"", b"null"):
            return None
    return largest


def read_hints(*fields: msgspec.Raw) -> dict[str, str]:
    """The string fields by their number, and what object fields name a conversation.

    Other values of an object are left out: they may differ between the requests of a conversation.
    """
    hints: dict[str, str] = {}
    for number, field in enumerate(fields):
        raw = bytes(field)
        if raw.startswith((b'"', b"{")):
            value = msgspec.json.decode(raw)
            values = {str(number): value} if isinstance(value, str) else _read_sessions(value)
            hints |= {name: text for name, text in values.items() if isinstance(text, str) and text}
    return hints


def read_cache_key(raw: msgspec.Raw) -> dict[str, str]:
    """The hint of a `prompt_cache_key`.

    An application gives all its conversations one key, or each its own, as Codex does. Only a key
    of the form of an id names a conversation.
    """
    key = read_text(raw) if raw else None
    if not key:
        return {}
    return {_CACHE_KEY if _CONVERSATION_ID.fullmatch(key) else "cache": key}


def _read_sessions(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that name a conversation, whether as `session_id`, `sessionId` or `Session-Id`."""
    plain = {name.lower().translate(_NO_SEPARATORS): value for name, value in values.items()}
    return {name: plain[name] for name in sorted(plain.keys() & SESSION_FIELDS)}


def read_metadata(raw: msgspec.Raw) -> Mapping[str, str]:
    """The string values of the object `metadata`; none for other values."""
    if not bytes(raw).startswith(b"{"):
        return {}
    values = msgspec.json.decode(raw)
    return {name: text for name, text in values.items() if isinstance(text, str)}


def replace_json(event: bytes, data: bytes, fields: Fields) -> bytes:
    """An event of a stream, or a complete answer, with other JSON in one line.

    Args:
        data: the present JSON in it.
    """
    sent = msgspec.json.format(_encoder.encode(fields), indent=-1)
    if event.count(data) == 1:
        return event.replace(data, sent)
    # The JSON is in several lines, each of them a field.
    others = [line for line in event.splitlines() if line and not line.startswith(b"data")]
    return b"\n".join([*others, b"data: " + sent, b"", b""])
