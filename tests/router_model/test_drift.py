"""Drift: the index by hand, what chance makes of it, and what it takes to call it much."""

import math
from collections import Counter

import numpy as np
import pytest

from router_model.categories import CATEGORIES
from router_model.drift import BANDS, MIN_REQUESTS, Drift, drift_level, measure, reference_of
from router_model.manifest import Reference

EVEN = Reference(rows=10**9, scores=[0.5, 0.5], categories={"code": 0.5, "maths": 0.5})


def drifted(
    reference: Reference, scores: list[int], categories: dict[str, int] | None = None
) -> Drift:
    found = measure(reference, scores, categories or {"code": 1, "maths": 1})
    assert found is not None
    return found


def drawn(rng: np.random.Generator, shares: list[float], number: int) -> list[int]:
    counts: list[int] = rng.multinomial(number, np.array(shares) / sum(shares)).tolist()
    return counts


def test_the_index_by_hand() -> None:
    found = drifted(EVEN, [900_000, 100_000], {"code": 600_000, "maths": 400_000})
    assert found.score == pytest.approx(0.4 * math.log(9), abs=1e-4)
    assert found.category == pytest.approx(0.1 * math.log(1.5), abs=1e-4)
    assert found.requests == 1_000_000
    assert found.score_chance == pytest.approx(1e-6, rel=0.01)


def test_the_same_shares_have_not_drifted() -> None:
    found = drifted(EVEN, [5_000, 5_000], {"code": 300, "maths": 300})
    assert (found.score, found.category) == (0, 0)
    assert not found.is_large


def test_finer_bands_of_live_scores_are_put_together() -> None:
    assert drifted(EVEN, [100, 200, 300, 400, 500, 600]) == drifted(EVEN, [600, 1500])
    with pytest.raises(ValueError, match="3 bands of scores are no multiple of 2"):
        measure(EVEN, [1000, 1000, 1000], {"code": 1})


@pytest.mark.parametrize(
    ("reference", "scores"),
    [
        (EVEN, [1000, 0]),
        (Reference(rows=1000, scores=[0.0, 1.0], categories={"code": 1.0}), [500, 500]),
    ],
    ids=["empty-now", "empty-then"],
)
def test_an_empty_band_is_much_and_not_infinite(reference: Reference, scores: list[int]) -> None:
    found = drifted(reference, scores)
    assert found.is_large
    assert math.isfinite(found.score)


def test_few_requests_say_nothing() -> None:
    assert measure(EVEN, [MIN_REQUESTS - 1, 0], {"code": 1000}) is None
    assert drifted(EVEN, [MIN_REQUESTS, 0]).is_large
    assert measure(EVEN, [MIN_REQUESTS, 0], {"none": MIN_REQUESTS}) is None


def test_the_categories_that_moved_most_are_named() -> None:
    reference = Reference(
        rows=1000, scores=[0.5, 0.5], categories={"code": 0.5, "maths": 0.4, "other": 0.1}
    )
    found = drifted(reference, [500, 500], {"code": 100, "maths": 410, "other": 90, "writing": 400})
    assert [move.category for move in found.moved[:2]] == ["writing", "code"]
    assert found.moved[0][1:] == (0.0, 0.4)
    assert found.moved[1][1:] == (0.5, 0.1)


def test_either_of_the_two_is_enough() -> None:
    still, moved = {"code": 500, "maths": 500}, {"code": 900, "maths": 100}
    assert not drifted(EVEN, [500, 500], still).is_large
    assert drifted(EVEN, [500, 500], moved).is_large
    assert drifted(EVEN, [900, 100], still).is_large


@pytest.mark.parametrize(
    ("index", "word"),
    [(0, "none"), (0.099, "none"), (0.1, "some"), (0.25, "some"), (0.251, "much")],
)
def test_the_usual_reading(index: float, word: str) -> None:
    assert drift_level(index) == word


@pytest.mark.parametrize("rows", [100, 1421], ids=["a-small-reference", "the-shipped-one"])
def test_chance_alone_does_not_cry_wolf(rows: int) -> None:
    """The least that is looked at, of the very shares that the reference was drawn from."""
    rng = np.random.default_rng(rows)
    scores = np.exp(-0.5 * ((np.arange(BANDS) - 14) / 3) ** 2).tolist()
    categories = [2.0, 16, 0.4, 0.4, 0.4, 1, 2, 32, 46]
    much, indexes = 0, []
    for _ in range(200):
        in_band = drawn(rng, scores, rows)
        of_category = drawn(rng, categories, rows)
        reference = Reference(
            rows=rows,
            scores=[number / rows for number in in_band],
            categories={
                name: number / rows
                for name, number in zip(CATEGORIES, of_category, strict=True)
                if number
            },
        )
        live = dict(zip(CATEGORIES, drawn(rng, categories, MIN_REQUESTS), strict=True))
        found = drifted(reference, drawn(rng, scores, MIN_REQUESTS), live)
        much += found.is_large
        indexes.append(found.score)
    assert much <= 2
    assert np.mean(indexes) < 0.1


def test_a_reference_holds_every_prompt_once() -> None:
    scores = [0.0, 0.049, 0.05, 0.999, 1.0]
    categories = ["code", "maths", "code", "other", "code"]
    made = reference_of(scores, categories)
    assert (made.rows, len(made.scores)) == (5, BANDS)
    assert made.scores[:2] + made.scores[-1:] == [0.4, 0.2, 0.4]
    assert made.categories == {"code": 0.6, "maths": 0.2, "other": 0.2}
    assert sum(made.scores) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one prompt"):
        reference_of([], [])


def test_prompts_are_not_far_from_themselves() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(8, 3, 2000).tolist()
    categories = rng.choice(CATEGORIES, 2000).tolist()
    live = [0] * 100
    for score in scores:
        live[min(int(score * 100), 99)] += 1
    found = drifted(reference_of(scores, categories), live, Counter(categories))
    assert (found.score, found.category) == (0, 0)
