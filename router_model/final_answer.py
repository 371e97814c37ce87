"""The final answer of a model's text, to compare the answers of two models.

A final answer is what a text states as its result. It is, in this order: the letter of an option,
a boxed expression, the answer field of a JSON object, what follows a marker ("answer:", "####"),
or a concluding number. Open prose has none, and is not compared.

The work is bounded: only the end of a text is read, and no code is evaluated.
"""

import json
import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from router_model.answer_value import (
    DIGITS,
    MAX_ANSWER_CHARS,
    bare,
    is_literal,
    plain_math,
    quantity,
    same_value,
)
from router_model.options import BOLD, Options, chosen_option

Kind = Literal["option", "boxed", "field", "marked", "number"]

_TAIL_CHARS: Final = 8_000
_PROMPT_CHARS: Final = 4_000
_MAX_LINE_CHARS: Final = 400
_MAX_BLOCKS: Final = 64  # of thinking
_MAX_OBJECTS: Final = 16  # places where a JSON object may start


class FinalAnswer(NamedTuple):
    """A final answer as it was written; of an option its letter."""

    kind: Kind
    text: str


def final_answer(
    text: str, *, options: Options | None = None, numeric: bool = False
) -> FinalAnswer | None:
    """The final answer of a text; None if it has none.

    Args:
        options: the options that the prompt lists (`options_of`).
        numeric: whether the prompt asks for a number (`asks_for_number`). Only then does a number
            in a closing sentence count.
    """
    tail = without_thinking(text).rstrip()[-_TAIL_CHARS:]
    declared = [
        FinalAnswer(kind, found.strip())
        for kind, find in _DECLARED
        if (found := find(tail)) and len(found) <= MAX_ANSWER_CHARS
    ]
    if options:
        letter = chosen_option(tail, [answer.text for answer in declared], options)
        if letter:
            return FinalAnswer("option", letter)
    if declared:
        return declared[0]
    number = _concluding_number(tail) if numeric else _only_number(tail)
    return FinalAnswer("number", number) if number else None


def agree(a: FinalAnswer | None, b: FinalAnswer | None) -> bool | None:
    """Whether two final answers have the same value; None if they cannot be compared.

    Not comparable: a missing one, an option with something else, and different sentences.
    """
    if a is None or b is None or (a.kind == "option") != (b.kind == "option"):
        return None
    if a.kind == "option":
        return a.text == b.text
    return same_value(a.text, b.text)


_NUMBER_NOUN: Final = (
    r"(?:number|count|amount|sum|total|value|product|quotient|difference|remainder|average|mean"
    r"|median|mode|probability|percent(?:age)?|fraction|ratio|area|volume|perimeter|circumference"
    r"|radius|diameter|length|width|height|depth|distance|speed|velocity|acceleration|force|mass"
    r"|weight|age|year|price|cost|profit|loss|salary|rate|degree|angle|measure|coefficient"
    r"|determinant|derivative|integral|limit|root|solution|population|temperature|time)s?\b"
)
_ASKS_FOR_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|tall|old|high|fast|deep|heavy|wide|large|big)\b"
    r"|\b(?:what|which) (?:year|percent|percentage|fraction|number|amount)\b"
    rf"|\b(?:what|calculate|compute|find|determine|evaluate|give)\b[^\n.?!]{{0,60}}\b{_NUMBER_NOUN}"
    r"|\b(?:what(?:['’]s| is)|calculate|compute|evaluate|solve|simplify)\b[^\n\w]{0,4}[-(\\\d]"
    r"|\d ?[-+*/×÷^] ?\d[\d .+*/×÷^()-]{0,60}=? ?\?",
    re.IGNORECASE,
)
_ASKS_FOR_TEXT = re.compile(
    r"\b(?:essay|poem|haiku|sonnet|blog|lyrics)\b"
    r"|\b(?:write|draft|compose|create|generate|implement|summari[sz]e|translate|rewrite)\b"
    r"[^\n.]{0,60}\b(?:article|story|letter|e-?mail|paragraph|speech|function|program|script|code"
    r"|class|query|sql|text|report|post|summary|method|page|test)s?\b"
    r"|\b(?:summari[sz]e|translate|rewrite|proofread)\b",
    re.IGNORECASE,
)


