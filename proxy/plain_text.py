"""Text of clients and upstreams on one line of a log or a terminal, without control characters.

A model's name may contain line breaks, which forge log lines, escape sequences, which drive a
terminal (ECMA-48), and bidirectional controls, which reorder what is read (Unicode Standard
Annex 9). All of them are shown as escapes.
"""

import re
from typing import Final

# What JSON need not escape and a terminal may obey: DEL and C1, format characters, separators.
_MAYBE_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_SPACES: Final = re.compile(r"\s+")


def printable(text: str) -> str:
    r"""The text with every character that is not printable as an escape such as `\n` or `\x1b`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """The text on one line: white space becomes one space, other unprintable characters go."""
    text = _SPACES.sub(" ", text).strip()
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def printable_json(document: str) -> str:
    r"""An equal JSON document. Characters that are not printable become `\uXXXX` (RFC 8259, 7)."""
    if document.isprintable():
        return document
    return _MAYBE_UNPRINTABLE.sub(_escaped, document)


def spreadsheet_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula, by an apostrophe before it.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
