"""Routing rules: policy of the operator beside the router model (`routing.rules`).

    rule = await rules.find(RuleInput(turns=turns))

The first rule whose conditions hold decides; without one the score does. Rules are compiled once
for each configuration. What a condition reads is computed at most once a request, and only when a
rule asks for it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from proxy.budget import TokenCounter
from proxy.config import Config, Fields, Names, RuleCondition, TokenRange
from proxy.patterns import compile_regex, compile_words, encode, fold
from proxy.protocol import RoutingRequest
from proxy.record import Target, key_hash
from router_model import language
from router_model.categories import category_of
from router_model.task import routing_text

# Of the last user message, from its head and its tail: so the time is bounded.
MAX_MATCHED_CHARS: Final = 100_000
_GAP: Final = "\n…\n"
# Longer texts are matched in a thread. RE2 does not hold Python's lock.
_LONG_CHARS: Final = 4_000

Headers = Sequence[tuple[bytes, bytes]]
Condition = Callable[["RuleInput"], bool]


class Rule(NamedTuple):
    """A rule's name and its action: a tier, or a threshold for the score."""

    name: str
    target: Target | None = None
    threshold: float | None = None

    def __str__(self) -> str:
        action = self.target or f"threshold {self.threshold:.4f}"
        return f"'{self.name}' ({action})"


class RuleInput:
    """What conditions read of a request.

    Args:
        turns: (role, text) pairs.
        headers: names in lower case.
        key_hash: of the caller's API key.
        request: None for a bare text.
        counted_tokens: of the prompt, if they have been counted.
    """

    def __init__(
        self,
        turns: Sequence[tuple[str, str]],
        *,
        headers: Headers = (),
        key_hash: str | None = None,
        request: RoutingRequest | None = None,
        tokens: TokenCounter | None = None,
        counted_tokens: int | None = None,
    ) -> None:
        self.turns = turns
        self.headers = headers
        self.key_hash = key_hash
        self.request = request
        self.tokens = tokens or TokenCounter()
        self.counted_tokens = counted_tokens

    @cached_property
    def text(self) -> str:
        """The last user message, without its middle if it is very long."""
        text = next((text for role, text in reversed(self.turns) if role == "user"), "")
        if len(text) > MAX_MATCHED_CHARS:
            half = MAX_MATCHED_CHARS // 2
            text = f"{text[:half]}{_GAP}{text[-half:]}"
        return text

    @cached_property
    def encoded(self) -> bytes:
        return encode(self.text)

    @cached_property
    def folded(self) -> bytes:
        """The text without case."""
        return encode(fold(self.text))

    @cached_property
    def category(self) -> str:
        return category_of(self.turns)

    @cached_property
    def language(self) -> str | None:
        return language.language_of(routing_text(self.turns))

    @cached_property
    def prompt_tokens(self) -> int:
        if self.counted_tokens is not None:
            return self.counted_tokens
        other = self.request.tool_chars if self.request is not None else 0
        return self.tokens.count_messages(self.turns, other_chars=other)

    @cached_property
    def needs(self) -> frozenset[str]:
        """What the request needs. Web search is a hosted tool, even if a local server has it."""
        needs = frozenset(self.request.needs if self.request is not None else ())
        return needs | {"hosted_tools"} if "web_search" in needs else needs

    @cached_property
    def metadata(self) -> Mapping[str, str]:
        return self.request.metadata_values if self.request is not None else {}


class Rules:
    """The compiled rules of a configuration."""

    def __init__(self, config: Config) -> None:
        key_hashes = {
            item.name: key_hash(item.key.reveal())
            for item in config.server.api_keys
            if item.name is not None
        }
        self._rules: list[tuple[Rule, tuple[Condition, ...]]] = []
        for item in config.routing.rules:
            match item.use:
                case "local" | "cloud":
                    rule = Rule(item.name, target=Target(item.use))
                case use:
                    rule = Rule(item.name, threshold=use.threshold)
            self._rules.append((rule, tuple(_compile(item.when, key_hashes))))
        self._loading = asyncio.Lock()
        conditions = [item.when for item in config.routing.rules]
        self._counts_tokens = any(item.prompt_tokens is not None for item in conditions)
        self._reads_language = any(item.language is not None for item in conditions)
        self._reads_text = any((item.words or item.regex) is not None for item in conditions)

    async def find(self, given: RuleInput) -> Rule | None:
        """The first rule whose conditions hold."""
        await self.prepare(given.tokens)
        if self._reads_text and len(given.text) > _LONG_CHARS:
            return await asyncio.to_thread(self.find_prepared, given)
        return self.find_prepared(given)

    async def prepare(self, tokens: TokenCounter) -> None:
        """Load what the conditions need."""
        if self._counts_tokens:
            await tokens.ready()
        if self._reads_language and not language.is_loaded():
            async with self._loading:  # one thread loads; the second request finds it loaded
                await asyncio.to_thread(language.load)

    def find_prepared(self, given: RuleInput) -> Rule | None:
        """As `find`, after `prepare`. A long text takes milliseconds: call it in a thread."""
        for rule, conditions in self._rules:
            for condition in conditions:  # not all(): it would create a generator for each rule
                if not condition(given):
                    break
            else:
                return rule
        return None


def _compile(when: RuleCondition, key_hashes: Mapping[str, str]) -> list[Condition]:
    """The conditions of a rule as functions, the cheapest first."""
    conditions: list[Condition] = []
    if when.key is not None:
        hashes = frozenset(key_hashes[name] for name in _as_set(when.key))
        conditions.append(lambda given: given.key_hash in hashes)
    if when.header is not None:
        conditions.append(_header_condition(when.header))
    if when.metadata is not None:
        conditions.append(_metadata_condition(when.metadata))
    if when.needs is not None:
        needs = _as_set(when.needs)
        conditions.append(lambda given: not needs.isdisjoint(given.needs))
    if when.category is not None:
        categories = _as_set(when.category)
        conditions.append(lambda given: given.category in categories)
    if when.words is not None:
        has_words = compile_words(_as_set(when.words))
        conditions.append(lambda given: has_words(given.folded))
    if when.regex is not None:
        matches = compile_regex(_as_set(when.regex))
        conditions.append(lambda given: matches(given.encoded))
    if when.prompt_tokens is not None:
        conditions.append(_token_condition(when.prompt_tokens))
    if when.language is not None:
        languages = _as_set(when.language)
        conditions.append(lambda given: given.language in languages)
    return conditions


def _header_condition(fields: Fields) -> Condition:
    if not isinstance(fields, dict):
        names = frozenset(name.lower().encode() for name in _as_set(fields))
        return lambda given: any(name in names for name, _ in given.headers)
    allowed = [
        (name.lower().encode(), frozenset(value.encode() for value in _as_set(values)))
        for name, values in fields.items()
    ]
    return lambda given: all(
        any(sent == name and value.strip() in values for sent, value in given.headers)
        for name, values in allowed
    )


def _metadata_condition(fields: Fields) -> Condition:
    if not isinstance(fields, dict):
        names = _as_set(fields)
        return lambda given: not names.isdisjoint(given.metadata)
    allowed = [(name, _as_set(values)) for name, values in fields.items()]
    return lambda given: all(given.metadata.get(name) in values for name, values in allowed)


def _token_condition(tokens: TokenRange) -> Condition:
    least = tokens.min or 0
    most = tokens.max if tokens.max is not None else float("inf")
    return lambda given: least <= given.prompt_tokens <= most


def _as_set(values: Names) -> frozenset[str]:
    return frozenset((values,) if isinstance(values, str) else values)
