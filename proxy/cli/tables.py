"""What the rows say, for people on a terminal: tables of `hybrid-llm stats` and `explain`."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table

from proxy.budget.pricing import Price
from proxy.evaluation.estimates import MIN_ANSWERS, MIN_PAIRS, Counted, Quality
from proxy.storage.queries import Compared, Dimension, Quantiles, Stats, Sums
from proxy.storage.queries import Group as Alike
from router_model.drift import Drift, reading
from router_model.manifest import Reference

# As people say them: what is a target in rows is a tier to them.
DIMENSIONS: Final[dict[str, Dimension]] = {
    "tier": "target",
    "reason": "reason",
    "category": "category",
    "model": "model",
    "ending": "ending",
    "endpoint": "endpoint",
    "day": "day",
}
USUAL: Final = ("tier", "reason", "category", "model", "day")
_MEASURES: Final = {
    "decision_ms": "decision",
    "overhead_ms": "in the proxy",
    "ttft_ms": "first token",
    "duration_ms": "whole request",
}
# By name: in words, what of `Quality.counted` it rests on, and how much of that it takes.
_ESTIMATES: Final = {
    "recovered": ("share of the gap between the tiers recovered", "pairs", MIN_PAIRS),
    "saved": ("saved at equal quality, of an all-cloud bill", "priced", MIN_PAIRS),
    "good_local": ("share of local answers that are good", "local", MIN_ANSWERS),
    "local_as_good": ("share of pairs with the local answer as good", "compared", MIN_PAIRS),
    "local_score": ("mean score of local answers", "local", MIN_ANSWERS),
    "cloud_score": ("mean score of cloud answers", "cloud", MIN_ANSWERS),
}


class Routers(NamedTuple):
    """What requests are held against.

    Attributes:
        reference: what the router model was fitted to.
        candidate_threshold: None without a candidate.
        local_price: of the local tier's own model.
    """

    reference: Reference | None = None
    candidate_threshold: float | None = None
    local_price: Price = Price()

    def drift(self, stats: Stats) -> Drift | None:
        return stats.drift(self.reference) if self.reference is not None else None

    def compared(self, stats: Stats, since: float) -> Compared | None:
        """What the candidate would have done, where it has scored anything."""
        threshold = self.candidate_threshold
        if threshold is None:
            return None
        found = stats.compared(since, threshold=threshold, local_price=self.local_price)
        return found if found.requests else None


_NO_ROUTERS: Final = Routers()


def report(
    stats: Stats, dimensions: Sequence[str], since: float, *, routers: Routers = _NO_ROUTERS
) -> dict[str, Any]:
    """Everything that `show` shows, as plain values.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    drift, compared = routers.drift(stats), routers.compared(stats, since)
    total, groups = stats.by_each([DIMENSIONS[name] for name in dimensions], since)
    return {
        "since": since,
        "total": total._asdict(),
        "by": {
            name: [{"value": value, **sums._asdict()} for value, sums in groups[DIMENSIONS[name]]]
            for name in dimensions
        },
        "latency": [one._asdict() for one in stats.quantiles(since)],
        "drift": None if drift is None else plain_drift(drift),
        "candidate": None if compared is None else compared._asdict(),
        "quality": estimates(stats.quality(since)),
    }


def plain_drift(drift: Drift) -> dict[str, Any]:
    """A drift with how its indices read."""
    plain = drift._asdict() | {"moved": [move._asdict() for move in drift.moved]}
    return plain | {f"{of}_reading": reading(getattr(drift, of)) for of in ("score", "category")}


def show(
    stats: Stats, dimensions: Sequence[str], since: float, *, routers: Routers = _NO_ROUTERS
) -> RenderableType:
    """The tables. Raises as `report` does."""
    total, groups = stats.by_each([DIMENSIONS[name] for name in dimensions], since)
    if not total.requests:
        return "No requests are recorded" + (f" since {_when(since)}." if since else " yet.")
    tables = [_sums_table(name, groups[DIMENSIONS[name]], total) for name in dimensions]
    tables.append(_latencies(stats.quantiles(since)))
    tables.append(_quality_table(estimates(stats.quality(since))))
    if (drift := routers.drift(stats)) is not None:
        tables.append(_drift_table(drift))
    if (compared := routers.compared(stats, since)) is not None:
        tables.append(_candidate_table(compared))
    return Group(_headline(total, since), *tables)


