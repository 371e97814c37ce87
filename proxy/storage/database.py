"""The database behind `storage.url`: SQLite in a file, or PostgreSQL for several machines.

What differs between the two is here: how to open one, how to insert rows fast, and what its errors
mean. Everything else is peewee's queries, the same for both. PostgreSQL is spoken to by psycopg 3,
because it has COPY as a cursor's method: rows go in without a statement for each.
"""

import contextlib
import itertools
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import peewee

from proxy.config import StorageConfig

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0  # how long a write waits for another process's lock
_CONNECT_SECONDS: Final = 5
_SILENT_SECONDS: Final = 10  # until a server that acknowledges nothing is taken for gone
_MAX_CONNECTIONS: Final = 8
_ROWS_AT_ONCE: Final = 20  # their values are bound in one go, in which nothing else runs

# SQLSTATE classes of what may pass: connection, locks and deadlocks, space, operator, system; and
# a server that is read-only for now.
_PASSING: Final = ("08", "25", "40", "53", "55", "57", "58")

FAILURES: Final = (peewee.PeeweeException, sqlite3.Error, OSError)


class StoreUnavailable(Exception):
    """The database cannot be used at all; the message names it and says why."""


class DatabaseDamaged(Exception):
    """A file that can be opened and read, and of which parts are missing."""


def is_postgresql(config: StorageConfig) -> bool:
    return config.url.startswith("postgresql:")


def path_of(config: StorageConfig) -> Path:
    """The file of a SQLite database."""
    return Path(config.url.removeprefix("sqlite:///"))


def redacted_url(config: StorageConfig) -> str:
    """The address without the password that may be in it."""
    parts = urlsplit(config.url)
    if not parts.password:
        return config.url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def open_database(
    config: StorageConfig, *, busy_seconds: float = BUSY_SECONDS, read_only: bool = False
) -> peewee.Database:
    """The database; each thread has a connection of its own while it is in use.

    Raises:
        StoreUnavailable: it is to be read only and is not there.
    """
    if is_postgresql(config):
        return _open_postgresql(config.url, busy_seconds, read_only=read_only)
    path = path_of(config)
    if read_only:
        if not path.is_file():
            raise StoreUnavailable(
                f"storage.url: there is no {path}: the proxy has recorded nothing"
            )
        return peewee.SqliteDatabase(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    return _WaitingSqlite(
        str(path),
        busy_seconds=busy_seconds,
        pragmas={
            "busy_timeout": int(busy_seconds * 1e3),
            "journal_mode": "wal",
            "synchronous": "normal",
            "journal_size_limit": 2**26,
        },
    )


class _WaitingSqlite(peewee.SqliteDatabase):
    """SQLite that waits for others to begin, too.

    Switching a new file to WAL while another process does so fails at once, whatever the
    busy_timeout: to wait could be a deadlock (https://www.sqlite.org/c3ref/busy_handler.html).
    """

    def __init__(self, path: str, *, busy_seconds: float, **options: Any) -> None:
        self._busy_seconds = busy_seconds
        super().__init__(path, **options)

    def _make_private(self) -> None:
        """A new file is its owner's alone: it holds what people asked. Its -wal and -shm get the
        same mode from SQLite; one that is there keeps the mode it has."""
        with contextlib.suppress(OSError):  # what is wrong with the path SQLite says better
            os.close(os.open(self.database, os.O_CREAT | os.O_EXCL, 0o600))

    def _connect(self) -> Any:
        self._make_private()
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                return super()._connect()  # type: ignore[misc]  # its stubs leave it out
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.005)


def _open_postgresql(url: str, busy_seconds: float, *, read_only: bool) -> peewee.Database:
    from playhouse.pool import PooledPostgresqlDatabase  # psycopg is loaded where it is used only

    options = f"-c lock_timeout={int(busy_seconds * 1e3)} -c statement_timeout=60000"
    if read_only:
        options += " -c default_transaction_read_only=on"
    database: peewee.Database = PooledPostgresqlDatabase(
        url,
        prefer_psycopg3=True,
        max_connections=_MAX_CONNECTIONS,
        stale_timeout=60,
        timeout=_CONNECT_SECONDS,
        connect_timeout=_CONNECT_SECONDS,
        tcp_user_timeout=_SILENT_SECONDS * 1000,
        keepalives_idle=_SILENT_SECONDS,
        keepalives_interval=_SILENT_SECONDS // 3,
        keepalives_count=3,
        application_name="hybrid-llm-router",
        options=options,
    )
    return database


