"""The commands that read recorded requests: stats, explain and export."""

import datetime as dt
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.options import (
    BY_KEY,
    DEFAULT_DIMENSIONS,
    DIMENSIONS,
    config_option,
    load,
    load_configured_prices,
    since_option,
    start_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.cli.tables import RouterContext
    from proxy.config import Config
    from proxy.storage import Queries


@click.command()
@config_option()
@since_option
@click.option(
    "--by",
    "dimensions",
    type=click.Choice([*DIMENSIONS, BY_KEY]),
    multiple=True,
    help="Break the requests down by this only. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def stats(
    config_path: Path, since: dt.timedelta | None, dimensions: tuple[str, ...], as_json: bool
) -> None:
    """Show requests, costs, latencies and answer quality.

    A period starts at the full hour (UTC) at or before --since; the output shows it. Judged quality
    starts at the exact time. "failed" counts errors and timeouts; "refused" what the proxy itself
    refused (limits, mistakes of clients); "cancelled" what a client or a shutdown ended.
    "local" is the share of the answered requests that the local tier answered.

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
            context, names = _router_context(config, config_path), _key_names(config, requests)
            if as_json:
                report = stats_report(requests, by, start, context=context, names=names)
                click.echo(printable_json(msgspec.json.encode(report).decode()))
            else:
                tables = stats_tables(requests, by, start, context=context, names=names)
                Console(width=None if Console().is_terminal else 120).print(tables)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None


def _key_names(config: "Config", queries: "Queries") -> "Callable[[str], str]":
    """The names of API keys by their hashes, of the configuration and of the database."""
    from proxy.auth import ApiKeys, IssuedKeys
    from proxy.storage import StoredKeys

    issued = IssuedKeys(row.issued for row in StoredKeys(queries.database).read())
    return ApiKeys(config.server.api_keys, issued=issued).name_of


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
    """Explain how one request was routed and how it ended.

    A timeline shows where its time went. The response header x-request-id has the ID.

    Example: hybrid-llm explain req_019300000000abcdef
    """
    import msgspec

    from proxy.evaluation.explain import explain as explain_request
    from proxy.evaluation.explain import timeline
    from proxy.plain_text import printable_json
    from proxy.storage import RequestLog, StoreUnavailable

    config = load(config_path)
    try:
        with RequestLog.open(config.storage) as log:
            row = log.find(request_id)
            if row is not None and (key := row["client_key_hash"]) is not None:
                row["key_name"] = _key_names(config, log)(key)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
    if row is None:
        raise click.ClickException(f"request {request_id} was not found")
    text = f"{explain_request(row)}\n\n{timeline(row)}"
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
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    help="By default csv for a file that ends with .csv, else jsonl.",
)
@click.option(
    "--judged",
    is_flag=True,
    help="Write training data: only prompts with judge scores for both tiers' answers.",
)
def export(
    config_path: Path, since: dt.timedelta | None, out: Path, form: str | None, judged: bool
) -> None:
    """Write requests to a JSONL or CSV file.

    Each line is a request with its judgements and feedback. In CSV these two are JSON. With
    --judged a line has the outcome of both models on one prompt, in the format that
    `hybrid-llm-train` reads.

    Example: hybrid-llm export --since 30d --out requests.jsonl
    """
    from proxy.cli.export import CsvLines, write_json
    from proxy.evaluation import QualityQueries, training_rows
    from proxy.storage import RequestLog, StoreUnavailable

    form = form or ("csv" if out.suffix.lower() == ".csv" else "jsonl")
    if judged and form == "csv":
        raise click.UsageError("--judged writes JSONL only")
    if str(out) != "-" and not out.parent.is_dir():  # else the error names a temporary file
        raise click.ClickException(f"{out}: the folder {out.parent} does not exist")
    config, number = load(config_path), 0
    write = CsvLines() if form == "csv" else write_json
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
                file.write(write(row))
                number += 1
    except BrokenPipeError:  # as in `export … | head`: click ends the command
        raise
    except OSError as error:
        raise click.ClickException(f"{out}: cannot be written: {error.strerror}") from None
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Wrote {number} requests to {out}.", err=True)
