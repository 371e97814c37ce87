"""Answer quality: sampling, judging, estimates, and calibration of the router on live traffic.

This package never delays a client and does not know HTTP.
"""

from proxy.evaluation import explain
from proxy.evaluation.calibration import (
    DEFAULT_TARGET,
    CalibrationReport,
    CalibrationTarget,
    calibrate_router,
    check_target,
    training_rows,
)
from proxy.evaluation.dataset import NotEnoughJudgements
from proxy.evaluation.estimates import MIN_PAIRS, Quality
from proxy.evaluation.judge import Judge, JudgePriceUnknown, JudgingSummary, judge_price
from proxy.evaluation.judge_queue import JudgeQueue
from proxy.evaluation.metrics import quality_metrics
from proxy.evaluation.paid_calls import OnPaidCall, PaidUpstream
from proxy.evaluation.promotion import NothingHeldOut, RouterComparison, compare_routers
from proxy.evaluation.queries import QualityQueries, ShadowComparison, WeightedPair
from proxy.evaluation.sampling import Sampler

__all__ = [
    "DEFAULT_TARGET",
    "MIN_PAIRS",
    "CalibrationReport",
    "CalibrationTarget",
    "Judge",
    "JudgePriceUnknown",
    "JudgeQueue",
    "JudgingSummary",
    "NotEnoughJudgements",
    "NothingHeldOut",
    "OnPaidCall",
    "PaidUpstream",
    "Quality",
    "QualityQueries",
    "RouterComparison",
    "Sampler",
    "ShadowComparison",
    "WeightedPair",
    "calibrate_router",
    "check_target",
    "compare_routers",
    "explain",
    "judge_price",
    "quality_metrics",
    "training_rows",
]
