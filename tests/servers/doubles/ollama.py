"""A double of Ollama 0.13: its endpoints below /v1, and what its native API says of the model.

Sources: github.com/ollama/ollama openai/openai.go (NewError, ToChunk, FromChatRequest),
middleware/openai.go (ChatWriter, ChatMiddleware), docs/api.md.
"""

from collections.abc import Iterator
from typing import Any

from fakes import WORDS, Answer, Call, whole
from servers.doubles.base import (
    THOUGHTS,
    Fields,
    Refusal,
    Server,
    encode,
    has_part,
    parts_of,
    wants_usage,
)


def _error(status: int, message: str) -> Refusal:
    kind = {400: "invalid_request_error", 404: "not_found_error"}[status]
    return Refusal(
        status, {"error": {"message": message, "type": kind, "param": None, "code": None}}
    )


class Ollama(Server):
    """It drops unknown fields without a word, and cuts long prompts."""

    def reset(self) -> None:
        super().reset()
        capabilities = ["completion"]
        capabilities += ["tools"] if self.has_tools else []
        capabilities += ["vision"] if self.has_vision else []
        show = {
            "capabilities": capabilities,
            "model_info": {
                "general.architecture": "phi3",
                "phi3.context_length": self.context_tokens,
            },
        }
        tags = {"models": [{"name": self.model, "model": self.model}]}
        running = {
            "models": [
                {
                    "name": self.model,
                    "model": self.model,
                    "context_length": self.context_tokens,
                }
            ]
        }
        self.native = {
            "/api/version": whole(b'{"version":"0.13.5"}'),
            "/api/show": whole(encode(show)),
            "/api/tags": whole(encode(tags)),
            "/api/ps": whole(encode(running)),
        }

    def list_models(self) -> Fields:
        entry = {"id": self.model, "object": "model", "created": 1, "owned_by": "library"}
        return {"object": "list", "data": [entry]}

    def unknown_path(self, call: Call) -> Refusal:
        return Refusal(404, "404 page not found")

    async def _play(self, call: Call, writer: Any) -> None:
        if call.path.startswith("//"):  # net/http's ServeMux cleans the path
            cleaned = "/" + call.path.lstrip("/")
            self.native[call.path] = redirect(cleaned)
        await super()._play(call, writer)

    def check(self, fields: Fields) -> Refusal | None:
        if not fields["messages"]:
            return _error(400, "[] is too short - 'messages'")
        for part in parts_of(fields):
            if part["type"] not in ("text", "image_url"):
                return _error(400, "invalid message format")
        for message in fields["messages"]:
            if message.get("content") is None and not message.get("tool_calls"):
                return _error(400, "invalid message content type: <nil>")
        if has_part(fields, "image_url") and not all(
            part["image_url"]["url"].startswith("data:image/")
            for part in parts_of(fields)
            if part["type"] == "image_url"
        ):
            return _error(400, "invalid image input")
        if fields["model"] not in (self.model, self.model.removesuffix(":latest")):
            return _error(404, f'model "{fields["model"]}" not found, try pulling it first')
        if fields.get("tools") and not self.has_tools:
            return _error(400, f"registry.ollama.ai/library/{self.model} does not support tools")
        return None

    def frame(self, kind: str) -> dict[str, Any]:
        return super().frame(kind) | {"id": "chatcmpl-386", "system_fingerprint": "fp_ollama"}

    def thought(self, text: str) -> dict[str, Any]:
        return {"reasoning": text}

    def chunks(self, fields: Fields) -> Iterator[dict[str, Any]]:
        """Every delta has the role; the last one has no text and the reason of the end."""
        for word in THOUGHTS if self.thinks else ():
            yield self.chunk({"role": "assistant", "content": "", **self.thought(word)})
        for word in WORDS:
            yield self.chunk({"role": "assistant", "content": word})
        yield self.chunk({"role": "assistant", "content": ""}, "stop")
        if wants_usage(fields):
            yield self.usage_chunk()


def redirect(location: str) -> Answer:
    return whole(
        b'<a href="%b">Moved Permanently</a>.\n\n' % location.encode(),
        status=301,
        content_type="text/html; charset=utf-8",
        headers=[("location", location)],
    )
