"""The combiner of router and evidence, on simulated pairs whose truth is known."""

import math

import msgspec
import numpy as np
import pytest

from router_model.calibrate import Outcomes
from router_model.evidence import EVIDENCE, Evidence, evidence_values
from router_model.manifest import Calibration, Gain, HeadCalibration
from router_model.metrics import Floats, auroc
from router_model.value import MIN_RELATIVE_COST, verified_merits
from router_model.verification import Verification
from router_model.verification_fit import choose_band, fit_verification

NAN, INF = math.nan, math.inf
ODD = (NAN, INF, -INF, 1e300, -1e300)


def outcomes(local: Floats, cloud: Floats, weight: Floats | None = None) -> Outcomes:
    n = local.size
    return Outcomes(
        local=local,
        cloud=cloud,
        local_ok=local >= 7,
        cloud_ok=cloud >= 7,
        cost=np.ones(n),
        source=np.full(n, "simulated"),
        group=np.arange(n).astype(str),
        weight=np.ones(n) if weight is None else weight,
    )


class Simulated:
    """Pairs: the logits know a part of both models' chances, the evidence only of the local's.

    A second model agrees with 85 % of the good local answers and with 25 % of the bad ones.
    """

    def __init__(self, n: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        easy, alike = rng.normal(size=n), rng.normal(size=n)
        self.p_local = 1 / (1 + np.exp(-(easy + alike)))
        local, cloud = rng.random(n) < self.p_local, rng.random(n) < 1 / (1 + np.exp(-1 - easy))
        self.logits = np.column_stack([easy, 1 + easy]) + rng.normal(size=(n, 2)) / 2
        self.out = outcomes(10.0 * local, 10.0 * cloud)
        self.outcome = np.select([cloud > local, cloud == local], [0, 1], 2)
        self.agrees = rng.random(n) < np.where(local, 0.85, 0.25)
        self.broken = ~local & (rng.random(n) < 0.2)
        self.logprob = np.where(local, -0.3, -0.6) + rng.normal(size=n) / 5
        self.noise = rng.normal(size=n)

    def evidence(self, *, logprob: bool = False) -> list[Evidence]:
        return [
            Evidence(bool(b), bool(a), mean_logprob=float(p) if logprob else None)
            for b, a, p in zip(self.broken, self.agrees, self.logprob, strict=True)
        ]


def fit(
    pairs: Simulated, evidence: list[Evidence] | list[Evidence | None] | None = None
) -> Verification:
    return fit_verification(
        pairs.logits,
        pairs.evidence() if evidence is None else evidence,
        pairs.out,
        band=(0.2, 0.6),
        local_model="small",
        cloud_model="large",
        second="other",
    )


def area(verification: Verification, pairs: Simulated, evidence: list[Evidence]) -> float:
    p = verification.probabilities(pairs.logits, evidence)
    return auroc(pairs.out.local_suffices, 1 - p[:, 0])


@pytest.fixture(scope="module")
def known() -> Simulated:
    return Simulated(2000)


@pytest.fixture(scope="module")
def other() -> Simulated:
    return Simulated(4000, seed=1)


@pytest.fixture(scope="module")
def fitted(known: Simulated) -> Verification:
    return fit(known)


def test_evidence_recovers_the_order_and_the_probabilities(
    fitted: Verification, other: Simulated
) -> None:
    p = fitted.probabilities(other.logits, other.evidence())
    prompt = fitted.probabilities(other.logits, [None] * 4000)
    cloud_better = other.out.cloud > other.out.local
    assert auroc(~cloud_better, -p[:, 0]) > auroc(~cloud_better, -prompt[:, 0]) + 0.08
    assert np.allclose(p.sum(axis=1), 1)
    for inside in np.array_split(np.argsort(p[:, 0]), 4):
        assert p[inside, 0].mean() == pytest.approx(cloud_better[inside].mean(), abs=0.065)


def test_each_kind_of_evidence_moves_the_score_in_its_direction(fitted: Verification) -> None:
    agrees, unknown, disagrees, broken = (
        fitted.verify((0.0, 1.0), evidence)
        for evidence in (
            Evidence(agrees=True),
            Evidence(),
            Evidence(agrees=False),
            Evidence(broken=True),
        )
    )
    assert agrees.score > unknown.score > disagrees.score
    assert unknown.score > broken.score
    assert agrees.gain < unknown.gain < disagrees.gain
    assert disagrees.gain == disagrees.cloud_better - disagrees.local_better


def test_without_evidence_it_is_the_fit_of_the_prompt_alone(
    known: Simulated, other: Simulated, fitted: Verification
) -> None:
    plain = fit(known, [Evidence()] * 2000)
    assert plain.prompt == fitted.prompt
    prompt = plain.probabilities(other.logits, [None] * 4000)
    assert (fitted.probabilities(other.logits, [None] * 4000) == prompt).all()
    # What was constant or missing in the fit says nothing later.
    for evidence in (Evidence(), Evidence(agrees=True, margin=9.0, tokens=5.0, self_check=0.1)):
        assert plain.probabilities(other.logits, [evidence] * 4000) == pytest.approx(
            prompt, abs=0.005
        )


def test_missing_agreement_is_no_worse_than_the_prompt_alone(
    fitted: Verification, other: Simulated
) -> None:
    """As where the second model is too late."""
    rules = fitted.probabilities(other.logits, [Evidence(broken=bool(b)) for b in other.broken])
    prompt = fitted.probabilities(other.logits, [None] * 4000)
    both = fitted.probabilities(other.logits, other.evidence())
    losses = [-np.log(p[np.arange(4000), other.outcome]).mean() for p in (both, rules, prompt)]
    assert losses == sorted(losses)
    assert (
        abs((rules - prompt).mean(axis=0)).max() < 0.06
    )  # the mean of log-odds is not that of probabilities


@pytest.mark.parametrize("second", ["constant", "random"])
def test_a_useless_second_model_does_not_hurt(
    known: Simulated, other: Simulated, second: str
) -> None:
    def changed(pairs: Simulated) -> list[Evidence]:
        agrees = pairs.noise > (-INF if second == "constant" else 0)
        return [
            Evidence(bool(b), agrees=bool(a)) for b, a in zip(pairs.broken, agrees, strict=True)
        ]

    rules = fit(known, [e._replace(agrees=None) for e in known.evidence()])
    alone = area(rules, other, [e._replace(agrees=None) for e in other.evidence()])
    assert area(fit(known, changed(known)), other, changed(other)) > alone - 0.01


def test_100_pairs_are_enough_to_gain(other: Simulated) -> None:
    better, errors = 0, []
    for seed in range(20):
        few = Simulated(100, seed=100 + seed)
        verification = fit(few, few.evidence(logprob=True))
        prompt = verification.probabilities(other.logits, [None] * 4000)
        p = verification.probabilities(other.logits, other.evidence(logprob=True))
        better += area(verification, other, other.evidence(logprob=True)) > auroc(
            other.out.local_suffices, 1 - prompt[:, 0]
        )
        errors.append(abs(p[:, 0].mean() - (~other.out.local_suffices).mean()))
    assert better == 20
    assert max(errors) < 0.12


@pytest.mark.parametrize("pairs", [1, 5, 30])
def test_very_few_pairs_stay_finite_and_moderate(pairs: int) -> None:
    few = Simulated(pairs, seed=7)
    verification = fit(few)
    assert verification.problem() is None
    p = verification.probabilities(few.logits, few.evidence())
    assert (p > 0.001).all()


def test_a_class_without_pairs_and_separable_data_stay_finite() -> None:
    pairs = Simulated(200)
    pairs.out = outcomes(np.zeros(200), np.where(pairs.agrees, 0.0, 10.0))  # never local better
    verification = fit(pairs)
    p = verification.probabilities(pairs.logits, pairs.evidence())
    assert verification.problem() is None
    assert np.isfinite(p).all()
    assert p[:, 2].max() < 0.02


def test_the_fit_is_deterministic_and_is_stored_as_it_is(
    known: Simulated, fitted: Verification
) -> None:
    assert fit(known) == fitted
    assert msgspec.json.decode(msgspec.json.encode(fitted), type=Verification) == fitted
    assert (fitted.local_model, fitted.cloud_model, fitted.second) == ("small", "large", "other")
    assert fitted.pairs == 2000
    assert set(fitted.evidence) == {"broken", "agrees"}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(fitted) | {"more": 1}, Verification)


