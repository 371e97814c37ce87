"""The commands that set up and run the proxy: init, serve and demo."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from proxy.cli.options import (
    DEFAULT_CONFIG,
    DEMO_CONFIG,
    config_option,
    host_option,
    load_to_serve,
    port_option,
)

if TYPE_CHECKING:
    from proxy.config import Config


@click.command()
@click.option("--yes", is_flag=True, help="Non-interactive: accept the defaults.")
@click.option("--ollama", metavar="URL", help="Address of Ollama. Detected by default.")
@click.option(
    "--model", help="Local model. By default phi3, or the smallest model that Ollama has."
)
@click.option("--cloud-model", help="Cloud model.")
@click.option(
    "--key-file", type=click.File(), help="File with the cloud API key; - reads standard input."
)
@click.option("--client-key", is_flag=True, help="Create an API key that clients must send.")
@click.option("--force", is_flag=True, help="Overwrite an existing configuration or key.")
def init(
    yes: bool,
    ollama: str | None,
    model: str | None,
    cloud_model: str | None,
    key_file: IO[str] | None,
    client_key: bool,
    force: bool,
) -> None:
    """Write a configuration for this machine.

    The configuration is written to hybrid-llm.yaml, API keys to .env. The command looks for
    Ollama (OLLAMA_BASE_URL, OLLAMA_HOST, localhost) and checks the cloud API key. On a terminal it
    asks for what it cannot detect. A key in the variable OPENAI_API_KEY is not written.

    Example: hybrid-llm init --yes --model qwen3:4b
    """
    from proxy.cli.init import InitFailed, InitOptions, run_init
    from proxy.config import ConfigError

    try:
        options = InitOptions(
            ollama_url=ollama,
            model=model,
            cloud_model=cloud_model,
            cloud_key=key_file.read() if key_file is not None else None,
            has_client_key=client_key,
            may_overwrite=force,
        )
        run_init(options, ask=not yes and sys.stdin.isatty())
    except (ConfigError, InitFailed, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from None


@click.command()
@config_option(DEFAULT_CONFIG)
@host_option
@port_option
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Number of worker processes. Overrides server.workers.",
)
def serve(config_path: Path, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the proxy.

    Example: hybrid-llm serve --config configs/default.yaml --port 8080
    """
    config = load_to_serve(config_path, host=host, port=port, workers=workers)

    from proxy.server import Proxy, Server, check_address, check_worker_keys, is_worker, worker_slot
    from proxy.upstream import check_network

    with _failed_start_reported():
        check_worker_keys(config)
        if not is_worker():  # the parent process has checked it, and logged the proxies
            check_address(config.server.host, config.server.port)
            check_network(config)
        if config.server.workers > 1 and not is_worker():
            _run_workers(config)
        else:
            Server(Proxy(config, path=config_path), worker_slot=worker_slot()).run()


@contextmanager
def _failed_start_reported() -> Iterator[None]:
    """End the command with one sentence for what keeps a proxy from starting."""
    from proxy.config import ConfigError
    from proxy.server import CannotListen
    from proxy.storage import StoreUnavailable

    try:
        yield
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    except CannotListen as error:
        raise click.ClickException(str(error)) from None
    except StoreUnavailable as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


def _run_workers(config: "Config") -> None:
    from proxy.server import Workers
    from proxy.storage import Store

    Store(config.storage).prepare()  # once, so that an error is reported once
    command = [sys.executable, "-m", "proxy.cli", *sys.argv[1:]]
    raise SystemExit(Workers(config, command=command).run())


@click.command()
@config_option(DEMO_CONFIG)
@host_option
@port_option
def demo(config_path: Path, host: str | None, port: int | None) -> None:
    """Run the proxy with small models instead of what is missing.

    For a machine without Ollama, without an OpenAI key, or without both. A small model on this
    machine (SmolLM2-135M) stands in for each missing tier. The stand-in for the cloud is free: the
    dollars shown are what the cloud would have cost.

    Example: hybrid-llm demo --port 8080
    """
    config = load_to_serve(config_path, host=host, port=port)

    from proxy.cli.demo import DemoNotInstalled, run_demo
    from proxy.cli.stand_in import StandInFailed
    from proxy.server import check_address

    with _failed_start_reported():
        check_address(config.server.host, config.server.port)
        try:
            run_demo(config)
        except (DemoNotInstalled, StandInFailed) as error:
            click.echo(str(error), err=True)
            raise SystemExit(1) from None
