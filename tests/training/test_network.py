"""The network: padding has no effect, and the first layers of the base are kept."""

import numpy as np
import torch

from training.network import build

TOKENS = torch.tensor([[101, 2054, 2003, 1996, 3007, 102], [101, 3007, 102, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def test_padding_does_not_change_the_output() -> None:
    torch.manual_seed(0)
    network, _ = build("tiny", ["local", "cloud"])
    network.eval()
    with torch.inference_mode():
        padded = network(TOKENS, MASK)
        whole, short = network(TOKENS[:1]), network(TOKENS[1:, :3])  # as in serving, without a mask
    np.testing.assert_allclose(padded, torch.cat([whole, short]), atol=1e-5)


def test_first_layers_are_kept() -> None:
    everything, _ = build("minilm", ["local"])
    network, _ = build("minilm", ["local"], layers=4)
    layers = network.distilbert.transformer.layer
    assert (len(layers), network.config.n_layers) == (4, 4)
    for layer, original in zip(layers, everything.distilbert.transformer.layer, strict=False):
        assert torch.equal(layer.ffn.lin1.weight, original.ffn.lin1.weight)


def test_states_of_a_layer_are_those_of_a_network_that_ends_there() -> None:
    network, short = build("minilm", ["local"])[0].eval(), build("minilm", ["local"], layers=2)[0]
    with torch.inference_mode():
        states = network.states(TOKENS[:1], depth=2)
        hidden = short.eval().distilbert(input_ids=TOKENS[:1])[0]
    assert len(states) == 3
    np.testing.assert_allclose(states[2], hidden.mean(dim=1), atol=1e-5)
