"""A double of Mistral's API: it forbids every field that it does not know, and always sends usage.

Sources: github.com/mistralai/client-python src/mistralai/models/chatcompletionrequest.py (the
known fields), docs.mistral.ai/api; for the refusals github.com/avante-corp/avante.nvim/issues/2347
and github.com/dnakov/anon-kode/issues/53.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from fakes import WORDS
from servers.doubles.base import CREATED, Fields, Refusal, Server, names

KNOWN = frozenset(
    "model messages temperature top_p max_tokens stream stop random_seed response_format tools "
    "tool_choice presence_penalty frequency_penalty n safe_prompt parallel_tool_calls "
    "prediction".split()
)


class Mistral(Server):
    """Its `stream_options` is known, but nothing in it is."""

    model: ClassVar[str] = "mistral-small-latest"
    has_usage_chunk: ClassVar[bool] = False
    context_tokens: ClassVar[int] = 128_000

    def list_models(self) -> Fields:
        capabilities = {"completion_chat": True, "function_calling": True, "vision": False}
        entry = {
            "id": self.model,
            "object": "model",
            "created": CREATED,
            "owned_by": "mistralai",
            "capabilities": capabilities,
            "max_context_length": self.context_tokens,
        }
        return {"object": "list", "data": [entry]}

    def check(self, fields: Fields) -> Refusal | None:
        errors = [self._forbid([name], fields[name]) for name in names(fields, self._known(fields))]
        for name, value in (fields.get("stream_options") or {}).items():
            errors.append(self._forbid(["stream_options", name], value))
        return self.refuse(errors) if errors else None

    def _known(self, fields: Fields) -> frozenset[str]:
        return KNOWN | {"stream_options"}

    @staticmethod
    def _forbid(location: list[str], value: Any) -> dict[str, Any]:
        return {
            "type": "extra_forbidden",
            "loc": ["body", *location],
            "msg": "Extra inputs are not permitted",
            "input": value,
        }

    def refuse(self, errors: list[dict[str, Any]]) -> Refusal:
        return Refusal(
            422,
            {
                "object": "error",
                "message": {"detail": errors},
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
        )

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {"id": "6e2cd91750904b7092f49bdca9083de1"}

    def complete(self, fields: Fields) -> dict[str, Any]:
        answer = super().complete(fields)
        answer["choices"][0]["message"]["tool_calls"] = None
        return answer

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        yield self.chunk({"role": "assistant", "content": ""}, logprobs=None)
        for word in WORDS:
            yield self.chunk({"content": word}, logprobs=None)
        yield self.chunk({"content": ""}, "stop", logprobs=None) | {"usage": self.usage()}


class StrictFastApi(Mistral):
    """A server of FastAPI and pydantic with `extra="forbid"` and no handler of its own errors."""

    def _known(self, fields: Fields) -> frozenset[str]:
        return KNOWN

    def check(self, fields: Fields) -> Refusal | None:
        errors = [self._forbid([name], fields[name]) for name in names(fields, KNOWN)]
        return self.refuse(errors) if errors else None

    def refuse(self, errors: list[dict[str, Any]]) -> Refusal:
        return Refusal(422, {"detail": errors})
