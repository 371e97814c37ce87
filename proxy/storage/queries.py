"""Queries over many requests: totals, series, percentiles, spend and drift.

They read the rollups, so a period begins at a full hour (UTC); distributions over more than three
days begin at a full day. `request_log` reads single requests.
"""

import itertools
import operator
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import peewee

from proxy.record import (
    DAY_SECONDS,
    FAILED,
    HOUR_SECONDS,
    PACED_REASONS,
    PICODOLLARS,
    Ending,
    Reason,
    Target,
)
from proxy.storage.read_only import Queries
from proxy.storage.rollups import DURATIONS, SCORE_BUCKETS, bucket_midpoint_ms
from proxy.storage.tables import (
    DailyHistogram,
    DailyKeyTotals,
    HourlyHistogram,
    HourlyKeyTotals,
    HourlyTotals,
    Request,
)
from router_model import drift
from router_model.drift import Drift
from router_model.manifest import Reference

# By the tier and the ending of a request. docs/api.md defines these words ("Shares"); every page,
# table and chart uses them. A request that the proxy itself answered, without a tier, is in none.
_ANSWERED: Final = (Ending.OK,)
_REFUSED: Final = (Ending.REJECTED,)
_CANCELLED: Final = (Ending.CLIENT_GONE, Ending.STOPPED)
_OUTCOMES: Final = ("answered", "answered_locally", "failed", "refused", "cancelled")

# The columns of `hours`, and those derived from them, in the order of `Totals`.
_SUMMED: Final = (
    "requests", *_OUTCOMES, "streamed", "fallbacks", "estimated", "input_tokens",
    "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_pico", "cloud_cost_pico",
    "saved_pico",
)  # fmt: skip
# The same of `key_hours` and `key_days`, in the order of `KeyTotals`.
_SUMMED_BY_KEY: Final = (
    "requests", "input_tokens", "cached_input_tokens", "output_tokens", "cost_pico",
    "cloud_cost_pico", "saved_pico",
)  # fmt: skip
# Durations and scores of a longer period come from the daily histograms.
HOURLY_DETAIL_SECONDS: Final = 3 * DAY_SECONDS
# Reasons of requests that the router scored. A few of them have no score.
_SCORED: Final = (
    Reason.SCORE, Reason.STICKY, Reason.UNHEALTHY, Reason.OVERLOAD, Reason.LOADING, Reason.BUDGET,
    Reason.FALLBACK, Reason.EXPLORATION,
)  # fmt: skip
QUANTILES: Final = (0.5, 0.95, 0.99)

# The dimensions by which the totals can be filtered, and those of the distributions.
TOTALS_FILTERS: Final = frozenset(("target", "reason", "ending", "category", "model"))
DETAIL_FILTERS: Final = frozenset(("target",))
NO_FILTERS: Final[Mapping[str, str]] = MappingProxyType({})

Dimension = Literal["target", "reason", "ending", "category", "model", "endpoint", "day", "hour"]


class Totals(NamedTuple):
    """Totals over some requests. Money is USD, summed exactly in picodollars.

    Attributes:
        answered: by a tier, completely.
        answered_locally: part of these, by the local tier.
        failed: by an error or a timeout.
        refused: by the proxy, such as over a limit or for a wrong field.
        cancelled: by the client, or by a shutdown.
        cloud_cost_usd: the actual or hypothetical cost of all answers in the cloud.
    """

    requests: int = 0
    answered: int = 0
    answered_locally: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    streamed: int = 0
    fallbacks: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    cloud_cost_usd: float = 0.0
    saved_usd: float = 0.0


class KeyTotals(NamedTuple):
    """The totals of the requests of one API key. Fields are as in `Totals`."""

    requests: int = 0
    answered: int = 0
    answered_locally: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    cloud_cost_usd: float = 0.0
    saved_usd: float = 0.0


def local_share(sums: Totals | KeyTotals) -> float | None:
    """The share of the answered requests that the local tier answered; None without any."""
    return sums.answered_locally / sums.answered if sums.answered else None


def failure_rate(sums: Totals | KeyTotals) -> float | None:
    """The share of failed requests of those that were answered or failed; None without any."""
    tried = sums.answered + sums.failed
    return sums.failed / tried if tried else None


class Group(NamedTuple):
    """The totals of the requests with one value of a dimension."""

    value: str
    sums: Totals


class Point(NamedTuple):
    """The totals of one tier in one hour or day (UTC). `target` is empty without an upstream."""

    begins: int
    target: str
    sums: Totals


class CategoryTotals(NamedTuple):
    """The totals of one category at one tier."""

    category: str
    target: str
    sums: Totals


