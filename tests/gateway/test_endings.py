"""Every ending of a request: the client gets a response or one error, the upstream is released,
and exactly one row and the metrics agree.

Each tier serves one request at a time here. An upstream that is not released blocks the next one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx2
import pytest

from fakes import (
    DONE,
    EASY,
    HARD,
    Answer,
    Call,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    head,
    ollama_events,
    openai_events,
    refused_address,
    silent_address,
    whole,
)
from live import (
    CLOUD_KEY,
    CLOUD_MODEL,
    LOCAL_KEY,
    LOCAL_MODEL,
    LiveProxy,
    Row,
    StartProxy,
    check_headers,
    envelope_of,
    merge,
    released,
)
from proxy.record import Target

SHORT_SECONDS = 0.25  # the timeout under test; all others are much longer

ONE_AT_A_TIME = {
    "upstreams": {"local": {"max_concurrency": 1}, "cloud": {"max_concurrency": 1}},
}
TIERS = ["local", "cloud"]
MODELS = {"local": LOCAL_MODEL, "cloud": CLOUD_MODEL}
OTHER = {"local": "cloud", "cloud": "local"}
QUESTIONS = {"local": EASY, "cloud": HARD}

both_tiers = pytest.mark.parametrize("tier", TIERS)
both_forms = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def tier_timeouts(tier: str, **seconds: float) -> dict[str, Any]:
    return {"upstreams": {tier: {"timeouts": seconds}}}


def total_timeout(_: str) -> dict[str, Any]:
    return {"server": {"request_timeout_seconds": SHORT_SECONDS}}


def no_changes(_: str) -> dict[str, Any]:
    return {}


class Failure(NamedTuple):
    """A failure of an upstream and its expected result.

    Attributes:
        answer: the upstream's behaviour; None with `address`, where there is no upstream.
        changes: changes to the configuration, for the tier that fails.
        only: "whole" or "stream" if the failure applies to one of them only.
    """

    code: str
    answer: Callable[[], Answer] | None = None
    address: Callable[[], Any] | None = None
    changes: Callable[[str], dict[str, Any]] = no_changes
    only: str | None = None

    @property
    def status(self) -> int:
        return 504 if self.code.endswith("_timeout") else 502

    @property
    def ending(self) -> str:
        return "timeout" if self.code.endswith("_timeout") else "upstream_error"


async def start_failing(
    start: StartProxy, stack: ExitStack, failure: Failure, tier: str, upstream: FakeUpstream
) -> LiveProxy:
    """A proxy whose `tier` has this failure."""
    changes = merge(ONE_AT_A_TIME, failure.changes(tier))
    if failure.address is not None:
        return await start(changes, **{tier: stack.enter_context(failure.address())})
    assert failure.answer is not None
    upstream.answer = failure.answer()
    return await start(changes, load_seconds=0.2)  # the limit of a trial request, too


def check_nothing_leaks(text: str) -> None:
    for secret in ("127.0.0.1", "Traceback", "aiohttp", "httpx", CLOUD_KEY, LOCAL_KEY, "Errno"):
        assert secret not in text


# ── Successful responses ──────────────────────────────────────────────────────────────────────


@both_tiers
async def test_complete_response_passes(start: StartProxy, tier: str) -> None:
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(text=QUESTIONS[tier])
    outcome = await proxy.finish()
    assert (response.status_code, response.content) == (200, answer_json())
    check_headers(response.headers, outcome.row)
    assert {"x-router-cost-usd", "x-router-saved-usd"} <= response.headers.keys()
    check_row(outcome.row, tier, "ok", status=200, reason="score", stream=False)
    assert outcome.row["score"] == {"local": 0.9, "cloud": 0.1}[tier]
    assert outcome.row["usage_source"] == "upstream"
    assert outcome.row["ttft_ms"] is None
    assert outcome.metrics("router_upstream_seconds_count", target=tier) == 1


@both_tiers
async def test_stream_passes(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    local.answer, cloud.answer = chunked(*ollama_events()), chunked(*openai_events())
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(text=QUESTIONS[tier], stream=True)
    outcome = await proxy.finish()
    assert response.status_code == 200
    assert response.content.endswith(DONE)
    check_headers(response.headers, outcome.row)
    check_row(outcome.row, tier, "ok", status=200, reason="score", stream=True)
    assert outcome.row["usage_source"] == "upstream"
    assert 0 < outcome.row["ttft_ms"] <= outcome.row["duration_ms"]


async def test_client_may_disconnect_after_done(start: StartProxy, local: FakeUpstream) -> None:
    """The official clients disconnect at [DONE]: the request still succeeded."""
    gate = Gate()
    local.answer = chunked(*ollama_events(), gate)
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(stream=True)
    await client.read_until(b"[DONE]\n\n")
    await client.leave()
    await local.call.closed()
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "ok", status=200, reason="score", stream=True)
    assert outcome.row["output_tokens"] == 10


def check_row(
    row: Row, tier: str | None, ending: str, *, status: int | None, reason: str | None, stream: bool
) -> None:
    assert row["endpoint"] == "chat.completions"
    assert (row["target"], row["reason"]) == (tier, reason)
    assert row["model"] == (MODELS[tier] if tier is not None else None)
    assert (row["ending"], row["status"]) == (ending, status)
    assert row["streamed"] == stream
    assert row["duration_ms"] > 0
    if ending in ("ok", "client_gone"):
        assert row["error"] is None


# ── Upstream failures before the response ─────────────────────────────────────────────────────

BEFORE_RESPONSE = {
    "refused": Failure("upstream_unreachable", address=refused_address),
    "connect-timeout": Failure(
        "connect_timeout",
        address=silent_address,
        changes=lambda tier: tier_timeouts(tier, connect=SHORT_SECONDS),
    ),
    "reset": Failure("upstream_unreachable", answer=lambda: [End.RESET]),
    "closed": Failure("upstream_unreachable", answer=lambda: [End.FIN]),
    "reset-in-headers": Failure(
        "upstream_unreachable", answer=lambda: [b"HTTP/1.1 200 OK\r\ncontent-", End.RESET]
    ),
    "closed-in-headers": Failure(
        "upstream_unreachable", answer=lambda: [b"HTTP/1.1 200 OK\r\ncontent-", End.FIN]
    ),
    "no-http": Failure(
        "upstream_unreachable", answer=lambda: [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", End.FIN]
    ),
    "first-token-timeout": Failure(
        "first_token_timeout",
        answer=lambda: [Gate()],
        changes=lambda tier: tier_timeouts(tier, first_token=SHORT_SECONDS),
        only="stream",
    ),
}
NO_RESPONSE = BEFORE_RESPONSE | {
    "total-timeout": Failure("total_timeout", answer=lambda: [Gate()], changes=total_timeout)
}
TRUNCATED_RESPONSE = {
    "reset-in-body": Failure(
        "upstream_broken",
        answer=lambda: [head(headers=[("content-length", "100")]) + b'{"choices', End.RESET],
        only="whole",
    ),
    "closed-in-body": Failure(
        "upstream_broken",
        answer=lambda: [head(headers=[("content-length", "100")]) + b'{"choices', End.FIN],
        only="whole",
    ),
    "closed-in-chunks": Failure(
        "upstream_broken",
        answer=lambda: chunked(b'{"choices', End.FIN, content_type="application/json"),
        only="whole",
    ),
    "total-timeout-in-body": Failure(
        "total_timeout",
        answer=lambda: chunked(b'{"choices', Gate(), content_type="application/json"),
        changes=total_timeout,
        only="whole",
    ),
}


INPUT_USD = 1.35e-6  # the estimate of the default question at the cloud's price


def check_failed_cost(row: Row, failure: Failure, upstream: FakeUpstream, *, tier: str) -> None:
    """The cloud bills each attempt that it got, unless it answered with an error status."""
    answer = failure.answer() if failure.answer is not None else [b""]
    refuses = isinstance(answer[0], bytes) and answer[0][:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    attempts = len(upstream.calls)
    if tier == "local" or refuses or not attempts:
        assert not row["cost_usd"]
    else:
        assert row["cost_usd"] >= attempts * INPUT_USD * 0.999


def matrix(failures: dict[str, Failure]) -> list[Any]:
    return [
        pytest.param(failure, form == "stream", id=f"{name}-{form}")
        for name, failure in failures.items()
        for form in ("whole", "stream")
        if failure.only in (None, form)
    ]


@both_tiers
@pytest.mark.parametrize(("failure", "stream"), matrix(NO_RESPONSE | TRUNCATED_RESPONSE))
async def test_failed_upstream_returns_one_error(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, failure: Failure, stream: bool
) -> None:
    upstream = request.getfixturevalue(tier)
    with ExitStack() as stack:
        proxy = await start_failing(start, stack, failure, tier, upstream)
        response = await proxy.chat(model=tier, stream=stream)
        for call in upstream.calls:
            await call.closed()
        outcome = await proxy.finish()
    error = envelope_of(response)
    assert response.status_code == failure.status
    assert (error["code"], error["type"], error["param"]) == (failure.code, "server_error", None)
    if "request_timeout_seconds" not in str(failure.changes(tier)):
        assert f"The {tier} upstream" in error["message"]
    check_nothing_leaks(response.text)
    check_headers(response.headers, outcome.row)
    check_row(
        outcome.row, tier, failure.ending, status=failure.status, reason="forced", stream=stream
    )
    assert outcome.row["error"] == error["message"]
    check_failed_cost(outcome.row, failure, upstream, tier=tier)


@both_tiers
@both_forms
@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_upstream_error_response_passes(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, stream: bool, status: int
) -> None:
    body = error_json("It is not to be.")
    request.getfixturevalue(tier).answer = whole(body, status=status)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(model=tier, stream=stream)
    outcome = await proxy.finish()
    assert (response.status_code, response.content) == (status, body)
    check_headers(response.headers, outcome.row)
    check_row(outcome.row, tier, "upstream_error", status=status, reason="forced", stream=stream)
    assert outcome.row["cost_usd"] is None


# ── Upstream failures during a stream ─────────────────────────────────────────────────────────

FIRST_EVENTS = [
    event(chunk({"role": "assistant", "content": "Hel"})),
    event(chunk({"content": "lo"})),
]
IN_STREAM = {
    "reset": Failure("upstream_broken", answer=lambda: chunked(*FIRST_EVENTS, End.RESET)),
    "closed": Failure("upstream_broken", answer=lambda: chunked(*FIRST_EVENTS, End.FIN)),
    "cut-in-an-event": Failure(
        "upstream_broken", answer=lambda: chunked(*FIRST_EVENTS, b'data: {"choi', End.FIN)
    ),
    "no-finish": Failure("upstream_broken", answer=lambda: chunked(*FIRST_EVENTS)),
    "no-finish-in-an-event": Failure(
        "upstream_broken", answer=lambda: chunked(*FIRST_EVENTS, b'data: {"choi')
    ),
    "idle-timeout": Failure(
        "idle_timeout",
        answer=lambda: chunked(*FIRST_EVENTS, Gate()),
        changes=lambda tier: tier_timeouts(tier, idle=SHORT_SECONDS),
    ),
    "total-timeout": Failure(
        "total_timeout", answer=lambda: chunked(*FIRST_EVENTS, Gate()), changes=total_timeout
    ),
}


@both_tiers
@pytest.mark.parametrize("failure", IN_STREAM.values(), ids=IN_STREAM.keys())
async def test_interrupted_stream_ends_with_one_error_event(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, failure: Failure
) -> None:
    upstream = request.getfixturevalue(tier)
    with ExitStack() as stack:
        proxy = await start_failing(start, stack, failure, tier, upstream)
        response = await proxy.chat(text=QUESTIONS[tier], stream=True)
        outcome = await proxy.finish()
    received = b"".join(FIRST_EVENTS)
    assert response.status_code == 200
    assert response.content.startswith(received)
    last = response.content.removeprefix(received)
    assert last.startswith(b"data: ")
    assert last.endswith(b"}\n\n")
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == failure.code
    check_nothing_leaks(error["message"])
    check_headers(response.headers, outcome.row)
    check_row(outcome.row, tier, failure.ending, status=200, reason="score", stream=True)
    assert outcome.row["error"] == error["message"]
    assert outcome.row["response"] == "Hello"
    assert outcome.row["usage_source"] == "estimated"
    assert outcome.row["fallback_from"] is None


@both_tiers
@pytest.mark.parametrize(
    "events",
    [
        [event(error_json("CUDA ran out of memory"))],
        [event(error_json("CUDA ran out of memory")), DONE],
        [event(error_json("CUDA ran out of memory")).removesuffix(b"\n")],
        [b"event: error\n" + event(error_json("CUDA ran out of memory"))],
        [event(b'{"error":"CUDA ran out of memory"}')],
    ],
    ids=["alone", "with-done", "without-blank-line", "named-event", "error-as-a-string"],
)
async def test_upstream_error_event_passes_unchanged(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, events: list[bytes]
) -> None:
    request.getfixturevalue(tier).answer = chunked(*FIRST_EVENTS, *events)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(model=tier, stream=True)
    outcome = await proxy.finish()
    assert response.content == b"".join([*FIRST_EVENTS, *events])
    check_row(outcome.row, tier, "upstream_error", status=200, reason="forced", stream=True)


async def test_error_body_with_status_200_is_an_upstream_error(
    start: StartProxy, local: FakeUpstream
) -> None:
    """OpenAI's clients would take it for an answer without choices."""
    local.answer = whole(error_json("the model crashed"))
    proxy = await start()
    response = await proxy.chat(model="local")
    assert (response.status_code, envelope_of(response)["code"]) == (502, "bad_answer")
    assert "the model crashed" in envelope_of(response)["message"]
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "upstream_error", status=502, reason="forced", stream=False)


