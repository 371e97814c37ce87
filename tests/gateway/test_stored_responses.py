"""The cache of stored responses that are not yet in the database: bounded, with deletions."""

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


async def add(stored: StoredResponses, name: str, text: str = "Hello!") -> None:
    response = view_response(msgspec.json.encode(response_fields(text, response_id=name)))
    request = parse_responses(b'{"model":"auto","input":"Hi"}')
    assert response is not None
    await stored.remember(response, request, target=Target.LOCAL, client=None)


async def test_response_is_found_until_it_is_deleted(
    store: Store,
) -> None:
    stored = StoredResponses(store)
    await add(stored, "a")
    response = await stored.find("a", None)
    assert response is not None
    assert response.target is Target.LOCAL
    stored.forget("a")
    assert await stored.find("a", None) is None


async def test_large_responses_evict_the_oldest(store: Store) -> None:
    stored = StoredResponses(store, max_cached_chars=10_000)
    for name in ("a", "b", "c", "d"):
        await add(stored, name, "x" * 1_500)  # stored in its items and in its body
    cached = [name for name in ("a", "b", "c", "d") if await stored.find(name, None)]
    assert cached == ["c", "d"]
    await add(stored, "e", "x" * 20_000)
    await add(stored, "f")
    assert await stored.find("f", None) is not None


async def test_many_small_responses_evict_the_oldest(store: Store) -> None:
    stored = StoredResponses(store, max_cached=2)
    for name in ("a", "b", "c"):
        await add(stored, name)
    assert await stored.find("a", None) is None
    assert await stored.find("c", None) is not None
