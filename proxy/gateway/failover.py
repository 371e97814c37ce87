"""Failover policy for an upstream that fails before the client got a byte.

A failure leads to a retry or to a fallback to the other tier, or the client gets the error:

- A fallback comes before a retry, because the other tier answers sooner than this one recovers.
  Only the cloud gets one quick retry first, because the requests there need it.
- Without a fallback (a forced tier) there are up to MAX_RETRIES retries with exponential backoff
  and jitter, or after the `retry-after` of the answer, up to MAX_WAIT_SECONDS.
- A client error is returned at once. Requests that the local tier cannot answer (missing model,
  tools, a long prompt) fall back to the cloud. A cloud without completions falls back to the local
  tier.
- A rejected credential is the proxy's, so it is not a client error. The client does not see the
  upstream's message about the key.
- The retry budget limits retries to a share of the traffic, so that a failing tier does not get
  three times the requests. Where budgets in dollars apply, a retry after a billed attempt needs
  dollars of its own.

Sources: the statuses and headers by which OpenAI's own clients retry (openai-python,
`_base_client.py`); retry budgets as in Finagle.
"""

import email.utils
import logging
import random
import re
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.errors import (
    Overloaded,
    ResponseTooLarge,
    UpstreamAuthError,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.protocol.endpoints import CHAT, COMPLETIONS, Endpoint
from proxy.protocol.ollama import UNREADABLE_REQUEST
from proxy.record import Target

logger = logging.getLogger(__name__)

MAX_RETRIES: Final = 2
FIRST_WAIT_SECONDS: Final = 0.25
MAX_WAIT_SECONDS: Final = 5.0  # beyond it the client decides whether to retry
QUICK_SECONDS: Final = 1.0  # the longest wait for a retry when a fallback is possible

_RETRYABLE: Final = frozenset({408, 409, 429})
_NO_CAPABILITY = re.compile(
    rb"does not support|not (?:currently )?supported|unsupported"
    rb"|" + UNREADABLE_REQUEST,
    re.IGNORECASE,
)
# A 403 may also be about the request: moderation, or the country.
_OUR_KEY = re.compile(
    rb"api.?key|missing scopes|insufficient permissions|does not have access", re.IGNORECASE
)
_TOO_LONG = re.compile(
    rb"context_length_exceeded|context (?:length|window|size)|too many tokens|prompt is too long",
    re.IGNORECASE,
)


class Failure(NamedTuple):
    """The cause of a failed attempt, from a closed set of labels, and whether to retry."""

    why: str
    may_retry: bool
    retry_after: float | None = None
    is_rejected: bool = False  # a complete answer, by a hard check or by the second look

    def __str__(self) -> str:
        what = "answers, and the answer is rejected" if self.is_rejected else "fails"
        return f"{what} ({self.why})"


def failure_of_error(error: UpstreamError) -> Failure:
    """The failure of an attempt without an answer, or with an interrupted one.

    A timeout is not retried, because it has already cost its wait; nor is a full queue, which is
    the proxy's own.
    """
    may_retry = not isinstance(
        error, UpstreamTimeout | UpstreamAuthError | ResponseTooLarge | Overloaded
    )
    return Failure(error.code or error.type, may_retry=may_retry)


def failure_of_answer(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    target: Target,
    error: bytes | None,
    endpoint: Endpoint = CHAT,
) -> Failure | None:
    """The failure of an answer; None for a success and for a client error.

    Args:
        error: the body of an error answer of any status; None for a success.
    """
    if error is None and 200 <= status < 300:
        return None
    by_name = {name.lower(): value for name, value in headers}
    may_retry = by_name.get(b"x-should-retry") != b"false"
    if status == 429:
        # Waiting does not restore a spent quota.
        may_retry = may_retry and b"insufficient_quota" not in (error or b"")
        return Failure("rate_limited", may_retry, _retry_after(by_name))
    if status >= 500 or status in _RETRYABLE:
        return Failure("server_error", may_retry, _retry_after(by_name))
    if error is None:
        return None
    if 200 <= status < 300:  # some servers send errors with status 200; in streams all do
        return Failure("server_error", may_retry)
    if target is Target.LOCAL:
        if status == 404:
            return Failure("model_missing", may_retry=False)
        if status in (400, 413, 422) and _TOO_LONG.search(error):
            return Failure("context", may_retry=False)
        if status in (400, 422, 501) and _NO_CAPABILITY.search(error):
            return Failure("capability", may_retry=False)
    elif status == 404 and endpoint is COMPLETIONS:
        # OpenAI's chat models, such as gpt-4o-mini, are not available on this endpoint.
        return Failure("capability", may_retry=False)
    return None


def check_credential(status: int, error: bytes | None, *, upstream: str) -> None:
    """Detect that an upstream rejects the proxy's credential.

    Raises:
        UpstreamAuthError: without the upstream's message, which may contain a part of the key.
    """
    if status == 401 or (status == 403 and error is not None and _OUR_KEY.search(error)):
        logger.warning("%s upstream: API key rejected (status %d)", upstream, status)
        raise UpstreamAuthError(
            f"The {upstream} upstream rejected the API key of the proxy's configuration.",
            upstream=upstream,
        )


class RetryBudget:
    """Limits retries to a share of the requests, with a reserve for quiet times."""

    def __init__(self, *, share: float = 0.2, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """Count a request."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry. Returns False when the budget is used up."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class FailoverPlan:
    """Decides how one request continues after each failure."""

    def __init__(self, *, may_fall_back: bool, budget: RetryBudget, first_wait: float) -> None:
        self.may_fall_back = may_fall_back
        self._budget = budget
        self._first_wait = first_wait
        self._retries = 0

    def after(self, failure: Failure, *, target: Target) -> "Retry | FallBack | None":
        """The step after a failure of `target`; None when the failure is the answer."""
        elsewhere_first = target is Target.LOCAL or self._retries > 0
        if self.may_fall_back and elsewhere_first:
            return self._fall_back()
        if failure.may_retry and self._retries < MAX_RETRIES:
            wait = failure.retry_after
            if wait is None:
                wait = self._first_wait * 2**self._retries * random.uniform(0.5, 1.0)
            limit = QUICK_SECONDS if self.may_fall_back else MAX_WAIT_SECONDS
            if wait <= limit and self._budget.spend():
                self._retries += 1
                return Retry(wait)
        return self.without_retry()

    def without_retry(self) -> "FallBack | None":
        """The step after a failure when the budget has no dollars for a retry."""
        return self._fall_back() if self.may_fall_back else None

    def _fall_back(self) -> "FallBack":
        self.may_fall_back = False
        self._retries = MAX_RETRIES  # no retries after a fallback
        return FallBack()


class Retry(NamedTuple):
    """Wait, then send the request to the same tier again."""

    seconds: float


class FallBack(NamedTuple):
    """Send the request to the other tier."""


def _retry_after(headers: dict[bytes, bytes]) -> float | None:
    """The seconds of `retry-after-ms` or `retry-after` (a number or a date); None without."""
    text = headers.get(b"retry-after-ms", b"").decode("latin-1")
    try:
        if text:
            return max(0.0, float(text) / 1e3)
        text = headers.get(b"retry-after", b"").decode("latin-1")
        return max(0.0, float(text)) if text else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
