"""Prometheus metrics, all read off the finished `CallRecord`. Labels come from closed sets only.

One registry per application, so that two of them (in tests, say) do not add up. Children are looked
up once per label set and kept: `.labels()` on the hot path costs more than the count itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from proxy.record import CallRecord, Target

# A decision takes 1–30 ms on a CPU; the overhead is that plus a fraction of a millisecond.
_DECISION_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
# Answers take from a tenth of a second to minutes, a cold local model tens of seconds.
_ANSWER_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600)
_TTFT_BUCKETS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 40, 60)
_SCORE_BUCKETS: Final = tuple(n / 20 for n in range(1, 21))


class Metrics:
    """The proxy's metrics. `observe` a record when it is finished; `expose` them when scraped."""

    def __init__(self, *, version: str, model_version: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "router_requests",
            "Requests by endpoint, tier, reason of the decision and ending.",
            ["endpoint", "target", "reason", "ending"],
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
        self._truncations = Counter(
            "router_context_truncations",
            "Local answers to prompts that the upstream had cut without saying so.",
            registry=registry,
        )
        self._up = Gauge(
            "router_upstream_up",
            "1 when the tier answered last time, 0 when it did not.",
            ["target"],
            registry=registry,
        )
        self._in_flight = Gauge(
            "router_in_flight", "Requests a tier is working on.", ["target"], registry=registry
        )
        self._dropped = Counter(
            "router_records_dropped",
            "Rows that could not be kept: the queue was full or the database refused them.",
            registry=registry,
        )
        self._reloaded = Gauge(
            "router_config_last_reload_successful",
            "1 when the configuration in the file is the one in use.",
            registry=registry,
        )
        self._reloaded.set(1)
        self._version = version
        self._build = Gauge(
            "router_build_info",
            "Always 1; the labels say what runs.",
            ["version", "model_version"],
            registry=registry,
        )
        self._build.labels(version, model_version).set(1)
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

    def watch(
        self,
        *,
        up: Mapping[Target, Callable[[], float]],
        in_flight: Mapping[Target, Callable[[], float]],
    ) -> None:
        """Read the tiers' gauges from these functions whenever somebody scrapes."""
        for target in Target:
            self._up.labels(target).set_function(up[target])
            self._in_flight.labels(target).set_function(in_flight[target])

    def note_reload(self, *, successful: bool, model_version: str | None = None) -> None:
        """The configuration was read again, and is in use or was refused."""
        self._reloaded.set(successful)
        if model_version is not None:
            self._build.clear()
            self._build.labels(self._version, model_version).set(1)

    def count_feedback(self, target: str, thumb: str) -> None:
        self._feedback.labels(target, thumb).inc()

    def count_truncation(self) -> None:
        self._truncations.inc()

    def count_dropped_records(self, number: int) -> None:
        self._dropped.inc(number)

    def observe(self, record: CallRecord) -> None:
        """Count one finished record."""
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
        return generate_latest(self.registry)


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
