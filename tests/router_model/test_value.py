"""Gain per dollar: merits in serving, their fit, and models with and without it."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from router_model import calibrate
from router_model.calibrate import Outcomes
from router_model.manifest import (
    Calibration,
    Gain,
    HeadCalibration,
    Manifest,
    RouterModelError,
    ThresholdTable,
)
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.score import Score
from router_model.value import (
    DEFAULT_PRICES,
    MIN_RELATIVE_COST,
    GainPerDollar,
    UsdPerToken,
    expected_output_tokens,
    relative_costs,
    text_tokens,
)

FOLDER = Path(__file__).parents[2] / "data/models/router"
GAIN = Gain(
    length=(3.0, 0.3, -0.1, 0.2, 0.5),
    input_tokens=100.0,
    output_tokens=200.0,
    scale=2.0,
)
CALIBRATION = Calibration(
    local=HeadCalibration(1.8, 0.15),
    cloud=HeadCalibration(1.8, 1.0),
    cloud_weight=0.6,
    slope=4.0,
    intercept=0.9,
)
OF_TWO = msgspec.structs.replace(GAIN, length=(3.0, 0.3, -0.1, 0.2, 0.0))


def scored(gain: float, output_tokens: float | None, score: float = 0.6) -> Score:
    return Score(score, 0.5 - gain / 2, 0.5 + gain / 2, None, output_tokens)


# Serving.


def test_answer_length_is_predicted_within_bounds() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [0.0, 0.0, 99.0], [0.0, 0.0, -99.0]])
    lengths = expected_output_tokens(GAIN, logits, [50.0, 50.0, 50.0])
    assert lengths[0] == pytest.approx(np.exp(3.0 + 0.3 * np.log(50) - 0.1 + 0.4 + 0.25))
    assert lengths[1:].tolist() == pytest.approx([4096.0, 4.0])
    with pytest.raises(ValueError, match="third logit"):
        expected_output_tokens(GAIN, logits[:, :2], 50.0)


def test_reference_request_has_a_relative_cost_of_one() -> None:
    assert relative_costs(GAIN, 100.0, 200.0, DEFAULT_PRICES) == 1.0
    assert relative_costs(GAIN, 1000.0, 2000.0, DEFAULT_PRICES) == pytest.approx(10.0)
    # With free output only the prompt counts, and it has at least one token.
    assert relative_costs(GAIN, 0.0, 2000.0, UsdPerToken(1e-6, 0.0)) == pytest.approx(0.01)


def test_at_equal_gain_the_dear_request_stays_local() -> None:
    objective = GainPerDollar(GAIN)
    cheap = objective.rate(scored(0.3, 160.0), input_tokens=80.0).merit
    usual = objective.rate(scored(0.3, 200.0)).merit
    dear = objective.rate(scored(0.3, 200.0), input_tokens=20_000.0).merit
    assert cheap < usual < dear
    assert usual == pytest.approx(1 / (1 + 2.0 * 0.3))
    assert objective.rate(scored(0.5, 200.0)).merit < usual  # more gain: rather the cloud


def test_a_tiny_cost_does_not_make_a_small_gain_the_best_buy() -> None:
    objective = GainPerDollar(GAIN)
    tiny = [objective.rate(scored(0.05, length), input_tokens=3.0).merit for length in (4.0, 40.0)]
    assert tiny == pytest.approx([1 / (1 + 2.0 * 0.05 / MIN_RELATIVE_COST)] * 2)
    assert tiny[0] > objective.rate(scored(0.3, 400.0)).merit


@pytest.mark.parametrize("gain", [-0.8, 0.0, 1e-9, 1.0])
def test_thresholds_0_and_1_decide_for_every_request(gain: float) -> None:
    merit = GainPerDollar(GAIN).rate(scored(gain, 4096.0), input_tokens=10**9).merit
    assert 0.0 < merit < 1.0
    assert float(f"{merit:.4f}") < 1.0


def test_scores_without_a_length_are_their_own_merit() -> None:
    objective = GainPerDollar(GAIN)
    assert objective.rate(scored(0.3, None)) == (0.6, None)


def test_expected_cost_has_the_prices_of_the_cloud_model() -> None:
    objective = GainPerDollar(GAIN, UsdPerToken(1e-6, 2e-6))
    assert objective.rate(scored(0.3, 50.0), input_tokens=10.0).usd == pytest.approx(110e-6)
    assert objective.rate(scored(0.3, 50.0)).usd == pytest.approx(200e-6)


# Models.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "router"))


def change(folder: Path, **values: object) -> None:
    msgspec.structs.replace(Manifest.load(folder), **values).save(folder)


def test_model_without_gain_scores_as_before(folder: Path) -> None:
    change(folder, gain=None, by_score=None)
    model = RouterModel.load(folder)
    score = model.score("What is the capital of Portugal?")
    assert score.output_tokens is None
    assert b"gain" not in (folder / "manifest.json").read_bytes()
    assert model.manifest.for_objective("score") is model.manifest


def test_model_with_gain_scores_as_its_manifest_says(folder: Path) -> None:
    change(folder, gain=OF_TWO)
    model = RouterModel.load(folder)
    text = "What is the capital of Portugal?"
    logits = model.logits(text)
    score = model.score(text)
    assert score.gain == score.p_cloud - score.p_local
    assert [score.output_tokens] == pytest.approx(
        expected_output_tokens(OF_TWO, [logits], text_tokens(text)).tolist()
    )


def test_length_of_a_third_logit_needs_a_network_that_has_it(folder: Path) -> None:
    change(folder, gain=GAIN)
    if len(RouterModel.load(FOLDER).logits("Hello!")) == 3:
        assert RouterModel.load(folder).score("Hello!").output_tokens
    else:
        with pytest.raises(RouterModelError, match="third logit"):
            RouterModel.load(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scale", 0.0),
        ("scale", float("inf")),
        ("input_tokens", -1.0),
        ("output_tokens", 0.0),
        ("length", (float("nan"), 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_invalid_gain_is_refused(field: str, value: object) -> None:
    manifest = Manifest.load(FOLDER)
    gain = msgspec.structs.replace(GAIN, **{field: value})
    with pytest.raises(RouterModelError, match="gain"):
        msgspec.structs.replace(manifest, gain=gain).check(FOLDER)


def test_objective_score_has_its_own_thresholds() -> None:
    manifest = Manifest.load(FOLDER)
    table = manifest.thresholds[:3]
    by_score = ThresholdTable(threshold=0.25, threshold_why="why", thresholds=table)
    both = msgspec.structs.replace(manifest, gain=GAIN, by_score=by_score)
    assert both.for_objective("gain_per_usd") is both
    by_score_only = both.for_objective("score")
    assert (by_score_only.gain, by_score_only.threshold) == (None, 0.25)
    assert by_score_only.thresholds == table
    invalid = msgspec.structs.replace(by_score, threshold=1.5)
    with pytest.raises(RouterModelError, match="threshold"):
        msgspec.structs.replace(both, by_score=invalid).check(FOLDER)


# Calibration.


def drawn(n: int, true: Gain = GAIN) -> tuple[Floats, Outcomes, Floats, Floats]:
    """Logits, outcomes, prompt tokens and answer tokens that follow a `Gain`."""
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(0, 1.5, (n, 3)), np.exp(rng.normal(4, 1, n))
    is_good = rng.random((n, 2)) < 1 / (1 + np.exp(-logits[:, :2]))
    outcomes = Outcomes(
        local=np.where(is_good[:, 0], 8.0, 5.0),
        cloud=np.where(is_good[:, 1], 8.0, 5.0),
        local_ok=is_good[:, 0],
        cloud_ok=is_good[:, 1],
        cost=np.ones(n),
        source=np.full(n, "synthetic"),
        group=np.arange(n).astype(str),
        weight=np.ones(n),
    )
    noise = np.exp(rng.normal(0, 0.3, n))
    return logits, outcomes, tokens, expected_output_tokens(true, logits, tokens) * noise


def fit_gain(
    logits: Floats, outcomes: Outcomes, tokens: Floats, written: Floats, prior: Gain | None = None
) -> Gain:
    calibration = CALIBRATION
    return calibrate.fit_gain(logits, outcomes, calibration, tokens, written, prior=prior)


def test_fit_recovers_the_true_coefficients() -> None:
    logits, outcomes, tokens, written = drawn(8000)
    written[::3] = np.nan
    fitted = fit_gain(logits, outcomes, tokens, written)
    assert fitted.length == pytest.approx(GAIN.length, abs=0.1)
    assert fitted.input_tokens == pytest.approx(tokens.mean())
    assert fitted.output_tokens == pytest.approx(np.nanmean(written))
    merits = calibrate.merits(logits, CALIBRATION, fitted, tokens)
    assert np.median(merits) == pytest.approx(0.5)
    assert fitted.problem() is None


def test_fit_of_a_network_with_two_outputs_has_no_length_logit() -> None:
    logits, outcomes, tokens, written = drawn(3000, OF_TWO)
    fitted = fit_gain(logits[:, :2], outcomes, tokens, written)
    assert fitted.length[4] == 0.0
    assert fitted.length == pytest.approx(OF_TWO.length, abs=0.15)


def test_few_rows_stay_near_the_prior_and_many_leave_it() -> None:
    logits, outcomes, tokens, written = drawn(4000)
    other = msgspec.structs.replace(GAIN, length=(4.0, 0.3, -0.1, 0.2, 0.5))
    few = np.arange(4000) < 10
    unknown = np.full(10, np.nan)
    near = fit_gain(logits[few], outcomes.take(few), tokens[few], unknown, prior=other)
    assert near.length == pytest.approx(other.length)
    assert near.output_tokens == other.output_tokens
    assert near.scale == other.scale
    far = fit_gain(logits, outcomes, tokens, written, prior=other)
    assert far.length == pytest.approx(GAIN.length, abs=0.1)
    assert far.scale == other.scale


def test_fit_without_any_gain_or_length_is_valid() -> None:
    logits, outcomes, tokens, written = drawn(200)
    logits[:, 0] = 50.0  # the local answer is always good
    fitted = fit_gain(logits, outcomes, tokens, np.full_like(written, np.nan))
    assert fitted.problem() is None
    assert np.isfinite(calibrate.merits(logits, CALIBRATION, fitted, tokens)).all()


def test_merits_are_those_of_serving() -> None:
    model = RouterModel.load(FOLDER)
    model.manifest = msgspec.structs.replace(model.manifest, gain=OF_TWO)
    texts = ["What is 2+2?", "Prove that every finite integral domain is a field.", "Hi " * 900]
    logits = np.array([model.logits(text) for text in texts])
    given, prices = np.array([10.0, 500.0, 3000.0]), UsdPerToken(1e-6, 3e-6)
    merits = calibrate.merits(
        logits,
        model.manifest.calibration,
        OF_TWO,
        given,
        text_tokens=[text_tokens(text) for text in texts],
        prices=prices,
    )
    objective = GainPerDollar(OF_TWO, prices)
    assert merits.tolist() == pytest.approx(
        [
            objective.rate(model.score(text), input_tokens=tokens).merit
            for text, tokens in zip(texts, given, strict=True)
        ]
    )


def test_without_gain_the_scores_rank() -> None:
    logits, _, tokens, _ = drawn(50)
    calibration = CALIBRATION
    ranked = calibrate.merits(logits, calibration, None, tokens)
    assert ranked.tolist() == calibrate.scores(logits, calibration)[0].tolist()
