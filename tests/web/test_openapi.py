"""The OpenAPI document, checked with schemathesis."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import Answer, Call, FakeUpstream, answer_by_path, error_json, whole
from live import StartProxy

SUPPORT = Path(__file__).parents[1] / "support"
EXAMPLES = 20  # per operation
# JSON Schema cannot say that a name is printable, or that a text has valid rules.
CONFIG = """
[[operations]]
include-path = ["/api/keys", "/api/keys/{key_hash}", "/api/routing/preview"]
checks.positive_data_acceptance.enabled = false
"""


def answer(call: Call) -> Answer:
    if call.method == "DELETE":
        return whole(error_json("Not found."), status=404)
    return answer_by_path(call)


async def test_openapi_document_matches_the_proxy(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tmp_path: Path
) -> None:
    local.answer = cloud.answer = answer
    changes = {"server": {"api_keys": ["the-key"]}, "experiments": {"enabled": False}}
    proxy = await start(changes)
    url = f"http://127.0.0.1:{proxy.port}/openapi.json"
    options = ["--header", "Authorization: Bearer the-key", "--max-examples", str(EXAMPLES)]
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
    command = [*program, "run", url, *options]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(SUPPORT)}
    process = await asyncio.to_thread(
        subprocess.run, command, env=os.environ | hooks, capture_output=True, text=True, check=False
    )
    if process.returncode:
        pytest.fail(process.stdout + process.stderr, pytrace=False)
