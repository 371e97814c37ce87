r"""Values of short answers, to compare answers that are written differently.

1,000 is 1000.0, 1/2 is 0.5 and \frac{1}{2}, [1,2] is [1, 2], and "Paris." is paris. Nothing is
evaluated: a formula that is no number is compared as text.
"""

import ast
import re
from collections.abc import Hashable
from fractions import Fraction
from typing import Final, NamedTuple

MAX_ANSWER_CHARS: Final = 1_000
DIGITS: Final = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_MAX_DEPTH: Final = 20  # of a literal
_PROSE_WORDS: Final = 6  # texts of more words can be equal in meaning and different in wording


def same_value(a: str, b: str) -> bool | None:
    """Whether two short answers have the same value; None for sentences that differ."""
    x, y = value_of(a), value_of(b)
    if isinstance(x, Quoted) != isinstance(y, Quoted):  # 'abc' is abc
        x, y = (value_of(z.text) if isinstance(z, Quoted) else z for z in (x, y))
    if isinstance(x, Quantity) and isinstance(y, Quantity):
        return _is_same_quantity(x, y)
    if x == y:
        return True
    is_prose = any(isinstance(z, str) and len(z.split()) >= _PROSE_WORDS for z in (x, y))
    return None if is_prose else False


class Quantity(NamedTuple):
    """A number with its decimal places, and its unit if that is a known one."""

    value: Fraction
    decimals: int = 0
    unit: str = ""


class Quoted(NamedTuple):
    """A string in quotes: its case and white space count."""

    text: str


def value_of(text: str) -> Hashable:
    """The value that a final answer is compared by: a quantity, a literal or a folded string."""
    text = bare(text)
    if (value := literal(text)) is not None:
        return value
    text = bare(plain_math(text))
    if (value := quantity(text) or literal(text)) is not None:
        return value
    result = text.rpartition("=")[2]  # of "x = 5"
    if "," not in text and (value := quantity(bare(result))):
        return value
    return folded(text)


def bare(text: str) -> str:
    """A text without white space, markup, delimiters of LaTeX and a period around it."""
    text = text.strip().strip("*`").strip()
    text = text.removesuffix(".") if not text.endswith("..") else text
    text = text.strip("*` \t")
    for start, end in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(start) and text.endswith(end) and len(text) > len(start + end):
            text = text[len(start) : -len(end)].strip()
    return text


_WRAPPER = re.compile(r"\\(?:text|mathrm|mathbf|mathit|textbf|operatorname|mbox) ?\{([^{}]*)\}")
_SPACING = re.compile(r"\\(?:left|right|displaystyle|quad|qquad)\b|\\[,;:! ]|~")
_FRACTION = re.compile(r"(\d ?)?\\[dt]?frac ?(?:\{([^{}]*)\} ?\{([^{}]*)\}|(\d)(\d))")
_SIGNS: Final = (
    ("−", "-"), ("\\$", "$"), ("\\%", "%"), ("\\{", "{"), ("\\}", "}"), ("{,}", ","),
    ("\\cdot", "*"), ("\\times", "*"), ("×", "*"), ("\\pi", "pi"), ("π", "pi"), ("\\infty", "∞"),
    ("^\\circ", "°"), ("^{\\circ}", "°"), ("\\sqrt", "sqrt"), ("√", "sqrt"),
)  # fmt: skip
_POWER_OF_TEN = re.compile(r"(?<=\d) ?[*x] ?10\^\{?([-+]?\d{1,3})\}?")


def plain_math(text: str) -> str:
    """A formula of LaTeX in plain characters, as far as numbers and roots need it."""
    text = _SPACING.sub("", _WRAPPER.sub(r" \1", text[:MAX_ANSWER_CHARS]))
    for sign, plain in _SIGNS:
        text = text.replace(sign, plain)
    text = _POWER_OF_TEN.sub(r"e\1", _FRACTION.sub(_plain_fraction, text))
    return " ".join(text.split())


def _plain_fraction(match: re.Match[str]) -> str:
    whole, over, under = match[1] or "", match[2] or match[4] or "", match[3] or match[5] or ""
    if re.fullmatch(r"-?[\w.]+", over) and re.fullmatch(r"[\w.]+", under):
        return f"{whole.strip()} {over}/{under}" if whole else f"{over}/{under}"
    return f"{whole}({over})/({under})"


_QUANTITY = re.compile(
    r"(?:approximately |about |around |roughly |≈ ?)?(?P<sign>[-+])? ?(?P<currency>[$€£¥]?) ?"
    rf"(?:(?P<whole>\d{{1,9}}) (?=\d+/))?(?P<number>{DIGITS})(?P<power>e[-+]?\d{{1,3}})?"
    r"(?: ?/ ?(?P<under>\d{1,30}))?(?P<scale> (?:thousand|million|billion|trillion))?"
    r"(?P<unit> ?[%°]| ?[a-z]{1,3}|(?: [a-z]+){1,4})?",
    re.IGNORECASE,
)
_WORDS: Final = {
    word: index
    for index, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()
    )
}
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
# Units that make the same number another answer. Others are names of what is counted.
_UNITS: Final = {
    alias: names.split()[0]
    for names in (
        "$ dollar dollars usd", "€ euro euros eur", "£ pound-sterling gbp", "¥ yen jpy",
        "cent cents", "% percent", "° degree degrees", "s sec second seconds",
        "min mins minute minutes", "h hr hrs hour hours", "day days", "week weeks",
        "month months", "year years", "mm millimeters", "cm centimeters centimetres",
        "m meter meters metre metres", "km kilometer kilometers kilometres", "in inch inches",
        "ft foot feet", "yd yard yards", "mi mile miles", "mg milligrams", "g gram grams",
        "kg kilogram kilograms", "lb lbs pound pounds", "oz ounce ounces", "am a.m.", "pm p.m.",
        "bc bce", "ad ce",
    )
    for alias in names.split()
}  # fmt: skip
_NO_UNITS: Final = frozenset("pi sqrt or and to plus minus times over x y n i e".split())


