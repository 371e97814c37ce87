"""The HTTP/1.1 engine on real sockets: keep-alive, errors and the end of connections."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from fakes import (
    PATIENCE_SECONDS,
    End,
    FakeUpstream,
    Gate,
    chunked,
    head,
    refused_address,
    silent_address,
    whole,
)
from proxy.upstream import http1
from proxy.upstream.http1 import (
    MAX_BUFFERED_BYTES,
    MAX_RESPONSE_HEAD_BYTES,
    Http1Transport,
)


class FallbackTransport(httpx2.AsyncBaseTransport):
    """The transport for requests that the engine does not support."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self.closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(299)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
async def transport(now: list[float]) -> AsyncIterator[Http1Transport]:
    instance = Http1Transport(rest=lambda _: FallbackTransport(), clock=lambda: now[0])
    yield instance
    await instance.aclose()


def request(
    base_url: str,
    body: bytes = b"{}",
    *,
    method: str = "POST",
    seconds: float | None = 5,
    query: str = "",
    **headers: str,
) -> httpx2.Request:
    url = f"{base_url}/chat/completions{query}"
    extensions = {"timeout": {"connect": seconds}}
    return httpx2.Request(method, url, content=body, headers=headers, extensions=extensions)


async def ask(transport: Http1Transport, url: str, body: bytes = b"{}") -> httpx2.Response:
    async with asyncio.timeout(PATIENCE_SECONDS):
        response = await transport.handle_async_request(request(url, body))
        await response.aread()
    return response


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def connections(transport: Http1Transport) -> int:
    return sum(len(pool.connections) for pool in transport._pools.values())


