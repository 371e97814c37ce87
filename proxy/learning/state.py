"""What is calibrated for the configured models, what is collected, and the last step."""

from typing import Any, Final, NamedTuple

from proxy.config import Config
from proxy.evaluation import changed_model
from proxy.learning.activation import activation_of
from proxy.learning.records import LearningRecords
from proxy.learning.steps import LearningStep, Models, progress_of
from proxy.protocol.ollama import is_same_model
from router_model.manifest import Manifest

ROLLBACK_COMMAND: Final = "hybrid-llm learn rollback"
_SHOWN_STEPS: Final = 10


class Part(NamedTuple):
    """A fitted part of the router model.

    Attributes:
        models: that it was fitted for; None if the router model does not have the part.
        is_calibrated: whether these are the configured ones.
    """

    name: str
    models: str | None
    is_calibrated: bool


def parts_of(manifest: Manifest, config: Config) -> list[Part]:
    """Calibration, gain per dollar and second look of a router model."""
    tiers = config.upstreams
    of_pair = is_same_model(manifest.local_model, tiers.local.model) and is_same_model(
        manifest.cloud_model, tiers.cloud.model
    )
    pair = f"{manifest.local_model} and {manifest.cloud_model}"
    parts = [
        Part("calibration", pair, of_pair),
        Part("gain per dollar", pair if manifest.gain else None, of_pair and bool(manifest.gain)),
    ]
    look = manifest.verification
    if look is None:
        return [*parts, Part("second look", None, False)]
    names = [look.local_model, look.cloud_model, *([look.second] if look.second else [])]
    return [*parts, Part("second look", " and ".join(names), changed_model(look, config) is None)]


def outdated_parts(manifest: Manifest, config: Config) -> list[Part]:
    """The parts that were fitted for other models than the configured ones."""
    return [part for part in parts_of(manifest, config) if part.models and not part.is_calibrated]


def read_state(
    records: LearningRecords, *, manifest: Manifest | None, config: Config
) -> dict[str, Any]:
    """The state as plain values, for the dashboard and the command line.

    Args:
        manifest: of the router model in use, for the configured objective.
    """
    steps, models = records.steps(), Models.of(config)
    after, needed = progress_of(steps, models)
    new_pairs = records.new_pairs(models, after=after)
    fits = [step for step in steps if step.kind != "models"]
    can_roll_back = manifest is not None and activation_of([*steps], manifest.version) is not None
    return {
        "auto": config.learning.auto,
        "models": models._asdict(),
        "version": None if manifest is None else manifest.version,
        "parts": [] if manifest is None else [p._asdict() for p in parts_of(manifest, config)],
        "new_pairs": new_pairs,
        "pairs_needed": needed,
        "pairs_missing": max(0, needed - new_pairs),
        "is_running": any(step.state == "running" for step in steps),
        "steps": [_plain(step) for step in reversed(fits[-_SHOWN_STEPS:])],
        "rollback": ROLLBACK_COMMAND if can_roll_back else None,
    }


def _plain(step: LearningStep) -> dict[str, Any]:
    names = (
        "id", "created_at", "ended_at", "kind", "state", "version", "pairs", "tested",
        "cost_share", "difference", "low", "high", "level", "decision", "why",
    )  # fmt: skip
    return {name: getattr(step, name) for name in names}
