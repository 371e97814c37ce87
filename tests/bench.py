"""What the proxy costs: the decision, the relay, the streams. One command, one table.

    make bench            # or: python tests/bench.py --seconds 3 --out data/results/bench.json

The server under test has one core to itself; the load and a mock upstream share the other. Compare
ratios within a run: two runs, or two machines, differ by 20 % and more. Needs Linux (/proc) and two
cores. The rows:

  bare stack    Litestar and the tiers' transport, and nothing else
  forced        the proxy with routing, rows, metrics and usage on, but the tier named by the client
  routed        the same with the router model deciding, every prompt a new one
"""

import argparse
import asyncio
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import uvicorn
import uvloop

HERE = Path(__file__).resolve()
SERVER_CORE, LOAD_CORE = 0, 1
UPSTREAM_PORT, PROXY_PORT, BARE_PORT = 9310, 9311, 9312
STREAM_CHUNKS, CHUNK_SECONDS = 64, 0.010
WORDS = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or "
    "had an they which one you were all her she there would their we him been has when who will no "
    "more if out so up said what its about than into them can only other time new some could these "
    "two may first then do any like my now over such our man me even most made after also did many "
    "function matrix prove integral theorem list python sort write email capital explain summarise"
).split()


# --- the mock upstream and the bare stack, run as processes of their own ---

