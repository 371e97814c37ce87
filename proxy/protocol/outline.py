"""The outline of a JSON object that is too large to decode, or whose middle is unknown.

An answer may echo megabytes of the client's instructions. Its id, model, service tier and usage are
near its two ends. The outline is a small object with these fields, so that it is viewed like any
answer. The nesting depth, counted from each end, shows whether a field belongs to the answer itself
or to the client's metadata or schemas, which may have a field of the same name.
"""

import re
from itertools import islice
from typing import Final

HEAD_BYTES: Final = 2**14
TAIL_BYTES: Final = 2**16
MAX_SKIMMED_BYTES: Final = 2**23  # skipping values costs up to 7 ns a byte

_MAX_TOKENS: Final = 2**12  # that are read from each end
_NAMES: Final = frozenset(
    {b"type", b"id", b"status", b"error", b"usage", b"service_tier", b"model", b"response"}
)
_INNER: Final = b"response"  # of an event
# A string with the colon of a name, or a bracket. A quote alone begins a string that is cut off.
_TOKEN: Final = re.compile(
    rb'"(?P<text>[^"\\]*+(?:\\.[^"\\]*+)*+)"(?P<colon>\s*:)?|[{}\[\]]|(?P<cut>")', re.DOTALL
)
# The same for reversed text. A quote within a string has a backslash before it, the first has none.
_REVERSED: Final = re.compile(
    rb'(?P<colon>:\s*)?"(?P<text>[^"]*+(?:"\\[^"]*+)*+)"(?=[^\\])|[{}\[\]]|(?P<cut>")', re.DOTALL
)

_Fields = dict[bytes, bytes]


def skim(data: bytes) -> bytes:
    """An object whose values may be skipped by a decoder: itself, or its outline if it is large."""
    if len(data) <= MAX_SKIMMED_BYTES:
        return data
    return outline(data[:HEAD_BYTES], data[-TAIL_BYTES:])


def outline(head: bytes, tail: bytes = b"") -> bytes:
    """The outline of an object with the first bytes `head` and the last bytes `tail`.

    It has the fields of the object itself, and of a response in it. Takes a bounded time.
    """
    first = _read_head(head[:HEAD_BYTES])
    if first is None:
        return b"{}"
    fields, inner, open_name = first
    last = _read_tail(tail[-TAIL_BYTES:])
    if last is not None:
        fields |= last[0]
        if open_name == _INNER:
            inner |= last[1]
    if inner and _INNER not in fields:
        fields[_INNER] = _encode(inner)
    return _encode(fields)


def _encode(fields: _Fields) -> bytes:
    return b"{%b}" % b",".join(b'"%b":%b' % field for field in fields.items())


def _read_head(head: bytes) -> tuple[_Fields, _Fields, bytes | None] | None:
    """The fields that end within the head: of the object, and of the object in its open field.

    The third is the name of this field. None when the head does not begin an object.
    """
    head = head.lstrip()
    if not head.startswith(b"{"):
        return None
    levels: list[_Fields] = [{}, {}]
    pending: list[tuple[bytes, int] | None] = [None, None]  # names, and the starts of their values
    depth, is_object = 0, False
    for token in islice(_TOKEN.finditer(head), _MAX_TOKENS):
        kind = token[0][:1]
        if token["cut"]:
            break
        if kind in b"{[":
            depth += 1
            if depth == 2:
                is_object, levels[1], pending[1] = kind == b"{", {}, None
        elif kind in b"}]":
            if depth <= 2:
                _add(levels[depth - 1], pending[depth - 1], head, token.start())
                pending[depth - 1] = None
            depth -= 1
            if depth == 1:
                levels[1] = {}  # it is part of the value of its field
            if not depth:
                break
        elif token["colon"] and (depth == 1 or (depth == 2 and is_object)):
            _add(levels[depth - 1], pending[depth - 1], head, token.start())
            pending[depth - 1] = token["text"], token.end()
    open_field = pending[0] if depth >= 2 else None
    return levels[0], levels[1], open_field[0] if open_field is not None else None


def _add(fields: _Fields, field: tuple[bytes, int] | None, text: bytes, end: int) -> None:
    """Add a field whose value ends before `end`, if it is one of those that are read."""
    if field is not None and field[0] in _NAMES:
        value = text[field[1] : end].strip(b" \t\r\n,")
        if value:
            fields[field[0]] = value


def _read_tail(tail: bytes) -> tuple[_Fields, _Fields] | None:
    """The fields that begin within the tail: of the object, and of the object that is cut off.

    None when the tail does not end an object.
    """
    text = tail.rstrip()[::-1]
    if not text.startswith(b"}"):
        return None
    levels: list[_Fields] = [{}, {}]
    ends = [0, 0]  # of the next value to the left, in the reversed text
    depth = 0
    for token in islice(_REVERSED.finditer(text), _MAX_TOKENS):
        kind = token[0][:1]
        if token["cut"]:
            break
        if kind in b"}]":
            depth += 1
            if depth <= 2:
                levels[depth - 1], ends[depth - 1] = {}, token.end()
        elif kind in b"{[":
            depth -= 1
            if depth == 1:
                levels[1] = {}
            if not depth:
                break
        elif token["colon"] and depth <= 2:
            name = token["text"][::-1]
            if name in _NAMES:
                value = text[ends[depth - 1] : token.start()][::-1].strip(b" \t\r\n,")
                levels[depth - 1].setdefault(name, value or b"null")  # the last one counts
            ends[depth - 1] = token.end()
    return levels[0], levels[1]
