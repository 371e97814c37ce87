"""What all processes at one database may use together: a key's requests, and the day's dollars.

    shared_limits = SharedLimits(store.database)
    shared_limits.take_requests("a1b2…", 60, wanted=1)
    shared_limits.draw_dollars(day, "", budget=5.0, own=1.25, others=0.5, need=0.01)

Nobody asks here for every request. A process takes some requests of a key's minute, and draws some
of the dollars that are left of a day, both the fewer the less is left, though as many dollars as
its running requests may cost; from these it serves alone.
What it has drawn counts as spent until it is given back, so that all of them together never draw
more than there is; what a process that was killed had drawn is not spent, and not to be had either.

Everything here blocks: call it in a thread.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import peewee

from proxy.storage.database import FAILURES, StoreUnavailable, exclusive_transaction
from proxy.storage.tables import Lease, TokenBucket

MINUTE_SECONDS: Final = 60.0
REQUEST_SHARE: Final = 20  # a process takes a twentieth of a minute's requests at a time
_FREE_SHARE: Final = 4  # and a quarter of those that are free, where that is less
_DOLLAR_SHARE: Final = 16  # it draws a sixteenth of the dollars that are left
_ROUNDING: Final = 1e-6


class Taken(NamedTuple):
    """Requests that a process may answer now, and where there are none how long until there is."""

    requests: int
    seconds: float = 0.0


class SharedLimits:
    """One process's access to what all have used.

    Args:
        clock: UNIX seconds. On PostgreSQL minutes go by the server's, which all machines share.

    Every method raises StoreUnavailable when the database cannot be used now.
    """

    def __init__(
        self, database: peewee.Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock
        self._holder = secrets.token_hex(8)  # a process that is started anew is another one

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        """Take requests of a key's, out of a bucket that holds a minute's and fills evenly.

        Args:
            wanted: how many wait to be answered; more are taken in advance while many are free.
        """
        each = MINUTE_SECONDS / per_minute
        with self._alone(key_hash) as database:
            now = self._now()
            found = list(
                TokenBucket.select(TokenBucket.full_at)
                .where(TokenBucket.key_hash == key_hash)
                .tuples()
                .execute(database)
            )
            full_at = max(found[0][0] if found else 0.0, now)
            if full_at > now + MINUTE_SECONDS:  # whoever took some had a clock that was ahead
                full_at = now + MINUTE_SECONDS
                self._note(database, key_hash, full_at)
            free = int((MINUTE_SECONDS - (full_at - now)) / each + _ROUNDING)
            if free < 1:
                return Taken(0, full_at + each - now - MINUTE_SECONDS)
            ahead = min(per_minute // REQUEST_SHARE, free // _FREE_SHARE)
            taken = min(free, max(wanted, ahead))
            self._note(database, key_hash, full_at + taken * each)
            return Taken(taken)

    def _note(self, database: peewee.Database, key_hash: str, full_at: float) -> None:
        TokenBucket.insert(key_hash=key_hash, full_at=full_at).on_conflict(
            conflict_target=[TokenBucket.key_hash], preserve=[TokenBucket.full_at]
        ).execute(database)

    def draw_dollars(
        self, day: int, name: str, *, budget: float, own: float, others: float, need: float
    ) -> float:
        """What this process may have spent of a day's budget, all in all, before it asks again.

        Args:
            day: counted from 1970, UTC.
            name: whose budget: the hash of a key; empty for everybody's.
            own: what it has spent of it.
            others: what the rows say that others have. It counts where it is more than they drew,
                which is when some of it was spent before there was a budget.
            need: what it would like to have for what runs and is about to.
        """
        with self._alone(name) as database:
            drawn = dict(
                Lease.select(Lease.holder, Lease.usd)
                .where(Lease.day == day, Lease.name == name)
                .tuples()
                .execute(database)
            )
            mine = drawn.pop(self._holder, None)
            had = max(mine or 0.0, own)
            left = max(budget - max(sum(drawn.values()), others) - had, 0.0)
            granted = had + min(left, max(left / _DOLLAR_SHARE, own + need - had))
            if mine is None:  # its first of a day: nobody asks for those before yesterday
                Lease.delete().where(Lease.day < day - 1).execute(database)
            self._keep(database, day, name, granted)
            return granted

    def give_back(self, day: int, name: str, usd: float) -> None:
        """Keep only so many of the dollars that were drawn."""
        with self._alone(name) as database:
            self._keep(database, day, name, usd)

    def _keep(self, database: peewee.Database, day: int, name: str, usd: float) -> None:
        Lease.insert(day=day, name=name, holder=self._holder, usd=usd).on_conflict(
            conflict_target=[Lease.day, Lease.name, Lease.holder], preserve=[Lease.usd]
        ).execute(database)

    def _now(self) -> float:
        if isinstance(self._database, peewee.SqliteDatabase):
            return self._clock()
        query = "SELECT extract(epoch FROM clock_timestamp())"
        return float(self._database.execute_sql(query).fetchone()[0])

    @contextmanager
    def _alone(self, name: str) -> Iterator[peewee.Database]:
        try:
            with (
                self._database.connection_context(),
                exclusive_transaction(self._database, name=name),
            ):
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"what others use is not known: {error}") from None
