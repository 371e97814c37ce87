"""Each answered request has a row, however the process ends. Shutdown finishes running requests.

`hybrid-llm serve` runs in its own process, under load from clients that do not pause.
"""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from fakes import (
    DONE,
    PATIENCE_SECONDS,
    FakeUpstream,
)
from held_load import CLIENTS, HELD, HELD_BEGINNING, Holding, answers, under_load
from live import chat_body
from proxy.storage.writer import FLUSH_SECONDS
from served import START_SECONDS, Connection, Head, Served, ask, request, until

STOPS = [signal.SIGTERM, signal.SIGINT]
# The writer needs CPU time, which other processes may take.
LATE_SECONDS = 1.5


@pytest.fixture
async def proxy(tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream) -> AsyncIterator[Served]:
    local.answer = cloud.answer = answers
    async with Served(tmp_path, local, cloud) as served:
        yield served


def endings(proxy: Served) -> dict[str, str]:
    """The ending of every row by its id, which is the primary key."""
    return {row["id"]: row["ending"] for row in proxy.query("select id, ending from requests")}


async def refuses_connections(proxy: Served) -> None:
    """Wait until the proxy accepts no new connection."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                connection = await Connection.open(proxy.port)
            except ConnectionError:
                return
            connection.leave()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held_streams(proxy: Served, number: int) -> AsyncIterator[list[tuple[Connection, Head]]]:
    """Streams that have started and continue when the gate is opened."""
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(number):
            connection = await Connection.open(proxy.port)
            stack.callback(connection.leave)
            await connection.send(request(chat_body(model="local", stream=True, text=HELD)))
            streams.append((connection, await connection.read_head()))
        yield streams


async def read_all(streams: list[tuple[Connection, Head]]) -> list[bytes]:
    """The rest of each stream."""
    return [
        b"".join([piece async for piece in connection.pieces(head)]) for connection, head in streams
    ]


async def test_killed_proxy_loses_only_the_last_flush_interval(proxy: Served) -> None:
    async with under_load(proxy.port) as load:

        def exceeds_the_flush_interval() -> bool:
            return load.completed[-1].at - load.completed[0].at > 1.2 * (
                FLUSH_SECONDS + LATE_SECONDS
            )

        await until(exceeds_the_flush_interval, seconds=PATIENCE_SECONDS, what="load ran on")
        killed_at = time.monotonic()
        proxy.kill()
        await until(lambda: load.refused > 0, seconds=PATIENCE_SECONDS, what="the port is closed")
    await proxy.start()
    restarted = await ask(proxy.port, chat_body())
    assert restarted.head.status == 200
    assert await proxy.stop() == 0
    assert proxy.query("pragma integrity_check") == [{"integrity_check": "ok"}]
    rows = endings(proxy)
    assert rows.pop(restarted.request_id) == "ok"
    lost = [answer for answer in load.completed if answer.id not in rows]
    assert [killed_at - answer.at for answer in lost] == [
        pytest.approx(0, abs=FLUSH_SECONDS + LATE_SECONDS) for _ in lost
    ]
    written = {answer.id for answer in load.completed} - {answer.id for answer in lost}
    assert written
    # At most one more per client: recorded, but killed before its response arrived.
    assert len(rows.keys() - written) <= CLIENTS
    assert set(rows.values()) <= {"ok"}


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
async def test_first_signal_finishes_running_requests_and_accepts_no_others(
    proxy: Served, local: FakeUpstream, number: signal.Signals
) -> None:
    local.answer = holding = Holding()
    async with under_load(proxy.port) as load, held_streams(proxy, 3) as streams:
        proxy.signal(number)
        await refuses_connections(proxy)
        assert proxy.runs
        holding.gate.open()
        for text in await read_all(streams):
            assert text.startswith(HELD_BEGINNING)
            assert text.endswith(DONE)
        assert await proxy.ended() == 0
    rows = endings(proxy)
    assert [rows[head.request_id] for _, head in streams] == ["ok"] * 3
    assert {answer.status for answer in load.completed} == {200}
    assert [answer.id for answer in load.completed if rows.get(answer.id) != "ok"] == []
    assert load.refused
    assert b"ERROR" not in proxy.log


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
async def test_second_signal_cancels_requests_and_loses_no_row(
    proxy: Served, local: FakeUpstream, number: signal.Signals
) -> None:
    local.answer = Holding()
    async with under_load(proxy.port) as load, held_streams(proxy, 3) as streams:
        proxy.signal(number)
        await refuses_connections(proxy)
        proxy.signal(number)
        for text in await read_all(streams):
            first, last = text.split(b"\n\n", 1)
            assert first + b"\n\n" == HELD_BEGINNING
            assert last.startswith(b'data: {"error":')
            assert last.count(b"\n\n") == 1
        assert await proxy.ended() == 0
    rows = endings(proxy)
    assert [rows[head.request_id] for _, head in streams] == ["stopped"] * 3
    assert [answer.id for answer in load.completed if answer.id not in rows] == []


LONG_DRAIN = {"server": {"drain_seconds": 600}}


async def test_draining_proxy_is_not_ready_but_serves_requests(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = answers
    async with Served(tmp_path, local, cloud, changes=LONG_DRAIN) as proxy:
        connection = await Connection.open(proxy.port)
        assert (await connection.ask(chat_body())).head.headers.get("connection") is None
        proxy.signal(signal.SIGTERM)

        async def is_unready() -> bool:
            ready = await ask(proxy.port, path="/ready")
            assert (ready.head.status == 503) is (b'"stopping"' in ready.body)
            return ready.head.status == 503

        await until(is_unready, what="the proxy is not ready")
        for stream in (False, True):
            # The response asks the client to use another connection next time.
            answer = await connection.ask(chat_body(stream=stream))
            assert (answer.head.status, connection.reusable) == (200, False)
            connection.leave()
            connection = await Connection.open(proxy.port)
        connection.leave()
        assert (await ask(proxy.port, path="/health")).head.status == 200
        proxy.signal(signal.SIGTERM)
        assert await proxy.ended() == 0
        assert Counter(endings(proxy).values()) == {"ok": 3}


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigint_stops_without_draining(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, workers: int
) -> None:
    changes = {"server": LONG_DRAIN["server"] | {"workers": workers}}
    async with Served(tmp_path, local, cloud, changes=changes) as proxy:
        proxy.signal(signal.SIGINT)
        assert await proxy.ended() == 0


async def test_reload_under_load_drops_no_request(proxy: Served) -> None:
    async with under_load(proxy.port) as load:
        for number in range(1, 4):
            before = len(load.completed)
            proxy.configure({"upstreams": {"local": {"timeouts": {"idle": 10 + number}}}})
            proxy.signal(signal.SIGHUP)
            await until(
                lambda: (
                    proxy.log.count(b"is in use") >= number  # noqa: B023
                    and len(load.completed) > before + CLIENTS  # noqa: B023
                ),
                seconds=START_SECONDS,
                what="the new configuration is in use",
            )
    assert await proxy.stop() == 0
    assert (load.broken, load.refused) == (0, 0)
    assert {answer.status for answer in load.completed} == {200}
    assert Counter(endings(proxy).values()) == {"ok": len(load.completed)}
