"""Evaluation of the exported router: `hybrid-llm-train evaluate`.

Every test prompt is scored with the served files. A pooled AUROC mostly separates the data sets, so
every figure is reported per source, next to the mean of the source and category. Intervals are 95 %
bootstrap intervals over groups of near-duplicates.

Not covered: open chat, because no chat prompts with answers of both models are available. The
everyday checks only show whether easy and demanding prompts fall on the expected side.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from router_model import metrics
from router_model.calibrate import Outcomes
from router_model.heuristic import Heuristic
from router_model.label import is_ok
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.value import CHARS_PER_TOKEN
from training.dataset import DataError, Prepared, Row, Split
from training.outcomes import COST_SHARE, outcomes_of, served_merits, tokens_of
from training.progress import track
from training.results import heading

QUALITY_SHARES = (0.2, 0.5, 0.8)
MIN_CATEGORY_ROWS = 20


class Check(msgspec.Struct):
    """An everyday prompt and the tier that a person expects for it."""

    id: str
    expect: str
    text: str


class ScoredRows(msgspec.Struct, frozen=True):
    """Rows with the router's predictions, arrays [n]."""

    rows: list[Row]
    out: Outcomes
    score: Floats
    merit: Floats
    p_local: Floats
    baseline: Floats
    rules: Floats

    def where(self, chosen: NDArray[np.bool_]) -> "ScoredRows":
        """The chosen rows with their predictions."""
        return ScoredRows(
            rows=[row for row, is_chosen in zip(self.rows, chosen, strict=True) if is_chosen],
            out=self.out.take(chosen),
            score=self.score[chosen],
            merit=self.merit[chosen],
            p_local=self.p_local[chosen],
            baseline=self.baseline[chosen],
            rules=self.rules[chosen],
        )


def score_rows(model: RouterModel, rows: list[Row], train: list[Row]) -> ScoredRows:
    """Score rows with the model, the rules, and the training mean of their source and category."""
    rules = Heuristic()
    predictions = [model.score(r.text) for r in track(rows, "scoring", total=len(rows))]
    return ScoredRows(
        rows=rows,
        out=outcomes_of(rows),
        score=np.array([p.score for p in predictions]),
        merit=served_merits(model.manifest, predictions, tokens_of(rows)[0]),
        p_local=np.array([p.p_local for p in predictions]),
        baseline=category_means(rows, train),
        rules=np.array([rules.score(r.text).score for r in rows]),
    )


def category_means(rows: list[Row], train: list[Row]) -> Floats:
    """Share of good local training answers in each row's source and category.

    The overall share is used for a source without training rows.
    """
    labels_of: dict[tuple[str, str], list[bool]] = {}
    for row in train:
        if row.local_score is not None:
            labels_of.setdefault((row.source, row.category), []).append(is_ok(row.local_score))
    overall = (
        float(np.mean([ok for group in labels_of.values() for ok in group])) if labels_of else 0.5
    )
    means = {key: float(np.mean(group)) for key, group in labels_of.items()}
    return np.array([means.get((row.source, row.category), overall) for row in rows])


