"""What the router model cannot judge, and what it can: by the shipped model's vocabulary."""

import json
from pathlib import Path
from typing import Any

import pytest

from router_model.domain import Domain, Signal, Unreadable
from router_model.features import clip
from router_model.heuristic import Heuristic
from router_model.model import RouterModel
from router_model.task import routing_text

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "data/domain.jsonl").read_text(encoding="utf-8").splitlines()
TEXTS = [json.loads(line) for line in LINES]
# Written as people chat: half of the words are not English. It goes to the cloud, which is safe.
FLAGGED = {"mixed/typos"}


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(ROOT / "data/models/router")


def unreadable(model: RouterModel, text: str) -> Unreadable | None:
    return model.score(routing_text([("user", text)])).unreadable


@pytest.mark.parametrize("item", TEXTS, ids=lambda item: item["id"])
def test_texts_in_all_languages(model: RouterModel, item: dict[str, Any]) -> None:
    found = unreadable(model, item["text"])
    is_english = item["language"] == "en" or item["kind"] == "readable"
    if item["kind"] == "noise":
        assert found is not None
        assert found.is_short
    elif is_english:
        assert (found is not None) == (item["id"] in FLAGGED)
    elif item["kind"] in ("hard", "unreadable"):
        assert found is not None
        assert not found.is_short
    elif item["kind"] == "easy" and item["id"] != "fr/hello":  # a letter too long
        # What is read as English has a high score.
        assert found is None or found.is_short


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("🎉🎉", "empty"),
        ("thanks", "word"),
        ("謝謝", "word"),
        ("42", "word"),
        ("no no no no", "noise"),
        ("zzzzzzzz" * 400, "noise"),
        ("test " * 800, "noise"),
        ("sdkfjh skdjfh ksjdhf kjsdhf", "noise"),
        ("dGhlIHF1aWNrIGJyb3duIGZveCBqdW1wcyBvdmVyIDEz" * 60, "noise"),
        ("Докажите теорему о неявной функции.", "script"),
        ("𝔸𝔹 𝔸𝔹ℂ 𝔻𝔼𝔽", "unknown"),
        ("s e p a r a t e d l e t t e r s a r e n o w o r d s", "letters"),
        ("Selvittäkää opetusministeriön yhdenvertaisuussuunnitelman puutteet.", "pieces"),
        ("Wie ist das mit der Zeit und dem Raum, wenn wir von Licht und Masse reden?", "language"),
        ("2 + 2 = ?", None),
        ("git rebase onto main", None),
        ("Is naïve Bayes à la Laplace a fair baseline for Zürich's café reviews?", None),
    ],
)
def test_signal(model: RouterModel, text: str, signal: Signal | None) -> None:
    found = unreadable(model, text)
    assert (found and found.signal) == signal


def test_a_surrogate_is_no_error(model: RouterModel) -> None:
    assert Domain({}).reason_unreadable("a lone \ud800 surrogate") is None
    assert Domain({}).reason_unreadable("\ud800") == Unreadable("empty", is_short=True)


def test_follow_up_is_judged_with_the_earlier_turns(model: RouterModel) -> None:
    turns = [("user", "Explain how a hash table resolves collisions."), ("user", "shorter")]
    assert model.score(routing_text(turns)).unreadable is None
    assert unreadable(model, "shorter") == Unreadable("word", is_short=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Prove that there are infinitely many primes.", None),
        ("Beweise, dass es unendlich viele Primzahlen gibt.", None),  # needs pieces
        ("素数が無限に存在することを証明してください。", Unreadable("script", is_short=False)),
        ("ありがとう", Unreadable("word", is_short=True)),
        ("", Unreadable("empty", is_short=True)),
    ],
)
def test_heuristic_detects_by_the_text_alone(text: str, found: Unreadable | None) -> None:
    assert Heuristic().score(clip(text)).unreadable == found
