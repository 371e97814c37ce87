"""The way of a request, as one straight line; free of Litestar, testable without HTTP.

    parse → decide → open upstream (again, or the other one) → relay → record

Whatever happens on it, the client gets an answer or one clear error, the upstream is let go, and
the record is finished once and kept once. A client that leaves cancels the task that runs `chat`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.auth import ApiKeys, Client, Quotas
from proxy.config import Config, PriceConfig
from proxy.errors import (
    InternalError,
    RequestTimeout,
    RouterError,
    ServerStopping,
    UpstreamError,
    UpstreamTimeout,
    envelope,
)
from proxy.failover import (
    FIRST_WAIT_SECONDS,
    Course,
    Retry,
    RetryBudget,
    failure_of_answer,
    failure_of_error,
)
from proxy.fit import LocalFit, Unfit
from proxy.metrics import Metrics
from proxy.pricing import price_record
from proxy.protocol import JSON_TYPE, ChatRequest, Usage, parse_chat, rewrite_chat
from proxy.record import CallRecord, Ending, Reason, Target, UsageSource
from proxy.relay import Head, Reply, Whole, begin, end_stream_with, relay_stream, relay_whole
from proxy.routing import Decision, Router, Wish
from proxy.store import Store
from proxy.tokens import TokenCounter
from proxy.upstream import Upstream, UpstreamResponse

logger = logging.getLogger(__name__)

# An error is a few hundred bytes: a client that does not take them by then has stopped reading.
LAST_WORD_SECONDS: Final = 1.0
# The longest that a routed request waits for the local tier when the cloud could answer now.
SPILL_AFTER_SECONDS: Final = 5.0


class Exchange(Reply, Protocol):
    """One request and the way back to its client, whatever carries them."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Request headers, names in lower case."""

    @property
    def started(self) -> bool:
        """True once a status was sent."""

    @property
    def client_gone(self) -> bool:
        """True once the client hung up: that is what cancelled the request then."""

    async def read_body(self) -> bytes:
        """The request body. Raises `BodyTooLarge`, and `RequestTimeout` when it trickles in."""


@dataclass(frozen=True)
class Snapshot:
    """Everything a request needs that a new configuration would replace, read once per request."""

    config: Config
    keys: ApiKeys
    router: Router
    upstreams: Mapping[Target, Upstream]
    prices: Mapping[Target, PriceConfig]
    model_version: str | None  # of the router model; None when there is none


