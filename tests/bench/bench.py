"""Latency and CPU of the proxy: a decision, a request, a stream. Prints tables.

    make bench                                         # or: make bench PEERS=litellm OUT=file.json
    python tests/bench/bench.py --seconds 0.5 --repeats 1  # a smoke test, no usable figures
    python tests/bench/bench.py --readme   # update the documents' tables from saved results

The server under test has one core of its own; the load and a mock upstream share another. Compare
ratios within a run: runs and machines differ by 20 % and more. Needs Linux (/proc) and two cores.
The rows:

  direct            the load on the mock, without a server between
  nginx             a reverse proxy only, where nginx is installed
  bare stack        Litestar and our transport only
  forced            the proxy with keys, rows, metrics and usage; the client names the tier
  routed, repeats   the router decides; 50 prompts repeat, so their scores are cached
  routed, unique    the router decides; every prompt is new
  litellm, portkey  other gateways, by --peers (see tests/bench/peers.py)

A burst opens many streams on as many new connections, all at once or within ten seconds.

Requests are a closed loop: each client sends the next request when it has its answer. With many
clients latency is mostly queueing; compare CPU times. A stream has a chunk every 10 ms; a chunk is
on time if it arrives before the next one is sent. `load` is the utilisation of the load's own core.
Near 100 % with streams, the load is the bottleneck (with requests this does not matter).
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import uvicorn
import uvloop

from bursts import BURSTS, Burst
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
PROBED: Final = "/health"  # the proxy's cheapest endpoint
LATE_NS: Final = 20_000_000  # a chunk of a burst that takes longer is late
PEERS_BURSTS: Final = ("1,000 at once", "2,000 at once")

Row = dict[str, float]
Table = dict[str, dict[str, Row]]  # by subject and number of clients


class Cores(NamedTuple):
    """The CPU cores of the servers and of the load."""

    servers: frozenset[int]
    load: int

    @property
    def server(self) -> set[int]:
        return {min(self.servers)}


def share_cores() -> Cores:
    """Assign the cores. Raises SystemExit when there are less than two."""
    *servers, load = sorted(os.sched_getaffinity(0))
    if not servers:
        raise SystemExit("two cores are needed: one for the server, one for the load")
    return Cores(frozenset(servers), load)


# ── The bare stack, run in a separate process ─────────────────────────────────────────────────


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
    """An empty ASGI application: the baseline of the test of CPU time."""
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
    """A process and all its descendants."""
    pids = [pid]
    for parent in pids:  # the list grows
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += map(int, children.read_text().split())
    return pids


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of all threads of these processes, from the scheduler's statistics."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(pid: int) -> float:
    """PSS of a process tree: shared memory counts once."""
    sizes = [
        re.search(r"Pss: +(\d+)", Path(f"/proc/{child}/smaps_rollup").read_text())
        for child in process_tree(pid)
    ]
    return sum(int(size[1]) for size in sizes if size) / 1024


class Server(NamedTuple):
    """A running server, and the time until its first answer."""

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
    """Run a server on these cores until the end of the block. Raises NotHere."""
    url = f"http://127.0.0.1:{port}{path}"
    if _answers(url):  # it would be measured in place of this one
        raise NotHere(f"port {port} is in use by another server")
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
                    output = log.read().decode(errors="replace")[-3000:]
                    raise NotHere(f"{' '.join(command)} did not start:\n{output}")
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
    """A server under test, and its load.

    Args:
        pid: of the server; None for the mock itself.
        clients: numbers of clients to measure with.
        stream, unique, headers: arguments of `load.make_requests`.
        may_fail: whether to continue without it after a failure.
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
        self.may_fail, self.headers = may_fail, headers
        self.requests = make_requests(model=model, stream=stream, unique=unique, headers=headers)


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that is at least as large as this share of them."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def _ms(nanoseconds: Sequence[int], share: float) -> float:
    return quantile(nanoseconds, share) / 1e6 if nanoseconds else float("nan")


