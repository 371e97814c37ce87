"""Every expression that this project gives to Prometheus: the dashboard's, and the rules'."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from monitoring.prometheus import CONFIGS

DASHBOARD = CONFIGS / "grafana/dashboards/hybrid-llm-router.json"

_OPERATOR = re.compile(
    r"\s(?:==|!=|<=|>=|<|>|and|or|unless)\s+(?:(?:bool|(?:on|ignoring)\s*\([^)]*\))\s+)?"
)


class Expression(NamedTuple):
    """One expression and where it is, for people."""

    place: str
    expr: str
    legend: str = ""


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels without the headings of its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_expressions() -> list[Expression]:
    return [
        Expression(f"{panel['title']} {target['refId']}", target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]


def annotation_expressions() -> list[Expression]:
    listed = dashboard()["annotations"]["list"]
    return [Expression(one["name"], one["expr"]) for one in listed if "expr" in one]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((CONFIGS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def rule_expressions() -> list[Expression]:
    """Each side of each comparison: as a whole an alert finds nothing while all is well."""
    return [
        Expression(f"{rule.get('alert') or rule['record']} {number}", side)
        for rule in rules()
        for number, side in enumerate(sides(rule["expr"]), start=1)
    ]


def sides(expr: str) -> Iterator[str]:
    """An expression, cut at the comparisons and the set operators that are in no brackets."""
    begun = 0
    for found in _OPERATOR.finditer(expr):
        before = expr[: found.start()]
        if sum(map(before.count, "({[")) == sum(map(before.count, ")}]")):
            yield expr[begun : found.start()]
            begun = found.end()
    yield expr[begun:]


def fill_in(expr: str, *, interval: str, span: str) -> str:
    """An expression with Grafana's variables filled in: all proxies, over this span."""
    values = {"__rate_interval": interval, "__interval": interval, "__range": span}
    return re.sub(r"\$(\w+)", lambda found: (values | {"instance": ".*"})[found[1]], expr)
