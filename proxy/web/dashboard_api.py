"""Statistics and requests as JSON, for the dashboard and for scripts: /api/stats and others.

They cover the requests of all clients, so they need an admin key. A client may read its own
requests.

Queries read rollups or are bounded, so a page is fast with a million rows. Judge scores take
longer: they have a separate endpoint, and its results are cached.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, cast

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from proxy.auth import ApiKeys, Principal, is_admin
from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.evaluation import QualityQueries
from proxy.evaluation.explain import explain, plain_drift, plain_estimates
from proxy.evaluation.timeline import phases
from proxy.gateway import Gateway, Snapshot
from proxy.learning import LearningRecords, read_state
from proxy.record import DAY_SECONDS, Ending, Reason, SecondLookResult
from proxy.storage import (
    ErrorGroup,
    RequestLog,
    RequestPage,
    RequestQueries,
    StoreUnavailable,
    Totals,
    retry_until_written,
)
from proxy.web.key_directory import with_key_names
from router_model.categories import CATEGORIES
from router_model.drift import Drift
from router_model.manifest import Manifest

# Time ranges in seconds; None is everything.
SPANS: Final[dict[str, float | None]] = {
    "24h": DAY_SECONDS, "7d": 7 * DAY_SECONDS, "30d": 30 * DAY_SECONDS, "all": None,
}  # fmt: skip
HOURLY: Final = ("24h", "7d")  # the others are daily
MAX_LISTED: Final = 200
CACHE_SECONDS: Final = 30.0  # of judge scores, which take a second to aggregate
_FILTERS: Final = {
    "target": ("local", "cloud", "none"),
    "reason": tuple(Reason),
    "ending": tuple(Ending),
    "category": (*CATEGORIES, "none"),
    "second_look": (*SecondLookResult, "none"),
}
_FORMER_VALUES: Final = {("reason", "shadow"): Reason.EXPLORATION}  # accepted for one release

# Time and id of the last request of a page.
_CURSOR: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)~([a-z0-9_]{1,40})", re.ASCII)

_KEY_HASH: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)

T = TypeVar("T")
Headers = Mapping[str, str]


class TimedCache:
    """Caches the results of slow queries. Concurrent callers share one query.

    Args:
        seconds: how long a result is valid.
        clock: seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: dict[object, tuple[float, asyncio.Task[Any]]] = {}

    async def get(self, key: object, query: Callable[[], Awaitable[T]]) -> T:
        started_at, task = self._entries.get(key, (0.0, None))
        failed = task is not None and task.done() and (task.cancelled() or task.exception())
        if task is None or failed or self._clock() - started_at > self._seconds:
            task = asyncio.ensure_future(query())
            self._entries[key] = self._clock(), task
        return cast(T, await asyncio.shield(task))


