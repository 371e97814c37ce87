"""The trace header lists the steps of a decision, on request only."""

import pytest

from fakes import EASY, HARD, FakeUpstream, whole
from live import LiveProxy, StartProxy

TRACE = {"x-router-trace": "true"}
OLLAMA = {"/api/version": whole(b'{"version":"0.32.6"}')}


async def test_trace_is_returned_only_on_request(proxy: LiveProxy, local: FakeUpstream) -> None:
    assert "x-router-trace" not in (await proxy.chat()).headers
    trace = (await proxy.chat(headers=TRACE)).headers["x-router-trace"]
    steps = [step.partition(" ms ")[2] for step in trace.split("; ")]
    assert steps[0] == "requested model auto: either tier, configured model"
    assert steps[1] == "the local tier can answer, as far as is known"
    assert steps[2].startswith("decided: local (phi3:latest), reason score, score 0.9")
    assert steps[-2:] == ["sent to the local tier as phi3:latest", "the local tier: answers"]
    times = [float(step.partition(" ms ")[0]) for step in trace.split("; ")]
    assert times == sorted(times)
    assert "x-router-trace" not in dict(local.calls[-1].headers)
    assert EASY not in trace


@pytest.mark.parametrize(
    ("fields", "headers", "step"),
    [
        ({"n": 2}, {}, "the local tier cannot answer (capability): "),
        ({"text": HARD}, {}, "decided: cloud (gpt-4o-mini), reason score, score 0.1"),
        ({"model": "auto:threshold=0.95"}, {}, "either tier, configured model, threshold 0.9500"),
        ({}, {"x-router-target": "cloud"}, "requested model auto: cloud tier"),
    ],
    ids=str,
)
async def test_trace_includes_the_decision(
    start: StartProxy,
    local: FakeUpstream,
    fields: dict[str, object],
    headers: dict[str, str],
    step: str,
) -> None:
    local.native = OLLAMA
    response = await (await start()).chat(headers=TRACE | headers, **fields)
    assert response.status_code == 200
    assert step in response.headers["x-router-trace"]


async def test_trace_includes_fallbacks_and_rejections(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.native, local.answer = OLLAMA, whole(b"{}", status=500)
    proxy = await start()
    trace = (await proxy.chat(headers=TRACE)).headers["x-router-trace"]
    assert "the local tier: fails (server_error); " in trace
    assert trace.endswith("the cloud tier: answers")
    rejected = await proxy.chat(headers=TRACE | {"x-router-target": "local"}, n=2)
    assert rejected.status_code == 400
    assert "the local tier cannot answer (capability)" in rejected.headers["x-router-trace"]
