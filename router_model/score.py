"""The score of every router, and the logistic function."""

import math
from typing import NamedTuple


class Score(NamedTuple):
    """A router's output, all in [0, 1].

    `score`: P(the local answer is at least as good as the cloud's). A request is routed to the
    local tier if its score reaches the threshold. `p_local`, `p_cloud`: P(that model's answer
    scores 7 or more of 10).
    """

    score: float
    p_local: float
    p_cloud: float


def sigmoid(x: float) -> float:
    """The logistic function, safe from overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)
