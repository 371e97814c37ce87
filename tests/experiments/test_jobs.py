"""Jobs, with real processes and databases, and all their endings."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from proxy.experiments.jobs import MAX_JOBS, Job, JobRunning, Jobs
from proxy.experiments.supervisor import NICENESS
from proxy.storage.database import StoreUnavailable, close_all, open_database
from stored import NOW, config_of, execute, migrate, read, until

pytest_plugins = ["databases"]

HEARTBEAT_SECONDS = 0.05
# Programs are passed in hexadecimal, so that the log has one line per command.
PREFIX = (sys.executable, "-c", "import sys; exec(bytes.fromhex(sys.argv[1]))")
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def opened_jobs(url: str, **arguments: Any) -> Iterator[Jobs]:
    migrate(url)
    database = open_database(config_of(url))
    defaults = {"prefix": PREFIX, "heartbeat_seconds": HEARTBEAT_SECONDS, "grace_seconds": 5.0}
    jobs = Jobs(database, **(defaults | arguments))
    try:
        yield jobs
    finally:
        jobs.close()
        close_all(database)


@pytest.fixture
def jobs(url: str) -> Iterator[Jobs]:
    with opened_jobs(url) as jobs:
        yield jobs


def start(jobs: Jobs, *programs: str, **given: Any) -> Job:
    commands: Sequence[list[str]] = [[program.encode().hex()] for program in programs]
    given = {"arguments": {}, "environment": ENVIRONMENT} | given
    return jobs.start("evaluate", commands, **given)


def wait_for_end(jobs: Jobs, job: Job) -> Job:
    until(lambda: reload(jobs, job).state != "running")
    return reload(jobs, job)


def reload(jobs: Jobs, job: Job) -> Job:
    row = jobs.find(job.id)
    assert row is not None
    return row


def log_of(jobs: Jobs, job: Job) -> str:
    """The output of a job, without the lines that name its commands."""
    lines = jobs.read_log(job.id).text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("$ "))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the latter: it ended between open and read
        return True
    return state == "Z"


def pids(folder: Path, number: int) -> list[int]:
    """Wait for this many pid files in a folder; return the pids."""
    until(lambda: len(list(folder.glob("pid-*"))) == number)
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


# Starts a process that ignores SIGTERM, and sleeps.
FAMILY = """
import os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path({folder!r})
def live():
    (folder / f"pid-{{os.getpid()}}").touch()
    time.sleep(600)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
