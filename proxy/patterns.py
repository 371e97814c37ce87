"""Patterns of the configuration, matched by RE2: the time is linear in the text, for any pattern.

A backtracking engine such as `re` can need exponential time, and clients choose the text.
"""

import unicodedata
from collections.abc import Callable, Iterable
from typing import Final

Matcher = Callable[[bytes], bool]

# Scripts without spaces between words: there a word may begin and end anywhere.
_UNSPACED: Final = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}"
)
_BORDER: Final = rf"[^\pL\pN\pM_]|[{_UNSPACED}]"
_SPACE: Final = r"[\s\pZ]+"


class PatternError(ValueError):
    """An invalid pattern."""


def compile_regex(patterns: Iterable[str]) -> Matcher:
    """A test for UTF-8 text that holds where one of the patterns matches. There is at least one.

    Raises:
        PatternError: a pattern is invalid, or RE2 does not support it.
    """
    import re2  # loads C++: only configurations with patterns need it

    listed = list(patterns)
    text = "|".join(f"(?:{item})" for item in listed) if len(listed) > 1 else listed[0]
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        search = re2.compile(text, options).search
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PatternError(shown) from None
    return lambda encoded: search(encoded) is not None


def compile_words(words: Iterable[str]) -> Matcher:
    """A test for `folded` text that contains one of the words or phrases, as whole words.

    Spaces in a phrase stand for any white space. A hyphen or an apostrophe ends a word.
    """
    import re2

    def literal(word: str) -> str:
        return _SPACE.join(re2.escape(part) for part in word.split())

    edges = {True: (f"(?:^|{_BORDER})", f"(?:$|{_BORDER})"), False: ("", "")}
    groups: dict[tuple[bool, bool], list[str]] = {}
    for word in map(fold, words):
        trimmed = word.strip()
        key = (_needs_border(trimmed[:1]), _needs_border(trimmed[-1:]))
        groups.setdefault(key, []).append(literal(trimmed))
    return compile_regex(
        f"{edges[left][0]}(?:{'|'.join(items)}){edges[right][1]}"
        for (left, right), items in groups.items()
    )


def fold(text: str) -> str:
    """The text without case, and in one Unicode form."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def encode(text: str) -> bytes:
    """The text as `Matcher` reads it."""
    return text.encode(errors="replace")  # a lone surrogate becomes a question mark


def _needs_border(edge: str) -> bool:
    """Whether a word with this character at an edge must not continue there."""
    return (edge.isalnum() or edge == "_") and not _is_unspaced(edge)


def _is_unspaced(character: str) -> bool:
    import re2

    return re2.fullmatch(f"[{_UNSPACED}]", character) is not None
