"""What a request cost, what the cloud would have cost, and what was saved. USD.

Saved is defined for local answers only: the answer's own tokens at the cloud's prices, less what
the local tier cost. A cloud answer saves nothing. It is an estimate in one respect: the cloud
model would have written an answer of another length.
"""

from collections.abc import Mapping

from proxy.config import PriceConfig
from proxy.record import CallRecord, Target


def price_tokens(
    price: PriceConfig, *, input_tokens: int, cached_input_tokens: int, output_tokens: int
) -> float:
    """USD for one answer. Cached tokens are part of the input tokens, at a price of their own."""
    cached = min(cached_input_tokens, input_tokens)
    return (
        (input_tokens - cached) * price.input
        + cached * price.cached_input
        + output_tokens * price.output
    ) / 1_000_000


def price_record(record: CallRecord, prices: Mapping[Target, PriceConfig]) -> None:
    """Fill in the record's three dollar amounts from its token counts, where it has them."""
    if record.target is None or record.input_tokens is None:
        return
    output_tokens = record.output_tokens or 0
    record.cost_usd = price_tokens(
        prices[record.target],
        input_tokens=record.input_tokens,
        cached_input_tokens=record.cached_input_tokens or 0,
        output_tokens=output_tokens,
    )
    if record.target is Target.CLOUD:
        record.cloud_cost_usd, record.saved_usd = record.cost_usd, 0.0
        return
    # A prompt cache hit of the local server says nothing about the cloud's: full price.
    record.cloud_cost_usd = price_tokens(
        prices[Target.CLOUD],
        input_tokens=record.input_tokens,
        cached_input_tokens=0,
        output_tokens=output_tokens,
    )
    record.saved_usd = record.cloud_cost_usd - record.cost_usd
