"""The replay of a second look, on simulated answers whose truth is known."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from router_model.manifest import Gain
from routers import synthetic_manifest
from training import analysis, cli, dataset, recorded, replay
from training.dataset import DataError, Prepared, Row, split_of
from training.recorded import Answers, OptionLogprobs, evidence_of, evidence_of_options
from training.sources import pairs
from training.sources.pairs import FINAL_ANSWERS, OPTION_LOGPROBS, OTHER_PAIRS

FIRST = "Small-3B-Instruct"
SECOND = "Meta-Llama-3_1-8B-Instruct"  # in two spellings, as published
SECOND_TOO = "Meta-Llama-3.1-8B-Instruct"
WEAK = "Mistral-7B-Instruct-v0.2"


class ReadingModel:
    """A router whose logits are written in the text."""

    def __init__(self) -> None:
        gain = Gain(length=(4.0, 0, 0, 0, 0), input_tokens=10, output_tokens=50, scale=5.0)
        self.manifest = synthetic_manifest(gain=gain)

    def logits(self, text: str) -> tuple[float, ...]:
        local, cloud = text.split()[:2]
        return float(local), float(cloud)


MODEL: Any = ReadingModel()  # in the place of a RouterModel


def row(number: int, source: str, rng: np.random.Generator, *, auxiliary: bool = False) -> Row:
    easy, luck = rng.normal(size=2)
    local = bool(rng.random() < 1 / (1 + np.exp(-easy - luck)))
    cloud = bool(rng.random() < 1 / (1 + np.exp(-2 - easy)))
    return Row(
        id=f"{source}/{number}",
        source=source,
        category="all",
        text=f"{easy + rng.normal() / 2:.3f} {2 + easy:.3f} question {number}",
        group=f"{source}-{number}",
        outcomes={},
        auxiliary=auxiliary,
        local_score=10.0 * local,
        cloud_score=10.0 * cloud,
        prompt_chars=200,
        cloud_response_chars=int(rng.integers(100, 2000)),
    )


def answers_of(row: Row, rng: np.random.Generator, *, second: str) -> dict[str, Any]:
    """A second model agrees with 90 % of the good answers and 20 % of the bad ones, a weak one by
    chance."""
    good = row.local_score == 10
    local = f"{rng.integers(1000)}"
    cut = not good and rng.random() < 0.2
    agrees = rng.random() < (0.9 if good else 0.2)
    finals = {
        FIRST: None if cut else local,
        second: f" {local}.0" if agrees else "other",
        WEAK: local if rng.random() < 0.3 else "other",
    }
    return {"id": row.id, "finished": not cut, "chars": 100, "final": finals, "unknown": 1}


def options_of(row: Row, rng: np.random.Generator) -> dict[str, Any]:
    good = rng.random() < 0.6
    chosen = -0.1 if rng.random() < (0.9 if good else 0.3) else -1.0
    return {
        "id": row.id,
        "local_model": "tiny",
        "option_logprobs": [-3.0, chosen, chosen - 1.0, -5.0],
        "local_score": 10.0 * good,
        "cloud_score": 10.0 * (rng.random() < 0.9),
    }


def record(row: Row, *, repeats: bool) -> dict[str, Any]:
    values = msgspec.to_builtins(row)
    names = ("id", "source", "category", "group", "local_score", "cloud_score")
    about = {name: values[name] for name in names}
    models = {"local_model": "c", "cloud_model": "d"}
    return about | models | {"query": row.text, "overlaps_router": ["x"] if repeats else []}


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outcomes")


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    rng = np.random.default_rng(0)
    routed = [row(n, "mmlu-pro", rng) for n in range(4000)]
    unseen = [row(n, "zeroeval-crux", rng) for n in range(400)]
    other = [row(n, "routellm-mmlu", rng, auxiliary=True) for n in range(2000)]
    lines = [answers_of(r, rng, second=SECOND) for r in routed]
    lines += [answers_of(r, rng, second=SECOND_TOO) for r in unseen]
    write(folder / FINAL_ANSWERS, lines)
    write(folder / OPTION_LOGPROBS, [options_of(r, rng) for r in other])
    repeated = {r.id for r in other[::4]}
    write(folder / OTHER_PAIRS, [record(r, repeats=r.id in repeated) for r in other])
    new = [r for r in other if r.id not in repeated]
    return Prepared(data_sha256="h", rows=[*routed, *unseen, *new])


def examine(prepared: Prepared, folder: Path, rounds: int = 30) -> dict[str, Any]:
    return replay.examine(prepared, MODEL, folder, command="x", rounds=rounds)


@pytest.fixture(scope="module")
def report(prepared: Prepared, folder: Path) -> dict[str, Any]:
    return examine(prepared, folder)


def test_agreement_helps_and_a_weak_model_does_not_hurt(report: dict[str, Any]) -> None:
    looks = report["second_looks"]
    router, rules, agreement, band, weak = (
        looks[name]
        for name in (
            "router",
            "rules",
            "rules, llama-3.1-8b",
            "rules, llama-3.1-8b, in the band",
            "rules, mistral-7b-v0.2",
        )
    )
    assert rules["auroc"][0] > router["auroc"][0] + 0.02
    assert agreement["auroc"][0] > rules["auroc"][0] + 0.1
    assert agreement["auroc_finished"][0] > router["auroc_finished"][0] + 0.1
    assert agreement["auroc_unseen"][0] > router["auroc_unseen"][0] + 0.1
    assert agreement["pgr"][0] > band["pgr"][0] > router["pgr"][0]
    assert agreement["pgr_more"][1] > 0
    assert weak["auroc"][0] > rules["auroc"][0] - 0.01
    assert router["pgr_more"] == [0, 0, 0]
    assert agreement["ece"] < 0.06
    for look in looks.values():
        for value in ("auroc", "pgr", "pgr_unseen", "auroc_unseen", "pgr_more"):
            value, low, high = look[value]
            assert low <= value <= high


def test_who_is_looked_at(report: dict[str, Any], prepared: Prepared) -> None:
    looked = {name: item["looked_at"]["test"] for name, item in report["second_looks"].items()}
    assert looked["router"] == looked["fit without evidence"] == 0
    assert looked["rules"] == looked["rules, llama-3.1-8b"] == 1
    assert looked["rules, llama-3.1-8b, in the band"] == pytest.approx(0.4, abs=0.05)
    low, high = report["band"]
    assert low < report["threshold"] < high
    counts = prepared.counts()
    assert report["rows"] == {
        "validation": counts["mmlu-pro"]["validation"],
        "test": counts["mmlu-pro"]["test"],
        "unseen": 400,
    }


def test_only_validation_answers_are_fitted_to(
    prepared: Prepared, folder: Path, report: dict[str, Any]
) -> None:
    """Other test labels change the figures and not the decisions."""
    swapped = [
        msgspec.structs.replace(r, local_score=r.cloud_score, cloud_score=r.local_score)
        if split_of(r.group, r.source) != "validation"
        else r
        for r in prepared.rows
    ]
    other = examine(Prepared(data_sha256="h", rows=swapped), folder, rounds=2)
    for name, item in report["second_looks"].items():
        shares = (item["at_threshold"], other["second_looks"][name]["at_threshold"])
        assert shares[0]["local_share"] == shares[1]["local_share"]
    assert other["band"] == report["band"]
    assert other["second_looks"]["rules"]["auroc"][0] != report["second_looks"]["rules"]["auroc"][0]


def test_only_answers_in_the_band_are_fitted_to(
    prepared: Prepared, folder: Path, report: dict[str, Any], tmp_path: Path
) -> None:
    low, high = report["band"]
    known = prepared.of("validation", auxiliary=False)
    merit = replay.replayed(MODEL, known).merit
    outside = (merit < low - 1e-3) | (merit > high + 1e-3)
    changed = {r.id for r, is_outside in zip(known, outside, strict=True) if is_outside}
    content = gzip.decompress((folder / FINAL_ANSWERS).read_bytes())
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        if line["id"] in changed:
            line["final"][SECOND] = "else"
    write(tmp_path / FINAL_ANSWERS, lines)
    for name in (OPTION_LOGPROBS, OTHER_PAIRS):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    looks, others = (r["second_looks"] for r in (report, examine(prepared, tmp_path)))
    band, everything = "rules, llama-3.1-8b, in the band", "rules, llama-3.1-8b"
    assert others[band] == looks[band]
    assert others[everything] != looks[everything]


def test_log_probabilities_replace_the_scores_of_the_other_pair(report: dict[str, Any]) -> None:
    assert [*report["log_probabilities"]] == ["all questions", "new questions"]
    new, options = (report["log_probabilities"][f"{which} questions"] for which in ("new", "all"))
    assert options["rows"]["test"] > new["rows"]["test"] + 20
    assert options["local_model"] == "tiny"
    assert options["log-probabilities"]["auroc"][0] > 0.7
    assert options["router"]["auroc"][0] == pytest.approx(0.5, abs=0.08)
    assert options["log-probabilities"]["apgr"][0] > options["router"]["apgr"][0] + 0.1


def test_more_pairs_are_no_worse(report: dict[str, Any]) -> None:
    curve = report["learning_curve"]
    total = report["rows"]["validation"]
    sizes = [size for size in replay.CURVE_SIZES if size < total]
    assert [item["pairs"] for item in curve] == [*sizes, total]
    assert curve[-1]["draws"] == 1
    recovered = [item["pgr"][0] for item in curve]
    assert recovered[-1] > recovered[0]
    assert recovered[1] > report["second_looks"]["router"]["pgr"][0]


def test_the_command_writes_the_report(
    prepared: Prepared, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.save(prepared, tmp_path / "prepared.msgpack.gz")
    monkeypatch.setattr(analysis, "load_model", lambda folder: MODEL)
    monkeypatch.setattr(replay, "ROUNDS", 5)
    done = CliRunner().invoke(
        cli.main,
        [
            "replay",
            f"--data={folder}",
            f"--prepared={tmp_path / 'prepared.msgpack.gz'}",
            f"--results={tmp_path}",
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "replay.json").read_text())
    assert written["data_sha256"] == "h"
    assert len(written["evidence_sha256"]) == 64
    assert "rules, llama-3.1-8b" in done.output


def test_missing_files_and_models_are_named(
    prepared: Prepared, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=FINAL_ANSWERS):
        examine(prepared, tmp_path)
    (tmp_path / OPTION_LOGPROBS).write_bytes((folder / OPTION_LOGPROBS).read_bytes())
    some = [r for r in prepared.rows if r.source == "mmlu-pro"]
    rng = np.random.default_rng(0)
    write(tmp_path / FINAL_ANSWERS, [answers_of(r, rng, second="else") for r in some])
    with pytest.raises(DataError, match="ood"):
        examine(prepared, tmp_path)
    held = [r for r in prepared.rows if not r.auxiliary]
    write(tmp_path / FINAL_ANSWERS, [answers_of(r, rng, second="else") for r in held])
    with pytest.raises(DataError, match=r"no final answers of llama-3\.1-8b"):
        examine(prepared, tmp_path)
    write(tmp_path / FINAL_ANSWERS, [answers_of(r, rng, second=SECOND) for r in held])
    with pytest.raises(DataError, match=OTHER_PAIRS):
        examine(prepared, tmp_path)
    write(tmp_path / FINAL_ANSWERS, [{"id": "a"}])
    with pytest.raises(DataError, match=f"{FINAL_ANSWERS}:1"):
        examine(prepared, tmp_path)
    write(tmp_path / OPTION_LOGPROBS, [options_of(held[0], rng) | {"option_logprobs": []}])
    with pytest.raises(DataError, match=f"{OPTION_LOGPROBS}:1"):
        recorded.read(tmp_path / OPTION_LOGPROBS, OptionLogprobs)


def test_recorded_answers_are_no_outcome_pairs(tmp_path: Path) -> None:
    for name in ("router_pairs.jsonl.gz", FINAL_ANSWERS, OPTION_LOGPROBS):
        (tmp_path / name).touch()
    assert [path.name for path in pairs.find(tmp_path)] == ["router_pairs.jsonl.gz"]


def test_evidence_of_recorded_answers() -> None:
    def evidence(local: str | None, other: str | None, *, finished: bool = True) -> tuple[Any, ...]:
        final = {FIRST: local, SECOND: other}
        found = evidence_of(Answers("a", finished, 5, final), replay.SECOND)
        return found.broken, found.agrees

    assert evidence("A", "a") == (False, True)
    assert evidence("A", "B") == (False, False)
    assert evidence("A", None) == (False, None)
    assert evidence(None, "A") == (True, None)
    assert evidence("A", "A", finished=False) == (True, True)
    alone = evidence_of(Answers("a", True, 5, {FIRST: "A", SECOND: "A"}))
    assert (alone.broken, alone.agrees) == (False, None)
    assert evidence_of(Answers("a", True, 5, {})).broken


def test_evidence_of_option_log_probabilities() -> None:
    found = evidence_of_options(OptionLogprobs("a", "m", [-3.0, -0.5, -1.5], 10, 10))
    assert (found.mean_logprob, found.margin) == (-0.5, 1.0)
    assert evidence_of_options(OptionLogprobs("a", "m", [-0.5], 10, 10)).margin is None
