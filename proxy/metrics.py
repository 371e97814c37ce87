"""Prometheus metrics, all read off the finished `CallRecord`. Labels come from closed sets only.

One registry per application, so that two of them (in tests, say) do not add up. Children are looked
up once per label set and kept: `.labels()` on the hot path costs more than the count itself. Where
a server has several workers, each counts into a file of its own and whichever is scraped adds the
files up (prometheus_client's multiprocess mode).
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
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
from proxy.record import CallRecord, Target
from router_model.drift import Drift

# A decision takes 1–30 ms on a CPU; the overhead is that plus a fraction of a millisecond.
COUNT_SECONDS: Final = 0.1  # by which what is observed may be counted later
_DECISION_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
# Answers take from a tenth of a second to minutes, a cold local model tens of seconds.
_ANSWER_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_TTFT_BUCKETS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60)
_SCORE_BUCKETS: Final = tuple(n / 20 for n in range(1, 21))


class Metrics:
    """The proxy's metrics. `observe` a record when it is finished; `expose` them when scraped."""

    def __init__(self, *, multiprocess_folder: str | None = None) -> None:
        """
        Args:
            multiprocess_folder: where the workers of one server keep their counts for each other;
                prometheus_client reads PROMETHEUS_MULTIPROC_DIR when it is imported, and it must
                be the same.
        """
        disable_created_metrics()  # a second series for each one, which nothing here reads
        registry = CollectorRegistry()
        self._requests = Counter(
            "router_requests",
            "Requests by endpoint, tier, reason of the decision and ending.",
            ["endpoint", "target", "reason", "ending"],
            registry=registry,
        )
        self._judge_calls = Counter(
            "router_judge_calls",
            "Calls to the judge, and to the other tier for comparison, by what came of them.",
            ["purpose", "outcome"],
            registry=registry,
        )
        self._judge_cost = Counter(
            "router_judge_cost_usd",
            "Dollars that these calls cost; they are in no other metric.",
            ["purpose"],
            registry=registry,
        )
        self._errors = Counter(
            "router_errors",
            "Requests that ended in an error, ours or the upstream's, by its code.",
            ["target", "code"],
            registry=registry,
        )
        self._decision = Histogram(
            "router_decision_seconds",
            "Time from the parsed request to the decision.",
            buckets=_DECISION_BUCKETS,
            registry=registry,
        )
        self._overhead = Histogram(
            "router_overhead_seconds",
            "Time a request spent in the proxy, outside the upstream.",
            buckets=_DECISION_BUCKETS,
            registry=registry,
        )
        self._upstream = Histogram(
            "router_upstream_seconds",
            "Time from sending the request to the end of the answer.",
            ["target"],
            buckets=_ANSWER_BUCKETS,
            registry=registry,
        )
        self._ttft = Histogram(
            "router_time_to_first_token_seconds",
            "Time from the request's arrival to the first piece of a streamed answer.",
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
            "router_cost_usd", "Dollars spent by tier.", ["target"], registry=registry
        )
        self._saved = Counter(
            "router_saved_usd",
            "What the cloud would have cost for the tokens of local answers, less their own cost.",
            registry=registry,
        )
        self._score = Histogram(
            "router_score",
            "Scores of routed requests: P(the local answer is at least as good as the cloud's).",
            buckets=_SCORE_BUCKETS,
            registry=registry,
        )
        self._fallbacks = Counter(
            "router_fallbacks",
            "Requests answered by the other tier because the first one failed.",
            ["from_target", "to_target", "reason"],
            registry=registry,
        )
        self._feedback = Counter(
            "router_feedback",
            "Answers that a client rated, by the tier that gave them.",
            ["target", "thumb"],
            registry=registry,
        )
        self._candidate_decisions = Counter(
            "router_candidate_decisions",
            "Requests that a candidate router scored, too, by what either of the two would do.",
            ["live", "candidate"],
            registry=registry,
        )
        self._candidate_cost = Counter(
            "router_candidate_cost_usd",
            "What these requests cost, in dollars, as either of the two routers would have it.",
            ["router"],
            registry=registry,
        )
        self._truncations = Counter(
            "router_context_truncations",
            "Local answers to prompts that the upstream had cut without saying so.",
            registry=registry,
        )
        # Of several workers each has its own; what is read is their sum.
        self._in_flight, self._waiting = (
            Gauge(name, what, ["target"], registry=registry, multiprocess_mode="livesum")
            for name, what in (
                ("router_in_flight", "Requests a tier is working on."),
                ("router_waiting", "Requests that wait for a tier to take them."),
            )
        )
        self._dropped = Counter(
            "router_records_dropped",
            "Rows that could not be kept: the queue was full or the database refused them.",
            registry=registry,
        )
        self._readings: GaugeSources | None = None
        self._exposed = registry
        if multiprocess_folder is not None:
            self._exposed = CollectorRegistry()
            MultiProcessCollector(self._exposed, path=multiprocess_folder)
        self._exposed.register(_GaugeCollector(lambda: self._readings))
        self._request_children: dict[tuple[str, str, str, str], Counter] = {}
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

        self._uncounted: list[CallRecord] = []

    def watch(self, readings: "GaugeSources") -> None:
        """Read these whenever somebody scrapes."""
        self._readings = readings

    def refresh(self) -> None:
        """Note what this worker is doing now, for whichever worker is scraped next."""
        if self._readings is not None:
            for target in Target:
                self._in_flight.labels(target).set(self._readings.in_flight(target))
                self._waiting.labels(target).set(self._readings.waiting(target))

    def count_feedback(self, target: str, thumb: str) -> None:
        self._feedback.labels(target, thumb).inc()

    def count_judging(self, purpose: str, outcome: str, usd: float) -> None:
        """A call that no client made: to the judge, or to the other tier."""
        self._judge_calls.labels(purpose, outcome).inc()
        self._judge_cost.labels(purpose).inc(usd)

    def count_shadow_decision(
        self,
        live: Target,
        candidate: Target,
        *,
        live_usd: float | None,
        candidate_usd: float | None,
    ) -> None:
        """Count a request that both routers have scored."""
        self._candidate_decisions.labels(live, candidate).inc()
        for router, usd in (("live", live_usd), ("candidate", candidate_usd)):
            self._candidate_cost.labels(router).inc(usd or 0.0)

    def count_truncation(self) -> None:
        self._truncations.inc()

    def count_dropped_records(self, number: int) -> None:
        self._dropped.inc(number)

    def observe(self, record: CallRecord) -> None:
        """Count one finished record: a moment later, with others, for which it costs a third."""
        self._uncounted.append(record)
        if len(self._uncounted) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(COUNT_SECONDS, self.count_all)
        except RuntimeError:  # outside of an event loop
            self.count_all()

    def count_all(self) -> None:
        """Count what is not counted yet."""
        records, self._uncounted = self._uncounted, []
        for record in records:
            self._count(record)

    def _count(self, record: CallRecord) -> None:
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
        if record.error_code is not None:
            self._errors.labels(record.target or "none", record.error_code).inc()
        if record.duration_ms is not None:
            self._overhead.observe((record.duration_ms - (record.upstream_ms or 0)) / 1e3)
        if record.decision_ms is not None:
            self._decision.observe(record.decision_ms / 1e3)
        if record.score is not None:
            self._score.observe(record.score)
        if record.target is not None:
            self._tiers[record.target].observe(record)
        if record.fallback_from is not None:
            self._fallbacks.labels(record.fallback_from, record.target, record.fallback_why).inc()
        # A local tier may have a price above the cloud's; counters cannot go down.
        if record.saved_usd is not None and record.saved_usd > 0:
            self._saved.inc(record.saved_usd)

    def expose(self) -> bytes:
        """The text that Prometheus scrapes."""
        self.count_all()
        self.refresh()
        return generate_latest(self._exposed)


