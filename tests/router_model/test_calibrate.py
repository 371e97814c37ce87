"""Calibration preserves the order, is reliable and gives a usable threshold table."""

import itertools

import numpy as np
import pytest

from router_model import calibrate
from router_model.calibrate import Outcomes
from router_model.manifest import Calibration, HeadCalibration
from router_model.metrics import ece


def _synthetic_data(n: int = 4000) -> tuple[np.ndarray, Outcomes]:
    rng = np.random.default_rng(3)
    ease = rng.normal(0, 1.5, n)
    local_ok = rng.random(n) < 1 / (1 + np.exp(-ease))
    cloud_ok = rng.random(n) < 1 / (1 + np.exp(-(ease + 1.5)))
    # Overconfident heads: twice the true logit.
    logits = np.stack([2 * ease, 2 * (ease + 1.5)], axis=1)
    out = Outcomes(
        local=local_ok * 10.0,
        cloud=cloud_ok * 10.0,
        local_ok=local_ok,
        cloud_ok=cloud_ok,
        cost=np.ones(n),
        source=np.full(n, "synthetic"),
        group=np.arange(n).astype(str),
        weight=np.ones(n),
    )
    return logits, out


@pytest.fixture(scope="module")
def fitted() -> tuple[np.ndarray, Outcomes, Calibration]:
    logits, out = _synthetic_data()
    return logits, out, calibrate.fit(logits, out)


def test_fit_logistic_recovers_the_true_parameters() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 50_000)
    y = rng.random(50_000) < 1 / (1 + np.exp(-(0.7 * x - 0.4)))
    slope, intercept = calibrate.fit_logistic(x, y)
    assert slope == pytest.approx(0.7, abs=0.03)
    assert intercept == pytest.approx(-0.4, abs=0.03)


def test_fit_logistic_is_finite_for_separable_data() -> None:
    slope, intercept = calibrate.fit_logistic([-1.0, 1.0], [0, 1])
    assert 0 < slope < 100
    assert abs(intercept) < 1e-6


