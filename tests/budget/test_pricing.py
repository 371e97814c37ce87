"""Costs in USD, compared with values worked out by hand."""

import itertools
import json
import random
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from proxy.budget.pricing import Answered, BilledTokens, ModelLimits, Price, Prices, pico
from proxy.budget.reservations import NO_RESERVATION, Reservations
from proxy.budget.spending_limits import Reservation, SpendingLimits
from proxy.config import (
    BudgetConfig,
    Config,
    ConfigError,
    LongPrices,
    ModelPrices,
    PriceConfig,
    UpstreamConfig,
    UpstreamsConfig,
    load_prices,
)
from proxy.protocol import HostedCalls
from proxy.protocol.endpoints import RESPONSES
from proxy.protocol.responses import parse_responses
from proxy.record import PICODOLLARS, CallRecord, Target
from router_model.value import DEFAULT_PRICES

# gpt-4o-mini: USD per million tokens.
MINI = PriceConfig(input=0.15, cached_input=0.075, output=0.60)
FREE = PriceConfig()
LISTED = {
    "gpt-4o-mini": ModelPrices(
        input=0.15, cached_input=0.075, output=0.60, priority=PriceConfig(input=0.25, output=1)
    ),
    "gpt-5": ModelPrices(
        input=1.25, cached_input=0.125, output=10, flex=PriceConfig(input=0.625, output=5)
    ),
    "gpt-5-2025-08-07": ModelPrices(input=1, output=1),
    "ft:gpt-4o-mini": ModelPrices(input=0.3, output=1.2),
    "ft:gpt-4o-2024-08-06": ModelPrices(input=3.75, output=15),
    "text-embedding-3-small": ModelPrices(input=0.02),
    "gpt-audio": ModelPrices(
        input=2.5, cached_input=1.25, output=10, audio_input=32, audio_output=64
    ),
    "gpt-6": ModelPrices(
        input=4,
        cached_input=0.4,
        cache_write=5,
        output=20,
        tiers={"ultrafast": PriceConfig(input=24, output=120)},
    ),
}
LONG = {
    "gpt-7": ModelPrices(
        input=4,
        cached_input=0.4,
        cache_write=5,
        output=20,
        long=LongPrices(above=272_000, input=8, cached_input=0.8, cache_write=10, output=30),
        flex=PriceConfig(input=2, output=10, long=LongPrices(above=272_000, input=4, output=15)),
        tiers={"ultrafast": PriceConfig(input=24, output=120)},
    ),
    "gpt-7-mini": ModelPrices(input=1, output=2),
}
FEES = {
    "gpt-4o-mini": ModelPrices(
        input=1, output=1, web_search=0.02, file_search=0.0025, code_interpreter=0.03
    ),
    "gpt-8": ModelPrices(
        input=1, output=1, web_search=0.01, file_search=0.0025, code_interpreter=0.03
    ),
    "gpt-8-search-api": ModelPrices(input=1, output=1, web_search=0.01),
}


def prices(
    cloud: PriceConfig | Literal["auto"] = MINI,
    local: PriceConfig = FREE,
    *,
    listed: Mapping[str, ModelPrices] = LISTED,
) -> Prices:
    def tier(model: str, price: PriceConfig | Literal["auto"]) -> UpstreamConfig:
        return UpstreamConfig(base_url="http://x", model=model, price=price)

    tiers = {Target.LOCAL: tier("phi3", local), Target.CLOUD: tier("gpt-4o-mini", cloud)}
    return Prices(tiers, listed)


def test_price_of_the_cloud_model_is_known_or_a_default() -> None:
    assert prices(PriceConfig(input=3, output=12)).cloud_usd_per_token == (3e-6, 12e-6)
    assert prices("auto").cloud_usd_per_token == (0.15e-6, 0.6e-6)
    for unknown in (prices(FREE), prices("auto", listed={})):
        assert unknown.cloud_usd_per_token == DEFAULT_PRICES


