"""The score of every router, and the logistic function."""

import math
from typing import NamedTuple

from router_model.domain import Unreadable


class Score(NamedTuple):
    """A router's output.

    Attributes:
        score: P(the local answer is at least as good as the cloud's).
        p_local, p_cloud: P(that model's answer scores 7 or more of 10).
        unreadable: why the score is not valid for this text, if so.
        output_tokens: the expected length of the cloud's answer; None if the model does not
            predict it.
    """

    score: float
    p_local: float
    p_cloud: float
    unreadable: Unreadable | None = None
    output_tokens: float | None = None

    @property
    def gain(self) -> float:
        """The expected gain of the cloud's answer, as a difference of probabilities."""
        return self.p_cloud - self.p_local


def sigmoid(x: float) -> float:
    """The logistic function, safe from overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)
