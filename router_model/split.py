"""Splits prompts into training, validation and test parts: one rule for training and serving.

Training uses it to prepare rows. The proxy uses it to calibrate a router and to compare two routers
on its traffic. A router trained from a proxy's database has therefore not seen the prompts that
measure it there.
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
    # The hash is a stable pseudo-random draw, not a protection.
    digest = hashlib.sha1(b"split1" + group.encode(), usedforsecurity=False).hexdigest()
    percent = int(digest[:8], 16) % 100
    if percent < 70:
        return "train"
    return "validation" if percent < 80 else "test"


def fold_of(group: str, folds: int) -> int:
    """The fold of a group for cross-fitting: 0 is the test part, 1 to folds - 1 are the rest."""
    if part_of(group) == "test":
        return 0
    digest = hashlib.sha1(b"fold1" + group.encode(), usedforsecurity=False).hexdigest()
    return 1 + int(digest[:8], 16) % (folds - 1)


def text_key(text: str) -> str:
    """16 hex digits, equal for prompts that differ only in case, spacing or Unicode form.

    Punctuation counts: otherwise 2+2 and 2-2 would be the same prompt.
    """
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode(errors="replace")).hexdigest()[:16]


def group_of(session_id: str | None, text: str) -> str:
    """The group of a request: its conversation, because later requests contain earlier ones.

    Without a session the group is all requests with this routing text.
    """
    return text_key(f"session {session_id}") if session_id else text_key(text)


def in_one_fold(folds: NDArray[np.int64], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which of n requests have a text that is in no other fold."""
    of_text: dict[str, set[int]] = {}
    keys = [text_key(text) for text in texts]
    for key, fold in zip(keys, folds.tolist(), strict=True):
        of_text.setdefault(key, set()).add(fold)
    return np.array([len(of_text[key]) == 1 for key in keys], dtype=bool)


def held_out(groups: Sequence[str], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Which of n requests are held out: those of the test part whose text is in no other part.

    Different conversations can have the same prompt. Training keeps such a prompt once, not
    necessarily in the test part.
    """
    is_test = np.array([part_of(group) == "test" for group in groups], dtype=bool)
    both: NDArray[np.bool_] = is_test & in_one_fold(is_test.astype(np.int64), texts)
    return both
