"""Metrics: published names and labels, closed label sets, and the effect of a record."""

import itertools
import math
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exposed import families
from live import Samples
from proxy import __version__
from proxy.evaluation.estimates import Interval, Quality, Recovered
from proxy.evaluation.metrics import quality_metrics
from proxy.metrics import MAX_KEY_LABELS, MAX_MODELS, GaugeSources, Metrics
from proxy.record import CallRecord, Ending, Reason, SecondLookResult, Target
from router_model.drift import Drift, Move

# The public interface: dashboards and alerts are built on these names.
PUBLISHED = {
    "router_judge_calls_total": {"purpose", "outcome"},
    "router_judge_cost_usd_total": {"purpose"},
    "router_requests_total": {"endpoint", "target", "reason", "ending"},
    "router_errors_total": {"target", "code"},
    "router_decision_seconds": set(),
    "router_overhead_seconds": set(),
    "router_loop_delay_seconds": set(),
    "router_upstream_seconds": {"target"},
    "router_time_to_first_token_seconds": {"target"},
    "router_tokens_total": {"target", "kind"},
    "router_cost_usd_total": {"target"},
    "router_model_requests_total": {"target", "model"},
    "router_model_cost_usd_total": {"target", "model"},
    "router_saved_usd_total": set(),
    "router_lost_usd_total": set(),
    "router_score": set(),
    "router_merit": set(),
    "router_fallbacks_total": {"from_target", "to_target", "reason"},
    "router_discarded_tokens_total": set(),
    "router_second_looks_total": {"result"},
    "router_second_look_seconds": {"result"},
    "router_rule_decisions_total": {"rule"},
    "router_upstream_up": {"target"},
    "router_in_flight": {"target"},
    "router_context_truncations_total": set(),
    "router_quality_score": {"target"},
    "router_quality_recovered_ratio": set(),
    "router_feedback_total": {"target", "thumb"},
    "router_quality_recovered_ratio_low": set(),
    "router_quality_recovered_ratio_high": set(),
    "router_drift_index": {"of"},
    "router_shadow_decisions_total": {"live", "shadow"},
    "router_shadow_cost_usd_total": {"router"},
    # Deprecated, for this release only.
    "router_candidate_decisions_total": {"live", "candidate"},
    "router_candidate_cost_usd_total": {"router"},
    "router_quality_good_ratio": {"target"},
    "router_quality_good_ratio_low": {"target"},
    "router_quality_good_ratio_high": {"target"},
    "router_quality_saved_ratio": set(),
    "router_quality_saved_ratio_low": set(),
    "router_quality_saved_ratio_high": set(),
    "router_records_dropped_total": set(),
    "router_database_up": set(),
    "router_waiting": {"target"},
    "router_threshold": set(),
    "router_budget_threshold_reduction": set(),
    "router_budget_usd_per_day": set(),
    "router_budget_spent_usd": set(),
    "router_key_requests_total": {"key", "target"},
    "router_key_cost_usd_total": {"key"},
    "router_key_budget_usd": {"key"},
    "router_config_last_reload_successful": set(),
    "router_build_info": {"version", "model_version"},
}


def gauge_sources(**changes: Any) -> GaugeSources:
    sources: dict[str, Any] = {
        "is_up": lambda target: target is Target.LOCAL,
        "in_flight": lambda target: 3 if target is Target.LOCAL else 0,
        "waiting": lambda target: 0,
        "database_is_up": lambda: True,
        "model_version": lambda: "m1",
        "threshold": lambda: 0.75,
        "reduction": lambda: 0.125,
        "usd_per_day": lambda: 5.0,
        "spent_usd": lambda: 1.25,
        "reloaded": lambda: True,
        "quality": lambda: quality_metrics(QUALITY),
        "drift": lambda: DRIFT,
        "key_budgets": lambda: [("batch", 2.5)],
    }
    return GaugeSources(**sources | changes)


DRIFT = Drift(1_000, 0.3, 0.02, 0.05, 0.01, [Move("maths", 0.1, 0.2)])
QUALITY = Quality(
    {"local": ([0, 0, 0, 1, 0, 0, 0, 2, 0, 1], 30.0)},
    Recovered(0.6, 0.5, 0.7),
    good_local=Interval(0.75, 0.65, 0.85),
    saved=Interval(0.2, -0.1, 0.5),
)


TIMED = [result for result in SecondLookResult if result is not SecondLookResult.BUSY]


def make_metrics(**changes: Any) -> Metrics:
    metrics = Metrics()
    metrics.watch(gauge_sources(**changes))
    return metrics


