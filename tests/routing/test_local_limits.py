"""Requests that the local model does not support go to the cloud or are rejected.

The local tier reports here that it is Ollama with phi3: no tools, 4096 tokens of context.
"""

import json
from typing import Any

import pytest

from fakes import EASY, HARD, FakeUpstream, answer_json, chunked, ollama_events, whole
from live import CLOUD_MODEL, LOCAL_MODEL, LiveProxy, StartProxy, envelope_of
from proxy.protocol.chat import parse_chat
from proxy.record import Target
from proxy.routing.local_limits import features_of

MODELS = {"local": LOCAL_MODEL, "cloud": CLOUD_MODEL}
WORD = "word "  # one token
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
INLINE = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
LINK = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
TEXT = {"type": "text", "text": EASY}
FILE = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
}
STORED_FILE = {"type": "file", "file": {"file_id": "file-1"}}
QUESTION = {"role": "user", "content": EASY}
ARGUMENTS = '{"city":"Paris"}'
CALL = {"id": "c", "type": "function", "function": {"name": "now", "arguments": ARGUMENTS}}
TOOL_CALL_TURN = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "12:00"}
OLD_CALL_TURN = {"role": "assistant", "function_call": {"name": "now", "arguments": ARGUMENTS}}
OLD_RESULT = {"role": "function", "name": "now", "content": "12:00"}
REFUSAL = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}


def simulate_ollama(
    upstream: FakeUpstream,
    *,
    version: str = "0.33.0",
    capabilities: tuple[str, ...] = ("completion",),
    context: int = 4096,
) -> None:
    details = {"capabilities": capabilities, "model_info": {"phi3.context_length": 131072}}
    running = {"models": [{"name": "phi3:latest", "context_length": context}]}
    for path, document in (("version", {"version": version}), ("show", details), ("ps", running)):
        upstream.native[f"/api/{path}"] = whole(json.dumps(document).encode())


@pytest.fixture
async def proxy(start: StartProxy, local: FakeUpstream) -> LiveProxy:
    simulate_ollama(local)
    return await start()


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


UNSUPPORTED_BY_MODEL: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": TOOLS}, "tools"),
    "tools-auto": ({"tools": TOOLS, "tool_choice": "auto"}, "tools"),
    "functions": ({"functions": [{"name": "now"}]}, "functions"),
    "tool-calls": ({"messages": [QUESTION, TOOL_CALL_TURN]}, "messages[1]"),
    "tool-results": ({"messages": [QUESTION, RESULT]}, "messages[1]"),
    "image": ({"messages": user(TEXT, IMAGE)}, "messages[0].content"),
    "image-link": ({"messages": user(TEXT, LINK)}, "messages[0].content"),
    "audio": ({"messages": user(TEXT, {"type": "input_audio"})}, "messages[0].content"),
    "n": ({"n": 2}, "n"),
    "logit-bias": ({"logit_bias": {"50256": -100}}, "logit_bias"),
}
# Unsupported by Ollama with any model.
UNSUPPORTED_BY_OLLAMA: dict[str, tuple[dict[str, Any], str]] = {
    "a-demanded-call": ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
    "a-named-call": ({"tools": TOOLS, "tool_choice": {"type": "x"}}, "tool_choice"),
    "one-call": ({"tools": TOOLS, "parallel_tool_calls": False}, "parallel_tool_calls"),
    "old-functions": ({"functions": [{"name": "now"}]}, "functions"),
    "old-function-call": ({"messages": [QUESTION, OLD_CALL_TURN]}, "messages[1]"),
    "old-function-result": ({"messages": [QUESTION, OLD_RESULT]}, "messages[1]"),
    "image-by-link": ({"messages": user(TEXT, LINK)}, "messages[0].content"),
    "file": ({"messages": user(TEXT, FILE)}, "messages[0].content"),
    "refusal": ({"messages": [REFUSAL, QUESTION]}, "messages[0].content"),
    "effort": ({"reasoning_effort": "minimal"}, "reasoning_effort"),
}
# Unsupported by every local server.
CLOUD_ONLY: dict[str, tuple[dict[str, Any], str]] = {
    "stored-chat": ({"store": True}, "store"),
    "stored-file": ({"messages": user(TEXT, STORED_FILE)}, "messages[0].content"),
    "web-search": ({"web_search_options": {}}, "web_search_options"),
}
ALL_CAPABILITIES = ("completion", "tools", "vision", "thinking")
cases = pytest.mark.parametrize(
    ("capabilities", "fields", "param"),
    [
        pytest.param(capabilities, *case, id=name)
        for capabilities, requests in (
            (("completion",), UNSUPPORTED_BY_MODEL),
            (ALL_CAPABILITIES, UNSUPPORTED_BY_OLLAMA),
            (None, CLOUD_ONLY),
        )
        for name, case in requests.items()
    ],
)
SUPPORTED: dict[str, dict[str, Any]] = {
    "no-tools": {"tools": [], "functions": None},
    "functions-none": {"functions": [{"name": "now"}], "function_call": "none"},
    "no-calls": {"messages": [QUESTION | {"tool_calls": [], "function_call": None}]},
    "many-calls-of-nothing": {"parallel_tool_calls": False},
    "efforts": {"reasoning_effort": "low"},
    "tools-none": {"tools": TOOLS, "tool_choice": "none"},
    "schema": {"response_format": SCHEMA},
    "json": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "n-1": {"n": 1, "logit_bias": {}},
    "parts": {"messages": user(TEXT, TEXT)},
}


