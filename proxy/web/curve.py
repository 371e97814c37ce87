"""The cost-quality curve: cost and quality of each threshold, for /api/pareto."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from proxy.evaluation import MIN_PAIRS, WeightedPair
from proxy.storage import MeritBucket
from router_model.manifest import Manifest, OperatingPoint

THRESHOLDS: Final = [step / 100 for step in range(101)]


class ParetoPoint(NamedTuple):
    """The outcome of one threshold.

    Attributes:
        cloud_share, cost_usd: of the recorded requests that have a score: those that go to the
            cloud, and their real or estimated cost there.
        cost_share, quality: a point of the curve, both of one population: the cost as a share of
            the all-cloud cost, and the recovered share of the quality gap. None if unknown.
    """

    threshold: float
    cloud_share: float
    cost_usd: float
    cost_share: float | None
    quality: float | None


def pareto(
    scored: Sequence[MeritBucket],
    pairs: Sequence[WeightedPair],
    manifest: Manifest | None,
    current: float,
) -> dict[str, Any]:
    """Cost and quality of each threshold, and what it does with the recorded requests.

    Both axes of the curve are of one population: the judged requests, weighted by their sampling,
    or the router model's validation data until enough are judged. So the curve begins at (0, 0),
    all local, and ends at (1, 1), all cloud, and random routing is the diagonal between them.

    Cost is the real or estimated cloud cost; the price of the local tier, mostly 0, is left out.

    Args:
        scored: one bucket per hundredth of the merit.
        pairs: judged requests with both tiers' answers.
        current: the threshold in use.
    """
    basis: str | None
    curve: Sequence[tuple[float | None, float | None]]
    if len(pairs) >= MIN_PAIRS:
        basis, curve = "judged", _judged_curve(pairs)
    elif manifest is not None:
        basis, curve = "validation", _validation_curve(manifest.thresholds)
    else:
        basis, curve = None, [(None, None)] * len(THRESHOLDS)
    requests = sum(bucket.requests for bucket in scored)
    dollars = sum(bucket.cloud_usd for bucket in scored)
    sent, spent = 0, 0.0
    points = []
    for index, (threshold, (cost, quality)) in enumerate(zip(THRESHOLDS, curve, strict=True)):
        share = sent / requests if requests else 0.0
        points.append(ParetoPoint(threshold, share, spent, cost, quality))
        if index < len(scored):
            sent, spent = sent + scored[index].requests, spent + scored[index].cloud_usd
    return {
        "requests": requests,
        "all_cloud_usd": dollars,
        "basis": basis,
        "judged": len(pairs),
        "judged_needed": MIN_PAIRS,
        "threshold": current,
        "curve": [point._asdict() for point in points],
    }


def _judged_curve(pairs: Sequence[WeightedPair]) -> list[tuple[float | None, float | None]]:
    """Cost share and recovered share of the quality gap by threshold, of the judged requests.

    Without any price, a request costs the same as any other. The quality is None if the local
    answers are as good as the cloud's: there is no gap to recover.
    """
    priced = [pair for pair in pairs if pair.cloud_usd is not None]
    if not any(pair.cloud_usd for pair in priced):
        priced = [pair._replace(cloud_usd=1.0) for pair in pairs]
    costs = _shares_below(priced, lambda pair: pair.weight * (pair.cloud_usd or 0.0))
    gains = _shares_below(priced, lambda pair: pair.weight * (pair.cloud - pair.local))
    return list(zip(costs, gains, strict=True))


def _shares_below(
    pairs: Sequence[WeightedPair], value: Callable[[WeightedPair], float]
) -> list[float | None]:
    """The share of the summed values with a merit below each threshold; at 1 it is all of it."""
    buckets = [0.0] * (len(THRESHOLDS) - 1)
    for pair in pairs:
        # The first threshold that exceeds the merit sends the request to the cloud.
        first = next((n for n, limit in enumerate(THRESHOLDS) if pair.merit < limit), None)
        buckets[-1 if first is None else first - 1] += value(pair)
    sums = [0.0]
    for amount in buckets:
        sums.append(sums[-1] + amount)
    total = sums[-1]
    return [None if total <= 0 else amount / total for amount in sums]


def _validation_curve(
    table: Sequence[OperatingPoint],
) -> list[tuple[float | None, float | None]]:
    """The same from the router model's table, with linear interpolation."""
    inner = [point for point in table if 0 < point.threshold < 1]
    limits = [0.0, *(point.threshold for point in inner), 1.0]
    costs = [0.0, *(point.cost_share for point in inner), 1.0]
    gains = [0.0, *(point.quality_share for point in inner), 1.0]
    curve: list[tuple[float | None, float | None]] = []
    left = 0
    for threshold in THRESHOLDS:
        while left + 2 < len(limits) and limits[left + 1] <= threshold:
            left += 1
        width = limits[left + 1] - limits[left]
        share = min((threshold - limits[left]) / width, 1.0)
        curve.append(
            (
                costs[left] + share * (costs[left + 1] - costs[left]),
                gains[left] + share * (gains[left + 1] - gains[left]),
            )
        )
    return curve