def test_the_fit_is_the_minimum_of_its_loss(known: Simulated) -> None:
    """The gradient of the likelihood equals the pull of the penalty: almost 0 for many pairs."""
    verification = fit(known)
    p = verification.probabilities(known.logits, known.evidence())
    for k in range(3):
        residual = (known.outcome == k) - p[:, k]
        assert abs(residual.mean()) < 0.001
        assert abs((residual * known.agrees).mean()) < 0.005


@pytest.mark.parametrize("evidence", [None, Evidence(agrees=True), Evidence(agrees=False)])
def test_weights_count_as_repeated_pairs_do(evidence: Evidence | None) -> None:
    pairs, again = Simulated(300), Simulated(300)
    rare = pairs.outcome == 0
    unweighted = fit(pairs)
    pairs.out = pairs.out._replace(weight=np.where(rare, 3.0, 1.0))
    chosen = np.concatenate([np.arange(300), *[np.flatnonzero(rare)] * 2])
    again.logits, again.out = again.logits[chosen], again.out.take(chosen)
    repeated = fit(again, [pairs.evidence()[i] for i in chosen])

    def share(v: Verification) -> float:
        return v.verify((0.0, 1.0), evidence).cloud_better

    assert share(fit(pairs)) == pytest.approx(share(repeated), abs=0.02)
    assert abs(share(unweighted) - share(repeated)) > 0.1


