"""Several servers with one PostgreSQL behind HAProxy act as one proxy.

Nothing is lost or counted twice, also during a rolling restart.

Everything except the models is real: two `hybrid-llm serve`, with one and two workers, a
PostgreSQL, and HAProxy with the shipped configuration.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import needs
from fakes import DONE, HARD, Answer, Call, FakeUpstream, Gate, answer_json, chunked, whole
from held_load import HELD, Holding, under_load
from live import Fields, chat_body, merge
from proxy.record import key_hash
from scripted_models import completion, verdict
from served import Answer as Response
from served import Connection, Served, ask, request, until
from stored import read

pytest_plugins = ["databases"]

CONFIG = Path(__file__).parents[2] / "configs/haproxy.cfg"
PROCESSES = 3
# An answer has one token and costs 1 USD; two tokens are allowed.
DOLLAR = {"price": {"input": 0, "output": 1e6}}
ONE_TOKEN = {"prompt_tokens": 5, "completion_tokens": 1}
# A verdict has 200 tokens; the cost of 512 is reserved.
VERDICT = {"prompt_tokens": 0, "completion_tokens": 200}


class Balancer:
    """HAProxy on its own port."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self._log_file = folder / "haproxy.log"
        (self.port,) = free_ports(1)
        self._environment = {f"PROXY_{n}": f"127.0.0.1:{port}" for n, port in enumerate(ports, 1)}
        self._environment["BALANCER_ADDRESS"] = f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        program = needs.find("haproxy")
        with self._log_file.open("wb") as log:
            process = subprocess.Popen(
                [program, "-db", "-f", CONFIG],
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

    async def ask(self, key: str, **fields: Any) -> Response:
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


def free_ports(number: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@asynccontextmanager
async def cluster_of(
    folder: Path, url: str, local: FakeUpstream, cloud: FakeUpstream, changes: Fields
) -> AsyncIterator[Cluster]:
    proxies = []
    for number, port in enumerate(free_ports(2), 1):
        home = folder / f"proxy-{number}"
        home.mkdir()
        own = {"server": {"port": port, "workers": number}, "storage": {"url": url}}
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


def one_token(call: Call) -> Answer:
    return whole(answer_json("Yes", usage=ONE_TOKEN))


async def test_limits_of_keys_hold_across_all_processes(
    tmp_path: Path, postgres_url: str, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = one_token
    changes = {
        "upstreams": {"cloud": DOLLAR},
        "budget": {"cloud_usd_per_day": 40, "pacing": False},
        "server": {
            "api_keys": [
                {"key": "sk-poor", "cloud_usd_per_day": 12},
                {"key": "sk-slow", "requests_per_minute": 6},
                "sk-free",
            ]
        },
    }

    async def until_refused(key: str, **fields: Any) -> list[Response]:
        """Send requests from many clients, each until it is refused; return the responses."""
        responses = []

        async def run_client() -> None:
            while True:
                responses.append(await cluster.balancer.ask(key, **fields))
                if responses[-1].head.status != 200:
                    return

        await asyncio.gather(*(run_client() for _ in range(16)))
        return responses

    async with cluster_of(tmp_path, postgres_url, local, cloud, changes) as cluster:
        started = time.monotonic()
        responses = await until_refused("sk-slow", model="local")
        slow = Counter(response.head.status for response in responses)
        assert slow.keys() == {200, 429}
        # The bucket refills by one request in ten seconds.
        assert 6 <= slow[200] <= 6 + (time.monotonic() - started) / 10 + 1

        sent = sum(slow.values())

        async def has_spent(key: str, usd: int) -> bool:
            """Unused leases return after seconds; until then the budget counts as reserved."""
            nonlocal sent
            responses = await until_refused(key, model="cloud", max_tokens=2)
            sent += len(responses)
            refused = [response for response in responses if response.head.status != 200]
            codes = {json.loads(response.body)["error"]["code"] for response in refused}
            assert codes <= {"insufficient_quota", "rate_limit_exceeded"}
            return len(cloud.calls) >= usd and codes == {"insufficient_quota"}

        for key, usd in (("sk-poor", 12), ("sk-free", 40)):
            await until(partial(has_spent, key, usd), what="all is spent")
            sent += len(await until_refused(key, model="cloud", max_tokens=2))
            assert len(cloud.calls) <= usd + PROCESSES
        # Requests that may be local are answered by every server.
        for _ in range(6):
            answer = await cluster.balancer.ask("sk-free", text=HARD)
            assert answer.head.headers["x-router-target"] == "local"
        rows = await cluster.wait_for_rows(sent + 6)
        assert len(rows) == sent + 6
        paid = Counter(row["client_key_hash"] for row in rows if row["cost_usd"] == 1)
        assert sum(paid.values()) == len(cloud.calls)
        assert 12 <= paid[key_hash("sk-poor")] <= 12 + PROCESSES


async def test_conversations_rows_and_judging_work_across_servers(
    tmp_path: Path, postgres_url: str, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    async with FakeUpstream() as judging:
        judging.answer = lambda call: completion(verdict(call.json), usage=VERDICT)
        changes = {
            "judge": {
                "enabled": True,
                "model": "judge-1",
                "base_url": judging.base_url,
                "price": {"input": 0, "output": 1e6},
                "sample_rate": 1,
                "shadow_rate": 0,
                "usd_per_day": 2_000,
            }
        }
        async with cluster_of(tmp_path, postgres_url, local, cloud, changes) as cluster:
            port = cluster.balancer.port
            # Session affinity holds across servers.
            named = {"x-router-session": "one", "x-router-threshold": "0"}  # else it stays local
            first = await ask(port, chat_body(model="cloud"), headers=named)
            await cluster.wait_for_rows(1)
            turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Prove it")]
            messages = [{"role": role, "content": text} for role, text in turns]
            responses = [first]
            for _ in range(8):  # each on a new connection
                responses.append(await ask(port, chat_body(messages=messages), headers=named))
                assert responses[-1].head.headers["x-router-reason"] == "sticky"

            # A client that disconnects during a stream has one row.
            gate = Gate()
            local.answer = chunked(b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n', gate)
            disconnected = []
            for _ in range(4):
                connection = await Connection.open(port)
                await connection.send(request(chat_body(model="local", stream=True)))
                disconnected.append((await connection.read_head()).request_id)
                connection.vanish()
            local.reset()
            await cluster.wait_for_rows(4, "ending = 'client_gone'")

            # Each sample is judged once, until the budget is exhausted.
            responses += [
                await ask(port, chat_body(text=f"Is {n} a prime number?")) for n in range(14)
            ]

            def is_finished() -> bool:
                """No sample is claimed, and the budget is too small for another verdict."""
                ((claimed, usd),) = (
                    row.values()
                    for row in read(
                        cluster.url,
                        "SELECT (SELECT count(*) FROM samples WHERE claimed_by IS NOT NULL), "
                        "(SELECT coalesce(sum(usd), 0) FROM expenses)",
                    )
                )
                return not claimed and usd + 512 > 2_000

            rows = await cluster.wait_for_rows(len(responses) + len(disconnected))
            await until(is_finished, what="the judge budget is used")
            assert Counter(row["id"] for row in rows) == Counter(
                [response.request_id for response in responses] + disconnected
            )
            grades = read(cluster.url, "SELECT request_id FROM judgements")
            paid = read(cluster.url, "SELECT usd FROM expenses")
    assert [row["usd"] for row in paid] == [200] * 8
    assert len(grades) == len(judging.calls) == 8


async def test_a_rolling_restart_of_servers_loses_no_request(
    tmp_path: Path, postgres_url: str, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = Holding()
    # Twice the 3 seconds in which the balancer notices, for a busy machine.
    drain = {"server": {"drain_seconds": 6}}
    async with cluster_of(tmp_path, postgres_url, local, cloud, drain) as cluster:
        balancer, held = cluster.balancer, []
        # With fewer clients, a proxy might stop while no client is connecting.
        async with under_load(balancer.port, clients=60) as load:
            for number, proxy in enumerate(cluster.proxies, 1):
                local.answer = holding = Holding()
                streams = []
                for _ in range(4):
                    connection = await Connection.open(balancer.port)
                    body = chat_body(model="local", stream=True, text=HELD)
                    await connection.send(request(body))
                    streams.append((connection, await connection.read_head()))
                ups = balancer.log.count(f"ready/proxy-{number} is UP".encode())
                proxy.signal(signal.SIGTERM)
                await until(lambda: not listens(proxy.port), what="it stops listening")  # noqa: B023
                assert proxy.runs
                holding.gate.open()
                for connection, head in streams:
                    text = b"".join([piece async for piece in connection.pieces(head)])
                    assert text.endswith(DONE)
                    connection.leave()
                    held.append(head.request_id)
                assert await proxy.ended() == 0
                await proxy.start()
                await until(
                    lambda: balancer.log.count(f"ready/proxy-{number} is UP".encode()) > ups,  # noqa: B023
                    what="the balancer has noticed",
                )
        assert (load.broken, load.refused, load.cut) == (0, 0, 0)
        assert {done.status for done in load.completed} == {200}
        expected = [done.id for done in load.completed] + held
        rows = await cluster.wait_for_rows(len(expected))
        assert Counter(row["id"] for row in rows) == Counter(expected)
        assert {row["ending"] for row in rows} == {"ok"}
        for proxy in cluster.proxies:
            assert b"ERROR" not in proxy.log


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True
