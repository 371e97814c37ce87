"""Looking after the database: its size, its schema, its space, and whether its sums are right."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee

from proxy.config import StorageConfig
from proxy.database import (
    FAILURES,
    StoreUnavailable,
    is_postgresql,
    one_at_a_time,
    open_database,
    path_of,
    shown_url,
)
from proxy.migrations import Migration, migrate, sums_of_rows
from proxy.rollup import HOUR_SECONDS, Rollup
from proxy.stats import hour_of
from proxy.tables import TABLES, Hour, Request, Spread

Sums = dict[tuple[Any, ...], list[int]]  # as `rollup` has them


class Care:
    """What can be done for one database. Everything blocks, some of it for minutes."""

    def __init__(self, database: peewee.Database) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def of(cls, config: StorageConfig) -> Iterator["Care"]:
        """The database behind `storage.url`. Raises StoreUnavailable when it does not answer."""
        if not is_postgresql(config) and not path_of(config).is_file():
            raise StoreUnavailable(
                f"storage.url: there is no {path_of(config)}: the proxy has recorded nothing"
            )
        database = open_database(config)
        try:
            with database.connection_context():
                yield cls(database)
        except FAILURES as error:
            raise StoreUnavailable(f"storage.url: {shown_url(config)}: {error}") from None

    def migrate(self) -> list[Migration]:
        """The steps that were missing, applied now."""
        return migrate(self._database)

    def count_rows(self) -> dict[str, int]:
        """Rows of each table."""
        return {
            table._meta.table_name: table.select().bind(self._database).count() for table in TABLES
        }

    def size_bytes(self) -> int:
        """Bytes of the whole database, indices included."""
        if isinstance(self._database, peewee.SqliteDatabase):
            pages, size = (
                self._database.execute_sql(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "page_size")
            )
            return int(pages * size)
        query = "SELECT pg_database_size(current_database())"
        return int(self._database.execute_sql(query).fetchone()[0])

    def vacuum(self) -> None:
        """Give back the space of deleted rows."""
        self._database.execute_sql("VACUUM")

    def check(self, *, repair: bool = False) -> list[str]:
        """What is wrong, a line each: the file itself, and sums that are not those of the rows.

        Where rows were deleted because they are old, the sums may be more, but not less.

        Args:
            repair: count the sums of these hours anew.
        """
        wrong = []
        if isinstance(self._database, peewee.SqliteDatabase):
            found = self._database.execute_sql("PRAGMA quick_check").fetchall()
            wrong += [text for (text,) in found if text != "ok"]
        with one_at_a_time(self._database):
            added = sums_of_rows(self._database)
            again = Rollup()
            again.hours = self._mend(Hour, added.hours, wrong, repair=repair)
            again.spreads = self._mend(Spread, added.spreads, wrong, repair=repair)
            if repair:
                again.write(self._database)
        return wrong

    def _mend(
        self, table: type[Hour | Spread], counted: Sums, wrong: list[str], *, repair: bool
    ) -> Sums:
        """Note in `wrong` the hours that differ, and delete them; returns what they should be."""
        hours = _hours_that_differ(self._kept(table), counted, self._first_whole_hour())
        name = table._meta.table_name
        wrong += [f"{name}: hour {hour} is not what its rows add up to" for hour in sorted(hours)]
        if repair and hours:
            table.delete().where(table.hour.in_(list(hours))).execute(self._database)
        return {key: sums for key, sums in counted.items() if key[0] in hours}

    def _first_whole_hour(self) -> int:
        """Of the hours that have rows; of the oldest one some may be deleted already."""
        oldest = Request.select(peewee.fn.MIN(Request.created_at)).bind(self._database).scalar()
        return 0 if oldest is None else hour_of(oldest) + HOUR_SECONDS

    def _kept(self, table: type[Hour | Spread]) -> Sums:
        names = [field.name for field in table._meta.sorted_fields]
        key: Any = table._meta.primary_key
        keys = len(key.field_names)
        rows = table.select(*(getattr(table, name) for name in names)).tuples()
        return {tuple(row[:keys]): list(row[keys:]) for row in rows.bind(self._database).iterator()}


def _hours_that_differ(kept: Sums, counted: Sums, first_whole: int) -> set[int]:
    less = {key[0] for key, sums in counted.items() if key not in kept or sums[0] > kept[key][0]}
    unlike = {key[0] for key in kept.keys() | counted.keys() if kept.get(key) != counted.get(key)}
    return less | {hour for hour in unlike if hour >= first_whole}
