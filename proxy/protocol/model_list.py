"""The list of models of a server of OpenAI's API: what its entries say beside the id.

OpenAI's entries do not say what a model is for; other servers do, each in fields of their own. The
name decides where an entry says nothing, so that front ends do not offer a speech model for chat.

Sources: OpenAI's list of models; the APIs of OpenRouter (`architecture`), Mistral and llama.cpp
(`capabilities`), Together and LM Studio (`type`), Groq (`context_window`), vLLM (`max_model_len`)
and Anthropic (`display_name`).
"""

import re
from typing import Final, NamedTuple, TypeGuard

import msgspec

from proxy.protocol.views import UNREADABLE

CHAT_MODEL: Final = "chat"
_MAX_CONTEXT: Final = 2**31  # a larger number is an error
MODEL_TYPES: Final = (
    CHAT_MODEL,
    "completion",
    "embedding",
    "rerank",
    "moderation",
    "audio",
    "image",
    "video",
    "other",
)

# The first pattern that a name contains decides; a name without any is that of a chat model.
_BY_NAME: Final = tuple(
    (model_type, re.compile(pattern, re.IGNORECASE))
    for model_type, pattern in {
        "rerank": r"rerank",
        "embedding": r"embed|minilm|\b(?:bge|e5|gte|voyage)\b",
        "moderation": r"moderation",
        "audio": r"whisper|transcribe|realtime|speech|\b(?:tts|audio|voice|kokoro|lyria)\b",
        "image": r"dall-e|imagen|diffusion|seedream|\b(?:image|flux|sdxl|recraft)\b",
        "video": r"\b(?:sora|veo|video|kling)\b",
        "completion": r"\b(?:davinci|babbage)\b|turbo-instruct",
    }.items()
)
_BY_TYPE: Final = {
    "llm": CHAT_MODEL,
    "vlm": CHAT_MODEL,
    "language": CHAT_MODEL,
    "code": CHAT_MODEL,
    "embeddings": "embedding",
    "transcribe": "audio",
    "text": CHAT_MODEL,  # of `output_modalities`
    "speech": "audio",
} | {model_type: model_type for model_type in MODEL_TYPES}


class ListedModel(NamedTuple):
    """An entry of a list. None means that it does not say.

    Attributes:
        created: Unix seconds.
        context_tokens: the size of prompt and answer together.
        model_type: one of MODEL_TYPES.
    """

    id: str
    name: str | None = None
    created: int | None = None
    context_tokens: int | None = None
    model_type: str = CHAT_MODEL


class _Entry(msgspec.Struct):
    """The fields are of any type: an odd one must not hide the model."""

    id: str
    name: object = None
    display_name: object = None
    created: object = None
    context_length: object = None
    max_model_len: object = None
    max_context_length: object = None
    context_window: object = None
    type: object = None
    capabilities: object = None
    architecture: object = None


class _List(msgspec.Struct):
    data: list[_Entry] | None  # Ollama without a model has null


_list = msgspec.json.Decoder(_List)


def read_model_list(body: bytes) -> list[ListedModel] | None:
    """The entries of an answer to GET /models; None if it is no list of models."""
    try:
        return [_read(entry) for entry in _list.decode(body).data or ()]
    except UNREADABLE:
        return None


def type_by_name(model: str) -> str:
    """What a model is for, by its name: one of MODEL_TYPES."""
    return next((kind for kind, pattern in _BY_NAME if pattern.search(model)), CHAT_MODEL)


def type_by_capabilities(capabilities: object) -> str | None:
    """What a model is for, by its capabilities in the words of several servers; None if unknown."""
    match capabilities:
        case {"completion_chat": True}:
            return CHAT_MODEL
        case {"completion_chat": False}:
            return "other"
        case list() | frozenset() if "completion" in capabilities or "chat" in capabilities:
            return CHAT_MODEL
        case list() | frozenset() if "embedding" in capabilities:
            return "embedding"
        case _:
            return None


def _read(entry: _Entry) -> ListedModel:
    names = (entry.name, entry.display_name)
    contexts = (
        entry.context_length,
        entry.max_model_len,
        entry.max_context_length,
        entry.context_window,
    )
    created = entry.created
    return ListedModel(
        entry.id,
        next((name for name in names if isinstance(name, str) and name), None),
        created if isinstance(created, int) and 0 < created < 2**53 else None,
        next((size for size in contexts if _is_context(size)), None),
        _type_of(entry),
    )


def _is_context(size: object) -> TypeGuard[int]:
    return isinstance(size, int) and 0 < size <= _MAX_CONTEXT


def _type_of(entry: _Entry) -> str:
    stated = _BY_TYPE.get(entry.type) if isinstance(entry.type, str) else None
    stated = stated or type_by_capabilities(entry.capabilities) or _by_output(entry.architecture)
    by_name = type_by_name(entry.id)
    return by_name if stated is None or (stated == "other" and by_name != CHAT_MODEL) else stated


def _by_output(architecture: object) -> str | None:
    match architecture:
        case {"output_modalities": [*outputs]}:
            kinds = [_BY_TYPE.get(output) for output in outputs if isinstance(output, str)]
            return CHAT_MODEL if CHAT_MODEL in kinds else next(filter(None, kinds), None)
        case _:
            return None
