"""The decision for one request: which tier answers it, by which model, and why.

It combines the client's preference, the local model's limits, the operator's rules, the router's
score, session affinity, the tiers' health, and the budgets.
"""

import time
from collections.abc import Callable
from typing import Final

from proxy.budget import BudgetPacer, Limits, Reservations, TokenCounter
from proxy.config import Config
from proxy.errors import (
    BudgetExhausted,
    BudgetSpent,
    InvalidRequest,
    LocalModelsUnknown,
    NotFound,
)
from proxy.gateway.answer_checks import read_verify_preference
from proxy.gateway.call import Call, Snapshot
from proxy.gateway.conversations import Conversations
from proxy.gateway.history import History
from proxy.gateway.large_bodies import parse_large
from proxy.gateway.optional_tools import check_local, drop_refused_tools
from proxy.gateway.preference import (
    drop_vain_thinking,
    limit_to_own_api,
    read_preference,
    require_known_model,
)
from proxy.protocol.ollama import is_same_model
from proxy.protocol.responses import ResponsesRequest
from proxy.record import Reason, SecondLookResult, Target
from proxy.routing import (
    Decision,
    LimitExceeded,
    LocalLimits,
    RoutingPreference,
    RuleInput,
    find_local,
    has_local_form,
    own_name,
    read_headers,
    suggest_name,
    wants_no_store,
    without_connection,
)
from proxy.upstream import Upstream
from router_model.housekeeping import is_housekeeping
from router_model.task import is_small_talk

# The longest that a routed request waits for the local tier when the cloud could answer now.
SPILL_AFTER_SECONDS: Final = 5.0
# What a request with a second look may need. Answers with other output than text are not compared.
_COMPARABLE: Final = frozenset({"json_schema", "json_object", "logprobs"})
SESSION_DIGITS: Final = 16  # of the id of a conversation
_MAX_TYPE_CHARS: Final = 64  # of a tool, in a message


