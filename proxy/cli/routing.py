"""The commands that try a configuration without serving: check-config and route."""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.options import (
    config_option,
    json_option,
    load,
    load_configured_prices,
    warnings_of,
)

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.routing import Decision, Router


@click.command("check-config")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def check_config(path: Path) -> None:
    """Check a configuration file.

    Exit status 0 if it is valid. Otherwise 2, with the line and the reason.

    Example: hybrid-llm check-config configs/default.yaml
    """
    from proxy.budget import unpriced_warning
    from proxy.config import ConfigError
    from proxy.upstream import check_network

    config = load(path)
    prices = load_configured_prices(config, path)
    try:
        check_network(config)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    for warning in warnings_of(config):
        click.echo(f"{path}: warning: {warning}", err=True)
    if not prices.cloud_is_known:
        click.echo(f"{path}: warning: {unpriced_warning(config)}", err=True)
    click.echo(f"{path}: ok")


@click.command()
@click.argument("text")
@config_option()
@json_option
def route(text: str, config_path: Path, as_json: bool) -> None:
    """Show where a prompt would be routed, and why.

    Nothing is sent to a model. The text - reads the prompt from standard input.

    Example: hybrid-llm route "What is 2+2?" --json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from proxy.cli.tables import cell
    from proxy.plain_text import printable_json
    from proxy.server import load_router

    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise click.BadParameter("the prompt is empty", param_hint="TEXT")
    config = load(config_path)
    router, version = load_router(config, load_configured_prices(config, config_path))
    decision, latency_ms = asyncio.run(_time_decision(router, text, config))
    shown = decision.to_dict(latency_ms=latency_ms, router_model=version)
    if as_json:
        click.echo(printable_json(msgspec.json.encode(shown).decode()))
        return
    table = Table(show_header=False, box=None)
    for name, value in shown.items():
        table.add_row(name, cell(_shown(name, value)))
    Console().print(table)


def _shown(name: str, value: object) -> object:
    """A number of four digits. Dollars of one request need more zeros."""
    if not isinstance(value, float):
        return value
    return f"{value:.2e}" if name == "expected_cloud_usd" else f"{value:.4f}"


async def _time_decision(router: "Router", text: str, config: "Config") -> tuple["Decision", float]:
    """The decision and its milliseconds, as in a proxy that has run for a while.

    The first run allocates memory that later runs reuse, so a prompt of the same length goes first.
    """
    from proxy.routing import RoutingPreference, RuleInput
    from router_model.value import CHARS_PER_TOKEN

    async def decide(text: str) -> "Decision":
        turns = [("user", text)]
        rule = await router.rules.find(RuleInput(turns)) if router.rules is not None else None
        tokens = len(text) / CHARS_PER_TOKEN
        decision = await router.decide(RoutingPreference(), turns, input_tokens=tokens, rule=rule)
        allows_look = config.verify.mode == "auto" and config.routing.fallback
        has_second_look = allows_look and router.is_uncertain(decision)
        return decision._replace(has_second_look=has_second_look)

    # Scores are cached by what the model reads, which may leave out either end of a prompt.
    await decide(" ".join(reversed(text.split())) + " warm-up")
    started = time.perf_counter()
    decision = await decide(text)
    latency_ms = (time.perf_counter() - started) * 1e3
    router.close()
    return decision, latency_ms
