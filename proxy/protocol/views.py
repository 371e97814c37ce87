"""Endpoint-independent views of requests and answers, with the fields that the router reads.

Each wire format (`chat`, `responses`) provides a `RoutingRequest` and an `AnswerView`.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

_MAX_TOKENS: Final = 10**12  # of one answer; a larger count is an error of the server


class RoutingRequest(Protocol):
    """The fields of a request that the router reads, for any endpoint."""

    @property
    def model(self) -> str:
        """The model name that the client sent."""

    @property
    def streams(self) -> bool:
        """Whether the answer is to be a stream."""

    @property
    def turns(self) -> list[tuple[str, str]]:
        """(role, text) pairs, in order."""

    @property
    def needs(self) -> dict[str, str]:
        """The capabilities that the request needs, each with the field that needs it."""

    @property
    def answer_tokens(self) -> int | None:
        """The token limit of the answer; None without one."""

    @property
    def choices(self) -> int:
        """The number of requested answers."""

    @property
    def tool_chars(self) -> int:
        """The characters that tools, tool calls and a schema add to the prompt."""

    @property
    def images(self) -> int:
        """The number of images in the prompt."""

    @property
    def has_references(self) -> bool:
        """Whether the prompt has parts that the body does not show in full.

        Such parts are files, audio, stored conversations and prompts, and the results of tools that
        the provider runs.
        """

    @property
    def service_tier(self) -> str | None:
        """The service tier that the client asks for; None for the standard one."""

    @property
    def hides_usage(self) -> bool:
        """Whether the client did not ask for the usage chunk of a stream."""

    @property
    def prompt_field(self) -> str:
        """The name of the field with the prompt, for errors."""

    @property
    def hints(self) -> Mapping[str, str]:
        """Values that identify the conversation, besides its text."""


class AnswerView(Protocol):
    """The fields of a complete answer, or of one event of a stream, that the router reads."""

    @property
    def usage(self) -> "Usage | None":
        """The token counts, if it has them."""

    @property
    def service_tier(self) -> str | None:
        """The service tier, if reported. The price may depend on it."""

    @property
    def model(self) -> str | None:
        """The model that answered, if reported."""

    @property
    def other_text(self) -> str:
        """Billed output that is no text of the answer: reasoning and tool calls."""

    @property
    def failed(self) -> bool:
        """Whether it is an error, also in a stream that began with status 200."""

    @property
    def finished(self) -> bool:
        """Whether a choice, or the answer, is finished."""

    @property
    def finish_reason(self) -> str | None:
        """Why its only choice is finished: `stop`, or `length` when truncated."""

    @property
    def speaks(self) -> bool:
        """Whether it has content that a client would show or act on."""

    @property
    def text(self) -> str:
        """Its text, or part of the text."""

    @property
    def is_usage_only(self) -> bool:
        """Whether it is the chunk that `include_usage` adds: usage without a choice."""


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


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
    def cache_write_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.cache_write_tokens or 0) if details is not None else 0

    @property
    def reasoning_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0

    @property
    def is_credible(self) -> bool:
        """Whether the counts are possible: some servers send -1 for unknown."""
        counts = (
            self.prompt_tokens,
            self.completion_tokens or 0,
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
        )
        return all(count is not None and 0 <= count <= _MAX_TOKENS for count in counts)
