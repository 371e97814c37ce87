"""Quality estimates against hand calculations. tests/bench/simulation.py simulates all of them."""

import random

import pytest

from proxy.evaluation.estimates import (
    MIN_ANSWERS,
    MIN_CONVERSATIONS,
    MIN_PAIRS,
    JudgedPair,
    JudgedValue,
    SampleSize,
    mean,
    recovered,
    saved,
    share,
)


def pairs(*groups: tuple[int, float, float, bool]) -> list[JudgedPair]:
    """Groups are (number, local score, cloud score, whether the cloud answered)."""
    return [
        JudgedPair(local, cloud, went)
        for number, local, cloud, went in groups
        for _ in range(number)
    ]


@pytest.mark.parametrize(
    ("given", "ratio"),
    [
        pytest.param(pairs((200, 4, 8, True)), 1.0, id="all-to-the-cloud"),
        pytest.param(pairs((200, 4, 8, False)), 0.0, id="all-local"),
        pytest.param(pairs((50, 4, 8, True), (150, 4, 8, False)), 0.25, id="a-quarter"),
        # The cloud is 5 points better on 100 hard prompts and equal on 100 easy ones.
        pytest.param(pairs((100, 4, 9, True), (100, 9, 9, False)), 1.0, id="the-hard-ones"),
        pytest.param(pairs((100, 4, 9, False), (100, 9, 9, True)), 0.0, id="the-easy-ones"),
        # The cloud is worse on some prompts, so routing can recover more than the gap: 400 of 300.
        pytest.param(pairs((100, 5, 9, True), (100, 9, 8, False)), 4 / 3, id="better-than-all"),
        pytest.param(pairs((100, 5, 9, False), (100, 9, 8, True)), -1 / 3, id="worse-than-none"),
    ],
)
def test_recovered_share_equals_hand_calculation(given: list[JudgedPair], ratio: float) -> None:
    estimate = recovered(given)
    assert estimate is not None
    assert estimate.ratio == pytest.approx(ratio)
    assert estimate.low <= estimate.ratio <= estimate.high


def test_too_few_pairs_give_no_estimate() -> None:
    assert recovered([]) is None
    assert recovered(pairs((MIN_PAIRS - 1, 4, 8, True))) is None
    assert recovered(pairs((MIN_PAIRS, 4, 8, True))) is not None


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(pairs((500, 7, 7, True)), id="alike"),
        pytest.param(pairs((250, 7, 8, True), (250, 8, 7, False)), id="as-often-better-as-worse"),
        pytest.param(pairs((500, 8, 7, True)), id="the-cloud-is-worse"),
        pytest.param(pairs((1, 1, 10, True), (499, 7, 7, True)), id="better-once"),
    ],
)
def test_without_a_quality_gap_there_is_no_recovered_share(given: list[JudgedPair]) -> None:
    assert recovered(given) is None


def test_the_same_rows_give_the_same_interval() -> None:
    given = simulated(random.Random(1), 300)
    assert recovered(given) == recovered(given)


def test_weights_count_as_multiplicities() -> None:
    """4 of 5 hard prompts were sampled, and 1 of 10 easy ones."""
    hard = [JudgedPair(4, 9, True, 1.25)] * 160
    easy = [JudgedPair(8, 9, False, 10.0)] * 40
    estimate = recovered(hard + easy)
    assert estimate is not None
    assert estimate.ratio == pytest.approx(200 * 5 / (200 * 5 + 400))  # unweighted: 160 * 5 / 840
    assert estimate.low < 200 * 5 / 1400 < estimate.high < 160 * 5 / 840
    rows = [JudgedValue(1, 2.0)] * 60 + [JudgedValue(0, 6.0)] * 60
    for interval in (share(rows), mean(rows)):
        assert interval is not None
        assert interval.value == pytest.approx(0.25)


def test_estimates_do_not_depend_on_the_scale_of_weights() -> None:
    given = simulated(random.Random(1), 300)
    rows = [JudgedValue(float(pair.local_score > 7), 1 + pair.cloud_score**2) for pair in given]
    for weight in (1e-3, 50.0):
        heavy = [pair._replace(weight=weight) for pair in given]
        assert recovered(heavy) == pytest.approx(recovered(given))
        scaled = [row._replace(weight=row.weight * weight) for row in rows]
        assert share(scaled) == pytest.approx(share(rows))
        assert mean(scaled) == pytest.approx(mean(rows))


def test_repeats_in_a_conversation_do_not_narrow_the_interval() -> None:
    """Requests of a conversation are similar: ten times the rows add no information."""
    given = simulated(random.Random(1), 300)
    once = [pair._replace(session=str(number)) for number, pair in enumerate(given)]
    assert recovered(once) == recovered(given)
    assert recovered(once * 10) == pytest.approx(recovered(once))
    rows = [JudgedValue(float(pair.local_score > 7), 1.0, pair.session) for pair in once]
    assert mean(rows * 10) == pytest.approx(mean(rows))
    assert share(rows * 10) == pytest.approx(share(rows))
    independent = share([row._replace(session=None) for row in rows * 10])
    clustered = share(rows)
    assert independent is not None
    assert clustered is not None
    assert independent.high - independent.low < 0.4 * (clustered.high - clustered.low)


