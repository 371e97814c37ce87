"""A double of llama.cpp's server, build 6139, without --jinja and without a projector for images.

Sources: github.com/ggml-org/llama.cpp tools/server/server-common.cpp (format_error_response,
oaicompat_chat_params_parse: a runtime_error is a 500, an invalid_argument a 400) and
tools/server/server-task.cpp (to_json_oaicompat_chat, to_json_oaicompat_chat_stream: the timings
are in the last chunk, whichever it is).
"""

from collections.abc import Iterator
from typing import Any

from fakes import Call
from servers.doubles.base import (
    CREATED,
    Fields,
    Refusal,
    Server,
    count_tokens,
    has_part,
    parts_of,
    roles_of,
)

TIMINGS = {
    "cache_n": 0,
    "prompt_n": 19,
    "prompt_ms": 38.0,
    "prompt_per_token_ms": 2.0,
    "prompt_per_second": 500.0,
    "predicted_n": 10,
    "predicted_ms": 100.0,
    "predicted_per_token_ms": 10.0,
    "predicted_per_second": 100.0,
}


class LlamaCpp(Server):
    """It takes unknown fields: they are parameters of its sampler, or nothing."""

    def list_models(self) -> Fields:
        entry = {
            "id": self.model,
            "object": "model",
            "created": CREATED,
            "owned_by": "llamacpp",
            "meta": {"n_ctx_train": self.context_tokens, "n_params": 3_821_079_648},
        }
        old = {"name": self.model, "model": self.model, "capabilities": ["completion"]}
        return {"models": [old], "object": "list", "data": [entry]}

    def unknown_path(self, call: Call) -> Refusal:
        return _error(404, "File Not Found", kind="not_found_error")

    def check(self, fields: Fields) -> Refusal | None:
        tools = fields.get("tools")
        if not self.has_tools:
            if tools:
                return _error(500, "tools param requires --jinja flag")
            if fields.get("tool_choice", "auto") != "auto":
                return _error(500, "tool_choice param requires --jinja flag")
        form = (fields.get("response_format") or {}).get("type", "text")
        if form not in ("text", "json_object", "json_schema"):
            return _error(
                400,
                'response_format type must be one of "text" or "json_object", but got: ' + form,
            )
        for part in parts_of(fields):
            if part["type"] not in ("text", "image_url", "input_audio"):
                return _error(400, "unsupported content[].type")
        for kind, name in (("image_url", "image"), ("input_audio", "audio")):
            if has_part(fields, kind) and not self.has_vision:
                return _error(
                    500,
                    f"{name} input is not supported - hint: if this is unexpected, you may need "
                    "to provide the mmproj",
                )
        if tools and "grammar" in fields:
            return _error(400, "Cannot use custom grammar constraints with tools.")
        if roles_of(fields)[-2:] == ["assistant", "assistant"]:
            return _error(400, "Cannot have 2 or more assistant messages at the end of the list.")
        if fields.get("logprobs") and tools and fields.get("stream"):
            return _error(400, "logprobs is not supported with tools + stream")
        if fields.get("top_logprobs") is not None and not fields.get("logprobs"):
            return _error(400, "top_logprobs requires logprobs to be set to true")
        if (tokens := count_tokens(fields)) > self.context_tokens:
            return _error(
                400,
                f"request ({tokens} tokens) exceeds the available context size "
                f"({self.context_tokens} tokens), try increasing it",
                kind="exceed_context_size_error",
                n_prompt_tokens=tokens,
                n_ctx=self.context_tokens,
            )
        return None

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {"system_fingerprint": "b6139-f4586ee5"}

    def thought(self, text: str) -> dict[str, Any]:
        return {"reasoning_content": text}

    def complete(self, fields: Fields) -> dict[str, Any]:
        return super().complete(fields) | {"timings": TIMINGS}

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        *most, last = super().chunks(fields)
        most[0]["choices"][0]["delta"]["content"] = None  # that of the role
        yield from most
        yield last | {"timings": TIMINGS}


def _error(status: int, message: str, *, kind: str | None = None, **fields: int) -> Refusal:
    if kind is None:
        kind = "server_error" if status == 500 else "invalid_request_error"
    return Refusal(status, {"error": {"code": status, "message": message, "type": kind, **fields}})
