"""A small real language model in a process of its own, behind OpenAI's chat endpoint.

    with StandIn("smollm2-135m", model_file, log=Path("data/demo-local.log")) as stand_in:
        stand_in.wait_until_ready()
        ...  # stand_in.base_url answers

    python -m proxy.stand_in OPTIONS    # that process: the options are llama_cpp.server's

The process lives on a pipe to its standard input and ends when that closes, so it cannot outlive
its parent, however the parent ends, on any system. This file knows nothing about the proxy.
"""

import os
import runpy
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

CONTEXT_TOKENS: Final = 4096
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 5.0

# All that the process gets: llama_cpp.server also reads HOST, PORT, MODEL, API_KEY, SEED and the
# like, and what those mean to this machine's owner is nothing to it.
_ENVIRONMENT: Final = (
    "PATH HOME TMPDIR LANG LC_ALL LD_LIBRARY_PATH DYLD_LIBRARY_PATH PYTHONPATH SYSTEMROOT TEMP TMP"
).split()


class StandInFailed(Exception):
    """The process ended, or never answered; with the last lines of its log."""


class StandIn:
    """One model process. Enter it to start it, leave it to end it.

    Args:
        name: the model's name in requests and answers.
        model_file: a GGUF file of a chat model.
        log: the process's output goes here; what was in it is lost.
    """

    def __init__(self, name: str, model_file: Path, *, log: Path) -> None:
        self.name = name
        self._log = log
        self._port = _find_free_port()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._options = {
            "--model": str(model_file),
            "--model_alias": name,
            "--host": "127.0.0.1",
            "--port": str(self._port),
            "--n_ctx": str(CONTEXT_TOKENS),
            # Two tiers share the processor with the proxy and whoever uses it.
            "--n_threads": str(max(1, min(2, (os.cpu_count() or 1) // 2))),
            # By default a second request breaks the first one off.
            "--interrupt_requests": "False",
            "--verbose": "False",
        }

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

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
                # Ctrl-C is for the parent, which ends this process after its last request.
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
            StandInFailed: it ended, or START_SECONDS are over.
        """
        deadline = time.monotonic() + START_SECONDS
        # On this machine: not for a proxy that the environment may name.
        with httpx2.Client(trust_env=False, timeout=2.0) as client:
            while not self._answers(client):
                if self._running().poll() is not None:
                    raise self.failure()
                if time.monotonic() > deadline:
                    raise StandInFailed(
                        f"{self.name} did not answer within {START_SECONDS:g} seconds; "
                        f"its output is in {self._log}"
                    )
                time.sleep(0.1)

    def _answers(self, client: httpx2.Client) -> bool:
        try:
            response = client.get(f"{self.base_url}/models")
        except httpx2.HTTPError:
            return False
        return self.name in response.text  # not somebody else, quicker to take the port

    def watch(self, on_failure: Callable[[], None]) -> None:
        """Call `on_failure`, in a thread, if the process ends before it is left."""

        def wait() -> None:
            self._running().wait()
            if not self._stopping:
                on_failure()

        threading.Thread(target=wait, name=f"watch-{self.name}", daemon=True).start()

    def failure(self) -> StandInFailed:
        """What to tell about a process that ended by itself."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        status = self._running().poll()
        return StandInFailed(
            f"{self.name} ended by itself with status {status}; the end of {self._log}:\n"
            + "\n".join(f"    {line}" for line in lines)
        )

    @property
    def failed(self) -> bool:
        """True when the process has ended, which it does not do by itself."""
        return self._running().poll() is not None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None  # only used inside its `with`
        return self._process


def _find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    """Serve the model until the parent lets go of standard input."""

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    runpy.run_module("llama_cpp.server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
