"""Random requests of every kind, and a scripted cloud that answers and bills them.

    request = draw_chat(Draft(dice, number, tokens))
    cloud.answer = BillingCloud({number: request}, seed="1").answer
    request.attempts  # what the cloud has billed

Every output is words of one token each, so the parts of an answer cost as much as all of it. A
request and its answers depend on the seed and the number alone, not on the order of arrival.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import yaml

from fakes import (
    DONE,
    Call,
    End,
    Gate,
    Pause,
    Step,
    error_json,
    event,
    head,
    response_events,
    response_fields,
    typed,
    whole,
)
from proxy.budget import TokenCounter
from proxy.upstream.http1 import STALE_AFTER_SEND_SECONDS

PRICES: Final = yaml.safe_load(
    (Path(__file__).parents[2] / "configs" / "pricing.yaml").read_text(encoding="utf-8")
)["models"]
VECTOR: Final = {"object": "embedding", "index": 0, "embedding": [0.5]}
WORD: Final = " because"  # one token
NUMBER_HEADER: Final = "x-client-request-id"  # which the proxy forwards
PATHS: Final = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
TEXTS: Final = (
    "Which of these totals is right, and why does the other one differ? ",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }\n",
    "这些总数中哪一个是正确的，为什么另一个不同？",
    "Яка з цих сум правильна і чому інша відрізняється? ",
)

# When a client hangs up: while it sends, before the head, after the head, in the middle of the
# answer, before its last chunk, or at any time.
Leave = Literal["sending", "waiting", "head", "middle", "last", "any time"]
LEAVES: Final[tuple[Leave, ...]] = ("sending", "waiting", "head", "middle", "last", "any time")


class Model(NamedTuple):
    """A model as a client names it, as the answer names it, and as the price list does.

    Attributes:
        asked: what the price list has for the name of the client, if that is another model.
    """

    name: str
    answers_as: str
    listed: str
    asked: str | None = None


CLOUD: Final = Model("cloud", "gpt-4o-mini-2024-07-18", "gpt-4o-mini")
AUTO: Final = Model("auto", "gpt-4o-mini-2024-07-18", "gpt-4o-mini")
CHAT_MODELS: Final = (
    CLOUD,
    Model("openai/gpt-4o-mini", "openai/gpt-4o-mini", "gpt-4o-mini"),
    Model("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"),
    Model("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13", asked="gpt-4o"),
    Model("gpt-4o-2024-05-13", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
    Model("openai/gpt-4o-2024-11-20", "gpt-4o-2024-11-20", "gpt-4o"),
    Model("ft:gpt-4o-mini-2024-07-18:acme::a1", "ft:gpt-4o-mini-2024-07-18:acme::a1",
          "ft:gpt-4o-mini"),
    Model("gpt-5-mini-2025-08-07", "gpt-5-mini-2025-08-07", "gpt-5-mini"),
    Model("o4-mini", "o4-mini-2025-04-16", "o4-mini"),
    Model("gpt-5-pro", "gpt-5-pro-2025-10-06", "gpt-5-pro"),
)  # fmt: skip
COMPLETION_MODELS: Final = (
    Model("gpt-3.5-turbo-instruct", "gpt-3.5-turbo-instruct:20230824-v2", "gpt-3.5-turbo-instruct"),
    Model("openai/davinci-002", "davinci-002", "davinci-002"),
    Model("ft:davinci-002:acme::b2", "ft:davinci-002:acme::b2", "ft:davinci-002"),
)
EMBEDDING_MODELS: Final = (
    Model("text-embedding-3-small", "text-embedding-3-small", "text-embedding-3-small"),
    Model("openai/text-embedding-3-large", "text-embedding-3-large", "text-embedding-3-large"),
    Model("text-embedding-ada-002", "text-embedding-ada-002-v2", "text-embedding-ada-002"),
)


@dataclass
class Attempt:
    """What the cloud bills for one answer, as far as it has been sent.

    Attributes:
        model: a part of a stream names the one that answers, a part of a whole answer does not.
        output: words that have been sent, or with `has_usage` all output tokens.
        has_usage: whether the usage has been sent.
        words: of each choice of the complete answer.
        whole_output, whole_cached: tokens that the usage has.
    """

    model: Model
    tier: str
    input: int
    streams: bool
    cached: int = 0
    output: int = 0
    has_usage: bool = False
    words: int = 0
    whole_output: int = 0
    whole_cached: int = 0

    def settle(self) -> None:
        """The usage has been sent."""
        self.has_usage, self.output, self.cached = True, self.whole_output, self.whole_cached

    def usd(self) -> Decimal:
        """The bill for what was sent."""
        is_named = self.has_usage or (self.streams and self.output > 0)
        return self._usd(cached=self.cached, output=self.output, is_named=is_named)

    def usd_of(self, words: int) -> Decimal:
        """The bill for the input and these words, which is all that a client has got."""
        is_named = self.streams and words > 0
        return self._usd(cached=self.whole_cached, output=words, is_named=is_named)

    def _usd(self, *, cached: int, output: int, is_named: bool) -> Decimal:
        price = PRICES[self.model.listed if is_named else self.model.asked or self.model.listed]
        price = price.get(self.tier) or price
        usd_per_million = (
            (self.input - cached) * Decimal(str(price["input"]))
            + cached * Decimal(str(price.get("cached_input", price["input"])))
            + output * Decimal(str(price.get("output", 0)))
        )
        return usd_per_million / 10**6


@dataclass
class Request:
    """A random request.

    Attributes:
        input: the tokens of the prompt, without a conversation that it continues.
        answers: the number of billed answers, `choices` the number of those that are sent.
        continues: whether it continues the last response of its client, if there is one.
        leaves: when its client hangs up.
        reached: the place of the answer where the client hangs up.
        leave_words: the words that the client waits for before it hangs up.
    """

    number: int
    kind: str
    model: Model
    fields: dict[str, Any]
    input: int
    choices: int = 1
    answers: int = 1
    max_tokens: int | None = None
    tier: str | None = None
    continues: bool = False
    leaves: Leave | None = None
    leave_words: int = 0
    reached: Gate = field(default_factory=Gate)
    attempts: list[Attempt] = field(default_factory=list)
    seen_words: int = 0  # by the client

    def __str__(self) -> str:
        names = ", ".join(
            f"{name}={str(value)[:60]}" for name, value in self.fields.items() if name != "messages"
        )
        return f"request {self.number} ({self.kind}, {names}; leaves {self.leaves})"

    @property
    def streams(self) -> bool:
        return bool(self.fields.get("stream"))

    @property
    def in_background(self) -> bool:
        """Whether the answer has no tokens yet."""
        return bool(self.fields.get("background")) and not self.streams

    @property
    def path(self) -> str:
        return PATHS[self.kind]


# ── Requests: one function for each kind ──────────────────────────────────────────────────────


class Draft(NamedTuple):
    """What a request is drawn from."""

    dice: random.Random
    number: int
    tokens: TokenCounter

    def text(self) -> str:
        """Some hundred to some thousand characters in one of several languages."""
        return f"{self.number}: " + self.dice.choice(TEXTS) * self.dice.randrange(1, 30)

    def finish(self, request: Request) -> Request:
        """Add what several kinds have in common: the token limit and the service tier."""
        dice, price = self.dice, PRICES[request.model.listed]
        name = {"responses": "max_output_tokens"}.get(request.kind, "max_tokens")
        if dice.random() < 0.5:
            request.max_tokens = dice.choice([64, 200, 1_000])
            request.fields[name] = float(request.max_tokens)
        tiers = [tier for tier in ("flex", "priority") if tier in price]
        if request.kind in ("chat", "responses") and dice.random() < 0.4:
            request.tier = dice.choice(["auto", "default", *tiers, *tiers])
            request.fields["service_tier"] = request.tier
        return request


def draw_chat(draft: Draft) -> Request:
    """A chat, at times with images, several choices, or tools."""
    dice, text = draft.dice, draft.text()
    model = dice.choice((CLOUD, AUTO, *CHAT_MODELS))
    content: Any = text
    images = 0
    if dice.random() < 0.2:
        images = dice.choice([1, 2, 3, 80])
        url = {"url": "https://example.org/a.png"}
        content = [{"type": "text", "text": text}] + [
            {"type": "image_url", "image_url": url}
        ] * images
    fields: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": "user", "content": content}],
        "stream": dice.random() < 0.6,
    }
    if dice.random() < 0.2:
        fields["stream_options"] = {"include_usage": True}
    choices = dice.choice([1, 1, 1, 2, 5])
    if choices > 1:
        fields["n"] = choices
    prompt = draft.tokens.count_messages([("user", text)])
    prompt += images * PRICES[model.listed].get("image_tokens", 0)
    return draft.finish(
        Request(draft.number, "chat", model, fields, prompt, choices=choices, answers=choices)
    )


def draw_responses(draft: Draft, model: Model | None = None) -> Request:
    """A request of the Responses API: whole, streamed, or in the background.

    Args:
        model: of the conversation that it continues, if it does.
    """
    dice, text = draft.dice, draft.text()
    continues, model = model is not None, model or dice.choice(CHAT_MODELS)
    images = dice.choice([0, 0, 0, 1, 3])
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": text}]
    parts += [{"type": "input_image", "image_url": "https://example.org/a.png"}] * images
    fields: dict[str, Any] = {
        "model": model.name,
        "input": [{"role": "user", "content": parts}] if images else text,
        "stream": dice.random() < 0.6,
    }
    if dice.random() < 0.15:
        fields["background"] = True
    prompt = draft.tokens.count_messages([("user", text)])
    prompt += images * PRICES[model.listed].get("image_tokens", 0)
    request = Request(draft.number, "responses", model, fields, prompt)
    request.continues = continues
    return draft.finish(request)


def draw_completion(draft: Draft) -> Request:
    """A completion of one or several prompts, at times the best of several."""
    dice = draft.dice
    model = dice.choice(COMPLETION_MODELS)
    prompts = [draft.text() for _ in range(dice.choice([1, 1, 3]))]
    fields: dict[str, Any] = {"model": model.name, "prompt": prompts, "stream": dice.random() < 0.6}
    if len(prompts) == 1 and dice.random() < 0.7:
        fields["prompt"] = prompts[0]
    choices = answers = dice.choice([1, 1, 2])
    if choices > 1:
        fields["n"] = choices
    if not fields["stream"] and dice.random() < 0.3:
        answers = choices + 2
        fields["best_of"] = answers
    tokens = sum(draft.tokens.count(prompt) for prompt in prompts)
    return draft.finish(
        Request(
            draft.number,
            "completions",
            model,
            fields,
            tokens,
            choices=choices * len(prompts),
            answers=answers * len(prompts),
        )
    )


def draw_embedding(draft: Draft) -> Request:
    """Embeddings of a text, of several, or of token ids."""
    dice = draft.dice
    model = dice.choice(EMBEDDING_MODELS)
    form = dice.choice(["text", "texts", "ids"])
    texts = [draft.text() for _ in range(1 if form == "text" else dice.randrange(1, 4))]
    tokens = sum(draft.tokens.count(text) for text in texts)
    value: Any = texts[0] if form == "text" else texts
    if form == "ids":
        value = [[dice.randrange(100_000) for _ in range(tokens)]]
    return Request(draft.number, "embeddings", model, {"model": model.name, "input": value}, tokens)


KINDS: Final[dict[str, Callable[[Draft], Request]]] = {
    "chat": draw_chat,
    "responses": draw_responses,
    "completions": draw_completion,
    "embeddings": draw_embedding,
}
WEIGHTS: Final = (5, 3, 2, 1)


def draw(draft: Draft) -> Request:
    """A request of any kind."""
    (kind,) = draft.dice.choices(list(KINDS), WEIGHTS)
    return KINDS[kind](draft)


def draw_conversation(dice: random.Random, number: int, tokens: TokenCounter) -> list[Request]:
    """The requests of one client, from this number on. It may hang up at the last one."""
    requests = [draw(Draft(dice, number, tokens))]
    if requests[0].kind == "responses":
        model = requests[0].model
        requests += [
            draw_responses(Draft(dice, further, tokens), model)
            for further in range(number + 1, number + dice.choice([1, 2, 3]))
        ]
    if dice.random() < 0.35:
        last = requests[-1]  # a routed one may not reach the cloud, where it would wait
        last.leaves = "any time" if last.model is AUTO else dice.choice(LEAVES)
    return requests


# ── The cloud ─────────────────────────────────────────────────────────────────────────────────


class Piece(NamedTuple):
    """A part of an answer's body, its number of words, and whether it has the usage."""

    data: bytes
    words: int = 0
    has_usage: bool = False


