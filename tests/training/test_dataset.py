"""Rows from files, and fixed splits."""

import gzip
import json
from pathlib import Path

import pytest

from router_model.label import is_ok, soft_label
from router_model.split import text_key
from training import dataset
from training.dataset import DataError, Prepared, Row
from training.sources import pairs

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data/sample.jsonl"


def test_splits_are_pinned() -> None:
    # Computed once with sha1sum. A change would leak test prompts into training.
    splits = {group: dataset.split_of(group, "any") for group in ("a", "b", "d", "v")}
    assert splits == {
        "a": "test",
        "b": "train",
        "d": "test",
        "v": "validation",
    }


def test_split_shares_match_the_targets() -> None:
    splits = [dataset.split_of(f"group {i}", "any") for i in range(5000)]
    assert 0.68 < splits.count("train") / 5000 < 0.72
    assert 0.085 < splits.count("validation") / 5000 < 0.115


def test_held_out_source_is_in_no_split() -> None:
    assert {dataset.split_of(str(i), "zeroeval-crux") for i in range(100)} == {"ood"}


def test_sample_has_every_split_and_both_outcomes() -> None:
    rows = list(pairs.rows(SAMPLE))
    assert 50 <= len(rows) <= 70
    assert {row.split for row in rows} == {"train", "validation", "test"}
    assert {row.outcomes["local"] for row in rows} == {0.0, 1.0}
    assert all(set(row.outcomes) == {"local", "cloud", "sample-tiny"} for row in rows)


@pytest.mark.parametrize(
    ("name", "tests"), [("everyday", ["checks"]), ("graded", ["checks", "domain"])]
)
def test_estimated_training_prompts_are_no_checks(name: str, tests: list[str]) -> None:
    rows = list(pairs.rows(ROOT / f"data/{name}.jsonl"))
    assert all(row.weak and row.source == name for row in rows)
    trained = {text_key(row.text) for row in rows}
    assert len(trained) == len(rows)
    for other in tests:
        lines = (ROOT / f"data/{other}.jsonl").read_text().splitlines()
        assert not trained & {text_key(json.loads(line)["text"]) for line in lines}


def test_graded_prompts_are_of_all_levels_within_each_category() -> None:
    categories: dict[str, list[float]] = {}
    for row in pairs.rows(ROOT / "data/graded.jsonl"):
        categories.setdefault(row.category, []).append(row.outcomes["local"])
    for levels in categories.values():
        assert min(levels) < 0.4 < 0.8 < max(levels)


def _record(**changed: object) -> str:
    record = {
        "id": "x/1",
        "source": "x",
        "category": "c",
        "prompt": "p",
        "group": "g",
        "local_model": "meta/Meta-Llama-3.1-8B-Instruct",
        "cloud_model": "gpt-4o-2024-05-13",
        "local_score": 0,
        "cloud_score": 10,
        "other_scores": {"Phi-3.5-mini-instruct": 10.0, "unknown": None},
    }
    return json.dumps(record | changed)


def test_other_pairs_feed_auxiliary_heads_only(tmp_path: Path) -> None:
    path = tmp_path / "other_pairs.jsonl.gz"
    repeated = _record(overlaps_router=["x/9"])
    with gzip.open(path, "wt") as stream:
        stream.write(f"{_record(overlaps_router=[])}\n\n{repeated}\n")
    [row] = pairs.rows(path)
    assert row.auxiliary
    assert row.outcomes == {"llama-3.1-8b": 0.0, "gpt-4o": 1.0, "phi-3.5-mini": 1.0}


def test_invalid_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "router_pairs.jsonl"
    path.write_text(f"{_record()}\n{_record(local_score='good')}\n")
    with pytest.raises(DataError, match=r"router_pairs\.jsonl:2: .*local_score"):
        list(pairs.rows(path))


def test_missing_prepared_rows_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hybrid-llm-train prepare"):
        dataset.load(tmp_path / "prepared")


def test_prepared_rows_are_saved_and_loaded(tmp_path: Path) -> None:
    row = Row(id="1", source="s", category="c", text="t", group="g", outcomes={"local": 0.5})
    dataset.save(Prepared(data_sha256="h", rows=[row]), tmp_path / "p")
    assert dataset.load(tmp_path / "p").rows == [row]


def test_scores_become_labels() -> None:
    assert is_ok(7.0)
    assert not is_ok(6.9)
    assert [soft_label(s) for s in (0, 4.5, 10)] == [0.0, 0.0, 1.0]
    assert soft_label(6) < 0.5 < soft_label(7)
