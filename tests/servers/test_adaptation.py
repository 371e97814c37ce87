"""Fields that only one tier knows: they are renamed or left out for it, once, and then at once.

The doubles check the fields of every request and count the requests. So a test sees how many
requests a tier got, and what was in the last one.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fakes import (
    DONE,
    EASY,
    HARD,
    Answer,
    Call,
    FakeUpstream,
    answer_json,
    chunked,
    event,
    openai_events,
    whole,
)
from live import LiveProxy, StartProxy
from servers.doubles.azure import OldAzure
from servers.doubles.base import TEXT, Server
from servers.doubles.databricks import Databricks
from servers.doubles.mistral import Mistral, StrictFastApi
from servers.doubles.openai_api import OpenAi, ReasoningOpenAi
from servers.doubles.tgi import Tgi
from servers.doubles.vllm import OldVllm, Vllm
from servers.requests import NAMED_TOOL, SCHEMA, TOOL

Fields = dict[str, Any]
STREAM: Fields = {"stream": True}
NEW_LIMIT, OLD_LIMIT = {"max_completion_tokens": 50}, {"max_tokens": 50}
TO_NEW, TO_OLD = "max_tokens->max_completion_tokens", "max_completion_tokens->max_tokens"


class Stage:
    """A proxy with a double as one of its tiers, for requests that are routed to it."""

    def __init__(self, proxy: LiveProxy, server: Server, tier: str) -> None:
        self.proxy, self.server, self.tier = proxy, server, tier
        self.text = EASY if tier == "local" else HARD

    async def ask(self, **fields: Any) -> Any:
        return await self.proxy.chat(text=self.text, **fields)

    @property
    def sent(self) -> Fields:
        """The fields of the last request that the double got."""
        return dict(self.server.call_fields(-1))


@pytest.fixture
async def stage(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, kind: type[Server], tier: str
) -> AsyncIterator[Stage]:
    for other in (local, cloud):
        other.answer = lambda call: (
            chunked(*openai_events()) if call.json.get("stream") else _plain()
        )
    async with kind() as server:
        tiers = {"local": local, "cloud": cloud} | {tier: server}
        changes = {"upstreams": {tier: {"model": server.model}}}
        proxy = await start(changes, local=tiers["local"], cloud=tiers["cloud"])
        yield Stage(proxy, server, tier)


def _plain() -> Any:
    return whole(answer_json("From the other tier."))


def text_of(response: Any) -> str:
    """The text of a whole answer or of a stream."""
    assert response.status_code == 200, response.text
    if not response.headers["content-type"].startswith("text/event-stream"):
        text = response.json()["choices"][0]["message"]["content"]
        assert isinstance(text, str)
        return text
    assert response.text.endswith("data: [DONE]\n\n")
    chunks = [json.loads(line[6:]) for line in response.text.split("\n\n") if "{" in line]
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


def adapted(response: Any) -> set[str]:
    """What the header names."""
    value = response.headers.get("x-router-adapted", "")
    return set(value.split(", ")) - {""}


SAMPLER: Fields = {"keep_alive": "5m", "options": {"num_ctx": 8192}, "top_k": 40}

ADAPTED = [
    (ReasoningOpenAi, "cloud", OLD_LIMIT, {TO_NEW}),
    (ReasoningOpenAi, "cloud", {"temperature": 0.2}, {"temperature"}),
    (ReasoningOpenAi, "cloud", OLD_LIMIT | {"temperature": 0.2}, {TO_NEW, "temperature"}),
    (ReasoningOpenAi, "cloud", {"top_p": 0.5}, {"top_p"}),
    (ReasoningOpenAi, "cloud", {"presence_penalty": 0.5}, {"presence_penalty"}),
    (ReasoningOpenAi, "cloud", STREAM | OLD_LIMIT, {TO_NEW}),
    (OpenAi, "cloud", SAMPLER, set(SAMPLER)),
    (OpenAi, "cloud", {"keep_alive": "5m"}, {"keep_alive"}),
    (OpenAi, "cloud", {"top_k": 40}, {"top_k"}),
    (OpenAi, "cloud", {"num_keep": 4}, {"num_keep"}),
    (OpenAi, "cloud", {"repeat_penalty": 1.1, "think": False}, {"repeat_penalty", "think"}),
    (OpenAi, "cloud", {"cache_prompt": True}, {"cache_prompt"}),
    (OpenAi, "cloud", {"chat_template_kwargs": {}}, {"chat_template_kwargs"}),
    (Mistral, "cloud", STREAM, set()),
    (Mistral, "cloud", NEW_LIMIT, {TO_OLD}),
    (Mistral, "cloud", STREAM | NEW_LIMIT, {TO_OLD}),
    (StrictFastApi, "cloud", STREAM, set()),
    (StrictFastApi, "cloud", NEW_LIMIT, {TO_OLD}),
    (StrictFastApi, "cloud", {"keep_alive": "5m"}, {"keep_alive"}),
    (OldAzure, "cloud", STREAM, set()),
    (OldAzure, "cloud", NEW_LIMIT, {TO_OLD}),
    (Databricks, "cloud", STREAM, set()),
    (Databricks, "cloud", NEW_LIMIT, {TO_OLD}),
    (OldVllm, "local", STREAM, set()),
    (OldVllm, "local", NEW_LIMIT, {TO_OLD}),
    (OldVllm, "local", {"keep_alive": "5m"}, {"keep_alive"}),
    (StrictFastApi, "local", STREAM, set()),
    (StrictFastApi, "local", NEW_LIMIT, {TO_OLD}),
    (Databricks, "local", STREAM, set()),
]


def _id(value: Any) -> str | None:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, dict):
        return "+".join(value)
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("kind", "tier", "fields", "named"), ADAPTED, ids=_id)
async def test_request_succeeds_at_the_tier_and_the_next_one_at_once(
    stage: Stage, fields: Fields, named: set[str]
) -> None:
    first = await stage.ask(**fields)
    assert text_of(first) == TEXT
    assert adapted(first) == named
    assert 2 <= len(stage.server.calls) <= 1 + max(1, len(named) + ("stream" in fields))
    stage.server.calls.clear()
    second = await stage.ask(**fields)
    assert text_of(second) == TEXT
    assert adapted(second) == named
    assert len(stage.server.calls) == 1
    for response in (first, second):
        assert response.headers["x-router-target"] == stage.tier
        assert "x-router-fallback" not in response.headers
    for name in named:
        old, _, new = name.partition("->")
        assert old not in stage.sent
        if new:
            assert stage.sent[new] == fields[old]
    rows = (await stage.proxy.finish(2)).rows
    assert [(row["target"], row["ending"]) for row in rows] == [(stage.tier, "ok")] * 2


@pytest.mark.parametrize(("kind", "tier"), [(ReasoningOpenAi, "cloud")])
async def test_what_was_learnt_of_one_field_holds_for_other_requests(stage: Stage) -> None:
    await stage.ask(max_tokens=50)
    stage.server.calls.clear()
    response = await stage.ask(max_tokens=70, seed=1)
    assert len(stage.server.calls) == 1
    assert (stage.sent["max_completion_tokens"], stage.sent["seed"]) == (70, 1)
    stage.server.calls.clear()
    response = await stage.ask()
    assert "x-router-adapted" not in response.headers
    assert len(stage.server.calls) == 1


@pytest.mark.parametrize(("kind", "tier"), [(ReasoningOpenAi, "cloud")])
async def test_a_value_that_the_tier_takes_stays(stage: Stage) -> None:
    response = await stage.ask(temperature=1)
    assert "x-router-adapted" not in response.headers
    assert stage.sent["temperature"] == 1


@pytest.mark.parametrize(("kind", "tier"), [(OpenAi, "cloud")])
async def test_the_other_tier_gets_the_fields_that_this_one_does_not_know(
    stage: Stage, local: FakeUpstream
) -> None:
    await stage.ask(**SAMPLER)
    response = await stage.proxy.chat(text=EASY, **SAMPLER)
    assert response.headers["x-router-target"] == "local"
    assert "x-router-adapted" not in response.headers
    assert SAMPLER.items() <= local.call.json.items()


# ── Fields with a meaning ─────────────────────────────────────────────────────────────────────

MEANINGFUL = [
    (ReasoningOpenAi, "cloud", {"stop": ["\n"]}),
    (ReasoningOpenAi, "cloud", {"stop": ["\n"], "temperature": 0.2}),
    (ReasoningOpenAi, "cloud", {"logprobs": True}),
    (ReasoningOpenAi, "cloud", {"logit_bias": {"50256": -100}}),
    (OpenAi, "cloud", {"guided_json": {"type": "object"}}),
    (OpenAi, "cloud", {"guided_choice": ["yes", "no"]}),
    (OpenAi, "cloud", {"guided_regex": "[0-9]+"}),
    (OpenAi, "cloud", {"grammar": "root ::= [0-9]+"}),
    (OpenAi, "cloud", {"structured_outputs": {"choice": ["yes", "no"]}}),
    (OpenAi, "cloud", {"grammar": "root ::= [0-9]+", "keep_alive": "5m"}),
    (Databricks, "cloud", {"functions": [TOOL["function"]]}),
    (OldVllm, "local", {"grammar": "root ::= [0-9]+"}),
    (OldVllm, "local", {"functions": [TOOL["function"]]}),
    (OldVllm, "local", {"tools": [TOOL], "tool_choice": NAMED_TOOL}),
    (Tgi, "local", {"response_format": SCHEMA}),
    (Tgi, "local", {"stop": ["a", "b", "c", "d", "e"]}),
    (Vllm, "local", {"tools": [TOOL]}),
]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "tier", "fields"), MEANINGFUL, ids=_id)
async def test_a_field_with_a_meaning_is_never_left_out(
    stage: Stage, local: FakeUpstream, cloud: FakeUpstream, fields: Fields, streams: bool
) -> None:
    """The other tier answers, and gets all fields."""
    response = await stage.ask(stream=streams, **fields)
    other, name = (local, "local") if stage.tier == "cloud" else (cloud, "cloud")
    assert text_of(response) in (TEXT, "From the other tier.")
    assert response.headers["x-router-target"] == name
    assert response.headers["x-router-fallback"].startswith(f"{stage.tier}->{name}:")
    assert "x-router-adapted" not in response.headers
    assert fields.items() <= other.call.json.items()
    kept = {key: value for key, value in fields.items() if key not in ("keep_alive", "temperature")}
    for call in stage.server.calls:
        assert kept.items() <= call.json.items()


# ── Forced requests ───────────────────────────────────────────────────────────────────────────

REFUSED = [
    (ReasoningOpenAi, "cloud", OLD_LIMIT),
    (ReasoningOpenAi, "cloud", {"temperature": 0.2}),
    (OpenAi, "cloud", SAMPLER),
    (Mistral, "cloud", NEW_LIMIT),
    (StrictFastApi, "cloud", {"keep_alive": "5m"}),
    (OldAzure, "cloud", NEW_LIMIT),
    (OldVllm, "local", NEW_LIMIT),
    (OldVllm, "local", {"grammar": "root ::= [0-9]+"}),
    (Mistral, "cloud", STREAM | {"stream_options": {"include_usage": True}}),
]


@pytest.mark.parametrize(("kind", "tier", "fields"), REFUSED, ids=_id)
async def test_a_forced_request_gets_the_tiers_own_error(stage: Stage, fields: Fields) -> None:
    """Also after a routed request has taught the proxy what the tier does not know."""
    for is_taught in (False, True):
        if is_taught:
            await stage.ask(**fields)
        for how in ({"model": stage.tier}, {"headers": {"x-router-target": stage.tier}}):
            stage.server.calls.clear()
            response = await stage.proxy.chat(text=stage.text, **how, **fields)
            assert len(stage.server.calls) == 1
            refusal = stage.server.check(stage.sent)
            assert refusal is not None
            assert (response.status_code, response.content) == (refusal.status, refusal.content)
            assert "x-router-adapted" not in response.headers
            assert "x-router-fallback" not in response.headers
            assert fields.items() <= stage.sent.items()


@pytest.mark.parametrize(
    ("kind", "tier"),
    [
        (Mistral, "cloud"),
        (StrictFastApi, "cloud"),
        (OldAzure, "cloud"),
        (Databricks, "cloud"),
        (OldVllm, "local"),
    ],
)
async def test_the_proxys_own_stream_options_are_withdrawn_for_forced_requests_too(
    stage: Stage,
) -> None:
    for calls in (2, 1):
        stage.server.calls.clear()
        response = await stage.proxy.chat(model=stage.tier, text=stage.text, stream=True)
        assert text_of(response) == TEXT
        assert "x-router-adapted" not in response.headers
        assert len(stage.server.calls) == calls
        assert "stream_options" not in stage.sent
    rows = (await stage.proxy.finish(2)).rows
    assert all(row["output_tokens"] for row in rows)


@pytest.mark.parametrize(("kind", "tier"), [(Mistral, "cloud"), (OldVllm, "local")])
async def test_usage_of_a_stream_without_stream_options(stage: Stage, kind: type[Server]) -> None:
    """Mistral always sends it; else the proxy estimates it."""
    assert text_of(await stage.ask(stream=True)) == TEXT
    row = (await stage.proxy.finish()).row
    if kind is Mistral:
        assert (row["usage_source"], row["input_tokens"], row["output_tokens"]) == (
            "upstream",
            19,
            10,
        )
    else:
        assert row["usage_source"] == "estimated"
        assert row["output_tokens"] > 0


# ── Other endpoints ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["auto", "cloud"])
async def test_completions_are_adapted_too(
    start: StartProxy, cloud: FakeUpstream, model: str
) -> None:
    """A server that forbids unknown fields does so on every endpoint."""
    double = StrictFastApi()

    def answer(call: Call) -> Answer:
        fields = {name: value for name, value in call.json.items() if name != "prompt"}
        refusal = double.check(fields)
        text = {"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]}
        return refusal.answer() if refusal else chunked(event(text), DONE)

    cloud.answer = answer
    proxy = await start()
    body = {"model": model, "prompt": HARD, "stream": True}
    for calls in (2, 1):
        cloud.calls.clear()
        response = await proxy.client.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        assert response.headers["x-router-target"] == "cloud"
        (first, *_) = response.text.split("\n\n")
        assert json.loads(first[6:])["choices"][0]["text"] == TEXT
        assert len(cloud.calls) == calls
