"""A clock for `LoopDelay`, by which the timers of the event loop are late."""

from proxy.loop_delay import INTERVAL_SECONDS


class LateClock:
    """Monotonic seconds. `LoopDelay` reads it twice for each timer: at its start and at its run.

    Attributes:
        delay: the seconds by which each timer is late from now on.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self._now = 0.0
        self._is_scheduling = True

    def __call__(self) -> float:
        if not self._is_scheduling:
            self._now += INTERVAL_SECONDS + self.delay
        self._is_scheduling = not self._is_scheduling
        return self._now
