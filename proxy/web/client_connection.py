"""A client's connection: uvicorn's protocol with limits, and HTTP/1.1 as the RFCs require it.

uvicorn (httptools) accepts headers of any size, waits for them without limit, queues any number of
pipelined requests, and answers invalid HTTP in plain text. Here heads have a maximum size and time,
few requests wait on one connection, received data is parsed in steps between which other
connections are served, and errors use OpenAI's envelope. `openai_api.AsgiExchange` limits bodies.

Reading pauses only while a bound is reached. While it is paused, a disconnect is not noticed, and
the request to the upstream goes on.
"""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from proxy.errors import (
    BodyTooLarge,
    HeadTooLarge,
    InvalidRequest,
    RequestTimeout,
    RouterError,
    envelope,
)
from proxy.record import new_request_id
from proxy.web.request_head import FRAMING, METHODS, check_head, expects_continue, refuse_method

# The usual limit of web servers. Clients send a few hundred bytes.
MAX_REQUEST_HEAD_BYTES: Final = 32 * 1024
MAX_REQUEST_HEADERS: Final = 200  # clients send a dozen
HEAD_SECONDS: Final = 20.0
# Requests that wait on one connection for the answer to an earlier one. Clients hardly pipeline.
MAX_PIPELINED: Final = 32
# A chunk costs the parser as much as some kilobytes. Beyond this number a body's chunks need an
# average size, which any buffer of a client exceeds.
MAX_SMALL_CHUNKS: Final = 16_384
MIN_CHUNK_BYTES: Final = 16
# Received data is parsed in steps. After a step beyond this time the event loop goes on, and the
# rest follows in its next turn.
_STEP_BYTES: Final = 16 * 1024
_TURN_SECONDS: Final = 0.001
# An answer may come before the request's body. A small rest of the body is received and discarded,
# and the connection stays usable. Otherwise the answer announces the connection's end, which waits
# for the client: one that still writes when the connection closes would not see the answer.
MAX_DISCARDED_BYTES: Final = 512 * 1024
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 16 * 2**20
_WRITE_BYTES: Final = 2**18  # of an answer in one write, which takes some 0.1 ms

CLIENT: Final = "hybrid_llm.client"  # in a request's ASGI scope
# In the scope of a HEAD request, whose method is GET for the handlers.
IS_HEAD: Final = "hybrid_llm.is_head"
# In the application's state while draining. Each answer then has `connection: close`, so that no
# client sends its next request on a connection that is about to close.
IS_DRAINING: Final = "hybrid_llm.is_draining"

_REQUEST_LINE: Final = re.compile(rb"([!-~]{1,40}) [!-~]+ HTTP/1\.[01]\r\n")
_NO_BODY: Final = frozenset({204, 304})


