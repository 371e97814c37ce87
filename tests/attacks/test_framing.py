"""Message framing: lengths, chunks, line ends, versions, Host, Expect and upgrade offers."""

from collections.abc import Iterator

from attack import (
    CHAT,
    QUESTION,
    Attack,
    AttackRunner,
    Check,
    Seen,
    answered_once,
    not_forwarded,
    not_smuggled,
    refused,
    refused_and_closed,
    refused_or_harmless,
    refused_with,
    request,
)
from live import chat_body

FAMILY = "framing"
SIZE = len(QUESTION)
INNER = b"GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def attack(name: str, sent: bytes | list[bytes], check: Check = refused) -> Attack:
    return Attack(FAMILY, name, sent, check)


def conflicts() -> Iterator[Attack]:
    """Content-Length and Transfer-Encoding together (RFC 9112, section 6.3)."""
    body = b"0\r\n\r\n" + INNER
    codings = [
        *("chunked", "Chunked", "CHUNKED", " chunked", "chunked ", "\tchunked", "\x0bchunked"),
        *("xchunked", "chunkedx", "chunk ed", '"chunked"', "chunked;q=1", "chunked, identity"),
        *("identity, chunked", "gzip, chunked", "chunked, gzip", "chunked, chunked", "identity"),
        *("gzip", "deflate", "", ",", ", chunked", "chunked,", "\x00chunked", "x\nchunked"),
    ]
    names = [
        *("Transfer-Encoding", "transfer-encoding", "TRANSFER-ENCODING", "Transfer-Encoding "),
        *("Transfer-Encoding\t", " Transfer-Encoding", "Transfer\x00-Encoding"),
        *("Transfer-Encoding\x00", "Transfer_Encoding", "X: y\rTransfer-Encoding"),
    ]
    length = f"Content-Length: {len(body)}"
    for coding in codings:
        for position in ("before", "after"):
            lines = [length, f"Transfer-Encoding: {coding}"]
            if position == "after":
                lines.reverse()
            sent = request(body, *lines, length=False)
            yield attack(f"length {position} coding {coding!r}", sent, not_smuggled)
        if coding.lower().strip(" \t") != "chunked":
            sent = request(body, f"Transfer-Encoding: {coding}", length=False)
            yield attack(f"only coding {coding!r}", sent, not_smuggled)
    for name in names:
        sent = request(body, length, f"{name}: chunked", length=False)
        yield attack(f"length and {name!r}", sent, not_smuggled)
    for first, second in (("chunked", "identity"), ("identity", "chunked"), ("chunked", "chunked")):
        lines = [length, f"Transfer-Encoding: {first}", f"Transfer-Encoding: {second}"]
        sent = request(body, *lines, length=False)
        yield attack(f"length and two codings {first}, {second}", sent, not_smuggled)


def lengths() -> Iterator[Attack]:
    values = [
        *(f"+{SIZE}", f"-{SIZE}", f"{SIZE},{SIZE}", f"{SIZE}, {SIZE}", f"{SIZE}, {SIZE + 1}"),
        *(f"0x{SIZE:x}", f"{SIZE}.0", f"{SIZE}e0", f"{SIZE};", f"{SIZE} {SIZE}", f'"{SIZE}"'),
        *("", "-0", "-1", "none", "1" * 20, "9" * 400, f"{SIZE}\x00", f"\x0b{SIZE}", "\u00b2"),
        *(f"{SIZE}_0", f"{SIZE}\x0c", "18446744073709551617", "NaN", f"({SIZE})", f"{SIZE}L"),
    ]
    for value in values:
        sent = request(QUESTION, f"Content-Length: {value}", length=False)
        check = not_forwarded if value == "1" * 20 else refused
        yield attack(f"content-length {value[:24]!r}", sent, check)
    for second in (SIZE, SIZE + 1, 0, SIZE - 1):
        lines = [f"Content-Length: {SIZE}", f"Content-Length: {second}"]
        yield attack(f"two lengths, {second - SIZE:+}", request(QUESTION, *lines, length=False))
    for name in ("Content-Length ", "Content-Length\t", "Content\x00-Length", "Content-Length\x01"):
        yield attack(f"{name!r}", request(QUESTION, f"{name}: {SIZE}", length=False))