def measure(subject: Subject, *, clients: int, seconds: float, mock: int) -> Row:
    """Measure once. `mock` is the pid of the upstream, which shares the load's core."""
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
            "p999_ms": _ms(load.latencies, 0.999),
            "max_ms": _ms(load.latencies, 1.0),
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
        "on_time": sum(transit < 10_000_000 for transit in all_transits) / len(all_transits),
    }
    if server:
        row["cpu_us_per_chunk"] = used / len(all_transits) * 1e6
    return row


def compare(subjects: Mapping[str, Subject], *, seconds: float, repeats: int, mock: int) -> Table:
    """Medians by subject and number of clients, without subjects that failed and may fail.

    The subjects take turns, so that a slower machine slows all of them.
    """
    remaining = dict(subjects)

    def try_once(name: str, clients: int, seconds: float) -> Row | None:
        try:
            return measure(remaining[name], clients=clients, seconds=seconds, mock=mock)
        except ConnectionError as error:
            if not remaining[name].may_fail:
                raise
            say(f"skipping {name} from here on: {error}")
            del remaining[name]
            return None

    for name in subjects:
        say(f"{name}, warming up")
        try_once(name, 8, 1.0)  # long enough for all recurring prompts
    medians: Table = {name: {} for name in remaining}
    for clients in sorted({number for subject in remaining.values() for number in subject.clients}):
        rows: dict[str, list[Row]] = {}
        for number in range(repeats):
            for name in [name for name, subject in remaining.items() if clients in subject.clients]:
                say(f"{name}, {clients} at a time, {number + 1} of {repeats}")
                if (row := try_once(name, clients, seconds)) is not None:
                    rows.setdefault(name, []).append(row)
        for name, each in rows.items():
            medians[name][str(clients)] = _summary(each)
    return medians


def _summary(rows: Sequence[Row]) -> Row:
    """The median of each figure, and the longest of the longest times."""
    return {
        key: (max if key == "max_ms" else statistics.median)([row[key] for row in rows])
        for key in rows[0]
    }


def measure_burst(subject: Subject, name: str) -> Row:
    """Measure one of the BURSTS. The first token's times contain the mock's first interval."""
    memory: list[float] = []
    pids = process_tree(subject.pid) if subject.pid else []

    def when_open() -> None:
        if subject.pid:
            memory.append(memory_mb(subject.pid))

    burst = Burst(
        subject.port, BURSTS[name], model="cloud", headers=subject.headers, when_open=when_open
    )
    before = cpu_seconds(pids)
    uvloop.run(burst.run())
    late = sum(transit >= LATE_NS for transit in burst.transits)
    row = {
        "first_p50_ms": _ms(burst.first_tokens, 0.5),
        "first_p99_ms": _ms(burst.first_tokens, 0.99),
        "max_ms": _ms(burst.first_tokens, 1.0),
        "transit_p99_ms": _ms(burst.transits, 0.99),
        "on_time": 1 - late / len(burst.transits) if burst.transits else 0.0,
        "failed": burst.failed,
    }
    if memory:
        row |= {"memory_mb": memory[0], "cpu_seconds": cpu_seconds(pids) - before}
    return row


def compare_bursts(subjects: Mapping[str, Subject], *, repeats: int) -> Table:
    """Medians by subject and burst. Other gateways are measured once, and need not do the last."""
    results: Table = {name: {} for name in subjects}
    for burst in BURSTS:
        rows: dict[str, list[Row]] = {}
        for number in range(repeats):
            for name, subject in subjects.items():
                is_gateway = subject.may_fail and name != "nginx"
                if is_gateway and (number or burst not in PEERS_BURSTS):
                    continue
                say(f"{name}, streams: {burst}, {number + 1} of {repeats}")
                rows.setdefault(name, []).append(measure_burst(subject, burst))
        for name, each in rows.items():
            results[name][burst] = _summary(each)
    return results


