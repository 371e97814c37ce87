"""The database behind `storage.url`: SQLite in a file, or PostgreSQL for several machines.

What differs between the two is here: how to open one, how to insert rows fast, and what its errors
mean. Everything else is peewee's queries, the same for both. PostgreSQL is spoken to by psycopg 3,
because it has COPY as a cursor's method: rows go in without a statement for each.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import peewee

from proxy.config import StorageConfig

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0  # how long a write waits for another process's lock
_CONNECT_SECONDS: Final = 5
_MAX_CONNECTIONS: Final = 8

# SQLSTATE classes of what may pass: connection, locks and deadlocks, space, operator, system; and
# a server that is read-only for now.
_PASSING: Final = ("08", "25", "40", "53", "55", "57", "58")

FAILURES: Final = (peewee.PeeweeException, sqlite3.Error, OSError)


class StoreUnavailable(Exception):
    """The database cannot be used at all; the message names it and says why."""


def is_postgresql(config: StorageConfig) -> bool:
    return config.url.startswith("postgresql:")


def path_of(config: StorageConfig) -> Path:
    """The file of a SQLite database."""
    return Path(config.url.removeprefix("sqlite:///"))


def shown_url(config: StorageConfig) -> str:
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
    return peewee.SqliteDatabase(
        str(path),
        pragmas={
            "busy_timeout": int(busy_seconds * 1e3),  # first: even switching to WAL may wait
            "journal_mode": "wal",
            "synchronous": "normal",
            "journal_size_limit": 2**26,
        },
    )


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
        application_name="hybrid-llm-router",
        options=options,
    )
    return database


def close_all(database: peewee.Database) -> None:
    """Close the connections of all threads, where they are kept for the next."""
    if not isinstance(database, peewee.SqliteDatabase):
        database.close_all()  # type: ignore[attr-defined]  # of the pool


@contextlib.contextmanager
def one_at_a_time(database: peewee.Database) -> Iterator[None]:
    """A transaction that no other process runs beside one of these."""
    if isinstance(database, peewee.SqliteDatabase):
        with database.atomic("EXCLUSIVE"):
            yield
    else:
        with database.atomic():
            database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (7_282_047_103,))
            yield


def insert_rows(
    database: peewee.Database, table: str, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Insert many rows at once, within the caller's transaction."""
    names = ", ".join(f'"{name}"' for name in columns)
    cursor = database.cursor()
    if isinstance(database, peewee.SqliteDatabase):
        values = ", ".join("?" * len(columns))
        cursor.executemany(f'INSERT INTO "{table}" ({names}) VALUES ({values})', rows)
        return
    with cursor.copy(f'COPY "{table}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(
                [one.replace("\0", "\ufffd") if isinstance(one, str) else one for one in row]
            )


def may_pass(error: Exception) -> bool:
    """Whether the same rows may go in later: locked, full, read-only, restarted, gone."""
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError)
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no answer of the server's: the connection
        return isinstance(error, (peewee.OperationalError, peewee.InterfaceError, OSError)) or (
            type(cause).__name__ in ("OperationalError", "InterfaceError")
        )
    return str(state).startswith(_PASSING)


def is_corrupt(error: Exception) -> bool:
    """Whether the file is no database any more, as SQLite sees it."""
    cause = _cause(error)
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _cause(error: BaseException) -> BaseException:
    """The driver's own error under peewee's."""
    return error.__cause__ or error.__context__ or error if _is_peewees(error) else error


def _is_peewees(error: BaseException) -> bool:
    return isinstance(error, peewee.PeeweeException)


def set_aside(path: Path) -> Path:
    """Move a broken database out of the way, with what belongs to it; returns where it is now."""
    new = path.with_name(f"{path.name}.broken-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").replace(f"{new}{suffix}")
    return new
