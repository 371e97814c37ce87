"""A large body without the bulk of its long strings, for a short decoding.

    cut = CutBody.of(body)
    fields = decoder.decode(cut.short)
    body = cut.restore(encoder.encode(fields))

A decoder holds the interpreter's lock until it is done: 12 to 48 ms for 31 MB, in which no thread
runs. Nearly all of such a body is in few strings, such as an image in base64 or a text. Their bulk
is cut out and put back, each in steps. A random mark stays in its place, which no client can guess.
docs/decisions/021-event-loop.md has the figures.
"""

import re
import secrets
from io import BytesIO
from typing import Any, Final

import msgspec

from proxy.protocol.bounds import STEP_BYTES, steps_of

CUT_FROM_BYTES: Final = 2**20  # a smaller body is decoded in about a millisecond
_WINDOW_BYTES: Final = 64  # in which a place to cut is searched
_KEPT_BYTES: Final = 128  # of a string's beginning, which tells what an image is
_LONGEST_ESCAPE: Final = 12  # a surrogate pair: \ud83d\ude00
_ESCAPES: Final = (b"\\\\", b'\\"', b"\\n", b"\\r", b"\\t", b"\\/", b"\\b", b"\\f")
_CONTROLS: Final = bytes(range(32))
# Fields of a content part of which only the beginning is read.
_BINARY_FIELDS: Final = frozenset({"image_url", "file", "input_audio"})


class CutBody:
    """A body, the same without the bulk of its long strings, and what was cut.

    Attributes:
        short: the body with marks in the place of what was cut.
    """

    def __init__(self, short: bytes, mark: bytes, parts: list[memoryview]) -> None:
        self.short = short
        self._parts = parts
        self._mark = mark

    @classmethod
    def of(cls, body: bytes | msgspec.Raw) -> "CutBody":
        """Cut a body above `CUT_FROM_BYTES`. Of what is not valid JSON little or nothing is cut."""
        if len(body) <= CUT_FROM_BYTES:
            return cls(bytes(body), b"", [])
        view = memoryview(body)
        mark = b"cut-%b-" % secrets.token_hex(16).encode()
        parts: list[memoryview] = []
        short = BytesIO()
        written = 0
        for start, end in _long_runs(view):
            short.write(view[written:start])
            short.write(b"%b%d;" % (mark, len(parts)))
            parts.append(view[start:end])
            written = end
        short.write(view[written:])
        return cls(short.getvalue(), mark, parts)

    def restore(self, data: bytes) -> bytes:
        """Put back what was cut, wherever its mark is in JSON made from `short`."""
        if not self._parts:
            return data
        whole = BytesIO()
        at = 0
        for match in re.finditer(re.escape(self._mark) + rb"(\d+);", data):
            whole.write(data[at : match.start()])
            part = self._parts[int(match[1])]
            for start in range(0, len(part), STEP_BYTES):
                whole.write(part[start : start + STEP_BYTES])
            at = match.end()
        whole.write(data[at:])
        return whole.getvalue()

    def restore_view(self, value: Any) -> Any:
        """Put back what was cut in the strings and the raw values of a decoded view.

        Images and files of a content part stay cut.

        Raises:
            msgspec.DecodeError: what was cut is no valid part of a string.
        """
        if not self._parts:
            return value
        match value:
            case str():
                return self._restore_text(value) if self._mark.decode() in value else value
            case msgspec.Raw():
                whole = self.restore(bytes(value))
                return value if len(whole) == len(value) else msgspec.Raw(whole)
            case list():
                return [self.restore_view(item) for item in value]
            case dict():
                return {name: self.restore_view(item) for name, item in value.items()}
            case msgspec.Struct():
                for name in value.__struct_fields__:
                    if name not in _BINARY_FIELDS:
                        item = getattr(value, name)
                        whole = self.restore_view(item)
                        if whole is not item:
                            msgspec.structs.force_setattr(value, name, whole)
        return value

    def _restore_text(self, text: str) -> str:
        first, *others = text.split(self._mark.decode())
        texts = [first]
        for other in others:
            number, _, rest = other.partition(";")
            part = self._parts[int(number)]
            texts += (*_decode(part), rest)
        return "".join(texts)


def _decode(part: memoryview) -> list[str]:
    """The text of a part of a string, decoded in steps."""
    texts = []
    start = 0
    while start < len(part):
        end = _place_to_cut(part, start + STEP_BYTES)
        end = len(part) if end is None else end
        texts.append(msgspec.json.decode(b'"%b"' % bytes(part[start:end]), type=str))
        start = end
    return texts


def _long_runs(view: memoryview) -> list[tuple[int, int]]:
    """Where parts of strings of at least `STEP_BYTES` begin and end."""
    runs: list[list[int]] = []
    in_string, start = False, 0
    for end, step in steps_of(view):
        plain = step
        if b"\\" in plain:
            for escape in _ESCAPES:
                plain = plain.replace(escape, b"")
        quotes = plain.count(b'"')
        is_bulk = in_string and not quotes and len(step) >= STEP_BYTES and _is_plain(plain)
        if is_bulk and runs and runs[-1][1] == start:
            runs[-1][1] = end
        elif is_bulk:
            runs.append([start, end])
        in_string ^= bool(quotes % 2)
        start = end
    places = (  # the string may have begun right before its run
        (_place_to_cut(view, run[0] + _KEPT_BYTES), _place_to_cut(view, run[1] - _WINDOW_BYTES))
        for run in runs
    )
    return [(first, last) for first, last in places if first is not None and last is not None]


def _is_plain(text: bytes) -> bool:
    """Whether a decoder would accept a text without escapes in a string. UTF-8 is not checked."""
    return b"\\" not in text and len(text.translate(None, _CONTROLS)) == len(text)


def _place_to_cut(view: memoryview, start: int) -> int | None:
    """The first place from `start` on that is in no character and no escape.

    None if there is none within `_WINDOW_BYTES`.
    """
    window = bytes(view[max(0, start - _LONGEST_ESCAPE) : start + _WINDOW_BYTES])
    before = start - max(0, start - _LONGEST_ESCAPE)
    for place in range(before, len(window)):
        if (
            window[place] & 0xC0 != 0x80
            and b"\\" not in window[max(0, place - _LONGEST_ESCAPE) : place]
        ):
            return start + place - before
    return None