async def test_finish_reason_without_done_ends_the_stream(
    start: StartProxy, local: FakeUpstream
) -> None:
    events = [*FIRST_EVENTS, event(chunk({}, "stop"))]
    local.answer = chunked(*events)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(stream=True)
    outcome = await proxy.finish()
    assert response.content == b"".join(events)
    check_row(outcome.row, "local", "ok", status=200, reason="score", stream=True)


# ── Client disconnects ────────────────────────────────────────────────────────────────────────


@both_tiers
@both_forms
async def test_disconnect_in_the_queue_reaches_no_upstream(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, stream: bool
) -> None:
    upstream, gate = request.getfixturevalue(tier), Gate()
    upstream.answer = [gate, *whole(answer_json())]
    proxy = await start(ONE_AT_A_TIME)
    working = await proxy.connect(model=tier)
    await gate.reached()
    queued = await proxy.connect(text=QUESTIONS[tier], stream=stream)
    await proxy.queued(tier)
    await queued.leave()
    await proxy.settled(1, in_flight=1)
    gate.open()
    assert b'"Hello!"' in await working.read_until(b"}}")
    await working.leave()
    assert (await proxy.chat(model=tier)).status_code == 200
    outcome = await proxy.finish(3)
    check_row(outcome.rows[1], tier, "client_gone", status=None, reason="score", stream=stream)
    assert [row["ending"] for row in outcome.rows] == ["ok", "client_gone", "ok"]
    assert len(upstream.calls) == 2


