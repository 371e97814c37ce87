"""How long the event loop is blocked by large and odd requests and answers, by their kind.

    make bench-loop             # or: python tests/bench/bench_loop.py --only "chat" --stacks

Requests of one kind come one after the other, while another client sends small ones. The table
shows how late the loop's timer ran, and the CPU time of the loop between two runs of the timer. The
CPU time leaves out what other threads and processes took. Writes data/results/bench_loop.json.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from bench import describe_machine, quantile
from fakes import (
    DONE,
    Answer,
    Call,
    FakeUpstream,
    answer_by_path,
    answer_json,
    chunk,
    chunked,
    compress,
    event,
    whole,
)
from live import Fields, config_fields, merge
from served import Connection, request

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "bench_loop.json"
SERVER: Final = Path(__file__).with_name("loop_server.py")
MODEL: Final = Path(__file__).parents[2] / "data" / "models" / "router"
LARGE: Final = 31_000_000
MEDIUM: Final = 510_000
KEYS: Final = 400  # API keys with a name, each with its own series
SMALL_PAUSE_SECONDS: Final = 0.02
PIECE_BYTES: Final = 2**18  # of a request, sent at once

Make = Callable[[int], bytes]


class Kind(NamedTuple):
    """Requests of one kind.

    Attributes:
        data: the bytes of a request, by its number.
        answer: of the upstream; by default a short one.
        times: how many requests.
    """

    name: str
    data: Make
    answer: Answer | None = None
    times: int = 5


# ── The requests ──────────────────────────────────────────────────────────────────────────────


def words(size: int, number: int) -> str:
    """A text that is new for each number."""
    sentence = f"Compare the quarterly report {number} of the harbour with the plan of spring. "
    return (sentence * (size // len(sentence) + 1))[:size]


def chat(
    content: str | bytes, *, model: str = "cloud", path: str = "/v1/chat/completions"
) -> bytes:
    """A chat request; bytes are the content's JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    body = b'{"model":"%b","messages":[{"role":"user","content":%b}]}' % (model.encode(), raw)
    return request(body, path=path)


def field(name: str, raw: bytes, *, path: str = "/v1/chat/completions") -> bytes:
    """A chat request with a field more."""
    message = b'"messages":[{"role":"user","content":"Hello"}]'
    return request(b'{"model":"cloud",%b,"%b":%b}' % (message, name.encode(), raw), path=path)


