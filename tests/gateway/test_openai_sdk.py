"""The official OpenAI client, synchronous and asynchronous.

Applications change only `base_url`. Everything they rely on must keep working.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from fakes import (
    DONE,
    EASY,
    HARD,
    USAGE,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    refused_address,
    whole,
)
from live import CLOUD_MODEL, LiveProxy, StartProxy, released

TEXT = "Hello wörld 🙂!"
MESSAGES: Any = [{"role": "user", "content": EASY}]
FIRST_EVENTS = [
    event(chunk({"role": "assistant", "content": "Hel"})),
    event(chunk({"content": "lo"})),
]


class Sdk:
    """A common interface to both clients. The synchronous client runs in a thread."""

    def __init__(self, client: openai.OpenAI | openai.AsyncOpenAI) -> None:
        self._client = client

    async def _run(self, function: Any, **arguments: Any) -> Any:
        if isinstance(self._client, openai.AsyncOpenAI):
            return await function(**arguments)
        return await asyncio.to_thread(function, **arguments)

    async def create(self, **arguments: Any) -> Any:
        defaults = {"model": "auto", "messages": MESSAGES}
        return await self._run(self._client.chat.completions.create, **defaults | arguments)

    async def create_raw(self, **arguments: Any) -> Any:
        defaults = {"model": "auto", "messages": MESSAGES}
        raw = self._client.chat.completions.with_raw_response
        return await self._run(raw.create, **defaults | arguments)

    async def stream(self, into: list[Any], **arguments: Any) -> None:
        """Collect the chunks, also those before an error."""
        stream = await self.create(stream=True, **arguments)
        if isinstance(self._client, openai.AsyncOpenAI):
            async for data in stream:
                into.append(data)  # noqa: PERF401 - an error must not lose the chunks before it
        else:
            await asyncio.to_thread(lambda: into.extend(stream))

    async def models(self) -> list[Any]:
        if isinstance(self._client, openai.AsyncOpenAI):
            return [model async for model in self._client.models.list()]
        return await asyncio.to_thread(lambda: list(self._client.models.list()))

    async def model(self, name: str) -> Any:
        return await self._run(self._client.models.retrieve, model=name)

    async def close(self) -> None:
        await self._run(self._client.close)


@pytest.fixture(params=["blocking", "async"])
def kind(request: pytest.FixtureRequest) -> type[openai.OpenAI] | type[openai.AsyncOpenAI]:
    return openai.OpenAI if request.param == "blocking" else openai.AsyncOpenAI


@pytest.fixture
async def sdk(proxy: LiveProxy, kind: Any) -> AsyncIterator[Sdk]:
    sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=0))
    yield sdk
    await sdk.close()


async def test_chat_completion_returns_a_response(
    sdk: Sdk, proxy: LiveProxy, local: FakeUpstream
) -> None:
    completion = await sdk.create(temperature=0.5)
    assert completion.choices[0].message.content == "Hello!"
    assert completion.choices[0].finish_reason == "stop"
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (19, 29)
    outcome = await proxy.finish()
    assert completion._request_id == outcome.row["id"]
    assert local.call.json["temperature"] == 0.5
    assert local.call.header("user-agent").startswith(("OpenAI/", "AsyncOpenAI/"))
    assert local.call.header("x-stainless-lang") == "python"


async def test_timings_of_llama_cpp_arrive_without_usage(sdk: Sdk, local: FakeUpstream) -> None:
    """They are in the usage chunk, which the proxy asks for and this client did not."""
    timings = {"prompt_n": 19, "predicted_n": 10, "predicted_ms": 37.5}
    events = openai_events()
    events[-2] = event(chunk(usage=USAGE, timings=timings))
    local.answer = chunked(*events)
    chunks: list[Any] = []
    await sdk.stream(chunks)
    assert "".join(part.choices[0].delta.content or "" for part in chunks) == TEXT
    assert [part.timings for part in chunks if hasattr(part, "timings")] == [timings]
    assert not any(part.usage for part in chunks)


async def test_application_needs_only_a_new_base_url(
    start: StartProxy, kind: Any, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The default configuration routes requests for its model's own name."""
    proxy = await start({"routing": {"routed_models": ["auto", CLOUD_MODEL]}})
    sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=0))
    await sdk.create(model=CLOUD_MODEL)
    await sdk.create(model=CLOUD_MODEL, messages=[{"role": "user", "content": HARD}])
    await sdk.close()
    assert (len(local.calls), len(cloud.calls)) == (1, 1)


