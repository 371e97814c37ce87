"""Errors, robustness and the report, on made-up models and results."""

import json
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from router_model.manifest import Calibration, HeadCalibration, Manifest, Reference
from router_model.score import Score
from training import cli, errors, report, results, robustness
from training.dataset import DataError, Prepared
from training.sources import pairs

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"


class _Shouting:
    """A router that thinks whatever is written in capitals is hard."""

    def __init__(self) -> None:
        head = HeadCalibration()
        self.manifest = Manifest(
            version="made up",
            created_at="",
            base="none",
            max_length=64,
            local_model="a",
            cloud_model="b",
            calibration=Calibration(head, head, 0.5, 1.0, 0.0),
            threshold=0.5,
            threshold_why="",
            thresholds=[],
            data_sha256="h",
            files={"model.onnx": "0"},
            metrics={},
        )

    def score(self, text: str) -> Score:
        share = sum(c.isupper() for c in text) / max(1, sum(c.isalpha() for c in text))
        return Score(1 - share, 1 - share, 0.9)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return Prepared(data_sha256="h", rows=list(pairs.rows(SAMPLE)))


def test_errors_are_counted_by_kind_and_the_confident_come_first(prepared: Prepared) -> None:
    found = errors.analyse(prepared, _Shouting(), split="test", command="x", rounds=20)  # type: ignore[arg-type]
    rows = [row for row in prepared.of("test") if not row.weak]
    missed = [r for r in rows if r.local_score is not None and r.local_score < (r.cloud_score or 0)]
    # Nothing in the sample is written in capitals, so all stays local.
    assert found["sources"]["all"]["local_share"] == 1
    assert found["sources"]["all"]["false local"][0] == pytest.approx(
        len(missed) / len(rows), abs=1e-4
    )
    assert found["sources"]["all"]["false cloud"] == [0, 0, 0]
    listed = found["examples"]["false local"]
    assert {e["id"] for e in listed} <= {row.id for row in missed}
    assert [e["score"] for e in listed] == sorted((e["score"] for e in listed), reverse=True)
    assert all(len(e["text"]) <= errors.TEXT_CHARS for e in listed)
    counts = found["histogram"]["local_suffices"] + found["histogram"]["cloud_better"]
    assert sum(counts) == len(rows)


def test_robustness_sees_what_turns_decisions(prepared: Prepared) -> None:
    found = robustness.examine(prepared, _Shouting(), split="test", command="x", rounds=20)  # type: ignore[arg-type]
    survive = {name: r["survive"][0] for name, r in found["changes"].items()}
    assert survive["upper case"] == 0
    assert found["changes"]["upper case"]["to_cloud"] == 1
    assert survive["lower case"] == survive["white space"] == 1
    assert survive[robustness.LONG_SYSTEM_NAME] == 1
    assert set(found["notes"]) <= set(found["changes"])


def test_typos_are_few_and_repeatable() -> None:
    text = "The quick brown fox jumps over the lazy dog, 12 times. " * 40
    once, again = (robustness.typos(text, random.Random("x")) for _ in range(2))
    assert once == again != text
    assert re.findall(r"\d+", once) == re.findall(r"\d+", text)
    assert abs(len(once) - len(text)) < 0.03 * len(text)


def _results(folder: Path) -> None:
    """One small file of each kind, with the fields that the commands write."""
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


# plotly and matplotlib warn about their own insides.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_stands_alone_and_says_what_figures_rest_on(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("matplotlib")
    _results(tmp_path)
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
    _results(tmp_path)
    text = report.markdown(report.load(tmp_path))
    assert "| s | 90 | 0.50 | 0.700 [0.60, 0.80] |" in text
    assert "[95 % bootstrap over near-duplicate groups, 10 rounds], data abcdef01" in text
    assert "nothing about open chat" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_results_that_do_not_belong_together_are_said_so(tmp_path: Path) -> None:
    _results(tmp_path)
    path = tmp_path / "errors.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_version": "v0"}))
    found = report.load(tmp_path)
    assert len(found.warnings) == 1
    assert "model_version" in found.warnings[0]
    assert "model_version" in report.markdown(found)


def test_missing_results_name_the_command(tmp_path: Path) -> None:
    _results(tmp_path)
    (tmp_path / "robustness.json").unlink()
    with pytest.raises(DataError, match=r"robustness\.json, which `hybrid-llm-train robustness`"):
        report.load(tmp_path)
    run = CliRunner().invoke(cli.main, ["report", f"--results={tmp_path}"])
    assert run.exit_code == 1
    assert "Traceback" not in run.output


def test_without_a_model_the_way_to_one_is_named(tmp_path: Path) -> None:
    from training import dataset

    rows = list(pairs.rows(SAMPLE))
    dataset.save(Prepared(data_sha256="h", rows=rows), tmp_path / "prepared")
    for name in ("baselines", "errors", "robustness"):
        arguments = [name, f"--prepared={tmp_path / 'prepared'}", f"--model={tmp_path / 'none'}"]
        run = CliRunner().invoke(cli.main, arguments)
        assert run.exit_code == 1
        assert "hybrid-llm-train export" in run.output


def test_a_result_is_current_only_for_its_data_model_and_split(
    prepared: Prepared, tmp_path: Path
) -> None:
    model: Any = _Shouting()
    path = tmp_path / "errors.json"
    about = results.heading(prepared, model, split="test", command="x", rounds=1)
    results.write(path, about)
    assert results.is_current(path, prepared, model, split="test")
    assert not results.is_current(path, prepared, model, split="validation")
    seen = Reference(rows=1, scores=[1.0], categories={"code": 1.0})
    model.manifest = msgspec.structs.replace(model.manifest, reference=seen)
    assert results.is_current(path, prepared, model, split="test")  # it changes no figure
    other = Prepared(data_sha256="other", rows=[])
    assert not results.is_current(path, other, model, split="test")
    path.write_text("{")
    assert not results.is_current(path, prepared, model, split="test")
