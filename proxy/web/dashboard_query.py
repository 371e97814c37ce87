"""The period, the filters and the order that a query of the dashboard's API names.

Also where its figures come from: from rollups, or from the rows where no rollup has the period or
the filters.
"""

import datetime as dt
import re
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, TypedDict, TypeVar

from proxy.errors import InvalidRequest
from proxy.record import DAY_SECONDS, HOUR_SECONDS, Ending, Reason, SecondLookResult
from proxy.storage import (
    DETAIL_FILTERS,
    FIGURE_ROWS,
    SORTS,
    TOTALS_FILTERS,
    RequestLog,
    RequestQueries,
    Sort,
    start_of_hour,
)
from router_model.categories import CATEGORIES

# Time ranges in seconds; None is everything.
SPANS: Final[dict[str, float | None]] = {
    "1h": HOUR_SECONDS, "24h": DAY_SECONDS, "7d": 7 * DAY_SECONDS, "30d": 30 * DAY_SECONDS,
    "all": None,
}  # fmt: skip
MAX_LISTED: Final = 200
# Shorter periods are counted from the rows, to the second.
EXACT_SECONDS: Final = 6 * HOUR_SECONDS
# The longest period with steps of this many seconds.
_STEPS: Final = ((2 * HOUR_SECONDS, 60), (EXACT_SECONDS, 300), (8 * DAY_SECONDS, HOUR_SECONDS))

_FILTERS: Final = {
    "target": ("local", "cloud", "none"),
    "reason": tuple(Reason),
    "ending": tuple(Ending),
    "category": (*CATEGORIES, "none"),
    "second_look": (*SecondLookResult, "none"),
}
_FORMER_VALUES: Final = {("reason", "shadow"): Reason.EXPLORATION}  # accepted for one release
_OPEN_FILTERS: Final = ("model", "error_code")  # any value
_KEY_HASH: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)

_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?", re.ASCII)
# Sort key and id of the last request of a page.
CURSOR: Final = re.compile(
    r"(-?\d{1,12}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?)~([a-z0-9_]{1,40})", re.ASCII
)


T = TypeVar("T")


class Period(NamedTuple):
    """A time range in UNIX seconds.

    Attributes:
        name: of `SPANS`; None for a custom range.
        until: exclusive; None is now.
    """

    name: str | None
    since: float
    until: float | None = None

    def to_dict(self) -> dict[str, str | float | None]:
        """The period in an answer."""
        return {"span": self.name, "since": self.since, "until": self.until}

    @property
    def cache_key(self) -> object:
        """Equal for all queries of a named period, although it moves with the time."""
        return self.name or self

    @property
    def seconds(self) -> float | None:
        """Its length; None for everything."""
        if self.since == 0:
            return None
        return (time.time() if self.until is None else self.until) - self.since

    @property
    def step_seconds(self) -> int:
        """The length of the steps of a series."""
        seconds = self.seconds
        if seconds is not None:
            for longest, step in _STEPS:
                if seconds <= longest:
                    return step
        return DAY_SECONDS

    def in_full_hours(self) -> "Period":
        """The hours that the period touches: rollups have no smaller unit."""
        until = None if self.until is None else start_of_hour(self.until + HOUR_SECONDS - 1)
        return self._replace(since=start_of_hour(self.since), until=until)


class Filters(NamedTuple):
    """Required values of columns of `requests` (an empty value stands for null), and a text."""

    values: Mapping[str, str]
    text: str


class Scope(TypedDict):
    """The period and the filters of a query of figures."""

    since: float
    until: float | None
    values: Mapping[str, str]


class FigureSource(NamedTuple):
    """Where figures come from.

    Attributes:
        basis: `hours` (rollups, which count full hours) or `rows`.
        searched: the number of newest rows that were read; None if they were all of the period.
        searched_since: the time of the oldest of them.
    """

    queries: RequestQueries
    basis: str
    since: float = 0.0
    until: float | None = None
    values: Mapping[str, str] = {}
    searched: int | None = None
    searched_since: float | None = None

    @property
    def scope(self) -> Scope:
        """The arguments of its queries."""
        return {"since": self.since, "until": self.until, "values": self.values}


