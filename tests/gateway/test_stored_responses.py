"""What is remembered of answers before the database has them: bounded, and deletions count."""

from pathlib import Path

import msgspec
import pytest

from fakes import response_fields
from proxy.config import StorageConfig
from proxy.gateway import stored_responses
from proxy.gateway.stored_responses import StoredResponses
from proxy.protocol.responses import parse_responses, view_response
from proxy.record import Target
from proxy.storage.writer import Store


@pytest.fixture
def unwritten(tmp_path: Path) -> StoredResponses:
    """StoredResponses whose writer has not begun."""
    store = Store(StorageConfig(url=f"sqlite:///{tmp_path}/router.db"))
    store.prepare()
    return StoredResponses(store)


def note(remembered: StoredResponses, name: str, text: str = "Hello!") -> None:
    seen = view_response(msgspec.json.encode(response_fields(text, response_id=name)))
    request = parse_responses(b'{"model":"auto","input":"Hi"}')
    assert seen is not None
    remembered.remember(seen, request, target=Target.LOCAL, client=None)


async def test_an_answer_is_known_before_it_is_written_and_not_once_deleted(
    unwritten: StoredResponses,
) -> None:
    note(unwritten, "a")
    kept = await unwritten.find("a", None)
    assert kept is not None
    assert kept.target is Target.LOCAL
    unwritten.forget("a")
    assert await unwritten.find("a", None) is None


async def test_large_answers_make_room_for_new_ones(
    unwritten: StoredResponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_responses, "MAX_LATEST_CHARS", 10_000)
    for name in ("a", "b", "c", "d"):
        note(unwritten, name, "x" * 1_500)  # in its items and in its body
    found = [name for name in ("a", "b", "c", "d") if await unwritten.find(name, None)]
    assert found == ["c", "d"]
    note(unwritten, "e", "x" * 20_000)
    note(unwritten, "f")
    assert await unwritten.find("f", None) is not None


async def test_many_small_ones_do_too(
    unwritten: StoredResponses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_responses, "MAX_LATEST", 2)
    for name in ("a", "b", "c"):
        note(unwritten, name)
    assert await unwritten.find("a", None) is None
    assert await unwritten.find("c", None) is not None
