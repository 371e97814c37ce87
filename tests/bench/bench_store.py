"""The cost of storage: queries over millions of rows, writing, and what retention does to writers.

    make bench-store ROWS=10000000           # on SQLite, then on a temporary PostgreSQL
    python tests/bench/bench_store.py --rows 1000000 [--postgresql] [--folder FOLDER]

Writes the figures to data/results. Like the proxy it is one process: the event loop passes rows to
the writer at a steady rate and measures how late its own timers are. With a folder, the filled
database is kept there for the next run. Ten million rows need 14 GB, and 30 GB while PostgreSQL
fills.
"""

import asyncio
import contextlib
import itertools
import json
import os
import platform
import resource
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import quantile
from postgres import PostgresServer
from proxy.budget import Price
from proxy.cli.options import BY_KEY, DEFAULT_DIMENSIONS
from proxy.cli.tables import stats_report
from proxy.config import StorageConfig
from proxy.evaluation.queries import QualityQueries
from proxy.record import DAY_SECONDS, CallRecord, key_hash
from proxy.server.server import SWITCH_SECONDS
from proxy.storage.database import close_all, open_database
from proxy.storage.maintenance import Maintenance
from proxy.storage.queries import RequestQueries, start_of_day
from proxy.storage.recent import RecentRequests
from proxy.storage.request_log import RequestLog
from proxy.storage.tables import Feedback, Request
from proxy.storage.writer import Store
from proxy.web.dashboard_api import errors, judged, overview
from proxy.web.dashboard_query import SPANS, Filters, Period
from proxy.web.headline import headline
from stored_rows import DAYS, KEY_TEXTS, KINDS, copy_of, draw_pool, fill

RESULTS: Final = Path(__file__).parents[2] / "data" / "results"
# Rows per second: more than one process can serve, and more than the writer can write.
RATES: Final = (2_000, 20_000)
SECONDS: Final = 10
TICK_SECONDS: Final = 0.002
TIMES: Final = 5  # each query
BATCH: Final = 1_000
BATCHES: Final = 30  # written to the filled database
OLD_ROWS: Final = 30_000  # that retention deletes
RETENTION_RATE: Final = 500  # rows per second meanwhile
OTHER_SECONDS: Final = 0.01  # between two writes of another connection
LIMIT_MS: Final = 300  # of every query
PAUSE_LIMIT_MS: Final = 100  # of every writer
SETTINGS: Final = "shared_buffers = 1GB\nmax_wal_size = 1GB"  # as for a machine with 4 GB
KEY: Final = key_hash(KEY_TEXTS[7])
PARTS: Final = ("p50", "max")
# Of the report: beginnings of the names in `named_queries`.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "dashboard, by time range": ("dashboard of ",),
    "dashboard, filtered or searched": tuple(f"dashboard {name}, " for name in SPANS),
    "list of requests: first, middle, last page": ("list",),
    "search": ("search",),
    "one request": ("one",),
    "errors by cause": ("errors",),
    "answer quality, threshold curve": ("quality", "threshold curve"),
    "keys, usage": ("keys", "usage"),
    "all of `hybrid-llm stats`": ("hybrid-llm stats",),
    "comparison with a shadow router": ("shadow router",),
    "what the proxy reads itself": ("spend", "today's spend", "a conversation", "headline"),
}


async def measure_lag(seconds: float) -> list[float]:
    """Milliseconds by which consecutive timers are late."""
    late = []
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(TICK_SECONDS)
        late.append((time.perf_counter() - now - TICK_SECONDS) * 1e3)
    return late


async def feed(store: Store, records: list[CallRecord], rate: int) -> None:
    """Add records at a steady rate, in small steps."""
    added = 0
    started = time.perf_counter()
    while added < len(records):
        due = min(len(records), int((time.perf_counter() - started) * rate))
        for record in records[added:due]:
            store.add(record)
        added = due
        await asyncio.sleep(0.001)


