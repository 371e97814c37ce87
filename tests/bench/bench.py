"""What the proxy costs: the decision, a request, a stream. One command, some tables.

    make bench                                         # or: make bench PEERS=litellm OUT=file.json
    python tests/bench/bench.py --seconds 0.5 --repeats 1  # whether it works; not the figures
    python tests/bench/bench.py --readme   # the documents' tables, from kept results

The server under test has one core to itself; the load and a mock upstream share another. Compare
ratios within a run: two runs, or two machines, differ by 20 % and more. Needs Linux (/proc) and two
cores. The rows:

  direct            the load on the mock: what there is without a server between
  nginx             a reverse proxy and nothing else, where nginx is installed
  bare stack        Litestar and our transport, and nothing else
  forced            the proxy with keys, rows, metrics and usage, but the client names the tier
  routed, repeats   the same with the router deciding; 50 prompts take turns, so it knows them
  routed, unique    the same, every prompt a new one
  litellm, portkey  other gateways, by --peers (see tests/bench/peers.py)

Requests are a closed loop: so many clients, each of which asks again when it has its answer. With
many of them latency is mostly waiting; what a server costs is its CPU time. Streams are as many as
said, with a chunk every 10 ms whatever becomes of it; a chunk is on time that arrives before the
next one is sent. `load` is how busy the load's own core was: near 100 % at streams (never mind
requests) the load is what is measured.
"""

import argparse
import asyncio
import datetime
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
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import uvicorn
import uvloop

from load import KEY, SIMPLE_WORDS, Load, Probe, make_prompts, make_requests, run_upstream
from peers import PEERS, NotHere, Peer, Place, say

HERE: Final = Path(__file__).resolve()
ROOT: Final = HERE.parents[2]
RESULTS: Final = ROOT / "data" / "results" / "bench.json"
DOCUMENTS: Final = (ROOT / "README.md", ROOT / "data" / "results" / "README.md")
UPSTREAM_PORT, PROXY_PORT, BARE_PORT, EMPTY_PORT = 9310, 9311, 9312, 9316
PEER_PORTS: Final = {"nginx": 9313, "litellm": 9314, "portkey": 9315}
TOKENS: Final = (16, 32, 64, 128, 256)
MIX: Final = 150  # texts
PROBE_SECONDS: Final = 0.005
PROBED: Final = "/health"  # the cheapest that the proxy has to say

Row = dict[str, float]
Table = dict[str, dict[str, Row]]  # by subject and number of clients


class Cores(NamedTuple):
    """Who works where."""

    servers: frozenset[int]
    load: int

    @property
    def server(self) -> set[int]:
        return {min(self.servers)}


def share_cores() -> Cores:
    """Raises SystemExit when there is nothing to share."""
    *servers, load = sorted(os.sched_getaffinity(0))
    if not servers:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    return Cores(frozenset(servers), load)


# ── The bare stack, run as a process of its own ───────────────────────────────────────────────


