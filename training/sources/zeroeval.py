"""ZeroEval (github.com/WildEval/ZeroEval, Apache-2.0): one JSON list per task and model.

Files: FOLDER/zeroeval/TASK/MODEL.json, or the repository's result_dirs/TASK/MODEL.json. An item has
`id`, `chat_history` (the prompt first), `question` or `problem`, `output` (a list with the answer
first: JSON with "reasoning" and "answer", not always valid) and `answer`.

Grading follows the repository. For gsm and math-l5 the first number of both answers must be equal,
for crux the literals. A missing answer counts as wrong. The repository's other tasks are graded
differently and are not read.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from training.dataset import DataError, Row
from training.sources import graded
from training.sources.graded import PAIR, Answer
from training.sources.pairs import checked_text

KIND = "zeroeval"
LAYOUT = "zeroeval/TASK/MODEL.json (ZeroEval's result_dirs)"
LICENCE = "Apache-2.0 (repository); underlying prompts: GSM8K (MIT), MATH (MIT), CRUXEval (MIT)"
CATEGORIES = {"gsm": "math", "math-l5": "math", "crux": "code-reasoning"}
OTHER_MODELS = ("Meta-Llama-3.1-8B-Instruct", "gemma-2-2b-it", "gpt-4o-2024-08-06")

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FRACTION = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*")


class _Item(msgspec.Struct):
    id: str | int
    output: list[str]
    answer: str
    chat_history: list[str] = []
    question: str = ""
    problem: str = ""


def find(folder: Path) -> list[Path]:
    """The task folders of a data folder."""
    bases = (folder / "zeroeval", folder / "result_dirs", folder / "ZeroEval" / "result_dirs")
    tasks = [base / task for base in bases for task in CATEGORIES]
    return [task for task in tasks if task.is_dir()]


def files(task: Path) -> list[Path]:
    """The result files of one task."""
    return sorted(task.glob("*.json"))


def rows(task: Path) -> Iterator[Row]:
    """The rows of one task. Raises DataError, which names the invalid file and item."""
    paths = files(task)
    if PAIR.choose({path.stem: None for path in paths}) is None:
        names = ", ".join(path.stem for path in paths) or "nothing"
        raise DataError(
            f"{task}: needs one of {', '.join(PAIR.local)} and one of {', '.join(PAIR.cloud)} "
            f"(.json); found {names}"
        )
    answers = {path.stem: dict(_answers(path, task.name)) for path in paths}
    yield from graded.rows(f"zeroeval-{task.name}", answers, licence=LICENCE)


def wanted(folder: Path) -> dict[Path, str]:
    """The files of `--fetch zeroeval`: target file -> path in the repository."""
    pairs = {"gsm": "Phi-3.5-mini-instruct"}
    out = {}
    for task in CATEGORIES:
        local = pairs.get(task, "Phi-3-mini-4k-instruct")
        for model in (local, "gpt-4o-mini-2024-07-18", *OTHER_MODELS):
            path = f"WildEval/ZeroEval/main/result_dirs/{task}/{model}.json"
            out[folder / "zeroeval" / task / f"{model}.json"] = path
    return out


def _answers(path: Path, task: str) -> Iterator[tuple[str, Answer]]:
    for where, item in graded.items(path.read_bytes(), _Item, name=str(path)):
        prompt = item.chat_history[0] if item.chat_history else ""
        question = checked_text(item.question or item.problem or prompt, where)
        output = item.output[0] if item.output else ""
        given = extract(output)
        yield (
            str(item.id),
            Answer(
                question=question,
                category=CATEGORIES[task],
                right=given is not None and is_right(task, given, item.answer),
                read=given is not None,
                response_chars=len(output),
                prompt_chars=len(prompt or question),
            ),
        )


def extract(output: str) -> str | None:
    """The "answer" in a model's output; None if there is none.

    It is read from the first complete JSON object, or else from the field alone.
    """
    start = output.find("{")
    while start >= 0:
        try:
            value, _ = json.JSONDecoder(strict=False).raw_decode(output, start)
        except json.JSONDecodeError:
            start = output.find("{", start + 1)
            continue
        if isinstance(value, dict) and "answer" in value:
            return _to_text(value["answer"])
        break
    match = re.search(r'"?answer"?\s*:\s*(?:"([^"]*)"|([^,\s}]+))', output)
    return None if match is None else (match[1] if match[1] is not None else match[2])


def is_right(task: str, given: str, correct: str) -> bool:
    """Whether the answer is correct by the rule of the task."""
    if task == "crux":
        return given == correct or f"'{given}'" == correct
    number, truth = _number(given), _number(correct.replace("#", ""))
    return number is not None and number == truth


def _number(text: str) -> float | None:
    plain = text.replace("$", "").replace(",", "")
    if (fraction := _FRACTION.fullmatch(plain)) and float(fraction[2]):
        return float(fraction[1]) / float(fraction[2])
    match = _NUMBER.search(plain)
    return float(match[0]) if match else None


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
