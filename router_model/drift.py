"""Whether live traffic still looks like the prompts that the router was fitted to.

    reference = reference_of(scores, categories)         # kept in the manifest
    found = measure(reference, live_scores, live_categories)

By the population stability index, the sum over bands of (p - q) ln(p / q) for shares p of live
requests and q of the reference: once over bands of the score, once over the categories of the
prompts. Source: N. Siddiqi, Credit Risk Scorecards (2006), and its usual reading: below 0.1 nothing
to speak of, up to 0.25 some, above it much.

Of few requests the index is above 0 by chance alone: without any drift it is about chi-squared with
bands - 1 degrees of freedom, times 1/n + 1/m for n live and m reference rows, so (bands - 1)(1/n +
1/m) in the mean. Source: B. Yurdakul, J. Naranjo, Statistical properties of the population
stability index, Journal of Risk Model Validation 14 (2020). That mean is taken off here, so that
the usual reading holds for small references, too.

What it does not know: whether the router is wrong about the traffic that is new to it. Only judged
answers say that.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from router_model.categories import CATEGORIES
from router_model.manifest import Reference

BANDS: Final = 20
MODERATE_DRIFT: Final = 0.1
LARGE_DRIFT: Final = 0.25
MIN_REQUESTS: Final = 500  # fewer say nothing

_HALF: Final = 0.5  # of a row, added to each band: an empty one would make the index infinite
_DIGITS: Final = 6
_TOLD: Final = 3


class Move(NamedTuple):
    """A category that is more or less frequent than it was: its shares, then and now."""

    category: str
    before: float
    now: float


class Drift(NamedTuple):
    """How far live traffic is from the reference.

    Attributes:
        requests: that were looked at.
        score, category: the index less what chance alone gives, 0 at least.
        score_chance, category_chance: that.
        moved: the categories that contribute most to the index, the most first.
    """

    requests: int
    score: float
    score_chance: float
    category: float
    category_chance: float
    moved: list[Move]

    @property
    def is_large(self) -> bool:
        """Whether traffic no longer looks like what the router was fitted to."""
        return max(self.score, self.category) > LARGE_DRIFT


def drift_level(index: float) -> str:
    """An index in a word: none, some or much."""
    return "much" if index > LARGE_DRIFT else "some" if index >= MODERATE_DRIFT else "none"


def reference_of(scores: Sequence[float], categories: Sequence[str]) -> Reference:
    """What some prompts look like, by their served scores and `category_of` each.

    Raises ValueError without any.
    """
    if not len(scores):
        raise ValueError("there are no prompts to make a reference of")
    in_band = Counter(min(int(score * BANDS), BANDS - 1) for score in scores)
    number = Counter(categories)
    return Reference(
        rows=len(scores),
        scores=[round(in_band[band] / len(scores), _DIGITS) for band in range(BANDS)],
        categories={
            name: round(number[name] / len(categories), _DIGITS)
            for name in CATEGORIES
            if number[name]
        },
    )


def measure(
    reference: Reference, scores: Sequence[int], categories: Mapping[str, int]
) -> Drift | None:
    """How far live requests are from the reference; None where they are too few to tell.

    Args:
        scores: how many of them are in each of equal bands of the score, of which there are a
            multiple of the reference's.
        categories: how many are of each category.

    Raises:
        ValueError: the bands do not fit the reference's.
    """
    requests = sum(scores)
    known = [categories.get(name, 0) for name in CATEGORIES]
    if requests < MIN_REQUESTS or not any(known):
        return None
    bands = len(reference.scores)
    step, rest = divmod(len(scores), bands)
    if rest:
        raise ValueError(f"{len(scores)} bands of scores are no multiple of {bands}")
    in_band = [sum(scores[place : place + step]) for place in range(0, len(scores), step)]
    _, score, score_chance = _compare(in_band, reference.scores, rows=reference.rows)
    before = [reference.categories.get(name, 0.0) for name in CATEGORIES]
    terms, category, category_chance = _compare(known, before, rows=reference.rows)
    now = [number / sum(known) for number in known]
    most = sorted(zip(terms, CATEGORIES, before, now, strict=True), reverse=True)[:_TOLD]
    return Drift(
        requests=requests,
        score=score,
        score_chance=score_chance,
        category=category,
        category_chance=category_chance,
        moved=[Move(name, then, share) for term, name, then, share in most if term > 0],
    )


def _compare(
    live: Sequence[int], shares: Sequence[float], *, rows: int
) -> tuple[list[float], float, float]:
    """Each band's part of the index, the index less what chance gives, and that.

    Args:
        live: how many requests are in each band.
        shares: of the reference's `rows` there.
    """
    bands = sum(bool(now or before) for now, before in zip(live, shares, strict=True))
    smoothed = _HALF * bands  # a band that both lack is none
    terms = []
    for now, before in zip(live, shares, strict=True):
        p = (now + _HALF) / (sum(live) + smoothed)
        q = (before * rows + _HALF) / (rows + smoothed)
        terms.append((p - q) * math.log(p / q) if now or before else 0.0)
    chance = (bands - 1) * (1 / sum(live) + 1 / rows)
    return terms, max(sum(terms) - chance, 0.0), chance