def priced(
    target: Target | None,
    *,
    by: Prices | None = None,
    model: str | None = None,
    service_tier: str | None = None,
    is_routed: bool = True,
    **tokens: int,
) -> CallRecord:
    record = CallRecord("chat.completions")
    record.target = target
    record.model = model or ("phi3" if target is Target.LOCAL else "gpt-4o-mini")
    (by or prices()).settle(
        record,
        BilledTokens(**{"input": 0, "output": 0} | tokens),
        Answered(service_tier=service_tier),
        is_routed=is_routed,
    )
    return record


def test_input_cached_and_output_tokens_have_their_own_prices() -> None:
    # 1000 at 0.15 + 500 at 0.60 per million = 150 + 300 millionths.
    assert priced(Target.CLOUD, input=1000, output=500).cost_usd == 0.000450
    # 400 cached: 600 * 0.15 + 400 * 0.075 + 500 * 0.60 = 90 + 30 + 300.
    assert priced(Target.CLOUD, input=1000, cached=400, output=500).cost_usd == 0.000420


def test_more_cached_than_input_tokens_cost_no_negative_amount() -> None:
    assert (
        priced(Target.CLOUD, input=100, cached=900, output=0).cost_usd == 100 * 75_000 / PICODOLLARS
    )


def test_cached_tokens_default_to_the_input_price() -> None:
    dear = prices(PriceConfig(input=2, output=0))
    assert priced(Target.CLOUD, by=dear, input=1000, cached=500).cost_usd == 0.002


def test_a_cloud_answer_costs_and_saves_nothing() -> None:
    record = priced(Target.CLOUD, input=1000, cached=400, output=500)
    assert record.cost_usd == record.cloud_cost_usd == 0.000420
    assert record.saved_usd == 0


def test_a_free_local_answer_saves_what_the_cloud_would_have_cost() -> None:
    record = priced(Target.LOCAL, input=1000, cached=400, output=500)
    assert record.cost_usd == 0
    # A cache hit of the local server implies none in the cloud.
    assert record.cloud_cost_usd == record.saved_usd == 0.000450


def test_a_local_tier_dearer_than_the_cloud_has_negative_savings() -> None:
    dear = prices(local=PriceConfig(input=1, output=2))
    record = priced(Target.LOCAL, by=dear, input=1000, output=500)
    assert record.cost_usd == 0.002
    assert record.saved_usd == -0.00155


def test_missing_output_tokens_count_as_zero() -> None:
    assert priced(Target.CLOUD, input=1000).cost_usd == 0.000150


def test_an_unanswered_request_has_no_cost() -> None:
    record = priced(None, input=5)
    assert (record.cost_usd, record.cloud_cost_usd, record.saved_usd) == (None, None, None)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o-mini", 0.15),
        ("gpt-4o-mini-2024-07-18", 0.15),
        ("gpt-5", 1.25),
        ("gpt-5-2025-08-07", 1),  # listed under its date
        ("gpt-5-2026-01-01", 1.25),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", 0.3),
        ("gpt-5-0807", 1.25),
        ("openai/gpt-5", 1.25),
        ("openai/gpt-5-2025-08-07", 1),
        ("azure/eu/gpt-5", 1.25),
        ("ft:gpt-4o-2024-08-06:org::abc", 3.75),  # listed with its date
        ("ft:gpt-4o-2024-08-06:org::abc:ckpt-step-100", 3.75),
        # Not listed: the dearest of the models that share most of the name.
        ("gpt-unheard-of", 4),
        ("gpt-5-search", 1.25),
        ("gpt-audio-9", 2.5),
        ("claude-unheard-of", 4),
    ],
)
def test_a_model_has_its_listed_price(model: str, usd: float) -> None:
    assert priced(Target.CLOUD, model=model, input=1_000_000).cost_usd == usd


def test_the_configured_price_overrides_the_price_list() -> None:
    own = prices(PriceConfig(input=0.1, output=0.2))
    assert priced(Target.CLOUD, by=own, input=1_000_000).cost_usd == 0.1
    assert priced(Target.CLOUD, by=prices("auto"), input=1_000_000).cost_usd == 0.15


