"""The OpenAI client for Python, blocking and asynchronous."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from scene import CLOUD_MODEL, EASY, HARD, LOCAL_MODEL, PNG, REPORT, TEXT, Report, Stage

MESSAGES: Any = [{"role": "user", "content": EASY}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": PARAMETERS, "strict": True},
}
WEATHER_OF_RESPONSES: Any = {
    "type": "function",
    "name": "weather",
    "parameters": PARAMETERS,
    "strict": True,
}
ARGUMENTS = [{"city": city, "unit": "celsius"} for city in ("Zürich", "Paris")]


@pytest.fixture
def client(stage: Stage) -> Iterator[OpenAI]:
    """A client with the address from the environment."""
    with OpenAI(max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(stage: Stage) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(max_retries=0) as client:
        yield client


def user_message(text: str) -> Any:
    return [{"role": "user", "content": text}]


# ── Chat ──────────────────────────────────────────────────────────────────────────────────────


def test_chat_goes_where_the_router_decides(client: OpenAI, stage: Stage) -> None:
    for prompt in (EASY, HARD):
        completion = client.chat.completions.create(model="auto", messages=user_message(prompt))
        assert completion.choices[0].message.content == TEXT
        assert completion.usage is not None
        assert completion.usage.total_tokens == 29
    assert stage.tiers == ["local", "cloud"]


def test_chat_of_an_existing_application_is_routed(client: OpenAI, stage: Stage) -> None:
    client.chat.completions.create(model=CLOUD_MODEL, messages=MESSAGES)
    assert (stage.call.tier, stage.call.body["model"]) == ("local", LOCAL_MODEL)


def test_chat_forced_by_header(client: OpenAI, stage: Stage) -> None:
    headers = {"x-router-target": "cloud"}
    client.chat.completions.create(model="auto", messages=MESSAGES, extra_headers=headers)
    assert stage.call.tier == "cloud"


def test_chat_has_headers_in_the_raw_response(client: OpenAI, stage: Stage) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=MESSAGES)
    completion = raw.parse()
    assert completion.choices[0].message.content == TEXT
    assert raw.headers["x-router-target"] == "local"
    assert raw.headers["x-router-model"] == LOCAL_MODEL
    assert raw.headers["x-router-reason"] == "score"
    assert 0 <= float(raw.headers["x-router-threshold"]) <= float(raw.headers["x-router-score"])
    assert float(raw.headers["x-router-decision-ms"]) > 0
    assert float(raw.headers["x-router-cost-usd"]) == 0
    assert float(raw.headers["x-router-saved-usd"]) > 0
    assert raw.request_id == completion._request_id == raw.headers["x-request-id"]


def test_chat_with_unknown_fields(client: OpenAI, stage: Stage, tier: str) -> None:
    extra = {"seed": 7, "of_tomorrow": {"deep": [1, None, "ü"]}}
    client.chat.completions.create(
        model=tier, messages=MESSAGES, extra_body=extra, metadata={"app": "x"}, user="me"
    )
    body = stage.call.body
    assert {name: body[name] for name in extra} == extra
    assert (body["metadata"], body["user"]) == ({"app": "x"}, "me")


def test_chat_with_two_choices(client: OpenAI, stage: Stage) -> None:
    completion = client.chat.completions.create(model="auto", messages=MESSAGES, n=2)
    assert [choice.message.content for choice in completion.choices] == [TEXT, TEXT]
    assert stage.call.tier == "cloud"  # Ollama returns one


def test_chat_with_log_probabilities(client: OpenAI, tier: str) -> None:
    completion = client.chat.completions.create(
        model=tier, messages=MESSAGES, logprobs=True, top_logprobs=2
    )
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    tokens = logprobs.content or []
    assert "".join(token.token for token in tokens) == TEXT
    assert [len(token.top_logprobs) for token in tokens] == [2] * len(tokens)


async def test_chat_asynchronous(async_client: AsyncOpenAI) -> None:
    completion = await async_client.chat.completions.create(model="auto", messages=MESSAGES)
    assert completion.choices[0].message.content == TEXT


def test_chat_of_a_client_with_options(client: OpenAI) -> None:
    other = client.with_options(timeout=30, default_headers={"x-router-target": "local"})
    raw = other.chat.completions.with_raw_response.create(model=CLOUD_MODEL, messages=MESSAGES)
    assert raw.headers["x-router-target"] == "local"


def test_models_are_listed(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"auto", "local", "cloud", LOCAL_MODEL, CLOUD_MODEL, "gpt-9"} <= names
    for name in ("auto", LOCAL_MODEL, "gpt-9"):
        assert client.models.retrieve(name).id == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-10")


def test_completions(client: OpenAI, stage: Stage, tier: str) -> None:
    completion = client.completions.create(model=tier, prompt=EASY)
    assert completion.choices[0].text == TEXT
    chunks = list(client.completions.create(model=tier, prompt=EASY, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert stage.tiers == [tier, tier]


def test_embeddings(client: OpenAI, stage: Stage) -> None:
    tiers = {"text-embedding-3-small": "cloud", "nomic-embed-text": "local"}
    for model in tiers:
        answer = client.embeddings.create(model=model, input=["a", "b"])
        assert [item.embedding for item in answer.data] == [[0.25, -0.5, 0.125]] * 2
    assert stage.tiers == list(tiers.values())


def test_other_endpoints_are_passed_to_the_cloud(client: OpenAI, stage: Stage) -> None:
    assert client.moderations.create(input="Nice.").results[0].flagged is False
    sound = ("sound.wav", b"RIFF" + bytes(200_000), "audio/wav")
    assert client.audio.transcriptions.create(model="whisper-1", file=sound).text == TEXT
    assert stage.tiers == ["cloud", "cloud"]
    assert stage.calls[1].headers["content-type"].startswith("multipart/form-data")


@pytest.mark.parametrize(
    "options",
    [
        {"store": True},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"web_search_options": {}},
        {"tools": [{"type": "custom", "custom": {"name": "code"}}]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_cloud_only_options_go_to_the_cloud(
    client: OpenAI, stage: Stage, options: dict[str, Any]
) -> None:
    """Ollama would silently ignore these options."""
    client.chat.completions.create(model="auto", messages=MESSAGES, **options)
    assert stage.call.tier == "cloud"


# ── Streams ───────────────────────────────────────────────────────────────────────────────────


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_stream(client: OpenAI, tier: str) -> None:
    stream = client.chat.completions.create(model=tier, messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert text_of(chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    # Applications read `chunk.choices[0]` unless they requested the usage chunk.
    assert all(chunk.choices for chunk in chunks)
    assert stream.response.headers["x-router-target"] == tier


def test_stream_with_usage(client: OpenAI, tier: str) -> None:
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=tier, messages=MESSAGES, stream=True, stream_options=options
        )
    )
    assert text_of(chunks) == TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [29]


def test_stream_of_two_choices(client: OpenAI) -> None:
    texts = ["", ""]
    for chunk in client.chat.completions.create(
        model="auto", messages=MESSAGES, n=2, stream=True, logprobs=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [TEXT, TEXT]


def test_stream_with_the_helper(client: OpenAI, tier: str) -> None:
    with client.chat.completions.stream(model=tier, messages=MESSAGES) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        completion = stream.get_final_completion()
    assert "".join(deltas) == completion.choices[0].message.content == TEXT


def test_stream_read_by_lines(client: OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(
        model="auto", messages=MESSAGES, stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]
        assert response.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"


async def test_stream_asynchronous(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model="auto", messages=MESSAGES, stream=True
    )
    assert text_of([chunk async for chunk in stream]) == TEXT


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_stream_closed_early_stops_the_upstream(
    client: OpenAI, stage: Stage, tier: str, endpoint: str
) -> None:
    prompt = f"HANG {EASY}"
    stream: Any
    if endpoint == "chat":
        stream = client.chat.completions.create(
            model=tier, messages=user_message(prompt), stream=True
        )
    else:
        stream = client.responses.create(model=tier, input=prompt, stream=True)
    next(iter(stream))
    stream.close()
    stage.wait_until_released()


# ── Tools ─────────────────────────────────────────────────────────────────────────────────────


def test_tools_called_in_parallel_and_answered(client: OpenAI, stage: Stage, tier: str) -> None:
    first = client.chat.completions.create(model=tier, messages=MESSAGES, tools=[WEATHER])
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    calls: Any = message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == ARGUMENTS
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in calls]
    second = client.chat.completions.create(
        model=tier, messages=[*MESSAGES, message, *results], tools=[WEATHER]
    )
    assert second.choices[0].message.content == TEXT
    ids = [message.get("tool_call_id") for message in stage.calls[1].body["messages"]]
    assert ids == [None, None, *(call.id for call in calls)]


def test_tools_streamed(client: OpenAI, tier: str) -> None:
    with client.chat.completions.stream(model=tier, messages=MESSAGES, tools=[WEATHER]) as stream:
        completion = stream.get_final_completion()
    calls: Any = completion.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == ARGUMENTS
    assert [call.function.parsed_arguments for call in calls] == ARGUMENTS


def test_tools_that_are_required_go_to_the_cloud(client: OpenAI, stage: Stage) -> None:
    """Ollama does not support `tool_choice`, so these requests go to the cloud."""
    named: Any = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        completion = client.chat.completions.create(
            model="auto", messages=MESSAGES, tools=[WEATHER], tool_choice=choice
        )
        assert len(completion.choices[0].message.tool_calls or ()) == 1
    assert stage.tiers == ["cloud", "cloud"]


# ── Structured output ─────────────────────────────────────────────────────────────────────────


def test_structured_parse(client: OpenAI, stage: Stage, tier: str) -> None:
    completion = client.chat.completions.parse(
        model=tier, messages=MESSAGES, response_format=Report
    )
    assert completion.choices[0].message.parsed == REPORT
    assert stage.call.body["response_format"]["json_schema"]["strict"] is True


def test_structured_parse_of_a_stream(client: OpenAI, tier: str) -> None:
    with client.chat.completions.stream(
        model=tier, messages=MESSAGES, response_format=Report
    ) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.parsed == REPORT


def test_structured_json_without_schema(client: OpenAI, tier: str) -> None:
    completion = client.chat.completions.create(
        model=tier, messages=MESSAGES, response_format={"type": "json_object"}
    )
    assert json.loads(completion.choices[0].message.content or "") == {"city": "Zürich"}


# ── Images ────────────────────────────────────────────────────────────────────────────────────


def test_images_go_to_a_vision_model(client: OpenAI, stage: Stage) -> None:
    parts: Any = [
        {"type": "text", "text": EASY},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
    ]
    completion = client.chat.completions.create(
        model="auto", messages=[{"role": "user", "content": parts}]
    )
    assert completion.choices[0].message.content == TEXT
    assert (stage.call.tier, stage.call.body["messages"][0]["content"]) == ("cloud", parts)


def test_images_in_responses(client: OpenAI, stage: Stage) -> None:
    parts: Any = [
        {"type": "input_text", "text": EASY},
        {"type": "input_image", "image_url": PNG, "detail": "auto"},
    ]
    response = client.responses.create(model="auto", input=[{"role": "user", "content": parts}])
    assert response.output_text == TEXT
    assert (stage.call.tier, stage.call.body["input"][0]["content"]) == ("cloud", parts)


# ── Responses ─────────────────────────────────────────────────────────────────────────────────


def test_responses_go_where_the_router_decides(client: OpenAI, stage: Stage) -> None:
    for prompt in (EASY, HARD):
        response = client.responses.create(model="auto", instructions="Be brief.", input=prompt)
        assert (response.status, response.output_text) == ("completed", TEXT)
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (19, 10)
    assert stage.tiers == ["local", "cloud"]


def test_responses_streamed(client: OpenAI, tier: str) -> None:
    events: list[Any] = list(client.responses.create(model=tier, input=EASY, stream=True))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == TEXT
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.total_tokens == 29
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_responses_streamed_with_the_helper(client: OpenAI, tier: str) -> None:
    with client.responses.stream(model=tier, input=EASY, text_format=Report) as stream:
        response = stream.get_final_response()
    assert response.output_parsed == REPORT


def test_responses_parse(client: OpenAI, stage: Stage, tier: str) -> None:
    response = client.responses.parse(model=tier, input=EASY, text_format=Report)
    assert response.output_parsed == REPORT
    assert stage.call.body["text"]["format"]["type"] == "json_schema"


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_responses_with_tools(client: OpenAI, stage: Stage, tier: str, is_streamed: bool) -> None:
    tools = [WEATHER_OF_RESPONSES]
    if is_streamed:
        with client.responses.stream(model=tier, input=EASY, tools=tools) as stream:
            first: Any = stream.get_final_response()
    else:
        first = client.responses.create(model=tier, input=EASY, tools=tools)
    assert [json.loads(call.arguments) for call in first.output] == ARGUMENTS
    results: Any = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "21"}
        for call in first.output
    ]
    second = client.responses.create(
        model="auto", input=results, tools=tools, previous_response_id=first.id
    )
    assert second.output_text == TEXT
    assert stage.tiers == [tier, tier]


def test_responses_continued_at_the_local_tier(client: OpenAI, stage: Stage) -> None:
    """Ollama remembers nothing; the proxy does."""
    first = client.responses.create(model="local", input=EASY)
    second = client.responses.create(model="auto", input="And 3+3?", previous_response_id=first.id)
    assert second.output_text == TEXT
    last = stage.calls[-1]
    assert "previous_response_id" not in last.body
    assert [item["role"] for item in last.body["input"]] == ["user", "assistant", "user"]
    third = client.responses.create(model="auto", input="Why?", previous_response_id=second.id)
    assert third.output_text == TEXT


def test_responses_continued_in_the_cloud(client: OpenAI, stage: Stage) -> None:
    first = client.responses.create(model="cloud", input=HARD)
    second = client.responses.create(model="auto", input=EASY, previous_response_id=first.id)
    assert second.output_text == TEXT
    assert stage.tiers == ["cloud", "cloud"]
    assert stage.calls[-1].body["previous_response_id"] == first.id


def test_responses_kept(client: OpenAI, tier: str) -> None:
    first = client.responses.create(model=tier, input=EASY)
    assert client.responses.retrieve(first.id).output_text == TEXT
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_input_of_a_response_of_the_local_tier(client: OpenAI) -> None:
    first = client.responses.create(model="local", input=EASY)
    (item,) = client.responses.input_items.list(first.id)
    assert (item.type, item.content[0].text) == ("message", EASY)


async def test_responses_asynchronous(async_client: AsyncOpenAI) -> None:
    response = await async_client.responses.create(model="auto", input=EASY)
    assert response.output_text == TEXT
    async with async_client.responses.stream(model="auto", input=EASY) as stream:
        assert (await stream.get_final_response()).output_text == TEXT


# ── Errors ────────────────────────────────────────────────────────────────────────────────────


def test_errors_retried_by_the_proxy(client: OpenAI, stage: Stage) -> None:
    completion = client.chat.completions.create(
        model="cloud", messages=user_message("BUSY as can be")
    )
    assert completion.choices[0].message.content == TEXT
    assert stage.tiers == ["cloud"] * 3  # twice busy, which the client does not see


def test_errors_retried_by_the_client(stage: Stage) -> None:
    prompt = "VERY BUSY"
    with OpenAI(max_retries=2) as client:
        completion = client.chat.completions.create(model="cloud", messages=user_message(prompt))
    assert completion.choices[0].message.content == TEXT
    counts = [call.headers["x-stainless-retry-count"] for call in stage.calls]
    assert counts == ["0", "0", "0", "1"]  # three attempts of the proxy, then the client retries


def test_errors_answered_by_the_fallback_tier(client: OpenAI, stage: Stage) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=user_message(f"{EASY} FULL")
    )
    assert raw.parse().choices[0].message.content == TEXT
    # The HTTP library guesses the encoding of non-ASCII headers.
    assert raw.headers["x-router-fallback"].encode().decode().startswith("local")
    assert stage.tiers == ["local", "cloud"]


@pytest.mark.parametrize("trouble", ["BREAK", "VANISH"])
def test_errors_within_a_stream(client: OpenAI, tier: str, trouble: str) -> None:
    messages, chunks = user_message(f"{trouble} {EASY}"), []
    stream = client.chat.completions.create(model=tier, messages=messages, stream=True)
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(stream)
    assert text_of(chunks)
    assert TEXT.startswith(text_of(chunks))
    assert caught.value.message


def test_errors_within_streamed_responses(client: OpenAI, tier: str) -> None:
    events: list[Any] = []
    stream = client.responses.create(model=tier, input=f"VANISH {EASY}", stream=True)
    with pytest.raises(openai.APIError) as caught:
        events.extend(stream)
    kinds = [event.type for event in events]
    assert "response.output_text.delta" in kinds
    assert "response.completed" not in kinds
    assert caught.value.message


def test_errors_of_an_upstream_within_streamed_responses(client: OpenAI, tier: str) -> None:
    """OpenAI's error event, which its client returns instead of raising."""
    events: list[Any] = list(
        client.responses.create(model=tier, input=f"BREAK {EASY}", stream=True)
    )
    assert (events[-1].type, events[-1].message) == ("error", "The model has crashed.")


