"""The state of one request, and the snapshot that a reload replaces.

`gateway` (for the known endpoints) and `passthrough` (for all other paths) work on it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from proxy.auth import ApiKeys, Principal
from proxy.budget import NO_RESERVATION, Prices, Reservation
from proxy.config import Config
from proxy.errors import UnsupportedEncoding
from proxy.evaluation import Sampler
from proxy.gateway.history import History
from proxy.gateway.large_bodies import parse_large, run_large
from proxy.gateway.native_answers import TranslatingWriter
from proxy.gateway.relay import CompleteResponse, ResponseWriter, StreamStart
from proxy.gateway.stored_responses import StoredResponses, load_items
from proxy.gateway.stream_observer import Outcome, StreamObserver
from proxy.protocol import Fields, RoutingRequest, rewrite
from proxy.protocol.endpoints import Endpoint
from proxy.protocol.ollama_native import ADDED_FIELDS, NativeRequest
from proxy.protocol.refusals import USAGE_FIELD, RefusedField, adapt_fields, note_changes
from proxy.protocol.responses import (
    ResponsesRequest,
    parse_responses,
    replace_input,
    without_foreign_reasoning,
)
from proxy.record import MAX_TEXT_CHARS, CallRecord, Reason, Target
from proxy.routing import Router, ShadowRouter
from proxy.secret import Redactor
from proxy.timeouts import Deadline
from proxy.upstream import Delivery, Upstream, UpstreamResponse
from router_model.task import new_chars
from router_model.value import CHARS_PER_TOKEN

if TYPE_CHECKING:  # it needs the call
    from proxy.gateway.bodies import BodyCopy
    from proxy.gateway.second_look import SecondLook


_THINK: Final = "think"  # the field of Ollama's API


class Exchange(ResponseWriter, Protocol):
    """One request and the connection to its client, independent of the web framework."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Request headers, names in lower case."""

    @property
    def started(self) -> bool:
        """Whether a status was sent."""

    @property
    def client_gone(self) -> bool:
        """Whether the client disconnected, which cancels the request."""

    def iter_body(self) -> AsyncIterator[bytes]:
        """The request body in chunks, of any length. Afterwards a disconnect cancels the task."""

    async def read_body(self) -> bytes:
        """The request body. Raises `BodyTooLarge`, and `RequestTimeout` when it is too slow."""


@dataclass(frozen=True)
class Snapshot:
    """The parts that a reload replaces. A request reads it once."""

    config: Config
    keys: ApiKeys
    router: Router
    upstreams: Mapping[Target, Upstream]
    prices: Prices
    model_version: str | None  # of the router model; None without one
    sampler: Sampler | None = None  # draws requests to judge; None when judging is disabled
    shadow_router: ShadowRouter | None = None

    @cached_property
    def redact(self) -> Redactor:
        """Removes the keys of the configuration, and what looks like a key, from a text."""
        return Redactor(self.config.secrets())


class Sent:
    """An attempt at an answer, from the start of its request to its bill.

    Attributes:
        adapted: the client's fields that were renamed or left out.
        delivery: whether the request was sent. The tier may then bill it.
        observer: of its stream, if the client asked for one.
        response: after its head has arrived.
        start: after it has begun.
        began_at: when it had begun, in monotonic seconds.
        wire: the endpoint of the API that the tier was asked by.
        is_settled: whether its tokens and dollars are in the record.
    """

    __slots__ = (
        "adapted",
        "began_at",
        "delivery",
        "is_settled",
        "model",
        "observer",
        "response",
        "start",
        "target",
        "wire",
    )

    def __init__(
        self, target: Target, model: str, wire: Endpoint, adapted: tuple[str, ...] = ()
    ) -> None:
        self.target = target
        self.model = model
        self.wire = wire
        self.adapted = adapted
        self.delivery = Delivery()
        self.observer: StreamObserver | None = None
        self.response: UpstreamResponse | None = None
        self.start: CompleteResponse | StreamStart | None = None
        self.began_at: float | None = None
        self.is_settled = False

    @property
    def silent_seconds(self) -> float:
        """From sending the request to the first text of a stream, or until now."""
        if self.delivery.sent_at is None:
            return 0.0
        has_text = isinstance(self.start, StreamStart) and self.start.size > 0
        until = self.began_at if has_text and self.began_at is not None else time.monotonic()
        return until - self.delivery.sent_at

    @property
    def outcome(self) -> Outcome:
        """What is billed of its answer, as far as it was seen."""
        if isinstance(self.start, CompleteResponse):
            return Outcome.of(self.start.view)
        if isinstance(self.start, StreamStart):
            return self.start.observer.outcome
        if self.response is not None and (read := self.response.read_so_far(MAX_TEXT_CHARS)):
            return Outcome(text=read.decode(errors="replace"))  # of a whole answer
        return self.observer.outcome if self.observer is not None else Outcome()


