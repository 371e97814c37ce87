"""Time to first answer: each way to start in README.md, on a minimal Debian.

    make first-use        # Debian, as root: apt-get install --no-install-recommends \\
                          #   debootstrap podman runc
    python tests/tools/first_use.py --ways run,pip --out data/results/first_use.json

Each way has its own container with Debian 12, Python (see tests/tools/image.py) and the tracked
files of this folder. The time is from its first command to the first answer on its port: system
packages, then its own commands, including downloads. There is no Ollama and no key; `make demo`
must still answer a chat request.
"""

import argparse
import datetime
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
from rich.console import Console
from rich.table import Table

from bench import describe_machine
from image import ROOT, Podman, find_base, free_port, make_base

CLONE: Final = "/home/user/hybrid-llm-router"
LIMIT_SECONDS: Final = 1800.0
CHAT: Final = {"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}


class StartMethod(NamedTuple):
    """A way to start in README.md.

    Attributes:
        packages: Debian packages that README.md requires.
        commands: run in order; the last one serves.
        answers: whether it has a model that answers.
    """

    packages: tuple[str, ...]
    commands: tuple[str, ...]
    answers: bool = False


START_METHODS: Final = {
    "run": StartMethod(("make", "python3", "python3-venv"), (f"cd {CLONE}", "make run")),
    "demo": StartMethod(
        ("make", "python3", "python3-venv", "libgomp1"), (f"cd {CLONE}", "make demo"), True
    ),
    # This wheel replaces `pip install hybrid-llm-router`.
    "pip": StartMethod(
        ("python3", "python3-venv"),
        (
            "mkdir /home/user/anywhere && cd /home/user/anywhere",
            "python3 -m venv .venv && . .venv/bin/activate",
            "pip install --quiet /wheel/*.whl",
            "hybrid-llm init --yes",
            "hybrid-llm serve --port $PORT",
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--ways", default=",".join(START_METHODS), help="comma-separated, of run,demo,pip"
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".image", help="cache for the next run"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: it creates a Debian image and runs containers")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))
    podman = Podman(options.folder.resolve())
    base = find_base()
    if not podman.succeeds("image", "exists", base):
        make_base(podman, base)
    times_by_name = {}
    try:
        for name in options.ways.split(","):
            with prepared_files() as folder, container(podman, base, folder) as inside:
                times_by_name[name] = measure_start(podman, inside, START_METHODS[name])
    except AssertionError as error:
        sys.exit(f"first use failed: {error}")
    show(times_by_name)
    if options.out is not None:
        results: dict[str, Any] = {"command": "make first-use", "machine": describe_machine()}
        results["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        results["ways"] = times_by_name
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


@contextmanager
def prepared_files() -> Iterator[Path]:
    """A temporary folder with the tracked files and the wheel."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "clone").mkdir()
        (folder / "wheel").mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "HEAD"], check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(folder / "clone")], input=archive, check=True)
        subprocess.run(
            [sys.executable, str(ROOT / "tests/tools/release.py"), "--out", str(folder / "wheel")],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        yield folder


class RunningContainer(NamedTuple):
    """A running container, and the port for its proxy."""

    name: str
    port: int


@contextmanager
def container(podman: Podman, base: str, folder: Path) -> Iterator[RunningContainer]:
    port = free_port()
    name = f"hybrid-llm-first-use-{os.getpid()}"
    podman(
        "run", "--detach", "--rm", f"--name={name}", "--network=host", f"--env=PORT={port}",
        "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096",
        f"--volume={folder}/wheel:/wheel:ro", f"--volume={folder}/clone:{CLONE}", base,
        "sleep", "infinity",
    )  # fmt: skip
    try:
        yield RunningContainer(name, port)
    finally:
        podman("rm", "--force", "--time=0", name, check=False)


def measure_start(
    podman: Podman, inside: RunningContainer, method: StartMethod
) -> dict[str, float]:
    """Seconds to install the packages, and from then on to the first answer."""
    started = time.monotonic()
    install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y "
    install += f"--no-install-recommends {shlex.join(method.packages)}"
    podman("exec", inside.name, "sh", "-c", install)
    ready = time.monotonic()
    script = " && ".join(method.commands)
    command = [*podman.command, "exec", inside.name, "sh", "-c", script]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as serving,
    ):
        try:
            wait_for_answer(inside.port, method, serving=serving, until=ready + LIMIT_SECONDS)
        except AssertionError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            serving.terminate()
    return {"packages_seconds": ready - started, "seconds": time.monotonic() - ready}


def wait_for_answer(
    port: int, method: StartMethod, *, serving: "subprocess.Popen[bytes]", until: float
) -> None:
    base_url = f"http://127.0.0.1:{port}"
    while not is_alive(base_url):
        assert serving.poll() is None, f"exited with status {serving.returncode}"
        assert time.monotonic() < until, "did not start in time"
        time.sleep(0.2)
    if method.answers:
        answer = httpx2.post(f"{base_url}/v1/chat/completions", json=CHAT, timeout=120)
        assert answer.status_code == 200, answer.text


def is_alive(base_url: str) -> bool:
    try:
        return httpx2.get(f"{base_url}/health", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def show(times_by_name: dict[str, dict[str, float]]) -> None:
    table = Table("way", "Debian's packages", "then to the first answer", box=None)
    for name, times in times_by_name.items():
        table.add_row(name, f"{times['packages_seconds']:.0f} s", f"{times['seconds']:.0f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