def chunks() -> Iterator[Attack]:
    size = b"%x" % SIZE
    lines = [
        *(b"-" + size, b"+" + size, b"0x" + size, b" " + size, b"\t" + size, b"", b"g", b"zz"),
        *(b"f" * 17, b"f" * 16, b"1" + b"0" * 16, size + b"\x00", size + b" " + size),
        *(size + b"\x0b", size + b"\xa0", size + b",", size + b".0", size + b"h", b"\xff" + size),
    ]
    for line in lines:
        body = line + b"\r\n" + QUESTION + b"\r\n0\r\n\r\n"
        sent = request(body, "Transfer-Encoding: chunked", length=False)
        check = not_forwarded if line == b"f" * 16 else refused
        yield attack(f"chunk size {line[:20]!r}", sent, check)
    for end in (b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b"x\r\n", b" \r\n", b"\x00\r\n"):
        body = size + b"\r\n" + QUESTION + end + b"0\r\n\r\n"
        sent = request(body, "Transfer-Encoding: chunked", length=False)
        yield attack(f"chunk data ends with {end!r}", sent)
        if end not in (b" \r\n",):
            body = size + end + QUESTION + b"\r\n0\r\n\r\n"
            sent = request(body, "Transfer-Encoding: chunked", length=False)
            yield attack(f"chunk size ends with {end!r}", sent)
    for extension in (b";a", b";a=b", b';a="b"', b";a=b;c=d", b" ;a"):
        body = size + extension + b"\r\n" + QUESTION + b"\r\n0\r\n\r\n"
        sent = request(body, "Transfer-Encoding: chunked", length=False)
        yield attack(f"chunk extension {extension!r}", sent, refused_or_harmless)
    for extension in (b";a\n" + INNER, b";\n", b";a\r" + INNER, b';a="\r\n', b";a\x00", b";\x01"):
        body = size + extension + b"\r\n" + QUESTION + b"\r\n0\r\n\r\n"
        sent = request(body, "Transfer-Encoding: chunked", length=False)
        yield attack(f"chunk extension {extension[:12]!r}", sent, not_smuggled)
    for count, long in ((1, 40_000), (2_000, 100), (40, 2_000)):
        piece = b"1;" + b"a" * long + b"\r\n \r\n"
        rest = size + b"\r\n" + QUESTION + b"\r\n0\r\n\r\n"
        sent = request(piece * count + rest, "Transfer-Encoding: chunked", length=False)
        yield attack(f"{count} chunk extensions of {long} bytes", sent, refused_or_harmless)


def line_ends() -> Iterator[Attack]:
    for continuation in (" folded", "\tfolded", "  folded", " \t folded", " x: y", "\tx: y"):
        for header in ("X-Test: a", "Content-Type: a", "Authorization: Bearer", "Host: a", "A: b"):
            sent = request(QUESTION, header, continuation)
            yield attack(f"obs-fold {header!r} {continuation!r}", sent, refused_or_harmless)
    for code in [*range(32), 127]:
        if code == 9:
            continue
        character = bytes([code])
        value = b"X-Test: a" + character + b"b"
        yield attack(f"{character!r} in a value", request(QUESTION, value), refused_or_harmless)
        name = b"X-Te" + character + b"st: a"
        check = refused_or_harmless if character in b"\r\n" else refused
        yield attack(f"{character!r} in a name", request(QUESTION, name), check)
        first = b"PO" + character + b"ST"
        yield attack(f"{character!r} in a method", request(QUESTION, method=first))
    for character in '"(),/:;<=>?@[\\]{} \xff\x80':
        if character != ":":
            name = f"X-Te{character}st: a"
            yield attack(f"{character!r} in a name", request(QUESTION, name))
    for line in (": empty", " : blank", "no colon", "\x00", "=: x", "X-Test", "(x): y"):
        yield attack(f"header line {line!r}", request(QUESTION, line))
    for end in (b"\n", b"\r"):
        sent = request(QUESTION).replace(b"\r\n", end)
        yield attack(f"all lines end with {end!r}", sent, refused_or_harmless)
        sent = request(QUESTION).replace(b"\r\n\r\n", end * 2, 1)
        yield attack(f"the head ends with {end!r}", sent, refused_or_harmless)


