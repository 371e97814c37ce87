"""GET /v1/models: what each model is for, as front ends read it."""

import json
from typing import Any

import openai
import pytest

from fakes import Call, FakeUpstream, whole
from live import CLOUD_MODEL, LOCAL_MODEL, LiveProxy, StartProxy
from proxy.protocol.model_list import MODEL_TYPES, read_model_list, type_by_name

CLOUD = {
    "gpt-4o-mini": "chat",
    "o3": "chat",
    "gpt-5.4-codex": "chat",
    "text-embedding-3-large": "embedding",
    "tts-1-hd": "audio",
    "gpt-4o-mini-transcribe": "audio",
    "gpt-realtime-2": "audio",
    "whisper-1": "audio",
    "dall-e-3": "image",
    "gpt-image-1-mini": "image",
    "sora-2": "video",
    "omni-moderation-latest": "moderation",
    "davinci-002": "completion",
    "gpt-3.5-turbo-instruct": "completion",
}


def listing(*entries: dict[str, Any]) -> Any:
    return whole(json.dumps({"object": "list", "data": entries}).encode())


async def models_of(proxy: LiveProxy, query: str = "") -> dict[str, dict[str, Any]]:
    response = await proxy.client.get(f"/v1/models{query}")
    assert response.status_code == 200
    return {entry["id"]: entry for entry in response.json()["data"]}


async def test_models_that_cannot_chat_are_marked(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.models = listing(*({"id": name} for name in CLOUD))
    proxy = await start()
    models = await models_of(proxy)
    assert {name: models[name]["type"] for name in CLOUD} == CLOUD
    assert all(models[name]["type"] == "chat" for name in ("auto", "local", "cloud", LOCAL_MODEL))
    assert all(entry["object"] == "model" for entry in models.values())
    chats = await models_of(proxy, "?type=chat")
    assert chats == {name: entry for name, entry in models.items() if entry["type"] == "chat"}
    assert set(await models_of(proxy, "?type=video")) == {"sora-2"}
    refused = await proxy.client.get("/v1/models?type=speech")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "type")


