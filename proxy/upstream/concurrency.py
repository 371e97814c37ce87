"""The concurrency limit of a tier, with a bounded queue that is fair between clients.

A tier works on `max_concurrency` requests; Ollama by default on one. Queued requests take turns by
client, so a client with a hundred queued requests does not delay another client's first one. In a
full queue, a client with fewer queued requests takes the place of the last request of the client
with the most. The expected wait is known, so the caller may send a request elsewhere.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

MAX_WAITING: Final = 256
_NEW_WEIGHT: Final = 0.2  # of the newest request in the moving average of the duration


class QueueFull(Exception):
    """The queue is full; `seconds` estimates when a slot is free."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class ConcurrencyLimiter:
    """The slots of one tier.

    Args:
        limit: concurrent requests; None for no limit.
        max_waiting: the size of the queue.
        clock: monotonic seconds.
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
        self._seconds = 0.0  # a request's duration, as a moving average
        # Clients in the order of their next turn, each with its requests in order. A request's
        # result is whether it got a slot; False if its place was given to another client.
        self._waiting: OrderedDict[str | None, deque[asyncio.Future[bool]]] = OrderedDict()
        self.waiting = 0

    @property
    def expected_wait(self) -> float:
        """Seconds that a new request would wait, estimated from recent durations."""
        if self._limit is None or self._in_use < self._limit:
            return 0.0
        return (self.waiting + 1) * self._seconds / self._limit

    def has_room(self, requests: int) -> bool:
        """Whether this many more requests would not wait."""
        return self._limit is None or self._in_use + requests <= self._limit

    async def acquire(self, client: str | None) -> float:
        """Acquire a slot, after waiting for one if necessary. Returns the time, for `release`.

        Raises:
            QueueFull: `max_waiting` requests wait already, or, later, the place of this one was
                given to a client that had none.
        """
        if self._limit is None:
            return self._clock()
        if self._in_use < self._limit:
            self._in_use += 1
            return self._clock()
        if self.waiting >= self._max_waiting and not self._make_room(client):
            raise QueueFull(self.expected_wait)
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self.waiting += 1
        try:
            has_slot = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                if turn.result():
                    self._pass_on()  # the slot came too late
            else:
                self._leave(client, turn)
            raise
        if not has_slot:
            raise QueueFull(self.expected_wait)
        return self._clock()

    def _make_room(self, client: str | None) -> bool:
        """Give a client the place of the client with the most requests, if it has fewer.

        Returns whether there is room. Afterwards the other client still has as many.
        """
        own = len(self._waiting.get(client, ()))
        turns = max(self._waiting.values(), key=len, default=None)
        if turns is None or len(turns) < own + 2:
            return False
        turn = turns.pop()
        self.waiting -= 1
        if not turn.done():
            turn.set_result(False)
        return True

    def release(self, taken_at: float) -> None:
        """Release a slot; the next request in turn gets it."""
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
                self._waiting[client] = turns  # after all other clients
            if not turn.done():  # a cancelled request may still be queued
                turn.set_result(True)
                return
        self._in_use -= 1

    def _leave(self, client: str | None, turn: asyncio.Future[bool]) -> None:
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            self.waiting -= 1
            if not turns:
                del self._waiting[client]
