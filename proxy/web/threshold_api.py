"""The threshold as JSON, for its card on the dashboard: /api/pareto and /api/threshold.

Admins only.

GET  /api/pareto               cost and quality of each threshold
GET  /api/threshold            the threshold in use, the file with it, and its last change
GET  /api/threshold/preview    the recent requests that another threshold would move
POST /api/routing/preview      the same for other rules and another band of the second look
POST /api/threshold/apply      change the threshold in the file; with `dry_run` only show the diff
POST /api/threshold/undo       restore the value before the last change

A change is answered after the proxy has reloaded the file (`threshold_setting`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from proxy.budget import TokenCounter
from proxy.config_file import format_threshold
from proxy.errors import InvalidRequest
from proxy.evaluation import QualityQueries
from proxy.gateway import Gateway
from proxy.protocol import read_request
from proxy.routing import read_share
from proxy.storage import AuditLog, MeritBucket, RecentRequests, RequestLog, RequestQueries
from proxy.web.blocking import ask
from proxy.web.curve import pareto
from proxy.web.dashboard_query import Filters, Period, find_sources, read_period
from proxy.web.previews import PreviewRequest, Previews, Unit
from proxy.web.small_bodies import read_json_body
from proxy.web.threshold_setting import APPLY, UNDO, ReloadFile, ThresholdSetting
from proxy.web.timed_cache import CACHE_SECONDS, TimedCache
from router_model.manifest import Manifest

MAX_BODY_BYTES: Final = 64 * 1024  # rules are the longest

_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    threshold: Unit | Literal["auto"]
    sha256: _Hash = ""  # needed without `dry_run`
    dry_run: bool = False


class _Undo(msgspec.Struct, forbid_unknown_fields=True):
    sha256: _Hash


_change = msgspec.json.Decoder(_Change)
_undo = msgspec.json.Decoder(_Undo)
_preview = msgspec.json.Decoder(PreviewRequest)


def routes(
    gateway: Gateway,
    requests: RequestQueries,
    *,
    manifest: Callable[[], Manifest | None],
    tokens: TokenCounter,
    path: Path | None,
    reload: ReloadFile,
    body_seconds: float,
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        manifest: of the router model in use.
        path: the configuration file; None if the proxy was started without one.
        reload: applies the file; returns why the proxy refused it, or None.
        body_seconds: how long a client may take to send a body.
    """
    cache = TimedCache(CACHE_SECONDS)
    quality, log = QualityQueries.sharing(requests), RequestLog.sharing(requests)
    previews = Previews(gateway, RecentRequests.sharing(requests), quality, tokens)
    setting = ThresholdSetting(gateway, AuditLog.sharing(requests), path=path, reload=reload)

    @get("/api/pareto")
    async def show_pareto(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        period = read_period(request.query_params)
        pairs = await cache.get(
            ("pairs", period.cache_key),
            lambda: ask(lambda: quality.weighted_pairs(period.since, until=period.until)),
        )
        scored = await ask(lambda: _merits(requests, log, period))
        current = gateway.paced_threshold(gateway.snapshot)
        return Response({**period.to_dict(), **pareto(scored, pairs, manifest(), current)})

    @get("/api/threshold")
    async def show_threshold(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        return Response(await setting.describe())

    @get("/api/threshold/preview")
    async def show_preview(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        text = request.query_params.get("threshold", "")
        threshold = read_share(text, name="threshold", param="threshold")
        return Response(await previews.threshold(threshold))

    @post("/api/routing/preview", status_code=200)
    async def preview(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        body = await read_json_body(request, seconds=body_seconds, max_bytes=MAX_BODY_BYTES)
        return Response(await previews.settings(read_request(_preview, body)))

    @post("/api/threshold/apply", status_code=200)
    async def change(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        actor = _admit(gateway, request)
        body = read_request(
            _change,
            await read_json_body(request, seconds=body_seconds, max_bytes=MAX_BODY_BYTES),
        )
        value = body.threshold if body.threshold == "auto" else format_threshold(body.threshold)
        if body.dry_run:
            return Response((await setting.plan(value)).to_dict())
        if not body.sha256:
            raise InvalidRequest(
                "'sha256' is required: the hash of the file that the diff was made for.",
                param="sha256",
            )
        return Response(await setting.apply(value, body.sha256, actor=actor, action=APPLY))

    @post("/api/threshold/undo", status_code=200)
    async def undo(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        actor = _admit(gateway, request)
        body = read_request(
            _undo, await read_json_body(request, seconds=body_seconds, max_bytes=MAX_BODY_BYTES)
        )
        value = await setting.value_before()
        return Response(await setting.apply(value, body.sha256, actor=actor, action=UNDO))

    return [show_pareto, show_threshold, show_preview, preview, change, undo]


# --- Answers ---


def _merits(requests: RequestQueries, log: RequestLog, period: Period) -> list[MeritBucket]:
    """The scored requests of a period by their merit. Blocks."""
    _, source = find_sources(requests, log, period, Filters({}, ""))
    return source.queries.merit_histogram(source.since, until=source.until)


# --- Requests ---


def _admit(gateway: Gateway, request: Request[Any, Any, Any]) -> str | None:
    """Refuse callers other than admins. Returns the hash of the admin's key."""
    client = gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
    return None if client is None else client.key_hash
