"""The command line: serve, check-config, route.

hybrid-llm serve --config configs/default.yaml
"""

import asyncio
import logging
import socket
import sys
import time
from pathlib import Path
from typing import Final

import click
import msgspec
import uvicorn
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from proxy import __version__
from proxy.app import Proxy, load_router
from proxy.config import Config, ConfigError, load_config
from proxy.record import Target
from proxy.routing import Decision, Router, Wish

logger = logging.getLogger(__name__)

DEFAULT_CONFIG: Final = Path("configs/default.yaml")

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hybrid-llm")
def main() -> None:
    """Answer OpenAI requests locally or in the cloud, as a trained router decides."""


@main.command()
@_config_option
@click.option("--host", help="Instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of server.port.")
def serve(config_path: Path, host: str | None, port: int | None) -> None:
    """Run the proxy.

    Example: hybrid-llm serve --config configs/default.yaml --port 8080
    """
    config = _load(config_path)
    given = {"host": host, "port": port}
    chosen = {key: value for key, value in given.items() if value is not None}
    config = msgspec.structs.replace(
        config, server=msgspec.structs.replace(config.server, **chosen)
    )
    _log_to_terminal()
    for warning in config.warnings():
        logger.warning("%s: %s", config_path, warning)
    _Server(Proxy(config)).run()


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
@_config_option
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


def _log_to_terminal() -> None:
    console = Console(stderr=True)
    handler = RichHandler(console=console, show_path=False, markup=False, rich_tracebacks=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])


class _Server(uvicorn.Server):
    """uvicorn, with a table of what it found once it listens."""

    def __init__(self, proxy: Proxy) -> None:
        server = proxy.config.server
        self._proxy = proxy
        super().__init__(
            uvicorn.Config(
                proxy.app,
                host=server.host,
                port=server.port,
                # Named, not "auto": without these two a request costs 100 µs more, silently.
                loop="uvloop" if sys.platform != "win32" else "asyncio",
                http="httptools",
                lifespan="on",
                access_log=False,
                proxy_headers=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=30,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await _introduce(self._proxy, self.servers[0].sockets[0].getsockname())


async def _introduce(proxy: Proxy, address: tuple[str, int]) -> None:
    """Print what was found: the router model, each tier's state, and the URL to use."""
    snapshot = proxy.gateway.snapshot
    await asyncio.gather(*(upstream.probe() for upstream in snapshot.upstreams.values()))
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    table = Table(title=f"hybrid-llm {__version__}", title_justify="left", show_header=False)
    table.add_row("router model", snapshot.model_version or "none: everything goes to the cloud")
    table.add_row("threshold", f"{snapshot.router.threshold:.3f}")
    for target in Target:
        upstream = snapshot.upstreams[target]
        state = "up" if upstream.up else "not reachable"
        table.add_row(target.value, f"{upstream.model} at {upstream.address}: {state}")
    table.add_row("rows", proxy.config.storage.url)
    table.add_row("base_url", f"http://{host}:{address[1]}/v1")
    Console().print(table)
