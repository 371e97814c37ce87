"""Run a proxy in this process until it is told to stop, and show what it found.

Server(Proxy(config)).run()
"""

import asyncio
import logging
import math
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Final

import uvicorn
from rich.console import Console
from rich.table import Table

from proxy import __version__
from proxy.record import Target
from proxy.server.app import Proxy
from proxy.server.gc import GarbageCollector
from proxy.server.workers import Place
from proxy.web.client_connection import IS_DRAINING, Connection

logger = logging.getLogger(__name__)

# How long a thread keeps the interpreter when another wants it. Python's own 5 ms is what the
# event loop would wait for the thread that writes rows.
SWITCH_SECONDS: Final = 0.0001


class Server(uvicorn.Server):
    """uvicorn, with a table of what it found once it listens.

    Run it in the main thread: it ends in good order at SIGINT and SIGTERM, and `run` returns.
    """

    def __init__(self, proxy: Proxy, *, place: Place | None = None) -> None:
        """
        Args:
            place: where it works, when it is one of several workers.
        """
        server = proxy.config.server
        self._proxy = proxy
        self._place = place
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_told = False  # by a signal, to stop
        self._collector = GarbageCollector(lambda: not self.server_state.tasks)
        super().__init__(
            uvicorn.Config(
                proxy.app,
                host=server.host,
                port=server.port,
                # Named, not "auto": without these two a request costs 100 µs more, silently.
                loop="uvloop" if sys.platform != "win32" else "asyncio",
                http=Connection,
                ws="none",
                lifespan="on",
                access_log=False,
                proxy_headers=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                # Longer than clients and load balancers keep an idle connection: the side that
                # sends the next request must be the one that closes, or that request is lost.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=math.ceil(server.shutdown_grace_seconds),
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop.

        Raises StoreUnavailable before anything is served: out of the application's own start it
        would come as pages of traceback.

        uvicorn raises the signal that stopped it again at its end. Taken by the handlers from
        before, that would make a failure (exit status 143, "Aborted!") of an orderly end.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        if self._place is None:
            self._proxy.store.prepare()
        else:
            sockets = [self._place.socket]
        before = {
            number: signal.signal(number, lambda *_: self.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            super().run(sockets)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Finish the requests that are running, then return from `run`. From any thread."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal: stop, at SIGTERM once whoever sends requests could notice. Another one:
        do not wait for the requests that are running.

        uvicorn's way out would then skip the end of the application, and with it the last rows.
        """
        # What is scheduled here has perhaps not been done when the next one comes.
        is_first = not (self.should_exit or self._is_told)
        self._is_told = True
        if is_first and sig == signal.SIGTERM and self._loop is not None and self.started:
            self._loop.call_soon_threadsafe(self._leave)
            return
        if not is_first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._hang_up)
        super().handle_exit(signal.SIGTERM, frame)

    def _leave(self) -> None:
        """Say that it is to be sent nothing more, and answer what comes for the moment in which a
        load balancer has yet to ask; then stop."""
        assert self._loop is not None
        seconds = self._proxy.config.server.drain_seconds
        if seconds:
            logger.info("not ready from now on; stopping in %g s", seconds)
        self._proxy.gateway.is_draining = True
        self.lifespan.state[IS_DRAINING] = True
        self._loop.call_later(seconds, self.stop)

    def _on_orphaned(self) -> None:
        """The process that started the workers is gone; nobody would stop this one."""
        assert self._loop is not None
        assert self._place is not None
        self._loop.remove_reader(self._place.lifeline)
        logger.error("the process that started this worker is gone; stopping")
        self.stop()

    def _hang_up(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._collector.stop()
        running = len(self.server_state.tasks)
        if running:
            logger.info(
                "stopping; %d requests have up to %g s to finish, a second signal ends them now",
                running,
                self._proxy.config.server.shutdown_grace_seconds,
            )
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self._collector.start(self._loop)
            if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
                self._loop.add_signal_handler(signal.SIGHUP, self._proxy.reload_soon)
            if self._place is not None:
                self._loop.add_reader(self._place.lifeline, self._on_orphaned)
            if self._place is None or self._place.number == 0:
                await _introduce(self._proxy, self.servers[0].sockets[0].getsockname())


async def _introduce(proxy: Proxy, address: tuple[str, int]) -> None:
    """Print what was found: the router model, each tier's state, and the URL to use."""
    snapshot = proxy.gateway.snapshot
    await asyncio.gather(*(upstream.probe() for upstream in snapshot.upstreams.values()))
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    table = Table(title=f"hybrid-llm {__version__}", title_justify="left", show_header=False)
    table.add_row("router model", snapshot.model_version or "none: everything goes to the cloud")
    table.add_row("threshold", f"{snapshot.router.threshold:.3f}")
    for target in Target:
        upstream = snapshot.upstreams[target]
        state = "up" if upstream.up else "not reachable, or it refuses the key"
        table.add_row(target.value, f"{upstream.model} at {upstream.address}: {state}")
    table.add_row("rows", proxy.config.storage.url)
    table.add_row("base_url", f"http://{host}:{address[1]}/v1")
    Console().print(table)
