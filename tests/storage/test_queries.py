"""Named questions: their answers against plain loops over random rows, on both databases."""

import collections
import io
import json
import operator
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import pytest
from rich.console import Console

from proxy.budget.pricing import Price
from proxy.cli.options import DEFAULT_DIMENSIONS, DIMENSIONS
from proxy.cli.tables import RouterContext, stats_report, stats_tables
from proxy.evaluation.estimates import Judged, Pair, Quality, quality_of
from proxy.evaluation.explain import explain
from proxy.evaluation.queries import QualityQueries
from proxy.record import PICODOLLARS, Ending, Reason, Target, UsageSource
from proxy.storage.database import StoreUnavailable, insert_rows, open_database
from proxy.storage.queries import (
    FINE_SECONDS,
    Dimension,
    Group,
    RequestQueries,
    Sums,
    start_of_hour,
)
from proxy.storage.tables import Sample
from router_model import drift
from router_model.manifest import Reference
from stored import (
    DAY,
    HOUR,
    NOW,
    Row,
    any_records,
    config_of,
    connected,
    fill,
    finished,
    opened,
    picodollars,
    read,
    until,
)

pytest_plugins = ["databases"]

ASKED_AT = NOW + 2 * DAY
SINCE = [0.0, NOW - 30.5 * HOUR, NOW - 10 * HOUR, NOW - 10.5 * HOUR, NOW + HOUR]


@pytest.fixture
def stats(url: str) -> Iterator[RequestQueries]:
    """An empty database."""
    fill(url, [])
    database = open_database(config_of(url), read_only=True)
    with RequestQueries(database, clock=lambda: ASKED_AT) as stats:
        yield stats


def opinions(stats: RequestQueries) -> QualityQueries:
    return QualityQueries.beside(stats)


@pytest.fixture
def filled(url: str, stats: RequestQueries) -> list[Row]:
    """Random rows, the oldest first. The hours of one of them are not whole."""
    fill(url, any_records(700))
    return read(url)


# ── Sums ──────────────────────────────────────────────────────────────────────────────────────


