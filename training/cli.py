"""The command line: `hybrid-llm-train prepare | train | export | evaluate | all`.

`all` does the four in order and skips what is finished and unchanged. Working files are in
data/work and data/runs (not committed); results in data/models/router and data/results.
"""

import ctypes
import datetime as dt
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from training import dataset
from training.dataset import DataError, Prepared
from training.progress import say
from training.sources import pairs

ROOT = Path(__file__).resolve().parent.parent
PREPARED = ROOT / "data/work/prepared.msgpack.gz"
RUNS = ROOT / "data/runs"
MODEL = ROOT / "data/models/router"
RESULTS = ROOT / "data/results"
EVERYDAY = ROOT / "data/everyday.jsonl"
CHECKS = ROOT / "data/checks.jsonl"

F = TypeVar("F", bound=Callable[..., Any])


def _data(required: bool) -> Callable[[F], F]:
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        required=required,
        help="Folder with router_pairs.jsonl.gz, other_pairs.jsonl.gz or JSONL files of your own.",
    )


_everyday = click.option(
    "--everyday",
    type=click.Path(path_type=Path, dir_okay=False),
    default=EVERYDAY,
    show_default="data/everyday.jsonl",
    help="Hand-written everyday prompts with guessed scores; /dev/null for none.",
)
_prepared = click.option(
    "--prepared",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PREPARED,
    show_default="data/work/prepared.msgpack.gz",
    help="The prepared rows.",
)
_run = click.option(
    "--run",
    "run_name",
    default="router",
    show_default=True,
    help="Name under data/runs, or a path.",
)
_model = click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    default=MODEL,
    show_default="data/models/router",
    help="Folder of the exported model.",
)


_out = click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where the figures go; data/results/evaluation.json for the test split.",
)


def _training_options(command: F) -> F:
    for option in (
        click.option(
            "--base",
            default="minilm",
            show_default=True,
            help="minilm (packaged), or a hub name such as distilbert-base-uncased.",
        ),
        click.option("--epochs", default=3, show_default=True),
        click.option("--seed", default=0, show_default=True),
        click.option("--max-length", default=256, show_default=True, help="Tokens read at most."),
        click.option("--threads", default=0, help="CPU threads; 0 for one per core."),
    ):
        command = option(command)
    return command


def _export_options(command: F) -> F:
    for option in (
        click.option("--version", default="", help="Version of the model; today's date if empty."),
        click.option("--local-model", default="phi3", show_default=True),
        click.option("--cloud-model", default="gpt-4o-mini", show_default=True),
    ):
        command = option(command)
    return command


class _Commands(click.Group):
    """Turns the errors that a person can mend into one line and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, FileNotFoundError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
def main() -> None:
    """Train the router: from outcome data to a model the proxy loads.

    Example: hybrid-llm-train all --data ~/outcomes
    """


@main.command()
@_data(required=True)
@_everyday
@_prepared
def prepare(data: Path, everyday: Path, prepared: Path) -> None:
    """Read a folder of outcome data into one prepared file.

    Example: hybrid-llm-train prepare --data ~/outcomes
    """
    _prepare(data, everyday, prepared)


@main.command()
@_prepared
@_run
@_training_options
def train(prepared: Path, run_name: str, **options: Any) -> None:
    """Train on the prepared rows; resumes after the last finished epoch.

    Example: hybrid-llm-train train --epochs 3
    """
    _train(dataset.load(prepared), run_name, options)


@main.command()
@_prepared
@_run
@_model
@_export_options
def export(prepared: Path, run_name: str, model: Path, **options: str) -> None:
    """Quantise the best epoch to int8, calibrate it, and write the model folder.

    Example: hybrid-llm-train export --version 2026-11-23
    """
    _export(dataset.load(prepared), run_name, model, options)


@main.command()
@_prepared
@_model
@click.option(
    "--split",
    type=click.Choice(["validation", "test"]),
    default="test",
    show_default=True,
    help="Look at test once per release.",
)
@_out
def evaluate(prepared: Path, model: Path, split: dataset.Split, out: Path | None) -> None:
    """Measure the exported model on prompts it was not trained on.

    Example: hybrid-llm-train evaluate --split validation
    """
    _evaluate(dataset.load(prepared), model, split, out)


@main.command(name="all")
@_data(required=True)
@_everyday
@_prepared
@_run
@_model
@_out
@_training_options
@_export_options
def all_steps(
    data: Path,
    everyday: Path,
    prepared: Path,
    run_name: str,
    model: Path,
    out: Path | None,
    **options: Any,
) -> None:
    """prepare, train, export and evaluate; finished steps are skipped.

    Example: hybrid-llm-train all --data ~/outcomes
    """
    export_names = ("version", "local_model", "cloud_model")
    export_options = {name: options.pop(name) for name in export_names}
    rows = _prepare(data, everyday, prepared)
    _train(rows, run_name, options)
    _export(rows, run_name, model, export_options)
    _evaluate(rows, model, "test", out)


def _prepare(data: Path, everyday: Path, target: Path) -> Prepared:
    files = dataset.data_files(data)
    if everyday.is_file():
        files.append(everyday)
    digest = dataset.sha256_of(files)
    if target.exists() and (done := dataset.load(target)).data_sha256 == digest:
        say(f"prepare: {target.name} is up to date ({len(done.rows)} rows)")
        return done
    rows = [row for path in files for row in pairs.rows(path)]
    prepared = Prepared(data_sha256=digest, rows=rows)
    dataset.save(prepared, target)
    for source, counts in prepared.counts().items():
        say(f"prepare: {source}: " + ", ".join(f"{n} {split}" for split, n in counts.items()))
    return prepared


def _train(prepared: Prepared, run_name: str, options: dict[str, Any]) -> None:
    # Spinning workers cost the other core's work more than they save.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    from training.train import TrainConfig
    from training.train import train as fit

    if threads := options.pop("threads"):
        torch.set_num_threads(threads)
    _keep_freed_memory()
    best = fit(prepared, RUNS / run_name, config=TrainConfig(**options))
    say(f"train: best is {best}")


def _export(prepared: Prepared, run_name: str, model: Path, options: dict[str, str]) -> None:
    from training.export import ExportError
    from training.export import export as write

    today = dt.datetime.now(dt.UTC)
    try:
        manifest = write(
            prepared,
            RUNS / run_name,
            target=model,
            version=options["version"] or today.date().isoformat(),
            created_at=today.isoformat(timespec="seconds"),
            local_model=options["local_model"],
            cloud_model=options["cloud_model"],
        )
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    say(f"export: {model}, threshold {manifest.threshold:.4f}, {manifest.metrics['validation']}")


def _evaluate(prepared: Prepared, model: Path, split: dataset.Split, out: Path | None) -> None:
    from router_model.model import RouterModel, RouterModelError
    from training.evaluate import evaluate as measure
    from training.evaluate import load_checks, show

    try:
        router = RouterModel.load(model)
    except RouterModelError as error:
        raise click.ClickException(str(error)) from error
    command = shlex.join(["hybrid-llm-train", *sys.argv[1:]])
    report = measure(prepared, router, split=split, checks=load_checks(CHECKS), command=command)
    if out is None and split == "test":
        out = RESULTS / "evaluation.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        say(f"evaluate: wrote {out}")
    show(report)


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed: giving each big tensor back to the kernel took half the time.

    In malloc.h M_TRIM_THRESHOLD is -1 (with -1: never), M_TOP_PAD -2 and M_MMAP_MAX -4. Elsewhere
    than glibc nothing happens.
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
