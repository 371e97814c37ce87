"""What enters the score and what does not."""

import pytest

from router_model import features
from router_model.features import clip, routing_text, token_ids

LONG_QUESTION = "Explain how a heat pump moves heat from a cold place to a warm one. " * 3


def test_the_last_user_message_is_the_task() -> None:
    messages = [
        ("user", "An earlier and unrelated question about sourdough bread."),
        ("assistant", "Some answer."),
        ("user", LONG_QUESTION),
    ]
    assert routing_text(messages) == LONG_QUESTION.strip()


def test_a_system_prompt_changes_nothing() -> None:
    bare = [("user", "What is 2+2?")]
    assert routing_text([("system", "You are a pirate. " * 500), *bare]) == routing_text(bare)
    assert routing_text([("developer", "Be terse."), *bare]) == "What is 2+2?"


def test_a_short_follow_up_brings_the_earlier_user_turns_along() -> None:
    text = routing_text(
        [
            ("user", "Write a lock-free queue in C++."),
            ("assistant", "assistant words"),
            ("tool", "tool words"),
            ("user", "and in Rust?"),
        ]
    )
    assert text == "Write a lock-free queue in C++.\nand in Rust?"


def test_earlier_turns_are_bounded_and_the_newest_are_kept() -> None:
    turns = [("user", f"turn {i} " + "x" * 200) for i in range(50)]
    text = routing_text([*turns, ("user", "why?")])
    assert "turn 49" in text
    assert "turn 10 " not in text
    assert text.endswith("why?")
    assert len(text) < features.EARLIER_TURNS_CHARS + features.SHORT_FOLLOW_UP_CHARS + 50


def test_a_long_earlier_turn_keeps_its_start() -> None:
    text = routing_text([("user", "Prove the lemma. " + "y" * 9000), ("user", "shorter please")])
    assert text.startswith("Prove the lemma.")
    assert text.endswith("shorter please")


@pytest.mark.parametrize(
    "messages", [[], [("system", "x")], [("user", "  \n")], [("assistant", "hi")]]
)
def test_nothing_to_score_is_an_empty_text(messages: list[tuple[str, str]]) -> None:
    assert routing_text(messages) == ""


def test_a_blank_last_turn_does_not_hide_the_task() -> None:
    assert routing_text([("user", LONG_QUESTION), ("user", " ")]) == LONG_QUESTION.strip()


def test_clip_keeps_head_and_tail_and_is_idempotent() -> None:
    text = "HEAD " + "m" * 100_000 + " TAIL"
    once = clip(text)
    assert once.startswith("HEAD")
    assert once.endswith("TAIL")
    assert len(once) < 2400
    assert clip(once) == once
    assert clip("short") == "short"


class _Encoding:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class _Characters:
    """A tokenizer with one token a character, between 101 and 102."""

    def encode(self, text: str) -> _Encoding:
        return _Encoding([101, *(ord(c) for c in text), 102])


def test_token_ids_leave_out_the_middle() -> None:
    text = "a" * 50 + "b" * 50
    ids = token_ids(_Characters(), text, max_length=20)  # type: ignore[arg-type]
    assert len(ids) == 20
    assert ids[0] == 101
    assert ids[-1] == 102
    assert ids.count(ord("a")) == 11
    assert ids.count(ord("b")) == 7
    assert token_ids(_Characters(), "abc", max_length=20) == [101, 97, 98, 99, 102]  # type: ignore[arg-type]
