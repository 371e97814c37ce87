"""POST /v1/messages, Anthropic's API: answered by the local tier, counted, errors in its form."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from anthropic_wire import (
    TOOL_USE,
    anthropic_events,
    named,
    ollama_events,
    start_of,
    text_block,
    tool_events,
)
from cold_servers import ColdServer
from fakes import (
    PATIENCE_SECONDS,
    WORDS,
    Answer,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunked,
    message_json,
    refused_address,
    whole,
)
from live import LOCAL_MODEL, LiveProxy, RawClient, StartProxy, check_headers, released
from proxy.record import Target

PATH = "/v1/messages"
COUNT = f"{PATH}/count_tokens"
QUESTION = "What is the capital of France?"
MODELS = b'{"object":"list","data":[{"id":"phi3:latest"},{"id":"qwen3:8b"},{"id":"hf.co/a/b:Q4"}]}'
TOOL = {"name": "weather", "description": "d", "input_schema": {"type": "object"}}
# What a client adds that the proxy does not read.
UNREAD = {
    "temperature": 0.5,
    "metadata": {"user_id": "u"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "a_field_of_next_year": {"Model": [1, 2.50, None]},
}
OLLAMA = {
    "/api/version": whole(b'{"version":"0.33.0"}'),
    "/api/ps": whole(b'{"models":[{"name":"phi3:latest","context_length":40960}]}'),
    "/api/show": whole(
        b'{"capabilities":["completion","tools","vision"],"model_info":{"a.context_length":40960}}'
    ),
}


def body_of(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": fields.pop("text", QUESTION)}]
    return {"model": "auto", "max_tokens": 100, "messages": messages} | fields


async def post(
    proxy: LiveProxy, path: str = PATH, *, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    sent = {"anthropic-version": "2023-06-01"} | (headers or {})
    return await proxy.client.post(path, json=body_of(**fields), headers=sent)


def error_of(response: httpx2.Response, status: int, kind: str) -> str:
    """Check that an answer is Anthropic's form of an error; return its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    document = response.json()
    request_id = document.pop("request_id", None)
    assert request_id in (None, response.headers["x-request-id"])
    assert document.keys() == {"type", "error"}
    assert document["error"].keys() == {"type", "message"}
    assert (document["type"], document["error"]["type"]) == ("error", kind)
    message: str = document["error"]["message"]
    return message


@pytest.fixture
async def ollama(local: FakeUpstream) -> FakeUpstream:
    """The local tier with three models, tools, vision and a context of 40,960 tokens."""
    local.models, local.native = whole(MODELS), dict(OLLAMA)
    local.answer = whole(message_json())
    return local


