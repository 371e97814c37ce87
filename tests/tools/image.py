"""Build the Dockerfile with a real builder and test the image with a read-only root.

    make image-check        # Debian, as root: apt-get install --no-install-recommends \\
                            #   debootstrap podman runc
    python tests/tools/image.py --base pull  # with the Dockerfile's base image, from the network

Podman builds the image and runs it as compose.yaml would: not as root, without capabilities,
writable only in its volume and /tmp. A scripted model answers. The container is stopped during an
answer and started again, and must still have its rows.

By default no image is downloaded: the base is a Debian 12 with its Python 3.11, made here. Use
--base pull to test the real base. For other processors this checks only that PyPI has wheels of all
locked packages.
"""

import argparse
import asyncio
import json
import os
import re
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.table import Table

from fakes import FakeUpstream, Gate, chunked, openai_events
from proxy import __version__

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGE: Final = "localhost/hybrid-llm-router:check"
DATA: Final = "/var/lib/hybrid-llm"
USER: Final = 10001
STAND_IN: Final = ("python3", "python3-venv", "python3-pip")
# As in compose.yaml, with low limits that every machine allows.
HARDENED: Final = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=all",
    "--security-opt=no-new-privileges", "--network=host", "--ulimit=nofile=4096:4096",
    "--ulimit=nproc=4096:4096", "--no-healthcheck",
)  # fmt: skip
STOP_SECONDS: Final = 40  # compose.yaml's stop_grace_period
START_SECONDS: Final = 60.0
MAX_ADDED_MB: Final = 350
PROCESSORS: Final = ("x86_64", "aarch64")


class Podman:
    """Podman with its own folder for images and containers."""

    def __init__(self, folder: Path) -> None:
        self.command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.command += ["--storage-driver=overlay", "--cgroup-manager=cgroupfs"]
        if shutil.which("runc"):
            self.command.append("--runtime=runc")

    def __call__(self, *arguments: str, check: bool = True, shown: bool = False) -> str:
        """Run podman; return its output, or show it. Raises AssertionError."""
        done = subprocess.run(
            [*self.command, *arguments],
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return (done.stdout or "").strip()

    def succeeds(self, *arguments: str) -> bool:
        command = [*self.command, *arguments]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        try:
            yield Path(self("image", "mount", image))
        finally:
            self("image", "unmount", image)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", choices=["here", "pull"], default="here")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / ".image", help="cache for the next run"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: it creates a Debian image and runs containers")
    # Podman needs the maximum number of open files.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard), hard))
    podman = Podman(options.folder.resolve())
    try:
        base = find_base()
        if options.base == "here" and not podman.succeeds("image", "exists", base):
            make_base(podman, base)
        for processor in PROCESSORS:
            check_wheels(processor)
        started = time.monotonic()
        build(podman, pull=options.base == "pull")
        print(f"built in {time.monotonic() - started:.0f} s")
        check_config(podman)
        with podman.mounted(IMAGE) as image, podman.mounted(base) as below:
            check_files(image, below)
            show_sizes(image)
        asyncio.run(check_running(podman))
    except AssertionError as error:
        sys.exit(f"image check failed: {error}")
    print("image check passed: build, start, requests, stop during an answer, restart")


def find_base() -> str:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (name,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    return f"docker.io/library/{name}"


def make_base(podman: Podman, name: str) -> None:
    """Create a Debian with Python, named like the Dockerfile's base image."""
    with tempfile.TemporaryDirectory() as folder:
        packages = f"--include={','.join(STAND_IN)}"
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", folder]
        subprocess.run(command, check=True)
        # pip must trust the certificates of this machine.
        trusted = Path(folder, "etc/ssl/certs/ca-certificates.crt")
        trusted.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", trusted)
        with subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE) as tar:
            subprocess.run(
                [*podman.command, "import", "--quiet", "-", name],
                stdin=tar.stdout,
                stdout=subprocess.DEVNULL,
                check=True,
            )


def check_wheels(processor: str) -> None:
    """Check that all locked packages have wheels for a processor, with the locked hashes."""
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in range(17, 29)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
                "--only-binary=:all:", "--implementation=cp", "--python-version=3.11",
                f"--platform=manylinux2014_{processor}", *map("--platform={}".format, platforms),
                f"--dest={folder}", f"--requirement={ROOT / 'requirements.lock'}",
            ],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{processor}: {done.stderr}"
        wheels = [path.stat().st_size for path in Path(folder).iterdir()]
    print(f"{processor}: {len(wheels)} wheels, {sum(wheels) / 1e6:.0f} MB")


