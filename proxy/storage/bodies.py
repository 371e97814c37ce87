"""Bodies of requests and answers as they are stored: short, without images and credentials."""

import string
from collections.abc import Callable
from typing import Final

MAX_BODY_CHARS: Final = 2**16
# Images, audio and files in base64, also with escaped slashes and line ends. Runs of these
# characters are found by a translation, because a regular expression takes a hundred times as long.
_ENCODED: Final = f"{string.ascii_letters}{string.digits}+/-_\\".encode()
_MARKS: Final = bytes(ord("x") if byte in _ENCODED else ord(" ") for byte in range(256))
_LEAST_RUN: Final = b"x" * 256
_MAX_PADDING: Final = 2
_CUT: Final = "… [cut]"


def shorten_body(body: bytes | None, redact: Callable[[str], str] | None) -> str | None:
    """A body as it is stored; None without one.

    Args:
        redact: removes credentials.
    """
    if not body:
        return None
    text = _without_encoded(body).decode(errors="replace")
    if redact is not None:  # before the cut: nothing finds a part of a credential
        text = redact(text)
    if len(text) > MAX_BODY_CHARS:
        text = text[: MAX_BODY_CHARS - len(_CUT)] + _CUT
    return text


def _without_encoded(body: bytes) -> bytes:
    """The body with a note in the place of encoded data."""
    marks = body.translate(_MARKS)
    parts: list[bytes] = []
    at = 0
    while (start := marks.find(_LEAST_RUN, at)) != -1:
        end = marks.find(b" ", start)
        if end == -1:
            end = len(body)
        padding = body[end : end + _MAX_PADDING]
        end += len(padding) - len(padding.lstrip(b"="))
        parts += (body[at:start], f"[{end - start:,} characters of base64]".encode())
        at = end
    return b"".join([*parts, body[at:]])
