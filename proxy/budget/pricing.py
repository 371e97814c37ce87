"""Prices: the cost of a request, its hypothetical cloud cost, and the savings, in USD.

The savings of a local answer are its tokens at the cloud's prices, less the local cost. A cloud
answer saves nothing. This is an estimate: the cloud model's answer would have another length.

A cloud model that is not listed is counted at the dearest listed price of its family, so that it
cannot exceed a budget unnoticed.

Costs are summed in whole picodollars (10⁻¹² USD), so sums are exact over any number of rows. A
price with up to six decimals per million tokens is a whole number of picodollars per token.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from operator import mul
from typing import Final, NamedTuple, TypeVar

from proxy.config import Config, ModelPrices, PriceConfig, TokenPrices, UpstreamConfig
from proxy.protocol import HostedCalls
from proxy.record import PICODOLLARS, CallRecord, Target
from router_model.value import DEFAULT_PRICES, UsdPerToken

logger = logging.getLogger(__name__)

_Default = TypeVar("_Default", int, int | None)

# -2024-07-18, and the older -0613 of gpt-4-0613.
_DATED: Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4})$")
_PROVIDERS: Final = ("openai/", "azure/")  # prefixes of gateways such as OpenRouter and LiteLLM
_PARTS: Final = re.compile(r"[-.:/]")
_FAMILY_PARTS: Final = 2  # gpt and 4o, of gpt-4o-audio-preview
_SEARCHING: Final = ("-search-preview", "-search-api")  # chat models that search once an answer
_MAY_SEARCH: Final = "-search-"
_MAX_REMEMBERED: Final = 1_000  # bounds the sets: clients may name any model


class BilledTokens(NamedTuple):
    """The tokens of one answer. Those after the second count are part of the first two."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    audio_input: int = 0
    audio_output: int = 0


class Answered(NamedTuple):
    """What is known of an answer besides its tokens.

    Attributes:
        model: the model that the answer names, if it may be another one than was asked.
        is_named: whether the client named the model. A stored prompt may choose another one, which
            the tier's own price is not for.
        service_tier: as the answer reports it.
        hosted_calls: of tools that the provider ran.
    """

    model: str | None = None
    is_named: bool = True
    service_tier: str | None = None
    hosted_calls: HostedCalls | None = None


_NOTHING_KNOWN: Final = Answered()


