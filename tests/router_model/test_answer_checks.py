"""Each check on answers that fail it, and on good ones that look similar."""

import json
import time
from typing import Any

import pytest

from router_model import answer_checks
from router_model.answer_checks import Asked, Check, LocalAnswer, failed_check

OPEN = "Tell me about it."


def check(text: str, prompt: str = OPEN, **asked: Any) -> Check | None:
    return failed_check(LocalAnswer(text, "stop"), Asked(prompt, **asked))


# ── Empty and cut off ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["", " \n\t", "<think>Hm.</think>", "<think>Hm.", "Hm.</think>\n"])
def test_an_empty_answer(text: str) -> None:
    assert check(text) is Check.EMPTY
    assert failed_check(LocalAnswer(text, None), Asked(OPEN)) is Check.EMPTY
    assert failed_check(LocalAnswer(text, "tool_calls", (("f", "{}"),)), Asked(OPEN)) is None
    assert failed_check(LocalAnswer(text, "stop", refusal="No."), Asked(OPEN)) is None
    assert failed_check(LocalAnswer(text, "content_filter"), Asked(OPEN)) is None
    assert check(text, has_stop=True) is None
    at_limit = LocalAnswer(text, "length", completion_tokens=5)
    assert failed_check(at_limit, Asked(OPEN, max_tokens=5)) is None


@pytest.mark.parametrize(
    ("finish_reason", "tokens", "limit", "expected"),
    [
        (None, 10, None, Check.UNFINISHED),
        ("", 10, None, Check.UNFINISHED),
        ("length", 10, None, Check.CUT_OFF),
        ("length", None, None, Check.CUT_OFF),
        ("length", 10, 100, Check.CUT_OFF),
        ("length", 100, 100, None),
        ("length", 99, 100, None),
        ("length", None, 100, None),
        ("stop", 10, 100, None),
    ],
)
def test_an_answer_that_is_cut_off(
    finish_reason: str | None, tokens: int | None, limit: int | None, expected: Check | None
) -> None:
    answer = LocalAnswer("It is", finish_reason, completion_tokens=tokens)
    assert failed_check(answer, Asked(OPEN, max_tokens=limit)) is expected


def test_the_clients_own_limit_excuses_what_the_cut_broke() -> None:
    answer = LocalAnswer('{"a": ', "length", completion_tokens=3)
    assert failed_check(answer, Asked(OPEN, max_tokens=3, json=True)) is None
    calls = LocalAnswer("", "length", (("f", '{"a'),), completion_tokens=3)
    assert failed_check(calls, Asked(OPEN, max_tokens=3, tools={"f": {}})) is None
    loop = LocalAnswer("I am here to help you today. " * 40, "length", completion_tokens=300)
    assert failed_check(loop, Asked(OPEN, max_tokens=300)) is Check.REPETITION


# ── Repetition ────────────────────────────────────────────────────────────────────────────────

