"""Many streams on as many new connections: when each begins, and how late its chunks are.

    burst = Burst(port, BURSTS["2,000 at once"], model="cloud")
    uvloop.run(burst.run())                  # then burst.first_tokens, burst.transits …

In the benchmark's other rows connections are kept, as clients keep them. Here each stream is the
first on its connection, as after a restart, or behind a load balancer that has lost a server.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from load import StreamReader, make_requests

# A stream that has no end after this time counts as failed.
DEADLINE_SECONDS: Final = 60.0


class Pattern(NamedTuple):
    """How streams are opened, and how fast each is.

    Attributes:
        opening_seconds: over which the connections are opened; 0 opens all at once.
    """

    streams: int
    chunks: int
    chunk_seconds: float
    opening_seconds: float


BURSTS: Final = {
    "1,000 at once": Pattern(1_000, 64, 0.1, 0.0),
    "2,000 at once": Pattern(2_000, 64, 0.1, 0.0),
    "5,000 slow": Pattern(5_000, 12, 1.0, 10.0),
}


class Burst:
    """Streams that one port is asked for. Times are in nanoseconds.

    Args:
        headers: more header lines, each with its line break.
        when_open: called once, when every stream has begun or has failed.

    Attributes:
        first_tokens: from opening the connection to the stream's first token. The mock sends it
            one interval after the request.
        transits: from sending a chunk at the upstream to its arrival, of the chunks that were sent
            after all streams had begun.
        failed: streams without an end, or that began with an error.
    """

    def __init__(
        self,
        port: int,
        pattern: Pattern,
        *,
        model: str,
        headers: bytes = b"",
        when_open: Callable[[], None] | None = None,
    ) -> None:
        self.port = port
        self.request = next(
            make_requests(
                model=model,
                stream=True,
                headers=headers,
                chunk_seconds=pattern.chunk_seconds,
                chunks=pattern.chunks,
            )
        )
        self.first_tokens: list[int] = []
        self.transits: list[int] = []
        self.failed = 0
        self.steady_from = float("inf")
        self._streams = self._waiting = self._running = pattern.streams
        self._opening_seconds = pattern.opening_seconds
        self._when_open = when_open
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Return when every stream has ended, or at the deadline."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        opening = []
        for number in range(self._streams):
            if self._opening_seconds:
                due = started + self._opening_seconds * number / self._streams
                await asyncio.sleep(due - loop.time())
            opening.append(
                loop.create_task(
                    loop.create_connection(lambda: _Stream(self), "127.0.0.1", self.port)
                )
            )
        connections = await asyncio.gather(*opening, return_exceptions=True)
        for connection in connections:
            if isinstance(connection, BaseException):
                self.begun()
                self.ended(failed=True)
        try:
            await asyncio.wait_for(self._over.wait(), DEADLINE_SECONDS)
        except TimeoutError:
            self.failed += self._running
        for connection in connections:
            if not isinstance(connection, BaseException):
                connection[0].abort()

    def begun(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self.steady_from = time.monotonic_ns()
            if self._when_open is not None:
                self._when_open()

    def ended(self, *, failed: bool) -> None:
        self.failed += failed
        self._running -= 1
        if self._running == 0:
            self._over.set()


class _Stream(asyncio.Protocol):
    """One connection with one stream."""

    def __init__(self, burst: Burst) -> None:
        self._burst = burst
        self._reader = StreamReader()
        self._opened = time.monotonic_ns()
        self._has_begun = self._has_ended = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._burst.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        burst = self._burst
        sent = self._reader.feed(data)
        if sent and not self._has_begun:
            self._has_begun = True
            burst.first_tokens.append(now - self._opened)
            burst.begun()
        burst.transits += [now - when for when in sent if when > burst.steady_from]
        if self._reader.is_whole:
            self._end(failed=not self._has_begun)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(failed=True)

    def _end(self, *, failed: bool) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if not self._has_begun:
            self._burst.begun()
        self._burst.ended(failed=failed)
        self._transport.close()
