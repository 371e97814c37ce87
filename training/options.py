"""Default paths, and the options that several commands share."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from router_model.bundled import IS_CLONE, bundled

# Installed from a wheel, the commands work in the folder where they are called.
ROOT = Path(__file__).resolve().parent.parent if IS_CLONE else Path()
PREPARED = ROOT / "data/work/prepared.msgpack.gz"
RUNS = ROOT / "data/runs"
MODEL = ROOT / "data/models/router"
RESULTS = ROOT / "data/results"
ESTIMATED = tuple(bundled(ROOT / f"data/{name}.jsonl") for name in ("everyday", "graded"))
CHECKS = bundled(ROOT / "data/checks.jsonl")
DOMAIN = bundled(ROOT / "data/domain.jsonl")
QUESTIONS = bundled(ROOT / "data/questions.jsonl")

Command = TypeVar("Command", bound=Callable[..., Any])

estimated = click.option(
    "--estimated",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    default=ESTIMATED,
    show_default="data/everyday.jsonl and data/graded.jsonl",
    help="File of prompts with estimated scores. Repeatable; /dev/null for none.",
)
prepared = click.option(
    "--prepared",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PREPARED,
    show_default="data/work/prepared.msgpack.gz",
    help="File of prepared rows.",
)
run = click.option(
    "--run",
    "run_name",
    default="router",
    show_default=True,
    help="Run name under data/runs, or a path.",
)
model = click.option(
    "--model",
    type=click.Path(path_type=Path, file_okay=False),
    default=MODEL,
    show_default="data/models/router",
    help="Folder of the exported model.",
)
results = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=RESULTS,
    show_default="data/results",
    help="Folder of the JSON results.",
)


def split(default: str) -> Callable[[Command], Command]:
    """--split: the rows to evaluate on."""
    return click.option(
        "--split",
        type=click.Choice(["validation", "test"]),
        default=default,
        show_default=True,
        help="Rows to evaluate on. Use test once per release.",
    )


def this_command() -> str:
    """The running command as a user would type it.

    Absolute paths are shortened to the file name: results are published, local paths are private.
    """
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return shlex.join(["hybrid-llm-train", *words])
