"""Fit the router model to this proxy's own models and traffic: `hybrid-llm calibrate --from-db`.

The router model knows how hard a prompt is; what its numbers mean depends on the two models behind
the tiers. A few hundred requests whose answers a judge scored on both sides say that: each head's
scale and shift, the curve of the served score, and the threshold table are fitted to them, near
the calibration that is there. The network stays, so the order of prompts changes little: a model
that is strong where Phi-3 is weak needs training, not calibration.
"""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from proxy.config import Config
from proxy.routing import is_same_model
from proxy.stats import JudgedRequest
from router_model import calibrate
from router_model.calibrate import Outcomes
from router_model.categories import category_of
from router_model.drift import reference_of
from router_model.features import routing_text
from router_model.label import is_ok
from router_model.manifest import MANIFEST_FILE, Manifest, OperatingPoint
from router_model.metrics import Floats, auroc, bootstrap, ece, log_loss
from router_model.model import RouterModel

MIN_REQUESTS: Final = 100
_FOLDS: Final = 5


class TooFewJudged(Exception):
    """There is not enough to fit anything to; the message says what there is."""


class Recalibrated(NamedTuple):
    """What was fitted and how well it fits. Figures in [value, low, high] are 95 % intervals."""

    requests: int
    local_model: str
    cloud_model: str
    local_ok_share: float
    cloud_better_share: float
    auroc_local: list[float]
    log_loss_before: float
    log_loss_after: float
    ece_before: float
    ece_after: float
    threshold_before: float
    threshold: float
    threshold_why: str
    operating_point: OperatingPoint


def recalibrate(
    model: RouterModel, judged: list[JudgedRequest], *, config: Config, now: dt.datetime
) -> tuple[Manifest, Recalibrated]:
    """A manifest for the configured pair, fitted to its judged requests.

    `after` figures come from cross-validation over conversations: no request is predicted by a
    calibration that has seen it.

    Raises:
        TooFewJudged: fewer than MIN_REQUESTS requests of this pair with a readable prompt.
    """
    local, cloud = config.upstreams.local.model, config.upstreams.cloud.model
    usable = _usable(judged, local, cloud)
    logits = np.array([model.logits(text) for text, _ in usable])
    out = _outcomes([request for _, request in usable])
    before, _, _ = calibrate.scores(logits, model.manifest.calibration)
    after = _cross_validated(model, logits, out)
    calibration = calibrate.fit(logits, out, prior=model.manifest.calibration)
    score, p_local, _ = calibrate.scores(logits, calibration)
    table = calibrate.threshold_table(score, out)
    threshold, why = calibrate.recommend(table, rows=f"{len(usable)} judged requests of one's own")
    low, high = bootstrap(lambda i: auroc(out.local_ok[i], p_local[i]), out.group)
    report = Recalibrated(
        requests=len(usable),
        local_model=local,
        cloud_model=cloud,
        local_ok_share=_r(out.local_ok.mean()),
        cloud_better_share=_r(1 - out.local_suffices.mean()),
        auroc_local=[_r(v) for v in (auroc(out.local_ok, p_local), low, high)],
        log_loss_before=_r(log_loss(out.local_suffices, before)),
        log_loss_after=_r(log_loss(out.local_suffices, after)),
        ece_before=_r(ece(out.local_suffices, before)),
        ece_after=_r(ece(out.local_suffices, after)),
        threshold_before=model.manifest.threshold,
        threshold=threshold,
        threshold_why=why,
        operating_point=next(point for point in table if point.threshold == threshold),
    )
    manifest = msgspec.structs.replace(
        model.manifest,
        version=f"{model.manifest.version.partition('+')[0]}+own.{now:%Y%m%d.%H%M%S}",
        created_at=now.isoformat(timespec="seconds"),
        local_model=local,
        cloud_model=cloud,
        calibration=calibration,
        threshold=threshold,
        threshold_why=why,
        thresholds=table,
        data_sha256=_sha256_of(usable),
        metrics={
            "own_traffic": _without_models(report),
            "trained": model.manifest.metrics.get("trained", model.manifest.metrics),
        },
        reference=reference_of(score.tolist(), [category_of(r.turns or ()) for _, r in usable]),
    )
    return manifest, report


