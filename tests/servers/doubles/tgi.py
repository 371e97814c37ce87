"""A double of Hugging Face's Text Generation Inference 3.

Sources: github.com/huggingface/text-generation-inference router/src/validation.rs
(ValidationError), router/src/infer/mod.rs (InferError), router/src/infer/chat_template.rs and
router/src/server.rs (create_event_from_stream_token: usage is in the chunk that ends the text).
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from fakes import WORDS, Call
from servers.doubles.base import (
    Fields,
    Refusal,
    Server,
    alternates,
    count_tokens,
    has_part,
    wants_usage,
)

MAX_STOP_SEQUENCES = 4


class Tgi(Server):
    """It ignores unknown fields, and the model's name. Its limits are those of its start."""

    has_usage_chunk: ClassVar[bool] = False

    def unknown_path(self, call: Call) -> Refusal:
        return Refusal(404, "")

    def check(self, fields: Fields) -> Refusal | None:
        top_p = fields.get("top_p")
        if top_p is not None and not 0 < top_p < 1:
            return _invalid("`top_p` must be > 0.0 and < 1.0")
        stop = fields.get("stop") or []
        if isinstance(stop, list) and len(stop) > MAX_STOP_SEQUENCES:
            return _invalid(
                f"`stop` supports up to {MAX_STOP_SEQUENCES} stop sequences. Given: {len(stop)}"
            )
        if fields.get("response_format"):  # --disable-grammar-support
            return _invalid("grammar is not supported")
        if has_part(fields, "image_url") and not self.has_vision:
            return _invalid("image modality is not supported")
        if not alternates(fields):
            return _refuse(
                "Template error: syntax error: Conversation roles must alternate "
                "user/assistant/user/assistant/... (in <string>:1)",
                "template_error",
            )
        tokens, limit = count_tokens(fields), fields.get("max_tokens") or 100
        if tokens + limit > self.context_tokens:
            return _invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {self.context_tokens}. Given: "
                f"{tokens} `inputs` tokens and {limit} `max_new_tokens`"
            )
        return None

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {"id": "", "system_fingerprint": "3.0.0-sha-8f326c9"}

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        """The role in every delta, and usage with the end."""
        for word in WORDS:
            yield self.chunk({"role": "assistant", "content": word}, logprobs=None) | {
                "usage": None
            }
        end = self.chunk({"role": "assistant", "content": ""}, "stop", logprobs=None)
        yield end | {"usage": self.usage() if wants_usage(fields) else None}


def _invalid(message: str) -> Refusal:
    return _refuse(f"Input validation error: {message}", "validation")


def _refuse(message: str, kind: str) -> Refusal:
    return Refusal(422, {"error": message, "error_type": kind})
