"""Conversion of prepared rows to the arrays of calibration and metrics."""

import numpy as np

from router_model.calibrate import Outcomes
from router_model.label import is_ok
from training.dataset import Row

# USD per token of gpt-4o-mini; a local answer is free. Serving uses the configured prices. These
# only weight prompts and answers by their length.
INPUT_USD = 0.15e-6
OUTPUT_USD = 0.60e-6
CHARS_PER_TOKEN = 4.0


def outcomes_of(rows: list[Row]) -> Outcomes:
    """The arrays of rows with both scores.

    Tokens are estimated as characters / 4. An unknown answer length is replaced by the median.
    """
    lengths = [r.cloud_response_chars for r in rows if r.cloud_response_chars is not None]
    typical = float(np.median(lengths)) if lengths else 1000.0
    cost = [
        (r.prompt_chars * INPUT_USD + _value_or(r.cloud_response_chars, typical) * OUTPUT_USD)
        / CHARS_PER_TOKEN
        for r in rows
    ]
    local = np.array([r.local_score for r in rows], dtype=float)
    cloud = np.array([r.cloud_score for r in rows], dtype=float)
    return Outcomes(
        local=local,
        cloud=cloud,
        local_ok=np.array([is_ok(s) for s in local]),
        cloud_ok=np.array([is_ok(s) for s in cloud]),
        cost=np.array(cost),
        source=np.array([r.source for r in rows]),
        group=np.array([r.group for r in rows]),
        weight=np.ones(len(rows)),
    )


def _value_or(value: int | None, default: float) -> float:
    return default if value is None else float(value)
