"""Gain per dollar: what a cloud answer is expected to gain for what it is expected to cost.

    objective = GainPerDollar(manifest.gain, prices)
    merit, usd = objective.rate(score, input_tokens=120)  # local if merit >= threshold

1. gain = p_cloud - p_local, the calibrated probabilities of a good answer.
2. r, the relative cost, is the expected cost of the cloud's answer, as a multiple of that of the
   reference request. The length of the answer is predicted.
3. merit = 1 / (1 + scale * max(gain, 0) / max(r, MIN_RELATIVE_COST)). A higher merit is a better
   reason to stay local. A threshold on it buys the most gain for the dollars that it spends.

The functions take arrays [n]. `GainPerDollar` computes the same for one request in plain floats,
which takes a tenth of the time.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_model.features import clip
from router_model.manifest import Gain
from router_model.score import Score

# Estimates the tokens of a text that is not tokenised.
CHARS_PER_TOKEN: Final = 4.0
# The range of predicted answer lengths, in tokens.
MIN_OUTPUT_TOKENS: Final = 4.0
MAX_OUTPUT_TOKENS: Final = 4096.0
# Cheaper requests count as this multiple of the reference request. Otherwise greetings would go to
# the cloud: their gain is about 0, with an error, and would be divided by a cost of nearly 0.
MIN_RELATIVE_COST: Final = 0.75
# Below 1, so that a threshold of 1 sends every request to the cloud. Also below 1 as printed.
MAX_MERIT: Final = 0.9999

Floats = NDArray[np.float64]


class UsdPerToken(NamedTuple):
    """The prices of a cloud model, USD per token. The defaults are those of gpt-4o-mini."""

    input: float = 0.15e-6
    output: float = 0.60e-6


DEFAULT_PRICES: Final = UsdPerToken()


def text_tokens(text: str) -> float:
    """The estimated tokens of a scored text, clipped as the network reads it. At least 1."""
    return max(len(clip(text)) / CHARS_PER_TOKEN, 1.0)


def expected_output_tokens(gain: Gain, logits: ArrayLike, tokens: ArrayLike) -> Floats:
    """The expected length [n] of the cloud's answer, from logits [n, 2 or 3].

    Args:
        tokens: [n], of the scored text (`text_tokens`).

    Raises:
        ValueError: the length needs a third logit.
    """
    z = np.asarray(logits, dtype=np.float64)
    weights = np.asarray(gain.length)
    if z.shape[1] < 3 and weights[4]:
        raise ValueError("gain.length has a weight for a third logit, and the network has two")
    log = weights[0] + weights[1] * np.log(np.maximum(tokens, 1.0))
    log = log + z @ weights[2 : 2 + z.shape[1]]
    bounds = np.log([MIN_OUTPUT_TOKENS, MAX_OUTPUT_TOKENS])
    lengths: Floats = np.exp(np.clip(log, *bounds))
    return lengths


def cost_usd(input_tokens: ArrayLike, output_tokens: ArrayLike, prices: UsdPerToken) -> Floats:
    """The cost [n] of cloud answers in USD. A prompt has at least one token."""
    given = np.maximum(np.asarray(input_tokens, dtype=np.float64), 1.0)
    cost: Floats = given * prices.input + np.asarray(output_tokens) * prices.output
    return cost


def relative_costs(
    gain: Gain, input_tokens: ArrayLike, output_tokens: ArrayLike, prices: UsdPerToken
) -> Floats:
    """The cost [n] of cloud answers, as a multiple of that of the reference request."""
    reference = cost_usd(gain.input_tokens, gain.output_tokens, prices)
    relative: Floats = cost_usd(input_tokens, output_tokens, prices) / reference
    return relative


def merits_of(expected: ArrayLike, relative_cost: ArrayLike, *, scale: float) -> Floats:
    """merit [n] in (0, 1), from the expected gain [n] and the relative cost [n]."""
    cost = np.maximum(relative_cost, MIN_RELATIVE_COST)
    merit = 1.0 / (1.0 + scale * np.maximum(expected, 0.0) / cost)
    bounded: Floats = np.minimum(merit, MAX_MERIT)
    return bounded


def verified_merits(
    probabilities: Floats,
    gain: Gain | None,
    input_tokens: ArrayLike,
    output_tokens: ArrayLike,
    *,
    prices: UsdPerToken = DEFAULT_PRICES,
) -> Floats:
    """The merits [n] of local answers that were verified, for the same threshold.

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


class Rated(NamedTuple):
    """`merit`: the score if the model predicts no answer length; `usd` is then None."""

    merit: float
    usd: float | None


class GainPerDollar(NamedTuple):
    """The objective of one router model and one cloud model's prices, for single requests."""

    gain: Gain
    prices: UsdPerToken = DEFAULT_PRICES

    def rate(
        self, score: Score, *, input_tokens: float | None = None, gain: float | None = None
    ) -> Rated:
        """The merit of a request, and the expected cost of the cloud's answer.

        Args:
            input_tokens: of the request; by default those of the reference request.
            gain: expected of the cloud's answer; by default that of the score.
        """
        reference = self.gain
        expected = score.gain if gain is None else gain
        if score.output_tokens is None:
            return Rated(score.score, None)
        tokens = reference.input_tokens if input_tokens is None else input_tokens
        usd = self._usd(tokens, score.output_tokens)
        usual = self._usd(reference.input_tokens, reference.output_tokens)
        cost = max(usd / usual, MIN_RELATIVE_COST)
        merit = 1.0 / (1.0 + reference.scale * max(expected, 0.0) / cost)
        return Rated(min(merit, MAX_MERIT), usd)

    def _usd(self, input_tokens: float, output_tokens: float) -> float:
        return max(input_tokens, 1.0) * self.prices.input + output_tokens * self.prices.output
