"""Rows: their content, and that no row is lost silently under load or by a faulty database."""

import contextlib
import hashlib
import json
import os
import random
import select
import socket
import sqlite3
import string
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from fakes import refused_address
from postgres import PostgresServer
from proxy.auth import Principal
from proxy.budget.limits import Limits
from proxy.config import StorageConfig
from proxy.record import (
    MAX_TEXT_CHARS,
    PICODOLLARS,
    CallRecord,
    Ending,
    Reason,
    Target,
    UsageSource,
)
from proxy.storage.database import StoreUnavailable, quarantine, redacted_url
from proxy.storage.lookups import StoredResponse
from proxy.storage.writer import Store
from router_model.evidence import Evidence
from stored import (
    DAY,
    NOW,
    config_of,
    connected,
    execute,
    fill,
    finished,
    integrity_errors,
    opened,
    random_records,
    read,
    until,
)

pytest_plugins = ["databases"]


def ids(url: str) -> set[str]:
    return {row["id"] for row in read(url, "SELECT id FROM requests")}


# ── Rows ──────────────────────────────────────────────────────────────────────────────────────


def test_record_becomes_a_row(url: str) -> None:
    values = {
        "requested_model": "auto",
        "target": Target.CLOUD,
        "model": "gpt-4o-mini",
        "reason": Reason.SCORE,
        "score": 0.25,
        "merit": 0.375,
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
        "history_hash": "h",
        "client_key_hash": "abc",
        "error": "Broke off.",
        "error_code": "upstream_broken",
        "propensity": 0.9,
        "candidate_score": 0.3,
        "rule": "regulated advice",
        "failed_check": "cut_off",
        "discarded_tokens": 340,
        "second_look": "escalated",
        "verified_score": 0.4,
        "verified_merit": 0.45,
        "second_look_ms": 812.5,
        "queue_ms": 3.5,
        "connect_ms": 20.25,
        "opened_ms": 8.5,
        "attempt_ms": 100.5,
        "fallback_error": "Out of memory. (status 500)",
        "own_threshold": True,
    }
    evidence = Evidence(broken=False, agrees=False, margin=0.25)
    record = finished(
        **values, evidence=evidence, turns=[("user", "Grüße\n")], response="Hallo 🙂\t\\N\r\n"
    )
    with opened(url) as store:
        store.add(record)
    (row,) = read(url)
    assert json.loads(row.pop("prompt")) == [{"role": "user", "content": "Grüße\n"}]
    assert Evidence.from_json(row.pop("evidence")) == evidence
    assert row == values | {
        "id": record.id,
        "created_at": record.created_at,
        "endpoint": "chat.completions",
        "duration_ms": record.duration_ms,
        "ending": "ok",
        "response": "Hallo 🙂\t\\N\r\n",
        "category": "other",
    }


def test_newest_complete_answer_of_a_conversation_is_found(url: str) -> None:
    answers = [
        {"session_id": "a", "history_hash": "one", "target": Target.LOCAL, "created_at": NOW},
        {"session_id": "b", "history_hash": "two", "target": Target.CLOUD, "created_at": NOW + 1},
        {"session_id": "a", "history_hash": "one", "target": Target.CLOUD, "created_at": NOW + 2},
        {"session_id": "a", "history_hash": "one", "target": None, "created_at": NOW + 3},
    ]
    records = [finished(**answer) for answer in answers]
    cut_off = {"target": Target.LOCAL, "created_at": NOW + 4, "ending": Ending.CLIENT_GONE}
    records.append(finished(session_id="a", history_hash="one", **cut_off))
    with opened(url) as store:
        for record in records:
            store.add(record)
    with opened(url) as store:
        find = store.lookups.find_answer
        assert find(["one", "two"], NOW) == ("a", Target.CLOUD)
        assert find(["two", "unknown"], NOW) == ("b", Target.CLOUD)
        assert find(["two"], NOW + 2) is None
        assert find(["unknown"], NOW) is None


