"""The flow of a request, free of Litestar and testable without HTTP.

    parse → decide → open upstream (retry, or fall back to the other tier)
          → check, second look → relay → record

Whatever happens, the client gets an answer or one clear error, the upstream is closed, and the
record is finished and stored exactly once. A client that disconnects cancels the task that runs
`answer`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from proxy import logs
from proxy.auth import Principal
from proxy.budget import BudgetPacer, Limits, Reservations, TokenCounter
from proxy.errors import (
    BudgetExhausted,
    InternalError,
    InvalidRequest,
    ProxyOverloaded,
    RouterError,
    ServerStopping,
    UpstreamError,
    UpstreamUnreachable,
)
from proxy.gateway.adaptation import learn_refusal, log_refusal, read_local_refusal
from proxy.gateway.answer_checks import check_attempt, check_stream
from proxy.gateway.attempt import Attempt, open_upstream
from proxy.gateway.bodies import BodyCopy, may_keep
from proxy.gateway.bookkeeping import Bookkeeping
from proxy.gateway.call import Call, Exchange, KeptAnswer, Snapshot, parse, resolve_references
from proxy.gateway.conversations import Conversations
from proxy.gateway.decision import DecisionMaker
from proxy.gateway.error_text import describe_answer, describe_attempt, describe_error
from proxy.gateway.failover import (
    FIRST_WAIT_SECONDS,
    FailoverPlan,
    Failure,
    FallBack,
    Retry,
    RetryBudget,
)
from proxy.gateway.native_answers import TranslatingWriter
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.refusal import ending_of, name_earlier_failure, request_timeout, send_error
from proxy.gateway.relay import (
    CompleteResponse,
    StreamHold,
    StreamStart,
    error_code_of,
    error_of_complete,
    not_an_answer,
    relay_complete,
    relay_stream,
)
from proxy.gateway.second_look import SecondLook
from proxy.gateway.stored_responses import StoredResponses
from proxy.gateway.stream_observer import Outcome
from proxy.metrics import Metrics
from proxy.protocol import JSON_MEDIA_TYPE, AnswerView
from proxy.protocol.endpoints import (
    CHAT,
    MANAGEMENT,
    MESSAGES,
    OTHER,
    Endpoint,
    other_endpoint,
)
from proxy.protocol.response_objects import ResponseView
from proxy.protocol.responses import ResponsesRequest
from proxy.record import CallRecord, Ending, Reason, SecondLookResult, Target
from proxy.routing import Decision, LocalLimits
from proxy.storage import Store
from proxy.timeouts import Deadlines

logger = logging.getLogger(__name__)

# An error has a few hundred bytes. A client that needs longer has stopped reading.
ERROR_SEND_SECONDS: Final = 1.0


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
        loop_delay: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.perf_counter,
        first_wait: float = FIRST_WAIT_SECONDS,
        error_send_seconds: float = ERROR_SEND_SECONDS,
    ) -> None:
        """
        Args:
            loop_delay: the present delay of the event loop, in seconds.
        """
        self.snapshot = snapshot
        # Load balancers should send no new requests. They are still answered.
        self.is_draining = False
        self.deadlines = Deadlines()
        self._limits = limits
        self._loop_delay = loop_delay
        self._clock = clock
        self._first_wait = first_wait
        self._error_send_seconds = error_send_seconds
        self._running = 0
        self._idle = asyncio.Event()
        self._retry_budget = RetryBudget()
        self._reservations = Reservations(limits.spending, clock=clock)
        self._local_limits = local_limits = LocalLimits(tokens)
        self._decisions = DecisionMaker(
            reservations=self._reservations,
            limits=limits,
            pacer=pacer,
            tokens=tokens,
            local_limits=local_limits,
            conversations=conversations,
            clock=clock,
        )
        self._bookkeeping = Bookkeeping(
            store=store,
            metrics=metrics,
            tokens=tokens,
            limits=limits,
            reservations=self._reservations,
            pacer=pacer,
            local_limits=local_limits,
            conversations=conversations,
        )
        self._stored_responses = StoredResponses(store)
        self._passthrough = Passthrough(
            self._stored_responses, require_budget=self._decisions.require_budget
        )

    async def answer(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Answer a request to one of the endpoints.

        Raises:
            asyncio.CancelledError: the client has disconnected.
        """
        call = self._open_call(endpoint, exchange)
        await self._run(call, self._answer(call))

    async def _answer(self, call: Call) -> None:
        """The main flow: parse, decide, open the upstream, relay. `_run` records."""
        await self._admit(call)
        await parse(call)
        await resolve_references(call, self._stored_responses)
        decision = await self._decisions.decide(call)
        target, model = decision.target, decision.model
        if call.is_load and call.wire(target).native is None:
            await self._answer_load(call, target)
            return
        plan = self._plan_failover(call, decision)
        call.record.open_upstream()
        if decision.has_second_look and plan.may_fall_back:
            target, model = self._begin_second_look(call, decision)
        hold = None
        if call.request.streams:
            seconds = call.snapshot.config.server.hold_seconds
            hold = StreamHold(call.writer, call.record, seconds=seconds)
        while True:
            try:
                attempt = await self._open_attempt(call, target, model, hold)
            except BaseException:  # the client has disconnected, or the time is over
                self._bookkeeping.close_attempt(call)
                raise
            try:
                attempt = await self._check_answer(call, attempt, plan, hold)
                step = await self._next_step(call, plan, attempt, target)
                if step is None:  # an answer, or a failure that is the answer
                    if attempt.start is not None and attempt.start.error is None:
                        learn_refusal(call)
                    await self._relay(call, self._final_attempt(call, attempt))
                    return
                if attempt.failure is not None and attempt.failure.is_rejected:
                    call.kept = self._bookkeeping.keep(call)
            finally:  # before sending an error, which may take long
                self._bookkeeping.close_attempt(call)
                if attempt.response is not None:
                    await attempt.response.close()
            if isinstance(step, Retry):
                step = await self._wait_to_retry(call, plan, step, target, model)
            if step is not None:
                target, model = await self._fall_back(call, target, attempt)

    async def _answer_load(self, call: Call, target: Target) -> None:
        """Answer a request that loads a model of a server that loads its models itself.

        Raises:
            UpstreamUnreachable: the local server is not known to run.
        """
        upstream = call.snapshot.upstreams[target]
        is_down = upstream.up is False or upstream.is_unhealthy
        if target is Target.LOCAL and (is_down or upstream.catalog.known_names is None):
            raise UpstreamUnreachable(
                "The local upstream is not known to run, so no model can be loaded. Retry.",
                upstream=target,
            )
        record, writer = call.record, call.writer
        assert isinstance(writer, TranslatingWriter)  # only a request to such an API loads
        record.status = 200
        await writer.answer_load(record.router_headers(), is_unload=call.is_unload)
        record.finish(Ending.OK)

    async def preview(self, exchange: Exchange) -> None:
        """Answer a chat request with the decision for it, without a request to an upstream.

        Raises:
            asyncio.CancelledError: the client has disconnected.
        """

        async def preview(call: Call) -> object:
            decision = await self._decisions.decide(call)
            return decision.to_dict(
                latency_ms=call.record.decision_ms or 0.0,
                router_model=call.snapshot.model_version,
            )

        await self._answer_here(CHAT, exchange, preview)

    async def count_tokens(self, exchange: Exchange) -> None:
        """Answer a request for a message with the number of its tokens.

        Raises:
            asyncio.CancelledError: the client has disconnected.
        """

        async def count(call: Call) -> object:
            return {"input_tokens": await self._local_limits.count_prompt(call.request)}

        await self._answer_here(MESSAGES, exchange, count)

    async def _answer_here(
        self,
        endpoint: Endpoint,
        exchange: Exchange,
        work: Callable[[Call], Awaitable[object]],
    ) -> None:
        """Answer a request to an endpoint with a JSON object of the proxy's own.

        No row is stored, because no model was asked.
        """
        call = self._open_call(endpoint, exchange)
        call.is_preview = True
        try:
            await self._admit(call)
            await parse(call)
            payload = await work(call)
        except (RouterError, RecursionError) as error:
            known = error if isinstance(error, RouterError) else _nested_too_deeply()
            headers = call.record.router_headers()
            await send_error(known, exchange, headers, body_of=endpoint.error_body)
            return
        headers = [(b"content-type", JSON_MEDIA_TYPE), *call.record.router_headers()]
        await exchange.answer(200, headers, msgspec.json.encode(payload))

    async def pass_through(
        self, exchange: Exchange, *, method: str, raw_path: bytes, query: str
    ) -> None:
        """Answer a request to any other path, from an upstream or from the stored responses.

        Args:
            raw_path: as the client sent it, with /v1.

        Raises:
            asyncio.CancelledError: the client has disconnected.
        """
        call = self._open_call(other_endpoint(raw_path), exchange)
        await self._run(call, self._pass_through(call, method, raw_path, query))

    async def _pass_through(self, call: Call, method: str, raw_path: bytes, query: str) -> None:
        await self._admit(call)
        await self._passthrough.answer(call, method=method, raw_path=raw_path, query=query)

    async def manage_models(self, exchange: Exchange, *, method: str, path: str) -> None:
        """Pass a request that manages the local server's models through, if that is allowed.

        Raises:
            asyncio.CancelledError: the client has disconnected.
        """
        call = self._open_call(MANAGEMENT, exchange)
        await self._run(call, self._manage_models(call, method, path))

    async def _manage_models(self, call: Call, method: str, path: str) -> None:
        await self._admit(call)
        await self._passthrough.manage_models(call, method=method, path=path)

    async def drain(self) -> None:
        """Wait until no request runs, but no longer than sending an error may take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._error_send_seconds):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()

    async def admit(self, headers: Sequence[tuple[bytes, bytes]]) -> Principal | None:
        """Authenticate a request outside the main flow, and count it against the key's rate."""
        principal = self.snapshot.keys.authenticate(headers)
        await self._limits.rates.admit(principal)
        return principal

    def paced_threshold(self, snapshot: Snapshot) -> float:
        """The threshold for requests without one: the configured one, or the budget pacer's."""
        return self._decisions.paced_threshold(snapshot)

    def _open_call(self, endpoint: Endpoint, exchange: Exchange) -> Call:
        record = CallRecord(endpoint.name, clock=self._clock)
        logs.request_id.set(record.id)
        if logs.wants_trace(exchange.headers):
            record.trace = []
        return Call(self.snapshot, endpoint, exchange, record)

    async def _run(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        """Run a request. It always ends with exactly one answer and one record."""
        exchange, record, config = call.exchange, call.record, call.snapshot.config
        self._running += 1
        try:
            with self.deadlines.within(config.server.request_timeout_seconds) as call.deadline:
                await work
        except asyncio.CancelledError:
            if exchange.client_gone:
                record.finish(Ending.CLIENT_GONE)
                raise
            # Only the server cancels as well, when its graceful shutdown runs out of time.
            stopping = ServerStopping("The proxy is shutting down. Retry the request.")
            await self._refuse(call, stopping)
        except RouterError as error:
            await self._refuse(call, error)
        except TimeoutError:
            await self._time_out(call)
        except RecursionError:
            await self._refuse(call, _nested_too_deeply())
        except Exception:
            logger.exception("request %s failed", record.id)
            bug = InternalError("The proxy failed to answer this request. See its log.")
            await self._refuse(call, bug)
        finally:
            if call.look is not None:
                await call.look.close()
            self._bookkeeping.close(call)
            logs.log_request(record, config.logging)
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _admit(self, call: Call) -> None:
        """Authenticate the caller, and count the request against the key's rate limit.

        Raises:
            RouterError: the caller may not ask now, or the proxy is overloaded. The body is unread.
        """
        call.principal = call.snapshot.keys.authenticate(call.exchange.headers)
        if call.principal is not None:
            call.record.client_key_hash = call.principal.key_hash
            call.record.client_key_name = call.principal.name
        limit = call.snapshot.config.server.overload_seconds
        if limit is not None and (delay := self._loop_delay()) > limit:
            raise ProxyOverloaded(delay)
        await self._limits.rates.admit(call.principal)

    def _plan_failover(self, call: Call, decision: Decision) -> FailoverPlan:
        config = call.snapshot.config
        self._retry_budget.earn()
        return FailoverPlan(
            may_fall_back=config.routing.fallback
            and decision.has_alternative
            and (decision.target is Target.CLOUD or self._reservations.has_budget(call, config)),
            budget=self._retry_budget,
            first_wait=self._first_wait,
        )

    async def _next_step(
        self, call: Call, plan: FailoverPlan, attempt: Attempt, target: Target
    ) -> Retry | FallBack | None:
        """The step after an attempt; None when it is the answer."""
        call.record.step("the %s tier: %s", target, attempt.failure or "answers")
        if attempt.failure is None:
            return None
        step = plan.after(attempt.failure, target=target)
        if isinstance(step, FallBack) and not await self._decisions.can_pay(call, target.other):
            if call.record.second_look is SecondLookResult.ESCALATED:
                call.record.second_look, call.record.reason = SecondLookResult.KEPT, Reason.BUDGET
            return None
        return step

    def _begin_second_look(self, call: Call, decision: Decision) -> tuple[Target, str]:
        """Let the local model answer first, also if the prompt alone decides for the cloud.

        The dollars that are reserved for the cloud stay reserved for an escalation.
        """
        model = call.snapshot.upstreams[Target.LOCAL].model
        call.look = SecondLook(call, decision, self._bookkeeping)
        call.record.target, call.record.model = Target.LOCAL, model
        return Target.LOCAL, model

    async def _open_attempt(
        self, call: Call, target: Target, model: str, hold: StreamHold | None
    ) -> Attempt:
        """Ask a tier. The local answer of a second look is complete, other streams have begun."""
        if call.look is not None and target is Target.LOCAL:
            return await call.look.ask_local(model, hold)
        if target is Target.LOCAL and call.endpoint.is_generation and not call.is_unload:
            await self._wait_for_load(call, model, hold)
        return await open_upstream(call, target, model, hold=hold)

    async def _wait_for_load(self, call: Call, model: str, hold: StreamHold | None) -> None:
        """Wait while the local model is loaded, as long as a request may take.

        The wait has no slot of the tier and is no part of the first-token timeout.
        """
        local = call.snapshot.upstreams[Target.LOCAL]
        while loads := local.load(model):
            call.record.step("waits until the local tier has loaded %s", model)
            seconds = hold.seconds_left if hold is not None else None
            await asyncio.wait(loads, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if hold is not None and hold.is_due:
                await hold.send(None, b"")

    async def _check_answer(
        self, call: Call, attempt: Attempt, plan: FailoverPlan, hold: StreamHold | None
    ) -> Attempt:
        """Check a local answer that is about to be sent. A rejected one is escalated."""
        failure, look = attempt.failure, call.look
        if look is not None and call.record.target is Target.CLOUD:
            look = None  # it is over
        if failure is None and (check := await check_attempt(call, attempt)) is not None:
            call.record.failed_check = check
            failure = Failure(check, may_retry=False, is_rejected=True)
            if look is not None:
                look.fail()
        if look is not None:
            failure = failure or await look.decide(attempt, hold)
            await look.close()
        if failure is None or not plan.may_fall_back:
            return attempt
        return attempt._replace(failure=failure)

    async def _wait_to_retry(
        self, call: Call, plan: FailoverPlan, retry: Retry, target: Target, model: str
    ) -> FallBack | None:
        """Wait for a retry. Without dollars for it, return the fallback instead.

        Raises:
            BudgetExhausted: a budget has no dollars left, and there is no fallback.
        """
        try:
            if target is Target.CLOUD:
                await self._decisions.require_retry(call, model)
        except BudgetExhausted:
            call.record.step("the budget has no dollars for a retry")
            step = plan.without_retry()
            if step is None:
                call.record.reason = Reason.BUDGET
                raise
            return step
        await asyncio.sleep(retry.seconds)
        return None

    async def _fall_back(self, call: Call, target: Target, attempt: Attempt) -> tuple[Target, str]:
        """Move a request to the other tier. Returns the tier and its model."""
        failure, record = attempt.failure, call.record
        assert failure is not None  # an answer needs no fallback
        if failure.is_refusal and attempt.response is not None:
            log_refusal(call, failure, attempt.response.status, attempt.start)
            if target is Target.LOCAL:
                call.refusal = await read_local_refusal(call, attempt.start, self._local_limits)
        record.fall_back(target, failure.why, describe_attempt(call, attempt))
        if target.other is Target.LOCAL:
            self._release_unspent(call)
        model = call.snapshot.upstreams[target.other].model
        reason = Reason.ESCALATED if failure.is_rejected else Reason.FALLBACK
        record.target, record.model, record.reason = target.other, model, reason
        return target.other, model

    def _final_attempt(self, call: Call, last: Attempt) -> Attempt:
        """The attempt to relay: the last one, or the kept answer if the last one is an error."""
        kept = _restorable(call)
        if kept is None:
            return last
        said = describe_attempt(call, last)
        if last.failure is not None:
            return self._restore(call, kept, last.failure.why, said)
        if last.start is not None and last.start.error is not None:
            assert last.response is not None  # it has started
            return self._restore(call, kept, error_code_of(last.response.status), said)
        return last

    def _restore(self, call: Call, kept: KeptAnswer, why: str, said: str | None) -> Attempt:
        """Return to a local answer that was rejected: the cloud has failed, too.

        The record is that of a fallback from the cloud, whose failed attempt may cost dollars.

        Args:
            why, said: why the cloud failed, as a code and in words.
        """
        self._bookkeeping.close_attempt(call)
        record = call.record
        record.step("the local answer is sent, as there is no better one")
        record.failed_usd -= kept.usd
        record.discarded_tokens = None
        record.fall_back(Target.CLOUD, why, said)
        record.target, record.model, record.reason = Target.LOCAL, kept.sent.model, Reason.FALLBACK
        record.adapted = kept.sent.adapted
        self._release_unspent(call)
        call.sent = kept.sent
        return Attempt(kept.sent.response, kept.sent.start, failure=None)

    def _release_unspent(self, call: Call) -> None:
        """Release the dollars that were reserved for the cloud, and that it has not earned."""
        if call.record.failed_usd:
            self._reservations.keep_spent(call, call.record.failed_usd)
        else:
            self._reservations.release(call)

    async def _relay(self, call: Call, attempt: Attempt) -> None:
        """Relay the answer of the last attempt, or raise its error."""
        request, record, exchange = call.request, call.record, call.exchange
        # The local server's own answers pass as they are.
        is_native = call.sent is not None and call.sent.wire.native is not None
        writer = exchange if is_native else call.writer
        response, start, _, error = attempt
        if response is None or start is None or error is not None:
            raise name_earlier_failure(error, record)
        if isinstance(start, CompleteResponse) and exchange.started:
            raise name_earlier_failure(error_of_complete(response, start), record)
        if not start.is_answer and isinstance(start, CompleteResponse):  # OpenAI's clients
            raise name_earlier_failure(not_an_answer(response, start), record)  # would misread it
        view = start.view if isinstance(start, CompleteResponse) else None
        is_pending = isinstance(view, ResponseView) and view.is_pending
        describe, keep = partial(describe_answer, call), None
        if may_keep(call):
            call.answer_copy = BodyCopy(start.body if isinstance(start, CompleteResponse) else b"")
            keep = call.answer_copy.add

        def settle(outcome: Outcome) -> None:
            if is_pending and call.sent is not None:  # a background response has no tokens yet
                call.sent.is_settled = True
            else:
                self._bookkeeping.settle(call, outcome)

        async def remember(last: AnswerView | None) -> None:
            record.finish_reason = last.finish_reason if last is not None else None
            if isinstance(last, ResponseView) and record.target is Target.CLOUD:
                call.response_id = last.id
                self._bookkeeping.note_conversation(last)
            is_blind = isinstance(start, StreamStart) and start.observer.blind
            if isinstance(request, ResponsesRequest) and isinstance(last, ResponseView):
                assert record.target is not None  # a tier has answered
                await self._stored_responses.remember(
                    last,
                    request,
                    target=record.target,
                    client=record.client_key_hash,
                    keeps_text=last.is_complete and not is_blind and not record.no_store,
                )

        if isinstance(start, StreamStart):
            call.is_streaming = True
            await relay_stream(
                response,
                start,
                writer,
                record,
                settle=settle,
                note=remember,
                describe=describe,
                keep=keep,
                is_started=exchange.started,
            )
            check = await check_stream(call, start)
            if check is not None:  # else it is that of an earlier attempt, if there is one
                record.failed_check = check
        else:
            await relay_complete(
                response, start, writer, record, settle=settle, note=remember, describe=describe
            )

    async def _time_out(self, call: Call) -> None:
        """End a request whose time is over: with a kept answer, or with an error."""
        error = request_timeout(call)
        kept = _restorable(call)
        if kept is None:
            await self._refuse(call, error)
            return
        attempt = self._restore(call, kept, error.code or error.type, error.message)
        try:
            async with asyncio.timeout(self._error_send_seconds):
                await self._relay(call, attempt)
        except TimeoutError:  # the client does not read
            call.record.finish(ending_of(error), error=error.message, error_code=error.code)
        except asyncio.CancelledError:
            call.record.finish(Ending.CLIENT_GONE)
            raise

    async def _refuse(self, call: Call, error: RouterError) -> None:
        """Send one error: as the answer, or as the last event of a started stream."""
        exchange, record = call.exchange, call.record
        text = describe_error(call, error)
        record.finish(ending_of(error), error=text, error_code=error.code or error.type)
        if isinstance(error, UpstreamError) and error.answer and not error.hides_words:
            call.answer_copy = BodyCopy(error.answer[1])
        if not exchange.started:
            record.status = error.status
        try:
            async with asyncio.timeout(self._error_send_seconds):
                if exchange.started and call.endpoint is OTHER:
                    pass  # an answer of unknown type cannot contain an error: it is truncated
                elif exchange.started:
                    await exchange.send(call.endpoint.error_event(error), more=False)
                else:
                    headers = record.router_headers() + record.cost_headers()
                    body_of = call.endpoint.error_body
                    await send_error(error, exchange, headers, body_of=body_of)
        except TimeoutError:
            logger.warning("request %s: the client does not read; closing", record.id)


def _nested_too_deeply() -> InvalidRequest:
    """The error for a part of a body that the parser skipped, and that is read later."""
    return InvalidRequest("The request body is nested too deeply.")


def _restorable(call: Call) -> KeptAnswer | None:
    """The kept answer, if the client can still get it.

    After the comments of a held stream only another stream can follow.
    """
    kept = call.kept
    if kept is None or call.is_streaming:
        return None
    is_stream = isinstance(kept.sent.start, StreamStart)
    return kept if is_stream or not call.exchange.started else None