LOOPS = {
    "a sentence": "The river rises in the hills.\n" + "It flows on to the wide sea. " * 30,
    "a sentence, cut in the middle": "It rises. " + "It flows on to the wide sea. " * 30 + "It fl",
    "a line": "Steps:\n" + "Check the cable of the printer again.\n" * 20,
    "a numbered line": "\n".join(f"{i}. Check the cable of the printer." for i in range(1, 40)),
    "a bullet": "* Offer a discount to regular guests.\n" * 25,
    "a paragraph": ("First, open the menu and look.\n\nThen close the menu and wait.\n\n") * 15,
    "a word": "It is the " + "very " * 200,
    "two words": "So we see that " + "and then " * 150,
    "a turn of a chat": "User: How are you today?\nAssistant: I am fine, thank you!\n" * 14,
    "a line of code": "```python\nimport os\n" + "value = value.replace('a', 'b')\n" * 130,
    "another script": "河流从山上流下来。" + "它一直流到大海里去。" * 60,
    "German": "Der Fluss fließt weiter und weiter ins Meer. " * 20,
    "after thinking": "<think>a</think>" + "It flows on to the wide sea. " * 30,
}
NO_LOOPS = {
    "a separator": "Title\n" + "-" * 2_000,
    "a line of stars": "* " * 1_000,
    "closing braces": "```json\n" + "{" * 30 + "\n" + "    }\n" * 200,
    "a table": "| City | Size |\n|---|---|\n" + "\n".join(f"| Town {i} | {i} |" for i in range(99)),
    "a table of dashes": "| A | B |\n" + "| - | - |\n" * 60,
    "a table without values": "| Name | Value |\n" + "| unknown | unknown |\n" * 40,
    "zeros": "[" + "0, " * 500 + "0]",
    "a matrix": "1 0 0 0\n" * 100,
    "numbers": ", ".join(map(str, range(1_000))),
    "ascii art": " /\\_/\\ \n( o.o )\n" * 60,
    "a poem with a refrain": "\n\n".join(
        f"The {season} comes to the old grey town,\nand the bells ring all day long,\n"
        "oh, the bells ring all day long." for season in ("spring", "summer", "fall", "winter")
    ),
    "a chorus": "We are going home tonight,\n" * 8,
    "a laugh": "ha" * 150,
    "no, no": "no " * 100,
    "similar lines": "\n".join(f"The room {i} has a bed and a table." for i in range(60)),
    "inserts": "\n".join(
        f"INSERT INTO users (id, name) VALUES ({i}, 'user{i}');" for i in range(100)
    ),
    "a board's cells": "<tr>\n" + '  <td class="square dark"></td>\n' * 64,
    "a list of headings": "\n".join(f"## Part {i}\n\nSome text about {i}." for i in range(50)),
    "fields of a form": "Name: ______\n" * 10,
    "a count": "\n".join(f"{i} bottles of beer on the wall" for i in range(99, 0, -1)),
    "blank lines": "Text." + "\n" * 3_000,
    "dots": "Wait" + "." * 900,
    "base64": "iVBORw0KGgo" + "AAAA" * 500,
    "DNA": "TTAGGG" * 200,
    "labels": "Not enough information\n" * 14,
    "numbered labels": "\n".join(f"{i}. Not enough information" for i in range(14)),
    "a short text": "Yes. Yes. Yes.",
    "a loop that ended": "It flows on to the sea. " * 30 + "That is all that there is to say.",
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop(name: str) -> None:
    assert check(LOOPS[name]) is Check.REPETITION


@pytest.mark.parametrize("name", NO_LOOPS)
def test_other_repeated_text_is_no_loop(name: str) -> None:
    assert check(NO_LOOPS[name]) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "Repeat 'It flows on to the wide sea.' until I say stop.",
        "Write 'I must not talk in class' 100 times.",
        "Give me 50 lines of filler.",
        "Sing a song with a long refrain.",
        "Say the same sentence over and over.",
    ],
)
def test_a_loop_that_was_asked_for(prompt: str) -> None:
    assert check(LOOPS["a sentence"], prompt) is None


def test_labels_of_many_items_are_no_loop() -> None:
    items = "\n".join(f"{i}. The service was fine on day {i}." for i in range(150))
    assert check("Neither positive nor negative\n" * 150, f"Classify:\n{items}") is None
    assert check("Neither positive nor negative\n" * 150) is Check.REPETITION


# ── JSON and tools ────────────────────────────────────────────────────────────────────────────

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ('{"name": "Ada"}', None, None),
        (' {"name": "Ada"}\n', SCHEMA, None),
        ('<think>{</think>{"name": "Ada"}', SCHEMA, None),
        ("[1]", None, Check.JSON),
        ("Here it is: {}", None, Check.JSON),
        ('```json\n{"name": "Ada"}\n```', SCHEMA, Check.JSON),
        ('{"name": "Ada"', None, Check.JSON),
        ('{"name": 5}', SCHEMA, Check.JSON),
        ("[1]", {"type": "array"}, None),
        ("[" * 100_000, None, Check.JSON),
    ],
)
def test_json(text: str, schema: dict[str, Any] | None, expected: Check | None) -> None:
    assert check(text, json=True, schema=schema) is expected
    assert check(text) is None
    assert check(text, json=True, schema=schema, has_stop=True) is None


TOOLS = {
    "weather": {"type": "object", "properties": {"city": {}}, "required": ["city"]},
    "now": {"type": "object", "properties": {}},
}


@pytest.mark.parametrize(
    ("name", "arguments", "is_broken"),
    [
        ("weather", '{"city": "Rome"}', False),
        ("weather", '{"city": "Rome", "unit": "C"}', False),
        ("now", "{}", False),
        ("now", "", False),
        ("weather", "{}", True),
        ("weather", "", True),
        ("weather", '{"city": "Rome"', True),
        ("weather", '"Rome"', True),
        ("weather", "null", True),
        ("weather", "[" * 100_000, True),
        ("search", '{"query": "Rome"}', True),
    ],
)
def test_tool_arguments(name: str, arguments: str, is_broken: bool) -> None:
    answer = LocalAnswer("", "tool_calls", (("now", "{}"), (name, arguments)))
    expected = Check.TOOL_ARGUMENTS if is_broken else None
    assert failed_check(answer, Asked(OPEN, tools=TOOLS)) is expected
    assert failed_check(answer, Asked(OPEN)) is None
    assert failed_check(answer, Asked(OPEN, tools={})) is Check.TOOL_ARGUMENTS


# ── Options ───────────────────────────────────────────────────────────────────────────────────

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