def test_rejected_request_becomes_a_row(url: str) -> None:
    record = CallRecord("chat.completions")
    record.finish(Ending.REJECTED, error="No key.")
    with opened(url) as store:
        store.add(record)
    (row,) = read(url)
    assert (row["ending"], row["error"], row["target"]) == ("rejected", "No key.", None)
    assert integrity_errors(url) == []


def test_random_records_are_stored_exactly(url: str) -> None:
    records = {record.id: record for record in random_records(300)}
    with opened(url) as store:
        for record in records.values():
            store.add(record)
    rows = read(url)
    assert len(rows) == len(records)
    for row in rows:
        record = records[row["id"]]
        for name in row.keys() - {"prompt", "response", "category", "evidence"}:
            assert row[name] == getattr(record, name), name
        assert Evidence.from_json(row["evidence"]) == record.evidence
        assert row["response"] == (None if record.turns is None else record.response)
        assert (row["prompt"] is None) == (row["category"] is None) == (record.turns is None)


def test_missing_folders_are_created(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/made/on/the/way/rows.db"
    with opened(url) as store:
        store.add(finished())
    assert len(read(url)) == 1


def test_rows_survive_a_restart(url: str) -> None:
    for _ in range(2):
        with opened(url) as store:
            store.add(finished())
    assert len(read(url)) == 2


def test_prompts_can_be_stored_as_hashes(url: str) -> None:
    with opened(url, prompts="hash") as store:
        for number, prompt in enumerate(("secret", "secret", "other")):
            store.add(finished(created_at=number, turns=[("user", prompt)], response="hidden"))
        store.add(finished(created_at=9, turns=[("user", "secret")], response=""))
    rows = read(url)
    assert rows[0]["prompt"] == rows[1]["prompt"] != rows[2]["prompt"]
    assert rows[0]["response"] == hashlib.sha256(b"hidden").hexdigest()
    assert rows[3]["response"] is None
    content = "".join(str(value) for row in rows for value in row.values())
    assert "secret" not in content
    assert "hidden" not in content


def test_hashed_texts_do_not_appear_in_the_files(sqlite_url: str, tmp_path: Path) -> None:
    with opened(sqlite_url, prompts="hash") as store:
        store.add(finished(turns=[("user", "secret")], response="hidden"))
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert content
    assert b"secret" not in content
    assert b"hidden" not in content


def test_prompts_can_be_omitted(url: str) -> None:
    with opened(url, prompts="none") as store:
        store.add(finished(turns=[("user", "Translate this.")], response="hidden"))
    (row,) = read(url)
    assert (row["prompt"], row["response"]) == (None, None)
    assert row["category"] == "translation"


@pytest.mark.parametrize("name", ["response", "model", "requested_model", "error", "session_id"])
def test_null_character_loses_no_row(url: str, name: str) -> None:
    dropped: list[int] = []
    good, bad = finished(), finished(**{"turns": [("user", "a\0b")], name: "a\0b"})
    with opened(url, on_dropped=dropped.append) as store:
        store.add(good)
        store.add(bad)
    rows = {row["id"]: row for row in read(url)}
    assert rows.keys() == {good.id, bad.id}
    assert rows[bad.id][name] in (
        "a\0b",
        "a\N{REPLACEMENT CHARACTER}b",
    )  # PostgreSQL has no null characters
    assert json.loads(rows[bad.id]["prompt"])[0]["content"] == "a\0b"
    assert dropped == []
    assert integrity_errors(url) == []


@pytest.mark.parametrize(
    "poison",
    [
        {"requested_model": "\ud800"},
        {"response": "\ud800", "turns": []},
        {"turns": [("user", "\ud800")]},
        {"input_tokens": 2**70},
        {"cost_usd": float("inf")},
        {"duration_ms": float("nan")},
        {"model": object()},
        {"endpoint": None},
    ],
    ids="-".join,
)
def test_invalid_row_is_dropped_alone(url: str, poison: dict[str, object]) -> None:
    dropped: list[int] = []
    good = [finished() for _ in range(4)]
    with opened(url, on_dropped=dropped.append) as store:
        for record in (*good[:2], finished(**poison), *good[2:]):
            store.add(record)
    assert ids(url) == {record.id for record in good}
    assert dropped == [1]
    assert integrity_errors(url) == []


class CountingStore(Store):
    """A store that counts its attempts."""

    attempts = 0

    def _insert(self, batch: Sequence[CallRecord]) -> None:
        self.attempts += 1
        super()._insert(batch)


def test_invalid_rows_are_located_by_bisection(url: str) -> None:
    """Each attempt is a transaction, so rows are not tried one by one."""
    dropped: list[int] = []
    store = CountingStore(config_of(url), on_dropped=dropped.append)
    records = [finished() for _ in range(3_000)]
    for index in (17, 999, 1_500, 2_999):
        records[index].input_tokens = 2**70
    for record in records:
        store.add(record)
    store.open()
    store.close()
    assert ids(url) == {record.id for record in records if record.input_tokens is None}
    assert dropped == [1] * 4
    assert store.attempts < 150


# ── The writer ────────────────────────────────────────────────────────────────────────────────


def test_close_writes_all_pending_rows(url: str) -> None:
    records = [finished() for _ in range(2_500)]  # more than two batches
    with opened(url) as store:
        for record in records:
            store.add(record)
    assert ids(url) == {record.id for record in records}
    assert integrity_errors(url) == []


def test_rows_are_written_in_the_background(url: str) -> None:
    with opened(url) as store:
        store.add(finished())
        until(lambda: len(read(url)) == 1)


@contextlib.contextmanager
def unopened(url: str, **arguments: Any) -> Iterator[Store]:
    """A store that queues rows but writes nothing until it is opened."""
    prompts = arguments.pop("prompts", "full")
    store = Store(config_of(url, prompts=prompts), **arguments)
    try:
        yield store
    finally:
        store.close()


def test_full_queue_drops_and_counts_rows(url: str) -> None:
    dropped: list[int] = []
    records = [finished() for _ in range(5)]
    with unopened(url, on_dropped=dropped.append, max_pending=3) as store:
        for record in records:
            store.add(record)
        assert dropped == [1, 1]
        store.open()
    assert ids(url) == {record.id for record in records[:3]}


@pytest.mark.parametrize("prompts", ["full", "hash", "none"])
def test_queue_size_is_limited_by_text_length(sqlite_url: str, prompts: str) -> None:
    """Texts occupy memory in the queue whether or not they will be stored."""
    dropped: list[int] = []

    def long() -> CallRecord:
        return finished(turns=[("user", "q" * 200)], response="a" * 200)

    with unopened(
        sqlite_url, prompts=prompts, on_dropped=dropped.append, max_pending_chars=1_000
    ) as store:
        for record in (long(), long(), long(), finished(), finished()):
            store.add(record)
        assert dropped == [1]
        store.open()
        until(lambda: store._chars_written == store._chars_added)
        for record in (long(), long()):  # the written rows have freed their space
            store.add(record)
        assert dropped == [1]
    assert len(read(sqlite_url)) == 6


def test_a_long_conversation_is_shortened(sqlite_url: str) -> None:
    turns = [("user", "q" * MAX_TEXT_CHARS), ("assistant", "a")]
    with opened(sqlite_url) as store:
        for _ in range(100):  # more than the queue holds
            store.add(finished(turns=turns, response="r" * 2 * MAX_TEXT_CHARS))
            until(lambda: store._chars_written == store._chars_added)
    (row, *others) = read(sqlite_url)
    assert len(others) == 99
    assert json.loads(row["prompt"]) == [{"role": "user", "content": "q" * MAX_TEXT_CHARS}]
    assert row["response"] == "r" * MAX_TEXT_CHARS


def test_texts_of_clients_have_bounds_in_every_column(sqlite_url: str) -> None:
    long = "x" * 3 * MAX_TEXT_CHARS
    record = CallRecord(
        "chat", requested_model=long, model=long, turns=[(long, "a"), ("user", "b")]
    )
    record.finish(Ending.REJECTED, error=long, error_code=long)
    with opened(sqlite_url) as store:
        store.add(record)
    (row,) = read(sqlite_url)
    sizes = {name: len(row[name] or "") for name in ("requested_model", "model", "error_code")}
    assert set(sizes.values()) == {200}
    assert len(row["error"]) == 2_000
    assert len(row["prompt"]) < 500


def test_a_name_that_no_index_takes_is_shortened(postgres_url: str) -> None:
    dropped: list[int] = []
    random_text = "".join(random.Random(0).choices(string.ascii_letters, k=60_000))
    records = [finished(), finished(requested_model=random_text, model=random_text), finished()]
    with opened(postgres_url, on_dropped=dropped.append) as store:
        for record in records:
            store.add(record)
    assert not dropped
    rows = {row["id"]: row for row in read(postgres_url)}
    assert rows.keys() == {record.id for record in records}
    assert rows[records[1].id]["requested_model"] == random_text[:200]


def test_pending_responses_are_limited_by_text_length(sqlite_url: str) -> None:
    with unopened(sqlite_url, max_pending_chars=1_000) as store:
        for number in range(4):
            store.store_response(stored_response(f"resp_{number}", body="b" * 300, items="i" * 100))
        store.open()
        until(lambda: store._chars_written == store._chars_added)
        store.store_response(stored_response("resp_4", body="b" * 300))
    stored_ids = {row["id"] for row in read(sqlite_url, "SELECT id FROM responses")}
    assert stored_ids == {"resp_0", "resp_1", "resp_4"}


def test_locked_sqlite_database_is_retried(sqlite_url: str) -> None:
    dropped: list[int] = []
    with opened(sqlite_url, on_dropped=dropped.append, busy_seconds=0.01) as store:
        with locked(sqlite_url):
            # An invalid row must not cause the loss of the others during the lock.
            for record in (finished(), finished(input_tokens=2**70), finished()):
                store.add(record)
            until(lambda: not store.healthy)
        until(lambda: store.healthy)
        until(lambda: len(read(sqlite_url)) == 2)
    assert dropped == [1]


def test_locked_postgresql_table_is_retried(postgres_url: str) -> None:
    with opened(postgres_url, busy_seconds=0.01) as store, connected(postgres_url) as other:
        with other.atomic():
            other.execute_sql("LOCK TABLE hours")
            store.add(finished())
            until(lambda: not store.healthy)
        until(lambda: store.healthy)
    assert len(read(postgres_url)) == 1
    assert integrity_errors(postgres_url) == []


def test_unwritten_rows_at_close_are_counted_as_dropped(sqlite_url: str) -> None:
    dropped: list[int] = []
    with contextlib.ExitStack() as lock:
        with opened(sqlite_url, on_dropped=dropped.append, busy_seconds=0.01) as store:
            lock.enter_context(locked(sqlite_url))
            store.add(finished())
            store.add(finished())
        assert dropped == [2]
    assert read(sqlite_url) == []


@contextlib.contextmanager
def locked(url: str) -> Iterator[None]:
    path = url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


class SeveringRelay:
    """A relay to a server. Once armed, it disconnects after a statement, before the reply to it."""

    def __init__(self, port: int, statement: bytes) -> None:
        self._server = ("127.0.0.1", port)
        self._statement = statement
        self.is_armed = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "SeveringRelay":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._relay, args=(client,)))
                self._threads[-1].start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            while True:
                source = select.select([client, server], [], [])[0][0]
                data = source.recv(2**16)
                if not data:
                    return
                (server if source is client else client).sendall(data)
                if self.is_armed and source is client and self._statement in data:
                    self.is_armed = False
                    server.recv(2**16)  # the server has executed it
                    return


