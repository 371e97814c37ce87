"""Session affinity: which conversation a request belongs to, and which tier answered last.

The keys of answers (`history`) lead from a request to the answers that it contains. A conversation
has the id of its first request, which is handed on from answer to answer.

Processes that share a database read each other's answers from the stored rows.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from proxy.gateway.history import History
from proxy.storage import NotedAnswer, StoreUnavailable

TTL_SECONDS: Final = 3600.0
MAX_ANSWERS: Final = 30_000  # some 12 MB
ROWS_SECONDS: Final = 1.0  # until an answer's row is stored
LOOKUP_SECONDS: Final = 1.0  # the longest that a request waits for the stored rows


class _Known(NamedTuple):
    answer: NotedAnswer
    noted_at: float  # UNIX seconds


class Conversations:
    """The answers of the last hour: their conversations and tiers, bounded in number.

    Args:
        look_up: reads the newest answer with one of some keys since a time (UNIX seconds) from the
            rows. Blocks. None if no other process answers the same clients.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        *,
        look_up: Callable[[Sequence[str], float], NotedAnswer | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._look_up = look_up
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, history: History) -> NotedAnswer | None:
        """The newest answer of a history that this process has given; None without one."""
        known, _ = self._recall(history)
        return known.answer if known is not None else None

    async def find(self, history: History) -> NotedAnswer | None:
        """The newest known answer of a history; None without a recent one."""
        known, newer = self._recall(history)
        if known is not None and history.name is not None:
            # Each answer of a named conversation has the same key, also those of other processes.
            # All of them are in the rows after ROWS_SECONDS.
            newer = history.keys if self._clock() - known.noted_at > ROWS_SECONDS else ()
        if self._look_up is not None and newer:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(LOOKUP_SECONDS):
                    since = self._clock() - TTL_SECONDS
                    stored = await asyncio.to_thread(self._look_up, newer, since)
                if stored is not None:
                    return stored
        return known.answer if known is not None else None

    def note(self, keys: Iterable[str], answer: NotedAnswer) -> None:
        """Remember an answer under its keys."""
        known = _Known(answer, self._clock())
        for key in keys:
            self._known[key] = known
            self._known.move_to_end(key)
        while len(self._known) > MAX_ANSWERS:
            self._known.popitem(last=False)

    def _recall(self, history: History) -> tuple[_Known | None, Sequence[str]]:
        """The newest answer known here, and the keys of the newer ones that are not."""
        since = self._clock() - TTL_SECONDS
        for number, key in enumerate(history.keys):
            known = self._known.get(key)
            if known is not None and known.noted_at >= since:
                return known, history.keys[:number]
        return None, history.keys
