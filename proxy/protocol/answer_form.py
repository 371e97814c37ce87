"""What a request asks of the form of its answer: JSON, a schema, calls of the offered tools.

Read from the body only when an answer is checked; the router does not need it.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from proxy.protocol.fields import is_given
from proxy.protocol.views import UNREADABLE

Schema = Mapping[str, Any]


class AnswerForm(NamedTuple):
    """The form that a client asks for.

    Attributes:
        json: whether the answer must be JSON.
        schema: its JSON schema, if the client gave one.
        tools: the schema of the parameters by the tool's name. None if tools of other types are
            offered, whose calls have no such schema.
        has_stop: whether stop sequences may cut the answer.
    """

    json: bool = False
    schema: Schema | None = None
    tools: Mapping[str, Schema] | None = None
    has_stop: bool = False


class _Named(msgspec.Struct):
    """A schema of an answer, or a function."""

    name: str = ""
    schema: Any = None
    parameters: Any = None


class _Format(msgspec.Struct):
    """`response_format`, or `text.format` of the Responses API, which has the schema itself."""

    type: str = ""
    json_schema: _Named | None = None
    schema: Any = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    name: str = ""
    parameters: Any = None


class _Body(msgspec.Struct):
    response_format: _Format | None = None
    text: msgspec.Raw = msgspec.Raw()  # an object in the Responses API only
    tools: list[_Tool] | None = None
    functions: list[_Named] | None = None
    stop: msgspec.Raw = msgspec.Raw()


_body: Final = msgspec.json.Decoder(_Body)
_text: Final = msgspec.json.Decoder(_Text)


def read_form(body: bytes) -> AnswerForm:
    """The form that the body of a request asks for. An unknown one asks for nothing."""
    try:
        asked = _body.decode(body)
        wanted = asked.response_format
        if wanted is None and bytes(asked.text).startswith(b"{"):
            wanted = _text.decode(asked.text).format
    except UNREADABLE:
        return AnswerForm()
    schema = None
    if wanted is not None and wanted.type == "json_schema":
        named = wanted.json_schema
        schema = _as_object(named.schema if named is not None else wanted.schema)
    return AnswerForm(
        json=wanted is not None and wanted.type in ("json_object", "json_schema"),
        schema=schema,
        tools=_parameters(asked.tools or [], asked.functions or []),
        has_stop=is_given(asked.stop) and bytes(asked.stop) != b'""',
    )


def _parameters(tools: list[_Tool], functions: list[_Named]) -> Mapping[str, Schema] | None:
    parameters: dict[str, Schema] = {}
    for tool in tools:
        if tool.type != "function":
            return None
        if tool.function is not None:
            parameters[tool.function.name] = _as_object(tool.function.parameters) or {}
        else:
            parameters[tool.name] = _as_object(tool.parameters) or {}
    for function in functions:
        parameters[function.name] = _as_object(function.parameters) or {}
    return parameters


def _as_object(value: Any) -> Schema | None:
    return value if isinstance(value, dict) else None