def test_commit_with_a_lost_reply_is_not_repeated(
    postgres: PostgresServer, postgres_url: str
) -> None:
    dropped: list[int] = []
    records = [finished(target=Target.CLOUD, cost_usd=0.5) for _ in range(5)]
    with SeveringRelay(postgres.port, b"COMMIT") as relay:
        url = postgres_url.replace(f":{postgres.port}/", f":{relay.port}/")
        with opened(url, on_dropped=dropped.append) as store:
            store.add(records[0])
            until(lambda: len(ids(postgres_url)) == 1)
            relay.is_armed = True
            for record in records[1:]:
                store.add(record)
            until(lambda: not store.healthy)
            until(lambda: store.healthy)
            assert store.lookups.spent_by_others(0.0) == {None: 0.0}
    assert ids(postgres_url) == {record.id for record in records}
    assert dropped == []
    assert integrity_errors(postgres_url) == []


def test_removed_file_is_recreated(sqlite_url: str, tmp_path: Path) -> None:
    """An open connection would write to the unlinked file and lose the rows silently."""
    path = tmp_path / "rows.db"
    with opened(sqlite_url) as store:
        store.add(finished())
        until(lambda: len(read(sqlite_url)) == 1)
        for file in tmp_path.glob("rows.db*"):
            file.unlink()
        store.add(finished())
        until(path.exists)
        until(lambda: store.healthy)
    assert len(read(sqlite_url)) == 1
    assert integrity_errors(sqlite_url) == []


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_truncated_file_is_quarantined(sqlite_url: str, tmp_path: Path, fraction: float) -> None:
    """New rows may be written for long without reading the missing part."""
    path = tmp_path / "rows.db"
    rows = sorted(random_records(1_200), key=lambda record: record.created_at)
    fill(sqlite_url, rows[:1_000])
    with opened(sqlite_url) as store:
        for record in rows[1_000:1_100]:
            store.add(record)
        until(lambda: len(read(sqlite_url)) == 1_100)
        os.truncate(path, int(path.stat().st_size * fraction))
        for record in rows[1_100:]:
            store.add(record)
        until(lambda: list(tmp_path.glob("*.broken-*")))
        until(lambda: store.healthy)
    assert ids(sqlite_url) == {record.id for record in rows[1_100:]}
    assert integrity_errors(sqlite_url) == []


