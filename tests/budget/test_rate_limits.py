"""What keys may use: by one process, and by several at one database."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import peewee
import pytest

from postgres import PostgresServer
from proxy.auth import Principal
from proxy.budget.limits import Limits
from proxy.budget.spending_limits import MAX_RESERVATION_WAITERS, WAIT_SECONDS, Reservation
from proxy.errors import BudgetExhausted, BudgetReserved, BudgetSpent, RateLimited
from proxy.record import DAY_SECONDS, CallRecord, Target
from proxy.storage.shared_limits import SharedLimits, Taken
from stored import connected, fill, read

pytest_plugins = ["databases"]


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


MIDNIGHT = 20_000 * DAY_SECONDS
THREE_A_MINUTE = Principal("team", requests_per_minute=3)
HALF_A_DOLLAR = Principal("team", cloud_usd_per_day=0.5)


async def admitted(limits: Limits, client: Principal, requests: int) -> int:
    count = 0
    for _ in range(requests):
        try:
            await limits.rates.admit(client)
        except RateLimited:
            continue
        count += 1
    return count


async def test_a_minutes_requests_may_come_at_once_and_then_evenly() -> None:
    clock = Clock(MIDNIGHT)
    limits = Limits(clock=clock)
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    clock.now += 19.9
    assert await admitted(limits, THREE_A_MINUTE, 10) == 0
    clock.now += 0.2
    assert await admitted(limits, THREE_A_MINUTE, 10) == 1
    clock.now += 3600  # more than a minute's worth is not saved up
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3


async def test_a_flow_at_the_limit_is_never_refused() -> None:
    clock = Clock(MIDNIGHT)
    limits = Limits(clock=clock)
    client = Principal("team", requests_per_minute=7)
    assert await admitted(limits, client, 7) == 7
    for _ in range(1000):
        clock.now += 60 / 7
        assert await admitted(limits, client, 1) == 1


async def test_a_refusal_says_how_long_to_wait() -> None:
    clock = Clock(MIDNIGHT)
    limits = Limits(clock=clock)
    await admitted(limits, THREE_A_MINUTE, 3)
    clock.now += 5.5
    with pytest.raises(RateLimited, match="3 requests a minute") as caught:
        await limits.rates.admit(THREE_A_MINUTE)
    assert caught.value.seconds == pytest.approx(14.5)
    assert caught.value.headers == [(b"retry-after", b"15")]
    clock.now += 15
    await limits.rates.admit(THREE_A_MINUTE)


async def test_a_clock_that_was_ahead_locks_nobody_out() -> None:
    clock = Clock(MIDNIGHT + 7200)
    limits = Limits(clock=clock)
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    clock.now -= 7200
    assert await admitted(limits, THREE_A_MINUTE, 10) == 0
    clock.now += 60
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3


async def test_keys_do_not_use_up_each_others_requests() -> None:
    limits = Limits(clock=Clock(MIDNIGHT))
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    assert await admitted(limits, Principal("others", requests_per_minute=3), 10) == 3
    assert await admitted(limits, Principal("free"), 1000) == 1000


def answered(cost_usd: float, at: float, *, key: str = "team") -> CallRecord:
    record = CallRecord("chat.completions")
    record.created_at, record.client_key_hash = at, key
    record.target, record.cost_usd = Target.CLOUD, cost_usd
    return record


async def test_a_days_dollars_are_spent_by_the_clouds_answers_of_that_day() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(0.3, clock.now))
    free = answered(1.0, clock.now)
    free.target = Target.LOCAL
    limits.spending.record_cost(free)
    limits.spending.record_cost(answered(1.0, clock.now, key="others"))
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(0.2, clock.now))
    assert not limits.spending.has_budget(HALF_A_DOLLAR)
    with pytest.raises(BudgetSpent, match=r"This API key has spent its 0.5 USD") as caught:
        await limits.spending.reserve(HALF_A_DOLLAR, 0.1)
    assert caught.value.seconds == DAY_SECONDS - 100
    clock.now = MIDNIGHT + DAY_SECONDS
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(9.0, MIDNIGHT + 200))  # begun yesterday, finished today
    assert limits.spending.has_budget(HALF_A_DOLLAR)


def test_what_was_spent_before_a_restart_counts() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    assert limits.spending.day_start() == MIDNIGHT
    limits.spending.update_others_spending({"team": 0.5}, since=MIDNIGHT)
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


def test_what_others_spend_counts_beside_what_is_counted_here() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    limits.spending.record_cost(answered(0.125, clock.now))
    limits.spending.update_others_spending({"team": 0.25, "others": 1.0, None: 2.0}, since=MIDNIGHT)
    assert limits.spending.spent_today() == 3.375
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.update_others_spending(
        {"team": 0.375, "others": 1.0, None: 2.0}, since=MIDNIGHT
    )
    assert limits.spending.spent_today() == 3.5  # told anew, not once more
    assert not limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.update_others_spending({}, since=MIDNIGHT)  # a database that was emptied
    assert limits.spending.spent_today() == 3.5
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


def test_what_others_spent_yesterday_is_over() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    limits.spending.update_others_spending({"team": 1.0}, since=MIDNIGHT)
    clock.now += DAY_SECONDS
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(0.25, clock.now))
    limits.spending.update_others_spending({"team": 9.0}, since=MIDNIGHT)  # read before midnight
    assert limits.spending.spent_today() == 0.25
    limits.spending.update_others_spending({"team": 0.125}, since=MIDNIGHT + DAY_SECONDS)
    assert limits.spending.spent_today() == 0.375


def test_that_dollars_run_out_is_told_once_a_day() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)

    def told_after(usd: float) -> list[float | None]:
        limits.spending.record_cost(answered(usd, clock.now))
        return [limits.spending.crossed_budget_share(10.0) for _ in range(2)]

    assert told_after(7.5) == [None, None]
    assert told_after(1.0) == [0.8, None]
    assert told_after(1.0) == [None, None]
    assert told_after(1.0) == [1.0, None]
    clock.now += DAY_SECONDS
    assert told_after(50.0) == [1.0, None]  # both at once
    assert Limits(clock=clock).spending.crossed_budget_share(0.0) is None


def test_no_dollars_at_all_is_a_limit_too() -> None:
    assert not Limits().spending.has_budget(Principal("team", cloud_usd_per_day=0.0))
    assert Limits().spending.has_budget(Principal("team"))
    assert Limits().spending.has_budget(None)


# What is set aside for running requests.


async def test_what_runs_is_taken_to_cost_all_that_it_may() -> None:
    limits = Limits(clock=Clock(MIDNIGHT + 100))
    # 0, 0.2 and 0.4 are reserved before.
    holds = [await limits.spending.reserve(HALF_A_DOLLAR, 0.2) for _ in range(3)]
    with pytest.raises(BudgetReserved, match=r"has reserved the rest of its 0.5 USD") as caught:
        await limits.spending.reserve(HALF_A_DOLLAR, 0.2)
    assert caught.value.headers == [(b"retry-after", b"1")]  # nothing is spent: it comes free
    limits.spending.check_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(0.01, MIDNIGHT + 100))
    limits.spending.release(holds.pop())
    holds.append(await limits.spending.reserve(HALF_A_DOLLAR, 0.2))
    for hold in holds:
        limits.spending.release(hold)
    assert await limits.spending.reserve(None, 5.0) == Reservation((), 5.0)  # nobody's limit


async def test_who_can_go_nowhere_else_waits_for_what_runs() -> None:
    limits = Limits(clock=Clock(MIDNIGHT + 100))
    hold = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = [
        asyncio.create_task(limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    limits.spending.record_cost(answered(0.25, MIDNIGHT + 100))
    limits.spending.release(hold)
    (first,), (second,) = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert not second.done()  # three quarters are left, and the first has set them aside
    limits.spending.record_cost(answered(0.75, MIDNIGHT + 100))
    limits.spending.release(await first)
    with pytest.raises(BudgetSpent, match=r"This proxy has spent its 1 USD"):
        await second
    with pytest.raises(BudgetSpent):
        limits.spending.check_budget(None, usd_per_day=1.0)


async def test_who_waits_learns_of_the_new_day() -> None:
    clock = Clock(MIDNIGHT - 10)
    limits = Limits(clock=clock)
    limits.spending.record_cost(answered(1.5, clock.now))
    await limits.spending.reserve(None, 0.6, usd_per_day=2.0)
    waiting = asyncio.create_task(
        limits.spending.reserve(None, 0.6, usd_per_day=2.0, may_wait=True)
    )
    await asyncio.sleep(0)
    clock.now += 20  # and nothing that runs has ended
    async with asyncio.timeout(10):
        await waiting


async def test_nobody_waits_for_ever_nor_does_everybody() -> None:
    clock, timer = Clock(MIDNIGHT + 100), Clock(0.0)
    limits = Limits(clock=clock, timer=timer)
    hold = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = [
        asyncio.create_task(limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True))
        for _ in range(MAX_RESERVATION_WAITERS)
    ]
    await asyncio.sleep(0)
    with pytest.raises(BudgetReserved):
        await limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True)
    timer.now += WAIT_SECONDS
    for one in waiting:
        with pytest.raises(BudgetReserved):
            await one
    limits.spending.release(hold)
    await limits.spending.reserve(None, 1.0, usd_per_day=1.0)


# Several processes at one database.


class CountedSharedLimits(SharedLimits):
    """Counts how often it is asked."""

    trips = 0

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        self.trips += 1
        return super().take_requests(key_hash, per_minute, wanted=wanted)

    def draw_dollars(
        self, day: int, name: str, *, budget: float, own: float, others: float, need: float
    ) -> float:
        self.trips += 1
        return super().draw_dollars(day, name, budget=budget, own=own, others=others, need=need)


@contextmanager
def at_one_database(
    url: str, processes: int
) -> Iterator[tuple[list[Limits], list[CountedSharedLimits]]]:
    fill(url, [])  # makes the tables
    with ExitStack() as stack:
        databases = [stack.enter_context(connected(url)) for _ in range(processes)]
        ledgers = [CountedSharedLimits(database) for database in databases]
        yield [Limits(shared_limits=one) for one in ledgers], ledgers


async def test_a_keys_requests_are_those_of_all_processes(url: str) -> None:
    client = Principal("team", requests_per_minute=40)
    with at_one_database(url, 3) as (several, _):
        began = time.monotonic()
        counts = await asyncio.gather(*(admitted(one, client, 60) for one in several))
        later = (time.monotonic() - began) / 1.5
        assert 40 <= sum(counts) <= 40 + later + 1
        while await admitted(several[0], client, 1):
            pass
        with pytest.raises(RateLimited, match="40 requests a minute") as caught:
            await several[0].rates.admit(client)
        assert 0 < caught.value.seconds <= 1.5


async def test_many_at_once_are_counted_by_few_questions(url: str) -> None:
    client = Principal("team", requests_per_minute=2_000)
    with at_one_database(url, 2) as ((one, other), ledgers):
        await asyncio.gather(*(one.rates.admit(client) for _ in range(900)))
        for _ in range(900):
            await other.rates.admit(client)
        assert sum(shared_limits.trips for shared_limits in ledgers) <= 40


async def test_a_restart_gives_no_requests_back(url: str) -> None:
    for expected in (5, 0):
        with at_one_database(url, 1) as ((limits,), _):
            assert await admitted(limits, Principal("team", requests_per_minute=5), 10) == expected


async def spend(
    limits: Limits, client: Principal, *, usd: float, at_most: float, total: float
) -> int:
    """Request after request, until there are no dollars to be had; how many there were."""
    count = 0
    while True:
        try:
            hold = await limits.spending.reserve(client, at_most, usd_per_day=total)
        except BudgetExhausted:
            return count
        await asyncio.sleep(0)  # it runs
        limits.spending.record_cost(answered(usd, time.time(), key=client.key_hash))
        limits.spending.release(hold)
        count += 1


async def test_a_days_dollars_are_overspent_by_one_request_a_process_at_most(url: str) -> None:
    client = Principal("team", cloud_usd_per_day=20.0)
    with at_one_database(url, 3) as (several, _):
        each = {"usd": 0.75, "at_most": 1.0}
        counts = await asyncio.gather(
            *(spend(one, client, total=100.0, **each) for one in several for _ in range(8))
        )
        assert 20 <= sum(counts) * 0.75 <= 20 + 3 * 0.75
        counts = await asyncio.gather(
            *(
                spend(one, Principal("others"), total=100.0, **each)
                for one in several
                for _ in range(8)
            )
        )
        assert 100 <= sum(one.spending._accounts[""].own_usd for one in several) <= 100 + 3 * 0.75
    assert len(read(url, "SELECT * FROM leases")) == 6


async def test_far_from_the_limit_nobody_is_asked(url: str) -> None:
    with at_one_database(url, 2) as ((one, _), (shared_limits, _)):
        for _ in range(500):
            hold = await one.spending.reserve(None, 0.01, usd_per_day=100.0)
            one.spending.record_cost(answered(0.01, time.time()))
            one.spending.release(hold)
        assert shared_limits.trips == 1


async def test_what_one_does_not_need_the_others_get(url: str) -> None:
    everybody = Principal("team")
    with at_one_database(url, 2) as ((one, other), _):
        one.spending.release(await one.spending.reserve(None, 1.0, usd_per_day=16.0))
        assert await spend(other, everybody, usd=1, at_most=1, total=16.0) == 15
        for _ in range(10):
            await one.spending.return_unused()
        await other.spending.return_unused(everything=True)
    with at_one_database(url, 1) as ((third,), _):
        assert await spend(third, everybody, usd=1, at_most=1, total=16.0) == 1


async def test_one_may_have_all_that_is_left(url: str) -> None:
    with at_one_database(url, 2) as ((one, other), _):
        for _ in range(5):  # though at first it draws a sixteenth
            await one.spending.reserve(None, 2.0, usd_per_day=10.0)
        with pytest.raises(BudgetReserved):
            await one.spending.reserve(None, 2.0, usd_per_day=10.0)
        with pytest.raises(BudgetReserved) as caught:
            await other.spending.reserve(None, 2.0, usd_per_day=10.0)
        assert caught.value.seconds <= 1.0


async def test_who_passes_its_share_by_a_request_does_not_keep_that(url: str) -> None:
    with at_one_database(url, 2) as ((one, other), _):
        for _ in range(5):
            await other.spending.reserve(None, 1.0, usd_per_day=10.0)
        small = [await one.spending.reserve(None, 0.05, usd_per_day=10.0) for _ in range(10)]
        running = 0.0
        while small:
            with suppress(BudgetExhausted):
                while True:
                    running += (await one.spending.reserve(None, 0.9, usd_per_day=10.0)).usd
            await one.spending.return_unused()
            one.spending.release(small.pop())  # there may be room for one more than its share has
        assert 4.0 <= running < 5.0 + 0.9


async def test_what_costs_nothing_needs_no_dollars_but_that_there_are_some(url: str) -> None:
    with at_one_database(url, 1) as ((limits,), _):
        for usd in (0.1, 5.0, 0.0):  # the second passes what the first has drawn
            await limits.spending.reserve(None, usd, usd_per_day=10.0)


@pytest.mark.parametrize("turns", range(4))
async def test_a_client_that_is_gone_is_not_taken_for_one_that_waits(turns: int) -> None:
    limits = Limits()
    hold = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = asyncio.create_task(
        limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True)
    )
    await asyncio.sleep(0)
    limits.spending.release(hold)
    for _ in range(turns):  # of the loop, between there being dollars and the client's going
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        limits.spending.release(await waiting)
    await limits.spending.reserve(None, 1.0, usd_per_day=1.0)


def test_a_day_that_a_clock_has_skipped_is_counted() -> None:
    clock = Clock(MIDNIGHT + DAY_SECONDS + 100)
    limits = Limits(clock=clock)
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    clock.now -= DAY_SECONDS
    limits.spending.record_cost(answered(0.5, clock.now))
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


async def test_what_another_clock_has_left_locks_nobody_out(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ahead.db"
    fill(url, [])
    clock = Clock(MIDNIGHT + 7200)
    with connected(url) as database:
        shared_limits = SharedLimits(database, clock=clock)
        assert shared_limits.take_requests("team", 3, wanted=3) == Taken(3)
        clock.now -= 7200
        assert shared_limits.take_requests("team", 3, wanted=3).seconds == pytest.approx(20)
        clock.now += 60
        assert shared_limits.take_requests("team", 3, wanted=3) == Taken(3)


class StuckSharedLimits(SharedLimits):
    """Answers nothing until it is let, and knows what it was asked."""

    def __init__(self, database: peewee.Database) -> None:
        super().__init__(database)
        self.asked: list[str] = []
        self.is_free = threading.Event()

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        self.asked.append(key_hash)
        assert self.is_free.wait(30)
        return super().take_requests(key_hash, per_minute, wanted=wanted)


async def test_what_hangs_takes_no_thread_from_others_and_is_not_asked_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="proxy")
    url = f"sqlite:///{tmp_path}/stuck.db"
    fill(url, [])
    timer = Clock(0.0)
    with connected(url) as database:
        shared_limits = StuckSharedLimits(database)
        limits = Limits(shared_limits=shared_limits, timer=timer)
        keys = [Principal(f"key {number}", requests_per_minute=3) for number in range(60)]
        waiting = asyncio.gather(*(limits.rates.admit(one) for one in keys))
        async with asyncio.timeout(10):
            await asyncio.to_thread(lambda: None)  # what sessions and answers are looked up in
            await waiting  # each counted alone
            begun = list(shared_limits.asked)
            assert len(begun) == 2
            timer.now += 5  # the shared limits may be asked again, but not of these
            assert await admitted(limits, keys[0], 5) == 2
            limits._queries._count_alone("it hangs still")
            shared_limits.is_free.set()
            trips = list(limits._queries._running.values())
            assert len(trips) == 60
            await asyncio.wait(trips)
        assert shared_limits.asked == begun
        assert caplog.text.count("counts its limits alone for now") == 1
        timer.now += 5
        await limits.rates.admit(Principal("new", requests_per_minute=3))
        assert "this process shares its limits again" in caplog.text
        await limits.close()


async def test_what_was_spent_before_there_was_a_budget_counts(url: str) -> None:
    with at_one_database(url, 1) as ((limits,), _):
        limits.spending.update_others_spending({"team": 9.5}, since=limits.spending.day_start())
        assert await spend(limits, Principal("team"), usd=1, at_most=1, total=10.0) == 1


async def test_without_the_database_each_counts_alone(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Principal("team", requests_per_minute=3, cloud_usd_per_day=2.0)
    with at_one_database(postgres_url, 2) as ((one, other), _):
        await one.rates.admit(client)
        postgres.stop()
        try:
            assert await admitted(one, client, 10) == 2
            assert await admitted(other, client, 10) == 3
            assert await spend(other, client, usd=1, at_most=1, total=10.0) == 2
            await other.spending.return_unused(everything=True)
        finally:
            postgres.start()
    assert caplog.text.count("counts its limits alone for now") == 2


async def test_a_database_that_hangs_holds_nobody_up_for_long(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Principal("team", requests_per_minute=3)
    with (
        at_one_database(postgres_url, 1) as ((limits,), _),
        connected(postgres_url) as database,
        database.atomic(),
    ):
        database.execute_sql("LOCK TABLE rates IN ACCESS EXCLUSIVE MODE")
        assert await admitted(limits, client, 10) == 3
    assert "has not answered in 1 s" in caplog.text
