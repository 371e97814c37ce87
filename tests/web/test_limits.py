"""Rate limits, budgets, and size and time limits of requests, over real sockets."""

import asyncio
import json
import sqlite3
import time
from dataclasses import replace
from typing import Any

import pytest

from fakes import EASY, HARD, PATIENCE_SECONDS, FakeUpstream, Gate, answer_json, error_json, whole
from live import (
    CLOUD_MODEL,
    LOCAL_MODEL,
    LiveProxy,
    RawClient,
    StartProxy,
    chat_body,
    envelope_of,
    merge,
)
from proxy.record import Target, key_hash
from proxy.web.client_connection import MAX_REQUEST_HEAD_BYTES
from proxy.web.openai_api import BodyLimits

TEAM = {"authorization": "Bearer sk-team"}
OTHERS = {"authorization": "Bearer sk-others"}
# One dollar per input token: 19 dollars per response.
EXPENSIVE = {"input": 1e6, "cached_input": 1e6, "output": 0}


def keys(**limits: Any) -> dict[str, Any]:
    return {"server": {"api_keys": [{"key": "sk-team"} | limits, "sk-others"]}}


def with_budget(usd: float, when_spent: str = "local") -> dict[str, Any]:
    return keys(cloud_usd_per_day=usd) | {
        "upstreams": {"cloud": {"price": EXPENSIVE}},
        "budget": {"when_spent": when_spent},
    }


# Rate limits.


