"""Ollama's native API: the models that a client may name, and the management of models.

Its endpoints for answers and vectors are in `openai_api`, as the gateway answers them. The local
server answers what it can. For `auto`, `local` and `cloud`, and where the local server is not
Ollama, the proxy writes the same answers itself.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from proxy.errors import InvalidRequest, NotFound
from proxy.gateway import Gateway, Snapshot
from proxy.protocol import read_request
from proxy.protocol.ollama import OWN_FAMILY, RUNNING_PATH, SHOW_PATH, TAG, TAGS_PATH
from proxy.record import OWN_NAMES, Target, new_request_id
from proxy.routing import own_name, without_connection
from proxy.web.openai_api import BodyLimits
from proxy.web.small_bodies import read_small_body

# The version of the API that is spoken here, for clients that ask, if the local server has none.
VERSION: Final = "0.33.0"
VERSION_PATH: Final = "/api/version"
# Ollama's names of what a model can do.
_CAPABILITIES: Final = frozenset({"completion", "tools", "vision", "thinking", "insert"})
_UNKNOWN: Final = frozenset({"tools", "vision"})  # of a server that does not say: it may have them
_DETAILS: Final = {
    "parent_model": "",
    "format": "",
    "family": OWN_FAMILY,
    "families": [OWN_FAMILY],
    "parameter_size": "",
    "quantization_level": "",
}
_ARCHITECTURE: Final = "router"


class _Named(msgspec.Struct):
    """The name of a model; `name` is the older field."""

    model: str = ""
    name: str = ""


_named = msgspec.json.Decoder(_Named)
_list = msgspec.json.Decoder(dict[str, Any])


def routes(gateway: Gateway, *, limits: BodyLimits) -> list[ControllerRouterHandler]:
    """The handlers."""
    started = datetime.now(UTC).isoformat().replace("+00:00", "Z")

    @get(TAGS_PATH)
    async def list_models(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        await gateway.admit(tuple(request.scope["headers"]))
        snapshot = gateway.snapshot
        own = [_entry(snapshot, name, started) for name in OWN_NAMES]
        return _answer({"models": [*own, *await _local_models(snapshot, started)]})

    @post(SHOW_PATH, status_code=200)
    async def show_model(request: Request[Any, Any, Any]) -> Response[Any]:
        await gateway.admit(tuple(request.scope["headers"]))
        body = await read_small_body(request, seconds=limits.small_body_seconds)
        named = read_request(_named, body)
        name = named.model or named.name
        if not name:
            raise InvalidRequest("A model is required, for example 'auto'.", param="model")
        snapshot = gateway.snapshot
        local = snapshot.upstreams[Target.LOCAL]
        own, _, _ = (own_name(name) or "").partition(":")
        if not own and name == snapshot.upstreams[Target.CLOUD].model:
            own = Target.CLOUD
        if own in ("", Target.LOCAL):
            wanted = local.model if own else without_connection(name)
            shown = await local.catalog.ask_native(
                "POST", SHOW_PATH, msgspec.json.encode({"model": wanted})
            )
            if shown is not None:
                status, answer = shown
                return Response(
                    answer, status_code=status, media_type="application/json", headers=_request_id()
                )
        if not own and local.catalog.lacks(without_connection(name)):
            raise NotFound(f"model '{name}' not found", param="model", code="model_not_found")
        return _answer(_description(snapshot, own or Target.LOCAL, started))

    @get(VERSION_PATH)
    async def show_version(request: Request[Any, Any, Any]) -> Response[Any]:
        await gateway.admit(tuple(request.scope["headers"]))
        catalog = gateway.snapshot.upstreams[Target.LOCAL].catalog
        return _answer(
            _object(await catalog.ask_native("GET", VERSION_PATH)) or {"version": VERSION}
        )

    @get(RUNNING_PATH)
    async def list_running(request: Request[Any, Any, Any]) -> Response[Any]:
        await gateway.admit(tuple(request.scope["headers"]))
        catalog = gateway.snapshot.upstreams[Target.LOCAL].catalog
        return _answer(_object(await catalog.ask_native("GET", RUNNING_PATH)) or {"models": []})

    return [list_models, show_model, show_version, list_running]


async def _local_models(snapshot: Snapshot, started: str) -> list[dict[str, Any]]:
    """The local server's models: its own entries, or entries with the names that it lists."""
    catalog = snapshot.upstreams[Target.LOCAL].catalog
    listed = _object(await catalog.ask_native("GET", TAGS_PATH))
    models = listed.get("models") if listed is not None else None
    if isinstance(models, list):
        return [model for model in models if isinstance(model, dict)]
    return [_entry(snapshot, name, started) for name in sorted(catalog.names)]


def _entry(snapshot: Snapshot, name: str, started: str) -> dict[str, Any]:
    """The entry of a model in the list. Names without a tag get one, as in Ollama's list."""
    tagged = name if ":" in name else name + TAG
    return {
        "name": tagged,
        "model": tagged,
        "modified_at": started,
        "size": 0,
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "details": _DETAILS,
        "capabilities": _capabilities(snapshot, name),
    }


def _description(snapshot: Snapshot, name: str, started: str) -> dict[str, Any]:
    """The answer to /api/show for a name of the proxy's own, or for the cloud's model."""
    contexts = [
        snapshot.upstreams[target].catalog.capabilities.context_tokens for target in _tiers_of(name)
    ]
    known = [tokens for tokens in contexts if tokens is not None]
    if len(known) < len(contexts):  # the one that is not known may be the longer one
        known = []
    model_info: dict[str, object] = {"general.architecture": _ARCHITECTURE}
    if known:
        model_info[f"{_ARCHITECTURE}.context_length"] = max(known)
    return {
        "license": "",
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _DETAILS,
        "model_info": model_info,
        "capabilities": _capabilities(snapshot, name),
        "modified_at": started,
    }


def _capabilities(snapshot: Snapshot, name: str) -> list[str]:
    """What a name can do: of `auto` what either tier can, as requests go where they can."""
    found = {"completion"}
    for target in _tiers_of(name):
        known = snapshot.upstreams[target].catalog.capabilities.capabilities
        found |= _UNKNOWN if known is None else known
    return sorted(found & _CAPABILITIES)


def _tiers_of(name: str) -> Iterable[Target]:
    if name == OWN_NAMES[0]:
        return Target
    return (Target.CLOUD,) if name == Target.CLOUD else (Target.LOCAL,)


def _object(response: tuple[int, bytes] | None) -> dict[str, Any] | None:
    """The object in a successful answer of the local server; None for anything else."""
    if response is None or not 200 <= response[0] < 300:
        return None
    try:
        return _list.decode(response[1])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _answer(body: Any) -> Response[Any]:
    return Response(body, headers=_request_id())


def _request_id() -> dict[str, str]:
    return {"x-request-id": new_request_id()}
