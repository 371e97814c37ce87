"""The rate limit of an API key: a token bucket of requests.

    await rates.admit(principal)      # or RateLimited

The bucket holds a minute's requests and refills evenly, so a burst may use them all at once, and a
steady flow may be as large as the limit. Processes on one database share a bucket. Each takes up
to a twentieth of a minute's requests in advance, so all together may exceed the limit by these.
Without the database a process uses a bucket of its own.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from proxy.auth import Principal
from proxy.budget.shared_queries import SharedQueries
from proxy.errors import RateLimited
from proxy.storage import MINUTE_SECONDS

_ROUNDING_SECONDS: Final = 1e-6
_LONG_AGO: Final = float("-inf")


class _Bucket:
    """The token bucket of one key."""

    __slots__ = ("empty_until", "full_at", "per_minute", "taken", "waiting")

    def __init__(self) -> None:
        self.full_at = 0.0  # when it is full again, by the requests of this process
        self.per_minute = 0  # the limit of the last request
        self.taken = 0  # requests taken from the shared bucket and not used yet
        self.waiting = 0  # requests that wait for the shared bucket
        self.empty_until = _LONG_AGO  # when the shared bucket has a request again


class RateLimits:
    """The token buckets of all keys.

    Args:
        clock: UNIX seconds.
        timer: monotonic seconds.
    """

    def __init__(
        self,
        queries: SharedQueries,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queries = queries
        self._clock = clock
        self._timer = timer
        self._buckets: dict[str, _Bucket] = {}

    async def admit(self, principal: Principal | None) -> None:
        """Count a request.

        Raises:
            RateLimited: the key has no request left for now.
        """
        if principal is None or principal.requests_per_minute is None:
            return
        name, per_minute = principal.key_hash, principal.requests_per_minute
        bucket = self._buckets.setdefault(name, _Bucket())
        if bucket.per_minute != per_minute:  # a new limit voids what was taken under the old one
            bucket.per_minute, bucket.taken, bucket.empty_until = per_minute, 0, _LONG_AGO
        while not bucket.taken and self._queries.is_available("requests", name):
            if (seconds := bucket.empty_until - self._timer()) > 0:
                raise _rate_limited(principal, per_minute, seconds)
            bucket.waiting += 1
            try:
                await self._queries.join("requests", name, partial(self._take, name, bucket))
            finally:
                bucket.waiting -= 1
        now = self._clock()
        bucket.full_at = min(bucket.full_at, now + MINUTE_SECONDS)  # the clock may have been ahead
        full_at = max(bucket.full_at, now) + MINUTE_SECONDS / per_minute
        if bucket.taken:
            bucket.taken -= 1
        elif (seconds := full_at - now - MINUTE_SECONDS) > _ROUNDING_SECONDS:
            raise _rate_limited(principal, per_minute, seconds)
        bucket.full_at = full_at

    async def _take(self, name: str, bucket: _Bucket) -> None:
        """Take requests from the shared bucket for all that wait."""
        per_minute, wanted = bucket.per_minute, bucket.waiting
        taken, seconds = await self._queries.run(
            lambda shared: shared.take_requests(name, per_minute, wanted=wanted)
        )
        # A late response is ignored: the requests that waited for it were counted alone.
        if bucket.per_minute == per_minute and not self._queries.is_late("requests", name):
            bucket.taken += taken
            bucket.empty_until = self._timer() + seconds


def _rate_limited(principal: Principal, per_minute: int, seconds: float) -> RateLimited:
    key = "this API key" if principal.name is None else f"the API key '{principal.name}'"
    return RateLimited(
        f"Rate limit reached: {key} may make {per_minute} requests a minute.",
        seconds=seconds,
    )
