"""The production transport of a tier: direct, or through the proxy that the environment names."""

import ssl
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from proxy.config import UpstreamConfig
from proxy.upstream.http1 import KEEPALIVE_SECONDS, Http1Transport

_LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def open_transport(config: UpstreamConfig) -> httpx2.AsyncBaseTransport:
    """Open the transport of a tier.

    Direct connections use the HTTP/1.1 engine, which hands HEAD requests and streamed uploads to
    httpx2's transport. Connections through a proxy use httpx2's transport for everything.
    """
    proxy = environment_proxy(config.base_urls[0])
    if proxy is None:
        return Http1Transport(rest=_open_httpx_transport)
    return _open_httpx_transport(ssl.create_default_context(), proxy)


def environment_proxy(url: str) -> str | None:
    """The proxy for a URL by HTTP_PROXY, HTTPS_PROXY and NO_PROXY; never for the loopback host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = getproxies().get(parts.scheme)
    if proxy is None or host in _LOOPBACK_HOSTS or proxy_bypass(host):
        return None
    return proxy


def _open_httpx_transport(
    verify: ssl.SSLContext, proxy: str | None = None
) -> httpx2.AsyncHTTPTransport:
    # The tier's own concurrency limit counts; the pool has none.
    limits = httpx2.Limits(
        max_connections=None,
        max_keepalive_connections=None,
        keepalive_expiry=KEEPALIVE_SECONDS,
    )
    return httpx2.AsyncHTTPTransport(verify=verify, limits=limits, proxy=proxy)
