"""Fit the router model to this proxy's own models and traffic: `hybrid-llm calibrate --from-db`.

The router model ranks prompts by difficulty. The meaning of its scores depends on the models of the
two tiers. Calibration fits five things to requests with judge scores for both tiers' answers: the
scale and shift of each head, the curve of the served score, the gain per dollar of a cloud answer
if the model has one, the threshold table, and with enough evidence the second look. The fit is
regularised towards the current calibration. Ratings of clients and choices of users have a small
weight in the heads' fit. They take no part in thresholds or in any estimate of quality: those need
a random sample, and users choose what they rate and compare.

The network is unchanged, so the order of prompts changes little. A local model that is strong where
Phi-3 is weak needs training, not calibration.

From 2 * MIN_REQUESTS requests on, the test part of router_model.split (a fifth of the
conversations) is held out. The report evaluates the threshold on it, and `hybrid-llm promote`
compares routers on it.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from proxy.config import Config
from proxy.evaluation.choices import ChosenRequest
from proxy.evaluation.dataset import (
    MIN_REQUESTS,
    JudgedDataset,
    dataset_of_pair,
    labels_of_choices,
    ratings_of,
)
from proxy.evaluation.queries import JudgedRequest, RatedRequest
from router_model import calibrate, split
from router_model.calibrate import Outcomes, Ratings
from router_model.categories import category_of
from router_model.drift import reference_of
from router_model.manifest import (
    MANIFEST_FILE,
    Calibration,
    Gain,
    Manifest,
    OperatingPoint,
    ThresholdTable,
)
from router_model.metrics import Floats, auroc, bootstrap, ece, log_loss
from router_model.model import RouterModel
from router_model.task import ScoreSystem, routing_text
from router_model.value import DEFAULT_PRICES, UsdPerToken
from router_model.verification_fit import choose_band, fit_verification

_FOLDS: Final = 5
# Fewer pairs make the combiner worse than the router in too many draws (docs/verification.md).
MIN_EVIDENCE: Final = 100
_ROUNDS: Final = 1000


class CalibrationTarget(NamedTuple):
    """The target of the threshold: a share of the quality gap, or of the all-cloud cost.

    `cost` is a limit. `spend` is the cost itself, so it is met as well as the requests allow.
    """

    measure: Literal["quality", "cost", "spend"] = "quality"
    share: float = calibrate.RECOMMENDED_PGR

    def thresholds(self, merit: Floats, outcomes: Outcomes, *, rounds: int) -> ThresholdTable:
        """The threshold table of requests [n], with the threshold that meets the target."""
        rows = f"{merit.size} judged requests of this proxy"
        if self.measure == "spend":
            threshold = calibrate.threshold_for_spend(merit, outcomes, self.share)
            table = calibrate.threshold_table(merit, outcomes, rounds=rounds, also=threshold)
            why = calibrate.SPEND_WHY.format(share=100 * self.share, rows=rows)
        else:
            table = calibrate.threshold_table(merit, outcomes, rounds=rounds)
            if self.measure == "cost":
                threshold, why = calibrate.recommend_for_cost(
                    table, rows=rows, cost_share=self.share
                )
            else:
                threshold, why = calibrate.recommend(table, rows=rows, quality_share=self.share)
        return ThresholdTable(threshold=threshold, threshold_why=why, thresholds=table)

    def is_settled(self, point: OperatingPoint) -> bool:
        """Whether the whole interval meets the target. Of `spend`: whether it has the share."""
        if self.measure == "quality":
            return point.quality_interval[0] >= self.share
        low, high = point.cost_interval
        if self.measure == "spend":
            return low <= self.share <= high
        return high <= self.share

    def sure(self, table: list[OperatingPoint]) -> float | None:
        """The cheapest (for cost: the best) threshold whose whole interval meets the target."""
        if self.measure == "spend":
            return None
        thresholds = [point.threshold for point in table if self.is_settled(point)]
        if not thresholds:
            return None
        return min(thresholds) if self.measure == "quality" else max(thresholds)


DEFAULT_TARGET: Final = CalibrationTarget()


class CalibrationReport(NamedTuple):
    """The fit and its quality. [value, low, high] has a 95 % interval.

    Attributes:
        operating_point: results of the threshold on the `fitted` requests.
        held_out_point: the same on the `held_out` requests, which took no part in the fit.
        is_settled: whether the whole interval of `operating_point` meets the target.
        sure_threshold: a threshold whose whole interval meets the target, if there is one.
        choices: users' choices that took part in the fit.
        evidence: the `fitted` requests with evidence about the local answer.
        evidence_missing: how many more are needed for a second look.
        band: the merits that get a second look; None without one.
    """

    requests: int
    fitted: int
    held_out: int
    ratings: int
    choices: int
    local_model: str
    cloud_model: str
    local_ok_share: float
    cloud_better_share: float
    auroc_local: list[float]
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float
    aim: str
    threshold_before: float
    threshold: float
    threshold_why: str
    is_settled: bool
    sure_threshold: float | None
    operating_point: OperatingPoint
    held_out_point: OperatingPoint | None
    evidence: int
    evidence_missing: int
    band: tuple[float, float] | None


def calibrate_router(
    model: RouterModel,
    judged: list[JudgedRequest],
    *,
    config: Config,
    now: dt.datetime,
    rated: Iterable[RatedRequest] = (),
    chosen: Iterable[ChosenRequest] = (),
    aim: CalibrationTarget = DEFAULT_TARGET,
    prices: UsdPerToken = DEFAULT_PRICES,
    rounds: int = _ROUNDS,
) -> tuple[Manifest, CalibrationReport]:
    """A manifest for the configured models, fitted to their judged requests.

    The `after` figures are cross-validated over conversations. Those of the threshold are for the
    configured objective.

    Args:
        rated, chosen: the opinions of users, which count less than judgements.
        prices: of the cloud model.
        rounds: of the bootstrap for the intervals.

    Raises:
        NotEnoughJudgements: fewer than MIN_REQUESTS usable requests of these models.
    """
    dataset = dataset_of_pair(judged, config)
    fitted, held_out = _split(dataset)
    ratings = ratings_of(list(rated), config, model)
    choices = labels_of_choices(list(chosen), dataset, config, model)
    labels = ratings.join(choices)
    logits, outcomes = fitted.logits(model), fitted.outcomes
    before, _, _ = calibrate.scores(logits, model.manifest.calibration)
    after = _cross_validated(model, logits, outcomes, labels)
    parts = fit_parts(
        model.manifest,
        logits,
        fitted,
        config=config,
        ratings=labels,
        prices=prices,
    )
    calibration, gain = parts.calibration, parts.gain
    score, p_local, _ = calibrate.scores(logits, calibration)
    merit = fitted.merits(logits, calibration, gain, prices)
    by_merit = aim.thresholds(merit, outcomes, rounds=rounds)
    by_score = aim.thresholds(score, outcomes, rounds=rounds) if gain is not None else None
    parts = with_band(parts, merit, threshold=by_merit.threshold, weight=outcomes.weight)
    verification = parts.verification
    ranks_by_score = config.routing.objective == "score"
    used = by_score if by_score is not None and ranks_by_score else by_merit
    threshold, table = used.threshold, used.thresholds
    point = next(point for point in table if point.threshold == threshold)
    local_ok, suffices, w = outcomes.local_ok, outcomes.local_suffices, outcomes.weight
    low, high = bootstrap(
        lambda i: auroc(local_ok[i], p_local[i], weight=w[i]), outcomes.group, rounds=rounds
    )
    with_evidence = _count_evidence(fitted, config)
    report = CalibrationReport(
        requests=len(dataset.texts),
        fitted=len(fitted.texts),
        held_out=len(held_out.texts),
        ratings=ratings.ok.size,
        choices=choices.ok.size // 2,
        local_model=config.upstreams.local.model,
        cloud_model=config.upstreams.cloud.model,
        local_ok_share=_r(np.average(local_ok, weights=w)),
        cloud_better_share=_r(1 - np.average(suffices, weights=w)),
        auroc_local=[_r(v) for v in (auroc(local_ok, p_local, weight=w), low, high)],
        log_loss_before=_r(log_loss(suffices, before, weight=w)),
        log_loss_after=_r(log_loss(suffices, after, weight=w)),
        ece_before=_r(ece(suffices, before, weight=w)),
        ece_after=_r(ece(suffices, after, weight=w)),
        aim=f"{aim.measure} {aim.share:.4g}",
        threshold_before=model.manifest.for_objective(config.routing.objective).threshold,
        threshold=threshold,
        threshold_why=used.threshold_why,
        is_settled=aim.is_settled(point),
        sure_threshold=aim.sure(table),
        operating_point=point,
        held_out_point=_on_held_out(
            model,
            held_out,
            calibration,
            None if ranks_by_score else gain,
            prices,
            threshold,
            rounds=rounds,
        ),
        evidence=with_evidence,
        evidence_missing=max(0, MIN_EVIDENCE - with_evidence),
        band=verification.band if verification is not None else None,
    )
    manifest = msgspec.structs.replace(
        parts,
        version=f"{model.manifest.version.partition('+')[0]}+own.{now:%Y%m%d.%H%M%S}",
        created_at=now.isoformat(timespec="seconds"),
        local_model=report.local_model,
        cloud_model=report.cloud_model,
        threshold=by_merit.threshold,
        threshold_why=by_merit.threshold_why,
        thresholds=by_merit.thresholds,
        by_score=by_score,
        data_sha256=_sha256_of(fitted.requests),
        metrics={
            "own_traffic": _without_models(report),
            "trained": model.manifest.metrics.get("trained", model.manifest.metrics),
        },
        reference=reference_of(
            score.tolist(), [category_of(request.turns or ()) for request in fitted.requests]
        ),
    )
    return manifest, report


def fit_parts(
    prior: Manifest,
    logits: Floats,
    judged: JudgedDataset,
    *,
    config: Config,
    prices: UsdPerToken,
    ratings: Ratings | None = None,
) -> Manifest:
    """The manifest with calibration, gain per dollar and second look fitted to judged requests.

    Thresholds and the band of the second look are not (`with_band`). Without MIN_EVIDENCE there is
    no second look.

    Args:
        logits: [n, 2 or 3] of the requests.
    """
    outcomes = judged.outcomes
    calibration = calibrate.fit(logits, outcomes, prior=prior.calibration, ratings=ratings)
    gain = prior.gain
    if gain is not None:
        gain = calibrate.fit_gain(
            logits,
            outcomes,
            calibration,
            judged.input_tokens,
            judged.output_tokens,
            text_tokens=judged.text_tokens,
            prices=prices,
            prior=gain,
        )
    verification = None
    if _count_evidence(judged, config) >= MIN_EVIDENCE:
        verification = fit_verification(
            logits,
            judged.evidence(config.verify.second),
            outcomes,
            band=(0.0, 1.0),
            local_model=config.upstreams.local.model,
            cloud_model=config.upstreams.cloud.model,
            second=config.verify.second or "",
        )
    return msgspec.structs.replace(
        prior, calibration=calibration, gain=gain, verification=verification
    )


def with_band(manifest: Manifest, merit: Floats, *, threshold: float, weight: Floats) -> Manifest:
    """The manifest with this threshold, and the band of its second look around it."""
    look = manifest.verification
    if look is not None:
        band = choose_band(merit, threshold=threshold, weight=weight)
        look = msgspec.structs.replace(look, band=band)
    return msgspec.structs.replace(manifest, threshold=threshold, verification=look)


def check_target(folder: Path) -> None:
    """Raise FileExistsError if `folder` holds other files than a router model."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists():
        raise FileExistsError(f"{folder} has files but no router model")


