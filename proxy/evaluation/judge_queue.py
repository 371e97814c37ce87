"""The judge's queue in the database: sampled requests, verdicts and the cost of judging.

    queue = JudgeQueue(database, worker="host:42")
    claim = queue.claim("gpt-4o-mini")
    expense = queue.reserve("judge", claim.request_id, "gpt-4o-mini", 0.001, cap_usd=1.0)

Any number of judges, on any number of machines, may share one database. One judge at a time claims
a sample. A call reserves its maximum cost before it is made. After a crash, a claim expires after
CLAIM_SECONDS; a reservation stays spent, because the call may have been billed.

All methods block: call them in a thread.
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
from router_model.evidence import Evidence

CLAIM_SECONDS: Final = 900.0
MAX_REASON_CHARS: Final = 2_000  # of what a judge or an upstream says

Purpose = Literal["judge", "shadow"]
Verdict = Literal["local", "cloud", "tie"]


class ClaimedSample(NamedTuple):
    """A sample that this judge has claimed, with its request and the work done so far.

    Attributes:
        turns: None if no readable prompt was stored.
        evidence: about the local answer, of a pair.
        graded: the tiers whose answers this judge model has graded.
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
    evidence: Evidence | None
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

    Methods raise StoreUnavailable when the database is unavailable.
    """

    def __init__(
        self, database: peewee.Database, *, worker: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock

    def claim(self, judge_model: str, *, ask_tiers: bool = True) -> ClaimedSample | None:
        """Claim the next sample that is due, in random order; None if there is none.

        Args:
            ask_tiers: include pairs that still need the other tier's answer.
        """
        now = self._clock()
        is_due = (Sample.state == "pending") & (Sample.next_at <= now)
        if not ask_tiers:
            is_due &= (Sample.kind == "grade") | Sample.other_response.is_null(False)
        query = Sample.select().where(is_due).order_by(Sample.turn).limit(1)
        with self._using() as database:
            if not list(query.tuples().execute(database)):
                return None  # the usual case needs no exclusive transaction
            with exclusive_transaction(database):
                samples = list(query.dicts().execute(database))
                if not samples:
                    return None
                [sample] = samples
                self._update(
                    sample["request_id"], claimed_by=self._worker, next_at=now + CLAIM_SECONDS
                )
            return self._load(sample, judge_model)

    def _load(self, sample: Mapping[str, Any], judge_model: str) -> ClaimedSample:
        """The sample with its request and verdicts."""
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
            evidence=Evidence.from_json(sample["evidence"]),
            graded=frozenset(Target(tier) for (tier,) in graded.tuples().execute(self._database)),
            is_compared=bool(list(compared.tuples().execute(self._database))),
        )

    def release(self, request_id: str, *, seconds: float, failed: bool = False) -> None:
        """Make a sample available again in `seconds`. If it failed, count an attempt."""
        with self._using():
            self._update(
                request_id,
                claimed_by=None,
                next_at=self._clock() + seconds,
                attempts=Sample.attempts + int(failed),
            )

    def finish(self, request_id: str, *, why: str | None = None) -> None:
        """Mark a sample as done or, with a reason, as refused. Deletes the stored request body."""
        state = "done" if why is None else "refused"
        with self._using():
            why = why and why[:MAX_REASON_CHARS]
            self._update(request_id, claimed_by=None, state=state, why=why, body=None)

    def _update(self, request_id: str, **values: object) -> None:
        Sample.update(**values).where(Sample.request_id == request_id).execute(self._database)

    def save_other_answer(
        self, request_id: str, model: str, text: str, *, evidence: Evidence | None = None
    ) -> None:
        """Store the answer of the other tier. A local one has evidence."""
        values = {} if evidence is None else {"evidence": evidence.to_json()}
        with self._using():
            self._update(request_id, other_model=model, other_response=text, **values)

    def save_evidence(self, request_id: str, evidence: Evidence) -> None:
        """Store the evidence about the local answer of a pair."""
        with self._using():
            self._update(request_id, evidence=evidence.to_json())

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
        """Store a score from 1 to 10. The first one of each judge model and answer stays."""
        self._insert_once(
            Judgement, request_id, target=target, model=model, score=score,
            judge_model=judge_model, reason=reason[:MAX_REASON_CHARS],
        )  # fmt: skip

    def save_preference(
        self,
        request_id: str,
        *,
        judge_model: str,
        verdict: Verdict,
        first: Verdict,
        swapped: Verdict,
    ) -> None:
        """Store the verdicts of a comparison in both orders. The first row of a model stays."""
        self._insert_once(
            Preference, request_id, judge_model=judge_model, verdict=verdict, first=first,
            swapped=swapped,
        )  # fmt: skip

    def _insert_once(
        self, table: type[Judgement | Preference], request_id: str, **values: object
    ) -> None:
        row = table.insert(request_id=request_id, created_at=self._clock(), **values)
        with self._using() as database:
            row.on_conflict_ignore().execute(database)

    def reserve(
        self, purpose: Purpose, request_id: str, model: str, usd: float, *, cap_usd: float
    ) -> int | None:
        """Reserve the cost of a call. Renews the claim on the sample.

        Returns the ID of the expense, for `settle`; None if it would exceed today's cap (UTC).
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
        """Replace a reservation with the actual cost."""
        with self._using() as database:
            Expense.update(usd=usd, is_settled=True).where(Expense.id == expense).execute(database)

    def spent_today(self, purpose: Purpose) -> float:
        """USD spent and reserved since midnight UTC, by all judges."""
        with self._using():
            return self._spent(purpose)

    def _spent(self, purpose: Purpose) -> float:
        query = Expense.select(peewee.fn.SUM(Expense.usd)).where(
            Expense.created_at >= start_of_day(self._clock()), Expense.purpose == purpose
        )
        ((usd,),) = query.tuples().execute(self._database)
        return usd or 0.0

    def count(self) -> dict[str, int]:
        """The number of samples by state."""
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
