"""Many waits under one timer: each ends in its own time, and says so as asyncio.timeout does."""

import asyncio

import pytest

from proxy.timeouts import Deadlines

LONG_SECONDS = 30.0


async def for_ever() -> None:
    await asyncio.Event().wait()


async def wait(deadlines: Deadlines, seconds: float) -> float:
    """Wait until the time is over; how long that was."""
    clock = asyncio.get_running_loop().time
    started = clock()
    with pytest.raises(TimeoutError), deadlines.within(seconds):
        await for_ever()
    return clock() - started


async def test_what_is_done_in_time_goes_on() -> None:
    deadlines = Deadlines()
    with deadlines.within(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # past its end: nobody is cancelled for it any more


async def test_each_wait_ends_in_its_own_time_whichever_began_first() -> None:
    deadlines = Deadlines()
    order: list[float] = []

    async def one(seconds: float) -> None:
        assert await wait(deadlines, seconds) >= seconds - 0.002
        order.append(seconds)

    async with asyncio.TaskGroup() as group:
        for seconds in (0.15, 0.05, 0.1, 0.05):
            group.create_task(one(seconds))
    assert order == [0.05, 0.05, 0.1, 0.15]


async def test_a_limit_can_be_put_off() -> None:
    deadlines = Deadlines()
    loop = asyncio.get_running_loop()
    with deadlines.within(0.02) as limit:
        limit.due = loop.time() + LONG_SECONDS
        await asyncio.sleep(0.05)
    assert await wait(deadlines, 0.02) < LONG_SECONDS


async def test_a_limit_holds_again_when_it_is_entered_again() -> None:
    deadlines = Deadlines()
    limit = deadlines.within(LONG_SECONDS)
    for _ in range(3):
        with limit:
            await asyncio.sleep(0)
    limit.due = asyncio.get_running_loop().time() + 0.02
    with pytest.raises(TimeoutError), limit:
        await for_ever()


async def test_the_inner_of_two_limits_is_the_one_that_ends() -> None:
    deadlines = Deadlines()
    with deadlines.within(LONG_SECONDS):
        await wait(deadlines, 0.02)
        await asyncio.sleep(0)  # nothing is left of it


async def test_the_outer_of_two_limits_ends_both() -> None:
    deadlines = Deadlines()
    inner = []

    async def waiting() -> None:
        try:
            with deadlines.within(LONG_SECONDS):
                await for_ever()
        except asyncio.CancelledError:  # to the inner one it is somebody else's
            inner.append("cancelled")
            raise

    with pytest.raises(TimeoutError), deadlines.within(0.02):
        await waiting()
    assert inner == ["cancelled"]


async def test_who_is_cancelled_is_not_told_of_a_timeout() -> None:
    deadlines = Deadlines()

    async def waiting() -> None:
        with deadlines.within(0.02):
            try:
                await for_ever()
            except asyncio.CancelledError:
                await asyncio.sleep(0.05)  # its time is over while it ends
                raise

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_another_error_stays_what_it_is() -> None:
    async def failing() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            raise LookupError from None

    with pytest.raises(LookupError), Deadlines().within(0.01):
        await failing()
