"""API keys: who may use /v1. Compared in constant time, kept as hashes in rows.

A browser sends its key once, to log in, and from then on a cookie, which no script can read and
which says nothing about the key. It needs no memory of ours: it is signed with what only the key's
owner and the configuration know, so it holds for every worker and ends when the key goes.

Where nobody needs a key, or a cookie would do, the web pages that a browser shows must not be able
to spend the owner's: every page may send requests anywhere, and the browser says which one did.
"""

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.config import ApiKeyConfig
from proxy.errors import Forbidden, NotAuthenticated
from proxy.record import DAY_SECONDS, key_hash

SESSION_COOKIE: Final = "hybrid_llm_session"
SESSION_SECONDS: Final = 7 * DAY_SECONDS

_PORT: Final = re.compile(rb":\d*$")

Headers = Sequence[tuple[bytes, bytes]]


class Principal(NamedTuple):
    """Whose request it is, by the hash of the key, and the limits of that key.

    `is_admin`: whether it may see what others asked, and start work.
    """

    key_hash: str
    requests_per_minute: int | None = None
    cloud_usd_per_day: float | None = None
    is_admin: bool = False


class _Known(NamedTuple):
    """A configured key: what is compared, what signs its cookies, and whose it is."""

    digest: bytes
    secret: bytes
    client: Principal


class ApiKeys:
    """The configured keys. With none configured everyone who can reach the port is let in, but
    for web pages of other origins than the proxy's own and the named ones.

    Args:
        origins: of web pages that may send requests.
        is_private: whether only this machine can reach the port. Then the names under which it is
            asked for are known, and no page can make its own one of them by a DNS entry.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        keys: Iterable[ApiKeyConfig],
        *,
        origins: Iterable[str] = (),
        is_private: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origins = frozenset(one.encode() for one in origins)
        self._is_private = is_private
        self._clock = clock
        configured = tuple(keys)
        self._known = [_known(one, is_only=len(configured) == 1) for one in configured]

    @property
    def required(self) -> bool:
        return bool(self._known)

    def authenticate(self, headers: Headers) -> Principal | None:
        """Whose request it is by its `Authorization: Bearer …`, or by the cookie of a page of ours;
        None when nobody needs a key.

        Raises:
            NotAuthenticated: a key is needed, and this is none of ours.
            Forbidden: a web page sent it that may not.
        """
        if not self._known:
            _check_origin(headers, self._origins, is_private=self._is_private)
            return None
        authorization = read_key(headers)
        if not authorization:
            if (client := self.read_session(headers)) is not None:
                _check_origin(headers)  # a cookie comes along with any page's
                return client
            raise NotAuthenticated(
                "You didn't provide an API key: send it as 'Authorization: Bearer YOUR_KEY'."
            )
        scheme, _, given = authorization.partition(b" ")
        found = self._find(given.strip())
        if found is None or scheme.lower() != b"bearer":
            raise NotAuthenticated("Incorrect API key provided.")
        return found.client

    def require_admin(self, headers: Headers) -> None:
        """Refuse callers who may see only their own requests.

        Raises:
            NotAuthenticated, Forbidden: as `authenticate` does, and for other keys.
        """
        if not is_admin(self.authenticate(headers)):
            raise Forbidden(
                "This needs an admin key (`admin: true` in server.api_keys).", code="admin_only"
            )

    def log_in(self, key: str, headers: Headers) -> str:
        """The value of the cookie that stands for a key from now on.

        Raises:
            NotAuthenticated: it is none of ours.
            Forbidden: a web page sent it that may not.
        """
        _check_origin(headers)
        found = self._find(key.strip().encode())
        if found is None:
            raise NotAuthenticated("Incorrect API key provided.")
        ends = f"{int(self._clock() + SESSION_SECONDS):x}"
        return f"{ends}.{_sign(found.secret, ends)}"

    def read_session(self, headers: Headers) -> Principal | None:
        """Who has logged in with this browser, if anyone has and it is not too long ago."""
        ends, _, signature = _session(headers).partition(".")
        found = None
        for one in self._known:
            if hmac.compare_digest(_sign(one.secret, ends).encode(), signature.encode()):
                found = one.client
        # What was signed is a number of ours.
        return found if found is not None and int(ends, 16) > self._clock() else None

    def _find(self, given: bytes) -> _Known | None:
        digest = hashlib.sha256(given).digest()
        found = None
        for one in self._known:  # no early exit: the time tells nothing about the key
            if hmac.compare_digest(one.digest, digest):
                found = one
        return found


def _check_origin(
    headers: Headers, origins: frozenset[bytes] = frozenset(), *, is_private: bool = False
) -> None:
    """Refuse what a web page of another origin than ours and these sent. Raises Forbidden.

    Args:
        is_private: refuse other names than this machine's, too.
    """
    origin = host = site = b""
    for name, value in headers:
        match name:
            case b"origin":
                origin = value
            case b"host":
                host = value
            case b"sec-fetch-site":
                site = value
    if is_private and host and not _is_this_machine(host):
        raise Forbidden(f"There is no '{host.decode('latin-1')}' here; ask for localhost.")
    if origin:
        foreign = origin not in origins and origin.partition(b"://")[2] != host
    else:  # an image's address, or a form's
        foreign = site in (b"cross-site", b"same-site")
    if foreign:
        page = origin.decode("latin-1") or "other origins"
        raise Forbidden(
            f"Web pages of {page} may not use this proxy; server.cors_origins names those that may."
        )


def is_admin(client: Principal | None) -> bool:
    """Whether whoever asks may see everything. Where nobody needs a key, everybody may."""
    return client is None or client.is_admin


def _known(config: ApiKeyConfig, *, is_only: bool) -> _Known:
    """Whoever has the only key there is has no one to hide anything from."""
    key = config.key.reveal()
    return _Known(
        hashlib.sha256(key.encode()).digest(),
        hmac.digest(key.encode(), b"session", "sha256"),
        Principal(
            key_hash(key),
            config.requests_per_minute,
            config.cloud_usd_per_day,
            is_only if config.admin is None else config.admin,
        ),
    )


def _sign(secret: bytes, ends: str) -> str:
    return hmac.digest(secret, ends.encode(), "sha256").hex()


def _session(headers: Headers) -> str:
    """The value of our cookie; empty where there is none. A browser may send several headers."""
    for name, value in headers:
        if name == b"cookie":
            for one in value.decode("latin-1").split(";"):
                key, _, content = one.strip().partition("=")
                if key == SESSION_COOKIE:
                    return content
    return ""


@lru_cache(maxsize=64)  # clients of one proxy call it by few names; to parse one costs 5 µs
def _is_this_machine(host: bytes) -> bool:
    """Whether a `Host` header names this machine, with whatever port."""
    name = _PORT.sub(b"", host).decode("latin-1")
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def read_key(headers: Headers) -> bytes | None:
    """The `Authorization` header, or what Anthropic's clients send in its place."""
    found = None
    for name, value in headers:
        if name == b"authorization":
            return value
        if name == b"x-api-key":
            found = b"Bearer " + value
    return found
