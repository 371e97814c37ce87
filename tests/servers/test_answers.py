"""Answers of real servers in their own forms: they reach clients, and their usage is recorded."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from fakes import DONE, EASY, HARD, FakeUpstream, answer_json, event
from live import LiveProxy, StartProxy
from servers.doubles.azure import Azure, OldAzure
from servers.doubles.base import TEXT, Server, encode
from servers.doubles.databricks import Databricks
from servers.doubles.llama_cpp import TIMINGS, LlamaCpp
from servers.doubles.lm_studio import LmStudio
from servers.doubles.mistral import Mistral, StrictFastApi
from servers.doubles.ollama import Ollama
from servers.doubles.openai_api import OpenAi, ReasoningOpenAi
from servers.doubles.sglang import Sglang
from servers.doubles.tgi import Tgi
from servers.doubles.vllm import OldVllm, Vllm

USAGE_WANTED = {"stream_options": {"include_usage": True}}


def _locals() -> list[Any]:
    kinds = (Ollama, Vllm, OldVllm, LmStudio, LlamaCpp, Tgi, Sglang)
    plain = [pytest.param(kind(), "local", id=kind.__name__) for kind in kinds]
    thinkers = (Ollama, Vllm, LmStudio, LlamaCpp, Sglang)
    thinking = [
        pytest.param(kind(thinks=True), "local", id=f"{kind.__name__}-thinks") for kind in thinkers
    ]
    return plain + thinking


def _clouds() -> list[Any]:
    kinds = (OpenAi, ReasoningOpenAi, Azure, OldAzure, Mistral, StrictFastApi, Databricks)
    return [pytest.param(kind(), "cloud", id=kind.__name__) for kind in kinds]


class Stage:
    """A proxy with a double as one of its tiers, and what makes it choose that tier."""

    def __init__(self, proxy: LiveProxy, server: Server, tier: str) -> None:
        self.proxy, self.server, self.tier = proxy, server, tier
        self.text = EASY if tier == "local" else HARD

    def check(self, response: Any) -> None:
        assert response.status_code == 200, response.text
        assert response.headers["x-router-target"] == self.tier
        assert response.headers["x-router-reason"] == "score"
        assert "x-router-fallback" not in response.headers

    async def check_row(self) -> None:
        """Usage is the server's, or estimated for a stream of one that does not report it."""
        row = (await self.proxy.finish()).row
        assert (row["target"], row["ending"]) == (self.tier, "ok")
        if self.server.streams_usage or not row["streamed"]:
            assert (row["input_tokens"], row["output_tokens"]) == (19, 10)
            assert row["usage_source"] == "upstream"
        else:
            assert min(row["input_tokens"], row["output_tokens"]) > 0
            assert row["usage_source"] == "estimated"


@pytest.fixture
async def stage(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream, server: Server, tier: str
) -> AsyncIterator[Stage]:
    server.reset()
    async with server:
        tiers = {"local": local, "cloud": cloud} | {tier: server}
        changes = {"upstreams": {tier: {"model": server.model}}}
        proxy = await start(changes, local=tiers["local"], cloud=tiers["cloud"])
        yield Stage(proxy, server, tier)


@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_whole_answer_reaches_the_client_byte_for_byte(stage: Stage) -> None:
    response = await stage.proxy.chat(text=stage.text)
    stage.check(response)
    assert response.content == encode(stage.server.complete({}))
    await stage.check_row()


@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_stream_reaches_the_client_event_by_event(stage: Stage) -> None:
    """All but the chunk of the usage, which the client has not asked for."""
    response = await stage.proxy.chat(text=stage.text, stream=True)
    stage.check(response)
    sent = stage.server.call_fields(-1)
    expected = [event(chunk) for chunk in stage.server.chunks(sent) if not _is_usage(chunk)]
    received = _without_timings(response.content)
    assert received == b"".join([*expected, DONE])
    await stage.check_row()


def _is_usage(chunk: dict[str, Any]) -> bool:
    return chunk["choices"] == [] and chunk.get("usage") is not None


def _without_timings(content: bytes) -> bytes:
    """The events but that of llama.cpp's timings, which share a chunk with the usage."""
    events = [piece + b"\n\n" for piece in content.split(b"\n\n") if piece]
    return b"".join(item for item in events if b'"timings"' not in item)


async def test_timings_of_a_stream_reach_a_client_that_asks_for_no_usage(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    async with LlamaCpp() as server:
        proxy = await start(local=server)
        response = await proxy.chat(stream=True)
    events = [json.loads(line[6:]) for line in response.text.split("\n\n") if "{" in line]
    assert [item["timings"] for item in events if "timings" in item] == [TIMINGS]
    assert not any(item.get("usage") for item in events)


@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_openai_client_reads_whole_answers(stage: Stage) -> None:
    async with client_of(stage.proxy) as client:
        answer = await client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": stage.text}]
        )
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 29
    await stage.check_row()


@pytest.mark.parametrize("wanted", [False, True], ids=["no-usage", "usage"])
@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_openai_client_reads_streams(stage: Stage, wanted: bool) -> None:
    extra: Any = USAGE_WANTED if wanted else {}
    chunks: list[Any] = []
    async with client_of(stage.proxy) as client:
        stream = await client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": stage.text}],
            stream=True,
            **extra,
        )
        chunks = [chunk async for chunk in stream]
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == TEXT
    ends = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [end for end in ends if end] == ["stop"]
    usages = [chunk.usage.total_tokens for chunk in chunks if chunk.usage is not None]
    is_seen = wanted or not stage.server.has_usage_chunk
    assert usages == ([29] if is_seen and stage.server.streams_usage else [])
    await stage.check_row()


def client_of(proxy: LiveProxy) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=proxy.base_url, api_key="sk-mine", max_retries=0)


@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_models_are_listed(stage: Stage) -> None:
    listed = (await stage.proxy.client.get("/v1/models")).json()
    assert stage.server.model in [entry["id"] for entry in listed["data"]]


@pytest.mark.parametrize(("server", "tier"), [*_locals(), *_clouds()])
async def test_the_other_tier_answers_on_a_path_that_a_server_does_not_have(
    stage: Stage, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Whatever the server's "not found" looks like: LM Studio's has status 200."""
    other = cloud if stage.tier == "local" else local
    response = await stage.proxy.client.post(
        "/v1/completions", json={"model": "auto", "prompt": stage.text}
    )
    assert response.status_code == 200, response.text
    assert response.content == answer_json()
    assert response.headers["x-router-fallback"].startswith(f"{stage.tier}->")
    assert (len(stage.server.calls), len(other.calls)) == (1, 1)


async def test_a_redirect_is_no_answer(start: StartProxy) -> None:
    """Ollama redirects a path with two slashes to the clean one."""
    async with Ollama() as server:
        proxy = await start(local=server.base_url.replace("/v1", "//v1"))
        response = await proxy.chat()
    assert response.status_code == 200
    assert response.json()["choices"]
