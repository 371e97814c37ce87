"""The OpenAPI document of the proxy: GET /openapi.json.

Request schemas list only the fields that the proxy reads. All other fields are forwarded unchanged,
so every schema is open. OpenAI's own document describes the rest.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from proxy import __version__
from proxy.config import MAX_KEY_NAME_CHARS
from proxy.protocol import MAX_MODEL_CHARS
from proxy.protocol.model_list import MODEL_TYPES
from proxy.record import Ending, Reason, SecondLookResult, Target
from proxy.storage import SORTS
from proxy.web.dashboard_query import CURSOR, SPANS
from router_model.categories import CATEGORIES

_OK: Final = {"200": "OK."}
_ERRORS: Final = {
    "400": "A field is missing or invalid; `param` names it.",
    "401": "The API key is missing or not configured.",
    "403": "The origin is not allowed, or an admin key is needed.",
    "404": "The model, request or path does not exist.",
    "408": "The request arrived too slowly.",
    "409": "The step or change is not possible in the current state, or the upstream returned 409.",
    "413": "The request body exceeds `server.max_body_mb`.",
    "415": "The request body is compressed, or is not JSON where only JSON is accepted.",
    "422": "The upstream returned 422.",
    "429": "The rate limit or budget of the key, the proxy or the upstream is exceeded.",
    "500": "Internal error of the proxy; its log has the traceback.",
    "502": "The upstream is unreachable, or its answer was interrupted.",
    "503": "The queue is full, the proxy is shutting down, or its database is unavailable.",
    "504": "The upstream timed out.",
}
_MODEL: Final = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_MODEL_CHARS,
    "description": "A model name, or auto, local or cloud.",
}
_STREAM: Final = {"type": ["boolean", "null"]}
_STREAM_OPTIONS: Final = {
    "type": ["object", "null"],
    "properties": {"include_usage": {"type": ["boolean", "null"]}},
}
_PART: Final = {
    "type": "object",
    "properties": {"type": {"type": "string"}, "text": {"type": ["string", "null"]}},
}
_CONTENT: Final = {"anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": _PART}]}
_MESSAGE: Final = {
    "type": "object",
    "required": ["role"],
    "properties": {"role": {"type": "string"}, "content": _CONTENT},
}
_PROMPT: Final = {
    "anyOf": [
        {"type": ["string", "null"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "integer"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    ]
}


def _request(*required: str, **properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", *required],
        "properties": {"model": _MODEL, **properties},
    }


_ROUTED: Final = {
    "/v1/chat/completions": (
        "Create a chat completion. The proxy chooses the tier.",
        _request(
            "messages",
            messages={"type": "array", "minItems": 1, "items": _MESSAGE},
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
        ),
    ),
    "/v1/responses": (
        "Create a response. The proxy chooses the tier.",
        _request(
            "input",
            input={"anyOf": [{"type": "string"}, {"type": "array", "items": _MESSAGE}]},
            instructions={"type": ["string", "null"]},
            stream=_STREAM,
            store={"type": ["boolean", "null"]},
        ),
    ),
    "/v1/completions": (
        "Create a completion. The proxy chooses the tier.",
        _request(prompt=_PROMPT, stream=_STREAM, stream_options=_STREAM_OPTIONS),
    ),
    "/v1/embeddings": (
        "Create embeddings. The tier that serves the model answers.",
        _request(input={"description": "Forwarded to the upstream."}),
    ),
}
_BLOCKS: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}


def _messages(content: dict[str, Any]) -> dict[str, Any]:
    """The schema of messages, given that of their content."""
    return {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {"role": {"type": "string"}, "content": content},
        },
    }


_PROMPT_OF_MESSAGES: Final = {
    "messages": _messages(_BLOCKS),
    "system": {"anyOf": [{"type": "null"}, *_BLOCKS["anyOf"]]},
}
# Anthropic's API, whose errors have another form.
_MESSAGES: Final = {
    "/v1/messages": (
        "Create a message. The local tier answers.",
        _request("messages", **_PROMPT_OF_MESSAGES, stream=_STREAM),
    ),
    "/v1/messages/count_tokens": (
        "Count the tokens of a request for a message. No model is called.",
        _request("messages", **_PROMPT_OF_MESSAGES),
    ),
}


_STRINGS: Final = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_OPTIONS: Final = {"type": ["object", "null"]}
# Ollama's API: path, method, summary, request body.
_NATIVE: Final[dict[str, tuple[str, str, dict[str, Any] | None]]] = {
    "/api/chat": (
        "post",
        "Answer a conversation, in Ollama's form. The proxy chooses the tier.",
        _request(
            messages={
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["role"],
                    "properties": {
                        "role": {"type": "string"},
                        "content": {"type": ["string", "null"]},
                    },
                },
            },
            stream=_STREAM,
            options=_OPTIONS,
        ),
    ),
    "/api/generate": (
        "post",
        "Answer a prompt, in Ollama's form. The proxy chooses the tier.",
        _request(
            prompt={"type": ["string", "null"]},
            system={"type": ["string", "null"]},
            stream=_STREAM,
            options=_OPTIONS,
        ),
    ),
    "/api/embed": (
        "post",
        "Create embeddings, in Ollama's form. The tier that serves the model answers.",
        _request("input", input=_STRINGS),
    ),
    "/api/embeddings": (
        "post",
        "Create one embedding, in Ollama's older form.",
        _request(prompt={"type": "string"}),
    ),
    "/api/tags": ("get", "List auto, local, cloud and the local models.", None),
    "/api/show": ("post", "Describe a model.", _request()),
    "/api/ps": ("get", "List the loaded local models.", None),
    "/api/version": ("get", "Get the version of Ollama, or of its API that is spoken.", None),
}
_NATIVE_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


@cache
def document() -> bytes:
    """The document, as JSON."""
    paths: dict[str, Any] = {}
    for path, (summary, schema) in _MESSAGES.items():
        stream = path == "/v1/messages"
        operation = _operation(summary, body=schema, stream=stream, error="MessagesError")
        paths[path] = {"post": operation}
    for path, (summary, schema) in _ROUTED.items():
        paths[path] = {"post": _operation(summary, body=schema, stream=True)}
    paths["/v1/chat/completions"]["get"] = _operation("List chat completions stored in the cloud.")
    paths["/v1/models"] = {"get": _operation("List the models that a client may name.")}
    paths["/v1/models"]["get"]["parameters"] = [
        {"name": "type", "in": "query", "schema": {"enum": list(MODEL_TYPES)}}
    ]
    paths["/v1/models/{model}"] = {
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "get": _operation("Get one model."),
        "delete": _operation("Delete a fine-tuned model in the cloud."),
    }
    for path, (method, summary, body) in _NATIVE.items():
        streams = path in ("/api/chat", "/api/generate")
        paths[path] = {method: _native_operation(summary, body=body, stream=streams)}
    paths["/v1/feedback"] = {"post": _operation("Rate an answer.", body=_FEEDBACK)}
    pages = [(path, *described) for path, described in _PAGES.items()]
    for path, method, summary, body in (*pages, *_SEVERAL_METHODS):
        statuses = _STATUSES.get((method, path), _OK)
        operation = _operation(summary, body=body, statuses=statuses)
        if path.endswith(".csv"):
            operation["responses"]["200"]["content"] = {"text/csv": {"schema": {"type": "string"}}}
        names = re.findall(r"{([a-z_]+)}", path)
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ] + [
            {"name": name, "in": "query", "schema": kind, "required": (path, name) in _REQUIRED}
            for name, kind in (_QUERY_PARAMETERS.get(path, ()) if method == "get" else ())
        ]
        paths.setdefault(path, {})[method] = operation
    for path, summary in {
        "/health": "Liveness: 200 while the process runs.",
        "/ready": "Readiness: the state of each part. 503 when no tier is up, and during shutdown.",
        "/metrics": "Metrics in the Prometheus text format.",
    }.items():
        answers: dict[str, Any] = {"200": {"description": "See the summary."}}
        if path == "/ready":
            answers["503"] = {"description": "No tier is up, or the proxy is shutting down."}
        paths[path] = {"get": {"summary": summary, "security": [], "responses": answers}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "hybrid-llm-router",
                "version": __version__,
                "description": "OpenAI-compatible API with a local and a cloud tier.",
            },
            "paths": paths,
            "components": {
                "schemas": {
                    "Error": _ERROR,
                    "MessagesError": _MESSAGES_ERROR,
                    "NativeError": _NATIVE_ERROR,
                },
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"key": []}],
        }
    )


_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MESSAGES_ERROR: Final = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
        "request_id": {"type": "string"},
    },
}
_FEEDBACK: Final = {
    "type": "object",
    "required": ["request_id"],
    "anyOf": [{"required": ["rating"]}, {"required": ["thumb"]}],
    "properties": {
        "request_id": {"type": "string", "description": "The `x-request-id` of the answer."},
        "rating": {"type": "number", "minimum": -1, "maximum": 1},
        "thumb": {"enum": ["up", "down"]},
        "comment": {"type": ["string", "null"], "maxLength": 10_000},
    },
}


_SHA256: Final = {
    "type": "string",
    "pattern": "^[0-9a-f]{64}$",
    "description": "Of the configuration file, as returned with the difference.",
}
_CHOICE: Final = {
    "type": "object",
    "required": ["request_id", "other_id", "choice", "source"],
    "additionalProperties": False,
    "properties": {
        "request_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100,
            "description": "The `x-request-id` of the answer that came first.",
        },
        "other_id": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100,
            "description": "That of the other tier's answer.",
        },
        "choice": {"enum": ["local", "cloud", "tie"]},
        "source": {"enum": ["chat", "compare"]},
        "is_blind": {
            "type": "boolean",
            "description": "Whether the tiers were hidden until the choice.",
        },
        "may_learn": {
            "type": "boolean",
            "description": "Whether calibration may use the choice.",
        },
    },
}


# The JSON API of the pages, mostly for admins: path, method, summary, request body.
_PAGES: Final[dict[str, tuple[str, str, dict[str, Any] | None]]] = {
    "/api/status": ("get", "Get the state of the proxy: tiers, router model, threshold.", None),
    "/api/decisions": (
        "post", "Preview the routing decision for a chat request. No model is called.",
        _ROUTED["/v1/chat/completions"][1],
    ),
    "/api/verdicts": (
        "post", "Have the judge compare two answers.",
        {
            "type": "object",
            "required": ["request_id", "messages", "local", "cloud"],
            "properties": {
                "request_id": {"type": "string", "maxLength": 100},
                "messages": _messages({"type": "string"}),
                "local": {"type": "string", "minLength": 1},
                "cloud": {"type": "string", "minLength": 1},
            },
        },
    ),
    "/api/stats": ("get", "Get requests, cost, latencies and scores of a time range.", None),
    "/api/quality": ("get", "Get answer quality in a time range, by judge scores.", None),
    "/api/pareto": ("get", "Get cost and quality of each threshold.", None),
    "/api/threshold": ("get", "Get the threshold, its file and its last change.", None),
    "/api/threshold/preview": (
        "get", "List recent requests that another threshold would move.", None
    ),
    "/api/threshold/apply": (
        "post", "Change the threshold in the configuration file. With `dry_run`, only compare.",
        {
            "type": "object",
            "required": ["threshold"],
            "additionalProperties": False,
            "anyOf": [
                {"required": ["sha256"]},
                {"required": ["dry_run"], "properties": {"dry_run": {"const": True}}},
            ],
            "properties": {
                "threshold": {
                    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "auto"}]
                },
                "sha256": _SHA256,
                "dry_run": {"type": "boolean"},
            },
        },
    ),
    "/api/routing/preview": (
        "post", "Preview a threshold, rules and a band of the second look on recent requests.",
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "threshold": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
                "rules": {
                    "type": ["array", "null"],
                    "items": {"type": "object"},
                    "description": "As `routing.rules` of the configuration.",
                },
                "verify": {
                    "type": ["object", "null"],
                    "properties": {"band": {}},
                    "description": "`band`, as `verify.band` of the configuration.",
                },
                "yaml": {
                    "type": ["string", "null"],
                    "description": "Rules and band as a text, in place of both fields.",
                },
            },
        },
    ),
    "/api/threshold/undo": (
        "post", "Restore the threshold before the last change.",
        {
            "type": "object",
            "required": ["sha256"],
            "properties": {"sha256": _SHA256},
            "additionalProperties": False,
        },
    ),
    "/api/usage": ("get", "Get the requests, costs and limits of the caller's API key.", None),
    "/api/headline": ("get", "Get what was saved this month, and its projection.", None),
    "/api/learning": ("get", "Get the state of self-calibration and its last steps.", None),
    "/api/requests": ("get", "List requests with filters, search and an order.", None),
    "/api/requests.csv": ("get", "Get the filtered list as CSV, at most 100,000 rows.", None),
    "/api/requests/{request_id}": ("get", "Get one request with all its fields.", None),
    "/api/requests/{request_id}/body": (
        "get", "Get the stored JSON of a request and of its answer (`storage.bodies`).", None
    ),
    "/api/errors": ("get", "Get the errors of a time range, grouped by cause.", None),
    "/api/experiments": (
        "get", "List the training and evaluation steps with cost, state and headline.", None
    ),
    "/api/experiments/{step}": (
        "post",
        "Start a step. With `dry_run`, only estimate its cost.",
        {
            "type": "object",
            "properties": {
                "parameters": {"type": "object", "description": "As listed by /api/experiments."},
                "accept_usd": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 10_000,
                    "description": "Spending limit of a step that calls paid models.",
                },
                "dry_run": {"type": "boolean"},
            },
        },
    ),
    "/api/experiments/{step}/results": ("get", "Get the results of a step.", None),
    "/api/jobs": ("get", "List jobs, newest first.", None),
    "/api/jobs/{job_id}": ("get", "Get the state and the log of a job.", None),
    "/api/jobs/{job_id}/cancel": ("post", "Cancel a job.", None),
}  # fmt: skip
_LIMITS_OF_KEY: Final = {
    "is_admin": {"type": "boolean"},
    "requests_per_minute": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000},
    "cloud_usd_per_day": {"type": ["number", "null"], "minimum": 0, "maximum": 1_000_000},
}
_KEY_NAME: Final = {"type": "string", "minLength": 1, "maxLength": MAX_KEY_NAME_CHARS}
_KEY_FIELDS: Final = {"name": _KEY_NAME, **_LIMITS_OF_KEY}
# Paths with several methods.
_SEVERAL_METHODS: Final[tuple[tuple[str, str, str, dict[str, Any] | None], ...]] = (
    ("/api/choices", "get", "Get how often users found the local answer good enough.", None),
    ("/api/choices", "post", "Store which of two answers to one prompt is better.", _CHOICE),
    ("/api/keys", "get", "List API keys with their use and limits, and the last changes.", None),
    (
        "/api/keys",
        "post",
        "Create an API key. Only this answer has the key itself.",
        {
            "type": "object",
            "required": ["name"],
            "properties": _KEY_FIELDS,
            "additionalProperties": False,
        },
    ),
    (
        "/api/keys/{key_hash}",
        "patch",
        "Rename a created API key, or change its limits.",
        {"type": "object", "properties": _KEY_FIELDS, "additionalProperties": False},
    ),
    ("/api/keys/{key_hash}", "delete", "Revoke a created API key.", None),
)
# Of a success, where it is not 200.
_STATUSES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("post", "/api/keys"): {"201": "The key is created."},
    ("post", "/api/experiments/{step}"): {
        "200": "With `dry_run`: the cost.",
        "202": "The step has started.",
    },
    ("post", "/api/jobs/{job_id}/cancel"): {"202": "The job ends."},
}
_REQUIRED: Final = {("/api/threshold/preview", "threshold")}
# Of a time only UNIX seconds: no schema says which texts are a time of ISO 8601 since 1970.
_SECONDS: Final = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?$"}
_PERIOD: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    (
        "since",
        {
            "anyOf": [{"enum": [*SPANS]}, _SECONDS],
            "description": "A range up to now, UNIX seconds, or a time in ISO 8601.",
        },
    ),
    ("until", {**_SECONDS, "description": "UNIX seconds, or a time in ISO 8601; exclusive."}),
)
_FILTERS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("search", {"type": "string", "description": "Text of a prompt, or the beginning of an id."}),
    ("target", {"enum": [*Target, "none"]}),
    ("reason", {"enum": [*Reason, "shadow"], "description": "shadow: now exploration."}),
    ("ending", {"enum": [*Ending]}),
    ("category", {"enum": [*CATEGORIES, "none"]}),
    ("second_look", {"enum": [*SecondLookResult, "none"]}),
    ("model", {"type": "string"}),
    ("error_code", {"type": "string"}),
    ("key", {"type": "string", "pattern": "^([0-9a-f]{16}|none)$"}),
)
_ORDER: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("sort", {"enum": [*SORTS]}),
    ("order", {"enum": ["desc", "asc"]}),
)
_QUERY_PARAMETERS: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    **dict.fromkeys(
        ("/api/quality", "/api/pareto", "/api/errors", "/api/keys", "/api/usage"), _PERIOD
    ),
    "/api/stats": (*_PERIOD, *_FILTERS),
    "/api/requests.csv": (*_PERIOD, *_FILTERS, *_ORDER),
    "/api/threshold/preview": (("threshold", {"type": "number", "minimum": 0, "maximum": 1}),),
    "/api/requests": (
        *_PERIOD,
        *_FILTERS,
        *_ORDER,
        ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
        ("before", {"type": "string", "pattern": f"^{CURSOR.pattern}$"}),
    ),
    "/api/jobs": (
        ("step", {"type": "string"}),
        ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
    ),
    "/api/jobs/{job_id}": (("after", {"type": "integer", "minimum": 0}),),
}


def _native_operation(summary: str, *, body: dict[str, Any] | None, stream: bool) -> dict[str, Any]:
    """An operation of Ollama's API, which has its own errors, and lines as a stream."""
    operation = _operation(summary, body=body)
    if stream:
        content = operation["responses"]["200"]["content"]
        content["application/x-ndjson"] = {"schema": {"type": "string"}}
    schema = {"schema": {"$ref": "#/components/schemas/NativeError"}}
    for status in _ERRORS:
        operation["responses"][status]["content"] = {"application/json": schema}
    return operation


def _operation(
    summary: str,
    *,
    body: dict[str, Any] | None = None,
    stream: bool = False,
    statuses: Mapping[str, str] = _OK,
    error: str = "Error",
) -> dict[str, Any]:
    good: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        good["text/event-stream"] = {"schema": {"type": "string"}}
    bad = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {"description": what, "content": good} for status, what in statuses.items()
        }
        | {status: {"description": why, "content": bad} for status, why in _ERRORS.items()},
    }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return operation
