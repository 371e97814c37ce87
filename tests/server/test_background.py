"""`every` repeats a task at an interval, despite failing runs, until it is cancelled."""

import asyncio
import logging

import pytest

from proxy.server.background import BackgroundTasks, every

PATIENCE_SECONDS = 10.0


class Task:
    """A task that records its runs and fails in the first `failures` of them."""

    def __init__(self, *, failures: int = 0, seconds: float = 0.0) -> None:
        self.started_at: list[float] = []
        self._failures = failures
        self._seconds = seconds
        self._three = asyncio.Event()

    async def __call__(self) -> None:
        self.started_at.append(asyncio.get_running_loop().time())
        if len(self.started_at) >= 3:
            self._three.set()
        await asyncio.sleep(self._seconds)
        if len(self.started_at) <= self._failures:
            raise RuntimeError("a bug")

    async def three_runs(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._three.wait()


async def test_failing_run_is_logged_and_the_task_continues(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task, tasks = Task(failures=2), BackgroundTasks()
    with caplog.at_level(logging.ERROR):
        tasks.start(every(0.001, task, name="counting"))
        await task.three_runs()
    await tasks.close()
    assert caplog.messages == ["counting failed; retrying in 0.001 s"] * 2
    assert "RuntimeError: a bug" in caplog.text


async def test_closing_ends_every_task_even_during_a_run() -> None:
    task, tasks = Task(seconds=3600), BackgroundTasks()
    tasks.start(every(0.001, task, name="hanging"))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await tasks.close()
    await asyncio.sleep(0.01)
    assert len(task.started_at) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_first_run_is_immediate_or_after_the_interval(at_once: bool) -> None:
    task, tasks = Task(), BackgroundTasks()
    tasks.start(every(3600, task, name="waiting", at_once=at_once))
    await asyncio.sleep(0.01)
    assert len(task.started_at) == at_once
    await tasks.close()


async def test_interval_after_a_long_run_respects_the_maximum_share() -> None:
    task, tasks = Task(seconds=0.02), BackgroundTasks()
    tasks.start(every(0.001, task, name="reading", max_share=0.25))
    await task.three_runs()
    await tasks.close()
    first, second, third = task.started_at[:3]
    assert min(second - first, third - second) >= 0.02 / 0.25
