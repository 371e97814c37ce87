"""Several servers with one PostgreSQL behind HAProxy act as one proxy.

Nothing is lost or counted twice, also during a rolling restart.

Everything except the models is real: two to four `hybrid-llm serve`, a PostgreSQL, and HAProxy with
the shipped configuration.
"""

import asyncio
import json
import signal
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from clusters import cluster_of
from fakes import DONE, HARD, Answer, Call, FakeUpstream, Gate, answer_json, chunked, whole
from held_load import HELD, Holding, under_load
from live import Samples, chat_body
from proxy.record import key_hash
from scripted_models import completion, verdict
from served import Answer as Response
from served import Connection, ask, request, until
from stored import read

pytest_plugins = ["databases"]

# An answer has one token and costs 1 USD; two tokens are allowed.
DOLLAR = {"price": {"input": 0, "output": 1e6}}
ONE_TOKEN = {"prompt_tokens": 5, "completion_tokens": 1}
# A verdict has 200 tokens; the cost of 512 is reserved.
VERDICT = {"prompt_tokens": 0, "completion_tokens": 200}


def one_token(call: Call) -> Answer:
    return whole(answer_json("Yes", usage=ONE_TOKEN))


@pytest.mark.parametrize("workers", [(1, 2), (1, 1, 1, 1)])
async def test_limits_of_keys_hold_across_all_processes(
    tmp_path: Path,
    postgres_url: str,
    local: FakeUpstream,
    cloud: FakeUpstream,
    workers: tuple[int, ...],
) -> None:
    processes = sum(workers)
    local.answer = cloud.answer = one_token
    changes = {
        "upstreams": {"cloud": DOLLAR},
        "budget": {"cloud_usd_per_day": 40, "pacing": False},
        "server": {
            "api_keys": [
                {"key": "sk-poor", "cloud_usd_per_day": 12},
                {"key": "sk-slow", "requests_per_minute": 6},
                {"key": "sk-fast", "requests_per_minute": 300},
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

    async with cluster_of(
        tmp_path, postgres_url, local, cloud, changes, workers=workers
    ) as cluster:
        sent = 0
        for key, per_minute in (("sk-slow", 6), ("sk-fast", 300)):
            started = time.monotonic()
            responses = await until_refused(key, model="local")
            statuses = Counter(response.head.status for response in responses)
            assert statuses.keys() == {200, 429}
            # Each process takes up to a twentieth of a minute's requests in advance.
            ahead = processes * (per_minute // 20)
            refilled = (time.monotonic() - started) / 60 * per_minute
            assert per_minute - ahead <= statuses[200] <= per_minute + ahead + refilled + 1
            sent += len(responses)

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
            assert len(cloud.calls) <= usd + processes
        # Requests that may be local are answered by every server.
        for _ in range(6):
            answer = await cluster.balancer.ask("sk-free", text=HARD)
            assert answer.head.headers["x-router-target"] == "local"
        rows = await cluster.wait_for_rows(sent + 6)
        assert len(rows) == sent + 6
        headers = {"authorization": "Bearer sk-free"}
        scraped = [
            Samples((await ask(proxy.port, path="/metrics", headers=headers)).body.decode())
            for proxy in cluster.proxies
        ]
        assert sum(samples("router_requests_total") for samples in scraped) == len(rows)
        paid = Counter(row["client_key_hash"] for row in rows if row["cost_usd"] == 1)
        assert sum(paid.values()) == len(cloud.calls)
        assert 12 <= paid[key_hash("sk-poor")] <= 12 + processes


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


async def test_a_killed_server_costs_no_other_row_and_no_second_call(
    tmp_path: Path, postgres_url: str, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """A killed process loses its own last rows. The balancer repeats no request."""
    answered: list[str] = []
    failed: list[int] = []
    sent: Counter[int] = Counter()
    is_over = False

    async def send_requests(number: int) -> None:
        while not is_over:
            sent[number] += 1
            body = chat_body(text=f"How much is {number} + {sent[number]}?", model="cloud")
            answer = await ask(cluster.balancer.port, body)
            if answer.head.status == 200:
                answered.append(answer.request_id)
            else:
                failed.append(answer.head.status)

    async with cluster_of(
        tmp_path, postgres_url, local, cloud, {}, workers=(1, 1, 1, 1)
    ) as cluster:
        async with asyncio.TaskGroup() as clients:
            for number in range(16):
                clients.create_task(send_requests(number))
            await until(lambda: len(answered) > 200, what="clients are answered")
            cluster.proxies[0].kill()
            running = sent.copy()
            await until(
                lambda: all(sent[number] > running[number] for number in running),
                what="no answer of the killed process is on its way",
            )
            before = len(answered)
            await until(lambda: len(answered) > before + 200, what="the others answer")
            is_over = True
        # Only requests that the killed process had received fail, at most one a client.
        assert set(failed) <= {502}
        assert len(failed) <= 16
        prompts = Counter(call.json["messages"][0]["content"] for call in cloud.calls)
        assert max(prompts.values()) == 1
        since = set(answered[before:])
        await until(
            lambda: since <= {row["id"] for row in cluster.rows()}, what="rows of the others"
        )
        ids = Counter(row["id"] for row in cluster.rows())
        assert max(ids.values()) == 1
        assert ids.keys() <= set(answered)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True