def check_target(folder: Path) -> None:
    """Raise FileExistsError when `folder` holds something else than a router model."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists():
        raise FileExistsError(f"{folder} holds something else than a router model")


def training_rows(judged: Iterable[JudgedRequest]) -> Iterator[dict[str, str | float]]:
    """Judged requests in the format of data/README.md, for `hybrid-llm-train`.

    Left out are those whose prompt was not kept. A conversation is a group, because each of its
    requests holds those before it.
    """
    for request in judged:
        if request.turns:
            yield {
                "id": request.id,
                "source": "proxy",
                "category": category_of(request.turns),
                "group": request.session_id or request.id,
                "query": routing_text(request.turns),
                "local_model": request.local_model,
                "cloud_model": request.cloud_model,
                "local_score": request.local_score,
                "cloud_score": request.cloud_score,
            }


def _usable(judged: list[JudgedRequest], local: str, cloud: str) -> list[tuple[str, JudgedRequest]]:
    """The requests of this pair with the text to score. Raises TooFewJudged."""
    of_pair = [
        request
        for request in judged
        if is_same_model(request.local_model, local) and is_same_model(request.cloud_model, cloud)
    ]
    read = [(routing_text(r.turns), r) for r in of_pair if r.turns is not None]
    usable = [(text, request) for text, request in read if text]
    if len(usable) < MIN_REQUESTS:
        pairs = Counter(f"{r.local_model} and {r.cloud_model}" for r in judged)
        found = ", ".join(f"{n} of {pair}" for pair, n in pairs.most_common(5)) or "none"
        hint = ""
        if len(read) < len(of_pair):
            hint = f"; {len(of_pair) - len(read)} have no readable prompt: storage.prompts"
        raise TooFewJudged(
            f"{len(usable)} requests of {local} and {cloud} are judged on both sides with a "
            f"readable prompt, and {MIN_REQUESTS} are needed (judged: {found}{hint})"
        )
    return usable


def _outcomes(requests: list[JudgedRequest]) -> Outcomes:
    local = np.array([r.local_score for r in requests], dtype=float)
    cloud = np.array([r.cloud_score for r in requests], dtype=float)
    known = [r.cloud_cost_usd for r in requests if r.cloud_cost_usd is not None]
    typical = float(np.median(known)) if known else 1.0
    return Outcomes(
        local=local,
        cloud=cloud,
        local_ok=np.array([is_ok(s) for s in local]),
        cloud_ok=np.array([is_ok(s) for s in cloud]),
        cost=np.array(
            [typical if r.cloud_cost_usd is None else r.cloud_cost_usd for r in requests]
        ),
        source=np.full(len(requests), "own traffic"),
        # Requests of one conversation hold each other.
        group=np.array([r.session_id or r.id for r in requests]),
    )


def _cross_validated(model: RouterModel, logits: Floats, out: Outcomes) -> Floats:
    """Scores [n] of calibrations that have not seen the conversation they score."""
    _, number = np.unique(out.group, return_inverse=True)
    fold = np.random.default_rng(0).permutation(number.max() + 1)[number] % _FOLDS
    score = np.empty(len(logits))
    for k in range(_FOLDS):
        held_out = fold == k
        fitted = calibrate.fit(
            logits[~held_out], out.take(~held_out), prior=model.manifest.calibration
        )
        score[held_out], _, _ = calibrate.scores(logits[held_out], fitted)
    return score


def _sha256_of(usable: list[tuple[str, JudgedRequest]]) -> str:
    rows = [(request.id, request.local_score, request.cloud_score) for _, request in usable]
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


def _without_models(report: Recalibrated) -> dict[str, Any]:
    told = {"local_model", "cloud_model", "operating_point"}
    return {name: value for name, value in report._asdict().items() if name not in told}


def _r(value: Any) -> float:
    return round(float(value), 4)
