"""The row writer: one row per request, written in batches by a background thread.

The event loop appends to a queue. The writer thread inserts a batch and updates the rollups in one
transaction. The queue is bounded in rows and in characters: if the database is too slow or fails,
rows are dropped and counted, and requests are never delayed. A killed process loses at most
`FLUSH_SECONDS` of rows; a stopped one loses none.

`Store.lookups` reads single rows; `queries` reads many.
"""

import asyncio
import copy
import hashlib
import logging
import operator
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from proxy.config import StorageConfig
from proxy.record import MAX_NAME_CHARS, MAX_TEXT_CHARS, CallRecord, Target
from proxy.storage.bodies import shorten_body
from proxy.storage.database import (
    BUSY_SECONDS,
    FAILURES,
    DatabaseDamaged,
    FileState,
    StoreUnavailable,
    claimed_transaction,
    close_all,
    insert_rows,
    integrity_errors,
    is_corrupt,
    is_postgresql,
    is_transient,
    open_database,
    path_of,
    quarantine,
    redacted_url,
)
from proxy.storage.lookups import Lookups, StoredResponse, WrittenSpend
from proxy.storage.migrations import migrate
from proxy.storage.rollups import Rollup
from proxy.storage.tables import (
    Body,
    Choice,
    Expense,
    Feedback,
    Judgement,
    Preference,
    Request,
    Response,
    Sample,
)
from router_model.categories import category_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

FLUSH_SECONDS: Final = 0.2
MAX_PENDING: Final = 20_000
MAX_PENDING_CHARS: Final = 2**26
_BATCH: Final = 1_000
_RETENTION_SECONDS: Final = 3600.0
_DELETED_AT_ONCE: Final = 200  # rows of one transaction, for which other writers wait
_SWEEP_SECONDS: Final = 0.03  # of deleting at a time, while this writer's rows wait
_SWEEP_PAUSE_SECONDS: Final = 0.05  # between two times, in which rows are written


# The columns that a record holds under the same name, in the order of a row.
_PLAIN_COLUMNS: Final = tuple(
    "id created_at endpoint requested_model target model reason score p_local p_cloud threshold "
    "decision_ms ttft_ms duration_ms upstream_ms status ending streamed input_tokens "
    "cached_input_tokens output_tokens reasoning_tokens usage_source cost_usd cloud_cost_usd "
    "saved_usd fallback_from fallback_why session_id history_hash client_key_hash error error_code "
    "propensity candidate_score rule merit failed_check discarded_tokens second_look "
    "verified_score verified_merit second_look_ms queue_ms connect_ms opened_ms attempt_ms "
    "fallback_error own_threshold".split()
)
_COLUMNS: Final = (*_PLAIN_COLUMNS, "evidence", "category", "prompt", "response")
_SAMPLE_COLUMNS: Final = (
    "request_id", "created_at", "kind", "propensity", "turn", "state", "attempts", "next_at",
    "body", "evidence",
)  # fmt: skip
_BODY_COLUMNS: Final = ("request_id", "created_at", "request", "response")
_GROWING: Final = (
    Request, Body, Response, Feedback, Judgement, Sample, Preference, Choice, Expense,
)  # fmt: skip
_plain_values = operator.attrgetter(*_PLAIN_COLUMNS)


