"""Scripted upstreams on real sockets, and a stub router model.

A `FakeUpstream` writes HTTP/1.1 by hand, so that it can misbehave in every way. Its script is an
*answer*: a list of steps, each of which is bytes to send, a `Gate` to wait at, or an `End` of the
connection. Every request is recorded as a `Call`, which knows when the proxy closed it.
"""

import asyncio
import gzip
import json
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any

from router_model.score import Score

# Long enough for a busy machine; working code never waits this long.
PATIENCE_SECONDS = 10.0


class Gate:
    """A step at which the upstream waits until the test opens it.

    An opened gate stays open, so a script can serve several requests.
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def reached(self) -> None:
        """Wait until the upstream has reached the gate."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._reached.wait()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        self._reached.set()
        await self._opened.wait()


class Pause(Gate):
    """A step at which the upstream sleeps."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def pass_through(self) -> None:
        await asyncio.sleep(self._seconds)


class End(Enum):
    """How a connection ends before its answer is complete."""

    FIN = "fin"
    RESET = "reset"


Step = bytes | Gate | End
Answer = Sequence[Step]


class Call:
    """A request that the upstream received."""

    def __init__(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.answered = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of a header, which the proxy must not send twice."""
        values = [value for key, value in self.headers if key.lower() == name]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def close(self) -> None:
        self._closed.set()

    async def closed(self) -> None:
        """Wait until the connection is closed, which tells an upstream to stop generating."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._closed.wait()


class FakeUpstream:
    """A scripted server. Set `answer` before the request."""

    prefix = "/v1"  # the path of the base URL

    def __init__(self) -> None:
        self.answer: Answer | Callable[[Call], Answer]
        self.models: Answer | Callable[[Call], Answer]
        self.native: dict[
            str, Answer | Callable[[Call], Answer]
        ]  # outside of /v1: Ollama's own endpoints
        self.calls: list[Call] = []
        self.native_calls: list[Call] = []  # POST to those endpoints
        self.reset()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._arrival = asyncio.Condition()

    async def __aenter__(self) -> "FakeUpstream":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def reset(self) -> None:
        """Clear all requests, and restore the default answers."""
        self.answer = answer_by_path
        self.models = whole(b'{"object":"list","data":[]}')
        self.native = {}
        self.calls.clear()
        self.native_calls.clear()

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self.prefix}"

    @property
    def call(self) -> Call:
        """The only request."""
        (call,) = self.calls
        return call

    async def called(self, number: int = 1) -> Call:
        """Wait for this total number of requests; return the last one."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._arrival:
            await self._arrival.wait_for(lambda: len(self.calls) >= number)
        return self.calls[number - 1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # the test is over; asyncio's own callback would log the cancellation
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests. The read of the next request detects a disconnect of the proxy."""
        call: Call | None = None
        answering: asyncio.Task[None] | None = None
        try:
            while True:
                call = await _read_call(reader)
                answering = asyncio.create_task(self._play(call, writer))
                if call.path.startswith(f"{self.prefix}/") and not self._lists_models(call):
                    async with self._arrival:
                        self.calls.append(call)
                        self._arrival.notify_all()
                elif call.method == "POST":
                    self.native_calls.append(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if call is not None:
                call.close()
            if answering is not None:
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)

    def _lists_models(self, call: Call) -> bool:
        return call.path == f"{self.prefix}/models"

    async def _play(self, call: Call, writer: asyncio.StreamWriter) -> None:
        if not call.path.startswith(f"{self.prefix}/"):
            answer = self.native.get(call.path, whole(b"404 page not found", status=404))
        else:
            answer = self.models if self._lists_models(call) else self.answer
        for step in answer(call) if callable(answer) else answer:
            match step:
                case bytes():
                    writer.write(step)
                    await writer.drain()
                    await asyncio.sleep(0)  # sends the pieces separately
                case Gate():
                    await step.pass_through()
                case End.FIN:
                    writer.close()
                case End.RESET:
                    reset(writer)
        call.answered.set()


def reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _read_call(reader: asyncio.StreamReader) -> Call:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    named = {name.lower(): value for name, value in headers}
    if named.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(named.get("content-length", "0")))
    return Call(method, path, headers, body)


@contextmanager
def refused_address() -> Iterator[str]:
    """A base URL where nothing listens. The port stays reserved."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


@contextmanager
def silent_address() -> Iterator[str]:
    """A base URL that neither accepts nor refuses connections: its backlog is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        for filler in fillers:
            filler.close()


# ── HTTP, as steps ────────────────────────────────────────────────────────────────────────────


def head(
    status: int = 200,
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A status line and headers, with the final blank line."""
    lines = [f"HTTP/1.1 {status} Whatever", f"content-type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(
    body: bytes,
    *,
    status: int = 200,
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> list[Step]:
    """An answer with content-length, in one piece."""
    headers = [*headers, ("content-length", str(len(body)))]
    return [head(status, content_type, headers) + body]


def chunked(
    *pieces: Step, headers: Iterable[tuple[str, str]] = (), content_type: str = "text/event-stream"
) -> list[Step]:
    """A chunked answer, complete unless an `End` is among the pieces."""
    steps: list[Step] = [head(200, content_type, [*headers, ("transfer-encoding", "chunked")])]
    for piece in pieces:
        if isinstance(piece, bytes):
            if piece:
                steps.append(b"%x\r\n%b\r\n" % (len(piece), piece))
            continue
        steps.append(piece)
        if isinstance(piece, End):
            return steps
    return [*steps, b"0\r\n\r\n"]


def compress(data: bytes, encoding: str) -> bytes:
    return gzip.compress(data) if encoding == "gzip" else zlib.compress(data)


# ── Wire formats of OpenAI and Ollama ─────────────────────────────────────────────────────────

USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}


def answer_json(text: str = "Hello!", *, usage: dict[str, Any] | None = USAGE) -> bytes:
    """The body of a chat completion."""
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "upstream-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }
    if usage is not None:
        answer["usage"] = usage
    return json.dumps(answer).encode()


def error_json(message: str, *, kind: str = "server_error", code: str | None = None) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    ).encode()


