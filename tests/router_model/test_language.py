"""The language of a text."""

import pytest

from router_model.language import LANGUAGES, is_loaded, language_of, load


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Explain the difference between TCP and UDP.", "en"),
        ("Wie hoch ist die Dosis von Ibuprofen?", "de"),
        ("Quelle est la capitale de la France ?", "fr"),
        ("¿Cuál es la capital de Perú?", "es"),
        ("Какая столица Франции?", "ru"),
        ("写一首关于春天的诗", "zh"),
        ("こんにちは、元気ですか", "ja"),
        # Too short, or no language.
        ("", None),
        ("Hello", None),
        ("2 + 2 = 4, 3 + 3 = 6, 4 + 4 = 8", None),
        ("def f(x): return x+1", None),
    ],
)
def test_language(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_languages_are_those_of_the_model() -> None:
    assert {label for label in load().labels if len(label) == 2} == LANGUAGES
    assert is_loaded()