class Mark(Gate):
    """A step that notes what has been sent before it."""

    def __init__(self, attempt: Attempt, *, words: int, has_usage: bool) -> None:
        super().__init__()
        self._attempt = attempt
        self._words = words
        self._has_usage = has_usage

    async def pass_through(self) -> None:
        if not self._attempt.has_usage:  # a piece behind the usage changes nothing
            self._attempt.output = self._words
        if self._has_usage:
            self._attempt.settle()


FAULTS: Final = {"none": 9, "status": 2, "reset": 1, "silent": 1, "cut": 4, "failed": 1}


class BillingCloud:
    """Answers and bills.

    Args:
        requests: by number.
        seed: of faults and answers.
        longest: whether each answer is complete, and as long as the request permits.
        gate: where all answers wait.
    """

    def __init__(
        self,
        requests: Mapping[int, Request],
        *,
        seed: str,
        longest: bool = False,
        gate: Gate | None = None,
    ) -> None:
        self._requests = requests
        self._seed = seed
        self._longest = longest
        self._gate = gate
        self._conversations: dict[str, int] = {}  # tokens, by the id of the response

    def answer(self, call: Call) -> list[Step]:
        request = self._requests[int(call.header(NUMBER_HEADER) or -1)]
        dice = random.Random(f"{self._seed} {request.number} {len(request.attempts)}")
        fault = "none"
        if request.leaves in (None, "any time") and not self._longest:
            (fault,) = dice.choices(list(FAULTS), list(FAULTS.values()))
        wait = [] if self._gate is None else [self._gate]
        if fault == "status":
            status = dice.choice([400, 429, 500, 503])
            return [*wait, *whole(error_json("Busy."), status=status)]
        attempt = self._bill(request, call.json, dice)
        return [*wait, *self._steps(request, attempt, fault, dice)]

    def _bill(self, request: Request, body: dict[str, Any], dice: random.Random) -> Attempt:
        """Bill the input, and draw the usage."""
        previous = body.get("previous_response_id") or ""
        tier = request.tier if request.tier in ("flex", "priority") else "default"
        most = request.max_tokens or PRICES[request.model.listed].get("max_output", 0)
        prompt = request.input + self._conversations.get(previous, 0)
        attempt = Attempt(request.model, tier, prompt, request.streams)
        request.attempts.append(attempt)
        if request.kind == "embeddings":
            return attempt
        attempt.words = 5 if self._longest else dice.randrange(1, 12)
        attempt.whole_output = most if self._longest else attempt.words
        if not self._longest and tier == "priority" and dice.random() < 0.3:
            attempt.tier = "default"  # of a busy provider
        if not self._longest and dice.random() < 0.3:
            attempt.whole_output += dice.randrange(most - attempt.words)  # hidden reasoning
        attempt.whole_output *= request.answers
        if request.kind != "completions" and not self._longest:
            attempt.whole_cached = dice.choice([0, dice.randrange(attempt.input)])
        return attempt

    def _steps(
        self, request: Request, attempt: Attempt, fault: str, dice: random.Random
    ) -> list[Step]:
        """An answer with a fault, or one that waits where its client hangs up."""
        start = _head(request)
        if fault == "reset":
            return [Pause(2 * STALE_AFTER_SEND_SECONDS), End.RESET]
        if fault == "silent":
            return dice.choice([[Gate()], [start, Gate()]])
        if request.leaves == "waiting":
            return [request.reached, Gate()]
        if request.leaves == "head":
            return [start, request.reached, Gate()]
        pieces = _body(request, attempt)
        if fault == "failed" and request.streams:
            pieces = pieces[: dice.randrange(1, len(pieces) - 2)]
            pieces.append(Piece(_error_event(request)))
        elif request.kind == "responses" and not request.in_background:
            self._conversations[f"resp_{request.number}"] = attempt.input + attempt.words
        stay: list[Step] = [request.reached, Gate()]
        end: list[Step] = []
        if request.leaves == "middle":
            first = next((i for i, piece in enumerate(pieces) if piece.words), 0)
            pieces, end = pieces[: dice.randrange(first, len(pieces) - 1) + 1], stay
        elif request.leaves == "last":
            pieces, end = pieces[:-1], stay
        request.leave_words = sum(piece.words for piece in pieces) if request.streams else 0
        size = sum(len(piece.data) for piece in pieces)
        points = sorted(dice.randrange(size) for _ in range(dice.randrange(4)))
        if fault == "cut":
            points = sorted([*points, dice.randrange(size)])
            end = dice.choice([[End.FIN], [Pause(0.05), End.RESET], [Gate()]])
        else:
            points.append(size)
        sent = _split(pieces, points) if request.streams or fault == "cut" else pieces
        steps = _with_marks(request, attempt, sent)
        if not end:
            end = [b"0\r\n\r\n"]
        return [start, *steps, *end]


