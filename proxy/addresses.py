"""Base URLs of upstreams: their validation, their usual mistakes, and the URLs below them.

    clean_base_url("HTTP://Gpu:11434//v1/")              # http://gpu:11434/v1
    join_url("https://x/v1?api-version=1", "/models")    # https://x/v1/models?api-version=1

Each base URL is used as `clean_base_url` returns it.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import unquote_plus, urlsplit, urlunsplit

# Servers whose API has no version in its path, so that their base URL ends at the host.
_WITHOUT_VERSION: Final = frozenset({"api.perplexity.ai", "models.inference.ai.azure.com"})
# How containers of Docker and Podman call the machine that they run on.
_CONTAINER_HOSTS: Final = frozenset({"host.docker.internal", "host.containers.internal"})
_ENDPOINT: Final = "/chat/completions"
_VERSION: Final = "/v1"
# The names of query parameters whose values are credentials.
_CREDENTIAL: Final = re.compile(r"key|token|secret|passw|pwd|auth|cred|sig|^code$", re.IGNORECASE)


def is_base_url(url: str) -> bool:
    """Whether a path can be appended: http or https, a host, a valid port, no fragment."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return bool(
        parts.scheme in ("http", "https")
        and parts.hostname
        and port != 0
        and "#" not in url
        and url.isprintable()
        and " " not in url
    )


def has_credentials(url: str) -> bool:
    """Whether a URL has a user name, a password or a query parameter that is a credential."""
    before, _, query = url.partition("?")
    return "@" in before or any(_CREDENTIAL.search(name) for name in _names_in(query))


def clean_base_url(url: str) -> str:
    """The base URL that is meant. An invalid one is returned unchanged.

    Scheme and host become lower case. Repeated slashes, a slash at the end, a repeated `/v1` and
    the path of an endpoint are removed. A URL without a path gets `/v1`. Other paths are kept,
    because gateways and clouds have their own.
    """
    if not is_base_url(url):
        return url
    parts = urlsplit(url)
    path = re.sub(r"/{2,}", "/", parts.path).rstrip("/").removesuffix(_ENDPOINT)
    while path.endswith(_VERSION * 2):
        path = path.removesuffix(_VERSION)
    if not path and parts.hostname not in _WITHOUT_VERSION:
        path = _VERSION
    return urlunsplit(parts._replace(netloc=parts.netloc.lower(), path=path))


def without_version(base_url: str) -> str:
    """The address of the server: a base URL without `/v1`, with its query."""
    path, mark, query = base_url.partition("?")
    return path.removesuffix(_VERSION) + mark + query


def join_url(base_url: str, path: str) -> str:
    """The URL of a path below a base URL. The query of the base URL is kept.

    Args:
        path: begins with a slash, and may have a query. The base URL's parameters replace those of
            the same name.
    """
    base, _, query = base_url.partition("?")
    if not query:
        return base + path
    path, _, own = path.partition("?")
    fixed = _names_in(query)
    added = [item for item in own.split("&") if item and not _names_in(item) <= fixed]
    return f"{base}{path}?{'&'.join([query, *added])}"


def _names_in(query: str) -> set[str]:
    """The names of the parameters, in lower case."""
    return {unquote_plus(item.partition("=")[0]).lower() for item in query.split("&")}


def parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a host is, or None for a name. An IPv4-mapped one becomes IPv4."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_this_machine(host: str) -> bool:
    """Whether a host is the loopback interface, or an address that connects to it.

    A connection to the unspecified address (0.0.0.0 or ::) reaches the machine itself. Names below
    `localhost` are loopback names (RFC 6761, section 6.3).
    """
    if (address := parse_ip(host)) is not None:
        return address.is_loopback or address.is_unspecified
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or name in _CONTAINER_HOSTS
