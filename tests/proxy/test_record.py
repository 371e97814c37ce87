"""The call record: finished once, timed by one clock, safe in headers."""

import pytest

from proxy.record import (
    CallRecord,
    Ending,
    Reason,
    SecondLookResult,
    Target,
    key_hash,
    new_request_id,
)


class Clock:
    """Time that passes only on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_first_ending_is_final() -> None:
    clock = Clock()
    record = CallRecord("chat.completions", clock=clock)
    clock.now += 0.5
    record.finish(Ending.TIMEOUT, error="Too late.")
    clock.now += 1
    record.finish(Ending.OK)
    assert (record.ending, record.error) == (Ending.TIMEOUT, "Too late.")
    assert record.duration_ms == pytest.approx(500)


def test_upstream_time_runs_from_open_to_first_close() -> None:
    clock = Clock()
    record = CallRecord("chat.completions", clock=clock)
    clock.now += 1
    record.open_upstream()
    clock.now += 2
    record.close_upstream()
    clock.now += 4
    record.close_upstream()
    record.finish(Ending.OK)
    assert record.upstream_ms == pytest.approx(2000)
    assert record.duration_ms == pytest.approx(7000)


def test_upstream_time_includes_a_timeout() -> None:
    clock = Clock()
    record = CallRecord("chat.completions", clock=clock)
    clock.now += 1
    record.open_upstream()
    clock.now += 60
    record.finish(Ending.TIMEOUT)
    assert record.upstream_ms == pytest.approx(60_000)


def test_request_without_upstream_has_no_upstream_time() -> None:
    record = CallRecord("chat.completions", clock=Clock())
    record.close_upstream()
    record.finish(Ending.REJECTED)
    assert record.upstream_ms is None


def test_record_without_decision_has_only_the_id_header() -> None:
    record = CallRecord("chat.completions")
    assert record.router_headers() == [(b"x-request-id", record.id.encode())]
    assert record.cost_headers() == []


def test_header_values_are_formatted() -> None:
    record = CallRecord("chat.completions")
    record.target, record.reason, record.model = Target.CLOUD, Reason.FALLBACK, "gpt-4o-mini"
    record.score, record.threshold, record.decision_ms = 0.61239, 0.5, 3.14159
    record.merit = 0.4321
    record.fallback_from, record.fallback_why = Target.LOCAL, "idle_timeout"
    record.rule = "batch key"
    record.second_look, record.verified_merit = SecondLookResult.TIMED_OUT, 0.54321
    record.cost_usd, record.saved_usd = 0.0000123, -0.5
    assert dict(record.router_headers()) == {
        b"x-request-id": record.id.encode(),
        b"x-router-target": b"cloud",
        b"x-router-model": b"gpt-4o-mini",
        b"x-router-score": b"0.6124",
        b"x-router-merit": b"0.4321",
        b"x-router-threshold": b"0.5000",
        b"x-router-reason": b"fallback",
        b"x-router-rule": b"batch key",
        b"x-router-decision-ms": b"3.142",
        b"x-router-fallback": b"local->cloud:idle_timeout",
        b"x-router-second-look": b"timed_out",
        b"x-router-verified-merit": b"0.5432",
    }
    assert dict(record.cost_headers()) == {
        b"x-router-cost-usd": b"0.000012300",
        b"x-router-saved-usd": b"-0.500000000",
    }


def test_model_name_cannot_inject_headers() -> None:
    record = CallRecord("chat.completions")
    record.target = Target.CLOUD
    record.model = "gpt\r\nset-cookie: a=b\x00\x7f ü" + "x" * 1000
    value = dict(record.router_headers())[b"x-router-model"]
    assert value.startswith(b"gpt??set-cookie: a=b?? ?xxx")
    assert len(value) == 200


ODD = "phi→3\r\nx: y\x00 ü 模型 🙂 \udcff"


def test_every_header_of_the_proxy_is_printable_ascii() -> None:
    record = CallRecord("chat.completions")
    record.target, record.reason = Target.CLOUD, Reason.ESCALATED
    record.model = record.rule = record.fallback_why = ODD
    record.fallback_from, record.adapted = Target.LOCAL, (ODD, "tools")
    record.score = record.merit = record.threshold = record.decision_ms = 0.5
    record.second_look, record.verified_merit = SecondLookResult.ESCALATED, 0.5
    record.cost_usd = record.saved_usd = 0.5
    record.trace = []
    record.step("asked %s", ODD)
    headers = record.router_headers() + record.cost_headers()
    assert len(headers) == 16  # all of them
    for name, value in headers:
        assert value.decode("ascii").isprintable(), name


def test_request_ids_are_unique_and_sorted_by_time() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert len(set(ids)) == len(ids)
    assert {len(request_id) for request_id in ids} == {len("req_") + 32}
    milliseconds = [request_id[4:16] for request_id in ids]
    assert milliseconds == sorted(milliseconds)


def test_key_hash_identifies_but_does_not_reveal_the_key() -> None:
    assert key_hash("sk-a") == key_hash("sk-a") != key_hash("sk-b")
    assert "sk-a" not in key_hash("sk-a")
    assert len(key_hash("sk-a")) == 16


def test_other_tier_is_symmetric() -> None:
    assert {target: target.other for target in Target} == {
        Target.LOCAL: Target.CLOUD,
        Target.CLOUD: Target.LOCAL,
    }
