"""Rows: one per request, written by one thread, read by named queries. peewee over SQLite.

The event loop only appends to a list; a writer thread turns what has gathered into one
`executemany` a few times a second (WAL, synchronous=NORMAL). The list is bounded: when the
database cannot keep up or refuses, rows are dropped and counted, requests are not held up.
A process that is killed loses at most `FLUSH_SECONDS` of rows; one that is stopped loses none.
"""

import hashlib
import logging
import operator
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import peewee

from proxy.config import StorageConfig
from proxy.record import CallRecord

logger = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.2
MAX_PENDING: Final = 20_000
BUSY_SECONDS: Final = 5.0  # how long a write waits for another process's lock
_BATCH: Final = 1_000
_RETENTION_SECONDS: Final = 3600.0


class Request(peewee.Model):
    """One request: what was asked, what was decided and why, what it took and cost.

    Times are UNIX seconds, durations milliseconds, money USD. Null means not known or not
    applicable: a rejected request has no target.
    """

    id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField(index=True)
    endpoint = peewee.TextField()
    requested_model = peewee.TextField(null=True)
    target = peewee.TextField(null=True)
    model = peewee.TextField(null=True)
    reason = peewee.TextField(null=True)
    score = peewee.DoubleField(null=True)
    p_local = peewee.DoubleField(null=True)
    p_cloud = peewee.DoubleField(null=True)
    threshold = peewee.DoubleField(null=True)
    decision_ms = peewee.DoubleField(null=True)
    ttft_ms = peewee.DoubleField(null=True)
    duration_ms = peewee.DoubleField()
    status = peewee.IntegerField(null=True)
    ending = peewee.TextField()
    streamed = peewee.BooleanField()
    input_tokens = peewee.IntegerField(null=True)
    cached_input_tokens = peewee.IntegerField(null=True)
    output_tokens = peewee.IntegerField(null=True)
    usage_source = peewee.TextField(null=True)
    cost_usd = peewee.DoubleField(null=True)
    cloud_cost_usd = peewee.DoubleField(null=True)
    saved_usd = peewee.DoubleField(null=True)
    category = peewee.TextField(null=True)
    prompt = peewee.TextField(null=True)
    response = peewee.TextField(null=True)
    fallback_from = peewee.TextField(null=True)
    session_id = peewee.TextField(null=True)
    client_key_hash = peewee.TextField(null=True)
    error = peewee.TextField(null=True)

    class Meta:
        table_name = "requests"


# The columns that a record holds under the same name, in the order of a row.
_PLAIN_COLUMNS: Final = tuple(
    "id created_at endpoint requested_model target model reason score p_local p_cloud threshold "
    "decision_ms ttft_ms duration_ms status ending streamed input_tokens cached_input_tokens "
    "output_tokens usage_source cost_usd cloud_cost_usd saved_usd fallback_from session_id "
    "client_key_hash error".split()
)
_plain_values = operator.attrgetter(*_PLAIN_COLUMNS)


class StoreUnavailable(Exception):
    """The database cannot be used at all; the message names it and says why."""


class Store:
    """The database of one process: `add` finished records, `close` when the process stops."""

    def __init__(
        self,
        config: StorageConfig,
        *,
        on_dropped: Callable[[int], None] = lambda number: None,
        max_pending: int = MAX_PENDING,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._prompts = config.prompts
        self._retention_days = config.retention_days
        self._on_dropped = on_dropped
        self._max_pending = max_pending
        self._clock = clock
        self._pending: deque[CallRecord] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._swept = 0.0
        self.healthy = False
        self._url = config.url
        path = Path(config.url.removeprefix("sqlite:///"))
        self._database = peewee.SqliteDatabase(
            str(path),
            pragmas={
                "busy_timeout": int(busy_seconds * 1e3),  # first: even switching to WAL may wait
                "journal_mode": "wal",
                "synchronous": "normal",
            },
        )
        self._path = path
        columns = (*_PLAIN_COLUMNS, "prompt", "response")
        self._insert_sql, _ = (
            Request.insert_many([columns], fields=[getattr(Request, name) for name in columns])
            .bind(self._database)
            .sql()
        )
        self._writer = threading.Thread(target=self._write_until_stopped, name="row-writer")

    def prepare(self) -> None:
        """Create the file and its tables where they are missing.

        Raises:
            StoreUnavailable: the file is no database or cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._database.connection_context():
                peewee.SchemaManager(Request, database=self._database).create_all(safe=True)
        except (OSError, peewee.DatabaseError) as error:
            raise StoreUnavailable(f"storage.url: {self._url} cannot be used: {error}") from None

    def open(self) -> None:
        """Prepare the database and start the writer. Raises as `prepare` does."""
        self.prepare()
        self.healthy = True
        self._writer.start()

    def add(self, record: CallRecord) -> None:
        """Hand a finished record to the writer. Never blocks; drops and counts when full."""
        if len(self._pending) >= self._max_pending:
            self._on_dropped(1)
            return
        self._pending.append(record)

    def close(self) -> None:
        """Write what is pending and stop the writer."""
        self._stopping = True
        self._wake.set()
        if self._writer.ident is not None:
            self._writer.join()

    def _write_until_stopped(self) -> None:
        while True:
            self._wake.wait(FLUSH_SECONDS)
            last = self._stopping  # read before writing: nothing is added after it was set
            self._write_pending()
            self._sweep()
            if last:
                break
        if self._pending:
            self._on_dropped(len(self._pending))
            logger.error("%d rows could not be written before the end", len(self._pending))
        self._database.close()

    def _write_pending(self) -> None:
        size = _BATCH
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(size, len(self._pending)))]
            try:
                self._insert(batch)
            except (peewee.OperationalError, sqlite3.OperationalError) as error:
                # Locked, full, read-only, gone: may pass, so the rows stay.
                if self.healthy:
                    logger.error("rows cannot be written, will try again: %s", error)
                self.healthy = False
                self._pending.extendleft(reversed(batch))
                return
            except Exception:
                if len(batch) > 1:
                    # One row that no database takes must not cost the others theirs.
                    self._pending.extendleft(reversed(batch))
                    size = 1
                    continue
                logger.exception("row %s was refused and is lost", batch[0].id)
                self._on_dropped(1)
            if not self.healthy:
                logger.info("rows are written again")
            self.healthy = True

    def _insert(self, batch: Sequence[CallRecord]) -> None:
        rows = [self._row(record) for record in batch]
        with self._database.atomic():
            self._database.cursor().executemany(self._insert_sql, rows)

    def _row(self, record: CallRecord) -> tuple[object, ...]:
        return (*_plain_values(record), *self._keep(record))

    def _keep(self, record: CallRecord) -> tuple[str | None, str | None]:
        """Prompt and response as `storage.prompts` allows them to be kept."""
        if self._prompts == "none" or record.turns is None:
            return None, None
        messages = [{"role": role, "content": text} for role, text in record.turns]
        prompt = msgspec.json.encode(messages).decode()
        if self._prompts == "hash":
            return _hash(prompt), _hash(record.response) if record.response else None
        return prompt, record.response

    def _sweep(self) -> None:
        """Delete rows past their retention, once an hour."""
        now = self._clock()
        if self._retention_days is None or now - self._swept < _RETENTION_SECONDS:
            return
        self._swept = now
        oldest = now - self._retention_days * 86_400
        try:
            Request.delete().where(Request.created_at < oldest).execute(self._database)
        except peewee.DatabaseError as error:
            logger.warning("old rows cannot be deleted: %s", error)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
