"""The category of a prompt by keywords, for tables, charts and rules. The score does not use it.

Only the last user message counts. The first matching category in the order below wins. The
hand-made word lists fit most English prompts; prompts in other languages are mostly `other`.
"""

import re
from collections.abc import Sequence
from typing import Final

CATEGORIES: Final = (
    "code", "maths", "translation", "summary", "extraction", "writing", "reasoning", "question",
    "other",
)  # fmt: skip
# The task is usually at the beginning or the end; only these parts are read.
_HEAD_CHARS: Final = 120
_TAIL_CHARS: Final = 60

_WORDS: Final = {
    word.encode(): category
    for category, words in (
        (
            "code",
            "python javascript typescript java rust golang c++ c# sql bash regex html css docker "
            "dockerfile kubernetes api function script code bug debug compile compiler refactor "
            "exception stacktrace unittest pytest def import endpoint algorithm",
        ),
        (
            "maths",
            "solve equation equations integral derivative probability theorem polynomial matrix "
            "percent percentage calculate compute arithmetic modulo hypotenuse",
        ),
        ("translation", "translate translation translating"),
        ("summary", "summarize summarise summary summarizing tldr condense takeaways"),
        (
            "extraction",
            "extract classify classification label sentiment json parse categorize categorise",
        ),
        (
            "writing",
            "write draft compose rewrite rephrase paraphrase proofread poem story essay email "
            "letter blog tweet slogan headline haiku",
        ),
        (
            "reasoning",
            "prove proof derive why compare analyze analyse evaluate tradeoff tradeoffs plan "
            "design strategy argue explain",
        ),
    )
    for word in words.split()
}
_ORDER: Final = {name: place for place, name in enumerate(CATEGORIES)}
_KNOWN: Final = frozenset(_WORDS)
# Bytes are twice as fast as str here, and all characters to replace are ASCII.
_STOPS: Final = b".,:;!?()[]{}<>/'`=*_-" + b'"'
_SPACES: Final = bytes.maketrans(_STOPS, b" " * len(_STOPS))
_SIGNS: Final = frozenset("+*^=×÷∑∫√\\")
_MATHS: Final = re.compile(r"\\(?:frac|sqrt|int|sum)|[∑∫√]|[\dx] ?[+*^=×÷] ?[\dx]")
_ASKING: Final = frozenset(
    b"what who when where which how is are does do can could name list define tell".split()
)


def category_of(turns: Sequence[tuple[str, str]]) -> str:
    """The category of a conversation of (role, text) pairs, one of CATEGORIES."""
    text = ""
    for role, message in reversed(turns):
        if role == "user":
            text = message
            break
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
    if "```" in text:
        return "code"
    words = text.lower().encode(errors="replace").translate(_SPACES).split()
    matched = {_WORDS[word] for word in _KNOWN.intersection(words)}
    if "code" not in matched and any(map(text.__contains__, _SIGNS)) and _MATHS.search(text):
        return "maths"
    if matched:
        return min(matched, key=_ORDER.__getitem__)
    return "question" if "?" in text or (words and words[0] in _ASKING) else "other"
