"""Replace the calibration in use, and undo it: the manifest in the folder, and the record of it."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.config import Config
from proxy.learning.records import LearningRecords
from proxy.learning.steps import LearningStep, Models
from router_model.manifest import Manifest
from router_model.model import RouterModelError, copy_model, replace_calibration

logger = logging.getLogger(__name__)


class NothingToChange(Exception):
    """There is no fit to activate, or no activation to undo. The message says why."""


@contextmanager
def own_model(config: Config) -> Iterator[Path]:
    """The folder of the router model, which no other step on this machine changes meanwhile.

    The bundled model is copied to `routing.model_path` first, where it can be changed.
    """
    folder = Path(config.routing.model_path)
    folder.mkdir(parents=True, exist_ok=True)
    directory = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        used = config.routing.model_folder  # another process may just have copied it
        if used != folder:
            copy_model(Manifest.load(used), used, folder)
        yield folder
    finally:
        os.close(directory)


def put_in_place(records: LearningRecords, step_id: int, manifest: Manifest, folder: Path) -> None:
    """Replace the manifest, as step `step_id` says.

    The record comes first, so that no router is in use that it does not know.

    Raises:
        RouterModelError, OSError: the manifest cannot be replaced. The step is marked as failed.
    """
    try:
        replace_calibration(manifest, folder)
    except (OSError, RouterModelError) as error:
        records.revoke(step_id, why=f"the router model cannot be replaced: {error}")
        raise


def activate(records: LearningRecords, config: Config) -> Manifest:
    """Activate the newest fit, if it is suggested.

    Raises:
        NothingToChange: there is none, or it belongs to another router or other models.
        RouterModelError, OSError: the router model cannot be changed.
    """
    models = Models.of(config)
    fits = [step for step in records.steps() if step.kind == "fit" and step.state == "done"]
    step = fits[-1] if fits else None
    if step is None or step.decision != "suggested" or not step.models.is_same_pair(models):
        raise NothingToChange("no fit of the configured models is suggested")
    manifest = records.manifest(step.id)
    with own_model(config) as folder:
        current = Manifest.load(folder)
        if manifest is None or current.version != step.version_before:
            raise NothingToChange(
                f"step {step.id} was tested against {step.version_before}, and the router in use "
                f"is {current.version}"
            )
        number = records.add(
            "activation", models, decision="activated", why=f"the fit of step {step.id}",
            manifest=manifest, previous=current, cost_share=step.cost_share,
        )  # fmt: skip
        put_in_place(records, number, manifest, folder)
    return manifest


def roll_back(records: LearningRecords, config: Config) -> Manifest:
    """Undo the activation of the router in use. Repeated, it undoes earlier activations.

    Raises:
        NothingToChange: the router in use was not activated by self-calibration.
        RouterModelError, OSError: the router model cannot be changed.
    """
    with own_model(config) as folder:
        current = Manifest.load(folder)
        step = activation_of(records.steps(), current.version)
        manifest = records.previous(step.id) if step is not None else None
        if step is None or manifest is None:
            raise NothingToChange(
                f"the router in use, {current.version}, was not activated by self-calibration"
            )
        number = records.add(
            "rollback", Models.of(config), decision="rolled_back",
            why=f"undoes step {step.id}", manifest=manifest, previous=current,
        )  # fmt: skip
        put_in_place(records, number, manifest, folder)
    return manifest


def activation_of(steps: list[LearningStep], version: str) -> LearningStep | None:
    """The step that activated this version."""
    found = [step for step in steps if step.decision == "activated" and step.version == version]
    return found[-1] if found else None


def changes_of(steps: list[LearningStep]) -> list[LearningStep]:
    """The steps that replaced the router, in the order in which they did."""
    changes = [step for step in steps if step.decision in ("activated", "rolled_back")]
    return sorted(changes, key=lambda step: (step.ended_at or 0.0, step.id))


def follow(
    records: LearningRecords,
    config: Config,
    *,
    steps: list[LearningStep],
    known: frozenset[int],
) -> frozenset[int]:
    """Use what another machine on the same database has activated or rolled back.

    If the records do not contain the router in use, this machine has a different one. It is kept.

    Args:
        steps: all on record.
        known: the changes that were made before this process started or followed last. A fit has
            its number long before it is activated, so the newest number does not tell.

    Returns:
        The changes that are known now.
    """
    changes = changes_of(steps)
    news = [step for step in changes if step.id not in known]
    if not news:
        return known
    newest = news[-1]
    with own_model(config) as folder:
        current = Manifest.load(folder)
        manifest = records.manifest(newest.id)
        if manifest is not None and current.version != newest.version:
            if current.version in {step.version_before for step in changes}:
                replace_calibration(manifest, folder)
            else:
                logger.warning(
                    "the router in use, %s, stays: step %d on another machine replaced %s",
                    current.version,
                    newest.id,
                    newest.version_before,
                )
    return known | {step.id for step in news}
