"""`routing.threshold` in the configuration file: its state, and its changes by admins.

A change ends after the proxy has reloaded the file. If the proxy refuses the new file, or the
change cannot be recorded in the audit log, the old file is restored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from proxy.config import Config, ConfigError
from proxy.config_file import (
    KEY,
    Edit,
    FileChanged,
    NotEditable,
    plan_edit,
    read_setting,
    why_not_writable,
    write_edit,
)
from proxy.errors import Conflict, RouterError, Unavailable
from proxy.gateway import Gateway
from proxy.storage import AuditLog
from proxy.web.blocking import ask

APPLY: Final = "threshold.apply"
UNDO: Final = "threshold.undo"

ReloadFile = Callable[[], Awaitable[str | None]]


class ThresholdSetting:
    """`routing.threshold` in the configuration file, and its changes."""

    def __init__(
        self, gateway: Gateway, audit: AuditLog, *, path: Path | None, reload: ReloadFile
    ) -> None:
        self._gateway = gateway
        self._audit = audit
        self._path = path
        self._reload = reload
        self._changing = asyncio.Lock()

    async def describe(self) -> dict[str, Any]:
        """The threshold in use, whether it can be changed, and its last change."""
        snapshot = self._gateway.snapshot
        current = self._gateway.paced_threshold(snapshot)
        value, sha256, problem = await asyncio.to_thread(self._read)
        changes = await ask(lambda: self._audit.newest(limit=1, actions=(APPLY, UNDO)))
        last = None
        if changes:
            change = changes[0]
            old, new = change.details.get("old"), change.details.get("new")
            last = {
                "at": change.created_at,
                "by": change.actor and snapshot.keys.name_of(change.actor),
                "action": change.action,
                "old": old,
                "new": new,
                "can_undo": problem is None and value == new,
            }
        return {
            "threshold": current,
            "configured": snapshot.router.threshold,
            "setting": snapshot.config.routing.threshold,
            "is_paced": current < snapshot.router.threshold,
            "file": None if self._path is None else self._path.name,
            "problem": problem,
            "value": value,
            "sha256": sha256,
            "last": last,
        }

    def _read(self) -> tuple[str | None, str | None, str | None]:
        """The value in the file, the hash of the file, and why it cannot be changed. Blocks."""
        problem = why_not_writable(self._path)
        if self._path is None:
            return None, None, problem
        try:
            return *read_setting(self._path), problem
        except (NotEditable, ConfigError) as error:
            return None, None, problem or str(error)

    async def plan(self, value: str) -> Edit:
        """The edit that sets a value. Raises Conflict."""
        path = self._path
        if path is None:
            raise _not_editable(why_not_writable(path) or "")
        try:
            edit = await asyncio.to_thread(plan_edit, path, value, running=self._config)
        except NotEditable as error:
            raise _not_editable(str(error)) from None
        except ConfigError as error:
            raise _not_editable(f"The file is not valid: {error}.") from None
        if edit.before == edit.after:
            raise Conflict(f"{KEY} is {value} already.", param="threshold", code="no_change")
        return edit

    async def value_before(self) -> str:
        """The value before the last change. Raises Conflict, also if the file was edited since."""
        changes = await ask(lambda: self._audit.newest(limit=1, actions=(APPLY, UNDO)))
        if not changes:
            raise Conflict("There is no change to undo.", code="nothing_to_undo")
        value, _, problem = await asyncio.to_thread(self._read)
        if problem is None and value != changes[0].details.get("new"):
            raise Conflict(
                f"{KEY} was edited after the last change here, so it is not restored.",
                code="nothing_to_undo",
            )
        return str(changes[0].details.get("old") or "auto")

    async def apply(
        self, value: str, sha256: str, *, actor: str | None, action: str
    ) -> dict[str, Any]:
        """Change the file, and wait until the proxy uses it.

        Raises:
            Conflict: the file has another hash or cannot be changed, or the proxy refused it.
            Unavailable: the change could not be recorded.
        """
        # A caller that disconnects must not leave a change half done.
        return await asyncio.shield(
            asyncio.ensure_future(self._apply(value, sha256, actor=actor, action=action))
        )

    async def _apply(
        self, value: str, sha256: str, *, actor: str | None, action: str
    ) -> dict[str, Any]:
        async with self._changing:
            edit = await self.plan(value)
            if edit.sha256 != sha256:
                raise _changed()
            await _write(edit)
            problem = await self._reload()
            if problem is None and not self._uses(value):
                problem = f"another value of {KEY} is in use."
            if problem is not None:
                await self._restore(edit)
                raise Conflict(
                    f"The proxy refused the new configuration, so the old one was restored: "
                    f"{problem}",
                    code="reload_refused",
                )
            details = {
                "old": edit.old,
                "new": edit.new,
                "file": edit.path.name,
                "sha256": edit.reversed().sha256,
            }
            try:
                await ask(lambda: self._audit.add(action, KEY, actor=actor, details=details))
            except Unavailable:
                await self._restore(edit)
                raise
        return await self.describe()

    async def _restore(self, edit: Edit) -> None:
        try:
            await asyncio.to_thread(write_edit, edit.reversed())
        except FileChanged:  # by somebody else, whose version counts
            return
        except NotEditable as error:
            raise Conflict(
                f"The old configuration could not be restored: {error}", code="restore_failed"
            ) from None
        await self._reload()

    @property
    def _config(self) -> Config:
        return self._gateway.snapshot.config

    def _uses(self, value: str) -> bool:
        setting = self._config.routing.threshold
        return setting == (value if value == "auto" else float(value))


async def _write(edit: Edit) -> None:
    try:
        await asyncio.to_thread(write_edit, edit)
    except FileChanged:
        raise _changed() from None
    except NotEditable as error:
        raise _not_editable(str(error)) from None


def _not_editable(problem: str) -> RouterError:
    return Conflict(problem, code="configuration_not_editable")


def _changed() -> RouterError:
    return Conflict(
        "The configuration file was changed since the preview. Look at the new difference first.",
        code="configuration_changed",
    )
