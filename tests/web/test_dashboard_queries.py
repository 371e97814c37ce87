"""The dashboard's API with periods, filters and orders; its CSV; and the month's headline."""

import csv
import datetime as dt
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live import LiveProxy, StartProxy, envelope_of
from proxy.record import CallRecord, Ending, Reason, Target
from proxy.web.headline import month_of, project
from proxy.web.request_csv import CSV_COLUMNS
from stored import fill, finished
from web.test_dashboard_api import ADMIN, KEYS, TEAM, get

pytest_plugins = ["databases"]

HOUR = 3_600
LIST_PATHS = ("/api/requests", "/api/requests.csv")
FIGURES = ("/api/stats", "/api/quality", "/api/pareto")

TEAM_HASH = "00112233445566aa"  # the hash of an API key


def made(seconds_ago: float, **values: Any) -> CallRecord:
    target = values.pop("target", Target.LOCAL)
    usual = {
        "created_at": time.time() - seconds_ago, "target": target, "reason": Reason.SCORE,
        "model": "phi3:latest" if target is Target.LOCAL else "gpt-4o-mini", "status": 200,
        "score": 0.9 if target is Target.LOCAL else 0.1, "threshold": 0.5, "duration_ms": 900.0,
        "ttft_ms": 90.0, "decision_ms": 1.0, "upstream_ms": 800.0, "input_tokens": 100,
        "output_tokens": 50, "cost_usd": 0.0 if target is Target.LOCAL else 0.25,
        "cloud_cost_usd": 0.25, "saved_usd": 0.25 if target is Target.LOCAL else 0.0,
        "turns": [("user", "Question?")],
    }  # fmt: skip
    return finished(**usual | values)


@pytest.fixture
def records(url: str) -> list[CallRecord]:
    cloud = {"target": Target.CLOUD}
    written = [
        *(made(60 * n + 1) for n in range(3)),
        *(made(60 * n + 2, **cloud, client_key_hash=TEAM_HASH) for n in range(4)),
        made(5 * HOUR, reason=Reason.FORCED),
        made(5 * HOUR, **cloud, ending=Ending.TIMEOUT, cost_usd=None, saved_usd=None),
        made(5 * HOUR, target=None, model=None, reason=None, score=None, ending=Ending.REJECTED),
        made(10 * 24 * HOUR, **cloud, reason=Reason.FORCED, model="gpt-4o"),
    ]
    fill(url, written)
    return written


@pytest.fixture
async def filled(url: str, records: list[CallRecord], start: StartProxy) -> LiveProxy:
    return await start({"storage": {"url": url, "retention_days": None}})


@pytest.mark.parametrize(
    ("query", "basis", "chosen"),
    [
        ({"since": "24h"}, "hours", lambda row: row.created_at > time.time() - 24 * HOUR),
        ({"since": "1h"}, "rows", lambda row: row.created_at > time.time() - HOUR),
        ({"since": "all", "target": "cloud"}, "hours", lambda row: row.target == "cloud"),
        ({"since": "all", "reason": "forced"}, "hours", lambda row: row.reason == "forced"),
        ({"since": "all", "model": "gpt-4o"}, "hours", lambda row: row.model == "gpt-4o"),
        ({"since": "all", "ending": "timeout"}, "hours", lambda row: row.ending == "timeout"),
        ({"since": "30d", "key": TEAM_HASH}, "rows", lambda row: row.client_key_hash == TEAM_HASH),
        ({"since": "all", "second_look": "none"}, "rows", lambda _: True),
        ({"since": "all", "search": "question"}, "rows", lambda _: True),
        ({"since": "all", "search": "nothing like it"}, "rows", lambda _: False),
    ],
)
async def test_figures_and_list_follow_the_same_filters(
    filled: LiveProxy, records: list[CallRecord], query: dict[str, str], basis: str,
    chosen: Callable[[CallRecord], bool],
) -> None:  # fmt: skip
    expected = [row for row in records if chosen(row)]
    stats = await get(filled, "/api/stats", **query)
    listed = (await get(filled, "/api/requests", **query, limit=200))["requests"]
    assert {row["id"] for row in listed} == {row.id for row in expected}
    assert stats["basis"]["totals"] == basis
    assert stats["total"]["requests"] == len(expected)
    assert stats["total"]["saved_usd"] == pytest.approx(sum(row.saved_usd or 0 for row in expected))
    assert sum(point["requests"] for point in stats["series"]) == len(expected)
    together = {row["measure"]: row for row in stats["latency"] if row["target"] == "all"}
    assert together.get("duration_ms", {"requests": 0})["requests"] == len(expected)
    assert sum(stats["merits"]) == sum(row.merit is not None for row in expected)


