"""The production transport of a tier: each replica directly, or through the environment's proxy."""

import logging
import ssl
from collections.abc import Mapping
from typing import Final

import httpx2

from proxy.addresses import clean_base_url
from proxy.config import Config, UpstreamConfig
from proxy.upstream.environment import environment_proxy, names_certificates, trusted_certificates
from proxy.upstream.http1 import KEEPALIVE_SECONDS, Address, Http1Transport, Origin
from proxy.upstream.tunnel import TunnelTransport

logger = logging.getLogger(__name__)

# The tier's own concurrency limit counts; the pool has none.
_LIMITS: Final = httpx2.Limits(
    max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_SECONDS
)


def open_transport(config: UpstreamConfig) -> httpx2.AsyncBaseTransport:
    """Open the transport of a tier.

    Direct connections use the HTTP/1.1 engine, which hands HEAD requests and streamed uploads to
    httpx2's transport. Connections through a proxy use httpx2's transport for everything.

    Raises:
        ConfigError: a variable of the environment cannot be used.
    """
    proxies = {url: environment_proxy(url) for url in config.base_urls}
    verify = trusted_certificates() if names_certificates() and _need_tls(proxies) else None
    direct = Http1Transport(rest=_open_httpx_transport, verify=verify)
    routes = {
        Address.of(httpx2.URL(url)).origin: _open_proxied(url, proxy, verify) if proxy else direct
        for url, proxy in proxies.items()
    }
    return next(iter(routes.values())) if len(set(routes.values())) == 1 else _Routes(routes)


def check_network(config: Config) -> None:
    """Check the proxies and certificates that the environment names for the tiers and the judge.

    The log names the proxies that are used.

    Raises:
        ConfigError: a variable of the environment cannot be used.
    """
    urls = [*config.upstreams.local.base_urls, *config.upstreams.cloud.base_urls]
    if config.judge.enabled and config.judge.base_url is not None:
        urls.append(clean_base_url(config.judge.base_url))
    proxies = {url: environment_proxy(url) for url in urls}
    if _need_tls(proxies) and names_certificates():
        trusted_certificates()
    for url, proxy in proxies.items():
        if proxy is not None:
            logger.info("%s is reached through the proxy %s", url, proxy.url)  # without its login


class _Routes(httpx2.AsyncBaseTransport):
    """Replicas of which some are behind a proxy: the transport of each origin."""

    def __init__(self, transports: Mapping[Origin, httpx2.AsyncBaseTransport]) -> None:
        self._transports = transports

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        transport = self._transports[Address.of(request.url).origin]
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in set(self._transports.values()):
            await transport.aclose()


def _open_httpx_transport(verify: ssl.SSLContext) -> httpx2.AsyncHTTPTransport:
    return httpx2.AsyncHTTPTransport(verify=verify, limits=_LIMITS)


def _open_proxied(
    url: str, proxy: httpx2.Proxy, verify: ssl.SSLContext | None
) -> httpx2.AsyncHTTPTransport:
    """Open the transport to a URL through a proxy.

    An HTTP proxy gets requests to http URLs as they are, because many allow no tunnels to them.
    """
    if verify is None:
        verify = trusted_certificates()
    if proxy.url.scheme == "https":
        proxy = httpx2.Proxy(proxy.url, auth=proxy.auth, ssl_context=verify)
    elif proxy.url.scheme != "http" or url.startswith("https:"):
        return TunnelTransport(proxy, verify=verify, limits=_LIMITS)
    return httpx2.AsyncHTTPTransport(verify=verify, limits=_LIMITS, proxy=proxy)


def _need_tls(proxies: Mapping[str, httpx2.Proxy | None]) -> bool:
    """Whether a connection to a URL, or to its proxy, is encrypted."""
    return any(
        url.startswith("https:") or (proxy is not None and proxy.url.scheme == "https")
        for url, proxy in proxies.items()
    )