class Reduced(NamedTuple):
    """What the local tier does not get of a request.

    Attributes:
        request: the view of what it gets.
        change: leaves it out of the fields of the body.
        fields: the names of the fields concerned.
    """

    request: RoutingRequest
    change: Callable[[Fields], None]
    fields: tuple[str, ...]


class LocalRefusal(NamedTuple):
    """What a local model has refused. It is learned if the cloud accepts the same request.

    Attributes:
        features: of the request.
        tokens: of the request with its answer, if it is too long.
    """

    model: str
    features: Sequence[str] = ()
    tokens: int | None = None


class KeptAnswer(NamedTuple):
    """A local answer that was rejected, by a check or by the second look.

    Attributes:
        usd: its part of the record's `failed_usd`.
    """

    sent: Sent
    usd: float


class Call:
    """The state of one request."""

    __slots__ = (
        "allows_second_look",
        "answer_copy",
        "body",
        "capabilities",
        "checks_answers",
        "counted_tokens",
        "deadline",
        "endpoint",
        "exchange",
        "history",
        "is_preview",
        "is_streaming",
        "kept",
        "look",
        "native",
        "previous_target",
        "principal",
        "received",
        "record",
        "reduced",
        "refusal",
        "request",
        "reservation",
        "response_id",
        "sent",
        "snapshot",
        "waited_seconds",
        "writer",
    )

    def __init__(
        self, snapshot: Snapshot, endpoint: Endpoint, exchange: Exchange, record: CallRecord
    ) -> None:
        self.snapshot = snapshot
        self.endpoint = endpoint
        self.exchange = exchange
        self.record = record
        self.principal: Principal | None = None
        self.received = b""  # the body as the client sent it; not that of an upload
        self.answer_copy: BodyCopy | None = None  # of the answer, as far as it may be stored
        self.body = b""  # in OpenAI's format
        self.request: RoutingRequest  # after `parse`
        self.deadline: Deadline | None = None  # `server.request_timeout_seconds`
        self.reduced: Reduced | None = None  # of the request to the local tier
        self.counted_tokens: int | None = None  # of the whole prompt, near the context limit
        self.native: NativeRequest | None = None  # of an endpoint of the local server's own API
        # Takes answers in OpenAI's format, and sends them in that of the endpoint.
        self.writer: ResponseWriter = exchange
        # Of the requested local model.
        self.capabilities = snapshot.upstreams[Target.LOCAL].catalog.capabilities
        self.reservation: Reservation = NO_RESERVATION  # dollars for the cloud
        self.sent: Sent | None = None  # the current attempt
        self.waited_seconds = 0.0  # for the reservation
        self.checks_answers = False  # whether local answers are checked (`verify`)
        self.allows_second_look = False  # whether `verify` or the client asks for second looks
        self.look: SecondLook | None = None  # at the local answer, if the decision is uncertain
        self.kept: KeptAnswer | None = None  # a local answer that was rejected
        self.refusal: LocalRefusal | None = None  # of the local tier, if another answer follows
        self.is_streaming = False  # whether the client may have a part of a stream
        self.is_preview = False  # whether only the decision is needed; no reservation
        self.previous_target: Target | None = None  # the tier of the continued response
        self.history: History | None = None  # None if the answer is no part of a conversation
        self.response_id: str | None = None  # of a cloud answer in the Responses API

    @property
    def is_load(self) -> bool:
        """Whether the request loads or unloads a model and asks for no answer."""
        return self.native is not None and self.native.is_load

    @property
    def is_unload(self) -> bool:
        """Whether the request unloads a model."""
        return self.native is not None and self.native.is_unload

    def may_withhold(self, field: RefusedField) -> bool:
        """Whether a tier may get the request without a field that it refuses.

        Where the client chose the tier, only fields that the translation has added.
        """
        is_added = self.endpoint.native is not None and field.name in ADDED_FIELDS
        return is_added or self.record.reason is not Reason.FORCED

    def note_progress(self) -> None:
        """Restart the time limit of the request, which then limits its silences only."""
        if self.deadline is not None:
            seconds = self.snapshot.config.server.request_timeout_seconds
            self.deadline.due = asyncio.get_running_loop().time() + seconds

    def wire(self, target: Target) -> Endpoint:
        """The endpoint of the API that a tier is asked by: its own one, if it has that."""
        endpoint = self.endpoint
        if endpoint.native is None:
            return endpoint
        is_native = self.snapshot.upstreams[target].catalog.capabilities.needs_adapting
        return endpoint if is_native and target is Target.LOCAL else endpoint.openai

    @property
    def last_user_text(self) -> str:
        """The newest message of the user."""
        turns = self.record.turns or ()
        return next((text for role, text in reversed(turns) if role == "user"), "")

    @property
    def new_tokens(self) -> float:
        """The tokens of what is new in the request, about (`router_model.task.new_chars`)."""
        return new_chars(self.record.turns or ()) / CHARS_PER_TOKEN

    def request_to(self, target: Target | None) -> RoutingRequest:
        """The request as a tier gets it."""
        if target is Target.LOCAL and self.reduced is not None:
            return self.reduced.request
        return self.request


