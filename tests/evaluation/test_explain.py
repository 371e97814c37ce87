"""Explanations of single requests in sentences."""

from collections.abc import Iterator
from typing import Any

import pytest

from proxy.evaluation.explain import explain
from proxy.record import Ending, Reason, SecondLookResult, Target, UsageSource
from proxy.storage.database import open_database
from proxy.storage.request_log import RequestLog
from router_model.evidence import Evidence
from stored import NOW, add_judgements, config_of, fill, finished, opened

pytest_plugins = ["databases"]


@pytest.fixture
def log(url: str) -> Iterator[RequestLog]:
    """An empty database."""
    fill(url, [])
    database = open_database(config_of(url), read_only=True)
    with RequestLog(database, clock=lambda: NOW) as log:
        yield log


EXPLAINED = {
    "by-score": (
        {
            "requested_model": "auto", "target": Target.LOCAL, "model": "phi3", "streamed": True,
            "reason": Reason.SCORE, "score": 0.75, "threshold": 0.5, "decision_ms": 2.0,
            "ttft_ms": 150.0, "upstream_ms": 1_200.0, "duration_ms": 1_203.0, "status": 200,
            "input_tokens": 1_000, "cached_input_tokens": 10, "output_tokens": 200,
            "cost_usd": 0.0, "saved_usd": 0.00027,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model auto, streamed.
It went to phi3 (local): its score 0.7500 is at or above the threshold 0.5000.
Latency: decision 2 ms, time to first token 150 ms, upstream 1,200 ms, total 1,203 ms.
Tokens: 1,000 in (10 cached), 200 out.
It cost $0, and saved $0.00027.
Status: ok, HTTP 200.""",
    ),
    "by-merit": (
        {
            "requested_model": "auto", "target": Target.CLOUD, "model": "gpt-4o-mini",
            "reason": Reason.SCORE, "score": 0.8, "merit": 0.55, "threshold": 0.7,
            "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model auto.
It went to gpt-4o-mini (cloud): its merit 0.5500 (gain per dollar; score 0.8000) is below the \
threshold 0.7000.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "by-equal-merit": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE, "score": 0.75,
            "merit": 0.75, "threshold": 0.5, "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): its score 0.7500 is at or above the threshold 0.5000.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "fallback": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.FALLBACK, "score": 0.4,
            "threshold": 0.5, "fallback_from": Target.LOCAL, "fallback_why": "5xx",
            "duration_ms": 12.0, "status": 200, "input_tokens": 3,
            "usage_source": UsageSource.ESTIMATED, "cost_usd": 0.001,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): the other tier failed before the first token (its score 0.4000 is \
below the threshold 0.5000).
The local tier failed first: 5xx.
Latency: total 12 ms.
Tokens (estimated): 3 in (0 cached), 0 out.
It cost $0.001.
Status: ok, HTTP 200.""",
    ),
    "escalated": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.ESCALATED, "score": 0.8,
            "threshold": 0.5, "fallback_from": Target.LOCAL, "fallback_why": "cut_off",
            "failed_check": "cut_off", "discarded_tokens": 340, "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): the local answer failed a check (its score 0.8000 is at or above the \
threshold 0.5000).
The local answer failed a check: cut off at the server's limit. The cloud answered instead; \
340 local tokens were discarded.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "escalated and not answered": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.ESCALATED,
            "fallback_from": Target.LOCAL, "fallback_why": "empty", "failed_check": "empty",
            "duration_ms": 12.0, "ending": Ending.CLIENT_GONE, "discarded_tokens": 0,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): the local answer failed a check.
The local answer failed a check: no text and no tool call. The cloud was asked.
Latency: total 12 ms.
Status: client_gone, no HTTP status.""",
    ),
    "kept, as the cloud failed": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.FALLBACK,
            "fallback_from": Target.CLOUD, "fallback_why": "server_error", "failed_check": "json",
            "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): the other tier failed before the first token.
The local answer failed a check: not the JSON that the client asked for. It was sent, because \
the cloud failed: server_error.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "kept stream": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.RULE, "streamed": True,
            "failed_check": "repetition", "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given, streamed.
It went to phi3 (local): a rule of routing.rules selected it.
The local answer failed a check: a loop of the same text. It was sent, because a stream that \
has begun cannot be replaced.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "kept, as the tier was selected": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.FORCED,
            "failed_check": "refusal", "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): the client selected it.
The local answer failed a check: only a statement that the model cannot do this. It was sent, \
because the client selected its tier.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "kept without alternative": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.BUDGET,
            "failed_check": "unfinished", "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): the cloud budget was spent or is being paced.
The local answer failed a check: no finish_reason. It was sent, because there was no alternative.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, kept": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE, "score": 0.7,
            "merit": 0.48, "threshold": 0.5, "second_look": SecondLookResult.KEPT,
            "evidence": Evidence(
                False, True, "llama3:8b", -0.3125, -4.0, 2.5, 1_280, 0.93
            ),
            "verified_score": 0.81, "verified_merit": 0.625, "second_look_ms": 812.4,
            "duration_ms": 815.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): a second look kept the local answer (its merit 0.4800 (gain per dollar; \
score 0.7000) is below the threshold 0.5000).
Its merit 0.4800 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
Evidence: it states a final answer; llama3:8b has the same final answer; mean log-probability \
of its tokens -0.312 nats; the lowest -4.000 nats; margin at the final answer 2.500 nats; \
length 1,280 tokens; self-check P(yes) 0.930.
With the evidence its score is 0.8100 and its merit 0.6250, at or above the threshold 0.5000. \
The second look kept the local answer after 812 ms.
Latency: total 815 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, escalated": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.ESCALATED, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.ESCALATED,
            "evidence": Evidence(broken=True, agrees=False), "verified_score": 0.25,
            "verified_merit": 0.25, "second_look_ms": 50.0, "fallback_from": Target.LOCAL,
            "fallback_why": "evidence", "discarded_tokens": 1, "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): a second look escalated it (its score 0.5500 is at or above the \
threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
Evidence: it states no final answer; the second model has another final answer.
With the evidence its score is 0.2500, below the threshold 0.5000. The second look escalated \
the request after 50 ms. The cloud answered instead; 1 local token was discarded.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, escalated, and the cloud failed": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.FALLBACK, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.ESCALATED, "evidence": Evidence(),
            "verified_score": 0.25, "verified_merit": 0.25, "second_look_ms": 50.0,
            "fallback_from": Target.CLOUD, "fallback_why": "server_error", "duration_ms": 12.0,
            "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): the other tier failed before the first token (its score 0.5500 is at or \
above the threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
Evidence: it states a final answer.
With the evidence its score is 0.2500, below the threshold 0.5000. The second look escalated the \
request after 50 ms. The local answer was sent, because the cloud failed: server_error.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, timed out": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.ESCALATED, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.TIMED_OUT, "second_look_ms": 20_000.0,
            "fallback_from": Target.LOCAL, "fallback_why": "verify_timeout",
            "duration_ms": 20_012.0, "ending": Ending.CLIENT_GONE,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): a second look at the local answer timed out (its score 0.5500 is at or \
above the threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
The second look timed out after 20,000 ms (verify.max_wait_seconds). The cloud was asked.
Latency: total 20,012 ms.
Status: client_gone, no HTTP status.""",
    ),
    "second look, timed out without an answer": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.FALLBACK, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.TIMED_OUT, "second_look_ms": 20_000.0,
            "fallback_from": Target.LOCAL, "fallback_why": "verify_timeout",
            "duration_ms": 20_012.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): a second look at the local answer timed out (its score 0.5500 is at or \
above the threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
The second look timed out after 20,000 ms (verify.max_wait_seconds). The cloud answered instead.
Latency: total 20,012 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, without evidence": (
        {
            "target": Target.LOCAL, "model": "phi3", "reason": Reason.SCORE, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.KEPT, "verified_score": 0.53,
            "verified_merit": 0.53, "second_look_ms": 5.0, "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to phi3 (local): a second look kept the local answer (its score 0.5500 is at or above \
the threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
Without evidence its score is 0.5300, at or above the threshold 0.5000. The second look kept the \
local answer after 5 ms.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, failed by the local tier": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.FALLBACK, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.FAILED, "second_look_ms": 5.0,
            "fallback_from": Target.LOCAL, "fallback_why": "5xx", "duration_ms": 12.0,
            "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): the other tier failed before the first token (its score 0.5500 is at or \
above the threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
The second look failed after 5 ms: there was no usable local answer.
The local tier failed first: 5xx.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "second look, failed by a check": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.ESCALATED, "score": 0.55,
            "threshold": 0.5, "second_look": SecondLookResult.FAILED, "fallback_from": Target.LOCAL,
            "fallback_why": "empty", "failed_check": "empty", "duration_ms": 12.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): the local answer failed a check (its score 0.5500 is at or above the \
threshold 0.5000).
Its score 0.5500 lay in the band around the threshold (verify.band), so the local model answered \
first, for a second look at its answer.
The second look failed: there was no usable local answer.
The local answer failed a check: no text and no tool call. The cloud answered instead.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "no second look, as the local tier was busy": (
        {
            "target": Target.CLOUD, "model": "gpt", "reason": Reason.SCORE, "score": 0.45,
            "threshold": 0.5, "second_look": SecondLookResult.BUSY, "duration_ms": 12.0,
            "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model not given.
It went to gpt (cloud): its score 0.4500 is below the threshold 0.5000.
Its score 0.4500 lay in the band around the threshold (verify.band). There was no second look, \
because the local tier was busy: the prompt alone decided.
Latency: total 12 ms.
Status: ok, HTTP 200.""",
    ),
    "by a rule": (
        {
            "requested_model": "auto", "target": Target.CLOUD, "model": "gpt-4o-mini",
            "reason": Reason.RULE, "rule": "regulated advice", "duration_ms": 5.0, "status": 200,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model auto.
It went to gpt-4o-mini (cloud): a rule of routing.rules selected it.
The rule 'regulated advice' matched.
Latency: total 5 ms.
Status: ok, HTTP 200.""",
    ),
    "refused": (
        {
            "requested_model": "gpt-9", "duration_ms": 0.25, "status": 404,
            "ending": Ending.REJECTED, "error": "No such model.", "error_code": "model_not_found",
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model gpt-9.
It reached no tier.
Latency: total 0.25 ms.
Status: rejected (model_not_found), HTTP 404.
Error: No such model.""",
    ),
    "failed at both tiers": (
        {
            "requested_model": "auto", "target": Target.CLOUD, "model": "gpt",
            "reason": Reason.FALLBACK, "fallback_from": Target.LOCAL,
            "fallback_why": "server_error", "fallback_error": "Out of memory. (status 500)",
            "duration_ms": 5.0, "status": 402, "ending": Ending.UPSTREAM_ERROR,
            "error": "Not paid. (status 402, billing)", "error_code": "upstream_4xx",
            "cost_usd": 0.0000042, "saved_usd": -1234.5,
        },
        """\
A request to chat.completions, 2027-01-15 08:00:00 UTC, model auto.
It went to gpt (cloud): the other tier failed before the first token.
The local tier failed first: server_error.
Error of the local tier: Out of memory. (status 500)
Latency: total 5 ms.
It cost $0.0000042, and saved -$1,234.50.
Status: upstream_error (upstream_4xx), HTTP 402.
The cloud tier answered: Not paid. (status 402, billing)""",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), EXPLAINED.values(), ids=EXPLAINED.keys())
def test_a_request_is_explained(
    url: str, log: RequestLog, values: dict[str, Any], expected: str
) -> None:
    record = finished(created_at=NOW, **values)
    fill(url, [record])
    row = log.find(record.id)
    assert row is not None
    assert explain(row) == expected


def test_judgements_and_ratings_are_explained(url: str, log: RequestLog) -> None:
    record = finished()
    fill(url, [record])
    with opened(url) as store:
        store.lookups.record_feedback(record.id, -1.0, None, client=None)
    add_judgements(url, [(record.id, NOW, "local", 7.5, "gpt-4o")])
    row = log.find(record.id)
    assert row is not None
    assert explain(row).splitlines()[-2:] == [
        "gpt-4o gave the local answer 7.5 of 10.",
        "The client rated it -1.",
    ]


@pytest.mark.parametrize("reason", sorted(Reason))
def test_every_reason_is_explained(sqlite_url: str, reason: Reason) -> None:
    record = finished(target=Target.LOCAL, model="phi3", reason=reason)
    fill(sqlite_url, [record])
    with RequestLog.open(config_of(sqlite_url)) as log:
        row = log.find(record.id)
    assert row is not None
    (line,) = (line for line in explain(row).splitlines() if line.startswith("It went to"))
    assert len(line.removeprefix("It went to phi3 (local): ").split()) > 2
