"""Bookkeeping after a request: usage and cost, its row, metrics, samples and budgets."""

from typing import Final

from proxy.budget import BudgetPacer, Limits, Reservations, TokenCounter
from proxy.errors import InternalError
from proxy.gateway.call import Call
from proxy.gateway.conversations import Conversations
from proxy.metrics import Metrics
from proxy.protocol import MAX_CONTEXT_TOKENS, Usage
from proxy.protocol.endpoints import CHAT
from proxy.record import Ending, Target, UsageSource
from proxy.routing import LocalLimits
from proxy.storage import Store

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

    def settle(self, call: Call, usage: Usage | None, text: str, service_tier: str | None) -> None:
        """Enter tokens, reported by the upstream or estimated, and dollars into the record."""
        record, snapshot = call.record, call.snapshot
        record.response = text
        possible = (usage or Usage()).bounded(_max_tokens(call))
        prompt, answer = possible.prompt_tokens, possible.completion_tokens
        is_reported = usage == possible and prompt is not None and (answer is not None or not text)
        record.usage_source = UsageSource.UPSTREAM if is_reported else UsageSource.ESTIMATED
        if prompt is None:
            prompt = self._tokens.count_messages(
                record.turns or (), other_chars=call.request.tool_chars
            )
        record.input_tokens = prompt
        record.cached_input_tokens = possible.cached_tokens
        record.output_tokens = self._tokens.count(text) if answer is None else answer
        if usage is not None:
            record.reasoning_tokens = possible.reasoning_tokens
        is_checked = is_reported and record.target is Target.LOCAL
        if is_checked and self._local_limits.was_truncated(record, possible, call.capabilities):
            self._metrics.count_truncation()
        snapshot.prices.settle(record, service_tier=service_tier, is_routed=call.endpoint.is_routed)

    def close(self, call: Call) -> None:
        """Pass the finished record to the metrics, the database and the budgets. Once per call."""
        record = call.record
        if record.ending is None:
            record.finish(Ending.INTERNAL_ERROR, error_code=InternalError.code)
        if record.saved_usd and record.ending not in (Ending.OK, Ending.CLIENT_GONE):
            record.saved_usd = 0.0  # an incomplete answer is billed and saves nothing
        if record.session_id is not None and record.target and record.ending is Ending.OK:
            self._conversations.note(record.session_id, record.target)
        _sample(call)
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


def _max_tokens(call: Call) -> int:
    """The most tokens that a prompt or an answer of a request can have."""
    if not call.endpoint.is_routed:  # the inputs of a request for embeddings are separate
        return max(MAX_CONTEXT_TOKENS, len(call.body))
    context = call.capabilities.context_tokens if call.record.target is Target.LOCAL else None
    return context or MAX_CONTEXT_TOKENS


def _sample(call: Call) -> None:
    """Sample the call for the judge. Calls with images, tools or several choices are excluded."""
    record, sampler = call.record, call.snapshot.sampler
    if sampler is None or record.score is None or not call.request.needs.keys() <= _JUDGEABLE:
        return
    record.sample = sampler.draw(record)
    if record.sample is not None and call.endpoint is CHAT:
        record.body = call.body.decode()
