"""The prepared file: its rows, dropped duplicates and the data card."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from router_model.split import text_key
from training import cli, dataset, prepare
from training.dataset import DataError, Row
from training.duplicates import near_duplicates
from training.sources import pairs

SAMPLE = Path(__file__).parents[2] / "data/sample.jsonl"


def _row(key: str, text: str, **more: object) -> Row:
    defaults: dict[str, object] = {
        "source": "s",
        "category": "c",
        "group": key,
        "outcomes": {"local": 1.0, "cloud": 1.0},
        "local_score": 10.0,
        "cloud_score": 10.0,
    }
    return Row(id=key, text=text, **(defaults | more))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "router_pairs.jsonl").write_bytes(SAMPLE.read_bytes())
    return data


def _prepare(folder: Path, *more: str) -> str:
    out = folder.parent
    result = CliRunner().invoke(
        cli.main,
        [
            "prepare",
            f"--data={folder}",
            "--estimated=/dev/null",
            f"--prepared={out / 'prepared'}",
            f"--results={out / 'results'}",
            *more,
        ],
    )
    return f"{result.exit_code} {result.output}"


def test_text_key_ignores_case_and_spacing_but_not_signs() -> None:
    assert text_key("  What IS\n this?") == text_key("what is this?")
    assert text_key("ﬁne") == text_key("fine")  # a ligature equals its letters
    assert text_key("2+2") != text_key("2-2")


def test_only_near_duplicates_are_found() -> None:
    words = (
        "A farmer sells twelve brown eggs and nine white eggs at the market on a rainy {} morning"
    )
    long = " ".join(f"{words.format('May')} and then sentence {i} follows." for i in range(8))
    train = [_row("1", long), _row("2", "Prove that the square root of two is irrational.")]
    near = near_duplicates([_row("a", long.replace("rainy May", "sunny May", 1))], train)
    assert [(pair.row.id, pair.other.id) for pair in near] == [("a", "1")]
    assert 0.8 <= near[0].jaccard < 1
    assert near_duplicates([_row("b", "What is the capital of France, and why?")], train) == []
    assert near_duplicates([_row("c", "Hi")], [_row("3", "hi")])[0].jaccard == 1


def test_repeated_prompts_are_dropped_and_counted() -> None:
    rows = [
        _row("aux/1", "WHAT?", auxiliary=True, source="aux"),
        _row("1", "What?"),
        _row("2", "what? "),
        _row("aux/2", "Why?", auxiliary=True, source="aux"),
        _row("aux/3", "why?", auxiliary=True, source="aux"),
        _row("other/1", "why?", auxiliary=True, source="other"),
    ]
    unique, dropped = prepare.deduplicate(rows)
    assert [row.id for row in unique] == ["1", "aux/2", "other/1"]
    assert set(dropped.values()) == {1}
    assert unique[1].group == unique[2].group


def test_single_class_is_a_clear_error() -> None:
    rows = [_row(str(i), f"Question {i}?") for i in range(50)]
    with pytest.raises(DataError, match=r"all \d+ training rows \(s, first .*\) have a good local"):
        prepare.check(rows)
    with pytest.raises(DataError, match="other_pairs"):
        prepare.check([_row("1", "x", auxiliary=True)])


def test_data_card_has_counts_and_leakage(folder: Path) -> None:
    assert _prepare(folder).startswith("0 ")
    card = json.loads((folder.parent / "results/data_card.json").read_text())
    assert card["rows"] == sum(s["rows"] for s in card["sources"].values()) > 50
    assert [f["name"] for f in card["files"]] == ["router_pairs.jsonl"]
    for split in ("validation", "test", "ood"):
        assert card["leakage"][split]["groups_in_train"] == 0
        assert card["leakage"][split]["texts_in_train"] == 0
    facts = card["sources"]["sample-facts"]
    assert facts["licences"] == ["Apache-2.0"]
    assert 0 < facts["local_ok_share"] < 1
    assert card["command"].startswith("hybrid-llm-train")


def test_leakage_is_reported() -> None:
    rows = list(pairs.rows(SAMPLE))
    test = next(row for row in rows if row.split == "test")
    train = next(row for row in rows if row.split == "train")
    train.text = test.text.upper()
    leakage = prepare.leakage(dataset.Prepared(data_sha256="h", rows=rows))["test"]
    assert leakage["texts_in_train"] == 1
    assert leakage["near_duplicates_in_train"] >= 1
    assert leakage["examples"][0] == {"row": test.id, "train": train.id, "jaccard": 1.0}


def test_unchanged_data_is_not_prepared_again(folder: Path) -> None:
    assert "wrote" in _prepare(folder)
    assert "up to date" in _prepare(folder)
    (folder.parent / "results/data_card.json").unlink()
    assert "wrote" in _prepare(folder)
    with (folder / "router_pairs.jsonl").open("a") as stream:
        stream.write("\n")
    assert "wrote" in _prepare(folder)


def test_error_is_one_line_with_file_and_row(folder: Path) -> None:
    lines = SAMPLE.read_text().splitlines()
    lines[4] = lines[4][:50]
    (folder / "router_pairs.jsonl").write_text("\n".join(lines))
    output = _prepare(folder)
    assert output.startswith("1 ")
    assert "router_pairs.jsonl:5: " in output
    assert "Traceback" not in output


def test_error_for_an_empty_folder_names_all_layouts(tmp_path: Path) -> None:
    output = _prepare(tmp_path)
    assert "no data in" in output
    for layout in ("*.jsonl", "zeroeval/", "mmlu-pro/", "*.db"):
        assert layout in output


def test_failed_fetch_is_a_one_line_error(folder: Path) -> None:
    # Nothing listens on the discard port.
    output = _prepare(folder, "--fetch=zeroeval", "--fetch-base=http://127.0.0.1:9")
    assert output.startswith("1 ")
    assert "by hand" in output
