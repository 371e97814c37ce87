"""Long-running jobs in separate processes: one job at a time, with its log in the database.

    jobs = Jobs(store.database)
    job = jobs.start("evaluate", [Command(["evaluate", "--split", "test"])], environment={…})
    jobs.find(job.id), jobs.read_log(job.id, after=120)

Any number of processes and machines may share one database: a unique index allows one running row.
The process that runs a job writes a heartbeat every second. Any process that finds a stale
heartbeat marks the job `interrupted`. Commands run under `supervisor`, so they never outlive the
process that started them. Cancelling marks the row; the running process sees that within a second.

All methods block: call them in a thread.
"""

import codecs
import contextlib
import logging
import os
import re
import secrets
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import peewee

from proxy.experiments.supervisor import supervised
from proxy.storage import FAILURES, StoreUnavailable, storable
from proxy.storage.tables import Job as JobRow

logger = logging.getLogger(__name__)

PIPELINE: Final = (sys.executable, "-P", "-m", "training.cli")
HEARTBEAT_SECONDS: Final = 1.0
STALE_SECONDS: Final = 60.0  # without a heartbeat, after which a job counts as orphaned
GRACE_SECONDS: Final = 10.0  # between SIGTERM and SIGKILL
MAX_LOG_CHARS: Final = 200_000
MAX_JOBS: Final = 200  # older ones are deleted
_MAX_LINE_CHARS: Final = 4_000
_MAX_MESSAGE_CHARS: Final = 300
_LAST_WRITES: Final = 20  # attempts to write how a job ended
_READ_BYTES: Final = 65_536
# Pause between reads, so that a command with endless output does not delay requests.
_PAUSE_SECONDS: Final = 0.02

State = Literal["running", "done", "failed", "cancelled", "interrupted"]

_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\] ")
_DONE: Final = re.compile(r": (\d+)/(\d+)(?:[ ,]|$)")
_SPENT: Final = re.compile(r"^spent in this run: \$(\d+(?:\.\d+)?)$")
# ANSI escape sequences and control characters.
_CONTROLS: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `jobs`, without its log. Times are UNIX seconds."""

    id: str
    step: str
    arguments: dict[str, Any]
    state: State
    created_at: float
    started_at: float | None
    ended_at: float | None
    exit_status: int | None
    host: str
    progress: float | None
    message: str | None
    cost_usd: float | None


class Log(NamedTuple):
    """A part of a job's output: characters `start` to `end` of the whole output."""

    text: str
    start: int
    end: int


