"""Old garbage is collected while the proxy is idle, or after a maximum delay."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from live import LiveProxy
from proxy.server.gc import MAX_DEFER_SECONDS, GarbageCollector


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _restore_gc() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
async def collector() -> GarbageCollector:
    instance = GarbageCollector(lambda: False)
    instance.start(asyncio.get_running_loop())
    instance.stop()
    return instance


def old_garbage() -> "weakref.ref[Cycle]":
    """An unreachable cycle in the oldest generation."""
    cycle = Cycle()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(cycle)


async def test_collection_waits_until_the_proxy_is_idle(collector: GarbageCollector) -> None:
    now = asyncio.get_running_loop().time()
    garbage = old_garbage()
    gc.collect(1)
    collector.check(now + 1)
    assert garbage() is not None
    collector._is_idle = lambda: True
    collector.check(now + 2)
    assert garbage() is None


async def test_busy_proxy_collects_after_the_maximum_delay(collector: GarbageCollector) -> None:
    now = asyncio.get_running_loop().time()
    garbage = old_garbage()
    gc.collect(1)
    collector.check(now + MAX_DEFER_SECONDS + 1)
    assert garbage() is None


async def test_automatic_full_collections_are_disabled(collector: GarbageCollector) -> None:
    before = gc.get_stats()[2]["collections"]
    keep = [[Cycle()] for _ in range(60_000)]
    assert gc.get_stats()[2]["collections"] == before
    assert gc.get_stats()[1]["collections"] > 10
    del keep


@pytest.mark.parametrize("stream", [False, True])
async def test_request_leaves_no_reference_cycles(proxy: LiveProxy, stream: bool) -> None:
    """Otherwise memory would grow between two full collections."""

    async def ask(times: int) -> None:
        for _ in range(times):
            assert (await proxy.chat(model="local", stream=stream)).status_code == 200

    await ask(3)
    gc.collect()
    gc.disable()
    try:
        await ask(20)
        await proxy.settled(23)
        assert gc.collect() < 20
    finally:
        gc.enable()
