"""A client's connection: uvicorn's protocol with size and time limits on request headers.

uvicorn (httptools) accepts headers of any size, waits for them without limit, and answers invalid
HTTP in plain text. Here headers have a maximum size and time, and errors use OpenAI's envelope.
`openai_api.AsgiExchange` limits bodies.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from proxy.errors import HeadTooLarge, InvalidRequest, RequestTimeout, RouterError, envelope

# The usual limit of web servers. Clients send a few hundred bytes.
MAX_REQUEST_HEAD_BYTES: Final = 32 * 1024
HEAD_SECONDS: Final = 20.0
# The proxy supports no upgrade and answers such requests as HTTP/1.1. Without this, httptools skips
# their body. `curl --http2` and Java's HTTP client offer HTTP/2 in every request.
_UPGRADE: Final = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*", re.IGNORECASE)


CLIENT: Final = "hybrid_llm.client"  # in a request's ASGI scope
# In the application's state while draining. Each answer then has `connection: close`, so that no
# client sends its next request on a connection that is about to close.
IS_DRAINING: Final = "hybrid_llm.is_draining"


class _Client:
    """The client of one request: `openai_api.Client` on this connection."""

    __slots__ = ("_cycle", "is_disconnected", "on_disconnect")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self.is_disconnected = False
        self.on_disconnect: Callable[[], None] | None = None

    @property
    def send(self) -> Callable[[Any], Awaitable[None]]:
        return self._cycle.send

    def send_now(self, data: bytes) -> bool:
        """Send a piece of a chunked body without waiting; False if `send` has to be used."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or not cycle.chunked_encoding:
            return False
        if data:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    @property
    def has_sent_all(self) -> bool:
        return not self._cycle.more_body

    @property
    def is_answered(self) -> bool:
        return self._cycle.response_complete

    def disconnect(self) -> None:
        """The client has disconnected."""
        self.is_disconnected = True
        if self.on_disconnect is not None and not self.is_answered:
            self.on_disconnect()


class Connection(HttpToolsProtocol):
    """One connection. It closes after a refused request."""

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
        self._unread = 0  # bytes since the last parser event
        self._refusal: RouterError | None = None
        self._clients: list[_Client] = []  # with requests that are not fully answered
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_due = self.loop.call_later(self._head_seconds, self._on_head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)
        clients, self._clients = self._clients, []
        for client in clients:
            client.disconnect()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # a refused client that still sends
        self._unread += len(data)
        if not self._in_body:
            data = _without_upgrade(data)
        super().data_received(data)
        if self._unread > MAX_REQUEST_HEAD_BYTES and not self.transport.is_closing():
            # Endless headers, or endless chunk extensions or trailers of a chunked body.
            self._refuse(HeadTooLarge(_TOO_LARGE))
        elif self._in_head and self._head_due is None:
            self._head_due = self.loop.call_later(self._head_seconds, self._on_head_timeout)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_head_timer()
        if self._unread > MAX_REQUEST_HEAD_BYTES:  # may include bytes of the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_REQUEST_HEAD_BYTES:
                self._refusal = HeadTooLarge(_TOO_LARGE)
                raise ValueError  # stops the parser
        self._unread = 0
        self._in_body = True
        super().on_headers_complete()
        if IS_DRAINING in self.app_state:
            self.cycle.keep_alive = False
        client = self.scope[CLIENT] = _Client(self.cycle)  # type: ignore[typeddict-unknown-key]
        self._clients = [item for item in self._clients if not item.is_answered]
        self._clients.append(client)

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As in uvicorn, but with one idle timer per connection, not one per answer."""
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
            return  # the answer to this request restarts the timer
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._end_if_idle)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer a parser error with OpenAI's envelope."""
        self._refuse(self._refusal or InvalidRequest(msg))

    def _on_head_timeout(self) -> None:
        self._head_due = None
        if self._in_head:
            self._refuse(RequestTimeout("The request headers arrived too slowly."))
        else:
            self.transport.close()  # a connection that never sent a byte

    def _cancel_head_timer(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _refuse(self, error: RouterError) -> None:
        """Answer with an error and close. Only close if an answer has already begun."""
        self._cancel_head_timer()
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
    """Received data without an Upgrade header."""
    end = data.find(b"\r\n\r\n")
    match = _UPGRADE.search(data, 0, len(data) if end == -1 else end)
    return data if match is None else data[: match.start()] + data[match.end() :]


_TOO_LARGE = f"The request headers exceed {MAX_REQUEST_HEAD_BYTES // 1024} kB."
