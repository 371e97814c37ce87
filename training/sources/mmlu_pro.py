"""MMLU-Pro (github.com/TIGER-AI-Lab/MMLU-Pro, Apache-2.0): multiple choice with ten options.

Files in FOLDER/mmlu-pro or FOLDER/eval_results: model_outputs_MODEL_5shots.zip with JSON lists,
MODEL.json, or a folder MODEL with one JSON file per subject. An item has `question_id`, `question`,
`options`, `answer` (a letter), `category`, `pred` (a letter or null) and the text of the answer as
`model_outputs` or `response`.

An answer without a verdict (mostly truncated at a token limit) counts as wrong and marks the row as
unread. The repository's script counts a random option instead. The models got five worked examples
before each question, which the router does not see.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from training.dataset import DataError, Row
from training.sources import graded
from training.sources.graded import PAIR, Answer
from training.sources.pairs import checked_text

KIND = "mmlu-pro"
LAYOUT = "mmlu-pro/model_outputs_MODEL_5shots.zip (MMLU-Pro's eval_results)"
LICENCE = "Apache-2.0 (repository)"
OTHER_MODELS = (
    "Meta-Llama-3_1-70B-Instruct",
    "Meta-Llama-3_1-8B-Instruct",
    "Mistral-7B-Instruct-v0.2",
    "Qwen1.5-7B-Chat",
    "Yi-6b-Chat",
    "gemini-1.5-pro-002",
)

_LETTERS = "ABCDEFGHIJKLMNOP"
_NAME = re.compile(r"^(?:model_outputs_)?(.+?)(?:_5shots)?$")


class _Item(msgspec.Struct):
    question_id: int | str
    question: str
    options: list[str]
    answer: str
    category: str
    pred: str | None = None
    model_outputs: str | None = None
    response: str | None = None


def find(folder: Path) -> list[Path]:
    """The result folders in a data folder."""
    return [path for path in (folder / "mmlu-pro", folder / "eval_results") if path.is_dir()]


def files(folder: Path) -> list[Path]:
    """The files of all models."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in {".zip", ".json"} and "summary" not in path.name
    )


def rows(folder: Path) -> Iterator[Row]:
    """The rows of a result folder. Raises DataError, which names the invalid file and item."""
    models: dict[str, list[Path]] = {}
    for path in files(folder):
        models.setdefault(_model(path, folder), []).append(path)
    if PAIR.choose(models) is None:
        raise DataError(
            f"{folder}: needs results of one of {', '.join(PAIR.local)} and one of "
            f"{', '.join(PAIR.cloud)}; found {', '.join(sorted(models)) or 'nothing'}"
        )
    answers = {
        model: {key: answer for path in paths for key, answer in _answers(path)}
        for model, paths in models.items()
    }
    yield from graded.rows("mmlu-pro", answers, licence=LICENCE)


def wanted(folder: Path) -> dict[Path, str]:
    """The files of `--fetch mmlu-pro`: target file -> path in the repository."""
    names = [
        f"model_outputs_{model}_5shots.zip"
        for model in ("Phi-3-mini-4k-instruct", "gemini-1.5-flash-002", *OTHER_MODELS)
    ]
    base = "TIGER-AI-Lab/MMLU-Pro/main/eval_results"
    return {folder / "mmlu-pro" / name: f"{base}/{name}" for name in names}


def _model(path: Path, folder: Path) -> str:
    name = path.stem if path.parent == folder else path.relative_to(folder).parts[0]
    match = _NAME.match(name)
    assert match
    return match[1]


def _answers(path: Path) -> Iterator[tuple[str, Answer]]:
    for name, content in _documents(path):
        for where, item in graded.items(content, _Item, name=name):
            yield str(item.question_id), _answer(item, where)


def _answer(item: _Item, where: str) -> Answer:
    options = [option for option in item.options if option != "N/A"]
    listed = zip(_LETTERS, options, strict=False)
    lines = [checked_text(item.question, where), *(f"{letter}. {text}" for letter, text in listed)]
    question = "\n".join(lines)
    return Answer(
        question=question,
        category=item.category,
        right=item.pred == item.answer,
        read=item.pred is not None,
        response_chars=len(item.model_outputs or item.response or ""),
        prompt_chars=len(question),
    )


def _documents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".json":
        yield str(path), path.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                # macOS adds metadata entries with the same names.
                if name.endswith(".json") and "__MACOSX" not in name:
                    yield f"{path}/{name}", archive.read(name)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: {error}: was it fetched whole?") from error
