"""The usage chunk for clients that did not ask for it."""

import json
from typing import Any

import pytest

from fakes import USAGE, chunk
from proxy.protocol import without_usage

TIMINGS = {"prompt_n": 19, "predicted_per_second": 264.55876524963}
USUAL = chunk(usage=USAGE, system_fingerprint="b6097", service_tier="default", obfuscation="Xq")


def strip(data: bytes) -> bytes:
    return without_usage(b"data: " + data + b"\n\n", data)


@pytest.mark.parametrize(
    "fields",
    [USUAL, USUAL | {"timings": None, "citations": [], "metadata": {}}, {"usage": {}}],
    ids=["usual", "empty-extras", "usage-alone"],
)
def test_a_chunk_of_usage_alone_is_left_out(fields: dict[str, Any]) -> None:
    assert strip(json.dumps(fields).encode()) == b""


def test_all_but_the_usage_passes() -> None:
    # As llama.cpp writes it.
    data = (
        b'{"choices":[],"created":1754524122,"id":"chatcmpl-1","model":"g\xc3\xb6pt",'
        b'"object":"chat.completion.chunk","usage":{"completion_tokens":247},'
        b'"timings":{"prompt_n":1085,"prompt_ms":203.3780,"text":"\\u00e4 \\" ,"}}'
    )
    assert strip(data) == (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":null}],"created":1754524122,'
        b'"id":"chatcmpl-1","model":"g\xc3\xb6pt","object":"chat.completion.chunk",'
        b'"timings":{"prompt_n":1085,"prompt_ms":203.3780,"text":"\\u00e4 \\" ,"}}\n\n'
    )


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("chat.completion.chunk", {"index": 0, "delta": {}, "finish_reason": None}),
        ("text_completion", {"index": 0, "text": "", "finish_reason": None}),
    ],
)
def test_it_has_a_choice_that_clients_can_read(kind: str, choice: dict[str, Any]) -> None:
    fields = chunk(usage=USAGE, timings=TIMINGS) | {"object": kind}
    sent = strip(json.dumps(fields).encode())
    del fields["usage"]
    expected = fields | {"choices": [choice]}
    assert json.loads(sent.removeprefix(b"data: ")) == expected


def test_other_fields_of_the_event_stay() -> None:
    data = b'{"choices":[],"usage":{},"timings":{"n":1}}'
    event = b"id: 7\r\ndata: " + data + b"\r\n\r\n"
    sent = without_usage(event, data)
    assert sent.startswith(b"id: 7\r\ndata: {")
    assert sent.endswith(b'"timings":{"n":1}}\r\n\r\n')


def test_an_unreadable_chunk_is_left_out() -> None:
    assert strip(b'{"usage": {}, "timings": ') == b""
