"""A database that fails under a proxy that is busy: over real sockets, with real faults.

Whatever happens to it, every request is answered; `/ready` and the metrics say so; and when it is
over, all rows are there, without a restart.
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
    """Requests one behind the other. Each must be answered well, or the test fails."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = False
        self.ids: list[str] = []  # in the order of the answers
        self.begun = 0

    async def _ask(self) -> None:
        connection = await Connection.open(self._port)
        body = chat_body(model="local")
        try:
            while not self._stopping:
                self.begun += 1
                answer = await connection.ask(body)
                assert (answer.head.status, b"Hello" in answer.body) == (200, True)
                self.ids.append(answer.request_id)
        finally:
            connection.leave()

    async def goes_on(self, answers: int = 100) -> None:
        """So many more requests are answered."""
        wanted = len(self.ids) + answers
        await until(lambda: len(self.ids) >= wanted, seconds=PATIENCE_SECONDS, what="answers come")

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator["Traffic"]:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._ask())
            try:
                await self.goes_on()
                yield self
            finally:
                self._stopping = True


async def says(proxy: Proxy, state: str) -> None:
    """Wait until the proxy says that its database is in this state, in every place."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await state_of(proxy) != state:  # noqa: ASYNC110 - no event of ours
            await asyncio.sleep(0.01)
    samples = await proxy.scrape()
    assert samples("router_database_up") == (state == "ok")


async def state_of(proxy: Proxy) -> str:
    ready = await ask(proxy.port, path="/ready")
    assert ready.head.status == 200  # requests can be answered
    return "ok" if b'"database":"ok"' in ready.body else "failing"


async def all_counted(proxy: Proxy, traffic: Traffic) -> Samples:
    """The metrics, once every request is in them."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            samples = await proxy.scrape()
            if samples("router_requests_total") == len(traffic.ids):
                return samples
            await asyncio.sleep(0.01)


