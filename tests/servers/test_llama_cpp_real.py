"""The real server of llama.cpp, with the demo's model, as the local tier."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import needs
from fakes import FakeUpstream, answer_json, chunked, openai_events, whole
from live import LiveProxy
from proxy.cli.demo import DemoNotInstalled, find_model_file
from proxy.cli.stand_in import StandIn
from servers.requests import request_with

MODEL = "smollm2-135m"
SECONDS = 120.0  # far longer than the few tokens take, on any machine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    try:
        model_file = find_model_file()
    except DemoNotInstalled:
        needs.give_up("xllamacpp")
    log = tmp_path_factory.mktemp("model") / "model.log"
    with StandIn(MODEL, model_file, log=log) as stand_in:
        stand_in.wait_until_ready()
        yield stand_in


@pytest.fixture
async def proxy(
    tmp_path: Path, real_model: StandIn, cloud: FakeUpstream
) -> AsyncIterator[LiveProxy]:
    cloud.answer = lambda call: (
        chunked(*openai_events()) if call.json.get("stream") else whole(answer_json())
    )
    changes = {"upstreams": {"local": {"model": MODEL}}}
    async with LiveProxy(tmp_path, real_model.base_url, cloud, changes=changes) as proxy:
        proxy.client.timeout = SECONDS
        yield proxy


def events_of(response: Any) -> list[dict[str, Any]]:
    assert response.text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in response.text.split("\n\n") if "{" in line]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["auto", "local", MODEL])
async def test_routed_and_forced_requests_are_answered(
    proxy: LiveProxy, cloud: FakeUpstream, model: str, streams: bool
) -> None:
    response = await proxy.chat(model=model, stream=streams, max_tokens=8)
    assert response.status_code == 200, response.text
    assert response.headers["x-router-target"] == "local"
    assert response.headers["x-router-reason"] == ("score" if model == "auto" else "forced")
    if streams:
        events = events_of(response)
        assert any(choice["delta"].get("content") for item in events for choice in item["choices"])
        assert not any(item.get("usage") for item in events)
    else:
        answer = response.json()
        assert answer["choices"][0]["message"]["content"]
        assert answer["timings"]["predicted_n"] == answer["usage"]["completion_tokens"]
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["target"], row["ending"], row["usage_source"]) == ("local", "ok", "upstream")
    assert 0 < row["output_tokens"] <= 8


async def test_timings_reach_a_client_that_asks_for_no_usage(proxy: LiveProxy) -> None:
    response = await proxy.chat(stream=True, max_tokens=8)
    timings = [item["timings"] for item in events_of(response) if "timings" in item]
    assert len(timings) == 1
    assert timings[0]["predicted_n"] > 0


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("need", ["vision", "audio", "file"])
async def test_the_cloud_answers_what_it_cannot(
    proxy: LiveProxy, cloud: FakeUpstream, need: str, streams: bool
) -> None:
    response = await proxy.client.post(
        "/v1/chat/completions", json=request_with(need) | {"stream": streams}
    )
    assert response.status_code == 200, response.text
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-fallback"].startswith("local->cloud:")
    assert len(cloud.calls) == 1
    easy = await proxy.chat(max_tokens=4)
    assert easy.headers["x-router-target"] == "local"


@pytest.mark.parametrize("need", ["vision", "audio", "file"])
async def test_a_forced_request_gets_its_words(
    proxy: LiveProxy, real_model: StandIn, cloud: FakeUpstream, need: str
) -> None:
    body = request_with(need)
    direct = await proxy.client.post(
        f"{real_model.base_url}/chat/completions", json=body | {"model": MODEL}
    )
    assert direct.status_code >= 400
    response = await proxy.client.post("/v1/chat/completions", json=body | {"model": "local"})
    assert response.status_code == direct.status_code
    assert response.json() == direct.json()
    assert not cloud.calls


async def test_a_prompt_beyond_its_context_goes_to_the_cloud(
    proxy: LiveProxy, cloud: FakeUpstream
) -> None:
    response = await proxy.chat(text="one two three four " * 2500)
    assert response.status_code == 200, response.text
    assert response.headers["x-router-target"] == "cloud"
    assert len(cloud.calls) == 1
