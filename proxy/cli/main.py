"""The command line: init, serve, demo, check-config, route, stats, explain, export and more.

hybrid-llm serve --config configs/default.yaml
"""

import asyncio
import datetime as dt
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from proxy import __version__, logs
from proxy.budget.pricing import Price, Prices
from proxy.cli.demo import DemoNotInstalled, run_demo
from proxy.cli.init import CONFIG_FILE, InitFailed, InitOptions, run_init
from proxy.cli.stand_in import StandInFailed
from proxy.cli.tables import (
    DEFAULT_DIMENSIONS,
    DIMENSIONS,
    RouterContext,
    stats_report,
    stats_tables,
)
from proxy.config import Config, ConfigError, load_config, load_prices, pricing_path
from proxy.evaluation.calibration import (
    DEFAULT_TARGET,
    CalibrationReport,
    CalibrationTarget,
    calibrate_router,
    check_target,
    training_rows,
)
from proxy.evaluation.dataset import NotEnoughJudgements
from proxy.evaluation.explain import explain as explain_request
from proxy.evaluation.judge import JudgePriceUnknown, Summary
from proxy.evaluation.judge_queue import JudgeQueue
from proxy.evaluation.promotion import Comparison, NothingHeldOut, compare
from proxy.evaluation.queries import QualityQueries
from proxy.record import Target
from proxy.routing.router import Decision, Router, RoutingPreference
from proxy.server.app import Proxy, judge_identity, load_router, open_judge
from proxy.server.server import Server
from proxy.server.workers import Workers, is_worker, place
from proxy.storage.database import FAILURES, StoreUnavailable, open_database
from proxy.storage.maintenance import Maintenance
from proxy.storage.migrations import NEWEST, migrate
from proxy.storage.queries import RequestQueries
from proxy.storage.writer import Store
from router_model.bundled import bundled
from router_model.manifest import MANIFEST_FILE, Manifest
from router_model.model import (
    RouterModel,
    RouterModelError,
    copy_model,
    replace_calibration,
    replace_model,
)

logger = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_CONFIG: Final = Path("configs/default.yaml")
DEMO_CONFIG: Final = Path("configs/demo.yaml")


class Duration(click.ParamType[dt.timedelta]):
    """How far back: a number and m, h, d or w."""

    name = "age"
    _UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.timedelta:
        match = re.fullmatch(r"(\d{1,6})([mhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is not an age such as 90m, 24h, 7d or 4w", param, ctx)
        return dt.timedelta(**{self._UNITS[match[2]]: int(match[1])})


def _config_option(default: Path) -> Callable[[Command], Command]:
    """--config; left out, what `init` wrote here or else what the package carries."""
    own = CONFIG_FILE if default == DEFAULT_CONFIG else default
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=lambda: own if own.exists() else bundled(default),
        show_default=str(default) if own == default else f"{own} if there is one, or {default}",
        help="The configuration file.",
    )


_host_option = click.option("--host", help="Instead of server.host.")
_port_option = click.option("--port", type=click.IntRange(0, 65535), help="Instead of server.port.")


