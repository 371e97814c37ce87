"""Run a command next to a proxy that stands between scripted upstreams, and end with its status.

    PYTHONPATH=tests .venv/bin/python tests/clients/stage.py .venv-clients/bin/pytest …

The proxy is the real command, in a process of its own, with the router model that ships; its local
tier answers as Ollama does and its cloud as OpenAI. The command finds in its environment where:
OPENAI_BASE_URL, which is all that a client of OpenAI's needs, and STAGE_URL, where it can ask
behind the scenes:

    GET    /v1/calls            what the upstreams were asked, in order
    DELETE /v1/calls            forget it
    GET    /v1/calls/N/closed   answered once the proxy has let go of the N-th call (from 0)
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
# Below /api, an Ollama whose model knows tools but not images.
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
    """What both upstreams were asked, and the answers to questions about it."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, Call]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def play(self, tier: str, upstream: FakeUpstream) -> None:
        """Let an upstream answer as its actor does."""
        actor = Actor(needs_adapting=tier == "local")

        def answer(call: Call) -> Answer:
            self._calls.append((tier, call))
            return actor.answer(call)

        upstream.answer = answer

    def tell(self, question: Call) -> Answer:
        """Answer a question; what a `FakeUpstream` takes."""
        if question.path != "/v1/calls":
            number = int(question.path.split("/")[3])
            gate = Gate()
            task = asyncio.create_task(_open(gate, self._calls[number][1]))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            return [gate, *whole(b"{}")]
        if question.method == "DELETE":
            self._calls = []
        return whole(json.dumps([_described(*one) for one in self._calls]).encode())


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
    """Run the command on the stage; its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        async with FakeUpstream() as local, FakeUpstream() as cloud, FakeUpstream() as behind:
            local.models, cloud.models = _listed(LOCAL_MODELS), _listed(CLOUD_MODELS)
            local.native = {path: whole(json.dumps(it).encode()) for path, it in NATIVE.items()}
            stage = Stage()
            stage.play("local", local)
            stage.play("cloud", cloud)
            behind.answer = stage.tell
            async with Served(Path(folder), local, cloud, changes=CHANGES) as proxy:
                environment = os.environ | {
                    "OPENAI_BASE_URL": f"http://127.0.0.1:{proxy.port}/v1",
                    "OPENAI_API_KEY": "unused",
                    "STAGE_URL": behind.base_url,
                    "NO_PROXY": "127.0.0.1",
                }
                environment.pop("PYTHONPATH", None)  # the command has an environment of its own
                process = await asyncio.create_subprocess_exec(*command, env=environment)
                status = await process.wait()
                stopped = await proxy.stop()
                if status or stopped:
                    sys.stderr.write(proxy.log.decode(errors="replace"))
                return status or stopped


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
