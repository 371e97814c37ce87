"""An HTTP/1.1 client engine with httpx2's transport interface, for performance.

    transport = Http1Transport(rest=open_httpx_transport)
    response = await transport.handle_async_request(request)   # as any transport of httpx2
    answer = await transport.ask("POST", address, headers, body)  # without httpx2's objects

The engine sends a request whose body is in memory, and delivers the response in chunks. It keeps
idle connections and reuses the most recent one first. asyncio provides TLS and name resolution,
aiohappyeyeballs the race between addresses (uvloop has none). Streamed uploads and HEAD requests go
to `rest`. docs/decisions/ has the measured savings.

Sources: RFC 9112; llhttp, by httptools, is the parser.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import aiohappyeyeballs
import httptools
import httpx2

from proxy.upstream.environment import trusted_certificates

KEEPALIVE_SECONDS: Final = 30.0  # an idle connection is closed after this time
RESOLVED_SECONDS: Final = 10.0  # addresses of a host name are cached for this time
STALE_AFTER_SEND_SECONDS: Final = (
    0.1  # a reused connection that ends so soon was closed before the request
)
MAX_RESPONSE_HEAD_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 500
MAX_BUFFERED_BYTES: Final = 256 * 1024  # of an unread body; beyond it reading pauses
_JOINED_BYTES: Final = 64 * 1024  # bodies up to this size are written together with the head
_EYEBALLS_SECONDS: Final = 0.25
_WITH_BODY: Final = ("POST", "PUT", "PATCH")  # send a content-length even without a body

Header = tuple[bytes, bytes]


class Origin(NamedTuple):
    """Scheme, host and port of a server."""

    is_tls: bool
    host: str
    port: int


class Address(NamedTuple):
    """A parsed URL, reused by all requests to it.

    Attributes:
        target: the target of the request line.
        host: the value of the Host header.
    """

    url: httpx2.URL
    origin: Origin
    target: bytes
    host: bytes

    @classmethod
    def of(cls, url: httpx2.URL) -> "Address":
        """The address of a URL."""
        origin = Origin(url.scheme == "https", url.host, url.port or _port(url.scheme))
        return cls(url, origin, url.raw_path, url.netloc)


class Delivery:
    """Whether a request was sent. A server that got it may work on it and bill it.

    Attributes:
        sent_at: when it was written to a connection that the server had not closed, in monotonic
            seconds; None if it was not.
        queue_seconds: the wait for a slot of the tier.
        connect_seconds: the time to open a connection, 0 for a reused one; None if it is unknown.
    """

    __slots__ = ("connect_seconds", "queue_seconds", "sent_at")

    def __init__(self) -> None:
        self.sent_at: float | None = None
        self.queue_seconds = 0.0
        self.connect_seconds: float | None = None

    @property
    def was_sent(self) -> bool:
        return self.sent_at is not None


class _Stale(Exception):
    """The server closed a reused connection before it can have worked on the request."""


class Http1Response(httpx2.AsyncByteStream):
    """One response: its head, and its body in chunks. It may outlive the connection."""

    __slots__ = (
        "_connection", "_error", "_is_complete", "_is_paused", "_parts", "_size", "_take",
        "_waiter", "head", "headers", "status",
    )  # fmt: skip

    def __init__(self, connection: "Http1Connection", head: "asyncio.Future[None]") -> None:
        self._connection: Http1Connection | None = connection
        self.head = head
        self.status = 0
        self.headers: list[Header] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._is_complete = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None

    # ── Called by the connection ──────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """The head has arrived."""
        if not self.head.done():
            self.head.set_result(None)

    def add(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MAX_BUFFERED_BYTES and not self._is_paused and self._connection is not None:
            self._is_paused = True
            self._connection.pause()

    def wake(self) -> None:
        """Deliver the new chunks, or the end, to the reader."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._take is not None and self._parts:
            try:
                if self._take(self._pop()) and not self._is_over:
                    return
            except Exception as error:  # the caller of `pump` must see it
                waiter.set_exception(error)
                return
        waiter.set_result(None)

    @property
    def _is_over(self) -> bool:
        return self._is_complete or self._error is not None

    def _pop(self) -> bytes:
        """Return the unread bytes."""
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts, self._size = [], 0
        if self._is_paused and self._connection is not None:
            self._is_paused = False
            self._connection.resume()
        return data

    def end(self, error: Exception | None = None) -> None:
        """Finish the response: complete, or interrupted by an error."""
        if self._is_over:
            return
        self._connection = None
        if error is None:
            self._is_complete = True
        else:
            self._error = error
            if not self.head.done():
                self.head.set_exception(error)
        self.wake()

    # ── Called by the reader ──────────────────────────────────────────────────────────────────

    def __aiter__(self) -> "Http1Response":
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._is_complete:
                raise StopAsyncIteration
            await self._wait()
        return self._pop()

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Call `take` with each chunk on arrival, until it returns False.

        No task is woken for a chunk, which is half of a chunk's cost.

        Returns:
            False when the response is complete and `take` received all of it.

        Raises:
            httpx2.HTTPError: the response was interrupted.
            Exception: what `take` raised.
        """
        while True:
            if self._parts:
                if not take(self._pop()):
                    return True
                continue
            if self._error is not None:
                raise self._error
            if self._is_complete:
                return False
            stopped = False

            def take_or_stop(data: bytes) -> bool:
                nonlocal stopped
                stopped = not take(data)
                return not stopped

            self._take = take_or_stop
            try:
                await self._wait()
            finally:
                self._take = None
            if stopped:
                return True

    async def _wait(self) -> None:
        """Wait for a chunk or the end."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def aclose(self) -> None:
        """Release the response. An incomplete one closes its connection, which stops the server."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


class Http1Connection(asyncio.Protocol):
    """One connection: idle, or with one running request."""

    __slots__ = (
        "_answer",
        "_closed",
        "_head_bytes",
        "_in_body",
        "_is_body_large",
        "_is_kept",
        "_is_more",
        "_is_over",
        "_parsed_bytes",
        "_parser",
        "_pool",
        "_sent_at",
        "_status",
        "_transport",
        "_until_eof",
        "idle_since",
        "is_used",
    )  # fmt: skip

    def __init__(self, pool: "_Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer: Http1Response | None = None
        self._closed = False
        self._head_bytes = 0
        self._parsed_bytes = 0  # of the head, as the parser reports it
        self._in_body = False
        self._until_eof = False
        self._is_over = False
        self._is_more = False
        self._is_kept = False
        self._is_body_large = False
        self._status = 0
        self._sent_at = 0.0
        self.is_used = False
        self.idle_since = 0.0

    def send(self, head: bytes, body: bytes) -> Http1Response:
        """Send a request. The future `head` of the result is done when the head has arrived.

        Raises:
            _Stale: the server closed the connection while it was idle. Nothing was sent.
        """
        transport = self._transport
        if transport is None or self._closed or transport.is_closing():
            raise _Stale
        if self._parser is None:
            self._parser = _new_parser(self)
        self._head_bytes = self._parsed_bytes = 0
        self._in_body = self._until_eof = self._is_over = self._is_more = False
        answer = Http1Response(self, asyncio.get_running_loop().create_future())
        self._answer = answer
        self._sent_at = self._pool.clock()
        self._is_body_large = len(body) > _JOINED_BYTES
        if not self._is_body_large:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return answer

    def pause(self) -> None:
        if self._transport is not None and not self._closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._closed:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once."""
        self._closed = True
        self._answer = None
        if self._transport is not None:
            self._transport.abort()

    # ── asyncio.Protocol ──────────────────────────────────────────────────────────────────────

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another class

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            # Unrequested bytes must never become the next response.
            self._pool.drop(self)
            self.abort()
            return
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(httpx2.RemoteProtocolError(f"malformed HTTP: {error}"))
            return
        if self._is_more:  # the declared length is wrong, so the body may be, too
            self._break(httpx2.RemoteProtocolError("more bytes than the declared response"))
        elif self._is_over:
            self._finish(answer)
        elif not self._in_body and self._head_bytes > MAX_RESPONSE_HEAD_BYTES:
            self._break(httpx2.RemoteProtocolError("the response head is too large"))
        else:
            answer.wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._pool.drop(self)
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if self._until_eof and self._in_body and exc is None:
            answer.end()
        elif self.is_used and not self._head_bytes and self._ended_at_once():
            answer.end(_stale())
        else:
            error = httpx2.ReadError("the connection closed before the end of the response")
            error.__cause__ = exc
            answer.end(error)

    def _ended_at_once(self) -> bool:
        """Whether the server closed the connection without knowing the request.

        Later it may have worked on it, and a POST must not be repeated silently (RFC 9110, 9.2.2).
        """
        return self._pool.clock() - self._sent_at <= self._pool.stale_seconds

    # ── httptools' callbacks ──────────────────────────────────────────────────────────────────

    def on_message_begin(self) -> None:
        if self._is_over:
            self._is_more = True

    def on_status(self, status: bytes) -> None:
        self._count(len(status))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body or self._answer is None:
            return  # a trailer
        self._count(len(name) + len(value))
        headers = self._answer.headers
        # The lenient parser passes "content-length :" and ignores its value (RFC 9112, 5.1).
        if not name or name[-1] in b" \t" or b"\0" in value or len(headers) >= MAX_HEADERS:
            raise ValueError("invalid header")  # stops the parser
        # The parser joins a folded line with its tab; it becomes a space (RFC 9112, 5.2).
        headers.append((name.lower(), value.replace(b"\t", b" ")))

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > MAX_RESPONSE_HEAD_BYTES:
            raise ValueError("the response head is too large")

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None or self._is_over:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            return  # an interim response; the final one follows
        names = {name for name, _ in answer.headers}
        if b"transfer-encoding" in names:
            _require_chunked(answer.headers)
        answer.status = self._status = status
        self._in_body = True
        bounded = b"content-length" in names or b"transfer-encoding" in names
        self._until_eof = not bounded and status not in (204, 304)
        self._is_kept = self._parser.should_keep_alive()  # not available later
        answer.begin()

    def on_body(self, body: bytes) -> None:
        if self._answer is not None and not self._is_over:
            self._answer.add(body)

    def on_message_complete(self) -> None:
        if not self._in_body:
            if self._answer is not None:
                self._answer.headers.clear()  # of an interim response
            return
        self._is_over = True

    def _finish(self, answer: Http1Response) -> None:
        """Complete the response, and reuse the connection where that is allowed."""
        self._answer = None
        reusable = self._is_kept and not self._until_eof and self._is_sent()
        answer.end()
        if reusable:
            self.is_used = True
            self.resume()
            self._pool.put(self)
        else:
            self.abort()

    def _is_sent(self) -> bool:
        """Whether the server has, as far as can be known, read the whole request.

        What it leaves unread would come before the next request on the connection (RFC 9112, 9.3).
        A server that refuses a large body may not read it, and the kernel's buffers hide that.
        """
        transport = self._transport
        if transport is None or transport.get_write_buffer_size():
            return False
        return self._status < 400 or not (self._is_body_large or self._status == 413)

    def _break(self, error: Exception) -> None:
        answer = self._answer
        self._pool.drop(self)
        self.abort()
        if answer is not None:
            answer.end(error)


