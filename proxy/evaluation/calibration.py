"""Fit the router model to this proxy's own models and traffic: `hybrid-llm calibrate --from-db`.

The router model knows how hard a prompt is; what its numbers mean depends on the two models behind
the tiers. A few hundred requests whose answers a judge scored on both sides say that: each head's
scale and shift, the curve of the served score, and the threshold table are fitted to them, near
the calibration that is there. What clients said of answers counts a little for the heads. The
network stays, so the order of prompts changes little: a model that is strong where Phi-3 is weak
needs training, not calibration.

A fifth of the conversations, the test part of router_model.split, is not fitted to where there are
twice as many requests as are needed: on it the chosen threshold is shown as what it does on
requests that had no say in it, and `hybrid-llm promote` compares routers.
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
from router_model.features import routing_text
from router_model.manifest import MANIFEST_FILE, Calibration, Manifest, OperatingPoint
from router_model.metrics import Floats, auroc, bootstrap, ece, log_loss
from router_model.model import RouterModel

_FOLDS: Final = 5


class CalibrationTarget(NamedTuple):
    """What the threshold is to do: recover a share of the gap, or cost a share of all-cloud."""

    measure: str = "quality"  # or cost
    share: float = calibrate.RECOMMENDED_PGR

    def threshold(self, table: list[OperatingPoint], *, rows: str) -> tuple[float, str]:
        """The threshold of the table that does, and why."""
        if self.measure == "cost":
            return calibrate.recommend_for_cost(table, rows=rows, cost_share=self.share)
        return calibrate.recommend(table, rows=rows, quality_share=self.share)

    def is_settled(self, point: OperatingPoint) -> bool:
        """Whether the whole interval is on the right side of what was aimed at."""
        if self.measure == "cost":
            return point.cost_interval[1] <= self.share
        return point.quality_interval[0] >= self.share

    def sure(self, table: list[OperatingPoint]) -> float | None:
        """The cheapest (best) threshold of the table whose interval settles it, if one's does."""
        fitting = [point.threshold for point in table if self.is_settled(point)]
        if not fitting:
            return None
        return max(fitting) if self.measure == "cost" else min(fitting)


DEFAULT_TARGET: Final = CalibrationTarget()


class CalibrationReport(NamedTuple):
    """What was fitted and how well it fits. Figures in [value, low, high] are 95 % intervals.

    `operating_point`: what the threshold does on the `fitted` requests; `held_out_point`: on the
    `held_out` ones, which had no part in anything. `is_settled`: whether the first one's interval
    is on the right side of the aim as a whole; `sure_threshold`'s is.
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
) -> tuple[Manifest, CalibrationReport]:
    """A manifest for the configured pair, fitted to its judged requests.

    `after` figures come from cross-validation over conversations: no request is predicted by a
    calibration that has seen it.

    Raises:
        NotEnoughJudgements: fewer than MIN_REQUESTS requests of this pair with a readable prompt.
    """
    everything = dataset_of_pair(judged, config)
    fitted, kept = _parted(everything)
    ratings = ratings_of(list(rated), config, model)
    prior = model.manifest.calibration
    logits, out = _logits(model, fitted), fitted.outcomes
    before, _, _ = calibrate.scores(logits, prior)
    after = _cross_validated(model, logits, out, ratings)
    calibration = calibrate.fit(logits, out, prior=prior, ratings=ratings)
    score, p_local, _ = calibrate.scores(logits, calibration)
    table = calibrate.threshold_table(score, out)
    rows = f"{len(fitted.texts)} judged requests of one's own"
    threshold, why = aim.threshold(table, rows=rows)
    point = next(one for one in table if one.threshold == threshold)
    w = out.weight
    low, high = bootstrap(lambda i: auroc(out.local_ok[i], p_local[i], weight=w[i]), out.group)
    report = CalibrationReport(
        requests=len(everything.texts),
        fitted=len(fitted.texts),
        held_out=len(kept.texts),
        ratings=ratings.ok.size,
        local_model=config.upstreams.local.model,
        cloud_model=config.upstreams.cloud.model,
        local_ok_share=_r(np.average(out.local_ok, weights=w)),
        cloud_better_share=_r(1 - np.average(out.local_suffices, weights=w)),
        auroc_local=[_r(v) for v in (auroc(out.local_ok, p_local, weight=w), low, high)],
        log_loss_before=_r(log_loss(out.local_suffices, before, weight=w)),
        log_loss_after=_r(log_loss(out.local_suffices, after, weight=w)),
        ece_before=_r(ece(out.local_suffices, before, weight=w)),
        ece_after=_r(ece(out.local_suffices, after, weight=w)),
        aim=f"{aim.measure} {aim.share:.4g}",
        threshold_before=model.manifest.threshold,
        threshold=threshold,
        threshold_why=why,
        is_settled=aim.is_settled(point),
        sure_threshold=aim.sure(table),
        operating_point=point,
        held_out_point=_on_held_out(model, kept, calibration, threshold),
    )
    manifest = msgspec.structs.replace(
        model.manifest,
        version=f"{model.manifest.version.partition('+')[0]}+own.{now:%Y%m%d.%H%M%S}",
        created_at=now.isoformat(timespec="seconds"),
        local_model=report.local_model,
        cloud_model=report.cloud_model,
        calibration=calibration,
        threshold=threshold,
        threshold_why=why,
        thresholds=table,
        data_sha256=_sha256_of(fitted.requests),
        metrics={
            "own_traffic": _without_models(report),
            "trained": model.manifest.metrics.get("trained", model.manifest.metrics),
        },
        reference=reference_of(
            score.tolist(), [category_of(one.turns or ()) for one in fitted.requests]
        ),
    )
    return manifest, report


def check_target(folder: Path) -> None:
    """Raise FileExistsError when `folder` holds something else than a router model."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists():
        raise FileExistsError(f"{folder} holds something else than a router model")


def training_rows(judged: Iterable[JudgedRequest]) -> Iterator[dict[str, str | float]]:
    """Judged requests in the format of data/README.md, for `hybrid-llm-train`.

    Left out are those whose prompt was not kept, and clients' ratings: a row has both scores. Its
    group is the one that training gives it from the database itself.
    """
    for request in judged:
        if request.turns:
            text = routing_text(request.turns)
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


def _parted(judged: JudgedDataset) -> tuple[JudgedDataset, JudgedDataset]:
    """What is fitted to, and what is kept: nothing, where that would leave too little."""
    test = judged.is_test
    if test.size < 2 * MIN_REQUESTS or (~test).sum() < MIN_REQUESTS:
        return judged, judged.take(np.zeros(test.size, dtype=bool))
    return judged.take(~test), judged.take(judged.held_out)


def _logits(model: RouterModel, judged: JudgedDataset) -> Floats:
    return np.array([model.logits(text) for text in judged.texts])


def _cross_validated(model: RouterModel, logits: Floats, out: Outcomes, ratings: Ratings) -> Floats:
    """Scores [n] of calibrations that have not seen the conversation they score."""
    names, number = np.unique(out.group, return_inverse=True)
    folds = np.random.default_rng(0).permutation(number.max() + 1) % _FOLDS
    fold = folds[number]
    score = np.empty(len(logits))
    for k in range(_FOLDS):
        held_out = fold == k
        fitted = calibrate.fit(
            logits[~held_out],
            out.take(~held_out),
            prior=model.manifest.calibration,
            ratings=ratings.take(~np.isin(ratings.group, names[folds == k])),
        )
        score[held_out], _, _ = calibrate.scores(logits[held_out], fitted)
    return score


def _on_held_out(
    model: RouterModel, kept: JudgedDataset, calibration: Calibration, threshold: float
) -> OperatingPoint | None:
    if not kept.texts:
        return None
    score, _, _ = calibrate.scores(_logits(model, kept), calibration)
    [point] = calibrate.operating_points(score, kept.outcomes, np.array([threshold]))
    return point


def _sha256_of(requests: list[JudgedRequest]) -> str:
    rows = [(request.id, request.local_score, request.cloud_score) for request in requests]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def _without_models(report: CalibrationReport) -> dict[str, Any]:
    told = {"local_model", "cloud_model", "operating_point", "held_out_point"}
    return {name: value for name, value in report._asdict().items() if name not in told}


def _r(value: Any) -> float:
    return round(float(value), 4)