def run_bare_stack() -> None:
    from litestar import Litestar, asgi
    from litestar.types import Receive, Scope, Send

    from proxy.config import UpstreamConfig
    from proxy.upstream.http1 import Address, Http1Transport
    from proxy.upstream.transport import open_transport

    base_url = f"http://127.0.0.1:{UPSTREAM_PORT}/v1"
    transport = open_transport(UpstreamConfig(base_url=base_url, model="mock"))
    assert isinstance(transport, Http1Transport)
    address = Address.of(httpx2.URL(f"{base_url}/chat/completions"))
    json_type = [(b"content-type", b"application/json")]

    @asgi("/v1/chat/completions", copy_scope=False)
    async def chat(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message: Any = await receive()
            body += message["body"]
            more = message["more_body"]
        answer = await transport.ask("POST", address, json_type, body)
        await send(
            {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        )
        if any(name.lower() == b"content-length" for name, _ in answer.headers):
            whole = b"".join([part async for part in answer])
            await send({"type": "http.response.body", "body": whole, "more_body": False})
            return
        async for part in answer:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    uvicorn.run(
        Litestar([chat], openapi_config=None),
        port=BARE_PORT,
        loop="uvloop",
        http="httptools",
        access_log=False,
        proxy_headers=False,
        log_level="error",
    )


def run_empty_app() -> None:
    """An ASGI application that does nothing: what the guard on CPU time compares with."""
    answer = b'{"choices":[]}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer)),
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    uvicorn.run(
        app,
        port=EMPTY_PORT,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        log_level="error",
    )


# ── Processes ─────────────────────────────────────────────────────────────────────────────────


def process_tree(pid: int) -> list[int]:
    """A process and all that it has started, and those in turn."""
    found = [pid]
    for one in found:  # it grows
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of processes, all their threads, by the scheduler's own count."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(pid: int) -> float:
    """PSS: what processes share counts once."""
    sizes = [
        re.search(r"Pss: +(\d+)", Path(f"/proc/{one}/smaps_rollup").read_text())
        for one in process_tree(pid)
    ]
    return sum(int(size[1]) for size in sizes if size) / 1024


class Server(NamedTuple):
    """One that runs, and how long it took until it answered."""

    pid: int
    ready_seconds: float


@contextmanager
def serving(
    cores: Iterable[int],
    command: Sequence[str],
    *,
    port: int,
    path: str = "/",
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """A server on cores of its own, until the end of the block."""
    url = f"http://127.0.0.1:{port}{path}"
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        os.sched_setaffinity(0, cores)  # the child inherits it
        try:
            child = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | (environment or {})
            )
        finally:
            os.sched_setaffinity(0, before)
        try:
            while not _answers(url):
                if child.poll() is not None or time.monotonic() - started > 120:
                    log.seek(0)
                    said = log.read().decode(errors="replace")[-3000:]
                    raise NotHere(f"{' '.join(command)} did not start:\n{said}")
                time.sleep(0.01)
            yield Server(child.pid, time.monotonic() - started)
        finally:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, trust_env=False, timeout=5.0).status_code < 500
    except httpx2.HTTPError:
        return False


# ── One measurement ───────────────────────────────────────────────────────────────────────────


class Subject:
    """What is measured: a server, and the kind of load it gets.

    Args:
        pid: of the server under test; None where there is none.
        clients: at how many of them.
        stream, unique, headers: of its requests, as `load.make_requests` has them.
        may_fail: when it does, the others go on without it.
    """

    def __init__(
        self,
        port: int,
        pid: int | None = None,
        *,
        clients: Sequence[int],
        model: str = "cloud",
        stream: bool = False,
        unique: bool = False,
        headers: bytes = b"",
        may_fail: bool = False,
    ) -> None:
        self.port, self.pid, self.clients, self.stream = port, pid, clients, stream
        self.may_fail = may_fail
        self.requests = make_requests(model=model, stream=stream, unique=unique, headers=headers)


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def _ms(nanoseconds: Sequence[int], share: float) -> float:
    return quantile(nanoseconds, share) / 1e6 if nanoseconds else float("nan")


def measure(subject: Subject, *, clients: int, seconds: float, mock: int) -> Row:
    """One measurement. `mock`: the pid of the upstream, whose core the load shares."""
    load = Load(subject.port, subject.requests, stream=subject.stream)
    server = process_tree(subject.pid) if subject.pid else []
    loading = [mock, os.getpid()]  # not its children, which are the servers
    before, load_before = cpu_seconds(server), cpu_seconds(loading)
    started = time.monotonic()
    uvloop.run(load.run(clients, seconds))
    elapsed = time.monotonic() - started
    used, load_used = cpu_seconds(server) - before, cpu_seconds(loading) - load_before
    row = {"load_busy": load_used / elapsed}
    if not subject.stream:
        row |= {
            "per_second": load.answers / elapsed,
            "p50_ms": _ms(load.latencies, 0.5),
            "p99_ms": _ms(load.latencies, 0.99),
        }
        if server:
            row["cpu_us"] = used / load.answers * 1e6
            row["per_second_and_core"] = load.answers / used
        return row
    all_transits = load.first_transits + load.transits
    row |= {
        "chunks_per_second": load.chunks_in_time / load.steady_seconds,
        "first_event_p50_ms": _ms(load.latencies, 0.5),
        "ttft_p50_ms": _ms(load.first_transits, 0.5),
        "ttft_p99_ms": _ms(load.first_transits, 0.99),
        "transit_p50_ms": _ms(load.transits, 0.5),
        "transit_p99_ms": _ms(load.transits, 0.99),
        "on_time": sum(one < 10_000_000 for one in all_transits) / len(all_transits),
    }
    if server:
        row["cpu_us_per_chunk"] = used / len(all_transits) * 1e6
    return row


def compare(subjects: Mapping[str, Subject], *, seconds: float, repeats: int, mock: int) -> Table:
    """Medians by subject and number of clients; one that fails and may is left out.

    The subjects take turns, so that a machine that slows down slows all of them.
    """
    left = dict(subjects)

    def ask(name: str, clients: int, seconds: float) -> Row | None:
        try:
            return measure(left[name], clients=clients, seconds=seconds, mock=mock)
        except ConnectionError as error:
            if not left[name].may_fail:
                raise
            say(f"left out from here on: {name}: {error}")
            del left[name]
            return None

    for name in subjects:
        say(f"{name}, warming up")
        ask(name, 8, 1.0)  # long enough to have seen the prompts that recur
    found: Table = {name: {} for name in left}
    for clients in sorted({number for subject in left.values() for number in subject.clients}):
        rows: dict[str, list[Row]] = {}
        for number in range(repeats):
            for name in [name for name, subject in left.items() if clients in subject.clients]:
                say(f"{name}, {clients} at a time, {number + 1} of {repeats}")
                if (row := ask(name, clients, seconds)) is not None:
                    rows.setdefault(name, []).append(row)
        for name, each in rows.items():
            found[name][str(clients)] = {
                key: statistics.median(row[key] for row in each) for key in each[0]
            }
    return found


def probe(port: int, subject: Subject | None, *, seconds: float) -> Row:
    """How long something cheap takes meanwhile: what the event loop keeps others waiting."""

    async def run() -> Probe:
        one = Probe(PROBED, every_seconds=PROBE_SECONDS)
        await asyncio.get_running_loop().create_connection(lambda: one, "127.0.0.1", port)
        if subject is None:
            await asyncio.sleep(seconds)
        else:
            await Load(port, subject.requests, stream=False).run(64, seconds)
        one.close()
        return one

    latencies = uvloop.run(run()).latencies
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {key: _ms(latencies, share) for key, share in shares.items()}


def count_reasons(port: int) -> Counter[str]:
    """Why requests went where they went, by the proxy's own count."""
    text = httpx2.get(
        f"http://127.0.0.1:{port}/metrics",
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
    ).text
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("router_requests_total{"):
            reason = re.search(r'reason="([^"]*)"', line)
            found[reason[1] if reason else ""] += int(float(line.rsplit(" ", 1)[1]))
    return found


# ── The decision ──────────────────────────────────────────────────────────────────────────────


def decision_texts() -> dict[str, list[str]]:
    """What is decided on: texts of so many tokens, and the mix of the load."""
    rng = random.Random(3)
    texts = {
        # Words of one token each, less the two special tokens around them.
        str(tokens): [" ".join(rng.choices(SIMPLE_WORDS, k=tokens - 2)) for _ in range(100)]
        for tokens in TOKENS
    }
    return texts | {"mix": list(islice(make_prompts(seed=4), MIX))}


def decide_all(folder: Path, *, passes: int) -> dict[str, list[float]]:
    """Milliseconds of one decision, tokenising included: one of each text, its passes' median."""
    from router_model.model import RouterModel

    model = RouterModel.load(folder)
    found = {}
    for name, texts in decision_texts().items():
        times: list[list[float]] = [[] for _ in texts]
        for _ in range(passes):
            for number, text in enumerate(texts):
                started = time.perf_counter_ns()
                model.score(text)
                times[number].append((time.perf_counter_ns() - started) / 1e6)
        found[name] = [statistics.median(each) for each in times]
    return found


def measure_decision(folder: Path, *, passes: int, cores: Cores) -> dict[str, Any]:
    """Ours and, where training's environment is, the original project's, by kind of text."""

    def run(*command: str, given: str = "") -> Any:
        os.sched_setaffinity(0, cores.server)
        try:
            done = subprocess.run(command, input=given, check=True, capture_output=True, text=True)
        finally:
            os.sched_setaffinity(0, {cores.load})
        return json.loads(done.stdout)

    say("decision")
    ours = run(sys.executable, str(HERE), "--decision", str(folder), "--repeats", str(passes))
    found: dict[str, Any] = {"ours": _summed_up(ours)}
    python = ROOT / ".venv-train" / "bin" / "python"
    if not python.exists():
        say("the original project's way is left out: there is no .venv-train (make test-training)")
        return found
    say("decision, the original project's way")
    texts = decision_texts()
    asked = {
        "tokenizer": str((folder / "tokenizer.json").resolve()),
        "texts": {name: each if name == "mix" else each[:15] for name, each in texts.items()},
        "passes": passes,
    }
    try:
        original = run(str(python), str(HERE.with_name("original.py")), given=json.dumps(asked))
    except subprocess.CalledProcessError as error:
        say(f"the original project's way is left out: {error.stderr.strip()[-300:]}")
        return found
    found["original"] = _summed_up(original["milliseconds"])
    found["original_versions"] = original["versions"]
    found["faster"] = {
        name: found["original"][name][key] / row[key]
        for name, row in found["ours"].items()
        for key in ("mean_ms" if name == "mix" else "p50_ms",)
    }
    return found


def _summed_up(times: Mapping[str, list[float]]) -> dict[str, Row]:
    return {
        name: {
            "texts": len(each),
            "mean_ms": statistics.mean(each),
            "p50_ms": quantile(each, 0.5),
            "p99_ms": quantile(each, 0.99),
        }
        for name, each in times.items()
    }


# ── All of it ─────────────────────────────────────────────────────────────────────────────────

CONFIG: Final = """
server: {{api_keys: [{key}]}}
upstreams:
  local: {{base_url: "http://127.0.0.1:{port}/v1", model: mock, max_concurrency: null}}
  cloud:
    base_url: "http://127.0.0.1:{port}/v1"
    model: mock-cloud
    price: {{input: 0.15, cached_input: 0.075, output: 0.60}}
routing: {{model_path: "{model}"}}
storage: {{url: "sqlite:///{folder}/bench.db"}}
"""
SELF: Final = (sys.executable, str(HERE))


def run_all(model: Path, *, seconds: float, repeats: int, peers: Sequence[str]) -> dict[str, Any]:
    """All measurements, as they go into the JSON file."""
    cores = share_cores()
    os.sched_setaffinity(0, {cores.load})
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": seconds,
        "repeats": repeats,
        "decision": measure_decision(model, passes=repeats, cores=cores),
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = folder / "bench.yaml"
        config.write_text(
            CONFIG.format(key=KEY, port=UPSTREAM_PORT, model=model.resolve(), folder=folder)
        )
        serve = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(config)]
        serve += ["--port", str(PROXY_PORT)]
        mock = stack.enter_context(
            serving({cores.load}, [*SELF, "--upstream"], port=UPSTREAM_PORT)
        ).pid
        with ExitStack() as servers:
            results |= _compare_servers(
                servers, folder, serve, cores, mock=mock, peers=peers,
                seconds=seconds, repeats=repeats,
            )  # fmt: skip
        results["workers"] = _compare_workers(
            serve, cores, mock=mock, seconds=seconds, repeats=repeats
        )
    return results


