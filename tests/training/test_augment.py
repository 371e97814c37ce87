"""Varied prompts keep their task, differ by chance, and share no wording with what is measured."""

import random

import pytest

from training import augment, robustness

TEXT = "A train leaves at noon and travels 240 miles in 4 hours. What is its average speed?"


def test_a_dressed_prompt_holds_the_prompt_whole() -> None:
    for seed in range(200):
        dressed = augment.add_phrases(TEXT, random.Random(seed))
        assert TEXT in dressed
        assert len(dressed) > len(TEXT)


def test_some_stay_as_they_are_and_some_change() -> None:
    changed = sum(augment.vary(TEXT, random.Random(seed)) != TEXT for seed in range(1000))
    wanted = 1 - (1 - augment.PHRASES_SHARE) * (1 - augment.TYPO_SHARE)
    assert changed / 1000 == pytest.approx(wanted, abs=0.08)


def test_the_same_dice_give_the_same_text() -> None:
    assert augment.vary(TEXT, random.Random(5)) == augment.vary(TEXT, random.Random(5))


def test_about_the_rate_of_letters_is_mistyped_and_digits_stay() -> None:
    text = TEXT * 50
    mistyped = augment.add_typos(text, random.Random(0), rate=0.05)
    assert 0.97 * len(text) < len(mistyped) < 1.03 * len(text)
    assert [c for c in mistyped if c.isdigit()] == [c for c in text if c.isdigit()]
    assert mistyped != text


def test_what_is_measured_was_not_learnt() -> None:
    learnt = {
        phrase.strip(" .,:!?").lower()
        for phrase in (*augment.GREETINGS, *augment.REQUESTS, *augment.CLOSINGS)
    }
    measured = [robustness.POLITE, robustness.INSTRUCTION, *robustness.TRANSLATED.values()]
    sentences = {
        sentence.strip(" .,:!?").lower()
        for text in measured
        for sentence in text.replace("?", ".").replace("!", ".").split(".")
        if sentence.strip()
    }
    assert not learnt & sentences
