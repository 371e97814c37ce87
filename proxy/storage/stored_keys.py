"""API keys that admins create, change and revoke, and the record of these changes.

    keys = StoredKeys(database)
    keys.create(row, actor="a1b2…")
    issued = [row.issued for row in keys.read()]

Each change and its audit entry are one transaction. All methods block: call them in a thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
import peewee

from proxy.auth import IssuedKey, Principal
from proxy.storage.database import FAILURES, StoreUnavailable, exclusive_transaction
from proxy.storage.tables import AuditEntry, StoredApiKey

MAX_VALID_KEYS: Final = 1_000  # pages and metrics list all of them


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


class Change(NamedTuple):
    """An entry of the audit log. `details` depends on the action."""

    created_at: float
    actor: str | None
    action: str
    subject: str
    details: dict[str, Any]


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
            self._note(database, actor, "create", row.key_hash, limits)

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
                self._note(database, actor, "change", key_hash, details)
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
            self._note(database, actor, "revoke", key_hash, {"name": before.name})
            return before._replace(revoked_at=now)

    def newest_changes(self, *, limit: int) -> list[Change]:
        """The newest entries of the audit log about keys, newest first."""
        query = (
            AuditEntry.select()
            .where(AuditEntry.action.in_([f"key.{action}" for action in _ACTIONS]))
            .order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc())
            .limit(limit)
        )
        with self._connected() as database:
            return [
                Change(
                    row["created_at"],
                    row["actor"],
                    row["action"].removeprefix("key."),
                    row["subject"],
                    msgspec.json.decode(row["details"] or "{}"),
                )
                for row in query.dicts().execute(database)
            ]

    def _note(
        self,
        database: peewee.Database,
        actor: str | None,
        action: str,
        subject: str,
        details: Mapping[str, Any],
    ) -> None:
        AuditEntry.insert(
            created_at=self._clock(),
            actor=actor,
            action=f"key.{action}",
            subject=subject,
            details=msgspec.json.encode(details).decode(),
        ).execute(database)

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


_ACTIONS: Final = ("create", "change", "revoke")
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