def _compare_servers(
    stack: ExitStack,
    folder: Path,
    serve: Sequence[str],
    cores: Cores,
    *,
    mock: int,
    peers: Sequence[str],
    seconds: float,
    repeats: int,
) -> dict[str, Any]:
    """Everything that is measured with all servers running beside each other."""
    running: dict[str, Server] = {}
    started: dict[str, Peer] = {}

    def start(name: str, command: Sequence[str], *, port: int, path: str, **more: Any) -> None:
        say(f"{name}, starting")
        server = serving(cores.server, command, port=port, path=path, **more)
        running[name] = stack.enter_context(server)

    for name, port in PEER_PORTS.items():
        if name not in ("nginx", *peers):
            continue
        try:
            peer = PEERS[name](Place(port, UPSTREAM_PORT, folder))
            start(name, peer.command, port=port, path=peer.path, environment=peer.environment)
        except NotHere as error:
            say(f"left out: {error}")
        else:
            started[name] = peer
    start("bare stack", [*SELF, "--bare"], port=BARE_PORT, path="/")
    start("the proxy", serve, port=PROXY_PORT, path=PROBED)
    bare, ours = running["bare stack"].pid, running["the proxy"].pid

    def subject_of(name: str, clients: Sequence[int], *, stream: bool) -> Subject:
        return Subject(
            PEER_PORTS[name],
            running[name].pid,
            clients=clients,
            stream=stream,
            headers=started[name].headers,
            may_fail=True,
        )

    def subjects(*, many: Sequence[int], few: Sequence[int], stream: bool) -> dict[str, Subject]:
        rows = {"direct": Subject(UPSTREAM_PORT, clients=many, stream=stream)}
        if "nginx" in started:
            rows["nginx"] = subject_of("nginx", many, stream=stream)
        rows["bare stack"] = Subject(BARE_PORT, bare, clients=many, stream=stream)
        rows["forced"] = Subject(PROXY_PORT, ours, clients=many, stream=stream)
        if not stream:
            rows["routed, repeats"] = Subject(PROXY_PORT, ours, clients=many, model="auto")
            # Not at 256: a decision waits for those before it, and the last would come too late.
            rows["routed, unique"] = Subject(
                PROXY_PORT, ours, clients=few, model="auto", unique=True
            )
        slow = [name for name in started if name != "nginx"]
        return rows | {name: subject_of(name, few, stream=stream) for name in slow}

    requests = subjects(many=(1, 64, 256), few=(1, 64), stream=False)
    found: dict[str, Any] = {}
    before = count_reasons(PROXY_PORT)
    found["requests"] = compare(requests, seconds=seconds, repeats=repeats, mock=mock)
    found["reasons"] = dict(count_reasons(PROXY_PORT) - before)
    for by_clients in found["requests"].values():
        for clients, row in by_clients.items():
            direct = found["requests"]["direct"][clients]
            row |= {f"added_{key}": row[key] - direct[key] for key in ("p50_ms", "p99_ms")}
    found["probe"] = {}
    for name in ("nothing", "forced", "routed, unique"):
        say(f"probe during: {name}")
        rows = [probe(PROXY_PORT, requests.get(name), seconds=seconds) for _ in range(repeats)]
        found["probe"][name] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        found["probe"][name]["max_ms"] = max(row["max_ms"] for row in rows)
    streams = subjects(many=(64, 256), few=(64,), stream=True)
    found["streams"] = compare(streams, seconds=seconds, repeats=repeats, mock=mock)
    found["servers"] = {
        name: {
            "version": started[name].version if name in started else None,
            "ready_seconds": server.ready_seconds,
            "memory_mb": memory_mb(server.pid),
        }
        for name, server in running.items()
    }
    return found


