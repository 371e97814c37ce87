"""Hard checks of local answers: a bad one is replaced by the cloud's before the client gets it."""

import json
from typing import Any

import httpx2
import pytest

from fakes import (
    DONE,
    EASY,
    Answer,
    End,
    FakeUpstream,
    Gate,
    Pause,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    refused_address,
    response_answer,
    response_fields,
    whole,
)
from live import LOCAL_MODEL, StartProxy, envelope_of
from proxy.gateway import answer_checks

SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "required": ["city"], "properties": {"city": {}}},
        },
    }
]
# easy: the stub model sends prompts with this word to the local tier
OPTIONS = f"{EASY} Which of the following is a fruit?\nA) iron\nB) apple\nC) chair"


def answered(text: str = "", *, finish: str | None = "stop", **message: Any) -> Answer:
    body = json.loads(answer_json(text))
    [choice] = body["choices"]
    choice["finish_reason"] = finish
    choice["message"] |= message
    return whole(json.dumps(body).encode())


def calling(name: str, arguments: str) -> Answer:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    return answered(finish="tool_calls", content=None, tool_calls=[call])


# The rule that an answer breaks, the answer, and fields of the request.
BROKEN: dict[str, tuple[str, Answer, dict[str, Any]]] = {
    "empty": ("empty", answered("  \n"), {}),
    "only thinking": ("empty", answered("<think>What is this?</think>"), {}),
    "no finish": ("unfinished", answered("Hello", finish=None), {}),
    "cut off": ("cut_off", answered("The list goes on", finish="length"), {}),
    "cut off before the limit": (
        "cut_off",
        answered("The list goes on", finish="length"),
        {"max_tokens": 500},
    ),
    "loop": ("repetition", answered("Then the cat sat down on the mat again. " * 200), {}),
    "no JSON": ("json", answered("Sure! He is 40."), {"response_format": {"type": "json_object"}}),
    "another schema": ("json", answered('{"age": "forty"}'), {"response_format": FORMAT}),
    "arguments": ("tool_arguments", calling("weather", '{"city": "Ro'), {"tools": TOOLS}),
    "unknown tool": ("tool_arguments", calling("news", '{"city": "Rome"}'), {"tools": TOOLS}),
    "no option": (
        "no_option",
        answered("Fruits are the seed-bearing structures of flowering plants."),
        {"messages": [{"role": "user", "content": OPTIONS}]},
    ),
    "refusal": (
        "refusal",
        answered("I'm sorry, but as an AI language model I cannot browse the internet."),
        {},
    ),
}

