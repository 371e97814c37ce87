"""The OpenAI endpoints over HTTP, and the exit of all errors. The gateway does the work.

A routed endpoint is a bare ASGI handler. Litestar's request, dependency and response handling would
cost as much per request as the whole gateway.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
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
from proxy.gateway import Gateway, send_error
from proxy.protocol.endpoints import CHAT, MESSAGES, NATIVE, PARSED, Endpoint, meant_path
from proxy.protocol.ollama import is_native_path
from proxy.protocol.ollama_answers import error_body
from proxy.record import new_request_id
from proxy.timeouts import Deadline, Deadlines
from proxy.web.client_connection import CLIENT, IS_HEAD

logger = logging.getLogger(__name__)

# A body over the limit is still read, up to this many times the limit: a client that still writes
# when the connection closes never sees the 413.
_DRAIN_FACTOR: Final = 4
# Response headers that scripts of an allowed origin may read.
EXPOSED_HEADERS: Final = tuple(
    "x-request-id x-upstream-request-id retry-after x-should-retry "
    "x-router-target x-router-model x-router-score x-router-merit x-router-threshold "
    "x-router-reason x-router-rule x-router-decision-ms "
    "x-router-fallback x-router-adapted x-router-second-look x-router-verified-merit "
    "x-router-cost-usd x-router-saved-usd".split()
)
_DELETE_METHODS: Final = [HttpMethod.DELETE, HttpMethod.OPTIONS]
# `client_connection` refuses other methods. It turns HEAD into GET.
_FORWARDED_METHODS: Final = [
    HttpMethod.GET,
    HttpMethod.POST,
    HttpMethod.PUT,
    HttpMethod.PATCH,
    HttpMethod.DELETE,
    HttpMethod.OPTIONS,
]


_MANAGING_PATHS: Final = [
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/copy",
    "/api/delete",
    "/api/blobs/{digest:str}",
]
_MANAGING_METHODS: Final = [HttpMethod.GET, HttpMethod.POST, HttpMethod.DELETE]  # GET: of HEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """How slowly a request body may arrive before the proxy answers 408.

    Attributes:
        seconds: for the whole body.
        bytes_per_second: a body of any size at this rate gets more time.
        small_body_seconds: for the whole body of an endpoint that takes only small ones.
    """

    seconds: float = 20.0
    bytes_per_second: float = 500
    small_body_seconds: float = 20.0


class Client(Protocol):
    """The client of a request. `client_connection` puts it into the ASGI scope."""

    on_disconnect: Callable[[], None] | None
    is_disconnected: bool

    @property
    def send(self) -> Send:
        """The ASGI server's `send`."""

    def send_now(self, data: bytes) -> bool:
        """Send a piece of the body without waiting; False if that is not possible."""

    @property
    def has_sent_all(self) -> bool:
        """Whether the whole request body has arrived."""

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends its body only after "100 Continue"."""


class AsgiExchange:
    """One ASGI request as the gateway's `Exchange`.

    While it is open, a disconnect of the client cancels the task that made it, and `client_gone` is
    set. The connection reports the disconnect; waiting for ASGI's message would need a task per
    request.
    """

    __slots__ = (
        "_client",
        "_complete",
        "_deadlines",
        "_limits",
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
        limits: BodyLimits,
    ) -> None:
        self.headers = tuple(scope["headers"])
        self.started = False
        self.client_gone = False
        # Popped, because client and scope would be a reference cycle for the garbage collector.
        self._client: Client = cast("dict[str, Any]", scope).pop(CLIENT)
        self._receive = receive
        self._send = send
        self._deadlines = deadlines
        self._max_body_bytes = max_body_bytes
        self._limits = limits
        self._complete = False
        self._task = asyncio.current_task()

    async def read_body(self) -> bytes:
        """Read the whole body. Afterwards a disconnect cancels the request.

        Raises:
            BodyTooLarge: it exceeds the limit.
            RequestTimeout: it arrives too slowly.
            asyncio.CancelledError: the client disconnected before the body was complete.
        """
        if self._client.has_sent_all:  # a small body arrives together with its headers
            body = await self._read_body(None)
        else:
            self._check_declared_size()
            try:
                with self._deadlines.within(self._limits.seconds) as deadline:
                    body = await self._read_body(deadline)
            except TimeoutError:
                raise _too_slow() from None
        self._watch()
        return body

    async def _read_body(self, deadline: Deadline | None) -> bytes:
        due = deadline.due if deadline is not None else 0.0
        # `getvalue` copies nothing. Joining the pieces of 31 MB would block the loop for 15 ms.
        whole = BytesIO()
        size = 0
        more = True
        while more:
            part, more = await self._receive_piece()
            size += len(part)
            if more and deadline is not None:
                deadline.due = due + size / self._limits.bytes_per_second
            if size <= self._max_body_bytes:
                if not more and size == len(part):
                    return part
                whole.write(part)
            elif size > self._max_body_bytes * _DRAIN_FACTOR:
                break
        if size > self._max_body_bytes:
            raise self._too_large()
        return whole.getvalue()

    def _check_declared_size(self) -> None:
        """Refuse a body by its content-length, unless reading it lets the client see the answer."""
        factor = 1 if self._client.awaits_continue else _DRAIN_FACTOR
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._max_body_bytes * factor:
                raise self._too_large()

    def _too_large(self) -> BodyTooLarge:
        limit = self._max_body_bytes / 1024 / 1024
        return BodyTooLarge(f"The request body exceeds {limit:g} MB (server.max_body_mb).")

    async def iter_body(self) -> AsyncIterator[bytes]:
        """The body piece by piece, of any size, without buffering.

        A disconnect of the client cancels the request, whichever task reads the body.
        """
        clock = asyncio.get_running_loop().time
        waited, size, more = 0.0, 0, True  # without the time that forwarding took
        while more:
            since = clock()
            try:
                seconds = self._limits.seconds + size / self._limits.bytes_per_second - waited
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
        """The next piece, and whether more follow."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
            raise asyncio.CancelledError
        assert message["type"] == "http.request"
        return message["body"], message["more_body"]

    def _watch(self) -> None:
        self._client.on_disconnect = self._on_disconnect
        if self._client.is_disconnected:
            self._on_disconnect()

    def _on_disconnect(self) -> None:
        if not self._complete and self._task is not None:
            self.client_gone = True
            self._task.cancel()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool) -> None:
        # Set before sending: after the last byte a disconnect is no error.
        self._complete = not more
        # Not through Litestar's `send`, which does nothing for a piece of a body.
        await self._client.send({"type": "http.response.body", "body": data, "more_body": more})

    def send_now(self, data: bytes) -> bool:
        return self._client.send_now(data)

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers.append((b"content-length", b"%d" % len(body)))
        await self.start(status, headers)
        await self.send(body, more=False)

    def close(self) -> None:
        """A disconnect no longer cancels the request."""
        self._complete = True
        self._client.on_disconnect = None


