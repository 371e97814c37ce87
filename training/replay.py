"""Replay of a second look at the local answer, from recorded answers: `hybrid-llm-train replay`.

No model is called. Two files beside the outcome data have the evidence (data/README.md):

- final_answers.jsonl.gz: whether the local answer was cut off, and the final answers of the local
  model and of other local models, for prompts of the routed pair.
- gemma_mmlu_logprobs.jsonl.gz: a local model's log-probabilities of the options of multiple-choice
  questions, and both scores. The questions are in other_pairs.jsonl.gz. Those that repeat a
  question of the routed pair are harder, and the router was trained on some of them. So the figures
  are shown for all questions and for the new ones.

Every combiner (`router_model.verification`) is fitted on the validation prompts and measured on the
test prompts and on zeroeval-crux. A local answer costs no dollars, so an escalated request costs as
much as one that was sent to the cloud at once.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from router_model import metrics
from router_model.calibrate import Outcomes, merits, scores
from router_model.evidence import Evidence
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.value import expected_output_tokens, text_tokens, verified_merits
from router_model.verification import Verification
from router_model.verification_fit import BAND_SHARE, PENALTY, choose_band, fit_verification
from training.dataset import DataError, Prepared, Row, sha256_of
from training.outcomes import COST_SHARE, outcomes_of, tokens_of
from training.progress import track
from training.recorded import Answers, OptionLogprobs, evidence_of, evidence_of_options, read
from training.results import CAVEAT, model_sha256
from training.sources import pairs
from training.sources.pairs import FINAL_ANSWERS, OPTION_LOGPROBS, OTHER_PAIRS

SECOND, WEAK_SECOND = "llama-3.1-8b", "mistral-7b-v0.2"  # as `canonical` spells them
CURVE_SIZES = (50, 100, 200, 400)
CURVE_DRAWS = 40
ROUNDS = 1000
# The source whose AUROC is shown: the only one with enough test prompts of either label.
MAIN_SOURCE = "mmlu-pro"

Index = NDArray[np.int64]


class Replayed(NamedTuple):
    """Rows with the router's predictions, arrays [n]; logits [n, 2 or 3], merit as served."""

    ids: NDArray[np.str_]
    out: Outcomes
    logits: Floats
    input_tokens: Floats
    output_tokens: Floats
    merit: Floats
    score: Floats
    p_local: Floats

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Replayed":
        """Some of the rows."""
        columns = [getattr(self, name)[index] for name in self._fields if name != "out"]
        return Replayed(columns[0], self.out.take(index), *columns[1:])


class Look(NamedTuple):
    """A second look at rows [n]: what they are ranked by, and the probabilities of the fit."""

    merit: Floats
    score: Floats
    local_ok: Floats


def replayed(model: RouterModel, rows: list[Row], out: Outcomes | None = None) -> Replayed:
    """Rows with the predictions of the exported model, and the length that it expects."""
    manifest = model.manifest
    logits = np.array([model.logits(row.text) for row in track(rows, "scoring", total=len(rows))])
    texts = np.array([text_tokens(row.text) for row in rows])
    given, written = tokens_of(rows)
    if manifest.gain is not None:
        written = expected_output_tokens(manifest.gain, logits, texts)
    score, p_local, _ = scores(logits, manifest.calibration)
    return Replayed(
        ids=np.array([row.id for row in rows]),
        out=outcomes_of(rows) if out is None else out,
        logits=logits,
        input_tokens=given,
        output_tokens=written,
        merit=merits(logits, manifest.calibration, manifest.gain, given, text_tokens=texts),
        score=score,
        p_local=p_local,
    )


def examine(
    prepared: Prepared, model: RouterModel, data: Path, *, command: str, rounds: int
) -> dict[str, Any]:
    """All figures. Raises DataError if a file is missing or has no rows of a needed split."""
    answers_path, options_path = data / FINAL_ANSWERS, data / OPTION_LOGPROBS
    answers, options = read(answers_path, Answers), read(options_path, OptionLogprobs)
    return {
        "what": f"A second look at recorded local answers. {CAVEAT}",
        "command": command,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "data_sha256": prepared.data_sha256,
        "evidence_sha256": sha256_of([answers_path, options_path]),
        "model_version": model.manifest.version,
        "model_sha256": model_sha256(model),
        "bootstrap_rounds": rounds,
        "budget": COST_SHARE,
        "band_share": BAND_SHARE,
        "penalty": PENALTY,
        "fitted_on": "validation",
        **_final_answers(prepared, model, answers, rounds=rounds),
        "log_probabilities": {
            name: _log_probabilities(rows, model, options, rounds=rounds)
            for name, rows in _option_rows(prepared, data, options).items()
        },
    }


