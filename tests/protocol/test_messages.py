"""Anthropic's Messages API: what is read of answers, and the form of errors."""

import json
from typing import Any

import pytest

from anthropic_wire import (
    TOOL_USE,
    anthropic_events,
    end_of,
    named,
    start_of,
    text_block,
    tool_events,
)
from fakes import message_json
from proxy import errors
from proxy.gateway.stream_observer import StreamObserver
from proxy.protocol.endpoints import MESSAGES
from proxy.protocol.messages import error_body, parse_messages, view_message
from proxy.protocol.views import MAX_VIEWED_BYTES


def observe(*events: bytes) -> StreamObserver:
    observer = StreamObserver(MESSAGES, strip_usage=False)
    for event in events:
        assert observer.feed(event) == event
    return observer


def test_texts_of_a_stream() -> None:
    words = ["plain ", 'a "quoted" ', "line\n", "ü🙂", "\\", "plain again", ""]
    assert observe(start_of(), *text_block(words)).text == "".join(words)


def test_tool_calls_and_thinking_are_output() -> None:
    outcome = observe(*tool_events()).outcome
    assert (outcome.text, outcome.other_text) == ("", 'The weather.{"city":"Bonn"}')


def test_a_stream_is_known_by_its_first_output() -> None:
    observer = observe(start_of(), named("ping"), *text_block([])[:1])
    assert not observer.is_known
    observer.feed(text_block(["Hi"])[1])
    assert observer.spoke
    call = named("content_block_start", index=0, content_block=TOOL_USE | {"input": {}})
    assert observe(start_of(), call).spoke


@pytest.mark.parametrize(
    ("reason", "seen"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("a_new_one", "a_new_one"),
        (None, None),
    ],
)
def test_finishes(reason: str | None, seen: str | None) -> None:
    observer = observe(*end_of(reason, output_tokens=1))
    assert observer.done
    assert observer.last is not None
    assert observer.last.finish_reason == seen
    view = view_message(message_json(stop_reason=reason))
    assert view is not None
    assert (view.finished, view.finish_reason) == (True, seen)


def test_usage_of_a_stream_is_from_two_events() -> None:
    usage = observe(*anthropic_events()).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (19, 10)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (8, 4)
    # The answer of a stream that was cut off is not counted at its start.
    first = observe(start_of(input_tokens=19, output_tokens=1)).usage
    assert first is not None
    assert (first.prompt_tokens, first.completion_tokens) == (19, None)
    # A prompt that the server counts at the end only.
    late = observe(start_of(input_tokens=0), *end_of(input_tokens=19, output_tokens=10)).usage
    assert late is not None
    assert (late.prompt_tokens, late.completion_tokens) == (19, 10)


@pytest.mark.parametrize("odd", ["x", 1, -1, None, [], {}, True, [1], {"a": 1}])
@pytest.mark.parametrize("name", ["content", "stop_reason", "usage", "model", "id"])
def test_an_odd_value_does_not_hide_the_others(name: str, odd: Any) -> None:
    view = view_message(message_json(**{name: odd}))
    assert view is not None
    assert view.is_answer
    if name != "content":
        assert view.text == "Hello!"
    if name != "usage":
        assert view.usage is not None
        assert view.usage.completion_tokens == 10


def test_odd_counts() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": -3, "output_tokens": "7"}
    view = view_message(message_json(usage=usage))
    assert view is not None
    assert view.usage is not None
    assert (view.usage.prompt_tokens, view.usage.completion_tokens) == (5, 7)
    empty = view_message(message_json(usage={}))
    assert empty is not None
    assert empty.usage is None


def test_a_large_answer_has_its_usage() -> None:
    view = view_message(message_json("x" * (MAX_VIEWED_BYTES + 1)))
    assert view is not None
    assert view.is_answer
    assert view.text == ""
    assert view.usage is not None
    assert view.usage.completion_tokens == 10


@pytest.mark.parametrize("data", [b"", b"[]", b"1", b"{", b'{"type"', b"\xff"])
def test_other_forms_are_unknown(data: bytes) -> None:
    assert view_message(data) is None


def test_errors_in_answers() -> None:
    view = view_message(b'{"type":"error","error":{"type":"api_error","message":"no"}}')
    assert view is not None
    assert (view.failed, view.is_bare_error, view.is_answer) == (True, False, False)
    bare = view_message(b'{"error":"no"}')
    assert bare is not None
    assert (bare.failed, bare.is_bare_error, bare.is_answer) == (True, True, False)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidRequest("x"), "invalid_request_error"),
        (errors.NotAuthenticated("x"), "authentication_error"),
        (errors.Forbidden("x"), "permission_error"),
        (errors.NotFound("x"), "not_found_error"),
        (errors.MethodNotAllowed("x", allow="POST"), "invalid_request_error"),
        (errors.RequestTimeout("x"), "invalid_request_error"),
        (errors.BodyTooLarge("x"), "request_too_large"),
        (errors.UnsupportedEncoding("x"), "invalid_request_error"),
        (errors.RateLimited("x", seconds=1), "rate_limit_error"),
        (errors.InternalError("x"), "api_error"),
        (errors.UpstreamUnreachable("x", upstream="local"), "api_error"),
        (errors.Overloaded("x", upstream="local", seconds=1), "overloaded_error"),
        (errors.ServerStopping("x"), "overloaded_error"),
        (errors.UpstreamTimeout("x", upstream="local", phase="idle"), "api_error"),
    ],
)
def test_types_of_errors(error: errors.RouterError, kind: str) -> None:
    document = json.loads(error_body(error))
    assert document == {"type": "error", "error": {"type": kind, "message": "x"}}


def test_the_message_of_an_error_names_the_field() -> None:
    named_field = errors.InvalidRequest("Invalid value.", param="system")
    assert json.loads(error_body(named_field))["error"]["message"] == "system: Invalid value."


def test_nested_results_are_read_once() -> None:
    """Each level would be decoded again, which takes a time by the square of the size."""
    inner: dict[str, Any] = {"type": "tool_result", "content": "x"}
    outer = {"type": "tool_result", "content": [inner]}
    body = {"model": "auto", "messages": [{"role": "user", "content": [outer]}]}
    request = parse_messages(json.dumps(body).encode())
    assert request.needs["content_part"] == "messages[0].content"
    assert request.turns == [("tool", "")]


def test_what_has_no_text_is_counted_by_its_length() -> None:
    content = [
        {"type": "thinking", "thinking": "t" * 50, "signature": "s"},
        {"type": "tool_use", "id": "1", "name": "n", "input": {"a": "b" * 100}},
    ]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    body: dict[str, Any] = {"model": "auto", "messages": messages}
    request = parse_messages(json.dumps(body).encode())
    assert 150 < request.tool_chars < 180
    assert request.turns == [("user", "x")]
    body["tools"] = [{"name": "n", "input_schema": {}}]
    assert parse_messages(json.dumps(body).encode()).tool_chars > request.tool_chars
    body["tool_choice"] = {"type": "none"}
    forbidden = parse_messages(json.dumps(body).encode())
    assert forbidden.tool_chars == request.tool_chars