# ── Answers ───────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_is_relayed_and_counted(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream
) -> None:
    answer = message_json(model="phi3", stop_reason="end_turn", Extra=[1.50])
    ollama.answer = whole(answer)
    proxy = await start()
    response = await post(proxy, model="local", system="Be brief.", **UNREAD)
    assert (response.status_code, response.content) == (200, answer)
    sent = ollama.call
    assert sent.path == PATH
    assert sent.json == body_of(model=LOCAL_MODEL, system="Be brief.", **UNREAD)
    assert b'{"Model": [1, 2.5, null]}' in sent.body or b'{"Model":[1,2.5,null]}' in sent.body
    assert sent.header("anthropic-version") == "2023-06-01"
    row = (await proxy.finish()).row
    assert response.headers["x-request-id"] == row["id"]
    assert response.headers["x-router-cost-usd"] == "0.000000000"
    assert not cloud.calls
    expected = {
        "endpoint": "messages",
        "requested_model": "local",
        "target": "local",
        "model": LOCAL_MODEL,
        "reason": "forced",
        "status": 200,
        "ending": "ok",
        "input_tokens": 19,
        "output_tokens": 10,
        "usage_source": "upstream",
        "cost_usd": 0.0,
        "saved_usd": None,
        "response": "Hello!",
        "score": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert json.loads(row["prompt"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION},
    ]
    assert row["category"]


@pytest.mark.parametrize(
    ("events", "cached"), [(ollama_events(), 0), (anthropic_events(), 8), (tool_events(), 0)]
)
async def test_a_stream_is_relayed_and_counted(
    start: StartProxy, ollama: FakeUpstream, events: list[bytes], cached: int
) -> None:
    ollama.answer = chunked(*events)
    proxy = await start()
    response = await post(proxy, stream=True)
    assert response.content == b"".join(events)
    assert "stream_options" not in ollama.call.json
    outcome = await proxy.finish()
    row = outcome.row
    check_headers(response.headers, row)
    assert (row["input_tokens"], row["cached_input_tokens"], row["output_tokens"]) == (
        19,
        cached,
        10,
    )
    assert (row["ending"], row["usage_source"], row["streamed"]) == ("ok", "upstream", 1)
    assert row["response"] == ("" if events == tool_events() else "".join(WORDS))
    assert row["ttft_ms"] is not None
    labels = {"endpoint": "messages", "target": "local", "reason": "forced", "ending": "ok"}
    assert outcome.metrics("router_requests_total", **labels) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_absent_usage_is_estimated(
    start: StartProxy, ollama: FakeUpstream, stream: bool
) -> None:
    usage: dict[str, int] = {}
    events = [start_of(), *text_block(WORDS), named("message_delta", delta={}, usage=usage)]
    ollama.answer = chunked(*events) if stream else whole(message_json(usage=usage))
    proxy = await start()
    await post(proxy, stream=stream, tools=[TOOL])
    row = (await proxy.finish()).row
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 10
    assert row["output_tokens"] > 0
    assert row["ending"] == "ok"


async def test_a_tool_loop_is_relayed(start: StartProxy, ollama: FakeUpstream) -> None:
    ollama.answer = whole(message_json(content=[TOOL_USE], stop_reason="tool_use"))
    proxy = await start()
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12 degrees"}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "How warm is it in Bonn?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, TOOL_USE]},
        {"role": "user", "content": [result, {"type": "text", "text": "And tomorrow?"}]},
    ]
    response = await post(proxy, messages=messages, tools=[TOOL], tool_choice={"type": "any"})
    assert response.json()["content"] == [TOOL_USE]
    assert ollama.call.json["messages"] == messages
    assert ollama.call.json["tools"] == [TOOL]
    row = (await proxy.finish()).row
    assert [(turn["role"], turn["content"]) for turn in json.loads(row["prompt"])] == [
        ("user", "How warm is it in Bonn?"),
        ("assistant", "I look."),
        ("tool", "12 degrees"),
        ("user", "And tomorrow?"),
    ]