def test_quarantined_files_never_overwrite_each_other(tmp_path: Path) -> None:
    quarantined = []
    for number in range(3):  # within the same second
        path = tmp_path / "rows.db"
        path.write_text(str(number))
        Path(f"{path}-wal").write_text(f"wal {number}")
        quarantined.append(quarantine(path))
        assert not path.exists()
    for number, path in enumerate(quarantined):
        assert path.read_text() == str(number)
        assert Path(f"{path}-wal").read_text() == f"wal {number}"


# ── Retention ─────────────────────────────────────────────────────────────────────────────────


def test_rows_past_their_retention_are_deleted_hourly(url: str) -> None:
    now = NOW

    def ages() -> list[float]:
        return sorted((NOW - row["created_at"]) / DAY for row in read(url))

    with opened(url, retention_days=2, clock=lambda: now) as store:
        for days in (0, 1.99, 2.01, 400):
            store.add(finished(created_at=NOW - days * DAY))
        until(lambda: ages() == pytest.approx([0, 1.99]))
        now += 0.5 * DAY
        until(lambda: ages() == [0])
    assert integrity_errors(url) == []


def test_old_rows_are_deleted_in_batches_from_the_oldest(url: str) -> None:
    """The writer is never blocked for long, and the rollups match the remaining rows."""
    times = [NOW - 9 * DAY + 10 * number for number in range(12_000)]
    random.Random(2).shuffle(times)
    fill(url, [finished(created_at=time) for time in times])
    with opened(url, retention_days=2, clock=lambda: NOW):
        until(lambda: len(ids(url)) < 12_000)
        remaining = [row["created_at"] for row in read(url)]
        assert 0 < len(remaining) < 12_000
        assert remaining == sorted(times)[-len(remaining) :]
        assert integrity_errors(url) == []
        until(lambda: not ids(url))
    assert sum(row["requests"] for row in read(url, "SELECT requests FROM hours")) == 12_000