live()
"""


def test_a_job_runs_its_commands_in_order_and_stores_their_output(jobs: Jobs) -> None:
    job = start(jobs, "print('one')", "import sys; print('größer', file=sys.stderr)")
    assert job.state == "running"
    done = wait_for_end(jobs, job)
    assert (done.state, done.exit_status, done.message) == ("done", 0, "größer")
    assert log_of(jobs, job) == "one\ngrößer\n"
    assert done.started_at is not None
    assert done.ended_at is not None
    assert done.started_at <= done.ended_at
    assert jobs.running() is None
    assert jobs.newest() == [done]


def test_a_failed_command_ends_the_job_with_its_status(jobs: Jobs) -> None:
    job = start(jobs, "print('no'); raise SystemExit(3)", "print('never')")
    done = wait_for_end(jobs, job)
    assert (done.state, done.exit_status, done.message) == ("failed", 3, "no")
    assert log_of(jobs, job) == "no\n"


def test_a_killed_command_fails_the_job(jobs: Jobs) -> None:
    job = start(jobs, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = wait_for_end(jobs, job)
    assert (done.state, done.exit_status) == ("failed", 128 + signal.SIGKILL)


def test_a_missing_command_fails_the_job(url: str) -> None:
    with opened_jobs(url, prefix=("/nowhere/pipeline",)) as jobs:
        job = start(jobs, "x")
        done = wait_for_end(jobs, job)
        assert (done.state, done.exit_status) == ("failed", 127)
        assert log_of(jobs, job) == "/nowhere/pipeline: No such file or directory\n"


def test_progress_message_and_cost_are_read_from_the_output(jobs: Jobs, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    job = start(
        jobs,
        "import pathlib, time\n"
        "print('[2/5] train'); print('label: 3/12 $0.0200, about 0.4 min left')\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('wrote 1/2 of it'); print('spent in this run: $0.012500')",
    )
    until(lambda: reload(jobs, job).progress is not None)
    running = reload(jobs, job)
    assert (running.state, running.progress) == ("running", 0.25)
    assert running.message == "label: 3/12 $0.0200, about 0.4 min left"
    assert jobs.running() == running
    go_on.touch()
    done = wait_for_end(jobs, job)
    assert (done.progress, done.cost_usd) == (0.25, 0.0125)


def test_a_log_is_read_from_an_offset(jobs: Jobs) -> None:
    job = start(jobs, "print('größer'); print('last')")
    wait_for_end(jobs, job)
    whole = jobs.read_log(job.id)
    assert (whole.start, whole.end) == (0, len(whole.text))
    assert jobs.read_log(job.id, after=whole.end - 5) == ("last\n", whole.end - 5, whole.end)
    assert jobs.read_log(job.id, after=whole.end) == ("", whole.end, whole.end)
    assert jobs.read_log(job.id, after=10**9) == ("", whole.end, whole.end)
    assert jobs.read_log("job_unknown") == ("", 0, 0)


def test_a_long_log_keeps_its_end(url: str) -> None:
    with opened_jobs(url, max_log_chars=1_000) as jobs:
        job = start(jobs, "for i in range(5000): print(f'{i:08}')\nprint('x' * 50_000)\nprint('z')")
        wait_for_end(jobs, job)
        (row,) = read(url, "SELECT log, log_start FROM jobs")
        assert len(row["log"]) == 1_000
        log = jobs.read_log(job.id, after=5)
        assert log.text == row["log"]
        assert log.text.endswith("x\nz\n")
        assert (log.start, log.end) == (row["log_start"], row["log_start"] + 1_000)
        assert log.start > 5_000 * 9 + 50_000 - 1_000


def test_a_very_long_line_is_split(jobs: Jobs) -> None:
    job = start(jobs, "print('x' * 4_000); print('y' * 9_000, end='')", "print('z')")
    wait_for_end(jobs, job)
    lines = log_of(jobs, job).split("\n")
    assert [(line[:1], len(line)) for line in lines] == [
        ("x", 4_000), ("y", 4_000), ("y", 4_000), ("y", 1_000), ("z", 1), ("", 0),
    ]  # fmt: skip


def test_control_characters_are_removed_from_the_log(jobs: Jobs) -> None:
    job = start(
        jobs,
        r"import sys; sys.stdout.buffer.write(b'a\x00b\x1b[31mred\x1b[0m\xff\r\nold\rnew\n\ttab')",
    )
    assert wait_for_end(jobs, job).state == "done"
    assert log_of(jobs, job) == "abred\N{REPLACEMENT CHARACTER}\nold\nnew\n\ttab\n"


def test_a_command_has_only_the_given_environment(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    job = start(jobs, "import os; print(sorted(os.environ))", environment={"LANG": "C.UTF-8"})
    wait_for_end(jobs, job)
    assert "OPENAI_API_KEY" not in log_of(jobs, job)
    assert "'LANG'" in log_of(jobs, job)


def test_a_command_runs_at_a_lower_priority(jobs: Jobs) -> None:
    job = start(
        jobs,
        "import os, pathlib\nprint(os.nice(0))\n"
        "group = pathlib.Path('/proc/self/autogroup')\n"
        f"print(group.read_text() if group.exists() else 'nice {NICENESS}')",
    )
    wait_for_end(jobs, job)
    own, sessions = log_of(jobs, job).split("\n")[:2]
    assert int(own) == min(os.nice(0) + NICENESS, 19)
    assert sessions.endswith(f"nice {NICENESS}")  # with autogroups, this value counts


def test_a_command_reads_no_input(jobs: Jobs) -> None:
    job = start(jobs, "import sys; print(repr(sys.stdin.read()))")
    assert wait_for_end(jobs, job).state == "done"
    assert log_of(jobs, job) == "''\n"


def test_cancelling_ends_all_processes_of_the_job(jobs: Jobs, tmp_path: Path) -> None:
    job = start(jobs, FAMILY.format(folder=str(tmp_path)), "print('never')")
    family = pids(tmp_path, 2)
    cancelled = jobs.cancel(job.id)
    assert cancelled is not None
    assert cancelled.id == job.id
    done = wait_for_end(jobs, job)
    assert done.state == "cancelled"
    until(lambda: all(map(is_gone, family)))
    assert log_of(jobs, job) == ""


def test_a_command_that_ignores_sigterm_is_killed(url: str, tmp_path: Path) -> None:
    program = FAMILY.format(folder=str(tmp_path)).replace("if os.fork() == 0:", "if True:")
    with opened_jobs(url, grace_seconds=0.2) as jobs:
        job = start(jobs, program)
        (pid,) = pids(tmp_path, 1)
        jobs.cancel(job.id)
        done = wait_for_end(jobs, job)
        assert (done.state, done.exit_status) == ("cancelled", 128 + signal.SIGKILL)
        until(lambda: is_gone(pid))


def test_a_cancelled_command_may_clean_up(jobs: Jobs, tmp_path: Path) -> None:
    job = start(
        jobs,
        "import pathlib, signal, time\n"
        "def stop(*_): print('spent in this run: $0.5'); raise SystemExit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"pathlib.Path({str(tmp_path / 'pid-1')!r}).touch()\n"
        "time.sleep(600)",
    )
    pids(tmp_path, 1)
    jobs.cancel(job.id)
    done = wait_for_end(jobs, job)
    assert (done.state, done.cost_usd) == ("cancelled", 0.5)


def test_background_processes_end_with_their_command(jobs: Jobs, tmp_path: Path) -> None:
    program = FAMILY.format(folder=str(tmp_path)).removesuffix("live()\n")
    job = start(
        jobs,
        program.replace("SIG_IGN)", "SIG_IGN); live()")
        + "while not list(folder.glob('pid-*')): time.sleep(0.01)\nprint('bye')",
    )
    (pid,) = pids(tmp_path, 1)
    assert wait_for_end(jobs, job).state == "done"
    until(lambda: is_gone(pid))
    assert log_of(jobs, job) == "bye\n"


def test_cancelling_an_ended_job_changes_nothing(jobs: Jobs) -> None:
    job = start(jobs, "print('done')")
    done = wait_for_end(jobs, job)
    assert jobs.cancel(job.id) == done
    assert jobs.cancel("job_unknown") is None


def test_only_one_job_runs_across_processes(url: str, tmp_path: Path) -> None:
    with opened_jobs(url) as first, opened_jobs(url) as second:
        job = start(first, FAMILY.format(folder=str(tmp_path)))
        for jobs in (first, second):
            with pytest.raises(JobRunning) as caught:
                start(jobs, "print('never')")
            assert caught.value.job.id == job.id
        assert reload(second, job).state == "running"
        second.cancel(job.id)  # not from its own process
        assert wait_for_end(second, job).state == "cancelled"
        assert wait_for_end(second, start(second, "print('now')")).state == "done"


def test_only_one_of_concurrent_starts_succeeds(url: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        instances = [stack.enter_context(opened_jobs(url)) for _ in range(4)]
        barrier = threading.Barrier(4)

        def try_to_start(jobs: Jobs) -> bool:
            barrier.wait()
            try:
                start(jobs, "import time; time.sleep(600)")
            except JobRunning:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(try_to_start, instances)) == [False, False, False, True]
        assert len(read(url, "SELECT * FROM jobs")) == 1


def test_closing_interrupts_the_job_and_ends_its_processes(url: str, tmp_path: Path) -> None:
    with opened_jobs(url, grace_seconds=0.2) as jobs:
        job = start(jobs, FAMILY.format(folder=str(tmp_path)), "print('never')")
        family = pids(tmp_path, 2)
    until(lambda: all(map(is_gone, family)))
    (row,) = read(url, "SELECT * FROM jobs")
    assert (row["id"], row["state"]) == (job.id, "interrupted")
    assert row["ended_at"] is not None


HOLDER = """
import sys
from pathlib import Path
from proxy.storage.database import open_database
from proxy.config import StorageConfig
from proxy.experiments.jobs import Jobs
jobs = Jobs(open_database(StorageConfig(url=sys.argv[1])), prefix=(sys.executable, "-c"),
            heartbeat_seconds=0.05, grace_seconds=0.2)