class Store:
    """The database of one process: `add` finished records, and `close` on shutdown."""

    def __init__(
        self,
        config: StorageConfig,
        *,
        on_dropped: Callable[[int], None] = lambda number: None,
        max_pending: int = MAX_PENDING,
        max_pending_chars: int = MAX_PENDING_CHARS,
        busy_seconds: float = BUSY_SECONDS,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._prompts = config.prompts
        self._retention_days = config.retention_days
        self._on_dropped = on_dropped
        self._max_pending = max_pending
        self._max_pending_chars = max_pending_chars
        self._clock = clock
        self._timer = timer
        self._pending: deque[CallRecord] = deque()
        # Each is changed by one thread only, so that neither needs a lock.
        self._chars_added = 0
        self._chars_written = 0
        # Responses to store, and the ids of responses to delete.
        self._responses: deque[StoredResponse | str] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._swept_at = 0.0  # the start of the last sweep
        # The tables with old rows, and where the next step in each begins (UNIX seconds).
        self._unswept: deque[tuple[Any, float]] = deque()
        self._file: FileState | None = None  # the file that the writer has open
        self._has_shrunk = False
        self._spend = WrittenSpend()
        self.healthy = False
        self.database = open_database(config, busy_seconds=busy_seconds)
        self.lookups = Lookups(self.database, self._spend, clock=clock)
        self._writer = threading.Thread(target=self._write_until_stopped, name="row-writer")

    def prepare(self) -> None:
        """Create the database if it is missing, and migrate it.

        Raises:
            StoreUnavailable: it is no database, is unreachable or not writable, or has a newer
                schema.
        """
        try:
            if not is_postgresql(self._config):
                path_of(self._config).parent.mkdir(parents=True, exist_ok=True)
            with self.database.connection_context():
                migrate(self.database)
        except FAILURES as error:
            raise StoreUnavailable(
                f"storage.url: {redacted_url(self._config)} cannot be used: {error}"
            ) from None
        except StoreUnavailable as error:
            raise StoreUnavailable(f"storage.url: {redacted_url(self._config)}: {error}") from None

    def open(self) -> None:
        """Prepare the database and start the writer. Raises as `prepare` does."""
        self.prepare()
        self.healthy = True
        self._writer.start()

    def add(self, record: CallRecord) -> None:
        """Queue a finished record. Never blocks: drops and counts it if the queue is full.

        Longer texts than `MAX_TEXT_CHARS` are shortened, so that a few do not fill the queue.
        """
        chars = record.text_chars
        if record.raw_request is not None or record.raw_response is not None:
            chars = self._limit_bodies(record, chars)
        if chars > MAX_TEXT_CHARS:
            record.turns = _shortened(record.turns or ())
            record.response = record.response[:MAX_TEXT_CHARS] if record.response else None
            if len(record.body or "") > MAX_TEXT_CHARS:
                record.body = record.sample = None  # too long to be judged
            chars = record.text_chars
        if len(self._pending) >= self._max_pending or not self._has_room(chars):
            self._on_dropped(1)
            return
        self._pending.append(record)

    def _limit_bodies(self, record: CallRecord, chars: int) -> int:
        """Drop the bodies of a record when the queue has no room for them: the row comes first.

        Returns the record's characters.
        """
        waiting = self._chars_added - self._chars_written
        if waiting + chars > self._max_pending_chars // 2:
            record.raw_request = record.raw_response = None
            return record.text_chars
        return chars

    def _has_room(self, chars: int) -> bool:
        """Reserve room for more characters, if they fit."""
        fits = self._chars_added - self._chars_written + chars <= self._max_pending_chars
        if fits:
            self._chars_added += chars
        return fits

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers are stored in full."""
        return self._prompts == "full"

    def store_response(self, response: StoredResponse) -> None:
        """Queue an answer that a client may continue. Never blocks."""
        if len(self._responses) < self._max_pending and self._has_room(_chars_of(response)):
            self._responses.append(response)

    def forget_response(self, response_id: str) -> None:
        """Queue the deletion of an answer, after pending writes. Never blocks."""
        self._responses.append(response_id)

    def close(self) -> None:
        """Write what is pending and stop the writer."""
        self._stopping = True
        self._wake.set()
        if self._writer.ident is not None:
            self._writer.join()
        close_all(self.database)

    def _write_until_stopped(self) -> None:
        while True:
            self._wake.wait(_SWEEP_PAUSE_SECONDS if self._unswept else FLUSH_SECONDS)
            last = self._stopping  # read before writing: nothing is added after it was set
            self._write_pending()
            if self.healthy:
                self._write_responses()
                self._sweep()
            if last:
                break
        if self._pending:
            self._on_dropped(len(self._pending))
            logger.error("shutdown: %d rows could not be written", len(self._pending))
        self._disconnect()

    def _write_pending(self) -> None:
        size = self._spend.in_doubt or _BATCH
        left = len(self._pending)
        while left:
            batch = [self._pending.popleft() for _ in range(min(size, left))]
            try:
                with self._spend.inserting:
                    self._insert(batch)
                    self._spend.in_doubt = 0
                    self._spend.add(batch)
            except Exception as error:
                self._disconnect()
                if is_transient(error) or is_corrupt(error):
                    self._pending.extendleft(reversed(batch))
                    self._note_failure(error)
                    if not is_corrupt(error) or not self._replace_file():
                        return
                    continue
                if len(batch) > 1:
                    # One invalid row must not cost the others of its batch.
                    self._pending.extendleft(reversed(batch))
                    size, self._spend.in_doubt = len(batch) // 2, 0
                    continue
                if not self._insert_shortened(batch[0], error):
                    logger.error("row %s was rejected and is lost: %s", batch[0].id, error)
                    self._on_dropped(1)
            left -= len(batch)
            # A smaller rest waits for the next round: small batches cost more per row.
            if not left and len(self._pending) >= _BATCH:
                left = len(self._pending)
            size, self._spend.in_doubt = min(2 * size, _BATCH), 0
            self._chars_written += sum(record.text_chars for record in batch)
            if not self.healthy:
                logger.info("rows are being written again")
            self.healthy = True

    def _insert_shortened(self, record: CallRecord, error: Exception) -> bool:
        """Insert a rejected row with shorter names, as an index may limit them.

        Returns whether it had long ones and was accepted without.
        """
        shortened = copy.copy(record)  # `_chars_written` counts the original
        has_long = False
        for name in _PLAIN_COLUMNS:
            value = getattr(record, name)
            if isinstance(value, str) and len(value) > MAX_NAME_CHARS:
                setattr(shortened, name, value[:MAX_NAME_CHARS])
                has_long = True
        if not has_long:
            return False
        try:
            with self._spend.inserting:
                self._insert([shortened])
                self._spend.in_doubt = 0
                self._spend.add([shortened])
        except Exception:
            self._disconnect()
            return False
        logger.warning("row %s was rejected, and written with shorter names: %s", record.id, error)
        return True

    def _note_failure(self, error: Exception) -> None:
        if self.healthy:
            logger.error("cannot write rows, will retry: %s", error)
        self.healthy = False

    def _replace_file(self) -> bool:
        """Rename a corrupt file and create a new one. Returns whether that succeeded."""
        path = path_of(self._config)
        try:
            if self._file is not None and self._file.is_same(FileState.of(path)):
                logger.error("%s is corrupt; moved to %s", path, quarantine(path))
            self._file, self._has_shrunk = None, False
            self.prepare()
        except (OSError, StoreUnavailable) as error:
            self._note_failure(error)
            return False
        return True

    def _disconnect(self) -> None:
        """Close the writer's connection, which a failure may have broken."""
        try:
            self.database.close()
        except FAILURES as error:
            logger.debug("closing the database: %s", error)

    def _connect(self) -> None:
        """Open the writer's connection, and migrate the database.

        Reconnect if the file was replaced or removed: rows written to the old file would be lost
        without an error. Check all of a file that has shrunk: unless VACUUM shrank it, it lacks
        pages that new rows may not touch for long.
        """
        path = None if is_postgresql(self._config) else path_of(self._config)
        if path is not None:
            state = FileState.of(path)
            if self._file is not None and not self._file.can_become(state):
                logger.warning("%s was replaced by another file", path)
                self._has_shrunk = self._file.is_same(state)
                self._disconnect()
            self._file = state
        if self.database.connect(reuse_if_open=True):
            if self._has_shrunk and (damage := integrity_errors(self.database)):
                raise DatabaseDamaged(damage[0])
            self._has_shrunk = False
            migrate(self.database)
            self._file = FileState.of(path) if path is not None else None

    def _insert(self, batch: Sequence[CallRecord]) -> None:
        database = self.database
        self._connect()
        if self._spend.in_doubt and self._is_written(batch[0].id):
            return  # only the confirmation of the last commit was lost
        added = Rollup()
        rows = [self._row(record, added) for record in batch]
        samples = [_sample(record) for record in batch if record.sample is not None]
        bodies = [_bodies(record) for record in batch if record.raw_request or record.raw_response]
        self._spend.in_doubt = len(batch)
        with database.atomic():
            insert_rows(database, "requests", _COLUMNS, rows)
            if samples:
                insert_rows(database, "samples", _SAMPLE_COLUMNS, samples)
            if bodies:
                insert_rows(database, "bodies", _BODY_COLUMNS, bodies)
            added.write(database)

    def _is_written(self, request_id: str) -> bool:
        query = Request.select(Request.id).where(Request.id == request_id).tuples()
        return bool(list(query.execute(self.database)))

    def _row(self, record: CallRecord, added: Rollup) -> tuple[object, ...]:
        category = category_of(record.turns) if record.turns else None
        added.add(record, category)
        return (*_plain_values(record), _evidence(record), category, *self._texts(record))

    def _texts(self, record: CallRecord) -> tuple[str | None, str | None]:
        """Prompt and response as `storage.prompts` allows."""
        if self._prompts == "none" or record.no_store or record.turns is None:
            return None, None
        messages = [{"role": role, "content": text} for role, text in record.turns]
        prompt = msgspec.json.encode(messages).decode()
        if self._prompts == "hash":
            return _hash(prompt), _hash(record.response) if record.response else None
        return prompt, record.response

    def _write_responses(self) -> None:
        """Write the queued answers. Without them, clients must resend their conversation."""
        size = _BATCH
        while self._responses:
            batch = [self._responses.popleft() for _ in range(min(size, len(self._responses)))]
            try:
                self._upsert(batch)
            except Exception as error:
                self._disconnect()
                is_lost = not (is_transient(error) or is_corrupt(error))
                if is_lost and len(batch) == 1:
                    logger.error("cannot store or delete a response: %s", error)
                else:
                    # A lock must lose neither a deletion nor the owner of a response.
                    self._responses.extendleft(reversed(batch))
                    if not is_lost:
                        logger.error("%d responses wait to be written: %s", len(batch), error)
                        return
                    size = len(batch) // 2
                    continue
            self._chars_written += sum(map(_chars_of, batch))
            size = min(2 * size, _BATCH)

    def _upsert(self, batch: Sequence[StoredResponse | str]) -> None:
        now = self._clock()
        # One statement must not write a row twice: the last response of an id wins.
        rows = {
            response.id: response._asdict() | {"created_at": now}
            for response in batch
            if isinstance(response, StoredResponse)
        }
        deleted = [response for response in batch if isinstance(response, str)]
        self._connect()
        with self.database.atomic():
            if rows:
                upsert = Response.insert_many(list(rows.values())).on_conflict(
                    conflict_target=[Response.id],
                    preserve=[getattr(Response, name) for name in StoredResponse._fields[1:]],
                )
                upsert.execute(self.database)
            if deleted:
                Response.delete().where(Response.id.in_(deleted)).execute(self.database)

    def _sweep(self) -> None:
        """Delete rows past their retention, hourly: for about `_SWEEP_SECONDS` in each call."""
        if self._retention_days is None:
            return
        if not self._unswept:
            now = self._clock()
            if now - self._swept_at < _RETENTION_SECONDS:
                return
            self._swept_at = now
            self._unswept.extend((table, float("-inf")) for table in _GROWING)
        oldest = self._swept_at - self._retention_days * 86_400
        try:
            self._connect()
            deadline = self._timer() + _SWEEP_SECONDS
            while self._unswept and self._timer() < deadline:
                table, begin = self._unswept.popleft()
                end = self._delete_older(table, begin, oldest)
                if end is not None:
                    self._unswept.append((table, end))
        except Exception as error:  # the writer continues after any error
            logger.warning("cannot delete old rows: %s", error)
            self._disconnect()
            self._unswept.clear()

    def _delete_older(self, table: Any, begin: float, oldest: float) -> float | None:
        """Delete one step of old rows, the oldest first: `Maintenance.check` relies on the order.

        Args:
            begin: UNIX seconds; the end of the step before. Without it PostgreSQL would read the
                deleted rows again, until it has removed them from the index.
            oldest: the end of all steps, exclusive.

        Returns:
            Where the next step begins. None if no row is left, or if another process deletes
            from the table: waiting for its row locks would delay the rows of this one.
        """
        at = table.created_at
        steps = (
            table.select(at)
            .where(at >= begin, at < oldest)
            .order_by(at)
            .offset(_DELETED_AT_ONCE - 1)
            .limit(1)
            .tuples()
        )
        name = f"retention of {table._meta.table_name}"
        with claimed_transaction(self.database, name=name) as is_claimed:
            if not is_claimed:
                return None
            last = next((last for (last,) in steps.execute(self.database)), None)
            end = at < oldest if last is None else at <= last
            table.delete().where(at >= begin, end).execute(self.database)
        return last


async def retry_until_written(look_up: Callable[[], T | None]) -> T | None:
    """Look up one row, and retry while it may not be written yet: for 1.2 s on a busy machine.

    Raises as `look_up` does.
    """
    for wait in (0.0, 2 * FLUSH_SECONDS, 4 * FLUSH_SECONDS):
        await asyncio.sleep(wait)
        if (row := await asyncio.to_thread(look_up)) is not None:
            return row
    return None


def _sample(record: CallRecord) -> tuple[object, ...]:
    """A row of `samples`, pending for a judge."""
    kind, propensity, turn = record.sample or ("", 0.0, 0.0)
    at = record.created_at
    # A rejected local answer is not the one that the judge will get.
    evidence = _evidence(record) if record.target is Target.LOCAL else None
    return record.id, at, kind, propensity, turn, "pending", 0, 0.0, record.body, evidence


def _bodies(record: CallRecord) -> tuple[object, ...]:
    """A row of `bodies`."""
    raw = record.raw_request, record.raw_response
    return record.id, record.created_at, *(shorten_body(body, record.redact) for body in raw)


def _evidence(record: CallRecord) -> str | None:
    return None if record.evidence is None else record.evidence.to_json()


def _shortened(turns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The first `MAX_TEXT_CHARS` characters of a conversation."""
    shortened, left = [], MAX_TEXT_CHARS
    for role, text in turns:
        role = role[:MAX_NAME_CHARS]
        shortened.append((role, text[:left]))
        left -= len(role) + len(text)
        if left <= 0:
            break
    return shortened


def _chars_of(response: StoredResponse | str) -> int:
    if isinstance(response, str):
        return 0
    return len(response.items or "") + len(response.body or "")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
