"""Rate limits and budgets of API keys, in one process and in several at one database."""

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


async def test_the_rate_limit_allows_a_burst_and_then_a_steady_rate() -> None:
    clock = Clock(MIDNIGHT)
    limits = Limits(clock=clock)
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    clock.now += 19.9
    assert await admitted(limits, THREE_A_MINUTE, 10) == 0
    clock.now += 0.2
    assert await admitted(limits, THREE_A_MINUTE, 10) == 1
    clock.now += 3600  # the bucket holds one minute
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3


async def test_a_steady_rate_at_the_limit_is_never_refused() -> None:
    clock = Clock(MIDNIGHT)
    limits = Limits(clock=clock)
    client = Principal("team", requests_per_minute=7)
    assert await admitted(limits, client, 7) == 7
    for _ in range(1000):
        clock.now += 60 / 7
        assert await admitted(limits, client, 1) == 1


async def test_a_rate_limit_error_has_retry_after() -> None:
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


async def test_a_clock_set_back_blocks_no_key_for_long() -> None:
    clock = Clock(MIDNIGHT + 7200)
    limits = Limits(clock=clock)
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    clock.now -= 7200
    assert await admitted(limits, THREE_A_MINUTE, 10) == 0
    clock.now += 60
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3


async def test_each_key_has_its_own_rate_limit() -> None:
    limits = Limits(clock=Clock(MIDNIGHT))
    assert await admitted(limits, THREE_A_MINUTE, 10) == 3
    assert await admitted(limits, Principal("others", requests_per_minute=3), 10) == 3
    assert await admitted(limits, Principal("free"), 1000) == 1000


def answered(cost_usd: float, at: float, *, key: str = "team") -> CallRecord:
    record = CallRecord("chat.completions")
    record.created_at, record.client_key_hash = at, key
    record.target, record.cost_usd = Target.CLOUD, cost_usd
    return record


async def test_cloud_cost_of_the_day_exhausts_the_keys_daily_budget() -> None:
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
    limits.spending.record_cost(answered(9.0, MIDNIGHT + 200))  # started yesterday, finished today
    assert limits.spending.has_budget(HALF_A_DOLLAR)


async def test_a_key_without_dollars_may_not_use_the_cloud() -> None:
    limits = Limits(clock=Clock(MIDNIGHT + 100))
    with pytest.raises(BudgetSpent, match=r"^This API key may not use the cloud\.$") as caught:
        await limits.spending.reserve(Principal("team", cloud_usd_per_day=0.0), 0.1)
    assert caught.value.seconds == DAY_SECONDS - 100


def test_spending_before_a_restart_counts() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    assert limits.spending.day_start() == MIDNIGHT
    limits.spending.update_others_spending({"team": 0.5}, since=MIDNIGHT)
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


def test_spending_of_other_processes_is_added_to_own_spending() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    limits.spending.record_cost(answered(0.125, clock.now))
    limits.spending.update_others_spending({"team": 0.25, "others": 1.0, None: 2.0}, since=MIDNIGHT)
    assert limits.spending.spent_today() == 3.375
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.update_others_spending(
        {"team": 0.375, "others": 1.0, None: 2.0}, since=MIDNIGHT
    )
    assert limits.spending.spent_today() == 3.5  # replaced, not added
    assert not limits.spending.has_budget(HALF_A_DOLLAR)
    limits.spending.update_others_spending({}, since=MIDNIGHT)  # an emptied database
    assert limits.spending.spent_today() == 3.5
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


def test_yesterdays_spending_of_other_processes_does_not_count() -> None:
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


@pytest.mark.parametrize("days", [1, 2, 30, 365])
def test_a_clock_that_was_ahead_forgets_no_spending(days: int) -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)
    limits.spending.record_cost(answered(0.4, clock.now))
    limits.spending.update_others_spending({"team": 0.2}, since=MIDNIGHT)
    assert not limits.spending.has_budget(HALF_A_DOLLAR)
    for _ in range(5):  # several times, as with a time server that is wrong
        clock.now += days * DAY_SECONDS
        assert limits.spending.has_budget(HALF_A_DOLLAR)
        limits.spending.record_cost(answered(0.01, clock.now))
        limits.spending.record_cost(answered(0.1, MIDNIGHT + 200))  # began before
        clock.now -= days * DAY_SECONDS
        assert not limits.spending.has_budget(HALF_A_DOLLAR)
    assert limits.spending.spent_today() == pytest.approx(0.6 + 5 * 0.1)


