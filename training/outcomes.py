"""Conversion of prepared rows to the arrays of calibration and metrics."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from router_model.calibrate import Outcomes
from router_model.label import is_ok
from router_model.manifest import Manifest
from router_model.metrics import Floats
from router_model.score import Score
from router_model.value import (
    CHARS_PER_TOKEN,
    DEFAULT_PRICES,
    MAX_OUTPUT_TOKENS,
    MIN_OUTPUT_TOKENS,
    GainPerDollar,
)
from training.dataset import Row

# The share of the all-cloud dollars at which routers and recipes are compared.
COST_SHARE = 0.4


def outcomes_of(rows: list[Row]) -> Outcomes:
    """The arrays of rows with both scores.

    A local answer is free. The prices weight prompts and answers by their length; serving uses the
    configured ones. Tokens are estimated as characters / 4. An unknown answer length is replaced
    by the median.
    """
    lengths = [r.cloud_response_chars for r in rows if r.cloud_response_chars is not None]
    typical = float(np.median(lengths)) if lengths else 1000.0
    cost = [
        (
            r.prompt_chars * DEFAULT_PRICES.input
            + _value_or(r.cloud_response_chars, typical) * DEFAULT_PRICES.output
        )
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


def tokens_of(rows: list[Row]) -> tuple[Floats, Floats]:
    """The tokens [n] of prompts and of the cloud model's answers, NaN where unknown."""
    given = np.array([row.prompt_chars for row in rows], dtype=float) / CHARS_PER_TOKEN
    lengths = [row.cloud_response_chars for row in rows]
    written = np.array([math.nan if n is None else n / CHARS_PER_TOKEN for n in lengths])
    return given, written


def served_merits(
    manifest: Manifest, scores: Sequence[Score], input_tokens: Iterable[float]
) -> Floats:
    """What the threshold is compared with [n], at the default prices: merits, or the scores."""
    if manifest.gain is None:
        return np.array([score.score for score in scores])
    rate = GainPerDollar(manifest.gain).rate
    pairs = zip(scores, input_tokens, strict=True)
    return np.array([rate(score, input_tokens=tokens).merit for score, tokens in pairs])


def length_target(chars: int) -> float:
    """The length of an answer as a target in [0, 1] of a head: its place on a logarithmic scale.

    Prices and people care for factors, and the squared error of tokens would be that of the few
    longest answers.
    """
    tokens = min(max(chars / CHARS_PER_TOKEN, MIN_OUTPUT_TOKENS), MAX_OUTPUT_TOKENS)
    return math.log(tokens / MIN_OUTPUT_TOKENS) / math.log(MAX_OUTPUT_TOKENS / MIN_OUTPUT_TOKENS)


def _value_or(value: int | None, default: float) -> float:
    return default if value is None else float(value)