@cases
async def test_unsupported_request_goes_to_the_cloud(
    start: StartProxy, local: FakeUpstream, capabilities: Any, fields: Any, param: str
) -> None:
    if capabilities is not None:
        simulate_ollama(local, capabilities=capabilities)
    proxy = await start()
    response = await proxy.chat(**fields)
    assert response.status_code == 200
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "capability"
    outcome = await proxy.finish()
    assert (outcome.row["reason"], outcome.row["score"]) == ("capability", None)
    assert local.calls == []


@cases
async def test_forced_unsupported_request_is_rejected(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    capabilities: Any,
    fields: Any,
    param: str,
) -> None:
    if capabilities is not None:
        simulate_ollama(local, capabilities=capabilities)
    proxy = await start()
    response = await proxy.chat(model="local", **fields)
    error = envelope_of(response)
    assert response.status_code == 400
    assert (error["param"], error["code"]) == (param, "unsupported_by_local_model")
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "rejected"
    assert (local.calls, cloud.calls) == ([], [])


@pytest.mark.parametrize("fields", SUPPORTED.values(), ids=SUPPORTED)
async def test_supported_request_stays_local(proxy: LiveProxy, fields: dict[str, Any]) -> None:
    # The scripted answer is no JSON, which the answer checks would not let pass.
    response = await proxy.chat(headers={"x-router-verify": "off"}, **fields)
    assert response.headers["x-router-target"] == "local"


async def test_model_with_tools_and_vision_receives_them(
    start: StartProxy, local: FakeUpstream
) -> None:
    simulate_ollama(local, capabilities=ALL_CAPABILITIES)
    proxy = await start()
    for fields in (
        {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True},
        {"messages": [QUESTION, TOOL_CALL_TURN, RESULT]},
        {"messages": user(TEXT, IMAGE)},
    ):
        response = await proxy.chat(**fields)
        assert response.headers["x-router-target"] == "local"


async def test_logprobs_require_a_recent_ollama(start: StartProxy, local: FakeUpstream) -> None:
    simulate_ollama(local, version="0.12.10")
    proxy = await start()
    response = await proxy.chat(logprobs=True)
    assert response.headers["x-router-reason"] == "capability"


async def test_other_servers_have_no_presumed_limits(start: StartProxy) -> None:
    proxy = await start()
    for fields, _ in (*UNSUPPORTED_BY_MODEL.values(), *UNSUPPORTED_BY_OLLAMA.values()):
        assert (await proxy.chat(**fields)).headers["x-router-target"] == "local"
    long = await proxy.chat(text=WORD * 100_000)
    assert long.headers["x-router-target"] == "local"


@pytest.mark.parametrize("was_up", [False, True])
async def test_capabilities_are_read_again_after_an_outage(
    start: StartProxy, local: FakeUpstream, was_up: bool
) -> None:
    """Another server may answer now, whether the old one failed at the start or later."""
    models, unavailable = local.models, whole(b"", status=503)
    local.models = models if was_up else unavailable
    proxy = await start(probe_seconds=0.01)
    upstream = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]
    assert upstream.catalog.is_stale != was_up
    local.models, local.answer = unavailable, whole(b"", status=500)
    await proxy.chat(model="local")
    assert upstream.catalog.is_stale
    simulate_ollama(local)
    local.models = models
    await proxy.reloaded(lambda: upstream.catalog.capabilities.needs_adapting)
    assert (await proxy.chat(n=2)).headers["x-router-reason"] == "capability"


