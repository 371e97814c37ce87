"""The paired measure between two policies: quality at the same dollars.

    difference = compare_at_cost(before, after, outcomes, cost_share=0.4)
    difference.is_better

A policy is what it ranks requests by. At a share of the all-cloud dollars, the requests with the
lowest merits go to the cloud until the share is spent. PGR is the share of the local-to-cloud
quality gap that this recovers. `promote` and self-calibration decide by the difference of two PGRs
at the user's own share: what the policy in use spends.

The interval is a percentile bootstrap over conversations. Both policies have the same resamples.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_model.calibrate import Outcomes
from router_model.metrics import Floats, curve, pgr_at_cost

MIN_HELD_OUT: Final = 100
MIN_ROUNDS: Final = 2000
# Each limit of an interval has at least this number of resamples beyond it.
_BEYOND: Final = 10
# If more resamples have no quality gap between the tiers, the gap is not significant.
MAX_WITHOUT_GAP: Final = 0.025
# At almost no or almost all dollars every order of the requests recovers the same.
_MIN_SHARE: Final = 0.02
_AT_ONCE: Final = 2**16  # values of an array, so that it stays in the processor's cache


class Difference(NamedTuple):
    """The difference of two policies at the same dollars, positive if the candidate is better.

    Attributes:
        current, candidate: the PGR of each; NaN if the cloud is no better on these requests.
        low, high: the interval of the difference.
        has_gap: whether the cloud is significantly better, so that there is quality to recover.
    """

    current: float
    candidate: float
    low: float
    high: float
    has_gap: bool

    @property
    def value(self) -> float:
        return self.candidate - self.current

    @property
    def is_better(self) -> bool:
        return self.has_gap and self.low > 0


def can_compare(cost_share: float) -> bool:
    """Whether policies can differ at this share of the all-cloud dollars."""
    return _MIN_SHARE <= cost_share <= 1 - _MIN_SHARE


def spent_share(merit: Floats, outcomes: Outcomes, *, threshold: float) -> float:
    """The share of the all-cloud dollars that a policy spends at a threshold."""
    dollars = outcomes.weight * _costs(outcomes)
    return float(dollars[merit < threshold].sum() / dollars.sum())


def compare_at_cost(
    current: Floats,
    candidate: Floats,
    outcomes: Outcomes,
    *,
    cost_share: float,
    level: float = 0.95,
) -> Difference:
    """Compare the merits [n] of two policies on the same requests.

    Args:
        cost_share: of the all-cloud dollars. If no cost is known, every request costs the same.
        level: of the interval.
    """
    cost = _costs(outcomes)
    before, after = (
        pgr_at_cost(
            curve(merit, outcomes.local, outcomes.cloud, cost, weight=outcomes.weight), cost_share
        )
        for merit in (current, candidate)
    )
    tail = (1 - level) / 2
    rounds = max(MIN_ROUNDS, math.ceil(_BEYOND / tail))
    differences = _resampled(current, candidate, outcomes, cost, cost_share, rounds)
    known = differences[np.isfinite(differences)]
    has_gap = known.size >= (1 - MAX_WITHOUT_GAP) * rounds
    low, high = np.quantile(known, [tail, 1 - tail]) if known.size else (math.nan, math.nan)
    return Difference(before, after, float(low), float(high), has_gap)


def _costs(outcomes: Outcomes) -> Floats:
    return outcomes.cost if outcomes.cost.any() else np.ones_like(outcomes.cost)


def _resampled(
    current: Floats,
    candidate: Floats,
    outcomes: Outcomes,
    cost: Floats,
    cost_share: float,
    rounds: int,
) -> Floats:
    """The differences [rounds] on resampled conversations; NaN where there is no gap."""
    _, group = np.unique(outcomes.group, return_inverse=True)
    groups = int(group.max()) + 1
    gains = outcomes.weight * (outcomes.cloud - outcomes.local)
    dollars = outcomes.weight * cost
    policies = [_Ranking.of(merit, gains, dollars, group) for merit in (current, candidate)]
    rng = np.random.default_rng(0)
    at_once = max(1, _AT_ONCE // len(current))
    parts = []
    for start in range(0, rounds, at_once):
        size = min(at_once, rounds - start)
        # One bincount for all resamples; a multinomial draw takes ten times as long.
        drawn = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        before, after = (policy.recovered(times, cost_share) for policy in policies)
        parts.append(after - before)
    return np.concatenate(parts)


class _Ranking(NamedTuple):
    """Requests [n] by ascending merit. `ends` [k]: the last one of each block of equal merit."""

    gains: Floats
    dollars: Floats
    group: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(
        cls, merit: Floats, gains: Floats, dollars: Floats, group: NDArray[np.int64]
    ) -> "_Ranking":
        order = np.argsort(merit, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(merit[order]) > 0, True))
        return cls(gains[order], dollars[order], group[order], ends)

    def recovered(self, times: NDArray[np.int64], cost_share: float) -> Floats:
        """PGR at the share [rounds], of resamples in which group g occurs times[:, g] times.

        Ties are interpolated linearly, as `metrics.curve` does.
        """
        of_row = times[:, self.group].astype(float)
        gained, spent = (
            np.cumsum(of_row * values, axis=1)[:, self.ends]
            for values in (self.gains, self.dollars)
        )
        gap, target = gained[:, -1], cost_share * spent[:, -1]
        # The block in which the share is spent, and what is left of it before the block.
        block = np.minimum((spent < target[:, None]).sum(axis=1), len(self.ends) - 1)
        rows = np.arange(len(times))
        is_first = block == 0
        spent_before = np.where(is_first, 0.0, spent[rows, block - 1])
        gained_before = np.where(is_first, 0.0, gained[rows, block - 1])
        length = spent[rows, block] - spent_before
        step = (target - spent_before) / np.where(length > 0, length, 1.0)
        recovered = gained_before + step * (gained[rows, block] - gained_before)
        shares: Floats = np.where(gap > 0, recovered / np.where(gap > 0, gap, 1.0), np.nan)
        return shares
