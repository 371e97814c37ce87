"""Queries for judgements, ratings and the shadow router's decisions.

They start from `judgements`, `preferences`, `samples` and `feedback`, which have far fewer rows
than `requests`.
"""

import operator
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import peewee

from proxy.budget import BilledTokens, Price
from proxy.evaluation.estimates import GRADES, JudgedPair, JudgedValue, Quality, estimate_quality
from proxy.record import PICODOLLARS
from proxy.storage import Queries, parse_turns
from proxy.storage.tables import Feedback, Judgement, Preference, Request, Sample
from router_model.evidence import Evidence
from router_model.value import CHARS_PER_TOKEN

_MAX_JUDGED: Final = 3_000
_MAX_JUDGEMENTS: Final = 4 * _MAX_JUDGED  # that estimates read: of two tiers and two judges
_MAX_ROUTED: Final = _MAX_JUDGED * 5 // 4  # judged requests, before a join drops unscored ones
MAX_COMPARED: Final = 20_000  # requests with the decisions of both routers
_IDS_AT_ONCE: Final = 500


class CategoryScore(NamedTuple):
    """The mean judge score (1-10) of one tier's answers in one category.

    Weighted by the inverse propensity, so it estimates the mean of all requests.
    """

    category: str
    target: str
    answers: int
    score: float


class WeightedPair(NamedTuple):
    """The judge scores of both answers, the request's merit, and the cloud's actual or estimated
    cost. `weight` as in `JudgedRequest`.
    """

    merit: float
    local: float
    cloud: float
    weight: float
    cloud_usd: float | None = None


class JudgedScores(NamedTuple):
    """The mean judge scores of both tiers' answers to a request. `weight` as in `JudgedRequest`."""

    local: float
    cloud: float
    weight: float


