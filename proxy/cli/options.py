"""Options that several commands share, and loading of the configuration.

This module imports nothing heavy, so that `hybrid-llm COMMAND --help` starts fast.
"""

import datetime as dt
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from router_model.bundled import bundled

if TYPE_CHECKING:
    from proxy.budget import Prices
    from proxy.config import Config
    from proxy.storage import Dimension

logger = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

CONFIG_FILE: Final = Path("hybrid-llm.yaml")  # written by `hybrid-llm init`
DEFAULT_CONFIG: Final = Path("configs/default.yaml")
DEMO_CONFIG: Final = Path("configs/demo.yaml")

# The values of --by, with their columns.
DIMENSIONS: Final[dict[str, "Dimension"]] = {
    "tier": "target",
    "reason": "reason",
    "category": "category",
    "model": "model",
    "ending": "ending",
    "endpoint": "endpoint",
    "day": "day",
}
BY_KEY: Final = "key"  # a value of --by with totals of its own
DEFAULT_DIMENSIONS: Final = ("tier", "reason", "category", "model", "day")


class Duration(click.ParamType[dt.timedelta]):
    """A number and a unit: m, h, d or w."""

    name = "duration"
    _UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.timedelta:
        match = re.fullmatch(r"(\d{1,6})([mhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration such as 90m, 24h, 7d or 4w", param, ctx)
        return dt.timedelta(**{self._UNITS[match[2]]: int(match[1])})


def config_option(default: Path = DEFAULT_CONFIG) -> Callable[[Command], Command]:
    """--config. By default the file that `init` wrote here, else the bundled configuration."""
    own = CONFIG_FILE if default == DEFAULT_CONFIG else default
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=lambda: own if own.exists() else bundled(default),
        show_default=str(default) if own == default else f"{own} if it exists, else {default}",
        help="Configuration file.",
    )


host_option = click.option("--host", help="Listen on this address. Overrides server.host.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), help="Listen on this port. Overrides server.port."
)
since_option = click.option(
    "--since", type=Duration(), help="Only requests of the last 90m, 24h, 7d or 4w."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of a table."
)


def start_of(since: dt.timedelta | None) -> float:
    """The UNIX time at which a `--since` period starts; 0 without one."""
    return 0.0 if since is None else (dt.datetime.now(dt.UTC) - since).timestamp()


def load(path: Path, **overrides: Any) -> "Config":
    """The configuration. An invalid one ends the command with exit status 2."""
    from proxy.config import ConfigError, load_config

    try:
        return load_config(path, **overrides)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None


def load_configured_prices(config: "Config", path: Path) -> "Prices":
    """The prices of the configuration in `path`. Invalid ones end the command with status 2."""
    from proxy.budget import Prices
    from proxy.config import ConfigError, load_prices, pricing_path

    try:
        return Prices.of(config, load_prices(pricing_path(config, path)))
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None


def warnings_of(config: "Config") -> Iterator[str]:
    """The warnings about a configuration on this machine, as `key: problem`."""
    from proxy.storage import network_storage_warning

    yield from config.warnings()
    if (warning := network_storage_warning(config.storage)) is not None:
        yield warning


def load_to_serve(path: Path, **overrides: Any) -> "Config":
    """As `load`, and set up logging. The configuration's warnings go to the log."""
    from proxy import logs
    from proxy.server import is_worker

    config = load(path, **overrides)
    logs.set_up(config.logging)
    if not is_worker():  # the parent process has logged them
        for warning in warnings_of(config):
            logger.warning("%s: %s", path, warning)
    return config
