"""Whether a text ends in a degenerate loop.

Much that repeats is right: logs, labels, rows, replicas, a refrain. A loop goes on until something
ends it. So one is reported only if it runs until the last character, and either the answer was cut
off or the loop is very long. Markup and code repeat by nature, and count only when cut off.
"""

import re
from typing import Final, Literal, NamedTuple

_TAIL_CHARS: Final = 12_000
_PROMPT_CHARS: Final = 200_000
_PROBE_CHARS: Final = 24
_MAX_BLOCK_CHARS: Final = 1_000
_MAX_PERIODS: Final = 24  # distances that are tried
_MAX_LABEL_CHARS: Final = 120
_SENTENCE_LETTERS: Final = 20
_CODE: Final = frozenset("<>{}=;|\\")
_LINE_NUMBER = re.compile(r"\s*(?:\d{1,6}[.):]|[-*•])?\s*")

Kind = Literal["sentence", "words", "token", "code"]


class _Least(NamedTuple):
    """What a loop has at least."""

    chars: int
    repeats: int


_LEAST_CUT: Final[dict[Kind, _Least]] = {
    "sentence": _Least(800, 24),
    "words": _Least(1_500, 150),
    "token": _Least(4_000, 500),
    "code": _Least(6_000, 120),
}
# Of an answer that a model has ended itself.
_LEAST_ENDED: Final[dict[Kind, _Least | None]] = {
    "sentence": _Least(6_000, 60),
    "words": _Least(7_000, 500),
    "token": _Least(9_000, 1_000),
    "code": None,
}

_EDGE_CHARS: Final = 2_000
_ASKS_TO_REPEAT = re.compile(
    r"(?:^|[.!?:;,\n]\s*|\b(?:please|and|then|to|you|just) )(?:repeat|chant)\b(?! yourself)"
    r"|\b(?:repeat|say|write|print|type|output|copy|paste|sing|generate|give|duplicate|produce)\b"
    r"[^.\n]{0,80}\b(?:times|forever|endless(?:ly)?|infinite(?:ly)?|over and over|again and again"
    r"|non-?stop|until I|filler|same (?:line|word|sentence|phrase|text)|song|lyrics|refrain|mantra"
    r"|lorem|copies)\b"
    r"|\b(?:\d{2,}|ten|twenty|fifty|(?:a )?hundred|(?:a )?thousand) (?:\w+ ){0,2}(?:times|lines"
    r"|rows|copies|entries|items|records|samples|examples|replicas)\b",
    re.IGNORECASE,
)
# Of characters and numbers, which are also data.
_ASKS_FOR_DATA = re.compile(
    r"\b\d{2,} ?(?:x|×|by|zeros?|ones|chars?|characters?|letters?|bytes|digits|columns|spaces"
    r"|symbols|dashes|stars|emojis?|[^\w\s])|\b(?:matrix|array|zeros|zeroes|base64|hex|hexadecimal"
    r"|binary|bytes|dna|ascii|grid|bitmap|padding|scream|long string)\b",
    re.IGNORECASE,
)


def repeats_itself(text: str, prompt: str, *, is_cut: bool) -> bool:
    """Whether a text ends in a loop of one block of characters, or of one line.

    Args:
        is_cut: whether the text ends at a limit, not where the model ended it.
    """
    tail = text[-_TAIL_CHARS:]
    # Labels of many items are equal lines, as many as the prompt has items.
    items = prompt[-_PROMPT_CHARS:]
    allowed = max(items.count(sign) for sign in ("\n", ";", "|")) + 1
    kind = _loop(tail, allowed, is_cut=is_cut) or _same_lines(tail, allowed, is_cut=is_cut)
    if kind is None:
        return False
    edges = f"{prompt[:_EDGE_CHARS]}\n{prompt[-_EDGE_CHARS:]}"
    if kind == "token" and _ASKS_FOR_DATA.search(edges):
        return False
    return _ASKS_TO_REPEAT.search(edges) is None


def _loop(tail: str, allowed: int, *, is_cut: bool) -> Kind | None:
    """The kind of the block that stands at the end many times.

    The distances of the last characters from their earlier occurrences are the possible lengths.
    """
    probe, end = tail[-_PROBE_CHARS:], len(tail)
    if len(probe) < _PROBE_CHARS:
        return None
    position = end - _PROBE_CHARS
    shortest = end
    for _ in range(_MAX_PERIODS):
        # An occurrence may overlap the one after it.
        lowest = max(0, end - _PROBE_CHARS - _MAX_BLOCK_CHARS)
        position = tail.rfind(probe, lowest, position + _PROBE_CHARS - 1)
        if position < 0:
            return None
        size = end - _PROBE_CHARS - position
        if size % shortest == 0:  # several of a block that is no loop
            continue
        chars, block = _periodic_chars(tail, size), tail[-size:]
        shortest = size if chars >= 2 * size and shortest == end else shortest
        may_be_label = block.count("\n") == 1 and size <= _MAX_LABEL_CHARS
        kind = _kind(block)
        repeats = chars // size
        if _is_long(kind, chars, repeats, is_cut=is_cut) and not (
            may_be_label and repeats <= allowed
        ):
            return kind
    return None


def _periodic_chars(tail: str, period: int) -> int:
    """The length of the longest end of a text with a period.

    Each shorter end has the same period, so that the length is found by bisection.
    """
    low, high = period, len(tail)
    while low < high:
        middle = (low + high + 1) // 2
        start = len(tail) - middle
        if tail[start + period :] == tail[start : len(tail) - period]:
            low = middle
        else:
            high = middle - 1
    return low


def _kind(block: str) -> Kind:
    letters = [letter for letter in block.casefold() if letter.isalpha()]
    different = len(set(letters))
    # A letter of a script without spaces is about a syllable.
    is_syllabic = any(letter >= "\u2e80" for letter in letters)
    is_spaced = is_syllabic or any(char.isspace() for char in block)
    if is_spaced and _CODE.intersection(block):
        return "code"
    size = len(letters) * (4 if is_syllabic else 1)
    if size >= _SENTENCE_LETTERS and different >= (3 if is_syllabic else 8):
        return "sentence"
    return "words" if is_spaced and different >= 3 else "token"


def _is_long(kind: Kind, chars: int, repeats: int, *, is_cut: bool) -> bool:
    least = _LEAST_CUT[kind] if is_cut else _LEAST_ENDED[kind]
    return least is not None and chars >= least.chars and repeats >= least.repeats


def _same_lines(tail: str, allowed: int, *, is_cut: bool) -> Kind | None:
    """The kind of the last line, if those before are the same but for their numbers in a list."""
    lines = [line for line in tail.split("\n") if line.strip()]
    if not lines:
        return None
    last = _LINE_NUMBER.sub("", lines[-1], count=1)
    if is_cut and len(lines) > 1:  # the last may be part of one
        last = _LINE_NUMBER.sub("", lines.pop(), count=1)
        if (whole := _LINE_NUMBER.sub("", lines[-1], count=1)).startswith(last):
            last = whole
    count = 0
    for line in reversed(lines):
        if _LINE_NUMBER.sub("", line, count=1) != last:
            break
        count += 1
    if count <= max(1, allowed):  # of nearly all texts; the kind takes a look at each character
        return None
    kind = _kind(last)
    return kind if _is_long(kind, count * len(last), count, is_cut=is_cut) else None
