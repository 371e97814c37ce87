"""Garbage collection while no request is running.

A full collection visits every object. With 256 streams it took 15 to 35 ms several times a minute,
and stopped all of them. So objects that exist at the start are frozen, young objects are collected
in small batches, and old ones while no request is running, or after a minute without such a moment.
"""

import asyncio
import contextlib
import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Final

CHECK_SECONDS: Final = 10.0
MAX_DEFER_SECONDS: Final = 60.0
# Python's default for generation 0. Generation 1 runs twice as often as by default, on half as many
# objects. Generation 2 never runs by itself.
_THRESHOLDS: Final = (700, 5, 1_000_000)


class GarbageCollector:
    """Controls garbage collection of the process. Belongs to one event loop.

    Args:
        is_idle: whether no request is running.
    """

    def __init__(self, is_idle: Callable[[], bool]) -> None:
        self._is_idle = is_idle
        self._collected_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Freeze the objects that exist now, and check regularly from now on."""
        gc.collect()
        gc.freeze()
        trim_memory()
        gc.set_threshold(*_THRESHOLDS)
        self._collected_at = loop.time()
        self._check_later(loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def check(self, now: float) -> None:
        """Collect if old garbage may exist and the process is idle or a collection is overdue.

        Args:
            now: seconds on the loop's clock.
        """
        # Collections of generation 1 since the last full one: their survivors may be garbage.
        may_have_garbage = gc.get_count()[2] > 0
        is_idle = self._is_idle()
        if may_have_garbage and (is_idle or now - self._collected_at > MAX_DEFER_SECONDS):
            gc.collect()
            self._collected_at = now
            if is_idle:
                trim_memory()

    def _check_later(self, loop: asyncio.AbstractEventLoop) -> None:
        def check() -> None:
            self.check(loop.time())
            self._check_later(loop)

        self._timer = loop.call_later(CHECK_SECONDS, check)


def trim_memory() -> None:
    """Return free memory to the system. glibc keeps most of it otherwise."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