def measure(s: ScoredRows, *, threshold: float, rounds: int) -> dict[str, Any]:
    """All figures of one set of rows; [value, low, high] where there is an interval."""

    def interval(of: Callable[[NDArray[np.int64]], float]) -> list[float]:
        low, high = metrics.bootstrap(of, s.out.group, rounds=rounds)
        return [_round(of(np.arange(s.score.size))), _round(low), _round(high)]

    def area(values: Floats) -> Callable[[NDArray[np.int64]], float]:
        return lambda i: metrics.auroc(s.out.local_ok[i], values[i])

    def gap_area(values: Floats) -> Callable[[NDArray[np.int64]], float]:
        return lambda i: metrics.apgr(_curve(values, s.out, i))

    def at_cost(values: Floats, i: NDArray[np.int64]) -> float:
        return metrics.pgr_at_cost(_curve(values, s.out, i), COST_SHARE)

    everything = np.arange(s.score.size)
    points = _curve(s.score, s.out, everything)
    routed = metrics.routed(s.merit, s.out.local, s.out.cloud, s.out.cost, threshold=threshold)
    return {
        "rows": len(s.rows),
        "local_ok_share": _round(s.out.local_ok.mean()),
        "cloud_better_share": _round(1 - s.out.local_suffices.mean()),
        "auroc_local": interval(area(s.p_local)),
        "auroc_category_mean": interval(area(s.baseline)),
        "auroc_rules": interval(area(s.rules)),
        "auroc_suffices": interval(lambda i: metrics.auroc(s.out.local_suffices[i], s.score[i])),
        "average_precision": _round(metrics.average_precision(s.out.local_ok, s.p_local)),
        "ece_local": _round(metrics.ece(s.out.local_ok, s.p_local)),
        "ece_score": _round(metrics.ece(s.out.local_suffices, s.score)),
        "ece_by_chance": _round(metrics.expected_ece(s.score)),
        "apgr": interval(gap_area(s.score)),
        "apgr_p_local": interval(gap_area(s.p_local)),
        "apgr_category_mean": interval(gap_area(s.baseline)),
        "apgr_rules": interval(gap_area(s.rules)),
        "apgr_oracle": _round(gap_area(s.out.local - s.out.cloud)(everything)),
        "apgr_by_cost": interval(lambda i: metrics.apgr_by_cost(_curve(s.merit, s.out, i))),
        "apgr_by_cost_score": interval(lambda i: metrics.apgr_by_cost(_curve(s.score, s.out, i))),
        "pgr_at_cost": interval(lambda i: at_cost(s.merit, i)),
        "pgr_at_cost_score": interval(lambda i: at_cost(s.score, i)),
        "pgr_at_cost_difference": interval(lambda i: at_cost(s.merit, i) - at_cost(s.score, i)),
        "cpt_50": _round(metrics.cpt(points, 0.5)),
        "cpt_80": _round(metrics.cpt(points, 0.8)),
        "quality_local": _round(s.out.local.mean()),
        "quality_cloud": _round(s.out.cloud.mean()),
        "quality_at_cloud_share": {
            f"{share:.1f}": _round(metrics.quality_at(points, share)) for share in QUALITY_SHARES
        },
        "at_threshold": {name: _round(value) for name, value in routed._asdict().items()},
    }


