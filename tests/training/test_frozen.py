"""The frozen part: a regression on states that training does not change."""

import numpy as np
import torch

from router_model.metrics import auroc
from training import frozen
from training.network import build


def test_it_ranks_by_what_the_states_show() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(600, 24)) * rng.uniform(0.1, 10, 24) + 5
    truth = (states[:, 0] - 5) / states[:, 0].std() + rng.normal(size=600) > 0
    weights = frozen.fit(states[:400], truth[:400])
    assert auroc(truth[400:], states[400:] @ weights) > 0.7
    assert auroc(rng.random(200) < 0.5, states[400:] @ weights) < 0.6


def test_one_class_has_no_weights() -> None:
    states = np.random.default_rng(0).normal(size=(50, 8))
    assert not frozen.fit(states, np.ones(50, dtype=bool)).any()


def test_batches_do_not_change_the_states() -> None:
    torch.manual_seed(0)
    network, tokenizer = build("tiny", ["local"])
    ids = [tokenizer.encode(text).ids for text in ("one", "two words", "three", "a b c d", "four")]
    states = frozen.states_of(network, ids, depth=1)
    for row, tokens in zip(states, ids, strict=True):
        alone = frozen.states_of(network, [tokens], depth=1)[0]
        np.testing.assert_allclose(row, alone, atol=1e-6)
