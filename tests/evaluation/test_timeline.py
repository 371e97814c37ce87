"""The phases of a request on a time axis."""

from typing import Any

import pytest

from proxy.evaluation.explain import timeline
from proxy.evaluation.timeline import phases

ROW: dict[str, Any] = dict.fromkeys(
    "target decision_ms ttft_ms upstream_ms queue_ms connect_ms opened_ms attempt_ms "
    "fallback_from fallback_why second_look second_look_ms".split()
) | {"ending": "ok", "status": 200, "duration_ms": 1_000.0}
STREAM = {
    "target": "local",
    "decision_ms": 5.0,
    "opened_ms": 8.0,
    "attempt_ms": 8.01,
    "queue_ms": 100.0,
    "connect_ms": 2.0,
    "ttft_ms": 400.0,
    "upstream_ms": 990.0,
}
FALLBACK = {
    **STREAM,
    "target": "cloud",
    "attempt_ms": 208.0,
    "queue_ms": 0.0,
    "connect_ms": 0.0,
    "fallback_from": "local",
    "fallback_why": "server_error",
}
CASES = {
    "stream": (
        STREAM,
        [
            ("arrival", 0, 3),
            ("decision", 3, 5),
            ("queue", 8.01, 100),
            ("connect", 108.01, 2),
            ("first_token", 110.01, 289.99),
            ("stream", 400, 598),
            ("sending", 998, 2),
        ],
    ),
    "whole answer over a reused connection": (
        {**STREAM, "queue_ms": 0.0, "connect_ms": 0.0, "ttft_ms": None},
        [
            ("arrival", 0, 3),
            ("decision", 3, 5),
            ("answer", 8.01, 989.99),
            ("sending", 998, 2),
        ],
    ),
    "fallback": (
        FALLBACK,
        [
            ("arrival", 0, 3),
            ("decision", 3, 5),
            ("discarded", 8, 200),
            ("first_token", 208, 192),
            ("stream", 400, 598),
            ("sending", 998, 2),
        ],
    ),
    "of an earlier version": (
        {"target": "cloud", "decision_ms": 2.0, "upstream_ms": 995.0, "ttft_ms": 100.0},
        [
            ("arrival", 0, 3),
            ("decision", 3, 2),
            ("first_token", 5, 95),
            ("stream", 100, 900),
        ],
    ),
    "refused": ({"status": 404, "ending": "rejected"}, [("arrival", 0, 1_000)]),
    "waits that are longer than the upstream's time": (
        {**STREAM, "queue_ms": 5_000.0, "connect_ms": 7.0},
        [
            ("arrival", 0, 3),
            ("decision", 3, 5),
            ("queue", 8.01, 989.99),
            ("connect", 998, 0),
            ("first_token", 998, 0),
            ("stream", 998, 0),
            ("sending", 998, 2),
        ],
    ),
}


@pytest.mark.parametrize(("values", "expected"), CASES.values(), ids=CASES.keys())
def test_phases_follow_each_other(
    values: dict[str, Any], expected: list[tuple[str, float, float]]
) -> None:
    row = ROW | values
    found = phases(row)
    assert [phase.kind for phase in found] == [kind for kind, _, _ in expected]
    for phase, (_, start, duration) in zip(found, expected, strict=True):
        assert (phase.start_ms, phase.duration_ms) == pytest.approx((start, duration), abs=1e-6)
        assert phase.start_ms + phase.duration_ms <= row["duration_ms"] + 1e-6


def test_a_discarded_attempt_names_its_tier_and_why() -> None:
    discarded = next(phase for phase in phases(ROW | FALLBACK) if phase.kind == "discarded")
    assert (discarded.name, discarded.note) == ("Local attempt, discarded", "server error")
    escalated = ROW | FALLBACK | {"second_look": "timed_out", "second_look_ms": 200.0}
    assert phases(escalated)[2].note == "second look: timed out"


def test_the_terminal_shows_the_same_phases() -> None:
    lines = timeline(ROW | FALLBACK).splitlines()
    assert lines[3] == "        8.0  +200.0      Local attempt, discarded (server error)"
    assert lines[-1] == "    1,000.0  total"
    assert len(lines) == len(phases(ROW | FALLBACK)) + 2
