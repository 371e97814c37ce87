"""Errors, robustness and the report, on synthetic models and results."""

import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from router_model.manifest import Reference
from router_model.score import Score
from routers import synthetic_manifest
from training import cli, errors, report, results, robustness
from training.dataset import DataError, Prepared
from training.sources import pairs

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"


class _CapitalsModel:
    """A router that scores text in capital letters as hard."""

    def __init__(self) -> None:
        self.manifest = synthetic_manifest(files={"model.onnx": "0"})

    def score(self, text: str) -> Score:
        share = sum(c.isupper() for c in text) / max(1, sum(c.isalpha() for c in text))
        return Score(1 - share, 1 - share, 0.9)


_CAPITALS: Any = _CapitalsModel()  # in the place of a RouterModel


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return Prepared(data_sha256="h", rows=list(pairs.rows(SAMPLE)))


def test_errors_are_counted_by_kind_and_sorted_by_confidence(prepared: Prepared) -> None:
    analysis = errors.analyse(prepared, _CAPITALS, split="test", command="x", rounds=20)
    rows = [row for row in prepared.of("test") if not row.weak]
    missed = [r for r in rows if r.local_score is not None and r.local_score < (r.cloud_score or 0)]
    # The sample has no text in capital letters, so everything stays local.
    assert analysis["sources"]["all"]["local_share"] == 1
    assert analysis["sources"]["all"]["false local"][0] == pytest.approx(
        len(missed) / len(rows), abs=1e-4
    )
    assert analysis["sources"]["all"]["false cloud"] == [0, 0, 0]
    listed = analysis["examples"]["false local"]
    assert {e["id"] for e in listed} <= {row.id for row in missed}
    assert [e["score"] for e in listed] == sorted((e["score"] for e in listed), reverse=True)
    assert all(len(e["text"]) <= errors.TEXT_CHARS for e in listed)
    counts = analysis["histogram"]["local_suffices"] + analysis["histogram"]["cloud_better"]
    assert sum(counts) == len(rows)


def test_robustness_measures_changed_decisions(prepared: Prepared) -> None:
    examined = robustness.examine(prepared, _CAPITALS, split="test", command="x", rounds=20)
    survive = {name: r["survive"][0] for name, r in examined["changes"].items()}
    assert survive["upper case"] == 0
    assert examined["changes"]["upper case"]["to_cloud"] == 1
    assert survive["lower case"] == survive["white space"] == 1
    assert survive[robustness.LONG_SYSTEM_NAME] == 1
    assert set(examined["notes"]) <= set(examined["changes"])


def test_typos_are_few_and_repeatable() -> None:
    text = "The quick brown fox jumps over the lazy dog, 12 times. " * 40
    first, second = (robustness.typos(text, random.Random("x")) for _ in range(2))
    assert first == second != text
    assert re.findall(r"\d+", first) == re.findall(r"\d+", text)
    assert abs(len(first) - len(text)) < 0.03 * len(text)