def test_the_weights_are_relative() -> None:
    """A pair that represents a thousand requests is still one pair."""
    pairs = Simulated(60)
    plain = fit(pairs)
    pairs.out = pairs.out._replace(weight=np.full(60, 1000.0))
    for evidence in (None, Evidence(agrees=True)):
        few = fit(pairs).verify((0.0, 1.0), evidence)
        assert tuple(few) == pytest.approx(tuple(plain.verify((0.0, 1.0), evidence)))


def test_few_second_looks_keep_to_the_fit_of_the_prompt(known: Simulated) -> None:
    verification = fit(known, [e if i < 5 else None for i, e in enumerate(known.evidence())])
    looked = verification.probabilities(known.logits, [Evidence()] * 2000)
    assert np.abs(looked - verification.probabilities(known.logits, [None] * 2000)).mean() < 0.14


def test_pairs_without_a_second_look_only_count_for_the_prompt(known: Simulated) -> None:
    looked = [e if i < 500 else None for i, e in enumerate(known.evidence())]
    verification = fit(known, looked)
    assert verification.pairs == 500
    first = Simulated(500)
    first.logits, first.out = known.logits[:500], known.out.take(np.arange(500))
    alone = fit(first, known.evidence()[:500])
    assert verification.prompt == fit(known).prompt != alone.prompt


@pytest.mark.parametrize("odd", ODD)
def test_odd_values_count_as_missing(odd: float) -> None:
    pairs = Simulated(400)
    clean = [e._replace(tokens=50.0 + i) for i, e in enumerate(pairs.evidence(logprob=True))]
    verification = fit(pairs, clean)
    missing = Evidence(agrees=True)
    with_odd = Evidence(False, True, mean_logprob=odd, margin=odd, tokens=odd, self_check=odd)
    if odd != 1e300:  # the logarithm of so many tokens is a number
        assert verification.verify((0.3, 0.1), with_odd) == verification.verify((0.3, 0.1), missing)
    else:
        assert math.isfinite(verification.verify((0.3, 0.1), with_odd).score)
    assert verification.verify((odd, odd), missing) == verification.verify((NAN, NAN), missing)
    some = [e._replace(mean_logprob=odd) if i % 7 == 0 else e for i, e in enumerate(clean)]
    assert fit(pairs, some).problem() is None
    assert "margin" not in fit(pairs, [e._replace(margin=odd) for e in clean]).evidence


def test_one_extreme_value_does_not_decide_alone(known: Simulated) -> None:
    verification = fit(known, known.evidence(logprob=True))
    logits = (0.0, 1.0)
    lowest = verification.verify(logits, Evidence(agrees=True, mean_logprob=-900.0))
    low = verification.verify(logits, Evidence(agrees=True, mean_logprob=-5.0))
    assert lowest == low


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", ["logits", "local", "cloud", "weight"])
def test_unusable_pairs_are_refused(place: str, odd: float) -> None:
    pairs = Simulated(50)
    if place == "logits":
        pairs.logits[3, 1] = odd
    else:
        column = getattr(pairs.out, place).copy()
        column[3] = odd
        pairs.out = pairs.out._replace(**{place: column})
    with pytest.raises(ValueError, match="weight" if place == "weight" else "logit|score"):
        fit(pairs)


def test_a_fit_needs_evidence() -> None:
    pairs = Simulated(50)
    with pytest.raises(ValueError, match="no pair has evidence"):
        fit(pairs, [None] * 50)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"band": (0.6, 0.2)}, "band"),
        ({"band": (NAN, 0.2)}, "band"),
        ({"pairs": 0}, "pairs"),
    ],
)
def test_invalid_values_are_named(
    fitted: Verification, change: dict[str, object], problem: str
) -> None:
    assert problem in str(msgspec.structs.replace(fitted, **change).problem())


def test_invalid_weights_are_named(fitted: Verification) -> None:
    for part in ("prompt", "beside_evidence"):
        weights = getattr(fitted, part)
        for change in (
            {"intercept": (0.0, NAN, 0.0)},
            {"local": msgspec.structs.replace(weights.local, weights=(0.0, INF, 0.0))},
            {"cloud": msgspec.structs.replace(weights.cloud, scale=0.0)},
        ):
            broken = msgspec.structs.replace(weights, **change)
            assert msgspec.structs.replace(fitted, **{part: broken}).problem() is not None
    broken = msgspec.structs.replace(fitted.evidence["broken"], mean=NAN)
    invalid = msgspec.structs.replace(fitted, evidence={"broken": broken})
    assert invalid.problem() is not None
    assert fitted.problem() is None


