"""Turn the two heads' logits into the served score, on validation data only.

1. Each head's logit is scaled and shifted until it is a probability of a good answer.
2. gain = p_local - w * p_cloud. How much a pair's cloud head helps the ranking differs between
   pairs of models, so w is chosen on validation: the smallest w whose APGR is within a hair of the
   best. With w = 1 a prompt that both models fail ranks like one that both master; a smaller w
   keeps the second ahead, which is what a person expects.
3. A logistic curve over the gain makes it P(local answer at least as good as the cloud's).
4. The threshold table and the recommended threshold.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_model.label import is_ok
from router_model.manifest import Calibration, HeadCalibration, OperatingPoint
from training.dataset import Row
from training.metrics import Floats, apgr, curve, routed

# USD per token of gpt-4o-mini; a local answer costs nothing. Configured prices rule when serving:
# these only weigh prompts and answers of different lengths against each other.
INPUT_USD = 0.15e-6
OUTPUT_USD = 0.60e-6
CHARS_PER_TOKEN = 4.0

CLOUD_WEIGHTS = np.linspace(0.0, 1.0, 21)
APGR_HAIR = 0.01
MIN_SOURCE_ROWS = 50

# The recommended threshold recovers this share of the gap between the models on validation.
RECOMMENDED_PGR = 0.75
THRESHOLD_WHY = (
    "the lowest-cost threshold that recovers 75 % of the quality gap between the local and the "
    "cloud model on the validation prompts"
)


class Outcomes(NamedTuple):
    """Rows as arrays [n]: scores 0-10, good or not, dollars of a cloud answer, source, group."""

    local: Floats
    cloud: Floats
    local_ok: NDArray[np.bool_]
    cloud_ok: NDArray[np.bool_]
    cost: Floats
    source: NDArray[np.str_]
    group: NDArray[np.str_]

    @property
    def local_suffices(self) -> NDArray[np.bool_]:
        """Where the local answer is at least as good as the cloud's."""
        return self.local >= self.cloud

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Outcomes":
        """The same for some of the rows."""
        return Outcomes(
            local=self.local[index],
            cloud=self.cloud[index],
            local_ok=self.local_ok[index],
            cloud_ok=self.cloud_ok[index],
            cost=self.cost[index],
            source=self.source[index],
            group=self.group[index],
        )


def outcomes_of(rows: list[Row]) -> Outcomes:
    """The arrays of rows that have both scores.

    Tokens are estimated as characters / 4; where an answer's length is unknown, the median counts.
    """
    lengths = [r.cloud_response_chars for r in rows if r.cloud_response_chars is not None]
    typical = float(np.median(lengths)) if lengths else 1000.0
    cost = [
        (r.prompt_chars * INPUT_USD + _or(r.cloud_response_chars, typical) * OUTPUT_USD)
        / CHARS_PER_TOKEN
        for r in rows
    ]
    local = np.array([r.local_score for r in rows], dtype=float)
    cloud = np.array([r.cloud_score for r in rows], dtype=float)
    return Outcomes(
        local=local,
        cloud=cloud,
        local_ok=np.array([is_ok(s) for s in local]),
        cloud_ok=np.array([is_ok(s) for s in cloud]),
        cost=np.array(cost),
        source=np.array([r.source for r in rows]),
        group=np.array([r.group for r in rows]),
    )


