"""The outline of a large object: the fields of the answer itself, read from its two ends."""

import json
import time
from typing import Any

import pytest

from proxy.protocol.outline import HEAD_BYTES, MAX_SKIMMED_BYTES, TAIL_BYTES, outline, skim

TEXT = 'x\\"{}[]:,\\\\"id": "resp_no", "usage": {}' * 8_000
SEEN = {"id": "resp_1", "status": "completed", "error": None}
LAST = {"service_tier": "priority", "usage": {"input_tokens": 5, "details": {"x": [1, "}"]}}}
RESPONSE: dict[str, Any] = {
    **SEEN,
    "instructions": TEXT,
    "model": "gpt-5",
    "output": [{"type": "message", "id": "msg_1", "status": "x", "content": [{"usage": 1}]}],
    **LAST,
    "tools": [{"type": "f", "model": {"id": 1}}],
    "user": None,
    "metadata": {"usage": "x", "service_tier": "flex", "model": "m", 'odd\\"': "\\", "id": '"'},
}
OUTLINE = SEEN | {"model": "gpt-5"} | LAST


def outline_of(text: str) -> Any:
    data = text.encode()
    assert len(data) > HEAD_BYTES + TAIL_BYTES
    return json.loads(outline(data[:HEAD_BYTES], data[-TAIL_BYTES:]))


@pytest.mark.parametrize("form", [{}, {"separators": (",", ":")}, {"indent": 1}], ids=str)
def test_the_outline_has_the_fields_of_the_answer_itself(form: Any) -> None:
    kind = "response.completed"
    assert outline_of(json.dumps(RESPONSE, **form)) == OUTLINE
    for event in (
        {"type": kind, "sequence_number": 7, "response": RESPONSE},
        {"response": RESPONSE, "sequence_number": 7, "type": kind},
        {"z": {"response": {"id": "no"}}, "response": RESPONSE, "type": kind, "y": {"id": 1}},
    ):
        assert outline_of(json.dumps(event, **form)) == {"type": kind, "response": OUTLINE}
    choice = {"id": "no", "model": "no", "message": {"content": TEXT, "usage": {}}}
    chat = {"id": "c", "choices": [choice, choice], "usage": {"prompt_tokens": 1}, "model": "m"}
    read = outline_of(json.dumps(chat, **form))
    assert read == {"id": "c", "usage": {"prompt_tokens": 1}, "model": "m"}


def test_an_outline_of_the_beginning_has_what_is_seen() -> None:
    data = json.dumps({"type": "response.created", "response": RESPONSE}).encode()
    read = json.loads(outline(data[:HEAD_BYTES]))
    assert read == {"type": "response.created", "response": SEEN}


def test_an_outline_of_anything_is_an_object() -> None:
    data = json.dumps({"type": "x", "response": RESPONSE | {"instructions": "short"}}).encode()
    for cut in range(len(data)):
        assert isinstance(json.loads(outline(data[:cut], data[cut:])), dict)
        assert isinstance(json.loads(outline(data[:cut], data[-cut:])), dict)
    for other in (b"", b"x", b"[1]", b'"', b"}", b"{}", b"]}", b"\\}", b'"}'):
        assert json.loads(outline(other, other)) == {}


@pytest.mark.parametrize(
    "text",
    [b"[", b"}", b'{"a":', b'"a":', b'"', b'\\"', b'"\\', b'":', b'"id":1,', b'"response":{'],
    ids=repr,
)
def test_an_outline_takes_a_bounded_time(text: bytes) -> None:
    data = text * (TAIL_BYTES // len(text))
    since = time.process_time()
    outline(b"{" + data, data + b"}")
    assert time.process_time() - since < 0.1


def test_a_large_object_is_skimmed() -> None:
    small, large = (b'{"id":"a","x":"%b"}' % (b"x" * size) for size in (10, MAX_SKIMMED_BYTES))
    assert skim(small) == small
    assert json.loads(skim(large)) == {"id": "a"}
