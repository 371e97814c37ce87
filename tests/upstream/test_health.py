"""Whether a tier is up: by requests, and by looks at its model list when there are none."""

import asyncio
from typing import Any

import httpx2
import pytest

from proxy.config import UpstreamConfig
from proxy.errors import UpstreamError
from proxy.upstream.upstream import CLOUD_LOOK_SECONDS, LOCAL_LOOK_SECONDS, Upstream

PROBE_SECONDS = 5.0  # between two runs of the background task


class Site:
    """The servers of a tier, and its clock. What they answer can be changed.

    Attributes:
        chat, models: a status, or an error; of one host, if it is in `by_host`.
    """

    def __init__(self, *hosts: str, local: bool = False) -> None:
        self.now = 1000.0
        self.chat: int | Exception = 200
        self.models: int | Exception = 200
        self.by_host: dict[str, int | Exception] = {}
        self.body = b'{"data": []}'
        self.looks: list[str] = []
        self.gate: asyncio.Event | None = None
        urls = tuple(f"http://{host}:1/v1" for host in hosts or ("a",))
        self.tier = Upstream(
            "local" if local else "cloud",
            UpstreamConfig(base_url=urls, model="m"),
            transport=_Transport(self),
            makes_trials=local,
            clock=lambda: self.now,
            calendar=lambda: 1e9 + self.now,
        )

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if request.url.path.endswith("/models"):
            self.looks.append(host)
            result = self.by_host.get(host, self.models)
        else:
            result = self.by_host.get(host, self.chat)
            if self.gate is not None:
                await self.gate.wait()
        if isinstance(result, Exception):
            raise result
        return httpx2.Response(result, content=self.body)

    async def ask(self) -> None:
        try:
            response = await self.tier.open("/chat/completions", b"{}", [], stream=False)
        except UpstreamError:
            return
        await response.close()

    async def wait(self, seconds: float) -> None:
        """Let time pass, with the background task."""
        for _ in range(int(seconds / PROBE_SECONDS)):
            self.now += PROBE_SECONDS
            await self.tier.probe_unhealthy()


class _Transport(httpx2.AsyncBaseTransport):
    def __init__(self, site: Site) -> None:
        self._site = site

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._site.answer(request)


refused = httpx2.ConnectError("refused")
silent = httpx2.ReadTimeout("silent")


@pytest.mark.parametrize("failures", [1, 3, 4, 20])
@pytest.mark.parametrize("failure", [500, 503, httpx2.ReadError("reset")], ids=repr)
async def test_failures_of_a_server_that_runs_are_over_within_ten_seconds(
    failure: int | Exception, failures: int
) -> None:
    site = Site()
    await site.ask()
    site.chat = failure
    for _ in range(failures):
        site.now += 1
        await site.ask()
    await site.wait(10)
    assert site.tier.up is True
    assert site.tier.problem is None


async def test_one_failure_alone_says_nothing() -> None:
    site = Site()
    site.chat = 503
    await site.ask()
    assert site.tier.up is None
    site.chat = 200
    await site.ask()
    site.chat = 503
    await site.ask()
    assert site.tier.up is True
    site.models = 503
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False


@pytest.mark.parametrize("local", [True, False])
async def test_an_outage_without_traffic_is_noticed_and_so_is_its_end(local: bool) -> None:
    site = Site(local=local)
    await site.ask()
    since = site.tier.since
    site.models = refused
    limit = LOCAL_LOOK_SECONDS if local else CLOUD_LOOK_SECONDS
    await site.wait(limit + PROBE_SECONDS)
    assert site.tier.up is False
    assert site.tier.problem == "it cannot be reached"
    assert site.tier.since > since
    down_since = site.tier.since
    await site.wait(600)
    assert site.tier.since == down_since
    site.models = 200
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is True
    assert site.tier.since == 1e9 + site.now


async def test_a_tier_with_traffic_is_not_looked_at() -> None:
    site = Site()
    for _ in range(100):
        await site.ask()
        await site.wait(PROBE_SECONDS)
    assert site.looks == []
    await site.wait(600)
    assert 9 <= len(site.looks) <= 10  # once a minute


