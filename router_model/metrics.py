"""Router metrics on plain arrays. No model, no files, no fitting.

Conventions: `quality` arrays are the quality of a model's answer to each prompt (here 0-10).
`score` is higher where the prompt should be routed to the local tier. `weight`, where accepted, is
the number of prompts that each row represents.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1; ties get their mean rank."""
    array = _floats(values)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: Floats = (ends - (counts - 1) / 2.0)[inverse]
    return mean


def auroc(labels: ArrayLike, score: ArrayLike, *, weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve by the Mann-Whitney statistic; NaN with only one class."""
    positive = np.asarray(labels, dtype=bool)
    if weight is not None:
        return _weighted_auroc(positive, score, _floats(weight))
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    total = float(ranks(score)[positive].sum())
    return (total - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _weighted_auroc(positive: NDArray[np.bool_], score: ArrayLike, weight: Floats) -> float:
    _, place = np.unique(_floats(score), return_inverse=True)
    good, bad = (np.bincount(place, weight * chosen) for chosen in (positive, ~positive))
    pairs = float(good.sum() * bad.sum())
    below = np.cumsum(bad) - bad / 2  # a tie counts half
    return float((good * below).sum()) / pairs if pairs else float("nan")


def average_precision(labels: ArrayLike, score: ArrayLike) -> float:
    """Mean precision at each positive, by descending score (ties in the given order)."""
    positive = np.asarray(labels, dtype=bool)
    order = np.argsort(-_floats(score), kind="stable")
    hits = positive[order]
    if not hits.any():
        return float("nan")
    precision = np.cumsum(hits) / np.arange(1, hits.size + 1)
    return float(precision[hits].mean())


class Reliability(NamedTuple):
    """Per bin: mean prediction, observed rate, rows."""

    predicted: list[float]
    observed: list[float]
    rows: list[int]


def reliability(labels: ArrayLike, probability: ArrayLike, *, bins: int = 10) -> Reliability:
    """Predicted against observed rates in `bins` bins of equal width, without empty bins."""
    y, p = _floats(labels), _floats(probability)
    index = np.minimum((p * bins).astype(int), bins - 1)
    used = [b for b in range(bins) if (index == b).any()]
    return Reliability(
        predicted=[float(p[index == b].mean()) for b in used],
        observed=[float(y[index == b].mean()) for b in used],
        rows=[int((index == b).sum()) for b in used],
    )


def ece(
    labels: ArrayLike,
    probability: ArrayLike,
    *,
    bins: int = 10,
    weight: ArrayLike | None = None,
) -> float:
    """Expected calibration error over equally wide bins (Guo et al. 2017, arXiv:1706.04599)."""
    if weight is not None:
        p, w = _floats(probability), _floats(weight)
        index = np.minimum((p * bins).astype(int), bins - 1)
        misses = np.bincount(index, w * (p - _floats(labels)))
        return float(np.abs(misses).sum() / w.sum())
    table = reliability(labels, probability, bins=bins)
    gaps = np.abs(np.array(table.predicted) - np.array(table.observed))
    return float((gaps * np.array(table.rows)).sum() / sum(table.rows))


def expected_ece(
    probability: ArrayLike, *, bins: int = 10, rounds: int = 200, seed: int = 0
) -> float:
    """The expected ECE of perfect probabilities on this number of rows.

    Labels are drawn from the probabilities themselves. An ECE near this value is no evidence of
    miscalibration, and no calibration can be expected to be below it (Roelofs et al. 2022,
    arXiv:2012.08668).
    """
    p = _floats(probability)
    rng = np.random.default_rng(seed)
    samples = [ece(rng.random(p.size) < p, p, bins=bins) for _ in range(rounds)]
    return float(np.mean(samples))


def log_loss(
    labels: ArrayLike, probability: ArrayLike, *, weight: ArrayLike | None = None
) -> float:
    """Mean negative log likelihood, in nats; predictions are clipped to [1e-6, 1 - 1e-6]."""
    y, p = _floats(labels), np.clip(_floats(probability), 1e-6, 1 - 1e-6)
    w = None if weight is None else _floats(weight)
    return float(np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=w))


class Curve(NamedTuple):
    """Cost against quality when the k prompts with the lowest scores go to the cloud, k = 0..n.

    `cloud_share` [n+1]: share of calls. `cost_share` [n+1]: dollars as a share of all-cloud.
    `pgr` [n+1]: share of the local-to-cloud quality gap recovered (RouteLLM, arXiv:2406.18665).
    `quality` [n+1]: mean quality.
    """

    cloud_share: Floats
    cost_share: Floats
    pgr: Floats
    quality: Floats


def curve(
    score: ArrayLike,
    local_quality: ArrayLike,
    cloud_quality: ArrayLike,
    cost: ArrayLike,
    *,
    weight: ArrayLike | None = None,
) -> Curve:
    """The cost-quality curve of a ranking. Ties are interpolated linearly."""
    s, low, high, price = (_floats(a) for a in (score, local_quality, cloud_quality, cost))
    w = np.ones(s.size) if weight is None else _floats(weight)
    order = np.argsort(s, kind="stable")
    gain, dollars, moved = ((w * (high - low))[order], (w * price)[order], w[order])
    _, start, count = np.unique(s[order], return_index=True, return_counts=True)
    # The order within a tie is arbitrary, so each of its prompts gets the tie's mean.
    inside = np.add.reduceat(moved, start)
    gain = np.repeat(np.add.reduceat(gain, start) / inside, count) * moved
    dollars = np.repeat(np.add.reduceat(dollars, start) / inside, count) * moved
    n, total = s.size, float(w.sum())
    floor = float(np.average(low, weights=w))
    quality = floor + np.concatenate([[0.0], np.cumsum(gain)]) / total
    gap = float(np.average(high, weights=w)) - floor
    # NaN without a gap (nothing to recover) and without cost (nothing to save).
    pgr = (quality - floor) / gap if gap else np.full(n + 1, np.nan)
    spent = np.concatenate([[0.0], np.cumsum(dollars)])
    cost_share = spent / spent[-1] if spent[-1] else np.full(n + 1, np.nan)
    return Curve(np.concatenate([[0.0], np.cumsum(moved)]) / total, cost_share, pgr, quality)


def apgr(points: Curve) -> float:
    """Mean PGR over all shares of cloud calls; 0.5 for a random order."""
    return float(np.trapezoid(points.pgr, points.cloud_share))


def apgr_by_cost(points: Curve) -> float:
    """Mean PGR over all shares of the all-cloud dollars."""
    return float(np.trapezoid(points.pgr, points.cost_share))


def pgr_at_cost(points: Curve, cost_share: float) -> float:
    """The share of the gap recovered at this share of the all-cloud dollars."""
    return float(np.interp(cost_share, points.cost_share, points.pgr))


def cpt(points: Curve, target: float) -> float:
    """The smallest share of cloud calls that recovers `target` of the gap; NaN if none does."""
    reached = np.flatnonzero(points.pgr >= target)
    return float(points.cloud_share[reached[0]]) if reached.size else float("nan")


def quality_at(points: Curve, cloud_share: float) -> float:
    """Mean quality at this share of cloud calls."""
    return float(np.interp(cloud_share, points.cloud_share, points.quality))


class Routed(NamedTuple):
    """The effect of a threshold: local share of calls, cost share, PGR, mean quality."""

    local_share: float
    cost_share: float
    pgr: float
    quality: float


def routed(
    score: ArrayLike,
    local_quality: ArrayLike,
    cloud_quality: ArrayLike,
    cost: ArrayLike,
    *,
    threshold: float,
) -> Routed:
    """The outcome of answering locally iff score >= threshold."""
    s, low, high, price = (_floats(a) for a in (score, local_quality, cloud_quality, cost))
    local = s >= threshold
    quality = float(np.where(local, low, high).mean())
    gap = float(high.mean() - low.mean())
    return Routed(
        local_share=float(local.mean()),
        cost_share=float(price[~local].sum() / price.sum()),
        pgr=(quality - float(low.mean())) / gap if gap else float("nan"),
        quality=quality,
    )


def resamples(groups: ArrayLike, *, rounds: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Row indices of `rounds` bootstrap samples of whole groups, drawn with replacement.

    The same groups and seed give the same samples, which allows paired differences.
    """
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    members: list[NDArray[Any]] = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        sampled = rng.integers(0, len(members), len(members))
        yield np.concatenate([members[i] for i in sampled])


def bootstrap(
    measure: Callable[[NDArray[np.int64]], float],
    groups: ArrayLike,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of `measure(row indices)`, resampling whole groups."""
    return percentiles([measure(index) for index in resamples(groups, rounds=rounds, seed=seed)])


def percentiles(values: ArrayLike) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the finite values; NaN without any."""
    finite = _floats(values)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