def _compare_workers(
    serve: Sequence[str], cores: Cores, *, mock: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """What a request costs with one worker and with two, and what a worker holds.

    With two cores both workers share one: then this is about cost, and says nothing about speed.
    """
    found: dict[str, Any] = {}
    for workers in (1, 2):
        mine = sorted(cores.servers)[:workers]
        command = [*serve, "--workers", str(workers)]
        with serving(mine, command, port=PROXY_PORT, path=PROBED) as server:
            time.sleep(server.ready_seconds)  # the first one answers; others may still be starting
            subject = Subject(PROXY_PORT, server.pid, clients=(64,))
            name = f"{workers} worker" + "s" * (workers > 1)
            row = compare({name: subject}, seconds=seconds, repeats=repeats, mock=mock)[name]["64"]
            memory = memory_mb(server.pid)
        found[str(workers)] = row | {
            "cores": len(mine),
            "memory_mb": memory,
            "memory_mb_per_worker": memory / workers,
        }
    return found


def describe_machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = ("litestar", "uvicorn", "uvloop", "httptools", "httpx2", "onnxruntime", "tokenizers")
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


# ── The tables ────────────────────────────────────────────────────────────────────────────────


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def write(cells: Sequence[str]) -> str:
        return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)

    return "\n".join(map(write, [head, ["---", *("---:" for _ in head[1:])], *rows]))