def image(size: int) -> bytes:
    """The JSON of a content with a base64 image."""
    data = base64.b64encode(os.urandom(size * 3 // 4))
    return (
        b'[{"type":"text","text":"What is this?"},{"type":"image_url","image_url":'
        b'{"url":"data:image/png;base64,%b"}}]' % data
    )


def nested(size: int, unit: bytes) -> bytes:
    """A JSON array of a repeated value."""
    return b"[" + (unit + b",") * (size // (len(unit) + 1)) + unit + b"]"


def messages(size: int, each: int) -> bytes:
    """A conversation of many messages."""
    text = json.dumps(words(each, 1)).encode()
    pair = b'{"role":"user","content":%b},{"role":"assistant","content":%b}' % (text, text)
    turns = (pair + b",") * (size // len(pair)) + b'{"role":"user","content":"And now?"}'
    return request(b'{"model":"cloud","messages":[%b]}' % turns)


def multipart(size: int) -> bytes:
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return _post("/v1/files", b"multipart/form-data; boundary=x", head + b"x" * size + b"\r\n--x--")


def _post(path: str, kind: bytes, body: bytes) -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (path.encode(), kind, len(body)) + body


def in_chunks(body: bytes, size: int) -> bytes:
    """A chat request whose body comes in small chunks."""
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


def large_events() -> Answer:
    """A stream with an event of almost a megabyte."""
    chunks = (chunk({"content": "x" * 1_000_000}), chunk({}, "stop"))
    return chunked(*map(event, chunks), DONE)


def compressed_answer(size: int) -> Answer:
    data = compress(answer_json(words(size, 1)), "gzip")
    return whole(data, headers=[("content-encoding", "gzip")])


def kinds() -> list[Kind]:
    """All kinds, in the order of the table."""
    text, accents = words(LARGE, 1), "Größe é " * (LARGE // 11)
    return [
        Kind("chat, 100 B, routed", lambda n: chat(words(100, n), model="auto"), times=100),
        Kind("chat, 30 kB, routed", lambda n: chat(words(30_000, n), model="auto"), times=20),
        Kind("chat, 500 kB, routed", lambda n: chat(words(MEDIUM, n), model="auto")),
        Kind("chat, 500 kB of messages", lambda n: messages(MEDIUM, 400), times=10),
        Kind("chat, 500 kB of numbers", lambda n: field("x", nested(MEDIUM, b"1")), times=10),
        Kind("chat, 500 kB of arrays", lambda n: field("x", nested(MEDIUM, b"[1]")), times=10),
        Kind(
            "chat, 500 kB of escapes",
            lambda n: chat(b'"%b"' % (b"\\n" * (MEDIUM // 2))),
            times=10,
        ),
        Kind("chat, 500 kB image", lambda n: chat(image(MEDIUM)), times=10),
        Kind("chat, 31 MB text", lambda n: chat(text)),
        Kind("chat, 31 MB text, routed", lambda n: chat(text, model="auto")),
        Kind("chat, 31 MB text, local", lambda n: chat(text, model="local")),
        Kind("chat, 31 MB UTF-8", lambda n: chat(json.dumps(accents, ensure_ascii=False).encode())),
        Kind("chat, 31 MB image", lambda n: chat(image(LARGE))),
        Kind("chat, 31 MB of messages", lambda n: messages(LARGE, 8000)),
        Kind("chat, 31 MB nested JSON", lambda n: field("x", nested(LARGE, b'{"a":[1,2]}'))),
        Kind("chat, 400,000 numbers", lambda n: field("x", nested(780_000, b"1"))),
        Kind(
            "chat, 49,000 objects of 600 B",
            lambda n: field("x", nested(LARGE, b'{"a":"%b"}' % (b"x" * 625))),
        ),
        Kind("chat, 31 MB of escapes", lambda n: chat(b'"%b"' % (b"\\n" * (LARGE // 2)))),
        Kind(
            "chat, 31 MB, 2,000,000 escapes",
            lambda n: chat(b'"%b"' % (b"xxxxxxxxxxxxx\\n" * (LARGE // 16))),
        ),
        Kind("chat, 31 MB in 1 kB chunks", lambda n: in_chunks(body_of(chat(text)), 1000), times=2),
        Kind("chat, 1 MB in 64 B chunks", lambda n: in_chunks(body_of(chat(text[:10**6])), 64)),
        Kind(
            "responses, 31 MB text",
            lambda n: request(
                b'{"model":"cloud","input":%b}' % json.dumps(text).encode(), path="/v1/responses"
            ),
        ),
        Kind(
            "messages, 31 MB text",
            lambda n: request(
                b'{"max_tokens":9,' + body_of(chat(text))[1:], path="/v1/messages"
            ),
        ),
        Kind("Ollama's API, 31 MB text", lambda n: chat(text, path="/api/chat")),
        Kind(
            "embeddings, 31 MB text",
            lambda n: request(
                b'{"model":"cloud","input":%b}' % json.dumps(text).encode(), path="/v1/embeddings"
            ),
        ),
        Kind(
            "pass-through, 1 MB JSON",
            lambda n: request(body_of(chat(text[:10**6])), path="/v1/images/generations"),
        ),
        Kind(
            "pass-through, 31 MB JSON",
            lambda n: request(body_of(chat(text)), path="/v1/images/generations"),
        ),
        Kind("upload, 31 MB multipart", lambda n: multipart(LARGE)),
        Kind("answer, 10 MB JSON", lambda n: chat("Hello"), whole(answer_json(words(10**7, 1)))),
        Kind(
            "answer, 10 MB JSON, local",
            lambda n: chat("Hello", model="local"),
            whole(answer_json(words(10**7, 1))),
        ),
        Kind(
            "answer, 10 MB JSON, Ollama's API",
            lambda n: chat("Hello", path="/api/chat"),
            whole(answer_json(words(10**7, 1))),
        ),
        Kind("answer, 10 MB JSON, gzip", lambda n: chat("Hello"), compressed_answer(10**7)),
        Kind("answer, 500 kB JSON", lambda n: chat("Hello"), whole(answer_json(words(MEDIUM, 1)))),
        Kind(
            "answer, event of 1 MB",
            lambda n: request(
                b'{"model":"cloud","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
            ),
            large_events(),
        ),
        Kind("/metrics, 400 keys", lambda n: request(path="/metrics"), times=10),
        *(
            Kind(path, lambda n, path=path: request(path=path), times=10)
            for path in (
                "/api/stats?since=24h", "/api/pareto?since=all", "/api/requests", "/api/keys",
                "/openapi.json",
            )
        ),
    ]  # fmt: skip


# ── The measurement ───────────────────────────────────────────────────────────────────────────


class Subject:
    """A running proxy that measures its loop."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    async def read(self) -> dict[str, Any]:
        """The loop's figures since the last call."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"read\n")
        while line := await self._read_line():
            if line.startswith(b"figures "):
                figures: dict[str, Any] = json.loads(line[8:])
                return figures
        raise RuntimeError("the proxy has ended")

    async def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


@asynccontextmanager
async def subject(
    folder: Path, upstream_url: str, *, stacks: bool = False, changes: Fields | None = None
) -> AsyncIterator[Subject]:
    """A proxy of its own process, with many keys."""
    keys = [{"key": f"sk-bench-{n}", "name": f"team {n}", "admin": n == 0} for n in range(KEYS)]
    fields = merge(
        config_fields(folder, upstream_url, upstream_url),
        {"server": {"port": 0, "api_keys": keys}, "routing": {"model_path": str(MODEL)}},
    )
    file = folder / "config.yaml"
    file.write_text(json.dumps(merge(fields, changes or {})))
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), str(file), *(["--stacks"] if stacks else []),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**26,
        stderr=(folder / "proxy.log").open("ab"),
        env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = 0
        while not port:
            line = await process.stdout.readline()
            if not line:
                raise RuntimeError((folder / "proxy.log").read_text()[-3000:])
            if b"base_url" in line:
                port = int(line.rpartition(b"127.0.0.1:")[2].partition(b"/")[0])
        yield Subject(process, port)
    finally:
        process.kill()
        await process.wait()


def signed(data: bytes, number: int) -> bytes:
    """A request with the API key of this number."""
    head, _, rest = data.partition(b"\r\n")
    return b"%b\r\nauthorization: Bearer sk-bench-%d\r\n%b" % (head, number % KEYS, rest)


async def send(port: int, data: bytes) -> int:
    """Send a request over a new connection. Returns the status."""
    connection = await Connection.open(port)
    try:
        for start in range(0, len(data), PIECE_BYTES):
            await connection.send(data[start : start + PIECE_BYTES])
        return (await connection.read_answer()).head.status
    finally:
        connection.leave()


async def send_small(port: int) -> None:
    """Send small requests until cancelled."""
    number = 0
    connection = await Connection.open(port)
    while True:
        number += 1
        data = signed(chat(words(80, number % 50), model="auto"), number)
        await connection.send(data)
        await connection.read_answer()
        await asyncio.sleep(SMALL_PAUSE_SECONDS)


async def measure(proxy: Subject, upstream: FakeUpstream, kind: Kind) -> dict[str, Any]:
    """Send the requests of a kind; the loop's figures meanwhile."""

    def answer(call: Call) -> Answer:
        is_small = b"Compare" in call.body
        return answer_by_path(call) if is_small or kind.answer is None else kind.answer

    upstream.answer = answer
    others = asyncio.create_task(send_small(proxy.port))
    statuses = set()
    try:
        requests = [signed(kind.data(n), 0) for n in range(kind.times)]
        statuses.add(await send(proxy.port, requests[0]))  # loads what is loaded once
        await proxy.read()
        for data in requests:
            statuses.add(await send(proxy.port, data))
            upstream.calls.clear()
        figures = await proxy.read()
    finally:
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
    late, cpu = figures["late_ms"], figures["cpu_ms"]
    return {
        "kind": kind.name,
        "status": sorted(statuses),
        "late_ms_p99": round(quantile(late, 0.99), 2),
        "late_ms_max": round(max(late), 2),
        "cpu_ms_p99": round(quantile(cpu, 0.99), 2),
        "cpu_ms_max": round(max(cpu), 2),
        "over_5_ms": sum(1 for value in late if value > 5),
        "steps": len(late),
        "stacks": figures.get("stacks", []),
    }


async def warm_up(port: int) -> None:
    """Use each key once, so that each has its series."""
    for number in range(KEYS):
        for model in ("cloud", "local"):
            await send(port, signed(chat("Hello", model=model), number))


async def run(only: str, *, stacks: bool) -> list[dict[str, Any]]:
    rows = []
    chosen = [kind for kind in kinds() if only in kind.name]
    with tempfile.TemporaryDirectory() as folder:
        async with (
            FakeUpstream() as upstream,
            subject(Path(folder), upstream.base_url, stacks=stacks) as proxy,
        ):
            upstream.answer = whole(answer_json())
            await warm_up(proxy.port)
            for kind in chosen:
                row = await measure(proxy, upstream, kind)
                rows.append(row)
                Console(stderr=True).print(f"{kind.name}: {row['late_ms_max']} ms", highlight=False)
                for stack, weight in row.pop("stacks"):
                    print(f"    {weight:6} {stack}", file=sys.stderr)
    return rows


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="How long the event loop was blocked, in ms", title_justify="left")
    for name in ("kind", "status", "late p99", "late max", "cpu p99", "cpu max", "over 5 ms"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for row in rows:
        table.add_row(
            row["kind"],
            " ".join(map(str, row["status"])),
            *(
                f"{row[key]:.1f}"
                for key in ("late_ms_p99", "late_ms_max", "cpu_ms_p99", "cpu_ms_max")
            ),
            f"{row['over_5_ms']} of {row['steps']}",
        )
    return table


@click.command()
@click.option("--only", default="", help="Kinds whose name has this text.")
@click.option("--stacks", is_flag=True, help="Show what ran while the loop was blocked.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The results' file.")
def main(only: str, stacks: bool, out: Path | None) -> None:
    """Measure how long the event loop is blocked."""
    machine = describe_machine()
    rows = asyncio.run(run(only, stacks=stacks))
    Console(width=120).print(table_of(rows))
    if out is None and not only and not stacks:
        out = RESULTS
    if out is not None:
        out.write_text(json.dumps({"machine": machine, "kinds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
