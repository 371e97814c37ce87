"""A small language model in a process of its own, behind llama.cpp's HTTP server.

    with StandIn("smollm2-135m", model_file, log=Path("data/demo-local.log")) as stand_in:
        stand_in.wait_until_ready()
        ...  # stand_in.base_url answers

    python -m proxy.cli.stand_in OPTIONS    # that process

The server listens on the loopback address only: it has no authentication.
The process ends when its standard input, a pipe, closes. So it cannot outlive its parent, however
the parent ends, on any system. This module does not depend on the proxy.
"""

import argparse
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx2

HOST: Final = "127.0.0.1"
CONTEXT_TOKENS: Final = 4096
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 5.0

# The only variables that the process gets: others may hold keys, or settings of llama.cpp.
_ENVIRONMENT: Final = (
    "PATH HOME TMPDIR LANG LC_ALL LD_LIBRARY_PATH DYLD_LIBRARY_PATH PYTHONPATH SYSTEMROOT TEMP TMP"
).split()


class StandInFailed(Exception):
    """The process ended or did not answer; the message has the last lines of its log."""


class StandIn:
    """A model process: the context manager starts it and stops it.

    Args:
        name: the model's name in requests and answers.
        model_file: a GGUF file of a chat model.
        log: file for the process's output; it is overwritten.
    """

    def __init__(self, name: str, model_file: Path, *, log: Path) -> None:
        self.name = name
        self._log = log
        self._port = _find_free_port()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._options = {
            "--model": str(model_file),
            "--alias": name,
            "--port": str(self._port),
            "--context": str(CONTEXT_TOKENS),
            # Both tiers share the processor with the proxy and with the user's programs.
            "--threads": str(max(1, min(2, (os.cpu_count() or 1) // 2))),
        }

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self._port}/v1"

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        options = [part for option in self._options.items() for part in option]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this file, with our own options
                [sys.executable, "-m", "proxy.cli.stand_in", *options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                # Ctrl-C goes to the parent, which stops this process after its last request.
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        process = self._running()
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait_until_ready(self) -> None:
        """Return when the model answers.

        Raises:
            StandInFailed: the process ended, or did not answer within START_SECONDS.
        """
        deadline = time.monotonic() + START_SECONDS
        # The address is local: ignore a proxy that the environment names.
        with httpx2.Client(trust_env=False, timeout=2.0) as client:
            while not self._answers(client):
                if self._running().poll() is not None:
                    raise self.failure()
                if time.monotonic() > deadline:
                    raise StandInFailed(
                        f"{self.name} did not answer within {START_SECONDS:g} seconds. "
                        f"See its output in {self._log}"
                    )
                time.sleep(0.1)

    def _answers(self, client: httpx2.Client) -> bool:
        try:
            response = client.get(f"{self.base_url}/models")
        except httpx2.HTTPError:
            return False
        return self.name in response.text  # another process may have taken the port

    def watch(self, on_failure: Callable[[], None]) -> None:
        """Call `on_failure` in a thread if the process ends before the context does."""

        def wait() -> None:
            self._running().wait()
            if not self._stopping:
                on_failure()

        threading.Thread(target=wait, name=f"watch-{self.name}", daemon=True).start()

    def failure(self) -> StandInFailed:
        """The error for a process that ended by itself."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        status = self._running().poll()
        return StandInFailed(
            f"{self.name} exited unexpectedly with status {status}. "
            f"The last lines of {self._log}:\n" + "\n".join(f"    {line}" for line in lines)
        )

    @property
    def failed(self) -> bool:
        """True when the process has ended unexpectedly."""
        return self._running().poll() is not None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None  # used only inside the context
        return self._process


def _find_free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    """Serve the model until the parent closes standard input, or SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="GGUF file of a chat model")
    parser.add_argument("--alias", required=True, help="the model's name in requests and answers")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=CONTEXT_TOKENS, help="tokens")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    def exit_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    _serve(options)
    threading.Event().wait()


def _serve(options: argparse.Namespace) -> None:
    """Start llama.cpp's server in threads of its own; return when it is ready."""
    xllamacpp = importlib.import_module("xllamacpp")  # the demo extra: not needed to serve
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.hostnames = [HOST]
    params.port = options.port
    params.n_ctx = options.context
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    # Pages of other sites must not read from this server, and it needs no page of its own.
    params.cors_origins = ""
    params.ui = False
    params.endpoint_slots = False
    params.cache_ram_mib = 0
    # The server stops when the object is collected.
    options.server = xllamacpp.Server(params)


if __name__ == "__main__":
    main()
