"""The failover policy: which failures are retried, fall back or are returned."""

import datetime as dt
from email.utils import format_datetime

import pytest

from proxy.errors import UpstreamInterrupted, UpstreamTimeout, UpstreamUnreachable
from proxy.gateway.failover import (
    MAX_RETRIES,
    MAX_WAIT_SECONDS,
    FailoverPlan,
    Failure,
    FallBack,
    Retry,
    RetryBudget,
    failure_of_answer,
    failure_of_error,
)
from proxy.record import Target

TRANSIENT, PERMANENT = Failure("server_error", may_retry=True), Failure("context", may_retry=False)


def plan(*, may_fall_back: bool, budget: RetryBudget | None = None) -> FailoverPlan:
    return FailoverPlan(may_fall_back=may_fall_back, budget=budget or RetryBudget(), first_wait=0.1)


def failed(
    status: int,
    *,
    target: Target = Target.CLOUD,
    error: bytes = b"{}",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Failure | None:
    return failure_of_answer(status, headers, target=target, error=error)


@pytest.mark.parametrize("target", Target)
def test_successful_response_is_no_failure(target: Target) -> None:
    assert failure_of_answer(200, [], target=target, error=None) is None


@pytest.mark.parametrize("status", [400, 401, 403, 413, 422])
def test_client_error_of_the_cloud_is_no_failure(status: int) -> None:
    assert failed(status, error=b'{"error": {"message": "No."}}') is None


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_statuses_that_openai_clients_retry_are_retried(status: int) -> None:
    failure = failed(status)
    assert failure is not None
    assert failure.may_retry


def test_should_retry_header_and_exhausted_quota_prevent_retries() -> None:
    failure = failed(503, headers=((b"X-Should-Retry", b"false"),))
    assert failure == Failure("server_error", may_retry=False)
    quota = failed(429, error=b'{"error": {"code": "insufficient_quota"}}')
    assert quota == Failure("rate_limited", may_retry=False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"3", 3), (b"0.5", 0.5), (b"-1", 0), (b"soon", None), (b"", None), (b"nan?", None)],
)
def test_retry_after_in_seconds(value: bytes, seconds: float | None) -> None:
    failure = failed(429, headers=((b"retry-after", value),))
    assert failure is not None
    assert failure.retry_after == seconds


def test_retry_after_in_other_forms() -> None:
    failure = failed(503, headers=((b"retry-after-ms", b"250"), (b"retry-after", b"9")))
    assert failure is not None
    assert failure.retry_after == 0.25
    soon = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100), usegmt=True)
    failure = failed(503, headers=((b"retry-after", soon.encode()),))
    assert failure is not None
    assert failure.retry_after == pytest.approx(100, abs=3)


def test_lost_connection_is_retried_and_timeout_is_not() -> None:
    late = UpstreamTimeout("late", upstream="local", phase="first_token")
    assert not failure_of_error(late).may_retry
    for error in (
        UpstreamInterrupted("b", upstream="local"),
        UpstreamUnreachable("u", upstream="l"),
    ):
        assert failure_of_error(error).may_retry


def test_local_tier_falls_back_immediately_and_once() -> None:
    failover = plan(may_fall_back=True)
    assert failover.after(TRANSIENT, target=Target.LOCAL) == FallBack()
    assert failover.after(TRANSIENT, target=Target.CLOUD) is None


def test_cloud_falls_back_after_one_quick_retry() -> None:
    failover = plan(may_fall_back=True)
    assert isinstance(failover.after(TRANSIENT, target=Target.CLOUD), Retry)
    assert failover.after(TRANSIENT, target=Target.CLOUD) == FallBack()
    slow = TRANSIENT._replace(retry_after=2.0)
    assert plan(may_fall_back=True).after(slow, target=Target.CLOUD) == FallBack()
    assert plan(may_fall_back=True).after(PERMANENT, target=Target.CLOUD) == FallBack()


def test_backoff_doubles_up_to_the_retry_limit() -> None:
    failover = plan(may_fall_back=False)
    waits = []
    while isinstance(step := failover.after(TRANSIENT, target=Target.LOCAL), Retry):
        waits.append(step.seconds)
    assert step is None
    assert len(waits) == MAX_RETRIES
    assert 0.05 <= waits[0] <= 0.1 <= waits[1] <= 0.2
    assert plan(may_fall_back=False).after(PERMANENT, target=Target.LOCAL) is None


def test_retry_after_is_followed_up_to_the_limit() -> None:
    for seconds, expected in ((3.0, Retry(3.0)), (MAX_WAIT_SECONDS + 1, None)):
        failure = TRANSIENT._replace(retry_after=seconds)
        assert plan(may_fall_back=False).after(failure, target=Target.CLOUD) == expected


def test_retry_budget_is_a_share_of_the_requests() -> None:
    budget = RetryBudget(share=0.5, reserve=2.0)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_spent_retry_budget_allows_only_a_fallback() -> None:
    spent = RetryBudget(reserve=0.0)
    assert plan(may_fall_back=False, budget=spent).after(TRANSIENT, target=Target.CLOUD) is None
    failover = plan(may_fall_back=True, budget=spent)
    assert failover.after(TRANSIENT, target=Target.CLOUD) == FallBack()
