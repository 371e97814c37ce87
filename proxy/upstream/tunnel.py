"""Tunnels through HTTP and SOCKS 5 proxies, as a transport of httpx2.

    transport = TunnelTransport(httpx2.Proxy("socks5://proxy:1080"), verify=certificates)

httpcore2 opens tunnels itself, but without a time limit until the proxy has answered, and a failed
one of SOCKS stays open. Here the time limit of connecting covers the tunnel.

Sources: RFC 9110, section 9.3.6 (CONNECT), RFC 1928 (SOCKS 5) and RFC 1929 (its login).
"""

import asyncio
import base64
import ssl
from collections.abc import Iterable
from typing import Final

import httpcore2
import httpx2

from proxy.addresses import parse_ip

_DEFAULT_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}
_MAX_HEAD_BYTES: Final = 16 * 1024
_NO_LOGIN, _PASSWORD = 0, 2  # methods of authentication (RFC 1928, section 3)
_ADDRESS_BYTES: Final = {1: 4, 4: 16}  # by address type (section 4); type 3 is a name
_REFUSALS: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}


class TunnelTransport(httpx2.AsyncHTTPTransport):
    """httpx2's transport, whose connections are tunnels through a proxy.

    Args:
        proxy: of the scheme http, socks5 or socks5h. It resolves the names of servers.
        verify: the certificates that servers are verified with.
    """

    def __init__(
        self, proxy: httpx2.Proxy, *, verify: ssl.SSLContext, limits: httpx2.Limits
    ) -> None:
        super().__init__(verify=verify, limits=limits)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=verify,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_TunnelBackend(proxy),
        )


class _TunnelBackend(httpcore2.AsyncNetworkBackend):
    """Connects to servers through a proxy."""

    def __init__(self, proxy: httpx2.Proxy) -> None:
        self._proxy = proxy
        self._direct = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore2's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        url, login = self._proxy.url, self._proxy.raw_auth
        open_tunnel = _open_http if url.scheme == "http" else _open_socks
        try:
            async with asyncio.timeout(timeout):
                stream = await self._direct.connect_tcp(
                    url.host,
                    url.port or _DEFAULT_PORTS[url.scheme],
                    local_address=local_address,
                    socket_options=socket_options,
                )
                try:
                    await open_tunnel(stream, host, port, login)
                except BaseException:
                    await stream.aclose()
                    raise
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout("the proxy did not connect in time") from error
        except (httpcore2.ReadError, httpcore2.WriteError) as error:
            raise httpcore2.ProxyError("the proxy closed the connection") from error
        return stream

    async def sleep(self, seconds: float) -> None:
        await self._direct.sleep(seconds)


async def _open_http(
    stream: httpcore2.AsyncNetworkStream, host: str, port: int, login: tuple[bytes, bytes] | None
) -> None:
    """Open a tunnel by CONNECT. Raises httpcore2.ProxyError."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode()
    if login is not None:
        head += b"Proxy-Authorization: Basic %b\r\n" % base64.b64encode(b":".join(login))
    await stream.write(head + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += await _read(stream, 4096)
        if not answer.startswith(b"HTTP/1."[: len(answer)]) or len(answer) > _MAX_HEAD_BYTES:
            raise httpcore2.ProxyError("the proxy does not speak HTTP")
    status = answer[len(b"HTTP/1.1 ") :][:3].decode("latin-1")
    if not status.startswith("2"):
        raise httpcore2.ProxyError(f"the proxy answered with status {status!a}")


async def _open_socks(
    stream: httpcore2.AsyncNetworkStream, host: str, port: int, login: tuple[bytes, bytes] | None
) -> None:
    """Open a tunnel of SOCKS 5. Raises httpcore2.ProxyError."""
    methods = [_NO_LOGIN] if login is None else [_NO_LOGIN, _PASSWORD]
    await stream.write(bytes([5, len(methods), *methods]))
    version, method = await _read_exactly(stream, 2)
    if version != 5:
        raise httpcore2.ProxyError("the proxy does not speak SOCKS 5")
    if method == _PASSWORD and login is not None:
        await stream.write(b"\x01" + b"".join(bytes([len(part)]) + part for part in login))
        _, failure = await _read_exactly(stream, 2)
        if failure:
            raise httpcore2.ProxyError("the proxy rejected the user name or the password")
    elif method != _NO_LOGIN:
        raise httpcore2.ProxyError("the proxy requires another authentication method")
    if (address := parse_ip(host)) is not None:
        place = bytes([1 if address.version == 4 else 4]) + address.packed
    else:
        place = bytes([3, len(host)]) + host.encode()
    await stream.write(b"\x05\x01\x00" + place + port.to_bytes(2, "big"))
    _, failure, _, kind = await _read_exactly(stream, 4)
    if failure:
        raise httpcore2.ProxyError(f"the proxy: {_REFUSALS.get(failure, 'unknown failure')}")
    size = _ADDRESS_BYTES.get(kind) or (await _read_exactly(stream, 1))[0]
    await _read_exactly(stream, size + 2)  # the address of its own end


async def _read_exactly(stream: httpcore2.AsyncNetworkStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await _read(stream, size - len(data))
    return data


async def _read(stream: httpcore2.AsyncNetworkStream, max_bytes: int) -> bytes:
    data = await stream.read(max_bytes)
    if not data:
        raise httpcore2.ProxyError("the proxy closed the connection")
    return data
