"""A tier as seen from here: open a request at one of its replicas, read the answer, let go.

    response = await upstream.open("/chat/completions", body, headers, stream=True)
    while chunk := await response.next_chunk(): ...
    await response.close()

The transport is any `httpx2.AsyncBaseTransport` and is called directly: the client object around it
would cost more than the rest of a request (redirects, cookies and auth flows are not wanted here).
All failures leave as `UpstreamError`s that name the tier. It knows nothing of routing or records.
"""

import asyncio
import logging
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.tracing import Trace
from httpx_aiohttp.httpx2 import AiohttpTransport

from proxy.config import Secret, UpstreamConfig
from proxy.errors import (
    Overloaded,
    RouterError,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.protocol.chat import view_models
from proxy.timeouts import NEVER, Deadline, Deadlines
from proxy.upstream.capabilities import Capabilities, ask, configured, least
from proxy.upstream.concurrency import ConcurrencyLimiter, QueueFull
from proxy.upstream.http1 import Address, Http1Response, Http1Transport

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 2.0
# Who asks for the models or our health more often, as any key or none may, is told the same again.
LIST_AGAIN_SECONDS: Final = 1.0
OPEN_AFTER: Final = 5
OPEN_AFTER_SECONDS: Final = 2.0
FIRST_PAUSE_SECONDS: Final = 5.0
MAX_PAUSE_SECONDS: Final = 60.0
_MAX_ADDRESSES: Final = 64  # kept parsed for each replica; clients may name any path

# Request headers that stay here: hop-by-hop ones are between two neighbours; the credentials are
# the client's for this proxy, and an organisation belongs to a key; a compressed answer could not
# be observed; which page asked is for us to judge; the rest is ours or made anew.
_KEPT_HERE: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect "
    b"authorization proxy-authorization cookie api-key x-api-key "
    b"openai-organization openai-project "
    b"host content-length content-type accept-encoding "
    b"origin referer x-request-id x-real-ip forwarded".split()
)
_USUAL_CONNECTIONS: Final = (b"keep-alive", b"close")
_OF_BODY: Final = frozenset({b"content-type", b"content-length"})
# Ours; what a server before us says of the client (its address, with some its name and token), and
# what its browser says.
_KEPT_PREFIXES: Final = (b"x-router-", b"x-forwarded-", b"sec-fetch-")
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")

Headers = Sequence[tuple[bytes, bytes]]
Body = bytes | AsyncIterator[bytes]
Phase = Literal["connect", "first_token", "idle"]


def open_transport(config: UpstreamConfig) -> httpx2.AsyncBaseTransport:
    """A tier's production transport: our own, and behind it, for what that does not do, aiohttp
    with no limit of its own, no cookies, no redirects.

    A proxy named by the environment (HTTPS_PROXY, NO_PROXY …) is looked up once, here: aiohttp's
    own `trust_env` reads ~/.netrc for every request. No proxy leads to this machine itself.
    """
    parts = urlsplit(config.base_urls[0])
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy is not None and (host in _THIS_MACHINE or proxy_bypass(host)):
        proxy = None

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
        )

    # The session's connector has a context of its own. The transport's is never used: an empty
    # one, which trusts nobody, spares reading all certificates once more.
    unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    rest = AiohttpTransport(
        client=session, proxy=httpx2.Proxy(proxy) if proxy else None, verify=unused
    )
    return rest if proxy else Http1Transport(rest=rest)


class _Connector(aiohttp.TCPConnector):
    """Without idle connections on which something came that nobody had asked for.

    aiohttp hands them out, and the next request would get it as its answer (aiohttp issue 13656).
    """

    async def _get(
        self, key: ConnectionKey, traces: list[Trace]
    ) -> aiohttp.connector.Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


