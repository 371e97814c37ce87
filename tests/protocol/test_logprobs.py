"""Log-probabilities in the answers of several servers: read as evidence, and taken out again."""

import json
from typing import Any

import pytest

from fakes import answer_json, chunk, event
from looks import tokens_of
from proxy.protocol.fields import rewrite
from proxy.protocol.logprobs import LogprobReader, first_alternatives


def answer(logprobs: Any) -> bytes:
    body = json.loads(answer_json("Hi!"))
    body["choices"][0]["logprobs"] = logprobs
    return json.dumps(body).encode()


def streamed(*tokens: dict[str, Any]) -> list[bytes]:
    events = []
    for token in tokens:
        data = chunk({"content": token["token"]})
        data["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
        events.append(json.dumps(data).encode())
    return events


def test_an_answer_is_read_and_loses_them() -> None:
    body = answer({"content": tokens_of("Hi!", -0.5), "refusal": None})
    reader = LogprobReader(removes=True)
    assert json.loads(reader.take(body, body)) == json.loads(answer_json("Hi!"))
    assert [(token.text, token.logprob) for token in reader.tokens] == [("H", -0.5), ("i!", -0.5)]
    assert [token.margin for token in reader.tokens] == pytest.approx([2.0, 2.0])


def test_an_answer_keeps_what_the_client_asked_for() -> None:
    body = answer({"content": tokens_of("Hi!", -0.5)})
    reader = LogprobReader(removes=False)
    assert reader.take(body, body) is body
    assert len(reader.tokens) == 2


def test_each_event_of_a_stream_is_read_and_loses_them() -> None:
    reader = LogprobReader(removes=True)
    for token, data in zip(tokens_of("Hi!", -0.5), streamed(*tokens_of("Hi!", -0.5)), strict=True):
        plain = chunk({"content": token["token"]})
        sent = reader.take(event(data), data)
        assert json.loads(sent.removeprefix(b"data: ")) == plain
        assert sent.endswith(b"\n\n")
    assert "".join(token.text for token in reader.tokens) == "Hi!"


def test_an_event_of_several_lines_becomes_one() -> None:
    (data,) = streamed(tokens_of("Hi", -0.5)[0])
    lines = json.dumps(json.loads(data), indent=1).encode().split(b"\n")
    whole = b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    sent = LogprobReader(removes=True).take(whole, b"\n".join(lines))
    assert json.loads(sent.removeprefix(b"data: ")) == chunk({"content": "H"})


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{"token": "a", "logprob": None}]},
        {"content": [{"token": 5, "logprob": -1}]},
        {"content": "none"},
        {"tokens": ["a"], "token_logprobs": [-1]},  # the old format of completions
        [1],
        {},
        "x",
    ],
    ids=str,
)
def test_an_odd_form_is_no_evidence_and_is_removed_all_the_same(logprobs: Any) -> None:
    body = answer(logprobs)
    reader = LogprobReader(removes=True)
    assert json.loads(reader.take(body, body))["choices"][0]["logprobs"] is None
    assert reader.tokens == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"logprobs": 1}',
        b'{"choices": [1], "logprobs": 2}',
        b'{"choices": {"logprobs',
    ],
)
def test_what_cannot_be_read_passes_unchanged(body: bytes) -> None:
    assert LogprobReader(removes=True).take(body, body) is body


def test_unknown_fields_survive() -> None:
    body = json.loads(answer({"content": tokens_of("Hi!", -0.5)}))
    body |= {
        "timings": {"n": 1e-9},
        "choices": [body["choices"][0] | {"own": [1, {"a": "\u00fc"}]}],
    }
    raw = json.dumps(body).encode()
    sent = json.loads(LogprobReader(removes=True).take(raw, raw))
    body["choices"][0]["logprobs"] = None
    assert sent == body


@pytest.mark.parametrize(
    ("given", "asks"), [("true", True), ("false", False), ("null", False), (None, False)]
)
def test_the_request_asks_for_them_unless_the_client_does(given: str | None, asks: bool) -> None:
    own = "" if given is None else f', "logprobs": {given}'
    body = f'{{"model": "a"{own}}}'.encode()
    reader = LogprobReader(removes=not asks)
    sent = json.loads(rewrite(body, model="b", include_usage=False, changes=[reader.ask]))
    assert sent["logprobs"] is True
    assert sent.get("top_logprobs") == (None if asks else 2)


def test_the_choices_for_the_first_token() -> None:
    token = {"token": "Yes", "logprob": -0.1, "top_logprobs": [
        {"token": "Yes", "logprob": -0.1}, {"token": " no", "logprob": -2.5},
    ]}  # fmt: skip
    assert first_alternatives(answer({"content": [token]})) == {"Yes": -0.1, " no": -2.5}
    for body in (answer(None), answer({"content": []}), b'{"choices": []}', b"x"):
        assert first_alternatives(body) == {}
