"""Answer quality of all routed traffic, estimated from the judged requests.

The quality gap is the mean score of the cloud answers minus that of the local answers to the same
requests. Routing recovers a share of it: "performance gap recovered" in RouteLLM (Ong et al. 2024,
arXiv:2406.18665). Only requests with judge scores for *both* answers enter this estimate.

Weights: rare kinds of requests are sampled more often (`sampling`). Each row is therefore weighted
by the inverse of its sampling probability, and means are divided by the sum of the weights: Hájek's
ratio (Särndal, Swensson & Wretman, Model Assisted Survey Sampling, ch. 5.7). Requests that were
judged without sampling have the weight 1.

Intervals: every estimate has a 95 % interval, clustered by conversation.

- Recovered share, savings and means are ratios with random denominators, and the weights skew their
  distributions. Their intervals are Fieller's (1954). Bootstrap intervals were too narrow: their
  coverage was 88 to 95 % in `make simulate`. There is no interval if the gap may be 0.
- Shares of answers are often near 1, where a small sample has few failures or none. Their intervals
  are Wilson's with the effective sample size (Korn & Graubard 1998).

Assumption: sampled requests that were not judged (budget spent, or text not suitable) are like the
judged ones.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_model.label import OK_SCORE

MIN_PAIRS: Final = 100
MIN_ANSWERS: Final = 50
MIN_CONVERSATIONS: Final = 20  # the interval rests on the variance between conversations
_Z: Final = 1.959964
_NO_VARIANCE: Final = 1e-18  # of a share; anything below is a rounding error

GRADES: Final = tuple(range(1, 11))

Floats = NDArray[np.float64]


class JudgedPair(NamedTuple):
    """A request with the scores of both tiers' answers.

    Attributes:
        went_to_cloud: whether the client got the cloud's answer.
        weight: the inverse of the sampling probability.
        session: the conversation; None if unknown.
        cost_usd: the cost of the client's answer.
        cloud_cost_usd: the actual or estimated cost of the cloud's answer.
    """

    local_score: float
    cloud_score: float
    went_to_cloud: bool
    weight: float = 1.0
    session: str | None = None
    cost_usd: float | None = None
    cloud_cost_usd: float | None = None


class JudgedValue(NamedTuple):
    """A measured value of one request, such as a score. Other fields as in `JudgedPair`."""

    value: float
    weight: float = 1.0
    session: str | None = None


class Recovered(NamedTuple):
    """The share of the quality gap that routing recovers, with its 95 % interval."""

    ratio: float
    low: float
    high: float


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class SampleSize(NamedTuple):
    """The sample size of an estimate: requests, and their conversations."""

    requests: int = 0
    conversations: int = 0

    @classmethod
    def of(cls, rows: Sequence[JudgedPair | JudgedValue]) -> "SampleSize":
        sessions = {row.session for row in rows} - {None}
        return cls(len(rows), len(sessions) + sum(row.session is None for row in rows))

    def shortage(self, least: int) -> str | None:
        """What an estimate lacks, as in `99 of 100`; None if the sample is large enough."""
        if self.requests < least:
            return f"{self.requests:,} of {least}"
        if self.conversations < MIN_CONVERSATIONS:
            return f"{self.conversations} of {MIN_CONVERSATIONS} conversations"
        return None


class Quality(NamedTuple):
    """Estimates of answer quality for all requests that were routed by their score.

    An estimate is None if its sample is too small.

    Attributes:
        scores: by tier, the number of judged answers with score 1, 2 … 10 (rounded up), and the sum
            of the scores. Unweighted.
        recovered: the recovered share of the quality gap; also None if there is no clear gap.
        good_local: the share of local answers that score OK_SCORE or more.
        mean_scores: by tier, the mean score of the answers that clients got.
        local_as_good: the share of compared requests where the judge prefers the local answer or
            finds a tie.
        relative: the mean score of the clients' answers as a share of the mean score of the cloud's
            answers to the same requests.
        saved: the savings at equal quality as a share of the all-cloud bill (see `saved`); None
            like `recovered`.
        counted: the sample sizes: `pairs` (recovered and relative), `priced` (saved), `local` and
            `cloud` (answers that clients got) and `compared`.
    """

    scores: Mapping[str, tuple[Sequence[int], float]] = {}
    recovered: Recovered | None = None
    good_local: Interval | None = None
    mean_scores: Mapping[str, Interval] = {}
    local_as_good: Interval | None = None
    relative: Interval | None = None
    saved: Interval | None = None
    counted: Mapping[str, SampleSize] = {}


def estimate_quality(
    scores: Mapping[str, tuple[Sequence[int], float]],
    *,
    pairs: Sequence[JudgedPair],
    answers: Mapping[str, Sequence[JudgedValue]],
    compared: Sequence[JudgedValue],
) -> Quality:
    """Compute all estimates.

    Args:
        scores: as in `Quality`.
        pairs: requests with judge scores for both answers.
        answers: by tier, the scores of the answers that clients got.
        compared: 1 if the judge found the local answer at least as good, else 0.
    """
    priced = [row for row in pairs if row.cost_usd is not None and row.cloud_cost_usd is not None]
    local = answers.get("local", ())
    means = {tier: mean(rows) for tier, rows in answers.items()}
    return Quality(
        scores,
        recovered(pairs),
        share([row._replace(value=float(row.value >= OK_SCORE)) for row in local]),
        {tier: estimate for tier, estimate in means.items() if estimate is not None},
        share(compared, least=MIN_PAIRS),
        relative(pairs),
        saved(priced),
        {
            "pairs": SampleSize.of(pairs),
            "priced": SampleSize.of(priced),
            "local": SampleSize.of(local),
            "cloud": SampleSize.of(answers.get("cloud", ())),
            "compared": SampleSize.of(compared),
        },
    )


def recovered(pairs: Sequence[JudgedPair]) -> Recovered | None:
    """The share of the quality gap that routing recovered; None without a clear gap."""
    if SampleSize.of(pairs).shortage(MIN_PAIRS):
        return None
    sums = _sums(pairs, _gain_and_gap(pairs))
    ratio = _ratio(sums[:, 0], sums[:, 1])
    return Recovered(*ratio) if ratio else None


def relative(pairs: Sequence[JudgedPair]) -> Interval | None:
    """The mean score of the clients' answers as a share of that of the cloud's answers."""
    if SampleSize.of(pairs).shortage(MIN_PAIRS):
        return None
    scores = [
        (pair.cloud_score if pair.went_to_cloud else pair.local_score, pair.cloud_score)
        for pair in pairs
    ]
    sums = _sums(pairs, np.array(scores))
    return _ratio(sums[:, 0], sums[:, 1])


def saved(pairs: Sequence[JudgedPair]) -> Interval | None:
    """Savings at equal quality: the recovered share of the gap minus the share of the cloud bill.

    The comparison is random routing. It sends a share r of requests to the cloud, recovers r of
    the gap and costs r of the all-cloud bill: the straight line below the cost-quality curves of
    Hybrid LLM (Ding et al. 2024, arXiv:2404.14618) and RouteLLM. A router that recovers r at a
    share c of that bill saves r - c. Below 0 random routing would be cheaper. The cost of local
    answers counts.

    Args:
        pairs: with both costs.
    """
    if SampleSize.of(pairs).shortage(MIN_PAIRS):
        return None
    costs = np.array([(pair.cost_usd, pair.cloud_cost_usd) for pair in pairs], dtype=float)
    gain, gap, cost, bill = _sums(pairs, np.hstack([_gain_and_gap(pairs), costs])).T
    if bill.sum() <= 0:
        return None  # everything is free
    spent = cost.sum() / bill.sum()
    # The share of the bill has a small variance, so its error is linearised.
    return _ratio(gain - spent * gap - (cost - spent * bill) * (gap.sum() / bill.sum()), gap)


def share(rows: Sequence[JudgedValue], *, least: int = MIN_ANSWERS) -> Interval | None:
    """The weighted share of ones in rows of 0 and 1, with Wilson's interval."""
    if SampleSize.of(rows).shortage(least):
        return None
    values = np.array([row.value for row in rows])
    sums = _sums(rows, np.column_stack([values, np.ones(len(rows))]))
    weights, total = sums[:, 1], float(sums[:, 1].sum())
    value = float(sums[:, 0].sum()) / total
    residuals = sums[:, 0] - value * weights
    number = len(sums)
    variance = float(residuals @ residuals) / total**2 * number / (number - 1)
    # The effective sample size: requests of equal weight with the same variance.
    effective = total**2 / float(weights @ weights)
    if variance > _NO_VARIANCE:
        effective = min(value * (1 - value) / variance, float(len(rows)))
    z = _student(number - 1)
    shrunk = 1 + z * z / effective
    middle = value + z * z / (2 * effective)
    half = z * math.sqrt(value * (1 - value) / effective + (z / (2 * effective)) ** 2)
    # Rounding must not exclude a value of 0 or 1.
    return Interval(
        value, min((middle - half) / shrunk, value), max((middle + half) / shrunk, value)
    )