async def bench_writer(config: StorageConfig, pool: list[CallRecord], rate: int) -> dict[str, Any]:
    """Measure dropped rows, and the lag of the loop with and without writing, at a steady rate."""

    def make_records(seconds: float) -> list[CallRecord]:
        """Records are made beforehand, because making them is not part of storing them."""
        return [copy_of(pool[index % KINDS], time.time()) for index in range(int(seconds * rate))]

    dropped: list[int] = []
    store = Store(config, on_dropped=dropped.append)
    # Adding costs the same without a writer; the difference is the writer thread.
    idle = Store(config, max_pending=10**9, max_pending_chars=10**12)
    _, without = await asyncio.gather(feed(idle, make_records(SECONDS), rate), measure_lag(SECONDS))
    del idle
    records = make_records(SECONDS)
    store.open()
    await feed(store, make_records(2), rate)
    before, waiting = _rss_mb(), len(store._pending)
    started = time.perf_counter()
    _, writing = await asyncio.gather(feed(store, records, rate), measure_lag(SECONDS))
    seconds = time.perf_counter() - started
    written = len(records) + waiting - len(store._pending) - sum(dropped)
    after = _rss_mb()
    await asyncio.to_thread(store.close)
    return {
        "handed_over_per_second": rate,
        "written_per_second": round(written / seconds),
        "dropped": sum(dropped),
        "memory_growth_mb": round(after - before, 1),
        "lag_p50_ms": [round(quantile(values, 0.5), 2) for values in (without, writing)],
        "lag_p99_ms": [round(quantile(values, 0.99), 2) for values in (without, writing)],
    }


def open_queries(config: StorageConfig) -> RequestQueries:
    """The queries at the time of the newest row: the rows of a kept database are older than now."""
    stats = RequestQueries.open(config)
    ((newest,),) = list(stats.database.execute_sql("SELECT max(created_at) FROM requests"))
    stats.clock = lambda: newest
    return stats


