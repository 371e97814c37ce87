"""Random decisions have the reason `exploration`, formerly `shadow`."""

import pytest

from proxy.storage.migrations import migrate
from proxy.storage.queries import RequestQueries
from schemas import load
from stored import check_rollups, config_of, connected, read

pytest_plugins = ["databases"]


@pytest.mark.parametrize("number", [2, 6])
def test_old_rows_and_rollups_are_migrated_to_exploration(url: str, number: int) -> None:
    with connected(url) as database:
        load(number, database)
        if number == 2:
            database.execute_sql("UPDATE requests SET reason = 'shadow' WHERE reason = 'score'")
            database.execute_sql("UPDATE hours SET reason = 'shadow' WHERE reason = 'score'")
    rows = len(read(url, "SELECT id FROM requests WHERE reason = 'shadow'"))
    hours = read(url, "SELECT requests FROM hours WHERE reason = 'shadow'")
    assert rows
    assert hours
    with connected(url) as database:
        migrate(database)
    assert len(read(url, "SELECT id FROM requests WHERE reason = 'exploration'")) == rows
    assert read(url, "SELECT requests FROM hours WHERE reason = 'exploration'") == hours
    for table in ("requests", "hours"):
        assert not read(url, f"SELECT reason FROM {table} WHERE reason = 'shadow'")
    check_rollups(url)
    with RequestQueries.open(config_of(url)) as queries:
        _, groups = queries.totals_by_each(("reason",))
        assert "shadow" not in repr(groups)
        assert "exploration" in repr(groups)