async def test_forbidden_tools_are_left_out_for_ollama(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    proxy = await start({"upstreams": {"local": {"capabilities": []}}})
    response = await post(proxy, tools=[TOOL], tool_choice={"type": "none"})
    assert response.status_code == 200
    assert ollama.call.json == body_of(model=LOCAL_MODEL)
    assert response.headers["x-router-adapted"] == "tools, tool_choice"


async def test_the_key_may_be_an_api_key_header(start: StartProxy, ollama: FakeUpstream) -> None:
    proxy = await start({"server": {"api_keys": ["mine"]}})
    for headers in ({"x-api-key": "mine"}, {"authorization": "Bearer mine"}):
        assert (await post(proxy, headers=headers)).status_code == 200
        assert (await post(proxy, COUNT, headers=headers)).status_code == 200
    assert all(call.header("x-api-key") is None for call in ollama.calls)
    for path in (PATH, COUNT, f"{PATH}/batches"):
        message = error_of(
            await post(proxy, path, headers={"x-api-key": "no"}), 401, "authentication_error"
        )
        assert message == "Incorrect API key: it is none of this proxy's keys."
        error_of(await post(proxy, path), 401, "authentication_error")


async def test_a_leaving_client_cancels_the_upstream(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    gate = Gate()
    ollama.answer = chunked(*ollama_events()[:4], gate)
    proxy = await start()
    body = json.dumps(body_of(stream=True)).encode()
    request = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    client = await RawClient.open(proxy.port, body, head=request % len(body))
    await client.read_until(b"text_delta")
    client.vanish()
    await released(ollama.call)
    row = (await proxy.finish()).row
    assert (row["ending"], row["usage_source"]) == ("client_gone", "estimated")
    assert row["output_tokens"] > 0


async def test_requests_wait_for_one_load(start: StartProxy, local: FakeUpstream) -> None:
    server = ColdServer(local, seconds=0.5)
    server.speak_as_ollama()
    local.answer = lambda _: chunked(*ollama_events())
    limits = {"local": {"timeouts": {"first_token": 0.3}}}  # the load is no part of it
    proxy = await start({"upstreams": limits, "server": {"hold_seconds": 0.1}})
    answers = await asyncio.gather(*(post(proxy, stream=True) for _ in range(3)))
    assert (server.loads, server.aborted, len(local.calls)) == (1, 0, 3)
    for answer in answers:
        assert answer.content.startswith(b": keep-alive\n\n")
        assert answer.content.endswith(ollama_events()[-1])


async def test_a_failure_after_a_held_start_is_an_event(
    start: StartProxy, local: FakeUpstream
) -> None:
    ColdServer(local, seconds=0.5).speak_as_ollama()
    busy = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    local.answer = whole(busy, status=400)
    proxy = await start({"server": {"hold_seconds": 0.1}})
    content = (await post(proxy, stream=True)).content
    comment, _, text = content.partition(b"event: error\ndata: ")
    assert set(comment.split(b"\n\n")) == {b": keep-alive", b""}
    assert json.loads(text)["error"] == {
        "type": "api_error",
        "message": "The local upstream answered with an error, status 400.",
    }


async def test_impossible_counts_are_bounded(start: StartProxy, ollama: FakeUpstream) -> None:
    ollama.answer = whole(message_json(usage={"input_tokens": 99_999, "output_tokens": 10}))
    proxy = await start({"upstreams": {"local": {"context_tokens": 4096}}})
    await post(proxy)
    row = (await proxy.finish()).row
    assert (row["input_tokens"], row["usage_source"]) == (4096, "estimated")


# ── Names ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("auto", LOCAL_MODEL),
        ("Auto", LOCAL_MODEL),
        ("auto:cost=0.3", LOCAL_MODEL),
        ("local", LOCAL_MODEL),
        ("LOCAL", LOCAL_MODEL),
        ("phi3", LOCAL_MODEL),
        ("library/Phi3:latest", LOCAL_MODEL),
        ("qwen3:8b", "qwen3:8b"),
        ("Qwen3:8B", "qwen3:8b"),
        ("hf.co/a/b:q4", "hf.co/a/b:Q4"),
    ],
)
@pytest.mark.parametrize("unknown_models", ["cloud", "reject"])
async def test_names_of_the_local_tier(
    start: StartProxy, ollama: FakeUpstream, name: str, sent: str, unknown_models: str
) -> None:
    proxy = await start({"routing": {"unknown_models": unknown_models}})
    response = await post(proxy, model=name)
    assert (response.status_code, ollama.call.json["model"]) == (200, sent)
    assert response.headers["x-router-model"] == sent


@pytest.mark.parametrize(
    "name", ["cloud", "claude-sonnet-4-5", "gpt-4o-mini", "gpt-5", "phi4:14b", "ft:gpt-4o:acme"]
)
async def test_other_names_are_refused(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    proxy = await start()
    message = error_of(await post(proxy, model=name), 404, "not_found_error")
    assert message.startswith(
        f"Only the local model answers this API, and no local model is called '{name}'. "
    )
    assert "Use the model 'local'" in message
    assert "x-router-target: local" in message
    assert not ollama.calls
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["ending"], row["status"]) == ("messages", "rejected", 404)


