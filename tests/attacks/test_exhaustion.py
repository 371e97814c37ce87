"""Exhaustion: slow and endless requests, many connections, a full queue, names in the rollups."""

import asyncio
import socket
import sqlite3
import time
from collections.abc import Iterator

from attack import (
    KEYS,
    LATE_SECONDS,
    PLAIN,
    Attack,
    AttackRunner,
    Bystander,
    Check,
    Seen,
    StartRunner,
    peak_memory,
    read_replies,
    request,
)
from fakes import FakeUpstream, Gate, answer_json, error_json, whole
from live import chat_body
from proxy.web.openai_api import BodyLimits

FAMILY = "exhaustion"
LIMIT_SECONDS = 0.5
PATIENT_SECONDS = 4.0  # generous: a busy machine may close later
AUTHORIZED = f"Authorization: Bearer {PLAIN}"


async def drip(port: int, start: bytes, piece: bytes, seen: Seen) -> None:
    """Send a start and then a piece again and again, until the proxy closes or answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    reading = asyncio.create_task(reader.read())
    try:
        writer.write(start)
        while not reading.done() and time.monotonic() - started < PATIENT_SECONDS:
            await asyncio.sleep(0.1)
            writer.write(piece)
    except ConnectionError:
        pass
    finally:
        seen.closed = reading.done()
        reading.cancel()
        if seen.closed and not reading.cancelled() and reading.exception() is None:
            seen.raw = reading.result()
        writer.transport.abort()
        await asyncio.gather(reading, return_exceptions=True)
    seen.replies = read_replies(seen.raw)


def ended(seen: Seen) -> str | None:
    if seen.calls:
        return "reached an upstream"
    if not seen.closed:
        return f"held after {PATIENT_SECONDS:g} s"
    if seen.reply is not None and not 400 <= seen.reply.status < 500:
        return f"answered {seen.reply.status}"
    return None


def slow() -> Iterator[Attack]:
    for start in (
        *(b"", b"G", b"GET", b"GET ", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\n", b"POST /v1/x"),
        *(b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"GET / HTTP/1.1\r\nX: ", b"\r\n", b"\n"),
    ):
        for piece in (b"", b"a", b"\r\nx: y"):
            is_whole = start.endswith(b"localhost\r\n")  # then an empty line ends the head
            if piece == b"\r\nx: y" and (not start or is_whole):
                continue
            sent = (start, piece)
            yield Attack(FAMILY, f"slow head {start!r} {piece!r}", sent, ended)
    for path in (
        *("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/feedback", "/login"),
        *("/api/decisions", "/v1/responses/compact"),
    ):
        for framing in ("Content-Length: 60000", "Transfer-Encoding: chunked"):
            head = request(b"", AUTHORIZED, framing, path=path, length=False, close=False)
            piece = b" " if framing.startswith("C") else b"1\r\n \r\n"
            for sent in ((head, b""), (head, piece)):
                name = f"slow body {path} {framing} {sent[1]!r}"
                yield Attack(FAMILY, name, sent, ended)


async def test_slow_requests(start_runner: StartRunner) -> None:
    limits = BodyLimits(seconds=LIMIT_SECONDS, small_body_seconds=LIMIT_SECONDS)
    runner = await start_runner(KEYS, head_seconds=LIMIT_SECONDS, body_limits=limits)
    port = runner.proxy.port

    async def send(attack: Attack, seen: Seen) -> None:
        await drip(port, *attack.sent, seen)

    await runner.hold_together(list(slow()), send)


# ── Amounts ───────────────────────────────────────────────────────────────────────────────────


def bounded(growth_mb: float) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.calls:
            return "reached an upstream"
        if seen.facts["late"] > LATE_SECONDS:
            return f"another client waited for {seen.facts['late']:.2f} s"
        if seen.facts["growth"] > growth_mb:
            return f"memory grew by {seen.facts['growth']:.0f} MB"
        taken = seen.facts.get("taken", 0)
        return None if taken < 64 else f"{taken:.0f} MB of one body were taken"

    return check


def amounts() -> Iterator[Attack]:
    """(connections, head, piece, megabytes of pieces for each)."""
    health = request(b"", method="GET", path="/health", length=False, close=False)
    chat = request(chat_body(), close=False)
    for name, head in (("/health", health), ("chat without a key", chat)):
        for number in (33, 100, 1_000, 7_000, 30_000):
            sent = (1, b"", head * number, 0)
            yield Attack(FAMILY, f"{number} pipelined {name}", sent, bounded(60))
    sent = (20, b"", health * 2_000, 0)
    yield Attack(FAMILY, "twenty times 2,000 pipelined", sent, bounded(80))
    for path in (
        "/login",
        "/v1/chat/completions",
        "/v1/files",
        "/nowhere",
        "/health",
        "/api/stats",
    ):
        for framing in ("Content-Length: 999999999", "Transfer-Encoding: chunked"):
            head = request(b"", framing, path=path, length=False, close=False)
            size = 65_536
            piece = b" " * size
            if framing.startswith("T"):
                piece = b"%x\r\n%b\r\n" % (size, piece)
            sent = (1, head, piece, 100)
            yield Attack(FAMILY, f"an endless body to {path}, {framing}", sent, bounded(60))
    for number in (10, 40):
        head = request(b"", "Content-Length: 9900000", path="/login", length=False, close=False)
        sent = (number, head, b"k" * 65_536, 9.5)
        yield Attack(FAMILY, f"{number} large logins", sent, bounded(60))
    for number in (100, 250):
        for start in (b"", b"GET / HT", health[:-2]):
            sent = (number, start, b"", 0)
            yield Attack(FAMILY, f"{number} idle connections, {start[:8]!r}", sent, bounded(60))


async def flood(port: int, start: bytes, piece: bytes, megabytes: float) -> float:
    """Send without reading. Returns the megabytes that the proxy took."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return 0.0
    taken = 0
    try:
        async with asyncio.timeout(3):
            writer.write(start)
            if not megabytes:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.3)
            while taken < megabytes * 1e6:
                writer.write(piece)
                await writer.drain()
                taken += len(piece)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
        del reader
    return taken / 1e6


