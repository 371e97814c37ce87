"""Upgrades from every released schema to the newest lose nothing, even when interrupted.

tests/storage/test_migrations.py tests single migrations; this file tests dumps of real databases.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.storage.migrations import MIGRATIONS, NEWEST, Migration, applied, migrate
from schemas import load, numbers
from stored import check_rollups, connected, fill, integrity_errors, opened, random_records, read

pytest_plugins = ["databases"]

Rows = dict[str, list[dict[str, Any]]]

# A process that upgrades on command, and one that hangs in a migration after the last one. Both
# print their progress.
UPGRADE = """
import sys
from proxy.storage.migrations import migrate
from stored import connected
with connected(sys.argv[1]) as database:
    print("ready", flush=True)
    input()
    print(len(migrate(database)), flush=True)
"""
BLOCKED = """
import sys
from proxy.storage import migrations
from stored import connected
def wait(database):
    database.execute_sql("DELETE FROM requests")
    print("inside", flush=True)
    input()
blocked = migrations.Migration(migrations.NEWEST + 1, "blocked", wait)
with connected(sys.argv[1]) as database:
    migrations.migrate(database, migrations=(*migrations.MIGRATIONS, blocked))
"""


@pytest.fixture(params=numbers(), ids=lambda number: f"schema-{number}")
def number(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture
def old(url: str, number: int) -> str:
    """`storage.url` of a database with that schema and with rows in every table."""
    with connected(url) as database:
        load(number, database)
        assert applied(database) == number
    return url


def content(url: str) -> Rows:
    """Every row of every table, sorted by its columns."""
    with connected(url) as database:
        tables = database.get_tables()
    return {
        table: sorted(read(url, f"SELECT * FROM {table}"), key=lambda row: repr([*row.values()]))
        for table in tables
    }


def shape(url: str) -> dict[str, tuple[set[str], set[str]]]:
    """The columns of every table and its indexes."""
    with connected(url) as database:
        return {
            table: (
                {column.name for column in database.get_columns(table)},
                {
                    index.name
                    for index in database.get_indexes(table)
                    if not index.name.startswith("sqlite_") and "pkey" not in index.name
                },
            )
            for table in database.get_tables()
        }


def upgrade(url: str) -> list[Migration]:
    with connected(url) as database:
        return migrate(database)


def check_preserved(before: Rows, after: Rows) -> None:
    """Every row is unchanged, and its new columns are null but for the merit."""
    for table in before.keys() - {"migrations"}:
        assert before[table], f"{table}: the dump has no row"
        added = after[table][0].keys() - before[table][0].keys()
        expected = [renamed(table, row) | dict.fromkeys(added) for row in before[table]]
        # The merit of older requests is their score.
        if table == "requests" and "merit" in added:
            expected = [row | {"merit": row["score"]} for row in expected]
        if table in ("spreads", "day_spreads") and not has_merits(expected):
            scores = [row for row in expected if row["measure"] == "score"]
            assert scores
            expected += [row | {"measure": "merit"} for row in scores]
        assert sorted(after[table], key=repr) == sorted(expected, key=repr), table


def has_merits(rows: list[dict[str, Any]]) -> bool:
    """Whether histograms of merits were kept, which is so since migration 8."""
    return any(row["measure"] == "merit" for row in rows)


def renamed(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the reason that migration 7 gives it."""
    if table in ("requests", "hours") and row["reason"] == "shadow":
        return row | {"reason": "exploration"}
    return row


def start(program: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[1] / "support",  # where `stored` is
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_every_released_schema_has_a_dump() -> None:
    """`python tests/support/schemas.py N` writes it, before the next migration is added."""
    assert set(range(1, NEWEST)) <= set(numbers())


def test_upgrade_keeps_every_row_and_creates_correct_rollups(old: str, number: int) -> None:
    before = content(old)
    assert [step.number for step in upgrade(old)] == list(range(number + 1, NEWEST + 1))
    check_preserved(before, content(old))
    check_rollups(old)


def test_second_upgrade_changes_nothing(old: str) -> None:
    upgrade(old)
    before = content(old)
    assert upgrade(old) == []
    with opened(old):
        pass
    assert content(old) == before


def test_upgraded_database_equals_a_new_one(old: str, tmp_path: Path) -> None:
    with opened(old):  # as the proxy does at startup
        pass
    new = f"sqlite:///{tmp_path / 'new.db'}"
    upgrade(new)
    assert shape(old) == shape(new)
    rows = len(read(old))
    fill(old, random_records(50, seed=99))
    assert len(read(old)) == rows + 50
    assert integrity_errors(old) == []


def test_killed_upgrade_leaves_the_old_database(old: str, number: int) -> None:
    before, old_shape = content(old), shape(old)
    process = start(BLOCKED, old)
    with process:
        assert line_of(process) == "inside"
        process.kill()
    assert content(old) == before
    assert shape(old) == old_shape
    assert len(upgrade(old)) == NEWEST - number
    check_preserved(before, content(old))
    check_rollups(old)


def test_only_one_of_two_processes_upgrades(old: str, number: int) -> None:
    before = content(old)
    with start(UPGRADE, old) as first, start(UPGRADE, old) as second:
        assert [line_of(process) for process in (first, second)] == ["ready", "ready"]
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        done = sorted(int(line_of(process)) for process in (first, second))
    assert done == sorted([0, NEWEST - number])
    check_preserved(before, content(old))
    numbers = {row["number"] for row in content(old)["migrations"]}
    assert numbers == set(range(1, NEWEST + 1))


@pytest.mark.parametrize("number", numbers()[:1], ids=["schema-1"])
def test_checks_allow_for_a_future_migration(old: str, number: int) -> None:
    apply: Callable[[Any], Any] = lambda database: database.execute_sql(  # noqa: E731
        "ALTER TABLE requests ADD COLUMN tomorrow TEXT"
    )
    steps = (*MIGRATIONS, Migration(NEWEST + 1, "tomorrow", apply))
    before = content(old)
    with connected(old) as database:
        assert len(migrate(database, migrations=steps)) == NEWEST - number + 1
    check_preserved(before, content(old))
