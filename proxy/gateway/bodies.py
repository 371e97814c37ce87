"""The bodies of a request and of its answer, as far as they are stored (`storage.bodies`).

The beginnings are passed to the row writer, whose thread shortens them and removes credentials.
"""

from typing import Final

from proxy.gateway.call import Call
from proxy.gateway.error_text import keeps_text
from proxy.record import FAILED, CallRecord

MAX_SOURCE_BYTES: Final = 2**18  # of a whole body; images in it are cut before it is stored
MAX_STREAM_BYTES: Final = 2**16  # of a stream


class BodyCopy:
    """An answer: whole, or the beginning of one that passes in chunks."""

    __slots__ = ("_left", "_parts")

    def __init__(self, whole: bytes = b"") -> None:
        self._parts = [whole]
        self._left = MAX_STREAM_BYTES

    def add(self, chunk: bytes) -> None:
        """Copy the next bytes, up to the limit."""
        if self._left > 0 and chunk:
            self._parts.append(chunk if len(chunk) <= self._left else chunk[: self._left])
            self._left -= len(chunk)

    def read(self) -> bytes:
        """What was copied."""
        return b"".join(part[:MAX_SOURCE_BYTES] for part in self._parts)


def may_keep(call: Call) -> bool:
    """Whether bodies may be stored, depending on how the request ends."""
    return call.snapshot.config.storage.bodies != "none" and keeps_text(call)


def enter_bodies(call: Call) -> None:
    """Enter the bodies into the finished record, if they are stored."""
    record = call.record
    if may_keep(call) and _is_wanted(record, call.snapshot.config.storage.bodies):
        record.raw_request = call.received[:MAX_SOURCE_BYTES] or None
        record.raw_response = (call.answer_copy and call.answer_copy.read()) or None
        record.redact = call.snapshot.redact


def _is_wanted(record: CallRecord, bodies: str) -> bool:
    """Whether the setting selects a request. A request that was refused has not failed."""
    return bodies == "all" or record.ending in FAILED