def _new_parser(connection: Http1Connection) -> Any:
    """A response parser, lenient with line breaks and chunk sizes, which some servers get wrong."""
    parser = httptools.HttpResponseParser(connection)
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser


def _require_chunked(headers: list[Header]) -> None:
    """Raises ValueError for another transfer coding: none was asked for (RFC 9112, 6.1)."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if b",".join(codings).strip().lower() != b"chunked":
        raise ValueError("unsupported transfer-encoding")


def _stale() -> httpx2.ReadError:
    error = httpx2.ReadError("the reused connection was closed")
    error.__cause__ = _Stale()
    return error


class _Pool:
    """The idle connections to one origin, the most recently used one last."""

    def __init__(
        self, clock: Callable[[], float], *, keepalive_seconds: float, stale_seconds: float
    ) -> None:
        self.clock = clock
        self.stale_seconds = stale_seconds
        self._keepalive_seconds = keepalive_seconds
        self._idle: dict[Http1Connection, None] = {}
        self.connections: set[Http1Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def take(self) -> Http1Connection | None:
        if not self._idle:
            return None
        connection, _ = self._idle.popitem()
        return connection

    def put(self, connection: Http1Connection) -> None:
        connection.idle_since = self.clock()
        self._idle[connection] = None
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(self._keepalive_seconds, self._close_idle)

    def drop(self, connection: Http1Connection) -> None:
        self._idle.pop(connection, None)
        self.connections.discard(connection)

    def discard_idle(self) -> None:
        """Close the idle connections: the server has closed one, so probably the others too."""
        idle, self._idle = list(self._idle), {}
        for connection in idle:
            self.connections.discard(connection)
            connection.abort()

    def _close_idle(self) -> None:
        """Close expired connections, and schedule the next sweep."""
        self._sweep = None
        due = self.clock() - self._keepalive_seconds
        for connection in [item for item in self._idle if item.idle_since <= due]:
            self.drop(connection)
            connection.abort()
        if self._idle:
            oldest = next(iter(self._idle))
            wait = max(0.1, oldest.idle_since - due)
            self._sweep = asyncio.get_running_loop().call_later(wait, self._close_idle)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self.connections):
            connection.abort()
        self._idle.clear()
        self.connections.clear()


class Http1Transport(httpx2.AsyncBaseTransport):
    """The HTTP/1.1 engine as a transport of httpx2.

    Args:
        rest: opens the transport for requests that the engine does not handle; called on the first
            of them, with the trusted certificates. It is closed with the engine.
        verify: the trusted certificates; by default those of the environment.
        keepalive_seconds: idle connections are closed after this time.
        resolved_seconds: addresses of a host name are cached for this time.
        stale_seconds: a reused connection that ends within this time of a request, without a byte,
            had ended before it. The request is then sent once more, on a new connection.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        rest: Callable[[ssl.SSLContext], httpx2.AsyncBaseTransport],
        verify: ssl.SSLContext | None = None,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        resolved_seconds: float = RESOLVED_SECONDS,
        stale_seconds: float = STALE_AFTER_SEND_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_rest = rest
        self._rest: httpx2.AsyncBaseTransport | None = None
        self._verify = verify
        self._keepalive_seconds = keepalive_seconds
        self._resolved_seconds = resolved_seconds
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._pools: dict[Origin, _Pool] = {}
        self._resolved: dict[tuple[str, int], tuple[float, list[Any]]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and wait for the head of its response.

        Raises:
            httpx2.ConnectTimeout, httpx2.ConnectError: no connection.
            httpx2.ReadError: the connection closed before a response.
            httpx2.RemoteProtocolError: the response is malformed.
            httpx2.LocalProtocolError: a header contains a line break.
        """
        try:
            body = request.content
        except httpx2.RequestNotRead:
            return await self._send_by_rest(request)
        if request.method == "HEAD":
            return await self._send_by_rest(request)
        address = Address.of(request.url)
        head = _head(request.method, address.target, request.headers.raw)
        seconds = request.extensions.get("timeout", {}).get("connect")
        answer = await self._ask(address.origin, head, body, seconds, Delivery())
        return httpx2.Response(answer.status, headers=answer.headers, stream=answer)

    async def _send_by_rest(self, request: httpx2.Request) -> httpx2.Response:
        if self._rest is None:
            verify = await self._trust()
            if self._rest is None:  # another request may have opened it meanwhile
                self._rest = self._open_rest(verify)
        return await self._rest.handle_async_request(request)

    async def ask(
        self,
        method: str,
        address: Address,
        headers: Sequence[Header],
        body: bytes,
        *,
        connect_seconds: float | None = None,
        delivery: Delivery | None = None,
    ) -> Http1Response:
        """Send a request without httpx2's objects. Raises as `handle_async_request` does.

        Args:
            method: any but HEAD.
            headers: without Host and Content-Length, which are added here.
            delivery: notes that the request was written.
        """
        all_headers = [(b"host", address.host), *headers]
        if body or method in _WITH_BODY:
            all_headers.append((b"content-length", b"%d" % len(body)))
        head = _head(method, address.target, all_headers)
        return await self._ask(address.origin, head, body, connect_seconds, delivery or Delivery())

    async def _ask(
        self,
        origin: Origin,
        head: bytes,
        body: bytes,
        connect_seconds: float | None,
        delivery: Delivery,
    ) -> Http1Response:
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(
                self._clock,
                keepalive_seconds=self._keepalive_seconds,
                stale_seconds=self._stale_seconds,
            )
        while (connection := pool.take()) is not None:
            try:
                delivery.sent_at = time.monotonic()
                if delivery.connect_seconds is None:
                    delivery.connect_seconds = 0.0
                return await _exchange(connection, head, body)
            except _Stale:
                delivery.sent_at = None
                continue  # nothing was sent
            except httpx2.ReadError as error:
                if not isinstance(error.__cause__, _Stale):
                    raise
                delivery.sent_at = None
                pool.discard_idle()
                break  # the only repetition, so on a new connection
        connecting_at = time.monotonic()
        try:
            connection = await self._connect(origin, pool, connect_seconds)
        finally:  # replicas that refuse the connection count, too
            seconds = time.monotonic() - connecting_at
            delivery.connect_seconds = (delivery.connect_seconds or 0.0) + seconds
        delivery.sent_at = time.monotonic()
        try:
            return await _exchange(connection, head, body)
        except _Stale:
            delivery.sent_at = None
            raise httpx2.ConnectError("the server closed the new connection") from None

    async def _connect(self, origin: Origin, pool: _Pool, seconds: float | None) -> Http1Connection:
        loop = asyncio.get_running_loop()
        connection = Http1Connection(pool)
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._resolve(origin.host, origin.port)
                tls: dict[str, Any] = {}
                if origin.is_tls:
                    tls = {"ssl": await self._trust(), "server_hostname": origin.host}
                if [address[0] for address in addresses] == [socket.AF_INET]:
                    # No race. It costs half of the CPU of a socket of Python's.
                    transport, _ = await loop.create_connection(
                        lambda: connection, *addresses[0][4], **tls
                    )
                else:
                    transport = await _race(addresses, connection, tls)
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("the connection timed out") from error
        except OSError as error:  # also of name resolution and of TLS
            self._resolved.pop((origin.host, origin.port), None)
            raise httpx2.ConnectError(str(error)) from error
        pool.connections.add(connection)
        return connection

    async def _resolve(self, host: str, port: int) -> list[Any]:
        now = self._clock()
        cached = self._resolved.get((host, port))
        if cached is not None and now - cached[0] < self._resolved_seconds:
            return cached[1]
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self._resolved[host, port] = now, addresses
        return addresses

    async def _trust(self) -> ssl.SSLContext:
        """The trusted certificates, read on first use: that takes tens of milliseconds."""
        if self._verify is None:
            self._verify = await asyncio.to_thread(trusted_certificates)
        return self._verify

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        if self._rest is not None:
            await self._rest.aclose()


async def _race(
    addresses: list[Any], connection: Http1Connection, tls: dict[str, Any]
) -> asyncio.Transport:
    """Connect to the address that answers first. Raises OSError when none does.

    Args:
        tls: arguments of `create_connection`.
    """
    loop = asyncio.get_running_loop()
    sock = await aiohappyeyeballs.start_connection(
        addresses, happy_eyeballs_delay=_EYEBALLS_SECONDS, loop=loop
    )
    try:
        transport, _ = await loop.create_connection(lambda: connection, sock=sock, **tls)
    except BaseException:
        sock.close()
        raise
    return transport


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


async def _exchange(connection: Http1Connection, head: bytes, body: bytes) -> Http1Response:
    answer = connection.send(head, body)
    try:
        await answer.head
    except asyncio.CancelledError:
        await answer.aclose()
        raise
    return answer


def _head(method: str, target: bytes, headers: Sequence[Header]) -> bytes:
    """Request line and headers. Raises LocalProtocolError for a header with a line break."""
    lines = [b"%b %b HTTP/1.1\r\n" % (method.encode(), target)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"\r\n")
    head = b"".join(lines)
    breaks = len(lines)
    if head.count(b"\r") != breaks or head.count(b"\n") != breaks or b"\0" in head:
        raise httpx2.LocalProtocolError("a header contains a line break")
    return head