def named_queries(stats: RequestQueries, store: Store) -> dict[str, Callable[[], object]]:
    """What the pages, the command line and the background tasks ask, by what is printed."""
    log, quality = RequestLog.sharing(stats), QualityQueries.sharing(stats)
    recent = RecentRequests.sharing(stats)
    now = stats.clock()
    middle = now - DAYS * DAY_SECONDS / 2, "req_"
    last = now - 0.9999 * DAYS * DAY_SECONDS, "req_"
    new_id = log.newest(limit=1).rows[0]["id"]
    old_id = log.newest(limit=1, before=middle).rows[0]["id"]
    periods = {
        name: Period(name, 0.0 if seconds is None else now - seconds)
        for name, seconds in SPANS.items()
    }
    filters: list[dict[str, str]] = [
        {"target": "local"}, {"reason": "forced"}, {"ending": "upstream_error"},
        {"category": "code"}, {"model": "gpt-4o-mini"}, {"client_key_hash": KEY},
        {"error_code": "rate_limited"}, {"second_look": "kept"},
    ]  # fmt: skip
    none = Filters({}, "")
    queries: dict[str, Callable[[], object]] = {}

    def add(name: str, query: Callable[..., object], *arguments: Any, **named: Any) -> None:
        queries[name] = lambda: query(*arguments, **named)

    for name, period in periods.items():
        hours = period.in_full_hours()
        add(f"dashboard of {name}", overview, stats, log, period, none)
        add(f"errors {name}", errors, log, stats, period)
        add(f"quality {name}", judged, quality, period)
        add(f"threshold curve {name}", quality.weighted_pairs, period.since)
        add(
            f"keys {name}",
            lambda hours: (
                stats.totals_by_key(hours.since),
                stats.totals_by_key(start_of_day(now)),
                stats.last_used(),
            ),
            hours,
        )
        add(
            f"usage {name}",
            lambda hours: (
                stats.totals_by_key(hours.since, key_hash=KEY),
                stats.last_used(key_hash=KEY),
                stats.key_series(KEY, hours.since),
                log.newest(limit=20, values={"client_key_hash": KEY}),
            ),
            hours,
        )
        add(f"hybrid-llm stats, {name}", stats_report, stats, DEFAULT_DIMENSIONS, period.since)
        add(f"hybrid-llm stats --by key, {name}", stats_report, stats, (BY_KEY,), period.since)
        add(
            f"shadow router {name}",
            quality.shadow_comparison, period.since, threshold=0.6, local_price=Price(),
        )  # fmt: skip
    for values in filters:
        text = ", ".join(f"{name}={value}" for name, value in values.items())
        add(f"dashboard all, {text}", overview, stats, log, periods["all"], Filters(values, ""))
        add(f"dashboard 24h, {text}", overview, stats, log, periods["24h"], Filters(values, ""))
        add(f"list, {text}", log.newest, limit=50, values=values)
        add(f"list, {text}, middle", log.newest, limit=50, values=values, before=middle)
    add("dashboard 7d, search", overview, stats, log, periods["7d"], Filters({}, "not in any"))
    add("list", log.newest, limit=50)
    add("list, middle", log.newest, limit=50, before=middle)
    add("list, last page", log.newest, limit=50, before=last)
    add("list, oldest first", log.newest, limit=50, ascending=True)
    add("list, oldest first, middle", log.newest, limit=50, ascending=True, before=middle)
    for sort in ("cost", "duration", "tokens", "score"):
        add(f"list by {sort}", log.newest, limit=50, sort=sort)
    add("search, nothing found", log.newest, limit=50, text="not in any")
    add("search, middle", log.newest, limit=50, text="not in any", before=middle)
    add("search, one key", log.newest, limit=50, text="no", values={"client_key_hash": KEY})
    add("one request", log.find, new_id)
    add("one old request", log.find, old_id)
    add("headline", headline, stats, now)
    add("preview of a threshold", recent.scored)
    add("preview of rules", lambda: list(recent.routed()))
    add("spend by hour", stats.spend_by_hour, now - 15 * DAY_SECONDS)
    add("today's spend by key", store.lookups.spent_by_others, start_of_day(now))
    add("a conversation", store.lookups.find_answer, [f"{n:032x}" for n in range(20)], now - 3_600)
    add("export of 1,000", lambda: list(itertools.islice(log.export(now - DAY_SECONDS), 1_000)))
    return queries


def bench_queries(config: StorageConfig) -> dict[str, dict[str, float]]:
    """Milliseconds of each query: the median, and the longest, which is often the first."""
    store = Store(config)
    measured = {}
    with open_queries(config) as stats:
        for name, query in named_queries(stats, store).items():
            times = []
            for _ in range(TIMES):
                started = time.perf_counter()
                query()
                times.append((time.perf_counter() - started) * 1e3)
            measured[name] = {
                "p50": round(statistics.median(times), 1), "max": round(max(times), 1)
            }  # fmt: skip
    close_all(store.database)
    return measured


def bench_full(config: StorageConfig, pool: Sequence[CallRecord]) -> dict[str, float]:
    """Write batches to the filled database, whose indexes are large."""
    store = Store(config)
    times = []
    store.prepare()
    for number in range(BATCHES):
        batch = [copy_of(pool[(number * BATCH + n) % KINDS], time.time()) for n in range(BATCH)]
        started = time.perf_counter()
        store._insert(batch)
        times.append((time.perf_counter() - started) * 1e3)
    store._disconnect()
    close_all(store.database)
    return {
        "rows_per_second": round(BATCH * BATCHES / sum(times) * 1e3),
        "batch_p50_ms": round(statistics.median(times), 1),
        "batch_max_ms": round(max(times), 1),
    }


class TimedStore(Store):
    """A store that notes for how long its rows waited."""

    def __init__(self, config: StorageConfig) -> None:
        super().__init__(config)
        self.pauses_ms: list[float] = []  # by steps of retention
        self.inserts_ms: list[float] = []

    def _sweep(self) -> None:
        started = time.perf_counter()
        super()._sweep()
        self.pauses_ms.append((time.perf_counter() - started) * 1e3)

    def _insert(self, batch: Sequence[CallRecord]) -> None:
        started = time.perf_counter()
        super()._insert(batch)
        self.inserts_ms.append((time.perf_counter() - started) * 1e3)


