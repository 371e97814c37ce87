"""Queries, compared with plain loops over random rows, on both databases."""

import collections
import io
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import pytest
from rich.console import Console

from proxy.cli.options import DEFAULT_DIMENSIONS, DIMENSIONS
from proxy.cli.tables import RouterContext, stats_report, stats_tables
from proxy.evaluation.estimates import estimate_quality
from proxy.evaluation.queries import QualityQueries
from proxy.record import PICODOLLARS, Ending, Reason, SecondLookResult, Target, UsageSource
from proxy.storage.database import StoreUnavailable, open_database
from proxy.storage.queries import (
    HOURLY_DETAIL_SECONDS,
    Dimension,
    Group,
    KeyTotals,
    RequestQueries,
    Totals,
    failure_rate,
    local_share,
    start_of_hour,
)
from proxy.storage.request_log import RequestLog
from reports import assert_lines, rendered_report
from router_model import drift
from router_model.evidence import Evidence
from router_model.manifest import Reference
from stored import (
    DAY,
    HOUR,
    NOW,
    Row,
    add_judgements,
    config_of,
    connected,
    execute,
    fill,
    finished,
    opened,
    picodollars,
    random_records,
    read,
    until,
)

pytest_plugins = ["databases"]

QUERIED_AT = NOW + 2 * DAY
SINCE = [0.0, NOW - 30.5 * HOUR, NOW - 10 * HOUR, NOW - 10.5 * HOUR, NOW + HOUR]


@pytest.fixture
def stats(url: str) -> Iterator[RequestQueries]:
    """An empty database."""
    fill(url, [])
    database = open_database(config_of(url), read_only=True)
    with RequestQueries(database, clock=lambda: QUERIED_AT) as stats:
        yield stats


@pytest.fixture
def log(stats: RequestQueries) -> RequestLog:
    return RequestLog.sharing(stats)


@pytest.fixture
def filled(url: str, stats: RequestQueries) -> list[Row]:
    """Random rows, the oldest first."""
    fill(url, random_records(700))
    return read(url)


# ── Totals ────────────────────────────────────────────────────────────────────────────────────


