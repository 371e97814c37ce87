"""The work of queries and of maintenance is bounded, however many rows there are.

Work is counted in steps of SQLite's virtual machine, which are the same on every machine.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from proxy.budget import Price
from proxy.evaluation import queries as quality_queries
from proxy.evaluation.queries import QualityQueries
from proxy.record import CallRecord, Ending, Reason, Target
from proxy.storage import writer
from proxy.storage.database import open_database
from proxy.storage.lookups import Lookups, WrittenSpend
from proxy.storage.request_log import RequestLog
from proxy.storage.writer import Store
from stored import DAY, NOW, config_of, execute, fill, finished, integrity_errors, read

pytest_plugins = ["databases"]

FEW, MANY = 1_500, 6_000
KEY: Final = "0123456789abcdef"
STEPS_AT_ONCE: Final = 10


def record(number: int) -> CallRecord:
    """A request of the last day, ten seconds after the one before."""
    return finished(
        created_at=NOW - 10.0 * (MANY - number),
        id=f"req_{number:032x}",
        target=Target.CLOUD if number % 2 else Target.LOCAL,
        reason=Reason.FALLBACK if number % 5 == 0 else Reason.SCORE,
        ending=Ending.UPSTREAM_ERROR if number % 50 == 0 else Ending.OK,
        cost_usd=0.001 if number % 2 else 0.0,
        candidate_score=0.5,
        score=0.5,
        client_key_hash=KEY if number % 3 == 0 else None,
        turns=[("user", "a question")],
    )


@pytest.fixture(scope="module", params=[(FEW, MANY)])
def urls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two databases: the newest rows of the larger one are those of the smaller one."""
    folder: Path = tmp_path_factory.mktemp("work")
    names = [f"sqlite:///{folder}/{number}.db" for number in (FEW, MANY)]
    for name, number in zip(names, (FEW, MANY), strict=True):
        fill(name, [record(index) for index in range(MANY - number, MANY)])
    return names[0], names[1]


class Counted:
    """The queries of one database, and the steps that each takes."""

    def __init__(self, url: str) -> None:
        self._steps = 0
        database: Any = open_database(config_of(url))
        connect = database._connect

        def connect_counting() -> Any:
            connection = connect()
            connection.set_progress_handler(self._count, STEPS_AT_ONCE)
            return connection

        database._connect = connect_counting
        self.log = RequestLog(database, clock=lambda: NOW)
        self.quality = QualityQueries(database, clock=lambda: NOW)
        self.lookups = Lookups(database, WrittenSpend())

    def _count(self) -> int:
        self._steps += STEPS_AT_ONCE
        return 0

    def steps(self, query: Callable[["Counted"], object]) -> int:
        before = self._steps
        query(self)
        return self._steps - before


def at(share: float) -> tuple[float, str]:
    """A cursor in the rows of the larger database, from the newest to the oldest."""
    return NOW - 10.0 * MANY * share, "req_"


