"""Lookups of single rows and of today's spend, on the database of a `Store`.

    answer = store.lookups.find_answer(keys, since)

All of them block: call them in a thread. `queries` reads many rows.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import peewee

from proxy.record import DAY_SECONDS, PICODOLLARS, CallRecord, Ending, Reason, Target
from proxy.storage.database import FAILURES, StoreUnavailable, snapshot_transaction, storable
from proxy.storage.tables import DailyKeyTotals, Feedback, HourlyTotals, Request, Response

logger = logging.getLogger(__name__)


class StoredResponse(NamedTuple):
    """A row of `responses`: a stored answer of the Responses API."""

    id: str
    target: Target
    client_key_hash: str | None
    items: str | None
    input_items: int
    body: str | None


class NotedAnswer(NamedTuple):
    """What the next request of a conversation needs to know of an answer.

    Attributes:
        session: the id of the conversation.
    """

    session: str
    target: Target


class WrittenSpend:
    """The cloud cost of the rows that this process has written. Shared with the writer.

    Attributes:
        inserting: held while rows are inserted. Its holder knows which rows of this process are in
            the database.
        in_doubt: the number of rows of the last insert that may or may not be in the database.
        written_usd: by day and the hash of the client's key.
    """

    def __init__(self) -> None:
        self.inserting = threading.Lock()
        self.in_doubt = 0
        self.written_usd: dict[tuple[int, str | None], float] = {}

    def add(self, batch: Sequence[CallRecord]) -> None:
        """Add the cloud cost of rows that were just inserted."""
        written = self.written_usd
        for record in batch:
            if usd := record.budget_usd:
                day = int(record.created_at) // DAY_SECONDS * DAY_SECONDS
                key = day, record.client_key_hash
                if key not in written:  # the first of a day: drop the days before yesterday
                    for old in [other for other in written if other[0] < day - DAY_SECONDS]:
                        del written[old]
                written[key] = written.get(key, 0.0) + usd


class Lookups:
    """Single rows of one database, and its cloud spend.

    Args:
        clock: UNIX seconds.
    """

    def __init__(
        self,
        database: peewee.Database,
        spend: WrittenSpend,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._spend = spend
        self._clock = clock
        self._knows_spent = True

    def find_response(self, response_id: str) -> StoredResponse | None:
        """The row of a stored response; None if there is none.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        columns = [getattr(Response, name) for name in StoredResponse._fields]
        query = Response.select(*columns).where(Response.id == storable(response_id)).tuples()
        try:
            with self._database.connection_context():
                for row in query.execute(self._database):
                    return StoredResponse(*row)._replace(target=Target(row[1]))
        except FAILURES as error:
            logger.error("cannot look up response %s: %s", response_id, error)
            raise StoreUnavailable(f"Responses cannot be looked up: {error}") from None
        return None

    def find_answer(self, keys: Sequence[str], since: float) -> NotedAnswer | None:
        """The newest complete answer with one of the keys since then (UNIX seconds).

        None if there is none.

        Raises:
            StoreUnavailable: the database cannot be read.
        """
        query = (
            Request.select(Request.session_id, Request.target)
            .where(
                Request.history_hash.in_(keys),
                Request.created_at >= since,
                Request.ending == Ending.OK,
                Request.session_id.is_null(False),
                Request.target.is_null(False),
            )
            .order_by(Request.created_at.desc())
            .limit(1)
            .tuples()
        )
        try:
            with self._database.connection_context():
                for session, target in query.execute(self._database):
                    return NotedAnswer(session, Target(target))
        except FAILURES as error:
            logger.error("cannot look up a conversation: %s", error)
            raise StoreUnavailable(f"Conversations cannot be looked up: {error}") from None
        return None

    def record_feedback(
        self, request_id: str, rating: float, comment: str | None, *, client: str | None
    ) -> tuple[str, bool] | None:
        """Store a client's rating of an answer; a later rating replaces it.

        Returns the tier that answered ("none" without one) and whether the request had no rating
        yet. None if the client (by the hash of its key) made no such request.

        Raises:
            StoreUnavailable: the database cannot be written.
        """
        request_id, comment = storable(request_id), comment and storable(comment)
        find = Request.select(Request.target, Request.client_key_hash).where(
            Request.id == request_id
        )
        upsert = Feedback.insert(
            request_id=request_id, created_at=self._clock(), rating=rating, comment=comment
        ).on_conflict(
            conflict_target=[Feedback.request_id],
            preserve=[Feedback.created_at, Feedback.rating, Feedback.comment],
        )
        try:
            # No transaction: SQLite refuses at once to write in a transaction whose reads another
            # connection has changed.
            with self._database.connection_context():
                rows = list(find.tuples().execute(self._database))
                if not rows or rows[0][1] != client:
                    return None
                known = Feedback.select().where(Feedback.request_id == request_id)
                is_new = not list(known.tuples().execute(self._database))
                upsert.execute(self._database)
                return rows[0][0] or "none", is_new
        except FAILURES as error:
            raise StoreUnavailable(f"Feedback cannot be stored: {error}") from None

    def spent_by_others(
        self, since: float, *, by_key: bool = True
    ) -> dict[str | None, float] | None:
        """Cloud cost of all other processes: the total less what this process has written.

        None if it is unknown, also while the last insert of this process is unconfirmed. Blocks
        the writer meanwhile.

        Args:
            since: the start of a day (UTC).
            by_key: group by key. The total alone, under the key None, is cheaper.
        """
        with self._spend.inserting:
            if self._spend.in_doubt:
                return None
            spent = self._read_spent(since, by_key=by_key)
            if spent is None:
                return None
            for (day, key), usd in self._spend.written_usd.items():
                if day >= since:
                    name = key if by_key else None
                    spent[name] = max(spent.get(name, 0.0) - usd, 0.0)
        return spent

    def _read_spent(self, since: float, *, by_key: bool) -> dict[str | None, float] | None:
        """The cloud cost of all processes since the start of a day, in USD; None if it is unknown.

        It is read from the rollups, because a day may have a million rows.
        """
        database = self._database
        try:
            with database.connection_context(), snapshot_transaction(database):
                total = _sum(
                    database,
                    HourlyTotals.select(peewee.fn.SUM(HourlyTotals.cost_pico)).where(
                        HourlyTotals.hour >= since,
                        # As in `CallRecord.budget_usd`: a fallback is from the cloud.
                        (HourlyTotals.target == "cloud")
                        | (HourlyTotals.reason == str(Reason.FALLBACK)),
                    ),
                )
                spent = _spent_by_keys(database, since) if by_key else {}
        except FAILURES as error:
            if self._knows_spent:  # queried every few seconds: log once
                logger.error("today's cloud spend is unknown: %s", error)
            self._knows_spent = False
            return None
        self._knows_spent = True
        spent[None] = max(total - sum(spent.values()), 0)  # without a key
        return {key: pico / PICODOLLARS for key, pico in spent.items()}


