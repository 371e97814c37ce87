"""One request in sentences, and estimates of quality and drift as plain values.

For the command line and the JSON API alike.
"""

import datetime as dt
from typing import Any, Final

from proxy.evaluation.estimates import MIN_ANSWERS, MIN_PAIRS, Quality, SampleSize
from proxy.plain_text import printable
from router_model.drift import Drift, drift_level

# By name: in words, what of `Quality.counted` it rests on, and how much of that it takes.
ESTIMATES: Final = {
    "recovered": ("share of the gap between the tiers recovered", "pairs", MIN_PAIRS),
    "saved": ("saved at equal quality, of an all-cloud bill", "priced", MIN_PAIRS),
    "good_local": ("share of local answers that are good", "local", MIN_ANSWERS),
    "local_as_good": ("share of pairs with the local answer as good", "compared", MIN_PAIRS),
    "local_score": ("mean score of local answers", "local", MIN_ANSWERS),
    "cloud_score": ("mean score of cloud answers", "cloud", MIN_ANSWERS),
}


def plain_drift(drift: Drift) -> dict[str, Any]:
    """A drift with how its indices read."""
    plain = drift._asdict() | {"moved": [move._asdict() for move in drift.moved]}
    return plain | {
        f"{of}_reading": drift_level(getattr(drift, of)) for of in ("score", "category")
    }


def plain_estimates(quality: Quality) -> dict[str, dict[str, Any]]:
    """What is known of the answers' quality, by name, or why it is not: `missing`."""
    known = {
        "recovered": quality.recovered,
        "saved": quality.saved,
        "good_local": quality.good_local,
        "local_as_good": quality.local_as_good,
        **{f"{tier}_score": found for tier, found in quality.mean_scores.items()},
    }
    told = {}
    for name, (_, basis, least) in ESTIMATES.items():
        value, low, high = known.get(name) or (None, None, None)
        counted, missing = quality.counted.get(basis, SampleSize()), None
        if shortage := counted.shortage(least):
            missing = f"not enough data ({shortage})"
        elif value is None:
            missing = "no gap between the tiers to be seen"
        told[name] = {
            "value": value, "low": low, "high": high, "requests": counted.requests,
            "missing": missing,
        }  # fmt: skip
    return told


def format_ms(value: float) -> str:
    """Three digits, and whole milliseconds however many there are."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def explain(row: dict[str, Any]) -> str:
    """Why one request went where it went, and what became of it, in sentences."""
    row = {
        name: printable(value) if isinstance(value, str) else value for name, value in row.items()
    }
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
        f"{name} {format_ms(row[key])} ms"
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
        f"{printable(one['judge_model'])} gave the {one['target']} answer {one['score']:g} of 10."
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
    "escalated": "the local answer was not good enough",
    "exploration": "a random decision near the threshold, by routing.explore_rate",
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