class DecisionMaker:
    """Decides where requests go, and reserves the dollars that a cloud call needs."""

    def __init__(
        self,
        *,
        reservations: Reservations,
        limits: Limits,
        pacer: BudgetPacer,
        tokens: TokenCounter,
        local_limits: LocalLimits,
        conversations: Conversations,
        clock: Callable[[], float] = time.perf_counter,
        spill_after_seconds: float = SPILL_AFTER_SECONDS,
    ) -> None:
        self._reservations = reservations
        self._limits = limits
        self._pacer = pacer
        self._tokens = tokens
        self._local_limits = local_limits
        self._conversations = conversations
        self._clock = clock
        self._spill_after_seconds = spill_after_seconds

    async def decide(self, call: Call) -> Decision:
        """Decide for a parsed request and enter the decision into its record.

        Raises:
            RouterError: the request is invalid, or no tier can answer it.
        """
        started = self._clock()
        request, record = call.request, call.record
        record.requested_model = request.model
        record.streamed = request.streams
        record.turns = request.turns
        headers = call.exchange.headers
        record.no_store = wants_no_store(headers)
        if call.endpoint.is_routed:
            read_verify_preference(call)
            decision = await self._route(call)
        elif call.endpoint.is_local:
            decision = await self._decide_local(call)
        else:
            decision = await self._decide_embedding(call)
        record.target, record.reason, record.model = decision[:3]
        record.threshold, record.rule = decision.threshold, decision.rule
        if decision.reason in (Reason.SCORE, Reason.EXPLORATION):
            record.propensity = decision.propensity
        if decision.score is not None:
            record.score, record.p_local, record.p_cloud = decision.score[:3]
            record.merit = decision.merit
        record.decision_ms = (self._clock() - started - call.waited_seconds) * 1e3
        return decision

    def paced_threshold(self, snapshot: Snapshot) -> float:
        """The threshold for requests without one: the configured one, or the budget pacer's."""
        budget = snapshot.config.budget
        is_paced = budget.pacing and budget.cloud_usd_per_day is not None
        return self._pacer.threshold(
            snapshot.router.threshold,
            usd_per_day=budget.cloud_usd_per_day if is_paced else None,
            spent_usd=self._limits.spending.spent_today() if is_paced else 0.0,
        )

    async def require_budget(self, call: Call, model: str | None = None) -> None:
        """Reserve dollars for a request that only the cloud can answer.

        Raises:
            BudgetExhausted: a budget has no dollars left.
        """
        try:
            await self._reserve(call, model, may_wait=True)
        except BudgetExhausted:
            call.record.reason = Reason.BUDGET
            raise

    async def can_pay(self, call: Call, target: Target) -> bool:
        """Whether a fallback to a tier is affordable; reserves the dollars for the cloud."""
        if target is Target.CLOUD and not call.reservation.names:
            try:
                await self._reserve(call, call.snapshot.upstreams[target].model)
            except BudgetExhausted:
                return False
        return True

    async def require_retry(self, call: Call, model: str) -> None:
        """Reserve dollars for another attempt, if the failed ones were billed.

        Raises:
            BudgetExhausted: a budget has no dollars left.
        """
        snapshot = call.snapshot
        await self._reservations.reserve_again(
            call,
            model,
            config=snapshot.config,
            prices=snapshot.prices,
            spent_usd=call.record.failed_usd,
        )

    async def _reserve(self, call: Call, model: str | None, *, may_wait: bool = False) -> None:
        snapshot = call.snapshot
        await self._reservations.reserve(
            call, model, config=snapshot.config, prices=snapshot.prices, may_wait=may_wait
        )

    async def _decide_local(self, call: Call) -> Decision:
        """Decide for an endpoint that only the local tier has.

        Raises:
            RouterError: the local tier has no such model, or the model cannot answer.
        """
        request, local = call.request, call.snapshot.upstreams[Target.LOCAL]
        model = _name_local_model(call)
        if model != local.model:
            call.capabilities = await local.catalog.capabilities_of(model)
        if lacking := call.capabilities.lacking(request.needs):
            field = request.needs[lacking[0]]
            raise InvalidRequest(
                f"The local model {model} does not support '{field}' ({lacking[0]}).",
                param=field,
                code="unsupported_by_local_model",
            )
        limit = await self._local_limits.check(request, call.capabilities, call.record)
        if limit is not None:
            raise limit.error
        return Decision(Target.LOCAL, Reason.FORCED, model)

    async def _decide_embedding(self, call: Call) -> Decision:
        """Decide for an endpoint that either tier has, and whose model the client chooses.

        Raises:
            RouterError: no tier has the model, or its budget or price does not allow the request.
        """
        decision = await _decide_by_name(call)
        if call.native is not None:
            require_known_model(call, decision.target, decision.model)
        if decision.target is Target.CLOUD:
            if not call.snapshot.prices.is_known(decision.model):
                what = f"Embeddings of '{decision.model}', which has no listed price,"
                require_countable(call, what, param="model")
            await self.require_budget(call, decision.model)
        return decision

    async def _route(self, call: Call) -> Decision:
        """Decide for an endpoint whose requests either tier may answer."""
        request, record, snapshot = call.request, call.record, call.snapshot
        headers, turns = call.exchange.headers, record.turns or ()
        housekeeping = is_housekeeping(turns)
        if not housekeeping:  # it does not move the conversation that it is about
            await self._find_conversation(call)
        local = snapshot.upstreams[Target.LOCAL]
        _check_background(call)
        _check_hosted_tools(call)
        _check_stored_prompt(call)
        preference = await read_preference(snapshot, request.model, headers)
        if call.native is not None:
            preference = limit_to_own_api(call, preference)
        limit = None
        if preference.target is not Target.CLOUD:
            if preference.model is not None:
                call.capabilities = await local.catalog.capabilities_of(preference.model)
            if call.native is not None:
                asked = call.native.context_tokens
                call.capabilities = call.capabilities.with_context(asked)
                if preference.target is None:
                    drop_vain_thinking(call)
            if not call.is_load:
                is_forced = preference.target is Target.LOCAL
                limit = await check_local(
                    call, self._local_limits, call.capabilities, is_forced=is_forced
                )
        if call.previous_target is Target.CLOUD and preference.target is not Target.CLOUD:
            limit = LimitExceeded(Reason.STICKY, _continues_cloud_response())
        record.step("requested model %s: %s", request.model, preference)
        record.step("the local tier %s", limit or "can answer, as far as is known")
        if preference.target is Target.LOCAL:
            if limit is not None:
                raise limit.error
            if "tools" in local.learned.features(preference.model or local.model):
                await drop_refused_tools(call, is_forced=True)
        rule = None
        if preference.target is None and snapshot.router.rules is not None:
            rule = await snapshot.router.rules.find(
                RuleInput(
                    turns,
                    headers=headers,
                    key_hash=record.client_key_hash,
                    request=request,
                    tokens=self._tokens,
                    counted_tokens=call.counted_tokens,
                )
            )
            record.step("rule: %s", rule or "none matches")
        is_default = preference.target is None and preference.threshold is None and rule is None
        tokens = None if preference.target is not None else call.new_tokens
        decision = await snapshot.router.decide(
            preference,
            turns,
            input_tokens=tokens,
            not_local=limit.reason if limit is not None else None,
            paced_threshold=self.paced_threshold(snapshot),
            rule=rule,
            housekeeping=housekeeping,
            is_fresh=call.is_preview,
        )
        record.own_threshold = preference.threshold is not None or (
            rule is not None and rule.threshold is not None
        )
        record.is_paced = is_default and decision.reason is not Reason.OUT_OF_DOMAIN
        record.step("decided: %s", decision)
        if decision.has_alternative:
            if decision.reason is not Reason.RULE:
                decision = await self._apply_affinity(call, decision)
            decision = await self._avoid_unavailable(call, decision)
            record.step("after session affinity and health checks: %s", decision)
        if decision.target is Target.CLOUD:
            may_stay_local = _may_stay_local(preference, limit, snapshot.config)
            decision = await self._pay(call, decision, may_stay_local=may_stay_local)
        if self._plans_second_look(call, decision):
            decision = decision._replace(has_second_look=True)
        # The shadow router is compared on decisions by the configured threshold and the score only.
        if decision.reason is Reason.SCORE and is_default and snapshot.shadow_router:
            snapshot.shadow_router.ask(record, input_tokens=tokens)
        return decision

    async def _pay(self, call: Call, decision: Decision, *, may_stay_local: bool) -> Decision:
        """Reserve dollars for the cloud. Without them the local tier answers, if it may.

        Raises:
            BudgetExhausted: a budget has no dollars left, and only the cloud may answer.
        """
        if not may_stay_local and decision.reason is not Reason.LOADING:
            try:
                await self.require_budget(call, decision.model)
            except BudgetSpent as error:
                if await self._local_could_answer(call):
                    error.message += " Model 'local' still answers."
                raise
            return decision
        try:
            await self._reserve(call, decision.model)
        except BudgetExhausted:
            decision = decision._replace(
                target=Target.LOCAL,
                reason=Reason.BUDGET,
                model=call.snapshot.upstreams[Target.LOCAL].model,
                has_alternative=False,
            )
            call.record.step("the cloud budget is spent: %s", decision)
        return decision

    def _plans_second_look(self, call: Call, decision: Decision) -> bool:
        """Whether the local answer gets a second look. A busy local tier has no time for it."""
        config = call.snapshot.config
        if not call.snapshot.router.is_uncertain(decision) or not _suits_second_look(call):
            return False
        if not config.routing.fallback:
            return False
        if any(tier.is_unhealthy for tier in call.snapshot.upstreams.values()):
            return False
        local = call.snapshot.upstreams[Target.LOCAL]
        if local.is_cold(local.model):
            if not call.is_preview:
                local.load(local.model)  # for the second looks of later requests
            return False
        if not local.has_room(1 if config.verify.second is None else 2):
            call.record.second_look = SecondLookResult.BUSY
            return False
        return True

    async def _local_could_answer(self, call: Call) -> bool:
        """Whether the local tier would answer a request that the cloud may not answer."""
        local = call.snapshot.upstreams[Target.LOCAL]
        if call.previous_target is Target.CLOUD or local.is_unhealthy:
            return False
        capabilities = local.catalog.capabilities
        return await check_local(call, self._local_limits, capabilities, is_forced=True) is None

    async def _find_conversation(self, call: Call) -> None:
        """Enter the conversation of a request: a known one, or one that it begins."""
        request, record = call.request, call.record
        previous = request.previous if isinstance(request, ResponsesRequest) else None
        headers, client = call.exchange.headers, record.client_key_hash
        call.history = history = await parse_large(
            call.body, lambda _: History(request, headers, client, previous=previous)
        )
        known = self._conversations.recall(history)
        begun = known.session if known is not None else record.id[-SESSION_DIGITS:]
        record.session_id, record.history_hash = history.name or begun, history.name

    async def _apply_affinity(self, call: Call, decision: Decision) -> Decision:
        """Apply `routing.sticky`: the tier of the conversation's last answer."""
        sticky = call.snapshot.config.routing.sticky
        if sticky == "off" or call.history is None:
            return decision
        record, previous = call.record, call.previous_target
        if previous is None and (known := await self._conversations.find(call.history)):
            previous, record.session_id = known.target, known.session
        if previous is None or previous is decision.target:
            return decision
        if sticky == "escalate_only":
            if previous is Target.LOCAL:
                return decision
            if decision.reason is Reason.SCORE and is_small_talk(record.turns or ()):
                # The next task of the conversation stays in the cloud.
                call.history = record.history_hash = None
                return decision
        model = call.snapshot.upstreams[previous].model
        return decision._replace(target=previous, reason=Reason.STICKY, model=model)

    async def _avoid_unavailable(self, call: Call, decision: Decision) -> Decision:
        """Choose the other tier if the chosen one is unhealthy, or cannot answer as things are.

        The decision stays if the other tier is unhealthy, too.
        """
        upstreams = call.snapshot.upstreams
        chosen, other = upstreams[decision.target], upstreams[decision.target.other]
        if other.is_unhealthy:
            return decision
        reason = None
        if chosen.is_unhealthy and call.snapshot.config.routing.fallback:
            reason = Reason.UNHEALTHY
        elif decision.target is Target.LOCAL:
            reason = await self._why_not_local(call, decision)
        if reason is None:
            return decision
        return decision._replace(target=decision.target.other, reason=reason, model=other.model)

    async def _why_not_local(self, call: Call, decision: Decision) -> Reason | None:
        """Why a request should not wait for the healthy local tier, although it was chosen."""
        routing = call.snapshot.config.routing
        local = call.snapshot.upstreams[Target.LOCAL]
        if routing.fallback and not _lacks_key(call.snapshot.upstreams[Target.CLOUD]):
            refused = await self._check_learned(call, local, decision.model)
            if refused is not None and await drop_refused_tools(call, is_forced=False):
                refused = await self._check_learned(call, local, decision.model)
            if refused is not None:
                return refused
            if local.is_cold(decision.model) and not _must_wait(decision):
                can_load = call.is_preview or local.load(decision.model)
                return Reason.LOADING if can_load else Reason.UNHEALTHY
        # Pacing would spend what it saves.
        may_spill = routing.spill_when_busy and decision.reason is not Reason.BUDGET
        if may_spill and local.expected_wait > self._spill_after_seconds:
            return Reason.OVERLOAD
        return None

    async def _check_learned(self, call: Call, local: Upstream, model: str) -> Reason | None:
        """Why the local model would refuse a request, by what it has recently refused."""
        request = call.request_to(Target.LOCAL)
        return await self._local_limits.check_learned(
            request, local.learned, model=model, record=call.record
        )


