"""The parts of complete answers: text, tool calls, finish and tokens, also of odd servers."""

import json
import time
from typing import Any

import pytest

from fakes import answer_json, response_fields
from proxy.protocol.answer_parts import read_chat, read_response
from proxy.protocol.views import MAX_VIEWED_BYTES
from router_model.answer_checks import LocalAnswer

READERS = [read_chat, read_response]
TOKENS = 10  # of `answer_json` and `response_fields`


def chat_of(message: Any = None, **choice: Any) -> LocalAnswer | None:
    """The parts of a chat answer with one choice."""
    return read_chat(json.dumps({"choices": [{"message": message, **choice}]}).encode())


def response_of(*output: Any, **fields: Any) -> LocalAnswer | None:
    body = {"status": "completed", "output": list(output), **fields}
    return read_response(json.dumps(body).encode())


def test_a_chat_answer() -> None:
    assert read_chat(answer_json("Hello!")) == LocalAnswer("Hello!", "stop", completion_tokens=10)


def test_a_text_completion() -> None:
    body = {"choices": [{"text": "Hi", "finish_reason": "length"}]}
    assert read_chat(json.dumps(body).encode()) == LocalAnswer("Hi", "length")
    body = {"choices": [{"text": None}]}
    assert read_chat(json.dumps(body).encode()) == LocalAnswer("", None)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"error": {"message": "x"}}', b"[" * 100_000],
)
def test_another_form_has_no_parts(read: Any, body: bytes) -> None:
    assert read(body) is None


@pytest.mark.parametrize(
    "choices",
    [
        None,
        {},
        [],
        [None],
        ["Hi"],
        [{"message": "Hi"}],
        [{"message": {"content": 7}}],
        [{"message": {"content": {"text": "Hi"}}}],
        [{"message": {"content": ["Hi"]}}],
        [{"message": {"content": "Hi"}, "finish_reason": 7}],
        [{"message": {"tool_calls": {"name": "a"}}}],
        [{"message": {"tool_calls": [{"function": None}]}}],
        [{"message": {"tool_calls": [{"function": {"name": None}}]}}],
        [{"message": {"content": "a"}}, {"message": {"content": "b"}}],
    ],
    ids=str,
)
def test_choices_of_another_form_have_no_parts(choices: object) -> None:
    """One of another form, or more than one, is not checked."""
    assert read_chat(json.dumps({"choices": choices}).encode()) is None


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        ({"content": None}, LocalAnswer("", None)),
        ({}, LocalAnswer("", None)),
        (
            {"content": [{"type": "text", "text": "Hel"}, {"text": "lo"}]},
            LocalAnswer("Hello", None),
        ),
        (
            {"content": [{"type": "image", "image": {}}, {"type": "text", "text": None}]},
            LocalAnswer("", None, has_other_output=True),
        ),
        (
            {"content": [{"type": "refusal", "refusal": "No."}]},
            LocalAnswer("", None, refusal="No."),
        ),
        ({"content": "", "refusal": "No."}, LocalAnswer("", None, refusal="No.")),
        ({"content": [{"type": "thinking", "thinking": []}]}, LocalAnswer("", None)),
        ({"content": [{"type": 7}]}, LocalAnswer("", None, has_other_output=True)),
        ({"audio": {"id": "audio_1"}}, LocalAnswer("", None, has_other_output=True)),
        ({"audio": None, "images": []}, LocalAnswer("", None)),
        ({"images": [{"type": "image_url"}]}, LocalAnswer("", None, has_other_output=True)),
        ({"content": "Hi", "reasoning": {"a": 1}, "audio": 7}, LocalAnswer("Hi", None)),
    ],
    ids=str,
)
def test_contents_of_a_message(message: dict[str, Any], parts: LocalAnswer) -> None:
    assert chat_of(message) == parts


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"city": "Rome"}', '{"city": "Rome"}'),
        ('{"city": "Ro', '{"city": "Ro'),
        ({"city": "Rome"}, '{"city":"Rome"}'),  # some servers send the object
        ([1, "a"], '[1,"a"]'),
        (None, ""),
        ("", ""),
        (7, "7"),
    ],
    ids=str,
)
def test_arguments_of_tool_calls(arguments: object, text: str) -> None:
    call = {"name": "weather", "arguments": arguments}
    expected = (("weather", text),)
    parts = chat_of({"tool_calls": [{"id": "call_1", "type": "function", "function": call}]})
    assert parts is not None
    assert parts.tool_calls == expected
    parts = chat_of({"function_call": call})
    assert parts is not None
    assert parts.tool_calls == expected
    parts = response_of({"type": "function_call", **call})
    assert parts is not None
    assert parts.tool_calls == expected