@pytest.mark.parametrize(
    ("model", "service_tier", "usd"),
    [
        ("gpt-4o-mini", "default", 0.15),
        ("gpt-4o-mini", "priority", 0.25),
        ("gpt-4o-mini", "flex", 0.15),  # not offered, whatever the answer says
        ("gpt-5", "flex", 0.625),
        ("gpt-5", "scale", 1.25),
        ("gpt-6", "ultrafast", 24),
    ],
)
def test_a_service_tier_has_its_price(model: str, service_tier: str, usd: float) -> None:
    by = prices("auto")
    record = priced(Target.CLOUD, by=by, model=model, service_tier=service_tier, input=1_000_000)
    assert record.cost_usd == usd
    local = priced(Target.LOCAL, model="phi3", service_tier=service_tier, input=1_000_000)
    assert local.cost_usd == 0


def test_embeddings_have_their_listed_price_and_no_savings() -> None:
    record = priced(Target.CLOUD, input=500_000, model="text-embedding-3-small", is_routed=False)
    assert (record.cost_usd, record.saved_usd) == (0.01, 0)
    local = priced(Target.LOCAL, input=500_000, model="nomic-embed-text", is_routed=False)
    assert (local.cost_usd, local.cloud_cost_usd, local.saved_usd) == (0, None, None)


def test_a_configured_price_holds_for_every_service_tier() -> None:
    own = prices(PriceConfig(input=1, output=2))
    for tier in ("priority", "flex", "default"):
        assert priced(Target.CLOUD, by=own, service_tier=tier, input=1_000_000).cost_usd == 1


def test_written_cache_tokens_have_their_own_price() -> None:
    tokens = {"input": 1000, "cached": 100, "cache_write": 700}
    # 200 at 4, 100 at 0.4 and 700 at 5 per million.
    assert priced(Target.CLOUD, model="gpt-6", **tokens).cost_usd == 0.00434
    # A model without such a price: 900 at 0.15 and 100 at 0.075.
    assert priced(Target.CLOUD, model="gpt-4o-mini", **tokens).cost_usd == 0.0001425


def audio_usd(model: str, *, by: Prices | None = None, **tokens: int) -> float | None:
    """The cost of 1,000 tokens each way, some of which are audio."""
    by = by or prices("auto")
    return priced(Target.CLOUD, by=by, model=model, input=1000, output=1000, **tokens).cost_usd


def test_audio_tokens_have_their_own_prices() -> None:
    assert audio_usd("gpt-audio") == 0.0125
    # 400 at 2.5, 600 at 32 and 1,000 at 10 per million.
    assert audio_usd("gpt-audio", audio_input=600) == 0.0302
    # 1,000 at 2.5, 200 at 10 and 800 at 64 per million.
    assert audio_usd("gpt-audio", audio_output=800) == 0.0557
    # More than all: 1,000 at 32 and 1,000 at 64 per million.
    assert audio_usd("gpt-audio", audio_input=9999, audio_output=9999) == 0.096


def test_audio_is_not_billed_as_cached_text() -> None:
    # 100 at 2.5, 300 at 1.25, 600 at 32 and 1,000 at 10 per million.
    assert audio_usd("gpt-audio", cached=300, audio_input=600) == 0.029825
    # 400 at 1.25: the other cached tokens are audio.
    assert audio_usd("gpt-audio", cached=900, audio_input=600) == 0.0297


def test_audio_costs_as_much_as_text_where_no_price_is_listed() -> None:
    for tokens in ({}, {"audio_input": 600, "audio_output": 800}):
        assert audio_usd("gpt-4o-mini", cached=900, **tokens) == 0.0006825


def test_an_unlisted_model_has_the_dearest_audio_prices() -> None:
    # 1,000 at 32 and 1,000 at 64 per million.
    usd = audio_usd("gpt-unheard-of", audio_input=1000, audio_output=1000)
    assert usd == 0.096


def test_a_reservation_counts_audio_at_the_dearer_price() -> None:
    def at_most(model: str, *, may_have_audio: bool) -> float:
        return prices("auto").at_most(
            model, input_tokens=1000, output_tokens=1000, may_have_audio=may_have_audio
        )

    assert at_most("gpt-audio", may_have_audio=False) == 0.0125
    assert at_most("gpt-audio", may_have_audio=True) == 0.096
    assert at_most("gpt-4o-mini", may_have_audio=True) == 0.00075


