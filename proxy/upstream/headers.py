"""Which headers pass between a client and an upstream. Headers that are not listed do not pass.

Neither side chooses what the other one gets: a load balancer in front adds tokens and addresses to
a request, a model's server may send headers that act on a browser or on a server in front.
`forward_headers` and `return_headers` of a tier's configuration add names.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

from proxy.config import LOGIN_HEADERS

Headers = Sequence[tuple[bytes, bytes]]

_TO_UPSTREAM: Final = frozenset(
    b"accept accept-language user-agent idempotency-key x-client-request-id "
    b"traceparent tracestate baggage "  # W3C Trace Context and Baggage
    b"range if-range".split()
)
_TO_UPSTREAM_PREFIXES: Final = (b"openai-", b"x-stainless-", b"anthropic-")
# Of a body that is passed through as it came.
_OF_BODY: Final = frozenset({b"content-type", b"content-length", b"content-encoding"})

_TO_CLIENT: Final = frozenset(
    b"content-type content-disposition content-language cache-control etag last-modified "
    b"accept-ranges content-range "
    b"retry-after retry-after-ms x-should-retry "
    b"request-id traceparent tracestate traceresponse".split()
)
_TO_CLIENT_PREFIXES: Final = (b"openai-", b"x-ratelimit-", b"anthropic-ratelimit-")

# The account of the tier's key, in both directions.
_ACCOUNT: Final = frozenset({b"openai-organization", b"openai-project"})
# A key of this proxy: the configuration refuses these names, and so does this module.
_LOGIN: Final = frozenset(name.encode() for name in LOGIN_HEADERS)
_COMMON_CONNECTIONS: Final = (b"keep-alive", b"close")
# What a browser renders as a document that may run scripts, of the proxy's own origin.
_PAGE: Final = re.compile(
    rb"text/(?:html|xml|xsl)|application/(?:xml|xhtml|xslt)|image/svg|[^/]+/[^/]*\+xml"
    rb"|multipart/x-mixed-replace"
)
_COMMON_TYPES: Final = frozenset({b"application/json", b"text/event-stream"})
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")
# The HTTP client accepts control characters; the server rejects a whole answer for one.
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def headers_for_upstream(
    headers: Headers, added: Collection[bytes] = (), *, own: Collection[bytes] = ()
) -> Headers:
    """The client's headers that pass, without those of the body.

    Args:
        headers: names in lower case.
        added: further names, in lower case.
        own: names that the tier's configuration sets, in lower case.
    """
    sent = []
    hop_by_hop: set[bytes] = set()
    for name, value in headers:
        if name not in own and _may_pass(name, _TO_UPSTREAM, _TO_UPSTREAM_PREFIXES, added):
            sent.append((name, value))
        elif name == b"connection" and value not in _COMMON_CONNECTIONS:
            hop_by_hop.update(_named_in(value))
    return [item for item in sent if item[0] not in hop_by_hop] if hop_by_hop else sent


def headers_of_body(headers: Headers, *, is_streamed: bool) -> Headers:
    """The client's headers that describe a body which is passed through.

    Args:
        headers: names in lower case.
        is_streamed: whether the body keeps the client's length. The client engine computes the
            length of other bodies.
    """
    return [
        item
        for item in headers
        if item[0] in _OF_BODY and (is_streamed or item[0] != b"content-length")
    ]


def headers_for_client(
    headers: Headers, added: Collection[bytes] = ()
) -> list[tuple[bytes, bytes]]:
    """The upstream's headers that pass; its request id gets another name.

    A page, as of a server in front, becomes plain text.

    Args:
        headers: names in lower case.
        added: further names, in lower case.
    """
    passed = []
    hop_by_hop: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            hop_by_hop.update(_named_in(value))
        elif _UNSENDABLE.search(value):
            pass
        elif name == b"x-request-id":
            passed.append((b"x-upstream-request-id", value))
        elif _may_pass(name, _TO_CLIENT, _TO_CLIENT_PREFIXES, added):
            is_page = name == b"content-type" and is_page_type(value)
            passed.append((name, b"text/plain" if is_page else value))
    hop_by_hop.discard(b"content-type")  # a body without it would be sniffed
    kept = [item for item in passed if item[0] not in hop_by_hop] if hop_by_hop else passed
    return [*kept, _NO_SNIFFING]


def is_page_type(content_type: bytes) -> bool:
    """Whether a content type is that of a page. Repeated headers may be joined by commas."""
    if content_type in _COMMON_TYPES:
        return False
    return any(_PAGE.fullmatch(part) for part in re.split(rb"[;,\s]+", content_type.lower()))


def headers_of_download(headers: Headers, content_type: bytes) -> list[tuple[bytes, bytes]]:
    """The headers for the client of a page that it downloads as a file.

    Args:
        headers: those for the client.
        content_type: as the upstream sent it.
    """
    if _UNSENDABLE.search(content_type):
        content_type = b"application/octet-stream"
    own = {b"content-type", b"content-disposition", b"content-security-policy"}
    placed = (value for name, value in headers if name == b"content-disposition")
    saved = next((value for value in placed if value.lower().startswith(b"attachment")), None)
    return [
        *(item for item in headers if item[0] not in own),
        (b"content-type", content_type),
        (b"content-disposition", saved or b"attachment"),
        (b"content-security-policy", b"sandbox"),
    ]


def _may_pass(
    name: bytes, names: Collection[bytes], prefixes: tuple[bytes, ...], added: Collection[bytes]
) -> bool:
    if name in names:
        return True
    is_listed = name in added or name.startswith(prefixes)
    return is_listed and name not in _ACCOUNT and name not in _LOGIN


def _named_in(connection: bytes) -> list[bytes]:
    """The fields that a Connection header names: they end at this hop (RFC 9110, 7.6.1)."""
    return [item.strip().lower() for item in connection.split(b",")]
