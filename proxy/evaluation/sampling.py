"""Random sampling of finished requests for judging, with known probabilities.

    drawn = Sampler(config.judge, rng=random.Random()).draw(record)

Judging costs money, so a small sample has to represent all requests. A uniform sample would have
few requests of rare kinds. Therefore requests are stratified by score and tier, and rare strata are
sampled more often, up to equal allocation (Cochran, Sampling Techniques, ch. 5). The estimates
weight each request with the inverse of its probability (Horvitz & Thompson 1952), so the stored
probability has to be exact.
"""

import random
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from proxy.config import JudgeConfig
from proxy.record import CallRecord, Ending, Target

BANDS: Final = 20  # of the score; narrow, because scores may use only a third of the range
MAX_FACTOR: Final = 4.0  # bounds how much more (or less) often a stratum is sampled
_MEMORY: Final = 2_000.0  # requests after which a count decays to 1/e
_REFRESH: Final = 32  # requests between updates of the rates


class Draw(NamedTuple):
    """A sampled request, with columns of `tables.Sample`.

    Attributes:
        propensity: the probability, in (0, 1], of sampling it as this kind.
        turn: its place in the queue, uniform in [0, 1).
    """

    kind: Literal["grade", "pair"]
    propensity: float
    turn: float


class Sampler:
    """Samples finished requests. For one event loop; a call takes some microseconds.

    Args:
        config: `sample_rate` and `shadow_rate` are the mean rates of grades and pairs over recent
            eligible traffic. A request is sampled as one kind only, so rates with a sum above 1
            are scaled down.
        rng: the random number generator.
    """

    def __init__(self, config: JudgeConfig, *, rng: random.Random) -> None:
        self._config = config
        self._random = rng.random
        self._highest = MAX_FACTOR
        if rates := config.sample_rate + config.shadow_rate:
            # Each stratum needs room for both kinds, or one of them would be underrepresented.
            self._highest = min(MAX_FACTOR, 1 / rates)
        self._counts: dict[int, float] = {}
        self._counted = 0
        self._factors: dict[int, float] = {}
        self._unseen = min(1.0, self._highest)  # the factor of strata without recent requests

    def draw(self, record: CallRecord) -> Draw | None:
        """Decide whether to judge a finished request, and how. Call it once for each."""
        if not self._config.enabled or not _is_eligible(record):
            return None
        assert record.score is not None
        stratum = min(int(record.score * BANDS), BANDS - 1) * 2 + (record.target is Target.CLOUD)
        factor = self._factors.get(stratum, self._unseen)
        pair, grade = self._config.shadow_rate * factor, self._config.sample_rate * factor
        self._count(stratum)  # after the rates are read: they depend on earlier requests only
        number = self._random()
        if number < pair:
            return Draw("pair", pair, self._random())
        if number < pair + grade:
            return Draw("grade", grade, self._random())
        return None

    def _count(self, stratum: int) -> None:
        self._counts[stratum] = self._counts.get(stratum, 0.0) + 1.0
        self._counted += 1
        if self._counted % _REFRESH == 0:
            self._factors = factors(self._counts, highest=self._highest)
            self._unseen = self._highest
            decay = 1.0 - _REFRESH / _MEMORY
            self._counts = {
                key: decay * count for key, count in self._counts.items() if count > 0.01
            }


def factors(counts: Mapping[int, float], *, highest: float = MAX_FACTOR) -> dict[int, float]:
    """The rate of each stratum, as a multiple of the mean rate.

    As close to equal allocation as the bounds allow: c / share, limited to [1/MAX_FACTOR, highest].
    c is such that the mean over the counted requests is 1, or `highest` if that is less.
    """
    if highest <= 1:
        return dict.fromkeys(counts, highest)
    lowest, total = 1 / MAX_FACTOR, sum(counts.values())
    shares = {stratum: count / total for stratum, count in counts.items()}
    bounds = [(lowest * share, highest * share) for share in shares.values()]
    low, high = 0.0, highest
    for _ in range(30):  # the mean grows with c
        middle = (low + high) / 2
        mean = sum(min(max(middle, lower), upper) for lower, upper in bounds)
        low, high = (middle, high) if mean < 1 else (low, middle)
    return {stratum: min(max(high / share, lowest), highest) for stratum, share in shares.items()}


def _is_eligible(record: CallRecord) -> bool:
    """Whether the request has a merit, and a text that may be stored."""
    return bool(
        record.merit is not None
        and record.target is not None
        and record.ending is Ending.OK
        and record.finish_reason == "stop"
        and not record.no_store
        and record.turns
        and record.response
    )
