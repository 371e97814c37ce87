"""`hybrid-llm prices`: the price list."""

import datetime as dt
import json
from pathlib import Path

import click

from proxy.cli.options import DEFAULT_CONFIG, config_option, load


@click.group()
def prices() -> None:
    """Maintain the price list (pricing.yaml).

    Example: hybrid-llm prices update model_prices_and_context_window.json
    """


@prices.command("update", short_help="Write the price list from the list of LiteLLM.")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@config_option()
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="The price list to write; the comments at its top are kept.  [default: the list that the "
    "configuration reads]",
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="The date of the list.  [default: today]",
)
def prices_update(
    source: Path, config_path: Path, out: Path | None, as_of: dt.datetime | None
) -> None:
    """Write the price list from SOURCE, LiteLLM's model_prices_and_context_window.json.

    A running proxy reloads the list.

    Example: hybrid-llm prices update model_prices_and_context_window.json
    """
    from proxy.budget import convert_models, render_prices
    from proxy.config import PRICING_FILE
    from router_model.bundled import bundled

    try:
        models = convert_models(json.loads(source.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError) as error:
        raise click.ClickException(f"{source}: is not LiteLLM's list of models: {error}") from None
    if not models:
        raise click.ClickException(f"{source}: has no prices of OpenAI's models")
    out = _list_of(config_path) if out is None else out
    old = out if out.exists() else bundled(Path("configs", PRICING_FILE))
    date = as_of.date() if as_of is not None else dt.datetime.now(dt.UTC).date()
    try:
        lines = old.read_text(encoding="utf-8").splitlines()
        listed = _names(old)
        header = "\n".join(line for line in lines[: _header_length(lines)])
        out.write_text(render_prices(models, as_of=date, header=header), encoding="utf-8")
    except OSError as error:
        place = error.filename or out
        raise click.ClickException(f"{place}: cannot be written: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{old}: is not UTF-8 text") from None
    added, removed = len(models.keys() - listed), len(listed - models.keys())
    click.echo(f"{out}: {len(listed)} -> {len(models)} models; {added} added, {removed} removed")


def _list_of(config_path: Path) -> Path:
    """The price list that a configuration reads. A new one is written beside the configuration."""
    from proxy.config import PRICING_FILE, pricing_path
    from router_model.bundled import IS_CLONE, bundled

    config = load(config_path)
    if config.pricing is None:
        raise click.ClickException(f"{config_path}: pricing is null; choose a file with --out")
    if not IS_CLONE and config_path == bundled(DEFAULT_CONFIG) != DEFAULT_CONFIG:
        return Path(PRICING_FILE)  # the package's own files are not the user's
    read = pricing_path(config, config_path)
    is_bundled = read == bundled(Path("configs", PRICING_FILE))
    own = config_path.parent / config.pricing
    return own if read is None or is_bundled else read


def _names(path: Path) -> set[str]:
    """The models of a price list; none of an invalid one, which is replaced."""
    from proxy.config import ConfigError, load_prices

    try:
        return set(load_prices(path))
    except ConfigError:
        return set()


def _header_length(lines: list[str]) -> int:
    """The number of comment lines at the top."""
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