def training_rows(
    judged: Iterable[JudgedRequest], *, score_system: ScoreSystem = "auto"
) -> Iterator[dict[str, str | float]]:
    """Judged requests in the format of data/README.md, for `hybrid-llm-train`.

    Requests without a stored prompt are skipped. `group` is the group that training derives when it
    reads the database itself.
    """
    for request in judged:
        if request.turns:
            text = routing_text(request.turns, score_system=score_system)
            yield {
                "id": request.id,
                "source": "proxy",
                "category": category_of(request.turns),
                "group": split.group_of(request.session_id, text),
                "query": text,
                "local_model": request.local_model,
                "cloud_model": request.cloud_model,
                "local_score": request.local_score,
                "cloud_score": request.cloud_score,
            }


def _split(judged: JudgedDataset) -> tuple[JudgedDataset, JudgedDataset]:
    """The rows to fit, and the held-out rows: none if too few would remain."""
    test = judged.is_test
    if test.size < 2 * MIN_REQUESTS or (~test).sum() < MIN_REQUESTS:
        return judged, judged.take(np.zeros(test.size, dtype=bool))
    return judged.take(~test), judged.take(judged.held_out)


def _count_evidence(judged: JudgedDataset, config: Config) -> int:
    return sum(item is not None for item in judged.evidence(config.verify.second))


