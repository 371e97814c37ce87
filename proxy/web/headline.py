"""The headline of the dashboard: what routing has saved this month, and at which quality.

A month begins at midnight UTC, as a day's budget does, so that everyone quotes the same figure.
"""

import datetime as dt
from typing import Any, Final

from proxy.evaluation import QualityQueries
from proxy.evaluation.explain import plain_estimates
from proxy.record import DAY_SECONDS
from proxy.storage import RequestQueries

_PROJECTED: Final = ("cost_usd", "cloud_cost_usd", "saved_usd")
_QUALITY: Final = ("relative", "recovered")


def month_of(now: float) -> tuple[float, float]:
    """The first second of a time's month (UTC), and that of the next month."""
    first = dt.datetime.fromtimestamp(now, dt.UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    following = (first + dt.timedelta(days=32)).replace(day=1)
    return first.timestamp(), following.timestamp()


def headline(requests: RequestQueries, now: float) -> dict[str, Any]:
    """The totals of the month so far, and their projection to its end. Blocks."""
    since, until = month_of(now)
    total = requests.total(since)
    first = requests.first_hour(since)
    return {
        "month": dt.datetime.fromtimestamp(since, dt.UTC).strftime("%Y-%m"),
        "since": since,
        "until": until,
        "now": now,
        "total": total._asdict(),
        "projection": None
        if first is None
        else project(
            {name: getattr(total, name) for name in _PROJECTED}, begin=first, now=now, end=until
        ),
    }


def project(
    sums: dict[str, float], *, begin: float, now: float, end: float
) -> dict[str, float] | None:
    """The sums at the end of a period, if they grow as they have since `begin`.

    None in the first day, which would say more about the hour than about the month.
    """
    elapsed = now - begin
    if elapsed < DAY_SECONDS:
        return None
    return {name: value * (end - begin) / elapsed for name, value in sums.items()}


def month_quality(quality: QualityQueries, now: float) -> dict[str, Any]:
    """The quality estimates of the month so far. Blocks."""
    estimates = plain_estimates(quality.quality(month_of(now)[0]))
    return {name: estimates[name] for name in _QUALITY}
