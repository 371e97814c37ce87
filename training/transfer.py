"""Transfer to prompts of sources that a recipe was not trained on: `hybrid-llm-train transfer`.

Validation prompts come from the sources of the training prompts. A router can rank those well by
their vocabulary and be no better than chance on others, and validation does not show it. So a
recipe is chosen by held-out sources:

- The benchmarks and subjects of the other pairs of models. A recipe without these pairs (the
  default) holds out all of them with one training. With `--auxiliary` there is one training for
  each of FOLDS parts of the benchmarks, without the rows of that part.
- zeroeval-crux, which is never trained on. It takes part in choices and is no test.
- With `--own`, each source of the routed pair in turn, with one training without it. Only its train
  and validation rows are read.

The label is the local model's of the source: most benchmarks have another local model than the
routed pair. A perfect router for the routed pair would therefore not reach an AUROC of 1. The
figures compare recipes; they say little about the quality on one benchmark.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from router_model.metrics import auroc, curve, percentiles, pgr_at_cost
from router_model.model import RouterModel
from training.dataset import OUT_OF_DISTRIBUTION_SOURCES, Prepared, Row
from training.outcomes import COST_SHARE, outcomes_of
from training.progress import say, track

MIN_ROWS = 120
MIN_CLASS_SHARE = 0.08
MAX_ROWS = 250
FOLDS = 2
ROUNDS = 1000


class Part(NamedTuple):
    """The prompts of a held-out benchmark or source."""

    name: str
    rows: list[Row]


def benchmarks(prepared: Prepared) -> list[Part]:
    """The benchmarks of the other pairs with enough prompts of either label, by name.

    Of a larger one MAX_ROWS prompts are taken, by a hash of their ids. Subjects whose names have a
    common part before a slash are one benchmark.
    """
    found: dict[str, list[Row]] = {}
    for row in prepared.rows:
        if row.auxiliary and row.local_score is not None and row.cloud_score is not None:
            found.setdefault(_benchmark_of(row), []).append(row)
    parts = []
    for name, rows in sorted(found.items()):
        share = float(outcomes_of(rows).local_ok.mean())
        if len(rows) >= MIN_ROWS and MIN_CLASS_SHARE <= share <= 1 - MIN_CLASS_SHARE:
            parts.append(Part(name, sorted(rows, key=lambda row: _hash(row.id))[:MAX_ROWS]))
    return parts


def unseen_sources(prepared: Prepared) -> list[Part]:
    """The sources of the routed pair that are never trained on."""
    return [
        Part(name, rows)
        for name in sorted(OUT_OF_DISTRIBUTION_SOURCES)
        if (rows := [row for row in prepared.rows if row.source == name])
    ]


def own_sources(prepared: Prepared) -> list[str]:
    """The sources of the routed pair that are trained on."""
    rows = prepared.of("train", auxiliary=False)
    return sorted({row.source for row in rows if not row.weak})


def without_source(prepared: Prepared, source: str) -> tuple[Prepared, Part]:
    """The rows without a source of the routed pair, and this source's rows outside of test."""
    kept = [row for row in prepared.rows if row.source != source]
    held_out = [
        row for row in prepared.of("train", "validation", auxiliary=False) if row.source == source
    ]
    return _reduced(prepared, kept, f"without {source}"), Part(source, held_out)


def without_benchmarks(prepared: Prepared, parts: Iterable[Part]) -> Prepared:
    """The rows without all rows of these benchmarks, and without others with their prompts."""
    names = {part.name for part in parts}
    groups = {row.group for part in parts for row in part.rows}
    kept = [
        row
        for row in prepared.rows
        if not row.auxiliary or (_benchmark_of(row) not in names and row.group not in groups)
    ]
    return _reduced(prepared, kept, f"without {sorted(names)}")


def fold(parts: list[Part], number: int) -> list[Part]:
    """The benchmarks of one fold: every FOLDS-th by name."""
    return parts[number::FOLDS]


def measure(parts: list[Part], model: RouterModel) -> dict[str, dict[str, Any]]:
    """The figures of each part: AUROC of the local label by p_local and by the score, and PGR.

    The model is the exported one, with all that is served.
    """
    out = {}
    for part in track(parts, "held-out sources", total=len(parts)):
        outcomes = outcomes_of(part.rows)
        scores = [model.score(row.text) for row in part.rows]
        score, p_local = np.array([(s.score, s.p_local) for s in scores]).T
        points = curve(score, outcomes.local, outcomes.cloud, outcomes.cost)
        has_gap = outcomes.cloud.mean() > outcomes.local.mean()
        out[part.name] = {
            "rows": len(part.rows),
            "local_ok_share": _r(outcomes.local_ok.mean()),
            "auroc_p_local": _r(auroc(outcomes.local_ok, p_local)),
            "auroc_score": _r(auroc(outcomes.local_ok, score)),
            "pgr_at_budget": _r(pgr_at_cost(points, COST_SHARE)) if has_gap else None,
        }
    return out


