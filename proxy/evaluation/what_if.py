"""What other settings would have done with recent requests: a threshold, rules, a second look.

Nothing is scored again. A preview compares stored merits and prompts with the settings, and counts
the requests that cannot be decided from what is stored. It knows no conversations: a request that
moves may take later requests of its conversation with it.
"""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from proxy.budget import BilledTokens, Price, TokenCounter
from proxy.config import Config
from proxy.record import PICODOLLARS, Reason, Target
from proxy.routing import Rule, RuleInput
from proxy.storage import RoutedRequest, ScoredRequest

# What conditions read that no row has.
_NOT_STORED: Final = ("header", "metadata", "needs")

InBand = Callable[[float, float], bool]  # of a merit, at a threshold


class Move(NamedTuple):
    """A request that another tier would have answered.

    Attributes:
        usd: the change of its cost.
        rule: the name of the rule that moves it.
    """

    request: ScoredRequest | RoutedRequest
    before: Target
    after: Target
    usd: float
    rule: str | None = None


class ThresholdPreview(NamedTuple):
    """The requests by score, at the threshold in use and at another one.

    Attributes:
        usd, new_usd: the cost of all these requests.
        local, new_local: the requests that stay local.
    """

    requests: int
    moves: list[Move]
    local: int
    new_local: int
    usd: float
    new_usd: float


class RulePreview(NamedTuple):
    """Recent requests under other rules.

    Attributes:
        evaluated: the requests whose tier under these rules is known.
        matched: the requests of each rule, by its name.
        unknown: the requests whose tier is not known, by the cause.
        is_complete: false if the time was up before all requests were read.
    """

    evaluated: int
    moves: list[Move]
    matched: dict[str, int]
    unknown: dict[str, int]
    is_complete: bool


class SecondLookPreview(NamedTuple):
    """The requests by score in the band of a second look.

    Attributes:
        streamed: those that are streamed; without `verify.streams: hold` they get no second look.
        from_cloud: those that go to the cloud without it: the local model answers them first.
        each_ms: the typical time of one, measured as `basis` says; None without data.
        local_ms: the time of all, on the local tier.
    """

    requests: int
    of: int
    streamed: int
    from_cloud: int
    each_ms: float | None
    local_ms: float | None
    basis: Literal["second_looks", "local_answers"] | None


def compare_thresholds(
    rows: Sequence[ScoredRequest],
    *,
    current: float,
    other: float,
    in_band: InBand,
    local_price: Price,
) -> ThresholdPreview:
    """The effect of another threshold.

    Args:
        current: the threshold in use, lowered by budget pacing.
        other: the other one, likewise.
        in_band: whether a second look decides.
        local_price: of answers that the cloud gave.
    """
    moves = []
    local = new_local = 0
    usd = new_usd = 0.0
    for row in rows:
        before, after = (_target(row, threshold, in_band) for threshold in (current, other))
        costs = _costs(row, local_price)
        local += before is Target.LOCAL
        new_local += after is Target.LOCAL
        usd += costs[before]
        new_usd += costs[after]
        if before is not after:
            moves.append(Move(row, before, after, costs[after] - costs[before]))
    return ThresholdPreview(len(rows), moves, local, new_local, usd, new_usd)


def undecidable_rules(config: Config) -> tuple[Config, frozenset[str]]:
    """The configuration without the conditions that read what is not stored, and the rules that
    had such conditions. Where the rest of such a rule holds, it is open whether it matches.
    """
    rules, open_rules = [], set()
    for rule in config.routing.rules:
        known = msgspec.structs.replace(rule.when, **dict.fromkeys(_NOT_STORED))
        if known != rule.when:
            open_rules.add(rule.name)
        rules.append(msgspec.structs.replace(rule, when=known))
    routing = msgspec.structs.replace(config.routing, rules=tuple(rules))
    return msgspec.structs.replace(config, routing=routing), frozenset(open_rules)


