"""Queries for judgements, ratings and shadow scores against plain loops, on both databases."""

import collections
import json
import operator
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from proxy.budget.pricing import Price
from proxy.cli.options import DEFAULT_DIMENSIONS
from proxy.cli.tables import stats_report
from proxy.evaluation.estimates import JudgedPair, JudgedValue, Quality, estimate_quality
from proxy.evaluation.queries import QualityQueries
from proxy.record import Target
from proxy.storage.database import insert_rows, open_database
from proxy.storage.queries import RequestQueries
from proxy.storage.tables import Sample
from reports import assert_lines, rendered_report
from stored import (
    DAY,
    HOUR,
    NOW,
    Grade,
    Row,
    add_judgements,
    config_of,
    connected,
    fill,
    finished,
    random_records,
    read,
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


def quality_of(stats: RequestQueries) -> QualityQueries:
    return QualityQueries.sharing(stats)


@pytest.fixture
def filled(url: str, stats: RequestQueries) -> list[Row]:
    """Random rows, the oldest first."""
    fill(url, random_records(700))
    return read(url)


# ── Judgements ────────────────────────────────────────────────────────────────────────────────


def judge_at_random(url: str, rows: list[Row]) -> list[Grade]:
    rng = random.Random(8)
    grades = [
        (row["id"], row["created_at"] + 60, tier, rng.choice([1, 2.5, 7, 9.9, 10]), judge)
        for row in rows
        for tier in ("local", "cloud")
        for judge in ("a", "b")
        if rng.random() < 0.6
    ]
    add_judgements(url, grades)
    return grades


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_grades_by_category_and_tier_are_weighted(
    url: str, stats: RequestQueries, filled: list[Row]
) -> None:
    """A request with a propensity of 1 in 10 counts ten times."""
    grades = judge_at_random(url, filled)
    drawn = {row["id"]: 0.1 for row in filled[::3]}
    with connected(url) as database:
        for key, propensity in drawn.items():
            sample = {"created_at": NOW, "kind": "pair", "turn": 0.5, "state": "done"}
            sample |= {"request_id": key, "propensity": propensity, "attempts": 1, "next_at": 0.0}
            Sample.insert(**sample).execute(database)
    category = {row["id"]: row["category"] or "none" for row in filled}
    for since in (0.0, NOW - 10 * HOUR):
        sums: dict[tuple[str, str], list[float]] = {}
        for key, at, tier, score, _ in grades:
            if at >= since:
                weight = 1 / drawn.get(key, 1.0)
                before = sums.get((category[key], tier), [0, 0.0, 0.0])
                sums[category[key], tier] = [
                    before[0] + 1, before[1] + weight * score, before[2] + weight,
                ]  # fmt: skip
        assert {
            (group.category, group.target): (group.answers, group.score)
            for group in quality_of(stats).grades_by_category(since)
        } == {
            key: (number, pytest.approx(total / weight))
            for key, (number, total, weight) in sums.items()
        }


def test_pairs_have_the_merit_of_their_request(
    url: str, stats: RequestQueries, filled: list[Row]
) -> None:
    scores: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for key, _, tier, score, _ in judge_at_random(url, filled):
        scores[key, tier].append(score)
    expected = [
        (row["merit"], mean(scores[row["id"], "local"]), mean(scores[row["id"], "cloud"]), 1.0)
        for row in filled
        if row["merit"] is not None
        and (row["id"], "local") in scores
        and (row["id"], "cloud") in scores
    ]
    assert len(expected) > 100
    pairs = quality_of(stats).weighted_pairs()
    assert np.array(sorted(pair[:4] for pair in pairs)) == pytest.approx(np.array(sorted(expected)))
    usd = {row["merit"]: row["cloud_cost_usd"] for row in filled}
    assert all(pair.cloud_usd == usd[pair.merit] for pair in pairs if pair.merit != 0.9999)
    assert quality_of(stats).weighted_pairs(NOW + HOUR) == []


def test_requests_judged_on_both_tiers_are_listed(
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
        assert [judged.id for judged in quality_of(stats).judged_requests(since)] == newest
    for judged, row in zip(quality_of(stats).judged_requests(), expected, strict=True):
        assert judged.local_score == pytest.approx(mean(scores[judged.id, "local"]))
        assert judged.cloud_score == pytest.approx(mean(scores[judged.id, "cloud"]))
        assert (judged.local_model, judged.cloud_model) == ("local-model", "cloud-model")
        assert judged.cloud_cost_usd == row["cloud_cost_usd"]
        assert judged.session_id == row["session_id"]
        prompt = row["prompt"]
        turns = [(turn["role"], turn["content"]) for turn in json.loads(prompt or "[]")]
        assert judged.turns == (turns if prompt else None)


def sample_at_random(url: str, rows: list[Row]) -> dict[str, float]:
    """Propensities of most rows; the others were judged without sampling."""
    rng = random.Random(9)
    drawn = {row["id"]: rng.uniform(0.005, 1) for row in rows if rng.random() < 0.8}
    names = ("request_id created_at kind propensity turn state attempts next_at").split()
    samples = [(key, NOW, "pair", chance, 0.5, "done", 1, 0.0) for key, chance in drawn.items()]
    with connected(url) as database, database.atomic():
        insert_rows(database, "samples", names, samples)
    return drawn


def compare_at_random(url: str, rows: list[Row]) -> list[tuple[str, float, str, str]]:
    """Write random verdicts; return (request, time, judge, verdict)."""
    rng = random.Random(10)
    verdicts = [
        (row["id"], row["created_at"] + 60, judge, rng.choice(["local", "tie", "cloud"]))
        for row in rows
        for judge in ("a", "b")
        if rng.random() < 0.5
    ]
    names = ("request_id", "created_at", "judge_model", "verdict", "first", "swapped")
    with connected(url) as database, database.atomic():
        insert_rows(database, "preferences", names, [(*verdict, "A", "B") for verdict in verdicts])
    return verdicts


def test_quality_equals_plain_loops(url: str, stats: RequestQueries) -> None:
    """The histogram, and the weights of the estimates."""
    records = random_records(1_000)
    for number, record in enumerate(records):  # else most would belong to one conversation
        record.session_id = record.session_id and f"s{number // 3}"
    fill(url, records)
    rows = read(url)
    grades = judge_at_random(url, rows)
    propensities, verdicts = sample_at_random(url, rows), compare_at_random(url, rows)
    for since in SINCE:
        quality = quality_of(stats).quality(since)
        newer = [grade for grade in grades if grade[1] >= since]
        check_scores(quality, newer)
        routed = [row for row in reversed(rows) if row["merit"] is not None]
        expected = estimate_quality(
            quality.scores,
            **basis(
                routed,
                propensities,
                newer,
                [verdict for verdict in verdicts if verdict[1] >= since],
            ),
        )
        assert quality._replace(scores={}) == expected._replace(scores={})
        if since == 0:
            assert quality.recovered is None  # the scores are random: there is no gap
            assert quality.good_local is not None
            assert quality.local_as_good is not None
            assert quality.mean_scores.keys() == {"local", "cloud"}
            assert all(quality.counted[name].requests > 100 for name in quality.counted)


def check_scores(quality: Quality, grades: list[Grade]) -> None:
    counts = {tier: [0] * 10 for _, _, tier, _, _ in grades}
    totals: dict[str, float] = collections.defaultdict(float)
    for _, _, tier, score, _ in grades:
        counts[tier][int(np.ceil(score)) - 1] += 1
        totals[tier] += score
    assert {tier: list(histogram[0]) for tier, histogram in quality.scores.items()} == counts
    for tier, (_, total) in quality.scores.items():
        assert total == pytest.approx(totals[tier])


def basis(
    rows: list[Row],
    propensities: dict[str, float],
    grades: list[Grade],
    verdicts: list[tuple[str, float, str, str]],
) -> dict[str, Any]:
    """The expected arguments of `estimate_quality`."""
    scores: dict[str, dict[str, list[float]]] = collections.defaultdict(dict)
    for request_id, _, tier, score, _ in grades:
        scores[request_id].setdefault(tier, []).append(score)
    as_good: dict[str, list[float]] = collections.defaultdict(list)
    for request_id, _, _, verdict in verdicts:
        as_good[request_id].append(float(verdict != "cloud"))
    pairs, compared = [], []
    answers: dict[str, list[JudgedValue]] = {}
    for row in rows:
        judged = scores.get(row["id"], {})
        common = (1 / propensities.get(row["id"], 1.0), row["session_id"])
        if len(judged) == 2:
            local, cloud = mean(judged["local"]), mean(judged["cloud"])
            prices = (row["cost_usd"], row["cloud_cost_usd"])
            pairs.append(JudgedPair(local, cloud, row["target"] == "cloud", *common, *prices))
        if row["target"] in judged:
            value = JudgedValue(mean(judged[row["target"]]), *common)
            answers.setdefault(row["target"], []).append(value)
        if row["id"] in as_good:
            compared.append(JudgedValue(mean(as_good[row["id"]]), *common))
    return {"pairs": pairs, "answers": answers, "compared": compared}


def test_the_recovered_share_of_the_quality_gap(url: str, stats: RequestQueries) -> None:
    """The cloud leads by 4 points on every other request, and answered half of these."""
    tiers = [Target.CLOUD, Target.LOCAL, Target.LOCAL, Target.LOCAL] * 100
    records = [finished(created_at=NOW, target=tier, score=0.5) for tier in tiers]
    forced = [finished(created_at=NOW, target=Target.LOCAL) for _ in range(300)]
    fill(url, records + forced)
    judgements = [
        (record.id, NOW, tier, 9.0 if tier == "cloud" and number % 2 == 0 else 5.0, "a")
        for number, record in enumerate(records)
        for tier in ("local", "cloud")
    ]
    add_judgements(url, judgements)
    for tier, score in (("local", 1.0), ("cloud", 10.0)):  # the router did not decide these
        add_judgements(url, [(record.id, NOW, tier, score, "a") for record in forced])
    share = quality_of(stats).quality().recovered
    assert share is not None
    assert share.ratio == pytest.approx(0.5)
    assert 0.35 < share.low < 0.5 < share.high < 0.65
    interval = f"{share.low:.1%} to {share.high:.1%}"
    assert_lines(
        rendered_report(stats),
        f"share of the quality gap recovered 50.0% {interval} 400",
        "saved at equal quality, of an all-cloud bill not enough data (0 of 100) 0",
        "share of pairs with the local answer as good not enough data (0 of 100) 0",
    )
    report = stats_report(stats, DEFAULT_DIMENSIONS, 0.0)["quality"]
    assert report["recovered"] == {
        "value": share.ratio, "low": share.low, "high": share.high, "requests": 400,
        "missing": None,
    }  # fmt: skip
    assert report["saved"]["missing"] == "not enough data (0 of 100)"
    assert report["good_local"]["value"] == 0.0


def test_equal_tiers_have_no_gap_to_recover(url: str, stats: RequestQueries) -> None:
    records = [finished(created_at=NOW, target=Target.LOCAL, score=0.5) for _ in range(200)]
    fill(url, records)
    tiers = ("local", "cloud")
    add_judgements(url, [(record.id, NOW, tier, 8.0, "a") for record in records for tier in tiers])
    assert quality_of(stats).quality().recovered is None
    words = "share of the quality gap recovered no clear gap between the tiers 200"
    assert_lines(rendered_report(stats), words, "mean score of local answers 8.00 8.00 to 8.00 200")


# ── The shadow router ─────────────────────────────────────────────────────────────────────────


PRICE = Price(input=2_000_000, output=3_000_000)  # picodollars


def compared_row(rng: random.Random) -> Any:
    scores = {"score": rng.random(), "candidate_score": rng.random()}
    if rng.random() < 0.5:
        scores["merit"] = rng.random()
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


def test_shadow_router_decisions_are_compared(url: str, stats: RequestQueries) -> None:
    rng = random.Random(3)
    fill(url, [compared_row(rng) for _ in range(300)])
    since = NOW - 5 * HOUR
    rows = [
        row
        for row in read(url)
        if row["candidate_score"] is not None and row["created_at"] >= since
    ]

    def usd(row: Row, *, is_local: bool) -> float:
        """The cost at the tiers' prices."""
        tokens = row["input_tokens"] or 0, row["output_tokens"] or 0
        return tokens[0] * (2e-6 if is_local else 5e-6) + tokens[1] * (3e-6 if is_local else 7e-6)

    live = [row["merit"] >= row["threshold"] for row in rows]
    shadow = [row["candidate_score"] >= 0.7 for row in rows]
    comparison = quality_of(stats).shadow_comparison(since, threshold=0.7, local_price=PRICE)
    assert comparison.requests == len(rows) > 50
    assert comparison.agreed == sum(map(operator.eq, live, shadow))
    assert (comparison.live_cloud, comparison.candidate_cloud) == (
        live.count(False),
        shadow.count(False),
    )
    for sum_usd, decisions in (
        (comparison.live_usd, live),
        (comparison.candidate_usd, shadow),
        (comparison.all_cloud_usd, [False] * len(rows)),
    ):
        expected = sum(usd(row, is_local=local) for row, local in zip(rows, decisions, strict=True))
        assert sum_usd == pytest.approx(expected)
