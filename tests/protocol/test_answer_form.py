"""What a request asks of the form of its answer, also where its fields are odd."""

import json
import time
from typing import Any

import pytest

from proxy.protocol.answer_form import AnswerForm, read_form

SCHEMA = {"type": "object", "required": ["age"]}
PLAIN = AnswerForm(tools={})


def form_of(**fields: Any) -> AnswerForm:
    return read_form(json.dumps({"model": "auto", **fields}).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_object_asks_for_nothing(body: bytes) -> None:
    assert read_form(body) == AnswerForm()


@pytest.mark.parametrize(
    ("fields", "json_schema"),
    [
        ({"response_format": {"type": "json_object"}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, SCHEMA),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}}, SCHEMA),
        ({"text": {"format": {"type": "json_object"}}}, None),
        ({"response_format": {"type": "json_schema"}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": True}}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": "person"}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": None}}, None),
        ({"response_format": None, "text": {"format": {"type": "json_object"}}}, None),
    ],
    ids=str,
)
def test_json_and_its_schema(fields: dict[str, Any], json_schema: object) -> None:
    assert form_of(**fields) == PLAIN._replace(json=True, schema=json_schema)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"response_format": {"type": "text"}},
        {"response_format": "json_object"},
        {"response_format": ["json_object"]},
        {"response_format": {"type": ["json_object"]}},
        {"response_format": {"type": None}},
        {"text": "json_object"},
        {"text": {"format": "json_object"}},
        {"text": {}},
        {"text": {"verbosity": "low"}},
    ],
    ids=str,
)
def test_what_is_no_json_format_asks_for_no_json(fields: dict[str, Any]) -> None:
    assert form_of(**fields) == PLAIN


@pytest.mark.parametrize(
    ("stop", "has_stop"),
    [
        ("\n", True),
        (["END"], True),
        ("", False),
        ([], False),
        (None, False),
        (7, True),
        ({"a": 1}, True),
    ],
)
def test_stop_sequences(stop: object, has_stop: bool) -> None:
    assert form_of(stop=stop).has_stop == has_stop


def function(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


@pytest.mark.parametrize(
    ("fields", "tools"),
    [
        ({"tools": [function("a", SCHEMA), function("b")]}, {"a": SCHEMA, "b": {}}),
        ({"tools": [{"type": "function", "name": "a", "parameters": SCHEMA}]}, {"a": SCHEMA}),
        ({"tools": [{"function": {"name": "a"}}]}, {"a": {}}),
        ({"tools": [function("a", "none")]}, {"a": {}}),
        ({"tools": [function("a", [])]}, {"a": {}}),
        ({"functions": [{"name": "a", "parameters": SCHEMA}]}, {"a": SCHEMA}),
        ({"tools": [function("a")], "functions": [{"name": "b"}]}, {"a": {}, "b": {}}),
        ({"tools": []}, {}),
        ({"tools": None, "functions": None}, {}),
        # Their calls have no parameters of a known schema.
        ({"tools": [function("a"), {"type": "web_search"}]}, None),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, None),
        # Not OpenAI's form: nothing is known about the offered tools.
        ({"tools": {"a": {}}}, None),
        ({"tools": ["a"]}, None),
        ({"tools": "a"}, None),
        ({"tools": [{"type": "function", "function": {"name": 7}}]}, None),
        ({"functions": [[]]}, None),
    ],
    ids=str,
)
def test_offered_tools(fields: dict[str, Any], tools: object) -> None:
    assert form_of(**fields).tools == tools


def test_an_odd_field_does_not_hide_the_others() -> None:
    form = form_of(response_format=7, tools="all", stop="END", text=[])
    assert form == AnswerForm(tools=None, has_stop=True)
    form = form_of(response_format={"type": "json_object"}, tools=7, functions=7, stop=None)
    assert form == AnswerForm(json=True)


def test_a_large_body_takes_little_time() -> None:
    filler = [{"role": "user", "content": "x" * 1_000}] * 3_000
    started = time.perf_counter()
    assert form_of(messages=filler, stop="END") == PLAIN._replace(has_stop=True)
    assert time.perf_counter() - started < 1


def test_deep_values_are_no_error() -> None:
    deep = b'{"stop": "END", "tools": %b, "response_format": {"type": "json_object"}}'
    form = read_form(deep % (b"[" * 500 + b"]" * 500))
    assert form == AnswerForm(json=True, has_stop=True)