def test_bodies_are_stored_and_deleted_with_their_rows(url: str) -> None:
    old = finished(created_at=NOW - 9 * DAY, raw_request=b"old")
    new = finished(created_at=NOW, raw_request=b'{"a": 1}', raw_response=b"\0!")
    fill(url, [old, new, finished(created_at=NOW)])
    query = "SELECT request_id, request, response FROM bodies"
    with opened(url, retention_days=2, clock=lambda: NOW):
        until(lambda: len(read(url, query)) == 1)
    (row,) = read(url, query)
    assert (row["request_id"], row["request"]) == (new.id, '{"a": 1}')
    assert row["response"] in ("\0!", "\N{REPLACEMENT CHARACTER}!")


def test_bodies_are_dropped_before_rows(url: str) -> None:
    dropped: list[int] = []
    config = config_of(url)
    store = Store(config, max_pending_chars=1_000, on_dropped=dropped.append)
    store.prepare()
    for _ in range(3):
        store.add(finished(created_at=NOW, raw_request=b"x" * 300))
    store.open()
    store.close()
    assert dropped == []
    assert len(ids(url)) == 3
    assert len(read(url, "SELECT request FROM bodies")) == 1


def test_retention_covers_responses_and_feedback(url: str) -> None:
    now = NOW
    with opened(url, retention_days=2, clock=lambda: now) as store:
        record = finished(created_at=NOW)
        store.add(record)
        store.store_response(stored_response("resp_1"))
        until(lambda: store.lookups.find_response("resp_1") is not None)
        store.lookups.record_feedback(record.id, 1.0, None, client=None)
        now += 3 * DAY
        until(
            lambda: (
                not any(
                    read(url, f"SELECT * FROM {table}")
                    for table in ("requests", "responses", "feedback")
                )
            )
        )


