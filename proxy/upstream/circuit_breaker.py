"""A circuit breaker: a failing replica gets no requests until a trial request succeeds.

States:
    closed: requests pass.
    open: requests do not pass. The breaker opens after `open_after` failures in a row that spread
        over `open_after_seconds`, so that one burst of failures does not open it.
    half-open: the backoff is over. One request passes as a trial, and no other one until the next
        backoff is over. A success closes the breaker, a failure doubles the backoff.

A client can provoke failures that only its own requests have. So while other clients are active,
the failures of one client do not open the breaker: it takes a failure of a second client, or one
that no client can cause, such as a refused connection or a failed probe.

After a timeout only an answer proves that the replica answers. A model list does not: servers list
their models while no request gets an answer.
"""

import math
from typing import Final, Literal

OPEN_AFTER: Final = 5
OPEN_AFTER_SECONDS: Final = 2.0
FIRST_BACKOFF_SECONDS: Final = 5.0
MAX_BACKOFF_SECONDS: Final = 60.0
ACTIVE_SECONDS: Final = 600.0  # since its last request, in which a client counts as active

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """The state of one replica. All times come from the caller, in seconds of one clock.

    Attributes:
        failures: in a row.
        needs_answer: whether a request has timed out since the last answer; set by the caller.
    """

    __slots__ = (
        "_active_seconds",
        "_backoff_seconds",
        "_failing_client",
        "_failing_since",
        "_first_backoff_seconds",
        "_is_confirmed",
        "_last_client",
        "_last_client_at",
        "_max_backoff_seconds",
        "_open_after",
        "_open_after_seconds",
        "_open_until",
        "_other_client_at",
        "failures",
        "needs_answer",
    )

    def __init__(
        self,
        *,
        open_after: int = OPEN_AFTER,
        open_after_seconds: float = OPEN_AFTER_SECONDS,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
        max_backoff_seconds: float = MAX_BACKOFF_SECONDS,
        active_seconds: float = ACTIVE_SECONDS,
    ) -> None:
        self._active_seconds = active_seconds
        self._open_after = open_after
        self._open_after_seconds = open_after_seconds
        self._first_backoff_seconds = first_backoff_seconds
        self._max_backoff_seconds = max_backoff_seconds
        self.failures = 0
        self.needs_answer = False
        self._failing_since = 0.0
        self._backoff_seconds = first_backoff_seconds
        self._open_until = 0.0
        self._failing_client: str | None = None  # of the first failure in a row
        self._is_confirmed = False  # whether the failures in a row are not those of one client
        self._last_client: str | None = None
        self._last_client_at = -math.inf
        self._other_client_at = -math.inf  # when the last client but this one was last seen

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

    def needs_confirmation(self, now: float) -> bool:
        """Whether only the doubt about one client's failures keeps the breaker closed."""
        return (
            self.failures == self._open_after - 1
            and now - self._failing_since >= self._open_after_seconds
            and self._is_in_doubt(now)
        )

    def answer_trial(self) -> None:
        """Register an answer to the proxy's own request. It closes an open breaker.

        The failures of a closed one stay: they may be of requests that are too much for the server.
        """
        self.needs_answer = False
        if self.failures >= self._open_after:
            self.failures, self._backoff_seconds = 0, self._first_backoff_seconds

    def record(
        self, now: float, *, failed: bool, client: str | None = None, is_proof: bool = False
    ) -> bool:
        """Register the result of a request or probe. Returns True when it opens the breaker.

        Args:
            client: whose request it was.
            is_proof: no client can have caused the failure.
        """
        if client != self._last_client:
            self._last_client, self._other_client_at = client, self._last_client_at
        self._last_client_at = now
        if not failed:
            self.failures, self._backoff_seconds = 0, self._first_backoff_seconds
            self.needs_answer = False
            return False
        was_tripped = self.failures >= self._open_after
        if not self.failures:
            self._failing_since, self._failing_client, self._is_confirmed = now, client, False
        self._is_confirmed = self._is_confirmed or is_proof or client != self._failing_client
        # The last failure before opening waits until the failures spread over enough time.
        is_spread = now - self._failing_since >= self._open_after_seconds
        if self.failures < self._open_after - 1 or (is_spread and not self._is_in_doubt(now)):
            self.failures += 1
        if was_tripped:
            self._backoff_seconds = min(self._backoff_seconds * 2, self._max_backoff_seconds)
        is_tripped = self.failures >= self._open_after
        if is_tripped:
            self._open_until = now + self._backoff_seconds
        return is_tripped and not was_tripped

    def _is_in_doubt(self, now: float) -> bool:
        """Whether all failures in a row are those of one client, and others are active."""
        is_own = self._last_client == self._failing_client
        others_at = self._other_client_at if is_own else self._last_client_at
        return not self._is_confirmed and now - others_at <= self._active_seconds