def _must_wait(decision: Decision) -> bool:
    """Whether a request waits for a load: a rule, a budget or the client wants no cloud for it."""
    return decision.reason in (Reason.RULE, Reason.BUDGET) or decision.threshold == 0


def _lacks_key(cloud: Upstream) -> bool:
    """Whether the cloud is known to refuse requests, because it has no credentials."""
    return cloud.up is False and not cloud.config.has_credentials


def _suits_second_look(call: Call) -> bool:
    """Whether a request is of a kind that gets a second look, if its score is uncertain."""
    request, verify = call.request_to(Target.LOCAL), call.snapshot.config.verify
    return (
        call.allows_second_look
        and (not request.streams or verify.streams == "hold")
        and request.needs.keys() <= _COMPARABLE
        and request.choices == 1
        and not request.tool_chars
    )


def _may_stay_local(
    preference: RoutingPreference, limit: LimitExceeded | None, config: Config
) -> bool:
    """Whether the local tier may answer a request when the cloud budget is spent."""
    return preference.target is None and limit is None and config.budget.when_spent == "local"


def require_countable(call: Call, what: str, *, param: str | None = None) -> None:
    """Refuse a request whose cost cannot be counted, where a budget is to hold.

    Args:
        what: the requests of this kind, for the message.

    Raises:
        InvalidRequest: the key or the proxy has a budget, and `budget.uncounted` is `refuse`.
    """
    budget, principal = call.snapshot.config.budget, call.principal
    if budget.uncounted == "allow":
        return
    if principal is not None and principal.cloud_usd_per_day is not None:
        owner = "an API key with a budget"
    elif budget.cloud_usd_per_day is not None:
        owner = "a proxy with a budget"
    else:
        return
    raise InvalidRequest(
        f"{what} are not available to {owner}, because their cost cannot be counted. "
        "The operator can allow them (budget.uncounted).",
        param=param,
        code="uncounted_cost",
    )


