"""Accepting connections. Turns of the event loop are counted; no time is measured."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import pairwise
from typing import Any, ClassVar

import pytest
import uvicorn
import uvloop

from proxy.server.accepting import BACKLOG, AcceptingServer, Acceptor
from proxy.server.listening import CannotListen, bind_addresses

CLIENTS = 300


class Counted(asyncio.Protocol):
    """Counts the connections that are made, and echoes."""

    made = 0
    transports: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        Counted.transports.add(transport)
        Counted.made += 1

    def connection_lost(self, error: Exception | None) -> None:
        Counted.transports.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture(autouse=True)
def no_connections() -> None:
    Counted.made = 0


@asynccontextmanager
async def accepting(listening: socket.socket, **settings: Any) -> AsyncIterator[Acceptor]:
    """An acceptor, which is closed with its connections."""
    acceptor = Acceptor([listening], Counted, **settings)
    try:
        yield acceptor
    finally:
        acceptor.close()
        for transport in set(Counted.transports):
            transport.abort()
        while Counted.transports:  # noqa: ASYNC110 -- a few turns of the loop
            await asyncio.sleep(0)


class Failing(socket.socket):
    """A listening socket that counts, and whose next accepts raise errors."""

    errors: list[int]
    accepted = 0

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            raise OSError(self.errors.pop(0), "scripted")
        connection = super().accept()
        self.accepted += 1
        return connection


@contextmanager
def clients_of(number: int, *, errors: tuple[int, ...] = ()) -> Iterator[Failing]:
    """A listening socket with this number of connected clients, none of them accepted."""
    with ExitStack() as stack:
        listening = stack.enter_context(Failing())
        listening.errors = list(errors)
        listening.bind(("127.0.0.1", 0))
        listening.listen(CLIENTS)
        for _ in range(number):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        yield listening


async def made_in_each_turn(expected: int) -> list[int]:
    """The connections that each turn of the loop makes, until all are made."""
    totals = [0]
    while totals[-1] < expected:
        await asyncio.sleep(0)
        totals.append(Counted.made)
    return [after - before for before, after in pairwise(totals)]


def test_waiting_connections_are_accepted_in_a_few_turns() -> None:
    """With one in each turn, the last of N clients waits while N turns serve the others."""

    async def run(listening: Failing) -> list[int]:
        async with accepting(listening, max_accepted=50):
            return await made_in_each_turn(CLIENTS)

    with clients_of(CLIENTS) as listening:
        made = uvloop.run(asyncio.wait_for(run(listening), 10.0))
    assert sum(made) == CLIENTS
    assert max(made) <= 50, "a turn is bounded, for the clients that are connected"
    assert len(made) < 3 * CLIENTS / 50


def test_open_connections_outlive_the_acceptor_and_new_ones_are_refused() -> None:
    async def run() -> None:
        [listening] = bind_addresses("127.0.0.1", 0)
        address = listening.getsockname()
        async with accepting(listening) as acceptor:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            acceptor.close()
            writer.write(b"after")
            assert await reader.readexactly(5) == b"after"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)
            writer.close()

    uvloop.run(run())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOBUFS, errno.EPERM])
def test_accepting_pauses_while_it_fails_and_goes_on(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(listening: Failing) -> None:
        async with accepting(listening, pause_seconds=0.001):
            await made_in_each_turn(3)

    with clients_of(3, errors=(number, number)) as listening:
        uvloop.run(asyncio.wait_for(run(listening), 10.0))
    assert caplog.text.count("cannot accept connections") == 2


def test_a_client_that_left_before_it_was_accepted_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(listening: Failing) -> None:
        async with accepting(listening):
            await made_in_each_turn(3)

    with clients_of(3, errors=(errno.ECONNABORTED,)) as listening:
        uvloop.run(asyncio.wait_for(run(listening), 10.0))
    assert not caplog.text


def test_each_address_of_a_host_is_bound_to_one_port() -> None:
    sockets = bind_addresses("localhost", 0)
    try:
        assert len({item.getsockname()[1] for item in sockets}) == 1
        assert {item.family for item in sockets} <= {socket.AF_INET, socket.AF_INET6}
    finally:
        for item in sockets:
            item.close()


def test_the_queue_holds_more_than_a_burst() -> None:
    """A connection that does not fit is dropped, and the client retries after a second."""
    assert BACKLOG >= 5_000


def test_connections_of_the_last_moment_are_known_once_it_is_closed() -> None:
    """At shutdown uvicorn tells the connections to end, and waits for seconds for the others."""

    async def run(listening: Failing) -> tuple[int, int]:
        async with accepting(listening) as acceptor:
            while listening.accepted < 20:  # noqa: ASYNC110 -- a few turns of the loop
                await asyncio.sleep(0)
            before = Counted.made
            acceptor.close()
            await acceptor.wait_closed()
            return before, Counted.made

    with clients_of(20) as listening:
        assert uvloop.run(asyncio.wait_for(run(listening), 10.0)) == (0, 20)


def test_an_address_that_was_taken_during_the_start_ends_the_application() -> None:
    """Two sockets can be bound to one address while neither listens."""
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ended.append(True)
        await send({"type": "lifespan.shutdown.complete"})

    [bound] = bind_addresses("127.0.0.1", 0)
    port = bound.getsockname()[1]
    [other] = bind_addresses("127.0.0.1", port)
    other.listen()
    try:
        with pytest.raises(CannotListen, match=f"Port {port} is in use on 127.0.0.1"):
            AcceptingServer(uvicorn.Config(app, lifespan="on", log_config=None)).run([bound])
    finally:
        other.close()
        bound.close()
    assert ended
