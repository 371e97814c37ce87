"""Several servers on one PostgreSQL behind one HAProxy are one proxy: nothing is counted twice or
lost, whichever of them answers, also while they are replaced one after the other.

Everything is real but the models: `hybrid-llm serve` in processes of its own, a server of one
worker and one of two, a PostgreSQL, and HAProxy with the configuration that ships.
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
from served import Answer as Told
from served import Connection, Served, ask, request, until
from stored import read

pytest_plugins = ["databases"]

CONFIG = Path(__file__).parents[2] / "configs/haproxy.cfg"
PROCESSES = 3
# A dollar for each token of an answer, of which there is one; two are allowed.
DOLLAR = {"price": {"input": 0, "output": 1e6}}
ONE_TOKEN = {"prompt_tokens": 5, "completion_tokens": 1}
# A verdict may have 512 tokens, for which dollars are set aside, and has 200.
VERDICT = {"prompt_tokens": 0, "completion_tokens": 200}


class Balancer:
    """HAProxy, on a port of its own."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self._log_file = folder / "haproxy.log"
        (self.port,) = free_ports(1)
        self._environment = {f"PROXY_{n}": f"127.0.0.1:{one}" for n, one in enumerate(ports, 1)}
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

    async def ask(self, key: str, **fields: Any) -> Told:
        headers = {"authorization": f"Bearer {key}"}
        return await ask(self.port, chat_body(**fields), headers=headers)


class Cluster:
    """What the tests use of it. Its servers are `proxies`."""

    def __init__(self, url: str, balancer: Balancer, proxies: list[Served]) -> None:
        self.url = url
        self.balancer = balancer
        self.proxies = proxies

    def rows(self, which: str = "true") -> list[dict[str, Any]]:
        return read(self.url, f"SELECT * FROM requests WHERE {which}")

    async def written(self, requests: int, which: str = "true") -> list[dict[str, Any]]:
        """The rows, once there are as many as there were requests."""
        await until(lambda: len(self.rows(which)) >= requests, what="the rows are written")
        return self.rows(which)


