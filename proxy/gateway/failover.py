"""Failover policy for an upstream that fails before the client got a byte.

A failure leads to a retry or to a fallback to the other tier, or the client gets the error:

- A fallback comes before a retry, because the other tier answers sooner than this one recovers.
  Only the cloud gets one quick retry first, because the requests there need it.
- Without a fallback (a forced tier) there are up to MAX_RETRIES retries with exponential backoff
  and jitter, or after the `retry-after` of the answer, up to MAX_WAIT_SECONDS.
- A client error of the cloud is returned at once. A client error of the local tier is not: servers
  differ in what they refuse and in how they report it, so the request goes to the cloud, and its
  answer is final.
- The local tier answers if the cloud has no such model or endpoint, is not paid, or if a server in
  between refuses the request, in another form than the API's.
- A field that a tier refuses is handled before, by `adaptation`: the request is sent without it, or
  the other tier answers.
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
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from proxy.errors import (
    NotAnAnswer,
    Overloaded,
    ResponseTooLarge,
    UpstreamAuthError,
    UpstreamError,
    UpstreamTimeout,
)
from proxy.protocol.ollama import UNREADABLE_REQUEST
from proxy.protocol.refusals import Refusal, read_refusal
from proxy.record import Target

logger = logging.getLogger(__name__)

MAX_RETRIES: Final = 2
FIRST_WAIT_SECONDS: Final = 0.25
MAX_WAIT_SECONDS: Final = 5.0  # beyond it the client decides whether to retry
QUICK_SECONDS: Final = 1.0  # the longest wait for a retry when a fallback is possible

_RETRYABLE: Final = frozenset({408, 409, 429})
_NO_CAPABILITY = re.compile(
    rf"does not support|not (?:currently )?supported|unsupported|{UNREADABLE_REQUEST}",
    re.IGNORECASE,
)
# By which the cloud says that it is not there for this request, or not paid.
_NOT_SERVED: Final = frozenset({402, 404, 405, 410})
# By which servers without a separate status also refuse a request.
AMBIGUOUS: Final = frozenset({500, 501})
# A 403 may also be about the request: moderation, or the country.
_OUR_KEY = re.compile(
    rb"api.?key|missing scopes|insufficient permissions|does not have access", re.IGNORECASE
)


class Failure(NamedTuple):
    """The cause of a failed attempt, from a closed set of labels, and whether to retry."""

    why: str
    may_retry: bool
    retry_after: float | None = None
    is_rejected: bool = False  # a complete answer, by a hard check or by the second look
    is_refusal: bool = False  # of the request: the server works

    def __str__(self) -> str:
        what = "answers, and the answer is rejected" if self.is_rejected else "fails"
        return f"{what} ({self.why})"


def failure_of_error(error: UpstreamError) -> Failure:
    """The failure of an attempt without an answer, or with an interrupted one.

    A timeout is not retried, because it has already cost its wait; nor is a full queue, which is
    the proxy's own; nor a success without an answer, which may be billed, and would come again.
    """
    may_retry = not isinstance(
        error, NotAnAnswer | UpstreamTimeout | UpstreamAuthError | ResponseTooLarge | Overloaded
    )
    return Failure(error.code or error.type, may_retry=may_retry)


def failure_of_answer(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    target: Target,
    error: bytes | None,
    features: Collection[str] = (),
) -> Failure | None:
    """The failure of an answer; None for a success and for a client error of the cloud.

    Args:
        error: the body of an error answer of any status; None for a success.
        features: of the request, for an error of the local tier.
    """
    if error is None and 200 <= status < 300:
        return None
    by_name = {name.lower(): value for name, value in headers}
    may_retry = by_name.get(b"x-should-retry") != b"false"
    if status == 429:
        # Waiting does not restore a spent quota.
        may_retry = may_retry and b"insufficient_quota" not in (error or b"")
        return Failure("rate_limited", may_retry, _retry_after(by_name))
    refusal = read_refusal(error) if error and status >= 400 else Refusal()
    if target is Target.LOCAL and status in AMBIGUOUS and (why := _named_limit(refusal, features)):
        return Failure(why, may_retry=False, is_refusal=True)
    if status >= 500 or status in _RETRYABLE:
        return Failure("server_error", may_retry, _retry_after(by_name))
    if error is None:
        return None
    if 200 <= status < 300:  # some servers send errors with status 200; in streams all do
        return Failure("server_error", may_retry)
    if target is Target.LOCAL:
        is_unknown = status == 404 and "model" in refusal.message.lower()
        why = "model_missing" if is_unknown else _named_limit(refusal, features)
        if why is None and _NO_CAPABILITY.search(refusal.message):
            why = "capability"
        return Failure(why or "refused", may_retry=False, is_refusal=True)
    if status in _NOT_SERVED or not refusal.is_api_error:
        return Failure("refused", may_retry=False, is_refusal=True)
    return None


def _named_limit(refusal: Refusal, features: Collection[str]) -> str | None:
    """The limit of the local tier that its error names; None if it names no known one."""
    if refusal.is_about_length:
        return "context"
    return "capability" if refusal.features_among(features) else None


def check_credential(status: int, error: bytes | None, *, upstream: str) -> None:
    """Detect that an upstream rejects the proxy's credential.

    Raises:
        UpstreamAuthError: without the upstream's message, which may contain a part of the key.
    """
    if status == 401 or (status == 403 and error is not None and _OUR_KEY.search(error)):
        logger.warning("%s upstream: API key rejected (status %d)", upstream, status)
        rejected = UpstreamAuthError(
            f"The {upstream} upstream rejected the API key of the proxy's configuration.",
            upstream=upstream,
        )
        rejected.answer = status, error or b""
        raise rejected


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