def totals_of(rows: list[Row]) -> Totals:
    def total(name: str) -> int:
        return sum(row[name] or 0 for row in rows)

    def usd(name: str) -> float:
        return sum(picodollars(row[name]) for row in rows) / PICODOLLARS

    return Totals(
        requests=len(rows),
        **outcomes_of(rows),
        streamed=sum(bool(row["streamed"]) for row in rows),
        fallbacks=sum(row["fallback_from"] is not None for row in rows),
        estimated=sum(row["usage_source"] == "estimated" for row in rows),
        input_tokens=total("input_tokens"),
        cached_input_tokens=total("cached_input_tokens"),
        output_tokens=total("output_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
        cost_usd=usd("cost_usd"),
        cloud_cost_usd=usd("cloud_cost_usd"),
        saved_usd=usd("saved_usd"),
    )


def outcomes_of(rows: list[Row]) -> dict[str, int]:
    answered = [row for row in rows if row["ending"] == "ok" and row["target"]]
    endings = collections.Counter(row["ending"] for row in rows)
    return {
        "answered": len(answered),
        "answered_locally": sum(row["target"] == "local" for row in answered),
        "failed": endings["upstream_error"] + endings["timeout"] + endings["internal_error"],
        "refused": endings["rejected"],
        "cancelled": endings["client_gone"] + endings["stopped"],
    }


def value_of(row: Row, dimension: Dimension) -> str:
    at = time.gmtime(row["created_at"])
    match dimension:
        case "day":
            return time.strftime("%Y-%m-%d", at)
        case "hour":
            return time.strftime("%Y-%m-%d %H:00", at)
    return row[dimension] or "none"


def since_hour(rows: list[Row], since: float) -> list[Row]:
    return [row for row in rows if row["created_at"] >= since // HOUR * HOUR]


def test_total_matches_the_rows(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        assert stats.total(since) == totals_of(since_hour(filled, since))


# Within an hour, a day and several days, from and to the middle and the boundaries of days.
MIDNIGHT = NOW // DAY * DAY
PERIODS = [
    (0.0, None),
    (NOW - 30.5 * HOUR, None),
    (NOW - 10 * HOUR, None),
    (MIDNIGHT - DAY, None),
    (MIDNIGHT - DAY, MIDNIGHT),
    (NOW - 40 * HOUR, NOW - 2 * HOUR),
    (NOW - 3 * HOUR, NOW - HOUR),
    (NOW - HOUR, NOW - HOUR),
    (NOW + DAY, None),
]


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_totals_of_keys_match_the_rows(
    stats: RequestQueries, filled: list[Row], since: float, until: float | None
) -> None:
    end = math.inf if until is None else until // HOUR * HOUR
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in since_hour(filled, since):
        if row["client_key_hash"] is not None and row["created_at"] < end:
            groups[row["client_key_hash"]].append(row)
    expected = {key: key_totals_of(rows) for key, rows in groups.items()}
    assert stats.totals_by_key(since, until=until) == expected
    for key in ("one", "nobody"):
        own = {name: sums for name, sums in expected.items() if name == key}
        assert stats.totals_by_key(since, until=until, key_hash=key) == own


def key_totals_of(rows: list[Row]) -> KeyTotals:
    totals = totals_of(rows)._asdict()
    return KeyTotals(**{name: totals[name] for name in KeyTotals._fields})


@pytest.mark.parametrize("step", ["hour", "day"])
def test_series_of_a_key_matches_the_rows(
    stats: RequestQueries, filled: list[Row], step: Literal["hour", "day"]
) -> None:
    seconds = HOUR if step == "hour" else int(DAY)
    for since in SINCE:
        groups: dict[int, list[Row]] = collections.defaultdict(list)
        for row in since_hour(filled, since):
            if row["client_key_hash"] == "one":
                groups[int(row["created_at"]) // seconds * seconds].append(row)
        assert stats.key_series("one", since, step=step) == [
            (begins, key_totals_of(rows)) for begins, rows in sorted(groups.items())
        ]


def test_the_last_use_of_a_key_outlives_its_rows(
    url: str, stats: RequestQueries, filled: list[Row]
) -> None:
    newest = {
        key: max(row["created_at"] for row in filled if row["client_key_hash"] == key)
        for key in ("one", "other")
    }
    assert stats.last_used() == newest
    execute(url, "DELETE FROM requests WHERE client_key_hash = 'one'")
    assert stats.last_used() == newest | {"one": newest["one"] // DAY * DAY}


def test_requests_of_a_key_are_found_among_many(log: RequestLog, filled: list[Row]) -> None:
    own = [row["id"] for row in reversed(filled) if row["client_key_hash"] == "one"]
    page = log.newest(limit=20, values={"client_key_hash": "one"}, search_limit=5)
    assert [row["id"] for row in page.rows] == own[:20]
    assert page.searched is None
    more = log.newest(limit=200, values={"client_key_hash": "one"}, before=page.more)
    assert [row["id"] for row in more.rows] == own[20:220]


def test_shares_have_one_definition() -> None:
    totals = Totals(requests=10, answered=4, answered_locally=3, failed=1, refused=3, cancelled=2)
    assert local_share(totals) == 0.75
    assert failure_rate(totals) == 0.2
    assert (local_share(Totals()), failure_rate(Totals(refused=5))) == (None, None)


def test_total_of_a_past_period_matches_the_rows(stats: RequestQueries, filled: list[Row]) -> None:
    until = NOW - 10 * HOUR
    for since in SINCE:
        expected = [row for row in since_hour(filled, since) if row["created_at"] < until]
        assert stats.total(since, until=until) == totals_of(expected)


@pytest.mark.parametrize("step", ["hour", "day"])
def test_series_of_each_tier_matches_the_rows(
    stats: RequestQueries, filled: list[Row], step: Literal["hour", "day"]
) -> None:
    seconds = HOUR if step == "hour" else int(DAY)
    for since in SINCE:
        groups: dict[tuple[int, str], list[Row]] = collections.defaultdict(list)
        for row in since_hour(filled, since):
            key = int(row["created_at"]) // seconds * seconds, row["target"] or ""
            groups[key].append(row)
        assert stats.series(since, step=step) == [
            (*key, totals_of(rows)) for key, rows in sorted(groups.items())
        ]


def test_totals_by_category_and_tier_match_the_rows(
    stats: RequestQueries, filled: list[Row]
) -> None:
    for since in SINCE:
        groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
        for row in since_hour(filled, since):
            groups[row["category"] or "none", row["target"] or ""].append(row)
        totals = {
            (group.category, group.target): group.sums for group in stats.totals_by_category(since)
        }
        assert totals == {key: totals_of(rows) for key, rows in groups.items()}


def test_totals_by_each_dimension_match_the_rows(stats: RequestQueries, filled: list[Row]) -> None:
    for dimension in get_args(Dimension):
        for since in SINCE:
            check_totals_by(stats, filled, dimension, since)


def test_spend_by_hour_matches_the_rows(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        expected: dict[int, list[int]] = {}
        for row in since_hour(filled, since):
            sums = expected.setdefault(start_of_hour(row["created_at"]), [0, 0])
            if row["reason"] in ("score", "exploration", "budget"):
                sums[0] += picodollars(row["cloud_cost_usd"])
            elif row["target"] == "cloud":
                sums[1] += picodollars(row["cost_usd"])
        assert stats.spend_by_hour(since) == [
            (hour, routed / PICODOLLARS, other / PICODOLLARS)
            for hour, (routed, other) in sorted(expected.items())
        ]


def test_spend_by_merit_matches_the_rows(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        expected: collections.Counter[tuple[int, int]] = collections.Counter()
        for row in since_hour(filled, since):
            if (merit := row["merit"]) is not None:
                key = start_of_hour(row["created_at"]), min(int(merit * 100), 99)
                expected[key] += picodollars(row["cloud_cost_usd"])
        assert stats.spend_by_merit(since) == [
            (*key, usd / PICODOLLARS) for key, usd in sorted(expected.items())
        ]


def check_totals_by(
    stats: RequestQueries, filled: list[Row], dimension: Dimension, since: float
) -> None:
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in since_hour(filled, since):
        groups[value_of(row, dimension)].append(row)
    actual = stats.totals_by(dimension, since)
    assert dict(actual) == {value: totals_of(rows) for value, rows in groups.items()}
    in_order: Callable[[Group], Any] = (
        (lambda group: group.value)
        if dimension in ("day", "hour")
        else (lambda group: -group.sums.requests)
    )
    assert actual == sorted(actual, key=in_order)


def test_since_is_rounded_down_to_the_hour(url: str, stats: RequestQueries) -> None:
    start = start_of_hour(NOW)
    assert start % HOUR == 0
    fill(url, [finished(created_at=start + offset) for offset in (-0.001, 0.0, HOUR - 0.001, HOUR)])
    for since, expected in (
        (start - 1, 4),
        (start, 3),
        (start + 0.5 * HOUR, 3),
        (start + HOUR, 1),
        (start + 2 * HOUR, 0),
    ):
        assert stats.total(since).requests == expected
        assert sum(row.requests for row in stats.quantiles(since)) == 2 * expected
        assert sum(group.sums.requests for group in stats.totals_by("hour", since)) == expected


# ── Quantiles and histograms ──────────────────────────────────────────────────────────────────


def test_quantiles_are_within_six_percent(url: str, stats: RequestQueries) -> None:
    rng = random.Random(4)
    durations = {
        Target.LOCAL: [rng.lognormvariate(6, 1.5) for _ in range(3_000)],
        Target.CLOUD: [rng.lognormvariate(-2, 0.3) for _ in range(1_000)],
        None: [0.0, 1e-5],
    }
    fill(
        url,
        [
            finished(
                created_at=NOW - rng.random() * 9 * HOUR,
                target=target,
                duration_ms=ms,
                ttft_ms=ms / 2 if target else None,
                upstream_ms=ms * 0.75 if target else None,
                decision_ms=3.0 if target is Target.LOCAL else None,
            )
            for target, values in durations.items()
            for ms in values
        ],
    )
    quantiles = {(row.measure, row.target): row for row in stats.quantiles()}
    shares = {"duration_ms": 1.0, "ttft_ms": 0.5, "overhead_ms": 0.25}
    for target in (Target.LOCAL, Target.CLOUD):
        for measure, share in shares.items():
            row = quantiles[measure, target]
            assert row.requests == len(durations[target])
            for name, ms in row.ms.items():
                rank = float(name.removeprefix("p")) / 100
                exact = np.quantile(durations[target], rank, method="inverted_cdf") * share
                assert ms == pytest.approx(exact, rel=0.06)
    assert quantiles.keys() == {
        *((measure, target) for measure in shares for target in ("local", "cloud")),
        ("decision_ms", "local"),
        ("duration_ms", "none"),
        ("overhead_ms", "none"),
    }
    assert quantiles["decision_ms", "local"].ms == pytest.approx(
        {"p50": 3.0, "p95": 3.0, "p99": 3.0}, rel=0.06
    )
    assert 0 < quantiles["duration_ms", "none"].ms["p99"] < 0.0011


def test_quantiles_cover_both_tiers_together(stats: RequestQueries, filled: list[Row]) -> None:
    quantiles = {(row.measure, row.target): row for row in stats.quantiles(together=True)}
    separate = {key: row for key, row in quantiles.items() if key[1] != "all"}
    assert list(separate.values()) == stats.quantiles()
    overall = quantiles["duration_ms", "all"]
    assert overall.requests == len(filled)
    exact = np.quantile([row["duration_ms"] for row in filled], 0.5, method="inverted_cdf")
    assert overall.ms["p50"] == pytest.approx(exact, rel=0.06)


def test_old_histograms_are_rounded_down_to_the_day(
    stats: RequestQueries, filled: list[Row]
) -> None:
    for since in SINCE:
        is_long_ago = QUERIED_AT - since > HOURLY_DETAIL_SECONDS
        rows = since_hour(filled, since // DAY * DAY if is_long_ago else since)
        judged = [row for row in rows if row["merit"] is not None]
        scores, merits = [0] * 100, [0] * 100
        for row in judged:
            scores[min(int(row["score"] * 100), 99)] += 1
            merits[min(int(row["merit"] * 100), 99)] += 1
        assert stats.score_counts(since) == scores
        histogram = stats.merit_histogram(since)
        assert [bucket.requests for bucket in histogram] == merits
        dollars = sum(picodollars(row["cloud_cost_usd"]) for row in judged)
        assert sum(bucket.cloud_usd for bucket in histogram) == pytest.approx(dollars / PICODOLLARS)
        durations = [row for row in stats.quantiles(since) if row.measure == "duration_ms"]
        assert sum(row.requests for row in durations) == len(rows)


# ── Single requests ───────────────────────────────────────────────────────────────────────────


def test_request_is_found_with_judgements_and_feedback(url: str, log: RequestLog) -> None:
    record = finished(turns=[("system", "Be nice."), ("user", "Grüße")], streamed=True)
    plain = finished()
    with opened(url) as store:
        store.add(record)
        store.add(plain)
        until(lambda: len(read(url)) == 2)
        store.lookups.record_feedback(record.id, 0.5, "Good.", client=None)
    add_judgements(url, [(record.id, NOW, "cloud", 9.0, "a"), (record.id, NOW, "local", 7.5, "a")])
    row = log.find(record.id)
    assert row is not None
    assert row["prompt"] == [
        {"role": "system", "content": "Be nice."},
        {"role": "user", "content": "Grüße"},
    ]
    assert row["streamed"] is True
    scores = {item["target"]: item["score"] for item in row["judgements"]}
    assert scores == {"cloud": 9.0, "local": 7.5}
    assert row["judgements"][0].keys() == {
        "created_at",
        "target",
        "model",
        "score",
        "judge_model",
        "reason",
    }
    assert row["feedback"]["rating"] == 0.5
    assert row["feedback"].keys() == {"created_at", "rating", "comment"}
    bare = log.find(plain.id)
    assert bare is not None
    assert (bare["prompt"], bare["judgements"], bare["feedback"]) == (None, [], None)
    for unknown in ("req_unknown", "", "'; DROP TABLE requests; --", "req_\0"):
        assert log.find(unknown) is None


def test_every_request_is_exported(url: str, log: RequestLog, filled: list[Row]) -> None:
    rated = [row["id"] for row in filled[::50]]
    with opened(url) as store:
        for request_id in rated:
            client = next(row["client_key_hash"] for row in filled if row["id"] == request_id)
            assert store.lookups.record_feedback(request_id, -1.0, None, client=client) is not None
    add_judgements(url, [(row["id"], NOW, "local", 5.0, "a") for row in filled[::7]])
    for since in SINCE:
        expected = [row["id"] for row in filled if row["created_at"] >= since]
        assert [row["id"] for row in log.export(since)] == expected
    judged = {row["id"] for row in filled[::7]}
    for row, plain in zip(log.export(), filled, strict=True):
        assert len(row.pop("judgements")) == (row["id"] in judged)
        assert (row.pop("feedback") is not None) == (row["id"] in rated)
        prompt = row.pop("prompt")
        assert prompt == (None if plain["prompt"] is None else json.loads(plain["prompt"]))
        evidence = row.pop("evidence")
        assert evidence == (None if plain["evidence"] is None else json.loads(plain["evidence"]))
        others = {name: plain[name] for name in plain.keys() - {"prompt", "evidence"}}
        assert row == others


def test_evidence_is_a_mapping_of_what_is_known(url: str, log: RequestLog) -> None:
    evidence = Evidence(agrees=True, mean_logprob=-0.25, tokens=40)
    record = finished(second_look=SecondLookResult.KEPT, evidence=evidence)
    fill(url, [record])
    row = log.find(record.id)
    assert row is not None
    assert row["evidence"] == {
        "broken": False, "agrees": True, "mean_logprob": -0.25, "tokens": 40,
    }  # fmt: skip


def test_evidence_of_another_version_is_left_out(url: str, log: RequestLog) -> None:
    record = finished(second_look=SecondLookResult.KEPT, evidence=Evidence())
    fill(url, [record])
    with connected(url) as database:
        database.execute_sql('UPDATE requests SET evidence = \'{"agrees": "mostly"}\'')
    row = log.find(record.id)
    assert row is not None
    assert (row["second_look"], row["evidence"]) == ("kept", None)


def test_hashed_prompts_are_returned_as_hashes(url: str, log: RequestLog) -> None:
    record = finished(turns=[("user", "secret")])
    with opened(url, prompts="hash") as store:
        store.add(record)
    row = log.find(record.id)
    assert row is not None
    assert len(row["prompt"]) == 64


# ── Lists ─────────────────────────────────────────────────────────────────────────────────────


def test_newest_requests_are_paginated(log: RequestLog, filled: list[Row]) -> None:
    expected = sorted(filled, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    for values in (
        {},
        {"target": "cloud"},
        {"target": "", "ending": "ok"},
        {"reason": "exploration"},
        {"second_look": "escalated"},
    ):
        expected_ids = [
            row["id"] for row in expected if all((row[k] or "") == v for k, v in values.items())
        ]
        listed: list[str] = []
        before = None
        while True:
            page = log.newest(limit=90, before=before, values=values)
            listed += [row["id"] for row in page.rows]
            if (before := page.more) is None:
                break
        assert listed == expected_ids
    since = NOW - 10.5 * HOUR
    recent = log.newest(since, limit=1_000)
    assert [row["id"] for row in recent.rows] == [
        row["id"] for row in expected if row["created_at"] >= since
    ]
    assert (recent.more, recent.searched) == (None, None)


def test_requests_of_equal_time_are_listed_once(url: str, log: RequestLog) -> None:
    records = [finished(created_at=NOW) for _ in range(7)]
    fill(url, records)
    first = log.newest(limit=4)
    rest = log.newest(limit=4, before=first.more)
    listed = [row["id"] for row in (*first.rows, *rest.rows)]
    assert listed == sorted((record.id for record in records), reverse=True)


def test_search_reads_a_limited_number_of_rows_per_page(log: RequestLog, filled: list[Row]) -> None:
    expected = sorted(filled, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    expected_ids = [row["id"] for row in expected if "poem" in (row["prompt"] or "")]
    found_ids: list[str] = []
    before, limited_pages = None, 0
    while True:
        page = log.newest(limit=1_000, before=before, text="A POEM", search_limit=100)
        limited_pages += page.searched == 100
        found_ids += [row["id"] for row in page.rows]
        if (before := page.more) is None:
            break
    assert found_ids == expected_ids
    assert limited_pages >= len(filled) // 100 - 1


# ── Empty and missing databases ───────────────────────────────────────────────────────────────


def test_empty_database_has_empty_results(stats: RequestQueries, log: RequestLog) -> None:
    assert stats.total() == Totals()
    assert [stats.totals_by(dimension) for dimension in get_args(Dimension)] == [[]] * 8
    assert (
        stats.quantiles(),
        QualityQueries.sharing(stats).judged_requests(),
        list(log.export()),
    ) == (
        [],
        [],
        [],
    )
    assert stats.score_counts() == [0] * 100
    assert QualityQueries.sharing(stats).quality() == estimate_quality(
        {}, pairs=[], answers={}, compared=[]
    )
    assert log.find("req_1") is None
    assert rendered_report(stats) == "No requests are recorded yet.\n"
    assert (
        rendered_report(stats, since=NOW)
        == "No requests are recorded since 2027-01-15 08:00 UTC.\n"
    )
    assert stats_report(stats, DEFAULT_DIMENSIONS, 0.0)["total"] == Totals()._asdict()


def test_queries_are_read_only(url: str, stats: RequestQueries) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only"), stats._reading() as database:
        database.execute_sql("DELETE FROM requests")


def test_missing_database_is_an_error(sqlite_url: str, postgres_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="the proxy has recorded nothing"):
        RequestQueries.open(config_of(sqlite_url))
    with pytest.raises(StoreUnavailable, match="has schema 0, not"):
        RequestQueries.open(config_of(postgres_url))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        RequestQueries.open(config_of(f"{postgres_url}_unknown"))


# ── Drift and shadow router ──────────────────────────────────────────────────────────────────────


def requests_before(
    number: int, *, hours: float, score: float | None, text: str, reason: Reason
) -> Any:
    """Requests of this many hours before `QUERIED_AT`."""
    return [
        finished(
            created_at=QUERIED_AT - hours * HOUR,
            target=Target.LOCAL,
            model="phi3",
            reason=reason,
            score=score,
            turns=[("user", text)],
        )
        for _ in range(number)
    ]


MATHS, POEM = "Solve 3x + 1 = 7", "Write a poem"
REFERENCE = Reference(rows=1_000, scores=[0.5, 0.5], categories={"maths": 0.5, "writing": 0.5})


def test_drift_covers_routed_requests_only(url: str, stats: RequestQueries) -> None:
    routed = requests_before(300, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE)
    routed += requests_before(300, hours=20, score=0.75, text=POEM, reason=Reason.STICKY)
    forced = requests_before(900, hours=1, score=None, text="What is it?", reason=Reason.FORCED)
    fill(url, routed + forced)
    result = stats.drift(REFERENCE)
    assert result is not None
    assert (result.requests, result.score, result.category) == (600, 0, 0)
    fill(url, requests_before(1_400, hours=3, score=0.25, text=MATHS, reason=Reason.UNHEALTHY))
    result = stats.drift(REFERENCE)
    assert result is not None
    assert result == drift.measure(REFERENCE, [1_700, 300], {"maths": 1_700, "writing": 300})
    assert result.is_large


def test_drift_covers_a_week_if_a_day_has_too_few_requests(url: str, stats: RequestQueries) -> None:
    fill(url, requests_before(499, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) is None
    fill(url, requests_before(101, hours=6 * 24, score=0.75, text=POEM, reason=Reason.SCORE))
    fill(url, requests_before(900, hours=9 * 24, score=0.75, text=POEM, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) == drift.measure(
        REFERENCE, [499, 101], {"maths": 499, "writing": 101}
    )
    fill(url, requests_before(1, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) == drift.measure(REFERENCE, [500, 0], {"maths": 500})


def test_report_includes_drift_and_the_shadow_router(url: str, stats: RequestQueries) -> None:
    records = requests_before(400, hours=1, score=0.25, text=MATHS, reason=Reason.SCORE)
    records += requests_before(200, hours=1, score=0.75, text=POEM, reason=Reason.SCORE)
    for record in records[:100]:
        record.threshold, record.candidate_score = 0.5, 0.9
        record.cost_usd = record.cloud_cost_usd = 0.01
        record.target = Target.CLOUD
    fill(url, records)
    assert "drift" not in rendered_report(stats)
    context = RouterContext(REFERENCE, 0.8)
    console = Console(file=io.StringIO(), width=120)
    console.print(stats_tables(stats, (), 0.0, context=context))
    assert_lines(
        console.file.getvalue(),
        "drift of the last 600 scored requests",
        "score 0.11 some",
        "category 0.11 some writing 50% → 33%, maths 50% → 67%",
        "shadow router: agrees on 0.0% of 100",
        "live 100.0% $1.00 100.0%",
        "shadow 0.0% $0.00 0.0%",
    )
    plain = stats_report(stats, (), 0.0, context=context)
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["drift"]["requests"], plain["drift"]["score_reading"]) == (600, "some")
    assert plain["candidate"]["all_cloud_usd"] == pytest.approx(1.0)
    assert (stats_report(stats, (), 0.0)["drift"], stats_report(stats, (), 0.0)["candidate"]) == (
        None,
        None,
    )


# ── Reports ───────────────────────────────────────────────────────────────────────────────────


def test_report_shows_the_totals(url: str, stats: RequestQueries) -> None:
    common = {"created_at": NOW, "reason": Reason.SCORE, "duration_ms": 100.0, "upstream_ms": 98.0}
    local = finished(
        **common, target=Target.LOCAL, model="phi3", input_tokens=1_000, cached_input_tokens=100,
        output_tokens=200, cost_usd=0.0, cloud_cost_usd=3.0, saved_usd=3.0,
        turns=[("user", "Translate it")],
    )  # fmt: skip
    cloud = finished(
        **common, target=Target.CLOUD, model="gpt", usage_source=UsageSource.ESTIMATED,
        cost_usd=1.0, cloud_cost_usd=1.0, saved_usd=0.0, ending=Ending.TIMEOUT,
    )  # fmt: skip
    fill(url, [local, repeated(local), cloud])
    text = rendered_report(stats, by=tuple(DIMENSIONS))
    assert_lines(
        text,
        "requests   3",
        "answered   2, 100.0% by the local tier",
        "failed     1, 33.3% of those answered or failed",
        "refused    0",
        "cancelled  0",
        "spent      $1.00",
        "saved      $6.00, 86% of the all-cloud cost",
        "tokens     2,000 in (200 cached), 400 out",
        "estimated  tokens of 1 requests (the upstream reported none)",
        "tier   requests  share local failed refused spent saved",
        "local  2  66.7% 100.0% $0.00 $6.00",
        "cloud  1  33.3% 1 $1.00 $0.00",
        "translation 2 66.7% 100.0% $0.00 $6.00",
        "2027-01-15 3 100.0% 100.0% 1 $1.00 $6.00",
        "total local 2 106 106 106",
    )
    plain = stats_report(stats, tuple(DIMENSIONS), 0.0)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["by"].keys() == DIMENSIONS.keys()
    assert plain["by"]["tier"][0] == {
        "value": "local",
        **stats.totals_by("target")[0].sums._asdict(),
    }
    assert "since 2027-01-15 07:00 UTC" in rendered_report(stats, since=NOW - HOUR)


def repeated(record: Any) -> Any:
    names = ("created_at reason duration_ms upstream_ms target model input_tokens turns saved_usd "
             "cached_input_tokens output_tokens cost_usd cloud_cost_usd").split()  # fmt: skip
    return finished(**{name: getattr(record, name) for name in names})
