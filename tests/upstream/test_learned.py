"""What a tier has learned of its server: by model, for a while, and within a limit."""

from typing import Final

from proxy.protocol.refusals import RefusedField
from proxy.upstream.learned import FEATURES_SECONDS, FIELDS_SECONDS, MAX_ENTRIES, Learned

CHAT: Final = "/chat/completions"
TOP_K: Final = RefusedField("top_k")
SEED: Final = RefusedField("seed", b"1")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_fields_are_of_one_model_and_endpoint() -> None:
    learned = Learned()
    learned.note_field("a", CHAT, TOP_K)
    learned.note_field("a", CHAT, SEED)
    learned.note_field("a", CHAT, TOP_K)
    assert learned.fields("a", CHAT) == [SEED, TOP_K]
    assert learned.fields("a", "/completions") == learned.fields("b", CHAT) == []


def test_all_is_forgotten() -> None:
    clock = Clock()
    learned = Learned(clock=clock)
    learned.note_field("a", CHAT, TOP_K)
    learned.note_usage("a", CHAT)
    learned.note_feature("a", "tools")
    learned.note_length("a", 9)
    clock.now += FEATURES_SECONDS - 1
    assert (learned.features("a"), learned.max_length("a")) == (["tools"], 9)
    clock.now += 1
    assert (learned.features("a"), learned.max_length("a")) == ([], None)
    assert learned.fields("a", CHAT) == [TOP_K]
    assert learned.accepts_usage("a", CHAT)
    clock.now += FIELDS_SECONDS
    assert learned.fields("a", CHAT) == []
    assert not learned.accepts_usage("a", CHAT)


def test_the_oldest_entry_makes_room() -> None:
    learned = Learned()
    learned.note_field("first", CHAT, TOP_K)
    learned.note_field("first", CHAT, SEED)
    for number in range(MAX_ENTRIES - 2):
        learned.note_field(f"model-{number}", CHAT, TOP_K)
    assert learned.fields("first", CHAT) == [TOP_K, SEED]
    learned.note_field("first", CHAT, TOP_K)  # it is the newest now
    learned.note_field("last", CHAT, TOP_K)
    assert learned.fields("first", CHAT) == [TOP_K]
    assert learned.fields("model-0", CHAT) == [TOP_K]


def test_a_feature_that_was_answered_is_not_refused() -> None:
    learned = Learned()
    learned.note_feature("a", "tools")
    learned.note_supported("a", ["tools", "vision"])
    assert learned.features("a") == []
    learned.note_feature("a", "vision")
    learned.note_feature("b", "vision")
    assert (learned.features("a"), learned.features("b")) == ([], ["vision"])


def test_the_shortest_refused_length_counts() -> None:
    learned = Learned()
    learned.note_length("a", 9000)
    learned.note_length("a", 5000)
    learned.note_length("b", 10)
    assert learned.max_length("a") == 5000
