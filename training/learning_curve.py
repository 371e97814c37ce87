"""Learning curve over data and seeds: `hybrid-llm-train learning-curve`.

It trains on shares of the train split with several seeds. The best epoch of each run is measured on
validation, before quantisation and without the lexical part, next to TF-IDF with a logistic
regression on the same prompts.

- A rising curve: more data would help.
- A flat curve on which both methods agree: the prompts contain no more information.

Each point takes one training. A rerun skips finished runs and resumes the rest.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from router_model import calibrate
from router_model.calibrate import Outcomes
from router_model.metrics import Floats, auroc
from training.baselines import Data, tfidf, within_source_auroc
from training.dataset import Prepared
from training.outcomes import outcomes_of
from training.progress import say
from training.results import CAVEAT
from training.train import (
    TrainConfig,
    best_checkpoint,
    encode_rows,
    load_checkpoint,
    predict,
    sample_groups,
    train,
)

ROUTER = "router"
LEXICAL = "TF-IDF + LR"


def run_name(share: float, seed: int) -> str:
    """The folder name under data/runs of one point of the curve."""
    return f"seed-{seed}" if share >= 1 else f"seed-{seed}-share-{share:g}"


def learn(
    prepared: Prepared,
    runs: Path,
    *,
    shares: Sequence[float],
    seeds: Sequence[int],
    config: TrainConfig,
    command: str,
) -> dict[str, Any]:
    """Train the missing runs and measure every run."""
    config = replace(config, auxiliary=False)  # measure the value of the routed pair's data
    rows = [r for r in prepared.of("train", auxiliary=False) if not r.weak]
    validation = [r for r in prepared.of("validation", auxiliary=False) if not r.weak]
    out = outcomes_of(validation)
    points = []
    for share in sorted(shares):
        sampled = sample_groups(rows, share)
        of_seeds = []
        for seed in seeds:
            say(f"learning-curve: {len(sampled)} prompts, seed {seed}")
            folder = runs / run_name(share, seed)
            train(prepared, folder, config=replace(config, train_share=share, seed=seed))
            network, tokenizer, trained = load_checkpoint(best_checkpoint(folder))
            items = encode_rows(
                validation, network.config.heads, tokenizer=tokenizer, config=trained
            )
            of_seeds.append(measures(predict(network, items)[:, :2].astype(np.float64), out))
        candidates = tfidf(Data(sampled, validation, validation))
        best = max(candidates, key=lambda c: within_source_auroc(c[1][:, 0], out))
        points.append(
            {
                "share": share,
                "rows": len(sampled),
                ROUTER: {"seeds": list(seeds), **spread(of_seeds)},
                LEXICAL: measures(best[1], out),
            }
        )
    return {
        "what": CAVEAT,
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "split": "validation",
        "data_sha256": prepared.data_sha256,
        "rows": len(validation),
        "points": points,
    }


def measures(logits: Floats, out: Outcomes) -> dict[str, float]:
    """AUROC of the local head per source and within sources, and APGR of the score."""
    score, _, _ = calibrate.scores(logits, calibrate.fit(logits, out))
    sources = {
        str(name): auroc(out.local_ok[out.source == name], logits[out.source == name, 0])
        for name in np.unique(out.source)
    }
    figures = {
        "auroc_within_sources": within_source_auroc(logits[:, 0], out),
        "apgr_within_sources": calibrate.within_source_apgr(score, out),
    } | {f"auroc {name}": value for name, value in sources.items()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def spread(of_seeds: list[dict[str, float]]) -> dict[str, Any]:
    """Mean, standard deviation (None for one seed) and the value of each seed, per measure."""
    out: dict[str, Any] = {}
    for name in of_seeds[0]:
        values = np.array([measured[name] for measured in of_seeds])
        out[name] = {
            "mean": round(float(values.mean()), 4),
            "sd": round(float(values.std(ddof=1)), 4) if len(values) > 1 else None,
            "each": values.tolist(),
        }
    return out


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the curve."""
    console = console or Console(width=None if Console().is_terminal else 110)
    names = [name for name in report["points"][0][LEXICAL] if name.startswith(("auroc", "apgr"))]
    table = Table(title=f"learning curve · validation · n = {report['rows']}")
    table.add_column("prompts", justify="right")
    table.add_column("")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for point in report["points"]:
        router = [_format(point[ROUTER][name]) for name in names]
        table.add_row(str(point["rows"]), ROUTER, *router)
        table.add_row("", LEXICAL, *(f"{point[LEXICAL][name]:.3f}" for name in names))
    console.print(table)


def _format(value: dict[str, Any]) -> str:
    sd = value["sd"]
    return f"{value['mean']:.3f}" + ("" if sd is None else f" ± {sd:.3f}")
