"""The models that a replica has loaded, and the loads that the proxy has started.

A server that loads models on demand may need minutes for it, and some abort the load when the
client that caused it disconnects. So the proxy loads a model by a request of its own, which ends
with no client and has no slot of the tier. A server without a list of its loaded models counts as
having all of them loaded.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol

from proxy.addresses import join_url, without_version
from proxy.protocol.model_servers import MODEL_SERVERS, ModelServer
from proxy.protocol.ollama import shortest_name

logger = logging.getLogger(__name__)

# Ollama gives up a load after OLLAMA_LOAD_TIMEOUT without progress, 5 minutes by default.
LOAD_SECONDS: Final = 600.0
FIRST_LOAD_PAUSE_SECONDS: Final = 10.0
MAX_LOAD_PAUSE_SECONDS: Final = 600.0
_MAX_ERROR_CHARS: Final = 300  # of a server's message in the log


class Send(Protocol):
    """Sends a small request to a server."""

    def __call__(
        self, method: str, url: str, body: bytes = b"", *, seconds: float = ...
    ) -> Awaitable[tuple[int, bytes] | None]:
        """The status and the body of the response; None without one in time."""


class _Failure(NamedTuple):
    """A failed load. It is not repeated before `until`, after `seconds` of pause.

    Attributes:
        is_refusal: whether the server refused the request. It then refuses a client's at once, too,
            so that requests may pass.
    """

    until: float
    seconds: float
    is_refusal: bool


class RunningModels:
    """The loaded models of one replica.

    Args:
        tier: its name, for the log.
        base_url: of the replica.
        send: sends a request to it.
        load_seconds: the time limit of a load.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        tier: str,
        base_url: str,
        *,
        send: Send,
        load_seconds: float = LOAD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = f"{tier} upstream {base_url}"
        self._root = without_version(base_url)
        self._send = send
        self._load_seconds = load_seconds
        self._clock = clock
        self._server: ModelServer | None = None
        self._listed: frozenset[str] | None = None  # by `shortest_name`; None: unknown
        self._unlisted: set[str] = set()  # models that work and are not listed, such as aliases
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, _Failure] = {}  # the last one of each model

    def is_cold(self, model: str) -> bool:
        """Whether the model is known not to be loaded, so that a request would wait for it."""
        if model in self._loads:
            return True
        if self._listed is None or model in self._unlisted or self._lists(model):
            return False
        failure = self._failures.get(model)
        return failure is None or not failure.is_refusal or self._clock() >= failure.until

    def is_loading(self, model: str) -> bool:
        """Whether a load of the proxy is in progress."""
        return model in self._loads

    def load(self, model: str) -> asyncio.Task[None] | None:
        """The load of a cold model, started unless it runs. None after a failure, for a pause."""
        task = self._loads.get(model)
        if task is not None:
            return task
        failure = self._failures.get(model)
        if failure is not None and self._clock() < failure.until:
            return None
        task = self._loads[model] = asyncio.create_task(self._load(model))
        return task

    async def detect(self) -> None:
        """Find the kind of the server, and read its list."""
        for server in (self._server, *MODEL_SERVERS):
            if server is not None and (listed := await self._read(server)) is not None:
                self._server = server
                self._take(listed)
                return
        self._server, self._listed = None, None

    async def refresh(self) -> None:
        """Read the list of a known kind of server. Without an answer nothing is known."""
        if self._server is None:
            return
        listed = await self._read(self._server)
        if listed is None:
            self._listed = None
        else:
            self._take(listed)

    async def close(self) -> None:
        """Abort the loads."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _lists(self, model: str) -> bool:
        return self._listed is not None and shortest_name(model) in self._listed

    def _take(self, listed: frozenset[str]) -> None:
        self._listed = frozenset(map(shortest_name, listed))
        self._unlisted -= {model for model in self._unlisted if self._lists(model)}

    async def _read(self, server: ModelServer) -> frozenset[str] | None:
        response = await self._send("GET", join_url(self._root, server.list_path))
        return server.read(response[1]) if response is not None and response[0] == 200 else None

    async def _load(self, model: str) -> None:
        try:
            assert self._server is not None  # else no model is cold
            started = self._clock()
            logger.info("%s: loading %s", self._name, model)
            response = await self._send(
                "POST",
                join_url(self._root, self._server.load_path),
                self._server.load_body(model),
                seconds=self._load_seconds,
            )
            if response is None or not 200 <= response[0] < 300:
                self._note_failure(model, response)
                return
            logger.info("%s: loaded %s in %.0f s", self._name, model, self._clock() - started)
            self._failures.pop(model, None)
            # The list may have the model under another name, or leave out models of this kind.
            await self.refresh()
            if not self._lists(model):
                self._unlisted.add(model)
        except Exception:  # a bug must not fail requests, nor repeat the load without a pause
            logger.exception("%s: loading %s failed", self._name, model)
            self._note_failure(model, None)
        finally:
            del self._loads[model]

    def _note_failure(self, model: str, response: tuple[int, bytes] | None) -> None:
        """Log a failed load, and pause: twice as long as after the failure before."""
        last = self._failures.get(model)
        seconds = (
            min(2 * last.seconds, MAX_LOAD_PAUSE_SECONDS) if last else FIRST_LOAD_PAUSE_SECONDS
        )
        is_refusal = response is not None and 400 <= response[0] < 500
        self._failures[model] = _Failure(self._clock() + seconds, seconds, is_refusal)
        why = "no answer"
        if response is not None:
            words = response[1][:_MAX_ERROR_CHARS].decode(errors="replace")
            why = f"status {response[0]}: {words}"
        logger.warning(
            "%s: loading %s failed, next attempt after %g s: %s", self._name, model, seconds, why
        )
