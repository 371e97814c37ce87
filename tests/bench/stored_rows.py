"""Typical rows of requests, and a database that is filled with millions of them.

    pool = draw_pool()
    fill(config, pool, 10_000_000)

All rows are copies of the records of a pool, each with a time, an id and a history hash of its own.
So the database can copy the rows itself, and their rollups are multiples of those of the pool.
"""

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import peewee

from proxy.config import StorageConfig
from proxy.record import (
    DAY_SECONDS,
    HOUR_SECONDS,
    CallRecord,
    Ending,
    Reason,
    Target,
    UsageSource,
    key_hash,
    new_request_id,
)
from proxy.storage.database import close_all, open_database
from proxy.storage.migrations import migrate
from proxy.storage.rollups import KeyedSums, Rollup, add_sums
from proxy.storage.tables import (
    DailyHistogram,
    DailyKeyTotals,
    HourlyHistogram,
    HourlyKeyTotals,
    HourlyTotals,
)
from proxy.storage.writer import Store
from router_model.categories import category_of

DAYS: Final = 30
KINDS: Final = 5_000  # different records, from which rows are made
KEY_TEXTS: Final = [f"sk-team-{number}" for number in range(300)]
WORDS: Final = (
    "the model should answer this question about history or write python code that sorts a long "
    "list of numbers quickly and explain why it works for every input"
).split()
JUDGED_EACH: Final = 500  # one request of so many has a judge's grades of both answers
ERRORS: Final = (
    ("upstream_error", "The cloud tier answered with an error (status 500): req-{:08d} failed"),
    ("upstream_timeout", "The local tier sent nothing for 60 seconds"),
    ("rate_limited", "The cloud tier answered with an error (status 429): try again in {}s"),
)  # fmt: skip
_ROWS_AT_ONCE: Final = 100_000
# Spreads the history hashes over all values, as a hash does, so writes reach all of their index.
_SCATTER: Final = 2_654_435_761
_ALL_SECONDS: Final = 10**12


def draw(rng: random.Random) -> CallRecord:
    """A typical finished request: a prompt of 40 words, an answer of 60."""
    record = CallRecord("chat.completions")
    record.requested_model = "auto"
    record.target = rng.choice(list(Target))
    record.model = {"local": "phi3:latest", "cloud": "gpt-4o-mini"}[record.target]
    record.reason = rng.choice(
        [Reason.SCORE] * 12 + [Reason.FORCED, Reason.STICKY, Reason.CONTEXT, Reason.FALLBACK]
    )
    record.score = record.merit = rng.random()
    record.threshold = 0.6
    record.p_local, record.p_cloud = 0.5, 0.7
    record.decision_ms = rng.lognormvariate(0.7, 0.5)
    record.ttft_ms = rng.lognormvariate(5.5, 0.8)
    record.upstream_ms = rng.lognormvariate(7.2, 0.9)
    record.status, record.streamed = 200, rng.random() < 0.6
    record.input_tokens, record.output_tokens = rng.randrange(10, 2_000), rng.randrange(1, 600)
    record.cached_input_tokens, record.usage_source = 0, UsageSource.UPSTREAM
    record.cost_usd = record.cloud_cost_usd = record.input_tokens * 150_000 / 10**12
    record.saved_usd = 0.0
    record.session_id = f"{rng.getrandbits(64):016x}"
    record.history_hash = f"{rng.getrandbits(64):016x}"
    record.client_key_hash = key_hash(rng.choice(KEY_TEXTS))
    record.turns = [("user", " ".join(rng.choices(WORDS, k=40)))]
    record.response = " ".join(rng.choices(WORDS, k=60))
    if record.reason is Reason.FALLBACK:
        record.fallback_from = record.target.other
    if record.reason is Reason.SCORE:
        record.candidate_score = rng.random()  # of a shadow router
    failed = rng.random() < 0.02
    if failed:
        record.error_code, text = rng.choice(ERRORS)
        record.error, record.history_hash = text.format(rng.randrange(10**8)), None
    record.finish(Ending.UPSTREAM_ERROR if failed else Ending.OK)
    record.duration_ms = record.upstream_ms + 5
    return record


def draw_pool(number: int = KINDS) -> list[CallRecord]:
    """Different records, always the same ones."""
    return [draw(random.Random(seed)) for seed in range(number)]


