"""Ollama's native API: /api/chat, /api/generate and their answers, local and from the cloud."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes import (
    EASY,
    HARD,
    PATIENCE_SECONDS,
    USAGE,
    WORDS,
    Answer,
    Call,
    End,
    FakeUpstream,
    Gate,
    Pause,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    refused_address,
    whole,
)
from live import CLOUD_MODEL, CLOUD_PRICE, LOCAL_MODEL, LiveProxy, RawClient, StartProxy, released
from looks import SECOND_MODEL, UNCERTAIN, UncertainModel
from proxy.gateway.native_answers import TranslatingWriter
from proxy.protocol.endpoints import NATIVE
from proxy.record import CallRecord
from served import until

TEXT = "".join(WORDS)
LINES = "application/x-ndjson"
COUNTS = {"prompt_eval_count": 19, "eval_count": 10}
DURATIONS = {"total_duration": 5_000, "load_duration": 1_000, "eval_duration": 2_000}
SHOW = {
    "capabilities": ["completion", "vision"],
    "model_info": {"general.architecture": "phi3", "phi3.context_length": 16_384},
}
TAGS = {"models": [{"name": LOCAL_MODEL, "model": LOCAL_MODEL, "size": 7, "digest": "abc"}]}
CLOUD_USD = (19 * CLOUD_PRICE["input"] + 10 * CLOUD_PRICE["output"]) / 1e6


def line(**fields: Any) -> bytes:
    return json.dumps(
        {"model": LOCAL_MODEL, "created_at": "2026-01-01T00:00:00Z", **fields}
    ).encode()


def piece(call: Call, text: str, **message: Any) -> dict[str, Any]:
    """A part of an answer to /api/chat or /api/generate."""
    if call.path == "/api/chat":
        return {"message": {"role": "assistant", "content": text, **message}}
    return {"response": text, **message}


def respond(call: Call) -> Answer:
    """Ollama's answer: a stream unless `stream` is false."""
    if call.json.get("stream") is False:
        fields = piece(call, TEXT)
        return whole(line(**fields, done=True, done_reason="stop", **DURATIONS, **COUNTS))
    return chunked(*(item + b"\n" for item in stream_of(call)), content_type=LINES)


def stream_of(call: Call) -> list[bytes]:
    return [
        *(line(**piece(call, word), done=False) for word in WORDS),
        line(**piece(call, ""), done=True, done_reason="stop", **DURATIONS, **COUNTS),
    ]


def make_ollama(local: FakeUpstream, **answers: Any) -> None:
    """Let an upstream answer as Ollama does."""
    local.models = whole(b'{"object":"list","data":[{"id":"%b"}]}' % LOCAL_MODEL.encode())
    local.native = {
        "/api/version": whole(b'{"version":"0.33.0"}'),
        "/api/show": whole(json.dumps(SHOW).encode()),
        "/api/tags": whole(json.dumps(TAGS).encode()),
        "/api/ps": whole(json.dumps(TAGS).encode()),
        "/api/chat": respond,
        "/api/generate": respond,
    } | answers


def asked(local: FakeUpstream, path: str = "/api/chat") -> list[Call]:
    return [call for call in local.native_calls if call.path == path]


def chat(text: str = EASY, **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


def body_of(path: str, text: str, **fields: Any) -> dict[str, Any]:
    if path == "/api/chat":
        return chat(text, **fields)
    return {"model": "auto", "prompt": text, **fields}


def lines_of(response: Any) -> list[dict[str, Any]]:
    assert response.headers["content-type"] == LINES
    assert response.content.endswith(b"\n")
    return [json.loads(item) for item in response.content.splitlines()]


def text_of(answer: dict[str, Any]) -> str:
    text: str = answer["message"]["content"] if "message" in answer else answer["response"]
    return text


BOTH = pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])


# ── Answers of either tier ────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize("streams", [True, False, None])
async def test_a_local_answer_passes_as_it_is(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str, streams: bool | None
) -> None:
    make_ollama(local)
    proxy = await start()
    body = body_of(path, EASY, options={"num_ctx": 8192, "top_k": 3}, keep_alive="5m")
    if streams is not None:
        body["stream"] = streams
    response = await proxy.client.post(path, json=body)
    [call] = asked(local, path)
    assert call.json == body | {"model": LOCAL_MODEL}
    expected = stream_of(call) if streams is not False else [respond(call)[0]]
    if streams is False:
        assert response.json()["total_duration"] == DURATIONS["total_duration"]
        assert response.headers["content-type"] == "application/json"
    else:
        assert response.content == b"".join(item + b"\n" for item in expected)
        assert response.headers["content-type"] == LINES
    assert response.headers["x-router-target"] == "local"
    assert not local.calls
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["endpoint"], row["ending"]) == (f"ollama.{path.rpartition('/')[2]}", "ok")
    assert (row["target"], row["reason"], row["streamed"]) == (
        "local",
        "score",
        streams is not False,
    )
    assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
    assert (row["usage_source"], row["response"]) == ("upstream", TEXT)
    assert row["saved_usd"] > 0


