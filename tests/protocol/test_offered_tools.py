"""The tools that a request offers, read and removed."""

import json
from typing import Any

import msgspec
import pytest

from proxy.protocol import Fields
from proxy.protocol.offered_tools import (
    MAX_BYTES,
    MAX_NAMES,
    drop_choice,
    drop_tools,
    has_free_choice,
    keep_functions,
    read_names,
)


def fields(**values: Any) -> Fields:
    body = json.dumps({"model": "auto", "temperature": 1, **values})
    return msgspec.json.decode(body, type=Fields)


def chat_tool(name: str, **others: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {}, **others}}


CUSTOM = {"type": "custom", "custom": {"name": "c"}}


def test_names_of_both_apis() -> None:
    flat = {"type": "function", "name": "b", "parameters": {}}
    assert read_names(fields(tools=[chat_tool("a"), flat])) == ["a", "b"]


@pytest.mark.parametrize(
    "values",
    [
        {"tools": [chat_tool("a"), CUSTOM]},
        {"tools": [chat_tool("a"), 7]},
        {"tools": [chat_tool("a")] * (MAX_NAMES + 1)},
        {"tools": [chat_tool("a", description="x" * MAX_BYTES)]},
        {"tools": [chat_tool("a")], "functions": [{"name": "f"}]},
    ],
    ids=["custom", "no tool", "many", "large", "functions"],
)
def test_names_that_are_not_read(values: dict[str, Any]) -> None:
    assert read_names(fields(**values)) is None


def test_as_many_names_as_a_front_end_has_are_read() -> None:
    assert read_names(fields(tools=[chat_tool("a")] * MAX_NAMES)) == ["a"] * MAX_NAMES
    assert read_names(fields()) == []


def test_a_choice_is_free_or_demanded() -> None:
    assert has_free_choice(fields())
    assert has_free_choice(fields(tool_choice="auto", function_call=None))
    assert not has_free_choice(fields(tool_choice="required"))
    assert not has_free_choice(fields(function_call={"name": "f"}))


def test_what_is_removed() -> None:
    given = {
        "tools": [chat_tool("a"), CUSTOM, {"function": {"name": "b"}}],
        "functions": [{"name": "f"}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "max_tool_calls": 3,
    }
    without_tools, without_choice, functions = (fields(**given) for _ in range(3))
    drop_tools(without_tools)
    assert without_tools.keys() == {"model", "temperature"}
    drop_choice(without_choice)
    assert without_choice.keys() == {"model", "temperature", "tools", "functions"}
    keep_functions(functions)
    assert functions.keys() == fields(**given).keys()
    assert json.loads(bytes(functions["tools"])) == [given["tools"][0], given["tools"][2]]