def free_ports(number: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports: list[int] = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


@asynccontextmanager
async def cluster_of(
    folder: Path, url: str, local: FakeUpstream, cloud: FakeUpstream, changes: Fields
) -> AsyncIterator[Cluster]:
    proxies = []
    for number, port in enumerate(free_ports(2), 1):
        place = folder / f"proxy-{number}"
        place.mkdir()
        own = {"server": {"port": port, "workers": number}, "storage": {"url": url}}
        proxies.append(Served(place, local, cloud, changes=merge(changes, own)))
        proxies[-1].port = port
    balancer = Balancer(folder, [proxy.port for proxy in proxies])
    async with AsyncExitStack() as stack:
        for proxy in proxies:  # none is left when another one does not start
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


async def test_what_keys_may_use_is_counted_over_all_processes(
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

    async def until_refused(key: str, **fields: Any) -> list[Told]:
        """What many clients at once are told, each until it is refused."""
        told = []

        async def one_client() -> None:
            while True:
                told.append(await cluster.balancer.ask(key, **fields))
                if told[-1].head.status != 200:
                    return

        await asyncio.gather(*(one_client() for _ in range(16)))
        return told

    async with cluster_of(tmp_path, postgres_url, local, cloud, changes) as cluster:
        began = time.monotonic()
        slow = Counter(one.head.status for one in await until_refused("sk-slow", model="local"))
        assert slow.keys() == {200, 429}
        # One more becomes free every ten seconds.
        assert 6 <= slow[200] <= 6 + (time.monotonic() - began) / 10 + 1

        asked = sum(slow.values())

        async def has_spent(key: str, usd: int) -> bool:
            """What one has drawn and does not need comes back to the others in seconds; until then
            they say that it is held, and not that it is spent."""
            nonlocal asked
            told = await until_refused(key, model="cloud", max_tokens=2)
            asked += len(told)
            refused = [one for one in told if one.head.status != 200]
            codes = {json.loads(one.body)["error"]["code"] for one in refused}
            assert codes <= {"insufficient_quota", "rate_limit_exceeded"}
            return len(cloud.calls) >= usd and codes == {"insufficient_quota"}

        for key, usd in (("sk-poor", 12), ("sk-free", 40)):
            await until(partial(has_spent, key, usd), what="all is spent")
            asked += len(await until_refused(key, model="cloud", max_tokens=2))
            assert len(cloud.calls) <= usd + PROCESSES
        # What may be answered on this hardware is, whoever is asked.
        for _ in range(6):
            answer = await cluster.balancer.ask("sk-free", text=HARD)
            assert answer.head.headers["x-router-target"] == "local"
        rows = await cluster.written(asked + 6)
        assert len(rows) == asked + 6
        paid = Counter(row["client_key_hash"] for row in rows if row["cost_usd"] == 1)
        assert sum(paid.values()) == len(cloud.calls)
        assert 12 <= paid[key_hash("sk-poor")] <= 12 + PROCESSES


async def test_conversations_rows_and_verdicts_are_those_of_one_proxy(
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
            # A conversation goes on where it is.
            named = {"x-router-session": "one", "x-router-threshold": "0"}  # else it stays local
            first = await ask(port, chat_body(model="cloud"), headers=named)
            await cluster.written(1)
            turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Prove it")]
            messages = [{"role": role, "content": text} for role, text in turns]
            told = [first]
            for _ in range(8):  # each on a connection of its own
                told.append(await ask(port, chat_body(messages=messages), headers=named))
                assert told[-1].head.headers["x-router-reason"] == "sticky"

            # A client that leaves in the middle of a stream is one row, too.
            gate = Gate()
            local.answer = chunked(b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n', gate)
            left = []
            for _ in range(4):
                connection = await Connection.open(port)
                await connection.send(request(chat_body(model="local", stream=True)))
                left.append((await connection.read_head()).request_id)
                connection.vanish()
            local.reset()
            await cluster.written(4, "ending = 'client_gone'")

            # What is drawn is judged by one of them, as long as there are dollars.
            told += [await ask(port, chat_body(text=f"Is {n} a prime number?")) for n in range(14)]

            def nothing_is_left() -> bool:
                """Nobody works on anything, and the dollars do not last for another verdict."""
                ((claimed, usd),) = (
                    row.values()
                    for row in read(
                        cluster.url,
                        "SELECT (SELECT count(*) FROM samples WHERE claimed_by IS NOT NULL), "
                        "(SELECT coalesce(sum(usd), 0) FROM expenses)",
                    )
                )
                return not claimed and usd + 512 > 2_000

            rows = await cluster.written(len(told) + len(left))
            await until(nothing_is_left, what="what can be paid for is judged")
            assert Counter(row["id"] for row in rows) == Counter(
                [one.request_id for one in told] + left
            )
            grades = read(cluster.url, "SELECT request_id FROM judgements")
            paid = read(cluster.url, "SELECT usd FROM expenses")
    assert [row["usd"] for row in paid] == [200] * 8
    assert len(grades) == len(judging.calls) == 8


async def test_replacing_one_after_the_other_loses_nothing(
    tmp_path: Path, postgres_url: str, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = Holding()
    # Twice the 3 seconds in which the balancer notices: the machine may be busy.
    drain = {"server": {"drain_seconds": 6}}
    async with cluster_of(tmp_path, postgres_url, local, cloud, drain) as cluster:
        balancer, held = cluster.balancer, []
        # With fewer, some proxy might be told to stop when nobody was just being connected.
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
                await until(lambda: not listens(proxy.port), what="it takes nothing new")  # noqa: B023
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
        assert {told.status for told in load.told} == {200}
        expected = [told.id for told in load.told] + held
        rows = await cluster.written(len(expected))
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
