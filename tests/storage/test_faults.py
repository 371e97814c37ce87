"""Database faults under load, over real sockets.

Each request is answered, `/ready` and the metrics report the fault, and all rows are written after
it, without a restart.
"""

import asyncio
import contextlib
import ctypes
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fakes import FakeUpstream
from live import LiveProxy, Samples, chat_body
from postgres import PostgresServer
from served import Connection, Served, ask, until
from stored import fill, integrity_errors, random_records, read

pytest_plugins = ["databases"]

PATIENCE_SECONDS = 30.0
CLIENTS = 3

Proxy = LiveProxy | Served


class Traffic:
    """Sequential requests of several clients. Each must succeed, or the test fails."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = False
        self.ids: list[str] = []  # in the order of the responses
        self.started = 0

    async def _ask(self) -> None:
        connection = await Connection.open(self._port)
        body = chat_body(model="local")
        try:
            while not self._stopping:
                self.started += 1
                answer = await connection.ask(body)
                assert (answer.head.status, b"Hello" in answer.body) == (200, True)
                self.ids.append(answer.request_id)
        finally:
            connection.leave()

    async def continues(self, answers: int = 100) -> None:
        """Wait until this number of further requests is answered."""
        expected = len(self.ids) + answers
        await until(
            lambda: len(self.ids) >= expected,
            seconds=PATIENCE_SECONDS,
            what="requests are answered",
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Traffic"]:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._ask())
            try:
                await self.continues()
                yield self
            finally:
                self._stopping = True


async def wait_for_state(proxy: Proxy, state: str) -> None:
    """Wait until `/ready` and the metrics report this state of the database."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await state_of(proxy) != state:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
    samples = await proxy.scrape()
    assert samples("router_database_up") == (state == "ok")


async def state_of(proxy: Proxy) -> str:
    ready = await ask(proxy.port, path="/ready")
    assert ready.head.status == 200  # requests can be answered
    return "ok" if b'"database":"ok"' in ready.body else "failing"


async def all_counted(proxy: Proxy, traffic: Traffic) -> Samples:
    """The metrics, once they count every request."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            samples = await proxy.scrape()
            if samples("router_requests_total") == len(traffic.ids):
                return samples
            await asyncio.sleep(0.01)


async def check_all_stored(proxy: Proxy, traffic: Traffic, url: str) -> None:
    """Check that each request has one row and that the rollups match the rows."""
    samples = await all_counted(proxy, traffic)
    assert samples("router_records_dropped_total") == 0
    await proxy.stop()
    assert sorted(row["id"] for row in read(url)) == sorted(traffic.ids)
    assert integrity_errors(url) == []


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
input()
connection.execute("ROLLBACK")
"""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds an exclusive lock."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(b"\n")
    assert process.returncode == 0


@contextlib.asynccontextmanager
async def short_lock_wait(
    folder: Path, local: FakeUpstream, cloud: FakeUpstream
) -> AsyncIterator[LiveProxy]:
    """A proxy that waits for locks only briefly."""
    live = LiveProxy(folder, local, cloud)
    database: Any = live.proxy.store.database
    database.pragma("busy_timeout", 20, permanent=True)
    database.close()
    async with live:
        yield live


