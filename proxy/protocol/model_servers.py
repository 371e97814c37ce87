"""The local servers that load models on demand: what they have loaded, and how they load one.

Each server lists its loaded models at a path of its own, outside of /v1. A request for a model
that is not loaded loads it, which may take minutes.

Sources: Ollama's server/routes.go (`PsHandler`, `GenerateHandler`) and docs/api.md; LM Studio's
REST API v0 (lmstudio.ai/docs/developer/rest/endpoints) and JIT loading (docs/developer/core/
ttl-and-auto-evict); llama-swap's README and `handleRunning`; llama.cpp's tools/server/README.md
(router mode).
"""

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import msgspec

from proxy.protocol import ollama

T = TypeVar("T")

CHAT_PATH: Final = "/v1/chat/completions"
# What clients put in front of a model's name to choose a local server. Sources:
# LiteLLM's list of providers, and those of opencode and Cline.
LOCAL_CONNECTIONS: Final = re.compile(
    r"(?:ollama(?:[_-](?:chat|local))?|lm[ _-]?studio|llamafile|llama[._-]?(?:cpp|swap)"
    r"|(?:hosted[_-])?vllm|docker[_-]model[_-]runner|gpt4all|koboldcpp|oobabooga|lemonade|ramalama"
    r"|local(?:[_-]?(?:ai|llm|model|server))?|(?:https?://)?(?:localhost|127\.0\.0\.1)(?::\d+)?)/",
    re.IGNORECASE,
)


class ModelServer(NamedTuple):
    """A kind of server.

    Attributes:
        list_path: of the list of loaded models.
        read: the names of the loaded models from that list; None if it is another server's answer.
        load_path: of the request that loads a model and is answered when it is loaded.
        load_body: the body of that request, for a model.
    """

    list_path: str
    read: Callable[[bytes], frozenset[str] | None]
    load_path: str
    load_body: Callable[[str], bytes]


def shortest_chat(model: str) -> bytes:
    """A chat request for one token. It loads the model, and its answer proves that it works."""
    return msgspec.json.encode(
        {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    )


class _LmStudioModel(msgspec.Struct):
    id: str
    state: str


class _LmStudioModels(msgspec.Struct):
    data: list[_LmStudioModel]


class _SwapModel(msgspec.Struct):
    model: str
    state: str


class _SwapModels(msgspec.Struct):
    running: list[_SwapModel]


class _RouterStatus(msgspec.Struct):
    value: str


class _RouterModel(msgspec.Struct):
    id: str
    status: _RouterStatus


class _RouterModels(msgspec.Struct):
    data: list[_RouterModel]


def _read_lm_studio(body: bytes) -> frozenset[str] | None:
    models = _decode(body, _LmStudioModels)
    if models is None:
        return None
    return frozenset(model.id for model in models.data if model.state == "loaded")


def _read_llama_swap(body: bytes) -> frozenset[str] | None:
    """Newer versions list the models that start or stop, too."""
    models = _decode(body, _SwapModels)
    if models is None:
        return None
    return frozenset(model.model for model in models.running if model.state == "ready")


def _read_llama_router(body: bytes) -> frozenset[str] | None:
    models = _decode(body, _RouterModels)
    if models is None or not models.data:
        return None
    return frozenset(model.id for model in models.data if model.status.value == "loaded")


def _decode(body: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# LM Studio has a request that only loads, but that loads a second instance of a loaded model.
MODEL_SERVERS: Final = (
    ModelServer(ollama.RUNNING_PATH, ollama.read_running, ollama.LOAD_PATH, ollama.load_body),
    ModelServer("/api/v0/models", _read_lm_studio, CHAT_PATH, shortest_chat),
    ModelServer("/running", _read_llama_swap, CHAT_PATH, shortest_chat),
    ModelServer("/v1/models", _read_llama_router, CHAT_PATH, shortest_chat),
)
