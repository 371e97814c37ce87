"""API keys as JSON: /api/keys for admins, and /api/usage for the holder of a key.

GET    /api/keys          all keys with their use and limits, and the last changes
POST   /api/keys          create a key; the answer is the only one that has it
PATCH  /api/keys/{hash}   rename a created key, or change its limits
DELETE /api/keys/{hash}   revoke a created key
GET    /api/usage         the caller's own requests, costs and limits

Keys of the configuration file are listed, and changed in the file only.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from litestar import HttpMethod, Request, Response, delete, get, patch, post, route
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.types import ControllerRouterHandler
from msgspec import UNSET, UnsetType

from proxy.auth import ApiKeys, Principal
from proxy.budget import Limits
from proxy.config import KEY_NAME_RULE, is_key_name
from proxy.errors import Conflict, InvalidRequest, NotFound, Unavailable
from proxy.gateway import Gateway
from proxy.protocol import read_request
from proxy.record import DAY_SECONDS, key_hash
from proxy.secret import KEY_PREFIX
from proxy.storage import (
    KEY_ACTIONS,
    AuditLog,
    KeyNameTaken,
    KeyRow,
    KeyTotals,
    LastAdmin,
    RequestLog,
    RequestQueries,
    StoreUnavailable,
    TooManyKeys,
    start_of_day,
)
from proxy.web.blocking import ask
from proxy.web.dashboard_query import read_period
from proxy.web.key_directory import KeyDirectory, with_key_names
from proxy.web.small_bodies import read_json_body

T = TypeVar("T")

_KEY_BYTES: Final = 32  # of randomness
_SHOWN_CHARS: Final = len(KEY_PREFIX) + 6
_LISTED_CHANGES: Final = 50
_LISTED_REQUESTS: Final = 20
MAX_KEY_BODY_BYTES: Final = 10_000
# Another number would not fit into the columns.
_PerMinute = Annotated[int, msgspec.Meta(gt=0, le=1_000_000)]
_Dollars = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]
_NO_STORE: Final = {"cache-control": "no-store"}


class _NewKey(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    is_admin: bool = False
    requests_per_minute: _PerMinute | None = None
    cloud_usd_per_day: _Dollars | None = None


class _KeyChange(msgspec.Struct, forbid_unknown_fields=True):
    name: str | UnsetType = UNSET
    is_admin: bool | UnsetType = UNSET
    requests_per_minute: _PerMinute | UnsetType | None = UNSET
    cloud_usd_per_day: _Dollars | UnsetType | None = UNSET


_new_key = msgspec.json.Decoder(_NewKey)
_key_change = msgspec.json.Decoder(_KeyChange)


def routes(
    gateway: Gateway,
    directory: KeyDirectory,
    requests: RequestQueries,
    limits: Limits,
    *,
    body_seconds: float,
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        body_seconds: how long a client may take to send a body.
    """
    log, audit = RequestLog.sharing(requests), AuditLog.sharing(requests)

    @get("/api/keys")
    async def list_keys(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        keys = gateway.snapshot.keys
        keys.require_admin(_headers(request))
        period = read_period(request.query_params)
        hours = period.in_full_hours()
        used, today, last, changes = await ask(
            lambda: (
                requests.totals_by_key(hours.since, until=hours.until),
                requests.totals_by_key(start_of_day(time.time())),
                requests.last_used(),
                audit.newest(limit=_LISTED_CHANGES, actions=KEY_ACTIONS),
            )
        )
        usage = _Usage(used, today, last, limits)
        reason = _why_none_can_be_created(keys)
        return Response(
            {
                "span": period.name,
                "needs_key": keys.required,
                "can_create": reason is None,
                "why_not": reason,
                "keys": _listed(keys, directory.rows, usage),
                "changes": [
                    change._asdict()
                    | {
                        "action": change.action.removeprefix("key."),
                        "actor_name": change.actor and keys.name_of(change.actor),
                        "subject_name": change.details.get("name") or keys.name_of(change.subject),
                    }
                    for change in changes
                ],
            }
        )

    @post("/api/keys", status_code=201)
    async def create_key(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        keys = gateway.snapshot.keys
        actor = keys.require_admin(_headers(request))
        new = read_request(
            _new_key,
            await read_json_body(request, seconds=body_seconds, max_bytes=MAX_KEY_BODY_BYTES),
        )
        if reason := _why_none_can_be_created(keys):
            raise Conflict(reason, code="no_configured_key")
        _check_name(new.name, keys)
        secret = KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)
        row = KeyRow(
            key_hash(secret),
            hashlib.sha256(secret.encode()).hexdigest(),
            new.name,
            secret[:_SHOWN_CHARS],
            time.time(),
            actor and actor.key_hash,
            new.is_admin,
            new.requests_per_minute,
            new.cloud_usd_per_day,
        )
        await _change(directory.create(row, actor and actor.key_hash))
        return Response({"key": _created(row, keys), "secret": secret}, headers=_NO_STORE)

    @patch("/api/keys/{hashed:str}")
    async def change_key(
        request: Request[Any, Any, Any], hashed: FromPath[str]
    ) -> Response[dict[str, Any]]:
        keys = gateway.snapshot.keys
        actor = keys.require_admin(_headers(request))
        change = read_request(
            _key_change,
            await read_json_body(request, seconds=body_seconds, max_bytes=MAX_KEY_BODY_BYTES),
        )
        fields = {
            name: value
            for name, value in msgspec.structs.asdict(change).items()
            if value is not UNSET
        }
        _check_stored(hashed, keys)
        if not isinstance(change.name, UnsetType):
            _check_name(change.name, keys, own=hashed)
        row = await _change(
            directory.change(
                hashed, fields, actor and actor.key_hash, needs_admin=_needs_admin(keys)
            )
        )
        if row is None:
            raise _unknown(hashed)
        return Response({"key": _created(row, keys)})

    @delete("/api/keys/{hashed:str}", status_code=200)
    async def revoke_key(
        request: Request[Any, Any, Any], hashed: FromPath[str]
    ) -> Response[dict[str, Any]]:
        keys = gateway.snapshot.keys
        actor = keys.require_admin(_headers(request))
        _check_stored(hashed, keys)
        row = await _change(
            directory.revoke(hashed, actor and actor.key_hash, needs_admin=_needs_admin(keys))
        )
        if row is None:
            raise _unknown(hashed)
        return Response({"key": _created(row, keys)})

    @get("/api/usage")
    async def show_usage(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        keys = gateway.snapshot.keys
        caller = keys.authenticate(_headers(request))
        if caller is None:
            raise NotFound(
                "This proxy needs no API keys, so nothing is counted by key.", code="no_keys"
            )
        period = read_period(request.query_params, default="30d")
        hours = period.in_full_hours()
        hashed = caller.key_hash
        step: Literal["hour", "day"] = "day" if period.step_seconds == DAY_SECONDS else "hour"
        used, today, last, series, page = await ask(
            lambda: (
                requests.totals_by_key(hours.since, until=hours.until, key_hash=hashed).get(
                    hashed, KeyTotals()
                ),
                requests.totals_by_key(start_of_day(time.time()), key_hash=hashed),
                requests.last_used(key_hash=hashed),
                requests.key_series(hashed, hours.since, until=hours.until, step=step),
                log.newest(limit=_LISTED_REQUESTS, values={"client_key_hash": hashed}),
            )
        )
        usage = _Usage({hashed: used}, today, last, limits)
        row = next((row for row in directory.rows if row.key_hash == hashed), None)
        return Response(
            {
                "span": period.name,
                "key": _described(caller, row) | usage.of(caller),
                "resets_at": start_of_day(time.time()) + DAY_SECONDS,
                "total": used._asdict(),
                "step": step,
                "series": [{"begins": at, **sums._asdict()} for at, sums in series],
                "requests": with_key_names(page.rows, keys),
            },
            headers=_NO_STORE,
        )

    # Litestar would name the methods of one handler only.
    @route("/api/keys", http_method=[HttpMethod.OPTIONS], status_code=200)
    async def describe_keys() -> ASGIResponse:
        return ASGIResponse(status_code=204, headers={"allow": "GET, OPTIONS, POST"})

    @route("/api/keys/{hashed:str}", http_method=[HttpMethod.OPTIONS], status_code=200)
    async def describe_key(hashed: FromPath[str]) -> ASGIResponse:
        return ASGIResponse(status_code=204, headers={"allow": "DELETE, OPTIONS, PATCH"})

    # Those of OPTIONS come first: Litestar adds its own to a path without one.
    return [
        describe_keys, describe_key, list_keys, create_key, change_key, revoke_key, show_usage,
    ]  # fmt: skip


# --- Answers ---


class _Usage:
    """What the keys have used, by their hashes.

    Args:
        used: in the time range.
        today: since midnight UTC.
        last: when each made its last request.
    """

    def __init__(
        self,
        used: dict[str, KeyTotals],
        today: dict[str, KeyTotals],
        last: dict[str, float],
        limits: Limits,
    ) -> None:
        self.used = used
        self._today = today
        self._last = last
        self._spending = limits.spending

    def of(self, principal: Principal) -> dict[str, Any]:
        hashed, budget = principal.key_hash, principal.cloud_usd_per_day
        left = None
        if budget is not None:
            left = max(budget - self._spending.spent_today(hashed), 0.0)
        return {
            **self.used.get(hashed, KeyTotals())._asdict(),
            "spent_today_usd": self._today.get(hashed, KeyTotals()).cost_usd,
            "budget_left_usd": left,
            "last_used_at": self._last.get(hashed),
        }


def _listed(keys: ApiKeys, rows: Sequence[KeyRow], usage: _Usage) -> list[dict[str, Any]]:
    """The keys of the file and the created ones, then those that only old requests name."""
    by_hash = {row.key_hash: row for row in rows}
    configured = keys.configured
    listed = [(principal, by_hash.get(principal.key_hash)) for principal in configured]
    known = {principal.key_hash for principal in configured}
    listed += [(row.issued.principal, row) for row in rows if row.key_hash not in known]
    known |= by_hash.keys()
    listed += [(Principal(hashed), None) for hashed in sorted(usage.used.keys() - known)]
    in_file = {principal.key_hash for principal in configured}
    return [
        _described(
            principal,
            row,
            is_configured=principal.key_hash in in_file,
            creator=row and row.created_by and keys.name_of(row.created_by),
        )
        | usage.of(principal)
        for principal, row in listed
    ]


def _described(
    principal: Principal,
    row: KeyRow | None,
    *,
    is_configured: bool | None = None,
    creator: str | None = None,
) -> dict[str, Any]:
    """A key with its limits. `source` is null for a key that is unknown by now."""
    is_in_file = row is None if is_configured is None else is_configured
    state = "valid"
    if not is_in_file:
        state = "removed" if row is None else "valid" if row.revoked_at is None else "revoked"
    issued = None if is_in_file else row
    return {
        "key_hash": principal.key_hash,
        "name": principal.shown_name,
        "source": "file" if is_in_file else None if row is None else "created",
        "state": state,
        "prefix": issued and issued.prefix,
        "created_at": issued and issued.created_at,
        "created_by": creator if issued else None,
        "revoked_at": issued and issued.revoked_at,
        "is_admin": principal.is_admin,
        "requests_per_minute": principal.requests_per_minute,
        "cloud_usd_per_day": principal.cloud_usd_per_day,
    }


def _created(row: KeyRow, keys: ApiKeys) -> dict[str, Any]:
    creator = row.created_by and keys.name_of(row.created_by)
    return _described(row.issued.principal, row, is_configured=False, creator=creator)


# --- Requests ---


def _why_none_can_be_created(keys: ApiKeys) -> str | None:
    """Why no key can be created; None if one can."""
    if not keys.required:
        return (
            "Keys can be created once server.api_keys in the configuration file has an admin key. "
            "Until then the proxy needs no key, and the first one would lock out every client."
        )
    return None


def _needs_admin(keys: ApiKeys) -> bool:
    """Whether an admin key must remain among the created ones: the file has none."""
    return not any(principal.is_admin for principal in keys.configured)


def _check_name(name: str, keys: ApiKeys, *, own: str | None = None) -> None:
    """Refuse a name that is none, is a key, or belongs to another key.

    Args:
        own: the hash of the key that gets the name.
    """
    if not is_key_name(name):
        raise InvalidRequest(f"Invalid value for 'name': {KEY_NAME_RULE}.", param="name")
    if keys.find(name) is not None or name.startswith(KEY_PREFIX):
        raise InvalidRequest(
            "Invalid value for 'name': it is an API key, or looks like one. Pages and logs show "
            "names.",
            param="name",
        )
    if any(other.shown_name == name and other.key_hash != own for other in keys.valid):
        raise _name_taken()


def _check_stored(hashed: str, keys: ApiKeys) -> None:
    """Refuse changes of a key of the configuration file."""
    if any(principal.key_hash == hashed for principal in keys.configured):
        raise Conflict(
            "This key is in the configuration file (server.api_keys). Change it there.",
            code="configured_key",
        )


def _unknown(hashed: str) -> NotFound:
    return NotFound(f"The key '{hashed[:20]}' does not exist.", param="key")


def _name_taken() -> Conflict:
    return Conflict("Another API key has this name.", param="name", code="name_taken")


async def _change(work: Any) -> Any:
    """Await a change of keys. Raises the errors of the API."""
    try:
        return await work
    except KeyNameTaken:
        raise _name_taken() from None
    except TooManyKeys:
        raise Conflict(
            "There are too many keys. Revoke some first.", code="too_many_keys"
        ) from None
    except LastAdmin:
        raise Conflict(
            "This is the last admin key. Make another key an admin key first.", code="last_admin"
        ) from None
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None


def _headers(request: Request[Any, Any, Any]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(request.scope["headers"])
