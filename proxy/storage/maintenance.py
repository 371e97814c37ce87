"""Database maintenance: size, migrations, free space, and consistency of the rollups."""

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from proxy.config import StorageConfig
from proxy.record import DAY_SECONDS, HOUR_SECONDS
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    close_all,
    exclusive_transaction,
    integrity_errors,
    is_postgresql,
    open_database,
    path_of,
    redacted_url,
    snapshot_transaction,
)
from proxy.storage.migrations import Migration, migrate
from proxy.storage.rollups import (
    KeyedSums,
    add_sums,
    fold_models,
    rollup_of_rows,
)
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


class Maintenance:
    """Maintenance of one database. Every method blocks, some for minutes."""

    def __init__(self, database: peewee.Database) -> None:
        self._database = database

    @classmethod
    @contextmanager
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
                yield cls(database)
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

        Where retention deleted rows, rollups may exceed the rows but never fall short.

        Args:
            repair: recompute the rollups of the hours and days with problems.

        Raises:
            StoreUnavailable: `repair` is set and the file is corrupt.
        """
        wrong = self._check_file()
        if wrong and repair:
            raise StoreUnavailable(f"the file is corrupt, and cannot be repaired: {wrong[0]}")
        if wrong:
            return wrong  # its rows cannot be read reliably
        with self._alone() if repair else snapshot_transaction(self._database):
            added = rollup_of_rows(self._database)
            for table, counted, seconds in (
                (HourlyTotals, added.hours, HOUR_SECONDS),
                (HourlyHistogram, added.histograms, HOUR_SECONDS),
                (DailyHistogram, added.daily_histograms, DAY_SECONDS),
                (HourlyKeyTotals, added.key_hours, HOUR_SECONDS),
                (DailyKeyTotals, added.key_days, DAY_SECONDS),
            ):
                wrong += self._check_sums(
                    table, counted, seconds, invented=added.invented, repair=repair
                )
        return wrong

    def _check_file(self) -> list[str]:
        if not isinstance(self._database, peewee.SqliteDatabase):
            return []
        return integrity_errors(self._database)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Block all writers: rows and rollups stay unchanged."""
        with exclusive_transaction(self._database):
            if not isinstance(self._database, peewee.SqliteDatabase):
                self._database.execute_sql(
                    "LOCK TABLE hours, spreads, day_spreads, key_hours, key_days IN EXCLUSIVE MODE"
                )
            yield

    def _check_sums(
        self,
        table: type[SumsTable],
        counted: KeyedSums,
        seconds: int,
        *,
        invented: Container[tuple[int, str]],
        repair: bool,
    ) -> list[str]:
        """The hours or days of a rollup table that differ from the rows."""
        stored, rows = self._stored_sums(table), counted
        if table is HourlyTotals:  # older versions counted invented names of models, too
            stored, rows = fold_models(stored, invented), fold_models(counted, invented)
        times = _times_that_differ(stored, rows, self._first_whole(seconds))
        if repair and times:
            begins: Any = table._meta.sorted_fields[0]
            table.delete().where(begins.in_(list(times))).execute(self._database)
            repaired = {key: sums for key, sums in counted.items() if key[0] in times}
            add_sums(self._database, table, repaired)
        period = "day" if seconds == DAY_SECONDS else "hour"
        return [
            f"{table._meta.table_name}: {period} {time} does not match its rows"
            for time in sorted(times)
        ]

    def _first_whole(self, seconds: int) -> int:
        """The first hour or day with all its rows: retention may have cut the one before."""
        oldest = Request.select(peewee.fn.MIN(Request.created_at)).bind(self._database).scalar()
        return 0 if oldest is None else (int(oldest) // seconds + 1) * seconds

    def _stored_sums(self, table: type[SumsTable]) -> KeyedSums:
        keys = len(split_columns(table)[0])
        rows = table.select().tuples().bind(self._database).iterator()
        return {tuple(row[:keys]): list(row[keys:]) for row in rows}


def _times_that_differ(stored: KeyedSums, counted: KeyedSums, first_whole: int) -> set[int]:
    too_low = {
        key[0] for key, sums in counted.items() if key not in stored or sums[0] > stored[key][0]
    }
    keys = stored.keys() | counted.keys()
    different = {key[0] for key in keys if stored.get(key) != counted.get(key)}
    return too_low | {time for time in different if time >= first_whole}
