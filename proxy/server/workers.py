"""Supervisor of several worker processes behind one port: starts, restarts and stops them.

    Workers(config, command=[…]).run()

Each worker is a complete proxy (`hybrid-llm serve` with worker variables in its environment). It
accepts connections from a socket that the supervisor opened; the supervisor itself answers nothing.
Workers keep their metrics in files of one folder, and the worker that is scraped sums them.
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

# Environment variables of a worker.
METRICS_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own
_SOCKET_VARIABLE: Final = "HYBRID_LLM_WORKER_SOCKET"
_LIFELINE_VARIABLE: Final = "HYBRID_LLM_WORKER_LIFELINE"
_NUMBER_VARIABLE: Final = "HYBRID_LLM_WORKER"

_BACKLOG: Final = 2048  # uvicorn's default
_POLL_SECONDS: Final = 0.2
# A worker that ends this soon after its start counts as a failed start.
_FAILED_START_SECONDS: Final = 5.0
_MAX_FAILED_STARTS: Final = 3


class WorkerSlot(NamedTuple):
    """The state that a worker inherits from the supervisor.

    Attributes:
        number: from 0.
        socket: already listening.
        lifeline: a pipe that closes when the supervisor ends.
    """

    number: int
    socket: socket.socket
    lifeline: int


def is_worker() -> bool:
    """Whether a supervisor started this process."""
    return _NUMBER_VARIABLE in os.environ


def worker_slot() -> WorkerSlot | None:
    """This worker's slot; None outside a worker. Call it once: the caller owns the socket."""
    if not is_worker():
        return None
    listening = socket.socket(fileno=int(os.environ[_SOCKET_VARIABLE]))
    number, lifeline = (int(os.environ[name]) for name in (_NUMBER_VARIABLE, _LIFELINE_VARIABLE))
    return WorkerSlot(number, listening, lifeline)


class _Worker:
    """One process and its start time."""

    def __init__(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.number = number
        self.process = process
        self.started = time.monotonic()


class Workers:
    """The workers of one server. Run it in the main thread.

    Args:
        command: starts a worker.
    """

    def __init__(self, config: Config, *, command: Sequence[str]) -> None:
        self._config = config
        self._command = command
        self._workers: list[_Worker] = []
        self._signals: list[int] = []
        self._stopping = False
        self._failed_starts = 0

    def run(self) -> int:
        """Serve until stopped. Returns the exit status. Raises OSError if it cannot listen."""
        with (
            _listening(self._config) as listening,
            tempfile.TemporaryDirectory(prefix="hybrid-llm-") as counts,
            _lifeline() as lifeline,
            self._collected_signals(),
        ):
            worker_variables = {
                METRICS_VARIABLE: counts,
                _SOCKET_VARIABLE: str(listening.fileno()),
                _LIFELINE_VARIABLE: str(lifeline),
            }
            for number in range(self._config.server.workers):
                self._workers.append(self._start(number, worker_variables))
            while self._workers:
                self._forward_signals()
                if self._stopping:
                    listening.close()  # otherwise it accepts connections that no worker answers
                self._restart_ended(worker_variables)
                time.sleep(_POLL_SECONDS)
        return 1 if self._failed_starts >= _MAX_FAILED_STARTS else 0

    def _start(self, number: int, worker_variables: dict[str, str]) -> _Worker:
        environment = {**os.environ, **worker_variables, _NUMBER_VARIABLE: str(number)}
        process = subprocess.Popen(  # noqa: S603 -- this program itself
            self._command,
            env=environment,
            pass_fds=[
                int(worker_variables[_SOCKET_VARIABLE]),
                int(worker_variables[_LIFELINE_VARIABLE]),
            ],
            # Ctrl-C signals all processes of the terminal; only the supervisor must signal workers.
            start_new_session=True,
        )
        return _Worker(number, process)

    def _restart_ended(self, worker_variables: dict[str, str]) -> None:
        """Restart the workers that have ended, unless they were stopped."""
        for worker in list(self._workers):
            status = worker.process.poll()
            if status is None:
                continue
            self._workers.remove(worker)
            mark_process_dead(worker.process.pid, worker_variables[METRICS_VARIABLE])
            if self._stopping:
                continue
            logger.error("worker %d exited with status %d", worker.number, status)
            if time.monotonic() - worker.started < _FAILED_START_SECONDS:
                self._failed_starts += 1
            else:
                self._failed_starts = 0
            if self._failed_starts >= _MAX_FAILED_STARTS:
                logger.error(
                    "%d workers in a row failed to start; shutting down", _MAX_FAILED_STARTS
                )
                self._signal(signal.SIGTERM)
                continue
            self._workers.append(self._start(worker.number, worker_variables))

    @contextlib.contextmanager
    def _collected_signals(self) -> Iterator[None]:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP"):
            numbers.append(signal.SIGHUP)

        def on_signal(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)

        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _forward_signals(self) -> None:
        """Forward signals to the workers: stop (the second time at once), or reload."""
        while self._signals:
            self._signal(self._signals.pop(0))

    def _signal(self, number: int) -> None:
        self._stopping = self._stopping or number in (signal.SIGINT, signal.SIGTERM)
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)


@contextlib.contextmanager
def _listening(config: Config) -> Iterator[socket.socket]:
    server = config.server
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.create_server(
        (server.host, server.port), family=family, backlog=_BACKLOG
    ) as listening:
        yield listening


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """The workers' end of a pipe. The other end closes when this process ends."""
    workers_end, own_end = os.pipe()
    try:
        yield workers_end
    finally:
        os.close(workers_end)
        os.close(own_end)