@BOTH
async def test_a_cloud_answer_streams_as_lines(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    make_ollama(local)
    cloud.answer = chunked(*openai_events())
    proxy = await start()
    options = {"num_ctx": 512, "top_k": 3, "num_predict": 77, "temperature": 0.5, "stop": ["x"]}
    body = body_of(path, HARD, options=options, keep_alive="5m", format="json")
    response = await proxy.client.post(path, json=body)
    assert cloud.call.json == {
        "model": CLOUD_MODEL,
        "messages": [{"role": "user", "content": HARD}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_object"},
        "temperature": 0.5,
        "stop": ["x"],
        "max_completion_tokens": 77,
    }
    *pieces, last = lines_of(response)
    assert "".join(map(text_of, pieces)) == TEXT
    assert [item["done"] for item in pieces] == [False] * len(pieces)
    assert (last["done"], last["done_reason"], text_of(last)) == (True, "stop", "")
    assert {name: last[name] for name in COUNTS} == COUNTS
    assert last["total_duration"] >= last["prompt_eval_duration"] > 0
    assert {item["model"] for item in (*pieces, last)} == {"auto"}
    assert response.headers["x-router-target"] == "cloud"
    row = (await proxy.finish()).row
    assert row["cost_usd"] == pytest.approx(CLOUD_USD)
    assert (row["usage_source"], row["response"]) == ("upstream", TEXT)


@BOTH
async def test_a_whole_cloud_answer_is_one_object(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    make_ollama(local)
    proxy = await start()
    response = await proxy.client.post(path, json=body_of(path, HARD, stream=False))
    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert text_of(answer) == "Hello!"
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert {name: answer[name] for name in COUNTS} == COUNTS
    assert answer["total_duration"] == answer["eval_duration"] > 0
    row = (await proxy.finish()).row
    assert row["cost_usd"] == pytest.approx(CLOUD_USD)
    assert float(response.headers["x-router-cost-usd"]) == pytest.approx(CLOUD_USD)


@BOTH
async def test_a_local_server_without_the_api_gets_the_translation(
    start: StartProxy, local: FakeUpstream, path: str
) -> None:
    local.answer = chunked(*openai_events())
    proxy = await start()
    response = await proxy.client.post(path, json=body_of(path, EASY))
    assert local.call.path == "/v1/chat/completions"
    assert "".join(map(text_of, lines_of(response))) == TEXT
    row = (await proxy.finish()).row
    assert (row["target"], row["input_tokens"]) == ("local", 19)


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALLED = [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]


async def test_tool_calls_have_objects_here_and_texts_there(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    parts = ('{"a"', ": 3}")
    deltas = [
        {
            "tool_calls": [
                {"index": 0, "id": "call_9", "function": {"name": "add", "arguments": ""}}
            ]
        },
        *({"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in parts),
    ]
    cloud.answer = chunked(
        *(event(chunk(delta)) for delta in deltas),
        event(chunk({}, "tool_calls")),
        event(chunk(usage=USAGE)),
        b"data: [DONE]\n\n",
    )
    proxy = await start()
    messages = [
        {"role": "user", "content": EASY},
        {"role": "assistant", "content": "", "tool_calls": CALLED * 2},
        {"role": "tool", "tool_name": "add", "content": "3"},
        {"role": "tool", "tool_name": "add", "content": "4"},
    ]
    response = await proxy.client.post("/api/chat", json=chat(messages=messages, tools=[TOOL]))
    assert response.headers["x-router-reason"] == "capability"  # the local model has no tools
    sent = cloud.call.json["messages"]
    calls = sent[1]["tool_calls"]
    assert [call["function"]["arguments"] for call in calls] == ['{"a":1,"b":2}'] * 2
    assert [call["type"] for call in calls] == ["function"] * 2
    assert [message["tool_call_id"] for message in sent[2:]] == [call["id"] for call in calls]
    assert len({call["id"] for call in calls}) == 2
    assert cloud.call.json["tools"] == [TOOL]
    first, last = lines_of(response)
    function = {"index": 0, "name": "add", "arguments": {"a": 3}}
    assert first["message"]["tool_calls"] == [{"id": "call_9", "function": function}]
    assert last["done_reason"] == "stop"
    await proxy.finish()


async def test_images_and_a_schema_reach_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    proxy = await start()
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}}
    images = ["iVBORw0KGgoAAAA", "/9j/4AAQ"]
    body = {"model": "cloud:latest", "prompt": EASY, "system": "Be brief.", "images": images}
    await proxy.client.post("/api/generate", json=body | {"format": schema, "stream": False})
    sent = cloud.call.json
    system, user = sent["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    urls = [part["image_url"]["url"] for part in user["content"][1:]]
    kinds = ("image/png", "image/jpeg")
    assert urls == [
        f"data:{kind};base64,{image}" for kind, image in zip(kinds, images, strict=True)
    ]
    assert sent["response_format"]["json_schema"]["schema"] == schema
    assert sent["model"] == CLOUD_MODEL
    await proxy.finish()


async def test_thoughts_have_a_field_of_their_own(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    cloud.answer = chunked(event(chunk({"reasoning_content": "Hm."})), *openai_events())
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(HARD, think="high"))
    assert cloud.call.json["reasoning_effort"] == "high"
    first, *_ = lines_of(response)
    assert first["message"] == {"role": "assistant", "content": "", "thinking": "Hm."}
    await proxy.finish()


# ── What only the local server can do ─────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [{"raw": True}, {"template": "{{ .Prompt }}"}, {"suffix": "end"}, {"context": [1, 2]}],
)
async def test_a_field_that_only_ollama_has_keeps_a_request_local(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, fields: dict[str, Any]
) -> None:
    make_ollama(local)
    proxy = await start()
    body = {"model": "auto", "prompt": HARD, "stream": False, **fields}
    response = await proxy.client.post("/api/generate", json=body)
    assert response.headers["x-router-target"] == "local"
    assert asked(local, "/api/generate")[-1].json == body | {"model": LOCAL_MODEL}
    refused = await proxy.client.post("/api/generate", json=body | {"model": "cloud"})
    assert refused.status_code == 400
    assert next(iter(fields)) in refused.json()["error"]
    assert not cloud.calls
    await proxy.finish(2)


@pytest.mark.parametrize("keep_alive", [None, 0])
async def test_a_request_without_a_prompt_loads_the_local_model(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, keep_alive: int | None
) -> None:
    reason = "load" if keep_alive is None else "unload"
    loaded = whole(
        line(message={"role": "assistant", "content": ""}, done=True, done_reason=reason)
    )
    make_ollama(local, **{"/api/chat": loaded})
    proxy = await start()
    body: dict[str, Any] = {"model": "auto", "messages": []}
    if keep_alive is not None:
        body["keep_alive"] = keep_alive
    response = await proxy.client.post("/api/chat", json=body)
    assert (response.status_code, response.json()["done_reason"]) == (200, reason)
    assert asked(local)[-1].json == body | {"model": LOCAL_MODEL}
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["ending"]) == ("local", "forced", "ok")


@pytest.mark.parametrize(("name", "keep_alive"), [("cloud", None), ("auto", "0s")])
async def test_a_server_without_such_requests_has_its_models_loaded(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str, keep_alive: str | None
) -> None:
    proxy = await start()  # the local server is not Ollama
    body = {"model": name, "prompt": "", "keep_alive": keep_alive}
    answer = (await proxy.client.post("/api/generate", json=body)).json()
    assert (answer["model"], answer["response"], answer["done"]) == (name, "", True)
    assert answer["done_reason"] == ("unload" if keep_alive else "load")
    assert not local.calls
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["ending"], row["cost_usd"] or 0) == ("ok", 0)


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_a_server_that_is_not_known_to_run_loads_nothing(
    start: StartProxy, cloud: FakeUpstream, path: str
) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        for name in ("auto", "local"):
            response = await proxy.client.post(path, json={"model": name, "prompt": ""})
            assert (response.status_code, response.json().keys()) == (502, {"error"})
    assert not cloud.calls
    assert {row["ending"] for row in (await proxy.finish(2)).rows} == {"upstream_error"}


async def test_a_server_that_has_failed_loads_nothing(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(probe_seconds=0.02)
    body = {"model": "local", "prompt": ""}
    assert (await proxy.client.post("/api/generate", json=body)).status_code == 200
    local.answer = local.models = whole(b"broken", status=500)
    await proxy.chat(model="local")

    async def is_refused() -> bool:
        response = await proxy.client.post("/api/generate", json=body)
        return (response.status_code, response.json().keys()) == (502, {"error"})

    await until(is_refused, what="the tier is known to be down")


async def test_a_load_does_not_depend_on_its_client(start: StartProxy, local: FakeUpstream) -> None:
    """The local server stops loading when the client that caused it leaves: the proxy loads."""
    gate, loads = Gate(), []

    def generate(call: Call) -> Answer:
        loads.append(call.json)
        done = line(response="", done=True, done_reason="load")
        return [gate, *whole(done)] if call.json.get("stream") is False else whole(done)

    make_ollama(local, **{"/api/generate": generate, "/api/ps": whole(b'{"models":[]}')})
    proxy = await start(probe_seconds=0.02)
    body = b'{"model":"local"}'
    head = b"POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(
        body
    )
    client = await RawClient.open(proxy.port, body, head=head)
    await gate.reached()
    await client.leave()
    gate.open()
    assert (await proxy.finish()).row["ending"] == "client_gone"
    assert loads == [{"model": LOCAL_MODEL, "stream": False}]


async def test_a_longer_context_may_be_asked_for(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The model's own context is 16,384 tokens; without `num_ctx` it has 4,096."""
    make_ollama(local)
    proxy = await start()
    text = f"{EASY} " + "word " * 6_000
    targets = []
    for options in ({}, {"num_ctx": 16_384}, {"num_ctx": 1_024}):
        body = chat(text, options=options, stream=False)
        response = await proxy.client.post("/api/chat", json=body)
        targets.append(response.headers["x-router-target"])
    assert targets == ["cloud", "local", "cloud"]
    await proxy.finish(3)


# ── Model names ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("auto:latest", "local"),
        ("auto:threshold=0.95", "cloud"),
        ("local:latest", "local"),
        ("cloud", "cloud"),
        (LOCAL_MODEL, "local"),
        ("phi3", "local"),
    ],
)
async def test_names_choose_the_tier(
    start: StartProxy, local: FakeUpstream, name: str, target: str
) -> None:
    make_ollama(local)
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(model=name, stream=False))
    assert (response.status_code, response.headers["x-router-target"]) == (200, target)
    await proxy.finish()