def first_lines() -> Iterator[Attack]:
    versions = [
        *("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/2", "HTTP/3.0", "HTTP/1", "HTTP/1.", "HTTP/.1"),
        *("HTTP/1.10", "HTTP/01.1", "HTTP/1.1x", "http/1.1", "HTTPS/1.1", "HTTP/ 1.1", "HTTP/-1.1"),
        *("HTTP/1,1", "HTTP/11", "HTTP1.1", "SIP/2.0", "RTSP/1.0", "ICE/1.0", "HTTP/9.9", "X"),
    ]
    for version in versions:
        # The parser knows RTSP and ICE, whose first lines mean the same.
        check = refused_or_harmless if version[:4] in ("RTSP", "ICE/") else refused
        yield attack(f"version {version!r}", request(QUESTION, version=version), check)
    for line in (
        *(b"POST  /v1/chat/completions HTTP/1.1", b"POST\t/v1/chat/completions\tHTTP/1.1"),
        *(b"POST /v1/chat/completions HTTP/1.1 x", b" POST /v1/chat/completions HTTP/1.1"),
        *(b"POST /v1/chat/completions", b"POST", b"/v1/chat/completions HTTP/1.1"),
        *(b"POST v1/chat/completions HTTP/1.1", b"POST \\v1\\chat\\completions HTTP/1.1"),
        *(b"POST ?/v1/chat/completions HTTP/1.1", b"POST * HTTP/1.1", b"POST : HTTP/1.1"),
        *(b"POST /v1/\x00 HTTP/1.1", b"POST /v1/\x7f HTTP/1.1", b"POST http:// HTTP/1.1"),
        *(b"POST /" + b"a" * 40_000 + b" HTTP/1.1", b"X" * 40_000, b"PRI * HTTP/2.0"),
    ):
        sent = request(QUESTION).replace(b"POST /v1/chat/completions HTTP/1.1", line)
        # RFC 9112, section 3, lets a server split the line at any white space.
        check = refused_or_harmless if line.startswith(b"POST  ") else refused
        yield attack(f"first line {line[:48]!r}", sent, check)
    many = [f"X-{number}: {'a' * 90}" for number in range(400)]
    yield attack("40 kB of headers", request(QUESTION, *many), refused_and_closed)
    yield attack("a name of 40 kB", request(QUESTION, "X" * 40_000 + ": y"), refused_and_closed)
    yield attack("a value of 40 kB", request(QUESTION, "X: " + "y" * 40_000), refused_and_closed)


def plain_for_1_0(seen: Seen) -> str | None:
    """No transfer coding in an answer to HTTP/1.0 (RFC 9112, section 6.1)."""
    if seen.reply is None or seen.reply.status != 200:
        return "not answered"
    return "chunked" if seen.reply.header("transfer-encoding") else None


def hosts() -> Iterator[Attack]:
    for count, lines in ((0, []), (2, ["Host: localhost"]), (2, ["Host: evil.example"])):
        host = "localhost" if count else None
        yield attack(f"{count} Host lines {lines}", request(QUESTION, *lines, host=host))
        sent = request(b"", *lines, host=host, method="GET", path="/health")
        yield attack(f"{count} Host lines {lines}, /health", sent, refused_with(400))
    for host in (
        *("evil.example", "evil.example:8080", "localhost.evil.example", "localhost@evil.example"),
        *("evil.example#localhost", "localhost, evil.example", "localhost evil", "localhost/x"),
        *(
            "127.0.0.1.evil.example",
            "0x7f.evil",
            "[::ffff:8.8.8.8]",
            "xn--localhost",
            "localhost\\",
        ),
        *("localhost?", "user@localhost", "10.0.0.1", "[::2]", "localhosts", "localhost:80:80"),
    ):
        yield attack(f"host {host!r}", request(QUESTION, host=host))
    for stream in (False, True):
        body = chat_body(model="local", stream=stream)
        for lines in ([], ["Connection: keep-alive"], ["TE: trailers"]):
            sent = request(body, *lines, version="HTTP/1.0", close=False)
            yield attack(f"HTTP/1.0, stream {stream}, {lines}", sent, plain_for_1_0)
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, QUESTION)
    for coding in ("chunked", "gzip, chunked", "identity"):
        lines = [f"Transfer-Encoding: {coding}"]
        sent = request(chunked, *lines, version="HTTP/1.0", length=False)
        yield attack(f"HTTP/1.0 with transfer-encoding {coding}", sent)