@contextlib.contextmanager
def other_writer(config: StorageConfig) -> Iterator[list[float]]:
    """Writes of another connection, such as another worker's: the milliseconds of each."""
    database = open_database(config)
    stopping, times = threading.Event(), []

    def write() -> None:
        with database.connection_context():
            while not stopping.wait(OTHER_SECONDS):
                started = time.perf_counter()
                Feedback.insert(
                    request_id="req_other", created_at=time.time(), rating=1.0
                ).on_conflict(
                    conflict_target=[Feedback.request_id], preserve=[Feedback.created_at]
                ).execute(database)
                times.append((time.perf_counter() - started) * 1e3)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield times
    finally:
        stopping.set()
        thread.join()
        close_all(database)


def bench_retention(config: StorageConfig, pool: list[CallRecord]) -> dict[str, Any]:
    """Rows that are written while retention deletes others, and without."""
    with open_queries(config) as stats:
        oldest = Request.select(Request.created_at).order_by(Request.created_at)
        ((cut,),) = oldest.offset(OLD_ROWS).limit(1).tuples().execute(stats.database)
    results: dict[str, Any] = {}
    for name, days in (("without", None), ("with", (time.time() - cut) / DAY_SECONDS)):
        store = TimedStore(msgspec.structs.replace(config, retention_days=days))
        records = [
            copy_of(pool[index % KINDS], time.time()) for index in range(SECONDS * RETENTION_RATE)
        ]
        with other_writer(config) as others:
            store.open()
            asyncio.run(feed(store, records, RETENTION_RATE))
            store.close()
        results[name] = {
            "longest_pause_ms": round(max(store.pauses_ms), 1),
            "batch_ms": _summary(store.inserts_ms),
            "other_connection_ms": _summary(others),
        }
    with open_queries(config) as stats:
        old = Request.select().where(Request.created_at <= cut).bind(stats.database)
        results["rows_deleted"] = OLD_ROWS + 1 - old.count()
    return results


def bench_check(config: StorageConfig) -> dict[str, Any]:
    """`hybrid-llm db check --repair` of one day, and writes meanwhile."""
    with open_queries(config) as stats:
        day = start_of_day(stats.clock() - 10 * DAY_SECONDS)
    with Maintenance.open(config) as maintenance, other_writer(config) as others:
        started = time.perf_counter()
        problems = maintenance._check_day(day, repair=True)
        seconds = time.perf_counter() - started
    return {
        "problems": len(problems),
        "seconds_per_day": round(seconds, 1),
        "other_connection_ms": _summary(others),
    }


def _summary(values: list[float]) -> dict[str, float]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(quantile(values, share), 1) for name, share in shares.items()}


