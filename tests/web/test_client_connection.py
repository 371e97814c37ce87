"""HTTP/1.1 on the client's side, over real sockets: pipelining, framing, methods, ends."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from fakes import (
    FakeUpstream,
    Gate,
    answer_json,
    openai_events,
    whole,
)
from fakes import chunked as chunked_answer
from live import LiveProxy, RawClient, StartProxy, chat_body
from proxy.web import client_connection
from proxy.web.client_connection import MAX_PIPELINED, MAX_REQUEST_HEADERS, Connection

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
KEYS: dict[str, Any] = {"server": {"api_keys": ["sk-team"]}}
AUTHORIZED = b"authorization: Bearer sk-team\r\n"


def chunked(body: bytes, trailers: bytes = b"") -> bytes:
    return b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers)


def with_body(body: bytes, headers: bytes = b"") -> bytes:
    return CHAT + headers + b"content-length: %d\r\n\r\n" % len(body) + body


async def read_answer(client: RawClient, *, has_body: bool = True) -> tuple[int, str, bytes]:
    """Status, head in lower case and body of one answer with a content-length."""
    head = (await client.read_until(b"\r\n\r\n")).decode().lower()
    size = 0
    for line in head.split("\r\n"):
        if line.startswith("content-length:"):
            size = int(line.partition(":")[2])
    body = await client.read_exactly(size) if has_body else b""
    return int(head.split()[1]), head, body


async def only_answer(proxy: LiveProxy, data: bytes) -> tuple[int, str, bytes]:
    """The only answer on a connection, which the proxy then ends."""
    client = await proxy.connect_raw(data)
    answer = await read_answer(client)
    assert await client.read_to_end() == b""
    await client.leave()
    return answer


async def assert_refused(proxy: LiveProxy, data: bytes, status: int, code: str | None) -> str:
    """Returns the answer's head."""
    found, head, body = await only_answer(proxy, data)
    error = json.loads(body)["error"]
    assert (found, error["code"]) == (status, code), error
    assert error["type"] == "invalid_request_error"
    assert "connection: close" in head
    assert "x-request-id: req_" in head
    return head


# Pipelining.


async def test_pipelined_requests_are_answered_in_order(proxy: LiveProxy) -> None:
    paths = [b"/health", b"/openapi.json", b"/health"]
    client = await proxy.connect_raw(b"".join(HEALTH.replace(b"/health", path) for path in paths))
    sizes = [len((await read_answer(client))[2]) for _ in paths]
    assert sizes[0] == sizes[2] < sizes[1]
    await client.leave()


@pytest.mark.parametrize("count", [MAX_PIPELINED + 2, 20_000])
async def test_few_requests_wait_on_one_connection(proxy: LiveProxy, count: int) -> None:
    client = await proxy.connect_raw(b"")
    client.start_sending(HEALTH * count)
    for _ in range(MAX_PIPELINED + 1):
        assert (await read_answer(client))[0] == 200
    status, head, body = await read_answer(client)
    assert (status, "connection: close" in head) == (400, True)
    assert f"{MAX_PIPELINED} requests" in json.loads(body)["error"]["message"]
    assert await client.read_to_end() == b""
    client.vanish()


@pytest.mark.alone
async def test_pipelined_requests_do_not_delay_other_clients(proxy: LiveProxy) -> None:
    await proxy.client.get("/health")
    senders = [await proxy.connect_raw(b"") for _ in range(4)]
    for sender in senders:
        sender.start_sending(HEALTH * 30_000)
    slowest = 0.0
    for _ in range(50):
        since = time.perf_counter()
        assert (await proxy.client.get("/health")).status_code == 200
        slowest = max(slowest, time.perf_counter() - since)
    assert slowest < 0.5
    for sender in senders:
        sender.vanish()


async def test_an_invalid_request_waits_for_the_answers_before_it(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = [gate, *whole(answer_json())]
    client = await proxy.connect_raw(with_body(chat_body(model="local")) + b"no HTTP at all\r\n")
    await gate.reached()
    gate.open()
    assert (await read_answer(client))[0] == 200
    assert (await read_answer(client))[0] == 400
    assert await client.read_to_end() == b""
    await client.leave()


# Framing.


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        ("GET /health HTTP/1.1", ""),
        ("GET /health HTTP/1.1", "host: localhost\r\nhost: localhost\r\n"),
        ("GET /health HTTP/1.1", "host: localhost\r\nhost: evil.example\r\n"),
        ("GET /health HTTP/1.0", "host: localhost\r\nhost: evil.example\r\n"),
        ("GET /health HTTP/1.1", "host: local host\r\n"),
        ("GET /health HTTP/1.1", "host: [\r\n"),
        ("GET /health HTTP/1.1", "host: user@localhost\r\n"),
        ("GET /health HTTP/1.1", "host: localhost/path\r\n"),
        ("POST /health HTTP/1.0", "transfer-encoding: chunked\r\n"),
    ],
)
async def test_invalid_framing_is_refused(
    proxy: LiveProxy, request_line: str, headers: str
) -> None:
    await assert_refused(proxy, f"{request_line}\r\n{headers}\r\n".encode(), 400, None)


