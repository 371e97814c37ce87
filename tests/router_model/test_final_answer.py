"""The final answer of a text."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from router_model import final_answer as module
from router_model.final_answer import (
    FinalAnswer,
    agree,
    asks_for_number,
    final_answer,
    without_thinking,
)

CITIES = {"A": "London", "B": "Madrid", "C": "Paris", "D": "Rome"}
MOON = (
    "The landing of 1969 changed how people saw the Earth.\n\nEngineers had worked for 8 years, "
    "with a budget of $25 billion. The first steps were taken on July 20, 1969."
)

CHOICES = {
    "C": "C",
    "(C)": "C",
    "c": "C",
    "C.": "C",
    "**C**": "C",
    "C) Paris": "C",
    "C. Paris": "C",
    "**C. Paris**": "C",
    "Paris": "C",
    "paris.": "C",
    "The answer is (C).": "C",
    "The answer is C because it is the capital.": "C",
    "The correct answer is **C) Paris**.": "C",
    "Answer: C": "C",
    "**Answer:**\n\nC": "C",
    "**Answer: C**\n\nParis is on the Seine.": "C",
    "It is on the Seine.\n\nOption C is correct.": "C",
    "I would choose C.": "C",
    "Thus, $\\boxed{\\text{C}}$.": "C",
    "$\\boxed{\\text{Paris}}$": "C",
    '```json\n{"reasoning": "Seine", "answer": "C"}\n```': "C",
    "London is in England, Madrid in Spain.\n\n**C**": "C",
    "A) is in England.\nB) is in Spain.\nC) is right.\nThe answer is C.": "C",
    "The answer is A. No, wait.\n\nThe answer is C.": "C",
    "<think>The answer is A.</think>\nThe answer is C.": "C",
    "A) London is in England.\nB) Madrid is in Spain.\nD) Rome is in Italy.": None,
    "The answer is A or B.": None,
    "Both A and B": None,
    "The answer is A) and C).": None,
    "The answer is not C.": None,
    "A good question about capitals.": None,
    "The answer is a matter of debate.": None,
    "F": None,
    "**A)** is wrong and **B)** is, too.": None,
    "<think>The answer is C.</think>": None,
}


@pytest.mark.parametrize("text", CHOICES)
def test_the_chosen_option(text: str) -> None:
    answer = final_answer(text, options=CITIES)
    expected = CHOICES[text]
    if expected is None:
        assert answer is None or answer.kind != "option"
    else:
        assert answer == FinalAnswer("option", expected)


DECLARED = {
    r"So \boxed{4}, or rather \boxed{\frac{1}{2}}.": ("boxed", r"\frac{1}{2}"),
    r"\boxed{\{1, 2\}}": ("boxed", r"\{1, 2\}"),
    r"The answer is 3. \boxed{4}": ("boxed", "4"),
    '{"reasoning": "…", "answer": "42"}': ("field", "42"),
    'First.\n```json\n{"answer": [1, true]}\n```\nDone.': ("field", "[1, True]"),
    '{"answer": 5}\n{"answer": 6}': ("field", "6"),
    '{"reasoning": "by \\sqrt{4}", "answer": "\\sqrt{2}"}': ("field", r"\sqrt{2}"),
    '{"steps": [{"answer": 1}], "final_answer": 3}': ("field", "3"),
    "The answer is 18 because 9 * 2 is 18.": ("marked", "18"),
    "The final answer is: **18**. Let me know if 19 was meant.": ("marked", "18"),
    "Answer: 18 eggs\n\nThe rest is for breakfast.": ("marked", "18 eggs"),
    "Answer: [1, 2]. It is sorted.": ("marked", "[1, 2]"),
    "9 * 2 = 18\n#### 18": ("marked", "18"),
    "It sorts.\nassert f([2, 1]) == [1, 2]": ("marked", "[1, 2]"),
    "`assert f('a') == 'b'`": ("marked", "'b'"),
    "42": ("number", "42"),
    "**$3.50**": ("number", "$3.50"),
    "2 + 2 = 4": ("number", "4"),
}


@pytest.mark.parametrize("text", DECLARED)
def test_a_declared_answer(text: str) -> None:
    assert final_answer(text) == FinalAnswer(*DECLARED[text])


NO_FINAL_ANSWER = {
    "an essay that ends with a number": MOON,
    "prose": "Paris has been the capital for most of its history.",
    "nothing": "",
    "an open box": r"\boxed{4",
    "a list of answers": '[{"question": "a", "answer": "b"}, {"question": "c", "answer": "d"}]',
    "an inner object": '{"items": [{"answer": 1}], "more": {"answer": 2}}',
    "other JSON": '{"name": "Ada", "age": 36}',
    "a quiz": "\n".join(f"{i}. Who?\nAnswer: {i}" for i in range(5)),
    "a heading": "#### Conclusion\nIt works.",
    "a configuration": "PORT=8080",
    "code": "def f(a):\n    return a == 0",
    "a condition": "if f(x) == 5:",
    "tests": "assert f(1) == 1\nassert f(0) == 0",
    "an assertion before prose": "assert f(1) == 2\nThis test passes.",
    "a list of numbers": "3\n5\n7",
    "a steps' list": "1. Mix.\n2. Bake for 30 minutes.",
    "thinking": "<think>The answer is 5.</think>",
    "unclosed thinking": "<think>The answer is 5.",
}


@pytest.mark.parametrize("name", NO_FINAL_ANSWER)
def test_other_texts_have_none(name: str) -> None:
    assert final_answer(NO_FINAL_ANSWER[name]) is None


CONCLUSIONS = {
    "She eats 3 and sells 9 at $2 each. So she makes $18 every day.": "18",
    "Total:\n16 - 7 = 9\n9 * 2 = 18": "18",
    "She makes **$18** with 9 eggs.": "18",
    "9 * 2 = 18 dollars per day.\n\nLet me know if you need more!": "18",
    "1. 16 - 3 = 13\n2. 13 - 4 = 9": "9",
    "The war ended in 1945.": "1945",
    "It is 1,234.5 km long.": "1234.5",
    "About 1/2 of them": "0.5",
}


@pytest.mark.parametrize("text", CONCLUSIONS)
def test_a_concluding_number_counts_where_the_prompt_asks_for_one(text: str) -> None:
    answer = final_answer(text, numeric=True)
    assert agree(answer, FinalAnswer("number", CONCLUSIONS[text]))


@pytest.mark.parametrize("text", [text for text in CONCLUSIONS if "=" not in text])
def test_a_concluding_number_of_other_prompts_does_not(text: str) -> None:
    assert final_answer(f"We think for a while.\n{text}") is None


@pytest.mark.parametrize(
    "text",
    ["Use Python 3.12.1 for it.", "See the 3rd part.", "At 2:30 or 14:30.", "From 3-5.", "x2"],
)
def test_parts_of_words_are_no_numbers(text: str) -> None:
    assert final_answer(text, numeric=True) is None


NUMERIC = [
    "How many eggs are left?",
    "How much does she pay? Explain step by step.",
    "What is 2+2?",
    "What's 15 * 3?",
    "17 * 23 = ?",
    "Calculate the area of a circle with radius 3.",
    "Find the sum of all integers that satisfy these conditions.",
    "What is the probability that both are red?",
    "In what year did the war end? What year?",
    "Evaluate $\\frac{1}{2} + 1$.",
]
NOT_NUMERIC = [
    "Write an essay about the first landing on the Moon.",
    "Explain how the Moon landing changed the world.",
    "Write a function that calculates the number of primes below n.",
    "Who was the first person on the Moon?",
    "Find the bug in this code.",
    "Translate 'how many are there?' into French.",
    "Summarize how many people attended.",
    "What is the capital of France?",
]


def test_what_asks_for_a_number() -> None:
    assert [prompt for prompt in NUMERIC if not asks_for_number(prompt)] == []
    assert [prompt for prompt in NOT_NUMERIC if asks_for_number(prompt)] == []


def test_agreement() -> None:
    c, d = FinalAnswer("option", "C"), FinalAnswer("option", "D")
    number = FinalAnswer("number", "12")
    assert agree(c, c) is True
    assert agree(c, d) is False
    assert agree(c, number) is None
    assert agree(None, number) is agree(number, None) is agree(None, None) is None
    assert agree(number, FinalAnswer("boxed", "12.0")) is True
    assert agree(number, FinalAnswer("field", "13")) is False
    sentences = ("It depends on the size of the herd.", "There may be 12 or more of them.")
    assert agree(*(FinalAnswer("marked", text) for text in sentences)) is None


def test_two_essays_do_not_agree() -> None:
    assert agree(final_answer(MOON), final_answer(MOON + " It was 1969.")) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("<think>a</think>b", "b"),
        ("  <think>\na", ""),
        ("a</think>b", "b"),
        ("a<think>b</think>c<think>d</think>e", "ace"),
        ("<think>okay, so", ""),
        ("<think> Okay, so", ""),
        *(
            (text, text)
            for text in (
                "The tag <think> starts it.",
                "<think> opens the block.",
                "<think>, then a thought.",
                "`<think>` opens the block, and `</think>` closes it.",
                "A model without the first tag writes '</think>' all the same.",
            )
        ),
    ],
)
def test_thinking_is_left_out(text: str, expected: str) -> None:
    assert without_thinking(text) == expected


HOSTILE = [
    "{", "}", "\\boxed{", '{"', '{"a":', '{"a":[', '"answer":"', '"answer": 1 ', "[", "(", "((",
    "'", " ", "\n", "\t \n", "1", "1,", "1,111", "1/", "1.", "-", "=", "== ", "f(", "f() == ", "$",
    "#### 1", "answer: ", "the answer is ", "answer is **", "**", "**A** ", "A) ", "A\n", ". A",
    "A is correct ", "\\", "\\frac{", "<think>", "</think>", "<think></think>", "`", "\\text{",
    "Option A, ", "a",
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
def test_only_the_end_of_a_text_is_read(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(find: Callable[[str], str | None]) -> Callable[[str], str | None]:
        return lambda tail: seen.append(len(tail)) or find(tail)

    decoder = json.JSONDecoder()
    decodes: list[int] = []

    class Counted:
        @staticmethod
        def raw_decode(text: str, start: int) -> tuple[Any, int]:
            decodes.append(start)
            return decoder.raw_decode(text, start)

    monkeypatch.setattr(module, "_JSON", Counted)
    declared = tuple((kind, counted(find)) for kind, find in module._DECLARED)
    monkeypatch.setattr(module, "_DECLARED", declared)
    text = part * (1_000_000 // len(part))
    start = time.process_time()
    for numeric in (False, True):
        for end in ("", "\n", "x"):
            answer = final_answer(text + end, options=CITIES, numeric=numeric)
            assert agree(answer, answer) in (True, None)
    assert time.process_time() - start < 0.6  # about 0.02; what is quadratic takes seconds
    assert len(seen) <= 18
    assert max(seen, default=0) <= module._TAIL_CHARS
    assert len(decodes) <= 6 * module._MAX_OBJECTS