def test_budget_shares_are_reported_once_a_day() -> None:
    clock = Clock(MIDNIGHT + 100)
    limits = Limits(clock=clock)

    def shares_after(usd: float) -> list[float | None]:
        limits.spending.record_cost(answered(usd, clock.now))
        return [limits.spending.crossed_budget_share(10.0) for _ in range(2)]

    assert shares_after(7.5) == [None, None]
    assert shares_after(1.0) == [0.8, None]
    assert shares_after(1.0) == [None, None]
    assert shares_after(1.0) == [1.0, None]
    clock.now += DAY_SECONDS
    assert shares_after(50.0) == [1.0, None]  # both thresholds at once
    assert Limits(clock=clock).spending.crossed_budget_share(0.0) is None


def test_a_budget_of_zero_is_a_limit() -> None:
    assert not Limits().spending.has_budget(Principal("team", cloud_usd_per_day=0.0))
    assert Limits().spending.has_budget(Principal("team"))
    assert Limits().spending.has_budget(None)


# Reservations of running requests.


async def test_running_requests_reserve_their_maximum_cost() -> None:
    limits = Limits(clock=Clock(MIDNIGHT + 100))
    reservations = [await limits.spending.reserve(HALF_A_DOLLAR, 0.2) for _ in range(3)]
    with pytest.raises(BudgetReserved, match=r"has reserved the rest of its 0.5 USD") as caught:
        await limits.spending.reserve(HALF_A_DOLLAR, 0.2)
    assert caught.value.headers == [(b"retry-after", b"1")]  # nothing is spent yet
    limits.spending.check_budget(HALF_A_DOLLAR)
    limits.spending.record_cost(answered(0.01, MIDNIGHT + 100))
    limits.spending.release(reservations.pop())
    reservations.append(await limits.spending.reserve(HALF_A_DOLLAR, 0.2))
    for reservation in reservations:
        limits.spending.release(reservation)
    assert await limits.spending.reserve(None, 5.0) == Reservation((), 5.0)  # no limit applies


async def test_a_request_without_alternative_waits_for_reserved_budget() -> None:
    limits = Limits(clock=Clock(MIDNIGHT + 100))
    reservation = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = [
        asyncio.create_task(limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True))
        for _ in range(2)
    ]
    await asyncio.sleep(0)
    limits.spending.record_cost(answered(0.25, MIDNIGHT + 100))
    limits.spending.release(reservation)
    (first,), (second,) = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert not second.done()  # the first has reserved the remaining 0.75 USD
    limits.spending.record_cost(answered(0.75, MIDNIGHT + 100))
    limits.spending.release(await first)
    with pytest.raises(BudgetSpent, match=r"This proxy has spent its 1 USD"):
        await second
    with pytest.raises(BudgetSpent):
        limits.spending.check_budget(None, usd_per_day=1.0)


async def test_waiting_requests_continue_on_a_new_day() -> None:
    clock = Clock(MIDNIGHT - 10)
    limits = Limits(clock=clock)
    limits.spending.record_cost(answered(1.5, clock.now))
    await limits.spending.reserve(None, 0.6, usd_per_day=2.0)
    waiting = asyncio.create_task(
        limits.spending.reserve(None, 0.6, usd_per_day=2.0, may_wait=True)
    )
    await asyncio.sleep(0)
    clock.now += 20  # no running request has ended
    async with asyncio.timeout(10):
        await waiting


async def test_waiting_for_budget_is_limited_in_time_and_number() -> None:
    clock, timer = Clock(MIDNIGHT + 100), Clock(0.0)
    limits = Limits(clock=clock, timer=timer)
    reservation = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = [
        asyncio.create_task(limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True))
        for _ in range(MAX_RESERVATION_WAITERS)
    ]
    await asyncio.sleep(0)
    with pytest.raises(BudgetReserved):
        await limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True)
    timer.now += WAIT_SECONDS
    for waiter in waiting:
        with pytest.raises(BudgetReserved):
            await waiter
    limits.spending.release(reservation)
    await limits.spending.reserve(None, 1.0, usd_per_day=1.0)


# Several processes with one database.


class CountedSharedLimits(SharedLimits):
    """Counts its database queries."""

    queries = 0

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        self.queries += 1
        return super().take_requests(key_hash, per_minute, wanted=wanted)

    def draw_dollars(
        self, day: int, name: str, *, budget: float, own: float, others: float, need: float
    ) -> float:
        self.queries += 1
        return super().draw_dollars(day, name, budget=budget, own=own, others=others, need=need)