@pytest.mark.parametrize("host", ["", "[::1]:8080", "127.0.0.1", "localhost:1", "a-b.example."])
async def test_valid_hosts_are_accepted(proxy: LiveProxy, host: str) -> None:
    client = await proxy.connect_raw(f"GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    assert (await read_answer(client))[0] == 200
    await client.leave()


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity", "deflate, gzip, chunked"])
async def test_other_transfer_codings_are_not_implemented(proxy: LiveProxy, coding: str) -> None:
    data = CHAT + f"transfer-encoding: {coding}\r\n\r\n".encode() + chunked(chat_body())
    await assert_refused(proxy, data, 501, "unsupported_transfer_encoding")


async def test_other_versions_of_http_are_not_supported(proxy: LiveProxy) -> None:
    data = b"GET /health HTTP/2.0\r\nhost: localhost\r\n\r\n"
    await assert_refused(proxy, data, 505, "unsupported_http_version")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("host", [b"", b"host: localhost\r\n"])
async def test_http_10_gets_no_chunks(
    proxy: LiveProxy, local: FakeUpstream, host: bytes, is_stream: bool
) -> None:
    if is_stream:
        local.answer = chunked_answer(*openai_events())
    body = chat_body(stream=is_stream)
    client = await proxy.connect_raw(
        b"POST /v1/chat/completions HTTP/1.0\r\n%bcontent-length: %d\r\n\r\n%b"
        % (host, len(body), body)
    )
    head, _, content = (await client.read_to_end()).partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"transfer-encoding" not in head.lower()
    if is_stream:
        assert content.startswith(b"data: ")
        assert content.endswith(b"data: [DONE]\n\n")
    else:
        assert json.loads(content)["choices"]
    await client.leave()


@pytest.mark.parametrize("in_one_packet", [True, False])
async def test_trailers_are_no_headers(
    start: StartProxy, cloud: FakeUpstream, in_one_packet: bool
) -> None:
    proxy = await start(KEYS)
    trailers = (
        AUTHORIZED
        + b"x-from-trailer: 1\r\nx-router-target: local\r\nhost: evil.example\r\n"
        + b"content-type: text/evil\r\n"
    )
    rest = chunked(chat_body(model="cloud"), trailers)
    for headers, status in ((b"", 401), (AUTHORIZED, 200)):
        head = CHAT + headers + b"transfer-encoding: chunked\r\n\r\n"
        client = await proxy.connect_raw(head + (rest if in_one_packet else b""))
        if not in_one_packet:
            await proxy.client.get("/health")
            await client.send(rest)
        assert (await client.read_until(b"\r\n")).split()[1] == b"%d" % status
        await client.leave()
    assert cloud.call.header("x-from-trailer") is None
    assert "evil" not in str(cloud.call.headers)


# Upgrades.

OFFER = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
)


@pytest.mark.parametrize("cut", [0, 30, 60, 100, 110, 120, 140, 160, 200, 230])
async def test_a_split_upgrade_offer_is_ignored(proxy: LiveProxy, cut: int) -> None:
    data = with_body(chat_body(), OFFER)
    client = await proxy.connect_raw(data[:cut])
    await proxy.client.get("/health")
    await client.send(data[cut:])
    assert (await read_answer(client))[0] == 200
    await client.send(HEALTH)
    assert (await read_answer(client))[0] == 200
    await client.leave()


async def test_pipelined_upgrade_offers_are_ignored(proxy: LiveProxy, local: FakeUpstream) -> None:
    offer = with_body(chat_body(model="local"), OFFER)
    websocket = b"connection: upgrade\r\nupgrade: websocket\r\n"
    get = HEALTH.replace(b"\r\n\r\n", b"\r\n" + websocket + b"\r\n")
    client = await proxy.connect_raw(HEALTH + offer + get + offer + HEALTH)
    for _ in range(5):
        assert (await read_answer(client))[0] == 200
    await client.leave()
    assert len(local.calls) == 2
    assert all(call.json["messages"] for call in local.calls)


