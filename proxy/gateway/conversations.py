"""Session affinity: which requests belong to one conversation, and which tier answered last.

A chat or responses request carries its whole conversation without an id. A conversation is
identified by the client's hints and by its opening: the turns up to the first user message are the
same in all of its requests.

Processes that share a database read each other's answers from the stored rows.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from proxy.record import Target
from proxy.storage import StoreUnavailable

SESSION_HEADER: Final = b"x-router-session"
TTL_SECONDS: Final = 3600.0
MAX_SESSIONS: Final = 10_000
ROWS_SECONDS: Final = 1.0  # until an answer's row is stored
LOOKUP_SECONDS: Final = 1.0  # the longest that a request waits for the stored rows
_MAX_OPENING_CHARS: Final = 2_000

Turns = Sequence[tuple[str, str]]
Headers = Sequence[tuple[bytes, bytes]]


def session_of(turns: Turns, hints: Mapping[str, str], headers: Headers, client: str | None) -> str:
    """The id of the conversation that a request belongs to, the same for each of its turns.

    Args:
        turns: the (role, text) pairs of the request.
        hints: values that identify the conversation, by name.
        client: the hash of the API key. Sessions of different keys are different.
    """
    digest = hashlib.blake2b((client or "").encode(), digest_size=8)
    session = next((value for name, value in headers if name == SESSION_HEADER), None)
    if session is not None:
        digest.update(b"\0named\0" + session)
    else:
        for name, hint in hints.items():
            digest.update(f"\0{name}\0{hint}".encode(errors="replace"))
        for role, text in turns:
            digest.update(f"\0{role}\0{text[:_MAX_OPENING_CHARS]}".encode(errors="replace"))
            if role == "user":
                break
    return digest.hexdigest()


def is_continued(turns: Turns, headers: Headers) -> bool:
    """Whether a request is known not to be the first of its conversation.

    In the Responses API a tool call is not a turn; its result is one.
    """
    return any(role in ("assistant", "tool", "function") for role, _ in turns) or any(
        name == SESSION_HEADER for name, _ in headers
    )


class Conversations:
    """The tier of the last answer of each conversation of the last hour, bounded in number.

    Args:
        look_up: reads the tier of a session's last answer since a time (UNIX seconds) from the
            rows. Blocks. None if no other process answers the same clients.
        clock: UNIX seconds.
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
        """The tier of a session's last answer; None without a recent one."""
        now = self._clock()
        target, noted_at = self._known.get(session, (None, 0.0))
        # The answers of all processes are in the rows after ROWS_SECONDS.
        if self._look_up is not None and now - noted_at > ROWS_SECONDS:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(LOOKUP_SECONDS):
                    stored = await asyncio.to_thread(self._look_up, session, now - TTL_SECONDS)
                if stored is not None:
                    return stored
        return target if now - noted_at <= TTL_SECONDS else None

    def note(self, session: str, target: Target) -> None:
        """Remember the tier of an answer."""
        self._known[session] = target, self._clock()
        self._known.move_to_end(session)
        if len(self._known) > MAX_SESSIONS:
            self._known.popitem(last=False)
