"""What `hybrid-llm serve` explains when neither Ollama nor the cloud can answer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fakes import FakeUpstream, whole
from proxy.config import Secret, UpstreamConfig, UpstreamsConfig
from proxy.server.guidance import setup_guidance
from served import Served

OLLAMA, OPENAI = "http://localhost:11434/v1", "https://api.openai.com/v1"
UPSTREAMS = UpstreamsConfig(
    local=UpstreamConfig(base_url=OLLAMA, model="phi3:latest"),
    cloud=UpstreamConfig(base_url=OPENAI, model="gpt-4o-mini"),
)


def guidance(upstreams: UpstreamsConfig = UPSTREAMS) -> str:
    text = setup_guidance(upstreams, local_up=False, cloud_up=False)
    assert text is not None
    return text


def with_cloud(base_url: str, key: str) -> UpstreamsConfig:
    cloud = UpstreamConfig(base_url=base_url, model="m", api_key=Secret(key))
    return msgspec.structs.replace(UPSTREAMS, cloud=cloud)


def test_guidance_names_addresses_and_commands() -> None:
    text = guidance()
    assert f"no answer from {OLLAMA}" in text
    assert f"no API key for {OPENAI} (OPENAI_API_KEY is not set)" in text
    for command in (
        "ollama pull phi3\n",
        "export OPENAI_API_KEY=",
        "hybrid-llm init",
        "hybrid-llm demo",
        "make demo",
    ):
        assert command in text


@pytest.mark.parametrize("key", ["sk-hidden", ""])
def test_guidance_distinguishes_missing_and_rejected_keys(key: str) -> None:
    text = guidance(with_cloud(OPENAI, key))
    assert ("rejected the API key" in text) == bool(key)
    assert ("OPENAI_API_KEY is not set" in text) != bool(key)
    assert "hidden" not in text


@pytest.mark.parametrize(("local_up", "cloud_up"), [(True, False), (False, True), (True, True)])
def test_no_guidance_if_a_tier_is_up(local_up: bool, cloud_up: bool) -> None:
    assert setup_guidance(UPSTREAMS, local_up=local_up, cloud_up=cloud_up) is None


def test_serve_prints_the_guidance_once_and_keeps_running(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    path.write_text(
        "server: {port: 0}\n"
        "upstreams:\n"
        "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
        "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
        f"routing: {{model_path: {tmp_path}/nowhere, threshold: 0.4}}\n"
        f"storage: {{url: 'sqlite:///{tmp_path}/rows.db'}}\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "serve", f"--config={path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        lines = []
        while "make demo" not in (line := process.stdout.readline()):
            assert line, lines  # the process ended early
            lines.append(line)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[0]
        assert process.returncode == 0
    finally:
        process.kill()
        process.stdout.close()
    text = "".join([*lines, rest])
    assert text.count("No model can answer yet.") == 1
    assert "no answer from http://127.0.0.1:9/v1" in text
    assert "ollama pull phi3" in text


async def test_the_start_table_names_a_missing_model(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = whole(b'{"data": [{"id": "llama3.2:3b"}]}')
    local.native = {"/api/version": whole(b'{"version": "0.12.11"}')}
    async with Served(tmp_path, local, cloud) as proxy:
        table = proxy.log.decode().partition("hybrid-llm ")[2]
        assert "it has no model phi3:latest; run: ollama pull phi3" in table
        assert await proxy.stop() == 0