@pytest.mark.parametrize("include_usage", [None, True, False], ids=["unsaid", "wanted", "unwanted"])
async def test_stream_returns_usage_only_if_requested(
    sdk: Sdk, proxy: LiveProxy, local: FakeUpstream, include_usage: bool | None
) -> None:
    local.answer = chunked(*openai_events())
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    chunks: list[Any] = []
    await sdk.stream(chunks, **options)
    texts = [data.choices[0].delta.content or "" for data in chunks if data.choices]
    assert "".join(texts) == TEXT
    usages = [data.usage for data in chunks if data.usage is not None]
    assert [usage.total_tokens for usage in usages] == ([29] if include_usage else [])
    # Applications read `chunk.choices[0]` unless they asked for the chunk that has none.
    assert all(data.choices for data in chunks) == (include_usage is not True)
    outcome = await proxy.finish()
    assert (outcome.row["ending"], outcome.row["output_tokens"]) == ("ok", 10)


async def test_raw_headers_report_the_decision(sdk: Sdk, proxy: LiveProxy) -> None:
    raw = await sdk.create_raw()
    assert raw.parse().choices[0].message.content == "Hello!"
    assert raw.headers["x-router-target"] == "local"
    assert raw.headers["x-router-reason"] == "score"
    assert float(raw.headers["x-router-score"]) == 0.9
    assert float(raw.headers["x-router-saved-usd"]) > 0
    assert raw.request_id == (await proxy.finish()).row["id"]


async def test_extra_headers_and_fields_are_accepted(
    sdk: Sdk, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    await sdk.create(extra_headers={"x-router-threshold": "0.95"}, extra_body={"seed": 7, "x": {}})
    assert local.calls == []
    assert (cloud.call.json["seed"], cloud.call.json["x"]) == (7, {})


async def test_models_are_listed_and_retrieved(
    sdk: Sdk, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.models = whole(b'{"object":"list","data":[{"id":"llama3:8b"},{"id":"hf.co/a/b:Q4"}]}')
    cloud.models = whole(b'{"object":"list","data":[{"id":"gpt-9","owned_by":"openai"}]}')
    names = {model.id for model in await sdk.models()}
    assert {"auto", "local", "cloud", CLOUD_MODEL, "llama3:8b", "gpt-9"} <= names
    for name in ("auto", "llama3:8b", "hf.co/a/b:Q4"):
        model = await sdk.model(name)
        assert (model.id, model.object) == (name, "model")
    with pytest.raises(openai.NotFoundError):
        await sdk.model("gpt-10")


# ── Errors raise the classes that applications catch ──────────────────────────────────────────


async def test_wrong_key_raises_authentication_error(start: StartProxy, kind: Any) -> None:
    proxy = await start({"server": {"api_keys": ["sk-right"]}})
    wrong = Sdk(kind(base_url=proxy.base_url, api_key="sk-wrong", max_retries=0))
    right = Sdk(kind(base_url=proxy.base_url, api_key="sk-right", max_retries=0))
    with pytest.raises(openai.AuthenticationError) as caught:
        await wrong.create()
    assert caught.value.code == "invalid_api_key"
    assert (await right.create()).choices
    await wrong.close()
    await right.close()


async def test_invalid_field_raises_bad_request_with_its_name(sdk: Sdk, proxy: LiveProxy) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.create(messages=[])
    assert (caught.value.param, caught.value.type) == ("messages", "invalid_request_error")
    assert caught.value.request_id == (await proxy.finish()).row["id"]


async def test_unknown_model_raises_not_found(start: StartProxy, kind: Any) -> None:
    proxy = await start({"routing": {"unknown_models": "reject"}})
    sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=0))
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.create(model="gpt-9")
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
    await sdk.close()


async def test_too_large_body_raises_status_413(start: StartProxy, kind: Any) -> None:
    """It does not look like a lost connection, although the client is still writing."""
    proxy = await start({"server": {"max_body_mb": 0.5}})
    sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=0))
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.create(messages=[{"role": "user", "content": "x" * 8_000_000}])
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    await sdk.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
async def test_upstream_error_keeps_its_type_and_code(
    sdk: Sdk, cloud: FakeUpstream, status: int, error: type[openai.APIStatusError]
) -> None:
    cloud.answer = whole(error_json("No.", kind="some_type", code="some_code"), status=status)
    with pytest.raises(error) as caught:
        await sdk.create(model="cloud")
    assert (caught.value.type, caught.value.code) == ("some_type", "some_code")


async def test_unreachable_upstream_raises_server_error(start: StartProxy, kind: Any) -> None:
    with refused_address() as address:
        proxy = await start(cloud=address)
        sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=0))
        with pytest.raises(openai.InternalServerError) as caught:
            await sdk.create(model="cloud")
    assert caught.value.code == "upstream_unreachable"
    await sdk.close()


