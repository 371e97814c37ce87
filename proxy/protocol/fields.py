"""Reading and replacing single fields of a JSON request body; all other fields keep their bytes."""

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from proxy.errors import InvalidRequest

T = TypeVar("T")
Fields = dict[str, msgspec.Raw]  # of a request, each as the client sent it

_raw_fields = msgspec.json.Decoder(Fields)
_encoder = msgspec.json.Encoder()

_MAX_LIMIT: Final = 10**9

# msgspec ends a validation message with " - at `$.messages[0].content`".
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")


def read_request(decoder: msgspec.json.Decoder[T], body: bytes, *, at: str = "") -> T:
    """Decode a request, or its part at a path such as `input[3]`.

    Raises:
        InvalidRequest: not JSON, or a field is missing or wrong; `param` names it.
    """
    try:
        if not at:
            body.decode()  # msgspec does not validate skipped values
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise validation_error(str(error), at=at) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None


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
    place = f" for '{path}'" if path else ""
    return InvalidRequest(f"Invalid value{place}: {_lower_first(what)}.", param=path or None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def require_model(model: str) -> None:
    if not model:
        raise InvalidRequest("A model is required, for example 'auto'.", param="model")


def rewrite(
    body: bytes,
    *,
    model: str,
    include_usage: bool,
    adapt: Callable[[Fields], None] | None = None,
) -> bytes:
    """The client's body with the decided model; every other field keeps its bytes.

    Args:
        body: a JSON object that one of the parsers accepted.
        model: the upstream's name of the model. A request without a model, for a stored prompt,
            stays without one.
        include_usage: ask the upstream for the usage chunk of a stream.
        adapt: adapts the fields to the upstream.
    """
    fields = _raw_fields.decode(body)
    if is_given(fields.get("model", msgspec.Raw())):
        fields["model"] = msgspec.Raw(_encoder.encode(model))
    if adapt is not None:
        adapt(fields)
    if include_usage:
        options = fields.get("stream_options")
        stream_options = (
            {} if options is None or bytes(options) == b"null" else _raw_fields.decode(options)
        )
        stream_options["include_usage"] = msgspec.Raw(b"true")
        fields["stream_options"] = msgspec.Raw(_encoder.encode(stream_options))
    return _encoder.encode(fields)


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
    return msgspec.json.decode(raw) if bytes(raw).startswith(b'"') else None


def read_service_tier(field: msgspec.Raw) -> str | None:
    """The service tier that a request asks for; None for the standard one."""
    return read_text(field) if bytes(field) not in (b'"default"', b'"standard"') else None


def read_limit(*fields: msgspec.Raw) -> int | None:
    """The first field that is a number of at least 0; None without one.

    JSON has one type of numbers: 1.6e4 is 16000 (RFC 8259, section 6).
    """
    for field in fields:
        text = bytes(field)
        if text[:1].isdigit():
            try:
                return int(min(msgspec.json.decode(text), _MAX_LIMIT))
            except msgspec.DecodeError:  # 1e999 is out of range
                return _MAX_LIMIT
    return None


def read_hints(*fields: msgspec.Raw) -> Mapping[str, str]:
    """The string fields, and the string values of object fields, each with a name."""
    hints: dict[str, str] = {}
    for number, field in enumerate(fields):
        raw = bytes(field)
        if raw.startswith((b'"', b"{")):
            value = msgspec.json.decode(raw)
            values = {str(number): value} if isinstance(value, str) else value
            hints |= {name: text for name, text in values.items() if isinstance(text, str)}
    return hints
