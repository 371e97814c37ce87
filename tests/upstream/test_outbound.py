"""Tiers behind the proxies that the environment names, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from fakes import FakeUpstream, chunked, openai_events, refused_address
from live import LiveProxy, StartProxy
from outbound import NETWORK_VARIABLES, PASSWORD, USER, HttpProxy, SocksProxy, TlsUpstream, port_of
from proxy.config import ConfigError, UpstreamConfig
from proxy.upstream.transport import open_transport

WRONG = f"{USER}:{quote('wr0ng:pa@s')}@"
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"
# By scheme and login: the proxy, and how a variable names it.
KINDS = {
    "http": (HttpProxy, "http://", ""),
    "http-login": (HttpProxy, "http://", LOGIN),
    "no-scheme": (HttpProxy, "", ""),
    "socks5": (SocksProxy, "socks5://", ""),
    "socks5h-login": (SocksProxy, "socks5h://", LOGIN),
    "socks": (SocksProxy, "socks://", ""),
}

Enter = Callable[..., object]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def only_these_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """No exception for this machine: it must not need one."""
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def ask_cloud(proxy: LiveProxy, *, stream: bool = False) -> httpx2.Response:
    return await proxy.chat(model="cloud", stream=stream)


@pytest.mark.parametrize("name", KINDS)
async def test_a_tier_is_reached_through_every_kind_of_proxy(
    start: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    local: FakeUpstream,
    cloud: FakeUpstream,
    name: str,
) -> None:
    kind, scheme, login = KINDS[name]
    forward = await stack.enter_async_context(
        kind({"cloud.test:8000": port_of(cloud)}, has_password=bool(login))
    )
    monkeypatch.setenv("ALL_PROXY", f"{scheme}{login}{forward.address}")
    proxy = await start(cloud="http://cloud.test:8000/v1")
    assert (await ask_cloud(proxy)).status_code == 200
    cloud.answer = chunked(*openai_events())
    streamed = await ask_cloud(proxy, stream=True)
    assert streamed.status_code == 200
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert (await proxy.chat(model="local")).status_code == 200
    assert [call.path for call in cloud.calls] == ["/v1/chat/completions"] * 2
    assert all(call.header("proxy-authorization") is None for call in local.calls)
    assert set(forward.targets) == {"cloud.test:8000"}


@pytest.mark.parametrize("name", ["http-login", "socks5"])
async def test_tls_is_verified_behind_a_proxy(
    start: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    certificate: Path,
    other_certificate: Path,
    name: str,
) -> None:
    kind, scheme, login = KINDS[name]
    secure = await stack.enter_async_context(TlsUpstream(certificate))
    forward = await stack.enter_async_context(
        kind({"gpu.test:443": port_of(secure)}, has_password=bool(login))
    )
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}{login}{forward.address}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    proxy = await start(cloud="https://gpu.test/v1")
    assert (await ask_cloud(proxy)).status_code == 200
    await proxy.stop()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other_certificate))
    proxy = await start(cloud="https://gpu.test/v1")
    assert (await ask_cloud(proxy)).status_code == 502
    assert len(secure.calls) == 1


async def test_the_connection_to_a_proxy_may_be_encrypted(
    start: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    cloud: FakeUpstream,
    certificate: Path,
    other_certificate: Path,
) -> None:
    secure = await stack.enter_async_context(TlsUpstream(certificate))
    targets = {"gpu.test:443": port_of(secure), "cloud.test:80": port_of(cloud)}
    forward = await stack.enter_async_context(
        HttpProxy(targets, has_password=True, certificate=certificate)
    )
    monkeypatch.setenv("ALL_PROXY", f"https://{LOGIN}{forward.address}")
    for bundle, status in ((certificate, 200), (other_certificate, 502)):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        for url in ("https://gpu.test/v1", "http://cloud.test/v1"):
            proxy = await start(cloud=url)
            assert (await ask_cloud(proxy)).status_code == status
            await proxy.stop()
    assert (len(secure.calls), len(cloud.calls)) == (1, 1)


async def test_a_bundle_is_trusted_on_direct_connections(
    start: StartProxy, monkeypatch: pytest.MonkeyPatch, stack: AsyncExitStack, certificate: Path
) -> None:
    secure = await stack.enter_async_context(TlsUpstream(certificate))
    url = f"https://127.0.0.1:{port_of(secure)}/v1"
    monkeypatch.setenv("CURL_CA_BUNDLE", str(certificate))
    proxy = await start(cloud=url)
    assert (await ask_cloud(proxy)).status_code == 200
    uploaded = await proxy.client.post(
        "/v1/files", content=chunks(b"a", b"b"), headers={"content-type": "text/plain"}
    )
    assert uploaded.status_code == 200
    assert [call.body for call in secure.calls][1:] == [b"ab"]


async def test_a_transport_is_not_opened_without_its_certificates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nothing.pem")
    with pytest.raises(ConfigError, match=r"REQUESTS_CA_BUNDLE: /nothing\.pem cannot be read"):
        open_transport(UpstreamConfig(base_url="https://gpu.test/v1", model="m"))
    await open_transport(UpstreamConfig(base_url="http://gpu.test/v1", model="m")).aclose()
    monkeypatch.setenv("HTTP_PROXY", "https://proxy.test:443")
    with pytest.raises(ConfigError, match=r"REQUESTS_CA_BUNDLE: /nothing\.pem cannot be read"):
        open_transport(UpstreamConfig(base_url="http://gpu.test/v1", model="m"))


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_each_replica_is_reached_by_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    local: FakeUpstream,
    cloud: FakeUpstream,
    is_reversed: bool,
) -> None:
    forward = await stack.enter_async_context(SocksProxy({"gpu.test:80": port_of(cloud)}))
    monkeypatch.setenv("ALL_PROXY", f"socks5://{forward.address}")
    urls = ["http://gpu.test/v1", local.base_url]
    config = UpstreamConfig(base_url=tuple(urls[::-1] if is_reversed else urls), model="m")
    async with open_transport(config) as transport:
        for url in config.base_urls:
            request = httpx2.Request("POST", f"{url}/chat/completions", content=b"{}")
            response = await transport.handle_async_request(request)
            assert response.status_code == 200
            await response.aread()
    assert (len(local.calls), len(cloud.calls)) == (1, 1)
    assert forward.targets == ["gpu.test:80"]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_refuses_to_connect_got_no_request(
    start: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    cloud: FakeUpstream,
    scheme: str,
) -> None:
    """So another replica gets it: the first one cannot have answered and billed it."""
    forward = await stack.enter_async_context((HttpProxy if scheme == "http" else SocksProxy)({}))
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}://{forward.address}")
    proxy = await start(
        {"upstreams": {"cloud": {"base_url": ["https://down.test/v1", cloud.base_url]}}}
    )
    assert (await ask_cloud(proxy)).status_code == 200
    assert set(forward.targets) == {"down.test:443"}
    assert len(cloud.calls) == 1


@pytest.mark.parametrize(
    ("kind", "scheme", "login", "status", "reason"),
    [
        (HttpProxy, "socks5", LOGIN, 504, "ConnectTimeout: the proxy did not connect in time"),
        (SocksProxy, "http", LOGIN, 502, "ProxyError: the proxy closed the connection"),
        (SocksProxy, "socks5", WRONG, 502, "ProxyError: the proxy rejected the user name or the "),
        (SocksProxy, "socks5", "", 502, "ProxyError: the proxy requires another auth"),
        (HttpProxy, "http", WRONG, 502, "ProxyError: the proxy answered with status '407'"),
    ],
)
async def test_a_proxy_of_another_kind_or_password_is_an_unreachable_tier(
    start: StartProxy,
    monkeypatch: pytest.MonkeyPatch,
    stack: AsyncExitStack,
    caplog: pytest.LogCaptureFixture,
    kind: type[HttpProxy] | type[SocksProxy],
    scheme: str,
    login: str,
    status: int,
    reason: str,
) -> None:
    forward = await stack.enter_async_context(kind({}, has_password=True))
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{login}{forward.address}")
    limits = {"upstreams": {"cloud": {"timeouts": {"connect": 0.3}}}}
    proxy = await start(limits, cloud="https://cloud.test/v1")
    with caplog.at_level(logging.DEBUG):
        response = await ask_cloud(proxy)
    assert response.status_code == status
    assert f"cloud upstream https://cloud.test/v1: {reason}" in caplog.text
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "wr0ng"):
        assert secret not in caplog.text


async def test_a_proxy_that_is_down_is_an_unreachable_tier(
    start: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused_address() as url:
        monkeypatch.setenv("ALL_PROXY", url.removesuffix("/v1").replace("http:", "socks5:"))
        proxy = await start(cloud="https://cloud.test/v1")
        assert (await asyncio.wait_for(ask_cloud(proxy), 10)).status_code == 502