jobs.start("train", [[sys.argv[2]]], arguments={"epochs": 3}, environment={})
input()
"""


def test_a_job_ends_and_is_interrupted_when_its_proxy_is_killed(url: str, tmp_path: Path) -> None:
    with opened_jobs(url) as jobs:
        program = FAMILY.format(folder=str(tmp_path))
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, url, program], stdin=subprocess.PIPE
        )
        family = pids(tmp_path, 2)
        (job,) = jobs.newest()
        assert (job.state, job.arguments) == ("running", {"epochs": 3})
        holder.kill()
        holder.communicate()
        until(lambda: all(map(is_gone, family)))
        assert jobs.running() is None
        interrupted = reload(jobs, job)
        assert (interrupted.state, interrupted.message) == (
            "interrupted",
            "the proxy that ran it has ended",
        )
        assert wait_for_end(jobs, start(jobs, "print('next')")).state == "done"


def test_a_job_with_a_stale_heartbeat_is_interrupted(url: str) -> None:
    now = time.time()
    with opened_jobs(url, clock=lambda: now) as jobs:
        job = start(jobs, "print('x')")
        wait_for_end(jobs, job)
        execute(
            url,
            "UPDATE jobs SET state = 'running', ended_at = NULL, pid = 1, "
            f"worker = 'elsewhere/1/abc', seen_at = {now - 59}",
        )
        assert reload(jobs, job).state == "running"
        with pytest.raises(JobRunning):
            start(jobs, "print('never')")
        now += 2
        assert wait_for_end(jobs, start(jobs, "print('now')")).state == "done"
        assert reload(jobs, job).state == "interrupted"


def test_a_job_that_others_marked_interrupted_ends(url: str, tmp_path: Path) -> None:
    """Its process was suspended for so long that another job may be running."""
    with opened_jobs(url, grace_seconds=0.2) as jobs:
        job = start(jobs, FAMILY.format(folder=str(tmp_path)))
        family = pids(tmp_path, 2)
        execute(url, "UPDATE jobs SET state = 'interrupted', message = 'marked by another'")
        until(lambda: all(map(is_gone, family)))
        assert reload(jobs, job).message == "marked by another"


def test_only_the_newest_jobs_are_kept(url: str) -> None:
    with opened_jobs(url) as jobs:
        first = start(jobs, "print('first')")
        wait_for_end(jobs, first)
        columns = (
            "id, step, arguments, state, created_at, host, worker, seen_at, is_unwanted, log, "
            "log_start"
        )
        execute(
            url,
            *(
                f"INSERT INTO jobs ({columns}) VALUES ('job_{i}', 'train', '{{}}', 'done', "
                f"{NOW + i}, 'h', 'w', {NOW}, FALSE, '', 0)"
                for i in range(MAX_JOBS)
            ),
        )
        assert [job.id for job in jobs.newest(limit=2)] == ["job_199", "job_198"]
        assert {job.step for job in jobs.newest(step="train")} == {"train"}
        execute(url, f"UPDATE jobs SET created_at = {NOW - 1} WHERE id = '{first.id}'")
        last = start(jobs, "print('last')")
        wait_for_end(jobs, last)
        assert len(read(url, "SELECT id FROM jobs")) <= MAX_JOBS + 1
        assert jobs.find(first.id) is None


def test_a_failing_database_raises_store_unavailable(sqlite_url: str) -> None:
    database = open_database(config_of(sqlite_url))
    jobs = Jobs(database)
    with pytest.raises(StoreUnavailable, match="jobs cannot be read or written"):
        jobs.newest()
    with pytest.raises(StoreUnavailable):
        start(jobs, "print('never')")


def test_a_job_continues_while_its_database_fails(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = tmp_path / "go-on"
    with opened_jobs(sqlite_url) as jobs:
        job = start(
            jobs,
            "import pathlib, time\nprint('before')\n"
            f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\nprint('after')",
        )
        until(lambda: "before" in jobs.read_log(job.id).text)
        execute(sqlite_url, "ALTER TABLE jobs RENAME TO hidden")
        go_on.touch()
        until(lambda: "cannot be written" in caplog.text)
        execute(sqlite_url, "ALTER TABLE hidden RENAME TO jobs")
        assert wait_for_end(jobs, job).state == "done"
        assert log_of(jobs, job) == "before\nafter\n"
