"""Configuration reload without interrupting requests.

A reload builds a new snapshot and then replaces the current one. Running requests finish on the old
snapshot. Unchanged parts are reused: a tier keeps its connections, slots and state, and the router
model its session.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from proxy.config import Config, ConfigError, StorageConfig, load_config, pricing_path
from proxy.gateway import Gateway, Snapshot
from proxy.record import Target
from proxy.routing import Scorer
from proxy.server.background import BackgroundTasks
from proxy.server.models import LoadedModels, ModelLoader, warn_of_mismatches
from proxy.upstream import Upstream
from router_model.manifest import MANIFEST_FILE
from router_model.model import RouterModelError

logger = logging.getLogger(__name__)

# The settings that take effect only after a restart.
_FIXED: Final = (
    *(f"server.{name}" for name in ("host", "port", "workers", "cors_origins")),
    "server.shutdown_grace_seconds",
    *(f"storage.{name}" for name in StorageConfig.__struct_fields__),
)

Signature = list[tuple[int, int, int] | None]
BuildSnapshot = Callable[[Config, LoadedModels, Snapshot | None], Snapshot]


class Reloader:
    """Replaces the gateway's snapshot when the configuration changes.

    Attributes:
        models: the router models in use.
        succeeded: whether the configuration in the file is the one in use.
        problem: why it is not; None if it is.
        retired: replaced parts that running requests may still use.

    Args:
        path: the configuration file; None when there is nothing to reload.
        models: those of the gateway's snapshot.
        loader: loads models for a new configuration.
        build: makes a snapshot; the third argument is the snapshot to reuse parts of.
        tasks: runs the closing of replaced parts.
        on_change: called after each swap.
    """

    def __init__(
        self,
        gateway: Gateway,
        models: LoadedModels,
        *,
        path: Path | None,
        loader: ModelLoader,
        build: BuildSnapshot,
        tasks: BackgroundTasks,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self.models = models
        self.succeeded = True
        self.problem: str | None = None
        self.retired: set[Upstream | Scorer] = set()
        self._gateway = gateway
        self._path = path
        self._loader = loader
        self._build = build
        self._tasks = tasks
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._first_config: Config | None = None  # of the file at the start, without options
        self._loaded_signature: Signature = []  # of the files when they were last read
        self._last_signature: Signature = []  # of the files when they were last looked at

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._gateway.snapshot.config

    async def reload(self) -> bool:
        """Apply the configuration in the file. After an error the old one stays in use.

        Returns whether the configuration in the file is in use now.
        """
        assert self._path is not None
        async with self._lock:
            self._loaded_signature = self._signature()  # before reading: a later edit counts
            old, old_models = self._gateway.snapshot, self.models
            try:
                config = await self._load_config(self._path, old.config)
                models = await self._loader.reload(config, running=old.config, loaded=old_models)
                snapshot = self._build(config, models, old)
            except (ConfigError, RouterModelError) as error:
                logger.error("reload failed, the previous configuration stays in use: %s", error)
                self.succeeded, self.problem = False, str(error)
                return False
            except Exception:  # a bug must not stop the file watch
                logger.exception("reload failed, the previous configuration stays in use")
                self.succeeded, self.problem = False, "the log has the error"
                return False
            if (local := snapshot.upstreams[Target.LOCAL]) not in old.upstreams.values():
                await local.refresh()
            self._gateway.snapshot, self.models = snapshot, models
            replaced: set[Upstream | Scorer] = set()
            replaced |= set(old.upstreams.values()) - set(snapshot.upstreams.values())
            replaced |= old_models.scorers - models.scorers
            self._retire(replaced, after_seconds=old.config.server.request_timeout_seconds)
            self.succeeded, self.problem = True, None
            await self._on_change()
            logger.info("the configuration in %s is in use", self._path)
            for warning in config.warnings():
                logger.warning("%s: %s", self._path, warning)
            if models.router.manifest is not None:
                warn_of_mismatches(models.router.manifest, config)
            return True

    async def apply_file(self) -> str | None:
        """Apply the configuration in the file now. Returns why it is refused, or None."""
        return None if await self.reload() else self.problem

    def reload_soon(self) -> None:
        """Start a reload, for instance from a signal handler. Call it on the event loop."""
        if self._path is None:
            logger.warning("reload requested, but there is no configuration file")
        else:
            self._tasks.start(self.reload())

    def remember_files(self) -> None:
        """Record the current files as those in use."""
        assert self._path is not None
        with contextlib.suppress(ConfigError):
            self._first_config = load_config(self._path)
        self._last_signature = self._loaded_signature = self._signature()

    async def check_files(self) -> None:
        """Reload when a file has changed and was then unchanged for one check.

        Editors write in steps, so a file may still be changing.
        """
        signature = self._signature()
        if signature == self._last_signature and signature != self._loaded_signature:
            await self.reload()
        self._last_signature = signature

    def has_changes(self) -> bool:
        """Whether the files differ from those that were read last."""
        return self._signature() != self._loaded_signature

    def count_in_flight(self, target: Target) -> int:
        """A tier's running requests, those on replaced upstreams included."""
        upstreams = {self._gateway.snapshot.upstreams[target]}
        upstreams |= {part for part in self.retired if isinstance(part, Upstream)}
        return sum(item.count_in_flight() for item in upstreams if item.name == target.value)

    async def close(self) -> None:
        """Close every part, in use or retired."""
        in_use = set(self._gateway.snapshot.upstreams.values())
        for part in (*self.retired, *in_use, *self.models.scorers):
            await _close(part)

    async def _load_config(self, path: Path, running: Config) -> Config:
        server = running.server
        config = await asyncio.to_thread(load_config, path, host=server.host, port=server.port)
        config = _keep_fixed(_check_keys(config, running, path), running)
        with contextlib.suppress(ConfigError):  # valid with the options of the start only
            file = await asyncio.to_thread(load_config, path)
            for warning in _pending_changes(file, running, self._first_config):
                logger.warning("%s: %s", path, warning)
        return config

    def _retire(self, parts: set[Upstream | Scorer], *, after_seconds: float) -> None:
        """Close replaced parts once the last request that may use them is over."""

        async def close() -> None:
            await asyncio.sleep(after_seconds)
            for part in parts:
                self.retired.discard(part)
                await _close(part)

        if parts:
            self.retired |= parts
            self._tasks.start(close())

    def _signature(self) -> Signature:
        """The signature of the configuration, its variables, prices and router models."""
        assert self._path is not None
        routing = self.config.routing
        manifests = [routing.model_folder / MANIFEST_FILE]
        if routing.shadow_router is not None:
            manifests.append(Path(routing.shadow_router.path, MANIFEST_FILE))
        files = (self._path, Path(".env"), *manifests, pricing_path(self.config, self._path))
        return [_file_signature(file) for file in files if file is not None]