def full_record(target: Target = Target.LOCAL) -> CallRecord:
    record = CallRecord("chat.completions")
    record.target, record.reason, record.model = target, Reason.FALLBACK, "phi3"
    record.fallback_from, record.fallback_why = target.other, "idle_timeout"
    record.rule = "batch key"
    record.client_key_name = "batch"
    record.discarded_tokens = 340
    record.second_look, record.second_look_ms = SecondLookResult.ESCALATED, 1_500.0
    record.score, record.decision_ms, record.ttft_ms = 0.7, 2.0, 300.0
    record.input_tokens, record.cached_input_tokens, record.output_tokens = 100, 40, 10
    record.cost_usd, record.saved_usd = 0.25, 0.5
    record.finish(Ending.OK)
    record.error_code = "idle_timeout"  # to set every metric
    record.duration_ms, record.upstream_ms = 1010.0, 1000.0
    return record


def samples_of(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.expose().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples_of(metrics)[name, frozenset(labels.items())]


def test_names_and_labels_match_the_published_ones() -> None:
    metrics = make_metrics()
    metrics.observe(full_record())
    metrics.count_feedback("local", "up")
    metrics.count_judging("judge", "ok", 0.001)
    metrics.count_shadow_decision(Target.LOCAL, Target.CLOUD, live_usd=0.0, shadow_usd=0.5)
    text = metrics.expose().decode()
    assert families(text).keys() == PUBLISHED.keys()
    assert all(families(text).values())
    exported: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = family.name if family.type == "histogram" else sample.name
            exported.setdefault(name, set()).update(set(sample.labels) - {"le"})
    assert exported == PUBLISHED


def test_labelled_metric_without_samples_is_exported() -> None:
    """Names are compared by family, so a metric without samples is included."""
    assert families(make_metrics().expose().decode()).keys() == PUBLISHED.keys()


def test_label_values_come_from_closed_sets() -> None:
    metrics = make_metrics()
    endings = itertools.product(Target, Reason, Ending, SecondLookResult)
    for target, reason, ending, second_look in endings:
        record = CallRecord("chat.completions")
        record.second_look = second_look
        record.target, record.reason = target, reason
        record.requested_model = record.model = f"name from a client {ending}"
        record.finish(ending)
        metrics.observe(record)
    rejected = CallRecord("chat.completions")
    rejected.finish(Ending.REJECTED, error_code="connect_timeout")
    metrics.observe(rejected)
    # An answered model is known to a server, and their number is bounded.
    answered = f"name from a client {Ending.OK}"
    allowed = {
        "model": {answered},
        "endpoint": {"chat.completions"},
        "target": {"local", "cloud", "none"},
        "reason": {*Reason, "none"},
        "ending": set(Ending),
        "kind": {"input", "cached_input", "output"},
        "version": {__version__},
        "model_version": {"m1"},
        "code": {"connect_timeout"},
        "key": {"batch"},
        "of": {"score", "category"},
        "result": set(SecondLookResult),
    }
    for _, labels in samples_of(metrics):
        for name, label in labels:
            assert name == "le" or label in allowed[name]


def test_record_updates_every_metric() -> None:
    metrics = make_metrics()
    for _ in range(3):
        metrics.observe(full_record())
    labels = {"endpoint": "chat.completions", "target": "local", "reason": "fallback"}
    assert value(metrics, "router_requests_total", **labels, ending="ok") == 3
    assert value(metrics, "router_errors_total", target="local", code="idle_timeout") == 3
    assert value(metrics, "router_tokens_total", target="local", kind="input") == 300
    assert value(metrics, "router_tokens_total", target="local", kind="cached_input") == 120
    assert value(metrics, "router_tokens_total", target="local", kind="output") == 30
    assert value(metrics, "router_tokens_total", target="cloud", kind="output") == 0
    assert value(metrics, "router_cost_usd_total", target="local") == pytest.approx(0.75)
    assert value(metrics, "router_saved_usd_total") == pytest.approx(1.5)
    fallback = {"from_target": "cloud", "to_target": "local", "reason": "idle_timeout"}
    assert value(metrics, "router_fallbacks_total", **fallback) == 3
    assert value(metrics, "router_discarded_tokens_total") == 1_020
    assert value(metrics, "router_upstream_seconds_sum", target="local") == pytest.approx(3)
    assert value(metrics, "router_overhead_seconds_sum") == pytest.approx(0.03)
    assert value(metrics, "router_decision_seconds_sum") == pytest.approx(0.006)
    ttft = "router_time_to_first_token_seconds"
    assert value(metrics, f"{ttft}_sum", target="local") == pytest.approx(0.9)
    assert value(metrics, f"{ttft}_count", target="cloud") == 0
    assert value(metrics, "router_score_bucket", le="0.7") == 3
    assert value(metrics, "router_score_bucket", le="0.65") == 0


@pytest.mark.parametrize(("seconds", "below"), [(61, 90), (119, 120), (299, 300), (599, 600)])
def test_a_first_token_after_minutes_has_a_bucket(seconds: float, below: float) -> None:
    """After the time of the tier that was asked first, or of a model that thinks."""
    metrics = make_metrics()
    record = CallRecord("chat.completions")
    record.target, record.ttft_ms = Target.CLOUD, 1e3 * seconds
    record.finish(Ending.OK)
    metrics.observe(record)
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples_of(metrics).items()
        if name == "router_time_to_first_token_seconds_bucket" and ("target", "cloud") in labels
    }
    assert min(limit for limit, count in buckets.items() if count) == below


