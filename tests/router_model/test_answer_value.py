"""Short answers that are written differently are compared by value."""

import ast

import pytest

from router_model import answer_value
from router_model.answer_value import same_value

EQUAL = [
    ("1,000", "1000.0"),
    ("0", "0.0"),
    ("1/2", "0.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"-\dfrac{3}{4}", "-3/4"),
    (r"2\frac{1}{2}", "5/2"),
    ("1e3", "1000"),
    (r"1.2 \times 10^5", "120,000"),
    (r"1.2 \times 10^{-2}", "0.012"),
    ("$3.50", "3.5"),
    (r"\$18", "18 dollars"),
    ("50%", "50"),
    ("50%", "0.5"),
    (r"50\%", "1/2"),
    ("200 feet", "200"),
    ("5 km", "5 kilometers"),
    ("12 duck eggs", "12 eggs"),
    (r"12\text{ cm}", "12 cm"),
    (r"90^\circ", "90 degrees"),
    ("3 million", "3,000,000"),
    ("three", "3"),
    ("x = 5", "5"),
    ("40 * 2 = 80", "80"),
    ("approximately 11.43 minutes", "11.4286"),
    ("−4", "-4"),
    ("$x^2 + 1$", "x^2+1"),
    (r"\left( 3, 4 \right)", "(3,4)"),
    (r"4\sqrt{3}", "4√3"),
    (r"9 \cdot \sqrt{2}", "9*sqrt(2)"),
    (r"\text{Paris}", "paris."),
    ("**Paris**", '"Paris"'),
    ("The  Danube", "the danube"),
    ("[1,2, 3]", "[1, 2, 3]"),
    ("[1.0, 2]", "[1, 2.0]"),
    ("{'a': 1, 'b': 2}", '{"b": 2, "a": 1}'),
    ("{1, 2}", "{2, 1}"),
    (r"\{1, 2\}", "{2,1}"),
    ("'abc'", "abc"),
    ("True", "true"),
    ("It flows through ten countries of Europe", "it flows through ten countries of Europe."),
]  # fmt: skip

DIFFERENT = [
    ("1,000", "100"),
    ("5 hours", "5 minutes"),
    ("5 am", "5 pm"),
    ("50%", "5"),
    ("0.33", "0.34"),
    ("3.5", "3.14159"),
    ("1/0", "1"),
    ("007", "7"),
    ("5x", "5"),
    ("2 pi", "2"),
    ("4 blue, 6 red", "6"),
    ("x = 1, y = 2", "2"),
    ("[1, 2]", "[2, 1]"),
    ("[1, 2]", "(1, 2)"),
    ("[True]", "[1]"),
    ("'Abc'", "'abc'"),
    ("['a b']", "['ab']"),
    ("Paris", "London"),
    (r"4\sqrt{3}", r"3\sqrt{4}"),
    ("x^2+1", "x^2-1"),
    ("None", "0"),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_equal_values(a: str, b: str) -> None:
    assert same_value(a, b) is True
    assert same_value(b, a) is True


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_different_values(a: str, b: str) -> None:
    assert same_value(a, b) is False
    assert same_value(b, a) is False
    assert same_value(a, a) is True


def test_different_sentences_are_not_compared() -> None:
    a = "There are 4 positive integer values of k."
    assert same_value(a, "4") is None
    assert same_value(a, "Four such values exist, all of them odd.") is None
    assert same_value(a, a) is True


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500 + "]" * 500,
        "[" * 1_000,
        "(" * 90 + "1," + ")" * 90,
        "{" * 300,
        "[" + "1," * 999 + "]",
    ],
)
def test_a_literal_is_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    real = ast.literal_eval
    monkeypatch.setattr(ast, "literal_eval", lambda text: parsed.append(text) or real(text))
    assert same_value(text, "1") is False
    assert all(len(text) <= answer_value.MAX_ANSWER_CHARS for text in parsed)


@pytest.mark.parametrize(
    "text",
    ["[1or 2]", r"['\d']", "[__import__('os')]", "[x for x in (1,)]", "[9**9**9]", "[f'{1}']"],
)
def test_only_literals_are_parsed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> None:
        pytest.fail(f"parsed {text}")

    monkeypatch.setattr(ast, "literal_eval", refuse)
    assert same_value(text, text) is True
