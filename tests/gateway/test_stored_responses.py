"""The cache of stored responses before the database has them: bounded, and deletions count."""

from pathlib import Path

import msgspec
import pytest

from fakes import response_fields
from proxy.config import StorageConfig
from proxy.gateway.stored_responses import StoredResponses
from proxy.protocol.response_objects import view_response
from proxy.protocol.responses import parse_responses
from proxy.record import Target
from proxy.storage.writer import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose writer has not started."""
    store = Store(StorageConfig(url=f"sqlite:///{tmp_path}/router.db"))
    store.prepare()
    return store


def note(remembered: StoredResponses, name: str, text: str = "Hello!") -> None:
    seen = view_response(msgspec.json.encode(response_fields(text, response_id=name)))
    request = parse_responses(b'{"model":"auto","input":"Hi"}')
    assert seen is not None
    remembered.remember(seen, request, target=Target.LOCAL, client=None)


async def test_a_response_is_found_before_it_is_written_and_not_after_deletion(
    store: Store,
) -> None:
    unwritten = StoredResponses(store)
    note(unwritten, "a")
    kept = await unwritten.find("a", None)
    assert kept is not None
    assert kept.target is Target.LOCAL
    unwritten.forget("a")
    assert await unwritten.find("a", None) is None


async def test_large_responses_displace_the_oldest(store: Store) -> None:
    unwritten = StoredResponses(store, max_cached_chars=10_000)
    for name in ("a", "b", "c", "d"):
        note(unwritten, name, "x" * 1_500)  # in its items and in its body
    found = [name for name in ("a", "b", "c", "d") if await unwritten.find(name, None)]
    assert found == ["c", "d"]
    note(unwritten, "e", "x" * 20_000)
    note(unwritten, "f")
    assert await unwritten.find("f", None) is not None


async def test_many_small_responses_displace_the_oldest(store: Store) -> None:
    unwritten = StoredResponses(store, max_cached=2)
    for name in ("a", "b", "c"):
        note(unwritten, name)
    assert await unwritten.find("a", None) is None
    assert await unwritten.find("c", None) is not None
