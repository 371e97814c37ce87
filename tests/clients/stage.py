"""Run a command with proxies between scripted upstreams; exit with the command's status.

    PYTHONPATH=tests .venv/bin/python tests/clients/stage.py .venv-clients/bin/pytest …
    … stage.py --applications .venv/bin/pytest …

Each proxy runs in its own process, with the shipped router model. Its local tier answers like
Ollama, its cloud tier like OpenAI. There are two, because the local model differs:

    llama3.1:8b    has tools, and a context of 8,192 tokens
    phi3:latest    the default: has no tools, and a context of 4,096 tokens

Applications send long prompts, and tools that no test may run unasked. With `--applications` the
first model is qwen3:8b with 40,960 tokens, and the models call only tools that the prompt names.

The environment of the command has the addresses of the first proxy in the variables that clients
read (OPENAI_BASE_URL, OLLAMA_HOST and ANTHROPIC_BASE_URL), and those of the second in the same
variables with PHI3_ in front. STAGE_URL has these endpoints:

    GET    /v1/calls            the requests of the upstreams, in order
    DELETE /v1/calls            clear them
    GET    /v1/calls/N/closed   answers when the proxy has closed the N-th call (from 0)
    GET    /v1/tasks            the tasks that each client is measured with: [easy, hard]
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import tasks
from actors import Actor

from fakes import Answer, Call, FakeUpstream, Gate, whole
from live import CLOUD_MODEL
from served import Served

EMBEDDING_MODEL: Final = "nomic-embed-text:latest"
# Ollama's own endpoints that generate.
NATIVE_PATHS: Final = ("/api/chat", "/api/generate", "/api/embed")
CLOUD_MODELS: Final = (CLOUD_MODEL, "gpt-9", "text-embedding-3-small")


class LocalModel(NamedTuple):
    """The chat model of a local tier; its context in tokens."""

    name: str
    capabilities: tuple[str, ...]
    context: int


LLAMA: Final = LocalModel("llama3.1:8b", ("completion", "tools"), 8192)
# A further local model, which no tier is configured with.
THINKER: Final = LocalModel("qwen3:4b", ("completion", "tools", "thinking"), 8192)
QWEN: Final = LocalModel("qwen3:8b", ("completion", "tools"), 40960)
PHI3: Final = LocalModel("phi3:latest", ("completion",), 4096)


class Stage:
    """Records the requests of both upstreams, and answers queries about them."""

    def __init__(self, *, calls_unasked: bool) -> None:
        self._calls_unasked = calls_unasked
        self._calls: list[tuple[str, Call]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    def play_local(self, upstream: FakeUpstream, model: LocalModel) -> None:
        """Make an upstream answer like an Ollama with a chat model."""
        upstream.answer = self._recorded("local", needs_adapting=True)
        upstream.models = _listed(model.name, THINKER.name, EMBEDDING_MODEL)
        upstream.native = {path: _json(value) for path, value in _about(model).items()}
        upstream.native["/api/show"] = lambda call: _show(
            THINKER if call.json.get("model") == THINKER.name else model
        )
        upstream.native |= dict.fromkeys(NATIVE_PATHS, upstream.answer)

    def play_cloud(self, upstream: FakeUpstream) -> None:
        """Make an upstream answer like OpenAI."""
        upstream.answer = self._recorded("cloud", needs_adapting=False)
        upstream.models = _listed(*CLOUD_MODELS)

    def _recorded(self, tier: str, *, needs_adapting: bool) -> Callable[[Call], Answer]:
        actor = Actor(needs_adapting=needs_adapting, calls_unasked=self._calls_unasked)

        def answer(call: Call) -> Answer:
            self._calls.append((tier, call))
            return actor.answer(call)

        return answer

    def answer_query(self, query: Call) -> Answer:
        """Answer a query; the script of a `FakeUpstream`."""
        if query.path == "/v1/tasks":
            return _json([tasks.EASY, tasks.HARD])
        if query.path != "/v1/calls":
            number = int(query.path.split("/")[3])
            gate = Gate()
            task = asyncio.create_task(_open(gate, self._calls[number][1]))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            return [gate, *whole(b"{}")]
        if query.method == "DELETE":
            self._calls = []
        return _json([_described(*call) for call in self._calls])


async def _open(gate: Gate, call: Call) -> None:
    await call.closed()
    gate.open()


def _described(tier: str, call: Call) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in call.headers}
    is_json = headers.get("content-type") == "application/json"
    body = call.json if is_json else call.body.decode("latin-1")
    return {"tier": tier, "path": call.path, "headers": headers, "body": body}


def _about(model: LocalModel) -> dict[str, Any]:
    """What Ollama's own endpoints tell of its chat model, by path."""
    return {
        "/api/version": {"version": "0.33.0"},
        "/api/ps": {
            "models": [{"name": model.name, "model": model.name, "context_length": model.context}],
        },
        "/api/tags": {
            "models": [_tag(name) for name in (model.name, THINKER.name, EMBEDDING_MODEL)],
        },
    }


