"""Fit the router model to this proxy's own models and traffic: `hybrid-llm calibrate --from-db`.

The router model ranks prompts by difficulty. The meaning of its scores depends on the models of the
two tiers. Calibration fits four things to requests with judge scores for both tiers' answers: the
scale and shift of each head, the curve of the served score, the gain per dollar of a cloud answer
if the model has one, and the threshold table. The fit is regularised towards the current
calibration. Client ratings have a small weight in the heads' fit.

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
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from proxy.config import Config
from proxy.evaluation.dataset import MIN_REQUESTS, JudgedDataset, dataset_of_pair, ratings_of
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

_FOLDS: Final = 5


class CalibrationTarget(NamedTuple):
    """The target of the threshold: a share of the quality gap, or of the all-cloud cost."""

    measure: str = "quality"  # or cost
    share: float = calibrate.RECOMMENDED_PGR

    def threshold(self, table: list[OperatingPoint], *, rows: str) -> tuple[float, str]:
        """The threshold of the table that meets the target, and the reason."""
        if self.measure == "cost":
            return calibrate.recommend_for_cost(table, rows=rows, cost_share=self.share)
        return calibrate.recommend(table, rows=rows, quality_share=self.share)

    def is_settled(self, point: OperatingPoint) -> bool:
        """Whether the whole interval meets the target."""
        if self.measure == "cost":
            return point.cost_interval[1] <= self.share
        return point.quality_interval[0] >= self.share

    def sure(self, table: list[OperatingPoint]) -> float | None:
        """The cheapest (for cost: the best) threshold whose whole interval meets the target."""
        thresholds = [point.threshold for point in table if self.is_settled(point)]
        if not thresholds:
            return None
        return max(thresholds) if self.measure == "cost" else min(thresholds)


DEFAULT_TARGET: Final = CalibrationTarget()


class CalibrationReport(NamedTuple):
    """The fit and its quality. [value, low, high] has a 95 % interval.

    Attributes:
        operating_point: results of the threshold on the `fitted` requests.
        held_out_point: the same on the `held_out` requests, which took no part in the fit.
        is_settled: whether the whole interval of `operating_point` meets the target.
        sure_threshold: a threshold whose whole interval meets the target, if there is one.
    """

    requests: int
    fitted: int
    held_out: int
    ratings: int
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


def calibrate_router(
    model: RouterModel,
    judged: list[JudgedRequest],
    *,
    config: Config,
    now: dt.datetime,
    rated: Iterable[RatedRequest] = (),
    aim: CalibrationTarget = DEFAULT_TARGET,
    prices: UsdPerToken = DEFAULT_PRICES,
) -> tuple[Manifest, CalibrationReport]:
    """A manifest for the configured models, fitted to their judged requests.

    The `after` figures are cross-validated over conversations. Those of the threshold are for the
    configured objective.

    Args:
        prices: of the cloud model.

    Raises:
        NotEnoughJudgements: fewer than MIN_REQUESTS usable requests of these models.
    """
    dataset = dataset_of_pair(judged, config)
    fitted, held_out = _split(dataset)
    ratings = ratings_of(list(rated), config, model)
    prior = model.manifest.calibration
    logits, outcomes = fitted.logits(model), fitted.outcomes
    before, _, _ = calibrate.scores(logits, prior)
    after = _cross_validated(model, logits, outcomes, ratings)
    calibration = calibrate.fit(logits, outcomes, prior=prior, ratings=ratings)
    score, p_local, _ = calibrate.scores(logits, calibration)
    gain = _fit_gain(model, fitted, logits, calibration, prices)
    merit = fitted.merits(logits, calibration, gain, prices)
    by_merit = _thresholds(merit, outcomes, aim)
    by_score = _thresholds(score, outcomes, aim) if gain is not None else None
    ranks_by_score = config.routing.objective == "score"
    used = by_score if by_score is not None and ranks_by_score else by_merit
    threshold, table = used.threshold, used.thresholds
    point = next(point for point in table if point.threshold == threshold)
    local_ok, suffices, w = outcomes.local_ok, outcomes.local_suffices, outcomes.weight
    low, high = bootstrap(lambda i: auroc(local_ok[i], p_local[i], weight=w[i]), outcomes.group)
    report = CalibrationReport(
        requests=len(dataset.texts),
        fitted=len(fitted.texts),
        held_out=len(held_out.texts),
        ratings=ratings.ok.size,
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
            model, held_out, calibration, None if ranks_by_score else gain, prices, threshold
        ),
    )
    manifest = msgspec.structs.replace(
        model.manifest,
        version=f"{model.manifest.version.partition('+')[0]}+own.{now:%Y%m%d.%H%M%S}",
        created_at=now.isoformat(timespec="seconds"),
        local_model=report.local_model,
        cloud_model=report.cloud_model,
        calibration=calibration,
        threshold=by_merit.threshold,
        threshold_why=by_merit.threshold_why,
        thresholds=by_merit.thresholds,
        gain=gain,
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


def _fit_gain(
    model: RouterModel,
    judged: JudgedDataset,
    logits: Floats,
    calibration: Calibration,
    prices: UsdPerToken,
) -> Gain | None:
    """The gain per dollar, fitted to the requests; None if the model has none."""
    prior = model.manifest.gain
    if prior is None:
        return None
    return calibrate.fit_gain(
        logits,
        judged.outcomes,
        calibration,
        judged.input_tokens,
        judged.output_tokens,
        text_tokens=judged.text_tokens,
        prices=prices,
        prior=prior,
    )


def _thresholds(merit: Floats, outcomes: Outcomes, aim: CalibrationTarget) -> ThresholdTable:
    table = calibrate.threshold_table(merit, outcomes)
    rows = f"{merit.size} judged requests of this proxy"
    threshold, why = aim.threshold(table, rows=rows)
    return ThresholdTable(threshold=threshold, threshold_why=why, thresholds=table)


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
) -> OperatingPoint | None:
    if not held_out.texts:
        return None
    merit = held_out.merits(held_out.logits(model), calibration, gain, prices)
    [point] = calibrate.operating_points(merit, held_out.outcomes, np.array([threshold]))
    return point


def _sha256_of(requests: list[JudgedRequest]) -> str:
    rows = [(request.id, request.local_score, request.cloud_score) for request in requests]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def _without_models(report: CalibrationReport) -> dict[str, Any]:
    left_out = {"local_model", "cloud_model", "operating_point", "held_out_point"}
    return {name: value for name, value in report._asdict().items() if name not in left_out}


def _r(value: Any) -> float:
    return round(float(value), 4)
