"""The queue of a tier: round-robin by client, limits, and cancellation without lost slots."""

import asyncio
from collections import Counter

import pytest

from proxy.upstream.concurrency import ConcurrencyLimiter, QueueFull


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def settle() -> None:
    """Let all runnable tasks proceed."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_without_a_limit_no_request_waits() -> None:
    slots = ConcurrencyLimiter(None)
    taken = [await slots.acquire("a") for _ in range(1000)]
    assert (slots.waiting, slots.expected_wait) == (0, 0.0)
    for slot in taken:
        slots.release(slot)


async def test_room_is_counted_in_free_slots() -> None:
    assert ConcurrencyLimiter(None).has_room(1_000)
    slots = ConcurrencyLimiter(2)
    assert [slots.has_room(number) for number in (1, 2, 3)] == [True, True, False]
    taken = await slots.acquire("a")
    assert [slots.has_room(number) for number in (1, 2)] == [True, False]
    slots.release(taken)
    assert slots.has_room(2)


async def test_clients_are_served_round_robin() -> None:
    slots, order = ConcurrencyLimiter(1), []

    async def work(client: str) -> None:
        taken = await slots.acquire(client)
        order.append(client)
        await asyncio.sleep(0)
        slots.release(taken)

    first = await slots.acquire("busy")
    waiting = [asyncio.create_task(work("busy")) for _ in range(4)]
    await settle()
    waiting += [asyncio.create_task(work("b")), asyncio.create_task(work("c"))]
    await settle()
    assert slots.waiting == 6
    slots.release(first)
    await asyncio.gather(*waiting)
    assert order == ["busy", "b", "c", "busy", "busy", "busy"]
    assert slots.waiting == 0


async def test_full_queue_raises_with_the_expected_wait() -> None:
    clock = Clock()
    slots = ConcurrencyLimiter(2, max_waiting=3, clock=clock)
    taken = [await slots.acquire(None) for _ in range(2)]
    clock.now = 4.0
    slots.release(taken.pop())
    taken.append(await slots.acquire(None))
    waiting = [asyncio.create_task(slots.acquire(None)) for _ in range(3)]
    await settle()
    assert slots.expected_wait == pytest.approx(4 * 4.0 / 2)
    with pytest.raises(QueueFull) as caught:
        await slots.acquire(None)
    assert caught.value.seconds == pytest.approx(8.0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert slots.waiting == 0


async def test_expected_wait_follows_recent_requests() -> None:
    clock = Clock()
    slots = ConcurrencyLimiter(1, clock=clock)
    for seconds in (10.0, *[1.0] * 30):
        taken = await slots.acquire(None)
        clock.now += seconds
        slots.release(taken)
    await slots.acquire(None)
    assert slots.expected_wait == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("moment", ["waiting", "just-granted"])
async def test_cancelled_waiter_loses_no_slot(moment: str) -> None:
    slots = ConcurrencyLimiter(1)
    first = await slots.acquire("a")
    cancelled = asyncio.create_task(slots.acquire("a"))
    remaining = asyncio.create_task(slots.acquire("b"))
    await settle()
    if moment == "waiting":
        cancelled.cancel()
        slots.release(first)
    else:
        slots.release(first)  # the waiter has the slot but has not run yet
        cancelled.cancel()
    await settle()
    assert cancelled.cancelled()
    slots.release(await remaining)
    taken = await asyncio.wait_for(slots.acquire("c"), 1)
    slots.release(taken)
    assert slots.waiting == 0


async def test_limit_holds_under_concurrent_requests_and_cancellations() -> None:
    slots = ConcurrencyLimiter(3)
    active = 0
    ended: Counter[str] = Counter()

    async def work(number: int) -> None:
        nonlocal active
        try:
            taken = await slots.acquire(f"client-{number % 7}")
        except asyncio.CancelledError:
            ended["cancelled"] += 1
            raise
        active += 1
        assert active <= 3
        try:
            for _ in range(number % 4):
                await asyncio.sleep(0)
        finally:
            active -= 1
            slots.release(taken)
        ended["served"] += 1

    tasks = [asyncio.create_task(work(number)) for number in range(200)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            task.cancel()
        if number % 5 == 0:
            await asyncio.sleep(0)
    await asyncio.wait(tasks, timeout=10)
    assert all(task.done() for task in tasks)
    assert ended["served"] >= 133
    assert (slots.waiting, active) == (0, 0)
    for _ in range(3):
        await asyncio.wait_for(slots.acquire(None), 1)


async def test_a_full_queue_admits_a_client_with_fewer_queued_requests() -> None:
    slots, refused, served = ConcurrencyLimiter(1, max_waiting=6), [], []

    async def work(client: str, number: int) -> None:
        try:
            taken = await slots.acquire(client)
        except QueueFull:
            refused.append((client, number))
            return
        served.append((client, number))
        slots.release(taken)

    def start(client: str, *numbers: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(work(client, number)) for number in numbers]

    taken = await slots.acquire("busy")
    tasks = start("busy", 1, 2, 3, 4) + start("other", 1, 2)
    await settle()
    tasks += start("busy", 5) + start("other", 3)  # both have queued requests
    await settle()
    assert refused == [("busy", 5), ("busy", 4)]
    tasks += start("new", 1)
    await settle()
    assert refused[2:] == [("busy", 3)]
    tasks += start("new", 2) + start("newer", 1) + start("newest", 1)
    await settle()
    assert refused[3:] == [("other", 3), ("busy", 2), ("other", 2)]
    tasks += start("last", 1)
    await settle()
    assert refused[6:] == [("new", 2)]
    tasks += start("too late", 1)  # every client has one queued request
    await settle()
    assert refused[7:] == [("too late", 1)]
    assert slots.waiting == 6
    slots.release(taken)
    await asyncio.gather(*tasks)
    assert sorted(served) == [
        ("busy", 1), ("last", 1), ("new", 1), ("newer", 1), ("newest", 1), ("other", 1),
    ]  # fmt: skip
    assert (slots.waiting, slots._in_use) == (0, 0)


async def test_a_request_that_loses_its_place_while_it_is_cancelled_costs_nothing() -> None:
    slots = ConcurrencyLimiter(1, max_waiting=2)
    taken = await slots.acquire("a")
    waiting = [asyncio.create_task(slots.acquire("a")) for _ in range(2)]
    await settle()
    newcomer = asyncio.create_task(slots.acquire("b"))
    waiting[1].cancel()
    await settle()
    assert waiting[1].cancelled()
    slots.release(taken)
    for task in (waiting[0], newcomer):
        slots.release(await task)
    assert (slots.waiting, slots._in_use) == (0, 0)
