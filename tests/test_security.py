"""Claims of SECURITY.md without another test: destinations of requests, and access to data."""

import stat
from pathlib import Path

import pytest

from fakes import FakeUpstream, whole
from live import CLOUD_KEY, LOCAL_KEY, LiveProxy, RawClient, StartProxy, chat_body

SECRET = "sk-of-a-client-0123456789"
PROMPT = "Wherein the treasure of Sierra Madre is buried"


@pytest.mark.parametrize(
    "first_line",
    [
        "POST /v1/chat/completions HTTP/1.1",
        "POST http://{elsewhere}/v1/chat/completions HTTP/1.1",
    ],
    ids=["header", "absolute-form"],
)
async def test_a_client_cannot_choose_where_its_request_goes(
    proxy: LiveProxy, cloud: FakeUpstream, first_line: str
) -> None:
    async with FakeUpstream() as elsewhere:
        address = elsewhere.base_url.removeprefix("http://").removesuffix("/v1")
        body = chat_body(model="cloud")
        lines = (
            first_line.format(elsewhere=address),
            "Host: localhost",
            f"X-Forwarded-Host: {address}",
            f"X-Base-Url: {elsewhere.base_url}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        client = await RawClient.open(
            proxy.port, body, head="".join(f"{line}\r\n" for line in (*lines, "")).encode()
        )
        await client.read_to_end()
        await client.leave()
        assert elsewhere.calls == []
    await proxy.settled()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_an_upstream_cannot_send_a_key_elsewhere(
    proxy: LiveProxy, cloud: FakeUpstream, status: int
) -> None:
    async with FakeUpstream() as elsewhere:
        target = f"{elsewhere.base_url}/chat/completions"
        cloud.answer = lambda call: whole(b"{}", status=status, headers=[("location", target)])
        answer = await proxy.chat(model="cloud")
        assert answer.status_code >= 300
        assert elsewhere.calls == []


async def test_public_endpoints_contain_no_keys_and_no_prompts(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": [SECRET]}})
    await proxy.chat(
        model="auto",
        messages=[{"role": "user", "content": PROMPT}],
        headers={"authorization": f"Bearer {SECRET}"},
    )
    await proxy.settled()
    for path in ("/health", "/ready", "/metrics", "/openapi.json", "/login"):
        text = (await proxy.client.get(path)).text
        assert [
            secret for secret in (SECRET, CLOUD_KEY, LOCAL_KEY, "Sierra Madre") if secret in text
        ] == [], path


def modes_of(folder: Path) -> dict[str, int]:
    return {
        file.name: stat.S_IMODE(file.stat().st_mode)
        for file in folder.iterdir()
        if ".db" in file.name
    }


async def test_a_new_database_is_readable_by_its_owner_only(
    start: StartProxy, tmp_path: Path
) -> None:
    """Including SQLite's files beside it, while the proxy runs."""
    proxy = await start()
    await proxy.chat(model="local")
    await proxy.rows_of(1)
    assert modes_of(tmp_path) == dict.fromkeys(
        ("router.db", "router.db-wal", "router.db-shm"), 0o600
    )


async def test_an_existing_database_keeps_its_mode(start: StartProxy, tmp_path: Path) -> None:
    path = tmp_path / "router.db"
    path.touch()
    path.chmod(0o660)
    proxy = await start()
    await proxy.chat(model="local")
    await proxy.rows_of(1)
    assert set(modes_of(tmp_path).values()) == {0o660}
