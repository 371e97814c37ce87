"""Calibration: from the two heads' logits to the served score, for training and live traffic.

1. Each head's logit is scaled and shifted to a probability of a good answer.
2. margin = p_local - w * p_cloud. How much the cloud head helps the ranking differs between model
   pairs, so w is chosen on validation: the smallest w whose APGR is close to the best one
   (APGR_TOLERANCE). With w = 1, prompts that both models fail rank like prompts that both solve. A
   smaller w ranks the latter higher, as a person expects.
3. A logistic curve over the margin gives P(local answer at least as good as the cloud's).
4. `fit_gain`: answer length, reference request and scale of the gain per dollar (`value`), which
   ranks the requests by default.
5. The threshold table, with intervals, and the recommended threshold.

Training fits everything on thousands of validation rows. Judged live requests are a few hundred:
then the existing calibration is the prior. Rows that were sampled with different probabilities are
weighted by the number of requests that they represent.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_model.manifest import Calibration, Gain, HeadCalibration, OperatingPoint
from router_model.metrics import Floats, apgr, curve, percentiles, resamples
from router_model.value import (
    DEFAULT_PRICES,
    MAX_OUTPUT_TOKENS,
    MIN_OUTPUT_TOKENS,
    MIN_RELATIVE_COST,
    UsdPerToken,
    expected_output_tokens,
    merits_of,
    relative_costs,
)

CLOUD_WEIGHTS = np.linspace(0.0, 1.0, 21)
APGR_TOLERANCE = 0.01
MIN_SOURCE_ROWS = 50

# The weight of a client's rating relative to a judge's score of the same answer, times the rating's
# own size of 0 to 1. A rating reflects tone as much as facts, and raters are few and not a random
# sample. With a third of the weight, ratings move a head where there is little other data, and
# never outvote as many judgements. This is an assumption, not a measurement.
RATING_WEIGHT = 0.3

# The weight of a user's choice between two answers, relative to a judged pair. Users choose what to
# compare, and often know which answer is whose, so a choice counts less than a judge's pair. All
# choices together count at most as this share of the judged pairs, however many there are
# (docs/decisions/020-choices-of-users.md).
CHOICE_WEIGHT = 0.3
MAX_CHOICE_SHARE = 0.5

# The recommended threshold recovers this share of the gap between the models.
RECOMMENDED_PGR = 0.75
THRESHOLD_WHY = (
    "the lowest-cost threshold that recovers {share:.4g} % of the quality gap between the local "
    "and the cloud model on {rows}"
)
COST_WHY = (
    "the highest threshold that costs at most {share:.4g} % of sending everything to the cloud "
    "on {rows}"
)
SPEND_WHY = "spends {share:.4g} % of the cost of sending everything to the cloud on {rows}"
NO_GAP_WHY = "on {rows} the cloud's answers are on average no better than the local ones"

# Standard deviations of the Gaussian prior for another model: half of the slope, and 1.5 for the
# intercept (from 50 % to 82 % of good answers).
PRIOR_SLOPE_SHARE = 0.5
PRIOR_INTERCEPT = 1.5
# The same for the length of answers: other models and prompts write up to e times as much. The
# deviation of a single answer from its prediction is about 0.7. Both are assumptions.
PRIOR_LENGTH = np.array([1.0, 0.25, 0.25, 0.25, 0.25])
LENGTH_NOISE = 0.7
# The means of another model's reference request count as much as this number of rows.
PRIOR_ROWS = 100.0

# A little ridge keeps the fit of separable or constant data finite.
_RIDGE = 1e-3


class Outcomes(NamedTuple):
    """Rows as arrays [n]: scores 0-10, good or not, dollars of a cloud answer, source, group.

    `weight`: the number of requests that a row represents, the inverse of its sampling probability.
    """

    local: Floats
    cloud: Floats
    local_ok: NDArray[np.bool_]
    cloud_ok: NDArray[np.bool_]
    cost: Floats
    source: NDArray[np.str_]
    group: NDArray[np.str_]
    weight: Floats

    @property
    def local_suffices(self) -> NDArray[np.bool_]:
        """Where the local answer is at least as good as the cloud's."""
        return self.local >= self.cloud

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Outcomes":
        """The outcomes of some of the rows."""
        return Outcomes._make(column[index] for column in self)


