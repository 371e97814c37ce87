"""Rollups: totals and histograms of hours and days, for the tables `hours`, `spreads`,
`day_spreads`, `key_hours` and `key_days`.

    added = Rollup()
    for record in batch: added.add(record, category)
    added.write(database)

Sums only grow by addition, so any number of writers may add to them in any order.
"""

import itertools
import operator
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import peewee

from proxy.record import DAY_SECONDS, HOUR_SECONDS, PICODOLLARS, Ending
from proxy.storage.database import storable
from proxy.storage.tables import (
    DailyHistogram,
    DailyKeyTotals,
    HourlyHistogram,
    HourlyKeyTotals,
    HourlyTotals,
    Request,
    split_columns,
)

# Durations (ms) have 20 buckets per power of ten, so a percentile is off by at most 6 %. Scores and
# merits have 100 buckets.
_PER_DECADE: Final = 20
SCORE_BUCKETS: Final = 100
DURATIONS: Final = ("decision_ms", "overhead_ms", "ttft_ms", "duration_ms")

_FIRST_BUCKET: Final = -3 * _PER_DECADE
_LAST_BUCKET: Final = 12 * _PER_DECADE
# Compare with bounds: the last digit of a logarithm differs between machines.
_BOUNDS: Final = np.array(
    [10 ** (bucket / _PER_DECADE) for bucket in range(_FIRST_BUCKET + 1, _LAST_BUCKET + 1)]
)
_UNKNOWN: Final = np.iinfo(np.int64).min

# Rollups are never deleted, so a client must not fill them with names that it invents.
OTHER_MODELS: Final = "other"
MAX_MODEL_CHARS: Final = 200

_ROWS_AT_ONCE: Final = 5_000
_SUMS_AT_ONCE: Final = 100

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Sums in the order of a table's columns, by its key, which begins with the hour or day.
KeyedSums = dict[tuple[Any, ...], list[int]]


class RollupRow(Protocol):
    """The fields of a finished record, or of a row of `requests`, that a rollup reads."""

    created_at: float
    client_key_hash: str | None
    endpoint: str
    target: Any
    requested_model: str | None
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
    merit: float | None
    decision_ms: float | None
    ttft_ms: float | None
    upstream_ms: float | None
    duration_ms: float | None


COLUMNS: Final = (*RollupRow.__annotations__, "category")
_values = operator.attrgetter(*RollupRow.__annotations__)