def find_sources(
    requests: RequestQueries, log: RequestLog, period: Period, filters: Filters
) -> tuple[FigureSource, FigureSource]:
    """The sources of the totals, and of the distributions of durations and scores. Blocks."""
    hours = period.in_full_hours()
    rollups = FigureSource(requests, "hours", hours.since, hours.until, filters.values)

    def read_rows() -> FigureSource:
        figures = log.figures(
            period.since, until=period.until, values=filters.values, text=filters.text,
            seconds=min(period.step_seconds, HOUR_SECONDS),
        )  # fmt: skip
        return FigureSource(
            figures, "rows", searched=figures.searched, searched_since=figures.searched_since
        )

    names = frozenset(filters.values)
    has_totals = not filters.text and names <= TOTALS_FILTERS
    has_details = has_totals and names <= DETAIL_FILTERS
    seconds = period.seconds
    is_short = seconds is not None and seconds <= EXACT_SECONDS
    if not has_totals or (
        is_short and not log.exceeds(period.since, until=period.until, number=FIGURE_ROWS)
    ):
        rows = read_rows()
        return rows, rows
    return rollups, rollups if has_details else read_rows()


# --- Query parameters ---


def read_period(query: Mapping[str, str], *, default: str = "24h") -> Period:
    """The period of `since` (a name of `SPANS`, or a time) and `until` (a time)."""
    text = query.get("since", default)
    until = None if (end := query.get("until")) is None else _time(end, "until")
    if text in SPANS:
        seconds = SPANS[text]
        period = Period(text, 0.0 if seconds is None else time.time() - seconds, until)
    else:
        period = Period(None, _time(text, "since"), until)
    if until is not None:
        period = period._replace(name=None)
    return period


def _time(text: str, name: str) -> float:
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        at = dt.datetime.fromisoformat(text)
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if seconds < 0:
        names = f"one of {', '.join(SPANS)}, " if name == "since" else ""
        raise InvalidRequest(
            f"Invalid value for '{name}': '{text}' is not {names}UNIX seconds or a time in "
            "ISO 8601.",
            param=name,
        )
    return seconds


def read_filters(query: Mapping[str, str]) -> Filters:
    """Column filters, of which `none` selects rows without a value, and the searched text."""
    values = {}
    for name, known in _FILTERS.items():
        if (value := query.get(name)) is None:
            continue
        value = _FORMER_VALUES.get((name, value), value)
        if value not in known:
            raise InvalidRequest(
                f"Invalid value for '{name}': '{value}' is not one of {', '.join(known)}.",
                param=name,
            )
        values[name] = "" if value == "none" else value
    for name in _OPEN_FILTERS:
        if value := query.get(name, ""):
            values[name] = "" if value == "none" else value
    if (key := query.get("key")) is not None:
        values["client_key_hash"] = _read_key(key)
    return Filters(values, query.get("search", "").strip())


def _read_key(value: str) -> str:
    """The hash of the API key whose requests are wanted; empty for those without a key."""
    if value == "none":
        return ""
    if _KEY_HASH.fullmatch(value) is None:
        raise InvalidRequest(
            "Invalid value for 'key': use the key_hash of a key in /api/keys, or 'none'.",
            param="key",
        )
    return value


def read_sort(query: Mapping[str, str]) -> tuple[Sort, bool]:
    """The sort key, and whether the order is ascending."""
    name = _choice(query, "sort", dict(zip(SORTS, SORTS, strict=True)))
    return name, _choice(query, "order", {"desc": False, "asc": True})


def _choice(query: Mapping[str, str], name: str, known: Mapping[str, T]) -> T:
    value = query.get(name, next(iter(known)))
    if value not in known:
        raise InvalidRequest(
            f"Invalid value for '{name}': '{value}' is not one of {', '.join(known)}.", param=name
        )
    return known[value]


def read_limit(text: str) -> int:
    """The number of rows of a page."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= MAX_LISTED:
        raise InvalidRequest(
            f"Invalid value for 'limit': '{text}' is not a number from 1 to {MAX_LISTED}.",
            param="limit",
        )
    return int(text)


def read_cursor(text: str | None) -> tuple[float, str] | None:
    """The position of a page."""
    if text is None:
        return None
    if (match := CURSOR.fullmatch(text)) is None:
        raise InvalidRequest(
            "Invalid value for 'before': use the value of 'more' from the previous page.",
            param="before",
        )
    return float(match[1]), match[2]


def format_cursor(cursor: tuple[float, str] | None) -> str | None:
    """A position as `read_cursor` reads it."""
    return None if cursor is None else f"{cursor[0]!r}~{cursor[1]}"