class Ratings(NamedTuple):
    """Clients' ratings as arrays [m]: labels of single answers, which affect only the heads.

    A rating is a label of the answer that the client received, a choice between two answers is one
    label of each.

    `logits` [m, 2] are the router's, `is_local` says which tier answered, `weight` is relative to
    one judged row.
    """

    logits: Floats
    is_local: NDArray[np.bool_]
    ok: NDArray[np.bool_]
    weight: Floats
    group: NDArray[np.str_]

    def take(self, index: NDArray[np.bool_]) -> "Ratings":
        """Some of the ratings."""
        return Ratings._make(column[index] for column in self)

    def join(self, other: "Ratings") -> "Ratings":
        """These and the others."""
        return Ratings._make(map(np.concatenate, zip(self, other, strict=True)))


def fit_logistic(
    x: ArrayLike,
    y: ArrayLike,
    *,
    prior: tuple[float, float] = (1.0, 0.0),
    ridge: tuple[float, float] = (1e-3, 1e-3),
    weight: ArrayLike = 1.0,
) -> tuple[float, float]:
    """(slope, intercept) of P(y) = sigmoid(slope x + intercept), by Newton's method.

    `ridge` pulls each of the two towards `prior`, as a Gaussian with variance 1 / ridge does; a
    little of it keeps the fit of separable data finite. A row counts `weight` times.
    """
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    times = np.broadcast_to(np.asarray(weight, dtype=float), a.shape)
    design = np.stack([a, np.ones_like(a)], axis=1)
    centre, pull = np.array(prior), np.array(ridge)
    beta = centre.copy()
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (times * (p - b)) + pull * (beta - centre)
        hessian = (design * (times * p * (1 - p))[:, None]).T @ design + np.diag(pull)
        step = np.linalg.solve(hessian, gradient)
        beta -= step * min(1.0, 2.0 / (float(np.abs(step).max()) + 1e-12))
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(beta[0]), float(beta[1])


def fit_with_prior(
    x: ArrayLike, y: ArrayLike, prior: tuple[float, float], *, weight: ArrayLike = 1.0
) -> tuple[float, float]:
    """`fit_logistic` for few rows, with the (slope, intercept) of another model as the prior."""
    spread = (PRIOR_SLOPE_SHARE * prior[0], PRIOR_INTERCEPT)
    ridge = (spread[0] ** -2, spread[1] ** -2)
    return fit_logistic(x, y, prior=prior, ridge=ridge, weight=weight)


def effective_weights(weight: Floats) -> Floats:
    """Weights [n], scaled so that their sum is the effective sample size (Kish 1965).

    A few rows are few data, even if each represents a thousand requests. The prior must be weighed
    against the effective number of rows. Equal weights become ones.
    """
    squares = float((weight**2).sum())
    return weight * (float(weight.sum()) / squares) if squares else weight


def fit_head(
    logits: Floats,
    ok: NDArray[np.bool_],
    *,
    prior: HeadCalibration | None = None,
    weight: ArrayLike = 1.0,
) -> HeadCalibration:
    """Scale and shift of one head. The slope is at least 0.05, also without information."""
    if prior is None:
        slope, intercept = fit_logistic(logits, ok, weight=weight)
    else:
        around = (1 / prior.temperature, prior.bias)
        slope, intercept = fit_with_prior(logits, ok, around, weight=weight)
    return HeadCalibration(temperature=1 / max(slope, 0.05), bias=intercept)