class KeyPoint(NamedTuple):
    """The totals of one API key in one hour or day (UTC)."""

    begins: int
    sums: KeyTotals


class MeritBucket(NamedTuple):
    """The requests with a merit in one hundredth, and their actual or hypothetical cloud cost."""

    requests: int
    cloud_usd: float


class Quantiles(NamedTuple):
    """Percentiles of one duration at one tier, in milliseconds, to within 6 %."""

    measure: str
    target: str
    requests: int
    ms: dict[str, float]


class HourlySpend(NamedTuple):
    """The spend of one hour, of all processes on the database.

    Attributes:
        hour: its start in UNIX seconds.
        routed_usd: actual or hypothetical cloud cost of requests decided by score or budget.
        other_usd: actual cloud cost of all other requests.
    """

    hour: int
    routed_usd: float
    other_usd: float


class RequestQueries(Queries):
    """Queries of the rollups. All methods block: call them in a thread.

    `since` and `until` are UNIX seconds; `until` is exclusive. `values` are required values of the
    dimensions in `TOTALS_FILTERS` (totals) or `DETAIL_FILTERS` (distributions); an empty value
    stands for none.
    """

    def total(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> Totals:
        """The totals of a period."""
        (row,) = self._summed((), since, until=until, values=values) or [()]
        return _as_sums([int(value) for value in row]) if row else Totals()

    def series(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
        step: Literal["hour", "day"] = "hour",
    ) -> list[Point]:
        """The totals by tier in each hour or day, in order."""
        seconds = HOUR_SECONDS if step == "hour" else DAY_SECONDS
        return [
            Point(int(begins) * (seconds if step == "day" else 1), target, _as_sums(numbers))
            for (begins, target), numbers in sorted(
                self._grouped((step, "target"), since, until=until, values=values)
            )
        ]

    def totals_by_category(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> list[CategoryTotals]:
        """The totals by category and tier."""
        groups = sorted(self._grouped(("category", "target"), since, until=until, values=values))
        return [
            CategoryTotals(category or "none", target, _as_sums(sums))
            for (category, target), sums in groups
        ]

    def _grouped(
        self,
        dimensions: Sequence[Dimension],
        since: float,
        *,
        until: float | None,
        values: Mapping[str, str],
    ) -> list[tuple[tuple[Any, ...], list[int]]]:
        number = len(dimensions)
        return [
            (row[:number], [int(value) for value in row[number:]])
            for row in self._summed(dimensions, since, until=until, values=values)
        ]

    def totals_by(self, dimension: Dimension, since: float = 0.0) -> list[Group]:
        """The totals by one dimension: most requests first, days and hours in order."""
        return self.totals_by_each((dimension,), since)[1][dimension]

    def totals_by_each(
        self,
        dimensions: Sequence[Dimension],
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> tuple[Totals, dict[Dimension, list[Group]]]:
        """The totals, and the totals by each dimension, from one query."""
        # GROUP BY sorts, and numbers sort faster than texts.
        dimensions = sorted(dimensions, key=lambda name: name not in ("day", "hour"))
        total = zeros = [0] * len(_SUMMED)
        by_dimension: dict[Dimension, dict[Any, list[int]]] = {name: {} for name in dimensions}
        for row in self._summed(dimensions, since, until=until, values=values):
            group = row[: len(dimensions)]
            numbers = [int(number) for number in row[len(dimensions) :]]
            total = [*map(operator.add, total, numbers)]
            for groups, value in zip(by_dimension.values(), group, strict=True):
                groups[value] = [*map(operator.add, groups.get(value, zeros), numbers)]
        return _as_sums(total), {
            name: _sorted(
                name, [Group(_label(name, value), _as_sums(sums)) for value, sums in groups.items()]
            )
            for name, groups in by_dimension.items()
        }

    def _summed(
        self,
        dimensions: Sequence[Dimension],
        since: float,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> list[tuple[Any, ...]]:
        """Rows of `hours` summed by all of these dimensions: their values, then the sums."""
        day: Any = (HourlyTotals.hour / DAY_SECONDS).cast("INTEGER")
        columns = [day if name == "day" else getattr(HourlyTotals, name) for name in dimensions]
        outcomes = _outcome_columns(HourlyTotals)
        summed = [outcomes.get(name, getattr(HourlyTotals, name, None)) for name in _SUMMED]
        query = HourlyTotals.select(*columns, *(peewee.fn.SUM(column) for column in summed)).where(
            HourlyTotals.hour >= start_of_hour(since)
        )
        if until is not None:
            query = query.where(HourlyTotals.hour < start_of_hour(until))
        for name, value in values.items():
            query = query.where(getattr(HourlyTotals, name) == value)
        if dimensions:
            places = range(1, len(dimensions) + 1)
            query = query.group_by(*(peewee.SQL(str(place)) for place in places))
        with self._reading() as database:
            # Raw rows of the driver: peewee would convert each value of a thousand rows.
            rows = database.execute(query).fetchall()
            return [tuple(row) for row in rows if row[-1] is not None]

    def totals_by_key(
        self, since: float = 0.0, *, until: float | None = None, key_hash: str | None = None
    ) -> dict[str, KeyTotals]:
        """The totals of each API key, or of one, by the hash."""
        groups: dict[str, list[int]] = {}
        for (key, target, ending), numbers in self._key_sums(
            ("key_hash", "target", "ending"), since, until=until, key_hash=key_hash
        ):
            _add_outcome(groups.setdefault(key, _no_sums()), target, ending, numbers)
        return {key: _as_key_totals(sums) for key, sums in groups.items()}

    def key_series(
        self,
        key_hash: str,
        since: float = 0.0,
        *,
        until: float | None = None,
        step: Literal["hour", "day"] = "day",
    ) -> list[KeyPoint]:
        """The totals of one API key in each hour or day (UTC), in order."""
        groups: dict[int, list[int]] = {}
        seconds = HOUR_SECONDS if step == "hour" else DAY_SECONDS
        for (begins, target, ending), numbers in self._key_sums(
            ("begins", "target", "ending"),
            since,
            until=until,
            key_hash=key_hash,
            by_hour=step == "hour",
        ):
            at = int(begins) // seconds * seconds
            _add_outcome(groups.setdefault(at, _no_sums()), target, ending, numbers)
        return [KeyPoint(at, _as_key_totals(groups[at])) for at in sorted(groups)]

    def last_used(self, *, key_hash: str | None = None) -> dict[str, float]:
        """When each API key, or one, made its last request, by its hash, in UNIX seconds.

        Where retention has deleted the request, the day on which it was made begins then.
        """
        used = DailyKeyTotals.select(
            DailyKeyTotals.key_hash, peewee.fn.MAX(DailyKeyTotals.day).alias("day")
        ).group_by(DailyKeyTotals.key_hash)
        if key_hash is not None:
            used = used.where(DailyKeyTotals.key_hash == key_hash)
        newest = Request.select(peewee.fn.MAX(Request.created_at)).where(
            Request.client_key_hash == used.c.key_hash
        )
        query = peewee.Select([used], [used.c.key_hash, used.c.day, newest]).bind(self.database)
        with self._reading() as database:
            rows = database.execute(query).fetchall()
        return {key: float(day if at is None else at) for key, day, at in rows}

    def _key_sums(
        self,
        dimensions: Sequence[str],
        since: float,
        *,
        until: float | None = None,
        key_hash: str | None = None,
        by_hour: bool = False,
    ) -> list[tuple[tuple[Any, ...], list[int]]]:
        """Sums by these dimensions. Whole days come from the table of days, unless `by_hour`."""
        first = start_of_hour(since)
        last = start_of_hour(until) if until is not None else None
        next_day = start_of_day(first + DAY_SECONDS - 1)
        last_day = start_of_day(last) if last is not None else None
        if by_hour or (last_day is not None and last_day <= next_day):
            parts: list[tuple[Any, int, int | None]] = [(HourlyKeyTotals, first, last)]
        else:
            parts = [
                (HourlyKeyTotals, first, next_day),
                (DailyKeyTotals, next_day, last_day),
            ]
            if last is not None and last_day is not None:
                parts.append((HourlyKeyTotals, last_day, last))
        found: list[tuple[tuple[Any, ...], list[int]]] = []
        number = len(dimensions)
        with self._reading() as database:
            for table, begins, ends in parts:
                if ends is not None and ends <= begins:
                    continue
                at = table._meta.sorted_fields[0]
                columns = [at if name == "begins" else getattr(table, name) for name in dimensions]
                condition = at >= begins
                if ends is not None:
                    condition &= at < ends
                if key_hash is not None:
                    condition &= table.key_hash == key_hash
                query = (
                    table.select(
                        *columns,
                        *(peewee.fn.SUM(getattr(table, name)) for name in _SUMMED_BY_KEY),
                    )
                    .where(condition)
                    .group_by(*columns)
                )
                rows = database.execute(query).fetchall()
                found += [(tuple(row[:number]), [int(n) for n in row[number:]]) for row in rows]
        return found

    def quantiles(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
        together: bool = False,
    ) -> list[Quantiles]:
        """Percentiles of the durations in `rollups.DURATIONS`, by tier.

        Args:
            together: add the percentiles of both tiers together, as the tier `all`.
        """
        histograms: dict[tuple[str, str], dict[int, int]] = {}
        histogram = self._histogram(DURATIONS, since, until=until, values=values)
        for measure, target, bucket, number, _ in histogram:
            for name in (target or "none", "all")[: 1 + together]:
                buckets = histograms.setdefault((measure, name), {})
                buckets[bucket] = buckets.get(bucket, 0) + number
        return [
            Quantiles(
                measure,
                target,
                sum(buckets.values()),
                {
                    f"p{share * 100:g}": _quantile(sorted(buckets.items()), share)
                    for share in QUANTILES
                },
            )
            for (measure, target), buckets in sorted(histograms.items())
        ]

    def score_counts(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> list[int]:
        """The number of requests with a score in each hundredth from 0 to 1."""
        buckets = self._hundredths("score", since, until=until, values=values)
        return [bucket.requests for bucket in buckets]

    def merit_histogram(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> list[MeritBucket]:
        """The requests and their cloud cost for each hundredth of the merit."""
        return self._hundredths("merit", since, until=until, values=values)

    def _hundredths(
        self,
        measure: Literal["score", "merit"],
        since: float,
        *,
        until: float | None,
        values: Mapping[str, str],
    ) -> list[MeritBucket]:
        counts, picos = [0] * SCORE_BUCKETS, [0] * SCORE_BUCKETS
        histogram = self._histogram((measure,), since, until=until, values=values)
        for _, _, bucket, number, pico in histogram:
            counts[bucket] += number
            picos[bucket] += pico
        return [
            MeritBucket(number, pico / PICODOLLARS)
            for number, pico in zip(counts, picos, strict=True)
        ]

    def first_hour(self, since: float) -> int | None:
        """The start of the first hour with requests since a time; None without requests."""
        query = HourlyTotals.select(peewee.fn.MIN(HourlyTotals.hour)).where(
            HourlyTotals.hour >= start_of_hour(since)
        )
        with self._reading() as database:
            ((hour,),) = query.tuples().execute(database)
        return None if hour is None else int(hour)

    def drift(self, reference: Reference) -> Drift | None:
        """The drift of the last day's scored requests from the reference.

        Of the last week if a day has too few; None if a week has too few, too.
        """
        now = self.clock()
        for since in (now - DAY_SECONDS, start_of_day(now - 7 * DAY_SECONDS)):
            measured = drift.measure(
                reference, self.score_counts(since), self._scored_categories(since)
            )
            if measured is not None:
                return measured
        return None

    def _scored_categories(self, since: float) -> dict[str, int]:
        query = (
            HourlyTotals.select(HourlyTotals.category, peewee.fn.SUM(HourlyTotals.requests))
            .where(HourlyTotals.hour >= start_of_hour(since), HourlyTotals.reason.in_(_SCORED))
            .group_by(HourlyTotals.category)
        )
        with self._reading() as database:
            return {name: int(number) for name, number in query.tuples().execute(database)}

    def _histogram(
        self,
        measures: tuple[str, ...],
        since: float,
        *,
        until: float | None = None,
        values: Mapping[str, str] = NO_FILTERS,
    ) -> list[tuple[str, str, int, int, int]]:
        """Measure, tier, bucket, requests, and cloud cost in picodollars of each bucket."""
        table: Any = HourlyHistogram
        when: Any = HourlyHistogram.hour
        begin, end = start_of_hour(since), None if until is None else start_of_hour(until)
        if (self.clock() if until is None else until) - since > HOURLY_DETAIL_SECONDS:
            # A day of which only a part is wanted counts as a whole.
            table, when, begin = DailyHistogram, DailyHistogram.day, start_of_day(since)
        where = (when >= begin) & (table.measure.in_(measures))
        if end is not None:
            where &= when < end
        for name, value in values.items():
            where &= getattr(table, name) == value
        keys = (table.measure, table.target, table.bucket)
        query = (
            table.select(*keys, peewee.fn.SUM(table.requests), peewee.fn.SUM(table.cloud_cost_pico))
            .where(where)
            .group_by(*keys)
        )
        with self._reading() as database:
            return [
                (measure, target, bucket, int(number), int(pico))
                for measure, target, bucket, number, pico in query.tuples().execute(database)
            ]

    def spend_by_hour(self, since: float) -> list[HourlySpend]:
        """The spend of each hour that has requests, oldest first."""
        routed = HourlyTotals.reason.in_(PACED_REASONS)
        others = (~routed) & (HourlyTotals.target == "cloud")
        query = (
            HourlyTotals.select(
                HourlyTotals.hour,
                peewee.fn.SUM(peewee.Case(None, ((routed, HourlyTotals.cloud_cost_pico),), 0)),
                peewee.fn.SUM(peewee.Case(None, ((others, HourlyTotals.cost_pico),), 0)),
            )
            .where(HourlyTotals.hour >= start_of_hour(since))
            .group_by(HourlyTotals.hour)
            .order_by(HourlyTotals.hour)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            HourlySpend(hour, int(usd) / PICODOLLARS, int(other) / PICODOLLARS)
            for hour, usd, other in rows
        ]

    def spend_by_merit(self, since: float) -> list[tuple[int, int, float]]:
        """Hour, hundredth of the merit, and the actual or hypothetical cloud cost in USD."""
        query = (
            HourlyHistogram.select(
                HourlyHistogram.hour,
                HourlyHistogram.bucket,
                peewee.fn.SUM(HourlyHistogram.cloud_cost_pico),
            )
            .where(HourlyHistogram.hour >= start_of_hour(since), HourlyHistogram.measure == "merit")
            .group_by(HourlyHistogram.hour, HourlyHistogram.bucket)
            .order_by(HourlyHistogram.hour, HourlyHistogram.bucket)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [(hour, bucket, int(usd) / PICODOLLARS) for hour, bucket, usd in rows]


def start_of_day(seconds: float) -> int:
    """The start of the day (UTC) that contains a time."""
    return int(seconds) // DAY_SECONDS * DAY_SECONDS


def start_of_hour(seconds: float) -> int:
    """The start of the hour that contains a time."""
    return int(seconds) // HOUR_SECONDS * HOUR_SECONDS


def _as_sums(numbers: Sequence[int]) -> Totals:
    """Totals from sums in the order of `_SUMMED`: picodollars become dollars."""
    return Totals(*numbers[:-3], *(pico / PICODOLLARS for pico in numbers[-3:]))


def _outcome_columns(table: Any) -> dict[str, Any]:
    """The counts of `_OUTCOMES` as columns of a query."""

    def requests_with(condition: Any) -> Any:
        return peewee.Case(None, ((condition, table.requests),), 0)

    is_answered = table.ending.in_(_ANSWERED) & (table.target != "")
    return {
        "answered": requests_with(is_answered),
        "answered_locally": requests_with(is_answered & (table.target == str(Target.LOCAL))),
        "failed": requests_with(table.ending.in_(FAILED)),
        "refused": requests_with(table.ending.in_(_REFUSED)),
        "cancelled": requests_with(table.ending.in_(_CANCELLED)),
    }


def _no_sums() -> list[int]:
    return [0] * len(KeyTotals._fields)


def _add_outcome(sums: list[int], target: str, ending: str, numbers: Sequence[int]) -> None:
    """Add the sums of one tier and ending, in the order of `_SUMMED_BY_KEY`, to a key's totals."""
    requests, *rest = numbers
    is_answered = ending in _ANSWERED and bool(target)
    outcomes = (
        is_answered,
        is_answered and target == Target.LOCAL,
        ending in FAILED,
        ending in _REFUSED,
        ending in _CANCELLED,
    )
    added = (requests, *(requests * is_counted for is_counted in outcomes), *rest)
    for place, number in enumerate(added):
        sums[place] += number


def _as_key_totals(numbers: Sequence[int]) -> KeyTotals:
    return KeyTotals(*numbers[:-3], *(pico / PICODOLLARS for pico in numbers[-3:]))


def _sorted(dimension: Dimension, groups: list[Group]) -> list[Group]:
    if dimension in ("day", "hour"):
        return sorted(groups, key=lambda group: group.value)
    return sorted(groups, key=lambda group: (-group.sums.requests, group.value))


def _label(dimension: Dimension, value: Any) -> str:
    match dimension:
        case "day":
            return time.strftime("%Y-%m-%d", time.gmtime(int(value) * DAY_SECONDS))
        case "hour":
            return time.strftime("%Y-%m-%d %H:00", time.gmtime(int(value)))
    return value or "none"


def _quantile(buckets: list[tuple[int, int]], share: float) -> float:
    """The bucket midpoint (ms) at a share of the counts. Buckets are sorted (bucket, count)."""
    rank = share * sum(count for _, count in buckets)
    cumulative = itertools.accumulate(count for _, count in buckets)
    reached = (
        bucket for (bucket, _), sum_ in zip(buckets, cumulative, strict=True) if sum_ >= rank
    )
    return bucket_midpoint_ms(next(reached))