async def test_amounts(start_runner: StartRunner) -> None:
    runner = await start_runner(KEYS)
    port = runner.proxy.port

    async def send(attack: Attack, seen: Seen) -> None:
        number, start, piece, megabytes = attack.sent
        for _ in range(2):  # a busy machine is rarely late twice
            with peak_memory() as peak, Bystander(port) as bystander:
                taken = await asyncio.gather(
                    *(flood(port, start, piece, megabytes) for _ in range(number))
                )
            if bystander.worst <= LATE_SECONDS:
                break
        seen.facts = {"growth": peak.growth, "late": bystander.worst, "taken": max(taken)}

    await runner.hold(amounts(), send)


# ── Shared state ──────────────────────────────────────────────────────────────────────────────


def other_is_served(seen: Seen) -> str | None:
    wrong = [status for status in seen.facts["statuses"] if status != 200]
    return f"another key got {wrong}" if wrong else None


async def test_a_full_queue(start_runner: StartRunner, local: FakeUpstream) -> None:
    """One key fills the queue of the local tier; another key's requests are still answered."""
    changes = {"upstreams": {"local": {"max_concurrency": 4}}, "routing": {"fallback": False}}
    runner: AttackRunner = await start_runner({**KEYS, **changes})
    port = runner.proxy.port
    gate = Gate()
    local.answer = lambda call: [gate, *whole(answer_json())]

    async def send(attack: Attack, seen: Seen) -> None:
        number, stream = attack.sent
        body = chat_body(model="local", stream=stream)
        greedy = request(body, AUTHORIZED)
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(number)]
        try:
            for connection in connections:
                connection.sendall(greedy)
            await asyncio.sleep(0.5)
            other = {"authorization": "Bearer sk-other-0123456789"}
            asking = [
                asyncio.create_task(runner.proxy.chat(model="local", headers=other))
                for _ in range(3)
            ]
            await asyncio.sleep(0.2)
            gate.open()
            answers = await asyncio.gather(*asking)
            seen.facts["statuses"] = [answer.status_code for answer in answers]
        finally:
            for connection in connections:
                connection.close()

    attack = Attack(FAMILY, "a full queue", (270, False), other_is_served)
    await runner.hold([attack], send)


def few_rows(seen: Seen) -> str | None:
    hours, size = seen.facts["hours"], seen.facts["size"]
    if hours > 20:
        return f"{hours} rows in the rollups"
    return f"/api/stats has {size} bytes" if size > 100_000 else None


async def test_names_without_number(start_runner: StartRunner, cloud: FakeUpstream) -> None:
    """Names that a client invents do not become rollup rows, which are never deleted."""
    runner = await start_runner()
    proxy = runner.proxy
    cloud.answer = whole(
        error_json("The model does not exist.", code="model_not_found"), status=404
    )

    async def send(attack: Attack, seen: Seen) -> None:
        for number in range(60):
            body = attack.sent % number
            await proxy.client.post("/v1/chat/completions", content=body)
        await asyncio.sleep(0.5)  # rows are written together
        connection = sqlite3.connect(proxy._database)
        (hours,) = connection.execute("select count(*) from hours").fetchone()
        connection.close()
        seen.facts = {"hours": hours, "size": len((await proxy.client.get("/api/stats")).content)}

    start, end = b'{"model":"', b'","messages":[{"role":"user","content":"Hi"}]}'
    names = (b"invented-%d", b"x" * 190 + b"-%d", b"auto:%d", b"ft:gpt-4o:%d", b"openai/gpt-%d")
    attacks = [
        Attack(FAMILY, f"names {name[:12]!r}", start + name + end, few_rows) for name in names
    ]
    await runner.hold(attacks, send)