async def test_each_ending_is_counted_once(filled: LiveProxy) -> None:
    total = (await get(filled, "/api/stats", since="all"))["total"]
    kinds = {name: total[name] for name in ("answered", "failed", "refused", "cancelled")}
    assert kinds == {"answered": 9, "failed": 1, "refused": 1, "cancelled": 0}
    assert total["answered_locally"] == 4


async def test_short_custom_period_is_exact_and_a_long_one_has_full_hours(
    filled: LiveProxy, records: list[CallRecord]
) -> None:
    now = time.time()
    exact = await get(filled, "/api/stats", since=now - 90, until=now + 60)
    assert exact["span"] is None
    assert (exact["basis"]["totals"], exact["step_seconds"]) == ("rows", 60)
    assert exact["total"]["requests"] == sum(row.created_at >= now - 90 for row in records)
    assert (await get(filled, "/api/pareto", since=now - 90))["requests"] == 4
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 11 * 86_400))
    long = await get(filled, "/api/stats", since=iso, until=now - 9 * 86_400)
    assert (long["basis"]["totals"], long["total"]["requests"]) == ("hours", 1)
    assert long["step"] == "hour"
    empty = await get(filled, "/api/stats", since=now, until=now - 60)
    assert (empty["total"]["requests"], empty["series"]) == (0, [])


