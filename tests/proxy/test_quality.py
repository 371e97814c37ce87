"""The share of the quality gap that routing wins back: by hand, and against a known truth."""

import random

import pytest

from proxy.quality import MIN_PAIRS, Pair, recovered


def pairs(*groups: tuple[int, float, float, bool]) -> list[Pair]:
    """(how many, local score, cloud score, whether they went to the cloud)."""
    return [
        Pair(local, cloud, went) for number, local, cloud, went in groups for _ in range(number)
    ]


@pytest.mark.parametrize(
    ("given", "ratio"),
    [
        pytest.param(pairs((200, 4, 8, True)), 1.0, id="all-to-the-cloud"),
        pytest.param(pairs((200, 4, 8, False)), 0.0, id="all-local"),
        pytest.param(pairs((50, 4, 8, True), (150, 4, 8, False)), 0.25, id="a-quarter"),
        # 100 hard ones are 5 better in the cloud, 100 easy ones alike: only the hard ones count.
        pytest.param(pairs((100, 4, 9, True), (100, 9, 9, False)), 1.0, id="the-hard-ones"),
        pytest.param(pairs((100, 4, 9, False), (100, 9, 9, True)), 0.0, id="the-easy-ones"),
        # Where the cloud is worse, staying local wins more than the whole gap: 400 of 300.
        pytest.param(pairs((100, 5, 9, True), (100, 9, 8, False)), 4 / 3, id="better-than-all"),
        pytest.param(pairs((100, 5, 9, False), (100, 9, 8, True)), -1 / 3, id="worse-than-none"),
    ],
)
def test_the_share_by_hand(given: list[Pair], ratio: float) -> None:
    found = recovered(given)
    assert found is not None
    assert found.ratio == pytest.approx(ratio)
    assert found.low <= found.ratio <= found.high


def test_few_pairs_say_nothing() -> None:
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
def test_without_a_gap_there_is_no_share_of_it(given: list[Pair]) -> None:
    assert recovered(given) is None


def test_the_same_rows_give_the_same_interval() -> None:
    given = simulated(random.Random(1), 300)
    assert recovered(given) == recovered(given)


def simulated(rng: random.Random, number: int) -> list[Pair]:
    """A third is hard, 3 points better in the cloud; 80 % of these go there, 10 % of the rest."""
    made = []
    for _ in range(number):
        is_hard = rng.random() < 1 / 3
        went = rng.random() < (0.8 if is_hard else 0.1)
        local = (5 if is_hard else 8) + rng.gauss(0, 1.5)
        made.append(Pair(local, 8 + rng.gauss(0, 1.5), went))
    return made


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = random.Random(2)
    found = [recovered(simulated(rng, 400)) for _ in range(60)]
    covered = sum(one is not None and one.low <= 0.8 <= one.high for one in found)
    assert covered >= 53  # 57 are expected of 95 %; fewer than 53 once in a hundred times
    widths = [one.high - one.low for one in found if one is not None]
    assert 0.1 < sum(widths) / len(widths) < 0.5
