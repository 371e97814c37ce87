"""Reservations: dollars set aside for a request before it goes to the cloud.

A cloud call is billed at its end. So the most that it can cost is reserved at its beginning and
released at its end. `spending_limits` keeps the counts; this module decides whether a request needs
a reservation, and how large it is:

- text: a token is at least one byte of the body, and a prompt is at most the model's context;
- an image: the most that the model bills for one;
- audio: the higher of the audio and text prices, if prompt or answer may contain audio;
- files, audio, stored conversations and prompts, and tools that the provider runs: the most input
  that the model bills. A conversation that this process has answered counts as its reported tokens;
- tools that the provider runs for a fee: an estimate of one call per 8,000 tokens of the model's
  context, or `max_tool_calls` if lower;
- the answer: its own limit, or the model's longest answer, for each choice;
- a stored prompt that chooses its own model: the dearest listed prices and the highest limits.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from proxy.auth import Principal
from proxy.budget.pricing import ModelLimits, Prices
from proxy.budget.spending_limits import Reservation, SpendingLimits
from proxy.config import Config
from proxy.protocol import RoutingRequest
from proxy.protocol.endpoints import Endpoint
from proxy.protocol.responses import ResponsesRequest
from proxy.record import Target

# One web search adds a block of 8,000 tokens to the prompt, and a file search up to 20 chunks of
# 800. Sources: https://platform.openai.com/docs/pricing, "Built-in tools", and the guide to
# retrieval.
_TOKENS_OF_CALL: Final = 8_000
_MAX_CONVERSATIONS: Final = 10_000  # whose length is remembered
NO_RESERVATION: Final = Reservation()


class Spender(Protocol):
    """The request that dollars are reserved for; `gateway.call.Call` is one."""

    body: bytes
    endpoint: Endpoint
    is_preview: bool
    previous_target: Target | None
    principal: Principal | None
    request: RoutingRequest
    reservation: Reservation
    waited_seconds: float


class Reservations:
    """Reserves and releases the dollars of requests to the cloud."""

    def __init__(
        self, spending: SpendingLimits, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._spending = spending
        self._clock = clock
        # Tokens of prompt and answer, by the id of the response; the newest last.
        self._conversations: OrderedDict[str, int] = OrderedDict()

    def note_conversation(self, response_id: str, tokens: int) -> None:
        """Remember the length of a conversation that the cloud stores."""
        self._conversations[response_id] = tokens
        if len(self._conversations) > _MAX_CONVERSATIONS:
            self._conversations.popitem(last=False)

    def unseen_tokens(self, request: RoutingRequest, limits: ModelLimits) -> int:
        """The most input tokens of a request besides its text: images, and what it refers to."""
        tokens = request.images * limits.image_tokens
        if not request.has_references:
            return tokens
        if isinstance(request, ResponsesRequest) and request.refers_only_to_previous:
            known = self._conversations.get(request.previous or "")
            if known is not None:
                return tokens + min(known, limits.max_input)
        return tokens + limits.max_input

    async def reserve(
        self,
        spender: Spender,
        model: str | None,
        *,
        config: Config,
        prices: Prices,
        may_wait: bool = False,
    ) -> None:
        """Reserve the most that a request can cost. A preview only checks the budgets.

        Args:
            model: the cloud model; None reserves nothing and checks the budgets.
            may_wait: whether to wait for running requests that hold the remaining dollars.

        Raises:
            BudgetExhausted: a budget has no dollars left.
        """
        usd_per_day, principal = config.budget.cloud_usd_per_day, spender.principal
        if usd_per_day is None and (principal is None or principal.cloud_usd_per_day is None):
            return
        if spender.is_preview:
            self._spending.check_budget(principal, usd_per_day=usd_per_day)
            return
        usd = self._most_usd(spender, model, config, prices) if model is not None else 0.0
        started = self._clock()
        try:
            spender.reservation = await self._spending.reserve(
                principal, usd, usd_per_day=usd_per_day, may_wait=may_wait
            )
        finally:
            spender.waited_seconds += self._clock() - started

    async def reserve_again(
        self, spender: Spender, model: str, *, config: Config, prices: Prices, spent_usd: float
    ) -> None:
        """Reserve the most that a further attempt can cost, besides what failed ones have cost.

        Raises:
            BudgetExhausted: a budget has no dollars left. What was spent stays reserved.
        """
        if not spent_usd or not spender.reservation.names:
            return
        spent = self._spending.keep(spender.reservation, spent_usd)
        spender.reservation = NO_RESERVATION
        try:
            await self.reserve(spender, model, config=config, prices=prices)
        except BaseException:
            spender.reservation = spent
            raise
        further = spender.reservation
        spender.reservation = self._spending.keep(further, further.usd + spent_usd)
        self._spending.release(spent)

    def keep_spent(self, spender: Spender, usd: float) -> None:
        """Reserve only what the failed attempts of a request have cost; its end records it."""
        if usd and spender.reservation.names:
            spender.reservation = self._spending.keep(spender.reservation, usd)

    def release(self, spender: Spender) -> None:
        """Release the reservation of a request that ended or left the cloud."""
        self._spending.release(spender.reservation)
        spender.reservation = NO_RESERVATION

    def has_budget(self, spender: Spender, config: Config) -> bool:
        """Whether the budgets have dollars left, as far as this process knows."""
        return self._spending.has_budget(
            spender.principal, usd_per_day=config.budget.cloud_usd_per_day
        )

    def _most_usd(self, spender: Spender, model: str, config: Config, prices: Prices) -> float:
        """The most that a request costs in the cloud."""
        request, prompt = spender.request, len(spender.body)
        if not spender.endpoint.is_routed:  # embeddings of any number of texts
            return prices.at_most(model, input_tokens=prompt, output_tokens=0)
        # A stored prompt may choose any model.
        is_named = not isinstance(request, ResponsesRequest) or request.names_model
        limits = prices.limits(model) if is_named else ModelLimits()
        context, answer = limits.context, limits.max_output
        cloud = config.upstreams.cloud
        if cloud.context_tokens != "auto" and model == cloud.model and is_named:
            context, answer = cloud.context_tokens, min(answer, cloud.context_tokens)
            largest = max(context, limits.max_input * context // limits.context)
            limits = limits._replace(context=context, max_input=largest)
        if request.answer_tokens is not None:
            answer = min(answer, request.answer_tokens)
        # A list of prompts has one context for each.
        prompt = min(prompt, context * request.choices)
        calls = max(1, limits.context // _TOKENS_OF_CALL)
        if request.max_tool_calls is not None:
            calls = min(calls, request.max_tool_calls)
        return prices.at_most(
            model,
            input_tokens=prompt + self.unseen_tokens(request, limits),
            output_tokens=answer * request.choices,
            service_tier=request.service_tier,
            is_named=is_named,
            may_have_audio=request.has_references,
            hosted_tools=request.hosted_tools,
            max_calls=calls,
        )