async def test_busy_hour_is_counted_by_full_hours(
    filled: LiveProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than are read for one page: the rollups are exact, if a little wider."""
    monkeypatch.setattr("proxy.web.dashboard_query.FIGURE_ROWS", 5)
    assert (await get(filled, "/api/stats", since="1h"))["basis"]["totals"] == "hours"


@pytest.mark.parametrize("sort", ["cost", "duration", "tokens", "score"])
@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_list_is_sorted_over_all_pages(
    tmp_path: Path, start: StartProxy, sort: str, order: str
) -> None:
    column = {"cost": "cost_usd", "duration": "duration_ms", "score": "score"}
    values = [None, 0.5, 0.25, 0.25, 0.00012345678901234567, 1e-07, 7.0, None, 3.0]
    rows = [
        made(n, cost_usd=value, score=value, duration_ms=value or 0.0,
             input_tokens=None if value is None else int(value * 100), output_tokens=1)
        for n, value in enumerate(values)
    ]  # fmt: skip
    fill(f"sqlite:///{tmp_path}/router.db", rows)
    proxy = await start()
    listed: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(proxy, "/api/requests", sort=sort, order=order, limit=3, **cursor)
        listed += page["requests"]
        if page["more"] is None:
            break
        cursor = {"before": page["more"]}
    assert len({row["id"] for row in listed}) == len(rows)
    keys = [row["input_tokens"] if sort == "tokens" else row[column[sort]] for row in listed]
    known = [key for key in keys if key is not None]
    assert known == sorted(known, reverse=order == "desc")
    assert keys[: len(known)] == known  # rows without a value come last


async def test_oldest_first_by_time(filled: LiveProxy, records: list[CallRecord]) -> None:
    page = await get(filled, "/api/requests", order="asc", limit=2)
    following = await get(filled, "/api/requests", order="asc", before=page["more"], limit=200)
    times = [row["created_at"] for row in (*page["requests"], *following["requests"])]
    assert times == sorted(row.created_at for row in records)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *((path, "until", value) for path in FIGURES for value in ("24h", "-5", "tomorrow")),
        *((path, "since", value) for path in FIGURES for value in ("2026-13-01", "1e9", "0x10")),
        *((path, "sort", "prompt") for path in LIST_PATHS),
        *((path, "order", "up") for path in LIST_PATHS),
        ("/api/stats", "reason", "moon"),
        ("/api/requests.csv", "target", "moon"),
        ("/api/requests", "before", "inf~req_1"),
    ],
)
async def test_invalid_parameter_is_named(
    proxy: LiveProxy, path: str, name: str, value: str
) -> None:
    answer = await proxy.client.get(path, params={name: value})
    assert answer.status_code == 400
    assert envelope_of(answer)["param"] == name


def parse(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


async def test_csv_has_the_filtered_list(
    filled: LiveProxy, records: list[CallRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.web.dashboard_api.CSV_ROWS_AT_ONCE", 2)
    answer = await filled.client.get("/api/requests.csv", params={"since": "24h"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="requests.csv"' in answer.headers["content-disposition"]
    rows = parse(answer.text)
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["id"] for row in rows] == [
        row["id"] for row in (await get(filled, "/api/requests", since="24h"))["requests"]
    ]
    only = await filled.client.get("/api/requests.csv", params={"reason": "forced"})
    assert len(parse(only.text)) == 2


async def test_csv_ends_at_its_limit(filled: LiveProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.web.dashboard_api.CSV_ROWS_AT_ONCE", 2)
    monkeypatch.setattr("proxy.web.dashboard_api.MAX_CSV_ROWS", 5)
    assert len(parse((await filled.client.get("/api/requests.csv")).text)) == 5


@pytest.mark.parametrize("prefix", ["=", "+", "-", "@", "\t", "\r"])
async def test_csv_cells_are_no_formulas(tmp_path: Path, start: StartProxy, prefix: str) -> None:
    text = prefix + 'HYPERLINK("http://x")'
    fill(
        f"sqlite:///{tmp_path}/router.db",
        [made(1, requested_model=text, saved_usd=-0.5, turns=[("user", text)])],
    )
    proxy = await start()
    (row,) = parse((await proxy.client.get("/api/requests.csv")).text)
    assert row["requested_model"] == row["prompt"] == "'" + text
    assert row["saved_usd"] == "-0.5"  # a number stays one


@pytest.mark.parametrize("path", ["/api/requests.csv", "/api/headline"])
async def test_csv_and_headline_need_an_admin_key(start: StartProxy, path: str) -> None:
    proxy = await start(KEYS)
    assert (await proxy.client.get(path)).status_code == 401
    assert (await proxy.client.get(path, headers=TEAM)).status_code == 403
    assert (await proxy.client.get(path, headers=ADMIN)).status_code == 200


# --- headline ---


async def test_headline_covers_the_month(url: str, start: StartProxy) -> None:
    since, until = month_of(time.time())
    early = made(0, created_at=since - 1)
    rows = [made(0, created_at=since + 1), made(0, target=Target.CLOUD), early]
    fill(url, rows)
    proxy = await start({"storage": {"url": url, "retention_days": None}})
    shown = await get(proxy, "/api/headline")
    assert (shown["since"], shown["until"]) == (since, until)
    assert shown["total"]["requests"] == 2
    assert shown["total"]["saved_usd"] == 0.25
    assert shown["quality"]["relative"]["missing"] == "not enough data (0 of 100)"
    elapsed = shown["now"] - since
    if elapsed < 86_400:
        assert shown["projection"] is None
    else:
        expected = 0.25 * (until - since) / elapsed
        assert shown["projection"]["saved_usd"] == pytest.approx(expected)


async def test_headline_without_requests(proxy: LiveProxy) -> None:
    shown = await get(proxy, "/api/headline")
    assert shown["total"]["requests"] == 0
    assert shown["projection"] is None


def test_projection_is_linear_from_the_first_request() -> None:
    day = 86_400.0
    sums = {"saved_usd": 2.0}
    assert project(sums, begin=0.0, now=day - 1, end=30 * day) is None
    assert project(sums, begin=0.0, now=10 * day, end=30 * day) == {"saved_usd": 6.0}
    assert project(sums, begin=20 * day, now=25 * day, end=30 * day) == {"saved_usd": 4.0}


@pytest.mark.parametrize(
    ("now", "since", "until"),
    [
        ("2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
    ],
)
def test_months_begin_at_midnight_utc(now: str, since: str, until: str) -> None:
    seconds = [dt.datetime.fromisoformat(text).timestamp() for text in (now, since, until)]
    assert month_of(seconds[0]) == (seconds[1], seconds[2])
