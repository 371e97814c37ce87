"""Compare two router models on live traffic: `hybrid-llm promote FOLDER`.

Both models score the held-out judged requests: the test part of router_model.split, which training
and calibration leave out. One measure, fixed in advance, decides:

- A router ranks by gain per dollar, and costs are known: the recovered share of the quality gap at
  the user's own share of the all-cloud dollars (`comparison`), as in self-calibration. If the
  router in use spends almost nothing or everything, every order recovers the same there: the mean
  over all shares instead.
- Else, a different network: APGR, the mean over all rates of cloud calls. It measures the ranking
  of prompts, independent of a threshold.
- Else, the same network, so a new calibration: the log loss of the served score, because the
  ranking is nearly the same.

The candidate is better if the 95 % interval of the difference is above 0 (paired bootstrap over
conversations). The results at each model's own threshold are for information only.
"""

import math
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from proxy.config import Config
from proxy.evaluation.comparison import (
    MAX_WITHOUT_GAP,
    MIN_HELD_OUT,
    MIN_ROUNDS,
    Difference,
    can_compare,
    compare_at_cost,
    spent_share,
)
from proxy.evaluation.dataset import (
    JudgedDataset,
    NotEnoughJudgements,
    dataset_of_pair,
    threshold_in_use,
)
from proxy.evaluation.queries import JudgedRequest
from router_model import calibrate
from router_model.calibrate import Outcomes, operating_points
from router_model.manifest import Manifest, OperatingPoint
from router_model.metrics import (
    Floats,
    apgr,
    apgr_by_cost,
    curve,
    log_loss,
    percentiles,
    resamples,
)
from router_model.model import RouterModel
from router_model.value import DEFAULT_PRICES, UsdPerToken

Measure = Literal["pgr_at_cost", "apgr_by_cost", "apgr", "log_loss"]
Rows = NDArray[np.int64]


class NothingHeldOut(Exception):
    """The candidate was fitted to the requests that would measure it."""


class MeasuredRouter(msgspec.Struct, frozen=True):
    """The results of one router on the held-out requests. `at_threshold`: at its own threshold.

    `apgr` is over calls or over dollars, for both routers alike.
    """

    version: str
    apgr: float
    log_loss: float
    at_threshold: OperatingPoint


class RouterComparison(NamedTuple):
    """The result of a comparison.

    Attributes:
        cost_share: of the all-cloud dollars, for the measure `pgr_at_cost`.
        difference: positive if the candidate is better.
        interval: the 95 % interval of the difference.
        needed: about how many more judged requests would make a difference of this size
            significant; None if it is significant, or more requests would not help.
    """

    judged: int
    held_out: int
    conversations: int
    measure: Measure
    cost_share: float | None
    difference: float
    interval: tuple[float, float]
    is_better: bool
    why: str
    needed: int | None
    current: MeasuredRouter
    candidate: MeasuredRouter


class _RatedRows(NamedTuple):
    """What a router says of the held-out requests, each [n]."""

    manifest: Manifest
    score: Floats
    merit: Floats


def compare_routers(
    current: RouterModel,
    candidate: RouterModel,
    judged: list[JudgedRequest],
    *,
    config: Config,
    since: float = 0.0,
    prices: UsdPerToken = DEFAULT_PRICES,
) -> RouterComparison:
    """Compare a candidate with the router in use, on held-out requests of the configured models.

    Args:
        judged: all judged requests: older ones show which prompts are not new.
        since: UNIX seconds; only later requests are compared.
        prices: of the cloud model.

    Raises:
        NotEnoughJudgements: fewer than MIN_HELD_OUT held-out requests.
        NothingHeldOut: the candidate is a calibration without held-out requests.
    """
    own = candidate.manifest.metrics.get("own_traffic")
    if own is not None and not own.get("held_out"):
        raise NothingHeldOut(
            f"{candidate.manifest.version} was calibrated on all judged requests, so none is held "
            "out to measure it. Calibrate again with at least 200 requests"
        )
    pairs = dataset_of_pair(judged, config)
    recent = np.array([request.created_at >= since for request in pairs.requests])
    held_out = pairs.take(pairs.held_out & recent)
    n = len(held_out.texts)
    if n < MIN_HELD_OUT:
        raise NotEnoughJudgements(
            f"not enough data: {n} of {MIN_HELD_OUT} held-out requests (a fifth of the "
            f"conversations; {len(pairs.texts)} requests have judge scores for both answers)"
        )
    outcomes = held_out.outcomes
    manifests = [m.manifest.for_objective(config.routing.objective) for m in (current, candidate)]
    routers = [
        _rate(manifest, held_out.logits(model), held_out, config, prices)
        for manifest, model in zip(manifests, (current, candidate), strict=True)
    ]
    by_cost = any(manifest.gain is not None for manifest in manifests) and outcomes.cost.any()
    cost_share = None
    if by_cost:
        threshold = threshold_in_use(manifests[0], config)
        cost_share = spent_share(routers[0].merit, outcomes, threshold=threshold)
    measure: Measure = "apgr"
    if cost_share is not None:
        measure = "pgr_at_cost" if can_compare(cost_share) else "apgr_by_cost"
    elif manifests[0].files == manifests[1].files:
        measure = "log_loss"
    if measure == "pgr_at_cost":
        assert cost_share is not None
        before, after = (router.merit for router in routers)
        found = compare_at_cost(before, after, outcomes, cost_share=cost_share)
    else:
        found = _compare(routers, outcomes, measure)
    difference, interval = found.value, (found.low, found.high)
    has_gap, is_better = found.has_gap, found.is_better
    needed = _needed(difference, interval, len(pairs.texts)) if has_gap and not is_better else None
    return RouterComparison(
        judged=len(pairs.texts),
        held_out=n,
        conversations=np.unique(outcomes.group).size,
        measure=measure,
        cost_share=None if cost_share is None else _r(cost_share),
        difference=_r(difference),
        interval=(_r(interval[0]), _r(interval[1])),
        is_better=is_better,
        why=_why(difference, interval, n=n, is_better=is_better, has_gap=has_gap, needed=needed),
        needed=needed,
        current=_measured(routers[0], outcomes, by_cost=bool(by_cost)),
        candidate=_measured(routers[1], outcomes, by_cost=bool(by_cost)),
    )