def probe(port: int, subject: Subject | None, *, seconds: float) -> Row:
    """Latency of a cheap request under load: the delay that the event loop adds."""

    async def run() -> Probe:
        prober = Probe(PROBED, every_seconds=PROBE_SECONDS)
        await asyncio.get_running_loop().create_connection(lambda: prober, "127.0.0.1", port)
        if subject is None:
            await asyncio.sleep(seconds)
        else:
            await Load(port, subject.requests, stream=False).run(64, seconds)
        prober.close()
        return prober

    latencies = uvloop.run(run()).latencies
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {key: _ms(latencies, share) for key, share in shares.items()}


def count_reasons(port: int) -> Counter[str]:
    """Routed requests by reason, from the proxy's metrics."""
    text = httpx2.get(
        f"http://127.0.0.1:{port}/metrics",
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
    ).text
    counts: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("router_requests_total{"):
            reason = re.search(r'reason="([^"]*)"', line)
            counts[reason[1] if reason else ""] += int(float(line.rsplit(" ", 1)[1]))
    return counts


# ── The decision ──────────────────────────────────────────────────────────────────────────────


def decision_texts() -> dict[str, list[str]]:
    """Texts to decide on, by number of tokens, and the mix of the load."""
    rng = random.Random(3)
    texts = {
        # Words of one token each, and two special tokens.
        str(tokens): [" ".join(rng.choices(SIMPLE_WORDS, k=tokens - 2)) for _ in range(100)]
        for tokens in TOKENS
    }
    return texts | {"mix": list(islice(make_prompts(seed=4), MIX))}


def decide_all(
    folder: Path, *, passes: int, clock: Callable[[], int] = time.perf_counter_ns
) -> dict[str, list[float]]:
    """Milliseconds of a decision with tokenisation: for each text the median of the passes."""
    from router_model.model import RouterModel

    model = RouterModel.load(folder)
    medians = {}
    for name, texts in decision_texts().items():
        times: list[list[float]] = [[] for _ in texts]
        for _ in range(passes):
            for number, text in enumerate(texts):
                started = clock()
                model.score(text)
                times[number].append((clock() - started) / 1e6)
        medians[name] = [statistics.median(each) for each in times]
    return medians


def measure_decision(folder: Path, *, passes: int, cores: Cores) -> dict[str, Any]:
    """Decision times by kind of text: ours and, with `.venv-train`, the original project's."""

    def run(*command: str, given: str = "") -> Any:
        os.sched_setaffinity(0, cores.server)
        try:
            done = subprocess.run(command, input=given, check=True, capture_output=True, text=True)
        finally:
            os.sched_setaffinity(0, {cores.load})
        return json.loads(done.stdout)

    say("decision")
    ours = run(sys.executable, str(HERE), "--decision", str(folder), "--repeats", str(passes))
    results: dict[str, Any] = {"ours": _summarised(ours)}
    python = ROOT / ".venv-train" / "bin" / "python"
    if not python.exists():
        say("skipping the original project: there is no .venv-train (make test-training)")
        return results
    say("decision of the original project")
    texts = decision_texts()
    options = {
        "tokenizer": str((folder / "tokenizer.json").resolve()),
        "texts": {name: each if name == "mix" else each[:15] for name, each in texts.items()},
        "passes": passes,
    }
    try:
        original = run(str(python), str(HERE.with_name("original.py")), given=json.dumps(options))
    except subprocess.CalledProcessError as error:
        say(f"skipping the original project: {error.stderr.strip()[-300:]}")
        return results
    results["original"] = _summarised(original["milliseconds"])
    results["original_versions"] = original["versions"]
    results["faster"] = {
        name: results["original"][name][key] / row[key]
        for name, row in results["ours"].items()
        for key in ("mean_ms" if name == "mix" else "p50_ms",)
    }
    return results


