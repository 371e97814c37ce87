"""The routed endpoints over HTTP, and the one exit of all errors. Thin: a request is the gateway's.

A routed endpoint is a bare ASGI handler: Litestar's request, dependency and response
machinery would cost as much per request as everything the gateway does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from litestar import HttpMethod, MediaType, Request, Response, asgi, route
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from proxy.errors import (
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    RouterError,
    envelope,
)
from proxy.gateway.gateway import Gateway
from proxy.gateway.refusal import send_error
from proxy.protocol.endpoints import CHAT, ROUTED, Endpoint
from proxy.record import new_request_id
from proxy.timeouts import Deadline, Deadlines
from proxy.web.client_connection import CLIENT

logger = logging.getLogger(__name__)

# A body that is too large is read on to its end, up to this many times the limit, because clients
# that are still writing when the connection closes never see the 413.
_DRAIN_FACTOR: Final = 4
# What a script on an allowed web page may read of an answer.
EXPOSED_HEADERS: Final = tuple(
    "x-request-id x-upstream-request-id retry-after x-router-target x-router-model x-router-score "
    "x-router-threshold x-router-reason x-router-decision-ms x-router-fallback x-router-cost-usd "
    "x-router-saved-usd".split()
)
_BESIDE_GET: Final = [HttpMethod.DELETE, HttpMethod.OPTIONS]
# A body has this long, and longer the more of it has come: one that trickles in is hung up on.
BODY_SECONDS: Final = 20.0
BODY_BYTES_PER_SECOND: Final = 500


class Client(Protocol):
    """Who waits for the answer, as the connection knows it; `connection` puts it into the scope."""

    on_leave: Callable[[], None] | None
    has_left: bool

    @property
    def send(self) -> Send:
        """The server's own."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body; False where that takes waiting."""

    def send_whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send an answer in one piece; False where that is not possible."""

    @property
    def has_sent_all(self) -> bool:
        """Whether the whole body has come."""


class AsgiExchange:
    """One ASGI request as the gateway's `Exchange`.

    While it is open, the client's going away cancels the task that made it; `client_gone` tells
    that cancellation from others. The connection says so itself: to wait for ASGI's message would
    take a task for every request.
    """

    __slots__ = (
        "_client",
        "_complete",
        "_deadlines",
        "_max_body_bytes",
        "_receive",
        "_send",
        "_task",
        "client_gone",
        "headers",
        "started",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        deadlines: Deadlines,
        max_body_bytes: int,
    ) -> None:
        self.headers = tuple(scope["headers"])
        self.started = False
        self.client_gone = False
        # Taken out: it knows of the scope, and such a circle is garbage that has to be looked for.
        self._client: Client = cast("dict[str, Any]", scope).pop(CLIENT)
        self._receive = receive
        self._send = send
        self._deadlines = deadlines
        self._max_body_bytes = max_body_bytes
        self._complete = False
        self._task = asyncio.current_task()

    async def read_body(self) -> bytes:
        """The whole body; from then on the client is watched.

        Raises:
            BodyTooLarge: it exceeds the limit.
            RequestTimeout: it comes too slowly.
            asyncio.CancelledError: the client left before the body was complete.
        """
        if self._client.has_sent_all:  # as small ones do, in one piece with their head
            body = await self._read_body(None)
        else:
            try:
                with self._deadlines.within(BODY_SECONDS) as patience:
                    body = await self._read_body(patience)
            except TimeoutError:
                raise _too_slow() from None
        self._watch()
        return body

    async def _read_body(self, patience: Deadline | None) -> bytes:
        due = patience.due if patience is not None else 0.0
        parts = []
        size = 0
        more = True
        while more:
            part, more = await self._receive_piece()
            size += len(part)
            if more and patience is not None:
                patience.due = due + size / BODY_BYTES_PER_SECOND
            if size <= self._max_body_bytes:
                parts.append(part)
            elif size > self._max_body_bytes * _DRAIN_FACTOR:
                break
        if size > self._max_body_bytes:
            limit = self._max_body_bytes / 1024 / 1024
            raise BodyTooLarge(f"The request body is larger than {limit:g} MB.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def iter_body(self) -> AsyncIterator[bytes]:
        """The body as it comes, whatever its size: nothing of it is kept.

        The client's going away cancels the request here, too, from whichever task reads this.
        """
        clock = asyncio.get_running_loop().time
        waited, size, more = 0.0, 0, True  # while it was sent on, the client need not send
        while more:
            since = clock()
            try:
                seconds = BODY_SECONDS + size / BODY_BYTES_PER_SECOND - waited
                with self._deadlines.within(seconds):
                    part, more = await self._receive_piece()
            except TimeoutError:
                raise _too_slow() from None
            except asyncio.CancelledError:
                if self.client_gone and self._task is not None:
                    self._task.cancel()
                raise
            waited += clock() - since
            size += len(part)
            yield part
        self._watch()

    async def _receive_piece(self) -> tuple[bytes, bool]:
        """The next piece, and whether there is more."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
            raise asyncio.CancelledError
        assert message["type"] == "http.request"
        return message["body"], message["more_body"]

    def _watch(self) -> None:
        self._client.on_leave = self._on_leave
        if self._client.has_left:
            self._on_leave()

    def _on_leave(self) -> None:
        if not self._complete and self._task is not None:
            self.client_gone = True
            self._task.cancel()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool) -> None:
        # Set before sending: once the last byte is out, a client that leaves is a satisfied one.
        self._complete = not more
        # Not through Litestar's own `send`, which has nothing to do for a piece of a body.
        await self._client.send({"type": "http.response.body", "body": data, "more_body": more})

    def send_now(self, data: bytes) -> bool:
        return self._client.send_now(data)

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        # To pages of another origin Litestar has a header to add.
        is_of_a_page = any(name == b"origin" for name, _ in self.headers)
        if not is_of_a_page and self._client.send_whole(status, headers, body):
            self.started = self._complete = True
            return
        await self.start(status, headers)
        await self.send(body, more=False)

    def close(self) -> None:
        """Stop watching the client."""
        self._complete = True
        self._client.on_leave = None


