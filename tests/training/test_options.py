"""What results say of the command that made them."""

import sys

import pytest

from training.options import this_command


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["evaluate", "--split", "test"], "hybrid-llm-train evaluate --split test"),
        (["prepare", "--data", "/home/me/outcomes"], "hybrid-llm-train prepare --data outcomes"),
        (["prepare", "--data", "my data"], "hybrid-llm-train prepare --data 'my data'"),
    ],
)
def test_a_command_is_shown_without_where_files_lie(
    monkeypatch: pytest.MonkeyPatch, words: list[str], shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/hybrid-llm-train", *words])
    assert this_command() == shown