async def test_configured_limits_replace_the_detected_ones(start: StartProxy) -> None:
    limits = {"context_tokens": 1000, "capabilities": ["tools"]}
    proxy = await start({"upstreams": {"local": limits}})
    assert (await proxy.chat(tools=TOOLS)).headers["x-router-target"] == "local"
    assert (await proxy.chat(logprobs=True)).headers["x-router-reason"] == "capability"
    assert (await proxy.chat(text=WORD * 900)).headers["x-router-reason"] == "context"


@pytest.mark.parametrize(
    ("words", "fields", "target"),
    [
        (3400, {}, "local"),
        (3700, {}, "cloud"),
        (3700, {"max_tokens": 100}, "local"),
        (3000, {"max_completion_tokens": 1500}, "cloud"),
        (1800, {"max_tokens": 100_000}, "local"),
        (2200, {"response_format": SCHEMA | {"x": "y" * 8000}}, "cloud"),
        (2200, {"tools": TOOLS * 200, "tool_choice": "none"}, "local"),  # not sent
    ],
)
async def test_prompt_and_response_must_fit_the_context(
    proxy: LiveProxy, words: int, fields: dict[str, Any], target: str
) -> None:
    response = await proxy.chat(text=WORD * words, **fields)
    assert response.headers["x-router-target"] == target
    assert response.headers["x-router-reason"] == ("score" if target == "local" else "context")


LONG_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 15_000}}


@pytest.mark.parametrize(
    ("path", "fields", "target"),
    [
        ("chat/completions", {"messages": [TOOL_CALL_TURN | {"tool_calls": [LONG_CALL]}]}, "cloud"),
        (
            "chat/completions",
            {"messages": [TOOL_CALL_TURN, RESULT | {"reasoning": "x" * 15_000}]},
            "cloud",
        ),
        ("chat/completions", {"messages": user(*[IMAGE] * 4)}, "cloud"),
        ("chat/completions", {"messages": user(*[IMAGE] * 3)}, "local"),
        ("responses", {"input": [{"type": "function_call", "arguments": "x" * 15_000}]}, "cloud"),
        ("responses", {"input": [{"type": "reasoning", "summary": ["x" * 15_000]}]}, "cloud"),
        ("responses", {"input": [{"role": "user", "content": [INLINE] * 4}]}, "cloud"),
    ],
    ids=["call", "reasoning", "images", "fewer images", "item", "reasoning item", "image items"],
)
async def test_tool_calls_reasoning_and_images_count_toward_the_context(
    start: StartProxy, local: FakeUpstream, path: str, fields: dict[str, Any], target: str
) -> None:
    simulate_ollama(local, capabilities=ALL_CAPABILITIES)
    proxy = await start()
    response = await proxy.client.post(f"/v1/{path}", json={"model": "auto"} | fields)
    assert response.headers["x-router-target"] == target
    assert response.headers["x-router-reason"] == ("score" if target == "local" else "context")


async def test_image_with_fewer_tokens_is_not_counted_as_truncated(
    start: StartProxy, local: FakeUpstream
) -> None:
    simulate_ollama(local, capabilities=ALL_CAPABILITIES)
    local.answer = whole(answer_json(usage={"prompt_tokens": 700, "completion_tokens": 1}))
    proxy = await start()
    await proxy.chat(messages=user({"type": "text", "text": WORD * 1800}, IMAGE))
    assert (await proxy.finish()).metrics("router_context_truncations_total") == 0


