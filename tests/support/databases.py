"""Fixtures for tests on both SQLite and PostgreSQL: `url` is an empty database.

pytest_plugins = ["databases"]
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of all tests. A test that stops it must start it again."""
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
    """`storage.url` of a missing or empty database."""
    database_url: str = request.getfixturevalue(f"{request.param}_url")
    return database_url
