"""The budget pacer: lowers the threshold so that the day's cloud budget lasts all day.

    pacer.observe(record)         # each finished request
    pacer.update_profile(hours)   # periodically: the spend of each hour, from the database
    pacer.threshold(0.7, usd_per_day=5, spent_usd=1.2)

A request stays local if its merit reaches the threshold, so a lower threshold is cheaper. The best
use of one budget is one threshold for the whole day, just low enough for the dollars to last. Then
the hardest prompts go to the cloud at any hour. First come, first served would spend the budget
before noon. The right threshold is not known in advance, so feedback finds it in steps:

1. F(t) is the share of the routed dollars with a merit below t. It is a histogram over the merit of
   the actual or hypothetical cloud cost, with a half-life of `MEMORY_SECONDS`.
2. E forecasts the routed dollars until midnight (UTC): the mean of the same hours of the last days,
   times the ratio of today's last hours to theirs. Without data for an hour, or if today is beyond
   comparison, it is the current rate. C forecasts the cloud cost that no threshold changes (forced,
   sticky, context, ...) in the same manner.
3. The target is the largest t with E·F(t) + C <= the remaining dollars, rounded down to a bucket.
   The next step has what the rounding leaves over.
4. The limit approaches the target with a time constant of `LAG_SECONDS`. So it moves by at most
   1 - exp(-60 / LAG_SECONDS), or 0.095, per minute. A new budget counts at once.
5. The threshold is the limit or the configured threshold, whichever is lower.

When the budget is spent the limit stays and `budget.when_spent` decides. Without data the threshold
is the configured one. Traffic that no threshold can divide, such as a day of one repeated prompt,
goes to one tier for hours and then to the other.

Source: budget pacing in ad auctions. Agarwal et al. 2014, "Budget pacing for targeted online
advertisements at LinkedIn": spend in proportion to the day's forecast traffic. Balseiro and Gur
2019, "Learning in repeated auctions with budgets": one multiplier suffices, and feedback finds it.
They throttle at random or shade bids; here the merit ranks requests. No I/O.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from proxy.record import (
    DAY_SECONDS,
    HOUR_SECONDS,
    PACED_REASONS,
    CallRecord,
    SecondLookResult,
    Target,
)
from proxy.storage import HourlySpend

PACING_BUCKETS: Final = 100  # of the merit
PROFILE_DAYS: Final = 7
# Half-life of the histogram over the merits.
MEMORY_SECONDS: Final = 12 * HOUR_SECONDS
# Half-life of today's hours in the comparison with other days: it forgets a burst and notices a
# quiet Sunday.
LEVEL_SECONDS: Final = 6 * HOUR_SECONDS
# A day with a higher ratio to the profile is beyond comparison: its own rate predicts better.
MAX_LEVEL: Final = 10.0
# The shortest period that a rate is measured over.
MIN_RATE_SECONDS: Final = 600.0
LAG_SECONDS: Final = 600.0
STEP_SECONDS: Final = 1.0  # between two updates of the limit

Dollars = npt.NDArray[np.float64]


class BudgetPacer:
    """A model of the traffic, and the threshold that follows from it.

    Args:
        clock: UNIX seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._began = clock()
        # Routed dollars by merit, of requests under the paced threshold. Requests with a threshold
        # of their own: routed and spent dollars.
        self._by_merit = np.zeros(PACING_BUCKETS)
        self._own_threshold = np.zeros(2)
        self._decayed_at = self._began
        self._hours: dict[int, tuple[float, float]] = {}
        self._per_hour: Dollars | None = None
        self._limit = 1.0
        self._stepped_at = self._began
        self._budget: float | None = None
        self._is_due = False  # whether the next limit counts at once, without a lag

    def observe(self, record: CallRecord) -> None:
        """Learn from a finished request."""
        usd = record.cloud_cost_usd
        # After a second look the verified merit was compared, with the same threshold.
        merit = record.merit if record.verified_merit is None else record.verified_merit
        is_compared = merit is not None or record.score is None  # else out of domain
        by_threshold = (
            record.reason in PACED_REASONS or record.second_look is SecondLookResult.ESCALATED
        )
        if not usd or usd < 0 or not by_threshold or not is_compared:
            return
        self._decay()
        if record.is_paced and merit is not None:
            self._by_merit[_bucket_of(merit)] += usd
        else:
            spent = usd if record.target is Target.CLOUD else 0.0
            self._own_threshold += (usd, spent)

    def restore(self, spend: Iterable[tuple[int, int, float]]) -> None:
        """Restore the histogram from rows (hour, bucket, routed dollars) of earlier processes.

        The next limit counts at once: the earlier process had converged to it.
        """
        self._decay()
        for hour, bucket, usd in spend:
            age = max(self._decayed_at - hour - HOUR_SECONDS / 2, 0.0)
            self._by_merit[bucket] += usd * 0.5 ** (age / MEMORY_SECONDS)
            self._is_due = True

    def update_profile(self, hours: Iterable[HourlySpend]) -> None:
        """Update the spend of these hours. Other hours keep their values."""
        now = self._clock()
        self._hours.update((hour, (routed, other)) for hour, routed, other in hours)
        oldest = _midnight(now) - PROFILE_DAYS * DAY_SECONDS
        self._hours = {hour: usd for hour, usd in self._hours.items() if hour >= oldest}
        if self._hours:
            self._per_hour = self._forecast(now)

    def threshold(self, configured: float, *, usd_per_day: float | None, spent_usd: float) -> float:
        """The current threshold.

        Args:
            configured: the upper bound, and the threshold without a budget.
            usd_per_day: the budget; None disables pacing.
            spent_usd: spent of the budget since midnight UTC.
        """
        if usd_per_day is None:
            self._budget = None
            self._limit = 1.0
            return configured
        if usd_per_day != self._budget:
            self._budget, self._is_due = usd_per_day, True
        now = self._clock()
        if self._is_due or abs(now - self._stepped_at) >= STEP_SECONDS:  # the clock may go back
            self._step(now, configured, usd_per_day - spent_usd)
        return min(configured, self._limit)

    def _step(self, now: float, configured: float, remaining: float) -> None:
        elapsed = max(now - self._stepped_at, 0.0)
        self._stepped_at = now
        if remaining <= 0:
            return  # `budget.when_spent` decides
        if not self._by_merit.any():
            self._is_due = False  # the first data arrives gradually, so the limit moves with it
        target = self._affordable(now, remaining)
        if target is None:
            return
        # Start from the configured threshold: a limit above it has no effect.
        limit = min(self._limit, configured)
        if self._is_due or (limit == configured and target >= configured):
            self._limit = target
        else:
            self._limit = limit + (target - limit) * -math.expm1(-elapsed / LAG_SECONDS)
        self._is_due = False

    def _affordable(self, now: float, remaining: float) -> float | None:
        """The largest threshold that the remaining dollars can pay for; None without data."""
        self._decay()
        paced = float(self._by_merit.sum())
        if self._per_hour is None or paced <= 0:
            return None
        routed, fixed = self._remaining_forecast(now)
        others, others_spent = self._own_threshold
        share = routed / (paced + others)
        if paced * share <= 0:
            return 1.0
        fixed += others_spent * share
        below = np.cumsum(self._by_merit) * share  # at the upper edge of each bucket
        # Add a picodollar: a rounding error must not cost a bucket.
        fits = int(np.searchsorted(below, remaining - fixed + 1e-12, side="right"))
        return fits / PACING_BUCKETS

    def _remaining_forecast(self, now: float) -> tuple[float, float]:
        """Routed dollars and fixed cloud cost until midnight."""
        assert self._per_hour is not None
        hours = (now - _midnight(now)) / HOUR_SECONDS
        weights = np.clip(np.arange(1, 25) - hours, 0.0, 1.0)  # the share of each hour that remains
        routed, fixed = weights @ self._per_hour
        return float(routed), float(fixed)

    def _forecast(self, now: float) -> Dollars:
        """The forecast of each hour of today, (24, 2): routed dollars, and fixed cloud cost."""
        midnight, first = _midnight(now), min(self._hours)
        known = np.array(
            [
                [self._hours.get(hour, (0.0, 0.0)) for hour in range(day, day + DAY_SECONDS, 3600)]
                for day in range(
                    midnight - PROFILE_DAYS * DAY_SECONDS, midnight + DAY_SECONDS, DAY_SECONDS
                )
            ]
        )
        past, today = known[:-1].sum(axis=0), known[-1]
        firsts = midnight - PROFILE_DAYS * DAY_SECONDS + HOUR_SECONDS * np.arange(24 * PROFILE_DAYS)
        days = (firsts >= first).reshape(PROFILE_DAYS, 24).sum(axis=0)
        is_known = days > 0
        profile = past / np.maximum(days, 1)[:, None]
        # The elapsed share of each hour of today, and its weight, which halves with age.
        begins = midnight + HOUR_SECONDS * np.arange(24)
        elapsed = np.clip((now - begins) / HOUR_SECONDS, 0.0, 1.0)
        ages = np.maximum(now - begins - elapsed * HOUR_SECONDS / 2, 0.0)
        weights = np.where(elapsed > 0, 0.5 ** (ages / LEVEL_SECONDS), 0.0)
        # Shrink the ratio to 1 by one mean hour, because a few minutes are little evidence.
        prior = profile[is_known].mean(axis=0) if is_known.any() else np.zeros(2)
        expected = (weights * elapsed * is_known) @ profile + prior
        seen = (weights * is_known) @ today + prior
        beyond = np.where(seen > 0, 2 * MAX_LEVEL, 1.0)
        level = np.divide(seen, expected, out=beyond, where=expected > 0)
        is_comparable = is_known[:, None] & (level <= MAX_LEVEL)
        forecast: Dollars = profile * level
        if not is_comparable.all():
            forecast = np.where(is_comparable, forecast, self._rate(now, first))
        # The current hour: its own spend so far, and the forecast for the rest.
        hour = int(now - midnight) // HOUR_SECONDS
        forecast[hour] = today[hour] + (1 - elapsed[hour]) * forecast[hour]
        return forecast

    def _rate(self, now: float, first: int) -> Dollars:
        """The recent rate in dollars per hour, (2,)."""
        # In the first hour with data, the traffic may have begun with the process.
        begin = max(first, self._began) if self._began < first + HOUR_SECONDS else first
        usd, seconds = np.zeros(2), 0.0
        for hour in range(max(first, _midnight(now) - DAY_SECONDS), int(now) + 1, HOUR_SECONDS):
            start, end = max(hour, begin), min(hour + HOUR_SECONDS, now)
            weight = 0.5 ** (max(now - (start + end) / 2, 0.0) / LEVEL_SECONDS)
            usd += weight * np.array(self._hours.get(hour, (0.0, 0.0)))
            seconds += weight * max(end - start, 0.0)
        return usd / max(seconds, MIN_RATE_SECONDS) * HOUR_SECONDS

    def _decay(self) -> None:
        """Decay the histogram, at most once a minute."""
        now = self._clock()
        if now - self._decayed_at >= 60.0:
            factor = 0.5 ** ((now - self._decayed_at) / MEMORY_SECONDS)
            self._by_merit *= factor
            self._own_threshold *= factor
            self._decayed_at = now


def _bucket_of(merit: float) -> int:
    return min(max(int(merit * PACING_BUCKETS), 0), PACING_BUCKETS - 1)


def _midnight(seconds: float) -> int:
    return int(seconds // DAY_SECONDS) * DAY_SECONDS
