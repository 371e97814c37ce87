"""The circuit breaker: whose failures open it."""

from collections.abc import Iterator

import httpx2
import pytest

from proxy.config import UpstreamConfig
from proxy.errors import UpstreamError
from proxy.upstream.circuit_breaker import ACTIVE_SECONDS, CircuitBreaker
from proxy.upstream.upstream import Upstream


def fails(breaker: CircuitBreaker, *clients: str | None, start: float = 0.0) -> Iterator[bool]:
    """Whether the breaker is open after each failure of these clients, one a second."""
    for place, client in enumerate(clients):
        breaker.record(start + place, failed=True, client=client)
        yield breaker.is_open(start + place)


def seen(*clients: str | None) -> CircuitBreaker:
    """A breaker that has answered these clients."""
    breaker = CircuitBreaker()
    for client in clients:
        breaker.record(-1.0, failed=False, client=client)
    return breaker


@pytest.mark.parametrize("others", [("other",), ("other", "bad"), (None,), ("a", "b", "c")])
def test_the_failures_of_one_client_alone_open_nothing(others: tuple[str | None, ...]) -> None:
    breaker = seen(*others)
    assert not any(fails(breaker, *["bad"] * 500))


def test_the_failures_of_two_clients_open_the_breaker() -> None:
    breaker = seen("other")
    opened = list(fails(breaker, *["bad"] * 20, "other"))
    assert opened == [False] * 20 + [True]
    assert list(fails(seen(), "a", "b", "a", "b", "a"))[-1]


def test_the_only_active_client_opens_the_breaker() -> None:
    assert list(fails(seen("only"), *["only"] * 5)) == [False] * 4 + [True]
    breaker = seen("other")
    later = list(fails(breaker, *["bad"] * 5, start=ACTIVE_SECONDS))
    assert later[-1]


def test_a_refused_connection_opens_it_whoever_asked() -> None:
    breaker = seen("other")
    list(fails(breaker, *["bad"] * 4))
    assert breaker.record(9.0, failed=True, client="bad", is_proof=True)


def test_an_answered_trial_closes_an_open_breaker() -> None:
    breaker = seen("a")
    assert list(fails(breaker, *["a"] * 5))[-1]
    breaker.needs_answer = True
    breaker.answer_trial()
    assert (breaker.state(4.0), breaker.failures, breaker.needs_answer) == ("closed", 0, False)


def test_an_answered_trial_leaves_the_failures_of_a_closed_breaker() -> None:
    """The shortest request proves nothing about requests that are too much for the server."""
    breaker = seen("a")
    list(fails(breaker, *["a"] * 4))
    breaker.needs_answer = True
    breaker.answer_trial()
    assert (breaker.failures, breaker.needs_answer) == (4, False)
    assert list(fails(breaker, "a", start=4.0)) == [True]


def test_a_success_takes_the_doubt_away_with_the_failures() -> None:
    breaker = seen("other")
    list(fails(breaker, "bad", "other", "bad", "bad"))
    breaker.record(5.0, failed=False, client="other")
    assert not any(fails(breaker, *["bad"] * 20, start=6.0))


class Server(httpx2.AsyncBaseTransport):
    """Fails every request of the header `x-client: bad`, and tells its models if it can."""

    def __init__(self) -> None:
        self.models_status = 200
        self.refuses = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.refuses:
            raise httpx2.ConnectError("refused")
        if request.url.path.endswith("/models"):
            return httpx2.Response(self.models_status, content=b"{}")
        is_bad = b'"bad"' in request.content
        return httpx2.Response(500 if is_bad else 200, content=b"{}")


class Tier:
    """A tier with one server, asked by clients one second apart."""

    def __init__(self) -> None:
        self.now = 0.0
        self.server = Server()
        config = UpstreamConfig(base_url="http://a:1/v1", model="m")
        self.upstream = Upstream("local", config, transport=self.server, clock=lambda: self.now)

    async def ask(self, client: str) -> None:
        self.now += 1.0
        body = b'{"user":"%b"}' % client.encode()
        try:
            response = await self.upstream.open(
                "/chat/completions", body, [], stream=False, client=client
            )
        except UpstreamError:
            return
        await response.close()


async def test_one_clients_errors_do_not_close_a_tier_to_others() -> None:
    tier = Tier()
    await tier.ask("good")
    for _ in range(60):
        await tier.ask("bad")
        assert not tier.upstream.is_unhealthy


@pytest.mark.parametrize(("status", "opens"), [(200, False), (404, False), (500, True)])
async def test_a_probe_tells_whether_one_clients_errors_are_the_servers(
    status: int, opens: bool
) -> None:
    tier = Tier()
    await tier.ask("good")
    tier.server.models_status = status
    for _ in range(10):
        await tier.ask("bad")
    await tier.upstream.probe_unhealthy()
    assert tier.upstream.is_unhealthy == opens


async def test_a_refused_connection_counts_in_full() -> None:
    tier = Tier()
    await tier.ask("good")
    tier.server.refuses = True
    for _ in range(6):
        await tier.ask("bad")
    assert tier.upstream.is_unhealthy
