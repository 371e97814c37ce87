"""Comparison of the router with simpler baselines: `hybrid-llm-train baselines`.

- There is one table per source, because a pooled figure mostly separates the data sets.
- All baselines are trained on the train split only. They have the router's two labels (local answer
  good, cloud answer good) and its calibration, so that only the features differ.
- Hyper-parameters and calibration are chosen on validation, as for the router. Figures on
  validation are therefore optimistic for all of them.
- Intervals are 95 % bootstrap intervals over groups of near-duplicates. All baselines share the
  samples, so the difference to the router is paired.

scikit-learn and torch are imported only by functions that fit something.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from router_model import calibrate, metrics
from router_model.calibrate import Outcomes
from router_model.heuristic import Heuristic
from router_model.metrics import Floats
from router_model.model import RouterModel
from training.dataset import DataError, Prepared, Row, Split
from training.outcomes import outcomes_of
from training.progress import say, track
from training.results import heading

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SHUFFLES = 5
NEIGHBOURS = (10, 25, 50, 100, 200)
MAX_TERMS = 60_000
MIN_SOURCE_ROWS = 20
CURVE_POINTS = 41

ROUTER = "router"
# The baselines of the ablation: no network.
ABLATED = ("random", "features + LR", "TF-IDF + LR")
FITTED = ("source and category mean", "features + LR", "TF-IDF + LR", "MiniLM + LR", "MiniLM kNN")


class Prediction(NamedTuple):
    """A baseline's predictions; higher is more local. None if the baseline does not rank.

    Arrays [n], or [k, n] for k repetitions with different seeds, whose figures are averaged.
    """

    p_local: Floats | None
    score: Floats | None


class Data(NamedTuple):
    """The rows for training, for model selection, and for the measurement."""

    train: list[Row]
    validation: list[Row]
    measured: list[Row]


def data_of(prepared: Prepared, split: Split) -> Data:
    """The rows with real outcomes of the routed pair. Raises DataError if a split is empty."""
    parts: tuple[Split, ...] = ("test", "ood") if split == "test" else (split,)

    def real(*splits: Split) -> list[Row]:
        return [row for row in prepared.of(*splits, auxiliary=False) if not row.weak]

    data = Data(real("train"), real("validation"), real(*parts))
    for name, rows in zip(("train", "validation", split), data, strict=True):
        if not rows:
            raise DataError(f"no rows of the {name} split with outcomes of the routed pair")
    return data


# A candidate of a learner: (setting, logits on validation [v, 2], logits on the measured rows
# [n, 2]). The best candidate on validation is used.
Candidate = tuple[str, Floats, Floats]


def labels(rows: Sequence[Row]) -> NDArray[np.bool_]:
    """[rows, 2]: whether the local answer is good, and whether the cloud answer is."""
    out = outcomes_of(list(rows))
    return np.stack([out.local_ok, out.cloud_ok], axis=1)


def logistic(
    x: Any, y: NDArray[np.bool_], others: Sequence[Any], *, strengths: Sequence[float] = STRENGTHS
) -> list[tuple[str, list[Floats]]]:
    """Fit one regression per head and strength C. Returns logits [n, 2] for each of `others`."""
    from sklearn.linear_model import LogisticRegression

    out = []
    for strength in strengths:
        columns: list[list[Floats]] = [[] for _ in others]
        for head in range(2):
            target = y[:, head]
            if target.all() or not target.any():
                constant = 5.0 if target.any() else -5.0
                for column, other in zip(columns, others, strict=True):
                    column.append(np.full(other.shape[0], constant))
                continue
            model = LogisticRegression(C=strength, max_iter=2000).fit(x, target)
            for column, other in zip(columns, others, strict=True):
                column.append(model.decision_function(other))
        out.append((f"C={strength:g}", [np.stack(column, axis=1) for column in columns]))
    return out


def category_mean(data: Data) -> list[Candidate]:
    """The training mean of a row's source and category; the overall mean for a new source."""
    y = labels(data.train).astype(float)
    targets_of: dict[tuple[str, str], list[Floats]] = {}
    for row, target in zip(data.train, y, strict=True):
        targets_of.setdefault((row.source, row.category), []).append(target)
    overall = y.mean(axis=0)
    # The overall mean with the weight of one row keeps the logits of tiny categories finite.
    means = {key: (sum(t) + overall) / (len(t) + 1) for key, t in targets_of.items()}

    def logits_of(rows: list[Row]) -> Floats:
        return _logit(np.stack([means.get((row.source, row.category), overall) for row in rows]))

    return [("", logits_of(data.validation), logits_of(data.measured))]


