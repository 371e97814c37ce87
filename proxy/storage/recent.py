"""The newest routed requests, for previews of other settings. `request_log` lists all requests.

Every query reads a bounded number of rows, from the end of an index.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import peewee

from proxy.record import Reason
from proxy.storage.read_only import Queries
from proxy.storage.request_log import excerpt, parse_turns
from proxy.storage.tables import Request

MAX_SCORED: Final = 5_000
MAX_ROUTED: Final = 1_000
# A longer prompt is not read: a preview of rules loads many of them.
MAX_PROMPT_CHARS: Final = 200_000
_ROWS_AT_ONCE: Final = 100
_SEARCHED_PER_ROW: Final = 5  # of all requests, for those that rules apply to
# Requests that a rule can move: the client chose no tier, and either tier could have answered.
_BY_POLICY: Final = (
    Reason.SCORE, Reason.EXPLORATION, Reason.RULE, Reason.OUT_OF_DOMAIN, Reason.HOUSEKEEPING,
    Reason.STICKY,
)  # fmt: skip


class ScoredRequest(NamedTuple):
    """A request whose tier the score and the configured threshold decided.

    Attributes:
        cloud_cost_usd: the actual or hypothetical cost of the cloud's answer.
    """

    id: str
    created_at: float
    target: str
    score: float | None
    merit: float
    category: str | None
    cost_usd: float | None
    cloud_cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    upstream_ms: float | None
    streamed: bool
    verified_merit: float | None
    second_look_ms: float | None


class RoutedRequest(NamedTuple):
    """A request that rules apply to.

    Attributes:
        turns: of the prompt; None if no readable prompt is stored, or a very long one.
        own_threshold: whether the request had a threshold of its own, or one of a rule.
    """

    id: str
    created_at: float
    target: str
    reason: str
    score: float | None
    merit: float | None
    threshold: float | None
    category: str | None
    cost_usd: float | None
    cloud_cost_usd: float | None
    input_tokens: int | None
    output_tokens: int | None
    client_key_hash: str | None
    rule: str | None
    own_threshold: bool
    turns: list[tuple[str, str]] | None


class RecentRequests(Queries):
    """The newest requests of one database. All methods block: call them in a thread."""

    def scored(self, *, limit: int = MAX_SCORED) -> list[ScoredRequest]:
        """The requests by score and the configured threshold, among the newest `limit` by score."""
        columns = [getattr(Request, name) for name in ScoredRequest._fields]
        own = (Request.rule, Request.own_threshold, Request.requested_model)
        query = (
            Request.select(*columns, *own)
            .where(Request.reason == Reason.SCORE)
            .order_by(Request.created_at.desc())
            .limit(limit)
        )
        with self._reading() as database:
            rows = list(query.tuples().execute(database))
        return [
            ScoredRequest._make(row)
            for *row, rule, has_own, model in rows
            if row[2] is not None and row[4] is not None and not _has_own(rule, has_own, model)
        ]

    def routed(self, *, limit: int = MAX_ROUTED) -> Iterator[RoutedRequest]:
        """The newest requests that rules apply to, newest first. Reads a few prompts at a time."""
        names = RoutedRequest._fields[:-2]
        short = peewee.Case(
            None, ((peewee.fn.LENGTH(Request.prompt) <= MAX_PROMPT_CHARS, Request.prompt),)
        )
        latest = (
            Request.select(Request.id, Request.reason, Request.target, Request.created_at)
            .order_by(Request.created_at.desc())
            .limit(limit * _SEARCHED_PER_ROW)
            .alias("latest")
        )
        newest = (
            latest.select_from(latest.c.id)
            .where(latest.c.reason.in_(_BY_POLICY), latest.c.target.is_null(False))
            .order_by(latest.c.created_at.desc())
            .limit(limit)
        )
        with self._reading() as database:
            ids = [key for (key,) in newest.tuples().execute(database)]
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            query = (
                Request.select(
                    *(getattr(Request, name) for name in names),
                    Request.own_threshold,
                    Request.requested_model,
                    short,
                )
                .where(Request.id.in_(ids[start : start + _ROWS_AT_ONCE]))
                .order_by(Request.created_at.desc())
            )
            with self._reading() as database:
                rows = list(query.tuples().execute(database))
            for *row, has_own, model, prompt in rows:
                own = _has_own(row[-1], has_own, model)
                yield RoutedRequest._make((*row, own, parse_turns(prompt)))

    def excerpts(self, ids: Sequence[str]) -> dict[str, str | None]:
        """The beginnings of the last user messages of a few requests."""
        query = Request.select(Request.id, Request.prompt).where(Request.id.in_(list(ids)))
        with self._reading() as database:
            return {key: excerpt(prompt) for key, prompt in query.tuples().execute(database)}


def _has_own(rule: str | None, has_own: bool | None, model: str | None) -> bool:
    """Whether a request was compared with another threshold than the configured one."""
    return bool(has_own) or rule is not None or (model or "").lower().startswith("auto:")