async def test_each_replica_is_looked_at_once_a_run() -> None:
    site = Site("a", "b", "c")
    site.models = site.chat = refused
    await site.wait(60)
    assert site.tier.up is False
    assert sorted(site.looks) == sorted(12 * ["a", "b", "c"])


async def test_a_tier_is_up_while_one_replica_is() -> None:
    site = Site("a", "b")
    site.by_host = {"a": refused}
    await site.wait(PROBE_SECONDS)
    assert (site.tier.up, site.tier.problem) == (True, None)
    site.by_host["b"] = refused
    await site.wait(CLOUD_LOOK_SECONDS + PROBE_SECONDS)
    assert site.tier.up is False


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_key_is_a_problem_and_no_reason_to_hurry(status: int) -> None:
    site = Site()
    site.models = site.chat = status
    await site.wait(300)
    assert site.tier.up is False
    assert site.tier.problem == f"it refuses the credentials: status {status}"
    assert len(site.looks) <= 6
    await site.ask()  # a client asks: the answer says the same
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False
    site.models = site.chat = 200
    await site.ask()
    assert site.tier.up is True


async def test_a_key_that_may_not_list_models_is_learned_from_an_answer() -> None:
    site = Site()
    site.models = 403
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False
    await site.ask()
    await site.wait(600)
    assert site.tier.up is True
    site.chat = 401  # revoked
    await site.ask()
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False


async def test_a_key_that_is_revoked_is_noticed_without_traffic() -> None:
    site = Site()
    await site.wait(PROBE_SECONDS)
    await site.ask()
    site.models = 401
    await site.wait(CLOUD_LOOK_SECONDS + PROBE_SECONDS)
    assert site.tier.up is False


@pytest.mark.parametrize("status", [404, 405, 429])
async def test_a_cloud_without_a_model_list_is_reachable(status: int) -> None:
    site = Site()
    site.models = status
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is True


async def test_a_local_server_without_a_model_list_is_up_once_it_has_answered() -> None:
    site = Site(local=True)
    site.models = 404
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False
    assert site.tier.problem == "it has no list of models: status 404"
    await site.ask()
    await site.wait(60)
    assert site.tier.up is True


async def test_a_login_page_is_no_model_list() -> None:
    site = Site()
    site.body = b"<html>"
    await site.wait(PROBE_SECONDS)
    assert site.tier.up is False


async def test_an_answer_in_an_outage_does_not_hide_the_next_one() -> None:
    site = Site()
    site.models = 503
    await site.wait(PROBE_SECONDS)
    await site.ask()
    await site.wait(CLOUD_LOOK_SECONDS + PROBE_SECONDS)
    assert site.tier.up is False


@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_busy_server_that_lists_its_models_late_is_not_down(is_busy: bool) -> None:
    site = Site(local=True)
    await site.ask()
    site.gate = asyncio.Event()
    running = asyncio.create_task(site.ask()) if is_busy else None
    await asyncio.sleep(0)
    site.models = silent
    await site.wait(LOCAL_LOOK_SECONDS)
    assert site.tier.up is True  # one late list says nothing of an idle server, either
    await site.wait(2 * PROBE_SECONDS)
    assert site.tier.up is is_busy
    site.gate.set()
    if running is not None:
        await running


async def test_a_look_does_not_close_a_breaker_that_timeouts_opened() -> None:
    site = Site()
    await site.ask()
    (replica,) = replicas(site)
    for _ in range(6):
        site.now += 1
        site.tier.record_result(replica, failed=True, is_proof=True)
        replica.breaker.needs_answer = True
    assert site.tier.up is False
    await site.wait(PROBE_SECONDS)
    assert replica.breaker.failures >= 5
    site.now += 60  # the backoff is over, requests pass
    await site.tier.probe_unhealthy()
    assert replica.breaker.failures >= 5
    assert site.tier.up is True


def replicas(site: Site) -> list[Any]:
    return site.tier._replicas
