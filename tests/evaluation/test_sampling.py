"""Which requests are drawn to be judged: probabilities are what they say, rare kinds come up."""

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
    return Sampler(JudgeConfig(enabled=True, **rates | settings), dice=random.Random(seed))


# 90 % easy ones that stay, the rest in two rare kinds; with how often each is asked.
KINDS = {
    "easy": (record(), 0.90),
    "middling": (record(score=0.8), 0.07),
    "hard": (record(score=0.6, target=Target.CLOUD), 0.03),
}


def traffic(number: int, seed: int = 1) -> Iterator[str]:
    yield from random.Random(seed).choices(
        list(KINDS), [how_often for _, how_often in KINDS.values()], k=number
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
def test_what_cannot_or_may_not_be_judged_is_never_drawn(changes: dict[str, Any]) -> None:
    always = sampler(sample_rate=1.0, shadow_rate=0.0)
    assert always.draw(record(**changes)) is None
    assert always.draw(record()) is not None


def test_nothing_is_drawn_unless_it_is_wanted() -> None:
    off = Sampler(JudgeConfig(sample_rate=1.0), dice=random.Random(0))
    assert off.draw(record()) is None
    none = sampler(sample_rate=0.0, shadow_rate=0.0)
    assert drawn_of(none, traffic(2_000)) == []


def test_a_weight_of_one_over_the_propensity_restores_the_traffic() -> None:
    """Of either kind alone and of every kind of request: what was drawn stands for all of it."""
    names = list(traffic(100_000))
    asked = collections.Counter(names)
    found: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for name, drawn in drawn_of(sampler(), names):
        found[name, drawn.kind].append(1 / drawn.propensity)
    assert len(found) == 2 * len(KINDS)
    for (name, _), weights in found.items():
        error = sum(weight**2 for weight in weights) ** 0.5
        assert abs(sum(weights) - asked[name]) < 4 * error


def test_rare_kinds_come_up_more_often_and_the_mean_rates_stay() -> None:
    number = 100_000
    drawn = drawn_of(sampler(), traffic(number))
    kinds = collections.Counter(one.kind for _, one in drawn)
    assert kinds["grade"] / number == pytest.approx(0.02, rel=0.1)
    assert kinds["pair"] / number == pytest.approx(0.01, rel=0.1)
    of = collections.Counter(name for name, _ in drawn)
    # 12 and 28 of 100 instead of the 3 and 7 that come of it alike: four times as often each.
    assert of["hard"] / len(drawn) == pytest.approx(4 * 0.03, rel=0.15)
    assert of["middling"] / len(drawn) == pytest.approx(4 * 0.07, rel=0.15)
    assert all(0.005 < one.propensity < 0.081 and 0 <= one.turn < 1 for _, one in drawn)


def test_rates_follow_the_traffic() -> None:
    """What was rare and is common now is not drawn four times as often for ever."""
    sampling = sampler(sample_rate=0.2, shadow_rate=0.0)
    drawn_of(sampling, traffic(2_000))
    drawn = drawn_of(sampling, ["hard"] * 20_000)
    assert drawn[0][1].propensity == pytest.approx(0.8)
    assert drawn[-1][1].propensity == pytest.approx(0.2, rel=0.05)


def test_rates_of_more_than_one_are_scaled_down_to_it() -> None:
    """A request becomes one of the kinds, each with a probability that it can have."""
    drawn = drawn_of(sampler(sample_rate=1.0, shadow_rate=1.0), traffic(4_000))
    assert len(drawn) == 4_000
    assert {one.propensity for _, one in drawn} == {0.5}
    pairs = sum(one.kind == "pair" for _, one in drawn)
    assert 1_850 < pairs < 2_150
    # 0.6 together: rare ones are drawn always, and either kind as often as it should.
    drawn = drawn_of(sampler(sample_rate=0.4, shadow_rate=0.2), traffic(4_000))
    late = [one for name, one in drawn[1_000:] if name == "hard"]
    assert {round(one.propensity, 9) for one in late} == {round(1 / 3, 9), round(2 / 3, 9)}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param({1: 7}, {1: 1}, id="one-kind"),
        pytest.param({1: 50, 2: 50}, {1: 1, 2: 1}, id="equal"),
        pytest.param({1: 75, 2: 25}, {1: 2 / 3, 2: 2}, id="equally-many-of-each"),
        # Equally many would take 10 times the rate: 4 it is, and 0.1 * 4 + 0.9 * 2 / 3 = 1.
        pytest.param({1: 90, 2: 5, 3: 5}, {1: 2 / 3, 2: 4, 3: 4}, id="bounded-above"),
        # Fifty kinds of 1 in 100 and one of 50: a quarter of the rate for that, not 1/25.
        pytest.param(
            {0: 50} | dict.fromkeys(range(1, 51), 1),
            {0: 0.25} | dict.fromkeys(range(1, 51), 1.75),
            id="bounded-below",
        ),
    ],
)
def test_the_factors_by_hand(counts: dict[int, float], expected: dict[int, float]) -> None:
    assert factors(counts) == pytest.approx(expected, rel=1e-6)


def test_the_mean_of_the_factors_is_one_whatever_the_traffic() -> None:
    rng = random.Random(3)
    for _ in range(200):
        counts = {kind: rng.lognormvariate(0, 3) for kind in range(rng.randrange(1, 30))}
        found = factors(counts)
        mean = sum(counts[kind] * factor for kind, factor in found.items()) / sum(counts.values())
        assert mean == pytest.approx(1, rel=1e-6)
        assert all(1 / MAX_FACTOR <= factor <= MAX_FACTOR for factor in found.values())
