"""Bounds of a request body, so that decoding one takes a bounded time.

A decoder holds the interpreter's lock until it is done, so a body with millions of values would
stop the event loop from any thread. The number of values is therefore counted first, in steps.

Sources: the OpenAI API reference for metadata (16 pairs) and for the inputs of embeddings (2,048,
with 300,000 tokens altogether). The other bounds are above OpenAI's own.
"""

import codecs
import re
from collections.abc import Iterator, Sequence, Sized
from typing import Final

import msgspec

from proxy.errors import InvalidRequest

MAX_MODEL_CHARS: Final = 200
MAX_VALUES: Final = 400_000  # in a body, numbers included
MAX_STRINGS: Final = 100_000  # names of fields included
MAX_CONTAINERS: Final = 50_000
MAX_ESCAPES: Final = 2_000_000  # escaped characters
MAX_FIELDS: Final = 256  # of the body itself
MAX_ITEMS: Final = 4096  # messages, content parts, input items or tools
MAX_PROMPTS: Final = 2048  # in one request
MAX_METADATA: Final = 16
# Larger bodies are parsed in a thread, which costs 0.15 ms. A smaller body of few values takes less
# than a millisecond.
LARGE_BODY_BYTES: Final = 2**18
LARGE_BODY_STRINGS: Final = 2000  # names of fields included: they take most of the time, some 3 ms
LARGE_BODY_VALUES: Final = 8000
LARGE_BODY_ESCAPES: Final = 16_000
_LIGHT_BODY_BYTES: Final = 2**14

STEP_BYTES: Final = 2**16  # the lock is held for less than a millisecond
_SMALL_BODY_BYTES: Final = 100_000  # it cannot have too many values to be decoded at once
_MAX_METADATA_BYTES: Final = 2**16  # 16 pairs of 64 and 512 characters, all of them escaped
_CLOSED: Final = re.compile(
    rb"[\[{][^\[\]{}]*[\]}]"
)  # an array or object without another one in it
_MAX_SEARCHED_BYTES: Final = 2**20  # for the list that a place in a body is in
_MAX_DEPTH: Final = 8
_LISTS: Final = ("messages", "input", "prompt", "tools", "functions", "metadata", "logit_bias")
_raw_list = msgspec.json.Decoder(list[msgspec.Raw])
_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def is_heavy(body: bytes) -> bool:
    """Whether parsing a body may take more than two milliseconds.

    The marks of values are counted everywhere, so those within texts count, too.
    """
    if len(body) <= _LIGHT_BODY_BYTES:
        return False
    if len(body) > LARGE_BODY_BYTES:
        return True
    return (
        body.count(b'"') > 2 * LARGE_BODY_STRINGS
        or body.count(b",") > LARGE_BODY_VALUES
        or body.count(b"\\") > LARGE_BODY_ESCAPES
    )


def check_size(body: bytes) -> None:
    """Check the number of values, and the encoding.

    Raises:
        InvalidRequest: the body has too many values. `param` names the field in which the limit was
            exceeded, if it is one of those with lists.
        UnicodeDecodeError: it is not UTF-8. msgspec does not validate skipped values.
    """
    if len(body) <= _SMALL_BODY_BYTES:
        body.decode()
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    totals, escapes = [0, 0, 0], 0
    for start in range(0, len(body), STEP_BYTES):
        step = body[start : start + STEP_BYTES]
        decoder.decode(step)
        escapes += step.count(b"\\")
        _add(totals, step, quotes=step.count(b'"'))
    decoder.decode(b"", final=True)
    if escapes > MAX_ESCAPES:
        raise InvalidRequest(
            f"The request has more than {MAX_ESCAPES:,} escaped characters. Send text as UTF-8.",
            code="string_above_max_length",
        )
    if _exceeds(totals):  # with what is in texts
        _count_outside_strings(body)


def _count_outside_strings(body: bytes) -> None:
    """Count the values alone. Raises InvalidRequest for too many."""
    start, totals = 0, [0, 0, 0]
    for text, quotes, end in _outside_strings(body, 0, len(body)):
        _add(totals, text, quotes=quotes)
        if _exceeds(totals):
            param = _open_list(body, end) or _open_list(body, start)
            what = f"Invalid value for '{param}': it" if param is not None else "The request"
            raise InvalidRequest(
                f"{what} has too many values. A request may have {MAX_VALUES:,}, among them "
                f"{MAX_STRINGS:,} strings and names of fields and {MAX_CONTAINERS:,} arrays and "
                "objects.",
                param=param,
                code="array_above_max_length",
            )
        start = end


