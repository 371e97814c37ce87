"""Shared fixtures, markers, and skips for programs and packages that are not installed.

Fixtures import heavy modules themselves, so that other test files start quickly.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import needs

if TYPE_CHECKING:
    from fakes import FakeUpstream
    from live import Fields, LiveProxy, StartProxy, World

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:
    async_fixture = None  # type: ignore[assignment]

# Files that take more than about two seconds of CPU time.
SLOW = (
    "tests/attacks/test_exhaustion.py",
    "tests/attacks/test_json.py",
    "tests/attacks/test_money.py",
    "tests/attacks/test_reloads.py",
    "tests/attacks/test_shared_upstreams.py",
    "tests/attacks/test_upstreams.py",
    "tests/bench/",
    "tests/budget/test_pacing.py",
    "tests/budget/test_reconciliation.py",
    "tests/deployment/test_cluster.py",
    "tests/deployment/test_release.py",
    "tests/evaluation/test_calibration.py",
    "tests/evaluation/test_promotion.py",
    "tests/monitoring/test_monitoring.py",
    "tests/pages/",
    "tests/servers/",
    "tests/web/test_fuzz.py",
)
# Files that measure time or CPU, as do tests that are marked so by hand. They run after the
# others, in one process.
ALONE = (
    "tests/gateway/test_overhead.py",
    "tests/gateway/test_tail_latency.py",
    "tests/web/test_large_bodies.py",
)
# Fixtures that start servers. `make quick` leaves their tests out.
SERVERS = {"browser", "local", "cloud", "postgres", "proxy", "shared_world", "start", "world"}

ABSENT = "not installed: "


# ── What a test needs ─────────────────────────────────────────────────────────────────────────


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="fail where a program or package that a test needs is not installed",
    )
    if async_fixture is None:  # else pytest-asyncio adds them
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "of pytest-asyncio, which is not installed")


def pytest_configure(config: pytest.Config) -> None:
    if async_fixture is None:
        config.addinivalue_line("markers", "asyncio: of pytest-asyncio, which is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
        if item.nodeid.startswith(ALONE):
            item.add_marker("alone")
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        for marker in item.iter_markers("needs"):
            unknown = set(marker.args) - set(needs.PROGRAMS)
            if unknown:
                raise pytest.UsageError(f"{item.nodeid}: needs {unknown}, see support/needs.py")
    # The slow files start first, so that no process is left with one of them at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Unload an unused Hypothesis plugin: its summary would import Hypothesis (0.7 s)."""
    plugins = session.config.pluginmanager
    if "hypothesis" not in sys.modules and plugins.has_plugin("hypothesispytest"):
        plugins.unregister(name="hypothesispytest")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        for name in marker.args:
            needs.find(name)
    if async_fixture is None and _is_asynchronous(item):
        needs.give_up("pytest-asyncio")


def _is_asynchronous(item: pytest.Item) -> bool:
    """Whether the test, or a fixture that it uses, needs an event loop."""
    fixtures = getattr(item, "_fixtureinfo", None)
    definitions = fixtures.name2fixturedefs.values() if fixtures else ()
    functions = [definition[-1].func for definition in definitions if definition]
    return any(
        inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
        for function in [getattr(item, "obj", None), *functions]
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn `needs.Missing` into a skip, or with `--no-skips` into a failure."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, needs.Missing):
        name = str(call.excinfo.value)
        message = f"{ABSENT}{name}. Run: {needs.INSTALL}"
        if item.config.getoption("--no-skips"):
            report.longrepr = message
        else:
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, line or 0, message)
    return report


class _Module(pytest.Module):
    """A test file, skipped where a package of the dev extra is not installed."""

    def _getobj(self) -> Any:
        if b"hypothesis" in self.path.read_bytes() and needs.has_package("hypothesis"):
            _load_hypothesis_profile()
        try:
            return super()._getobj()
        except self.CollectError as error:
            cause = error.__cause__
            if (
                not isinstance(cause, ModuleNotFoundError)
                or self.config.getoption("--no-skips")
                or not cause.name
                or cause.name.partition(".")[0] in {"proxy", "router_model", "training", "tests"}
            ):
                raise
            pytest.skip(f"{ABSENT}{cause.name}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    module: pytest.Module = _Module.from_parent(parent, path=module_path)
    return module


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what was not installed. The reports of several processes arrive here, too."""
    skips = {
        (report.nodeid, report.longrepr[2]) for report in terminalreporter.getreports("skipped")
    }
    absent = Counter(
        message.partition(ABSENT)[2].partition(". Run:")[0]
        for _, message in skips
        if ABSENT in message
    )
    if absent:
        counts = ", ".join(f"{name} ({number})" for name, number in sorted(absent.items()))
        terminalreporter.section("skipped: not installed")
        terminalreporter.write_line(f"Not installed (number of skipped tests or files): {counts}")
        terminalreporter.write_line(f"To install them: {needs.INSTALL}")


def _load_hypothesis_profile() -> None:
    """Load the profile before the test file: `@settings` copies it at import."""
    loaded = "hypothesis" in sys.modules
    from hypothesis import HealthCheck, settings

    if loaded and settings.get_current_profile_name() == "busy":
        return
    # A slow example means a busy machine, not a bug.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


# ── Fixtures ──────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session", autouse=True)
def direct_connections() -> Iterator[None]:
    """Bypass the environment's HTTP proxy for local sockets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for gpu.test and this machine with its key, in one file."""
    from outbound import make_certificate

    return make_certificate(tmp_path_factory.mktemp("tls"), "gpu.test")


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for other.test."""
    from outbound import make_certificate

    return make_certificate(tmp_path_factory.mktemp("tls"), "other.test")


@pytest.fixture
async def local() -> AsyncIterator[FakeUpstream]:
    from fakes import FakeUpstream

    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def cloud() -> AsyncIterator[FakeUpstream]:
    from fakes import FakeUpstream

    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def start(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> AsyncIterator[StartProxy]:
    from live import LiveProxy

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


if async_fixture is not None:

    @async_fixture(scope="module", loop_scope="module")
    async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
        from fakes import FakeUpstream
        from live import LiveProxy, World

        folder = tmp_path_factory.mktemp("shared")
        async with (
            FakeUpstream() as local,
            FakeUpstream() as cloud,
            LiveProxy(folder, local, cloud) as proxy,
        ):
            yield World(local, cloud, proxy)

else:

    @pytest.fixture
    def shared_world() -> None:
        needs.give_up("pytest-asyncio")


@pytest.fixture
def world(shared_world: World) -> World:
    """The shared world, reset before each test.

    Starting a proxy costs more than most tests. Files that use this fixture share an event loop:
    `pytestmark = pytest.mark.asyncio(loop_scope="module")`.
    """
    shared_world.local.reset()
    shared_world.cloud.reset()
    return shared_world
