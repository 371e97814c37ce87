"""Sizing: the simulation against queueing theory, and the operators' table."""

import random
from pathlib import Path

import pytest

from bench import put_between
from sizing import RATES, RESULTS, USD_PER_CORE_HOUR, Costs, carry, quantile_at, read_costs, tables

GUIDE = (Path(__file__).parents[2] / "docs/scaling.md").read_text(encoding="utf-8")


def test_waits_match_queueing_theory() -> None:
    """M/M/1: the time in the system is exponential, with a mean of 1 / (1 - fill) services."""
    rng = random.Random(7)
    service = [rng.expovariate(1.0) for _ in range(400_000)]
    for fill in (0.3, 0.6, 0.8):
        expected = 4.605 / (1 - fill)  # -ln 0.01
        assert quantile_at(fill, service, rng=rng) == pytest.approx(expected, rel=0.08)


def test_repeated_prompts_need_no_decision() -> None:
    costs = Costs(
        relay=0.0004,
        routed=0.0024,
        decision=lambda tokens: 0.001,
        balancer=0.00002,
        worker_mb=170.0,
        rows={"SQLite": 10_000.0, "PostgreSQL": 10_000.0},
    )
    new, repeated = carry(costs, repeats=0.0), carry(costs, repeats=1.0)
    assert new.mean_ms == pytest.approx(2.4)
    assert repeated.mean_ms == pytest.approx(0.4)
    assert repeated.per_second > 5 * new.per_second


def test_the_sizing_table_matches_the_benchmark_results() -> None:
    text = tables(read_costs(RESULTS), rates=RATES, repeats=0.0, usd=USD_PER_CORE_HOUR)
    assert put_between(GUIDE, "sizing", text) == GUIDE, "python tests/bench/sizing.py --readme"
