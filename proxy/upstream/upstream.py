"""A tier: send a request to one of its replicas within its limits, and return the response.

    response = await upstream.open("/chat/completions", body, headers, stream=True)
    while chunk := await response.next_chunk(): ...
    await response.close()

The transport is any `httpx2.AsyncBaseTransport` and is called directly: redirects, cookies and auth
flows are not needed, and `httpx2.AsyncClient` costs more than the rest of a request. All failures
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
from proxy.timeouts import Deadlines
from proxy.upstream.catalog import ModelCatalog
from proxy.upstream.circuit_breaker import CircuitBreaker
from proxy.upstream.concurrency import ConcurrencyLimiter, QueueFull
from proxy.upstream.http1 import Address, Delivery, Http1Transport
from proxy.upstream.response import (
    TRANSPORT_ERRORS,
    Phase,
    ResponseStart,
    UpstreamResponse,
    describe_error,
)

logger = logging.getLogger(__name__)

_MAX_ADDRESSES: Final = 64  # parsed URLs cached for each replica; clients may name any path

# Request headers that are not forwarded: hop-by-hop headers; the client's credentials and
# organisation; compression, because the proxy reads responses; the page that sent the request;
# headers that the proxy sets itself.
_NOT_FORWARDED: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect "
    b"authorization proxy-authorization cookie api-key x-api-key "
    b"openai-organization openai-project "
    b"host content-length content-type accept-encoding "
    b"origin referer x-request-id x-real-ip forwarded".split()
)
_COMMON_CONNECTIONS: Final = (b"keep-alive", b"close")
_BODY_HEADERS: Final = frozenset({b"content-type", b"content-length"})
# The proxy's own headers, a reverse proxy's headers about the client, and a browser's.
_NOT_FORWARDED_PREFIXES: Final = (b"x-router-", b"x-forwarded-", b"sec-fetch-")

T = TypeVar("T")

Headers = Sequence[tuple[bytes, bytes]]
Body = bytes | AsyncIterator[bytes]


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
        """The sort key: replicas without a recent failure first, then the least busy ones."""
        return self.breaker.failures > 0, self.in_flight

    def start_request(self, now: float) -> None:
        self.in_flight += 1
        self.breaker.start_request(now)

    def address(self, path: str) -> Address:
        address = self._addresses.get(path)
        if address is None:
            address = Address.of(httpx2.URL(self.base_url + path))
            if len(self._addresses) < _MAX_ADDRESSES:
                self._addresses[path] = address
        return address


class Upstream:
    """A tier: its replicas, its concurrency limit and the catalog of its models."""

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
        self.catalog = ModelCatalog(
            name, config, transport=transport, headers=self._json_headers, clock=clock
        )
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
        self,
        path: str,
        body: bytes,
        headers: Headers,
        *,
        stream: bool,
        client: str | None = None,
        delivery: Delivery | None = None,
    ) -> UpstreamResponse:
        """Wait for a free slot, send the request to the least busy replica, wait for the headers.

        The first-token timeout applies to streams only: others start when they are complete.

        Args:
            path: behind the base URL, for instance "/chat/completions".
            body: JSON, sent unchanged.
            headers: the client's; those that must not be forwarded are dropped.
            stream: whether a stream is expected.
            client: identifies the client; clients take turns in the queue.
            delivery: counts when the request is sent, whatever happens then.

        Raises:
            Overloaded: the queue is full.
            UpstreamTimeout: no connection or no first byte in time.
            UpstreamUnreachable: no connection, or it broke before the response started.
            UpstreamInterrupted: the response has an impossible status.
        """
        sent = [*self._json_headers, *_for_upstream(headers)]
        outgoing = _Outgoing("POST", path, body, sent, stream, delivery or Delivery())
        return await self._open(outgoing, client)

    async def forward(
        self, method: str, path: str, body: Body, headers: Headers, *, client: str | None
    ) -> UpstreamResponse:
        """Forward a request of any kind unchanged except for the credentials. Raises as `open`.

        Args:
            path: behind the base URL, with a query.
            body: an iterator is streamed; a RouterError that it raises passes through.
            headers: the client's; those that describe the body are forwarded.
        """
        body_headers = _BODY_HEADERS if not isinstance(body, bytes) else (b"content-type",)
        of_body = [(name, value) for name, value in headers if name in body_headers]
        sent = [*self._base_headers, *of_body, *_for_upstream(headers)]
        return await self._open(_Outgoing(method, path, body, sent, False, Delivery()), client)

    async def run_while_idle(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Run background work on this tier's hardware while no request needs it.

        Returns None if a request is in flight or queued, or if a new request cancelled the work.
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
            return await self._open_replica(outgoing, acquired_at)
        except BaseException:
            self._slots.release(acquired_at)
            raise

    async def _open_replica(self, outgoing: "_Outgoing", acquired_at: float) -> UpstreamResponse:
        """Send to the least busy available replica; if it is unreachable, to another one."""
        remaining = list(self._replicas)
        while True:
            replica = self._pick(remaining)
            remaining.remove(replica)
            replica.start_request(self._clock())
            try:
                response = await self._send(replica, outgoing, acquired_at)
            except BaseException as error:
                replica.in_flight -= 1
                if isinstance(error, UpstreamError):
                    self.record_result(replica, failed=True)
                    may_retry = isinstance(outgoing.body, bytes) and self._available(remaining)
                    if may_retry and isinstance(error, UpstreamUnreachable):
                        continue
                raise
            self.record_result(replica, failed=response.status >= 500)
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

    def record_result(self, replica: Replica, *, failed: bool) -> None:
        """Record the result of a request to a replica, or of a probe."""
        if replica.breaker.record(self._clock(), failed=failed):
            logger.warning(
                "%s upstream %s: the circuit breaker is open", self.name, replica.base_url
            )
        if failed:
            self.catalog.mark_stale()
        self.up = any(not other.breaker.failures for other in self._replicas)

    async def _send(
        self, replica: Replica, outgoing: "_Outgoing", acquired_at: float
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
        if not 200 <= start.status <= 599:  # no HTTP server would send it to the client
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
            on_failure=partial(self.record_result, replica, failed=True),
            on_close=partial(self._release, replica, acquired_at),
        )

    async def _start(self, replica: Replica, outgoing: "_Outgoing") -> ResponseStart:
        method, path, body, headers, _, delivery = outgoing
        address, transport = replica.address(path), self._transport
        if isinstance(transport, Http1Transport) and isinstance(body, bytes) and method != "HEAD":
            connect_seconds = self.config.timeouts.connect
            answer = await transport.ask(
                method,
                address,
                headers,
                body,
                connect_seconds=connect_seconds,
                delivery=delivery,
            )
            return ResponseStart(answer.status, answer.headers, answer)
        extensions = dict(self._extensions)
        request = httpx2.Request(
            method, address.url, headers=headers, content=body, extensions=extensions
        )
        delivery.times += 1  # httpx2 reports only that it could not connect
        try:
            response = await transport.handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            delivery.times -= 1
            raise
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
        return UpstreamUnreachable(
            f"The {self.name} upstream cannot be reached.", upstream=self.name
        )

    async def close(self) -> None:
        """Close the tier's connections."""
        await self._transport.aclose()

    async def probe(self) -> bool:
        """Request the tier's model list. Returns whether a replica answered with success."""
        self.up = await self.catalog.list_models() is not None
        return self.up

    async def probe_unhealthy(self) -> None:
        """Probe replicas with an open circuit breaker; a success closes it at once."""
        now = self._clock()
        for replica in self._replicas:
            if replica.breaker.is_open(now) and await self.catalog.is_reachable(replica.base_url):
                logger.info(
                    "%s upstream %s: the circuit breaker is closed again",
                    self.name,
                    replica.base_url,
                )
                self.record_result(replica, failed=False)


class _Outgoing(NamedTuple):
    """A request without its replica. `stream`: whether a stream is expected."""

    method: str
    path: str
    body: Body
    headers: Headers
    stream: bool
    delivery: Delivery


def _client_error(error: BaseException | None) -> RouterError | None:
    """The error of the client's body, if that interrupted the upload."""
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
