"""Forward proxies on real sockets, as companies have between a machine and the internet.

    async with HttpProxy({"gpu.test:80": local.port}) as proxy: ...
    proxy.targets                     # ["gpu.test:80"]

The targets have names that exist in no DNS: who reaches one has used the proxy.
"""

import asyncio
import base64
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fakes import FakeUpstream

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
NETWORK_VARIABLES = (*_PROXIES, *map(str.upper, _PROXIES), *CERTIFICATE_VARIABLES)
USER, PASSWORD = "bob", "s3cr:t@ü"


class _ForwardProxy:
    """A proxy that connects targets, as `host:port`, with ports of this machine.

    Args:
        has_password: whether it demands USER and PASSWORD.
        certificate: for TLS to the proxy, with its key in one file.

    Attributes:
        targets: what was asked for, also where it was refused.
    """

    def __init__(
        self,
        ports: Mapping[str, int],
        *,
        has_password: bool = False,
        certificate: Path | None = None,
    ) -> None:
        self.targets: list[str] = []
        self._ports = ports
        self._has_password = has_password
        self._tls = None if certificate is None else _server_context(certificate)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "_ForwardProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()

    @property
    def address(self) -> str:
        """The address without a scheme."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def _connect(
        self, target: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self.targets.append(target)
        port = self._ports.get(target)
        if port is None:
            return None
        opened = await asyncio.open_connection("127.0.0.1", port)
        self._writers.append(opened[1])
        return opened


class HttpProxy(_ForwardProxy):
    """A proxy of HTTP: CONNECT, and requests with a whole URL as their target."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode())
        if self._has_password and b"Proxy-Authorization: Basic " + login not in head:
            self.targets.append("407")
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return
        if method == "CONNECT":
            opened = await self._connect(target)
        else:
            parts = urlsplit(target)
            opened = await self._connect(f"{parts.hostname}:{parts.port or 80}")
        if opened is None:
            writer.write(b"HTTP/1.1 503 No Such Host\r\ncontent-length: 0\r\n\r\n")
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _join((reader, writer), opened)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(opened[0], writer))
            await self._forward(head, reader, opened[1])

    async def _forward(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward requests with their paths as targets."""
        while True:
            first, rest = head.split(b"\r\n", 1)
            method, target, version = first.decode().split(" ")
            parts = urlsplit(target)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            writer.write(f"{method} {path} {version}\r\n".encode() + rest)
            lengths = [
                int(line.partition(b":")[2])
                for line in rest.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            writer.write(await reader.readexactly(sum(lengths)))
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")


class SocksProxy(_ForwardProxy):
    """A proxy of SOCKS 5 (RFC 1928, RFC 1929) that resolves names itself."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        if version != 5:
            return
        methods = await reader.readexactly(count)
        method = 2 if self._has_password else 0
        writer.write(bytes([5, method if method in methods else 255]))
        if method not in methods:
            return
        if self._has_password:
            _, size = await reader.readexactly(2)
            user = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            is_right = (user, password) == (USER.encode(), PASSWORD.encode())
            writer.write(bytes([1, not is_right]))
            if not is_right:
                return
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = socket.inet_ntop(*_FAMILIES[kind](await reader.readexactly(_SIZES[kind])))
        port = int.from_bytes(await reader.readexactly(2), "big")
        opened = await self._connect(f"{host}:{port}")
        writer.write(bytes([5, 0 if opened else 4, 0, 1, 0, 0, 0, 0, 0, 0]))
        if opened:
            await _join((reader, writer), opened)


_SIZES = {1: 4, 4: 16}
_FAMILIES = {
    1: lambda packed: (socket.AF_INET, packed),
    4: lambda packed: (socket.AF_INET6, packed),
}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _join(
    left: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    right: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    await asyncio.gather(_copy(left[0], right[1]), _copy(right[0], left[1]))


class TlsUpstream(FakeUpstream):
    """A scripted server with TLS.

    Args:
        certificate: with its key, in one file.
    """

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self._certificate = certificate

    async def __aenter__(self) -> "TlsUpstream":
        context = _server_context(self._certificate)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        return self


def _server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def make_certificate(folder: Path, host: str) -> Path:
    """Make a self-signed certificate for a host and this machine, with its key in one file."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={host}",
         "-addext", f"subjectAltName=DNS:{host},DNS:localhost,IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


def port_of(upstream: FakeUpstream) -> int:
    port = urlsplit(upstream.base_url).port
    assert port is not None
    return port
