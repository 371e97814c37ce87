"""Fit the combiner of router and evidence to judged pairs of answers.

The fit has two steps, each a penalised multinomial logistic regression:

1. The prompt alone: the two logits, on all pairs.
2. With evidence: the penalty pulls the weights of the logits towards those of step 1, and the
   weights of the evidence towards 0. Without a clear effect in the data, evidence changes little.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from router_model.calibrate import Outcomes, effective_weights
from router_model.evidence import EVIDENCE, Evidence, evidence_values
from router_model.metrics import Floats
from router_model.verification import (
    MAX_VALUE,
    MIN_SCALE,
    Input,
    PromptWeights,
    Verification,
    Weights,
    is_known,
    softmax,
    standardised,
)

# The share of the requests in the band.
BAND_SHARE: Final = 0.4

# The penalty of a standardised input's weight: a Gaussian prior with variance 1 / PENALTY. Chosen
# by cross-validation on draws of 100 pairs (training/LOG.md).
PENALTY: Final = 3.0
# The intercept of the first step is almost free; that of the second is pulled as all weights are.
_INTERCEPT_PENALTY: Final = 0.1
_STEPS: Final = 50
_CLASSES: Final = 3  # cloud better, same, local better


def fit_verification(
    logits: Floats,
    evidence: Sequence[Evidence | None],
    out: Outcomes,
    *,
    band: tuple[float, float],
    local_model: str,
    cloud_model: str,
    second: str = "",
    penalty: float = PENALTY,
) -> Verification:
    """Fit the combiner to judged pairs of answers. Deterministic.

    Args:
        logits: [n, 2 or more] of the router; only local and cloud are used.
        evidence: [n]; pairs without a second look (None) count only for the prompt's part.
        out: both answers' scores, and the number of requests that each pair represents.
        band: of `choose_band`.

    Raises:
        ValueError: no pair has evidence; or a logit, score or weight is not usable.
    """
    prompt = np.asarray(logits, dtype=float)[:, :2]
    for name, column in (("logit", prompt), ("score", out.local), ("score", out.cloud)):
        if not is_known(column).all():
            raise ValueError(f"a {name} is not within ±{MAX_VALUE:g}")
    if not (is_known(out.weight) & (out.weight >= 0)).all():
        raise ValueError(f"a weight is not within 0..{MAX_VALUE:g}")
    known = np.array([item is not None for item in evidence], dtype=bool) & (out.weight > 0)
    if not known.any():
        raise ValueError("no pair has evidence")
    outcome = np.where(out.cloud > out.local, 0, np.where(out.cloud == out.local, 1, 2))
    values = evidence_values(evidence)[known]
    used = [k for k in range(len(EVIDENCE)) if is_known(values[:, k]).any()]
    values = values[:, used]

    of_prompt = _standards(prompt, out.weight)
    of_evidence = _standards(values, out.weight[known])
    x = np.column_stack([np.ones(len(prompt)), standardised(prompt, of_prompt)])
    alone = _fit_weights(
        x,
        outcome,
        effective_weights(out.weight),
        centre=np.zeros((x.shape[1], _CLASSES)),
        pull=np.array([_INTERCEPT_PENALTY, penalty, penalty]),
    )
    both = _fit_weights(
        np.column_stack([x[known], standardised(values, of_evidence)]),
        outcome[known],
        effective_weights(out.weight[known]),
        centre=np.vstack([alone, np.zeros((len(used), _CLASSES))]),
        pull=np.full(x.shape[1] + len(used), float(penalty)),
    )

    def prompt_weights(weights: Floats) -> PromptWeights:
        return PromptWeights(_weights(weights[0]), *_inputs(of_prompt, weights[1:3]))

    names = [EVIDENCE[k] for k in used]
    return Verification(
        local_model=local_model,
        cloud_model=cloud_model,
        second=second,
        pairs=int(known.sum()),
        band=band,
        prompt=prompt_weights(alone),
        beside_evidence=prompt_weights(both),
        evidence=dict(zip(names, _inputs(of_evidence, both[3:]), strict=True)),
    )


def choose_band(
    merits: Floats,
    *,
    threshold: float,
    share: float = BAND_SHARE,
    weight: Floats | None = None,
) -> tuple[float, float]:
    """The band [low, high) of merits with at most this share of the requests [n].

    The decision is most uncertain at the threshold, so equal shares of requests are taken below
    and above it. If there are too few on one side, more are taken on the other. Requests of equal
    merit are not split.
    """
    values, place = np.unique(merits, return_inverse=True)
    w = np.ones(len(merits)) if weight is None else weight
    below = np.concatenate([[0.0], np.cumsum(np.bincount(place, w))]) / float(w.sum())
    centre = below[np.searchsorted(values, threshold)]
    start = np.arange(values.size)
    end = np.searchsorted(below, below[:-1] + share + 1e-9, side="right") - 1
    # As near to the centre, and as near to the share, as ties and the ends allow.
    miss = np.abs((below[start] + below[end]) / 2 - centre) + (share - (below[end] - below[start]))
    best = int(np.argmin(miss))
    low = 0.0 if best == 0 else float(values[best])
    high = 1.0 if end[best] == values.size else float(values[end[best]])
    return low, max(low, high)


def _fit_weights(
    x: Floats, outcome: NDArray[np.int64], times: Floats, *, centre: Floats, pull: Floats
) -> Floats:
    """Weights [inputs, classes] of a multinomial logistic regression, by Newton's method.

    The penalty `pull` [inputs] draws the weights of x [n, inputs] towards `centre`. With it the
    loss is strictly convex, so halving a step that does not lower it makes it converge.
    """
    inputs, classes = centre.shape
    pulls = np.repeat(pull, classes)
    hits = np.eye(classes)[outcome]

    def loss(weights: Floats) -> float:
        z = x @ weights
        top = z.max(axis=1)
        log_sum = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        fit = times @ (log_sum - (z * hits).sum(axis=1))
        return float(fit + 0.5 * (pulls * (weights - centre).ravel() ** 2).sum())

    weights, current = centre.copy(), loss(centre)
    for _ in range(_STEPS):
        p = softmax(x @ weights)
        gradient = x.T @ (times[:, None] * (p - hits)) + pull[:, None] * (weights - centre)
        curvature = times[:, None, None] * (np.einsum("nk,kl->nkl", p, np.eye(classes)))
        curvature -= times[:, None, None] * p[:, :, None] * p[:, None, :]
        hessian = np.einsum("ni,nkl,nj->ikjl", x, curvature, x, optimize=True)
        hessian = hessian.reshape(inputs * classes, inputs * classes) + np.diag(pulls)
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(weights.shape)
        size = 1.0
        while (new := loss(weights - size * step)) > current and size > 1e-6:
            size /= 2
        if new > current:
            break
        weights, gained, current = weights - size * step, current - new, new
        if gained < 1e-10 * (1 + abs(current)):
            break
    return weights


def _standards(values: Floats, weight: Floats) -> Floats:
    """Weighted mean and standard deviation [k, 2] of the finite values in each column.

    A constant has the scale 1.
    """
    standards = np.empty((values.shape[1], 2))
    for column, standard in zip(values.T, standards, strict=True):
        known = is_known(column) & (weight > 0)
        mean = np.average(column[known], weights=weight[known])
        spread = np.sqrt(np.average((column[known] - mean) ** 2, weights=weight[known]))
        standard[:] = mean, spread if spread > MIN_SCALE else 1.0
    return standards


def _inputs(standards: Floats, weights: Floats) -> list[Input]:
    pairs = zip(standards.tolist(), weights, strict=True)
    return [Input(mean, scale, _weights(row)) for (mean, scale), row in pairs]


def _weights(row: Floats) -> Weights:
    return float(row[0]), float(row[1]), float(row[2])
