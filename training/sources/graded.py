"""Benchmarks that publish one file of graded answers per model: from answers to rows.

The pair is chosen by file name. Which file stands for the local and which for the cloud model is
the first of PAIR's names that a benchmark has.
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
    """Names of result files, the preferred first."""

    local: Sequence[str]
    cloud: Sequence[str]

    def choose(self, present: Mapping[str, object]) -> tuple[str, str] | None:
        """The local and the cloud model among those present; None when either is missing."""
        local = next((name for name in self.local if name in present), None)
        cloud = next((name for name in self.cloud if name in present), None)
        return (local, cloud) if local and cloud else None


PAIR = Pair(
    local=("Phi-3-mini-4k-instruct", "Phi-3.5-mini-instruct"),
    cloud=("gpt-4o-mini-2024-07-18", "gemini-1.5-flash-002"),
)


def items(content: bytes, kind: type[T], *, name: str) -> Iterator[tuple[str, T]]:
    """The items of a published JSON list, each with its place for messages.

    Raises DataError, naming the item, when one is not as expected.
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
    """One model's answer to one question. `read` is false when no verdict could be found in it.

    `prompt_chars`: length of what the model was sent.
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
    """Rows for the questions that both models of the pair answered.

    `answers`: model -> question id -> answer. Other models' answers become further heads.
    """
    chosen = pair.choose(answers)
    if chosen is None:
        return
    local, cloud = (answers[name] for name in chosen)
    for key in local:
        if key not in cloud:
            continue
        here, there = local[key], cloud[key]
        outcomes = {
            canonical(model): soft_label(_score(given[key]))
            for model, given in answers.items()
            if model not in chosen and key in given
        }
        outcomes[LOCAL_HEAD] = soft_label(_score(here))
        outcomes[CLOUD_HEAD] = soft_label(_score(there))
        yield Row(
            id=f"{source}/{key}",
            source=source,
            category=here.category,
            text=clip(here.question),
            group=text_key(here.question),
            outcomes=outcomes,
            unread=not here.read,
            local_score=_score(here),
            cloud_score=_score(there),
            prompt_chars=here.prompt_chars,
            local_response_chars=here.response_chars,
            cloud_response_chars=there.response_chars,
            licence=licence,
        )


def _score(answer: Answer) -> float:
    return RIGHT if answer.right else WRONG