@contextmanager
def at_one_database(
    url: str, processes: int
) -> Iterator[tuple[list[Limits], list[CountedSharedLimits]]]:
    fill(url, [])  # creates the tables
    with ExitStack() as stack:
        databases = [stack.enter_context(connected(url)) for _ in range(processes)]
        shared = [CountedSharedLimits(database) for database in databases]
        yield [Limits(shared_limits=limits) for limits in shared], shared


async def test_the_rate_limit_holds_across_processes(url: str) -> None:
    client = Principal("team", requests_per_minute=40)
    with at_one_database(url, 3) as (processes, _):
        started = time.monotonic()
        counts = await asyncio.gather(*(admitted(limits, client, 60) for limits in processes))
        later = (time.monotonic() - started) / 1.5
        assert 40 <= sum(counts) <= 40 + later + 1
        while await admitted(processes[0], client, 1):
            pass
        with pytest.raises(RateLimited, match="40 requests a minute") as caught:
            await processes[0].rates.admit(client)
        assert 0 < caught.value.seconds <= 1.5


async def test_concurrent_requests_are_counted_in_batches(url: str) -> None:
    client = Principal("team", requests_per_minute=2_000)
    with at_one_database(url, 2) as ((first, second), all_shared):
        await asyncio.gather(*(first.rates.admit(client) for _ in range(900)))
        for _ in range(900):
            await second.rates.admit(client)
        assert sum(shared.queries for shared in all_shared) <= 40


async def test_a_restart_does_not_reset_the_rate_limit(url: str) -> None:
    for expected in (5, 0):
        with at_one_database(url, 1) as ((limits,), _):
            assert await admitted(limits, Principal("team", requests_per_minute=5), 10) == expected


async def spend(
    limits: Limits, client: Principal, *, usd: float, at_most: float, total: float
) -> int:
    """Send requests until the budget is exhausted; return their number."""
    count = 0
    while True:
        try:
            reservation = await limits.spending.reserve(client, at_most, usd_per_day=total)
        except BudgetExhausted:
            return count
        await asyncio.sleep(0)  # the request runs
        limits.spending.record_cost(answered(usd, time.time(), key=client.key_hash))
        limits.spending.release(reservation)
        count += 1


async def test_each_process_overspends_by_one_request_at_most(url: str) -> None:
    client = Principal("team", cloud_usd_per_day=20.0)
    with at_one_database(url, 3) as (processes, _):
        each = {"usd": 0.75, "at_most": 1.0}
        counts = await asyncio.gather(
            *(spend(limits, client, total=100.0, **each) for limits in processes for _ in range(8))
        )
        assert 20 <= sum(counts) * 0.75 <= 20 + 3 * 0.75
        counts = await asyncio.gather(
            *(
                spend(limits, Principal("others"), total=100.0, **each)
                for limits in processes
                for _ in range(8)
            )
        )
        assert (
            100
            <= sum(limits.spending._accounts[""].own_usd for limits in processes)
            <= 100 + 3 * 0.75
        )
    assert len(read(url, "SELECT * FROM leases")) == 6


async def test_far_from_the_limit_the_database_is_not_queried(url: str) -> None:
    with at_one_database(url, 2) as ((limits, _), (shared_limits, _)):
        for _ in range(500):
            reservation = await limits.spending.reserve(None, 0.01, usd_per_day=100.0)
            limits.spending.record_cost(answered(0.01, time.time()))
            limits.spending.release(reservation)
        assert shared_limits.queries == 1


async def test_other_processes_get_a_returned_lease(url: str) -> None:
    client = Principal("team")
    with at_one_database(url, 2) as ((first, second), _):
        first.spending.release(await first.spending.reserve(None, 1.0, usd_per_day=16.0))
        assert await spend(second, client, usd=1, at_most=1, total=16.0) == 15
        for _ in range(10):
            await first.spending.return_unused()
        await second.spending.return_unused(everything=True)
    with at_one_database(url, 1) as ((third,), _):
        assert await spend(third, client, usd=1, at_most=1, total=16.0) == 1


async def test_one_process_may_lease_the_whole_remaining_budget(url: str) -> None:
    with at_one_database(url, 2) as ((first, second), _):
        for _ in range(5):  # a first lease is a sixteenth of the budget
            await first.spending.reserve(None, 2.0, usd_per_day=10.0)
        with pytest.raises(BudgetReserved):
            await first.spending.reserve(None, 2.0, usd_per_day=10.0)
        with pytest.raises(BudgetReserved) as caught:
            await second.spending.reserve(None, 2.0, usd_per_day=10.0)
        assert caught.value.seconds <= 1.0


