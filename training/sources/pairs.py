"""Outcome pairs: the scores of a local and a cloud model on the same prompt (data/README.md).

Files named other_pairs* have other pairs of models. Their rows are for `transfer`, and rows
that repeat a question of the routed pair are dropped. All other files have the routed pair.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from router_model.features import clip
from router_model.label import soft_label
from router_model.split import text_key
from training.dataset import CLOUD_HEAD, LOCAL_HEAD, DataError, Row, read_lines

KIND = "pairs"
# Recorded answers for `replay`, which lie beside the pairs.
FINAL_ANSWERS = "final_answers.jsonl.gz"
OPTION_LOGPROBS = "gemma_mmlu_logprobs.jsonl.gz"
OTHER_PAIRS = "other_pairs.jsonl.gz"
LAYOUT = "*.jsonl or *.jsonl.gz (the format of data/README.md)"


class _Record(msgspec.Struct):
    id: str
    source: str
    category: str
    local_model: str
    cloud_model: str
    local_score: float
    cloud_score: float
    group: str = ""
    prompt: str = ""
    query: str = ""
    licence: str = ""
    local_response_chars: int | None = None
    cloud_response_chars: int | None = None
    other_scores: dict[str, float | None] = {}
    local_unread: bool | None = False
    overlaps_router: list[str] | bool | None = None
    weak: bool = False


def canonical(model: str) -> str:
    """The canonical name of a model, so that all its spellings share a head.

    >>> canonical("Meta-Llama-3_1-8B-Instruct") == canonical("llama-3.1-8b-instruct")
    True
    """
    name = re.split(r"--|/", model)[-1].lower().replace("_", ".")
    name = re.sub(r"^meta-|-(instruct|chat|it|hf|preview)(?=-|$)", "", name)
    return re.sub(r"-(20\d\d-\d\d-\d\d|0\d\d|\d{4})$", "", name)


def find(folder: Path) -> list[Path]:
    """The files of outcome pairs in a data folder."""
    return sorted(
        path
        for path in folder.glob("*.jsonl*")
        if path.name.endswith((".jsonl", ".jsonl.gz"))
        and path.name not in (FINAL_ANSWERS, OPTION_LOGPROBS)
    )


def files(path: Path) -> list[Path]:
    """The file itself."""
    return [path]


def checked_text(text: str, where: str) -> str:
    """The text of a prompt. Raises DataError, which names `where`, if it is empty."""
    if not text.strip():
        raise DataError(f"{where}: the prompt is empty")
    return text


def rows(path: Path, *, with_repeated: bool = False) -> Iterator[Row]:
    """The rows of one JSONL file. Raises DataError, which names the invalid line.

    `with_repeated`: also rows of other pairs that repeat a question of the routed pair.
    """
    auxiliary = path.name.startswith("other_pairs")
    decoder = msgspec.json.Decoder(_Record)
    for number, line in read_lines(path):
        try:
            record = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        text = checked_text(record.query or record.prompt, f"{path}:{number}")
        if not all(0 <= score <= 10 for score in (record.local_score, record.cloud_score)):
            raise DataError(f"{path}:{number}: local_score and cloud_score must be within 0..10")
        if auxiliary and record.overlaps_router and not with_repeated:
            continue
        yield _row(record, text, auxiliary=auxiliary)


def _row(record: _Record, text: str, *, auxiliary: bool) -> Row:
    local = canonical(record.local_model) if auxiliary else LOCAL_HEAD
    cloud = canonical(record.cloud_model) if auxiliary else CLOUD_HEAD
    outcomes = {
        canonical(model): soft_label(score)
        for model, score in record.other_scores.items()
        if score is not None
    }
    outcomes[local] = soft_label(record.local_score)
    outcomes[cloud] = soft_label(record.cloud_score)
    return Row(
        id=record.id,
        source=record.source,
        category=record.category,
        text=clip(text),
        group=record.group or text_key(text),
        outcomes=outcomes,
        auxiliary=auxiliary,
        unread=bool(record.local_unread),
        weak=record.weak,
        local_score=record.local_score,
        cloud_score=record.cloud_score,
        prompt_chars=len(record.prompt or record.query),
        local_response_chars=record.local_response_chars,
        cloud_response_chars=record.cloud_response_chars,
        licence=record.licence,
    )
