"""The judge model, and its agreement with human scores.

    hybrid-llm-train validate-judge --file FILE

Validate a judge on prompts like yours before you trust its scores. Measures of agreement:

- Spearman's rank correlation.
- Cohen's kappa (1960) of good answers (7 or more of 10).
- Cohen's kappa with quadratic weights over the scores (Cohen 1968).

Intervals are 95 % percentile intervals by bootstrap over questions, because answers to one question
are not independent.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_model import metrics
from router_model.label import OK_SCORE
from router_model.metrics import Floats
from router_model.rubric import (
    MAX_SCORE,
    MIN_SCORE,
    RESPONSE_FORMAT,
    TEMPERATURES,
    Grade,
    InvalidVerdict,
    Message,
    Preference,
    Question,
    Side,
    grade_messages,
    merge_swapped,
    parse_grade,
    parse_preference,
    preference_messages,
    read_verdict,
)
from training.dataset import DataError, read_lines
from training.paid import Endpoint, PaidClient

V = TypeVar("V", Grade, Preference)

SHOWN_PROBLEMS = 10


class NoVerdict(Exception):
    """No reply of the judge had the required form."""


class GradeResult(NamedTuple):
    """A score of 1-10, the reasoning, and the cost of the calls."""

    score: int
    reasoning: str
    cost_usd: float


class PairwiseResult(NamedTuple):
    """The verdict on two answers: merged, in the given order, and in the swapped order."""

    verdict: Side
    first: Side
    swapped: Side
    cost_usd: float


class Judge:
    """Asks one endpoint for verdicts by the rubric. Invalid replies are retried."""

    def __init__(self, client: PaidClient, endpoint: Endpoint, *, max_tokens: int = 512) -> None:
        self.endpoint = endpoint
        self.max_tokens = max_tokens
        self._client = client

    async def grade(
        self, question: Question, answer: str, *, what: str, reference: str | None = None
    ) -> GradeResult:
        """Grade one answer. Raises NoVerdict, and the errors of `PaidClient.ask`."""
        messages = grade_messages(question, answer, reference=reference)
        grade, cost = await self._verdict(messages, parse_grade, what=what)
        return GradeResult(grade.score, grade.reasoning, cost)

    async def compare(
        self, question: Question, a: str, b: str, *, what: str, reference: str | None = None
    ) -> PairwiseResult:
        """Compare two answers in both orders. Equal answers are a tie without a call."""
        if a == b:
            return PairwiseResult("tie", "tie", "tie", 0.0)
        in_order = preference_messages(question, a, b, reference=reference)
        reversed_order = preference_messages(question, b, a, reference=reference)
        first, cost = await self._verdict(in_order, parse_preference, what=what)
        swapped, more = await self._verdict(
            reversed_order, parse_preference, what=f"{what}, swapped"
        )
        merged = merge_swapped(first.verdict, swapped.verdict)
        return PairwiseResult(merged, first.verdict, swapped.verdict, cost + more)

    async def _verdict(
        self, messages: Sequence[Message], parse: Callable[[str], V], *, what: str
    ) -> tuple[V, float]:
        cost, problem = 0.0, ""
        for temperature in TEMPERATURES:
            reply = await self._client.ask(
                self.endpoint,
                messages,
                what=what,
                max_tokens=self.max_tokens,
                temperature=temperature,
                response_format=RESPONSE_FORMAT,
            )
            cost += reply.cost_usd
            try:
                return read_verdict(reply.text, reply.finish_reason, parse), cost
            except InvalidVerdict as error:
                problem = str(error)
        raise NoVerdict(problem)


# ── Validation against people ─────────────────────────────────────────────────────────────────


class Annotated(NamedTuple):
    """An answer with a human score. `row` is its line in the file, from 1."""

    row: int
    question: str
    answer: str
    human_score: float
    judge_score: float | None
    reference: str | None


def read_annotated(path: Path) -> list[Annotated]:
    """Read a human-annotated file. Raises DataError, which names every invalid row."""
    rows: list[Annotated] = []
    problems: list[str] = []
    for number, line in read_lines(path):
        try:
            rows.append(_annotated(number, line))
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(listed(problems))
    if len(rows) < 2:
        raise DataError(f"{path}: agreement needs at least 2 rows, not {len(rows)}")
    return rows


def _annotated(number: int, line: bytes) -> Annotated:
    record = json_object(line)
    return Annotated(
        row=number,
        question=_text(record, "question"),
        answer=_text(record, "answer"),
        human_score=_score(record, "human_score"),
        judge_score=None if record.get("judge_score") is None else _score(record, "judge_score"),
        reference=_text(record, "reference") if record.get("reference") is not None else None,
    )


def json_object(line: bytes) -> dict[str, Any]:
    """Parse one line as a JSON object. Raises ValueError with a readable message."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def listed(problems: Sequence[str]) -> str:
    """The first problems, one per line, and the number of further ones."""
    shown = list(problems[:SHOWN_PROBLEMS])
    if len(problems) > len(shown):
        shown.append(f"… and {len(problems) - len(shown)} more")
    return "\n".join(shown)


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{name}` is missing" if value is None else f"`{name}` is not a text")
    return value


def _score(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    if value is None:
        raise ValueError(f"`{name}` is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`{name}` is not a number")
    if not MIN_SCORE <= value <= MAX_SCORE:
        raise ValueError(f"`{name}` is not from {MIN_SCORE} to {MAX_SCORE}")
    return float(value)


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation; ties get their mean rank. NaN if a side is constant."""
    x, y = (metrics.ranks(v) - metrics.ranks(v).mean() for v in (a, b))
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else float("nan")


def kappa(a: ArrayLike, b: ArrayLike, *, quadratic: bool = False) -> float:
    """Cohen's kappa of two raters' whole numbers; NaN if no disagreement is expected.

    1 minus the ratio of observed to expected disagreement. The expectation is from the raters'
    frequencies. A disagreement counts 1, or with `quadratic` the squared distance.
    """
    x, y = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)

    def distance(u: NDArray[np.int64], v: NDArray[np.int64]) -> Floats:
        return ((u - v) ** 2 if quadratic else (u != v)).astype(np.float64)

    values_x, count_x = np.unique(x, return_counts=True)
    values_y, count_y = np.unique(y, return_counts=True)
    by_chance = distance(values_x[:, None], values_y[None, :])
    expected = float((by_chance * np.outer(count_x, count_y)).sum()) / x.size**2
    return 1 - float(distance(x, y).mean()) / expected if expected else float("nan")


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of judge and humans; [value, low, high] with a 95 % interval, NaN if undefined.

    `judge_minus_human` is the mean difference in points. Above 0, the judge is more lenient.
    """

    n: int
    questions: int
    spearman: tuple[float, float, float]
    kappa_ok: tuple[float, float, float]
    kappa_quadratic: tuple[float, float, float]
    same_side_of_ok: tuple[float, float, float]
    judge_minus_human: tuple[float, float, float]


def agreement(
    human: ArrayLike, judge: ArrayLike, questions: Sequence[str], *, rounds: int = 2000
) -> Agreement:
    """All measures for scores [n] of the same answers.

    Fractional scores are rounded, for the weighted kappa only.
    """
    h, j = np.asarray(human, dtype=np.float64), np.asarray(judge, dtype=np.float64)
    h_ok, j_ok = h >= OK_SCORE, j >= OK_SCORE
    # Round half up: numpy would round 6.5 to 6 and 7.5 to 8.
    h_whole, j_whole = (np.floor(v + 0.5).astype(np.int64) for v in (h, j))

    def interval(of: Callable[[NDArray[np.int64]], float]) -> tuple[float, float, float]:
        low, high = metrics.bootstrap(of, np.array(questions), rounds=rounds)
        value = of(np.arange(h.size))
        return round(value, 4), round(low, 4), round(high, 4)

    return Agreement(
        n=int(h.size),
        questions=len(set(questions)),
        spearman=interval(lambda i: spearman(h[i], j[i])),
        kappa_ok=interval(lambda i: kappa(h_ok[i], j_ok[i])),
        kappa_quadratic=interval(lambda i: kappa(h_whole[i], j_whole[i], quadratic=True)),
        same_side_of_ok=interval(lambda i: float((h_ok[i] == j_ok[i]).mean())),
        judge_minus_human=interval(lambda i: float((j[i] - h[i]).mean())),
    )
