"""The model card as data: manifest.json, next to model.onnx and tokenizer.json.

`hybrid-llm-train export` writes it; every load reads it. It has everything that a decision depends
on except the network: calibration, thresholds, hashes and origin.
"""

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from router_model.score import sigmoid
from router_model.verification import Verification

MANIFEST_FILE = "manifest.json"
PREVIOUS_FILE = "manifest.previous.json"  # replaced by a calibration in place
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"
_CERTAIN = 1e-9  # the inverse of a calibration clips probabilities to [_CERTAIN, 1 - _CERTAIN]
_MAX_WEIGHT = 1e6  # bound of every fitted value; NaN fails the comparison, too
REQUIRED_FILES = (MODEL_FILE, TOKENIZER_FILE)


class RouterModelError(Exception):
    """The router model cannot be used; the message says which file and why."""


class HeadCalibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """p = sigmoid(logit / temperature + bias), for one head (Guo et al. 2017, with a bias)."""

    temperature: float = 1.0
    bias: float = 0.0

    def probability(self, logit: float) -> float:
        """The calibrated probability of a good answer (7 or more of 10)."""
        return sigmoid(logit / self.temperature + self.bias)

    def logit(self, probability: float) -> float:
        """The inverse of `probability`. Finite for 0 and 1, too."""
        p = min(max(probability, _CERTAIN), 1.0 - _CERTAIN)
        return (math.log(p / (1.0 - p)) - self.bias) * self.temperature


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the two heads' logits to the served score, fitted on validation.

    margin = p_local - cloud_weight * p_cloud ranks the prompts; score = sigmoid(slope * margin +
    intercept) is P(the local answer is at least as good as the cloud's). `slope` is positive, so
    the score keeps the order.
    """

    local: HeadCalibration
    cloud: HeadCalibration
    cloud_weight: float
    slope: float
    intercept: float

    def score(self, p_local: float, p_cloud: float) -> float:
        """P(local at least as good as cloud) from the two calibrated probabilities."""
        return sigmoid(self.slope * (p_local - self.cloud_weight * p_cloud) + self.intercept)

    def logits(self, p_local: float, p_cloud: float) -> tuple[float, float]:
        """The two heads' logits behind the calibrated probabilities."""
        return self.local.logit(p_local), self.cloud.logit(p_cloud)


class Gain(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gain per dollar needs besides the calibration (`router_model.value`).

    Attributes:
        length: the natural logarithm of the cloud answer's tokens: intercept, and the weights of
            log(tokens of the scored text), local, cloud and length logit. The last one is 0 if the
            network has only two outputs.
        input_tokens, output_tokens: means of the calibration prompts, the reference request.
        scale: of the gain per relative cost. A median request has a merit of about 0.5.
    """

    length: tuple[float, float, float, float, float]
    input_tokens: float
    output_tokens: float
    scale: float

    def problem(self) -> str | None:
        """What is invalid; None if nothing is."""
        positive = (self.input_tokens, self.output_tokens, self.scale)
        if not all(abs(value) < _MAX_WEIGHT for value in (*self.length, *positive)):
            return f"gain has a value that is not within ±{_MAX_WEIGHT:g}"
        if min(positive) < 1 / _MAX_WEIGHT:
            return "gain.input_tokens, gain.output_tokens and gain.scale must be positive"
        return None


class OperatingPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The effect of a threshold on the validation prompts, or on the calibration traffic.

    `cost_share`: dollars as a share of sending everything to the cloud. `quality_share`: share of
    the local-to-cloud quality gap recovered (PGR). `local_share`: share of prompts routed to the
    local tier. Intervals: 95 %, low and high.
    """

    threshold: float
    cost_share: float
    cost_interval: tuple[float, float]
    quality_share: float
    quality_interval: tuple[float, float]
    local_share: float


class ThresholdTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Thresholds for one objective; `Manifest` has the same fields."""

    threshold: float
    threshold_why: str
    thresholds: list[OperatingPoint]


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distributions of the prompts that the router was fitted to; `drift` compares traffic with it.

    `rows`: number of prompts. `scores`: shares in equal bands of the served score, from 0 to 1.
    `categories`: shares by category (router_model.categories).
    """

    rows: int
    scores: list[float]
    categories: dict[str, float]


class Manifest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """Everything about a router model but its weights. `thresholds` ascends by threshold.

    Models of older versions have no `reference` and no `gain`. With `gain` the thresholds are for
    the merit, and `by_score` has those for the score. `verification` is fitted to judged pairs with
    evidence, for the objective of the thresholds (`hybrid-llm calibrate`).
    """

    version: str
    created_at: str
    base: str
    max_length: int
    local_model: str
    cloud_model: str
    calibration: Calibration
    threshold: float
    threshold_why: str
    thresholds: list[OperatingPoint]
    data_sha256: str
    files: dict[str, str]
    metrics: dict[str, Any]
    reference: Reference | None = None
    gain: Gain | None = None
    by_score: ThresholdTable | None = None
    verification: Verification | None = None

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read and check `folder`/manifest.json. Raises RouterModelError."""
        path = folder / MANIFEST_FILE
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise RouterModelError(
                f"no router model in {folder}: {MANIFEST_FILE} is missing"
            ) from None
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise RouterModelError(f"{path}: {error}") from error
        manifest.check(path)
        return manifest

    def save(self, folder: Path) -> None:
        """Write `folder`/manifest.json atomically, with indentation."""
        partial = folder / f"{MANIFEST_FILE}.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        partial.replace(folder / MANIFEST_FILE)

    def for_objective(self, objective: Literal["gain_per_usd", "score"]) -> "Manifest":
        """The manifest for a router that ranks by this objective (`routing.objective`)."""
        if objective == "gain_per_usd" or self.gain is None:
            return self
        # The band of the verification is one of merits.
        ranked = msgspec.structs.replace(self, gain=None, by_score=None, verification=None)
        if self.by_score is None:
            return ranked
        values = {name: getattr(self.by_score, name) for name in ThresholdTable.__struct_fields__}
        return msgspec.structs.replace(ranked, **values)

    def threshold_for_cost(self, cost_share: float) -> float:
        """The highest threshold that costs at most `cost_share` of all-cloud on validation."""
        fitting = [p.threshold for p in self.thresholds if p.cost_share <= cost_share]
        return max(fitting, default=0.0)

    def threshold_for_quality(self, quality_share: float) -> float:
        """The lowest threshold recovering at least `quality_share` of the gap on validation.

        1.0 (almost everything goes to the cloud) if no row of the table does.
        """
        fitting = [p.threshold for p in self.thresholds if p.quality_share >= quality_share]
        return min(fitting, default=1.0)

    def check(self, path: Path) -> None:
        """Raise RouterModelError, naming `path`, for an invalid value."""
        missing = [name for name in REQUIRED_FILES if name not in self.files]
        if missing:
            raise RouterModelError(f"{path}: files lacks {', '.join(missing)}")
        for name in self.files:
            if name in {"", ".", ".."} or Path(name).name != name:
                raise RouterModelError(
                    f"{path}: files names {name!r}, which is not a plain file name"
                )
        if not 8 <= self.max_length <= 512:
            raise RouterModelError(f"{path}: max_length {self.max_length} is not within 8..512")
        tables: list[Manifest | ThresholdTable] = [
            self,
            *([self.by_score] if self.by_score else []),
        ]
        points = [point.threshold for table in tables for point in table.thresholds]
        for threshold in (*(table.threshold for table in tables), *points):
            if not 0.0 <= threshold <= 1.0:
                raise RouterModelError(f"{path}: threshold {threshold} is not within 0..1")
        calibration = self.calibration
        values = (
            *msgspec.structs.astuple(calibration.local),
            *msgspec.structs.astuple(calibration.cloud),
            *(calibration.cloud_weight, calibration.slope, calibration.intercept),
        )
        if not all(abs(value) < _MAX_WEIGHT for value in values):
            raise RouterModelError(f"{path}: calibration has a value not within ±{_MAX_WEIGHT:g}")
        positive = (calibration.slope, calibration.local.temperature, calibration.cloud.temperature)
        if min(positive) < 1 / _MAX_WEIGHT:
            raise RouterModelError(f"{path}: calibration slope and temperatures must be positive")
        if self.reference is not None and (self.reference.rows < 1 or not self.reference.scores):
            raise RouterModelError(f"{path}: reference has no prompts")
        if self.gain is not None and (problem := self.gain.problem()) is not None:
            raise RouterModelError(f"{path}: {problem}")
        if self.verification is not None and (problem := self.verification.problem()) is not None:
            raise RouterModelError(f"{path}: {problem}")
