"""The commands that read recorded requests: stats, explain and export."""

import datetime as dt
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.options import (
    DEFAULT_DIMENSIONS,
    DIMENSIONS,
    config_option,
    load,
    load_configured_prices,
    since_option,
    start_of,
)

if TYPE_CHECKING:
    from proxy.cli.tables import RouterContext
    from proxy.config import Config


@click.command()
@config_option()
@since_option
@click.option(
    "--by",
    "dimensions",
    type=click.Choice(list(DIMENSIONS)),
    multiple=True,
    help="Show only this table. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def stats(
    config_path: Path, since: dt.timedelta | None, dimensions: tuple[str, ...], as_json: bool
) -> None:
    """Show requests, costs, latencies and answer quality.

    A period starts at the full hour (UTC) at or before --since; the output shows it. Judged quality
    starts at the exact time. "failed" counts requests that an upstream, a timeout or the proxy
    failed, as a share of these and the answered ones. "refused" counts mistakes of clients and
    limits (400, 404, 429).

    From 500 scored requests on, the drift of the last day (or week) is shown as well. With a shadow
    router, its decisions are compared with the live ones.

    Example: hybrid-llm stats --since 7d --by tier --by day
    """
    import msgspec
    from rich.console import Console

    from proxy.cli.tables import stats_report, stats_tables
    from proxy.plain_text import printable_json
    from proxy.storage import RequestQueries, StoreUnavailable

    start, by, config = start_of(since), dimensions or DEFAULT_DIMENSIONS, load(config_path)
    try:
        with RequestQueries.open(config.storage) as requests:
            context = _router_context(config, config_path)
            if as_json:
                report = stats_report(requests, by, start, context=context)
                click.echo(printable_json(msgspec.json.encode(report).decode()))
            else:
                tables = stats_tables(requests, by, start, context=context)
                Console(width=None if Console().is_terminal else 120).print(tables)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None


def _router_context(config: "Config", path: Path) -> "RouterContext":
    """The live router's reference, the shadow router's threshold and the local price."""
    from proxy.budget import Price
    from proxy.cli.tables import RouterContext
    from proxy.record import Target
    from proxy.routing import Router
    from router_model.manifest import Manifest, RouterModelError

    shadow, live, other = config.routing.shadow_router, None, None
    with suppress(RouterModelError):  # the proxy logs the reason
        live = Manifest.load(config.routing.model_folder)
    try:
        if shadow is not None:
            other = Manifest.load(Path(shadow.path))
    except RouterModelError as error:
        click.echo(f"Warning: routing.shadow_router: {error}", err=True)
    threshold = None
    if other is not None:
        manifest = other.for_objective(config.routing.objective)
        threshold = Router(config, None, thresholds=manifest).threshold
    price = load_configured_prices(config, path).find(Target.LOCAL, config.upstreams.local.model)
    reference = live.reference if live is not None else None
    return RouterContext(reference, threshold, price or Price())


@click.command()
@click.argument("request_id")
@config_option()
@click.option("--json", "as_json", is_flag=True, help="Print the whole row as JSON.")
def explain(request_id: str, config_path: Path, as_json: bool) -> None:
    """Explain the routing decision and the outcome of one request.

    The response header x-request-id has the ID.

    Example: hybrid-llm explain req_019300000000abcdef
    """
    import msgspec

    from proxy.evaluation.explain import explain as explain_request
    from proxy.plain_text import printable_json
    from proxy.storage import RequestLog, StoreUnavailable

    try:
        with RequestLog.open(load(config_path).storage) as log:
            row = log.find(request_id)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
    if row is None:
        raise click.ClickException(f"request {request_id} was not found")
    text = explain_request(row)
    click.echo(printable_json(msgspec.json.encode(row).decode()) if as_json else text)


@click.command()
@config_option()
@since_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Output file; - writes to standard output.",
)
@click.option(
    "--judged",
    is_flag=True,
    help="Write training data: only prompts with judge scores for both tiers' answers.",
)
def export(config_path: Path, since: dt.timedelta | None, out: Path, judged: bool) -> None:
    """Write requests to a JSONL file.

    Each line is a request with its judgements and feedback. With --judged a line has the outcome
    of both models on one prompt, in the format that `hybrid-llm-train` reads.

    Example: hybrid-llm export --since 30d --out requests.jsonl
    """
    import msgspec

    from proxy.evaluation import QualityQueries, training_rows
    from proxy.storage import RequestLog, StoreUnavailable

    config, number = load(config_path), 0
    try:
        with (
            RequestLog.open(config.storage) as log,
            click.open_file(str(out), "wb", atomic=True) as file,
        ):
            start = start_of(since)
            quality = QualityQueries.sharing(log)
            system = config.routing.score_system
            for row in (
                training_rows(quality.judged_requests(start), score_system=system)
                if judged
                else log.export(start)
            ):
                file.write(msgspec.json.encode(row) + b"\n")
                number += 1
    except BrokenPipeError:  # as in `export … | head`: click ends the command
        raise
    except (OSError, StoreUnavailable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Wrote {number} requests to {out}.", err=True)