class _Group(click.Group):
    """Commands in the order in which they are defined: what a new user needs comes first."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with `hybrid-llm init`, then `hybrid-llm serve`.",
)
@click.version_option(__version__, prog_name="hybrid-llm")
def main() -> None:
    """Answer OpenAI requests locally or in the cloud, as a trained router decides."""


@main.command()
@click.option("--yes", is_flag=True, help="Ask nothing, as where no person is at a terminal.")
@click.option("--ollama", metavar="URL", help="Where Ollama answers; looked for if left out.")
@click.option("--model", help="The local model; phi3 or the smallest there if left out.")
@click.option("--cloud-model", help="The cloud's model.")
@click.option("--key-file", type=click.File(), help="Holds the cloud's key; - for standard input.")
@click.option("--client-key", is_flag=True, help="Make a key that clients must send.")
@click.option("--force", is_flag=True, help="Write over a configuration, or a key, that is there.")
def init(
    yes: bool,
    ollama: str | None,
    model: str | None,
    cloud_model: str | None,
    key_file: IO[str] | None,
    client_key: bool,
    force: bool,
) -> None:
    """Write a configuration for this machine: hybrid-llm.yaml, and keys into .env.

    Looks for Ollama (OLLAMA_BASE_URL, OLLAMA_HOST, localhost), asks on a terminal for what it does
    not find, and checks the cloud's key. A key that OPENAI_API_KEY holds already is not written.

    Example: hybrid-llm init --yes --model qwen3:4b
    """
    try:
        wishes = InitOptions(
            ollama_url=ollama,
            model=model,
            cloud_model=cloud_model,
            cloud_key=key_file.read() if key_file is not None else None,
            has_client_key=client_key,
            may_overwrite=force,
        )
        run_init(wishes, ask=not yes and sys.stdin.isatty())
    except (ConfigError, InitFailed, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_config_option(DEFAULT_CONFIG)
@_host_option
@_port_option
@click.option("--workers", type=click.IntRange(1), help="Instead of server.workers.")
def serve(config_path: Path, host: str | None, port: int | None, workers: int | None) -> None:
    """Run the proxy.

    Example: hybrid-llm serve --config configs/default.yaml --port 8080
    """
    config = _load_to_serve(config_path, host=host, port=port, workers=workers)
    try:
        if config.server.workers > 1 and not is_worker():
            _serve_by_many(config)
        else:
            Server(Proxy(config, path=config_path), place=place()).run()
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    except StoreUnavailable as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


def _serve_by_many(config: Config) -> None:
    Store(config.storage).prepare()  # once, and what is wrong with it is said once
    try:
        status = Workers(config, command=[sys.executable, "-m", "proxy.cli", *sys.argv[1:]]).run()
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {config.server.host}:{config.server.port}: {error.strerror}"
        ) from None
    raise SystemExit(status)


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
    config = _load(path)
    try:
        load_prices(pricing_path(config, path))
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    for warning in config.warnings():
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


_since_option = click.option("--since", type=Duration(), help="Only the newest: 12h, 30d.")


@main.command()
@_config_option(DEFAULT_CONFIG)
@_since_option
@click.option(
    "--by",
    "dimensions",
    type=click.Choice(list(DIMENSIONS)),
    multiple=True,
    help="Only these tables; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
def stats(
    config_path: Path, since: dt.timedelta | None, dimensions: tuple[str, ...], as_json: bool
) -> None:
    """Show requests, dollars, latencies and the answers' quality. Hours are whole ones, UTC.

    Also how far traffic of the last day (or week) is from what the router was fitted to, once there
    are 500 scored requests, and what a candidate router would have done.

    Example: hybrid-llm stats --since 7d --by tier --by day
    """
    start, by, config = _start(since), dimensions or DEFAULT_DIMENSIONS, _load(config_path)
    try:
        with RequestQueries.open(config.storage) as requests:
            context = _router_context(config, config_path)
            if as_json:
                told = stats_report(requests, by, start, context=context)
                click.echo(msgspec.json.encode(told).decode())
            else:
                shown = stats_tables(requests, by, start, context=context)
                Console(width=None if Console().is_terminal else 120).print(shown)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None


def _router_context(config: Config, path: Path) -> RouterContext:
    """What is known of the router models, and of the price of staying local."""
    candidate, live, other = config.routing.candidate, None, None
    with suppress(RouterModelError):  # the proxy's own log says why
        live = Manifest.load(config.routing.model_folder)
    try:
        if candidate is not None:
            other = Manifest.load(Path(candidate.path))
    except RouterModelError as error:
        click.echo(f"Warning: routing.candidate: {error}", err=True)
    threshold = Router(config, None, thresholds=other).threshold if other is not None else None
    try:
        listed = load_prices(pricing_path(config, path))
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
    price = Prices(tiers, listed).of(Target.LOCAL, config.upstreams.local.model)
    reference = live.reference if live is not None else None
    return RouterContext(reference, threshold, price or Price())


@main.command()
@click.argument("request_id")
@_config_option(DEFAULT_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="The whole row as JSON instead of sentences.")
def explain(request_id: str, config_path: Path, as_json: bool) -> None:
    """Tell why a request went where it went, and what became of it.

    Its id is the answer's header x-request-id.

    Example: hybrid-llm explain req_019300000000abcdef
    """
    try:
        with RequestQueries.open(_load(config_path).storage) as requests:
            row = requests.find(request_id)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
    if row is None:
        raise click.ClickException(f"there is no request {request_id}")
    click.echo(msgspec.json.encode(row).decode() if as_json else explain_request(row))


@main.command()
@_config_option(DEFAULT_CONFIG)
@_since_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write; - for standard output.",
)
@click.option(
    "--judged",
    is_flag=True,
    help="Only what a router can be trained on: both tiers' answers have a judge's score.",
)
def export(config_path: Path, since: dt.timedelta | None, out: Path, judged: bool) -> None:
    """Write requests as lines of JSON: with their judgements and feedback, or for training.

    With --judged a line is an outcome of both models on one prompt, in the format that
    `hybrid-llm-train` reads from its data folder.

    Example: hybrid-llm export --since 30d --out requests.jsonl
    """
    number = 0
    try:
        with (
            RequestQueries.open(_load(config_path).storage) as requests,
            click.open_file(str(out), "wb", atomic=True) as file,
        ):
            start = _start(since)
            quality = QualityQueries.beside(requests)
            for row in training_rows(quality.judged(start)) if judged else requests.export(start):
                file.write(msgspec.json.encode(row) + b"\n")
                number += 1
    except (OSError, StoreUnavailable) as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"Wrote {number} requests to {out}.", err=True)


@main.command()
@_config_option(DEFAULT_CONFIG)
@click.option("--once", is_flag=True, help="Judge what can be judged now, then stop.")
def judge(config_path: Path, once: bool) -> None:
    """Judge the requests that were drawn, beside the proxy or in its place.

    The proxy itself does so with `judge.enabled: true`. Caps, claims and what is done are in the
    database, so any number may work at once. On the hardware of the local tier this command does
    not give way to clients, as the proxy's own judging does.

    Example: hybrid-llm judge --once
    """
    config = _load_to_serve(config_path)
    prices = Prices(
        {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud},
        load_prices(pricing_path(config, config_path)),
    )
    database = open_database(config.storage)
    queue = JudgeQueue(database, who=judge_identity())

    async def work() -> Summary:
        worker = open_judge(config, queue, prices)
        try:
            if not once:
                await worker.run()
            return await worker.work_off()
        finally:
            await worker.close()

    try:
        with database.connection_context():
            migrate(database)
        done = asyncio.run(work())
        left = queue.count().get("pending", 0)
        verdicts, answers = queue.spent_today("judge"), queue.spent_today("shadow")
    except (ConfigError, StoreUnavailable, JudgePriceUnknown, *FAILURES) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        return
    click.echo(
        f"{done.judged} judged, {done.refused} refused, {left} pending; today verdicts have cost "
        f"{verdicts:.4f} USD and second answers {answers:.4f}"
    )


@main.group()
def db() -> None:
    """Look after the database behind storage.url.

    Example: hybrid-llm db size
    """


@db.command("size")
@_config_option(DEFAULT_CONFIG)
def db_size(config_path: Path) -> None:
    """Show how large the database and its tables are.

    Example: hybrid-llm db size
    """
    with _maintenance(config_path) as care:
        table = Table("table", "rows", box=None)
        for name, number in care.count_rows().items():
            table.add_row(name, f"{number:,}")
        Console().print(table)
        click.echo(f"{care.size_bytes() / 1e6:,.1f} MB")


@db.command("migrate")
@_config_option(DEFAULT_CONFIG)
def db_migrate(config_path: Path) -> None:
    """Bring the tables up to date, as the proxy does when it starts.

    Example: hybrid-llm db migrate
    """
    with _maintenance(config_path) as care:
        for step in care.migrate():
            click.echo(f"schema {step.number}: {step.name}")
        click.echo(f"schema {NEWEST}: up to date")


@db.command("vacuum")
@_config_option(DEFAULT_CONFIG)
def db_vacuum(config_path: Path) -> None:
    """Give back the space of deleted rows. SQLite: nobody can write meanwhile.

    Example: hybrid-llm db vacuum
    """
    with _maintenance(config_path) as care:
        before = care.size_bytes()
        care.vacuum()
        click.echo(f"{before / 1e6:,.1f} MB before, {care.size_bytes() / 1e6:,.1f} MB now")


@db.command("check")
@_config_option(DEFAULT_CONFIG)
@click.option("--repair", is_flag=True, help="Count the sums anew where they are wrong.")
def db_check(config_path: Path, repair: bool) -> None:
    """Check the file, and the sums by the hour against the rows; exit 1 when something is wrong.

    Example: hybrid-llm db check
    """
    with _maintenance(config_path) as care:
        wrong = care.check(repair=repair)
    for one in wrong:
        click.echo(one)
    if wrong and not repair:
        raise SystemExit(1)
    click.echo("repaired" if wrong else "ok")


@contextmanager
def _maintenance(config_path: Path) -> Iterator[Maintenance]:
    try:
        with Maintenance.of(_load(config_path).storage) as care:
            yield care
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None


def _start(since: dt.timedelta | None) -> float:
    """UNIX seconds, so long ago."""
    return 0.0 if since is None else (dt.datetime.now(dt.UTC) - since).timestamp()


@main.command()
@click.option("--from-db", is_flag=True, required=True, help="From the requests in storage.url.")
@_config_option(DEFAULT_CONFIG)
@_since_option
@click.option(
    "--quality",
    type=click.FloatRange(0, 1),
    help="The threshold is to recover this share of the quality gap; 0.75 if left out.",
)
@click.option(
    "--cost",
    type=click.FloatRange(0, 1),
    help="Instead: it may cost this share of sending everything to the cloud.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the new router model; beside the present one if left out.",
)
@click.option("--apply", is_flag=True, help="Change the router model in use instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def calibrate(
    from_db: bool,
    config_path: Path,
    since: dt.timedelta | None,
    quality: float | None,
    cost: float | None,
    out: Path | None,
    apply: bool,
    as_json: bool,
) -> None:
    """Fit the router to your own models and traffic, from requests that a judge scored.

    Needs 100 requests whose answers of both tiers have a score in the table judgements. Writes a
    router model of its own for the configured pair, and nothing changes until routing.model_path
    names it; with --apply a proxy that runs takes it up at once.

    Example: hybrid-llm calibrate --from-db --since 30d --quality 0.9
    """
    if quality is not None and cost is not None:
        raise click.UsageError("--quality and --cost are two aims; one threshold has one")
    if apply and out is not None:
        raise click.UsageError("--apply changes the model in use; --out writes another one")
    aim = DEFAULT_TARGET if quality is None else CalibrationTarget("quality", quality)
    if cost is not None:
        aim = CalibrationTarget("cost", cost)
    config = _load(config_path)
    source = Path(config.routing.model_path)
    now = dt.datetime.now(dt.UTC)
    target = out or source.with_name(f"{source.name}-{_file_name(config.upstreams.local.model)}")
    try:
        if not apply:
            check_target(target)
        with QualityQueries.open(config.storage) as queries:
            judged, rated = queries.judged(_start(since)), queries.rated(_start(since))
        used = config.routing.model_folder
        manifest, report = calibrate_router(
            RouterModel.load(used), judged, config=config, now=now, rated=rated, aim=aim
        )
        if apply:
            _copy_bundled(used, source)
            target, previous = source, replace_calibration(manifest, source)
        else:
            copy_model(manifest, used, target)
    except (OSError, RouterModelError, StoreUnavailable, NotEnoughJudgements) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(msgspec.json.encode({"model_path": str(target), **report._asdict()}).decode())
    else:
        Console(width=None if Console().is_terminal else 120).print(_recalibrated(report))
        if apply:
            click.echo(f"In use: {source}. To go back: cp {previous} {source / MANIFEST_FILE}")
        else:
            click.echo(
                f"Wrote {target}. To use it: `model_path: {target}` under routing in "
                f"{config_path}, or `hybrid-llm promote {target}`."
            )
    _say_if_overruled(config, config_path)


def _copy_bundled(used: Path, folder: Path) -> None:
    """Put the router model that the package carries where it can be replaced, if it is in use."""
    if used != folder:
        copy_model(Manifest.load(used), used, folder)


def _say_if_overruled(config: Config, config_path: Path) -> None:
    if config.routing.threshold != "auto":
        click.echo(
            f"{config_path}: routing.threshold: {config.routing.threshold:g} overrules the "
            "router model's own threshold; auto does not",
            err=True,
        )


def _recalibrated(report: CalibrationReport) -> Table:
    at, kept = report.operating_point, report.held_out_point
    area, low, high = report.auroc_local
    rows = {
        "good local answers": f"{report.local_ok_share:.0%}",
        "cloud strictly better": f"{report.cloud_better_share:.0%}",
        "AUROC of p_local": f"{area:.3f} [{low:.3f}, {high:.3f}]",
        "log loss of the score": _change(report.log_loss_before, report.log_loss_after),
        "calibration error (ECE)": _change(report.ece_before, report.ece_after),
        "threshold": f"{report.threshold:.4f}, before {report.threshold_before:.4f}",
        "why": report.threshold_why,
        "stay local": f"{at.local_share:.0%}",
        "of the all-cloud dollars": _share_of(at.cost_share, at.cost_interval),
        "of the quality gap recovered": _share_of(at.quality_share, at.quality_interval),
        "settled": _settled(report),
    }
    if kept is not None:
        rows[f"on {report.held_out} held-out requests"] = (
            f"{_share_of(kept.cost_share, kept.cost_interval)} of the dollars, "
            f"{_share_of(kept.quality_share, kept.quality_interval)} of the gap"
        )
    table = Table(
        title=f"{report.fitted} of {report.requests} judged requests, {report.ratings} ratings · "
        f"{report.local_model} against {report.cloud_model} · \\[low, high]: 95 %, bootstrap",
        title_justify="left",
        show_header=False,
        box=None,
    )
    for name, shown in rows.items():
        table.add_row(name, shown)
    return table


def _settled(report: CalibrationReport) -> str:
    if report.is_settled:
        return f"yes, the whole interval meets {report.aim}"
    sure = "no threshold's does"
    if report.sure_threshold is not None:
        sure = f"{report.sure_threshold:.4f} is where it does"
    return f"no, the interval does not meet {report.aim} as a whole; {sure}"


@main.command()
@click.argument("candidate", type=click.Path(path_type=Path, file_okay=False))
@_config_option(DEFAULT_CONFIG)
@_since_option
@click.option("--force", is_flag=True, help="Promote it whatever the comparison says.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def promote(
    candidate: Path, config_path: Path, since: dt.timedelta | None, force: bool, as_json: bool
) -> None:
    """Put another router model in place of the one in use if it is better on your own traffic.

    Both score the judged requests that no router was fitted to, 100 at least. Exit status 1 and no
    change unless the 95 % interval of the difference lies above 0. A proxy that runs takes the new
    one up without a restart; the old one is kept beside it.

    Example: hybrid-llm promote data/models/candidate --since 30d
    """
    config = _load(config_path)
    folder = Path(config.routing.model_path)
    comparison: Comparison | None = None
    refusal = ""
    try:
        used = config.routing.model_folder
        models = RouterModel.load(used), RouterModel.load(candidate)
        try:
            with QualityQueries.open(config.storage) as queries:
                judged = queries.judged()
            comparison = compare(*models, judged, config=config, since=_start(since))
        except (NothingHeldOut, StoreUnavailable, NotEnoughJudgements) as error:
            refusal = str(error)
        is_promoted = force or (comparison is not None and comparison.is_better)
        if is_promoted:
            _copy_bundled(used, folder)
        previous = replace_model(candidate, folder) if is_promoted else None
    except (OSError, RouterModelError) as error:
        raise click.ClickException(str(error)) from error
    why = comparison.why if comparison is not None else refusal
    if as_json:
        found = comparison._asdict() if comparison is not None else {"why": why}
        told = {"promoted": is_promoted, "previous": str(previous) if previous else None, **found}
        click.echo(msgspec.json.encode(told).decode())
    else:
        if comparison is not None:
            Console(width=None if Console().is_terminal else 120).print(_compared(comparison))
        click.echo(f"{'Promoted' if is_promoted else 'Not promoted'}: {why}.")
        if previous is not None:
            click.echo(
                f"In use: {folder}. To go back: hybrid-llm promote {previous} --force "
                f"--config {config_path}"
            )
    if not is_promoted:
        raise SystemExit(1)
    _say_if_overruled(config, config_path)


def _compared(found: Comparison) -> Table:
    table = Table(
        title=f"{found.held_out} held-out of {found.judged} judged requests, "
        f"{found.conversations} conversations · decided by {found.measure} · 95 %, bootstrap",
        title_justify="left",
        box=None,
    )
    for name in ("", "version", "APGR", "log loss", "threshold", "of the dollars", "of the gap"):
        table.add_column(name)
    for name, one in (("current", found.current), ("candidate", found.candidate)):
        at = one.at_threshold
        table.add_row(
            name,
            one.version,
            f"{one.apgr:.4f}",
            f"{one.log_loss:.4f}",
            f"{at.threshold:.4f}",
            _share_of(at.cost_share, at.cost_interval),
            _share_of(at.quality_share, at.quality_interval),
        )
    return table


def _change(before: float, after: float) -> str:
    return f"{after:.4f} (cross-validated), before {before:.4f}"


def _share_of(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.0%} [{interval[0]:.0%}, {interval[1]:.0%}]"


def _file_name(model: str) -> str:
    """A model's name as part of a file's: `hf.co/org/phi4:latest` is `hf.co-org-phi4`."""
    return re.sub(r"[^\w.-]+", "-", model.removesuffix(":latest")).strip("-.")


async def _decide_twice(router: Router, text: str) -> tuple[Decision, float]:
    """A decision and its milliseconds. The first run pays for memory that all others reuse."""
    turns = [("user", text)]
    await router.decide(RoutingPreference(), turns)
    started = time.perf_counter()
    decision = await router.decide(RoutingPreference(), turns)
    latency_ms = (time.perf_counter() - started) * 1e3
    router.close()
    return decision, latency_ms


def _load(path: Path, **given: Any) -> Config:
    try:
        return load_config(path, **given)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None


def _load_to_serve(path: Path, **given: Any) -> Config:
    """The configuration, with the options over it; its warnings go to the log."""
    config = _load(path, **given)
    logs.set_up(config.logging)
    if not is_worker():  # a worker's have been said
        for warning in config.warnings():
            logger.warning("%s: %s", path, warning)
    return config