def test_few_long_conversations_give_no_estimate() -> None:
    few = [JudgedPair(4, 8, True, session=str(n % (MIN_CONVERSATIONS - 1))) for n in range(1_000)]
    assert recovered(few) is None
    assert SampleSize.of(few) == (1_000, 19)
    assert SampleSize.of(few).shortage(MIN_PAIRS) == "19 of 20 conversations"
    assert recovered([*few, JudgedPair(4, 8, True)]) == (1, 1, 1)
    assert SampleSize(99, 99).shortage(MIN_PAIRS) == "99 of 100"
    assert SampleSize(100, 100).shortage(MIN_PAIRS) is None


@pytest.mark.parametrize(
    ("ones", "low", "high"),
    # Wilson's interval with Student's t for 99 degrees of freedom, 1.9842.
    [(100, 0.9621, 1.0), (98, 0.9287, 0.9946), (50, 0.4022, 0.5978), (0, 0.0, 0.0379)],
)
def test_share_of_good_answers_equals_hand_calculation(ones: int, low: float, high: float) -> None:
    """100 of 100 does not prove a share of 1."""
    estimate = share([JudgedValue(1.0)] * ones + [JudgedValue(0.0)] * (100 - ones))
    assert estimate == pytest.approx((ones / 100, low, high), abs=1e-4)
    assert share([JudgedValue(1.0)] * (MIN_ANSWERS - 1)) is None


def test_unequal_weights_widen_the_interval() -> None:
    """The effective sample size is Kish's."""
    light = [JudgedValue(1.0, 1.0)] * 160
    plain, skewed = share([JudgedValue(1.0)] * 200), share(light + [JudgedValue(1.0, 16.0)] * 40)
    assert plain is not None
    assert skewed is not None
    effective = (160 + 640) ** 2 / (160 + 40 * 256)
    assert 1 - skewed.low == pytest.approx((1 - plain.low) * 200 / effective, rel=0.1)


def test_mean_equals_hand_calculation() -> None:
    """8 and 4 equally often: the standard error is about 2 / sqrt(100)."""
    estimate = mean([JudgedValue(8.0)] * 50 + [JudgedValue(4.0)] * 50)
    assert estimate == pytest.approx((6, 5.6, 6.4), abs=0.02)
    assert mean([JudgedValue(9.0, 3.0)] * 60) == (9, 9, 9)
    assert mean([JudgedValue(9.0)] * (MIN_ANSWERS - 1)) is None


def priced(*groups: tuple[int, float, bool, float]) -> list[JudgedPair]:
    """Groups are (number, lead of the cloud, whether the cloud answered, cloud price)."""
    return [
        JudgedPair(5, 5 + gap, went, cost_usd=cost if went else 0.0, cloud_cost_usd=cost)
        for number, gap, went, cost in groups
        for _ in range(number)
    ]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        pytest.param(priced((200, 4, True, 1.0)), 0.0, id="all-to-the-cloud"),
        pytest.param(priced((200, 4, False, 1.0)), 0.0, id="all-local"),
        pytest.param(priced((50, 4, True, 1.0), (150, 4, False, 1.0)), 0.0, id="as-random-routing"),
        # The whole gap for half of the cost, and for a quarter.
        pytest.param(priced((100, 4, True, 1.0), (100, 0, False, 1.0)), 0.5, id="the-hard-ones"),
        pytest.param(priced((100, 4, True, 1.0), (100, 0, False, 3.0)), 0.75, id="cheap-ones"),
        pytest.param(priced((100, 0, True, 1.0), (100, 4, False, 1.0)), -0.5, id="the-easy-ones"),
        pytest.param(priced((100, 4, True, 1e-7), (100, 0, False, 1e-7)), 0.5, id="tiny-prices"),
    ],
)
def test_savings_at_equal_quality_equal_hand_calculation(
    given: list[JudgedPair], value: float
) -> None:
    estimate = saved(given)
    assert estimate is not None
    assert estimate.value == pytest.approx(value, abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high


def test_without_costs_or_a_gap_there_are_no_savings() -> None:
    assert saved(priced((200, 4, True, 0.0))) is None
    assert saved(priced((200, 0, True, 1.0))) is None
    assert saved(priced((MIN_PAIRS - 1, 4, True, 1.0))) is None


def simulated(rng: random.Random, number: int) -> list[JudgedPair]:
    """A third is hard, with a cloud lead of 3; the cloud gets 80 % of these, 10 % of the rest."""
    simulated_pairs = []
    for _ in range(number):
        is_hard = rng.random() < 1 / 3
        went = rng.random() < (0.8 if is_hard else 0.1)
        local = (5 if is_hard else 8) + rng.gauss(0, 1.5)
        simulated_pairs.append(JudgedPair(local, 8 + rng.gauss(0, 1.5), went))
    return simulated_pairs


def test_intervals_have_their_nominal_coverage() -> None:
    rng = random.Random(2)
    intervals = [recovered(simulated(rng, 400)) for _ in range(60)]
    covered = sum(i is not None and i.low <= 0.8 <= i.high for i in intervals)
    assert covered >= 53  # 57 are expected; fewer than 53 once in a hundred times
    widths = [i.high - i.low for i in intervals if i is not None]
    assert 0.1 < sum(widths) / len(widths) < 0.5
