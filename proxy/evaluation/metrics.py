"""Answer quality as Prometheus metric families, read when Prometheus scrapes."""

import itertools
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from proxy.evaluation.estimates import GRADES, Quality


def quality_metrics(quality: Quality | None) -> Iterator[Metric]:
    """The metric families `router_quality_*`; none while nothing is known."""
    if quality is None:
        return
    scores = HistogramMetricFamily(
        "router_quality_score",
        "Judges' scores of answers, 1 to 10, by the tier that gave them.",
        labels=["target"],
    )
    for target, (counts, total) in quality.scores.items():
        below = list(itertools.accumulate(counts))
        buckets = [(f"{edge}.0", float(count)) for edge, count in zip(GRADES, below, strict=True)]
        scores.add_metric([target], [*buckets, ("+Inf", float(below[-1]))], total)
    yield scores
    for name, what, tier, estimate in (
        ("recovered", "Share of the quality gap between the tiers that routing wins back.", {},
         quality.recovered),
        ("good", "Share of the tier's answers with a score of 7 or more, of all that were routed.",
         {"target": "local"}, quality.good_local),
        ("saved", "What routing saves at equal quality, as a share of an all-cloud bill.", {},
         quality.saved),
    ):  # fmt: skip
        if estimate is None:
            continue
        says = (what, "Lower end of its 95 % interval.", "Upper end of its 95 % interval.")
        for suffix, told, value in zip(("", "_low", "_high"), says, estimate, strict=True):
            gauge = GaugeMetricFamily(
                f"router_quality_{name}_ratio{suffix}", told, labels=list(tier)
            )
            gauge.add_metric(list(tier.values()), value)
            yield gauge
