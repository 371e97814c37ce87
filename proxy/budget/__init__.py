"""Money and limits: prices, token counts, rate limits, reservations and budget pacing.

This package does not know how a request is routed or relayed.
"""

from proxy.budget.pacing import MEMORY_SECONDS, PROFILE_DAYS, BudgetPacer
from proxy.budget.pricing import Price, Prices
from proxy.budget.rate_limits import Limits, Reservation
from proxy.budget.reservations import NO_RESERVATION, Reservations
from proxy.budget.token_counter import Correction, TokenCounter

__all__ = [
    "MEMORY_SECONDS",
    "NO_RESERVATION",
    "PROFILE_DAYS",
    "BudgetPacer",
    "Correction",
    "Limits",
    "Price",
    "Prices",
    "Reservation",
    "Reservations",
    "TokenCounter",
]
