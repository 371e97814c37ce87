"""A request that means a local model does not go to the cloud, whether or not it is there."""

import asyncio
import json
from typing import Any

import pytest

from fakes import PATIENCE_SECONDS, Call, FakeUpstream, refused_address, whole
from live import LiveProxy, StartProxy

MODEL = "qwen2.5:7b"
SECRET = "the patient's name"
CHAT = {"messages": [{"role": "user", "content": SECRET}]}
REQUESTS: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "completions": {"prompt": SECRET},
    "embeddings": {"input": SECRET},
    "responses": {"input": SECRET},
    "responses/input_tokens": {"input": SECRET},
    "responses/compact": {"input": SECRET},
}
LIST = whole(b'{"object":"list","data":[{"id":"phi3:latest"},{"id":"qwen2.5:7b"}]}')


async def post(proxy: LiveProxy, path: str, **fields: Any) -> Any:
    return await proxy.client.post(f"/v1/{path}", json={"model": MODEL, **fields})


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_local_name_waits_for_the_local_server(
    start: StartProxy, cloud: FakeUpstream, path: str
) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        response = await post(proxy, path, **REQUESTS[path])
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    error = response.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "local_models_unknown")
    assert MODEL in error["message"]
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["ending"], row["target"]) == ("rejected", None)


LIBRARY = ("phi4", "llama3.2", "nomic-embed-text", "openai/llama3.2", "/models/llama.gguf")


@pytest.mark.parametrize("path", ["chat/completions", "embeddings"])
@pytest.mark.parametrize("model", LIBRARY)
async def test_a_name_without_a_tag_waits_or_is_missing(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str, model: str
) -> None:
    local.models = whole(b"starting", status=503)
    proxy = await start(probe_seconds=0.02)
    waiting = await post(proxy, path, **REQUESTS[path] | {"model": model})
    assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "5")
    assert waiting.json()["error"]["code"] == "local_models_unknown"
    local.models = LIST
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (missing := await post(proxy, path, **REQUESTS[path] | {"model": model})).is_error:
            if missing.status_code != 503:
                break
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert not cloud.calls
    assert not local.calls


