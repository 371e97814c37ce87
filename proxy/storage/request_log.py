"""Queries for single requests, on the rows of `requests`. `queries` reads the rollups instead.

with RequestLog.open(config.storage) as log:
    row = log.find("req_019300000000abcdef")
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import peewee

from proxy.record import Ending
from proxy.storage.database import storable
from proxy.storage.error_groups import ErrorGroup, ErrorRow, group_errors
from proxy.storage.read_only import Queries
from proxy.storage.tables import Body, Feedback, Judgement, Request
from router_model.evidence import Evidence

# The columns of a page of requests: without the texts, which `find` returns.
LIST_COLUMNS: Final = (
    "id", "created_at", "endpoint", "requested_model", "target", "model", "reason", "score",
    "merit", "threshold", "status", "ending", "error_code", "streamed", "ttft_ms", "duration_ms",
    "input_tokens", "output_tokens", "cost_usd", "saved_usd", "category", "fallback_from",
    "second_look", "verified_merit", "client_key_hash", "prompt",
)  # fmt: skip
# A filtered search reads at most this many rows, so that a rare match does not take long.
SEARCH_LIMIT: Final = 50_000
ERROR_LIMIT: Final = 5_000  # of the newest errors, which are grouped
# The endings of requests that should have been answered.
FAILED_ENDINGS: Final = (
    Ending.UPSTREAM_ERROR, Ending.TIMEOUT, Ending.STOPPED, Ending.INTERNAL_ERROR,
)  # fmt: skip
EXCERPT_CHARS: Final = 160
_ROWS_AT_ONCE: Final = 500


class RequestPage(NamedTuple):
    """A page of requests, newest first.

    Attributes:
        rows: with the columns of `LIST_COLUMNS`. `prompt` is an excerpt.
        more: the cursor of the next page, for `before`; None on the last page.
        searched: the number of rows that a filtered search has read; None if it has read all.
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
        failures: of requests that should have been answered.
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
        with self._reading() as database:
            return next(self._rows(database, Request.id == storable(request_id)), None)

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

    def errors(self, since: float = 0.0, *, limit: int = ERROR_LIMIT) -> Errors:
        """The errors since a time (UNIX seconds), grouped by cause.

        Args:
            limit: the number of newest failures, and of newest refusals, that are read.
        """
        with self._reading() as database:
            read = {
                ending: _newest_errors(database, ending, since, limit)
                for ending in (*FAILED_ENDINGS, Ending.REJECTED)
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
        before: tuple[float, str] | None = None,
        key_hash: str | None = None,
        values: Mapping[str, str] = MappingProxyType({}),
        text: str = "",
        search_limit: int = SEARCH_LIMIT,
    ) -> RequestPage:
        """A page of the newest requests since a time (UNIX seconds).

        Args:
            before: only requests before this `created_at` and `id`.
            key_hash: only requests of this API key. An index finds them, without a search.
            values: required values of columns; an empty value stands for null.
            text: must occur in the prompt, or be a prefix of the id. In the prompt, ASCII letters
                match in either case.
            search_limit: the number of newest requests that a filtered search reads.
        """
        condition = Request.created_at >= since
        if key_hash is not None:
            condition &= Request.client_key_hash == key_hash
        if before is not None:
            created_at, request_id = before
            condition &= (Request.created_at < created_at) | (
                (Request.created_at == created_at) & (Request.id < storable(request_id))
            )
        order = (Request.created_at.desc(), Request.id.desc())
        filters = [
            getattr(Request, name).is_null() if not value else getattr(Request, name) == value
            for name, value in values.items()
        ]
        if text:
            # The prompt column holds JSON: escape the text in the same manner.
            escaped = msgspec.json.encode(storable(text)).decode()[1:-1]
            filters.append(Request.id.startswith(storable(text)) | Request.prompt.contains(escaped))
        last, searched = None, None
        columns = [getattr(Request, name) for name in LIST_COLUMNS]
        with self._reading() as database:
            if filters:
                keys = Request.select(Request.created_at, Request.id).where(condition)
                query = keys.order_by(*order).offset(search_limit - 1).limit(1).tuples()
                oldest = list(query.execute(database))
                if oldest:
                    (last,), searched = oldest, search_limit
                    condition &= Request.created_at >= last[0]
            page = Request.select(*columns).where(condition, *filters).order_by(*order)
            rows = list(page.limit(limit + 1).dicts().execute(database))
        if len(rows) > limit:
            rows = rows[:limit]
            last = rows[-1]["created_at"], rows[-1]["id"]
        for row in rows:
            row["streamed"] = bool(row["streamed"])
            row["prompt"] = excerpt(row["prompt"])
        return RequestPage(rows, last, searched)

    def export(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """All requests since a time (UNIX seconds), oldest first, as `find` returns them."""
        with self._reading() as database:
            yield from self._rows(database, Request.created_at >= since)

    def _rows(self, database: peewee.Database, condition: Any) -> Iterator[dict[str, Any]]:
        query = Request.select().where(condition).order_by(Request.created_at, Request.id)
        batch: list[dict[str, Any]] = []
        for row in query.dicts().bind(database).iterator():
            batch.append(row)
            if len(batch) == _ROWS_AT_ONCE:
                yield from _add_opinions(database, batch)
                batch = []
        yield from _add_opinions(database, batch)


def _newest_errors(
    database: peewee.Database, ending: Ending, since: float, limit: int
) -> list[ErrorRow]:
    """The newest rows with an ending, by the partial index of those that are not ok."""
    columns = [getattr(Request, name) for name in ErrorRow._fields]
    query = (
        Request.select(*columns)
        # A literal: an index is chosen before the parameters are known.
        .where(peewee.SQL("ending <> 'ok'"), Request.ending == ending, Request.created_at >= since)
        .order_by(Request.created_at.desc())
        .limit(limit)
    )
    return [ErrorRow(*row) for row in query.tuples().execute(database)]


def _reversed_time(row: ErrorRow) -> float:
    return -row.created_at


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
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"