@pytest.mark.parametrize(
    ("version", "offer"),
    [(b"1.1", OFFER.replace(b"Upgrade,", b"Upgrade, close,")), (b"1.0", OFFER)],
)
async def test_an_upgrade_offer_on_a_connection_that_ends_is_ignored(
    proxy: LiveProxy, local: FakeUpstream, version: bytes, offer: bytes
) -> None:
    data = with_body(chat_body(model="local"), offer).replace(b"HTTP/1.1", b"HTTP/" + version)
    assert (await only_answer(proxy, data))[0] == 200
    assert local.call.json["messages"]


async def test_a_chunked_request_with_an_upgrade_offer_keeps_its_body(proxy: LiveProxy) -> None:
    head = CHAT + OFFER + b"transfer-encoding: chunked\r\n\r\n"
    client = await proxy.connect_raw(head + chunked(chat_body(), b"x-trailer: 1\r\n") + HEALTH)
    for _ in range(2):
        assert (await read_answer(client))[0] == 200
    await client.leave()


# Methods.


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "BREW", "get"])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/chat/completions", "/health", "/"])
async def test_other_methods_are_refused(
    proxy: LiveProxy, cloud: FakeUpstream, method: str, path: str
) -> None:
    target = "localhost:1" if method == "CONNECT" else path
    data = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    head = await assert_refused(proxy, data, 405, "method_not_allowed")
    assert "allow: delete, get, head, options, patch, post, put\r\n" in head
    assert not cloud.calls