def preview_rules(
    rows: Iterable[RoutedRequest],
    find: Callable[[RuleInput], Rule | None],
    *,
    open_rules: frozenset[str],
    threshold: float,
    local_price: Price,
    tokens: TokenCounter,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> RulePreview:
    """The effect of other rules. Blocks: call it in a thread.

    Args:
        find: the first rule that matches; conditions that read what is not stored are left out.
        open_rules: the rules that had such conditions.
        threshold: for requests without a rule.
        seconds: how long it may take.
    """
    deadline = clock() + seconds
    moves, is_complete, evaluated = [], True, 0
    matched: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    for row in rows:
        if clock() > deadline:
            is_complete = False
            break
        if row.turns is None:
            unknown["no_prompt"] += 1
            continue
        rule = find(
            RuleInput(
                row.turns,
                key_hash=row.client_key_hash,
                tokens=tokens,
                counted_tokens=row.input_tokens,
            )
        )
        if rule is not None and rule.name in open_rules:
            unknown["not_stored"] += 1
            continue
        after = _target_by_rule(row, rule, threshold)
        if after is None:
            unknown["not_scored"] += 1
            continue
        evaluated += 1
        if rule is not None:
            matched[rule.name] += 1
        before = Target(row.target)
        if before is not after:
            costs = _costs(row, local_price)
            name = None if rule is None else rule.name
            moves.append(Move(row, before, after, costs[after] - costs[before], name))
    return RulePreview(evaluated, moves, dict(matched), dict(unknown), is_complete)


def preview_second_look(
    rows: Sequence[ScoredRequest], *, threshold: float, in_band: InBand
) -> SecondLookPreview:
    """The requests that a band would give a second look, and the local time that they take."""
    found = [row for row in rows if in_band(row.merit, threshold)]
    looks = [row.second_look_ms for row in rows if row.second_look_ms is not None]
    answers = [
        row.upstream_ms for row in rows if row.target == "local" and row.upstream_ms is not None
    ]
    basis: Literal["second_looks", "local_answers"] | None = None
    each = None
    if looks or answers:
        basis = "second_looks" if looks else "local_answers"
        each = statistics.median(looks or answers)
    return SecondLookPreview(
        len(found),
        len(rows),
        sum(row.streamed for row in found),
        sum(row.merit < threshold for row in found),
        each,
        None if each is None else each * len(found),
        basis,
    )


def _target(row: ScoredRequest, threshold: float, in_band: InBand) -> Target:
    """The tier of a request at a threshold. What a second look found counts where it decides."""
    merit = row.merit
    if row.verified_merit is not None and in_band(merit, threshold):
        merit = row.verified_merit
    return Target.LOCAL if merit >= threshold else Target.CLOUD


def _target_by_rule(row: RoutedRequest, rule: Rule | None, threshold: float) -> Target | None:
    """The tier of a request under a rule; None if it depends on a score that it has not."""
    if rule is not None and rule.target is not None:
        return rule.target
    if rule is None and row.rule is None:
        return Target(row.target)  # nothing changes
    # The rule sets a threshold, or the rule that had matched is gone.
    if row.reason in (Reason.STICKY, Reason.OUT_OF_DOMAIN, Reason.HOUSEKEEPING):
        return Target(row.target)
    if row.merit is None:
        return None
    limit = threshold if rule is None or rule.threshold is None else rule.threshold
    return Target.LOCAL if row.merit >= limit else Target.CLOUD


def _costs(row: ScoredRequest | RoutedRequest, local_price: Price) -> dict[Target, float]:
    """The cost of a request at each tier."""
    if row.target == "local":
        local = row.cost_usd or 0.0
    else:
        billed = BilledTokens(row.input_tokens or 0, row.output_tokens or 0)
        local = local_price.cost(billed) / PICODOLLARS
    return {Target.LOCAL: local, Target.CLOUD: row.cloud_cost_usd or 0.0}
