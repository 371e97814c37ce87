"""The dashboard's JSON API: its figures, its access rules and its errors."""

import asyncio
import gc
import itertools
import json
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from fakes import EASY, HARD, FakeUpstream, error_json, whole
from live import LiveProxy, StartProxy, envelope_of
from proxy.errors import Unavailable
from proxy.evaluation.estimates import MIN_PAIRS
from proxy.record import Reason, SecondLookResult, Target
from proxy.web.dashboard_query import SPANS
from proxy.web.timed_cache import TimedCache
from router_model.evidence import Evidence
from stored import connected, fill, finished

pytest_plugins = ["databases"]

KEYS = {"server": {"api_keys": [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]}}
TEAM, ADMIN = ({"authorization": f"Bearer {key}"} for key in ("sk-team", "sk-boss"))
PATHS = ["/api/stats", "/api/quality", "/api/pareto", "/api/requests", "/api/errors"]


async def get(proxy: LiveProxy, path: str, **query: Any) -> Any:
    answer = await proxy.client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def chat_and_wait(proxy: LiveProxy, *texts: str, **fields: Any) -> list[str]:
    """Send requests and wait for their rows. Return their ids in order."""
    ids = []
    for text in texts:
        answer = await proxy.chat(text=text, **fields)
        await proxy.row_of(answer)
        ids.append(answer.headers["x-request-id"])
    return ids


async def test_stats_match_the_rows(proxy: LiveProxy) -> None:
    await chat_and_wait(proxy, EASY, EASY, HARD)
    await chat_and_wait(proxy, "Say hello", model="cloud")
    await proxy.chat(messages=[])  # rejected
    rows = await proxy.rows_of(5)
    for span in SPANS:
        stats = await get(proxy, "/api/stats", since=span)
        assert stats["span"] == span
        assert stats["total"]["requests"] == 5
        for name in ("cost_usd", "saved_usd", "cloud_cost_usd"):
            total = pytest.approx(sum(row[name] or 0.0 for row in rows))
            assert stats["total"][name] == total
            assert sum(point[name] for point in stats["series"]) == total
            assert sum(half[name] for half in stats["categories"]) == total
        by_target = {group["value"]: group["requests"] for group in stats["by"]["target"]}
        assert by_target == {"local": 2, "cloud": 2, "none": 1}
        assert sum(stats["scores"]) == 3
        assert (stats["scores"][90], stats["scores"][10]) == (2, 1)
        assert time.time() - 600 < stats["tiers"]["local"].pop("since") <= time.time()
        assert stats["tiers"]["local"] == {
            "model": "phi3:latest", "is_up": True, "in_flight": 0, "waiting": 0,
            "problem": "it lists no models; phi3:latest is configured",
        }  # fmt: skip
        assert stats["threshold"] == 0.5
        assert (stats["before"] is None) is (span == "all")
        together = [row for row in stats["latency"] if row["target"] == "all"]
        assert {row["measure"]: row["requests"] for row in together}["duration_ms"] == 5


async def test_request_details_are_complete(proxy: LiveProxy, local: FakeUpstream) -> None:
    (request_id,) = await chat_and_wait(proxy, EASY)
    details = await get(proxy, f"/api/requests/{request_id}")
    assert details["prompt"] == [{"role": "user", "content": EASY}]
    assert details["response"] == "Hello!"
    assert any("its score 0.9000 is at or above" in line for line in details["explanation"])


async def test_row_is_readable_right_after_its_response(proxy: LiveProxy) -> None:
    """A page reads it immediately; the row is written shortly after."""
    answer = await proxy.chat(text=EASY)
    details = await get(proxy, f"/api/requests/{answer.headers['x-request-id']}")
    assert details["saved_usd"] > 0


