"""The network: pooling layers say what attention would, and padding says nothing."""

import numpy as np
import pytest
import torch

from training.network import attend, build

TOKENS = torch.tensor([[101, 2054, 2003, 1996, 3007, 102], [101, 3007, 102, 0, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])


def test_one_vector_asks_as_attention_does() -> None:
    torch.manual_seed(0)
    network, _ = build("minilm", ["local", "cloud"], layers=1, pooling_layers=1)
    attention = network.pooling[0].attention.eval()
    hidden, query = torch.randn(2, 6, 384), torch.randn(2, 384)
    with torch.inference_mode():
        wanted = attention(
            query=query.unsqueeze(1), key=hidden, value=hidden, mask=(MASK == 1)[:, None, None, :]
        )[0].squeeze(1)
        found = attend(attention, query, hidden, (MASK == 0).unsqueeze(1))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("pooling_layers", [0, 1])
def test_padding_says_nothing(pooling_layers: int) -> None:
    torch.manual_seed(0)
    network, _ = build("tiny", ["local", "cloud"], pooling_layers=pooling_layers)
    network.eval()
    with torch.inference_mode():
        padded = network(TOKENS, MASK)
        whole, short = network(TOKENS[:1]), network(TOKENS[1:, :3])  # as it serves: no mask
    np.testing.assert_allclose(padded, torch.cat([whole, short]), atol=1e-5)


def test_the_first_layers_are_kept_and_the_last_of_them_pool() -> None:
    everything, _ = build("minilm", ["local"])
    network, _ = build("minilm", ["local"], layers=4, pooling_layers=3)
    layers = [*network.distilbert.transformer.layer, *network.pooling]
    assert (len(layers), len(network.pooling), network.config.n_layers) == (4, 3, 1)
    for kept, original in zip(layers, everything.distilbert.transformer.layer, strict=False):
        assert torch.equal(kept.ffn.lin1.weight, original.ffn.lin1.weight)
