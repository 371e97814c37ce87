"""curl: runs every shell block of docs/clients.md that uses it."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from scene import TEXT, Stage

HERE = Path(__file__).parent
SHOWN = "http://127.0.0.1:8080"
GUIDE = HERE.parents[1] / "docs/clients.md"
BLOCKS = [
    block
    for block in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    if re.search(r"\bcurl\b", block)
]


def kind_of(block: str) -> str:
    for kind in ("feedback", "embeddings", "responses"):
        if f"/v1/{kind}" in block:
            return kind
    if '"stream": true' in block:
        return "stream"
    return "chat" if "/v1/chat/completions" in block else "other"


def of_kind(kind: str) -> pytest.MarkDecorator:
    blocks = [block for block in BLOCKS if kind_of(block) == kind]
    return pytest.mark.parametrize("block", blocks, ids=range(len(blocks)))


def run(block: str, folder: Path, base_url: str) -> str:
    """Run a block; return its output. curl fails on HTTP errors."""
    (folder / ".curlrc").write_text("fail-with-body\nno-progress-meter\n")
    done = subprocess.run(
        ["sh", "-e", "-c", block.replace(SHOWN, base_url.removesuffix("/v1"))],
        cwd=folder,
        env=os.environ | {"HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_kind_has_an_example() -> None:
    kinds = {kind_of(block) for block in BLOCKS}
    assert kinds >= {"chat", "stream", "responses", "embeddings", "feedback", "other"}


@of_kind("chat")
def test_chat(block: str, tmp_path: Path, base_url: str, stage: Stage) -> None:
    answer = json.loads(run(block, tmp_path, base_url).splitlines()[-1])  # after the headers of -i
    assert answer["choices"][0]["message"]["content"] == TEXT
    if forced := re.search(r"x-router-target: (local|cloud)", block):
        assert stage.call.tier == forced[1]


@of_kind("stream")
def test_stream(block: str, tmp_path: Path, base_url: str) -> None:
    events = run(block, tmp_path, base_url).split("\n\n")
    deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in events[:-2]]
    assert "".join(delta.get("content") or "" for delta in deltas) == TEXT
    assert events[-2:] == ["data: [DONE]", ""]


@of_kind("responses")
def test_responses(block: str, tmp_path: Path, base_url: str) -> None:
    answer = json.loads(run(block, tmp_path, base_url))
    assert answer["output"][0]["content"][0]["text"] == TEXT


@of_kind("embeddings")
def test_embeddings(block: str, tmp_path: Path, base_url: str) -> None:
    assert json.loads(run(block, tmp_path, base_url))["data"][0]["embedding"]


@of_kind("feedback")
def test_feedback(block: str, tmp_path: Path, base_url: str) -> None:
    assert json.loads(run(block, tmp_path, base_url))["rating"] == 1.0


def test_upgrade_to_http2_is_not_accepted(tmp_path: Path, base_url: str) -> None:
    """Java's HTTP client offers the upgrade in every request, too."""
    body = '{"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}'
    command = f"curl --http2 {SHOWN}/v1/chat/completions -H 'content-type: application/json'"
    assert (
        TEXT
        in json.loads(run(f"{command} -d '{body}'", tmp_path, base_url))["choices"][0]["message"][
            "content"
        ]
    )


@of_kind("other")
def test_other(block: str, tmp_path: Path, base_url: str) -> None:
    assert run(block, tmp_path, base_url)