def within_source_apgr(gain: Floats, out: Outcomes) -> float:
    """APGR per source, weighted by rows, without sources that are too small or have no gap."""
    total = weight = 0.0
    for source in np.unique(out.source):
        part = out.take(out.source == source)
        if part.local.size < MIN_SOURCE_ROWS or part.cloud.mean() <= part.local.mean():
            continue
        points = curve(
            gain[out.source == source], part.local, part.cloud, part.cost, weight=part.weight
        )
        value = apgr(points)
        total += value * part.local.size
        weight += part.local.size
    return total / weight if weight else float("nan")


def fit(
    logits: Floats,
    out: Outcomes,
    *,
    prior: Calibration | None = None,
    ratings: Ratings | None = None,
) -> Calibration:
    """Fit the whole calibration from raw logits [n, 2] (local, cloud) and outcomes.

    Use a `prior` with few rows: its cloud weight is kept, everything else stays near it. `ratings`
    affect only the heads. Which answers were rated depends on the routing, so ratings say how good
    an answer to such a prompt is, but not how frequent such prompts are.
    """
    times = effective_weights(out.weight)

    def head(column: int, ok: NDArray[np.bool_], around: HeadCalibration | None) -> HeadCalibration:
        if ratings is None:
            return fit_head(logits[:, column], ok, prior=around, weight=times)
        of_head = ratings.take(ratings.is_local == (column == 0))
        return fit_head(
            np.concatenate([logits[:, column], of_head.logits[:, column]]),
            np.concatenate([ok, of_head.ok]),
            prior=around,
            weight=np.concatenate([times, of_head.weight]),
        )

    local = head(0, out.local_ok, prior.local if prior else None)
    cloud = head(1, out.cloud_ok, prior.cloud if prior else None)
    p_local, p_cloud = probabilities(logits, local, cloud)
    if prior is not None:
        weight = prior.cloud_weight
        slope, intercept = fit_with_prior(
            p_local - weight * p_cloud,
            out.local_suffices,
            (prior.slope, prior.intercept),
            weight=times,
        )
    else:
        values = np.array([within_source_apgr(p_local - w * p_cloud, out) for w in CLOUD_WEIGHTS])
        weight = 0.5
        if np.isfinite(values).all():
            weight = float(
                CLOUD_WEIGHTS[np.flatnonzero(values >= values.max() - APGR_TOLERANCE)[0]]
            )
        gain = p_local - weight * p_cloud
        slope, intercept = fit_logistic(gain, out.local_suffices, weight=times)
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
    """score, p_local and p_cloud, each [n], computed by the serving code."""
    p_local, p_cloud = probabilities(logits, calibration.local, calibration.cloud)
    pairs = zip(p_local, p_cloud, strict=True)
    return np.array([calibration.score(a, b) for a, b in pairs]), p_local, p_cloud


def fit_gain(
    logits: Floats,
    out: Outcomes,
    calibration: Calibration,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    text_tokens: ArrayLike | None = None,
    prices: UsdPerToken = DEFAULT_PRICES,
    prior: Gain | None = None,
) -> Gain:
    """Fit what the gain per dollar needs besides the calibration. With few rows use a `prior`.

    Args:
        logits: [n, 2 or 3].
        input_tokens: [n], of what is new in the requests (`task.new_chars`).
        output_tokens: [n], of the cloud's answers; NaN where unknown.
        text_tokens: [n], of the scored texts, where they are not the whole requests
            (`value.text_tokens`).
        prices: of the cloud model; they only matter for `scale`.
        prior: of another model. Everything stays near it, and `scale` is kept, so that thresholds
            mean the same.
    """
    given = np.asarray(input_tokens, dtype=float)
    written = np.asarray(output_tokens, dtype=float)
    texts = given if text_tokens is None else np.asarray(text_tokens, dtype=float)
    times = effective_weights(out.weight)
    known = np.isfinite(written)
    mean_written, rows = _mean(written[known], times[known])
    mean_given, _ = _mean(given, times)
    if prior is not None:
        total = float(times.sum())
        mean_given = _shrunk(mean_given, total, prior.input_tokens)
        mean_written = _shrunk(mean_written, rows, prior.output_tokens)
    gain = Gain(
        length=_fit_length(logits[known], texts[known], written[known], times[known], prior=prior),
        input_tokens=max(mean_given, 1.0),
        output_tokens=max(mean_written, MIN_OUTPUT_TOKENS),
        scale=1.0 if prior is None else prior.scale,
    )
    if prior is not None:
        return gain
    lengths = expected_output_tokens(gain, logits, texts)
    costs = relative_costs(gain, given, lengths, prices)
    value = np.maximum(_expected_gain(logits, calibration), 0.0)
    value /= np.maximum(costs, MIN_RELATIVE_COST)
    positive = value[value > 0]
    typical = float(np.median(value)) or float(np.median(positive) if positive.size else 1.0)
    return msgspec.structs.replace(gain, scale=1.0 / typical)