def _outside_strings(body: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """A part of a body without its strings, in steps.

    Args:
        start: a place that is in no string.

    Yields:
        What a step has outside of strings, the number of its quotes, and its end in the body.
    """
    in_string = 0
    for end, step in steps_of(body, start, stop):
        pieces = step.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        yield b"".join(pieces[in_string::2]), len(pieces) - 1, end
        in_string ^= (len(pieces) - 1) & 1


def steps_of(
    body: bytes | memoryview, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Parts of a body of `STEP_BYTES`, or one byte more: none ends between `\\` and its character.

    Args:
        start: a place that is in no escape.

    Yields:
        The end of a part in the body, and its bytes.
    """
    stop = len(body) if stop is None else stop
    while start < stop:
        end = min(start + STEP_BYTES, stop)
        step = bytes(body[start:end])
        if end < stop and (len(step) - len(step.rstrip(b"\\"))) % 2:
            end += 1  # an escaped character belongs to its backslash
            step = bytes(body[start:end])
        yield end, step
        start = end


def _open_list(body: bytes, end: int) -> str | None:
    """The known list that a place in a body is in; None for other places and if it is unclear.

    Constant work: it reads 1 MB and a few levels of nesting.
    """
    first = max(0, end - _MAX_SEARCHED_BYTES)
    found = {name: body.rfind(b'"%b"' % name.encode(), first, end) for name in _LISTS}
    name = max(found, key=found.__getitem__)
    if found[name] < 0:
        return None
    start, closed = found[name] + len(name) + 2, 1
    text = b"".join(part for part, _, _ in _outside_strings(body, start, end))
    text = text.rstrip(b"]} \t\r\n")  # the end of the body
    for _ in range(_MAX_DEPTH):
        text, closed = _without_closed(text)
        if not closed:
            break
    is_open = re.match(rb"\s*:\s*[\[{]", text) is not None
    return name if is_open and not closed else None


def _without_closed(text: bytes) -> tuple[bytes, int]:
    """A text without its innermost containers, and how many were removed.

    It is read in steps. A container that begins in one step and ends in another stays; a later call
    removes it, because the text is shorter then.
    """
    if len(text) <= STEP_BYTES:
        return _CLOSED.subn(b"", text)
    steps = range(0, len(text), STEP_BYTES)
    parts = [_CLOSED.subn(b"", text[start : start + STEP_BYTES]) for start in steps]
    return b"".join(part for part, _ in parts), sum(number for _, number in parts)


def _add(totals: list[int], text: bytes, *, quotes: int) -> None:
    totals[0] += text.count(b",")
    totals[1] += quotes
    totals[2] += text.count(b"[") + text.count(b"{")


def _exceeds(totals: list[int]) -> bool:
    commas, quotes, containers = totals
    # Containers without commas are nested in each other, and the decoder limits the depth.
    return (
        commas > MAX_VALUES or quotes // 2 > MAX_STRINGS or min(commas, containers) > MAX_CONTAINERS
    )


def check_length(values: Sized, name: str, limit: int = MAX_ITEMS) -> None:
    """Raises InvalidRequest for an array with more values than `limit`, as OpenAI's API does."""
    if len(values) > limit:
        raise InvalidRequest(
            f"Invalid '{name}': array too long. Expected an array with maximum length {limit}, "
            f"but got an array with length {len(values)} instead.",
            param=name,
            code="array_above_max_length",
        )


def check_raw_length(raw: msgspec.Raw, name: str) -> None:
    """The same for an array in its raw form; other values are the upstream's to check."""
    if len(raw) > 2 * MAX_ITEMS and bytes(raw).startswith(b"["):
        check_length(_raw_list.decode(raw), name)


def check_metadata(raw: msgspec.Raw) -> None:
    """Raises InvalidRequest for too many pairs in `metadata`."""
    if not bytes(raw).startswith(b"{"):
        return  # the upstream's to check
    if len(raw) > _MAX_METADATA_BYTES or len(_raw_fields.decode(raw)) > MAX_METADATA:
        raise InvalidRequest(
            "Invalid 'metadata': too many properties. Expected an object with at most "
            f"{MAX_METADATA} properties: names of at most 64, values of at most 512 characters.",
            param="metadata",
            code="object_above_max_properties",
        )


def check_prompts(prompts: Sequence[object], name: str) -> None:
    """Raises InvalidRequest for too many texts or token arrays; one token array may be longer."""
    if prompts and not isinstance(prompts[0], int):
        check_length(prompts, name, MAX_PROMPTS)
