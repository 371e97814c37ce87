"""An upstream without a network: requests, queueing, errors and release of resources."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest

from proxy.config import Secret, TimeoutsConfig, UpstreamConfig
from proxy.errors import UpstreamInterrupted, UpstreamTimeout, UpstreamUnreachable
from proxy.upstream.circuit_breaker import FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS
from proxy.upstream.environment import environment_proxy
from proxy.upstream.http1 import Delivery, Http1Transport
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.transport import open_transport
from proxy.upstream.upstream import Upstream

Handler = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class Pieces(httpx2.AsyncByteStream):
    """A body in pieces; an exception among them is raised at its position."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.closed += 1


class Transport(httpx2.AsyncBaseTransport):
    """A transport that records the requests and passes them to a handler."""

    def __init__(self, answer: Handler) -> None:
        self.requests: list[httpx2.Request] = []
        self._answer = answer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return await self._answer(request)


async def hello(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, stream=Pieces(b"hel", b"lo"))


def make_upstream(answer: Handler = hello, **settings: object) -> tuple[Upstream, Transport]:
    transport = Transport(answer)
    values = {"base_url": "http://tier:1/v1/", "model": "m"} | settings
    return Upstream("local", UpstreamConfig(**values), transport=transport), transport  # type: ignore[arg-type]