Handler = Callable[[AsgiExchange], Awaitable[None]]


def _too_slow() -> RequestTimeout:
    return RequestTimeout("The request body arrived too slowly.")


def routes(gateway: Gateway, *, limits: BodyLimits) -> list[ControllerRouterHandler]:
    """The routed endpoints, bound to the gateway that answers them."""
    return _Routes(gateway, limits).handlers()


class _Routes:
    """ASGI handlers that hand each request to the gateway."""

    def __init__(self, gateway: Gateway, limits: BodyLimits) -> None:
        self._gateway = gateway
        self._limits = limits

    def handlers(self) -> list[ControllerRouterHandler]:
        # Litestar has no bare ASGI handlers for paths with parameters; a handler may return an app.
        async def forward(request: Request[Any, Any, Any]) -> ASGIApp:
            handler = self._pass_through(request.scope)

            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                await self._answer(handler, scope, receive, send)

            return app

        # `service_api` lists the models. Only the cloud can delete a fine-tuned model.
        @route("/v1/models/{model_id:path}", http_method=_DELETE_METHODS, status_code=200)
        async def delete_model(request: Request[Any, Any, Any]) -> ASGIApp:
            if request.method == HttpMethod.OPTIONS:  # Litestar would name one handler's methods
                return ASGIResponse(status_code=204, headers={"allow": "DELETE, GET, OPTIONS"})
            return await forward(request)

        @asgi("/api/decisions", copy_scope=False)
        async def preview(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("method") != "POST":
                await self._refuse_method(scope, receive, send, allow="POST")
                return
            await self._answer(self._gateway.preview, scope, receive, send)

        @asgi(f"/v1{MESSAGES.path}/count_tokens", copy_scope=False)
        async def count_tokens(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("method") != "POST":
                await self._refuse_method(scope, receive, send, allow="POST", endpoint=MESSAGES)
                return
            await self._answer(self._gateway.count_tokens, scope, receive, send)

        async def manage(request: Request[Any, Any, Any]) -> ASGIApp:
            path, method = request.scope["path"], _method_of(request.scope)
            handler = partial(self._gateway.manage_models, method=method, path=path)

            async def app(scope: Scope, receive: Receive, send: Send) -> None:
                await self._answer(handler, scope, receive, send)

            return app

        return [
            *(self._parsed(endpoint, f"/v1{endpoint.path}") for endpoint in PARSED),
            *(self._parsed(endpoint, endpoint.path) for endpoint in NATIVE),
            preview,
            count_tokens,
            route(_MANAGING_PATHS, http_method=_MANAGING_METHODS, status_code=200)(manage),
            delete_model,
            route("/v1/{rest:path}", http_method=_FORWARDED_METHODS)(forward),
        ]

    def _parsed(self, endpoint: Endpoint, path: str) -> ControllerRouterHandler:
        @asgi(path, copy_scope=False)
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("method") == "GET" and endpoint is CHAT:
                await self._answer(self._pass_through(scope), scope, receive, send)
                return
            if scope.get("method") != "POST":
                allow = "GET, POST" if endpoint is CHAT else "POST"
                await self._refuse_method(scope, receive, send, allow=allow, endpoint=endpoint)
                return
            await self._answer(partial(self._gateway.answer, endpoint), scope, receive, send)

        return answer

    def _pass_through(self, scope: Scope) -> Handler:
        method = _method_of(scope)
        query = scope["query_string"].decode("latin-1")
        return partial(
            self._gateway.pass_through, method=method, raw_path=scope["raw_path"], query=query
        )

    async def _refuse_method(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        allow: str,
        endpoint: Endpoint = CHAT,
    ) -> None:
        exchange = self._exchange(scope, receive, send, max_body_bytes=0)
        methods = allow.replace(", ", " or ")
        error = MethodNotAllowed(f"Use {methods} for this path.", allow=allow)
        headers = [(b"x-request-id", new_request_id().encode())]
        await send_error(error, exchange, headers, body_of=endpoint.error_body)

    async def _answer(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        max_body_bytes = self._gateway.snapshot.config.server.max_body_bytes
        exchange = self._exchange(scope, receive, send, max_body_bytes=max_body_bytes)
        try:
            await handler(exchange)
        except asyncio.CancelledError:
            if not exchange.client_gone:
                raise
        finally:
            exchange.close()

    def _exchange(
        self, scope: Scope, receive: Receive, send: Send, *, max_body_bytes: int
    ) -> AsgiExchange:
        return AsgiExchange(
            scope,
            receive,
            send,
            deadlines=self._gateway.deadlines,
            max_body_bytes=max_body_bytes,
            limits=self._limits,
        )


def _method_of(scope: Scope) -> str:
    """The client's method. `client_connection` turns HEAD into GET."""
    return "HEAD" if IS_HEAD in scope else str(scope.get("method"))


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's error handler: the form of the path's API, without internal details."""
    body_of = error_body if is_native_path(request.scope["path"]) else envelope
    known = _translate(request, error)
    if isinstance(known, InternalError):
        logger.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    headers = {name.decode(): value.decode() for name, value in known.headers}
    return Response(
        body_of(known),
        status_code=known.status,
        media_type=MediaType.JSON,
        headers=headers | {"x-request-id": new_request_id()},
    )


def _translate(request: Request[Any, Any, Any], error: Exception) -> RouterError:
    match error:
        case RouterError():
            return error
        case NotFoundException():
            method, path = request.method, request.scope["path"]
            meant = meant_path(path)
            hint = f". The API is below /v1: {method} {meant}" if meant is not None else ""
            return NotFound(f"Unknown route: {method} {path}{hint}", code="unknown_url")
        case MethodNotAllowedException():
            allow = (error.headers or {}).get("allow", "GET")
            return MethodNotAllowed(
                f"{request.method} is not allowed for {request.scope['path']}. Use one of {allow}.",
                allow=allow,
            )
        case HTTPException() if 400 <= error.status_code < 500:
            return InvalidRequest(error.detail)
        case _:
            return InternalError("Internal error of the proxy. Its log has the details.")
