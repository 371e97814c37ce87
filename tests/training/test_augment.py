"""Varied prompts keep their task, are random, and share no wording with the robustness tests."""

import random

import pytest

from training import augment, robustness

TEXT = "A train leaves at noon and travels 240 miles in 4 hours. What is its average speed?"


def test_dressed_prompt_contains_the_original_prompt() -> None:
    for seed in range(200):
        dressed = augment.add_phrases(TEXT, random.Random(seed))
        assert TEXT in dressed
        assert len(dressed) > len(TEXT)


def test_expected_share_of_prompts_is_varied() -> None:
    changed = sum(augment.vary(TEXT, random.Random(seed)) != TEXT for seed in range(1000))
    expected = 1 - (1 - augment.PHRASES_SHARE) * (1 - augment.TYPO_SHARE)
    assert changed / 1000 == pytest.approx(expected, abs=0.08)


def test_equal_seeds_give_equal_text() -> None:
    assert augment.vary(TEXT, random.Random(5)) == augment.vary(TEXT, random.Random(5))


def test_mistyping_follows_the_rate_and_keeps_digits() -> None:
    text = TEXT * 50
    mistyped = augment.add_typos(text, random.Random(0), rate=0.05)
    assert 0.97 * len(text) < len(mistyped) < 1.03 * len(text)
    assert [c for c in mistyped if c.isdigit()] == [c for c in text if c.isdigit()]
    assert mistyped != text


def test_robustness_phrases_are_not_used_in_training() -> None:
    trained = {
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
    assert not trained & sentences
