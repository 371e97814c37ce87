"""Dollars, worked out by hand."""

import pytest

from proxy.config import PriceConfig
from proxy.pricing import price_record, price_tokens
from proxy.record import CallRecord, Target

# gpt-4o-mini: USD per million tokens.
MINI = PriceConfig(input=0.15, cached_input=0.075, output=0.60)
FREE = PriceConfig()


def priced(target: Target | None, *, local: PriceConfig = FREE, **tokens: int | None) -> CallRecord:
    record = CallRecord("chat.completions")
    record.target = target
    record.input_tokens = tokens.get("input")
    record.cached_input_tokens = tokens.get("cached")
    record.output_tokens = tokens.get("output")
    price_record(record, {Target.LOCAL: local, Target.CLOUD: MINI})
    return record


def test_tokens_at_their_three_prices() -> None:
    # 1000 at 0.15 + 500 at 0.60 per million = 150 + 300 millionths.
    assert price_tokens(
        MINI, input_tokens=1000, cached_input_tokens=0, output_tokens=500
    ) == pytest.approx(0.000450)
    # 400 cached: 600 * 0.15 + 400 * 0.075 + 500 * 0.60 = 90 + 30 + 300.
    assert price_tokens(
        MINI, input_tokens=1000, cached_input_tokens=400, output_tokens=500
    ) == pytest.approx(0.000420)


def test_more_cached_than_input_tokens_cost_no_less_than_nothing() -> None:
    assert price_tokens(
        MINI, input_tokens=100, cached_input_tokens=900, output_tokens=0
    ) == pytest.approx(100 * 0.075 / 1e6)


def test_a_cloud_answer_costs_and_saves_nothing() -> None:
    record = priced(Target.CLOUD, input=1000, cached=400, output=500)
    assert record.cost_usd == record.cloud_cost_usd == pytest.approx(0.000420)
    assert record.saved_usd == 0


def test_a_free_local_answer_saves_what_the_cloud_would_have_cost() -> None:
    record = priced(Target.LOCAL, input=1000, cached=400, output=500)
    assert record.cost_usd == 0
    # The local server's cache hit says nothing about the cloud's.
    assert record.cloud_cost_usd == record.saved_usd == pytest.approx(0.000450)


def test_a_local_tier_dearer_than_the_cloud_saves_less_than_nothing() -> None:
    record = priced(Target.LOCAL, local=PriceConfig(input=1, output=2), input=1000, output=500)
    assert record.cost_usd == pytest.approx(0.002)
    assert record.saved_usd == pytest.approx(0.000450 - 0.002)


def test_missing_output_counts_as_none_was_written() -> None:
    assert priced(Target.CLOUD, input=1000).cost_usd == pytest.approx(0.000150)


def test_what_was_never_answered_has_no_price() -> None:
    for record in (priced(None, input=5), priced(Target.CLOUD)):
        assert (record.cost_usd, record.cloud_cost_usd, record.saved_usd) == (None, None, None)
