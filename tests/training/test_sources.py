"""Each kind of data set, from small files in its original format."""

import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import httpx2
import pytest

from training.dataset import DataError
from training.sources import mmlu_pro, pairs, proxy_db, zeroeval
from training.sources.fetch import fetch


def _zeroeval_item(key: str | int, output: str, answer: str, **more: object) -> dict[str, object]:
    return {
        "session_id": key,
        "chat_history": [f"\n## Question: \n\nHow many? ({key})\n\n\n## Instruction \n\n…"],
        "model_input": "n/a",
        "output": [output],
        "generator": "someone/some-model",
        "configs": {"engine": "vllm", "temperature": 0.0, "max_tokens": 4096},
        "dataset": "gsm",
        "id": key,
        "question": f"How many? ({key})",
        "answer": answer,
        "task_type": "qa",
    } | more


def _json_answer(answer: object) -> str:
    return f"```json\n{json.dumps({'reasoning': 'So it is.', 'answer': answer}, indent=4)}\n```"


@pytest.fixture
def zeroeval_folder(tmp_path: Path) -> Path:
    task = tmp_path / "zeroeval" / "gsm"
    task.mkdir(parents=True)
    local = [
        _zeroeval_item("gsm8k-main-test-#0", _json_answer("14 slices"), "# 14"),
        _zeroeval_item("gsm8k-main-test-#1", "I would rather not say.", "# 3"),
        _zeroeval_item("gsm8k-main-test-#2", _json_answer("1,200"), "# 1200"),
    ]
    cloud = [
        _zeroeval_item("gsm8k-main-test-#0", _json_answer(14), "# 14"),
        _zeroeval_item("gsm8k-main-test-#1", _json_answer("$3"), "# 3"),
    ]
    other = [_zeroeval_item("gsm8k-main-test-#0", _json_answer("13"), "# 14")]
    for model, items in {
        "Phi-3.5-mini-instruct": local,
        "gpt-4o-mini-2024-07-18": cloud,
        "gemma-2-2b-it": other,
    }.items():
        (task / f"{model}.json").write_text(json.dumps(items))
    return tmp_path


def test_zeroeval_items_become_rows(zeroeval_folder: Path) -> None:
    [task] = zeroeval.find(zeroeval_folder)
    first, second = zeroeval.rows(task)
    assert (first.id, first.source, first.category) == (
        "zeroeval-gsm/gsm8k-main-test-#0",
        "zeroeval-gsm",
        "math",
    )
    assert first.text == "How many? (gsm8k-main-test-#0)"
    assert first.prompt_chars > len(first.text)
    assert first.outcomes == {"local": 1.0, "cloud": 1.0, "gemma-2-2b": 0.0}
    assert (second.local_score, second.cloud_score, second.unread) == (0.0, 10.0, True)
    assert first.group != second.group


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (_json_answer("42"), "42"),
        (_json_answer(42), "42"),
        ('{"reasoning": "an open "quote", "answer": "7"}', "7"),
        ('{"reasoning": "line\nbreak", "answer": "7"}', "7"),
        ("answer: 12, I think", "12"),
        ("no idea", None),
        ("", None),
    ],
)
def test_answer_is_extracted_from_untidy_output(output: str, answer: str | None) -> None:
    assert zeroeval.extract(output) == answer


@pytest.mark.parametrize(
    ("task", "given", "correct", "right"),
    [
        ("gsm", "$1,200 a year", "# 1200", True),
        ("gsm", "-3", "# 3", False),
        ("math-l5", "1/2", "0.5", True),
        ("math-l5", "no number", "0.5", False),
        ("crux", "[(4, 1), (2, 3)]", "[(4, 1), (2, 3)]", True),
        ("crux", "hbtofdeiequ", "'hbtofdeiequ'", True),
        ("crux", "[(4,1)]", "[(4, 1)]", False),
    ],
)
def test_answer_is_graded_by_the_rule_of_the_task(
    task: str, given: str, correct: str, right: bool
) -> None:
    assert zeroeval.is_right(task, given, correct) is right