def test_a_call_without_a_function_has_no_name() -> None:
    parts = chat_of({"tool_calls": [{"type": "custom", "custom": {"name": "a", "input": "b"}}]})
    assert parts is not None
    assert parts.tool_calls == (("", ""),)


@pytest.mark.parametrize(
    ("finish", "read"), [("stop", "stop"), ("tool_calls", "tool_calls"), ("", None), (None, None)]
)
def test_finish_reasons(finish: str | None, read: str | None) -> None:
    parts = chat_of({"content": "Hi"}, finish_reason=finish)
    assert parts is not None
    assert parts.finish_reason == read


# A count, or what stands in its place, and the tokens that are read.
COUNTS: list[tuple[object, int | None]] = [
    (TOKENS, TOKENS),
    (10.0, TOKENS),
    ("10", TOKENS),
    (-1, None),
    ("many", None),
    (None, None),
    ([], None),
    (10**30, None),
]


@pytest.mark.parametrize(("count", "tokens"), COUNTS, ids=str)
def test_tokens_of_another_form_hide_nothing(count: object, tokens: int | None) -> None:
    parts = read_chat(answer_json("Hi", usage={"completion_tokens": count}))
    assert parts == LocalAnswer("Hi", "stop", completion_tokens=tokens)
    parts = response_of(usage={"output_tokens": count})
    assert parts == LocalAnswer("", "stop", completion_tokens=tokens)


@pytest.mark.parametrize("usage", [None, [], 7, "many", {}], ids=str)
def test_usage_of_another_form_hides_nothing(usage: Any) -> None:
    assert read_chat(answer_json("Hi", usage=usage)) == LocalAnswer("Hi", "stop")
    assert response_of(usage=usage) == LocalAnswer("", "stop")


def test_a_response() -> None:
    body = json.dumps(response_fields("Hello!")).encode()
    assert read_response(body) == LocalAnswer("Hello!", "stop", completion_tokens=TOKENS)


@pytest.mark.parametrize(
    ("fields", "finish"),
    [
        ({"status": "completed"}, "stop"),
        ({"status": "incomplete"}, "length"),
        ({"status": "incomplete", "incomplete_details": None}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
        ),
        ({"status": "in_progress"}, None),
        ({"status": "?"}, None),
    ],
    ids=str,
)
def test_the_status_of_a_response(fields: dict[str, Any], finish: str | None) -> None:
    parts = response_of(**fields)
    assert parts is not None
    assert parts.finish_reason == finish


@pytest.mark.parametrize(
    ("output", "parts"),
    [
        ([], LocalAnswer("", "stop")),
        ([{"type": "reasoning", "content": [{"text": "hm"}]}], LocalAnswer("", "stop")),
        ([{"type": "message", "content": None}], LocalAnswer("", "stop")),
        (
            [{"type": "message", "content": [{"refusal": "No."}, {"refusal": None}]}],
            LocalAnswer("", "stop", refusal="No."),
        ),
        (
            [{"type": "message", "content": [{"text": word}]} for word in ("a", "b")],
            LocalAnswer("a\nb", "stop"),
        ),
        ([{}], LocalAnswer("", "stop")),
        (
            [{"type": "local_shell_call", "action": {"command": ["ls"]}}],
            LocalAnswer("", "stop", has_other_output=True),
        ),
        (
            [{"type": "image_generation_call", "result": "aGk="}],
            LocalAnswer("", "stop", has_other_output=True),
        ),
        (
            [{"type": "message", "content": [{"type": "output_audio"}]}],
            LocalAnswer("", "stop", has_other_output=True),
        ),
        (
            [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
            LocalAnswer("a", "stop"),
        ),
    ],
    ids=str,
)
def test_output_items_of_a_response(output: list[Any], parts: LocalAnswer) -> None:
    assert response_of(*output) == parts


@pytest.mark.parametrize(
    "output", [None, {}, ["Hi"], [{"type": 7}], [{"type": "message", "content": "Hi"}]], ids=str
)
def test_output_of_another_form_has_no_parts(output: object) -> None:
    assert read_response(json.dumps({"status": "completed", "output": output}).encode()) is None


def test_very_large_answers_are_not_read() -> None:
    text = "x" * 3_000_000
    started = time.perf_counter()
    assert read_chat(answer_json(text)) is None
    assert read_response(json.dumps(response_fields(text)).encode()) is None
    assert time.perf_counter() - started < 1
    smaller = read_chat(answer_json("x" * (MAX_VIEWED_BYTES - 1_000)))
    assert smaller is not None
    assert len(smaller.text) == MAX_VIEWED_BYTES - 1_000
