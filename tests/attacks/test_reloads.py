"""Reloads: files that are cut off, broken, empty or gone must neither open the proxy nor leak."""

import asyncio
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attack import (
    ADMIN,
    ANSWER_SECONDS,
    KEYS,
    OTHER,
    PLAIN,
    Attack,
    AttackRunner,
    Check,
    Seen,
    StartRunner,
    exchange,
    read_replies,
    request,
)
from fakes import FakeUpstream
from live import CLOUD_KEY, LOCAL_KEY, chat_body, merge
from malformed import MALFORMED

FAMILY = "reloads"
SECRET = "sk-Hunter2Secret-LongerSecret"
SECRETS = (CLOUD_KEY, LOCAL_KEY, PLAIN, OTHER, ADMIN, "Hunter2Secret", "LongerSecret")
SHIPPED = Path(__file__).parents[2] / "data/models/router"
CREDENTIALS: tuple[str | None, ...] = (None, "sk-plain", PLAIN[:-1], SECRET)

# Changes the configuration's folder; returns nothing.
Damage = Callable[[Path, dict[str, Any]], None]


class Capture(logging.Handler):
    """Everything that is logged, with tracebacks."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


def write(fields: dict[str, Any]) -> Damage:
    """Replace sections of the file; None removes one."""

    def damage(path: Path, good: dict[str, Any]) -> None:
        merged = merge(good, fields)
        path.write_text(json.dumps({key: value for key, value in merged.items() if value != "-"}))

    return damage


def text(content: str | bytes) -> Damage:
    def damage(path: Path, _good: dict[str, Any]) -> None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return damage


def cut(order: tuple[str, ...], share: float) -> Damage:
    """The first part of the file, as a full disk or a slow copy leaves it."""

    def damage(path: Path, good: dict[str, Any]) -> None:
        ordered = {name: good[name] for name in order} | good
        whole = yaml.safe_dump(ordered, sort_keys=False)
        path.write_text(whole[: int(len(whole) * share)])

    return damage


def unchanged(seen: Seen) -> str | None:
    """The old snapshot is in use; keys still count; nothing secret was logged."""
    if seen.facts["changed"]:
        return "the configuration changed"
    return protected(seen)


def protected(seen: Seen) -> str | None:
    seen.errors = [line for line in seen.errors if "Traceback" in line]  # a refusal is an error
    if seen.facts["open"]:
        return f"answers without a valid key: {seen.facts['open']}"
    if seen.facts["admitted"] != [200, 403, 200]:
        return f"the keys in use got {seen.facts['admitted']}"
    if seen.facts["storage_changed"]:
        return "another database is in use"
    for secret in SECRETS:
        if secret in seen.facts["log"]:
            return f"logs {secret}"
    return None


def closed(seen: Seen) -> str | None:
    """Keys may have changed, but no one else is admitted."""
    seen.facts["admitted"] = [200, 403, 200]
    return protected(seen)


def attack(name: str, damage: Damage, check: Check = unchanged) -> Attack:
    return Attack(FAMILY, name, damage, check)


def no_keys() -> Iterator[Attack]:
    for allow in (False, True):
        for keys in ([], None, "", " ", ",", " , ", "${NO_KEYS_ARE_SET:-}", [""], [None], [{}]):
            server = {"api_keys": keys, "allow_anonymous": allow}
            yield attack(f"keys {keys!r}, anonymous {allow}", write({"server": server}))
        for server in ("-", None, {}, [], ""):
            fields = {"server": server, "routing": {"threshold": 0.1}}
            if isinstance(server, dict):
                fields["server"] = {"api_keys": [], "allow_anonymous": allow}
            yield attack(f"server {server!r}, anonymous {allow}", write(fields))
    for host in ("0.0.0.0", "::", "router.lan"):
        server = {"api_keys": [], "host": host, "allow_anonymous": True}
        yield attack(f"no keys on {host}", write({"server": server}))


def halves() -> Iterator[Attack]:
    orders = (("server",), ("upstreams", "server"), ("upstreams", "storage", "routing", "server"))
    for order in orders:
        for number in range(1, 20):
            yield attack(f"{number}/20 of {order}", cut(order, number / 20), closed)
    for key in (PLAIN, ADMIN):
        for size in (1, 3, 8, len(key) - 1):
            server = {"api_keys": [key[:size]]}
            yield attack(f"a key cut to {size}", write({"server": server}))
            both = {"api_keys": f"{PLAIN},{key[:size]}"}
            yield attack(f"a second key cut to {size}", write({"server": both}))


def broken() -> Iterator[Attack]:
    for template in MALFORMED:
        yield attack(f"malformed {template!r}", text(template.replace("KEY", SECRET)))
    for content in (
        *(b"", b"\n", b"#", b"\x00", b"\x00" * 4096, b"\xff\xfe", b"\x80", b"---", b"...", b"{}"),
        *("upstreams: {}".encode("utf-16"), b"\xef\xbb\xbf", b"[" * 100_000, b"{a: " * 50_000),
        *(b"&a [*a]", b"a: &b {c: *b}", b"- " * 20_000, b"? " * 20_000, b"<" * 1000, b"<html>"),
    ):
        yield attack(f"content {content[:12]!r}", text(content))


def gone() -> Iterator[Attack]:
    def remove(path: Path, _good: dict[str, Any]) -> None:
        path.unlink()

    def folder(path: Path, _good: dict[str, Any]) -> None:
        path.unlink()
        path.mkdir()

    def loop(path: Path, _good: dict[str, Any]) -> None:
        path.unlink()
        path.symlink_to(path)

    def dangling(path: Path, _good: dict[str, Any]) -> None:
        path.unlink()
        path.symlink_to(path.with_name("nothing"))

    for damage in (remove, folder, loop, dangling):
        yield attack(f"the file: {damage.__name__}", damage)
    for value in ("nowhere", "", "/", "/etc", "model-empty", "model-cut", "\0"):
        yield attack(f"router model {value!r}", model(value))
        fields = {"routing": {"shadow_router": {"path": value}}}
        yield attack(f"shadow model {value!r}", write(fields))

    def vanish(path: Path, good: dict[str, Any]) -> None:
        shutil.rmtree(path.with_name("model"))
        path.write_text(json.dumps(merge(good, {"routing": {"threshold": 0.4}})))

    yield attack("the model's folder vanishes", vanish)
    for name in ("nowhere.yaml", "", ".", "config.yaml", "prices-cut.yaml", "prices-key.yaml"):
        yield attack(f"price list {name!r}", write({"pricing": name}))


def model(value: str) -> Damage:
    def damage(path: Path, good: dict[str, Any]) -> None:
        place = str(path.with_name(value)) if value.startswith("model-") else value
        write({"routing": {"model_path": place}})(path, good)

    return damage


def databases() -> Iterator[Attack]:
    """An address that is valid is kept for the next start, without showing its password."""
    for form in ("u:KEY@127.0.0.1:1/db", "u@127.0.0.1:1/db?password=KEY", "KEY@127.0.0.1:1/db"):
        url = f"postgresql://{form.replace('KEY', SECRET)}"
        yield attack(f"database {form}", write({"storage": {"url": url}}), protected)
    for form in ("u:KEY%@h/db", "u:KEY/x@h/db", "u:KEY@[h/db", "u:KEY @h/db", "u@h/db?password=%"):
        url = f"postgresql://{form.replace('KEY', SECRET)}"
        yield attack(f"database {form}", write({"storage": {"url": url}}))
    for url in (f"sqlite:///nowhere/{SECRET}.db", "sqlite:///:memory:"):
        yield attack(f"database {url[:20]}", write({"storage": {"url": url}}), protected)
    for url in (f"mysql://u:{SECRET}@h/db", "", None, [SECRET], {"a": SECRET}):
        yield attack(f"database {str(url)[:8]}", write({"storage": {"url": url}}))
    for prompts in ("all", SECRET, "", None):
        yield attack(f"prompts {prompts!r}", write({"storage": {"prompts": prompts}}))


def sender(runner: AttackRunner) -> Any:
    proxy = runner.proxy
    good = json.loads(proxy.config_file.read_text())
    path, port = proxy.config_file, proxy.port
    loop = proxy._server._loop
    assert loop is not None

    async def reload() -> bool:
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(proxy.proxy.reloader.reload(), loop)
        )

    async def ask(key: str | None, sent: bytes = b"", route: str = "/v1/chat/completions") -> int:
        lines = () if key is None else (f"Authorization: Bearer {key}",)
        method = "POST" if sent else "GET"
        data = request(sent, *lines, method=method, path=route, length=bool(sent))
        raw, _ = await exchange(port, [data], seconds=4 * ANSWER_SECONDS)
        replies = read_replies(raw)
        return replies[0].status if replies else 0

    async def send(attack: Attack, seen: Seen) -> None:
        before = proxy.proxy.gateway.snapshot
        log = Capture()
        logging.getLogger().addHandler(log)
        try:
            attack.sent(path, good)
            await reload()
            after = proxy.proxy.gateway.snapshot
            body = chat_body(model="local")
            is_same = after is before
            keys = CREDENTIALS[:1] if is_same else CREDENTIALS
            seen.facts = {
                "changed": not is_same,
                "storage_changed": after.config.storage != before.config.storage,
                "open": [
                    (key, route)
                    for key in keys
                    for route in (("/v1/models", "/api/stats") if key is None else ("/v1/models",))
                    if await ask(key, route=route) not in (401, 403)
                ],
                "admitted": [
                    200 if is_same else await ask(PLAIN, body),
                    await ask(OTHER, route="/api/stats"),
                    await ask(ADMIN, route="/api/stats"),
                ],
            }
        finally:
            restore(path, good)
            assert await reload()
            logging.getLogger().removeHandler(log)
        seen.facts["log"] = "\n".join(log.lines)

    return send


def restore(path: Path, good: dict[str, Any]) -> None:
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_text(json.dumps(good))
    if not path.with_name("model").exists():
        shutil.copytree(SHIPPED, path.with_name("model"))


@pytest.mark.parametrize("generate", [no_keys, halves, broken, gone, databases])
async def test_reloads(
    start_runner: StartRunner,
    local: FakeUpstream,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    generate: Callable[[], Iterator[Attack]],
) -> None:
    caplog.set_level(logging.INFO)
    shutil.copytree(SHIPPED, tmp_path / "model")
    (tmp_path / "model-empty").mkdir()
    shutil.copytree(SHIPPED, tmp_path / "model-cut")
    for file in (tmp_path / "model-cut").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    (tmp_path / "prices-cut.yaml").write_text("models: {gpt-4o: {input: 1")
    (tmp_path / "prices-key.yaml").write_text(f"models: {{gpt-4o: {{input: {SECRET}}}}}\n")
    changes = {**KEYS, "routing": {"model_path": str(tmp_path / "model")}}
    runner = await start_runner(changes, model="configured")
    await runner.hold(generate(), sender(runner))
