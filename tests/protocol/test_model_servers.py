"""The lists of loaded models of several local servers."""

import json
from typing import Any

import pytest

from proxy.protocol.model_servers import MODEL_SERVERS, ModelServer, shortest_chat

OLLAMA, LM_STUDIO, LLAMA_SWAP, LLAMA_ROUTER = MODEL_SERVERS

# As the servers send them, shortened.
PS = {
    "models": [
        {"name": "phi3:latest", "model": "phi3:latest", "size_vram": 5, "context_length": 4096}
    ]
}
STUDIO = {
    "object": "list",
    "data": [
        {"id": "qwen2-vl-7b-instruct", "type": "vlm", "state": "not-loaded", "arch": "qwen2_vl"},
        {"id": "meta-llama-3.1-8b-instruct", "type": "llm", "state": "loaded"},
    ],
}
SWAP = {
    "running": [
        {"model": "a", "state": "ready", "cmd": "llama-server", "ttl": 60},
        {"model": "b", "state": "starting"},
    ]
}
ROUTER = {
    "object": "list",
    "data": [
        {"id": "a", "status": {"value": "loaded", "args": ["llama-server"]}},
        {"id": "b", "status": {"value": "loading"}},
        {"id": "c", "status": {"value": "unloaded"}},
    ],
}
BODIES = {"ps": PS, "studio": STUDIO, "swap": SWAP, "router": ROUTER}


@pytest.mark.parametrize(
    ("server", "body", "loaded"),
    [
        (OLLAMA, PS, {"phi3:latest"}),
        (OLLAMA, {"models": []}, set()),
        (LM_STUDIO, STUDIO, {"meta-llama-3.1-8b-instruct"}),
        (LLAMA_SWAP, SWAP, {"a"}),
        (LLAMA_SWAP, {"running": []}, set()),
        (LLAMA_ROUTER, ROUTER, {"a"}),
    ],
)
def test_loaded_models_are_read(server: ModelServer, body: Any, loaded: set[str]) -> None:
    assert server.read(json.dumps(body).encode()) == loaded


@pytest.mark.parametrize("server", MODEL_SERVERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"404 page not found",
        b"\xff",
        b'{"models": null}',
        b'{"object": "list", "data": [{"id": "phi3", "object": "model"}]}',  # of most servers
    ],
)
def test_other_answers_tell_nothing(server: ModelServer, body: bytes) -> None:
    assert server.read(body) is None


@pytest.mark.parametrize("name", BODIES)
def test_no_server_is_taken_for_another(name: str) -> None:
    body = json.dumps(BODIES[name]).encode()
    assert [server.read(body) is not None for server in MODEL_SERVERS].count(True) == 1


def test_the_requests_that_load_a_model() -> None:
    assert (OLLAMA.load_path, OLLAMA.load_body("phi3")) == (
        "/api/generate",
        b'{"model":"phi3","stream":false}',
    )
    for server in MODEL_SERVERS[1:]:
        assert server.load_path == "/v1/chat/completions"
        assert json.loads(server.load_body("phi3")) == json.loads(shortest_chat("phi3"))
    assert json.loads(shortest_chat("phi3"))["max_tokens"] == 1
