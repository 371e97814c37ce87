"""A real Prometheus that runs this project's own configuration against proxies of the tests.

    async with Prometheus(folder, ["127.0.0.1:8080"]) as prometheus:
        series = await prometheus.query("router_in_flight")

Of configs/prometheus.yml only the targets and the intervals are others, of configs/alerts.yml only
how long a state must last: tests have seconds and not minutes.
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
START_SECONDS = 60.0  # a whole process, on a machine that is busy with something else
POLL_SECONDS = 0.05
INTERVAL = "1s"  # between two scrapes, and what one may take


class Series(NamedTuple):
    """One series of an answer: its labels, and (UNIX seconds, value) pairs."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class QueryError(Exception):
    """Prometheus refuses an expression; the message is its own."""


def program(name: str) -> str:
    """Where a program of Prometheus' is."""
    return needs.find(name)


def promtool(*arguments: str | Path, text: str | None = None) -> str:
    """Run promtool; what it says. Raises AssertionError with that when it finds something wrong."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"promtool {' '.join(map(str, arguments))} says:\n{said}"
    return said


class Prometheus:
    """A Prometheus with its files in a folder.

    Args:
        targets: what it scrapes, as host:port.
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

    async def ask(self, path: str, **parameters: Any) -> Any:
        """What the API says. Raises QueryError."""
        answer = (await self._client.get(f"/api/v1/{path}", params=parameters)).json()
        if answer["status"] != "success":
            raise QueryError(answer["error"])
        return answer["data"]

    async def query(self, expr: str) -> list[Series]:
        """An expression's value now. Raises QueryError."""
        data = await self.ask("query", query=expr)
        if data["resultType"] == "scalar":
            return [Series({}, _points([data["result"]]))]
        return [Series(one["metric"], _points([one["value"]])) for one in data["result"]]

    async def query_range(
        self, expr: str, *, start: float, end: float, step: float
    ) -> list[Series]:
        """An expression's values from start to end (UNIX seconds). Raises QueryError."""
        data = await self.ask("query_range", query=expr, start=start, end=end, step=step)
        return [Series(one["metric"], _points(one["values"])) for one in data["result"]]


def _points(pairs: list[list[Any]]) -> list[tuple[float, float]]:
    return [(float(seconds), float(value)) for seconds, value in pairs]
