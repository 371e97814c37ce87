"""A local model that has yet to be loaded: no client waits for a timeout, no load is aborted."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cold_servers import ColdServer, is_shortest_chat
from fakes import (
    DONE,
    EASY,
    Call,
    FakeUpstream,
    Gate,
    answer_json,
    chunked,
    error_json,
    openai_events,
    whole,
)
from live import LOCAL_MODEL, LiveProxy, StartProxy, merge
from looks import SECOND_MODEL, UNCERTAIN, UncertainModel
from proxy.record import Target
from served import until

FIRST_TOKEN_SECONDS, LOAD_SECONDS = 0.4, 1.2
LIMITS: dict[str, Any] = {
    "upstreams": {"local": {"timeouts": {"first_token": FIRST_TOKEN_SECONDS, "idle": 5}}},
}
HOLD: dict[str, Any] = {"server": {"hold_seconds": 0.1}}
NO_FALLBACK: dict[str, Any] = merge(LIMITS, {"routing": {"fallback": False}})
MAX_REQUESTS = 500  # of a loop that waits for a local answer


class Asked(NamedTuple):
    """An answer of the loop."""

    target: str
    reason: str
    fallback: str | None

    @property
    def has_timed_out(self) -> bool:
        return self.fallback == "local->cloud:first_token_timeout"


@pytest.fixture(autouse=True)
def answers(local: FakeUpstream, cloud: FakeUpstream) -> None:
    def answer(call: Call) -> Any:
        return chunked(*openai_events()) if call.json.get("stream") else whole(answer_json())

    local.answer = cloud.answer = answer


async def ask(proxy: LiveProxy, *, stream: bool = True, **fields: Any) -> Asked:
    response = await proxy.chat(text=EASY, stream=stream, **fields)
    assert response.status_code == 200, response.text
    headers = response.headers
    return Asked(
        headers["x-router-target"],
        headers["x-router-reason"],
        headers.get("x-router-fallback"),
    )


async def ask_until_local(proxy: LiveProxy) -> list[Asked]:
    """One client that asks again and again, until the local model answers."""
    asked: list[Asked] = []
    while not asked or asked[-1].target != "local":
        assert len(asked) < MAX_REQUESTS
        asked.append(await ask(proxy))
        await asyncio.sleep(0.01)
    return asked


def is_cold(proxy: LiveProxy) -> bool:
    return proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL].is_cold(LOCAL_MODEL)


KINDS: dict[str, Callable[[ColdServer], None]] = {
    "ollama": ColdServer.speak_as_ollama,
    "lm-studio": ColdServer.speak_as_lm_studio,
    "llama-swap": ColdServer.speak_as_llama_swap,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_cloud_answers_until_the_model_is_loaded(
    start: StartProxy, local: FakeUpstream, kind: str
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    KINDS[kind](server)
    proxy = await start(LIMITS, probe_seconds=0.05)
    asked = await ask_until_local(proxy)
    assert (server.loads, server.aborted) == (1, 0)
    assert set(asked[:-1]) == {("cloud", "loading", None)}
    assert asked[-1] == ("local", "score", None)
    assert len(server.chats()) == 1  # the local answer
    assert (await ask(proxy)).target == "local"


@pytest.mark.parametrize("why", ["rule", "cost 0", "threshold 0"])
async def test_a_request_that_is_to_cost_nothing_waits_for_the_load(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, why: str
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    rule = {"name": "private", "when": {"words": ["sum"]}, "use": "local"}
    changes = {"routing": {"rules": [rule]}} if why == "rule" else {}
    proxy = await start(merge(LIMITS, changes), probe_seconds=0.05)
    model = {"cost 0": "auto:cost=0", "threshold 0": "auto:threshold=0"}.get(why, "auto")
    response = await proxy.chat(text=f"{EASY} sum", model=model, stream=True)
    assert (response.status_code, response.headers["x-router-target"]) == (200, "local")
    assert server.loads == 1
    assert not cloud.calls


async def test_without_a_list_one_request_waits_for_the_timeout(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    proxy = await start(LIMITS, probe_seconds=0.05)
    asked = await ask_until_local(proxy)
    assert asked[0].has_timed_out
    assert set(asked[1:-1]) == {("cloud", "unhealthy", None)}
    assert asked[-1] == ("local", "score", None)
    # The first request's load ends with it; the proxy's own request loads the model.
    assert (server.loads, server.aborted) == (2, 1)
    assert sum(map(is_shortest_chat, local.calls)) == 1


@pytest.mark.parametrize("is_head_sent", [False, True])
async def test_a_model_list_does_not_prove_that_a_server_answers(
    start: StartProxy, local: FakeUpstream, is_head_sent: bool
) -> None:
    gate = Gate()
    head = chunked(gate, *openai_events())

    def answer(call: Call) -> Any:
        if is_shortest_chat(call):
            return [gate, *whole(answer_json())]
        return head if is_head_sent else [gate, *head]

    local.answer, local.models = answer, listing(LOCAL_MODEL)
    proxy = await start(LIMITS, probe_seconds=0.02)
    asked = [await ask(proxy) for _ in range(40)]
    assert [item.has_timed_out for item in asked].count(True) == 1
    assert {item.target for item in asked} == {"cloud"}
    assert await problem_of(proxy) == "no request has been answered since a timeout"
    # Requests without an alternative still reach the server, until the circuit breaker is open.
    assert (await proxy.chat(text=EASY, stream=True, model="local")).status_code == 504
    gate.open()
    await ask_until_local(proxy)
    assert await problem_of(proxy) is None


async def test_a_forced_stream_waits_for_the_load_with_comments(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    proxy = await start(merge(LIMITS, HOLD))
    client = await proxy.connect(text=EASY, stream=True, model="local")
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/event-stream" in head
    body = await client.read_until(DONE)
    assert body.count(b": keep-alive") >= 3
    assert b'"error"' not in body
    await client.leave()
    assert (server.loads, server.aborted) == (1, 0)
    row = (await proxy.finish()).row
    assert (row["target"], row["reason"], row["ending"]) == ("local", "forced", "ok")
    assert row["status"] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_without_an_alternative_wait_for_one_load(
    start: StartProxy, local: FakeUpstream, stream: bool
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    proxy = await start(NO_FALLBACK)
    asked = await asyncio.gather(*(ask(proxy, stream=stream) for _ in range(4)))
    assert {item.target for item in asked} == {"local"}
    assert (server.loads, server.aborted, len(server.chats())) == (1, 0, 4)


async def test_the_wait_for_a_load_ends_with_the_request(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=30)
    server.speak_as_ollama()
    total = merge(NO_FALLBACK, {"server": {"request_timeout_seconds": 0.3}})
    proxy = await start(total)
    response = await proxy.chat(text=EASY)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "total_timeout")
    assert (server.loads, server.aborted) == (1, 0)  # other requests may use it


async def test_a_client_that_leaves_does_not_end_the_load(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    proxy = await start(merge(LIMITS, HOLD))
    client = await proxy.connect(text=EASY, stream=True, model="local")
    await client.read_until(b": keep-alive")
    assert await problem_of(proxy) == "it is loading the model phi3:latest"
    await client.leave()
    assert (await ask(proxy, model="local")).target == "local"
    assert (server.loads, server.aborted) == (1, 0)


async def test_a_spent_budget_does_not_refuse_while_the_model_loads(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    spent = {"budget": {"cloud_usd_per_day": 0.0, "pacing": False, "when_spent": "reject"}}
    proxy = await start(merge(LIMITS, spent))
    asked = await ask(proxy)
    assert asked == ("local", "budget", None)
    assert server.aborted == 0


async def test_a_cloud_without_a_key_does_not_stand_in(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    cloud.models = whole(error_json("no key"), status=401)
    proxy = await start(merge(LIMITS, {"upstreams": {"cloud": {"api_key": ""}}}))
    assert (await proxy.client.get("/ready")).status_code == 200  # it asks both tiers
    assert await ask(proxy) == ("local", "score", None)
    assert not cloud.calls


async def test_a_preview_loads_nothing(start: StartProxy, local: FakeUpstream) -> None:
    server = ColdServer(local, seconds=LOAD_SECONDS)
    server.speak_as_ollama()
    proxy = await start(LIMITS)
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": EASY}]})
    response = await proxy.client.post("/api/decisions", content=body)
    assert response.json()["reason"] == "loading"
    assert server.loads == 0


async def test_no_second_look_begins_at_a_cold_model(
    start: StartProxy, local: FakeUpstream
) -> None:
    server = ColdServer(local, seconds=30)
    server.speak_as_ollama()
    verify = {"verify": {"second": SECOND_MODEL}}
    proxy = await start(merge(LIMITS, verify), model=UncertainModel(uncertain=0.45))
    response = await proxy.chat(text=UNCERTAIN)
    assert (response.status_code, response.headers["x-router-target"]) == (200, "cloud")
    assert "x-router-second-look" not in response.headers
    assert not server.chats()
    # For the second looks of later requests.
    await until(lambda: server.loads == 1, what="the model is being loaded")


# ── Loads that fail, and lists that do not tell ───────────────────────────────────────────────


async def test_a_failed_load_is_logged_once_and_paused(
    start: StartProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    server = ColdServer(local, seconds=0.01)
    server.speak_as_ollama()
    server.error = (500, "model requires more system memory (9.0 GiB) than is available")
    proxy = await start(LIMITS, probe_seconds=0.02)
    asked = [await ask(proxy) for _ in range(20)]
    assert {item.target for item in asked} == {"cloud"}
    assert (asked[0].reason, asked[-1].reason) == ("loading", "unhealthy")
    assert server.loads == 1
    (line,) = [line for line in caplog.messages if "loading phi3:latest failed" in line]
    assert "status 500" in line
    assert "requires more system memory" in line
    forced = await proxy.chat(text=EASY, model="local")  # sees the server's own error
    assert forced.status_code == 500
    assert "requires more system memory" in forced.text


async def test_a_refused_load_lets_requests_pass(start: StartProxy, local: FakeUpstream) -> None:
    server = ColdServer(local, seconds=0.0)
    server.speak_as_ollama()
    local.native["/api/generate"] = whole(error_json("not supported"), status=404)
    server.is_loaded = False
    proxy = await start(LIMITS)
    asked = await ask_until_local(proxy)
    assert asked[-1].reason == "score"


async def test_a_list_that_never_names_the_model_is_no_evidence(
    start: StartProxy, local: FakeUpstream
) -> None:
    loads: list[Call] = []

    def generate(call: Call) -> Any:
        loads.append(call)
        return whole(b"{}")

    local.native = {
        "/api/version": whole(b'{"version": "0.12.11"}'),
        "/api/ps": whole(b'{"models": [{"name": "another"}]}'),
        "/api/generate": generate,
    }
    local.models = listing(LOCAL_MODEL)
    proxy = await start(LIMITS, probe_seconds=0.02)
    await ask_until_local(proxy)
    assert {(await ask(proxy)).target for _ in range(10)} == {"local"}
    assert len(loads) == 1


async def test_an_unloaded_model_is_loaded_again(start: StartProxy, local: FakeUpstream) -> None:
    server = ColdServer(local, seconds=0.05)
    server.speak_as_ollama()
    proxy = await start(LIMITS, probe_seconds=0.02)
    await ask_until_local(proxy)
    server.is_loaded = False  # after OLLAMA_KEEP_ALIVE
    await until(lambda: is_cold(proxy), what="the proxy knows it")
    asked = await ask_until_local(proxy)
    assert asked[0].reason == "loading"
    assert (server.loads, server.aborted) == (2, 0)


async def test_a_loaded_replica_answers_while_another_one_loads(
    start: StartProxy, local: FakeUpstream
) -> None:
    async with FakeUpstream() as other:
        warm, cold = ColdServer(local, seconds=0.0), ColdServer(other, seconds=LOAD_SECONDS)
        warm.is_loaded = True
        for server in (warm, cold):
            server.speak_as_ollama()
        urls = {"upstreams": {"local": {"base_url": [other.base_url, local.base_url]}}}
        proxy = await start(merge(LIMITS, urls))
        asked = [await ask(proxy) for _ in range(3)]
        assert {item[:2] for item in asked} == {("local", "score")}
        assert (len(warm.chats()), len(cold.chats())) == (3, 0)
        await until(lambda: cold.loads == 1, what="the other replica loads")


# ── A model that the server does not have ─────────────────────────────────────────────────────


def listing(*names: str) -> Any:
    return whole(json.dumps({"data": [{"id": name} for name in names]}).encode())


async def problem_of(proxy: LiveProxy) -> str | None:
    """The problem as the three places report it."""
    ready = (await proxy.client.get("/ready")).json()["parts"]["upstreams"]["local"]
    status = (await proxy.client.get("/api/status")).json()["tiers"]["local"]
    stats = (await proxy.client.get("/api/stats")).json()["tiers"]["local"]
    assert ready.get("problem") == status["problem"] == stats["problem"]
    problem: str | None = status["problem"]
    return problem


async def test_a_missing_model_is_reported_with_the_command_that_installs_it(
    start: StartProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    local.models = listing("llama3.2:3b")
    local.native = {"/api/version": whole(b'{"version": "0.12.11"}')}
    proxy = await start(probe_seconds=0.02)
    problem = "it has no model phi3:latest; run: ollama pull phi3"
    assert await problem_of(proxy) == problem
    local.models = listing("llama3.2:3b", "phi3:latest")
    assert caplog.messages.count(f"local upstream: {problem}") == 1
    await refreshed(proxy, None)
    assert "local upstream: the model phi3:latest is available now" in caplog.messages
    local.models = listing("llama3.2:3b")
    await refreshed(proxy, problem)
    assert caplog.messages.count(f"local upstream: {problem}") == 2


async def refreshed(proxy: LiveProxy, problem: str | None) -> None:
    """Have the catalog refreshed, and wait until it has this problem."""
    proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL].catalog.mark_stale()

    async def is_known() -> bool:
        status = (await proxy.client.get("/api/status")).json()
        return bool(status["tiers"]["local"]["problem"] == problem)

    await until(is_known, what=f"the problem is {problem}")
    assert await problem_of(proxy) == problem


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("phi3",), None),
        (("b", "a"), "it does not list the model phi3:latest; it lists a, b"),
        (
            tuple("gfedcba"),
            "it does not list the model phi3:latest; it lists a, b, c, d, e and others",
        ),
        ((), "it lists no models; phi3:latest is configured"),
    ],
)
async def test_another_server_reports_the_names_that_it_lists(
    start: StartProxy, local: FakeUpstream, names: tuple[str, ...], problem: str | None
) -> None:
    local.models = listing(*names)
    assert await problem_of(await start()) == problem


async def test_ollama_without_a_model_lists_null(start: StartProxy, local: FakeUpstream) -> None:
    local.models = whole(b'{"object":"list","data":null}')
    local.native = {"/api/version": whole(b'{"version": "0.12.11"}')}
    problem = await problem_of(await start())
    assert problem == "it has no model phi3:latest; run: ollama pull phi3"