def look(
    model: RouterModel,
    known: Replayed,
    of_known: Sequence[Evidence | None],
    rows: Replayed,
    of_rows: Sequence[Evidence | None],
) -> Look:
    """Fit on the pairs `known`, and look at `rows`."""
    probabilities = _fitted(known, of_known).probabilities(rows.logits, of_rows)
    gain, given, written = model.manifest.gain, rows.input_tokens, rows.output_tokens
    return Look(
        merit=verified_merits(probabilities, gain, given, written),
        score=1.0 - probabilities[:, 0],
        local_ok=_local_ok(known, of_known, rows, of_rows),
    )


def _local_ok(
    known: Replayed,
    of_known: Sequence[Evidence | None],
    rows: Replayed,
    of_rows: Sequence[Evidence | None],
) -> Floats:
    """P(the local answer is good) [n], by the same fit with a fixed grade in place of the cloud's.

    The combiner has the outcomes of two models, and no probability of one of them.
    """
    ok = known.out.local_ok.astype(float)
    graded = known._replace(out=known.out._replace(local=ok, cloud=np.full(ok.size, 0.5)))
    by_grade = _fitted(graded, of_known).probabilities(rows.logits, of_rows)
    good: Floats = by_grade[:, 2] / (by_grade[:, 0] + by_grade[:, 2])
    return good


def _fitted(known: Replayed, evidence: Sequence[Evidence | None]) -> Verification:
    # Only probabilities are used of it: the replay has its own band.
    return fit_verification(
        known.logits, evidence, known.out, band=(0.0, 1.0), local_model="", cloud_model=""
    )


def _final_answers(
    prepared: Prepared, model: RouterModel, answers: dict[str, Answers], *, rounds: int
) -> dict[str, Any]:
    """The evidence of the rules and of a second model's final answer."""
    rows = [
        row
        for row in prepared.of("validation", "test", "ood", auxiliary=False)
        if row.id in answers and not row.weak
    ]
    splits = np.array([row.split for row in rows])
    for split in ("validation", "test", "ood"):
        if split not in splits:
            raise DataError(f"{FINAL_ANSWERS} has no prompts of the {split} split")
    everything = replayed(model, rows)
    known, test = (everything.take(splits == split) for split in ("validation", "test"))
    # Test and unseen sources are looked at together; the figures of each use its own rows.
    shown = everything.take(splits != "validation")
    is_test = splits[splits != "validation"] == "test"
    threshold = _threshold_at(known, COST_SHARE)
    low, high = choose_band(known.merit, threshold=threshold)
    in_band, known_in_band = ((low <= part.merit) & (part.merit < high) for part in (shown, known))
    unbroken = ~np.array([evidence_of(answers[i]).broken for i in shown.ids])

    def of(part: Replayed, second: str) -> list[Evidence]:
        found = [evidence_of(answers[i], second) for i in part.ids]
        if second and all(item.agrees is None for item in found):
            raise DataError(f"{FINAL_ANSWERS} has no final answers of {second}")
        return found

    def looked(second: str) -> Look:
        return look(model, known, of(known, second), shown, of(shown, second))

    alone = Look(shown.merit, shown.score, shown.p_local)
    of_known, of_shown = of(known, SECOND), of(shown, SECOND)
    # With a band only the pairs inside have evidence to fit to.
    of_band = [e if inside else None for e, inside in zip(of_known, known_in_band, strict=True)]
    inside = look(model, known, of_band, shown, of_shown)
    partly = Look(*(np.where(in_band, a, b) for a, b in zip(inside, alone, strict=True)))
    # The fit without its evidence shows what the evidence adds, apart from the fit.
    of_prompt = look(model, known, of(known, ""), shown, [None] * shown.ids.size)
    no_rows, all_rows = np.zeros_like(in_band), np.ones_like(in_band)
    entries = {
        "router": (alone, no_rows),
        "fit without evidence": (of_prompt, no_rows),
        "rules": (looked(""), all_rows),
        f"rules, {SECOND}": (looked(SECOND), all_rows),
        f"rules, {SECOND}, in the band": (partly, in_band),
        f"rules, {WEAK_SECOND}": (looked(WEAK_SECOND), all_rows),
    }
    about: dict[str, Any] = {
        name: _measure(shown, of_look, alone, is_test, unbroken, threshold, rounds=rounds)
        | {"looked_at": {"test": _r(at[is_test].mean()), "unseen": _r(at[~is_test].mean())}}
        for name, (of_look, at) in entries.items()
    }
    return {
        "rows": {
            "validation": known.ids.size,
            "test": test.ids.size,
            "unseen": int((~is_test).sum()),
        },
        "threshold": _r(threshold),
        "band": [_r(low), _r(high)],
        "pairs_in_band": int(known_in_band.sum()),
        "second_looks": about,
        "learning_curve": _learning_curve(model, known, of_known, test, of(test, SECOND)),
    }


