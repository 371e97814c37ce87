"""Error analysis of the router: `hybrid-llm-train errors`.

There are two kinds of error at the recommended threshold of the score (`objective: score`):

- false local: routed locally although the cloud's answer was strictly better. This costs quality.
- false cloud: routed to the cloud although the local answer was at least as good. This costs money.
  Prompts that both models fail are also counted separately.

The most confident errors, furthest from the threshold, come first. Many are not the router's fault:
the result of one question is partly random, and the data has only one run of each model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from router_model import metrics
from router_model.calibrate import Outcomes
from router_model.metrics import Floats
from router_model.model import RouterModel
from training.baselines import MIN_SOURCE_ROWS, data_of, span
from training.dataset import Prepared, Row, Split
from training.outcomes import outcomes_of
from training.progress import track
from training.results import heading

EXAMPLES = 25
TEXT_CHARS = 160
BINS = 20


def analyse(
    prepared: Prepared, model: RouterModel, *, split: Split, command: str, rounds: int = 1000
) -> dict[str, Any]:
    """Rates of both kinds of error per source and category, and the most confident errors.

    Raises DataError if the split is empty.
    """
    rows = data_of(prepared, split).measured
    predictions = [model.score(row.text) for row in track(rows, "scoring", total=len(rows))]
    score = np.array([prediction.score for prediction in predictions])
    out = outcomes_of(rows)
    threshold = model.manifest.for_objective("score").threshold
    local = score >= threshold
    kinds = {"false local": local & ~out.local_suffices, "false cloud": ~local & out.local_suffices}
    sources = {"all": np.ones(len(rows), dtype=bool)}
    sources |= {str(name): out.source == name for name in np.unique(out.source)}
    paths = np.array([f"{row.source}/{row.category}" for row in rows])
    categories = {str(name): paths == name for name in np.unique(paths)}
    about = heading(prepared, model, split=split, command=command, rounds=rounds)
    return about | {
        "threshold": threshold,
        "rows": len(rows),
        "sources": {
            name: _rates(kinds, out, local, chosen, rounds) for name, chosen in sources.items()
        },
        "categories": {
            name: _rates(kinds, out, local, chosen, rounds)
            for name, chosen in categories.items()
            if chosen.sum() >= MIN_SOURCE_ROWS
        },
        "histogram": _histogram(score, out),
        "examples": {
            kind: [
                _example(
                    rows[i], predictions[i].score, predictions[i].p_local, predictions[i].p_cloud
                )
                for i in _confident(wrong, score, threshold)
            ]
            for kind, wrong in kinds.items()
        },
    }


def _rates(
    kinds: dict[str, NDArray[np.bool_]],
    out: Outcomes,
    local: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    rounds: int,
) -> dict[str, Any]:
    """Error rates of the chosen rows; [value, low, high] where there is an interval."""
    group = out.group[chosen]
    both_fail = kinds["false cloud"] & ~out.local_ok & ~out.cloud_ok
    result: dict[str, Any] = {
        "rows": int(chosen.sum()),
        "local_share": round(float(local[chosen].mean()), 4),
    }
    for kind, wrong in kinds.items():
        part = wrong[chosen].astype(float)
        low, high = metrics.bootstrap(lambda i, p=part: float(p[i].mean()), group, rounds=rounds)  # type: ignore[misc]
        result[kind] = [round(v, 4) for v in (float(part.mean()), low, high)]
    result["false cloud, both fail"] = round(float(both_fail[chosen].mean()), 4)
    return result


def _confident(wrong: NDArray[np.bool_], score: Floats, threshold: float) -> list[int]:
    index = np.flatnonzero(wrong)
    order = np.argsort(-np.abs(score[index] - threshold), kind="stable")
    return [int(i) for i in index[order][:EXAMPLES]]


def _example(row: Row, score: float, p_local: float, p_cloud: float) -> dict[str, Any]:
    text = " ".join(row.text.split())
    return {
        "id": row.id,
        "category": row.category,
        "score": round(score, 4),
        "p_local": round(p_local, 4),
        "p_cloud": round(p_cloud, 4),
        "local_score": row.local_score,
        "cloud_score": row.cloud_score,
        "text": text if len(text) <= TEXT_CHARS else text[: TEXT_CHARS - 1] + "…",
    }


def _histogram(score: Floats, out: Outcomes) -> dict[str, Any]:
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "edges": [round(float(edge), 4) for edge in edges],
        "local_suffices": np.histogram(score[out.local_suffices], edges)[0].tolist(),
        "cloud_better": np.histogram(score[~out.local_suffices], edges)[0].tolist(),
    }


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the rates and the most confident errors."""
    console = console or Console(width=None if Console().is_terminal else 130)
    table = Table(title=f"errors at threshold {report['threshold']:.3f} · {report['split']}")
    table.add_column("")
    for name in ("n", "kept local", "false local", "false cloud", "of it both fail"):
        table.add_column(name, justify="right")
    for name, rates in {**report["sources"], **report["categories"]}.items():
        table.add_row(
            name,
            str(rates["rows"]),
            f"{rates['local_share']:.2f}",
            span(rates["false local"]),
            span(rates["false cloud"]),
            f"{rates['false cloud, both fail']:.3f}",
        )
    console.print(table)
    for kind, examples in report["examples"].items():
        console.print(f"most confident, {kind}:")
        for e in examples[:5]:
            console.print(f"  {e['score']:.2f}  {e['id']}  {e['text'][:80]}", markup=False)
