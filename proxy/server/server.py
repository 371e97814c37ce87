"""Runs a proxy in this process until a signal stops it, and prints its state at the start.

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
from rich.markup import escape
from rich.table import Table

from proxy import __version__
from proxy.plain_text import printable
from proxy.record import Target
from proxy.server.accepting import AcceptingServer
from proxy.server.app import Proxy
from proxy.server.gc import GarbageCollector
from proxy.server.guidance import setup_guidance
from proxy.server.listening import bind_addresses, host_to_open
from proxy.server.workers import WorkerSlot
from proxy.web import IS_DRAINING, Connection

logger = logging.getLogger(__name__)

# The thread switch interval. With Python's default of 5 ms the event loop would wait that long for
# the thread that writes rows.
SWITCH_SECONDS: Final = 0.0001


class Server(AcceptingServer):
    """uvicorn with graceful shutdown, reload on SIGHUP, and a table of the state at the start.

    Run it in the main thread. SIGINT and SIGTERM shut it down, and `run` returns.
    """

    def __init__(self, proxy: Proxy, *, worker_slot: WorkerSlot | None = None) -> None:
        """
        Args:
            worker_slot: the inherited socket and number, when it is one of several workers.
        """
        server = proxy.config.server
        self._proxy = proxy
        self._worker_slot = worker_slot
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stop_requested = False  # by a signal
        self._collector = GarbageCollector(lambda: not self.server_state.tasks)
        super().__init__(
            uvicorn.Config(
                proxy.app,
                host=server.host,
                port=server.port,
                # Explicit, as "auto" falls back silently, and a request then costs 100 µs more.
                loop="uvloop",
                http=Connection,
                ws="none",
                lifespan="on",
                access_log=False,
                proxy_headers=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                # Longer than clients and load balancers keep an idle connection. If the server
                # closes first, the next request on that connection is lost.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=math.ceil(server.shutdown_grace_seconds),
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped.

        Raises:
            StoreUnavailable: before serving. From the application's start it would be logged as
                pages of traceback.
        """
        # uvicorn raises the signal that stopped it once more at its end. The previous handlers
        # would turn a graceful shutdown into a failure (exit status 143, "Aborted!").
        sys.setswitchinterval(SWITCH_SECONDS)
        if self._worker_slot is None:
            self._proxy.store.prepare()
            sockets = bind_addresses(self._proxy.config.server.host, self._proxy.config.server.port)
        else:
            sockets = [self._worker_slot.socket]
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
        """Finish the running requests, then return from `run`. Thread-safe."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal starts a graceful shutdown; SIGTERM drains first. The second cancels
        the running requests.

        uvicorn would skip the application's shutdown on the second signal and lose the last rows.
        """
        # A callback that is scheduled here may still wait when the next signal comes.
        is_first = not (self.should_exit or self._is_stop_requested)
        self._is_stop_requested = True
        if is_first and sig == signal.SIGTERM and self._loop is not None and self.started:
            self._loop.call_soon_threadsafe(self._drain)
            return
        if not is_first and self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel_requests)
        super().handle_exit(signal.SIGTERM, frame)

    def _drain(self) -> None:
        """Report not ready, still answer requests for `drain_seconds`, then stop."""
        assert self._loop is not None
        seconds = self._proxy.config.server.drain_seconds
        if seconds:
            logger.info("draining: /ready answers 503, shutdown in %g s", seconds)
        self._proxy.gateway.is_draining = True
        self.lifespan.state[IS_DRAINING] = True
        self._loop.call_later(seconds, self.stop)

    def _on_orphaned(self) -> None:
        """Stop, because the supervisor process has ended and could not stop this worker."""
        assert self._loop is not None
        assert self._worker_slot is not None
        self._loop.remove_reader(self._worker_slot.lifeline)
        logger.error("the supervisor process has ended; this worker is shutting down")
        self.stop()

    def _cancel_requests(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._collector.stop()
        running = len(self.server_state.tasks)
        if running:
            logger.info(
                "shutting down; %d requests have %g s to finish, a second signal cancels them",
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
                self._loop.add_signal_handler(signal.SIGHUP, self._proxy.reloader.reload_soon)
            if self._worker_slot is not None:
                self._loop.add_reader(self._worker_slot.lifeline, self._on_orphaned)
            if self._worker_slot is None or self._worker_slot.number == 0:
                await _print_state(self._proxy, self.servers[0].sockets[0].getsockname())


async def _print_state(proxy: Proxy, address: tuple[str, int]) -> None:
    """Print the router model, the state of each tier, and the URL to use."""
    snapshot = proxy.gateway.snapshot
    await asyncio.gather(*(upstream.probe() for upstream in snapshot.upstreams.values()))
    origin = f"http://{host_to_open(address[0])}:{address[1]}"
    table = Table(title=f"hybrid-llm {__version__}", title_justify="left", show_header=False)
    table.add_row("router model", snapshot.model_version or "none: all requests go to the cloud")
    table.add_row("threshold", f"{snapshot.router.threshold:.3f}")
    for target in Target:
        upstream = snapshot.upstreams[target]
        state = "up" if upstream.up else "down"
        line = f"{upstream.model} at {upstream.address}: {state}"
        table.add_row(target.value, escape(printable(line)))
        if upstream.problem is not None:
            table.add_row("", escape(printable(upstream.problem)))
    table.add_row("rows", escape(printable(str(proxy.config.storage.url))))
    table.add_row("base_url", f"{origin}/v1")
    table.add_row("chat", f"{origin}/")
    table.add_row("dashboard", f"{origin}/dashboard")
    Console().print(table)
    up = {target: bool(upstream.up) for target, upstream in snapshot.upstreams.items()}
    text = setup_guidance(
        proxy.config.upstreams, local_up=up[Target.LOCAL], cloud_up=up[Target.CLOUD]
    )
    if text is not None:
        Console().print(text, markup=False, highlight=False, soft_wrap=True)