def _measure(
    rows: Replayed,
    of_look: Look,
    alone: Look,
    is_test: NDArray[np.bool_],
    unbroken: NDArray[np.bool_],
    threshold: float,
    *,
    rounds: int,
) -> dict[str, Any]:
    """The figures of one kind of second look, [value, low, high]; differences are paired."""
    main = is_test & (rows.out.source == MAIN_SOURCE)
    out = rows.out

    def interval(chosen: NDArray[np.bool_], of: Callable[[Index], float]) -> list[float]:
        return _interval(of, np.flatnonzero(chosen), out.group, rounds=rounds)

    def area(i: Index) -> float:
        return metrics.auroc(out.local_ok[i], of_look.local_ok[i])

    def recovered(merit: Floats) -> Callable[[Index], float]:
        return lambda i: metrics.pgr_at_cost(
            metrics.curve(merit[i], out.local[i], out.cloud[i], out.cost[i]), COST_SHARE
        )

    mine, before = recovered(of_look.merit), recovered(alone.merit)
    test = out.take(is_test)
    kept = metrics.routed(
        of_look.merit[is_test], test.local, test.cloud, test.cost, threshold=threshold
    )
    score = of_look.score[is_test]
    return {
        "auroc": interval(main, area),
        "auroc_finished": interval(main & unbroken, area),
        "auroc_unseen": interval(~is_test, area),
        "pgr": interval(is_test, mine),
        "pgr_more": interval(is_test, lambda i: mine(i) - before(i)),
        "pgr_main": interval(main, mine),
        "pgr_unseen": interval(~is_test, mine),
        "ece": _r(metrics.ece(test.local_suffices, score)),
        "ece_by_chance": _r(metrics.expected_ece(score)),
        "at_threshold": {name: _r(value) for name, value in kept._asdict().items()},
    }


def _learning_curve(
    model: RouterModel,
    known: Replayed,
    of_known: list[Evidence],
    test: Replayed,
    of_test: list[Evidence],
) -> list[dict[str, Any]]:
    """PGR and ECE on test of combiners that were fitted on few pairs, over random draws."""
    total = known.ids.size
    curve = []
    for size in (*(s for s in CURVE_SIZES if s < total), total):
        rng = np.random.default_rng(size)
        drawn = []
        for _ in range(CURVE_DRAWS if size < total else 1):
            index = rng.permutation(total)[:size]
            fitted = _fitted(known.take(index), [of_known[i] for i in index])
            p = fitted.probabilities(test.logits, of_test)
            merit = verified_merits(p, model.manifest.gain, test.input_tokens, test.output_tokens)
            points = metrics.curve(merit, test.out.local, test.out.cloud, test.out.cost)
            error = metrics.ece(test.out.local_suffices, 1.0 - p[:, 0])
            drawn.append((metrics.pgr_at_cost(points, COST_SHARE), error))
        recovered, errors = np.array(drawn).T
        low, high = metrics.percentiles(recovered)
        curve.append(
            {
                "pairs": size,
                "draws": len(drawn),
                "pgr": [_r(recovered.mean()), _r(low), _r(high)],
                "ece": _r(errors.mean()),
            }
        )
    return curve


def _option_rows(
    prepared: Prepared, data: Path, options: dict[str, OptionLogprobs]
) -> dict[str, list[Row]]:
    """The validation and test questions with log-probabilities: all, and the new ones."""
    path = data / OTHER_PAIRS
    if not path.exists():
        raise DataError(f"{path} is missing: it has the questions of {OPTION_LOGPROBS}")
    everything = [row for row in pairs.rows(path, with_repeated=True) if row.id in options]
    return {
        "all questions": [row for row in everything if row.split in ("validation", "test")],
        "new questions": [
            row for row in prepared.of("validation", "test", auxiliary=True) if row.id in options
        ],
    }


