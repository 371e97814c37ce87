"""Conversion of benchmarks with one file of graded answers per model to rows.

The local and the cloud model are the first names of PAIR for which the benchmark has a file.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from router_model.features import clip
from router_model.label import soft_label
from router_model.split import text_key
from training.dataset import CLOUD_HEAD, LOCAL_HEAD, DataError, Row
from training.sources.pairs import canonical

T = TypeVar("T")

RIGHT, WRONG = 10.0, 0.0


class Pair(NamedTuple):
    """Names of result files, in order of preference."""

    local: Sequence[str]
    cloud: Sequence[str]

    def choose(self, present: Mapping[str, object]) -> tuple[str, str] | None:
        """The local and the cloud model among those present; None if either is missing."""
        local = next((name for name in self.local if name in present), None)
        cloud = next((name for name in self.cloud if name in present), None)
        return (local, cloud) if local and cloud else None


PAIR = Pair(
    local=("Phi-3-mini-4k-instruct", "Phi-3.5-mini-instruct"),
    cloud=("gpt-4o-mini-2024-07-18", "gemini-1.5-flash-002"),
)


def items(content: bytes, kind: type[T], *, name: str) -> Iterator[tuple[str, T]]:
    """Yield the items of a JSON list, each with its location for error messages.

    Raises DataError, which names the invalid item.
    """
    try:
        raws = msgspec.json.decode(content, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise DataError(f"{name}: not a JSON list: {error}") from error
    for number, raw in enumerate(raws, start=1):
        where = f"{name}: item {number}"
        try:
            item = msgspec.json.decode(raw, type=kind)
        except msgspec.DecodeError as error:
            raise DataError(f"{where}: {error}") from error
        yield where, item


class Answer(NamedTuple):
    """One model's answer to one question.

    Attributes:
        read: whether the answer has a verdict.
        prompt_chars: the length of the prompt that the model got.
    """

    question: str
    category: str
    right: bool
    read: bool
    response_chars: int
    prompt_chars: int


def rows(
    source: str, answers: Mapping[str, Mapping[str, Answer]], *, licence: str, pair: Pair = PAIR
) -> Iterator[Row]:
    """The rows of questions that both models of the pair answered.

    Args:
        answers: model -> question id -> answer. Answers of other models train auxiliary heads.
    """
    chosen = pair.choose(answers)
    if chosen is None:
        return
    local, cloud = (answers[name] for name in chosen)
    for key in local:
        if key not in cloud:
            continue
        local_answer, cloud_answer = local[key], cloud[key]
        outcomes = {
            canonical(model): soft_label(_score(by_key[key]))
            for model, by_key in answers.items()
            if model not in chosen and key in by_key
        }
        outcomes[LOCAL_HEAD] = soft_label(_score(local_answer))
        outcomes[CLOUD_HEAD] = soft_label(_score(cloud_answer))
        yield Row(
            id=f"{source}/{key}",
            source=source,
            category=local_answer.category,
            text=clip(local_answer.question),
            group=text_key(local_answer.question),
            outcomes=outcomes,
            unread=not local_answer.read,
            local_score=_score(local_answer),
            cloud_score=_score(cloud_answer),
            prompt_chars=local_answer.prompt_chars,
            local_response_chars=local_answer.response_chars,
            cloud_response_chars=cloud_answer.response_chars,
            licence=licence,
        )


def _score(answer: Answer) -> float:
    return RIGHT if answer.right else WRONG
