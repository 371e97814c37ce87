"""How long a new user waits: each of README's ways to start, in a Debian that has nothing yet.

    make first-use        # Debian, as root: apt-get install --no-install-recommends \\
                          #   debootstrap podman runc
    python tests/tools/first_use.py --ways run,pip --out data/results/first_use.json

Each way has a container of its own, a Debian 12 with Python (see tests/tools/image.py), and what
git has of this folder in it, and is timed from its first command to the first answer on its port:
the system's packages that it names, then its own command, downloads included. There is neither
Ollama nor a key; `make demo` must answer a chat request all the same.
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


class Way(NamedTuple):
    """One of README's ways to start.

    Attributes:
        packages: of Debian, which README asks for.
        commands: one after the other; the last one serves.
        answers: whether a model is there to ask.
    """

    packages: tuple[str, ...]
    commands: tuple[str, ...]
    answers: bool = False


WAYS: Final = {
    "run": Way(("make", "python3", "python3-venv"), (f"cd {CLONE}", "make run")),
    "demo": Way(
        ("make", "python3", "python3-venv", "libgomp1"), (f"cd {CLONE}", "make demo"), True
    ),
    # `pip install hybrid-llm-router` of a package index is this file here.
    "pip": Way(
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
    parser.add_argument("--ways", default=",".join(WAYS), help="some of these, with commas")
    parser.add_argument("--folder", type=Path, default=ROOT / ".image", help="kept for next time")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON here")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: it makes a Debian and runs containers")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))
    podman = Podman(options.folder.resolve())
    base = find_base()
    if not podman.succeeds("image", "exists", base):
        make_base(podman, base)
    found = {}
    try:
        for name in options.ways.split(","):
            with things() as folder, container(podman, base, folder) as inside:
                found[name] = try_way(podman, inside, WAYS[name])
    except AssertionError as error:
        sys.exit(f"first use failed: {error}")
    show(found)
    if options.out is not None:
        results: dict[str, Any] = {"command": "make first-use", "machine": describe_machine()}
        results["date"] = datetime.datetime.now(datetime.UTC).date().isoformat()
        results["ways"] = found
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


@contextmanager
def things() -> Iterator[Path]:
    """A folder with what git has of this one, and with the wheel."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
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


class Inside(NamedTuple):
    """A container that runs, and the port on which its proxy is to be."""

    name: str
    port: int


@contextmanager
def container(podman: Podman, base: str, folder: Path) -> Iterator[Inside]:
    port = free_port()
    name = f"hybrid-llm-first-use-{os.getpid()}"
    podman(
        "run", "--detach", "--rm", f"--name={name}", "--network=host", f"--env=PORT={port}",
        "--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096",
        f"--volume={folder}/wheel:/wheel:ro", f"--volume={folder}/clone:{CLONE}", base,
        "sleep", "infinity",
    )  # fmt: skip
    try:
        yield Inside(name, port)
    finally:
        podman("rm", "--force", "--time=0", name, check=False)


def try_way(podman: Podman, inside: Inside, way: Way) -> dict[str, float]:
    """Seconds until the system has what it takes, and from then on until it answers."""
    started = time.monotonic()
    install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y "
    install += f"--no-install-recommends {shlex.join(way.packages)}"
    podman("exec", inside.name, "sh", "-c", install)
    ready = time.monotonic()
    script = " && ".join(way.commands)
    command = [*podman.command, "exec", inside.name, "sh", "-c", script]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as serving,
    ):
        try:
            until_it_answers(inside.port, way, serving=serving, until=ready + LIMIT_SECONDS)
        except AssertionError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            serving.terminate()
    return {"packages_seconds": ready - started, "seconds": time.monotonic() - ready}


def until_it_answers(
    port: int, way: Way, *, serving: "subprocess.Popen[bytes]", until: float
) -> None:
    base_url = f"http://127.0.0.1:{port}"
    while not is_alive(base_url):
        assert serving.poll() is None, f"it ended with status {serving.returncode}"
        assert time.monotonic() < until, "it did not come up"
        time.sleep(0.2)
    if way.answers:
        answer = httpx2.post(f"{base_url}/v1/chat/completions", json=CHAT, timeout=120)
        assert answer.status_code == 200, answer.text


def is_alive(base_url: str) -> bool:
    try:
        return httpx2.get(f"{base_url}/health", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def show(found: dict[str, dict[str, float]]) -> None:
    table = Table("way", "Debian's packages", "from there to its first answer", box=None)
    for name, times in found.items():
        table.add_row(name, f"{times['packages_seconds']:.0f} s", f"{times['seconds']:.0f} s")
    Console().print(table)


if __name__ == "__main__":
    main()
