"""The command line: `hybrid-llm-train prepare | train | export | evaluate | … | all`.

`all` runs every step in order and skips finished, unchanged ones. Working files are in data/work
and data/runs (not committed), results in data/models/router and data/results. The commands that
analyse a finished model are in training/analysis.py.
"""

import ctypes
import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from router_model.manifest import MANIFEST_FILE
from router_model.model import RouterModel
from training import analysis, dataset, live, options
from training import prepare as preparing
from training.dataset import DataError, Prepared
from training.prepare import FETCHABLE
from training.progress import Steps, say
from training.results import write
from training.sources.fetch import DEFAULT_BASE

F = TypeVar("F", bound=Callable[..., Any])


_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with router_pairs.jsonl.gz, other_pairs.jsonl.gz or your own data.",
)
# Default paths for a router trained on live traffic. They do not overwrite the published files or
# the model in use, which only `hybrid-llm promote` replaces.
_LIVE_TRAFFIC_PATHS: dict[str, Any] = {
    "prepared": options.PREPARED.with_name("own.msgpack.gz"),
    "run_name": "own",
    "model": options.MODEL.with_name("candidate"),
    "results": options.PREPARED.with_name("own-results"),
}


def _fetch_options(command: F) -> F:
    for option in (
        click.option(
            "--from-db",
            "databases",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            help="SQLite database of a proxy, for its judged requests. Repeatable. The model is "
            "then written to data/models/candidate, the other files beside the published ones.",
        ),
        click.option(
            "--fetch",
            "fetched",
            multiple=True,
            type=click.Choice(sorted(FETCHABLE)),
            help="Download a public data set into the folder first. Repeatable.",
        ),
        click.option(
            "--fetch-base",
            default=DEFAULT_BASE,
            show_default=True,
            help="Base URL of the public repositories' files.",
        ),
    ):
        command = option(command)
    return command


_out = click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Output file. Default for the test split: data/results/evaluation.json.",
)


def _training_options(command: F) -> F:
    for option in (
        click.option(
            "--base",
            default="minilm",
            show_default=True,
            help="Base model: minilm (packaged), or a hub name such as distilbert-base-uncased.",
        ),
        click.option(
            "--layers",
            type=click.IntRange(min=1),
            default=6,
            show_default=True,
            help="Number of the base's layers to keep, from the first.",
        ),
        click.option(
            "--frozen-layers",
            type=click.IntRange(min=0),
            default=2,
            show_default=True,
            help="Number of first layers that stay as in the base, with the embeddings.",
        ),
        click.option("--epochs", default=3, show_default=True, help="Number of epochs."),
        click.option("--seed", default=0, show_default=True, help="Random seed."),
        click.option(
            "--auxiliary/--no-auxiliary",
            default=False,
            show_default=True,
            help="Also learn from other model pairs in the data.",
        ),
        click.option(
            "--train-share",
            default=1.0,
            show_default=True,
            type=click.FloatRange(0, 1, min_open=True),
            help="Share of the training prompts to use; shows what more data would bring.",
        ),
        click.option(
            "--max-length", default=192, show_default=True, help="Maximum tokens per prompt."
        ),
        click.option("--threads", default=0, help="CPU threads; 0 uses one per core."),
    ):
        command = option(command)
    return command


_PAIR = {"local_model": "phi3", "cloud_model": "gpt-4o-mini"}


def _export_options(command: F) -> F:
    for option in (
        click.option("--version", default="", help="Version of the model. Default: today's date."),
        *(
            click.option(
                f"--{tier}-model",
                default=_PAIR[f"{tier}_model"],
                show_default=True,
                help=f"{tier.capitalize()} model.",
            )
            for tier in ("local", "cloud")
        ),
    ):
        command = option(command)
    return command


