"""Random requests over real sockets: each gets a response and none causes a failure.

    FUZZ_REQUESTS=100000 .venv/bin/pytest tests/web/test_fuzz.py -s

No response is a 500, is late, or contains a traceback, a path or a key of the proxy. Errors below
/v1 have OpenAI's form, no error is logged, and each chat request writes one row.
"""

import asyncio
import json
import logging
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anthropic_wire import ollama_events as message_events
from fakes import (
    EASY,
    HARD,
    PATIENCE_SECONDS,
    Answer,
    Call,
    FakeUpstream,
    answer_json,
    chunked,
    head,
    message_json,
    openai_events,
    vectors_json,
    whole,
)
from live import CLOUD_KEY, LOCAL_KEY, StartProxy, check_agreement

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "3000"))
BATCH = 50  # requests in one example
IDLE_SECONDS = 2.0  # uvicorn closes connections after 5 idle seconds
CHAT, ROWS = "/v1/chat/completions", "chat.completions"

BODY, EVENTS = answer_json(), openai_events()
SECRETS = tuple(
    text.encode()
    for text in (LOCAL_KEY, CLOUD_KEY, "Traceback", 'File "', "site-packages", ".py", "/proxy/")
)


# ── JSON and near-JSON ────────────────────────────────────────────────────────────────────────


class Token(str):
    """Literal text of a value, which may be invalid JSON."""


class Fields(list[tuple[str, Any]]):
    """An object that, unlike a dict, may repeat a key."""


def fields_of(value: Any) -> Any:
    """The same value with `Fields` for its objects."""
    match value:
        case dict():
            return Fields((key, fields_of(item)) for key, item in value.items())
        case list():
            return [fields_of(item) for item in value]
    return value


def dump(value: Any) -> str:
    match value:
        case Token():
            return str(value)
        case Fields():
            return "{" + ",".join(f"{json.dumps(key)}:{dump(item)}" for key, item in value) + "}"
        case list():
            return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


UNUSUAL_VALUES = [
    Token(text)
    for text in (
        *("null", "true", "false", "0", "-0", "1", "-1", "0.5", "1e400", "1E-400", "-1.0e5"),
        *("9" * 20, "-" + "9" * 400, "0." + "1" * 500, "NaN", "Infinity", "-Infinity", "01", "+1"),
        *('""', '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', '"\\uFFFF"', '"é"', "'x'", '"\t"'),
        *("[]", "{}", "[[]]", '{"":{}}', '{"a":1,"a":2}', "[1,]", "{,}", "undefined", "/**/1"),
        *("[" * 50 + "]" * 50, "[" * 5000, '{"a":' * 2000 + "1" + "}" * 2000),
        *(f'"{"x" * 100_000}"', f'"{"é " * 20_000}"', f'"{EASY}"', f'"{HARD}"'),
        *('"auto"', '"local"', '"cloud"', '"auto:cost=0.3"', '"auto:cost=nan"', '"auto:"', '"gpt"'),
        *('[{"type":"text","text":"Hi"}]', '[{"type":"text"}]', '[{"type":7}]', '["Hi"]'),
        *('[{"type":"image_url","image_url":"data:,"}]', '[{"role":"user","content":"Hi"}]'),
    )
]
small_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
).map(fields_of)
any_value = st.sampled_from(UNUSUAL_VALUES) | small_values

USER = [{"role": "user", "content": EASY}]
TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
]
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": HARD},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function"}]},
    {"role": "tool", "tool_call_id": "c", "content": "1"},
    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
]
BASES = [
    fields_of({"model": "auto", "messages": USER} | changes)
    for changes in (
        {},
        {"model": "auto:cost=0.3", "temperature": 0.5, "max_completion_tokens": 100},
        {"model": "auto:quality=0.95", "logprobs": True, "n": 1, "logit_bias": {}},
        {"model": "local", "messages": TURNS, "max_tokens": 10},
        {"model": "cloud", "tools": TOOLS, "tool_choice": "auto"},
        {"model": "auto:threshold=0.6", "response_format": SCHEMA},
        {"messages": [{"role": "user", "content": PARTS}]},
        {"stream": True},
        {"model": "phi3", "stream": True, "stream_options": {"include_usage": True}},
        {"model": "gpt-9", "messages": TURNS, "stream": True, "stream_options": None},
    )
]