Way = Callable[[AsgiExchange], Awaitable[None]]


def _too_slow() -> RequestTimeout:
    return RequestTimeout("The request body came in too slowly.")


def routes(gateway: Gateway) -> list[ControllerRouterHandler]:
    """The routed endpoints, bound to the gateway that answers them."""

    routed = [_route(gateway, one) for one in ROUTED]

    # Litestar has no bare ASGI handlers for paths with a variable part; a handler may return one.
    async def pass_through(request: Request[Any, Any, Any]) -> ASGIApp:
        method = str(request.method)
        way = _passing_on(gateway, method, request.scope)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await _answer(gateway, way, scope, receive, send)

        return app

    # What models there are is told by `admin`; a fine-tuned one is deleted where it is.
    @route("/v1/models/{model_id:path}", http_method=_BESIDE_GET, status_code=200)
    async def delete_model(request: Request[Any, Any, Any]) -> ASGIApp:
        if request.method == HttpMethod.OPTIONS:  # Litestar would name one handler's methods only
            return ASGIResponse(status_code=204, headers={"allow": "DELETE, GET, OPTIONS"})
        return await pass_through(request)

    @asgi("/api/decisions", copy_scope=False)
    async def preview(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") != "POST":
            await _refuse_method(gateway, scope, receive, send, allow="POST")
            return
        await _answer(gateway, gateway.preview, scope, receive, send)

    return [
        *routed,
        preview,
        delete_model,
        route("/v1/{rest:path}", http_method=list(HttpMethod))(pass_through),
    ]


def _passing_on(gateway: Gateway, method: str, scope: Scope) -> Way:
    query = scope["query_string"].decode("latin-1")
    return partial(gateway.pass_through, method=method, raw_path=scope["raw_path"], query=query)


def _route(gateway: Gateway, endpoint: Endpoint) -> ControllerRouterHandler:
    @asgi(f"/v1{endpoint.path}", copy_scope=False)
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "GET" and endpoint is CHAT:
            await _answer(gateway, _passing_on(gateway, "GET", scope), scope, receive, send)
            return
        if scope.get("method") != "POST":
            allow = "GET, POST" if endpoint is CHAT else "POST"
            await _refuse_method(gateway, scope, receive, send, allow=allow)
            return
        await _answer(gateway, partial(gateway.answer, endpoint), scope, receive, send)

    return answer


async def _refuse_method(
    gateway: Gateway, scope: Scope, receive: Receive, send: Send, *, allow: str
) -> None:
    exchange = AsgiExchange(scope, receive, send, deadlines=gateway.deadlines, max_body_bytes=0)
    error = MethodNotAllowed("Use POST for this path.", allow=allow)
    await send_error(error, exchange, [(b"x-request-id", new_request_id().encode())])


async def _answer(
    gateway: Gateway,
    how: Way,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    max_body_bytes = gateway.snapshot.config.server.max_body_bytes
    exchange = AsgiExchange(
        scope, receive, send, deadlines=gateway.deadlines, max_body_bytes=max_body_bytes
    )
    try:
        await how(exchange)
    except asyncio.CancelledError:
        if not exchange.client_gone:
            raise
    finally:
        exchange.close()


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exit for errors outside the hot path: the same envelope, nothing of ours in it."""
    known = _translate(request, error)
    if isinstance(known, InternalError):
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    headers = {name.decode(): value.decode() for name, value in known.headers}
    return Response(
        envelope(known),
        status_code=known.status,
        media_type=MediaType.JSON,
        headers=headers | {"x-request-id": new_request_id()},
    )


def _translate(request: Request[Any, Any, Any], error: Exception) -> RouterError:
    match error:
        case RouterError():
            return error
        case NotFoundException():
            return NotFound(
                f"Unknown route: {request.method} {request.url.path}", code="unknown_url"
            )
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "GET")
            return MethodNotAllowed(
                f"{request.method} is not allowed for {request.url.path}.", allow=allow
            )
        case HTTPException() if 400 <= error.status_code < 500:
            return InvalidRequest(error.detail)
        case _:
            return InternalError("The proxy failed to answer this request; its log says why.")
