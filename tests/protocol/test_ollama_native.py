"""The translation between Ollama's native API and OpenAI's, both ways, and the native view."""

import contextlib
import itertools
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import USAGE, answer_json, chunk, event, openai_events
from proxy.errors import InvalidRequest
from proxy.gateway.line_observer import LineObserver
from proxy.gateway.stream_observer import MAX_EVENT_BYTES, MAX_EVENTS
from proxy.protocol.endpoints import NATIVE, Endpoint
from proxy.protocol.ollama_answers import Durations, Translation, read_native_parts, view_native
from proxy.protocol.ollama_native import NativeRequest, without_tag

CHAT, GENERATE, EMBED, EMBEDDINGS = NATIVE
TURN = {"role": "user", "content": "Hi"}
Fields = dict[str, Any]


def read(endpoint: Endpoint, **fields: Any) -> NativeRequest:
    assert endpoint.native is not None
    return endpoint.native.read(json.dumps({"model": "auto", **fields}).encode())


def translated(endpoint: Endpoint = CHAT, **fields: Any) -> Fields:
    """The translation of a request, which the endpoint's parser accepts."""
    body = read(endpoint, **fields).translated
    endpoint.parse(body)
    return dict(json.loads(body))


def translation(endpoint: Endpoint = CHAT) -> Translation:
    assert endpoint.native is not None
    return endpoint.native.translation(model="auto", durations=lambda: Durations(10, 4))


def lines(data: bytes) -> list[Fields]:
    assert not data or data.endswith(b"\n")
    return [{**json.loads(line), "created_at": ""} for line in data.splitlines()]


# ── Requests ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"stream": False}, {"stream": False}),
        ({"stream": None}, {"stream": True}),
        ({"format": ""}, {}),
        ({"format": "json"}, {"response_format": {"type": "json_object"}}),
        ({"think": True}, {"reasoning_effort": "medium"}),
        ({"think": False}, {}),
        ({"think": "low"}, {"reasoning_effort": "low"}),
        ({"options": {"num_predict": -1, "top_k": 5, "mirostat": 1}}, {}),
        ({"options": {"num_predict": 9.0, "seed": 0}}, {"max_completion_tokens": 9, "seed": 0}),
        ({"options": None, "keep_alive": -1, "truncate": True}, {}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": False, "top_logprobs": 3}, {}),
    ],
)
def test_fields_of_a_request(fields: Fields, expected: Fields) -> None:
    base = {"model": "auto", "stream": True, "messages": [TURN]}
    assert translated(messages=[TURN], **fields) == base | expected
    assert translated(GENERATE, prompt="Hi", **fields) == base | expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": 7}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages[0].role"),
        ({"messages": [TURN | {"images": [1]}]}, "messages[0].images[0]"),
        ({"messages": [TURN], "format": "xml"}, "format"),
        ({"messages": [TURN], "think": "very"}, "think"),
        ({"messages": [TURN], "options": []}, "options"),
        ({"messages": [TURN], "options": {"num_ctx": "8k"}}, "options.num_ctx"),
        ({"messages": [TURN] * 5000}, "messages"),
    ],
)
def test_a_wrong_field_is_named(fields: Fields, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read(CHAT, **fields)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (CHAT, {"messages": [TURN], "Messages": [TURN]}, "Messages"),
        (CHAT, {"messages": [TURN | {"CONTENT": "x"}]}, "messages[0].CONTENT"),
        (GENERATE, {"prompt": "Hi", "Prompt": "x"}, "Prompt"),
        (GENERATE, {"prompt": "Hi", "systeM": "x"}, "systeM"),
        (EMBED, {"input": "Hi", "Input": "x"}, "Input"),
        (EMBEDDINGS, {"prompt": "Hi", "PROMPT": "x"}, "PROMPT"),
    ],
)
def test_a_field_that_differs_in_case_only_is_refused(
    endpoint: Endpoint, fields: Fields, param: str
) -> None:
    """Ollama would read it in place of the field that was routed."""
    with pytest.raises(InvalidRequest) as raised:
        read(endpoint, **fields)
    assert (raised.value.param, raised.value.code) == (param, "unknown_parameter")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, None),
        ({"raw": False, "template": "", "context": [], "suffix": None}, None),
        ({"raw": True}, "raw"),
        ({"template": "x"}, "template"),
        ({"suffix": "x"}, "suffix"),
        ({"context": [1]}, "context"),
        ({"width": 512}, "width"),
        ({"_debug_render_only": True}, "_debug_render_only"),
    ],
)
def test_fields_that_only_the_local_server_has(fields: Fields, field: str | None) -> None:
    assert read(GENERATE, prompt="Hi", **fields).local_field == field


