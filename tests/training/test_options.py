"""The command recorded in results."""

import sys

import pytest

from training.options import this_command


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        (["evaluate", "--split", "test"], "hybrid-llm-train evaluate --split test"),
        (["prepare", "--data", "/home/me/outcomes"], "hybrid-llm-train prepare --data outcomes"),
        (["prepare", "--data", "my data"], "hybrid-llm-train prepare --data 'my data'"),
    ],
)
def test_recorded_command_omits_folders(
    monkeypatch: pytest.MonkeyPatch, words: list[str], recorded: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/hybrid-llm-train", *words])
    assert this_command() == recorded