async def test_client_retries_follow_those_of_the_proxy(
    proxy: LiveProxy, kind: Any, cloud: FakeUpstream
) -> None:
    """The proxy tries three times before it returns the error."""
    busy = whole(error_json("busy"), status=429, headers=[("retry-after-ms", "1")])
    cloud.answer = lambda _: busy if len(cloud.calls) < 4 else whole(answer_json())
    sdk = Sdk(kind(base_url=proxy.base_url, api_key="sk-mine", max_retries=2))
    assert (await sdk.create(model="cloud")).choices
    await sdk.close()
    outcome = await proxy.finish(2)
    assert [row["status"] for row in outcome.rows] == [429, 200]
    counts = [call.header("x-stainless-retry-count") for call in cloud.calls]
    assert counts == ["0", "0", "0", "1"]


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([End.RESET], id="reset"),
        pytest.param([], id="no-finish"),
        pytest.param([event(error_json("CUDA ran out of memory"))], id="error-event"),
        pytest.param(
            [event(error_json("CUDA ran out of memory")), DONE], id="error-event-and-done"
        ),
    ],
)
async def test_interrupted_stream_raises_api_error(
    sdk: Sdk, local: FakeUpstream, rest: list[Any]
) -> None:
    """A truncated response must never look complete."""
    local.answer = chunked(*FIRST_EVENTS, *rest)
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await sdk.stream(chunks)
    assert caught.value.message
    assert [data.choices[0].delta.content for data in chunks] == ["Hel", "lo"]


async def test_closed_stream_releases_the_upstream(proxy: LiveProxy, local: FakeUpstream) -> None:
    local.answer = chunked(*FIRST_EVENTS, Gate())
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="sk-mine") as client:
        stream = await client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await released(local.call)
    assert (await proxy.finish()).row["ending"] == "client_gone"


# ── Tools, choices and log probabilities ──────────────────────────────────────────────────────

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
}


async def test_tools_and_tool_calls_pass(sdk: Sdk, cloud: FakeUpstream) -> None:
    answer = json.loads(answer_json())
    answer["choices"][0] |= {
        "message": {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        "finish_reason": "tool_calls",
    }
    cloud.answer = whole(json.dumps(answer).encode())
    completion = await sdk.create(model="cloud", tools=[TOOL], tool_choice="auto")
    (call,) = completion.choices[0].message.tool_calls
    assert (call.id, call.function.arguments) == ("call_1", '{"city": "Zürich"}')
    sent = cloud.call.json
    assert (sent["tools"], sent["tool_choice"]) == ([TOOL], "auto")


async def test_streamed_tool_calls_are_assembled(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    start = TOOL_CALL | {"index": 0, "function": {"name": "weather", "arguments": ""}}
    pieces = ('{"ci', 'ty": "Zür', 'ich"}')
    cloud.answer = chunked(
        event(chunk({"role": "assistant", "content": None, "tool_calls": [start]})),
        *(
            event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
            for piece in pieces
        ),
        event(chunk({}, "tool_calls")),
        event(chunk(usage=USAGE)),
        DONE,
    )
    async with (
        openai.AsyncOpenAI(base_url=proxy.base_url, api_key="sk-mine") as client,
        client.chat.completions.stream(model="cloud", messages=MESSAGES, tools=[TOOL]) as stream,
    ):
        completion = await stream.get_final_completion()
    (call,) = completion.choices[0].message.tool_calls or ()
    assert (call.id, call.function.arguments) == ("call_1", '{"city": "Zürich"}')
    row = (await proxy.finish()).row
    assert row["ttft_ms"] is not None  # a tool call counts as the first token


async def test_several_choices_and_log_probabilities_pass(sdk: Sdk, cloud: FakeUpstream) -> None:
    answer = json.loads(answer_json("first"))
    token = {"token": "first", "logprob": -0.25, "bytes": None, "top_logprobs": []}
    answer["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    answer["choices"].append(json.loads(answer_json("second"))["choices"][0] | {"index": 1})
    cloud.answer = whole(json.dumps(answer).encode())
    completion = await sdk.create(model="cloud", n=2, logprobs=True, top_logprobs=3)
    assert [choice.message.content for choice in completion.choices] == ["first", "second"]
    assert completion.choices[0].logprobs.content[0].logprob == -0.25
    sent = cloud.call.json
    assert (sent["n"], sent["logprobs"], sent["top_logprobs"]) == (2, True, 3)
