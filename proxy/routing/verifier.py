"""Decides about local answers in the uncertain band, from the evidence of a second look."""

from typing import Literal, NamedTuple

from router_model.evidence import Evidence
from router_model.manifest import Calibration
from router_model.score import Score
from router_model.value import GainPerDollar
from router_model.verification import Verification


class VerifiedMerit(NamedTuple):
    """`score`: P(the local answer is at least as good), given the evidence. `merit`: of keeping."""

    score: float
    merit: float


class Verifier:
    """The fitted combiner of one router model, for the configured band.

    Args:
        calibration: of the router model, which the combiner was fitted to.
        objective: of the router.
        threshold: that the fitted band lies around.
        band: of the configuration.
    """

    def __init__(
        self,
        verification: Verification,
        *,
        calibration: Calibration,
        objective: GainPerDollar | None,
        threshold: float,
        band: Literal["auto"] | tuple[float, float],
    ) -> None:
        self._verification = verification
        self._calibration = calibration
        self._objective = objective
        self._threshold = threshold
        self._band = band

    def is_in_band(self, merit: float, threshold: float) -> bool:
        """Whether a request is uncertain."""
        low, high = self._verification.band_at(
            threshold, fitted_threshold=self._threshold, configured=self._band
        )
        return low <= merit < high

    def verify(
        self, score: Score, evidence: Evidence | None, *, input_tokens: float | None = None
    ) -> VerifiedMerit:
        """The score and the merit of a local answer.

        Args:
            score: of the prompt alone.
            evidence: None for an answer that could not be looked at.
            input_tokens: of the request.
        """
        logits = self._calibration.logits(score.p_local, score.p_cloud)
        verified = self._verification.verify(logits, evidence)
        if self._objective is None or score.output_tokens is None:
            return VerifiedMerit(verified.score, verified.score)
        rated = self._objective.rate(score, input_tokens=input_tokens, gain=verified.gain)
        return VerifiedMerit(verified.score, rated.merit)