def _number(row: Row, key: str, shape: str = ",.0f", unit: str = "") -> str:
    return format(row[key], shape) + unit if key in row else ""


def decision_table(decision: Mapping[str, Any]) -> str:
    original = decision.get("original")
    head = ["decision on", "p50", "p99", "mean"]
    if original:
        head += ["the original's p50", "p99", "mean", "faster by"]
    lines = []
    for name, row in decision["ours"].items():
        line = [f"{name} tokens" if name.isdigit() else f"{row['texts']} prompts of the mix"]
        line += [_number(row, f"{key}_ms", ".1f", " ms") for key in ("p50", "p99", "mean")]
        if original:
            other = original[name]
            line += [_number(other, f"{key}_ms", ".0f", " ms") for key in ("p50", "p99", "mean")]
            if not other["texts"] >= 100:
                line[-2] = ""  # of a few texts there is no such thing
            line.append(f"{decision['faster'][name]:.0f}×")
        lines.append(line)
    return markdown_table(head, lines)


def peers_table(results: Mapping[str, Any]) -> str:
    """The shortest account: what a gateway costs, and whether a stream comes through it in time."""
    names = {
        "forced": "this proxy, *forced*",
        "routed, repeats": "*routed, repeats*",
        "routed, unique": "*routed, unique*",
        "nginx": "nginx, which relays and nothing else",
        "portkey": "Portkey's gateway",
        "litellm": "LiteLLM",
    }

    def of_server(name: str, key: str, shape: str, unit: str) -> str:
        server = "the proxy" if name == "forced" else name
        return _number(results["servers"].get(server, {}), key, shape, unit)

    lines = []
    for name, said in names.items():
        if name not in results["requests"]:
            continue
        many = results["requests"][name]["64"]
        stream = results["streams"].get(name, {}).get("64")
        version = results["servers"].get(name, {}).get("version")
        lines.append(
            (
                f"{said} {version}" if version else said,
                _number(many, "per_second_and_core"),
                _number(many, "cpu_us", ",.0f", " µs"),
                _number(results["requests"][name]["1"], "added_p50_ms", ".2f", " ms"),
                _share(stream["on_time"]) if stream else "",
                of_server(name, "memory_mb", ".0f", " MB"),
                of_server(name, "ready_seconds", ".1f", " s"),
            )
        )
    head = (
        "", "requests/s and core", "CPU of one", "added, p50",
        "chunks of 64 streams on time", "memory", "ready in",
    )  # fmt: skip
    return markdown_table(head, lines)


