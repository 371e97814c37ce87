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
from typing import Any, Final, Literal, NamedTuple

import msgspec
import peewee

from proxy.budget.pacing import ROUTED, HourDollars
from proxy.budget.pricing import PICO, Price
from proxy.config import StorageConfig
from proxy.evaluation.estimates import BUCKETS, Judged, Pair, Quality, quality_of
from proxy.record import DAY_SECONDS, HOUR_SECONDS, Reason
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    close_all,
    open_database,
    shown_url,
    storable,
)
from proxy.storage.migrations import NEWEST, applied
from proxy.storage.rollups import DURATIONS, SCORE_BUCKETS, middle_of
from proxy.storage.tables import (
    DaySpread,
    Feedback,
    Hour,
    Judgement,
    Preference,
    Request,
    Sample,
    Spread,
)
from router_model import drift
from router_model.drift import Drift
from router_model.manifest import Reference

# The columns of `hours`, or what is made of them, in the order of `Sums`.
_SUMMED: Final = (
    "requests", "failed", "streamed", "fallbacks", "estimated", "input_tokens",
    "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_pico", "cloud_cost_pico",
    "saved_pico",
)  # fmt: skip
# Latencies and scores of the last days are told by the hour, of longer times by the day.
FINE_SECONDS: Final = 3 * DAY_SECONDS
_MAX_JUDGED: Final = 5_000
# Of a request that the router scored; a few of these had none.
_SCORED: Final = (
    Reason.SCORE, Reason.STICKY, Reason.UNHEALTHY, Reason.OVERLOAD, Reason.BUDGET, Reason.FALLBACK,
    Reason.SHADOW,
)  # fmt: skip
QUANTILES: Final = (0.5, 0.95, 0.99)
# What a list of requests shows; the texts are in the request itself.
LISTED: Final = (
    "id", "created_at", "endpoint", "requested_model", "target", "model", "reason", "score",
    "threshold", "status", "ending", "error_code", "streamed", "ttft_ms", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "saved_usd", "category", "fallback_from", "prompt",
)  # fmt: skip
# So many of the newest are looked at for those that fit, so that a rare one is no long wait.
SEARCHED: Final = 50_000
GIST_CHARS: Final = 160

Dimension = Literal["target", "reason", "ending", "category", "model", "endpoint", "day", "hour"]


class Sums(NamedTuple):
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
    sums: Sums


class Point(NamedTuple):
    """The requests of one tier in one hour or day (UTC); `target` is empty where none was asked."""

    begins: int
    target: str
    sums: Sums


class Half(NamedTuple):
    """The requests of one category that one tier answered."""

    category: str
    target: str
    sums: Sums


class Graded(NamedTuple):
    """What judges gave the answers of one tier in one category: the mean of 1-10.

    By propensity weighted, so that it stands for all requests and not for those that were drawn.
    """

    category: str
    target: str
    answers: int
    score: float


class Weighed(NamedTuple):
    """A judged pair of answers with the score of its request; `weight` as in `JudgedRequest`."""

    score: float
    local: float
    cloud: float
    weight: float


class Scored(NamedTuple):
    """How many requests have a score in one hundredth, and what they cost in the cloud, or would
    have."""

    requests: int
    cloud_usd: float


