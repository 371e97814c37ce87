"""A double of SGLang 0.5.

Sources: github.com/sgl-project/sglang python/sglang/srt/entrypoints/openai/serving_chat.py
(_validate_request), serving_base.py (handle_request), sse_utils.py (the chunks), and for a long
prompt github.com/QwenLM/Qwen3/issues/1321.
"""

from typing import Any

from servers.doubles.base import CREATED, Fields, Refusal, Server, alternates, count_tokens


class Sglang(Server):
    """It ignores unknown fields, and the model's name."""

    def list_models(self) -> Fields:
        entry = {
            "id": self.model,
            "object": "model",
            "created": CREATED,
            "owned_by": "sglang",
            "root": self.model,
            "parent": None,
            "max_model_len": self.context_tokens,
        }
        return {"object": "list", "data": [entry]}

    def check(self, fields: Fields) -> Refusal | None:
        choice, tools = fields.get("tool_choice"), fields.get("tools") or []
        if choice == "required" and not tools:
            return _error("Tools cannot be empty if tool choice is set to required.")
        if isinstance(choice, dict):
            name = choice["function"]["name"]
            if name not in [tool["function"]["name"] for tool in tools]:
                return _error(f"Tool '{name}' not found in tools list.")
        limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
        if limit is not None and limit > self.context_tokens:
            return _error(
                f"max_completion_tokens is too large: {limit}.This model supports at most "
                f"{self.context_tokens} completion tokens."
            )
        if not alternates(fields):
            return _error(
                "Internal server error: Conversation roles must alternate "
                "user/assistant/user/assistant/...",
                kind="InternalServerError",
                status=500,
            )
        if (tokens := count_tokens(fields)) >= self.context_tokens:
            return _error(
                f"The input ({tokens} tokens) is longer than the model's context length "
                f"({self.context_tokens} tokens)."
            )
        return None

    def thought(self, text: str) -> dict[str, Any]:
        return {"reasoning_content": text}

    def chunk(self, delta: Fields, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        return super().chunk(delta, finish, logprobs=None, matched_stop=None, **fields)

    def complete(self, fields: Fields) -> dict[str, Any]:
        answer = super().complete(fields)
        answer["choices"][0] |= {"logprobs": None, "matched_stop": 32007}
        answer["usage"] |= {"prompt_tokens_details": None, "reasoning_tokens": 0}
        return answer | {"metadata": {"weight_version": "default"}}


def _error(message: str, *, kind: str = "BadRequestError", status: int = 400) -> Refusal:
    return Refusal(
        status,
        {"object": "error", "message": message, "type": kind, "param": None, "code": status},
    )