def close_all(database: peewee.Database) -> None:
    """Close the connections of all threads, where they are kept for the next."""
    if not isinstance(database, peewee.SqliteDatabase):
        database.close_all()  # type: ignore[attr-defined]  # of the pool


@contextlib.contextmanager
def exclusive_transaction(database: peewee.Database, *, name: str | None = None) -> Iterator[None]:
    """A transaction that no other process runs beside one of these.

    Args:
        name: on PostgreSQL only beside those of the same name.
    """
    if isinstance(database, peewee.SqliteDatabase):
        with database.atomic("EXCLUSIVE"):
            yield
    else:
        with database.atomic():
            if name is None:
                database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (7_282_047_103,))
            else:
                lock = "SELECT pg_advisory_xact_lock(%s::int, hashtext(%s))"
                database.execute_sql(lock, (728_204_710, name))
            yield


@contextlib.contextmanager
def snapshot_transaction(database: peewee.Database) -> Iterator[None]:
    """A transaction that sees everything as it is now, whatever others write meanwhile."""
    is_sqlite = isinstance(database, peewee.SqliteDatabase)
    with database.atomic(*([] if is_sqlite else ["REPEATABLE READ"])):
        yield


def insert_rows(
    database: peewee.Database, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert many rows at once, within the caller's transaction."""
    names = ", ".join(f'"{name}"' for name in columns)
    cursor = database.cursor()
    if isinstance(database, peewee.SqliteDatabase):
        # Several in a statement: sqlite3 lets go of the interpreter while it runs one, and to take
        # it up again for every row costs more than to put the values into one list.
        values = f"({', '.join('?' * len(columns))})"
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            batch = rows[start : start + _ROWS_AT_ONCE]
            cursor.execute(
                f'INSERT INTO "{table}" ({names}) VALUES {", ".join([values] * len(batch))}',
                tuple(itertools.chain.from_iterable(batch)),
            )
        return
    with cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([storable(one) if isinstance(one, str) else one for one in row])


def storable(text: str) -> str:
    """A text that PostgreSQL takes, too: it has no null characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def is_transient(error: Exception) -> bool:
    """Whether the same rows may go in later: locked, full, read-only, restarted, gone."""
    if isinstance(error, StoreUnavailable):
        return True
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError)
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no answer of the server's: the connection
        # psycopg's classes and peewee's have these names; psycopg may not be loaded.
        names = {kind.__name__ for one in (error, cause) for kind in type(one).__mro__}
        return not names.isdisjoint({"OperationalError", "InterfaceError", "OSError"})
    return str(state).startswith(_PASSING)


def integrity_errors(database: peewee.Database) -> list[str]:
    """What is wrong with the pages of a SQLite file, all of which are read."""
    try:
        found = database.execute_sql("PRAGMA quick_check").fetchall()
    except FAILURES as error:
        if not is_corrupt(error):
            raise
        return [str(error)]
    return [text for (text,) in found if text != "ok"]


def is_corrupt(error: Exception) -> bool:
    """Whether the file is no database any more, as SQLite sees it."""
    if isinstance(error, DatabaseDamaged):
        return True
    cause = _cause(error)
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error under peewee's."""
    if not isinstance(error, peewee.PeeweeException):
        return error
    return error.__cause__ or error.__context__ or error


class FileState(NamedTuple):
    """What tells one file from another that has taken its place."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, path: Path) -> "FileState | None":
        """None where there is none. Looks at no content: to close the file would let go of the
        locks that SQLite has on it (https://www.sqlite.org/howtocorrupt.html, 2.2)."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino, found.st_size)

    def is_same(self, other: "FileState | None") -> bool:
        return other is not None and self[:2] == other[:2]

    def goes_on_as(self, other: "FileState | None") -> bool:
        """Whether it can have become this. A database shrinks by VACUUM only."""
        return other is not None and self.is_same(other) and self.size <= other.size


def quarantine(path: Path) -> Path:
    """Move a broken database out of the way, with what belongs to it; returns where it is now."""
    name = f"{path.name}.broken-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    new = path.with_name(name)
    for number in itertools.count(2):
        if not new.exists():
            break
        new = path.with_name(f"{name}-{number}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{new}{suffix}")
    return new