@dataclass(frozen=True, slots=True, kw_only=True)
class GaugeSources:
    """What is not counted but read when somebody asks: the state of things now.

    Attributes:
        model_version: of the router model.
        threshold: the one that is used unless a request brings its own.
        reduction: by which the budget has lowered it.
        usd_per_day: the day's budget for the cloud; None without one.
        spent_usd: of it, since midnight UTC.
        reloaded: whether the configuration in the file is the one in use.
        drift: None while it is not known.
        quality: answer quality, as metric families; empty while it is not known.
    """

    is_up: Callable[[Target], bool]
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


class _GaugeCollector(Collector):
    """The readings as metrics. With several workers the one that is scraped answers for all."""

    def __init__(self, readings: Callable[[], GaugeSources | None]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        now = self._readings()
        if now is None:
            return
        up = GaugeMetricFamily(
            "router_upstream_up",
            "1 when the tier answered last time, 0 when it did not.",
            labels=["target"],
        )
        for target in Target:
            up.add_metric([target], now.is_up(target))
        yield up
        for name, what, value in (
            ("router_database_up", "1 when rows can be written.", now.database_is_up()),
            ("router_threshold", "The threshold of the score, where a request brings none of its "
             "own.", now.threshold()),
            ("router_budget_threshold_reduction", "By how much the day's budget has lowered the "
             "threshold.", now.reduction()),
            ("router_budget_usd_per_day", "What the cloud may cost in a day; absent without a "
             "budget.", now.usd_per_day()),
            ("router_budget_spent_usd", "What the cloud has cost since midnight UTC.",
             now.spent_usd()),
            ("router_config_last_reload_successful", "1 when the configuration in the file is the "
             "one in use.", now.reloaded()),
        ):  # fmt: skip
            if value is not None:
                yield GaugeMetricFamily(name, what, value=value)
        build = GaugeMetricFamily(
            "router_build_info",
            "Always 1; the labels say what runs.",
            labels=["version", "model_version"],
        )
        build.add_metric([__version__, now.model_version()], 1)
        yield build
        if (drift := now.drift()) is not None:
            index = GaugeMetricFamily(
                "router_drift_index",
                "How far traffic is from what the router was fitted to (population stability "
                "index, less what chance gives).",
                labels=["of"],
            )
            index.add_metric(["score"], drift.score)
            index.add_metric(["category"], drift.category)
            yield index
        yield from now.quality()


@dataclass(frozen=True, slots=True)
class _TierMetrics:
    """One tier's metrics, looked up once."""

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
