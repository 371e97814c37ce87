"""A second look at the local answer: keep it, or escalate the request to the cloud.

In a band around the threshold the local model answers first. Evidence about its answer and the
router's two logits then give the probabilities of three outcomes: the cloud's answer is better,
both are equally good, the local answer is better.

    verified = verification.verify(logits, Evidence(agrees=True))
    verified.score   # P(the local answer is at least as good as the cloud's)
    verified.gain    # P(cloud better) - P(local better)

`value.verified_merits` divides the gain by the relative cost of the cloud's answer, as for
the prompt alone. It is compared with the same threshold. The local answer is already there and
costs no dollars, so an escalated request costs as much as one that was sent to the cloud at once.

An input that is missing has its mean, so it moves nothing. Without any evidence the weights
of the prompt alone apply. `verification_fit` fits them.
"""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from router_model.evidence import EVIDENCE, Evidence, InputName, evidence_values

# Standardised inputs are clipped here, so that one odd value cannot decide alone.
_MAX_INPUT: Final = 4.0
MIN_SCALE: Final = 1e-6
MAX_VALUE: Final = 1e6  # bound of inputs and fitted values; NaN fails the comparison, too

Floats = NDArray[np.float64]
Weights = tuple[float, float, float]


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

    def band_at(
        self,
        threshold: float,
        *,
        fitted_threshold: float,
        configured: Literal["auto"] | tuple[float, float] = "auto",
    ) -> tuple[float, float]:
        """The merits [low, high) that are uncertain at a threshold.

        Empty for a threshold of 0 or 1, which asks for no cloud call or no local answer.

        Args:
            threshold: that of the request. The fitted band moves with it.
            fitted_threshold: that the band was chosen around.
            configured: `verify.band`; a pair stays where it is.
        """
        if not 0.0 < threshold < 1.0:
            return 0.0, 0.0
        if configured != "auto":
            return configured
        shift = threshold - fitted_threshold
        return self.band[0] + shift, self.band[1] + shift

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
        return softmax(np.where(known[:, None], both, self.prompt.log_odds(logits)))

    def problem(self) -> str | None:
        """What is invalid; None if nothing is."""
        parts = (self.prompt, self.beside_evidence)
        inputs = [*(item for part in parts for item in (part.local, part.cloud))]
        inputs += self.evidence.values()
        values = [value for item in inputs for value in (item.mean, item.scale, *item.weights)]
        values += [value for part in parts for value in part.intercept]
        if not all(abs(value) < MAX_VALUE for value in values):
            return f"verification has a value that is not within ±{MAX_VALUE:g}"
        if min(item.scale for item in inputs) < MIN_SCALE:
            return "verification has a scale that is not positive"
        if not 0.0 <= self.band[0] <= self.band[1] <= 1.0:
            return f"verification.band {self.band} is not within 0..1, low before high"
        if self.pairs < 1:
            return "verification.pairs must be positive"
        return None


def softmax(z: Floats) -> Floats:
    """Probabilities [n, k] from log-odds [n, k]."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p: Floats = e / e.sum(axis=1, keepdims=True)
    return p


def _log_odds(values: Floats, inputs: Sequence[Input]) -> Floats:
    """The contributions of inputs [n, k] to the log-odds [n, 3]."""
    standards = np.array([(item.mean, item.scale) for item in inputs]).reshape(-1, 2)
    weights = np.array([item.weights for item in inputs]).reshape(-1, 3)
    odds: Floats = standardised(values, standards) @ weights
    return odds


def standardised(values: Floats, standards: Floats) -> Floats:
    """Values [n, k] minus the mean, divided by the scale. What is not known becomes 0."""
    z = (np.where(is_known(values), values, standards[:, 0]) - standards[:, 0]) / standards[:, 1]
    clipped: Floats = np.clip(z, -_MAX_INPUT, _MAX_INPUT)
    return clipped


def is_known(values: Floats) -> NDArray[np.bool_]:
    """Not for NaN, and not for a value that no model produces."""
    known: NDArray[np.bool_] = np.abs(values) < MAX_VALUE
    return known
