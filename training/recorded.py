"""Recorded local answers as evidence, for `replay`. The formats are in data/README.md."""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from router_model.answer_value import same_value
from router_model.evidence import Evidence
from training.dataset import DataError, read_lines
from training.sources.pairs import canonical


class Answers(msgspec.Struct):
    """One line of final_answers.jsonl.gz.

    Attributes:
        finished: false if the local answer was cut off.
        chars: length of the local answer.
        final: final answer by model, None where there is none. The first is the local model's.
    """

    id: str
    finished: bool
    chars: int
    final: dict[str, str | None]


class OptionLogprobs(msgspec.Struct):
    """One line of gemma_mmlu_logprobs.jsonl.gz; log-probabilities are in nats."""

    id: str
    local_model: str
    option_logprobs: Annotated[list[float], msgspec.Meta(min_length=1)]
    local_score: float
    cloud_score: float


Line = TypeVar("Line", Answers, OptionLogprobs)


def read(path: Path, kind: type[Line]) -> dict[str, Line]:
    """The lines of a file by id. Raises DataError, which names the invalid line."""
    if not path.exists():
        raise DataError(f"{path} is missing: it has the recorded answers (data/README.md)")
    decoder = msgspec.json.Decoder(kind)
    items = {}
    for number, line in read_lines(path):
        try:
            item = decoder.decode(line)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        items[item.id] = item
    return items


def evidence_of(answers: Answers, second: str = "") -> Evidence:
    """The evidence of a recorded local answer, with agreement if `second` is given."""
    models = {canonical(name): final for name, final in answers.final.items()}
    local = next(iter(answers.final.values()), None)
    other = models.get(second)
    broken = not answers.finished or local is None
    agrees = None if local is None or other is None else same_value(local, other)
    return Evidence(broken=broken, agrees=agrees)


def evidence_of_options(item: OptionLogprobs) -> Evidence:
    """The evidence of a one-token answer: the most probable option is the answer."""
    *others, chosen = sorted(item.option_logprobs)
    return Evidence(mean_logprob=chosen, margin=chosen - others[-1] if others else None)
