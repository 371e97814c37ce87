"""The judge queue: one judge per sample, and a daily budget."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from fakes import refused_address
from proxy.evaluation.judge_queue import CLAIM_SECONDS, JudgeQueue
from proxy.record import CallRecord, Target
from proxy.storage.database import StoreUnavailable, close_all, open_database
from stored import DAY, NOW, config_of, fill, finished, opened, read, until

pytest_plugins = ["databases"]

JUDGE = "judge-1"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@contextmanager
def queue(url: str, *, worker: str = "me", clock: Clock | None = None) -> Iterator[JudgeQueue]:
    database = open_database(config_of(url))
    try:
        yield JudgeQueue(database, worker=worker, clock=clock or Clock())
    finally:
        close_all(database)


def sampled(number: int, *, kind: str = "grade", **values: object) -> CallRecord:
    """A finished request that was sampled; its number determines its turn."""
    record = finished(
        target=Target.LOCAL, model="phi3", turns=[("user", f"Question {number}")],
        response=f"Answer {number}", score=0.5, **values,
    )  # fmt: skip
    record.sample = (kind, 0.25, number / 1_000)
    return record


def test_a_sampled_request_is_stored_with_its_propensity(url: str) -> None:
    record = sampled(7, kind="pair")
    record.body = '{"model":"auto"}'
    fill(url, [record, finished()])
    (row,) = read(url, "SELECT * FROM samples")
    assert row == {
        "request_id": record.id,
        "created_at": record.created_at,
        "kind": "pair",
        "propensity": 0.25,
        "turn": 0.007,
        "state": "pending",
        "attempts": 0,
        "next_at": 0.0,
        "claimed_by": None,
        "body": '{"model":"auto"}',
        "other_model": None,
        "other_response": None,
        "why": None,
        "evidence": None,
    }


def test_samples_are_claimed_in_random_order_by_one_judge_each(url: str) -> None:
    records = [sampled(number) for number in (3, 1, 2)]
    fill(url, records)
    with queue(url) as claims, queue(url, worker="other") as other:
        claimed = [judge.claim(JUDGE) for judge in (claims, other, claims, other)]
    assert [claim and claim.response for claim in claimed] == [
        "Answer 1", "Answer 2", "Answer 3", None,
    ]  # fmt: skip
    claim = claimed[0]
    assert claim is not None
    assert (claim.turns, claim.target, claim.model) == (
        [("user", "Question 1")],
        Target.LOCAL,
        "phi3",
    )


def test_concurrent_judges_never_claim_the_same_sample(url: str) -> None:
    fill(url, [sampled(number) for number in range(60)])
    start = threading.Barrier(4)

    def work(worker: int) -> list[str]:
        with queue(url, worker=str(worker)) as claims:
            start.wait()
            request_ids = []
            while (claim := claims.claim(JUDGE)) is not None:
                request_ids.append(claim.request_id)
                claims.finish(claim.request_id)
            return request_ids

    with ThreadPoolExecutor(4) as threads:
        request_ids = [key for keys in threads.map(work, range(4)) for key in keys]
    assert len(request_ids) == len(set(request_ids)) == 60
    assert read(url, "SELECT DISTINCT state FROM samples") == [{"state": "done"}]


def test_the_claim_of_a_dead_judge_expires(url: str) -> None:
    fill(url, [sampled(1)])
    clock = Clock()
    with queue(url, clock=clock) as dead, queue(url, worker="next", clock=clock) as alive:
        claim = dead.claim(JUDGE)
        assert claim is not None
        dead.save_grade(
            claim.request_id, Target.LOCAL, model="phi3", score=8, judge_model=JUDGE, reason="Good."
        )
        clock.now += CLAIM_SECONDS - 1
        assert alive.claim(JUDGE) is None
        clock.now += 2
        again = alive.claim(JUDGE)
    assert again is not None
    assert again.graded == {Target.LOCAL}  # this grade need not be paid for again


def test_a_slow_judge_keeps_its_claim(url: str) -> None:
    fill(url, [sampled(1)])
    clock = Clock()
    with queue(url, clock=clock) as slow, queue(url, worker="other", clock=clock) as other:
        claim = slow.claim(JUDGE)
        assert claim is not None
        for _ in range(3):  # each call is within CLAIM_SECONDS, all together are not
            clock.now += CLAIM_SECONDS - 1
            assert slow.reserve("judge", claim.request_id, JUDGE, 0.001, cap_usd=1) is not None
            assert other.claim(JUDGE) is None
        clock.now += CLAIM_SECONDS + 1
        assert other.claim(JUDGE) is not None


def test_a_released_sample_waits_and_counts_attempts(url: str) -> None:
    fill(url, [sampled(1)])
    clock = Clock()
    with queue(url, clock=clock) as claims:
        claim = claims.claim(JUDGE)
        assert claim is not None
        claims.release(claim.request_id, seconds=60, failed=True)
        assert claims.claim(JUDGE) is None
        clock.now += 61
        again = claims.claim(JUDGE)
        assert again is not None
        assert again.attempts == 1
        claims.finish(again.request_id, why="no verdict")
        clock.now += DAY
        assert claims.claim(JUDGE) is None
        assert claims.count() == {"refused": 1}


def test_a_pair_waits_while_the_tiers_cannot_be_called(url: str) -> None:
    fill(url, [sampled(1, kind="pair"), sampled(2)])
    with queue(url) as claims:
        first = claims.claim(JUDGE, ask_tiers=False)
        assert first is not None
        assert first.kind == "grade"
        assert claims.claim(JUDGE, ask_tiers=False) is None
        pair = claims.claim(JUDGE)
        assert pair is not None
        assert pair.needs_other_answer
        claims.save_other_answer(pair.request_id, "gpt-4o-mini", "Other")
        claims.release(pair.request_id, seconds=0)
        again = claims.claim(JUDGE, ask_tiers=False)
        assert again is not None
        assert (again.other_model, again.other_response) == ("gpt-4o-mini", "Other")


def test_the_daily_budget_holds_across_judges_and_restarts(url: str) -> None:
    fill(url, [])
    clock = Clock()
    clock.now = NOW // DAY * DAY + 3_600

    def spend(worker: int) -> int:
        with queue(url, worker=str(worker), clock=clock) as claims:
            expenses = [claims.reserve("judge", "r", JUDGE, 0.03, cap_usd=1.0) for _ in range(20)]
            return sum(expense is not None for expense in expenses)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(spend, range(4))) == 33
    with queue(url, clock=clock) as claims:
        assert claims.spent_today("judge") == pytest.approx(0.99)
        assert claims.reserve("judge", "r", JUDGE, 0.02, cap_usd=1.0) is None
        assert claims.reserve("shadow", "r", JUDGE, 0.02, cap_usd=1.0) is not None
        assert claims.reserve("judge", "r", JUDGE, 0.0, cap_usd=0.0) is not None  # a free call
        clock.now += DAY
        expense = claims.reserve("judge", "r", JUDGE, 0.9, cap_usd=1.0)
        assert expense is not None
        claims.settle(expense, 0.1)
        assert claims.spent_today("judge") == pytest.approx(0.1)
        assert claims.reserve("judge", "r", JUDGE, 0.9, cap_usd=1.0) is not None


def test_the_first_verdict_is_kept(url: str) -> None:
    fill(url, [sampled(1)])
    with queue(url) as claims:
        for score in (8, 3):
            claims.save_grade(
                "r", Target.CLOUD, model="m", score=score, judge_model=JUDGE, reason="So."
            )
        for verdict in ("local", "cloud"):
            claims.save_preference(
                "r", judge_model=JUDGE, verdict=verdict, first=verdict, swapped="tie"
            )
    assert [row["score"] for row in read(url, "SELECT score FROM judgements")] == [8.0]
    assert [row["verdict"] for row in read(url, "SELECT verdict FROM preferences")] == ["local"]


def test_samples_judgements_and_expenses_expire(url: str) -> None:
    old = NOW - 40 * DAY
    fill(url, [sampled(1, created_at=old)])
    clock = Clock()
    clock.now = old
    with queue(url, clock=clock) as claims:
        claims.save_grade("r", Target.LOCAL, model="m", score=5, judge_model=JUDGE, reason="So.")
        claims.save_preference("r", judge_model=JUDGE, verdict="tie", first="tie", swapped="tie")
        claims.reserve("judge", "r", JUDGE, 0.1, cap_usd=1.0)
    with opened(url, retention_days=30, clock=lambda: NOW):
        until(lambda: not read(url, "SELECT id FROM requests"))
        for table in ("samples", "judgements", "preferences", "expenses"):
            until(lambda table=table: not read(url, f"SELECT created_at FROM {table}"))


def test_an_unreachable_database_raises_store_unavailable() -> None:
    with refused_address() as address:
        url = f"postgresql://nobody@{urlsplit(address).netloc}/nothing"
        with queue(url) as claims, pytest.raises(StoreUnavailable):
            claims.claim(JUDGE)
