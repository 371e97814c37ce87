"""The budget pacer: moves the threshold so that the day's dollars for the cloud last all day.

    pacer.observe(record)         # each finished request
    pacer.update_profile(hours)   # periodically: the database's dollars of each hour
    pacer.threshold(0.7, usd_per_day=5, spent_usd=1.2)

A request stays local when its score reaches the threshold, so a lower threshold is cheaper. Under
one budget the best choice is a single price for quality: a threshold that is the same all day, just
low enough that the dollars suffice, sends the hardest prompts to the cloud at whatever hour they
come; a budget that is simply used up sends every hard one before noon and none after. What is not
known in advance is that threshold, so it is found by feedback, again and again:

1. F(t), the share of the dollars in play with a score below t, is a histogram over the score of
   what routed requests cost or would have cost in the cloud. It halves in `MEMORY_SECONDS`.
2. E, the dollars that will be in play until midnight (UTC), is what the same hours of the last
   days had, in the mean, times how the last hours of today compare with theirs; the present rate
   where nothing is known of an hour, or today is beyond comparison. So is C, what the cloud will
   cost whatever the threshold (forced, sticky, context, …).
3. The limit is the largest t with E·F(t) + C <= the dollars that remain. Rounded down to a bucket:
   what is left over by that remains, and comes back in the next step.
4. The limit approaches what step 3 says with a time constant of `LAG_SECONDS`. So it moves by no
   more than 1 - exp(-60 / LAG_SECONDS), or 0.095, a minute. A new budget counts at once.
5. The threshold is the smaller one of the limit and the configured one.

When all is spent the limit stays as it is and `budget.when_spent` decides. With no data yet the
threshold is the configured one. What no threshold can divide, such as a day of one and the same
prompt, goes one way for hours and then the other.

Source: budget pacing in ad auctions. Agarwal et al. 2014, "Budget pacing for targeted online
advertisements at LinkedIn" (spend as the forecast of the day's traffic goes); that one multiplier
suffices and may be found by feedback: Balseiro and Gur 2019, "Learning in repeated auctions with
budgets". They throttle by lot or shade bids; here requests have a price list of their own, the
score. No I/O, and no clock but the one that is given.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from proxy.record import DAY_SECONDS, HOUR_SECONDS, PACED_REASONS, CallRecord, Target
from proxy.storage import HourlySpend

PACING_BUCKETS: Final = 100  # of the score
PROFILE_DAYS: Final = 7
# How long the spread over the scores counts.
MEMORY_SECONDS: Final = 12 * HOUR_SECONDS
# Today is compared with other days by its last hours: a burst is forgotten, a quiet Sunday noticed.
LEVEL_SECONDS: Final = 6 * HOUR_SECONDS
# A day of so many times their dollars is another kind of day: then its own rate says more.
MAX_LEVEL: Final = 10.0
# Dollars of a shorter time say little of a rate.
MIN_RATE_SECONDS: Final = 600.0
LAG_SECONDS: Final = 600.0
STEP_SECONDS: Final = 1.0  # for a new threshold there is no hurry

Dollars = npt.NDArray[np.float64]


class BudgetPacer:
    """What is known of the traffic, and the threshold that follows from it.

    Args:
        clock: UNIX seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._began = clock()
        # Dollars in play of requests that the threshold decides, by their score; of others that
        # the score decides, by a threshold of their own; and what of the latter was spent.
        self._by_score = np.zeros(PACING_BUCKETS)
        self._own_threshold = np.zeros(2)
        self._decayed_at = self._began
        self._hours: dict[int, tuple[float, float]] = {}
        self._per_hour: Dollars | None = None
        self._limit = 1.0
        self._stepped_at = self._began
        self._budget: float | None = None
        self._is_due = False  # whether the next limit counts at once

    def observe(self, record: CallRecord) -> None:
        """Learn from a finished request."""
        usd = record.cloud_cost_usd
        if not usd or usd < 0 or record.reason not in PACED_REASONS:
            return
        self._decay()
        if record.is_paced and record.score is not None:
            self._by_score[_bucket_of(record.score)] += usd
        else:
            spent = usd if record.target is Target.CLOUD else 0.0
            self._own_threshold += (usd, spent)

    def restore(self, scored: Iterable[tuple[int, int, float]]) -> None:
        """Take over what was noted before this process began: (hour, bucket, dollars in play).

        The limit then counts at once: what it was is not known, but it was no other.
        """
        self._decay()
        for hour, bucket, usd in scored:
            age = max(self._decayed_at - hour - HOUR_SECONDS / 2, 0.0)
            self._by_score[bucket] += usd * 0.5 ** (age / MEMORY_SECONDS)
            self._is_due = True

    def update_profile(self, hours: Iterable[HourlySpend]) -> None:
        """Take over what the database has of these hours; of others what it had stays known."""
        now = self._clock()
        self._hours.update((hour, (routed, other)) for hour, routed, other in hours)
        oldest = _midnight(now) - PROFILE_DAYS * DAY_SECONDS
        self._hours = {hour: usd for hour, usd in self._hours.items() if hour >= oldest}
        if self._hours:
            self._per_hour = self._forecast(now)

    def threshold(self, configured: float, *, usd_per_day: float | None, spent_usd: float) -> float:
        """The threshold for now.

        Args:
            configured: what it is where dollars do not matter; it is never above this.
            usd_per_day: what may be spent; None where nothing is to be governed.
            spent_usd: of it, since midnight UTC.
        """
        if usd_per_day is None:
            self._budget = None
            self._limit = 1.0
            return configured
        if usd_per_day != self._budget:
            self._budget, self._is_due = usd_per_day, True
        now = self._clock()
        if self._is_due or abs(now - self._stepped_at) >= STEP_SECONDS:  # it may be set back
            self._step(now, configured, usd_per_day - spent_usd)
        return min(configured, self._limit)

    def _step(self, now: float, configured: float, remaining: float) -> None:
        elapsed = max(now - self._stepped_at, 0.0)
        self._stepped_at = now
        if remaining <= 0:
            return  # it is for `budget.when_spent` to say
        if not self._by_score.any():
            self._is_due = False  # what is learned from nothing on is learned by and by
        wanted = self._affordable(now, remaining)
        if wanted is None:
            return
        # What lies above the configured threshold changes nothing, so no time is lost on it.
        limit = min(self._limit, configured)
        if self._is_due or (limit == configured and wanted >= configured):
            self._limit = wanted
        else:
            self._limit = limit + (wanted - limit) * -math.expm1(-elapsed / LAG_SECONDS)
        self._is_due = False

    def _affordable(self, now: float, remaining: float) -> float | None:
        """The largest threshold with which the remaining dollars last; None with no data."""
        self._decay()
        governed = float(self._by_score.sum())
        if self._per_hour is None or governed <= 0:
            return None
        in_play, certain = self._left(now)
        others, others_spent = self._own_threshold
        share = in_play / (governed + others)
        if governed * share <= 0:
            return 1.0
        certain += others_spent * share
        below = np.cumsum(self._by_score) * share  # at the upper edge of each bucket
        # A picodollar of a rounding error must not cost a bucket.
        fits = int(np.searchsorted(below, remaining - certain + 1e-12, side="right"))
        return fits / PACING_BUCKETS

    def _left(self, now: float) -> tuple[float, float]:
        """Dollars in play, and dollars that will be spent anyway, from now until midnight."""
        assert self._per_hour is not None
        hours = (now - _midnight(now)) / HOUR_SECONDS
        weights = np.clip(np.arange(1, 25) - hours, 0.0, 1.0)  # how much of each is to come
        in_play, certain = weights @ self._per_hour
        return float(in_play), float(certain)

    def _forecast(self, now: float) -> Dollars:
        """Dollars of each hour of a day like today, (24, 2): in play, and spent anyway."""
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
        # How much of each hour of today has gone by, and what it weighs: recent ones more.
        begins = midnight + HOUR_SECONDS * np.arange(24)
        gone = np.clip((now - begins) / HOUR_SECONDS, 0.0, 1.0)
        ages = np.maximum(now - begins - gone * HOUR_SECONDS / 2, 0.0)
        weights = np.where(gone > 0, 0.5 ** (ages / LEVEL_SECONDS), 0.0)
        # As if an hour like the mean one had been as usual: a few minutes say little.
        usual = profile[is_known].mean(axis=0) if is_known.any() else np.zeros(2)
        expected = (weights * gone * is_known) @ profile + usual
        seen = (weights * is_known) @ today + usual
        beyond = np.where(seen > 0, 2 * MAX_LEVEL, 1.0)
        level = np.divide(seen, expected, out=beyond, where=expected > 0)
        is_guide = is_known[:, None] & (level <= MAX_LEVEL)
        found: Dollars = profile * level
        if not is_guide.all():
            found = np.where(is_guide, found, self._rate(now, first))
        # The longer this hour has gone on, the more it says itself of what is left of it.
        hour = int(now - midnight) // HOUR_SECONDS
        found[hour] = today[hour] + (1 - gone[hour]) * found[hour]
        return found

    def _rate(self, now: float, first: int) -> Dollars:
        """Dollars an hour of late, (2,)."""
        # Within the first hour of all the process knows better than the hour when it began.
        begin = max(first, self._began) if self._began < first + HOUR_SECONDS else first
        usd, seconds = np.zeros(2), 0.0
        for hour in range(max(first, _midnight(now) - DAY_SECONDS), int(now) + 1, HOUR_SECONDS):
            start, end = max(hour, begin), min(hour + HOUR_SECONDS, now)
            weight = 0.5 ** (max(now - (start + end) / 2, 0.0) / LEVEL_SECONDS)
            usd += weight * np.array(self._hours.get(hour, (0.0, 0.0)))
            seconds += weight * max(end - start, 0.0)
        return usd / max(seconds, MIN_RATE_SECONDS) * HOUR_SECONDS

    def _decay(self) -> None:
        """Let what is known grow older, not for every request."""
        now = self._clock()
        if now - self._decayed_at >= 60.0:
            factor = 0.5 ** ((now - self._decayed_at) / MEMORY_SECONDS)
            self._by_score *= factor
            self._own_threshold *= factor
            self._decayed_at = now


def _bucket_of(score: float) -> int:
    return min(max(int(score * PACING_BUCKETS), 0), PACING_BUCKETS - 1)


def _midnight(seconds: float) -> int:
    return int(seconds // DAY_SECONDS) * DAY_SECONDS
