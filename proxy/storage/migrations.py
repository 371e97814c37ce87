"""The schema's history: numbered migrations, each applied once per database, by the first process.

    migrate(database)        # brings any older database up to date and keeps its rows

A released migration is frozen. It carries its own SQL and its own arithmetic, and imports neither
`tables` nor `rollups`: those describe today's schema, not the one a migration was written for.
Correct a mistake with the next migration.
"""

import bisect
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import peewee

from proxy.storage.database import StoreUnavailable, exclusive_transaction

logger = logging.getLogger(__name__)


class Migration(NamedTuple):
    """One migration. `apply` runs inside a transaction."""

    number: int
    name: str
    apply: Callable[[peewee.Database], None]


def _first_tables(database: peewee.Database) -> None:
    serial = _serial(database)
    _run(
        database,
        """CREATE TABLE IF NOT EXISTS requests (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
            endpoint TEXT NOT NULL, requested_model TEXT, target TEXT, model TEXT, reason TEXT,
            score DOUBLE PRECISION, p_local DOUBLE PRECISION, p_cloud DOUBLE PRECISION,
            threshold DOUBLE PRECISION, decision_ms DOUBLE PRECISION, ttft_ms DOUBLE PRECISION,
            duration_ms DOUBLE PRECISION NOT NULL, status INTEGER, ending TEXT NOT NULL,
            streamed BOOLEAN NOT NULL, input_tokens BIGINT, cached_input_tokens BIGINT,
            output_tokens BIGINT, usage_source TEXT, cost_usd DOUBLE PRECISION,
            cloud_cost_usd DOUBLE PRECISION, saved_usd DOUBLE PRECISION, category TEXT,
            prompt TEXT, response TEXT, fallback_from TEXT, session_id TEXT,
            client_key_hash TEXT, error TEXT)""",
        "CREATE INDEX IF NOT EXISTS request_created_at ON requests (created_at)",
        f"""CREATE TABLE IF NOT EXISTS judgements (
            id {serial}, request_id TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            target TEXT NOT NULL, model TEXT NOT NULL, score DOUBLE PRECISION NOT NULL,
            judge_model TEXT NOT NULL, reason TEXT)""",
        "CREATE INDEX IF NOT EXISTS judgement_request_id ON judgements (request_id)",
        """CREATE UNIQUE INDEX IF NOT EXISTS judgement_request_id_target_judge_model
            ON judgements (request_id, target, judge_model)""",
        """CREATE TABLE IF NOT EXISTS responses (
            id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
            target TEXT NOT NULL, client_key_hash TEXT, items TEXT, input_items INTEGER NOT NULL,
            body TEXT)""",
        "CREATE INDEX IF NOT EXISTS response_created_at ON responses (created_at)",
        """CREATE TABLE IF NOT EXISTS feedback (
            request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
            rating DOUBLE PRECISION NOT NULL, comment TEXT)""",
    )


def _sums_and_causes(database: peewee.Database) -> None:
    """Hourly totals and histograms; failure, fallback and upstream time per request."""
    without_rowid = "WITHOUT ROWID" if isinstance(database, peewee.SqliteDatabase) else ""
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN upstream_ms DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN reasoning_tokens BIGINT",
        "ALTER TABLE requests ADD COLUMN fallback_why TEXT",
        "ALTER TABLE requests ADD COLUMN error_code TEXT",
        "CREATE INDEX request_reason ON requests (reason, created_at)",
        "CREATE INDEX request_model ON requests (model, created_at)",
        "CREATE INDEX request_failed ON requests (ending, created_at) WHERE ending <> 'ok'",
        "CREATE INDEX request_key ON requests (client_key_hash, created_at) "
        "WHERE client_key_hash IS NOT NULL",
        f"""CREATE TABLE hours (
            hour BIGINT NOT NULL, endpoint TEXT NOT NULL, target TEXT NOT NULL,
            model TEXT NOT NULL, reason TEXT NOT NULL, ending TEXT NOT NULL,
            category TEXT NOT NULL, requests BIGINT NOT NULL, streamed BIGINT NOT NULL,
            fallbacks BIGINT NOT NULL, estimated BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
            cached_input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
            reasoning_tokens BIGINT NOT NULL, cost_pico BIGINT NOT NULL,
            cloud_cost_pico BIGINT NOT NULL, saved_pico BIGINT NOT NULL,
            PRIMARY KEY (hour, endpoint, target, model, reason, ending, category)
            ) {without_rowid}""",
        f"""CREATE TABLE spreads (
            hour BIGINT NOT NULL, measure TEXT NOT NULL, target TEXT NOT NULL,
            bucket INTEGER NOT NULL, requests BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
            PRIMARY KEY (hour, measure, target, bucket)) {without_rowid}""",
        f"""CREATE TABLE day_spreads (
            day BIGINT NOT NULL, measure TEXT NOT NULL, target TEXT NOT NULL,
            bucket INTEGER NOT NULL, requests BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
            PRIMARY KEY (day, measure, target, bucket)) {without_rowid}""",
    )
    _roll_up_existing_rows(database)


