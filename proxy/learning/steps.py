"""The steps of self-calibration, and what earlier steps mean for the next one. No database here.

Kinds of steps: `models` (the configured models were seen for the first time, or have changed),
`fit` (a fit with its test), `activation` (`hybrid-llm learn apply`) and `rollback`.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from proxy.config import Config
from proxy.learning.fit import History
from proxy.learning.policy import pairs_needed
from proxy.protocol.ollama import is_same_model

Kind = Literal["models", "fit", "activation", "rollback"]
State = Literal["running", "done", "failed"]
# postponed: too few held-out conversations for a test.
Decision = Literal["recorded", "activated", "suggested", "rejected", "postponed", "rolled_back"]


class Models(NamedTuple):
    """The models that a calibration is for. `second` is empty without a second local model."""

    local: str
    cloud: str
    second: str

    @classmethod
    def of(cls, config: Config) -> "Models":
        tiers = config.upstreams
        return cls(tiers.local.model, tiers.cloud.model, config.verify.second or "")

    def is_same(self, other: "Models") -> bool:
        return self.is_same_pair(other) and is_same_model(self.second, other.second)

    def is_same_pair(self, other: "Models") -> bool:
        """Whether the local and the cloud model are the same."""
        return is_same_model(self.local, other.local) and is_same_model(self.cloud, other.cloud)


class LearningStep(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `learning_steps`. Times are UNIX seconds.

    Attributes:
        judgement_id: the newest judgement that the step has seen.
        version_before, version: of the router model in use, and of the one that the step made.
        test: the number of the test among those of these models; None if nothing was tested.
        pairs, tested: judged pairs of these models, and those of them that tested the fit.
        evidence: fitted pairs with evidence for the second look.
        cost_share: the share of the all-cloud dollars at which the test compared.
        difference, low, high, level: of the test (`Difference`).
    """

    id: int
    created_at: float
    ended_at: float | None
    kind: Kind
    state: State
    local_model: str
    cloud_model: str
    second_model: str
    judgement_id: int
    version_before: str | None = None
    version: str | None = None
    test: int | None = None
    pairs: int | None = None
    tested: int | None = None
    evidence: int | None = None
    cost_share: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    decision: Decision | None = None
    why: str | None = None

    @property
    def models(self) -> Models:
        return Models(self.local_model, self.cloud_model, self.second_model)


class Progress(NamedTuple):
    """What is collected for the next fit.

    Attributes:
        after: only judgements with a greater id are new.
        needed: the new judged pairs before the next fit.
    """

    after: int
    needed: int


def progress_of(steps: Sequence[LearningStep], models: Models) -> Progress:
    """What the next fit of these models waits for. `steps` are the oldest first."""
    of_pair = [step for step in steps if step.models.is_same_pair(models)]
    fits = [step for step in of_pair if step.kind == "fit" and step.state != "running"]
    if fits:
        # One that was postponed or has failed is not repeated with the same pairs.
        tested = [step.pairs for step in fits if step.test is not None]
        return Progress(fits[-1].judgement_id, pairs_needed(tested[-1] if tested else None))
    changes = [step.judgement_id for step in of_pair if step.kind == "models"]
    return Progress(changes[0] if changes else 0, pairs_needed(None))


def history_of(steps: Sequence[LearningStep], models: Models, *, version: str | None) -> History:
    """What the steps, the oldest first, leave to the next one.

    Args:
        version: of the router model in use.
    """
    of_pair = [step for step in steps if step.models.is_same_pair(models)]
    activated = [step for step in steps if step.decision == "activated" and step.version == version]
    last = activated[-1] if activated and version is not None else None
    knows_pairs = last is not None and last.models.is_same_pair(models)
    return History(
        tests=sum(step.test is not None for step in of_pair if step.kind == "fit"),
        cost_share=last.cost_share if last is not None else None,
        fitted_until=last.created_at if last is not None and knows_pairs else 0.0,
        tested_since=max((s.created_at for s in of_pair if s.kind == "rollback"), default=0.0),
    )