EDITS = ("replace", "delete", "repeat", "rename", "insert")


class Edit(NamedTuple):
    """A change at one position of a document; `place` is modulo the number of positions."""

    kind: str
    place: int
    value: Any
    key: str


edits = st.builds(
    Edit,
    st.sampled_from(EDITS),
    st.integers(0, 200),
    any_value,
    st.sampled_from(["model", "messages", "stream", "stream_options", "role", "content", "x", ""]),
)


def positions(value: Any) -> Iterator[tuple[list[Any], int]]:
    """Every (container, index) of a document."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield value, index
            yield from positions(item[1] if isinstance(value, Fields) else item)


def copy(value: Any) -> Any:
    match value:
        case Fields():
            return Fields((key, copy(item)) for key, item in value)
        case list():
            return [copy(item) for item in value]
    return value


def edit(document: Any, change: Edit) -> None:
    all_positions = list(positions(document))
    if not all_positions:
        return
    container, index = all_positions[change.place % len(all_positions)]
    old_key, old = container[index] if isinstance(container, Fields) else ("", container[index])

    def entry(key: str, value: Any) -> Any:
        return (key, value) if isinstance(container, Fields) else value

    match change.kind:
        case "replace":
            container[index] = entry(old_key, change.value)
        case "delete":
            del container[index]
        case "repeat":
            container.append(entry(old_key, change.value))
        case "rename":
            container[index] = entry(change.key, old)
        case "insert":
            container.insert(index, entry(change.key, change.value))


# ── Bytes ─────────────────────────────────────────────────────────────────────────────────────


def cut(data: bytes, place: int, _: bytes) -> bytes:
    return data[: place % (len(data) + 1)]


def flip(data: bytes, place: int, _: bytes) -> bytes:
    if not data:
        return data
    at = place // 8 % len(data)
    return data[:at] + bytes([data[at] ^ 1 << place % 8]) + data[at + 1 :]


def insert(data: bytes, place: int, more: bytes) -> bytes:
    at = place % (len(data) + 1)
    return data[:at] + more + data[at:]


def overwrite(data: bytes, place: int, more: bytes) -> bytes:
    at = place % (len(data) + 1)
    return data[:at] + more + data[at + len(more) :]


byte_changes = st.tuples(
    st.sampled_from([cut, flip, insert, overwrite]),
    st.integers(0, 2**16),
    st.binary(min_size=1, max_size=6),
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A chat request with a few random changes."""
    document = copy(draw(st.sampled_from(BASES)))
    for change in draw(st.lists(edits, max_size=3)):
        edit(document, change)
    data = dump(document).encode("utf-8", "surrogatepass")
    for garble, place, more in draw(st.lists(byte_changes, max_size=1)):
        data = garble(data, place, more)
    return data


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


class FuzzRequest(NamedTuple):
    """Bytes for a connection.

    Attributes:
        method: the request's method; "" for bytes that may be no request. They must only cause no
            failure, and their connection is closed.
        path: the request's path.
        begins_chat: whether it is the start of a chat request that is never completed.
    """

    data: bytes
    method: str = ""
    path: str = ""
    begins_chat: bool = False

    @property
    def is_chat(self) -> bool:
        """Whether it is for the chat endpoint, in any spelling of its path."""
        path = re.sub("/+", "/", unquote(self.path.partition("?")[0]))
        return self.method == "POST" and path.removesuffix("/") == CHAT

    def __repr__(self) -> str:
        return f"FuzzRequest({self.data[:1000]!r}…, {len(self.data)} bytes)"


