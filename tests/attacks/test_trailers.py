"""Trailer fields of a chunked request: none of them becomes a header (RFC 9110, section 6.5.1)."""

from collections.abc import Iterator

from attack import ADMIN, CHAT, PLAIN, Attack, AttackRunner, Check, Seen, request
from live import CLOUD_KEY, chat_body

FAMILY = "trailers"
BODY = chat_body(model="auto")
MARK = "trailer-text"


def no_key(seen: Seen) -> str | None:
    """A key in a trailer does not authenticate."""
    if seen.calls:
        return "reached an upstream without a key"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    return None if 400 <= seen.reply.status < 500 else f"answered {seen.reply.status}"


def ignored(seen: Seen) -> str | None:
    """Refused, or answered as if the trailer were absent."""
    if seen.reply is None:
        return None if seen.closed else "no answer"
    for call in seen.calls:
        if any(MARK in value or MARK in name for name, value in call.headers):
            return "the upstream got the trailer"
        if sum(len(name) + len(value) for name, value in call.headers) > 4_000:
            return "the upstream got a large head"
    # The question is an easy one, so that only a header sends it to the cloud.
    if any(call.path != "/v1/files" and CLOUD_KEY in str(call.headers) for call in seen.calls):
        return "obeyed: the cloud got it"
    if seen.reply.header("x-router-trace"):
        return "obeyed: x-router-trace"
    return None if seen.reply.status in range(200, 500) else f"answered {seen.reply.status}"


def packets(trailers: bytes, *lines: str, path: str, split: str) -> list[bytes]:
    head = request(b"", *lines, "Transfer-Encoding: chunked", path=path, length=False)
    body = b"%x\r\n%b\r\n" % (len(BODY), BODY)
    last = b"0\r\n" + trailers + b"\r\n"
    match split:
        case "together":
            return [head + body + last]
        case "apart":
            return [head, body, last]
        case "last chunk":
            return [head + body, b"0\r\n", trailers + b"\r\n"]
    middle = len(trailers) // 2
    return [head + body + b"0\r\n" + trailers[:middle], trailers[middle:] + b"\r\n"]


def attacks() -> Iterator[Attack]:
    own = f"Authorization: Bearer {PLAIN}"
    paths = (CHAT, "/v1/responses", "/v1/files")
    hostile: list[tuple[str, list[str], Check]] = [
        (f"authorization: Bearer {PLAIN}", [], no_key),
        (f"Authorization: Bearer {ADMIN}", [], no_key),
        (f"x-api-key: {PLAIN}", [], no_key),
        (f"authorization: Bearer {ADMIN}", ["Authorization: Bearer wrong"], no_key),
        ("x-router-target: cloud", [own], ignored),
        ("x-router-threshold: 1", [own], ignored),
        ("x-router-no-store: true", [own], ignored),
        ("x-router-trace: true", [own], ignored),
        ("host: evil.example", [own], ignored),
        ("origin: http://evil.example", [own], ignored),
        (f"cookie: hybrid_llm_session={MARK}", [own], ignored),
        (f"x-from-trailer: {MARK}", [own], ignored),
        (f"content-type: text/evil; {MARK}", [own], ignored),
        (f"user-agent: {MARK}", [own], ignored),
        (f"openai-organization: {MARK}", [own], ignored),
        (f"idempotency-key: {MARK}", [own], ignored),
        (f"content-encoding: {MARK}", [own], ignored),
        (f"connection: {MARK}", [own], ignored),
        (f"expect: {MARK}", [own], ignored),
        ("content-length: 5", [own], ignored),
        ("transfer-encoding: chunked", [own], ignored),
        (f"{MARK}: a\r\nx-router-target: cloud", [own], ignored),
        ("x-big: " + MARK * 2_500, [own], ignored),
        ("\r\n".join(f"x-{number}: {MARK}" for number in range(900)), [own], ignored),
    ]
    for path in paths:
        for trailers, lines, check in hostile:
            if path == "/v1/files" and trailers.startswith("x-router-"):
                continue
            for split in ("together", "apart", "last chunk", "within"):
                sent = packets(trailers.encode() + b"\r\n", *lines, path=path, split=split)
                yield Attack(FAMILY, f"{path} {trailers[:40]!r} {split}", sent, check)


async def test_trailers(runner_with_keys: AttackRunner) -> None:
    await runner_with_keys.hold(attacks())