def test_requests_that_load_a_model() -> None:
    assert read(CHAT).is_load
    assert read(CHAT, messages=[]).is_load
    assert read(GENERATE, prompt="").is_load
    assert not read(CHAT, messages=[TURN]).is_load
    assert not read(GENERATE, prompt="", images=["/9j/"]).is_load


def test_results_find_the_calls_of_their_tools() -> None:
    def call(name: str, **fields: Any) -> Fields:
        return {"function": {"name": name, "arguments": {}}, **fields}

    messages = [
        TURN,
        {"role": "assistant", "tool_calls": [call("a"), call("b"), call("c", id="mine")]},
        {"role": "tool", "tool_name": "b", "content": "1"},
        {"role": "tool", "content": "2"},
        {"role": "Tool", "tool_call_id": "mine", "content": "3"},
    ]
    _, asked, *results = translated(messages=messages)["messages"]
    first, second, third = (item["id"] for item in asked["tool_calls"])
    assert [item["tool_call_id"] for item in results] == [second, first, third]
    assert third == "mine"
    assert len({first, second, third}) == 3


def test_each_call_has_one_result() -> None:
    names = ["a", "b", "a", "b"]
    calls = [{"function": {"name": name}, "id": f"{at}"} for at, name in enumerate(names)]
    asked = ["b", None, "a", "absent", "a"]
    results = [{"role": "tool", "tool_name": name, "content": "1"} for name in asked]
    messages = translated(messages=[{"role": "assistant", "tool_calls": calls}, *results])
    found = [message["tool_call_id"] for message in messages["messages"][1:]]
    assert found == ["1", "0", "2", "3", "call_0"]


def test_matching_results_takes_time_by_their_number() -> None:
    def seconds(size: int) -> float:
        calls = [{"function": {"name": f"f{at}"}} for at in range(size)]
        results = [{"role": "tool", "tool_name": f"f{size - at}"} for at in range(1, size)]
        body = json.dumps(
            {"model": "auto", "messages": [{"role": "assistant", "tool_calls": calls}, *results]}
        ).encode()
        assert CHAT.native is not None
        times = []
        for _ in range(3):
            started = time.process_time()
            CHAT.native.read(body)
            times.append(time.process_time() - started)
        return min(times)

    assert seconds(4000) < 24 * seconds(500)  # 8 by the number, 64 by its square


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([TURN] * 4097, "messages"),
        (
            [TURN, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 4097}],
            "messages[1].tool_calls",
        ),
    ],
)
def test_long_arrays_are_refused(messages: list[Fields], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(CHAT, messages=messages)
    assert (caught.value.param, caught.value.code) == (param, "array_above_max_length")


@pytest.mark.parametrize(("given", "tokens"), [(0.5, None), (0, None), (-1, None), (2048, 2048)])
def test_the_context_that_is_asked_for(given: float, tokens: int | None) -> None:
    assert read(CHAT, messages=[TURN], options={"num_ctx": given}).context_tokens == tokens


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("auto:latest", "auto"),
        ("Cloud:latest", "Cloud"),
        ("auto:cost=0.3:latest", "auto:cost=0.3"),
        ("phi3:latest", "phi3:latest"),
        ("automatic:latest", "automatic:latest"),
    ],
)
def test_only_own_names_lose_their_tag(name: str, meant: str) -> None:
    assert without_tag(name) == meant


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.text(max_size=6) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "images", "function", "name", "arguments"]), inner
        )
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    "model messages prompt system images format options think tools stream input raw".split()
)


@pytest.mark.parametrize("endpoint", NATIVE, ids=[endpoint.name for endpoint in NATIVE])
@given(fields=st.dictionaries(NAMES, VALUES, max_size=6))
def test_any_request_is_translated_or_refused(endpoint: Endpoint, fields: Fields) -> None:
    with contextlib.suppress(InvalidRequest):  # no other error
        request = read(endpoint, **fields)
        endpoint.parse(request.translated)
        assert json.loads(request.translated)["model"]


# ── Answers ───────────────────────────────────────────────────────────────────────────────────


@given(cuts=st.lists(st.integers(0, 1500), max_size=8))
def test_a_stream_is_translated_alike_however_it_is_cut(cuts: list[int]) -> None:
    data = b": hello\r\n\r\n" + b"".join(openai_events())
    expected = lines(translation().feed(data))
    assert "".join(item["message"]["content"] for item in expected) == "Hello wörld 🙂!"
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    part = translation()
    pieces = [part.feed(data[start:end]) for start, end in itertools.pairwise(places)]
    assert lines(b"".join(pieces) + part.end()) == expected


@given(data=st.binary(max_size=200), field=VALUES)
def test_any_stream_becomes_lines_of_json(data: bytes, field: Any) -> None:
    for endpoint in (CHAT, GENERATE):
        part = translation(endpoint)
        odd = event({"choices": [{"delta": field, "finish_reason": "stop"}], "usage": field})
        output = part.feed(odd + b"data: " + data + b"\n\n" + odd) + part.end()
        for line in output.splitlines():
            assert isinstance(json.loads(line), dict)
        assert isinstance(json.loads(translation(endpoint).whole(data)), dict)