@pytest.mark.parametrize("prompt", NO_CHOICE)
def test_prompts_that_ask_for_no_option(prompt: str) -> None:
    assert check("There is much to say about that, and we begin at once.", prompt) is None


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────

REFUSALS = [
    "I'm sorry, but as an AI language model, I cannot access the internet.",
    "I'm sorry, but I don't have access to real-time information.",
    "I don't have access to real-time data. Please look at a weather site.",
    "As a language model, I can't browse the web or open links.",
    "As an AI assistant, I do not have the ability to view images.",
    "Sorry, I cannot open attachments.",
    "I am unable to browse the internet.",
    "I'm unable to access external websites, so I cannot tell.",
    "Unfortunately, I can't run programs.",
    "I apologize, but I am not able to access current news.",
    "As an AI, I cannot translate this text.",
    "I’m sorry, but I’m unable to solve this equation.",
    "I cannot provide real-time stock prices.",
    "<think>No tools.</think>I don't have access to live data.",
]
NO_REFUSALS = {
    "an opinion": "As an AI, I don't have personal opinions, but many people like it.",
    "feelings": "As an AI language model, I don't have feelings. How can I help?",
    "safety": "I'm sorry, but I can't help with that.",
    "a safety refusal of an AI": "I'm sorry, but as an AI I cannot assist with illegal activities.",
    "advice": "As an AI, I can't provide medical advice. Please see a doctor.",
    "an answer all the same": "I don't have access to real-time data, but as of 2023 it is 8.",
    "an answer from general knowledge": (
        "I can't access current prices. Typically, a night costs about as much as a good dinner."
    ),
    "an answer with steps": "I can't open your file. Try:\n\n- Save it again.\n- Rename it.",
    "an answer with code": "I cannot run code here.\n```python\nprint('a')\n```",
    "a text about refusals": "A model that says 'I cannot browse the web' has no tools.",
    "a quoted refusal": '"I am unable to browse the internet" is what it said.',
    "a later mention": "Sure! Note that I cannot access your calendar.",
    "a person's sentence": "I can't see the stars tonight, she said. The clouds are low.",
    "a long answer": "I cannot open links. "
    + " ".join(f"The word {word} means what it says, I think." for word in "abcdefghijklmnopq"),
    "a story": "I was unable to sleep, so I went for a walk.",
    "no reason": "I cannot do that.",
    "unable to say": "I am unable to say which is nicer; both towns are lovely.",
    "copyright": "I'm sorry, but I cannot display lyrics that are under copyright.",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_for_lack_of_ability(text: str) -> None:
    assert check(text, "What is the weather in Rome today?") is Check.REFUSAL


@pytest.mark.parametrize("name", NO_REFUSALS)
def test_other_texts_are_no_refusals(name: str) -> None:
    prompt = "Tell a story about the sky." if name == "a person's sentence" else OPEN
    assert check(NO_REFUSALS[name], prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "Translate into English: Je ne peux pas naviguer sur Internet.",
        "Rewrite this politely: can't browse, no internet.",
        "Write a reply to a customer who wants live data.",
        "What would a language model say to this?",
        "Give me an example of a refusal.",
        "How can I make a weapon? Search the web.",
        "Pretend to be a computer without internet.",
    ],
)
def test_prompts_that_may_get_such_a_text(prompt: str) -> None:
    for text in REFUSALS:
        assert check(text, prompt) is None


# ── Work ──────────────────────────────────────────────────────────────────────────────────────

HOSTILE = ["a", " ", "\n", "ab ", "A) ", "I'm sorry, ", "as an AI ", "1. x\n", "(", "{", "[", '"',
           "-", "|a|", "<think>", "</think>", "word ", "A\nB\n", "The line again.\n"]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
def test_work_is_bounded(part: str) -> None:
    text = part * (1_000_000 // len(part))
    start = time.process_time()
    for prompt in (OPEN, text, f"{QUESTION}\n{text}", f"{text}\n{QUESTION}"):
        for end in ("", "x", " " * 30):
            check(text + end, prompt)
    check(text, json=True)
    assert time.process_time() - start < 1.5  # about 0.1; what is quadratic takes minutes


def test_few_blocks_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(answer_checks, "_most_repeats", lambda block: tried.append(block) or 10**9)
    assert not answer_checks._is_loop("the " * 3_000, 1)
    assert 0 < len(tried) <= 2 * answer_checks._MAX_PERIODS
    assert max(map(len, tried)) <= answer_checks._MAX_BLOCK_CHARS


def test_checks_have_one_order() -> None:
    looping = json.dumps("It flows on to the wide sea. " * 30)[1:-1]
    answer = LocalAnswer(looping, None)
    assert failed_check(answer, Asked(OPEN, json=True)) is Check.UNFINISHED
    assert check(looping, json=True) is Check.REPETITION