class Listed(NamedTuple):
    """Some requests, the newest first.

    Attributes:
        rows: with the columns of `LISTED`.
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


class JudgedRequest(NamedTuple):
    """A request whose answers of both tiers have a score, the mean over the judges.

    `turns` is None where no readable prompt was kept (`storage.prompts`). `cloud_cost_usd`: what
    the cloud's answer cost, or would have. `weight`: how many requests it stands for, 1 over the
    probability with which it was drawn to be judged.
    """

    id: str
    turns: list[tuple[str, str]] | None
    session_id: str | None
    local_model: str
    cloud_model: str
    local_score: float
    cloud_score: float
    cloud_cost_usd: float | None
    created_at: float
    weight: float


class RatedRequest(NamedTuple):
    """A request that a client rated, from -1 to 1 and not 0, and that no judge has seen.

    `target` and `model` say whose answer it was.
    """

    id: str
    turns: list[tuple[str, str]] | None
    session_id: str | None
    target: str
    model: str
    rating: float


class Compared(NamedTuple):
    """Requests that a candidate router scored, too, and what either of the two would have done.

    `cloud`: how many would have gone there. `usd`: what all would have cost; `all_cloud_usd`: all
    of them in the cloud.
    """

    requests: int = 0
    agreed: int = 0
    live_cloud: int = 0
    candidate_cloud: int = 0
    live_usd: float = 0.0
    candidate_usd: float = 0.0
    all_cloud_usd: float = 0.0


class Stats:
    """The questions, to one database.

    Args:
        database: as `open_database` returns it.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        database: peewee.Database,
        *,
        url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._url = url
        self._clock = clock

    @classmethod
    def open(cls, config: StorageConfig) -> "Stats":
        """Of the database behind `storage.url`, which is only read.

        Raises:
            StoreUnavailable: there is none, or none of this version.
        """
        stats = cls(open_database(config, read_only=True), url=shown_url(config))
        with stats._asking() as database:
            found = applied(database) if database.table_exists("migrations") else 0
        if found != NEWEST:
            stats.close()
            raise StoreUnavailable(
                f"storage.url: {stats._url} has schema {found}, not {NEWEST}; start the proxy "
                "once, or run `hybrid-llm db migrate`"
            )
        return stats

    def close(self) -> None:
        """Close the connections that are kept for the next question."""
        close_all(self._database)

    def __enter__(self) -> "Stats":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def total(self, since: float = 0.0, *, until: float | None = None) -> Sums:
        """Everything from `since` (UNIX seconds) on, and before `until`."""
        (found,) = self._summed((), since, until=until) or [()]
        return _as_sums([int(one) for one in found]) if found else Sums()

    def series(self, since: float = 0.0, *, step: Literal["hour", "day"] = "hour") -> list[Point]:
        """The same by hours or days, in order, and by tier."""
        seconds = HOUR_SECONDS if step == "hour" else DAY_SECONDS
        return [
            Point(int(begins) * (seconds if step == "day" else 1), target, _as_sums(numbers))
            for (begins, target), numbers in sorted(self._parted((step, "target"), since))
        ]

    def halves(self, since: float = 0.0) -> list[Half]:
        """The same by category and tier."""
        parted = sorted(self._parted(("category", "target"), since))
        return [
            Half(category or "none", target, _as_sums(sums)) for (category, target), sums in parted
        ]

    def _parted(
        self, dimensions: Sequence[Dimension], since: float
    ) -> list[tuple[tuple[Any, ...], list[int]]]:
        number = len(dimensions)
        return [
            (row[:number], [int(one) for one in row[number:]])
            for row in self._summed(dimensions, since)
        ]

    def by(self, dimension: Dimension, since: float = 0.0) -> list[Group]:
        """The same by one dimension: the most requests first, days and hours in order."""
        return self.by_each((dimension,), since)[1][dimension]

    def by_each(
        self, dimensions: Sequence[Dimension], since: float = 0.0
    ) -> tuple[Sums, dict[Dimension, list[Group]]]:
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
        day: Any = (Hour.hour / DAY_SECONDS).cast("INTEGER")
        columns = [day if name == "day" else getattr(Hour, name) for name in dimensions]
        failed = peewee.Case(None, ((Hour.ending.in_(("ok", "client_gone")), 0),), Hour.requests)
        counted = {name: getattr(Hour, name, failed) for name in _SUMMED}
        query = Hour.select(*columns, *(peewee.fn.SUM(one) for one in counted.values())).where(
            Hour.hour >= hour_of(since)
        )
        if until is not None:
            query = query.where(Hour.hour < hour_of(until))
        if dimensions:
            places = range(1, len(dimensions) + 1)
            query = query.group_by(*(peewee.SQL(str(place)) for place in places))
        with self._asking() as database:
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

    def scores(self, since: float = 0.0) -> list[int]:
        """How many requests were scored into each hundredth from 0 to 1."""
        return [one.requests for one in self.scored(since)]

    def scored(self, since: float = 0.0) -> list[Scored]:
        """The same, with what they cost in the cloud or would have."""
        counts, picos = [0] * SCORE_BUCKETS, [0] * SCORE_BUCKETS
        for _, _, bucket, number, pico in self._spread(("score",), since):
            counts[bucket] += number
            picos[bucket] += pico
        return [Scored(number, pico / PICO) for number, pico in zip(counts, picos, strict=True)]

    def drift(self, reference: Reference) -> Drift | None:
        """How far what was routed in the last day is from the reference; of the last week where
        that is too little, and None where even that is."""
        now = self._clock()
        found = None
        for since in (now - DAY_SECONDS, day_of(now - 7 * DAY_SECONDS)):
            if found is None:
                found = drift.measure(reference, self.scores(since), self._categories_routed(since))
        return found

    def _categories_routed(self, since: float) -> dict[str, int]:
        query = (
            Hour.select(Hour.category, peewee.fn.SUM(Hour.requests))
            .where(Hour.hour >= hour_of(since), Hour.reason.in_(_SCORED))
            .group_by(Hour.category)
        )
        with self._asking() as database:
            return {name: int(number) for name, number in query.tuples().execute(database)}

    def compared(self, since: float, *, threshold: float, local_price: Price) -> Compared:
        """What a candidate router would have done since then, by what it scored beside the other.

        Args:
            threshold: the candidate's.
            local_price: for what would have stayed local and did not.
        """
        live, candidate = (
            peewee.Case(None, ((score >= limit, 1),), 0)
            for score, limit in (
                (Request.score, Request.threshold),
                (Request.candidate_score, threshold),
            )
        )
        summed = ("cost_usd", "cloud_cost_usd", "input_tokens", "output_tokens")
        query = (
            Request.select(
                Request.target,
                live.alias("live"),
                candidate.alias("candidate"),
                peewee.fn.COUNT(Request.id),
                *(peewee.fn.COALESCE(peewee.fn.SUM(getattr(Request, one)), 0) for one in summed),
            )
            .where(
                Request.created_at >= since,
                Request.candidate_score.is_null(False),
                Request.score.is_null(False),
            )
            .group_by(*(peewee.SQL(str(place)) for place in (1, 2, 3)))
        )
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        found = Compared()
        for target, live_local, candidate_local, requests, cost, cloud, tokens, written in rows:
            local = cost
            if target != "local":
                price = local_price.cost(
                    input_tokens=int(tokens), cached_input_tokens=0, output_tokens=int(written)
                )
                local = price / PICO
            added = (
                requests,
                requests if live_local == candidate_local else 0,
                0 if live_local else requests,
                0 if candidate_local else requests,
                local if live_local else cloud,
                local if candidate_local else cloud,
                cloud,
            )
            found = Compared(*map(operator.add, found, added))
        return found

    def _spread(
        self, measures: tuple[str, ...], since: float
    ) -> list[tuple[str, str, int, int, int]]:
        """How many requests are in each bucket, and their cost in the cloud in picodollars: of
        whole days, where that is fine enough."""
        table: Any = Spread
        begins = Spread.hour >= hour_of(since)
        if self._clock() - since > FINE_SECONDS:
            table, begins = DaySpread, DaySpread.day >= day_of(since)
        keys = (table.measure, table.target, table.bucket)
        query = (
            table.select(*keys, peewee.fn.SUM(table.requests), peewee.fn.SUM(table.cloud_cost_pico))
            .where(begins, table.measure.in_(measures))
            .group_by(*keys)
        )
        with self._asking() as database:
            return [
                (measure, target, bucket, int(number), int(pico))
                for measure, target, bucket, number, pico in query.tuples().execute(database)
            ]

    def dollars_by_hour(self, since: float) -> list[HourDollars]:
        """What the hours from `since` on were about, oldest first; those without requests not."""
        routed = Hour.reason.in_(ROUTED)
        others = (~routed) & (Hour.target == "cloud")
        query = (
            Hour.select(
                Hour.hour,
                peewee.fn.SUM(peewee.Case(None, ((routed, Hour.cloud_cost_pico),), 0)),
                peewee.fn.SUM(peewee.Case(None, ((others, Hour.cost_pico),), 0)),
            )
            .where(Hour.hour >= hour_of(since))
            .group_by(Hour.hour)
            .order_by(Hour.hour)
        )
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        return [HourDollars(hour, int(usd) / PICO, int(other) / PICO) for hour, usd, other in rows]

    def dollars_by_score(self, since: float) -> list[tuple[int, int, float]]:
        """Hour, hundredth of the score, and what its requests cost in the cloud or would have."""
        query = (
            Spread.select(Spread.hour, Spread.bucket, peewee.fn.SUM(Spread.cloud_cost_pico))
            .where(Spread.hour >= hour_of(since), Spread.measure == "score")
            .group_by(Spread.hour, Spread.bucket)
            .order_by(Spread.hour, Spread.bucket)
        )
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        return [(hour, bucket, int(usd) / PICO) for hour, bucket, usd in rows]

    def find(self, request_id: str) -> dict[str, Any] | None:
        """One request with all that is known of it, its judgements and feedback included."""
        with self._asking() as database:
            return next(self._whole(database, Request.id == storable(request_id)), None)

    def newest(
        self,
        since: float = 0.0,
        *,
        limit: int,
        before: tuple[float, str] | None = None,
        values: Mapping[str, str] = MappingProxyType({}),
        text: str = "",
    ) -> Listed:
        """The newest requests from `since` on.

        Args:
            before: only older ones than this (`created_at`, `id`).
            values: what columns must hold; empty for nothing.
            text: in the prompt, or the beginning of the id. In the prompt the case of ASCII
                letters does not matter.
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
        columns = [getattr(Request, name) for name in LISTED]
        with self._asking() as database:
            if fits:
                edge = Request.select(Request.created_at, Request.id).where(which).order_by(*order)
                found = list(edge.offset(SEARCHED - 1).limit(1).tuples().execute(database))
                if found:
                    (last,), searched = found, SEARCHED
                    which &= Request.created_at >= last[0]
            query = Request.select(*columns).where(which, *fits).order_by(*order).limit(limit + 1)
            rows = list(query.dicts().execute(database))
        if len(rows) > limit:
            rows = rows[:limit]
            last = rows[-1]["created_at"], rows[-1]["id"]
        for row in rows:
            row["streamed"] = bool(row["streamed"])
            row["prompt"] = _gist(row["prompt"])
        return Listed(rows, last, searched)

    def graded(self, since: float = 0.0) -> list[Graded]:
        """What judges gave by category and tier, whether a client got the answer or not."""
        weight = 1.0 / peewee.fn.COALESCE(Sample.propensity, 1.0)
        query = (
            Judgement.select(
                Request.category, Judgement.target, peewee.fn.COUNT(Judgement.score),
                peewee.fn.SUM(weight * Judgement.score) / peewee.fn.SUM(weight),
            )
            .join(Request, on=Judgement.request_id == Request.id)
            .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == Judgement.request_id)
            .where(Judgement.created_at >= since)
            .group_by(Request.category, Judgement.target)
            .order_by(Request.category, Judgement.target)
        )  # fmt: skip
        with self._asking() as database:
            return [
                Graded(category or "none", target, int(number), float(score))
                for category, target, number, score in query.tuples().execute(database)
            ]

    def weighed(self, since: float = 0.0) -> list[Weighed]:
        """The newest judged pairs of answers from `since` on."""
        both = self._both(since)
        query = _routed(both, Request.score, both.c.local, both.c.cloud, Sample.propensity)
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        return [
            Weighed(score, local, cloud, _weight(propensity))
            for score, local, cloud, propensity in rows
        ]

    def export(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Every request from `since` on, the oldest first, as `find` returns them."""
        with self._asking() as database:
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
            turns = turns_of(row["prompt"])
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

    def judged(self, since: float = 0.0) -> list[JudgedRequest]:
        """The requests from `since` on that were judged on both sides, oldest first."""

        def of(target: str, value: Any) -> Any:
            return peewee.Case(None, ((Judgement.target == target, value),))

        query = (
            Request.select(
                Request.id,
                Request.prompt,
                Request.session_id,
                peewee.fn.MAX(of("local", Judgement.model)),
                peewee.fn.MAX(of("cloud", Judgement.model)),
                peewee.fn.AVG(of("local", Judgement.score)).alias("local_score"),
                peewee.fn.AVG(of("cloud", Judgement.score)).alias("cloud_score"),
                Request.cloud_cost_usd,
                Request.created_at,
                peewee.fn.MAX(Sample.propensity),
            )
            .join(Judgement, on=Judgement.request_id == Request.id)
            .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == Request.id)
            .where(Request.created_at >= since)
            .group_by(Request.id)
            .having(peewee.fn.COUNT(peewee.fn.DISTINCT(Judgement.target)) == 2)
            .order_by(Request.created_at, Request.id)
        )
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        return [
            JudgedRequest._make((key, turns_of(prompt), *rest, _weight(propensity)))
            for key, prompt, *rest, propensity in rows
        ]

    def rated(self, since: float = 0.0) -> list[RatedRequest]:
        """The requests from `since` on that have a client's rating and no judgement."""
        query = (
            Request.select(
                Request.id, Request.prompt, Request.session_id, Request.target, Request.model,
                Feedback.rating,
            )
            .join(Feedback, on=Feedback.request_id == Request.id)
            .switch(Request)
            .join(Judgement, peewee.JOIN.LEFT_OUTER, on=Judgement.request_id == Request.id)
            .where(
                Request.created_at >= since,
                Request.ending == "ok",
                Request.target.is_null(False),
                Request.model.is_null(False),
                Feedback.rating != 0,
                Judgement.request_id.is_null(),
            )
            .order_by(Request.created_at, Request.id)
        )  # fmt: skip
        with self._asking() as database:
            rows = list(query.tuples().execute(database))
        return [RatedRequest(key, turns_of(prompt), *rest) for key, prompt, *rest in rows]

    def quality(self, since: float = 0.0) -> Quality:
        """The judges' scores from `since` on, and what they say of the choices that were made."""
        bucket = peewee.fn.ROUND(Judgement.score + 0.4999)  # up: there is a ceil in few SQLites
        scores = (
            Judgement.select(
                Judgement.target, bucket.alias("bucket"), peewee.fn.COUNT(Judgement.score),
                peewee.fn.SUM(Judgement.score),
            )
            .where(Judgement.created_at >= since)
            .group_by(Judgement.target, peewee.SQL("bucket"))
        )  # fmt: skip
        with self._asking() as database:
            rows = list(scores.tuples().execute(database))
            pairs = list(self._pairs(since).tuples().execute(database)) if rows else []
            answers = list(self._answers(since).tuples().execute(database)) if rows else []
            compared = list(self._compared(since).tuples().execute(database))
        found: dict[str, tuple[list[int], float]] = {}
        for target, bucket, number, total in rows:
            counts, before = found.get(target, ([0] * len(BUCKETS), 0.0))
            counts[min(max(int(bucket), 1), len(BUCKETS)) - 1] += int(number)
            found[target] = counts, before + total
        got: dict[str, list[Judged]] = {}
        for target, score, propensity, session in answers:
            got.setdefault(target, []).append(Judged(score, _weight(propensity), session))
        return quality_of(
            found,
            pairs=[
                Pair(local, cloud, target == "cloud", _weight(propensity), *rest)
                for local, cloud, target, propensity, *rest in pairs
            ],
            answers=got,
            compared=[
                Judged(float(as_good), _weight(propensity), session)
                for as_good, propensity, session in compared
            ],
        )

    def _pairs(self, since: float) -> Any:
        """The newest routed requests of which both tiers' answers were judged."""
        both = self._both(since)
        return _routed(
            both, both.c.local, both.c.cloud, Request.target, Sample.propensity,
            Request.session_id, Request.cost_usd, Request.cloud_cost_usd,
        )  # fmt: skip

    def _both(self, since: float) -> Any:
        """The newest requests of which both tiers' answers were judged, with their mean scores."""

        def score(target: str) -> Any:
            return peewee.fn.AVG(
                peewee.Case(None, ((Judgement.target == target, Judgement.score),))
            )

        both = (
            Judgement.select(
                Judgement.request_id, score("local").alias("local"), score("cloud").alias("cloud")
            )
            .where(Judgement.created_at >= since)
            .group_by(Judgement.request_id)
            .having(peewee.fn.COUNT(peewee.fn.DISTINCT(Judgement.target)) == 2)
        )
        return _newest(both, Judgement)

    def _answers(self, since: float) -> Any:
        """The newest judged answers that clients got to routed requests."""
        judged = (
            Judgement.select(
                Judgement.request_id, Judgement.target,
                peewee.fn.AVG(Judgement.score).alias("score"),
            )
            .where(Judgement.created_at >= since)
            .group_by(Judgement.request_id, Judgement.target)
        )  # fmt: skip
        judged = _newest(judged, Judgement)
        return _routed(
            judged, Request.target, judged.c.score, Sample.propensity, Request.session_id
        ).where(Request.target == judged.c.target)

    def _compared(self, since: float) -> Any:
        """The newest routed requests of which a judge saw both answers side by side."""
        is_as_good = peewee.Case(None, ((Preference.verdict.in_(("local", "tie")), 1.0),), 0.0)
        judged = (
            Preference.select(Preference.request_id, peewee.fn.AVG(is_as_good).alias("as_good"))
            .where(Preference.created_at >= since)
            .group_by(Preference.request_id)
        )
        judged = _newest(judged, Preference)
        return _routed(judged, judged.c.as_good, Sample.propensity, Request.session_id)

    @contextmanager
    def _asking(self) -> Iterator[peewee.Database]:
        """The database for a question. Raises StoreUnavailable when it gives no answer."""
        try:
            with self._database.connection_context():
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"storage.url: {self._url} cannot be read: {error}") from None


