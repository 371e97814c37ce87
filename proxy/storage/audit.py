"""The audit log: changes that admins make on the pages.

audit.add("threshold.apply", "routing.threshold", actor=key_hash, details={"new": "0.6"})
audit.newest(limit=1, actions=("threshold.apply",))
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

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


class AuditLog(Queries):
    """The audit log of one database. Both methods block, and raise StoreUnavailable."""

    def add(
        self,
        action: str,
        subject: str,
        *,
        actor: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a change of `subject`."""
        insert = AuditEntry.insert(
            created_at=self.clock(),
            actor=actor,
            action=action,
            subject=subject,
            details=None if details is None else msgspec.json.encode(details).decode(),
        )
        try:
            with self.database.connection_context():
                insert.execute(self.database)
        except FAILURES as error:
            raise StoreUnavailable(f"The change cannot be recorded: {error}") from None

    def newest(self, *, limit: int, actions: Sequence[str] = ()) -> list[AuditRecord]:
        """The last changes, newest first; with `actions` only those."""
        query = AuditEntry.select(
            *(getattr(AuditEntry, name) for name in AuditRecord._fields)
        ).order_by(AuditEntry.created_at.desc(), AuditEntry.id.desc())
        if actions:
            query = query.where(AuditEntry.action.in_(list(actions)))
        with self._reading() as database:
            rows = list(query.limit(limit).tuples().execute(database))
        return [
            AuditRecord._make((*rest, {} if details is None else msgspec.json.decode(details)))
            for *rest, details in rows
        ]