METHODS = ("GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
PATHS = (
    CHAT,
    CHAT + "?a=b&c",
    CHAT + "/",
    CHAT + "/x",
    "/v1/chat%2Fcompletions",
    "/v1//chat/completions",
    "/V1/chat/completions",
    "/v1/responses",
    "/v1/responses/resp_1?stream=true",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/feedback",
    "/v1/files/x%00y",
    "/v1/messages",
    "/openapi.json",
    "/v1/models",
    "/v1/models/auto",
    "/v1/models/%ff%00%0d%0ax:%20y",
    "/v1/models/" + "x" * 5000,
    "/v1/../etc/passwd",
    "/v1/%2e%2e/%2e%2e/etc/passwd",
    "/v1",
    "/",
    "//",
    "/health",
    "/ready",
    "/metrics?name[]=x",
    "/api/requests?limit=-1",
    "/*",
    "http://elsewhere.example/v1/models",
)
HEADER_VALUES = (
    b"",
    b"0",
    b"0.3",
    b"2",
    b"-1",
    b"nan",
    b"inf",
    b"1e-400",
    b"local",
    b"cloud",
    b"AUTO",
    b"moon",
    b"\xff\xfe",
    "é😀".encode(),
    b"a\tb",
    b"x" * 8000,
    b"Bearer x",
    b"text/plain; charset=utf-7",
    b"multipart/form-data",
    b"gzip",
    b"*/*;q=\xff",
    b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
HEADER_NAMES = (
    *("x-router-target", "x-router-threshold", "x-router-x", "X-Router-Target", "authorization"),
    *("content-type", "content-encoding", "accept", "accept-encoding", "cookie", "user-agent"),
    *("x-request-id", "x-forwarded-for", "forwarded", "origin", "range", "if-none-match", "te"),
    *("connection", "keep-alive", "trailer", "traceparent", "openai-organization", "x", "x_y.z~"),
)
headers = st.lists(
    st.tuples(st.sampled_from(HEADER_NAMES), st.sampled_from(HEADER_VALUES)), max_size=3
)


@st.composite
def chat_requests(draw: st.DrawFn) -> FuzzRequest:
    return whole_request("POST", CHAT, draw(headers), draw(bodies()))


@st.composite
def any_requests(draw: st.DrawFn) -> FuzzRequest:
    return whole_request(
        draw(st.just("POST") | st.sampled_from(METHODS)),
        draw(st.just(CHAT) | st.sampled_from(PATHS)),
        draw(headers),
        draw(bodies()),
        chunk_size=draw(st.sampled_from([0, 0, 7, 1000])),
    )


def whole_request(
    method: str, path: str, fields: list[tuple[str, bytes]], body: bytes, *, chunk_size: int = 0
) -> FuzzRequest:
    """A valid HTTP request with any content."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"host: localhost"]
    lines += [name.encode() + b": " + value for name, value in fields]
    if chunk_size:
        lines.append(b"transfer-encoding: chunked")
        pieces = [body[start : start + chunk_size] for start in range(0, len(body), chunk_size)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces[:200])
        return FuzzRequest(head_of(lines) + framed + b"0\r\n\r\n", method, path)
    lines.append(b"content-length: %d" % len(body))
    return FuzzRequest(head_of(lines) + body, method, path)


def head_of(lines: list[bytes]) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


# A changed byte must not turn this request into one for the chat endpoint.
HARMLESS = head_of(
    [b"POST /v1/models HTTP/1.1", b"host: localhost", b"x: y", b"content-length: 2", b"", b"{}"]
)
CHAT_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
INVALID_HTTP = [
    FuzzRequest(data)
    for data in (
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"get /health http/1.1\r\n\r\n",
        b"FROB /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"CONNECT proxy:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx y: z\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx: \x00\r\n\r\n",
        "GET /health HTTP/1.1\r\né: z\r\n\r\n".encode(),
        b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"GET /health HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n\r\n",
        CHAT_HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        CHAT_HEAD + b"content-length: -5\r\n\r\n{}",
        CHAT_HEAD + b"content-length: " + b"9" * 30 + b"\r\n\r\n{}",
        CHAT_HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        CHAT_HEAD[:-5],
        b"",
    )
] + [
    FuzzRequest(data, begins_chat=True)
    for data in (
        CHAT_HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        CHAT_HEAD + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        CHAT_HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\n{}",
        CHAT_HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
        CHAT_HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        CHAT_HEAD + b'content-length: 100\r\n\r\n{"model":',
        CHAT_HEAD + b"content-length: 100\r\nexpect: 100-continue\r\n\r\n",
    )
]


@st.composite
def invalid_requests(draw: st.DrawFn) -> FuzzRequest:
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return draw(st.sampled_from(INVALID_HTTP))
    if kind == 1:
        return FuzzRequest(draw(st.binary(max_size=100)))
    garble, place, more = draw(byte_changes)
    return FuzzRequest(garble(HARMLESS, place, more))


# Most are chat requests, which reach the code after the parsers.
batches = st.lists(
    chat_requests() | chat_requests() | any_requests() | invalid_requests(),
    min_size=BATCH,
    max_size=BATCH,
)


# ── Sending requests ──────────────────────────────────────────────────────────────────────────


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A synchronous client that reuses its connection while it is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._unread = b""
        self._used_at = 0.0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._unread = None, b""

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def ask(self, sent: FuzzRequest) -> Answered:
        """Send a request and read its response."""
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self.close()
        self._connection().sendall(sent.data)
        while (answer := self._read_answer(sent.method)).status < 200:
            pass
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        self._used_at = time.monotonic()
        return answer

    def throw(self, sent: FuzzRequest) -> bytes:
        """Send bytes over a new connection. Return everything received until it is closed."""
        self.close()
        received = b""
        try:
            connection = self._connection()
            connection.sendall(sent.data)
            connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(2**16):
                received += data
        except OSError:
            pass  # the proxy may close the connection before everything is sent
        self.close()
        return received

    def _read_answer(self, method: str) -> Answered:
        first, *lines = self._read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(first.split(" ")[1])
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Answered(status, headers, b"")
        if "content-length" in headers:
            return Answered(status, headers, self._read(int(headers["content-length"])))
        assert headers["transfer-encoding"] == "chunked"
        body = b""
        while size := int(self._read_until(b"\r\n"), 16):
            body += self._read(size + 2)[:-2]
        assert self._read_until(b"\r\n") == b""
        return Answered(status, headers, body)

    def _read_until(self, marker: bytes) -> bytes:
        while marker not in self._unread:
            self._receive()
        line, _, self._unread = self._unread.partition(marker)
        return line

    def _read(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._receive()
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def _receive(self) -> None:
        data = self._connection().recv(2**16)
        assert data, f"the connection was closed within an answer: {self._unread!r}"
        self._unread += data


class Fuzz:
    """Sends batches and checks the responses."""

    def __init__(self, port: int) -> None:
        self._client = Client(port)
        self._plain = whole_request("POST", CHAT, [], dump(BASES[0]).encode())
        self._health = whole_request("GET", "/health", [], b"")
        self.answered: set[str] = set()  # the ids of chat requests
        self.incomplete = 0  # incomplete chat requests
        self.sent = 0
        self.slowest = 0.0  # seconds
        self.statuses: Counter[str] = Counter()

    def send(self, batch: list[FuzzRequest]) -> None:
        for sent in batch:
            self.sent += 1
            if sent.method:
                self._ask(sent)
            else:
                self._throw(sent)
        assert self._ask(self._health).status == 200
        assert self._ask(self._plain).body == BODY

    def close(self) -> None:
        self._client.close()

    def _ask(self, sent: FuzzRequest) -> Answered:
        started = time.monotonic()
        answer = self._client.ask(sent)
        self.slowest = max(self.slowest, time.monotonic() - started)
        assert self.slowest < PATIENCE_SECONDS
        self.statuses[str(answer.status)] += 1
        assert answer.status < 500, answer
        check_secrets(answer.body)
        check_secrets(repr(answer.headers).encode())
        if sent.path.startswith("/v1") and sent.method != "OPTIONS":
            assert answer.headers["x-request-id"].startswith("req_")
            if answer.status >= 400 and sent.method != "HEAD":
                check_envelope(answer)
        if sent.is_chat:
            self.answered.add(answer.headers["x-request-id"])
            if answer.status == 200:
                assert answer.body in (BODY, STREAM, STREAM_WITHOUT_USAGE)
        return answer

    def _throw(self, sent: FuzzRequest) -> None:
        received = self._client.throw(sent)
        self.incomplete += sent.begins_chat
        check_secrets(received)
        statuses = re.findall(rb"HTTP/1\.1 (\d+) ", received)
        self.statuses.update(status.decode() + " for invalid HTTP" for status in statuses)
        self.statuses["closed"] += not statuses
        others = {int(status) for status in statuses} - REFUSED
        assert all(status < 500 for status in others), received


# Above 500 and still the client's fault: an unknown method or version of HTTP.
REFUSED = {501, 505}
STREAM = b"".join(EVENTS)
STREAM_WITHOUT_USAGE = b"".join(data for data in EVENTS if b'"choices": []' not in data)


def check_secrets(data: bytes) -> None:
    for secret in SECRETS:
        assert secret not in data, data


def check_envelope(answer: Answered) -> None:
    assert answer.headers["content-type"].startswith("application/json"), answer
    document = json.loads(answer.body)
    error = document["error"]
    if document.get("type") == "error":  # Anthropic's form
        assert error.keys() == {"message", "type"}
    else:
        assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert isinstance(error["message"], str)


def answer_call(call: Call) -> Answer:
    """A stream or a complete response. The raw bytes decide, as bodies may be invalid JSON."""
    if call.method == "HEAD":
        return [head(headers=[("content-length", str(len(BODY)))])]
    streams = b'"stream":true' in call.body
    if call.path.startswith("/v1/messages"):
        return chunked(*message_events()) if streams else whole(message_json())
    if call.path.startswith("/v1/embeddings"):
        return whole(vectors_json())
    return chunked(*EVENTS) if streams else whole(BODY)


class ErrorHandler(logging.Handler):
    """Collects all logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(self.format(record))


@pytest.fixture
def errors() -> Iterator[list[str]]:
    handler = ErrorHandler()
    logging.getLogger().addHandler(handler)
    yield handler.messages
    logging.getLogger().removeHandler(handler)


def simulate_ollama(upstream: FakeUpstream) -> None:
    """Make the proxy check the context and capabilities, and adapt requests to Ollama."""
    details = {"capabilities": ["completion"], "model_info": {"phi3.context_length": 131072}}
    for path, document in (("version", {"version": "0.33.0"}), ("show", details), ("ps", {})):
        upstream.native[f"/api/{path}"] = whole(json.dumps(document).encode())


async def test_random_requests_cause_no_failure(
    start: StartProxy,
    local: FakeUpstream,
    cloud: FakeUpstream,
    errors: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)  # pytest stores log records
    local.answer = cloud.answer = answer_call
    simulate_ollama(local)
    proxy = await start()
    fuzz = Fuzz(proxy.port)

    @settings(
        max_examples=max(1, REQUESTS // BATCH),
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(batches)
    def run(batch: list[FuzzRequest]) -> None:
        local.calls.clear()
        cloud.calls.clear()
        errors.clear()
        fuzz.send(batch)
        assert errors == []

    began = time.perf_counter()
    try:
        await asyncio.to_thread(run)
    finally:
        fuzz.close()
    print(
        f"\n{fuzz.sent} requests in {time.perf_counter() - began:.0f} s, "
        f"{len(fuzz.answered)} of them to the chat endpoint, the slowest in {fuzz.slowest:.2f} s: "
        f"{dict(fuzz.statuses.most_common())}"
    )
    chats = len(fuzz.answered) + fuzz.incomplete
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (samples := await proxy.scrape())("router_requests_total", endpoint=ROWS) < chats:
            pass
    await proxy.stop()
    rows = proxy.rows()
    check_agreement(rows, samples)
    assert Counter(row["id"] for row in rows).most_common(1)[0][1] == 1
    finished = [row for row in rows if row["ending"] != "client_gone"]
    assert {row["id"] for row in finished if row["endpoint"] == ROWS} == fuzz.answered
    assert errors == []
