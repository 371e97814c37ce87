"""Time limits by the thousand: one timer for all that are waited under, not one for each.

    deadlines = Deadlines()
    with deadlines.within(20.0):
        await something()        # TimeoutError when it takes longer

To whoever waits it is `asyncio.timeout`, which makes a timer, enters it into the loop's heap and
takes it out again every time; a request passes several, a stream one for each of its pieces, and
hardly any is ever needed. Here the waits are a set, looked through when the first of them is due.
"""

import asyncio
from types import TracebackType
from typing import Final, Literal

# The set is looked through no more often than this, however many fall due one after the other.
PAUSE_SECONDS: Final = 0.01
NEVER: Final = float("inf")
_SLACK_SECONDS: Final = 0.001  # a timer of the loop's may be early by its clock's resolution


class Deadline:
    """One wait's limit: a context manager that can be entered again.

    Who waits again and again, for the pieces of a stream, enters it once and for each piece arms
    it, disarms it, and asks `raise_if_over` when it was cancelled meanwhile.

    Attributes:
        due: in the loop's time. Within the wait it may be set to later, never to earlier.
    """

    __slots__ = ("_all", "_cancelling", "_is_over", "_task", "due")

    def __init__(self, every: "Deadlines", due: float) -> None:
        self._all = every
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._is_over = False
        self.due = due

    def __enter__(self) -> "Deadline":
        task = asyncio.current_task()
        assert task is not None  # a wait is some task's
        self._task = task
        self._cancelling = task.cancelling()
        self._is_over = False
        self._all.watch(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self._all.leave(self)
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.raise_if_over()
        elif self._is_over and self._task is not None:
            self._task.uncancel()
        self._task = None
        return False

    def arm(self, due: float) -> None:
        """From now on this is when the time is over."""
        self.due = due
        self._all.note(due)

    def disarm(self) -> None:
        """It is never over, for now."""
        self.due = NEVER

    def raise_if_over(self) -> None:
        """Raises TimeoutError in place of the cancellation by which this limit has made itself
        felt; as asyncio.timeout has it, whoever else wants the task cancelled has the say."""
        if self._is_over and self._task is not None:
            self._is_over = False
            if self._task.uncancel() <= self._cancelling:
                raise TimeoutError

    def end(self) -> None:
        """The time is over."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()


class Deadlines:
    """All limits of one event loop that share a timer."""

    def __init__(self) -> None:
        self._waits: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = NEVER

    def within(self, seconds: float) -> Deadline:
        """A limit of so many seconds from now."""
        return Deadline(self, asyncio.get_running_loop().time() + seconds)

    def watch(self, wait: Deadline) -> None:
        """From now on it counts."""
        self._waits.add(wait)
        self.note(wait.due)

    def note(self, due: float) -> None:
        """The time of one of the waits is over then."""
        if due < self._looks_at:
            self._look_at(due)

    def leave(self, wait: Deadline) -> None:
        """It is no longer waited under."""
        self._waits.discard(wait)

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = due
        self._timer = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        self._timer, self._looks_at = None, NEVER
        now = asyncio.get_running_loop().time()
        over = [wait for wait in self._waits if wait.due <= now + _SLACK_SECONDS]
        for wait in over:
            self._waits.discard(wait)
            wait.end()
        due = min((wait.due for wait in self._waits), default=NEVER)
        if due < NEVER:
            self._look_at(max(now + PAUSE_SECONDS, due))
