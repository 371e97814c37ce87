"""Accepts all waiting connections of clients in each turn of the event loop.

uvloop (libuv) accepts one connection in each turn of the event loop. Under load a turn serves a
request of every open connection, so the last of N new clients waits for N such turns.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Final

import uvicorn

from proxy.server.listening import CannotListen, describe_failure

logger = logging.getLogger(__name__)

# Connections that one turn accepts at most, so that the open ones do not wait. One costs 0.02 ms.
MAX_ACCEPTED: Final = 128
# The queue of connections that wait to be accepted. The kernel caps it (`net.core.somaxconn`), and
# drops what does not fit; a client then retries after a second.
BACKLOG: Final = 8192
# The pause after a failure that may last, such as no free file descriptor.
_PAUSE_SECONDS: Final = 1.0


class Acceptor:
    """Accepts connections of listening sockets. It takes the place of an `asyncio.Server`.

    Args:
        sockets: bound. They belong to the acceptor, which closes them.
        make_protocol: makes the protocol of one connection.
        max_accepted: connections that one turn of the loop accepts from one socket.
        pause_seconds: the pause after a failure to accept.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.Protocol],
        *,
        max_accepted: int = MAX_ACCEPTED,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self.sockets = tuple(sockets)
        self._make_protocol = make_protocol
        self._max_accepted = max_accepted
        self._pause_seconds = pause_seconds
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._is_closed = False
        for listening in self.sockets:
            listening.setblocking(False)
            listening.listen(BACKLOG)
        for listening in self.sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Stop accepting. Connections that were accepted stay open."""
        if self._is_closed:
            return
        self._is_closed = True
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            listening.close()

    async def wait_closed(self) -> None:
        """Wait until the protocols of all accepted connections know their connection."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(self._max_accepted):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # the client has disconnected
            except OSError as error:
                logger.error(
                    "cannot accept connections: %s; retrying in %g s", error, self._pause_seconds
                )
                self._loop.remove_reader(listening)
                self._loop.call_later(self._pause_seconds, self._resume, listening)
                return
            connection.setblocking(False)
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(self._make_protocol, connection)
            )
            self._opening.add(task)
            task.add_done_callback(self._on_opened)

    def _on_opened(self, task: asyncio.Task[object]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("cannot open a connection", exc_info=error)

    def _resume(self, listening: socket.socket) -> None:
        if not self._is_closed:
            self._loop.add_reader(listening, self._accept, listening)


class AcceptingServer(uvicorn.Server):
    """uvicorn that accepts with an `Acceptor`. `run` must get its sockets, which are bound."""

    _acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen.

        Raises:
            CannotListen: another program has begun to listen since the sockets were bound.
        """
        await super().startup([])  # starts the application, and listens on nothing
        if not self.started:
            return
        try:
            self._acceptor = Acceptor(sockets or [], self._make_protocol)
        except OSError as error:
            await self.lifespan.shutdown()
            host, port = (sockets or [])[0].getsockname()[:2]
            raise CannotListen(describe_failure(error, host, port)) from None
        self.servers = [self._acceptor]  # type: ignore[list-item]  # it has what uvicorn calls

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptor is not None:
            # uvicorn asks the connections that it knows to close, and waits for all connections.
            # So it must know those that are still being opened.
            self._acceptor.close()
            await self._acceptor.wait_closed()
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=None,
        )