class Price(NamedTuple):
    """Picodollars per token.

    Attributes:
        cache_write: of input that is written to the prompt cache.
        audio_input, audio_output: of audio; None is the price of text.
        long: the prices of a request with more input tokens than `above`; None is the same.
    """

    input: int = 0
    cached_input: int = 0
    output: int = 0
    cache_write: int = 0
    audio_input: int | None = None
    audio_output: int | None = None
    long: "Price | None" = None
    above: int = 0

    @classmethod
    def of(cls, config: PriceConfig) -> "Price":
        """From USD per million tokens."""
        price = cls._of(config, cls())
        if (long := config.long) is None:
            return price
        return price._replace(long=cls._of(long, price), above=long.above)

    @classmethod
    def _of(cls, config: TokenPrices, default: "Price") -> "Price":
        """The configured prices, over the default ones."""
        if config.input is not None:
            usual = _per_token(config.input, 0)
            default = default._replace(input=usual, cached_input=usual, cache_write=usual)
        return cls(
            input=default.input,
            cached_input=_per_token(config.cached_input, default.cached_input),
            output=_per_token(config.output, default.output),
            cache_write=_per_token(config.cache_write, default.cache_write),
            audio_input=_per_token(config.audio_input, default.audio_input),
            audio_output=_per_token(config.audio_output, default.audio_output),
        )

    @classmethod
    def dearest(cls, prices: Iterable["Price"]) -> "Price":
        """The highest price of each kind of token."""
        known = list(prices) or [cls()]
        price = cls(
            input=max(price.input for price in known),
            cached_input=max(price.cached_input for price in known),
            output=max(price.output for price in known),
            cache_write=max(price.cache_write for price in known),
            audio_input=max(price.audio_input_price for price in known),
            audio_output=max(price.audio_output_price for price in known),
        )
        thresholds = [price.above for price in known if price.long is not None]
        if not thresholds:
            return price
        long = cls.dearest((price.long or price)._replace(long=None) for price in known)
        return price._replace(long=long, above=min(thresholds))

    @property
    def audio_input_price(self) -> int:
        """Of input that is audio."""
        return self.input if self.audio_input is None else self.audio_input

    @property
    def audio_output_price(self) -> int:
        """Of output that is audio."""
        return self.output if self.audio_output is None else self.audio_output

    @property
    def is_free(self) -> bool:
        """Whether all tokens are free."""
        usual = (self.input, self.cached_input, self.output, self.cache_write)
        is_free = not any((*usual, self.audio_input, self.audio_output))
        return is_free and (self.long is None or self.long.is_free)

    def cost(self, tokens: BilledTokens) -> int:
        """Picodollars of one answer.

        No audio has the price of cached input, so the cached tokens are text first. A long prompt
        has other prices for all tokens of the request.
        """
        input_tokens, output_tokens, cached, cache_write, audio_input, audio_output = tokens
        price = self.long if self.long is not None and input_tokens > self.above else self
        if not (cached or cache_write or audio_input or audio_output):
            return input_tokens * price.input + output_tokens * price.output
        audio = 0
        if audio_input and price.audio_input is not None:
            audio_input = min(audio_input, input_tokens)
            input_tokens -= audio_input
            audio += audio_input * price.audio_input
        if audio_output and price.audio_output is not None:
            audio_output = min(audio_output, output_tokens)
            output_tokens -= audio_output
            audio += audio_output * price.audio_output
        cached = min(cached, input_tokens)
        cache_write = min(cache_write, input_tokens - cached)
        return (
            audio
            + (input_tokens - cached - cache_write) * price.input
            + cached * price.cached_input
            + cache_write * price.cache_write
            + output_tokens * price.output
        )


class ModelLimits(NamedTuple):
    """The most tokens of one request to a model.

    The defaults are the highest of all listed models, for models that are not listed. An image is
    billed as 48,169 tokens at most: eight tiles of gpt-4o-mini, 2,833 + 8 · 5,667. Source:
    https://platform.openai.com/docs/guides/images-vision, "Calculating costs".

    Attributes:
        context: the text of one prompt.
        max_output: one answer.
        image_tokens: one image of the prompt.
        max_input: the prompt, with all that the body only refers to.
    """

    context: int = 1_050_000
    max_output: int = 272_000
    image_tokens: int = 48_169
    max_input: int = 4_352_000

    @classmethod
    def of(cls, model: ModelPrices) -> "ModelLimits":
        """The limits of a listed model."""
        default = cls()
        context = model.context or default.context
        return cls(
            context,
            model.max_output or default.max_output,
            model.image_tokens or default.image_tokens,
            model.max_input or context,
        )


class _Fees(NamedTuple):
    """Picodollars per call, and per container of the code interpreter."""

    web_search: int = 0
    file_search: int = 0
    code_interpreter: int = 0

    @classmethod
    def of(cls, model: ModelPrices) -> "_Fees":
        """The fees of a listed model."""
        fees = (model.web_search, model.file_search, model.code_interpreter)
        return cls(*(round(Decimal(str(fee)) * PICODOLLARS) for fee in fees))