def _check_keys(config: Config, running: Config, path: Path) -> Config:
    """The new configuration, in which no key has lost its protection by accident.

    An editor, a copy or a secret store may leave a file or `.env` cut off or empty for a moment.
    That must not open the proxy, not even with `server.allow_anonymous`.

    Raises:
        ConfigError: the running configuration has API keys, and the new one has none, or has the
            beginning of one in the place of the key.
    """
    before, after = running.server.api_keys, config.server.api_keys
    if before and not after:
        raise ConfigError(
            f"{path}: server.api_keys: there are no API keys any more; removing all keys takes a "
            "restart"
        )
    known = {item.key: item for item in before}
    for index, item in enumerate(after):
        is_new = item.key not in known
        if is_new and any(old.reveal().startswith(item.key.reveal()) for old in known):
            raise ConfigError(
                f"{path}: server.api_keys[{index}]: the key is the beginning of one in use, so the "
                "file may be cut off; a shorter key takes a restart"
            )
    for index, item in enumerate(after):
        for name in ("cloud_usd_per_day", "requests_per_minute"):
            if getattr(item, name) is None and getattr(known.get(item.key), name, None) is not None:
                logger.warning("%s: server.api_keys[%d] has no %s any more", path, index, name)
    plain = {
        item.key for item in before if not (len(before) == 1 if item.admin is None else item.admin)
    }
    if len(after) == 1 and after[0].admin is None and after[0].key in plain:
        logger.warning(
            "%s: server.api_keys: the only key left becomes an admin key after a restart, or with "
            "`admin: true`",
            path,
        )
        keys = (msgspec.structs.replace(after[0], admin=False),)
        server = msgspec.structs.replace(config.server, api_keys=keys)
        return msgspec.structs.replace(config, server=server)
    return config


def _pending_changes(file: Config, running: Config, first: Config | None) -> Iterator[str]:
    """The changed settings that take effect only after a restart.

    Args:
        file: the configuration in the file, without options.
        first: the same at the start. A value that an option such as --port replaces is no change.
    """
    changed, before, after = [], [], []
    for key in _FIXED:
        section, _, name = key.partition(".")
        old, new = getattr(getattr(running, section), name), getattr(getattr(file, section), name)
        if new != old and (first is None or new != getattr(getattr(first, section), name)):
            changed.append(key)
            if key != "storage.url":  # a misplaced password may be in any part of it
                before.append(_shown(old))
                after.append(_shown(new))
    if changed:
        verb = "takes" if len(changed) == 1 else "take"
        separator = ", " if len(before) == 1 else "; "
        values = f" (running: {', '.join(before)}{separator}file: {', '.join(after)})"
        yield f"{', '.join(changed)}: {verb} effect after a restart{values if before else ''}"


def _shown(value: object) -> str:
    """A value for the log."""
    return f"[{', '.join(value)}]" if isinstance(value, tuple) else str(value)


def _keep_fixed(config: Config, running: Config) -> Config:
    """The new configuration with the running values of settings that need a restart."""
    fixed = [key.removeprefix("server.") for key in _FIXED if key.startswith("server.")]
    server = msgspec.structs.replace(
        config.server, **{name: getattr(running.server, name) for name in fixed}
    )
    return msgspec.structs.replace(config, server=server, storage=running.storage)


async def _close(part: Upstream | Scorer) -> None:
    if isinstance(part, Scorer):
        part.close()
    else:
        await part.close()


def _file_signature(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError, ValueError):
        stat = path.stat()  # follows links, such as those of a mounted ConfigMap
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None
