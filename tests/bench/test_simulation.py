"""A few runs of `make simulate`: intervals hold the truth, and without weights they do not."""

import pytest

from simulation import Outcome, Prompt, coverage, make_pool, run, truth

RUNS = 30


@pytest.fixture(scope="module")
def pool() -> list[Prompt]:
    return make_pool()


@pytest.fixture(scope="module")
def runs(pool: list[Prompt]) -> list[dict[str, Outcome]]:
    return [run(pool, seed) for seed in range(1_000, 1_000 + RUNS)]


@pytest.mark.parametrize(
    ("name", "naive_at_most"),
    [("recovered", 0.1), ("saved", 0.9), ("good_local", 0.9), ("local_as_good", 0.6)],
)
def test_weighted_estimates_hold_the_truth_and_naive_ones_do_not(
    pool: list[Prompt], runs: list[dict[str, Outcome]], name: str, naive_at_most: float
) -> None:
    """The seeds are fixed; of 30 intervals at 95 % fewer than 25 hold it once in 300 times.

    Processors differ in the last bits of a score, and so may the runs.
    """
    true = truth(pool)[name]
    weighted = coverage([one[name].weighted for one in runs], true)
    naive = coverage([one[name].naive for one in runs], true)
    assert weighted >= 25 / RUNS
    assert naive <= naive_at_most
    assert naive < weighted
    values = [one[name].weighted.value for one in runs if one[name].weighted is not None]
    biased = [one[name].naive.value for one in runs if one[name].naive is not None]
    assert abs(sum(values) / len(values) - true) < abs(sum(biased) / len(biased) - true) / 2