async def test_own_names_say_what_they_are_and_can(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    local.native["/api/version"] = whole(b'{"version":"0.33.0"}')
    show = {
        "capabilities": ["completion", "tools"],
        "model_info": {"phi.context_length": 8192},
        "parameters": "num_ctx 8192",
    }
    local.native["/api/show"] = whole(json.dumps(show).encode())
    local.models = listing({"id": LOCAL_MODEL, "created": 1_700_000_000, "owned_by": "library"})
    cloud.models = listing({"id": CLOUD_MODEL, "created": 1_721_172_741, "owned_by": "system"})
    proxy = await start({"upstreams": {"cloud": {"context_tokens": 128_000}}})
    models = await models_of(proxy)
    assert models["auto"]["name"] == "Auto (local or cloud)"
    assert models["local"]["name"] == f"Local ({LOCAL_MODEL})"
    assert models["cloud"]["name"] == f"Cloud ({CLOUD_MODEL})"
    assert models[LOCAL_MODEL] == {
        "id": LOCAL_MODEL,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "local",
        "name": LOCAL_MODEL,
        "type": "chat",
        "context_length": 8192,
        "capabilities": ["completion", "json_schema", "logprobs", "tools"],
    }
    assert models["local"]["context_length"] == 8192
    assert models["auto"]["context_length"] == models["cloud"]["context_length"] == 128_000
    assert models[CLOUD_MODEL]["created"] == 1_721_172_741
    assert models["auto"]["created"] > 1_700_000_000
    assert {models[name]["owned_by"] for name in ("auto", "local", "cloud")} == {
        "hybrid-llm-router"
    }


async def test_local_models_are_not_asked_one_by_one(
    start: StartProxy, local: FakeUpstream
) -> None:
    asked: list[str] = []

    def show(call: Call) -> Any:
        asked.append(call.json["model"])
        kind = "embedding" if call.json["model"] == "vectors:1" else "completion"
        return whole(json.dumps({"capabilities": [kind]}).encode())

    local.native["/api/version"] = whole(b'{"version":"0.33.0"}')
    local.native["/api/show"] = show
    local.models = listing({"id": LOCAL_MODEL}, {"id": "vectors:1"}, {"id": "nomic-embed-text:v2"})
    proxy = await start()
    models = await models_of(proxy)
    assert set(asked) == {LOCAL_MODEL}
    assert models["nomic-embed-text:v2"]["type"] == "embedding"
    assert models["vectors:1"]["type"] == "chat"  # not known yet
    await proxy.chat(model="vectors:1")
    assert (await models_of(proxy))["vectors:1"]["type"] == "embedding"


@pytest.mark.parametrize(
    ("name", "listed"),
    [("Auto", "auto"), ("openai/local", "local"), ("auto:cost=0.3", "auto"), ("phi3", LOCAL_MODEL),
     ("ollama/phi3", LOCAL_MODEL), (CLOUD_MODEL, CLOUD_MODEL)],
)  # fmt: skip
async def test_one_model_is_found_as_requests_name_it(
    proxy: LiveProxy, name: str, listed: str
) -> None:
    async with openai.AsyncOpenAI(base_url=proxy.base_url, api_key="unused") as sdk:
        model = await sdk.models.retrieve(name)
    assert model.id == listed
    assert model.to_dict() == (await models_of(proxy))[listed]


async def test_an_unknown_model_has_a_suggestion(proxy: LiveProxy) -> None:
    error = (await proxy.client.get("/v1/models/ph3")).json()["error"]
    assert error["message"] == f"The model 'ph3' does not exist. Did you mean '{LOCAL_MODEL}'?"


ENTRIES: list[tuple[dict[str, Any], str, int | None]] = [
    # OpenRouter, Together, LM Studio, Mistral, llama.cpp, Groq, vLLM.
    (
        {"architecture": {"output_modalities": ["image", "text"]}, "context_length": 4096},
        "chat",
        4096,
    ),
    ({"architecture": {"output_modalities": ["image"]}}, "image", None),
    ({"architecture": {"output_modalities": ["embeddings"]}}, "embedding", None),
    ({"type": "language"}, "chat", None),
    ({"type": "rerank"}, "rerank", None),
    ({"type": "embeddings", "max_context_length": 2048}, "embedding", 2048),
    ({"type": "base", "capabilities": {"completion_chat": False}}, "other", None),
    ({"type": "base", "capabilities": {"completion_chat": True}}, "chat", None),
    ({"capabilities": ["completion", "multimodal"]}, "chat", None),
    ({"capabilities": ["embedding"]}, "embedding", None),
    ({"context_window": 131072}, "chat", 131072),
    ({"max_model_len": 32768}, "chat", 32768),
    # Odd values hide nothing.
    ({"type": 7, "capabilities": "x", "architecture": [], "context_length": "big"}, "chat", None),
    ({"type": {}, "created": -1, "name": 3, "max_model_len": 10**30}, "chat", None),
    ({"architecture": {"output_modalities": [7, None]}}, "chat", None),
]


@pytest.mark.parametrize(("fields", "model_type", "context"), ENTRIES)
def test_entries_of_other_servers_are_read(
    fields: dict[str, Any], model_type: str, context: int | None
) -> None:
    body = json.dumps({"data": [{"id": "a-model", **fields}]}).encode()
    (model,) = read_model_list(body) or ()
    assert (model.id, model.model_type, model.context_tokens) == ("a-model", model_type, context)
    assert (model.name, model.created) == (None, None)


def test_what_is_no_list_has_no_models() -> None:
    assert read_model_list(b'{"data":null}') == []
    for body in (b"", b"{}", b"<html>", b'{"data":[{"id":7}]}'):
        assert read_model_list(body) is None


@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("bge-m3", "embedding"),
        ("all-minilm:l6", "embedding"),
        ("multilingual-e5-large", "embedding"),
        ("jina-reranker-v2-base", "rerank"),
        ("FLUX.1-schnell", "image"),
        ("stable-diffusion-3.5", "image"),
        ("veo-3.1-generate", "video"),
        ("kokoro", "audio"),
        # These chat.
        ("llama3.2-vision:11b", "chat"),
        ("deepseek-coder-v2", "chat"),
        ("claude-sonnet-5", "chat"),
        ("gemma3:4b", "chat"),
        ("videollama", "chat"),
        ("phi3:latest", "chat"),
        ("codellama:7b-instruct", "chat"),
    ],
)
def test_names_tell_what_a_model_is_for(name: str, model_type: str) -> None:
    assert type_by_name(name) == model_type
    assert model_type in MODEL_TYPES