def fit_logistic(x: ArrayLike, y: ArrayLike, *, ridge: float = 1e-3) -> tuple[float, float]:
    """(slope, intercept) of P(y) = sigmoid(slope x + intercept), by Newton's method.

    The ridge (towards slope 1, intercept 0) keeps separable data finite.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    design = np.stack([a, np.ones_like(a)], axis=1)
    prior = np.array([1.0, 0.0])
    beta = prior.copy()
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (p - b) + ridge * (beta - prior)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta -= step * min(1.0, 2.0 / (float(np.abs(step).max()) + 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def fit_head(logits: Floats, ok: NDArray[np.bool_]) -> HeadCalibration:
    """Scale and shift of one head. A slope that is not positive is a head that has not learnt."""
    slope, intercept = fit_logistic(logits, ok)
    return HeadCalibration(temperature=1 / max(slope, 0.05), bias=intercept)


def within_source_apgr(gain: Floats, out: Outcomes) -> float:
    """APGR inside each source, weighted by rows; sources too small or without a gap left out."""
    total = weight = 0.0
    for source in np.unique(out.source):
        part = out.take(out.source == source)
        if part.local.size < MIN_SOURCE_ROWS or part.cloud.mean() <= part.local.mean():
            continue
        value = apgr(curve(gain[out.source == source], part.local, part.cloud, part.cost))
        total += value * part.local.size
        weight += part.local.size
    return total / weight if weight else float("nan")


def fit(logits: Floats, out: Outcomes) -> Calibration:
    """The whole calibration from raw logits [n, 2] (local, cloud) and what really happened."""
    local = fit_head(logits[:, 0], out.local_ok)
    cloud = fit_head(logits[:, 1], out.cloud_ok)
    p_local, p_cloud = probabilities(logits, local, cloud)
    values = np.array([within_source_apgr(p_local - w * p_cloud, out) for w in CLOUD_WEIGHTS])
    weight = 0.5
    if np.isfinite(values).all():
        weight = float(CLOUD_WEIGHTS[np.flatnonzero(values >= values.max() - APGR_HAIR)[0]])
    slope, intercept = fit_logistic(p_local - weight * p_cloud, out.local_suffices)
    return Calibration(
        local=local,
        cloud=cloud,
        cloud_weight=round(weight, 4),
        slope=max(slope, 0.05),
        intercept=intercept,
    )


def probabilities(
    logits: Floats, local: HeadCalibration, cloud: HeadCalibration
) -> tuple[Floats, Floats]:
    """Calibrated p_local [n] and p_cloud [n]."""
    return (
        np.array([local.probability(float(x)) for x in logits[:, 0]]),
        np.array([cloud.probability(float(x)) for x in logits[:, 1]]),
    )


def scores(logits: Floats, calibration: Calibration) -> tuple[Floats, Floats, Floats]:
    """score, p_local, p_cloud, each [n], by the same code that serves."""
    p_local, p_cloud = probabilities(logits, calibration.local, calibration.cloud)
    pairs = zip(p_local, p_cloud, strict=True)
    return np.array([calibration.score(a, b) for a, b in pairs]), p_local, p_cloud


def threshold_table(score: Floats, out: Outcomes, *, steps: int = 40) -> list[OperatingPoint]:
    """Operating points from everything local to everything in the cloud, evenly by local share.

    The recovered quality is made monotone in the threshold, so that asking for more quality never
    lowers the threshold. The last row, threshold 1, sends everything to the cloud.
    """
    points: dict[float, OperatingPoint] = {}
    inner = np.quantile(score, np.linspace(0, 1, steps + 1)[1:-1])
    best = 0.0
    for threshold in [0.0, *np.unique(np.round(inner, 4)).tolist(), 1.0]:
        result = routed(score, out.local, out.cloud, out.cost, threshold=threshold)
        best = max(best, result.pgr) if np.isfinite(result.pgr) else best
        points[threshold] = OperatingPoint(
            threshold=threshold,
            cost_share=round(result.cost_share, 4),
            quality_share=round(best, 4),
            local_share=round(result.local_share, 4),
        )
    return list(points.values())


def recommend(table: list[OperatingPoint]) -> float:
    """The lowest threshold of the table that recovers RECOMMENDED_PGR."""
    fitting = [point.threshold for point in table if point.quality_share >= RECOMMENDED_PGR]
    return min(fitting, default=table[-1].threshold)


def _or(value: int | None, default: float) -> float:
    return default if value is None else float(value)
