"""Explanations of single requests, and quality and drift estimates as plain values.

The command line and the JSON API share them.
"""

import datetime as dt
import re
from decimal import Decimal
from typing import Any, Final

from proxy.evaluation.estimates import MIN_ANSWERS, MIN_PAIRS, Quality, SampleSize
from proxy.evaluation.timeline import phases
from proxy.plain_text import printable
from proxy.record import SecondLookResult
from router_model.answer_checks import Check
from router_model.drift import Drift, drift_level
from router_model.evidence import Evidence

# By name: title, key in `Quality.counted`, and minimum sample size.
ESTIMATES: Final = {
    "recovered": ("share of the quality gap recovered", "pairs", MIN_PAIRS),
    "relative": ("score of the answers, of the cloud's score", "pairs", MIN_PAIRS),
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
        "relative": quality.relative,
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


def format_usd(value: float) -> str:
    """Cents from one dollar on, three significant digits below, without an exponent."""
    size = abs(value)
    digits = f"{size:,.2f}" if size >= 1 else f"{Decimal(f'{size:.3g}'):f}"
    return f"{'-' if value < 0 else ''}${digits}"


def timeline(row: dict[str, Any]) -> str:
    """The phases of one request, a line for each: start, duration and name."""
    lines = ["Timeline (ms since the request arrived):"]
    for phase in phases(row):
        note = f" ({printable(phase.note)})" if phase.note else ""
        start, duration = (
            f"{value:,.1f}".rjust(11) for value in (phase.start_ms, phase.duration_ms)
        )
        lines.append(f"{start}  +{duration.strip():<10} {phase.name}{note}")
    return "\n".join([*lines, f"{row['duration_ms']:11,.1f}  total"])


def explain(row: dict[str, Any]) -> str:
    """The routing decision and the outcome of one request, in sentences."""
    row = {
        name: printable(value) if isinstance(value, str) else value for name, value in row.items()
    }
    at = dt.datetime.fromtimestamp(row["created_at"], dt.UTC)
    lines = [
        f"A request to {row['endpoint']}, {at:%Y-%m-%d %H:%M:%S} UTC, model "
        f"{row['requested_model'] or 'not given'}{', streamed' if row['streamed'] else ''}."
    ]
    if name := row.get("key_name"):
        lines.append(f"It was sent with the API key '{name}'.")
    if row["target"] is None:
        lines.append("It reached no tier.")
    else:
        lines.append(f"It went to {row['model']} ({row['target']}): {_why(row)}.")
    if row["rule"]:
        lines.append(f"The rule '{row['rule']}' matched.")
    lines += _second_look(row)
    if row["failed_check"]:
        lines.append(_failed_check(row))
    elif row["fallback_from"] and row["second_look"] not in _REPLACED:
        lines.append(f"The {row['fallback_from']} tier failed first: {row['fallback_why']}.")
    if row["fallback_error"]:
        lines.append(f"Error of the {row['fallback_from']} tier: {row['fallback_error']}")
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
        saved = "" if row["saved_usd"] is None else f", and saved {format_usd(row['saved_usd'])}"
        lines.append(f"It cost {format_usd(row['cost_usd'])}{saved}.")
    code = f" ({row['error_code']})" if row["error_code"] else ""
    http = f"HTTP {row['status']}" if row["status"] else "no HTTP status"
    lines.append(f"Status: {row['ending']}{code}, {http}.")
    if row["error"]:
        lines.append(f"{_speaker(row)}: {row['error']}")
    lines += [
        f"{printable(item['judge_model'])} gave the {item['target']} answer "
        f"{item['score']:g} of 10."
        for item in row["judgements"]
    ]
    if row["feedback"] is not None:
        lines.append(f"The client rated it {row['feedback']['rating']:+g}.")
    return "\n".join(lines)


def _speaker(row: dict[str, Any]) -> str:
    """Whose words the error is: those of an upstream's answer, or the proxy's."""
    is_answer = _ANSWERED.fullmatch(row["error_code"] or "") is not None
    return f"The {row['target']} tier answered" if row["target"] and is_answer else "Error"


# The codes of errors that an upstream has sent, and the proxy has passed on.
_ANSWERED: Final = re.compile(r"upstream_(?:[45]xx|error)")

_REASONS: Final = {
    "forced": "the client selected it",
    "context": "prompt and answer do not fit into the local model's context",
    "capability": "the local model does not support a feature of the request",
    "unhealthy": "the other tier was down",
    "overload": "the wait for the local tier was too long",
    "loading": "the local model was being loaded",
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
    return f"The local answer failed a check: {check}. {_answer_sent(row, local='It')}"


def _answer_sent(row: dict[str, Any], *, local: str) -> str:
    """Which tier's answer was sent in the end.

    Args:
        local: names the local answer.
    """
    if row["target"] == "cloud":
        cloud = "The cloud answered instead" if row["ending"] == "ok" else "The cloud was asked"
        if not (tokens := row["discarded_tokens"]):
            return f"{cloud}."
        were = "token was" if tokens == 1 else "tokens were"
        return f"{cloud}; {tokens:,} local {were} discarded."
    if row["fallback_from"] == "cloud":
        because = f"the cloud failed: {row['fallback_why']}"
    elif row["streamed"]:
        because = "a stream that has begun cannot be replaced"
    elif row["reason"] == "forced":
        because = "the client selected its tier"
    else:
        because = "there was no alternative"
    return f"{local} was sent, because {because}."


# The results after which the cloud is asked although the local tier did not fail.
_REPLACED: Final = (SecondLookResult.ESCALATED, SecondLookResult.TIMED_OUT)


def _second_look(row: dict[str, Any]) -> list[str]:
    """The second look in sentences: the evidence, what it decided, and the time it took."""
    if row["second_look"] is None:
        return []
    name = "score" if row["merit"] == row["score"] else "merit"
    value = "" if row["merit"] is None else f" {row['merit']:.4f}"
    band = f"Its {name}{value} lay in the band around the threshold (verify.band)"
    if row["second_look"] == SecondLookResult.BUSY:
        return [
            f"{band}. There was no second look, because the local tier was busy: the prompt alone "
            "decided."
        ]
    lines = [f"{band}, so the local model answered first, for a second look at its answer."]
    if row["evidence"] is not None:
        lines.append(f"Evidence: {'; '.join(_evidence_items(row['evidence']))}.")
    after = "" if row["second_look_ms"] is None else f" after {format_ms(row['second_look_ms'])} ms"
    lines.append(_verified(row) + _RESULTS[row["second_look"]].format(after=after))
    if row["second_look"] in _REPLACED:
        lines[-1] += f" {_answer_sent(row, local='The local answer')}"
    return lines


_RESULTS: Final[dict[str, str]] = {
    SecondLookResult.KEPT: "The second look kept the local answer{after}.",
    SecondLookResult.ESCALATED: "The second look escalated the request{after}.",
    SecondLookResult.FAILED: "The second look failed{after}: there was no usable local answer.",
    SecondLookResult.TIMED_OUT: "The second look timed out{after} (verify.max_wait_seconds).",
}
_TIMED_OUT: Final = "a second look at the local answer timed out"
# By tier, reason and result, where the result decided.
_DECIDED: Final[dict[tuple[str, str, str], str]] = {
    ("local", "score", SecondLookResult.KEPT): "a second look kept the local answer",
    ("cloud", "escalated", SecondLookResult.ESCALATED): "a second look escalated it",
    ("cloud", "escalated", SecondLookResult.TIMED_OUT): _TIMED_OUT,
    ("cloud", "fallback", SecondLookResult.TIMED_OUT): _TIMED_OUT,  # without any local answer
}


def _evidence_items(evidence: dict[str, Any]) -> list[str]:
    """What is known of the local answer, each item in words."""
    known = Evidence(**evidence)
    items = [f"it states {'no' if known.broken else 'a'} final answer"]
    if known.agrees is not None:
        other = "the same" if known.agrees else "another"
        items.append(f"{known.second or 'the second model'} has {other} final answer")
    elif known.second is not None:
        items.append(f"that of {known.second} cannot be compared")
    if known.mean_logprob is not None:
        items.append(f"mean log-probability of its tokens {known.mean_logprob:.3f} nats")
    if known.lowest_logprob is not None:
        items.append(f"the lowest {known.lowest_logprob:.3f} nats")
    if known.margin is not None:
        items.append(f"margin at the final answer {known.margin:.3f} nats")
    if known.tokens is not None:
        items.append(f"length {known.tokens:,.0f} tokens")
    if known.self_check is not None:
        items.append(f"self-check P(yes) {known.self_check:.3f}")
    return items


def _verified(row: dict[str, Any]) -> str:
    """The verified score and merit against the threshold; empty if they are unknown."""
    score, merit = row["verified_score"], row["verified_merit"]
    if merit is None:
        return ""
    given = "Without evidence" if row["evidence"] is None else "With the evidence"
    if score is None or merit == score:
        verified = f"{given} its score is {merit:.4f}"
    else:
        verified = f"{given} its score is {score:.4f} and its merit {merit:.4f}"
    if row["threshold"] is None:
        return f"{verified}. "
    return f"{verified}, {_relation(merit, row['threshold'])}. "


def _relation(merit: float, threshold: float) -> str:
    return f"{'at or above' if merit >= threshold else 'below'} the threshold {threshold:.4f}"


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
            score = f"{compared} is {_relation(merit, row['threshold'])}"
    decided = _DECIDED.get((row["target"], row["reason"], row["second_look"]))
    if row["reason"] == "score" and decided is None:
        return score or "by its score"
    why = decided or _REASONS.get(row["reason"], str(row["reason"]))
    return f"{why} ({score})" if score else why
