"""Patterns and words of rules: what matches, where words end, and that time stays linear."""

import time

import pytest

from proxy.patterns import PatternError, compile_regex, compile_words, encode, fold


@pytest.mark.parametrize(
    ("word", "text", "matches"),
    [
        ("dosage", "Which DOSAGE?", True),
        ("dosage", "dosage", True),
        ("dosage", "overdosage", False),
        ("dosage", "dosages", False),
        ("dosage", "dosage-related", True),
        ("dosage", "dosage_mg", False),
        ("dosage", "dosage2", False),
        ("dosage", "the dosage's effect", True),
        ("tax return", "my tax  return", True),
        ("tax return", "my tax\nreturn", True),
        ("tax return", "my tax\N{NO-BREAK SPACE}return", True),
        ("tax return", "my tax-return", False),
        ("e-mail", "an E-Mail.", True),
        ("e-mail", "an email", False),
        ("C++", "in C++?", True),
        ("a.b", "axb", False),
        # ß and ss are the same without case.
        ("Straße", "die STRASSE", True),
        ("strasse", "die Straße", True),
        ("Straße", "die Straßen", False),
        # Two forms of the same character; a mark belongs to its letter.
        ("Diät", "die Dia\N{COMBINING DIAERESIS}t", True),
        ("caf", "cafe\N{COMBINING ACUTE ACCENT}", False),
        ("диагноз", "Какой ДИАГНОЗ?", True),
        ("диагноз", "диагнозы", False),
        # Scripts without spaces.
        ("診断", "糖尿病の診断について", True),
        ("诊断", "糖尿病の診断について", False),
        ("dosage", "请问dosage是多少", True),
        ("ยา", "กินยาอะไร", True),
        ("dosage", "\ud800 dosage", True),
    ],
)
def test_words_are_whole_words(word: str, text: str, matches: bool) -> None:
    assert compile_words([word, "not in the text"])(encode(fold(text))) is matches


def test_patterns_are_alternatives_and_search_anywhere() -> None:
    matcher = compile_regex([r"case no\. \d+", "(?i)invoice", "x|b$"])
    for text in (b"my case no. 12.", b"an INVOICE", b"b"):
        assert matcher(text)
    for text in (b"Case No. 12", b"b, and more", b""):
        assert not matcher(text)


@pytest.mark.parametrize("pattern", ["(", "[a", r"(a)\1", "(?=a)", "a{2000}", "*", "a)(b"])
def test_invalid_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_regex([pattern])


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+b", "(a*)*b", "(x+x+)+y"])
def test_exponential_patterns_take_linear_time(pattern: str) -> None:
    """In `re` each would take longer than the universe is old."""
    matcher, text = compile_regex([pattern]), b"a" * 10_000 + b"!" + b"x" * 10_000
    started = time.thread_time()
    assert not matcher(text)
    assert time.thread_time() - started < 0.05
