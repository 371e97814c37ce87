"""Loops that a text ends in, and right texts that repeat."""

from typing import Any

import pytest

from router_model import repetition
from router_model.repetition import repeats_itself

OPEN = "Tell me about it."
SENTENCE = "Then the cat sat down on the mat again. "

LOOPS = {
    "a sentence": "The river rises in the hills.\n" + "It flows on to the wide sea. " * 40,
    "a sentence, cut in the middle": "It rises. " + "It flows on to the wide sea. " * 40 + "It fl",
    "a line": "Steps:\n" + "Check the cable of the printer again.\n" * 30,
    "a numbered line": "\n".join(f"{i}. Check the cable of the printer." for i in range(1, 50)),
    "a bullet": "* Offer a discount to regular guests.\n" * 30,
    "a paragraph": ("First, open the menu and look.\n\nThen close the menu and wait.\n\n") * 25,
    "a word": "It is the " + "very " * 400,
    "two words": "So we see that " + "and then " * 200,
    "a turn of a chat": "User: How are you today?\nAssistant: I am fine, thank you!\n" * 30,
    "a line of code": "```python\nimport os\n" + "value = value.replace('a', 'b')\n" * 200,
    "another script": "河流从山上流下来。" + "它一直流到大海里去。" * 90,
    "German": "Der Fluss fließt weiter und weiter ins Meer. " * 30,
    "a mark": "Wait" + "!" * 4_000,
    "a token": "Hello" + "<unk>" * 1_000,
}
# Loops that are so long that no text which a model has ended has them.
LONG_LOOPS = {
    "a sentence": SENTENCE * 200,
    "a line": "Check the cable of the printer again.\n" * 250,
    "a numbered line": "\n".join(f"{i}. Check the cable of the printer." for i in range(400)),
    "a paragraph": "First, open the menu and look.\n\nThen close the menu and wait.\n\n" * 150,
    "a word": "the " * 2_000,
    "another script": "它一直流到大海里去。" * 800,
    "a mark": "!" * 12_000,
    "a letter": "G" * 12_000,
    "a token": "Hello" + "<unk>" * 2_000,
    "a replacement": "Hi" + "\ufffd" * 10_000,
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
    "log lines": "INFO worker heartbeat ok, queue empty\n" * 13,
    "many log lines": "INFO worker heartbeat ok, queue empty\n" * 100,
    "30 labels": "\n".join(f"{i}. Not spam - legitimate message" for i in range(1, 31)),
    "bullets of labels": "- Positive sentiment, recommends product\n" * 20,
    "asserts": "        self.assertTrue(result is not None)\n" * 15,
    "replicas": "- image: nginx latest alpine\n  restartPolicy: always unless stopped\n" * 14,
    "circles": '<circle cx="10" cy="10" r="5" fill="red"/>\n' * 130,
    "a large grid": '<div class="cell empty"></div>\n' * 400,
    "a scream": "A" * 350 + "!",
    "an ended loop of sentences": "It flows on to the wide sea. " * 100,
    "a loop that ended": "It flows on to the sea. " * 30 + "That is all that there is to say.",
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_was_cut_off(name: str) -> None:
    assert repeats_itself(LOOPS[name].strip(), OPEN, is_cut=True)
    assert not repeats_itself(f"{LOOPS[name]}\nThat is all.", OPEN, is_cut=True)


@pytest.mark.parametrize("name", LONG_LOOPS)
def test_a_very_long_loop(name: str) -> None:
    text = LONG_LOOPS[name].strip()
    assert repeats_itself(text, OPEN, is_cut=False)
    assert repeats_itself(text, OPEN, is_cut=True)
    assert not repeats_itself(text[:5_000], OPEN, is_cut=False)


@pytest.mark.parametrize("name", NO_LOOPS)
def test_other_repeated_text_is_no_loop(name: str) -> None:
    assert not repeats_itself(NO_LOOPS[name].strip(), OPEN, is_cut=False)


@pytest.mark.parametrize(
    "prompt",
    [
        "Repeat 'It flows on to the wide sea.' until I say stop.",
        "Write 'I must not talk in class' 100 times.",
        "Give me 50 lines of filler.",
        "Give me 100 sample log lines.",
        "Sing a song with a long refrain.",
        "Say the same sentence over and over.",
    ],
)
def test_a_loop_that_was_asked_for(prompt: str) -> None:
    assert not repeats_itself(SENTENCE * 200, prompt, is_cut=False)
    assert not repeats_itself(LOOPS["a sentence"], prompt, is_cut=True)


@pytest.mark.parametrize(
    "prompt",
    [
        "Explain this regex pattern",
        "What is a pattern in software, and who wrote about it?",
        "Why do people like this song?",
        "How many copies did the book sell?",
        "Answer briefly and do not repeat yourself.",
        "\n".join(f"line {i}" for i in range(160)),
        "\n".join(f"line {i}" for i in range(1_000)),
    ],
)
def test_prompts_that_ask_for_no_loop(prompt: str) -> None:
    assert repeats_itself(SENTENCE * 200, prompt, is_cut=False)


@pytest.mark.parametrize(
    "prompt",
    [
        "12000 zeros, please",
        "An 80x80 matrix of zeros",
        "base64 of 9 kB of zero bytes",
        "ASCII art",
    ],
)
def test_data_that_was_asked_for(prompt: str) -> None:
    assert not repeats_itself("0" * 12_000, prompt, is_cut=False)
    assert repeats_itself("0" * 12_000, OPEN, is_cut=False)


def test_labels_of_many_items_are_no_loop() -> None:
    label = "Neither positive nor negative, and no request\n"
    for sign in ("\n", "; ", " | "):
        items = sign.join(f"{i}. The service was fine on day {i}." for i in range(250))
        assert not repeats_itself((label * 250).strip(), f"Classify:\n{items}", is_cut=False)
    assert repeats_itself((label * 250).strip(), OPEN, is_cut=False)


def test_few_blocks_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def record(block: str) -> Any:
        tried.append(block)
        return "code"

    monkeypatch.setattr(repetition, "_kind", record)
    assert not repeats_itself("the " * 3_000, OPEN, is_cut=False)
    assert 0 < len(tried) <= repetition._MAX_PERIODS + 1


@pytest.mark.parametrize(
    ("text", "period", "chars"),
    [("ababab", 2, 6), ("xababab", 2, 6), ("aaaa", 1, 4), ("abc", 1, 1), ("abcabd", 3, 3)],
)
def test_the_length_of_a_loop(text: str, period: int, chars: int) -> None:
    assert repetition._periodic_chars(text, period) == chars
