"""The metrics, compared with manual calculations."""

import math

import numpy as np
import pytest

from router_model import metrics


def test_auroc_matches_a_manual_calculation() -> None:
    # Pairs (positive, negative): 0.9>0.5, 0.9>0.1, 0.4<0.5, 0.4>0.1 -> 3 of 4.
    assert metrics.auroc([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1]) == 0.75
    assert metrics.auroc([1, 0], [0.5, 0.5]) == 0.5
    assert math.isnan(metrics.auroc([1, 1], [0.1, 0.2]))


def test_average_precision_matches_a_manual_calculation() -> None:
    # Hits at ranks 1 and 3: (1/1 + 2/3) / 2.
    assert metrics.average_precision([1, 0, 1], [0.9, 0.8, 0.7]) == pytest.approx(5 / 6)
    assert math.isnan(metrics.average_precision([0, 0], [0.9, 0.8]))


def test_ece_matches_a_manual_calculation() -> None:
    # Bin 0: mean 0.05, observed 0.5, two rows. Bin 9: mean 0.95, observed 1, two rows.
    value = metrics.ece([0, 1, 1, 1], [0.05, 0.05, 0.95, 0.95])
    assert value == pytest.approx((0.45 * 2 + 0.05 * 2) / 4)
    assert metrics.ece([1, 1], [1.0, 1.0]) == 0.0


def test_expected_ece_of_perfect_probabilities_falls_with_the_rows() -> None:
    rng = np.random.default_rng(1)
    few, many = (metrics.expected_ece(rng.random(n)) for n in (100, 10_000))
    assert 0.05 < few < 0.15
    assert many < few / 5
    p = rng.random(1000)
    observed = metrics.ece(rng.random(1000) < p, p)
    assert observed == pytest.approx(metrics.expected_ece(p), abs=0.03)


def test_log_loss_matches_a_manual_calculation() -> None:
    expected = -(math.log(0.8) + math.log(0.5)) / 2
    assert metrics.log_loss([1, 0], [0.8, 0.5]) == pytest.approx(expected)
    assert math.isfinite(metrics.log_loss([1, 0], [0.0, 1.0]))


def test_curve_runs_from_all_local_to_all_cloud() -> None:
    points = metrics.curve([0.1, 0.9, 0.5], [0, 10, 10], [10, 10, 10], [1.0, 2.0, 1.0])
    assert points.quality[[0, -1]].tolist() == pytest.approx([20 / 3, 10])
    assert points.pgr.tolist() == pytest.approx([0, 1, 1, 1])
    assert points.cost_share.tolist() == pytest.approx([0, 0.25, 0.5, 1])
    assert metrics.apgr(points) == pytest.approx(5 / 6)
    assert metrics.cpt(points, 0.5) == pytest.approx(1 / 3)
    assert metrics.quality_at(points, 0.5) == pytest.approx(10)


def test_constant_score_equals_the_random_baseline() -> None:
    rng = np.random.default_rng(0)
    local, cloud = rng.integers(0, 2, 200) * 10.0, rng.integers(0, 3, 200) * 10.0
    points = metrics.curve(np.full(200, 0.5), local, cloud, np.ones(200))
    assert metrics.apgr(points) == pytest.approx(0.5)


def test_score_at_the_threshold_is_routed_locally() -> None:
    result = metrics.routed([0.5, 0.4], [10, 0], [10, 10], [3.0, 1.0], threshold=0.5)
    assert result == metrics.Routed(local_share=0.5, cost_share=0.25, pgr=1.0, quality=10.0)


def test_bootstrap_resamples_groups_not_rows() -> None:
    values = np.repeat([0.0, 1.0], 500)
    low, high = metrics.bootstrap(
        lambda i: float(values[i].mean()), np.repeat(["a", "b"], 500), rounds=200
    )
    assert (low, high) == (0.0, 1.0)
    low, high = metrics.bootstrap(lambda i: float(values[i].mean()), np.arange(1000), rounds=200)
    assert 0.45 < low < high < 0.55


def test_weights_equal_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    labels, probability = rng.random(200) < 0.4, rng.random(200).round(1)  # with ties
    low, high, cost = rng.random(200), rng.random(200) + 1, rng.random(200)
    weight = rng.integers(1, 4, 200)
    repeated = np.repeat(np.arange(200), weight)
    for measure in (metrics.auroc, metrics.ece, metrics.log_loss):
        assert measure(labels, probability, weight=weight) == pytest.approx(
            measure(labels[repeated], probability[repeated])
        )
    weighted_curve = metrics.curve(probability, low, high, cost, weight=weight)
    repeated_curve = metrics.curve(
        probability[repeated], low[repeated], high[repeated], cost[repeated]
    )
    assert metrics.apgr(weighted_curve) == pytest.approx(metrics.apgr(repeated_curve))
    assert metrics.apgr_by_cost(weighted_curve) == pytest.approx(
        metrics.apgr_by_cost(repeated_curve)
    )
    assert weighted_curve.quality[[0, -1]] == pytest.approx(repeated_curve.quality[[0, -1]])
