"""Previews of other settings on recent requests: a threshold, rules, a band of the second look."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from proxy.budget import Price, TokenCounter
from proxy.config import Config, ConfigError, with_sections
from proxy.errors import InvalidRequest
from proxy.evaluation import (
    Move,
    QualityQueries,
    compare_thresholds,
    preview_rules,
    preview_second_look,
    undecidable_rules,
)
from proxy.gateway import Gateway, Snapshot
from proxy.record import Target
from proxy.routing import Rules
from proxy.storage import RecentRequests
from proxy.web.blocking import ask

MAX_MOVES: Final = 20  # that a preview lists
RULES_SECONDS: Final = 2.0  # that a preview of rules may read prompts

Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PreviewRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The settings to preview: some of these.

    Attributes:
        yaml: rules and band as a text, in place of `rules` and `verify`.
    """

    threshold: Unit | None = None
    rules: list[Any] | None = None
    verify: dict[str, Any] | None = None
    yaml: str | None = None


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
                "local": found.local,
                "new_local": found.new_local,
                "usd": found.usd,
                "new_usd": found.new_usd,
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

    async def settings(self, asked: PreviewRequest) -> dict[str, Any]:
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


def _read_sections(config: Config, asked: PreviewRequest) -> tuple[Config, frozenset[str]]:
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