async def check_all_kept(proxy: Proxy, traffic: Traffic, url: str) -> None:
    """After a good end every request is a row, once, and the sums are those of the rows."""
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
    """Another process wants to write, and does not come to an end."""
    command = [sys.executable, "-c", LOCK, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate(b"\n")
    assert process.returncode == 0


@contextlib.asynccontextmanager
async def impatient(
    folder: Path, local: FakeUpstream, cloud: FakeUpstream
) -> AsyncIterator[LiveProxy]:
    """A proxy that waits for a lock no longer than a moment."""
    live = LiveProxy(folder, local, cloud)
    database: Any = live.proxy.store.database
    database.pragma("busy_timeout", 20, permanent=True)
    database.close()
    async with live:
        yield live


async def test_locked_by_another_process(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    async with impatient(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.flowing():
            for _ in range(2):
                await says(proxy, "ok")
                with locked(tmp_path / "router.db"):
                    await says(proxy, "failing")
                    await traffic.goes_on()
                    assert await state_of(proxy) == "failing"
                await says(proxy, "ok")
                await traffic.goes_on()
        await check_all_kept(proxy, traffic, f"sqlite:///{tmp_path}/router.db")


async def test_locked_for_longer_than_memory_lasts(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """What is too much is dropped, and counted; what was waiting is written."""
    async with impatient(tmp_path, local, cloud) as proxy:
        chars = proxy.proxy.store._max_pending_chars = 3_000
        traffic = Traffic(proxy.port)
        async with traffic.flowing():
            await says(proxy, "ok")
            with locked(tmp_path / "router.db"):
                await says(proxy, "failing")
                await traffic.goes_on(300)
                waiting = list(proxy.proxy.store._pending)
                assert sum(record.text_chars for record in waiting) <= chars
                assert (await proxy.scrape())("router_records_dropped_total") > 0
            await says(proxy, "ok")
            await traffic.goes_on()
        dropped = (await all_counted(proxy, traffic))("router_records_dropped_total")
        await proxy.stop()
    url = f"sqlite:///{tmp_path}/router.db"
    rows = {row["id"] for row in read(url)}
    assert rows < set(traffic.ids)
    assert len(rows) + dropped == len(traffic.ids)
    assert integrity_errors(url) == []


def overwrite(path: Path) -> None:
    """In place, as a wrong redirection of a shell would."""
    path.write_bytes(b"no database any more\n" * 10)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"no database at all\n" * 1_000)
    other.replace(path)


def remove(path: Path) -> None:
    for file in files_of(path):
        file.unlink()


def files_of(path: Path) -> list[Path]:
    """The database and what belongs to it."""
    return [*path.parent.glob(f"{path.name}*")]


def set_aside(path: Path) -> list[Path]:
    return [one for one in files_of(path) if ".broken-" in one.name]


@pytest.mark.parametrize("destroy", [overwrite, replace, remove])
async def test_the_file_is_no_database_any_more(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, destroy: Callable[[Path], None]
) -> None:
    """It is set aside, whatever it is, and a new one begun."""
    path = tmp_path / "router.db"
    url = f"sqlite:///{path}"
    fill(url, random_records(1_000))  # without which there is nothing in the file yet
    async with LiveProxy(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.flowing():
            await says(proxy, "ok")
            destroy(path)
            known = len(traffic.ids) + CLIENTS  # they may have been answered by now
            await until(
                lambda: path.exists() and (destroy is remove or bool(set_aside(path))),
                seconds=PATIENCE_SECONDS,
                what="a new database is begun",
            )
            await says(proxy, "ok")
            await traffic.goes_on()
        samples = await all_counted(proxy, traffic)
        await proxy.stop()
    assert samples("router_records_dropped_total") == 0
    assert bool(set_aside(path)) == (destroy is not remove)
    assert {row["id"] for row in read(url)} >= set(traffic.ids[known:])
    assert integrity_errors(url) == []


class Bound(Served):
    """A proxy that permission bits bind: root's own are lifted by a capability that it lacks."""

    def _run(self) -> subprocess.Popen[bytes]:
        with ThreadPoolExecutor(1) as thread:  # for a thread loses it for ever
            return thread.submit(self._run_bound).result()

    def _run_bound(self) -> subprocess.Popen[bytes]:
        drop_from_bounding_set, dac_override = 24, 1  # of prctl(2) and capabilities(7)
        if os.geteuid() == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.prctl(drop_from_bounding_set, dac_override, 0, 0, 0) == 0, (
                ctypes.get_errno()
            )
        return super()._run()


async def test_a_full_disk_and_then_one_that_is_read_only(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """No file of the process may grow, its log included, which is what a full disk is to it.

    A file that is open for writing stays so whatever its bits say. But the writer has let go of it
    by then, and finds that it may only read.
    """
    async with Bound(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.flowing():
            await says(proxy, "ok")
            before = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
            await says(proxy, "failing")
            await traffic.goes_on()
            with read_only(tmp_path):
                resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, before)
                deadline = time.monotonic() + 1.0  # the writer tries five times a second
                while time.monotonic() < deadline:
                    assert await state_of(proxy) == "failing"
                await traffic.goes_on()
            await says(proxy, "ok")
            await traffic.goes_on()
        await check_all_kept(proxy, traffic, f"sqlite:///{proxy.database}")


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


async def test_what_cannot_be_written_before_the_end_is_told(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with impatient(tmp_path, local, cloud) as proxy:
        traffic = Traffic(proxy.port)
        async with traffic.flowing():
            with locked(tmp_path / "router.db"):
                await says(proxy, "failing")
                await traffic.goes_on(10)
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


async def test_the_server_stops_for_a_while(
    shared: LiveProxy, postgres: PostgresServer, postgres_url: str
) -> None:
    traffic = Traffic(shared.port)
    async with traffic.flowing():
        await says(shared, "ok")
        await asyncio.to_thread(postgres.stop)
        await says(shared, "failing")
        await traffic.goes_on(300)
        assert await state_of(shared) == "failing"
        await asyncio.to_thread(postgres.start)
        await says(shared, "ok")
        await traffic.goes_on()
    await check_all_kept(shared, traffic, postgres_url)


async def test_the_server_crashes_again_and_again(
    shared: LiveProxy, postgres: PostgresServer, postgres_url: str
) -> None:
    """In the middle of whatever it does: a commit may be done and nobody know."""
    traffic = Traffic(shared.port)
    async with traffic.flowing():
        for _ in range(5):
            await asyncio.to_thread(postgres.restart)
            await traffic.goes_on(50)
        await says(shared, "ok")
        await traffic.goes_on()
    await check_all_kept(shared, traffic, postgres_url)


async def test_the_tables_are_locked(shared: LiveProxy, postgres_url: str) -> None:
    """For shorter than it is waited for: nothing fails, rows come late."""
    traffic = Traffic(shared.port)
    async with traffic.flowing():
        await says(shared, "ok")
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("LOCK TABLE requests")
            await traffic.goes_on()
        await traffic.goes_on()
        assert await state_of(shared) == "ok"
    await check_all_kept(shared, traffic, postgres_url)
