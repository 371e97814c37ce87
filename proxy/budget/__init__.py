"""Money and limits: prices, token counts, rate limits, daily budgets, reservations and pacing.

This package does not know how a request is routed or relayed.
"""

from proxy.budget.hidden_reasoning import estimate_output
from proxy.budget.limits import Limits
from proxy.budget.pacing import MEMORY_SECONDS, PROFILE_DAYS, BudgetPacer
from proxy.budget.price_list import convert_models, render_prices
from proxy.budget.pricing import (
    Answered,
    BilledTokens,
    ModelLimits,
    Price,
    Prices,
    unpriced_warning,
)
from proxy.budget.reservations import NO_RESERVATION, Reservations
from proxy.budget.spending_limits import Reservation, SpendingLimits
from proxy.budget.token_counter import Correction, TokenCounter

__all__ = [
    "MEMORY_SECONDS",
    "NO_RESERVATION",
    "PROFILE_DAYS",
    "Answered",
    "BilledTokens",
    "BudgetPacer",
    "Correction",
    "Limits",
    "ModelLimits",
    "Price",
    "Prices",
    "Reservation",
    "Reservations",
    "SpendingLimits",
    "TokenCounter",
    "convert_models",
    "estimate_output",
    "render_prices",
    "unpriced_warning",
]
