"""Prices: the cost of a request, its hypothetical cloud cost, and the savings, in USD.

The savings of a local answer are its tokens at the cloud's prices, less the local cost. A cloud
answer saves nothing. This is an estimate: the cloud model's answer would have another length.

Costs are summed in whole picodollars (10⁻¹² USD), so sums are exact over any number of rows. A
price with up to six decimals per million tokens is a whole number of picodollars per token.
"""

import logging
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from proxy.config import ModelPrices, PriceConfig, UpstreamConfig
from proxy.record import PICODOLLARS, CallRecord, Target

logger = logging.getLogger(__name__)

_DATED: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_SPECIAL: Final = frozenset({"flex", "priority"})  # service tiers with prices of their own
_MAX_WARNED: Final = 100  # bounds the set: clients may name any model


class Price(NamedTuple):
    """Picodollars per token."""

    input: int = 0
    cached_input: int = 0
    output: int = 0

    @classmethod
    def of(cls, config: PriceConfig) -> "Price":
        """From USD per million tokens."""
        cached = config.input if config.cached_input is None else config.cached_input
        return cls(*(_per_token(usd) for usd in (config.input, cached, config.output)))

    def cost(self, *, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> int:
        """Picodollars of one answer. Cached tokens are part of the input tokens."""
        cached = min(cached_input_tokens, input_tokens)
        return (
            (input_tokens - cached) * self.input
            + cached * self.cached_input
            + output_tokens * self.output
        )


class Prices:
    """The prices of the models of both tiers, in one configuration."""

    def __init__(
        self, tiers: Mapping[Target, UpstreamConfig], listed: Mapping[str, ModelPrices]
    ) -> None:
        self._listed = {name: Price.of(prices) for name, prices in listed.items()}
        self._special: dict[tuple[str, str | None], Price] = {
            (name, tier): Price.of(price)
            for name, prices in listed.items()
            for tier in _SPECIAL
            if (price := getattr(prices, tier)) is not None
        }
        self._models = {target: tier.model for target, tier in tiers.items()}
        self._own = {target: self._price_of(tier) for target, tier in tiers.items()}
        self._warned: set[str] = set()

    def _price_of(self, tier: UpstreamConfig) -> Price:
        if isinstance(tier.price, PriceConfig):
            return Price.of(tier.price)
        return self._listed.get(self._listed_name(tier.model)) or Price()

    def _listed_name(self, model: str) -> str:
        return model if model in self._listed else _undated(model)

    @property
    def cloud_is_free(self) -> bool:
        """Whether the configured cloud model has no price, so that all costs are 0."""
        return not any(self._own[Target.CLOUD])

    def of(self, target: Target, model: str, *, service_tier: str | None = None) -> Price | None:
        """The price of a model; None if it is unknown.

        Args:
            service_tier: as the answer reports it.
        """
        is_special = target is Target.CLOUD and service_tier in _SPECIAL
        if model == self._models[target] and not is_special:
            return self._own[target]
        name = self._listed_name(model)
        if is_special and (name, service_tier) in self._special:
            return self._special[name, service_tier]
        return self._own[target] if model == self._models[target] else self._listed.get(name)

    def at_most(self, model: str, *, body_bytes: int, answer_tokens: int) -> float:
        """The maximum cost of a cloud answer in USD. A token is at least one byte."""
        price = self.of(Target.CLOUD, model) or self._own[Target.CLOUD]
        cost = price.cost(
            input_tokens=body_bytes, cached_input_tokens=0, output_tokens=answer_tokens
        )
        return cost / PICODOLLARS

    def settle(
        self, record: CallRecord, *, service_tier: str | None = None, is_routed: bool = True
    ) -> None:
        """Set the record's three dollar amounts from its token counts, if it has any.

        Args:
            is_routed: whether the other tier could have answered. Embeddings are not routed: the
                vectors of two models are not comparable.
        """
        target, model = record.target, record.model
        if target is None or model is None or record.input_tokens is None:
            return
        price = self.of(target, model, service_tier=service_tier)
        if price is None:
            self._warn(model)
            if target is Target.CLOUD and not is_routed:
                return
            price = self._own[target]
        input_tokens, output_tokens = record.input_tokens, record.output_tokens or 0
        cost = price.cost(
            input_tokens=input_tokens,
            cached_input_tokens=record.cached_input_tokens or 0,
            output_tokens=output_tokens,
        )
        record.cost_usd = cost / PICODOLLARS
        if target is Target.CLOUD:
            record.cloud_cost_usd, record.saved_usd = record.cost_usd, 0.0
        elif is_routed:
            # At the full price: a local prompt cache hit does not imply one in the cloud.
            cloud_cost = self._own[Target.CLOUD].cost(
                input_tokens=input_tokens, cached_input_tokens=0, output_tokens=output_tokens
            )
            record.cloud_cost_usd = cloud_cost / PICODOLLARS
            record.saved_usd = (cloud_cost - cost) / PICODOLLARS

    def cost_at(self, record: CallRecord, target: Target) -> float | None:
        """The cost of a settled record's tokens at a tier, in USD; None if it is unknown."""
        if target is record.target:
            return record.cost_usd
        if target is Target.CLOUD or record.input_tokens is None:
            return record.cloud_cost_usd
        cost = self._own[target].cost(
            input_tokens=record.input_tokens,
            cached_input_tokens=0,
            output_tokens=record.output_tokens or 0,
        )
        return cost / PICODOLLARS

    def _warn(self, model: str) -> None:
        if model not in self._warned and len(self._warned) < _MAX_WARNED:
            self._warned.add(model)
            logger.warning(
                "no price is listed for %r: it is priced as the configured model of its tier, "
                "and cloud embeddings are not priced",
                model,
            )


def pico(usd: float | None) -> int:
    """Dollars as whole picodollars; 0 for an unknown amount."""
    return round(usd * PICODOLLARS) if usd else 0


def _per_token(usd_per_million: float) -> int:
    return round(Decimal(str(usd_per_million)) * (PICODOLLARS // 10**6))


def _undated(model: str) -> str:
    """The listed name: without a date, and for a fine-tuned model without its organization.

    `ft:gpt-4o-mini-2024-07-18:org::id` is `ft:gpt-4o-mini`.
    """
    if model.startswith("ft:"):
        model = ":".join(model.split(":")[:2])
    return _DATED.sub("", model)
