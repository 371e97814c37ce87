"""Answer quality as Prometheus metric families, read when Prometheus scrapes."""

import itertools
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from proxy.evaluation.estimates import GRADES, Quality


def quality_metrics(quality: Quality | None) -> Iterator[Metric]:
    """The metric families `router_quality_*`; none without an estimate."""
    if quality is None:
        return
    scores = HistogramMetricFamily(
        "router_quality_score",
        "Judge scores of answers, 1 to 10, by the tier that answered.",
        labels=["target"],
    )
    for target, (counts, total) in quality.scores.items():
        cumulative = [float(count) for count in itertools.accumulate(counts)]
        buckets = [(f"{edge}.0", count) for edge, count in zip(GRADES, cumulative, strict=True)]
        scores.add_metric([target], [*buckets, ("+Inf", cumulative[-1])], total)
    yield scores
    for name, about, tier, estimate in (
        ("recovered", "Share of the quality gap between the tiers that routing recovers.", {},
         quality.recovered),
        ("good", "Share of the tier's routed answers with a score of 7 or more.",
         {"target": "local"}, quality.good_local),
        ("saved", "Savings of routing at equal quality, as a share of the all-cloud bill.", {},
         quality.saved),
    ):  # fmt: skip
        if estimate is None:
            continue
        texts = (about, "Lower end of its 95 % interval.", "Upper end of its 95 % interval.")
        for suffix, text, value in zip(("", "_low", "_high"), texts, estimate, strict=True):
            gauge = GaugeMetricFamily(
                f"router_quality_{name}_ratio{suffix}", text, labels=list(tier)
            )
            gauge.add_metric(list(tier.values()), value)
            yield gauge
