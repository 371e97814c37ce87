"""Self-calibration beside serving: checks when a fit is due, and runs it in another process.

Every worker checks; the database lets one of them make the step. The process has a lower priority,
and ends when the worker does.
"""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proxy.config import Config
from proxy.experiments import supervised
from proxy.learning import (
    EXPIRY_SECONDS,
    LearningRecords,
    Models,
    changes_of,
    follow,
    outdated_parts,
)
from proxy.server.workers import METRICS_VARIABLE
from proxy.storage import StoreUnavailable
from router_model.manifest import Manifest
from router_model.model import RouterModelError

logger = logging.getLogger(__name__)

STEP_COMMAND: Final = (sys.executable, "-P", "-m", "proxy.cli", "learn", "step")
_STEP_SECONDS: Final = EXPIRY_SECONDS / 2  # a step that takes longer is stopped
_GRACE_SECONDS: Final = 2.0
_MAX_SHOWN_CHARS: Final = 2_000


class LearningMonitor:
    """The self-calibration of one process.

    Args:
        config: the configuration in use.
        manifest: of the router model in use.
        path: the configuration file; without one, no step can be run in a process.
        command: runs a step; `--config` and `--id` follow.
    """

    def __init__(
        self,
        records: LearningRecords,
        *,
        config: Callable[[], Config],
        manifest: Callable[[], Manifest | None],
        path: Path | None,
        command: Sequence[str] = STEP_COMMAND,
    ) -> None:
        self._records = records
        self._config = config
        self._manifest = manifest
        self._path = path
        self._command = command
        # The activations and rollbacks that are in use here, or were when this process started.
        self._known: frozenset[int] | None = None

    async def record_models(self) -> None:
        """Record a change of the models, and log what is not calibrated for them any more."""
        config, manifest = self._config(), self._manifest()
        models = Models.of(config)
        try:
            before = await asyncio.to_thread(
                self._records.record_models,
                models,
                version=manifest.version if manifest is not None else None,
            )
        except StoreUnavailable as error:
            logger.warning("a change of models is not recorded: %s", error)
            return
        if before is None:
            return
        outdated = outdated_parts(manifest, config) if manifest is not None else []
        logger.warning(
            "the models have changed from %s to %s; %s. Judged pairs of the new models are "
            "collected%s",
            _shown(before.models),
            _shown(models),
            "; ".join(f"the {part.name} was fitted to {part.models}" for part in outdated)
            or "no part of the router model is fitted to other models",
            " for the next calibration" if config.learning.auto != "off" else
            ", and `hybrid-llm calibrate --from-db` uses them",
        )  # fmt: skip

    async def check(self) -> None:
        """Use what other machines have activated; make a step if one is due."""
        config, manifest = self._config(), self._manifest()
        if config.learning.auto == "off" or manifest is None or self._path is None:
            return
        try:
            step_id = await asyncio.to_thread(self._claim, config, manifest)
        except (StoreUnavailable, RouterModelError, OSError) as error:
            logger.warning("self-calibration is paused: %s", error)
            return
        if step_id is not None:
            await self._run(step_id)

    def _claim(self, config: Config, manifest: Manifest) -> int | None:
        steps = self._records.steps()
        if self._known is None:
            self._known = frozenset(step.id for step in changes_of(steps))
        self._known = follow(self._records, config, steps=steps, known=self._known)
        return self._records.claim(Models.of(config), version=manifest.version)

    async def _run(self, step_id: int) -> None:
        """Run the step in a process, and log its result."""
        assert self._path is not None
        logger.info("self-calibration: step %d begins", step_id)
        environment = {
            name: value for name, value in os.environ.items() if name != METRICS_VARIABLE
        }
        arguments = [*self._command, f"--config={self._path}", f"--id={step_id}"]
        process = await asyncio.to_thread(
            subprocess.Popen,
            supervised(arguments, grace_seconds=_GRACE_SECONDS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        reading = asyncio.create_task(asyncio.to_thread(_read_output, process))
        try:
            await asyncio.wait([reading], timeout=_STEP_SECONDS)
        finally:
            with contextlib.suppress(OSError):
                process.stdin.close()  # ends the process in every case
            output = await asyncio.shield(reading)
        await asyncio.to_thread(self._report, step_id, process.returncode, output)

    def _report(self, step_id: int, status: int | None, output: bytes) -> None:
        step = self._records.find(step_id)
        if step is not None and step.state == "running":
            text = output.decode(errors="replace").strip()[-_MAX_SHOWN_CHARS:]
            why = f"its process has ended with status {status}: {text}"
            self._records.finish(step_id, decision="rejected", why=why, has_failed=True)
            step = self._records.find(step_id)
        if step is None:
            return
        level = logging.ERROR if step.state == "failed" else logging.INFO
        logger.log(level, "self-calibration: step %d, %s: %s", step_id, step.decision, step.why)


def _read_output(process: "subprocess.Popen[bytes]") -> bytes:
    """What a process prints until it ends."""
    with process:
        assert process.stdout is not None
        return process.stdout.read()


def _shown(models: Models) -> str:
    return " and ".join(name for name in models if name)
