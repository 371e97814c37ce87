"""An overloaded proxy refuses new requests before it reads their bodies. Running ones go on."""

import asyncio

import pytest

from fakes import PATIENCE_SECONDS, FakeUpstream, Gate, chunked, openai_events
from late_clock import LateClock
from live import LiveProxy, StartProxy, chat_body, check_headers, envelope_of

DELAY = 2.5  # above the default of server.overload_seconds
BODY_SIZE = 1_000_000


@pytest.fixture
async def clock() -> LateClock:
    return LateClock()


@pytest.fixture
async def proxy(start: StartProxy, clock: LateClock) -> LiveProxy:
    return await start(clock=clock)


async def set_delay(proxy: LiveProxy, clock: LateClock, seconds: float) -> None:
    """Wait until the proxy's delay is this."""
    clock.delay = seconds
    async with asyncio.timeout(PATIENCE_SECONDS):
        while abs(proxy.proxy.loop_delay.seconds - seconds) > 1e-6:
            await proxy.client.get("/health")  # gives the proxy time


async def test_new_requests_are_refused_and_recorded(
    proxy: LiveProxy, clock: LateClock, cloud: FakeUpstream, local: FakeUpstream
) -> None:
    await set_delay(proxy, clock, DELAY)
    response = await proxy.chat()
    error = envelope_of(response)
    assert response.status_code == 503
    assert (error["type"], error["code"]) == ("server_error", "proxy_overloaded")
    assert response.headers["retry-after"] == "5"
    assert "x-should-retry" not in response.headers
    outcome = await proxy.finish()
    (row,) = outcome.rows
    assert (row["status"], row["ending"], row["error_code"]) == (
        503,
        "rejected",
        "proxy_overloaded",
    )
    check_headers(response.headers, row)
    assert outcome.metrics("router_errors_total", code="proxy_overloaded") == 1
    assert not cloud.calls
    assert not local.calls


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/chat/completions", b'"proxy_overloaded"'),
        ("/v1/responses", b'"proxy_overloaded"'),
        ("/v1/embeddings", b'"proxy_overloaded"'),
        ("/v1/messages", b'"overloaded_error"'),
        ("/v1/images/generations", b'"proxy_overloaded"'),
        ("/api/chat", b'"error":"The proxy has too many requests'),
        ("/api/decisions", b'"proxy_overloaded"'),
    ],
)
async def test_no_body_is_read(proxy: LiveProxy, clock: LateClock, path: str, part: bytes) -> None:
    """The answer comes although the client has sent no byte of its body."""
    await set_delay(proxy, clock, DELAY)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {BODY_SIZE}\r\n"
    client = await proxy.connect_raw(f"{head}content-type: application/json\r\n\r\n".encode())
    answer = await client.read_to_end()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert part in answer
    await client.leave()


async def test_a_running_stream_goes_on(
    proxy: LiveProxy, clock: LateClock, cloud: FakeUpstream
) -> None:
    gate, events = Gate(), openai_events()
    cloud.answer = chunked(events[0], events[1], gate, *events[2:])
    client = await proxy.connect(model="cloud", stream=True)
    await gate.reached()
    await set_delay(proxy, clock, DELAY)
    assert (await proxy.chat()).status_code == 503
    gate.open()
    assert await client.read_until(b"[DONE]")
    await client.leave()
    assert {row["ending"] for row in (await proxy.finish(2)).rows} == {"ok", "rejected"}


async def test_other_paths_still_answer(proxy: LiveProxy, clock: LateClock) -> None:
    await set_delay(proxy, clock, DELAY)
    for path in ("/health", "/ready", "/metrics", "/v1/models", "/", "/dashboard", "/api/status"):
        assert (path, (await proxy.client.get(path)).status_code) == (path, 200)


async def test_requests_are_accepted_again_afterwards(proxy: LiveProxy, clock: LateClock) -> None:
    await set_delay(proxy, clock, DELAY)
    assert (await proxy.chat()).status_code == 503
    await set_delay(proxy, clock, 0.5)
    assert (await proxy.chat()).status_code == 200


async def test_the_limit_can_be_switched_off(start: StartProxy, clock: LateClock) -> None:
    proxy = await start({"server": {"overload_seconds": None}}, clock=clock)
    await set_delay(proxy, clock, 60.0)
    assert (await proxy.chat()).status_code == 200


async def test_retry_after_has_a_limit(proxy: LiveProxy, clock: LateClock) -> None:
    await set_delay(proxy, clock, 600.0)
    assert (await proxy.chat()).headers["retry-after"] == "30"


async def test_an_unknown_key_gets_401(start: StartProxy, clock: LateClock) -> None:
    """Its request is refused in the same way whether the proxy is overloaded or not."""
    proxy = await start({"server": {"api_keys": ["sk-known"]}}, clock=clock)
    await set_delay(proxy, clock, DELAY)
    assert (await proxy.post(chat_body())).status_code == 401