def evaluate(
    prepared: Prepared,
    model: RouterModel,
    *,
    split: Split,
    checks: list[Check],
    command: str,
    rounds: int = 1000,
) -> dict[str, Any]:
    """All figures for one split. The test split includes the out-of-distribution sources."""
    parts: tuple[Split, ...] = ("test", "ood") if split == "test" else (split,)
    rows = [r for r in prepared.of(*parts, auxiliary=False) if not r.weak]
    train = [r for r in prepared.of("train", auxiliary=False) if not r.weak]
    if not rows:
        raise DataError(f"no rows of the {split} split to evaluate on")
    scored = score_rows(model, rows, train)
    threshold = model.manifest.threshold

    def part(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return measure(scored.where(chosen), threshold=threshold, rounds=rounds)

    unread = np.array([row.unread for row in rows])
    held_out = np.array([row.split == "ood" for row in rows])
    sources = {str(name): part(scored.out.source == name) for name in np.unique(scored.out.source)}
    for name in np.unique(scored.out.source[unread]):
        sources[f"{name} (read only)"] = part((scored.out.source == name) & ~unread)
    inside = scored.where(~held_out)
    points = _curve(inside.merit, inside.out, np.arange(inside.merit.size))
    pick = np.linspace(0, inside.score.size, 41).round().astype(int)
    about = heading(prepared, model, split=split, command=command, rounds=rounds)
    report: dict[str, Any] = about | {
        "threshold_why": model.manifest.threshold_why,
        "in_distribution": part(~held_out),
        "sources": sources,
        "categories": categories(inside),
        "reliability": {
            "p_local": metrics.reliability(inside.out.local_ok, inside.p_local)._asdict(),
            "score": metrics.reliability(inside.out.local_suffices, inside.score)._asdict(),
        },
        "curve": {
            name: [_round(value) for value in getattr(points, name)[pick]]
            for name in points._fields
        },
    }
    if checks:
        report["everyday_checks"] = everyday(model, checks)
    return report


def categories(s: ScoredRows) -> dict[str, dict[str, float]]:
    """AUROC and APGR of each category with at least MIN_CATEGORY_ROWS rows."""
    names = np.array([f"{row.source}/{row.category}" for row in s.rows])
    out: dict[str, dict[str, float]] = {}
    for name in np.unique(names):
        part = s.where(names == name)
        if len(part.rows) >= MIN_CATEGORY_ROWS:
            points = _curve(part.score, part.out, np.arange(part.score.size))
            out[str(name)] = {
                "rows": len(part.rows),
                "local_ok_share": _round(part.out.local_ok.mean()),
                "auroc_local": _round(metrics.auroc(part.out.local_ok, part.p_local)),
                "apgr": _round(metrics.apgr(points)),
            }
    return out


def everyday(model: RouterModel, checks: list[Check]) -> dict[str, Any]:
    """The decisions for the hand-written check prompts, which are never trained on."""
    scores = [model.score(check.text) for check in checks]
    merit = served_merits(
        model.manifest, scores, [len(check.text) / CHARS_PER_TOKEN for check in checks]
    )
    local = np.array([check.expect == "local" for check in checks])
    routed_local = merit >= model.manifest.threshold
    return {
        "rows": len(checks),
        "easy_kept_local": _round(routed_local[local].mean()),
        "demanding_sent_to_cloud": _round(1 - routed_local[~local].mean()),
        "auroc": _round(metrics.auroc(local, merit)),
        "auroc_score": _round(metrics.auroc(local, np.array([score.score for score in scores]))),
        "wrong_side": [
            {"text": check.text[:100], "merit": _round(value)}
            for check, value, expected, actual in zip(
                checks, merit, local, routed_local, strict=True
            )
            if expected != actual
        ],
    }


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the report."""
    table = Table(title=f"{report['split']} · model {report['model_version']}")
    for name in ("source", "n", "local ok"):
        table.add_column(name)
    for name in (
        "AUROC local",
        "category mean",
        "rules",
        "APGR",
        f"PGR at {COST_SHARE:.0%} of $",
        "by score",
        "ECE p",
        "ECE score",
        "by chance",
        "kept local",
        "PGR",
    ):
        table.add_column(name, justify="right")
    for source, m in {**report["sources"], "in distribution": report["in_distribution"]}.items():
        table.add_row(
            source,
            str(m["rows"]),
            f"{m['local_ok_share']:.2f}",
            _format(m["auroc_local"]),
            f"{m['auroc_category_mean'][0]:.3f}",
            f"{m['auroc_rules'][0]:.3f}",
            _format(m["apgr"]),
            _format(m["pgr_at_cost"]),
            f"{m['pgr_at_cost_score'][0]:.3f}",
            f"{m['ece_local']:.3f}",
            f"{m['ece_score']:.3f}",
            f"{m['ece_by_chance']:.3f}",
            f"{m['at_threshold']['local_share']:.2f}",
            f"{m['at_threshold']['pgr']:.2f}",
        )
    console = console or Console(width=None if Console().is_terminal else 150)
    console.print(table)
    if checks := report.get("everyday_checks"):
        console.print(
            f"everyday checks: {checks['easy_kept_local']:.0%} of the easy prompts stay local, "
            f"{checks['demanding_sent_to_cloud']:.0%} of the demanding ones go to the cloud "
            f"(threshold {report['threshold']:.3f}, AUROC {checks['auroc']:.3f})"
        )


def load_checks(path: Path) -> list[Check]:
    """Read the check prompts, one JSON object per line. Empty if the file does not exist."""
    if not path.exists():
        return []
    return msgspec.json.decode(
        b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[Check]
    )


def _curve(values: Floats, out: Outcomes, index: NDArray[np.int64]) -> metrics.Curve:
    return metrics.curve(values[index], out.local[index], out.cloud[index], out.cost[index])


def _round(value: Any) -> float:
    return round(float(value), 4)


def _format(values: list[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.2f}, {high:.2f}]"
