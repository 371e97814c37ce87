"""What a second look reads from local answers."""

import math

import pytest

from router_model.second_look import Token, evidence_of, yes_probability

OPTIONS = "Which is a fruit?\nA) iron\nB) apple\nC) chair"


def tokens(*parts: tuple[str, float, float | None]) -> list[Token]:
    return [Token(*part) for part in parts]


@pytest.mark.parametrize(
    ("prompt", "first", "second", "agrees"),
    [
        (OPTIONS, "The answer is B.", "B) apple", True),
        (OPTIONS, "The answer is B.", "C", False),
        ("How many legs has a spider?", "It has 8 legs.", "8", True),
        ("How many legs has a spider?", "It has 8 legs.", "I am not sure.", None),
        ("Write a poem.", "Roses are red.", "Violets are blue.", None),
        ("Solve it.", "So \\boxed{1/2}", "\\boxed{0.5}", True),
    ],
)
def test_final_answers_are_compared(
    prompt: str, first: str, second: str, agrees: bool | None
) -> None:
    evidence = evidence_of(prompt, first, second=second, second_model="llama")
    assert evidence.agrees is agrees
    assert evidence.second == "llama"
    assert evidence.broken == (prompt == "Write a poem.")


def test_without_a_second_answer_nothing_is_compared() -> None:
    evidence = evidence_of("How many legs?", "It has 8.", second_model="llama")
    assert (evidence.agrees, evidence.second) == (None, None)
    assert (evidence.mean_logprob, evidence.lowest_logprob, evidence.margin) == (None,) * 3


def test_log_probabilities_are_summed_up() -> None:
    known = tokens(("It has ", -0.2, 1.0), ("8", -1.0, 0.5), (" legs.", -0.3, 3.0))
    evidence = evidence_of("How many legs has a spider?", "It has 8 legs.", tokens=known)
    assert evidence.mean_logprob == pytest.approx(-0.5)
    assert evidence.lowest_logprob == -1.0
    assert evidence.margin == 0.5


def test_the_margin_is_that_of_the_last_place_and_the_least_sure_token() -> None:
    known = tokens(
        ("B", -1, 0.1), (" or", -1, 0.2), ("? ", -1, 0.3),
        ("Because", -1, 0.4), (" the answer is ", -1, 5.0), ("B", -1, 2.5), (".", -1, 0.6),
    )  # fmt: skip
    answer = "".join(token.text for token in known)
    assert evidence_of(OPTIONS, answer, tokens=known).margin == 2.5
    number = tokens(("It is ", -1, 9.0), ("1", -1, 4.0), ("2", -1, 1.5), (" metres.", -1, 0.1))
    assert evidence_of("How long is it?", "It is 12 metres.", tokens=number).margin == 1.5


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_odd_log_probabilities_do_not_count(odd: float) -> None:
    known = tokens(("8", odd, odd), (" legs", -0.5, 1.0))
    evidence = evidence_of("How many legs has a spider?", "8 legs", tokens=known)
    assert (evidence.mean_logprob, evidence.lowest_logprob) == (-0.5, -0.5)
    assert evidence.margin in (None, 1.0)


@pytest.mark.parametrize(
    ("choices", "probability"),
    [
        ({"Yes": math.log(0.6), " No": math.log(0.2)}, 0.75),
        ({"yes": math.log(0.3), "Yes": math.log(0.3), "NO": math.log(0.2)}, 0.75),
        ({"Yes": -0.1}, 1.0),
        ({"No.": -0.1}, 0.0),
        ({"The": -0.1}, None),
        ({"yes": 1e9, "no": -1e9}, 1.0),
        ({}, None),
    ],
)
def test_the_probability_of_yes(choices: dict[str, float], probability: float | None) -> None:
    assert yes_probability(choices) == (probability and pytest.approx(probability))