@both_tiers
@both_forms
@pytest.mark.parametrize("how", ["leaves", "vanishes"])
async def test_disconnect_before_the_first_token_releases_the_upstream(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, stream: bool, how: str
) -> None:
    upstream, gate = request.getfixturevalue(tier), Gate()
    upstream.answer = [gate]
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(model=tier, stream=stream)
    await gate.reached()
    await client.leave() if how == "leaves" else client.vanish()
    await released(upstream.call)
    outcome = await proxy.finish()
    check_row(outcome.row, tier, "client_gone", status=None, reason="forced", stream=stream)
    assert outcome.row["cost_usd"] == (INPUT_USD if tier == "cloud" else None)
    assert outcome.row["usage_source"] == ("estimated" if tier == "cloud" else None)


@both_tiers
@pytest.mark.parametrize("how", ["leaves", "vanishes"])
async def test_disconnect_during_a_stream_records_the_partial_response(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, how: str
) -> None:
    upstream, gate = request.getfixturevalue(tier), Gate()
    upstream.answer = chunked(*FIRST_EVENTS, gate, *openai_events())
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(model=tier, stream=True)
    await client.read_until(b'"lo"')
    await client.leave() if how == "leaves" else client.vanish()
    await released(upstream.call)
    outcome = await proxy.finish()
    check_row(outcome.row, tier, "client_gone", status=200, reason="forced", stream=True)
    assert outcome.row["response"] == "Hello"
    assert outcome.row["usage_source"] == "estimated"
    assert outcome.row["input_tokens"] > 0
    assert outcome.row["output_tokens"] > 0


