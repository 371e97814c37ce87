"""Many deadlines on one timer: each expires independently, like asyncio.timeout."""

import asyncio

import pytest

from proxy.timeouts import Deadlines

LONG_SECONDS = 30.0


async def wait_forever() -> None:
    await asyncio.Event().wait()


async def measure_timeout(deadlines: Deadlines, seconds: float) -> float:
    """Wait until the deadline expires. Return the elapsed seconds."""
    clock = asyncio.get_running_loop().time
    started = clock()
    with pytest.raises(TimeoutError), deadlines.within(seconds):
        await wait_forever()
    return clock() - started


async def test_body_that_ends_in_time_is_not_cancelled() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # past the deadline: nothing is cancelled any more


async def test_deadlines_expire_independently() -> None:
    deadlines = Deadlines()
    order: list[float] = []

    async def expire(seconds: float) -> None:
        assert await measure_timeout(deadlines, seconds) >= seconds - 0.002
        order.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (0.15, 0.05, 0.1, 0.05):
            group.create_task(expire(seconds))
    assert order == [0.05, 0.05, 0.1, 0.15]


async def test_deadline_can_be_extended() -> None:
    deadlines = Deadlines()
    loop = asyncio.get_running_loop()
    with deadlines.within(0.02) as limit:
        limit.due = loop.time() + LONG_SECONDS
        await asyncio.sleep(0.05)
    assert await measure_timeout(deadlines, 0.02) < LONG_SECONDS


async def test_deadline_can_be_reused() -> None:
    deadlines = Deadlines()
    limit = deadlines.within(LONG_SECONDS)
    for _ in range(3):
        with limit:
            await asyncio.sleep(0)
    limit.due = asyncio.get_running_loop().time() + 0.02
    with pytest.raises(TimeoutError), limit:
        await wait_forever()


async def test_inner_deadline_expires_first() -> None:
    deadlines = Deadlines()
    with deadlines.within(LONG_SECONDS):
        await measure_timeout(deadlines, 0.02)
        await asyncio.sleep(0)  # the inner deadline has no further effect


async def test_outer_deadline_cancels_the_inner_one() -> None:
    deadlines = Deadlines()
    inner = []

    async def waiting() -> None:
        try:
            with deadlines.within(LONG_SECONDS):
                await wait_forever()
        except asyncio.CancelledError:  # the inner deadline does not handle it
            inner.append("cancelled")
            raise

    with pytest.raises(TimeoutError), deadlines.within(0.02):
        await waiting()
    assert inner == ["cancelled"]


async def test_cancellation_is_not_turned_into_a_timeout() -> None:
    deadlines = Deadlines()

    async def waiting() -> None:
        with deadlines.within(0.02):
            try:
                await wait_forever()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)  # the deadline expires during the cleanup
                raise

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_other_exception_is_not_turned_into_a_timeout() -> None:
    async def failing() -> None:
        try:
            await wait_forever()
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), Deadlines().within(0.01):
        await failing()
