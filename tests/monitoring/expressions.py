"""All Prometheus expressions of this project, of the dashboard and of the rules."""

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
    """An expression with a readable description of its place."""

    place: str
    expr: str
    legend: str = ""


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels without the headings of its rows. Closed rows contain theirs."""
    everything = dashboard()["panels"]
    inside = [panel for row in everything for panel in row.get("panels", ())]
    return [panel for panel in (*everything, *inside) if panel["type"] != "row"]


def panel_expressions() -> list[Expression]:
    return [
        Expression(f"{panel['title']} {target['refId']}", target["expr"], target["legendFormat"])
        for panel in panels()
        for target in panel["targets"]
    ]


def annotation_expressions() -> list[Expression]:
    listed = dashboard()["annotations"]["list"]
    return [Expression(item["name"], item["expr"]) for item in listed if "expr" in item]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((CONFIGS / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def rule_expressions() -> list[Expression]:
    """Each side of each comparison, because an alert that does not fire has no data as a whole."""
    return [
        Expression(f"{rule.get('alert') or rule['record']} {number}", side)
        for rule in rules()
        for number, side in enumerate(sides(rule["expr"]), start=1)
    ]


def sides(expr: str) -> Iterator[str]:
    """Split an expression at its comparisons and set operators outside of brackets."""
    start = 0
    for match in _OPERATOR.finditer(expr):
        before = expr[: match.start()]
        if sum(map(before.count, "({[")) == sum(map(before.count, ")}]")):
            yield expr[start : match.start()]
            start = match.end()
    yield expr[start:]


def fill_in(expr: str, *, interval: str, span: str) -> str:
    """Replace Grafana's variables: all proxies, over this time span."""
    values = {"__rate_interval": interval, "__interval": interval, "__range": span}
    return re.sub(r"\$(\w+)", lambda match: (values | {"instance": ".*"})[match[1]], expr)
