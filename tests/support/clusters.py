"""Several servers with one PostgreSQL behind HAProxy, as the shipped configuration has it.

async with cluster_of(tmp_path, postgres_url, local, cloud, {}, workers=(1, 1)) as cluster:
    await ask(cluster.balancer.port, chat_body())
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import needs
from fakes import FakeUpstream
from live import Fields, chat_body, merge
from ports import free_ports
from served import Answer, Served, ask, until
from stored import read

CONFIG = Path(__file__).parents[2] / "configs/haproxy.cfg"


def balancer_config(proxies: int) -> str:
    """The shipped configuration of HAProxy, for this number of proxies."""
    lines = []
    for line in CONFIG.read_text(encoding="utf-8").splitlines():
        lines.append(line)
        if line.strip().startswith("server proxy-2 "):
            lines += [line.replace("2", str(number)) for number in range(3, proxies + 1)]
    return "\n".join([*lines, ""])


def balancer_environment(port: int, proxies: Sequence[int]) -> dict[str, str]:
    """The variables of `balancer_config`, for HAProxy and the proxies on these ports."""
    environment = {f"PROXY_{n}": f"127.0.0.1:{proxy}" for n, proxy in enumerate(proxies, 1)}
    environment.setdefault("PROXY_2", environment["PROXY_1"])  # it names at least two
    environment["BALANCER_ADDRESS"] = f"127.0.0.1:{port}"
    return environment


class Balancer:
    """HAProxy on its own port."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self._config_file = folder / "haproxy.cfg"
        self._config_file.write_text(balancer_config(len(ports)), encoding="utf-8")
        self._log_file = folder / "haproxy.log"
        (self.port,) = free_ports(1)
        self._environment = balancer_environment(self.port, ports)

    @contextmanager
    def running(self) -> Iterator[None]:
        program = needs.find("haproxy")
        with self._log_file.open("wb") as log:
            process = subprocess.Popen(
                [program, "-db", "-f", self._config_file],
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    @property
    def log(self) -> bytes:
        return self._log_file.read_bytes()

    async def ask(self, key: str, **fields: Any) -> Answer:
        headers = {"authorization": f"Bearer {key}"}
        return await ask(self.port, chat_body(**fields), headers=headers)


class Cluster:
    """A cluster: its database, balancer and servers."""

    def __init__(self, url: str, balancer: Balancer, proxies: list[Served]) -> None:
        self.url = url
        self.balancer = balancer
        self.proxies = proxies

    def rows(self, condition: str = "true") -> list[dict[str, Any]]:
        return read(self.url, f"SELECT * FROM requests WHERE {condition}")

    async def wait_for_rows(self, requests: int, condition: str = "true") -> list[dict[str, Any]]:
        """Wait until there is a row for each request; return the rows."""
        await until(lambda: len(self.rows(condition)) >= requests, what="the rows are written")
        return self.rows(condition)


@asynccontextmanager
async def cluster_of(
    folder: Path,
    url: str,
    local: FakeUpstream,
    cloud: FakeUpstream,
    changes: Fields,
    *,
    workers: Sequence[int] = (1, 2),
) -> AsyncIterator[Cluster]:
    """A running cluster.

    Args:
        workers: the number of each server's workers.
    """
    proxies = []
    for number, port in enumerate(free_ports(len(workers)), 1):
        home = folder / f"proxy-{number}"
        home.mkdir()
        own = {"server": {"port": port, "workers": workers[number - 1]}, "storage": {"url": url}}
        proxies.append(Served(home, local, cloud, changes=merge(changes, own)))
        proxies[-1].port = port
    balancer = Balancer(folder, [proxy.port for proxy in proxies])
    async with AsyncExitStack() as stack:
        for proxy in proxies:  # all are killed when one does not start
            stack.callback(proxy.kill)
        await asyncio.gather(*(proxy.start() for proxy in proxies))
        stack.enter_context(balancer.running())

        async def listens() -> bool:
            try:
                return (await ask(balancer.port, path="/ready")).head.status == 200
            except ConnectionError:
                return False

        await until(listens, what="the balancer listens")
        yield Cluster(url, balancer, proxies)
