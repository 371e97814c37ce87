"""Wire formats of OpenAI and others: the fields that the proxy reads or replaces.

This package does not know where a request is sent, what it costs or who sent it.
"""

from proxy.protocol import (
    endpoints,
    logprobs,
    model_list,
    model_servers,
    offered_tools,
    ollama,
    ollama_answers,
    ollama_native,
    outline,
    refusals,
    response_objects,
    responses,
)
from proxy.protocol.answer_form import read_form
from proxy.protocol.answer_parts import counted_tokens
from proxy.protocol.bounds import LARGE_BODY_BYTES, MAX_MODEL_CHARS, is_heavy
from proxy.protocol.chat import JSON_MEDIA_TYPE, EmbeddingRequest, view_answer, view_models
from proxy.protocol.fields import (
    SESSION_FIELDS,
    Fields,
    read_model_name,
    read_request,
    rewrite,
    validation_error,
)
from proxy.protocol.usage_chunk import without_usage
from proxy.protocol.views import (
    MAX_CONTEXT_TOKENS,
    AnswerView,
    HostedCalls,
    RoutingRequest,
    Turn,
    Usage,
)

__all__ = [
    "JSON_MEDIA_TYPE",
    "LARGE_BODY_BYTES",
    "MAX_CONTEXT_TOKENS",
    "MAX_MODEL_CHARS",
    "SESSION_FIELDS",
    "AnswerView",
    "EmbeddingRequest",
    "Fields",
    "HostedCalls",
    "RoutingRequest",
    "Turn",
    "Usage",
    "counted_tokens",
    "endpoints",
    "is_heavy",
    "logprobs",
    "model_list",
    "model_servers",
    "offered_tools",
    "ollama",
    "ollama_answers",
    "ollama_native",
    "outline",
    "read_form",
    "read_model_name",
    "read_request",
    "refusals",
    "response_objects",
    "responses",
    "rewrite",
    "validation_error",
    "view_answer",
    "view_models",
    "without_usage",
]
