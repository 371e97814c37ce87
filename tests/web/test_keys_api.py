"""API keys that admins create: authentication, limits, revocation, and their use by key."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fakes import EASY
from live import LiveProxy, Samples, StartProxy, envelope_of
from proxy.record import key_hash
from proxy.secret import KEY_PREFIX
from proxy.web.keys_api import MAX_KEY_BODY_BYTES
from served import until

BOSS = {"authorization": "Bearer sk-boss"}
TEAM = {"authorization": "Bearer sk-team"}
KEYS: dict[str, Any] = {
    "server": {
        "api_keys": [
            {"key": "sk-boss", "admin": True, "name": "boss"},
            {"key": "sk-team", "name": "team"},
            "sk-plain",
        ]
    }
}


async def ask(
    proxy: LiveProxy, method: str, path: str, body: Any = None, headers: Any = None
) -> httpx2.Response:
    return await proxy.client.request(method, path, json=body, headers=headers or BOSS)


async def create(proxy: LiveProxy, name: str = "batch", **fields: Any) -> tuple[str, str]:
    """Create a key; return it and its hash."""
    answer = await ask(proxy, "POST", "/api/keys", {"name": name, **fields})
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    secret = answer.json()["secret"]
    assert answer.json()["key"]["key_hash"] == key_hash(secret)
    return secret, key_hash(secret)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def status_of(proxy: LiveProxy, secret: str) -> int:
    return (await proxy.chat(model="local", headers=bearer(secret))).status_code


async def listed(proxy: LiveProxy, since: str = "24h") -> dict[str, dict[str, Any]]:
    answer = await proxy.client.get("/api/keys", params={"since": since}, headers=BOSS)
    assert answer.status_code == 200, answer.text
    return {key["name"]: key for key in answer.json()["keys"]}


# ── Creating, changing and revoking ───────────────────────────────────────────────────────────


async def test_a_created_key_counts_at_once_and_is_shown_once(
    start: StartProxy, tmp_path: Path
) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy)
    assert secret.startswith(KEY_PREFIX)
    assert len(secret) >= len(KEY_PREFIX) + 43  # 32 bytes
    assert await status_of(proxy, secret) == 200
    assert await status_of(proxy, secret[:-1]) == 401
    key = (await listed(proxy))["batch"]
    assert key["source"] == "created"
    assert key["state"] == "valid"
    assert secret.startswith(key["prefix"])
    assert len(key["prefix"]) <= 12
    assert (key["key_hash"], key["created_by"], key["is_admin"]) == (hashed, "boss", False)
    await proxy.stop()
    files = [file for file in sorted(tmp_path.rglob("*")) if file.is_file()]  # noqa: ASYNC240
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


async def test_changes_count_at_once(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy)
    changed = await ask(
        proxy, "PATCH", f"/api/keys/{hashed}", {"name": "nightly", "requests_per_minute": 1}
    )
    assert changed.status_code == 200
    assert changed.json()["key"]["name"] == "nightly"
    assert await status_of(proxy, secret) == 200
    limited = await proxy.chat(model="local", headers=bearer(secret))
    assert limited.status_code == 429
    assert "API key 'nightly' may make 1 requests a minute" in envelope_of(limited)["message"]
    await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"requests_per_minute": None})
    assert await status_of(proxy, secret) == 200
    assert (await ask(proxy, "GET", "/api/stats", headers=bearer(secret))).status_code == 403
    await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"is_admin": True})
    assert (await ask(proxy, "GET", "/api/stats", headers=bearer(secret))).status_code == 200
    key = (await listed(proxy))["nightly"]
    assert (key["requests_per_minute"], key["is_admin"]) == (None, True)


async def test_a_revoked_key_and_its_sessions_end_at_once(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy)
    login = await proxy.client.post("/login", data={"key": secret})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    proxy.client.cookies.clear()
    assert secret not in cookie["cookie"]
    assert (await proxy.client.get("/api/usage", headers=cookie)).status_code == 200
    revoked = await ask(proxy, "DELETE", f"/api/keys/{hashed}")
    assert revoked.json()["key"]["state"] == "revoked"
    assert await status_of(proxy, secret) == 401
    assert (await proxy.client.get("/api/usage", headers=cookie)).status_code == 401
    assert (await proxy.client.post("/login", data={"key": secret})).status_code == 401
    assert (await ask(proxy, "DELETE", f"/api/keys/{hashed}")).status_code == 404
    assert (await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"name": "a"})).status_code == 404
    assert (await listed(proxy))["batch"]["state"] == "revoked"
    await create(proxy)  # the name is free again


async def test_a_session_ends_with_the_admin_key_that_signed_it(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, _ = await create(proxy)
    login = await proxy.client.post("/login", data={"key": secret})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    proxy.client.cookies.clear()
    other = [{"key": "sk-chief", "admin": True}]

    def is_reloaded() -> bool:
        keys = proxy.proxy.gateway.snapshot.keys
        return keys.find("sk-chief") is not None

    proxy.configure({"server": {"api_keys": [*other, *KEYS["server"]["api_keys"]]}})
    await proxy.reloaded(is_reloaded)
    assert (await proxy.client.get("/api/usage", headers=cookie)).status_code == 200
    proxy.configure({"server": {"api_keys": other}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot.keys.find("sk-boss") is None)
    assert (await proxy.client.get("/api/usage", headers=cookie)).status_code == 401
    assert await status_of(proxy, secret) == 200  # the key itself stays


async def test_changes_are_recorded(start: StartProxy) -> None:
    proxy = await start(KEYS)
    _, hashed = await create(proxy, requests_per_minute=60)
    await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"name": "new", "requests_per_minute": 60})
    await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"name": "new"})  # changes nothing
    await ask(proxy, "DELETE", f"/api/keys/{hashed}")
    changes = (await ask(proxy, "GET", "/api/keys")).json()["changes"]
    assert [(item["action"], item["subject_name"], item["actor_name"]) for item in changes] == [
        ("revoke", "new", "boss"),
        ("change", "batch", "boss"),
        ("create", "batch", "boss"),
    ]
    assert changes[1]["details"]["changes"] == {"name": ["batch", "new"]}
    assert changes[2]["details"]["requests_per_minute"] == 60
    assert all(item["subject"] == hashed for item in changes)


# ── Refusals ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a" * 61}, "name"),
        ({"name": " a"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "sk-team"}, "name"),
        ({"name": KEY_PREFIX + "abc"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "a", "requests_per_minute": 1.5}, "requests_per_minute"),
        ({"name": "a", "requests_per_minute": 10**12}, "requests_per_minute"),
        ({"name": "a", "cloud_usd_per_day": -1}, "cloud_usd_per_day"),
        ({"name": "a", "cloud_usd_per_day": 10**9}, "cloud_usd_per_day"),
        ({"name": "a", "is_admin": "yes"}, "is_admin"),
        ({"name": "a", "key": "sk-mine"}, "key"),
    ],
)
async def test_errors_name_the_field(start: StartProxy, body: Any, param: str) -> None:
    proxy = await start(KEYS)
    answer = await ask(proxy, "POST", "/api/keys", body)
    assert (answer.status_code, envelope_of(answer)["param"]) == (400, param)
    if "name" in body and param != "key":
        _, hashed = await create(proxy)
        change = await ask(proxy, "PATCH", f"/api/keys/{hashed}", body)
        assert (change.status_code, envelope_of(change)["param"]) == (400, param)


async def test_names_are_unique_among_all_keys(start: StartProxy) -> None:
    proxy = await start(KEYS)
    _, hashed = await create(proxy)
    default = f"key {key_hash('sk-plain')[:8]}"
    for name in ("team", "batch", default):
        answer = await ask(proxy, "POST", "/api/keys", {"name": name})
        assert answer.status_code == 409
        assert (envelope_of(answer)["param"], envelope_of(answer)["code"]) == ("name", "name_taken")
    assert (await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"name": "team"})).status_code == 409
    assert (await ask(proxy, "PATCH", f"/api/keys/{hashed}", {"name": "batch"})).status_code == 200


async def test_keys_of_the_file_are_changed_in_the_file(start: StartProxy) -> None:
    proxy = await start(KEYS)
    hashed = key_hash("sk-team")
    for method, body in (("PATCH", {"is_admin": True}), ("DELETE", None)):
        answer = await ask(proxy, method, f"/api/keys/{hashed}", body)
        assert (answer.status_code, envelope_of(answer)["code"]) == (409, "configured_key")
    key = (await listed(proxy))["team"]
    assert (key["source"], key["prefix"], key["state"]) == ("file", None, "valid")
    assert "sk-" not in json.dumps((await ask(proxy, "GET", "/api/keys")).json())


async def test_the_first_key_locks_nobody_out(start: StartProxy) -> None:
    proxy = await start()
    answer = await proxy.client.post("/api/keys", json={"name": "first"})
    assert (answer.status_code, envelope_of(answer)["code"]) == (409, "no_configured_key")
    assert "server.api_keys" in envelope_of(answer)["message"]
    assert (await proxy.chat(model="local")).status_code == 200
    page = (await proxy.client.get("/api/keys")).json()
    assert (page["needs_key"], page["can_create"], page["keys"]) == (False, False, [])
    usage = await proxy.client.get("/api/usage")
    assert (usage.status_code, envelope_of(usage)["code"]) == (404, "no_keys")


async def test_without_configured_keys_created_ones_have_no_effect(
    start: StartProxy, tmp_path: Path
) -> None:
    proxy = await start(KEYS)
    secret, _ = await create(proxy, requests_per_minute=1)
    await proxy.stop()
    again = await start()
    assert again.proxy.store.database.database == proxy.proxy.store.database.database
    assert [row.name for row in again.proxy.keys.rows] == ["batch"]
    for _ in range(2):
        assert (await again.chat(model="local")).status_code == 200
        assert await status_of(again, secret) == 200


async def test_the_last_admin_key_stays(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy, "chief", is_admin=True)
    _, plain = await create(proxy, "plain")
    proxy.configure({"server": {"api_keys": [{"key": "sk-team", "admin": False}]}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot.keys.find("sk-boss") is None)
    chief = bearer(secret)
    for method, body in (("DELETE", None), ("PATCH", {"is_admin": False})):
        answer = await ask(proxy, method, f"/api/keys/{hashed}", body, chief)
        assert (answer.status_code, envelope_of(answer)["code"]) == (409, "last_admin")
    made = await ask(proxy, "PATCH", f"/api/keys/{plain}", {"is_admin": True}, chief)
    assert made.status_code == 200
    assert (await ask(proxy, "DELETE", f"/api/keys/{hashed}", headers=chief)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (TEAM, 403),
        ({}, 401),
        (BOSS | {"content-type": "text/plain"}, 415),
        (BOSS | {"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_only_admins_create_keys_and_only_with_json(
    start: StartProxy, headers: dict[str, str], status: int
) -> None:
    proxy = await start(KEYS)
    answer = await proxy.client.post("/api/keys", content=b'{"name": "a"}', headers=headers)
    assert answer.status_code == status
    assert set(await listed(proxy)) == {"boss", "team", f"key {key_hash('sk-plain')[:8]}"}


async def test_pages_of_other_origins_change_no_keys(start: StartProxy) -> None:
    proxy = await start(KEYS)
    login = await proxy.client.post("/login", data={"key": "sk-boss"})
    cookie = {"cookie": login.headers["set-cookie"].partition(";")[0]}
    proxy.client.cookies.clear()
    own = await proxy.client.post("/api/keys", json={"name": "a"}, headers=cookie)
    assert own.status_code == 201
    hashed = own.json()["key"]["key_hash"]
    foreign = cookie | {"origin": "https://evil.example"}
    for method, path in (("POST", ""), ("PATCH", f"/{hashed}"), ("DELETE", f"/{hashed}")):
        answer = await ask(proxy, method, f"/api/keys{path}", {"name": "b"}, foreign)
        assert answer.status_code == 403
    assert (await listed(proxy))["a"]["state"] == "valid"


async def test_a_large_body_is_refused(start: StartProxy) -> None:
    proxy = await start(KEYS)
    answer = await ask(proxy, "POST", "/api/keys", {"name": "a" * MAX_KEY_BODY_BYTES})
    assert answer.status_code == 413


# ── Other processes, and the database ─────────────────────────────────────────────────────────


async def test_another_process_learns_of_changes(start: StartProxy, tmp_path: Path) -> None:
    first = await start(KEYS)
    url = f"sqlite:///{first.proxy.store.database.database}"
    second = await start({**KEYS, "storage": {"url": url}})
    secret, hashed = await create(first)

    async def is_valid() -> bool:
        return await status_of(second, secret) == 200

    await until(is_valid, what="the key is valid")
    await ask(first, "PATCH", f"/api/keys/{hashed}", {"name": "nightly"})

    async def is_renamed() -> bool:
        return "nightly" in await listed(second)

    await until(is_renamed, what="the key is renamed")
    await ask(first, "DELETE", f"/api/keys/{hashed}")

    async def is_refused() -> bool:
        return await status_of(second, secret) == 401

    await until(is_refused, what="the key is refused")


async def test_without_the_database_the_known_keys_stay_valid(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy)
    path = proxy.proxy.store.database.database
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE api_keys RENAME TO hidden")
    connection.commit()
    await until(lambda: "stay valid" in caplog.text, what="the failure is logged")
    assert await status_of(proxy, secret) == 200
    answer = await ask(proxy, "DELETE", f"/api/keys/{hashed}")
    assert answer.status_code == 503
    assert await status_of(proxy, secret) == 200
    connection.execute("ALTER TABLE hidden RENAME TO api_keys")
    connection.commit()
    connection.close()
    assert (await ask(proxy, "DELETE", f"/api/keys/{hashed}")).status_code == 200


# ── Use by key ────────────────────────────────────────────────────────────────────────────────


async def test_a_budget_of_a_created_key_holds(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, _ = await create(proxy, cloud_usd_per_day=0)
    answer = await proxy.chat(model="cloud", headers=bearer(secret))
    assert answer.status_code == 429
    assert "The API key 'batch' may not use the cloud." in envelope_of(answer)["message"]
    await create(proxy, "rich", cloud_usd_per_day=5)
    rich = (await listed(proxy))["rich"]
    assert (rich["cloud_usd_per_day"], rich["budget_left_usd"]) == (5, 5)


async def test_use_is_counted_by_key(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy, cloud_usd_per_day=1)
    own = bearer(secret)
    for model in ("local", "local", "cloud"):
        await proxy.chat(model=model, headers=own)
    await proxy.chat(messages=[], headers=own)  # refused
    last = await proxy.chat(model="cloud", headers=TEAM)
    await proxy.chat(model="local", headers=bearer("sk-plain"))
    rows = await proxy.rows_of(6)
    keys = await listed(proxy)
    batch = keys["batch"]
    assert [batch[name] for name in ("requests", "answered", "answered_locally")] == [4, 3, 2]
    assert [batch[name] for name in ("failed", "refused", "cancelled")] == [0, 1, 0]
    mine = [row for row in rows if row["client_key_hash"] == hashed]
    spent = sum(row["cost_usd"] or 0 for row in mine)
    assert spent > 0
    assert batch["cost_usd"] == batch["spent_today_usd"] == pytest.approx(spent)
    assert batch["saved_usd"] == pytest.approx(sum(row["saved_usd"] or 0 for row in mine))
    assert batch["budget_left_usd"] == pytest.approx(1 - spent)
    assert batch["last_used_at"] == pytest.approx(max(row["created_at"] for row in mine))
    assert (keys["team"]["requests"], keys["boss"]["requests"]) == (1, 0)
    samples: Samples = await proxy.scrape()
    assert samples("router_key_requests_total", key="batch", target="local") == 2
    assert samples("router_key_requests_total", key="batch", target="none") == 1
    assert samples("router_key_requests_total") == 5  # the key without a name is left out
    assert samples("router_key_cost_usd_total", key="batch") == pytest.approx(spent)
    assert samples("router_key_budget_usd", key="batch") == 1
    query = {"key": hashed}
    page = (await proxy.client.get("/api/requests", params=query, headers=BOSS)).json()
    assert [row["key_name"] for row in page["requests"]] == ["batch"] * 4
    details = await ask(proxy, "GET", f"/api/requests/{last.headers['x-request-id']}")
    assert details.json()["key_name"] == "team"
    assert any("API key 'team'" in line for line in details.json()["explanation"])


@pytest.mark.parametrize("key", ["x", "'", "0" * 15, "G" * 16, "*"])
async def test_the_filter_by_key_takes_hashes_only(start: StartProxy, key: str) -> None:
    proxy = await start(KEYS)
    answer = await proxy.client.get("/api/requests", params={"key": key}, headers=BOSS)
    assert (answer.status_code, envelope_of(answer)["param"]) == (400, "key")


async def test_the_filter_finds_requests_without_a_key(proxy: LiveProxy) -> None:
    await proxy.row_of(await proxy.chat(text=EASY))
    page = (await proxy.client.get("/api/requests", params={"key": "none"})).json()
    assert [row["key_name"] for row in page["requests"]] == [None]
    page = (await proxy.client.get("/api/requests", params={"key": "0" * 16})).json()
    assert page["requests"] == []


async def test_a_holder_sees_only_the_own_use(start: StartProxy) -> None:
    proxy = await start(KEYS)
    secret, hashed = await create(proxy, requests_per_minute=100, cloud_usd_per_day=2)
    for headers, model in ((bearer(secret), "cloud"), (bearer(secret), "local"), (TEAM, "local")):
        await proxy.chat(model=model, headers=headers, text=f"from {headers['authorization'][-4:]}")
    await proxy.rows_of(3)
    for since, step in (("24h", "hour"), ("30d", "day"), ("all", "day")):
        answer = await proxy.client.get(
            "/api/usage", params={"since": since}, headers=bearer(secret)
        )
        usage = answer.json()
        assert usage["step"] == step
        assert (usage["total"]["requests"], usage["total"]["answered_locally"]) == (2, 1)
        assert sum(point["requests"] for point in usage["series"]) == 2
        assert {row["client_key_hash"] for row in usage["requests"]} == {hashed}
        assert (usage["key"]["name"], usage["key"]["requests_per_minute"]) == ("batch", 100)
        spent = usage["total"]["cost_usd"]
        assert usage["key"]["budget_left_usd"] == pytest.approx(2 - spent)
        newest = max(row["created_at"] for row in usage["requests"])
        assert usage["key"]["last_used_at"] == pytest.approx(newest)
    before = {"since": "0", "until": str(time.time() - 3 * 86_400)}
    usage = (await proxy.client.get("/api/usage", params=before, headers=bearer(secret))).json()
    assert (usage["total"]["requests"], usage["series"]) == (0, [])
    other = (await proxy.client.get("/api/usage", headers=TEAM)).json()
    assert other["total"]["requests"] == 1
    assert other["key"]["source"] == "file"
    assert "batch" not in json.dumps(other)


async def test_texts_of_the_own_requests_obey_storage(start: StartProxy) -> None:
    proxy = await start({**KEYS, "storage": {"prompts": "none"}})
    await proxy.row_of(await proxy.chat(model="local", headers=TEAM, text="my secret"))
    usage = await proxy.client.get("/api/usage", headers=TEAM)
    assert len(usage.json()["requests"]) == 1
    assert "my secret" not in usage.text
