"""The history of a request: what tells its conversation from others.

A chat or responses request carries its whole conversation, mostly without an id. Its beginning says
little: clients begin many conversations with the same words. The answers in it say more. Each
answer is noted under a key, and the next request of the conversation contains that answer.

- The key of a long answer is its text alone. A client may then change, drop or move other turns.
- The key of a short answer or of a tool call also covers the turns before it, because other
  conversations have the same short answers.
- Instructions are in no key: clients put the time or their memory into them.
- A name that the client sends for its conversation is the only key.

Sources of the clients' headers: the code of Codex, opencode, Claude Code, Qwen Code and Open WebUI;
LibreChat's documentation of custom headers.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from proxy.protocol import SESSION_FIELDS, RoutingRequest, Turn

SESSION_HEADER: Final = b"x-router-session"
# Clients that send several mean all of them: a thread of a session.
CLIENT_SESSION_HEADERS: Final = frozenset(
    {
        b"session-id",
        b"session_id",
        b"thread-id",
        b"conversation_id",
        b"x-session-id",
        b"x-session-affinity",
        b"x-conversation-id",
        b"x-claude-code-session-id",
        b"x-qwen-code-session-id",
        b"x-openwebui-chat-id",
    }
)
# The newest answers of a request that are looked up. Not all of them are known: clients add answers
# that no tier wrote, and thanks are answered outside the conversation.
MAX_KEYS: Final = 8
_READ_TURNS: Final = 8 * MAX_KEYS  # in which they are; a tool loop has many turns
LONG_ANSWER_BYTES: Final = 100  # without white space
_EDGE_CHARS: Final = 2_048  # at either end of a turn; what is between them is not read

_LEFT_OUT: Final = b" \t\r\n\f\v\0"  # white space, and what separates the parts of a key
_INSTRUCTIONS: Final = frozenset({"system", "developer"})
_END_OF_THOUGHTS: Final = "</think>"  # which clients remove

Headers = Sequence[tuple[bytes, bytes]]


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "_Digest": ...


class History:
    """The keys of one request. A key is 16 hex digits of a one-way hash.

    Args:
        client: the hash of the API key. Conversations of different keys are different.
        previous: the id of the response that the request continues, if the body lacks its text.

    Attributes:
        name: the key of the name that the client sends; None without one.
        keys: of the answers in the request, the newest first; or the name alone.
    """

    __slots__ = ("_base", "_begun", "_turns", "keys", "name")

    def __init__(
        self,
        request: RoutingRequest,
        headers: Headers,
        client: str | None,
        *,
        previous: str | None = None,
    ) -> None:
        hints = request.hints
        named = _read_name(headers) or [hints[name] for name in hints if name in SESSION_FIELDS]
        self._base: _Digest = hashlib.blake2b((client or "").encode(), digest_size=8)
        self.name: str | None = None
        if named:
            self._base.update(b"\0named" + _join(named))
            self.name = self._base.hexdigest()
            self.keys: tuple[str, ...] = (self.name,)
            return
        # A user, or a key for the prompt cache, has many conversations, so it names none.
        self._base.update(b"\0shared" + _join(hints.values()))
        self._turns = self._base.copy()
        self._begun: tuple[str, Sequence[str]] = "", ()  # an answer that is to be continued
        keys = self._read(request.history)
        if previous is not None:
            keys.append(self.key_of_response(previous))
        self.keys = tuple(reversed(keys[-MAX_KEYS:]))

    def key_of_answer(self, text: str, calls: Sequence[str]) -> str:
        """The key of the answer that the request gets.

        Args:
            calls: the ids of its tool calls.
        """
        if self.name is not None:
            return self.name
        begun, begun_calls = self._begun
        return self._add_answer(self._turns.copy(), begun + text, [*begun_calls, *calls])

    def key_of_response(self, response_id: str) -> str:
        """The key of an answer that the client may continue by its id, without its text."""
        if self.name is not None:
            return self.name
        digest = self._base.copy()
        digest.update(b"\0response\0" + response_id.encode(errors="replace"))
        return digest.hexdigest()

    def _read(self, turns: Sequence[Turn]) -> list[str]:
        """Add the turns of the request. Returns the keys of its answers, the newest last."""
        unread = len(turns) - _READ_TURNS  # turns that are too old to be looked up
        keys: list[str] = []
        calls: list[str] = []
        answer = ""
        for number, (role, text, calls_of_turn) in enumerate(turns, start=1):
            if role == "assistant":
                answer += text
                calls += calls_of_turn
                if number == len(turns):
                    self._begun = answer, calls
                    keys.append(self._add_answer(self._turns.copy(), answer, calls))
                elif turns[number].role != "assistant":
                    key = self._add_answer(self._turns, answer, calls, has_key=number > unread)
                    keys += [key] if key else []
                    answer, calls = "", []
            elif role not in _INSTRUCTIONS:
                self._turns.update(_join((role, _edges(text))))
        return keys

    def _add_answer(
        self, turns: _Digest, text: str, calls: Sequence[str], *, has_key: bool = True
    ) -> str:
        """Add an answer to the turns. Returns its key; empty without one."""
        spoken = _essence(text.rpartition(_END_OF_THOUGHTS)[2][: 2 * _EDGE_CHARS])
        turns.update(b"\0assistant\0" + spoken + (_join(calls) if calls else b""))
        if not has_key:
            return ""
        if len(spoken) < LONG_ANSWER_BYTES:
            return turns.hexdigest()
        digest = self._base.copy()
        digest.update(b"\0answer\0" + spoken)
        return digest.hexdigest()


def _read_name(headers: Headers) -> list[str]:
    """What the headers name the conversation; empty if they do not.

    A template that the client has not filled in, such as `{{CONVERSATION_ID}}`, names none.
    """
    names = []
    for name, value in headers:
        if not value or value.startswith((b"{{", b"${")):
            continue
        if name == SESSION_HEADER:
            return [value.decode("latin-1")]
        if name in CLIENT_SESSION_HEADERS:
            names.append(f"{name.decode()}={value.decode('latin-1')}")
    return sorted(names)  # proxies reorder headers


def _edges(text: str) -> str:
    """Both ends of a long text."""
    return text if len(text) <= 2 * _EDGE_CHARS else text[:_EDGE_CHARS] + text[-_EDGE_CHARS:]


def _essence(text: str) -> bytes:
    """A text without white space, which clients trim and join differently."""
    return text.encode(errors="replace").translate(None, _LEFT_OUT)


def _join(texts: Iterable[str]) -> bytes:
    return b"".join(b"\0" + _essence(text) for text in texts)
