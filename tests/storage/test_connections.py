"""Connections to PostgreSQL: all in use, of a process or of the server; shared by a pooler; and
what processes do in turn.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from pgbouncer import PgBouncer
from proxy.storage import SharedLimits, StoreUnavailable
from proxy.storage.database import MAX_CONNECTIONS, claimed_transaction, close_all, open_database
from proxy.storage.maintenance import Maintenance
from stored import (
    DAY,
    PATIENCE_SECONDS,
    config_of,
    fill,
    finished,
    migrate,
    opened,
    random_records,
    read,
    until,
)

pytest_plugins = ["databases"]

STORES = 4
RECORDS = 200


@contextlib.contextmanager
def exhausted(url: str) -> Iterator[list["psycopg.Connection[tuple[object, ...]]"]]:
    """Take all connections that the server has left."""
    with contextlib.ExitStack() as stack:
        taken = []
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                taken.append(stack.enter_context(psycopg.connect(url, autocommit=True)))
        yield taken


def test_a_start_without_a_free_connection_says_so(postgres_url: str) -> None:
    with (
        exhausted(postgres_url),
        pytest.raises(StoreUnavailable, match="too many clients"),
        opened(postgres_url),
    ):
        pass


def test_rows_wait_for_a_free_connection(postgres_url: str) -> None:
    dropped: list[int] = []
    records = random_records(RECORDS)
    with opened(postgres_url, on_dropped=dropped.append) as store:
        with exhausted(postgres_url) as taken:
            # The writer loses its connection, and its place goes to another client.
            taken[0].execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'hybrid-llm-router'"
            )
            with exhausted(postgres_url):
                for record in records:
                    store.add(record)
                until(lambda: not store.healthy)
        until(lambda: store.healthy)
    assert dropped == []
    assert {row["id"] for row in read(postgres_url, "SELECT id FROM requests")} == {
        record.id for record in records
    }


def test_a_process_without_a_free_connection_reports_the_database(postgres_url: str) -> None:
    migrate(postgres_url)
    database = open_database(config_of(postgres_url))
    is_over = threading.Event()
    holding = threading.Barrier(MAX_CONNECTIONS + 1)

    def hold() -> None:
        with database.connection_context():
            holding.wait(PATIENCE_SECONDS)
            is_over.wait(PATIENCE_SECONDS)

    threads = [threading.Thread(target=hold) for _ in range(MAX_CONNECTIONS)]
    try:
        for thread in threads:
            thread.start()
        holding.wait(PATIENCE_SECONDS)
        with pytest.raises(StoreUnavailable, match=f"all {MAX_CONNECTIONS} connections of this"):
            SharedLimits(database).take_requests("key", 60, wanted=1)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
        close_all(database)


def test_closing_waits_for_no_query_and_breaks_none(postgres_url: str) -> None:
    """A background read may still run when the process shuts down."""
    migrate(postgres_url)
    database = open_database(config_of(postgres_url))
    results: list[object] = []

    def read_slowly() -> None:
        with database.connection_context():
            query = "SELECT 'done' FROM pg_sleep(1)"
            results.extend(database.execute_sql(query).fetchone())

    reading = threading.Thread(target=read_slowly, daemon=True)
    reading.start()
    sleeping = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE strpos(query, 'pg_sleep(1)') > 0 AND pid <> pg_backend_pid()"
    )
    until(lambda: len(read(postgres_url, f"{sleeping} AND state = 'active'")) == 1)
    close_all(database)
    assert results == []
    reading.join(PATIENCE_SECONDS)
    assert results == ["done"]
    until(lambda: read(postgres_url, sleeping) == [])  # its connection is closed


def test_processes_share_few_connections_through_a_pooler(postgres_url: str) -> None:
    """In transaction mode a client may get another server connection for each transaction."""
    granted: list[int] = []
    with PgBouncer(postgres_url, pool_size=2) as pooled:
        records = [random_records(RECORDS, seed) for seed in range(STORES)]

        def work(number: int) -> None:
            with opened(pooled.url) as store:
                limits = SharedLimits(store.database)
                for record in records[number]:
                    store.add(record)
                    granted.append(limits.take_requests("key", 60, wanted=1).requests)
                    store.lookups.find_answer(["hash"], 0.0)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(STORES)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refilled = time.monotonic() - started  # a request a second
        with Maintenance.open(config_of(pooled.url)) as maintenance:
            for _ in range(3):  # the first leaves no lock behind
                assert maintenance.check(repair=True) == []
    written = {row["id"] for row in read(postgres_url, "SELECT id FROM requests")}
    assert written == {record.id for each in records for record in each}
    assert 60 <= sum(granted) <= 60 + refilled + 1


def test_one_process_at_a_time_deletes_old_rows(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    fill(postgres_url, [finished(created_at=now - 3 * DAY, model="old")])
    other = open_database(config_of(postgres_url))
    try:
        with (
            other.connection_context(),
            claimed_transaction(other, name="retention of requests") as claimed,
        ):
            assert claimed
            other.execute_sql("SELECT * FROM requests FOR UPDATE")
            with opened(postgres_url, retention_days=1) as store:  # nor does it wait
                store.add(finished(model="new"))
            assert {row["model"] for row in read(postgres_url, "SELECT model FROM requests")} == {
                "old",
                "new",
            }
    finally:
        close_all(other)
    assert [item for item in caplog.records if item.levelno >= logging.WARNING] == []
    with opened(postgres_url, retention_days=1):
        pass
    assert [row["model"] for row in read(postgres_url, "SELECT model FROM requests")] == ["new"]
