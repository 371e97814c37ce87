"""A request for a local model does not go to the cloud while the local models are not known."""

import asyncio
from typing import Any

import pytest

from fakes import PATIENCE_SECONDS, FakeUpstream, refused_address, whole
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


@pytest.mark.parametrize("models", [LIST, whole(b'{"object":"list","data":null}')])
async def test_a_name_that_is_not_listed_is_one_of_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, models: Any
) -> None:
    local.models = models  # Ollama without a model has null
    proxy = await start()
    response = await post(proxy, "chat/completions", **CHAT | {"model": "glm:free"})
    assert response.status_code == 200
    assert cloud.call.json["model"] == "glm:free"


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
