"""The options that a prompt lists."""

import pytest

from router_model.options import options_of

PROMPTS = {
    "A) Paris\nB) London": ["Paris", "London"],
    "Which is it?\n(A) Paris\n(B) London\n(C) Rome\n": ["Paris", "London", "Rome"],
    "Which is it?\nA. Paris\nB. London": ["Paris", "London"],
    "Which is it?\nA: Paris\nB: London\nC: Rome": ["Paris", "London", "Rome"],
    "**A)** Paris\n\n**B)** London": ["Paris", "London"],
    "- A. Paris\n- B. London": ["Paris", "London"],
    "Which?\nA. first\ngoes on here\nB. second": ["first", "second"],
    "Which? A) red B) blue": ["red", "blue"],
    "The best colour: (A) red, (B) blue, (C) green": ["red", "blue", "green"],
    "Q: 1?\nA. one\nB. two\nAnswer: A\n\nQ: 2?\nA. three\nB. four\nC. five\nAnswer:": [
        "three", "four", "five",
    ],
}  # fmt: skip

NO_OPTIONS = [
    "Compare (A) cats and (B) dogs.",
    "A. Only one",
    "Let P(A) = 0.5 and P(B) = 0.25. Find P(A and B).",
    "B) second\nC) third",
    "a) Prove it.\nb) Generalise it.",
    "A) x\nC) z",
    "Vitamin A. B. Smith wrote it.",
    "1. A\n2. B\n3. C",
    "def f(A): return g(B)",
    "A \nB \nC",
    "",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_options_are_found(prompt: str) -> None:
    expected = PROMPTS[prompt]
    assert options_of(prompt) == dict(zip("ABCDEF", expected, strict=False))


@pytest.mark.parametrize("prompt", NO_OPTIONS)
def test_other_prompts_list_none(prompt: str) -> None:
    assert options_of(prompt) == {}


def test_options_belong_together() -> None:
    assert options_of("A. x\n" + "filler\n" * 400 + "B. y") == {}
    assert options_of("A. x\nB. y\n" + "filler\n" * 3_000) == {}


@pytest.mark.parametrize("part", ["A) ", "A)\nB)\n", "(", " ", "\n", "A) x B) y ", "- *A.* x\n"])
def test_only_the_end_is_read(part: str) -> None:
    options = options_of(part * (1_000_000 // len(part)))
    assert len(options) <= 2
    assert sum(map(len, options.values())) <= 16_000