def share_interval(successes: int, trials: int) -> Interval | None:
    """A share of independent trials with Wilson's (1927) interval; None without trials."""
    if not trials:
        return None
    value, squared = successes / trials, _Z * _Z
    middle = (value + squared / (2 * trials)) / (1 + squared / trials)
    half = _Z * math.sqrt(value * (1 - value) / trials + squared / (4 * trials**2))
    half /= 1 + squared / trials
    # Rounding must not exclude a value of 0 or 1.
    return Interval(value, min(middle - half, value), max(middle + half, value))


def mean(rows: Sequence[JudgedValue], *, least: int = MIN_ANSWERS) -> Interval | None:
    """The weighted mean, with Fieller's interval."""
    if SampleSize.of(rows).shortage(least):
        return None
    values = np.array([row.value for row in rows])
    sums = _sums(rows, np.column_stack([values, np.ones(len(rows))]))
    return _ratio(sums[:, 0], sums[:, 1])


def _ratio(above: Floats, below: Floats) -> Interval | None:
    """The ratio of two sums with Fieller's interval; None if the denominator may be 0 or less.

    The interval has every r for which the sum of above - r * below differs from 0 by at most t
    standard errors. The number of terms is random, so the squares are not centred.

    Args:
        above, below: [conversations].
    """
    number, bottom = len(above), float(below.sum())
    if bottom <= 0:
        return None
    value = float(above.sum()) / bottom
    rest = above - value * below  # r is relative to the value, which limits rounding errors
    limit = _student(number - 1) ** 2 * number / (number - 1)
    # a * r^2 - 2 * h * r - c <= 0
    a = bottom**2 - limit * float(below @ below)
    if a <= 0:
        return None
    h = -limit * float(rest @ below)
    half = math.sqrt(h * h + a * limit * float(rest @ rest))
    return Interval(value, value + (h - half) / a, value + (h + half) / a)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to 0.002 from 19 degrees of freedom on.

    Source: Abramowitz & Stegun 26.7.5, two terms.
    """
    z = _Z
    return (
        z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom * freedom)
    )


def _gain_and_gap(pairs: Sequence[JudgedPair]) -> Floats:
    """[pairs, 2]: the score of the client's answer, and of the cloud's, minus the local score."""
    gap = np.array([pair.cloud_score - pair.local_score for pair in pairs])
    return np.column_stack([gap * np.array([pair.went_to_cloud for pair in pairs]), gap])


def _sums(rows: Sequence[JudgedPair | JudgedValue], columns: Floats) -> Floats:
    """[conversations, columns]: weighted sums. No session: the request is its own conversation."""
    indices: dict[object, int] = {}
    conversations = [
        indices.setdefault(number if row.session is None else row.session, len(indices))
        for number, row in enumerate(rows)
    ]
    sums = np.zeros((len(indices), columns.shape[1]))
    np.add.at(sums, conversations, columns * np.array([row.weight for row in rows])[:, None])
    return sums