def features(data: Data) -> list[Candidate]:
    """Hand-made features with a logistic regression: a router without a language model."""
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler()
    x = scale.fit_transform(_described(data.train))
    others = [scale.transform(_described(rows)) for rows in (data.validation, data.measured)]
    fitted = logistic(x, labels(data.train), others)
    return [(name, values[0], values[1]) for name, values in fitted]


def tfidf(data: Data, *, shuffle: int | None = None) -> list[Candidate]:
    """TF-IDF of words and word pairs, logistic regression. `shuffle` seeds a label shuffle."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    y = labels(data.train)
    if shuffle is not None:
        y = y[np.random.default_rng(shuffle).permutation(len(y))]
    terms = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2 if len(data.train) > 500 else 1,
        max_features=MAX_TERMS,
        sublinear_tf=True,
        token_pattern=_TERM.pattern,
    )
    x = terms.fit_transform([row.text for row in data.train])
    others = [
        terms.transform([row.text for row in rows]) for rows in (data.validation, data.measured)
    ]
    fitted = logistic(x, y, others, strengths=(1.0,) if shuffle is not None else STRENGTHS)
    return [(name, values[0], values[1]) for name, values in fitted]


def embedded(data: Data, *, cache: Path, base: str) -> tuple[Floats, Floats, Floats]:
    """Frozen MiniLM vectors of train, validation and measured rows."""
    from training.embeddings import embed

    rows = [*data.train, *data.validation, *data.measured]
    vectors = embed([row.text for row in rows], cache=cache, base=base).astype(float)
    first, second = len(data.train), len(data.train) + len(data.validation)
    return vectors[:first], vectors[first:second], vectors[second:]


def embedding_regression(data: Data, vectors: tuple[Floats, Floats, Floats]) -> list[Candidate]:
    """Logistic regression on the frozen vectors: the encoder without fine-tuning."""
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler()
    x = scale.fit_transform(vectors[0])
    others = [scale.transform(v) for v in vectors[1:]]
    fitted = logistic(x, labels(data.train), others, strengths=tuple(s / 100 for s in STRENGTHS))
    return [(name, values[0], values[1]) for name, values in fitted]


def neighbours(data: Data, vectors: tuple[Floats, Floats, Floats]) -> list[Candidate]:
    """The mean label of the k nearest training prompts by cosine similarity."""
    y = labels(data.train).astype(float)
    overall = y.mean(axis=0)
    orders = [np.argsort(-(v @ vectors[0].T), axis=1, kind="stable") for v in vectors[1:]]
    out = []
    for k in sorted({min(k, len(y)) for k in NEIGHBOURS}):
        logits = [_logit((y[o[:, :k]].sum(axis=1) + overall) / (k + 1)) for o in orders]
        out.append((f"k={k}", logits[0], logits[1]))
    return out


def predictions(
    data: Data, *, cache: Path, base: str = "minilm", only: Sequence[str] | None = None
) -> dict[str, tuple[str, Prediction]]:
    """Setting and prediction on the measured rows, for every baseline or for those in `only`."""
    out = outcomes_of(data.measured)
    n = len(data.measured)
    rules = [Heuristic().score(row.text) for row in data.measured]
    length = -np.array([float(len(row.text)) for row in data.measured])
    plain: dict[str, Callable[[], tuple[str, Prediction]]] = {
        "always local": lambda: ("", Prediction(None, None)),
        "always cloud": lambda: ("", Prediction(None, None)),
        "random": lambda: ("", Prediction(np.zeros(n), np.zeros(n))),
        "shuffled labels": lambda: _shuffled(data),
        "prompt length": lambda: ("", Prediction(length, length)),
        "rules": lambda: (
            "",
            Prediction(np.array([r.p_local for r in rules]), np.array([r.score for r in rules])),
        ),
    }
    by_name = {name: predict() for name, predict in plain.items() if only is None or name in only}
    vectors = embedded(data, cache=cache, base=base) if only is None else None
    learners: dict[str, Callable[[], list[Candidate]]] = {
        FITTED[0]: lambda: category_mean(data),
        FITTED[1]: lambda: features(data),
        FITTED[2]: lambda: tfidf(data),
    }
    if vectors is not None:
        learners[FITTED[3]] = lambda: embedding_regression(data, vectors)
        learners[FITTED[4]] = lambda: neighbours(data, vectors)
    fitted = [name for name in learners if only is None or name in only]
    for name in track(fitted, "fitting baselines", total=len(fitted)):
        by_name[name] = _select(data, learners[name]())
    if only is None:
        by_name["oracle"] = ("", Prediction(None, out.local - out.cloud))
    return by_name


def _shuffled(data: Data) -> tuple[str, Prediction]:
    """TF-IDF on shuffled labels, repeated because a single shuffle may rank well by chance."""
    repetitions = [_select(data, tfidf(data, shuffle=seed))[1] for seed in range(SHUFFLES)]
    return (
        f"{SHUFFLES} shuffles",
        Prediction(
            np.stack([o.p_local for o in repetitions if o.p_local is not None]),
            np.stack([o.score for o in repetitions if o.score is not None]),
        ),
    )


def _select(data: Data, candidates: list[Candidate]) -> tuple[str, Prediction]:
    """The candidate with the best AUROC inside the validation sources, calibrated."""
    out = outcomes_of(data.validation)

    def selection_score(candidate: Candidate) -> float:
        value = within_source_auroc(candidate[1][:, 0], out)
        return value if math.isfinite(value) else 0.0

    name, on_validation, on_measured = max(candidates, key=selection_score)
    calibration = calibrate.fit(on_validation, out)
    score, p_local, _ = calibrate.scores(on_measured, calibration)
    return name, Prediction(p_local, score)


def within_source_auroc(score: Floats, out: Outcomes) -> float:
    """AUROC of the local label per source, weighted by rows; NaN if no source has both labels."""
    values, weights = [], []
    for source in np.unique(out.source):
        chosen = out.source == source
        value = metrics.auroc(out.local_ok[chosen], score[chosen])
        if math.isfinite(value):
            values.append(value)
            weights.append(int(chosen.sum()))
    return float(np.average(values, weights=weights)) if values else float("nan")


def compare(
    prepared: Prepared,
    model: RouterModel,
    *,
    split: Split,
    cache: Path,
    command: str,
    base: str = "minilm",
    rounds: int = 1000,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare the router with all baselines, or with those in `only`, per source and together.

    Raises DataError if a split is empty.
    """
    data = data_of(prepared, split)
    by_name = predictions(data, cache=cache, base=base, only=only)
    scored = [
        model.score(row.text) for row in track(data.measured, "scoring", total=len(data.measured))
    ]
    router = Prediction(np.array([s.p_local for s in scored]), np.array([s.score for s in scored]))
    by_name = {**by_name, ROUTER: ("", router)}
    out = outcomes_of(data.measured)
    held_out = np.array([row.split == "ood" for row in data.measured])
    unread = np.array([row.unread for row in data.measured])
    parts = {"in distribution": ~held_out}
    for source in np.unique(out.source):
        chosen = out.source == source
        if chosen.sum() >= MIN_SOURCE_ROWS:
            parts[str(source)] = chosen
            if (chosen & unread).any():
                parts[f"{source} (read only)"] = chosen & ~unread
    threshold = model.manifest.for_objective("score").threshold
    measured = {
        name: measure(
            {key: prediction for key, (_, prediction) in by_name.items()},
            out,
            chosen,
            threshold=threshold,
            rounds=rounds,
        )
        for name, chosen in track(parts.items(), "intervals", total=len(parts))
    }
    inside = np.flatnonzero(~held_out)
    about = heading(prepared, model, split=split, command=command, rounds=rounds)
    return about | {
        "threshold": threshold,
        "train_rows": len(data.train),
        "chosen_on_validation": {
            name: setting for name, (setting, _) in by_name.items() if setting
        },
        "parts": measured,
        "curves": {
            name: _curve_of(prediction.score, out.take(inside), inside)
            for name, (_, prediction) in by_name.items()
            if prediction.score is not None and prediction.score.ndim == 1
        },
    }