async def test_an_exceeded_lease_does_not_stay_exceeded(url: str) -> None:
    with at_one_database(url, 2) as ((first, second), _):
        for _ in range(5):
            await second.spending.reserve(None, 1.0, usd_per_day=10.0)
        small = [await first.spending.reserve(None, 0.05, usd_per_day=10.0) for _ in range(10)]
        running = 0.0
        while small:
            with suppress(BudgetExhausted):
                while True:
                    running += (await first.spending.reserve(None, 0.9, usd_per_day=10.0)).usd
            await first.spending.return_unused()
            first.spending.release(
                small.pop()
            )  # may free room for one request more than the lease has
        assert 4.0 <= running < 5.0 + 0.9


async def test_a_free_request_needs_a_remaining_budget_but_no_lease(url: str) -> None:
    with at_one_database(url, 1) as ((limits,), _):
        for usd in (0.1, 5.0, 0.0):  # the second exceeds the lease of the first
            await limits.spending.reserve(None, usd, usd_per_day=10.0)


@pytest.mark.parametrize("turns", range(4))
async def test_a_cancelled_waiter_does_not_consume_the_budget(turns: int) -> None:
    limits = Limits()
    reservation = await limits.spending.reserve(None, 1.0, usd_per_day=1.0)
    waiting = asyncio.create_task(
        limits.spending.reserve(None, 1.0, usd_per_day=1.0, may_wait=True)
    )
    await asyncio.sleep(0)
    limits.spending.release(reservation)
    for _ in range(turns):  # of the event loop, between the release and the cancellation
        await asyncio.sleep(0)
    if waiting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        limits.spending.release(await waiting)
    await limits.spending.reserve(None, 1.0, usd_per_day=1.0)


def test_spending_counts_after_the_clock_is_set_back_a_day() -> None:
    clock = Clock(MIDNIGHT + DAY_SECONDS + 100)
    limits = Limits(clock=clock)
    assert limits.spending.has_budget(HALF_A_DOLLAR)
    clock.now -= DAY_SECONDS
    limits.spending.record_cost(answered(0.5, clock.now))
    assert not limits.spending.has_budget(HALF_A_DOLLAR)


async def test_a_skewed_clock_of_another_server_blocks_no_key_for_long(tmp_path: Path) -> None:
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
    """Blocks until `is_free` is set, and records the keys that it was queried for."""

    def __init__(self, database: peewee.Database) -> None:
        super().__init__(database)
        self.queried: list[str] = []
        self.is_free = threading.Event()

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        self.queried.append(key_hash)
        assert self.is_free.wait(30)
        return super().take_requests(key_hash, per_minute, wanted=wanted)


async def test_hung_queries_block_no_other_threads_and_are_not_sent_later(
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
        waiting = asyncio.gather(*(limits.rates.admit(key) for key in keys))
        async with asyncio.timeout(10):
            await asyncio.to_thread(lambda: None)  # the default executor, which other lookups use
            await waiting  # each is counts its limits alone
            before = list(shared_limits.queried)
            assert len(before) == 2
            timer.now += 5  # the database may be queried again, but not for these keys
            assert await admitted(limits, keys[0], 5) == 2
            limits._queries._count_alone("it still hangs")
            shared_limits.is_free.set()
            trips = list(limits._queries._running.values())
            assert len(trips) == 60
            await asyncio.wait(trips)
        assert shared_limits.queried == before
        assert caplog.text.count("counts its limits alone for now") == 1
        timer.now += 5
        await limits.rates.admit(Principal("new", requests_per_minute=3))
        assert "this process shares its limits again" in caplog.text
        await limits.close()


async def test_spending_before_a_budget_was_set_counts(url: str) -> None:
    with at_one_database(url, 1) as ((limits,), _):
        limits.spending.update_others_spending({"team": 9.5}, since=limits.spending.day_start())
        assert await spend(limits, Principal("team"), usd=1, at_most=1, total=10.0) == 1


async def test_without_the_database_each_process_counts_alone(
    postgres: PostgresServer, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Principal("team", requests_per_minute=3, cloud_usd_per_day=2.0)
    with at_one_database(postgres_url, 2) as ((first, second), _):
        await first.rates.admit(client)
        postgres.stop()
        try:
            assert await admitted(first, client, 10) == 2
            assert await admitted(second, client, 10) == 3
            assert await spend(second, client, usd=1, at_most=1, total=10.0) == 2
            await second.spending.return_unused(everything=True)
        finally:
            postgres.start()
    assert caplog.text.count("counts its limits alone for now") == 2


async def test_a_hung_database_delays_requests_only_briefly(
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