async def test_a_header_maps_every_name_to_the_local_model(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    proxy = await start()
    headers = {"x-router-target": "local"}
    await post(proxy, model="claude-haiku-4-5", headers=headers)
    await post(proxy, model="qwen3:8b", headers=headers)
    assert [call.json["model"] for call in ollama.calls] == [LOCAL_MODEL, "qwen3:8b"]


async def test_the_cloud_cannot_be_forced(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    response = await post(proxy, headers={"x-router-target": "cloud"})
    message = error_of(response, 400, "invalid_request_error")
    assert message.startswith("The header x-router-target must not be 'cloud' here")
    assert not ollama.calls
    assert not cloud.calls


async def test_a_name_waits_for_the_list_of_models(start: StartProxy, cloud: FakeUpstream) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        response = await post(proxy, model="qwen3:8b")
        message = error_of(response, 503, "overloaded_error")
        assert response.headers["retry-after"] == "5"
        assert "'qwen3:8b' may be a model of the local server" in message
        error_of(await post(proxy, model="claude-x"), 404, "not_found_error")
    assert not cloud.calls


# ── Limits of the model ───────────────────────────────────────────────────────────────────────


async def test_a_prompt_that_does_not_fit_is_refused(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start({"upstreams": {"local": {"context_tokens": 2000}}})
    response = await post(proxy, text="one two three " * 700, max_tokens=500)
    message = error_of(response, 400, "invalid_request_error")
    counted = (await post(proxy, COUNT, text="one two three " * 700)).json()["input_tokens"]
    assert message == f"prompt is too long: {counted} tokens > 1500 maximum"
    assert not ollama.calls
    assert not cloud.calls
    assert (await post(proxy, text="one two three " * 400, max_tokens=500)).status_code == 200


async def test_a_large_limit_of_the_answer_leaves_room_for_the_prompt(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    proxy = await start()  # 40,960 tokens
    fits = await post(proxy, text="one two three " * 10_000, max_tokens=32_000)
    assert fits.status_code == 200
    assert ollama.call.json["max_tokens"] == 32_000
    response = await post(proxy, text="one two three " * 12_500, max_tokens=32_000)
    assert error_of(response, 400, "invalid_request_error").endswith(" tokens > 36864 maximum")


async def test_a_cut_prompt_is_detected(start: StartProxy, ollama: FakeUpstream) -> None:
    ollama.answer = chunked(*ollama_events())  # 19 tokens of some 1,200
    proxy = await start({"upstreams": {"local": {"context_tokens": 2000}}})
    await post(proxy, text="one two three " * 400, stream=True)
    outcome = await proxy.finish()
    assert outcome.metrics("router_context_truncations_total") == 1


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
LINK = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}
FILE = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}}


@pytest.mark.parametrize(
    ("fields", "need", "place"),
    [
        ({"tools": [TOOL]}, "tools", "tools"),
        ({"text": [IMAGE]}, "vision", "messages[0].content"),
        ({"text": [LINK]}, "vision", "messages[0].content"),
        ({"text": [FILE]}, "file", "messages[0].content"),
        ({"text": [{"type": "video"}]}, "content_part", "messages[0].content"),
        ({"text": [{"type": "tool_result", "content": "x"}]}, "tools", "messages[0].content"),
    ],
)
async def test_what_the_model_lacks_is_named(
    start: StartProxy, ollama: FakeUpstream, fields: dict[str, Any], need: str, place: str
) -> None:
    proxy = await start({"upstreams": {"local": {"capabilities": []}}})
    message = error_of(await post(proxy, **fields), 400, "invalid_request_error")
    assert message == f"The local model {LOCAL_MODEL} does not support '{place}' ({need})."
    assert not ollama.calls


async def test_what_the_model_has_is_sent(start: StartProxy, ollama: FakeUpstream) -> None:
    proxy = await start()
    result = {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE]}
    response = await post(proxy, text=[IMAGE, result], tools=[TOOL])
    assert response.status_code == 200
    for part, need in ((LINK, "image_url"), (FILE, "file")):
        nested = {"type": "tool_result", "tool_use_id": "t", "content": [part]}
        message = error_of(await post(proxy, text=[nested]), 400, "invalid_request_error")
        assert need in message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is empty."),
        (b"{", "The request body is not valid JSON"),
        (b"{}", "Missing required parameter: 'model'."),
        (b'{"model":"auto"}', "Missing required parameter: 'messages'."),
        (b'{"model":"auto","messages":[]}', "There must be at least one message in 'messages'."),
        (b'{"model":"","messages":[{"role":"user","content":"x"}]}', "A model is required"),
        (b'{"model":"auto","messages":[{"content":"x"}]}', "'messages[0].role'"),
        (b'{"model":"auto","messages":[{"role":"user","content":1}]}', "'messages[0].content'"),
        (b'{"model":"auto","messages":[],"stream":"yes"}', "'stream'"),
        (b'{"model":"auto","messages":[],"Messages":[]}', "Unknown parameter: 'Messages'"),
        (
            b'{"model":"auto","messages":[{"role":"user","content":[{"type":"tool_result",'
            b'"content":[{"Type":"text"}]}]}]}',
            "Unknown parameter: 'messages[0].content[0].Type'",
        ),
        (
            b'{"model":"auto","messages":[%b]}'
            % b",".join([b'{"role":"user","content":"x"}'] * 4097),
            "Invalid 'messages': array too long.",
        ),
    ],
)
@pytest.mark.parametrize("path", [PATH, COUNT])
async def test_bad_input_names_the_field(
    start: StartProxy, ollama: FakeUpstream, body: bytes, message: str, path: str
) -> None:
    proxy = await start()
    response = await proxy.client.post(path, content=body)
    assert message in error_of(response, 400, "invalid_request_error")
    assert not ollama.calls


