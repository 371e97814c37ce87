"""The category of a prompt, for realistic prompts and adversarial texts."""

import time

import pytest

from router_model.categories import CATEGORIES, category_of

EXPECTED = {
    "Write a Python function that reverses a list": "code",
    "Why does this fail?\n```\nx = foo()\n```": "code",
    "How do I undo the last commit in bash?": "code",
    "Fix the bug in my SQL query": "code",
    "Optimise this C++ loop": "code",
    "Solve the equation for x": "maths",
    "What is 17 * 23?": "maths",
    "2+2=?": "maths",
    r"Evaluate \int_0^1 \frac{1}{x} dx": "maths",
    "Calculate the probability of two sixes": "maths",
    "What is 15 percent of 80?": "maths",
    "Translate 'good morning' into French": "translation",
    "translate: Guten Tag": "translation",
    "Summarize this article in three sentences: …": "summary",
    "TLDR please: a long story about a king": "summary",
    "Extract all names from the text below": "extraction",
    "Classify the sentiment of this review": "extraction",
    "Write a poem about the sea": "writing",
    "Draft an email to my landlord": "writing",
    "Please rephrase this sentence.": "writing",
    "Explain the difference between TCP and UDP": "reasoning",
    "Compare these two plans": "reasoning",
    "Why is the sky blue?": "reasoning",
    "What is the capital of France?": "question",
    "who painted the Mona Lisa": "question",
    "And Italy?": "question",
    "Hello there": "other",
    "Grüß dich, wie geht's": "other",
    "state-of-the-art": "other",
    "": "other",
    "🙂": "other",
}


@pytest.mark.parametrize(("text", "category"), EXPECTED.items())
def test_prompt_has_the_expected_category(text: str, category: str) -> None:
    assert category_of([("user", text)]) == category


def test_examples_cover_every_category() -> None:
    assert set(EXPECTED.values()) == set(CATEGORIES)


def test_last_user_message_decides() -> None:
    turns = [
        ("system", "You write Python code."),
        ("user", "Translate this."),
        ("assistant", "What?"),
        ("user", "Write a poem."),
        ("assistant", "Solve the equation."),
    ]
    assert category_of(turns) == "writing"
    assert category_of([]) == "other"
    assert category_of([("system", "Translate everything.")]) == "other"


def test_both_ends_of_a_long_text_are_read() -> None:
    filler = "lorem ipsum " * 10_000
    assert category_of([("user", f"Translate this: {filler}")]) == "translation"
    assert category_of([("user", f"{filler}\nTranslate that.")]) == "translation"
    assert category_of([("user", f"{filler} translate {filler}")]) == "other"


@pytest.mark.parametrize("piece", ["a", "1 + ", "\\", "`", "x=", "\n", "漢", "word "])
def test_time_is_bounded_for_long_texts(piece: str) -> None:
    turns = [("user", piece * (10_000_000 // len(piece)))]
    started = time.thread_time()
    for _ in range(20):
        category_of(turns)
    # Reading the whole text would take a second.
    assert (time.thread_time() - started) / 20 < 0.005
