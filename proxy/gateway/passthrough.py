"""Pass-through: requests to other paths, which an upstream answers unchanged.

Requests about a stored response of the local tier are answered here, because the local server
stores none.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

import msgspec

from proxy.auth import is_admin
from proxy.errors import Forbidden, InvalidRequest, NotFound
from proxy.gateway.attempt import note_waits
from proxy.gateway.bodies import BodyCopy, may_keep
from proxy.gateway.call import Call, Exchange, resolve_references, upstream_body
from proxy.gateway.decision import require_countable
from proxy.gateway.error_text import describe_answer
from proxy.gateway.failover import check_credential
from proxy.gateway.large_bodies import parse_large
from proxy.gateway.preference import read_preference
from proxy.gateway.relay import relay_untouched
from proxy.gateway.stored_responses import StoredResponses, list_input_items, read_page
from proxy.protocol import JSON_MEDIA_TYPE, read_model_name
from proxy.protocol.endpoints import (
    PARSED,
    STATELESS_POSTS,
    Path,
    has_second_base,
    is_misspelled,
    read_path,
)
from proxy.protocol.ollama_native import MANAGED, NO_VERSION
from proxy.protocol.responses import parse_responses
from proxy.record import Ending, Reason, Target
from proxy.routing import RoutingPreference, read_headers, wants_no_store
from proxy.storage import StoredResponse
from proxy.upstream import Body, Delivery

_PARSED_PATHS: Final = frozenset(endpoint.path for endpoint in PARSED)
# Besides reading and deleting these are free: uploading files, counting tokens, and changing the
# metadata of a stored answer. Source: OpenAI's price list.
_FREE_METHODS: Final = frozenset({"GET", "HEAD", "DELETE"})
_FREE_PATHS: Final = frozenset({"/files", "/responses/input_tokens"})
_ABOUT_A_REQUEST: Final = frozenset({"/responses/input_tokens", "/responses/compact"})
# curl's default type is the form's. Many servers parse JSON regardless of the content type.
_MAYBE_JSON: Final = re.compile(
    rb"application/(?:(?:[\w.-]+\+)?json|x-www-form-urlencoded)\b|text/", re.IGNORECASE
)
_MAX_READ_BYTES: Final = 2**20  # of a JSON body, for the name of its model


class Passthrough:
    """Passes requests through.

    Args:
        require_budget: raises when the cloud budget is spent.
    """

    def __init__(
        self,
        stored_responses: StoredResponses,
        *,
        require_budget: Callable[[Call], Awaitable[None]],
    ) -> None:
        self._stored_responses = stored_responses
        self._require_budget = require_budget

    async def answer(self, call: Call, *, method: str, raw_path: bytes, query: str) -> None:
        """Answer a request, from the stored responses or by an upstream.

        Args:
            raw_path: as the client sent it, with /v1.
        """
        path = read_path(raw_path)
        if path is None or (method == "POST" and path.name in _PARSED_PATHS):  # in capitals
            raise _unknown_route(method, raw_path)
        if path.steps[0].lower() == "v1":
            raise _unknown_route(method, raw_path, ". Is /v1 in the base URL twice?")
        if "api" in (step.lower() for step in path.steps[:2]):
            raise _unknown_route(method, raw_path, f". {NO_VERSION}")
        if has_second_base(path):  # its body is not for the cloud, which has no such path
            raise _unknown_route(method, raw_path, ". Does the base URL need /v1?")
        if path.is_below_messages:
            raise _unknown_route(method, raw_path)
        if is_misspelled(path):
            hint = ". The base URL ends with /v1, and the client adds the name of the endpoint"
            raise _unknown_route(method, raw_path, hint)
        stored = await self._find(call, path)
        if stored is not None and stored.target is Target.LOCAL:
            await self._answer_from_store(call, stored, method, path, query)
            return
        if stored is None:
            if call.snapshot.config.routing.unknown_models == "reject":
                raise _unknown_route(method, raw_path)
            _check_shared_objects(call, method, path)
        await self._forward(call, method, path, query)

    async def manage_models(self, call: Call, *, method: str, path: str) -> None:
        """Forward a request that manages the local server's models.

        A download may take hours: only its silence is limited.

        Raises:
            Forbidden: see `server.model_management`.
            NotFound: it is no such request, or the local server has no API for it.
        """
        local = call.snapshot.upstreams[Target.LOCAL]
        if not MANAGED.fullmatch(f"{method} {path}"):
            raise _unknown_route(method, path.encode())
        if call.snapshot.config.server.model_management == "refuse":
            raise Forbidden(
                "This proxy does not manage models. The operator can allow it for admin keys "
                "(server.model_management: admin).",
                code="model_management_off",
            )
        if not is_admin(call.principal):
            raise Forbidden(
                "Managing models needs an admin key (`admin: true` in server.api_keys).",
                code="admin_only",
            )
        if not local.catalog.capabilities.needs_adapting:
            raise NotFound("The local server has no API to manage models.", code="unknown_url")
        record, exchange = call.record, call.exchange
        upload = _note_progress(exchange.iter_body(), call)
        body: Body = upload if _has_body(exchange) else await exchange.read_body()
        record.target, record.reason = Target.LOCAL, Reason.FORCED
        record.no_store = wants_no_store(exchange.headers)
        record.open_upstream()
        record.begin_attempt()
        delivery = Delivery()
        try:
            response = await local.forward(
                method,
                path,
                body,
                exchange.headers,
                client=record.client_key_hash,
                is_native=True,
                needs_slot=False,
                delivery=delivery,
            )
        finally:
            note_waits(record, delivery)
        try:
            await relay_untouched(
                response,
                exchange,
                record,
                is_download=False,
                on_chunk=call.note_progress,
                describe=partial(describe_answer, call),
            )
        finally:
            await response.close()

    async def _find(self, call: Call, path: Path) -> StoredResponse | None:
        """The stored response of a path; None for other paths and unknown responses.

        Raises:
            NotFound: it belongs to another key.
            Unavailable: its owner cannot be verified now.
        """
        if len(path.steps) < 2 or path.steps[0].lower() != "responses":
            return None
        try:
            return await self._stored_responses.find(path.steps[1], call.record.client_key_hash)
        except InvalidRequest as error:
            raise NotFound(error.message, code=error.code) from None

    async def _answer_from_store(
        self, call: Call, stored: StoredResponse, method: str, path: Path, query: str
    ) -> None:
        """Answer a request about a stored response of the local tier."""
        if method == "GET" and len(path.steps) == 2 and ("stream", "true") in parse_qsl(query):
            raise InvalidRequest(
                f"The response '{stored.id}' cannot be streamed: it was not created in the "
                "background.",
                param="stream",
            )
        match method, *path.steps[2:]:
            case ["GET"] if stored.body is not None:
                body = stored.body.encode()
            case ["GET", "input_items"]:
                body = msgspec.json.encode(list_input_items(stored, read_page(query)))
            case ["DELETE"]:
                self._stored_responses.forget(stored.id)
                deleted = {"id": stored.id, "object": "response", "deleted": True}
                body = msgspec.json.encode(deleted)
            case _:
                raise NotFound(
                    f"The response '{stored.id}' came from the local model, which does not support "
                    "this.",
                    code="unsupported_by_local_model",
                )
        record = call.record
        record.target, record.reason, record.status = Target.LOCAL, Reason.STICKY, 200
        headers = [(b"content-type", JSON_MEDIA_TYPE), *record.router_headers()]
        await call.exchange.answer(200, headers, body)
        record.finish(Ending.OK)

    async def _forward(self, call: Call, method: str, path: Path, query: str) -> None:
        """Send a request to the cloud unchanged, and relay the answer unchanged."""
        record, target = call.record, Target.CLOUD
        # Reading, cancelling and deleting are possible when the budget is spent.
        may_add = method not in _FREE_METHODS and path.steps[-1] != "cancel"
        if may_add:
            await self._require_budget(call)
            if not _is_free(method, path):
                require_countable(call, f"Requests to {path.name}")
        record.no_store = wants_no_store(call.exchange.headers)
        body = await self._open_body(call, method, path)
        record.target, record.reason = target, Reason.FORCED
        record.open_upstream()
        record.begin_attempt()
        delivery = Delivery()
        try:
            response = await call.snapshot.upstreams[target].forward(
                method,
                f"{path.sent}?{query}" if query else path.sent,
                body,
                call.exchange.headers,
                client=record.client_key_hash,
                delivery=delivery,
            )
        finally:
            note_waits(record, delivery)
        try:
            check_credential(response.status, None, upstream=target)
            is_download = method in ("GET", "HEAD") and path.steps[-1] == "content"
            if may_keep(call) and not is_download and _is_text(response.headers):
                call.answer_copy = BodyCopy()
            await relay_untouched(
                response,
                call.exchange,
                record,
                is_download=is_download,
                describe=partial(describe_answer, call),
                keep=None if call.answer_copy is None else call.answer_copy.add,
            )
        finally:
            await response.close()

    async def _open_body(self, call: Call, method: str, path: Path) -> Body:
        """The body to send: as the client sends it, but for a request about another request.

        Raises:
            RouterError: the body names a local model. Only names in JSON are read.
        """
        exchange = call.exchange
        if not _has_body(exchange):
            return await exchange.read_body()
        if method == "POST" and path.name in _ABOUT_A_REQUEST:
            return await self._prepare_body(call, path)
        if method != "POST" or not _may_be_json(exchange):
            return exchange.iter_body()
        pieces = exchange.iter_body()
        start, is_whole = await _read_start(pieces)
        if not is_whole:
            return _chain(start, pieces)
        await _read_cloud_preference(call, path, start)
        call.received = start
        return start

    async def _prepare_body(self, call: Call, path: Path) -> bytes:
        """The body of a request about a Responses API request, with ids and names of the cloud."""
        snapshot = call.snapshot
        call.body = call.received = await call.exchange.read_body()
        preference = await _read_cloud_preference(call, path, call.body)
        try:
            call.request = await parse_large(call.body, parse_responses)
        except InvalidRequest:
            if call.principal is not None:  # it may continue a response of another key
                raise
            return call.body  # the cloud answers with the error
        await resolve_references(call, self._stored_responses)
        forced = preference.model if preference.target is Target.CLOUD else None
        model = forced or snapshot.upstreams[Target.CLOUD].model
        return await parse_large(call.body, lambda _: upstream_body(call, Target.CLOUD, model))


async def _read_cloud_preference(call: Call, path: Path, body: bytes) -> RoutingPreference:
    """The preference in the `model` of a body and in the headers, for a path of the cloud alone.

    Raises:
        RouterError: the local tier is meant, or a model that it may have.
    """
    model, headers = await parse_large(body, read_model_name), call.exchange.headers
    if model:
        preference = await read_preference(call.snapshot, model, headers)
    else:
        preference = read_headers(RoutingPreference(), headers)
    if preference.target is Target.LOCAL:
        raise InvalidRequest(
            f"The local tier does not have /v1{path.sent}. Send the request to 'cloud', or "
            "leave the choice to 'auto'.",
            param="model",
            code="unsupported_by_local_model",
        )
    return preference


async def _read_start(pieces: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    """The first bytes of a body, and whether they are all of it."""
    parts, size = [], 0
    async for piece in pieces:
        parts.append(piece)
        size += len(piece)
        if size > _MAX_READ_BYTES:
            return b"".join(parts), False
    return b"".join(parts), True


async def _chain(start: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for piece in pieces:
        yield piece


def _check_shared_objects(call: Call, method: str, path: Path) -> None:
    """Refuse a key that is no admin where the cloud account's stored objects may be reached.

    Raises:
        Forbidden: see `server.shared_objects`.
    """
    is_stateless = method == "POST" and path.name in STATELESS_POSTS
    is_closed = call.snapshot.config.server.shared_objects == "admin"
    if is_closed and not is_stateless and not is_admin(call.principal):
        raise Forbidden(
            f"{method} /v1{path.sent} may reach what other API keys stored in the cloud account. "
            "It needs an admin key (`admin: true` in server.api_keys), or server.shared_objects: "
            "all.",
            code="admin_only",
        )


def _is_free(method: str, path: Path) -> bool:
    """Whether the provider bills nothing for a request. What is not listed may cost."""
    steps = path.name.split("/")[1:]
    return method == "POST" and (
        path.name in _FREE_PATHS
        or steps[0] == "uploads"
        or (steps[:2] == ["chat", "completions"] and len(steps) == 3)
    )


def _unknown_route(method: str, raw_path: bytes, hint: str = "") -> NotFound:
    place = raw_path.decode(errors="replace")
    return NotFound(f"Unknown route: {method} {place}{hint}", code="unknown_url")


def _may_be_json(exchange: Exchange) -> bool:
    types = [value for name, value in exchange.headers if name == b"content-type"]
    return not types or _MAYBE_JSON.match(types[0].strip()) is not None


def _is_text(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether an answer is JSON or text, and no audio or image."""
    types = [value for name, value in headers if name == b"content-type"]
    return bool(types) and _MAYBE_JSON.match(types[0].strip()) is not None


async def _note_progress(pieces: AsyncIterator[bytes], call: Call) -> AsyncIterator[bytes]:
    async for piece in pieces:
        call.note_progress()
        yield piece


def _has_body(exchange: Exchange) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in exchange.headers)
