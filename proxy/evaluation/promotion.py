"""Compare two router models on live traffic: `hybrid-llm promote FOLDER`.

Both models score the held-out judged requests: the test part of router_model.split, which training
and calibration leave out. One measure, fixed in advance, decides:

- A different network: APGR, the recovered share of the quality gap, averaged over all rates of
  cloud calls. It measures the ranking of prompts, independent of a threshold. If a router ranks by
  gain per dollar, the average is over all shares of the all-cloud cost.
- The same network, so a new calibration: the log loss of the served score, because the ranking is
  nearly the same. If only one of the two has a gain per dollar, the ranking differs: APGR.

The candidate is better if the 95 % interval of the difference is above 0 (paired bootstrap over
conversations). The results at each model's own threshold are for information only.
"""

import math
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from proxy.config import Config
from proxy.evaluation.dataset import JudgedDataset, NotEnoughJudgements, dataset_of_pair
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

MIN_HELD_OUT: Final = 100
ROUNDS: Final = 2000
# If more resamples have no quality gap between the tiers, the gap is not significant.
_MAX_WITHOUT_GAP: Final = 0.025


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
        difference: positive if the candidate is better.
        interval: the 95 % interval of the difference.
        needed: about how many more judged requests would make a difference of this size
            significant; None if it is significant, or more requests would not help.
    """

    judged: int
    held_out: int
    conversations: int
    measure: Literal["apgr", "apgr_by_cost", "log_loss"]
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
    with_gain = [manifest.gain is not None for manifest in manifests]
    # Another calibration of the same network hardly changes the order of prompts, but their
    # probabilities.
    uses_log_loss = manifests[0].files == manifests[1].files and with_gain[0] == with_gain[1]
    by_cost = any(with_gain) and bool(outcomes.cost.any())
    logits = [held_out.logits(model) for model in (current, candidate)]
    routers = [
        _rate(manifest, z, held_out, prices) for manifest, z in zip(manifests, logits, strict=True)
    ]

    def measure(router: _RatedRows, index: Rows, part: Outcomes) -> float:
        if uses_log_loss:
            return _log_loss(router.score[index], part)
        return _apgr(router.merit[index], part, by_cost=by_cost)

    sign = -1 if uses_log_loss else 1
    everything = np.arange(n)
    before, after = (measure(router, everything, outcomes) for router in routers)
    difference = sign * (after - before)
    differences = []
    for index in resamples(outcomes.group, rounds=ROUNDS):
        part = outcomes.take(index)
        current_value, candidate_value = (measure(router, index, part) for router in routers)
        differences.append(sign * (candidate_value - current_value))
    interval = percentiles(differences)
    has_gap = float(np.mean(~np.isfinite(differences))) <= _MAX_WITHOUT_GAP
    is_better = bool(interval[0] > 0) and has_gap
    needed = _needed(difference, interval, len(pairs.texts)) if has_gap and not is_better else None
    return RouterComparison(
        judged=len(pairs.texts),
        held_out=n,
        conversations=np.unique(outcomes.group).size,
        measure="log_loss" if uses_log_loss else "apgr_by_cost" if by_cost else "apgr",
        difference=_r(difference),
        interval=(_r(interval[0]), _r(interval[1])),
        is_better=is_better,
        why=_why(difference, interval, n=n, is_better=is_better, has_gap=has_gap, needed=needed),
        needed=needed,
        current=_measured(routers[0], outcomes, by_cost=by_cost),
        candidate=_measured(routers[1], outcomes, by_cost=by_cost),
    )


def _rate(
    manifest: Manifest, logits: Floats, judged: JudgedDataset, prices: UsdPerToken
) -> _RatedRows:
    score, _, _ = calibrate.scores(logits, manifest.calibration)
    merit = judged.merits(logits, manifest.calibration, manifest.gain, prices)
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
