"""Labels for your own prompts: what both tiers answer, and what a judge makes of it.

    hybrid-llm-train label PROMPTS --dry-run
    hybrid-llm-train label PROMPTS

Writes rows that `prepare` reads (data/README.md). For each prompt: the local answer, the cloud's,
the judge's grade of each, and its comparison of the two in both orders. The cheapest comes first,
and a prompt is given up at the first thing that makes it useless: an answer that was cut off or is
empty, a prompt of which the local server silently cut the beginning, a judge without a verdict.

Not known: whether the judge is right (`validate-judge`), and how the answers would differ at
another temperature: all are asked for at 0.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from router_model.features import routing_text
from router_model.label import is_ok, unusable_reason
from router_model.rubric import RUBRIC_VERSION, Message, grade_messages, preference_messages
from training.dataset import DataError, read_lines
from training.journal import Answer
from training.judge import Judge, NoVerdict, json_object, listed
from training.paid import Endpoint, PaidClient, RequestDeclined, Tokens

ROLES = ("system", "developer", "user", "assistant")
# For estimates: what answers and verdicts usually take.
TYPICAL_ANSWER_TOKENS = 350
TYPICAL_VERDICT_TOKENS = 80
# A server that read fewer tokens than this share of ours dropped a part of the prompt; tokenizers
# differ less than that. Short prompts fit anywhere.
CUT_SHARE = 0.5
CUT_MIN_TOKENS = 1000


class Prompt(NamedTuple):
    """A prompt to be labelled: a conversation of (role, text) pairs, the user's turn last."""

    id: str
    category: str
    group: str
    turns: tuple[tuple[str, str], ...]
    reference: str | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation as it is sent."""
        return [{"role": role, "content": text} for role, text in self.turns]

    @property
    def text(self) -> str:
        """The prompt as one text: bare for a single question, with roles for a conversation."""
        if len(self.turns) == 1:
            return self.turns[0][1]
        return "\n\n".join(f"{role}: {text}" for role, text in self.turns)


class Row(msgspec.Struct, kw_only=True):
    """A labelled prompt, as one line of the output. Scores 1-10, money USD."""

    id: str
    source: str
    category: str
    query: str
    prompt: str
    group: str
    messages: list[Message] | None = None
    local_model: str
    cloud_model: str
    local_score: int
    cloud_score: int
    score_kind: str
    judge_model: str
    rubric_version: str
    preference: str | None = None
    preference_first: str | None = None
    preference_swapped: str | None = None
    local_reasoning: str
    cloud_reasoning: str
    local_response: str
    cloud_response: str
    local_response_chars: int
    cloud_response_chars: int
    local_input_tokens: int
    local_output_tokens: int
    cloud_input_tokens: int
    cloud_output_tokens: int
    local_finish_reason: str | None
    cloud_finish_reason: str | None
    local_usd: float
    cloud_usd: float
    judge_usd: float


class Refusal(NamedTuple):
    """A prompt that gives no label, and why."""

    id: str
    why: str


# ── Reading prompts ───────────────────────────────────────────────────────────────────────────


def read_prompts(path: Path, *, source: str) -> list[Prompt]:
    """The prompts of a file: JSONL, or for a .txt file one prompt a line.

    A JSONL row has `prompt` (or `query`), or `messages` in OpenAI's form; optional are `id`,
    `category`, `group` (near-duplicates share one) and `reference`. Without an id a row is called
    by its number. Raises DataError naming every row that is wrong.
    """
    plain = path.suffix == ".txt"
    prompts: list[Prompt] = []
    problems: list[str] = []
    rows_of: dict[str, int] = {}
    for number, line in read_lines(path):
        try:
            record = {"prompt": _decoded(line).strip()} if plain else json_object(line)
            prompt = _prompt(record, default_id=f"{source}/{number}")
            first = rows_of.setdefault(prompt.id, number)
            if first != number:
                raise ValueError(f"id {prompt.id!r} is row {first}'s")
            prompts.append(prompt)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise DataError(listed(problems))
    if not prompts:
        raise DataError(f"{path}: no prompts")
    return prompts


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason}") from error


def _prompt(record: dict[str, Any], *, default_id: str) -> Prompt:
    given = record.get("id", default_id)
    if not isinstance(given, str | int) or isinstance(given, bool) or given == "":
        raise ValueError("`id` is neither a text nor a whole number")
    turns = _turns(record)
    query = routing_text(turns)
    for name in ("category", "group", "reference"):
        if not isinstance(record.get(name), str | None):
            raise ValueError(f"`{name}` is no text")
    return Prompt(
        id=str(given),
        category=record.get("category") or "unknown",
        group=record.get("group") or group_of(query),
        turns=turns,
        reference=record.get("reference"),
    )


def _turns(record: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    if "messages" not in record:
        value = record.get("prompt", record.get("query"))
        if value is None:
            raise ValueError("no prompt: `prompt` or `messages` is missing")
        if not isinstance(value, str):
            raise ValueError("`prompt` is no text")
        if not value.strip():
            raise ValueError("the prompt is empty")
        return (("user", _clean(value)),)
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` is no list of messages")
    turns = tuple(_turn(index, message) for index, message in enumerate(messages, start=1))
    if turns[-1][0] != "user":
        raise ValueError("the last message is not the user's: nothing is left to answer")
    if not turns[-1][1].strip():
        raise ValueError("the prompt is empty")
    return turns


def _turn(index: int, message: Any) -> tuple[str, str]:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise ValueError(f"message {index} has no role of {', '.join(ROLES)}")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            raise ValueError(f"message {index} has parts other than text")
        content = "\n".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise ValueError(f"message {index} has no text")
    return str(message["role"]), _clean(content)


def _clean(text: str) -> str:
    """JSON can spell half a surrogate pair, which cannot be sent."""
    return text.encode(errors="replace").decode()


def group_of(query: str) -> str:
    """The group of a prompt that names none: the same for spellings that differ by case or space.

    >>> group_of("Hello ") == group_of("hello")
    True
    """
    return hashlib.sha256(" ".join(query.lower().split()).encode()).hexdigest()[:16]


# ── Labelling ─────────────────────────────────────────────────────────────────────────────────


class Labeller:
    """Turns prompts into rows; both tiers and the judge are asked through one buyer."""

    def __init__(
        self,
        buyer: PaidClient,
        judge: Judge,
        *,
        local: Endpoint,
        cloud: Endpoint,
        source: str,
        max_tokens: int,
        pairwise: bool = True,
    ) -> None:
        self._buyer = buyer
        self._judge = judge
        self._local = local
        self._cloud = cloud
        self._source = source
        self._max_tokens = max_tokens
        self._pairwise = pairwise

    async def label(self, prompt: Prompt) -> Row | Refusal:
        """One prompt's row. Raises Stopped when the run stops before it is complete."""
        try:
            return await self._row(prompt)
        except _Useless as error:
            return Refusal(prompt.id, str(error))
        except NoVerdict as error:
            return Refusal(prompt.id, f"no verdict of the judge: {error}")
        except RequestDeclined as error:
            return Refusal(prompt.id, f"the judge declined: {error}")

    async def _row(self, prompt: Prompt) -> Row:
        # One after the other: an answer that is of no use saves what would come after it.
        local = await self._answer(self._local, prompt)
        cloud = await self._answer(self._cloud, prompt)
        judge, reference = self._judge, prompt.reference
        first = await judge.grade(
            prompt.turns, local.text, what=f"{prompt.id}: local", reference=reference
        )
        second = await judge.grade(
            prompt.turns, cloud.text, what=f"{prompt.id}: cloud", reference=reference
        )
        compared = None
        if self._pairwise:
            compared = await judge.compare(
                prompt.turns,
                local.text,
                cloud.text,
                what=f"{prompt.id}: local or cloud",
                reference=reference,
            )
        tiers = {"A": "local", "B": "cloud", "tie": "tie"}
        turned = {"A": "cloud", "B": "local", "tie": "tie"}
        return Row(
            id=prompt.id,
            source=self._source,
            category=prompt.category,
            query=routing_text(prompt.turns),
            prompt=prompt.text,
            group=prompt.group,
            messages=prompt.messages if len(prompt.turns) > 1 else None,
            local_model=local.model,
            cloud_model=cloud.model,
            local_score=first.score,
            cloud_score=second.score,
            score_kind=f"judge {judge.endpoint.model}, 1-10, rubric {RUBRIC_VERSION}",
            judge_model=judge.endpoint.model,
            rubric_version=RUBRIC_VERSION,
            preference=compared and tiers[compared.verdict],
            preference_first=compared and tiers[compared.first],
            preference_swapped=compared and turned[compared.swapped],
            local_reasoning=first.reasoning,
            cloud_reasoning=second.reasoning,
            local_response=local.text,
            cloud_response=cloud.text,
            local_response_chars=len(local.text),
            cloud_response_chars=len(cloud.text),
            local_input_tokens=local.input_tokens,
            local_output_tokens=local.output_tokens,
            cloud_input_tokens=cloud.input_tokens,
            cloud_output_tokens=cloud.output_tokens,
            local_finish_reason=local.finish_reason,
            cloud_finish_reason=cloud.finish_reason,
            local_usd=local.cost_usd,
            cloud_usd=cloud.cost_usd,
            judge_usd=first.cost_usd + second.cost_usd + (compared.cost_usd if compared else 0),
        )

    async def _answer(self, endpoint: Endpoint, prompt: Prompt) -> Answer:
        """The tier's answer. Raises _Useless for one that must not become a label."""
        try:
            answer = await self._buyer.ask(
                endpoint,
                prompt.messages,
                what=f"{prompt.id}: {endpoint.role}",
                max_tokens=self._max_tokens,
            )
        except RequestDeclined as error:
            raise _Useless(f"{endpoint.role} declined: {error}") from error
        if why := useless(answer, prompt.messages, self._buyer.tokens):
            raise _Useless(f"{endpoint.role} answer {why}")
        return answer