# Constants and arithmetic of migration 2, as they were when it was released.
_HOUR_SECONDS: Final = 3_600
_DAY_SECONDS: Final = 86_400
_PICODOLLARS: Final = 10**12
_FIRST_BUCKET: Final = -60
_BUCKET_BOUNDS: Final = [10 ** (bucket / 20) for bucket in range(-59, 241)]  # ms, 20 per decade

_Totals = dict[tuple[Any, ...], list[int]]


def _roll_up_existing_rows(database: peewee.Database) -> None:
    """Fill `hours`, `spreads` and `day_spreads` from the rows of `requests`."""
    hours: _Totals = {}
    spreads: _Totals = {}
    days: _Totals = {}
    rows = database.execute_sql(
        """SELECT created_at, endpoint, target, model, reason, ending, category, streamed,
            fallback_from, usage_source, input_tokens, cached_input_tokens, output_tokens,
            reasoning_tokens, cost_usd, cloud_cost_usd, saved_usd, score, decision_ms, ttft_ms,
            upstream_ms, duration_ms FROM requests"""
    )
    for (created_at, endpoint, target, model, reason, ending, category, streamed,
         fallback_from, usage_source, input_tokens, cached_input_tokens, output_tokens,
         reasoning_tokens, cost_usd, cloud_cost_usd, saved_usd, score, decision_ms, ttft_ms,
         upstream_ms, duration_ms) in rows:  # fmt: skip
        hour = int(created_at) // _HOUR_SECONDS * _HOUR_SECONDS
        day = int(created_at) // _DAY_SECONDS * _DAY_SECONDS
        tier = target or ""
        model = (model or "").replace("\0", "\N{REPLACEMENT CHARACTER}")
        cloud_cost = _picodollars(cloud_cost_usd)
        _add(
            hours,
            (hour, endpoint, tier, model, reason or "", ending, category or ""),
            (1, int(streamed), int(fallback_from is not None), int(usage_source == "estimated"),
             input_tokens or 0, cached_input_tokens or 0, output_tokens or 0,
             reasoning_tokens or 0, _picodollars(cost_usd), cloud_cost, _picodollars(saved_usd)),
        )  # fmt: skip
        buckets = {
            "score": None if score is None else min(int(score * 100), 99),
            "decision_ms": _duration_bucket(decision_ms),
            "ttft_ms": _duration_bucket(ttft_ms),
            "duration_ms": _duration_bucket(duration_ms),
            "overhead_ms": _duration_bucket(duration_ms - (upstream_ms or 0.0)),
        }
        for measure, bucket in buckets.items():
            if bucket is not None:
                _add(spreads, (hour, measure, tier, bucket), (1, cloud_cost))
                _add(days, (day, measure, tier, bucket), (1, cloud_cost))
    for table, totals in (("hours", hours), ("spreads", spreads), ("day_spreads", days)):
        for key, numbers in sorted(totals.items()):
            values = ", ".join([database.param] * (len(key) + len(numbers)))
            database.execute_sql(f"INSERT INTO {table} VALUES ({values})", (*key, *numbers))


def _add(totals: _Totals, key: tuple[Any, ...], numbers: Iterable[int]) -> None:
    known = totals.get(key)
    added = list(numbers)
    totals[key] = (
        added if known is None else [old + new for old, new in zip(known, added, strict=True)]
    )


def _picodollars(usd: float | None) -> int:
    return round(usd * _PICODOLLARS) if usd is not None and math.isfinite(usd) else 0


def _duration_bucket(ms: float | None) -> int | None:
    return None if ms is None else bisect.bisect_right(_BUCKET_BOUNDS, ms) + _FIRST_BUCKET


