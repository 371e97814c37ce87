"""Which finished requests are judged: drawn by lot, with a probability that is known and kept.

An answer is graded (kind `grade`), or the other tier answers the same request, too, and both are
graded and compared (kind `pair`). Where a tier seldom answers at some scores, a fixed share of the
traffic would take weeks to say anything about it; so the rarer a kind of request is, the more of
its kind are drawn. Estimates stay unbiased because each sample keeps the probability with which it
was drawn, and weighs its inverse (Horvitz and Thompson 1952; `quality`).
"""

import random
from typing import Final, Literal, NamedTuple

from proxy.config import JudgeConfig
from proxy.record import CallRecord, Ending, Target

BANDS: Final = 5  # of the score, for each tier
# How much more or less often than others a kind of request may be drawn.
LEAST_FACTOR: Final = 0.25
MOST_FACTOR: Final = 4.0
# Of this many requests, about, the shares of the kinds are remembered.
_MEMORY: Final = 2_000.0
# As if so many of each kind had been seen before: the first requests are drawn evenly.
_PRIOR: Final = 5.0

Kind = Literal["grade", "pair"]


class Drawn(NamedTuple):
    """A request that was drawn.

    Attributes:
        propensity: the probability with which one like it was drawn as this kind.
        turn: a random number; samples have their turn in its order, whenever they came.
    """

    kind: Kind
    propensity: float
    turn: float


class Sampler:
    """Draws from one process's requests."""

    def __init__(self, config: JudgeConfig, *, dice: random.Random | None = None) -> None:
        self._rate = min(config.sample_rate + config.shadow_rate, 1.0)
        self._pair_share = min(config.shadow_rate / self._rate, 1.0) if self._rate else 0.0
        self._dice = dice or random.Random()
        self._seen: dict[tuple[Target, int], float] = {
            (target, band): _PRIOR for target in Target for band in range(BANDS)
        }
        self._total = _PRIOR * len(self._seen)

    def draw(self, record: CallRecord) -> Drawn | None:
        """Whether a finished request is to be judged.

        Only whole answers are, which the router model's score decided on and whose text is kept.
        """
        target = record.target
        if (
            record.score is None
            or target is None
            or record.ending is not Ending.OK
            or record.finish_reason != "stop"
            or record.no_store
            or not record.turns
            or not record.response
        ):
            return None
        stratum = target, min(int(record.score * BANDS), BANDS - 1)
        factor = self._factor(stratum)  # before this one counts: what is drawn must not matter
        self._note(stratum)
        # Small rates times the factor; but a rate of 1 means all, whatever the factor.
        any_kind = 1.0 - (1.0 - self._rate) ** factor
        pair = any_kind * self._pair_share
        grade = any_kind - pair
        lot = self._dice.random()
        if lot < pair:
            return Drawn("pair", pair, self._dice.random())
        if lot < pair + grade:
            return Drawn("grade", grade, self._dice.random())
        return None

    def _factor(self, stratum: tuple[Target, int]) -> float:
        """How many times the mean rate this kind of request is drawn at, so that all kinds give
        about as many samples."""
        fair = self._total / len(self._seen) / self._seen[stratum]
        return min(max(fair, LEAST_FACTOR), MOST_FACTOR)

    def _note(self, stratum: tuple[Target, int]) -> None:
        self._seen[stratum] += 1.0
        self._total += 1.0
        if self._total > _MEMORY:
            for one in self._seen:
                self._seen[one] /= 2
            self._total /= 2
