"""A tier: send a request to one of its replicas within its limits, and return the response.

    response = await upstream.open("/chat/completions", body, headers, stream=True)
    while chunk := await response.next_chunk(): ...
    await response.close()

The transport is any `httpx2.AsyncBaseTransport` and is called directly: redirects, cookies and auth
flows are not needed, and `httpx2.AsyncClient` costs more than the rest of a request. All failures
are `UpstreamError`s that name the tier. This module does not know routing or records.
"""

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httpx2

from proxy.addresses import join_url, without_version
from proxy.config import ModelSettings, TimeoutsConfig, UpstreamConfig
from proxy.errors import (
    NotAnAnswer,
    Overloaded,
    RouterError,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.protocol.model_servers import shortest_chat
from proxy.timeouts import Deadlines
from proxy.upstream.catalog import ModelCatalog
from proxy.upstream.circuit_breaker import CircuitBreaker
from proxy.upstream.concurrency import ConcurrencyLimiter, QueueFull
from proxy.upstream.headers import Headers, headers_for_upstream, headers_of_body
from proxy.upstream.health import NOT_RUNNING, Look, LookResult, ReplicaHealth
from proxy.upstream.http1 import Address, Delivery, Http1Transport
from proxy.upstream.learned import Learned
from proxy.upstream.response import (
    TRANSPORT_ERRORS,
    Phase,
    ResponseStart,
    UpstreamResponse,
    describe_error,
)
from proxy.upstream.running_models import LOAD_SECONDS, RunningModels

logger = logging.getLogger(__name__)

# How long a replica without other evidence is not looked at. An outage of the local tier must be
# known within half a minute; a cloud is somebody else's.
LOCAL_LOOK_SECONDS: Final = 15.0
CLOUD_LOOK_SECONDS: Final = 60.0

_REFUSED: Final = (401, 403, 407)  # the credentials

_MAX_ADDRESSES: Final = 64  # parsed URLs cached for each replica; clients may name any path
_MAX_CAUSES: Final = 8  # of an error, by which it is described
_MAX_MODELS: Final = 64  # whose settings are cached; clients may name any model

# A proxy that refuses to connect, or the way to it, gets no request.
_NOT_CONNECTED: Final = (httpx2.ConnectError, httpx2.ProxyError)

T = TypeVar("T")

Body = bytes | AsyncIterator[bytes]


class _NoConnection(UpstreamUnreachable):
    """The server refused the connection. The request cannot be the cause."""


class Replica:
    """One base URL of a tier: its requests in flight, its health and its loaded models."""

    __slots__ = (
        "_addresses", "base_url", "breaker", "health", "in_flight", "models", "native_url", "trial",
    )  # fmt: skip

    def __init__(self, base_url: str, models: RunningModels, health: ReplicaHealth) -> None:
        self.base_url = base_url
        self.native_url = without_version(base_url)
        self.in_flight = 0
        self.breaker = CircuitBreaker()
        self.health = health
        self.models = models
        self.trial: asyncio.Task[None] | None = None  # the proxy's own request after a timeout
        self._addresses: dict[tuple[str, bool], Address] = {}

    def rank(self, model: str | None) -> tuple[bool, bool, int]:
        """The sort key: replicas with the model loaded first, then those without a recent failure,
        then the least busy ones.
        """
        is_cold = model is not None and self.models.is_cold(model)
        return is_cold, self.breaker.failures > 0, self.in_flight

    @property
    def is_tried(self) -> bool:
        """Whether the proxy's own request is under way."""
        return self.trial is not None and not self.trial.done()

    def start_request(self, now: float) -> None:
        self.in_flight += 1
        self.breaker.start_request(now)

    def address(self, path: str, *, is_native: bool) -> Address:
        """The address of a path below the base URL; if native, of the server's own API."""
        key = path, is_native
        address = self._addresses.get(key)
        if address is None:
            base_url = self.native_url if is_native else self.base_url
            address = Address.of(httpx2.URL(join_url(base_url, path)))
            if len(self._addresses) < _MAX_ADDRESSES:
                self._addresses[key] = address
        return address


class Upstream:
    """A tier: its replicas, its concurrency limit and the catalog of its models.

    Args:
        makes_trials: whether the proxy itself sends the trial request after a timeout, so that no
            client waits for it. Its answer costs nothing at a local tier.
        load_seconds: the time limit of a trial, and of loading a model.
        look_seconds: how long a replica without other evidence is not looked at.
        clock: monotonic seconds.
        calendar: UNIX seconds.

    Attributes:
        up: whether a replica can answer; None while that is not known.
        since: when `up` became what it is, in UNIX seconds.
    """

    def __init__(
        self,
        name: str,
        config: UpstreamConfig,
        *,
        transport: httpx2.AsyncBaseTransport,
        makes_trials: bool = False,
        load_seconds: float = LOAD_SECONDS,
        look_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.config = config
        self._makes_trials = makes_trials
        self._load_seconds = load_seconds
        self._clock = clock
        self._calendar = calendar
        self.model = config.model
        self.up: bool | None = None
        self.since = calendar()
        self._transport = transport
        self._deadlines = Deadlines()
        self._settings_of = lru_cache(_MAX_MODELS)(config.settings_of)
        self._slots = ConcurrencyLimiter(config.max_concurrency, clock=clock)
        self._background_tasks: set[asyncio.Task[Any]] = set()
        self._forward_headers = _as_names(config.forward_headers)
        self._return_headers = _as_names(config.return_headers)
        own = [(name.encode(), value.encode()) for name, value in config.sent_headers]
        self._own_headers = frozenset(name for name, _ in own)
        self._base_headers: list[tuple[bytes, bytes]] = [(b"accept-encoding", b"identity"), *own]
        self._json_headers = [(b"content-type", b"application/json"), *self._base_headers]
        self.catalog = ModelCatalog(
            name,
            config,
            transport=transport,
            headers=self._json_headers,
            on_look=self._record_look,
            clock=clock,
        )
        if look_seconds is None:
            look_seconds = LOCAL_LOOK_SECONDS if makes_trials else CLOUD_LOOK_SECONDS
        send = self.catalog.send
        self._replicas = [
            Replica(
                url,
                RunningModels(name, url, send=send, load_seconds=load_seconds, clock=clock),
                ReplicaHealth(may_lack_list=not makes_trials, look_seconds=look_seconds),
            )
            for url in config.base_urls
        ]
        self.learned = Learned(clock=clock)
        # Deadlines limit the other phases, so that an error can name the phase.
        self._extensions = MappingProxyType(
            {"timeout": {"connect": config.timeouts.connect, "read": None, "pool": None}}
        )

    @property
    def address(self) -> str:
        """The base URLs, for people to read."""
        return ", ".join(replica.base_url for replica in self._replicas)

    def settings_of(self, model: str) -> ModelSettings:
        """The timeouts of a model, and whether it is a reasoning model."""
        return self._settings_of(model)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self._slots.waiting

    @property
    def expected_wait(self) -> float:
        """Seconds that a new request would wait for a slot."""
        return self._slots.expected_wait

    def has_room(self, requests: int) -> bool:
        """Whether this many more requests would not wait for a slot."""
        return self._slots.has_room(requests)

    @property
    def is_unhealthy(self) -> bool:
        """Whether no replica is known to answer: after a timeout, or with an open breaker."""
        now = self._clock()
        return all(
            replica.breaker.is_open(now) or (self._makes_trials and replica.breaker.needs_answer)
            for replica in self._replicas
        )

    @property
    def problem(self) -> str | None:
        """What keeps the tier from answering; None if nothing is known.

        With the remedy, if the server does not list the configured model.
        """
        if not self.up:
            found = (replica.health.problem for replica in self._replicas)
            if (problem := next(filter(None, found), None)) is not None:
                return problem
        elif self.catalog.problem is not None:
            return self.catalog.problem
        if all(replica.breaker.needs_answer for replica in self._replicas):
            return "no request has been answered since a timeout"
        if not self.up:
            now = self._clock()
            is_tripped = all(replica.breaker.is_open(now) for replica in self._replicas)
            return "too many requests failed" if is_tripped else None
        if all(replica.models.is_loading(self.model) for replica in self._replicas):
            return f"it is loading the model {self.model}"
        return None

    def is_cold(self, model: str) -> bool:
        """Whether no available replica has a model loaded, as far as is known.

        A model that the server does not list cannot be loaded: a request tells why.
        """
        if self.catalog.lacks(model):
            return False
        available = self._available(self._replicas)
        return bool(available) and all(replica.models.is_cold(model) for replica in available)

    def load(self, model: str) -> list[asyncio.Task[None]]:
        """Load a model in the available replicas that lack it. The loads depend on no client.

        Returns the loads to wait for: none if a replica can answer now, or after a failed load.
        """
        if self.catalog.lacks(model):
            return []
        available = self._available(self._replicas)
        cold = [replica for replica in available if replica.models.is_cold(model)]
        loads = [task for replica in cold if (task := replica.models.load(model)) is not None]
        return loads if len(cold) == len(available) else []

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
        is_native: bool = False,
        model: str | None = None,
        client: str | None = None,
        delivery: Delivery | None = None,
    ) -> UpstreamResponse:
        """Wait for a free slot, send the request to the least busy replica, wait for the headers.

        The first-token timeout applies to streams only: others start when they are complete.

        Args:
            path: behind the base URL, for instance "/chat/completions".
            body: JSON, sent unchanged.
            headers: the client's; `headers_for_upstream` chooses among them.
            stream: whether a stream is expected.
            is_native: whether the path is one of the server's own API, beside the base URL.
            model: that is asked, for its timeouts; by default the tier's own. Replicas that have it
                loaded come first.
            client: identifies the client; clients take turns in the queue.
            delivery: notes that the request was sent, also if the attempt fails.

        Raises:
            Overloaded: the queue is full.
            UpstreamTimeout: no connection or no first byte in time.
            UpstreamUnreachable: no connection, or it broke before the response started.
            UpstreamInterrupted: the response has an impossible status.
        """
        sent = [*self._json_headers, *self._passed(headers)]
        timeouts = self.settings_of(model or self.model).timeouts
        outgoing = _Outgoing(
            "POST", path, body, sent, stream, timeouts, delivery or Delivery(), model, is_native
        )
        return await self._open(outgoing, client)

    async def forward(
        self,
        method: str,
        path: str,
        body: Body,
        headers: Headers,
        *,
        client: str | None,
        is_native: bool = False,
        needs_slot: bool = True,
        delivery: Delivery | None = None,
    ) -> UpstreamResponse:
        """Forward a request of any kind unchanged except for the credentials. Raises as `open`.

        Args:
            path: behind the base URL, with a query.
            body: an iterator is streamed; a RouterError that it raises passes through.
            headers: the client's; those that describe the body are forwarded, too.
            client, is_native, delivery: as for `open`.
            needs_slot: whether it counts against the tier's concurrency: no model works on a
                download.
        """
        sent = [
            *self._base_headers,
            *headers_of_body(headers, is_streamed=not isinstance(body, bytes)),
            *self._passed(headers),
        ]
        timeouts = self.config.timeouts
        noted = delivery or Delivery()
        outgoing = _Outgoing(method, path, body, sent, False, timeouts, noted, None, is_native)
        if not needs_slot:
            return await self._open_replica(outgoing, None, client)
        return await self._open(outgoing, client)

    def _passed(self, headers: Headers) -> Headers:
        return headers_for_upstream(headers, self._forward_headers, own=self._own_headers)

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
        asked_at = self._clock()
        try:
            acquired_at = await self._slots.acquire(client)
        except QueueFull as full:
            raise Overloaded(
                f"The {self.name} upstream is busy and its queue is full. Retry later.",
                upstream=self.name,
                seconds=full.seconds,
            ) from None
        finally:
            outgoing.delivery.queue_seconds = self._clock() - asked_at
        try:
            return await self._open_replica(outgoing, acquired_at, client)
        except BaseException:
            self._slots.release(acquired_at)
            raise

    async def _open_replica(
        self, outgoing: "_Outgoing", acquired_at: float | None, client: str | None
    ) -> UpstreamResponse:
        """Send to the least busy available replica; without a connection, to another one.

        A replica that had the request may have worked on it: that failure is the caller's to retry.
        """
        remaining = list(self._replicas)
        while True:
            replica = self._pick(remaining, outgoing.model)
            remaining.remove(replica)
            replica.start_request(self._clock())
            try:
                response = await self._send(replica, outgoing, acquired_at, client)
            except BaseException as error:
                replica.in_flight -= 1
                if isinstance(error, UpstreamError):
                    phase = error.phase if isinstance(error, UpstreamTimeout) else None
                    is_proof = isinstance(error, _NoConnection) or phase == "connect"
                    self.record_result(replica, failed=True, client=client, is_proof=is_proof)
                    if phase == "first_token":
                        self._doubt(replica)
                    unsent = isinstance(error, UpstreamUnreachable) and not error.may_have_arrived
                    if unsent and isinstance(outgoing.body, bytes) and self._available(remaining):
                        continue
                raise
            return response

    def _pick(self, replicas: list[Replica], model: str | None) -> Replica:
        """The least busy available replica. Raises UpstreamUnreachable when there is none."""
        available = self._available(replicas)
        if not available:
            raise UpstreamUnreachable(
                f"The {self.name} upstream is unhealthy: too many requests failed. "
                "It will be tried again soon.",
                upstream=self.name,
                code="upstream_unhealthy",
            )
        return min(available, key=lambda replica: replica.rank(model))

    def _available(self, replicas: list[Replica]) -> list[Replica]:
        """The replicas whose circuit breaker is closed, or half-open for a client's request."""
        now = self._clock()
        return [replica for replica in replicas if self._may_send(replica.breaker, now)]

    def _may_send(self, breaker: CircuitBreaker, now: float) -> bool:
        if self._makes_trials and breaker.needs_answer:
            return breaker.state(now) == "closed"  # the trial is the proxy's
        return not breaker.is_open(now)

    def record_result(
        self,
        replica: Replica,
        *,
        failed: bool,
        client: str | None = None,
        is_proof: bool = False,
        status: int = 0,
    ) -> None:
        """Record the result of a request to a replica.

        Args:
            client: as for `open`.
            is_proof: no client can have caused the failure.
            status: of the answer.
        """
        now = self._clock()
        if replica.breaker.record(now, failed=failed, client=client, is_proof=is_proof):
            logger.warning(
                "%s upstream %s: the circuit breaker is open", self.name, replica.base_url
            )
        if failed:
            self.catalog.mark_stale()
            replica.health.record_failure(is_proof=is_proof)
        elif status in _REFUSED:
            replica.health.record_refusal()
        else:
            replica.health.record_answer(now)
        self._update_state(now)

    def _record_look(self, base_url: str, look: Look) -> None:
        now = self._clock()
        for replica in self._replicas:
            if replica.base_url == base_url:
                is_busy = replica.in_flight > 0 or replica.is_tried
                replica.health.record_look(look, now, is_busy=is_busy)
        self._update_state(now)

    def _update_state(self, now: float) -> None:
        """Set `up`: true if any replica is up, unknown if that is not known of one."""
        states = {self._is_replica_up(replica, now) for replica in self._replicas}
        up = True if True in states else None if None in states else False
        if up is self.up:
            return
        was_up, self.up, self.since = self.up, up, self._calendar()
        if up is False:
            logger.warning("%s upstream %s: down: %s", self.name, self.address, self.problem)
        elif was_up is False:
            logger.info("%s upstream %s: up again", self.name, self.address)

    def _is_replica_up(self, replica: Replica, now: float) -> bool | None:
        """Whether the replica counts as up. One with an open circuit breaker does not."""
        if replica.breaker.is_open(now) or (self._makes_trials and replica.breaker.needs_answer):
            return False
        return replica.health.up

    def _doubt(self, replica: Replica) -> None:
        """After a timeout: from now on only an answer proves that the replica answers."""
        replica.breaker.needs_answer = True
        self._update_state(self._clock())
        if self._makes_trials:
            self._start_trial(replica)

    def _start_trial(self, replica: Replica) -> None:
        """Send the shortest request, unless one is under way. It has no slot of the tier."""
        if not replica.is_tried:
            replica.trial = asyncio.create_task(self._try(replica))

    async def _try(self, replica: Replica) -> None:
        url, body = join_url(replica.base_url, "/chat/completions"), shortest_chat(self.model)
        replica.breaker.start_request(self._clock())
        response = await self.catalog.send("POST", url, body, seconds=self._load_seconds)
        if response is None or response[0] >= 500:
            self.record_result(replica, failed=True, is_proof=True)
            return
        logger.info("%s upstream %s: it answers again", self.name, replica.base_url)
        replica.breaker.answer_trial()
        replica.health.record_answer(self._clock())
        self._update_state(self._clock())

    async def _send(
        self,
        replica: Replica,
        outgoing: "_Outgoing",
        acquired_at: float | None,
        client: str | None,
    ) -> UpstreamResponse:
        timeouts = outgoing.timeouts
        deadline = self._deadlines.within(timeouts.first_token) if outgoing.stream else None
        try:
            if deadline is None:
                start = await self._start(replica, outgoing)
            else:
                with deadline:
                    start = await self._start(replica, outgoing)
        except TimeoutError:
            raise self.timeout(timeouts, "first_token") from None
        except TRANSPORT_ERRORS as error:
            raise _client_error(error) or self._unreachable(replica, error) from None
        # A client would send its prompt to the address of a redirect.
        is_redirect = 300 <= start.status <= 399
        if is_redirect or not 200 <= start.status <= 599:
            await start.stream.aclose()
            name, url = self.name, replica.base_url
            if is_redirect:
                outgoing.delivery.sent_at = None  # it is answered elsewhere, and costs nothing
                host = _host_of_redirect(start.headers)
                logger.warning(
                    "%s upstream %s: a redirect (%d) to %s", name, url, start.status, host
                )
                raise NotAnAnswer(
                    f"The {name} upstream answered with a redirect ({start.status}), which this "
                    "proxy does not follow. Check its base_url (https, host name, path).",
                    upstream=name,
                )
            logger.warning("%s upstream %s: the invalid status %d", name, url, start.status)
            raise UpstreamInterrupted(
                f"The {name} upstream answered with the invalid status {start.status}.",
                upstream=name,
            )
        return UpstreamResponse(
            self.name,
            start,
            deadline=deadline,
            first_token_seconds=timeouts.first_token,
            idle_seconds=timeouts.idle,
            max_bytes=self.config.max_response_bytes,
            return_headers=self._return_headers,
            timeout=partial(self._time_out, replica, timeouts),
            on_result=lambda failed: self.record_result(
                replica, failed=failed, client=client, status=start.status
            ),
            on_close=partial(self._release, replica, acquired_at),
        )

    async def _start(self, replica: Replica, outgoing: "_Outgoing") -> ResponseStart:
        method, path, body, headers, _, timeouts, delivery, _, is_native = outgoing
        address, transport = replica.address(path, is_native=is_native), self._transport
        if isinstance(transport, Http1Transport) and isinstance(body, bytes) and method != "HEAD":
            answer = await transport.ask(
                method,
                address,
                headers,
                body,
                connect_seconds=timeouts.connect,
                delivery=delivery,
            )
            return ResponseStart(answer.status, answer.headers, answer)
        extensions = dict(self._extensions)
        request = httpx2.Request(
            method, address.url, headers=headers, content=body, extensions=extensions
        )
        delivery.sent_at = time.monotonic()  # httpx2 reports only that it could not connect
        try:
            response = await transport.handle_async_request(request)
        except (*_NOT_CONNECTED, httpx2.ConnectTimeout):
            delivery.sent_at = None
            raise
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        headers = [(name.lower(), value) for name, value in response.headers.raw]
        return ResponseStart(response.status_code, headers, stream)

    def _release(self, replica: Replica, acquired_at: float | None) -> None:
        replica.in_flight -= 1
        if acquired_at is not None:
            self._slots.release(acquired_at)

    def _time_out(
        self, replica: Replica, timeouts: TimeoutsConfig, phase: Phase
    ) -> UpstreamTimeout:
        self._doubt(replica)
        return self.timeout(timeouts, phase)

    def timeout(self, timeouts: TimeoutsConfig, phase: Phase) -> UpstreamTimeout:
        """The error for a phase that took too long."""
        seconds: float = getattr(timeouts, phase)
        what = {
            "connect": "did not accept the connection within",
            "first_token": "did not start its answer: it was silent for",
            "idle": "stopped in the middle of its answer: it was silent for",
        }[phase]
        return UpstreamTimeout(
            f"The {self.name} upstream {what} {seconds:g} seconds.",
            upstream=self.name,
            phase=phase,
        )

    def _unreachable(self, replica: Replica, error: Exception) -> UpstreamError:
        logger.warning("%s upstream %s: %s", self.name, replica.base_url, describe_error(error))
        if isinstance(error, httpx2.ConnectTimeout):
            return self.timeout(self.config.timeouts, "connect")
        is_connected = not isinstance(error, _NOT_CONNECTED)
        kind = UpstreamUnreachable if is_connected else _NoConnection
        why = _why_unreachable(error)
        unreachable = kind(f"The {self.name} upstream cannot be reached{why}.", upstream=self.name)
        unreachable.may_have_arrived = is_connected
        return unreachable

    async def close(self) -> None:
        """Abort the proxy's own requests, and close the tier's connections."""
        for replica in self._replicas:
            await replica.models.close()
            if replica.trial is not None:
                replica.trial.cancel()
                await asyncio.gather(replica.trial, return_exceptions=True)
        await self._transport.aclose()

    async def refresh(self) -> None:
        """Query the server's models: their list, their capabilities, and which are loaded."""
        was_stale = self.catalog.is_stale
        await self.catalog.refresh()
        if not was_stale:
            await self.refresh_running()
        elif not self.catalog.is_stale:
            self.learned.forget()
            await asyncio.gather(*(replica.models.detect() for replica in self._replicas))

    async def refresh_running(self) -> None:
        """Query which models are loaded, where the server is known to list them."""
        await asyncio.gather(*(replica.models.refresh() for replica in self._replicas))

    async def probe(self) -> bool:
        """Request the tier's model list. Returns whether a replica is up."""
        await self.catalog.list_models()
        return bool(self.up)

    async def probe_unhealthy(self) -> None:
        """Look at the replicas whose state is in doubt, or not known any more.

        A replica whose last request failed is looked at every time, others after `look_seconds`
        without an answered request.

        A model list closes an open circuit breaker at once. A replica at which only one client's
        requests fail is looked at, too; a failure opens it. After a timeout the probe is the trial
        request, if the proxy makes it; else a client's request is.
        """
        await asyncio.gather(*map(self._probe_replica, self._replicas))
        self._update_state(self._clock())  # the backoff of a breaker may be over

    async def _probe_replica(self, replica: Replica) -> None:
        now, breaker = self._clock(), replica.breaker
        is_open, is_in_doubt = breaker.is_open(now), breaker.needs_confirmation(now)
        if breaker.needs_answer:
            if self._makes_trials and not is_open:
                self._start_trial(replica)
            is_open = is_in_doubt = False  # for the look: it proves nothing about either
        if not (is_open or is_in_doubt or replica.health.needs_look(now)):
            return
        look = await self.catalog.look(replica.base_url)
        if is_in_doubt and look.result in NOT_RUNNING:
            self.record_result(replica, failed=True, is_proof=True)
        elif is_open and look.result is LookResult.LISTED:
            breaker.record(self._clock(), failed=False)
            logger.info(
                "%s upstream %s: the circuit breaker is closed again", self.name, replica.base_url
            )


class _Outgoing(NamedTuple):
    """A request without its replica.

    Attributes:
        stream: whether a stream is expected.
        model: of the request, if it is known.
        is_native: whether the path is one of the server's own API.
    """

    method: str
    path: str
    body: Body
    headers: Headers
    stream: bool
    timeouts: TimeoutsConfig
    delivery: Delivery
    model: str | None = None
    is_native: bool = False


def _why_unreachable(error: BaseException | None) -> str:
    """Why a connection failed, after a colon, without addresses; "" if that says nothing."""
    if isinstance(error, httpx2.ReadError):
        return ": it closed the connection before it answered"
    if isinstance(error, httpx2.RemoteProtocolError):
        return ": its answer is not valid HTTP"
    seen = 0
    while error is not None and seen < _MAX_CAUSES:
        match error:
            case socket.gaierror():
                return ": its host name cannot be resolved"
            case ssl.SSLCertVerificationError():
                return ": its TLS certificate is not trusted"
            case ssl.SSLError():
                return ": the TLS handshake failed"
            case ConnectionRefusedError():
                return ": the connection was refused"
            case ConnectionResetError() | BrokenPipeError():
                return ": the connection was reset"
            case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH):
                return ": there is no route to it"
        error, seen = error.__cause__ or error.__context__, seen + 1
    return ""


def _client_error(error: BaseException | None) -> RouterError | None:
    """The error of the client's body, if that interrupted the upload."""
    while error is not None and not isinstance(error, RouterError):
        error = error.__cause__
    return error


def _host_of_redirect(headers: Headers) -> str:
    """The host that a redirect points to, for the log. The rest of the address may be secret."""
    location = next((value for name, value in headers if name == b"location"), b"")
    try:
        host = urlsplit(location.decode("latin-1")).hostname
    except ValueError:
        return "an invalid address"
    return host or "the same host"


def _as_names(names: Sequence[str]) -> frozenset[bytes]:
    return frozenset(name.lower().encode() for name in names)
