"""The phases of one request on a time axis, from its row. The drawer and `explain` show them."""

from typing import Any, Final, NamedTuple

_LEAST_MS: Final = 0.05  # a shorter phase is not listed, unless it is always there


class Phase(NamedTuple):
    """A phase of a request. Times are milliseconds; it starts after the request's arrival.

    Attributes:
        kind: arrival, decision, discarded, queue, connect, first_token, stream, answer or sending.
        name: for people.
        note: what is special about it.
    """

    kind: str
    name: str
    start_ms: float
    duration_ms: float
    note: str | None = None


def phases(row: dict[str, Any]) -> list[Phase]:
    """The known phases in the order of time. Between them may be gaps.

    Rows of earlier versions do not say when the upstream's time began. It is then taken to end with
    the request.
    """
    total = row["duration_ms"]
    opened = _opened(row)
    found = _phases_before(row, total if opened is None else opened)
    if opened is None:
        return found
    end = min(total, opened + (row["upstream_ms"] or 0.0))
    at = opened
    attempt = row["attempt_ms"]
    if attempt is not None and attempt - opened >= _LEAST_MS and (gap := _gap(row, attempt)):
        found.append(Phase("discarded", gap, opened, attempt - opened, _gap_note(row)))
    if attempt is not None:
        at = max(at, attempt)
    for kind, name in (("queue", "Waiting for a slot"), ("connect", "Connecting")):
        duration = row[f"{kind}_ms"]
        if duration is not None and duration >= _LEAST_MS:
            duration = min(duration, max(0.0, end - at))
            found.append(Phase(kind, name, at, duration))
            at += duration
    found += _phases_of_answer(row, at, end)
    if total - end >= _LEAST_MS:
        found.append(Phase("sending", "Sending the answer", end, total - end))
    return found


def _opened(row: dict[str, Any]) -> float | None:
    if row["opened_ms"] is not None:
        return float(row["opened_ms"])
    if row["upstream_ms"] is None:
        return None
    return float(max(row["decision_ms"] or 0.0, row["duration_ms"] - row["upstream_ms"]))


def _phases_before(row: dict[str, Any], opened: float) -> list[Phase]:
    """Reading the request, and the decision, which ends when the upstream's time begins."""
    decision = row["decision_ms"]
    if decision is None:
        return [Phase("arrival", "Reading the request", 0.0, opened)] if row["status"] else []
    decision = min(decision, opened)
    found = []
    if opened - decision >= _LEAST_MS:
        found.append(Phase("arrival", "Reading the request", 0.0, opened - decision))
    return [*found, Phase("decision", "Decision", opened - decision, decision)]


def _gap(row: dict[str, Any], attempt: float) -> str | None:
    """The name of the time before the last attempt; None if nothing is known of it."""
    if row["fallback_from"] is not None and row["fallback_from"] != row["target"]:
        return f"{row['fallback_from'].capitalize()} attempt, discarded"
    return "Earlier attempts" if attempt - _opened_or_zero(row) >= 1.0 else None


def _opened_or_zero(row: dict[str, Any]) -> float:
    return float(row["opened_ms"] or 0.0)


def _gap_note(row: dict[str, Any]) -> str | None:
    if row["second_look"] is not None and row["second_look_ms"] is not None:
        return f"second look: {row['second_look'].replace('_', ' ')}"
    if row["fallback_from"] is not None:
        return str(row["fallback_why"]).replace("_", " ")
    return "a retry, or loading the model"


def _phases_of_answer(row: dict[str, Any], at: float, end: float) -> list[Phase]:
    """From sending the request to the end of the answer."""
    first = row["ttft_ms"]
    look = None
    if row["second_look"] == "kept" and row["second_look_ms"] is not None:
        look = "with the second look"
    if row["ending"] != "ok" and first is None:
        return [Phase("answer", "Waiting for an answer", at, max(0.0, end - at), look)]
    if first is None:
        return [Phase("answer", "Waiting for the answer", at, max(0.0, end - at), look)]
    first = min(max(first, at), end)
    return [
        Phase("first_token", "Waiting for the first token", at, first - at, look),
        Phase("stream", "Streaming the answer", first, end - first),
    ]
