"""How good the answers are, as judges see it: scores, and the share of the gap that is won back.

The gap is between what the local answers and what the cloud's would have scored on the same
requests; routing wins back the share of it that its choices have, the more often the hard ones go
to the cloud. Only requests whose answers of *both* tiers were judged say something about it.
Source: "performance gap recovered", RouteLLM (Ong et al. 2024).
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

MIN_PAIRS: Final = 100
_SAMPLES: Final = 1_000
_SEED: Final = 0  # the same rows give the same interval

BUCKETS: Final = tuple(range(1, 11))


class Pair(NamedTuple):
    """A request with the scores of both tiers' answers, and whether the client got the cloud's."""

    local_score: float
    cloud_score: float
    went_to_cloud: bool


class Recovered(NamedTuple):
    """The share of the gap that is won back, with its 95 % interval (bootstrap)."""

    ratio: float
    low: float
    high: float


class Quality(NamedTuple):
    """What is known of the answers' quality.

    Attributes:
        scores: of each tier's judged answers, how many have 1, 2 … 10 (rounded up), and their sum.
        recovered: None where too few pairs were judged, or the tiers are not shown to differ.
    """

    scores: Mapping[str, tuple[Sequence[int], float]] = {}
    recovered: Recovered | None = None


def recovered(pairs: Sequence[Pair]) -> Recovered | None:
    """The share of the gap that the choices made have won back."""
    if len(pairs) < MIN_PAIRS:
        return None
    local, cloud, chose = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    gain, gap = (cloud - local) * chose, cloud - local
    picks = np.random.default_rng(_SEED).multinomial(
        len(pairs), np.full(len(pairs), 1 / len(pairs)), size=_SAMPLES
    )
    gaps = picks @ gap
    if np.quantile(gaps, 0.025) <= 0:
        return None  # no gap to win back, as far as is known
    low, high = np.quantile((picks @ gain) / gaps, [0.025, 0.975])
    return Recovered(float(gain.sum() / gap.sum()), float(low), float(high))