@pytest.mark.parametrize(
    ("tokens", "service_tier", "usd"),
    [
        # 272,000 at 4, or 272,001 at 8, and 1,000 at 20 or 30 per million.
        ({"input": 272_000, "output": 1000}, None, 1.108),
        ({"input": 272_001, "output": 1000}, None, 2.206008),
        # 200,000 at 0.4 or 0.8 and the others at 4 or 8.
        ({"input": 272_000, "cached": 200_000}, None, 0.368),
        ({"input": 272_001, "cached": 200_000}, None, 0.736008),
        ({"input": 272_000, "output": 1000}, "flex", 0.554),
        ({"input": 272_001, "output": 1000}, "flex", 1.103004),
        ({"input": 300_000}, "ultrafast", 7.2),  # no long prices are listed
    ],
)
def test_a_long_prompt_has_its_own_prices(
    tokens: dict[str, int], service_tier: str | None, usd: float
) -> None:
    by = prices("auto", listed=LONG)
    record = priced(Target.CLOUD, by=by, model="gpt-7", service_tier=service_tier, **tokens)
    assert record.cost_usd == usd


def test_audio_in_a_long_prompt_keeps_its_price() -> None:
    long = LongPrices(above=900, input=5, output=20)
    own = prices(PriceConfig(input=2.5, output=10, audio_input=32, long=long))
    # 400 at 5, 600 at 32 and 1,000 at 20 per million.
    assert audio_usd("gpt-4o-mini", by=own, audio_input=600) == 0.0412


@pytest.mark.parametrize(
    ("long", "expected"),
    [
        # Input, cached, written, output, audio input and audio output.
        ({"input": 4}, (4, 4, 4, 10, 32, 64)),
        ({"input": 4, "cached_input": 0.4, "cache_write": 5}, (4, 0.4, 5, 10, 32, 64)),
        ({"output": 15}, (2, 0.2, 2.5, 15, 32, 64)),
        ({"audio_input": 48, "audio_output": 96}, (2, 0.2, 2.5, 10, 48, 96)),
        ({"output": 0}, (2, 0.2, 2.5, 0, 32, 64)),
        ({}, (2, 0.2, 2.5, 10, 32, 64)),
    ],
    ids=str,
)
def test_a_long_prompt_has_the_usual_prices_by_default(
    long: dict[str, float], expected: tuple[float, ...]
) -> None:
    price = Price.of(
        PriceConfig(
            input=2, cached_input=0.2, cache_write=2.5, output=10, audio_input=32, audio_output=64,
            long=LongPrices(above=900, **long),
        )
    ).long  # fmt: skip
    assert price is not None
    assert (
        price.input, price.cached_input, price.cache_write,
        price.output, price.audio_input, price.audio_output,
    ) == tuple(usd * PICODOLLARS / 10**6 for usd in expected)  # fmt: skip


def test_a_reservation_counts_the_prices_of_a_long_prompt() -> None:
    by = prices("auto", listed=LONG)

    def at_most(model: str, tokens: int, service_tier: str | None = None) -> float:
        return by.at_most(model, input_tokens=tokens, output_tokens=1000, service_tier=service_tier)

    # At the price of writing to the cache, 5 or 10 per million.
    assert at_most("gpt-7", 272_000) == 1.38
    assert at_most("gpt-7", 272_001) == 2.75001
    assert at_most("gpt-unheard-of", 272_001) == 2.75001
    # The dearest tier: 24 and 120 per million.
    assert at_most("gpt-7", 272_000, "flex") == 6.648
    assert at_most("gpt-7-mini", 300_000) == 0.302