def _check_background(call: Call) -> None:
    """Refuse background responses where a budget is to hold.

    Their cost is known only when the client fetches them. A key could start many before that, or
    never fetch them.
    """
    request = call.request
    if isinstance(request, ResponsesRequest) and request.in_background:
        require_countable(call, "Background responses", param="background")


def _check_hosted_tools(call: Call) -> None:
    """Refuse tools that the provider runs at an unknown cost, where a budget is to hold."""
    if tools := call.request.uncounted_tools:
        require_countable(call, f"Tools of type '{tools[0][:_MAX_TYPE_CHARS]}'", param="tools")


def _check_stored_prompt(call: Call) -> None:
    """Refuse a stored prompt that chooses its own model where unknown models are rejected."""
    request = call.request
    rejects = call.snapshot.config.routing.unknown_models == "reject"
    if rejects and isinstance(request, ResponsesRequest) and not request.names_model:
        raise InvalidRequest(
            "A stored prompt without a 'model' may choose any model, and only known models are "
            "allowed here. Name the model.",
            param="model",
            code="model_not_found",
        )


async def _decide_by_name(call: Call) -> Decision:
    """The tier that serves the named model, for endpoints that are not routed.

    Raises:
        InvalidRequest: the name requests routing.
        NotFound: no tier serves the model.
        LocalModelsUnknown: it may be a local one.
    """
    model, snapshot, headers = call.request.model, call.snapshot, call.exchange.headers
    forced = read_headers(RoutingPreference(), headers).target
    local = snapshot.upstreams[Target.LOCAL]
    listed = find_local(model, local.catalog.known_names or ())
    if forced is None and listed is not None:
        return Decision(Target.LOCAL, Reason.FORCED, listed)
    if forced is Target.LOCAL:  # another model's vectors would be useless: the name stays
        name = without_connection(model) if own_name(model) is None else local.model
        return Decision(Target.LOCAL, Reason.FORCED, name)
    preference = await read_preference(snapshot, model, headers)
    if preference.target is not None:
        default = snapshot.upstreams[preference.target].model
        return Decision(preference.target, Reason.FORCED, preference.model or default)
    cloud_model = snapshot.upstreams[Target.CLOUD].model
    if not is_same_model(model, cloud_model):
        raise InvalidRequest(
            f"'{model}' routes between chat models. This endpoint needs the name of a model.",
            param="model",
        )
    return Decision(Target.CLOUD, Reason.FORCED, cloud_model)