GOOD: dict[str, tuple[Answer, dict[str, Any]]] = {
    "text": (answered("Hello!"), {}),
    "the client's limit": (answered("The list goes on", finish="length"), {"max_tokens": 10}),
    "schema": (answered('{"age": 40}'), {"response_format": FORMAT}),
    "tool": (calling("weather", '{"city": "Rome"}'), {"tools": TOOLS}),
    "option": (
        answered("The answer is (B)."),
        {"messages": [{"role": "user", "content": OPTIONS}]},
    ),
    "own form": (whole(b'{"choices": [{"message": {"content": "Hi"}, "finish_reason": 7}]}'), {}),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_the_cloud_replaces_a_local_answer_that_fails_a_check(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    rule, local.answer, fields = BROKEN[name]
    cloud.answer = whole(answer_json("Better."))
    proxy = await start()
    response = await proxy.chat(**fields)
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Better."
    assert response.headers["x-router-target"] == "cloud"
    assert response.headers["x-router-reason"] == "escalated"
    assert response.headers["x-router-fallback"] == f"local->cloud:{rule}"
    outcome = await proxy.finish()
    row = outcome.row
    assert (row["target"], row["reason"], row["fallback_from"]) == ("cloud", "escalated", "local")
    assert (row["failed_check"], row["fallback_why"]) == (rule, rule)
    assert row["discarded_tokens"] == 10
    assert row["saved_usd"] == 0
    assert row["cost_usd"] == row["cloud_cost_usd"] > 0
    assert outcome.metrics("router_fallbacks_total", reason=rule) == 1
    assert outcome.metrics("router_discarded_tokens_total") == 10


@pytest.mark.parametrize("name", GOOD)
async def test_a_good_answer_is_relayed_unchanged(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, name: str
) -> None:
    local.answer, fields = GOOD[name]
    proxy = await start()
    response = await proxy.chat(**fields)
    assert response.headers["x-router-target"] == "local"
    [sent] = local.answer
    assert isinstance(sent, bytes)
    assert sent.endswith(response.content)
    row = (await proxy.finish()).row
    assert (row["failed_check"], row["discarded_tokens"]) == (None, None)
    assert not cloud.calls


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (whole(error_json("overloaded"), status=503), "server_error"),
        (
            whole(b'{"error": {"message": "no quota", "code": "insufficient_quota"}}', status=429),
            "rate_limited",
        ),
        (chunked(b"{", End.FIN, content_type="application/json"), "upstream_broken"),
        (whole(error_json("too long", kind="invalid_request_error"), status=400), "upstream_4xx"),
        (whole(error_json("no model"), status=404), "refused"),
    ],
    ids=["503", "quota", "broken", "400", "404"],
)
async def test_the_local_answer_is_sent_if_the_cloud_fails(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, failure: Answer, why: str
) -> None:
    local.answer, cloud.answer = answered("The list goes on", finish="length"), failure
    proxy = await start()
    response = await proxy.chat()
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "The list goes on"
    assert response.headers["x-router-target"] == "local"
    assert response.headers["x-router-reason"] == "fallback"
    assert response.headers["x-router-fallback"] == f"cloud->local:{why}"
    row = (await proxy.finish()).row
    assert (row["target"], row["ending"], row["failed_check"]) == ("local", "ok", "cut_off")
    assert (row["fallback_from"], row["fallback_why"]) == ("cloud", why)
    assert row["discarded_tokens"] is None
    assert row["output_tokens"] == 10
    assert (row["cost_usd"] > 0) == (why == "upstream_broken")


