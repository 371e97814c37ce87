"""The cost of storage: writing rows, event loop lag meanwhile, and queries over a million rows.

    make bench-store
    python tests/bench/bench_store.py --rows 1000000 [--url postgresql://…]
    python tests/bench/bench_store.py --postgresql   # on a temporary PostgreSQL

Writes the figures to data/results. Like the proxy it is one process: the event loop passes rows to
the writer at a steady rate and measures how late its own timers are.
"""

import asyncio
import json
import os
import platform
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from postgres import PostgresServer
from proxy.cli.options import DEFAULT_DIMENSIONS
from proxy.cli.tables import stats_report
from proxy.config import StorageConfig
from proxy.evaluation.queries import QualityQueries
from proxy.record import CallRecord, Ending, Reason, Target, UsageSource, new_request_id
from proxy.server.server import SWITCH_SECONDS
from proxy.storage.queries import RequestQueries
from proxy.storage.request_log import RequestLog
from proxy.storage.writer import Store

RESULTS = Path(__file__).parents[2] / "data" / "results"
# Rows per second: more than one process can serve, and more than the writer can write.
RATES = (2_000, 20_000)
SECONDS = 10
DAYS = 30
KINDS = 5_000  # different records, from which rows are made
TICK_SECONDS = 0.002
BATCH = 1_000
WORDS = (
    "the model should answer this question about history or write python code that sorts a long "
    "list of numbers quickly and explain why it works for every input"
).split()


def draw(rng: random.Random) -> CallRecord:
    """A typical finished request: a prompt of 40 words, an answer of 60."""
    record = CallRecord("chat.completions")
    record.requested_model = "auto"
    record.target = rng.choice(list(Target))
    record.model = {"local": "phi3:latest", "cloud": "gpt-4o-mini"}[record.target]
    record.reason = rng.choice([Reason.SCORE] * 12 + [Reason.FORCED, Reason.STICKY, Reason.CONTEXT])
    record.score = record.merit = rng.random()
    record.threshold = 0.6
    record.p_local, record.p_cloud = 0.5, 0.7
    record.decision_ms = rng.lognormvariate(0.7, 0.5)
    record.ttft_ms = rng.lognormvariate(5.5, 0.8)
    record.upstream_ms = rng.lognormvariate(7.2, 0.9)
    record.status, record.streamed = 200, rng.random() < 0.6
    record.input_tokens, record.output_tokens = rng.randrange(10, 2_000), rng.randrange(1, 600)
    record.cached_input_tokens, record.usage_source = 0, UsageSource.UPSTREAM
    record.cost_usd = record.cloud_cost_usd = record.input_tokens * 150_000 / 10**12
    record.saved_usd = 0.0
    record.session_id = f"{rng.getrandbits(64):016x}"
    record.turns = [("user", " ".join(rng.choices(WORDS, k=40)))]
    record.response = " ".join(rng.choices(WORDS, k=60))
    failed = rng.random() < 0.02
    record.finish(Ending.UPSTREAM_ERROR if failed else Ending.OK)
    record.duration_ms = record.upstream_ms + 5
    return record


def copy_of(record: CallRecord, created_at: float) -> CallRecord:
    """A copy with another id and time."""
    other = object.__new__(CallRecord)
    for name in CallRecord.__slots__:
        setattr(other, name, getattr(record, name))
    other.id, other.created_at = new_request_id(), created_at
    return other


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
        "lag_p50_ms": [round(_share(values, 0.5), 2) for values in (without, writing)],
        "lag_p99_ms": [round(_share(values, 0.99), 2) for values in (without, writing)],
    }


def fill(config: StorageConfig, pool: list[CallRecord], rows: int) -> float:
    """Write rows spread evenly over the last DAYS days; return rows per second."""
    store = Store(config)
    store.prepare()
    first = time.time() - DAYS * 86_400
    step = DAYS * 86_400 / rows
    started = time.perf_counter()
    for number in range(0, rows, BATCH):
        store._insert(
            [
                copy_of(pool[index % KINDS], first + index * step)
                for index in range(number, number + BATCH)
            ]
        )
    store._disconnect()
    return rows / (time.perf_counter() - started)


def bench_queries(config: StorageConfig) -> dict[str, float]:
    """Milliseconds of each query, the median of five."""
    stats = RequestQueries.open(config)
    log = RequestLog.sharing(stats)
    yesterday = time.time() - 86_400
    request_id = next(log.export(time.time() - 3_600))["id"]
    queries: dict[str, Callable[[], object]] = {
        "hybrid-llm stats": lambda: stats_report(stats, DEFAULT_DIMENSIONS, 0.0),
        "hybrid-llm stats --since 24h": lambda: stats_report(stats, DEFAULT_DIMENSIONS, yesterday),
        "total": stats.total,
        "by tier": lambda: stats.totals_by("target"),
        "by model": lambda: stats.totals_by("model"),
        "by day": lambda: stats.totals_by("day"),
        "by hour": lambda: stats.totals_by("hour"),
        "quantiles": stats.quantiles,
        "scores": stats.score_counts,
        "quality": QualityQueries.sharing(stats).quality,
        "one request": lambda: log.find(request_id),
    }
    medians = {}
    for name, query in queries.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            query()
            times.append((time.perf_counter() - started) * 1e3)
        medians[name] = statistics.median(times)
    return medians


def _share(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


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
@click.option("--url", help="An empty database to use instead of a new SQLite file.")
@click.option("--postgresql", is_flag=True, help="Use a temporary PostgreSQL without fsync.")
def main(rows: int, url: str | None, *, postgresql: bool) -> None:
    """Measure the store."""
    if postgresql:
        with PostgresServer() as server, server.new_database() as new:
            bench(rows, new)
    else:
        bench(rows, url)


def bench(rows: int, url: str | None) -> None:
    """Measure one database; print the figures and write them to a file."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as `serve` does
    pool = [draw(random.Random(number)) for number in range(KINDS)]
    with tempfile.TemporaryDirectory() as folder:
        config = StorageConfig(url=url or f"sqlite:///{folder}/rows.db", retention_days=None)
        write_config = StorageConfig(
            url=url or f"sqlite:///{folder}/written.db", retention_days=None
        )
        filled = fill(config, pool, rows)
        queries = bench_queries(config)
        results = {
            "machine": f"{os.cpu_count()} cores, {_processor()}",
            "python": platform.python_version(),
            "database": "postgresql" if url else f"sqlite {sqlite3.sqlite_version}",
            "rows": rows,
            "filled_rows_per_second": filled,
            "questions_ms": queries,
            "writer": [asyncio.run(bench_writer(write_config, pool, rate)) for rate in RATES],
        }
    console = Console(width=100)
    table = Table("question", "ms", title=f"{rows:,} rows", box=None)
    for name, ms in queries.items():
        table.add_row(name, f"{ms:.1f}")
    console.print(table)
    console.print_json(json.dumps({k: v for k, v in results.items() if k != "questions_ms"}))
    name = "bench_store_postgresql.json" if url else "bench_store.json"
    (RESULTS / name).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
