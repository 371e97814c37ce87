"""Drift: the index, its sampling noise and its levels."""

import math
from collections import Counter

import numpy as np
import pytest

from router_model.categories import CATEGORIES
from router_model.drift import BANDS, MIN_REQUESTS, Drift, drift_level, measure, reference_of
from router_model.manifest import Reference

EVEN = Reference(rows=10**9, scores=[0.5, 0.5], categories={"code": 0.5, "maths": 0.5})


def measured_drift(
    reference: Reference, scores: list[int], categories: dict[str, int] | None = None
) -> Drift:
    drift = measure(reference, scores, categories or {"code": 1, "maths": 1})
    assert drift is not None
    return drift


def sample(rng: np.random.Generator, shares: list[float], number: int) -> list[int]:
    counts: list[int] = rng.multinomial(number, np.array(shares) / sum(shares)).tolist()
    return counts


def test_index_matches_a_manual_calculation() -> None:
    drift = measured_drift(EVEN, [900_000, 100_000], {"code": 600_000, "maths": 400_000})
    assert drift.score == pytest.approx(0.4 * math.log(9), abs=1e-4)
    assert drift.category == pytest.approx(0.1 * math.log(1.5), abs=1e-4)
    assert drift.requests == 1_000_000
    assert drift.score_chance == pytest.approx(1e-6, rel=0.01)


def test_equal_shares_have_no_drift() -> None:
    drift = measured_drift(EVEN, [5_000, 5_000], {"code": 300, "maths": 300})
    assert (drift.score, drift.category) == (0, 0)
    assert not drift.is_large


def test_finer_score_bands_are_merged() -> None:
    assert measured_drift(EVEN, [100, 200, 300, 400, 500, 600]) == measured_drift(EVEN, [600, 1500])
    with pytest.raises(ValueError, match="3 bands of scores are no multiple of 2"):
        measure(EVEN, [1000, 1000, 1000], {"code": 1})


@pytest.mark.parametrize(
    ("reference", "scores"),
    [
        (EVEN, [1000, 0]),
        (Reference(rows=1000, scores=[0.0, 1.0], categories={"code": 1.0}), [500, 500]),
    ],
    ids=["empty-live", "empty-reference"],
)
def test_empty_band_gives_large_but_finite_drift(reference: Reference, scores: list[int]) -> None:
    drift = measured_drift(reference, scores)
    assert drift.is_large
    assert math.isfinite(drift.score)


def test_few_requests_give_no_result() -> None:
    assert measure(EVEN, [MIN_REQUESTS - 1, 0], {"code": 1000}) is None
    assert measured_drift(EVEN, [MIN_REQUESTS, 0]).is_large
    assert measure(EVEN, [MIN_REQUESTS, 0], {"none": MIN_REQUESTS}) is None


def test_categories_are_sorted_by_their_change() -> None:
    reference = Reference(
        rows=1000, scores=[0.5, 0.5], categories={"code": 0.5, "maths": 0.4, "other": 0.1}
    )
    drift = measured_drift(
        reference, [500, 500], {"code": 100, "maths": 410, "other": 90, "writing": 400}
    )
    assert [move.category for move in drift.moved[:2]] == ["writing", "code"]
    assert drift.moved[0][1:] == (0.0, 0.4)
    assert drift.moved[1][1:] == (0.5, 0.1)


def test_score_or_category_drift_alone_is_large() -> None:
    unchanged, moved = {"code": 500, "maths": 500}, {"code": 900, "maths": 100}
    assert not measured_drift(EVEN, [500, 500], unchanged).is_large
    assert measured_drift(EVEN, [500, 500], moved).is_large
    assert measured_drift(EVEN, [900, 100], unchanged).is_large


@pytest.mark.parametrize(
    ("index", "level"),
    [(0, "none"), (0.099, "none"), (0.1, "some"), (0.25, "some"), (0.251, "much")],
)
def test_drift_levels_have_the_usual_limits(index: float, level: str) -> None:
    assert drift_level(index) == level


@pytest.mark.parametrize("rows", [100, 1421], ids=["small-reference", "shipped-reference"])
def test_sampling_noise_alone_is_not_large_drift(rows: int) -> None:
    """The minimum number of requests, drawn from the distribution of the reference."""
    rng = np.random.default_rng(rows)
    scores = np.exp(-0.5 * ((np.arange(BANDS) - 14) / 3) ** 2).tolist()
    categories = [2.0, 16, 0.4, 0.4, 0.4, 1, 2, 32, 46]
    large, indexes = 0, []
    for _ in range(200):
        in_band = sample(rng, scores, rows)
        of_category = sample(rng, categories, rows)
        reference = Reference(
            rows=rows,
            scores=[number / rows for number in in_band],
            categories={
                name: number / rows
                for name, number in zip(CATEGORIES, of_category, strict=True)
                if number
            },
        )
        live = dict(zip(CATEGORIES, sample(rng, categories, MIN_REQUESTS), strict=True))
        drift = measured_drift(reference, sample(rng, scores, MIN_REQUESTS), live)
        large += drift.is_large
        indexes.append(drift.score)
    assert large <= 2
    assert np.mean(indexes) < 0.1


def test_reference_counts_each_prompt_once() -> None:
    scores = [0.0, 0.049, 0.05, 0.999, 1.0]
    categories = ["code", "maths", "code", "other", "code"]
    reference = reference_of(scores, categories)
    assert (reference.rows, len(reference.scores)) == (5, BANDS)
    assert reference.scores[:2] + reference.scores[-1:] == [0.4, 0.2, 0.4]
    assert reference.categories == {"code": 0.6, "maths": 0.2, "other": 0.2}
    assert sum(reference.scores) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least one prompt"):
        reference_of([], [])


def test_reference_has_no_drift_from_its_own_prompts() -> None:
    rng = np.random.default_rng(1)
    scores = rng.beta(8, 3, 2000).tolist()
    categories = rng.choice(CATEGORIES, 2000).tolist()
    live = [0] * 100
    for score in scores:
        live[min(int(score * 100), 99)] += 1
    drift = measured_drift(reference_of(scores, categories), live, Counter(categories))
    assert (drift.score, drift.category) == (0, 0)
