"""Queries for single requests, on the rows of `requests`. `queries` reads the rollups instead.

with RequestLog.open(config.storage) as log:
    row = log.find("req_019300000000abcdef")
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
import peewee

from proxy.storage.database import storable
from proxy.storage.read_only import Queries
from proxy.storage.tables import Feedback, Judgement, Request
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


class RequestLog(Queries):
    """The requests on record: one, a page, or all of them. All methods block."""

    def find(self, request_id: str) -> dict[str, Any] | None:
        """One request with its judgements and feedback; None if it is not on record.

        `prompt` is a list of turns if the text is stored. `evidence` is a mapping
        (`router_model.evidence`), or None.
        """
        with self._reading() as database:
            return next(self._rows(database, Request.id == storable(request_id)), None)

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
            row["prompt"] = _excerpt(row["prompt"])
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


def _excerpt(prompt: str | None) -> str | None:
    """The beginning of the last user message."""
    turns = parse_turns(prompt)
    if not turns:
        return None
    text = next((text for role, text in reversed(turns) if role == "user"), turns[-1][1])
    return text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"
