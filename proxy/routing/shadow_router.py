"""The shadow router: a second router model that scores live traffic and decides nothing.

    shadow_router.ask(record, input_tokens=120)  # after the decision; does not block
    shadow_router.targets(record)   # after the request has ended, if it has the shadow score

It scores a few requests at a time in its own thread, and skips requests that end before their
score. It changes no decision and delays no answer, except by its CPU time.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from proxy.record import CallRecord, Target
from proxy.routing.router import Scorer
from router_model.task import ScoreSystem
from router_model.value import GainPerDollar

MAX_IN_FLIGHT: Final = 8
# Far longer than a score takes.
TIMEOUT_SECONDS: Final = 60.0


class ShadowRouter:
    """The shadow router of one configuration.

    Args:
        threshold: it would keep requests with at least this merit local.
        objective: rates the requests; None ranks them by score.
        share: the share of requests that it scores.
        score_system: whether the system prompt is scored, as for the router.
        rng: draws a number from 0 to 1 for each request.
        max_in_flight: the maximum number of requests that it scores at a time.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        threshold: float,
        share: float,
        objective: GainPerDollar | None = None,
        score_system: ScoreSystem = "auto",
        rng: Callable[[], float] = random.random,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self.threshold = threshold
        self._scorer = scorer
        self._share = share
        self._objective = objective
        self._score_system = score_system
        self._rng = rng
        self._max_in_flight = max_in_flight
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, record: CallRecord, *, input_tokens: float | None = None) -> None:
        """Score a share of the requests. Never blocks; the merit is entered into the record.

        Args:
            input_tokens: of the request.
        """
        if len(self._tasks) < self._max_in_flight and self._rng() < self._share:
            task = asyncio.create_task(self._score(record, input_tokens))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _score(self, record: CallRecord, input_tokens: float | None) -> None:
        score = await self._scorer.score(record.turns or (), score_system=self._score_system)
        if score is not None and record.ending is None:  # a later score is dropped
            record.candidate_score = score.score
            if self._objective is not None:
                rated = self._objective.rate(score, input_tokens=input_tokens)
                record.candidate_score = rated.merit

    def targets(self, record: CallRecord) -> tuple[Target, Target]:
        """The targets of the live and of the shadow router, for a request with both scores."""
        live, candidate = (
            Target.LOCAL if merit is not None and merit >= (threshold or 0.0) else Target.CLOUD
            for merit, threshold in (
                (record.merit, record.threshold),
                (record.candidate_score, self.threshold),
            )
        )
        return live, candidate
