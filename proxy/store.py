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
from typing import Any, Final, NamedTuple

import msgspec
import peewee

from proxy.config import StorageConfig
from proxy.record import CallRecord, Target

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


class Judgement(peewee.Model):
    """What a judge gave one answer to a request: the one the client got, or the other tier's.

    `score` is 1-10 by router_model.rubric; `model` is who answered.
    """

    request_id = peewee.TextField(index=True)
    created_at = peewee.DoubleField()
    target = peewee.TextField()
    model = peewee.TextField()
    score = peewee.DoubleField()
    judge_model = peewee.TextField()
    reason = peewee.TextField(null=True)

    class Meta:
        table_name = "judgements"
        indexes = ((("request_id", "target", "judge_model"), True),)


class Response(peewee.Model):
    """An answer of the Responses API that a client may continue: who made it, and for whom.

    `items` (input and output as JSON, of which the first `input_items` are input) and `body` are
    kept of the local tier's, which remembers nothing itself.
    """

    id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField(index=True)
    target = peewee.TextField()
    client_key_hash = peewee.TextField(null=True)
    items = peewee.TextField(null=True)
    input_items = peewee.IntegerField()
    body = peewee.TextField(null=True)

    class Meta:
        table_name = "responses"


class Feedback(peewee.Model):
    """What a client thought of an answer: -1 to 1. The last word on a request stands."""

    request_id = peewee.TextField(primary_key=True)
    created_at = peewee.DoubleField()
    rating = peewee.DoubleField()
    comment = peewee.TextField(null=True)

    class Meta:
        table_name = "feedback"


_TABLES: Final = (Request, Judgement, Response, Feedback)


class KeptResponse(NamedTuple):
    """A row of `responses`."""

    id: str
    target: Target
    client_key_hash: str | None
    items: str | None
    input_items: int
    body: str | None


class JudgedRequest(NamedTuple):
    """A request whose answers of both tiers have a score, the mean over the judges.

    `turns` is None where no readable prompt was kept (`storage.prompts`). `cloud_cost_usd`: what
    the cloud's answer cost, or would have.
    """

    id: str
    turns: list[tuple[str, str]] | None
    session_id: str | None
    local_model: str
    cloud_model: str
    local_score: float
    cloud_score: float
    cloud_cost_usd: float | None


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
        self._kept: deque[KeptResponse | str] = deque()  # a text: the id of one to be forgotten
        self._wake = threading.Event()
        self._stopping = False
        self._swept = 0.0
        self.healthy = False
        self._url = config.url
        path = _path_of(config)
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
                for table in _TABLES:
                    peewee.SchemaManager(table, database=self._database).create_all(safe=True)
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

    @property
    def keeps_text(self) -> bool:
        """Whether prompts and answers may be kept as they are."""
        return self._prompts == "full"

    def keep_response(self, kept: KeptResponse) -> None:
        """Hand an answer that may be continued to the writer. Never blocks."""
        if len(self._kept) < self._max_pending:
            self._kept.append(kept)

    def find_response(self, response_id: str) -> KeptResponse | None:
        """The row of an answer; None when there is none. Blocks: call it in a thread.

        Raises:
            StoreUnavailable: it cannot be read now.
        """
        columns = [getattr(Response, name) for name in KeptResponse._fields]
        query = Response.select(*columns).where(Response.id == response_id).tuples()
        try:
            with self._database.connection_context():
                for row in query.execute(self._database):
                    return KeptResponse(*row)._replace(target=Target(row[1]))
        except peewee.DatabaseError as error:
            logger.error("response %s cannot be looked up: %s", response_id, error)
            raise StoreUnavailable(f"Responses cannot be looked up: {error}") from None
        return None

    def forget_response(self, response_id: str) -> None:
        """Have the writer delete an answer, behind what it has yet to write. Never blocks."""
        self._kept.append(response_id)

    def rate(
        self, request_id: str, rating: float, comment: str | None, *, client: str | None
    ) -> tuple[str, bool] | None:
        """Keep what a client thought of an answer. Blocks: call it in a thread.

        Returns the tier that answered ("none" where none did) and whether this is the first word
        on it; None when the client (by the hash of the key) has made no such request.

        Raises:
            StoreUnavailable: it cannot be kept now.
        """
        find = Request.select(Request.target, Request.client_key_hash).where(
            Request.id == request_id
        )
        keep = Feedback.insert(
            request_id=request_id, created_at=self._clock(), rating=rating, comment=comment
        ).on_conflict("REPLACE")
        try:
            with self._database.connection_context(), self._database.atomic():
                found = list(find.tuples().execute(self._database))
                if not found or found[0][1] != client:
                    return None
                known = Feedback.select().where(Feedback.request_id == request_id)
                is_new = not list(known.tuples().execute(self._database))
                keep.execute(self._database)
                return found[0][0] or "none", is_new
        except peewee.DatabaseError as error:
            raise StoreUnavailable(f"Feedback cannot be kept: {error}") from None

    def spent(self, since: float) -> dict[str, float]:
        """Dollars that the cloud cost since then (UNIX seconds), by the hash of the client's key.

        Empty when the database does not say: the error is in the log.
        """
        query = (
            Request.select(Request.client_key_hash, peewee.fn.SUM(Request.cost_usd))
            .where(
                Request.created_at >= since,
                Request.target == "cloud",
                Request.cost_usd > 0,
                Request.client_key_hash.is_null(False),
            )
            .group_by(Request.client_key_hash)
        )
        try:
            with self._database.connection_context():
                return dict(query.tuples().execute(self._database))
        except peewee.DatabaseError as error:
            logger.error("what was spent today is not known: %s", error)
            return {}

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
            self._write_kept()
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

    def _write_kept(self) -> None:
        """Answers that may be continued. Without them a client must send its conversation again."""
        now = self._clock()
        while self._kept:
            batch = [self._kept.popleft() for _ in range(min(_BATCH, len(self._kept)))]
            rows = [
                kept._asdict() | {"created_at": now}
                for kept in batch
                if isinstance(kept, KeptResponse)
            ]
            gone = [kept for kept in batch if isinstance(kept, str)]
            try:
                with self._database.atomic():
                    if rows:
                        keep = Response.insert_many(rows).on_conflict("REPLACE")
                        keep.execute(self._database)
                    Response.delete().where(Response.id.in_(gone)).execute(self._database)
            except peewee.DatabaseError as error:
                logger.error("%d responses cannot be kept or deleted: %s", len(batch), error)
                self._kept.extendleft(reversed(gone))  # a deletion must not be lost
                return

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
            for table in (Request, Response, Feedback):
                table.delete().where(table.created_at < oldest).execute(self._database)
        except peewee.DatabaseError as error:
            logger.warning("old rows cannot be deleted: %s", error)