def _write_results(folder: Path) -> None:
    """Write one small file of each kind, with the fields of the commands."""
    head = {
        "what": results.CAVEAT,
        "command": "hybrid-llm-train x",
        "split": "validation",
        "data_sha256": "abcdef0123456789",
        "model_version": "v1",
        "threshold": 0.5,
        "bootstrap_rounds": 10,
    }
    row = {
        "auroc_local": [0.7, 0.6, 0.8],
        "apgr": [0.6, 0.5, None],
        "pgr_at_rate": [0.6, 0.5, 0.7],
        "quality": 7.0,
        "cost_share": 0.4,
        "local_share": 0.5,
        "router_ahead": {"auroc_local": [0.1, 0.05, 0.15], "apgr": [0.1, 0.0, 0.2]},
    }
    no_order = {"quality": 5.0, "cost_share": 0.0, "local_share": 1.0}
    names = ("always local", "random", "source and category mean", "TF-IDF + LR", "MiniLM kNN")
    table = {name: no_order if name.startswith("always") else row for name in names}
    table |= {"oracle": {k: v for k, v in row.items() if k != "auroc_local"}}
    table |= {report.ROUTER: {k: v for k, v in row.items() if k != "router_ahead"}}
    part = {"rows": 90, "local_ok_share": 0.5, "router_local_share": 0.5, "baselines": table}
    line = {name: [0.0, 0.5, 1.0] for name in ("cloud_share", "cost_share", "pgr", "quality")}
    rates = {
        "rows": 90,
        "local_share": 0.5,
        "false local": [0.1, 0.05, 0.2],
        "false cloud": [0.2, 0.1, 0.3],
        "false cloud, both fail": 0.05,
    }
    example = {
        "id": "x/1",
        "category": "c",
        "score": 0.9,
        "local_score": 0.0,
        "cloud_score": 10.0,
        "text": "<script>alert('a')</script> & co",
    }
    bins: dict[str, Any] = {"predicted": [0.2, 0.8], "observed": [0.3, 0.7], "rows": [40, 50]}
    source = {
        "role": "routed pair",
        "splits": {"train": 200, "validation": 90},
        "local_ok_share": 0.5,
        "cloud_better_share": 0.2,
        "licences": ["MIT"],
    }
    leak = {
        "rows": 90,
        "groups_in_train": 0,
        "texts_in_train": 0,
        "near_duplicates_in_train": 1,
    }
    contents = {
        "data_card": {
            "data_sha256": head["data_sha256"],
            "not_covered": "Open chat.",
            "sources": {"s": source},
            "leakage": {"near_duplicate_jaccard": 0.8, "validation": leak},
            "files": [{"name": "pairs.jsonl", "sha256": "0" * 64}],
        },
        "evaluation": head
        | {
            "in_distribution": {"rows": 90, "ece_local": 0.03, "ece_score": 0.04},
            "reliability": {"p_local": bins, "score": bins},
            "categories": {
                "s/c": {"rows": 90, "local_ok_share": 0.5, "auroc_local": None, "apgr": 0.6}
            },
        },
        "baselines": head
        | {
            "chosen_on_validation": {"TF-IDF + LR": "C=1"},
            "parts": {report.INSIDE: part, "s": part},
            "curves": dict.fromkeys((report.ROUTER, "random", "TF-IDF + LR"), line),
        },
        "errors": head
        | {
            "rows": 90,
            "sources": {"all": rates},
            "categories": {"s/c": rates},
            "histogram": {
                "edges": [0.0, 0.5, 1.0],
                "local_suffices": [20, 40],
                "cloud_better": [20, 10],
            },
            "examples": {"false local": [example], "false cloud": []},
        },
        "robustness": head
        | {
            "rows": 90,
            "notes": {"upper case": "a note"},
            "changes": {
                "upper case": {
                    "survive": [0.9, 0.8, 1.0],
                    "to_cloud": 0.1,
                    "to_local": 0.0,
                    "mean_change": -0.02,
                }
            },
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


# plotly and matplotlib raise deprecation warnings internally.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_page_is_self_contained_and_names_the_data_of_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("matplotlib")
    _write_results(tmp_path)
    written = report.write(tmp_path)
    assert [path.name for path in written] == [report.PAGE, *report.IMAGES]
    page = (tmp_path / report.PAGE).read_text()
    assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=", page)
    assert page.count("Plotly.newPlot(") >= 5
    assert "validation split, n = 90, model v1, [95 % bootstrap" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "differ" not in page[page.index("<body>") :][:3000]
    for name in report.IMAGES:
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 120_000


def test_markdown_names_data_rows_and_interval(tmp_path: Path) -> None:
    _write_results(tmp_path)
    text = report.markdown(report.load(tmp_path))
    assert "| s | 90 | 0.50 | 0.700 [0.60, 0.80] |" in text
    assert "[95 % bootstrap over near-duplicate groups, 10 rounds], data abcdef01" in text
    assert "nothing about open chat" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_inconsistent_results_give_a_warning(tmp_path: Path) -> None:
    _write_results(tmp_path)
    path = tmp_path / "errors.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": "v0"}))
    loaded = report.load(tmp_path)
    assert len(loaded.warnings) == 1
    assert "model_version" in loaded.warnings[0]
    assert "model_version" in report.markdown(loaded)


def test_missing_results_name_the_command(tmp_path: Path) -> None:
    _write_results(tmp_path)
    (tmp_path / "robustness.json").unlink()
    with pytest.raises(DataError, match=r"robustness\.json, which `hybrid-llm-train robustness`"):
        report.load(tmp_path)
    run = CliRunner().invoke(cli.main, ["report", f"--results={tmp_path}"])
    assert run.exit_code == 1
    assert "Traceback" not in run.output


def test_missing_model_names_the_export_command(tmp_path: Path) -> None:
    from training import dataset

    rows = list(pairs.rows(SAMPLE))
    dataset.save(Prepared(data_sha256="h", rows=rows), tmp_path / "prepared")
    for name in ("baselines", "errors", "robustness"):
        arguments = [name, f"--prepared={tmp_path / 'prepared'}", f"--model={tmp_path / 'none'}"]
        run = CliRunner().invoke(cli.main, arguments)
        assert run.exit_code == 1
        assert "hybrid-llm-train export" in run.output


def test_result_is_current_only_for_its_data_model_and_split(
    prepared: Prepared, tmp_path: Path
) -> None:
    model: Any = _CapitalsModel()
    path = tmp_path / "errors.json"
    heading = results.heading(prepared, model, split="test", command="x", rounds=1)
    results.write(path, heading)
    assert results.is_current(path, prepared, model, split="test")
    assert not results.is_current(path, prepared, model, split="validation")
    reference = Reference(rows=1, scores=[1.0], categories={"code": 1.0})
    model.manifest = msgspec.structs.replace(model.manifest, reference=reference)
    # The reference changes no figure.
    assert results.is_current(path, prepared, model, split="test")
    other = Prepared(data_sha256="other", rows=[])
    assert not results.is_current(path, other, model, split="test")
    path.write_text("{")
    assert not results.is_current(path, prepared, model, split="test")
