"""One client's requests and the connections and tiers that all clients share.

An upstream that answers early leaves an unfinished upload on its connection. A request that makes
an upstream fail counts against the tier. Neither may cost another client its answer.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from attack import (
    KEYS,
    OTHER,
    PLAIN,
    Attack,
    AttackRunner,
    Seen,
    StartRunner,
    exchange,
    read_replies,
    request,
)
from fakes import Answer, Call, End, FakeUpstream, answer_json, chunked, event, head, whole
from fakes import chunk as delta
from live import chat_body

UPLOADS = "unfinished uploads"
PROVOKED = "provoked failures"
PATIENT_SECONDS = 4.0
MEGABYTE = 2**20


# ── Unfinished uploads ────────────────────────────────────────────────────────────────────────


class EarlyServer:
    """Answers the first request of each connection from its head, and reads no more of it.

    A later request of the connection is therefore never answered. A request whose body is small is
    read whole and answered with 200, and so are all requests of its connection.
    """

    def __init__(self) -> None:
        self.early: bytes = b""
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "EarlyServer":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**16)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._converse(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
            size = int(fields.get("content-length", "0"))
            if size > MEGABYTE or "transfer-encoding" in fields:
                writer.write(self.early)
                await asyncio.Event().wait()
            await reader.readexactly(size)
            body = whole(b'{"object":"list","data":[]}' if size == 0 else answer_json())[0]
            assert isinstance(body, bytes)
            writer.write(body)


class Upload(NamedTuple):
    early: bytes
    sent: bytes
    next_path: str


def early_answers() -> Iterator[tuple[str, bytes]]:
    error = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
    for status in (200, 413, 429):
        body = answer_json() if status == 200 else error
        (length,) = whole(body, status=status)
        assert isinstance(length, bytes)
        yield f"{status} with a length", length
        pieces = [head(status, headers=[("transfer-encoding", "chunked")])]
        pieces += [b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)]
        yield f"{status} in chunks", b"".join(pieces)


def uploads() -> Iterator[Attack]:
    text = "x" * 12 * MEGABYTE
    line = f"Authorization: Bearer {PLAIN}"
    chat = request(chat_body(model="cloud", text=text), line)
    responses = json.dumps({"model": "cloud", "input": text}).encode()
    embeddings = json.dumps({"model": "text-embedding-3-small", "input": text}).encode()
    file = b"x" * len(text)
    pieces = b"".join(b"100000\r\n%b\r\n" % file[:MEGABYTE] for _ in range(12)) + b"0\r\n\r\n"
    sent = {
        "chat": chat,
        "responses": request(responses, line, path="/v1/responses"),
        "embeddings": request(embeddings, line, path="/v1/embeddings"),
        "a file": request(file, line, path="/v1/files"),
        "a file in chunks": request(
            b"", line, "Transfer-Encoding: chunked", path="/v1/files", length=False
        )
        + pieces,
    }
    paths = itertools.cycle(("/v1/chat/completions", "/v1/files"))
    for (name, data), (answer, early) in itertools.product(sent.items(), early_answers()):
        upload = Upload(early, data, next(paths))
        shown = f"{name}, answered early with {answer}, then {upload.next_path}"
        yield Attack(UPLOADS, shown, upload, other_is_answered)


def other_is_answered(seen: Seen) -> str | None:
    seen.errors = [line for line in seen.errors if "Traceback" in line]
    status, seconds = seen.facts["other"]
    return None if status == 200 else f"another client got {status or 'nothing'} in {seconds:.1f} s"


async def ask(port: int, data: bytes) -> int:
    raw, _ = await exchange(port, [data], seconds=PATIENT_SECONDS)
    replies = read_replies(raw)
    return replies[0].status if replies else 0


async def test_unfinished_uploads(start_runner: StartRunner) -> None:
    async with EarlyServer() as server:
        changes = {**KEYS, "server": KEYS["server"] | {"shared_objects": "all"}}
        changes |= {"routing": {"fallback": False}, "logging": {"level": "error"}}
        runner = await start_runner(changes, cloud=server.base_url)
        port = runner.proxy.port
        line = f"Authorization: Bearer {OTHER}"

        async def send(attack: Attack, seen: Seen) -> None:
            upload: Upload = attack.sent
            server.early = upload.early
            seen.raw, seen.closed = await exchange(port, [upload.sent], seconds=PATIENT_SECONDS)
            seen.replies = read_replies(seen.raw)
            if upload.next_path == "/v1/files":
                other = request(b"", line, method="GET", path="/v1/files", length=False)
            else:
                other = request(chat_body(model="cloud"), line)
            started = time.monotonic()
            status = await ask(port, other)
            seen.facts["other"] = status, time.monotonic() - started

        await runner.hold(uploads(), send)


# ── Provoked failures ─────────────────────────────────────────────────────────────────────────

FAILURES: dict[str, Answer] = {
    "500": whole(b'{"error":{"message":"no"}}', status=500),
    "503": whole(b"busy", status=503, content_type="text/plain"),
    "a reset": [End.RESET],
    "an end": [End.FIN],
    "no HTTP": [b"\x00\x01\x02\r\n\r\n", End.FIN],
    "a page": whole(b"<html></html>", content_type="text/html"),
    "a broken answer": [head(200, headers=[("content-length", "900")]), b"{", End.RESET],
    "a broken stream": chunked(event(delta({"content": "a"})), End.RESET),
}


def failures() -> Iterator[Attack]:
    tiers = itertools.cycle(("local", "cloud"))
    for name, tier in zip(FAILURES, tiers, strict=False):
        yield Attack(PROVOKED, f"{name} of {tier}", (name, tier), others_are_answered)


def others_are_answered(seen: Seen) -> str | None:
    seen.errors = [line for line in seen.errors if "Traceback" in line]
    wrong = [status for status in seen.facts["statuses"] if status != 200]
    return f"another key got {wrong}" if wrong else None


async def test_provoked_failures(
    start_runner: StartRunner, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """Requests that only one key can make fail, longer than a circuit breaker waits."""

    def answer(call: Call) -> Answer:
        text = call.json["messages"][0]["content"]
        return FAILURES.get(text, whole(answer_json()))

    local.answer = cloud.answer = answer
    changes = {**KEYS, "routing": {"fallback": False}, "logging": {"level": "error"}}
    runner: AttackRunner = await start_runner(changes)
    proxy = runner.proxy

    async def chat(key: str, **fields: Any) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return int((await proxy.chat(headers=headers, **fields)).status_code)

    async def send(attack: Attack, seen: Seen) -> None:
        name, tier = attack.sent
        statuses = [await chat(OTHER, model=tier)]
        due = time.monotonic() + 2.3
        number = 0
        while time.monotonic() < due:
            number += 1
            try:
                await chat(PLAIN, model=tier, text=name, stream="stream" in name)
            except Exception:
                pass  # a broken stream is broken for its own client
            await asyncio.sleep(0.1)
        assert number > 5
        statuses += [await chat(OTHER, model=tier) for _ in range(3)]
        seen.facts["statuses"] = statuses

    await runner.hold(failures(), send)
