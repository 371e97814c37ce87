"""One step of self-calibration without its surroundings: fit on some conversations, test on others.

Cross-fitting makes every conversation a test, with a fit that has not seen it. A fifth of the
conversations, the test part of router_model.split, is tested with the fit itself. The others are
tested in four folds, each with a fit of the remaining ones. With the fifth alone the interval would
be twice as wide.

    fit = fit_and_test(model, judged, config=config, prices=prices, history=history, now=now)
    fit.is_better, fit.manifest
"""

import datetime as dt
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from proxy.config import Config
from proxy.evaluation import (
    CalibrationTarget,
    ChosenRequest,
    Difference,
    JudgedDataset,
    JudgedRequest,
    NotEnoughJudgements,
    RatedRequest,
    calibrate_router,
    can_compare,
    compare_at_cost,
    dataset_of_pair,
    fit_parts,
    spent_share,
    threshold_in_use,
    with_band,
)
from proxy.learning.policy import level_of
from router_model import split
from router_model.calibrate import threshold_for_spend
from router_model.manifest import Manifest
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.value import UsdPerToken

FOLDS: Final = 5
MIN_TESTED: Final = 250  # requests; with fewer the bootstrap's interval is too narrow


class History(NamedTuple):
    """What earlier steps of the configured pair of models leave to the next one.

    Attributes:
        tests: the number of tests so far.
        cost_share: the user's share of the all-cloud dollars, if the router in use was activated by
            self-calibration: its threshold was chosen for this share. None: what the router spends.
        fitted_until: UNIX seconds at which the router in use was fitted to conversations of these
            models, but for the test part. It knows them, so that they cannot test another fit.
        tested_since: UNIX seconds of the last rollback. Only later conversations test a fit:
            earlier ones have chosen the router that was rolled back.
    """

    tests: int = 0
    cost_share: float | None = None
    fitted_until: float = 0.0
    tested_since: float = 0.0


class FitResult(NamedTuple):
    """The result of a step.

    Attributes:
        manifest: the fit; None if there was too little to fit.
        pairs: judged pairs of the configured models.
        tested: those that can test a fit, whether or not there was a test.
        evidence: fitted pairs with evidence for the second look.
        test: the number of the test; None if nothing was tested.
        cost_share: the share of the all-cloud dollars at which the policies were compared.
        difference: of the fit and the router in use.
        why: the result in a sentence.
    """

    why: str
    pairs: int = 0
    tested: int = 0
    evidence: int = 0
    manifest: Manifest | None = None
    test: int | None = None
    cost_share: float | None = None
    difference: Difference | None = None

    @property
    def is_better(self) -> bool:
        return self.difference is not None and self.difference.is_better

    @property
    def level(self) -> float | None:
        """The level of the interval."""
        return None if self.test is None else level_of(self.test)


def fit_and_test(
    model: RouterModel,
    judged: list[JudgedRequest],
    *,
    config: Config,
    prices: UsdPerToken,
    history: History,
    now: dt.datetime,
    rated: Iterable[RatedRequest] = (),
    chosen: Iterable[ChosenRequest] = (),
    rounds: int = 1000,
) -> FitResult:
    """Calibrate the router in use, and compare the result with it on held-out conversations.

    The fit spends the same share of the all-cloud dollars as the router in use, so that only the
    quality differs.

    Args:
        prices: of the cloud model.
        rounds: of the bootstrap for the intervals of the fitted threshold table.
    """
    try:
        pairs = dataset_of_pair(judged, config)
    except NotEnoughJudgements as error:
        return FitResult(str(error))
    logits = pairs.logits(model)
    objective = config.routing.objective
    current = model.manifest.for_objective(objective)
    before = pairs.policy_merits(logits, current, config, prices)
    cost_share = history.cost_share
    if cost_share is None:
        threshold = threshold_in_use(current, config)
        cost_share = spent_share(before, pairs.outcomes, threshold=threshold)
    folds = np.array([split.fold_of(group, FOLDS) for group in pairs.outcomes.group])
    created_at = np.array([item.created_at for item in pairs.requests])
    is_new = (created_at > history.fitted_until) | (folds == 0)
    tested = split.in_one_fold(folds, pairs.texts) & is_new & (created_at > history.tested_since)
    found = FitResult("", pairs=len(pairs.texts), tested=int(tested.sum()), cost_share=cost_share)
    if not can_compare(cost_share):
        return found._replace(
            why=f"the router spends {cost_share:.0%} of the all-cloud dollars, where every ranking "
            "of the requests is equal; choose another threshold"
        )
    if found.tested < MIN_TESTED:
        return found._replace(why=f"{found.tested} of {MIN_TESTED} new requests for a test")
    manifest, report = calibrate_router(
        model,
        judged,
        config=config,
        now=now,
        rated=rated,
        chosen=chosen,
        aim=CalibrationTarget("spend", cost_share),
        prices=prices,
        rounds=rounds,
    )
    after = np.empty(len(folds))
    for fold in range(FOLDS):
        inside, rest = folds == fold, (folds != fold) & (folds != 0)
        fitted = manifest
        if fold:
            fitted = _fit_fold(
                model.manifest, pairs.take(rest), logits[rest], config, prices, cost_share
            )
        after[inside] = pairs.take(inside).policy_merits(
            logits[inside],
            fitted.for_objective(objective),
            config,
            prices,
        )
    test = history.tests + 1
    difference = compare_at_cost(
        before[tested],
        after[tested],
        pairs.outcomes.take(tested),
        cost_share=cost_share,
        level=level_of(test),
    )
    return found._replace(
        evidence=report.evidence,
        manifest=manifest,
        test=test,
        difference=difference,
        why=_why(difference, cost_share, tested=found.tested, level=level_of(test)),
    )


def _fit_fold(
    prior: Manifest,
    judged: JudgedDataset,
    logits: Floats,
    config: Config,
    prices: UsdPerToken,
    cost_share: float,
) -> Manifest:
    """A fit as `calibrate_router` makes it, for a test: without a threshold table."""
    fitted = fit_parts(
        prior,
        logits,
        judged,
        config=config,
        prices=prices,
    )
    merit = judged.merits(logits, fitted.calibration, fitted.gain, prices)
    threshold = threshold_for_spend(merit, judged.outcomes, cost_share)
    return with_band(fitted, merit, threshold=threshold, weight=judged.outcomes.weight)


def _why(difference: Difference, cost_share: float, *, tested: int, level: float) -> str:
    if not difference.has_gap:
        return (
            f"on {tested} requests the cloud's answers are not significantly better "
            "than the local ones, so there is no quality gap to recover"
        )
    better = "better" if difference.is_better else "not shown to be better"
    return (
        f"{better}: recovers {difference.value:+.4f} [{difference.low:+.4f}, "
        f"{difference.high:+.4f}] ({100 * level:.4g} %) more of the quality gap at "
        f"{cost_share:.0%} of the all-cloud dollars, on {tested} requests"
    )
