"""Refusals of real servers, in their own words: the other tier answers what one cannot.

`refusals.json` has them, with the version of the server, what of the request they are about, and
where they are quoted. `fault` marks those that are about the server, or that do not say that
they are about the request.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes import (
    EASY,
    HARD,
    Answer,
    Call,
    FakeUpstream,
    answer_json,
    chunked,
    error_json,
    openai_events,
    whole,
)
from live import LiveProxy, StartProxy, World
from proxy.gateway.failover import failure_of_answer
from proxy.record import Target
from servers.doubles.base import Refusal
from servers.requests import request_with

Record = dict[str, Any]
# Of a request that has all that servers refuse.
FEATURES = (
    "tools",
    "vision",
    "audio",
    "json_schema",
    "logprobs",
    "developer role",
    "system role",
    "order of roles",
    "assistant last",
)
SEARCH = "field:web_search_options"  # no local tier can answer instead

REFUSALS: list[Record] = json.loads(Path(__file__).with_name("refusals.json").read_text("utf-8"))


def _of(tier: str, *, without: Sequence[str] = ()) -> list[Any]:
    return [
        pytest.param(record, id=f"{record['server']}-{record['needs']}-{place}".replace(" ", ""))
        for place, record in enumerate(REFUSALS)
        if record["tier"] == tier and record["needs"] not in without
    ]


def refusal_of(record: Record) -> Refusal:
    return Refusal(record["status"], record["body"])


def request_of(record: Record, **fields: Any) -> bytes:
    return json.dumps(request_with(record["needs"]) | fields).encode()


def test_every_refusal_has_a_source() -> None:
    for record in REFUSALS:
        assert record.keys() <= set(
            "tier server version needs status body source note fault".split()
        )
        assert "/" in record["source"]
        assert record["status"] >= 400
    for server in ("vLLM", "LM Studio", "llama.cpp", "TGI", "SGLang", "Ollama"):
        assert sum(record["server"] == server for record in REFUSALS) >= 6


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("record", _of("local"))
async def test_the_cloud_answers_what_the_local_server_refuses(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, record: Record, streams: bool
) -> None:
    """And the local server, which is well, gets the next request that it can answer.

    The cloud refuses the first six requests, too. So they teach nothing of the local server, which
    is asked for each of them, and the client gets the cloud's word.
    """
    proxy = await start()
    clock = Clock(proxy)
    body = request_of(record, stream=streams)
    local.answer = refusal_of(record).answer()
    if not record.get("fault"):
        cloud.answer = whole(error_json("No."), status=400)
        for _ in range(6):
            local.calls.clear()
            response = await proxy.post(body)
            assert (response.status_code, response.content) == (400, error_json("No."))
            assert local.calls
            clock.now += 1.0
    local.calls.clear()
    cloud.answer = chunked(*openai_events()) if streams else whole(answer_json())
    response = await proxy.post(body)
    assert response.status_code == 200, response.text
    assert response.headers["x-router-fallback"].startswith("local->cloud:")
    assert response.headers["x-router-target"] == "cloud"
    if streams:
        assert response.text.endswith("data: [DONE]\n\n")
        assert "wörld" in response.text
    else:
        assert response.content == answer_json()
    assert local.calls
    row = await proxy.row_of(response)
    assert (row["fallback_from"], row["ending"], row["status"]) == ("local", "ok", 200)
    if record.get("fault"):
        return
    local.calls.clear()
    local.answer = whole(answer_json("Four."))
    response = await proxy.chat(text=EASY)
    assert response.headers["x-router-reason"] == "score"
    assert response.headers["x-router-target"] == "local"
    assert len(local.calls) == 1


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("record", _of("local"))
async def test_a_forced_request_gets_the_refusal_unchanged(world: World, record: Record) -> None:
    refusal = refusal_of(record)
    world.local.answer = refusal.answer()
    for body, headers in (
        (request_of(record, model="local"), None),
        (request_of(record), {"x-router-target": "local"}),
    ):
        response = await world.proxy.post(body, headers)
        assert response.status_code == refusal.status
        assert response.content == refusal.content
        assert "x-router-fallback" not in response.headers
        assert "x-router-adapted" not in response.headers
    assert not world.cloud.calls


class Clock:
    """A clock in place of the local tier's."""

    def __init__(self, proxy: LiveProxy) -> None:
        self.now = time.monotonic()
        upstream = proxy.proxy.gateway.snapshot.upstreams[Target.LOCAL]
        upstream._clock = lambda: self.now