def measure(
    by_name: dict[str, Prediction],
    out: Outcomes,
    chosen: NDArray[np.bool_],
    *,
    threshold: float,
    rounds: int,
) -> dict[str, Any]:
    """The table of one part. Every baseline has the local share of the router on that part."""
    part = out.take(chosen)
    everything = np.arange(part.local.size)
    score = by_name[ROUTER].score
    assert score is not None
    share = float((score[chosen] >= threshold).mean())
    draws = [everything, *metrics.resamples(part.group, rounds=rounds)]
    values: dict[str, dict[str, Floats]] = {}
    for name, prediction in by_name.items():
        values[name] = {}
        if prediction.p_local is not None:
            repeated = np.atleast_2d(prediction.p_local)[:, chosen]
            values[name]["auroc_local"] = np.array(
                [
                    np.mean(
                        [metrics.auroc(part.local_ok[i], p[i]) for p in _repetitions(repeated, j)]
                    )
                    for j, i in enumerate(draws)
                ]
            )
        if prediction.score is not None:
            repeated = np.atleast_2d(prediction.score)[:, chosen]
            both = np.array(
                [_routed(_repetitions(repeated, j), part, i, share) for j, i in enumerate(draws)]
            )
            values[name]["apgr"], values[name]["pgr_at_rate"] = both.T
    rows = {}
    for name, measured in values.items():
        row: dict[str, Any] = {key: _interval(v) for key, v in measured.items()}
        row |= _policy(name, by_name[name], part, chosen, share)
        if name != ROUTER:
            row["router_ahead"] = {
                key: _interval(values[ROUTER][key] - v)
                for key, v in measured.items()
                if key in values[ROUTER]
            }
        rows[name] = row
    return {
        "rows": int(part.local.size),
        "groups": len(set(part.group.tolist())),
        "local_ok_share": _round(part.local_ok.mean()),
        "cloud_better_share": _round((part.cloud > part.local).mean()),
        "router_local_share": _round(share),
        "baselines": rows,
    }