def _name_local_model(call: Call) -> str:
    """The local model that a request names, for endpoints that only the local tier has.

    Raises:
        InvalidRequest: a header forces the cloud.
        NotFound: the local tier has no model of that name.
        LocalModelsUnknown: it may be one, and the local server has not yet listed its models.
    """
    name, local = call.request.model, call.snapshot.upstreams[Target.LOCAL]
    forced = read_headers(RoutingPreference(), call.exchange.headers).target
    if forced is Target.CLOUD:
        raise InvalidRequest(
            "The header x-router-target must not be 'cloud' here: only the local model answers "
            "this API.",
            param="x-router-target",
        )
    if own_name(name) not in (None, Target.CLOUD):
        return local.model
    known_names = local.catalog.known_names
    listed = find_local(name, (local.model, *(known_names or ())))
    if listed is not None:
        return listed
    if forced is Target.LOCAL:  # the header replaces a model of another tier
        return local.model
    if known_names is None and has_local_form(name):
        raise LocalModelsUnknown(
            f"'{name}' may be a model of the local server, which has not listed its models yet. "
            "Retry when it runs.",
            param="model",
        )
    nearest = suggest_name(name, (local.model, *(known_names or ())))
    raise NotFound(
        f"Only the local model answers this API, and no local model is called '{name}'.{nearest} "
        "Use the model 'local' (Claude Code: ANTHROPIC_MODEL=local), or send the header "
        "x-router-target: local.",
        param="model",
        code="model_not_found",
    )


def _continues_cloud_response() -> InvalidRequest:
    return InvalidRequest(
        "The local model cannot continue a response of the cloud. Send the request to 'auto' or "
        "'cloud'.",
        param="previous_response_id",
        code="unsupported_by_local_model",
    )
