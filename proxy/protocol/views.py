"""Endpoint-independent views of requests and answers, with the fields that the router reads.

Each wire format (`chat`, `responses`) provides a `RoutingRequest` and an `AnswerView`.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

MAX_CONTEXT_TOKENS: Final = 2**21  # no model reads or writes more; a larger count is an error


class Turn(NamedTuple):
    """A turn of a conversation.

    Attributes:
        calls: the ids of the tool calls in it.
    """

    role: str
    text: str
    calls: Sequence[str] = ()


class HostedCalls(NamedTuple):
    """The calls of tools that the provider runs for a fee; of the code interpreter, the containers.

    The names of the fields are those of the fees in the price list.
    """

    web_search: int = 0
    file_search: int = 0
    code_interpreter: int = 0


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
    def hosted_tools(self) -> Sequence[str]:
        """The fields of `HostedCalls` whose tools the provider may run, one for each tool."""

    @property
    def uncounted_tools(self) -> Sequence[str]:
        """The offered tools that the provider may run at a cost that cannot be counted."""

    @property
    def max_tool_calls(self) -> int | None:
        """The most calls of such tools; None without a limit."""

    @property
    def service_tier(self) -> str | None:
        """The service tier that the client asks for; None for the standard one and `auto`."""

    @property
    def hides_usage(self) -> bool:
        """Whether the client did not ask for the usage chunk of a stream."""

    @property
    def prompt_field(self) -> str:
        """The name of the field with the prompt, for errors."""

    @property
    def history(self) -> Sequence["Turn"]:
        """The turns as far as they identify the conversation; none if the body has no history."""

    @property
    def hints(self) -> Mapping[str, str]:
        """Values that identify the conversation, besides its text.

        Those in `fields.SESSION_FIELDS` name it. Other conversations may have the other values.
        """

    @property
    def metadata_values(self) -> Mapping[str, str]:
        """The client's `metadata`: its string values by name."""


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
    def hosted_calls(self) -> HostedCalls | None:
        """The calls of tools that the provider ran, or this event's; None without any."""

    @property
    def other_text(self) -> str:
        """Billed output that is no text of the answer: reasoning and tool calls."""

    @property
    def call_ids(self) -> Sequence[str]:
        """The ids of the tool calls in it that the client is to run."""

    @property
    def is_answer(self) -> bool:
        """Whether a complete body with a success status is an answer, perhaps an empty one."""

    @property
    def failed(self) -> bool:
        """Whether it is an error, also in a stream that began with status 200."""

    @property
    def is_bare_error(self) -> bool:
        """Whether it is an error in a form that OpenAI's clients do not know."""

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
    audio_tokens: int | None = None


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts as an upstream reports them.

    Cached tokens, tokens written to the cache and audio tokens are part of the prompt tokens, audio
    and reasoning tokens part of the completion tokens.
    """

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
    def audio_input_tokens(self) -> int:
        details = self.prompt_tokens_details
        return (details.audio_tokens or 0) if details is not None else 0

    @property
    def audio_output_tokens(self) -> int:
        details = self.completion_tokens_details
        return (details.audio_tokens or 0) if details is not None else 0

    def after(self, earlier: "Usage | None") -> "Usage":
        """These counts, as the later ones of a stream whose prompt may be counted earlier."""
        if earlier is None or self.prompt_tokens is not None:
            return self
        return Usage(
            earlier.prompt_tokens,
            self.completion_tokens,
            earlier.prompt_tokens_details,
            self.completion_tokens_details,
        )

    @property
    def is_credible(self) -> bool:
        """Whether the counts are possible: some servers send -1 for unknown."""
        return self.prompt_tokens is not None and self.bounded() == self

    def exceeds(self, max_tokens: int) -> bool:
        """Whether a count is larger than any model can have, so that the counts mean nothing."""
        return max(self.prompt_tokens or 0, self.completion_tokens or 0) > max_tokens

    def bounded(
        self, max_tokens: int = MAX_CONTEXT_TOKENS, *, max_answer: int | None = None
    ) -> "Usage":
        """The counts, each within what is possible. An unknown or negative count is None.

        Args:
            max_tokens: the most tokens of a prompt, and of an answer.
            max_answer: the most tokens of an answer, if that is less.
        """
        prompt = _bound(self.prompt_tokens, max_tokens)
        most = max_tokens if max_answer is None else min(max_tokens, max_answer)
        answer = _bound(self.completion_tokens, most)
        prompt_details, answer_details = self.prompt_tokens_details, self.completion_tokens_details
        if prompt_details is not None:
            cached = _bound(prompt_details.cached_tokens, prompt or 0)
            written = _bound(prompt_details.cache_write_tokens, (prompt or 0) - (cached or 0))
            audio = _bound(prompt_details.audio_tokens, prompt or 0)
            prompt_details = PromptTokensDetails(cached, written, audio)
        if answer_details is not None:
            reasoning = _bound(answer_details.reasoning_tokens, answer or 0)
            audio = _bound(answer_details.audio_tokens, answer or 0)
            answer_details = CompletionTokensDetails(reasoning, audio)
        return Usage(prompt, answer, prompt_details, answer_details)


def _bound(count: int | None, most: int) -> int | None:
    return None if count is None or count < 0 else min(count, most)


# ── Lenient reading: of answers with a value of another type, and of large ones ───────────────

# A view of more bytes than this is bounded in work, and one of more than that has no text.
LARGE_BYTES: Final = 2**16
MAX_VIEWED_BYTES: Final = 2**21  # decoding a text costs up to 20 ns a byte

_USAGE_BYTES: Final = 2**16
_COUNT_CHARS: Final = 24
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_usage(raw: bytes, *, prompt: str = "prompt", answer: str = "completion") -> Usage | None:
    """Token counts, each read on its own; None when it is no object.

    Args:
        prompt, answer: the beginnings of the field names.
    """
    fields = _read_fields(raw)
    if not fields:
        return None
    prompt_details = _read_fields(fields.get(f"{prompt}_tokens_details", b""))
    answer_details = _read_fields(fields.get(f"{answer}_tokens_details", b""))
    return Usage(
        read_count(fields.get(f"{prompt}_tokens", b"")),
        read_count(fields.get(f"{answer}_tokens", b"")),
        PromptTokensDetails(
            read_count(prompt_details.get("cached_tokens", b"")),
            read_count(prompt_details.get("cache_write_tokens", b"")),
            read_count(prompt_details.get("audio_tokens", b"")),
        ),
        CompletionTokensDetails(
            read_count(answer_details.get("reasoning_tokens", b"")),
            read_count(answer_details.get("audio_tokens", b"")),
        ),
    )


def read_count(raw: bytes) -> int | None:
    """A count, also as an integral float or as text; None for anything else."""
    text = bytes(raw).strip(b'"')
    if not text or len(text) > _COUNT_CHARS:
        return None
    try:
        return int(text) if text.lstrip(b"-").isdigit() else _as_integer(float(text))
    except ValueError:
        return None


def _as_integer(number: float) -> int | None:
    return int(number) if number.is_integer() else None  # False for infinities, too


def _read_fields(raw: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a small object; none for other values."""
    if not bytes(raw).startswith(b"{") or len(raw) > _USAGE_BYTES:
        return {}
    try:
        return _raw_fields.decode(raw)
    except UNREADABLE:
        return {}


class FirstItems:
    """Reads the first items of a JSON array. Further ones cost no memory.

    Args:
        number: of items at most.
    """

    def __init__(self, number: int) -> None:
        fields = [(f"item{index}", msgspec.Raw, msgspec.Raw()) for index in range(number)]
        self._decoder = msgspec.json.Decoder(
            msgspec.defstruct("FirstItems", fields, array_like=True)
        )

    def read(self, raw: bytes) -> list[msgspec.Raw]:
        """The items; none when it is no array."""
        try:
            items = msgspec.structs.astuple(self._decoder.decode(raw))
        except UNREADABLE:
            return []
        return [item for item in items if item]


def is_empty(raw: bytes) -> bool:
    """Whether a JSON value is absent or says nothing: null, false, or an empty container."""
    return bytes(raw).translate(None, b" \t\r\n") in (b"", b"null", b"false", b'""', b"[]", b"{}")
