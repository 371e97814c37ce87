"""Queries for single requests, on the rows of `requests`. `queries` reads the rollups instead.

with RequestLog.open(config.storage) as log:
    row = log.find("req_019300000000abcdef")
"""

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec
import peewee

from proxy.record import FAILED, HOUR_SECONDS, Ending
from proxy.storage.database import storable
from proxy.storage.error_groups import ErrorGroup, ErrorRow, group_errors
from proxy.storage.read_only import Queries
from proxy.storage.rollups import COLUMNS, Rollup
from proxy.storage.row_figures import RowFigures
from proxy.storage.tables import Body, Feedback, Judgement, Request
from router_model.evidence import Evidence

# The columns of a page of requests: without the texts, which `find` returns.
LIST_COLUMNS: Final = (
    "id", "created_at", "endpoint", "requested_model", "target", "model", "reason", "score",
    "merit", "threshold", "status", "ending", "error_code", "streamed", "ttft_ms", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "saved_usd", "category", "fallback_from",
    "second_look", "verified_merit", "client_key_hash", "error", "prompt",
)  # fmt: skip
# A filtered search reads at most this many rows, so that a rare match does not take long. Those of
# one API key are scattered over the table, and each costs a read of the disk.
SEARCH_LIMIT: Final = 50_000
KEY_SEARCH_LIMIT: Final = 10_000
ERROR_LIMIT: Final = 5_000  # of the newest errors, which are grouped
# Figures of rows read at most this many, for the same reasons.
FIGURE_ROWS: Final = 10_000
KEY_FIGURE_ROWS: Final = 5_000
EXCERPT_CHARS: Final = 160
_ROWS_AT_ONCE: Final = 500

# Sort keys of rows without a value. No real value is beyond them.
_LAST_DESCENDING: Final = -1.0
_LAST_ASCENDING: Final = 1e300
_BEFORE_ALL_IDS: Final = "0"  # in a cursor: lower than any id

Sort = Literal["time", "cost", "duration", "tokens", "score"]
SORTS: Final[tuple[Sort, ...]] = get_args(Sort)


class RequestPage(NamedTuple):
    """A page of requests, newest first unless sorted otherwise.

    Attributes:
        rows: with the columns of `LIST_COLUMNS`. `prompt` and `error` are excerpts.
        more: the cursor of the next page, for `before`; None on the last page.
        searched: the number of rows that a filtered or sorted search has read; None if it has read
            all.
    """

    rows: list[dict[str, Any]]
    more: tuple[float, str] | None
    searched: int | None


class StoredBody(NamedTuple):
    """The JSON of a request and of its answer, shortened; None for one that is not stored."""

    request: str | None
    response: str | None


class Errors(NamedTuple):
    """The causes of errors in a time range, the most frequent one first.

    Attributes:
        failures: of requests that failed.
        refusals: of requests that the proxy refused.
        failures_since: the time of the oldest failure that was read, if there may be more.
        refusals_since: the same of refusals.
    """

    failures: list[ErrorGroup]
    refusals: list[ErrorGroup]
    failures_since: float | None
    refusals_since: float | None


