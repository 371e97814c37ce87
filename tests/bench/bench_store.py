"""What keeping rows costs: the writer, what the event loop feels of it, and questions to a million.

    make bench-store
    python tests/bench/bench_store.py --rows 1000000 [--url postgresql://…]
    python tests/bench/bench_store.py --postgresql   # a server of its own

The figures go to data/results as well. One process, as the proxy is one: the event
loop hands over rows at a steady rate while it measures how late its own timers are.
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
# Rows a second that the loop hands over: more than one process can serve, and as many as it must.
RATES = (2_000, 20_000)
SECONDS = 10
DAYS = 30
KINDS = 5_000  # different records, of which rows are made
TICK_SECONDS = 0.002
BATCH = 1_000
WORDS = (
    "the model should answer this question about history or write python code that sorts a long "
    "list of numbers quickly and explain why it works for every input"
).split()


def draw(dice: random.Random) -> CallRecord:
    """A finished request like many: 40 words asked, 60 answered."""
    record = CallRecord("chat.completions")
    record.requested_model = "auto"
    record.target = dice.choice(list(Target))
    record.model = {"local": "phi3:latest", "cloud": "gpt-4o-mini"}[record.target]
    record.reason = dice.choice(
        [Reason.SCORE] * 12 + [Reason.FORCED, Reason.STICKY, Reason.CONTEXT]
    )
    record.score, record.threshold = dice.random(), 0.6
    record.p_local, record.p_cloud = 0.5, 0.7
    record.decision_ms = dice.lognormvariate(0.7, 0.5)
    record.ttft_ms = dice.lognormvariate(5.5, 0.8)
    record.upstream_ms = dice.lognormvariate(7.2, 0.9)
    record.status, record.streamed = 200, dice.random() < 0.6
    record.input_tokens, record.output_tokens = dice.randrange(10, 2_000), dice.randrange(1, 600)
    record.cached_input_tokens, record.usage_source = 0, UsageSource.UPSTREAM
    record.cost_usd = record.cloud_cost_usd = record.input_tokens * 150_000 / 10**12
    record.saved_usd = 0.0
    record.session_id = f"{dice.getrandbits(64):016x}"
    record.turns = [("user", " ".join(dice.choices(WORDS, k=40)))]
    record.response = " ".join(dice.choices(WORDS, k=60))
    failed = dice.random() < 0.02
    record.finish(Ending.UPSTREAM_ERROR if failed else Ending.OK)
    record.duration_ms = record.upstream_ms + 5
    return record


def again(record: CallRecord, created_at: float) -> CallRecord:
    """The same, as another request."""
    other = object.__new__(CallRecord)
    for name in CallRecord.__slots__:
        setattr(other, name, getattr(record, name))
    other.id, other.created_at = new_request_id(), created_at
    return other


async def measure_lag(seconds: float) -> list[float]:
    """How late timers are, in ms, one after the other."""
    late = []
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        await asyncio.sleep(TICK_SECONDS)
        late.append((time.perf_counter() - now - TICK_SECONDS) * 1e3)
    return late


async def feed(store: Store, records: list[CallRecord], rate: int) -> None:
    """Hand over records at a rate, in small steps as requests end."""
    handed = 0
    started = time.perf_counter()
    while handed < len(records):
        due = min(len(records), int((time.perf_counter() - started) * rate))
        for record in records[handed:due]:
            store.add(record)
        handed = due
        await asyncio.sleep(0.001)


async def bench_writer(config: StorageConfig, pool: list[CallRecord], rate: int) -> dict[str, Any]:
    """Rows at a steady rate, what is lost of them, and the loop's lag with and without writing."""

    def some(seconds: float) -> list[CallRecord]:
        """Records are made beforehand: they are not part of keeping them."""
        return [again(pool[one % KINDS], time.time()) for one in range(int(seconds * rate))]

    dropped: list[int] = []
    store = Store(config, on_dropped=dropped.append)
    # Handing over costs as much without a writer: only the thread's part is to be seen.
    idle = Store(config, max_pending=10**9, max_pending_chars=10**12)
    _, without = await asyncio.gather(feed(idle, some(SECONDS), rate), measure_lag(SECONDS))
    del idle
    records = some(SECONDS)
    store.open()
    await feed(store, some(2), rate)
    before, waiting = _rss_mb(), len(store._pending)
    started = time.perf_counter()
    _, writing = await asyncio.gather(feed(store, records, rate), measure_lag(SECONDS))
    took = time.perf_counter() - started
    written = len(records) + waiting - len(store._pending) - sum(dropped)
    after = _rss_mb()
    await asyncio.to_thread(store.close)
    return {
        "handed_over_per_second": rate,
        "written_per_second": round(written / took),
        "dropped": sum(dropped),
        "memory_growth_mb": round(after - before, 1),
        "lag_p50_ms": [round(_share(values, 0.5), 2) for values in (without, writing)],
        "lag_p99_ms": [round(_share(values, 0.99), 2) for values in (without, writing)],
    }