DONE = b"data: [DONE]\n\n"


def event(data: dict[str, Any] | bytes) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
    return b"data: " + text + b"\n\n"


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any
) -> dict[str, Any]:
    """A stream chunk with one choice, or without `delta` with none."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "upstream-model",
        "choices": [] if delta is None else [choice],
        **fields,
    }


WORDS = ("Hel", "lo ", "wörld ", "🙂!")


def openai_events(words: Sequence[str] = WORDS, usage: dict[str, Any] = USAGE) -> list[bytes]:
    """OpenAI's format: `usage: null` in each chunk, then a chunk with usage and no choices."""
    return [
        event(chunk({"role": "assistant", "content": ""}, usage=None)),
        *(event(chunk({"content": word}, usage=None)) for word in words),
        event(chunk({}, "stop", usage=None)),
        event(chunk(usage=usage)),
        DONE,
    ]


def ollama_events(words: Sequence[str] = WORDS, usage: dict[str, Any] = USAGE) -> list[bytes]:
    """Ollama's format since v0.32.6: the role once, a separate finish chunk, no null usage."""
    return [
        event(chunk({"role": "assistant", "content": ""})),
        *(event(chunk({"content": word})) for word in words),
        event(chunk({}, "stop")),
        event(chunk(usage=usage)),
        DONE,
    ]


def old_ollama_events(words: Sequence[str] = WORDS, usage: dict[str, Any] = USAGE) -> list[bytes]:
    """Ollama's format before v0.32.6: the role in every chunk, the finish with content."""
    *most, last = words
    return [
        *(event(chunk({"role": "assistant", "content": word})) for word in most),
        event(chunk({"role": "assistant", "content": last}, "stop")),
        event(chunk(usage=usage)),
        DONE,
    ]


def groq_events(words: Sequence[str] = WORDS, usage: dict[str, Any] = USAGE) -> list[bytes]:
    """Usage in the finish chunk, as several servers send it."""
    return [
        *(event(chunk({"content": word})) for word in words),
        event(chunk({}, "stop", usage=usage)),
        DONE,
    ]


WIRE_FORMS = {
    "openai": openai_events,
    "ollama": ollama_events,
    "old-ollama": old_ollama_events,
    "usage-with-finish": groq_events,
}


# ── The router model ──────────────────────────────────────────────────────────────────────────

EASY, HARD = "What is 2+2?", "Prove the Riemann hypothesis."


class StubModel:
    """Scores 0.9, and 0.1 for HARD: with a threshold of 0.5, local and cloud."""

    def score(self, text: str) -> Score:
        return Score(0.1, 0.2, 0.8) if HARD in text else Score(0.9, 0.95, 0.97)


class BrokenModel:
    """A router model with a bug."""

    def score(self, text: str) -> Score:
        raise RuntimeError(f"shape mismatch at 0xdeadbeef while scoring {text!r}")


# ── The Responses API ─────────────────────────────────────────────────────────────────────────

RESPONSES_USAGE = {
    "input_tokens": 19,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 10,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 29,
}


def response_fields(
    text: str = "Hello!", *, response_id: str = "resp_1", **fields: Any
) -> dict[str, Any]:
    """The body of an answer of the Responses API."""
    message = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1700000000,
        "status": "completed",
        "model": "upstream-model",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": RESPONSES_USAGE,
        **fields,
    }


def vectors_json() -> bytes:
    """A complete answer to a request for embeddings, of one vector."""
    vector = {"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}
    usage = {"prompt_tokens": 19, "total_tokens": 19}
    answer = {"object": "list", "data": [vector], "model": "upstream-model", "usage": usage}
    return json.dumps(answer).encode()


def message_json(text: str = "Hello!", **fields: Any) -> bytes:
    """The body of an answer of Anthropic's Messages API."""
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "upstream-model",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 19, "output_tokens": 10},
    }
    return json.dumps(answer | fields).encode()


def answer_by_path(call: Call) -> Answer:
    """What a working server answers, complete."""
    if call.path.startswith("/v1/responses"):
        return response_answer()
    if call.path.startswith("/v1/messages"):
        return whole(message_json())
    return whole(vectors_json() if call.path.startswith("/v1/embeddings") else answer_json())


def response_answer(text: str = "Hello!", **fields: Any) -> Answer:
    return whole(json.dumps(response_fields(text, **fields)).encode())


def typed(kind: str, number: int, **fields: Any) -> bytes:
    """A typed server-sent event."""
    data = {"type": kind, "sequence_number": number, **fields}
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def response_events(
    words: Sequence[str] = WORDS, *, last: str = "response.completed", **fields: Any
) -> list[bytes]:
    """A stream of the Responses API, which ends with a typed event and no [DONE]."""
    started = response_fields("", **fields) | {"status": "in_progress", "output": [], "usage": None}
    ended = response_fields("".join(words), **fields) | {"status": last.rpartition(".")[2]}
    position = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    events = [
        typed("response.created", 0, response=started),
        typed("response.in_progress", 1, response=started),
        typed("response.output_item.added", 2, output_index=0, item=item),
        typed("response.content_part.added", 3, **position, part=part),
    ]
    for number, word in enumerate(words, start=4):
        events.append(typed("response.output_text.delta", number, **position, delta=word))
    number = len(events)
    events.append(typed("response.output_text.done", number, **position, text="".join(words)))
    events.append(typed(last, number + 1, response=ended))
    return events
