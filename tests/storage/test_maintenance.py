"""Hourly rollups match the rows exactly. Maintenance detects and repairs differences."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.record import CallRecord, Ending, Reason, Target
from proxy.storage.database import StoreUnavailable, is_postgresql
from proxy.storage.maintenance import Maintenance
from proxy.storage.rollups import Rollup
from stored import (
    DAY,
    HOUR,
    NOW,
    check_rollups,
    config_of,
    connected,
    corrupt,
    execute,
    fill,
    finished,
    hours_of,
    integrity_errors,
    opened,
    random_record,
    random_records,
    read,
    stored_sums,
    until,
)

pytest_plugins = ["databases"]

SUPPORT = Path(__file__).parents[1] / "support"


# ── Rollups ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(3))
def test_rollups_match_the_rows_for_any_batches(url: str, seed: int) -> None:
    rng = random.Random(seed)
    records = random_records(600, seed)
    while records:
        size = rng.choice([1, 2, 50, 200])
        fill(url, records[:size])
        del records[:size]
    check_rollups(url)


def test_costs_are_exact_beyond_float_precision(url: str) -> None:
    """Ten million times $0.1e-6 is exactly one dollar."""
    cost = 0.1e-6
    fill(url, [finished(created_at=NOW, cost_usd=cost) for _ in range(3_000)])
    execute(url, "UPDATE hours SET cost_pico = cost_pico + 1000000000000")
    (row,) = read(url, "SELECT cost_pico FROM hours")
    assert row["cost_pico"] == 10**12 + 3_000 * 100_000
    assert sum([cost] * 3_000) != 3_000 * cost


def test_rollup_is_independent_of_batches_and_order(sqlite_url: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    records = random_records(500)
    whole = Rollup()
    for record in records:
        whole.add(record, "code")
    fill(sqlite_url, [])
    rng.shuffle(records)
    with connected(sqlite_url) as database:
        while records:
            part = Rollup()
            for _ in range(min(rng.randrange(1, 80), len(records))):
                part.add(records.pop(), "code")
            part.write(database)
    assert stored_sums(sqlite_url, "hours", 7) == whole.hours
    assert stored_sums(sqlite_url, "spreads", 4) == whole.histograms


def test_concurrent_processes_lose_and_duplicate_nothing(url: str) -> None:
    number = 2_000
    fill(url, [])
    program = "import sys, stored; stored.write_on_input(sys.argv[1], *map(int, sys.argv[2:]))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, str(seed), str(number)],
            cwd=SUPPORT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for seed in (1, 2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"go\n", timeout=60)
        assert process.returncode == 0
    assert len(read(url)) == 2 * number
    check_rollups(url)


def test_concurrent_stores_lose_and_duplicate_nothing(url: str) -> None:
    number = 2_000

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with opened(url) as store:
            for _ in range(number):
                store.add(random_record(rng, hours=3))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(url)) == 3 * number
    check_rollups(url)


# ── Check and repair ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def filled(url: str) -> str:
    """A database with requests of about fifty hours."""
    fill(url, random_records(400))
    return url


def test_names_that_clients_invent_share_one_rollup(url: str) -> None:
    """Rollups are never deleted, so a client must not add to them with every name."""

    def asked(name: str, ending: Ending = Ending.UPSTREAM_ERROR, **values: Any) -> CallRecord:
        facts = {"requested_model": name, "model": name, "target": Target.CLOUD} | values
        return finished(created_at=NOW, reason=Reason.FORCED, ending=ending, **facts)

    invented = [asked(f"invented-{number}" * 30) for number in range(300)]
    gone = [asked(f"gone-{number}", Ending.CLIENT_GONE) for number in range(50)]
    known = [asked("gpt-4o", Ending.OK), asked("gpt-4o", requested_model="cloud")]
    long = [asked("long" * 100, Ending.OK)]
    fill(url, [*invented, *gone, *known, *long])
    rows = read(
        url, "SELECT model, ending, sum(requests) AS n FROM hours GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [(row["model"], row["ending"], int(row["n"])) for row in rows] == [
        ("gpt-4o", "ok", 1),
        ("gpt-4o", "upstream_error", 1),
        (("long" * 100)[:200], "ok", 1),
        ("other", "client_gone", 50),
        ("other", "upstream_error", 300),
    ]
    assert integrity_errors(url) == []
    # As an older version has counted one of them.
    name = invented[0].model
    execute(
        url,
        "UPDATE hours SET requests = requests - 1 "
        "WHERE ending = 'upstream_error' AND model = 'other'",
    )
    execute(
        url,
        "INSERT INTO hours SELECT hour, endpoint, target, "
        f"'{(name or '')[:200]}', reason, ending, category, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 "
        "FROM hours WHERE ending = 'upstream_error' AND model = 'other'",
    )
    assert integrity_errors(url) == []


def repair(url: str) -> list[str]:
    with Maintenance.open(config_of(url)) as maintenance:
        return maintenance.check(repair=True)


LAST_HOUR = "hour = (SELECT max(hour) FROM hours)"
IN_LAST_HOUR = "created_at >= (SELECT max(hour) FROM hours)"
TAMPERED = {
    "more": f"UPDATE hours SET requests = requests + 1 WHERE {LAST_HOUR}",
    "less": f"UPDATE hours SET requests = requests - 1 WHERE {LAST_HOUR}",
    "a-picodollar": f"UPDATE hours SET saved_pico = saved_pico - 1 WHERE {LAST_HOUR}",
    "missing": f"DELETE FROM hours WHERE {LAST_HOUR}",
    "bucket": f"UPDATE spreads SET bucket = bucket + 1000 WHERE measure = 'score' AND {LAST_HOUR}",
    "bucket-missing": f"DELETE FROM spreads WHERE measure = 'duration_ms' AND {LAST_HOUR}",
    "day-bucket": "UPDATE day_spreads SET requests = requests + 1 WHERE measure = 'score' "
    "AND day = (SELECT max(day) FROM day_spreads)",
    "key": "UPDATE key_hours SET saved_pico = saved_pico + 1 "
    "WHERE hour = (SELECT max(hour) FROM hours)",
    "key-missing": f"DELETE FROM key_hours WHERE {LAST_HOUR}",
    "key-day": "UPDATE key_days SET target = target || '!' "
    "WHERE day = (SELECT max(day) FROM key_days)",
    "row-missing": f"DELETE FROM requests WHERE {IN_LAST_HOUR}",
    "row-changed": f"UPDATE requests SET model = 'x' WHERE {IN_LAST_HOUR}",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED.keys())
def test_wrong_rollup_is_detected_and_repaired(filled: str, statement: str) -> None:
    (row,) = read(filled, "SELECT max(hour) AS hour FROM hours")
    execute(filled, statement)
    problems = integrity_errors(filled)
    assert problems
    day = row["hour"] // 86_400 * 86_400
    for line in problems:
        assert line.removesuffix(" does not match its rows") in {
            f"hours: hour {row['hour']}",
            f"spreads: hour {row['hour']}",
            f"day_spreads: day {day}",
            f"key_hours: hour {row['hour']}",
            f"key_days: day {day}",
        }
    assert repair(filled) == problems
    check_rollups(filled)
    assert repair(filled) == []


def test_rollups_of_deleted_rows_are_kept(filled: str) -> None:
    """Rows may be missing from the oldest remaining hour, but not from later hours."""
    before = stored_sums(filled, "hours", 7)
    cut = sorted(row["created_at"] for row in read(filled))[200]
    execute(filled, f"DELETE FROM requests WHERE created_at < {cut!r}")
    assert integrity_errors(filled) == []
    assert repair(filled) == []
    assert stored_sums(filled, "hours", 7) == before
    oldest = int(cut) // HOUR * HOUR
    execute(filled, f"UPDATE hours SET requests = 0 WHERE hour = {oldest}")
    assert f"hours: hour {oldest} does not match its rows" in integrity_errors(filled)
    repair(filled)
    assert integrity_errors(filled) == []
    after = stored_sums(filled, "hours", 7)
    assert {key: sums for key, sums in after.items() if key[0] < oldest} == {
        key: sums for key, sums in before.items() if key[0] < oldest
    }


@contextmanager
def rows_being_written(url: str, *, seed: int) -> Iterator[None]:
    """Another thread writes rows of the last three hours during the block."""
    rng = random.Random(seed)
    stopping = threading.Event()

    def write() -> None:
        with opened(url) as store:
            while not stopping.is_set():
                store.add(random_record(rng, hours=3))
                stopping.wait(0.0005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


@pytest.mark.parametrize("repairs", [False, True], ids=["check", "repair"])
def test_check_and_repair_are_correct_during_writes(filled: str, repairs: bool) -> None:
    def size() -> int:
        return int(read(filled, "SELECT count(*) AS number FROM requests")[0]["number"])

    def has_grown_from(before: int) -> Callable[[], bool]:
        return lambda: size() > before

    with rows_being_written(filled, seed=5):
        for _ in range(5):
            until(has_grown_from(size()))
            assert (repair if repairs else integrity_errors)(filled) == []
    check_rollups(filled)


def test_repair_adds_what_is_missing_beside_new_rows(filled: str) -> None:
    """Rows of the same hours are written between the count and the correction."""
    with rows_being_written(filled, seed=6):
        for column in ("requests", "cost_pico", "saved_pico"):
            execute(filled, f"UPDATE hours SET {column} = {column} + 1 WHERE {LAST_HOUR}")
            assert repair(filled)
            assert repair(filled) == []
    check_rollups(filled)


def test_only_one_repair_at_a_time(filled: str) -> None:
    with Maintenance.open(config_of(filled)) as maintenance, maintenance._only_repair():
        with pytest.raises(StoreUnavailable, match="is being repaired"):
            repair(filled)
        assert integrity_errors(filled) == []
    assert repair(filled) == []


def test_corrupt_file_is_detected(sqlite_url: str, tmp_path: Path) -> None:
    fill(sqlite_url, random_records(2_000))
    corrupt(sqlite_url)
    problems = integrity_errors(sqlite_url)
    assert problems
    assert not any("rows add up to" in line for line in problems)
    with pytest.raises(StoreUnavailable, match="cannot be repaired"):
        repair(sqlite_url)
    (tmp_path / "rows.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        integrity_errors(sqlite_url)


# ── Size and vacuum ───────────────────────────────────────────────────────────────────────────


def test_vacuum_releases_space_and_rows_are_counted(url: str) -> None:
    text = [("user", "long " * 2_000)]
    fill(url, [finished(created_at=NOW - DAY * (number % 2), turns=text) for number in range(400)])
    with Maintenance.open(config_of(url)) as maintenance:
        counts = maintenance.count_rows()
        assert (counts["requests"], counts["hours"], counts["feedback"]) == (400, 2, 0)
        before = maintenance.size_bytes()
        assert before > (400 * 10_000 if not is_postgresql(config_of(url)) else 1_000_000)
    execute(url, f"DELETE FROM requests WHERE created_at < {NOW}")
    with Maintenance.open(config_of(url)) as maintenance:
        maintenance.vacuum()
        after = maintenance.size_bytes()
        assert maintenance.count_rows()["requests"] == 200
        assert maintenance.migrate() == []
    if not is_postgresql(config_of(url)):  # which keeps the space for later rows
        assert after < 0.6 * before
    assert integrity_errors(url) == []
    fill(url, [finished()])
    assert hours_of(read(url)).keys() <= stored_sums(url, "hours", 7).keys()


def test_missing_database_is_an_error(sqlite_url: str, postgres_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="the proxy has recorded nothing"):
        integrity_errors(sqlite_url)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        integrity_errors(f"{postgres_url}_unknown")
