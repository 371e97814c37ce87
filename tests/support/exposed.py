"""Metric families of an exposition, from their HELP and TYPE lines.

Labelled metrics have these lines even without samples, so that families include metrics that no
test has counted.
"""

from prometheus_client.parser import text_string_to_metric_families


def families(text: str) -> dict[str, str]:
    """The help texts by published name, such as `router_requests_total`."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family.documentation
        for family in text_string_to_metric_families(text)
    }


def current_families(text: str) -> set[str]:
    """The names of `families` without the deprecated ones."""
    help_texts = families(text)
    return {name for name, about in help_texts.items() if not about.startswith("Deprecated:")}