class Gateway:
    """Answers requests."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        store: Store,
        metrics: Metrics,
        tokens: TokenCounter,
        quotas: Quotas,
        clock: Callable[[], float] = time.perf_counter,
        first_wait: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.snapshot = snapshot
        self._quotas = quotas
        self._running = 0
        self._idle = asyncio.Event()
        self._store = store
        self._metrics = metrics
        self._tokens = tokens
        self._clock = clock
        self._first_wait = first_wait
        self._retry_budget = RetryBudget()
        self._fit = LocalFit(tokens)

    async def chat(self, exchange: Exchange) -> None:
        """Answer POST /v1/chat/completions.

        Raises:
            asyncio.CancelledError: the client is gone.
        """
        snapshot = self.snapshot
        record = CallRecord("chat.completions", clock=self._clock)
        self._running += 1
        try:
            async with asyncio.timeout(snapshot.config.server.request_timeout_seconds):
                client = snapshot.keys.check(_header(exchange, b"authorization"))
                record.client_key_hash = client.key_hash if client is not None else None
                self._quotas.admit(client)
                body = await exchange.read_body()
                request = parse_chat(body)
                decision = await self._decide(snapshot, request, client, exchange, record)
                await self._answer(snapshot, decision, request, body, client, exchange, record)
        except asyncio.CancelledError:
            if exchange.client_gone:
                record.finish(Ending.CLIENT_GONE)
                raise
            # Nobody else cancels but the server, when it stops and its patience is over.
            await self._refuse(
                ServerStopping("The proxy is being stopped; please send the request again."),
                exchange,
                record,
            )
        except RouterError as error:
            await self._refuse(error, exchange, record)
        except TimeoutError:
            await self._refuse(_out_of_time(snapshot, record), exchange, record)
        except Exception:
            logger.exception("request %s failed", record.id)
            bug = InternalError("The proxy failed to answer this request; its log says why.")
            await self._refuse(bug, exchange, record)
        finally:
            self._keep(record)
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def drain(self) -> None:
        """Wait until no request is running, as long as the last word to a client may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * LAST_WORD_SECONDS):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()

    async def _decide(
        self,
        snapshot: Snapshot,
        request: ChatRequest,
        client: Client | None,
        exchange: Exchange,
        record: CallRecord,
    ) -> Decision:
        started = self._clock()
        record.requested_model = request.model
        record.streamed = bool(request.stream)
        record.turns = request.turns
        wish = snapshot.router.read_wish(request.model, exchange.headers)
        unfit = None
        if wish.target is not Target.CLOUD:
            unfit = self._fit.check(request, snapshot.upstreams[Target.LOCAL].facts, record)
        if unfit is not None and wish.target is Target.LOCAL:
            raise unfit.error
        decision = await snapshot.router.decide(
            wish, record.turns, not_local=unfit.reason if unfit is not None else None
        )
        if decision.reason is Reason.SCORE:
            decision = _around_trouble(decision, snapshot)
        if decision.target is Target.CLOUD and not self._quotas.may_spend(client):
            if not _may_stay_local(wish, unfit, snapshot.config):
                record.reason = Reason.BUDGET
                raise self._quotas.refusal(client)
            model = snapshot.upstreams[Target.LOCAL].model
            decision = decision._replace(target=Target.LOCAL, reason=Reason.BUDGET, model=model)
        record.target, record.reason, record.model = decision[:3]
        record.threshold = decision.threshold
        if decision.score is not None:
            record.score, record.p_local, record.p_cloud = decision.score
        record.decision_ms = (self._clock() - started) * 1e3
        return decision

    async def _answer(
        self,
        snapshot: Snapshot,
        decision: Decision,
        request: ChatRequest,
        body: bytes,
        client: Client | None,
        exchange: Exchange,
        record: CallRecord,
    ) -> None:
        """Get an answer from the decided tier, or from the other one, and relay it."""
        stream = bool(request.stream)
        strip_usage = not request.wants_usage_chunk
        course = Course(
            may_fall_back=snapshot.config.routing.fallback
            and decision.reason in (Reason.SCORE, Reason.ROUTER_UNAVAILABLE)
            and (decision.target is Target.CLOUD or self._quotas.may_spend(client)),
            budget=self._retry_budget,
            first_wait=self._first_wait,
        )
        self._retry_budget.earn()
        target, model = decision.target, decision.model
        record.open_upstream()
        while True:
            upstream = snapshot.upstreams[target]
            rewritten = rewrite_chat(
                body, model=model, include_usage=stream, for_ollama=upstream.facts.is_ollama
            )
            response = begun = error = None
            try:
                try:
                    response = await upstream.open(
                        "/chat/completions",
                        rewritten,
                        exchange.headers,
                        stream=stream,
                        client=record.client_key_hash,
                    )
                    begun = await begin(response, strip_usage=strip_usage)
                    failure = failure_of_answer(
                        response.status, response.headers, target=target, error=begun.error
                    )
                except UpstreamError as caught:
                    error, failure = caught, failure_of_error(caught)
                step = course.after(failure, target=target) if failure is not None else None
                if failure is None or step is None:
                    if response is None or begun is None:
                        raise _after_fallback(error, record)
                    await self._relay(snapshot, response, begun, exchange, record)
                    return
            finally:  # before any last word to the client, who may not be listening
                if response is not None:
                    await response.close()
            if isinstance(step, Retry):
                await asyncio.sleep(step.seconds)
                continue
            record.fallback_from, record.fallback_why = target, failure.why
            target = target.other
            model = snapshot.upstreams[target].model
            record.target, record.model, record.reason = target, model, Reason.FALLBACK

    async def _relay(
        self,
        snapshot: Snapshot,
        response: UpstreamResponse,
        begun: Whole | Head,
        exchange: Exchange,
        record: CallRecord,
    ) -> None:
        def settle(usage: Usage | None, text: str) -> None:
            self._settle(snapshot, record, usage, text)

        if isinstance(begun, Head):
            await relay_stream(response, begun, exchange, record, settle=settle)
        else:
            await relay_whole(response, begun, exchange, record, settle=settle)

    def _settle(
        self, snapshot: Snapshot, record: CallRecord, usage: Usage | None, text: str
    ) -> None:
        """Tokens, from the upstream or estimated, and dollars."""
        record.response = text
        if usage is not None and usage.is_credible:
            record.usage_source = UsageSource.UPSTREAM
            record.input_tokens = usage.prompt_tokens
            record.cached_input_tokens = usage.cached_tokens
            record.output_tokens = usage.completion_tokens or 0
            if record.target is Target.LOCAL:
                facts = snapshot.upstreams[Target.LOCAL].facts
                if self._fit.was_cut(record, usage, facts):
                    self._metrics.count_truncation()
        else:
            record.usage_source = UsageSource.ESTIMATED
            record.input_tokens = self._tokens.count_messages(record.turns or ())
            record.cached_input_tokens = 0
            record.output_tokens = self._tokens.count(text)
        price_record(record, snapshot.prices)

    async def _refuse(self, error: RouterError, exchange: Exchange, record: CallRecord) -> None:
        """One clear error: as the answer, or as the last event of a stream that has begun."""
        record.finish(_ending_of(error), error=error.message, error_code=error.code or error.type)
        if not exchange.started:
            record.status = error.status
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                if exchange.started:
                    await end_stream_with(error, exchange)
                else:
                    await send_error(error, exchange, record.router_headers())
        except TimeoutError:
            logger.warning("request %s: its client does not read; hanging up", record.id)

    def _keep(self, record: CallRecord) -> None:
        """The record's one way into the metrics and the database."""
        if record.ending is None:
            record.finish(Ending.INTERNAL_ERROR, error_code=InternalError.code)
        if record.saved_usd and record.ending not in (Ending.OK, Ending.CLIENT_GONE):
            record.saved_usd = 0.0  # half an answer has cost something and saved nothing
        self._quotas.note(record)
        self._metrics.observe(record)
        self._store.add(record)


