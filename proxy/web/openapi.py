"""The OpenAPI document of the proxy: GET /openapi.json.

Request schemas name only what the proxy reads. What they do not name goes to the upstream as it was
sent, so every schema is open; OpenAI's own document says what there is.
"""

import re
from functools import cache
from typing import Any, Final

import msgspec

from proxy import __version__
from proxy.record import Ending, Reason, Target
from router_model.categories import CATEGORIES

_ERRORS: Final = {
    "400": "A field is missing or wrong; `param` names it.",
    "401": "No API key, or one that is not configured.",
    "403": "A web page that may not use the proxy, or a key that is no admin's.",
    "404": "No such model, request or path.",
    "408": "The request came in too slowly.",
    "409": "Another step runs, or this one cannot; or the upstream's own.",
    "413": "The body is larger than `server.max_body_mb`.",
    "422": "The upstream's own.",
    "429": "The key's requests or dollars are used up, or the upstream's are.",
    "500": "A bug of ours; the log has the trace.",
    "502": "The upstream could not be reached, or broke off.",
    "503": "Too many requests wait already, the proxy is being stopped, or its database fails.",
    "504": "The upstream took too long.",
}
_MODEL: Final = {"type": "string", "minLength": 1, "description": "For instance auto, or local."}
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
        "A chat completion, routed.",
        _request(
            "messages",
            messages={"type": "array", "minItems": 1, "items": _MESSAGE},
            stream=_STREAM,
            stream_options=_STREAM_OPTIONS,
        ),
    ),
    "/v1/responses": (
        "A response, routed.",
        _request(
            "input",
            input={"anyOf": [{"type": "string"}, {"type": "array", "items": _MESSAGE}]},
            instructions={"type": ["string", "null"]},
            stream=_STREAM,
            store={"type": ["boolean", "null"]},
        ),
    ),
    "/v1/completions": (
        "A completion, routed.",
        _request(prompt=_PROMPT, stream=_STREAM, stream_options=_STREAM_OPTIONS),
    ),
    "/v1/embeddings": (
        "Embeddings, by the tier that serves the model.",
        _request(input={"description": "For the upstream to read."}),
    ),
}


