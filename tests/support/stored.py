"""Shared by tests of the database: records, a store to write them, and queries.

    with opened(url) as store:
        store.add(finished(model="gpt-4o-mini"))
    (row,) = read(url)

All of it works with SQLite and PostgreSQL.
"""

import bisect
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import peewee

from proxy.config import StorageConfig
from proxy.record import (
    PICODOLLARS,
    CallRecord,
    Ending,
    Reason,
    SecondLookResult,
    Target,
    UsageSource,
)
from proxy.storage.database import close_all, insert_rows, open_database
from proxy.storage.maintenance import Maintenance
from proxy.storage.writer import Store
from router_model.evidence import Evidence

NOW: Final = 1_800_000_000.0
HOUR: Final = 3_600
DAY: Final = 86_400.0
PATIENCE_SECONDS: Final = 20.0  # far longer than working code takes

Row = dict[str, Any]
Grade = tuple[str, float, str, float, str]  # request, when, tier, score, judge


def finished(**values: object) -> CallRecord:
    """A record of a finished request.

    Unless given, `ending` is `ok`, and the merit is the score.
    """
    record = CallRecord("chat.completions")
    record.finish(Ending.OK)
    values.setdefault("merit", values.get("score"))
    for name, value in values.items():
        setattr(record, name, value)
    return record


def random_record(rng: random.Random, *, hours: float = 50) -> CallRecord:
    """A record with random valid values, from the hours before NOW."""

    def optional(value: Any) -> Any:
        return value if rng.random() < 0.8 else None

    target = rng.choice([Target.LOCAL, Target.CLOUD, None])
    cost = rng.randrange(10**10)
    return finished(
        created_at=NOW - rng.random() * hours * HOUR,
        endpoint=rng.choice(["chat.completions", "responses", "embeddings"]),
        requested_model=optional("auto"),
        target=target,
        model=optional(rng.choice(["phi3:latest", "gpt-4o-mini", "größer"])) if target else None,
        reason=rng.choice([*Reason]) if target else None,
        ending=rng.choice([*Ending]),
        streamed=rng.random() < 0.5,
        fallback_from=None if target is None or rng.random() < 0.8 else target.other,
        usage_source=rng.choice([*UsageSource, None]),
        input_tokens=optional(rng.randrange(100_000)),
        cached_input_tokens=optional(rng.randrange(1_000)),
        output_tokens=optional(rng.randrange(10_000)),
        reasoning_tokens=optional(rng.randrange(1_000)),
        cost_usd=optional(cost / PICODOLLARS),
        cloud_cost_usd=optional((cost + rng.randrange(10**12)) / PICODOLLARS),
        saved_usd=optional(rng.randrange(-(10**9), 10**12) / PICODOLLARS),
        score=(score := optional(rng.choice([rng.random(), 0.0, 1.0]))),
        merit=None if score is None else optional(rng.choice([rng.random(), 0.9999])),
        threshold=optional(0.5),
        decision_ms=optional(rng.lognormvariate(0.5, 0.8)),
        ttft_ms=optional(rng.lognormvariate(5, 1)),
        upstream_ms=optional(rng.lognormvariate(6, 1)),
        duration_ms=rng.lognormvariate(7, 1.2),
        turns=optional([("user", rng.choice(["A poem!", "2 + 2 = ?", "Hello", "Fix the bug"]))]),
        response=optional("An answer"),
        client_key_hash=optional(rng.choice(["one", "other"])),
        session_id=optional("s"),
        failed_check="cut_off" if cost % 5 == 0 else None,
        discarded_tokens=cost % 1_000 if cost % 10 == 0 else None,
        **(_second_look(cost) if cost % 7 == 0 else {}),
    )


def _second_look(number: int) -> dict[str, Any]:
    """Values of a second look, chosen by a number."""
    share = number % 1_000 / 1_000
    return {
        "second_look": [*SecondLookResult][number % len(SecondLookResult)],
        "evidence": Evidence(broken=number % 2 == 0, margin=3 * share, tokens=number % 300),
        "verified_score": share,
        "verified_merit": 1 - share,
        "second_look_ms": 2_000 * share,
    }


def random_records(number: int, seed: int = 0) -> list[CallRecord]:
    rng = random.Random(seed)
    return [random_record(rng) for _ in range(number)]


def config_of(url: str, **fields: Any) -> StorageConfig:
    return StorageConfig(url=url, **fields)


@contextlib.contextmanager
def opened(
    url: str,
    *,
    prompts: Literal["full", "hash", "none"] = "full",
    retention_days: float | None = None,
    **arguments: Any,
) -> Iterator[Store]:
    """A running store, which writes everything at the end of the block."""
    store = Store(config_of(url, prompts=prompts, retention_days=retention_days), **arguments)
    store.open()
    try:
        yield store
    finally:
        store.close()


def migrate(url: str) -> None:
    """Create the database if it is missing."""
    with opened(url):
        pass


def fill(url: str, records: list[CallRecord]) -> None:
    """Create the database if it is missing, and write records."""
    with opened(url, max_pending=len(records)) as store:
        for record in records:
            store.add(record)


@contextlib.contextmanager
def connected(url: str) -> Iterator[peewee.Database]:
    """A separate connection to the database."""
    database = open_database(config_of(url))
    try:
        with database.connection_context():
            yield database
    finally:
        close_all(database)


def add_judgements(url: str, grades: list[Grade]) -> None:
    """Write judgements as the judge does."""
    names = ("request_id", "created_at", "target", "model", "score", "judge_model")
    rows = [(key, at, tier, f"{tier}-model", *rest) for key, at, tier, *rest in grades]
    with connected(url) as database, database.atomic():
        insert_rows(database, "judgements", names, rows)


