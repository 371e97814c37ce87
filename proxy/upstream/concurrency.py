"""Who may use a tier now, who waits, and for whom there is no place: one queue for each tier.

A tier works on `max_concurrency` requests; Ollama by default on one. The others wait, and take
turns by client: one with a hundred requests waiting does not hold up another's first. The queue is
bounded, and its length in time is known, so that a request may go elsewhere instead.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MAX_WAITING: Final = 256
_NEW_WEIGHT: Final = 0.2  # of the newest request in the mean time that one takes


class QueueFull(Exception):
    """No place, not even to wait; `seconds` is about when there may be one."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class ConcurrencyLimiter:
    """The places of one tier. Without a limit there is always one.

    Args:
        limit: requests that are worked on at once; None for no limit.
        max_waiting: requests that may wait.
    """

    def __init__(
        self,
        limit: int | None,
        *,
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._max_waiting = max_waiting
        self._clock = clock
        self._in_use = 0
        self._seconds = 0.0  # that a request takes, lately
        # Clients in the order of their next turn, each with its requests in theirs.
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0

    @property
    def expected_wait(self) -> float:
        """Seconds that a request which came now would wait, by how long they took lately."""
        if self._limit is None or self._in_use < self._limit:
            return 0.0
        return (self.waiting + 1) * self._seconds / self._limit

    async def acquire(self, client: str | None) -> float:
        """Take a place, waiting for one if need be. Returns when, for `release`.

        Raises:
            QueueFull: too many wait already.
        """
        if self._limit is None:
            return self._clock()
        if self._in_use < self._limit:
            self._in_use += 1
            return self._clock()
        if self.waiting >= self._max_waiting:
            raise QueueFull(self.expected_wait)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # the place came too late
            else:
                self._leave(client, turn)
            raise
        return self._clock()

    def release(self, taken_at: float) -> None:
        """Give a place back; whose turn it is gets it."""
        seconds = self._clock() - taken_at
        self._seconds += (_NEW_WEIGHT if self._seconds else 1.0) * (seconds - self._seconds)
        if self._limit is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            client, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            self.waiting -= 1
            if turns:
                self._waiting[client] = turns  # behind all others
            if not turn.done():  # one that was cancelled just now has yet to notice
                turn.set_result(None)
                return
        self._in_use -= 1

    def _leave(self, client: str | None, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            self.waiting -= 1
            if not turns:
                del self._waiting[client]
