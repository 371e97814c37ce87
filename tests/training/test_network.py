"""The network: pooling layers equal attention, and padding has no effect."""

import numpy as np
import pytest
import torch

from training.network import attend, build

TOKENS = torch.tensor([[101, 2054, 2003, 1996, 3007, 102], [101, 3007, 102, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def test_single_query_equals_full_attention() -> None:
    torch.manual_seed(0)
    network, _ = build("minilm", ["local", "cloud"], layers=1, pooling_layers=1)
    attention = network.pooling[0].attention.eval()
    hidden, query = torch.randn(2, 6, 384), torch.randn(2, 384)
    with torch.inference_mode():
        expected = attention(
            query=query.unsqueeze(1), key=hidden, value=hidden, mask=(MASK == 1)[:, None, None, :]
        )[0].squeeze(1)
        actual = attend(attention, query, hidden, (MASK == 0).unsqueeze(1))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("pooling_layers", [0, 1])
def test_padding_does_not_change_the_output(pooling_layers: int) -> None:
    torch.manual_seed(0)
    network, _ = build("tiny", ["local", "cloud"], pooling_layers=pooling_layers)
    network.eval()
    with torch.inference_mode():
        padded = network(TOKENS, MASK)
        whole, short = network(TOKENS[:1]), network(TOKENS[1:, :3])  # as in serving, without a mask
    np.testing.assert_allclose(padded, torch.cat([whole, short]), atol=1e-5)


def test_first_layers_are_kept_and_the_last_of_them_pool() -> None:
    everything, _ = build("minilm", ["local"])
    network, _ = build("minilm", ["local"], layers=4, pooling_layers=3)
    layers = [*network.distilbert.transformer.layer, *network.pooling]
    assert (len(layers), len(network.pooling), network.config.n_layers) == (4, 3, 1)
    for layer, original in zip(layers, everything.distilbert.transformer.layer, strict=False):
        assert torch.equal(layer.ffn.lin1.weight, original.ffn.lin1.weight)
