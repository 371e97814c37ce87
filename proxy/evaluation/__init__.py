"""Answer quality: sampling, judging, estimates, and calibration of the router on live traffic.

This package never delays a client and does not know HTTP.
"""

from proxy.evaluation import explain, timeline
from proxy.evaluation.calibration import (
    DEFAULT_TARGET,
    CalibrationReport,
    CalibrationTarget,
    calibrate_router,
    check_target,
    fit_parts,
    training_rows,
    with_band,
)
from proxy.evaluation.choices import (
    ChoiceQueries,
    ChoiceRecords,
    Chooser,
    ChosenRequest,
    Opinion,
    Preferred,
    RefusedChoice,
    Source,
)
from proxy.evaluation.comparison import (
    Difference,
    can_compare,
    compare_at_cost,
    spent_share,
)
from proxy.evaluation.dataset import (
    JudgedDataset,
    NotEnoughJudgements,
    changed_model,
    dataset_of_pair,
    threshold_in_use,
)
from proxy.evaluation.estimates import MIN_PAIRS, Quality
from proxy.evaluation.judge import Judge, JudgePriceUnknown, JudgingSummary, judge_price
from proxy.evaluation.judge_queue import JudgeQueue
from proxy.evaluation.metrics import quality_metrics
from proxy.evaluation.paid_calls import OnPaidCall, PaidUpstream
from proxy.evaluation.promotion import NothingHeldOut, RouterComparison, compare_routers
from proxy.evaluation.queries import (
    JudgedRequest,
    QualityQueries,
    RatedRequest,
    ShadowComparison,
    WeightedPair,
)
from proxy.evaluation.sampling import Sampler
from proxy.evaluation.what_if import (
    Move,
    compare_thresholds,
    preview_rules,
    preview_second_look,
    undecidable_rules,
)

__all__ = [
    "DEFAULT_TARGET",
    "MIN_PAIRS",
    "CalibrationReport",
    "CalibrationTarget",
    "ChoiceQueries",
    "ChoiceRecords",
    "Chooser",
    "ChosenRequest",
    "Difference",
    "Judge",
    "JudgePriceUnknown",
    "JudgeQueue",
    "JudgedDataset",
    "JudgedRequest",
    "JudgingSummary",
    "Move",
    "NotEnoughJudgements",
    "NothingHeldOut",
    "OnPaidCall",
    "Opinion",
    "PaidUpstream",
    "Preferred",
    "Quality",
    "QualityQueries",
    "RatedRequest",
    "RefusedChoice",
    "RouterComparison",
    "Sampler",
    "ShadowComparison",
    "Source",
    "WeightedPair",
    "calibrate_router",
    "can_compare",
    "changed_model",
    "check_target",
    "compare_at_cost",
    "compare_routers",
    "compare_thresholds",
    "dataset_of_pair",
    "explain",
    "fit_parts",
    "judge_price",
    "preview_rules",
    "preview_second_look",
    "quality_metrics",
    "spent_share",
    "threshold_in_use",
    "timeline",
    "training_rows",
    "undecidable_rules",
    "with_band",
]