async def test_disconnect_during_a_complete_response_releases_the_upstream(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = chunked(b'{"choices"', gate, content_type="application/json")
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect()
    await gate.reached()
    await client.leave()
    await released(local.call)
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "client_gone", status=None, reason="score", stream=False)


async def test_disconnect_of_a_stalled_client_releases_the_upstream(
    start: StartProxy, local: FakeUpstream
) -> None:
    """The proxy waits for the client's socket here, not for the upstream's."""
    piece = event(chunk({"content": "x" * 100_000}))
    local.answer = chunked(*[piece] * 1000)
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(stream=True)
    await client.read_until(b"\r\n\r\n")
    client.vanish()
    await released(local.call)
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "client_gone", status=200, reason="score", stream=True)


async def test_stalled_client_is_dropped_at_the_request_timeout(
    start: StartProxy, local: FakeUpstream
) -> None:
    """It must not hold the upstream or the task beyond the request timeout."""
    piece = event(chunk({"content": "x" * 100_000}))
    local.answer = chunked(*[piece] * 1000)
    proxy = await start(ONE_AT_A_TIME | {"server": {"request_timeout_seconds": 0.3}})
    client = await proxy.connect(stream=True)
    await client.read_until(b"\r\n\r\n")
    await released(local.call)
    await proxy.settled()
    client.vanish()
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "timeout", status=200, reason="score", stream=True)


