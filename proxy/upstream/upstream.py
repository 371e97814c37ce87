"""A tier: send a request to one of its replicas within its limits, and return the response.

    response = await upstream.open("/chat/completions", body, headers, stream=True)
    while chunk := await response.next_chunk(): ...
    await response.close()

The transport is any `httpx2.AsyncBaseTransport` and is called directly: redirects, cookies and auth
flows are not wanted, and `httpx2.AsyncClient` costs more than the rest of a request. All failures
are `UpstreamError`s that name the tier. This module does not know routing or records.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import httpx2

from proxy.config import Secret, UpstreamConfig
from proxy.errors import (
    Overloaded,
    RouterError,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.protocol import view_models
from proxy.timeouts import Deadlines
from proxy.upstream.capabilities import (
    Capabilities,
    common_capabilities,
    configured_capabilities,
    detect_capabilities,
)
from proxy.upstream.circuit_breaker import CircuitBreaker
from proxy.upstream.concurrency import ConcurrencyLimiter, QueueFull
from proxy.upstream.http1 import Address, Http1Transport
from proxy.upstream.response import (
    TRANSPORT_ERRORS,
    Phase,
    ResponseStart,
    UpstreamResponse,
    describe_error,
)

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 2.0
# Any key, or none, may list the models or ask for our health: a repeated request within this time
# gets the previous list.
MODEL_LIST_SECONDS: Final = 1.0
_MAX_ADDRESSES: Final = 64  # parsed URLs cached for each replica; clients may name any path

# Request headers that are not forwarded: hop-by-hop headers; the client's credentials for this
# proxy, and the organisation that belongs to a key; compression, which would hide the response from
# us; the page that sent the request; headers that this proxy sets itself.
_NOT_FORWARDED: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect "
    b"authorization proxy-authorization cookie api-key x-api-key "
    b"openai-organization openai-project "
    b"host content-length content-type accept-encoding "
    b"origin referer x-request-id x-real-ip forwarded".split()
)
_COMMON_CONNECTIONS: Final = (b"keep-alive", b"close")
_BODY_HEADERS: Final = frozenset({b"content-type", b"content-length"})
# Our own; what a reverse proxy says of the client (address, sometimes name and token); what a
# browser says of it.
_NOT_FORWARDED_PREFIXES: Final = (b"x-router-", b"x-forwarded-", b"sec-fetch-")

T = TypeVar("T")

Headers = Sequence[tuple[bytes, bytes]]
Body = bytes | AsyncIterator[bytes]


class _NoConnection(UpstreamUnreachable):
    """The server did not accept the connection, whatever the request was."""


class Replica:
    """One base URL of a tier: its requests in flight and its circuit breaker."""

    __slots__ = ("_addresses", "base_url", "breaker", "in_flight")

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.in_flight = 0
        self.breaker = CircuitBreaker()
        self._addresses: dict[str, Address] = {}

    @property
    def load(self) -> tuple[bool, int]:
        """Sorts replicas: those without a recent failure first, then the least busy ones."""
        return self.breaker.failures > 0, self.in_flight

    def start_request(self, now: float) -> None:
        self.in_flight += 1
        self.breaker.start_request(now)

    def url(self, path: str) -> httpx2.URL:
        return self.address(path).url

    def address(self, path: str) -> Address:
        found = self._addresses.get(path)
        if found is None:
            found = Address.of(httpx2.URL(self.base_url + path))
            if len(self._addresses) < _MAX_ADDRESSES:
                self._addresses[path] = found
        return found


class Upstream:
    """A tier: its replicas, its concurrency limit, and what its server can do."""

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        transport: httpx2.AsyncBaseTransport,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.config = config
        self._clock = clock
        self.model = config.model
        self.up: bool | None = None
        self.capabilities = configured_capabilities(config)
        self.models: frozenset[str] = frozenset()  # of the server, by its model list
        self._capabilities_of_models: dict[
            str, Capabilities
        ] = {}  # other than the configured_capabilities one
        self.capabilities_stale = True  # the server may have been replaced since
        self._failed = 0  # requests and probes so far
        self._list_lock = asyncio.Lock()
        self._model_list: bytes | None = None
        self._list_expires_at = 0.0
        self._transport = transport
        self._deadlines = Deadlines()
        self._replicas = [Replica(url) for url in config.base_urls]
        self._slots = ConcurrencyLimiter(config.max_concurrency, clock=clock)
        self._background_tasks: set[asyncio.Task[Any]] = set()
        self._base_headers: list[tuple[bytes, bytes]] = [
            (b"accept-encoding", b"identity"),
            *_authorization(config.api_key),
        ]
        self._json_headers = [(b"content-type", b"application/json"), *self._base_headers]
        # Deadlines limit the other phases, so that an error can name the phase.
        self._extensions = MappingProxyType(
            {"timeout": {"connect": config.timeouts.connect, "read": None, "pool": None}}
        )

    @property
    def address(self) -> str:
        """The base URLs, for people to read."""
        return ", ".join(replica.base_url for replica in self._replicas)

    def is_up(self) -> bool:
        """Whether the last request or probe succeeded."""
        return bool(self.up)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self._slots.waiting

    @property
    def expected_wait(self) -> float:
        """Seconds that a new request would wait for a slot."""
        return self._slots.expected_wait

    @property
    def is_unhealthy(self) -> bool:
        """Whether the circuit breaker of every replica is open."""
        now = self._clock()
        return all(replica.breaker.is_open(now) for replica in self._replicas)

    def count_in_flight(self) -> int:
        """Requests in flight, without those that wait for a slot."""
        return sum(replica.in_flight for replica in self._replicas)

    async def open(
        self, path: str, body: bytes, headers: Headers, *, stream: bool, client: str | None = None
    ) -> UpstreamResponse:
        """Wait for a free slot, send the request to the least busy replica, wait for the headers.

        The first-token timeout applies to streams only: others start when they are complete.

        Args:
            path: behind the base URL, for instance "/chat/completions".
            body: JSON, sent unchanged.
            headers: the client's; those that must not be forwarded are dropped.
            stream: whether a stream is expected.
            client: identifies the client; clients take turns in the queue.

        Raises:
            Overloaded: the queue is full.
            UpstreamTimeout: no connection or no first byte in time.
            UpstreamUnreachable: no connection, or it broke before the response started.
            UpstreamInterrupted: the response has an impossible status.
        """
        sent = [*self._json_headers, *_for_upstream(headers)]
        return await self._open(_Outgoing("POST", path, body, sent, stream), client)

    async def forward(
        self, method: str, path: str, body: Body, headers: Headers, *, client: str | None
    ) -> UpstreamResponse:
        """Forward a request of any kind unchanged except for the credentials. Raises as `open`.

        Args:
            path: behind the base URL, with a query.
            body: an iterator is streamed; a RouterError that it raises passes through.
            headers: the client's; those that describe the body are kept.
        """
        wanted = _BODY_HEADERS if not isinstance(body, bytes) else (b"content-type",)
        of_body = [(name, value) for name, value in headers if name in wanted]
        sent = [*self._base_headers, *of_body, *_for_upstream(headers)]
        return await self._open(_Outgoing(method, path, body, sent), client)

    async def run_while_idle(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Run background work on this tier's hardware while no request needs it.

        Returns None where a request is in flight or queued, and where a new request cancelled the
        work.
        """
        if self.count_in_flight() or self.queued:
            work.close()
            return None
        task = asyncio.create_task(work)
        self._background_tasks.add(task)
        try:
            await asyncio.wait((task,))
        finally:
            self._background_tasks.discard(task)
            task.cancel()
        return None if task.cancelled() else task.result()

    async def _open(self, outgoing: "_Outgoing", client: str | None) -> UpstreamResponse:
        for task in self._background_tasks:
            task.cancel()
        try:
            acquired_at = await self._slots.acquire(client)
        except QueueFull as full:
            raise Overloaded(
                f"The {self.name} upstream is busy and its queue is full. Retry later.",
                upstream=self.name,
                seconds=full.seconds,
            ) from None
        try:
            return await self._open_replica(outgoing, acquired_at, client)
        except BaseException:
            self._slots.release(acquired_at)
            raise

    async def _open_replica(
        self, outgoing: "_Outgoing", acquired_at: float, client: str | None
    ) -> UpstreamResponse:
        """Send to the least busy available replica; where it is unreachable, to another one."""
        left = list(self._replicas)
        while True:
            replica = self._pick(left)
            left.remove(replica)
            replica.start_request(self._clock())
            try:
                response = await self._send(replica, outgoing, acquired_at, client)
            except BaseException as error:
                replica.in_flight -= 1
                if isinstance(error, UpstreamError):
                    is_proof = isinstance(error, _NoConnection) or (
                        isinstance(error, UpstreamTimeout) and error.phase == "connect"
                    )
                    self.record_result(replica, failed=True, client=client, is_proof=is_proof)
                    may_retry = isinstance(outgoing.body, bytes) and self._available(left)
                    if may_retry and isinstance(error, UpstreamUnreachable):
                        continue
                raise
            self.record_result(replica, failed=response.status >= 500, client=client)
            return response

    def _pick(self, replicas: list[Replica]) -> Replica:
        """The least busy available replica. Raises UpstreamUnreachable when there is none."""
        available = self._available(replicas)
        if not available:
            raise UpstreamUnreachable(
                f"The {self.name} upstream is unhealthy: too many requests failed. "
                "It will be tried again soon.",
                upstream=self.name,
                code="upstream_unhealthy",
            )
        return min(available, key=lambda replica: replica.load)

    def _available(self, replicas: list[Replica]) -> list[Replica]:
        """The replicas whose circuit breaker is closed or half-open."""
        now = self._clock()
        return [replica for replica in replicas if not replica.breaker.is_open(now)]

    def record_result(
        self, replica: Replica, *, failed: bool, client: str | None = None, is_proof: bool = False
    ) -> None:
        """Record the result of a request to a replica, or of a probe.

        Args:
            client: as for `open`.
            is_proof: no client can have caused the failure.
        """
        now = self._clock()
        if replica.breaker.record(now, failed=failed, client=client, is_proof=is_proof):
            logger.warning(
                "%s upstream %s: the circuit breaker is open", self.name, replica.base_url
            )
        if failed:
            self._failed += 1
            self.capabilities_stale = True
        self.up = any(not other.breaker.failures for other in self._replicas)

    async def _send(
        self, replica: Replica, outgoing: "_Outgoing", acquired_at: float, client: str | None
    ) -> UpstreamResponse:
        timeouts = self.config.timeouts
        deadline = self._deadlines.within(timeouts.first_token) if outgoing.stream else None
        try:
            if deadline is None:
                start = await self._start(replica, outgoing)
            else:
                with deadline:
                    start = await self._start(replica, outgoing)
        except TimeoutError:
            raise self.timeout("first_token") from None
        except TRANSPORT_ERRORS as error:
            raise _client_error(error) or self._unreachable(replica, error) from None
        if not 200 <= start.status <= 599:  # no server would forward it for us
            await start.stream.aclose()
            raise UpstreamInterrupted(
                f"The {self.name} upstream answered with the invalid status {start.status}.",
                upstream=self.name,
            )
        return UpstreamResponse(
            self.name,
            start,
            deadline=deadline,
            idle_seconds=timeouts.idle,
            timeout=self.timeout,
            on_failure=partial(self.record_result, replica, failed=True, client=client),
            on_close=partial(self._release, replica, acquired_at),
        )

    async def _start(self, replica: Replica, outgoing: "_Outgoing") -> ResponseStart:
        method, path, body, headers, _ = outgoing
        address, transport = replica.address(path), self._transport
        if isinstance(transport, Http1Transport) and isinstance(body, bytes) and method != "HEAD":
            connect_seconds = self.config.timeouts.connect
            answer = await transport.ask(
                method, address, headers, body, connect_seconds=connect_seconds
            )
            return ResponseStart(answer.status, answer.headers, answer)
        extensions = dict(self._extensions)
        request = httpx2.Request(
            method, address.url, headers=headers, content=body, extensions=extensions
        )
        response = await transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        return ResponseStart(response.status_code, response.headers.raw, stream)

    def _release(self, replica: Replica, acquired_at: float) -> None:
        replica.in_flight -= 1
        self._slots.release(acquired_at)

    def timeout(self, phase: Phase) -> UpstreamTimeout:
        """The error for a phase that took too long."""
        seconds: float = getattr(self.config.timeouts, phase)
        what = {
            "connect": "did not accept the connection",
            "first_token": "did not start its response",
            "idle": "stopped sending its response",
        }[phase]
        return UpstreamTimeout(
            f"The {self.name} upstream {what} within {seconds:g} seconds.",
            upstream=self.name,
            phase=phase,
        )

    def _unreachable(self, replica: Replica, error: Exception) -> UpstreamError:
        logger.warning("%s upstream %s: %s", self.name, replica.base_url, describe_error(error))
        if isinstance(error, httpx2.ConnectTimeout):
            return self.timeout("connect")
        kind = _NoConnection if isinstance(error, httpx2.ConnectError) else UpstreamUnreachable
        return kind(f"The {self.name} upstream cannot be reached.", upstream=self.name)

    async def close(self) -> None:
        """Close the tier's connections."""
        await self._transport.aclose()

    async def probe(self) -> bool:
        """Request the tier's model list. Returns whether a replica answered with success."""
        self.up = await self.list_models() is not None
        return self.up

    async def probe_unhealthy(self) -> None:
        """Probe replicas with an open circuit breaker; a success closes it at once.

        A replica at which only one client's requests fail is probed, too; a failure opens it.
        """
        now = self._clock()
        for replica in self._replicas:
            if replica.breaker.needs_confirmation(now):
                found = await self._fetch("GET", replica.url("/models"))
                if found is None or found[0] >= 500:  # a server without this path is no failure
                    self.record_result(replica, failed=True, is_proof=True)
            elif (
                replica.breaker.is_open(now)
                and await self.fetch("GET", replica.url("/models")) is not None
            ):
                logger.info(
                    "%s upstream %s: the circuit breaker is closed again",
                    self.name,
                    replica.base_url,
                )
                self.record_result(replica, failed=False)

    async def refresh_capabilities(self) -> None:
        """Query what the server and its model support. Without an answer nothing changes.

        Of several replicas the intersection counts: a request may reach any of them.
        """
        failed = self._failed
        try:
            # In this order: a server that starts between the two is still asked what it is.
            models = view_models(await self.fetch_models() or b"")
            capabilities = await self._query_capabilities()
        except Exception:  # whatever it is, requests do not depend on it
            logger.exception("%s upstream: querying its capabilities failed", self.name)
            return
        # After a failure meanwhile, another server may be there than the one that answered.
        self.capabilities_stale = (
            capabilities is None and models is None
        ) or self._failed != failed
        self._capabilities_of_models.clear()
        self.capabilities = capabilities or self.capabilities
        if models is not None:
            self.models = frozenset(models)

    async def capabilities_of(self, model: str) -> Capabilities:
        """The capabilities of another model of the server, queried on first use."""
        if model not in self._capabilities_of_models:
            found = await self._query_capabilities(model)
            self._capabilities_of_models[model] = found or Capabilities(
                needs_adapting=self.capabilities.needs_adapting
            )
        return self._capabilities_of_models[model]

    async def _query_capabilities(self, model: str | None = None) -> Capabilities | None:
        found = await asyncio.gather(
            *(
                detect_capabilities(_NativeApi(self, replica), self.config, model)
                for replica in self._replicas
            )
        )
        capabilities = [item for item in found if item is not None]
        return common_capabilities(capabilities) if capabilities else None

    async def list_models(self) -> bytes | None:
        """As `fetch_models`, cached for MODEL_LIST_SECONDS."""
        async with self._list_lock:
            if self._clock() >= self._list_expires_at:
                self._model_list = await self.fetch_models()
                self._list_expires_at = self._clock() + MODEL_LIST_SECONDS
            return self._model_list

    async def fetch_models(self) -> bytes | None:
        """The body of GET /models, from the first replica that answers; None when none does."""
        bodies = await asyncio.gather(
            *(self.fetch("GET", replica.url("/models")) for replica in self._replicas)
        )
        return next((body for body in bodies if body is not None), None)

    async def fetch(self, method: str, url: httpx2.URL, body: bytes = b"") -> bytes | None:
        """Fetch a small response, outside the tier's slots; None on a failure or after 2 s."""
        found = await self._fetch(method, url, body)
        return found[1] if found is not None and found[0] < 400 else None

    async def _fetch(
        self, method: str, url: httpx2.URL, body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """The status and the body of a small response; None without one in time."""
        request = httpx2.Request(
            method,
            url,
            headers=self._json_headers,
            content=body or None,
            extensions=dict(self._extensions),
        )
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                response = await self._transport.handle_async_request(request)
                try:
                    body = await response.aread()
                finally:
                    await response.aclose()
        except (TimeoutError, *TRANSPORT_ERRORS) as error:
            logger.debug("%s upstream %s: %s", self.name, url, describe_error(error))
            return None
        return response.status_code, body


class _Outgoing(NamedTuple):
    """A request before its replica is known. `stream`: a stream is expected."""

    method: str
    path: str
    body: Body
    headers: Headers
    stream: bool = False


class _NativeApi:
    """The API of a replica's server beside /v1, for `capabilities.detect_capabilities`."""

    def __init__(self, upstream: Upstream, replica: Replica) -> None:
        self._upstream = upstream
        self._root = replica.base_url.removesuffix("/v1")

    async def get(self, path: str) -> bytes | None:
        return await self._upstream.fetch("GET", httpx2.URL(self._root + path))

    async def post(self, path: str, body: bytes) -> bytes | None:
        return await self._upstream.fetch("POST", httpx2.URL(self._root + path), body)


def _client_error(error: BaseException | None) -> RouterError | None:
    """The error of the client's own body that interrupted the upload, where that is the cause."""
    while error is not None and not isinstance(error, RouterError):
        error = error.__cause__
    return error


def _authorization(api_key: Secret | None) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + api_key.reveal().encode())] if api_key else []


def _for_upstream(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The client's headers that are forwarded."""
    sent = []
    hop_by_hop: set[bytes] = set()  # named by the connection header
    for name, value in headers:
        if name not in _NOT_FORWARDED and not name.startswith(_NOT_FORWARDED_PREFIXES):
            sent.append((name, value))
        elif name == b"connection" and value not in _COMMON_CONNECTIONS:
            hop_by_hop.update(item.strip().lower() for item in value.split(b","))
    return [item for item in sent if item[0] not in hop_by_hop] if hop_by_hop else sent