@pytest.mark.parametrize("name", ["llama3", "secret-model"])
async def test_an_unknown_name_stays_here(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    make_ollama(local)
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(model=name))
    assert response.status_code == 404
    assert name in response.json()["error"]
    assert not cloud.calls
    await proxy.finish()


# ── Errors, failover, cancellation ────────────────────────────────────────────────────────────


async def test_errors_have_ollamas_form(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    cloud.answer = whole(error_json("No such model.", code="model_not_found"), status=404)
    proxy = await start({"server": {"api_keys": ["the-key"]}})
    key = {"authorization": "Bearer the-key"}

    async def post(body: Any, headers: Any = key) -> Any:
        return await proxy.client.post("/api/chat", json=body, headers=headers)

    for status, response, word in (
        (401, await post(chat(), {}), "API key"),
        (400, await post({"model": "auto", "messages": 7}), "messages"),
        (400, await post(chat(format="xml")), "format"),
        (400, await post(chat(think="hard")), "think"),
        (400, await post({"messages": []}), "model"),
        (404, await post(chat(model="cloud")), "No such model."),
        (405, await proxy.client.get("/api/chat", headers=key), "POST"),
    ):
        assert response.status_code == status
        assert response.headers["content-type"].startswith("application/json")
        error = response.json()
        assert error.keys() == {"error"}
        assert word in error["error"]
    await proxy.finish(6)


@pytest.mark.parametrize("ends", [[End.FIN], []])
async def test_an_interrupted_local_stream_falls_back_before_its_first_line(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, ends: list[End]
) -> None:
    make_ollama(local, **{"/api/chat": chunked(*ends, content_type=LINES)})
    cloud.answer = chunked(*openai_events())
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat())
    assert "".join(map(text_of, lines_of(response))) == TEXT
    assert response.headers["x-router-fallback"].startswith("local->cloud")
    row = (await proxy.finish()).row
    assert (row["target"], row["fallback_from"]) == ("cloud", "local")