class _Useless(Exception):
    """This prompt gives no label."""


def useless(answer: Answer, messages: Sequence[Message], tokens: Tokens) -> str | None:
    """Why an answer says nothing about its model; None for one that does."""
    if why := unusable_reason(answer.text, answer.finish_reason):
        return why
    if answer.usage_source == "upstream" and answer.input_tokens:
        count = tokens.count_messages(messages)
        if count >= CUT_MIN_TOKENS and answer.input_tokens < CUT_SHARE * count:
            return "to a prompt that was cut"
    return None


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write all rows, whole or not at all. Raises DataError when the disk does not take them."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    # A device is written to as it is; renaming a file over one would replace it.
    plain = path.is_file() or not path.exists()
    partial = path.with_name(f"{path.name}.partial") if plain else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        if plain:
            partial.replace(path)
    except OSError as error:
        if plain:
            partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; nothing that was paid for is "
            "lost, run the same command again with another --out"
        ) from error


def summary(rows: Sequence[Row], refusals: Sequence[Refusal]) -> list[str]:
    """What came out, in lines for people."""
    lines = []
    if rows:
        for tier in ("local", "cloud"):
            scores = [getattr(row, f"{tier}_score") for row in rows]
            good = sum(is_ok(score) for score in scores) / len(rows)
            mean = sum(scores) / len(rows)
            lines.append(f"{tier}: mean score {mean:.2f}, {good:.0%} good")
        if compared := Counter(row.preference for row in rows if row.preference):
            lines.append(
                "compared: " + ", ".join(f"{compared[k]} {k}" for k in ("local", "tie", "cloud"))
            )
    reasons = Counter(refusal.why for refusal in refusals)
    lines += [f"refused: {count} × {why}" for why, count in reasons.most_common(10)]
    if any("truncated" in why for why in reasons):
        lines.append("a higher --max-tokens asks the truncated ones again, and only those")
    return lines