class _Commands(click.Group):
    """Reports errors that the user can fix as one line, with exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, FileNotFoundError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
def main() -> None:
    """Train the router, from outcome data to a model that the proxy loads.

    Example: hybrid-llm-train all --data ~/outcomes
    """


for _command in (*analysis.COMMANDS, *live.COMMANDS):
    main.add_command(_command)


@main.command()
@_data
@options.estimated
@options.prepared
@options.results
@_fetch_options
@click.pass_context
def prepare(
    ctx: click.Context,
    /,
    data: Path | None,
    estimated: tuple[Path, ...],
    **chosen: Any,
) -> None:
    """Convert a folder of outcome data into one prepared file with a data card.

    Example: hybrid-llm-train prepare --data ~/outcomes
    """
    chosen = _with_default_paths(ctx, data, chosen)
    prepared, results = chosen.pop("prepared"), chosen.pop("results")
    _prepare(data, estimated, prepared, results, chosen)


@main.command()
@options.prepared
@options.run
@_training_options
def train(prepared: Path, run_name: str, **options: Any) -> None:
    """Train on the prepared rows. A rerun resumes after the last finished epoch.

    Example: hybrid-llm-train train --epochs 3
    """
    _train(dataset.load(prepared), run_name, options)


@main.command("learning-curve")
@options.prepared
@options.results
@click.option("--shares", default="0.25,0.5,1", show_default=True, help="Train split shares.")
@click.option("--seeds", default=3, show_default=True, help="Number of trainings per share.")
@click.option("--base", default="minilm", show_default=True, help="Base model, as in train.")
@click.option("--epochs", default=3, show_default=True, help="Number of epochs.")
@click.option("--max-length", default=192, show_default=True, help="Maximum tokens per prompt.")
def learning_curve(prepared: Path, results: Path, shares: str, seeds: int, **settings: Any) -> None:
    """Train on shares of the data with several seeds, to show what more data would bring.

    Takes hours on two cores. A rerun resumes. `train --run seed-0` is one of its runs.

    Example: hybrid-llm-train learning-curve --shares 0.5,1 --seeds 2
    """
    _prepare_to_train(threads=0)
    from training import learning_curve as curve
    from training.train import TrainConfig

    try:
        train_shares = [float(share) for share in shares.split(",")]
    except ValueError:
        train_shares = []
    if not train_shares or not all(0 < share <= 1 for share in train_shares):
        raise click.BadParameter(f"{shares!r} is not a list of shares, as in 0.25,0.5,1")
    report = curve.learn(
        dataset.load(prepared),
        options.RUNS,
        shares=train_shares,
        seeds=range(seeds),
        config=TrainConfig(**settings),
        command=options.this_command(),
    )
    write(results / "learning_curve.json", report)
    curve.show(report)


@main.command()
@options.prepared
@options.run
@options.results
@click.option("--name", default="", help="Name in the table. Default: the run's, or the version.")
@click.option(
    "--model",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Measure an exported model instead of training a recipe.",
)
@click.option(
    "--own", is_flag=True, help="Also train without each source of the routed pair in turn."
)
@_training_options
def transfer(
    prepared: Path,
    run_name: str,
    results: Path,
    name: str,
    folder: Path | None,
    own: bool,
    **settings: Any,
) -> None:
    """Measure how well a recipe ranks prompts of sources that it was not trained on.

    Trains the recipe of the options, and again without what it holds out. A rerun resumes.
    With --model, the benchmarks may have been in the model's training; the table says so.

    Example: hybrid-llm-train transfer --run plain
    """
    from training import transfer as held_out

    rows = dataset.load(prepared)
    parts, unseen = held_out.benchmarks(rows), held_out.unseen_sources(rows)
    of_own: dict[str, Any] = {}
    if folder is not None:
        router = analysis.load_model(folder)
        of_benchmarks = held_out.measure(parts, router)
        has_seen = router.manifest.metrics.get("recipe", {}).get("auxiliary", True)
        name = name or router.manifest.version
    else:

        def trained(data: Prepared, run: str) -> RouterModel:
            _train(data, run, dict(settings))
            target = options.RUNS / run / "model"
            _export_if_needed(data, run, target, {"version": run, **_PAIR})
            return analysis.load_model(target)

        router, has_seen, name = trained(rows, run_name), False, name or run_name
        if settings["auxiliary"]:
            of_benchmarks = {}
            for number in range(held_out.FOLDS):
                left = held_out.fold(parts, number)
                data = held_out.without_benchmarks(rows, left)
                of_benchmarks |= held_out.measure(left, trained(data, f"{run_name}-fold-{number}"))
        else:
            of_benchmarks = held_out.measure(parts, router)
        for source in held_out.own_sources(rows) if own else ():
            data, part = held_out.without_source(rows, source)
            of_own |= held_out.measure([part], trained(data, f"{run_name}-without-{source}"))
    new = held_out.entry(
        name,
        of_benchmarks,
        unseen=held_out.measure(unseen, router),
        own=of_own,
        has_seen=has_seen,
        command=options.this_command(),
        validation=router.manifest.metrics.get("validation", {}),
    )
    path = results / "transfer.json"
    report = held_out.merged(path, rows, new)
    write(path, report)
    held_out.show(report)


@main.command()
@options.prepared
@options.run
@options.model
@_export_options
def export(prepared: Path, run_name: str, model: Path, **options: str) -> None:
    """Quantise the best epoch to int8, calibrate it, and write the model folder.

    Example: hybrid-llm-train export --version 2026-11-23
    """
    _export(dataset.load(prepared), run_name, model, options)


@main.command()
@options.prepared
@options.model
@options.split("test")
@_out
def evaluate(prepared: Path, model: Path, split: dataset.Split, out: Path | None) -> None:
    """Evaluate the exported model on held-out prompts.

    Example: hybrid-llm-train evaluate --split validation
    """
    _evaluate(dataset.load(prepared), model, split, out)


@main.command(name="all")
@_data
@options.estimated
@options.prepared
@options.run
@options.model
@options.results
@options.split("test")
@_fetch_options
@_training_options
@_export_options
@click.pass_context
def all_steps(
    ctx: click.Context,
    /,
    data: Path | None,
    estimated: tuple[Path, ...],
    split: dataset.Split,
    **chosen: Any,
) -> None:
    """Run all steps from data to report; finished steps are skipped.

    With --from-db, train a router on your own traffic for `hybrid-llm promote`. The run then ends
    with the export: `promote` evaluates the model on held-out traffic.

    Example: hybrid-llm-train all --data ~/outcomes --from-db data/router.db
    """
    chosen = _with_default_paths(ctx, data, chosen)
    path_options = ("prepared", "run_name", "model", "results")
    prepared, run_name, model, results = (chosen.pop(name) for name in path_options)
    fetch_options = {name: chosen.pop(name) for name in ("databases", "fetched", "fetch_base")}
    export_names = ("version", "local_model", "cloud_model")
    export_options = {name: chosen.pop(name) for name in export_names}
    is_own = bool(fetch_options["databases"])
    measured = () if is_own else (*analysis.MEASURED, "report")
    steps = Steps("prepare", "train", "export", *measured)
    with steps("prepare"):
        rows = _prepare(data, estimated, prepared, results, fetch_options)
    with steps("train"):
        _train(rows, run_name, chosen)
    with steps("export"):
        _export_if_needed(rows, run_name, model, export_options)
    if is_own:
        steps.show()
        say(f"To use it if it is better: hybrid-llm promote {model}")
        return
    router = analysis.load_model(model)
    cache = analysis.cache_beside(prepared)
    for name in analysis.MEASURED:
        with steps(name):
            analysis.measure_if_needed(
                name, rows, router, split=split, results=results, cache=cache
            )
    with steps("report"):
        analysis.write_report(results)
    steps.show()


def _with_default_paths(
    ctx: click.Context, data: Path | None, chosen: dict[str, Any]
) -> dict[str, Any]:
    """The options, with other default paths for a router trained on live traffic."""
    if data is None and not chosen["databases"]:
        raise click.UsageError("use --data FOLDER, --from-db DATABASE, or both")
    if data is None and chosen["fetched"]:
        raise click.UsageError("--fetch needs --data: it downloads into that folder")
    if not chosen["databases"]:
        return chosen
    return {
        name: _LIVE_TRAFFIC_PATHS[name]
        if name in _LIVE_TRAFFIC_PATHS
        and ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT
        else value
        for name, value in chosen.items()
    }


def _prepare(
    data: Path | None,
    estimated: tuple[Path, ...],
    target: Path,
    results: Path,
    fetch_options: dict[str, Any],
) -> Prepared:
    return preparing.prepare(
        data,
        estimated,
        target=target,
        card=results / "data_card.json",
        command=options.this_command(),
        **fetch_options,
    )


def _train(prepared: Prepared, run_name: str, settings: dict[str, Any]) -> None:
    if not [row for row in prepared.of("validation", auxiliary=False) if not row.weak]:
        raise DataError(
            f"none of the {len(prepared.rows)} prompts is in the validation part (a tenth of "
            "them), which training needs for model selection and calibration; use a few hundred"
        )
    _prepare_to_train(threads=settings.pop("threads"))
    from training.train import TrainConfig
    from training.train import train as fit

    best = fit(prepared, options.RUNS / run_name, config=TrainConfig(**settings))
    say(f"train: best is {best}")


def _export(prepared: Prepared, run_name: str, model: Path, settings: dict[str, str]) -> None:
    from training.export import ExportError
    from training.export import export as write

    today = dt.datetime.now(dt.UTC)
    try:
        manifest = write(
            prepared,
            options.RUNS / run_name,
            target=model,
            version=settings["version"] or today.date().isoformat(),
            created_at=today.isoformat(timespec="seconds"),
            local_model=settings["local_model"],
            cloud_model=settings["cloud_model"],
        )
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    say(f"export: {model}, threshold {manifest.threshold:.4f}, {manifest.metrics['validation']}")


def _export_if_needed(
    prepared: Prepared, run_name: str, model: Path, export_options: dict[str, str]
) -> None:
    """Export unless the folder has the export of this checkpoint with these options."""
    from training.train import best_checkpoint

    stamp = options.RUNS / run_name / "exported.json"
    expected = {
        "checkpoint_sha256": dataset.sha256_of([best_checkpoint(options.RUNS / run_name)]),
        "data_sha256": prepared.data_sha256,
        **export_options,
    }
    manifest = model / MANIFEST_FILE
    if stamp.exists() and manifest.exists():
        exported = msgspec.json.decode(stamp.read_bytes())
        if exported == expected | {"manifest_sha256": dataset.sha256_of([manifest])}:
            say(f"export: {model} is up to date")
            return
    _export(prepared, run_name, model, export_options)
    expected["manifest_sha256"] = dataset.sha256_of([manifest])
    stamp.write_bytes(msgspec.json.encode(expected))


def _evaluate(prepared: Prepared, model: Path, split: dataset.Split, out: Path | None) -> None:
    from training.evaluate import evaluate as measure
    from training.evaluate import load_checks, show

    router = analysis.load_model(model)
    report = measure(
        prepared,
        router,
        split=split,
        checks=load_checks(options.CHECKS),
        command=options.this_command(),
    )
    if out is None and split == "test":
        out = options.RESULTS / "evaluation.json"
    if out is not None:
        write(out, report)
    show(report)


def _prepare_to_train(*, threads: int) -> None:
    # Spinning threads slow the other cores down.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    if threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Keep freed memory in the process: returning large tensors to the kernel took half the time.

    In glibc's malloc.h M_TRIM_THRESHOLD is -1 (-1: never), M_TOP_PAD -2 and M_MMAP_MAX -4. This has
    no effect without glibc.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, -1)
        libc.mallopt(-2, 256 << 20)
        libc.mallopt(-4, 0)
    except (OSError, AttributeError):
        pass


if __name__ == "__main__":
    main()
