"""The heuristic baseline, with the model's interface: no files, no training, microseconds.

It is used where no trained model can be loaded, and as the baseline for the trained one. The
weights are manual estimates of what makes a prompt hard for a small model. They were never fitted:
the score ranks prompts and is no probability.
"""

import math
import re

from router_model.domain import Domain
from router_model.features import clip
from router_model.score import Score, sigmoid

_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+|#include|\bfunction\b|=>|;\s*$|\breturn\b|\bSELECT\b.+\bFROM\b",
    re.MULTILINE,
)
_MATHS = re.compile(
    r"\\(?:frac|sqrt|sum|int|begin)|\$[^$]+\$|[∑∫√≤≥∈]|\b(?:integral|derivative|eigen\w*|matri\w+"
    r"|polynomial|theorem|lemma|probability|modulo|equation)\b",
    re.IGNORECASE,
)
_DEMANDING = re.compile(
    r"\b(?:prov(?:e|ing)|proof|deriv(?:e|ation)|optimi[sz]\w+|implement\w*|debug\w*|refactor\w*"
    r"|architect\w*|design|algorithm\w*|complexity|analy[sz]\w+|compare|critique|evaluate"
    r"|step[- ]by[- ]step|rigorous\w*|trade-?offs?|concurren\w+|distributed)\b",
    re.IGNORECASE,
)
_OPTION = re.compile(r"^\s*\(?[A-J][.):] ", re.MULTILINE)


# The rules have no pieces: only empty texts, single words, noise and other scripts are detected.
_DOMAIN = Domain({})


class Heuristic:
    """Longer, more mathematical, more code: less likely local."""

    def score(self, text: str) -> Score:
        """Score one routing text by rules; higher is more local, as in the trained model."""
        text = clip(text)
        effort = (
            0.5 * math.log1p(len(text) / 80)
            + 0.9 * min(2, len(_CODE.findall(text)))
            + 0.5 * min(4, len(_MATHS.findall(text)))
            + 0.7 * min(3, len(_DEMANDING.findall(text)))
            + 0.1 * min(10, len(_OPTION.findall(text)))
        )
        p_local = sigmoid(2.2 - effort)
        p_cloud = sigmoid(3.2 - 0.6 * effort)
        unreadable = _DOMAIN.reason_unreadable(text)
        return Score(sigmoid(2.8 - effort), p_local, p_cloud, unreadable)
