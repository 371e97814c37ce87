"""Reloads apply valid changes while requests run and reject invalid ones."""

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fakes import (
    HARD,
    PATIENCE_SECONDS,
    FakeUpstream,
    Gate,
    chunk,
    chunked,
    event,
    openai_events,
)
from live import LiveProxy, StartProxy
from proxy.config import UpstreamConfig, load_config
from proxy.server.app import Intervals, Proxy
from proxy.upstream.transport import open_transport
from router_model.manifest import Manifest

SHIPPED = Path(__file__).parents[2] / "data/models/router"


def reloads(proxy: LiveProxy, changes: dict[str, Any]) -> Any:
    """Write changes and wait until a new snapshot is in use."""
    before = proxy.proxy.gateway.snapshot
    proxy.configure(changes)
    return proxy.reloaded(lambda: proxy.proxy.gateway.snapshot is not before)


def replace_in(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


async def last_reload(proxy: LiveProxy, *, successful: bool) -> None:
    """Wait until the metric reports the last reload as successful or failed."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await proxy.scrape())("router_config_last_reload_successful") != successful:
            pass


class FailsAfterTwo:
    """A factory that opens two transports and raises afterwards."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, config: UpstreamConfig) -> httpx2.AsyncBaseTransport:
        self.made += 1
        if self.made > 2:
            raise RuntimeError("no more transports")
        return open_transport(config)


async def test_threshold_model_price_and_keys_change_without_a_restart(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    assert (await proxy.chat(text=HARD)).headers["x-router-target"] == "cloud"
    await reloads(
        proxy,
        {
            "routing": {"threshold": 0.05},
            "server": {"api_keys": ["new-key"]},
            "upstreams": {"local": {"model": "phi4", "price": {"output": 1000.0}}},
        },
    )
    assert (await proxy.chat()).status_code == 401
    response = await proxy.chat(text=HARD, headers={"authorization": "Bearer new-key"})
    assert response.headers["x-router-target"] == "local"
    assert response.headers["x-router-model"] == "phi4"
    assert float(response.headers["x-router-cost-usd"]) == pytest.approx(0.01)
    assert local.call.json["model"] == "phi4"
    assert len(cloud.calls) == 1


async def test_an_unusable_proxy_fails_the_reload_of_a_tier_and_switches_a_judge_off(
    start: StartProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks4://proxy:1080")
    monkeypatch.delenv("http_proxy", raising=False)
    proxy = await start()
    judge = {"enabled": True, "base_url": "http://judge.test/v1", "price": {"input": 1}}
    await reloads(proxy, {"judge": judge})
    await last_reload(proxy, successful=True)
    assert "judging is off: HTTP_PROXY: socks4 proxies are not supported" in caplog.text
    proxy.configure({"upstreams": {"local": {"base_url": "http://gpu.test/v1"}}})
    await last_reload(proxy, successful=False)
    assert "stays in use: HTTP_PROXY: socks4 proxies are not supported" in caplog.text
    assert (await proxy.chat(model="local")).status_code == 200


async def test_running_streams_finish_at_the_old_address(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    first = event(chunk({"role": "assistant", "content": "Hel"}))
    local.answer = chunked(first, gate, *openai_events(["lo"]))
    proxy = await start()
    client = await proxy.connect(model="local", stream=True)
    await client.read_until(b'"Hel"')
    async with FakeUpstream() as moved:
        await reloads(proxy, {"upstreams": {"local": {"base_url": moved.base_url}}})
        assert (await proxy.chat(model="local")).status_code == 200
        assert (await proxy.scrape())("router_in_flight", target="local") == 1
        gate.open()
        assert b"[DONE]" in await client.read_until(b"[DONE]\n\n")
        await client.leave()
        outcome = await proxy.finish(2)
        assert {row["ending"] for row in outcome.rows} == {"ok"}
        assert (len(local.calls), len(moved.calls)) == (1, 1)


async def test_unchanged_tier_keeps_its_connections(proxy: LiveProxy, local: FakeUpstream) -> None:
    before = proxy.proxy.gateway.snapshot.upstreams
    await reloads(proxy, {"routing": {"threshold": 0.4}})
    after = proxy.proxy.gateway.snapshot.upstreams
    assert {id(upstream) for upstream in before.values()} == {
        id(upstream) for upstream in after.values()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML"),
        ("", "upstreams"),
        ("routing: {treshold: 1}", "treshold"),
        ("upstreams: ${NO_SUCH_VARIABLE_AT_ALL}", "NO_SUCH_VARIABLE_AT_ALL"),
    ],
)
async def test_invalid_file_keeps_the_old_configuration(
    proxy: LiveProxy, caplog: pytest.LogCaptureFixture, text: str, message: str
) -> None:
    valid = proxy.config_file.read_text()
    snapshot = proxy.proxy.gateway.snapshot
    with caplog.at_level(logging.ERROR):
        proxy.config_file.write_text(text)
        await last_reload(proxy, successful=False)
    assert message in caplog.text
    assert proxy.proxy.gateway.snapshot is snapshot
    assert (await proxy.chat()).status_code == 200
    proxy.config_file.write_text(valid)
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot is not snapshot)
    assert (await proxy.scrape())("router_config_last_reload_successful") == 1


async def test_temporarily_missing_file_changes_nothing(proxy: LiveProxy) -> None:
    aside = proxy.config_file.with_suffix(".aside")
    proxy.config_file.rename(aside)
    await last_reload(proxy, successful=False)
    assert (await proxy.chat()).status_code == 200
    aside.rename(proxy.config_file)
    await last_reload(proxy, successful=True)


@pytest.mark.parametrize("allow_anonymous", [False, True])
@pytest.mark.parametrize("left", [{}, {"api_keys": []}, {"api_keys": ""}, {"api_keys": None}])
async def test_a_reload_cannot_take_away_all_api_keys(
    start: StartProxy,
    caplog: pytest.LogCaptureFixture,
    allow_anonymous: bool,
    left: dict[str, Any],
) -> None:
    proxy = await start({"server": {"api_keys": ["one", "two"]}})
    fields = json.loads(proxy.config_file.read_text())
    snapshot = proxy.proxy.gateway.snapshot
    fields["server"] = left | {"allow_anonymous": allow_anonymous}
    with caplog.at_level(logging.ERROR):
        proxy.config_file.write_text(json.dumps(fields))
        await last_reload(proxy, successful=False)
    assert "server.api_keys: there are no API keys any more; removing all keys takes" in caplog.text
    assert proxy.proxy.gateway.snapshot is snapshot
    assert (await proxy.chat()).status_code == 401
    assert (await proxy.client.get("/api/stats")).status_code == 401
    assert (await proxy.chat(headers={"authorization": "Bearer two"})).status_code == 200


async def test_an_emptied_env_file_does_not_open_the_proxy(
    start: StartProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = tmp_path / ".env"
    env.write_text("ROUTER_KEYS_OF_A_TEST=one\n")
    proxy = await start({"server": {"api_keys": ["zero"]}})
    await reloads(proxy, {"server": {"api_keys": "${ROUTER_KEYS_OF_A_TEST:-}"}})
    assert (await proxy.chat(headers={"authorization": "Bearer one"})).status_code == 200
    env.write_text("")
    await last_reload(proxy, successful=False)
    assert (await proxy.chat()).status_code == 401
    env.write_text("ROUTER_KEYS_OF_A_TEST=two\n")
    await last_reload(proxy, successful=True)
    assert (await proxy.chat(headers={"authorization": "Bearer two"})).status_code == 200


async def test_a_reload_makes_the_only_key_left_no_admin(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [{"key": "plain"}, {"key": "boss", "admin": True}]
    proxy = await start({"server": {"api_keys": keys}})
    plain = {"authorization": "Bearer plain"}
    for threshold in (0.25, 0.125):  # the second reload compares with the first one
        left = {"server": {"api_keys": keys[:1]}, "routing": {"threshold": threshold}}
        await reloads(proxy, left)
        assert (await proxy.client.get("/api/stats", headers=plain)).status_code == 403
    assert "server.api_keys: the only key left becomes an admin key after a restart" in caplog.text
    await reloads(proxy, {"server": {"api_keys": [{"key": "plain", "admin": True}]}})
    assert (await proxy.client.get("/api/stats", headers=plain)).status_code == 200


async def test_changes_that_require_a_restart_are_logged_and_ignored(
    proxy: LiveProxy, caplog: pytest.LogCaptureFixture
) -> None:
    port = proxy.proxy.config.server.port
    with caplog.at_level(logging.WARNING):
        await reloads(proxy, {"server": {"port": 8391}})
        assert "server.port: takes effect after a restart" in caplog.text
        assert f"(running: {port}, file: 8391)" in caplog.text
        caplog.clear()
        changes = {"port": 8392, "cors_origins": ["https://a.example"], "max_body_mb": 7}
        await reloads(proxy, {"server": changes})
        named = "server.port, server.cors_origins: take effect after a restart"
        assert f"{named} (running: {port}, []; file: 8392, [https://a.example])" in caplog.text
        assert "max_body_mb" not in caplog.text
        await reloads(proxy, {"storage": {"url": "postgresql://u:hunter2@host/db"}})
    named = "server.port, server.cors_origins, storage.url: take effect after a restart"
    assert f"{named} (running: {port}, []; file: 8392, [https://a.example])" in caplog.text
    assert "hunter2" not in caplog.text
    assert proxy.proxy.config.storage.url.path.endswith("/router.db")
    await proxy.chat()
    await proxy.finish(1)


async def test_failing_reload_keeps_the_old_configuration_and_the_watch(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await start(transport=FailsAfterTwo())
    with caplog.at_level(logging.ERROR):
        proxy.configure({"upstreams": {"local": {"model": "phi4"}}})
        await last_reload(proxy, successful=False)
    assert "no more transports" in caplog.text
    response = await proxy.chat(model="local")
    assert response.headers["x-router-model"] == "phi3:latest"
    await reloads(proxy, {"upstreams": {"local": {"model": "phi3:latest"}}})
    assert (await proxy.scrape())("router_config_last_reload_successful") == 1


async def test_continuous_reloads_lose_no_request(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start()
    changing = True

    async def change() -> int:
        number = 0
        while changing:
            number += 1
            timeouts = {"idle": 10 + number}
            await reloads(proxy, {"upstreams": {"local": {"timeouts": timeouts}}})
        return number

    changer = asyncio.create_task(change())
    statuses = []
    for _ in range(40):
        answers = await asyncio.gather(*(proxy.chat(model="local") for _ in range(5)))
        statuses += [answer.status_code for answer in answers]
    changing = False
    assert await changer >= 2
    assert statuses == [200] * 200
    outcome = await proxy.finish(200)
    assert {row["ending"] for row in outcome.rows} == {"ok"}


async def test_new_router_model_is_loaded_and_a_broken_one_rejected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "router"
    shutil.copytree(SHIPPED, folder)
    path = tmp_path / "router.yaml"
    path.write_text(
        "upstreams:\n"
        "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
        "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
        f"routing: {{model_path: {folder}}}\n"
        f"storage: {{url: 'sqlite:///{tmp_path}/rows.db'}}\n"
    )
    proxy = Proxy(load_config(path, environ={}), path=path, intervals=Intervals(watch=3600))
    async with proxy.lifespan(proxy.app):
        await check_model_reloads(proxy, path, folder, caplog)


async def check_model_reloads(
    proxy: Proxy, path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = Manifest.load(folder)
    threshold = proxy.gateway.snapshot.router.threshold
    assert await proxy.reloader.reload()
    scorer = proxy.gateway.snapshot.router._scorer
    replace_in(path, "model: phi3", "model: phi4")
    with caplog.at_level(logging.WARNING):
        assert await proxy.reloader.reload()
    assert "was trained for phi3 as the local model, not for phi4" in caplog.text
    assert proxy.gateway.snapshot.router._scorer is scorer
    (folder / "manifest.json").write_text("{}")
    assert not await proxy.reloader.reload()
    assert proxy.gateway.snapshot.router._scorer is scorer
    msgspec.structs.replace(manifest, threshold=0.123, version="newer").save(folder)
    assert await proxy.reloader.reload()
    snapshot = proxy.gateway.snapshot
    assert (snapshot.model_version, snapshot.router.threshold) == ("newer", 0.123)
    assert snapshot.router.threshold != threshold
    assert 'model_version="newer"' in proxy.metrics.expose().decode()


def test_sighup_reloads_and_sigterm_still_stops(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    text = (
        "server: {port: 0}\n"
        "upstreams:\n"
        "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
        "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
        f"routing: {{model_path: {SHIPPED}}}\n"
        f"storage: {{url: 'sqlite:///{tmp_path}/rows.db'}}\n"
    )
    path.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "serve", f"--config={path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        while "base_url" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        while "is in use" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()


async def test_a_reload_that_takes_a_limit_from_a_key_is_logged(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is cut off behind a key looks the same."""
    limited = {"key": "sk-long-key", "requests_per_minute": 60, "cloud_usd_per_day": 1}
    proxy = await start({"server": {"api_keys": [limited, "sk-other-key"]}})
    snapshot = proxy.proxy.gateway.snapshot
    proxy.configure({"server": {"api_keys": [limited | {"cloud_usd_per_day": None}]}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot is not snapshot)
    assert "server.api_keys[0] has no cloud_usd_per_day any more" in caplog.text
    assert "requests_per_minute" not in caplog.text
    assert "sk-long-key" not in caplog.text


@pytest.mark.parametrize("cut", ["s", "sk-lo"])
async def test_a_reload_cannot_shorten_a_key(
    start: StartProxy, caplog: pytest.LogCaptureFixture, cut: str
) -> None:
    """A file that is cut off in the middle of a key must not admit the rest of it."""
    proxy = await start({"server": {"api_keys": ["sk-long-key", "sk-other-key"]}})
    snapshot = proxy.proxy.gateway.snapshot
    proxy.configure({"server": {"api_keys": [cut]}})
    await last_reload(proxy, successful=False)
    assert "server.api_keys[0]: the key is the beginning of one in use" in caplog.text
    assert proxy.proxy.gateway.snapshot is snapshot
    proxy.configure({"server": {"api_keys": ["sk-new-key"]}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot is not snapshot)
