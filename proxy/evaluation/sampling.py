"""Which finished requests are judged: drawn by lot, with a probability that is known before.

    drawn = Sampler(config.judge, dice=random.Random()).draw(record)

Judges cost money, so a few requests in a hundred must speak for all. Drawn alike they would mostly
be of the kind that is common, and say next to nothing of the others. So requests are told apart by
score and tier, and rare kinds are drawn more often, up to equally many of each (equal allocation:
Cochran, Sampling Techniques, ch. 5). `quality` undoes this by weighing each with one over its
probability (Horvitz & Thompson 1952), which is why that must be exactly the one it was drawn with.

Knows neither the database nor who judges.
"""

import random
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from proxy.config import JudgeConfig
from proxy.record import CallRecord, Ending, Target

BANDS: Final = 20  # of the score; a router's scores may lie within a third of its range
MAX_FACTOR: Final = 4.0  # rare kinds are drawn at most so much more often, common ones less
_MEMORY: Final = 2_000.0  # requests after which a share is forgotten but for 1/e of it
_REFRESH: Final = 32  # requests after which rates follow the shares


class Draw(NamedTuple):
    """A request was drawn, as `tables.Sample` describes it.

    `propensity` is the probability, in (0, 1], with which it was drawn as this kind; `turn` is
    uniform in [0, 1).
    """

    kind: Literal["grade", "pair"]
    propensity: float
    turn: float


class Sampler:
    """Draws finished requests. Of one event loop; a call takes some microseconds.

    Args:
        config: `sample_rate` and `shadow_rate` are the mean rates of grades and pairs over the
            recent traffic that can be judged. A request is drawn as one kind only, so rates that
            add up to more than 1 are scaled down to it.
        dice: where chance comes from.
    """

    def __init__(self, config: JudgeConfig, *, dice: random.Random) -> None:
        self._config = config
        self._random = dice.random
        self._highest = MAX_FACTOR
        if rates := config.sample_rate + config.shadow_rate:
            # Every request must be able to become either kind, or that kind speaks for too few.
            self._highest = min(MAX_FACTOR, 1 / rates)
        self._counts: dict[int, float] = {}
        self._counted = 0
        self._factors: dict[int, float] = {}
        self._unseen = min(1.0, self._highest)  # the factor of what was not seen lately

    def draw(self, record: CallRecord) -> Draw | None:
        """Whether this finished request is to be judged, and how; call it once for each."""
        if not self._config.enabled or not _is_eligible(record):
            return None
        assert record.score is not None
        stratum = min(int(record.score * BANDS), BANDS - 1) * 2 + (record.target is Target.CLOUD)
        factor = self._factors.get(stratum, self._unseen)
        pair, grade = self._config.shadow_rate * factor, self._config.sample_rate * factor
        self._count(stratum)  # after the rates were read: they depend on earlier requests only
        at = self._random()
        if at < pair:
            return Draw("pair", pair, self._random())
        if at < pair + grade:
            return Draw("grade", grade, self._random())
        return None

    def _count(self, stratum: int) -> None:
        self._counts[stratum] = self._counts.get(stratum, 0.0) + 1.0
        self._counted += 1
        if self._counted % _REFRESH == 0:
            self._factors = factors(self._counts, highest=self._highest)
            self._unseen = self._highest
            kept = 1.0 - _REFRESH / _MEMORY
            self._counts = {
                one: kept * count for one, count in self._counts.items() if count > 0.01
            }


def factors(counts: Mapping[int, float], *, highest: float = MAX_FACTOR) -> dict[int, float]:
    """By how much each stratum's rate differs from the mean rate.

    As near to equally many of each as bounds allow: c / share within [1/MAX_FACTOR, highest], with
    the c for which the mean over the counted requests is 1, or `highest` where that is less.
    """
    if highest <= 1:
        return dict.fromkeys(counts, highest)
    lowest, total = 1 / MAX_FACTOR, sum(counts.values())
    shares = {stratum: count / total for stratum, count in counts.items()}
    bounds = [(lowest * share, highest * share) for share in shares.values()]
    low, high = 0.0, highest
    for _ in range(30):  # the mean grows with c
        middle = (low + high) / 2
        mean = sum(min(max(middle, least), most) for least, most in bounds)
        low, high = (middle, high) if mean < 1 else (low, middle)
    return {stratum: min(max(high / share, lowest), highest) for stratum, share in shares.items()}


def _is_eligible(record: CallRecord) -> bool:
    """Whether it was routed by the model, and its text is there, whole, and may be kept."""
    return bool(
        record.score is not None
        and record.target is not None
        and record.ending is Ending.OK
        and record.finish_reason == "stop"
        and not record.no_store
        and record.turns
        and record.response
    )
