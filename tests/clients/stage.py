"""Run a command with a proxy between scripted upstreams; exit with the command's status.

    PYTHONPATH=tests .venv/bin/python tests/clients/stage.py .venv-clients/bin/pytest …
    … stage.py --local phi3:latest --calls named .venv/bin/pytest …

The proxy runs in its own process, with the shipped router model. Its local tier answers like
Ollama, its cloud tier like OpenAI. The environment of the command has OPENAI_BASE_URL, which OpenAI
clients read, STAGE_LOCAL, the local model's name, and STAGE_URL, with these endpoints:

    GET    /v1/calls            the requests of the upstreams, in order
    DELETE /v1/calls            clear them
    GET    /v1/calls/N/closed   answers when the proxy has closed the N-th call (from 0)
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from actors import Actor

from fakes import Answer, Call, FakeUpstream, Gate, whole
from live import CLOUD_MODEL
from served import Served


class LocalModel(NamedTuple):
    """What Ollama says of a model.

    `trained` and `loaded` are the tokens of the context that the model supports, and that it was
    loaded with.
    """

    family: str
    capabilities: list[str]
    trained: int
    loaded: int

    def native(self, name: str) -> dict[str, Any]:
        """Answers of Ollama's endpoints below /api, by path."""
        context = {f"{self.family}.context_length": self.trained}
        loaded = {"name": name, "model": name, "context_length": self.loaded}
        return {
            "/api/version": {"version": "0.33.0"},
            "/api/show": {"capabilities": self.capabilities, "model_info": context},
            "/api/ps": {"models": [loaded]},
        }


# The first is the default. phi3 is the proxy's own default, as Ollama loads it on a small GPU.
LOCAL: Final = {
    "llama3.1:8b": LocalModel("llama", ["completion", "tools"], 131072, 8192),
    "phi3:latest": LocalModel("phi3", ["completion"], 131072, 4096),
    "qwen3:8b": LocalModel("qwen3", ["completion", "tools"], 40960, 40960),
}
EMBEDDING_MODEL: Final = "nomic-embed-text:latest"
CLOUD_MODELS: Final = (CLOUD_MODEL, "gpt-9", "text-embedding-3-small")


class Stage:
    """Records the requests of both upstreams, and answers queries about them."""

    def __init__(self, *, calls_unasked: bool) -> None:
        self._calls_unasked = calls_unasked
        self._calls: list[tuple[str, Call]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def play(self, tier: str, upstream: FakeUpstream) -> None:
        """Make an upstream answer like its actor."""
        actor = Actor(needs_adapting=tier == "local", calls_unasked=self._calls_unasked)

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


async def run(command: list[str], *, local_model: str, calls_unasked: bool) -> int:
    """Run the command on the stage; return its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        async with FakeUpstream() as local, FakeUpstream() as cloud, FakeUpstream() as queries:
            local.models = _listed((local_model, EMBEDDING_MODEL))
            cloud.models = _listed(CLOUD_MODELS)
            local.native = {
                path: whole(json.dumps(value).encode())
                for path, value in LOCAL[local_model].native(local_model).items()
            }
            stage = Stage(calls_unasked=calls_unasked)
            stage.play("local", local)
            stage.play("cloud", cloud)
            queries.answer = stage.answer_query
            changes = {
                "upstreams": {"local": {"model": local_model}},
                "routing": {"threshold": "auto"},
            }
            async with Served(Path(folder), local, cloud, changes=changes) as proxy:
                environment = os.environ | {
                    "OPENAI_BASE_URL": f"http://127.0.0.1:{proxy.port}/v1",
                    "OPENAI_API_KEY": "unused",
                    "STAGE_URL": queries.base_url,
                    "STAGE_LOCAL": local_model,
                    "NO_PROXY": "127.0.0.1",
                }
                environment.pop("PYTHONPATH", None)  # the command has its own packages
                process = await asyncio.create_subprocess_exec(*command, env=environment)
                status = await process.wait()
                stopped = await proxy.stop()
                if status or stopped:
                    sys.stderr.write(proxy.log.decode(errors="replace"))
                return status or stopped


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--local", choices=LOCAL, default=next(iter(LOCAL)), help="local model")
    parser.add_argument(
        "--calls",
        choices=("offered", "named"),
        default="offered",
        help="which tools the models call: any that is offered, or the one that the prompt names",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    unasked = arguments.calls == "offered"
    return asyncio.run(run(arguments.command, local_model=arguments.local, calls_unasked=unasked))


if __name__ == "__main__":
    sys.exit(main())
