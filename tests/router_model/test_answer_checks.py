"""Each check on answers that fail it, and on good ones that look similar."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from router_model.answer_checks import Asked, Check, LocalAnswer, failed_check

OPEN = "Tell me about it."


def check(text: str, prompt: str = OPEN, **asked: Any) -> Check | None:
    return failed_check(LocalAnswer(text, "stop"), Asked(prompt, **asked))


# ── Empty and cut off ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", " \n\t", "<think>Hm.</think>", "<think>Hm.", "Hm.</think>\n"])
def test_an_empty_answer(text: str) -> None:
    assert check(text) is Check.EMPTY
    assert failed_check(LocalAnswer(text, None), Asked(OPEN)) is Check.EMPTY
    assert failed_check(LocalAnswer(text, "tool_calls", (("f", "{}"),)), Asked(OPEN)) is None
    assert failed_check(LocalAnswer(text, "stop", refusal="No."), Asked(OPEN)) is None
    assert failed_check(LocalAnswer(text, "content_filter"), Asked(OPEN)) is None
    assert check(text, has_stop=True) is None
    at_limit = LocalAnswer(text, "length", completion_tokens=5)
    assert failed_check(at_limit, Asked(OPEN, max_tokens=5)) is None


@pytest.mark.parametrize(
    "text",
    [
        "\u200b", "\ufeff \u2060", "\ufffd" * 500, "<|im_end|>", "<|im_end|>\n<|im_start|>",
        "<unk>" * 200, "<pad>", "<end_of_turn>", "```\n```", "```python\n\n```", "```",
        "<think>a</think>```json\n```",
    ],
)  # fmt: skip
def test_an_answer_without_anything_to_see(text: str) -> None:
    assert check(text) is Check.EMPTY
    assert check("<unk>" * 2_000) is Check.EMPTY
    assert check(text, "Which token ends a turn?") is None
    assert check(f"{text} a") is None


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("<think> opens the block in R1, and a client leaves it out.", "How does R1 write?"),
        ("<think> and </think>", "Which tags does R1 write?"),
        ("`<think>` opens it, `</think>` closes it.", OPEN),
        ("</s>", "What ends a text?"),
        ("-", OPEN),
        ("🙂", OPEN),
        ("```\n.\n```", OPEN),
    ],
)
def test_an_answer_with_little_to_see(text: str, prompt: str) -> None:
    assert check(text, prompt) is None


def test_output_of_another_kind() -> None:
    answer = LocalAnswer("", "stop", has_other_output=True)
    assert failed_check(answer, Asked(OPEN)) is None
    assert failed_check(answer, Asked(OPEN, json=True)) is None
    assert failed_check(answer._replace(finish_reason=None), Asked(OPEN)) is Check.UNFINISHED


@pytest.mark.parametrize(
    ("finish_reason", "tokens", "limit", "expected"),
    [
        (None, 10, None, Check.UNFINISHED),
        ("", 10, None, Check.UNFINISHED),
        ("length", 10, None, Check.CUT_OFF),
        ("length", None, None, Check.CUT_OFF),
        ("length", 10, 100, Check.CUT_OFF),
        ("length", 100, 100, None),
        ("length", 99, 100, None),
        ("length", None, 100, None),
        ("stop", 10, 100, None),
    ],
)
def test_an_answer_that_is_cut_off(
    finish_reason: str | None, tokens: int | None, limit: int | None, expected: Check | None
) -> None:
    answer = LocalAnswer("It is", finish_reason, completion_tokens=tokens)
    assert failed_check(answer, Asked(OPEN, max_tokens=limit)) is expected


def test_the_clients_own_limit_excuses_what_the_cut_broke() -> None:
    answer = LocalAnswer('{"a": ', "length", completion_tokens=3)
    assert failed_check(answer, Asked(OPEN, max_tokens=3, json=True)) is None
    calls = LocalAnswer("", "length", (("f", '{"a'),), completion_tokens=3)
    assert failed_check(calls, Asked(OPEN, max_tokens=3, tools={"f": {}})) is None
    loop = LocalAnswer("I am here to help you today. " * 40, "length", completion_tokens=300)
    assert failed_check(loop, Asked(OPEN, max_tokens=300)) is Check.REPETITION


# ── JSON and tools ────────────────────────────────────────────────────────────────────────────

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ('{"name": "Ada"}', None, None),
        (' {"name": "Ada"}\n', SCHEMA, None),
        ('<think>{</think>{"name": "Ada"}', SCHEMA, None),
        ("[1]", None, Check.JSON),
        ("Here it is: {}", None, Check.JSON),
        ('```json\n{"name": "Ada"}\n```', SCHEMA, Check.JSON),
        ('{"name": "Ada"', None, Check.JSON),
        ('{"name": 5}', SCHEMA, Check.JSON),
        ("[1]", {"type": "array"}, None),
        ("[" * 3_000, None, Check.JSON),
        ('{"a": NaN}', None, Check.JSON),
        ('{"name": "Ada", "a": [-Infinity]}', SCHEMA, Check.JSON),
        ('{"a": "NaN"}', None, None),
        ('{"a": ' + "9" * 5_000 + "}", None, None),
    ],
)
def test_json(text: str, schema: dict[str, Any] | None, expected: Check | None) -> None:
    assert check(text, json=True, schema=schema) is expected
    assert check(text) is None
    assert check(text, json=True, schema=schema, has_stop=True) is None


TOOLS = {
    "weather": {"type": "object", "properties": {"city": {}}, "required": ["city"]},
    "now": {"type": "object", "properties": {}},
}


@pytest.mark.parametrize(
    ("name", "arguments", "is_broken"),
    [
        ("weather", '{"city": "Rome"}', False),
        ("weather", '{"city": "Rome", "unit": "C"}', False),
        ("now", "{}", False),
        ("now", "", False),
        ("now", "null", False),
        ("now", " null\n", False),
        ("now", "[]", True),
        ("now", '{"a": NaN}', True),
        ("weather", '{"city": ' + "9" * 5_000 + "}", False),
        ("weather", "{}", True),
        ("weather", "", True),
        ("weather", '{"city": "Rome"', True),
        ("weather", '"Rome"', True),
        ("weather", "null", True),
        ("weather", "[" * 100_000, True),
        ("search", '{"query": "Rome"}', True),
    ],
)
def test_tool_arguments(name: str, arguments: str, is_broken: bool) -> None:
    answer = LocalAnswer("", "tool_calls", (("now", "{}"), (name, arguments)))
    expected = Check.TOOL_ARGUMENTS if is_broken else None
    assert failed_check(answer, Asked(OPEN, tools=TOOLS)) is expected
    assert failed_check(answer, Asked(OPEN)) is None
    assert failed_check(answer, Asked(OPEN, tools={})) is Check.TOOL_ARGUMENTS


QUESTION = "Which of the following is it?\nA. London\nB. Madrid\nC. Paris"

# ── Work ──────────────────────────────────────────────────────────────────────────────────────

HOSTILE = ["a", " ", "\n", "ab ", "A) ", "I'm sorry, ", "as an AI ", "1. x\n", "(", "{", "[", '"',
           "-", "|a|", "<think>", "</think>", "word ", "A\nB\n", "The line again.\n"]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
def test_work_is_bounded(part: str) -> None:
    text = part * (1_000_000 // len(part))
    start = time.process_time()
    for prompt in (OPEN, text, f"{QUESTION}\n{text}", f"{text}\n{QUESTION}"):
        for end in ("", "x", " " * 30):
            check(text + end, prompt)
    check(text, json=True)
    assert time.process_time() - start < 1.5  # about 0.1; what is quadratic takes minutes


def test_checks_have_one_order() -> None:
    looping = json.dumps("It flows on to the wide sea. " * 300)[1:-1]
    answer = LocalAnswer(looping, None)
    assert failed_check(answer, Asked(OPEN, json=True)) is Check.UNFINISHED
    assert check(looping, json=True) is Check.REPETITION


class _Names(list[str]):
    """Required names that count how often they are read."""

    read = 0

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            self.read += 1
            yield name


def test_many_calls_and_parameters_are_a_bounded_amount_of_work() -> None:
    names = _Names(["b"] * 3_000)
    answer = LocalAnswer("", "tool_calls", tool_calls=(("a", '{"b": 1}'),) * 3_000)
    assert failed_check(answer, Asked("", tools={"a": {"required": names}})) is None
    assert names.read <= 10_000