def _expected_gain(logits: Floats, calibration: Calibration) -> Floats:
    """p_cloud - p_local [n]."""
    p_local, p_cloud = probabilities(logits, calibration.local, calibration.cloud)
    return p_cloud - p_local


def _fit_length(
    logits: Floats, texts: Floats, written: Floats, times: Floats, *, prior: Gain | None
) -> tuple[float, float, float, float, float]:
    """The weights of `Gain.length`: a ridge regression, from rows with a known length."""
    columns = 2 + logits.shape[1]
    design = np.column_stack([np.ones(len(texts)), np.log(np.maximum(texts, 1.0)), logits])
    log = np.log(np.clip(written, MIN_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS))
    centre, pull = np.zeros(columns), np.full(columns, _RIDGE)
    if prior is not None:
        centre = np.array(prior.length)[:columns]
        pull = (LENGTH_NOISE / PRIOR_LENGTH[:columns]) ** 2
    weighted = design.T * times
    beta = centre + np.linalg.solve(
        weighted @ design + np.diag(pull), weighted @ (log - design @ centre)
    )
    intercept, of_tokens, local, cloud, of_length = [*map(float, beta), 0.0][:5]
    return intercept, of_tokens, local, cloud, of_length


def _mean(values: Floats, times: Floats) -> tuple[float, float]:
    """The weighted mean, 0 of no values, and the effective number of rows."""
    total = float(times.sum())
    return (float(times @ values) / total if total else 0.0), total


def _shrunk(mean: float, rows: float, prior: float) -> float:
    return (rows * mean + PRIOR_ROWS * prior) / (rows + PRIOR_ROWS)


def merits(
    logits: Floats,
    calibration: Calibration,
    gain: Gain | None,
    input_tokens: ArrayLike,
    *,
    text_tokens: ArrayLike | None = None,
    prices: UsdPerToken = DEFAULT_PRICES,
) -> Floats:
    """What requests [n] are ranked by, as in serving: their merits, or scores without a gain.

    The arguments are those of `fit_gain`.
    """
    if gain is None:
        return scores(logits, calibration)[0]
    texts = input_tokens if text_tokens is None else text_tokens
    lengths = expected_output_tokens(gain, logits, texts)
    relative = relative_costs(gain, input_tokens, lengths, prices)
    return merits_of(_expected_gain(logits, calibration), relative, scale=gain.scale)


def threshold_table(
    score: Floats,
    out: Outcomes,
    *,
    steps: int = 40,
    rounds: int = 1000,
    also: float | None = None,
) -> list[OperatingPoint]:
    """Operating points from everything local to everything in the cloud, evenly by local share.

    The recovered quality is made monotone in the threshold, so that asking for more quality never
    lowers the threshold. The last row, threshold 1, sends everything to the cloud. Intervals: 95 %,
    bootstrap over groups. If the cloud is not better, there is no gap and no quality to recover.

    Args:
        also: one more threshold for the table.
    """
    inner = np.round(np.quantile(score, np.linspace(0, 1, steps + 1)[1:-1]), 4)
    thresholds = [0.0, *inner, 1.0, *([] if also is None else [also])]
    return operating_points(score, out, np.unique(thresholds), rounds=rounds)


