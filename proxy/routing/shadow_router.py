"""A candidate router model: it scores some of the requests beside the one that decides.

    canary.ask(record)       # after the decision, and nobody waits for it
    canary.targets(record)   # once the record is finished, where it has the candidate's score

It works in a thread of its own and on a handful of requests at a time; what it has not scored when
a request ends is left out. So whatever it does, no request is decided otherwise or answered later,
but for the processor's time that it takes.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from proxy.record import CallRecord, Target
from proxy.routing.router import Scorer

MAX_IN_FLIGHT: Final = 8
# It may take its time; one that takes this long hangs.
TIMEOUT_SECONDS: Final = 60.0


class ShadowRouter:
    """The candidate in one configuration.

    Args:
        threshold: from which score on it would keep a request local.
        share: of the requests that it is asked about.
        dice: a number from 0 to 1, drawn for each request.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        threshold: float,
        share: float,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.threshold = threshold
        self._scorer = scorer
        self._share = share
        self._dice = dice
        self._asked: set[asyncio.Task[None]] = set()

    def ask(self, record: CallRecord) -> None:
        """Have it score a request, perhaps. Never blocks; the score comes into the record."""
        if len(self._asked) < MAX_IN_FLIGHT and self._dice() < self._share:
            task = asyncio.create_task(self._score(record))
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)

    async def _score(self, record: CallRecord) -> None:
        score = await self._scorer.score(record.turns or ())
        if score is not None and record.ending is None:  # later, it would be in half of the sums
            record.candidate_score = score.score

    def targets(self, record: CallRecord) -> tuple[Target, Target]:
        """What the router that decides said of a request that both have scored, and the other."""
        live, candidate = (
            Target.LOCAL if score is not None and score >= (threshold or 0.0) else Target.CLOUD
            for score, threshold in (
                (record.score, record.threshold),
                (record.candidate_score, self.threshold),
            )
        )
        return live, candidate