def _summarised(times: Mapping[str, list[float]]) -> dict[str, Row]:
    return {
        name: {
            "texts": len(each),
            "mean_ms": statistics.mean(each),
            "p50_ms": quantile(each, 0.5),
            "p99_ms": quantile(each, 0.99),
        }
        for name, each in times.items()
    }


# ── All measurements ──────────────────────────────────────────────────────────────────────────

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


def serve_command(folder: Path, model: Path = ROOT / "data/models/router") -> list[str]:
    """Write a configuration with both tiers on the mock, and return the proxy's command."""
    config = folder / "bench.yaml"
    config.write_text(
        CONFIG.format(key=KEY, port=UPSTREAM_PORT, model=model.resolve(), folder=folder)
    )
    serve = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(config)]
    return [*serve, "--port", str(PROXY_PORT)]


def run_all(model: Path, *, seconds: float, repeats: int, peers: Sequence[str]) -> dict[str, Any]:
    """All measurements, as written to the JSON file."""
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
        serve = serve_command(folder, model)
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
    """The measurements with all servers running at the same time."""
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
            say(f"skipping {error}")
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
            # Not with more clients: decisions are queued, and the last ones would time out.
            rows["routed, unique"] = Subject(
                PROXY_PORT, ours, clients=(1, 64), model="auto", unique=True
            )
        slow = [name for name in started if name != "nginx"]
        return rows | {name: subject_of(name, few, stream=stream) for name in slow}

    requests = subjects(many=(1, 64, 128, 256, 512), few=(1, 64, 256), stream=False)
    results: dict[str, Any] = {}
    before = count_reasons(PROXY_PORT)
    results["requests"] = compare(requests, seconds=seconds, repeats=repeats, mock=mock)
    results["reasons"] = dict(count_reasons(PROXY_PORT) - before)
    for by_clients in results["requests"].values():
        for clients, row in by_clients.items():
            direct = results["requests"]["direct"][clients]
            row["added_p50_ms"] = row["p50_ms"] - direct["p50_ms"]
    results["probe"] = {}
    for name in ("nothing", "forced", "routed, unique"):
        say(f"probe during: {name}")
        rows = [probe(PROXY_PORT, requests.get(name), seconds=seconds) for _ in range(repeats)]
        results["probe"][name] = _summary(rows)
    streams = subjects(many=(64, 256), few=(64,), stream=True)
    results["streams"] = compare(streams, seconds=seconds, repeats=repeats, mock=mock)
    results["bursts"] = compare_bursts(streams, repeats=repeats)
    results["servers"] = {
        name: {
            "version": started[name].version if name in started else None,
            "ready_seconds": server.ready_seconds,
            "memory_mb": memory_mb(server.pid),
        }
        for name, server in running.items()
    }
    return results


def _compare_workers(
    serve: Sequence[str], cores: Cores, *, mock: int, seconds: float, repeats: int
) -> dict[str, Any]:
    """CPU per request and memory with one worker and with two.

    On a machine with two cores both workers share one; then throughput does not compare.
    """
    results: dict[str, Any] = {}
    for workers in (1, 2):
        cores_used = sorted(cores.servers)[:workers]
        command = [*serve, "--workers", str(workers)]
        with serving(cores_used, command, port=PROXY_PORT, path=PROBED) as server:
            time.sleep(server.ready_seconds)  # one worker answers; others may still be starting
            subject = Subject(PROXY_PORT, server.pid, clients=(64,))
            name = f"{workers} worker" + "s" * (workers > 1)
            row = compare({name: subject}, seconds=seconds, repeats=repeats, mock=mock)[name]["64"]
            memory = memory_mb(server.pid)
        results[str(workers)] = row | {
            "cores": len(cores_used),
            "memory_mb": memory,
            "memory_mb_per_worker": memory / workers,
        }
    return results


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
                line[-2] = ""  # too few texts for a p99
            line.append(f"{decision['faster'][name]:.0f}×")
        lines.append(line)
    return markdown_table(head, lines)