class _Exchange(RequestResponseCycle):
    """One request and its answer: `openai_api.Client` on this connection.

    Unlike uvicorn's, it answers HTTP/1.0 without chunks, and announces the connection's end in an
    answer that comes before the request's whole body.
    """

    on_disconnect: Callable[[], None] | None = None

    def __init__(self, *, is_head: bool, is_http_10: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._is_head = is_head
        self._is_http_10 = is_http_10
        self._left: int | None = None  # of the declared content-length
        self._head = b""  # not sent yet

    @property
    def is_disconnected(self) -> bool:
        return self.disconnected

    @property
    def has_sent_all(self) -> bool:
        return not self.more_body

    @property
    def awaits_continue(self) -> bool:
        return self.waiting_for_100_continue

    def disconnect(self) -> None:
        """The client has disconnected."""
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self.on_disconnect is not None:
            self.on_disconnect()

    def send_now(self, data: bytes) -> bool:
        """Send a piece of a chunked body without waiting; False if `send` has to be used."""
        if self.flow.write_paused or self.disconnected or not self.chunked_encoding:
            return False
        if data:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    async def send(self, message: Any) -> None:
        """Send an ASGI message: the head of the answer, or a piece of its body.

        Raises:
            RuntimeError: the message is out of order, has an invalid header, or the body does not
                have the declared length.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        expected = "http.response.body" if self.response_started else "http.response.start"
        if message["type"] != expected or self.response_complete:
            raise RuntimeError(f"unexpected ASGI message '{message['type']}'")
        if not self.response_started:
            self._send_head(message["status"], message.get("headers", ()))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if len(body) > _WRITE_BYTES:
            body = await self._send_pieces(memoryview(body))
            if self.disconnected:
                return
        self._send_body(body, more=more)

    async def _send_pieces(self, body: memoryview) -> bytes:
        """Send all pieces of a large body but the last, and return the last.

        Empty if the client has disconnected. The loop handles other events between two pieces if
        the client is slow to read them.
        """
        while len(body) > _WRITE_BYTES and not self.disconnected:
            self._send_body(bytes(body[:_WRITE_BYTES]), more=True)
            body = body[_WRITE_BYTES:]
            if self.flow.write_paused:
                await self.flow.drain()
        return bytes(body) if not self.disconnected else b""

    def _send_head(self, status: int, headers: Any) -> None:
        self.response_started = True
        if self.more_body and (self.waiting_for_100_continue or not self._is_small()):
            self.keep_alive = False
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        has_close = False
        headers = (*self.default_headers, *headers)
        names = b"".join([name for name, _ in headers])
        values = b"".join([value for _, value in headers])
        if HEADER_RE.search(names) or HEADER_VALUE_RE.search(values):
            raise RuntimeError("invalid HTTP header")
        for given, value in headers:
            name = given.lower()
            if name == b"content-length":
                self._left = int(value)
            elif name == b"transfer-encoding":
                continue  # the connection decides it
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, has_close = False, True
            lines += (name, b": ", value, b"\r\n")
        self.chunked_encoding = False
        if self._left is None and not self._is_head and status not in _NO_BODY:
            if self._is_http_10:  # RFC 9112, section 6.1: such a body ends with the connection
                self.keep_alive = False
            else:
                self.chunked_encoding = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not has_close:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if self._left and not self._is_head:
            self._head = head  # the whole answer usually follows at once: one write for both
        else:
            self.transport.write(head)

    def _is_small(self) -> bool:
        """Whether the rest of the body is received and discarded for the next request's sake."""
        headers = self.scope["headers"]
        sizes = [int(value) for name, value in headers if name == b"content-length"]
        return bool(sizes) and sizes[0] <= MAX_DISCARDED_BYTES

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._is_head:
            self._left = None
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(data if more else data + b"0\r\n\r\n")
        else:
            if self._left is not None:
                self._left -= len(body)
            if (self._left or 0) < 0:
                raise RuntimeError("the body is longer than its content-length")
            self.transport.write(self._head + body if self._head else body)
            self._head = b""
        if not more:
            if self._left:
                raise RuntimeError("the body is shorter than its content-length")
            self.response_complete = True
            self.message_event.set()
            self.on_response()


class _Flow(FlowControl):
    """Reading and writing of a connection; reading resumes only below the connection's bounds."""

    def __init__(self, transport: asyncio.Transport, is_full: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_full = is_full

    def resume_reading(self) -> None:
        if self.read_paused and not self._is_full():
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection. It closes after a refused request."""

    def __init__(
        self,
        *args: Any,
        head_seconds: float = HEAD_SECONDS,
        max_pipelined: int = MAX_PIPELINED,
        linger_seconds: float = LINGER_SECONDS,
        linger_bytes: int = LINGER_BYTES,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            head_seconds: how long a client may take to send a request's headers.
            max_pipelined: requests that may wait for the answer to an earlier one.
            linger_seconds, linger_bytes: how much of an unread body is received and discarded after
                the answer, before the connection closes.
        """
        super().__init__(*args, **kwargs)
        self._head_seconds = head_seconds
        self._max_pipelined = max_pipelined
        self._linger_seconds = linger_seconds
        self._linger_bytes = linger_bytes
        self._head_due: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._offers_upgrade = False
        self._framing: list[tuple[bytes, bytes]] = []  # headers of the current request
        self._head_size = 0  # of the current request, without its request line
        self._unread = 0  # bytes since the last parser event
        self._chunks = 0  # of the current request's body
        self._body_bytes = 0
        self._unparsed = b""  # received data that the next turn of the event loop parses
        self._refusal: RouterError | None = None
        self._is_refusing = False  # whether received data is discarded
        self._running: _Exchange | None = None  # the latest whose handler was started
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self._is_full)
        self._head_due = self.loop.call_later(self._head_seconds, self._on_head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        for timer in (self._idle_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self._running is not None:
            self._running.disconnect()
        self.pipeline.clear()
        self._unparsed = b""

    def data_received(self, data: bytes) -> None:
        if self._is_refusing or self.transport.is_closing():
            self._discard(len(data))
        elif self._unparsed:  # read before reading was paused
            self._unparsed += data
        elif len(data) <= _STEP_BYTES:
            self._parse(data)
        else:
            self._parse_in_steps(data)

    def _parse_in_steps(self, data: bytes) -> None:
        """Parse data for a bounded time, and leave the rest to the event loop's next turn."""
        until = time.perf_counter() + _TURN_SECONDS
        for start in range(0, len(data), _STEP_BYTES):
            if self._is_refusing or self.transport.is_closing():
                break
            if start and time.perf_counter() > until:
                self._unparsed = data[start:]
                self.flow.pause_reading()
                self.loop.call_soon(self._parse_rest)
                return
            self._parse(data[start : start + _STEP_BYTES])
        self._update_reading()

    def _parse_rest(self) -> None:
        data, self._unparsed = self._unparsed, b""
        self._parse_in_steps(data)

    def _is_full(self) -> bool:
        """Whether as much waits as one connection may have, so that reading pauses."""
        if self._is_refusing:
            return self._linger_timer is None  # earlier answers come first
        if self._unparsed:
            return True
        cycle, waiting = self.cycle, self.pipeline
        if cycle is not None and cycle.more_body and len(cycle.body) > HIGH_WATER_LIMIT:
            return not cycle.response_complete
        return bool(waiting) and (
            len(waiting) > self._max_pipelined // 2
            or sum(len(exchange.body) for exchange, _ in waiting) > HIGH_WATER_LIMIT
        )

    def _update_reading(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_full():
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _parse(self, data: bytes) -> None:
        self._unread += len(data)
        is_new = not (self._in_head or self._in_body)
        try:
            self._feed(data)
        except httptools.HttpParserInvalidMethodError:
            line = _REQUEST_LINE.match(data) if is_new else None
            method = line[1].decode() if line is not None else ""
            unknown = bool(method) and method not in METHODS
            self._refuse(refuse_method(method) if unknown else InvalidRequest(_INVALID))
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or InvalidRequest(_INVALID))
            return
        if self._unread > MAX_REQUEST_HEAD_BYTES:
            # Endless headers, or endless chunk extensions or trailers of a chunked body.
            self._refuse(HeadTooLarge(_TOO_LARGE))
        elif self._in_head and self._head_due is None:
            self._head_due = self.loop.call_later(self._head_seconds, self._on_head_timeout)

    def _feed(self, data: bytes) -> None:
        """Parse received data.

        The proxy supports no upgrade and answers such requests as HTTP/1.1. The parser would skip
        their body, so it gets the head again without the offer. `curl --http2` and Java's HTTP
        client offer HTTP/2 in every request.

        Raises:
            HttpParserError: invalid HTTP, or a refused head; `_refusal` is then its error.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                head = self._head_without_offer()
                # After `connection: close` or HTTP/1.0 the old parser would skip all data.
                self.parser = httptools.HttpRequestParser(self)
                with suppress(AttributeError):  # an older httptools; as uvicorn sets it
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
            else:
                return

    def _head_without_offer(self) -> bytes:
        self._offers_upgrade = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%b: %b\r\n" % item for item in self.headers if item[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(lines))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._framing = []
        self._head_size = self._chunks = self._body_bytes = 0
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # trailers are no headers (RFC 9110, section 6.5.1), and nothing reads them
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_REQUEST_HEAD_BYTES or len(self.headers) >= MAX_REQUEST_HEADERS:
            self._refusal = HeadTooLarge(_TOO_LARGE)
            raise ValueError  # stops the parser
        name = name.lower()
        self.headers.append((name, value))
        if name in FRAMING:
            self._framing.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head, and start the request's handler or queue the request.

        Raises:
            ValueError: the head is refused. It stops the parser.
        """
        self._in_head = False
        self._cancel_head_timer()
        parser = self.parser
        method, version = parser.get_method().decode(), parser.get_http_version()
        self._refusal = check_head(method, version, self._framing)
        if self._head_size + len(self.url) > MAX_REQUEST_HEAD_BYTES:
            self._refusal = HeadTooLarge(_TOO_LARGE)
        if len(self.pipeline) >= self._max_pipelined:
            self._refusal = InvalidRequest(
                f"More than {self._max_pipelined} requests wait on this connection."
            )
        if self._refusal is not None:
            raise ValueError
        self._unread = 0
        if parser.should_upgrade():
            self._offers_upgrade = True
            return  # `_feed` repeats the head
        self._in_body = True
        self._open_exchange(method, version)

    def _open_exchange(self, method: str, version: str) -> None:
        scope: Any = self.scope
        is_head = method == "HEAD"
        if is_head:
            scope[IS_HEAD] = True
        scope["method"] = "GET" if is_head else method
        if version != "1.1":
            scope["http_version"] = version
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        previous = self.cycle
        exchange = self.cycle = scope[CLIENT] = _Exchange(
            is_head=is_head,
            is_http_10=version == "1.0",
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            # RFC 9110, section 10.1.1: not with HTTP/1.0.
            expect_100_continue=version == "1.1"
            and len(self._framing) > 1
            and expects_continue(self._framing),
            keep_alive=version == "1.1"
            and self.parser.should_keep_alive()
            and IS_DRAINING not in self.app_state,
            on_response=self.on_response_complete,
        )
        if previous is None or previous.response_complete:
            self._start(exchange)
        else:
            self.pipeline.appendleft((exchange, self.app))
            self._update_reading()

    def _start(self, exchange: _Exchange) -> None:
        self._running = exchange
        self._start_asgi_task(exchange, self.app)

    def on_chunk_header(self) -> None:
        """Check the number of chunks.

        Raises:
            ValueError: there are too many small ones. It stops the parser.
        """
        self._chunks += 1
        if (
            self._chunks > MAX_SMALL_CHUNKS
            and self._body_bytes < (self._chunks - MAX_SMALL_CHUNKS) * MIN_CHUNK_BYTES
        ):
            self._refusal = BodyTooLarge("The request body has too many small chunks.")
            raise ValueError

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        if self._offers_upgrade:
            return  # the message follows once more
        self._in_body = False
        super().on_message_complete()
        if self.flow.read_paused:
            self._update_reading()  # the body is complete, and the client may disconnect

    def on_response_complete(self) -> None:
        """As in uvicorn, but with one idle timer per connection, not one per answer."""
        self.server_state.total_requests += 1
        running = self._running
        if self.transport.is_closing() or running is None:
            return
        if not running.keep_alive:
            self._end(has_unread_body=running.more_body)
        elif self.pipeline:
            exchange, _ = self.pipeline.pop()
            self._start(cast(_Exchange, exchange))  # uvicorn's type has the base class
            self.flow.resume_reading()
        elif self._refusal is not None:
            self._write_refusal(self._refusal)
        else:
            self.flow.resume_reading()
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
        """Answer with an error and close, after the answers to earlier requests.

        Only close if the answer to the refused request itself has begun.
        """
        self._cancel_head_timer()
        if self.transport.is_closing():
            return
        self._is_refusing = True
        self._refusal = error
        running, refused = self._running, self.cycle if self._in_body else None
        if self.pipeline and self.pipeline[0][0] is refused:
            self.pipeline.popleft()  # its body will not come
        if running is not None and not running.response_complete:
            if running is not refused:
                self.flow.pause_reading()
                return  # `on_response_complete` continues
            running.disconnect()
            if running.response_started:
                self.transport.close()
                return
        self._write_refusal(error)

    def _write_refusal(self, error: RouterError) -> None:
        body = envelope(error)
        headers = [b"%b: %b\r\n" % item for item in error.headers if item[0] != b"connection"]
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"x-request-id: %b\r\n" % new_request_id().encode()
            + b"".join(headers)
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self._end(has_unread_body=not isinstance(error, RequestTimeout))

    def _end(self, *, has_unread_body: bool) -> None:
        """Close the connection: at once, or after the client has sent what it is sending."""
        self._is_refusing = True
        if not has_unread_body:
            self.transport.close()
            return
        self.transport.write_eof()
        self._linger_timer = self.loop.call_later(self._linger_seconds, self.transport.close)
        self.flow.resume_reading()

    def _discard(self, size: int) -> None:
        """Count discarded bytes, and close the connection above the limit."""
        self._linger_bytes -= size
        if self._linger_bytes < 0:
            self.transport.close()


_INVALID: Final = "Invalid HTTP request received."
_TOO_LARGE: Final = (
    f"The request headers exceed {MAX_REQUEST_HEAD_BYTES // 1024} kB, or there are more than "
    f"{MAX_REQUEST_HEADERS}."
)
