"""Jobs: real processes, real databases; what becomes of them whichever way they end."""

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
from stored import NOW, config_of, execute, migrated, read, until

pytest_plugins = ["databases"]

HEARTBEAT_SECONDS = 0.05
# Programs go in hexadecimal, so that the line that names a command is one line.
PREFIX = (sys.executable, "-c", "import sys; exec(bytes.fromhex(sys.argv[1]))")
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def opened_jobs(url: str, **arguments: Any) -> Iterator[Jobs]:
    migrated(url)
    database = open_database(config_of(url))
    given = {"prefix": PREFIX, "heartbeat_seconds": HEARTBEAT_SECONDS, "grace_seconds": 5.0}
    jobs = Jobs(database, **(given | arguments))
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


def ended(jobs: Jobs, job: Job) -> Job:
    until(lambda: found(jobs, job).state != "running")
    return found(jobs, job)


def found(jobs: Jobs, job: Job) -> Job:
    row = jobs.find(job.id)
    assert row is not None
    return row


def log_of(jobs: Jobs, job: Job) -> str:
    """What it printed, without the lines that say which command it is."""
    lines = jobs.read_log(job.id).text.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("$ "))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waits for any more counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def pids(folder: Path, number: int) -> list[int]:
    """The processes that have said in a folder that they live."""
    until(lambda: len(list(folder.glob("pid-*"))) == number)
    return [int(path.name.removeprefix("pid-")) for path in folder.glob("pid-*")]


# Starts another one that ignores SIGTERM, and waits for it.
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


def test_a_job_runs_its_commands_in_order_and_keeps_what_they_print(jobs: Jobs) -> None:
    job = start(jobs, "print('one')", "import sys; print('größer', file=sys.stderr)")
    assert job.state == "running"
    done = ended(jobs, job)
    assert (done.state, done.exit_status, done.message) == ("done", 0, "größer")
    assert log_of(jobs, job) == "one\ngrößer\n"
    assert done.started_at is not None
    assert done.ended_at is not None
    assert done.started_at <= done.ended_at
    assert jobs.running() is None
    assert jobs.newest() == [done]


def test_one_that_fails_ends_the_job_with_its_status(jobs: Jobs) -> None:
    job = start(jobs, "print('no'); raise SystemExit(3)", "print('never')")
    done = ended(jobs, job)
    assert (done.state, done.exit_status, done.message) == ("failed", 3, "no")
    assert log_of(jobs, job) == "no\n"


