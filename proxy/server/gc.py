"""Garbage collection while nobody waits for it.

A full collection looks at every object there is. With 256 streams that took 15 to 35 ms, some times
a minute, and every stream stood still. So what is there at the start is left out for good, young
objects are looked at in small portions, and old ones when no request is running, or after a
minute in which there was no such moment. What it cannot know: whether there is any garbage.
"""

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Final

LOOK_SECONDS: Final = 10.0
MAX_DEFER_SECONDS: Final = 60.0
# Python's own count of young objects; twice as often as by default what survives is looked at
# again, which is half as much then; all of them never by themselves.
_THRESHOLDS: Final = (700, 5, 1_000_000)


class GarbageCollector:
    """Takes garbage collection over for the process. Belongs to one event loop.

    Args:
        is_idle: whether a pause would be noticed by nobody.
    """

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From here on; what exists now is taken to stay."""
        gc.collect()
        gc.freeze()
        trim_memory()
        gc.set_threshold(*_THRESHOLDS)
        self._last = loop.time()
        self._look_later(loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def look(self, now: float) -> None:
        """Collect, if there may be something, and nobody waits or nobody may be waited for longer.

        Args:
            now: seconds, by the loop's clock.
        """
        since_last = gc.get_count()[2]  # younger collections, whose survivors nobody has looked at
        is_idle = self._is_idle()
        if since_last and (is_idle or now - self._last > MAX_DEFER_SECONDS):
            gc.collect()
            self._last = now
            if is_idle:
                trim_memory()

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        def look() -> None:
            self.look(loop.time())
            self._look_later(loop)

        self._timer = loop.call_later(LOOK_SECONDS, look)


def trim_memory() -> None:
    """Let the system have the memory that is free in between; glibc keeps most of it."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)
