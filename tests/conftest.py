"""Fixtures that tests of several files share: two scripted tiers, and proxies in front of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from fakes import FakeUpstream
from live import Fields, LiveProxy, StartProxy, World

# An example that takes long says that the machine is busy, not that the code is wrong.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def direct_connections() -> Iterator[None]:
    """Keep a proxy that this machine's environment names out of the way of local sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture
async def local() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def cloud() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def start(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> AsyncIterator[StartProxy]:
    tiers = {"local": local, "cloud": cloud}

    async with AsyncExitStack() as stack:

        async def start_proxy(changes: Fields | None = None, **given: Any) -> LiveProxy:
            proxy = LiveProxy(tmp_path, **(tiers | given), changes=changes)
            return await stack.enter_async_context(proxy)

        yield start_proxy


@pytest.fixture
async def proxy(start: StartProxy) -> LiveProxy:
    """A proxy with the tests' default configuration."""
    return await start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("shared")
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(folder, local, cloud) as proxy,
    ):
        yield World(local, cloud, proxy)


@pytest.fixture
def world(shared_world: World) -> World:
    """A shared world with nothing left of the test before.

    Starting a proxy costs more than most tests. Files that use this one run on one event loop:
    `pytestmark = pytest.mark.asyncio(loop_scope="module")`.
    """
    shared_world.local.reset()
    shared_world.cloud.reset()
    return shared_world