async def test_a_local_stream_without_its_last_line_is_a_failure(
    start: StartProxy, local: FakeUpstream
) -> None:
    def cut(call: Call) -> Answer:
        return chunked(*(item + b"\n" for item in stream_of(call)[:-1]), content_type=LINES)

    make_ollama(local, **{"/api/chat": cut})
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat())
    *pieces, last = lines_of(response)
    assert "".join(map(text_of, pieces)) == TEXT
    assert last.keys() == {"error"}
    row = (await proxy.finish()).row
    assert (row["ending"], row["error_code"]) == ("upstream_error", "upstream_broken")


async def test_an_error_line_of_the_local_server_passes_and_is_a_failure(
    start: StartProxy, local: FakeUpstream
) -> None:
    def fail(call: Call) -> Answer:
        lines = [stream_of(call)[0], b'{"error":"out of memory"}']
        return chunked(*(item + b"\n" for item in lines), content_type=LINES)

    make_ollama(local, **{"/api/chat": fail})
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat())
    assert lines_of(response)[-1] == {"error": "out of memory"}
    assert (await proxy.finish()).row["ending"] == "upstream_error"


async def test_what_the_local_model_refuses_goes_to_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """An old version does not report what its models can do."""
    refusal = whole(b'{"error":"\\"phi3\\" does not support thinking"}', status=400)
    make_ollama(local, **{"/api/chat": refusal, "/api/show": whole(b'{"model_info":{}}')})
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(think=True, stream=False))
    assert text_of(response.json()) == "Hello!"
    assert response.headers["x-router-fallback"].startswith("local->cloud")
    forced = await proxy.client.post("/api/chat", json=chat(model="local", think=True))
    assert forced.status_code == 400
    assert "thinking" in forced.json()["error"]
    await proxy.finish(2)


REASONS = {"models": [{"names": [CLOUD_MODEL], "reasoning": True}]}


@pytest.mark.parametrize(("thinks", "target"), [(True, "local"), (False, "cloud")])
async def test_a_model_that_does_not_think_is_not_asked_to(
    start: StartProxy, local: FakeUpstream, thinks: bool, target: str
) -> None:
    show = SHOW | {"capabilities": ["completion", *(["thinking"] if thinks else [])]}
    make_ollama(local, **{"/api/show": whole(json.dumps(show).encode())})
    proxy = await start({"upstreams": {"cloud": REASONS}})
    response = await proxy.client.post("/api/chat", json=chat(think=True, stream=False))
    assert response.headers["x-router-target"] == target
    assert len(asked(local)) == thinks
    forced = await proxy.client.post("/api/chat", json=chat(model="local", think=True))
    assert forced.status_code == (200 if thinks else 400)
    await proxy.finish(2)


