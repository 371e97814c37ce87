"""The band and the merit of local answers that get a second look."""

from typing import Literal

import pytest

from looks import verification
from proxy.routing import Verifier
from router_model.evidence import Evidence
from router_model.manifest import Calibration, Gain, HeadCalibration
from router_model.score import Score
from router_model.value import GainPerDollar

CALIBRATION = Calibration(HeadCalibration(), HeadCalibration(), 0.5, 1.0, 0.0)
GAIN = GainPerDollar(
    Gain(length=(4.0, 0, 0, 0, 0), input_tokens=100.0, output_tokens=200.0, scale=10.0)
)
UNSURE = Score(0.5, 0.5, 0.6, output_tokens=200.0)


def verifier(
    *,
    band: Literal["auto"] | tuple[float, float] = "auto",
    objective: GainPerDollar | None = None,
) -> Verifier:
    return Verifier(
        verification(), calibration=CALIBRATION, objective=objective, threshold=0.5, band=band
    )


@pytest.mark.parametrize(
    ("merit", "threshold", "expected"),
    [
        (0.3, 0.5, True), (0.69, 0.5, True), (0.29, 0.5, False), (0.7, 0.5, False),
        (0.4, 0.6, True), (0.39, 0.6, False), (0.79, 0.6, True), (0.1, 0.3, True),
    ],
)  # fmt: skip
def test_the_fitted_band_moves_with_the_threshold(
    merit: float, threshold: float, expected: bool
) -> None:
    assert verifier().is_in_band(merit, threshold) == expected


def test_a_configured_band_stays() -> None:
    own = verifier(band=(0.6, 0.8))
    for threshold in (0.2, 0.5, 0.9):
        assert [own.is_in_band(merit, threshold) for merit in (0.59, 0.6, 0.79, 0.8)] == [
            False, True, True, False,
        ]  # fmt: skip


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_who_wants_no_cloud_or_no_local_answer_gets_no_second_look(threshold: float) -> None:
    assert not verifier(band=(0.0, 1.0)).is_in_band(0.5, threshold)


def test_the_verified_score_is_compared_without_a_gain() -> None:
    agrees, differs = (verifier().verify(UNSURE, Evidence(agrees=known)) for known in (True, False))
    assert agrees.score == agrees.merit > 0.9
    assert differs.score == differs.merit < 0.2


def test_the_verified_gain_is_divided_by_the_cost() -> None:
    own = verifier(objective=GAIN)
    differs = Evidence(agrees=False)
    cheap, dear = (own.verify(UNSURE, differs, input_tokens=tokens) for tokens in (100, 100_000))
    assert cheap.score == dear.score
    assert cheap.merit < dear.merit
    assert own.verify(UNSURE, Evidence(agrees=True)).merit > 0.99


def test_without_evidence_the_prompt_alone_counts() -> None:
    assert verifier().verify(UNSURE, None).score == pytest.approx(2 / 3)