@cache
def document() -> bytes:
    """The document, as JSON."""
    paths: dict[str, Any] = {}
    for path, (summary, schema) in _ROUTED.items():
        paths[path] = {"post": _operation(summary, body=schema, stream=True)}
    paths["/v1/chat/completions"]["get"] = _operation("Chats that the cloud has stored.")
    paths["/v1/models"] = {"get": _operation("Every model a client may name.")}
    paths["/v1/models/{model}"] = {
        "parameters": [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "get": _operation("One model."),
        "delete": _operation("Delete a fine-tuned model of the cloud's."),
    }
    paths["/v1/feedback"] = {
        "post": _operation("What a client thought of an answer.", body=_FEEDBACK)
    }
    for path, (method, summary, body) in _PAGES.items():
        operation = _operation(summary, body=body, accepted=method == "post")
        names = re.findall(r"{([a-z_]+)}", path)
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ] + [{"name": name, "in": "query", "schema": kind} for name, kind in _ASKED.get(path, ())]
        paths.setdefault(path, {})[method] = operation
    for path, summary in {
        "/health": "200 while the process lives.",
        "/ready": "Each part's state; 503 when no tier answers, and while it is being stopped.",
        "/metrics": "Prometheus text.",
    }.items():
        answers: dict[str, Any] = {"200": {"description": "As the summary says."}}
        if path == "/ready":
            answers["503"] = {"description": "No tier answers."}
        paths[path] = {"get": {"summary": summary, "security": [], "responses": answers}}
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "hybrid-llm-router",
                "version": __version__,
                "description": "OpenAI's API, answered by a local or a cloud model.",
            },
            "paths": paths,
            "components": {
                "schemas": {"Error": _ERROR},
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
_FEEDBACK: Final = {
    "type": "object",
    "required": ["request_id"],
    "anyOf": [{"required": ["rating"]}, {"required": ["thumb"]}],
    "properties": {
        "request_id": {"type": "string", "description": "The answer's `x-request-id`."},
        "rating": {"type": "number", "minimum": -1, "maximum": 1},
        "thumb": {"enum": ["up", "down"]},
        "comment": {"type": ["string", "null"], "maxLength": 10_000},
    },
}


# What the pages ask, most of it for admins only: path, method, what it does, what is sent.
_PAGES: Final[dict[str, tuple[str, str, dict[str, Any] | None]]] = {
    "/api/status": ("get", "What runs here: tiers, router model, threshold.", None),
    "/api/decisions": (
        "post", "What would be decided on a chat request; no model is asked.",
        _ROUTED["/v1/chat/completions"][1],
    ),
    "/api/verdicts": (
        "post", "What the judge thinks of two answers.",
        {
            "type": "object",
            "required": ["request_id", "messages", "local", "cloud"],
            "properties": {
                "request_id": {"type": "string", "maxLength": 100},
                "messages": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["role", "content"],
                        "properties": {"role": {"type": "string"}, "content": {"type": "string"}},
                    },
                },
                "local": {"type": "string", "minLength": 1},
                "cloud": {"type": "string", "minLength": 1},
            },
        },
    ),
    "/api/stats": ("get", "Requests, dollars, latencies and scores of some time.", None),
    "/api/quality": ("get", "What judges say of the answers of some time.", None),
    "/api/pareto": ("get", "What each threshold would have cost and recovered.", None),
    "/api/requests": ("get", "Requests, the newest first, filtered and searched.", None),
    "/api/requests/{request_id}": ("get", "One request, with all that is known of it.", None),
    "/api/experiments": (
        "get", "The steps of training and measuring: cost, state, headline.", None
    ),
    "/api/experiments/{step}": (
        "post",
        "Start a step, or with `dry_run` only say what it would cost.",
        {
            "type": "object",
            "properties": {
                "parameters": {"type": "object", "description": "As /api/experiments names them."},
                "accept_usd": {
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 10_000,
                    "description": "What a step that asks paid models may spend.",
                },
                "dry_run": {"type": "boolean"},
            },
        },
    ),
    "/api/experiments/{step}/results": ("get", "What a step has found.", None),
    "/api/jobs": ("get", "Steps that were started, the newest first.", None),
    "/api/jobs/{job_id}": ("get", "How far a step is, and what it has printed.", None),
    "/api/jobs/{job_id}/cancel": ("post", "End a step.", None),
}  # fmt: skip
_SINCE: Final = ("since", {"enum": ["24h", "7d", "30d", "all"]})
_ASKED: Final[dict[str, tuple[tuple[str, dict[str, Any]], ...]]] = {
    **dict.fromkeys(("/api/stats", "/api/quality", "/api/pareto"), (_SINCE,)),
    "/api/requests": (
        _SINCE,
        ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
        ("before", {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,9})?~[a-z0-9_]{1,40}$"}),
        ("search", {"type": "string", "description": "Text of a prompt, or an id's beginning."}),
        ("target", {"enum": [*Target, "none"]}),
        ("reason", {"enum": [*Reason, "shadow"], "description": "shadow: now exploration."}),
        ("ending", {"enum": [*Ending]}),
        ("category", {"enum": [*CATEGORIES, "none"]}),
        ("model", {"type": "string"}),
    ),
    "/api/jobs": (
        ("step", {"type": "string"}),
        ("limit", {"type": "integer", "minimum": 1, "maximum": 200}),
    ),
    "/api/jobs/{job_id}": (("after", {"type": "integer", "minimum": 0}),),
}


def _operation(
    summary: str,
    *,
    body: dict[str, Any] | None = None,
    stream: bool = False,
    accepted: bool = False,
) -> dict[str, Any]:
    good: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        good["text/event-stream"] = {"schema": {"type": "string"}}
    bad = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "The answer.", "content": good}}
        | ({"202": {"description": "It is under way."}} if accepted else {})
        | {status: {"description": why, "content": bad} for status, why in _ERRORS.items()},
    }
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": body}},
        }
    return operation
