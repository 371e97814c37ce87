"""Tunnels through proxies, byte by byte."""

from collections.abc import Sequence

import httpcore2
import pytest

from proxy.upstream.tunnel import _open_http, _open_socks

LOGIN = (b"bob", b"s3cret")


class Scripted(httpcore2.AsyncMockStream):
    """A connection to a proxy with these answers; afterwards it ends."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        super().__init__([*answers, b""])
        self.sent = b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self.sent += buffer


def pieces(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


ANSWERS = {
    "ipv4": b"\x05\x00\x05\x00\x00\x01" + bytes(4) + b"\x00\x50",
    "ipv6": b"\x05\x00\x05\x00\x00\x04" + bytes(16) + b"\x00\x50",
    "name": b"\x05\x00\x05\x00\x00\x03\x03abc\x00\x50",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_answers_of_socks_may_come_in_pieces(answer: bytes) -> None:
    stream = Scripted(pieces(answer))
    await _open_socks(stream, "gpu.test", 443, None)
    assert stream.sent == b"\x05\x01\x00" + b"\x05\x01\x00\x03\x08gpu.test\x01\xbb"
    assert await stream.read(1) == b""  # all of the answer was read


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("10.1.2.3", b"\x01\x0a\x01\x02\x03"),
        ("fd00::1", b"\x04\xfd" + bytes(14) + b"\x01"),
        ("gpu", b"\x03\x03gpu"),
    ],
)
async def test_addresses_are_sent_as_addresses(host: str, place: bytes) -> None:
    stream = Scripted(pieces(ANSWERS["ipv4"]))
    await _open_socks(stream, host, 80, None)
    assert stream.sent[3:] == b"\x05\x01\x00" + place + b"\x00\x50"


async def test_a_login_is_sent_where_the_proxy_wants_it() -> None:
    stream = Scripted(pieces(b"\x05\x02\x01\x00" + ANSWERS["ipv4"][2:]))
    await _open_socks(stream, "gpu", 80, LOGIN)
    assert stream.sent.startswith(b"\x05\x02\x00\x02\x01\x03bob\x06s3cret\x05\x01")
    stream = Scripted(pieces(ANSWERS["ipv4"]))
    await _open_socks(stream, "gpu", 80, LOGIN)
    assert b"s3cret" not in stream.sent


@pytest.mark.parametrize(
    ("answer", "login", "problem"),
    [
        (b"", None, "closed the connection"),
        (b"\x05", None, "closed the connection"),
        (b"HTTP/1.1 400", None, "does not speak SOCKS 5"),
        (b"\x04\x00", None, "does not speak SOCKS 5"),
        (b"\x05\xff", None, "requires another authentication method"),
        (b"\x05\x02", None, "requires another authentication method"),
        (b"\x05\x02\x01\x01", LOGIN, "rejected the user name or the password"),
        (b"\x05\x00\x05\x02\x00\x01", None, "not allowed by its rules"),
        (b"\x05\x00\x05\x05\x00\x01", None, "connection refused"),
        (b"\x05\x00\x05\x63\x00\x01", None, "unknown failure"),
        (ANSWERS["ipv6"][:-1], None, "closed the connection"),
    ],
)
async def test_failures_of_socks_are_named(
    answer: bytes, login: tuple[bytes, bytes] | None, problem: str
) -> None:
    with pytest.raises(httpcore2.ProxyError, match=problem) as caught:
        await _open_socks(Scripted(pieces(answer)), "gpu", 80, login)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "target"), [("gpu.test", b"gpu.test:443"), ("fd00::1", b"[fd00::1]:443")]
)
@pytest.mark.parametrize("status", [b"HTTP/1.1 200 Connection established", b"HTTP/1.0 200"])
async def test_connect(host: str, target: bytes, status: bytes) -> None:
    stream = Scripted(pieces(status + b"\r\nvia: x\r\n\r\n"))
    await _open_http(stream, host, 443, LOGIN)
    assert stream.sent == (
        b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic Ym9iOnMzY3JldA==\r\n\r\n"
        % (target, target)
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection"),
        (b"HTTP/1.1 407 Login\r\n\r\n", "status '407'"),
        (b"HTTP/1.1 503\r\n\r\n", "status '503'"),
        (b"\x05\x00", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a" * 20_000, "does not speak HTTP"),
    ],
)
async def test_failures_of_connect_are_named(answer: bytes, problem: str) -> None:
    with pytest.raises(httpcore2.ProxyError, match=problem):
        await _open_http(Scripted([answer]), "gpu", 443, None)
