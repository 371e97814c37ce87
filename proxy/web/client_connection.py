"""A client's connection, guarded: uvicorn's protocol with limits on what is not yet a request.

uvicorn (httptools) takes a head of any size and waits for its end for ever, and answers what is
not HTTP in plain text. Here a head has a size and a time, and the answer is OpenAI's envelope.
Bodies are the request's business (`api.AsgiExchange.read_body`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from proxy.errors import HeadTooLarge, InvalidRequest, RequestTimeout, RouterError, envelope

# As the usual web servers have it; clients send a few hundred bytes.
MAX_REQUEST_HEAD_BYTES: Final = 32 * 1024
HEAD_SECONDS: Final = 20.0
# Nobody is upgraded here, and who offers to be is to be answered as they are. httptools, though,
# skips the body of such a request; `curl --http2` and Java's own client offer HTTP/2 in each.
_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*", re.IGNORECASE)


CLIENT: Final = "hybrid_llm.client"  # in a request's ASGI scope
# In the application's state: the server will soon close its connections. Each answer says so from
# then on, so that no client sends its next request just when they are closed.
IS_DRAINING: Final = "hybrid_llm.is_draining"


class _Client:
    """Who waits for one request's answer: `api.Client`, as this connection knows it."""

    __slots__ = ("_cycle", "has_left", "on_leave")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.has_left = False
        self.on_leave: Callable[[], None] | None = None

    @property
    def send(self) -> Callable[[Any], Awaitable[None]]:
        return self._cycle.send

    def send_now(self, data: bytes) -> bool:
        """What `send` does with a piece of a body of no known length, where it need not wait."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
            return False
        if data:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def send_whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Head and body of an answer in one piece; False, and nothing is sent, where it takes the
        server's own way: that looks at each header for itself, and writes twice.

        Args:
            headers: with the length of the body.
        """
        cycle = self._cycle
        is_ready = not (cycle.response_started or cycle.disconnected or cycle.flow.write_paused)
        if not is_ready or status in (204, 304) or cycle.scope["method"] == "HEAD":
            return False
        lines = [STATUS_LINE[status]]
        lines += [b"%b: %b\r\n" % header for header in cycle.default_headers]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        breaks = len(lines)
        if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(head + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    @property
    def has_sent_all(self) -> bool:
        return not self._cycle.more_body

    @property
    def is_answered(self) -> bool:
        return self._cycle.response_complete

    def leave(self) -> None:
        """It has hung up."""
        self.has_left = True
        if self.on_leave is not None and not self.is_answered:
            self.on_leave()


class Connection(HttpToolsProtocol):
    """One connection. A refusal is its last word."""

    def __init__(self, *args: Any, head_seconds: float = HEAD_SECONDS, **kwargs: Any) -> None:
        """
        Args:
            head_seconds: how long a client may take to send a request's headers.
        """
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._head_due: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._unread = 0  # bytes since the parser last made something of them
        self._refusal: RouterError | None = None
        self._clients: list[_Client] = []  # whose requests have no whole answer yet
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_due = self.loop.call_later(self._head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)
        clients, self._clients = self._clients, []
        for client in clients:
            client.leave()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # a refused client that goes on sending
        self._unread += len(data)
        if not self._in_body:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._unread > MAX_REQUEST_HEAD_BYTES and not self.transport.is_closing():
            # An endless head, or what a chunked body may have beside its bytes.
            self._refuse(HeadTooLarge(_TOO_LARGE))
        elif self._in_head and self._head_due is None:
            self._head_due = self.loop.call_later(self._head_seconds, self._give_up)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        if self._unread > MAX_REQUEST_HEAD_BYTES:  # with bytes of the body among them, perhaps
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_REQUEST_HEAD_BYTES:
                self._refusal = HeadTooLarge(_TOO_LARGE)
                raise ValueError  # what stops the parser
        self._unread = 0
        self._in_body = True
        super().on_headers_complete()
        if IS_DRAINING in self.app_state:
            self.cycle.keep_alive = False
        client = self.scope[CLIENT] = _Client(self.cycle)  # type: ignore[typeddict-unknown-key]
        self._clients = [one for one in self._clients if not one.is_answered]
        self._clients.append(client)

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn has it, but with one timer for a connection and not one for each answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def _end_if_idle(self) -> None:
        self._idle_timer = None
        if self._in_head or (self.cycle is not None and not self.cycle.response_complete):
            return  # the answer to what comes, or is worked on, begins the time anew
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._end_if_idle)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """The parser's refusal, in our words."""
        self._refuse(self._refusal or InvalidRequest(msg))

    def _give_up(self) -> None:
        self._head_due = None
        if self._in_head:
            self._refuse(RequestTimeout("The request's headers came in too slowly."))
        else:
            self.transport.close()  # one that never said a word

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _refuse(self, error: RouterError) -> None:
        """Answer and hang up; only hang up where an answer is on its way already."""
        self._stop_waiting()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = envelope(error)
            self.transport.write(
                STATUS_LINE[error.status]
                + b"content-type: application/json\r\nconnection: close\r\n"
                + b"content-length: %d\r\n\r\n" % len(body)
                + body
            )
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A head, with perhaps the beginning of a body, without its offer of another protocol."""
    end = data.find(b"\r\n\r\n")
    found = _UPGRADE.search(data, 0, len(data) if end == -1 else end)
    return data if found is None else data[: found.start()] + data[found.end() :]


_TOO_LARGE = f"The request's headers are larger than {MAX_REQUEST_HEAD_BYTES // 1024} kB."