def test_invalid_zeroeval_item_is_named(zeroeval_folder: Path) -> None:
    path = zeroeval_folder / "zeroeval/gsm/gpt-4o-mini-2024-07-18.json"
    items = json.loads(path.read_text())
    del items[1]["answer"]
    path.write_text(json.dumps(items))
    with pytest.raises(DataError, match=r"gpt-4o-mini-2024-07-18\.json: item 2: .*`answer`"):
        list(zeroeval.rows(path.parent))


def test_error_for_a_missing_pair_lists_the_models(zeroeval_folder: Path) -> None:
    task = zeroeval_folder / "zeroeval/gsm"
    (task / "gpt-4o-mini-2024-07-18.json").unlink()
    with pytest.raises(DataError, match=r"gpt-4o-mini.*found Phi-3.5-mini-instruct, gemma-2-2b-it"):
        list(zeroeval.rows(task))


def _mmlu_item(key: int, pred: str | None, **more: object) -> dict[str, object]:
    return {
        "question_id": key,
        "question": f"Which of these is it? ({key})",
        "options": ["the first", "the second", "N/A"],
        "answer": "B",
        "answer_index": 1,
        "cot_content": "",
        "category": "business",
        "src": "ori_mmlu-business_ethics",
        "pred": pred,
        "model_outputs": " Let's see. The answer is (B).",
    } | more


@pytest.fixture
def mmlu_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mmlu-pro"
    folder.mkdir()
    with zipfile.ZipFile(folder / "model_outputs_Phi-3-mini-4k-instruct_5shots.zip", "w") as local:
        local.writestr(
            "model_outputs_Phi-3-mini-4k-instruct_5shots.json",
            json.dumps([_mmlu_item(70, "B"), _mmlu_item(71, None)]),
        )
        local.writestr("__MACOSX/._model_outputs.json", "not JSON")
    cloud = folder / "gemini-1.5-flash-002"
    cloud.mkdir()
    answered = _mmlu_item(71, "A", response="It is A.")
    (cloud / "business_result.json").write_text(json.dumps([_mmlu_item(70, "B"), answered]))
    (cloud / "business_summary.json").write_text("{}")
    return tmp_path


def test_mmlu_pro_zips_and_folders_become_rows(mmlu_folder: Path) -> None:
    [folder] = mmlu_pro.find(mmlu_folder)
    first, second = mmlu_pro.rows(folder)
    assert first.text == "Which of these is it? (70)\nA. the first\nB. the second"
    assert (first.id, first.local_score, first.cloud_score) == ("mmlu-pro/70", 10.0, 10.0)
    assert (second.local_score, second.cloud_score, second.unread) == (0.0, 0.0, True)
    assert first.licence


def test_incomplete_zip_is_named(mmlu_folder: Path) -> None:
    path = mmlu_folder / "mmlu-pro/model_outputs_Phi-3-mini-4k-instruct_5shots.zip"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"5shots\.zip: .*fetched whole"):
        list(mmlu_pro.rows(path.parent))


_REQUESTS = "id category prompt response target session_id model score"
_JUDGEMENTS = "request_id target score judge_model"


def _database(
    folder: Path, requests: list[tuple[Any, ...]], judgements: list[tuple[Any, ...]] | None
) -> Path:
    path = folder / "router.db"
    with sqlite3.connect(path) as link:
        link.execute(f"create table requests ({', '.join(_REQUESTS.split())})")
        link.executemany("insert into requests values (?, ?, ?, ?, ?, ?, 'm', 0.5)", requests)
        if judgements is not None:
            link.execute(f"create table judgements ({', '.join(_JUDGEMENTS.split())})")
            link.executemany("insert into judgements values (?, ?, ?, ?)", judgements)
    link.close()
    return path


def _turns(*texts: str) -> str:
    return json.dumps([{"role": "user", "content": text} for text in texts])


