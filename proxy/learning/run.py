"""One whole step of self-calibration: read the pairs, fit, test, decide, record, activate.

It takes seconds to minutes of one core. `server` runs it in a process with a lower priority.
"""

import datetime as dt
import time
from functools import partial

from proxy.config import Config
from proxy.evaluation import ChoiceQueries, QualityQueries
from proxy.learning.activation import own_model, put_in_place
from proxy.learning.fit import FitResult, fit_and_test
from proxy.learning.records import LearningRecords
from proxy.learning.steps import Decision, LearningStep, Models, history_of
from router_model.manifest import Manifest
from router_model.model import RouterModel
from router_model.value import UsdPerToken


def run_step(
    records: LearningRecords,
    step_id: int,
    *,
    config: Config,
    prices: UsdPerToken,
    quality: QualityQueries,
) -> LearningStep:
    """Make the claimed step, and return its record.

    Args:
        prices: of the cloud model.

    Raises:
        StoreUnavailable, RouterModelError, OSError: also recorded, if the database answers.
    """
    try:
        model = RouterModel.load(config.routing.model_folder)
        steps = records.steps()
        fit = fit_and_test(
            model,
            quality.judged_requests(),
            config=config,
            prices=prices,
            history=history_of(steps, Models.of(config), version=model.manifest.version),
            now=dt.datetime.fromtimestamp(time.time(), dt.UTC),
            rated=quality.rated_requests(),
            chosen=ChoiceQueries.sharing(quality).chosen_requests(),
        )
        _decide(records, step_id, fit, model.manifest, config)
    except Exception as error:
        records.finish(step_id, decision="rejected", why=str(error), has_failed=True)
        raise
    step = records.find(step_id)
    assert step is not None
    return step


def _decide(
    records: LearningRecords, step_id: int, fit: FitResult, current: Manifest, config: Config
) -> None:
    """Record the result, and activate a better fit if the configuration allows it."""
    difference = fit.difference
    figures: dict[str, float | str | None] = {
        "pairs": fit.pairs,
        "tested": fit.tested,
        "evidence": fit.evidence,
        "test": fit.test,
        "cost_share": fit.cost_share,
        "level": fit.level,
        "difference": None if difference is None else difference.value,
        "low": None if difference is None else difference.low,
        "high": None if difference is None else difference.high,
        "version": None if fit.manifest is None else fit.manifest.version,
    }
    finish = partial(records.finish, step_id, manifest=fit.manifest, figures=figures)
    decision: Decision = "postponed" if fit.test is None else "rejected"
    if fit.is_better:
        decision = "suggested"
    if decision != "suggested" or not activates(config):
        finish(decision=decision, why=fit.why)
        return
    assert fit.manifest is not None
    with own_model(config) as folder:
        used = Manifest.load(folder).version
        if used != current.version:
            why = f"{fit.why}; meanwhile the router was replaced by {used}"
            finish(decision="rejected", why=why)
            return
        if finish(decision="activated", why=fit.why, previous=current):
            put_in_place(records, step_id, fit.manifest, folder)


def activates(config: Config) -> bool:
    """Whether a better fit is used at once. A fixed threshold is not one of the fit."""
    return config.learning.auto == "apply" and config.routing.threshold == "auto"