def _head(request: Request) -> bytes:
    if request.streams:
        return head(200, "text/event-stream", [("transfer-encoding", "chunked")])
    return head(200, headers=[("transfer-encoding", "chunked")])


def _with_marks(request: Request, attempt: Attempt, pieces: Sequence[Piece]) -> Iterator[Step]:
    words = 0
    for data, count, has_usage in pieces:
        if data:
            yield b"%x\r\n%b\r\n" % (len(data), data)
        words += count
        yield Mark(attempt, words=words, has_usage=has_usage)


def _split(pieces: Sequence[Piece], points: Sequence[int]) -> list[Piece]:
    """The same bytes up to the last point, split elsewhere. A divided piece belongs to its end."""
    data = b"".join(piece.data for piece in pieces)
    ends = list(itertools.accumulate(len(piece.data) for piece in pieces))
    split = []
    for start, end in itertools.pairwise([0, *points]):
        inside = [piece for piece, at in zip(pieces, ends, strict=True) if start < at <= end]
        words = sum(piece.words for piece in inside)
        split.append(Piece(data[start:end], words, any(piece.has_usage for piece in inside)))
    return split


def _body(request: Request, attempt: Attempt) -> list[Piece]:
    """The body of a complete answer: its events, or its JSON behind each of its words."""
    usage = _usage(request, attempt)
    if request.kind == "responses":
        fields: dict[str, Any] = {
            "response_id": f"resp_{request.number}",
            "model": request.model.answers_as,
            "service_tier": attempt.tier,
            "usage": usage,
        }
        words = [WORD] * attempt.words
        if request.streams:
            return [
                Piece(data, b"_text.delta" in data, b"response.completed" in data)
                for data in response_events(words, **fields)
            ]
        if request.in_background:
            fields |= {"status": "queued", "output": [], "usage": None}
        return _pieces_of(response_fields("".join(words), **fields))
    answer: dict[str, Any] = {"model": request.model.answers_as, "service_tier": attempt.tier}
    if request.kind == "embeddings":
        body = {"object": "list", "data": [VECTOR], "usage": usage, "model": answer["model"]}
        return _pieces_of(body)
    if request.streams:
        return list(_chunks(request, attempt.words, answer, usage))
    return _pieces_of(
        answer
        | {
            "id": "cmpl-1",
            "choices": [
                _choice(request, index, WORD * attempt.words, "stop")
                for index in range(request.choices)
            ],
            "usage": usage,
        }
    )


