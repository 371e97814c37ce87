"""Doubles of OpenAI's API: a model that reasons (gpt-5-mini, the o series), and one that does not.

Sources: the types of github.com/openai/openai-python (completion_create_params.py,
chat_completion_chunk.py), platform.openai.com/docs/guides/reasoning, and the answers that users
quote; refusals.json names them.
"""

from typing import Any, ClassVar

from servers.doubles.base import Fields, Refusal, Server, names

# The parameters of a chat request, without those that no test sends.
KNOWN = frozenset(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs "
    "max_completion_tokens max_tokens metadata modalities n parallel_tool_calls prediction "
    "presence_penalty prompt_cache_key reasoning_effort response_format safety_identifier seed "
    "service_tier stop store stream stream_options temperature tool_choice tools top_logprobs "
    "top_p user verbosity".split()
)


def error(message: str, *, param: str | None = None, code: str | None = None) -> Refusal:
    return Refusal(
        400,
        {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": param,
                "code": code,
            }
        },
    )


class OpenAi(Server):
    """It refuses unknown fields, all in one message."""

    model: ClassVar[str] = "gpt-4o-mini"
    context_tokens: ClassVar[int] = 128_000
    known: ClassVar[frozenset[str]] = KNOWN

    def list_models(self) -> Fields:
        entry = {"id": self.model, "object": "model", "created": 1, "owned_by": "system"}
        return {"object": "list", "data": [entry]}

    def unknown_path(self, call: Any) -> Refusal:
        message = f"Invalid URL ({call.method} {call.path})"
        refusal = error(message)
        return refusal._replace(status=404)

    def check(self, fields: Fields) -> Refusal | None:
        if unknown := sorted(names(fields, self.known)):
            plural = "s" if len(unknown) > 1 else ""
            return error(f"Unrecognized request argument{plural} supplied: {', '.join(unknown)}")
        return None

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {
            "service_tier": "default",
            "system_fingerprint": "fp_34a54111",
        }

    def chunk(self, delta: Fields, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        made = super().chunk(delta, finish, logprobs=None, **fields)
        return made | {"usage": None, "obfuscation": "AAatV4uAp"}

    def usage(self) -> dict[str, Any]:
        return super().usage() | {
            "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 6 if self.thinks else 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def complete(self, fields: Fields) -> dict[str, Any]:
        answer = super().complete(fields)
        (choice,) = answer["choices"]
        choice["message"] |= {"refusal": None, "annotations": []}
        return answer


class ReasoningOpenAi(OpenAi):
    """A model that reasons takes no settings of its sampler. Its thoughts stay hidden."""

    model: ClassVar[str] = "gpt-5-mini"

    # Those that it refuses with any value.
    _unsupported = "top_p presence_penalty frequency_penalty logprobs top_logprobs logit_bias stop"

    def __init__(self) -> None:
        super().__init__(has_tools=True, has_vision=True, thinks=True)

    def check(self, fields: Fields) -> Refusal | None:
        if (refusal := super().check(fields)) is not None:
            return refusal
        if "max_tokens" in fields:
            return error(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
                "'max_completion_tokens' instead.",
                param="max_tokens",
                code="unsupported_parameter",
            )
        if (temperature := fields.get("temperature", 1)) != 1:
            return error(
                f"Unsupported value: 'temperature' does not support {temperature:g} with this "
                "model. Only the default (1) value is supported.",
                param="temperature",
                code="unsupported_value",
            )
        for name in self._unsupported.split():
            if name in fields:
                return error(
                    f"Unsupported parameter: '{name}' is not supported with this model.",
                    param=name,
                    code="unsupported_parameter",
                )
        return None
