"""Rate limits and daily budgets shared by all processes on one database.

    shared_limits = SharedLimits(store.database)
    shared_limits.take_requests("a1b2…", 60, wanted=1)
    shared_limits.draw_dollars(day, "", budget=5.0, own=1.25, others=0.5, need=0.01)

A process does not ask for every request. It takes several requests of a key's token bucket and
leases part of the daily budget, and serves from them alone. The less is left, the smaller the part,
but a lease covers the maximum cost of the running requests. A lease counts as spent until it is
returned, so all processes together never exceed the budget. The lease of a killed process is lost.

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
REQUEST_SHARE: Final = 20  # a process takes 1/20 of a minute's requests at a time
_FREE_SHARE: Final = 4  # or 1/4 of the free ones, if fewer
_DOLLAR_SHARE: Final = 16  # it leases 1/16 of the remaining budget
_ROUNDING: Final = 1e-6


class Taken(NamedTuple):
    """The requests a process may answer now; if none, the seconds until the next one."""

    requests: int
    seconds: float = 0.0


class SharedLimits:
    """The shared limits as one process uses them.

    Args:
        clock: UNIX seconds. On PostgreSQL the server's clock is used for token buckets.

    Every method raises StoreUnavailable when the database cannot be used now.
    """

    def __init__(
        self, database: peewee.Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock
        self._holder = secrets.token_hex(8)  # a restarted process is a new holder

    def take_requests(self, key_hash: str, per_minute: int, *, wanted: int) -> Taken:
        """Take requests from a key's token bucket, which holds a minute's and refills evenly.

        Args:
            wanted: the number of waiting requests. More are taken in advance if many are free.
        """
        each = MINUTE_SECONDS / per_minute
        with self._locked(key_hash) as database:
            now = self._now()
            rows = list(
                TokenBucket.select(TokenBucket.full_at)
                .where(TokenBucket.key_hash == key_hash)
                .tuples()
                .execute(database)
            )
            full_at = max(rows[0][0] if rows else 0.0, now)
            if full_at > now + MINUTE_SECONDS:  # another process had a fast clock
                full_at = now + MINUTE_SECONDS
                self._store_bucket(database, key_hash, full_at)
            free = int((MINUTE_SECONDS - (full_at - now)) / each + _ROUNDING)
            if free < 1:
                return Taken(0, full_at + each - now - MINUTE_SECONDS)
            ahead = min(per_minute // REQUEST_SHARE, free // _FREE_SHARE)
            taken = min(free, max(wanted, ahead))
            self._store_bucket(database, key_hash, full_at + taken * each)
            return Taken(taken)

    def _store_bucket(self, database: peewee.Database, key_hash: str, full_at: float) -> None:
        TokenBucket.insert(key_hash=key_hash, full_at=full_at).on_conflict(
            conflict_target=[TokenBucket.key_hash], preserve=[TokenBucket.full_at]
        ).execute(database)

    def draw_dollars(
        self, day: int, name: str, *, budget: float, own: float, others: float, need: float
    ) -> float:
        """Lease part of a daily budget; return the total that this process may spend.

        Args:
            day: counted from 1970, UTC.
            name: the hash of an API key; empty for the global budget.
            own: spent by this process.
            others: spent by other processes, according to the rows. Counts if it exceeds their
                leases: some may have been spent before the budget was set.
            need: the maximum cost of running and waiting requests.
        """
        with self._locked(name) as database:
            drawn = dict(
                Lease.select(Lease.holder, Lease.usd)
                .where(Lease.day == day, Lease.name == name)
                .tuples()
                .execute(database)
            )
            mine = drawn.pop(self._holder, None)
            current = max(mine or 0.0, own)
            left = max(budget - max(sum(drawn.values()), others) - current, 0.0)
            granted = current + min(left, max(left / _DOLLAR_SHARE, own + need - current))
            if mine is None:  # its first lease of a day: delete those before yesterday
                Lease.delete().where(Lease.day < day - 1).execute(database)
            self._store_lease(database, day, name, granted)
            return granted

    def give_back(self, day: int, name: str, usd: float) -> None:
        """Return all but this part of a lease."""
        with self._locked(name) as database:
            self._store_lease(database, day, name, usd)

    def _store_lease(self, database: peewee.Database, day: int, name: str, usd: float) -> None:
        Lease.insert(day=day, name=name, holder=self._holder, usd=usd).on_conflict(
            conflict_target=[Lease.day, Lease.name, Lease.holder], preserve=[Lease.usd]
        ).execute(database)

    def _now(self) -> float:
        if isinstance(self._database, peewee.SqliteDatabase):
            return self._clock()
        query = "SELECT extract(epoch FROM clock_timestamp())"
        return float(self._database.execute_sql(query).fetchone()[0])

    @contextmanager
    def _locked(self, name: str) -> Iterator[peewee.Database]:
        try:
            with (
                self._database.connection_context(),
                exclusive_transaction(self._database, name=name),
            ):
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"shared limits are unavailable: {error}") from None
