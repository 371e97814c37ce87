"""The tools that a request offers: whether they are needed, and a request without them.

A tool that is merely offered may be used, and most answers do not use one. A demanded choice is a
need, and so are the calls and results that a conversation already has.

The functions here change or read the fields of a request of any wire format whose tools are in the
field `tools`, or in the older `functions`.

Sources: the OpenAI API reference for chat completions and for responses.
"""

from typing import Final

import msgspec

from proxy.protocol.fields import Fields, is_given, read_type
from proxy.protocol.views import UNREADABLE, FirstItems, RoutingRequest

# A server may take these only together with tools.
_CHOICE: Final = ("tool_choice", "function_call", "parallel_tool_calls", "max_tool_calls")
_TOOLS: Final = ("tools", "functions")
# A choice that leaves the use of a tool to the model.
_FREE_CHOICES: Final = (b"", b"null", b'"auto"')
# The needs of a conversation in which tools have been used.
_USED: Final = frozenset({"tools", "functions", "input_item"})
# More names than any known front end has tools, and more bytes than all of those take.
MAX_NAMES: Final = 64
MAX_BYTES: Final = 2**17


class _Function(msgspec.Struct):
    name: str = ""


class _Tool(msgspec.Struct):
    """A tool of either API: the name is in `function`, or beside the type."""

    type: str = "function"
    name: str = ""
    function: _Function | None = None


_tool = msgspec.json.Decoder(_Tool)
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_first_tools = FirstItems(MAX_NAMES + 1)
_encoder = msgspec.json.Encoder()


def offers_tools(request: RoutingRequest) -> bool:
    """Whether some need of a request comes from the tools that it offers, or from their choice."""
    return any(field in _TOOLS or field in _CHOICE for field in request.needs.values())


def has_free_choice(fields: Fields) -> bool:
    """Whether the model may answer without a tool."""
    return all(
        bytes(fields.get(name, b"")) in _FREE_CHOICES for name in ("tool_choice", "function_call")
    )


def has_used_tools(request: RoutingRequest) -> bool:
    """Whether the conversation has calls or results of tools.

    Args:
        request: a view without offered tools.
    """
    return not _USED.isdisjoint(request.needs)


def drop_tools(fields: Fields) -> None:
    """Remove all tools, and what refers to them."""
    for name in (*_TOOLS, *_CHOICE):
        fields.pop(name, None)


def drop_choice(fields: Fields) -> None:
    """Remove what is demanded about the use of tools. The tools stay."""
    for name in _CHOICE:
        fields.pop(name, None)


def keep_functions(fields: Fields) -> None:
    """Remove all tools but functions, which every server with tools can offer to its model."""
    tools = bytes(fields.get("tools", b""))
    if not tools.startswith(b"["):
        return
    functions = [tool for tool in _raw_list.decode(tools) if read_type(tool) in (None, "function")]
    fields["tools"] = msgspec.Raw(_encoder.encode(functions))


def read_names(fields: Fields) -> list[str] | None:
    """The names of the offered functions; None if other tools are among them, or too many."""
    raw = fields.get("tools", msgspec.Raw())
    if is_given(fields.get("functions", msgspec.Raw())) or len(raw) > MAX_BYTES:
        return None
    try:
        tools = [_tool.decode(item) for item in _first_tools.read(raw)]
    except UNREADABLE:
        return None
    if len(tools) > MAX_NAMES or any(tool.type != "function" for tool in tools):
        return None
    return [tool.function.name if tool.function is not None else tool.name for tool in tools]
