"""Periodic reads of the database: the spent budget, answer quality, and drift.

Each `read` is one run of a background task (`background.every`). While the database is unavailable
the last values are kept.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from proxy.budget import MEMORY_SECONDS, PROFILE_DAYS, BudgetPacer, Limits
from proxy.config import Config
from proxy.evaluation import Quality, QualityQueries
from proxy.record import DAY_SECONDS, HOUR_SECONDS
from proxy.storage import RequestQueries, Store, StoreUnavailable
from router_model.drift import LARGE_DRIFT, Drift
from router_model.manifest import Manifest

logger = logging.getLogger(__name__)


class BudgetMonitor:
    """Reads the spending of all workers, and the hourly cost of the last days.

    Args:
        config: the configuration in use.
        has_key_budgets: whether an API key has a budget of its own.
    """

    def __init__(
        self,
        store: Store,
        requests: RequestQueries,
        *,
        limits: Limits,
        pacer: BudgetPacer,
        config: Callable[[], Config],
        has_key_budgets: Callable[[], bool],
    ) -> None:
        self._store = store
        self._requests = requests
        self._limits = limits
        self._pacer = pacer
        self._config = config
        self._has_key_budgets = has_key_budgets
        self._hours_read_at = 0.0

    async def read(self) -> None:
        """Read the spending for the configured budgets. Log once when much of a day's is spent."""
        by_key = self._has_key_budgets()
        budget = self._config().budget.cloud_usd_per_day
        if budget is not None or by_key:
            await self._read_spent(by_key=by_key)
        await self._limits.spending.return_unused()
        if budget is None:
            return
        await self._read_hours()
        if share := self._limits.spending.crossed_budget_share(budget):
            logger.warning(
                "%g %% of the daily cloud budget of %g USD is spent", 100 * share, budget
            )

    async def restore(self) -> None:
        """Restore the traffic and cost profile of earlier processes."""
        await self._read_spent()
        await self._read_hours()
        try:
            since = time.time() - 4 * MEMORY_SECONDS
            self._pacer.restore(await asyncio.to_thread(self._requests.spend_by_merit, since))
        except StoreUnavailable as error:
            logger.warning("cannot read the cost by merit: %s", error)

    async def _read_spent(self, *, by_key: bool = True) -> None:
        today = self._limits.spending.day_start()
        spent = await asyncio.to_thread(self._store.lookups.spent_by_others, today, by_key=by_key)
        if spent is not None:
            self._limits.spending.update_others_spending(spent, since=today)

    async def _read_hours(self) -> None:
        """Read the hours that may have changed since the last read; at first the whole profile."""
        now = time.time()
        since = max(self._hours_read_at - HOUR_SECONDS, now - (PROFILE_DAYS + 1) * DAY_SECONDS)
        try:
            self._pacer.update_profile(await asyncio.to_thread(self._requests.spend_by_hour, since))
            self._hours_read_at = now
        except StoreUnavailable as error:
            logger.warning("cannot read the cost by hour: %s", error)


class QualityMonitor:
    """Reads the judges' grades of all processes.

    Args:
        days: the length of the period.
    """

    def __init__(self, queries: QualityQueries, *, days: float) -> None:
        self.quality: Quality | None = None  # None until it has been read
        self._queries = queries
        self._days = days

    async def read(self) -> None:
        since = time.time() - self._days * DAY_SECONDS
        try:
            self.quality = await asyncio.to_thread(self._queries.quality, since)
        except StoreUnavailable as error:
            logger.warning("cannot read answer quality: %s", error)


class DriftMonitor:
    """Compares recent requests with the model's reference. Logs when drift begins and when it ends.

    Args:
        manifest: of the router model in use.
    """

    def __init__(
        self, requests: RequestQueries, *, manifest: Callable[[], Manifest | None]
    ) -> None:
        self.drift: Drift | None = None  # None while it is not known
        self._requests = requests
        self._manifest = manifest
        self._is_reported = False

    async def read(self) -> None:
        manifest = self._manifest()
        reference = manifest.reference if manifest is not None else None
        try:
            drift = None
            if reference is not None:
                drift = await asyncio.to_thread(self._requests.drift, reference)
        except (StoreUnavailable, ValueError) as error:
            logger.warning("cannot measure drift: %s", error)
            return
        self.drift = drift
        self._report(drift)

    def _report(self, drift: Drift | None) -> None:
        if drift is None or drift.is_large is self._is_reported:
            return
        self._is_reported = drift.is_large
        if not drift.is_large:
            logger.info("traffic matches the router model's training data again")
            return
        logger.warning(
            "traffic differs from the router model's training data: over the last %d scored "
            "requests the drift index is %.2f by score and %.2f by category (high: over %g); %s",
            drift.requests,
            drift.score,
            drift.category,
            LARGE_DRIFT,
            "; ".join(
                f"{name} was {before:.1%} and is {now:.1%}" for name, before, now in drift.moved
            ),
        )
