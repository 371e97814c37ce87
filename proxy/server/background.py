"""Background tasks: work repeated at an interval, and the tasks that a proxy has started.

tasks = BackgroundTasks()
tasks.start(every(30.0, read_quality, name="reading answer quality"))
await tasks.close()
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)


async def every(
    seconds: float,
    task: Callable[[], Awaitable[object]],
    *,
    name: str,
    at_once: bool = True,
    max_share: float = 1.0,
) -> None:
    """Run a task repeatedly until cancelled. A failed run is logged and does not stop the others.

    Args:
        seconds: the pause after each run.
        name: what the task does, for the log.
        at_once: whether the first run comes before the first pause.
        max_share: the maximum share of time for the runs; a long run is followed by a longer pause.
    """
    clock = asyncio.get_running_loop().time
    if not at_once:
        await asyncio.sleep(seconds)
    while True:
        started = clock()
        try:
            await task()
        except Exception:  # a bug must not stop later runs
            logger.exception("%s failed; retrying in %g s", name, seconds)
        took = clock() - started
        await asyncio.sleep(seconds if max_share >= 1 else max(seconds, took / max_share))


class BackgroundTasks:
    """The running background tasks. It holds references, which protect them from collection."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine as a task."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
