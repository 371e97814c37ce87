"""The commands that improve the router from live traffic: judge, calibrate, promote and learn."""

import asyncio
import contextlib
import datetime as dt
import math
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.core import ParameterSource

from proxy.cli.options import (
    config_option,
    json_option,
    load,
    load_configured_prices,
    load_to_serve,
    since_option,
    start_of,
)
from proxy.plain_text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.config import Config
    from proxy.evaluation import JudgeQueue, JudgingSummary, RouterComparison
    from proxy.learning import LearningRecords


_PROGRESS_SECONDS: Final = 10.0
_MAX_PROBLEMS: Final = 3  # kinds of problems to print


@click.command()
@config_option()
@click.option("--once", is_flag=True, help="Judge all pending requests, then exit.")
def judge(config_path: Path, once: bool) -> None:
    """Judge sampled requests in a process of its own.

    The proxy itself judges with `judge.enabled: true`. Caps, claims and results are in the
    database, so any number of these processes may run at once. Unlike the proxy's own judging,
    client requests do not interrupt this command on the local tier's hardware.

    Example: hybrid-llm judge --once
    """
    config = load_to_serve(config_path)

    from proxy.config import ConfigError
    from proxy.evaluation import JudgePriceUnknown, JudgeQueue
    from proxy.server import judge_identity, open_judge
    from proxy.storage import FAILURES, StoreUnavailable, migrate, open_database

    prices = load_configured_prices(config, config_path)
    try:
        database = open_database(config.storage)
    except StoreUnavailable as error:
        raise click.ClickException(str(error)) from None
    queue = JudgeQueue(database, worker=judge_identity())

    async def work() -> "JudgingSummary":
        worker = open_judge(config, queue, prices)
        try:
            if not once:
                pending = queue.count().get("pending", 0)
                click.echo(
                    f"Judging with {config.judge.model}: {pending} pending. Stop with Ctrl+C."
                )
                await worker.run(on_step=_JudgingProgress(queue))
            return await worker.judge_pending()
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
        f"{done.judged} judged, {done.refused} refused, {left} pending. "
        f"Cost today: {verdicts:.4f} USD for verdicts, {answers:.4f} USD for second answers."
    )
    for problem, number in Counter(done.problems).most_common(_MAX_PROBLEMS):
        click.echo(f"  {number} x {printable(problem)}")


class _JudgingProgress:
    """Prints a line when samples were judged, at most one in ten seconds."""

    def __init__(self, queue: "JudgeQueue") -> None:
        self._queue = queue
        self._judged = self._refused = self._put_off = 0
        self._is_shown = True
        self._shown_at = -math.inf

    def __call__(self, summary: "JudgingSummary") -> None:
        self._judged += summary.judged
        self._refused += summary.refused
        self._put_off += summary.put_off
        self._is_shown = self._is_shown and not any(summary[:3])
        if self._is_shown or time.monotonic() - self._shown_at < _PROGRESS_SECONDS:
            return
        self._is_shown, self._shown_at = True, time.monotonic()
        click.echo(
            f"{self._judged} judged, {self._refused} refused, {self._put_off} put off, "
            f"{self._queue.count().get('pending', 0)} pending"
        )