def test_judged_requests_become_rows(tmp_path: Path) -> None:
    requests = [
        ("a", None, _turns("Hi"), "Hello!", "local", "s1"),
        ("b", "code", _turns("Sort a list in Go", "and in Rust?"), "fn main", "cloud", "s1"),
        ("only-one-side", None, _turns("Hm"), "?", "local", None),
        ("hashed", None, "0" * 64, None, "local", None),
    ]
    judgements = [
        ("a", "local", 8, "gpt-4o-mini"), ("a", "local", 10, "another"),
        ("a", "cloud", 9, "gpt-4o-mini"),
        ("b", "local", 2, "gpt-4o-mini"), ("b", "cloud", 7, "gpt-4o-mini"),
        ("only-one-side", "local", 5, "gpt-4o-mini"),
        ("hashed", "local", 5, "gpt-4o-mini"), ("hashed", "cloud", 5, "gpt-4o-mini"),
    ]  # fmt: skip
    path = _database(tmp_path, requests, judgements)
    assert proxy_db.find(tmp_path) == [path]
    first, second = proxy_db.rows(path)
    assert (first.local_score, first.cloud_score, first.local_response_chars) == (9.0, 9.0, 6)
    assert second.text == "Sort a list in Go\nand in Rust?"
    assert (second.category, second.cloud_response_chars) == ("code", 7)
    assert second.outcomes["local"] == 0.0
    # A conversation stays within one split.
    assert first.group == second.group


def test_unusable_database_is_a_clear_error(tmp_path: Path) -> None:
    row = ("a", None, _turns("Hi"), "Hello!", "local", None)
    path = _database(tmp_path, [row], None)
    with pytest.raises(DataError, match=r"no table judgements \(let the judge run first\)"):
        list(proxy_db.rows(path))
    path.unlink()
    hashed = ("a", None, "f" * 64, None, "local", None)
    path = _database(tmp_path, [hashed], [("a", "local", 5, "j"), ("a", "cloud", 5, "j")])
    with pytest.raises(DataError, match=r"storage\.prompts must be full"):
        list(proxy_db.rows(path))
    path.unlink()
    path = _database(tmp_path, [row], [("a", "local", 11, "j")])
    with pytest.raises(DataError, match=r"request a: .*within 1\.\.10"):
        list(proxy_db.rows(path))
    path.write_text("this is no database, whatever its name says" * 100)
    with pytest.raises(DataError, match=r"router\.db: file is not a database"):
        list(proxy_db.rows(path))


def test_missing_database_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with sqlite3.connect(path) as link:
        link.execute("create table requests (id, prompt)")
    link.close()
    with pytest.raises(DataError, match="requests lacks category, response, session_id, target"):
        list(proxy_db.rows(path))


def test_fetch_keeps_existing_files_and_leaves_no_partial_ones(tmp_path: Path) -> None:
    requested = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requested.append(str(request.url))
        return httpx2.Response(200, content=b"[]")

    (tmp_path / "here.json").write_text("old")
    files = {tmp_path / "here.json": "a/here.json", tmp_path / "sub/new.json": "a/new.json"}
    fetch(files, base="http://mirror.test/", transport=httpx2.MockTransport(answer))
    assert requested == ["http://mirror.test/a/new.json"]
    assert (tmp_path / "here.json").read_text() == "old"
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["new.json"]


def test_failed_fetch_names_the_manual_steps(tmp_path: Path) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route")

    files = zeroeval.wanted(tmp_path)
    with pytest.raises(DataError, match=r"no route.*zeroeval/gsm/.*by hand.*--fetch-base"):
        fetch(files, transport=httpx2.MockTransport(refuse))
    assert len(files) == 15
    missing = httpx2.MockTransport(lambda request: httpx2.Response(404))
    with pytest.raises(DataError, match="404"):
        fetch(mmlu_pro.wanted(tmp_path), transport=missing)


def test_own_pairs_are_validated(tmp_path: Path) -> None:
    record = {
        "id": "x/1", "source": "x", "category": "c", "query": "What?", "local_model": "a",
        "cloud_model": "b", "local_score": 3, "cloud_score": 9,
    }  # fmt: skip
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"query": "what? "}))
    first, second = pairs.rows(path)
    assert first.group == second.group  # the default group is the normalised text
    for change, complaint in (
        ({"query": "  "}, r"own\.jsonl:2: the prompt is empty"),
        ({"local_score": 70}, r"own\.jsonl:2: .*within 0\.\.10"),
        ({"local_score": None}, r"own\.jsonl:2: .*local_score"),
    ):
        path.write_text(json.dumps(record) + "\n" + json.dumps(record | change))
        with pytest.raises(DataError, match=complaint):
            list(pairs.rows(path))
    del record["source"]
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"own\.jsonl:1: .*`source`"):
        list(pairs.rows(path))
