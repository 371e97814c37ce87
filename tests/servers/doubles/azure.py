"""A double of Azure OpenAI with a deployment of gpt-4o-mini, of its v1 API and of older versions.

Sources: learn.microsoft.com/azure/ai-foundry/openai/reference (content filters, the v1 API below
/openai/v1); for the first chunk the recorded streams in the tests of Azure's clients; for the
refusals github.com/microsoft/semantic-kernel/issues/10510, github.com/openai/openai-python/
issues/2296 and github.com/microsoft/sample-app-aoai-chatGPT/issues/1260.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from fakes import Call
from servers.doubles.base import Fields, Refusal, names
from servers.doubles.openai_api import KNOWN, OpenAi

_SAFE = {"filtered": False, "severity": "safe"}
FILTERS = dict.fromkeys(("hate", "self_harm", "sexual", "violence"), _SAFE)


class Azure(OpenAi):
    """Like OpenAI, with results of content filters around every answer."""

    prefix = "/openai/v1"

    def unknown_path(self, call: Call) -> Refusal:
        return Refusal(404, {"error": {"code": "404", "message": "Resource not found"}})

    def complete(self, fields: Fields) -> dict[str, Any]:
        answer = super().complete(fields)
        answer["choices"][0]["content_filter_results"] = FILTERS
        results = [{"prompt_index": 0, "content_filter_results": FILTERS}]
        return answer | {"prompt_filter_results": results}

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        """The first chunk has no choice, no model and no name: it is about the prompt."""
        yield {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERS}],
        }
        yield from super().chunks(fields)

    def chunk(self, delta: Fields, finish: str | None = None, **fields: Any) -> dict[str, Any]:
        filters = FILTERS if delta.get("content") else {}
        return super().chunk(delta, finish, content_filter_results=filters, **fields)


class OldAzure(Azure):
    """A version that checks the request against a schema without today's fields."""

    streams_usage: ClassVar[bool] = False
    known: ClassVar[frozenset[str]] = KNOWN - {"stream_options", "max_completion_tokens", "store"}

    def check(self, fields: Fields) -> Refusal | None:
        if unknown := names(fields, self.known):
            lines = [
                f"Validation error at #/{name}: Extra inputs are not permitted" for name in unknown
            ]
            error = {"requestid": "eea1c96d-fba7-4116-9cb3-e614b9ff7652", "code": 400}
            return Refusal(400, {"error": error | {"message": "\n".join(lines)}})
        return None
