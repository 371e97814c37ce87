"""Loading the committed model: it works, it orders prompts sensibly, it refuses what is altered."""

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


def test_scores_are_probabilities_and_repeatable(model: RouterModel) -> None:
    for text in [*EASY, *HARD, "", "\x00", "字" * 5000, "x" * 100_000]:
        score = model.score(text)
        assert all(0.0 <= value <= 1.0 for value in score)
        assert model.score(text) == score


def test_the_model_runtime_tells_nobody(tmp_path: Path) -> None:
    """Left to itself it keeps a number of this machine and events to send below the user's home."""
    program = (
        "from pathlib import Path; from router_model.model import RouterModel; "
        "RouterModel.load(Path('data/models/router')).score('Hello!')"
    )
    # Without anything that a build server sets: there it would be silent anyhow.
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=FOLDER.parents[2],
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_easy_prompts_stay_local_at_the_recommended_threshold(model: RouterModel) -> None:
    for text in EASY:
        assert model.score(text).score >= model.manifest.threshold, text


def test_demanding_prompts_score_below_easy_ones(model: RouterModel) -> None:
    lowest_easy = min(model.score(text).score for text in EASY)
    for text in HARD:
        assert model.score(text).score < lowest_easy, text


def test_two_threads_do_not_disturb_each_other(model: RouterModel) -> None:
    wanted = [model.score(text) for text in EASY]
    found: list[list[Score]] = []

    def work() -> None:
        found.extend([model.score(text) for text in EASY] for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(scores == wanted for scores in found)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_an_altered_file_is_refused(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(RouterModelError, match=rf"{name}: sha256 is .* the manifest has"):
        RouterModel.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", MANIFEST_FILE])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(RouterModelError, match=name):
        RouterModel.load(copy)


def test_no_folder_is_a_clear_error(tmp_path: Path) -> None:
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
def test_a_wrong_manifest_is_refused(copy: Path, key: str, value: object, message: str) -> None:
    path = copy / MANIFEST_FILE
    content = msgspec.json.decode(path.read_bytes())
    content[key] = value
    path.write_bytes(msgspec.json.encode(content))
    with pytest.raises(RouterModelError, match=message):
        Manifest.load(copy)


def test_an_older_manifest_has_no_reference_and_stays_as_it_is(copy: Path) -> None:
    path = copy / MANIFEST_FILE
    content = msgspec.json.decode(path.read_bytes())
    assert content.pop("reference")["rows"] > 1000
    path.write_bytes(msgspec.json.encode(content))
    manifest = Manifest.load(copy)
    assert manifest.reference is None
    manifest.save(copy)
    assert msgspec.json.decode(path.read_bytes()) == content


def test_something_that_is_no_model_is_refused(copy: Path) -> None:
    import hashlib

    (copy / "model.onnx").write_bytes(b"no model")
    manifest = msgspec.json.decode((copy / MANIFEST_FILE).read_bytes())
    manifest["files"]["model.onnx"] = hashlib.sha256(b"no model").hexdigest()
    (copy / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(RouterModelError, match="cannot be run"):
        RouterModel.load(copy)


def test_the_threshold_table_answers_cost_and_quality(model: RouterModel) -> None:
    manifest = model.manifest
    thresholds = [point.threshold for point in manifest.thresholds]
    assert thresholds == sorted(thresholds)
    assert manifest.threshold_for_cost(0.0) == 0.0
    assert manifest.threshold_for_cost(1.0) == 1.0
    assert manifest.threshold_for_quality(0.0) == 0.0
    asked = [manifest.threshold_for_quality(q / 10) for q in range(11)]
    assert asked == sorted(asked)
    afforded = [manifest.threshold_for_cost(c / 10) for c in range(11)]
    assert afforded == sorted(afforded)
    assert manifest.threshold_for_quality(2.0) == 1.0


def test_the_rules_order_the_plain_cases() -> None:
    rules = Heuristic()
    for easy in EASY:
        for hard in HARD:
            assert rules.score(easy).score > rules.score(hard).score + 0.1