def _show(model: LocalModel) -> Answer:
    """Ollama's answer about a model."""
    context = {"llama.context_length": 131072}
    return _json({"capabilities": model.capabilities, "model_info": context})


def _tag(name: str) -> dict[str, Any]:
    """A model in Ollama's own list."""
    details = {"format": "gguf", "family": "llama", "families": ["llama"], "parent_model": ""}
    return {
        "name": name,
        "model": name,
        "modified_at": "2026-01-02T03:04:05Z",
        "size": 4_920_753_328,
        "digest": "46e0c10c039e",
        "details": details | {"parameter_size": "8.0B", "quantization_level": "Q4_K_M"},
    }


def _json(value: Any) -> Answer:
    return whole(json.dumps(value).encode())


def _listed(*models: str) -> Answer:
    data = [{"id": model, "object": "model", "created": 0, "owned_by": "x"} for model in models]
    return _json({"object": "list", "data": data})


def _addresses(port: int) -> dict[str, str]:
    """A proxy's address, in the variables that clients read."""
    url = f"http://127.0.0.1:{port}"
    return {"OPENAI_BASE_URL": f"{url}/v1", "OLLAMA_HOST": url, "ANTHROPIC_BASE_URL": url}


async def run(command: list[str], *, applications: bool) -> int:
    """Run the command on the stage; return its exit status."""
    models = (QWEN if applications else LLAMA, PHI3)
    async with AsyncExitStack() as stack:
        queries, cloud = [await stack.enter_async_context(FakeUpstream()) for _ in range(2)]
        stage = Stage(calls_unasked=not applications)
        stage.play_cloud(cloud)
        queries.answer = stage.answer_query
        proxies: list[Served] = []
        for model in models:
            local = await stack.enter_async_context(FakeUpstream())
            stage.play_local(local, model)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            changes = {
                "upstreams": {"local": {"model": model.name}},
                "routing": {"threshold": "auto"},
            }
            proxy = Served(folder, local, cloud, changes=changes)
            proxies.append(await stack.enter_async_context(proxy))
        addresses = [_addresses(proxy.port) for proxy in proxies]
        environment = os.environ | addresses[0]
        environment |= {f"PHI3_{name}": address for name, address in addresses[1].items()}
        environment |= {"STAGE_URL": queries.base_url, "NO_PROXY": "127.0.0.1"}
        environment |= {"OPENAI_API_KEY": "unused", "ANTHROPIC_API_KEY": "unused"}
        environment.pop("PYTHONPATH", None)  # the command has its own packages
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        status = await process.wait()
        for proxy in proxies:
            stopped = await proxy.stop()
            if status or stopped:
                sys.stderr.write(proxy.log.decode(errors="replace"))
            status = status or stopped
        return status


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--applications", action="store_true", help="long context, named tools")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.command, applications=arguments.applications))


if __name__ == "__main__":
    sys.exit(main())
