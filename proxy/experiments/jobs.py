"""Long work in processes of its own: one job at a time, whoever starts it, with its log in rows.

    jobs = Jobs(store.database)
    job = jobs.start("evaluate", [Command(["evaluate", "--split", "test"])], environment={…})
    jobs.find(job.id), jobs.read_log(job.id, after=120)

Any number of processes may use one database, also from several machines: a unique index lets one
row at most be running. Who runs a job says every second that it lives; whoever finds that it no
longer does writes `interrupted`. A command runs on a leash (`leash`), so it never outlives the
process that started it. To cancel a job is to mark its row; who runs it sees that within a second.

Everything here blocks: call it in a thread.
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

from proxy.experiments import supervisor
from proxy.storage.database import FAILURES, StoreUnavailable, storable
from proxy.storage.tables import Job as JobRow

logger = logging.getLogger(__name__)

PIPELINE: Final = (sys.executable, "-P", "-m", "training.cli")
HEARTBEAT_SECONDS: Final = 1.0
STALE_SECONDS: Final = 60.0  # of silence, after which a job's process is taken for gone
GRACE_SECONDS: Final = 10.0  # in which a command may finish when it is told to stop
MAX_LOG_CHARS: Final = 200_000
MAX_JOBS: Final = 200  # that are kept
_MAX_LINE_CHARS: Final = 4_000
_MAX_MESSAGE_CHARS: Final = 300
_LAST_WRITES: Final = 20  # tries to write how a job ended
_READ_BYTES: Final = 65_536
# Between two reads: a command that prints without end is not to keep requests from being answered.
_PAUSE_SECONDS: Final = 0.02

State = Literal["running", "done", "failed", "cancelled", "interrupted"]

_STEP: Final = re.compile(r"^\[(\d+)/(\d+)\] ")
_DONE: Final = re.compile(r": (\d+)/(\d+)(?:[ ,]|$)")
_SPENT: Final = re.compile(r"^spent in this run: \$(\d+(?:\.\d+)?)$")
# Colours and other orders for a terminal, and what no text has.
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
    """A part of what a job has printed: characters `start` to `end`, counted from its beginning."""

    text: str
    start: int
    end: int


class JobRunning(Exception):
    """Another job is running."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.step} is running")
        self.job = job


