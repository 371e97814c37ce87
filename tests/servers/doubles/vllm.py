"""Doubles of vLLM: the server of 2026, and version 0.5, which forbids unknown fields.

Sources: github.com/vllm-project/vllm vllm/entrypoints/openai/engine/serving.py (_check_model,
_validate_input, create_error_response), chat_completion/serving.py (the stream), serving_chat.py
of 0.10 ("auto" tool choice), chat_completion/protocol.py (validators), and
vllm/multimodal/processing/context.py (validate_num_items). For version 0.5: the answer that
github.com/Azure-Samples/azure-search-power-skills/pull/214 quotes.
"""

from typing import Any, ClassVar

from servers.doubles.base import (
    CREATED,
    Fields,
    Refusal,
    Server,
    alternates,
    count_tokens,
    has_part,
    names,
)


class Vllm(Server):
    """It takes unknown fields. Tools need a parser, which the server is started with."""

    def list_models(self) -> Fields:
        entry = {
            "id": self.model,
            "object": "model",
            "created": CREATED,
            "owned_by": "vllm",
            "root": "microsoft/Phi-3-mini-4k-instruct",
            "parent": None,
            "max_model_len": self.context_tokens,
        }
        return {"object": "list", "data": [entry]}

    def error(
        self,
        message: str,
        *,
        param: str | None = None,
        kind: str = "BadRequestError",
        status: int = 400,
    ) -> Refusal:
        return Refusal(
            status, {"error": {"message": message, "type": kind, "param": param, "code": status}}
        )

    def check(self, fields: Fields) -> Refusal | None:
        if fields.get("stream_options") and not fields.get("stream"):
            message = "Stream options can only be defined when `stream=True`."
            return self.error(message, param="stream_options")
        if fields.get("top_logprobs") and not fields.get("logprobs"):
            message = "when using `top_logprobs`, `logprobs` must be set to true."
            return self.error(message, param="top_logprobs")
        if fields["model"] != self.model:
            return self.error(
                f"The model `{fields['model']}` does not exist.",
                param="model",
                kind="NotFoundError",
                status=404,
            )
        if fields.get("tools") and not self.has_tools:
            return self.error(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser '
                "to be set"
            )
        if has_part(fields, "image_url") and not self.has_vision:
            return self.error(f"{self.model} is not a multimodal model")
        if not alternates(fields):
            return self.error("Conversation roles must alternate user/assistant/user/assistant/...")
        return self._check_length(fields)

    def _check_length(self, fields: Fields) -> Refusal | None:
        tokens, context = count_tokens(fields), self.context_tokens
        if tokens >= context:
            return self.error(
                f"This model's maximum context length is {context} tokens. However, your request "
                f"has {tokens} input tokens. Please reduce the length of the input messages.",
                param="input_tokens",
            )
        limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
        if limit is not None and tokens + limit > context:
            return self.error(
                f"'max_tokens' or 'max_completion_tokens' is too large: {limit}. This model's "
                f"maximum context length is {context} tokens and your request has {tokens} input "
                f"tokens ({limit} > {context} - {tokens}).",
                param="max_tokens",
            )
        return None

    def thought(self, text: str) -> dict[str, Any]:
        return {"reasoning": text, "reasoning_content": text}

    def complete(self, fields: Fields) -> dict[str, Any]:
        answer = super().complete(fields)
        (choice,) = answer["choices"]
        choice |= {"logprobs": None, "stop_reason": None}
        choice["message"] |= {"refusal": None, "tool_calls": [], **self._no_thought()}
        answer["usage"]["prompt_tokens_details"] = None
        return answer | {"prompt_logprobs": None, "kv_transfer_params": None}

    def _no_thought(self) -> dict[str, Any]:
        return {} if self.thinks else {"reasoning": None, "reasoning_content": None}


# The fields of ChatCompletionRequest as of 0.5, without those that no test sends.
_KNOWN_TO_0_5 = frozenset(
    "messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens n "
    "presence_penalty response_format seed stop stream temperature top_p tools tool_choice user "
    "best_of use_beam_search top_k min_p repetition_penalty ignore_eos min_tokens guided_json "
    "guided_choice guided_regex guided_grammar echo".split()
)


class OldVllm(Vllm):
    """Version 0.5, with `object: error` around its words, and with a list of known fields."""

    streams_usage: ClassVar[bool] = False

    def error(
        self,
        message: str,
        *,
        param: str | None = None,
        kind: str = "BadRequestError",
        status: int = 400,
    ) -> Refusal:
        return Refusal(
            status,
            {"object": "error", "message": message, "type": kind, "param": param, "code": status},
        )

    def check(self, fields: Fields) -> Refusal | None:
        if unknown := names(fields, _KNOWN_TO_0_5):
            errors = [
                {
                    "type": "extra_forbidden",
                    "loc": ("body", name),
                    "msg": "Extra inputs are not permitted",
                    "input": fields[name],
                }
                for name in unknown
            ]
            return self.error(str(errors))
        return super().check(fields)
