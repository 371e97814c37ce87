"""Dumps of each version of the database schema, with rows in every table.

    python tests/support/schemas.py 6 > tests/support/schemas/6.sql

Write the dump of the newest schema before you add a migration, and never change it later, because
users have such databases. `load` restores a dump in SQLite or PostgreSQL.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import peewee

from proxy.storage.migrations import MIGRATIONS
from stored import HOUR, NOW, connected, fill, random_records

FOLDER: Final = Path(__file__).with_suffix("")
_RECORDS: Final = 12

# Rows of the other tables. `request_id` is the index of a request.
_OTHERS: Final[dict[str, list[dict[str, Any]]]] = {
    "judgements": [
        {"id": 1, "request_id": 0, "created_at": NOW, "target": "local", "model": "phi3:latest",
         "score": 8.0, "judge_model": "gpt-4o-mini", "reason": "Right, and short; it's \"fine\"."},
        {"id": 2, "request_id": 0, "created_at": NOW, "target": "cloud", "model": "gpt-4o-mini",
         "score": 9.5, "judge_model": "gpt-4o-mini", "reason": None},
    ],
    "responses": [
        {"id": "resp_1", "created_at": NOW - HOUR, "target": "local", "client_key_hash": "one",
         "items": '[{"role":"user","content":"Grüße"}]', "input_items": 1, "body": "{}"},
    ],
    "feedback": [
        {"request_id": 1, "created_at": NOW, "rating": -1.0, "comment": "Falsch: 2 + 2 = 4."},
        {"request_id": 2, "created_at": NOW, "rating": 1.0, "comment": None},
    ],
    "samples": [
        {"request_id": 0, "created_at": NOW, "kind": "shadow", "propensity": 0.01, "turn": 0.25,
         "state": "done", "attempts": 1, "next_at": NOW, "claimed_by": None, "body": None,
         "other_model": "gpt-4o-mini", "other_response": "Four.", "why": None,
         "evidence": '{"broken":false,"agrees":true}'},
        {"request_id": 3, "created_at": NOW, "kind": "grade", "propensity": 0.02, "turn": 0.75,
         "state": "pending", "attempts": 0, "next_at": NOW, "claimed_by": None, "body": '{"n":1}',
         "other_model": None, "other_response": None, "why": None, "evidence": None},
    ],
    "preferences": [
        {"id": 1, "request_id": 0, "created_at": NOW, "judge_model": "gpt-4o-mini",
         "verdict": "cloud", "first": "cloud", "swapped": "tie"},
    ],
    "expenses": [
        {"id": 1, "created_at": NOW, "purpose": "judge", "request_id": 0, "model": "gpt-4o-mini",
         "usd": 0.000125, "is_settled": True},
    ],
    "jobs": [
        {"id": "job_1", "step": "report", "arguments": "{}", "state": "done", "created_at": NOW,
         "started_at": NOW, "ended_at": NOW + 1.5, "exit_status": 0, "host": "a", "pid": 4711,
         "worker": "a/4711/1", "seen_at": NOW + 1.5, "is_unwanted": False, "progress": 1.0,
         "message": None, "log": "fertig\n", "log_start": 0, "cost_usd": None},
    ],
    "learning_steps": [
        {"id": 1, "created_at": NOW, "ended_at": NOW + 9.5, "expires_at": NOW + HOUR, "kind": "fit",
         "state": "done", "worker": "a:1", "local_model": "phi3:latest",
         "cloud_model": "gpt-4o-mini", "second_model": "", "judgement_id": 2,
         "version_before": "1", "version": "1+own", "test": 1, "pairs": 500, "tested": 480,
         "evidence": 0, "cost_share": 0.4, "difference": 0.05, "low": 0.01, "high": 0.09,
         "level": 0.975, "decision": "activated", "why": "better", "manifest": "{}",
         "previous": "{}"},
    ],
    "bodies": [
        {"request_id": 0, "created_at": NOW, "request": '{"model": "auto"}', "response": None},
    ],
    "choices": [
        {"id": 1, "created_at": NOW, "request_id": 0, "other_id": "req_other",
         "client_key_hash": "one", "source": "chat", "choice": "tie", "is_blind": False,
         "may_learn": True, "local_model": "phi3:latest", "cloud_model": "gpt-4o-mini",
         "category": None},
    ],
    "api_keys": [
        {"key_hash": "one", "digest": "00ff", "name": "Zoë's key", "prefix": "sk-hybrid-1",
         "created_at": NOW, "created_by": None, "revoked_at": None, "is_admin": False,
         "requests_per_minute": 60, "cloud_usd_per_day": 0.5},
    ],
    "audit_log": [
        {"id": 1, "created_at": NOW, "actor": None, "action": "key.created", "subject": "one",
         "details": '{"name":"Zoë\'s key"}'},
    ],
    "notifications": [
        {"name": "budget", "is_active": True, "claimed_at": NOW},
    ],
    "rates": [
        {"key_hash": "one", "full_at": NOW + 12.5},
    ],
    "leases": [
        {"day": int(NOW) // 86_400, "name": "", "holder": "0123456789abcdef", "usd": 0.125},
        {"day": int(NOW) // 86_400, "name": "one", "holder": "0123456789abcdef", "usd": 0.0625},
    ],
}  # fmt: skip


def numbers() -> list[int]:
    """The versions with a dump."""
    return sorted(int(path.stem) for path in FOLDER.glob("*.sql"))


def load(number: int, database: peewee.Database) -> None:
    """Load the dump of a version into an empty database."""
    text = (FOLDER / f"{number}.sql").read_text(encoding="utf-8")
    if not isinstance(database, peewee.SqliteDatabase):
        serial = "id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
        text = text.replace("id INTEGER NOT NULL PRIMARY KEY", serial)
        text = text.replace("WITHOUT ROWID", "")
    with database.atomic():
        for statement in text.split(";\n\n")[:-1]:
            database.execute_sql(statement)


def dump(number: int) -> str:
    """The SQL of a new database after the first `number` migrations."""
    with tempfile.TemporaryDirectory() as folder:
        newest, old = (f"sqlite:///{folder}/{name}.db" for name in ("newest", "old"))
        fill(newest, random_records(_RECORDS, seed=number))
        with connected(newest) as rows, connected(old) as database:
            database.execute_sql(
                "CREATE TABLE migrations (\n    number INTEGER NOT NULL PRIMARY KEY, "
                "name TEXT NOT NULL,\n    applied_at DOUBLE PRECISION NOT NULL)"
            )
            for step in MIGRATIONS[:number]:
                step.apply(database)
                values = (step.number, step.name, NOW - HOUR)
                database.execute_sql("INSERT INTO migrations VALUES (?, ?, ?)", values)
            objects = database.execute_sql(
                "SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
            ).fetchall()
            statements = [re.sub(r"\n +", "\n    ", sql) for _, _, sql in objects]
            for table in (name for name, kind, _ in objects if kind == "table"):
                source = database if table == "migrations" else rows
                statements += _inserts(source, database, table)
    return "".join(f"{statement};\n\n" for statement in statements)


def _inserts(source: peewee.Database, made: peewee.Database, table: str) -> list[str]:
    columns = made.get_columns(table)
    names = [column.name for column in columns]
    values = source.execute_sql(f"SELECT {', '.join(names)} FROM {table} ORDER BY 1").fetchall()
    if table in _OTHERS:
        ids = source.execute_sql("SELECT id FROM requests ORDER BY created_at").fetchall()
        others = [
            row | ({"request_id": ids[row["request_id"]][0]} if "request_id" in row else {})
            for row in _OTHERS[table]
        ]
        values = [tuple(row[name] for name in names) for row in others]
    kinds = [column.data_type.upper() for column in columns]
    return [
        f"INSERT INTO {table} ({', '.join(names)}) VALUES\n    ("
        + ", ".join(_literal(value, kind) for value, kind in zip(row, kinds, strict=True))
        + ")"
        for row in values
    ]


def _literal(value: Any, kind: str) -> str:
    if value is None:
        return "NULL"
    if kind == "BOOLEAN":
        return "TRUE" if value else "FALSE"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    print(dump(int(sys.argv[1])), end="")
