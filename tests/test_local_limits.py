"""What the local model cannot do goes to the cloud or is refused; nothing is cut or dropped unseen.

The local tier is Ollama here, as far as it speaks of itself, with phi3: no tools, 4096 tokens.
"""

import json
from typing import Any

import pytest

from fakes import EASY, HARD, FakeUpstream, answer_json, chunked, ollama_events, whole
from live import LiveProxy, StartProxy, envelope_of

WORD = "word "  # one token
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
LINK = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
TEXT = {"type": "text", "text": EASY}


def become_ollama(
    upstream: FakeUpstream,
    *,
    version: str = "0.33.0",
    capabilities: tuple[str, ...] = ("completion",),
    context: int = 4096,
) -> None:
    show = {"capabilities": capabilities, "model_info": {"phi3.context_length": 131072}}
    running = {"models": [{"name": "phi3:latest", "context_length": context}]}
    for path, document in (("version", {"version": version}), ("show", show), ("ps", running)):
        upstream.native[f"/api/{path}"] = whole(json.dumps(document).encode())


@pytest.fixture
async def proxy(start: StartProxy, local: FakeUpstream) -> LiveProxy:
    become_ollama(local)
    return await start()


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": TOOLS}, "tools"),
    "tools-auto": ({"tools": TOOLS, "tool_choice": "auto"}, "tools"),
    "functions": ({"functions": [{"name": "now"}]}, "tools"),
    "image": ({"messages": user(TEXT, IMAGE)}, "messages[0].content"),
    "image-link": ({"messages": user(TEXT, LINK)}, "messages[0].content"),
    "audio": ({"messages": user(TEXT, {"type": "input_audio"})}, "messages[0].content"),
    "n": ({"n": 2}, "n"),
    "logit-bias": ({"logit_bias": {"50256": -100}}, "logit_bias"),
}
WITHIN: dict[str, dict[str, Any]] = {
    "no-tools": {"tools": [], "functions": None},
    "tools-none": {"tools": TOOLS, "tool_choice": "none"},
    "schema": {"response_format": SCHEMA},
    "json": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "n-1": {"n": 1, "logit_bias": {}},
    "parts": {"messages": user(TEXT, TEXT)},
}


@pytest.mark.parametrize(("fields", "param"), BEYOND.values(), ids=BEYOND)
async def test_what_the_local_model_lacks_goes_to_the_cloud(
    proxy: LiveProxy, local: FakeUpstream, fields: dict[str, Any], param: str
) -> None:
    response = await proxy.chat(**fields)
    assert response.status_code == 200
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "capability"
    outcome = await proxy.finish()
    assert (outcome.row["reason"], outcome.row["score"]) == ("capability", None)
    assert local.calls == []


@pytest.mark.parametrize(("fields", "param"), BEYOND.values(), ids=BEYOND)
async def test_forcing_it_on_the_local_model_is_refused(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream, fields: dict[str, Any], param: str
) -> None:
    response = await proxy.chat(model="local", **fields)
    error = envelope_of(response)
    assert response.status_code == 400
    assert (error["param"], error["code"]) == (param, "unsupported_by_local_model")
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "rejected"
    assert (local.calls, cloud.calls) == ([], [])


@pytest.mark.parametrize("fields", WITHIN.values(), ids=WITHIN)
async def test_what_it_can_do_stays(proxy: LiveProxy, fields: dict[str, Any]) -> None:
    response = await proxy.chat(**fields)
    assert response.headers["x-router-target"] == "local"


async def test_a_model_with_tools_gets_them_unless_one_is_demanded(
    start: StartProxy, local: FakeUpstream
) -> None:
    """Ollama drops tool_choice: what depends on it belongs to the cloud."""
    become_ollama(local, capabilities=("completion", "tools", "vision"))
    proxy = await start()
    for choice, target in (("auto", "local"), ("required", "cloud"), ({"type": "x"}, "cloud")):
        response = await proxy.chat(tools=TOOLS, tool_choice=choice)
        assert response.headers["x-router-target"] == target
    for part, target in ((IMAGE, "local"), (LINK, "cloud")):
        response = await proxy.chat(messages=user(TEXT, part))
        assert response.headers["x-router-target"] == target


