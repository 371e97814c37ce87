"""The network settings of the environment: proxies, and the certificates that are trusted.

Every connection to a model's server uses them, whichever command opens it. A setting that cannot be
used is a ConfigError that names its variable.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from proxy.addresses import is_this_machine, parse_ip
from proxy.config import ConfigError

_PROXY_SCHEMES: Final = {
    "http": "http",
    "https": "https",
    "socks": "socks5",  # as desktop environments write it
    "socks5": "socks5",
    "socks5h": "socks5h",
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_OPENSSL: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# The first one that is set counts, as in requests.
_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


# ── Proxies ───────────────────────────────────────────────────────────────────────────────────


def environment_proxy(url: str) -> httpx2.Proxy | None:
    """The proxy for a URL; None for a direct connection.

    HTTP_PROXY or HTTPS_PROXY counts, by the scheme of the URL, and else ALL_PROXY; names in lower
    case come first. Without a variable, macOS and Windows have settings of their own. This machine
    and the hosts in NO_PROXY are connected to directly.

    Raises:
        ConfigError: the proxy's address is invalid, or its kind is not supported.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    settings = getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if settings.get(kind)), None)
    if kind is None or is_this_machine(host):
        return None
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    if proxy_bypass(f"{host}:{port}") or _is_exempt(host, settings.get("no", "")):
        return None
    return _parse_proxy(settings[kind], _variable_of(f"{kind}_proxy"))


def _is_exempt(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host in a form that `urllib` does not know.

    These are networks (10.0.0.0/8), IPv6 addresses in brackets, and `*.example.org`.
    """
    address = parse_ip(host)
    for item in filter(None, map(str.strip, no_proxy.lower().split(","))):
        if address is None:
            if item.startswith("*.") and host.lower().endswith(item[1:]):
                return True
            continue
        try:
            if address in ipaddress.ip_network(item.strip("[]"), strict=False):
                return True
        except ValueError:
            continue  # a name
    return False


def _variable_of(name: str) -> str:
    """How the variable with this name is written in the environment."""
    written = [variable for variable in os.environ if variable.lower() == name]
    return max(written, default="the proxy in the system's settings")  # lower case comes last


def _parse_proxy(value: str, variable: str) -> httpx2.Proxy:
    """The proxy in a variable. An address without a scheme is one of HTTP, as for curl."""
    scheme, separator, rest = value.strip().rpartition("://")
    scheme = scheme.lower() if separator else "http"
    if scheme not in _PROXY_SCHEMES:
        what = f"{scheme} proxies are" if re.fullmatch(r"[a-z0-9]{1,8}", scheme) else "its kind is"
        raise ConfigError(
            f"{variable}: {what} not supported; use http://, https://, socks5:// or socks5h://"
        )
    try:
        proxy = httpx2.Proxy(f"{_PROXY_SCHEMES[scheme]}://{rest}")
    except (httpx2.InvalidURL, ValueError):  # not repeated, because it may have a password
        proxy = None
    if proxy is None or not proxy.url.host or any(len(part) > 255 for part in proxy.raw_auth or ()):
        raise ConfigError(
            f"{variable}: is not the address of a proxy, such as http://proxy.example.org:3128; "
            "special characters of a password are written as %40"
        )
    return proxy


# ── Certificates ──────────────────────────────────────────────────────────────────────────────


def trusted_certificates() -> ssl.SSLContext:
    """The certificates that servers are verified with. Reading them takes tens of milliseconds.

    By default they are the system's. SSL_CERT_FILE and SSL_CERT_DIR replace them, as for OpenSSL,
    and so does the file or folder in REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE. Those of both kinds are
    trusted if both are set.

    Raises:
        ConfigError: what a variable names is missing, unreadable, or has no certificates.
    """
    bundle = next((name for name in _BUNDLES if os.environ.get(name)), None)
    openssl = [name for name in _OPENSSL if os.environ.get(name)]
    if bundle is None:
        context = ssl.create_default_context()
    else:
        with _naming(bundle):
            cafile, capath = _location(os.environ[bundle])
            context = ssl.create_default_context(cafile=cafile, capath=capath)
        if openssl:
            context.load_default_certs()
    for name in openssl:  # OpenSSL has read them, but ignores one that is missing
        with _naming(name):
            context.load_verify_locations(*_location(os.environ[name]))
    context.set_alpn_protocols(["http/1.1"])
    return context


def names_certificates() -> bool:
    """Whether a variable names the trusted certificates."""
    return any(map(os.environ.get, (*_OPENSSL, *_BUNDLES)))


def _location(value: str) -> tuple[str | None, str | None]:
    """The file that a variable names, or the first existing one of its folders.

    Raises:
        OSError: the folder is unreadable.
    """
    for folder in value.split(os.pathsep):
        if Path(folder).is_dir():
            next(Path(folder).iterdir(), None)  # OpenSSL would ignore an unreadable one
            return None, folder
    return value, None


@contextmanager
def _naming(variable: str) -> Iterator[None]:
    """Name the variable in the error about its value."""
    value = os.environ[variable]
    try:
        yield
    except ssl.SSLError:
        raise ConfigError(f"{variable}: {value} has no certificates in PEM format") from None
    except OSError as error:
        raise ConfigError(f"{variable}: {value} cannot be read: {error.strerror}") from None
