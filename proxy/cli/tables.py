"""The terminal tables of `hybrid-llm stats`, `calibrate`, `promote` and `learn`."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from proxy.budget import Price
from proxy.cli.options import BY_KEY, DIMENSIONS
from proxy.evaluation import (
    CalibrationReport,
    ChoiceQueries,
    QualityQueries,
    RouterComparison,
    ShadowComparison,
)
from proxy.evaluation.explain import ESTIMATES, format_ms, plain_drift, plain_estimates
from proxy.plain_text import printable
from proxy.record import HOUR_SECONDS, default_key_name
from proxy.storage import (
    KeyTotals,
    Quantiles,
    RequestQueries,
    Totals,
    failure_rate,
    local_share,
)
from router_model.drift import Drift, drift_level
from router_model.manifest import Reference

_MEASURES: Final = {
    "decision_ms": "decision",
    "overhead_ms": "proxy overhead",
    "ttft_ms": "time to first token",
    "duration_ms": "total",
}


def cell(value: object) -> Text:
    """A value for a table: neither control characters nor rich's markup have an effect."""
    return Text(printable(str(value)))


class RouterContext(NamedTuple):
    """The models and prices that the recorded requests are compared with.

    Attributes:
        reference: the prompts that the router model was fitted to.
        shadow_threshold: the threshold of the shadow router; None without one.
        local_price: the price of the local tier's model.
    """

    reference: Reference | None = None
    shadow_threshold: float | None = None
    local_price: Price = Price()

    def drift(self, requests: RequestQueries) -> Drift | None:
        return requests.drift(self.reference) if self.reference is not None else None

    def compared(self, quality: QualityQueries, since: float) -> ShadowComparison | None:
        """The decisions of the live and the shadow router; None if the latter scored no request."""
        threshold = self.shadow_threshold
        if threshold is None:
            return None
        comparison = quality.shadow_comparison(
            since, threshold=threshold, local_price=self.local_price
        )
        return comparison if comparison.requests else None


_NO_CONTEXT: Final = RouterContext()


