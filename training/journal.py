"""The journal of paid calls: an append-only file, one JSON object a line, on the disk before use.

A line says that a call is about to be made and what it may cost (`asked`), that it surely cost
nothing (`not_billed`), or what was answered (`answered`). A call that was asked and never closed
was cut off: nobody can know whether it was billed, so it counts as spent in full.

The file holds prompts' answers, and no keys. It is safe to read, copy and pack; deleting it means
paying again.
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
ROOM_BYTES = 1 << 20


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer as it was bought.

    `usage_source` is `upstream`, or `estimated` where the endpoint counted no tokens: then they
    are our count, and `cost_usd` is the most that the call can have cost.
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
    """A call that may be billed is about to be made; until another entry closes it, it counts."""

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
    """The append-only file of everything that was bought: one JSON object a line.

    Only one process at a time has it open. A last line that was torn by a kill or a full disk is
    cut off, and said. `room_bytes` are kept allocated in a file beside it, and given up for the
    answers that are under way when the disk runs full.
    """

    def __init__(
        self,
        path: Path,
        *,
        room_bytes: int = ROOM_BYTES,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.spent_usd: defaultdict[str, float] = defaultdict(float)
        self._open_calls: dict[int, float] = {}
        self._calls = 0
        self._write = write
        self._room = path.with_name(f"{path.name}.room")
        self._fd = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open(room_bytes)
        except OSError as error:
            self.close()
            raise DataError(f"{path}: {error.strerror or error}") from error
        except DataError:
            self.close()
            raise

    @property
    def uncertain_usd(self) -> float:
        """What calls that were cut off may have cost, at most."""
        return sum(self._open_calls.values())

    def asked(self, what: str, worst_usd: float) -> int | None:
        """Note that a call is about to be made; None for one that costs nothing."""
        if not worst_usd:
            return None
        self._calls += 1
        self._append(_Asked(self._calls, what, worst_usd))
        self._open_calls[self._calls] = worst_usd
        return self._calls

    def not_billed(self, call: int | None, why: str) -> None:
        """Note that a call surely cost nothing."""
        if call is not None:
            self._append(_NotBilled(call, why))
            self._note(_NotBilled(call, why))

    def answered(
        self, call: int | None, answer: Answer, *, key: str, what: str, role: str
    ) -> OSError | None:
        """Keep an answer. Returns what is wrong with the disk when this took the room kept free.

        Raises OSError when even that was not enough; the answer was then printed.
        """
        entry = _Answered(key, what, role, answer, call)
        trouble: OSError | None = None
        try:
            self._append(entry)
        except OSError as error:
            trouble = error
            self._room.unlink(missing_ok=True)
            try:
                self._append(entry)
            except OSError:
                print(msgspec.json.encode(entry).decode(), file=sys.stderr, flush=True)
                raise
        self._note(entry)
        return trouble

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._room.unlink(missing_ok=True)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, room_bytes: int) -> None:
        if self.path.exists() and not self.path.is_file():
            raise DataError(f"{self.path} is no plain file; a journal must outlive the run")
        new = not self.path.exists()
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if sys.platform != "win32":
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                self._fd = -1  # nothing of the other run's is cleaned up
                raise DataError(f"{self.path} is in use by another run") from None
        self._load(self.path.read_bytes())
        self._room.write_bytes(bytes(room_bytes))
        if new and sys.platform != "win32":
            folder = os.open(self.path.parent, os.O_RDONLY)  # the name must last as the file does
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
                    f"{self.path}:{len(lines) + 1}: the last line is torn, as after a kill or on "
                    "a full disk; it is dropped"
                )
        if not lines:
            self._append(_Header())
            return
        for number, line in enumerate(lines, start=1):
            try:
                entry = decoder.decode(line)
                if (number == 1) != isinstance(entry, _Header):
                    raise msgspec.ValidationError("the first line of a journal says so")
            except msgspec.MsgspecError as error:
                raise DataError(
                    f"{self.path}:{number}: no entry of a journal: {error}. If answers that were "
                    "paid for are in this file, mend the line; otherwise name another journal."
                ) from error
            self._note(entry)

    def _note(self, entry: _Entry) -> None:
        match entry:
            case _Header(version):
                if version != JOURNAL_VERSION:
                    raise DataError(f"{self.path} is a journal of version {version}")
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
