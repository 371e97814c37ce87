"""Several processes behind one port: starts them, starts again what dies, stops them in good order.

    Workers(config, command=[…]).run()

Each worker is a whole proxy of its own (`hybrid-llm serve`, told by its environment that it is one)
and takes connections from the socket that this process has opened. This process answers nothing.
Counts for /metrics are kept in files of a folder, by which whichever worker is scraped adds all up.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Final, NamedTuple

from prometheus_client.multiprocess import mark_process_dead

from proxy.config import Config

logger = logging.getLogger(__name__)

# The environment of a worker.
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own
_SOCKET_VARIABLE: Final = "HYBRID_LLM_WORKER_SOCKET"
_LIFELINE_VARIABLE: Final = "HYBRID_LLM_WORKER_LIFELINE"
_NUMBER_VARIABLE: Final = "HYBRID_LLM_WORKER"

_BACKLOG: Final = 2048  # as uvicorn has it
_LOOK_SECONDS: Final = 0.2
# A worker that ends this soon after its start would do so again.
_TOO_SOON_SECONDS: Final = 5.0
_MAX_TOO_SOON: Final = 3


class WorkerSlot(NamedTuple):
    """What a worker finds in its environment.

    Attributes:
        number: from 0.
        socket: listens already.
        lifeline: a pipe that ends when the process that started it does.
    """

    number: int
    socket: socket.socket
    lifeline: int


def is_worker() -> bool:
    """Whether this process is one of several."""
    return _NUMBER_VARIABLE in os.environ


def worker_slot() -> WorkerSlot | None:
    """Where this process works, if it is a worker. To be called once: the socket is then its."""
    if not is_worker():
        return None
    listening = socket.socket(fileno=int(os.environ[_SOCKET_VARIABLE]))
    number, lifeline = (int(os.environ[name]) for name in (_NUMBER_VARIABLE, _LIFELINE_VARIABLE))
    return WorkerSlot(number, listening, lifeline)


class _Worker:
    """One process, and when it was started."""

    def __init__(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.number = number
        self.process = process
        self.started = time.monotonic()


class Workers:
    """The workers of one server. Run it in the main thread.

    Args:
        command: what a worker is started by.
    """

    def __init__(self, config: Config, *, command: Sequence[str]) -> None:
        self._config = config
        self._command = command
        self._workers: list[_Worker] = []
        self._signals: list[int] = []
        self._stopping = False
        self._too_soon = 0

    def run(self) -> int:
        """Serve until told to stop; returns the exit status. Raises OSError for a bad address."""
        with (
            _listening(self._config) as listening,
            tempfile.TemporaryDirectory(prefix="hybrid-llm-") as counts,
            _lifeline() as lifeline,
            self._signals_noted(),
        ):
            passed = {
                METRICS_VARIABLE: counts,
                _SOCKET_VARIABLE: str(listening.fileno()),
                _LIFELINE_VARIABLE: str(lifeline),
            }
            for number in range(self._config.server.workers):
                self._workers.append(self._start(number, passed))
            while self._workers:
                self._pass_on_signals()
                if self._stopping:
                    listening.close()  # else it would go on taking what no worker answers any more
                self._look_after(passed)
                time.sleep(_LOOK_SECONDS)
        return 1 if self._too_soon >= _MAX_TOO_SOON else 0

    def _start(self, number: int, passed: dict[str, str]) -> _Worker:
        environment = {**os.environ, **passed, _NUMBER_VARIABLE: str(number)}
        process = subprocess.Popen(  # noqa: S603 -- this program itself
            self._command,
            env=environment,
            pass_fds=[int(passed[_SOCKET_VARIABLE]), int(passed[_LIFELINE_VARIABLE])],
            # Ctrl-C reaches all of a terminal's processes; they are to be told by this one only.
            start_new_session=True,
        )
        return _Worker(number, process)

    def _look_after(self, passed: dict[str, str]) -> None:
        """Start anew what has ended without being told to."""
        for worker in list(self._workers):
            status = worker.process.poll()
            if status is None:
                continue
            self._workers.remove(worker)
            mark_process_dead(worker.process.pid, passed[METRICS_VARIABLE])
            if self._stopping:
                continue
            logger.error("worker %d has ended with status %d", worker.number, status)
            if time.monotonic() - worker.started < _TOO_SOON_SECONDS:
                self._too_soon += 1
            else:
                self._too_soon = 0
            if self._too_soon >= _MAX_TOO_SOON:
                logger.error("workers do not start; stopping")
                self._tell(signal.SIGTERM)
                continue
            self._workers.append(self._start(worker.number, passed))

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP"):
            numbers.append(signal.SIGHUP)

        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on_signals(self) -> None:
        """To the workers: stop (a second time: at once), or read the configuration again."""
        while self._signals:
            self._tell(self._signals.pop(0))

    def _tell(self, number: int) -> None:
        self._stopping = self._stopping or number in (signal.SIGINT, signal.SIGTERM)
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)


@contextlib.contextmanager
def _listening(config: Config) -> Iterator[socket.socket]:
    server = config.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.create_server((server.host, server.port), family=family, backlog=_BACKLOG) as one:
        yield one


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The end of a pipe that workers hold; the other end is closed when this process is gone."""
    held, kept = os.pipe()
    try:
        yield held
    finally:
        os.close(held)
        os.close(kept)
