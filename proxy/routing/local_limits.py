"""The local model's limits: whether it can answer a request.

The local server may truncate a long prompt and drop unknown fields without an error. So a request
beyond the model's known limits goes to the cloud, or is refused when the client forced the local
tier. Prompt tokens are estimated, and corrected by the counts reported for earlier prompts.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.budget import Correction, TokenCounter
from proxy.errors import ContextExceeded, InvalidRequest
from proxy.protocol import RoutingRequest, Usage
from proxy.protocol.responses import ResponsesRequest
from proxy.record import CallRecord, Reason
from proxy.upstream import Capabilities, Learned

logger = logging.getLogger(__name__)

# The context reserved for an answer if the request sets no limit.
CONTEXT_ANSWER_TOKENS: Final = 512
# A reported prompt this much shorter than the estimate was truncated: tokenizers differ by less.
_TRUNCATED_SHARE: Final = 0.6
_CHARS_PER_SCHEMA_TOKEN: Final = 4
# Local vision models count 256 tokens (Gemma 3) to about 2,900 (LLaVA 1.6) per image.
_IMAGE_TOKENS: Final = 1_000
_MAX_TYPE_CHARS: Final = 64  # of a tool, in a message


class LimitExceeded(NamedTuple):
    """Why the local tier cannot answer: the reason, and the error for a forced request."""

    reason: Reason
    error: InvalidRequest

    def __str__(self) -> str:
        return f"cannot answer ({self.reason}): {self.error.message}"


def features_of(request: RoutingRequest, turns: Sequence[tuple[str, str]]) -> list[str]:
    """The features of a request that a model's server may refuse: its needs, and its roles."""
    features = list(request.needs)
    roles = [role for role, _ in turns]
    if "developer" in roles:
        features.append("developer role")
    if "system" in roles:
        features.append("system role")
    if len(roles) > 1 and roles[-1] == "assistant":
        features.append("assistant last")
    spoken = roles[1:] if roles[:1] in (["system"], ["developer"]) else roles
    users, assistants = spoken[::2], spoken[1::2]
    if users.count("user") < len(users) or assistants.count("assistant") < len(assistants):
        features.append("order of roles")
    return features


class LocalLimits:
    """Checks requests against the local model's limits, and learns how it counts tokens."""

    def __init__(self, tokens: TokenCounter) -> None:
        self._tokens = tokens
        self._correction = Correction()

    async def check(
        self, request: RoutingRequest, capabilities: Capabilities, record: CallRecord
    ) -> LimitExceeded | None:
        """The exceeded limit, or None. Near the context limit the record gets the token count."""
        needs = request.needs
        if lacking := capabilities.lacking(needs):
            need = lacking[0]
            name = _describe(request, need)
            return LimitExceeded(
                Reason.CAPABILITY,
                InvalidRequest(
                    f"The local model does not support '{needs[need]}' ({name}). "
                    "Use the model 'auto' or 'cloud'.",
                    param=needs[need],
                    code="unsupported_by_local_model",
                ),
            )
        context = capabilities.context_tokens
        if context is None:
            return None
        room = min(request.answer_tokens or CONTEXT_ANSWER_TOKENS, context // 2)
        turns, images = record.turns or (), request.images * _IMAGE_TOKENS
        if _upper_bound(request, turns) + images + room <= context:
            return None
        await self._tokens.ready()
        schema = request.tool_chars // _CHARS_PER_SCHEMA_TOKEN
        counted = self._tokens.count_messages(turns) + schema
        if not images:  # image tokens are a guess, so they do not correct the counter
            record.counted_tokens = counted
        prompt = self._correction.apply(counted) + images
        if prompt + room <= context:
            return None
        return LimitExceeded(
            Reason.CONTEXT,
            ContextExceeded(prompt=prompt, room=room, context=context, param=request.prompt_field),
        )

    async def check_learned(
        self, request: RoutingRequest, learned: Learned, *, model: str, record: CallRecord
    ) -> Reason | None:
        """Why the model would refuse a request, by what it has recently refused."""
        turns = record.turns or ()
        refused = set(learned.features(model))
        if refused and (known := refused.intersection(features_of(request, turns))):
            record.step("the local model has recently refused this: %s", min(known))
            return Reason.CAPABILITY
        max_length = learned.max_length(model)
        if max_length is None or _upper_bound(request, turns) + _room(request) < max_length:
            return None
        if await self.measure(request, record) < max_length:
            return None
        record.step("the local model has recently refused %d tokens", max_length)
        return Reason.CONTEXT

    async def measure(self, request: RoutingRequest, record: CallRecord) -> int:
        """The tokens of a request with its answer and images, about."""
        await self._tokens.ready()
        schema = request.tool_chars // _CHARS_PER_SCHEMA_TOKEN
        return self._tokens.count_messages(record.turns or ()) + schema + _room(request)

    async def count_prompt(self, request: RoutingRequest) -> int:
        """The tokens of a request without an answer, counted as `check` does."""
        await self._tokens.ready()
        schema = request.tool_chars // _CHARS_PER_SCHEMA_TOKEN
        counted = self._tokens.count_messages(request.turns) + schema
        return self._correction.apply(counted) + request.images * _IMAGE_TOKENS

    def was_truncated(self, record: CallRecord, usage: Usage, capabilities: Capabilities) -> bool:
        """Whether the local model truncated the prompt, or the answer filled its context."""
        prompt, answer = usage.prompt_tokens or 0, usage.completion_tokens or 0
        context, counted = capabilities.context_tokens, record.counted_tokens
        is_cut = counted is not None and prompt < _TRUNCATED_SHARE * self._correction.apply(counted)
        if is_cut or (context is not None and prompt + answer >= context):
            logger.warning(
                "request %s: truncated by the local model's context: prompt tokens %d of about %s, "
                "answer tokens %d, context %s",
                record.id,
                prompt,
                counted or prompt,
                answer,
                context or "unknown",
            )
            return True
        if counted is not None:
            self._correction.observe(counted=counted, reported=prompt)
        return False


def _describe(request: RoutingRequest, need: str) -> str:
    """A need for an error: of a tool that only the cloud runs, its type."""
    if need == "hosted_tools" and isinstance(request, ResponsesRequest) and request.cloud_tools:
        return request.cloud_tools[0][:_MAX_TYPE_CHARS]
    return need


def _room(request: RoutingRequest) -> int:
    """The tokens of an answer and of the images."""
    return (request.answer_tokens or CONTEXT_ANSWER_TOKENS) + request.images * _IMAGE_TOKENS


def _upper_bound(request: RoutingRequest, turns: Sequence[tuple[str, str]]) -> float:
    """A cheap upper bound of the prompt's tokens: most requests are far below the context.

    English and code have more than 2 characters per token. Other scripts may have 2 tokens per
    character.
    """
    bound = request.tool_chars / 2 + 8 * len(turns) + 8
    for _, text in turns:
        bound += len(text) / 2 if text.isascii() else 2 * len(text)
    return bound
