"""Authentication and authorization by API key.

Keys come from the configuration and from the database (`IssuedKeys`). A key is found by the SHA-256
of what the client sent, in a dictionary, so the time does not depend on the number of keys. The
lookup compares digests, not keys: its duration tells at most how much of a digest matches. Nobody
can choose a text whose digest comes closer to that of a key that is not known.

A browser sends its key once, to sign in, and then a session cookie. Scripts cannot read the cookie,
and it does not reveal the key. It is stateless: it is signed with a secret derived from a key, so
every worker accepts it, and it ends when the key is removed or revoked.

Any web page can make a browser send requests. Where no key is required, or a cookie is sent, the
`Origin` and `Sec-Fetch-Site` headers decide whether the page may use the proxy.
"""

import hashlib
import hmac
import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.config import ApiKeyConfig, OptionalTools
from proxy.errors import Forbidden, NotAuthenticated
from proxy.record import DAY_SECONDS, default_key_name, key_hash

SESSION_COOKIE: Final = "hybrid_llm_session"
_SESSION: Final = re.compile(rb"(?:\A|;)\s*" + SESSION_COOKIE.encode() + rb"=([!-:<-~]*)")
_MAX_SESSION_CHARS: Final = 200  # a time, the hash of a key and a SHA-256, all in hex
_SESSION_ENDS: Final = re.compile(r"[0-9a-f]{1,12}")
SESSION_SECONDS: Final = 7 * DAY_SECONDS

_PORT: Final = re.compile(rb":\d*$")

Headers = Sequence[tuple[bytes, bytes]]


# A client's user may take it for the provider's key.
_WRONG_KEY: Final = "Incorrect API key: it is none of this proxy's keys."


class Principal(NamedTuple):
    """The caller: the hash of the API key, and the limits of that key.

    Attributes:
        is_admin: whether the key may see the requests of others and start jobs.
        optional_tools: the key's own `routing.optional_tools`; None for that of all keys.
        name: as the operator chose it; None without one.
    """

    key_hash: str
    requests_per_minute: int | None = None
    cloud_usd_per_day: float | None = None
    is_admin: bool = False
    optional_tools: OptionalTools | None = None
    name: str | None = None

    @property
    def shown_name(self) -> str:
        """The name for people."""
        return self.name or default_key_name(self.key_hash)


class IssuedKey(NamedTuple):
    """A key that an admin created on a page. The key itself is not known.

    Attributes:
        digest: its SHA-256.
        is_revoked: whether it is refused. Its name stays, for the requests on record.
    """

    digest: bytes
    principal: Principal
    is_revoked: bool = False


class IssuedKeys:
    """The issued keys, shared by the configurations in use and to come.

    `replace` is atomic: requests see either the old keys or the new ones.
    """

    def __init__(self, keys: Iterable[IssuedKey] = ()) -> None:
        self.by_hash: dict[str, IssuedKey] = {}
        self.by_digest: dict[bytes, IssuedKey] = {}
        self.replace(keys)

    def replace(self, keys: Iterable[IssuedKey]) -> None:
        issued = list(keys)
        self.by_hash = {key.principal.key_hash: key for key in issued}
        self.by_digest = {key.digest: key for key in issued if not key.is_revoked}