async def test_it_is_local_once_the_server_lists_it(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = whole(b"starting", status=503)
    proxy = await start(probe_seconds=0.02)
    assert (await post(proxy, "chat/completions", **CHAT)).status_code == 503
    local.models = LIST
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (response := await post(proxy, "chat/completions", **CHAT)).status_code == 503:
            pass
    assert response.headers["x-router-target"] == "local"
    assert local.call.json["model"] == MODEL
    assert not cloud.calls


MISSING = (
    "phi4:14b", "ollama/qwen3:8b", "hf.co/org/model", "Lokal", "qwen2.5", "gml:free",
    "/models/llama", "C:\\models\\llama.gguf", "llama-3-8b.Q4_K_M.gguf", "llama3:8b@sha256:abc",
    "phi3:lat est", "user/model:thinking", "registry.lan/phi3:14", "yi.34b:1", "lm-studio/x",
    "localhost/x", "localhost:11434/x", "localai/x", "gpt4all/x", "ollama-local/x", "localmodel",
    "openai/phi4:14b", "openai/llama3.2", "custom_openai//models/llama",
)  # fmt: skip


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("model", MISSING)
async def test_a_missing_local_model_is_refused_here(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str, model: str
) -> None:
    local.models = LIST
    proxy = await start()
    response = await post(proxy, path, **REQUESTS[path] | {"model": model})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert model in error["message"]
    assert not cloud.calls
    assert not local.calls
    row = (await proxy.finish()).row
    assert (row["ending"], row["target"], row["cost_usd"]) == ("rejected", None, None)


async def test_the_error_names_the_nearest_model_and_how_to_install_it(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.models = LIST
    local.native["/api/version"] = whole(b'{"version":"0.33.0"}')
    proxy = await start()
    message = (await proxy.chat(model="qwen2.5:3b")).json()["error"]["message"]
    assert "Did you mean 'qwen2.5:7b'?" in message
    assert message.endswith("To install it: ollama pull qwen2.5:3b")
    prefixed = (await proxy.chat(model="ollama/Qwen2.5:3b")).json()["error"]["message"]
    assert prefixed.endswith("To install it: ollama pull Qwen2.5:3b")
    for model in ("ollama/-x", "ollama/$(reboot)", "ollama/a\nb"):
        assert "pull" not in (await proxy.chat(model=model)).json()["error"]["message"]
    resembling = (await proxy.chat(model="Lokal")).json()["error"]["message"]
    assert "Did you mean 'local'?" in resembling
    assert "pull" not in resembling


OWN_NAMES = {
    "Local": "local",
    "LOCAL": "local",
    "openai/local": "local",
    "ollama/phi3": "local",
    "ollama_chat/qwen2.5:7b": "local",
    "Auto": "local",
    "openai/auto": "local",
    "AUTO:threshold=1": "cloud",
    "Cloud": "cloud",
    "litellm_proxy/cloud": "cloud",
}


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
@pytest.mark.parametrize(("model", "tier"), OWN_NAMES.items())
async def test_own_names_are_read_without_case_and_connection(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    path: str,
    model: str,
    tier: str,
) -> None:
    local.models = LIST
    proxy = await start()
    response = await post(proxy, path, **REQUESTS[path] | {"model": model})
    assert (response.status_code, response.headers["x-router-target"]) == (200, tier)
    called, other = (local, cloud) if tier == "local" else (cloud, local)
    assert called.call.json["model"] in ("phi3:latest", MODEL, "gpt-4o-mini")
    assert not other.calls


@pytest.mark.parametrize("model", ["Local", "ollama/phi3", "openai/local", MODEL])
async def test_embeddings_for_a_local_name_stay_local(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, model: str
) -> None:
    local.models = LIST
    proxy = await start()
    for headers in ({}, {"x-router-target": "local"}):
        response = await proxy.client.post(
            "/v1/embeddings", json={"model": model, "input": SECRET}, headers=headers
        )
        assert response.status_code == 200
        assert local.calls[-1].json["model"] in ("phi3", "phi3:latest", MODEL)
    assert not cloud.calls


@pytest.mark.parametrize("path", ["responses/input_tokens", "responses/compact"])
async def test_what_only_the_cloud_has_is_refused_for_the_local_tier(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    local.models = LIST
    proxy = await start()
    for model, headers in (("local", {}), (MODEL, {}), ("auto", {"x-router-target": "local"})):
        response = await proxy.client.post(
            f"/v1/{path}", json={"model": model, "input": SECRET}, headers=headers
        )
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "unsupported_by_local_model"
    assert not cloud.calls
    forced = await proxy.client.post(
        f"/v1/{path}",
        json={"model": "phi4:14b", "input": "Hi"},
        headers={"x-router-target": "cloud"},
    )
    assert forced.status_code == 200
    assert cloud.call.json["model"] == "phi4:14b"


OTHER_PATHS = ("moderations", "audio/speech", "rerank", "tokenize")
TYPES: tuple[dict[str, str], ...] = (
    {"content-type": "application/json"},
    {"content-type": "Application/JSON; charset=utf-8"},
    {"content-type": "application/x-www-form-urlencoded"},
    {},
)


@pytest.mark.parametrize("path", OTHER_PATHS)
async def test_other_paths_read_the_name_of_the_model(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    local.models = LIST
    proxy = await start()

    async def send(model: Any, headers: dict[str, str]) -> Any:
        body = json.dumps({"input": [SECRET, {"a": 1}], "model": model}).encode()
        return await proxy.client.post(f"/v1/{path}", content=body, headers=headers)

    for headers in TYPES:
        for model in ("local", "LOCAL", MODEL, "phi3:latest", "ollama/phi3"):
            response = await send(model, headers)
            assert response.status_code == 400
            error = response.json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_by_local_model", "model")
        for model in ("phi4:14b", "/models/llama.gguf"):
            assert (await send(model, headers)).status_code == 404
    to_local = TYPES[0] | {"x-router-target": "local"}
    assert (await send("tts-1", to_local)).status_code == 400
    assert (await send(None, to_local)).status_code == 400
    assert not cloud.calls
    for model in ("auto", "cloud", "tts-1", "rerank-v3.5", None, 7):
        cloud.calls.clear()
        assert (await send(model, TYPES[0])).status_code == 200
        assert cloud.call.json == {"input": [SECRET, {"a": 1}], "model": model}  # unchanged
    assert not local.calls


async def test_other_paths_wait_for_the_local_server(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        response = await post(proxy, "moderations", input=SECRET)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert not cloud.calls


async def test_other_bodies_pass_unread(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start()
    large = b'{"model": "tts-1", "input": "%b"}' % (b"a" * 3_000_000)
    for kind, body in {
        "application/json": large,
        "Application/json": b'{"model": "tts-1"',  # the cloud answers with the error
        "multipart/form-data; boundary=x": b'--x\r\n\r\n{"model": "local"}\r\n--x--',
    }.items():
        response = await proxy.client.post(
            "/v1/audio/speech", content=body, headers={"content-type": kind}
        )
        assert response.status_code == 200
        assert cloud.calls[-1].body == body


@pytest.mark.parametrize("path", ["responses/input_tokens", "responses/compact"])
async def test_a_local_name_is_read_in_a_body_with_errors(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, path: str
) -> None:
    local.models = LIST
    proxy = await start()
    for model, status in (("local", 400), (MODEL, 400), ("phi4:14b", 404)):
        assert (await post(proxy, path, model=model, input=5)).status_code == status
    assert not cloud.calls
    assert (await post(proxy, path, model="auto", input=5)).status_code == 200
    assert cloud.call.json["input"] == 5


async def test_a_name_with_a_price_is_the_clouds(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = whole(b'{"data":[{"id":"gpt-oss:20b"},{"id":"gpt-4"}]}')
    proxy = await start()
    for model in ("gpt-4o", "gpt-4.1"):  # which resemble them
        assert (await proxy.chat(model=model)).status_code == 200
        assert cloud.calls[-1].json["model"] == model
    assert not local.calls


@pytest.mark.parametrize("model", ["glm:free", "phi-3", "vendor/model:fast", "gemini:latest"])
async def test_a_name_that_the_cloud_lists_is_the_clouds(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, model: str
) -> None:
    local.models = LIST
    listed = ("glm:free", "phi-3", "vendor/model", "models/gemini:latest")
    cloud.models = whole(json.dumps({"data": [{"id": name} for name in listed]}).encode())
    proxy = await start()
    response = await post(proxy, "chat/completions", **CHAT | {"model": model})
    assert response.status_code == 200
    assert cloud.call.json["model"] == model


async def test_the_cloud_is_asked_once_for_its_models(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = LIST
    asked: list[str] = []

    def models(call: Call) -> Any:
        asked.append(call.path)
        return whole(b'{"data":[{"id":"glm:free"}]}')

    cloud.models = models
    proxy = await start()
    await post(proxy, "chat/completions", **CHAT | {"model": "gpt-5"})
    assert not asked  # a name that is clearly the cloud's
    for model in ("glm:free", "phi4:14b", "glm:free"):
        await post(proxy, "chat/completions", **CHAT | {"model": model})
    assert len(asked) == 1
    assert [call.json["model"] for call in cloud.calls] == ["gpt-5", "glm:free", "glm:free"]


async def test_a_list_stays_known_when_the_server_fails(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = LIST
    proxy = await start(probe_seconds=0.02)
    local.models = local.answer = whole(b"broken", status=500)
    response = await post(proxy, "chat/completions", **CHAT)
    assert response.headers["x-router-target"] == "local"
    assert not cloud.calls


async def test_the_client_may_name_the_cloud(start: StartProxy, cloud: FakeUpstream) -> None:
    with refused_address() as nowhere:
        proxy = await start(local=nowhere)
        response = await proxy.chat(model=MODEL, headers={"x-router-target": "cloud"})
    assert response.status_code == 200
    assert cloud.call.json["model"] == MODEL
