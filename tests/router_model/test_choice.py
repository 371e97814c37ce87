"""Answers that name an option, and prompts that ask for one."""

import pytest

from router_model.answer_checks import Asked, Check, LocalAnswer, failed_check


def check(text: str, prompt: str) -> Check | None:
    return failed_check(LocalAnswer(text, "stop"), Asked(prompt))


CITIES = "A. London\nB. Madrid\nC. Paris\nD. Rome"
QUESTION = f"Which of the following is the capital of France?\n{CITIES}"

WITH_OPTION = [
    "C",
    "(c)",
    "**C**",
    "The answer is C.",
    "The correct answer is (C) Paris.",
    "C) Paris",
    "Paris",
    "Paris is the capital of France.",
    "It is on the Seine, which leaves Paris, of course.",
    "London, Madrid and Rome are capitals of other countries, so it must be Paris!",
    "I believe that option C fits best here.",
    "None of the options is right.",
    "It is not listed.",
    "Both B and C could be meant.",
    '{"choice": "C"}',
    "Do you mean the capital today?",
    "Réponse : C",
    "$\\boxed{C}$",
    "c)",
    "(c) is the capital",
    "It's the one on the Seine, option c.",
    "It is the third one.",
    "Answer: (c), which I am sure of",
    "PARIS",
]
WITHOUT_OPTION = [
    "France is a country in Europe with a long history.",
    "The capital of France is Lyon.",
    "I would need to think about this for longer.",
    "Let us look at the history of France. It was a kingdom until 1792.",
    "The answer is: Lyon",
    "F",
    "Sure! I can help with that.",
    "A good question. The capital of a country is where its government is.",
    "42",
    "The answer depends only upon geography and cannot be found.",
    "La capitale de la France est une belle ville.",
    "Step 1: List the cities.\nStep 2: Look at a map.",
]
NO_CHOICE = [
    "Define these terms:\nA. Osmosis\nB. Diffusion\nC. Active transport",
    "Solve:\nA. x+2=4\nB. x+3=9\nC. x-1=0",
    "Here's my plan, is it ok?\nA. Buy milk\nB. Go home\nC. Sleep",
    "Answer the following:\nA. What is 2+2?\nB. What is 3+3?\nC. What is 4+4?",
    "Give the correct answer to:\nA. 2+2\nB. 3+3\nC. 4+4",
    "What is the answer?\nA. What is 2+2?\nB. What is 3+3?\nC. What is 4+4?",
    "What do you think of these agenda points?\nA. Budget\nB. Hiring\nC. Offsite",
    "Can you help me plan the following:\nA. Rome\nB. Oslo\nC. Bern",
    "Can we do it in this order?\nA. Rome\nB. Oslo\nC. Bern",
    "What is the difference between the items?\nA. A lion\nB. A tiger\nC. A leopard",
    "What should I do next?\nA. Buy milk\nB. Go home\nC. Sleep",
    "SQL: select from the users.\nWhat is wrong with my query?\nA. x\nB. y\nC. z",
    "My notes:\nA. Explain recursion\nB. Write a loop\nC. Prove it\nWhich of these is first?",
    f"Explain each of these in a sentence.\n{CITIES}",
    f"Select all that apply: which of these are in Europe?\n{CITIES}",
    f"Translate this question into French: which of the following is it?\n{CITIES}",
    f"Write a similar question about Spain.\n{QUESTION}",
    f"{QUESTION}\n\nProofread this quiz.",
    f"My outline:\n{CITIES}\nWhat do you think?",
    f"Here are my notes.\n{CITIES}",
    f"Rank the options from north to south.\n{CITIES}",
    f"Which of the following are capitals?\n{CITIES}",
    f"Match the cities to their countries. Which of the following is first?\n{CITIES}",
    "Which of the following should I learn first?\n1. Python\n2. Rust",
    f"Convert it to JSON: which of the following is it?\n{CITIES}",
    "A: How are you?\nB: Fine.\nWhat does B mean?",
    "Compare (A) cats and (B) dogs.",
    "What is the best way to choose a bicycle?",
]


@pytest.mark.parametrize("text", WITH_OPTION)
def test_an_answer_with_an_option(text: str) -> None:
    assert check(text, QUESTION) is None


@pytest.mark.parametrize("text", WITHOUT_OPTION)
@pytest.mark.parametrize(
    "prompt",
    [
        QUESTION,
        f"The capital of France is ____\n{CITIES}",
        f"What is the capital of France?\n\n{CITIES}\n\nAnswer with only the letter.",
        f"Choose the correct answer. The capital of France:\n{CITIES}",
    ],
)
def test_an_answer_without_an_option(text: str, prompt: str) -> None:
    expected = None if "depends" in text else Check.NO_OPTION
    assert check(text, prompt) is expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("A) 1500 g\nB) 150 g\nC) 15 g", "1,500 grams"),
        ("A. PostgreSQL (relational)\nB. MongoDB (document)\nC. Redis", "PostgreSQL fits best."),
        ("A. The sky is blue.\nB. Water is wet.\nC. Fire is cold.", "Fire is hot, in fact."),
        ("A. He go\nB. He goes\nC. He going", "*He goes* is right"),
        ("A. 巴黎\nB. 里昂\nC. 马赛", "是巴黎"),
    ],
)
def test_an_option_in_other_words(options: str, text: str) -> None:
    assert check(text, f"Which of the following is it?\n{options}") is None
    assert check("I would rather not.", f"Which of the following is it?\n{options}") is (
        Check.NO_OPTION
    )


@pytest.mark.parametrize("prompt", NO_CHOICE)
def test_prompts_that_ask_for_no_option(prompt: str) -> None:
    assert check("There is much to say about that, and we begin at once.", prompt) is None