class LoginLimiter:
    """Slows down guessing at the login, by the address of the connection.

    An address may guess wrong `guesses` times, and then once in `seconds_per_guess`. The form is
    the generic cell rate algorithm (ITU-T I.371): one time per address.

    Args:
        max_addresses: how many are remembered; the one that guessed longest ago is forgotten.
        clock: seconds.
    """

    def __init__(
        self,
        *,
        guesses: int = 10,
        seconds_per_guess: float = 6.0,
        max_addresses: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst_seconds = (guesses - 1) * seconds_per_guess
        self._seconds_per_guess = seconds_per_guess
        self._max_addresses = max_addresses
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()  # when all guesses are forgiven

    def seconds_left(self, address: str) -> float:
        """The seconds until the address may guess; 0 if it may now."""
        due = self._due.get(_network_of(address), -math.inf)
        return max(due - self._clock() - self._burst_seconds, 0.0)

    def count_wrong_guess(self, address: str) -> None:
        network, now = _network_of(address), self._clock()
        due = self._due.pop(network, now)
        self._due[network] = max(due, now) + self._seconds_per_guess
        while len(self._due) > self._max_addresses:
            self._due.popitem(last=False)


def _network_of(address: str) -> str:
    """The address; of IPv6 the first 64 bits, in which a host chooses the others."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found) if found.version == 4 else found.exploded[:19]


class _Known(NamedTuple):
    """A configured key: its digest, the secret that signs cookies, and the caller."""

    digest: bytes
    secret: bytes
    principal: Principal


class ApiKeys:
    """The configured and the issued keys.

    Without configured keys none is required: issued ones have no effect, and only web pages of
    other origins are rejected.

    Args:
        issued: the keys that admins created; they may change at any time.
        origins: the origins of web pages that may send requests, besides the proxy's own.
        is_private: whether only this machine can reach the port. Then the `Host` header must name
            this machine, which defeats DNS rebinding.
        clock: UNIX seconds.
    """

    def __init__(
        self,
        keys: Iterable[ApiKeyConfig],
        *,
        issued: IssuedKeys | None = None,
        origins: Iterable[str] = (),
        is_private: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_private = is_private
        self._clock = clock
        configured = tuple(keys)
        known = [_known(key, is_only=len(configured) == 1) for key in configured]
        self._issued = issued or IssuedKeys()
        self._by_digest = {key.digest: key for key in known}
        self._by_hash = {key.principal.key_hash: key for key in known}
        # Sessions of issued keys, which are not known, are signed with a configured admin key.
        admins = [key.secret for key in known if key.principal.is_admin]
        self._signers = admins or [key.secret for key in known]

    @property
    def required(self) -> bool:
        return bool(self._by_digest)

    @property
    def configured(self) -> list[Principal]:
        """The keys of the configuration, in its order."""
        return [key.principal for key in self._by_hash.values()]

    @property
    def valid(self) -> list[Principal]:
        """All keys that are accepted; none where no key is required."""
        if not self.required:
            return []
        issued = self._issued.by_digest.values()
        return [*self.configured, *(key.principal for key in issued)]

    def find(self, key: str) -> Principal | None:
        """The caller with this key; None if it is not valid."""
        return self._find(key.encode())

    def name_of(self, hashed: str) -> str:
        """The name of a key for people, by its `key_hash`, also of one that is not valid any more.

        A key that is unknown by now has its default name.
        """
        known = self._by_hash.get(hashed) or self._issued.by_hash.get(hashed)
        return default_key_name(hashed) if known is None else known.principal.shown_name

    def authenticate(self, headers: Headers) -> Principal | None:
        """The caller by `Authorization: Bearer …` or the session cookie; None without keys.

        Raises:
            NotAuthenticated: a key is required, and this one is missing or wrong.
            Forbidden: a web page of another origin sent the request.
        """
        if not self.required:
            self.check_page(headers)
            return None
        authorization = read_key(headers)
        if not authorization:
            if (principal := self.read_session(headers)) is not None:
                _check_origin(headers)  # browsers attach cookies to requests of any page
                return principal
            raise NotAuthenticated(
                "You didn't provide an API key: send it as 'Authorization: Bearer YOUR_KEY'."
            )
        scheme, _, given = authorization.partition(b" ")
        principal = self._find(given.strip())
        if principal is None or scheme.lower() != b"bearer":
            raise NotAuthenticated(_WRONG_KEY)
        return principal

    def check_page(self, headers: Headers) -> None:
        """Refuse web pages of other origins where no key protects what anybody may read.

        Raises:
            Forbidden: as `authenticate` does without keys.
        """
        if not self.required:
            _check_origin(headers, self._origins, is_private=self._is_private)

    def require_admin(self, headers: Headers) -> Principal | None:
        """Refuse callers who may see only their own requests. Returns the caller.

        Raises:
            NotAuthenticated, Forbidden: as in `authenticate`, or the key is not an admin key.
        """
        principal = self.authenticate(headers)
        if not is_admin(principal):
            raise Forbidden(
                "This needs an admin key (`admin: true` in server.api_keys).", code="admin_only"
            )
        return principal

    def log_in(self, key: str, headers: Headers) -> str:
        """The value of a session cookie for a key.

        Raises:
            NotAuthenticated: the key is wrong.
            Forbidden: a web page of another origin sent the request.
        """
        _check_origin(headers)
        principal = self._find(key.strip().encode())
        if principal is None:
            raise NotAuthenticated(_WRONG_KEY)
        ends = f"{int(self._clock() + SESSION_SECONDS):x}"
        secret = next(iter(self._secrets(principal.key_hash)))
        return f"{ends}.{principal.key_hash}.{_sign(secret, ends)}"

    def read_session(self, headers: Headers) -> Principal | None:
        """The caller by the session cookie; None without a valid, unexpired one."""
        ends, _, rest = _session(headers).partition(".")
        hashed, _, signature = rest.partition(".")
        if not _SESSION_ENDS.fullmatch(ends) or int(ends, 16) <= self._clock():
            return None
        known = self._by_hash.get(hashed) or self._issued.by_hash.get(hashed)
        if known is None:
            return None
        is_signed = False
        for secret in self._secrets(hashed):
            is_signed |= hmac.compare_digest(_sign(secret, ends).encode(), signature.encode())
        return known.principal if is_signed else None

    def _secrets(self, hashed: str) -> Iterable[bytes]:
        """The secrets that sign the sessions of a valid key. The first signs new ones."""
        if (known := self._by_hash.get(hashed)) is not None:
            return (known.secret,)
        issued = self._issued.by_hash.get(hashed)
        if issued is None or issued.is_revoked:
            return ()
        return [hmac.digest(signer, issued.digest, "sha256") for signer in self._signers]

    def _find(self, given: bytes) -> Principal | None:
        digest = hashlib.sha256(given).digest()
        known = self._by_digest.get(digest) or self._issued.by_digest.get(digest)
        return None if known is None or not self.required else known.principal


def _check_origin(
    headers: Headers, origins: frozenset[bytes] = frozenset(), *, is_private: bool = False
) -> None:
    """Refuse requests of web pages of other origins.

    Args:
        is_private: whether to refuse `Host` headers that do not name this machine.

    Raises:
        Forbidden: the page or the host is not allowed.
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
        raise Forbidden(
            f"Host '{host.decode('latin-1')}' is not allowed. Without API keys use localhost, or "
            "set server.allow_anonymous."
        )
    if origin:
        foreign = origin not in origins and origin.partition(b"://")[2] != host
    else:  # an image or a form
        foreign = site in (b"cross-site", b"same-site")
    if foreign:
        page = origin.decode("latin-1") or "other origins"
        raise Forbidden(
            f"Web pages of {page} may not use this proxy. Add the origin to server.cors_origins."
        )


def is_admin(principal: Principal | None) -> bool:
    """Whether a caller may see everything. Without keys every caller may."""
    return principal is None or principal.is_admin


def _known(config: ApiKeyConfig, *, is_only: bool) -> _Known:
    """A key with its derived secrets. The only key of a configuration is an admin key."""
    key = config.key.reveal()
    return _Known(
        hashlib.sha256(key.encode()).digest(),
        hmac.digest(key.encode(), b"session", "sha256"),
        Principal(
            key_hash(key),
            config.requests_per_minute,
            config.cloud_usd_per_day,
            is_only if config.admin is None else config.admin,
            config.optional_tools,
            config.name,
        ),
    )


def _sign(secret: bytes, ends: str) -> str:
    return hmac.digest(secret, ends.encode(), "sha256").hex()


def _session(headers: Headers) -> str:
    """The value of the session cookie; empty without one. Browsers may send several headers."""
    for name, value in headers:
        if name == b"cookie" and (match := _SESSION.search(value)) is not None:
            return match[1].decode() if len(match[1]) <= _MAX_SESSION_CHARS else ""
    return ""


@lru_cache(maxsize=64)  # clients use few names; parsing one takes 5 µs
def _is_this_machine(host: bytes) -> bool:
    """Whether a `Host` header names this machine; the port does not matter."""
    name = _PORT.sub(b"", host).decode("latin-1")
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def read_key(headers: Headers) -> bytes | None:
    """The `Authorization` header, or `x-api-key`, which Anthropic's clients send instead."""
    bearer = None
    for name, value in headers:
        if name == b"authorization":
            return value
        if name == b"x-api-key":
            bearer = b"Bearer " + value
    return bearer
