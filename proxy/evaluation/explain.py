"""Explanations of single requests, and quality and drift estimates as plain values.

The command line and the JSON API share them.
"""

import datetime as dt
from typing import Any, Final

from proxy.evaluation.estimates import MIN_ANSWERS, MIN_PAIRS, Quality, SampleSize
from proxy.plain_text import printable
from router_model.answer_checks import Check
from router_model.drift import Drift, drift_level

# By name: title, key in `Quality.counted`, and minimum sample size.
ESTIMATES: Final = {
    "recovered": ("share of the quality gap recovered", "pairs", MIN_PAIRS),
    "saved": ("saved at equal quality, of an all-cloud bill", "priced", MIN_PAIRS),
    "good_local": ("share of local answers that are good", "local", MIN_ANSWERS),
    "local_as_good": ("share of pairs with the local answer as good", "compared", MIN_PAIRS),
    "local_score": ("mean score of local answers", "local", MIN_ANSWERS),
    "cloud_score": ("mean score of cloud answers", "cloud", MIN_ANSWERS),
}


def plain_drift(drift: Drift) -> dict[str, Any]:
    """The drift with a reading of each index."""
    plain = drift._asdict() | {"moved": [move._asdict() for move in drift.moved]}
    return plain | {
        f"{of}_reading": drift_level(getattr(drift, of)) for of in ("score", "category")
    }


def plain_estimates(quality: Quality) -> dict[str, dict[str, Any]]:
    """The quality estimates by name. `missing` says why an estimate has no value."""
    known = {
        "recovered": quality.recovered,
        "saved": quality.saved,
        "good_local": quality.good_local,
        "local_as_good": quality.local_as_good,
        **{f"{tier}_score": score for tier, score in quality.mean_scores.items()},
    }
    estimates = {}
    for name, (_, basis, least) in ESTIMATES.items():
        value, low, high = known.get(name) or (None, None, None)
        counted, missing = quality.counted.get(basis, SampleSize()), None
        if shortage := counted.shortage(least):
            missing = f"not enough data ({shortage})"
        elif value is None:
            missing = "no clear gap between the tiers"
        estimates[name] = {
            "value": value, "low": low, "high": high, "requests": counted.requests,
            "missing": missing,
        }  # fmt: skip
    return estimates


