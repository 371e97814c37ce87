"""What a request's method, version and framing headers must be, before any handler sees it.

Sources: RFC 9110 (semantics) and RFC 9112 (HTTP/1.1).
"""

import re
from collections.abc import Sequence
from typing import Final

from proxy.errors import (
    InvalidRequest,
    MethodNotAllowed,
    RouterError,
    UnsupportedTransferCoding,
    UnsupportedVersion,
)

# TRACE answers with the request's headers, which would show the upstream's key to the client, and
# CONNECT opens a tunnel.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The headers that `check_head` reads, and whether a client waits for "100 Continue".
FRAMING: Final = frozenset({b"host", b"transfer-encoding", b"expect"})

# RFC 3986, section 3.2.2, without user information: an IPv6 address, an IPv4 address or a name.
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d{0,5})?", re.ASCII)

Headers = Sequence[tuple[bytes, bytes]]


def check_head(method: str, version: str, framing: Headers) -> RouterError | None:
    """The error for a head that is refused; None for a valid one.

    Args:
        version: of HTTP, such as `1.1`.
        framing: the headers whose names are in `FRAMING`, in lower case.
    """
    if method not in METHODS:
        return refuse_method(method)
    if version not in ("1.1", "1.0"):
        return UnsupportedVersion(f"HTTP/{version} is not supported. Use HTTP/1.1.")
    hosts = [value for name, value in framing if name == b"host"]
    # RFC 9112, section 3.2. Two servers may each believe another one of two hosts.
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        return InvalidRequest("An HTTP/1.1 request needs exactly one Host header.")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        return InvalidRequest("The Host header is not a valid host.")
    if len(hosts) == len(framing):
        return None  # as in nearly all requests
    codings = [value.strip().lower() for name, value in framing if name == b"transfer-encoding"]
    if codings and version == "1.0":
        return InvalidRequest("HTTP/1.0 has no Transfer-Encoding.")  # RFC 9112, section 6.1
    if codings and codings != [b"chunked"]:
        return UnsupportedTransferCoding("The only supported Transfer-Encoding is 'chunked'.")
    return None


def refuse_method(method: str) -> MethodNotAllowed:
    """The error for a method that is not in `METHODS`."""
    allow = ", ".join(sorted(METHODS))
    return MethodNotAllowed(f"The method {method} is not allowed. Use one of {allow}.", allow=allow)


def expects_continue(framing: Headers) -> bool:
    """Whether a client sends its body only after "100 Continue"."""
    return any(name == b"expect" and value.lower() == b"100-continue" for name, value in framing)
