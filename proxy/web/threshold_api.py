"""The threshold as JSON, for its card on the dashboard: /api/pareto and /api/threshold.

Admins only.

GET  /api/pareto               cost and quality of each threshold
GET  /api/threshold            the threshold in use, the file with it, and its last change
GET  /api/threshold/preview    the recent requests that another threshold would move
POST /api/routing/preview      the same for other rules and another band of the second look
POST /api/threshold/apply      change the threshold in the file; with `dry_run` only show the diff
POST /api/threshold/undo       restore the value before the last change

A change is answered after the proxy has reloaded the file. If the proxy refuses the new file, or
the change cannot be recorded in the audit log, the old file is restored.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from proxy.budget import Price, TokenCounter
from proxy.config import Config, ConfigError, with_sections
from proxy.config_file import (
    KEY,
    Edit,
    FileChanged,
    NotEditable,
    format_threshold,
    plan_edit,
    read_setting,
    why_not_writable,
    write_edit,
)
from proxy.errors import Conflict, InvalidRequest, RouterError, Unavailable
from proxy.evaluation import (
    MIN_PAIRS,
    Move,
    QualityQueries,
    ThresholdPreview,
    WeightedPair,
    compare_thresholds,
    preview_rules,
    preview_second_look,
    undecidable_rules,
)
from proxy.gateway import Gateway, Snapshot
from proxy.protocol import read_request
from proxy.record import Target, key_hash
from proxy.routing import Rules
from proxy.storage import (
    AuditLog,
    MeritBucket,
    RecentRequests,
    RequestLog,
    RequestQueries,
)
from proxy.web.blocking import ask
from proxy.web.dashboard_api import CACHE_SECONDS, TimedCache, cache_key, merits, period_fields
from proxy.web.dashboard_query import read_period
from proxy.web.small_bodies import read_json_body
from router_model.manifest import Manifest, OperatingPoint

THRESHOLDS: Final = [step / 100 for step in range(101)]  # of the curve
MAX_MOVES: Final = 20  # that a preview lists
MAX_PREVIEW_BYTES: Final = 64 * 1024  # of rules
RULES_SECONDS: Final = 2.0  # that a preview of rules may read prompts
APPLY: Final = "threshold.apply"
UNDO: Final = "threshold.undo"
# float() also takes digits of other scripts, underscores, nan and infinity.
_NUMBER: Final = re.compile(r"(?:[0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?")

T = TypeVar("T")

ReloadFile = Callable[[], Awaitable[str | None]]


class ParetoPoint(NamedTuple):
    """The outcome of one threshold.

    Attributes:
        cloud_share, cost_usd: of the recorded requests that have a score: those that go to the
            cloud, and their real or estimated cost there.
        cost_share, quality: a point of the curve, both of one population: the cost as a share of
            the all-cloud cost, and the recovered share of the quality gap. None if unknown.
    """

    threshold: float
    cloud_share: float
    cost_usd: float
    cost_share: float | None
    quality: float | None


_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Change(msgspec.Struct):
    threshold: _Unit | Literal["auto"]
    sha256: _Hash = ""  # needed without `dry_run`
    dry_run: bool = False


class _Undo(msgspec.Struct):
    sha256: _Hash


class _Preview(msgspec.Struct):
    threshold: _Unit | None = None
    rules: list[Any] | None = None
    verify: dict[str, Any] | None = None
    yaml: str | None = None


_change = msgspec.json.Decoder(_Change)
_undo = msgspec.json.Decoder(_Undo)
_preview = msgspec.json.Decoder(_Preview)


def routes(
    gateway: Gateway,
    requests: RequestQueries,
    *,
    manifest: Callable[[], Manifest | None],
    tokens: TokenCounter,
    path: Path | None,
    reload: ReloadFile,
    body_seconds: float,
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        manifest: of the router model in use.
        path: the configuration file; None if the proxy was started without one.
        reload: applies the file; returns why the proxy refused it, or None.
        body_seconds: how long a client may take to send a body.
    """
    cache = TimedCache(CACHE_SECONDS)
    quality, log = QualityQueries.sharing(requests), RequestLog.sharing(requests)
    previews = Previews(gateway, RecentRequests.sharing(requests), quality, tokens)
    setting = Setting(gateway, AuditLog.sharing(requests), path=path, reload=reload)

    @get("/api/pareto")
    async def show_pareto(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        period = read_period(request.query_params)
        pairs = await cache.get(
            ("pairs", cache_key(period)),
            lambda: ask(lambda: quality.weighted_pairs(period.since, until=period.until)),
        )
        scored = await ask(lambda: merits(requests, log, period))
        current = gateway.paced_threshold(gateway.snapshot)
        return Response({**period_fields(period), **pareto(scored, pairs, manifest(), current)})

    @get("/api/threshold")
    async def show_threshold(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        return Response(await setting.describe())

    @get("/api/threshold/preview")
    async def show_preview(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        text = request.query_params.get("threshold", "")
        if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
            raise InvalidRequest(
                f"Invalid value for 'threshold': '{text[:40]}' is not a number from 0 to 1.",
                param="threshold",
            )
        return Response(await previews.threshold(float(text)))

    @post("/api/routing/preview", status_code=200)
    async def preview(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _admit(gateway, request)
        body = await read_json_body(request, seconds=body_seconds, max_bytes=MAX_PREVIEW_BYTES)
        return Response(await previews.settings(read_request(_preview, body)))

    @post("/api/threshold/apply", status_code=200)
    async def change(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        actor = _admit(gateway, request)
        body = read_request(
            _change,
            await read_json_body(request, seconds=body_seconds, max_bytes=MAX_PREVIEW_BYTES),
        )
        value = body.threshold if body.threshold == "auto" else format_threshold(body.threshold)
        if body.dry_run:
            return Response(_described(await setting.plan(value)))
        if not body.sha256:
            raise InvalidRequest(
                "'sha256' is required: the hash of the file that the diff was made for.",
                param="sha256",
            )
        return Response(await setting.apply(value, body.sha256, actor=actor, action=APPLY))

    @post("/api/threshold/undo", status_code=200)
    async def undo(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        actor = _admit(gateway, request)
        body = read_request(
            _undo, await read_json_body(request, seconds=body_seconds, max_bytes=MAX_PREVIEW_BYTES)
        )
        value = await setting.value_before()
        return Response(await setting.apply(value, body.sha256, actor=actor, action=UNDO))

    return [show_pareto, show_threshold, show_preview, preview, change, undo]


# --- The cost-quality curve ---


def pareto(
    scored: Sequence[MeritBucket],
    pairs: Sequence[WeightedPair],
    manifest: Manifest | None,
    current: float,
) -> dict[str, Any]:
    """Cost and quality of each threshold, and what it does with the recorded requests.

    Both axes of the curve are of one population: the judged requests, weighted by their sampling,
    or the router model's validation data until enough are judged. So the curve begins at (0, 0),
    all local, and ends at (1, 1), all cloud, and random routing is the diagonal between them.

    Cost is the real or estimated cloud cost; the price of the local tier, mostly 0, is left out.

    Args:
        scored: one bucket per hundredth of the merit.
        pairs: judged requests with both tiers' answers.
        current: the threshold in use.
    """
    basis: str | None
    curve: Sequence[tuple[float | None, float | None]]
    if len(pairs) >= MIN_PAIRS:
        basis, curve = "judged", _judged_curve(pairs)
    elif manifest is not None:
        basis, curve = "validation", _validation_curve(manifest.thresholds)
    else:
        basis, curve = None, [(None, None)] * len(THRESHOLDS)
    requests = sum(bucket.requests for bucket in scored)
    dollars = sum(bucket.cloud_usd for bucket in scored)
    sent, spent = 0, 0.0
    points = []
    for index, (threshold, (cost, quality)) in enumerate(zip(THRESHOLDS, curve, strict=True)):
        share = sent / requests if requests else 0.0
        points.append(ParetoPoint(threshold, share, spent, cost, quality))
        if index < len(scored):
            sent, spent = sent + scored[index].requests, spent + scored[index].cloud_usd
    return {
        "requests": requests,
        "all_cloud_usd": dollars,
        "basis": basis,
        "judged": len(pairs),
        "judged_needed": MIN_PAIRS,
        "threshold": current,
        "curve": [point._asdict() for point in points],
    }


def _judged_curve(pairs: Sequence[WeightedPair]) -> list[tuple[float | None, float | None]]:
    """Cost share and recovered share of the quality gap by threshold, of the judged requests.

    Without any price, a request costs the same as any other. The quality is None if the local
    answers are as good as the cloud's: there is no gap to recover.
    """
    priced = [pair for pair in pairs if pair.cloud_usd is not None]
    if not any(pair.cloud_usd for pair in priced):
        priced = [pair._replace(cloud_usd=1.0) for pair in pairs]
    costs = _shares_below(priced, lambda pair: pair.weight * (pair.cloud_usd or 0.0))
    gains = _shares_below(priced, lambda pair: pair.weight * (pair.cloud - pair.local))
    return list(zip(costs, gains, strict=True))


def _shares_below(
    pairs: Sequence[WeightedPair], value: Callable[[WeightedPair], float]
) -> list[float | None]:
    """The share of the summed values with a merit below each threshold; at 1 it is all of it."""
    buckets = [0.0] * (len(THRESHOLDS) - 1)
    for pair in pairs:
        # The first threshold that exceeds the merit sends the request to the cloud.
        first = next((n for n, limit in enumerate(THRESHOLDS) if pair.merit < limit), None)
        buckets[-1 if first is None else first - 1] += value(pair)
    sums = [0.0]
    for amount in buckets:
        sums.append(sums[-1] + amount)
    total = sums[-1]
    return [None if total <= 0 else amount / total for amount in sums]


def _validation_curve(
    table: Sequence[OperatingPoint],
) -> list[tuple[float | None, float | None]]:
    """The same from the router model's table, with linear interpolation."""
    inner = [point for point in table if 0 < point.threshold < 1]
    limits = [0.0, *(point.threshold for point in inner), 1.0]
    costs = [0.0, *(point.cost_share for point in inner), 1.0]
    gains = [0.0, *(point.quality_share for point in inner), 1.0]
    curve: list[tuple[float | None, float | None]] = []
    left = 0
    for threshold in THRESHOLDS:
        while left + 2 < len(limits) and limits[left + 1] <= threshold:
            left += 1
        width = limits[left + 1] - limits[left]
        share = min((threshold - limits[left]) / width, 1.0)
        curve.append(
            (
                costs[left] + share * (costs[left + 1] - costs[left]),
                gains[left] + share * (gains[left + 1] - gains[left]),
            )
        )
    return curve


# --- Previews ---


class Previews:
    """Previews of other settings on recent requests."""

    def __init__(
        self,
        gateway: Gateway,
        recent: RecentRequests,
        quality: QualityQueries,
        tokens: TokenCounter,
    ) -> None:
        self._gateway = gateway
        self._recent = recent
        self._quality = quality
        self._tokens = tokens
        self._reading = asyncio.Semaphore(1)  # a slider must not occupy every thread

    async def threshold(self, threshold: float) -> dict[str, Any]:
        """The recent requests that a threshold would move."""
        snapshot = self._gateway.snapshot
        current = self._gateway.paced_threshold(snapshot)
        # Pacing lowers the new threshold as it lowers the one in use.
        other = min(threshold, current) if current < snapshot.router.threshold else threshold

        def read() -> dict[str, Any]:
            rows = self._recent.scored()
            found = compare_thresholds(
                rows,
                current=current,
                other=other,
                in_band=_in_band(snapshot),
                local_price=_local_price(snapshot),
            )
            return {
                "requests": found.requests,
                "since": min((row.created_at for row in rows), default=None),
                **_totals(found),
                **self._moves(found.moves),
            }

        async with self._reading:
            payload = await ask(read)
        return {
            "threshold": threshold,
            "effective": other,
            "current": current,
            "configured": snapshot.router.threshold,
            **payload,
        }

    async def settings(self, asked: _Preview) -> dict[str, Any]:
        """The effect of a threshold, of rules, and of a band of the second look."""
        snapshot = self._gateway.snapshot
        given = [name for name in ("rules", "verify", "yaml") if getattr(asked, name) is not None]
        if "yaml" in given and len(given) > 1:
            raise InvalidRequest("'yaml' has the rules and the band: send it alone.", param="yaml")
        config, names = _read_sections(snapshot.config, asked)
        payload: dict[str, Any] = {}
        if asked.threshold is not None:
            payload["threshold"] = await self.threshold(asked.threshold)
        if "routing" in names:
            payload["rules"] = await self._rules(snapshot, config)
        if "verify" in names:
            payload["second_look"] = await self._second_look(snapshot, config, asked.threshold)
        return payload

    async def _rules(self, snapshot: Snapshot, config: Config) -> dict[str, Any]:
        stored, open_rules = undecidable_rules(config)
        rules = Rules(stored)
        await rules.prepare(self._tokens)
        threshold = self._gateway.paced_threshold(snapshot)

        def read() -> dict[str, Any]:
            found = preview_rules(
                self._recent.routed(),
                rules.find_prepared,
                open_rules=open_rules,
                threshold=threshold,
                local_price=_local_price(snapshot),
                tokens=self._tokens,
                seconds=RULES_SECONDS,
            )
            return {
                "evaluated": found.evaluated,
                "unknown": found.unknown,
                "is_complete": found.is_complete,
                "matched": [
                    {"name": rule.name, "requests": found.matched.get(rule.name, 0)}
                    for rule in config.routing.rules
                ],
                **self._moves(found.moves),
            }

        async with self._reading:
            return await ask(read)

    async def _second_look(
        self, snapshot: Snapshot, config: Config, threshold: float | None
    ) -> dict[str, Any]:
        if threshold is None:
            threshold = self._gateway.paced_threshold(snapshot)
        verifier, band = snapshot.router.verifier, config.verify.band
        if band == "auto" and verifier is None:
            raise InvalidRequest(
                "verify.band: auto needs a fitted second look (`hybrid-llm calibrate`). "
                "Give a band such as [0.4, 0.6].",
                param="verify",
            )
        limit = threshold

        def in_band(merit: float, at: float) -> bool:
            if band == "auto":
                return verifier is not None and verifier.is_in_band(merit, at)
            return 0 < at < 1 and band[0] <= merit < band[1]

        def read() -> dict[str, Any]:
            rows = self._recent.scored()
            return preview_second_look(rows, threshold=limit, in_band=in_band)._asdict()

        async with self._reading:
            payload = await ask(read)
        return payload | {
            "band": band,
            "is_fitted": verifier is not None,
            "mode": config.verify.mode,
            "streams": config.verify.streams,
        }

    def _moves(self, moves: Sequence[Move]) -> dict[str, Any]:
        """The moves by direction, and the newest of them. Blocks."""
        newest = sorted(moves, key=lambda move: move.request.created_at, reverse=True)[:MAX_MOVES]
        scores = self._quality.judged_scores([move.request.id for move in moves])
        excerpts = self._recent.excerpts([move.request.id for move in newest])
        directions = {}
        for target in Target:
            some = [move for move in moves if move.after is target]
            judged = [scores[move.request.id] for move in some if move.request.id in scores]
            weights = sum(pair.weight for pair in judged)
            gain = sum(pair.weight * (pair.cloud - pair.local) for pair in judged)
            directions[f"to_{target}"] = {
                "requests": len(some),
                "usd": sum(move.usd for move in some),
                "judged": len(judged),
                # Of the judge's ten; positive where the new tier's answers are better.
                "score_change": (gain if target is Target.CLOUD else -gain) / weights
                if weights
                else None,
            }
        return {
            **directions,
            "moves": [
                {
                    "id": move.request.id,
                    "created_at": move.request.created_at,
                    "prompt": excerpts.get(move.request.id),
                    "category": move.request.category,
                    "score": move.request.score,
                    "merit": move.request.merit,
                    "from": move.before.value,
                    "to": move.after.value,
                    "usd": move.usd,
                    "rule": move.rule,
                }
                for move in newest
            ],
        }


def _totals(found: ThresholdPreview) -> dict[str, Any]:
    return {
        "local": found.local,
        "new_local": found.new_local,
        "usd": found.usd,
        "new_usd": found.new_usd,
    }


def _read_sections(config: Config, asked: _Preview) -> tuple[Config, frozenset[str]]:
    """The configuration with the previewed sections, and their names."""
    text, param = asked.yaml, "yaml"
    if text is None:
        given = {"rules": asked.rules, "verify": asked.verify}
        sections = {name: value for name, value in given.items() if value is not None}
        text = msgspec.json.encode(sections).decode()
        param = next(iter(sections), "rules")
    try:
        return with_sections(config, text)
    except ConfigError as error:
        # `preview:3: routing.rules[0].use: …`: the line means something in a text only.
        where, _, problem = str(error).partition(": ")
        line = where.rpartition(":")[2]
        at = f"Line {line}: " if asked.yaml is not None and line.isdigit() else ""
        raise InvalidRequest(f"{at}{problem}.", param=param) from None


def _in_band(snapshot: Snapshot) -> Callable[[float, float], bool]:
    verifier = snapshot.router.verifier
    return verifier.is_in_band if verifier is not None else lambda merit, threshold: False


def _local_price(snapshot: Snapshot) -> Price:
    return snapshot.prices.find(Target.LOCAL, snapshot.config.upstreams.local.model) or Price()


# --- The setting in the file ---


class Setting:
    """`routing.threshold` in the configuration file, and its changes."""

    def __init__(
        self, gateway: Gateway, audit: AuditLog, *, path: Path | None, reload: ReloadFile
    ) -> None:
        self._gateway = gateway
        self._audit = audit
        self._path = path
        self._reload = reload
        self._changing = asyncio.Lock()

    async def describe(self) -> dict[str, Any]:
        """The threshold in use, whether it can be changed, and its last change."""
        snapshot = self._gateway.snapshot
        current = self._gateway.paced_threshold(snapshot)
        value, sha256, problem = await asyncio.to_thread(self._read)
        changes = await ask(lambda: self._audit.newest(limit=1, actions=(APPLY, UNDO)))
        last = None
        if changes:
            change = changes[0]
            old, new = change.details.get("old"), change.details.get("new")
            last = {
                "at": change.created_at,
                "by": _name_of(change.actor, snapshot.config),
                "action": change.action,
                "old": old,
                "new": new,
                "can_undo": problem is None and value == new,
            }
        return {
            "threshold": current,
            "configured": snapshot.router.threshold,
            "setting": snapshot.config.routing.threshold,
            "is_paced": current < snapshot.router.threshold,
            "file": None if self._path is None else self._path.name,
            "problem": problem,
            "value": value,
            "sha256": sha256,
            "last": last,
        }

    def _read(self) -> tuple[str | None, str | None, str | None]:
        """The value in the file, the hash of the file, and why it cannot be changed. Blocks."""
        problem = why_not_writable(self._path)
        if self._path is None:
            return None, None, problem
        try:
            return *read_setting(self._path), problem
        except (NotEditable, ConfigError) as error:
            return None, None, problem or str(error)

    async def plan(self, value: str) -> Edit:
        """The edit that sets a value. Raises Conflict."""
        path = self._path
        if path is None:
            raise _not_editable(why_not_writable(path) or "")
        try:
            edit = await asyncio.to_thread(plan_edit, path, value, running=self._config)
        except NotEditable as error:
            raise _not_editable(str(error)) from None
        except ConfigError as error:
            raise _not_editable(f"The file is not valid: {error}.") from None
        if edit.before == edit.after:
            raise Conflict(f"{KEY} is {value} already.", param="threshold", code="no_change")
        return edit

    async def value_before(self) -> str:
        """The value before the last change. Raises Conflict."""
        changes = await ask(lambda: self._audit.newest(limit=1, actions=(APPLY, UNDO)))
        if not changes:
            raise Conflict("There is no change to undo.", code="nothing_to_undo")
        return str(changes[0].details.get("old") or "auto")

    async def apply(
        self, value: str, sha256: str, *, actor: str | None, action: str
    ) -> dict[str, Any]:
        """Change the file, and wait until the proxy uses it.

        Raises:
            Conflict: the file has another hash or cannot be changed, or the proxy refused it.
            Unavailable: the change could not be recorded.
        """
        # A caller that disconnects must not leave a change half done.
        return await asyncio.shield(
            asyncio.ensure_future(self._apply(value, sha256, actor=actor, action=action))
        )

    async def _apply(
        self, value: str, sha256: str, *, actor: str | None, action: str
    ) -> dict[str, Any]:
        async with self._changing:
            edit = await self.plan(value)
            if edit.sha256 != sha256:
                raise _changed()
            await _write(edit)
            problem = await self._reload()
            if problem is None and not self._uses(value):
                problem = f"another value of {KEY} is in use."
            if problem is not None:
                await self._restore(edit)
                raise Conflict(
                    f"The proxy refused the new configuration, so the old one was restored: "
                    f"{problem}",
                    code="reload_refused",
                )
            details = {
                "old": edit.old,
                "new": edit.new,
                "file": edit.path.name,
                "sha256": edit.reversed().sha256,
            }
            try:
                await ask(lambda: self._audit.add(action, KEY, actor=actor, details=details))
            except Unavailable:
                await self._restore(edit)
                raise
        return await self.describe()

    async def _restore(self, edit: Edit) -> None:
        try:
            await asyncio.to_thread(write_edit, edit.reversed())
        except FileChanged:  # by somebody else, whose version counts
            return
        except NotEditable as error:
            raise Conflict(
                f"The old configuration could not be restored: {error}", code="restore_failed"
            ) from None
        await self._reload()

    @property
    def _config(self) -> Config:
        return self._gateway.snapshot.config

    def _uses(self, value: str) -> bool:
        setting = self._config.routing.threshold
        return setting == (value if value == "auto" else float(value))


async def _write(edit: Edit) -> None:
    try:
        await asyncio.to_thread(write_edit, edit)
    except FileChanged:
        raise _changed() from None
    except NotEditable as error:
        raise _not_editable(str(error)) from None


def _described(edit: Edit) -> dict[str, Any]:
    return {
        "key": KEY,
        "file": edit.path.name,
        "old": edit.old,
        "new": edit.new,
        "diff": edit.diff,
        "sha256": edit.sha256,
    }


def _not_editable(problem: str) -> RouterError:
    return Conflict(problem, code="configuration_not_editable")


def _changed() -> RouterError:
    return Conflict(
        "The configuration file was changed since the preview. Look at the new difference first.",
        code="configuration_changed",
    )


def _name_of(actor: str | None, config: Config) -> str | None:
    """The name of the key with this hash, or the hash."""
    named: Iterable[str] = (
        item.name
        for item in config.server.api_keys
        if item.name is not None and key_hash(item.key.reveal()) == actor
    )
    return next(iter(named), actor)


# --- Requests ---


def _admit(gateway: Gateway, request: Request[Any, Any, Any]) -> str | None:
    """Refuse callers other than admins. Returns the hash of the admin's key."""
    client = gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
    return None if client is None else client.key_hash