def summary(of_parts: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """The mean of each figure over the parts, with a 95 % interval: bootstrap over parts."""
    rng = np.random.default_rng(0)
    means = {}
    for name in ("auroc_p_local", "auroc_score", "pgr_at_budget"):
        values = np.array([f[name] for f in of_parts.values() if f[name] is not None], dtype=float)
        draws = rng.integers(0, values.size, (ROUNDS, values.size))
        low, high = percentiles(values[draws].mean(axis=1))
        means[name] = [_r(values.mean()), _r(low), _r(high)]
    return means


def entry(
    name: str,
    of_benchmarks: dict[str, dict[str, Any]],
    *,
    unseen: dict[str, dict[str, Any]],
    own: dict[str, dict[str, Any]] | None = None,
    has_seen: bool,
    command: str,
    **about: Any,
) -> dict[str, Any]:
    """One recipe's or model's entry of the report.

    Args:
        unseen: the figures of sources that are never trained on.
        own: the figures of each source of the routed pair, trained without it.
        has_seen: whether the benchmarks were in its training, through heads of other models.
    """
    return {
        "name": name,
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "has_seen_benchmarks": has_seen,
        **about,
        "benchmarks": summary(of_benchmarks),
        "unseen_sources": unseen,
        "own_sources": own or {},
        "each": of_benchmarks,
    }


def merged(path: Path, prepared: Prepared, new: dict[str, Any]) -> dict[str, Any]:
    """The report of `path` with a new entry, which replaces one of the same name.

    A report on other prompts or outcomes is replaced.
    """
    parts = benchmarks(prepared)
    digest = _digest([*parts, *unseen_sources(prepared)])
    report: dict[str, Any] = {
        "what": "Ranking of prompts of sources that were not trained on. Chooses recipes; no test.",
        "data_sha256": digest,
        "benchmarks": len(parts),
        "prompts": sum(len(part.rows) for part in parts),
        "budget": COST_SHARE,
        "entries": [],
    }
    if path.exists():
        old = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        if old.get("data_sha256") == digest:
            report["entries"] = [e for e in old["entries"] if e["name"] != new["name"]]
    report["entries"].append(new)
    return report


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the recipes and models."""
    console = console or Console(width=None if Console().is_terminal else 130)
    table = Table(
        title=f"{report['benchmarks']} held-out benchmarks, {report['prompts']:,} prompts; "
        f"PGR at {report['budget']:.0%} of the dollars"
    )
    table.add_column("recipe or model")
    for name in ("p_local", "score", "PGR", "crux p_local", "crux score", "validation"):
        table.add_column(name, justify="right")
    for item in report["entries"]:
        means = item["benchmarks"]
        crux: dict[str, Any] = next(iter(item["unseen_sources"].values()), {})
        seen = " (seen in training)" if item["has_seen_benchmarks"] else ""
        table.add_row(
            item["name"] + seen,
            *(_format(means[key]) for key in ("auroc_p_local", "auroc_score", "pgr_at_budget")),
            *(f"{crux.get(key, float('nan')):.3f}" for key in ("auroc_p_local", "auroc_score")),
            f"{item['validation'].get('auroc_local', float('nan')):.3f}",
        )
    console.print(table)
    for item in report["entries"]:
        for name, figures in item["own_sources"].items():
            say(f"{item['name']}, trained without {name}: {figures}")


def _reduced(prepared: Prepared, rows: list[Row], why: str) -> Prepared:
    digest = hashlib.sha256(f"{prepared.data_sha256} {why}".encode()).hexdigest()
    return msgspec.structs.replace(prepared, rows=rows, data_sha256=digest)


def _digest(parts: Iterable[Part]) -> str:
    """A hash of the held-out prompts and outcomes: other rows do not change the figures."""
    digest = hashlib.sha256()
    for part in parts:
        for row in part.rows:
            scores = (row.id, row.text, row.local_score, row.cloud_score)
            digest.update(msgspec.json.encode([part.name, *scores]))
    return digest.hexdigest()


def _benchmark_of(row: Row) -> str:
    return f"{row.source}/{row.category.partition('/')[0]}"


def _hash(row_id: str) -> str:
    return hashlib.sha1(row_id.encode(), usedforsecurity=False).hexdigest()


def _format(values: list[float]) -> str:
    return f"{values[0]:.3f} [{values[1]:.2f}, {values[2]:.2f}]"


def _r(value: Any) -> float:
    return round(float(value), 4)