def _judging(database: peewee.Database) -> None:
    """Samples to judge with their propensity, verdicts on pairs of answers, and their cost."""
    serial = _serial(database)
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN propensity DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN candidate_score DOUBLE PRECISION",
        "CREATE INDEX request_compared ON requests (created_at) WHERE candidate_score IS NOT NULL",
        """CREATE TABLE samples (
            request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
            kind TEXT NOT NULL, propensity DOUBLE PRECISION NOT NULL,
            turn DOUBLE PRECISION NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
            next_at DOUBLE PRECISION NOT NULL, claimed_by TEXT, body TEXT, other_model TEXT,
            other_response TEXT, why TEXT)""",
        "CREATE INDEX sample_state ON samples (state, turn)",
        "CREATE INDEX sample_created_at ON samples (created_at)",
        f"""CREATE TABLE preferences (
            id {serial}, request_id TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            judge_model TEXT NOT NULL, verdict TEXT NOT NULL, first TEXT NOT NULL,
            swapped TEXT NOT NULL)""",
        """CREATE UNIQUE INDEX preference_request_id_judge_model
            ON preferences (request_id, judge_model)""",
        f"""CREATE TABLE expenses (
            id {serial}, created_at DOUBLE PRECISION NOT NULL, purpose TEXT NOT NULL,
            request_id TEXT NOT NULL, model TEXT NOT NULL, usd DOUBLE PRECISION NOT NULL,
            is_settled BOOLEAN NOT NULL)""",
        "CREATE INDEX expense_created_at ON expenses (created_at)",
    )


def _jobs(database: peewee.Database) -> None:
    """Jobs of the training pipeline, of which at most one is running."""
    _run(
        database,
        """CREATE TABLE jobs (
            id TEXT NOT NULL PRIMARY KEY, step TEXT NOT NULL, arguments TEXT NOT NULL,
            state TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL,
            started_at DOUBLE PRECISION, ended_at DOUBLE PRECISION, exit_status INTEGER,
            host TEXT NOT NULL, pid INTEGER, worker TEXT NOT NULL,
            seen_at DOUBLE PRECISION NOT NULL, is_unwanted BOOLEAN NOT NULL,
            progress DOUBLE PRECISION, message TEXT, log TEXT NOT NULL,
            log_start BIGINT NOT NULL, cost_usd DOUBLE PRECISION)""",
        "CREATE INDEX job_created_at ON jobs (created_at)",
        "CREATE UNIQUE INDEX job_running ON jobs (state) WHERE state = 'running'",
    )


def _sessions(database: peewee.Database) -> None:
    """An index to look up the tier of a conversation."""
    _run(
        database,
        """CREATE INDEX request_session_id_created_at ON requests (session_id, created_at)
            WHERE session_id IS NOT NULL""",
    )


def _shared_limits(database: peewee.Database) -> None:
    """Token buckets of API keys and leases on daily budgets, shared by all processes."""
    _run(
        database,
        """CREATE TABLE rates (
            key_hash TEXT NOT NULL PRIMARY KEY, full_at DOUBLE PRECISION NOT NULL)""",
        """CREATE TABLE leases (
            day BIGINT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL,
            usd DOUBLE PRECISION NOT NULL, PRIMARY KEY (day, name, holder))""",
    )


def _exploration(database: peewee.Database) -> None:
    """Rename the reason of random decisions. No row has the new name yet, so no key collides."""
    _run(
        database,
        "UPDATE requests SET reason = 'exploration' WHERE reason = 'shadow'",
        "UPDATE hours SET reason = 'exploration' WHERE reason = 'shadow'",
    )


def _rules_and_merits(database: peewee.Database) -> None:
    """The routing rule that matched, and what was compared with the threshold: so far the score."""
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN rule TEXT",
        "ALTER TABLE requests ADD COLUMN merit DOUBLE PRECISION",
        "UPDATE requests SET merit = score WHERE score IS NOT NULL",
        *(
            f"INSERT INTO {table} ({begins}, measure, target, bucket, requests, cloud_cost_pico) "
            f"SELECT {begins}, 'merit', target, bucket, requests, cloud_cost_pico FROM {table} "
            "WHERE measure = 'score'"
            for table, begins in (("spreads", "hour"), ("day_spreads", "day"))
        ),
    )


def _answer_checks(database: peewee.Database) -> None:
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN failed_check TEXT",
        "ALTER TABLE requests ADD COLUMN discarded_tokens BIGINT",
    )


def _second_looks(database: peewee.Database) -> None:
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN second_look TEXT",
        "ALTER TABLE requests ADD COLUMN evidence TEXT",
        "ALTER TABLE requests ADD COLUMN verified_score DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN verified_merit DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN second_look_ms DOUBLE PRECISION",
        "ALTER TABLE samples ADD COLUMN evidence TEXT",
    )


