"""The command line: serve, demo, check-config, route.

hybrid-llm serve --config configs/default.yaml
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from proxy import __version__
from proxy.app import Proxy, load_router
from proxy.config import Config, ConfigError, load_config
from proxy.demo import DemoNotInstalled, run_demo
from proxy.routing import Decision, Router, Wish
from proxy.serving import Server, log_to_terminal
from proxy.stand_in import StandInFailed
from proxy.store import StoreUnavailable

logger = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("configs/default.yaml")
DEMO_CONFIG: Final = Path("configs/demo.yaml")


def _config_option(default: Path) -> Callable[[Command], Command]:
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=default,
        show_default=True,
        help="The configuration file.",
    )


_host_option = click.option("--host", help="Instead of server.host.")
_port_option = click.option("--port", type=click.IntRange(0, 65535), help="Instead of server.port.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hybrid-llm")
def main() -> None:
    """Answer OpenAI requests locally or in the cloud, as a trained router decides."""


@main.command()
@_config_option(DEFAULT_CONFIG)
@_host_option
@_port_option
def serve(config_path: Path, host: str | None, port: int | None) -> None:
    """Run the proxy.

    Example: hybrid-llm serve --config configs/default.yaml --port 8080
    """
    server = Server(Proxy(_load_to_serve(config_path, host=host, port=port)))
    try:
        server.run()
    except StoreUnavailable as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


@main.command()
@_config_option(DEMO_CONFIG)
@_host_option
@_port_option
def demo(config_path: Path, host: str | None, port: int | None) -> None:
    """Run the proxy on a machine without Ollama, without an OpenAI key, or without both.

    A tier that is not there is answered by a stand-in, a real but very small model (SmolLM2-135M)
    on this machine. The cloud's stand-in costs nothing: the dollars shown are what the cloud would
    have cost.

    Example: hybrid-llm demo --port 8080
    """
    config = _load_to_serve(config_path, host=host, port=port)
    try:
        run_demo(config)
    except (DemoNotInstalled, StandInFailed, StoreUnavailable) as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


@main.command("check-config")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
def check_config(path: Path) -> None:
    """Check a configuration file: exit 0, or 2 with the place and the reason.

    Example: hybrid-llm check-config configs/default.yaml
    """
    for warning in _load(path).warnings():
        click.echo(f"{path}: warning: {warning}", err=True)
    click.echo(f"{path}: ok")


@main.command()
@click.argument("text")
@_config_option(DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def route(text: str, config_path: Path, as_json: bool) -> None:
    """Show where a prompt would go, and why, without sending it anywhere.

    Example: hybrid-llm route "What is 2+2?" --json
    """
    router, version = load_router(_load(config_path))
    decision, latency_ms = asyncio.run(_decide_twice(router, text))
    score = decision.score
    shown = {
        "target": decision.target.value,
        "model": decision.model,
        "score": score.score if score is not None else None,
        "p_local": score.p_local if score is not None else None,
        "p_cloud": score.p_cloud if score is not None else None,
        "threshold": decision.threshold,
        "reason": decision.reason.value,
        "latency_ms": round(latency_ms, 3),
        "router_model": version,
    }
    if as_json:
        click.echo(msgspec.json.encode(shown).decode())
        return
    table = Table(show_header=False, box=None)
    for name, value in shown.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)


async def _decide_twice(router: Router, text: str) -> tuple[Decision, float]:
    """A decision and its milliseconds. The first run pays for memory that all others reuse."""
    turns = [("user", text)]
    await router.decide(Wish(), turns)
    started = time.perf_counter()
    decision = await router.decide(Wish(), turns)
    latency_ms = (time.perf_counter() - started) * 1e3
    router.close()
    return decision, latency_ms


def _load(path: Path) -> Config:
    try:
        return load_config(path)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None


def _load_to_serve(path: Path, *, host: str | None, port: int | None) -> Config:
    """The configuration, with the options over it; its warnings go to the log."""
    config = _load(path)
    log_to_terminal()
    for warning in config.warnings():
        logger.warning("%s: %s", path, warning)
    given = {"host": host, "port": port}
    chosen = {key: value for key, value in given.items() if value is not None}
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **chosen))


if __name__ == "__main__":
    main()