class Prices:
    """The prices of the models of both tiers, in one configuration."""

    def __init__(
        self, tiers: Mapping[Target, UpstreamConfig], listed: Mapping[str, ModelPrices]
    ) -> None:
        self._listed = {name: Price.of(prices) for name, prices in listed.items()}
        self._limits = {name: ModelLimits.of(prices) for name, prices in listed.items()}
        self._fees = {name: _Fees.of(prices) for name, prices in listed.items()}
        self._dearest_fees = _Fees(*map(max, zip(*self._fees.values(), strict=True)))
        # By model and service tier.
        self._special = {
            name: {tier: Price.of(price) for tier, price in prices.special.items()}
            for name, prices in listed.items()
            if prices.special
        }
        self._families: dict[str, Price] = {}
        self._beginnings = {tuple(_PARTS.split(name)[:_FAMILY_PARTS]) for name in listed}
        self._warned: set[str] = set()
        self._names: dict[str, str] = {}  # of the list, by the names of requests and answers
        self._models = {target: tier.model for target, tier in tiers.items()}
        # A tier's own `price` is the contract with its provider: the list never replaces it.
        self._configured = {
            target: Price.of(tier.price)
            for target, tier in tiers.items()
            if isinstance(tier.price, PriceConfig)
        }
        self._own = {target: self._own_price(target) for target in tiers}

    @classmethod
    def of(cls, config: Config, listed: Mapping[str, ModelPrices]) -> "Prices":
        """The prices of a configuration and its price list."""
        tiers = config.upstreams
        return cls({Target.LOCAL: tiers.local, Target.CLOUD: tiers.cloud}, listed)

    def _own_price(self, target: Target) -> Price:
        model = self._models[target]
        price = self._configured.get(target) or self._listed.get(self._listed_name(model))
        if price is not None:
            return price
        return self._price_of_family(model) if target is Target.CLOUD else Price()

    def _listed_name(self, model: str) -> str:
        """The name under which the list has a model: the first of several spellings that it has."""
        name = self._names.get(model)
        if name is None:
            name = next((name for name in _spellings(model) if name in self._listed), model)
            if len(self._names) < _MAX_REMEMBERED:
                self._names[model] = name
        return name

    def _price_of_family(self, model: str) -> Price:
        """The dearest listed price of the models that share the most parts of the name.

        An unlisted model must not cost a budget less than it costs.
        """
        if model in self._families:
            return self._families[model]
        parts = _PARTS.split(_spellings(model)[-1])
        shared = {name: _count_shared(parts, _PARTS.split(name)) for name in self._listed}
        most = max(shared.values(), default=0)
        price = Price.dearest(self._listed[name] for name, count in shared.items() if count == most)
        if len(self._families) < _MAX_REMEMBERED:
            self._families[model] = price
        return price

    def _has_family(self, model: str) -> bool:
        """Whether the list has models like this one. A gateway's own name for a model has none."""
        beginning = _PARTS.split(_spellings(model)[-1])[:_FAMILY_PARTS]
        return len(beginning) == _FAMILY_PARTS and tuple(beginning) in self._beginnings

    @property
    def cloud_is_free(self) -> bool:
        """Whether the configured cloud model has no price, so that all costs are 0."""
        return self._own[Target.CLOUD].is_free

    @property
    def cloud_is_known(self) -> bool:
        """Whether the configured cloud model has a `price`, or the list has one."""
        return self.is_known(self._models[Target.CLOUD])

    @property
    def cloud_usd_per_token(self) -> UsdPerToken:
        """The prices of the configured cloud model's text; the default ones if none is known."""
        price = self.find(Target.CLOUD, self._models[Target.CLOUD])
        if price is None or not (price.input or price.output):
            return DEFAULT_PRICES
        return UsdPerToken(price.input / PICODOLLARS, price.output / PICODOLLARS)

    def is_known(self, model: str) -> bool:
        """Whether a cloud model's price is known. Others are counted as the dearest similar one."""
        return self.find(Target.CLOUD, model) is not None

    def find(self, target: Target, model: str, *, service_tier: str | None = None) -> Price | None:
        """The price of a model; None if it is unknown.

        Args:
            service_tier: as the answer reports it.
        """
        is_own = model == self._models[target]
        if is_own and target in self._configured:
            return self._configured[target]
        name = self._listed_name(model)
        if target is Target.CLOUD and service_tier is not None and name in self._special:
            special = self._special[name].get(service_tier)
            if special is not None:
                return special
        if name in self._listed:
            return self._listed[name]
        return self._own[target] if is_own and target is Target.LOCAL else None

    def billed_price(
        self, target: Target, model: str, answered: Answered = _NOTHING_KNOWN
    ) -> Price:
        """The price that a request is billed at, also where the model's price is unknown.

        Args:
            model: the model that was asked.
        """
        answered_model, is_named, service_tier, _ = answered
        price = None
        if target is Target.CLOUD and answered_model is not None and answered_model != model:
            has_own_price = model == self._models[target] and target in self._configured
            is_same = self._listed_name(answered_model) == self._listed_name(model)
            if not (has_own_price and (is_named or is_same)):
                price = self.find(target, answered_model, service_tier=service_tier)
                if price is None and (not is_named or self._has_family(answered_model)):
                    self._warn(answered_model)
                    price = self._price_of_family(answered_model)
        price = price or self.find(target, model, service_tier=service_tier)
        if price is not None:
            return price
        if target is Target.LOCAL:
            return self._own[target]
        self._warn(model)
        return self._price_of_family(model)

    def _fees_of(self, *models: str | None) -> _Fees:
        """The fees of the first of these models that is listed, else the dearest ones."""
        names = (self._listed_name(model) for model in models if model is not None)
        return next((self._fees[name] for name in names if name in self._fees), self._dearest_fees)

    def _fees_pico(self, model: str, answered: str | None, calls: HostedCalls | None) -> int:
        """Picodollars of the tools that the provider ran for an answer."""
        calls = calls or HostedCalls()
        if _searches(model):
            calls = calls._replace(web_search=max(1, calls.web_search))
        return sum(map(mul, self._fees_of(answered, model), calls))

    def limits(self, model: str) -> ModelLimits:
        """The most tokens of one request to a cloud model."""
        return self._limits.get(self._listed_name(model)) or ModelLimits()

    def at_most(
        self,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int,
        service_tier: str | None = None,
        is_named: bool = True,
        may_have_audio: bool = False,
        hosted_tools: Sequence[str] = (),
        max_calls: int = 0,
    ) -> float:
        """The maximum cost of a cloud answer in USD: no token is cached, all may be written.

        Args:
            service_tier: as the request names it. The provider may answer at the standard price.
            is_named: see `Answered`. Otherwise any listed model may answer.
            may_have_audio: whether prompt and answer may be audio. Otherwise they are text.
            hosted_tools: see `RoutingRequest`. Each code interpreter has one container.
            max_calls: the most calls of these tools.
        """
        has_own_price = model == self._models[Target.CLOUD] and Target.CLOUD in self._configured
        prices = [self.billed_price(Target.CLOUD, model)]
        names = [self._listed_name(model)] if is_named else list(self._listed)
        if not is_named:
            prices += self._listed.values()
        if service_tier is not None and not (is_named and has_own_price):
            for name in names:
                prices += self._special.get(name, {}).values()
        price = Price.dearest(prices)
        if price.long is not None and input_tokens > price.above:
            price = Price.dearest((price, price.long))
        input_price, output_price = max(price.input, price.cache_write), price.output
        if may_have_audio:
            input_price = max(input_price, price.audio_input_price)
            output_price = max(output_price, price.audio_output_price)
        cost = input_tokens * input_price + output_tokens * output_price
        if cost and (hosted_tools or _searches(model)):
            fees = self._fees_of(model) if is_named else self._dearest_fees
            containers = hosted_tools.count("code_interpreter")
            called = set(hosted_tools) - {"code_interpreter"}
            cost += max_calls * max((getattr(fees, tool) for tool in called), default=0)
            cost += containers * fees.code_interpreter
            if _searches(model):
                cost += fees.web_search
        return cost / PICODOLLARS

    def add_failed(
        self,
        record: CallRecord,
        target: Target,
        model: str,
        tokens: BilledTokens,
        answered: Answered = _NOTHING_KNOWN,
    ) -> None:
        """Add an attempt that was sent to a tier and ended without an answer to a record's cost."""
        record.failed_usd += self._bill(target, model, tokens, answered) / PICODOLLARS
        record.cost_usd = record.failed_usd
        record.cloud_cost_usd = record.cost_usd if target is Target.CLOUD else None
        record.saved_usd = 0.0

    def settle(
        self,
        record: CallRecord,
        tokens: BilledTokens,
        answered: Answered = _NOTHING_KNOWN,
        *,
        is_routed: bool = True,
    ) -> None:
        """Set the record's three dollar amounts, if a model answered.

        Args:
            is_routed: whether the other tier could have answered. Embeddings are not routed: the
                vectors of two models are not comparable.
        """
        target, model = record.target, record.model
        if target is None or model is None:
            return
        if not (is_routed or self._listed or self.is_known(model)) and target is Target.CLOUD:
            return  # without a price list there is no price to count embeddings at
        cost, failed = self._bill(target, model, tokens, answered), record.failed_usd
        record.cost_usd = cost / PICODOLLARS + failed
        if target is Target.CLOUD:
            record.cloud_cost_usd, record.saved_usd = record.cost_usd, 0.0
        elif is_routed:
            # At the full price: a local prompt cache hit does not imply one in the cloud.
            if any(tokens[2:]):
                tokens = BilledTokens(tokens.input, tokens.output)
            cloud_cost = self._own[Target.CLOUD].cost(tokens)
            record.cloud_cost_usd = cloud_cost / PICODOLLARS
            record.saved_usd = (cloud_cost - cost) / PICODOLLARS - failed

    def _bill(self, target: Target, model: str, tokens: BilledTokens, answered: Answered) -> int:
        """Picodollars of one answer, with the fees of tools. A tier without prices has no fees."""
        cost, calls = self.billed_price(target, model, answered).cost(tokens), answered.hosted_calls
        if (calls is not None or _MAY_SEARCH in model) and cost and target is Target.CLOUD:
            cost += self._fees_pico(model, answered.model, calls)
        return cost

    def cost_at(self, record: CallRecord, target: Target) -> float | None:
        """The cost of a settled record's tokens at a tier, in USD; None if it is unknown."""
        if target is record.target:
            return record.cost_usd
        if target is Target.CLOUD or record.input_tokens is None:
            return record.cloud_cost_usd
        tokens = BilledTokens(record.input_tokens, record.output_tokens or 0)
        return self._own[target].cost(tokens) / PICODOLLARS

    def _warn(self, model: str) -> None:
        if model not in self._warned and len(self._warned) < _MAX_REMEMBERED:
            self._warned.add(model)
            logger.warning(
                "no price is listed for %r: it is counted at the dearest listed price of its "
                "family; add it to the price list",
                model,
            )