def test_the_gain_is_divided_by_the_relative_cost() -> None:
    gain = Gain(length=(4.0, 0, 0, 0, 0), input_tokens=100, output_tokens=200, scale=2.0)
    p = np.array([[0.5, 0.4, 0.1]] * 3 + [[0.1, 0.4, 0.5]])
    merit = verified_merits(p, gain, [100, 200, 0, 100], [200, 400, 10, 200])
    assert merit[0] == pytest.approx(1 / (1 + 2 * 0.4))
    assert merit[1] == pytest.approx(1 / (1 + 2 * 0.4 / 2))
    assert merit[2] == pytest.approx(1 / (1 + 2 * 0.4 / MIN_RELATIVE_COST))
    assert merit[3] == 0.9999  # the local answer is better: keep it, unless the threshold is 1
    assert verified_merits(p, None, [1] * 4, [1] * 4) == pytest.approx([0.5, 0.5, 0.5, 0.9])


def test_the_logits_behind_calibrated_probabilities() -> None:
    calibration = Calibration(HeadCalibration(1.7, 0.2), HeadCalibration(0.8, -0.4), 0.5, 4.0, 0.1)
    p_local = calibration.local.probability(0.6)
    p_cloud = calibration.cloud.probability(-1.2)
    assert calibration.logits(p_local, p_cloud) == pytest.approx((0.6, -1.2))
    assert all(map(math.isfinite, calibration.logits(0.0, 1.0)))


def test_the_band_is_centred_on_the_threshold() -> None:
    merits = np.random.default_rng(0).permutation(np.linspace(0.01, 0.99, 1000))
    low, high = choose_band(merits, threshold=0.5, share=0.4)
    assert ((merits >= low) & (merits < high)).mean() == pytest.approx(0.4, abs=0.002)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.005)
    # By requests, not by merit: few have a low merit here.
    low, high = choose_band(np.sqrt(merits), threshold=0.5, share=0.4)
    assert (np.sqrt(merits) < low).mean() == pytest.approx(0.25 - 0.2, abs=0.01)


@pytest.mark.parametrize(("threshold", "edge"), [(0.0, 0), (0.1, 0), (0.95, 1), (1.0, 1)])
def test_the_band_at_the_end_has_its_share(threshold: float, edge: int) -> None:
    merits = np.linspace(0.01, 0.99, 1000)
    band = choose_band(merits, threshold=threshold)
    assert band[edge] == edge
    assert ((merits >= band[0]) & (merits < band[1])).mean() == pytest.approx(0.4, abs=0.002)


def test_the_band_does_not_split_ties_and_never_exceeds_the_share() -> None:
    merits = np.concatenate([np.linspace(0.1, 0.5, 400), np.full(600, 0.9999)])
    for threshold in (0.3, 0.5, 0.9999, 1.0):
        low, high = choose_band(merits, threshold=threshold, share=0.3)
        assert ((merits >= low) & (merits < high)).mean() <= 0.3 + 1e-9
    assert ((merits >= low) & (merits < high)).mean() > 0.25
    low, high = choose_band(np.full(10, 0.7), threshold=0.5)
    assert not low <= 0.7 < high


def test_the_band_counts_weights() -> None:
    merits = np.linspace(0.0, 0.999, 1000)
    weight = np.where(merits < 0.5, 9.0, 1.0)
    low, high = choose_band(merits, threshold=0.5, share=0.4, weight=weight)
    inside = (merits >= low) & (merits < high)
    assert weight[inside].sum() / weight.sum() == pytest.approx(0.4, abs=0.01)


def test_the_band_includes_its_lower_end(fitted: Verification) -> None:
    assert fitted.band_at(0.5, fitted_threshold=0.5) == fitted.band
    assert fitted.band_at(0.6, fitted_threshold=0.5) == pytest.approx((0.3, 0.7))
    assert fitted.band_at(0.6, fitted_threshold=0.5, configured=(0.1, 0.2)) == (0.1, 0.2)
    for threshold in (0.0, 1.0):  # no cloud call, or no local answer
        low, high = fitted.band_at(threshold, fitted_threshold=0.5)
        assert low >= high


def test_inputs_of_evidence() -> None:
    known = Evidence(True, False, "llama", -0.5, -3.0, 2.0, 99.0, 0.5)
    values = evidence_values([None, known])
    assert np.isnan(values[0]).all()
    names = dict(zip(EVIDENCE, values[1], strict=True))
    expected = [1, 0, -0.5, -3, 2, math.log(100), 0]
    assert [names[name] for name in EVIDENCE] == pytest.approx(expected)
    extreme = evidence_values([Evidence(self_check=0.0), Evidence(self_check=1.0)])[:, -1]
    assert np.isfinite(extreme).all()
    assert extreme[0] == pytest.approx(-extreme[1])
