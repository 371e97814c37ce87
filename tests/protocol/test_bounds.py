"""Bounds of a request body: many values, long names, names that differ in case only."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.errors import InvalidRequest
from proxy.protocol.bounds import (
    LARGE_BODY_BYTES,
    MAX_CONTAINERS,
    MAX_ESCAPES,
    MAX_FIELDS,
    MAX_ITEMS,
    MAX_MODEL_CHARS,
    MAX_PROMPTS,
    MAX_STRINGS,
    MAX_VALUES,
    check_size,
    is_heavy,
)
from proxy.protocol.chat import parse_chat, parse_completion, parse_embedding
from proxy.protocol.responses import parse_responses

USER = {"role": "user", "content": "Hi"}
CHAT = {"model": "auto", "messages": [USER]}
COMPLETION = {"model": "auto", "prompt": "Hi"}
RESPONSE = {"model": "auto", "input": "Hi"}
EMBEDDING = {"model": "vectors", "input": "Hi"}
PARSERS: list[tuple[Callable[[bytes], Any], dict[str, Any]]] = [
    (parse_chat, CHAT),
    (parse_completion, COMPLETION),
    (parse_responses, RESPONSE),
    (parse_embedding, EMBEDDING),
]


def refusal(parse: Callable[[bytes], Any], body: bytes | dict[str, Any]) -> InvalidRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse(data)
    return caught.value


@pytest.mark.parametrize(("parse", "fields"), PARSERS)
def test_a_model_name_has_a_length(parse: Callable[[bytes], Any], fields: dict[str, Any]) -> None:
    longest = "m" * MAX_MODEL_CHARS
    assert parse(json.dumps(fields | {"model": longest}).encode()).model == longest
    error = refusal(parse, fields | {"model": longest + "m"})
    assert (error.param, error.code) == ("model", "string_above_max_length")


@pytest.mark.parametrize(
    ("parse", "fields", "param"),
    [
        (parse_chat, CHAT | {"messages": [USER] * (MAX_ITEMS + 1)}, "messages"),
        (
            parse_chat,
            CHAT
            | {"messages": [{"role": "user", "content": [{"type": "text"}] * (MAX_ITEMS + 1)}]},
            "messages",
        ),
        (parse_chat, CHAT | {"tools": [{}] * (MAX_ITEMS + 1)}, "tools"),
        (parse_chat, CHAT | {"functions": [{}] * (MAX_ITEMS + 1)}, "functions"),
        (parse_chat, CHAT | {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        (parse_chat, CHAT | {f"x{n}": n for n in range(MAX_FIELDS)}, None),
        (parse_completion, COMPLETION | {"prompt": ["x"] * (MAX_PROMPTS + 1)}, "prompt"),
        (parse_completion, COMPLETION | {"prompt": [[1]] * (MAX_PROMPTS + 1)}, "prompt"),
        (parse_responses, RESPONSE | {"input": [USER] * (MAX_ITEMS + 1)}, "input"),
        (
            parse_responses,
            RESPONSE | {"tools": [{"type": "function"}] * (MAX_ITEMS + 1)},
            "tools",
        ),
        (parse_responses, RESPONSE | {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
    ],
)
def test_lists_have_a_length(
    parse: Callable[[bytes], Any], fields: dict[str, Any], param: str | None
) -> None:
    error = refusal(parse, fields)
    assert error.param == param
    assert error.code in ("array_above_max_length", "object_above_max_properties")


def test_the_longest_lists_are_accepted() -> None:
    chat = CHAT | {"messages": [USER] * MAX_ITEMS, "metadata": {str(n): "" for n in range(16)}}
    assert len(parse_chat(json.dumps(chat).encode()).turns) == MAX_ITEMS
    tokens = COMPLETION | {"prompt": list(range(300_000))}
    assert parse_completion(json.dumps(tokens).encode()).choices == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"prompt":[' + b"1," * MAX_VALUES + b"1,1]}", "prompt"),
        (b'{"input":[' + b"[]," * (MAX_CONTAINERS + 1) + b"1]}", "input"),
        (b'{"metadata":{' + b'"a":"",' * (MAX_STRINGS // 2 + 1) + b'"b":1}}', "metadata"),
        (b"{" + b'"a":1,' * (MAX_STRINGS + 1) + b'"b":1}', None),
        (b'{"messages":[{"a":[{"b":{}}]}],"x":[' + b"1," * MAX_VALUES + b"1,1]}", None),
        (b'{"x":["messages",' + b"1," * MAX_VALUES + b"1,1]}", None),
        (b'{"input":[' + b"1," * MAX_VALUES + b'1],"model":"auto"}', "input"),
        (b'{"messages":[{"content":"]"},' + b"1," * MAX_VALUES + b"1,1]}", "messages"),
        (b'{"tools":[' + b'"\\\\",' * (MAX_STRINGS + 1) + b"1]}", "tools"),
    ],
)
def test_a_body_has_a_number_of_values(body: bytes, param: str | None) -> None:
    error = refusal(check_size, body)
    assert (error.param, error.code) == (param, "array_above_max_length")
    place = f"Invalid value for '{param}': it" if param else "The request"
    assert error.message.startswith(f"{place} has too many values. ")
    assert "values" in error.message


@pytest.mark.parametrize("text", [", ", "[],{},", '\\"', "\\\\", '\\",\\"', "ä,", '\\\\\\",,'])
@pytest.mark.parametrize("shift", range(4))
def test_texts_are_no_values(text: str, shift: int) -> None:
    """Wherever a step of the count cuts a text."""
    repeated = text * (900_000 // len(text.encode()))
    check_size(f'{{"a":"{"x" * shift}","b":["{repeated}","{repeated}"]}}'.encode())


def test_escapes_are_bounded() -> None:
    check_size(b'{"a":"' + b"\\n" * (MAX_ESCAPES // 2) + b'"}')
    error = refusal(check_size, b'{"a":"' + b"\\n" * (MAX_ESCAPES + 1) + b'"}')
    assert error.code == "string_above_max_length"


def test_a_large_body_must_be_utf_8() -> None:
    for body in (b'{"a":"' + b"x" * 2**18 + b'\xff"}', b'{"a":"' + b"x" * 2**18 + b"\xc3"):
        with pytest.raises(UnicodeDecodeError):
            check_size(body)
    check_size(b'{"a":"' + "ä".encode() * 2**18 + b'"}')  # cut within a character


@pytest.mark.parametrize(
    ("parse", "body", "param"),
    [
        (parse_chat, b'{"model":"a","Model":"b","messages":[{"role":"user"}]}', "Model"),
        (parse_chat, b'{"model":"a","messages":[{"role":"u"}],"MESSAGES":[]}', "MESSAGES"),
        (
            parse_chat,
            '{"model":"a","messages":[{"role":"u"}],"me\u017fsages":[]}'.encode(),
            "me\u017fsages",
        ),
        (parse_chat, b'{"model":"a","\\u004dodel":"b","messages":[{"role":"user"}]}', "Model"),
        (
            parse_chat,
            b'{"model":"a","messages":[{"role":"u"},{"role":"u","Content":"x"}]}',
            "messages[1].Content",
        ),
        (
            parse_chat,
            b'{"model":"a","messages":[{"role":"u","content":[{"type":"text","Text":"x"}]}]}',
            "messages[0].content[0].Text",
        ),
        (parse_chat, b'{"model":"a","messages":[{"role":"u"}],"Stream":true}', "Stream"),
        (parse_chat, b'{"model":"a","messages":[{"role":"u"}],"Temperature":1}', "Temperature"),
        (parse_completion, b'{"model":"a","prompt":"x","Prompt":"y"}', "Prompt"),
        (parse_completion, b'{"model":"a","prompt":"x","Service_Tier":"flex"}', "Service_Tier"),
        (parse_embedding, b'{"model":"a","input":"x","MODEL":"y"}', "MODEL"),
        (parse_responses, b'{"model":"a","input":"x","Input":"y"}', "Input"),
        (parse_responses, b'{"model":"a","input":"x","Instructions":"y"}', "Instructions"),
        (
            parse_responses,
            b'{"model":"a","input":[{"role":"user","content":"x","Content":"y"}]}',
            "input[0].Content",
        ),
        (
            parse_responses,
            b'{"model":"a","input":[{"role":"user","content":[{"text":"x","Text":"y"}]}]}',
            "input[0].content[0].Text",
        ),
    ],
)
def test_a_field_that_differs_in_case_only_is_refused(
    parse: Callable[[bytes], Any], body: bytes, param: str
) -> None:
    error = refusal(parse, body)
    assert (error.param, error.code) == (param, "unknown_parameter")


def test_other_unknown_fields_are_accepted() -> None:
    schema = {"properties": {"Content": {"type": "string"}, "content": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    message = USER | {"X": 1, "cache_control": {"Type": "a"}}
    parse_chat(json.dumps(CHAT | {"Foo": 1, "tools": [tool], "messages": [message]}).encode())
    parse_responses(json.dumps(RESPONSE | {"Foo": 1, "input": [message]}).encode())


def test_a_body_is_heavy_by_its_size_or_by_its_values() -> None:
    def with_items(number: int) -> bytes:
        return json.dumps(RESPONSE | {"input": [USER | {"x": 1}] * number}).encode()

    assert not is_heavy(with_items(100))
    assert is_heavy(with_items(1000))
    assert not is_heavy(json.dumps(RESPONSE | {"input": "Some words, more. " * 7_000}).encode())
    assert is_heavy(json.dumps(RESPONSE | {"x": list(range(10_000))}).encode())
    assert is_heavy(json.dumps(RESPONSE | {"input": "\n" * 20_000}).encode())
    assert is_heavy(b" " * (LARGE_BODY_BYTES + 1))