def test_the_model_that_answered_sets_the_price() -> None:
    def cost(by: Prices, asked: str, answered: str | None, *, is_named: bool = True) -> float:
        record, failed = CallRecord("responses"), CallRecord("responses")
        record.target, record.model = Target.CLOUD, asked
        tokens, answer = BilledTokens(1_000_000, 0), Answered(answered, is_named)
        by.settle(record, tokens, answer)
        by.add_failed(failed, Target.CLOUD, asked, tokens, answer)
        assert record.cost_usd is not None
        assert record.cost_usd == failed.cost_usd
        return record.cost_usd

    assert cost(prices("auto"), "gpt-4o-mini", "gpt-6") == 4
    assert cost(prices("auto"), "gpt-5", "gpt-5-2025-08-07") == 1
    assert cost(prices("auto"), "gpt-5", "of-some-gateway") == 1.25
    own = prices(PriceConfig(input=0.1, output=0.2))
    assert cost(own, "gpt-4o-mini", "gpt-6") == 0.1
    assert cost(own, "gpt-4o-mini", "gpt-6", is_named=False) == 4  # a stored prompt's model
    assert cost(own, "gpt-4o-mini", "gpt-4o-mini-2024-07-18", is_named=False) == 0.1
    assert cost(prices("auto"), "gpt-4o-mini", "gpt-6-next") == 4  # the dearest of its family
    # A stored prompt's model that is not listed may be the dearest one.
    assert cost(prices("auto"), "gpt-4o-mini", "of-some-gateway", is_named=False) == 4


def test_failed_attempts_add_to_the_cost() -> None:
    by = prices()
    record = priced(None, input=1)
    record.target = Target.CLOUD
    for _ in range(2):
        by.add_failed(record, Target.CLOUD, "gpt-4o-mini", BilledTokens(1000, 500))
    assert record.cost_usd == pytest.approx(0.0009)
    by.settle(record, BilledTokens(1000, 0))
    assert record.cost_usd == record.cloud_cost_usd == pytest.approx(0.00105)
    record.target, record.model, record.fallback_from = Target.LOCAL, "phi3", Target.CLOUD
    by.settle(record, BilledTokens(1000, 0))
    assert record.cost_usd == record.budget_usd == pytest.approx(0.0009)
    assert record.saved_usd == pytest.approx(0.00015 - 0.0009)


def test_a_failed_attempt_pays_less_for_cached_tokens() -> None:
    record = CallRecord("chat.completions")
    prices().add_failed(record, Target.CLOUD, "gpt-4o-mini", BilledTokens(1000, 500, cached=400))
    # 600 at 0.15, 400 at 0.075 and 500 at 0.60 per million.
    assert record.cost_usd == 0.000420


@pytest.mark.parametrize(
    ("price", "is_free"),
    [
        (PriceConfig(), True),
        (PriceConfig(long=LongPrices(above=200_000)), True),
        (PriceConfig(input=0, audio_input=0), True),
        (PriceConfig(long=LongPrices(above=200_000, output=1)), False),
        (PriceConfig(output=1), False),
        (PriceConfig(audio_output=1), False),
        (PriceConfig(cached_input=1), False),
    ],
    ids=str,
)
def test_a_threshold_is_no_price(price: PriceConfig, *, is_free: bool) -> None:
    assert Price.of(price).is_free == is_free
    assert prices(price).cloud_is_free == is_free


def test_an_unlisted_model_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    by = prices()
    for _ in range(3):
        priced(Target.CLOUD, by=by, model="gpt-unheard-of", input=1)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "no price is listed for 'gpt-unheard-of'"
    ]


def test_sums_of_costs_are_exact() -> None:
    """Prices have up to six decimals; sums of rows in picodollars lose nothing."""
    random.seed(6)
    total = 0
    exact = Decimal(0)
    for _ in range(10_000):
        usd = [random.randrange(1, 10**8) / 10**6 for _ in range(3)]
        price = Price.of(PriceConfig(input=usd[0], cached_input=usd[1], output=usd[2]))
        tokens = [random.randrange(200_000) for _ in range(3)]
        cost = price.cost(BilledTokens(tokens[0] + tokens[1], tokens[2], cached=tokens[1]))
        total += pico(cost / PICODOLLARS)
        exact += sum(
            (Decimal(str(price)) * count for price, count in zip(usd, tokens, strict=True)),
            Decimal(0),
        )
    assert Decimal(total) / PICODOLLARS == exact / 10**6