def unpriced_warning(config: Config) -> str:
    """The warning for a configured cloud model without a price."""
    return (
        f"upstreams.cloud.price: no price is listed for {config.upstreams.cloud.model}, so it is "
        "counted at the dearest listed price of its family; set one, or add it to the price list"
    )


def pico(usd: float | None) -> int:
    """Dollars as whole picodollars; 0 for an unknown amount."""
    return round(usd * PICODOLLARS) if usd else 0


def _per_token(usd_per_million: float | None, default: _Default) -> int | _Default:
    """Picodollars per token; the default where no price is configured."""
    if usd_per_million is None:
        return default
    return round(Decimal(str(usd_per_million)) * (PICODOLLARS // 10**6))


def _searches(model: str) -> bool:
    """Whether a chat model searches the web once for each answer."""
    return _MAY_SEARCH in model and _DATED.sub("", model).endswith(_SEARCHING)


def _spellings(model: str) -> tuple[str, ...]:
    """The names to look a model up by, the most specific one first.

    `openai/gpt-4o-2024-08-06` is `gpt-4o-2024-08-06`, else `gpt-4o`. Of a fine-tuned model
    `ft:gpt-4o-mini-2024-07-18:org::id` the first two fields count.
    """
    names = [model]
    if model.startswith(_PROVIDERS):
        names.append(model.rpartition("/")[2])
    if names[-1].startswith("ft:"):
        names.append(":".join(names[-1].split(":")[:2]))
    names.append(_DATED.sub("", names[-1]))
    return tuple(names)


def _count_shared(parts: Sequence[str], others: Sequence[str]) -> int:
    """The number of first parts that two names share."""
    for count, (part, other) in enumerate(zip(parts, others, strict=False)):
        if part != other:
            return count
    return min(len(parts), len(others))
