"""Old garbage is collected when nobody waits for it, or when nobody was idle for long."""

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
def _as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.fixture
async def collector() -> GarbageCollector:
    one = GarbageCollector(lambda: False)
    one.start(asyncio.get_running_loop())
    one.stop()
    return one


def old_garbage() -> "weakref.ref[Cycle]":
    """A cycle that nothing leads to, and that collections of young objects have passed by."""
    one = Cycle()
    gc.collect(0)
    gc.collect(1)
    return weakref.ref(one)


async def test_nobody_who_is_served_waits_for_it(collector: GarbageCollector) -> None:
    now = asyncio.get_running_loop().time()
    garbage = old_garbage()
    gc.collect(1)
    collector.check(now + 1)
    assert garbage() is not None
    collector._is_idle = lambda: True
    collector.check(now + 2)
    assert garbage() is None


async def test_a_proxy_that_is_never_idle_collects_in_the_end(collector: GarbageCollector) -> None:
    now = asyncio.get_running_loop().time()
    garbage = old_garbage()
    gc.collect(1)
    collector.check(now + MAX_DEFER_SECONDS + 1)
    assert garbage() is None


async def test_no_full_collection_comes_by_itself(collector: GarbageCollector) -> None:
    before = gc.get_stats()[2]["collections"]
    keep = [[Cycle()] for _ in range(60_000)]
    assert gc.get_stats()[2]["collections"] == before
    assert gc.get_stats()[1]["collections"] > 10
    del keep


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_leaves_no_circle_behind(proxy: LiveProxy, stream: bool) -> None:
    """Between two full collections nothing is kept that nobody wants any more."""

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
