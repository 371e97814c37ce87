"""Queries to the shared limits that never delay a request for long.

    queries = SharedQueries(shared_limits)
    if queries.is_available("requests", key):
        await queries.join("requests", key, take)     # take() awaits queries.run(...)

The database may be slow or down, and no request may fail because of that. So the queries run in
threads of their own, callers with the same question share one query, and a caller waits at most
PATIENCE_SECONDS. After an error or a late response the process counts alone for a few seconds.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, TypeVar

from proxy.storage import SharedLimits

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 1.0  # the longest that a request waits for the database
_THREADS: Final = 2  # a query that hangs must not block the default executor
_ALONE_SECONDS: Final = 5.0  # pause between a failed query and the next one

_Result = TypeVar("_Result")
_Key = tuple[Literal["requests", "dollars"], str]


class _Skipped(Exception):
    """The query was not sent, because the process counts alone by now."""


class SharedQueries:
    """The queries of one process and event loop, at most one at a time for each limit.

    Args:
        shared_limits: None if no other process counts.
        timer: monotonic seconds.
    """

    def __init__(
        self, shared_limits: SharedLimits | None, *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._shared_limits = shared_limits
        self._timer = timer
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shared-limits")
        self._running: dict[_Key, asyncio.Task[None]] = {}
        self._late: set[_Key] = set()  # running queries whose callers gave up waiting
        self._alone_until = float("-inf")
        self._is_alone_logged = False

    def is_available(self, kind: Literal["requests", "dollars"], name: str) -> bool:
        """Whether other processes count too, and this limit can be queried now.

        Args:
            name: the hash of an API key; empty for the global budget.
        """
        return (
            self._shared_limits is not None
            and self._timer() >= self._alone_until
            and (kind, name) not in self._late
        )

    def is_running(self, kind: Literal["requests", "dollars"], name: str) -> bool:
        """Whether a query of this limit is running."""
        return (kind, name) in self._running

    def is_late(self, kind: Literal["requests", "dollars"], name: str) -> bool:
        """Whether the callers of the running query have given up and were counted alone."""
        return (kind, name) in self._late

    async def join(
        self,
        kind: Literal["requests", "dollars"],
        name: str,
        start: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Wait for the running query of a limit, or start one. Returns early if it is late.

        Args:
            start: sends the query with `run` and applies its result.
        """
        key = kind, name

        def end(task: asyncio.Task[None]) -> None:
            del self._running[key]
            self._late.discard(key)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                self._count_with_others()
            elif not isinstance(error, _Skipped):
                self._count_alone(str(error))

        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(start())
            task.add_done_callback(end)
        _, late = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if late and key not in self._late:
            self._late.add(key)
            self._count_alone(f"the database has not answered in {PATIENCE_SECONDS:g} s")

    async def run(self, query: Callable[[SharedLimits], _Result]) -> _Result:
        """Run a query in a thread. Skip it if the process counts alone before a thread is free."""

        def run() -> _Result:
            if self._shared_limits is None or self._timer() < self._alone_until:
                raise _Skipped
            return query(self._shared_limits)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def wait(self) -> None:
        """Wait for the running queries, at most PATIENCE_SECONDS."""
        if self._running:
            await asyncio.wait(set(self._running.values()), timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """Start no more queries."""
        self._alone_until = float("inf")
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _count_alone(self, reason: str) -> None:
        self._alone_until = max(self._alone_until, self._timer() + _ALONE_SECONDS)
        if not self._is_alone_logged:
            self._is_alone_logged = True
            logger.warning("this process counts its limits alone for now: %s", reason)

    def _count_with_others(self) -> None:
        if self._is_alone_logged and not self._late:
            self._is_alone_logged = False
            logger.info("this process shares its limits again")