def fill(config: StorageConfig, pool: list[CallRecord], rows: int) -> float:
    """Write rows, spread over the last days as they would have come; rows a second."""
    store = Store(config)
    store.prepare()
    first = time.time() - DAYS * 86_400
    step = DAYS * 86_400 / rows
    started = time.perf_counter()
    for number in range(0, rows, BATCH):
        store._insert(
            [again(pool[one % KINDS], first + one * step) for one in range(number, number + BATCH)]
        )
    store._disconnect()
    return rows / (time.perf_counter() - started)


def bench_questions(config: StorageConfig) -> dict[str, float]:
    """Milliseconds of each question, the median of five."""
    stats = RequestQueries.open(config)
    log = RequestLog.sharing(stats)
    yesterday = time.time() - 86_400
    some = next(log.export(time.time() - 3_600))["id"]
    questions: dict[str, Callable[[], object]] = {
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
        "one request": lambda: log.find(some),
    }
    found = {}
    for name, ask in questions.items():
        times = []
        for _ in range(5):
            started = time.perf_counter()
            ask()
            times.append((time.perf_counter() - started) * 1e3)
        found[name] = statistics.median(times)
    return found


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
@click.option("--rows", default=1_000_000, show_default=True, help="How many the questions meet.")
@click.option("--url", help="Another database than a new SQLite file; it must be empty.")
@click.option("--postgresql", is_flag=True, help="A PostgreSQL of its own, without fsync.")
def main(rows: int, url: str | None, *, postgresql: bool) -> None:
    """Measure the store."""
    if postgresql:
        with PostgresServer() as server, server.new_database() as new:
            bench(rows, new)
    else:
        bench(rows, url)


def bench(rows: int, url: str | None) -> None:
    """Measure one database, print the figures and keep them."""
    sys.setswitchinterval(SWITCH_SECONDS)  # as `serve` does
    pool = [draw(random.Random(number)) for number in range(KINDS)]
    with tempfile.TemporaryDirectory() as folder:
        config = StorageConfig(url=url or f"sqlite:///{folder}/rows.db", retention_days=None)
        other = StorageConfig(url=url or f"sqlite:///{folder}/written.db", retention_days=None)
        filled = fill(config, pool, rows)
        questions = bench_questions(config)
        results = {
            "machine": f"{os.cpu_count()} cores, {_processor()}",
            "python": platform.python_version(),
            "database": "postgresql" if url else f"sqlite {sqlite3.sqlite_version}",
            "rows": rows,
            "filled_rows_per_second": filled,
            "questions_ms": questions,
            "writer": [asyncio.run(bench_writer(other, pool, rate)) for rate in RATES],
        }
    console = Console(width=100)
    table = Table("question", "ms", title=f"{rows:,} rows", box=None)
    for name, ms in questions.items():
        table.add_row(name, f"{ms:.1f}")
    console.print(table)
    console.print_json(json.dumps({k: v for k, v in results.items() if k != "questions_ms"}))
    name = "bench_store_postgresql.json" if url else "bench_store.json"
    (RESULTS / name).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