async def send_error(
    error: RouterError, reply: Reply, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Answer with an error in OpenAI's envelope."""
    body = envelope(error)
    await reply.start(
        error.status,
        [
            (b"content-type", JSON_TYPE),
            (b"content-length", b"%d" % len(body)),
            *error.headers,
            *headers,
        ],
    )
    await reply.send(body, more=False)


def _ending_of(error: RouterError) -> Ending:
    match error:
        case RequestTimeout() | UpstreamTimeout():
            return Ending.TIMEOUT
        case UpstreamError():
            return Ending.UPSTREAM_ERROR
        case InternalError():
            return Ending.INTERNAL_ERROR
        case ServerStopping():
            return Ending.STOPPED
        case _:
            return Ending.REJECTED


def _may_stay_local(wish: Wish, unfit: Unfit | None, config: Config) -> bool:
    """Whether a request may go to the local tier because the cloud is no longer paid for."""
    return wish.target is None and unfit is None and config.budget.when_spent == "local"


def _around_trouble(decision: Decision, snapshot: Snapshot) -> Decision:
    """The other tier instead of one that is down, or of a local one that is long busy.

    Never into trouble: where the other one is down, too, the decision stays.
    """
    routing = snapshot.config.routing
    chosen = snapshot.upstreams[decision.target]
    other = snapshot.upstreams[decision.target.other]
    if other.is_sick:
        return decision
    reason = None
    if chosen.is_sick and routing.fallback:
        reason = Reason.UNHEALTHY
    elif (
        decision.target is Target.LOCAL
        and routing.spill_when_busy
        and chosen.expected_wait > SPILL_AFTER_SECONDS
    ):
        reason = Reason.OVERLOAD
    if reason is None:
        return decision
    return decision._replace(target=decision.target.other, reason=reason, model=other.model)


def _after_fallback(error: UpstreamError | None, record: CallRecord) -> UpstreamError:
    """When both tiers failed, say so: the second failure alone would mislead."""
    assert error is not None  # there is no answer
    if record.fallback_from is not None:
        error.message += (
            f" The {record.fallback_from} upstream had failed before ({record.fallback_why})."
        )
    return error


def _out_of_time(snapshot: Snapshot, record: CallRecord) -> RequestTimeout | UpstreamTimeout:
    seconds = snapshot.config.server.request_timeout_seconds
    if record.requested_model is None:
        return RequestTimeout(f"The request was not sent within {seconds:g} seconds.")
    return UpstreamTimeout(
        f"The request was not answered within {seconds:g} seconds.",
        upstream=record.target or "none",
        phase="total",
    )


def _header(exchange: Exchange, wanted: bytes) -> bytes | None:
    for name, value in exchange.headers:
        if name == wanted:
            return value
    return None
