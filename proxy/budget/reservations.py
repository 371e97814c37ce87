"""Reservations: dollars set aside for a request before it goes to the cloud.

A cloud call is billed at its end. So the most that it can cost is reserved at its beginning and
released at its end. `spending_limits` keeps the counts; this module decides whether a request needs
a reservation, and how large it is.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from proxy.auth import Principal
from proxy.budget.pricing import Prices
from proxy.budget.spending_limits import Reservation, SpendingLimits
from proxy.config import Config
from proxy.protocol import RoutingRequest
from proxy.protocol.endpoints import Endpoint
from proxy.record import Target

# The answer's length that is reserved for a request without a limit of its own.
RESERVED_ANSWER_TOKENS: Final = 4096
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
        usd = _estimate_usd(spender, model, config, prices) if model is not None else 0.0
        started = self._clock()
        try:
            spender.reservation = await self._spending.reserve(
                principal, usd, usd_per_day=usd_per_day, may_wait=may_wait
            )
        finally:
            spender.waited_seconds += self._clock() - started

    def release(self, spender: Spender) -> None:
        """Release the reservation of a request that ended or left the cloud."""
        self._spending.release(spender.reservation)
        spender.reservation = NO_RESERVATION

    def has_budget(self, spender: Spender, config: Config) -> bool:
        """Whether the budgets have dollars left, as far as this process knows."""
        return self._spending.has_budget(
            spender.principal, usd_per_day=config.budget.cloud_usd_per_day
        )


def _estimate_usd(spender: Spender, model: str, config: Config, prices: Prices) -> float:
    """The most that a request costs in the cloud, by the model's standard price."""
    prompt_bytes, answer_tokens = len(spender.body), 0
    if spender.endpoint.is_routed:
        request = spender.request
        answer_tokens = request.answer_tokens or RESERVED_ANSWER_TOKENS
        context, choices = config.upstreams.cloud.context_tokens, request.choices
        # No model reads or writes more than its context. Without this bound one request with
        # images or a high token limit could reserve the whole day's budget.
        if context != "auto":
            # The cloud knows the earlier turns of a conversation that it stores: the body has only
            # the last one.
            is_stored = spender.previous_target is Target.CLOUD
            prompt_bytes = context if is_stored else min(prompt_bytes, context * choices)
            answer_tokens = min(answer_tokens, context)
        answer_tokens *= choices
    return prices.at_most(model, body_bytes=prompt_bytes, answer_tokens=answer_tokens)