def read(url: str, sql: str = "SELECT * FROM requests ORDER BY created_at, id") -> list[Row]:
    with connected(url) as database:
        cursor = database.execute_sql(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def execute(url: str, *statements: str) -> None:
    with connected(url) as database:
        for statement in statements:
            database.execute_sql(statement)


def corrupt(url: str) -> None:
    """Overwrite some pages in the middle of a SQLite file, which must be closed."""
    with Path(url.removeprefix("sqlite:///")).open("r+b") as file:
        file.seek(64 * 4096)
        file.write(b"\xff" * 8 * 4096)


def integrity_errors(url: str) -> list[str]:
    """The findings of `hybrid-llm db check`."""
    with Maintenance.open(config_of(url)) as maintenance:
        return maintenance.check()


def until(met: Callable[[], bool]) -> None:
    """Wait for another thread, with a generous timeout."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ── Expected rollups ──────────────────────────────────────────────────────────────────────────


def picodollars(usd: float | None) -> int:
    """A row's dollars as an exact integer, by decimals instead of floats."""
    return int((Decimal(repr(usd or 0.0)) * PICODOLLARS).to_integral_value())


def hours_of(rows: list[Row]) -> dict[tuple[Any, ...], list[int]]:
    """The expected rows of `hours`, by plain addition."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        names = ("endpoint", "target", "model", "reason", "ending", "category")
        key = (int(row["created_at"] // HOUR) * HOUR, *(row[name] or "" for name in names))
        counts = [
            1,
            int(row["streamed"]),
            int(row["fallback_from"] is not None),
            int(row["usage_source"] == "estimated"),
            row["input_tokens"] or 0,
            row["cached_input_tokens"] or 0,
            row["output_tokens"] or 0,
            row["reasoning_tokens"] or 0,
            picodollars(row["cost_usd"]),
            picodollars(row["cloud_cost_usd"]),
            picodollars(row["saved_usd"]),
        ]
        sums[key] = [a + b for a, b in zip(sums.get(key, [0] * 11), counts, strict=True)]
    return sums


def spreads_of(rows: list[Row]) -> dict[tuple[Any, ...], list[int]]:
    """The expected rows of `spreads`: 20 buckets for each power of ten, 100 of scores and merits.

    Rows without a merit are in neither of the latter.
    """
    edges = [10 ** (number / 20) for number in range(-60, 200)]
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        measures = {name: row[name] for name in ("decision_ms", "ttft_ms", "duration_ms")}
        measures["overhead_ms"] = row["duration_ms"] - (row["upstream_ms"] or 0.0)
        buckets = {
            name: max(bisect.bisect_right(edges, ms) - 61, -60)
            for name, ms in measures.items()
            if ms is not None
        }
        if row["merit"] is not None:
            for name in ("score", "merit"):
                buckets[name] = min(int(row[name] * 100), 99)
        for name, bucket in buckets.items():
            key = (int(row["created_at"] // HOUR) * HOUR, name, row["target"] or "", bucket)
            before, cost = sums.get(key, [0, 0])
            sums[key] = [before + 1, cost + picodollars(row["cloud_cost_usd"])]
    return sums


def days_of(spreads: dict[tuple[Any, ...], list[int]]) -> dict[tuple[Any, ...], list[int]]:
    """The expected rows of `day_spreads`, from those of `spreads`."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for (hour, *rest), (requests, cost) in spreads.items():
        key = (int(hour // DAY * DAY), *rest)
        before, cost_before = sums.get(key, [0, 0])
        sums[key] = [before + requests, cost_before + cost]
    return sums


def key_hours_of(rows: list[Row], seconds: int = HOUR) -> dict[tuple[Any, ...], list[int]]:
    """The expected rows of `key_hours`, or with the seconds of a day those of `key_days`."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        if row["client_key_hash"] is None:
            continue
        begins = int(row["created_at"] // seconds) * seconds
        key = (begins, row["client_key_hash"], row["target"] or "", row["ending"])
        counts = [
            1,
            *(row[f"{kind}_tokens"] or 0 for kind in ("input", "cached_input", "output")),
            *(picodollars(row[name]) for name in ("cost_usd", "cloud_cost_usd", "saved_usd")),
        ]
        sums[key] = [a + b for a, b in zip(sums.get(key, [0] * 7), counts, strict=True)]
    return sums


def stored_sums(url: str, table: str, keys: int) -> dict[tuple[Any, ...], list[int]]:
    """A rollup table as a mapping from its first `keys` columns."""
    rows = [tuple(row.values()) for row in read(url, f"SELECT * FROM {table}")]
    return {row[:keys]: list(row[keys:]) for row in rows}


def check_rollups(url: str) -> None:
    """The rollups equal those calculated from the rows, and `db check` finds no errors."""
    rows = read(url)
    assert stored_sums(url, "hours", 7) == hours_of(rows)
    spreads = spreads_of(rows)
    assert stored_sums(url, "spreads", 4) == spreads
    assert stored_sums(url, "day_spreads", 4) == days_of(spreads)
    assert stored_sums(url, "key_hours", 4) == key_hours_of(rows)
    assert stored_sums(url, "key_days", 4) == key_hours_of(rows, int(DAY))
    assert integrity_errors(url) == []


def write_on_input(url: str, seed: int, number: int) -> None:
    """For a separate process: prints `ready`, and writes after a line of input."""
    records = random_records(number, seed)
    with opened(url, max_pending=number) as store:
        print("ready", flush=True)
        input()
        for record in records:
            store.add(record)