def _headline(total: Sums, since: float) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    share = total.saved_usd / total.cloud_cost_usd if total.cloud_cost_usd else 0.0
    rows = {
        "requests": f"{total.requests:,}" + (f" since {_when(since)}" if since else ""),
        "failed": f"{total.failed:,} ({_percent(total.failed, total.requests)})",
        "spent": _usd(total.cost_usd),
        "saved": f"{_usd(total.saved_usd)}, {share:.0%} of what all of it would have cost in the "
        "cloud",
        "tokens": f"{total.input_tokens:,} in ({total.cached_input_tokens:,} cached), "
        f"{total.output_tokens:,} out",
    }
    if total.estimated:
        rows["estimated"] = f"the tokens of {total.estimated:,} requests, which nobody reported"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _sums_table(name: str, groups: Iterable[Alike], total: Sums) -> Table:
    table = _table(f"by {name}", name, "requests", "share", "failed", "spent", "saved")
    for value, sums in groups:
        table.add_row(
            value,
            f"{sums.requests:,}",
            _percent(sums.requests, total.requests),
            f"{sums.failed:,}" if sums.failed else "",
            _usd(sums.cost_usd),
            _usd(sums.saved_usd),
        )
    return table


def _latencies(quantiles: Sequence[Quantiles]) -> Table:
    table = _table("how long it took, in ms", "what", "tier", "requests", "p50", "p95", "p99")
    for measure, name in _MEASURES.items():
        for one in quantiles:
            if one.measure == measure:
                table.add_row(
                    name,
                    one.target,
                    f"{one.requests:,}",
                    *(_ms(one.ms[p]) for p in ("p50", "p95", "p99")),
                )
    return table


def _drift_table(drift: Drift) -> Table:
    table = _table(
        f"drift of the last {drift.requests:,} scored requests",
        "of", "index", "change", "moved most",
    )  # fmt: skip
    moved = ", ".join(f"{name} {before:.0%} → {now:.0%}" for name, before, now in drift.moved)
    table.add_row("score", f"{drift.score:.2f}", reading(drift.score), "")
    table.add_row("category", f"{drift.category:.2f}", reading(drift.category), moved)
    return table


def _candidate_table(found: Compared) -> Table:
    table = _table(
        f"candidate: agrees on {_percent(found.agreed, found.requests)} of {found.requests:,}",
        "router", "to the cloud", "would cost", "of all cloud",
    )  # fmt: skip
    for name, cloud, usd in (
        ("live", found.live_cloud, found.live_usd),
        ("candidate", found.candidate_cloud, found.candidate_usd),
    ):
        share = _percent(usd, found.all_cloud_usd)
        table.add_row(name, _percent(cloud, found.requests), _usd(usd), share)
    return table


def estimates(quality: Quality) -> dict[str, dict[str, Any]]:
    """What is known of the answers' quality, by name, or why it is not: `missing`."""
    known = {
        "recovered": quality.recovered,
        "saved": quality.saved,
        "good_local": quality.good_local,
        "local_as_good": quality.local_as_good,
        **{f"{tier}_score": found for tier, found in quality.mean_scores.items()},
    }
    told = {}
    for name, (_, basis, least) in _ESTIMATES.items():
        value, low, high = known.get(name) or (None, None, None)
        counted, missing = quality.counted.get(basis, Counted()), None
        if shortage := counted.shortage(least):
            missing = f"not enough data ({shortage})"
        elif value is None:
            missing = "no gap between the tiers to be seen"
        told[name] = {
            "value": value, "low": low, "high": high, "requests": counted.requests,
            "missing": missing,
        }  # fmt: skip
    return told