async def test_the_local_answer_is_sent_if_the_cloud_is_too_slow(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer, cloud.answer = answered("The list goes on", finish="length"), [Gate()]
    proxy = await start({"server": {"request_timeout_seconds": 0.4}})
    response = await proxy.chat()
    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "The list goes on"
    assert response.headers["x-router-target"] == "local"
    await cloud.call.closed()
    row = (await proxy.finish()).row
    assert (row["ending"], row["failed_check"]) == ("ok", "cut_off")
    assert (row["fallback_from"], row["fallback_why"]) == ("cloud", "total_timeout")
    assert row["cost_usd"] > 0  # the cloud may bill what it was sent


async def test_a_started_stream_ends_with_the_error_of_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The client of a stream got a complete local answer, and then comments of the cloud."""
    local.answer = answered("The list goes on", finish="length")
    cloud.answer = chunked(b": thinking\n\n", Pause(0.3), End.FIN)
    proxy = await start({"server": {"hold_seconds": 0.1}})
    client = await proxy.connect(stream=True)
    body = await client.read_until(b"}}\n\n")
    assert b"The cloud upstream" in body
    await client.leave()
    row = (await proxy.finish()).row
    assert (row["target"], row["ending"]) == ("cloud", "upstream_error")
    assert (row["failed_check"], row["discarded_tokens"]) == ("cut_off", 10)


async def test_a_finished_stream_is_complete_when_the_time_is_over(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = chunked(*openai_events(), Gate())
    proxy = await start({"server": {"request_timeout_seconds": 0.4}})
    response = await proxy.chat(stream=True)
    assert b"[DONE]" in response.content
    assert (await proxy.finish()).row["ending"] == "ok"


async def test_a_failed_cloud_attempt_counts_against_the_budget(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """It was sent and may be billed, although the local answer is the one that is relayed."""
    local.answer = answered("The list goes on", finish="length")
    cloud.answer = chunked(b"{", End.FIN, content_type="application/json")
    proxy = await start({"budget": {"cloud_usd_per_day": 1.0}})
    assert (await proxy.chat()).headers["x-router-target"] == "local"
    outcome = await proxy.finish()
    assert outcome.row["cost_usd"] > 0
    assert outcome.metrics("router_budget_spent_usd") == pytest.approx(outcome.row["cost_usd"])


@pytest.mark.parametrize("count", [-1, 10**30, "many", None])
async def test_discarded_tokens_are_counted_if_the_server_reports_none(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, count: object
) -> None:
    body = json.loads(answer_json("The list goes on"))
    body["choices"][0]["finish_reason"] = "length"
    body["usage"]["completion_tokens"] = count
    local.answer, cloud.answer = whole(json.dumps(body).encode()), whole(answer_json("Better."))
    proxy = await start()
    assert (await proxy.chat()).headers["x-router-reason"] == "escalated"
    outcome = await proxy.finish()
    assert 1 <= outcome.row["discarded_tokens"] <= 10
    assert outcome.metrics("router_discarded_tokens_total") == outcome.row["discarded_tokens"]


async def test_a_bug_of_a_check_does_not_cost_the_answer(
    start: StartProxy, local: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(answer_checks, "failed_check", fail)
    local.answer = answered("")
    proxy = await start()
    response = await proxy.chat()
    assert (response.status_code, response.headers["x-router-target"]) == (200, "local")
    assert (await proxy.finish()).row["failed_check"] is None


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 500}], ids=str)
async def test_a_text_completion_without_a_limit_has_that_of_the_api(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, fields: dict[str, Any]
) -> None:
    """Servers such as vLLM end it after 16 tokens, as OpenAI does."""
    body = json.loads(answer_json())
    body["choices"] = [{"index": 0, "text": "and so on", "finish_reason": "length"}]
    body["usage"]["completion_tokens"] = 16
    local.answer = whole(json.dumps(body).encode())
    cloud.answer = whole(error_json("no chat model"), status=404)
    proxy = await start()
    request = {"model": "auto", "prompt": EASY, **fields}
    response = await proxy.client.post("/v1/completions", json=request)
    assert response.json()["choices"][0]["text"] == "and so on"
    row = (await proxy.finish()).row
    assert row["failed_check"] == (None if not fields else "cut_off")
    assert row["fallback_from"] == (None if not fields else "cloud")


async def test_the_local_answer_is_sent_if_the_cloud_cannot_be_reached(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = answered("The list", finish="length")
    with refused_address() as address:
        proxy = await start(cloud=address)
        response = await proxy.chat()
        assert response.status_code == 200
        assert response.headers["x-router-target"] == "local"
        await proxy.finish()


async def test_a_priced_local_answer_is_billed_once(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    price = {"upstreams": {"local": {"price": {"input": 1.0, "output": 2.0}}}}
    local_usd = (19 * 1.0 + 10 * 2.0) / 1e6
    local.answer = answered("The list goes on", finish="length")
    cloud.answer = whole(answer_json("Better."))
    proxy = await start(price)
    await proxy.chat()
    cloud.answer = whole(error_json("overloaded"), status=503)
    await proxy.chat()
    escalated, kept = (await proxy.finish(requests=2)).rows
    assert escalated["cost_usd"] - local_usd == pytest.approx(
        (19 * 0.15 + 10 * 0.6) / 1e6, abs=1e-12
    )
    assert kept["cost_usd"] == pytest.approx(local_usd, abs=1e-12)


async def test_a_forced_tier_is_recorded_and_not_replaced(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = answered("The list goes on", finish="length")
    proxy = await start()
    response = await proxy.chat(model="local")
    assert response.headers["x-router-target"] == "local"
    row = (await proxy.finish()).row
    assert (row["failed_check"], row["reason"]) == ("cut_off", "forced")
    assert not cloud.calls


@pytest.mark.parametrize(
    ("changes", "header", "is_checked", "is_replaced"),
    [
        ({}, None, True, True),
        ({}, "off", False, False),
        ({}, "ON", True, True),
        ({"verify": {"mode": "off"}}, None, False, False),
        ({"verify": {"mode": "off"}}, "on", True, True),
        ({"routing": {"fallback": False}}, None, True, False),
    ],
)
async def test_who_wants_checks(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    changes: dict[str, Any],
    header: str | None,
    *,
    is_checked: bool,
    is_replaced: bool,
) -> None:
    local.answer, cloud.answer = answered("", finish="stop"), whole(answer_json("Better."))
    proxy = await start(changes)
    headers = {} if header is None else {"x-router-verify": header}
    response = await proxy.chat(headers=headers)
    assert response.headers["x-router-target"] == ("cloud" if is_replaced else "local")
    row = (await proxy.finish()).row
    assert row["failed_check"] == ("empty" if is_checked else None)


async def test_a_reload_switches_the_checks_off(start: StartProxy, local: FakeUpstream) -> None:
    local.answer = answered("")
    proxy = await start()
    assert (await proxy.chat()).headers["x-router-target"] == "cloud"
    proxy.configure({"verify": {"mode": "off"}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot.config.verify.mode == "off")
    response = await proxy.chat(text=f"{EASY} Another conversation.")
    assert response.headers["x-router-target"] == "local"


async def test_another_header_is_refused(start: StartProxy) -> None:
    proxy = await start()
    response = await proxy.chat(headers={"x-router-verify": "maybe"})
    assert response.status_code == 400
    assert envelope_of(response)["param"] == "x-router-verify"
    assert (await proxy.finish()).row["ending"] == "rejected"


async def test_a_spent_budget_keeps_the_local_answer(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.answer = answered("The list", finish="length")
    proxy = await start({"budget": {"cloud_usd_per_day": 0.0}})
    response = await proxy.chat()
    assert response.headers["x-router-target"] == "local"
    row = (await proxy.finish()).row
    assert (row["failed_check"], row["ending"]) == ("cut_off", "ok")
    assert not cloud.calls


async def test_the_responses_api_is_checked(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cut = response_fields("The list goes on") | {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    local.answer = whole(json.dumps(cut).encode())
    cloud.answer = response_answer("Better.")
    proxy = await start()
    response = await proxy.client.post("/v1/responses", json={"model": "auto", "input": EASY})
    assert response.headers["x-router-reason"] == "escalated"
    assert "Better." in response.text
    assert (await proxy.finish()).row["failed_check"] == "cut_off"


async def test_a_stream_is_sent_and_its_failed_check_recorded(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    events = [
        event(chunk({"role": "assistant", "content": "The list"})),
        event(chunk({"content": " goes on"}, finish="length")),
        *openai_events()[-2:],
    ]
    local.answer = chunked(*events)
    proxy = await start()
    response = await proxy.chat(stream=True)
    assert b"The list" in response.content
    assert response.headers["x-router-target"] == "local"
    row = (await proxy.finish()).row
    assert (row["target"], row["ending"], row["failed_check"]) == ("local", "ok", "cut_off")
    assert not cloud.calls


async def test_a_stream_with_several_choices_is_not_checked(
    start: StartProxy, local: FakeUpstream
) -> None:
    texts = [chunk({"content": '{"a": 1}'}, finish="stop") for _ in range(2)]
    texts[1]["choices"][0]["index"] = 1
    local.answer = chunked(*map(event, texts), DONE)
    proxy = await start()
    json_object = {"type": "json_object"}
    response = await proxy.chat(stream=True, n=2, response_format=json_object)
    assert response.headers["x-router-target"] == "local"
    assert (await proxy.finish()).row["failed_check"] is None


async def test_a_stream_keeps_the_failed_check_of_an_earlier_attempt(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """A local server that answers a streamed request with a complete answer."""
    local.answer, cloud.answer = answered(""), chunked(*openai_events())
    proxy = await start()
    response = await proxy.chat(stream=True)
    assert response.headers["x-router-reason"] == "escalated"
    row = (await proxy.finish()).row
    assert (row["target"], row["failed_check"], row["discarded_tokens"]) == ("cloud", "empty", 10)


async def test_a_client_that_leaves_during_the_escalation_cancels_the_cloud(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    gate = Gate()
    local.answer, cloud.answer = answered("The list", finish="length"), [gate]
    proxy = await start()
    client = await proxy.connect()
    await gate.reached()
    await client.leave()
    await cloud.call.closed()
    row = (await proxy.finish()).row
    assert (row["ending"], row["failed_check"]) == ("client_gone", "cut_off")


async def test_other_models_of_the_local_tier_are_checked_alike(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = answered("", finish="stop")
    proxy = await start()
    response: httpx2.Response = await proxy.chat(model=LOCAL_MODEL)
    assert response.headers["x-router-target"] == "local"
    assert (await proxy.finish()).row["failed_check"] == "empty"
