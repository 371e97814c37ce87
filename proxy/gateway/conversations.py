"""Conversations: which requests belong to one, and where the last of them was answered.

Every request of the chat and responses APIs carries its whole conversation, and none says which it
is. So a conversation is recognised by what the client says of it, and by its opening: whatever was
said up to the first user message stays the same in all of its requests.

Several processes that answer the same clients, workers of one server or servers on one database,
know of each other's answers by the rows.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from proxy.record import Target
from proxy.storage.database import StoreUnavailable

SESSION_HEADER: Final = b"x-router-session"
TTL_SECONDS: Final = 3600.0
MAX_SESSIONS: Final = 10_000
ROWS_SECONDS: Final = 1.0  # by which an answer's row is there
PATIENCE_SECONDS: Final = 1.0  # the longest that a request waits for what the rows say
_MAX_OPENING_CHARS: Final = 2_000

Turns = Sequence[tuple[str, str]]
Headers = Sequence[tuple[bytes, bytes]]


def session_of(turns: Turns, hints: Mapping[str, str], headers: Headers, client: str | None) -> str:
    """A short name of the conversation that a request belongs to, the same for each of its turns.

    Args:
        turns: of the request, as (role, text).
        hints: what the client says of the conversation, by name.
        client: whose request it is, by the hash of the key: sessions of two never meet.
    """
    digest = hashlib.blake2b((client or "").encode(), digest_size=8)
    named = next((value for name, value in headers if name == SESSION_HEADER), None)
    if named is not None:
        digest.update(b"\0named\0" + named)
    else:
        for name, hint in hints.items():
            digest.update(f"\0{name}\0{hint}".encode(errors="replace"))
        for role, text in turns:
            digest.update(f"\0{role}\0{text[:_MAX_OPENING_CHARS]}".encode(errors="replace"))
            if role == "user":
                break
    return digest.hexdigest()


def is_continued(turns: Turns, headers: Headers) -> bool:
    """Whether a request is not the first of its conversation, as far as it shows.

    The Responses API has a call of a tool for an answer, which is no turn; its result is one.
    """
    return any(role in ("assistant", "tool", "function") for role, _ in turns) or any(
        name == SESSION_HEADER for name, _ in headers
    )


class Conversations:
    """Where each conversation of the last hour was answered last. Bounded; the oldest go first.

    Args:
        look_up: where the rows say so: the tier of a session's last answer since then (UNIX
            seconds). Blocks. Left out where no other process answers the same clients.
    """

    def __init__(
        self,
        *,
        look_up: Callable[[str, float], Target | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._look_up = look_up
        self._known: OrderedDict[str, tuple[Target, float]] = OrderedDict()

    async def find(self, session: str) -> Target | None:
        """The tier of its last answer; None when there was none, or long ago."""
        now = self._clock()
        target, noted_at = self._known.get(session, (None, 0.0))
        # What another process has answered is in the rows a moment later, as is our own.
        if self._look_up is not None and now - noted_at > ROWS_SECONDS:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    found = await asyncio.to_thread(self._look_up, session, now - TTL_SECONDS)
                if found is not None:
                    return found
        return target if now - noted_at <= TTL_SECONDS else None

    def note(self, session: str, target: Target) -> None:
        """An answer of a conversation came from this tier."""
        self._known[session] = target, self._clock()
        self._known.move_to_end(session)
        if len(self._known) > MAX_SESSIONS:
            self._known.popitem(last=False)