async def test_requests_over_the_rate_limit_are_rejected(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(keys(requests_per_minute=2))
    for _ in range(2):
        assert (await proxy.chat(headers=TEAM)).status_code == 200
    refused = await proxy.chat(headers=TEAM)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    error = envelope_of(refused)
    assert error["code"] == "rate_limit_exceeded"
    assert "2 requests a minute" in error["message"]
    assert (await proxy.chat(headers=OTHERS)).status_code == 200
    assert len(local.calls) == 3
    outcome = await proxy.finish(4)
    assert [row["ending"] for row in outcome.rows] == ["ok", "ok", "rejected", "ok"]
    assert outcome.rows[2]["client_key_hash"] == key_hash("sk-team")


async def test_reload_keeps_the_rate_limit_state(start: StartProxy) -> None:
    proxy = await start(keys(requests_per_minute=1))
    assert (await proxy.chat(headers=TEAM)).status_code == 200
    proxy.configure({"routing": {"threshold": 0.4}})
    await proxy.reloaded(lambda: proxy.proxy.config.routing.threshold == 0.4)
    assert (await proxy.chat(headers=TEAM)).status_code == 429
    proxy.configure(keys(requests_per_minute=1000))
    await proxy.reloaded(lambda: proxy.proxy.config.server.api_keys[0].requests_per_minute == 1000)
    assert (await proxy.chat(headers=TEAM)).status_code == 200


# Budgets.


async def test_requests_stay_local_once_the_budget_of_their_key_is_spent(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start(with_budget(20))
    # One dollar remains after the first request; the cost of the second is known only afterwards.
    for _ in range(2):
        answer = await proxy.chat(text=HARD, headers=TEAM)
        assert answer.headers["x-router-target"] == "cloud"
    answer = await proxy.chat(text=HARD, headers=TEAM)
    assert answer.status_code == 200
    assert answer.headers["x-router-target"] == "local"
    assert answer.headers["x-router-reason"] == "budget"
    assert answer.headers["x-router-model"] == LOCAL_MODEL
    assert local.call.json["model"] == LOCAL_MODEL
    other = await proxy.chat(text=HARD, headers=OTHERS)
    assert other.headers["x-router-reason"] == "score"
    assert len(cloud.calls) == 3
    outcome = await proxy.finish(4)
    assert [row["reason"] for row in outcome.rows] == ["score", "score", "budget", "score"]


@pytest.mark.parametrize(
    ("fields", "when_spent"),
    [
        pytest.param({"text": HARD}, "reject", id="routed with when_spent: reject"),
        pytest.param({"model": "cloud"}, "local", id="forced"),
        pytest.param({"model": "gpt-5"}, "local", id="cloud model by name"),
        pytest.param({"text": EASY, "n": 2}, "local", id="unsupported by the local tier"),
    ],
)
async def test_cloud_only_request_is_rejected_without_budget(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, fields: Any, when_spent: str
) -> None:
    local.native = {
        "/api/version": whole(b'{"version":"0.32.6"}'),
        "/api/ps": whole(b'{"models":[{"name":"phi3:latest"}]}'),
        "/api/show": whole(b'{"capabilities":["completion"],"model_info":{}}'),
    }
    proxy = await start(with_budget(0, when_spent))
    refused = await proxy.chat(headers=TEAM, **fields)
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert int(refused.headers["retry-after"]) <= 86_400
    error = envelope_of(refused)
    assert error["code"] == error["type"] == "insufficient_quota"
    own, hint = "This API key may not use the cloud.", " Model 'local' still answers."
    assert error["message"] == own + hint * ("n" not in fields)
    assert not local.calls
    assert not cloud.calls
    row = (await proxy.finish()).row
    assert (row["ending"], row["reason"], row["target"]) == ("rejected", "budget", None)


async def test_reservation_is_capped_by_the_longest_response(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    team = {"key": "sk-team", "cloud_usd_per_day": 1.0}
    proxy = await start(
        {"server": {"api_keys": [team]}, "upstreams": {"cloud": {"context_tokens": 1000}}}
    )
    gate = Gate()
    cloud.answer = [gate, *whole(answer_json())]
    first = asyncio.create_task(
        proxy.chat(model="cloud", headers=TEAM, max_tokens=999_999_999)  # 600 dollars
    )
    await gate.reached()
    cloud.answer = whole(answer_json())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await proxy.chat(model="cloud", headers=TEAM)).status_code == 200
    gate.open()
    assert (await first).status_code == 200


async def test_reservation_covers_all_requested_choices(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start(keys(cloud_usd_per_day=0.05))
    for fields, target in (({}, "cloud"), ({"n": 100}, "local")):  # $0.0006 each
        gate = Gate()
        cloud.answer = [gate, *whole(answer_json())]
        body = {"model": "cloud", "headers": TEAM, "max_tokens": 1000, **fields}
        first = asyncio.create_task(proxy.chat(**body))
        await gate.reached()
        cloud.answer = whole(answer_json())
        async with asyncio.timeout(PATIENCE_SECONDS):
            answer = await proxy.chat(text=HARD, headers=TEAM)
            assert answer.headers["x-router-target"] == target
            # A preview costs nothing, so it waits for no reservation.
            body = chat_body(model="cloud")
            preview = await proxy.client.post("/api/decisions", content=body, headers=TEAM)
            assert preview.json()["target"] == "cloud"
        gate.open()
        assert (await first).status_code == 200


async def test_fallback_to_the_local_tier_releases_its_reservation(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start(keys(cloud_usd_per_day=0.05))
    gate = Gate()
    cloud.answer = whole(b"{}", status=401)
    local.answer = [gate, *whole(answer_json())]
    first = asyncio.create_task(proxy.chat(text=HARD, headers=TEAM, max_tokens=100_000))
    await gate.reached()
    cloud.answer = whole(answer_json())
    answer = await proxy.chat(model="cloud", headers=TEAM)
    assert answer.headers["x-router-target"] == "cloud"
    routed = await proxy.chat(text=HARD, headers=TEAM)
    assert routed.headers["x-router-reason"] != "budget"
    gate.open()
    assert (await first).headers["x-router-fallback"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/images/generations"])
async def test_pass_through_requests_respect_the_budget(
    start: StartProxy, cloud: FakeUpstream, path: str
) -> None:
    proxy = await start(with_budget(0))
    body = b'{"model":"text-embedding-3-small","input":"x"}'
    response = await proxy.client.post(path, content=body, headers=TEAM)
    assert (response.status_code, envelope_of(response)["code"]) == (429, "insufficient_quota")
    assert not cloud.calls
    assert (await proxy.finish()).row["reason"] == "budget"


UNCOUNTED = [
    "images/generations",
    "audio/speech",
    "batches",
    "fine_tuning/jobs",
    "fine_tuning/jobs/ftjob-1/resume",
    "threads/runs",
    "realtime/client_secrets",
    "videos",
    "moderations",
    "responses/compact",
    "of-tomorrow",
]


@pytest.mark.parametrize("scope", ["key", "global"])
async def test_requests_of_unknown_cost_are_refused_with_a_budget(
    start: StartProxy, cloud: FakeUpstream, scope: str
) -> None:
    changes = with_budget(10) if scope == "key" else {"budget": {"cloud_usd_per_day": 10}}
    headers = TEAM if scope == "key" else {}
    opened = {"server": changes.get("server", {}) | {"shared_objects": "all"}}
    proxy = await start(changes | opened)
    body = b'{"model":"gpt-4o","input":"x"}'
    for path in UNCOUNTED:
        response = await proxy.client.post(f"/v1/{path}", content=body, headers=headers)
        assert (response.status_code, envelope_of(response)["code"]) == (400, "uncounted_cost")
    unlisted = b'{"model":"embed-new","input":"x"}'
    response = await proxy.client.post("/v1/embeddings", content=unlisted, headers=headers)
    assert (response.status_code, envelope_of(response)["param"]) == (400, "model")
    assert not cloud.calls
    for method, path in (("GET", "batches"), ("DELETE", "files/f"), ("POST", "batches/b/cancel")):
        answer = await proxy.client.request(method, f"/v1/{path}", headers=headers)
        assert answer.status_code == 200
    assert (await proxy.client.post("/v1/files", content=b"x", headers=headers)).status_code == 200


async def test_requests_of_unknown_cost_may_be_allowed(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    proxy = await start({"budget": {"cloud_usd_per_day": 10, "uncounted": "allow"}})
    for path in UNCOUNTED[:3]:
        response = await proxy.client.post(f"/v1/{path}", content=b"{}")
        assert response.status_code == 200


async def test_fallback_to_the_cloud_respects_the_budget(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy = await start(with_budget(0))
    local.answer = whole(error_json("out of memory"), status=500)
    answer = await proxy.chat(text=EASY, headers=TEAM)
    assert answer.status_code == 500
    assert not cloud.calls


async def test_spent_budget_survives_a_restart(start: StartProxy, cloud: FakeUpstream) -> None:
    first = await start(with_budget(10))
    await first.chat(text=HARD, headers=TEAM)
    await first.stop()
    second = await start(with_budget(10))
    answer = await second.chat(text=HARD, headers=TEAM)
    assert answer.headers["x-router-reason"] == "budget"
    await second.stop()
    with sqlite3.connect(first.proxy.config.storage.url.path) as database:
        database.execute("update requests set created_at = ?", (time.time() - 86_400,))
        for rollup, begins in (("key_days", "day"), ("key_hours", "hour"), ("hours", "hour")):
            database.execute(f"update {rollup} set {begins} = {begins} - 86400")
    database.close()
    third = await start(with_budget(10))
    answer = await third.chat(text=HARD, headers=TEAM)
    assert answer.headers["x-router-target"] == "cloud"
    assert cloud.calls[-1].json["model"] == CLOUD_MODEL


def with_global_budget(usd: float, **budget: Any) -> dict[str, Any]:
    """A global budget. A cloud response costs 19 dollars."""
    return {
        "upstreams": {"cloud": {"price": EXPENSIVE}},
        "budget": {"cloud_usd_per_day": usd} | budget,
    }


async def until_metric(proxy: LiveProxy, name: str, expected: float) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await proxy.scrape())(name) != pytest.approx(expected):
            pass


async def start_paced(start: StartProxy, **local: Any) -> LiveProxy:
    """A proxy that has spent 190 dollars of a budget that is then set to 190.01."""
    proxy = await start(merge(with_global_budget(1e6), {"upstreams": {"local": local}}))
    for _ in range(10):
        answer = await proxy.chat(text=HARD)
        assert (answer.headers["x-router-target"], answer.headers["x-router-reason"]) == (
            "cloud",
            "score",
        )
    await proxy.settled(10)
    proxy.configure(with_global_budget(190.01))
    await until_metric(proxy, "router_threshold", 0.1)
    return proxy


async def test_pacing_lowers_the_threshold(start: StartProxy, cloud: FakeUpstream) -> None:
    proxy = await start_paced(start)
    samples = await proxy.scrape()
    assert samples("router_budget_threshold_reduction") == pytest.approx(0.4)
    assert samples("router_budget_spent_usd") == pytest.approx(190)
    paced = await proxy.chat(text=HARD)
    assert paced.headers["x-router-target"] == "local"
    assert paced.headers["x-router-reason"] == "budget"
    assert paced.headers["x-router-threshold"] == "0.1000"
    easy = await proxy.chat(text=EASY)
    assert easy.headers["x-router-reason"] == "score"
    assert len(cloud.calls) == 10
    outcome = await proxy.finish(12)
    assert [row["reason"] for row in outcome.rows[10:]] == ["budget", "score"]
    assert outcome.rows[10]["threshold"] == 0.1


@pytest.mark.parametrize(
    ("model", "headers", "reason"),
    [
        ("auto:threshold=0.5", {}, "score"),
        ("auto", {"x-router-threshold": "0.5"}, "score"),
        ("cloud", {}, "forced"),
    ],
)
async def test_pacing_does_not_override_an_explicit_threshold_or_tier(
    start: StartProxy, model: str, headers: dict[str, str], reason: str
) -> None:
    proxy = await start_paced(start)
    answer = await proxy.chat(model=model, text=HARD, headers=headers)
    assert answer.headers["x-router-target"] == "cloud"
    assert answer.headers["x-router-reason"] == reason
    # That request has spent the budget, which applies to explicit thresholds, too.
    last = await proxy.chat(model="auto:threshold=0.5", text=HARD)
    assert (last.headers["x-router-target"], last.headers["x-router-reason"]) == ("local", "budget")


async def test_request_kept_local_by_the_budget_waits_for_a_slot(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Otherwise a full local queue would send paced requests to the cloud."""
    proxy, gate = await start_paced(start, max_concurrency=1), Gate()
    proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]._slots._seconds = 20.0
    local.answer = [gate, *whole(answer_json())]
    occupant = await proxy.connect(model="local")
    await gate.reached()
    paced = asyncio.create_task(proxy.chat(text=HARD))
    await proxy.queued("local")
    gate.open()
    assert (await paced).headers["x-router-reason"] == "budget"
    assert len(cloud.calls) == 10
    await occupant.leave()


async def test_threshold_is_restored_when_pacing_ends(start: StartProxy) -> None:
    proxy = await start_paced(start)
    proxy.configure(with_global_budget(190.01, pacing=False))
    await until_metric(proxy, "router_threshold", 0.5)
    assert (await proxy.chat(text=HARD)).headers["x-router-target"] == "cloud"
    proxy.configure(with_global_budget(1e9, pacing=True))
    await until_metric(proxy, "router_budget_usd_per_day", 1e9)
    assert (await proxy.chat(text=HARD)).headers["x-router-target"] == "cloud"


async def test_pacing_state_survives_a_restart(start: StartProxy) -> None:
    await (await start_paced(start)).stop()
    proxy = await start(with_global_budget(190.01))
    answer = await proxy.chat(text=HARD)
    assert answer.headers["x-router-reason"] == "budget"
    assert answer.headers["x-router-threshold"] == "0.1000"


async def test_proxies_with_one_database_share_the_budget(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    limits = merge(keys(cloud_usd_per_day=30), with_global_budget(50, pacing=False))
    first, second = await start(limits), await start(limits)
    for proxy in (first, second):
        answer = await proxy.chat(text=HARD, headers=TEAM)
        assert answer.headers["x-router-target"] == "cloud"
        await proxy.settled(1)
    for proxy in (first, second):
        await until_metric(proxy, "router_budget_spent_usd", 38)
        answer = await proxy.chat(text=HARD, headers=TEAM)  # 38 of 30 dollars are spent
        assert answer.headers["x-router-reason"] == "budget"
    assert (await first.chat(text=HARD, headers=OTHERS)).headers["x-router-target"] == "cloud"
    await until_metric(second, "router_budget_spent_usd", 57)
    assert (await second.chat(text=HARD, headers=OTHERS)).headers["x-router-reason"] == "budget"
    message = "100 % of the daily cloud budget of 50 USD is spent"
    async with asyncio.timeout(PATIENCE_SECONDS):
        while caplog.messages.count(message) < 2:
            await first.client.get("/health")  # lets the proxies log
    await first.stop()
    await second.stop()
    assert caplog.messages.count(message) == 2


# Heads and bodies.

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
)


def split_answer(data: bytes) -> tuple[int, Any]:
    """Status and error of a raw response."""
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return int(head.split()[1]), error


async def error_after(proxy: LiveProxy, data: bytes) -> tuple[int, Any]:
    return await read_error(await proxy.connect_raw(data))


async def read_error(client: RawClient) -> tuple[int, Any]:
    """Read the response after which the proxy closed the connection."""
    answer = await client.read_to_end()
    await client.leave()
    return split_answer(answer)


async def check_working(proxy: LiveProxy) -> None:
    assert (await proxy.chat()).status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"x-long: " + b"a" * MAX_REQUEST_HEAD_BYTES, id="one unfinished header"),
        pytest.param(b"x-long: " + b"a" * MAX_REQUEST_HEAD_BYTES + b"\r\n\r\n", id="one header"),
        pytest.param(b"x: y\r\n" * (MAX_REQUEST_HEAD_BYTES // 6), id="many unfinished headers"),
        pytest.param(b"x: y\r\n" * (MAX_REQUEST_HEAD_BYTES // 6) + b"\r\n", id="many headers"),
    ],
)
async def test_request_headers_have_a_size_limit(proxy: LiveProxy, head: bytes) -> None:
    status, error = await error_after(proxy, HEAD + head)
    assert (status, error["code"]) == (431, "headers_too_large")
    assert "32 kB" in error["message"]
    await check_working(proxy)


@pytest.mark.parametrize(
    "start_of_body",
    [b"0\r\nx-trailer: ", b"1;extension="],
    ids=["trailer", "chunk extension"],
)
async def test_chunk_extensions_and_trailers_have_a_size_limit(
    proxy: LiveProxy, start_of_body: bytes
) -> None:
    client = await proxy.connect_raw(HEAD + b"transfer-encoding: chunked\r\n\r\n" + start_of_body)
    await proxy.client.get("/health")  # the proxy has read the head by now
    await client.send(b"a" * (MAX_REQUEST_HEAD_BYTES + 1))
    assert (await read_error(client))[0] == 431
    await check_working(proxy)


async def test_url_counts_toward_the_header_limit(proxy: LiveProxy) -> None:
    status, _ = await error_after(
        proxy, b"GET /" + b"a" * MAX_REQUEST_HEAD_BYTES + b" HTTP/1.1\r\n\r\n"
    )
    assert status == 431


async def test_body_does_not_count_toward_the_header_limit(proxy: LiveProxy) -> None:
    answer = await proxy.chat(text=EASY + " " * 10 * MAX_REQUEST_HEAD_BYTES)
    assert answer.status_code == 200
    large = {"x-large": "a" * (MAX_REQUEST_HEAD_BYTES - 1000)}
    assert (await proxy.chat(headers=large, text="x" * 100_000)).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        HEAD + b"content-length: many\r\n\r\n",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        HEAD + b"no colon\r\n\r\n",
    ],
)
async def test_invalid_http_returns_the_openai_error_envelope(
    proxy: LiveProxy, data: bytes
) -> None:
    status, error = await error_after(proxy, data)
    assert status == 400
    assert error["type"] == "invalid_request_error"
    await check_working(proxy)


SHORT = BodyLimits(seconds=0.05, small_body_seconds=0.05)


@pytest.fixture
async def impatient(start: StartProxy) -> LiveProxy:
    """A proxy with short time limits."""
    return await start(head_seconds=0.05, body_limits=SHORT)


async def test_silent_connection_is_closed(impatient: LiveProxy) -> None:
    client = await impatient.connect_raw(b"")
    assert await client.read_to_end() == b""
    await client.leave()


@pytest.mark.parametrize("first", [b"P", HEAD, HEAD + b"x-half: "])
async def test_request_headers_have_a_time_limit(impatient: LiveProxy, first: bytes) -> None:
    status, error = await error_after(impatient, first)
    assert (status, error["code"]) == (408, "request_timeout")
    await check_working(impatient)


async def test_time_limit_applies_to_later_requests_of_a_connection(
    impatient: LiveProxy,
) -> None:
    client = await impatient.connect()
    await client.read_until(b"}}")
    await client.send(HEAD)
    assert (await read_error(client))[0] == 408


async def trickle(client: RawClient, data: bytes) -> None:
    """Send byte by byte. Raises ConnectionError if the proxy closes the connection."""
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0.001)


async def test_trickling_headers_do_not_extend_the_time_limit(impatient: LiveProxy) -> None:
    client = await impatient.connect_raw(b"")
    with pytest.raises(ConnectionError):
        await trickle(client, HEAD + b"x: y\r\n" * 5_000)
    client.vanish()
    await check_working(impatient)


@pytest.mark.parametrize("sent", [0, 10])
async def test_missing_body_times_out(impatient: LiveProxy, sent: int) -> None:
    body = chat_body()
    client = await impatient.connect_raw(
        HEAD + b"content-length: %d\r\n\r\n" % len(body) + body[:sent]
    )
    status, error = await read_error(client)
    assert (status, error["code"]) == (408, "request_timeout")
    row = (await impatient.finish()).row
    assert (row["status"], row["ending"]) == (408, "timeout")


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/v1/feedback", b"/v1/files"])
async def test_trickling_body_times_out(start: StartProxy, path: bytes) -> None:
    impatient = await start(body_limits=replace(SHORT, bytes_per_second=10**6))
    head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n\r\n" % path
    client = await impatient.connect_raw(head)
    with pytest.raises(ConnectionError):
        await trickle(client, b" " * 5_000)
    client.vanish()
    await check_working(impatient)


async def test_incomplete_upload_is_no_upstream_failure(
    impatient: LiveProxy, cloud: FakeUpstream
) -> None:
    upload = (
        b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000\r\n"
        b"content-type: multipart/form-data; boundary=x\r\n\r\nhalf"
    )
    status, error = await error_after(impatient, upload)
    assert (status, error["code"]) == (408, "request_timeout")
    row = (await impatient.finish()).row
    assert (row["target"], row["status"], row["ending"]) == ("cloud", 408, "timeout")
    cloud_tier = impatient.proxy.gateway.snapshot.upstreams[Target.CLOUD]
    assert [replica.breaker.failures for replica in cloud_tier._replicas] == [0]


async def test_time_limit_grows_with_the_received_body(
    start: StartProxy,
) -> None:
    """The rate counts, not the size."""
    impatient = await start(body_limits=replace(SHORT, bytes_per_second=10))  # 100 ms per byte
    body = chat_body()
    client = await impatient.connect_raw(HEAD + b"content-length: %d\r\n\r\n" % len(body))
    await trickle(client, body)
    assert (await client.read_until(b"}}")).startswith(b"HTTP/1.1 200")
    await client.leave()
