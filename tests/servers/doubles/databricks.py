"""A double of Databricks' model serving: Go's decoder stops at the first unknown field.

Sources: docs.databricks.com/machine-learning/foundation-model-apis/api-reference (the known
fields), github.com/anomalyco/opencode/issues/31156, github.com/continuedev/continue/issues/12936.
"""

from typing import ClassVar

from servers.doubles.base import Fields, Refusal, Server, names

KNOWN = frozenset(
    "model messages max_tokens temperature top_p top_k stop n stream tools tool_choice "
    "response_format logprobs top_logprobs reasoning_effort".split()
)


class Databricks(Server):
    """Its streams have no usage."""

    model: ClassVar[str] = "databricks-gpt-oss-20b"
    streams_usage: ClassVar[bool] = False

    def check(self, fields: Fields) -> Refusal | None:
        if unknown := names(fields, KNOWN):
            message = f'Bad request: json: unknown field "{unknown[0]}"'
            return Refusal(400, {"error_code": "BAD_REQUEST", "message": message})
        return None
