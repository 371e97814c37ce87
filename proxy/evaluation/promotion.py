"""Whether another router model is better on one's own traffic: `hybrid-llm promote FOLDER`.

Both score the judged requests that neither was fitted to: the test part of router_model.split,
which training and calibration leave out. One measure decides, fixed beforehand: the difference in
APGR, the share of the quality gap that is recovered, averaged over all rates of cloud calls. It
judges the order of prompts and no threshold. A candidate with the same network is a calibration:
its order is nearly the same, what it changes is what the score means, so there the difference in
log loss of the served score decides. Promoted is what is better by more than chance: the 95 %
interval of the difference, bootstrapped in pairs over conversations, lies above 0.

What each of the two does at its own threshold is shown beside it, and decides nothing.
"""

import math
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from proxy.config import Config
from proxy.evaluation.dataset import NotEnoughJudgements, dataset_of_pair
from proxy.evaluation.queries import JudgedRequest
from router_model.calibrate import Outcomes, operating_points
from router_model.manifest import OperatingPoint
from router_model.metrics import Floats, apgr, curve, log_loss, percentiles, resamples
from router_model.model import RouterModel

MIN_HELD_OUT: Final = 100
ROUNDS: Final = 2000
# Where more resamples than these have no gap between the models, a share of it means nothing.
_MOST_WITHOUT_GAP: Final = 0.025


class NothingHeldOut(Exception):
    """The candidate was fitted to the requests that are to measure it."""


class MeasuredRouter(msgspec.Struct, frozen=True):
    """One router on the held-out requests; `at_threshold`: at its own."""

    version: str
    apgr: float
    log_loss: float
    at_threshold: OperatingPoint


class RouterComparison(NamedTuple):
    """What was found. `difference` is positive where the candidate is better; interval 95 %.

    `needed`: about how many more judged requests would settle a difference of this size; None
    where it is settled, or none would.
    """

    judged: int
    held_out: int
    conversations: int
    measure: Literal["apgr", "log_loss"]
    difference: float
    interval: tuple[float, float]
    is_better: bool
    why: str
    needed: int | None
    current: MeasuredRouter
    candidate: MeasuredRouter


def compare_routers(
    current: RouterModel,
    candidate: RouterModel,
    judged: list[JudgedRequest],
    *,
    config: Config,
    since: float = 0.0,
) -> RouterComparison:
    """Compare a candidate against the router in use, on the configured pair's held-out requests.

    Args:
        judged: all there are, for those before `since` (UNIX seconds) may hold the same prompts.

    Raises:
        NotEnoughJudgements: fewer than MIN_HELD_OUT held-out requests.
        NothingHeldOut: the candidate is a calibration that left nothing out.
    """
    own = candidate.manifest.metrics.get("own_traffic")
    if own is not None and not own.get("held_out"):
        raise NothingHeldOut(
            f"{candidate.manifest.version} was calibrated on all requests there were, those that "
            "would measure it included; calibrate again: from 200 on some are left out"
        )
    pairs = dataset_of_pair(judged, config)
    recent = np.array([request.created_at >= since for request in pairs.requests])
    kept = pairs.take(pairs.held_out & recent)
    n = len(kept.texts)
    if n < MIN_HELD_OUT:
        raise NotEnoughJudgements(
            f"not enough data: {n} of {MIN_HELD_OUT} judged requests that no router was fitted to "
            f"(a fifth of the conversations; {len(pairs.texts)} are judged on both sides)"
        )
    is_calibration = current.manifest.files == candidate.manifest.files
    out = kept.outcomes
    scores = [_scores(model, kept.texts) for model in (current, candidate)]
    measure = _log_loss if is_calibration else _apgr
    sign = -1 if is_calibration else 1
    difference = sign * (measure(scores[1], out) - measure(scores[0], out))
    drawn = []
    for index in resamples(out.group, rounds=ROUNDS):
        part = out.take(index)
        drawn.append(sign * (measure(scores[1][index], part) - measure(scores[0][index], part)))
    interval = percentiles(drawn)
    blurred = float(np.mean(~np.isfinite(drawn))) > _MOST_WITHOUT_GAP
    is_better = bool(interval[0] > 0) and not blurred
    needed = None if is_better or blurred else _needed(difference, interval, len(pairs.texts))
    return RouterComparison(
        judged=len(pairs.texts),
        held_out=n,
        conversations=np.unique(out.group).size,
        measure="log_loss" if is_calibration else "apgr",
        difference=_r(difference),
        interval=(_r(interval[0]), _r(interval[1])),
        is_better=is_better,
        why=_why(difference, interval, n=n, is_better=is_better, blurred=blurred, needed=needed),
        needed=needed,
        current=_measured(current, scores[0], out),
        candidate=_measured(candidate, scores[1], out),
    )


def _scores(model: RouterModel, texts: list[str]) -> Floats:
    return np.array([model.score(text).score for text in texts])


def _apgr(score: Floats, out: Outcomes) -> float:
    """NaN where the cloud is no better on these rows: there is no gap to recover."""
    if np.average(out.cloud - out.local, weights=out.weight) <= 0:
        return math.nan
    return apgr(curve(score, out.local, out.cloud, out.cost, weight=out.weight))


def _log_loss(score: Floats, out: Outcomes) -> float:
    return log_loss(out.local_suffices, score, weight=out.weight)


def _measured(model: RouterModel, score: Floats, out: Outcomes) -> MeasuredRouter:
    [point] = operating_points(score, out, np.array([model.manifest.threshold]))
    return MeasuredRouter(
        model.manifest.version, _r(_apgr(score, out)), _r(_log_loss(score, out)), point
    )


def _needed(difference: float, interval: tuple[float, float], judged: int) -> int | None:
    """More judged requests until an interval of this width, narrowing by the root, ends above 0."""
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
    blurred: bool,
    needed: int | None,
) -> str:
    if blurred:
        return (
            f"on {n} held-out requests the cloud's answers are not shown to be better than the "
            "local ones, so there is no gap whose recovery could be compared"
        )
    found = f"{difference:+.4f} [{interval[0]:+.4f}, {interval[1]:+.4f}] on {n} held-out requests"
    if is_better:
        return f"better by more than chance: {found}"
    if difference <= 0:
        return f"no better: {found}; more of the same is not expected to change that"
    short = f"not shown to be better: {found}; the interval's lower end is {-interval[0]:.4f} short"
    if needed is None:
        return short
    return f"{short}, and if the difference is real, about {needed} more judged requests settle it"


def _r(value: float) -> float:
    return round(float(value), 4)