@click.command()
@click.option(
    "--from-db", is_flag=True, required=True, help="Use the requests in the database (storage.url)."
)
@config_option()
@since_option
@click.option(
    "--quality",
    type=click.FloatRange(0, 1),
    help="Choose the threshold that recovers this share of the quality gap. Default: 0.75.",
)
@click.option(
    "--cost",
    type=click.FloatRange(0, 1),
    help="Choose the threshold that costs at most this share of sending everything to the cloud.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the new router model. Default: next to the current one.",
)
@click.option("--apply", is_flag=True, help="Change the router model in use instead.")
@json_option
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
    """Calibrate the router to your own models and traffic.

    Needs at least 100 requests with judge scores for both tiers' answers. The command writes a new
    router model for the configured models. It has no effect until routing.model_path names it.
    With --apply a running proxy loads the new calibration at once.

    Example: hybrid-llm calibrate --from-db --since 30d --quality 0.9
    """
    if quality is not None and cost is not None:
        raise click.UsageError("use either --quality or --cost: a threshold has one target")
    if apply and out is not None:
        raise click.UsageError(
            "use either --apply or --out: --apply changes the model in use, --out writes a new one"
        )
    import msgspec
    from rich.console import Console

    from proxy.cli.tables import calibration_table
    from proxy.evaluation import (
        DEFAULT_TARGET,
        CalibrationTarget,
        ChoiceQueries,
        NotEnoughJudgements,
        QualityQueries,
        calibrate_router,
        check_target,
    )
    from proxy.storage import StoreUnavailable
    from router_model.manifest import MANIFEST_FILE
    from router_model.model import (
        RouterModel,
        RouterModelError,
        copy_model,
        replace_calibration,
    )

    aim = DEFAULT_TARGET if quality is None else CalibrationTarget("quality", quality)
    if cost is not None:
        aim = CalibrationTarget("cost", cost)
    config = load(config_path)
    prices = load_configured_prices(config, config_path)
    source = Path(config.routing.model_path)
    now = dt.datetime.now(dt.UTC)
    target = out or source.with_name(f"{source.name}-{_file_name(config.upstreams.local.model)}")
    try:
        if not apply:
            check_target(target)
        with QualityQueries.open(config.storage) as queries:
            judged, rated = (
                queries.judged_requests(start_of(since)),
                queries.rated_requests(start_of(since)),
            )
            chosen = ChoiceQueries.sharing(queries).chosen_requests(start_of(since))
        used = config.routing.model_folder
        manifest, report = calibrate_router(
            RouterModel.load(used),
            judged,
            config=config,
            now=now,
            rated=rated,
            chosen=chosen,
            aim=aim,
            prices=prices.cloud_usd_per_token,
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
        Console(width=None if Console().is_terminal else 120).print(calibration_table(report))
        if apply:
            click.echo(f"In use: {source}. To go back: cp {previous} {source / MANIFEST_FILE}")
        else:
            click.echo(
                f"Wrote {target}. To use it: `model_path: {target}` under routing in "
                f"{config_path}, or `hybrid-llm promote {target}`."
            )
    _warn_of_fixed_threshold(config, config_path)


@click.command()
@click.argument("candidate", type=click.Path(path_type=Path, file_okay=False))
@config_option()
@since_option
@click.option("--force", is_flag=True, help="Promote without regard to the comparison.")
@json_option
def promote(
    candidate: Path, config_path: Path, since: dt.timedelta | None, force: bool, as_json: bool
) -> None:
    """Replace the router model in use by a better one.

    Both models score the held-out judged requests, at least 100. A router with a gain per dollar
    is judged by the quality that it recovers at the dollars that you spend now. The command
    promotes the candidate only if the 95 % interval of the difference is above 0. Otherwise
    nothing changes and the exit status is 1. A running proxy loads the new model without a
    restart. The old one is kept next to it.

    Example: hybrid-llm promote data/models/candidate --since 30d
    """
    import msgspec
    from rich.console import Console

    from proxy.cli.tables import promotion_table
    from proxy.evaluation import (
        NotEnoughJudgements,
        NothingHeldOut,
        QualityQueries,
        compare_routers,
    )
    from proxy.storage import StoreUnavailable
    from router_model.model import RouterModel, RouterModelError, replace_model

    config = load(config_path)
    prices = load_configured_prices(config, config_path).cloud_usd_per_token
    folder = Path(config.routing.model_path)
    comparison: RouterComparison | None = None
    refusal = ""
    try:
        used = config.routing.model_folder
        models = RouterModel.load(used), RouterModel.load(candidate)
        try:
            with QualityQueries.open(config.storage) as queries:
                judged = queries.judged_requests()
            comparison = compare_routers(
                *models, judged, config=config, since=start_of(since), prices=prices
            )
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
        result = {"promoted": is_promoted, "previous": str(previous) if previous else None}
        result |= comparison._asdict() if comparison is not None else {"why": why}
        click.echo(msgspec.json.encode(result).decode())
    else:
        if comparison is not None:
            Console(width=None if Console().is_terminal else 120).print(promotion_table(comparison))
        click.echo(f"{'Promoted' if is_promoted else 'Not promoted'}: {why}.")
        if previous is not None:
            click.echo(
                f"In use: {folder}. To go back: hybrid-llm promote {previous} --force "
                f"--config {config_path}"
            )
    if not is_promoted:
        raise SystemExit(1)
    _warn_of_fixed_threshold(config, config_path)


def _copy_bundled(used: Path, folder: Path) -> None:
    """Copy the bundled router model to `folder`, where it can be replaced, if it is in use."""
    from router_model.manifest import Manifest
    from router_model.model import copy_model

    if used != folder:
        copy_model(Manifest.load(used), used, folder)


def _warn_of_fixed_threshold(config: "Config", config_path: Path) -> None:
    if config.routing.threshold != "auto":
        click.echo(
            f"{config_path}: routing.threshold: {config.routing.threshold:g} overrides the "
            "threshold of the router model; set it to auto to use the model's",
            err=True,
        )


def _file_name(model: str) -> str:
    """A model's name as part of a file's: `hf.co/org/phi4:latest` is `hf.co-org-phi4`."""
    return re.sub(r"[^\w.-]+", "-", model.removesuffix(":latest")).strip("-.")


@click.group(invoke_without_command=True)
@config_option()
@json_option
@click.pass_context
def learn(context: click.Context, config_path: Path, as_json: bool) -> None:
    """Show or change the state of self-calibration.

    Without a subcommand: what is calibrated for the configured models, the judged pairs collected
    for the next fit, and the last steps with their intervals and decisions.

    Example: hybrid-llm learn
    """
    if context.invoked_subcommand is not None:
        if context.get_parameter_source("config_path") is not ParameterSource.DEFAULT:
            raise click.UsageError(f"put --config after {context.invoked_subcommand}")
        return
    import msgspec
    from rich.console import Console

    from proxy.cli.tables import learning_table
    from proxy.learning import read_state
    from router_model.manifest import Manifest

    with _learning(config_path) as (config, records):
        manifest = Manifest.load(config.routing.model_folder)
        ranked = manifest.for_objective(config.routing.objective)
        state = read_state(records, manifest=ranked, config=config)
    if as_json:
        click.echo(msgspec.json.encode(state).decode())
    else:
        Console(width=None if Console().is_terminal else 120).print(learning_table(state))


@learn.command()
@config_option()
@click.option("--id", "step_id", type=int, hidden=True, help="A step that is claimed already.")
def step(config_path: Path, step_id: int | None) -> None:
    """Fit and test now, also if learning.auto is off. Takes up to some minutes of one core.

    The proxy does this by itself when enough new pairs are judged. Each test makes the next ones
    of the same models stricter.

    Example: hybrid-llm learn step
    """
    from proxy.evaluation import QualityQueries
    from proxy.learning import Models, run_step
    from router_model.manifest import Manifest

    with _learning(config_path) as (config, records):
        prices = load_configured_prices(config, config_path).cloud_usd_per_token
        if step_id is None:
            version = Manifest.load(config.routing.model_folder).version
            step_id = records.claim(Models.of(config), version=version, is_forced=True)
        if step_id is None:
            raise click.ClickException("another step is running")
        with QualityQueries.open(config.storage) as quality:
            done = run_step(records, step_id, config=config, prices=prices, quality=quality)
    click.echo(f"Step {done.id}, {done.decision}: {done.why}.")


@learn.command()
@config_option()
def apply(config_path: Path) -> None:
    """Activate the last fit that was suggested. A running proxy loads it at once.

    Example: hybrid-llm learn apply
    """
    from proxy.learning import activate

    with _learning(config_path) as (config, records):
        manifest = activate(records, config)
    click.echo(f"In use: {manifest.version}. To go back: hybrid-llm learn rollback")
    _warn_of_fixed_threshold(config, config_path)


@learn.command()
@config_option()
def rollback(config_path: Path) -> None:
    """Undo the last activation. A running proxy loads the router from before it at once.

    Later fits of these models are tested only on conversations from now on, so the same fit is not
    activated again. Repeat the command to undo earlier activations.

    Example: hybrid-llm learn rollback
    """
    from proxy.learning import roll_back

    with _learning(config_path) as (config, records):
        manifest = roll_back(records, config)
    click.echo(f"In use: {manifest.version}.")


@contextlib.contextmanager
def _learning(config_path: Path) -> "Iterator[tuple[Config, LearningRecords]]":
    """The configuration and the records of its database. Errors end the command."""
    config = load(config_path)

    from proxy.learning import LearningRecords, NothingToChange
    from proxy.server import judge_identity
    from proxy.storage import Maintenance, StoreUnavailable, close_all, open_database
    from router_model.model import RouterModelError

    try:
        with Maintenance.open(config.storage) as maintenance:
            maintenance.migrate()
        database = open_database(config.storage)
        try:
            yield config, LearningRecords(database, worker=judge_identity())
        finally:
            close_all(database)
    except (OSError, RouterModelError, StoreUnavailable, NothingToChange) as error:
        raise click.ClickException(str(error)) from error