def test_second_looks_are_counted_and_timed_by_result() -> None:
    metrics = make_metrics()
    count, seconds = "router_second_looks_total", "router_second_look_seconds"
    assert [value(metrics, count, result=result) for result in SecondLookResult] == [0] * 5
    timed = {result: value(metrics, f"{seconds}_count", result=result) for result in TIMED}
    assert timed == dict.fromkeys(TIMED, 0)
    record = CallRecord("chat.completions")
    record.finish(Ending.OK)
    metrics.observe(record)  # outside the band
    for number, result in enumerate(SecondLookResult, start=1):
        record.second_look = result
        record.second_look_ms = None if result is SecondLookResult.BUSY else 100.0 * number
        for _ in range(number):
            metrics.observe(record)
    for number, result in enumerate(SecondLookResult, start=1):
        assert value(metrics, count, result=result) == number
        if result in TIMED:
            assert value(metrics, f"{seconds}_count", result=result) == number
            total = value(metrics, f"{seconds}_sum", result=result)
            assert total == pytest.approx(0.1 * number**2)
    assert (f"{seconds}_count", frozenset({("result", "busy")})) not in samples_of(metrics)


def test_names_of_models_are_bounded_and_printable() -> None:
    """Clients choose names of cloud models."""
    metrics = make_metrics()
    for number in range(3 * MAX_MODELS):
        for _ in range(2):
            record = full_record(Target.CLOUD)
            record.model = f"gpt\n{number}\ud800"
            metrics.observe(record)
    counted = {
        dict(labels)["model"]: number
        for (name, labels), number in samples_of(metrics).items()
        if name == "router_model_requests_total"
    }
    assert len(counted) == MAX_MODELS + 1
    assert counted["gpt\\n0\\ud800"] == 2
    assert counted["other"] == 4 * MAX_MODELS
    assert sum(counted.values()) == 6 * MAX_MODELS


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.OK])
def test_a_model_without_an_answer_is_not_counted(ending: Ending) -> None:
    metrics = make_metrics()
    record = full_record(Target.CLOUD)
    record.model, record.ending = "no-such-model", ending
    metrics.observe(record)
    assert not any(name.startswith("router_model_") for name, _ in samples_of(metrics))


def test_negative_saving_is_a_loss() -> None:
    metrics = make_metrics()
    record = full_record()
    record.saved_usd = -1.0
    metrics.observe(record)
    assert value(metrics, "router_saved_usd_total") == 0
    assert value(metrics, "router_lost_usd_total") == 1


def test_rejected_request_has_no_score_and_no_decision_time() -> None:
    metrics = make_metrics()
    record = CallRecord("chat.completions")
    record.finish(Ending.REJECTED)
    metrics.observe(record)
    none = {"target": "none", "reason": "none", "ending": "rejected"}
    assert value(metrics, "router_requests_total", endpoint="chat.completions", **none) == 1
    assert value(metrics, "router_score_count") == 0
    assert value(metrics, "router_decision_seconds_count") == 0
    assert value(metrics, "router_overhead_seconds_count") == 1


def test_an_unknown_state_of_a_tier_is_neither_up_nor_down() -> None:
    metrics = make_metrics(is_up=lambda target: None if target is Target.CLOUD else False)
    assert value(metrics, "router_upstream_up", target="local") == 0
    assert math.isnan(value(metrics, "router_upstream_up", target="cloud"))


def test_gauges_are_read_at_each_scrape() -> None:
    now = {"in_flight": 2, "threshold": 0.5}
    metrics = make_metrics(
        in_flight=lambda target: now["in_flight"], threshold=lambda: now["threshold"]
    )
    assert value(metrics, "router_in_flight", target="cloud") == 2
    now |= {"in_flight": 5, "threshold": 0.25}
    assert value(metrics, "router_in_flight", target="cloud") == 5
    assert value(metrics, "router_threshold") == 0.25
    assert value(metrics, "router_upstream_up", target="local") == 1
    assert value(metrics, "router_upstream_up", target="cloud") == 0
    assert value(metrics, "router_build_info", version=__version__, model_version="m1") == 1
    assert value(metrics, "router_budget_threshold_reduction") == 0.125
    assert value(metrics, "router_budget_usd_per_day") == 5
    assert value(metrics, "router_budget_spent_usd") == 1.25


