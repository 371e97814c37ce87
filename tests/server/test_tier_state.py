"""The state of the tiers in /metrics and /api/status follows the servers, not the last request."""

import asyncio
import math
import time
from typing import Any

import pytest

from fakes import PATIENCE_SECONDS, FakeUpstream, error_json, whole
from live import LiveProxy, StartProxy


async def tiers_of(proxy: LiveProxy) -> Any:
    return (await proxy.client.get("/api/status")).json()["tiers"]


async def until_up(proxy: LiveProxy, tier: str, is_up: bool | None) -> Any:
    """Wait without requests to a tier."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            state = (await tiers_of(proxy))[tier]
            if state["is_up"] is is_up:
                return state
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("tier", ["local", "cloud"])
async def test_one_503_and_then_nothing(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    server = {"local": local, "cloud": cloud}[tier]
    proxy = await start(probe_seconds=0.05)
    server.answer = whole(error_json("overloaded"), status=503)
    assert (await proxy.chat(model=tier)).status_code == 503
    state = await until_up(proxy, tier, True)
    assert time.time() - 60 < state["since"] <= time.time()
    assert state["problem"] is None or "lists no models" in state["problem"]
    samples = await proxy.scrape()
    assert samples("router_upstream_up", target=tier) == 1


async def test_a_cloud_that_fails_and_is_gone_is_down_until_it_answers(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start(probe_seconds=0.05)
    cloud.answer = cloud.models = whole(error_json("maintenance"), status=503)
    assert (await proxy.chat(model="cloud")).status_code == 503
    state = await until_up(proxy, "cloud", False)
    assert state["problem"] == "it has no list of models: status 503"
    assert (await proxy.scrape())("router_upstream_up", target="cloud") == 0
    cloud.reset()
    await until_up(proxy, "cloud", True)


async def test_an_unknown_state_is_neither_up_nor_down(start: StartProxy) -> None:
    proxy = await start(probe_seconds=60.0)
    samples = await proxy.scrape()
    assert samples("router_upstream_up", target="local") == 1
    assert math.isnan(samples("router_upstream_up", target="cloud"))
    assert (await tiers_of(proxy))["cloud"]["is_up"] is None
