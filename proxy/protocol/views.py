"""What the router reads of a request and of an answer, whichever endpoint they belong to.

Each wire format (`chat`, `responses`) provides a `RoutingRequest` and an `AnswerView`.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

_MAX_TOKENS: Final = 10**12  # of one answer; a larger count is an error of the server


class RoutingRequest(Protocol):
    """What the router must know of a request, whichever endpoint it is for."""

    @property
    def model(self) -> str:
        """As the client named it."""

    @property
    def streams(self) -> bool:
        """Whether the answer is to be a stream."""

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text) pairs, in order."""

    @property
    def needs(self) -> dict[str, str]:
        """What a model must be able to do to answer this as asked -> the field that asks it."""

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens the answer may have; None when the client did not say."""

    @property
    def choices(self) -> int:
        """How many answers of that length are asked for."""

    @property
    def tool_chars(self) -> int:
        """Characters that tools, calls of them and a schema add to the prompt."""

    @property
    def images(self) -> int:
        """How many images the prompt has."""

    @property
    def hides_usage(self) -> bool:
        """Whether a stream's usage chunk, which we ask for, is not for the client."""

    @property
    def prompt_field(self) -> str:
        """The field that holds the prompt, to be named in errors."""

    @property
    def hints(self) -> Mapping[str, str]:
        """What tells one conversation from another, apart from its text."""


class AnswerView(Protocol):
    """What a whole answer, or one event of a stream, shows of itself."""

    @property
    def usage(self) -> "Usage | None":
        """Token counts, where it has them."""

    @property
    def service_tier(self) -> str | None:
        """By which it was served, where it says so: its price may depend on it."""

    @property
    def failed(self) -> bool:
        """True for an error, in a stream that began with 200 or in place of an answer."""

    @property
    def finished(self) -> bool:
        """True when a choice, or the whole answer, says that it is over."""

    @property
    def finish_reason(self) -> str | None:
        """Why its only choice is over: `stop` for a whole answer, `length` for one cut off."""

    @property
    def speaks(self) -> bool:
        """True when there is something a client would show or act on."""

    @property
    def text(self) -> str:
        """Its text, or piece of text."""

    @property
    def is_usage_only(self) -> bool:
        """True for the extra chunk that `include_usage` adds: usage and no choice."""


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as an upstream reports them. Cached tokens are part of the prompt tokens."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cached_tokens or 0) if details is not None else 0

    @property
    def reasoning_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0

    @property
    def is_credible(self) -> bool:
        """True for counts that can be: a server's -1 for "unknown" must not enter a sum."""
        counts = (
            self.prompt_tokens,
            self.completion_tokens or 0,
            self.cached_tokens,
            self.reasoning_tokens,
        )
        return all(count is not None and 0 <= count <= _MAX_TOKENS for count in counts)
