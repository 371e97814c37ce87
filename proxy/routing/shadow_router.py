"""The shadow router: a second router model that scores live traffic and decides nothing.

    shadow_router.ask(record)       # after the decision; nothing waits for it
    shadow_router.targets(record)   # after the end, if the record has the shadow score

It scores a few requests at a time in its own thread. Requests that end before their score are left
out. So it changes no decision and delays no answer, except by its CPU time.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from proxy.record import CallRecord, Target
from proxy.routing.router import Scorer

MAX_IN_FLIGHT: Final = 8
# Longer than any score takes: a model that needs this long hangs.
TIMEOUT_SECONDS: Final = 60.0


class ShadowRouter:
    """The shadow router of one configuration.

    Args:
        threshold: the score from which it would keep a request local.
        share: the share of requests that it scores.
        dice: draws a number from 0 to 1 for each request.
        max_in_flight: how many requests it scores at a time.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        threshold: float,
        share: float,
        dice: Callable[[], float] = random.random,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self.threshold = threshold
        self._scorer = scorer
        self._share = share
        self._dice = dice
        self._max_in_flight = max_in_flight
        self._asked: set[asyncio.Task[None]] = set()

    def ask(self, record: CallRecord) -> None:
        """Score a share of the requests. Never blocks; the score is entered into the record."""
        if len(self._asked) < self._max_in_flight and self._dice() < self._share:
            task = asyncio.create_task(self._score(record))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _score(self, record: CallRecord) -> None:
        score = await self._scorer.score(record.turns or ())
        if score is not None and record.ending is None:  # a later score is lost
            record.candidate_score = score.score

    def targets(self, record: CallRecord) -> tuple[Target, Target]:
        """The targets of the live and of the shadow router, for a request with both scores."""
        live, candidate = (
            Target.LOCAL if score is not None and score >= (threshold or 0.0) else Target.CLOUD
            for score, threshold in (
                (record.score, record.threshold),
                (record.candidate_score, self.threshold),
            )
        )
        return live, candidate
