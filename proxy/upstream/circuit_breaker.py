"""A circuit breaker: a failing replica gets no requests until a trial request succeeds.

States:
    closed: requests pass.
    open: requests do not pass. The breaker opens after `open_after` failures in a row that spread
        over `open_after_seconds`, so that one burst of failures does not open it.
    half-open: the backoff is over. One request passes as a trial, and no other one until the next
        backoff is over. A success closes the breaker, a failure doubles the backoff.
"""

from typing import Final, Literal

OPEN_AFTER: Final = 5
OPEN_AFTER_SECONDS: Final = 2.0
FIRST_BACKOFF_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = 60.0

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """The state of one replica. All times come from the caller, in seconds of one clock."""

    __slots__ = (
        "_backoff_seconds",
        "_failing_since",
        "_first_backoff_seconds",
        "_max_backoff_seconds",
        "_open_after",
        "_open_after_seconds",
        "_open_until",
        "failures",
    )

    def __init__(
        self,
        *,
        open_after: int = OPEN_AFTER,
        open_after_seconds: float = OPEN_AFTER_SECONDS,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
        max_backoff_seconds: float = MAX_BACKOFF_SECONDS,
    ) -> None:
        self._open_after = open_after
        self._open_after_seconds = open_after_seconds
        self._first_backoff_seconds = first_backoff_seconds
        self._max_backoff_seconds = max_backoff_seconds
        self.failures = 0  # in a row
        self._failing_since = 0.0
        self._backoff_seconds = first_backoff_seconds
        self._open_until = 0.0

    def state(self, now: float) -> State:
        if self.failures < self._open_after:
            return "closed"
        return "open" if now < self._open_until else "half-open"

    def is_open(self, now: float) -> bool:
        """Whether no request may pass now."""
        return self.failures >= self._open_after and now < self._open_until

    def start_request(self, now: float) -> None:
        """Register a request. In the half-open state it is the trial: the breaker opens again."""
        if self.failures >= self._open_after:
            self._open_until = now + self._backoff_seconds

    def record(self, now: float, *, failed: bool) -> bool:
        """Register the result of a request or probe. Returns True when it opens the breaker."""
        if not failed:
            self.failures, self._backoff_seconds = 0, self._first_backoff_seconds
            return False
        was_tripped = self.failures >= self._open_after
        if not self.failures:
            self._failing_since = now
        # The last failure before opening waits until the failures spread over enough time.
        is_spread = now - self._failing_since >= self._open_after_seconds
        if self.failures < self._open_after - 1 or is_spread:
            self.failures += 1
        if was_tripped:
            self._backoff_seconds = min(self._backoff_seconds * 2, self._max_backoff_seconds)
        is_tripped = self.failures >= self._open_after
        if is_tripped:
            self._open_until = now + self._backoff_seconds
        return is_tripped and not was_tripped