def judged_requests(config: StorageConfig, *, since: float = 0.0) -> list[JudgedRequest]:
    """The requests from `since` (UNIX seconds) on that were judged on both sides, oldest first.

    Raises:
        StoreUnavailable: there is no such database, or it holds no rows of a proxy.
    """
    path = _path_of(config)
    if not path.is_file():
        raise StoreUnavailable(f"storage.url: there is no {path}: the proxy has recorded nothing")
    database = peewee.SqliteDatabase(f"{path.resolve().as_uri()}?mode=ro", uri=True)

    def of(target: str, value: Any) -> Any:
        return peewee.Case(None, ((Judgement.target == target, value),))

    query = (
        Request.select(
            Request.id,
            Request.prompt,
            Request.session_id,
            peewee.fn.MAX(of("local", Judgement.model)),
            peewee.fn.MAX(of("cloud", Judgement.model)),
            peewee.fn.AVG(of("local", Judgement.score)).alias("local_score"),
            peewee.fn.AVG(of("cloud", Judgement.score)).alias("cloud_score"),
            Request.cloud_cost_usd,
        )
        .join(Judgement, on=Judgement.request_id == Request.id)
        .where(Request.created_at >= since)
        .group_by(Request.id)
        .having(peewee.fn.COUNT(peewee.fn.DISTINCT(Judgement.target)) == 2)
        .order_by(Request.created_at, Request.id)
    )
    try:
        with database.connection_context():
            rows = list(query.tuples().execute(database))
    except peewee.DatabaseError as error:
        raise StoreUnavailable(f"storage.url: {config.url} cannot be read: {error}") from None
    return [JudgedRequest(key, _turns_of(prompt), *rest) for key, prompt, *rest in rows]


def _turns_of(prompt: str | None) -> list[tuple[str, str]] | None:
    """The turns of a stored prompt; None where it is a hash or was not kept."""
    if prompt is None:
        return None
    try:
        messages = msgspec.json.decode(prompt, type=list[dict[str, str]])
    except msgspec.DecodeError:
        return None
    return [(message["role"], message["content"]) for message in messages]


def _path_of(config: StorageConfig) -> Path:
    return Path(config.url.removeprefix("sqlite:///"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
