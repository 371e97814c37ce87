"""The proxy's own response headers are US-ASCII: browsers decode header values as Latin-1."""

import pytest

from fakes import FakeUpstream, whole
from live import LiveProxy, RawClient, StartProxy, chat_body

ODD = "modèle → 模型"


async def own_headers(proxy: LiveProxy, body: bytes) -> dict[bytes, bytes]:
    client = await RawClient.open(proxy.port, body)
    head = await client.read_until(b"\r\n\r\n")
    client.vanish()
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.lower(): value.strip() for name, _, value in lines}


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("model", ["auto", ODD, f"auto:threshold={ODD}"])
async def test_header_values_are_ascii(
    start: StartProxy, local: FakeUpstream, model: str, streams: bool
) -> None:
    local.answer = whole(b'{"error":"\xe2\x86\x92"}', status=503)
    proxy = await start({"upstreams": {"cloud": {"model": ODD}, "local": {"model": ODD}}})
    body = chat_body(model=model, stream=streams)
    headers = await own_headers(proxy, body)
    for name, value in headers.items():
        assert value.isascii(), name
    if model == "auto":
        assert headers[b"x-router-fallback"] == b"local->cloud:server_error"
        assert headers[b"x-router-model"] == b"mod?le ? ??"


async def test_redirects_are_ascii(start: StartProxy) -> None:
    proxy = await start({"server": {"api_keys": [{"key": "sk-boss", "admin": True}]}})
    query = "?since=%E2%86%92&x=ü".encode()
    head = b"GET /dashboard%b HTTP/1.1\r\nhost: localhost\r\n\r\n" % query
    client = await RawClient.open(proxy.port, b"", head=head)
    answer = await client.read_until(b"\r\n\r\n")
    client.vanish()
    assert answer.startswith((b"HTTP/1.1 303", b"HTTP/1.1 400"))
    assert answer.isascii()
