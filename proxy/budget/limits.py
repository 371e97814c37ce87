"""All limits of one process: the rate limits of API keys, and the daily budgets.

    limits = Limits(shared_limits=SharedLimits(database))
    await limits.rates.admit(principal)
    reservation = await limits.spending.reserve(principal, 0.002, usd_per_day=5)

A reload of the configuration keeps the counts: every call passes the limit in force.
"""

import time
from collections.abc import Callable

from proxy.budget.rate_limits import RateLimits
from proxy.budget.shared_queries import SharedQueries
from proxy.budget.spending_limits import SpendingLimits
from proxy.storage import SharedLimits


class Limits:
    """The limits of one process.

    Args:
        shared_limits: shared with the other processes on the database; None if there are none.
        clock: UNIX seconds.
        timer: monotonic seconds.

    Attributes:
        rates: requests per minute.
        spending: dollars per day.
    """

    def __init__(
        self,
        *,
        shared_limits: SharedLimits | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queries = SharedQueries(shared_limits, timer=timer)
        self.rates = RateLimits(self._queries, clock=clock, timer=timer)
        self.spending = SpendingLimits(self._queries, clock=clock, timer=timer)

    async def close(self) -> None:
        """Return all unused dollars, and start no more queries."""
        await self.spending.return_unused(everything=True)
        self._queries.close()
