"""Read-only access to the database, for classes that query it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import peewee

from proxy.config import StorageConfig
from proxy.storage.database import (
    FAILURES,
    StoreUnavailable,
    close_all,
    open_database,
    redacted_url,
)
from proxy.storage.migrations import NEWEST, applied


class Queries:
    """Read-only queries of one database. All methods block: call them in a thread.

    Args:
        database: as `open_database` returns it.
        url: for error messages, without its password.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        database: peewee.Database,
        *,
        url: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.url = url
        self.clock = clock

    @classmethod
    def open(cls, config: StorageConfig) -> Self:
        """Open the database behind `storage.url` read-only.

        Raises:
            StoreUnavailable: the database does not exist, or has another schema version.
        """
        queries = cls(open_database(config, read_only=True), url=redacted_url(config))
        with queries._reading() as database:
            schema = applied(database) if database.table_exists("migrations") else 0
        if schema != NEWEST:
            queries.close()
            raise StoreUnavailable(
                f"storage.url: {queries.url} has schema {schema}, not {NEWEST}; run `hybrid-llm db "
                "migrate`, or start the proxy once"
            )
        return queries

    @classmethod
    def sharing(cls, other: "Queries") -> Self:
        """Queries of the same database, through the same connections."""
        return cls(other.database, url=other.url, clock=other.clock)

    def close(self) -> None:
        """Close the pooled connections."""
        close_all(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[peewee.Database]:
        """Connect for one query. Raises StoreUnavailable if the database cannot be read."""
        try:
            with self.database.connection_context():
                yield self.database
        except FAILURES as error:
            raise StoreUnavailable(f"storage.url: {self.url} cannot be read: {error}") from None

    @staticmethod
    def _nth_newest(
        database: peewee.Database, created_at: Any, condition: Any, number: int
    ) -> float | None:
        """The time (UNIX seconds) of the nth newest row with a condition; None if there are fewer.

        It selects only the time, so the database can read an index alone.

        Args:
            created_at: the table's column of the time.
        """
        query = (
            created_at.model.select(created_at)
            .where(condition)
            .order_by(created_at.desc())
            .offset(number - 1)
            .limit(1)
        )
        return next((at for (at,) in query.tuples().execute(database)), None)
