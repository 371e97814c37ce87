"""How good the answers are, as judges see it: estimates for all routed traffic from some of it.

The gap is between what the local answers and what the cloud's would have scored on the same
requests; routing wins back the share of it that its choices have, the more often the hard ones go
to the cloud. Only requests whose answers of *both* tiers were judged say something about it.
Source: "performance gap recovered", RouteLLM (Ong et al. 2024, arXiv:2406.18665).

Judged requests are no fair sample: rare kinds are drawn more often (`sampling`). So each weighs
one over the probability with which it was drawn, and means are divided by the sum of the weights:
Hájek's ratio (Särndal, Swensson & Wretman, Model Assisted Survey Sampling, ch. 5.7). What somebody
judged without a draw weighs 1.

Every estimate has a 95 % interval. Requests of one conversation are alike, so conversations are
what varies. The share of the gap, what it saves, and means are ratios whose denominators vary, too.
With weights their distributions are skewed, and bootstrap intervals came out too narrow (held the
truth in 88 to 95 of 100 runs of `make simulate`); so theirs are Fieller's (1954), which ask of
every value whether the rows contradict it. Where the gap itself may be 0 there is none. Shares of
answers are often near 1, where no row tells of the failures that were not drawn: theirs are
Wilson's with the effective number of requests (Korn & Graubard 1998).

Not known: samples that were drawn and not judged, because the day's dollars were spent or the text
could not be judged, are taken to be like the others.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_model.label import OK_SCORE

MIN_PAIRS: Final = 100
MIN_ANSWERS: Final = 50
MIN_CONVERSATIONS: Final = 20  # of one alone nobody can tell how others differ
_Z: Final = 1.959964
_NO_VARIANCE: Final = 1e-18  # of a share: less is rounding, not chance

GRADES: Final = tuple(range(1, 11))

Floats = NDArray[np.float64]


class JudgedPair(NamedTuple):
    """A request with the scores of both tiers' answers, and whether the client got the cloud's.

    `weight` is one over the probability with which it was drawn. `cost_usd` is what the answer
    cost, `cloud_cost_usd` what the cloud's did or would have.
    """

    local_score: float
    cloud_score: float
    went_to_cloud: bool
    weight: float = 1.0
    session: str | None = None
    cost_usd: float | None = None
    cloud_cost_usd: float | None = None


class JudgedValue(NamedTuple):
    """What was found of one request, say the score of its answer. The rest is as of a pair."""

    value: float
    weight: float = 1.0
    session: str | None = None


class Recovered(NamedTuple):
    """The share of the gap that is won back, with its 95 % interval."""

    ratio: float
    low: float
    high: float


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class SampleSize(NamedTuple):
    """How many requests an estimate rests on, and in how many conversations."""

    requests: int = 0
    conversations: int = 0

    @classmethod
    def of(cls, rows: Sequence[JudgedPair | JudgedValue]) -> "SampleSize":
        sessions = {row.session for row in rows} - {None}
        return cls(len(rows), len(sessions) + sum(row.session is None for row in rows))

    def shortage(self, least: int) -> str | None:
        """`99 of 100`: what is missing for an estimate; None where nothing is."""
        if self.requests < least:
            return f"{self.requests:,} of {least}"
        if self.conversations < MIN_CONVERSATIONS:
            return f"{self.conversations} of {MIN_CONVERSATIONS} conversations"
        return None


class Quality(NamedTuple):
    """What is known of the answers' quality.

    Estimates are for all requests that were routed by their score, and None where too few were
    judged.

    Attributes:
        scores: of each tier's judged answers, how many have 1, 2 … 10 (rounded up), and their sum;
            as they are, unweighted.
        recovered: the share of the gap between the tiers; None, too, where there is none to be
            seen.
        good_local: share of what the local tier answered that scores OK_SCORE or more.
        mean_scores: by tier, of the answers that clients got.
        local_as_good: share of the requests on which a judge who sees both answers finds the local
            one at least as good.
        saved: what the choices save at equal quality, as a share of the bill if all went to the
            cloud (see `saved`); None as `recovered` is.
        counted: what each of these rests on: `pairs` (recovered), `priced` (saved), `local`,
            `cloud` (answers that clients got) and `compared`.
    """

    scores: Mapping[str, tuple[Sequence[int], float]] = {}
    recovered: Recovered | None = None
    good_local: Interval | None = None
    mean_scores: Mapping[str, Interval] = {}
    local_as_good: Interval | None = None
    saved: Interval | None = None
    counted: Mapping[str, SampleSize] = {}


def estimate_quality(
    scores: Mapping[str, tuple[Sequence[int], float]],
    *,
    pairs: Sequence[JudgedPair],
    answers: Mapping[str, Sequence[JudgedValue]],
    compared: Sequence[JudgedValue],
) -> Quality:
    """All estimates.

    Args:
        scores: as in `Quality`.
        pairs: judged requests, of both tiers.
        answers: the scores of the answers that clients got, by tier.
        compared: 1 where the local answer was found at least as good, 0 where not.
    """
    priced = [one for one in pairs if one.cost_usd is not None and one.cloud_cost_usd is not None]
    local = answers.get("local", ())
    means = {tier: mean(found) for tier, found in answers.items()}
    return Quality(
        scores,
        recovered(pairs),
        share([one._replace(value=float(one.value >= OK_SCORE)) for one in local]),
        {tier: found for tier, found in means.items() if found is not None},
        share(compared, least=MIN_PAIRS),
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
    """The share of the gap that the choices made have won back."""
    if SampleSize.of(pairs).shortage(MIN_PAIRS):
        return None
    sums = _sums(pairs, _gain_and_gap(pairs))
    found = _ratio(sums[:, 0], sums[:, 1])
    return Recovered(*found) if found else None


def saved(pairs: Sequence[JudgedPair]) -> Interval | None:
    """What the choices save at equal quality: the recovered share of the gap less that of the bill.

    Requests that are sent to the cloud by lot, a share r of them, recover r of the gap and cost r
    of the bill that there would be if all went there: the straight line under the cost-quality
    curves of Hybrid LLM (Ding et al. 2024, arXiv:2404.14618) and RouteLLM. Choices that recover r
    at a share c of that bill have as much quality as a lot that costs r, and save r - c of it.
    Below 0 a lot would be cheaper. What local answers cost counts as spent.

    Args:
        pairs: with their costs.
    """
    if SampleSize.of(pairs).shortage(MIN_PAIRS):
        return None
    costs = np.array([(pair.cost_usd, pair.cloud_cost_usd) for pair in pairs], dtype=float)
    gain, gap, cost, bill = _sums(pairs, np.hstack([_gain_and_gap(pairs), costs])).T
    if bill.sum() <= 0:
        return None  # nothing costs anything
    spent = cost.sum() / bill.sum()
    # The share of the bill varies little: its part of the error is linearised.
    return _ratio(gain - spent * gap - (cost - spent * bill) * (gap.sum() / bill.sum()), gap)


def share(rows: Sequence[JudgedValue], *, least: int = MIN_ANSWERS) -> Interval | None:
    """The weighted share of ones among zeros and ones, with Wilson's interval."""
    if SampleSize.of(rows).shortage(least):
        return None
    values = np.array([row.value for row in rows])
    sums = _sums(rows, np.column_stack([values, np.ones(len(rows))]))
    weights, total = sums[:, 1], float(sums[:, 1].sum())
    value = float(sums[:, 0].sum()) / total
    residuals = sums[:, 0] - value * weights
    number = len(sums)
    variance = float(residuals @ residuals) / total**2 * number / (number - 1)
    # How many requests of equal weight would say as much.
    effective = total**2 / float(weights @ weights)
    if variance > _NO_VARIANCE:
        effective = min(value * (1 - value) / variance, float(len(rows)))
    z = _student(number - 1)
    shrunk = 1 + z * z / effective
    middle = value + z * z / (2 * effective)
    half = z * math.sqrt(value * (1 - value) / effective + (z / (2 * effective)) ** 2)
    # At 0 and 1 rounding must not put the value outside.
    return Interval(
        value, min((middle - half) / shrunk, value), max((middle + half) / shrunk, value)
    )