async def parse(call: Call) -> None:
    """Read and parse the body.

    Raises:
        RouterError: the body is too large, too slow, compressed or invalid.
    """
    # First, because reading the body sends `100 Continue`.
    _require_identity_encoding(call.exchange.headers)
    call.body = call.received = await call.exchange.read_body()
    if (form := call.endpoint.native) is not None:
        call.native = await parse_large(call.body, form.read)
        call.body = call.native.translated
    call.request = await parse_large(call.body, partial(view_request, call))
    if form is not None:
        call.writer = TranslatingWriter(call.exchange, form, call.record, call.request.model)


def view_request(call: Call, body: bytes) -> RoutingRequest:
    """The view of a body in OpenAI's format, with the needs that this format cannot express.

    Raises:
        InvalidRequest: the body is invalid.
    """
    request = call.endpoint.parse(body)
    if call.native is not None and call.native.thinks:
        request.needs["thinking"] = _THINK  # Ollama refuses it for other models
    return request


async def resolve_references(call: Call, stored_responses: StoredResponses) -> None:
    """Find the tier of the response that a request continues; add the items stored for it."""
    request, client = call.request, call.record.client_key_hash
    if not isinstance(request, ResponsesRequest):
        return
    items = await stored_responses.resolve(request.items, client)
    if request.previous is not None:
        stored = await stored_responses.find(request.previous, client)
        call.previous_target = stored.target if stored is not None else Target.CLOUD
        if stored is not None and stored.target is Target.LOCAL:
            size = len(stored.items or "")
            items = [*await run_large(size, partial(load_items, stored)), *items]
    if items != request.items:
        continues = call.previous_target is Target.CLOUD
        size = len(call.body) + sum(map(len, items))
        replace = partial(replace_input, call.body, items, continues=continues)
        call.body = await run_large(size, replace)
        call.request = await parse_large(call.body, parse_responses)


def upstream_body(
    call: Call,
    target: Target,
    model: str,
    *,
    wire: Endpoint | None = None,
    change: Callable[[Fields], None] | None = None,
    asks_for_usage: bool = True,
    refused: Sequence[RefusedField] = (),
    adapted: list[str] | None = None,
) -> bytes:
    """The request body for a tier, without the fields that its server is known to refuse.

    Args:
        wire: the endpoint that the tier is asked by, if it is not the usual one.
        change: changes the fields at last.
        asks_for_usage: whether a stream is asked for its usage, if its server accepts that.
        refused: further fields that its server refuses.
        adapted: gets the client's fields that were renamed or left out.
    """
    body, request, endpoint = call.body, call.request, wire or call.wire(target)
    reduced = call.reduced if target is Target.LOCAL else None
    if reduced is not None and adapted is not None:
        adapted.extend(reduced.fields)
    if endpoint.native is not None and call.native is not None:
        leave_out = [] if reduced is None else [reduced.change]
        if call.native.drops_thinking:
            leave_out.append(_drop_thinking)
            if adapted is not None:
                adapted.append(_THINK)
        return rewrite(call.native.body, model=model, include_usage=False, changes=leave_out)
    upstream = call.snapshot.upstreams[target]
    refused = [*upstream.learned.fields(model, endpoint.path), *refused]
    changes: list[Callable[[Fields], None]] = []
    if endpoint.adapt is not None and upstream.catalog.capabilities.needs_adapting:
        changes.append(endpoint.adapt)
    if withheld := [field for field in refused if call.may_withhold(field)]:
        changes.append(partial(adapt_fields, refused=withheld))
    if changes and adapted is not None:
        changes = note_changes(changes, adapted)
    if reduced is not None:
        changes.insert(0, reduced.change)
    if change is not None:
        changes.append(change)
    if isinstance(request, ResponsesRequest):
        is_local = target is Target.LOCAL
        body = without_foreign_reasoning(body, request.items, is_local=is_local)
    return rewrite(
        body,
        model=model,
        include_usage=request.streams
        and endpoint.usage_on_demand
        and asks_for_usage
        and USAGE_FIELD not in refused,
        changes=changes,
    )


def _drop_thinking(fields: Fields) -> None:
    fields.pop(_THINK, None)


def _require_identity_encoding(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises UnsupportedEncoding for a compressed body."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedEncoding(
                f"The content-encoding '{value.decode('latin-1')}' is not supported. Send the body "
                "as plain JSON."
            )
