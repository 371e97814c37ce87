"""Metric families in an exposition, found by their HELP and TYPE lines.

A labelled metric without samples has these lines, too. Comparing families and not samples catches
a metric that no test has counted yet.
"""

from prometheus_client.parser import text_string_to_metric_families


def families(text: str) -> dict[str, str]:
    """The help text by published name, `router_requests_total` for instance."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.documentation
        for family in text_string_to_metric_families(text)
    }


def current_families(text: str) -> set[str]:
    """The names of `families` without the deprecated ones."""
    found = families(text)
    return {name for name, about in found.items() if not about.startswith("Deprecated:")}
