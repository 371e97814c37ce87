"""Live benchmark of 80 two-turn questions: `hybrid-llm-train baseline`.

- Design: as in MT-Bench (arXiv:2306.05685), eight categories of ten questions. Each question has a
  follow-up that builds on the first answer, and each turn is judged. Questions and reference
  answers were written for this project (data/questions.jsonl).
- Tiers: local and cloud, and the proxy if its address is given.
- PGR: the share of the local-to-cloud gap that the proxy recovers (RouteLLM, arXiv:2406.18665),
  with a 95 % bootstrap interval over questions. The interval is wide with 80 questions.
- A question with an empty or truncated answer of any tier is excluded for all tiers.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from router_model import metrics
from router_model.metrics import Floats
from router_model.rubric import RUBRIC_VERSION, Message
from training.dataset import DataError, read_lines
from training.judge import Judge, NoVerdict, listed
from training.label import Rejection, rejection_reason
from training.paid import Endpoint, PaidClient, RequestDeclined

CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Two = Annotated[list[_Text], msgspec.Meta(min_length=2, max_length=2)]


class TwoTurns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and its follow-up. Factual questions have a reference answer per turn."""

    id: _Text
    category: _Text
    turns: _Two
    references: _Two | None = None
    licence: str = ""


class Tier(msgspec.Struct):
    """The result of one tier, per turn: score of 1-10, answer, USD and routed target."""

    scores: list[int] = []
    answers: list[str] = []
    usd: list[float] = []
    targets: list[str | None] = []


class Outcome(msgspec.Struct):
    """A question that all tiers answered, and the cost of its judging."""

    id: str
    category: str
    tiers: dict[str, Tier]
    judge_usd: float


def read_questions(path: Path) -> list[TwoTurns]:
    """Read the questions of a file. Raises DataError, which names every invalid row."""
    decoder = msgspec.json.Decoder(TwoTurns)
    questions: dict[str, TwoTurns] = {}
    problems = []
    for number, line in read_lines(path):
        try:
            question = decoder.decode(line)
            if question.id in questions:
                raise ValueError(f"id {question.id!r} is used twice")
            questions[question.id] = question
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(listed(problems))
    if not questions:
        raise DataError(f"{path}: no questions")
    return list(questions.values())


class Benchmark:
    """Asks all tiers both turns of a question, and the judge for a grade of each answer."""

    def __init__(
        self, client: PaidClient, judge: Judge, tiers: Sequence[Endpoint], *, max_tokens: int
    ) -> None:
        self._client = client
        self._judge = judge
        self._tiers = tiers
        self._max_tokens = max_tokens

    async def examine(self, question: TwoTurns) -> Outcome | Rejection:
        """Benchmark one question. Raises Stopped if the run stops before it is complete."""
        tiers: dict[str, Tier] = {}
        for endpoint in self._tiers:
            tier = await self._converse(endpoint, question)
            if isinstance(tier, Rejection):
                return tier
            tiers[endpoint.role] = tier
        judge_usd = 0.0
        references: Sequence[str | None] = question.references or (None, None)
        for role, tier in tiers.items():
            for turn in range(len(question.turns)):
                try:
                    graded = await self._judge.grade(
                        [(m["role"], m["content"]) for m in _before(question, tier, turn)],
                        tier.answers[turn],
                        what=f"{question.id}: {role}, turn {turn + 1}",
                        reference=references[turn],
                    )
                except NoVerdict as error:
                    return Rejection(question.id, f"no verdict of the judge: {error}")
                except RequestDeclined as error:
                    return Rejection(question.id, f"the judge declined: {error}")
                tier.scores.append(graded.score)
                judge_usd += graded.cost_usd
        return Outcome(question.id, question.category, tiers, judge_usd)

    async def _converse(self, endpoint: Endpoint, question: TwoTurns) -> Tier | Rejection:
        tier = Tier()
        for turn in range(len(question.turns)):
            messages = _before(question, tier, turn)
            try:
                answer = await self._client.ask(
                    endpoint,
                    messages,
                    what=f"{question.id}: {endpoint.role}, turn {turn + 1}",
                    max_tokens=self._max_tokens,
                )
            except RequestDeclined as error:
                return Rejection(question.id, f"{endpoint.role} declined: {error}")
            if why := rejection_reason(answer, messages, self._client.tokens):
                return Rejection(question.id, f"{endpoint.role} answer {why}")
            tier.answers.append(answer.text)
            tier.usd.append(answer.cost_usd)
            tier.targets.append(answer.target)
        return tier


