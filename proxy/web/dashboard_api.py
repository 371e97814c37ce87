"""Statistics and requests as JSON, for the dashboard and for scripts: /api/stats and others.

They cover the requests of all clients, so they need an admin key. A client may read its own
requests.

Queries read rollups or are bounded, so a page is fast with a million rows. Judge scores take
longer: they have a separate endpoint, and its results are cached.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict, TypeVar, cast

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response import Stream
from litestar.types import ControllerRouterHandler

from proxy.auth import Principal, is_admin
from proxy.errors import NotFound, Unavailable
from proxy.evaluation import MIN_PAIRS, QualityQueries, WeightedPair
from proxy.evaluation.explain import explain, plain_drift, plain_estimates
from proxy.gateway import Gateway, Snapshot
from proxy.learning import LearningRecords, read_state
from proxy.record import DAY_SECONDS
from proxy.storage import (
    MeritBucket,
    RequestLog,
    RequestPage,
    RequestQueries,
    StoreUnavailable,
    Totals,
    retry_until_written,
)
from proxy.web.dashboard_query import (
    Filters,
    Period,
    Source,
    find_sources,
    format_cursor,
    read_cursor,
    read_filters,
    read_limit,
    read_period,
    read_sort,
)
from proxy.web.headline import headline, month_quality
from proxy.web.request_csv import MAX_CSV_ROWS, csv_header, csv_rows
from router_model.drift import Drift
from router_model.manifest import Manifest, OperatingPoint

CACHE_SECONDS: Final = 30.0  # of judge scores, which take a second to aggregate
CSV_ROWS_AT_ONCE: Final = 2_000
STEP_NAMES: Final = {60: "minute", 300: "5 minutes", 3_600: "hour", 86_400: "day"}
THRESHOLDS: Final = [step / 100 for step in range(101)]
T = TypeVar("T")
Headers = Mapping[str, str]
# Reads a page from its length and the cursor before it.
ReadPage = Callable[[int, tuple[float, str] | None], RequestPage]


class Scope(TypedDict):
    """The period and the filters of a query of figures."""

    since: float
    until: float | None
    values: Mapping[str, str]


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


class ParetoPoint(NamedTuple):
    """A point of the cost-quality curve: the outcome of one threshold on recorded requests.

    `quality` is the recovered share of the quality gap between the tiers; None if unknown.
    """

    threshold: float
    cloud_share: float
    cost_usd: float
    cost_share: float
    quality: float | None


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
        payload = await _ask(lambda: overview(requests, log, period, filters))
        current_drift = drift()
        return Response(
            {
                **_period_fields(period),
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
            ("quality", _cached(period)), lambda: _ask(lambda: judged(quality, period))
        )
        return Response({**_period_fields(period), **payload})

    @get("/api/pareto")
    async def show_pareto(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        period = read_period(request.query_params)
        pairs = await cache.get(
            ("pairs", _cached(period)),
            lambda: _ask(lambda: quality.weighted_pairs(period.since, until=period.until)),
        )
        scored = await _ask(lambda: _merits(requests, log, period))
        current = gateway.paced_threshold(gateway.snapshot)
        return Response({**_period_fields(period), **pareto(scored, pairs, manifest(), current)})

    @get("/api/headline")
    async def show_headline(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        now = time.time()
        payload = await _ask(lambda: headline(requests, now))
        estimates = await cache.get(
            ("headline", payload["month"]), lambda: _ask(lambda: month_quality(quality, now))
        )
        return Response({**payload, "quality": estimates})

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
        read_page = _page_reader(log, query)
        limit, before = read_limit(query.get("limit", "50")), read_cursor(query.get("before"))
        return Response(_page(await _ask(lambda: read_page(limit, before))))

    @get("/api/requests.csv")
    async def export_requests(request: Request[Any, Any, Any]) -> Stream:
        _admit(gateway, request)
        read_page = _page_reader(log, request.query_params)
        # The first page before the headers, so that a failure has its status.
        first = await _ask(lambda: read_page(CSV_ROWS_AT_ONCE, None))
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
            raise NotFound(f"The request '{request_id}' does not exist.", param="request_id")
        return Response(row | {"explanation": explain(row).splitlines()})

    return [
        show_stats, show_quality, show_pareto, show_headline, show_learning, list_requests,
        export_requests, show_request,
    ]  # fmt: skip


# --- Answers ---


def overview(
    requests: RequestQueries, log: RequestLog, period: Period, filters: Filters
) -> dict[str, Any]:
    """Requests, cost and latency of the requests that match the filters."""
    totals, details = find_sources(requests, log, period, filters)
    scope: Scope = {"since": totals.since, "until": totals.until, "values": totals.values}
    detail: Scope = {"since": details.since, "until": details.until, "values": details.values}
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


def _total_before(
    totals: Source, log: RequestLog, period: Period, filters: Filters
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
        text=filters.text,
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


def _period_fields(period: Period) -> dict[str, Any]:
    return {"span": period.name, "since": period.since, "until": period.until}


def pareto(
    scored: Sequence[MeritBucket],
    pairs: Sequence[WeightedPair],
    manifest: Manifest | None,
    current: float,
) -> dict[str, Any]:
    """Cost and quality of each threshold on recorded requests.

    Cost is the real or estimated cloud cost; the price of the local tier, mostly 0, is left out.
    Quality comes from judged requests, or from the router model's validation data if too few are
    judged.

    Args:
        scored: one bucket per hundredth of the merit.
        pairs: judged requests with both tiers' answers.
        current: the threshold in use.
    """
    if len(pairs) >= MIN_PAIRS:
        basis, table = "judged", _recovered(pairs)
    elif manifest is not None:
        basis, table = "validation", _validated(manifest.thresholds)
    else:
        basis, table = None, [None] * len(THRESHOLDS)
    requests = sum(bucket.requests for bucket in scored)
    dollars = sum(bucket.cloud_usd for bucket in scored)
    sent, spent = 0, 0.0
    curve = []
    for index, (threshold, quality) in enumerate(zip(THRESHOLDS, table, strict=True)):
        curve.append(
            ParetoPoint(
                threshold,
                sent / requests if requests else 0.0,
                spent,
                spent / dollars if dollars else 0.0,
                quality,
            )
        )
        if index < len(scored):
            sent, spent = sent + scored[index].requests, spent + scored[index].cloud_usd
    return {
        "requests": requests,
        "all_cloud_usd": dollars,
        "basis": basis,
        "judged": len(pairs),
        "judged_needed": MIN_PAIRS,
        "threshold": current,
        "curve": [point._asdict() for point in curve],
    }


def _recovered(pairs: Sequence[WeightedPair]) -> list[float | None]:
    """The recovered share of the quality gap by threshold, from judged pairs."""
    gap = sum(pair.weight * (pair.cloud - pair.local) for pair in pairs)
    if gap <= 0:
        return [None] * len(THRESHOLDS)
    return [
        sum(pair.weight * (pair.cloud - pair.local) for pair in pairs if pair.merit < threshold)
        / gap
        for threshold in THRESHOLDS
    ]


def _validated(table: Sequence[OperatingPoint]) -> list[float | None]:
    """The same from the router model's table, with linear interpolation."""
    known = [(0.0, 0.0), *((point.threshold, point.quality_share) for point in table), (1.0, 1.0)]
    values: list[float | None] = []
    index = 0
    for threshold in THRESHOLDS:
        while index + 2 < len(known) and known[index + 1][0] < threshold:
            index += 1
        (left, low), (right, high) = known[index], known[index + 1]
        share = (threshold - left) / (right - left) if right > left else 1.0
        values.append(low + min(max(share, 0.0), 1.0) * (high - low))
    return values