def day_of(seconds: float) -> int:
    """The beginning of the day (UTC) that a time is in."""
    return int(seconds) // DAY_SECONDS * DAY_SECONDS


def hour_of(seconds: float) -> int:
    """The beginning of the hour that a time is in."""
    return int(seconds) // HOUR_SECONDS * HOUR_SECONDS


def _newest(judged: Any, table: type[Judgement | Preference]) -> Any:
    """Some of these, those that were judged last.

    Twice as many as are asked for: the other tier's answers, and requests that no score decided,
    go again.
    """
    latest: Any = peewee.fn.MAX(table.created_at)
    return judged.order_by(latest.desc()).limit(2 * _MAX_JUDGED).alias("judged")


def _routed(judged: Any, *columns: Any) -> Any:
    """Columns of the newest of these judged requests that were routed by their score.

    From the judgements to their requests: there are far fewer of them.
    """
    return (
        judged.select_from(*columns)
        .join(Request, on=judged.c.request_id == Request.id)
        .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == judged.c.request_id)
        .where(Request.score.is_null(False))
        .order_by(Request.created_at.desc(), Request.id)
        .limit(_MAX_JUDGED)
    )


def turns_of(prompt: str | None) -> list[tuple[str, str]] | None:
    """The turns of a stored prompt; None where it is a hash or was not kept."""
    if prompt is None:
        return None
    try:
        messages = msgspec.json.decode(prompt, type=list[dict[str, str]])
    except msgspec.DecodeError:
        return None
    return [(message["role"], message["content"]) for message in messages]


def _gist(prompt: str | None) -> str | None:
    """The beginning of what a user said last."""
    turns = turns_of(prompt)
    if not turns:
        return None
    said = next((text for role, text in reversed(turns) if role == "user"), turns[-1][1])
    return said if len(said) <= GIST_CHARS else said[: GIST_CHARS - 1] + "…"


def _weight(propensity: float | None) -> float:
    """What was not drawn, but judged for another reason, stands for itself."""
    return 1 / propensity if propensity else 1.0


def _as_sums(numbers: Sequence[int]) -> Sums:
    """Whole picodollars become dollars last."""
    return Sums(*numbers[:-3], *(pico / PICO for pico in numbers[-3:]))


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
    return middle_of(next(found))