async def test_disconnect_during_the_upload_reaches_no_upstream(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect_raw(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"
    )
    await client.leave()
    outcome = await proxy.finish()
    check_row(outcome.row, None, "client_gone", status=None, reason=None, stream=False)
    assert local.calls == []


async def test_disconnect_frees_the_slot_for_the_next_request(
    start: StartProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = [gate]
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(model="local", stream=True)
    await gate.reached()
    local.answer = whole(answer_json())
    await client.leave()
    assert (await proxy.chat(model="local")).status_code == 200
    outcome = await proxy.finish(2)
    assert [row["ending"] for row in outcome.rows] == ["client_gone", "ok"]


# ── Fallback to the other tier ────────────────────────────────────────────────────────────────

# Refusals of the upstream's key, which the messages may contain.
REFUSALS = [
    whole(error_json(message), status=status)
    for status, message in (
        (401, f"Incorrect API key provided: {CLOUD_KEY}."),
        (
            403,
            "You have insufficient permissions for this operation. Missing scopes: model.request",
        ),
        (403, "Project `proj_1` does not have access to model `gpt-4o-mini`"),
    )
]
FALLBACK_FAILURES = (
    BEFORE_RESPONSE
    | {
        "server-error": Failure("server_error", answer=lambda: whole(error_json("No"), status=500)),
        "queue-full": Failure("server_error", answer=lambda: whole(error_json("busy"), status=503)),
        "rate-limited": Failure(
            "rate_limited", answer=lambda: whole(error_json("slow"), status=429)
        ),
        "out-of-quota": Failure(
            "rate_limited",
            answer=lambda: whole(error_json("No money", code="insufficient_quota"), status=429),
        ),
        "error-with-200": Failure(
            "server_error", answer=lambda: whole(error_json("crashed")), only="whole"
        ),
        "error-event-first": Failure(
            "server_error", answer=lambda: chunked(event(error_json("crashed"))), only="stream"
        ),
        "error-event-after-the-role": Failure(
            "server_error",
            answer=lambda: chunked(
                event(chunk({"role": "assistant", "content": ""})),
                event(error_json("crashed")),
                DONE,
            ),
            only="stream",
        ),
        "empty-stream": Failure("upstream_broken", answer=lambda: chunked(), only="stream"),
        "stream-reset-after-the-role": Failure(
            "upstream_broken",
            answer=lambda: chunked(event(chunk({"role": "assistant", "content": ""})), End.RESET),
            only="stream",
        ),
        "stream-that-stops-pinging": Failure(
            "first_token_timeout",
            answer=lambda: chunked(b": ping\n\n", Gate()),
            changes=lambda tier: tier_timeouts(tier, first_token=SHORT_SECONDS),
            only="stream",
        ),
        "stream-that-stops-thinking": Failure(
            "first_token_timeout",
            answer=lambda: chunked(event(chunk({"role": "assistant", "content": ""})), Gate()),
            changes=lambda tier: tier_timeouts(tier, first_token=SHORT_SECONDS),
            only="stream",
        ),
        "body-reset": Failure(
            "upstream_broken",
            answer=lambda: [head(headers=[("content-length", "100")]) + b'{"choices', End.RESET],
            only="whole",
        ),
    }
    | {
        f"key-refused-{number}": Failure("upstream_auth", answer=lambda answer=answer: answer)
        for number, answer in enumerate(REFUSALS)
    }
)
# Errors of Ollama, llama.cpp and vLLM about requests that only the cloud supports.
UNSUPPORTED_LOCALLY = {
    "model-missing": (404, "model_missing", "model 'phi3' not found"),
    "no-tools": (400, "capability", "registry.ollama.ai/library/phi3 does not support tools"),
    "too-long": (400, "context", "This model's maximum context length is 4096 tokens."),
    "too-long-for-llama": (400, "context", "the request exceeds the available context size"),
    **{
        f"unread-{number}": (400, "capability", message)
        for number, message in enumerate(
            [
                'invalid reasoning value: \'minimal\' (must be "high", "medium", or "low")',
                'input[0]: unknown input item type: "web_search_call"',
                "input[0]: content[0]: unknown content type: refusal",
                "invalid message content type: <nil>",
                "invalid message format",
                "invalid image input",
                "invalid tool call arguments",
                "file inputs are not currently supported",
            ]
        )
    },
}


@both_tiers
@pytest.mark.parametrize(("failure", "stream"), matrix(FALLBACK_FAILURES))
async def test_failed_tier_falls_back_to_the_other(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, failure: Failure, stream: bool
) -> None:
    other = OTHER[tier]
    events = openai_events()
    request.getfixturevalue(other).answer = chunked(*events) if stream else whole(answer_json())
    with ExitStack() as stack:
        upstream = request.getfixturevalue(tier)
        proxy = await start_failing(start, stack, failure, tier, upstream)
        response = await proxy.chat(
            text=QUESTIONS[tier], stream=stream, stream_options={"include_usage": True}
        )
        for call in upstream.calls:
            if not call.answered.is_set():
                await call.closed()
        outcome = await proxy.finish()
    assert response.status_code == 200
    assert response.content == (b"".join(events) if stream else answer_json())
    check_headers(response.headers, outcome.row)
    assert response.headers["x-router-fallback"] == f"{tier}->{other}:{failure.code}"
    check_row(outcome.row, other, "ok", status=200, reason="fallback", stream=stream)
    assert outcome.row["fallback_from"] == tier
    assert request.getfixturevalue(other).call.json["model"] == MODELS[other]
    if other == "cloud":
        assert outcome.row["cost_usd"] == pytest.approx(8.85e-6)
    else:
        check_failed_cost(outcome.row, failure, request.getfixturevalue(tier), tier=tier)
    samples = outcome.metrics
    labels = {"from_target": tier, "to_target": other, "reason": failure.code}
    assert samples("router_fallbacks_total", **labels) == 1


@both_forms
@pytest.mark.parametrize(
    ("tier", "model", "status"),
    [("cloud", "auto", status) for status in (400, 403, 413, 422)]
    + [(tier, tier, status) for tier in TIERS for status in (400, 402, 403, 404, 405, 413, 422)],
)
async def test_client_error_does_not_fall_back(
    start: StartProxy,
    request: pytest.FixtureRequest,
    tier: str,
    model: str,
    stream: bool,
    status: int,
) -> None:
    request.getfixturevalue(tier).answer = whole(error_json("No"), status=status)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(text=QUESTIONS[tier], model=model, stream=stream)
    outcome = await proxy.finish()
    assert response.status_code == status
    assert "x-router-fallback" not in response.headers
    reason = "score" if model == "auto" else "forced"
    check_row(outcome.row, tier, "upstream_error", status=status, reason=reason, stream=stream)
    assert request.getfixturevalue(OTHER[tier]).calls == []


EMPTY, PAGE = b"", b"<html><h1>Request Entity Too Large</h1></html>"


@both_forms
@pytest.mark.parametrize(
    ("tier", "status", "body"),
    [("local", status, error_json("No")) for status in (400, 402, 403, 404, 405, 410, 413, 422)]
    + [("cloud", status, error_json("No")) for status in (402, 404, 405, 410)]
    + [(tier, status, EMPTY) for tier in TIERS for status in (400, 403, 405, 413)]
    + [(tier, status, PAGE) for tier in TIERS for status in (400, 403, 413, 418)],
)
async def test_a_refusal_that_the_other_tier_may_not_share_falls_back(
    start: StartProxy,
    request: pytest.FixtureRequest,
    tier: str,
    status: int,
    body: bytes,
    stream: bool,
) -> None:
    """Servers differ in what they refuse. What comes from between is no word of the API."""
    upstream = request.getfixturevalue(tier)
    upstream.answer = whole(body, status=status)
    proxy = await start(ONE_AT_A_TIME)
    for _ in range(6):
        response = await proxy.chat(text=QUESTIONS[tier], stream=stream)
        assert (response.status_code, response.headers["x-router-target"]) == (200, OTHER[tier])
        assert response.headers["x-router-reason"] == "fallback"
    outcome = await proxy.finish(6)
    assert {row["ending"] for row in outcome.rows} == {"ok"}
    assert len(upstream.calls) >= 6  # its circuit breaker stays closed


async def test_the_cloud_has_the_last_word_on_a_refused_request(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = whole(error_json("I cannot read this."), status=400)
    cloud.answer = whole(error_json("Nor can I."), status=422)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat()
    assert (response.status_code, envelope_of(response)["message"]) == (422, "Nor can I.")
    assert (await proxy.finish()).row["ending"] == "upstream_error"


@both_tiers
@pytest.mark.parametrize("answer", REFUSALS, ids=["401", "scopes", "project"])
async def test_rejected_upstream_key_is_hidden_from_the_client(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, answer: Answer
) -> None:
    upstream = request.getfixturevalue(tier)
    upstream.answer = answer
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(model=tier)
    assert (response.status_code, envelope_of(response)["code"]) == (502, "upstream_auth")
    assert f"The {tier} upstream" in envelope_of(response)["message"]
    check_nothing_leaks(response.text)
    outcome = await proxy.finish()
    assert len(upstream.calls) == 1
    check_row(outcome.row, tier, "upstream_error", status=502, reason="forced", stream=False)


@both_forms
@pytest.mark.parametrize(
    ("status", "reason", "message"), UNSUPPORTED_LOCALLY.values(), ids=UNSUPPORTED_LOCALLY
)
async def test_unsupported_local_request_falls_back_to_the_cloud(
    start: StartProxy, local: FakeUpstream, stream: bool, status: int, reason: str, message: str
) -> None:
    local.answer = whole(error_json(message), status=status)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(stream=stream)
    assert response.status_code == 200
    assert response.headers["x-router-fallback"] == f"local->cloud:{reason}"
    outcome = await proxy.finish()
    assert len(local.calls) == 1
    check_row(outcome.row, "cloud", "ok", status=200, reason="fallback", stream=stream)


@pytest.mark.parametrize(
    ("status", "reason", "message"), UNSUPPORTED_LOCALLY.values(), ids=UNSUPPORTED_LOCALLY
)
async def test_forced_local_request_returns_the_local_error(
    start: StartProxy, local: FakeUpstream, status: int, reason: str, message: str
) -> None:
    local.answer = whole(error_json(message), status=status)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(model="local")
    assert (response.status_code, response.content) == (status, error_json(message))
    await proxy.finish()
    assert len(local.calls) == 1


# ── Retries of the same tier ──────────────────────────────────────────────────────────────────


def in_sequence(*answers: Answer) -> Callable[[Call], Answer]:
    """One answer for each request, in order; the last one is repeated."""
    remaining = list(answers)
    return lambda _: remaining.pop(0) if len(remaining) > 1 else remaining[0]


TRANSIENT = {
    "503": whole(error_json("busy"), status=503),
    "429": whole(error_json("slow down"), status=429, headers=[("retry-after-ms", "1")]),
    "409": whole(error_json("conflict"), status=409),
    "reset": [End.RESET],
    "error-with-200": whole(error_json("crashed")),
}


@both_tiers
@both_forms
@pytest.mark.parametrize("failure", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_forced_tier_is_retried(
    start: StartProxy, request: pytest.FixtureRequest, tier: str, stream: bool, failure: Answer
) -> None:
    upstream = request.getfixturevalue(tier)
    good = chunked(*openai_events()) if stream else whole(answer_json())
    upstream.answer = in_sequence(failure, failure, good)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(model=tier, stream=stream)
    assert response.status_code == 200
    assert "x-router-fallback" not in response.headers
    outcome = await proxy.finish()
    assert len(upstream.calls) == 3
    assert len({call.body for call in upstream.calls}) == 1
    check_row(outcome.row, tier, "ok", status=200, reason="forced", stream=stream)


@both_tiers
async def test_failing_tier_is_tried_three_times(
    start: StartProxy, request: pytest.FixtureRequest, tier: str
) -> None:
    upstream = request.getfixturevalue(tier)
    upstream.answer = TRANSIENT["503"]
    proxy = await start(ONE_AT_A_TIME)
    assert (await proxy.chat(model=tier)).status_code == 503
    await proxy.finish()
    assert len(upstream.calls) == 3


async def test_cloud_is_retried_once_before_the_local_fallback(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = in_sequence(TRANSIENT["503"], whole(answer_json()))
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(text=HARD)
    assert response.headers["x-router-target"] == "cloud"
    outcome = await proxy.finish()
    assert (len(cloud.calls), local.calls) == (2, [])
    check_row(outcome.row, "cloud", "ok", status=200, reason="score", stream=False)


async def test_long_retry_after_is_not_awaited(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = whole(error_json("slow"), status=429, headers=[("retry-after", "3600")])
    proxy = await start(ONE_AT_A_TIME)
    assert (await proxy.chat(text=HARD)).headers["x-router-target"] == "local"
    response = await proxy.chat(model="cloud")
    assert (response.status_code, response.headers["retry-after"]) == (429, "3600")
    await proxy.finish(2)
    assert len(cloud.calls) == 2


async def test_disconnect_during_the_backoff_stops_the_retries(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = whole(error_json("busy"), status=503, headers=[("retry-after", "4")])
    proxy = await start(ONE_AT_A_TIME)
    client = await proxy.connect(model="local")
    await local.called()
    await client.leave()
    outcome = await proxy.finish()
    check_row(outcome.row, "local", "client_gone", status=None, reason="forced", stream=False)
    assert len(local.calls) == 1


@both_tiers
async def test_fallback_can_be_disabled(
    start: StartProxy, request: pytest.FixtureRequest, tier: str
) -> None:
    request.getfixturevalue(tier).answer = [End.RESET]
    proxy = await start({"routing": {"fallback": False}})
    response = await proxy.chat(text=QUESTIONS[tier])
    outcome = await proxy.finish()
    assert response.status_code == 502
    check_row(outcome.row, tier, "upstream_error", status=502, reason="score", stream=False)
    assert request.getfixturevalue(OTHER[tier]).calls == []


@both_tiers
@both_forms
async def test_error_names_both_unreachable_tiers(
    start: StartProxy, tier: str, stream: bool
) -> None:
    with refused_address() as local, refused_address() as cloud:
        proxy = await start(ONE_AT_A_TIME, local=local, cloud=cloud)
        response = await proxy.chat(text=QUESTIONS[tier], stream=stream)
        outcome = await proxy.finish()
    error, other = envelope_of(response), OTHER[tier]
    assert response.status_code == 502
    assert error["code"] == "upstream_unreachable"
    assert f"The {other} upstream" in error["message"]
    assert f"The {tier} upstream" in error["message"]
    check_nothing_leaks(response.text)
    check_headers(response.headers, outcome.row)
    check_row(outcome.row, other, "upstream_error", status=502, reason="fallback", stream=stream)
    assert outcome.row["fallback_from"] == tier


@both_tiers
async def test_second_error_is_returned_when_both_tiers_fail(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, tier: str
) -> None:
    local.answer = whole(error_json("local failed"), status=500)
    cloud.answer = whole(error_json("cloud failed"), status=503)
    proxy = await start(ONE_AT_A_TIME)
    response = await proxy.chat(text=QUESTIONS[tier])
    outcome = await proxy.finish()
    other = OTHER[tier]
    assert response.content == error_json(f"{other} failed")
    check_headers(response.headers, outcome.row)
    check_row(
        outcome.row,
        other,
        "upstream_error",
        status=response.status_code,
        reason="fallback",
        stream=False,
    )


# ── Rejected requests ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "changes", "fields"),
    [
        pytest.param(400, {}, {"messages": "Hi"}, id="400"),
        pytest.param(401, {"server": {"api_keys": ["secret"]}}, {}, id="401"),
        pytest.param(404, {"routing": {"unknown_models": "reject"}}, {"model": "gpt-9"}, id="404"),
        pytest.param(413, {"server": {"max_body_mb": 0.001}}, {"text": "x" * 2000}, id="413"),
    ],
)
@both_forms
async def test_rejected_request_reaches_no_upstream(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    status: int,
    changes: dict[str, Any],
    fields: dict[str, Any],
    stream: bool,
) -> None:
    proxy = await start(changes)
    response = await proxy.chat(stream=stream, **fields)
    outcome = await proxy.finish()
    error = envelope_of(response)
    assert response.status_code == status
    check_headers(response.headers, outcome.row)
    seen = status == 404  # the others are rejected before the body is parsed
    check_row(outcome.row, None, "rejected", status=status, reason=None, stream=stream and seen)
    assert outcome.row["error"] == error["message"]
    assert (local.calls, cloud.calls) == ([], [])
    assert outcome.row["input_tokens"] is None


# ── Overhead and connections ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["done", "timeout", "client-gone"])
async def test_upstream_time_is_not_overhead(
    start: StartProxy, local: FakeUpstream, end: str
) -> None:
    seconds = 1.0
    held = Gate()
    local.answer = {
        "done": chunked(*ollama_events(), held),
        "timeout": [held],
        "client-gone": [held],
    }[end]
    proxy = await start(
        {"server": {"request_timeout_seconds": seconds}} if end == "timeout" else {}
    )
    client = await proxy.connect(model="local", stream=True)
    await held.reached()
    if end == "timeout":
        assert b"504" in await client.read_until(b"\r\n")
    await client.leave()
    outcome = await proxy.finish()
    overhead = outcome.metrics("router_overhead_seconds_sum")
    duration = outcome.row["duration_ms"] / 1e3
    assert 0 <= overhead <= duration
    assert outcome.metrics("router_upstream_seconds_count", target="local") == 1
    if end == "timeout":
        assert overhead < seconds / 2


async def test_connection_closed_by_the_upstream_is_not_reused(
    start: StartProxy, local: FakeUpstream
) -> None:
    """Servers close idle connections silently; the next request must not fail because of it."""
    local.answer = [*whole(answer_json()), End.FIN]
    proxy = await start(ONE_AT_A_TIME)
    for number in range(1, 4):
        response: httpx2.Response = await proxy.chat(model="local")
        assert response.status_code == 200
        await (await local.called(number)).closed()
    outcome = await proxy.finish(3)
    assert {row["ending"] for row in outcome.rows} == {"ok"}


# ── Concurrency ───────────────────────────────────────────────────────────────────────────────


async def test_concurrent_requests_with_mixed_endings_stay_separate(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """No request receives data of another, is lost or is counted twice."""
    never = Gate()
    scripts: list[Answer] = [
        whole(answer_json("whole")),
        chunked(*openai_events(["stream"])),
        whole(error_json("No"), status=500),
        chunked(*FIRST_EVENTS, End.RESET),
        [End.RESET],
        chunked(*FIRST_EVENTS, never),
    ]
    local.answer = cloud.answer = lambda call: scripts[call.json["script"]]
    proxy = await start(
        {"upstreams": {tier: {"max_concurrency": 3, "timeouts": {"idle": 30}} for tier in TIERS}}
    )

    async def ask(number: int) -> str:
        script, model = number % len(scripts), ["auto", "local", "cloud"][number % 3]
        if script == len(scripts) - 1:
            client = await proxy.connect(model=model, stream=True, script=script)
            await client.read_until(b'"lo"')
            client.vanish()
            return "client_gone"
        response = await proxy.chat(model=model, stream=script in (1, 3), script=script)
        if response.status_code != 200 or response.content.startswith(FIRST_EVENTS[0]):
            return "upstream_error"
        assert (b'"whole"' in response.content) == (script == 0)
        assert (b'"stream"' in response.content) == (script == 1)
        return "ok"

    endings = await asyncio.gather(*map(ask, range(90)))
    outcome = await proxy.finish(90)
    assert Counter(row["ending"] for row in outcome.rows) == Counter(endings)
    assert outcome.metrics("router_in_flight") == 0


async def test_replicas_of_a_tier_share_its_load(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    gate = Gate()
    async with FakeUpstream() as second:
        local.answer = second.answer = [gate, *whole(answer_json())]
        urls = [local.base_url, second.base_url]
        proxy = await start({"upstreams": {"local": {"base_url": urls}}})
        clients = [await proxy.connect(model="local") for _ in range(4)]
        for replica in (local, second):
            await replica.called(2)
        gate.open()
        for client in clients:
            assert b" 200 " in await client.read_until(b"\r\n")
            await client.leave()
        await proxy.finish(4)
        assert (len(local.calls), len(second.calls)) == (2, 2)


async def test_unhealthy_tier_receives_no_request(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start()
    upstreams = proxy.proxy.gateway.snapshot.upstreams
    unhealthy = {target: upstream.name == "local" for target, upstream in upstreams.items()}
    for target, upstream in upstreams.items():
        (replica,) = upstream._replicas
        replica.breaker.failures = 100 if unhealthy[target] else 0
        replica.start_request(upstream._clock())
        replica.in_flight = 0
    response = await proxy.chat()
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "unhealthy"
    forced = await proxy.chat(model="local")
    assert envelope_of(forced)["code"] == "upstream_unhealthy"
    outcome = await proxy.finish(2)
    assert local.calls == []
    assert [row["reason"] for row in outcome.rows] == ["unhealthy", "forced"]
    assert outcome.rows[0]["score"] == 0.9


# ── Overload ──────────────────────────────────────────────────────────────────────────────────


async def fill(proxy: LiveProxy, upstream: FakeUpstream, gate: Gate, waiting: int) -> list[Any]:
    """Occupy the local tier's only slot and queue `waiting` more requests."""
    upstream.answer = [gate, *whole(answer_json())]
    clients = [await proxy.connect(model="local")]
    await gate.reached()
    for number in range(waiting):
        clients.append(await proxy.connect(model="local"))
        await proxy.queued("local", number + 1)
    return clients


async def test_full_queue_rejects_forced_requests_and_falls_back_for_others(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    proxy, gate = await start(ONE_AT_A_TIME), Gate()
    slots = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]._slots
    slots._max_waiting = 2
    clients = await fill(proxy, local, gate, 2)
    forced = await proxy.chat(model="local")
    error = envelope_of(forced)
    assert (forced.status_code, error["code"]) == (503, "overloaded")
    assert int(forced.headers["retry-after"]) >= 1
    routed = await proxy.chat()
    assert routed.headers["x-router-fallback"] == "local->cloud:overloaded"
    gate.open()
    for client in clients:
        assert b" 200 " in await client.read_until(b"\r\n")
        await client.leave()
    outcome = await proxy.finish(5)
    assert Counter(row["ending"] for row in outcome.rows) == {"ok": 4, "upstream_error": 1}


@pytest.mark.parametrize("enabled", [True, False])
async def test_long_local_queue_overflows_to_the_cloud_if_enabled(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, enabled: bool
) -> None:
    proxy = await start(merge(ONE_AT_A_TIME, {"routing": {"spill_when_busy": enabled}}))
    gate = Gate()
    slots = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]._slots
    slots._seconds = 20.0  # the recent duration of a request
    clients = await fill(proxy, local, gate, 0)
    routed = asyncio.create_task(proxy.chat())
    if enabled:
        response = await routed
        assert response.headers["x-router-target"] == "cloud"
        assert response.headers["x-router-reason"] == "overload"
    else:
        await proxy.queued("local")
    gate.open()
    response = await routed
    assert response.status_code == 200
    assert (response.headers["x-router-target"] == "local") != enabled
    for client in clients:
        await client.leave()
    await proxy.finish(2)