@pytest.mark.parametrize(
    "path",
    ["/health", "/metrics", "/openapi.json", "/v1/models", "/v1/models/auto", "/", "/api/status",
     "/ui/charts.js", "/api/stats", "/api/requests"],
)  # fmt: skip
async def test_head_is_answered_as_get_without_a_body(proxy: LiveProxy, path: str) -> None:
    got = await proxy.client.get(path)
    client = await proxy.connect_raw(f"HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    status, head, _ = await read_answer(client, has_body=False)
    assert (status, got.status_code) in ((200, 200), (404, 404))
    assert f"content-type: {got.headers['content-type']}" in head
    await client.send(HEALTH)  # nothing but the head came before
    assert (await read_answer(client))[0] == 200
    await client.leave()


async def test_every_route_with_get_answers_head_alike(proxy: LiveProxy) -> None:
    """RFC 9110, section 9.3.2: the same headers as for GET, and no body."""
    found = {
        re.sub(r"\{[^}]*\}", "auto", route.path)
        for route in proxy.proxy.app.routes
        if "GET" in getattr(route, "methods", {"GET"})
    }
    assert {"/", "/health", "/ready", "/metrics", "/v1/models", "/openapi.json", "/dashboard",
            "/compare", "/experiments", "/v1/models/auto", "/api/status"} <= found  # fmt: skip
    may_differ = {"x-request-id", "date", "transfer-encoding"}
    for path in sorted(found):
        got = await proxy.client.get(path, headers={"accept-encoding": "identity"})
        client = await proxy.connect_raw(
            f"HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        )
        status, head, _ = await read_answer(client, has_body=False)
        await client.send(HEALTH)  # nothing but the head came before
        assert (await read_answer(client))[0] == 200, path
        await client.leave()
        assert status == got.status_code, path
        names = {line.partition(":")[0] for line in head.split("\r\n")[1:] if line}
        assert names - may_differ == set(got.headers) - may_differ, path
        if not path.startswith(("/metrics", "/api/", "/v1/chat")):  # their bodies change
            assert f"content-length: {got.headers['content-length']}" in head, path


async def test_head_is_passed_on_as_head(proxy: LiveProxy, cloud: FakeUpstream) -> None:
    client = await proxy.connect_raw(b"HEAD /v1/files HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await read_answer(client, has_body=False))[0] == 200
    assert cloud.call.method == "HEAD"
    await client.leave()


# The end of a connection, and bodies that are not read.


async def send_often(client: RawClient, data: bytes, *, times: int, pause: float = 0.0) -> None:
    """Raises ConnectionError where the connection is closed."""
    for _ in range(times):
        await client.send(data)
        await asyncio.sleep(pause)


async def test_an_unread_body_ends_the_connection(start: StartProxy) -> None:
    proxy = await start(KEYS)
    client = await proxy.connect_raw(CHAT + b"content-length: 999999\r\n\r\n{")
    status, head, _ = await read_answer(client)
    assert (status, "connection: close" in head) == (401, True)
    assert await client.read_to_end() == b""
    await client.leave()


async def test_a_client_that_still_sends_sees_the_answer(start: StartProxy) -> None:
    proxy = await start(KEYS)
    body = b" " * 8_000_000
    client = await proxy.connect_raw(CHAT + b"content-length: %d\r\n\r\n" % len(body))
    await client.send(body)
    assert (await read_answer(client))[0] == 401
    await client.leave()


async def test_an_endless_unread_body_is_cut_off(start: StartProxy) -> None:
    proxy = await start(KEYS, connection={"linger_bytes": 1_000_000, "linger_seconds": 60.0})
    client = await proxy.connect_raw(CHAT + b"transfer-encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with pytest.raises(ConnectionError):
        await send_often(client, piece, times=1500)
    client.vanish()


async def test_a_silent_client_with_an_unread_body_is_closed(start: StartProxy) -> None:
    proxy = await start(KEYS, connection={"linger_seconds": 0.05})
    client = await proxy.connect_raw(CHAT + b"content-length: 999999\r\n\r\n{")
    await read_answer(client)
    with pytest.raises(ConnectionError):
        await send_often(client, b" ", times=500, pause=0.01)
    client.vanish()


async def test_a_complete_body_that_is_not_read_keeps_the_connection(start: StartProxy) -> None:
    proxy = await start(KEYS)
    client = await proxy.connect_raw(with_body(chat_body()))
    assert (await read_answer(client))[0] == 401
    await client.send(HEALTH)
    assert (await read_answer(client))[0] == 200
    await client.leave()


async def test_the_rest_of_a_small_unread_body_is_discarded(start: StartProxy) -> None:
    proxy = await start(KEYS)
    client = await proxy.connect_raw(CHAT + b"content-length: 300000\r\n\r\n{")
    status, head, _ = await read_answer(client)
    assert (status, "connection: close" in head) == (401, False)
    await client.send(b" " * 299_999 + HEALTH)
    assert (await read_answer(client))[0] == 200
    await client.leave()


EXPECT = b"expect: 100-continue\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (CHAT + EXPECT + b"content-length: 10\r\n\r\n", 401),
        (CHAT + EXPECT + AUTHORIZED + b"content-length: 999999999\r\n\r\n", 413),
        (CHAT + EXPECT + AUTHORIZED + b"content-length: 40000000\r\n\r\n", 413),
        (CHAT + EXPECT + AUTHORIZED + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\n", 415),
        (b"POST /v2 HTTP/1.1\r\nhost: localhost\r\n" + EXPECT + b"content-length: 9\r\n\r\n", 404),
    ],
)
async def test_a_final_answer_replaces_100_continue(
    start: StartProxy, data: bytes, status: int
) -> None:
    proxy = await start(KEYS)
    found, head, _ = await only_answer(proxy, data)
    assert found == status
    assert "connection: close" in head


async def test_a_client_is_told_to_continue(proxy: LiveProxy) -> None:
    body = chat_body()
    client = await proxy.connect_raw(CHAT + EXPECT + b"content-length: %d\r\n\r\n" % len(body))
    assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(body)
    status, head, _ = await read_answer(client)
    assert (status, "connection: close" in head) == (200, False)
    await client.leave()


async def test_http_10_is_not_told_to_continue(proxy: LiveProxy) -> None:
    body = chat_body()
    head = CHAT.replace(b"1.1", b"1.0") + EXPECT + b"content-length: %d\r\n\r\n" % len(body)
    client = await proxy.connect_raw(head + body)
    assert (await client.read_to_end()).startswith(b"HTTP/1.1 200")
    await client.leave()


# Disconnects while the answer is awaited.


@pytest.mark.parametrize("size", [70_000, 400_000, 2_000_000])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
async def test_a_disconnect_after_a_large_body_closes_the_upstream_call(
    proxy: LiveProxy, local: FakeUpstream, size: int, streams: bool
) -> None:
    """Whether the client aborts or closes, and however head and body arrive."""
    body = chat_body(model="local", text="x" * size, stream=streams)
    request = with_body(body)
    number = 0
    for at_once in (True, False):
        for aborts in (True, False):
            number += 1
            local.answer = [gate := Gate(), *whole(answer_json())]
            client = await proxy.connect_raw(request if at_once else request[: -len(body)])
            if not at_once:
                await proxy.client.get("/health")  # the proxy has read the head by now
                await client.send(body)
            call = await local.called(number)
            await gate.reached()
            if aborts:
                client.vanish()
            else:
                await client.leave()
            await call.closed()
            gate.open()
    rows = await proxy.rows_of(number)
    assert {row["ending"] for row in rows} == {"client_gone"}


async def test_a_disconnect_with_a_waiting_request_closes_the_upstream_call(
    proxy: LiveProxy, local: FakeUpstream
) -> None:
    local.answer = [gate := Gate(), *whole(answer_json())]
    body = chat_body(model="local", text="x" * 100_000)
    client = await proxy.connect_raw(with_body(body) + HEALTH * 3)
    call = await local.called()
    await gate.reached()
    client.vanish()
    await call.closed()
    gate.open()


# The work of one turn of the event loop.


async def test_a_body_in_small_chunks_arrives_whole(proxy: LiveProxy, local: FakeUpstream) -> None:
    local.answer = whole(answer_json())
    body = chat_body(model="local", text="".join(map(str, range(100_000))))
    chunks = [b"20\r\n%b\r\n" % body[at : at + 32] for at in range(0, len(body) - 32, 32)]
    rest = body[32 * len(chunks) :]
    client = await proxy.connect_raw(
        CHAT + b"transfer-encoding: chunked\r\n\r\n" + b"".join(chunks) + chunked(rest) + HEALTH
    )
    assert (await read_answer(client))[0] == 200
    assert (await read_answer(client))[0] == 200
    assert local.calls[0].json["messages"] == json.loads(body)["messages"]
    await client.leave()


async def test_too_many_small_chunks_are_refused(proxy: LiveProxy) -> None:
    data = CHAT + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000
    await assert_refused(proxy, data, 413, "body_too_large")


async def test_the_number_of_headers_is_limited(proxy: LiveProxy) -> None:
    head = HEALTH[:-2]
    client = await proxy.connect_raw(head + b"a:\r\n" * (MAX_REQUEST_HEADERS - 1) + b"\r\n")
    assert (await read_answer(client))[0] == 200
    await client.leave()
    data = head + b"a:\r\n" * MAX_REQUEST_HEADERS + b"\r\n"
    await assert_refused(proxy, data, 431, "headers_too_large")


class _Transport(asyncio.Transport):
    """A transport that sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = False

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def write(self, data: Any) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


@pytest.fixture
async def transport() -> _Transport:
    return _Transport()


@pytest.fixture
async def connection(transport: _Transport) -> AsyncIterator[Connection]:
    """A connection whose requests are read and never answered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] == "http.request":
            pass

    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, log_level="critical")
    config.load()
    connection = Connection(config, ServerState(), {})
    connection.connection_made(transport)
    yield connection
    connection.connection_lost(None)
    await asyncio.gather(*connection.tasks)


async def test_the_event_loop_goes_on_between_the_parts_of_a_received_piece(
    connection: Connection, transport: _Transport
) -> None:
    chunks = b"20\r\n%b\r\n" % (b"x" * 32) * 30_000
    connection.data_received(CHAT + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    assert transport.is_paused
    connection.data_received(b"0\r\n\r\n")  # had been read before
    turns = 0
    while connection.cycle.more_body:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 3
    assert not transport.is_paused


async def test_waiting_requests_fill_no_memory(
    connection: Connection, transport: _Transport
) -> None:
    connection.data_received(with_body(b" " * 1000))
    await asyncio.sleep(0)
    for is_paused in (False, False, True):
        connection.data_received(with_body(b" " * 30_000))
        await asyncio.sleep(0)
        assert transport.is_paused is is_paused


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_large_answer_is_written_in_pieces(
    proxy: LiveProxy, cloud: FakeUpstream, monkeypatch: pytest.MonkeyPatch, version: bytes
) -> None:
    """So that no write takes the event loop for long. Between them it goes on."""
    text = answer_json("word " * 1_000_000)
    cloud.answer = whole(text)
    sizes: list[int] = []
    send_body = client_connection._Exchange._send_body

    def note(exchange: Any, body: bytes, *, more: bool) -> None:
        sizes.append(len(body))
        send_body(exchange, body, more=more)

    monkeypatch.setattr(client_connection._Exchange, "_send_body", note)
    body = chat_body(model="cloud")
    client = await proxy.connect_raw(with_body(body).replace(b"HTTP/1.1", b"HTTP/" + version))
    status, _, answer = await read_answer(client)
    assert (status, answer == text) == (200, True)
    assert max(sizes) <= 2**18
    assert sum(sizes) == len(text)
    await client.leave()
