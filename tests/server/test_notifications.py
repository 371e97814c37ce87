"""Notifications: one message for an outage or a used budget, over real sockets."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from fakes import PATIENCE_SECONDS, End, FakeUpstream, Gate, silent_address, whole
from live import StartProxy, config_fields
from proxy.auth import ApiKeys
from proxy.cli.main import main
from proxy.config import Config, Secret, load_config
from proxy.record import Target, key_hash
from proxy.server.notifications import DOWN_SECONDS, Notifier
from proxy.server.webhook import send
from proxy.storage import Notices, Store
from proxy.storage.notices import NOTICE_PAUSE_SECONDS

TOKEN = "T0-secret-B0"


class Hook(FakeUpstream):
    """A webhook that answers 204 to every message."""

    def reset(self) -> None:
        super().reset()
        self.answer = whole(b"", status=204)

    @property
    def url(self) -> str:
        return f"{self.base_url}/{TOKEN}"

    def messages(self) -> list[dict[str, Any]]:
        return [call.json for call in self.calls]


class Tier:
    def __init__(self) -> None:
        self.up: bool | None = True
        self.since = 0.0
        self.problem: str | None = None


class Spending:
    def __init__(self) -> None:
        self.usd = 0.0
        self.by_key: dict[str, float] = {}

    def day_start(self) -> float:
        return 0.0

    def spent_today(self, key_hash: str = "") -> float:
        return self.by_key.get(key_hash, 0.0) if key_hash else self.usd


class Watch:
    """A process with notifiers, its tiers and its clock."""

    def __init__(self, store: Store, config: Config, *, clock: list[float] | None = None) -> None:
        self.clock = clock or [100_000.0]
        self.config = config
        self.tiers = {target: Tier() for target in Target}
        self.spending = Spending()
        self.notifier = Notifier(
            Notices(store.database, clock=lambda: self.clock[0]),
            config=lambda: self.config,
            callers=lambda: ApiKeys(self.config.server.api_keys).valid,
            tier=lambda target: self.tiers[target],  # type: ignore[arg-type,return-value]
            spending=self.spending,  # type: ignore[arg-type]
            first_retry=0.01,
            clock=lambda: self.clock[0],
        )

    def turn(self, target: Target, *, up: bool) -> None:
        self.tiers[target].up, self.tiers[target].since = up, self.clock[0]

    async def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 5)):
            self.clock[0] += 5
            await self.notifier.check()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with Hook() as opened:
        yield opened


@pytest.fixture
def config(tmp_path: Path, hook: Hook) -> Config:
    fields = config_fields(tmp_path, "http://localhost:1/v1", "http://localhost:2/v1")
    fields["notifications"] = {"webhook_url": hook.url}
    fields["budget"] = {"cloud_usd_per_day": 10}
    fields["server"] = {"api_keys": [{"key": "sk-team", "name": "team", "cloud_usd_per_day": 2}]}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(fields))
    return load_config(path, environ={})


@pytest.fixture
def store(config: Config) -> Any:
    opened = Store(config.storage, on_dropped=lambda number: None)
    opened.prepare()
    return opened


@pytest.fixture
async def watch(store: Store, config: Config) -> AsyncIterator[Watch]:
    opened = Watch(store, config)
    delivering = asyncio.create_task(opened.notifier.deliver())
    yield opened
    delivering.cancel()


async def received(hook: Hook, *events: str) -> list[dict[str, Any]]:
    """Wait for exactly these messages."""
    if events:
        await hook.called(len(events))
    messages = hook.messages()
    assert [message["event"] for message in messages] == list(events)
    return messages


async def test_an_outage_of_a_minute_and_its_end(watch: Watch, hook: Hook) -> None:
    watch.tiers[Target.CLOUD].problem = "it cannot be reached"
    watch.turn(Target.CLOUD, up=False)
    await watch.wait(DOWN_SECONDS - 5)
    await received(hook)
    await watch.wait(3600)
    (down,) = await received(hook, "tier_down")
    assert down["tier"] == "cloud"
    assert down["problem"] == "it cannot be reached"
    assert down["text"] == down["content"]
    assert "the cloud tier is down since 03:46 UTC: it cannot be reached." in down["text"]
    watch.turn(Target.CLOUD, up=True)
    await watch.wait(5)
    _, up = await received(hook, "tier_down", "tier_up")
    assert "the cloud tier is up again after 61 min." in up["text"] or "1 h" in up["text"]


async def test_one_failed_request_is_no_outage(watch: Watch, hook: Hook) -> None:
    for _ in range(20):
        watch.turn(Target.LOCAL, up=False)
        await watch.wait(DOWN_SECONDS - 10)
        watch.turn(Target.LOCAL, up=True)
        await watch.wait(10)
    await received(hook)


async def test_a_tier_that_goes_down_again_and_again(watch: Watch, hook: Hook) -> None:
    for _ in range(4):  # within ten minutes
        watch.turn(Target.LOCAL, up=False)
        await watch.wait(DOWN_SECONDS + 5)
        watch.turn(Target.LOCAL, up=True)
        await watch.wait(30)
    await received(hook, "tier_down", "tier_up")
    watch.turn(Target.LOCAL, up=False)  # and stays down: that is not kept back for ever
    await watch.wait(NOTICE_PAUSE_SECONDS + DOWN_SECONDS)
    await received(hook, "tier_down", "tier_up", "tier_down")


async def test_budgets_once_a_day(watch: Watch, hook: Hook) -> None:
    watch.spending.usd = 7.99
    await watch.wait(60)
    await received(hook)
    watch.spending.usd = 8.0
    await watch.wait(60)
    (message,) = await received(hook, "budget_80")
    assert (message["usd"], message["usd_per_day"]) == (8.0, 10.0)
    assert "80% spent" in message["text"]
    watch.spending.usd = 11.0
    watch.spending.by_key[key_hash("sk-team")] = 2.5  # both limits at once
    await watch.wait(3600)
    *_, of_all, of_key = await received(hook, "budget_80", "budget_spent", "budget_spent")
    assert "the daily cloud budget is spent" in of_all["text"]
    assert of_key["key_name"] == "team"
    assert "sk-team" not in json.dumps(hook.messages())


async def test_one_of_several_processes_sends(
    watch: Watch, store: Store, config: Config, hook: Hook
) -> None:
    others = [Watch(store, config, clock=watch.clock) for _ in range(3)]
    tasks = [asyncio.create_task(other.notifier.deliver()) for other in others]
    for process in (watch, *others):
        process.turn(Target.CLOUD, up=False)
        process.spending.usd = 10.0
    for _ in range(400):
        watch.clock[0] += 5
        await asyncio.gather(*(process.notifier.check() for process in (watch, *others)))
    await hook.called(2)
    assert {message["event"] for message in hook.messages()} == {"tier_down", "budget_spent"}
    hook.calls.clear()
    for process in (watch, *others):
        process.turn(Target.CLOUD, up=True)
    await asyncio.gather(*(process.notifier.check() for process in (watch, *others)))
    await received(hook, "tier_up")
    for task in tasks:
        task.cancel()


async def test_a_restart_after_the_outage_reports_its_end(
    watch: Watch, store: Store, config: Config, hook: Hook
) -> None:
    watch.turn(Target.CLOUD, up=False)
    await watch.wait(DOWN_SECONDS)
    await received(hook, "tier_down")
    restarted = Watch(store, config, clock=watch.clock)
    task = asyncio.create_task(restarted.notifier.deliver())
    await restarted.wait(5)
    await received(hook, "tier_down", "tier_up")
    task.cancel()


async def test_without_the_database_a_process_decides_alone(watch: Watch, hook: Hook) -> None:
    watch.notifier._notices._database.execute_sql("DROP TABLE notifications")
    watch.turn(Target.CLOUD, up=False)
    await watch.wait(1800)
    watch.turn(Target.CLOUD, up=True)
    await watch.wait(60)
    await received(hook, "tier_down", "tier_up")


@pytest.mark.parametrize("events", [[], ["tier_up"]])
async def test_only_the_chosen_events_are_sent(watch: Watch, hook: Hook, events: list[str]) -> None:
    notifications = msgspec.structs.replace(watch.config.notifications, events=tuple(events))
    watch.config = msgspec.structs.replace(watch.config, notifications=notifications)
    watch.spending.usd = 20.0
    watch.turn(Target.CLOUD, up=False)
    await watch.wait(DOWN_SECONDS)
    watch.turn(Target.CLOUD, up=True)
    await watch.wait(10)
    await received(hook, *events)


async def test_a_webhook_that_fails_is_tried_again(
    watch: Watch, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = iter([whole(b"", status=500), [End.RESET], whole(b"", status=429)])
    hook.answer = lambda call: next(answers, whole(b"ok"))
    watch.spending.usd = 9.0
    await watch.notifier.check()
    await hook.called(4)
    assert {message["event"] for message in hook.messages()} == {"budget_80"}
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("status", [301, 307, 400, 404])
async def test_a_refusal_is_final_and_a_redirect_is_not_followed(
    watch: Watch, hook: Hook, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    there = [("location", f"{hook.base_url}/elsewhere")]
    refusal: Callable[[Any], Any] = lambda call: whole(b"", status=status, headers=there)  # noqa: E731
    hook.answer = refusal
    watch.spending.usd = 9.0
    await watch.notifier.check()
    await hook.called(1)
    hook.answer = whole(b"")
    watch.spending.usd = 10.0
    await watch.notifier.check()
    await hook.called(2)
    assert [message["event"] for message in hook.messages()] == ["budget_80", "budget_spent"]
    assert all(call.path.endswith(TOKEN) for call in hook.calls)
    assert f"answered {status}" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_silent_webhook_ends_in_time() -> None:
    with silent_address() as address:
        sent = await send(Secret(f"{address}/{TOKEN}"), {}, seconds=0.1)
    assert sent.is_temporary
    assert TOKEN not in str(sent)


async def test_requests_do_not_wait_for_a_webhook_that_hangs(
    start: StartProxy, hook: Hook, cloud: FakeUpstream
) -> None:
    gate = Gate()
    hook.answer = [gate]
    proxy = await start(
        {
            "notifications": {"webhook_url": hook.url},
            "budget": {"cloud_usd_per_day": 0.001, "pacing": False, "when_spent": "local"},
            "upstreams": {"cloud": {"price": {"input": 1000, "output": 1000}}},
        },
        probe_seconds=0.05,
    )
    assert (await proxy.chat(model="cloud")).status_code == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        await gate.reached()
    assert (await proxy.chat(model="local")).status_code == 200
    assert hook.call.json["event"] == "budget_spent"


async def test_the_command_sends_a_test_message(tmp_path: Path, config: Config, hook: Hook) -> None:
    run = partial(
        CliRunner().invoke, main, ["notify", "--test", "--config", str(tmp_path / "config.yaml")]
    )
    done = await asyncio.to_thread(run)
    assert (done.exit_code, done.output) == (0, "the webhook accepted the test message\n")
    assert hook.call.json["event"] == "test"
    hook.answer = whole(b"", status=404)
    refused = await asyncio.to_thread(run)
    assert refused.exit_code == 1
    assert refused.output == "Error: the webhook answered 404\n"
