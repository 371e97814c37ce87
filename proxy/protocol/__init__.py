"""OpenAI's wire formats: what the proxy reads of a request and an answer, and what it may replace.

This package does not know where a request is sent, what it costs or who sent it.
"""

from proxy.protocol import endpoints, ollama, responses
from proxy.protocol.bounds import LARGE_BODY_BYTES
from proxy.protocol.chat import JSON_MEDIA_TYPE, view_answer, view_models
from proxy.protocol.fields import read_request, rewrite, validation_error
from proxy.protocol.views import AnswerView, RoutingRequest, Usage

__all__ = [
    "JSON_MEDIA_TYPE",
    "LARGE_BODY_BYTES",
    "AnswerView",
    "RoutingRequest",
    "Usage",
    "endpoints",
    "ollama",
    "read_request",
    "responses",
    "rewrite",
    "validation_error",
    "view_answer",
    "view_models",
]