class Clock:
    """Time that passes only on request."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Replicas:
    """Replicas of a tier. Those in `down` fail."""

    def __init__(self, *hosts: str) -> None:
        self.clock = Clock()
        self.down: set[str] = set()
        self.status = 500
        self.transport = Transport(self._answer)
        urls = tuple(f"http://{host}:1/v1" for host in hosts)
        config = UpstreamConfig(base_url=urls, model="m")
        self.upstream = Upstream("local", config, transport=self.transport, clock=self.clock)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host in self.down:
            if self.status:
                return httpx2.Response(self.status, stream=Pieces(b"{}"))
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, stream=Pieces(b'{"data": []}'))

    async def ask(self, times: int = 1) -> list[str]:
        """Send requests half a second apart. Return the hosts that received them."""
        before = len(self.transport.requests)
        for _ in range(times):
            self.clock.now += 0.5
            try:
                response = await ask(self.upstream)
            except UpstreamUnreachable:
                continue
            await response.close()
        return [request.url.host for request in self.transport.requests[before:]]


async def ask(upstream: Upstream, *, stream: bool = False) -> UpstreamResponse:
    return await upstream.open("/chat/completions", b"{}", [], stream=stream)


def failing(error: Exception, cause: Exception | None = None) -> Handler:
    async def fail(request: httpx2.Request) -> httpx2.Response:
        raise error from cause

    return fail


async def test_body_and_allowed_headers_are_sent() -> None:
    upstream, transport = make_upstream(api_key=Secret("sk-ours"))
    sent = [
        (b"host", b"proxy:8080"),
        (b"authorization", b"Bearer theirs"),
        (b"cookie", b"session=1"),
        (b"openai-organization", b"org"),
        (b"content-length", b"99"),
        (b"content-type", b"text/plain"),
        (b"accept-encoding", b"gzip, br"),
        (b"connection", b"keep-alive"),
        (b"x-router-target", b"local"),
        (b"x-request-id", b"theirs"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"user-agent", b"OpenAI/Python"),
        (b"x-stainless-retry-count", b"0"),
        (b"openai-beta", b"a=1"),
        (b"openai-beta", b"b=2"),
    ]
    response = await upstream.open("/chat/completions", b'{"a": 1}', sent, stream=False)
    assert (response.status, await response.read()) == (200, b"hello")
    await response.close()
    (request,) = transport.requests
    assert (request.method, str(request.url)) == ("POST", "http://tier:1/v1/chat/completions")
    assert await request.aread() == b'{"a": 1}'
    names = [name.lower() for name, _ in request.headers.raw]
    assert sorted(set(names) - {b"host", b"content-length"}) == [
        b"accept-encoding",
        b"authorization",
        b"content-type",
        b"openai-beta",
        b"user-agent",
        b"x-stainless-retry-count",
    ]
    assert names.count(b"openai-beta") == 2
    assert request.headers["authorization"] == "Bearer sk-ours"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-length"] == "8"
    assert request.headers["host"] == "tier:1"


@pytest.mark.parametrize("api_key", [None, Secret("")])
async def test_without_a_key_no_authorization_is_sent(api_key: Secret | None) -> None:
    upstream, transport = make_upstream(api_key=api_key)
    await (await ask(upstream)).close()
    assert "authorization" not in transport.requests[0].headers


async def test_least_busy_replica_is_used() -> None:
    upstream, transport = make_upstream(base_url=("http://a/v1", "http://b/v1"))
    first, second = await ask(upstream), await ask(upstream)
    assert upstream.count_in_flight() == 2
    await first.close()
    third = await ask(upstream)
    hosts = [request.url.host for request in transport.requests]
    assert hosts == ["a", "b", "a"]
    await second.close()
    await third.close()
    assert upstream.count_in_flight() == 0


async def test_closing_twice_releases_once() -> None:
    body = Pieces(b"x")

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=body)

    upstream, _ = make_upstream(answer)
    response = await ask(upstream)
    await response.close()
    await response.close()
    assert (body.closed, upstream.count_in_flight()) == (1, 0)


async def test_requests_over_the_limit_are_queued() -> None:
    upstream, transport = make_upstream(max_concurrency=1)
    first = await ask(upstream)
    second = asyncio.ensure_future(ask(upstream))
    third = asyncio.ensure_future(ask(upstream))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(transport.requests) == 1
    second.cancel()  # its client disconnected
    await first.close()
    await (await third).close()
    assert len(transport.requests) == 2
    assert upstream.count_in_flight() == 0
    await (await ask(upstream)).close()


async def test_failure_and_cancellation_free_the_slot() -> None:
    arrived = asyncio.Event()

    async def hang(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    for answer in (failing(httpx2.ConnectError("refused")), hang):
        upstream, transport = make_upstream(answer, max_concurrency=1)
        task = asyncio.ensure_future(ask(upstream))
        if answer is hang:
            await arrived.wait()
            assert upstream.count_in_flight() == 1
            task.cancel()
        with pytest.raises((asyncio.CancelledError, UpstreamUnreachable)):
            await task
        assert upstream.count_in_flight() == 0
        again = asyncio.ensure_future(ask(upstream))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(transport.requests) == 2
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadError("reset"),
        httpx2.RemoteProtocolError("no HTTP"),
        httpx2.WriteError("cut"),
        ConnectionResetError(),
    ],
    ids=repr,
)
async def test_connection_failure_is_unreachable(error: Exception) -> None:
    upstream, _ = make_upstream(failing(error))
    with pytest.raises(UpstreamUnreachable, match="The local upstream cannot be reached") as caught:
        await ask(upstream)
    assert (caught.value.status, caught.value.upstream) == (502, "local")
    assert not upstream.up


async def test_connect_timeout_differs_from_a_lost_connection() -> None:
    upstream, _ = make_upstream(failing(httpx2.ConnectTimeout("slow")))
    with pytest.raises(
        UpstreamTimeout, match="did not accept the connection within 5 seconds"
    ) as caught:
        await ask(upstream)
    assert (caught.value.phase, caught.value.status) == ("connect", 504)
    lost = failing(httpx2.ReadTimeout("?"), cause=ConnectionResetError())
    with pytest.raises(UpstreamUnreachable):
        await ask(make_upstream(lost)[0])


async def test_first_token_timeout_applies_to_streams_only() -> None:
    gate = asyncio.Event()

    async def late(request: httpx2.Request) -> httpx2.Response:
        await gate.wait()
        return await hello(request)

    timeouts = TimeoutsConfig(first_token=0.01, idle=0.01)
    upstream, _ = make_upstream(late, timeouts=timeouts)
    complete = asyncio.ensure_future(ask(upstream))
    with pytest.raises(UpstreamTimeout, match="did not start its answer") as caught:
        await ask(upstream, stream=True)
    assert caught.value.phase == "first_token"
    assert not upstream.up
    assert not complete.done()
    gate.set()
    response = await complete
    assert await response.read() == b"hello"
    await response.close()
    assert upstream.count_in_flight() == 0


async def test_stalled_stream_times_out() -> None:
    class Stuck(Pieces):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.Event().wait()

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Stuck())

    upstream, _ = make_upstream(answer, timeouts=TimeoutsConfig(idle=0.01))
    response = await ask(upstream, stream=True)
    assert await response.next_chunk() == b"a"
    response.mark_started()
    with pytest.raises(UpstreamTimeout, match="stopped in the middle of its answer") as caught:
        await response.next_chunk()
    assert caught.value.phase == "idle"
    await response.close()


@pytest.mark.parametrize(
    "error", [httpx2.ReadError("cut"), httpx2.RemoteProtocolError("cut"), OSError()], ids=repr
)
async def test_truncated_response_is_interrupted(error: Exception) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Pieces(b"a", error))

    upstream, _ = make_upstream(answer)
    response = await ask(upstream)
    with pytest.raises(UpstreamInterrupted, match="interrupted its response"):
        await response.read()
    await response.close()
    assert upstream.count_in_flight() == 0


async def test_unrequested_compression_is_decompressed() -> None:
    packed = gzip.compress(b'{"choices": []}')

    async def answer(request: httpx2.Request) -> httpx2.Response:
        headers = {"content-encoding": "gzip"}
        return httpx2.Response(200, headers=headers, stream=Pieces(packed[:9], packed[9:]))

    response = await ask(make_upstream(answer)[0])
    assert await response.read() == b'{"choices": []}'
    await response.close()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/event-stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("Text/Event-Stream", True),
        ("application/json", False),
        ("", False),
    ],
)
async def test_stream_is_detected_by_its_content_type(content_type: str, expected: bool) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": content_type}, stream=Pieces())

    response = await ask(make_upstream(answer)[0])
    assert response.is_event_stream is expected
    await response.close()


async def test_server_that_starts_during_the_probe_is_detected() -> None:
    paths: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        paths.append(request.url.path)
        if len(paths) == 1:  # it is still starting
            return httpx2.Response(503, stream=Pieces(b""))
        bodies = {"/v1/models": b'{"data":[]}', "/api/version": b'{"version":"0.33.0"}'}
        return httpx2.Response(200, stream=Pieces(bodies.get(request.url.path, b"{}")))

    upstream, _ = make_upstream(answer)
    await upstream.catalog.refresh()
    assert upstream.catalog.capabilities.needs_adapting or upstream.catalog.is_stale


async def test_failure_during_detection_marks_capabilities_as_stale() -> None:
    """The replies may come from another server than the current one."""
    reached, release = asyncio.Event(), asyncio.Event()

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return httpx2.Response(500, stream=Pieces(b"{}"))
        reached.set()
        await release.wait()
        return httpx2.Response(200, stream=Pieces(b'{"data":[]}'))

    upstream, _ = make_upstream(answer)
    refresh = asyncio.create_task(upstream.catalog.refresh())
    await reached.wait()
    await (await ask(upstream)).close()
    release.set()
    await refresh
    assert upstream.catalog.is_stale
    await upstream.catalog.refresh()
    assert not upstream.catalog.is_stale


async def test_looking_a_name_up_queries_the_list_rarely() -> None:
    """And soon again after a failure, during which the last list counts."""
    clock, bodies = Clock(), [b'{"data":[{"id":"a/b"}]}', b"", b'{"data":[]}']

    async def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Pieces(bodies[min(queries(), len(bodies)) - 1]))

    transport = Transport(answer)
    config = UpstreamConfig(base_url="http://tier:1/v1", model="m")
    lists = Upstream("cloud", config, transport=transport, clock=clock).catalog.lists

    def queries() -> int:
        return len(transport.requests)

    assert await asyncio.gather(*map(lists, ("a/b", "a/b:fast", "b", "b:fast"))) == [
        True, True, False, False,
    ]  # fmt: skip
    assert (queries(), await lists("a/b")) == (1, True)
    clock.now += 599
    assert (await lists("a/b"), queries()) == (True, 1)
    clock.now += 1
    assert (await lists("a/b"), queries()) == (True, 2)  # not an answer
    clock.now += 9
    assert (await lists("a/b"), queries()) == (True, 2)
    clock.now += 1
    assert (await lists("a/b"), queries()) == (False, 3)


async def test_tier_is_up_if_any_replica_lists_its_models() -> None:
    async def half(request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("GET", "/v1/models")
        if request.url.host == "a":
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, stream=Pieces(b'{"data": []}'))

    upstream, _ = make_upstream(half, base_url=("http://a/v1", "http://b/v1"))
    assert not upstream.up
    assert await upstream.probe()
    assert upstream.up
    assert await upstream.catalog.fetch_models() == b'{"data": []}'

    async def broken(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(500, stream=Pieces(b"{}"))

    upstream, _ = make_upstream(broken)
    assert not await upstream.probe()
    assert await upstream.catalog.fetch_models() is None


# Environment proxies.


@pytest.mark.parametrize(
    ("base_url", "proxied"),
    [
        ("https://api.example.com/v1", True),
        ("https://inside.example.org/v1", False),
        ("https://localhost:11434/v1", False),
        ("https://127.0.0.1:11434/v1", False),
        ("https://[::1]:11434/v1", False),
        ("http://api.example.com/v1", False),  # only HTTPS_PROXY is set
    ],
)
async def test_environment_proxy_is_used_for_matching_addresses(
    monkeypatch: pytest.MonkeyPatch, base_url: str, proxied: bool
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example.org")
    monkeypatch.delenv("no_proxy", raising=False)
    proxy = environment_proxy(base_url)
    assert (proxy and str(proxy.url)) == ("http://proxy.example.org:3128" if proxied else None)
    transport = open_transport(UpstreamConfig(base_url=base_url, model="m"))
    assert isinstance(transport, httpx2.AsyncHTTPTransport if proxied else Http1Transport)
    await transport.aclose()


@pytest.mark.parametrize(
    ("error", "hosts"),
    [
        (httpx2.ConnectError("refused"), ["a", "b"]),
        (httpx2.ProxyError("503"), ["a", "b"]),
        (httpx2.ReadError("reset"), ["a"]),
    ],
    ids=["not-connected", "not-connected-by-the-proxy", "sent"],
)
async def test_another_replica_gets_a_request_only_if_the_first_cannot_have_it(
    error: Exception, hosts: list[str]
) -> None:
    upstream, transport = make_upstream(failing(error), base_url=("http://a/v1", "http://b/v1"))
    delivery = Delivery()
    with pytest.raises(UpstreamUnreachable) as got:
        await upstream.open("/chat/completions", b"{}", (), stream=False, delivery=delivery)
    assert [request.url.host for request in transport.requests] == hosts
    assert got.value.may_have_arrived == delivery.was_sent == (len(hosts) == 1)


# ── Circuit breakers ──────────────────────────────────────────────────────────────────────────


async def test_open_breaker_stops_requests_to_the_replica() -> None:
    tier = Replicas("a")
    tier.down = {"a"}
    assert len(await tier.ask(20)) < 8
    assert tier.upstream.is_unhealthy
    with pytest.raises(UpstreamUnreachable, match="is unhealthy") as caught:
        await ask(tier.upstream)
    assert caught.value.code == "upstream_unhealthy"
    assert tier.upstream.count_in_flight() == 0


async def test_short_burst_of_failures_does_not_open_the_breaker() -> None:
    tier = Replicas("a")
    tier.down = {"a"}
    for _ in range(50):
        await (await ask(tier.upstream)).close()
    assert not tier.upstream.is_unhealthy
    tier.down = set()
    await tier.ask()
    assert tier.upstream.up


async def test_half_open_breaker_closes_after_a_successful_request() -> None:
    tier = Replicas("a")
    tier.down = {"a"}
    await tier.ask(20)
    tier.clock.now += FIRST_BACKOFF_SECONDS * 4
    assert not tier.upstream.is_unhealthy
    assert len(await tier.ask(3)) == 1
    tier.down = set()
    tier.clock.now += MAX_BACKOFF_SECONDS
    assert len(await tier.ask(3)) == 3
    assert not tier.upstream.is_unhealthy
    assert tier.upstream.up


async def test_backoff_grows_up_to_a_limit() -> None:
    tier = Replicas("a")
    tier.down = {"a"}
    await tier.ask(20)
    tries = await tier.ask(1200)  # ten minutes
    assert 10 <= len(tries) <= 15


async def test_unhealthy_replica_is_skipped_while_another_is_healthy() -> None:
    tier = Replicas("a", "b")
    tier.down = {"a"}
    hosts = await tier.ask(40)
    assert hosts.count("a") < 8
    assert hosts[-5:] == ["b"] * 5
    assert tier.upstream.up
    assert not tier.upstream.is_unhealthy


async def test_refused_connection_fails_over_to_another_replica() -> None:
    tier = Replicas("a", "b")
    tier.down, tier.status = {"a"}, 0
    response = await ask(tier.upstream)
    assert response.status == 200
    assert [request.url.host for request in tier.transport.requests] == ["a", "b"]
    assert tier.upstream.count_in_flight() == 1
    await response.close()
    assert tier.upstream.count_in_flight() == 0


async def test_tier_is_unreachable_if_all_replicas_refuse() -> None:
    tier = Replicas("a", "b")
    tier.down, tier.status = {"a", "b"}, 0
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await ask(tier.upstream)
    assert tier.upstream.count_in_flight() == 0


async def test_successful_probe_closes_the_breaker() -> None:
    tier = Replicas("a")
    tier.down = {"a"}
    await tier.ask(20)
    await tier.upstream.probe_unhealthy()
    assert tier.upstream.is_unhealthy
    tier.down = set()
    await tier.upstream.probe_unhealthy()
    assert not tier.upstream.is_unhealthy
    assert tier.upstream.up


class Wedged:
    """A server that lists its models, and answers chats only while `works` is set.

    Args:
        makes_trials: whether the proxy itself sends the trial request.
        sends_head: whether the head of a stream comes before the first token.
    """

    def __init__(self, *, makes_trials: bool, sends_head: bool = False) -> None:
        self.clock = Clock()
        self.works = asyncio.Event()
        self.chats = 0
        self._sends_head = sends_head
        config = UpstreamConfig(
            base_url="http://tier:1/v1", model="m", timeouts=TimeoutsConfig(first_token=0.01)
        )
        self.upstream = Upstream(
            "local",
            config,
            transport=Transport(self._answer),
            makes_trials=makes_trials,
            clock=self.clock,
        )

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/models":
            return httpx2.Response(200, stream=Pieces(b'{"data":[{"id":"m"}]}'))
        self.chats += 1
        if not self._sends_head:
            await self.works.wait()
        return httpx2.Response(200, stream=_Later(self.works))

    async def time_out(self, times: int) -> None:
        """Have this many streams wait in vain, a second apart."""
        for _ in range(times):
            self.clock.now += 1.0
            with pytest.raises(UpstreamTimeout):
                await self.ask()

    async def ask(self) -> None:
        response = await ask(self.upstream, stream=True)
        try:
            await response.next_chunk()
            response.mark_started()
            response.succeed()
        finally:
            await response.close()

    async def probe(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        await self.upstream.probe_unhealthy()
        for _ in range(20):
            await asyncio.sleep(0)


class _Later(Pieces):
    def __init__(self, works: asyncio.Event) -> None:
        super().__init__(b"hello")
        self._works = works

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._works.wait()
        yield b"hello"


both_heads = pytest.mark.parametrize("sends_head", [False, True])


@both_heads
async def test_a_model_list_does_not_close_a_breaker_that_timeouts_opened(sends_head: bool) -> None:
    server = Wedged(makes_trials=False, sends_head=sends_head)
    await server.time_out(5)
    for _ in range(10):
        await server.probe()
        assert server.upstream.is_unhealthy
    assert server.chats == 5
    server.works.set()
    server.clock.now += FIRST_BACKOFF_SECONDS
    await server.ask()  # a client's request is the trial
    assert not server.upstream.is_unhealthy


@both_heads
async def test_one_timeout_is_enough_where_the_proxy_makes_the_trial(sends_head: bool) -> None:
    server = Wedged(makes_trials=True, sends_head=sends_head)
    await server.time_out(1)
    for _ in range(10):
        await server.probe(MAX_BACKOFF_SECONDS)
        assert server.upstream.is_unhealthy
    assert server.chats == 2  # one trial at a time
    server.works.set()
    await server.probe()
    assert not server.upstream.is_unhealthy
    assert server.upstream.up
    await server.upstream.close()


@both_heads
async def test_no_client_makes_the_trial_in_place_of_the_proxy(sends_head: bool) -> None:
    server = Wedged(makes_trials=True, sends_head=sends_head)
    await server.time_out(5)
    server.clock.now += 10 * MAX_BACKOFF_SECONDS
    with pytest.raises(UpstreamUnreachable, match="unhealthy"):
        await server.ask()
    server.works.set()
    await server.probe()
    await server.ask()
    await server.upstream.close()


async def test_the_head_of_a_stream_is_no_answer() -> None:
    server = Wedged(makes_trials=True, sends_head=True)
    await server.time_out(1)
    response = await ask(server.upstream, stream=True)
    assert server.upstream.is_unhealthy
    server.works.set()
    assert await response.next_chunk() == b"hello"
    response.succeed()
    assert not server.upstream.is_unhealthy
    await response.close()
    await server.upstream.close()


async def test_interrupted_response_counts_as_a_failure_of_its_replica() -> None:
    async def broken(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=Pieces(b"a", httpx2.ReadError("cut")))

    upstream, _ = make_upstream(broken)
    response = await ask(upstream)
    response.succeed()
    with pytest.raises(UpstreamInterrupted):
        await response.read()
    await response.close()
    await upstream.probe_unhealthy()  # it answers with a stream there, too
    assert upstream.up is False