async def test_forced_prompt_over_the_context_is_rejected(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    response = await proxy.chat(model="local", text=WORD * 5000)
    error = envelope_of(response)
    assert response.status_code == 400
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    assert "4096" in error["message"]
    assert local.calls == []


async def test_cloud_does_not_fall_back_to_an_incapable_local_tier(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(b'{"error":{"message":"No"}}', status=500)
    response = await proxy.chat(text=HARD, tools=TOOLS)
    assert response.status_code == 500
    assert local.calls == []


async def test_truncated_prompt_is_counted(
    proxy: LiveProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"prompt_tokens": 1500, "completion_tokens": 5, "total_tokens": 1505}
    local.answer = whole(answer_json(usage=usage))
    await proxy.chat(text=WORD * 3400)
    outcome = await proxy.finish()
    assert outcome.metrics("router_context_truncations_total") == 1
    assert "truncated by the local model's context" in caplog.text


async def test_response_that_fills_the_context_is_counted_as_truncated(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 96, "completion_tokens": 4000, "total_tokens": 4096}
    local.answer = chunked(*ollama_events(usage=usage))
    await proxy.chat(stream=True)
    outcome = await proxy.finish()
    assert outcome.metrics("router_context_truncations_total") == 1


async def test_token_estimate_adapts_to_the_reported_usage(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    """The model reports a third more tokens than estimated, so the limit applies sooner."""
    local.answer = whole(answer_json(usage={"prompt_tokens": 4000, "completion_tokens": 1}))
    targets = [(await proxy.chat(text=WORD * 3000)).headers["x-router-target"] for _ in range(20)]
    assert targets[0] == "local"
    assert targets[-1] == "cloud"
    outcome = await proxy.finish(20)
    assert outcome.metrics("router_context_truncations_total") == 0


# ── Adapting requests to Ollama ───────────────────────────────────────────────────────────────


async def test_max_completion_tokens_becomes_max_tokens(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    await proxy.chat(max_completion_tokens=7, temperature=0.125)
    assert local.call.json["max_tokens"] == 7
    assert "max_completion_tokens" not in local.call.json
    assert b'"temperature": 0.125' in local.call.body or b'"temperature":0.125' in local.call.body


async def test_max_tokens_takes_precedence(proxy: LiveProxy, local: FakeUpstream) -> None:
    await proxy.chat(max_completion_tokens=7, max_tokens=5)
    assert local.call.json["max_tokens"] == 5


async def test_text_parts_are_joined(start: StartProxy, local: FakeUpstream) -> None:
    simulate_ollama(local, capabilities=("completion", "vision"))
    proxy = await start()
    messages = [
        {"role": "system", "content": "Be brief.", "name": "x"},
        *user({"type": "text", "text": "é1"}, {"type": "text", "text": "2"}),
        *user(IMAGE, {"type": "text", "text": "3"}, {"type": "text", "text": "4"}),
    ]
    await proxy.chat(messages=messages)
    sent = local.call.json["messages"]
    assert sent[0] == messages[0]
    assert sent[1] == {"role": "user", "content": "é1\n2"}
    assert sent[2]["content"] == [IMAGE, {"type": "text", "text": "3\n4"}]


async def test_developer_role_becomes_system(proxy: LiveProxy, local: FakeUpstream) -> None:
    """The templates of most models drop messages of the developer role."""
    message = {"role": "developer", "content": "Be brief.", "name": "x"}
    await proxy.chat(messages=[message, {"role": "user", "content": 'the "developer" role'}])
    assert local.call.json["messages"] == [
        message | {"role": "system"},
        {"role": "user", "content": 'the "developer" role'},
    ]


async def test_tool_choice_none_removes_the_tools(start: StartProxy, local: FakeUpstream) -> None:
    simulate_ollama(local, capabilities=ALL_CAPABILITIES)
    proxy = await start()
    await proxy.chat(tools=TOOLS, tool_choice="none", messages=[QUESTION, TOOL_CALL_TURN, RESULT])
    assert not {"tools", "tool_choice"} & local.call.json.keys()
    assert local.call.json["messages"] == [QUESTION, TOOL_CALL_TURN, RESULT]


async def test_empty_content_beside_tool_calls_becomes_text(
    start: StartProxy, local: FakeUpstream
) -> None:
    simulate_ollama(local, capabilities=ALL_CAPABILITIES)
    proxy = await start()
    await proxy.chat(messages=[QUESTION, TOOL_CALL_TURN | {"content": []}, RESULT])
    assert local.call.json["messages"] == [QUESTION, TOOL_CALL_TURN | {"content": ""}, RESULT]


async def test_cloud_and_other_servers_receive_the_request_unchanged(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    sent = {
        "messages": [{"role": "developer", "content": []}, *user(TEXT, TEXT)],
        "max_completion_tokens": 7,
        "tools": TOOLS,
        "tool_choice": "none",
    }
    for model, upstream in (("local", local), ("cloud", cloud)):
        await proxy.chat(model=model, **sent)
        assert upstream.call.json == sent | {"model": MODELS[model]}


@pytest.mark.parametrize(
    ("roles", "features"),
    [
        ("user", []),
        ("system user", ["system role"]),
        ("developer user", ["developer role"]),
        ("user assistant user", []),
        ("user assistant", ["assistant last"]),
        ("user user", ["order of roles"]),
        ("assistant user", ["order of roles"]),
        ("user assistant assistant user", ["order of roles"]),
        ("user system user", ["system role", "order of roles"]),
        ("system system user", ["system role", "order of roles"]),
        ("user assistant tool assistant", ["assistant last", "order of roles"]),
        ("assistant", ["order of roles"]),
        ("", []),
    ],
)
def test_roles_are_features(roles: str, features: list[str]) -> None:
    request = parse_chat(b'{"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}')
    assert features_of(request, [(role, "Hi") for role in roles.split()]) == features