async def test_connection_serves_requests_in_sequence(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    for number in range(3):
        local.answer = whole(b"%d" % number) if number != 1 else chunked(b"1", b"", b"")
        response = await ask(transport, local.base_url)
        assert (response.status_code, response.content) == (200, b"%d" % number)
    assert connections(transport) == 1
    assert len(local.calls) == 3


async def test_concurrent_requests_use_separate_connections(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = [gate, *whole(b"ok")]
    tasks = [asyncio.create_task(ask(transport, local.base_url)) for _ in range(5)]
    await local.called(5)
    gate.open()
    assert {response.content for response in await asyncio.gather(*tasks)} == {b"ok"}
    assert connections(transport) == 5


async def test_request_is_sent_completely(transport: Http1Transport, local: FakeUpstream) -> None:
    body = b"x" * 3_000_000
    sent = request(local.base_url, body, query="?a=b%20c", one="1")
    response = await transport.handle_async_request(sent)
    await response.aread()
    call = local.call
    assert (call.method, call.path) == ("POST", "/v1/chat/completions?a=b%20c")
    assert call.body == body
    assert call.header("one") == "1"
    assert call.header("content-length") == str(len(body))


async def test_header_with_a_line_break_is_not_sent(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    for value in ("a\r\nx-evil: 1", "a\nx-evil: 1", "a\rb", "a\0b"):
        with pytest.raises(httpx2.LocalProtocolError):
            await transport.handle_async_request(request(local.base_url, one=value))
    assert local.calls == []


async def test_closed_keepalive_connection_is_replaced(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    """The server closes it at the moment of the next request."""
    gate = Gate()
    local.answer = [*whole(b"one"), gate, End.RESET]
    await ask(transport, local.base_url)
    local.answer = whole(b"two")
    task = asyncio.create_task(ask(transport, local.base_url))
    gate.open()
    assert (await task).content == b"two"


async def test_closed_new_connection_is_an_error(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    for end in End:
        local.answer = [end]
        with pytest.raises(httpx2.ReadError):
            await ask(transport, local.base_url)
    assert connections(transport) == 0


@pytest.mark.parametrize("end", list(End), ids=lambda end: end.value)
async def test_a_connection_that_ends_late_may_have_been_worked_on(
    transport: Http1Transport, local: FakeUpstream, now: list[float], end: End
) -> None:
    """The request is not sent again: its repetition is the caller's decision."""
    await ask(transport, local.base_url)
    local.calls.clear()
    gate = Gate()
    local.answer = [gate, end]
    asked = asyncio.create_task(ask(transport, local.base_url))
    await local.called()
    now[0] += 0.2
    gate.open()
    with pytest.raises(httpx2.ReadError):
        await asked
    assert len(local.calls) == 1


@pytest.mark.parametrize("end", list(End), ids=lambda end: end.value)
async def test_a_request_is_sent_again_once_and_on_a_new_connection(
    transport: Http1Transport, local: FakeUpstream, end: End
) -> None:
    gate = Gate()
    local.answer = [gate, *whole(b"ok")]
    asked = [asyncio.create_task(ask(transport, local.base_url)) for _ in range(4)]
    await local.called(4)
    gate.open()
    await asyncio.gather(*asked)
    assert connections(transport) == 4
    local.calls.clear()
    local.answer = [end]
    with pytest.raises(httpx2.ReadError):
        await ask(transport, local.base_url)
    assert len(local.calls) == 2
    assert connections(transport) == 0  # the idle ones were as old


@pytest.mark.parametrize(
    ("size", "status"), [(20_000_000, 200), (20_000_000, 413), (100_000, 413), (100_000, 429)]
)
async def test_a_connection_with_an_unread_request_is_not_reused(
    transport: Http1Transport, size: int, status: int
) -> None:
    """The rest of the refused upload would come before the next request."""
    refusal = b"".join(step for step in whole(b"{}", status=status) if isinstance(step, bytes))
    heads: list[bytes] = []
    over = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(refusal)
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    assert (await ask(transport, url, b"x" * size)).status_code == status
    assert (await ask(transport, url)).status_code == status
    assert len(heads) == 2
    over.set()
    server.close()


async def test_a_connection_is_kept_behind_a_large_request_that_was_read(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    for _ in range(2):
        assert (await ask(transport, local.base_url, b"x" * 3_000_000)).status_code == 200
    assert connections(transport) == 1


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length : 2",
        b"content-length\t: 2",
        b"transfer-encoding : chunked",
        b"x y: 1\r\ncontent-length: 2",
        b"transfer-encoding: gzip, chunked",
        b"transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked, gzip",
    ],
)
async def test_a_body_that_cannot_be_framed_is_refused(
    transport: Http1Transport, local: FakeUpstream, lines: bytes
) -> None:
    local.answer = [b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Gate()]
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(transport, local.base_url)
    await local.call.closed()


async def test_idle_connection_is_closed_after_the_keepalive_time(
    local: FakeUpstream, now: list[float]
) -> None:
    transport = Http1Transport(
        rest=lambda _: FallbackTransport(), keepalive_seconds=0.01, clock=lambda: now[0]
    )
    await ask(transport, local.base_url)
    await asyncio.sleep(0.05)
    assert connections(transport) == 1  # the clock has not advanced
    now[0] += 0.02
    await wait_until(lambda: connections(transport) == 0)
    await ask(transport, local.base_url)
    assert len(local.calls) == 2
    await transport.aclose()


async def test_interim_responses_are_skipped(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *whole(b"ok")]
    response = await ask(transport, local.base_url)
    assert (response.status_code, response.content) == (200, b"ok")
    assert "link" not in response.headers


async def test_response_may_end_with_its_connection(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = [head(headers=[("connection", "close")]) + b"all ", b"of it", End.FIN]
    assert (await ask(transport, local.base_url)).content == b"all of it"
    assert connections(transport) == 0


async def test_truncated_response_raises_after_its_received_bytes(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = [head(headers=[("content-length", "10")]) + b"half", End.FIN]
    response = await transport.handle_async_request(request(local.base_url))
    stream = response.stream
    assert isinstance(stream, httpx2.AsyncByteStream)
    pieces = aiter(stream)
    assert await anext(pieces) == b"half"
    with pytest.raises(httpx2.ReadError):
        await anext(pieces)


async def test_endless_head_is_rejected(transport: Http1Transport, local: FakeUpstream) -> None:
    local.answer = [b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_RESPONSE_HEAD_BYTES // 5), Gate()]
    with pytest.raises(httpx2.RemoteProtocolError):
        await ask(transport, local.base_url)
    await local.call.closed()


async def test_slow_reader_pauses_the_server(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    """A body that is not read is not received from the socket either."""
    size = 64 * MAX_BUFFERED_BYTES
    local.answer = whole(b"x" * size)
    response = await transport.handle_async_request(request(local.base_url))
    answer = response.stream
    assert isinstance(answer, http1.Http1Response)
    await wait_until(lambda: answer._is_paused)
    received = answer._size
    assert received < size / 8
    await asyncio.sleep(0.01)
    assert answer._size == received
    assert len(await response.aread()) == size


async def test_closed_response_closes_the_connection(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = chunked(b"one", Gate())
    response = await transport.handle_async_request(request(local.base_url))
    await response.aclose()
    await local.call.closed()
    assert connections(transport) == 0


async def test_cancelled_request_closes_the_connection(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = [Gate()]
    task = asyncio.create_task(ask(transport, local.base_url))
    call = await local.called()
    task.cancel()
    await call.closed()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connection_errors_are_distinguished(transport: Http1Transport) -> None:
    with refused_address() as url, pytest.raises(httpx2.ConnectError):
        await transport.handle_async_request(request(url))
    with silent_address() as url, pytest.raises(httpx2.ConnectTimeout):
        await transport.handle_async_request(request(url, seconds=0.05))
    with pytest.raises(httpx2.ConnectError):
        await transport.handle_async_request(request("http://no-such-host.invalid/v1"))


async def test_unsupported_requests_use_the_fallback_transport(local: FakeUpstream) -> None:
    rest = FallbackTransport()
    opened: list[ssl.SSLContext] = []

    def open_rest(verify: ssl.SSLContext) -> FallbackTransport:
        opened.append(verify)
        return rest

    trusted = ssl.create_default_context()
    transport = Http1Transport(rest=open_rest, verify=trusted)
    await ask(transport, local.base_url)
    assert opened == []  # opened only on demand
    local.calls.clear()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    upload = httpx2.Request("POST", local.base_url, content=pieces())
    for unsupported in (upload, request(local.base_url, b"", method="HEAD")):
        assert (await transport.handle_async_request(unsupported)).status_code == 299
    await transport.aclose()
    assert opened == [trusted]
    assert rest.closed
    assert local.calls == []


async def test_tls_verifies_the_certificate(certificate: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"{}")
            writer.write(whole(b"secret")[0])  # type: ignore[arg-type]
            await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    trusting = Http1Transport(
        rest=lambda _: FallbackTransport(), verify=ssl.create_default_context(cafile=certificate)
    )
    for _ in range(2):
        assert (await ask(trusting, url)).content == b"secret"
    assert connections(trusting) == 1
    await trusting.aclose()
    default = Http1Transport(rest=lambda _: FallbackTransport())
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        await ask(default, url)
    await default.aclose()
    server.close()


# ── Pumping ───────────────────────────────────────────────────────────────────────────────────


async def pump(
    transport: Http1Transport, url: str, take: Callable[[bytes], bool]
) -> tuple[http1.Http1Response, bool]:
    """Pass the pieces of a response to `take`. Return the response and whether it stopped early."""
    address = http1.Address.of(httpx2.URL(f"{url}/chat/completions"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await transport.ask("POST", address, [], b"{}")
        return answer, await answer.pump(take)


async def test_pieces_are_passed_on_as_they_arrive(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = chunked(b"one", gate, b"two", b"three")
    received: list[bytes] = []

    def take(data: bytes) -> bool:
        received.append(data)
        gate.open()  # releases the next piece
        return True

    _, stopped = await pump(transport, local.base_url, take)
    assert (b"".join(received), stopped) == (b"onetwothree", False)
    assert received[0] == b"one"


async def test_pump_stops_on_request_and_continues(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    gate = Gate()
    local.answer = chunked(b"one", gate, b"two")
    received: list[bytes] = []

    def take(data: bytes) -> bool:
        received.append(data)
        return False

    answer, stopped = await pump(transport, local.base_url, take)
    assert (received, stopped) == ([b"one"], True)
    gate.open()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await answer.pump(take):
            pass
    assert b"".join(received) == b"onetwo"


async def test_exception_of_the_callback_is_raised_by_pump(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = chunked(b"one", Gate(), b"two")

    def take(data: bytes) -> bool:
        raise LookupError(data)

    with pytest.raises(LookupError):
        await pump(transport, local.base_url, take)


async def test_pump_raises_on_an_interrupted_response(
    transport: Http1Transport, local: FakeUpstream
) -> None:
    local.answer = chunked(b"one", End.RESET)
    received: list[bytes] = []

    def take(data: bytes) -> bool:
        received.append(data)
        return True

    with pytest.raises(httpx2.ReadError):
        await pump(transport, local.base_url, take)
    assert received in ([b"one"], [])  # a reset may overtake the piece
