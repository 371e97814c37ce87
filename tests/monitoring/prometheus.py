"""A real Prometheus that runs this project's configuration with proxies of the tests.

    async with Prometheus(folder, ["127.0.0.1:8080"]) as prometheus:
        series = await prometheus.query("router_in_flight")

Only the targets and intervals of configs/prometheus.yml and the `for` durations of
configs/alerts.yml differ, because tests take seconds, not minutes.
"""

import asyncio
import re
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import yaml

import needs
from fakes import PATIENCE_SECONDS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
START_SECONDS = 60.0  # for a process start on a busy machine
POLL_SECONDS = 0.05
INTERVAL = "1s"  # scrape interval and timeout


class Series(NamedTuple):
    """A series of a result: its labels, and (UNIX seconds, value) pairs."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class QueryError(Exception):
    """Prometheus rejected an expression. The message is from Prometheus."""


def program(name: str) -> str:
    """The path of a program of Prometheus. Raises needs.Missing."""
    return needs.find(name)


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool; return its output. Raises AssertionError with it when promtool finds errors."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"promtool {' '.join(map(str, arguments))}:\n{output}"
    return output


class Prometheus:
    """A Prometheus with its files in a folder.

    Args:
        targets: to scrape, as host:port.
    """

    def __init__(self, folder: Path, targets: list[str]) -> None:
        config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        (scrape,) = config["scrape_configs"]
        scrape["static_configs"] = [{"targets": targets}]
        del scrape["dns_sd_configs"]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        rules = (CONFIGS / "alerts.yml").read_text(encoding="utf-8")
        (folder / "alerts.yml").write_text(re.sub(r"\bfor: \w+", "for: 0s", rules))
        self._process: subprocess.Popen[bytes] | None = None
        self._client = httpx2.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False, verify=False)

    async def __aenter__(self) -> "Prometheus":
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._client.base_url = httpx2.URL(f"http://{address}")
        log = self._folder / "prometheus.log"
        self._process = self._run(address, log)
        async with asyncio.timeout(START_SECONDS):
            while not await self._is_ready():
                assert self._process.poll() is None, f"Prometheus ended:\n{log.read_text()}"
                await asyncio.sleep(POLL_SECONDS)

    def _run(self, address: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as sink:
            return subprocess.Popen(
                [
                    program("prometheus"),
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=tsdb",
                    f"--web.listen-address={address}",
                    "--log.level=warn",
                ],
                cwd=self._folder,
                stdout=sink,
                stderr=sink,
            )

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx2.TransportError:
            return False

    async def _stop(self) -> None:
        await self._client.aclose()
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, START_SECONDS)

    async def get(self, path: str, **parameters: Any) -> Any:
        """Query the API. Raises QueryError."""
        answer = (await self._client.get(f"/api/v1/{path}", params=parameters)).json()
        if answer["status"] != "success":
            raise QueryError(answer["error"])
        return answer["data"]

    async def query(self, expr: str) -> list[Series]:
        """The current value of an expression. Raises QueryError."""
        data = await self.get("query", query=expr)
        if data["resultType"] == "scalar":
            return [Series({}, _points([data["result"]]))]
        return [Series(series["metric"], _points([series["value"]])) for series in data["result"]]

    async def query_range(
        self, expr: str, *, start: float, end: float, step: float
    ) -> list[Series]:
        """The values of an expression from start to end (UNIX seconds). Raises QueryError."""
        data = await self.get("query_range", query=expr, start=start, end=end, step=step)
        return [Series(series["metric"], _points(series["values"])) for series in data["result"]]


def _points(pairs: list[list[Any]]) -> list[tuple[float, float]]:
    return [(float(seconds), float(value)) for seconds, value in pairs]