def asks_for_number(prompt: str) -> bool:
    """Whether a prompt asks for one number, not for a text that may have numbers."""
    half = _PROMPT_CHARS // 2
    text = prompt if len(prompt) <= 2 * half else f"{prompt[:half]}\n{prompt[-half:]}"
    return bool(_ASKS_FOR_NUMBER.search(text)) and not _ASKS_FOR_TEXT.search(text)


_OPENING: Final = "<think>"
_CLOSING: Final = "</think>"
# After a tag that a sentence is about: "<think> opens the block", "the tag `</think>`".
_IN_SENTENCE = re.compile(r"""[`'"”’).,:;]|[ \t]+[a-z(=&–—→-]""")


def without_thinking(text: str) -> str:
    """A text without its `<think>` blocks. A block at the start may lack one of its tags.

    A tag in quotes, or one that starts a sentence about it, is text.
    """
    end = text.find(_CLOSING)
    if end < 0:
        start = len(text) - len(text.lstrip())
        is_open = text.startswith(_OPENING, start)
        return "" if is_open and not _IN_SENTENCE.match(text, start + len(_OPENING)) else text
    if _OPENING not in text[:end] and not _is_quoted(text, end, _CLOSING):
        text = text[end + len(_CLOSING) :]
    parts, start, position = [], 0, 0
    for _ in range(_MAX_BLOCKS):
        begin = text.find(_OPENING, position)
        end = text.find(_CLOSING, begin) if begin >= 0 else -1
        if end < 0:
            break
        position = end + len(_CLOSING)
        if not _is_quoted(text, begin, _OPENING):
            parts.append(text[start:begin])
            start = position
    return "".join([*parts, text[start:]])


def _is_quoted(text: str, position: int, tag: str) -> bool:
    before = text[position - 1 : position] if position else ""
    after = text[position + len(tag) : position + len(tag) + 1]
    return bool(before and before in "`'\"") and after in ("`", "'", '"')


# ── What a text declares ──────────────────────────────────────────────────────────────────────


_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def _boxed(tail: str) -> str | None:
    """The content of the last `\\boxed{…}`."""
    start = tail.rfind("\\boxed{")
    depth = 0
    for brace in _BRACE.finditer(tail, start + len("\\boxed")) if start >= 0 else ():
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0 and brace[0] == "}":
            return tail[start + len("\\boxed{") : brace.start()]
    return None


_FIELDS: Final = ("final_answer", "finalAnswer", "final answer", "answer", "Answer", "result")
_JSON: Final = json.JSONDecoder()
_OBJECT_START = re.compile(r'\{\s*+"')
# Of an object that is no JSON, mostly for a backslash of LaTeX.
_LOOSE_FIELD = re.compile(
    r'"(?:final_?answer|answer)"\s*+:\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,"}][^,"}\n]{0,200}))\s*+\}',
    re.IGNORECASE,
)


def _field(tail: str) -> str | None:
    """The answer field of the last JSON object, if the object is not part of a larger one."""
    found, end = None, 0
    for start in [match.start() for match in _OBJECT_START.finditer(tail)][-_MAX_OBJECTS:]:
        if start >= end:
            try:
                found, end = _JSON.raw_decode(tail, start)
            except (ValueError, RecursionError):
                continue
    text = None
    if isinstance(found, dict):
        text = next((_as_text(found[name]) for name in _FIELDS if name in found), None)
    else:
        for match in _LOOSE_FIELD.finditer(tail):
            text, end = match[1] if match[1] is not None else match[2], match.end()
    return None if tail[end : end + 20].lstrip()[:1] in (",", "]", "}") else text


def _as_text(value: object) -> str | None:
    """A field's value as a text, a collection in Python's syntax."""
    try:
        return value if isinstance(value, str) else None if value is None else repr(value)
    except RecursionError:
        return None


