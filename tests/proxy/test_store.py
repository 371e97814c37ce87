"""Rows: what is kept of a request, and that neither load nor a bad database loses them unseen."""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from proxy.config import StorageConfig
from proxy.database import StoreUnavailable
from proxy.record import CallRecord, Ending, Reason, Target, UsageSource
from proxy.store import Store

NOW = 1_800_000_000.0
DAY = 86_400.0


def finished(**values: object) -> CallRecord:
    record = CallRecord("chat.completions")
    for name, value in values.items():
        setattr(record, name, value)
    record.finish(Ending.OK)
    return record


def until(met: Callable[[], bool]) -> None:
    """Wait for the writer thread; far longer than it may take, but not for ever."""
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextlib.contextmanager
def opened(path: Path, **arguments: Any) -> Iterator[Store]:
    prompts: Literal["full", "hash", "none"] = arguments.pop("prompts", "full")
    retention_days = arguments.pop("retention_days", 30)
    config = StorageConfig(url=f"sqlite:///{path}", prompts=prompts, retention_days=retention_days)
    store = Store(config, **arguments)
    store.open()
    try:
        yield store
    finally:
        store.close()


def read(path: Path, sql: str = "select * from requests order by rowid") -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(sql)]


def test_a_record_becomes_a_row(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on" / "the" / "way" / "rows.db"
    values = {
        "requested_model": "auto",
        "target": Target.CLOUD,
        "model": "gpt-4o-mini",
        "reason": Reason.SCORE,
        "score": 0.25,
        "p_local": 0.5,
        "p_cloud": 0.75,
        "threshold": 0.6,
        "decision_ms": 2.5,
        "ttft_ms": 120.0,
        "status": 200,
        "streamed": True,
        "input_tokens": 10,
        "cached_input_tokens": 4,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "usage_source": UsageSource.UPSTREAM,
        "cost_usd": 0.001,
        "cloud_cost_usd": 0.001,
        "saved_usd": 0.0,
        "fallback_from": Target.LOCAL,
        "fallback_why": "5xx",
        "upstream_ms": 140.0,
        "session_id": "s",
        "client_key_hash": "abc",
    }
    record = finished(**values, turns=[("user", "Grüße\n")], response="Hallo")
    with opened(path) as store:
        store.add(record)
    (row,) = read(path)
    assert json.loads(row.pop("prompt")) == [{"role": "user", "content": "Grüße\n"}]
    assert row == values | {
        "id": record.id,
        "created_at": record.created_at,
        "endpoint": "chat.completions",
        "duration_ms": record.duration_ms,
        "ending": "ok",
        "response": "Hallo",
        "category": "other",
        "error": None,
        "error_code": None,
    }


def test_a_request_that_was_refused_at_once_is_a_row_too(tmp_path: Path) -> None:
    record = CallRecord("chat.completions")
    record.finish(Ending.REJECTED, error="No key.")
    with opened(tmp_path / "rows.db") as store:
        store.add(record)
    (row,) = read(tmp_path / "rows.db")
    assert (row["ending"], row["error"], row["target"]) == ("rejected", "No key.", None)


def test_rows_survive_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path / "rows.db") as store:
            store.add(finished())
    assert len(read(tmp_path / "rows.db")) == 2


