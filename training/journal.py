"""The journal of paid calls: an append-only JSON Lines file, flushed to disk before use.

Entries:
    asked: a call is about to be sent; its maximum cost.
    not_billed: the call was not billed.
    answered: the answer and its cost.

A call without a closing entry was interrupted. It may have been billed, so its maximum cost counts
as spent.

The file contains answers and no API keys. Without it, answers must be paid for again.
"""

import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Self

import msgspec

from training.dataset import DataError
from training.progress import say

if sys.platform != "win32":
    import fcntl

JOURNAL_VERSION = 1
RESERVE_BYTES = 1 << 20


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A paid answer.

    Attributes:
        usage_source: `upstream`, or `estimated` if the endpoint reported no tokens. Tokens are then
            counted here, and `cost_usd` is the maximum cost of the call.
    """

    text: str
    finish_reason: str | None
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    usage_source: str
    cost_usd: float
    model: str
    max_tokens: int
    seconds: float
    target: str | None = None


class _Header(msgspec.Struct, tag="journal"):
    version: int = JOURNAL_VERSION


class _Asked(msgspec.Struct, tag="asked"):
    """A call that may be billed is about to be sent. It counts as spent until it is closed."""

    call: int
    what: str
    worst_usd: float


class _NotBilled(msgspec.Struct, tag="not_billed"):
    call: int
    why: str


class _Answered(msgspec.Struct, tag="answered"):
    key: str
    what: str
    role: str
    answer: Answer
    call: int | None = None


_Entry = _Header | _Asked | _NotBilled | _Answered


class Journal:
    """The append-only file of paid answers. Only one process at a time can open it.

    An incomplete last line, as after a kill or on a full disk, is dropped with a message.

    Args:
        reserve_bytes: disk space allocated in a second file. It is released when the disk is full,
            so that the answers of running calls still fit.

    Raises:
        DataError: the file cannot be opened, is in use or is not a journal.
    """

    def __init__(
        self,
        path: Path,
        *,
        reserve_bytes: int = RESERVE_BYTES,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.spent_usd: defaultdict[str, float] = defaultdict(float)
        self._open_calls: dict[int, float] = {}
        self._calls = 0
        self._write = write
        self._reserve = path.with_name(f"{path.name}.room")
        self._fd = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(reserve_bytes)
        except OSError as error:
            self.close()
            raise DataError(f"{path}: {error.strerror or error}") from error
        except DataError:
            self.close()
            raise

    @property
    def uncertain_usd(self) -> float:
        """The maximum cost of interrupted calls."""
        return sum(self._open_calls.values())

    def asked(self, what: str, worst_usd: float) -> int | None:
        """Record that a call is about to be sent. Returns its number; None for a free call."""
        if not worst_usd:
            return None
        self._calls += 1
        self._append(_Asked(self._calls, what, worst_usd))
        self._open_calls[self._calls] = worst_usd
        return self._calls

    def not_billed(self, call: int | None, why: str) -> None:
        """Record that a call was not billed."""
        if call is not None:
            self._append(_NotBilled(call, why))
            self._apply(_NotBilled(call, why))

    def answered(
        self, call: int | None, answer: Answer, *, key: str, what: str, role: str
    ) -> OSError | None:
        """Record an answer. Returns the disk's error if the reserved space had to be released.

        Raises OSError if the space did not suffice. The answer is then printed.
        """
        entry = _Answered(key, what, role, answer, call)
        disk_error: OSError | None = None
        try:
            self._append(entry)
        except OSError as error:
            disk_error = error
            self._reserve.unlink(missing_ok=True)
            try:
                self._append(entry)
            except OSError:
                print(msgspec.json.encode(entry).decode(), file=sys.stderr, flush=True)
                raise
        self._apply(entry)
        return disk_error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._reserve.unlink(missing_ok=True)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, reserve_bytes: int) -> None:
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.path} is not a regular file; a journal must outlive the run")
        new = not self.path.exists()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if sys.platform != "win32":
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                self._fd = -1  # the other run owns the reserve file
                raise DataError(f"{self.path} is in use by another run") from None
        self._load(self.path.read_bytes())
        self._reserve.write_bytes(bytes(reserve_bytes))
        if new and sys.platform != "win32":
            folder = os.open(self.path.parent, os.O_RDONLY)  # make the directory entry durable, too
            os.fsync(folder)
            os.close(folder)

    def _load(self, data: bytes) -> None:
        decoder = msgspec.json.Decoder(_Entry)
        *lines, tail = data.split(b"\n")
        if tail:
            try:
                decoder.decode(tail)
                self._write(self._fd, b"\n")
                lines.append(tail)
            except msgspec.MsgspecError:
                os.ftruncate(self._fd, len(data) - len(tail))
                say(
                    f"{self.path}:{len(lines) + 1}: the last line is incomplete, as after a kill "
                    "or on a full disk; it is dropped"
                )
        if not lines:
            self._append(_Header())
            return
        for number, line in enumerate(lines, start=1):
            try:
                entry = decoder.decode(line)
                if (number == 1) != isinstance(entry, _Header):
                    raise msgspec.ValidationError("the first line must be the header")
            except msgspec.MsgspecError as error:
                raise DataError(
                    f"{self.path}:{number}: not a journal entry: {error}. If the file has paid "
                    "answers, repair the line; otherwise use another journal."
                ) from error
            self._apply(entry)

    def _apply(self, entry: _Entry) -> None:
        match entry:
            case _Header(version):
                if version != JOURNAL_VERSION:
                    raise DataError(f"{self.path}: journal version {version} is not supported")
            case _Asked(call, _, worst):
                self._calls = max(self._calls, call)
                self._open_calls[call] = worst
            case _NotBilled(call):
                self._open_calls.pop(call, None)
            case _Answered(key=key, role=role, answer=answer, call=call):
                if call is not None:
                    self._open_calls.pop(call, None)
                self.answers[key] = answer
                self.spent_usd[role] += answer.cost_usd

    def _append(self, entry: _Entry) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        end = os.fstat(self._fd).st_size
        try:
            rest = line
            while rest:
                rest = rest[self._write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, end)
            raise