def _before(question: TwoTurns, tier: Tier, turn: int) -> list[Message]:
    """The conversation up to the user's message of this turn, with the tier's answers."""
    messages: list[Message] = []
    for index in range(turn):
        messages.append({"role": "user", "content": question.turns[index]})
        messages.append({"role": "assistant", "content": tier.answers[index]})
    return [*messages, {"role": "user", "content": question.turns[turn]}]


# ── Report ────────────────────────────────────────────────────────────────────────────────────


def report(
    outcomes: Sequence[Outcome],
    rejections: Sequence[Rejection],
    *,
    models: dict[str, str],
    command: str,
    rounds: int = 2000,
) -> dict[str, Any]:
    """All figures; [value, low, high] where there is an interval, NaN if undefined."""
    named = {outcome.category for outcome in outcomes}
    order = [c for c in CATEGORIES if c in named] + sorted(named.difference(CATEGORIES))
    return {
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": command,
        "models": models,
        "rubric_version": RUBRIC_VERSION,
        "overall": _figures(outcomes, rounds=rounds),
        "categories": {
            category: _figures([o for o in outcomes if o.category == category], rounds=rounds)
            for category in order
        },
        "judge_usd": round(sum(o.judge_usd for o in outcomes), 6),
        "left_out": dict(Counter(rejection.why for rejection in rejections)),
        "questions": list(outcomes),
    }


def _figures(outcomes: Sequence[Outcome], *, rounds: int) -> dict[str, Any]:
    ids = np.array([outcome.id for outcome in outcomes])
    roles = list(outcomes[0].tiers)
    # [n, 2] scores per tier. The bootstrap resamples questions, with both of their turns.
    scores: dict[str, Floats] = {
        role: np.array([o.tiers[role].scores for o in outcomes], dtype=np.float64) for role in roles
    }

    def interval(of: Callable[[NDArray[np.int64]], float]) -> list[float]:
        low, high = metrics.bootstrap(of, ids, rounds=rounds)
        return [round(of(np.arange(ids.size)), 4), round(low, 4), round(high, 4)]

    def mean_of(role: str) -> Callable[[NDArray[np.int64]], float]:
        return lambda i: float(scores[role][i].mean())

    def recovered(i: NDArray[np.int64]) -> float:
        low, high, value = (float(scores[r][i].mean()) for r in ("local", "cloud", "router"))
        return (value - low) / (high - low) if high > low else float("nan")

    figures: dict[str, Any] = {
        "questions": len(outcomes),
        "quality": {role: interval(mean_of(role)) for role in roles},
        "quality_by_turn": {
            role: [round(float(v), 4) for v in scores[role].mean(axis=0)] for role in roles
        },
        "usd": {role: round(sum(sum(o.tiers[role].usd) for o in outcomes), 6) for role in roles},
    }
    if "router" in roles:
        targets = [target for o in outcomes for target in o.tiers["router"].targets]
        cloud_usd = figures["usd"]["cloud"]
        figures["pgr"] = interval(recovered)
        figures["local_share"] = round(targets.count("local") / len(targets), 4)
        figures["cost_share"] = (
            round(figures["usd"]["router"] / cloud_usd, 4) if cloud_usd else float("nan")
        )
    return figures


def show(result: dict[str, Any], console: Console | None = None) -> None:
    """Print the report."""
    roles = list(result["overall"]["quality"])
    routed = "router" in roles
    table = Table(title="quality, 1-10, of " + ", ".join(result["models"].values()))
    table.add_column("category")
    for name in ("n", *roles, *(("kept local", "cost share", "PGR") if routed else ())):
        table.add_column(name, justify="right")
    for category, figures in {**result["categories"], "all": result["overall"]}.items():
        cells = [category, str(figures["questions"])]
        cells += [f"{figures['quality'][role][0]:.2f}" for role in roles]
        if routed:
            cells += [
                f"{figures['local_share']:.2f}",
                f"{figures['cost_share']:.2f}",
                "{:.2f} [{:.2f}, {:.2f}]".format(*figures["pgr"]),
            ]
        table.add_row(*cells, end_section=category == list(result["categories"])[-1])
    console = console or Console(width=None if Console().is_terminal else 120)
    console.print(table)
    spent = ", ".join(f"{role} ${usd:.4f}" for role, usd in result["overall"]["usd"].items())
    console.print(f"answers cost {spent}; judging ${result['judge_usd']:.4f}")
    for why, count in result["left_out"].items():
        console.print(f"left out: {count} × {why}", markup=False)