def _rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Rows in the database.")
@click.option("--postgresql", is_flag=True, help="Use a PostgreSQL of its own, without fsync.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the filled database here, and use it again.",
)
@click.option("--report", "only_report", is_flag=True, help="Print a table of the last results.")
@click.option("--fill", "only_fill", is_flag=True, help="Only fill the database of --folder.")
def main(
    rows: int, folder: Path | None, *, postgresql: bool, only_report: bool, only_fill: bool
) -> None:
    """Measure the store."""
    if only_report:
        print(report())
        return
    sys.setswitchinterval(SWITCH_SECONDS)  # as `serve` does
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if postgresql:
            folder.chmod(0o755)  # the server is another user
            server = stack.enter_context(PostgresServer(folder / "postgres", settings=SETTINGS))
            url, empty = server.kept_database(), stack.enter_context(server.new_database())
        else:
            url = f"sqlite:///{folder.resolve()}/rows.db"
            written = stack.enter_context(tempfile.TemporaryDirectory())
            empty = f"sqlite:///{written}/written.db"
        config, pool = StorageConfig(url=url, retention_days=None), draw_pool()
        filling_seconds = prepare(config, pool, rows)
        if only_fill:
            return
        results = {
            "machine": f"{os.cpu_count()} cores, {_processor()}",
            "python": platform.python_version(),
            "database": describe(config),
            "rows": rows,
            "filling_seconds": filling_seconds,
            "questions_ms": bench_queries(config),
            "retention": bench_retention(config, pool),
            "check": bench_check(config),
            "filled_writer": bench_full(config, pool),
            "writer": [
                asyncio.run(bench_writer(StorageConfig(url=empty, retention_days=None), pool, rate))
                for rate in RATES
            ],
        }
    show(results)
    name = "bench_store_postgresql.json" if postgresql else "bench_store.json"
    (RESULTS / name).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def prepare(config: StorageConfig, pool: Sequence[CallRecord], rows: int) -> float | None:
    """Fill the database unless it is full. Returns the seconds, or None."""
    store = Store(config)
    store.prepare()
    with store.database.connection_context():
        ((known,),) = store.database.execute_sql(
            "SELECT coalesce(sum(requests), 0) FROM hours"
        ).fetchall()
    close_all(store.database)
    if known >= rows:
        return None
    if known:
        raise click.ClickException(f"the kept database has {known:,} rows: delete it first")
    started = time.perf_counter()
    fill(config, pool, rows)
    return round(time.perf_counter() - started, 1)


def describe(config: StorageConfig) -> str:
    database = open_database(config, read_only=True)
    if not config.url.is_postgresql:
        return f"sqlite {sqlite3.sqlite_version}"
    with database.connection_context():
        ((version,),) = database.execute_sql("SHOW server_version").fetchall()
    close_all(database)
    return f"postgresql {version.split()[0]}, {SETTINGS.splitlines()[0]}"


def report() -> str:
    """A Markdown table of both databases' results: the slowest query of each group."""
    files = ("bench_store.json", "bench_store_postgresql.json")
    found = [json.loads((RESULTS / name).read_text(encoding="utf-8")) for name in files]
    lines = [
        "| ms | SQLite: median | longest | PostgreSQL: median | longest |",
        "|---|---:|---:|---:|---:|",
    ]
    for title, beginnings in GROUPS.items():
        cells = []
        for results in found:
            group = [
                ms for name, ms in results["questions_ms"].items() if name.startswith(beginnings)
            ]
            cells += [max(ms[part] for ms in group) for part in PARTS]
        lines.append(f"| {title} | {' | '.join(f'{ms:.0f}' for ms in cells)} |")
    for title, key in (
        ("a batch of rows", "batch_ms"),
        ("a write of another connection", "other_connection_ms"),
    ):
        for name in ("without", "with"):
            cells = [results["retention"][name][key][part] for results in found for part in PARTS]
            cells_text = " | ".join(f"{ms:.1f}" for ms in cells)
            lines.append(f"| {title}, {name} retention | {cells_text} |")
    pauses = [results["retention"]["with"]["longest_pause_ms"] for results in found]
    lines.append(f"| a pause of the writer by retention | | {pauses[0]:.0f} | | {pauses[1]:.0f} |")
    return "\n".join(lines)


def show(results: dict[str, Any]) -> None:
    console = Console(width=100)
    title = f"{results['rows']:,} rows, {results['database']}"
    table = Table("query", "p50, ms", "max, ms", title=title, box=None)
    for name, ms in results["questions_ms"].items():
        slow = " (!)" if ms["p50"] > LIMIT_MS else ""
        table.add_row(name, f"{ms['p50']:.1f}{slow}", f"{ms['max']:.1f}")
    console.print(table)
    console.print_json(json.dumps({k: v for k, v in results.items() if k != "questions_ms"}))
    pause = results["retention"]["with"]["longest_pause_ms"]
    if pause > PAUSE_LIMIT_MS:
        console.print(f"retention delayed rows by {pause:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
