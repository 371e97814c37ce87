"""The frozen part of the model: a logistic regression on the layers that training leaves alone.

The first layers of the network stay as in the base (`--frozen-layers`). The mean of their states
describes a prompt in a way that no training prompt has changed. A regression on it ranks the
training's kinds of prompts worse than the network, and other kinds better (training/LOG.md), so
the sum of both carries over best. Only the local logit has this part. It costs one product per
prompt.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from router_model.metrics import Floats
from training.network import RouterNetwork
from training.progress import track

# Of standardised states. A larger value ranks prompts of other sources worse (training/LOG.md).
INVERSE_PENALTY = 1e-4
_BATCH = 32


def states_of(
    network: RouterNetwork,
    ids: Sequence[Sequence[int]],
    *,
    depth: int,
    title: str = "frozen layers",
) -> Floats:
    """The means of the states of layer `depth` [prompts, dim], for prompts given by their ids.

    Prompts of equal length form a batch, as the graph that is served has no padding.
    """
    network.eval()
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    batches: list[list[int]] = []
    for index in order:
        last = batches[-1] if batches else []
        if last and len(last) < _BATCH and len(ids[last[0]]) == len(ids[index]):
            last.append(index)
        else:
            batches.append([index])
    out = np.zeros((len(ids), network.config.dim))
    with torch.inference_mode():
        for batch in track(batches, title, total=len(batches)):
            tokens = torch.tensor([list(ids[index]) for index in batch])
            out[batch] = network.states(tokens, depth=depth)[depth].numpy()
    return out


def fit(states: Floats, local_ok: NDArray[np.bool_]) -> Floats:
    """The weights [dim] of the local logit. Zeros if there is only one class.

    Args:
        states: [prompts, dim].
        local_ok: [prompts].
    """
    if local_ok.all() or not local_ok.any():
        return np.zeros(states.shape[1])
    spread = states.std(axis=0) + 1e-6
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=300)
    regression.fit((states - states.mean(axis=0)) / spread, local_ok)
    weights: Floats = regression.coef_[0] / spread
    return weights