def _spent_by_keys(database: peewee.Database, since: float) -> dict[str | None, int]:
    """The cloud cost of each API key in picodollars, as `CallRecord.budget_usd` defines it."""
    spent: dict[str | None, int] = {}
    days = (
        DailyKeyTotals.select(DailyKeyTotals.key_hash, peewee.fn.SUM(DailyKeyTotals.cost_pico))
        .where(DailyKeyTotals.day >= since, DailyKeyTotals.target == "cloud")
        .group_by(DailyKeyTotals.key_hash)
    )
    # Rollups of keys have no reason, so a fallback to the local tier is not in those of the cloud.
    # They are summed from the rows; only few have a cost.
    fallbacks = (
        Request.select(Request.client_key_hash, peewee.fn.SUM(Request.cost_usd))
        .where(
            # Literals: an index of some rows is chosen before the parameters are known.
            peewee.SQL("reason = 'fallback' AND coalesce(target, '') <> 'cloud' AND cost_usd > 0"),
            Request.created_at >= since,
            Request.client_key_hash.is_null(False),
        )
        .group_by(Request.client_key_hash)
    )
    for query, unit in ((days, 1), (fallbacks, PICODOLLARS)):
        for key, cost in query.tuples().execute(database):
            spent[key] = spent.get(key, 0) + round(cost * unit)
    return {key: pico for key, pico in spent.items() if pico}


def _sum(database: peewee.Database, query: Any) -> int:
    ((total,),) = query.tuples().execute(database)
    return int(total or 0)
