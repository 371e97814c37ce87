"""What a second look reads from local answers: the evidence, and the questions that give it.

The proxy uses it for requests in the band, and the judge for the pairs that the combiner
(`router_model.verification`) is fitted to. Both must read alike.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from router_model.evidence import Evidence
from router_model.final_answer import FinalAnswer, agree, asks_for_number, final_answer
from router_model.options import options_of
from router_model.value import CHARS_PER_TOKEN

# Of the same model's second answer. At 0 it would be the first one again.
RESAMPLE_TEMPERATURE: Final = 0.8

# Alternatives of the self-check's token that are asked for.
_ALTERNATIVES: Final = 10
_SELF_CHECK: Final = "Is your answer correct? Reply with one word, Yes or No."
_YES: Final = frozenset({"yes", "y", "true", "correct"})
_NO: Final = frozenset({"no", "n", "false", "incorrect"})


class Token(NamedTuple):
    """A token of an answer.

    Attributes:
        logprob: in nats.
        margin: `logprob` minus that of the best alternative; None if it is not known.
    """

    text: str
    logprob: float
    margin: float | None


def evidence_of(
    prompt: str,
    answer: str,
    *,
    second: str | None = None,
    second_model: str | None = None,
    tokens: Sequence[Token] = (),
    self_check: float | None = None,
) -> Evidence:
    """The evidence about a local answer.

    Args:
        prompt: the newest message of the user.
        second: the answer of the second model.
        second_model: its name.
        tokens: of the local answer, with its thoughts if the server returns them.
        self_check: P(yes), of `yes_probability`.
    """
    options, numeric = options_of(prompt), asks_for_number(prompt)
    final = final_answer(answer, options=options, numeric=numeric)
    agrees = None
    if second is not None:
        agrees = agree(final, final_answer(second, options=options, numeric=numeric))
    known = [token.logprob for token in tokens if math.isfinite(token.logprob)]
    return Evidence(
        broken=final is None,
        agrees=agrees,
        second=None if second is None else second_model,
        mean_logprob=sum(known) / len(known) if known else None,
        lowest_logprob=min(known, default=None),
        margin=_margin_at(final, tokens),
        tokens=len(answer) / CHARS_PER_TOKEN,
        self_check=self_check,
    )


def resample(fields: dict[str, Any], temperature: Any) -> None:
    """Change a request so that the same model gives another answer.

    Args:
        temperature: RESAMPLE_TEMPERATURE, as the fields are encoded.
    """
    fields.pop("seed", None)
    fields["temperature"] = temperature


def self_check_fields(model: str, turns: Sequence[tuple[str, str]], answer: str) -> dict[str, Any]:
    """The fields of the chat request that asks a model to check its answer with one token."""
    asked = [*turns, ("assistant", answer), ("user", _SELF_CHECK)]
    return {
        "model": model,
        "messages": [{"role": role, "content": text} for role, text in asked],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": _ALTERNATIVES,
    }


def yes_probability(alternatives: Mapping[str, float]) -> float | None:
    """P(yes) among yes and no, from log-probabilities of a first token; None without both words."""
    yes, no = (
        sum(
            math.exp(min(logprob, 0.0))
            for token, logprob in alternatives.items()
            if _word(token) in words
        )
        for words in (_YES, _NO)
    )
    return yes / (yes + no) if yes + no > 0 else None


def _word(token: str) -> str:
    return token.strip(" \t\n▁Ġ.,*\"'").lower()


def _margin_at(final: FinalAnswer | None, tokens: Sequence[Token]) -> float | None:
    """The lowest margin of the tokens that state the final answer, at its last place."""
    if final is None or not tokens:
        return None
    text = "".join(token.text for token in tokens)
    # An option's letter is also the beginning of words.
    places = [*re.finditer(rf"(?<!\w){re.escape(final.text)}(?!\w)", text)]
    if not places:
        return None
    start, end = places[-1].span()
    position, margins = 0, []
    for token in tokens:
        if position >= end:
            break
        position += len(token.text)
        if position > start and token.margin is not None and math.isfinite(token.margin):
            margins.append(token.margin)
    return min(margins, default=None)