def routes(
    gateway: Gateway,
    requests: RequestQueries,
    *,
    manifest: Callable[[], Manifest | None],
    drift: Callable[[], Drift | None],
    learning: LearningRecords,
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        manifest: of the router model in use.
        drift: the last measured drift.
        learning: the steps of self-calibration.
    """
    cache = TimedCache(CACHE_SECONDS)
    log = RequestLog.sharing(requests)
    quality = QualityQueries.sharing(requests)

    @get("/api/stats")
    async def show_stats(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        span = _span(request)
        payload = await _ask(lambda: overview(requests, span))
        current_drift = drift()
        return Response(
            {
                "span": span,
                "threshold": gateway.paced_threshold(gateway.snapshot),
                "tiers": _tiers(gateway.snapshot),
                "drift": None if current_drift is None else plain_drift(current_drift),
                **payload,
            }
        )

    @get("/api/quality")
    async def show_quality(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        span = _span(request)
        payload = await cache.get(("quality", span), lambda: _ask(lambda: judged(quality, span)))
        return Response({"span": span, **payload})

    @get("/api/learning")
    async def show_learning(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        config, current = gateway.snapshot.config, manifest()
        payload = await cache.get(
            ("learning", id(gateway.snapshot)),
            lambda: _ask(lambda: read_state(learning, manifest=current, config=config)),
        )
        return Response(payload)

    @get("/api/requests")
    async def list_requests(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        query = request.query_params
        span = _span(request, default="all")
        page = await _ask(
            lambda: log.newest(
                _since(span),
                limit=_limit(query.get("limit", "50")),
                before=_cursor(query.get("before")),
                key_hash=_key(query),
                values=_values(query),
                text=query.get("search", "").strip(),
            )
        )
        return Response(_page(page, gateway.snapshot.keys))

    @get("/api/requests/{request_id:str}")
    async def show_request(
        request: Request[Any, Any, Any], request_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        client = gateway.snapshot.keys.authenticate(tuple(request.scope["headers"]))
        try:
            row = await retry_until_written(lambda: log.find(request_id))
        except StoreUnavailable as error:
            raise Unavailable(str(error)) from None
        if row is None or not _may_see(client, row):
            raise _unknown_request(request_id)
        (row,) = with_key_names([row], gateway.snapshot.keys)
        return Response(
            row
            | {
                "explanation": explain(row).splitlines(),
                "timeline": [phase._asdict() for phase in phases(row)],
                "has_body": await _ask(lambda: log.has_body(request_id)),
            }
        )

    @get("/api/requests/{request_id:str}/body")
    async def show_body(
        request: Request[Any, Any, Any], request_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        client = gateway.snapshot.keys.authenticate(tuple(request.scope["headers"]))
        row = await _ask(lambda: log.find(request_id))
        if row is None or not _may_see(client, row):
            raise _unknown_request(request_id)
        body = await _ask(lambda: log.find_body(request_id))
        if body is None:
            raise NotFound(
                "The JSON of this request is not stored (storage.bodies).", code="body_not_stored"
            )
        return Response(body._asdict())

    @get("/api/errors")
    async def list_errors(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        span = _span(request)
        payload = await cache.get(
            ("errors", span), lambda: _ask(lambda: errors(log, requests, span))
        )
        return Response({"span": span, **payload})

    return [
        show_stats, show_quality, show_learning, list_requests, show_request, show_body,
        list_errors,
    ]  # fmt: skip


# --- Answers ---


def overview(requests: RequestQueries, span: str) -> dict[str, Any]:
    """Requests, cost and latency from the hourly rollups."""
    since = _since(span)
    step: Literal["hour", "day"] = "hour" if span in HOURLY else "day"
    total, groups = requests.totals_by_each(("target", "reason", "model", "ending"), since)
    seconds = SPANS[span]
    before = requests.total(since - seconds, until=since) if seconds is not None else None
    return {
        "total": total._asdict(),
        "before": None if before is None else before._asdict(),
        "step": step,
        "series": [
            {"begins": begins, "target": target, **_money(sums)}
            for begins, target, sums in requests.series(since, step=step)
        ],
        "categories": [
            {"category": category, "target": target, **_money(sums)}
            for category, target, sums in requests.totals_by_category(since)
        ],
        "by": {
            name: [{"value": value, **_money(sums)} for value, sums in values]
            for name, values in groups.items()
        },
        "latency": [item._asdict() for item in requests.quantiles(since, together=True)],
        "scores": requests.score_counts(since),
        "merits": [bucket.requests for bucket in requests.merit_histogram(since)],
    }


def errors(log: RequestLog, requests: RequestQueries, span: str) -> dict[str, Any]:
    """The errors by cause, each with its share of the requests of the same time."""
    since = _since(span)
    found = log.errors(since)

    def group(groups: Sequence[ErrorGroup], first_at: float | None) -> dict[str, Any]:
        total = requests.total(since if first_at is None else first_at).requests
        return {
            "groups": [
                {**item._asdict(), "share": min(1.0, item.requests / total) if total else 0.0}
                for item in groups
            ],
            "errors": sum(item.requests for item in groups),
            "requests": total,
            "since": first_at,
        }

    return {
        "failures": group(found.failures, found.failures_since),
        "refusals": group(found.refusals, found.refusals_since),
    }


def judged(quality: QualityQueries, span: str) -> dict[str, Any]:
    """Answer quality from the judge scores."""
    since = _since(span)
    return {
        "estimates": plain_estimates(quality.quality(since)),
        "categories": [item._asdict() for item in quality.grades_by_category(since)],
    }


def _money(sums: Totals) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "answered": sums.answered,
        "answered_locally": sums.answered_locally,
        "failed": sums.failed,
        "refused": sums.refused,
        "cancelled": sums.cancelled,
        "cost_usd": sums.cost_usd,
        "cloud_cost_usd": sums.cloud_cost_usd,
        "saved_usd": sums.saved_usd,
    }


def _tiers(snapshot: Snapshot) -> dict[str, Any]:
    """The state of the tiers. `is_up` is null while it is not known."""
    return {
        target.value: {
            "model": tier.model,
            "is_up": tier.up,
            "problem": tier.problem,
            "since": tier.since,
            "in_flight": tier.count_in_flight(),
            "waiting": tier.queued,
        }
        for target, tier in snapshot.upstreams.items()
    }


def _page(page: RequestPage, keys: ApiKeys) -> dict[str, Any]:
    more = None if page.more is None else f"{page.more[0]!r}~{page.more[1]}"
    rows = with_key_names(page.rows, keys)
    return {"requests": rows, "more": more, "searched": page.searched}


# --- Query parameters ---


def _admit(gateway: Gateway, request: Request[Any, Any, Any]) -> None:
    gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))


def _span(request: Request[Any, Any, Any], *, default: str = "24h") -> str:
    span = request.query_params.get("since", default)
    if span not in SPANS:
        raise InvalidRequest(
            f"Invalid value for 'since': '{span}' is not one of {', '.join(SPANS)}.", param="since"
        )
    return span


def _since(span: str) -> float:
    seconds = SPANS[span]
    return 0.0 if seconds is None else time.time() - seconds


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= MAX_LISTED:
        raise InvalidRequest(
            f"Invalid value for 'limit': '{text}' is not a number from 1 to {MAX_LISTED}.",
            param="limit",
        )
    return int(text)


def _cursor(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    if (match := _CURSOR.fullmatch(text)) is None:
        raise InvalidRequest(
            "Invalid value for 'before': use the value of 'more' from the previous page.",
            param="before",
        )
    return float(match[1]), match[2]


def _key(query: Mapping[str, str]) -> str | None:
    """The hash of the API key whose requests are wanted; None for all."""
    value = query.get("key")
    if value is None or value == "none":  # `none`: see `_values`
        return None
    if _KEY_HASH.fullmatch(value) is None:
        raise InvalidRequest(
            "Invalid value for 'key': use the key_hash of a key in /api/keys, or 'none'.",
            param="key",
        )
    return value


def _values(query: Mapping[str, str]) -> dict[str, str]:
    """Column filters from the query; `none` selects rows without a value."""
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
    for name in ("model", "error_code"):
        if value := query.get(name, ""):
            values[name] = value
    if query.get("key") == "none":
        values["client_key_hash"] = ""
    return values


async def _ask(query: Callable[[], T]) -> T:
    """Run a blocking query in a thread. Raises Unavailable."""
    try:
        return await asyncio.to_thread(query)
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None


def _unknown_request(request_id: str) -> NotFound:
    return NotFound(f"The request '{request_id}' does not exist.", param="request_id")


def _may_see(client: Principal | None, row: dict[str, Any]) -> bool:
    if client is None or is_admin(client):
        return True
    return bool(row["client_key_hash"] == client.key_hash)