class Rollup:
    """The totals and histograms of a batch of rows.

    Args:
        seconds: the length of an "hour".
        distributions: whether to fill the histograms, which takes most of the time.

    Attributes:
        invented: the hours and names of models that clients chose and that did not answer.
    """

    def __init__(self, *, seconds: int = HOUR_SECONDS, distributions: bool = True) -> None:
        self._seconds = seconds
        self._has_distributions = distributions
        self._hours: KeyedSums = {}
        self._histograms: KeyedSums = {}
        self._key_hours: KeyedSums = {}
        self._rows: list[tuple[Any, ...]] = []  # not yet in the sums
        self.invented: set[tuple[int, str]] = set()

    def add(self, row: RollupRow, category: str | None) -> None:
        self.add_values((*_values(row), category))

    def add_values(self, values: tuple[Any, ...]) -> None:
        """Add a row by its values of `COLUMNS`."""
        self._rows.append(values)
        if len(self._rows) >= _ROWS_AT_ONCE:
            self._sum_up()

    @property
    def hours(self) -> KeyedSums:
        self._sum_up()
        return self._hours

    @property
    def histograms(self) -> KeyedSums:
        self._sum_up()
        return self._histograms

    @property
    def key_hours(self) -> KeyedSums:
        """The totals of API keys. Requests without a key are in none of them."""
        self._sum_up()
        return self._key_hours

    def _sum_up(self) -> None:
        """Sum column by column, in a third of the time that row by row takes."""
        if not self._rows:
            return
        (created_at, keys, endpoint, target, requested_model, model, reason, ending, streamed,
         fallback_from, usage_source,
         input_tokens, cached, output_tokens, reasoning, cost, cloud_cost, saved,
         score, merit, decision_ms, ttft_ms, upstream_ms, duration_ms, category) = zip(
            *self._rows, strict=True)  # fmt: skip
        self._rows = []
        hour = [int(time) // self._seconds * self._seconds for time in created_at]
        targets = [name or "" for name in target]
        models = [_short(name) for name in model]
        for place, facts in enumerate(zip(requested_model, model, ending, strict=True)):
            if _is_invented(*facts):
                self.invented.add((hour[place], models[place]))
                models[place] = OTHER_MODELS
        cost_pico, cloud_pico, saved_pico = map(_picos, (cost, cloud_cost, saved))
        tokens = [_counts(column) for column in (input_tokens, cached, output_tokens)]
        with_key = np.array([key is not None for key in keys], np.bool_)
        _add_up(
            self._key_hours,
            (
                (hour[place], keys[place], targets[place], ending[place] or "")
                for place in np.flatnonzero(with_key).tolist()
            ),
            np.ones(int(with_key.sum()), np.int64),
            *(column[with_key] for column in (*tokens, cost_pico, cloud_pico, saved_pico)),
        )
        _add_up(
            self._hours,
            zip(
                hour,
                endpoint,
                targets,
                models,
                *([name or "" for name in column] for column in (reason, ending, category)),
                strict=True,
            ),
            np.ones(len(hour), np.int64),
            np.array(streamed, np.int64),
            np.array([tier is not None for tier in fallback_from], np.int64),
            np.array([source == "estimated" for source in usage_source], np.int64),
            *tokens,
            _counts(reasoning),
            cost_pico,
            cloud_pico,
            saved_pico,
        )
        if not self._has_distributions:
            return
        duration = _floats(duration_ms)
        if np.isnan(duration).any():
            raise ValueError("duration_ms: not a number")
        merits = _floats(merit)
        measures = {
            "score": _score_buckets(np.where(np.isnan(merits), np.nan, _floats(score))),
            "merit": _score_buckets(merits),
            "decision_ms": _duration_buckets(_floats(decision_ms)),
            "ttft_ms": _duration_buckets(_floats(ttft_ms)),
            "duration_ms": _duration_buckets(duration),
            "overhead_ms": _duration_buckets(duration - np.nan_to_num(_floats(upstream_ms))),
        }
        for measure, buckets in measures.items():
            known = buckets != _UNKNOWN
            _add_up(
                self._histograms,
                (
                    (hour[place], measure, targets[place], bucket)
                    for place, bucket in zip(
                        np.flatnonzero(known).tolist(), buckets[known].tolist(), strict=True
                    )
                ),
                np.ones(int(known.sum()), np.int64),
                cloud_pico[known],
            )

    @property
    def daily_histograms(self) -> KeyedSums:
        """The histograms of whole days."""
        return _by_day(self.histograms)

    @property
    def key_days(self) -> KeyedSums:
        """The totals of API keys in whole days."""
        return _by_day(self.key_hours)

    def write(self, database: peewee.Database) -> None:
        """Add everything to the tables, inside the caller's transaction."""
        add_sums(database, HourlyTotals, self.hours)
        add_sums(database, HourlyHistogram, self.histograms)
        add_sums(database, DailyHistogram, self.daily_histograms)
        add_sums(database, HourlyKeyTotals, self.key_hours)
        add_sums(database, DailyKeyTotals, self.key_days)


def _by_day(hours: KeyedSums) -> KeyedSums:
    """The sums of whole days, from those of hours."""
    days: KeyedSums = {}
    for (hour, *rest), sums in hours.items():
        key = (hour // DAY_SECONDS * DAY_SECONDS, *rest)
        known = days.get(key)
        days[key] = [*sums] if known is None else [*map(operator.add, known, sums)]
    return days


def _is_invented(requested_model: str | None, model: str | None, ending: str | None) -> bool:
    """Whether nothing but the client vouches for a model's name: it chose it, without an answer."""
    is_failed = bool(model) and ending != Ending.OK
    return is_failed and _short(model) == _short(requested_model)


def _short(model: str | None) -> str:
    return storable((model or "")[:MAX_MODEL_CHARS])


def fold_models(hours: KeyedSums, folded: Container[tuple[int, str]]) -> KeyedSums:
    """The totals with the failed requests of some hours' models under one word."""
    merged: KeyedSums = {}
    for key, sums in hours.items():
        hour, endpoint, target, model, reason, ending, category = key
        if ending != Ending.OK and (hour, model) in folded:
            key = (hour, endpoint, target, OTHER_MODELS, reason, ending, category)
        known = merged.get(key)
        merged[key] = sums if known is None else [*map(operator.add, known, sums)]
    return merged


def add_rows(rollup: Rollup, database: peewee.Database, since: float, until: float) -> None:
    """Add the rows of `requests` of a period (UNIX seconds; `until` is exclusive) to a rollup."""
    at = Request.created_at
    query = Request.select(*(getattr(Request, name) for name in COLUMNS))
    # Raw rows of the driver: peewee would convert each of a million values.
    for row in database.execute(query.where(at >= since, at < until)):
        rollup.add_values(tuple(row))


def add_sums(database: peewee.Database, table: type[peewee.Model], rows: KeyedSums) -> None:
    """Add sums to a rollup table, inside the caller's transaction."""
    # In a fixed order, so that two writers cannot deadlock.
    values = [(*key, *added) for key, added in sorted(rows.items())]
    for start in range(0, len(values), _SUMS_AT_ONCE):
        some = values[start : start + _SUMS_AT_ONCE]
        sql = _add_sql(table, database.param, len(some))
        database.cursor().execute(sql, tuple(itertools.chain.from_iterable(some)))


def _add_sql(table: type[peewee.Model], param: str, rows: int) -> str:
    name, (key, sums) = table._meta.table_name, split_columns(table)
    columns = [*key, *sums]
    values = f"({', '.join([param] * len(columns))})"
    added = ", ".join(f"{column} = {name}.{column} + excluded.{column}" for column in sums)
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES {', '.join([values] * rows)} "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added}"
    )


def _add_up(sums: KeyedSums, keys: Iterable[tuple[Any, ...]], *columns: Integers) -> None:
    """Add columns to the sums, grouped by the keys of their rows."""
    places: dict[tuple[Any, ...], int] = {}
    place = np.array([places.setdefault(key, len(places)) for key in keys], np.intp)
    added = np.zeros((len(columns), len(places)), np.int64)
    for total, column in zip(added, columns, strict=True):
        np.add.at(total, place, column)
    for key, more in zip(places, added.T.tolist(), strict=True):
        known = sums.get(key)
        sums[key] = more if known is None else [*map(operator.add, known, more)]


def _counts(column: Sequence[int | None]) -> Integers:
    return np.array([count or 0 for count in column], np.int64)


def _picos(column: Sequence[float | None]) -> Integers:
    """Picodollars, rounded as in `budget.pricing.pico`."""
    return np.rint(np.nan_to_num(_floats(column)) * PICODOLLARS).astype(np.int64)


def _floats(column: Sequence[float | None]) -> Floats:
    """A column of floats, with NaN for null."""
    return np.array(column, np.float64)


def _score_buckets(scores: Floats) -> Integers:
    buckets = np.minimum(np.nan_to_num(scores) * SCORE_BUCKETS, SCORE_BUCKETS - 1).astype(np.int64)
    return np.where(np.isnan(scores), _UNKNOWN, buckets)


def _duration_buckets(ms: Floats) -> Integers:
    """Bucket numbers. The first bucket also holds everything below a microsecond."""
    buckets = np.searchsorted(_BOUNDS, ms, side="right") + _FIRST_BUCKET
    return np.where(np.isnan(ms), _UNKNOWN, buckets)


def bucket_midpoint_ms(bucket: int) -> float:
    """The geometric midpoint of a bucket in milliseconds."""
    return float(10 ** ((bucket + 0.5) / _PER_DECADE))
