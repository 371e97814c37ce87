"""The commands that analyse a finished model: baselines, ablation, errors, robustness and others.

Each writes one JSON file to data/results; `report` reads them all.
"""

from pathlib import Path
from typing import Any

import click

from router_model.model import RouterModel, RouterModelError
from training import dataset, options
from training.dataset import DataError, Prepared, Split
from training.progress import say
from training.results import is_current, write

# In the order of `all`.
MEASURED = ("evaluation", "baselines", "errors", "robustness")


def load_model(folder: Path) -> RouterModel:
    """Load the exported model. Raises DataError, which names the command to run first."""
    try:
        return RouterModel.load(folder)
    except RouterModelError as error:
        raise DataError(f"{error}: run `hybrid-llm-train export` first") from error


def measure(
    name: str, prepared: Prepared, model: RouterModel, *, split: Split, results: Path, cache: Path
) -> dict[str, Any]:
    """Compute one result by name, write it and return it."""
    command = options.this_command()
    content: dict[str, Any]
    match name:
        case "evaluation":
            from training.evaluate import evaluate, load_checks

            checks = load_checks(options.CHECKS)
            content = evaluate(prepared, model, split=split, checks=checks, command=command)
        case "baselines":
            from training.baselines import compare

            content = compare(prepared, model, split=split, cache=cache, command=command)
        case "ablation":
            from training.baselines import ABLATED, compare

            content = compare(
                prepared, model, split=split, cache=cache, command=command, only=ABLATED
            )
        case "errors":
            from training.errors import analyse

            content = analyse(prepared, model, split=split, command=command)
        case "robustness":
            from training.robustness import examine

            content = examine(prepared, model, split=split, command=command)
        case _:
            raise ValueError(name)
    write(results / f"{name}.json", content)
    return content


def measure_if_needed(
    name: str, prepared: Prepared, model: RouterModel, *, split: Split, results: Path, cache: Path
) -> bool:
    """As `measure`, unless the inputs are unchanged. Returns whether it ran."""
    if is_current(results / f"{name}.json", prepared, model, split=split):
        return False
    measure(name, prepared, model, split=split, results=results, cache=cache)
    return True


def cache_beside(prepared: Path) -> Path:
    """The path of the embedding cache, in the folder of the prepared rows (not committed)."""
    return prepared.with_name("embeddings.npz")


@click.command()
@options.prepared
@options.model
def reference(prepared: Path, model: Path) -> None:
    """Add the reference for drift to the manifest, from the validation prompts.

    Export does this too. Use this command for models exported by older versions.

    Example: hybrid-llm-train reference
    """
    from training.export import add_reference

    added = add_reference(dataset.load(prepared), load_model(model), folder=model)
    say(f"reference: {added.rows} prompts, {added.categories}")


@click.command()
@options.prepared
@options.model
@options.results
@options.split("validation")
def baselines(prepared: Path, model: Path, results: Path, split: Split) -> None:
    """Compare the router with simpler baselines, per source.

    Example: hybrid-llm-train baselines
    """
    from training.baselines import show

    rows, router = dataset.load(prepared), load_model(model)
    cache = cache_beside(prepared)
    show(measure("baselines", rows, router, split=split, results=results, cache=cache))


@click.command()
@options.prepared
@options.model
@options.results
@options.split("validation")
def ablation(prepared: Path, model: Path, results: Path, split: Split) -> None:
    """Compare the router with baselines without a network: features alone, words alone.

    These are two of the baselines with the same metrics. It takes a minute: nothing is embedded.

    Example: hybrid-llm-train ablation
    """
    from training.baselines import show

    rows, router = dataset.load(prepared), load_model(model)
    cache = cache_beside(prepared)
    show(measure("ablation", rows, router, split=split, results=results, cache=cache))


@click.command()
@options.prepared
@options.model
@options.results
@options.split("validation")
def errors(prepared: Path, model: Path, results: Path, split: Split) -> None:
    """List wrong decisions, the most confident ones first.

    Example: hybrid-llm-train errors --split validation
    """
    from training.errors import show

    rows, router = dataset.load(prepared), load_model(model)
    cache = cache_beside(prepared)
    show(measure("errors", rows, router, split=split, results=results, cache=cache))


@click.command()
@options.prepared
@options.model
@options.results
@options.split("validation")
def robustness(prepared: Path, model: Path, results: Path, split: Split) -> None:
    """Show which harmless changes of a prompt flip the decision.

    Example: hybrid-llm-train robustness
    """
    from training.robustness import show

    rows, router = dataset.load(prepared), load_model(model)
    cache = cache_beside(prepared)
    show(measure("robustness", rows, router, split=split, results=results, cache=cache))


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder with router_pairs.jsonl.gz and other_pairs.jsonl.gz.",
)
@options.model
@options.results
def domain(data: Path, model: Path, results: Path) -> None:
    """Show which texts the router cannot judge: by signal, source and language.

    Example: hybrid-llm-train domain --data ~/outcomes
    """
    from training.domain import examine, show

    router = load_model(model)
    report = examine(router, data, options.DOMAIN, command=options.this_command())
    write(results / "domain.json", report)
    show(report)


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder with final_answers.jsonl.gz and gemma_mmlu_logprobs.jsonl.gz.",
)
@options.prepared
@options.model
@options.results
def replay(data: Path, prepared: Path, model: Path, results: Path) -> None:
    """Replay a second look at recorded local answers, without a model that answers.

    Fits on the validation split and measures on the test split: use it once per release.

    Example: hybrid-llm-train replay --data ~/outcomes
    """
    from training.replay import ROUNDS, examine, show

    report = examine(
        dataset.load(prepared),
        load_model(model),
        data,
        command=options.this_command(),
        rounds=ROUNDS,
    )
    write(results / "replay.json", report)
    show(report)


@click.command()
@options.results
@click.option("--markdown", is_flag=True, help="Print the README's tables instead.")
def report(results: Path, markdown: bool) -> None:
    """Write all results as one offline HTML page and two images.

    Example: hybrid-llm-train report
    """
    from training import report as reporting

    if markdown:
        say(reporting.markdown(reporting.load(results)))
    else:
        write_report(results)


def write_report(results: Path) -> None:
    """Write the page and the images. Raises DataError when a result is missing."""
    from training import report as reporting

    for path in reporting.write(results):
        say(f"wrote {path}")


COMMANDS = (reference, baselines, ablation, errors, robustness, domain, replay, report)
