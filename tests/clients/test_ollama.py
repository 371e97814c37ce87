"""Ollama's client for Python, which has the address from OLLAMA_HOST."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from ollama import AsyncClient, Client, ResponseError
from scene import (
    CITIES,
    CLOUD_MODEL,
    EASY,
    HARD,
    LOCAL_MODEL,
    PNG,
    REPORT,
    TEXT,
    Report,
    Stage,
    weather,
)


@pytest.fixture
def client(stage: Stage) -> Iterator[Client]:
    with Client() as client:
        yield client


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_chat_goes_where_the_router_decides(client: Client, stage: Stage) -> None:
    for prompt in (EASY, HARD):
        answer = client.chat("auto", user(prompt))
        assert (answer.message.role, answer.message.content) == ("assistant", TEXT)
        assert (answer.done, answer.done_reason) == (True, "stop")
        assert (answer.prompt_eval_count, answer.eval_count) == (19, 10)
    assert stage.tiers == ["local", "cloud"]


def test_chat_with_the_tag_that_clients_add(client: Client, stage: Stage, tier: str) -> None:
    assert client.chat(f"{tier}:latest", user(EASY)).message.content == TEXT
    assert stage.call.tier == tier


@pytest.mark.parametrize("model", [LOCAL_MODEL, CLOUD_MODEL])
def test_chat_with_a_models_own_name(client: Client, stage: Stage, model: str) -> None:
    assert client.chat(model, user(EASY)).message.content == TEXT
    # The cloud model's own name is routed.
    assert (stage.call.tier, stage.call.body["model"]) == ("local", LOCAL_MODEL)


def test_chat_with_options(client: Client, stage: Stage, tier: str) -> None:
    options = {"num_predict": 64, "temperature": 0.5, "num_ctx": 2048}
    client.chat(tier, user(EASY), options=options, keep_alive="10m")
    body = stage.call.body
    if tier == "local":  # as the client sent them
        assert (stage.call.path, body["options"]) == ("/api/chat", options)
        assert body["keep_alive"] == "10m"
    else:
        assert stage.call.path == "/v1/chat/completions"
        assert body["temperature"] == 0.5
        assert 64 in (body.get("max_tokens"), body.get("max_completion_tokens"))
        assert not {"options", "num_ctx", "keep_alive"} & body.keys()


async def test_chat_asynchronous(stage: Stage, tier: str) -> None:
    async with AsyncClient() as client:
        assert (await client.chat(tier, user(EASY))).message.content == TEXT


def test_chat_with_thoughts(client: Client, stage: Stage) -> None:
    message = client.chat("qwen3:4b", user(EASY), think=True).message
    assert (message.thinking, message.content) == ("I add both.", TEXT)
    parts = list(client.chat("qwen3:4b", user(EASY), think=True, stream=True))
    assert "".join(part.message.thinking or "" for part in parts) == "I add both."
    # Neither the tier's own model nor the cloud's can think, so the easy task stays local.
    assert client.chat("auto", user(EASY), think="low").message.content == TEXT
    assert stage.calls[-1].tier == "local"
    assert "think" not in stage.calls[-1].body


def test_chat_generated_from_a_prompt(client: Client, stage: Stage, tier: str) -> None:
    assert client.generate(tier, EASY, system="Be brief.").response == TEXT
    assert "".join(part.response for part in client.generate(tier, EASY, stream=True)) == TEXT
    assert stage.tiers == [tier, tier]


def test_models_are_listed(client: Client) -> None:
    names = {model.model for model in client.list().models}
    assert {LOCAL_MODEL, "nomic-embed-text:latest"} <= names
    assert {"auto", "local", "cloud"} <= {name.removesuffix(":latest") for name in names if name}
    for name in ("auto", LOCAL_MODEL):
        assert "tools" in (client.show(name).capabilities or ())
    assert [model.model for model in client.ps().models] == [LOCAL_MODEL]


def test_stream(client: Client, tier: str) -> None:
    *parts, last = client.chat(tier, user(EASY), stream=True)
    assert "".join(part.message.content or "" for part in [*parts, last]) == TEXT
    assert not any(part.done for part in parts)
    assert (last.done, last.done_reason, last.eval_count) == (True, "stop", 10)


async def test_stream_asynchronous(stage: Stage, tier: str) -> None:
    async with AsyncClient() as client:
        stream = await client.chat(tier, user(EASY), stream=True)
        assert "".join([part.message.content or "" async for part in stream]) == TEXT


@pytest.mark.parametrize("endpoint", ["chat", "generate"])
def test_stream_closed_early_stops_the_upstream(
    client: Client, stage: Stage, tier: str, endpoint: str
) -> None:
    prompt = f"HANG {EASY}"
    stream: Any
    if endpoint == "chat":
        stream = client.chat(tier, user(prompt), stream=True)
    else:
        stream = client.generate(tier, prompt, stream=True)
    next(stream)
    stream.close()
    stage.wait_until_released()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_tools(client: Client, stage: Stage, tier: str, is_streamed: bool) -> None:
    if is_streamed:
        parts = list(client.chat(tier, user(EASY), tools=[weather], stream=True))
        calls = [call for part in parts for call in part.message.tool_calls or ()]
    else:
        calls = list(client.chat(tier, user(EASY), tools=[weather]).message.tool_calls or ())
    assert [call.function.name for call in calls] == ["weather", "weather"]
    assert [call.function.arguments for call in calls] == [{"city": city} for city in CITIES]
    asked = {"role": "assistant", "content": "", "tool_calls": calls}
    results = [
        {"role": "tool", "tool_name": "weather", "content": weather(city)} for city in CITIES
    ]
    answer = client.chat(tier, [*user(EASY), asked, *results], tools=[weather])
    assert answer.message.content == TEXT
    received = [item for item in stage.calls[-1].body["messages"] if item["role"] == "tool"]
    assert [item["content"] for item in received] == [weather(city) for city in CITIES]


def test_structured(client: Client, tier: str) -> None:
    answer = client.chat(tier, user(EASY), format=Report.model_json_schema())
    assert Report.model_validate_json(answer.message.content or "") == REPORT
    assert client.chat(tier, user(EASY), format="json").message.content == '{"city": "Zürich"}'


def test_images_go_to_a_vision_model(client: Client, stage: Stage) -> None:
    image = base64.b64decode(PNG.partition(",")[2])
    answer = client.chat("auto", [{"role": "user", "content": EASY, "images": [image]}])
    assert answer.message.content == TEXT
    (content,) = [message["content"] for message in stage.call.body["messages"]]
    assert stage.call.tier == "cloud"
    assert {"url": PNG} in [part.get("image_url") for part in content]


def test_embeddings(client: Client, stage: Stage) -> None:
    tiers = {"nomic-embed-text": "local", "text-embedding-3-small": "cloud"}
    for model in tiers:
        answer = client.embed(model, ["a", "b"])
        assert [list(vector) for vector in answer.embeddings] == [[0.25, -0.5, 0.125]] * 2
    assert stage.tiers == list(tiers.values())


@pytest.mark.parametrize("fault", ["BREAK", "VANISH"])
def test_errors_within_a_stream(client: Client, tier: str, fault: str) -> None:
    with pytest.raises(ResponseError):
        list(client.chat(tier, user(f"{fault} {EASY}"), stream=True))


def test_errors_of_a_request(client: Client, stage: Stage) -> None:
    with pytest.raises(ResponseError) as caught:
        client.chat("auto:threshold=2", user(EASY))
    assert caught.value.status_code == 400
    assert "threshold" in caught.value.error
    assert not stage.calls


def test_errors_of_managing_models(client: Client, stage: Stage) -> None:
    """The models are the operator's."""
    for manage in (client.pull, client.delete):
        with pytest.raises(ResponseError) as caught:
            manage("llama3.2")
        assert caught.value.status_code == 403
    assert not stage.calls


def test_errors_of_a_full_local_model_are_avoided(client: Client, stage: Stage) -> None:
    assert client.chat("auto", user(f"FULL {EASY}")).message.content == TEXT
    assert stage.tiers == ["local", "cloud"]


def test_saved(measure: Any) -> None:
    measure(lambda task: Client().chat("auto", user(task)))