def requests_table(requests: Table) -> str:
    head = (
        "", "clients", "requests/s", "CPU µs/request", "requests/s and core",
        "p50", "added", "p99", "added",
    )  # fmt: skip
    return markdown_table(
        head,
        (
            (
                name,
                clients,
                _number(row, "per_second"),
                _number(row, "cpu_us"),
                _number(row, "per_second_and_core"),
                *(
                    "" if name == "direct" and key.startswith("added") else
                    _number(row, key, ".2f", " ms")
                    for key in ("p50_ms", "added_p50_ms", "p99_ms", "added_p99_ms")
                ),
            )
            for name, by_clients in requests.items()
            for clients, row in by_clients.items()
        ),
    )  # fmt: skip


def reasons_line(reasons: Mapping[str, int]) -> str:
    """Whether the router did decide: under load a decision may be too late and left out."""
    routed = sum(number for reason, number in reasons.items() if reason != "forced")
    return (
        f"Of the routed requests {_share(reasons['score'] / routed)} were decided by their score."
    )


def streams_table(streams: Table) -> str:
    head = (
        "a chunk every 10 ms", "streams", "chunks/s", "on time", "CPU µs/chunk",
        "first token's transit p50", "p99", "others' p50", "p99", "load",
    )  # fmt: skip
    times = ("ttft_p50_ms", "ttft_p99_ms", "transit_p50_ms", "transit_p99_ms")
    return markdown_table(
        head,
        (
            (
                name,
                clients,
                _number(row, "chunks_per_second"),
                _share(row["on_time"]),
                _number(row, "cpu_us_per_chunk"),
                *(_number(row, key, ".2f", " ms") for key in times),
                f"{row['load_busy']:.0%}",
            )
            for name, by_clients in streams.items()
            for clients, row in by_clients.items()
        ),
    )


