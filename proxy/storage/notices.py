"""Which process sends a notification: one of all that share the database.

    if notices.begin("tier:cloud"): ...    # send that an outage has begun
    if notices.end("tier:cloud"): ...      # send that it is over
    if notices.once("budget_80", midnight): ...

Everything here blocks: call it in a thread. While the database is unavailable each process decides
alone, because two messages are better than none.
"""

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import peewee

from proxy.storage.database import FAILURES, exclusive_transaction
from proxy.storage.tables import Notification

logger = logging.getLogger(__name__)

# Between the end of an outage and the next one that is notified of; and how long an outage is
# remembered that no process sees any more.
NOTICE_PAUSE_SECONDS: Final = 600.0


class _Notice(NamedTuple):
    is_active: bool = False
    claimed_at: float = float("-inf")


class _Step(NamedTuple):
    """A new state, None for no change; and whether this process sends the message."""

    notice: _Notice | None
    sends: bool


class Notices:
    """The notices of one database, as one process claims them.

    Args:
        clock: UNIX seconds.
    """

    def __init__(
        self, database: peewee.Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock
        self._own: dict[str, _Notice] = {}  # as last seen, for when the database is unavailable

    def begin(self, name: str) -> bool:
        """Claim the message that an outage has begun. Call it again while the outage lasts."""

        def decide(notice: _Notice, now: float) -> _Step:
            # Known already, or too soon after the last one.
            if now - notice.claimed_at < NOTICE_PAUSE_SECONDS:
                return _Step(_Notice(True, now) if notice.is_active else None, False)
            return _Step(_Notice(True, now), True)

        return self._claim(name, decide)

    def end(self, name: str) -> bool:
        """Claim the message that an outage is over; false if none was notified of."""

        def decide(notice: _Notice, now: float) -> _Step:
            return _Step(_Notice(False, now) if notice.is_active else None, notice.is_active)

        return self._claim(name, decide)

    def once(self, name: str, since: float) -> bool:
        """Claim a message that is sent once in a period.

        Args:
            since: the beginning of the period, in UNIX seconds.
        """

        def decide(notice: _Notice, now: float) -> _Step:
            is_new = notice.claimed_at < since
            return _Step(_Notice(False, now) if is_new else None, is_new)

        return self._claim(name, decide)

    def _claim(self, name: str, decide: Callable[[_Notice, float], _Step]) -> bool:
        now = self._clock()
        try:
            with (
                self._database.connection_context(),
                exclusive_transaction(self._database, name="notifications"),
            ):
                stored = self._read(name)
                step = decide(stored, now)
                if step.notice is not None:
                    self._write(name, step.notice)
        except FAILURES as error:
            logger.warning("notifications: this process decides alone: %s", error)
            stored = self._own.get(name, _Notice())
            step = decide(stored, now)
        self._own[name] = step.notice or stored
        return step.sends

    def _read(self, name: str) -> _Notice:
        query = Notification.select(Notification.is_active, Notification.claimed_at).where(
            Notification.name == name
        )
        rows = list(query.tuples().execute(self._database))
        return _Notice(bool(rows[0][0]), rows[0][1]) if rows else _Notice()

    def _write(self, name: str, notice: _Notice) -> None:
        Notification.insert(name=name, **notice._asdict()).on_conflict(
            conflict_target=[Notification.name],
            preserve=[Notification.is_active, Notification.claimed_at],
        ).execute(self._database)
