"""`hybrid-llm prices`: the price list."""

import datetime as dt
import json
from pathlib import Path

import click


@click.group()
def prices() -> None:
    """Maintain the price list (pricing.yaml).

    Example: hybrid-llm prices update model_prices_and_context_window.json
    """


@prices.command("update")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("pricing.yaml"),
    show_default=True,
    help="The price list to write; the comments at its top are kept.",
)
@click.option(
    "--as-of",
    type=click.DateTime(["%Y-%m-%d"]),
    default=None,
    help="The date of the list.  [default: today]",
)
def prices_update(source: Path, out: Path, as_of: dt.datetime | None) -> None:
    """Write the price list from SOURCE, LiteLLM's model_prices_and_context_window.json.

    A running proxy reloads the list.

    Example: hybrid-llm prices update model_prices_and_context_window.json
    """
    from proxy.budget import convert_models, render_prices
    from proxy.config import PRICING_FILE
    from router_model.bundled import bundled

    try:
        models = convert_models(json.loads(source.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise click.ClickException(f"{source}: is not LiteLLM's list of models: {error}") from None
    if not models:
        raise click.ClickException(f"{source}: has no prices of OpenAI's models")
    old = out if out.exists() else bundled(Path("configs", PRICING_FILE))
    lines = old.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines[: _header_length(lines)])
    date = as_of.date() if as_of is not None else dt.datetime.now(dt.UTC).date()
    out.write_text(render_prices(models, as_of=date, header=header), encoding="utf-8")
    click.echo(f"{out}: {len(models)} models")


def _header_length(lines: list[str]) -> int:
    """The number of comment lines at the top."""
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
