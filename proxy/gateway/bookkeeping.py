"""Bookkeeping after a request: usage and cost, its row, metrics, samples and budgets."""

from typing import Final

from proxy.budget import (
    Answered,
    BilledTokens,
    BudgetPacer,
    Limits,
    ModelLimits,
    Reservations,
    TokenCounter,
    estimate_output,
)
from proxy.errors import InternalError
from proxy.gateway.bodies import enter_bodies
from proxy.gateway.call import Call, KeptAnswer, Sent
from proxy.gateway.conversations import Conversations
from proxy.gateway.relay import StreamStart
from proxy.gateway.stream_observer import Outcome
from proxy.metrics import Metrics
from proxy.protocol import MAX_CONTEXT_TOKENS, EmbeddingRequest, Usage
from proxy.protocol.endpoints import CHAT
from proxy.protocol.response_objects import ResponseView
from proxy.protocol.responses import ResponsesRequest
from proxy.record import Ending, Target, UsageSource
from proxy.routing import LocalLimits
from proxy.storage import NotedAnswer, Store

_JUDGEABLE: Final = frozenset({"json_schema", "logprobs"})


class Bookkeeping:
    """Settles the usage of requests, and passes finished records to all consumers."""

    def __init__(
        self,
        *,
        store: Store,
        metrics: Metrics,
        tokens: TokenCounter,
        limits: Limits,
        reservations: Reservations,
        pacer: BudgetPacer,
        local_limits: LocalLimits,
        conversations: Conversations,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._tokens = tokens
        self._limits = limits
        self._reservations = reservations
        self._pacer = pacer
        self._local_limits = local_limits
        self._conversations = conversations

    def settle(self, call: Call, outcome: Outcome) -> None:
        """Enter tokens, reported by the upstream or estimated, and dollars into the record."""
        record, usage = call.record, outcome.usage
        record.response = outcome.text
        if call.history is not None:
            record.history_hash = call.history.key_of_answer(outcome.text, outcome.call_ids)
        max_tokens = _max_tokens(call)
        if usage is not None and usage.exceeds(max(max_tokens, MAX_CONTEXT_TOKENS)):
            usage = None  # a broken counter: its other counts are no better
        possible = (usage or Usage()).bounded(max_tokens, max_answer=_max_answer(call))
        prompt, answer = possible.prompt_tokens, possible.completion_tokens
        has_output = bool(outcome.text or outcome.other_text)
        is_complete = prompt is not None and (answer is not None or not has_output)
        is_reported = usage == possible and is_complete
        if not is_complete:
            estimate = self._estimate(call, record.target, record.model, outcome, call.sent)
            prompt = estimate.input if prompt is None else prompt
            answer = estimate.output if answer is None else answer
        record.input_tokens, record.output_tokens = prompt, answer or 0
        record.cached_input_tokens = possible.cached_tokens
        record.cache_write_tokens = possible.cache_write_tokens
        if usage is not None:
            record.reasoning_tokens = possible.reasoning_tokens
        record.usage_source = UsageSource.UPSTREAM if is_reported else UsageSource.ESTIMATED
        is_checked = is_reported and record.target is Target.LOCAL
        if is_checked and self._local_limits.was_truncated(record, possible, call.capabilities):
            self._metrics.count_truncation()
        if call.sent is not None:
            call.sent.is_settled = True
        service_tier = outcome.service_tier
        if service_tier is None or service_tier == "auto":  # the answer does not name it
            service_tier = self._asked_tier(call, is_cut_off=usage is None)
        tokens = BilledTokens(
            prompt or 0,
            answer or 0,
            possible.cached_tokens,
            possible.cache_write_tokens,
            possible.audio_input_tokens,
            possible.audio_output_tokens,
        )
        answered = Answered(outcome.model, _is_named(call), service_tier, outcome.hosted_calls)
        call.snapshot.prices.settle(record, tokens, answered, is_routed=call.endpoint.is_routed)

    def _asked_tier(self, call: Call, *, is_cut_off: bool) -> str | None:
        """The service tier of an answer that names none, or whose end was not seen.

        It is the requested one. A cheaper one is not assumed of a seen answer.
        """
        asked, record = call.request.service_tier, call.record
        if asked is None or is_cut_off or record.target is not Target.CLOUD or not record.model:
            return asked
        prices = call.snapshot.prices
        standard = prices.find(Target.CLOUD, record.model)
        special = prices.find(Target.CLOUD, record.model, service_tier=asked)
        if standard is None or special is None or special.output < standard.output:
            return None
        return asked

    def close_attempt(self, call: Call) -> None:
        """End an attempt. If it was sent and not settled, add its input and its output so far.

        Only an error status and a request that was never sent cost nothing. Each retry counts.
        """
        sent, call.sent = call.sent, None
        if sent is None or sent.is_settled or not sent.delivery.was_sent:
            return
        response = sent.response
        if response is None or 200 <= response.status < 300:
            self._add_failed(call, sent, sent.outcome)

    def keep(self, call: Call) -> KeptAnswer:
        """End an attempt whose answer was rejected. It is kept, as there may be no other."""
        sent, record = call.sent, call.record
        assert sent is not None  # it has answered
        before = record.failed_usd
        self.close_attempt(call)
        outcome = sent.outcome
        tokens = None
        if (usage := outcome.usage) is not None and usage.is_credible:
            tokens = usage.completion_tokens
        if tokens is None:
            tokens = self._tokens.count(outcome.text) + self._tokens.count(outcome.other_text)
        record.discarded_tokens = tokens
        return KeptAnswer(sent, record.failed_usd - before)

    def add_evidence(self, call: Call, model: str, outcome: Outcome) -> None:
        """Add a local generation that is only evidence (`verify`) to the cost of the request."""
        prices = call.snapshot.prices
        if prices.billed_price(Target.LOCAL, model).is_free:
            return
        tokens = _reported(outcome) or self._estimate(call, Target.LOCAL, model, outcome)
        prices.add_failed(call.record, Target.LOCAL, model, tokens)

    def _add_failed(self, call: Call, sent: Sent, outcome: Outcome) -> None:
        """Add a failed attempt to the cost, with its answer so far."""
        record, prices, target = call.record, call.snapshot.prices, sent.target
        if target is Target.LOCAL and prices.billed_price(target, sent.model).is_free:
            return
        tokens = _reported(outcome) or self._estimate(call, target, sent.model, outcome, sent)
        record.usage_source = UsageSource.ESTIMATED
        record.input_tokens, record.output_tokens = tokens.input, tokens.output
        record.cached_input_tokens, record.cache_write_tokens = tokens.cached, tokens.cache_write
        service_tier = outcome.service_tier or call.request.service_tier
        answered = Answered(outcome.model, _is_named(call), service_tier, outcome.hosted_calls)
        prices.add_failed(record, target, sent.model, tokens, answered)

    def _estimate(
        self,
        call: Call,
        target: Target | None,
        model: str | None,
        outcome: Outcome,
        sent: Sent | None = None,
    ) -> BilledTokens:
        """Estimate the tokens of a request whose upstream reported none.

        Args:
            sent: the attempt, of which a reasoning model's silence counts as well.
        """
        request, unseen = call.request, 0
        if target is Target.CLOUD and model is not None:
            unseen = self._reservations.unseen_tokens(request, call.snapshot.prices.limits(model))
        turns = call.record.turns or ()
        if isinstance(request, EmbeddingRequest):  # whose texts no row has
            turns = [("user", request.text)]
        other_chars = call.request_to(target).tool_chars
        prompt = self._tokens.count_messages(turns, other_chars=other_chars)
        text, other = self._tokens.count(outcome.text), self._tokens.count(outcome.other_text)
        answer = text + other
        if sent is not None and _thinks_unseen(call, sent):
            limits = call.snapshot.prices.limits(sent.model)
            most = min(limits.max_output, request.answer_tokens or limits.max_output)
            after = text if isinstance(sent.start, StreamStart) else 0
            answer = estimate_output(
                sent.silent_seconds,
                during=answer - after,
                after=after,
                most=most * request.choices,
            )
        return BilledTokens(unseen + prompt, answer)

    def note_conversation(self, response: ResponseView) -> None:
        """Remember the length of a stored conversation, for the requests that continue it."""
        usage = response.usage
        if response.id is not None and usage is not None and usage.is_credible:
            tokens = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            self._reservations.note_conversation(response.id, tokens)

    def _note_answer(self, call: Call) -> None:
        """Note a complete answer, so that the next request of its conversation finds it."""
        record, history = call.record, call.history
        if history is None or record.target is None or record.ending is not Ending.OK:
            return
        assert record.session_id is not None  # it is set with the history
        keys = [record.history_hash] if record.history_hash is not None else []
        if call.response_id is not None:
            keys.append(history.key_of_response(call.response_id))
        self._conversations.note(keys, NotedAnswer(record.session_id, record.target))

    def close(self, call: Call) -> None:
        """Pass the finished record to the metrics, the database and the budgets. Once per call."""
        record = call.record
        if record.ending is None:
            record.finish(Ending.INTERNAL_ERROR, error_code=InternalError.code)
        if record.saved_usd and record.ending not in (Ending.OK, Ending.CLIENT_GONE):
            record.saved_usd = 0.0  # an incomplete answer is billed and saves nothing
        self._note_answer(call)
        _sample(call)
        enter_bodies(call)
        self._limits.spending.record_cost(record)
        self._reservations.release(call)
        self._pacer.observe(record)
        self._metrics.observe(record)
        self._store.add(record)
        self._count_shadow_decision(call)

    def _count_shadow_decision(self, call: Call) -> None:
        """Compare the live decision with the shadow router's, if it has a score."""
        record, shadow_router = call.record, call.snapshot.shadow_router
        if shadow_router is not None and record.candidate_score is not None:
            live, candidate = shadow_router.targets(record)
            live_usd, shadow_usd = (
                call.snapshot.prices.cost_at(record, target) for target in (live, candidate)
            )
            self._metrics.count_shadow_decision(
                live, candidate, live_usd=live_usd, shadow_usd=shadow_usd
            )


def _reported(outcome: Outcome) -> BilledTokens | None:
    """The tokens that the upstream reports; None without a credible count."""
    usage = outcome.usage
    if usage is None or not usage.is_credible:
        return None
    return BilledTokens(
        usage.prompt_tokens or 0,
        usage.completion_tokens or 0,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.audio_input_tokens,
        usage.audio_output_tokens,
    )


def _thinks_unseen(call: Call, sent: Sent) -> bool:
    """Whether an attempt is billed for thinking that its answer does not show."""
    is_billed = call.endpoint.is_routed and sent.target is Target.CLOUD
    return is_billed and call.snapshot.upstreams[sent.target].settings_of(sent.model).reasoning


def _max_tokens(call: Call) -> int:
    """The most tokens that a prompt or an answer of a request can have."""
    if not call.endpoint.is_generation:  # the inputs of a request for embeddings are separate
        return max(MAX_CONTEXT_TOKENS, len(call.body))
    if call.record.target is Target.LOCAL:
        return call.capabilities.context_tokens or MAX_CONTEXT_TOKENS
    if call.request.images:  # they are billed as more tokens than they take of the context
        return max(MAX_CONTEXT_TOKENS, _listed_limits(call).max_input)
    return MAX_CONTEXT_TOKENS


def _max_answer(call: Call) -> int | None:
    """The most tokens of a cloud answer, for each choice: those of the largest model.

    The limit of the model itself may be out of date, and a larger count would then be unpaid.
    """
    if not call.endpoint.is_routed or call.record.target is not Target.CLOUD:
        return None
    largest = max(ModelLimits().max_output, _listed_limits(call).max_output)
    return largest * max(1, call.request.choices)


def _listed_limits(call: Call) -> ModelLimits:
    """The limits of the cloud model that a request asks for."""
    return call.snapshot.prices.limits(call.record.model or "")


def _sample(call: Call) -> None:
    """Sample the call for the judge. Calls with images, tools or several choices are excluded."""
    record, sampler = call.record, call.snapshot.sampler
    if sampler is None or record.score is None or not call.request.needs.keys() <= _JUDGEABLE:
        return
    record.sample = sampler.draw(record)
    if record.sample is not None and call.endpoint.openai is CHAT:
        record.body = call.body.decode()


def _is_named(call: Call) -> bool:
    """Whether the client named the model. Otherwise a stored prompt may have chosen it."""
    return not isinstance(call.request, ResponsesRequest) or call.request.names_model
