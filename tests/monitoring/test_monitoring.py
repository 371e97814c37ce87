"""The Prometheus and Grafana files in configs/, checked with a real Prometheus and a live proxy.

A Prometheus scrapes the proxy while it serves traffic. Every expression of the dashboard and of the
rules must find data; one with a misspelt name finds none. monitoring/alerts_test.yml tests the
alerts.

Needs Prometheus and its promtool: apt-get install prometheus.
"""

import asyncio
import math
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from exposed import current_families
from monitoring import expressions
from monitoring.expressions import Expression, fill_in
from monitoring.prometheus import CONFIGS, POLL_SECONDS, Prometheus, Series, promtool
from monitoring.scene import PAIRS, Scene, judge, open_scene
from proxy.record import Ending, Reason, SecondLookResult, Target
from router_model.answer_checks import Check

live = pytest.mark.asyncio(loop_scope="module")

ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
# Generous for a busy machine; the proxy reads judgements every half minute.
PATIENCE_SECONDS = 40.0
REQUESTS_PER_SECOND = 40.0

PANELS = expressions.panels()
QUERIES = expressions.panel_expressions()
ANNOTATIONS = expressions.annotation_expressions()
VARIABLES = expressions.dashboard()["templating"]["list"]
RULES = expressions.rules()
SIDES = expressions.rule_expressions()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("monitored")
    async with open_scene(folder, rng=random.Random(1), speed=4.0) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def traffic(scene: Scene) -> AsyncIterator[asyncio.Task[None]]:
    """Clients send requests, their answers are judged, and an invalid configuration is rejected."""
    stop = asyncio.Event()
    running = asyncio.create_task(scene.clients.run(lambda _: REQUESTS_PER_SECOND, stop))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while judge(scene.database, random.Random(2)) < PAIRS:  # noqa: ASYNC110 - rows have no event
                await asyncio.sleep(POLL_SECONDS)
        scene.proxy.configure({"routing": {"treshold": 0.5}})
        yield running
    finally:
        stop.set()
        await running


@pytest.fixture
def prometheus(scene: Scene, traffic: asyncio.Task[None]) -> Prometheus:
    assert not traffic.done(), (
        "the clients have stopped; see the teardown error at the end of this file"
    )
    return scene.prometheus


