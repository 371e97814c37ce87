"""A double of LM Studio 0.3: it loads a model when it is asked for, and errors are plain strings.

Sources, as the program is closed: lmstudio.ai/docs/app/api/endpoints/openai, and answers that
users quote in github.com/lmstudio-ai/lmstudio-bug-tracker issues 237, 307, 362, 619, 670 and
1323, in github.com/LoadShine/tada/issues/16 and in github.com/canopyai/Orpheus-TTS/issues/229.
"""

from typing import Any

from servers.doubles.base import Fields, Refusal, Server, count_tokens, has_part


class LmStudio(Server):
    """It ignores unknown fields and, with one model loaded, also the model's name."""

    is_loaded = True

    def list_models(self) -> Fields:
        entry = {"id": self.model, "object": "model", "owned_by": "organization_owner"}
        return {"object": "list", "data": [entry]}

    def unknown_path(self, call: Any) -> Refusal:
        # The server logs a warning and answers with status 200.
        return Refusal(
            200, {"error": f"Unexpected endpoint or method. ({call.method} {call.path})"}
        )

    def check(self, fields: Fields) -> Refusal | None:
        if not self.is_loaded:
            message = (
                "No models loaded. Please load a model in the developer page or use the "
                "`lms load` command."
            )
            error = {"message": message, "type": "invalid_request_error"}
            return Refusal(404, {"error": error | {"param": "model", "code": "model_not_found"}})
        if isinstance(fields.get("tool_choice"), dict):
            return _error(
                "Invalid tool_choice type: 'object'. Supported string values: none, auto, required"
            )
        form = (fields.get("response_format") or {}).get("type", "text")
        if form not in ("json_schema", "text"):
            return _error("'response_format.type' must be 'json_schema' or 'text'")
        if has_part(fields, "image_url") and not self.has_vision:
            return _error("Model does not support images. Please use a model that does.")
        if (tokens := count_tokens(fields)) > self.context_tokens:
            return _error(
                f"Trying to keep the first {tokens} tokens when context the overflows. However, "
                f"the model is loaded with context length of only {self.context_tokens} tokens, "
                "which is not enough. Try to load the model with a larger context length, or "
                "provide a shorter input"
            )
        return None

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {
            "id": "chatcmpl-t8tsxqx7kwi9ekj70xwwl",
            "system_fingerprint": self.model,
        }

    def thought(self, text: str) -> dict[str, Any]:
        return {"reasoning_content": text}

    def chunk(self, delta: Fields, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        return super().chunk(delta, finish, logprobs=None, **fields)

    def complete(self, fields: Fields) -> dict[str, Any]:
        return super().complete(fields) | {"stats": {}}


def _error(message: str) -> Refusal:
    return Refusal(400, {"error": message})