class UpstreamResponse:
    """An answer that has begun. Whoever holds it must `close` it, whatever happens."""

    __slots__ = (
        "_chunks",
        "_first_token_at",
        "_idle_seconds",
        "_is_begun",
        "_replica",
        "_stream",
        "_taken_at",
        "_upstream",
        "_wait",
        "headers",
        "status",
    )

    def __init__(
        self,
        upstream: "Upstream",
        replica: "_Replica",
        begun: "_Begun",
        *,
        taken_at: float,
        wait: Deadline | None,
        idle_seconds: float,
    ) -> None:
        self._upstream = upstream
        self._replica: _Replica | None = replica
        self._taken_at = taken_at
        self._wait = wait  # of a stream: first for its first token, then for each piece
        self._first_token_at = NEVER
        if wait is not None:
            self._first_token_at = wait.due
            wait.disarm()
            wait.__enter__()  # until `close`
        self._idle_seconds = idle_seconds
        self._is_begun = False
        self._chunks: AsyncIterator[bytes] | None = None
        self.status, self.headers, self._stream = begun

    @property
    def upstream_name(self) -> str:
        return self._upstream.name

    def mark_started(self) -> None:
        """The answer has begun to speak: no more waiting for a first token."""
        self._is_begun = True

    @property
    def is_event_stream(self) -> bool:
        return self._header(b"content-type").startswith(b"text/event-stream")

    def _header(self, wanted: bytes) -> bytes:
        """In small letters; b"" without one. What is sent twice is joined, as HTTP has it."""
        found = [value for name, value in self.headers if name.lower() == wanted]
        return b", ".join(found).strip().lower()

    async def next_chunk(self) -> bytes:
        """The next bytes of the body, b"" at its end.

        Raises:
            UpstreamTimeout: nothing came within the idle timeout, or before the first token's.
            UpstreamBroken: the connection broke before the body's end.
        """
        try:
            return await self._in_time(anext(self._pieces()))
        except StopAsyncIteration:
            return b""

    async def pump(self, take: Callable[[bytes], bool]) -> bool:
        """Give the next pieces to `take` as they come, until it returns False.

        Returns False at the body's end. Raises as `next_chunk` does, and what `take` does.
        """
        answer, wait = self._pieces(), self._wait
        if not isinstance(answer, Http1Response) or wait is None:
            while chunk := await self.next_chunk():
                if not take(chunk):
                    return True
            return False
        clock, seconds = asyncio.get_running_loop().time, self._idle_seconds

        def take_in_time(data: bytes) -> bool:
            goes_on = take(data)
            wait.due = clock() + seconds
            return goes_on

        return await self._in_time(answer.pump(take_in_time))

    def _pieces(self) -> AsyncIterator[bytes]:
        if self._chunks is None:
            self._chunks = aiter(self._stream)
            encoding = self._header(b"content-encoding")
            if encoding not in (b"", b"identity"):
                self._chunks = _unpack(self._chunks, encoding.decode("latin-1"))
        return self._chunks

    async def _in_time(self, coming: Awaitable[T]) -> T:
        """What comes, if it does in time."""
        wait = self._wait
        try:
            if wait is None:
                return await coming
            if self._is_begun:
                wait.arm(asyncio.get_running_loop().time() + self._idle_seconds)
            else:
                wait.arm(self._first_token_at)
            try:
                return await coming
            except asyncio.CancelledError:
                wait.raise_if_over()
                raise
            finally:
                wait.disarm()
        except TimeoutError:
            self._note_failure()
            phase: Phase = "idle" if self._is_begun else "first_token"
            raise self._upstream.timeout(phase) from None
        except (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, OSError) as error:
            self._note_failure()
            logger.warning("%s upstream broke off: %s", self._upstream.name, _name(error))
            raise UpstreamBroken(
                f"The {self._upstream.name} upstream broke off in the middle of its answer.",
                upstream=self._upstream.name,
            ) from None

    def _note_failure(self) -> None:
        if self._replica is not None:
            self._upstream.note(self._replica, failed=True)

    async def read(self) -> bytes:
        """The whole body. Raises as `next_chunk` does."""
        first = await self.next_chunk()
        parts = [first]
        while first and (chunk := await self.next_chunk()):
            parts.append(chunk)
        return first if len(parts) == 1 else b"".join(parts)

    async def close(self) -> None:
        """Let go. A body that was not read to its end takes its connection with it, which is what
        tells the upstream to stop generating."""
        if self._replica is None:
            return
        self._upstream.release(self._replica, self._taken_at)
        self._replica = None
        if self._wait is not None:
            self._wait.__exit__(None, None, None)
        try:
            await self._stream.aclose()
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            logger.debug("closing a response of %s: %s", self._upstream.name, _name(error))


