"""Which prompts may be trained on, and which are kept to measure with: one rule for both sides.

Training reads it when it prepares its rows; the proxy, when it calibrates a router and when it
compares two on its own traffic. So a router that was trained from a proxy's database has not seen
what it is measured on there.
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Part = Literal["train", "validation", "test"]


def part_of(group: str) -> Part:
    """70 % train, 10 % validation, 20 % test, by a hash of the group alone."""
    # A hash as a stable dice roll, not as protection.
    digest = hashlib.sha1(b"split1" + group.encode(), usedforsecurity=False).hexdigest()
    percent = int(digest[:8], 16) % 100
    if percent < 70:
        return "train"
    return "validation" if percent < 80 else "test"


def text_key(text: str) -> str:
    """16 hex digits that prompts share when they differ in case, spacing or Unicode form only.

    Punctuation counts: without it, 2+2 and 2-2 would be one question.
    """
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode(errors="replace")).hexdigest()[:16]


def group_of(session_id: str | None, text: str) -> str:
    """The group of a proxy's request: its conversation, each of whose requests holds those before.

    Without a session, all requests of this routing text.
    """
    return text_key(f"session {session_id}") if session_id else text_key(text)


def held_out(groups: Sequence[str], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which of n requests can measure a router: those of the test part that no other part repeats.

    People of different conversations ask the same; training keeps such a prompt once, and not
    necessarily in the test part.
    """
    is_test = np.array([part_of(group) == "test" for group in groups], dtype=bool)
    keys = [text_key(text) for text in texts]
    seen = {key for key, test in zip(keys, is_test, strict=True) if not test}
    is_new = np.array([key not in seen for key in keys], dtype=bool)
    both: NDArray[np.bool_] = is_test & is_new
    return both
