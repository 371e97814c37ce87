"""Fixtures for tests that are to hold on SQLite and on PostgreSQL alike: `url` is an empty one.

pytest_plugins = ["databases"]
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that all tests share; one that stops it starts it again."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'rows.db'}"


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.new_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """`storage.url` of a database that is not there yet, or empty."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found