async def find_data(prometheus: Prometheus, expr: str) -> list[Series]:
    """Wait until an expression has a finite value; return its series."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                result = await prometheus.query(fill_in(expr, interval="8s", span="1m"))
                if any(math.isfinite(value) for series in result for _, value in series.points):
                    return result
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        pytest.fail(f"in {PATIENCE_SECONDS:g} seconds there was no data for: {expr}")


def place_of(expression: Expression) -> str:
    return expression.place


# Rules and configuration, checked by promtool.


def test_the_prometheus_configuration_is_valid() -> None:
    promtool("check", "config", CONFIGS / "prometheus.yml")
    promtool("check", "rules", CONFIGS / "alerts.yml")


def test_alerts_fire_above_their_limits_and_not_just_below() -> None:
    promtool("test", "rules", ALERTS_TEST)


def test_every_alert_has_a_firing_case() -> None:
    cases = ALERTS_TEST.read_text(encoding="utf-8")
    fired = set(re.findall(r'alertname="(\w+)"', cases))
    assert fired == {rule["alert"] for rule in RULES if "alert" in rule}


def test_every_alert_has_a_summary_and_instructions() -> None:
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            notes = rule["annotations"]
            assert notes.keys() == {"summary", "description", "runbook_url", "dashboard"}
            assert notes["dashboard"].removeprefix("http://{{ $labels.instance }}") == "/dashboard"


def test_the_runbook_of_an_alert_is_a_heading_that_exists() -> None:
    for rule in RULES:
        if "alert" in rule:
            path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            text = (CONFIGS.parent / path).read_text(encoding="utf-8")
            assert anchor == rule["alert"].lower()
            assert re.search(rf"^### {rule['alert']}$", text, re.MULTILINE), rule["alert"]


@live
async def test_metric_names_follow_the_prometheus_conventions(
    scene: Scene, traffic: asyncio.Task[None]
) -> None:
    text = (await scene.proxy.client.get("/metrics")).text
    promtool("check", "metrics", text=text)
    assert "_created" not in text


# Expressions, evaluated by a Prometheus that scrapes a live proxy.


@live
@pytest.mark.parametrize("query", QUERIES, ids=place_of)
async def test_every_query_of_the_dashboard_finds_data(
    prometheus: Prometheus, query: Expression
) -> None:
    result = await find_data(prometheus, query.expr)
    for series in result:
        assert set(re.findall(r"{{(\w+)}}", query.legend)) <= series.labels.keys()


@live
@pytest.mark.parametrize("query", ANNOTATIONS, ids=place_of)
async def test_every_annotation_finds_data(prometheus: Prometheus, query: Expression) -> None:
    await find_data(prometheus, query.expr)


@live
@pytest.mark.parametrize("side", SIDES, ids=place_of)
async def test_every_side_of_every_rule_finds_data(
    prometheus: Prometheus, side: Expression
) -> None:
    await find_data(prometheus, side.expr)


@live
async def test_the_instance_variable_of_the_dashboard_has_values(scene: Scene) -> None:
    (variable,) = (item for item in VARIABLES if item["type"] == "query")
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
    assert match is not None
    await find_data(scene.prometheus, match[1])
    values = await scene.prometheus.get(f"label/{match[2]}/values", **{"match[]": match[1]})
    assert values == [f"127.0.0.1:{scene.proxy.port}"]


@live
async def test_rules_are_evaluated_and_an_alert_renders(prometheus: Prometheus) -> None:
    """The rejected configuration fires an alert."""
    await find_data(prometheus, 'ALERTS{alertname="ConfigReloadFailed", alertstate="firing"}')
    (group,) = (await prometheus.get("rules"))["groups"]
    assert {rule["name"]: rule.get("lastError", "") for rule in group["rules"]} == {
        rule.get("alert") or rule["record"]: "" for rule in RULES
    }
    for alert in (await prometheus.get("alerts"))["alerts"]:
        for text in alert["annotations"].values():
            assert "error expanding" not in text
            assert "<no value>" not in text


@live
async def test_every_metric_is_on_the_dashboard(scene: Scene, prometheus: Prometheus) -> None:
    await find_data(prometheus, "router_quality_recovered_ratio")
    names = current_families((await scene.proxy.client.get("/metrics")).text)
    shown = " ".join(query.expr for query in QUERIES)
    assert "router_quality_recovered_ratio" in names
    assert {name for name in names if not re.search(rf"\b{name}(_bucket)?\b", shown)} == set()


def test_label_values_in_expressions_are_known() -> None:
    """A misspelt value among several in a pattern would still find data."""
    known = {
        "target": {*Target, "none"},
        "reason": {*Reason, *Check, "evidence", "verify_timeout"},
        "result": set(SecondLookResult),
        "ending": set(Ending),
        "job": {
            yaml.safe_load((CONFIGS / "prometheus.yml").read_text())["scrape_configs"][0][
                "job_name"
            ]
        },
        "alertstate": {"firing"},
        "instance": {"$instance"},
        "from_target": set(Target),
    }
    for expression in (*QUERIES, *ANNOTATIONS, *SIDES):
        for label, values in re.findall(r'(\w+)(?:=~?|!=|!~)"([^"]*)"', expression.expr):
            assert set(values.split("|")) <= known[label], expression


# The layout of the dashboard.


def test_panels_have_descriptions_and_units() -> None:
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            assert (
                target["datasource"]
                == panel["datasource"]
                == {
                    "type": "prometheus",
                    "uid": "${datasource}",
                }
            )


def test_panels_have_unique_titles_and_do_not_overlap() -> None:
    open_ones = expressions.dashboard()["panels"]
    closed = [panel["panels"] for panel in open_ones if panel.get("panels")]
    for key in ("id", "title"):
        listed = [*open_ones, *(panel for panels in closed for panel in panels)]
        assert max(Counter(panel[key] for panel in listed).values()) == 1
    for panels in (open_ones, *closed):
        places = Counter[tuple[int, int]]()
        for panel in panels:
            at = panel["gridPos"]
            rows = range(at["y"], at["y"] + at["h"])
            places.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in rows)
        assert max(places.values()) == 1
        assert max(x for x, _ in places) == 23


def test_details_are_closed_and_the_first_screen_is_open() -> None:
    rows = [panel for panel in expressions.dashboard()["panels"] if panel["type"] == "row"]
    closed = {row["title"] for row in rows if row["collapsed"]}
    assert closed >= {"Health", "Drift and shadow router", "Judging"}
    assert not closed & {"Overview", "Traffic", "Cost"}
    assert all(bool(row["panels"]) is row["collapsed"] for row in rows)


def test_legends_have_room() -> None:
    """A legend beneath a chart needs six columns; the time series have one."""
    for panel in PANELS:
        if panel["type"] == "timeseries":
            assert panel["gridPos"]["w"] >= 6, panel["title"]


def test_what_all_proxies_of_a_database_share_is_not_summed() -> None:
    """Two proxies on one database report the same amount, as their rows are the same."""
    shared = ("router_budget_spent_usd", "router_budget_usd_per_day", "router_quality_score")
    for query in QUERIES:
        for name in shared:
            assert not re.search(rf"sum(?: by \([^)]*\))? ?\({name}", query.expr), query


def test_the_dashboard_links_to_the_pages_of_the_proxy() -> None:
    document = expressions.dashboard()
    names = {variable["name"] for variable in VARIABLES}
    urls = [link["url"] for link in document["links"]]
    assert "${proxy_url}/dashboard" in urls
    assert "${proxy_url}/dashboard#request=${request_id}" in urls
    assert {name for url in urls for name in re.findall(r"\$\{(\w+)\}", url)} <= names


def test_a_tier_has_one_colour_everywhere() -> None:
    colours: dict[str, set[str]] = {"local": set(), "cloud": set()}
    for panel in PANELS:
        for override in panel["fieldConfig"]["overrides"]:
            name = override["matcher"]["options"]
            for item in override["properties"]:
                if name in colours and item["id"] == "color":
                    colours[name].add(item["value"]["fixedColor"].removeprefix("dark-"))
    assert colours == {"local": {"green"}, "cloud": {"blue"}}


def provisioned(kind: str) -> dict[str, Any]:
    (path,) = (CONFIGS / "grafana/provisioning" / kind).glob("*.yml")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["apiVersion"] == 1
    (item,) = document.get("datasources") or document["providers"]
    provision: dict[str, Any] = item
    return provision


def test_grafana_uses_the_scrape_interval_of_prometheus() -> None:
    """$__rate_interval depends on it."""
    config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text(encoding="utf-8"))
    source = provisioned("datasources")
    assert source["type"] == "prometheus"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert provisioned("dashboards")["type"] == "file"