# ── Other errors ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"type":"error","error":{"type":"not_found_error","message":"model not found"}}'),
        (400, b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens"}}'),
        (500, b'{"type":"error","error":{"type":"api_error","message":"no"},"request_id":"r"}'),
    ],
)
async def test_errors_of_the_upstream_pass_unchanged(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream, status: int, body: bytes
) -> None:
    ollama.answer = whole(body, status=status)
    proxy = await start()
    response = await post(proxy)
    assert (response.status_code, response.content) == (status, body)
    assert not cloud.calls
    assert (await proxy.finish()).row["ending"] == "upstream_error"


NO_ANSWERS: list[tuple[str, Answer]] = [
    ("an empty object", whole(b"{}")),
    ("the answer of another API", whole(answer_json())),
    ("a page", whole(b"<html>", content_type="text/html")),
    ("an error with status 200", whole(b'{"error":{"message":"no"}}')),
    ("an empty stream", chunked()),
    ("a stream in another form", chunked(b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n")),
]


@pytest.mark.parametrize("answer", [answer for _, answer in NO_ANSWERS], ids=dict(NO_ANSWERS))
async def test_a_success_without_an_answer_is_an_error(
    start: StartProxy, ollama: FakeUpstream, answer: Answer
) -> None:
    ollama.answer = answer
    proxy = await start()
    error_of(await post(proxy, stream=True), 502, "api_error")


async def test_a_refused_key_of_the_proxy_is_its_own_error(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    ollama.answer = whole(b'{"error":"bad key sk-1234"}', status=401)
    proxy = await start()
    assert "sk-1234" not in error_of(await post(proxy), 502, "api_error")


async def test_an_unreachable_server_is_an_error(start: StartProxy) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        error_of(await post(proxy), 502, "api_error")


async def test_a_silent_server_is_an_error(start: StartProxy, ollama: FakeUpstream) -> None:
    ollama.answer, ollama.native = [Gate()], {}
    proxy = await start({"upstreams": {"local": {"timeouts": {"first_token": 0.2}}}})
    error_of(await post(proxy, stream=True), 504, "api_error")


async def test_a_busy_server_is_an_error(start: StartProxy, ollama: FakeUpstream) -> None:
    gate = Gate()
    ollama.answer = lambda _: [gate, *whole(message_json())]
    proxy = await start({"upstreams": {"local": {"max_concurrency": 1}}})
    slots = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]._slots
    slots._max_waiting = 0
    first = asyncio.create_task(post(proxy))
    await gate.reached()
    response = await post(proxy)
    error_of(response, 503, "overloaded_error")
    assert "retry-after" in response.headers
    gate.open()
    assert (await first).status_code == 200


@pytest.mark.parametrize("events", [2, 4])
async def test_an_interrupted_stream_ends_with_an_error(
    start: StartProxy, ollama: FakeUpstream, events: int
) -> None:
    sent = ollama_events()[:events]
    ollama.answer = chunked(*sent, End.RESET)
    proxy = await start()
    response = await post(proxy, stream=True)
    if events == 2:  # nothing was said: an error with a status
        error_of(response, 502, "api_error")
        return
    text = response.content.removeprefix(b"".join(sent))
    assert text.startswith(b"event: error\ndata: {")
    data = json.loads(text.removeprefix(b"event: error\ndata: "))
    assert (data["type"], data["error"]["type"]) == ("error", "api_error")
    assert data["request_id"] == response.headers["x-request-id"]
    row = (await proxy.finish()).row
    assert (row["ending"], row["error_code"]) == ("upstream_error", "upstream_broken")


async def test_a_stream_without_a_finish_is_interrupted(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    ollama.answer = chunked(*ollama_events()[:4])
    proxy = await start()
    assert b"event: error\n" in (await post(proxy, stream=True)).content
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_an_error_event_passes_unchanged(start: StartProxy, ollama: FakeUpstream) -> None:
    failure = named("error", error={"type": "overloaded_error", "message": "Busy."})
    sent = b"".join([*ollama_events()[:4], failure])
    ollama.answer = chunked(sent)
    proxy = await start()
    assert (await post(proxy, stream=True)).content == sent
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_the_client_may_leave_at_the_last_event(
    start: StartProxy, ollama: FakeUpstream
) -> None:
    ollama.answer = chunked(*ollama_events(), Gate())
    proxy = await start()
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        proxy.client.stream("POST", PATH, json=body_of(stream=True)) as response,
    ):
        async for line in response.aiter_lines():
            if "message_stop" in line:
                break
    row = (await proxy.finish()).row
    assert (row["ending"], row["output_tokens"]) == ("ok", 10)


async def test_a_body_that_is_too_large(start: StartProxy, ollama: FakeUpstream) -> None:
    proxy = await start({"server": {"max_body_mb": 0.01}})
    for path in (PATH, COUNT):
        error_of(await post(proxy, path, text="x" * 20_000), 413, "request_too_large")


async def test_a_rate_limit(start: StartProxy, ollama: FakeUpstream) -> None:
    key = {"key": "mine", "requests_per_minute": 1}
    proxy = await start({"server": {"api_keys": [key]}})
    headers = {"x-api-key": "mine"}
    assert (await post(proxy, headers=headers)).status_code == 200
    response = await post(proxy, headers=headers)
    error_of(response, 429, "rate_limit_error")
    assert "retry-after" in response.headers


async def test_pages_of_other_origins(start: StartProxy, ollama: FakeUpstream) -> None:
    proxy = await start()
    for path in (PATH, COUNT):
        response = await post(proxy, path, headers={"origin": "http://evil.example"})
        error_of(response, 403, "permission_error")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods(proxy: LiveProxy, method: str) -> None:
    for path in (PATH, COUNT):
        response = await proxy.client.request(method, path)
        error_of(response, 405, "invalid_request_error")
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path", [f"{PATH}/batches", f"{PATH}/batches/b_1/results", "/v1/Messages/batches?beta=true"]
)
@pytest.mark.parametrize("keys", [[], ["mine"]])
async def test_other_paths_reach_no_tier(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, method: str, path: str, keys: Any
) -> None:
    proxy = await start({"server": {"api_keys": keys}})
    response = await proxy.client.request(method, path, headers={"x-api-key": "mine"})
    message = error_of(response, 404, "not_found_error")
    assert message == f"Unknown route: {method} {path.partition('?')[0]}"
    assert not local.calls
    assert not cloud.calls


# ── Counting tokens ───────────────────────────────────────────────────────────────────────────


async def test_tokens_are_counted_here(
    start: StartProxy, ollama: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()

    async def count(**fields: Any) -> int:
        response = await post(proxy, f"{COUNT}?beta=true", **fields)
        assert response.status_code == 200
        assert response.headers["x-request-id"]
        assert response.json().keys() == {"input_tokens"}
        number: int = response.json()["input_tokens"]
        return number

    plain = await count()
    assert 10 <= plain <= 16  # 7 tokens of text, and those of the message
    assert await count(model="claude-sonnet-4-5", stream=True) == plain
    assert await count(system="Be brief.") > plain
    assert await count(tools=[TOOL]) > plain
    assert await count(text=[{"type": "text", "text": QUESTION}]) == plain
    assert await count(text=[IMAGE]) > 1000
    assert not ollama.calls
    assert not cloud.calls
    await proxy.finish(0)  # no model was asked, so there is no row