def peers_table(results: Mapping[str, Any]) -> str:
    """The short table: CPU of each gateway, and the share of chunks on time."""
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
    for name, label in names.items():
        if name not in results["requests"]:
            continue
        many = results["requests"][name]["64"]
        stream = results["streams"].get(name, {}).get("64")
        version = results["servers"].get(name, {}).get("version")
        lines.append(
            (
                f"{label} {version}" if version else label,
                _number(many, "per_second_and_core"),
                _number(many, "cpu_us", ",.0f", " µs"),
                _number(results["requests"][name]["1"], "added_p50_ms", ".2f", " ms"),
                _number(results["requests"][name].get("256", {}), "p99_ms", ",.0f", " ms"),
                _share(stream["on_time"]) if stream else "",
                of_server(name, "memory_mb", ".0f", " MB"),
                of_server(name, "ready_seconds", ".1f", " s"),
            )
        )
    head = (
        "", "requests/s and core", "CPU of one", "added, p50", "p99 with 256 clients",
        "chunks of 64 streams on time", "memory", "ready in",
    )  # fmt: skip
    return markdown_table(head, lines)


def requests_table(requests: Table) -> str:
    head = (
        "", "clients", "requests/s", "CPU µs/request", "requests/s and core",
        "p50", "added", "p99", "p99.9", "longest",
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
                    for key in ("p50_ms", "added_p50_ms", "p99_ms", "p999_ms", "max_ms")
                ),
            )
            for name, by_clients in requests.items()
            for clients, row in by_clients.items()
        ),
    )  # fmt: skip


def reasons_line(reasons: Mapping[str, int]) -> str:
    """The share of decisions by score: under load a decision may time out."""
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


def bursts_table(bursts: Table) -> str:
    head = (
        "streams on new connections", "burst", "first token p50", "p99", "longest",
        "later chunks within 20 ms", "failed", "memory",
    )  # fmt: skip
    return markdown_table(
        head,
        (
            (
                name,
                burst,
                *(
                    _number(row, key, ",.0f", " ms")
                    for key in ("first_p50_ms", "first_p99_ms", "max_ms")
                ),
                _share(row["on_time"]),
                _number(row, "failed"),
                _number(row, "memory_mb", ",.0f", " MB"),
            )
            for name, by_burst in bursts.items()
            for burst, row in by_burst.items()
        ),
    )


def _share(value: float) -> str:
    """Rounded down: only all is 100 %."""
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
    """The sections between the documents' markers, by name."""
    return {
        "peers": peers_table(results) + "\n\n" + machine_line(results),
        "machine": machine_line(results),
        "decision": decision_table(results["decision"]),
        "requests": requests_table(results["requests"]) + "\n\n" + reasons_line(results["reasons"]),
        "probe": probe_table(results["probe"]),
        "streams": streams_table(results["streams"]),
        "bursts": bursts_table(results["bursts"]),
        "servers": servers_table(results["servers"]),
        "workers": workers_table(results["workers"]),
    }


def fill_in(document: str, results: Mapping[str, Any]) -> str:
    """Replace the tables that the document has markers for."""
    for name, text in as_sections(results).items():
        if f"<!-- bench: {name} -->" in document:
            document = put_between(document, f"bench: {name}", text)
    return document


def put_between(document: str, name: str, text: str) -> str:
    """Replace a section of a document. Raises ValueError when it has no such section."""
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
    parser.add_argument(
        "--repeats", type=int, default=3, help="measurements, of which the median is reported"
    )
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/router")
    parser.add_argument("--peers", default="", help=f"comma-separated, of {','.join(PEERS)}")
    parser.add_argument("--out", type=Path, help="write the results as JSON here")
    parser.add_argument(
        "--readme", action="store_true", help="update the documents' tables from the saved results"
    )
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