def test_temperature_corrects_overconfidence(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    assert calibration.local.temperature == pytest.approx(2.0, rel=0.15)
    score, p_local, p_cloud = calibrate.scores(logits, calibration)
    assert ece(out.local_ok, p_local) < 0.03
    assert ece(out.cloud_ok, p_cloud) < 0.03
    assert ece(out.local_suffices, score) < 0.06


def test_score_increases_with_p_local_and_not_with_p_cloud(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    calibration = fitted[2]
    grid = np.linspace(0.01, 0.99, 50)
    rising = [calibration.score(float(p), 0.7) for p in grid]
    falling = [calibration.score(0.7, float(p)) for p in grid]
    assert all(a < b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))


def test_threshold_table_is_monotone_and_covers_both_extremes(
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


def test_recommended_threshold_recovers_the_target_quality(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    score, _, _ = calibrate.scores(logits, calibration)
    table = calibrate.threshold_table(score, out)
    threshold, reason = calibrate.recommend(table, rows="synthetic prompts")
    assert reason.endswith("on synthetic prompts")
    chosen = next(point for point in table if point.threshold == threshold)
    assert chosen.quality_share >= calibrate.RECOMMENDED_PGR
    assert chosen.cost_share < 0.75


def test_intervals_contain_the_value_and_narrow_with_more_rows() -> None:
    widths = []
    for n in (200, 4000):
        logits, out = _synthetic_data(n)
        score, _, _ = calibrate.scores(logits, calibrate.fit(logits, out))
        point = calibrate.threshold_table(score, out, rounds=200)[20]
        low, high = point.quality_interval
        assert low <= point.quality_share <= high
        assert point.cost_interval[0] <= point.cost_share <= point.cost_interval[1]
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_without_a_quality_gap_everything_stays_local() -> None:
    logits, out = _synthetic_data(500)
    swapped = out._replace(local=out.cloud, cloud=out.local)
    score, _, _ = calibrate.scores(logits, calibrate.fit(logits, out))
    table = calibrate.threshold_table(score, swapped, rounds=50)
    threshold, reason = calibrate.recommend(table, rows="synthetic prompts")
    assert threshold == 0.0
    assert "no better" in reason


def test_few_rows_stay_close_to_the_prior_calibration(
    fitted: tuple[np.ndarray, Outcomes, Calibration],
) -> None:
    logits, out, calibration = fitted
    prior = Calibration(
        local=HeadCalibration(temperature=1.0, bias=-1.0),
        cloud=HeadCalibration(temperature=1.0, bias=-1.0),
        cloud_weight=0.6,
        slope=4.0,
        intercept=0.0,
    )
    few, many = (
        calibrate.fit(logits[:n], out.take(np.arange(n)), prior=prior) for n in (5, len(logits))
    )
    assert abs(few.local.bias - prior.local.bias) < abs(many.local.bias - prior.local.bias)
    assert many.local.temperature == pytest.approx(calibration.local.temperature, rel=0.1)
    assert many.local.bias == pytest.approx(calibration.local.bias, abs=0.1)
    assert few.cloud_weight == many.cloud_weight == 0.6


def test_single_class_gives_a_usable_calibration() -> None:
    logits, out = _synthetic_data(100)
    good = out._replace(local_ok=np.ones(100, dtype=bool), local=np.full(100, 10.0))
    prior = calibrate.fit(*_synthetic_data(2000))
    fitted = calibrate.fit(logits, good, prior=prior)
    score, p_local, _ = calibrate.scores(logits, fitted)
    assert np.isfinite(score).all()
    assert 0.8 < p_local.mean() < 1


def test_weighted_row_counts_as_repeated_rows() -> None:
    logits, out = _synthetic_data(300)
    counts = np.random.default_rng(1).integers(1, 5, 300)
    weighted = out._replace(weight=counts.astype(float))
    repeated = np.repeat(np.arange(300), counts)
    calibration = calibrate.fit(logits, out)
    score, _, _ = calibrate.scores(logits, calibration)
    thresholds = np.array([0.0, 0.4, 0.7, 0.9, 1.0])
    by_weight = calibrate.operating_points(score, weighted, thresholds, rounds=200)
    by_repetition = calibrate.operating_points(
        score[repeated], out.take(repeated), thresholds, rounds=200
    )
    for a, b in zip(by_weight, by_repetition, strict=True):
        assert (a.cost_share, a.quality_share, a.local_share) == pytest.approx(
            (b.cost_share, b.quality_share, b.local_share), abs=1e-4
        )
        # The bootstrap draws groups, so the intervals are equal, too.
        assert a.quality_interval == pytest.approx(b.quality_interval, abs=1e-4)
    fitted = calibrate.fit_logistic(logits[:, 0], out.local_ok, weight=counts)
    assert fitted == pytest.approx(
        calibrate.fit_logistic(logits[repeated, 0], out.local_ok[repeated])
    )


def test_large_weights_do_not_increase_the_effective_rows() -> None:
    logits, out = _synthetic_data(50)
    prior = calibrate.fit(*_synthetic_data(2000))
    uniform = calibrate.fit(logits, out, prior=prior)
    heavy = calibrate.fit(logits, out._replace(weight=np.full(50, 1000.0)), prior=prior)
    assert heavy.local.bias == pytest.approx(uniform.local.bias)
    assert calibrate.effective_weights(np.array([1.0, 1.0, 1e9])).sum() == pytest.approx(1.0)


def test_target_decides_the_threshold() -> None:
    logits, out = _synthetic_data(1000)
    score, _, _ = calibrate.scores(logits, calibrate.fit(logits, out))
    table = calibrate.threshold_table(score, out, rounds=50)
    chosen = [
        calibrate.recommend(table, rows="x", quality_share=share)[0] for share in (0.2, 0.6, 0.95)
    ]
    assert chosen == sorted(set(chosen))
    for share in (0.0, 0.3, 1.0):
        threshold, reason = calibrate.recommend_for_cost(table, rows="x", cost_share=share)
        point = next(row for row in table if row.threshold == threshold)
        costlier = [row for row in table if row.threshold > threshold]
        assert point.cost_share <= share
        assert all(row.cost_share > share for row in costlier)
        assert f"{100 * share:.4g} %" in reason
