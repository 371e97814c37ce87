"""API keys that admins create, change and revoke, with an entry in the audit log for each change.

    keys = StoredKeys(database)
    keys.create(row, actor="a1b2…")
    issued = [row.issued for row in keys.read()]

A change and its entry are one transaction. All methods block: call them in a thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import peewee

from proxy.auth import IssuedKey, Principal
from proxy.storage.audit import AuditRecord, insert_entry
from proxy.storage.database import FAILURES, StoreUnavailable, exclusive_transaction
from proxy.storage.tables import StoredApiKey

MAX_VALID_KEYS: Final = 1_000  # pages and metrics list all of them
CREATE: Final = "key.create"
CHANGE: Final = "key.change"
REVOKE: Final = "key.revoke"
KEY_ACTIONS: Final = (CREATE, CHANGE, REVOKE)  # in the audit log


class KeyRow(NamedTuple):
    """A row of `api_keys`: an issued key without the key itself.

    Attributes:
        digest: its SHA-256 in hex.
        prefix: its first characters, by which its holder recognizes it.
        created_by: the hash of the admin's key.
    """

    key_hash: str
    digest: str
    name: str
    prefix: str
    created_at: float
    created_by: str | None
    is_admin: bool
    requests_per_minute: int | None = None
    cloud_usd_per_day: float | None = None
    revoked_at: float | None = None

    @property
    def issued(self) -> IssuedKey:
        principal = Principal(
            self.key_hash,
            self.requests_per_minute,
            self.cloud_usd_per_day,
            bool(self.is_admin),
            name=self.name,
        )
        return IssuedKey(bytes.fromhex(self.digest), principal, self.revoked_at is not None)


class KeyNameTaken(Exception):
    """Another valid key has the name."""


class TooManyKeys(Exception):
    """There are as many valid keys as there may be."""


class LastAdmin(Exception):
    """The change would leave no admin key."""


class StoredKeys:
    """The issued keys of one database.

    Args:
        clock: UNIX seconds.

    Every method raises StoreUnavailable when the database cannot be used now.
    """

    def __init__(
        self, database: peewee.Database, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._clock = clock

    def read(self) -> list[KeyRow]:
        """All keys, revoked ones included, the newest first."""
        with self._connected() as database:
            return _rows(database)

    def create(self, row: KeyRow, *, actor: str | None) -> None:
        """Store a key.

        Raises:
            KeyNameTaken: another valid key has the name.
            TooManyKeys: there are MAX_VALID_KEYS.
        """
        with self._changing() as (database, rows):
            valid = [other for other in rows if other.revoked_at is None]
            if len(valid) >= MAX_VALID_KEYS:
                raise TooManyKeys
            _check_name(row, rows)
            StoredApiKey.insert(row._asdict()).execute(database)
            limits = {name: getattr(row, name) for name in _CHANGEABLE}
            entry = AuditRecord(self._clock(), actor, CREATE, row.key_hash, limits)
            insert_entry(database, entry)

    def change(
        self,
        key_hash: str,
        fields: Mapping[str, Any],
        *,
        actor: str | None,
        needs_admin: bool = False,
    ) -> KeyRow | None:
        """Change fields of a valid key, and return it; None if there is none.

        Args:
            fields: new values of some of `name`, `is_admin` and the limits.
            needs_admin: whether the issued keys must keep an admin key.

        Raises:
            KeyNameTaken, LastAdmin
        """
        with self._changing() as (database, rows):
            before = _find_valid(rows, key_hash)
            if before is None:
                return None
            changed = {name: value for name, value in fields.items() if name in _CHANGEABLE}
            after = before._replace(**changed)
            _check_name(after, rows)
            if needs_admin and before.is_admin and not after.is_admin:
                _check_other_admin(rows, key_hash)
            differences = {
                name: [getattr(before, name), getattr(after, name)]
                for name in _CHANGEABLE
                if getattr(before, name) != getattr(after, name)
            }
            if differences:
                values = {name: getattr(after, name) for name in differences}
                StoredApiKey.update(values).where(StoredApiKey.key_hash == key_hash).execute(
                    database
                )
                details = {"name": before.name, "changes": differences}
                entry = AuditRecord(self._clock(), actor, CHANGE, key_hash, details)
                insert_entry(database, entry)
            return after

    def revoke(
        self, key_hash: str, *, actor: str | None, needs_admin: bool = False
    ) -> KeyRow | None:
        """Revoke a valid key, and return it; None if there is none. It cannot be undone.

        Raises:
            LastAdmin
        """
        with self._changing() as (database, rows):
            before = _find_valid(rows, key_hash)
            if before is None:
                return None
            if needs_admin and before.is_admin:
                _check_other_admin(rows, key_hash)
            now = self._clock()
            StoredApiKey.update(revoked_at=now).where(StoredApiKey.key_hash == key_hash).execute(
                database
            )
            insert_entry(database, AuditRecord(now, actor, REVOKE, key_hash, {"name": before.name}))
            return before._replace(revoked_at=now)

    @contextmanager
    def _connected(self) -> Iterator[peewee.Database]:
        try:
            with self._database.connection_context():
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"API keys are unavailable: {error}") from None

    @contextmanager
    def _changing(self) -> Iterator[tuple[peewee.Database, list[KeyRow]]]:
        """One process at a time: names are unique, and the last admin stays."""
        with self._connected() as database, exclusive_transaction(database, name="api_keys"):
            yield database, _rows(database)


_CHANGEABLE: Final = ("name", "is_admin", "requests_per_minute", "cloud_usd_per_day")


def _rows(database: peewee.Database) -> list[KeyRow]:
    query = StoredApiKey.select(*(getattr(StoredApiKey, name) for name in KeyRow._fields))
    newest = query.order_by(StoredApiKey.created_at.desc(), StoredApiKey.key_hash).tuples()
    return [KeyRow(*row) for row in newest.execute(database)]


def _find_valid(rows: list[KeyRow], key_hash: str) -> KeyRow | None:
    return next((row for row in rows if row.key_hash == key_hash and row.revoked_at is None), None)


def _check_name(row: KeyRow, rows: list[KeyRow]) -> None:
    for other in rows:
        is_other = other.revoked_at is None and other.key_hash != row.key_hash
        if is_other and other.name == row.name:
            raise KeyNameTaken


def _check_other_admin(rows: list[KeyRow], key_hash: str) -> None:
    if not any(
        row.is_admin and row.revoked_at is None and row.key_hash != key_hash for row in rows
    ):
        raise LastAdmin