def _money(sums: Totals) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "failed": sums.failed,
        "cost_usd": sums.cost_usd,
        "cloud_cost_usd": sums.cloud_cost_usd,
        "saved_usd": sums.saved_usd,
    }


def _tiers(snapshot: Snapshot) -> dict[str, Any]:
    """The state of the tiers. `is_up` is null before the first call to a tier."""
    return {
        target.value: {
            "model": tier.model,
            "is_up": tier.up,
            "problem": tier.problem,
            "in_flight": tier.count_in_flight(),
            "waiting": tier.queued,
        }
        for target, tier in snapshot.upstreams.items()
    }


def _page(page: RequestPage) -> dict[str, Any]:
    return {
        "requests": page.rows, "more": format_cursor(page.more), "searched": page.searched,
    }  # fmt: skip


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


def _merits(requests: RequestQueries, log: RequestLog, period: Period) -> list[MeritBucket]:
    _, source = find_sources(requests, log, period, Filters({}, ""))
    return source.queries.merit_histogram(source.since, until=source.until)


def _cached(period: Period) -> object:
    """The cache key of a period: a named one moves with the time."""
    return period.name or period


# --- Access and errors ---


def _admit(gateway: Gateway, request: Request[Any, Any, Any]) -> None:
    gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))


async def _ask(query: Callable[[], T]) -> T:
    """Run a blocking query in a thread. Raises Unavailable."""
    try:
        return await asyncio.to_thread(query)
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None


def _may_see(client: Principal | None, row: dict[str, Any]) -> bool:
    if client is None or is_admin(client):
        return True
    return bool(row["client_key_hash"] == client.key_hash)
