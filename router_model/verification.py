"""A second look at the local answer: keep it, or escalate the request to the cloud.

In a band around the threshold the local model answers first. Evidence about its answer and the
router's two logits then give the probabilities of three outcomes: the cloud's answer is better,
both are equally good, the local answer is better.

    verified = verification.verify(logits, Evidence(agrees=True))
    verified.score   # P(the local answer is at least as good as the cloud's)
    verified.gain    # P(cloud better) - P(local better)

`verified_merits` divides the gain by the relative cost of the cloud's answer, as `value` does for
the prompt alone. It is compared with the same threshold. The local answer is already there and
costs no dollars, so an escalated request costs as much as one that was sent to the cloud at once.

The fit has two steps, each a penalised multinomial logistic regression:

1. The prompt alone: the two logits, on all pairs.
2. With evidence: the penalty pulls the weights of the logits towards those of step 1, and the
   weights of the evidence towards 0. Without a clear effect in the data, evidence changes little.

An input that is missing has its mean, so it moves nothing. Without any evidence the weights of
step 1 apply.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_model.calibrate import Outcomes, effective_weights
from router_model.manifest import Calibration, Gain, HeadCalibration
from router_model.metrics import Floats
from router_model.score import Score
from router_model.value import DEFAULT_PRICES, UsdPerToken, merits_of, relative_costs

# The share of the requests in the band.
BAND_SHARE: Final = 0.4

# The penalty of a standardised input's weight: a Gaussian prior with variance 1 / PENALTY. Chosen
# by cross-validation on draws of 100 pairs (training/LOG.md).
PENALTY: Final = 3.0
# The intercept of the first step is almost free; that of the second is pulled as all weights are.
_INTERCEPT_PENALTY: Final = 0.1

# Standardised inputs are clipped here, so that one odd value cannot decide alone.
_MAX_INPUT: Final = 4.0
_MIN_SCALE: Final = 1e-6
_MAX_VALUE: Final = 1e6  # bound of inputs and fitted values; NaN fails the comparison, too
_CERTAIN: Final = 1e-4  # probabilities are clipped to [_CERTAIN, 1 - _CERTAIN] for their logits
_STEPS: Final = 50
_CLASSES: Final = 3  # cloud better, same, local better

InputName = Literal["broken", "agrees", "mean_logprob", "margin", "log_tokens", "self_check"]
EVIDENCE: Final[tuple[InputName, ...]] = get_args(InputName)

Weights = tuple[float, float, float]


class Evidence(NamedTuple):
    """What is known of a local answer. None: not asked, not available or not comparable.

    Attributes:
        broken: the answer is cut off, or has no final answer.
        agrees: a second local model has the same final answer.
        mean_logprob: mean log-probability of the answer's tokens, in nats.
        margin: at the final answer, the log-probability of the chosen token minus that of the best
            alternative, in nats.
        tokens: length of the answer.
        self_check: P(yes) of the local model, asked whether its answer is right.
    """

    broken: bool = False
    agrees: bool | None = None
    mean_logprob: float | None = None
    margin: float | None = None
    tokens: float | None = None
    self_check: float | None = None


class Verified(NamedTuple):
    """The probabilities of the three outcomes; their sum is 1."""

    cloud_better: float
    same: float
    local_better: float

    @property
    def score(self) -> float:
        """P(the local answer is at least as good as the cloud's)."""
        return 1.0 - self.cloud_better

    @property
    def gain(self) -> float:
        """The expected gain of the cloud's answer, as a difference of probabilities."""
        return self.cloud_better - self.local_better


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One standardised input and its weights in the log-odds of the three outcomes."""

    mean: float
    scale: float
    weights: Weights


class PromptWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The intercept, and the router's two logits as inputs."""

    intercept: Weights
    local: Input
    cloud: Input

    def log_odds(self, logits: Floats) -> Floats:
        """The contributions of logits [n, 2 or more] to the log-odds [n, 3]."""
        return np.array(self.intercept) + _log_odds(logits[:, :2], (self.local, self.cloud))


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fitted combiner of router and evidence, for one pair of models.

    Attributes:
        local_model, cloud_model: the models that answered.
        second: the local model whose final answer was compared; "" for none.
        pairs: the number of pairs with evidence that it was fitted on.
        band: requests with a merit in [low, high) get the second look. Without a `Gain`, the score.
        prompt: for the prompt alone.
        beside_evidence: the prompt's part where there is evidence.
        evidence: the inputs that were known in the fit, by name. Others are ignored.
    """

    local_model: str
    cloud_model: str
    second: str = ""
    pairs: int
    band: tuple[float, float]
    prompt: PromptWeights
    beside_evidence: PromptWeights
    evidence: dict[InputName, Input]

    def is_in_band(self, merit: float) -> bool:
        """Whether a request with this merit gets the second look."""
        return self.band[0] <= merit < self.band[1]

    def verify(self, logits: Sequence[float], evidence: Evidence | None) -> Verified:
        """The outcomes' probabilities of one request, from the router's logits (local, cloud, …).

        Never fails: a value that is NaN, infinite or not within ±1e6 counts as missing.
        """
        [probabilities] = self.probabilities(np.array([logits], dtype=float), [evidence])
        return Verified(*map(float, probabilities))

    def probabilities(self, logits: Floats, evidence: Sequence[Evidence | None]) -> Floats:
        """P(cloud better), P(same), P(local better), [n, 3], from logits [n, 2 or more]."""
        known = np.array([item is not None for item in evidence], dtype=bool)
        names = [EVIDENCE.index(name) for name in self.evidence]
        values = evidence_values(evidence)[:, names]
        both = self.beside_evidence.log_odds(logits) + _log_odds(values, [*self.evidence.values()])
        return _softmax(np.where(known[:, None], both, self.prompt.log_odds(logits)))

    def problem(self) -> str | None:
        """What is invalid; None if nothing is."""
        parts = (self.prompt, self.beside_evidence)
        inputs = [*(item for part in parts for item in (part.local, part.cloud))]
        inputs += self.evidence.values()
        values = [value for item in inputs for value in (item.mean, item.scale, *item.weights)]
        values += [value for part in parts for value in part.intercept]
        if not all(abs(value) < _MAX_VALUE for value in values):
            return f"verification has a value that is not within ±{_MAX_VALUE:g}"
        if min(item.scale for item in inputs) < _MIN_SCALE:
            return "verification has a scale that is not positive"
        if not 0.0 <= self.band[0] <= self.band[1] <= 1.0:
            return f"verification.band {self.band} is not within 0..1, low before high"
        if self.pairs < 1:
            return "verification.pairs must be positive"
        return None


def verified_merits(
    probabilities: Floats,
    gain: Gain | None,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    prices: UsdPerToken = DEFAULT_PRICES,
) -> Floats:
    """The merits [n] of keeping local answers, to compare with the threshold of the router.

    Args:
        probabilities: [n, 3], of `Verification.probabilities`.
        gain: of the router model; without one the merit is the verified score.
        input_tokens: [n], of the requests.
        output_tokens: [n], the expected length of the cloud's answers.
    """
    if gain is None:
        score: Floats = 1.0 - probabilities[:, 0]
        return score
    relative = relative_costs(gain, input_tokens, output_tokens, prices)
    return merits_of(probabilities[:, 0] - probabilities[:, 2], relative, scale=gain.scale)


def logits_of(score: Score, calibration: Calibration) -> tuple[float, float]:
    """The router's logits (local, cloud) behind a served score: the inverse of its calibration."""

    def inverse(probability: float, head: HeadCalibration) -> float:
        p = min(max(probability, 1e-9), 1.0 - 1e-9)
        return (math.log(p / (1.0 - p)) - head.bias) * head.temperature

    return inverse(score.p_local, calibration.local), inverse(score.p_cloud, calibration.cloud)


def evidence_values(evidence: Sequence[Evidence | None]) -> Floats:
    """The inputs of evidence [n, len(EVIDENCE)]; NaN where missing."""
    values = np.full((len(evidence), len(EVIDENCE)), np.nan)
    for row, item in zip(values, evidence, strict=True):
        if item is not None:
            row[:] = (
                float(item.broken),
                np.nan if item.agrees is None else float(item.agrees),
                _number(item.mean_logprob),
                _number(item.margin),
                _logarithm(item.tokens),
                _logit(item.self_check),
            )
    return values


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
        if not _is_known(column).all():
            raise ValueError(f"a {name} is not within ±{_MAX_VALUE:g}")
    if not (_is_known(out.weight) & (out.weight >= 0)).all():
        raise ValueError(f"a weight is not within 0..{_MAX_VALUE:g}")
    known = np.array([item is not None for item in evidence], dtype=bool) & (out.weight > 0)
    if not known.any():
        raise ValueError("no pair has evidence")
    outcome = np.where(out.cloud > out.local, 0, np.where(out.cloud == out.local, 1, 2))
    values = evidence_values(evidence)[known]
    used = [k for k in range(len(EVIDENCE)) if _is_known(values[:, k]).any()]
    values = values[:, used]

    of_prompt = _standards(prompt, out.weight)
    of_evidence = _standards(values, out.weight[known])
    x = np.column_stack([np.ones(len(prompt)), _standardised(prompt, of_prompt)])
    alone = _fit_weights(
        x,
        outcome,
        effective_weights(out.weight),
        centre=np.zeros((x.shape[1], _CLASSES)),
        pull=np.array([_INTERCEPT_PENALTY, penalty, penalty]),
    )
    both = _fit_weights(
        np.column_stack([x[known], _standardised(values, of_evidence)]),
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
        p = _softmax(x @ weights)
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


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p: Floats = e / e.sum(axis=1, keepdims=True)
    return p


def _log_odds(values: Floats, inputs: Sequence[Input]) -> Floats:
    """The contributions of inputs [n, k] to the log-odds [n, 3]."""
    standards = np.array([(item.mean, item.scale) for item in inputs]).reshape(-1, 2)
    weights = np.array([item.weights for item in inputs]).reshape(-1, _CLASSES)
    odds: Floats = _standardised(values, standards) @ weights
    return odds


def _standards(values: Floats, weight: Floats) -> Floats:
    """Weighted mean and standard deviation [k, 2] of the finite values in each column.

    A constant has the scale 1.
    """
    standards = np.empty((values.shape[1], 2))
    for column, standard in zip(values.T, standards, strict=True):
        known = _is_known(column) & (weight > 0)
        mean = np.average(column[known], weights=weight[known])
        spread = np.sqrt(np.average((column[known] - mean) ** 2, weights=weight[known]))
        standard[:] = mean, spread if spread > _MIN_SCALE else 1.0
    return standards


def _standardised(values: Floats, standards: Floats) -> Floats:
    """Values [n, k] minus the mean, divided by the scale. What is not known becomes 0."""
    z = (np.where(_is_known(values), values, standards[:, 0]) - standards[:, 0]) / standards[:, 1]
    clipped: Floats = np.clip(z, -_MAX_INPUT, _MAX_INPUT)
    return clipped


def _is_known(values: Floats) -> NDArray[np.bool_]:
    """Not for NaN, and not for a value that no model produces."""
    known: NDArray[np.bool_] = np.abs(values) < _MAX_VALUE
    return known


def _inputs(standards: Floats, weights: Floats) -> list[Input]:
    pairs = zip(standards.tolist(), weights, strict=True)
    return [Input(mean, scale, _weights(row)) for (mean, scale), row in pairs]


def _weights(row: Floats) -> Weights:
    return float(row[0]), float(row[1]), float(row[2])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _logarithm(tokens: float | None) -> float:
    """log(1 + tokens)."""
    return math.log1p(tokens) if tokens is not None and 0 <= tokens < math.inf else math.nan


def _logit(probability: float | None) -> float:
    if probability is None or not 0.0 <= probability <= 1.0:
        return math.nan
    p = min(max(probability, _CERTAIN), 1 - _CERTAIN)
    return math.log(p / (1 - p))
