"""What clients and operators ask about the proxy itself: its models, its health, its metrics."""

import asyncio
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from proxy.errors import NotFound
from proxy.gateway import Gateway, Snapshot
from proxy.metrics import Metrics
from proxy.protocol import view_models
from proxy.record import Target, new_request_id
from proxy.store import Store

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OWNER: Final = "hybrid-llm-router"


def routes(gateway: Gateway, store: Store, metrics: Metrics) -> list[ControllerRouterHandler]:
    """The handlers, bound to what they report on."""

    @get("/v1/models", name="models")
    async def list_models(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        _check_key(gateway.snapshot, request)
        models = await collect_models(gateway.snapshot)
        data = [_entry(model_id, owner) for model_id, owner in models.items()]
        return Response({"object": "list", "data": data}, headers=_request_id())

    @get("/v1/models/{model_id:path}", name="model")
    async def show_model(
        request: Request[Any, Any, Any], model_id: FromPath[str]
    ) -> Response[dict[str, str | int]]:
        _check_key(gateway.snapshot, request)
        wanted = model_id.removeprefix("/")
        models = await collect_models(gateway.snapshot)
        if wanted not in models:
            raise NotFound(
                f"The model '{wanted}' does not exist here.", param="model", code="model_not_found"
            )
        return Response(_entry(wanted, models[wanted]), headers=_request_id())

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/ready")
    async def ready() -> Response[dict[str, object]]:
        parts, is_ready = await check_parts(gateway.snapshot, store)
        status = "ready" if is_ready else "unavailable"
        return Response({"status": status, "parts": parts}, status_code=200 if is_ready else 503)

    @get("/metrics")
    async def expose_metrics() -> Response[bytes]:
        return Response(metrics.expose(), media_type=METRICS_TYPE)

    return [list_models, show_model, health, ready, expose_metrics]


async def collect_models(snapshot: Snapshot) -> dict[str, str]:
    """Every model name a client may send, with its owner: ours, the tiers' own, and theirs."""
    bodies = await asyncio.gather(*(snapshot.upstreams[target].fetch_models() for target in Target))
    models = dict.fromkeys(("auto", "local", "cloud"), OWNER)
    for target, body in zip(Target, bodies, strict=True):
        models.setdefault(snapshot.upstreams[target].model, target.value)
        for model_id in view_models(body or b"") or ():
            models.setdefault(model_id, target.value)
    return models


async def check_parts(snapshot: Snapshot, store: Store) -> tuple[dict[str, object], bool]:
    """Each part's state, and whether requests can be answered: that takes one tier that is up.

    Without the router model or the database requests are still answered, so neither makes the
    proxy unready; their state says `missing` or `failing`.
    """
    targets = list(Target)
    up = await asyncio.gather(*(snapshot.upstreams[target].probe() for target in targets))
    parts: dict[str, object] = {
        "router_model": snapshot.model_version or "missing",
        "upstreams": {
            target.value: {
                "status": "up" if is_up else "down",
                "model": snapshot.upstreams[target].model,
            }
            for target, is_up in zip(targets, up, strict=True)
        },
        "database": "ok" if store.healthy else "failing",
    }
    return parts, any(up)


def _entry(model_id: str, owner: str) -> dict[str, str | int]:
    """One model as OpenAI's clients parse it; `created` is not known and therefore 0."""
    return {"id": model_id, "object": "model", "created": 0, "owned_by": owner}


def _check_key(snapshot: Snapshot, request: Request[Any, Any, Any]) -> None:
    authorization = request.headers.get("authorization")
    snapshot.keys.check(authorization.encode("latin-1") if authorization else None)


def _request_id() -> dict[str, str]:
    return {"x-request-id": new_request_id()}
