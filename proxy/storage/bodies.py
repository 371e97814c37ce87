"""Bodies of requests and answers as they are stored: short, without images and credentials."""

import re
from collections.abc import Callable
from typing import Final

MAX_BODY_CHARS: Final = 2**16
# Images, audio and files in base64. The look-behind makes the search linear: a run of these
# characters is tried once, not from each of its places.
_ENCODED: Final = re.compile(r"(?<![A-Za-z0-9+/_\\-])[A-Za-z0-9+/_\\-]{256,}={0,2}")
_CUT: Final = "… [cut]"


def shorten_body(body: bytes | None, redact: Callable[[str], str] | None) -> str | None:
    """A body as it is stored; None without one.

    Args:
        redact: removes credentials.
    """
    if not body:
        return None
    text = _ENCODED.sub(_note, body.decode(errors="replace"))
    if len(text) > MAX_BODY_CHARS:
        text = text[: MAX_BODY_CHARS - len(_CUT)] + _CUT
    return text if redact is None else redact(text)


def _note(found: re.Match[str]) -> str:
    """What stands in the place of encoded data."""
    return f"[{len(found[0]):,} characters of base64]"
