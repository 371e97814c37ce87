"""Fields that errors name in words, and errors that are long."""

import json
import time

import msgspec
import pytest

from proxy.protocol.refusals import MAX_MESSAGE_CHARS, read_refusal


def error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("top_k is not supported.", ["top_k"]),
        ("topK is not supported.", ["top_k"]),
        ("Unknown field: user", ["user"]),
        ("'user' is not permitted", ["user"]),
        ("This user is not allowed.", []),
        ("user: not supported", ["user"]),
        ("temperature and top_k are unsupported", ["temperature", "top_k"]),
        ("top_k. It is not supported.", []),  # another sentence
        ("top_kk is not supported.", []),
        ("my.top_k is not supported.", ["top_k"]),
        ("Unsupported: a, user, b", ["user"]),
        ("Unknown (user)", ["user"]),
    ],
)
def test_fields_are_read_from_words(message: str, names: list[str]) -> None:
    sent = dict.fromkeys(("model", "user", "top_k", "temperature"), msgspec.Raw(b"1"))
    fields = read_refusal(error(message)).fields_among(sent)
    assert sorted(field.name for field in fields) == names


def test_long_errors_and_requests_take_milliseconds() -> None:
    """A client may send many fields, and a server may echo its texts."""
    sent = {f"field_{number}": msgspec.Raw(b"1") for number in range(3000)}
    sent |= {f"w{number}": msgspec.Raw(b"1") for number in range(3000)}
    words = " ".join(f"unknown w{number}." for number in range(5000))
    started = time.process_time()
    refusal = read_refusal(error(words))
    refusal.fields_among(sent)
    assert len(refusal.message) == MAX_MESSAGE_CHARS
    assert time.process_time() - started < 0.5  # a search for each pair took longer