class JobRunning(Exception):
    """Another job is running."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.step} is running")
        self.job = job


class Jobs:
    """The jobs of one database, and the job that this process runs, if any.

    Args:
        prefix: the first words of each pipeline command.
        heartbeat_seconds: how often new output is written and the row is read.
        grace_seconds: how long a command may take to stop after SIGTERM.
        stale_seconds: without a heartbeat, after which a job counts as orphaned.
        max_log_chars: the newest characters of the output that are stored.
        clock: UNIX seconds.

    Methods raise StoreUnavailable when the database is unavailable.
    """

    def __init__(
        self,
        database: peewee.Database,
        *,
        prefix: Sequence[str] = PIPELINE,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        max_log_chars: int = MAX_LOG_CHARS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._prefix = tuple(prefix)
        self._heartbeat_seconds = heartbeat_seconds
        self._grace_seconds = grace_seconds
        self._stale_seconds = stale_seconds
        self._max_log_chars = max_log_chars
        self._clock = clock
        self._worker_name = _process_name(os.getpid())
        self._running: _Run | None = None
        self._mine: set[str] = set()  # IDs of rows that exist or are being inserted
        self._starting = threading.Lock()

    def start(
        self,
        step: str,
        commands: Sequence[Sequence[str]],
        *,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> Job:
        """Run commands in order until one fails.

        Args:
            arguments: the parameters, for display.
            environment: the complete environment of the commands.

        Raises:
            JobRunning: another job is running, here or elsewhere.
        """
        with self._starting:
            now = self._clock()
            job = Job(
                id=f"job_{secrets.token_hex(8)}", step=step, arguments=dict(arguments),
                state="running", created_at=now, started_at=now, ended_at=None, exit_status=None,
                host=socket.gethostname(), progress=None, message=None, cost_usd=None,
            )  # fmt: skip
            self._mine.add(job.id)
            try:
                self._insert(job)
            except BaseException:
                self._mine.discard(job.id)
                raise
            run = _Run(job, [[*self._prefix, *command] for command in commands], dict(environment))
            self._running = run
            run.thread = threading.Thread(target=self._supervise, args=(run,), name="job")
            run.thread.start()
            return job

    def _insert(self, job: Job) -> None:
        fields = msgspec.structs.asdict(job)
        fields["arguments"] = storable(msgspec.json.encode(job.arguments).decode())
        row = JobRow.insert(
            **fields, pid=os.getpid(), worker=self._worker_name, seen_at=job.created_at,
            is_unwanted=False, log="", log_start=0,
        )  # fmt: skip
        while True:
            self.interrupt_orphaned()
            try:
                with self._using() as database, database.atomic():
                    row.execute(database)
                    self._delete_old(database)
                return
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, peewee.IntegrityError):
                    raise
            running = self.running()
            if running is not None:  # else it ended in the meantime: try again
                raise JobRunning(running)

    def _delete_old(self, database: peewee.Database) -> None:
        first_expired = (
            JobRow.select(JobRow.created_at)
            .order_by(JobRow.created_at.desc())
            .offset(MAX_JOBS)
            .limit(1)
        )
        for (oldest,) in list(first_expired.tuples().execute(database)):
            old = (JobRow.created_at <= oldest) & (JobRow.state != "running")
            JobRow.delete().where(old).execute(database)

    def running(self) -> Job | None:
        """The running job, in this process or another one."""
        return next(iter(self._select(JobRow.state == "running", limit=1)), None)

    def find(self, job_id: str) -> Job | None:
        return next(iter(self._select(JobRow.id == storable(job_id), limit=1)), None)

    def newest(self, *, limit: int = 50, step: str | None = None) -> list[Job]:
        """The newest jobs first, of one step or of all."""
        return self._select(JobRow.step == step if step is not None else None, limit=limit)

    def read_log(self, job_id: str, *, after: int = 0) -> Log:
        """The stored output of a job after its first `after` characters."""
        query = JobRow.select(JobRow.log, JobRow.log_start).where(JobRow.id == storable(job_id))
        with self._using() as database:
            for text, first in query.tuples().execute(database):
                start = min(max(after, first), first + len(text))
                return Log(text[start - first :], start, first + len(text))
        return Log("", 0, 0)

    def cancel(self, job_id: str) -> Job | None:
        """Request cancellation. The row shows when the job ends; an ended job is unchanged."""
        is_running = (JobRow.id == storable(job_id)) & (JobRow.state == "running")
        with self._using() as database:
            JobRow.update(is_unwanted=True).where(is_running).execute(database)
        self.interrupt_orphaned()
        return self.find(job_id)

    def interrupt_orphaned(self) -> None:
        """Mark jobs `interrupted` whose process has ended or sends no heartbeat."""
        columns = (JobRow.id, JobRow.worker, JobRow.pid, JobRow.seen_at)
        query = JobRow.select(*columns).where(JobRow.state == "running")
        with self._using() as database:
            for job_id, worker, pid, seen_at in list(query.tuples().execute(database)):
                if job_id in self._mine or not self._is_orphaned(worker, pid, seen_at):
                    continue
                logger.warning("job %s was interrupted: the process that ran it has ended", job_id)
                still = (JobRow.id == job_id) & (JobRow.state == "running")
                JobRow.update(
                    state="interrupted", ended_at=seen_at, message="the proxy that ran it has ended"
                ).where(still & (JobRow.seen_at == seen_at)).execute(database)

    def _is_orphaned(self, worker: str, pid: int, seen_at: float) -> bool:
        if worker.startswith(f"{_pid_scope()}/") and worker != _process_name(pid):
            return True
        return self._clock() - seen_at > self._stale_seconds

    def close(self) -> None:
        """Stop the job of this process and record it as interrupted."""
        run = self._running
        if run is not None and run.thread is not None:
            run.is_stopping.set()
            run.thread.join()

    # ── The thread that runs a job ────────────────────────────────────────────────────────────

    def _supervise(self, run: "_Run") -> None:
        status: int | None = None
        try:
            for command in run.commands:
                run.print(f"$ {' '.join(_shown(command[len(self._prefix) :]))}")
                status = self._follow(run, command)
                if status or run.ending is not None:
                    break
            state: State = run.ending or ("failed" if status else "done")
        except Exception as error:  # a bug, or the process cannot be started
            logger.exception("job %s failed", run.job.id)
            run.print(f"{type(error).__name__}: {error}")
            state = "failed"
        self._finish(run, state, status)

    def _follow(self, run: "_Run", command: Sequence[str]) -> int:
        """Run one command until it ends. Returns its exit status."""
        with subprocess.Popen(  # noqa: S603 -- from the closed list of steps
            supervised(command, grace_seconds=self._grace_seconds),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=run.environment,
            start_new_session=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                self._read(run, process)
            finally:
                process.stdin.close()  # ends the command in every case
            return process.wait()

    def _read(self, run: "_Run", process: "subprocess.Popen[bytes]") -> None:
        """Read a command's output until it ends, with heartbeats in between."""
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(self._heartbeat_seconds / 4):
                    data = os.read(process.stdout.fileno(), _READ_BYTES)
                    if not data:
                        break
                    run.take(data)
                    time.sleep(_PAUSE_SECONDS)
                elif process.poll() is not None:  # an escaped child process holds the pipe open
                    break
                if time.monotonic() >= run.next_heartbeat:
                    run.next_heartbeat = time.monotonic() + self._heartbeat_seconds
                    self._heartbeat(run)
                if run.is_stopping.is_set() and run.ending is None:
                    run.ending = "interrupted"
                if run.ending is not None and not process.stdin.closed:
                    process.stdin.close()
        run.take(b"", is_last=True)

    def _heartbeat(self, run: "_Run") -> None:
        """Write a heartbeat and new output, and read whether the job was cancelled."""
        new = {} if run.is_written else run.fields(self._max_log_chars)
        row = JobRow.update(**new, seen_at=self._clock())
        mine = (JobRow.id == run.job.id) & (JobRow.state == "running")
        try:
            with self._using() as database:
                is_mine = row.where(mine).execute(database)
                query = JobRow.select(JobRow.is_unwanted).where(JobRow.id == run.job.id)
                unwanted = [flag for (flag,) in query.tuples().execute(database)]
        except StoreUnavailable as error:
            logger.warning("job %s: its log cannot be written: %s", run.job.id, error)
            return
        run.is_written = True
        if run.ending is None:
            if not is_mine:  # another process marked the job as interrupted
                run.ending = "interrupted"
            elif any(unwanted):
                run.ending = "cancelled"

    def _finish(self, run: "_Run", state: State, status: int | None) -> None:
        """Write how a job ended. If the database stays unavailable, the heartbeat becomes stale."""
        row = JobRow.update(
            **run.fields(self._max_log_chars),
            state=state,
            ended_at=self._clock(),
            exit_status=status,
        ).where((JobRow.id == run.job.id) & (JobRow.state == "running"))
        for _ in range(_LAST_WRITES):
            try:
                with self._using() as database:
                    row.execute(database)
                break
            except StoreUnavailable as error:
                logger.error("job %s: its final state cannot be written: %s", run.job.id, error)
                if run.is_stopping.wait(self._heartbeat_seconds):
                    time.sleep(self._heartbeat_seconds / _LAST_WRITES)
        logger.info("job %s (%s): %s", run.job.id, run.job.step, state)
        self._mine.discard(run.job.id)
        if self._running is run:
            self._running = None

    # ── Rows ──────────────────────────────────────────────────────────────────────────────────

    def _select(self, which: Any, *, limit: int) -> list[Job]:
        self.interrupt_orphaned()
        query = JobRow.select(*(getattr(JobRow, name) for name in Job.__struct_fields__))
        if which is not None:
            query = query.where(which)
        query = query.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
        with self._using() as database:
            return [_job(row) for row in query.dicts().execute(database)]

    @contextmanager
    def _using(self) -> Iterator[peewee.Database]:
        try:
            with self._database.connection_context():
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"jobs cannot be read or written: {error}") from error


