"""Statistics and requests as JSON, for the dashboard and for scripts: /api/stats and others.

They cover the requests of all clients, so they need an admin key. A client may read its own
requests.

Queries read rollups or are bounded, so a page is fast with a million rows. Judge scores take
longer: they have a separate endpoint, and its results are cached.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from proxy.auth import ApiKeys, Principal, is_admin
from proxy.errors import NotFound, Unavailable
from proxy.evaluation import QualityQueries
from proxy.evaluation.explain import explain, plain_drift, plain_estimates
from proxy.evaluation.timeline import phases
from proxy.gateway import Gateway, Snapshot
from proxy.learning import LearningRecords, read_state
from proxy.record import DAY_SECONDS
from proxy.storage import (
    ErrorGroup,
    RequestLog,
    RequestPage,
    RequestQueries,
    StoreUnavailable,
    Totals,
    retry_until_written,
)
from proxy.web.blocking import ask
from proxy.web.dashboard_query import (
    FigureSource,
    Filters,
    Period,
    find_sources,
    format_cursor,
    read_cursor,
    read_filters,
    read_limit,
    read_period,
    read_sort,
)
from proxy.web.headline import headline, month_quality
from proxy.web.key_directory import with_key_names
from proxy.web.request_csv import MAX_CSV_ROWS, csv_header, csv_rows
from proxy.web.timed_cache import CACHE_SECONDS, TimedCache
from router_model.drift import Drift
from router_model.manifest import Manifest

CSV_ROWS_AT_ONCE: Final = 2_000
STEP_NAMES: Final = {60: "minute", 300: "5 minutes", 3_600: "hour", 86_400: "day"}
Headers = Mapping[str, str]
# Reads a page from its length and the cursor before it.
ReadPage = Callable[[int, tuple[float, str] | None], RequestPage]


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
        query = request.query_params
        period, filters = read_period(query), read_filters(query)
        payload = await ask(lambda: overview(requests, log, period, filters))
        current_drift = drift()
        return Response(
            {
                **period.to_dict(),
                "threshold": gateway.paced_threshold(gateway.snapshot),
                "tiers": _tiers(gateway.snapshot),
                "drift": None if current_drift is None else plain_drift(current_drift),
                **payload,
            }
        )

    @get("/api/quality")
    async def show_quality(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        period = read_period(request.query_params)
        payload = await cache.get(
            ("quality", period.cache_key), lambda: ask(lambda: judged(quality, period))
        )
        return Response({**period.to_dict(), **payload})

    @get("/api/headline")
    async def show_headline(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        now = time.time()
        payload = await ask(lambda: headline(requests, now))
        estimates = await cache.get(
            ("headline", payload["month"]), lambda: ask(lambda: month_quality(quality, now))
        )
        return Response({**payload, "quality": estimates})

    @get("/api/learning")
    async def show_learning(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        config, current = gateway.snapshot.config, manifest()
        payload = await cache.get(
            ("learning", id(gateway.snapshot)),
            lambda: ask(lambda: read_state(learning, manifest=current, config=config)),
        )
        return Response(payload)

    @get("/api/requests")
    async def list_requests(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        query = request.query_params
        read_page = _page_reader(log, query)
        limit, before = read_limit(query.get("limit", "50")), read_cursor(query.get("before"))
        page = await ask(lambda: read_page(limit, before))
        return Response(_page(page, gateway.snapshot.keys))

    @get("/api/requests.csv")
    async def export_requests(request: Request[Any, Any, Any]) -> Stream:
        _admit(gateway, request)
        read_page = _page_reader(log, request.query_params)
        # The first page before the headers, so that a failure has its status.
        first = await ask(lambda: read_page(CSV_ROWS_AT_ONCE, None))
        return Stream(
            _stream_csv(first, read_page),
            media_type="text/csv",
            headers={"content-disposition": 'attachment; filename="requests.csv"'},
        )

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
                "has_body": await ask(lambda: log.has_body(request_id)),
            }
        )

    @get("/api/requests/{request_id:str}/body")
    async def show_body(
        request: Request[Any, Any, Any], request_id: FromPath[str]
    ) -> Response[dict[str, Any]]:
        client = gateway.snapshot.keys.authenticate(tuple(request.scope["headers"]))
        row = await ask(lambda: log.find(request_id))
        if row is None or not _may_see(client, row):
            raise _unknown_request(request_id)
        body = await ask(lambda: log.find_body(request_id))
        if body is None:
            raise NotFound(
                "The JSON of this request is not stored (storage.bodies).", code="body_not_stored"
            )
        return Response(body._asdict())

    @get("/api/errors")
    async def list_errors(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        period = read_period(request.query_params)
        payload = await cache.get(
            ("errors", period.cache_key), lambda: ask(lambda: errors(log, requests, period))
        )
        return Response({**period.to_dict(), **payload})

    return [
        show_stats, show_quality, show_headline, show_learning, list_requests, export_requests,
        show_request, show_body, list_errors,
    ]  # fmt: skip


# --- Answers ---


def overview(
    requests: RequestQueries, log: RequestLog, period: Period, filters: Filters
) -> dict[str, Any]:
    """Requests, cost and latency of the requests that match the filters."""
    totals, details = find_sources(requests, log, period, filters)
    scope, detail = totals.scope, details.scope
    total, groups = totals.queries.totals_by_each(("target", "reason", "model", "ending"), **scope)
    step = period.step_seconds
    before = _total_before(totals, log, period, filters)
    return {
        "total": total._asdict(),
        "before": None if before is None else before._asdict(),
        "basis": {
            "totals": totals.basis,
            "details": details.basis,
            "searched": details.searched,
            "searched_since": details.searched_since if details.searched else None,
        },
        "step": STEP_NAMES[step],
        "step_seconds": step,
        "series": [
            {"begins": begins, "target": target, **_money(sums)}
            for begins, target, sums in totals.queries.series(
                **scope, step="day" if step == DAY_SECONDS else "hour"
            )
        ],
        "categories": [
            {"category": category, "target": target, **_money(sums)}
            for category, target, sums in totals.queries.totals_by_category(**scope)
        ],
        "by": {
            name: [{"value": value, **_money(sums)} for value, sums in values]
            for name, values in groups.items()
        },
        "latency": [item._asdict() for item in details.queries.quantiles(**detail, together=True)],
        "scores": details.queries.score_counts(**detail),
        "merits": [bucket.requests for bucket in details.queries.merit_histogram(**detail)],
    }


def errors(log: RequestLog, requests: RequestQueries, period: Period) -> dict[str, Any]:
    """The errors by cause, each with its share of the requests of the same time."""
    found = log.errors(period.since, until=period.until)

    def group(groups: Sequence[ErrorGroup], first_at: float | None) -> dict[str, Any]:
        counted = period if first_at is None else period._replace(since=first_at)
        hours = counted.in_full_hours()
        total = requests.total(hours.since, until=hours.until).requests
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


def _total_before(
    totals: FigureSource, log: RequestLog, period: Period, filters: Filters
) -> Totals | None:
    """The totals of the period before, of the same length; None if they are not known."""
    seconds = period.seconds
    if seconds is None or totals.searched is not None:
        return None
    if totals.basis == "hours":
        since = totals.since - seconds
        return totals.queries.total(since, until=totals.since, values=totals.values)
    rows = log.figures(
        max(0.0, period.since - seconds), until=period.since, values=filters.values,
        text=filters.text, distributions=False,
    )  # fmt: skip
    return rows.total() if rows.searched is None else None


def judged(quality: QualityQueries, period: Period) -> dict[str, Any]:
    """Answer quality from the judge scores."""
    since, until = period.since, period.until
    grades = quality.grades_by_category(since, until=until)
    return {
        "estimates": plain_estimates(quality.quality(since, until=until)),
        "categories": [item._asdict() for item in grades],
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
    rows = with_key_names(page.rows, keys)
    return {"requests": rows, "more": format_cursor(page.more), "searched": page.searched}


def _page_reader(log: RequestLog, query: Mapping[str, str]) -> ReadPage:
    """A blocking reader of the pages of the list that a query names."""
    period, filters = read_period(query, default="all"), read_filters(query)
    sort, ascending = read_sort(query)
    return lambda limit, before: log.newest(
        period.since, until=period.until, limit=limit, before=before,
        values=filters.values, text=filters.text, sort=sort, ascending=ascending,
    )  # fmt: skip


async def _stream_csv(page: RequestPage, read_page: ReadPage) -> AsyncIterator[bytes]:
    yield csv_header()
    rows_left = MAX_CSV_ROWS
    while True:
        yield csv_rows(page.rows[:rows_left])
        rows_left -= len(page.rows)
        before = page.more
        if before is None or rows_left <= 0:
            return
        page = await asyncio.to_thread(read_page, CSV_ROWS_AT_ONCE, before)


# --- Access and errors ---


def _admit(gateway: Gateway, request: Request[Any, Any, Any]) -> None:
    gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))


def _unknown_request(request_id: str) -> NotFound:
    return NotFound(f"The request '{request_id}' does not exist.", param="request_id")


def _may_see(client: Principal | None, row: dict[str, Any]) -> bool:
    if client is None or is_admin(client):
        return True
    return bool(row["client_key_hash"] == client.key_hash)
