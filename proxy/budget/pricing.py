"""What a request cost, what the cloud would have cost, and what was saved. USD.

Saved is defined for local answers only: the answer's own tokens at the cloud's prices, less what
the local tier cost. A cloud answer saves nothing. It is an estimate in one respect: the cloud
model would have written an answer of another length.

Dollars are added up in whole picodollars (10⁻¹² USD), so that sums are exact however many rows they
have. A price of up to six decimals per million tokens is a whole number of them per token.
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
_SPECIAL: Final = frozenset({"flex", "priority"})  # the service tiers that may have prices
_MAX_WARNED: Final = 100  # clients may name any model


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
    """What the models of both tiers cost, in one configuration."""

    def __init__(
        self, tiers: Mapping[Target, UpstreamConfig], listed: Mapping[str, ModelPrices]
    ) -> None:
        self._listed = {name: Price.of(one) for name, one in listed.items()}
        self._special: dict[tuple[str, str | None], Price] = {
            (name, tier): Price.of(price)
            for name, one in listed.items()
            for tier in _SPECIAL
            if (price := getattr(one, tier)) is not None
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
        """Whether the cloud's own model has no price, so that no dollars would be counted."""
        return not any(self._own[Target.CLOUD])

    def of(self, target: Target, model: str, *, service_tier: str | None = None) -> Price | None:
        """The price of a model; None when it is not known.

        Args:
            service_tier: by which the answer says that it was served.
        """
        is_special = target is Target.CLOUD and service_tier in _SPECIAL
        if model == self._models[target] and not is_special:
            return self._own[target]
        name = self._listed_name(model)
        if is_special and (name, service_tier) in self._special:
            return self._special[name, service_tier]
        return self._own[target] if model == self._models[target] else self._listed.get(name)

    def at_most(self, model: str, *, body_bytes: int, answer_tokens: int) -> float:
        """Dollars that an answer of the cloud's costs at most: a token is a byte at least."""
        price = self.of(Target.CLOUD, model) or self._own[Target.CLOUD]
        cost = price.cost(
            input_tokens=body_bytes, cached_input_tokens=0, output_tokens=answer_tokens
        )
        return cost / PICODOLLARS

    def settle(
        self, record: CallRecord, *, service_tier: str | None = None, is_routed: bool = True
    ) -> None:
        """Fill in the record's three dollar amounts from its token counts, where it has them.

        Args:
            is_routed: whether the other tier could have answered; not so for embeddings, whose
                vectors of two models have nothing to do with each other.
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
            # A prompt cache hit of the local server says nothing about the cloud's: full price.
            elsewhere = self._own[Target.CLOUD].cost(
                input_tokens=input_tokens, cached_input_tokens=0, output_tokens=output_tokens
            )
            record.cloud_cost_usd = elsewhere / PICODOLLARS
            record.saved_usd = (elsewhere - cost) / PICODOLLARS

    def cost_at(self, record: CallRecord, target: Target) -> float | None:
        """What a settled record's tokens cost at a tier, in USD; None where that is not known."""
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
                "no price is listed for %r: it is counted at the price of the tier's own model, "
                "embeddings not at all",
                model,
            )


def pico(usd: float | None) -> int:
    """A record's dollars as the whole picodollars that they were; 0 for what is not known."""
    return round(usd * PICODOLLARS) if usd else 0


def _per_token(usd_per_million: float) -> int:
    return round(Decimal(str(usd_per_million)) * (PICODOLLARS // 10**6))


def _undated(model: str) -> str:
    """`gpt-4o-mini-2024-07-18` is `gpt-4o-mini`; `ft:gpt-4o-mini-2024-07-18:org::id` its tuning."""
    if model.startswith("ft:"):
        model = ":".join(model.split(":")[:2])
    return _DATED.sub("", model)
