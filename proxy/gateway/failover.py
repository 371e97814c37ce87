"""What becomes of a request whose upstream failed before the client got a byte: the policy alone.

A failure is tried again, tried at the other tier, or is the answer:

- The other tier comes before the same one again: its answer is there sooner than a recovery. Only
  the cloud gets one quick second try first, because what goes there is what needs it.
- What cannot go elsewhere (a forced tier) is tried again up to MAX_RETRIES times, with doubling,
  jittered waits, or as long as `retry-after` says, up to MAX_WAIT_SECONDS.
- An error that the client made is its answer at once. What the local tier cannot do (a model it
  lacks, tools, a prompt that is too long) the cloud can; a cloud without completions leaves them to
  the local tier.
- The credential that a tier sees is ours. When it refuses that, the client cannot help it, and is
  not told what the tier says of the key.
- Retries are a share of the traffic: a tier that is down must not get three times the requests.

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

from proxy.errors import Overloaded, UpstreamAuthError, UpstreamError, UpstreamTimeout
from proxy.protocol.endpoints import CHAT, COMPLETIONS, Endpoint
from proxy.protocol.ollama import UNREADABLE_REQUEST
from proxy.record import Target

logger = logging.getLogger(__name__)

MAX_RETRIES: Final = 2
FIRST_WAIT_SECONDS: Final = 0.25
MAX_WAIT_SECONDS: Final = 5.0  # beyond it the client's own patience is the better judge
QUICK_SECONDS: Final = 1.0  # the longest wait for a second try when the other tier could answer

_RETRYABLE: Final = frozenset({408, 409, 429})
_NO_CAPABILITY = re.compile(
    rb"does not support|not (?:currently )?supported|unsupported"
    rb"|" + UNREADABLE_REQUEST,
    re.IGNORECASE,
)
# A 403 may be about the request, too: what a moderation stops, or from which country it comes.
_OUR_KEY = re.compile(
    rb"api.?key|missing scopes|insufficient permissions|does not have access", re.IGNORECASE
)
_TOO_LONG = re.compile(
    rb"context_length_exceeded|context (?:length|window|size)|too many tokens|prompt is too long",
    re.IGNORECASE,
)


class Failure(NamedTuple):
    """Why an attempt is not the answer, in a word of a closed set, and what it allows."""

    why: str
    may_retry: bool
    retry_after: float | None = None

    def __str__(self) -> str:
        return f"fails ({self.why})"


def failure_of_error(error: UpstreamError) -> Failure:
    """No answer, or one that broke off. A timeout has already cost its wait: not once more.

    Nor is a full queue worth a second try: it is ours.
    """
    may_retry = not isinstance(error, UpstreamTimeout | UpstreamAuthError | Overloaded)
    return Failure(error.code or error.type, may_retry=may_retry)


def failure_of_answer(
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    *,
    target: Target,
    error: bytes | None,
    endpoint: Endpoint = CHAT,
) -> Failure | None:
    """What an answer fails by; None for a good one, and for an error that is the client's own.

    Args:
        error: the body of an answer that is an error, whatever its status; None for another.
    """
    if error is None and 200 <= status < 300:
        return None
    named = {name.lower(): value for name, value in headers}
    may_retry = named.get(b"x-should-retry") != b"false"
    if status == 429:
        # Money that is spent does not come back by waiting.
        may_retry = may_retry and b"insufficient_quota" not in (error or b"")
        return Failure("rate_limited", may_retry, _retry_after(named))
    if status >= 500 or status in _RETRYABLE:
        return Failure("server_error", may_retry, _retry_after(named))
    if error is None:
        return None
    if 200 <= status < 300:  # some servers send an error with a 200, in streams all do
        return Failure("server_error", may_retry)
    if target is Target.LOCAL:
        if status == 404:
            return Failure("model_missing", may_retry=False)
        if status in (400, 413, 422) and _TOO_LONG.search(error):
            return Failure("context", may_retry=False)
        if status in (400, 422, 501) and _NO_CAPABILITY.search(error):
            return Failure("capability", may_retry=False)
    elif status == 404 and endpoint is COMPLETIONS:
        # OpenAI's chat models, gpt-4o-mini among them, are not to be had there.
        return Failure("capability", may_retry=False)
    return None


def check_credential(status: int, error: bytes | None, *, upstream: str) -> None:
    """Tell a refusal of our credential from one of the client's request.

    Raises:
        UpstreamAuthError: without the upstream's own words, which may show a part of the key.
    """
    if status == 401 or (status == 403 and error is not None and _OUR_KEY.search(error)):
        logger.warning("%s upstream: it does not accept our API key (%d)", upstream, status)
        raise UpstreamAuthError(
            f"The {upstream} upstream does not accept the API key of this proxy's configuration.",
            upstream=upstream,
        )


class RetryBudget:
    """Retries as a share of requests, with some in reserve for quiet times."""

    def __init__(self, *, share: float = 0.2, reserve: float = 10.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def earn(self) -> None:
        """A request came in."""
        self._left = min(self._reserve, self._left + self._share)

    def spend(self) -> bool:
        """Take one retry; False when there is none to be had."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class FailoverPlan:
    """How one request goes on after a failure. `tried` counts the retries so far."""

    def __init__(self, *, may_fall_back: bool, budget: RetryBudget, first_wait: float) -> None:
        self._may_fall_back = may_fall_back
        self._budget = budget
        self._first_wait = first_wait
        self._retries = 0

    def after(self, failure: Failure, *, target: Target) -> "Retry | FallBack | None":
        """The next step after `target` failed; None when the failure is the answer."""
        elsewhere_first = target is Target.LOCAL or self._retries > 0
        if self._may_fall_back and elsewhere_first:
            return self._fall_back()
        if failure.may_retry and self._retries < MAX_RETRIES:
            wait = failure.retry_after
            if wait is None:
                wait = self._first_wait * 2**self._retries * random.uniform(0.5, 1.0)
            limit = QUICK_SECONDS if self._may_fall_back else MAX_WAIT_SECONDS
            if wait <= limit and self._budget.spend():
                self._retries += 1
                return Retry(wait)
        return self._fall_back() if self._may_fall_back else None

    def _fall_back(self) -> "FallBack":
        self._may_fall_back = False
        self._retries = MAX_RETRIES  # one tier after the other is enough
        return FallBack()


class Retry(NamedTuple):
    """Wait, and try the same tier again."""

    seconds: float


class FallBack(NamedTuple):
    """Try the other tier."""


def _retry_after(headers: dict[bytes, bytes]) -> float | None:
    """Seconds, from `retry-after-ms` or `retry-after` (a number or a date); None without."""
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
