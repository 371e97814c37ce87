"""API keys: who may use /v1, and how much. Compared in constant time, kept as hashes in rows.

A browser sends its key once, to log in, and from then on a cookie, which no script can read and
which says nothing about the key. It needs no memory of ours: it is signed with what only the key's
owner and the configuration know, so it holds for every worker and ends when the key goes.

Where nobody needs a key, or a cookie would do, the web pages that a browser shows must not be able
to spend the owner's: every page may send requests anywhere, and the browser says which one did.

What a key has used is known to the process, not to its configuration: a reload forgets nothing.
"""

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.config import ApiKeyConfig
from proxy.errors import BudgetSpent, Forbidden, NotAuthenticated, RateLimited
from proxy.record import DAY_SECONDS, CallRecord, Target, key_hash

SESSION_COOKIE: Final = "hybrid_llm_session"
SESSION_SECONDS: Final = 7 * DAY_SECONDS

_EVERYBODY: Final = ""  # which is no key's hash
_TOLD_SHARES: Final = (0.8, 1.0)
_PORT: Final = re.compile(rb":\d*$")

Headers = Sequence[tuple[bytes, bytes]]


class Client(NamedTuple):
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
    client: Client


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
    def are_needed(self) -> bool:
        return bool(self._known)

    def check(self, headers: Headers) -> Client | None:
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
            if (client := self.of_session(headers)) is not None:
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

    def of_session(self, headers: Headers) -> Client | None:
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


def is_admin(client: Client | None) -> bool:
    """Whether whoever asks may see everything. Where nobody needs a key, everybody may."""
    return client is None or client.is_admin


def _known(config: ApiKeyConfig, *, is_only: bool) -> _Known:
    """Whoever has the only key there is has no one to hide anything from."""
    key = config.key.reveal()
    return _Known(
        hashlib.sha256(key.encode()).digest(),
        hmac.digest(key.encode(), b"session", "sha256"),
        Client(
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


class _Used:
    """What one key has used: its place in the minute, and today's dollars."""

    __slots__ = ("day", "full_at", "others_usd", "usd")

    def __init__(self) -> None:
        self.full_at = 0.0  # when all of a minute's requests are free again
        self.day = 0
        self.usd = 0.0  # counted by this process
        self.others_usd = 0.0


class Quotas:
    """What the keys have used so far, and whether it leaves them room.

    Requests: a bucket that holds a minute's requests and fills evenly, so that a burst is fine and
    a steady flow may be as large as the limit. Dollars: what the cloud's answers cost since
    midnight UTC. A request's cost is known at its end, so those that run when the last cent is
    spent still finish.

    What this process counts it knows at once. What others count, its siblings and those before it,
    it is told by whoever reads that in the database.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used: dict[str, _Used] = {}
        self._told: dict[float, int] = {}  # by share of the budget, the last day it was told on

    def today(self) -> float:
        """When the day began, as UNIX seconds."""
        return self._clock() // DAY_SECONDS * DAY_SECONDS

    def note_others(self, spent_usd: Mapping[str | None, float], *, since: float) -> None:
        """Take over what others than this process have spent, by the hash of the key.

        Within a day that only grows: a database that has lost rows gives no dollars back.

        Args:
            since: the beginning of the day that it is of.
        """
        totals = {_EVERYBODY: sum(spent_usd.values())}
        totals.update((name, usd) for name, usd in spent_usd.items() if name is not None)
        for name, usd in totals.items():
            if (used := self._of_day(name, since)) is not None:
                used.others_usd = max(used.others_usd, usd)

    def spent_today(self) -> float:
        """Dollars that the cloud has cost since midnight UTC, whoever asked."""
        return self._today_of(_EVERYBODY)

    def admit(self, client: Client | None) -> None:
        """Count a request. Raises RateLimited when the key has none left for now."""
        if client is None or client.requests_per_minute is None:
            return
        used, now = self._of(client.key_hash), self._clock()
        each = 60 / client.requests_per_minute
        full_at = max(used.full_at, now) + each
        if full_at - now > 60 + 1e-6:
            raise RateLimited(
                f"Rate limit reached: this API key may make {client.requests_per_minute} "
                "requests a minute.",
                seconds=full_at - now - 60,
            )
        used.full_at = full_at

    def may_spend(self, client: Client | None, *, usd_per_day: float | None = None) -> bool:
        """Whether the key has dollars left for the cloud today, and everybody together has.

        Args:
            usd_per_day: what everybody together may spend.
        """
        if usd_per_day is not None and self.spent_today() >= usd_per_day:
            return False
        if client is None or client.cloud_usd_per_day is None:
            return True
        return self._today_of(client.key_hash) < client.cloud_usd_per_day

    def refusal(self, client: Client | None, *, usd_per_day: float | None = None) -> BudgetSpent:
        """What to tell a client when there are no dollars left. Arguments as for `may_spend`."""
        who = "This proxy"
        if usd_per_day is None or self.spent_today() < usd_per_day:
            assert client is not None
            who, usd_per_day = "This API key", client.cloud_usd_per_day
        return BudgetSpent(
            f"{who} has spent its {usd_per_day:g} USD for the cloud today; "
            "the next day begins at midnight UTC.",
            seconds=self.today() + DAY_SECONDS - self._clock(),
        )

    def note(self, record: CallRecord) -> None:
        """Count what a finished request cost in the cloud."""
        if record.cost_usd and record.target is Target.CLOUD:
            self._spend(record.client_key_hash, record.created_at, record.cost_usd)

    def newly_spent(self, usd_per_day: float) -> float | None:
        """Which share of everybody's dollars, 0.8 or 1, is spent now; each is told once a day."""
        day, spent = int(self.today()), self.spent_today()
        reached = [share for share in _TOLD_SHARES if spent and spent >= share * usd_per_day]
        new = [share for share in reached if self._told.get(share) != day]
        self._told.update(dict.fromkeys(reached, day))
        return max(new, default=None)

    def _spend(self, name: str | None, at: float, usd: float) -> None:
        for one in (_EVERYBODY,) if name is None else (_EVERYBODY, name):
            if (used := self._of_day(one, at)) is not None:
                used.usd += usd

    def _today_of(self, name: str) -> float:
        used = self._of(name)
        is_of_today = used.day == self._clock() // DAY_SECONDS
        return used.usd + used.others_usd if is_of_today else 0.0

    def _of_day(self, name: str, at: float) -> _Used | None:
        """What a key has used on the day of a time; None when a later day has begun for it."""
        used, day = self._of(name), int(at // DAY_SECONDS)
        if day > used.day:
            used.day, used.usd, used.others_usd = day, 0.0, 0.0
        return used if day == used.day else None

    def _of(self, name: str) -> _Used:
        return self._used.setdefault(name, _Used())