def added_up(rows: list[Row]) -> Sums:
    def total(name: str) -> int:
        return sum(row[name] or 0 for row in rows)

    def usd(name: str) -> float:
        return sum(picodollars(row[name]) for row in rows) / PICODOLLARS

    return Sums(
        requests=len(rows),
        failed=sum(row["ending"] not in ("ok", "client_gone") for row in rows),
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


def value_of(row: Row, dimension: Dimension) -> str:
    at = time.gmtime(row["created_at"])
    match dimension:
        case "day":
            return time.strftime("%Y-%m-%d", at)
        case "hour":
            return time.strftime("%Y-%m-%d %H:00", at)
    return row[dimension] or "none"


def from_whole_hours(rows: list[Row], since: float) -> list[Row]:
    return [row for row in rows if row["created_at"] >= since // HOUR * HOUR]


def test_the_total(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        assert stats.total(since) == added_up(from_whole_hours(filled, since))


def test_the_total_of_a_time_that_is_over(stats: RequestQueries, filled: list[Row]) -> None:
    until = NOW - 10 * HOUR
    for since in SINCE:
        expected = [row for row in from_whole_hours(filled, since) if row["created_at"] < until]
        assert stats.total(since, until=until) == added_up(expected)


@pytest.mark.parametrize("step", ["hour", "day"])
def test_a_series_of_each_tier(
    stats: RequestQueries, filled: list[Row], step: Literal["hour", "day"]
) -> None:
    seconds = HOUR if step == "hour" else int(DAY)
    for since in SINCE:
        groups: dict[tuple[int, str], list[Row]] = collections.defaultdict(list)
        for row in from_whole_hours(filled, since):
            key = int(row["created_at"]) // seconds * seconds, row["target"] or ""
            groups[key].append(row)
        assert stats.series(since, step=step) == [
            (*key, added_up(rows)) for key, rows in sorted(groups.items())
        ]


def test_each_tiers_half_of_a_category(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
        for row in from_whole_hours(filled, since):
            groups[row["category"] or "none", row["target"] or ""].append(row)
        found = {(one.category, one.target): one.sums for one in stats.halves(since)}
        assert found == {key: added_up(rows) for key, rows in groups.items()}


def test_by_each_dimension(stats: RequestQueries, filled: list[Row]) -> None:
    for dimension in get_args(Dimension):
        for since in SINCE:
            check_by(stats, filled, dimension, since)


def test_dollars_by_the_hour(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        expected: dict[int, list[int]] = {}
        for row in from_whole_hours(filled, since):
            sums = expected.setdefault(start_of_hour(row["created_at"]), [0, 0])
            if row["reason"] in ("score", "shadow", "budget"):
                sums[0] += picodollars(row["cloud_cost_usd"])
            elif row["target"] == "cloud":
                sums[1] += picodollars(row["cost_usd"])
        assert stats.spend_by_hour(since) == [
            (hour, routed / PICODOLLARS, other / PICODOLLARS)
            for hour, (routed, other) in sorted(expected.items())
        ]


def test_dollars_by_score(stats: RequestQueries, filled: list[Row]) -> None:
    for since in SINCE:
        expected: collections.Counter[tuple[int, int]] = collections.Counter()
        for row in from_whole_hours(filled, since):
            if row["score"] is not None:
                key = start_of_hour(row["created_at"]), min(int(row["score"] * 100), 99)
                expected[key] += picodollars(row["cloud_cost_usd"])
        assert stats.spend_by_score(since) == [
            (*key, usd / PICODOLLARS) for key, usd in sorted(expected.items())
        ]


def check_by(stats: RequestQueries, filled: list[Row], dimension: Dimension, since: float) -> None:
    groups: dict[str, list[Row]] = collections.defaultdict(list)
    for row in from_whole_hours(filled, since):
        groups[value_of(row, dimension)].append(row)
    found = stats.by(dimension, since)
    assert dict(found) == {value: added_up(rows) for value, rows in groups.items()}
    in_order: Callable[[Group], Any] = (
        (lambda group: group.value)
        if dimension in ("day", "hour")
        else (lambda group: -group.sums.requests)
    )
    assert found == sorted(found, key=in_order)


def test_since_cuts_at_whole_hours(url: str, stats: RequestQueries) -> None:
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
        assert sum(one.requests for one in stats.quantiles(since)) == 2 * expected
        assert sum(group.sums.requests for group in stats.by("hour", since)) == expected


# ── How measures are spread ───────────────────────────────────────────────────────────────────


def test_quantiles_are_at_most_six_percent_off(url: str, stats: RequestQueries) -> None:
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
    found = {(one.measure, one.target): one for one in stats.quantiles()}
    shares = {"duration_ms": 1.0, "ttft_ms": 0.5, "overhead_ms": 0.25}
    for target in (Target.LOCAL, Target.CLOUD):
        for measure, share in shares.items():
            one = found[measure, target]
            assert one.requests == len(durations[target])
            for name, ms in one.ms.items():
                rank = float(name.removeprefix("p")) / 100
                true = np.quantile(durations[target], rank, method="inverted_cdf") * share
                assert ms == pytest.approx(true, rel=0.06)
    assert found.keys() == {
        *((measure, target) for measure in shares for target in ("local", "cloud")),
        ("decision_ms", "local"),
        ("duration_ms", "none"),
        ("overhead_ms", "none"),
    }
    assert found["decision_ms", "local"].ms == pytest.approx(
        {"p50": 3.0, "p95": 3.0, "p99": 3.0}, rel=0.06
    )
    assert 0 < found["duration_ms", "none"].ms["p99"] < 0.0011


def test_quantiles_of_both_tiers_together(stats: RequestQueries, filled: list[Row]) -> None:
    found = {(one.measure, one.target): one for one in stats.quantiles(together=True)}
    apart = {key: one for key, one in found.items() if key[1] != "all"}
    assert list(apart.values()) == stats.quantiles()
    whole = found["duration_ms", "all"]
    assert whole.requests == len(filled)
    true = np.quantile([row["duration_ms"] for row in filled], 0.5, method="inverted_cdf")
    assert whole.ms["p50"] == pytest.approx(true, rel=0.06)


def test_measures_of_long_ago_are_cut_at_whole_days(
    stats: RequestQueries, filled: list[Row]
) -> None:
    for since in SINCE:
        is_long_ago = ASKED_AT - since > FINE_SECONDS
        rows = from_whole_hours(filled, since // DAY * DAY if is_long_ago else since)
        expected = [0] * 100
        for row in rows:
            if row["score"] is not None:
                expected[min(int(row["score"] * 100), 99)] += 1
        assert stats.scores(since) == expected
        dollars = sum(picodollars(r["cloud_cost_usd"]) for r in rows if r["score"] is not None)
        assert sum(one.cloud_usd for one in stats.scored(since)) == pytest.approx(
            dollars / PICODOLLARS
        )
        durations = [one for one in stats.quantiles(since) if one.measure == "duration_ms"]
        assert sum(one.requests for one in durations) == len(rows)


# ── Single requests ───────────────────────────────────────────────────────────────────────────


Given = tuple[str, float, str, float, str]  # request, when, tier, score, judge


def give_judgements(url: str, judgements: list[Given]) -> None:
    names = ("request_id", "created_at", "target", "model", "score", "judge_model")
    rows = [(key, at, tier, f"{tier}-model", *rest) for key, at, tier, *rest in judgements]
    with connected(url) as database, database.atomic():
        insert_rows(database, "judgements", names, rows)


def test_one_request_with_all_that_is_known_of_it(url: str, stats: RequestQueries) -> None:
    record = finished(turns=[("system", "Be nice."), ("user", "Grüße")], streamed=True)
    plain = finished()
    with opened(url) as store:
        store.add(record)
        store.add(plain)
        until(lambda: len(read(url)) == 2)
        store.rate(record.id, 0.5, "Good.", client=None)
    give_judgements(url, [(record.id, NOW, "cloud", 9.0, "a"), (record.id, NOW, "local", 7.5, "a")])
    row = stats.find(record.id)
    assert row is not None
    assert row["prompt"] == [
        {"role": "system", "content": "Be nice."},
        {"role": "user", "content": "Grüße"},
    ]
    assert row["streamed"] is True
    scores = {one["target"]: one["score"] for one in row["judgements"]}
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
    bare = stats.find(plain.id)
    assert bare is not None
    assert (bare["prompt"], bare["judgements"], bare["feedback"]) == (None, [], None)
    for unknown in ("req_unknown", "", "'; DROP TABLE requests; --", "req_\0"):
        assert stats.find(unknown) is None


def test_every_request_is_exported(url: str, stats: RequestQueries, filled: list[Row]) -> None:
    rated = [row["id"] for row in filled[::50]]
    with opened(url) as store:
        for request_id in rated:
            client = next(row["client_key_hash"] for row in filled if row["id"] == request_id)
            assert store.rate(request_id, -1.0, None, client=client) is not None
    give_judgements(url, [(row["id"], NOW, "local", 5.0, "a") for row in filled[::7]])
    for since in SINCE:
        expected = [row["id"] for row in filled if row["created_at"] >= since]
        assert [row["id"] for row in stats.export(since)] == expected
    judged = {row["id"] for row in filled[::7]}
    for row, plain in zip(stats.export(), filled, strict=True):
        assert len(row.pop("judgements")) == (row["id"] in judged)
        assert (row.pop("feedback") is not None) == (row["id"] in rated)
        prompt = row.pop("prompt")
        assert prompt == (None if plain["prompt"] is None else json.loads(plain["prompt"]))
        assert row == {name: value for name, value in plain.items() if name != "prompt"}


def test_hashed_prompts_stay_hashes(url: str, stats: RequestQueries) -> None:
    record = finished(turns=[("user", "secret")])
    with opened(url, prompts="hash") as store:
        store.add(record)
    row = stats.find(record.id)
    assert row is not None
    assert len(row["prompt"]) == 64


# ── Lists ─────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_come_page_by_page(stats: RequestQueries, filled: list[Row]) -> None:
    expected = sorted(filled, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    for values in ({}, {"target": "cloud"}, {"target": "", "ending": "ok"}, {"reason": "shadow"}):
        wanted = [
            row["id"] for row in expected if all((row[k] or "") == v for k, v in values.items())
        ]
        seen: list[str] = []
        before = None
        while True:
            page = stats.newest(limit=90, before=before, values=values)
            seen += [row["id"] for row in page.rows]
            if (before := page.more) is None:
                break
        assert seen == wanted
    since = NOW - 10.5 * HOUR
    found = stats.newest(since, limit=1_000)
    assert [row["id"] for row in found.rows] == [
        row["id"] for row in expected if row["created_at"] >= since
    ]
    assert (found.more, found.searched) == (None, None)


def test_of_one_time_each_is_listed_once(url: str, stats: RequestQueries) -> None:
    records = [finished(created_at=NOW) for _ in range(7)]
    fill(url, records)
    first = stats.newest(limit=4)
    rest = stats.newest(limit=4, before=first.more)
    listed = [row["id"] for row in (*first.rows, *rest.rows)]
    assert listed == sorted((record.id for record in records), reverse=True)


def test_a_search_looks_at_so_many_and_says_so(
    stats: RequestQueries, filled: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.storage.queries.SEARCHED", 100)
    expected = sorted(filled, key=lambda row: (row["created_at"], row["id"]), reverse=True)
    wanted = [row["id"] for row in expected if "poem" in (row["prompt"] or "")]
    seen: list[str] = []
    before, looks = None, 0
    while True:
        page = stats.newest(limit=1_000, before=before, text="A POEM")
        looks += page.searched == 100
        seen += [row["id"] for row in page.rows]
        if (before := page.more) is None:
            break
    assert seen == wanted
    assert looks >= len(filled) // 100 - 1


# ── What judges say ───────────────────────────────────────────────────────────────────────────


def judge_at_random(url: str, rows: list[Row]) -> list[Given]:
    rng = random.Random(8)
    given = [
        (row["id"], row["created_at"] + 60, tier, rng.choice([1, 2.5, 7, 9.9, 10]), judge)
        for row in rows
        for tier in ("local", "cloud")
        for judge in ("a", "b")
        if rng.random() < 0.6
    ]
    give_judgements(url, given)
    return given


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_grades_by_category_and_tier(url: str, stats: RequestQueries, filled: list[Row]) -> None:
    """A request that was drawn with a probability of 1 in 10 stands for ten."""
    given = judge_at_random(url, filled)
    drawn = {row["id"]: 0.1 for row in filled[::3]}
    with connected(url) as database:
        for key, propensity in drawn.items():
            sample = {"created_at": NOW, "kind": "pair", "turn": 0.5, "state": "done"}
            sample |= {"request_id": key, "propensity": propensity, "attempts": 1, "next_at": 0.0}
            Sample.insert(**sample).execute(database)
    category = {row["id"]: row["category"] or "none" for row in filled}
    for since in (0.0, NOW - 10 * HOUR):
        sums: dict[tuple[str, str], list[float]] = {}
        for key, at, tier, score, _ in given:
            if at >= since:
                weight = 1 / drawn.get(key, 1.0)
                before = sums.get((category[key], tier), [0, 0.0, 0.0])
                sums[category[key], tier] = [
                    before[0] + 1, before[1] + weight * score, before[2] + weight,
                ]  # fmt: skip
        assert {
            (one.category, one.target): (one.answers, one.score)
            for one in opinions(stats).graded(since)
        } == {
            key: (number, pytest.approx(total / weight))
            for key, (number, total, weight) in sums.items()
        }


def test_pairs_with_the_scores_of_their_requests(
    url: str, stats: RequestQueries, filled: list[Row]
) -> None:
    scores: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for key, _, tier, score, _ in judge_at_random(url, filled):
        scores[key, tier].append(score)
    expected = [
        (row["score"], mean(scores[row["id"], "local"]), mean(scores[row["id"], "cloud"]), 1.0)
        for row in filled
        if row["score"] is not None
        and (row["id"], "local") in scores
        and (row["id"], "cloud") in scores
    ]
    assert len(expected) > 100
    assert np.array(sorted(opinions(stats).weighed())) == pytest.approx(np.array(sorted(expected)))
    assert opinions(stats).weighed(NOW + HOUR) == []


def test_the_requests_judged_on_both_sides(
    url: str, stats: RequestQueries, filled: list[Row]
) -> None:
    scores: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for request_id, _, tier, score, _ in judge_at_random(url, filled):
        scores[request_id, tier].append(score)
    expected = [
        row for row in filled if (row["id"], "local") in scores and (row["id"], "cloud") in scores
    ]
    for since in SINCE:
        newest = [row["id"] for row in expected if row["created_at"] >= since]
        assert [one.id for one in opinions(stats).judged(since)] == newest
    for one, row in zip(opinions(stats).judged(), expected, strict=True):
        assert one.local_score == pytest.approx(mean(scores[one.id, "local"]))
        assert one.cloud_score == pytest.approx(mean(scores[one.id, "cloud"]))
        assert (one.local_model, one.cloud_model) == ("local-model", "cloud-model")
        assert one.cloud_cost_usd == row["cloud_cost_usd"]
        assert one.session_id == row["session_id"]
        prompt = row["prompt"]
        turns = [(turn["role"], turn["content"]) for turn in json.loads(prompt or "[]")]
        assert one.turns == (turns if prompt else None)


def sample_at_random(url: str, rows: list[Row]) -> dict[str, float]:
    """Propensities of most of them; the others were judged by somebody without a draw."""
    rng = random.Random(9)
    drawn = {row["id"]: rng.uniform(0.005, 1) for row in rows if rng.random() < 0.8}
    names = ("request_id created_at kind propensity turn state attempts next_at").split()
    samples = [(key, NOW, "pair", chance, 0.5, "done", 1, 0.0) for key, chance in drawn.items()]
    with connected(url) as database, database.atomic():
        insert_rows(database, "samples", names, samples)
    return drawn


def compare_at_random(url: str, rows: list[Row]) -> list[tuple[str, float, str, str]]:
    """(request, when, judge, verdict)"""
    rng = random.Random(10)
    given = [
        (row["id"], row["created_at"] + 60, judge, rng.choice(["local", "tie", "cloud"]))
        for row in rows
        for judge in ("a", "b")
        if rng.random() < 0.5
    ]
    names = ("request_id", "created_at", "judge_model", "verdict", "first", "swapped")
    with connected(url) as database, database.atomic():
        insert_rows(database, "preferences", names, [(*one, "A", "B") for one in given])
    return given


def test_the_answers_quality(url: str, stats: RequestQueries) -> None:
    """Against plain loops: the histogram, and with which weights the estimates are made."""
    records = any_records(1_000)
    for number, record in enumerate(records):  # or most would be of one conversation
        record.session_id = record.session_id and f"s{number // 3}"
    fill(url, records)
    rows = read(url)
    given = judge_at_random(url, rows)
    propensities, verdicts = sample_at_random(url, rows), compare_at_random(url, rows)
    for since in SINCE:
        quality = opinions(stats).quality(since)
        newer = [one for one in given if one[1] >= since]
        check_scores(quality, newer)
        routed = [row for row in reversed(rows) if row["score"] is not None]
        expected = quality_of(
            quality.scores,
            **basis(routed, propensities, newer, [one for one in verdicts if one[1] >= since]),
        )
        assert quality._replace(scores={}) == expected._replace(scores={})
        if since == 0:
            assert quality.recovered is None  # chance made the scores: there is no gap
            assert quality.good_local is not None
            assert quality.local_as_good is not None
            assert quality.mean_scores.keys() == {"local", "cloud"}
            assert all(quality.counted[name].requests > 100 for name in quality.counted)


def check_scores(quality: Quality, given: list[Given]) -> None:
    counts = {tier: [0] * 10 for _, _, tier, _, _ in given}
    totals: dict[str, float] = collections.defaultdict(float)
    for _, _, tier, score, _ in given:
        counts[tier][int(np.ceil(score)) - 1] += 1
        totals[tier] += score
    assert {tier: list(found[0]) for tier, found in quality.scores.items()} == counts
    for tier, (_, total) in quality.scores.items():
        assert total == pytest.approx(totals[tier])


def basis(
    rows: list[Row],
    propensities: dict[str, float],
    given: list[Given],
    verdicts: list[tuple[str, float, str, str]],
) -> dict[str, Any]:
    """What `quality_of` is to be given."""
    scores: dict[str, dict[str, list[float]]] = collections.defaultdict(dict)
    for request_id, _, tier, score, _ in given:
        scores[request_id].setdefault(tier, []).append(score)
    as_good: dict[str, list[float]] = collections.defaultdict(list)
    for request_id, _, _, verdict in verdicts:
        as_good[request_id].append(float(verdict != "cloud"))
    pairs, compared = [], []
    answers: dict[str, list[Judged]] = {}
    for row in rows:
        judged = scores.get(row["id"], {})
        common = (1 / propensities.get(row["id"], 1.0), row["session_id"])
        if len(judged) == 2:
            local, cloud = mean(judged["local"]), mean(judged["cloud"])
            prices = (row["cost_usd"], row["cloud_cost_usd"])
            pairs.append(Pair(local, cloud, row["target"] == "cloud", *common, *prices))
        if row["target"] in judged:
            got = Judged(mean(judged[row["target"]]), *common)
            answers.setdefault(row["target"], []).append(got)
        if row["id"] in as_good:
            compared.append(Judged(mean(as_good[row["id"]]), *common))
    return {"pairs": pairs, "answers": answers, "compared": compared}


def test_the_share_of_the_gap_that_was_won_back(url: str, stats: RequestQueries) -> None:
    """The cloud is better by 4 at every other request; of these half went there."""
    tiers = [Target.CLOUD, Target.LOCAL, Target.LOCAL, Target.LOCAL] * 100
    records = [finished(created_at=NOW, target=tier, score=0.5) for tier in tiers]
    forced = [finished(created_at=NOW, target=Target.LOCAL) for _ in range(300)]
    fill(url, records + forced)
    judgements = [
        (record.id, NOW, tier, 9.0 if tier == "cloud" and number % 2 == 0 else 5.0, "a")
        for number, record in enumerate(records)
        for tier in ("local", "cloud")
    ]
    give_judgements(url, judgements)
    for tier, score in (("local", 1.0), ("cloud", 10.0)):  # nobody decided where these go
        give_judgements(url, [(one.id, NOW, tier, score, "a") for one in forced])
    found = opinions(stats).quality().recovered
    assert found is not None
    assert found.ratio == pytest.approx(0.5)
    assert 0.35 < found.low < 0.5 < found.high < 0.65
    interval = f"{found.low:.1%} to {found.high:.1%}"
    assert_lines(
        said(stats),
        f"share of the gap between the tiers recovered 50.0% {interval} 400",
        "saved at equal quality, of an all-cloud bill not enough data (0 of 100) 0",
        "share of pairs with the local answer as good not enough data (0 of 100) 0",
    )
    told = stats_report(stats, DEFAULT_DIMENSIONS, 0.0)["quality"]
    assert told["recovered"] == {
        "value": found.ratio, "low": found.low, "high": found.high, "requests": 400,
        "missing": None,
    }  # fmt: skip
    assert told["saved"]["missing"] == "not enough data (0 of 100)"
    assert told["good_local"]["value"] == 0.0


def test_tiers_that_do_not_differ_have_no_gap_to_win_back(url: str, stats: RequestQueries) -> None:
    records = [finished(created_at=NOW, target=Target.LOCAL, score=0.5) for _ in range(200)]
    fill(url, records)
    tiers = ("local", "cloud")
    give_judgements(url, [(one.id, NOW, tier, 8.0, "a") for one in records for tier in tiers])
    assert opinions(stats).quality().recovered is None
    words = "share of the gap between the tiers recovered no gap between the tiers to be seen 200"
    assert_lines(said(stats), words, "mean score of local answers 8.00 8.00 to 8.00 200")


# ── Nothing, and no answer ────────────────────────────────────────────────────────────────────


def test_an_empty_database_says_nothing(stats: RequestQueries) -> None:
    assert stats.total() == Sums()
    assert [stats.by(dimension) for dimension in get_args(Dimension)] == [[]] * 8
    assert (stats.quantiles(), opinions(stats).judged(), list(stats.export())) == (
        [],
        [],
        [],
    )
    assert stats.scores() == [0] * 100
    assert opinions(stats).quality() == quality_of({}, pairs=[], answers={}, compared=[])
    assert stats.find("req_1") is None
    assert said(stats) == "No requests are recorded yet.\n"
    assert said(stats, since=NOW) == "No requests are recorded since 2027-01-15 08:00 UTC.\n"
    assert stats_report(stats, DEFAULT_DIMENSIONS, 0.0)["total"] == Sums()._asdict()


def test_what_is_asked_is_only_read(url: str, stats: RequestQueries) -> None:
    with pytest.raises(Exception, match=r"(?i)read-?only"), stats._asking() as database:
        database.execute_sql("DELETE FROM requests")


def test_a_database_that_is_not_there(sqlite_url: str, postgres_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="the proxy has recorded nothing"):
        RequestQueries.open(config_of(sqlite_url))
    with pytest.raises(StoreUnavailable, match="has schema 0, not"):
        RequestQueries.open(config_of(postgres_url))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        RequestQueries.open(config_of(f"{postgres_url}_unknown"))


# ── Drift, and a candidate ──────────────────────────────────────────────────────────────────────


def asked(number: int, *, hours: float, score: float | None, text: str, reason: Reason) -> Any:
    """So many requests of so long before the question."""
    return [
        finished(
            created_at=ASKED_AT - hours * HOUR,
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


def test_drift_is_of_what_was_routed(url: str, stats: RequestQueries) -> None:
    routed = asked(300, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE)
    routed += asked(300, hours=20, score=0.75, text=POEM, reason=Reason.STICKY)
    forced = asked(900, hours=1, score=None, text="What is it?", reason=Reason.FORCED)
    fill(url, routed + forced)
    found = stats.drift(REFERENCE)
    assert found is not None
    assert (found.requests, found.score, found.category) == (600, 0, 0)
    fill(url, asked(1_400, hours=3, score=0.25, text=MATHS, reason=Reason.UNHEALTHY))
    found = stats.drift(REFERENCE)
    assert found is not None
    assert found == drift.measure(REFERENCE, [1_700, 300], {"maths": 1_700, "writing": 300})
    assert found.is_large


def test_drift_is_of_a_week_where_a_day_is_too_little(url: str, stats: RequestQueries) -> None:
    fill(url, asked(499, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) is None
    fill(url, asked(101, hours=6 * 24, score=0.75, text=POEM, reason=Reason.SCORE))
    fill(url, asked(900, hours=9 * 24, score=0.75, text=POEM, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) == drift.measure(
        REFERENCE, [499, 101], {"maths": 499, "writing": 101}
    )
    fill(url, asked(1, hours=2, score=0.25, text=MATHS, reason=Reason.SCORE))
    assert stats.drift(REFERENCE) == drift.measure(REFERENCE, [500, 0], {"maths": 500})


PRICE = Price(input=2_000_000, output=3_000_000)  # picodollars


def compared_row(rng: random.Random) -> Any:
    scores = {"score": rng.random(), "candidate_score": rng.random()}
    if rng.random() < 0.3:
        scores["candidate_score"] = None
    target = rng.choice([*Target])
    tokens = rng.randrange(1_000), rng.randrange(1_000)
    cloud = tokens[0] * 5e-6 + tokens[1] * 7e-6
    local = tokens[0] * 2e-6 + tokens[1] * 3e-6
    known = rng.random() < 0.9
    return finished(
        created_at=NOW - rng.random() * 10 * HOUR,
        target=target,
        threshold=rng.choice([0.4, 0.6]),
        input_tokens=tokens[0] if known else None,
        output_tokens=tokens[1] if known else None,
        cost_usd=(cloud if target is Target.CLOUD else local) if known else None,
        cloud_cost_usd=cloud if known else None,
        **scores,
    )


def test_what_a_candidate_would_have_done(url: str, stats: RequestQueries) -> None:
    rng = random.Random(3)
    fill(url, [compared_row(rng) for _ in range(300)])
    since = NOW - 5 * HOUR
    rows = [
        row
        for row in read(url)
        if row["candidate_score"] is not None and row["created_at"] >= since
    ]

    def usd(row: Row, *, stays: bool) -> float:
        """The tiers' prices, by the plainest way."""
        tokens = row["input_tokens"] or 0, row["output_tokens"] or 0
        return tokens[0] * (2e-6 if stays else 5e-6) + tokens[1] * (3e-6 if stays else 7e-6)

    live = [row["score"] >= row["threshold"] for row in rows]
    candidate = [row["candidate_score"] >= 0.7 for row in rows]
    found = opinions(stats).compared(since, threshold=0.7, local_price=PRICE)
    assert found.requests == len(rows) > 50
    assert found.agreed == sum(map(operator.eq, live, candidate))
    assert (found.live_cloud, found.candidate_cloud) == (live.count(False), candidate.count(False))
    for sum_usd, stays in (
        (found.live_usd, live),
        (found.candidate_usd, candidate),
        (found.all_cloud_usd, [False] * len(rows)),
    ):
        wanted = sum(usd(row, stays=one) for row, one in zip(rows, stays, strict=True))
        assert sum_usd == pytest.approx(wanted)


def test_drift_and_candidate_are_told(url: str, stats: RequestQueries) -> None:
    made = asked(400, hours=1, score=0.25, text=MATHS, reason=Reason.SCORE)
    made += asked(200, hours=1, score=0.75, text=POEM, reason=Reason.SCORE)
    for record in made[:100]:
        record.threshold, record.candidate_score = 0.5, 0.9
        record.cost_usd = record.cloud_cost_usd = 0.01
        record.target = Target.CLOUD
    fill(url, made)
    assert "drift" not in said(stats)
    context = RouterContext(REFERENCE, 0.8)
    console = Console(file=io.StringIO(), width=120)
    console.print(stats_tables(stats, (), 0.0, context=context))
    assert_lines(
        console.file.getvalue(),
        "drift of the last 600 scored requests",
        "score 0.11 some",
        "category 0.11 some writing 50% → 33%, maths 50% → 67%",
        "candidate: agrees on 0.0% of 100",
        "live 100.0% $1.00 100.0%",
        "candidate 0.0% $0.00 0.0%",
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


def said(
    stats: RequestQueries, *, by: tuple[str, ...] = DEFAULT_DIMENSIONS, since: float = 0.0
) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(stats_tables(stats, by, since))
    text = console.file.getvalue()
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def test_tables_for_people(url: str, stats: RequestQueries) -> None:
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
    fill(url, [local, local_again(local), cloud])
    text = said(stats, by=tuple(DIMENSIONS))
    assert_lines(
        text,
        "requests   3",
        "failed     1 (33.3%)",
        "spent      $1.00",
        "saved      $6.00, 86% of what all of it would have cost in the cloud",
        "tokens     2,000 in (200 cached), 400 out",
        "estimated  the tokens of 1 requests, which nobody reported",
        "tier   requests  share failed spent saved",
        "local  2  66.7%  $0.00 $6.00",
        "cloud  1  33.3% 1 $1.00 $0.00",
        "translation 2 66.7% $0.00 $6.00",
        "2027-01-15 3 100.0% 1 $1.00 $6.00",
        "whole request local 2 106 106 106",
    )
    plain = stats_report(stats, tuple(DIMENSIONS), 0.0)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["by"].keys() == DIMENSIONS.keys()
    assert plain["by"]["tier"][0] == {"value": "local", **stats.by("target")[0].sums._asdict()}
    assert "since 2027-01-15 07:00 UTC" in said(stats, since=NOW - HOUR)


def local_again(record: Any) -> Any:
    names = ("created_at reason duration_ms upstream_ms target model input_tokens turns saved_usd "
             "cached_input_tokens output_tokens cost_usd cloud_cost_usd").split()  # fmt: skip
    return finished(**{name: getattr(record, name) for name in names})


def assert_lines(text: str, *expected: str) -> None:
    """Lines with these words, whatever the space between them."""
    lines = {" ".join(line.split()) for line in text.splitlines()}
    for line in expected:
        assert " ".join(line.split()) in lines, text


EXPLAINED = {
    "by-score": (
        {
            "requested_model": "auto", "target": Target.LOCAL, "model": "phi3", "streamed": True,
            "reason": Reason.SCORE, "score": 0.75, "threshold": 0.5, "decision_ms": 2.0,
            "ttft_ms": 150.0, "upstream_ms": 1_200.0, "duration_ms": 1_203.0, "status": 200,
            "input_tokens": 1_000, "cached_input_tokens": 10, "output_tokens": 200,
            "cost_usd": 0.0, "saved_usd": 0.00027,
        },
        """\
ID: chat.completions, 2027-01-15 08:00:00 UTC, asked for auto, as a stream.
It went to phi3 (local): its score 0.7500 is not below the threshold 0.5000.
It took: decision 2 ms, first token 150 ms, upstream 1,200 ms, whole request 1,203 ms.
Tokens: 1,000 in, of them 10 cached; 200 out.
It cost $0.000000000, and saved $0.000270000.
It ended: ok, status 200""",
    ),
    "fallback": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.FALLBACK, "score": 0.4,
            "threshold": 0.5, "fallback_from": Target.LOCAL, "fallback_why": "5xx",
            "duration_ms": 12.0, "status": 200, "input_tokens": 3,
            "usage_source": UsageSource.ESTIMATED, "cost_usd": 0.001,
        },
        """\
ID: chat.completions, 2027-01-15 08:00:00 UTC, asked for no model.
It went to gpt (cloud): the other tier failed before its first word (by itself, its score 0.4000 \
is below the threshold 0.5000).
The local tier had failed before: 5xx.
It took: whole request 12 ms.
Tokens (estimated): 3 in, of them 0 cached; 0 out.
It cost $0.001000000.
It ended: ok, status 200""",
    ),
    "refused": (
        {
            "requested_model": "gpt-9", "duration_ms": 0.25, "status": 404,
            "ending": Ending.REJECTED, "error": "No such model.", "error_code": "model_not_found",
        },
        """\
ID: chat.completions, 2027-01-15 08:00:00 UTC, asked for gpt-9.
It reached no tier.
It took: whole request 0.25 ms.
It ended: rejected (model_not_found), status 404: No such model.""",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_a_request_is_explained(
    url: str, stats: RequestQueries, values: dict[str, Any], expected: str
) -> None:
    record = finished(created_at=NOW, **values)
    fill(url, [record])
    row = stats.find(record.id)
    assert row is not None
    assert explain(row) == expected.replace("ID", record.id)


def test_opinions_are_explained(url: str, stats: RequestQueries) -> None:
    record = finished()
    fill(url, [record])
    with opened(url) as store:
        store.rate(record.id, -1.0, None, client=None)
    give_judgements(url, [(record.id, NOW, "local", 7.5, "gpt-4o")])
    row = stats.find(record.id)
    assert row is not None
    assert explain(row).splitlines()[-2:] == [
        "gpt-4o gave the local answer 7.5 of 10.",
        "The client rated it -1.",
    ]


NEVER_GIVEN = {Reason.ESCALATED, Reason.SHADOW}  # by this version


@pytest.mark.parametrize("reason", sorted(set(Reason) - NEVER_GIVEN))
def test_every_reason_is_explained(sqlite_url: str, reason: Reason) -> None:
    record = finished(target=Target.LOCAL, model="phi3", reason=reason)
    fill(sqlite_url, [record])
    with RequestQueries.open(config_of(sqlite_url)) as stats:
        row = stats.find(record.id)
    assert row is not None
    (line,) = (line for line in explain(row).splitlines() if line.startswith("It went to"))
    assert len(line.removeprefix("It went to phi3 (local): ").split()) > 2