def build(podman: Podman, *, pull: bool) -> None:
    podman(
        "build",
        f"--pull={'missing' if pull else 'never'}",
        "--isolation=chroot",
        "--network=host",
        "--format=docker",  # the OCI format has no HEALTHCHECK
        f"--build-arg=VERSION={__version__}",
        f"--tag={IMAGE}",
        str(ROOT),
        shown=True,
    )


def config_of(podman: Podman) -> dict[str, Any]:
    inspected: dict[str, Any] = json.loads(podman("image", "inspect", IMAGE))[0]
    return {**inspected["Config"], "Healthcheck": inspected["Healthcheck"]}


def check_config(podman: Podman) -> None:
    config = config_of(podman)
    assert config["User"] == f"{USER}:{USER}", config["User"]
    assert config["StopSignal"] in ("SIGTERM", "15"), config["StopSignal"]
    assert config["Entrypoint"] == ["hybrid-llm"], config["Entrypoint"]
    assert list(config["Volumes"]) == [DATA], config["Volumes"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Healthcheck"]["Test"][0] == "CMD"


def check_files(image: Path, below: Path) -> None:
    """Check for training packages, writable files and missing bytecode."""
    (site,) = (image / "opt/venv/lib").glob("python3*/site-packages")
    names = {path.name for path in site.iterdir()}
    heavy = {"torch", "transformers", "sklearn", "optimum", "matplotlib", "pip"}
    assert not names & heavy, names & heavy
    assert (image / "app/data/models/router/model.onnx").is_file()
    writable = [
        path
        for path in files_below(image)
        if is_writable(image / path) and not is_writable(below / path)
    ]
    outside = [path for path in writable if not path.is_relative_to(DATA[1:])]
    assert writable, "the user cannot write to the volume"
    assert not outside, f"the user can write to {outside}"
    for folder in (site, image / "app"):
        for path in folder.rglob("*.py"):
            compiled = path.parent / "__pycache__"
            assert list(compiled.glob(f"{path.stem}.*.pyc")), f"{path} is not compiled"


def files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(parent, name).relative_to(folder)


def is_writable(path: Path) -> bool:
    """Whether the image's user can write to a path."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(status.st_mode):
        return False
    bit = 0o2
    if status.st_uid == USER:
        bit = 0o200
    elif status.st_gid == USER:
        bit = 0o20
    return bool(status.st_mode & bit)


def size_mb(*paths: Path) -> float:
    """Disk usage; each file counts once."""
    sizes = {}
    for path in paths:
        for file in [path, *(path / inner for inner in files_below(path))]:
            entry = file.lstat()
            sizes[entry.st_ino] = entry.st_blocks * 512
    return sum(sizes.values()) / 1e6


def show_sizes(image: Path) -> None:
    (site,) = (image / "opt/venv/lib").glob("python3*/site-packages")
    packages = sorted(((size_mb(path), path.name) for path in site.iterdir()), reverse=True)
    parts = {
        "packages": size_mb(image / "opt/venv"),
        "code": size_mb(*(image / "app" / name for name in ("proxy", "router_model", "training"))),
        "router model": size_mb(image / "app/data/models"),
        "results": size_mb(image / DATA[1:]),
    }
    total = sum(parts.values())
    table = Table("MB", "in the image, above its base", box=None)
    for name, size in parts.items():
        table.add_row(f"{size:.1f}", name)
        if name == "packages":
            for inner, package in packages[:8]:
                table.add_row(f"{inner:.1f}", f"  {package}")
    table.add_row(f"{total:.1f}", "total")
    Console().print(table)
    assert total <= MAX_ADDED_MB, f"{total:.0f} MB, limit {MAX_ADDED_MB} MB"


class Container:
    """A container of the image."""

    def __init__(self, podman: Podman, name: str, port: int, model: FakeUpstream) -> None:
        self._podman = podman
        self._health = config_of(podman)["Healthcheck"]["Test"][1:]
        address = model.base_url.removesuffix("/v1")
        environment = {
            "PORT": str(port),
            "ROUTER_ALLOW_ANONYMOUS": "true",
            "OLLAMA_BASE_URL": address,
            "OPENAI_BASE_URL": f"{address}/v1",
            "OPENAI_API_KEY": "sk-none",
        }
        options = [f"--env={key}={value}" for key, value in environment.items()]
        self._arguments = [*HARDENED, f"--volume={name}:{DATA}", f"--name={name}", *options, IMAGE]
        self._name = name

    def start(self) -> None:
        """Start it; wait until the image's HEALTHCHECK succeeds."""
        self._podman("run", "--detach", *self._arguments)
        deadline = time.monotonic() + START_SECONDS
        while not self._podman.succeeds("exec", self._name, *self._health):
            assert time.monotonic() < deadline, f"not healthy: {self.log()}"
            time.sleep(0.2)

    def execute(self, *command: str) -> str:
        return self._podman("exec", self._name, *command)

    def succeeds(self, *command: str) -> bool:
        return self._podman.succeeds("exec", self._name, *command)

    def log(self) -> str:
        return self._podman("logs", self._name, check=False)

    def stop(self) -> int:
        """Stop it as `docker stop` does; return the exit status."""
        self._podman("stop", f"--time={STOP_SECONDS}", self._name)
        return int(self._podman("inspect", "--format={{.State.ExitCode}}", self._name))

    def remove(self, *, volume: bool) -> None:
        self._podman("rm", "--force", "--time=0", self._name, check=False)
        if volume:
            self._podman("volume", "rm", "--force", self._name, check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def check_running(podman: Podman) -> None:
    port, name = free_port(), f"hybrid-llm-check-{os.getpid()}"
    base_url = f"http://127.0.0.1:{port}"
    async with FakeUpstream() as model, httpx2.AsyncClient(base_url=base_url) as client:
        container = Container(podman, name, port, model)
        try:
            started = time.monotonic()
            await asyncio.to_thread(container.start)
            print(f"healthy after {time.monotonic() - started:.1f} s")
            await asyncio.to_thread(check_inside, container)
            request_id = await check_answers(client)
            await check_stop(client, container, model)
            container.remove(volume=False)
            await asyncio.to_thread(container.start)
            explanation = await asyncio.to_thread(
                container.execute, "hybrid-llm", "explain", request_id
            )
            assert request_id in explanation, explanation
            assert await asyncio.to_thread(container.stop) == 0
        finally:
            container.remove(volume=True)


def check_inside(container: Container) -> None:
    """Check the privileges of the process, and where it can write."""
    process = container.execute("cat", "/proc/1/status")
    assert re.search(rf"^Uid:\s+{USER}\s+{USER}", process, re.MULTILINE), process
    assert re.search(r"^CapEff:\s+0+$", process, re.MULTILINE), process
    assert re.search(r"^NoNewPrivs:\s+1$", process, re.MULTILINE), process
    for folder, writable in {"/": 0, "/app": 0, "/opt/venv": 0, "/tmp": 1, DATA: 1}.items():
        assert container.succeeds("test", "-w", folder) == bool(writable), folder
    created = container.execute("find", "/tmp", DATA, "-newer", "/proc/1/cmdline", "-type", "f")
    unexpected = {line for line in created.split() if not line.startswith(f"{DATA}/router.db")}
    assert not unexpected, f"it wrote {unexpected}"
    assert "Usage:" in container.execute("hybrid-llm-train", "--help")
    assert "ok" in container.execute("hybrid-llm", "check-config", "configs/default.yaml")


async def check_answers(client: httpx2.AsyncClient) -> str:
    """Send a request to each endpoint; return the id of a chat request."""
    models = await client.get("/v1/models")
    assert "auto" in {model["id"] for model in models.json()["data"]}, models.text
    for path in ("/", "/compare", "/dashboard", "/experiments", "/metrics", "/openapi.json"):
        page = await client.get(path)
        assert page.status_code == 200, (path, page.text)
    page = await client.get("/dashboard")
    for path in set(re.findall(r"/ui/[\w./-]+", page.text)) | {"/ui/vendor/plotly.js"}:
        assert (await client.get(path)).status_code == 200, path
    steps = (await client.get("/api/experiments")).text
    assert "cost-quality" in steps or '"headline"' in steps, steps
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-router-reason"] == "score", answer.headers
    return str(answer.headers["x-request-id"])


async def check_stop(client: httpx2.AsyncClient, container: Container, model: FakeUpstream) -> None:
    """A stop during an answer: no new connections, the answer completes, exit status 0."""
    gate = Gate()
    events = openai_events()
    model.answer = chunked(*events[:3], gate, *events[3:])
    body = {
        "model": "auto",
        "stream": True,
        "messages": [{"role": "user", "content": "What is the capital of Portugal?"}],
    }
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        await gate.reached()
        started = time.monotonic()
        stopping = asyncio.create_task(asyncio.to_thread(container.stop))
        deadline = started + STOP_SECONDS / 2
        while await is_open(int(client.base_url.port or 0)):
            assert time.monotonic() < deadline, "it still accepts connections"
            await asyncio.sleep(0.05)
        gate.open()
        text = (await answer.aread()).decode()
    assert text.rstrip().endswith("data: [DONE]"), text
    status = await stopping
    assert status == 0, f"it exited with {status}: {container.log()}"
    print(f"stopped in {time.monotonic() - started:.1f} s, status 0, with a complete last answer")


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


if __name__ == "__main__":
    main()