def test_one_that_is_killed_has_failed(jobs: Jobs) -> None:
    job = start(jobs, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = ended(jobs, job)
    assert (done.state, done.exit_status) == ("failed", 128 + signal.SIGKILL)


def test_a_command_that_is_not_there_has_failed(url: str) -> None:
    with opened_jobs(url, prefix=("/nowhere/pipeline",)) as jobs:
        job = start(jobs, "x")
        done = ended(jobs, job)
        assert (done.state, done.exit_status) == ("failed", 127)
        assert log_of(jobs, job) == "/nowhere/pipeline: No such file or directory\n"


def test_progress_message_and_cost_are_read_while_it_runs(jobs: Jobs, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    job = start(
        jobs,
        "import pathlib, time\n"
        "print('[2/5] train'); print('label: 3/12 $0.0200, about 0.4 min left')\n"
        f"while not pathlib.Path({str(go_on)!r}).exists(): time.sleep(0.01)\n"
        "print('wrote 1/2 of it'); print('spent in this run: $0.012500')",
    )
    until(lambda: found(jobs, job).progress is not None)
    seen = found(jobs, job)
    assert (seen.state, seen.progress) == ("running", 0.25)
    assert seen.message == "label: 3/12 $0.0200, about 0.4 min left"
    assert jobs.running() == seen
    go_on.touch()
    done = ended(jobs, job)
    assert (done.progress, done.cost_usd) == (0.25, 0.0125)


def test_a_log_is_read_from_where_one_was(jobs: Jobs) -> None:
    job = start(jobs, "print('größer'); print('last')")
    ended(jobs, job)
    whole = jobs.read_log(job.id)
    assert (whole.start, whole.end) == (0, len(whole.text))
    assert jobs.read_log(job.id, after=whole.end - 5) == ("last\n", whole.end - 5, whole.end)
    assert jobs.read_log(job.id, after=whole.end) == ("", whole.end, whole.end)
    assert jobs.read_log(job.id, after=10**9) == ("", whole.end, whole.end)
    assert jobs.read_log("job_of_nobody") == ("", 0, 0)


def test_of_a_long_log_the_end_is_kept(url: str) -> None:
    with opened_jobs(url, max_log_chars=1_000) as jobs:
        job = start(jobs, "for i in range(5000): print(f'{i:08}')\nprint('x' * 50_000)\nprint('z')")
        ended(jobs, job)
        (row,) = read(url, "SELECT log, log_start FROM jobs")
        assert len(row["log"]) == 1_000
        log = jobs.read_log(job.id, after=5)
        assert log.text == row["log"]
        assert log.text.endswith("x\nz\n")
        assert (log.start, log.end) == (row["log_start"], row["log_start"] + 1_000)
        assert log.start > 5_000 * 9 + 50_000 - 1_000


def test_a_line_without_end_comes_in_pieces(jobs: Jobs) -> None:
    job = start(jobs, "print('x' * 4_000); print('y' * 9_000, end='')", "print('z')")
    ended(jobs, job)
    lines = log_of(jobs, job).split("\n")
    assert [(line[:1], len(line)) for line in lines] == [
        ("x", 4_000), ("y", 4_000), ("y", 4_000), ("y", 1_000), ("z", 1), ("", 0),
    ]  # fmt: skip


def test_what_no_text_has_is_left_out_of_the_log(jobs: Jobs) -> None:
    job = start(
        jobs,
        r"import sys; sys.stdout.buffer.write(b'a\x00b\x1b[31mred\x1b[0m\xff\r\nold\rnew\n\ttab')",
    )
    assert ended(jobs, job).state == "done"
    assert log_of(jobs, job) == "abred\N{REPLACEMENT CHARACTER}\nold\nnew\n\ttab\n"


def test_a_command_has_the_environment_it_is_given_and_no_other(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    job = start(jobs, "import os; print(sorted(os.environ))", environment={"LANG": "C.UTF-8"})
    ended(jobs, job)
    assert "OPENAI_API_KEY" not in log_of(jobs, job)
    assert "'LANG'" in log_of(jobs, job)


def test_a_command_lets_requests_go_first(jobs: Jobs) -> None:
    job = start(
        jobs,
        "import os, pathlib\nprint(os.nice(0))\n"
        "group = pathlib.Path('/proc/self/autogroup')\n"
        f"print(group.read_text() if group.exists() else 'nice {NICENESS}')",
    )
    ended(jobs, job)
    own, sessions = log_of(jobs, job).split("\n")[:2]
    assert int(own) == min(os.nice(0) + NICENESS, 19)
    assert sessions.endswith(f"nice {NICENESS}")  # by which Linux goes, where it has this


def test_a_command_reads_no_input(jobs: Jobs) -> None:
    job = start(jobs, "import sys; print(repr(sys.stdin.read()))")
    assert ended(jobs, job).state == "done"
    assert log_of(jobs, job) == "''\n"


def test_cancelling_ends_everything_that_was_started(jobs: Jobs, tmp_path: Path) -> None:
    job = start(jobs, FAMILY.format(folder=str(tmp_path)), "print('never')")
    family = pids(tmp_path, 2)
    asked = jobs.cancel(job.id)
    assert asked is not None
    assert asked.id == job.id
    done = ended(jobs, job)
    assert done.state == "cancelled"
    until(lambda: all(map(is_gone, family)))
    assert log_of(jobs, job) == ""


def test_what_does_not_stop_in_time_is_killed(url: str, tmp_path: Path) -> None:
    program = FAMILY.format(folder=str(tmp_path)).replace("if os.fork() == 0:", "if True:")
    with opened_jobs(url, grace_seconds=0.2) as jobs:
        job = start(jobs, program)
        (pid,) = pids(tmp_path, 1)
        jobs.cancel(job.id)
        done = ended(jobs, job)
        assert (done.state, done.exit_status) == ("cancelled", 128 + signal.SIGKILL)
        until(lambda: is_gone(pid))


def test_a_command_may_finish_what_it_does_when_it_is_cancelled(jobs: Jobs, tmp_path: Path) -> None:
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
    done = ended(jobs, job)
    assert (done.state, done.cost_usd) == ("cancelled", 0.5)


def test_what_a_command_leaves_behind_ends_with_it(jobs: Jobs, tmp_path: Path) -> None:
    program = FAMILY.format(folder=str(tmp_path)).removesuffix("live()\n")
    job = start(
        jobs,
        program.replace("SIG_IGN)", "SIG_IGN); live()")
        + "while not list(folder.glob('pid-*')): time.sleep(0.01)\nprint('bye')",
    )
    (pid,) = pids(tmp_path, 1)
    assert ended(jobs, job).state == "done"
    until(lambda: is_gone(pid))
    assert log_of(jobs, job) == "bye\n"


def test_one_that_has_ended_stays_as_it_is_when_it_is_cancelled(jobs: Jobs) -> None:
    job = start(jobs, "print('done')")
    done = ended(jobs, job)
    assert jobs.cancel(job.id) == done
    assert jobs.cancel("job_of_nobody") is None


def test_one_job_at_a_time_whoever_starts_it(url: str, tmp_path: Path) -> None:
    with opened_jobs(url) as one, opened_jobs(url) as other:
        job = start(one, FAMILY.format(folder=str(tmp_path)))
        for jobs in (one, other):
            with pytest.raises(JobRunning) as caught:
                start(jobs, "print('never')")
            assert caught.value.job.id == job.id
        assert found(other, job).state == "running"
        other.cancel(job.id)  # from where it does not run
        assert ended(other, job).state == "cancelled"
        assert ended(other, start(other, "print('now')")).state == "done"


def test_of_many_that_start_at_the_same_moment_one_does(url: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        several = [stack.enter_context(opened_jobs(url)) for _ in range(4)]
        barrier = threading.Barrier(4)

        def try_to_start(jobs: Jobs) -> bool:
            barrier.wait()
            try:
                start(jobs, "import time; time.sleep(600)")
            except JobRunning:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(try_to_start, several)) == [False, False, False, True]
        assert len(read(url, "SELECT * FROM jobs")) == 1


def test_one_that_is_stopped_is_interrupted_and_leaves_no_process(url: str, tmp_path: Path) -> None:
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


def test_one_whose_proxy_is_killed_ends_and_is_interrupted_for_others(
    url: str, tmp_path: Path
) -> None:
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
        lost = found(jobs, job)
        assert (lost.state, lost.message) == ("interrupted", "the proxy that ran it has ended")
        assert ended(jobs, start(jobs, "print('next')")).state == "done"


def test_one_that_is_silent_for_long_on_another_machine_is_interrupted(url: str) -> None:
    now = time.time()
    with opened_jobs(url, clock=lambda: now) as jobs:
        job = start(jobs, "print('x')")
        ended(jobs, job)
        execute(
            url,
            "UPDATE jobs SET state = 'running', ended_at = NULL, pid = 1, "
            f"worker = 'elsewhere/1/abc', seen_at = {now - 59}",
        )
        assert found(jobs, job).state == "running"
        with pytest.raises(JobRunning):
            start(jobs, "print('never')")
        now += 2
        assert ended(jobs, start(jobs, "print('now')")).state == "done"
        assert found(jobs, job).state == "interrupted"


def test_one_that_others_took_for_gone_ends(url: str, tmp_path: Path) -> None:
    """Its process was held up for so long that another may be running by now."""
    with opened_jobs(url, grace_seconds=0.2) as jobs:
        job = start(jobs, FAMILY.format(folder=str(tmp_path)))
        family = pids(tmp_path, 2)
        execute(url, "UPDATE jobs SET state = 'interrupted', message = 'said by another'")
        until(lambda: all(map(is_gone, family)))
        assert found(jobs, job).message == "said by another"


def test_the_last_ones_are_kept(url: str) -> None:
    with opened_jobs(url) as jobs:
        first = start(jobs, "print('first')")
        ended(jobs, first)
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
        ended(jobs, last)
        assert len(read(url, "SELECT id FROM jobs")) <= MAX_JOBS + 1
        assert jobs.find(first.id) is None


def test_a_database_that_fails_says_so(sqlite_url: str) -> None:
    database = open_database(config_of(sqlite_url))
    jobs = Jobs(database)
    with pytest.raises(StoreUnavailable, match="jobs cannot be read or written"):
        jobs.newest()
    with pytest.raises(StoreUnavailable):
        start(jobs, "print('never')")


def test_one_goes_on_while_its_database_fails(
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
        assert ended(jobs, job).state == "done"
        assert log_of(jobs, job) == "before\nafter\n"
