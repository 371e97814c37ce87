"""What is to be judged, and what judging has cost: the judges' side of the database.

    queue = JudgeQueue(database, worker="host:42")
    claim = queue.claim("gpt-4o-mini")
    expense = queue.reserve("judge", claim.request_id, "gpt-4o-mini", 0.001, cap_usd=1.0)

Any number of judges may work at one database, in one process or on several machines: a sample is
claimed by one of them at a time, and dollars are set aside, with the most that a call can cost,
before it is made. What a judge that died had claimed comes back after CLAIM_SECONDS; what it had
set aside stays spent, for it may have been billed. Everything here blocks: call it in a thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

import peewee

from proxy.record import Target
from proxy.storage import (
    FAILURES,
    StoreUnavailable,
    exclusive_transaction,
    parse_turns,
    start_of_day,
)
from proxy.storage.tables import Expense, Judgement, Preference, Request, Sample

CLAIM_SECONDS: Final = 900.0

Purpose = Literal["judge", "shadow"]
Verdict = Literal["local", "cloud", "tie"]


class ClaimedSample(NamedTuple):
    """A sample that is this judge's for a while, with its request and what was done so far.

    `turns` is None where no readable prompt was kept. `graded` has the tiers whose answers this
    judge model has graded.
    """

    request_id: str
    kind: Literal["grade", "pair"]
    attempts: int
    turns: list[tuple[str, str]] | None
    response: str
    target: Target
    model: str
    body: str | None
    other_model: str | None
    other_response: str | None
    graded: frozenset[Target]
    is_compared: bool

    @property
    def needs_other_answer(self) -> bool:
        return self.kind == "pair" and self.other_response is None


class JudgeQueue:
    """The samples of one database.

    Args:
        worker: names this judge.
        clock: UNIX seconds.

    Every method raises StoreUnavailable when the database cannot be used now.
    """

    def __init__(
        self, database: peewee.Database, *, worker: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock

    def claim(self, judge_model: str, *, ask_tiers: bool = True) -> ClaimedSample | None:
        """Take the next sample whose turn it is; None when there is none for now.

        Args:
            shadows: also those for which the other tier has yet to answer.
        """
        now = self._clock()
        which = (Sample.state == "pending") & (Sample.next_at <= now)
        if not ask_tiers:
            which &= (Sample.kind == "grade") | Sample.other_response.is_null(False)
        due = Sample.select().where(which).order_by(Sample.turn).limit(1)
        with self._using() as database:
            if not list(due.tuples().execute(database)):
                return None  # the usual case, for which nobody has to wait
            with exclusive_transaction(database):
                found = list(due.dicts().execute(database))
                if not found:
                    return None
                sample = found[0]
                self._update(
                    sample["request_id"], claimed_by=self._worker, next_at=now + CLAIM_SECONDS
                )
            return self._whole(sample, judge_model)

    def _whole(self, sample: Mapping[str, Any], judge_model: str) -> ClaimedSample | None:
        request_id = sample["request_id"]
        rows = list(
            Request.select(Request.prompt, Request.response, Request.target, Request.model)
            .where(Request.id == request_id)
            .tuples()
            .execute(self._database)
        )
        graded = Judgement.select(Judgement.target).where(
            Judgement.request_id == request_id, Judgement.judge_model == judge_model
        )
        compared = Preference.select(Preference.verdict).where(
            Preference.request_id == request_id, Preference.judge_model == judge_model
        )
        prompt, response, target, model = rows[0] if rows else (None, None, Target.LOCAL, None)
        return ClaimedSample(
            request_id=request_id,
            kind=sample["kind"],
            attempts=sample["attempts"],
            turns=parse_turns(prompt),
            response=response or "",
            target=Target(target),
            model=model or "",
            body=sample["body"],
            other_model=sample["other_model"],
            other_response=sample["other_response"],
            graded=frozenset(Target(one) for (one,) in graded.tuples().execute(self._database)),
            is_compared=bool(list(compared.tuples().execute(self._database))),
        )

    def release(self, request_id: str, *, seconds: float, failed: bool = False) -> None:
        """Let others have a sample, `seconds` from now; `failed`: it counts as an attempt."""
        with self._using():
            self._update(
                request_id,
                claimed_by=None,
                next_at=self._clock() + seconds,
                attempts=Sample.attempts + int(failed),
            )

    def finish(self, request_id: str, *, why: str | None = None) -> None:
        """A sample is done, or refused for a reason. What was kept to do it is no longer needed."""
        state = "done" if why is None else "refused"
        with self._using():
            self._update(request_id, claimed_by=None, state=state, why=why, body=None)

    def _update(self, request_id: str, **values: object) -> None:
        Sample.update(**values).where(Sample.request_id == request_id).execute(self._database)

    def save_other_answer(self, request_id: str, model: str, text: str) -> None:
        """What the other tier answered."""
        with self._using():
            self._update(request_id, other_model=model, other_response=text)

    def save_grade(
        self,
        request_id: str,
        target: Target,
        *,
        model: str,
        score: float,
        judge_model: str,
        reason: str,
    ) -> None:
        """A judge's score (1-10) of one tier's answer. The first of a judge model stands."""
        with self._using() as database:
            Judgement.insert(
                request_id=request_id,
                created_at=self._clock(),
                target=target,
                model=model,
                score=score,
                judge_model=judge_model,
                reason=reason,
            ).on_conflict_ignore().execute(database)

    def save_preference(
        self,
        request_id: str,
        *,
        judge_model: str,
        verdict: Verdict,
        first: Verdict,
        swapped: Verdict,
    ) -> None:
        """Which answer a judge found better, in both orders."""
        with self._using() as database:
            Preference.insert(
                request_id=request_id,
                created_at=self._clock(),
                judge_model=judge_model,
                verdict=verdict,
                first=first,
                swapped=swapped,
            ).on_conflict_ignore().execute(database)

    def reserve(
        self, purpose: Purpose, request_id: str, model: str, usd: float, *, cap_usd: float
    ) -> int | None:
        """Set dollars aside for a call; None when that would pass the day's cap (UTC).

        Returns the number by which to `settle` it. A sample that is worked on stays this judge's.
        """
        with self._using() as database, exclusive_transaction(database):
            if usd > 0 and self._spent(purpose) + usd > cap_usd:
                return None
            Sample.update(next_at=self._clock() + CLAIM_SECONDS).where(
                Sample.request_id == request_id, Sample.claimed_by == self._worker
            ).execute(database)
            return int(
                Expense.insert(
                    created_at=self._clock(),
                    purpose=purpose,
                    request_id=request_id,
                    model=model,
                    usd=usd,
                    is_settled=False,
                ).execute(database)
            )

    def settle(self, expense: int, usd: float) -> None:
        """What a call really cost."""
        with self._using() as database:
            Expense.update(usd=usd, is_settled=True).where(Expense.id == expense).execute(database)

    def spent_today(self, purpose: Purpose) -> float:
        """Dollars since midnight UTC, whichever judge spent them."""
        with self._using():
            return self._spent(purpose)

    def _spent(self, purpose: Purpose) -> float:
        query = Expense.select(peewee.fn.SUM(Expense.usd)).where(
            Expense.created_at >= start_of_day(self._clock()), Expense.purpose == purpose
        )
        ((usd,),) = query.tuples().execute(self._database)
        return usd or 0.0

    def count(self) -> dict[str, int]:
        """Samples by their state."""
        query = Sample.select(Sample.state, peewee.fn.COUNT(Sample.request_id)).group_by(
            Sample.state
        )
        with self._using() as database:
            return dict(query.tuples().execute(database))

    @contextmanager
    def _using(self) -> Iterator[peewee.Database]:
        try:
            with self._database.connection_context():
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"samples cannot be read or written: {error}") from None