def test_without_retention_rows_are_kept(url: str) -> None:
    with opened(url, retention_days=None, clock=lambda: NOW) as store:
        store.add(finished(created_at=0.0))
    assert len(read(url)) == 1


# ── Stored responses ──────────────────────────────────────────────────────────────────────────


def stored_response(response_id: str, **values: Any) -> StoredResponse:
    plain = StoredResponse(response_id, Target.LOCAL, "key", "[1]", 1, "{}")
    return plain._replace(**values)


def test_response_is_stored_found_and_deleted(url: str) -> None:
    response = stored_response("resp_1", items='["Grüße"]', body='{"a":"🙂"}', input_items=7)
    with opened(url) as store:
        assert store.lookups.find_response("resp_1") is None
        store.store_response(response)
        until(lambda: store.lookups.find_response("resp_1") == response)
        found = store.lookups.find_response("resp_1")
        assert found is not None
        assert found.target is Target.LOCAL
        store.forget_response("resp_1")
        until(lambda: store.lookups.find_response("resp_1") is None)


def test_last_response_of_an_id_replaces_earlier_ones(url: str) -> None:
    store = Store(config_of(url))
    for body in ("first", "second"):  # in one batch: the store is not open yet
        store.store_response(stored_response("resp_1", body=body))
    store.store_response(stored_response("resp_2", client_key_hash=None, items=None, body=None))
    store.open()
    store.close()
    with opened(url) as store:
        store.store_response(stored_response("resp_1", body="third", target=Target.CLOUD))
    rows = read(url, "SELECT id, body, target FROM responses ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("resp_1", "third", "cloud"),
        ("resp_2", None, "local"),
    ]