def _learning(database: peewee.Database) -> None:
    """Steps of self-calibration, of which at most one is running."""
    _run(
        database,
        f"""CREATE TABLE learning_steps (
            id {_serial(database)}, created_at DOUBLE PRECISION NOT NULL,
            ended_at DOUBLE PRECISION, expires_at DOUBLE PRECISION NOT NULL, kind TEXT NOT NULL,
            state TEXT NOT NULL, worker TEXT NOT NULL, local_model TEXT NOT NULL,
            cloud_model TEXT NOT NULL, second_model TEXT NOT NULL, judgement_id BIGINT NOT NULL,
            version_before TEXT, version TEXT, test INTEGER, pairs INTEGER, tested INTEGER,
            evidence INTEGER, cost_share DOUBLE PRECISION, difference DOUBLE PRECISION,
            low DOUBLE PRECISION, high DOUBLE PRECISION, level DOUBLE PRECISION, decision TEXT,
            why TEXT, manifest TEXT, previous TEXT)""",
        """CREATE UNIQUE INDEX learning_step_running ON learning_steps (state)
            WHERE state = 'running'""",
    )


def _history_hashes(database: peewee.Database) -> None:
    """The next request of a conversation finds an answer by its history, not by the session."""
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN history_hash TEXT",
        """CREATE INDEX request_history_hash_created_at ON requests (history_hash, created_at)
            WHERE history_hash IS NOT NULL""",
        "DROP INDEX request_session_id_created_at",
    )


def _pages(database: peewee.Database) -> None:
    """Spend by API key, keys that are managed on a page, the choices of users, and what a request
    and its answer looked like on the wire.
    """
    serial = _serial(database)
    is_sqlite = isinstance(database, peewee.SqliteDatabase)
    without_rowid = "WITHOUT ROWID" if is_sqlite else ""
    sums = """requests BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
            cached_input_tokens BIGINT NOT NULL, output_tokens BIGINT NOT NULL,
            cost_pico BIGINT NOT NULL, cloud_cost_pico BIGINT NOT NULL,
            saved_pico BIGINT NOT NULL"""
    _run(
        database,
        "ALTER TABLE requests ADD COLUMN queue_ms DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN connect_ms DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN opened_ms DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN attempt_ms DOUBLE PRECISION",
        "ALTER TABLE requests ADD COLUMN fallback_error TEXT",
        "ALTER TABLE requests ADD COLUMN own_threshold BOOLEAN",
        """CREATE TABLE bodies (
            request_id TEXT NOT NULL PRIMARY KEY, created_at DOUBLE PRECISION NOT NULL,
            request TEXT, response TEXT)""",
        "CREATE INDEX body_created_at ON bodies (created_at)",
        f"""CREATE TABLE choices (
            id {serial}, created_at DOUBLE PRECISION NOT NULL, request_id TEXT NOT NULL,
            other_id TEXT NOT NULL, client_key_hash TEXT, source TEXT NOT NULL,
            choice TEXT NOT NULL, is_blind BOOLEAN NOT NULL, may_learn BOOLEAN NOT NULL,
            local_model TEXT NOT NULL, cloud_model TEXT NOT NULL, category TEXT)""",
        "CREATE UNIQUE INDEX choice_request_id ON choices (request_id)",
        "CREATE INDEX choice_created_at ON choices (created_at)",
        """CREATE TABLE api_keys (
            key_hash TEXT NOT NULL PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL,
            prefix TEXT NOT NULL, created_at DOUBLE PRECISION NOT NULL, created_by TEXT,
            revoked_at DOUBLE PRECISION, is_admin BOOLEAN NOT NULL,
            requests_per_minute INTEGER, cloud_usd_per_day DOUBLE PRECISION)""",
        "CREATE UNIQUE INDEX api_key_name ON api_keys (name) WHERE revoked_at IS NULL",
        f"""CREATE TABLE audit_log (
            id {serial}, created_at DOUBLE PRECISION NOT NULL, actor TEXT,
            action TEXT NOT NULL, subject TEXT NOT NULL, details TEXT)""",
        "CREATE INDEX audit_log_created_at ON audit_log (created_at)",
        """CREATE TABLE notifications (
            name TEXT NOT NULL PRIMARY KEY, is_active BOOLEAN NOT NULL,
            claimed_at DOUBLE PRECISION NOT NULL)""",
        *(
            f"""CREATE TABLE {table} (
            {begins} BIGINT NOT NULL, key_hash TEXT NOT NULL, target TEXT NOT NULL,
            ending TEXT NOT NULL, {sums},
            PRIMARY KEY ({begins}, key_hash, target, ending)) {without_rowid}"""
            for table, begins in (("key_hours", "hour"), ("key_days", "day"))
        ),
    )
    whole = "CAST(created_at AS INTEGER)" if is_sqlite else "CAST(floor(created_at) AS BIGINT)"
    pico = "coalesce(sum(CAST(round({} * 1e12) AS BIGINT)), 0)"
    summed = [
        "count(*)",
        *(
            f"coalesce(sum({name}), 0)"
            for name in ("input_tokens", "cached_input_tokens", "output_tokens")
        ),
        *(pico.format(name) for name in ("cost_usd", "cloud_cost_usd", "saved_usd")),
    ]
    for table, seconds in (("key_hours", _HOUR_SECONDS), ("key_days", _DAY_SECONDS)):
        _run(
            database,
            f"""INSERT INTO {table}
            SELECT {whole} / {seconds} * {seconds}, client_key_hash, coalesce(target, ''), ending,
            {", ".join(summed)} FROM requests WHERE client_key_hash IS NOT NULL
            GROUP BY 1, 2, 3, 4""",
        )