def _pieces_of(answer: dict[str, Any]) -> list[Piece]:
    *texts, last = json.dumps(answer).split(WORD)
    words = [Piece((text + WORD).encode(), 1) for text in texts]
    return [*words, Piece(last[:-1].encode()), Piece(last[-1:].encode(), 0, has_usage=True)]


def _chunks(
    request: Request, words: int, answer: dict[str, Any], usage: dict[str, Any]
) -> Iterator[Piece]:
    """A stream of chunks, whose choices take turns."""
    indexes = range(request.choices)
    for _ in range(words):
        for index in indexes:
            yield Piece(event(answer | {"choices": [_choice(request, index, WORD)]}), 1)
    for index in indexes:
        yield Piece(event(answer | {"choices": [_choice(request, index, "", "stop")]}))
    yield Piece(event(answer | {"choices": [], "usage": usage}), 0, True)
    yield Piece(DONE)


def _choice(request: Request, index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish}
    if request.kind == "completions":
        return choice | {"text": text}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if request.number % 5 == 0:  # a call of a tool
        message["content"] = None
        function = {"name": "f", "arguments": text}
        message["tool_calls"] = [{"index": 0, "id": "call_1", "function": function}]
    return choice | {"delta" if request.streams else "message": message}


def _usage(request: Request, attempt: Attempt) -> dict[str, Any]:
    prompt, output = attempt.input, attempt.whole_output
    names = ("input", "output") if request.kind == "responses" else ("prompt", "completion")
    hidden = output - attempt.words * request.answers
    return {
        f"{names[0]}_tokens": prompt,
        f"{names[1]}_tokens": output,
        "total_tokens": prompt + output,
        f"{names[0]}_tokens_details": {"cached_tokens": attempt.whole_cached},
        f"{names[1]}_tokens_details": {"reasoning_tokens": hidden},
    }


def _error_event(request: Request) -> bytes:
    error = {"message": "Failed.", "type": "server_error", "code": None, "param": None}
    return typed("error", 9, **error) if request.kind == "responses" else event({"error": error})
