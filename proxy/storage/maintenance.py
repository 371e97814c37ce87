"""Database maintenance: size, migrations, free space, and consistency of the rollups."""

import contextlib
import fcntl
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import peewee

from proxy.config import StorageConfig
from proxy.record import DAY_SECONDS, HOUR_SECONDS
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    claimed_transaction,
    close_all,
    integrity_errors,
    is_postgresql,
    open_database,
    path_of,
    redacted_url,
    snapshot_transaction,
)
from proxy.storage.migrations import Migration, migrate
from proxy.storage.rollups import KeyedSums, Rollup, add_rows, add_sums, fold_models
from proxy.storage.tables import (
    TABLES,
    DailyHistogram,
    DailyKeyTotals,
    HourlyHistogram,
    HourlyKeyTotals,
    HourlyTotals,
    Request,
    split_columns,
)

SumsTable = HourlyTotals | HourlyHistogram | DailyHistogram | HourlyKeyTotals | DailyKeyTotals

# Each rollup table, its sums in a rollup, and the seconds of its periods.
_ROLLUPS: Final[tuple[tuple[type[SumsTable], Callable[[Rollup], KeyedSums], int], ...]] = (
    (HourlyTotals, lambda rollup: rollup.hours, HOUR_SECONDS),
    (HourlyHistogram, lambda rollup: rollup.histograms, HOUR_SECONDS),
    (DailyHistogram, lambda rollup: rollup.daily_histograms, DAY_SECONDS),
    (HourlyKeyTotals, lambda rollup: rollup.key_hours, HOUR_SECONDS),
    (DailyKeyTotals, lambda rollup: rollup.key_days, DAY_SECONDS),
)


