"""What a request asks of the form of its answer: JSON, a schema, calls of the offered tools.

Read from the body only when an answer is checked; the router does not need it. Each field is read
on its own, so that an odd one does not hide the others.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from proxy.protocol.fields import is_given
from proxy.protocol.views import UNREADABLE

T = TypeVar("T")
Schema = Mapping[str, Any]


class AnswerForm(NamedTuple):
    """The form that a client asks for.

    Attributes:
        json: whether the answer must be JSON.
        schema: its JSON schema, if the client gave one.
        tools: the schema of the parameters by the tool's name. None if tools of other types are
            offered, whose calls have no such schema, or tools in an unknown form.
        has_stop: whether stop sequences may cut the answer.
    """

    json: bool = False
    schema: Schema | None = None
    tools: Mapping[str, Schema] | None = None
    has_stop: bool = False


class _Format(msgspec.Struct):
    """`response_format`, or `text.format` of the Responses API, which has the schema itself."""

    type: str = ""
    json_schema: Any = None
    schema: Any = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Function(msgspec.Struct):
    name: str = ""
    parameters: Any = None


class _Tool(msgspec.Struct):
    """A tool; that of the Responses API has the fields of its function itself."""

    type: str = "function"
    function: _Function | None = None
    name: str = ""
    parameters: Any = None


class _Body(msgspec.Struct):
    response_format: msgspec.Raw = msgspec.Raw()
    text: msgspec.Raw = msgspec.Raw()  # of the Responses API
    tools: msgspec.Raw = msgspec.Raw()
    functions: msgspec.Raw = msgspec.Raw()
    stop: msgspec.Raw = msgspec.Raw()


_body: Final = msgspec.json.Decoder(_Body)
_format: Final = msgspec.json.Decoder(_Format)
_text: Final = msgspec.json.Decoder(_Text)
_tools: Final = msgspec.json.Decoder(list[_Tool])
_functions: Final = msgspec.json.Decoder(list[_Function])


def read_form(body: bytes) -> AnswerForm:
    """The form that the body of a request asks for. An unknown one asks for nothing."""
    asked = _read(_body, body)
    if asked is None:
        return AnswerForm()
    wanted = _read(_format, asked.response_format)
    if wanted is None and (text := _read(_text, asked.text)) is not None:
        wanted = text.format
    kind = wanted.type if wanted is not None else ""
    schema = None
    if wanted is not None and kind == "json_schema":
        named = wanted.json_schema
        schema = _as_object(named.get("schema") if isinstance(named, dict) else wanted.schema)
    return AnswerForm(
        json=kind in ("json_object", "json_schema"),
        schema=schema,
        tools=_read_tools(asked),
        has_stop=is_given(asked.stop) and bytes(asked.stop) != b'""',
    )


def _read_tools(asked: _Body) -> Mapping[str, Schema] | None:
    """The parameters of all offered tools; None if they are not all known."""
    offered: list[_Function | _Tool] = []
    if is_given(asked.tools):
        tools = _read(_tools, asked.tools)
        if tools is None or any(tool.type != "function" for tool in tools):
            return None
        offered += [tool.function or tool for tool in tools]
    if is_given(asked.functions):
        functions = _read(_functions, asked.functions)
        if functions is None:
            return None
        offered += functions
    return {item.name: _as_object(item.parameters) or {} for item in offered}


def _read(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw) -> T | None:
    """A value; None if it is absent or in another form."""
    if not raw:
        return None
    try:
        return decoder.decode(raw)
    except UNREADABLE:
        return None


def _as_object(value: Any) -> Schema | None:
    return value if isinstance(value, dict) else None
