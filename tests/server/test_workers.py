"""Several workers on one port: shared rows, correct metrics, replacement of dead workers."""

import os
import signal
from pathlib import Path

import pytest

from fakes import FakeUpstream, answer_json, chunked, openai_events, whole
from live import Samples, chat_body, check_agreement
from served import Served, ask, children_of, until

TWO_WORKERS = {"server": {"workers": 2}}


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def metrics_after(proxy: Served, requests: int) -> Samples:
    """The metrics of all workers, once this number of requests is counted and none runs."""
    samples: list[Samples] = []

    async def all_counted() -> bool:
        samples.append(await proxy.scrape())
        done = samples[-1]("router_requests_total") == requests
        return done and not samples[-1]("router_in_flight")

    await until(all_counted, what=f"{requests} requests are counted")
    return samples[-1]


async def test_rows_and_metrics_cover_all_workers(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    local.answer = cloud.answer = chunked(*openai_events(["Hi"], usage))
    async with Served(tmp_path, local, cloud, changes=TWO_WORKERS) as proxy:
        workers = children_of(proxy.pid)
        assert len(workers) == 2
        for number in range(60):  # each on its own connection
            tier = "local" if number % 3 else "cloud"
            answer = await ask(proxy.port, chat_body(model=tier, stream=True))
            assert answer.head.status == 200
        samples = await metrics_after(proxy, 60)
        assert samples("router_tokens_total", target="local", kind="input") == 40 * 7
        assert samples("router_build_info") == 1
        assert samples("router_upstream_up", target="local") == 1
        assert await proxy.stop() == 0
        check_agreement(proxy.query("select * from requests"), samples)
    assert not [pid for pid in workers if runs(pid)]


async def test_dead_worker_is_replaced_and_its_counts_are_kept(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(answer_json())
    async with Served(tmp_path, local, cloud, changes=TWO_WORKERS) as proxy:
        before = children_of(proxy.pid)
        for _ in range(20):
            await ask(proxy.port, chat_body(model="local"))
        await metrics_after(proxy, 20)
        os.kill(before[0], signal.SIGKILL)

        def replaced() -> bool:
            now = children_of(proxy.pid)
            return len(now) == 2 and before[0] not in now

        await until(replaced, what="a new worker runs")
        for _ in range(20):
            answer = await ask(proxy.port, chat_body(model="local"))
            assert answer.head.status == 200
        await metrics_after(proxy, 40)
        assert await proxy.stop() == 0


async def test_a_replaced_worker_does_not_open_a_proxy_with_keys(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    changes = {"server": {"workers": 2, "api_keys": ["one"]}}
    async with Served(tmp_path, local, cloud, changes=changes) as proxy:
        proxy.configure({"server": {"api_keys": []}})
        os.kill(children_of(proxy.pid)[0], signal.SIGKILL)
        refusal = b"\nserver.api_keys: there are no API keys any more"
        await until(lambda: refusal in proxy.log, what="the new worker is refused")
        if proxy.runs:
            answer = await ask(proxy.port, chat_body(model="local"))
            assert answer.head.status == 401


async def test_session_affinity_holds_across_workers(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = cloud.answer = whole(answer_json())
    # A threshold of 0 would keep the requests local without the session.
    session = {"x-router-session": "one", "x-router-threshold": "0"}
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "Prove it")]
    messages = [{"role": role, "content": text} for role, text in turns]
    async with Served(tmp_path, local, cloud, changes=TWO_WORKERS) as proxy:
        await ask(proxy.port, chat_body(model="cloud"), headers=session)
        rows = "select * from requests"
        await until(lambda: bool(proxy.query(rows)), what="the row is written")
        for _ in range(12):  # each on its own connection
            answer = await ask(proxy.port, chat_body(messages=messages), headers=session)
            assert answer.head.headers["x-router-reason"] == "sticky"
        assert await proxy.stop() == 0


async def test_workers_stop_when_their_parent_is_killed(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    async with Served(tmp_path, local, cloud, changes=TWO_WORKERS) as proxy:
        workers = children_of(proxy.pid)
        proxy.kill()

        await until(lambda: not any(runs(pid) for pid in workers), what="the workers have stopped")


async def test_reload_reaches_every_worker(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    async with Served(tmp_path, local, cloud, changes=TWO_WORKERS) as proxy:
        proxy.configure({"routing": {"threshold": 0.125}})
        proxy.signal(signal.SIGHUP)
        thresholds: list[float] = []

        async def all_reloaded() -> bool:
            thresholds.append((await proxy.scrape())("router_threshold"))
            return thresholds[-20:] == [0.125] * 20

        await until(all_reloaded, what="every worker has the new threshold")


async def test_port_in_use_is_reported_in_one_line(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    async with Served(first, local, cloud) as running:
        changes = {"server": {"workers": 2, "port": running.port}}
        proxy = Served(second, local, cloud, changes=changes)
        with pytest.raises(AssertionError, match="ended instead of starting"):
            await proxy.start()
        assert b"is in use on 127.0.0.1. Choose another port" in proxy.log
        assert b"Traceback" not in proxy.log