def quantity(text: str) -> Quantity | None:
    """A number with an optional unit; None if the text is anything else."""
    if text.casefold() in _WORDS:
        return Quantity(Fraction(_WORDS[text.casefold()]))
    match = _QUANTITY.fullmatch(text) if len(text) <= 80 else None
    if match is None:
        return None
    unit = (match["unit"] or "").casefold()
    words = unit.split()
    if unit and (_NO_UNITS.intersection(words) or (len(words[0]) == 1 and words[0] not in _UNITS)):
        return None  # 5x is no quantity
    if unit[:1] not in (" ", "%", "°", "") and unit not in _UNITS:
        return None
    number = match["number"].replace(",", "")
    if number[0] == "0" and number[1:2].isdigit():
        return None  # 007 is a code
    under = int(match["under"] or 1)
    if not under:
        return None
    value = Fraction(number + (match["power"] or "")) / under
    value += int(match["whole"] or 0)
    value *= _SCALES.get((match["scale"] or "").strip().casefold(), 1)
    known = _UNITS.get(match["currency"] or next((w for w in words if w in _UNITS), ""), "")
    decimals = 0 if match["power"] or match["under"] else len(number.partition(".")[2])
    return Quantity(-value if match["sign"] == "-" else value, decimals, known)


def _is_same_quantity(a: Quantity, b: Quantity) -> bool:
    """Whether two quantities are equal, or one is the other rounded to two decimals or more.

    A unit may be left out: 50% is 50, and 0.5.
    """
    if a.unit and b.unit and a.unit != b.unit:
        return False
    pairs = [(a.value, b.value)]
    if (a.unit == "%") != (b.unit == "%"):
        pairs.append((a.value / 100, b.value) if a.unit == "%" else (a.value, b.value / 100))
    return any(
        x == y
        or (a.decimals >= 2 and round(y, a.decimals) == x)
        or (b.decimals >= 2 and round(x, b.decimals) == y)
        for x, y in pairs
    )


# Tokens of literals. All else, and thereby what the parser would warn of, is not parsed.
_LITERAL = re.compile(
    r"""(?:[\s\[\](){},:]|[-+]?(?:\d{1,100}(?:\.\d{0,100})?|\.\d{1,100})(?:e[-+]?\d{1,3})?(?![\w.])
    |'(?:[^'\\\n]|\\[\\'"nrt])*+'|"(?:[^"\\\n]|\\[\\'"nrt])*+"|\b(?:True|False|None)\b)*+""",
    re.VERBOSE,
)


def literal(text: str) -> Hashable | None:
    """The value of a collection or string in Python's syntax; None if it is neither."""
    if text[:1] not in tuple("[({'\"") or len(text) > MAX_ANSWER_CHARS:
        return None
    try:
        if _LITERAL.fullmatch(text):
            return _canonical(ast.literal_eval(text), _MAX_DEPTH)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    return None


def is_literal(text: str) -> bool:
    """Whether a text is a collection or string in Python's syntax."""
    return literal(text) is not None


def _canonical(value: object, depth: int) -> Hashable:
    """A literal's value such that 1 and 1.0 are equal, and 1 and True are not.

    Raises:
        ValueError: it is nested too deeply.
    """
    if not depth:
        raise ValueError
    match value:
        case bool() | None:
            return str(value)
        case int() | float():
            return Quantity(Fraction(value))
        case list() | tuple():
            return type(value).__name__, *(_canonical(item, depth - 1) for item in value)
        case set():
            return "set", frozenset(_canonical(item, depth - 1) for item in value)
        case dict():
            pairs = ((_canonical(k, depth - 1), _canonical(v, depth - 1)) for k, v in value.items())
            return "dict", frozenset(pairs)
    return Quoted(str(value))


_QUOTES: Final = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'"})
_FORMULA_WORDS = re.compile(r"sqrt|log|sin|cos|tan|exp")


def folded(text: str) -> str:
    """A string without case, quotes and differences of white space; a formula without spaces."""
    text = text.translate(_QUOTES).casefold()
    text = " ".join(text.strip("\"' \t\n").removesuffix(".").split())
    rest = _FORMULA_WORDS.sub("", text)
    if re.search(r"[\d=^]", rest) and not re.search(r"[^\W\d_]{3}", rest):
        text = re.sub(r"[\s*\\]", "", text).replace("{", "(").replace("}", ")")
        text = re.sub(r"sqrt(\d+|[a-z])", r"sqrt(\1)", text)
    return text