def stats_report(
    requests: RequestQueries,
    dimensions: Sequence[str],
    since: float,
    *,
    context: RouterContext = _NO_CONTEXT,
    names: Callable[[str], str] = default_key_name,
) -> dict[str, Any]:
    """The content of `stats_tables` as plain values.

    Args:
        names: the name of an API key, by its hash.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    quality = QualityQueries.sharing(requests)
    drift, compared = context.drift(requests), context.compared(quality, since)
    total, groups = _grouped(requests, dimensions, since, names)
    return {
        "since": since,
        "total": total._asdict(),
        "by": {
            name: [{"value": value, **sums._asdict()} for value, sums in groups[name]]
            for name in dimensions
        },
        "latency": [row._asdict() for row in requests.quantiles(since)],
        "drift": None if drift is None else plain_drift(drift),
        "candidate": None if compared is None else compared._asdict(),  # the old name
        "shadow_router": None if compared is None else compared._asdict(),
        "quality": plain_estimates(quality.quality(since)),
        "choices": _choices(quality, since),
    }


def stats_tables(
    requests: RequestQueries,
    dimensions: Sequence[str],
    since: float,
    *,
    context: RouterContext = _NO_CONTEXT,
    names: Callable[[str], str] = default_key_name,
) -> RenderableType:
    """The tables. Takes and raises the same as `stats_report`."""
    quality = QualityQueries.sharing(requests)
    total, groups = _grouped(requests, dimensions, since, names)
    if not total.requests:
        return "No requests are recorded" + (f" since {_when(since)}." if since else " yet.")
    tables: list[RenderableType] = [
        _sums_table(name, groups[name], total)
        if groups[name]
        else f"by {name}: no request has a {name}"
        for name in dimensions
    ]
    tables.append(_latencies(requests.quantiles(since)))
    tables.append(_quality_table(plain_estimates(quality.quality(since))))
    if (choices := _choices(quality, since))["all"]["comparisons"]:
        tables.append(_choices_table(choices))
    if (drift := context.drift(requests)) is not None:
        tables.append(_drift_table(drift))
    if (compared := context.compared(quality, since)) is not None:
        tables.append(_shadow_table(compared))
    return Group(_headline(total, since), *tables)


def _grouped(
    requests: RequestQueries,
    dimensions: Sequence[str],
    since: float,
    names: Callable[[str], str],
) -> tuple[Totals, dict[str, list[tuple[str, Totals | KeyTotals]]]]:
    """The totals, and the groups of each dimension with their values."""
    columns = {name: DIMENSIONS[name] for name in dimensions if name != BY_KEY}
    total, found = requests.totals_by_each(list(columns.values()), since)
    groups: dict[str, list[tuple[str, Totals | KeyTotals]]] = {
        name: [(group.value, group.sums) for group in found[column]]
        for name, column in columns.items()
    }
    if BY_KEY in dimensions:
        by_key = requests.totals_by_key(since).items()
        ordered = sorted(by_key, key=lambda item: (-item[1].cost_usd, -item[1].requests, item[0]))
        groups[BY_KEY] = [(names(key), sums) for key, sums in ordered]
    return total, groups


def calibration_table(report: CalibrationReport) -> Table:
    at, held_out = report.operating_point, report.held_out_point
    area, low, high = report.auroc_local
    rows = {
        "local answer good": f"{report.local_ok_share:.0%}",
        "cloud answer strictly better": f"{report.cloud_better_share:.0%}",
        "AUROC of p_local": f"{area:.3f} [{low:.3f}, {high:.3f}]",
        "log loss of the score": _change(report.log_loss_before, report.log_loss_after),
        "calibration error (ECE)": _change(report.ece_before, report.ece_after),
        "threshold": f"{report.threshold:.4f}, before {report.threshold_before:.4f}",
        "reason": report.threshold_why,
        "routed to local": f"{at.local_share:.0%}",
        "cost, share of all-cloud": _share_of(at.cost_share, at.cost_interval),
        "quality gap recovered": _share_of(at.quality_share, at.quality_interval),
        "certain": _certainty(report),
        "second look": _second_look(report),
    }
    if held_out is not None:
        rows[f"on {report.held_out} held-out requests"] = (
            f"{_share_of(held_out.cost_share, held_out.cost_interval)} of the all-cloud cost, "
            f"{_share_of(held_out.quality_share, held_out.quality_interval)} of the quality gap"
        )
    table = Table(
        title=f"{report.fitted} of {report.requests} judged requests, {report.ratings} ratings, "
        f"{report.choices} choices of users · "
        f"{_title(report.local_model)} and {_title(report.cloud_model)} · "
        "\\[low, high]: 95 %, bootstrap",
        title_justify="left",
        show_header=False,
        box=None,
    )
    for name, shown in rows.items():
        table.add_row(name, cell(shown))
    return table


def _title(text: str) -> str:
    return escape(printable(text))


def _certainty(report: CalibrationReport) -> str:
    if report.is_settled:
        return f"yes: the whole interval meets {report.aim}"
    alternative = "no threshold meets it"
    if report.sure_threshold is not None:
        alternative = f"threshold {report.sure_threshold:.4f} does"
    return f"no: part of the interval misses {report.aim}; {alternative}"


def _second_look(report: CalibrationReport) -> str:
    if report.band is None:
        return (
            f"none: {report.evidence} of the fitted requests have evidence about the local answer, "
            f"{report.evidence_missing} more are needed"
        )
    low, high = report.band
    return f"merits from {low:.4f} to {high:.4f}, fitted to {report.evidence} requests"


def promotion_table(comparison: RouterComparison) -> Table:
    table = Table(
        title=f"{comparison.held_out} held-out of {comparison.judged} judged requests, "
        f"{comparison.conversations} conversations · decided by {comparison.measure} · "
        "95 %, bootstrap",
        title_justify="left",
        box=None,
    )
    for name in ("", "version", "APGR", "log loss", "threshold", "cost share", "gap recovered"):
        table.add_column(name)
    for name, router in (("current", comparison.current), ("candidate", comparison.candidate)):
        at = router.at_threshold
        table.add_row(
            name,
            cell(router.version),
            f"{router.apgr:.4f}",
            f"{router.log_loss:.4f}",
            f"{at.threshold:.4f}",
            _share_of(at.cost_share, at.cost_interval),
            _share_of(at.quality_share, at.quality_interval),
        )
    return table


def learning_table(state: Mapping[str, Any]) -> RenderableType:
    """The state of `learning.read_state`."""
    about = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    about.add_row("learning.auto", cell(state["auto"]))
    about.add_row("models", cell(" and ".join(filter(None, state["models"].values()))))
    about.add_row("router in use", cell(state["version"] or "none"))
    for part in state["parts"]:
        shown = part["models"] or "none"
        if part["models"] and not part["is_calibrated"]:
            shown += ": not the configured models"
        about.add_row(part["name"], cell(shown))
    collected = f"{state['new_pairs']} of {state['pairs_needed']} new judged pairs"
    about.add_row("next fit", collected + (", running now" if state["is_running"] else ""))
    about.add_row("to go back", cell(state["rollback"] or "nothing is activated"))
    steps = Table(title="\nlast steps", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("step", "time", "kind", "decision", "difference", "result"):
        steps.add_column(name)
    for step in state["steps"]:
        difference = ""
        if step["difference"] is not None:
            difference = f"{step['difference']:+.3f} [{step['low']:+.3f}, {step['high']:+.3f}]"
        steps.add_row(
            str(step["id"]),
            _when(step["created_at"]),
            step["kind"],
            step["decision"] or step["state"],
            difference,
            cell(step["why"] or ""),
        )
    return Group(about, steps) if state["steps"] else about


def _change(before: float, after: float) -> str:
    return f"{after:.4f} (cross-validated), before {before:.4f}"


def _share_of(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.0%} [{interval[0]:.0%}, {interval[1]:.0%}]"


def _headline(total: Totals, since: float) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    share = total.saved_usd / total.cloud_cost_usd if total.cloud_cost_usd else 0.0
    rows = {
        "requests": f"{total.requests:,}" + (f" since {_when(since)}" if since else ""),
        "answered": f"{total.answered:,}{_of(local_share(total), 'by the local tier')}",
        "failed": f"{total.failed:,}{_of(failure_rate(total), 'of those answered or failed')}",
        "refused": f"{total.refused:,}",
        "cancelled": f"{total.cancelled:,}",
        "spent": _usd(total.cost_usd),
        "saved": f"{_usd(total.saved_usd)}, {share:.0%} of the all-cloud cost",
        "tokens": f"{total.input_tokens:,} in ({total.cached_input_tokens:,} cached), "
        f"{total.output_tokens:,} out",
    }
    if total.estimated:
        rows["estimated"] = f"tokens of {total.estimated:,} requests (the upstream reported none)"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _of(share: float | None, of: str) -> str:
    return "" if share is None else f", {share:.1%} {of}"


def _sums_table(
    name: str, groups: Iterable[tuple[str, Totals | KeyTotals]], total: Totals
) -> Table:
    table = _table(
        f"by {name}", name, "requests", "share", "local", "failed", "refused", "spent", "saved"
    )
    for value, sums in groups:
        table.add_row(
            cell(value),
            f"{sums.requests:,}",
            _percent(sums.requests, total.requests),
            _percent(sums.answered_locally, sums.answered),
            f"{sums.failed:,}" if sums.failed else "",
            f"{sums.refused:,}" if sums.refused else "",
            _usd(sums.cost_usd),
            _usd(sums.saved_usd),
        )
    return table


def _latencies(quantiles: Sequence[Quantiles]) -> Table:
    table = _table("latency in ms", "phase", "tier", "requests", "p50", "p95", "p99")
    for measure, name in _MEASURES.items():
        for row in quantiles:
            if row.measure == measure:
                table.add_row(
                    name,
                    cell(row.target),
                    f"{row.requests:,}",
                    *(format_ms(row.ms[p]) for p in ("p50", "p95", "p99")),
                )
    return table


def _drift_table(drift: Drift) -> Table:
    table = _table(
        f"drift of the last {drift.requests:,} scored requests",
        "distribution", "index", "drift", "largest changes",
    )  # fmt: skip
    moved = ", ".join(f"{name} {before:.0%} → {now:.0%}" for name, before, now in drift.moved)
    table.add_row("score", f"{drift.score:.2f}", drift_level(drift.score), "")
    table.add_row("category", f"{drift.category:.2f}", drift_level(drift.category), cell(moved))
    return table


def _shadow_table(comparison: ShadowComparison) -> Table:
    requests = comparison.requests
    table = _table(
        f"shadow router: agrees on {_percent(comparison.agreed, requests)} of {requests:,}",
        "router", "sent to cloud", "cost", "share of all-cloud",
    )  # fmt: skip
    for name, cloud, usd in (
        ("live", comparison.live_cloud, comparison.live_usd),
        ("shadow", comparison.candidate_cloud, comparison.candidate_usd),
    ):
        share = _percent(usd, comparison.all_cloud_usd)
        table.add_row(name, _percent(cloud, requests), _usd(usd), share)
    return table


def _quality_table(plain_estimates: dict[str, dict[str, Any]]) -> Table:
    table = _table("quality of routed requests", "estimate of", "value", "95 % interval", "n")
    for name, estimate in plain_estimates.items():
        cells = [estimate["missing"], ""]
        if estimate["missing"] is None:
            form = ".2f" if name.endswith("_score") else ".1%"
            cells = [
                f"{estimate['value']:{form}}",
                f"{estimate['low']:{form}} to {estimate['high']:{form}}",
            ]
        table.add_row(ESTIMATES[name][0], *cells, f"{estimate['requests']:,}")
    return table


def _choices(quality: QualityQueries, since: float) -> dict[str, Any]:
    """The choices of users between two answers, and how many of them calibration may use."""
    queries = ChoiceQueries.sharing(quality)
    return {**queries.score(since), "usable": queries.count_usable(since)}


def _choices_table(choices: dict[str, Any]) -> Table:
    title = f"choices of users, {choices['usable']:,} of them for calibration"
    table = _table(title, "tiers", "local good enough", "95 % interval", "n")
    for name, label in (("blind", "hidden"), ("open", "shown")):
        count = choices[name]
        if count["comparisons"]:
            interval = f"{count['low']:.1%} to {count['high']:.1%}"
            table.add_row(label, f"{count['share']:.1%}", interval, f"{count['comparisons']:,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        is_text = index == 0 or name == "tier"
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text)
    return table


def _usd(usd: float) -> str:
    """Dollars with two, four or six decimals: fewer for larger amounts."""
    digits = 2 if abs(usd) >= 1 or not usd else 4 if abs(usd) >= 0.01 else 6
    return f"${usd:,.{digits}f}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _when(since: float) -> str:
    """The start of a period: the sums begin at its full hour."""
    hour = since // HOUR_SECONDS * HOUR_SECONDS
    return dt.datetime.fromtimestamp(hour, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