QUERIES: dict[str, Callable[[Counted], object]] = {
    "first-page": lambda of: of.log.newest(limit=50),
    "middle-page": lambda of: of.log.newest(limit=50, before=at(0.12)),
    "oldest-first": lambda of: of.log.newest(limit=50, ascending=True),
    "search": lambda of: of.log.newest(limit=50, text="nothing", search_limit=500),
    "filter": lambda of: of.log.newest(limit=50, values={"category": "x"}, search_limit=500),
    "sorted": lambda of: of.log.newest(limit=50, sort="cost", search_limit=500),
    "key": lambda of: of.log.newest(
        limit=50, values={"client_key_hash": KEY, "category": "x"}, search_limit=300
    ),
    "figures": lambda of: of.log.figures(values={"category": "x"}, search_limit=500),
    "errors": lambda of: of.log.errors(limit=10),
    "one": lambda of: of.log.find(f"req_{MANY - 5:032x}"),
    "shadow-router": lambda of: of.quality.shadow_comparison(
        0.0, threshold=0.5, local_price=Price()
    ),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_work_does_not_grow_with_the_rows(
    urls: tuple[str, str],
    query: Callable[[Counted], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quality_queries, "MAX_COMPARED", 500)
    few, many = (Counted(url).steps(query) for url in urls)
    assert few > 0
    assert many <= 1.3 * few + 20 * STEPS_AT_ONCE


@pytest.mark.parametrize("ascending", [False, True], ids=["newest-first", "oldest-first"])
def test_a_later_page_is_no_more_work_than_the_first(
    urls: tuple[str, str], *, ascending: bool
) -> None:
    counted = Counted(urls[1])
    pages = [
        counted.steps(
            lambda of, share=share: of.log.newest(limit=50, before=at(share), ascending=ascending)
        )
        for share in (0.1, 0.5, 0.9)
    ]
    assert max(pages) <= 1.3 * min(pages) + 20 * STEPS_AT_ONCE


def test_spend_of_a_day_is_read_from_rollups(urls: tuple[str, str]) -> None:
    """The writer waits for this query, which runs every few seconds."""
    midnight = NOW // DAY * DAY
    few, many = (Counted(url) for url in urls)
    spent = few.lookups.spent_by_others(midnight)
    assert spent is not None
    assert spent[KEY] == pytest.approx(FEW // 6 * 0.001)
    steps = many.steps(lambda of: of.lookups.spent_by_others(midnight - DAY))
    assert steps < 3 * MANY  # a row alone takes more


def test_export_reads_each_row_once(urls: tuple[str, str]) -> None:
    few, many = (Counted(url) for url in urls)
    per_row = [
        each.steps(lambda of: list(of.log.export(0.0))) / number
        for each, number in ((few, FEW), (many, MANY))
    ]
    assert per_row[1] <= 1.3 * per_row[0]
    assert [row["id"] for row in many.log.export(0.0)] == [
        f"req_{number:032x}" for number in range(MANY)
    ]


# ── Retention ─────────────────────────────────────────────────────────────────────────────────


class Timer:
    """A clock in which each look takes a while."""

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self._seconds = seconds

    def __call__(self) -> float:
        self.now += self._seconds
        return self.now


def test_retention_stops_when_rows_have_waited_long_enough(url: str) -> None:
    step = writer._DELETED_AT_ONCE
    number = 3 * step + 7
    times = [NOW - 9 * DAY + 10.0 * index for index in range(number)]
    fill(url, [finished(created_at=time) for time in times] + [finished(created_at=NOW)])
    # The second look at the clock is within the time, the third is not.
    store = Store(
        config_of(url, retention_days=2),
        clock=lambda: NOW,
        timer=Timer(0.7 * writer._SWEEP_SECONDS),
    )
    store.prepare()
    left = []
    while not left or store._unswept:
        store._sweep()
        store._disconnect()
        left.append([row["created_at"] for row in read(url)])
    store.close()
    deleted = [step, step, step, 7]
    sizes = [len(rows) for rows in left]
    removed = [before - after for before, after in zip([number + 1, *sizes], sizes, strict=False)]
    assert [size for size in removed if size] == deleted
    assert all(rows == [*times, NOW][number + 1 - len(rows) :] for rows in left)
    assert len(left) > len(deleted)  # every table has its turn
    assert integrity_errors(url) == []


def test_retention_goes_on_after_an_error(url: str) -> None:
    fill(url, [finished(created_at=NOW - 9 * DAY)])
    now = NOW
    store = Store(config_of(url, retention_days=2), clock=lambda: now)
    store.prepare()
    execute(url, "ALTER TABLE requests RENAME TO renamed")
    store._sweep()
    execute(url, "ALTER TABLE renamed RENAME TO requests")
    store._sweep()
    assert len(read(url)) == 1  # not before the next hour
    now += 3_600
    store._sweep()
    while store._unswept:
        store._sweep()
    store._disconnect()
    store.close()
    assert read(url) == []