async def test_client_sees_its_own_requests_only(start: StartProxy) -> None:
    proxy = await start(KEYS)
    ids = {}
    for name, headers in (("team", TEAM), ("boss", ADMIN)):
        answer = await proxy.chat(text=EASY, headers=headers)
        await proxy.row_of(answer)
        ids[name] = answer.headers["x-request-id"]
    for headers, owner, status in (
        (TEAM, "team", 200), (TEAM, "boss", 404), (ADMIN, "team", 200), (ADMIN, "boss", 200),
    ):  # fmt: skip
        answer = await proxy.client.get(f"/api/requests/{ids[owner]}", headers=headers)
        assert answer.status_code == status, (headers, owner)
    unknown = await proxy.client.get("/api/requests/req_unknown", headers=ADMIN)
    foreign = await proxy.client.get(f"/api/requests/{ids['boss']}", headers=TEAM)
    # The error does not reveal whether the request exists.
    messages = [envelope_of(answer)["message"].partition("'")[0] for answer in (unknown, foreign)]
    assert messages[0] == messages[1]


async def test_bodies_are_for_the_owner_and_for_admins(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = whole(error_json("Out of memory."), status=500)
    proxy = await start({**KEYS, "routing": {"fallback": False}})
    answer = await proxy.chat(model="local", user="me", headers=ADMIN)
    row = await proxy.row_of(answer)
    path = f"/api/requests/{row['id']}"
    details = (await proxy.client.get(path, headers=ADMIN)).json()
    assert details["has_body"]
    assert details["error"] == "Out of memory. (status 500, server_error)"
    assert [phase["kind"] for phase in details["timeline"]][-1] in ("answer", "sending")
    body = (await proxy.client.get(f"{path}/body", headers=ADMIN)).json()
    assert json.loads(body["request"])["user"] == "me"
    assert json.loads(body["response"])["error"]["message"] == "Out of memory."
    assert (await proxy.client.get(f"{path}/body")).status_code == 401
    foreign = await proxy.client.get(f"{path}/body", headers=TEAM)
    unknown = await proxy.client.get("/api/requests/req_unknown/body", headers=TEAM)
    assert foreign.status_code == unknown.status_code == 404
    messages = [envelope_of(answer)["message"].partition("'")[0] for answer in (unknown, foreign)]
    assert messages[0] == messages[1]


async def test_a_body_that_is_not_stored_is_not_found(proxy: LiveProxy) -> None:
    (request_id,) = await chat_and_wait(proxy, EASY)
    assert not (await get(proxy, f"/api/requests/{request_id}"))["has_body"]
    missing = await proxy.client.get(f"/api/requests/{request_id}/body")
    assert (missing.status_code, envelope_of(missing)["code"]) == (404, "body_not_stored")


async def test_errors_are_grouped_by_cause(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = whole(error_json("Limit 100."), status=400)
    proxy = await start()
    await proxy.chat(text=EASY)
    for _ in range(2):
        failed = await proxy.chat(model="cloud")
    await proxy.chat(messages=[])
    await proxy.rows_of(4)
    errors = await get(proxy, "/api/errors", since="all")
    (failure,) = errors["failures"]["groups"]
    assert (failure["target"], failure["code"], failure["requests"]) == ("cloud", "upstream_4xx", 2)
    assert failure["message"] == "Limit #. (status 400, server_error)"
    assert failure["share"] == 0.5
    assert failure["example"] == failed.headers["x-request-id"]
    assert [group["share"] for group in errors["refusals"]["groups"]] == [0.25]
    listed = await get(proxy, "/api/requests", error_code="upstream_4xx")
    assert len(listed["requests"]) == 2


@pytest.mark.parametrize("path", PATHS)
async def test_statistics_require_an_admin_key(start: StartProxy, path: str) -> None:
    proxy = await start(KEYS)
    assert (await proxy.client.get(path)).status_code == 401
    refused = await proxy.client.get(path, headers=TEAM)
    assert refused.status_code == 403
    assert envelope_of(refused)["code"] == "admin_only"
    assert (await proxy.client.get(path, headers=ADMIN)).status_code == 200


async def test_single_key_is_an_admin_key(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": ["sk-team"]}})
    assert (await proxy.client.get("/api/stats", headers=TEAM)).status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *((path, "since", value) for path in PATHS for value in ("1y", "-1", "24h'--")),
        *(("/api/requests", "limit", value) for value in ("0", "-1", "201", "x", "1e2", "٣", "")),
        *(("/api/requests", "before", value) for value in ("yesterday", "", "1~", "nan~req_1")),
        ("/api/requests", "target", "moon"),
        ("/api/requests", "reason", "score' OR 1=1"),
        ("/api/requests", "ending", "good"),
        ("/api/requests", "category", "gossip"),
        ("/api/requests", "second_look", "third"),
    ],
)
async def test_invalid_parameter_is_named(
    proxy: LiveProxy, path: str, name: str, value: str
) -> None:
    answer = await proxy.client.get(path, params={name: value})
    assert answer.status_code == 400
    assert envelope_of(answer)["param"] == name


async def test_paging_returns_each_request_once(proxy: LiveProxy) -> None:
    ids = await chat_and_wait(proxy, *(f"{EASY} {n}" for n in range(7)))
    listed: list[str] = []
    position: dict[str, str] = {}
    for _ in itertools.count():
        page = await get(proxy, "/api/requests", limit=3, **position)
        listed += [row["id"] for row in page["requests"]]
        if page["more"] is None:
            break
        position = {"before": page["more"]}
        if len(listed) == 3:  # later requests do not appear on the older pages
            await chat_and_wait(proxy, "A later one")
    assert listed == ids[::-1]


async def test_former_reason_shadow_finds_explorations(proxy: LiveProxy) -> None:
    await chat_and_wait(proxy, EASY)
    for reason in ("shadow", "exploration"):
        assert (await get(proxy, "/api/requests", reason=reason))["requests"] == []
    (request_id,) = await chat_and_wait(proxy, EASY)
    with connected(proxy.proxy.config.storage.url.reveal()) as database:
        database.execute_sql(
            f"UPDATE requests SET reason = 'exploration' WHERE id = '{request_id}'"
        )
    for reason in ("shadow", "exploration"):
        requests = (await get(proxy, "/api/requests", reason=reason))["requests"]
        assert [row["id"] for row in requests] == [request_id]
        assert requests[0]["reason"] == "exploration"


async def test_second_look_is_listed_filtered_and_detailed(
    tmp_path: Path, start: StartProxy
) -> None:
    evidence = Evidence(agrees=False, margin=0.5, tokens=12)
    looked = finished(
        target=Target.CLOUD, reason=Reason.ESCALATED, second_look=SecondLookResult.ESCALATED,
        evidence=evidence, verified_score=0.4, verified_merit=0.35, second_look_ms=700.0,
    )  # fmt: skip
    fill(f"sqlite:///{tmp_path}/router.db", [looked, finished()])
    proxy = await start()
    for value, number in (("escalated", 1), ("kept", 0), ("none", 1)):
        assert len((await get(proxy, "/api/requests", second_look=value))["requests"]) == number
    (listed,) = (await get(proxy, "/api/requests", second_look="escalated"))["requests"]
    assert (listed["second_look"], listed["verified_merit"]) == ("escalated", 0.35)
    details = await get(proxy, f"/api/requests/{looked.id}")
    assert details["evidence"] == {"broken": False, "agrees": False, "margin": 0.5, "tokens": 12}
    assert (details["verified_score"], details["second_look_ms"]) == (0.4, 700.0)


async def test_requests_can_be_filtered_and_searched(proxy: LiveProxy) -> None:
    easy, hard, special = await chat_and_wait(proxy, EASY, HARD, 'Say "100 % \\ ü_x"\nplease')
    categories = {row["id"]: row["category"] for row in proxy.rows()}
    for query, expected in (
        ({"target": "cloud"}, [hard]),
        ({"target": "local"}, [special, easy]),
        ({"target": "none"}, []),
        ({"reason": "score", "ending": "ok", "target": "local"}, [special, easy]),
        ({"reason": "forced"}, []),
        ({"model": "gpt-4o-mini"}, [hard]),
        ({"search": "RIEMANN"}, [hard]),
        ({"search": '"100 % \\ ü_x"\nplease'}, [special]),
        ({"search": "%"}, [special]),
        ({"search": "_"}, [special]),
        ({"search": easy}, [easy]),
        ({"search": easy[:8]}, [special, hard, easy]),
        ({"search": "' OR 1=1 --"}, []),
        ({"search": "\x00"}, []),
        ({"category": categories[hard], "target": "cloud"}, [hard]),
        ({"category": "translation"}, []),
    ):
        page = await get(proxy, "/api/requests", **query)
        assert [row["id"] for row in page["requests"]] == expected, query
        assert page["searched"] is None  # the search limit is not reached


async def test_list_has_previews_and_no_responses(proxy: LiveProxy) -> None:
    await chat_and_wait(proxy, "word " * 200)
    (row,) = (await get(proxy, "/api/requests"))["requests"]
    assert len(row["prompt"]) == 160
    assert row["prompt"].endswith("…")
    assert "response" not in row


async def test_unstored_texts_are_not_returned(start: StartProxy) -> None:
    proxy = await start({"storage": {"prompts": "hash"}})
    (request_id,) = await chat_and_wait(proxy, EASY)
    (row,) = (await get(proxy, "/api/requests"))["requests"]
    assert row["prompt"] is None
    details = await get(proxy, f"/api/requests/{request_id}")
    assert EASY not in str(details)


# --- quality ---


async def test_quality_names_the_missing_data(proxy: LiveProxy) -> None:
    await chat_and_wait(proxy, EASY)
    quality = await get(proxy, "/api/quality")
    assert quality["estimates"]["recovered"]["missing"] == f"not enough data (0 of {MIN_PAIRS})"
    assert quality["categories"] == []


async def test_previous_period_precedes_the_selected_one(proxy: LiveProxy) -> None:
    await chat_and_wait(proxy, EASY)
    stats = await get(proxy, "/api/stats", since="24h")
    assert stats["before"]["requests"] == 0
    (point,) = stats["series"]
    assert 0 <= time.time() - point["begins"] < 2 * 3600


# --- cache ---


async def test_concurrent_callers_share_one_query() -> None:
    now = [100.0]
    cache = TimedCache(30.0, clock=lambda: now[0])
    calls: list[str] = []
    gate = asyncio.Event()

    async def query() -> int:
        calls.append("")
        await gate.wait()
        return len(calls)

    waiting = [asyncio.create_task(cache.get("24h", query)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # a cancelled caller does not affect the others
    gate.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1]
    now[0] += 29
    assert await cache.get("24h", query) == 1
    assert await cache.get("7d", query) == 2
    now[0] += 2
    assert await cache.get("24h", query) == 3


async def test_results_of_old_time_ranges_are_dropped() -> None:
    now = [100.0]
    cache = TimedCache(30.0, clock=lambda: now[0])

    async def query() -> set[str]:
        return {"a result"}

    known = weakref.ref(await cache.get((1.0, 2.0), query))
    assert known() is not None
    now[0] += 31
    await cache.get((1.0, 3.0), query)
    gc.collect()
    assert known() is None


async def test_failed_query_is_not_cached() -> None:
    cache = TimedCache(30.0)

    async def fail() -> int:
        raise Unavailable("away")

    async def query() -> int:
        return 1

    with pytest.raises(Unavailable):
        await cache.get("24h", fail)
    assert await cache.get("24h", query) == 1


NUL_QUERIES = [
    "/api/requests?model=%00",
    "/api/requests?model=gpt%00-4o",
    "/api/requests?search=%00",
    "/api/requests?before=1.5~req_%00",
    "/api/requests?target=%00",
    "/api/requests/%00",
    "/api/requests/req_%00x",
    "/api/jobs?step=%00",
    "/api/jobs?step=train%00",
    "/api/jobs/%00",
    "/api/jobs/job_%00?after=5",
    "/api/experiments/%00/results",
    "/v1/responses/resp_%00x/input_items",
]


async def test_null_characters_are_no_fault_of_the_database(start: StartProxy, url: str) -> None:
    """PostgreSQL accepts none in a parameter."""
    proxy = await start({"storage": {"url": url}})
    for path in NUL_QUERIES:
        assert (await proxy.client.get(path)).status_code in (200, 400, 404), path
    cancelled = await proxy.client.post("/api/jobs/job_%00/cancel")
    assert cancelled.status_code == 404
    rated = await proxy.client.post(
        "/v1/feedback", json={"request_id": "req_\0", "thumb": "up", "comment": "\0"}
    )
    assert rated.status_code == 404
    assert (await proxy.client.get("/ready")).json()["parts"]["database"] == "ok"
