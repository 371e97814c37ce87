"""Token estimates: accurate, bounded in time, and without network access."""

import subprocess
import sys
import time

import pytest

from fakes import PATIENCE_SECONDS
from proxy.budget.token_counter import TokenCounter

QUESTION = "What is the capital of France, and how many people live there?"


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    loaded = TokenCounter()
    loaded.load()
    return loaded


def test_counts_equal_those_of_the_encoding(counter: TokenCounter) -> None:
    assert counter.count("") == 0
    assert counter.count("hello world") == 2
    assert counter.count("<|endoftext|>") > 1  # text of a user, not a special token


def test_messages_count_their_framing_tokens(counter: TokenCounter) -> None:
    # 3 for the answer's primer, 3 for each message.
    assert counter.count_messages([]) == 3
    assert counter.count_messages([("system", "hello world"), ("user", "")]) == 3 + 3 + 2 + 3


def test_an_unloaded_counter_assumes_four_characters_per_token() -> None:
    assert TokenCounter().count("") == 0
    assert TokenCounter().count("x") == 1
    assert TokenCounter().count("x" * 400) == 100


def test_the_first_count_loads_the_encoding() -> None:
    counter = TokenCounter()
    rough = counter.count("x" * 400)
    due = time.monotonic() + PATIENCE_SECONDS
    while (tokens := counter.count("x" * 400)) == rough:
        assert time.monotonic() < due
        time.sleep(0.01)
    assert tokens == 50


def test_a_long_text_is_extrapolated(counter: TokenCounter) -> None:
    exact = counter.count(QUESTION)
    # A sample may begin and end within a token.
    assert counter.count(QUESTION * 2000) == pytest.approx(exact * 2000, rel=0.06)


@pytest.mark.parametrize("before", [0, 20_000, 40_000])
def test_dense_text_counts_wherever_it_is(counter: TokenCounter, before: int) -> None:
    dense = "亜鬱龍風" * 5_000
    exact = 5_000 * counter.count("亜鬱龍風")
    text = " " * before + dense + " " * (40_000 - before)
    assert counter.count(text) == pytest.approx(exact, rel=0.2)


def test_an_unloaded_counter_counts_no_token_less_for_dense_text(counter: TokenCounter) -> None:
    dense = "亜鬱龍風" * 100
    assert TokenCounter().count(dense) >= counter.count(dense)


@pytest.mark.parametrize("unit", ["a", "\n", "0", "ü", "\ud800", "\U0001f600"])
def test_no_text_blocks_the_event_loop(counter: TokenCounter, unit: str) -> None:
    started = time.thread_time()
    assert counter.count(unit * 1_000_000) > 0
    assert time.thread_time() - started < 0.5


def test_no_conversation_blocks_the_event_loop(counter: TokenCounter) -> None:
    turns = [("user", QUESTION * 250)] * 2000  # as large as a request body may be
    started = time.thread_time()
    tokens = counter.count_messages(turns)
    assert time.thread_time() - started < 0.5
    exact = counter.count(QUESTION)
    assert tokens == pytest.approx(exact * 250 * 2000, rel=0.05)


def test_the_encoding_needs_no_network() -> None:
    """A new process without sockets or cache downloads nothing."""
    program = """
import os, socket, sys

def refuse(*arguments):
    raise SystemExit("a socket was opened")

sys.addaudithook(lambda event, args: refuse() if event.startswith("socket.") else None)
from proxy.budget.token_counter import TokenCounter
counter = TokenCounter()
counter.load()
print(counter.count("hello world"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "", "TIKTOKEN_CACHE_DIR": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr
