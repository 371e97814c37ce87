"""Builds the Dockerfile with a real builder and tries what came of it, with a read-only root.

    make image-check        # Debian, as root: apt-get install --no-install-recommends \\
                            #   debootstrap podman runc
    python tests/tools/image.py --base pull  # on the base that the Dockerfile names, by the network

Podman builds the image and runs it as compose.yaml would: another user than root, no capability,
nothing writable but its volume and /tmp. A scripted model answers behind it. It is asked, it is
stopped in the middle of an answer, it is started again and must know what it was asked.

Left to itself it fetches no image: the base is a Debian 12 made here, whose Python 3.11 stands in
for the image's own. So this says nothing of the real base; --base pull does. Of processors other
than this machine's it says only that PyPI has every package of the lock for them.
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
# As compose.yaml has it; what a machine lets nobody raise is left low.
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
    """Podman with its images and containers in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.command = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.command += ["--storage-driver=overlay", "--cgroup-manager=cgroupfs"]
        if shutil.which("runc"):
            self.command.append("--runtime=runc")

    def __call__(self, *arguments: str, check: bool = True, shown: bool = False) -> str:
        """What it writes; with `shown` it writes to the terminal. Raises AssertionError."""
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
    parser.add_argument("--folder", type=Path, default=ROOT / ".image", help="kept for next time")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: it makes a Debian and runs containers")
    # Podman asks for as many files as it may have.
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
    print("image check: built, started, asked, stopped in the middle of an answer, started again")


def find_base() -> str:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (name,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    return f"docker.io/library/{name}"


def make_base(podman: Podman, name: str) -> None:
    """A Debian with Python, under the name of the image that the Dockerfile builds on."""
    with tempfile.TemporaryDirectory() as folder:
        packages = f"--include={','.join(STAND_IN)}"
        command = ["debootstrap", "--variant=minbase", packages, "bookworm", folder]
        subprocess.run(command, check=True)
        # pip must trust whom this machine trusts.
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
    """Every package of the lock is there for it as a wheel, with one of the lock's hashes."""
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
        "--format=docker",  # the other one has no HEALTHCHECK
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
    """No torch, nothing that the user may change, nothing left to compile."""
    (site,) = (image / "opt/venv/lib").glob("python3*/site-packages")
    names = {path.name for path in site.iterdir()}
    heavy = {"torch", "transformers", "sklearn", "optimum", "matplotlib", "pip"}
    assert not names & heavy, names & heavy
    assert (image / "app/data/models/router/model.onnx").is_file()
    free = [
        path
        for path in files_below(image)
        if is_writable(image / path) and not is_writable(below / path)
    ]
    outside = [path for path in free if not path.is_relative_to(DATA[1:])]
    assert free, "the volume is not the user's"
    assert not outside, f"the user may write to {outside}"
    for folder in (site, image / "app"):
        for path in folder.rglob("*.py"):
            compiled = path.parent / "__pycache__"
            assert list(compiled.glob(f"{path.stem}.*.pyc")), f"{path} is not compiled"


def files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(place, name).relative_to(folder)


def is_writable(path: Path) -> bool:
    """Whether the image's user may write there."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if stat.S_ISLNK(found.st_mode):
        return False
    bit = 0o2
    if found.st_uid == USER:
        bit = 0o200
    elif found.st_gid == USER:
        bit = 0o20
    return bool(found.st_mode & bit)


def size_mb(*paths: Path) -> float:
    """What it takes on a disk, each file once."""
    found = {}
    for path in paths:
        for one in [path, *(path / inner for inner in files_below(path))]:
            entry = one.lstat()
            found[entry.st_ino] = entry.st_blocks * 512
    return sum(found.values()) / 1e6


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
    table = Table("MB", "what the image has above its base", box=None)
    for name, size in parts.items():
        table.add_row(f"{size:.1f}", name)
        if name == "packages":
            for inner, package in packages[:8]:
                table.add_row(f"{inner:.1f}", f"  {package}")
    table.add_row(f"{total:.1f}", "in all")
    Console().print(table)
    assert total <= MAX_ADDED_MB, f"{total:.0f} MB are above {MAX_ADDED_MB}"


class Container:
    """The image as it runs, until it is told to stop."""

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
        given = [f"--env={key}={value}" for key, value in environment.items()]
        self._arguments = [*HARDENED, f"--volume={name}:{DATA}", f"--name={name}", *given, IMAGE]
        self._name = name

    def start(self) -> None:
        """Returns once the image's own HEALTHCHECK is content."""
        self._podman("run", "--detach", *self._arguments)
        deadline = time.monotonic() + START_SECONDS
        while not self._podman.succeeds("exec", self._name, *self._health):
            assert time.monotonic() < deadline, f"not healthy: {self.log()}"
            time.sleep(0.2)

    def do(self, *command: str) -> str:
        return self._podman("exec", self._name, *command)

    def may(self, *command: str) -> bool:
        return self._podman.succeeds("exec", self._name, *command)

    def log(self) -> str:
        return self._podman("logs", self._name, check=False)

    def stop(self) -> int:
        """As `docker stop` does, and what it ended with."""
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
            told = await asyncio.to_thread(container.do, "hybrid-llm", "explain", request_id)
            assert request_id in told, told
            assert await asyncio.to_thread(container.stop) == 0
        finally:
            container.remove(volume=True)


def check_inside(container: Container) -> None:
    """What Linux says of the process, and what it may write."""
    process = container.do("cat", "/proc/1/status")
    assert re.search(rf"^Uid:\s+{USER}\s+{USER}", process, re.MULTILINE), process
    assert re.search(r"^CapEff:\s+0+$", process, re.MULTILINE), process
    assert re.search(r"^NoNewPrivs:\s+1$", process, re.MULTILINE), process
    for folder, is_free in {"/": 0, "/app": 0, "/opt/venv": 0, "/tmp": 1, DATA: 1}.items():
        assert container.may("test", "-w", folder) == bool(is_free), folder
    made = container.do("find", "/tmp", DATA, "-newer", "/proc/1/cmdline", "-type", "f")
    strange = {line for line in made.split() if not line.startswith(f"{DATA}/router.db")}
    assert not strange, f"it wrote {strange}"
    assert "Usage:" in container.do("hybrid-llm-train", "--help")
    assert "ok" in container.do("hybrid-llm", "check-config", "configs/default.yaml")


async def check_answers(client: httpx2.AsyncClient) -> str:
    """One of everything; the id of a chat request."""
    models = await client.get("/v1/models")
    assert "auto" in {one["id"] for one in models.json()["data"]}, models.text
    for path in ("/", "/compare", "/dashboard", "/experiments", "/metrics", "/openapi.json"):
        page = await client.get(path)
        assert page.status_code == 200, (path, page.text)
    page = await client.get("/dashboard")
    for path in set(re.findall(r"/ui/[\w./-]+", page.text)) | {"/ui/plotly.min.js"}:
        assert (await client.get(path)).status_code == 200, path
    steps = (await client.get("/api/experiments")).text
    assert "cost-quality" in steps or '"headline"' in steps, steps
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is 2+2?"}]}
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-router-reason"] == "score", answer.headers
    return str(answer.headers["x-request-id"])


async def check_stop(client: httpx2.AsyncClient, container: Container, model: FakeUpstream) -> None:
    """Told to stop in the middle of an answer it takes nobody new, finishes that one, and ends."""
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
            assert time.monotonic() < deadline, "it still takes connections"
            await asyncio.sleep(0.05)
        gate.open()
        text = (await answer.aread()).decode()
    assert text.rstrip().endswith("data: [DONE]"), text
    status = await stopping
    assert status == 0, f"it ended with {status}: {container.log()}"
    print(f"stopped in {time.monotonic() - started:.1f} s, status 0, its last answer whole")


async def is_open(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


if __name__ == "__main__":
    main()