def _quality_table(estimates: dict[str, dict[str, Any]]) -> Table:
    table = _table("quality of routed requests", "what", "estimate", "95 % interval", "n")
    for name, one in estimates.items():
        cells = [one["missing"], ""]
        if one["missing"] is None:
            form = ".2f" if name.endswith("_score") else ".1%"
            cells = [f"{one['value']:{form}}", f"{one['low']:{form}} to {one['high']:{form}}"]
        table.add_row(_ESTIMATES[name][0], *cells, f"{one['requests']:,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for place, name in enumerate(columns):
        is_text = place == 0 or name == "tier"
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    return table


def _usd(usd: float) -> str:
    """To the cent where that is enough to see anything."""
    digits = 2 if abs(usd) >= 1 or not usd else 4 if abs(usd) >= 0.01 else 6
    return f"${usd:,.{digits}f}"


def _ms(value: float) -> str:
    """Three digits, and whole milliseconds however many there are."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _when(since: float) -> str:
    return dt.datetime.fromtimestamp(since, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def explain(row: dict[str, Any]) -> str:
    """Why one request went where it went, and what became of it, in sentences."""
    at = dt.datetime.fromtimestamp(row["created_at"], dt.UTC)
    lines = [
        f"{row['id']}: {row['endpoint']}, {at:%Y-%m-%d %H:%M:%S} UTC, asked for "
        f"{row['requested_model'] or 'no model'}{', as a stream' if row['streamed'] else ''}."
    ]
    if row["target"] is None:
        lines.append("It reached no tier.")
    else:
        lines.append(f"It went to {row['model']} ({row['target']}): {_why(row)}.")
    if row["fallback_from"]:
        lines.append(f"The {row['fallback_from']} tier had failed before: {row['fallback_why']}.")
    timing = [
        f"{name} {_ms(row[key])} ms"
        for key, name in (
            ("decision_ms", "decision"),
            ("ttft_ms", "first token"),
            ("upstream_ms", "upstream"),
            ("duration_ms", "whole request"),
        )
        if row[key] is not None
    ]
    lines.append(f"It took: {', '.join(timing)}.")
    if row["input_tokens"] is not None:
        estimated = " (estimated)" if row["usage_source"] == "estimated" else ""
        lines.append(
            f"Tokens{estimated}: {row['input_tokens']:,} in, of them "
            f"{row['cached_input_tokens'] or 0:,} cached; {row['output_tokens'] or 0:,} out."
        )
    if row["cost_usd"] is not None:
        saved = "" if row["saved_usd"] is None else f", and saved ${row['saved_usd']:.9f}"
        lines.append(f"It cost ${row['cost_usd']:.9f}{saved}.")
    code = f" ({row['error_code']})" if row["error_code"] else ""
    told = f": {row['error']}" if row["error"] else ""
    lines.append(f"It ended: {row['ending']}{code}, status {row['status'] or 'none'}{told}")
    lines += [
        f"{one['judge_model']} gave the {one['target']} answer {one['score']:g} of 10."
        for one in row["judgements"]
    ]
    if row["feedback"] is not None:
        lines.append(f"The client rated it {row['feedback']['rating']:+g}.")
    return "\n".join(lines)


_REASONS: Final = {
    "forced": "the client named it",
    "context": "the prompt and its answer do not fit the local model's context",
    "capability": "the local model cannot do what the request asks for",
    "unhealthy": "the other tier was down",
    "overload": "the wait for the local tier was too long",
    "budget": "the dollars for the cloud were spent, or saved for later",
    "sticky": "its conversation was there",
    "router_unavailable": "there was no score: the router model was missing, broken or late",
    "fallback": "the other tier failed before its first word",
}


def _why(row: dict[str, Any]) -> str:
    told = ""
    if row["score"] is not None and row["threshold"] is not None:
        is_above = row["score"] >= row["threshold"]
        told = (
            f"its score {row['score']:.4f} is {'not below' if is_above else 'below'} the threshold "
            f"{row['threshold']:.4f}"
        )
    if row["reason"] == "score":
        return told or "by its score"
    why = _REASONS.get(row["reason"], str(row["reason"]))
    return f"{why} (by itself, {told})" if told else why
