"""What the rows say, as named questions: for the command line, the pages and the metrics.

Questions about many requests are answered from the sums by the hour (`rollup`), so their times are
whole hours, UTC, and whole days where they go far back; those about single ones from the rows. All
of them block: ask in a thread.
"""

import itertools
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, Self

import msgspec
import peewee

from proxy.config import StorageConfig
from proxy.record import DAY_SECONDS, HOUR_SECONDS, PACED_REASONS, PICODOLLARS, Reason
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    close_all,
    open_database,
    redacted_url,
    storable,
)
from proxy.storage.migrations import NEWEST, applied
from proxy.storage.rollups import DURATIONS, SCORE_BUCKETS, bucket_midpoint_ms
from proxy.storage.tables import (
    DailyHistogram,
    Feedback,
    HourlyHistogram,
    HourlyTotals,
    Judgement,
    Request,
)
from router_model import drift
from router_model.drift import Drift
from router_model.manifest import Reference

# The columns of `hours`, or what is made of them, in the order of `Totals`.
_SUMMED: Final = (
    "requests", "failed", "streamed", "fallbacks", "estimated", "input_tokens",
    "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_pico", "cloud_cost_pico",
    "saved_pico",
)  # fmt: skip
# Latencies and scores of the last days are told by the hour, of longer times by the day.
HOURLY_DETAIL_SECONDS: Final = 3 * DAY_SECONDS
# Of a request that the router scored; a few of these had none.
_SCORED: Final = (
    Reason.SCORE, Reason.STICKY, Reason.UNHEALTHY, Reason.OVERLOAD, Reason.BUDGET, Reason.FALLBACK,
    Reason.EXPLORATION,
)  # fmt: skip
QUANTILES: Final = (0.5, 0.95, 0.99)
# What a list of requests shows; the texts are in the request itself.
LIST_COLUMNS: Final = (
    "id", "created_at", "endpoint", "requested_model", "target", "model", "reason", "score",
    "threshold", "status", "ending", "error_code", "streamed", "ttft_ms", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "saved_usd", "category", "fallback_from", "prompt",
)  # fmt: skip
# So many of the newest are looked at for those that fit, so that a rare one is no long wait.
SEARCH_LIMIT: Final = 50_000
EXCERPT_CHARS: Final = 160

Dimension = Literal["target", "reason", "ending", "category", "model", "endpoint", "day", "hour"]


class Totals(NamedTuple):
    """What some requests add up to. Money is USD, exact to the last decimal before it is shown.

    `cloud_cost_usd`: what the answers cost in the cloud, or would have: so spent and saved are
    shares of it.
    """

    requests: int = 0
    failed: int = 0
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


class Group(NamedTuple):
    """The requests that have one value of a dimension."""

    value: str
    sums: Totals


class Point(NamedTuple):
    """The requests of one tier in one hour or day (UTC); `target` is empty where none was asked."""

    begins: int
    target: str
    sums: Totals


class CategoryTotals(NamedTuple):
    """The requests of one category that one tier answered."""

    category: str
    target: str
    sums: Totals


class ScoreBucket(NamedTuple):
    """How many requests have a score in one hundredth, and what they cost in the cloud, or would
    have."""

    requests: int
    cloud_usd: float


class RequestPage(NamedTuple):
    """Some requests, the newest first.

    Attributes:
        rows: with the columns of `LIST_COLUMNS`.
        more: where to go on, as `before`; None when these are all.
        searched: how many were looked at, where that is not all there are.
    """

    rows: list[dict[str, Any]]
    more: tuple[float, str] | None
    searched: int | None


class Quantiles(NamedTuple):
    """How long something took at one tier: milliseconds, to 6 %, by the share that took less."""

    measure: str
    target: str
    requests: int
    ms: dict[str, float]


class HourlySpend(NamedTuple):
    """What one hour (its beginning, UNIX seconds) was about, of all who share a database.

    Attributes:
        routed_usd: what requests that the score or the budget decided cost in the cloud, or would.
        other_usd: what the cloud cost for all others.
    """

    hour: int
    routed_usd: float
    other_usd: float