def test_prompts_can_be_kept_as_hashes(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.db", prompts="hash") as store:
        for prompt in ("secret", "secret", "other"):
            store.add(finished(turns=[("user", prompt)], response="hidden"))
        store.add(finished(turns=[("user", "secret")], response=""))
    rows = read(tmp_path / "rows.db")
    assert rows[0]["prompt"] == rows[1]["prompt"] != rows[2]["prompt"]
    assert rows[0]["response"] == hashlib.sha256(b"hidden").hexdigest()
    assert rows[3]["response"] is None
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret" not in content
    assert b"hidden" not in content


def test_prompts_can_be_left_out(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.db", prompts="none") as store:
        store.add(finished(turns=[("user", "secret")], response="hidden"))
    (row,) = read(tmp_path / "rows.db")
    assert (row["prompt"], row["response"]) == (None, None)


def test_closing_writes_everything_that_is_pending(tmp_path: Path) -> None:
    records = [finished() for _ in range(2_500)]  # more than two batches
    with opened(tmp_path / "rows.db") as store:
        for record in records:
            store.add(record)
    assert [row["id"] for row in read(tmp_path / "rows.db")] == [record.id for record in records]


def test_rows_are_written_while_the_process_lives(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.db") as store:
        store.add(finished())
        until(lambda: len(read(tmp_path / "rows.db")) == 1)


def test_a_full_queue_drops_and_counts(tmp_path: Path) -> None:
    dropped: list[int] = []
    config = StorageConfig(url=f"sqlite:///{tmp_path / 'rows.db'}")
    store = Store(config, on_dropped=dropped.append, max_pending=3)
    records = [finished() for _ in range(5)]
    for record in records:  # nobody writes before it is opened
        store.add(record)
    assert dropped == [1, 1]
    store.open()
    store.close()
    kept = [row["id"] for row in read(tmp_path / "rows.db")]
    assert kept == [record.id for record in records[:3]]


@pytest.mark.parametrize(
    "poison",
    [
        {"requested_model": "\ud800"},
        {"response": "\ud800", "turns": []},
        {"turns": [("user", "\ud800")]},
        {"input_tokens": 2**70},
        {"model": object()},
        {"endpoint": None},
    ],
    ids=str,
)
def test_a_row_no_database_takes_does_not_cost_the_others_theirs(
    tmp_path: Path, poison: dict[str, object]
) -> None:
    dropped: list[int] = []
    good = [finished() for _ in range(4)]
    with opened(tmp_path / "rows.db", on_dropped=dropped.append) as store:
        for record in (*good[:2], finished(**poison), *good[2:]):
            store.add(record)
    assert [row["id"] for row in read(tmp_path / "rows.db")] == [record.id for record in good]
    assert dropped == [1]


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    dropped: list[int] = []
    with opened(path, on_dropped=dropped.append, busy_seconds=0.01) as store:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin exclusive")
            # One that is refused whatever happens must not lose the others to the lock.
            for record in (finished(), finished(input_tokens=2**70), finished()):
                store.add(record)
            until(lambda: not store.healthy)
            other.execute("rollback")
        until(lambda: store.healthy)
        until(lambda: len(read(path)) == 2)
    assert dropped == [1]


def test_what_cannot_be_written_before_the_end_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    dropped: list[int] = []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        with opened(path, on_dropped=dropped.append, busy_seconds=0.01) as store:
            other.execute("begin exclusive")
            store.add(finished())
            store.add(finished())
        assert dropped == [2]
    assert read(path) == []


def test_rows_past_their_retention_are_deleted_hourly(tmp_path: Path) -> None:
    now = NOW
    path = tmp_path / "rows.db"

    def ages() -> list[float]:
        return [(NOW - row["created_at"]) / DAY for row in read(path)]

    with opened(path, retention_days=2, clock=lambda: now) as store:
        for days in (0, 1.99, 2.01, 400):
            store.add(finished(created_at=NOW - days * DAY))
        until(lambda: ages() == pytest.approx([0, 1.99]))
        now += 0.5 * DAY
        until(lambda: ages() == [0])


def test_without_retention_rows_stay(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.db", retention_days=None, clock=lambda: NOW) as store:
        store.add(finished(created_at=0.0))
    assert len(read(tmp_path / "rows.db")) == 1


def test_a_path_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but longer than the header of one" * 10)
    for path in (tmp_path / "file" / "rows.db", tmp_path / "file", tmp_path):
        store = Store(StorageConfig(url=f"sqlite:///{path}"))
        with pytest.raises(StoreUnavailable) as caught:
            store.open()
        assert str(caught.value).startswith(f"storage.url: sqlite:///{path} cannot be used: ")
        assert not store.healthy
        store.close()  # a store that never opened can be closed