def _long_tables(database: peewee.Database) -> None:
    """Indexes for what would read a whole table: today's fallbacks, for the budgets of API keys,
    and old judgements, verdicts and ratings, for retention.
    """
    _run(
        database,
        """CREATE INDEX request_fallback_cost ON requests (created_at, client_key_hash, cost_usd)
            WHERE reason = 'fallback' AND coalesce(target, '') <> 'cloud' AND cost_usd > 0""",
        "CREATE INDEX judgement_created_at ON judgements (created_at)",
        "CREATE INDEX preference_created_at ON preferences (created_at)",
        "CREATE INDEX feedback_created_at ON feedback (created_at)",
    )


MIGRATIONS: Final = (
    Migration(1, "first tables", _first_tables),
    Migration(2, "sums and causes", _sums_and_causes),
    Migration(3, "judging", _judging),
    Migration(4, "jobs", _jobs),
    Migration(5, "sessions", _sessions),
    Migration(6, "quotas", _shared_limits),
    Migration(7, "exploration", _exploration),
    Migration(8, "rules and merits", _rules_and_merits),
    Migration(9, "answer checks", _answer_checks),
    Migration(10, "second looks", _second_looks),
    Migration(11, "learning", _learning),
    Migration(12, "history hashes", _history_hashes),
    Migration(13, "pages", _pages),
    Migration(14, "long tables", _long_tables),
)
NEWEST: Final = MIGRATIONS[-1].number


def migrate(
    database: peewee.Database, *, migrations: Sequence[Migration] = MIGRATIONS
) -> list[Migration]:
    """Apply the missing migrations and return them.

    Raises:
        StoreUnavailable: a newer version of the proxy has changed the schema.
    """
    newest = migrations[-1].number
    with exclusive_transaction(database):
        _run(
            database,
            """CREATE TABLE IF NOT EXISTS migrations (
                number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL,
                applied_at DOUBLE PRECISION NOT NULL)""",
        )
        schema = applied(database)
        if schema > newest:
            raise StoreUnavailable(
                f"the database is from a newer version (schema {schema}, supported up to {newest})"
            )
        missing = [migration for migration in migrations if migration.number > schema]
        for migration in missing:
            started = time.monotonic()
            migration.apply(database)
            _run(
                database,
                f"INSERT INTO migrations (number, name, applied_at) "
                f"VALUES ({migration.number}, '{migration.name}', {time.time()})",
            )
            logger.info(
                "database: applied schema %d (%s) in %.1f s",
                migration.number,
                migration.name,
                time.monotonic() - started,
            )
    return missing


def applied(database: peewee.Database) -> int:
    """The number of the last migration that was applied to a database; 0 for none."""
    (number,) = database.execute_sql("SELECT max(number) FROM migrations").fetchone()
    return number or 0


def _serial(database: peewee.Database) -> str:
    """The column type of an automatically incremented key."""
    if isinstance(database, peewee.SqliteDatabase):
        return "INTEGER NOT NULL PRIMARY KEY"
    return "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"


def _run(database: peewee.Database, *statements: str) -> None:
    for statement in statements:
        database.execute_sql(statement)