def test_errors_timeouts(client: OpenAI, stage: Stage, tier: str) -> None:
    create = client.with_options(timeout=0.5).chat.completions.create
    with pytest.raises(openai.APITimeoutError):
        create(model=tier, messages=user_message(f"HANG {EASY}"))
    stream = create(model=tier, messages=user_message(f"HANG {EASY}"), stream=True)
    # Older clients raise the error of their HTTP library here.
    with pytest.raises(Exception, match="timed out"):
        list(stream)
    stage.wait_until_released(0)
    stage.wait_until_released(1)


async def test_errors_of_a_cancelled_task(async_client: AsyncOpenAI, stage: Stage) -> None:
    running = async_client.chat.completions.create(
        model="local", messages=user_message(f"HANG {EASY}")
    )
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(running, 0.5)
    await asyncio.to_thread(stage.wait_until_released)


def test_errors_of_an_invalid_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="auto", messages=[])
    assert (caught.value.param, caught.value.type) == ("messages", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="auto", input="x", previous_response_id="resp_unknown")
    assert caught.value.code == "previous_response_not_found"  # from the cloud


# ── The ten tasks ─────────────────────────────────────────────────────────────────────────────


def test_saved(measure: Any) -> None:
    def ask(task: str) -> None:
        with OpenAI() as client:
            client.chat.completions.create(model="auto", messages=user_message(task))

    measure(ask)