def _log_probabilities(
    rows: list[Row], model: RouterModel, options: dict[str, OptionLogprobs], *, rounds: int
) -> dict[str, Any]:
    """The evidence of log-probabilities, for another pair of models. Without dollars."""
    is_test = np.array([row.split == "test" for row in rows], dtype=bool)
    if not is_test.any() or is_test.all():
        raise DataError(f"{OPTION_LOGPROBS} needs prompts of the validation and the test split")
    scored = [
        msgspec.structs.replace(
            row, local_score=options[row.id].local_score, cloud_score=options[row.id].cloud_score
        )
        for row in rows
    ]
    both = replayed(model, scored)
    known, test = both.take(~is_test), both.take(is_test)
    of_known, of_test = (
        [evidence_of_options(options[i]) for i in part.ids] for part in (known, test)
    )
    probabilities = _fitted(known, of_known).probabilities(test.logits, of_test)
    local_ok = _local_ok(known, of_known, test, of_test)
    out, everything = test.out, np.arange(test.ids.size)

    def figures(local_ok: Floats, rank: Floats, score: Floats) -> dict[str, Any]:
        def area(i: Index) -> float:
            return metrics.auroc(out.local_ok[i], local_ok[i])

        def gap(i: Index) -> float:
            # All calls count the same.
            calls = np.ones(out.local[i].size)
            return metrics.apgr(metrics.curve(rank[i], out.local[i], out.cloud[i], calls))

        return {
            "auroc": _interval(area, everything, out.group, rounds=rounds),
            "apgr": _interval(gap, everything, out.group, rounds=rounds),
            "ece": _r(metrics.ece(out.local_suffices, score)),
        }

    return {
        "local_model": options[rows[0].id].local_model,
        "rows": {"validation": known.ids.size, "test": test.ids.size},
        "router": figures(test.p_local, test.score, test.score),
        "log-probabilities": figures(
            local_ok, probabilities[:, 2] - probabilities[:, 0], 1.0 - probabilities[:, 0]
        ),
    }


def _interval(
    of: Callable[[Index], float], places: Index, groups: NDArray[np.str_], *, rounds: int
) -> list[float]:
    """The figure of the rows `places`, and its 95 % interval: bootstrap over groups."""
    low, high = metrics.bootstrap(lambda i: of(places[i]), groups[places], rounds=rounds)
    return [_r(of(places)), _r(low), _r(high)]


def _threshold_at(rows: Replayed, cost_share: float) -> float:
    """The highest merit at which the requests below it cost at most this share of all-cloud."""
    order = np.argsort(rows.merit, kind="stable")
    spent = np.cumsum(rows.out.cost[order]) / rows.out.cost.sum()
    return float(rows.merit[order][min(int((spent <= cost_share).sum()), order.size - 1)])


def show(report: dict[str, Any], console: Console | None = None) -> None:
    """Print the tables."""
    console = console or Console(width=None if Console().is_terminal else 190)
    rows, budget = report["rows"], f"PGR at {report['budget']:.0%} of $"
    table = Table(
        title=f"fitted on {rows['validation']:,} pairs, measured on {rows['test']:,}; "
        f"unseen {rows['unseen']:,}"
    )
    table.add_column("second look", no_wrap=True)
    columns = ("auroc", "auroc_finished", "auroc_unseen", "pgr", "pgr_more", "pgr_unseen")
    for name in ("looked at", "AUROC", "finished", "unseen", budget, "more", "unseen", "ECE"):
        table.add_column(name, justify="right")
    for name, item in report["second_looks"].items():
        cells = [_format(item[key]) for key in columns]
        table.add_row(name, f"{item['looked_at']['test']:.0%}", *cells, f"{item['ece']:.3f}")
    console.print(table)
    table = Table(title="combiner fitted on few pairs")
    for name in ("pairs", budget, "ECE"):
        table.add_column(name, justify="right")
    for item in report["learning_curve"]:
        table.add_row(f"{item['pairs']:,}", _format(item["pgr"]), f"{item['ece']:.3f}")
    console.print(table)
    for title, options in report["log_probabilities"].items():
        table = Table(title=f"{options['local_model']}, {options['rows']['test']:,} {title}")
        for name in ("evidence", "AUROC", "APGR", "ECE"):
            table.add_column(name)
        for name in ("router", "log-probabilities"):
            item = options[name]
            figures = (_format(item["auroc"]), _format(item["apgr"]), f"{item['ece']:.3f}")
            table.add_row(name, *figures)
        console.print(table)


def _format(values: list[float]) -> str:
    return f"{values[0]:.3f} [{values[1]:.2f}, {values[2]:.2f}]"


def _r(value: Any) -> float:
    return round(float(value), 4)