def test_a_text_rendered_later_has_the_gauges_of_the_last_refresh() -> None:
    """It is rendered in another thread than the one that changes what the gauges read."""
    now = {"threshold": 0.5}
    metrics = make_metrics(threshold=lambda: now["threshold"])
    metrics.refresh()
    now["threshold"] = 0.25
    assert b"router_threshold 0.5" in metrics.render()
    assert b"router_threshold 0.25" in metrics.expose()


def test_unknown_gauges_are_absent() -> None:
    unknown = dict.fromkeys(("usd_per_day", "drift"), lambda: None)
    names = {
        name
        for name, _ in samples_of(make_metrics(**unknown, quality=lambda: quality_metrics(None)))
    }
    assert not any(
        name.startswith(("router_drift", "router_candidate", "router_shadow")) for name in names
    )
    assert "router_budget_usd_per_day" not in names
    assert not any(name.startswith("router_quality") for name in names)
    partial = {
        name
        for name, _ in samples_of(
            make_metrics(quality=lambda: quality_metrics(Quality(QUALITY.scores)))
        )
    }
    assert "router_quality_score_bucket" in partial
    assert not any(name.endswith(("_ratio", "_low", "_high")) for name in partial)


def test_judge_scores_are_a_histogram() -> None:
    metrics = make_metrics()
    score = "router_quality_score"
    assert value(metrics, f"{score}_bucket", target="local", le="4.0") == 1
    assert value(metrics, f"{score}_bucket", target="local", le="9.0") == 3
    assert value(metrics, f"{score}_count", target="local") == 4
    assert value(metrics, f"{score}_sum", target="local") == 30


def test_estimates_have_confidence_intervals() -> None:
    metrics = make_metrics()
    assert value(metrics, "router_quality_recovered_ratio_low") == 0.5
    assert value(metrics, "router_quality_good_ratio", target="local") == 0.75
    assert value(metrics, "router_quality_good_ratio_high", target="local") == 0.85
    assert value(metrics, "router_quality_saved_ratio_low") == -0.1
    assert value(metrics, "router_quality_saved_ratio") == 0.2


def test_drift_is_exported_for_score_and_category() -> None:
    metrics = make_metrics()
    assert value(metrics, "router_drift_index", of="score") == 0.3
    assert value(metrics, "router_drift_index", of="category") == 0.05


def test_shadow_decisions_are_counted_under_both_names() -> None:
    metrics = make_metrics()
    for usd in (0.25, None, 0.5):
        metrics.count_shadow_decision(Target.LOCAL, Target.CLOUD, live_usd=0.0, shadow_usd=usd)
    metrics.count_shadow_decision(Target.CLOUD, Target.CLOUD, live_usd=1.0, shadow_usd=1.0)
    for name in ("shadow", "candidate"):
        decisions, cost = f"router_{name}_decisions_total", f"router_{name}_cost_usd_total"
        assert value(metrics, decisions, **{"live": "local", name: "cloud"}) == 3
        assert value(metrics, decisions, **{"live": "cloud", name: "cloud"}) == 1
        assert value(metrics, cost, router="live") == 1.0
        assert value(metrics, cost, router=name) == 1.75


def test_metrics_of_two_applications_are_separate() -> None:
    first, second = make_metrics(), make_metrics()
    first.count_dropped_records(7)
    assert value(first, "router_records_dropped_total") == 7
    assert value(second, "router_records_dropped_total") == 0


def test_the_names_of_keys_are_bounded() -> None:
    metrics = make_metrics()
    for number in range(MAX_KEY_LABELS + 10):
        metrics.observe(named_record(f"key-{number}"))
    metrics.observe(named_record("key-0"))
    metrics.observe(named_record(None))
    samples = Samples(metrics.expose().decode())
    assert len(samples.by_labels("router_key_requests_total")) == MAX_KEY_LABELS + 1
    assert samples("router_key_requests_total", key="other") == 10
    assert samples("router_key_requests_total", key="key-0", target="local") == 2
    assert samples("router_key_requests_total") == MAX_KEY_LABELS + 11
    assert samples("router_key_budget_usd", key="batch") == 2.5


def named_record(name: str | None) -> CallRecord:
    record = full_record()
    record.client_key_name = name
    record.finish(Ending.OK)
    return record