@pytest.mark.parametrize("poison", ["\ud800", "a\0b"], ids=ascii)
def test_invalid_response_loses_neither_others_nor_rows(url: str, poison: str) -> None:
    with opened(url) as store:
        for name in ("resp_1", poison, "resp_2"):
            store.store_response(stored_response(name))
        store.store_response(stored_response("resp_3", body=poison))
        store.forget_response(poison)
        store.store_response(stored_response("resp_4"))
        store.add(finished())
    with opened(url) as store:
        store.add(finished())
    stored_ids = {row["id"] for row in read(url, "SELECT id FROM responses")}
    assert {"resp_1", "resp_2", "resp_4"} <= stored_ids
    assert len(read(url)) == 2


def test_pending_responses_are_written_after_a_lock(sqlite_url: str) -> None:
    with opened(sqlite_url, busy_seconds=0.01) as store:
        store.store_response(stored_response("resp_1"))
        until(lambda: store.lookups.find_response("resp_1") is not None)
        with locked(sqlite_url):
            store.add(finished())
            until(lambda: not store.healthy)
            store.store_response(stored_response("resp_2"))
            store.forget_response("resp_1")
        until(lambda: store.lookups.find_response("resp_2") is not None)
        assert store.lookups.find_response("resp_1") is None


def test_response_lookup_without_its_table_is_an_error(sqlite_url: str) -> None:
    with opened(sqlite_url) as store:
        execute(sqlite_url, "ALTER TABLE responses RENAME TO renamed")
        with pytest.raises(StoreUnavailable, match="Responses cannot be looked up"):
            store.lookups.find_response("resp_1")


# ── Feedback and spending ─────────────────────────────────────────────────────────────────────


def test_latest_feedback_replaces_earlier_feedback(url: str) -> None:
    keyed, anonymous = finished(target=Target.CLOUD, client_key_hash="key"), finished()
    with opened(url, clock=lambda: NOW) as store:
        store.add(keyed)
        store.add(anonymous)
        until(lambda: len(read(url)) == 2)
        assert store.lookups.record_feedback(keyed.id, 1.0, "Nice.", client="key") == (
            "cloud",
            True,
        )
        assert store.lookups.record_feedback(keyed.id, -0.5, None, client="key") == ("cloud", False)
        assert store.lookups.record_feedback(anonymous.id, 0.0, "a\0b", client=None) == (
            "none",
            True,
        )
        for request_id, client in (
            (keyed.id, "other"),
            (keyed.id, None),
            (anonymous.id, "key"),
            ("req_unknown", None),
            ("req_\0", None),
        ):
            assert store.lookups.record_feedback(request_id, 1.0, None, client=client) is None
    feedback = {row.pop("request_id"): row for row in read(url, "SELECT * FROM feedback")}
    assert feedback[keyed.id] == {"created_at": NOW, "rating": -0.5, "comment": None}
    assert feedback[anonymous.id]["comment"] in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")
    assert len(feedback) == 2


def test_feedback_that_cannot_be_stored_is_an_error(sqlite_url: str) -> None:
    record = finished()
    with opened(sqlite_url, busy_seconds=0.01) as store:
        store.add(record)
        until(lambda: len(read(sqlite_url)) == 1)
        with locked(sqlite_url), pytest.raises(StoreUnavailable, match="Feedback cannot be stored"):
            store.lookups.record_feedback(record.id, 1.0, None, client=None)
        assert store.lookups.record_feedback(record.id, 1.0, None, client=None) == ("none", True)


def test_spend_by_key_sums_the_cloud_costs(url: str) -> None:
    midnight = NOW // DAY * DAY

    def bought(key: str | None, usd: float | None, **values: object) -> CallRecord:
        return finished(
            **{"created_at": NOW, "target": Target.CLOUD, "cost_usd": usd, "client_key_hash": key}
            | values
        )

    def fell_back(key: str | None, usd: float) -> CallRecord:
        return bought(
            key, usd, target=Target.LOCAL, reason=Reason.FALLBACK, fallback_from=Target.CLOUD
        )

    with opened(url) as store:
        assert store.lookups.spent_by_others(midnight) == {None: 0.0}
    fill(
        url,
        [
            bought("one", 0.25),
            bought("one", 0.5),
            bought("other", 1.0),
            bought("free", 0.0),
            bought("unknown", None),
            bought(None, 4.0),
            bought("one", 8.0, target=Target.LOCAL),
            bought("one", 16.0, created_at=midnight - 1),
            fell_back("one", 32.0),
            fell_back("local", 64.0),
            fell_back(None, 128.0),
        ],
    )
    with opened(url) as store:
        spent = {"one": 32.75, "other": 1.0, "local": 64.0, None: 132.0}
        assert store.lookups.spent_by_others(midnight) == spent
        assert store.lookups.spent_by_others(midnight, by_key=False) == {None: sum(spent.values())}
        assert store.lookups.spent_by_others(midnight + DAY) == {None: 0.0}