def _compare(routers: list[_RatedRows], outcomes: Outcomes, measure: Measure) -> Difference:
    """Compare by a measure without a share of the dollars. A lower log loss is better."""

    def value(router: _RatedRows, index: Rows, part: Outcomes) -> float:
        if measure == "log_loss":
            return -_log_loss(router.score[index], part)
        return _apgr(router.merit[index], part, by_cost=measure == "apgr_by_cost")

    before, after = (value(router, np.arange(outcomes.local.size), outcomes) for router in routers)
    differences = []
    for index in resamples(outcomes.group, rounds=MIN_ROUNDS):
        part = outcomes.take(index)
        current, candidate = (value(router, index, part) for router in routers)
        differences.append(candidate - current)
    low, high = percentiles(differences)
    has_gap = float(np.mean(~np.isfinite(differences))) <= MAX_WITHOUT_GAP
    return Difference(before, after, low, high, has_gap)


def _rate(
    manifest: Manifest,
    logits: Floats,
    judged: JudgedDataset,
    config: Config,
    prices: UsdPerToken,
) -> _RatedRows:
    score, _, _ = calibrate.scores(logits, manifest.calibration)
    merit = judged.policy_merits(logits, manifest, config, prices)
    return _RatedRows(manifest, score, merit)


def _apgr(merit: Floats, outcomes: Outcomes, *, by_cost: bool) -> float:
    """APGR; NaN if the cloud is no better on these rows, so that there is no gap to recover."""
    local, cloud, weight = outcomes.local, outcomes.cloud, outcomes.weight
    if np.average(cloud - local, weights=weight) <= 0:
        return math.nan
    points = curve(merit, local, cloud, outcomes.cost, weight=weight)
    return apgr_by_cost(points) if by_cost else apgr(points)


def _log_loss(score: Floats, outcomes: Outcomes) -> float:
    return log_loss(outcomes.local_suffices, score, weight=outcomes.weight)


def _measured(router: _RatedRows, outcomes: Outcomes, *, by_cost: bool) -> MeasuredRouter:
    manifest = router.manifest
    [point] = operating_points(router.merit, outcomes, np.array([manifest.threshold]))
    return MeasuredRouter(
        manifest.version,
        _r(_apgr(router.merit, outcomes, by_cost=by_cost)),
        _r(_log_loss(router.score, outcomes)),
        point,
    )


def _needed(difference: float, interval: tuple[float, float], judged: int) -> int | None:
    """How many more judged requests are needed, if the interval narrows with the square root."""
    if not difference > 0:
        return None
    half = (interval[1] - interval[0]) / 2
    total = judged * (half / difference) ** 2
    return max(1, math.ceil(total) - judged)


def _why(
    difference: float,
    interval: tuple[float, float],
    *,
    n: int,
    is_better: bool,
    has_gap: bool,
    needed: int | None,
) -> str:
    if not has_gap:
        return (
            f"on {n} held-out requests the cloud's answers are not significantly better than the "
            "local ones, so there is no quality gap to recover"
        )
    result = f"{difference:+.4f} [{interval[0]:+.4f}, {interval[1]:+.4f}] on {n} held-out requests"
    if is_better:
        return f"significantly better: {result}"
    if difference <= 0:
        return f"no better: {result}; more requests are not expected to change that"
    why = f"not significantly better: {result}; the interval includes 0"
    if needed is None:
        return why
    return f"{why}. If the difference is real, about {needed} more judged requests will show it"


def _r(value: float) -> float:
    return round(float(value), 4)