class Maintenance:
    """Maintenance of one database. Every method blocks, some for minutes."""

    def __init__(self, database: peewee.Database, config: StorageConfig) -> None:
        self._database = database
        self._config = config

    @classmethod
    @contextlib.contextmanager
    def open(cls, config: StorageConfig) -> Iterator["Maintenance"]:
        """Open the database behind `storage.url`. Raises StoreUnavailable without one."""
        if not is_postgresql(config) and not path_of(config).is_file():
            raise StoreUnavailable(
                f"storage.url: {path_of(config)} does not exist: the proxy has recorded nothing "
                "with this configuration (for another one: --config FILE)"
            )
        database = open_database(config)
        try:
            with database.connection_context():
                yield cls(database, config)
        except FAILURES as error:
            raise StoreUnavailable(f"storage.url: {redacted_url(config)}: {error}") from None
        finally:
            close_all(database)

    def migrate(self) -> list[Migration]:
        """Apply the missing migrations and return them."""
        return migrate(self._database)

    def count_rows(self) -> dict[str, int]:
        """The number of rows in each table."""
        return {
            table._meta.table_name: table.select().bind(self._database).count() for table in TABLES
        }

    def size_bytes(self) -> int:
        """The size of the whole database in bytes, indexes included."""
        if isinstance(self._database, peewee.SqliteDatabase):
            pages, size = (
                self._database.execute_sql(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            return int(pages * size)
        query = "SELECT pg_database_size(current_database())"
        return int(self._database.execute_sql(query).fetchone()[0])

    def vacuum(self) -> None:
        """Release the space of deleted rows."""
        self._database.execute_sql("VACUUM")

    def check(self, *, repair: bool = False) -> list[str]:
        """List problems, one per line: a corrupt file, and rollups that differ from their rows.

        Where retention deleted rows, rollups may exceed the rows but never fall short. It reads a
        day at a time and blocks no writer.

        Args:
            repair: correct the rollups of the hours and days with problems.

        Raises:
            StoreUnavailable: `repair` is set, and the file is corrupt or is being repaired.
        """
        wrong = self._check_file()
        if wrong and repair:
            raise StoreUnavailable(f"the file is corrupt, and cannot be repaired: {wrong[0]}")
        if wrong:
            return wrong  # its rows cannot be read reliably
        with self._only_repair() if repair else contextlib.nullcontext():
            for day in self._days():
                wrong += self._check_day(day, repair=repair)
        return wrong

    def _check_file(self) -> list[str]:
        if not isinstance(self._database, peewee.SqliteDatabase):
            return []
        return integrity_errors(self._database)

    @contextlib.contextmanager
    def _only_repair(self) -> Iterator[None]:
        """Exclude other repairs, which would make the same corrections again.

        Raises:
            StoreUnavailable: another repair is running.
        """
        if isinstance(self._database, peewee.SqliteDatabase):
            # Lock the folder: closing a descriptor of the file would release SQLite's locks.
            folder = os.open(Path(self._database.database).parent, os.O_RDONLY)
            try:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise StoreUnavailable("the database is being repaired") from None
                yield
            finally:
                os.close(folder)
            return
        # A transaction on a connection of its own holds the lock. A session's lock would stay with
        # a server connection that PgBouncer has given to others.
        claims = open_database(self._config)
        try:
            with (
                claims.connection_context(),
                claimed_transaction(claims, name="repair") as is_free,
            ):
                if not is_free:
                    raise StoreUnavailable("the database is being repaired")
                yield
        finally:
            close_all(claims)

    def _days(self) -> list[int]:
        """The starts of the days that have rows or rollups."""
        days: set[int] = set()
        for table, _, _ in _ROLLUPS:
            begins: Any = table._meta.sorted_fields[0]
            query = table.select(begins).distinct().tuples()
            days.update(begin // DAY_SECONDS * DAY_SECONDS for (begin,) in self._all(query))
        at = Request.created_at
        # In two queries: for both in one, SQLite reads the whole index.
        first, last = (
            Request.select(function(at)).bind(self._database).scalar()
            for function in (peewee.fn.MIN, peewee.fn.MAX)
        )
        if first is not None:
            first_day = int(first) // DAY_SECONDS * DAY_SECONDS
            days.update(range(first_day, int(last) + 1, DAY_SECONDS))
        return sorted(days)

    def _check_day(self, day: int, *, repair: bool) -> list[str]:
        """The problems of the rollups of one day (its start in UNIX seconds) and of its hours."""
        wrong: list[str] = []
        rollup = Rollup()
        with snapshot_transaction(self._database):
            oldest = Request.select(peewee.fn.MIN(Request.created_at)).bind(self._database).scalar()
            for hour in range(day, day + DAY_SECONDS, HOUR_SECONDS):
                add_rows(rollup, self._database, hour, hour + HOUR_SECONDS)
            stored = [self._stored_sums(table, day) for table, _, _ in _ROLLUPS]
        for (table, counted_by, seconds), sums in zip(_ROLLUPS, stored, strict=True):
            counted: KeyedSums = counted_by(rollup)
            known, rows = sums, counted
            if table is HourlyTotals:  # older versions counted invented names of models, too
                known, rows = (fold_models(each, rollup.invented) for each in (known, rows))
            times = _times_that_differ(known, rows, _first_whole(oldest, seconds))
            if repair:
                for time in sorted(times):
                    self._correct(table, time, sums, counted)
            period = "day" if seconds == DAY_SECONDS else "hour"
            wrong += [
                f"{table._meta.table_name}: {period} {time} does not match its rows"
                for time in sorted(times)
            ]
        return wrong

    def _correct(
        self, table: type[SumsTable], time: int, stored: KeyedSums, counted: KeyedSums
    ) -> None:
        """Add the difference to the sums of an hour or day: rows written meanwhile stay counted."""
        width = len(split_columns(table)[1])
        added = {
            key: [*map(operator.sub, counted.get(key, [0] * width), stored.get(key, [0] * width))]
            for key in stored.keys() | counted.keys()
            if key[0] == time and stored.get(key) != counted.get(key)
        }
        begins: Any = table._meta.sorted_fields[0]
        with self._database.atomic():
            add_sums(self._database, table, added)
            empty = table.delete().where(begins == time, table.requests == 0)
            empty.execute(self._database)

    def _stored_sums(self, table: type[SumsTable], day: int) -> KeyedSums:
        keys = len(split_columns(table)[0])
        begins: Any = table._meta.sorted_fields[0]
        rows = table.select().where(begins >= day, begins < day + DAY_SECONDS).tuples()
        return {tuple(row[:keys]): list(row[keys:]) for row in self._all(rows)}

    def _all(self, query: Any) -> Iterator[tuple[Any, ...]]:
        return iter(self._database.execute(query))


def _first_whole(oldest: float | None, seconds: int) -> int:
    """The first hour or day with all its rows: retention may have cut the one before."""
    return 0 if oldest is None else (int(oldest) // seconds + 1) * seconds


def _times_that_differ(stored: KeyedSums, counted: KeyedSums, first_whole: int) -> set[int]:
    too_low = {
        key[0] for key, sums in counted.items() if key not in stored or sums[0] > stored[key][0]
    }
    keys = stored.keys() | counted.keys()
    different = {key[0] for key in keys if stored.get(key) != counted.get(key)}
    return too_low | {time for time in different if time >= first_whole}
