"""Prometheus metrics of finished requests and of the proxy's state. Label sets are closed.

Each application has its own registry, so two in one process do not add up. Label children are
cached, because `.labels()` costs more than the count itself. With several workers each one counts
into its own file, and the worker that is scraped sums them (prometheus_client's multiprocess mode).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.plain_text import printable
from proxy.record import CallRecord, Ending, SecondLookResult, Target
from router_model.drift import Drift

# A decision takes 1–30 ms on a CPU; the overhead is that plus a fraction of a millisecond.
_DECISION_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
# Answers take 0.1 s to minutes. A cold local model takes tens of seconds.
_ANSWER_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
# A request may wait for `timeouts.first_token` of one tier and then begin at the other, and
# reasoning models think for minutes.
_TTFT_BUCKETS: Final = (
    0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60, 90, 120, 300, 600,
)  # fmt: skip
# An idle loop is late by the timer's resolution, a millisecond. From a second on (by default) the
# proxy refuses requests.
_DELAY_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
)  # fmt: skip
# A second look ends after `verify.max_wait_seconds`, by default 20.
_SECOND_LOOK_BUCKETS: Final = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60)
# Of each tier. Clients choose names of cloud models, and a label value is kept for ever.
MAX_MODELS: Final = 50
OTHER_MODELS: Final = "other"
_SCORE_BUCKETS: Final = tuple(n / 20 for n in range(1, 21))
# Names are the operator's, so the set is closed; renaming keys for years must not fill it.
MAX_KEY_LABELS: Final = 500
OTHER_KEYS: Final = "other"


class Metrics:
    """The proxy's metrics: `observe` counts a finished record, `expose` answers a scrape."""

    def __init__(self, *, multiprocess_folder: str | None = None) -> None:
        """
        Args:
            multiprocess_folder: the folder of the workers' counter files. It must equal
                PROMETHEUS_MULTIPROC_DIR, which prometheus_client reads on import.
        """
        disable_created_metrics()  # a second series per metric that nothing reads
        registry = CollectorRegistry()
        self._requests = Counter(
            "router_requests",
            "Finished requests by endpoint, tier, routing reason and ending. Answered: ok; failed: "
            "upstream_error, timeout, internal_error; refused: rejected; cancelled: client_gone, "
            "stopped.",
            ["endpoint", "target", "reason", "ending"],
            registry=registry,
        )
        self._judge_calls = Counter(
            "router_judge_calls",
            "Calls to the judge and shadow requests to the other tier, by outcome.",
            ["purpose", "outcome"],
            registry=registry,
        )
        self._judge_cost = Counter(
            "router_judge_cost_usd",
            "Cost in USD of judge calls and shadow requests; not part of router_cost_usd_total.",
            ["purpose"],
            registry=registry,
        )
        self._rules = Counter(
            "router_rule_decisions",
            "Requests that a routing rule matched, by the name of the rule.",
            ["rule"],
            registry=registry,
        )
        self._errors = Counter(
            "router_errors",
            "Requests that ended in an error of the proxy or an upstream, by error code.",
            ["target", "code"],
            registry=registry,
        )
        self._decision = Histogram(
            "router_decision_seconds",
            "Time from the parsed request to the routing decision.",
            buckets=_DECISION_BUCKETS,
            registry=registry,
        )
        self._overhead = Histogram(
            "router_overhead_seconds",
            "Time that a request spent in the proxy, outside the upstream.",
            buckets=_DECISION_BUCKETS,
            registry=registry,
        )
        self._loop_delay = Histogram(
            "router_loop_delay_seconds",
            "How late the event loop ran a timer, which it runs 20 times a second.",
            buckets=_DELAY_BUCKETS,
            registry=registry,
        )
        self._upstream = Histogram(
            "router_upstream_seconds",
            "Time from sending the request upstream to the end of the answer.",
            ["target"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "router_time_to_first_token_seconds",
            "Time from the arrival of the request to the first piece of a streamed answer.",
            ["target"],
            buckets=_TTFT_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "router_tokens",
            "Tokens by tier and kind; cached_input tokens are also part of input.",
            ["target", "kind"],
            registry=registry,
        )
        self._cost = Counter(
            "router_cost_usd", "Cost in USD by tier.", ["target"], registry=registry
        )
        self._model_requests = Counter(
            "router_model_requests",
            "Answers by tier and model.",
            ["target", "model"],
            registry=registry,
        )
        self._model_cost = Counter(
            "router_model_cost_usd",
            "Cost of answers in USD by tier and model.",
            ["target", "model"],
            registry=registry,
        )
        self._saved = Counter(
            "router_saved_usd",
            "Cost in USD of the local answers' tokens at cloud prices, minus their own cost. "
            "Leaves out answers that cost more; subtract router_lost_usd_total.",
            registry=registry,
        )
        self._lost = Counter(
            "router_lost_usd",
            "Loss in USD of local answers that cost more than the cloud's would have, such as "
            "after a billed attempt that failed.",
            registry=registry,
        )
        self._key_requests = Counter(
            "router_key_requests",
            "Finished requests by the name of the API key and the tier; keys without a name are "
            "left out.",
            ["key", "target"],
            registry=registry,
        )
        self._key_cost = Counter(
            "router_key_cost_usd",
            "Cost in USD by the name of the API key.",
            ["key"],
            registry=registry,
        )
        self._score = Histogram(
            "router_score",
            "Router scores: P(the local answer is at least as good as the cloud answer).",
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._merit = Histogram(
            "router_merit",
            "What was compared with the threshold: the gain per dollar as a merit, or the score.",
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._fallbacks = Counter(
            "router_fallbacks",
            "Requests answered by the other tier because the first one failed.",
            ["from_target", "to_target", "reason"],
            registry=registry,
        )
        self._discarded = Counter(
            "router_discarded_tokens",
            "Tokens of local answers that were not sent: a check or a second look rejected them.",
            registry=registry,
        )
        self._second_looks = Counter(
            "router_second_looks",
            "Second looks by result; busy: one was due, but the local tier had no free slot.",
            ["result"],
            registry=registry,
        )
        self._second_look_seconds = Histogram(
            "router_second_look_seconds",
            "Time from sending the local request to the result of the second look.",
            ["result"],
            buckets=_SECOND_LOOK_BUCKETS,
            registry=registry,
        )
        self._feedback = Counter(
            "router_feedback",
            "Answers rated by clients, by the tier that answered.",
            ["target", "thumb"],
            registry=registry,
        )
        self._shadow_decisions = Counter(
            "router_shadow_decisions",
            "Requests that the shadow router also scored, by the decision of each router.",
            ["live", "shadow"],
            registry=registry,
        )
        self._shadow_cost = Counter(
            "router_shadow_cost_usd",
            "Cost in USD of the requests in router_shadow_decisions_total, by each router's "
            "decisions.",
            ["router"],
            registry=registry,
        )
        # The old names of these two, for this release only.
        self._candidate_decisions = Counter(
            "router_candidate_decisions",
            "Deprecated: use router_shadow_decisions_total. Removed in the next release.",
            ["live", "candidate"],
            registry=registry,
        )
        self._candidate_cost = Counter(
            "router_candidate_cost_usd",
            "Deprecated: use router_shadow_cost_usd_total. Removed in the next release.",
            ["router"],
            registry=registry,
        )
        self._truncations = Counter(
            "router_context_truncations",
            "Local answers to prompts that the upstream truncated silently.",
            registry=registry,
        )
        # Each worker sets its own value; a scrape returns the sum.
        self._in_flight, self._waiting = (
            Gauge(name, about, ["target"], registry=registry, multiprocess_mode="livesum")
            for name, about in (
                ("router_in_flight", "Requests that the tier is answering."),
                ("router_waiting", "Requests that wait for a slot of the tier."),
            )
        )
        self._dropped = Counter(
            "router_records_dropped",
            "Rows dropped because the queue was full or the database rejected them.",
            registry=registry,
        )
        self._sources: GaugeSources | None = None
        self._exposed = registry
        if multiprocess_folder is not None:
            self._exposed = CollectorRegistry()
            MultiProcessCollector(self._exposed, path=multiprocess_folder)
        self._gauges = _GaugeCollector()
        self._exposed.register(self._gauges)
        self._request_children: dict[tuple[str, str, str, str], Counter] = {}
        self._model_children: dict[Target, dict[str, tuple[Counter, Counter]]] = {
            target: {} for target in Target
        }
        self._key_names: set[str] = set()
        self._keys: dict[tuple[str, str], tuple[Counter, Counter]] = {}
        self._tiers = {
            target: _TierMetrics(
                upstream_seconds=self._upstream.labels(target),
                ttft_seconds=self._ttft.labels(target),
                input_tokens=self._tokens.labels(target, "input"),
                cached_input_tokens=self._tokens.labels(target, "cached_input"),
                output_tokens=self._tokens.labels(target, "output"),
                cost_usd=self._cost.labels(target),
            )
            for target in Target
        }
        # Rates need a zero before the first second look of a result.
        for result in SecondLookResult:
            self._second_looks.labels(result)
            if result is not SecondLookResult.BUSY:
                self._second_look_seconds.labels(result)

    def watch(self, sources: "GaugeSources") -> None:
        """Read these gauges at every scrape."""
        self._sources = sources

    def refresh(self) -> None:
        """Read this worker's gauges. Publish those that are summed over the workers."""
        self._gauges.read(self._sources)
        if self._sources is not None:
            for target in Target:
                self._in_flight.labels(target).set(self._sources.in_flight(target))
                self._waiting.labels(target).set(self._sources.waiting(target))

    def count_feedback(self, target: str, thumb: str) -> None:
        self._feedback.labels(target, thumb).inc()

    def count_judging(self, purpose: str, outcome: str, usd: float) -> None:
        """Count a call to the judge, or a shadow request to the other tier."""
        self._judge_calls.labels(purpose, outcome).inc()
        self._judge_cost.labels(purpose).inc(usd)

    def count_shadow_decision(
        self,
        live: Target,
        shadow: Target,
        *,
        live_usd: float | None,
        shadow_usd: float | None,
    ) -> None:
        """Count a request that both routers have scored."""
        self._shadow_decisions.labels(live, shadow).inc()
        self._shadow_cost.labels("live").inc(live_usd or 0.0)
        self._shadow_cost.labels("shadow").inc(shadow_usd or 0.0)
        self._candidate_decisions.labels(live, shadow).inc()
        self._candidate_cost.labels("live").inc(live_usd or 0.0)
        self._candidate_cost.labels("candidate").inc(shadow_usd or 0.0)

    def observe_loop_delay(self, seconds: float) -> None:
        self._loop_delay.observe(seconds)

    def count_truncation(self) -> None:
        self._truncations.inc()

    def count_dropped_records(self, number: int) -> None:
        self._dropped.inc(number)

    def observe(self, record: CallRecord) -> None:
        """Count a finished record."""
        labels = (
            record.endpoint,
            record.target or "none",
            record.reason or "none",
            record.ending or "none",
        )
        child = self._request_children.get(labels)
        if child is None:
            child = self._request_children[labels] = self._requests.labels(*labels)
        child.inc()
        if record.rule is not None:
            self._rules.labels(record.rule).inc()
        if record.error_code is not None:
            self._errors.labels(record.target or "none", record.error_code).inc()
        if record.client_key_name is not None:
            requests, cost = self._key_children(record.client_key_name, record.target or "none")
            requests.inc()
            if record.cost_usd:
                cost.inc(record.cost_usd)
        if record.duration_ms is not None:
            self._overhead.observe((record.duration_ms - (record.upstream_ms or 0)) / 1e3)
        if record.decision_ms is not None:
            self._decision.observe(record.decision_ms / 1e3)
        if record.score is not None:
            self._score.observe(record.score)
        if record.merit is not None:
            self._merit.observe(record.merit)
        if record.target is not None:
            self._tiers[record.target].observe(record)
            if record.model is not None and record.ending is Ending.OK:
                self._count_model(record.target, record.model, record.cost_usd)
        if record.fallback_from is not None:
            self._fallbacks.labels(record.fallback_from, record.target, record.fallback_why).inc()
        if record.discarded_tokens:
            self._discarded.inc(record.discarded_tokens)
        if record.second_look is not None:
            self._second_looks.labels(record.second_look).inc()
            if record.second_look_ms is not None:
                self._second_look_seconds.labels(record.second_look).observe(
                    record.second_look_ms / 1e3
                )
        # A local tier can cost more than the cloud, and counters cannot decrease.
        if record.saved_usd is not None:
            (self._saved if record.saved_usd > 0 else self._lost).inc(abs(record.saved_usd))

    def _count_model(self, target: Target, model: str, usd: float | None) -> None:
        """Count an answer of a model: the first `MAX_MODELS` of a tier by name, then as others."""
        children = self._model_children[target]
        if model not in children:
            name = model if len(children) < MAX_MODELS else OTHER_MODELS
            if (found := children.get(name)) is None:
                labels = target, printable(name)
                found = self._model_requests.labels(*labels), self._model_cost.labels(*labels)
                children[name] = found
        else:
            found = children[model]
        requests, cost = found
        requests.inc()
        cost.inc(usd or 0.0)

    def _key_children(self, name: str, target: str) -> tuple[Counter, Counter]:
        """The requests and the cost of a key; those of `other` after MAX_KEY_LABELS names."""
        if name not in self._key_names and len(self._key_names) >= MAX_KEY_LABELS:
            name = OTHER_KEYS
        self._key_names.add(name)
        known = self._keys.get((name, target))
        if known is None:
            known = self._key_requests.labels(name, target), self._key_cost.labels(name)
            self._keys[name, target] = known
        return known

    def expose(self) -> bytes:
        """The text that Prometheus scrapes. Call it in the event loop's thread."""
        self.refresh()
        return self.render()

    def render(self) -> bytes:
        """The text with the gauges of the last `refresh`. May run in any thread."""
        return generate_latest(self._exposed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSources:
    """The current state of the proxy, read at every scrape.

    Attributes:
        is_up: whether a tier can answer; None while that is not known.
        model_version: the version of the router model.
        threshold: used for requests that do not set their own.
        reduction: how far the budget has lowered the threshold.
        usd_per_day: the daily cloud budget; None without one.
        spent_usd: cloud cost since midnight UTC.
        reloaded: whether the configuration in the file is in use.
        drift: None while it is unknown.
        quality: answer quality as metric families; empty while it is unknown.
        key_budgets: the daily cloud budgets in USD of API keys with a name.
    """

    is_up: Callable[[Target], bool | None]
    in_flight: Callable[[Target], int]
    waiting: Callable[[Target], int]
    database_is_up: Callable[[], bool]
    model_version: Callable[[], str]
    threshold: Callable[[], float]
    reduction: Callable[[], float]
    usd_per_day: Callable[[], float | None]
    spent_usd: Callable[[], float]
    reloaded: Callable[[], bool]
    quality: Callable[[], Iterable[Metric]]
    drift: Callable[[], Drift | None]
    key_budgets: Callable[[], Sequence[tuple[str, float]]]


class _GaugeCollector(Collector):
    """The gauge sources as metrics. With several workers, those of the worker that is scraped."""

    def __init__(self) -> None:
        self._metrics: Sequence[Metric] = ()

    def read(self, sources: GaugeSources | None) -> None:
        """Read the sources. Call it in the thread that changes them."""
        self._metrics = () if sources is None else list(self._gauges_of(sources))

    def collect(self) -> Sequence[Metric]:
        """The metrics that `read` has made."""
        return self._metrics

    @staticmethod
    def _gauges_of(now: GaugeSources) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "router_upstream_up",
            "1 if the tier can answer, 0 if it cannot, NaN while that is not known.",
            labels=["target"],
        )
        for target in Target:
            is_up = now.is_up(target)
            up.add_metric([target], math.nan if is_up is None else is_up)  # NaN fires no alert
        yield up
        for name, about, value in (
            ("router_database_up", "1 if the database can be written.", now.database_is_up()),
            ("router_threshold", "Score threshold for requests that do not set their own.",
             now.threshold()),
            ("router_budget_threshold_reduction", "How far the daily budget has lowered the "
             "threshold.", now.reduction()),
            ("router_budget_usd_per_day", "Daily cloud budget in USD; absent without a budget.",
             now.usd_per_day()),
            ("router_budget_spent_usd", "Cloud cost in USD since midnight UTC.",
             now.spent_usd()),
            ("router_config_last_reload_successful", "1 if the configuration in the file is "
             "in use.", now.reloaded()),
        ):  # fmt: skip
            if value is not None:
                yield GaugeMetricFamily(name, about, value=value)
        budgets = GaugeMetricFamily(
            "router_key_budget_usd",
            "Daily cloud budget in USD by the name of the API key.",
            labels=["key"],
        )
        for name, usd in now.key_budgets()[:MAX_KEY_LABELS]:
            budgets.add_metric([name], usd)
        yield budgets
        build = GaugeMetricFamily(
            "router_build_info",
            "Always 1; the labels carry the versions.",
            labels=["version", "model_version"],
        )
        build.add_metric([__version__, now.model_version()], 1)
        yield build
        if (drift := now.drift()) is not None:
            index = GaugeMetricFamily(
                "router_drift_index",
                "Distance of the traffic from the router model's training data (population "
                "stability index, minus the value expected by chance).",
                labels=["of"],
            )
            index.add_metric(["score"], drift.score)
            index.add_metric(["category"], drift.category)
            yield index
        yield from now.quality()


@dataclass(frozen=True, slots=True)
class _TierMetrics:
    """One tier's label children, looked up once."""

    upstream_seconds: Histogram
    ttft_seconds: Histogram
    input_tokens: Counter
    cached_input_tokens: Counter
    output_tokens: Counter
    cost_usd: Counter

    def observe(self, record: CallRecord) -> None:
        if record.upstream_ms is not None:
            self.upstream_seconds.observe(record.upstream_ms / 1e3)
        if record.ttft_ms is not None:
            self.ttft_seconds.observe(record.ttft_ms / 1e3)
        if record.input_tokens:
            self.input_tokens.inc(record.input_tokens)
        if record.cached_input_tokens:
            self.cached_input_tokens.inc(record.cached_input_tokens)
        if record.output_tokens:
            self.output_tokens.inc(record.output_tokens)
        if record.cost_usd:
            self.cost_usd.inc(record.cost_usd)