@pytest.mark.parametrize(
    ("model", "calls", "usd"),
    [
        ("gpt-8", None, 0),
        ("gpt-8", HostedCalls(), 0),
        ("gpt-8", HostedCalls(web_search=1), 0.01),
        ("gpt-8", HostedCalls(web_search=2, file_search=2, code_interpreter=1), 0.055),
        ("gpt-4o-mini", HostedCalls(web_search=1), 0.02),
        ("gpt-unheard-of", HostedCalls(web_search=1), 0.02),  # the dearest
        ("gpt-8-search-api", None, 0.01),
        ("gpt-8-search-api-2026-01-01", None, 0.01),
        ("openai/gpt-8-search-preview", None, 0.02),
        ("gpt-8-search-api", HostedCalls(web_search=3), 0.03),
        ("gpt-8-search-engine", None, 0),
    ],
)
def test_tools_that_the_provider_runs_have_fees(
    model: str, calls: HostedCalls | None, usd: float
) -> None:
    record = CallRecord("chat.completions")
    record.target, record.model = Target.CLOUD, model
    answered = Answered(hosted_calls=calls)
    prices("auto", listed=FEES).settle(record, BilledTokens(1000, 1000), answered)
    assert record.cost_usd == record.cloud_cost_usd == pytest.approx(0.002 + usd, abs=1e-12)


def test_the_model_that_answered_sets_the_fees() -> None:
    def cost(*, by: Prices, answered: str | None = None, target: Target = Target.CLOUD) -> Any:
        record = CallRecord("responses")
        record.target, record.model = target, "gpt-4o-mini"
        calls = HostedCalls(web_search=1)
        by.settle(record, BilledTokens(1000, 0), Answered(answered, hosted_calls=calls))
        return record.cost_usd

    assert cost(by=prices("auto", listed=FEES)) == 0.021
    assert cost(by=prices("auto", listed=FEES), answered="gpt-8") == 0.011
    # A tier's own price replaces the prices of tokens, unless the tier is free.
    assert cost(by=prices(PriceConfig(input=2), listed=FEES)) == 0.022
    assert cost(by=prices(FREE, listed=FEES)) == 0
    assert cost(by=prices("auto", listed=FEES), target=Target.LOCAL) == 0.001


def test_a_failed_attempt_pays_for_the_tools_that_ran() -> None:
    record, by = CallRecord("responses"), prices("auto", listed=FEES)
    for calls in (HostedCalls(web_search=2), None):
        tokens, answered = BilledTokens(1000, 0), Answered(hosted_calls=calls)
        by.add_failed(record, Target.CLOUD, "gpt-8", tokens, answered)
    assert record.cost_usd == pytest.approx(0.022)


class Spending(SpendingLimits):
    """Limits that only note the dollars of the last reservation."""

    def __init__(self) -> None:
        self.usd = 0.0

    async def reserve(self, principal: Any, usd: float, **_: Any) -> Reservation:
        self.usd = usd
        return NO_RESERVATION


@pytest.mark.parametrize(
    ("fields", "usd"),
    [
        ({"tools": [{"type": "function"}]}, 0.0),
        # 400,000 / 8,000 calls.
        ({"tools": [{"type": "web_search"}]}, 0.5),
        ({"tools": [{"type": "web_search_preview_2025_03_11"}]}, 0.5),
        ({"tools": [{"type": "web_search"}], "tool_choice": "none"}, 0.0),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 3}, 0.03),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 10**9}, 0.5),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": "3"}, 0.5),
        ({"tools": [{"type": "file_search"}], "max_tool_calls": 4}, 0.01),
        ({"tools": [{"type": "code_interpreter"}]}, 0.03),
        ({"tools": [{"type": "code_interpreter"}, {"type": "web_search"}]}, 0.53),
        ({"tools": [{"type": "image_generation"}]}, 0.0),
        ({"prompt": {"id": "pmpt_1"}}, 0.53),  # which tools it has is unknown
    ],
    ids=str,
)
async def test_a_reservation_counts_a_bounded_number_of_calls(
    fields: dict[str, Any], usd: float
) -> None:
    model = "gpt-8"
    listed = {model: msgspec.structs.replace(FEES[model], context=400_000, max_output=100)}
    tier = UpstreamConfig(base_url="http://x", model=model, price="auto")
    config = Config(
        upstreams=UpstreamsConfig(local=tier, cloud=tier),
        budget=BudgetConfig(cloud_usd_per_day=1),
    )
    by = Prices({Target.LOCAL: tier, Target.CLOUD: tier}, listed)
    body = json.dumps({"model": model, "input": "Hi"} | fields).encode()
    request = parse_responses(body)
    spender: Any = SimpleNamespace(
        body=body,
        endpoint=RESPONSES,
        is_preview=False,
        principal=None,
        request=request,
        waited_seconds=0.0,
    )
    spending = Spending()
    await Reservations(spending).reserve(spender, model, config=config, prices=by)
    tokens = len(body) + (400_000 if request.has_references else 0) + 100
    assert spending.usd == pytest.approx(tokens / 1e6 + usd)