_MARKER = re.compile(
    r"\b(?P<final>final )?answer[*_]{0,3} ?(?:(?:is|would be|should be)\b:?|:)[*_]{0,3}[ \t]*+"
    r"|(?m:^)#### *+(?=[-$\d])",
    re.IGNORECASE,
)
_ASSERTION = re.compile(r"(?:assert |>>> ?)?([\w.]+\([^\n]*\)) ?== ?([^\n]+)")
_REASON = re.compile(r",? \b(?:because|since|as|which|so|where)\b|[.;!] ")
_MAX_MARKERS: Final = 3  # a text with more answers has no final one
_MAX_MARKED_CHARS: Final = 200


def _marked(tail: str) -> str | None:
    """What follows the last "answer:", "the answer is" or `####`, or the `==` of an assertion."""
    if text := _asserted(tail):
        return text
    markers = list(_MARKER.finditer(tail))
    finals = [marker for marker in markers if marker["final"]]
    if not markers or (len(markers) > _MAX_MARKERS and len(finals) != 1):
        return None
    rest = tail[(finals or markers)[-1].end() :].lstrip("\n \t*").partition("\n")[0]
    text = bare(rest[:_MAX_LINE_CHARS])
    if not is_literal(text) and (reason := _REASON.search(text)):
        text = bare(text[: reason.start()])
    return text if 0 < len(text) <= _MAX_MARKED_CHARS else None


def _asserted(tail: str) -> str | None:
    """The literal in a text that ends with an assertion, if it asserts nothing else."""
    lines = [line.strip("` \t") for line in tail.split("\n")]
    found = [match for line in lines if (match := _ASSERTION.match(line))]
    last = [line for line in lines if line and not line.startswith("[/")][-1:]
    if not found or [found[-1][0]] != last or len({match[1] for match in found}) > 1:
        return None
    text = bare(found[-1][2])
    is_value = is_literal(text) or quantity(text) or text in ("True", "False", "None")
    return text if is_value else None


_DECLARED: Final[tuple[tuple[Kind, Callable[[str], str | None]], ...]] = (
    ("boxed", _boxed),
    ("field", _field),
    ("marked", _marked),
)


# ── Numbers in a text ─────────────────────────────────────────────────────────────────────────

_NUMBER = re.compile(
    rf"(?<![\w.,:/^-])[-−]?[$€£¥]? ?(?:{DIGITS})(?:e[-+]?\d{{1,3}})?(?:/\d+)?%?(?![.,:]?\w|/|-\d)",
    re.IGNORECASE,
)
_ENUMERATION = re.compile(r"[ \t]{0,8}(?:\d{1,3}[.)]|[-•]|\*(?!\*))[ \t]{1,8}(?=\S)")


def _concluding_number(tail: str) -> str | None:
    """The last number of a closing sentence; a bold one or a result after "=" comes first."""
    lines = [line for line in tail[-2_000:].split("\n") if line.strip()][-3:]
    for line in reversed(lines):
        start = mark.end() if (mark := _ENUMERATION.match(line)) else 0
        line = line[start:][-_MAX_LINE_CHARS:]
        sentence = re.split(r"(?<=[.!?])\s+(?=\S*[A-Z])", line)[-1]
        sides = re.split(r"[=≈]", sentence)
        for part in (*reversed(BOLD.findall(line)), *sides[:0:-1], sentence, line):
            part = plain_math(part)
            if quantity(bare(part)):
                return bare(part)
            if numbers := _NUMBER.findall(part):
                return str(numbers[-1]).strip()
    return None


def _only_number(tail: str) -> str | None:
    """The number that is a text, or that its last line calculates: `2 + 2 = 4`."""
    lines = [line for line in tail.split("\n") if line.strip()]
    line = bare(lines[-1][:_MAX_LINE_CHARS]) if lines else ""
    if len(lines) == 1 and quantity(plain_math(line)):
        return line
    left, equals, right = line.rpartition("=")
    is_sum = equals and re.search(r"\d.*[-+*/×÷^]", left) and quantity(plain_math(bare(right)))
    return bare(right) if is_sum else None