async def test_rows_survive_a_lock_of_another_process(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    async with short_lock_wait(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.running():
            for _ in range(2):
                await wait_for_state(proxy, "ok")
                with locked(tmp_path / "router.db"):
                    await wait_for_state(proxy, "failing")
                    await traffic.continues()
                    assert await state_of(proxy) == "failing"
                await wait_for_state(proxy, "ok")
                await traffic.continues()
        await check_all_stored(proxy, traffic, f"sqlite:///{tmp_path}/router.db")


async def test_long_lock_drops_and_counts_rows_over_the_queue_limit(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Rows over the limit are dropped and counted. Queued rows are written."""
    async with short_lock_wait(tmp_path, local, cloud) as proxy:
        chars = proxy.proxy.store._max_pending_chars = 3_000
        traffic = Traffic(proxy.port)
        async with traffic.running():
            await wait_for_state(proxy, "ok")
            with locked(tmp_path / "router.db"):
                await wait_for_state(proxy, "failing")
                await traffic.continues(300)
                waiting = list(proxy.proxy.store._pending)
                assert sum(record.text_chars for record in waiting) <= chars
                assert (await proxy.scrape())("router_records_dropped_total") > 0
            await wait_for_state(proxy, "ok")
            await traffic.continues()
        dropped = (await all_counted(proxy, traffic))("router_records_dropped_total")
        await proxy.stop()
    url = f"sqlite:///{tmp_path}/router.db"
    rows = {row["id"] for row in read(url)}
    assert rows < set(traffic.ids)
    assert len(rows) + dropped == len(traffic.ids)
    assert integrity_errors(url) == []


def overwrite(path: Path) -> None:
    """Overwrite the file in place, as a wrong shell redirection does."""
    path.write_bytes(b"not a database now\n" * 10)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"not a database\n" * 1_000)
    other.replace(path)


def remove(path: Path) -> None:
    for file in files_of(path):
        file.unlink()


def files_of(path: Path) -> list[Path]:
    """The database and its auxiliary files."""
    return [*path.parent.glob(f"{path.name}*")]


def quarantined(path: Path) -> list[Path]:
    return [file for file in files_of(path) if ".broken-" in file.name]


async def destroy_until_noticed(
    destroy: Callable[[Path], None], path: Path, traffic: Traffic
) -> int:
    """Destroy the file until a new database is created; return how many were answered before.

    A checkpoint at the same moment writes valid pages over the text, and nothing is broken.
    """
    for _ in range(3):
        destroy(path)
        answered = len(traffic.ids) + CLIENTS  # these may already be answered
        try:
            await until(
                lambda: path.exists() and (destroy is remove or bool(quarantined(path))),
                seconds=PATIENCE_SECONDS / 3,
                what="a new database is created",
            )
        except TimeoutError:
            if destroy is not overwrite:
                raise
        else:
            return answered
    raise TimeoutError("no new database is created")


@pytest.mark.parametrize("destroy", [overwrite, replace, remove])
async def test_destroyed_file_is_replaced_by_a_new_database(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, destroy: Callable[[Path], None]
) -> None:
    """The file is quarantined and a new database created."""
    path = tmp_path / "router.db"
    url = f"sqlite:///{path}"
    fill(url, random_records(1_000))  # otherwise the file would be empty
    async with LiveProxy(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.running():
            await wait_for_state(proxy, "ok")
            answered = await destroy_until_noticed(destroy, path, traffic)
            await wait_for_state(proxy, "ok")
            await traffic.continues()
        samples = await all_counted(proxy, traffic)
        await proxy.stop()
    assert samples("router_records_dropped_total") == 0
    assert bool(quarantined(path)) == (destroy is not remove)
    assert {row["id"] for row in read(url)} >= set(traffic.ids[answered:])
    assert integrity_errors(url) == []


class UnprivilegedServed(Served):
    """A proxy that obeys file permissions even as root, without CAP_DAC_OVERRIDE."""

    def _run(self) -> subprocess.Popen[bytes]:
        with ThreadPoolExecutor(1) as thread:  # the thread loses the capability permanently
            return thread.submit(self._run_unprivileged).result()

    def _run_unprivileged(self) -> subprocess.Popen[bytes]:
        drop_from_bounding_set, dac_override = 24, 1  # of prctl(2) and capabilities(7)
        if os.geteuid() == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(drop_from_bounding_set, dac_override, 0, 0, 0) == 0, (
                ctypes.get_errno()
            )
        return super()._run()


async def test_rows_survive_a_full_and_then_read_only_disk(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """A file size limit simulates the full disk. It applies to the log, too.

    An open file stays writable whatever its permissions. The writer has closed it by then and can
    only open it read-only.
    """
    async with UnprivilegedServed(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.running():
            await wait_for_state(proxy, "ok")
            before = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            await wait_for_state(proxy, "failing")
            await traffic.continues()
            with read_only(tmp_path):
                resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, before)
                deadline = time.monotonic() + 1.0  # the writer retries five times a second
                while time.monotonic() < deadline:
                    assert await state_of(proxy) == "failing"
                await traffic.continues()
            await wait_for_state(proxy, "ok")
            await traffic.continues()
        await check_all_stored(proxy, traffic, f"sqlite:///{proxy.database}")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    files = files_of(folder / "router.db")
    assert files
    for file in files:
        file.chmod(0o444)
    folder.chmod(0o555)
    yield
    folder.chmod(0o755)
    for file in files:
        file.chmod(0o644)


async def test_unwritten_rows_at_shutdown_are_logged(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with short_lock_wait(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.running():
            with locked(tmp_path / "router.db"):
                await wait_for_state(proxy, "failing")
                await traffic.continues(10)
        with contextlib.closing(
            sqlite3.connect(tmp_path / "router.db", isolation_level=None)
        ) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            answer = await ask(proxy.port, chat_body(model="local"))
            assert answer.head.status == 200
            await proxy.stop()
    assert "rows could not be written" in caplog.text


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def shared(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, postgres_url: str
) -> AsyncIterator[LiveProxy]:
    """A proxy with its rows in PostgreSQL."""
    changes = {"storage": {"url": postgres_url}}
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        yield proxy


async def test_rows_survive_a_server_outage(
    shared: LiveProxy, postgres: PostgresServer, postgres_url: str
) -> None:
    traffic = Traffic(shared.port)
    async with traffic.running():
        await wait_for_state(shared, "ok")
        await asyncio.to_thread(postgres.stop)
        await wait_for_state(shared, "failing")
        await traffic.continues(300)
        assert await state_of(shared) == "failing"
        await asyncio.to_thread(postgres.start)
        await wait_for_state(shared, "ok")
        await traffic.continues()
    await check_all_stored(shared, traffic, postgres_url)


async def test_rows_survive_repeated_server_crashes(
    shared: LiveProxy, postgres: PostgresServer, postgres_url: str
) -> None:
    """A crash may follow a commit whose response is lost."""
    traffic = Traffic(shared.port)
    async with traffic.running():
        for _ in range(5):
            await asyncio.to_thread(postgres.restart)
            await traffic.continues(50)
        await wait_for_state(shared, "ok")
        await traffic.continues()
    await check_all_stored(shared, traffic, postgres_url)


async def test_rows_survive_locked_tables(shared: LiveProxy, postgres_url: str) -> None:
    """The lock is shorter than the timeout: nothing fails, rows are late."""
    traffic = Traffic(shared.port)
    async with traffic.running():
        await wait_for_state(shared, "ok")
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("LOCK TABLE requests")
            await traffic.continues()
        await traffic.continues()
        assert await state_of(shared) == "ok"
    await check_all_stored(shared, traffic, postgres_url)
