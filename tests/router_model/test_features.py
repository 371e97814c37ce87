"""The routing text and its token ids."""

import pytest

from router_model import features
from router_model.features import clip, routing_text, token_ids

LONG_QUESTION = "Explain how a heat pump moves heat from a cold place to a warm one. " * 3


def test_last_user_message_is_the_task() -> None:
    messages = [
        ("user", "An earlier and unrelated question about sourdough bread."),
        ("assistant", "Some answer."),
        ("user", LONG_QUESTION),
    ]
    assert routing_text(messages) == LONG_QUESTION.strip()


def test_system_prompt_is_ignored() -> None:
    bare = [("user", "What is 2+2?")]
    assert routing_text([("system", "You are a pirate. " * 500), *bare]) == routing_text(bare)
    assert routing_text([("developer", "Be terse."), *bare]) == "What is 2+2?"


def test_short_follow_up_includes_earlier_user_turns() -> None:
    text = routing_text(
        [
            ("user", "Write a lock-free queue in C++."),
            ("assistant", "assistant words"),
            ("tool", "tool words"),
            ("user", "and in Rust?"),
        ]
    )
    assert text == "Write a lock-free queue in C++.\nand in Rust?"


def test_earlier_turns_are_limited_to_the_newest() -> None:
    turns = [("user", f"turn {i} " + "x" * 200) for i in range(50)]
    text = routing_text([*turns, ("user", "why?")])
    assert "turn 49" in text
    assert "turn 10 " not in text
    assert text.endswith("why?")
    assert len(text) < features.EARLIER_TURNS_CHARS + features.SHORT_FOLLOW_UP_CHARS + 50


def test_long_earlier_turn_keeps_its_start() -> None:
    text = routing_text([("user", "Prove the lemma. " + "y" * 9000), ("user", "shorter please")])
    assert text.startswith("Prove the lemma.")
    assert text.endswith("shorter please")


@pytest.mark.parametrize(
    "messages", [[], [("system", "x")], [("user", "  \n")], [("assistant", "hi")]]
)
def test_conversation_without_user_text_is_empty(messages: list[tuple[str, str]]) -> None:
    assert routing_text(messages) == ""


def test_blank_last_turn_is_skipped() -> None:
    assert routing_text([("user", LONG_QUESTION), ("user", " ")]) == LONG_QUESTION.strip()


def test_clip_keeps_head_and_tail_and_is_idempotent() -> None:
    text = "HEAD " + "m" * 100_000 + " TAIL"
    clipped = clip(text)
    assert clipped.startswith("HEAD")
    assert clipped.endswith("TAIL")
    assert len(clipped) < 2400
    assert clip(clipped) == clipped
    assert clip("short") == "short"


class _Encoding:
    def __init__(self, ids: list[int]) -> None:
        self.ids = ids


class _CharacterTokenizer:
    """A tokenizer with one token per character, between 101 and 102."""

    def encode(self, text: str) -> _Encoding:
        return _Encoding([101, *(ord(c) for c in text), 102])


def test_token_ids_omit_the_middle() -> None:
    text = "a" * 50 + "b" * 50
    ids = token_ids(_CharacterTokenizer(), text, max_length=20)  # type: ignore[arg-type]
    assert len(ids) == 20
    assert ids[0] == 101
    assert ids[-1] == 102
    assert ids.count(ord("a")) == 11
    assert ids.count(ord("b")) == 7
    assert token_ids(_CharacterTokenizer(), "abc", max_length=20) == [101, 97, 98, 99, 102]  # type: ignore[arg-type]