def test_a_stored_prompt_may_choose_the_dearest_model() -> None:
    def at_most(service_tier: str | None, *, is_named: bool) -> float:
        return prices().at_most(
            "gpt-4o-mini",
            input_tokens=1_000_000,
            output_tokens=0,
            service_tier=service_tier,
            is_named=is_named,
        )

    assert at_most(None, is_named=True) == 0.15
    assert at_most(None, is_named=False) == 5  # gpt-6, written to the cache
    assert at_most("ultrafast", is_named=False) == 24


@pytest.mark.parametrize("tier", [None, "auto", "default", "standard"])
def test_the_default_service_tier_counts_as_the_standard_one(tier: str | None) -> None:
    fields = {"model": "gpt-8", "input": "Hi"} | ({} if tier is None else {"service_tier": tier})
    assert parse_responses(json.dumps(fields).encode()).service_tier is None
    fields["service_tier"] = "priority"
    assert parse_responses(json.dumps(fields).encode()).service_tier == "priority"


def test_a_reservation_counts_the_search_of_a_chat_model() -> None:
    by = prices("auto", listed=FEES)
    assert by.at_most("gpt-8-search-api", input_tokens=1000, output_tokens=0) == 0.011


# The price list.


def test_the_default_limits_are_the_highest_listed_ones() -> None:
    listed = load_prices(Path(__file__).parents[2] / "configs" / "pricing.yaml")
    limits = [ModelLimits.of(model) for model in listed.values()]
    assert ModelLimits(*map(max, zip(*limits, strict=True))) == ModelLimits()
    for field in ModelLimits._fields:  # not only by default
        assert max(getattr(model, field) or 0 for model in listed.values()) == getattr(
            ModelLimits(), field
        )


def test_the_shipped_price_list_has_the_default_models(tmp_path: Path) -> None:
    listed = load_prices(Path(__file__).parents[2] / "configs" / "pricing.yaml")
    assert (listed["gpt-4o-mini"].input, listed["gpt-4o-mini"].output) == (0.15, 0.6)
    assert listed["text-embedding-3-small"].input == 0.02
    for name, prices in listed.items():
        assert prices.input > 0, name
        for special, usual in itertools.product((prices.flex, prices.priority), (prices,)):
            assert special is None or special.output != usual.output, name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:\n  gpt-x: {input: -1}\n", "2: models.gpt-x.input: expected `float` >= 0.0"),
        ("models:\n  gpt-x: {inputs: 1}\n", "2: models.gpt-x.inputs: unknown key"),
        ("as_of: 2026-11-24\n", "1: models: is missing"),
        ("models: [\n", "not valid YAML"),
        ("tools: {web_search: -1}\nmodels: {}\n", "1: tools.web_search: expected `float` >= 0.0"),
        ("models: {gpt-x: 1}\n", "1: models.gpt-x: expected"),
    ],
)
def test_an_error_in_the_price_list_is_reported_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "pricing.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_prices(path)
    assert message in str(caught.value)


def test_only_an_explicit_price_list_must_exist(tmp_path: Path) -> None:
    assert load_prices(tmp_path / "pricing.yaml") == {}
    assert load_prices(None) == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prices(tmp_path / "prices.yaml")
