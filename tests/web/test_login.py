"""The login form: where it leads, and limits on a body that is read before a key is known."""

import json
from urllib.parse import quote

import pytest

from live import LiveProxy, RawClient, StartProxy
from proxy.web.openai_api import BodyLimits

KEYS = {"server": {"api_keys": [{"key": "sk-admin", "admin": True}]}}
LOGIN = b"POST /login HTTP/1.1\r\nhost: localhost\r\n"


async def end_of(client: RawClient) -> tuple[int, str | None]:
    """Status and error code of the answer with which the proxy ended the connection."""
    head, _, body = (await client.read_to_end()).partition(b"\r\n\r\n")
    await client.leave()
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "target",
    ["//[", "//[::1", "http://[", "//evil.example", "/\\evil.example", "https://evil.example/",
     "/login", "/health", "javascript:alert(1)", "\r\nset-cookie: a=b", "/compare\0", "///", ""],
)  # fmt: skip
@pytest.mark.parametrize("with_key", [True, False])
async def test_a_login_leads_to_pages_of_the_proxy_only(
    start: StartProxy, target: str, with_key: bool
) -> None:
    proxy = await start(KEYS if with_key else None)
    shown = await proxy.client.get(f"/login?next={quote(target, safe='')}")
    assert (shown.status_code, shown.headers.get("location")) == (
        (200, None) if with_key else (303, "/")
    )
    if with_key:
        assert 'name="next" value="/"' in shown.text
        form = {"key": "sk-admin", "next": target}
        entered = await proxy.client.post("/login", data=form)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")


@pytest.mark.parametrize("target", ["/compare", "/dashboard?span=7d&x=%C3%A4", "/?a=b"])
async def test_a_login_leads_back_to_the_page(start: StartProxy, target: str) -> None:
    proxy = await start(KEYS)
    entered = await proxy.client.post("/login", data={"key": "sk-admin", "next": target})
    assert (entered.status_code, entered.headers["location"]) == (303, target)


@pytest.mark.parametrize("host", ["[", "[::", "a b", "\xff"])
async def test_an_invalid_host_is_no_failure(proxy: LiveProxy, host: str) -> None:
    request = f"GET /missing HTTP/1.1\r\nhost: {host}\r\n\r\n".encode("latin-1")
    assert await end_of(await proxy.connect_raw(request)) == (400, None)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"content-length: 999999\r\n\r\n", id="declared"),
        pytest.param(b"transfer-encoding: chunked\r\n\r\n" + b"8000\r\n" + b"k" * 0x8000 + b"\r\n"
                     + b"8001\r\n" + b"k" * 0x8001 + b"\r\n", id="chunked"),
    ],
)  # fmt: skip
async def test_the_login_form_is_small(start: StartProxy, rest: bytes) -> None:
    proxy = await start(KEYS)
    assert await end_of(await proxy.connect_raw(LOGIN + rest)) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/login", "/v1/feedback", "/api/verdicts"])
async def test_a_large_small_body_is_refused_unread(proxy: LiveProxy, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n"
    client = await proxy.connect_raw(f"{head}content-length: 10000001\r\n\r\n".encode())
    assert await end_of(client) == (413, "body_too_large")


@pytest.mark.parametrize("sent", [b"", b"key=sk"])
async def test_the_login_form_has_a_time_limit(start: StartProxy, sent: bytes) -> None:
    proxy = await start(KEYS, body_limits=BodyLimits(small_body_seconds=0.05))
    client = await proxy.connect_raw(LOGIN + b"content-length: 100\r\n\r\n" + sent)
    assert await end_of(client) == (408, "request_timeout")