def in_step(seen: Seen) -> str | None:
    """After a final answer without 100 Continue the connection closes, or reads the next head."""
    if b" 100 " in seen.raw.partition(b"\r\n")[0]:
        return "100 Continue for a request that is refused"
    if seen.calls:
        return "reached an upstream"
    if not seen.replies:
        return "no answer"
    if len(seen.replies) == 1:
        return None if seen.closed else "the next request was taken for a body"
    return None if seen.replies[1].status == 200 else f"then {seen.replies[1].status}"


def expectations() -> Iterator[Attack]:
    health = request(b"", method="GET", path="/health", length=False)
    expect = "Expect: 100-continue"
    for name, path, lines in (
        ("too large", CHAT, ["Content-Length: 999999999"]),
        ("compressed", CHAT, ["Content-Encoding: gzip", "Content-Length: 100"]),
        ("compressed with br", CHAT, ["Content-Encoding: br", "Content-Length: 100"]),
        ("unknown path", "/nowhere", ["Content-Length: 100"]),
        ("below v1, dots", "/v1/../x", ["Content-Length: 100"]),
        ("foreign page", CHAT, ["Origin: http://evil.example", "Content-Length: 100"]),
        ("host", CHAT, ["Content-Length: 100"]),
    ):
        for word in (expect, "expect: 100-Continue"):
            host = "evil.example" if name == "host" else "localhost"
            head = request(b"", word, *lines, path=path, length=False, close=False, host=host)
            yield attack(f"{word}, {name}", [head, health], in_step)
    for value in ("200-ok", "x", "100-continue, x", "", "100"):
        sent = request(QUESTION, f"Expect: {value}")
        yield attack(f"expect {value!r}", sent, refused_or_harmless)


def upgrades() -> Iterator[Attack]:
    for offer in ("h2c", "websocket", "TLS/1.0", "h2c, websocket", "foo"):
        lines = [f"Upgrade: {offer}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]
        sent = request(QUESTION, "Connection: Upgrade, HTTP2-Settings, close", *lines, close=False)
        yield attack(f"upgrade to {offer}", sent, answered_once)
        at = sent.index(b"Upgrade: " + offer.encode()[:1])
        for cut in range(at - 4, at + 12):
            parts = [sent[:cut], sent[cut:]]
            yield attack(f"upgrade to {offer}, cut at {cut - at:+}", parts, answered_once)
        yield attack(
            f"upgrade to {offer}, behind another request",
            request(b"", method="GET", path="/health", length=False, close=False) + sent,
            lambda seen: (
                None
                if [reply.status for reply in seen.replies] == [200, 200] and len(seen.calls) == 1
                else f"answered {[reply.status for reply in seen.replies]}"
            ),
        )
    sent = request(QUESTION, "UPGRADE:h2c", "CONNECTION: upgrade", close=False)
    bytewise = [sent[n : n + 1] for n in range(sent.index(b"\r\n\r\n") + 4)] + [QUESTION]
    closing = [*bytewise[:-1], QUESTION]
    yield attack(
        "upgrade, byte by byte",
        closing,
        lambda seen: (
            None
            if [reply.status for reply in seen.replies] == [200] and len(seen.calls) == 1
            else f"answered {[reply.status for reply in seen.replies]}"
        ),
    )


async def test_message_framing(runner: AttackRunner) -> None:
    await runner.hold(
        [
            *conflicts(),
            *lengths(),
            *chunks(),
            *line_ends(),
            *first_lines(),
            *hosts(),
            *expectations(),
            *upgrades(),
        ]
    )
