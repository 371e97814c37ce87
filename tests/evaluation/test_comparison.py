"""The paired measure against plain resampling, and what its interval means."""

import numpy as np
import pytest

from proxy.evaluation.comparison import (
    _Ranking,
    can_compare,
    compare_at_cost,
    spent_share,
)
from router_model.calibrate import Outcomes
from router_model.metrics import Floats, curve, pgr_at_cost


def outcomes(n: int, seed: int, *, gap: float = 2.0) -> tuple[Floats, Outcomes]:
    """The expected gains [n] of the cloud, and noisy outcomes of conversations of two requests."""
    rng = np.random.default_rng(seed)
    expected = gap + rng.normal(0, 2.0, n)
    local = rng.normal(5.0, 1.0, n)
    ok = np.ones(n, dtype=bool)
    return expected, Outcomes(
        local=local,
        cloud=local + expected + rng.normal(0, 1.0, n),
        local_ok=ok,
        cloud_ok=ok,
        cost=rng.gamma(2.0, 1e-4, n),
        source=np.full(n, "own"),
        group=np.array([f"c{k // 2}" for k in range(n)]),
        weight=rng.uniform(1.0, 8.0, n),
    )


def test_a_resample_has_the_pgr_of_its_curve() -> None:
    """With ties, and with requests that occur several times or never."""
    rng = np.random.default_rng(3)
    _, out = outcomes(200, seed=3)
    merit = np.round(rng.random(200), 1)
    rows = np.arange(200)
    times = rng.multinomial(200, np.full(200, 1 / 200), size=5)
    ranking = _Ranking.of(merit, out.weight * (out.cloud - out.local), out.weight * out.cost, rows)
    for share in (0.02, 0.4, 0.98):
        for resample, found in zip(times, ranking.recovered(times, share), strict=True):
            index = np.repeat(rows, resample)
            part = out.take(index)
            points = curve(merit[index], part.local, part.cloud, part.cost, weight=part.weight)
            assert found == pytest.approx(pgr_at_cost(points, share))


def test_the_interval_is_above_zero_for_a_better_ranking_only() -> None:
    expected, out = outcomes(400, seed=1)
    noise = np.random.default_rng(2).random(400)
    good = -expected / out.cost
    better = compare_at_cost(noise, good, out, cost_share=0.4)
    assert better.is_better
    assert better.low < better.value < better.high
    worse = compare_at_cost(good, noise, out, cost_share=0.4)
    assert not worse.is_better
    assert worse.high < 0
    same = compare_at_cost(good, good, out, cost_share=0.4)
    assert (same.value, same.low, same.high, same.is_better) == (0.0, 0.0, 0.0, False)


def test_a_higher_level_has_a_wider_interval() -> None:
    _, out = outcomes(300, seed=4)
    a, b = np.random.default_rng(5).random((2, 300))
    widths = [
        found.high - found.low
        for found in (
            compare_at_cost(a, b, out, cost_share=0.5, level=level) for level in (0.9, 0.99, 0.999)
        )
    ]
    assert widths == sorted(widths)
    assert widths[0] < 0.8 * widths[2]


def test_of_equal_policies_the_interval_is_above_zero_in_few_data_sets() -> None:
    """The level holds: 2.5 % of the intervals of 95 % are above 0 by chance."""
    hits = 0
    for seed in range(200):
        _, out = outcomes(200, seed=seed)
        a, b = np.random.default_rng(1000 + seed).random((2, 200))
        hits += compare_at_cost(a, b, out, cost_share=0.4).is_better
    assert hits <= 12  # a binomial of 200 and 0.025 exceeds it once in a thousand


def test_without_a_gap_nothing_is_better() -> None:
    expected, out = outcomes(300, seed=6, gap=-0.5)
    found = compare_at_cost(np.zeros(300), -expected, out, cost_share=0.4)
    assert not found.has_gap
    assert not found.is_better


def test_unknown_costs_count_every_request_alike() -> None:
    _, out = outcomes(100, seed=7)
    free = out._replace(cost=np.zeros(100), weight=np.ones(100))
    merit = np.linspace(0, 1, 100, endpoint=False)
    assert spent_share(merit, free, threshold=0.3) == pytest.approx(0.3)
    assert not compare_at_cost(merit, merit, free, cost_share=0.3).is_better


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (0.4, True), (1.0, False)])
def test_policies_differ_only_between_nothing_and_everything(share: float, expected: bool) -> None:
    assert can_compare(share) is expected
