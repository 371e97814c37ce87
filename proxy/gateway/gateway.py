"""The way of a request, as one straight line; free of Litestar, testable without HTTP.

    parse → resolve_references → decide → open upstream (again, or the other one) → relay → record

Whatever happens on it, the client gets an answer or one clear error, the upstream is let go, and
the record is finished once and kept once. A client that leaves cancels the task that runs `answer`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from proxy import logs
from proxy.auth import Client, is_admin
from proxy.budget.pacing import BudgetPacer
from proxy.budget.rate_limits import Limits, Reservation
from proxy.budget.token_counter import TokenCounter
from proxy.config import Config
from proxy.errors import (
    BudgetExhausted,
    Forbidden,
    InternalError,
    InvalidRequest,
    RequestTimeout,
    RouterError,
    ServerStopping,
    UnsupportedEncoding,
    UpstreamError,
    UpstreamTimeout,
    envelope,
)
from proxy.gateway.call import Call, Exchange, Snapshot, resolve_references, upstream_body
from proxy.gateway.conversations import Conversations, is_continued, session_of
from proxy.gateway.failover import (
    FIRST_WAIT_SECONDS,
    FailoverPlan,
    FallBack,
    Retry,
    RetryBudget,
    check_credential,
    failure_of_answer,
    failure_of_error,
)
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.relay import Head, Reply, Whole, begin, relay_stream, relay_whole
from proxy.gateway.stored_responses import StoredResponses
from proxy.metrics import Metrics
from proxy.protocol.chat import JSON_MEDIA_TYPE, AnswerView, Usage
from proxy.protocol.endpoints import CHAT, OTHER, RESPONSES, Endpoint
from proxy.protocol.responses import (
    ResponseIdRewriter,
    ResponsesRequest,
    ResponseView,
)
from proxy.record import CallRecord, Ending, Reason, Target, UsageSource
from proxy.routing.local_limits import LimitExceeded, LocalLimits
from proxy.routing.router import (
    Decision,
    RoutingPreference,
    is_same_model,
    read_headers,
    wants_no_store,
)
from proxy.storage.writer import Store
from proxy.timeouts import Deadlines
from proxy.upstream.response import UpstreamResponse

logger = logging.getLogger(__name__)

_JUDGEABLE: Final = frozenset({"json_schema", "logprobs"})
# An error is a few hundred bytes: a client that does not take them by then has stopped reading.
LAST_WORD_SECONDS: Final = 1.0
# Tokens that are set aside for an answer to a request that sets no limit.
ANSWER_TOKENS: Final = 4096
# The longest that a routed request waits for the local tier when the cloud could answer now.
SPILL_AFTER_SECONDS: Final = 5.0


class Gateway:
    """Answers requests."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        store: Store,
        metrics: Metrics,
        tokens: TokenCounter,
        limits: Limits,
        pacer: BudgetPacer,
        conversations: Conversations,
        clock: Callable[[], float] = time.perf_counter,
        first_wait: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self.snapshot = snapshot
        self.is_draining = False  # whether it is to be sent nothing more, and answers still
        self.deadlines = Deadlines()
        self._limits = limits
        self._pacer = pacer
        self._running = 0
        self._idle = asyncio.Event()
        self._store = store
        self._metrics = metrics
        self._tokens = tokens
        self._clock = clock
        self._first_wait = first_wait
        self._retry_budget = RetryBudget()
        self._local_limits = LocalLimits(tokens)
        self._conversations = conversations
        self._stored_responses = StoredResponses(store)
        self._passthrough = Passthrough(self._stored_responses, need_budget=self._need_budget)

    async def answer(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Answer a request to one of the endpoints.

        Raises:
            asyncio.CancelledError: the client is gone.
        """

        async def way(call: Call) -> None:
            call.body = await exchange.read_body()
            _need_plain(exchange.headers)
            call.request = endpoint.parse(call.body)
            await resolve_references(call, self._stored_responses)
            decision = await self._decide(call)
            await self._answer(call, decision)

        await self._run(endpoint, exchange, way)

    async def preview(self, exchange: Exchange) -> None:
        """Answer a chat request with what would be decided for it, and leave it at that.

        No upstream is asked and no row is kept: it is no request to a model.

        Raises:
            asyncio.CancelledError: the client is gone.
        """
        record = CallRecord(CHAT.name, clock=self._clock)
        call = Call(self.snapshot, CHAT, exchange, record)
        call.is_preview = True
        try:
            await self._admit(call)
            call.body = await exchange.read_body()
            _need_plain(exchange.headers)
            call.request = CHAT.parse(call.body)
            decision = await self._decide(call)
        except RouterError as error:
            await send_error(error, exchange, record.router_headers())
            return
        told = msgspec.json.encode(_told(decision, record, self.snapshot))
        await exchange.answer(200, [(b"content-type", JSON_MEDIA_TYPE)], told)

    async def pass_on(
        self, exchange: Exchange, *, method: str, raw_path: bytes, query: str
    ) -> None:
        """Answer a request that is not ours to understand: an upstream does.

        What is about an answer of the local tier's is answered here, for it remembers none.

        Args:
            raw_path: as it was sent, /v1 included.

        Raises:
            asyncio.CancelledError: the client is gone.
        """

        async def way(call: Call) -> None:
            await self._passthrough.answer(call, method=method, raw_path=raw_path, query=query)

        await self._run(OTHER, exchange, way)

    async def _run(
        self, endpoint: Endpoint, exchange: Exchange, way: Callable[[Call], Awaitable[None]]
    ) -> None:
        """Go a request's way, and whatever happens on it end in one answer and one record."""
        snapshot = self.snapshot
        record = CallRecord(endpoint.name, clock=self._clock)
        logs.request_id.set(record.id)
        if logs.wants_trace(exchange.headers):
            record.trace = []
        call = Call(snapshot, endpoint, exchange, record)
        self._running += 1
        try:
            with self.deadlines.within(snapshot.config.server.request_timeout_seconds):
                await self._admit(call)
                await way(call)
        except asyncio.CancelledError:
            if exchange.client_gone:
                record.finish(Ending.CLIENT_GONE)
                raise
            # Nobody else cancels but the server, when it stops and its patience is over.
            await self._refuse(
                call, ServerStopping("The proxy is being stopped; please send the request again.")
            )
        except RouterError as error:
            await self._refuse(call, error)
        except TimeoutError:
            await self._refuse(call, _out_of_time(snapshot, record))
        except RecursionError:  # just within what could be read, a part of it is not
            nested = InvalidRequest("The request body is nested too deeply.")
            await self._refuse(call, nested)
        except Exception:
            logger.exception("request %s failed", record.id)
            bug = InternalError("The proxy failed to answer this request; its log says why.")
            await self._refuse(call, bug)
        finally:
            self._keep(call)
            self._compare(call)
            logs.log_request(record, snapshot.config.logging)
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

    async def admit(self, headers: Sequence[tuple[bytes, bytes]]) -> Client | None:
        """Whose request beside these ways it is; it counts as one of the key's."""
        client = self.snapshot.keys.check(headers)
        await self._limits.admit(client)
        return client

    def client_of(self, headers: Sequence[tuple[bytes, bytes]]) -> Client | None:
        """Whose request it is, where it is none to a model and counts as none of the key's."""
        return self.snapshot.keys.check(headers)

    def need_admin(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Refuse, with Forbidden, who may not see or do more than one client's business."""
        if not is_admin(self.client_of(headers)):
            raise Forbidden(
                "This API key may not see this: server.api_keys says `admin: true` of those that "
                "may.",
                code="admin_only",
            )

    async def _admit(self, call: Call) -> None:
        """Find out whose request it is, and whether there may be one more."""
        call.client = call.snapshot.keys.check(call.exchange.headers)
        if call.client is not None:
            call.record.client_key_hash = call.client.key_hash
        await self._limits.admit(call.client)

    async def _need_budget(self, call: Call, model: str | None = None) -> None:
        """Refuse what must go to the cloud, as this model if its price is known, when the dollars
        are spent."""
        try:
            await self._reserve(call, model, may_wait=True)
        except BudgetExhausted:
            call.record.reason = Reason.BUDGET
            raise

    async def _reserve(self, call: Call, model: str | None, *, may_wait: bool = False) -> None:
        """Set dollars aside for what goes to the cloud. Raises BudgetExhausted."""
        budget = call.snapshot.config.budget.cloud_usd_per_day
        if budget is None and (call.client is None or call.client.cloud_usd_per_day is None):
            return
        if call.is_preview:
            self._limits.check_budget(call.client, usd_per_day=budget)
            return
        usd = _at_most(call, model) if model is not None else 0.0
        began = self._clock()
        try:
            call.reservation = await self._limits.reserve(
                call.client, usd, usd_per_day=budget, may_wait=may_wait
            )
        finally:
            call.waited_seconds += self._clock() - began

    async def _can_pay(self, call: Call, target: Target) -> bool:
        """Whether a request may go to this tier, too, for which so far nothing was set aside."""
        if target is Target.CLOUD:
            try:
                await self._reserve(call, call.snapshot.upstreams[target].model)
            except BudgetExhausted:
                return False
        return True

    def _may_spend(self, call: Call) -> bool:
        budget = call.snapshot.config.budget.cloud_usd_per_day
        return self._limits.has_budget(call.client, usd_per_day=budget)

    def paced_threshold(self, snapshot: Snapshot) -> float:
        """The threshold where a request brings none: the configured one, or what dollars allow."""
        budget = snapshot.config.budget
        return self._pacer.threshold(
            snapshot.router.threshold,
            usd_per_day=budget.cloud_usd_per_day if budget.pacing else None,
            spent_usd=self._limits.spent_today(),
        )

    async def _decide(self, call: Call) -> Decision:
        started = self._clock()
        request, record = call.request, call.record
        record.no_store = wants_no_store(call.exchange.headers)
        record.requested_model = request.model
        record.streamed = request.streams
        record.turns = request.turns
        if not call.endpoint.is_routed:
            decision = _by_name(call)
            if decision.target is Target.CLOUD:
                await self._need_budget(call, decision.model)
        else:
            decision = await self._choose(call)
        record.target, record.reason, record.model = decision[:3]
        record.threshold = decision.threshold
        if decision.reason in (Reason.SCORE, Reason.SHADOW):
            record.propensity = decision.propensity
        if decision.score is not None:
            record.score, record.p_local, record.p_cloud = decision.score
        record.decision_ms = (self._clock() - started - call.waited_seconds) * 1e3
        return decision

    async def _choose(self, call: Call) -> Decision:
        """The tier, by what the client wants, what the local one can do, and the router's score."""
        request, record, snapshot = call.request, call.record, call.snapshot
        headers, turns = call.exchange.headers, record.turns or ()
        # Whatever decides this one, the next one may be open.
        record.session_id = session_of(turns, request.hints, headers, record.client_key_hash)
        local = snapshot.upstreams[Target.LOCAL]
        _check_background(call)
        preference = snapshot.router.read_preference(request.model, headers, local.models)
        limit = None
        if preference.target is not Target.CLOUD:
            if preference.model is not None:
                call.capabilities = await local.capabilities_of(preference.model)
            limit = await self._local_limits.check(request, call.capabilities, record)
        if call.maker is Target.CLOUD and preference.target is not Target.CLOUD:
            limit = LimitExceeded(Reason.STICKY, _made_by_the_cloud())
        record.step("asked for %s: %s", request.model, preference)
        record.step("the local tier %s", limit or "can do it, as far as is known")
        if limit is not None and preference.target is Target.LOCAL:
            raise limit.error
        record.is_paced = preference.target is None and preference.threshold is None
        decision = await snapshot.router.decide(
            preference,
            turns,
            not_local=limit.reason if limit is not None else None,
            paced_threshold=self.paced_threshold(snapshot),
        )
        record.step("decided: %s", decision)
        if decision.is_open:
            decision = await self._stay(call, decision)
            decision = _around_trouble(decision, snapshot)
            record.step("with its conversation and the tiers' health: %s", decision)
        if decision.target is Target.CLOUD:
            if not _may_stay_local(preference, limit, snapshot.config):
                await self._need_budget(call, decision.model)
            else:
                try:
                    await self._reserve(call, decision.model)
                except BudgetExhausted:
                    decision = decision._replace(
                        target=Target.LOCAL, reason=Reason.BUDGET, model=local.model, is_open=False
                    )
                    record.step("the dollars for the cloud are spent: %s", decision)
        # A threshold of the request's own is not comparable; what something else than the score
        # has decided would have gone there by another score, too.
        if (
            decision.reason is Reason.SCORE
            and preference.threshold is None
            and snapshot.shadow_router
        ):
            snapshot.shadow_router.ask(record)
        return decision

    async def _stay(self, call: Call, decision: Decision) -> Decision:
        """The tier where this conversation is, where that matters."""
        sticky = call.snapshot.config.routing.sticky
        if sticky == "off":
            return decision
        record, kept = call.record, call.maker
        if kept is None and is_continued(record.turns or (), call.exchange.headers):
            assert record.session_id is not None  # of what is routed
            kept = await self._conversations.find(record.session_id)
        if kept is None or kept is decision.target:
            return decision
        if sticky == "escalate_only" and kept is Target.LOCAL:
            return decision
        model = call.snapshot.upstreams[kept].model
        return decision._replace(target=kept, reason=Reason.STICKY, model=model)

    async def _answer(self, call: Call, decision: Decision) -> None:
        """Get an answer from the decided tier, or from the other one, and relay it."""
        endpoint, request, record, snapshot = (
            call.endpoint,
            call.request,
            call.record,
            call.snapshot,
        )
        plan = FailoverPlan(
            may_fall_back=snapshot.config.routing.fallback
            and decision.is_open
            and (decision.target is Target.CLOUD or self._may_spend(call)),
            budget=self._retry_budget,
            first_wait=self._first_wait,
        )
        self._retry_budget.earn()
        target, model = decision.target, decision.model
        record.open_upstream()
        while True:
            upstream = snapshot.upstreams[target]
            record.step("sent to the %s tier as %s", target, model)
            rewritten = upstream_body(call, target, model)
            is_renamed = endpoint is RESPONSES and target is Target.LOCAL
            rename = ResponseIdRewriter(record.id).rename if is_renamed else None
            response = begun = error = None
            try:
                try:
                    response = await upstream.open(
                        endpoint.path,
                        rewritten,
                        call.exchange.headers,
                        stream=request.streams,
                        client=record.client_key_hash,
                    )
                    begun = await begin(
                        response, endpoint, strip_usage=request.hides_usage, rename=rename
                    )
                    check_credential(response.status, begun.error, upstream=upstream.name)
                    failure = failure_of_answer(
                        response.status,
                        response.headers,
                        target=target,
                        error=begun.error,
                        endpoint=endpoint,
                    )
                except UpstreamError as caught:
                    error, failure = caught, failure_of_error(caught)
                step = plan.after(failure, target=target) if failure is not None else None
                if isinstance(step, FallBack) and not await self._can_pay(call, target.other):
                    step = None
                record.step("the %s tier: %s", target, failure or "answers")
                if failure is None or step is None:
                    if error is not None or response is None or begun is None:
                        raise _after_fallback(error, record)
                    await self._relay(call, response, begun)
                    return
            finally:  # before any last word to the client, who may not be listening
                if response is not None:
                    await response.close()
            if isinstance(step, Retry):
                await asyncio.sleep(step.seconds)
                continue
            record.fallback_from, record.fallback_why = target, failure.why
            target = target.other
            if target is Target.LOCAL:
                self._limits.release(call.reservation)
                call.reservation = Reservation()
            model = snapshot.upstreams[target].model
            record.target, record.model, record.reason = target, model, Reason.FALLBACK

    async def _relay(self, call: Call, response: UpstreamResponse, begun: Whole | Head) -> None:
        request, record = call.request, call.record
        seen = begun.seen if isinstance(begun, Whole) else None
        is_pending = isinstance(seen, ResponseView) and seen.is_pending

        def settle(usage: Usage | None, text: str, service_tier: str | None) -> None:
            if not is_pending:  # there are no tokens yet
                self._settle(call, usage, text, service_tier)

        def note(last: AnswerView | None) -> None:
            record.finish_reason = last.finish_reason if last is not None else None
            if record.no_store:
                return
            if isinstance(request, ResponsesRequest) and isinstance(last, ResponseView):
                assert record.target is not None  # it has answered
                client = record.client_key_hash
                self._stored_responses.note(last, request, target=record.target, client=client)

        if isinstance(begun, Head):
            await relay_stream(response, begun, call.exchange, record, settle=settle, note=note)
        else:
            await relay_whole(response, begun, call.exchange, record, settle=settle, note=note)

    def _settle(self, call: Call, usage: Usage | None, text: str, service_tier: str | None) -> None:
        """Tokens, from the upstream or estimated, and dollars."""
        record, snapshot = call.record, call.snapshot
        record.response = text
        if usage is not None and usage.is_credible:
            record.usage_source = UsageSource.UPSTREAM
            record.input_tokens = usage.prompt_tokens
            record.cached_input_tokens = usage.cached_tokens
            record.output_tokens = usage.completion_tokens or 0
            record.reasoning_tokens = usage.reasoning_tokens
            is_local = record.target is Target.LOCAL
            if is_local and self._local_limits.was_cut(record, usage, call.capabilities):
                self._metrics.count_truncation()
        else:
            record.usage_source = UsageSource.ESTIMATED
            record.input_tokens = self._tokens.count_messages(
                record.turns or (), other_chars=call.request.tool_chars
            )
            record.cached_input_tokens = 0
            record.output_tokens = self._tokens.count(text)
        snapshot.prices.settle(record, service_tier=service_tier, is_routed=call.endpoint.is_routed)

    async def _refuse(self, call: Call, error: RouterError) -> None:
        """One clear error: as the answer, or as the last event of a stream that has begun."""
        exchange, record = call.exchange, call.record
        record.finish(_ending_of(error), error=error.message, error_code=error.code or error.type)
        if not exchange.started:
            record.status = error.status
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                if exchange.started and call.endpoint is OTHER:
                    pass  # within an answer of any kind nothing can be said; it is cut off
                elif exchange.started:
                    await exchange.send(call.endpoint.error_event(error), more=False)
                else:
                    await send_error(error, exchange, record.router_headers())
        except TimeoutError:
            logger.warning("request %s: its client does not read; hanging up", record.id)

    def _keep(self, call: Call) -> None:
        """The record's one way into the metrics and the database."""
        record = call.record
        if record.ending is None:
            record.finish(Ending.INTERNAL_ERROR, error_code=InternalError.code)
        if record.saved_usd and record.ending not in (Ending.OK, Ending.CLIENT_GONE):
            record.saved_usd = 0.0  # half an answer has cost something and saved nothing
        if record.session_id is not None and record.target and record.ending is Ending.OK:
            self._conversations.note(record.session_id, record.target)
        self._draw(call)
        self._limits.record_cost(record)
        self._limits.release(call.reservation)
        self._pacer.observe(record)
        self._metrics.observe(record)
        self._store.add(record)

    def _draw(self, call: Call) -> None:
        """Perhaps have the answer judged. Only text is: no images, tools or several choices."""
        record, sampler = call.record, call.snapshot.sampler
        if sampler is None or record.score is None or not call.request.needs.keys() <= _JUDGEABLE:
            return
        record.sample = sampler.draw(record)
        if record.sample is not None and call.endpoint is CHAT:
            record.body = call.body.decode()

    def _compare(self, call: Call) -> None:
        """Count what the candidate router would have done, where it has scored a request, too."""
        record, shadow_router = call.record, call.snapshot.shadow_router
        if shadow_router is not None and record.candidate_score is not None:
            live, candidate = shadow_router.targets(record)
            live_usd, candidate_usd = (
                call.snapshot.prices.cost_at(record, target) for target in (live, candidate)
            )
            self._metrics.count_shadow_decision(
                live, candidate, live_usd=live_usd, candidate_usd=candidate_usd
            )


def _told(decision: Decision, record: CallRecord, snapshot: Snapshot) -> dict[str, object]:
    """A decision, in the words of `hybrid-llm route --json`."""
    return {
        "target": decision.target.value,
        "model": decision.model,
        "score": record.score,
        "p_local": record.p_local,
        "p_cloud": record.p_cloud,
        "threshold": decision.threshold,
        "reason": decision.reason.value,
        "latency_ms": round(record.decision_ms or 0.0, 3),
        "router_model": snapshot.model_version,
    }


async def send_error(
    error: RouterError, reply: Reply, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Answer with an error in OpenAI's envelope."""
    sent = [(b"content-type", JSON_MEDIA_TYPE), *error.headers, *headers]
    await reply.answer(error.status, sent, envelope(error))


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


def _at_most(call: Call, model: str) -> float:
    """Dollars that a request costs at most in the cloud, by this model's standard price."""
    asked, answer = len(call.body), 0
    if call.endpoint.is_routed:
        answer = call.request.answer_tokens or ANSWER_TOKENS
        # No model reads or writes more than its context, whatever images weigh or a client allows
        # for: one request must not keep a day's dollars from all others.
        context, choices = call.snapshot.config.upstreams.cloud.context_tokens, call.request.choices
        if context != "auto":
            # Of a conversation that the cloud remembers the body is the last turn only.
            asked = context if call.maker is Target.CLOUD else min(asked, context * choices)
            answer = min(answer, context)
        answer *= choices
    return call.snapshot.prices.at_most(model, body_bytes=asked, answer_tokens=answer)


def _may_stay_local(
    preference: RoutingPreference, limit: LimitExceeded | None, config: Config
) -> bool:
    """Whether a request may go to the local tier because the cloud is no longer paid for."""
    return preference.target is None and limit is None and config.budget.when_spent == "local"


def _check_background(call: Call) -> None:
    """Refuse answers in the background to a key with a budget, which they could pass by: what they
    cost shows when they are asked for, long after many have begun or never."""
    request, client = call.request, call.client
    if not isinstance(request, ResponsesRequest) or not request.in_background:
        return
    if client is not None and client.cloud_usd_per_day is not None:
        raise InvalidRequest(
            "This API key has a budget, so it can have no answers in the background: what they "
            "cost is not known in time.",
            param="background",
        )


def _by_name(call: Call) -> Decision:
    """The tier that serves the named model, for what is not a question of difficulty.

    Raises:
        InvalidRequest: the name is one that asks to be routed.
        NotFound: nobody serves it.
    """
    model, snapshot, headers = call.request.model, call.snapshot, call.exchange.headers
    forced = read_headers(RoutingPreference(), headers).target
    local = snapshot.upstreams[Target.LOCAL]
    if forced is None and any(is_same_model(model, one) for one in local.models):
        return Decision(Target.LOCAL, Reason.FORCED, model)
    if forced is Target.LOCAL:  # no other model's vectors would do, so the name stays
        own = local.model if model in ("auto", *Target) else model
        return Decision(Target.LOCAL, Reason.FORCED, own)
    preference = snapshot.router.read_preference(model, headers)
    if preference.target is not None:
        own = snapshot.upstreams[preference.target].model
        return Decision(preference.target, Reason.FORCED, preference.model or own)
    if model != snapshot.upstreams[Target.CLOUD].model:
        raise InvalidRequest(
            f"'{model}' chooses between chat models; name the model that is to answer here.",
            param="model",
        )
    return Decision(Target.CLOUD, Reason.FORCED, model)


def _made_by_the_cloud() -> InvalidRequest:
    return InvalidRequest(
        "The local model cannot continue an answer of the cloud's: only the cloud has it.",
        param="previous_response_id",
        code="unsupported_by_local_model",
    )


def _around_trouble(decision: Decision, snapshot: Snapshot) -> Decision:
    """The other tier instead of one that is down, or of a local one that is long busy.

    Never into trouble: where the other one is down, too, the decision stays.
    """
    routing = snapshot.config.routing
    chosen = snapshot.upstreams[decision.target]
    other = snapshot.upstreams[decision.target.other]
    if other.is_unhealthy:
        return decision
    reason = None
    if chosen.is_unhealthy and routing.fallback:
        reason = Reason.UNHEALTHY
    elif (
        decision.target is Target.LOCAL
        and decision.reason is not Reason.BUDGET  # or the more it saves the more would be spent
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
    if record.requested_model is None and record.target is None:
        return RequestTimeout(f"The request was not sent within {seconds:g} seconds.")
    return UpstreamTimeout(
        f"The request was not answered within {seconds:g} seconds.",
        upstream=record.target or "none",
        phase="total",
    )


def _need_plain(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises UnsupportedEncoding for a body that is not sent as it is."""
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedEncoding(
                f"The content-encoding '{value.decode('latin-1')}' is not read here: send the body "
                "as plain JSON."
            )