def _cross_validated(
    model: RouterModel, logits: Floats, outcomes: Outcomes, ratings: Ratings
) -> Floats:
    """Cross-validated scores [n], with folds over conversations."""
    names, conversation = np.unique(outcomes.group, return_inverse=True)
    folds = np.random.default_rng(0).permutation(conversation.max() + 1) % _FOLDS
    fold = folds[conversation]
    score = np.empty(len(logits))
    for k in range(_FOLDS):
        held_out = fold == k
        fitted = calibrate.fit(
            logits[~held_out],
            outcomes.take(~held_out),
            prior=model.manifest.calibration,
            ratings=ratings.take(~np.isin(ratings.group, names[folds == k])),
        )
        score[held_out], _, _ = calibrate.scores(logits[held_out], fitted)
    return score


def _on_held_out(
    model: RouterModel,
    held_out: JudgedDataset,
    calibration: Calibration,
    gain: Gain | None,
    prices: UsdPerToken,
    threshold: float,
    *,
    rounds: int,
) -> OperatingPoint | None:
    if not held_out.texts:
        return None
    merit = held_out.merits(held_out.logits(model), calibration, gain, prices)
    [point] = calibrate.operating_points(
        merit, held_out.outcomes, np.array([threshold]), rounds=rounds
    )
    return point


def _sha256_of(requests: list[JudgedRequest]) -> str:
    rows = [(request.id, request.local_score, request.cloud_score) for request in requests]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def _without_models(report: CalibrationReport) -> dict[str, Any]:
    left_out = {"local_model", "cloud_model", "operating_point", "held_out_point", "band"}
    return {name: value for name, value in report._asdict().items() if name not in left_out}


def _r(value: Any) -> float:
    return round(float(value), 4)
