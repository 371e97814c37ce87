"""The lexical part of the model: the wide part of a wide-and-deep network.

It is a logistic regression on the set of tokens in a prompt. On validation it ranks about as well
as the fine-tuned encoder, and both together rank better (Cheng et al. 2016, "Wide & Deep",
arXiv:1606.07792; figures in training/LOG.md). In the served graph it is a table of two numbers per
token and takes microseconds. The table is fitted on the train split, and its two weights next to
the network on validation.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from router_model.calibrate import Outcomes
from router_model.metrics import Floats, log_loss

STRENGTHS = (0.003, 0.01, 0.03, 0.1)
FOLDS = 3
MIN_PROMPTS = 2
_HEADS = 2


def bags(ids: Sequence[Sequence[int]], vocabulary: int) -> Any:
    """Sparse [prompts, vocabulary]: 1 / sqrt(distinct tokens) at each token that occurs."""
    rows, columns, values = [], [], []
    for row, tokens in enumerate(ids):
        distinct = sorted(set(tokens))
        rows += [row] * len(distinct)
        columns += distinct
        values += [len(distinct) ** -0.5] * len(distinct)
    return sp.csr_matrix((values, (rows, columns)), shape=(len(ids), vocabulary), dtype=float)


def fit(
    ids: Sequence[Sequence[int]], out: Outcomes, *, vocabulary: int
) -> tuple[NDArray[np.float32], float]:
    """The table [vocabulary, 2] (local, cloud), and its strength C from cross-validation.

    Columns are scaled by the inverse document frequency, so that rare tokens may weigh more. Tokens
    in fewer than MIN_PROMPTS prompts are ignored.
    """
    x = bags(ids, vocabulary)
    labels = np.stack([out.local_ok, out.cloud_ok], axis=1)
    occurs = np.asarray((x > 0).sum(axis=0)).ravel()
    rarity = np.log((x.shape[0] + 1) / (occurs + 1)) + 1
    rarity[occurs < MIN_PROMPTS] = 0.0
    scaled = x @ sp.diags(rarity)
    strength = min(STRENGTHS, key=lambda c: _held_out_loss(scaled, labels, out.group, c))
    table = np.stack(
        [_weights(scaled, labels[:, head], strength) for head in range(_HEADS)], axis=1
    )
    return (table * rarity[:, None]).astype(np.float32), strength


def blend(deep: Floats, wide: Floats, out: Outcomes) -> Floats:
    """The weight [2] of each wide logit relative to its deep one, by logistic regression on both.

    A negative weight becomes 0: the table of a head without information is left out.
    """
    weights = []
    for head, ok in enumerate((out.local_ok, out.cloud_ok)):
        if ok.all() or not ok.any() or not wide[:, head].any():
            weights.append(0.0)
            continue
        both = np.stack([deep[:, head], wide[:, head]], axis=1)
        of_deep, of_wide = LogisticRegression(C=1e3, max_iter=1000).fit(both, ok).coef_[0]
        weights.append(max(0.0, of_wide / of_deep) if of_deep > 0.05 else 0.0)
    return np.array(weights)


def _held_out_loss(x: Any, labels: NDArray[np.bool_], groups: Any, strength: float) -> float:
    folds = min(FOLDS, len(np.unique(groups)))
    losses = []
    for train, held_out in GroupKFold(folds).split(x, groups=groups):
        for head in range(_HEADS):
            ok = labels[train, head]
            if ok.all() or not ok.any():
                continue
            fitted = LogisticRegression(C=strength, max_iter=1000).fit(x[train], ok)
            predicted = fitted.predict_proba(x[held_out])[:, 1]
            losses.append(log_loss(labels[held_out, head], predicted))
    return float(np.mean(losses)) if losses else 0.0


def _weights(x: Any, ok: NDArray[np.bool_], strength: float) -> Floats:
    """Weights [vocabulary]; zeros with only one class. Calibration fits the intercept."""
    if ok.all() or not ok.any():
        return np.zeros(x.shape[1])
    weights: Floats = LogisticRegression(C=strength, max_iter=1000).fit(x, ok).coef_[0]
    return weights