def test_a_stream_without_done_still_ends() -> None:
    part = translation()
    output = part.feed(b"".join(openai_events()[:-1])) + part.end() + part.end()
    assert [item["done"] for item in lines(output)].count(True) == 1
    cut = translation()
    assert not any(
        item["done"] for item in lines(cut.feed(b"".join(openai_events()[:3])) + cut.end())
    )


@pytest.mark.parametrize(
    ("reason", "done_reason"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "stop")],
)
def test_the_reason_of_the_end(reason: str, done_reason: str) -> None:
    part = translation()
    *_, last = lines(part.feed(event(chunk({}, reason)) + event(chunk(usage=USAGE))) + part.end())
    assert last["done_reason"] == done_reason
    assert (last["prompt_eval_count"], last["eval_count"]) == (19, 10)
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (4, 6)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": [1]}),
    ],
)
def test_arguments_become_an_object(arguments: str, expected: Fields) -> None:
    body = json.loads(answer_json(""))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    body["choices"][0]["message"]["tool_calls"] = [call]
    answer = json.loads(translation().whole(json.dumps(body).encode()))
    [made] = answer["message"]["tool_calls"]
    assert made == {"id": "c", "function": {"index": 0, "name": "f", "arguments": expected}}


def test_log_probabilities_keep_their_form() -> None:
    logged = [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]
    body = json.loads(answer_json("Hi"))
    body["choices"][0]["logprobs"] = {"content": logged}
    assert json.loads(translation().whole(json.dumps(body).encode()))["logprobs"] == logged
    data = chunk({"content": "Hi"})
    data["choices"][0]["logprobs"] = {"content": logged}
    [line] = lines(translation().feed(event(data)))
    assert line["logprobs"] == logged


def test_a_very_large_answer_is_translated() -> None:
    text = "x" * 3_000_000
    assert json.loads(translation().whole(answer_json(text)))["message"]["content"] == text


# ── The native view and its observer ──────────────────────────────────────────────────────────


LAST: Fields = {"message": {"content": ""}, "done": True, "prompt_eval_count": 3, "eval_count": 2}


def native_stream(pieces: int = 3) -> bytes:
    parts = [{"message": {"content": f"{index} "}, "done": False} for index in range(pieces)]
    return b"".join(json.dumps(item).encode() + b"\n" for item in [*parts, LAST])


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_lines_pass_unchanged_however_they_are_cut(cuts: list[int]) -> None:
    data = native_stream()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    observer = LineObserver(CHAT)
    passed = b""
    for start, end in itertools.pairwise(places):
        passed += observer.feed(data[start:end])
        assert passed == data[: len(passed)]
        assert not passed or passed.endswith(b"\n")
    assert passed + observer.flush() == data
    assert (observer.done, observer.complete, observer.failed) == (True, True, False)
    assert observer.text == "0 1 2 "
    usage = observer.outcome.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 2)


def test_many_lines_are_observed_in_steps() -> None:
    data = native_stream(3 * MAX_EVENTS)
    observer = LineObserver(CHAT)
    passed, steps = observer.feed(data), 1
    while observer.has_more:
        passed += observer.feed(b"")
        steps += 1
    assert (passed, observer.done) == (data, True)
    assert steps > 3


def test_a_line_that_is_too_long_passes_unseen() -> None:
    long = json.dumps({"message": {"content": "x" * 2 * MAX_EVENT_BYTES}}).encode() + b"\n"
    data = long + native_stream()
    observer = LineObserver(CHAT)
    size = 100_000
    passed = [observer.feed(data[start : start + size]) for start in range(0, len(data), size)]
    assert b"".join(passed) + observer.flush() == data
    assert (observer.blind, observer.done) == (True, True)


def test_an_unfinished_stream_is_not_complete() -> None:
    observer = LineObserver(CHAT)
    cut = native_stream()[:-20]
    passed = observer.feed(cut)
    assert observer.flush() == b""
    assert len(passed) < len(cut)
    assert not observer.complete


@given(fields=st.dictionaries(st.sampled_from(sorted([*LAST, "error", "response"])), VALUES))
def test_any_line_is_viewed(fields: Fields) -> None:
    view = view_native(msgspec.json.encode(fields))
    assert view is not None
    assert isinstance(view.text + view.other_text, str)
    assert view.finished is (fields.get("done") is True)


def test_the_parts_of_a_whole_answer() -> None:
    message = {"content": "Hi", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}
    answer = read_native_parts(json.dumps(LAST | {"message": message}).encode())
    assert answer is not None
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("Hi", "stop", 2)
    assert answer.tool_calls == (("f", '{"a":1}'),)
    assert read_native_parts(b'{"error":"x"}') is None
