"""The fixture of all families, and the table of `make attack`."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from attack import ATTACKS, KEYS, AttackRunner, StartRunner
from fakes import FakeUpstream
from live import StartProxy


@pytest.fixture
def start_runner(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    record_property: Callable[[str, object], None],
) -> StartRunner:
    """Starts the proxy of a family."""

    async def open_it(changes: Any = None, **given: Any) -> AttackRunner:
        return AttackRunner(await start(changes, **given), local, cloud, record_property)

    return open_it


@pytest.fixture
async def runner(start_runner: StartRunner) -> AttackRunner:
    """A family's proxy with the default configuration."""
    return await start_runner()


@pytest.fixture
async def runner_with_keys(start_runner: StartRunner) -> AttackRunner:
    """The same with three keys: two plain ones and an admin key."""
    return await start_runner(KEYS)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tried: Counter[str] = Counter()
    through: Counter[str] = Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == ATTACKS and report.when == "call":
                    family, number, let_through = value
                    tried[family] += number
                    through[family] += let_through
    if not tried:
        return
    terminalreporter.section("attacks")
    rows = [(family, tried[family], through[family]) for family in sorted(tried)]
    for family, number, let_through in [*rows, ("total", tried.total(), through.total())]:
        terminalreporter.write_line(
            f"{family:<24} {number:>6} attacks {let_through:>5} let through"
        )
