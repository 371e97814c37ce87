"""The database behind `storage.url`: SQLite in a file, or PostgreSQL for several machines.

This module holds what differs between the two: opening, fast inserts and the meaning of errors.
Everything else uses peewee queries, the same for both. psycopg 3 connects to PostgreSQL, because
its cursors support COPY, which inserts many rows in one statement.
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

import peewee

from proxy.config import StorageConfig
from proxy.secret import DatabaseUrl

logger = logging.getLogger(__name__)

BUSY_SECONDS: Final = 5.0  # wait of a write for another process's lock
_CONNECT_SECONDS: Final = 5
_SILENT_SECONDS: Final = 10  # without acknowledgement, after which a server counts as gone
MAX_CONNECTIONS: Final = 8  # of one process to PostgreSQL
_NAMED_LOCKS: Final = 728_204_710  # first key of the advisory locks of named transactions
_ROWS_AT_ONCE: Final = 20  # binding their values blocks all other threads

# SQLSTATE classes of transient errors: connection, locks, deadlocks, space, operator intervention,
# system errors, and a server that is read-only for now.
_TRANSIENT: Final = ("08", "25", "40", "53", "55", "57", "58")

FAILURES: Final = (peewee.PeeweeException, sqlite3.Error, OSError)


class StoreUnavailable(Exception):
    """The database cannot be used. The message names it and gives the reason."""


class DatabaseDamaged(Exception):
    """A database file that can be opened but is incomplete."""


def is_postgresql(config: StorageConfig) -> bool:
    return config.url.is_postgresql


def path_of(config: StorageConfig) -> Path:
    """The file of a SQLite database."""
    return Path(config.url.path)


def redacted_url(config: StorageConfig) -> str:
    """`storage.url` without its password."""
    return str(config.url)


def open_database(
    config: StorageConfig, *, busy_seconds: float = BUSY_SECONDS, read_only: bool = False
) -> peewee.Database:
    """Open the database. Each thread uses a connection of its own.

    Raises:
        StoreUnavailable: `read_only` is set and the database does not exist, or PostgreSQL's
            client library cannot read the address.
    """
    if is_postgresql(config):
        return _open_postgresql(config.url, busy_seconds, read_only=read_only)
    path = path_of(config)
    if read_only:
        if not path.is_file():
            raise StoreUnavailable(
                f"storage.url: {path} does not exist: the proxy has recorded nothing "
                "with this configuration (for another one: --config FILE)"
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
    """SQLite that also waits for locks while it opens a file.

    If two processes switch a new file to WAL, one fails at once in spite of the busy_timeout,
    because waiting could deadlock (https://www.sqlite.org/c3ref/busy_handler.html).
    """

    def __init__(self, path: str, *, busy_seconds: float, **options: Any) -> None:
        self._busy_seconds = busy_seconds
        super().__init__(path, **options)

    def _make_private(self) -> None:
        """Make a new file readable by its owner only: it holds prompts. SQLite copies the mode to
        -wal and -shm. An existing file keeps its mode."""
        with contextlib.suppress(OSError):  # SQLite reports a wrong path better
            os.close(os.open(self.database, os.O_CREAT | os.O_EXCL, 0o600))

    def _connect(self) -> Any:
        self._make_private()
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                return super()._connect()  # type: ignore[misc]  # missing in its stubs
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.005)


def _open_postgresql(url: DatabaseUrl, busy_seconds: float, *, read_only: bool) -> peewee.Database:
    # Load psycopg only for PostgreSQL.
    from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(url.reveal())
    except ProgrammingError:  # its text repeats parts of the address
        raise StoreUnavailable(
            f"storage.url: {url} is not an address that PostgreSQL's client library can read"
        ) from None

    class _Postgresql(PooledPostgresqlDatabase):  # type: ignore[misc]  # without types
        """PostgreSQL whose parameters may be any text, and whose pool can be closed in use."""

        _is_closing = False

        def close_unused(self) -> None:
            """Close the connections that no other thread uses, and the others when they are free.

            If a connection is closed during a query, the thread of the query may wait for ever.
            """
            self._is_closing = True
            self.close()
            self.close_idle()

        def _can_reuse(self, connection: Any) -> bool:
            return not self._is_closing and bool(super()._can_reuse(connection))

        def connect(self, reuse_if_open: bool = False) -> bool:
            try:
                return bool(super().connect(reuse_if_open))
            except MaxConnectionsExceeded:  # a ValueError, which is not among FAILURES
                raise peewee.OperationalError(
                    f"all {MAX_CONNECTIONS} connections of this process are in use"
                ) from None

        def execute_sql(self, sql: str, params: Sequence[Any] | None = None) -> Any:
            if params is not None:
                params = [storable(item) if isinstance(item, str) else item for item in params]
            return super().execute_sql(sql, params)

    options = f"-c lock_timeout={int(busy_seconds * 1e3)} -c statement_timeout=60000"
    if read_only:
        options += " -c default_transaction_read_only=on"
    database: peewee.Database = _Postgresql(
        url.reveal(),
        prefer_psycopg3=True,
        max_connections=MAX_CONNECTIONS,
        stale_timeout=60,
        timeout=_CONNECT_SECONDS,
        connect_timeout=_CONNECT_SECONDS,
        tcp_user_timeout=_SILENT_SECONDS * 1000,
        keepalives_idle=_SILENT_SECONDS,
        keepalives_interval=_SILENT_SECONDS // 3,
        keepalives_count=3,
        application_name="hybrid-llm-router",
        # No prepared statements: they belong to a server connection, and PgBouncer may use another
        # one for the next transaction.
        prepare_threshold=None,
        options=options,
    )
    return database


def close_all(database: peewee.Database) -> None:
    """Close the pooled connections. One that another thread uses is closed when it is free."""
    if not isinstance(database, peewee.SqliteDatabase):
        database.close_unused()  # type: ignore[attr-defined]  # of PostgreSQL's pool


@contextlib.contextmanager
def exclusive_transaction(database: peewee.Database, *, name: str | None = None) -> Iterator[None]:
    """A transaction that runs in one process at a time.

    Args:
        name: on PostgreSQL, exclude only transactions of the same name.
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
                database.execute_sql(lock, (_NAMED_LOCKS, name))
            yield


@contextlib.contextmanager
def claimed_transaction(database: peewee.Database, *, name: str) -> Iterator[bool]:
    """A transaction that runs in one process at a time, without waiting for another process.

    On SQLite there is no transaction: processes on one file take turns by statement.

    Yields:
        Whether no other process has a transaction of this name. True on SQLite.
    """
    if isinstance(database, peewee.SqliteDatabase):
        yield True
        return
    with database.atomic():
        lock = "SELECT pg_try_advisory_xact_lock(%s::int, hashtext(%s))"
        yield bool(database.execute_sql(lock, (_NAMED_LOCKS, name)).fetchone()[0])


@contextlib.contextmanager
def snapshot_transaction(database: peewee.Database) -> Iterator[None]:
    """A transaction that reads one snapshot of the database."""
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
        # Several rows per statement: sqlite3 releases the GIL for each statement, and taking it
        # again for every row costs more than building one list of values.
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
            copy.write_row([storable(value) if isinstance(value, str) else value for value in row])


def storable(text: str) -> str:
    """The text without null characters, which PostgreSQL rejects."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: locked, full, read-only, restarted or disconnected."""
    if isinstance(error, StoreUnavailable):
        return True
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return isinstance(cause, sqlite3.OperationalError)
    state = getattr(cause, "sqlstate", None)
    if state is None:  # no response from the server: a connection error
        # Compare names of psycopg's and peewee's classes: psycopg may not be loaded.
        names = {kind.__name__ for item in (error, cause) for kind in type(item).__mro__}
        return not names.isdisjoint({"OperationalError", "InterfaceError", "OSError"})
    return str(state).startswith(_TRANSIENT)


def integrity_errors(database: peewee.Database) -> list[str]:
    """The integrity errors of a SQLite file. Reads all its pages."""
    try:
        rows = database.execute_sql("PRAGMA quick_check").fetchall()
    except FAILURES as error:
        if not is_corrupt(error):
            raise
        return [str(error)]
    return [text for (text,) in rows if text != "ok"]


def is_corrupt(error: Exception) -> bool:
    """Whether SQLite reports the file as corrupt."""
    if isinstance(error, DatabaseDamaged):
        return True
    cause = _cause(error)
    code = getattr(cause, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _cause(error: BaseException) -> BaseException:
    """The driver's error that peewee wrapped."""
    if not isinstance(error, peewee.PeeweeException):
        return error
    return error.__cause__ or error.__context__ or error


class FileState(NamedTuple):
    """The identity and size of a file, to notice a replacement."""

    device: int
    inode: int
    size: int

    @classmethod
    def of(cls, path: Path) -> "FileState | None":
        """None if the file does not exist. Never opens it: closing it would release SQLite's locks
        (https://www.sqlite.org/howtocorrupt.html, 2.2)."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(status.st_dev, status.st_ino, status.st_size)

    def is_same(self, other: "FileState | None") -> bool:
        return other is not None and self[:2] == other[:2]

    def can_become(self, other: "FileState | None") -> bool:
        """Whether this file can have become the other. Only VACUUM shrinks a database."""
        return other is not None and self.is_same(other) and self.size <= other.size


def quarantine(path: Path) -> Path:
    """Rename a corrupt database and its -wal and -shm files; return the new path."""
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
