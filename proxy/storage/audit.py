"""The audit log: changes that admins make on the pages.

    audit.add("threshold.apply", "routing.threshold", actor=key_hash, details={"new": "0.6"})
    audit.newest(limit=1, actions=("threshold.apply",))

`insert_entry` records a change in the transaction that makes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import peewee

from proxy.storage.database import FAILURES, StoreUnavailable
from proxy.storage.read_only import Queries
from proxy.storage.tables import AuditEntry


class AuditRecord(NamedTuple):
    """A row of `audit_log`. `actor` is the hash of the admin's key; None without keys."""

    created_at: float
    actor: str | None
    action: str
    subject: str
    details: dict[str, Any]


def insert_entry(database: peewee.Database, entry: AuditRecord) -> None:
    """Add an entry, on an open connection and inside the caller's transaction, if there is one."""
    values = entry._asdict() | {"details": msgspec.json.encode(entry.details).decode()}
    AuditEntry.insert(values).execute(database)


class AuditLog(Queries):
    """The audit log of one database. Both methods block, and raise StoreUnavailable."""

    def add(
        self, action: str, subject: str, *, actor: str | None, details: Mapping[str, Any]
    ) -> None:
        """Record a change of `subject`."""
        entry = AuditRecord(self.clock(), actor, action, subject, dict(details))
        try:
            with self.database.connection_context():
                insert_entry(self.database, entry)
        except FAILURES as error:
            raise StoreUnavailable(f"The change cannot be recorded: {error}") from None

    def newest(self, *, limit: int, actions: Sequence[str]) -> list[AuditRecord]:
        """The last changes by these actions, newest first."""
        query = (
            AuditEntry.select(*(getattr(AuditEntry, name) for name in AuditRecord._fields))
            .where(AuditEntry.action.in_(list(actions)))
            .order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc())
            .limit(limit)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            AuditRecord._make((*rest, msgspec.json.decode(details or "{}")))
            for *rest, details in rows
        ]