def threshold_for_spend(score: Floats, out: Outcomes, cost_share: float) -> float:
    """The threshold whose cost is nearest to this share of the all-cloud cost.

    Unlike `recommend_for_cost` it is not limited to a table's steps and may cost a little more, so
    that repeated calibrations do not lower the spending.
    """
    # A request with exactly the merit of the threshold stays local.
    thresholds = np.append(np.unique(score), 1.0)
    cost, _ = _shares(score, out, np.arange(score.size), thresholds)
    return float(thresholds[np.argmin(np.abs(cost - cost_share))])


def operating_points(
    score: Floats, out: Outcomes, thresholds: Floats, *, rounds: int = 1000
) -> list[OperatingPoint]:
    """The operating points of given ascending thresholds, chosen on other rows."""
    everything = np.arange(score.size)
    cost, quality = _shares(score, out, everything, thresholds)
    resampled = [_shares(score, out, i, thresholds) for i in resamples(out.group, rounds=rounds)]
    costs, qualities = (np.array(values) for values in zip(*resampled, strict=True))
    return [
        OperatingPoint(
            threshold=float(threshold),
            cost_share=round(float(cost[k]), 4),
            cost_interval=_interval(costs[:, k]),
            quality_share=round(float(quality[k]), 4),
            quality_interval=_interval(qualities[:, k]),
            local_share=round(float(np.average(score >= threshold, weights=out.weight)), 4),
        )
        for k, threshold in enumerate(thresholds)
    ]


def _shares(
    score: Floats, out: Outcomes, index: NDArray[np.int64], thresholds: Floats
) -> tuple[Floats, Floats]:
    """Per threshold, on the rows of `index`: cost share, and share of the gap recovered."""
    order = index[np.argsort(score[index], kind="stable")]
    # At each threshold the rows before this index go to the cloud.
    ends = np.searchsorted(score[order], thresholds, side="left")
    w = out.weight[order]
    dollars = np.concatenate([[0.0], np.cumsum(w * out.cost[order])])[ends]
    gains = np.concatenate([[0.0], np.cumsum(w * (out.cloud - out.local)[order])])
    calls = np.concatenate([[0.0], np.cumsum(w)])
    total = float((out.weight * out.cost)[index].sum())
    gap = float(gains[-1])
    quality = gains[ends] / gap if gap > 0 else np.zeros(thresholds.size)
    cost = dollars / total if total else calls[ends] / calls[-1]
    return cost, np.maximum.accumulate(np.maximum(quality, 0.0))


def recommend(
    table: list[OperatingPoint], *, rows: str, quality_share: float = RECOMMENDED_PGR
) -> tuple[float, str]:
    """The lowest threshold that recovers this share, and the reason. `rows` describes the data.

    0, everything local, if the cloud is not better than the local model.
    """
    if table[-1].quality_share <= 0:
        return 0.0, NO_GAP_WHY.format(rows=rows)
    fitting = [point.threshold for point in table if point.quality_share >= quality_share]
    why = THRESHOLD_WHY.format(share=100 * quality_share, rows=rows)
    return min(fitting, default=table[-1].threshold), why


def recommend_for_cost(
    table: list[OperatingPoint], *, rows: str, cost_share: float
) -> tuple[float, str]:
    """The highest threshold that costs at most this share of all-cloud, and the reason."""
    fitting = [point.threshold for point in table if point.cost_share <= cost_share]
    return max(fitting, default=0.0), COST_WHY.format(share=100 * cost_share, rows=rows)


def _interval(values: Floats) -> tuple[float, float]:
    low, high = percentiles(values)
    return round(low, 4), round(high, 4)
