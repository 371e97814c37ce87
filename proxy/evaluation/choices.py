"""What users prefer: the local answer, the cloud's, or neither, of two answers to the same prompt.

Users choose what they compare, so choices are no random sample of the traffic. Their share is a
score of the compared requests, not an estimate of the quality of all. Blind choices, where the
tiers were hidden, are counted apart: whoever sees the names may judge the names.

All methods block: call them in a thread. They raise StoreUnavailable when the database is
unavailable.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, NamedTuple

import peewee

from proxy.evaluation.estimates import share_interval
from proxy.protocol.endpoints import CHAT, COMPLETIONS, RESPONSES
from proxy.protocol.ollama import spellings_of
from proxy.record import Ending, Target
from proxy.storage import (
    FAILURES,
    Queries,
    StoreUnavailable,
    exclusive_transaction,
    parse_turns,
    storable,
)
from proxy.storage.tables import Choice, Judgement, Request

Preferred = Literal["local", "cloud", "tie"]
Source = Literal["chat", "compare"]

_COLUMNS: Final = (
    Request.id, Request.endpoint, Request.target, Request.model, Request.ending, Request.category,
    Request.prompt, Request.client_key_hash,
)  # fmt: skip
_ENDPOINTS: Final = (CHAT.name, RESPONSES.name, COMPLETIONS.name)  # whose answers are texts


class RefusedChoice(Exception):
    """Two requests cannot be compared. The message says why; `field` names the wrong one."""

    def __init__(self, field: str, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.is_missing = is_missing


class Chooser(NamedTuple):
    """Who chooses: the hash of the API key (None without keys), and whose requests it may name."""

    key_hash: str | None
    is_admin: bool


class Opinion(NamedTuple):
    """A user's choice between the answers of two requests.

    Attributes:
        request_id: of the answer that came first.
        other_id: of the other tier's answer.
        is_blind: whether the tiers were hidden until the choice.
        may_learn: whether the user lets calibration use it.
    """

    request_id: str
    other_id: str
    choice: Preferred
    source: Source
    is_blind: bool
    may_learn: bool


class ChosenRequest(NamedTuple):
    """A choice that calibration may use.

    `turns` is None if no readable prompt is stored.
    """

    id: str
    turns: list[tuple[str, str]] | None
    session_id: str | None
    local_model: str
    cloud_model: str
    choice: Preferred
    is_blind: bool


class ChoiceCounts(NamedTuple):
    """Choices by their outcome."""

    local: int = 0
    cloud: int = 0
    tie: int = 0

    def to_dict(self) -> dict[str, int | float | None]:
        """The counts, and the share where the local answer was good enough with its interval."""
        total, good = sum(self), self.local + self.tie
        interval = share_interval(good, total)
        return {
            **self._asdict(),
            "comparisons": total,
            "local_good_enough": good,
            "share": None if interval is None else interval.value,
            "low": None if interval is None else interval.low,
            "high": None if interval is None else interval.high,
        }


class _Compared(NamedTuple):
    """The columns of a compared request."""

    id: str
    endpoint: str
    target: str | None
    model: str | None
    ending: str
    category: str | None
    prompt: str | None
    client_key_hash: str | None


class ChoiceRecords:
    """The choices of one database.

    Args:
        clock: UNIX seconds.
    """

    def __init__(
        self, database: peewee.Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock

    def record(self, opinion: Opinion, chooser: Chooser) -> None:
        """Store a choice. A later choice between the same answers replaces it.

        Raises:
            RefusedChoice: the requests are not the chooser's, or not two complete answers of
                different tiers to the same prompt.
        """
        found = self._find(opinion, chooser)
        first, other = (
            _require(found, field, getattr(opinion, field)) for field in ("request_id", "other_id")
        )
        if first.target == other.target:
            raise RefusedChoice(
                "other_id",
                f"Both answers are from the {first.target} tier. Name one of each tier.",
            )
        if None not in (first.prompt, other.prompt) and first.prompt != other.prompt:
            raise RefusedChoice("other_id", "The two answers are to different prompts.")
        models = {row.target: row.model or "" for row in (first, other)}
        values = {
            "created_at": self._clock(),
            "request_id": first.id,
            "other_id": other.id,
            "client_key_hash": chooser.key_hash,
            "source": opinion.source,
            "choice": opinion.choice,
            "is_blind": opinion.is_blind,
            "may_learn": opinion.may_learn,
            "local_model": models[Target.LOCAL],
            "cloud_model": models[Target.CLOUD],
            "category": first.category or other.category,
        }
        upsert = Choice.insert(values).on_conflict(
            conflict_target=[Choice.request_id],
            preserve=[getattr(Choice, name) for name in values if name != "request_id"],
        )
        # The same two answers, named in the other order, are the same comparison.
        mirrored = Choice.delete().where(Choice.request_id == other.id, Choice.other_id == first.id)
        try:
            with (
                self._database.connection_context(),
                exclusive_transaction(self._database, name="choices"),
            ):
                mirrored.execute(self._database)
                upsert.execute(self._database)
        except FAILURES as error:
            raise StoreUnavailable(f"The choice cannot be stored: {error}") from None

    def _find(self, opinion: Opinion, chooser: Chooser) -> dict[str, _Compared]:
        """The named requests that the chooser may see, by id."""
        ids = [storable(opinion.request_id), storable(opinion.other_id)]
        query = Request.select(*_COLUMNS).where(Request.id.in_(ids)).tuples()
        try:
            with self._database.connection_context():
                rows = [_Compared._make(row) for row in query.execute(self._database)]
        except FAILURES as error:
            raise StoreUnavailable(f"Requests cannot be looked up: {error}") from None
        return {
            row.id: row
            for row in rows
            if chooser.is_admin or row.client_key_hash == chooser.key_hash
        }


class ChoiceQueries(Queries):
    """What the choices of one database say."""

    def score(
        self,
        since: float = 0.0,
        *,
        models: tuple[str, str] | None = None,
        client: str | None = None,
    ) -> dict[str, Any]:
        """How often the local answer was good enough: of all, blind and open choices.

        Args:
            since: UNIX seconds.
            models: only choices between this local and this cloud model.
            client: only the choices of this key, by its hash.
        """
        conditions = [Choice.created_at >= since]
        if models is not None:
            conditions += [
                peewee.fn.LOWER(column).in_(spellings_of(model))
                for column, model in zip(
                    (Choice.local_model, Choice.cloud_model), models, strict=True
                )
            ]
        if client is not None:
            conditions.append(Choice.client_key_hash == client)
        query = (
            Choice.select(
                Choice.is_blind, Choice.category, Choice.choice, peewee.fn.COUNT(Choice.id)
            )
            .where(*conditions)
            .group_by(Choice.is_blind, Choice.category, Choice.choice)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        categories = sorted({category or "none" for _, category, _, _ in rows})
        return {
            **_tallies(rows),
            "categories": [
                {
                    "category": name,
                    **_tallies(row for row in rows if (row[1] or "none") == name),
                }
                for name in categories
            ],
        }

    def count_usable(self, since: float = 0.0) -> int:
        """The choices that their users let calibration use."""
        query = Choice.select().where(Choice.created_at >= since, Choice.may_learn)
        with self._reading() as database:
            return int(query.count(database))

    def chosen_requests(self, since: float = 0.0) -> list[ChosenRequest]:
        """The choices since `since` that calibration may use, oldest first.

        A request that a judge has graded is left out: its judgements count.
        """
        query = (
            Choice.select(
                Choice.request_id, Request.prompt, Request.session_id, Choice.local_model,
                Choice.cloud_model, Choice.choice, Choice.is_blind,
            )
            .join(Request, on=Choice.request_id == Request.id)
            .join(
                Judgement, peewee.JOIN.LEFT_OUTER, on=Judgement.request_id == Choice.request_id
            )
            .where(Choice.created_at >= since, Choice.may_learn, Judgement.request_id.is_null())
            .order_by(Choice.created_at, Choice.id)
        )  # fmt: skip
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            ChosenRequest(key, parse_turns(prompt), session, local, cloud, choice, bool(is_blind))
            for key, prompt, session, local, cloud, choice, is_blind in rows
        ]


def _require(found: dict[str, _Compared], field: str, request_id: str) -> _Compared:
    """A request with a complete answer of a tier. Raises RefusedChoice."""
    row = found.get(request_id)
    if row is None:
        raise RefusedChoice(field, f"The request '{request_id}' does not exist.", is_missing=True)
    has_answer = row.ending == Ending.OK and row.target in tuple(Target)
    if not has_answer or row.endpoint not in _ENDPOINTS:
        raise RefusedChoice(field, f"The request '{request_id}' has no complete answer.")
    return row


def _tallies(rows: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """All, blind and open choices of rows (is blind, category, choice, number)."""
    counts = {"all": ChoiceCounts(), "blind": ChoiceCounts(), "open": ChoiceCounts()}
    for is_blind, _, choice, number in rows:
        for name in ("all", "blind" if is_blind else "open"):
            before = counts[name]
            added = getattr(before, choice) + int(number)
            counts[name] = before._replace(**{choice: added})
    return {name: count.to_dict() for name, count in counts.items()}
