"""Calibration keeps the order, means what it says, and yields a usable threshold table."""

import itertools

import numpy as np
import pytest

from router_model.manifest import Calibration
from training import calibrate
from training.calibrate import Outcomes
from training.metrics import ece


def _made_up(n: int = 4000) -> tuple[np.ndarray, Outcomes]:
    dice = np.random.default_rng(3)
    ease = dice.normal(0, 1.5, n)
    local_ok = dice.random(n) < 1 / (1 + np.exp(-ease))
    cloud_ok = dice.random(n) < 1 / (1 + np.exp(-(ease + 1.5)))
    # Overconfident heads: twice the true logit.
    logits = np.stack([2 * ease, 2 * (ease + 1.5)], axis=1)
    out = Outcomes(
        local=local_ok * 10.0,
        cloud=cloud_ok * 10.0,
        local_ok=local_ok,
        cloud_ok=cloud_ok,
        cost=np.ones(n),
        source=np.full(n, "made up"),
        group=np.arange(n).astype(str),
    )
    return logits, out


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, Outcomes, Calibration]:
    logits, out = _made_up()
    return logits, out, calibrate.fit(logits, out)


def test_fit_logistic_finds_the_curve_that_made_the_data() -> None:
    dice = np.random.default_rng(0)
    x = dice.normal(0, 2, 50_000)
    y = dice.random(50_000) < 1 / (1 + np.exp(-(0.7 * x - 0.4)))
    slope, intercept = calibrate.fit_logistic(x, y)
    assert slope == pytest.approx(0.7, abs=0.03)
    assert intercept == pytest.approx(-0.4, abs=0.03)


def test_fit_logistic_survives_separable_data() -> None:
    slope, intercept = calibrate.fit_logistic([-1.0, 1.0], [0, 1])
    assert 0 < slope < 100
    assert abs(intercept) < 1e-6


def test_temperature_undoes_overconfidence(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    assert calibration.local.temperature == pytest.approx(2.0, rel=0.15)
    score, p_local, p_cloud = calibrate.scores(logits, calibration)
    assert ece(out.local_ok, p_local) < 0.03
    assert ece(out.cloud_ok, p_cloud) < 0.03
    assert ece(out.local_suffices, score) < 0.06


def test_the_score_rises_with_p_local_and_never_rises_with_p_cloud(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    calibration = fitted[2]
    grid = np.linspace(0.01, 0.99, 50)
    rising = [calibration.score(float(p), 0.7) for p in grid]
    falling = [calibration.score(0.7, float(p)) for p in grid]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))


def test_the_threshold_table_is_monotone_and_ends_at_both_extremes(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    score, _, _ = calibrate.scores(logits, calibration)
    table = calibrate.threshold_table(score, out)
    assert (table[0].threshold, table[0].local_share, table[0].cost_share) == (0.0, 1.0, 0.0)
    assert (table[-1].threshold, table[-1].local_share, table[-1].cost_share) == (1.0, 0.0, 1.0)
    for before, after in itertools.pairwise(table):
        assert before.threshold < after.threshold
        assert before.cost_share <= after.cost_share
        assert before.quality_share <= after.quality_share
        assert before.local_share >= after.local_share


def test_the_recommended_threshold_recovers_what_it_promises(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    score, _, _ = calibrate.scores(logits, calibration)
    table = calibrate.threshold_table(score, out)
    threshold = calibrate.recommend(table)
    chosen = next(point for point in table if point.threshold == threshold)
    assert chosen.quality_share >= calibrate.RECOMMENDED_PGR
    assert chosen.cost_share < 0.75
