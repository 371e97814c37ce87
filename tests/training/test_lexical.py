"""The lexical part: it learns from tokens and has no weight where it is uninformative."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from router_model.calibrate import Outcomes
from router_model.metrics import auroc
from training import lexical

VOCABULARY = 50
HARD = 7  # a token that makes the local model fail


def _synthetic_data(
    n: int, seed: int, *, informative: bool = True
) -> tuple[list[list[int]], Outcomes]:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(10, VOCABULARY, 12).tolist() for _ in range(n)]
    hard = rng.random(n) < 0.5
    for tokens, is_hard in zip(ids, hard, strict=True):
        if is_hard:
            tokens[3] = HARD
    chance = np.where(hard, 0.2, 0.8) if informative else np.full(n, 0.5)
    local_ok, cloud_ok = rng.random(n) < chance, rng.random(n) < 0.9
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
    return ids, out


def test_bag_ignores_count_and_position_of_tokens() -> None:
    bag = lexical.bags([[3, 4, 4, 4], [4, 3]], 6).toarray()
    assert (bag[0] == bag[1]).all()
    assert bag[0].tolist() == pytest.approx([0, 0, 0, 0.5**0.5, 0.5**0.5, 0])


def test_table_finds_the_informative_token() -> None:
    ids, out = _synthetic_data(600, 0)
    table, strength = lexical.fit(ids, out, vocabulary=VOCABULARY)
    assert strength in lexical.STRENGTHS
    assert int(table[:, 0].argmin()) == HARD
    others, truth = _synthetic_data(300, 1)
    wide = lexical.bags(others, VOCABULARY) @ table
    assert auroc(truth.local_ok, wide[:, 0]) > 0.75


def test_tokens_of_a_single_prompt_have_no_weight() -> None:
    ids, out = _synthetic_data(200, 0)
    ids[0] = [1, *ids[0]]
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    assert table[1].tolist() == [0.0, 0.0]


def test_blending_improves_on_the_deep_score() -> None:
    ids, out = _synthetic_data(600, 0)
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    others, truth = _synthetic_data(600, 1)
    wide = (lexical.bags(others, VOCABULARY) @ table).astype(float)
    rng = np.random.default_rng(2)
    deep = np.stack([ok + rng.normal(0, 1, 600) for ok in (truth.local_ok, truth.cloud_ok)], 1)
    weights = lexical.blend(deep, wide, truth)
    both = deep[:, 0] + weights[0] * wide[:, 0]
    assert auroc(truth.local_ok, both) > auroc(truth.local_ok, deep[:, 0])
    assert (lexical.blend(deep, np.zeros_like(wide), truth) == 0).all()


def test_negative_blending_weight_is_zero() -> None:
    ids, out = _synthetic_data(600, 0)
    table, _ = lexical.fit(ids, out, vocabulary=VOCABULARY)
    others, truth = _synthetic_data(600, 1)
    wide = -(lexical.bags(others, VOCABULARY) @ table).astype(float)
    deep = np.stack([truth.local_ok * 2.0 - 1, truth.cloud_ok * 2.0 - 1], axis=1)
    assert lexical.blend(deep, wide, truth)[0] == 0.0


def test_single_class_gives_a_table_of_zeros() -> None:
    ids, out = _synthetic_data(100, 0)
    table, _ = lexical.fit(ids, out._replace(local_ok=np.ones(100, dtype=bool)), vocabulary=50)
    assert not table[:, 0].any()
    assert table[:, 1].any()