@pytest.mark.parametrize("record", _of("cloud", without=["role", "tools", SEARCH]))
async def test_a_field_that_the_cloud_refuses_is_adapted_or_the_local_tier_answers(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, record: Record
) -> None:
    """The cloud refuses the field in these words, and answers without it."""
    name = record["needs"].rpartition(":")[2]
    value, refusal = _VALUES[name], refusal_of(record)

    def answer(call: Call) -> Answer:
        if name in call.json:
            return refusal.answer()
        return chunked(*openai_events()) if name == STREAM else whole(answer_json())

    cloud.answer = answer
    proxy = await start()
    fields = {"stream": True} if name == STREAM else {name: value}
    for calls in (2, 1):
        cloud.calls.clear()
        response = await proxy.chat(text=HARD, **fields)
        assert response.status_code == 200, response.text
        if name in MEANINGFUL:
            assert response.headers["x-router-fallback"].startswith("cloud->local:")
            assert "x-router-adapted" not in response.headers
            assert local.calls[-1].json[name] == value
            continue
        assert response.headers["x-router-target"] == "cloud"
        assert len(cloud.calls) == calls
        adapted = RENAMED.get(name, name) if name != STREAM else None
        assert response.headers.get("x-router-adapted") == adapted


STREAM = "stream_options"  # that of the proxy
MEANINGFUL = ("stop",)
RENAMED = {
    "max_tokens": "max_tokens->max_completion_tokens",
    "max_completion_tokens": "max_completion_tokens->max_tokens",
}
_VALUES = {
    "max_tokens": 50,
    "max_completion_tokens": 50,
    "temperature": 0.2,
    "top_p": 0.5,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "seed": 1,
    "top_k": 40,
    "num_keep": 4,
    "keep_alive": "5m",
    "thinking": {"type": "disabled"},
    "reasoning": {"effort": "low"},
    "reasoning_effort": "low",
    "stop": ["\n"],
    "stream_options": None,
}


def test_the_words_of_most_refusals_say_what_is_refused() -> None:
    local = [item for item in REFUSALS if item["tier"] == "local" and not item.get("fault")]
    why = [
        failure_of_answer(
            item["status"],
            [],
            target=Target.LOCAL,
            error=refusal_of(item).content,
            features=FEATURES,
        )
        for item in local
    ]
    known = [failure for failure in why if failure is not None and failure.why != "refused"]
    assert len(known) >= 0.75 * len(local)


# ── What one refusal teaches ──────────────────────────────────────────────────────────────────

# Refusals of one form of a feature by a server that has the feature: a plain request with it, what
# the odd request has besides, and the words.
ONE_FORM = [
    ("system", "system, order", "After the optional system message, conversation roles must"),
    ("tools", "tool_choice", "Invalid tool_choice type: 'object'"),
    ("tools", "tools", "invalid tool call arguments"),
    ("tools", "json_schema", "Cannot use custom grammar constraints with tools."),
    ("tools", "logprobs", "logprobs is not supported with tools + stream"),
    ("tools", "role", "Cannot pass both content and thinking in an assistant message"),
    ("tools", "role", "After the optional system message, conversation roles must"),
    ("vision", "vision", "invalid image input"),
    ("json_schema", "tools", "Cannot use custom grammar constraints with tools."),
]


@pytest.mark.parametrize(("feature", "other", "words"), ONE_FORM)
async def test_a_server_that_has_a_feature_is_asked_for_it_again(
    start: StartProxy, local: FakeUpstream, feature: str, other: str, words: str
) -> None:
    """It has answered with the feature, so a refusal is about that one request."""
    (record,) = [item for item in REFUSALS if words in json.dumps(item["body"])]
    plain = json.dumps(request_with(feature)).encode()
    odd = json.dumps(request_with(feature) | request_with(other)).encode()
    proxy = await start()
    targets = []
    for body, answer in (
        (plain, whole(answer_json('{"sum": 4}'))),
        (odd, refusal_of(record).answer()),
        (plain, whole(answer_json('{"sum": 4}'))),
    ):
        local.answer = answer
        response = await proxy.post(body)
        assert response.status_code == 200
        targets.append(response.headers["x-router-target"])
    assert targets == ["local", "cloud", "local"]
