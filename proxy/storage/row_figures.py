"""Totals and distributions of single rows, for periods and filters that no rollup has.

The rows are summed into rollups in memory, and the queries of the rollups run on those. So a
figure means the same whether it comes from rows or from the rollups.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

import peewee

from proxy.storage.queries import RequestQueries
from proxy.storage.rollups import Rollup, add_sums
from proxy.storage.tables import DailyHistogram, HourlyTotals

# All that pages ask of rows. Histograms of each minute would take most of the time.
_TABLES: Final = (HourlyTotals, DailyHistogram)


class RowFigures(RequestQueries):
    """The queries of `RequestQueries` on some rows. Use it in the thread that made it.

    It answers those for totals, for series, and for distributions over all of its rows. The tables
    of keys and of hourly distributions are not filled.

    Attributes:
        searched: the number of rows that were read; None if they were all of the period.
        searched_since: the time of the oldest row that was read, or the start of the period.
    """

    searched: int | None
    searched_since: float

    @classmethod
    def of(
        cls,
        rollup: Rollup,
        *,
        searched: int | None,
        searched_since: float,
        clock: Callable[[], float],
    ) -> Self:
        """The figures of the rows that a rollup has summed."""
        database = peewee.SqliteDatabase(":memory:")
        database.connect()
        for table in _TABLES:
            peewee.SchemaManager(table, database).create_table()
        with database.atomic():
            add_sums(database, HourlyTotals, rollup.hours)
            add_sums(database, DailyHistogram, rollup.daily_histograms)
        figures = cls(database, url="memory", clock=clock)
        figures.searched, figures.searched_since = searched, searched_since
        return figures

    @contextmanager
    def _reading(self) -> Iterator[peewee.Database]:
        # A database in memory ends with its connection.
        yield self.database
