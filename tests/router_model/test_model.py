"""Loading the shipped model: scores, plausible order of prompts, rejection of modified files."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from router_model.heuristic import Heuristic
from router_model.manifest import MANIFEST_FILE, Manifest
from router_model.model import RouterModel, RouterModelError
from router_model.score import Score
from router_model.value import GainPerDollar, text_tokens

FOLDER = Path(__file__).parents[2] / "data/models/router"

EASY = ["Hello!", "What is 2+2?", "What is the capital of Portugal?"]
HARD = [
    "Prove that every finite integral domain is a field, and that every finite division ring is "
    "commutative.",
    "Write a garbage collector for a bytecode interpreter in C, generational and incremental, "
    "explain the write barrier and prove that no live object is freed.",
]


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(FOLDER)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "router"))


def test_scores_are_repeatable_probabilities(model: RouterModel) -> None:
    for text in [*EASY, *HARD, "", "\x00", "字" * 5000, "x" * 100_000]:
        score = model.score(text)
        assert all(0.0 <= value <= 1.0 for value in score[:3])
        assert model.score(text) == score


def test_model_runtime_sends_and_stores_no_telemetry(tmp_path: Path) -> None:
    """By default it stores a machine id and pending events in the home folder."""
    program = (
        "from pathlib import Path; from router_model.model import RouterModel; "
        "RouterModel.load(Path('data/models/router')).score('Hello!')"
    )
    # Without the variables of a CI server, where the runtime disables telemetry anyway.
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=FOLDER.parents[2],
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_easy_prompts_stay_local_at_the_recommended_threshold(model: RouterModel) -> None:
    gain = model.manifest.gain
    for text in EASY:
        score = model.score(text)
        merit = score.score
        if gain is not None:
            merit = GainPerDollar(gain).rate(score, input_tokens=text_tokens(text)).merit
        assert merit >= model.manifest.threshold, text


def test_demanding_prompts_score_below_easy_ones(model: RouterModel) -> None:
    lowest_easy = min(model.score(text).score for text in EASY)
    for text in HARD:
        assert model.score(text).score < lowest_easy, text


def test_concurrent_threads_get_equal_scores(model: RouterModel) -> None:
    expected = [model.score(text) for text in EASY]
    results: list[list[Score]] = []

    def work() -> None:
        results.extend([model.score(text) for text in EASY] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    assert all(scores == expected for scores in results)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_modified_file_is_rejected(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(RouterModelError, match=rf"{name}: sha256 is .* the manifest has"):
        RouterModel.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", MANIFEST_FILE])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(RouterModelError, match=name):
        RouterModel.load(copy)


def test_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(RouterModelError, match="no router model in"):
        RouterModel.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("threshold", 1.5, "threshold 1.5"),
        ("max_length", 4, "max_length 4"),
        (
            "files",
            {"../model.onnx": "0", "model.onnx": "0", "tokenizer.json": "0"},
            "plain file name",
        ),
        ("files", {"model.onnx": "0"}, "lacks tokenizer.json"),
        ("surprise", 1, "unknown field `surprise`"),
        ("reference", {"rows": 0, "scores": [1.0], "categories": {}}, "reference has no prompts"),
        ("reference", {"rows": 1, "scores": [], "categories": {}}, "reference has no prompts"),
        ("version", None, "version"),
    ],
)
def test_invalid_manifest_is_rejected(copy: Path, key: str, value: object, message: str) -> None:
    path = copy / MANIFEST_FILE
    content = msgspec.json.decode(path.read_bytes())
    content[key] = value
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(RouterModelError, match=message):
        Manifest.load(copy)


def test_older_manifest_without_reference_is_unchanged_when_saved(copy: Path) -> None:
    path = copy / MANIFEST_FILE
    content = msgspec.json.decode(path.read_bytes())
    assert content.pop("reference")["rows"] > 1000
    path.write_bytes(msgspec.json.encode(content))
    manifest = Manifest.load(copy)
    assert manifest.reference is None
    manifest.save(copy)
    assert msgspec.json.decode(path.read_bytes()) == content


def test_invalid_onnx_file_is_rejected(copy: Path) -> None:
    import hashlib

    (copy / "model.onnx").write_bytes(b"no model")
    manifest = msgspec.json.decode((copy / MANIFEST_FILE).read_bytes())
    manifest["files"]["model.onnx"] = hashlib.sha256(b"no model").hexdigest()
    (copy / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(RouterModelError, match="cannot be run"):
        RouterModel.load(copy)


def test_threshold_table_maps_cost_and_quality_to_thresholds(model: RouterModel) -> None:
    manifest = model.manifest
    thresholds = [point.threshold for point in manifest.thresholds]
    assert thresholds == sorted(thresholds)
    assert manifest.threshold_for_cost(0.0) == 0.0
    assert manifest.threshold_for_cost(1.0) == 1.0
    assert manifest.threshold_for_quality(0.0) == 0.0
    by_quality = [manifest.threshold_for_quality(q / 10) for q in range(11)]
    assert by_quality == sorted(by_quality)
    by_cost = [manifest.threshold_for_cost(c / 10) for c in range(11)]
    assert by_cost == sorted(by_cost)
    assert manifest.threshold_for_quality(2.0) == 1.0


def test_heuristic_orders_plain_cases() -> None:
    rules = Heuristic()
    for easy in EASY:
        for hard in HARD:
            assert rules.score(easy).score > rules.score(hard).score + 0.1