def _share(value: float) -> str:
    """Rounded down: 100 % is said of all only."""
    return f"{int(value * 1000) / 10:.1f}%"


def servers_table(servers: Mapping[str, Any]) -> str:
    return markdown_table(
        ("", "version", "ready in", "memory after the load"),
        (
            (
                name,
                row["version"] or "",
                f"{row['ready_seconds']:.1f} s",
                f"{row['memory_mb']:.0f} MB",
            )
            for name, row in servers.items()
        ),
    )


def workers_table(workers: Mapping[str, Any]) -> str:
    return markdown_table(
        ("workers", "on cores", "requests/s", "CPU µs/request", "memory", "for each"),
        (
            (
                name,
                f"{row['cores']}",
                _number(row, "per_second"),
                _number(row, "cpu_us"),
                f"{row['memory_mb']:.0f} MB",
                f"{row['memory_mb_per_worker']:.0f} MB",
            )
            for name, row in workers.items()
        ),
    )


def probe_table(probed: Mapping[str, Row]) -> str:
    return markdown_table(
        (f"`GET {PROBED}` during", "probe p50", "p99", "longest"),
        (
            (name, *(_number(row, key, ".2f", " ms") for key in ("p50_ms", "p99_ms", "max_ms")))
            for name, row in probed.items()
        ),
    )


def machine_line(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"{results['date']}; the median of {results['repeats']} times "
        f"{results['seconds']:g} seconds."
    )


def as_sections(results: Mapping[str, Any]) -> dict[str, str]:
    """What stands between the documents' markers, by name."""
    return {
        "peers": peers_table(results) + "\n\n" + machine_line(results),
        "machine": machine_line(results),
        "decision": decision_table(results["decision"]),
        "requests": requests_table(results["requests"]) + "\n\n" + reasons_line(results["reasons"]),
        "probe": probe_table(results["probe"]),
        "streams": streams_table(results["streams"]),
        "servers": servers_table(results["servers"]),
        "workers": workers_table(results["workers"]),
    }


def fill_in(document: str, results: Mapping[str, Any]) -> str:
    """A document with the tables of these results, those that it has marks for."""
    for name, text in as_sections(results).items():
        if f"<!-- bench: {name} -->" in document:
            document = put_between(document, f"bench: {name}", text)
    return document


def put_between(document: str, name: str, text: str) -> str:
    """A text with one section anew. Raises ValueError when it has none of the name."""
    begin, end = f"<!-- {name} -->", f"<!-- {name.partition(':')[0]}: end -->"
    before, marker, rest = document.partition(begin)
    _, end_marker, after = rest.partition(end)
    if not marker or not end_marker:
        raise ValueError(f"there is no {begin} … {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is reported")
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/router")
    parser.add_argument("--peers", default="", help=f"some of {','.join(PEERS)}, with commas")
    parser.add_argument("--out", type=Path, help="keep the results as JSON here")
    parser.add_argument("--readme", action="store_true", help="write the documents' tables")
    parser.add_argument("--upstream", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--empty", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--decision", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.upstream:
        uvloop.run(run_upstream(UPSTREAM_PORT))
    elif arguments.bare:
        run_bare_stack()
    elif arguments.empty:
        run_empty_app()
    elif arguments.decision:
        print(json.dumps(decide_all(arguments.decision, passes=arguments.repeats)))
    elif arguments.readme:
        for document in DOCUMENTS:
            document.write_text(
                fill_in(document.read_text("utf-8"), json.loads(RESULTS.read_text()))
            )
    else:
        peers = [name for name in re.split(r"[,\s]+", arguments.peers) if name]
        if unknown := set(peers) - set(PEERS):
            parser.error(f"no such peer: {', '.join(sorted(unknown))}")
        results = run_all(
            arguments.model, seconds=arguments.seconds, repeats=arguments.repeats, peers=peers
        )
        if arguments.out:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        print("\n\n".join(as_sections(results).values()))


if __name__ == "__main__":
    main()