# ── What it would cost ────────────────────────────────────────────────────────────────────────


class Estimate(NamedTuple):
    """Calls to one endpoint: tokens expected, USD expected, and USD if all run to their limit."""

    role: str
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    most_usd: float


def estimate(
    prompts: Sequence[Prompt],
    tokens: Tokens,
    *,
    local: Endpoint,
    cloud: Endpoint,
    judge: Endpoint,
    max_tokens: int,
    judge_max_tokens: int,
    pairwise: bool,
    answer_tokens: int = TYPICAL_ANSWER_TOKENS,
) -> list[Estimate]:
    """What labelling takes, from the prompts' own token counts and assumed answers."""
    asked = [tokens.count_messages(prompt.messages) for prompt in prompts]
    n = len(prompts)
    found = [
        _estimate(tier, n, sum(asked), n * answer_tokens, sum(asked), n * max_tokens)
        for tier in (local, cloud)
    ]
    fixed, answers = 0, 0  # tokens of rubric and question, and how many answers come with them
    for prompt in prompts:
        grading = grade_messages(prompt.turns, "", reference=prompt.reference)
        fixed += 2 * tokens.count_messages(grading)
        answers += 2
        if pairwise:
            comparing = preference_messages(prompt.turns, "", "", reference=prompt.reference)
            fixed += 2 * tokens.count_messages(comparing)
            answers += 4
    calls = n * (4 if pairwise else 2)
    found.append(
        _estimate(
            judge,
            calls,
            fixed + answers * answer_tokens,
            calls * TYPICAL_VERDICT_TOKENS,
            fixed + answers * max_tokens,
            calls * judge_max_tokens,
        )
    )
    return found


def _estimate(
    endpoint: Endpoint, calls: int, read: int, written: int, most_read: int, most_written: int
) -> Estimate:
    price = endpoint.price
    return Estimate(
        role=endpoint.role,
        calls=calls,
        input_tokens=read,
        output_tokens=written,
        usd=price.usd(input_tokens=read, output_tokens=written),
        most_usd=price.usd(input_tokens=most_read, output_tokens=most_written),
    )