async def test_logprobs_need_a_new_ollama(start: StartProxy, local: FakeUpstream) -> None:
    become_ollama(local, version="0.12.10")
    proxy = await start()
    response = await proxy.chat(logprobs=True)
    assert response.headers["x-router-reason"] == "capability"


async def test_of_another_server_nothing_is_presumed(start: StartProxy) -> None:
    proxy = await start()
    for fields, _ in BEYOND.values():
        assert (await proxy.chat(**fields)).headers["x-router-target"] == "local"
    long = await proxy.chat(text=WORD * 100_000)
    assert long.headers["x-router-target"] == "local"


async def test_the_configuration_can_say_it_instead(start: StartProxy) -> None:
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
        (2200, {"tools": TOOLS * 200, "tool_choice": "none"}, "cloud"),
    ],
)
async def test_a_prompt_and_its_answer_must_fit_the_context(
    proxy: LiveProxy, words: int, fields: dict[str, Any], target: str
) -> None:
    response = await proxy.chat(text=WORD * words, **fields)
    assert response.headers["x-router-target"] == target
    assert response.headers["x-router-reason"] == ("score" if target == "local" else "context")


async def test_a_forced_prompt_that_is_too_long_is_refused_not_cut(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    response = await proxy.chat(model="local", text=WORD * 5000)
    error = envelope_of(response)
    assert response.status_code == 400
    assert (error["param"], error["code"]) == ("messages", "context_length_exceeded")
    assert "4096" in error["message"]
    assert local.calls == []


async def test_the_cloud_tier_is_not_replaced_by_one_that_cannot(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(b'{"error":{"message":"No"}}', status=500)
    response = await proxy.chat(text=HARD, tools=TOOLS)
    assert response.status_code == 500
    assert local.calls == []


async def test_a_prompt_that_was_cut_all_the_same_is_counted(
    proxy: LiveProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    usage = {"prompt_tokens": 1500, "completion_tokens": 5, "total_tokens": 1505}
    local.answer = whole(answer_json(usage=usage))
    await proxy.chat(text=WORD * 3400)
    outcome = await proxy.finish()
    assert outcome.metrics("router_context_truncations_total") == 1
    assert "context was too small" in caplog.text


async def test_an_answer_that_ran_out_of_room_is_counted(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 96, "completion_tokens": 4000, "total_tokens": 4096}
    local.answer = chunked(*ollama_events(usage=usage))
    await proxy.chat(stream=True)
    outcome = await proxy.finish()
    assert outcome.metrics("router_context_truncations_total") == 1


async def test_a_model_that_splits_text_finer_is_learnt(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    """By its reports it reads a third more tokens than we count: the limit comes sooner."""
    local.answer = whole(answer_json(usage={"prompt_tokens": 4000, "completion_tokens": 1}))
    targets = [(await proxy.chat(text=WORD * 3000)).headers["x-router-target"] for _ in range(20)]
    assert targets[0] == "local"
    assert targets[-1] == "cloud"
    outcome = await proxy.finish(20)
    assert outcome.metrics("router_context_truncations_total") == 0


# ── What Ollama would drop or take apart ──────────────────────────────────────────────────────


async def test_the_new_name_of_the_token_limit_becomes_the_old_one(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    await proxy.chat(max_completion_tokens=7, temperature=0.125)
    assert local.call.json["max_tokens"] == 7
    assert "max_completion_tokens" not in local.call.json
    assert b'"temperature": 0.125' in local.call.body or b'"temperature":0.125' in local.call.body


async def test_a_limit_by_its_old_name_stands(proxy: LiveProxy, local: FakeUpstream) -> None:
    await proxy.chat(max_completion_tokens=7, max_tokens=5)
    assert local.call.json["max_tokens"] == 5


async def test_text_parts_become_one_text(start: StartProxy, local: FakeUpstream) -> None:
    become_ollama(local, capabilities=("completion", "vision"))
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


async def test_the_cloud_and_other_servers_get_what_was_sent(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    for model, upstream in (("local", local), ("cloud", cloud)):
        await proxy.chat(model=model, messages=user(TEXT, TEXT), max_completion_tokens=7)
        assert upstream.call.json["messages"] == user(TEXT, TEXT)
        assert upstream.call.json["max_completion_tokens"] == 7
