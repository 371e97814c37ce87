"""The lexical part: what it learns from words, and that it stays out where it learnt nothing."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from router_model.calibrate import Outcomes
from router_model.metrics import auroc
from training import lexical

VOCABULARY = 50
HARD = 7  # a token that makes the local model fail


def _made_up(n: int, seed: int, *, informative: bool = True) -> tuple[list[list[int]], Outcomes]:
    dice = np.random.default_rng(seed)
    ids = [dice.integers(10, VOCABULARY, 12).tolist() for _ in range(n)]
    hard = dice.random(n) < 0.5
    for tokens, is_hard in zip(ids, hard, strict=True):
        if is_hard:
            tokens[3] = HARD
    chance = np.where(hard, 0.2, 0.8) if informative else np.full(n, 0.5)
    local_ok, cloud_ok = dice.random(n) < chance, dice.random(n) < 0.9
    out = Outcomes(
        local=local_ok * 10.0,
        cloud=cloud_ok * 10.0,
        local_ok=local_ok,
        cloud_ok=cloud_ok,
        cost=np.ones(n),
        source=np.full(n, "made up"),
        group=np.arange(n).astype(str),
        weight=np.ones(n),
    )
    return ids, out


def test_a_bag_holds_each_token_once_whatever_its_count_and_place() -> None:
    bag = lexical.bags([[3, 4, 4, 4], [4, 3]], 6).toarray()
    assert (bag[0] == bag[1]).all()
    assert bag[0].tolist() == pytest.approx([0, 0, 0, 0.5**0.5, 0.5**0.5, 0])


def test_the_table_finds_the_telling_token() -> None:
    ids, out = _made_up(600, 0)
    table, strength = lexical.fit(ids, out, vocabulary=VOCABULARY)
    assert strength in lexical.STRENGTHS
    assert int(table[:, 0].argmin()) == HARD
    others, truth = _made_up(300, 1)
    wide = lexical.bags(others, VOCABULARY) @ table
    assert auroc(truth.local_ok, wide[:, 0]) > 0.75


def test_tokens_seen_in_one_prompt_only_say_nothing() -> None:
    ids, out = _made_up(200, 0)
    ids[0] = [1, *ids[0]]
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    assert table[1].tolist() == [0.0, 0.0]


def test_blending_weighs_by_what_each_adds() -> None:
    ids, out = _made_up(600, 0)
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    others, truth = _made_up(600, 1)
    wide = (lexical.bags(others, VOCABULARY) @ table).astype(float)
    dice = np.random.default_rng(2)
    deep = np.stack([ok + dice.normal(0, 1, 600) for ok in (truth.local_ok, truth.cloud_ok)], 1)
    weights = lexical.blend(deep, wide, truth)
    both = deep[:, 0] + weights[0] * wide[:, 0]
    assert auroc(truth.local_ok, both) > auroc(truth.local_ok, deep[:, 0])
    assert (lexical.blend(deep, np.zeros_like(wide), truth) == 0).all()


def test_what_points_the_wrong_way_is_left_out() -> None:
    ids, out = _made_up(600, 0)
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    others, truth = _made_up(600, 1)
    wide = -(lexical.bags(others, VOCABULARY) @ table).astype(float)
    deep = np.stack([truth.local_ok * 2.0 - 1, truth.cloud_ok * 2.0 - 1], axis=1)
    assert lexical.blend(deep, wide, truth)[0] == 0.0


def test_one_class_gives_a_table_of_zeros() -> None:
    ids, out = _made_up(100, 0)
    table, _ = lexical.fit(ids, out._replace(local_ok=np.ones(100, dtype=bool)), vocabulary=50)
    assert not table[:, 0].any()
    assert table[:, 1].any()
