"""Sampling of requests to judge: correct propensities, and more samples of rare kinds."""

import collections
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from proxy.config import JudgeConfig
from proxy.evaluation.sampling import MAX_FACTOR, Draw, Sampler, factors
from proxy.record import CallRecord, Ending, Target
from stored import finished

COMMON = {
    "score": 0.9,
    "target": Target.LOCAL,
    "turns": [("user", "Hello")],
    "response": "Hello!",
    "finish_reason": "stop",
}


def record(**changes: object) -> CallRecord:
    return finished(**COMMON | changes)


def sampler(seed: int = 0, **settings: Any) -> Sampler:
    rates = {"sample_rate": 0.02, "shadow_rate": 0.01}
    return Sampler(JudgeConfig(enabled=True, **rates | settings), rng=random.Random(seed))


# 90 % easy local requests and two rare kinds, with their shares.
KINDS = {
    "easy": (record(), 0.90),
    "middling": (record(score=0.8), 0.07),
    "hard": (record(score=0.6, target=Target.CLOUD), 0.03),
}


def traffic(number: int, seed: int = 1) -> Iterator[str]:
    yield from random.Random(seed).choices(
        list(KINDS), [share for _, share in KINDS.values()], k=number
    )


def drawn_of(sampling: Sampler, names: Iterable[str]) -> list[tuple[str, Draw]]:
    draws = ((name, sampling.draw(KINDS[name][0])) for name in names)
    return [(name, drawn) for name, drawn in draws if drawn is not None]


@pytest.mark.parametrize(
    "changes",
    [
        {"score": None},
        {"target": None},
        {"ending": Ending.CLIENT_GONE},
        {"ending": Ending.UPSTREAM_ERROR},
        {"finish_reason": "length"},
        {"finish_reason": None},
        {"response": ""},
        {"response": None},
        {"turns": None},
        {"turns": []},
        {"no_store": True},
    ],
    ids=repr,
)
def test_unsuitable_records_are_never_sampled(changes: dict[str, Any]) -> None:
    always = sampler(sample_rate=1.0, shadow_rate=0.0)
    assert always.draw(record(**changes)) is None
    assert always.draw(record()) is not None


def test_nothing_is_sampled_when_disabled() -> None:
    off = Sampler(JudgeConfig(sample_rate=1.0), rng=random.Random(0))
    assert off.draw(record()) is None
    none = sampler(sample_rate=0.0, shadow_rate=0.0)
    assert drawn_of(none, traffic(2_000)) == []


def test_inverse_propensity_weights_restore_the_traffic() -> None:
    """The samples of either purpose represent every kind of request."""
    names = list(traffic(100_000))
    expected = collections.Counter(names)
    weights_of: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for name, drawn in drawn_of(sampler(), names):
        weights_of[name, drawn.kind].append(1 / drawn.propensity)
    assert len(weights_of) == 2 * len(KINDS)
    for (name, _), weights in weights_of.items():
        error = sum(weight**2 for weight in weights) ** 0.5
        assert abs(sum(weights) - expected[name]) < 4 * error


def test_rare_kinds_are_oversampled_at_unchanged_mean_rates() -> None:
    number = 100_000
    drawn = drawn_of(sampler(), traffic(number))
    kinds = collections.Counter(draw.kind for _, draw in drawn)
    assert kinds["grade"] / number == pytest.approx(0.02, rel=0.1)
    assert kinds["pair"] / number == pytest.approx(0.01, rel=0.1)
    counts = collections.Counter(name for name, _ in drawn)
    # 12 and 28 of 100 instead of 3 and 7: four times as often.
    assert counts["hard"] / len(drawn) == pytest.approx(4 * 0.03, rel=0.15)
    assert counts["middling"] / len(drawn) == pytest.approx(4 * 0.07, rel=0.15)
    assert all(0.005 < draw.propensity < 0.081 and 0 <= draw.turn < 1 for _, draw in drawn)


def test_rates_follow_the_traffic() -> None:
    """A kind that becomes common is no longer oversampled."""
    sampling = sampler(sample_rate=0.2, shadow_rate=0.0)
    drawn_of(sampling, traffic(2_000))
    drawn = drawn_of(sampling, ["hard"] * 20_000)
    assert drawn[0][1].propensity == pytest.approx(0.8)
    assert drawn[-1][1].propensity == pytest.approx(0.2, rel=0.05)


def test_rates_above_one_are_scaled_down() -> None:
    """A request is sampled for one purpose, with a probability of at most 1."""
    drawn = drawn_of(sampler(sample_rate=1.0, shadow_rate=1.0), traffic(4_000))
    assert len(drawn) == 4_000
    assert {draw.propensity for _, draw in drawn} == {0.5}
    pairs = sum(draw.kind == "pair" for _, draw in drawn)
    assert 1_850 < pairs < 2_150
    # 0.6 together: rare ones are always sampled, with both purposes at their rates.
    drawn = drawn_of(sampler(sample_rate=0.4, shadow_rate=0.2), traffic(4_000))
    late = [draw for name, draw in drawn[1_000:] if name == "hard"]
    assert {round(draw.propensity, 9) for draw in late} == {round(1 / 3, 9), round(2 / 3, 9)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param({1: 7}, {1: 1}, id="one-kind"),
        pytest.param({1: 50, 2: 50}, {1: 1, 2: 1}, id="equal"),
        pytest.param({1: 75, 2: 25}, {1: 2 / 3, 2: 2}, id="equally-many-of-each"),
        # Equal numbers would need 10 times the rate; the maximum is 4: 0.1 * 4 + 0.9 * 2 / 3 = 1.
        pytest.param({1: 90, 2: 5, 3: 5}, {1: 2 / 3, 2: 4, 3: 4}, id="bounded-above"),
        # Fifty kinds of 1 in 100 and one of 50: the minimum is a quarter of the rate, not 1/25.
        pytest.param(
            {0: 50} | dict.fromkeys(range(1, 51), 1),
            {0: 0.25} | dict.fromkeys(range(1, 51), 1.75),
            id="bounded-below",
        ),
    ],
)
def test_factors_equal_hand_calculation(
    counts: dict[int, float], expected: dict[int, float]
) -> None:
    assert factors(counts) == pytest.approx(expected, rel=1e-6)


def test_the_mean_factor_is_always_one() -> None:
    rng = random.Random(3)
    for _ in range(200):
        counts = {kind: rng.lognormvariate(0, 3) for kind in range(rng.randrange(1, 30))}
        result = factors(counts)
        mean = sum(counts[kind] * factor for kind, factor in result.items()) / sum(counts.values())
        assert mean == pytest.approx(1, rel=1e-6)
        assert all(1 / MAX_FACTOR <= factor <= MAX_FACTOR for factor in result.values())
