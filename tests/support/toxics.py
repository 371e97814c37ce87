"""Network faults between the proxy and an upstream.

    async with ToxicRelay(upstream) as relay:
        relay.toxic = Cut(after=40)

A relay on a real socket, modelled on Shopify's Toxiproxy. Requests pass; answers get the toxic. The
relay counts bytes of answers and does not parse HTTP.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from fakes import PATIENCE_SECONDS, End, FakeUpstream, Gate, reset


@dataclass(frozen=True)
class Cut:
    """The connection ends after this many bytes of an answer, when the gate is open.

    A reset may discard data in transit; use the gate if the data must arrive first.
    """

    after: int = 0
    how: End = End.RESET
    gate: Gate | None = None


@dataclass(frozen=True)
class Freeze:
    """After this many bytes the answer stops, without an end."""

    after: int = 0


@dataclass(frozen=True)
class Deaf:
    """The connection is accepted, but nothing passes in either direction."""


@dataclass(frozen=True)
class Slices:
    """Pieces of `size` bytes, each followed by a pause."""

    size: int
    pause_seconds: float


Toxic = Cut | Freeze | Deaf | Slices | None


def bandwidth(bytes_per_second: int) -> Slices:
    """A connection with limited bandwidth."""
    return Slices(max(1, bytes_per_second // 100), 0.01)


class ToxicRelay:
    """A relay in front of an upstream. `toxic` applies to all answers, or selects by request.

    Bytes are counted per request, so reused connections behave like new ones.
    """

    def __init__(self, upstream: FakeUpstream) -> None:
        self._address = urlsplit(upstream.base_url)
        self.toxic: Toxic | Callable[[bytes], Toxic] = None
        self.open_connections = 0  # not yet closed by the proxy or a toxic
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "ToxicRelay":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def released(self) -> None:
        """Wait until the proxy has closed all connections."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.open_connections == 0)

    def hang_up(self) -> None:
        """Close all connections, also idle ones, as a restarting server does."""
        for link in self._links:
            link.cancel()

    def toxic_for(self, request: bytes) -> Toxic:
        """The toxic for the answer to a request."""
        return self.toxic(request) if callable(self.toxic) else self.toxic

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        self.open_connections += 1
        try:
            host, port = self._address.hostname, self._address.port
            upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
            try:
                await _Link(self, reader, writer, upstream_reader, upstream_writer).run()
            finally:
                upstream_writer.transport.abort()
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's own callback would log the cancellation
        finally:
            self._links.discard(task)
            writer.close()
            self.open_connections -= 1
            async with self._changed:
                self._changed.notify_all()


class _Link:
    """A connection from the proxy with its connection to the upstream."""

    def __init__(
        self,
        relay: ToxicRelay,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:
        self._relay = relay
        self._reader = reader
        self._writer = writer
        self._upstream_reader = upstream_reader
        self._upstream_writer = upstream_writer
        self._toxic: Toxic = None
        self._passed: int | None = None  # bytes of the answer; None before its request

    async def run(self) -> None:
        """Relay until the proxy or a toxic closes the connection."""
        pumps = [asyncio.create_task(self._pass_requests()), asyncio.create_task(self._answer())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pass_requests(self) -> None:
        while data := await self._reader.read(2**16):
            if self._passed != 0:
                self._toxic, self._passed = self._relay.toxic_for(data), 0
            if self._toxic != Deaf():
                self._upstream_writer.write(data)
                await self._upstream_writer.drain()

    async def _answer(self) -> None:
        while data := await self._upstream_reader.read(2**16):
            match self._toxic:
                case None:
                    await self._send(data)
                case Slices(size, pause_seconds):
                    for start in range(0, len(data), size):
                        await self._send(data[start : start + size])
                        await asyncio.sleep(pause_seconds)
                case Freeze(after):
                    await self._send(data[: self._left(after)])
                case Cut(after, how, gate):
                    await self._send(data[: self._left(after)])
                    if not self._left(after):
                        if gate is not None:
                            await gate.pass_through()
                        if how is End.RESET:
                            reset(self._writer)
                        return
        if isinstance(self._toxic, Freeze):
            await asyncio.Event().wait()

    def _left(self, after: int) -> int:
        return max(0, after - (self._passed or 0))

    async def _send(self, data: bytes) -> None:
        if data:
            self._passed = (self._passed or 0) + len(data)
            self._writer.write(data)
            await self._writer.drain()
