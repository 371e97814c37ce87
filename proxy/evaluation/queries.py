"""What judges and clients said about answers, as named questions to the database.

They read `judgements`, `preferences`, `samples` and `feedback`, which have far fewer rows than
`requests`.
"""

import operator
from typing import Any, Final, NamedTuple

import peewee

from proxy.budget import Price
from proxy.evaluation.estimates import GRADES, JudgedPair, JudgedValue, Quality, estimate_quality
from proxy.record import PICODOLLARS
from proxy.storage import Queries, parse_turns
from proxy.storage.tables import Feedback, Judgement, Preference, Request, Sample

_MAX_JUDGED: Final = 5_000


class CategoryScore(NamedTuple):
    """What judges gave the answers of one tier in one category: the mean of 1-10.

    By propensity weighted, so that it stands for all requests and not for those that were drawn.
    """

    category: str
    target: str
    answers: int
    score: float


class WeightedPair(NamedTuple):
    """A judged pair of answers with the score of its request; `weight` as in `JudgedRequest`."""

    score: float
    local: float
    cloud: float
    weight: float


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


class ShadowComparison(NamedTuple):
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


class QualityQueries(Queries):
    """Judgements, ratings and the shadow router's decisions, of one database."""

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
        with self._reading() as database:
            rows = list(scores.tuples().execute(database))
            pairs = list(self._pairs(since).tuples().execute(database)) if rows else []
            answers = list(self._answers(since).tuples().execute(database)) if rows else []
            compared = list(self._compared(since).tuples().execute(database))
        found: dict[str, tuple[list[int], float]] = {}
        for target, bucket, number, total in rows:
            counts, before = found.get(target, ([0] * len(GRADES), 0.0))
            counts[min(max(int(bucket), 1), len(GRADES)) - 1] += int(number)
            found[target] = counts, before + total
        got: dict[str, list[JudgedValue]] = {}
        for target, score, propensity, session in answers:
            got.setdefault(target, []).append(JudgedValue(score, _weight(propensity), session))
        return estimate_quality(
            found,
            pairs=[
                JudgedPair(local, cloud, target == "cloud", _weight(propensity), *rest)
                for local, cloud, target, propensity, *rest in pairs
            ],
            answers=got,
            compared=[
                JudgedValue(float(as_good), _weight(propensity), session)
                for as_good, propensity, session in compared
            ],
        )

    def grades_by_category(self, since: float = 0.0) -> list[CategoryScore]:
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
        with self._reading() as database:
            return [
                CategoryScore(category or "none", target, int(number), float(score))
                for category, target, number, score in query.tuples().execute(database)
            ]

    def weighted_pairs(self, since: float = 0.0) -> list[WeightedPair]:
        """The newest judged pairs of answers from `since` on."""
        both = self._both(since)
        query = _routed(both, Request.score, both.c.local, both.c.cloud, Sample.propensity)
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            WeightedPair(score, local, cloud, _weight(propensity))
            for score, local, cloud, propensity in rows
        ]

    def judged_requests(self, since: float = 0.0) -> list[JudgedRequest]:
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
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            JudgedRequest._make((key, parse_turns(prompt), *rest, _weight(propensity)))
            for key, prompt, *rest, propensity in rows
        ]

    def rated_requests(self, since: float = 0.0) -> list[RatedRequest]:
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
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [RatedRequest(key, parse_turns(prompt), *rest) for key, prompt, *rest in rows]

    def shadow_comparison(
        self, since: float, *, threshold: float, local_price: Price
    ) -> ShadowComparison:
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
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        found = ShadowComparison()
        for target, live_local, candidate_local, requests, cost, cloud, tokens, written in rows:
            local = cost
            if target != "local":
                price = local_price.cost(
                    input_tokens=int(tokens), cached_input_tokens=0, output_tokens=int(written)
                )
                local = price / PICODOLLARS
            added = (
                requests,
                requests if live_local == candidate_local else 0,
                0 if live_local else requests,
                0 if candidate_local else requests,
                local if live_local else cloud,
                local if candidate_local else cloud,
                cloud,
            )
            found = ShadowComparison(*map(operator.add, found, added))
        return found

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


def _weight(propensity: float | None) -> float:
    """What was not drawn, but judged for another reason, stands for itself."""
    return 1 / propensity if propensity else 1.0