class Queries:
    """Read-only questions to one database. All of them block: call them in a thread.

    Args:
        database: as `open_database` returns it.
        url: shown in errors.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        database: peewee.Database,
        *,
        url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.url = url
        self.clock = clock

    @classmethod
    def open(cls, config: StorageConfig) -> Self:
        """Open the database behind `storage.url` for reading only.

        Raises:
            StoreUnavailable: there is no database, or it has another schema version.
        """
        queries = cls(open_database(config, read_only=True), url=redacted_url(config))
        with queries._reading() as database:
            found = applied(database) if database.table_exists("migrations") else 0
        if found != NEWEST:
            queries.close()
            raise StoreUnavailable(
                f"storage.url: {queries.url} has schema {found}, not {NEWEST}; start the proxy "
                "once, or run `hybrid-llm db migrate`"
            )
        return queries

    @classmethod
    def sharing(cls, other: "Queries") -> Self:
        """Other questions to the same database, through its connections."""
        return cls(other.database, url=other.url, clock=other.clock)

    def close(self) -> None:
        """Close the connections kept for later questions."""
        close_all(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[peewee.Database]:
        """The database for a question. Raises StoreUnavailable when it gives no answer."""
        try:
            with self.database.connection_context():
                yield self.database
        except FAILURES as error:
            raise StoreUnavailable(f"storage.url: {self.url} cannot be read: {error}") from None


class RequestQueries(Queries):
    """Totals, series, percentiles and single requests."""

    def total(self, since: float = 0.0, *, until: float | None = None) -> Totals:
        """Everything from `since` (UNIX seconds) on, and before `until`."""
        (found,) = self._summed((), since, until=until) or [()]
        return _as_sums([int(one) for one in found]) if found else Totals()

    def series(self, since: float = 0.0, *, step: Literal["hour", "day"] = "hour") -> list[Point]:
        """The same by hours or days, in order, and by tier."""
        seconds = HOUR_SECONDS if step == "hour" else DAY_SECONDS
        return [
            Point(int(begins) * (seconds if step == "day" else 1), target, _as_sums(numbers))
            for (begins, target), numbers in sorted(self._parted((step, "target"), since))
        ]

    def totals_by_category(self, since: float = 0.0) -> list[CategoryTotals]:
        """The same by category and tier."""
        parted = sorted(self._parted(("category", "target"), since))
        return [
            CategoryTotals(category or "none", target, _as_sums(sums))
            for (category, target), sums in parted
        ]

    def _parted(
        self, dimensions: Sequence[Dimension], since: float
    ) -> list[tuple[tuple[Any, ...], list[int]]]:
        number = len(dimensions)
        return [
            (row[:number], [int(one) for one in row[number:]])
            for row in self._summed(dimensions, since)
        ]

    def totals_by(self, dimension: Dimension, since: float = 0.0) -> list[Group]:
        """The same by one dimension: the most requests first, days and hours in order."""
        return self.totals_by_each((dimension,), since)[1][dimension]

    def totals_by_each(
        self, dimensions: Sequence[Dimension], since: float = 0.0
    ) -> tuple[Totals, dict[Dimension, list[Group]]]:
        """The total, and by each of several dimensions, in one reading of the sums."""
        # Grouping sorts, which goes faster by a number first than by a text.
        dimensions = sorted(dimensions, key=lambda name: name not in ("day", "hour"))
        everything = nothing = [0] * len(_SUMMED)
        found: dict[Dimension, dict[Any, list[int]]] = {name: {} for name in dimensions}
        for row in self._summed(dimensions, since):
            values, numbers = row[: len(dimensions)], [int(one) for one in row[len(dimensions) :]]
            everything = [*map(operator.add, everything, numbers)]
            for groups, value in zip(found.values(), values, strict=True):
                before = groups.get(value, nothing)
                groups[value] = [*map(operator.add, before, numbers)]
        return _as_sums(everything), {
            name: _in_order(
                name, [Group(_shown(name, value), _as_sums(sums)) for value, sums in groups.items()]
            )
            for name, groups in found.items()
        }

    def _summed(
        self, dimensions: Sequence[Dimension], since: float, *, until: float | None = None
    ) -> list[tuple[Any, ...]]:
        """What the hours from `since` on add up to, by all of these dimensions at once."""
        day: Any = (HourlyTotals.hour / DAY_SECONDS).cast("INTEGER")
        columns = [day if name == "day" else getattr(HourlyTotals, name) for name in dimensions]
        failed = peewee.Case(
            None, ((HourlyTotals.ending.in_(("ok", "client_gone")), 0),), HourlyTotals.requests
        )
        counted = {name: getattr(HourlyTotals, name, failed) for name in _SUMMED}
        query = HourlyTotals.select(
            *columns, *(peewee.fn.SUM(one) for one in counted.values())
        ).where(HourlyTotals.hour >= start_of_hour(since))
        if until is not None:
            query = query.where(HourlyTotals.hour < start_of_hour(until))
        if dimensions:
            places = range(1, len(dimensions) + 1)
            query = query.group_by(*(peewee.SQL(str(place)) for place in places))
        with self._reading() as database:
            # The driver's own rows: there may be a thousand, of which peewee looks at each value.
            rows = database.execute(query).fetchall()
            return [tuple(row) for row in rows if row[-1] is not None]

    def quantiles(self, since: float = 0.0, *, together: bool = False) -> list[Quantiles]:
        """How long decisions, first tokens, answers and our own part took, by tier.

        Args:
            together: also of both tiers, as the tier `all`.
        """
        found: dict[tuple[str, str], dict[int, int]] = {}
        for measure, target, bucket, number, _ in self._spread(DURATIONS, since):
            for name in (target or "none", "all")[: 1 + together]:
                buckets = found.setdefault((measure, name), {})
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
            for (measure, target), buckets in sorted(found.items())
        ]

    def score_counts(self, since: float = 0.0) -> list[int]:
        """How many requests were scored into each hundredth from 0 to 1."""
        return [one.requests for one in self.score_histogram(since)]

    def score_histogram(self, since: float = 0.0) -> list[ScoreBucket]:
        """The same, with what they cost in the cloud or would have."""
        counts, picos = [0] * SCORE_BUCKETS, [0] * SCORE_BUCKETS
        for _, _, bucket, number, pico in self._spread(("score",), since):
            counts[bucket] += number
            picos[bucket] += pico
        return [
            ScoreBucket(number, pico / PICODOLLARS)
            for number, pico in zip(counts, picos, strict=True)
        ]

    def drift(self, reference: Reference) -> Drift | None:
        """How far what was routed in the last day is from the reference; of the last week where
        that is too little, and None where even that is."""
        now = self.clock()
        found = None
        for since in (now - DAY_SECONDS, start_of_day(now - 7 * DAY_SECONDS)):
            if found is None:
                found = drift.measure(
                    reference, self.score_counts(since), self._categories_routed(since)
                )
        return found

    def _categories_routed(self, since: float) -> dict[str, int]:
        query = (
            HourlyTotals.select(HourlyTotals.category, peewee.fn.SUM(HourlyTotals.requests))
            .where(HourlyTotals.hour >= start_of_hour(since), HourlyTotals.reason.in_(_SCORED))
            .group_by(HourlyTotals.category)
        )
        with self._reading() as database:
            return {name: int(number) for name, number in query.tuples().execute(database)}

    def _spread(
        self, measures: tuple[str, ...], since: float
    ) -> list[tuple[str, str, int, int, int]]:
        """How many requests are in each bucket, and their cost in the cloud in picodollars: of
        whole days, where that is fine enough."""
        table: Any = HourlyHistogram
        begins = HourlyHistogram.hour >= start_of_hour(since)
        if self.clock() - since > HOURLY_DETAIL_SECONDS:
            table, begins = DailyHistogram, DailyHistogram.day >= start_of_day(since)
        keys = (table.measure, table.target, table.bucket)
        query = (
            table.select(*keys, peewee.fn.SUM(table.requests), peewee.fn.SUM(table.cloud_cost_pico))
            .where(begins, table.measure.in_(measures))
            .group_by(*keys)
        )
        with self._reading() as database:
            return [
                (measure, target, bucket, int(number), int(pico))
                for measure, target, bucket, number, pico in query.tuples().execute(database)
            ]

    def spend_by_hour(self, since: float) -> list[HourlySpend]:
        """What the hours from `since` on were about, oldest first; those without requests not."""
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

    def spend_by_score(self, since: float) -> list[tuple[int, int, float]]:
        """Hour, hundredth of the score, and what its requests cost in the cloud or would have."""
        query = (
            HourlyHistogram.select(
                HourlyHistogram.hour,
                HourlyHistogram.bucket,
                peewee.fn.SUM(HourlyHistogram.cloud_cost_pico),
            )
            .where(HourlyHistogram.hour >= start_of_hour(since), HourlyHistogram.measure == "score")
            .group_by(HourlyHistogram.hour, HourlyHistogram.bucket)
            .order_by(HourlyHistogram.hour, HourlyHistogram.bucket)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [(hour, bucket, int(usd) / PICODOLLARS) for hour, bucket, usd in rows]

    def find(self, request_id: str) -> dict[str, Any] | None:
        """One request with all that is known of it, its judgements and feedback included."""
        with self._reading() as database:
            return next(self._whole(database, Request.id == storable(request_id)), None)

    def newest(
        self,
        since: float = 0.0,
        *,
        limit: int,
        before: tuple[float, str] | None = None,
        values: Mapping[str, str] = MappingProxyType({}),
        text: str = "",
        search_limit: int = SEARCH_LIMIT,
    ) -> RequestPage:
        """The newest requests from `since` on.

        Args:
            before: only older ones than this (`created_at`, `id`).
            values: what columns must hold; empty for nothing.
            text: in the prompt, or the beginning of the id. In the prompt the case of ASCII
                letters does not matter.
            search_limit: the number of newest requests that a filtered search reads.
        """
        which = Request.created_at >= since
        if before is not None:
            at, key = before
            which &= (Request.created_at < at) | (
                (Request.created_at == at) & (Request.id < storable(key))
            )
        order = (Request.created_at.desc(), Request.id.desc())
        fits = [
            getattr(Request, name).is_null() if not value else getattr(Request, name) == value
            for name, value in values.items()
        ]
        if text:
            # As it stands in the JSON of the turns.
            written = msgspec.json.encode(storable(text)).decode()[1:-1]
            fits.append(Request.id.startswith(storable(text)) | Request.prompt.contains(written))
        last, searched = None, None
        columns = [getattr(Request, name) for name in LIST_COLUMNS]
        with self._reading() as database:
            if fits:
                edge = Request.select(Request.created_at, Request.id).where(which).order_by(*order)
                found = list(edge.offset(search_limit - 1).limit(1).tuples().execute(database))
                if found:
                    (last,), searched = found, search_limit
                    which &= Request.created_at >= last[0]
            query = Request.select(*columns).where(which, *fits).order_by(*order).limit(limit + 1)
            rows = list(query.dicts().execute(database))
        if len(rows) > limit:
            rows = rows[:limit]
            last = rows[-1]["created_at"], rows[-1]["id"]
        for row in rows:
            row["streamed"] = bool(row["streamed"])
            row["prompt"] = _excerpt(row["prompt"])
        return RequestPage(rows, last, searched)

    def export(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Every request from `since` on, the oldest first, as `find` returns them."""
        with self._reading() as database:
            yield from self._whole(database, Request.created_at >= since)

    def _whole(self, database: peewee.Database, which: Any) -> Iterator[dict[str, Any]]:
        query = Request.select().where(which).order_by(Request.created_at, Request.id)
        batch: list[dict[str, Any]] = []
        for row in query.dicts().bind(database).iterator():
            batch.append(row)
            if len(batch) == 500:
                yield from self._with_opinions(database, batch)
                batch = []
        yield from self._with_opinions(database, batch)

    def _with_opinions(
        self, database: peewee.Database, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        if not rows:
            return []
        known = {row["id"]: row for row in rows}
        for row in rows:
            row["streamed"] = bool(row["streamed"])
            turns = parse_turns(row["prompt"])
            if turns is not None:
                row["prompt"] = [{"role": role, "content": text} for role, text in turns]
            row["judgements"], row["feedback"] = [], None
        for table in (Judgement, Feedback):
            query = table.select().where(table.request_id.in_(list(known)))
            for found in query.dicts().execute(database):
                row = known[found.pop("request_id")]
                found.pop("id", None)
                if table is Judgement:
                    row["judgements"].append(found)
                else:
                    row["feedback"] = found
        return rows


def start_of_day(seconds: float) -> int:
    """The beginning of the day (UTC) that a time is in."""
    return int(seconds) // DAY_SECONDS * DAY_SECONDS


def start_of_hour(seconds: float) -> int:
    """The beginning of the hour that a time is in."""
    return int(seconds) // HOUR_SECONDS * HOUR_SECONDS


def parse_turns(prompt: str | None) -> list[tuple[str, str]] | None:
    """The turns of a stored prompt; None where it is a hash or was not kept."""
    if prompt is None:
        return None
    try:
        messages = msgspec.json.decode(prompt, type=list[dict[str, str]])
    except msgspec.DecodeError:
        return None
    return [(message["role"], message["content"]) for message in messages]


def _excerpt(prompt: str | None) -> str | None:
    """The beginning of what a user said last."""
    turns = parse_turns(prompt)
    if not turns:
        return None
    said = next((text for role, text in reversed(turns) if role == "user"), turns[-1][1])
    return said if len(said) <= EXCERPT_CHARS else said[: EXCERPT_CHARS - 1] + "…"


def _as_sums(numbers: Sequence[int]) -> Totals:
    """Whole picodollars become dollars last."""
    return Totals(*numbers[:-3], *(pico / PICODOLLARS for pico in numbers[-3:]))


def _in_order(dimension: Dimension, groups: list[Group]) -> list[Group]:
    if dimension in ("day", "hour"):
        return sorted(groups, key=lambda group: group.value)
    return sorted(groups, key=lambda group: (-group.sums.requests, group.value))


def _shown(dimension: Dimension, value: Any) -> str:
    match dimension:
        case "day":
            return time.strftime("%Y-%m-%d", time.gmtime(int(value) * DAY_SECONDS))
        case "hour":
            return time.strftime("%Y-%m-%d %H:00", time.gmtime(int(value)))
    return value or "none"


def _quantile(buckets: list[tuple[int, int]], share: float) -> float:
    """Milliseconds below which this share of what is in the buckets is."""
    wanted = share * sum(number for _, number in buckets)
    below = itertools.accumulate(number for _, number in buckets)
    found = (bucket for (bucket, _), sofar in zip(buckets, below, strict=True) if sofar >= wanted)
    return bucket_midpoint_ms(next(found))