class _Run:
    """State of the job that this process runs, used by its thread."""

    def __init__(self, job: Job, commands: list[list[str]], environment: dict[str, str]) -> None:
        self.job = job
        self.commands = commands
        self.environment = environment
        self.thread: threading.Thread | None = None
        self.is_stopping = threading.Event()
        self.ending: State | None = None  # the final state, once it is decided
        self.next_heartbeat = 0.0
        self.is_written = False  # whether the row has all output so far
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._lines: list[str] = []
        self._log, self._log_start = "", 0
        self._progress: float | None = None
        self._message: str | None = None
        self._cost_usd: float | None = None

    def take(self, data: bytes, *, is_last: bool = False) -> None:
        """Add output to the log, line by line."""
        text = self._partial + self._decoder.decode(data, is_last)
        *lines, last = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        *pieces, self._partial = _pieces(last)
        lines = [piece for line in lines for piece in _pieces(line)] + pieces
        if is_last and self._partial:
            lines.append(self._partial)
            self._partial = ""
        for line in lines:
            self.print(line)

    def print(self, line: str) -> None:
        """Add one line, and read progress and cost from it."""
        line = _CONTROLS.sub("", line)
        self.is_written = False
        self._lines.append(line + "\n")
        if not line.strip():
            return
        self._message = line.strip()[:_MAX_MESSAGE_CHARS]
        if match := _SPENT.match(line):
            self._cost_usd = (self._cost_usd or 0.0) + float(match[1])
        if line.startswith("$ ") or _STEP.match(line):
            self._progress = None
        elif match := _DONE.search(line):
            done, total = int(match[1]), int(match[2])
            self._progress = min(done / total, 1.0) if total else None

    def fields(self, max_chars: int) -> dict[str, Any]:
        """The columns of the row, with the current values."""
        if self._lines:
            self._log += "".join(self._lines)
            self._lines.clear()
            if (over := len(self._log) - max_chars) > 0:
                self._log, self._log_start = self._log[over:], self._log_start + over
        return {
            "log": self._log, "log_start": self._log_start, "progress": self._progress,
            "message": self._message, "cost_usd": self._cost_usd,
        }  # fmt: skip


def _job(row: dict[str, Any]) -> Job:
    arguments = msgspec.json.decode(row.pop("arguments"), type=dict[str, Any])
    return Job(**row, arguments=arguments)


def _pieces(line: str) -> list[str]:
    """A line, split into pieces of at most `_MAX_LINE_CHARS`."""
    starts = range(0, max(len(line), 1), _MAX_LINE_CHARS)
    return [line[start : start + _MAX_LINE_CHARS] for start in starts]


def _shown(arguments: Sequence[str]) -> Iterator[str]:
    """A command for display: absolute paths are shortened to the file name."""
    for word in arguments:
        yield Path(word).name if Path(word).is_absolute() else word


def _process_name(pid: int) -> str | None:
    """A unique name of a process: host, PID and start time. None if it does not exist."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return None
    started = ""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        started = stat.rpartition(")")[2].split()[19]  # start time in clock ticks since boot
    return f"{_pid_scope()}/{pid}/{started}"


@cache
def _pid_scope() -> str:
    """The scope of a process ID: the host, its boot and the PID namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)
