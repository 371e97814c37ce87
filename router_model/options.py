"""The options that a prompt lists, and the one that an answer chooses.

The work is bounded: of a prompt only the end is read, and the caller bounds the answer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from router_model.answer_value import MAX_ANSWER_CHARS, bare, folded, plain_math

Options = Mapping[str, str]  # the options' texts by letter

_PROMPT_CHARS: Final = 16_000
_MAX_LINE_CHARS: Final = 400
_OPTION_LINE = re.compile(
    r"[ \t>]{0,8}(?:[-*•] )?\*{0,2}\(?([A-Z])(?:\)|[.:](?=[\s*]|$))\*{0,2}[ \t]{0,8}([^\n]*)"
)
_INLINE_OPTION = re.compile(r"(?<![\w)(\\])\(?([A-Z])\)[ \t]")
_MAX_OPTION_CHARS: Final = 2_000


def options_of(prompt: str) -> dict[str, str]:
    """The options that a prompt lists, by letter from A: at least two; empty if it lists none.

    Of several lists, as in a prompt with examples, the last one.
    """
    text = prompt[-_PROMPT_CHARS:]
    return _consecutive(_option_lines(text)) or _inline_options(text)


def _option_lines(text: str) -> Iterator[tuple[str, int, str]]:
    start = 0
    for line in text.split("\n"):
        if match := _OPTION_LINE.match(line):
            yield match[1], start, match[2].strip()
        start += len(line) + 1


def _consecutive(found: Iterator[tuple[str, int, str]]) -> dict[str, str]:
    """The last list of A, B, … among letters with their positions and texts."""
    best: dict[str, str] = {}
    options: dict[str, str] = {}
    last = 0
    for letter, position, text in found:
        if letter == "A":
            options = {letter: text}
        elif (
            options
            and letter == chr(ord("A") + len(options))
            and position - last < _MAX_OPTION_CHARS
        ):
            options[letter] = text
            best = options
        else:
            continue
        last = position
    return best


def _inline_options(text: str) -> dict[str, str]:
    """Options within a line, as in `A) red B) blue`. Two of them need a question before."""
    end = text.rfind("A) ")
    if end < 0:
        return {}
    start = text.rfind("\n", 0, end) + 1
    line = text[start:].partition("\n")[0]
    marks = list(_INLINE_OPTION.finditer(line))
    if len(marks) < 2:
        return {}
    ends = [mark.start() for mark in marks[1:]] + [len(line)]
    texts = [line[mark.end() : end].strip(" \t,;") for mark, end in zip(marks, ends, strict=True)]
    found = zip((m[1] for m in marks), (m.start() for m in marks), texts, strict=True)
    options = _consecutive(item for item in found if item[2])
    if len(options) > 2 or (options and "?" in text[max(0, start - 200) : end]):
        return options
    return {}


_LETTER = re.compile(
    r"(?:the )?(?:option |choice |answer )?\(?([A-Z])\)?"
    r"(?:$|[).:*–—-]+(?:\s|$)| \(|,? (?:because|since|as|which|due)\b)"
)
_SEVERAL = re.compile(r"[A-Z]\)?[*:.]{0,2}(?:,| ?/| ?&| and| or)[ *]{0,3}\(?[A-Z]\b(?!['’])")
_CHOICE = re.compile(
    r"\b(?:answer|option|choice)[*_]{0,3} ?(?:(?:is|would be|should be)\b:?|:)[*_]{0,3}\s{0,4}"
    r"|\bI(?:['’]d| would)? (?:choose|pick|select|go with) "
)
_IS_CORRECT = re.compile(
    r"(?<![\w(])(?:[Oo]ption |[Cc]hoice |[Aa]nswer )?\*{0,2}\(?([A-Z])\)?\*{0,2} is (?:the )?"
    r"(?:most )?(?:correct|right|best|accurate)\b"
)
BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_MAX_CHOICES: Final = 20  # statements of a choice that are read, from the last


def chosen_option(text: str, declared: Iterable[str], options: Options) -> str | None:
    """The letter of the option that the end of a text chooses; None if it chooses none.

    Args:
        declared: what the text declares as its answer. It comes before other statements.
    """
    texts = {letter: folded(option[:MAX_ANSWER_CHARS]) for letter, option in options.items()}
    for answer in declared:
        if letter := _letter(answer, texts):
            return letter
    stated = [*_CHOICE.finditer(text), *_IS_CORRECT.finditer(text)]
    for match in sorted(stated, key=re.Match[str].end, reverse=True)[:_MAX_CHOICES]:
        is_choice = match.re is _CHOICE
        rest = text[match.end() : match.end() + _MAX_LINE_CHARS] if is_choice else match[1]
        if letter := _letter(rest, texts):
            return letter
    # A text that goes through the options has several of these, and chooses none by them.
    bold = {
        letter for part in BOLD.findall(text)[-_MAX_CHOICES:] if (letter := _letter(part, texts))
    }
    if len(bold) == 1:
        return bold.pop()
    lines = [line[:_MAX_LINE_CHARS] for line in text.split("\n") if line.strip()]
    starts = {found[1] for line in lines if (found := _LETTER.match(line.lstrip(" \t*>-")))}
    for line in (lines[-1], lines[0]) if lines and not bold else ():
        if letter := _letter(line, texts):
            return letter if starts.intersection(texts) <= {letter} else None
    return None


def _letter(text: str, texts: Options) -> str | None:
    """The option that the first line of a text names by its letter, or repeats."""
    text = bare(text.partition("\n")[0])
    text = bare(plain_math(text)) if "\\" in text else text
    match = _LETTER.match(text)
    if match and match[1] in texts and not _SEVERAL.match(text, match.start(1)):
        return match[1]
    whole = folded(text)
    same = [letter for letter, option in texts.items() if option == whole]
    if len(same) == 1 and whole:
        return same[0]
    # "B Paris", with the option's text but no delimiter; "(b)" and "b" in lower case.
    letter, _, rest = text.partition(" ")
    if rest and letter in texts and folded(rest) == texts[letter]:
        return letter
    name = text.strip("()").upper()
    return name if name in texts and (len(text) == 1 or text[0] == "(") else None