def copy_of(record: CallRecord, created_at: float) -> CallRecord:
    """A copy with another id and time."""
    other = object.__new__(CallRecord)
    for name in CallRecord.__slots__:
        setattr(other, name, getattr(record, name))
    other.id, other.created_at = new_request_id(), created_at
    if record.history_hash is not None:
        other.history_hash = f"{random.getrandbits(64):016x}"
    return other


def fill(config: StorageConfig, pool: Sequence[CallRecord], rows: int) -> None:
    """Fill an empty database with rows, rollups and judgements, spread over the last DAYS days."""
    first = time.time() - DAYS * DAY_SECONDS
    step = DAYS * DAY_SECONDS / rows
    _write_pool(config, pool)
    database = open_database(config)
    database.connect()
    try:
        migrate(database)
        is_sqlite = isinstance(database, peewee.SqliteDatabase)
        if is_sqlite:  # a file that is thrown away if this fails
            for setting in ("journal_mode = off", "synchronous = off", "cache_size = -500000"):
                _run(database, f"PRAGMA {setting}")
        else:
            _run(database, "SET statement_timeout = 0")
            _run(database, "SET maintenance_work_mem = '512MB'")
        indexes = _drop_indexes(database)
        _copy_pool(database, len(pool), rows, first=first, step=step)
        for statement in indexes:
            _run(database, statement)
        _judge(database, first=first, step=step)
        with database.atomic():
            for table, sums in _rollups(pool, rows, first=first, step=step):
                add_sums(database, table, sums)
        _run(database, "DROP TABLE pool")
        if is_sqlite:
            _run(database, "PRAGMA journal_mode = wal")
        else:
            _run(database, "VACUUM ANALYZE")
    finally:
        close_all(database)
        database.close()


def _write_pool(config: StorageConfig, pool: Sequence[CallRecord]) -> None:
    """Let the store write the pool's records, and move their rows to a table of their own."""
    store = Store(config)
    store.prepare()
    # Their order in the table `pool` is that of their times.
    store._insert([copy_of(record, float(number)) for number, record in enumerate(pool)])
    columns = "row_number() OVER (ORDER BY created_at) - 1 AS place, requests.*"  # from 0
    _run(store.database, f"CREATE TABLE pool AS SELECT {columns} FROM requests")
    _run(store.database, "CREATE UNIQUE INDEX pool_place ON pool (place)")
    for table in ("requests", "hours", "spreads", "day_spreads", "key_hours", "key_days"):
        _run(store.database, f"DELETE FROM {table}")
    store._disconnect()


def _drop_indexes(database: peewee.Database) -> list[str]:
    """Drop the indexes of `requests` but its key; return the statements that make them again."""
    if isinstance(database, peewee.SqliteDatabase):
        query = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'requests' "
            "AND sql IS NOT NULL"
        )
    else:
        query = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'requests' "
            "AND indexname <> 'requests_pkey'"
        )
    indexes = _run(database, query).fetchall()
    for name, _ in indexes:
        _run(database, f"DROP INDEX {name}")
    return [statement for _, statement in indexes]


def _copy_pool(
    database: peewee.Database, kinds: int, rows: int, *, first: float, step: float
) -> None:
    columns = [column.name for column in database.get_columns("requests")]
    own = {"created_at": f"{first!r} + n * {step!r}"}
    milliseconds = f"CAST(({first!r} + n * {step!r}) * 1000 AS BIGINT)"
    if isinstance(database, peewee.SqliteDatabase):
        own["id"] = f"printf('req_%012x%020x', {milliseconds}, n)"
        scattered = f"printf('%08x%08x', n * {_SCATTER} % 4294967296, n)"
        numbers = (
            "WITH RECURSIVE numbers (n) AS (SELECT {begin} UNION ALL "
            "SELECT n + 1 FROM numbers WHERE n + 1 < {end}) "
        )
    else:
        own["id"] = f"'req_' || lpad(to_hex({milliseconds}), 12, '0') || lpad(to_hex(n), 20, '0')"
        scattered = f"lpad(to_hex(n * {_SCATTER} % 4294967296), 8, '0') || lpad(to_hex(n), 8, '0')"
        numbers = "WITH numbers (n) AS (SELECT generate_series({begin}::bigint, {end} - 1)) "
    own["history_hash"] = f"CASE WHEN history_hash IS NOT NULL THEN {scattered} END"
    selected = ", ".join(own.get(name, name) for name in columns)
    for begin in range(0, rows, _ROWS_AT_ONCE):
        end = min(begin + _ROWS_AT_ONCE, rows)
        _run(
            database,
            f"INSERT INTO requests ({', '.join(columns)}) "
            + numbers.format(begin=begin, end=end)
            + f"SELECT {selected} FROM numbers JOIN pool ON place = n % {kinds} ORDER BY n",
        )


