"""The issued API keys of this process, kept equal to those of the database.

    directory = KeyDirectory(StoredKeys(database), issued)
    await directory.read()              # every few seconds: other processes change keys, too
    await directory.create(row, actor)  # counts here at once

While the database is unavailable, the keys that were read last stay valid.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.auth import ApiKeys, IssuedKeys
from proxy.storage import KeyRow, StoredKeys, StoreUnavailable

logger = logging.getLogger(__name__)


def with_key_names(rows: Iterable[Mapping[str, Any]], keys: ApiKeys) -> list[dict[str, Any]]:
    """Rows of `requests` with the name of their API key as `key_name`; None without a key."""
    return [
        {**row, "key_name": None if (key := row["client_key_hash"]) is None else keys.name_of(key)}
        for row in rows
    ]


class KeyDirectory:
    """The issued keys as rows, and in the form that authentication reads.

    Args:
        stored: the keys in the database.
        issued: what authentication reads.

    Attributes:
        rows: the rows that were read last, the newest first.
    """

    def __init__(self, stored: StoredKeys, issued: IssuedKeys) -> None:
        self.rows: list[KeyRow] = []
        self._stored = stored
        self._issued = issued
        # A read that began before a change must not undo it.
        self._lock = asyncio.Lock()
        self._is_failing = False

    async def read(self) -> None:
        """Read the keys. A failure is logged once, until a read succeeds again."""
        async with self._lock:
            try:
                rows = await asyncio.to_thread(self._stored.read)
            except StoreUnavailable as error:
                if not self._is_failing:
                    logger.warning("the API keys that were read last stay valid: %s", error)
                self._is_failing = True
                return
            self._is_failing = False
            self._apply(rows)

    async def create(self, row: KeyRow, actor: str | None) -> None:
        """Add a key. Raises as `StoredKeys.create` does."""
        async with self._lock:
            await asyncio.to_thread(lambda: self._stored.create(row, actor=actor))
            self._apply([row, *self.rows])

    async def change(
        self, key_hash: str, fields: Mapping[str, Any], actor: str | None, *, needs_admin: bool
    ) -> KeyRow | None:
        """Change a key. Returns and raises as `StoredKeys.change` does."""
        async with self._lock:
            changed = await asyncio.to_thread(
                lambda: self._stored.change(key_hash, fields, actor=actor, needs_admin=needs_admin)
            )
            return self._replace(changed)

    async def revoke(self, key_hash: str, actor: str | None, *, needs_admin: bool) -> KeyRow | None:
        """Revoke a key. Returns and raises as `StoredKeys.revoke` does."""
        async with self._lock:
            revoked = await asyncio.to_thread(
                lambda: self._stored.revoke(key_hash, actor=actor, needs_admin=needs_admin)
            )
            return self._replace(revoked)

    def _replace(self, row: KeyRow | None) -> KeyRow | None:
        if row is not None:
            others = [other for other in self.rows if other.key_hash != row.key_hash]
            self._apply(sorted([row, *others], key=lambda item: -item.created_at))
        return row

    def _apply(self, rows: list[KeyRow]) -> None:
        self.rows = rows
        self._issued.replace(row.issued for row in rows)
