"""The sums by the hour are those of the rows, exactly; what tells when not, and mends it."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
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
    any_record,
    any_records,
    check_sums,
    config_of,
    connected,
    execute,
    fill,
    finished,
    hours_of,
    kept_sums,
    opened,
    read,
    spoil,
    until,
    wrong,
)

pytest_plugins = ["databases"]

SUPPORT = Path(__file__).parents[1] / "support"


# ── Sums ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_those_of_the_rows_however_they_came(url: str, seed: int) -> None:
    rng = random.Random(seed)
    records = any_records(600, seed)
    while records:
        size = rng.choice([1, 2, 50, 200])
        fill(url, records[:size])
        del records[:size]
    check_sums(url)


def test_money_is_exact_where_floats_are_not(url: str) -> None:
    """Ten million times 0.1 millionths of a dollar is one dollar, to the picodollar."""
    cost = 0.1e-6
    fill(url, [finished(created_at=NOW, cost_usd=cost) for _ in range(3_000)])
    execute(url, "UPDATE hours SET cost_pico = cost_pico + 1000000000000")
    (row,) = read(url, "SELECT cost_pico FROM hours")
    assert row["cost_pico"] == 10**12 + 3_000 * 100_000
    assert sum([cost] * 3_000) != 3_000 * cost


def test_a_rollup_is_the_same_in_parts_and_in_any_order(sqlite_url: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    records = any_records(500)
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
    assert kept_sums(sqlite_url, "hours", 7) == whole.hours
    assert kept_sums(sqlite_url, "spreads", 4) == whole.spreads


def test_processes_that_write_at_the_same_time_lose_and_double_nothing(url: str) -> None:
    number = 2_000
    fill(url, [])
    program = "import sys, stored; stored.write_when_told(sys.argv[1], *map(int, sys.argv[2:]))"
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
    check_sums(url)


def test_stores_that_write_at_the_same_time_lose_and_double_nothing(url: str) -> None:
    number = 2_000

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with opened(url) as store:
            for _ in range(number):
                store.add(any_record(rng, hours=3))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read(url)) == 3 * number
    check_sums(url)


# ── Checking and mending ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def filled(url: str) -> str:
    """A database with requests of some fifty hours."""
    fill(url, any_records(400))
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
    assert wrong(url) == []
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
    assert wrong(url) == []


def repair(url: str) -> list[str]:
    with Maintenance.open(config_of(url)) as care:
        return care.check(repair=True)


LAST_HOUR = "hour = (SELECT max(hour) FROM hours)"
IN_LAST_HOUR = "created_at >= (SELECT max(hour) FROM hours)"
TAMPERED = {
    "more": f"UPDATE hours SET requests = requests + 1 WHERE {LAST_HOUR}",
    "less": f"UPDATE hours SET requests = requests - 1 WHERE {LAST_HOUR}",
    "a-picodollar": f"UPDATE hours SET saved_pico = saved_pico - 1 WHERE {LAST_HOUR}",
    "gone": f"DELETE FROM hours WHERE {LAST_HOUR}",
    "bucket": f"UPDATE spreads SET bucket = bucket + 1000 WHERE measure = 'score' AND {LAST_HOUR}",
    "bucket-gone": f"DELETE FROM spreads WHERE measure = 'duration_ms' AND {LAST_HOUR}",
    "day-bucket": "UPDATE day_spreads SET requests = requests + 1 WHERE measure = 'score' "
    "AND day = (SELECT max(day) FROM day_spreads)",
    "row-gone": f"DELETE FROM requests WHERE {IN_LAST_HOUR}",
    "row-changed": f"UPDATE requests SET model = 'x' WHERE {IN_LAST_HOUR}",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED.keys())
def test_what_is_wrong_is_found_and_mended(filled: str, statement: str) -> None:
    (row,) = read(filled, "SELECT max(hour) AS hour FROM hours")
    execute(filled, statement)
    found = wrong(filled)
    assert found
    day = row["hour"] // 86_400 * 86_400
    for line in found:
        assert line.removesuffix(" is not what its rows add up to") in {
            f"hours: hour {row['hour']}",
            f"spreads: hour {row['hour']}",
            f"day_spreads: day {day}",
        }
    assert repair(filled) == found
    check_sums(filled)
    assert repair(filled) == []


def test_sums_of_deleted_rows_stay(filled: str) -> None:
    """Of the oldest hour that is left some rows may be gone; of one that is whole, none."""
    before = kept_sums(filled, "hours", 7)
    cut = sorted(row["created_at"] for row in read(filled))[200]
    execute(filled, f"DELETE FROM requests WHERE created_at < {cut!r}")
    assert wrong(filled) == []
    assert repair(filled) == []
    assert kept_sums(filled, "hours", 7) == before
    oldest = int(cut) // HOUR * HOUR
    execute(filled, f"UPDATE hours SET requests = 0 WHERE hour = {oldest}")
    assert f"hours: hour {oldest} is not what its rows add up to" in wrong(filled)
    repair(filled)
    assert wrong(filled) == []
    kept = kept_sums(filled, "hours", 7)
    assert {key: sums for key, sums in kept.items() if key[0] < oldest} == {
        key: sums for key, sums in before.items() if key[0] < oldest
    }


@pytest.mark.parametrize("mends", [False, True], ids=["check", "repair"])
def test_it_is_right_while_others_write(filled: str, mends: bool) -> None:
    rng = random.Random(5)
    stopping = threading.Event()

    def write() -> None:
        with opened(filled) as store:
            while not stopping.is_set():
                store.add(any_record(rng, hours=3))
                stopping.wait(0.0005)

    def size() -> int:
        return int(read(filled, "SELECT count(*) AS number FROM requests")[0]["number"])

    def has_grown_from(before: int) -> Callable[[], bool]:
        return lambda: size() > before

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            until(has_grown_from(size()))
            assert (repair if mends else wrong)(filled) == []
    finally:
        stopping.set()
        thread.join()
    check_sums(filled)


def test_a_broken_file_is_found(sqlite_url: str, tmp_path: Path) -> None:
    fill(sqlite_url, any_records(2_000))
    spoil(sqlite_url)
    found = wrong(sqlite_url)
    assert found
    assert not any("rows add up to" in line for line in found)
    with pytest.raises(StoreUnavailable, match="which no sums can mend"):
        repair(sqlite_url)
    (tmp_path / "rows.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        wrong(sqlite_url)


# ── Size and space ────────────────────────────────────────────────────────────────────────────


def test_rows_are_counted_and_space_is_given_back(url: str) -> None:
    text = [("user", "long " * 2_000)]
    fill(url, [finished(created_at=NOW - DAY * (number % 2), turns=text) for number in range(400)])
    with Maintenance.open(config_of(url)) as care:
        counts = care.count_rows()
        assert (counts["requests"], counts["hours"], counts["feedback"]) == (400, 2, 0)
        before = care.size_bytes()
        assert before > (400 * 10_000 if not is_postgresql(config_of(url)) else 1_000_000)
    execute(url, f"DELETE FROM requests WHERE created_at < {NOW}")
    with Maintenance.open(config_of(url)) as care:
        care.vacuum()
        after = care.size_bytes()
        assert care.count_rows()["requests"] == 200
        assert care.migrate() == []
    if not is_postgresql(config_of(url)):  # where it is for the next rows only
        assert after < 0.6 * before
    assert wrong(url) == []
    fill(url, [finished()])
    assert hours_of(read(url)).keys() <= kept_sums(url, "hours", 7).keys()


def test_what_is_not_there_is_said(sqlite_url: str, postgres_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="the proxy has recorded nothing"):
        wrong(sqlite_url)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        wrong(f"{postgres_url}_unknown")