class _Replica:
    """One base URL of a tier: how many requests it is working on, and whether it is sick.

    A circuit breaker: after OPEN_AFTER failures in a row over OPEN_AFTER_SECONDS it gets no more
    requests, but one from time to time to see whether it is well again, less and less often. The
    time keeps a burst of failures from being taken for an illness.
    """

    __slots__ = (
        "_failing_since",
        "_pause",
        "_try_at",
        "addresses",
        "base_url",
        "failures",
        "in_flight",
    )

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.in_flight = 0
        self.addresses: dict[str, Address] = {}
        self.failures = 0  # in a row
        self._failing_since = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._try_at = 0.0

    def is_unhealthy(self, now: float) -> bool:
        """Whether it gets no requests for now."""
        return self.failures >= OPEN_AFTER and now < self._try_at

    def take(self, now: float) -> None:
        """A request goes there. To a sick one it is the trial, and no other follows for a while."""
        self.in_flight += 1
        if self.failures >= OPEN_AFTER:
            self._try_at = now + self._pause

    def note(self, now: float, *, failed: bool) -> bool:
        """What became of a request or a probe; True when this is what makes the replica sick."""
        if not failed:
            self.failures, self._pause = 0, FIRST_PAUSE_SECONDS
            return False
        was_sick = self.failures >= OPEN_AFTER
        if not self.failures:
            self._failing_since = now
        if self.failures < OPEN_AFTER - 1 or now - self._failing_since >= OPEN_AFTER_SECONDS:
            self.failures += 1
        if was_sick:
            self._pause = min(self._pause * 2, MAX_PAUSE_SECONDS)
        if self.failures >= OPEN_AFTER:
            self._try_at = now + self._pause
        return self.failures >= OPEN_AFTER and not was_sick

    def url(self, path: str) -> httpx2.URL:
        return self.address(path).url

    def address(self, path: str) -> Address:
        found = self.addresses.get(path)
        if found is None:
            found = Address.of(httpx2.URL(self.base_url + path))
            if len(self.addresses) < _MAX_ADDRESSES:
                self.addresses[path] = found
        return found