class RequestLog(Queries):
    """The requests on record: one, a page, or all of them. All methods block."""

    def find(self, request_id: str) -> dict[str, Any] | None:
        """One request with its judgements and feedback; None if it is not on record.

        `prompt` is a list of turns if the text is stored. `evidence` is a mapping
        (`router_model.evidence`), or None.
        """
        query = Request.select().where(Request.id == storable(request_id))
        with self._reading() as database:
            return next(iter(_add_opinions(database, list(query.dicts().execute(database)))), None)

    def find_body(self, request_id: str) -> StoredBody | None:
        """The stored JSON of a request and of its answer; None if it is not stored."""
        query = Body.select(Body.request, Body.response).where(
            Body.request_id == storable(request_id)
        )
        with self._reading() as database:
            return next((StoredBody(*row) for row in query.tuples().execute(database)), None)

    def has_body(self, request_id: str) -> bool:
        """Whether a request has stored bodies."""
        query = Body.select(Body.request_id).where(Body.request_id == storable(request_id))
        with self._reading() as database:
            return bool(list(query.tuples().execute(database)))

    def errors(
        self, since: float = 0.0, *, until: float | None = None, limit: int = ERROR_LIMIT
    ) -> Errors:
        """The errors of a period (UNIX seconds), grouped by cause.

        Args:
            limit: the number of newest failures, and of newest refusals, that are read.
        """
        with self._reading() as database:
            read = {
                ending: _newest_errors(database, ending, _period(since, until), limit)
                for ending in (*FAILED, Ending.REJECTED)
            }
        refusals = read.pop(Ending.REJECTED)
        failures = sorted(chain.from_iterable(read.values()), key=_reversed_time)[:limit]
        return Errors(
            group_errors(failures),
            group_errors(refusals),
            failures[-1].created_at if len(failures) == limit else None,
            refusals[-1].created_at if len(refusals) == limit else None,
        )

    def newest(
        self,
        since: float = 0.0,
        *,
        limit: int,
        until: float | None = None,
        before: tuple[float, str] | None = None,
        values: Mapping[str, str] = MappingProxyType({}),
        text: str = "",
        sort: Sort = "time",
        ascending: bool = False,
        search_limit: int | None = None,
    ) -> RequestPage:
        """A page of the requests of a period (UNIX seconds; `until` is exclusive).

        Args:
            before: the cursor `more` of the page before: its last sort key and `id`.
            values: required values of columns; an empty value stands for null.
            text: must occur in the prompt, or be a prefix of the id. In the prompt, ASCII letters
                match in either case.
            sort: by time the list has an index. Another order, and oldest first with a filter,
                covers the newest `search_limit` requests of the period only. Rows without a value
                come last.
            search_limit: the number of newest requests that a filtered search reads, by default
                `SEARCH_LIMIT`, or `KEY_SEARCH_LIMIT` of an API key's.
        """
        if search_limit is None:
            search_limit = KEY_SEARCH_LIMIT if values.get("client_key_hash") else SEARCH_LIMIT
        key, filters = _sort_key(sort, ascending=ascending), _filters(values, text)
        is_newest_first = sort == "time" and not ascending
        # One bound on each side. Of two, SQLite may begin at the wider one, and read all up to the
        # other.
        first = since
        if before is not None and sort == "time":
            if ascending:
                first = max(since, before[0])
            else:
                end = math.nextafter(before[0], math.inf)
                until = end if until is None else min(until, end)
        order = (key.asc(), Request.id.asc()) if ascending else (key.desc(), Request.id.desc())
        last, searched = None, None
        with self._reading() as database:
            if filters or sort != "time":
                oldest = self._nth_newest(
                    database, Request.created_at, _period(since, until, values), search_limit
                )
                if oldest is not None:
                    searched, first = search_limit, max(first, oldest)
                    last = (oldest, _BEFORE_ALL_IDS) if is_newest_first else None
            rest = _period(first, until, values)
            if before is not None:
                rest &= _beyond(key, before, ascending=ascending)
            # The ids first: a sort would carry the prompts of all rows along.
            found = (
                Request.select(Request.id, key)
                .where(rest, *filters)
                .order_by(*order)
                .limit(limit + 1)
            )
            keys = dict(found.tuples().execute(database))
            columns = [getattr(Request, name) for name in LIST_COLUMNS]
            page = Request.select(*columns).where(Request.id.in_(list(keys)[:limit]))
            by_id = {row["id"]: row for row in page.dicts().execute(database)} if keys else {}
        rows = [by_id[name] for name in list(keys)[:limit] if name in by_id]
        if len(keys) > limit:
            final = list(keys)[limit - 1]
            last = float(keys[final]), final
        for row in rows:
            row["streamed"] = bool(row["streamed"])
            row["prompt"] = excerpt(row["prompt"])
            row["error"] = row["error"] and _shorten(row["error"])
        return RequestPage(rows, last, searched)

    def exceeds(self, since: float, *, until: float | None, number: int) -> bool:
        """Whether a period has more than this many requests."""
        with self._reading() as database:
            period = _period(since, until)
            return self._nth_newest(database, Request.created_at, period, number + 1) is not None

    def figures(
        self,
        since: float = 0.0,
        *,
        until: float | None = None,
        values: Mapping[str, str] = MappingProxyType({}),
        text: str = "",
        seconds: int = HOUR_SECONDS,
        distributions: bool = True,
        search_limit: int | None = None,
    ) -> RowFigures:
        """Totals and distributions of the requests that `newest` would list.

        Args:
            seconds: the length of the steps of a series.
            distributions: whether to compute them, which takes most of the time.
            search_limit: the number of newest requests of the period that are read, by default
                `FIGURE_ROWS`, or `KEY_FIGURE_ROWS` of an API key's.
        """
        if search_limit is None:
            search_limit = KEY_FIGURE_ROWS if values.get("client_key_hash") else FIGURE_ROWS
        filters = _filters(values, text)
        rollup = Rollup(seconds=seconds, distributions=distributions)
        columns = [getattr(Request, name) for name in COLUMNS]
        with self._reading() as database:
            period = _period(since, until, values)
            oldest = self._nth_newest(database, Request.created_at, period, search_limit)
            since = since if oldest is None else oldest
            period = _period(since, until, values)
            # Raw rows of the driver: peewee would convert each of a million values.
            for row in database.execute(Request.select(*columns).where(period, *filters)):
                rollup.add_values(tuple(row))
        return RowFigures.of(
            rollup,
            searched=None if oldest is None else search_limit,
            searched_since=since,
            clock=self.clock,
        )

    def export(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """All requests since a time (UNIX seconds), oldest first, as `find` returns them."""
        order = (Request.created_at, Request.id)
        rest: Any = Request.created_at >= since
        with self._reading() as database:
            while True:
                # In pages: PostgreSQL's driver would hold a whole result in memory.
                query = Request.select().where(rest).order_by(*order).limit(_ROWS_AT_ONCE)
                batch = list(query.dicts().execute(database))
                yield from _add_opinions(database, batch)
                if len(batch) < _ROWS_AT_ONCE:
                    return
                at, request_id = batch[-1]["created_at"], batch[-1]["id"]
                rest = (Request.created_at >= at) & _beyond(
                    Request.created_at, (at, request_id), ascending=True
                )


def _newest_errors(
    database: peewee.Database, ending: Ending, period: Any, limit: int
) -> list[ErrorRow]:
    """The newest rows with an ending, by the partial index of those that are not ok."""
    columns = [getattr(Request, name) for name in ErrorRow._fields]
    query = (
        Request.select(*columns)
        # A literal: an index is chosen before the parameters are known.
        .where(peewee.SQL("ending <> 'ok'"), Request.ending == ending, period)
        .order_by(Request.created_at.desc())
        .limit(limit)
    )
    return [ErrorRow(*row) for row in query.tuples().execute(database)]


def _reversed_time(row: ErrorRow) -> float:
    return -row.created_at


def _period(
    since: float, until: float | None, values: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """The rows that a search reads: of a period, and of an API key, for which there is an index."""
    condition = Request.created_at >= since
    if key_hash := values.get("client_key_hash"):
        condition &= Request.client_key_hash == key_hash
    return condition if until is None else condition & (Request.created_at < until)


def _filters(values: Mapping[str, str], text: str) -> list[Any]:
    filters: list[Any] = [
        getattr(Request, name).is_null() if not value else getattr(Request, name) == value
        for name, value in values.items()
        if name != "client_key_hash" or not value  # `_period` has the key
    ]
    if text:
        # The prompt column holds JSON: escape the text in the same manner.
        escaped = msgspec.json.encode(storable(text)).decode()[1:-1]
        filters.append(Request.id.startswith(storable(text)) | Request.prompt.contains(escaped))
    return filters


def _sort_key(sort: Sort, *, ascending: bool) -> Any:
    if sort == "time":
        return Request.created_at
    columns = {
        "cost": Request.cost_usd,
        "duration": Request.duration_ms,
        "tokens": Request.input_tokens + peewee.fn.COALESCE(Request.output_tokens, 0),
        "score": Request.score,
    }
    return peewee.fn.COALESCE(columns[sort], _LAST_ASCENDING if ascending else _LAST_DESCENDING)


def _beyond(key: Any, cursor: tuple[float, str], *, ascending: bool) -> Any:
    """The rows after a cursor, in the order of the list."""
    value, request_id = cursor
    same = key == value
    if ascending:
        return (key > value) | (same & (Request.id > storable(request_id)))
    return (key < value) | (same & (Request.id < storable(request_id)))


def parse_turns(prompt: str | None) -> list[tuple[str, str]] | None:
    """The (role, text) turns of a stored prompt; None if it is a hash or was not stored."""
    if prompt is None:
        return None
    try:
        messages = msgspec.json.decode(prompt, type=list[dict[str, str]])
    except msgspec.DecodeError:
        return None
    return [(message["role"], message["content"]) for message in messages]


def _add_opinions(database: peewee.Database, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add judgements and feedback to rows, and parse their prompts and evidence."""
    if not rows:
        return []
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row["streamed"] = bool(row["streamed"])
        if row["own_threshold"] is not None:
            row["own_threshold"] = bool(row["own_threshold"])
        turns = parse_turns(row["prompt"])
        if turns is not None:
            row["prompt"] = [{"role": role, "content": text} for role, text in turns]
        evidence = Evidence.from_json(row["evidence"])
        row["evidence"] = None if evidence is None else evidence.to_dict()
        row["judgements"], row["feedback"] = [], None
    for table in (Judgement, Feedback):
        query = table.select().where(table.request_id.in_(list(by_id)))
        for opinion in query.dicts().execute(database):
            row = by_id[opinion.pop("request_id")]
            opinion.pop("id", None)
            if table is Judgement:
                row["judgements"].append(opinion)
            else:
                row["feedback"] = opinion
    return rows


def excerpt(prompt: str | None) -> str | None:
    """The beginning of the last user message of a stored prompt."""
    turns = parse_turns(prompt)
    if not turns:
        return None
    text = next((text for role, text in reversed(turns) if role == "user"), turns[-1][1])
    return _shorten(text)


def _shorten(text: str) -> str:
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"
