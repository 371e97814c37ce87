"""Answers to the clients of the local server's own API, if another API has answered."""

from functools import partial
from typing import Final

from proxy.gateway.large_bodies import run_large
from proxy.gateway.relay import ResponseWriter
from proxy.protocol import JSON_MEDIA_TYPE
from proxy.protocol.endpoints import NativeForm
from proxy.protocol.ollama_answers import LINE_TYPE, Durations
from proxy.record import CallRecord

_NS_PER_MS: Final = 1e6
_BAD_GATEWAY: Final = 502

Headers = list[tuple[bytes, bytes]]


class TranslatingWriter:
    """Takes an answer in OpenAI's format and sends it in that of an endpoint's own API.

    Args:
        writer: of the client's connection.
        form: of the endpoint.
        model: the name that the client asked for.
    """

    def __init__(
        self, writer: ResponseWriter, form: NativeForm, record: CallRecord, model: str
    ) -> None:
        self._writer = writer
        self._record = record
        self._translation = form.translation(model=model, durations=self._durations)
        self._unsent: bytes | None = None  # translated, but the client reads slowly

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a complete answer, or an error."""
        is_success = 200 <= status < 300
        translation = self._translation
        translate = translation.whole if is_success else translation.error
        translated = await run_large(len(body), partial(translate, body))
        if is_success and translation.is_error(translated):  # some servers send them with 200
            status = _BAD_GATEWAY
        await self._writer.answer(status, _with_type(headers, JSON_MEDIA_TYPE), translated)

    async def answer_load(self, headers: Headers, *, is_unload: bool) -> None:
        """Answer a request that loads a model, for a server that loads its models itself."""
        body = self._translation.loaded(is_unload=is_unload)
        await self._writer.answer(200, _with_type(headers, JSON_MEDIA_TYPE), body)

    async def start(self, status: int, headers: Headers) -> None:
        """Send the status and headers of a stream."""
        await self._writer.start(status, _with_type(headers, LINE_TYPE))

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send the next events of a stream as lines; the last ones with `more=False`."""
        lines, self._unsent = self._unsent, None
        if lines is None:
            lines = self._translation.feed(data)
        if not more:
            lines += self._translation.end()
        if lines or not more:
            await self._writer.send(lines, more=more)

    def send_now(self, data: bytes) -> bool:
        """Send the next events without waiting. After False `send` is called with the same ones."""
        lines = self._translation.feed(data)
        if not lines or self._writer.send_now(lines):
            return True
        self._unsent = lines
        return False

    def _durations(self) -> Durations:
        record = self._record
        total, prompt = record.elapsed_ms(), record.ttft_ms or 0.0
        return Durations(int(total * _NS_PER_MS), int(prompt * _NS_PER_MS))


def _with_type(headers: Headers, content_type: bytes) -> Headers:
    """The headers with another content type."""
    others = [(name, value) for name, value in headers if name != b"content-type"]
    return [(b"content-type", content_type), *others]