async def test_thinking_chooses_no_cloud_model_that_does_not_think(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    show = SHOW | {"capabilities": ["completion"]}
    make_ollama(local, **{"/api/show": whole(json.dumps(show).encode())})
    proxy = await start()
    body = chat(think=True, stream=False, keep_alive=60)
    response = await proxy.client.post("/api/chat", json=body)
    assert response.headers["x-router-target"] == "local"
    assert response.headers["x-router-adapted"] == "think"
    [sent] = asked(local)
    del body["think"]
    assert sent.json == body | {"model": LOCAL_MODEL}
    forced = await proxy.client.post("/api/chat", json=chat(model="local", think=True))
    assert forced.status_code == 400  # as the client chose the model
    assert not cloud.calls
    no_thoughts = await proxy.client.post("/api/chat", json=chat(think=False, stream=False))
    assert no_thoughts.status_code == 200
    assert asked(local)[-1].json["think"] is False
    await proxy.finish(3)


async def test_an_effort_that_the_cloud_refuses_is_left_out(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The client has not written it: it asked for thinking."""
    make_ollama(local)
    refusal = "Unrecognized request argument supplied: reasoning_effort"

    def respond_as_cloud(call: Call) -> Answer:
        if "reasoning_effort" in call.json:
            return whole(error_json(refusal), status=400)
        return whole(answer_json())

    cloud.answer = respond_as_cloud
    proxy = await start()
    for _ in range(2):
        response = await proxy.client.post(
            "/api/chat", json=chat(model="cloud", think=True, stream=False)
        )
        assert response.status_code == 200
        assert response.headers["x-router-adapted"] == "reasoning_effort"
    assert len(cloud.calls) == 3  # the second request is sent without the field at once
    own = await proxy.client.post(
        "/v1/chat/completions",
        json=chat(model="cloud", reasoning_effort="low"),
    )
    assert own.status_code == 400  # the client's own field stays
    await proxy.finish(3)


async def test_the_local_tier_answers_for_a_failed_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    cloud.answer = whole(error_json("broken"), status=500)
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(HARD))
    assert response.headers["x-router-fallback"].startswith("cloud->local")
    [call] = asked(local)
    assert response.content == b"".join(item + b"\n" for item in stream_of(call))
    await proxy.finish()


async def test_a_broken_cloud_stream_ends_in_an_error_line(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    cloud.answer = chunked(*openai_events()[:3], End.RESET)
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(HARD))
    *pieces, last = lines_of(response)
    assert "".join(map(text_of, pieces)) == "".join(WORDS[:2])
    assert last.keys() == {"error"}
    row = (await proxy.finish()).row
    assert row["ending"] == "upstream_error"
    assert row["cost_usd"] > 0  # what reached the cloud is paid for


@pytest.mark.parametrize("text", [EASY, HARD])
async def test_a_client_that_leaves_cancels_the_upstream_request(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, text: str
) -> None:
    gate, calls = Gate(), []

    def begin(call: Call) -> Answer:
        calls.append(call)
        return chunked(stream_of(call)[0] + b"\n", gate, content_type=LINES)

    make_ollama(local, **{"/api/chat": begin})
    cloud.answer = chunked(*openai_events()[:2], gate)
    proxy = await start()
    body = json.dumps(chat(text)).encode()
    client = await connect(proxy, body)
    await client.read_until(WORDS[0].encode())
    await gate.reached()
    await client.leave()
    [call] = calls if text == EASY else cloud.calls
    await released(call)
    assert (await proxy.finish()).row["ending"] == "client_gone"


async def connect(proxy: LiveProxy, body: bytes) -> RawClient:
    head = (
        b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    return await RawClient.open(proxy.port, body, head=head)


async def test_a_waiting_client_gets_empty_pieces(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Lines without text keep the connection alive, and the other tier may still answer."""
    gate = Gate()
    make_ollama(local, **{"/api/chat": [*chunked(gate, End.FIN, content_type=LINES)]})
    cloud.answer = chunked(*openai_events())
    proxy = await start({"server": {"hold_seconds": 0.05}})
    client = await connect(proxy, json.dumps(chat()).encode())
    head = await client.read_until(b"\r\n\r\n")
    assert b"application/x-ndjson" in head
    await client.read_until(b'"content":""},"done":false}\n')
    gate.open()
    assert b'"done":true' in await client.read_until(b'"done":true')
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["target"], row["fallback_from"]) == ("cloud", "local")


async def test_local_lines_follow_the_empty_pieces_unchanged(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()

    def wait(call: Call) -> Answer:
        return chunked(gate, *(item + b"\n" for item in stream_of(call)), content_type=LINES)

    make_ollama(local, **{"/api/chat": wait})
    proxy = await start({"server": {"hold_seconds": 0.05}})
    client = await connect(proxy, json.dumps(chat()).encode())
    await client.read_until(b'"content":""},"done":false}\n')
    gate.open()
    [call] = asked(local)
    for expected in stream_of(call):
        await client.read_until(expected + b"\n")
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["target"], row["output_tokens"], row["ending"]) == ("local", 10, "ok")


async def test_a_spent_budget_is_kept(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    make_ollama(local)
    budget = {"cloud_usd_per_day": 0.0, "pacing": False, "when_spent": "local"}
    proxy = await start({"budget": budget})
    response = await proxy.client.post("/api/chat", json=chat(HARD, stream=False))
    assert response.headers["x-router-reason"] == "budget"
    refused = await proxy.client.post("/api/chat", json=chat(model="cloud"))
    assert (refused.status_code, refused.json().keys()) == (429, {"error"})
    assert not cloud.calls
    await proxy.finish(2)


# ── Checks and the second look ────────────────────────────────────────────────────────────────


async def test_a_local_answer_is_checked(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """What is not JSON, although JSON was asked for, is not sent."""
    make_ollama(local)
    cloud.answer = whole(answer_json("{}"))
    proxy = await start()
    response = await proxy.client.post("/api/chat", json=chat(format="json", stream=False))
    assert response.json()["message"]["content"] == "{}"
    assert response.headers["x-router-reason"] == "escalated"
    assert asked(local)
    await proxy.finish()


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(("second", "target"), [("8", "local"), ("9", "cloud")])
async def test_an_uncertain_local_answer_gets_a_second_look(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    second: str,
    target: str,
    streams: bool,
) -> None:
    def count(call: Call) -> Answer:
        done = line(**piece(call, "It has 8 legs."), done=True, done_reason="stop", **COUNTS)
        return chunked(done + b"\n", content_type=LINES) if streams else whole(done)

    make_ollama(local, **{"/api/chat": count})
    local.answer = whole(answer_json(second))
    cloud.answer = chunked(*openai_events()) if streams else whole(answer_json("Hello!"))
    verify = {"second": SECOND_MODEL, "streams": "hold"}
    proxy = await start({"verify": verify}, model=UncertainModel())
    response = await proxy.client.post("/api/chat", json=chat(UNCERTAIN, stream=streams))
    assert response.headers["x-router-target"] == target
    assert [call.json["model"] for call in asked(local)] == [LOCAL_MODEL]
    assert local.call.json["model"] == SECOND_MODEL
    assert len(cloud.calls) == (target == "cloud")
    row = (await proxy.finish()).row
    assert row["second_look"] == ("kept" if target == "local" else "escalated")


# ── Vectors ───────────────────────────────────────────────────────────────────────────────────

VECTORS = [[0.1, 0.2], [0.3, 0.4]]
CLOUD_VECTORS = {
    "object": "list",
    "data": [{"index": index, "embedding": VECTORS[index]} for index in (1, 0)],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}


@pytest.mark.parametrize(
    ("path", "fields", "answer"),
    [
        ("/api/embed", {"input": ["a", "b"]}, {"embeddings": VECTORS, "prompt_eval_count": 4}),
        ("/api/embeddings", {"prompt": "a"}, {"embedding": VECTORS[0]}),
    ],
)
async def test_vectors_come_from_the_tier_that_has_the_model(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    path: str,
    fields: dict[str, Any],
    answer: dict[str, Any],
) -> None:
    make_ollama(local, **{path: whole(json.dumps(answer).encode())})
    cloud.answer = whole(json.dumps(CLOUD_VECTORS).encode())
    proxy = await start()
    response = await proxy.client.post(path, json={"model": "local", "truncate": True, **fields})
    assert response.json() == answer
    [call] = asked(local, path)
    assert call.json == {"model": LOCAL_MODEL, "truncate": True, **fields}
    name = "text-embedding-3-small"
    response = await proxy.client.post(path, json={"model": name, "truncate": True, **fields})
    assert response.status_code == 200
    assert {name: response.json()[name] for name in answer} == answer
    texts = fields.get("input", fields.get("prompt"))
    assert cloud.call.json == {"model": name, "input": texts}
    rows = (await proxy.finish(2)).rows
    assert [row["target"] for row in rows] == ["local", "cloud"]
    assert {row["endpoint"] for row in rows} == {f"ollama.{path.rpartition('/')[2]}"}


async def test_vectors_without_an_index_keep_their_order(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    for indices, expected in (
        ((None, None), [[1], [2]]),
        ((1, None), [[1], [2]]),
        ((1, 0), [[2], [1]]),
    ):
        data = [{"embedding": [at + 1], "index": index} for at, index in enumerate(indices)]
        cloud.answer = whole(json.dumps({"object": "list", "data": data}).encode())
        response = await proxy.client.post(
            "/api/embed", json={"model": "text-embedding-3-small", "input": ["a", "b"]}
        )
        assert (response.status_code, response.json()["embeddings"]) == (200, expected)
    await proxy.finish(3)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/embed", {"model": "text-embedding-3-small", "embeddings": []}),
        ("/api/embeddings", {"embedding": []}),
    ],
)
async def test_no_text_has_no_vectors(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str, answer: Any
) -> None:
    make_ollama(local)
    proxy = await start()
    response = await proxy.client.post(path, json={"model": "text-embedding-3-small"})
    assert response.json() == answer
    assert not cloud.calls
    await proxy.finish()


# ── Models ────────────────────────────────────────────────────────────────────────────────────


async def test_the_list_has_both_tiers_and_the_local_models(
    start: StartProxy, local: FakeUpstream
) -> None:
    make_ollama(local)
    proxy = await start()
    models = (await proxy.client.get("/api/tags")).json()["models"]
    assert [model["name"] for model in models] == [
        "auto:latest", "local:latest", "cloud:latest", LOCAL_MODEL,
    ]  # fmt: skip
    assert models[-1] == TAGS["models"][0]
    for model in models[:3]:
        assert model["model"] == model["name"]
        assert len(model["digest"]) == 64
        assert model["details"].keys() == {
            "parent_model", "format", "family", "families", "parameter_size",
            "quantization_level",
        }  # fmt: skip
    assert (await proxy.client.get("/api/version")).json() == {"version": "0.33.0"}
    assert (await proxy.client.get("/api/ps")).json() == TAGS


async def test_models_are_described(start: StartProxy, local: FakeUpstream) -> None:
    make_ollama(local)
    proxy = await start({"upstreams": {"cloud": {"context_tokens": 128_000}}})
    for name in ("local", LOCAL_MODEL):
        assert (await proxy.client.post("/api/show", json={"model": name})).json() == SHOW
    for name in ("ollama/local", "library/Local:latest"):
        assert (await proxy.client.post("/api/show", json={"model": name})).json() == SHOW
    for name in ("openai/auto", "library/auto", "AUTO:threshold=0.5", "ollama/cloud"):
        shown = await proxy.client.post("/api/show", json={"model": name})
        assert shown.status_code == 200
        assert shown.json()["model_info"]["router.context_length"] == 128_000
    shown = (await proxy.client.post("/api/show", json={"model": "auto:latest"})).json()
    assert shown["model_info"]["router.context_length"] == 128_000
    assert set(shown["capabilities"]) == {"completion", "vision", "tools"}
    refused = await proxy.client.post("/api/show", json={})
    assert (refused.status_code, refused.json().keys()) == (400, {"error"})


async def test_another_local_server_is_described_by_the_proxy(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.models = whole(b'{"object":"list","data":[{"id":"llama-3"}]}')
    proxy = await start()
    names = [model["name"] for model in (await proxy.client.get("/api/tags")).json()["models"]]
    assert names[3:] == ["llama-3:latest"]
    assert (await proxy.client.get("/api/version")).json()["version"]
    assert (await proxy.client.get("/api/ps")).json() == {"models": []}
    for name in ("local", "llama-3"):
        shown = await proxy.client.post("/api/show", json={"model": name})
        assert "completion" in shown.json()["capabilities"]
    assert (await proxy.client.post("/api/show", json={"model": "no"})).status_code == 404


MANAGED = {
    "pull": ("POST", "/api/pull"),
    "push": ("POST", "/api/push"),
    "create": ("POST", "/api/create"),
    "copy": ("POST", "/api/copy"),
    "delete": ("DELETE", "/api/delete"),
    "blob": ("POST", f"/api/blobs/sha256:{'0' * 64}"),
}


@pytest.mark.parametrize("name", MANAGED)
async def test_models_are_managed_by_admins_where_that_is_allowed(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    method, path = MANAGED[name]
    received = []

    def manage(call: Call) -> Answer:
        received.append((call.method, call.path, call.body))
        return chunked(b'{"status":"success"}\n', content_type=LINES)

    make_ollama(local, **{path: manage})
    keys = [{"key": "plain"}, {"key": "boss", "admin": True}]
    proxy = await start({"server": {"api_keys": keys}})

    async def send(key: str) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return await proxy.client.request(method, path, content=b'{"model":"x"}', headers=headers)

    refused = await send("boss")
    assert refused.status_code == 403
    assert "model_management" in refused.json()["error"]
    proxy.configure({"server": {"model_management": "admin"}})
    server = proxy.proxy.config.server
    await proxy.reloaded(lambda: proxy.proxy.config.server is not server)
    refused = await send("plain")
    assert refused.status_code == 403
    assert "admin" in refused.json()["error"]
    assert not received
    managed = await send("boss")
    assert (managed.status_code, managed.json()) == (200, {"status": "success"})
    assert received == [(method, path, b'{"model":"x"}')]
    assert not cloud.calls
    rows = (await proxy.finish(3)).rows
    assert {row["endpoint"] for row in rows} == {"ollama.manage"}
    assert [row["ending"] for row in rows] == ["rejected", "rejected", "ok"]


MANAGES = {"server": {"model_management": "admin"}}


async def test_a_download_takes_no_slot_of_the_tier(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    gate = Gate()
    make_ollama(local, **{"/api/pull": chunked(b'{"status":"pulling"}\n', gate, b"{}\n")})
    proxy = await start(MANAGES | {"upstreams": {"local": {"max_concurrency": 1}}})
    pull = asyncio.create_task(proxy.client.post("/api/pull", json={"model": "x"}))
    await gate.reached()
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(3):  # also after the slot was released once
            answer = await proxy.client.post("/api/chat", json=chat(model="local", stream=False))
            assert answer.status_code == 200
    gate.open()
    assert (await pull).text == '{"status":"pulling"}\n{}\n'
    assert not cloud.calls
    await proxy.finish(4)


async def test_only_the_silences_of_a_download_are_limited(
    start: StartProxy, local: FakeUpstream
) -> None:
    seconds = 0.5
    part = b'{"status":"pulling"}\n'
    steps = [item for _ in range(6) for item in (part, Pause(seconds / 3))]
    make_ollama(local, **{"/api/pull": chunked(*steps), "/api/create": chunked(part, Gate())})
    proxy = await start({"server": MANAGES["server"] | {"request_timeout_seconds": seconds}})
    pulled = await proxy.client.post("/api/pull", json={"model": "x"})
    assert pulled.content == 6 * part
    silent = await proxy.client.post("/api/create", json={"model": "x"})
    *lines, last = silent.text.splitlines()
    assert lines == [part.decode().strip()]
    assert "within 0.5 seconds" in json.loads(last)["error"]
    rows = (await proxy.finish(2)).rows
    assert [row["ending"] for row in rows] == ["ok", "timeout"]


async def test_an_upload_may_take_longer_than_a_request(
    start: StartProxy, local: FakeUpstream
) -> None:
    seconds = 0.5
    path = f"/api/blobs/sha256:{'0' * 64}"
    make_ollama(local, **{path: whole(b"", status=201)})

    async def blob() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"part"
            await asyncio.sleep(seconds / 3)

    proxy = await start({"server": MANAGES["server"] | {"request_timeout_seconds": seconds}})
    response = await proxy.client.post(path, content=blob())
    assert response.status_code == 201
    assert asked(local, path)[0].body == 6 * b"part"
    await proxy.finish()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/blobs/sha256:0"),
        ("POST", "/api/blobs/..%2fpull"),
        ("GET", f"/api/blobs/sha256:{'0' * 64}"),
        ("POST", "/api/signin"),
        ("POST", "/api/experimental/web_search"),
    ],
)
async def test_no_other_path_reaches_the_local_server(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, method: str, path: str
) -> None:
    make_ollama(local)
    proxy = await start({"server": {"model_management": "admin"}})
    before = len(local.native_calls)
    response = await proxy.client.request(method, path)
    assert response.status_code in (404, 405)
    assert len(local.native_calls) == before
    assert not cloud.calls


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/signin", 404),
        ("GET", "/api/me", 404),
        ("POST", "/api/experimental/web_search", 404),
        ("PUT", "/api/pull", 405),
        ("GET", "/api/pull", 404),
        ("POST", "/api/tags", 405),
        ("GET", "/api/show", 405),
        ("GET", "/api/chat", 405),
    ],
)
async def test_unknown_requests_have_errors_in_ollamas_form(
    start: StartProxy, local: FakeUpstream, method: str, path: str, status: int
) -> None:
    make_ollama(local)
    proxy = await start()
    response = await proxy.client.request(method, path)
    error = response.json()["error"]
    assert (response.status_code, type(error)) == (status, str)


async def test_the_proxys_own_paths_have_errors_in_openais_form(start: StartProxy) -> None:
    proxy = await start()
    for method, path in (("GET", "/api/nothing"), ("PUT", "/api/requests")):
        response = await proxy.client.request(method, path)
        assert "message" in response.json()["error"]


@pytest.mark.parametrize("path", ["/api/tags", "/api/version", "/api/ps"])
async def test_the_lists_need_a_key_where_keys_are_required(
    start: StartProxy, local: FakeUpstream, path: str
) -> None:
    make_ollama(local)
    proxy = await start({"server": {"api_keys": ["the-key"]}})
    refused = await proxy.client.get(path)
    assert (refused.status_code, refused.json().keys()) == (401, {"error"})
    key = {"authorization": "Bearer the-key"}
    assert (await proxy.client.get(path, headers=key)).status_code == 200


# ── A client that reads slowly ────────────────────────────────────────────────────────────────


class SlowWriter:
    """A client's connection that takes nothing at once."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        raise AssertionError

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        raise AssertionError

    async def send(self, data: bytes, *, more: bool) -> None:
        self.sent.append(data)

    def send_now(self, data: bytes) -> bool:
        return False


async def test_a_slow_client_gets_every_line_once() -> None:
    slow, form = SlowWriter(), NATIVE[0].native
    assert form is not None
    writer = TranslatingWriter(slow, form, CallRecord("ollama.chat"), "auto")
    for data in openai_events():
        if not writer.send_now(data):
            await writer.send(data, more=True)
    await writer.send(b"", more=False)
    lines = [json.loads(item) for item in b"".join(slow.sent).splitlines()]
    assert "".join(map(text_of, lines)) == TEXT
    assert [item["done"] for item in lines].count(True) == 1