def mean(rows: Sequence[JudgedValue], *, least: int = MIN_ANSWERS) -> Interval | None:
    """The weighted mean."""
    if SampleSize.of(rows).shortage(least):
        return None
    values = np.array([row.value for row in rows])
    sums = _sums(rows, np.column_stack([values, np.ones(len(rows))]))
    return _ratio(sums[:, 0], sums[:, 1])


def _ratio(above: Floats, below: Floats) -> Interval | None:
    """The ratio of two sums with Fieller's interval; None where the lower one may be 0 or less.

    The interval has every r for which the sum of above - r * below is no further from 0 than t
    times its error. The error is that of a sum of a random number of terms, so squares are not
    centred. Both arrays are [conversations].
    """
    number, bottom = len(above), float(below.sum())
    if bottom <= 0:
        return None
    value = float(above.sum()) / bottom
    rest = above - value * below  # so that r is counted from the value, and rounding stays small
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
    """[pairs, 2]: by how much the client's answer and the cloud's are better than the local one."""
    gap = np.array([pair.cloud_score - pair.local_score for pair in pairs])
    return np.column_stack([gap * np.array([pair.went_to_cloud for pair in pairs]), gap])


def _sums(rows: Sequence[JudgedPair | JudgedValue], columns: Floats) -> Floats:
    """[conversations, columns]: weighted sums. A request without a session is one of its own."""
    numbers: dict[object, int] = {}
    places = [
        numbers.setdefault(place if row.session is None else row.session, len(numbers))
        for place, row in enumerate(rows)
    ]
    sums = np.zeros((len(numbers), columns.shape[1]))
    np.add.at(sums, places, columns * np.array([row.weight for row in rows])[:, None])
    return sums
