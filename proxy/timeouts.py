"""Time limits of one event loop that share one timer.

    deadlines = Deadlines()
    with deadlines.within(20.0):
        await something()        # TimeoutError if it takes longer

A caller sees `asyncio.timeout`. That creates a timer for each wait, pushes it onto the loop's heap
and removes it again. A request has several waits and a stream one per chunk, and hardly any of them
times out. Here the waits are a set, which is scanned when the first of them is due.
"""

import asyncio
from types import TracebackType
from typing import Final, Literal

# The shortest time between two scans, however many limits expire in a row.
PAUSE_SECONDS: Final = 0.01
NEVER: Final = float("inf")
_SLACK_SECONDS: Final = 0.001  # a timer may fire early by the resolution of the loop's clock


class Deadline:
    """The time limit of one wait: a reusable context manager.

    For repeated waits, such as the chunks of a stream: enter it once, call `arm` before each wait
    and `disarm` after it, and call `raise_if_over` on a cancellation.

    Attributes:
        due: in the loop's time. During the wait it may be moved later, never earlier.
    """

    __slots__ = ("_cancelling", "_deadlines", "_is_over", "_task", "due")

    def __init__(self, deadlines: "Deadlines", due: float) -> None:
        self._deadlines = deadlines
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._is_over = False
        self.due = due

    def __enter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None  # only tasks wait
        self._task = task
        self._cancelling = task.cancelling()
        self._is_over = False
        self._deadlines.watch(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self._deadlines.leave(self)
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.raise_if_over()
        elif self._is_over and self._task is not None:
            self._task.uncancel()
        self._task = None
        return False

    def arm(self, due: float) -> None:
        """Set when the limit expires."""
        self.due = due
        self._deadlines.note(due)

    def disarm(self) -> None:
        """Suspend the limit until it is armed again."""
        self.due = NEVER

    def raise_if_over(self) -> None:
        """Raise TimeoutError if this limit alone has cancelled the task.

        A cancellation by others takes precedence, as in asyncio.timeout.
        """
        if self._is_over and self._task is not None:
            self._is_over = False
            if self._task.uncancel() <= self._cancelling:
                raise TimeoutError

    def end(self) -> None:
        """Cancel the task: the limit has expired."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()


class Deadlines:
    """The time limits of one event loop that share a timer."""

    def __init__(self) -> None:
        self._waits: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._scan_at = NEVER

    def within(self, seconds: float) -> Deadline:
        """A limit that expires this many seconds from now."""
        return Deadline(self, asyncio.get_running_loop().time() + seconds)

    def watch(self, wait: Deadline) -> None:
        """Add a wait."""
        self._waits.add(wait)
        self.note(wait.due)

    def note(self, due: float) -> None:
        """Make sure that a scan is scheduled by this time."""
        if due < self._scan_at:
            self._schedule_scan(due)

    def leave(self, wait: Deadline) -> None:
        """Remove a wait."""
        self._waits.discard(wait)

    def _schedule_scan(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._scan_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._scan)

    def _scan(self) -> None:
        self._timer, self._scan_at = None, NEVER
        now = asyncio.get_running_loop().time()
        expired = [wait for wait in self._waits if wait.due <= now + _SLACK_SECONDS]
        for wait in expired:
            self._waits.discard(wait)
            wait.end()
        due = min((wait.due for wait in self._waits), default=NEVER)
        if due < NEVER:
            self._schedule_scan(max(now + PAUSE_SECONDS, due))