def format_ms(value: float) -> str:
    """At least three digits, without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def explain(row: dict[str, Any]) -> str:
    """The routing decision and the outcome of one request, in sentences."""
    row = {
        name: printable(value) if isinstance(value, str) else value for name, value in row.items()
    }
    at = dt.datetime.fromtimestamp(row["created_at"], dt.UTC)
    lines = [
        f"{row['id']}: {row['endpoint']}, {at:%Y-%m-%d %H:%M:%S} UTC, model "
        f"{row['requested_model'] or 'not given'}{', streamed' if row['streamed'] else ''}."
    ]
    if row["target"] is None:
        lines.append("It reached no tier.")
    else:
        lines.append(f"It went to {row['model']} ({row['target']}): {_why(row)}.")
    if row["rule"]:
        lines.append(f"The rule '{row['rule']}' matched.")
    if row["failed_check"]:
        lines.append(_failed_check(row))
    elif row["fallback_from"]:
        lines.append(f"The {row['fallback_from']} tier failed first: {row['fallback_why']}.")
    timing = [
        f"{name} {format_ms(row[key])} ms"
        for key, name in (
            ("decision_ms", "decision"),
            ("ttft_ms", "time to first token"),
            ("upstream_ms", "upstream"),
            ("duration_ms", "total"),
        )
        if row[key] is not None
    ]
    lines.append(f"Latency: {', '.join(timing)}.")
    if row["input_tokens"] is not None:
        estimated = " (estimated)" if row["usage_source"] == "estimated" else ""
        lines.append(
            f"Tokens{estimated}: {row['input_tokens']:,} in "
            f"({row['cached_input_tokens'] or 0:,} cached), {row['output_tokens'] or 0:,} out."
        )
    if row["cost_usd"] is not None:
        saved = "" if row["saved_usd"] is None else f", and saved ${row['saved_usd']:.9f}"
        lines.append(f"It cost ${row['cost_usd']:.9f}{saved}.")
    code = f" ({row['error_code']})" if row["error_code"] else ""
    error = f": {row['error']}" if row["error"] else ""
    lines.append(f"It ended: {row['ending']}{code}, status {row['status'] or 'none'}{error}")
    lines += [
        f"{printable(item['judge_model'])} gave the {item['target']} answer "
        f"{item['score']:g} of 10."
        for item in row["judgements"]
    ]
    if row["feedback"] is not None:
        lines.append(f"The client rated it {row['feedback']['rating']:+g}.")
    return "\n".join(lines)


_REASONS: Final = {
    "forced": "the client selected it",
    "context": "prompt and answer do not fit into the local model's context",
    "capability": "the local model does not support a feature of the request",
    "unhealthy": "the other tier was down",
    "overload": "the wait for the local tier was too long",
    "budget": "the cloud budget was spent or is being paced",
    "sticky": "session affinity: its conversation was there",
    "router_unavailable": "there was no score: the router model was missing, failed or timed out",
    "fallback": "the other tier failed before the first token",
    "out_of_domain": "the router model cannot judge its text: another language, a short text or "
    "noise (routing.out_of_domain)",
    "escalated": "the local answer failed a check",
    "housekeeping": "a chat front end's housekeeping, such as a title (routing.housekeeping)",
    "rule": "a rule of routing.rules selected it",
    "exploration": "a random decision near the threshold, by routing.explore_rate",
}


# What the local answer was.
_CHECKS: Final[dict[str, str]] = {
    Check.EMPTY: "no text and no tool call",
    Check.UNFINISHED: "no finish_reason",
    Check.CUT_OFF: "cut off at the server's limit",
    Check.REPETITION: "a loop of the same text",
    Check.JSON: "not the JSON that the client asked for",
    Check.TOOL_ARGUMENTS: "a tool call that does not fit the offered tools",
    Check.NO_OPTION: "none of the question's options",
    Check.REFUSAL: "only a statement that the model cannot do this",
}


def _failed_check(row: dict[str, Any]) -> str:
    """The check that the local answer failed, and which tier's answer was sent."""
    check = _CHECKS.get(row["failed_check"], row["failed_check"])
    failed = f"The local answer failed a check: {check}"
    if row["target"] == "cloud":
        cloud = "The cloud answered instead" if row["ending"] == "ok" else "The cloud was asked"
        if not (tokens := row["discarded_tokens"]):
            return f"{failed}. {cloud}."
        were = "token was" if tokens == 1 else "tokens were"
        return f"{failed}. {cloud}; {tokens:,} local {were} discarded."
    if row["fallback_from"] == "cloud":
        because = f"the cloud failed: {row['fallback_why']}"
    elif row["streamed"]:
        because = "a stream that has begun cannot be replaced"
    elif row["reason"] == "forced":
        because = "the client selected its tier"
    else:
        because = "there was no alternative"
    return f"{failed}. It was sent, because {because}."


def _why(row: dict[str, Any]) -> str:
    score = ""
    if row["score"] is not None and row["threshold"] is not None:
        merit = row["merit"]
        compared = f"its score {row['score']:.4f}"
        if merit is None:
            score = f"{compared} was not used"
        else:
            if merit != row["score"]:  # gain per dollar
                compared = f"its merit {merit:.4f} (gain per dollar; score {row['score']:.4f})"
            relation = "at or above" if merit >= row["threshold"] else "below"
            score = f"{compared} is {relation} the threshold {row['threshold']:.4f}"
    if row["reason"] == "score":
        return score or "by its score"
    why = _REASONS.get(row["reason"], str(row["reason"]))
    return f"{why} ({score})" if score else why
