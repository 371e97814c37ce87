"""The steps of self-calibration in the database, and the judged pairs that they wait for.

Any number of processes and machines may share one database. A unique index allows one running step,
so one process of all makes it. All methods block: call them in a thread. They raise
StoreUnavailable when the database is unavailable.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import peewee

from proxy.learning.policy import MAX_COUNTED
from proxy.learning.steps import Decision, Kind, LearningStep, Models, progress_of
from proxy.protocol.ollama import spellings_of
from proxy.record import Target
from proxy.storage import FAILURES, StoreUnavailable, exclusive_transaction
from proxy.storage.tables import Judgement
from proxy.storage.tables import LearningStep as StepRow
from router_model.manifest import Manifest

# A step that runs longer is orphaned. Its process has ended by then (`server.learning`).
EXPIRY_SECONDS: Final = 3600.0
MAX_STEPS: Final = 500  # newest steps that are read; a busy proxy makes some dozens per year

_COLUMNS: Final = [getattr(StepRow, name) for name in LearningStep.__struct_fields__]


class LearningRecords:
    """The steps of one database.

    Args:
        worker: names this process.
        clock: UNIX seconds.
    """

    def __init__(
        self, database: peewee.Database, *, worker: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock

    def steps(self) -> list[LearningStep]:
        """The newest MAX_STEPS steps, oldest first."""
        query = StepRow.select(*_COLUMNS).order_by(StepRow.id.desc()).limit(MAX_STEPS)
        with self._using() as database:
            rows = list(query.dicts().execute(database))
        return [LearningStep(**row) for row in reversed(rows)]

    def find(self, step_id: int) -> LearningStep | None:
        query = StepRow.select(*_COLUMNS).where(StepRow.id == step_id)
        with self._using() as database:
            return next((LearningStep(**row) for row in query.dicts().execute(database)), None)

    def manifest(self, step_id: int) -> Manifest | None:
        """The manifest that the step made."""
        return self._manifest(StepRow.manifest, step_id)

    def previous(self, step_id: int) -> Manifest | None:
        """The manifest that the step's activation replaced."""
        return self._manifest(StepRow.previous, step_id)

    def new_pairs(self, models: Models, *, after: int) -> int:
        """The requests with a judged answer of both models since judgement number `after`.

        Reads only judgements since then, by their key, and at most MAX_COUNTED cloud answers.
        """
        # Ordered by the key, so that the database reads only the newest rows.
        new = (
            Judgement.select(Judgement.request_id)
            .where(
                Judgement.id > after,
                Judgement.target == Target.CLOUD,
                peewee.fn.LOWER(Judgement.model).in_(spellings_of(models.cloud)),
            )
            .order_by(Judgement.id)
            .limit(MAX_COUNTED)
        )
        pairs = (
            Judgement.select(Judgement.request_id)
            .where(
                Judgement.request_id.in_(new),
                Judgement.target == Target.LOCAL,
                peewee.fn.LOWER(Judgement.model).in_(spellings_of(models.local)),
            )
            .distinct()
        )
        with self._using() as database:
            return int(pairs.count(database))

    def record_models(self, models: Models, *, version: str | None) -> LearningStep | None:
        """Record the configured models if they are new or changed. Returns the last other ones.

        The first record counts all judgements; a later one only those that follow.
        """
        with self._using(), exclusive_transaction(self._database, name="learning"):
            query = StepRow.select(*_COLUMNS).where(StepRow.kind == "models")
            rows = list(query.order_by(StepRow.id.desc()).limit(1).dicts().execute(self._database))
            last = LearningStep(**rows[0]) if rows else None
            if last is not None and last.models.is_same(models):
                return None
            self._insert(
                models, "models", version, state="done", decision="recorded",
                judgement_id=0 if last is None else self._newest_judgement(),
                ended_at=self._clock(),
            )  # fmt: skip
            return last

    def claim(self, models: Models, *, version: str | None, is_forced: bool = False) -> int | None:
        """Begin a fit, and return its number. None if another one runs, or none is due.

        Args:
            version: of the router model in use.
            is_forced: begin one that is not due as well.
        """
        progress = progress_of(self.steps(), models)
        if not is_forced and self.new_pairs(models, after=progress.after) < progress.needed:
            return None
        with self._using(), exclusive_transaction(self._database, name="learning"):
            now = self._clock()
            running = StepRow.state == "running"
            StepRow.update(
                state="failed", ended_at=now, decision="rejected", why="its process has ended"
            ).where(running & (StepRow.expires_at < now)).execute(self._database)
            other = running
            if not is_forced:  # another process may have been faster
                other |= (StepRow.kind == "fit") & (StepRow.judgement_id > progress.after)
            query = StepRow.select(StepRow.id).where(other).limit(1)
            if list(query.tuples().execute(self._database)):
                return None
            return self._insert(
                models, "fit", version, state="running", judgement_id=self._newest_judgement()
            )

    def finish(
        self,
        step_id: int,
        *,
        decision: Decision,
        why: str,
        manifest: Manifest | None = None,
        previous: Manifest | None = None,
        has_failed: bool = False,
        figures: Mapping[str, float | str | None] | None = None,
    ) -> bool:
        """Write the result of a running step. Returns whether it was still running.

        Args:
            previous: what the manifest has replaced, if it is activated.
            figures: other columns by name.
        """
        row = StepRow.update(
            **(figures or {}),
            state="failed" if has_failed else "done",
            ended_at=self._clock(),
            decision=decision,
            why=why,
            manifest=_json(manifest),
            previous=_json(previous),
        ).where((StepRow.id == step_id) & (StepRow.state == "running"))
        with self._using() as database:
            return bool(row.execute(database))

    def revoke(self, step_id: int, *, why: str) -> None:
        """Mark a recorded activation or rollback as failed."""
        row = StepRow.update(state="failed", decision="rejected", why=why)
        with self._using() as database:
            row.where(StepRow.id == step_id).execute(database)

    def add(
        self,
        kind: Kind,
        models: Models,
        *,
        decision: Decision,
        why: str,
        manifest: Manifest,
        previous: Manifest,
        cost_share: float | None = None,
    ) -> int:
        """Record an activation or a rollback by a person."""
        with self._using():
            return self._insert(
                models, kind, previous.version, state="done", decision=decision, why=why,
                judgement_id=self._newest_judgement(), ended_at=self._clock(),
                version=manifest.version, manifest=_json(manifest), previous=_json(previous),
                cost_share=cost_share,
            )  # fmt: skip

    def _insert(self, models: Models, kind: Kind, version_before: str | None, **fields: Any) -> int:
        now = self._clock()
        row = StepRow.insert(
            created_at=now, expires_at=now + EXPIRY_SECONDS, kind=kind, worker=self._worker,
            local_model=models.local, cloud_model=models.cloud, second_model=models.second,
            version_before=version_before, **fields,
        )  # fmt: skip
        return int(row.execute(self._database))

    def _newest_judgement(self) -> int:
        query = Judgement.select(peewee.fn.MAX(Judgement.id))
        [(newest,)] = query.tuples().execute(self._database)
        return int(newest or 0)

    def _manifest(self, column: Any, step_id: int) -> Manifest | None:
        query = StepRow.select(column).where(StepRow.id == step_id)
        with self._using() as database:
            for (text,) in query.tuples().execute(database):
                if text is not None:
                    return msgspec.json.decode(text, type=Manifest)
        return None

    @contextmanager
    def _using(self) -> Iterator[peewee.Database]:
        try:
            with self._database.connection_context():
                yield self._database
        except FAILURES as error:
            raise StoreUnavailable(f"the steps of learning cannot be used: {error}") from error


def _json(manifest: Manifest | None) -> str | None:
    return None if manifest is None else msgspec.json.encode(manifest).decode()
