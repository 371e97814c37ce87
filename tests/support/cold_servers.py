"""Local servers that load their model on demand, on a `FakeUpstream`.

    server = ColdServer(local, seconds=1.0)      # loads for a second, and lists no loaded models
    server.speak_as_ollama()

As with Ollama, a load is aborted when the client that caused it disconnects.
"""

import asyncio
import json
from collections.abc import Iterator

from fakes import (
    Answer,
    Call,
    FakeUpstream,
    Gate,
    Step,
    answer_json,
    chunked,
    error_json,
    openai_events,
    whole,
)
from live import LOCAL_MODEL


class ColdServer:
    """A server whose model is not loaded. Without further calls it lists no loaded models.

    Attributes:
        loads, aborted: the number of loads that have begun, and of those that a client ended.
        is_loaded: whether the model is loaded.
        error: the answer to a load that fails, with its status.
    """

    def __init__(self, upstream: FakeUpstream, *, seconds: float) -> None:
        self.loads = self.aborted = 0
        self.is_loaded = False
        self.error: tuple[int, str] | None = None
        self._loading = 0
        self._seconds = seconds
        self._upstream = upstream
        upstream.answer = self._chat
        upstream.models = whole(json.dumps({"data": [{"id": LOCAL_MODEL}]}).encode())

    def speak_as_ollama(self) -> None:
        self._upstream.native = {
            "/api/version": whole(b'{"version": "0.12.11"}'),
            "/api/show": whole(b'{"capabilities": ["completion"], "model_info": {}}'),
            "/api/ps": lambda _: whole(json.dumps({"models": self._running()}).encode()),
            "/api/generate": self._generate,
        }

    def speak_as_lm_studio(self) -> None:
        def models(_: Call) -> Answer:
            state = "loaded" if self.is_loaded else "not-loaded"
            return whole(json.dumps({"data": [{"id": LOCAL_MODEL, "state": state}]}).encode())

        self._upstream.native = {"/api/v0/models": models}

    def speak_as_llama_swap(self) -> None:
        def running(_: Call) -> Answer:
            state = "ready" if self.is_loaded else "starting"
            models = [{"model": LOCAL_MODEL, "state": state}]
            is_listed = self.is_loaded or self._loading
            return whole(json.dumps({"running": models if is_listed else []}).encode())

        self._upstream.native = {"/running": running}

    def chats(self) -> list[Call]:
        """The chat requests of clients."""
        return [call for call in self._upstream.calls if not is_shortest_chat(call)]

    def _running(self) -> list[dict[str, str]]:
        """Ollama lists a model from the start of its load."""
        is_listed = self.is_loaded or self._loading
        return [{"name": LOCAL_MODEL, "model": LOCAL_MODEL}] if is_listed else []

    def _generate(self, call: Call) -> Iterator[bytes | Gate]:
        assert call.json.keys() == {"model", "stream"}  # nothing is generated, nothing is changed
        return self._after_load(whole(b'{"done": true, "done_reason": "load"}'))

    def _chat(self, call: Call) -> Iterator[bytes | Gate]:
        streams = call.json.get("stream")
        return self._after_load(chunked(*openai_events()) if streams else whole(answer_json()))

    def _after_load(self, answer: Answer) -> Iterator[Step]:
        if not self.is_loaded:
            yield _Load(self)
        if self.error is not None:
            status, message = self.error
            yield from whole(error_json(message), status=status)
        else:
            yield from answer

    async def load(self) -> None:
        self.loads += 1
        self._loading += 1
        try:
            await asyncio.sleep(self._seconds)
            self.is_loaded = self.error is None
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self._loading -= 1


class _Load(Gate):
    """A step of an answer: the load of the model."""

    def __init__(self, server: ColdServer) -> None:
        super().__init__()
        self._server = server

    async def pass_through(self) -> None:
        await self._server.load()


def is_shortest_chat(call: Call) -> bool:
    """Whether it is the proxy's own chat request, of one token."""
    return call.path.endswith("/chat/completions") and call.json.get("max_tokens") == 1
