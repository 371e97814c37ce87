"""Drift: how much live traffic differs from the prompts that the router was fitted to.

    reference = reference_of(scores, categories)         # kept in the manifest
    drift = measure(reference, live_scores, live_categories)

Measure: the population stability index, the sum over bands of (p - q) ln(p / q) for shares p of
live requests and q of the reference. It is computed over score bands and over prompt categories.
Source: N. Siddiqi, Credit Risk Scorecards (2006). Usual levels: none below 0.1, some up to 0.25,
much above.

With few requests the index is above 0 by chance. Without drift it is about chi-squared, with (bands
- 1) degrees of freedom, times 1/n + 1/m for n live and m reference rows. Its mean is (bands -
1)(1/n + 1/m). Source: B. Yurdakul, J. Naranjo, Statistical properties of the population stability
index, Journal of Risk Model Validation 14 (2020). That mean is subtracted here, so that the usual
levels also apply to small references.

Drift does not say whether the router is wrong on new traffic. Only judged answers do.
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
MIN_REQUESTS: Final = 500  # fewer requests give no reliable index

_HALF: Final = 0.5  # of a row, added to each band: an empty band would make the index infinite
_DIGITS: Final = 6
_MAX_MOVES: Final = 3


class Move(NamedTuple):
    """A category whose share changed: its share in the reference and now."""

    category: str
    before: float
    now: float


class Drift(NamedTuple):
    """The drift of live traffic from the reference.

    Attributes:
        requests: the number of live requests.
        score, category: the index minus its expected value without drift, at least 0.
        score_chance, category_chance: that expected value.
        moved: the categories that contribute most to the index, largest first.
    """

    requests: int
    score: float
    score_chance: float
    category: float
    category_chance: float
    moved: list[Move]

    @property
    def is_large(self) -> bool:
        """Whether an index is above LARGE_DRIFT."""
        return max(self.score, self.category) > LARGE_DRIFT


def drift_level(index: float) -> str:
    """The level of an index: none, some or much."""
    return "much" if index > LARGE_DRIFT else "some" if index >= MODERATE_DRIFT else "none"


def reference_of(scores: Sequence[float], categories: Sequence[str]) -> Reference:
    """The reference of prompts, from their scores and categories (`category_of`).

    Raises ValueError if there are no prompts.
    """
    if not len(scores):
        raise ValueError("a reference needs at least one prompt")
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
    """The drift of live requests; None with fewer than MIN_REQUESTS.

    Args:
        scores: the number of requests in each of equal score bands. The number of bands is a
            multiple of the reference's.
        categories: the number of requests per category.

    Raises:
        ValueError: the number of bands is no multiple of the reference's.
    """
    requests = sum(scores)
    live = [categories.get(name, 0) for name in CATEGORIES]
    if requests < MIN_REQUESTS or not any(live):
        return None
    bands = len(reference.scores)
    step, rest = divmod(len(scores), bands)
    if rest:
        raise ValueError(f"{len(scores)} bands of scores are no multiple of {bands}")
    in_band = [sum(scores[place : place + step]) for place in range(0, len(scores), step)]
    _, score, score_chance = _compare(in_band, reference.scores, rows=reference.rows)
    before = [reference.categories.get(name, 0.0) for name in CATEGORIES]
    terms, category, category_chance = _compare(live, before, rows=reference.rows)
    now = [number / sum(live) for number in live]
    largest = sorted(zip(terms, CATEGORIES, before, now, strict=True), reverse=True)[:_MAX_MOVES]
    return Drift(
        requests=requests,
        score=score,
        score_chance=score_chance,
        category=category,
        category_chance=category_chance,
        moved=[Move(name, then, share) for term, name, then, share in largest if term > 0],
    )


def _compare(
    live: Sequence[int], shares: Sequence[float], *, rows: int
) -> tuple[list[float], float, float]:
    """Each band's term, the index minus its expected value, and the expected value.

    Args:
        live: the number of requests per band.
        shares: the shares of the reference's `rows` per band.
    """
    bands = sum(bool(now or before) for now, before in zip(live, shares, strict=True))
    smoothed = _HALF * bands  # bands that are empty on both sides do not count
    terms = []
    for now, before in zip(live, shares, strict=True):
        p = (now + _HALF) / (sum(live) + smoothed)
        q = (before * rows + _HALF) / (rows + smoothed)
        terms.append((p - q) * math.log(p / q) if now or before else 0.0)
    chance = (bands - 1) * (1 / sum(live) + 1 / rows)
    return terms, max(sum(terms) - chance, 0.0), chance
