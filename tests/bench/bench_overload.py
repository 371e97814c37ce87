"""Clients far above the proxy's capacity, with and without `server.overload_seconds`.

    make bench-overload

Each client has a connection and sends its next request after the answer; after a 503 it waits for
`retry-after` first, as OpenAI's clients do. The proxy has one core, clients and upstream the other.
Writes data/results/bench_overload.json.
"""

import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import click
import uvloop
from rich.console import Console
from rich.table import Table

from bench import describe_machine, quantile
from bench_loop import messages, signed, subject
from load import run_upstream

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "bench_overload.json"
MOCK_PORT: Final = 18_431
LIMITS: Final = (None, 1.0, 0.25)
BODY_BYTES: Final = 60_000


class Crowd:
    """Clients of one port.

    Attributes:
        accepted, refused: seconds of the requests since `begin`.
        failed: clients whose connection broke.
    """

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self._request = request
        self._since = float("inf")
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.failed = 0

    def begin(self) -> None:
        self._since = time.monotonic()

    async def client(self) -> None:
        """Send requests until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while True:
                if pause := await self._ask(reader, writer):
                    await asyncio.sleep(pause)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.failed += 1
        finally:
            writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        """One request. Returns the pause after it, in seconds."""
        asked = time.monotonic()
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await reader.readexactly(int(fields[b"content-length"]))
        is_accepted = head.startswith(b"http/1.1 200")
        if asked >= self._since:
            times = self.accepted if is_accepted else self.refused
            times.append(time.monotonic() - asked)
        return int(fields.get(b"retry-after", b"0"))


async def measure(limit: float | None, *, clients: int, seconds: float) -> dict[str, Any]:
    """One run with this limit."""
    mock = asyncio.create_task(run_upstream(MOCK_PORT))
    cores = sorted(os.sched_getaffinity(0))
    changes = {
        "server": {"overload_seconds": limit},
        "upstreams": {"cloud": {"max_concurrency": None}},
    }
    with tempfile.TemporaryDirectory() as folder:
        os.sched_setaffinity(0, cores[:1])  # the proxy inherits it
        url = f"http://127.0.0.1:{MOCK_PORT}/v1"
        async with subject(Path(folder), url, changes=changes) as proxy:
            os.sched_setaffinity(0, cores[1:])
            request = signed(messages(BODY_BYTES, 400), 0)
            crowd = Crowd(proxy.port, request)
            tasks = []
            for _ in range(clients):
                tasks.append(asyncio.create_task(crowd.client()))
                await asyncio.sleep(0.001)
            crowd.begin()
            await proxy.read()
            await asyncio.sleep(seconds)
            figures = await proxy.read()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    mock.cancel()
    await asyncio.gather(mock, return_exceptions=True)
    os.sched_setaffinity(0, cores)
    total = len(crowd.accepted) + len(crowd.refused)

    def ms(values: list[float], share: float) -> float | None:
        return round(quantile(values, share) * 1e3) if values else None

    return {
        "overload_seconds": limit,
        "clients": clients,
        "accepted_per_second": round(len(crowd.accepted) / seconds),
        "accepted_p50_ms": ms(crowd.accepted, 0.5),
        "accepted_p99_ms": ms(crowd.accepted, 0.99),
        "refused_share": round(len(crowd.refused) / total, 3) if total else None,
        "refused_p99_ms": ms(crowd.refused, 0.99),
        "failed": crowd.failed,
        "loop_delay_p50_ms": round(quantile(figures["late_ms"], 0.5)),
        "loop_delay_max_ms": round(max(figures["late_ms"])),
    }


@click.command()
@click.option("--clients", default=2000, show_default=True)
@click.option("--seconds", default=15.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
def main(clients: int, seconds: float, out: Path) -> None:
    """Measure an overload with and without refusals."""
    machine = describe_machine()
    rows = [uvloop.run(measure(limit, clients=clients, seconds=seconds)) for limit in LIMITS]
    table = Table(
        title=f"{clients} clients, {BODY_BYTES // 1000} kB a request", title_justify="left"
    )
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=150).print(table)
    out.write_text(json.dumps({"machine": machine, "runs": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
