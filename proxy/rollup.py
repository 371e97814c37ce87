"""Sums over many rows, for the tables `hours` and `spreads`: what a batch of rows adds to them.

    added = Rollup()
    for record in batch: added.add(record, category)
    added.write(database)

Sums only ever grow by adding, so any number of writers may do so, in any order.
"""

import math
from typing import Any, Final, Protocol

import peewee

from proxy.database import storable
from proxy.pricing import pico
from proxy.tables import DaySpread, Hour, Spread, split_columns

HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 86_400

# Durations fall into 20 buckets for each power of ten of their milliseconds: a quantile that is
# read off them is at most 6 % off. Scores fall into 100.
_PER_DECADE: Final = 20
SCORE_BUCKETS: Final = 100
DURATIONS: Final = ("decision_ms", "overhead_ms", "ttft_ms", "duration_ms")

_HOUR_SUMS: Final = len(split_columns(Hour)[1])

# By the key of a table, the hour or the day first; the sums in the order of its columns.
Sums = dict[tuple[Any, ...], list[int]]


class Row(Protocol):
    """What is summed of a request: a finished record, or a row of `requests`."""

    created_at: float
    endpoint: str
    target: Any
    model: str | None
    reason: Any
    ending: Any
    streamed: bool
    fallback_from: Any
    usage_source: Any
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    cloud_cost_usd: float | None
    saved_usd: float | None
    score: float | None
    decision_ms: float | None
    ttft_ms: float | None
    upstream_ms: float | None
    duration_ms: float | None


class Rollup:
    """What some rows add up to."""

    def __init__(self) -> None:
        self.hours: Sums = {}
        self.spreads: Sums = {}

    def add(self, row: Row, category: str | None) -> None:
        hour = int(row.created_at) // HOUR_SECONDS * HOUR_SECONDS
        target = row.target or ""
        key = (hour, row.endpoint, target, storable(row.model or ""), row.reason or "",
               row.ending or "", category or "")  # fmt: skip
        sums = self.hours.get(key)
        if sums is None:
            sums = self.hours[key] = [0] * _HOUR_SUMS
        cloud_cost = pico(row.cloud_cost_usd)
        sums[0] += 1
        sums[1] += row.streamed
        sums[2] += row.fallback_from is not None
        sums[3] += row.usage_source == "estimated"
        sums[4] += row.input_tokens or 0
        sums[5] += row.cached_input_tokens or 0
        sums[6] += row.output_tokens or 0
        sums[7] += row.reasoning_tokens or 0
        sums[8] += pico(row.cost_usd)
        sums[9] += cloud_cost
        sums[10] += pico(row.saved_usd)
        if row.score is not None:
            bucket = min(int(row.score * SCORE_BUCKETS), SCORE_BUCKETS - 1)
            self._count((hour, "score", target, bucket), cloud_cost)
        if row.decision_ms is not None:
            self._count((hour, "decision_ms", target, bucket_of(row.decision_ms)), cloud_cost)
        if row.ttft_ms is not None:
            self._count((hour, "ttft_ms", target, bucket_of(row.ttft_ms)), cloud_cost)
        if row.duration_ms is not None:
            self._count((hour, "duration_ms", target, bucket_of(row.duration_ms)), cloud_cost)
            overhead = row.duration_ms - (row.upstream_ms or 0.0)
            self._count((hour, "overhead_ms", target, bucket_of(overhead)), cloud_cost)

    def _count(self, key: tuple[Any, ...], cloud_cost: int) -> None:
        sums = self.spreads.get(key)
        if sums is None:
            sums = self.spreads[key] = [0, 0]
        sums[0] += 1
        sums[1] += cloud_cost

    @property
    def day_spreads(self) -> Sums:
        """The spreads of whole days."""
        days: Sums = {}
        for (hour, *rest), (requests, cloud_cost) in self.spreads.items():
            sums = days.setdefault((hour // DAY_SECONDS * DAY_SECONDS, *rest), [0, 0])
            sums[0] += requests
            sums[1] += cloud_cost
        return days

    def write(self, database: peewee.Database) -> None:
        """Add everything to the tables, within the caller's transaction."""
        add_sums(database, Hour, self.hours)
        add_sums(database, Spread, self.spreads)
        add_sums(database, DaySpread, self.day_spreads)


def add_sums(database: peewee.Database, table: type[peewee.Model], rows: Sums) -> None:
    """Add to what a table of sums has, within the caller's transaction."""
    if rows:
        # In one order everywhere: two writers that met crosswise would lock each other.
        values = [(*key, *added) for key, added in sorted(rows.items())]
        database.cursor().executemany(_add_sql(table, database.param), values)


def _add_sql(table: type[peewee.Model], param: str) -> str:
    name, (key, sums) = table._meta.table_name, split_columns(table)
    columns = [*key, *sums]
    added = ", ".join(f"{one} = {name}.{one} + excluded.{one}" for one in sums)
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join([param] * len(columns))}) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added}"
    )


def bucket_of(ms: float) -> int:
    """The bucket that a duration falls into; what is below a microsecond is as good as nothing."""
    return math.floor(math.log10(max(ms, 1e-3)) * _PER_DECADE)


def middle_of(bucket: int) -> float:
    """Milliseconds in the (geometric) middle of a bucket."""
    return float(10 ** ((bucket + 0.5) / _PER_DECADE))