def _policy(
    name: str, prediction: Prediction, part: Outcomes, chosen: NDArray[np.bool_], share: float
) -> dict[str, float]:
    """Mean quality (0-10) and share of the all-cloud dollars at the router's local share."""
    if name == "always local":
        return {"local_share": 1.0, "quality": _round(part.local.mean()), "cost_share": 0.0}
    if name == "always cloud":
        return {"local_share": 0.0, "quality": _round(part.cloud.mean()), "cost_share": 1.0}
    assert prediction.score is not None
    points = [
        metrics.curve(score, part.local, part.cloud, part.cost)
        for score in np.atleast_2d(prediction.score)[:, chosen]
    ]
    return {
        "local_share": _round(share),
        "quality": _round(np.mean([_interpolate(p, "quality", 1 - share) for p in points])),
        "cost_share": _round(np.mean([_interpolate(p, "cost_share", 1 - share) for p in points])),
    }


def _repetitions(repeated: Floats, draw: int) -> Floats:
    """All repetitions for the estimate (draw 0); one repetition in turn per bootstrap sample.

    The interval thus includes the variance between repetitions.
    """
    return repeated if draw == 0 else repeated[[draw % len(repeated)]]


def _routed(
    score: Floats, part: Outcomes, index: NDArray[np.int64], share: float
) -> tuple[float, float]:
    """APGR, and PGR at the local share `share`, on the indexed rows; score [k, n]."""
    points = [
        metrics.curve(s[index], part.local[index], part.cloud[index], part.cost[index])
        for s in score
    ]
    return (
        float(np.mean([metrics.apgr(p) for p in points])),
        float(np.mean([_interpolate(p, "pgr", 1 - share) for p in points])),
    )


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the comparison."""
    console = console or Console(width=None if Console().is_terminal else 130)
    for part, content in report["parts"].items():
        table = Table(
            title=f"{part} · {report['split']} · n = {content['rows']} · the router keeps "
            f"{content['router_local_share']:.0%} local"
        )
        table.add_column("")
        for name in ("AUROC local ok", "APGR", "PGR at its rate", "quality", "cost", "AUROC ahead"):
            table.add_column(name, justify="right")
        for name, row in content["baselines"].items():
            table.add_row(
                name,
                span(row.get("auroc_local")),
                span(row.get("apgr")),
                span(row.get("pgr_at_rate")),
                f"{row['quality']:.2f}",
                f"{row['cost_share']:.2f}",
                span(row.get("router_ahead", {}).get("auroc_local")),
                style="bold" if name == ROUTER else None,
            )
        console.print(table)
    say(f"chosen on validation: {report['chosen_on_validation']}")


def span(values: Sequence[float | None] | None) -> str:
    """Format as 0.712 [0.68, 0.74]; empty without a value, as for a part with only one class."""
    # JSON has no NaN: it is written as null.
    if values is None or any(v is None or not math.isfinite(v) for v in values):
        return ""
    return f"{values[0]:.3f} [{values[1]:.2f}, {values[2]:.2f}]"


_TERM = re.compile(r"(?u)\b\w+\b|[^\w\s]")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_WORDS = re.compile(r"\w+")
_OPTIONS = re.compile(r"^\s*\(?[A-P][.):] ", re.MULTILINE)
_COMMANDS = re.compile(r"\\[a-zA-Z]+")
_NEGATIONS = re.compile(r"\b(?:not|except|least|never|false|incorrect)\b", re.IGNORECASE)


def describe(text: str) -> list[float]:
    """The hand-made features of a prompt: length, symbols, numbers, rules."""
    words, numbers = _WORDS.findall(text), _NUMBERS.findall(text)
    size = max(1, len(text))
    rules = Heuristic().score(text)
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        sum(map(len, words)) / max(1, len(words)),
        len(set(words)) / max(1, len(words)),
        math.log1p(len(numbers)),
        math.log1p(max(map(len, numbers), default=0)),
        sum(c.isdigit() for c in text) / size,
        sum(c.isupper() for c in text) / size,
        sum(not c.isascii() for c in text) / size,
        sum(c in "+-*/=<>^_|" for c in text) / size,
        sum(c in "(){}[];:`" for c in text) / size,
        math.log1p(len(_COMMANDS.findall(text))),
        math.log1p(text.count("$")),
        float(len(_OPTIONS.findall(text))),
        float(text.count("?")),
        float(len(_NEGATIONS.findall(text))),
        rules.score,
        rules.p_local,
    ]


def _described(rows: list[Row]) -> Floats:
    return np.array([describe(row.text) for row in rows])


def _curve_of(score: Floats | None, out: Outcomes, index: NDArray[np.int64]) -> dict[str, Any]:
    assert score is not None
    points = metrics.curve(score[index], out.local, out.cloud, out.cost)
    pick = np.linspace(0, out.local.size, CURVE_POINTS).round().astype(int)
    return {name: [_round(v) for v in getattr(points, name)[pick]] for name in points._fields}


def _interpolate(points: metrics.Curve, field: str, cloud_share: float) -> float:
    return float(np.interp(cloud_share, points.cloud_share, getattr(points, field)))


def _interval(values: Floats) -> list[float]:
    """[value, low, high] from the value on all rows, followed by those of the resamples."""
    low, high = metrics.percentiles(values[1:])
    return [_round(values[0]), _round(low), _round(high)]


def _logit(p: Floats) -> Floats:
    bounded = np.clip(p, 1e-3, 1 - 1e-3)
    logit: Floats = np.log(bounded / (1 - bounded))
    return logit


def _round(value: Any) -> float:
    return round(float(value), 4)
