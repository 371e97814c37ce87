"""A request that tells the steps of its decision, to whoever asks and to nobody else."""

import pytest

from fakes import EASY, HARD, FakeUpstream, whole
from live import LiveProxy, StartProxy

ASKING = {"x-router-trace": "true"}
IDS = {"/api/version": whole(b'{"version":"0.32.6"}')}


async def test_only_who_asks_is_told(proxy: LiveProxy, local: FakeUpstream) -> None:
    assert "x-router-trace" not in (await proxy.chat()).headers
    told = (await proxy.chat(headers=ASKING)).headers["x-router-trace"]
    steps = [step.partition(" ms ")[2] for step in told.split("; ")]
    assert steps[0] == "requested model auto: either tier, configured model"
    assert steps[1] == "the local tier can answer, as far as is known"
    assert steps[2].startswith("decided: local (phi3:latest), reason score, score 0.9")
    assert steps[-2:] == ["sent to the local tier as phi3:latest", "the local tier: answers"]
    times = [float(step.partition(" ms ")[0]) for step in told.split("; ")]
    assert times == sorted(times)
    assert "x-router-trace" not in dict(local.calls[-1].headers)
    assert EASY not in told


@pytest.mark.parametrize(
    ("fields", "headers", "said"),
    [
        ({"n": 2}, {}, "the local tier cannot answer (capability): "),
        ({"text": HARD}, {}, "decided: cloud (gpt-4o-mini), reason score, score 0.1"),
        ({"model": "auto:threshold=0.95"}, {}, "either tier, configured model, threshold 0.9500"),
        ({}, {"x-router-target": "cloud"}, "requested model auto: cloud tier"),
    ],
    ids=str,
)
async def test_what_decided_is_among_the_steps(
    start: StartProxy,
    local: FakeUpstream,
    fields: dict[str, object],
    headers: dict[str, str],
    said: str,
) -> None:
    local.native = IDS
    response = await (await start()).chat(headers=ASKING | headers, **fields)
    assert response.status_code == 200
    assert said in response.headers["x-router-trace"]


async def test_a_fallback_is_among_them_and_so_is_a_refusal(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native, local.answer = IDS, whole(b"{}", status=500)
    proxy = await start()
    fell = (await proxy.chat(headers=ASKING)).headers["x-router-trace"]
    assert "the local tier: fails (server_error); " in fell
    assert fell.endswith("the cloud tier: answers")
    refused = await proxy.chat(headers=ASKING | {"x-router-target": "local"}, n=2)
    assert refused.status_code == 400
    assert "the local tier cannot answer (capability)" in refused.headers["x-router-trace"]