ANSWER = msgspec.json.encode(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "All happy families are alike. " * 5},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 42, "completion_tokens": 30, "total_tokens": 72},
    }
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(ANSWER),
    ANSWER,
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class MockUpstream(asyncio.Protocol):
    """Answers at once; streams an empty beginning, as OpenAI does, and then every CHUNK_SECONDS
    one of `STREAM_CHUNKS` chunks that each carry the time they were sent."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not blank or len(body) < (int(length[1]) if length else 0):
            return
        self.buffer = b""
        if b'"stream":true' in body:
            self.transport.write(STREAM_HEAD)
            self.write_chunk(
                b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
            )
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self.send_chunk, 0)
        else:
            self.transport.write(WHOLE)

    def send_chunk(self, number: int) -> None:
        if number == STREAM_CHUNKS:
            self.write_chunk(
                b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
            )
            self.write_chunk(b"data: [DONE]\n\n")
            self.transport.write(b"0\r\n\r\n")
            return
        sent = b'{"choices":[{"index":0,"delta":{"content":"%d "}}]}' % time.monotonic_ns()
        self.write_chunk(b"data: " + sent + b"\n\n")
        asyncio.get_running_loop().call_later(CHUNK_SECONDS, self.send_chunk, number + 1)

    def write_chunk(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))


async def run_upstream() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(MockUpstream, "127.0.0.1", UPSTREAM_PORT, backlog=1024)
    await server.serve_forever()


def run_bare_stack() -> None:
    from litestar import Litestar, asgi
    from litestar.types import Receive, Scope, Send

    from proxy.config import UpstreamConfig
    from proxy.upstream import open_transport

    base_url = f"http://127.0.0.1:{UPSTREAM_PORT}/v1"
    transport = open_transport(UpstreamConfig(base_url=base_url, model="mock"))
    url = httpx2.URL(f"{base_url}/chat/completions")
    json_type = [(b"content-type", b"application/json")]

    @asgi("/v1/chat/completions", copy_scope=False)
    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        message: Any = await receive()
        request = httpx2.Request("POST", url, headers=json_type, content=message["body"])
        response = await transport.handle_async_request(request)
        headers = response.headers.raw
        if "transfer-encoding" in response.headers:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await response.aclose()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        body = await response.aread()
        await response.aclose()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    uvicorn.run(
        Litestar([chat], openapi_config=None),
        port=BARE_PORT,
        loop="uvloop",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        log_level="error",
    )


# --- the load ---


class Client(asyncio.Protocol):
    """One keep-alive connection in a closed loop: a request, its answer, the next request."""

    def __init__(self, load: "Load") -> None:
        self.load = load

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        if time.monotonic() >= self.load.end:
            self.transport.close()
            return
        self.buffer = b""
        self.begun = self.spoken = False
        self.asked = time.monotonic_ns()
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.buffer += data
        if self.load.stream:
            if not self.begun and b"data: " in data:
                self.begun = True
                self.load.latencies.append(now - self.asked)
            for sent in re.findall(rb'"content":"(\d+) "', data):
                (self.load.transits if self.spoken else self.load.first_transits).append(
                    now - int(sent)
                )
                self.spoken = True
            whole = self.buffer.endswith(b"0\r\n\r\n")
        else:
            head, blank, body = self.buffer.partition(b"\r\n\r\n")
            length = LENGTH.search(head)
            whole = bool(blank and length and len(body) >= int(length[1]))
        if not whole:
            return
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"an answer was not 200: {self.buffer[:300]!r}")
        if not self.load.stream:
            self.load.latencies.append(now - self.asked)
        self.load.answers += 1
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.load.open -= 1
        if self.load.open == 0:
            self.load.over.set()


class Load:
    """A number of clients against one port for some seconds."""

    def __init__(self, port: int, bodies: Iterator[bytes], *, stream: bool) -> None:
        self.port, self.bodies, self.stream = port, bodies, stream
        self.latencies: list[int] = []
        self.first_transits: list[int] = []
        self.transits: list[int] = []
        self.answers = 0

    def next_request(self) -> bytes:
        body = next(self.bodies)
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\nauthorization: Bearer bench\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )

    async def run(self, clients: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.open = clients
        self.end = time.monotonic() + seconds
        for _ in range(clients):
            if self.stream:  # spread over a stream's length, or all would begin at one moment
                await asyncio.sleep(STREAM_CHUNKS * CHUNK_SECONDS / clients)
            await loop.create_connection(lambda: Client(self), "127.0.0.1", self.port)
        await self.over.wait()


def make_bodies(*, model: str, stream: bool, unique: bool) -> Iterator[bytes]:
    """Chat requests. Unique ones have a realistic mix of lengths: median 40 tokens, tail 2,000."""
    rng = random.Random(20260101)
    number = 0
    while True:
        words = 80
        if unique:
            words = min(1600, max(3, round(rng.lognormvariate(3.5, 1.1))))
        prompt = " ".join(rng.choices(WORDS, k=words)) + (f" {number}?" if unique else "?")
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.7,
            "stream": stream,
        }
        encoded = msgspec.json.encode(body)
        number += 1
        yield encoded
        while not unique:
            yield encoded


# --- measuring ---


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, from the scheduler's own count."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(pid: int) -> float:
    match = re.search(r"Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
    return int(match[1]) / 1024 if match else float("nan")


def quantile(nanoseconds: list[int], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(nanoseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e6


@contextmanager
def process(
    core: int, arguments: list[str], *, port: int, path: str
) -> Iterator[tuple[int, float]]:
    """A server on a core of its own: its pid, and the seconds until it answered."""
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        os.sched_setaffinity(0, {core})  # the child inherits it
        child = subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log)
        os.sched_setaffinity(0, {LOAD_CORE})
        try:
            while True:
                try:
                    httpx2.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
                    break
                except httpx2.HTTPError:
                    if child.poll() is not None or time.monotonic() - started > 60:
                        log.seek(0)
                        raise SystemExit(
                            f"{arguments} did not start:\n{log.read().decode()}"
                        ) from None
                    time.sleep(0.01)
            yield child.pid, time.monotonic() - started
        finally:
            child.terminate()
            child.wait()


class Subject(NamedTuple):
    """What is measured: a server, and the kind of load it gets."""

    port: int
    pid: int | None = None
    model: str = "cloud"
    stream: bool = False
    unique: bool = False


def measure(subject: Subject, *, clients: int, seconds: float) -> dict[str, float]:
    """One measurement."""
    bodies = make_bodies(model=subject.model, stream=subject.stream, unique=subject.unique)
    load = Load(subject.port, bodies, stream=subject.stream)
    before = cpu_seconds(subject.pid) if subject.pid else 0.0
    started = time.monotonic()
    uvloop.run(load.run(clients, seconds))
    elapsed = time.monotonic() - started
    row = {
        "per_second": load.answers / elapsed,
        "p50_ms": quantile(load.latencies, 0.5),
        "p99_ms": quantile(load.latencies, 0.99),
    }
    if subject.pid:
        row["cpu_us"] = (cpu_seconds(subject.pid) - before) / load.answers * 1e6
    if subject.stream:
        row["first_token_transit_p50_ms"] = quantile(load.first_transits, 0.5)
        row["transit_p50_ms"] = quantile(load.transits, 0.5)
        row["transit_p99_ms"] = quantile(load.transits, 0.99)
    return row


def compare(
    subjects: dict[str, Subject], *, seconds: float, repeats: int, say: Callable[[str], None]
) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by subject and number of clients.

    The subjects take turns, so that a machine that slows down slows all of them.
    """
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in subjects}
    for clients in (1, 64):
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
        for number in range(repeats):
            for name, subject in subjects.items():
                say(f"{name}, {clients} clients, {number + 1} of {repeats}")
                rows[name].append(measure(subject, clients=clients, seconds=seconds))
        for name, each in rows.items():
            found[name][str(clients)] = {
                key: statistics.median(row[key] for row in each) for key in each[0]
            }
    return found


