"""Evidence about a local answer, for the second look (`router_model.verification`)."""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypedDict, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

InputName = Literal[
    "broken", "agrees", "mean_logprob", "lowest_logprob", "margin", "log_tokens", "self_check"
]
EVIDENCE: Final[tuple[InputName, ...]] = get_args(InputName)

_CERTAIN: Final = 1e-4  # probabilities are clipped to [_CERTAIN, 1 - _CERTAIN] for their logits


class _Stored(TypedDict, total=False):
    broken: bool
    agrees: bool
    second: str
    mean_logprob: float
    lowest_logprob: float
    margin: float
    tokens: float
    self_check: float


class Evidence(NamedTuple):
    """What is known of a local answer. None: not asked, not available or not comparable.

    Attributes:
        broken: the answer has no final answer.
        agrees: a second local model has the same final answer.
        second: the name of that model. The combiner reads only whether it agrees.
        mean_logprob, lowest_logprob: of the answer's tokens, in nats.
        margin: at the final answer, the log-probability of the chosen token minus that of the best
            alternative, in nats.
        tokens: length of the answer.
        self_check: P(yes) of the local model, asked whether its answer is right.
    """

    broken: bool = False
    agrees: bool | None = None
    second: str | None = None
    mean_logprob: float | None = None
    lowest_logprob: float | None = None
    margin: float | None = None
    tokens: float | None = None
    self_check: float | None = None

    def to_dict(self) -> dict[str, float | bool | str]:
        """What is known, by name."""
        return {
            name: value
            for name, value in self._asdict().items()
            if value is not None and (isinstance(value, str) or math.isfinite(value))
        }

    def to_json(self) -> str:
        """`to_dict` as JSON, as in the database."""
        return msgspec.json.encode(self.to_dict()).decode()

    @classmethod
    def from_json(cls, text: str | None) -> "Evidence | None":
        """Evidence from the database; None for null, and for what another version has written."""
        if text is None:
            return None
        try:
            return cls(**msgspec.json.decode(text, type=_Stored))
        except (msgspec.MsgspecError, TypeError):
            return None


def evidence_values(evidence: Sequence[Evidence | None]) -> NDArray[np.float64]:
    """The inputs of evidence [n, len(EVIDENCE)]; NaN where missing."""
    values = np.full((len(evidence), len(EVIDENCE)), np.nan)
    for row, item in zip(values, evidence, strict=True):
        if item is not None:
            row[:] = (
                float(item.broken),
                np.nan if item.agrees is None else float(item.agrees),
                _number(item.mean_logprob),
                _number(item.lowest_logprob),
                _number(item.margin),
                _logarithm(item.tokens),
                _logit(item.self_check),
            )
    return values


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _logarithm(tokens: float | None) -> float:
    """log(1 + tokens)."""
    return math.log1p(tokens) if tokens is not None and 0 <= tokens < math.inf else math.nan


def _logit(probability: float | None) -> float:
    if probability is None or not 0.0 <= probability <= 1.0:
        return math.nan
    p = min(max(probability, _CERTAIN), 1 - _CERTAIN)
    return math.log(p / (1 - p))
