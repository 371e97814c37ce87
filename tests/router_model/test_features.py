"""The clipped text and its token ids."""

from router_model.features import clip, token_ids


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
