"""The delay of the event loop: how late its timers run, measured all the time.

    delay = LoopDelay(observe=metrics.observe_loop_delay)
    delay.start()
    delay.seconds                # the present delay

All requests of a process share one event loop, and a blocked loop delays each of them. The delay
is the time that an event waits until it is handled. A timer measures it 20 times a second. One
measurement takes a few microseconds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

INTERVAL_SECONDS: Final = 0.05
# The present delay is the median of so many measurements. They take 0.25 s, and longer if they are
# late. One long pause, such as a garbage collection, is one measurement and cannot be the median.
WINDOW: Final = 5


class LoopDelay:
    """Measures the loop in which it is started.

    Attributes:
        seconds: the median of the last `WINDOW` measurements. Those not made yet count as 0.
    """

    def __init__(
        self,
        *,
        observe: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            observe: takes each measurement, in seconds.
            clock: monotonic seconds. Not `loop.time()`, which stands still while callbacks run.
        """
        self.seconds = 0.0
        self._observe = observe
        self._clock = clock
        self._latest = deque([0.0] * WINDOW, maxlen=WINDOW)
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure the running loop."""
        self._schedule()

    def stop(self) -> None:
        """End the measurement. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._due = self._clock() + INTERVAL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._measure)

    def _measure(self) -> None:
        delay = max(0.0, self._clock() - self._due)
        self._latest.append(delay)
        self.seconds = sorted(self._latest)[WINDOW // 2]
        self._observe(delay)
        self._schedule()