def test_spend_is_unknown_if_the_database_fails(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(sqlite_url) as store:
        execute(sqlite_url, "ALTER TABLE requests RENAME TO renamed")
        assert store.lookups.spent_by_others(0.0) is None
    assert "today's cloud spend is unknown" in caplog.text


def test_spending_of_other_processes_is_added_once(url: str) -> None:
    """Each of two processes with one database counts the spending of both exactly once."""
    midnight = NOW // DAY * DAY
    rng = random.Random(3)
    spent = {"one": 0.0, "other": 0.0, None: 0.0}
    with opened(url) as first, opened(url) as second:
        sides = [(store, Limits(clock=lambda: NOW).spending) for store in (first, second)]
        for number in range(60):
            store, spending = rng.choice(sides)
            key = rng.choice([*spent])
            usd = rng.randrange(10**9) / PICODOLLARS
            created_at = rng.choice([NOW, NOW, midnight, midnight - 1])
            record = finished(
                created_at=created_at, target=Target.CLOUD, cost_usd=usd, client_key_hash=key
            )
            spending.record_cost(record)
            store.add(record)
            spent[key] += usd if created_at >= midnight else 0.0
            store, spending = rng.choice(sides)
            others = store.lookups.spent_by_others(midnight, by_key=number % 2 == 0)
            assert others is not None
            before = spending.spent_today()
            spending.update_others_spending(others, since=midnight)
            assert before <= spending.spent_today() <= sum(spent.values()) + 1e-12
        until(lambda: len(read(url)) == 60)
        for store, spending in sides:
            for by_key in (False, True):
                others = store.lookups.spent_by_others(midnight, by_key=by_key)
                assert others is not None
                spending.update_others_spending(others, since=midnight)
                assert spending.spent_today() == pytest.approx(sum(spent.values()), abs=1e-12)
            for key in ("one", "other"):
                limit = Principal(key, cloud_usd_per_day=spent[key] - 1e-12)
                assert not spending.has_budget(limit)
                assert spending.has_budget(limit._replace(cloud_usd_per_day=spent[key] + 1e-12))


# ── Startup ───────────────────────────────────────────────────────────────────────────────────


def check_rejected(url: str, message: str) -> None:
    store = Store(StorageConfig(url=url))
    with pytest.raises(StoreUnavailable) as caught:
        store.open()
    assert str(caught.value).startswith(f"storage.url: {redacted_url(config_of(url))}")
    assert message in str(caught.value)
    assert not store.healthy
    store.close()  # a store that never opened can be closed


def test_unwritable_path_is_an_error_at_startup(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, but longer than the header of one" * 10)
    for path in (tmp_path / "file" / "rows.db", tmp_path / "file", tmp_path):
        check_rejected(f"sqlite:///{path}", " cannot be used: ")


def test_unusable_server_is_an_error_at_startup(postgres_url: str) -> None:
    check_rejected(f"{postgres_url}_unknown", " cannot be used: ")
    with refused_address() as address:
        url = f"postgresql://somebody:hidden@{urlsplit(address).netloc}/rows"
        check_rejected(url, "somebody:***@127.0.0.1")


def test_close_leaves_no_thread(url: str) -> None:
    before = threading.active_count()
    with opened(url) as store:
        store.add(finished())
    assert threading.active_count() == before
