"""What all doubles share: a server checks a request, refuses it, or answers whole or as a stream.

A double is a `FakeUpstream`, so it has real sockets and records its calls. Its subclasses state
what one server does: the form of its answers, what it refuses, and in which words.

The text of every answer is TEXT and its usage is USAGE, so that one test fits all doubles.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from fakes import DONE, USAGE, WORDS, Answer, Call, FakeUpstream, chunked, event, whole

TEXT = "".join(WORDS)
THOUGHTS = ("Let me ", "think.")
CREATED = 1_700_000_000
CHARS_PER_TOKEN = 4

Fields = Mapping[str, Any]


class Refusal(NamedTuple):
    """An error of a server: its status and its body, as plain text if it is a string."""

    status: int
    body: Any

    @property
    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else encode(self.body)

    def answer(self) -> Answer:
        kind = "text/plain" if isinstance(self.body, str) else "application/json"
        return whole(self.content, status=self.status, content_type=kind)


class Server(FakeUpstream):
    """A double of a model server with one chat model.

    Attributes:
        streams_usage: whether streams can have usage.
        has_usage_chunk: whether that usage has a chunk of its own, without choices.

    Args:
        has_tools: whether the model, or the server as it was started, takes tools.
        has_vision: whether the model takes images.
        thinks: whether the model thinks before it answers.
    """

    model: ClassVar[str] = "phi3:latest"
    context_tokens: ClassVar[int] = 4096
    streams_usage: ClassVar[bool] = True
    has_usage_chunk: ClassVar[bool] = True

    def __init__(
        self, *, has_tools: bool = False, has_vision: bool = False, thinks: bool = False
    ) -> None:
        self.has_tools, self.has_vision, self.thinks = has_tools, has_vision, thinks
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self.answer = self._respond
        self.models = whole(encode(self.list_models()))

    def _respond(self, call: Call) -> Answer:
        if call.path != f"{self.prefix}/chat/completions":
            return self.unknown_path(call).answer()
        fields: Fields = call.json
        if (refusal := self.check(fields)) is not None:
            return refusal.answer()
        if fields.get("stream"):
            return chunked(*(event(chunk) for chunk in self.chunks(fields)), DONE)
        return whole(encode(self.complete(fields)))

    async def _play(self, call: Call, writer: Any) -> None:
        if not call.path.startswith(f"{self.prefix}/") and call.path not in self.native:
            self.native[call.path] = self.unknown_path(call).answer()
        await super()._play(call, writer)

    def call_fields(self, place: int) -> Fields:
        """The fields of a request that it received."""
        fields: Fields = self.calls[place].json
        return fields

    # ── What a server states ──────────────────────────────────────────────────────────────────

    def list_models(self) -> Fields:
        """The body of GET /v1/models."""
        entry = {"id": self.model, "object": "model", "created": CREATED, "owned_by": "me"}
        return {"object": "list", "data": [entry]}

    def unknown_path(self, call: Call) -> Refusal:
        """The answer to a path that the server does not have: FastAPI's, as most have it."""
        return Refusal(404, {"detail": "Not Found"})

    def check(self, fields: Fields) -> Refusal | None:
        """The refusal of a chat request, or None."""
        return None

    def complete(self, fields: Fields) -> dict[str, Any]:
        """The body of a whole answer."""
        return self.frame("chat.completion") | {
            "choices": [{"index": 0, "message": self.message(), "finish_reason": "stop"}],
            "usage": self.usage(),
        }

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        """The chunks of a stream: the role, the words, the end, and usage if it is asked for."""
        yield self.chunk({"role": "assistant", "content": ""})
        for word in THOUGHTS if self.thinks else ():
            yield self.chunk(self.thought(word))
        for word in WORDS:
            yield self.chunk({"content": word})
        yield self.chunk({}, "stop")
        if wants_usage(fields):
            yield self.usage_chunk()

    def thought(self, text: str) -> dict[str, Any]:
        """The field of a message or delta with the thoughts of the model; empty if hidden."""
        return {}

    # ── Parts of answers ──────────────────────────────────────────────────────────────────────

    def frame(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-123", "object": kind, "created": CREATED, "model": self.model}

    def message(self) -> dict[str, Any]:
        thoughts = self.thought("".join(THOUGHTS)) if self.thinks else {}
        return {"role": "assistant", "content": TEXT, **thoughts}

    def usage(self) -> dict[str, Any]:
        return dict(USAGE)

    def chunk(self, delta: Fields, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **fields}
        return self.frame("chat.completion.chunk") | {"choices": [choice]}

    def usage_chunk(self) -> dict[str, Any]:
        return self.frame("chat.completion.chunk") | {"choices": [], "usage": self.usage()}


# ── Questions about a request ─────────────────────────────────────────────────────────────────


def encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def wants_usage(fields: Fields) -> bool:
    return bool((fields.get("stream_options") or {}).get("include_usage"))


def roles_of(fields: Fields) -> list[str]:
    return [message["role"] for message in fields["messages"]]


def parts_of(fields: Fields) -> Iterator[Fields]:
    """The content parts of all messages; a text is one part."""
    for message in fields["messages"]:
        content = message.get("content")
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        yield from content if isinstance(content, list) else ()


def has_part(fields: Fields, kind: str) -> bool:
    return any(part["type"] == kind for part in parts_of(fields))


def count_tokens(fields: Fields) -> int:
    """About the number of prompt tokens."""
    return sum(len(part.get("text", "")) for part in parts_of(fields)) // CHARS_PER_TOKEN


def alternates(fields: Fields) -> bool:
    """Whether user and assistant alternate after an optional system message."""
    roles = [role for role in roles_of(fields) if role not in ("system", "developer")]
    return all(role == ("user", "assistant")[place % 2] for place, role in enumerate(roles))


def names(fields: Fields, known: frozenset[str]) -> list[str]:
    """The fields that a server does not know, in the order of the request."""
    return [name for name in fields if name not in known]
