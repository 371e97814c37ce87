"""A cache of slow queries, for endpoints that many open pages ask again and again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

CACHE_SECONDS: Final = 30.0  # of judge scores, which take a second to aggregate

T = TypeVar("T")


class TimedCache:
    """Caches the results of slow queries. Concurrent callers share one query.

    Args:
        seconds: how long a result is valid.
        clock: seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: dict[object, tuple[float, asyncio.Task[Any]]] = {}

    async def get(self, key: object, query: Callable[[], Awaitable[T]]) -> T:
        """The result of a query, at most `seconds` old. Raises what the query raises."""
        now = self._clock()
        started_at, task = self._entries.get(key, (0.0, None))
        failed = task is not None and task.done() and (task.cancelled() or task.exception())
        if task is None or failed or now - started_at > self._seconds:
            # A custom time range is a key of its own, so old results must go.
            self._entries = {
                other: entry
                for other, entry in self._entries.items()
                if now - entry[0] <= self._seconds
            }
            task = asyncio.ensure_future(query())
            self._entries[key] = now, task
        return cast(T, await asyncio.shield(task))