class Upstream:
    """A tier: its replicas, its concurrency limit, and whether it answered last time."""

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
        self.capabilities = configured(config)
        self.models: frozenset[str] = frozenset()  # that the server has, as far as it was asked
        self._facts_of: dict[str, Capabilities] = {}  # others of these
        self.capabilities_stale = True  # the server may be another one than the one that was asked
        self._failed = 0  # requests and probes, so far
        self._listing = asyncio.Lock()
        self._listed: bytes | None = None
        self._list_again_at = 0.0
        self._transport = transport
        self._deadlines = Deadlines()
        self._replicas = [_Replica(url) for url in config.base_urls]
        self._slots = ConcurrencyLimiter(config.max_concurrency, clock=clock)
        self._guests: set[asyncio.Task[Any]] = set()
        self._base_headers: list[tuple[bytes, bytes]] = [
            (b"accept-encoding", b"identity"),
            *_authorization(config.api_key),
        ]
        self._json_headers = [(b"content-type", b"application/json"), *self._base_headers]
        # Deadlines guard the phases, so that each can be told from the others.
        self._extensions = MappingProxyType(
            {"timeout": {"connect": config.timeouts.connect, "read": None, "pool": None}}
        )

    @property
    def address(self) -> str:
        """The base URLs, for people to read."""
        return ", ".join(replica.base_url for replica in self._replicas)

    def is_up(self) -> bool:
        """Whether the tier answered when it was last asked, by a request or a probe."""
        return bool(self.up)

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return self._slots.waiting

    @property
    def expected_wait(self) -> float:
        """Seconds that a request which came now would wait for a slot."""
        return self._slots.expected_wait

    @property
    def is_unhealthy(self) -> bool:
        """Whether every replica failed too often of late to be asked now."""
        now = self._clock()
        return all(replica.is_unhealthy(now) for replica in self._replicas)

    def count_in_flight(self) -> int:
        """Requests this tier is working on now; queued ones are not among them."""
        return sum(replica.in_flight for replica in self._replicas)

    async def open(
        self, path: str, body: bytes, headers: Headers, *, stream: bool, client: str | None = None
    ) -> UpstreamResponse:
        """Wait for a free slot, send the request to the least busy replica, wait for the headers.

        The first-token timeout holds for streams only: a whole answer begins when it is finished.

        Args:
            path: behind the base URL, for instance "/chat/completions".
            body: JSON, sent as it is.
            headers: the client's; those that are not for the upstream are left out.
            stream: whether a stream is expected.
            client: whose request it is; clients take turns in the queue.

        Raises:
            Overloaded: too many wait for a slot already.
            UpstreamTimeout: no connection or no first byte in time.
            UpstreamUnreachable: no connection, or it broke before the answer began.
            UpstreamBroken: an answer with an impossible status.
        """
        sent = [*self._json_headers, *_for_upstream(headers)]
        return await self._open(_Outgoing("POST", path, body, sent, stream), client)

    async def forward(
        self, method: str, path: str, body: Body, headers: Headers, *, client: str | None
    ) -> UpstreamResponse:
        """The same for a request of any kind, which is sent as it is but for the credentials.

        Args:
            path: behind the base URL, with a query.
            body: may be an iterator, which is sent on as it comes; a RouterError of its own is
                raised as it is.
            headers: the client's; those that tell of the body are kept.
        """
        kept = _OF_BODY if not isinstance(body, bytes) else (b"content-type",)
        of_body = [(name, value) for name, value in headers if name in kept]
        sent = [*self._base_headers, *of_body, *_for_upstream(headers)]
        return await self._open(_Outgoing(method, path, body, sent), client)

    async def run_while_idle(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Have something done by this tier's hardware as long as no request wants it.

        Nothing is begun while one does, and a request that comes ends it at once. None then.
        """
        if self.count_in_flight() or self.queued:
            work.close()
            return None
        guest = asyncio.create_task(work)
        self._guests.add(guest)
        try:
            await asyncio.wait((guest,))
        finally:
            self._guests.discard(guest)
            guest.cancel()
        return None if guest.cancelled() else guest.result()

    async def _open(self, outgoing: "_Outgoing", client: str | None) -> UpstreamResponse:
        for guest in self._guests:
            guest.cancel()
        try:
            taken_at = await self._slots.acquire(client)
        except QueueFull as full:
            raise Overloaded(
                f"The {self.name} upstream is busy, and too many requests wait for it already.",
                upstream=self.name,
                seconds=full.seconds,
            ) from None
        try:
            return await self._open_replica(outgoing, taken_at)
        except BaseException:
            self._slots.release(taken_at)
            raise

    async def _open_replica(self, outgoing: "_Outgoing", taken_at: float) -> UpstreamResponse:
        """Send to the least busy replica that is well; to another one where it refuses."""
        left = list(self._replicas)
        while True:
            replica = self._pick(left)
            left.remove(replica)
            replica.take(self._clock())
            try:
                response = await self._send(replica, outgoing, taken_at)
            except BaseException as error:
                replica.in_flight -= 1
                if isinstance(error, UpstreamError):
                    self.note(replica, failed=True)
                    again = isinstance(outgoing.body, bytes) and self._well(left)
                    if again and isinstance(error, UpstreamUnreachable):
                        continue  # another replica, at once
                raise
            self.note(replica, failed=response.status >= 500)
            return response

    def _pick(self, replicas: list[_Replica]) -> _Replica:
        """The least busy of those that are well. Raises UpstreamUnreachable when none is."""
        well = self._well(replicas)
        if not well:
            raise UpstreamUnreachable(
                f"The {self.name} upstream has failed too often of late; it will be tried again "
                "soon.",
                upstream=self.name,
                code="upstream_unhealthy",
            )
        return min(well, key=_load)

    def _well(self, replicas: list[_Replica]) -> list[_Replica]:
        now = self._clock()
        return [replica for replica in replicas if not replica.is_unhealthy(now)]

    def note(self, replica: _Replica, *, failed: bool) -> None:
        """What became of a request at a replica, or of a probe."""
        if replica.note(self._clock(), failed=failed):
            logger.warning("%s upstream %s: sick, no requests for now", self.name, replica.base_url)
        if failed:
            self._failed += 1
            self.capabilities_stale = True
        self.up = any(not one.failures for one in self._replicas)

    async def _send(
        self, replica: _Replica, outgoing: "_Outgoing", taken_at: float
    ) -> UpstreamResponse:
        timeouts = self.config.timeouts
        wait = self._deadlines.within(timeouts.first_token) if outgoing.stream else None
        try:
            if wait is None:
                begun = await self._begin(replica, outgoing)
            else:
                with wait:
                    begun = await self._begin(replica, outgoing)
        except TimeoutError:
            raise self.timeout("first_token") from None
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            raise _of_client(error) or self._unreachable(replica, error) from None
        if not 200 <= begun.status <= 599:  # no server would send it on for us
            await begun.stream.aclose()
            raise UpstreamBroken(
                f"The {self.name} upstream answered with the status {begun.status}, "
                "which HTTP does not have.",
                upstream=self.name,
            )
        return UpstreamResponse(
            self, replica, begun, taken_at=taken_at, wait=wait, idle_seconds=timeouts.idle
        )

    async def _begin(self, replica: _Replica, outgoing: "_Outgoing") -> "_Begun":
        method, path, body, headers, _ = outgoing
        address, transport = replica.address(path), self._transport
        if isinstance(transport, Http1Transport) and isinstance(body, bytes) and method != "HEAD":
            connect_seconds = self.config.timeouts.connect
            answer = await transport.ask(
                method, address, headers, body, connect_seconds=connect_seconds
            )
            return _Begun(answer.status, answer.headers, answer)
        extensions = dict(self._extensions)
        request = httpx2.Request(
            method, address.url, headers=headers, content=body, extensions=extensions
        )
        response = await transport.handle_async_request(request)
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        return _Begun(response.status_code, response.headers.raw, stream)

    def release(self, replica: _Replica, taken_at: float) -> None:
        """Give back the slot of a request at a replica, taken then."""
        replica.in_flight -= 1
        self._slots.release(taken_at)

    def timeout(self, phase: Phase) -> UpstreamTimeout:
        """The error for a phase that took too long."""
        seconds: float = getattr(self.config.timeouts, phase)
        what = {
            "connect": "could not be connected to",
            "first_token": "did not begin to answer",
            "idle": "stopped in the middle of its answer",
        }[phase]
        return UpstreamTimeout(
            f"The {self.name} upstream {what} within {seconds:g} seconds.",
            upstream=self.name,
            phase=phase,
        )

    def _unreachable(self, replica: _Replica, error: Exception) -> UpstreamError:
        """httpx-aiohttp calls every lost connection a timeout; its cause tells the two apart."""
        cause = error.__cause__
        logger.warning("%s upstream %s: %s", self.name, replica.base_url, _name(cause or error))
        lost = isinstance(cause, aiohttp.ClientError) and not isinstance(cause, TimeoutError)
        if isinstance(error, httpx2.TimeoutException) and not lost:
            return self.timeout("connect")
        return UpstreamUnreachable(
            f"The {self.name} upstream cannot be reached.", upstream=self.name
        )

    async def close(self) -> None:
        """Close the tier's connections."""
        await self._transport.aclose()

    async def probe(self) -> bool:
        """Ask for the tier's model list; True when a replica answers with success."""
        self.up = await self.list_models() is not None
        return self.up

    async def probe_unhealthy(self) -> None:
        """Ask sick replicas for their models: one that answers gets requests again at once."""
        now = self._clock()
        for replica in self._replicas:
            if (
                replica.is_unhealthy(now)
                and await self.fetch("GET", replica.url("/models")) is not None
            ):
                logger.info("%s upstream %s: well again", self.name, replica.base_url)
                self.note(replica, failed=False)

    async def refresh_capabilities(self) -> None:
        """Ask the server what its model can do. Without an answer the known capabilities stay.

        Of several replicas the least of each counts: a request may meet any of them.
        """
        failed = self._failed
        try:
            # In this order: a server that comes between the two is still asked what it is.
            models = view_models(await self.fetch_models() or b"")
            capabilities = await self._ask()
        except Exception:  # whatever it is, requests do not depend on it
            logger.exception("%s upstream: cannot find out what its model can do", self.name)
            return
        # A server that failed a request meanwhile may be another one than the one that was asked.
        self.capabilities_stale = (
            capabilities is None and models is None
        ) or self._failed != failed
        self._facts_of.clear()
        self.capabilities = capabilities or self.capabilities
        if models is not None:
            self.models = frozenset(models)

    async def capabilities_of(self, model: str) -> Capabilities:
        """What is known of another of the server's models; it is asked when it is first wanted."""
        if model not in self._facts_of:
            found = await self._ask(model)
            self._facts_of[model] = found or Capabilities(is_ollama=self.capabilities.is_ollama)
        return self._facts_of[model]

    async def _ask(self, model: str | None = None) -> Capabilities | None:
        found = await asyncio.gather(
            *(ask(_Native(self, one), self.config, model) for one in self._replicas)
        )
        capabilities = [one for one in found if one is not None]
        return least(capabilities) if capabilities else None

    async def list_models(self) -> bytes | None:
        """As `fetch_models`, but what was found a moment ago is told again."""
        async with self._listing:
            if self._clock() >= self._list_again_at:
                self._listed = await self.fetch_models()
                self._list_again_at = self._clock() + LIST_AGAIN_SECONDS
            return self._listed

    async def fetch_models(self) -> bytes | None:
        """The body of GET /models, of the first replica that has one; None when none has."""
        bodies = await asyncio.gather(
            *(self.fetch("GET", one.url("/models")) for one in self._replicas)
        )
        return next((body for body in bodies if body is not None), None)

    async def fetch(self, method: str, url: httpx2.URL, body: bytes = b"") -> bytes | None:
        """A small answer in little time, outside the tier's slots; None when it is no success."""
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
        except (TimeoutError, httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            logger.debug("%s upstream %s: %s", self.name, url, _name(error))
            return None
        return body if response.status_code < 400 else None


class _Outgoing(NamedTuple):
    """A request as it goes out, whichever replica gets it. `stream`: a stream is expected."""

    method: str
    path: str
    body: Body
    headers: Headers
    stream: bool = False


class _Begun(NamedTuple):
    """An answer whose head is there."""

    status: int
    headers: list[tuple[bytes, bytes]]
    stream: httpx2.AsyncByteStream


class _Native:
    """A replica's server beside its /v1, for `capabilities.ask`."""

    def __init__(self, upstream: Upstream, replica: _Replica) -> None:
        self._upstream = upstream
        self._root = replica.base_url.removesuffix("/v1")

    async def get(self, path: str) -> bytes | None:
        return await self._upstream.fetch("GET", httpx2.URL(self._root + path))

    async def post(self, path: str, body: bytes) -> bytes | None:
        return await self._upstream.fetch("POST", httpx2.URL(self._root + path), body)


async def _unpack(packed: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """What a server has compressed although it was asked not to.

    httpx's own decoders take a part for the whole, and what they do not know for plain.

    Raises:
        httpx2.DecodingError: it is not what it says it is, or not all of it.
    """
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx2.DecodingError("a content-encoding that nobody had asked for")
    unpacker = None
    async for data in packed:
        while data:
            if unpacker is None or unpacker.eof:  # gzip may have several members
                # With its header (zlib) or, as some servers take "deflate", without (raw).
                raw = encoding == "deflate" and data[0] & 0x0F != 8
                unpacker = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS | 32)
            try:
                piece = unpacker.decompress(data)
            except zlib.error as error:
                raise httpx2.DecodingError(str(error)) from None
            data = unpacker.unused_data
            if piece:
                yield piece
    if unpacker is not None and not unpacker.eof:
        raise httpx2.DecodingError("a compressed answer without its end")


def _of_client(error: BaseException | None) -> RouterError | None:
    """What went wrong with the client's body while it was sent on, and broke off the sending."""
    while error is not None and not isinstance(error, RouterError):
        error = error.__cause__
    return error


def _name(error: BaseException) -> str:
    """An error for the log. Not its repr: aiohttp's may hold the request, with the key in it."""
    return f"{type(error).__name__}: {error}"


def _load(replica: _Replica) -> tuple[bool, int]:
    return replica.failures > 0, replica.in_flight


def _authorization(api_key: Secret | None) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + api_key.reveal().encode())] if api_key else []


def _for_upstream(headers: Headers) -> list[tuple[bytes, bytes]]:
    sent = []
    own: set[bytes] = set()  # of this connection, by its own word
    for name, value in headers:
        if name not in _KEPT_HERE and not name.startswith(_KEPT_PREFIXES):
            sent.append((name, value))
        elif name == b"connection" and value not in _USUAL_CONNECTIONS:
            own.update(one.strip().lower() for one in value.split(b","))
    return [one for one in sent if one[0] not in own] if own else sent
