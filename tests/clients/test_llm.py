"""The `llm` command line, with the proxy's models in its extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llm import get_model
from scene import EASY, TEXT, Stage

COMMAND = Path(sys.executable).with_name("llm")
MODELS = """
- model_id: router
  model_name: auto
  api_base: {base_url}
  supports_schema: true
  supports_tools: true
- model_id: router-cloud
  model_name: cloud
  api_base: {base_url}
  supports_schema: true
  supports_tools: true
"""


@pytest.fixture
def folder(tmp_path: Path, base_url: str) -> Path:
    return configure(tmp_path, base_url)


def configure(folder: Path, base_url: str) -> Path:
    """Write the models of `llm` into its folder."""
    (folder / "extra-openai-models.yaml").write_text(MODELS.format(base_url=base_url))
    return folder


def llm(folder: Path, *arguments: str) -> str:
    """Run `llm`; return its output."""
    done = subprocess.run(
        [COMMAND, *arguments],
        env=os.environ | {"LLM_USER_PATH": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_chat(folder: Path, stage: Stage) -> None:
    assert llm(folder, "-m", "router", "--no-stream", EASY) == TEXT
    assert stage.call.tier == "local"
    assert not stage.call.body.get("stream")


def test_stream(folder: Path, stage: Stage) -> None:
    """A stream, and a conversation continued from the log of `llm`."""
    assert llm(folder, "-m", "router", EASY) == TEXT
    assert llm(folder, "-c", "And 3+3?") == TEXT
    assert [call.body["stream"] for call in stage.calls] == [True, True]
    assert [message["role"] for message in stage.calls[1].body["messages"]] == [
        "user",
        "assistant",
        "user",
    ]


def test_tools(folder: Path, stage: Stage) -> None:
    function = "def weather(city: str) -> str:\n    return f'sunny in {city}'"
    assert llm(folder, "-m", "router-cloud", "--functions", function, EASY) == TEXT
    results = [message for message in stage.calls[-1].body["messages"] if message["role"] == "tool"]
    assert [result["content"] for result in results] == ["sunny in Zürich", "sunny in Paris"]


def test_structured(folder: Path) -> None:
    answer = llm(folder, "-m", "router", "--schema", "city, degrees float", EASY)
    assert json.loads(answer) == {"city": "Zürich", "degrees": 21.5}


def test_saved(tmp_path: Path, measure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, because a start of the command takes a second."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))

    def ask(task: str) -> None:
        configure(tmp_path, os.environ["OPENAI_BASE_URL"])
        get_model("router").prompt(task, key="unused").text()

    measure(ask)
