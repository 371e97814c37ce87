"""Models, feedback, judge verdicts, health, readiness, metrics and the OpenAPI document."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from proxy import __version__
from proxy.auth import is_admin
from proxy.errors import InvalidRequest, NotFound, RouterError, Unavailable
from proxy.evaluation import Judge
from proxy.gateway import Gateway, Snapshot
from proxy.metrics import Metrics
from proxy.protocol import read_request
from proxy.protocol.model_list import MODEL_TYPES
from proxy.record import OWN_NAMES, Target, new_request_id
from proxy.routing import find_local, own_name, suggest_name
from proxy.storage import Store, StoreUnavailable, retry_until_written
from proxy.upstream import Upstream
from proxy.web.model_list import list_entries
from proxy.web.openapi import document
from proxy.web.small_bodies import read_small_body

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_VERDICT_BYTES: Final = 10_000_000  # a conversation and two answers


class _Feedback(msgspec.Struct):
    request_id: str
    rating: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    thumb: Literal["up", "down"] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class _Turn(msgspec.Struct):
    role: str
    content: str


class _Answers(msgspec.Struct):
    request_id: Annotated[str, msgspec.Meta(max_length=100)]
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    local: Annotated[str, msgspec.Meta(min_length=1)]
    cloud: Annotated[str, msgspec.Meta(min_length=1)]


_feedback = msgspec.json.Decoder(_Feedback)
_answers = msgspec.json.Decoder(_Answers)


def routes(
    gateway: Gateway,
    store: Store,
    metrics: Metrics,
    *,
    judge: Callable[[], Judge | None],
    body_seconds: float,
    is_demo: bool = False,
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        judge: the running judge, if there is one.
        body_seconds: how long a client may take to send a body.
        is_demo: whether stand-in models answer.
    """

    @get("/v1/models", name="models")
    async def list_models(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        await gateway.admit(tuple(request.scope["headers"]))
        model_type = request.query_params.get("type")
        if model_type is not None and model_type not in MODEL_TYPES:
            raise InvalidRequest(
                f"Invalid value for 'type': '{model_type}' is none of {', '.join(MODEL_TYPES)}.",
                param="type",
            )
        entries = (await list_entries(gateway.snapshot)).values()
        data = [entry for entry in entries if model_type in (None, entry["type"])]
        return Response({"object": "list", "data": data}, headers=_request_id())

    @get("/v1/models/{model_id:path}", name="model")
    async def show_model(
        request: Request[Any, Any, Any], model_id: FromPath[str]
    ) -> Response[dict[str, object]]:
        await gateway.admit(tuple(request.scope["headers"]))
        wanted = model_id.removeprefix("/")
        entries = await list_entries(gateway.snapshot)
        own = (own_name(wanted) or wanted).partition(":")[0]
        listed = own if own in OWN_NAMES else find_local(wanted, entries)
        if listed is None:
            raise NotFound(
                f"The model '{wanted}' does not exist.{suggest_name(wanted, entries)}",
                param="model",
                code="model_not_found",
            )
        return Response(entries[listed], headers=_request_id())

    @post("/v1/feedback", status_code=200)
    async def take_feedback(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        client = await gateway.admit(tuple(request.scope["headers"]))
        key_hash = client.key_hash if client is not None else None
        feedback = read_request(_feedback, await read_small_body(request, seconds=body_seconds))
        rating = feedback.rating
        if rating is None:
            if feedback.thumb is None:
                raise InvalidRequest("Either 'rating' or 'thumb' is required.", param="rating")
            rating = 1.0 if feedback.thumb == "up" else -1.0
        rated = await _rate(store, feedback, rating, key_hash)
        if rated is None:
            raise NotFound(
                f"The request '{feedback.request_id}' does not exist.", param="request_id"
            )
        target, is_first = rated
        if rating and is_first:  # a repeated or changed rating counts once
            metrics.count_feedback(target, "up" if rating > 0 else "down")
        return Response(
            {"object": "feedback", "request_id": feedback.request_id, "rating": rating},
            headers=_request_id(),
        )

    @get("/api/status")
    async def show_status(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        client = gateway.snapshot.keys.authenticate(tuple(request.scope["headers"]))
        return Response(
            _status(gateway.snapshot)
            | {
                "threshold": gateway.paced_threshold(gateway.snapshot),
                "is_admin": is_admin(client),
                "is_demo": is_demo,
                "key_name": None if client is None else client.shown_name,
                # Names the place where a browser keeps this key's conversations.
                "key_hash": client.key_hash if client is not None else None,
            }
        )

    @post("/api/verdicts", status_code=200)
    async def give_verdict(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        body = await read_small_body(request, seconds=body_seconds, max_bytes=MAX_VERDICT_BYTES)
        answers = read_request(_answers, body)
        if (running_judge := judge()) is None:
            raise NotFound("Judging is disabled. Set judge.enabled: true.", code="judge_off")
        turns = [(turn.role, turn.content) for turn in answers.messages]
        verdict = await running_judge.assess(
            turns, answers.local, answers.cloud, request_id=answers.request_id
        )
        payload = verdict._asdict()
        return Response(
            payload
            | {
                "judge": gateway.snapshot.config.judge.model,
                **{tier: payload[tier]._asdict() for tier in ("local", "cloud")},
            }
        )

    @get("/openapi.json")
    async def describe(request: Request[Any, Any, Any]) -> Response[bytes]:
        gateway.snapshot.keys.check_page(tuple(request.scope["headers"]))
        return Response(document(), media_type="application/json")

    @get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @get("/ready")
    async def ready(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        parts, is_ready = await check_parts(gateway.snapshot, store)
        status = "stopping" if gateway.is_draining else "ready" if is_ready else "unavailable"
        code = 200 if status == "ready" else 503
        try:
            gateway.snapshot.keys.check_page(tuple(request.scope["headers"]))
        except RouterError:  # a load balancer has a name of its own, and needs the status only
            return Response({"status": status}, status_code=code)
        return Response({"status": status, "parts": parts}, status_code=code)

    @get("/metrics")
    async def expose_metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        gateway.snapshot.keys.check_page(tuple(request.scope["headers"]))
        # In a thread: with hundreds of keys the text takes 15 ms, with several workers more.
        metrics.refresh()
        text = await asyncio.to_thread(metrics.render)
        return Response(text, media_type=METRICS_TYPE)

    return [
        list_models, show_model, take_feedback, show_status, give_verdict, describe, health,
        ready, expose_metrics,
    ]  # fmt: skip


def _status(snapshot: Snapshot) -> dict[str, object]:
    """The state of the proxy for the pages."""
    config = snapshot.config
    return {
        "version": __version__,
        "router_model": snapshot.model_version,
        "tiers": {
            target.value: {
                "model": tier.model,
                "is_up": tier.up,
                "problem": tier.problem,
                "since": tier.since,
            }
            for target, tier in snapshot.upstreams.items()
        },
        "judge": config.judge.model if snapshot.sampler is not None else None,
        "keeps_prompts": config.storage.prompts,
        "keeps_bodies": config.storage.bodies,
        "needs_key": snapshot.keys.required,
    }


async def _rate(
    store: Store, feedback: _Feedback, rating: float, client: str | None
) -> tuple[str, bool] | None:
    """Store a rating. Raises Unavailable."""
    try:
        return await retry_until_written(
            lambda: store.lookups.record_feedback(
                feedback.request_id, rating, feedback.comment, client=client
            )
        )
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None


async def check_parts(snapshot: Snapshot, store: Store) -> tuple[dict[str, object], bool]:
    """The state of each part, and whether the proxy is ready: at least one tier is up.

    Requests are answered without the router model or the database, so neither affects readiness.
    Their state is then `missing` or `failing`.
    """
    targets = list(Target)
    up = await asyncio.gather(*(snapshot.upstreams[target].probe() for target in targets))
    parts: dict[str, object] = {
        "router_model": snapshot.model_version or "missing",
        "upstreams": {target.value: _tier_part(snapshot.upstreams[target]) for target in targets},
        "database": "ok" if store.healthy else "failing",
    }
    return parts, any(up)


def _tier_part(tier: Upstream) -> dict[str, object]:
    """A tier's state; with its `problem` if it cannot answer, as far as is known."""
    status = {True: "up", False: "down", None: "unknown"}[tier.up]
    part: dict[str, object] = {"status": status, "since": tier.since, "model": tier.model}
    if tier.problem is not None:
        part["problem"] = tier.problem
    return part


def _request_id() -> dict[str, str]:
    return {"x-request-id": new_request_id()}
