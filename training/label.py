"""Labels for your own prompts, from the answers of both tiers and the grades of a judge.

    hybrid-llm-train label PROMPTS --dry-run
    hybrid-llm-train label PROMPTS

The output has rows for `prepare` (data/README.md). Steps for each prompt, the cheapest first:

1. The local answer, then the cloud answer, both at temperature 0.
2. The judge's grade of each answer.
3. The judge's comparison of both answers, in both orders.

A prompt is rejected at the first unusable result: an empty or truncated answer, a prompt that the
local server truncated, or no verdict of the judge.

Measure the judge's own errors with `validate-judge`.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from router_model.label import is_ok, unusable_reason
from router_model.rubric import RUBRIC_VERSION, Message, grade_messages, preference_messages
from router_model.task import routing_text
from training.dataset import DataError, read_lines
from training.journal import Answer
from training.judge import Judge, NoVerdict, json_object, listed
from training.paid import Endpoint, PaidClient, RequestDeclined, Tokens

ROLES = ("system", "developer", "user", "assistant")
# For cost estimates.
TYPICAL_ANSWER_TOKENS = 350
TYPICAL_VERDICT_TOKENS = 80
# A server that reports fewer prompt tokens than this share of our count has truncated the prompt:
# tokenizers differ by less. Short prompts fit every context.
TRUNCATED_SHARE = 0.5
TRUNCATED_MIN_TOKENS = 1000


class Prompt(NamedTuple):
    """A prompt to label: a conversation of (role, text) pairs that ends with a user turn."""

    id: str
    category: str
    group: str
    turns: tuple[tuple[str, str], ...]
    reference: str | None = None

    @property
    def messages(self) -> list[Message]:
        """The conversation as messages of a request."""
        return [{"role": role, "content": text} for role, text in self.turns]

    @property
    def text(self) -> str:
        """The prompt as one text; the turns of a conversation are prefixed with their roles."""
        if len(self.turns) == 1:
            return self.turns[0][1]
        return "\n\n".join(f"{role}: {text}" for role, text in self.turns)


class Row(msgspec.Struct, kw_only=True):
    """A labelled prompt, one line of the output. Scores are 1-10, costs in USD."""

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


class Rejection(NamedTuple):
    """A prompt without a label, and the reason."""

    id: str
    why: str


# ── Reading prompts ───────────────────────────────────────────────────────────────────────────


def read_prompts(path: Path, *, source: str) -> list[Prompt]:
    """Read the prompts of a JSONL file, or of a .txt file with one prompt per line.

    A JSONL row has `prompt` (or `query`), or `messages` in OpenAI's format. Optional fields: `id`
    (default: the row number), `category`, `group` (shared by near-duplicates) and `reference`.

    Raises DataError, which names every invalid row.
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
                raise ValueError(f"id {prompt.id!r} is already used by row {first}")
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
    row_id = record.get("id", default_id)
    if not isinstance(row_id, str | int) or isinstance(row_id, bool) or row_id == "":
        raise ValueError("`id` is neither a text nor a whole number")
    turns = _turns(record)
    query = routing_text(turns)
    for name in ("category", "group", "reference"):
        if not isinstance(record.get(name), str | None):
            raise ValueError(f"`{name}` is not a text")
    return Prompt(
        id=str(row_id),
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
            raise ValueError("`prompt` is not a text")
        if not value.strip():
            raise ValueError("the prompt is empty")
        return (("user", _clean(value)),)
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` is not a list of messages")
    turns = tuple(_turn(index, message) for index, message in enumerate(messages, start=1))
    if turns[-1][0] != "user":
        raise ValueError("the last message is not from the user")
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
    """Replace lone surrogates: JSON can contain them, but UTF-8 cannot."""
    return text.encode(errors="replace").decode()


def group_of(query: str) -> str:
    """The default group of a prompt; case and white space do not change it.

    >>> group_of("Hello ") == group_of("hello")
    True
    """
    return hashlib.sha256(" ".join(query.lower().split()).encode()).hexdigest()[:16]


# ── Labelling ─────────────────────────────────────────────────────────────────────────────────


class Labeller:
    """Labels prompts. Both tiers and the judge share one client and its budget."""

    def __init__(
        self,
        client: PaidClient,
        judge: Judge,
        *,
        local: Endpoint,
        cloud: Endpoint,
        source: str,
        max_tokens: int,
        pairwise: bool = True,
    ) -> None:
        self._client = client
        self._judge = judge
        self._local = local
        self._cloud = cloud
        self._source = source
        self._max_tokens = max_tokens
        self._pairwise = pairwise

    async def label(self, prompt: Prompt) -> Row | Rejection:
        """Label one prompt. Raises Stopped if the run stops before it is complete."""
        try:
            return await self._row(prompt)
        except _Unusable as error:
            return Rejection(prompt.id, str(error))
        except NoVerdict as error:
            return Rejection(prompt.id, f"no verdict of the judge: {error}")
        except RequestDeclined as error:
            return Rejection(prompt.id, f"the judge declined: {error}")

    async def _row(self, prompt: Prompt) -> Row:
        # Sequential: an unusable answer saves the cost of the later calls.
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
        swapped_tiers = {"A": "cloud", "B": "local", "tie": "tie"}
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
            preference_swapped=compared and swapped_tiers[compared.swapped],
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
        """The tier's answer. Raises _Unusable if it must not become a label."""
        try:
            answer = await self._client.ask(
                endpoint,
                prompt.messages,
                what=f"{prompt.id}: {endpoint.role}",
                max_tokens=self._max_tokens,
            )
        except RequestDeclined as error:
            raise _Unusable(f"{endpoint.role} declined: {error}") from error
        if why := rejection_reason(answer, prompt.messages, self._client.tokens):
            raise _Unusable(f"{endpoint.role} answer {why}")
        return answer


class _Unusable(Exception):
    """The prompt has no label; the message is the reason."""


def rejection_reason(answer: Answer, messages: Sequence[Message], tokens: Tokens) -> str | None:
    """Why an answer must not become a label; None if it may."""
    if why := unusable_reason(answer.text, answer.finish_reason):
        return why
    if answer.usage_source == "upstream" and answer.input_tokens:
        count = tokens.count_messages(messages)
        if count >= TRUNCATED_MIN_TOKENS and answer.input_tokens < TRUNCATED_SHARE * count:
            return "to a truncated prompt"
    return None


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write all rows atomically. Raises DataError if the disk rejects them."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    # A device is written to directly; renaming a file would replace it.
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
            f"{path} cannot be written: {error.strerror or error}; no paid answer is lost: run "
            "the same command again with another --out"
        ) from error


def summary(rows: Sequence[Row], rejections: Sequence[Rejection]) -> list[str]:
    """The result as lines of text."""
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
    reasons = Counter(rejection.why for rejection in rejections)
    lines += [f"rejected: {count} × {why}" for why, count in reasons.most_common(10)]
    if any("truncated" in why for why in reasons):
        lines.append("a higher --max-tokens retries only the truncated answers")
    return lines


# ── Cost estimate ────────────────────────────────────────────────────────────────────────────


class Estimate(NamedTuple):
    """Calls to one endpoint: expected tokens, expected USD, and USD if all reach their limit."""

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
    """Estimate the calls and costs of labelling, from the prompts' tokens and typical answers."""
    prompt_tokens = [tokens.count_messages(prompt.messages) for prompt in prompts]
    n = len(prompts)
    estimates = [
        _estimate(
            tier, n, sum(prompt_tokens), n * answer_tokens, sum(prompt_tokens), n * max_tokens
        )
        for tier in (local, cloud)
    ]
    fixed_tokens, answers = (
        0,
        0,
    )  # tokens of rubric and question; number of answers shown to the judge
    for prompt in prompts:
        grading = grade_messages(prompt.turns, "", reference=prompt.reference)
        fixed_tokens += 2 * tokens.count_messages(grading)
        answers += 2
        if pairwise:
            comparing = preference_messages(prompt.turns, "", "", reference=prompt.reference)
            fixed_tokens += 2 * tokens.count_messages(comparing)
            answers += 4
    calls = n * (4 if pairwise else 2)
    estimates.append(
        _estimate(
            judge,
            calls,
            fixed_tokens + answers * answer_tokens,
            calls * TYPICAL_VERDICT_TOKENS,
            fixed_tokens + answers * max_tokens,
            calls * judge_max_tokens,
        )
    )
    return estimates


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