def _judge(database: peewee.Database, *, first: float, step: float) -> None:
    """Give some requests a judge's grades and verdict."""
    last = "CAST(created_at * 1000 AS BIGINT)"
    chosen = (
        f"(SELECT * FROM requests WHERE ending = 'ok' AND {last} % {JUDGED_EACH} = 0) AS chosen"
    )
    grade = f"1 + {last} / {JUDGED_EACH} % 10"
    for target in ("local", "cloud"):
        _run(
            database,
            "INSERT INTO judgements (request_id, created_at, target, model, score, judge_model) "
            f"SELECT id, created_at, '{target}', '{target}-model', {grade}, 'judge' FROM {chosen}",
        )
    _run(
        database,
        "INSERT INTO preferences (request_id, created_at, judge_model, verdict, first, swapped) "
        f"SELECT id, created_at, 'judge', 'tie', 'local', 'cloud' FROM {chosen}",
    )
    _run(
        database,
        "INSERT INTO samples (request_id, created_at, kind, propensity, turn, state, attempts, "
        f"next_at) SELECT id, created_at, 'pair', 0.002, 0.5, 'done', 1, 0.0 FROM {chosen}",
    )


def _rollups(
    pool: Sequence[CallRecord], rows: int, *, first: float, step: float
) -> Iterable[tuple[type[peewee.Model], KeyedSums]]:
    """The sums of all rows, hour by hour: of whole rounds of the pool, and of a part of it."""
    whole = _sums_of(pool)
    begin, hour = 0, int(first) // HOUR_SECONDS * HOUR_SECONDS
    days: dict[type[peewee.Model], KeyedSums] = {HourlyHistogram: {}, HourlyKeyTotals: {}}
    while begin < rows:
        # The first row of the next hour, by the same arithmetic as the database's.
        end = max(begin, int((hour + HOUR_SECONDS - first) / step) - 2)
        while end < rows and first + end * step < hour + HOUR_SECONDS:
            end += 1
        end = min(end, rows)
        rounds, rest = divmod(end - begin, len(pool))
        places = [(begin + offset) % len(pool) for offset in range(rest)]
        part = _sums_of([pool[place] for place in places])
        for table, sums in whole.items():
            total: KeyedSums = {}
            for source, times in ((sums, rounds), (part[table], 1)):
                for (_, *key), numbers in source.items():
                    _add(total, (hour, *key), [number * times for number in numbers])
            yield table, {key: numbers for key, numbers in total.items() if numbers[0]}
            if table in days:
                for (_, *key), numbers in total.items():
                    _add(days[table], (hour // DAY_SECONDS * DAY_SECONDS, *key), numbers)
        begin, hour = end, hour + HOUR_SECONDS
    for table, daily in (
        (HourlyHistogram, DailyHistogram), (HourlyKeyTotals, DailyKeyTotals),
    ):  # fmt: skip
        yield daily, {key: numbers for key, numbers in days[table].items() if numbers[0]}


def _sums_of(records: Sequence[CallRecord]) -> dict[type[peewee.Model], KeyedSums]:
    rollup = Rollup(seconds=_ALL_SECONDS)  # all in one "hour"
    for record in records:
        rollup.add(record, category_of(record.turns) if record.turns else None)
    return {
        HourlyTotals: rollup.hours,
        HourlyHistogram: rollup.histograms,
        HourlyKeyTotals: rollup.key_hours,
    }


def _add(sums: KeyedSums, key: tuple[Any, ...], numbers: Sequence[int]) -> None:
    known = sums.get(key)
    sums[key] = (
        list(numbers) if known is None else [a + b for a, b in zip(known, numbers, strict=True)]
    )


def _run(database: peewee.Database, statement: str) -> Any:
    is_sqlite = isinstance(database, peewee.SqliteDatabase)
    # psycopg takes a single % for a placeholder.
    return database.execute_sql(statement if is_sqlite else statement.replace("%", "%%"))