class Jobs:
    """The jobs of one database, and the one that this process runs, if it runs one.

    Args:
        prefix: what a command of the pipeline begins with.
        heartbeat_seconds: how often what a job has printed is written, and its row read.
        grace_seconds: how long a command that is told to stop may take.
        clock: UNIX seconds.

    Methods raise StoreUnavailable when the database cannot be used now.
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
        self._who = _name(os.getpid())
        self._running: _Run | None = None
        self._mine: set[str] = set()  # whose rows are there, or will be in a moment
        self._starting = threading.Lock()

    def start(
        self,
        step: str,
        commands: Sequence[Sequence[str]],
        *,
        arguments: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> Job:
        """Run commands one after the other, until one fails.

        Args:
            arguments: what was chosen, to be shown.
            environment: all that the commands have in theirs.

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
            run = _Run(job, [[*self._prefix, *one] for one in commands], dict(environment))
            self._running = run
            run.thread = threading.Thread(target=self._supervise, args=(run,), name="job")
            run.thread.start()
            return job

    def _insert(self, job: Job) -> None:
        fields = msgspec.structs.asdict(job)
        fields["arguments"] = storable(msgspec.json.encode(job.arguments).decode())
        row = JobRow.insert(
            **fields, pid=os.getpid(), worker=self._who, seen_at=job.created_at,
            is_unwanted=False, log="", log_start=0,
        )  # fmt: skip
        while True:
            self.interrupt_orphaned()
            try:
                with self._using() as database, database.atomic():
                    row.execute(database)
                    self._forget_old(database)
                return
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, peewee.IntegrityError):
                    raise
            running = self.running()
            if running is not None:  # else it has ended in between
                raise JobRunning(running)

    def _forget_old(self, database: peewee.Database) -> None:
        kept = (
            JobRow.select(JobRow.created_at)
            .order_by(JobRow.created_at.desc())
            .offset(MAX_JOBS)
            .limit(1)
        )
        for (oldest,) in list(kept.tuples().execute(database)):
            old = (JobRow.created_at <= oldest) & (JobRow.state != "running")
            JobRow.delete().where(old).execute(database)

    def running(self) -> Job | None:
        """The job that runs, here or elsewhere."""
        found = self._select(JobRow.state == "running", limit=1)
        return found[0] if found else None

    def find(self, job_id: str) -> Job | None:
        found = self._select(JobRow.id == storable(job_id), limit=1)
        return found[0] if found else None

    def newest(self, *, limit: int = 50, step: str | None = None) -> list[Job]:
        """The last jobs, the newest first; of one step or of all."""
        return self._select(JobRow.step == step if step is not None else None, limit=limit)

    def read_log(self, job_id: str, *, after: int = 0) -> Log:
        """What a job has printed behind the first `after` characters, as far as it is kept."""
        query = JobRow.select(JobRow.log, JobRow.log_start).where(JobRow.id == storable(job_id))
        with self._using() as database:
            for text, first in query.tuples().execute(database):
                start = min(max(after, first), first + len(text))
                return Log(text[start - first :], start, first + len(text))
        return Log("", 0, 0)

    def cancel(self, job_id: str) -> Job | None:
        """Ask for a job's end; its row says when it has come. One that has ended stays so."""
        wanted = (JobRow.id == storable(job_id)) & (JobRow.state == "running")
        with self._using() as database:
            JobRow.update(is_unwanted=True).where(wanted).execute(database)
        self.interrupt_orphaned()
        return self.find(job_id)

    def interrupt_orphaned(self) -> None:
        """Write `interrupted` to a job that says that it runs, and nobody runs it any more."""
        columns = (JobRow.id, JobRow.worker, JobRow.pid, JobRow.seen_at)
        query = JobRow.select(*columns).where(JobRow.state == "running")
        with self._using() as database:
            for job_id, worker, pid, seen_at in list(query.tuples().execute(database)):
                if job_id in self._mine or not self._is_lost(worker, pid, seen_at):
                    continue
                logger.warning("job %s is interrupted: the process that ran it is gone", job_id)
                still = (JobRow.id == job_id) & (JobRow.state == "running")
                JobRow.update(
                    state="interrupted", ended_at=seen_at, message="the proxy that ran it is gone"
                ).where(still & (JobRow.seen_at == seen_at)).execute(database)

    def _is_lost(self, worker: str, pid: int, seen_at: float) -> bool:
        if worker.startswith(f"{_place()}/") and worker != _name(pid):
            return True
        return self._clock() - seen_at > self._stale_seconds

    def close(self) -> None:
        """End the job that this process runs, and record that it was interrupted."""
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
        except Exception as error:  # a bug of ours, or no process can be started
            logger.exception("job %s failed", run.job.id)
            run.print(f"{type(error).__name__}: {error}")
            state = "failed"
        self._finish(run, state, status)

    def _follow(self, run: "_Run", command: Sequence[str]) -> int:
        """Run one command to its end, whichever that is; returns its exit status."""
        with subprocess.Popen(  # noqa: S603 -- of the closed list of steps
            [sys.executable, "-I", supervisor.__file__, str(self._grace_seconds), *command],
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
                process.stdin.close()  # whatever happens here, the command ends
            return process.wait()

    def _read(self, run: "_Run", process: "subprocess.Popen[bytes]") -> None:
        """Take in what a command prints until it has ended, and its row in the meantime."""
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
                elif process.poll() is not None:  # something that got away holds its output
                    break
                if time.monotonic() >= run.next_beat:
                    run.next_beat = time.monotonic() + self._heartbeat_seconds
                    self._beat(run)
                if run.is_stopping.is_set() and run.ending is None:
                    run.ending = "interrupted"
                if run.ending is not None and not process.stdin.closed:
                    process.stdin.close()
        run.take(b"", is_last=True)

    def _beat(self, run: "_Run") -> None:
        """Say that the job lives, write what is new, and see whether it is wanted still."""
        new = {} if run.is_written else run.fields(self._max_log_chars)
        row = JobRow.update(**new, seen_at=self._clock())
        mine = (JobRow.id == run.job.id) & (JobRow.state == "running")
        try:
            with self._using() as database:
                is_mine = row.where(mine).execute(database)
                query = JobRow.select(JobRow.is_unwanted).where(JobRow.id == run.job.id)
                unwanted = [one for (one,) in query.tuples().execute(database)]
        except StoreUnavailable as error:
            logger.warning("job %s: its log cannot be written now: %s", run.job.id, error)
            return
        run.is_written = True
        if run.ending is None:
            if not is_mine:  # somebody took this process for gone
                run.ending = "interrupted"
            elif any(unwanted):
                run.ending = "cancelled"

    def _finish(self, run: "_Run", state: State, status: int | None) -> None:
        """Write how a job ended; if the database fails for long, others find that it did."""
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
                logger.error("job %s: its end cannot be written: %s", run.job.id, error)
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
    """The job that this process runs, as its thread sees it."""

    def __init__(self, job: Job, commands: list[list[str]], environment: dict[str, str]) -> None:
        self.job = job
        self.commands = commands
        self.environment = environment
        self.thread: threading.Thread | None = None
        self.is_stopping = threading.Event()
        self.ending: State | None = None  # what it is to end as, once that is known
        self.next_beat = 0.0
        self.is_written = False  # what there is to say so far
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._lines: list[str] = []
        self._log, self._log_start = "", 0
        self._progress: float | None = None
        self._message: str | None = None
        self._cost_usd: float | None = None

    def take(self, data: bytes, *, is_last: bool = False) -> None:
        """Add to the log what was printed, by whole lines."""
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
        """One line, and what it says of how far the work is."""
        line = _CONTROLS.sub("", line)
        self.is_written = False
        self._lines.append(line + "\n")
        if not line.strip():
            return
        self._message = line.strip()[:_MAX_MESSAGE_CHARS]
        if found := _SPENT.match(line):
            self._cost_usd = (self._cost_usd or 0.0) + float(found[1])
        if line.startswith("$ ") or _STEP.match(line):
            self._progress = None
        elif found := _DONE.search(line):
            done, total = int(found[1]), int(found[2])
            self._progress = min(done / total, 1.0) if total else None

    def fields(self, max_chars: int) -> dict[str, Any]:
        """What the row says of it now."""
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
    """A line, in pieces where it is longer than any that people write."""
    starts = range(0, max(len(line), 1), _MAX_LINE_CHARS)
    return [line[start : start + _MAX_LINE_CHARS] for start in starts]


def _shown(arguments: Sequence[str]) -> Iterator[str]:
    """A command for people: of absolute paths only the last part."""
    for word in arguments:
        yield Path(word).name if Path(word).is_absolute() else word


def _name(pid: int) -> str | None:
    """What tells a process from all others, before it and elsewhere; None where there is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return None
    started = ""
    with contextlib.suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        started = stat.rpartition(")")[2].split()[19]  # in ticks since the machine was
    return f"{_place()}/{pid}/{started}"


@cache
def _place() -> str:
    """What tells apart where process numbers mean something: the machine since it was started, and
    the container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)