class JudgedRequest(NamedTuple):
    """A request with judge scores for both tiers' answers, each the mean over the judges.

    Attributes:
        turns: None if no readable prompt is stored (`storage.prompts`).
        cloud_cost_usd: the actual or estimated cost of the cloud's answer.
        weight: the inverse of the sampling probability.
        cloud_output_tokens: of the cloud's answer, reported or estimated from its text.
        evidence: of the local answer; None without a second look.
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
    cloud_output_tokens: float | None = None
    evidence: Evidence | None = None


class RatedRequest(NamedTuple):
    """A request with a client rating (-1 to 1, not 0) and without judgements.

    `target` and `model` gave the rated answer.
    """

    id: str
    turns: list[tuple[str, str]] | None
    session_id: str | None
    target: str
    model: str
    rating: float


class ShadowComparison(NamedTuple):
    """The decisions of the live router and a shadow router on the same requests.

    Attributes:
        agreed: requests with the same decision.
        live_cloud, candidate_cloud: requests that the router sends to the cloud.
        live_usd, candidate_usd: the cost of the router's decisions.
        all_cloud_usd: the cost if all requests go to the cloud.
    """

    requests: int = 0
    agreed: int = 0
    live_cloud: int = 0
    candidate_cloud: int = 0
    live_usd: float = 0.0
    candidate_usd: float = 0.0
    all_cloud_usd: float = 0.0


class QualityQueries(Queries):
    """The queries of one database."""

    def quality(self, since: float = 0.0, *, until: float | None = None) -> Quality:
        """Quality estimates from the judgements of a period (UNIX seconds, without `until`)."""
        bucket = peewee.fn.ROUND(Judgement.score + 0.4999)  # up; many SQLite builds lack ceil
        scores = (
            Judgement.select(
                Judgement.target, bucket.alias("bucket"), peewee.fn.COUNT(Judgement.score),
                peewee.fn.SUM(Judgement.score),
            )
            .where(_within(Judgement.created_at, since, until))
            .group_by(Judgement.target, peewee.SQL("bucket"))
        )  # fmt: skip
        with self._reading() as database:
            rows = list(scores.tuples().execute(database))
            since = max(since, self._oldest_judgement(database, until))
            pairs = list(self._pairs(since, until).tuples().execute(database)) if rows else []
            answers = list(self._answers(since, until).tuples().execute(database)) if rows else []
            compared = list(self._compared(since, until).tuples().execute(database))
        by_tier: dict[str, tuple[list[int], float]] = {}
        for target, bucket, number, total in rows:
            counts, before = by_tier.get(target, ([0] * len(GRADES), 0.0))
            counts[min(max(int(bucket), 1), len(GRADES)) - 1] += int(number)
            by_tier[target] = counts, before + total
        scored: dict[str, list[JudgedValue]] = {}
        for target, score, propensity, session in answers:
            scored.setdefault(target, []).append(JudgedValue(score, _weight(propensity), session))
        return estimate_quality(
            by_tier,
            pairs=[
                JudgedPair(local, cloud, target == "cloud", _weight(propensity), *rest)
                for local, cloud, target, propensity, *rest in pairs
            ],
            answers=scored,
            compared=[
                JudgedValue(float(as_good), _weight(propensity), session)
                for as_good, propensity, session in compared
            ],
        )

    def grades_by_category(
        self, since: float = 0.0, *, until: float | None = None
    ) -> list[CategoryScore]:
        """Mean judge scores by category and tier, including answers that no client got.

        They are those of the newest `_MAX_JUDGEMENTS`.
        """
        with self._reading() as database:
            since = max(since, self._oldest_judgement(database, until))
        weight = 1.0 / peewee.fn.COALESCE(Sample.propensity, 1.0)
        query = (
            Judgement.select(
                Request.category, Judgement.target, peewee.fn.COUNT(Judgement.score),
                peewee.fn.SUM(weight * Judgement.score) / peewee.fn.SUM(weight),
            )
            .join(Request, on=Judgement.request_id == Request.id)
            .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == Judgement.request_id)
            .where(_within(Judgement.created_at, since, until))
            .group_by(Request.category, Judgement.target)
            .order_by(Request.category, Judgement.target)
        )  # fmt: skip
        return [
            CategoryScore(category or "none", target, int(number), float(score))
            for category, target, number, score in self._rows(query)
        ]

    def weighted_pairs(
        self, since: float = 0.0, *, until: float | None = None
    ) -> list[WeightedPair]:
        """The newest judged pairs of a period, at most `_MAX_JUDGED`."""
        with self._reading() as database:
            both = self._both(max(since, self._oldest_judgement(database, until)), until)
        query = _routed(
            both, Request.merit, both.c.local, both.c.cloud, Sample.propensity,
            Request.cloud_cost_usd,
        )  # fmt: skip
        return [
            WeightedPair(merit, local, cloud, _weight(propensity), usd)
            for merit, local, cloud, propensity, usd in self._rows(query)
        ]

    def judged_scores(self, ids: Sequence[str]) -> dict[str, JudgedScores]:
        """The judge scores of those of these requests that have some for both answers."""
        scores: dict[str, JudgedScores] = {}
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = Judgement.request_id.in_(ids[start : start + _IDS_AT_ONCE])
            both = self._mean_scores(some).alias("both")
            query = both.select_from(
                both.c.request_id, both.c.local, both.c.cloud, Sample.propensity
            ).join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == both.c.request_id)
            for request_id, local, cloud, propensity in self._rows(query):
                scores[request_id] = JudgedScores(local, cloud, _weight(propensity))
        return scores

    def judged_requests(self, since: float = 0.0) -> list[JudgedRequest]:
        """The requests since `since` with judge scores for both answers, oldest first."""

        def of(target: str, value: Any) -> Any:
            return peewee.Case(None, ((Judgement.target == target, value),))

        is_cloud = Request.target == "cloud"
        estimated = peewee.fn.LENGTH(Sample.other_response) / CHARS_PER_TOKEN
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
                peewee.fn.MAX(peewee.Case(None, ((is_cloud, Request.output_tokens),), estimated)),
                peewee.fn.MAX(Sample.propensity),
                # That of the request may be of another local answer, which was rejected.
                peewee.fn.MAX(Sample.evidence),
            )
            .join(Judgement, on=Judgement.request_id == Request.id)
            .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == Request.id)
            .where(Request.created_at >= since)
            .group_by(Request.id)
            .having(peewee.fn.COUNT(peewee.fn.DISTINCT(Judgement.target)) == 2)
            .order_by(Request.created_at, Request.id)
        )
        return [
            JudgedRequest._make(
                (
                    key,
                    parse_turns(prompt),
                    *rest,
                    _weight(propensity),
                    written,
                    Evidence.from_json(evidence),
                )
            )
            for key, prompt, *rest, written, propensity, evidence in self._rows(query)
        ]

    def rated_requests(self, since: float = 0.0) -> list[RatedRequest]:
        """The requests since `since` with a client rating and no judgement, oldest first."""
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
        return [
            RatedRequest(key, parse_turns(prompt), *rest)
            for key, prompt, *rest in self._rows(query)
        ]

    def shadow_comparison(
        self, since: float, *, threshold: float, local_price: Price
    ) -> ShadowComparison:
        """Compare the decisions of the live and the shadow router.

        Reads the newest requests since `since` (UNIX seconds), at most `MAX_COMPARED`.

        Args:
            threshold: the threshold of the shadow router.
            local_price: prices requests that a router sends to the local tier, and that went to
                the cloud.
        """
        live, candidate = (
            peewee.Case(None, ((merit >= limit, 1),), 0)
            for merit, limit in (
                (Request.merit, Request.threshold),
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
                *(peewee.fn.COALESCE(peewee.fn.SUM(getattr(Request, name)), 0) for name in summed),
            )
            .where(
                Request.created_at >= self._oldest_compared(since),
                Request.candidate_score.is_null(False),
                Request.merit.is_null(False),
            )
            .group_by(*(peewee.SQL(str(column)) for column in (1, 2, 3)))
        )
        comparison = ShadowComparison()
        for row in self._rows(query):
            target, live_local, candidate_local, requests, cost, cloud, tokens, written = row
            local = cost
            if target != "local":
                local = local_price.cost(BilledTokens(int(tokens), int(written))) / PICODOLLARS
            added = (
                requests,
                requests if live_local == candidate_local else 0,
                0 if live_local else requests,
                0 if candidate_local else requests,
                local if live_local else cloud,
                local if candidate_local else cloud,
                cloud,
            )
            comparison = ShadowComparison(*map(operator.add, comparison, added))
        return comparison

    def _oldest_judgement(self, database: peewee.Database, until: float | None) -> float:
        """The time of the oldest judgement that estimates read; 0 if they read all."""
        at = Judgement.created_at
        oldest = self._nth_newest(database, at, _within(at, 0.0, until), _MAX_JUDGEMENTS)
        return 0.0 if oldest is None else oldest

    def _oldest_compared(self, since: float) -> float:
        """The time of the oldest request that a comparison reads."""
        compared = (Request.created_at >= since) & Request.candidate_score.is_null(False)
        with self._reading() as database:
            oldest = self._nth_newest(database, Request.created_at, compared, MAX_COMPARED)
        return since if oldest is None else oldest

    def _rows(self, query: Any) -> list[tuple[Any, ...]]:
        with self._reading() as database:
            return list(query.tuples().execute(database))

    def _pairs(self, since: float, until: float | None) -> Any:
        """Columns of `JudgedPair` for the newest routed requests with scores for both answers."""
        both = self._both(since, until)
        return _routed(
            both, both.c.local, both.c.cloud, Request.target, Sample.propensity,
            Request.session_id, Request.cost_usd, Request.cloud_cost_usd,
        )  # fmt: skip

    def _both(self, since: float, until: float | None) -> Any:
        """The newest requests with judge scores for both answers: their mean scores."""
        return _newest(
            self._mean_scores(_within(Judgement.created_at, since, until)),
            Judgement,
            number=_MAX_ROUTED,
        )

    def _mean_scores(self, condition: Any) -> Any:
        """The mean scores by request, of requests with judge scores for both answers."""

        def score(target: str) -> Any:
            return peewee.fn.AVG(
                peewee.Case(None, ((Judgement.target == target, Judgement.score),))
            )

        return (
            Judgement.select(
                Judgement.request_id, score("local").alias("local"), score("cloud").alias("cloud")
            )
            .where(condition)
            .group_by(Judgement.request_id)
            .having(peewee.fn.COUNT(peewee.fn.DISTINCT(Judgement.target)) == 2)
        )

    def _answers(self, since: float, until: float | None) -> Any:
        """The scores of the newest judged answers that clients got, for routed requests."""
        judged = (
            Judgement.select(
                Judgement.request_id, Judgement.target,
                peewee.fn.AVG(Judgement.score).alias("score"),
            )
            .where(_within(Judgement.created_at, since, until))
            .group_by(Judgement.request_id, Judgement.target)
        )  # fmt: skip
        # Clients got half of these answers.
        judged = _newest(judged, Judgement, number=2 * _MAX_ROUTED)
        return _routed(
            judged, Request.target, judged.c.score, Sample.propensity, Request.session_id
        ).where(Request.target == judged.c.target)

    def _compared(self, since: float, until: float | None) -> Any:
        """The newest routed requests whose answers a judge compared."""
        is_as_good = peewee.Case(None, ((Preference.verdict.in_(("local", "tie")), 1.0),), 0.0)
        judged = (
            Preference.select(Preference.request_id, peewee.fn.AVG(is_as_good).alias("as_good"))
            .where(_within(Preference.created_at, since, until))
            .group_by(Preference.request_id)
        )
        judged = _newest(judged, Preference, number=_MAX_ROUTED)
        return _routed(judged, judged.c.as_good, Sample.propensity, Request.session_id)


def _within(time: Any, since: float, until: float | None) -> Any:
    condition = time >= since
    return condition if until is None else condition & (time < until)


def _newest(judged: Any, table: type[Judgement | Preference], *, number: int) -> Any:
    """The `number` requests that were judged last."""
    latest: Any = peewee.fn.MAX(table.created_at)
    return judged.order_by(latest.desc()).limit(number).alias("judged")


def _routed(judged: Any, *columns: Any) -> Any:
    """Columns of the newest of these judged requests that were routed by their score.

    The join starts from the judgements, which are far fewer than the requests.
    """
    return (
        judged.select_from(*columns)
        .join(Request, on=judged.c.request_id == Request.id)
        .join(Sample, peewee.JOIN.LEFT_OUTER, on=Sample.request_id == judged.c.request_id)
        .where(Request.merit.is_null(False))
        .order_by(Request.created_at.desc(), Request.id)
        .limit(_MAX_JUDGED)
    )


def _weight(propensity: float | None) -> float:
    """The inverse propensity; 1 for requests that were judged without sampling."""
    return 1 / propensity if propensity else 1.0