def measure_decision(folder: Path, *, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one decision, tokenising included, by the number of tokens."""
    from router_model.model import RouterModel

    os.sched_setaffinity(0, {SERVER_CORE})
    model = RouterModel.load(folder)
    rng = random.Random(20260101)
    found = {}
    for tokens in (16, 32, 64, 128, 256):
        times = []
        for _ in range(repeats):
            # Words of one token each, less the two special tokens around them.
            text = " ".join(rng.choices(WORDS[:100], k=tokens - 2))
            started = time.perf_counter_ns()
            model.score(text)
            times.append(time.perf_counter_ns() - started)
        found[str(tokens)] = {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99)}
    return found


CONFIG = """
upstreams:
  local: {{base_url: "http://127.0.0.1:{port}/v1", model: mock, max_concurrency: null}}
  cloud:
    base_url: "http://127.0.0.1:{port}/v1"
    model: mock-cloud
    price: {{input: 0.15, cached_input: 0.075, output: 0.60}}
routing: {{model_path: "{model}"}}
storage: {{url: "sqlite:///{folder}/bench.db"}}
"""


def run_all(
    model: Path, *, seconds: float, repeats: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """All measurements, as they go into the JSON file."""
    say("decision")
    command = [sys.executable, str(HERE), "--decision", str(model)]
    decision = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    results: dict[str, Any] = {"decision": decision}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = Path(folder) / "bench.yaml"
        config.write_text(CONFIG.format(port=UPSTREAM_PORT, model=model.resolve(), folder=folder))

        def start(core: int, *arguments: str, port: int, path: str = "/") -> tuple[int, float]:
            return stack.enter_context(process(core, list(arguments), port=port, path=path))

        start(LOAD_CORE, str(HERE), "--upstream", port=UPSTREAM_PORT)
        bare, _ = start(SERVER_CORE, str(HERE), "--bare", port=BARE_PORT)
        serve = ("-m", "proxy.cli", "serve", "--config", str(config), "--port", str(PROXY_PORT))
        ours, results["start_seconds"] = start(SERVER_CORE, *serve, port=PROXY_PORT, path="/health")
        results["requests"] = compare(
            {
                "direct": Subject(UPSTREAM_PORT),
                "bare stack": Subject(BARE_PORT, bare),
                "forced": Subject(PROXY_PORT, ours),
                "routed": Subject(PROXY_PORT, ours, model="auto", unique=True),
            },
            seconds=seconds,
            repeats=repeats,
            say=say,
        )
        results["streams"] = compare(
            {
                "direct": Subject(UPSTREAM_PORT, stream=True),
                "bare stack": Subject(BARE_PORT, bare, stream=True),
                "forced": Subject(PROXY_PORT, ours, stream=True),
            },
            seconds=seconds,
            repeats=repeats,
            say=say,
        )
        results["memory_mb"] = memory_mb(ours)
    return results


def describe_machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ("litestar", "uvicorn", "aiohttp", "httpx2", "onnxruntime", "tokenizers")
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The tables of the README."""
    lines = ["| tokens | decision p50 | p99 |", "|---:|---:|---:|"]
    for tokens, row in results["decision"].items():
        lines.append(f"| {tokens} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms |")
    lines += [
        "",
        "| | clients | requests/s | CPU µs/request | p50 | p99 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, by_clients in results["requests"].items():
        for clients, row in by_clients.items():
            cpu = f"{row['cpu_us']:.0f}" if "cpu_us" in row else ""
            lines.append(
                f"| {name} | {clients} | {row['per_second']:,.0f} | {cpu} "
                f"| {row['p50_ms']:.2f} ms | {row['p99_ms']:.2f} ms |"
            )
    lines += [
        "",
        "| a chunk every 10 ms | streams | first event p50 | first token's transit p50 "
        "| others' p50 | p99 |",
    ]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for name, by_clients in results["streams"].items():
        for clients, row in by_clients.items():
            lines.append(
                f"| {name} | {clients} | {row['p50_ms']:.2f} ms "
                f"| {row['first_token_transit_p50_ms']:.2f} ms "
                f"| {row['transit_p50_ms']:.2f} ms | {row['transit_p99_ms']:.2f} ms |"
            )
    bare, ours = (results["requests"][name]["64"]["cpu_us"] for name in ("bare stack", "forced"))
    lines += [
        "",
        f"Overhead over the bare stack: {ours / bare:.2f}×. "
        f"Ready in {results['start_seconds']:.1f} s; {results['memory_mb']:.0f} MB after the load.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is reported")
    parser.add_argument("--model", type=Path, default=Path("data/models/router"))
    parser.add_argument("--out", type=Path, help="keep the results as JSON here")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--decision", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.upstream:
        uvloop.run(run_upstream())
    elif arguments.bare:
        run_bare_stack()
    elif arguments.decision:
        print(json.dumps(measure_decision(arguments.decision, repeats=300)))
    else:
        results = {"machine": describe_machine()} | run_all(
            arguments.model,
            seconds=arguments.seconds,
            repeats=arguments.repeats,
            say=lambda step: print(f"… {step}", file=sys.stderr, flush=True),
        )
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print(as_markdown(results))


if __name__ == "__main__":
    main()
