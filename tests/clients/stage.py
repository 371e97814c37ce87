"""Run a command with a proxy between scripted upstreams; exit with the command's status.

    PYTHONPATH=tests .venv/bin/python tests/clients/stage.py .venv-clients/bin/pytest …

The proxy runs in its own process, with the shipped router model. Its local tier answers like
Ollama, its cloud tier like OpenAI. The environment of the command has OPENAI_BASE_URL, which OpenAI
clients read, and STAGE_URL, with these endpoints:

    GET    /v1/calls            the requests of the upstreams, in order
    DELETE /v1/calls            clear them
    GET    /v1/calls/N/closed   answers when the proxy has closed the N-th call (from 0)
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from actors import Actor

from fakes import Answer, Call, FakeUpstream, Gate, whole
from live import CLOUD_MODEL
from served import Served

LOCAL_MODEL: Final = "llama3.1:8b"
CHANGES: Final = {
    "upstreams": {"local": {"model": LOCAL_MODEL}},
    "routing": {"threshold": "auto"},
}
# Endpoints below /api of an Ollama whose model supports tools but no images.
NATIVE: Final = {
    "/api/version": {"version": "0.33.0"},
    "/api/show": {
        "capabilities": ["completion", "tools"],
        "model_info": {"llama.context_length": 131072},
    },
    "/api/ps": {
        "models": [{"name": LOCAL_MODEL, "model": LOCAL_MODEL, "context_length": 8192}],
    },
}
LOCAL_MODELS: Final = (LOCAL_MODEL, "nomic-embed-text:latest")
CLOUD_MODELS: Final = (CLOUD_MODEL, "gpt-9", "text-embedding-3-small")


class Stage:
    """Records the requests of both upstreams, and answers queries about them."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, Call]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def play(self, tier: str, upstream: FakeUpstream) -> None:
        """Make an upstream answer like its actor."""
        actor = Actor(needs_adapting=tier == "local")

        def answer(call: Call) -> Answer:
            self._calls.append((tier, call))
            return actor.answer(call)

        upstream.answer = answer

    def answer_query(self, query: Call) -> Answer:
        """Answer a query; the script of a `FakeUpstream`."""
        if query.path != "/v1/calls":
            number = int(query.path.split("/")[3])
            gate = Gate()
            task = asyncio.create_task(_open(gate, self._calls[number][1]))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            return [gate, *whole(b"{}")]
        if query.method == "DELETE":
            self._calls = []
        return whole(json.dumps([_described(*call) for call in self._calls]).encode())


async def _open(gate: Gate, call: Call) -> None:
    await call.closed()
    gate.open()


def _described(tier: str, call: Call) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in call.headers}
    is_json = headers.get("content-type") == "application/json"
    body = call.json if is_json else call.body.decode("latin-1")
    return {"tier": tier, "path": call.path, "headers": headers, "body": body}


def _listed(models: tuple[str, ...]) -> Answer:
    data = [{"id": model, "object": "model", "created": 0, "owned_by": "x"} for model in models]
    return whole(json.dumps({"object": "list", "data": data}).encode())


async def run(command: list[str]) -> int:
    """Run the command on the stage; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        async with FakeUpstream() as local, FakeUpstream() as cloud, FakeUpstream() as queries:
            local.models, cloud.models = _listed(LOCAL_MODELS), _listed(CLOUD_MODELS)
            local.native = {
                path: whole(json.dumps(value).encode()) for path, value in NATIVE.items()
            }
            stage = Stage()
            stage.play("local", local)
            stage.play("cloud", cloud)
            queries.answer = stage.answer_query
            async with Served(Path(folder), local, cloud, changes=CHANGES) as proxy:
                environment = os.environ | {
                    "OPENAI_BASE_URL": f"http://127.0.0.1:{proxy.port}/v1",
                    "OPENAI_API_KEY": "unused",
                    "STAGE_URL": queries.base_url,
                    "NO_PROXY": "127.0.0.1",
                }
                environment.pop("PYTHONPATH", None)  # the command has its own packages
                process = await asyncio.create_subprocess_exec(*command, env=environment)
                status = await process.wait()
                stopped = await proxy.stop()
                if status or stopped:
                    sys.stderr.write(proxy.log.decode(errors="replace"))
                return status or stopped


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
