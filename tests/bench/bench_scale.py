"""The CPU that several proxies on one database cost, by process: proxies, PostgreSQL, HAProxy.

    make bench-scale
    python tests/bench/bench_scale.py --seconds 0.5 --repeats 1 --only "one proxy"  # a smoke test
    python tests/bench/bench_scale.py --readme   # update the guide's tables from saved results

Each setup is real: `hybrid-llm serve` one to four times, a PostgreSQL, and HAProxy with the shipped
configuration. The load is that of bench.py: 64 clients in a closed loop, and a mock upstream, on a
core of their own. All servers share the other cores, so requests a second do not compare; CPU times
do. A process that shares its core with others handles fewer requests each time that it runs, and
needs more CPU for each; the setup with 16 clients shows how much of a difference this explains.
PostgreSQL runs with fsync off. Needs Linux (/proc), two cores, PostgreSQL and HAProxy.

After each setup the rows and the metrics must have every answered request once.
"""

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import httpx2
import uvloop
import yaml

import needs
from bench import (
    CONFIG,
    ROOT,
    SELF,
    UPSTREAM_PORT,
    Cores,
    count_reasons,
    cpu_seconds,
    describe_machine,
    markdown_table,
    memory_mb,
    process_tree,
    put_between,
    serving,
    share_cores,
)
from clusters import balancer_config, balancer_environment
from load import KEY, Load, make_requests
from peers import NotHere, say
from pgbouncer import PgBouncer
from ports import free_ports
from postgres import PostgresServer
from proxy.storage.database import MAX_CONNECTIONS
from stored import read

RESULTS: Final = ROOT / "data" / "results" / "bench_scale.json"
GUIDE: Final = ROOT / "docs" / "scaling.md"
MODEL: Final = ROOT / "data" / "models" / "router"
FILL: Final = 0.7  # of a core, above which answers are late (sizing.py)
WARM_SECONDS: Final = 1.5
SETTLE_SECONDS: Final = 1.0  # in which the rows of the load are written
IDLE_SECONDS: Final = 10.0
ROWS_SECONDS: Final = 10.0  # until the rows of a run are written
# Limits that this load does not reach, but each of its requests asks for.
PER_MINUTE: Final = 10_000_000
USD_PER_DAY: Final = 1_000_000.0
OWN_CONNECTIONS: Final = (
    "SELECT count(*) AS number FROM pg_stat_activity WHERE application_name = 'hybrid-llm-router'"
)

Row = dict[str, float]
Pids = dict[str, list[int]]


class Setup(NamedTuple):
    """What runs, and what it is asked.

    Attributes:
        proxies: servers, each with this number of workers.
        database: of each proxy its own file, or one that all share.
        has_balancer: whether requests go through HAProxy.
        reuses_connections: whether HAProxy reuses its connections to the proxies.
        has_limits: whether the key has a rate limit, a budget, and a share of a global budget.
        has_issued_key: whether the clients' key was created on the page.
        model, is_unique: as in `load.make_requests`.
        has_sessions: whether each request names a conversation that no proxy knows.
        is_idle: whether to measure the processes without requests, too.
    """

    proxies: int = 1
    workers: int = 1
    database: Literal["SQLite", "PostgreSQL", "PgBouncer"] = "PostgreSQL"
    has_balancer: bool = True
    reuses_connections: bool = True
    has_limits: bool = False
    has_issued_key: bool = False
    model: str = "cloud"
    is_unique: bool = False
    has_sessions: bool = False
    is_idle: bool = False
    clients: int = 64


SETUPS: Final = {
    "one proxy, SQLite, no balancer": Setup(database="SQLite", has_balancer=False),
    "HAProxy, a connection for each request": Setup(database="SQLite", reuses_connections=False),
    "HAProxy": Setup(database="SQLite"),
    "PostgreSQL": Setup(is_idle=True),
    "PostgreSQL through PgBouncer": Setup(database="PgBouncer"),
    "a key of the page": Setup(has_issued_key=True),
    "rate limit and budgets": Setup(has_limits=True),
    "rate limit and budgets, 16 clients": Setup(has_limits=True, clients=16),
    "routed, repeats": Setup(has_limits=True, model="auto"),
    "routed, repeats, new conversations": Setup(has_limits=True, model="auto", has_sessions=True),
    "routed, unique": Setup(has_limits=True, model="auto", is_unique=True),
    "2 proxies": Setup(proxies=2, has_limits=True),
    "4 proxies": Setup(proxies=4, has_limits=True, is_idle=True),
    "4 proxies, own SQLite": Setup(proxies=4, database="SQLite", has_limits=True),
    "4 proxies, PgBouncer": Setup(proxies=4, database="PgBouncer", has_limits=True),
    "1 proxy of 2 workers": Setup(workers=2, has_limits=True),
    "1 proxy of 4 workers": Setup(workers=4, has_limits=True, is_idle=True),
}


def config_of(setup: Setup, folder: Path, model: Path, url: str) -> str:
    """The configuration of a proxy with its files in a folder."""
    text = CONFIG.format(key=KEY, port=UPSTREAM_PORT, model=model.resolve(), folder=folder)
    fields = yaml.safe_load(text)
    if setup.database != "SQLite":
        fields["storage"]["url"] = url
    fields["server"]["workers"] = setup.workers
    if setup.has_limits:
        limits = {"requests_per_minute": PER_MINUTE, "cloud_usd_per_day": USD_PER_DAY}
        fields["server"]["api_keys"] = [{"key": KEY, "admin": True, **limits}]
        fields["budget"] = {"cloud_usd_per_day": USD_PER_DAY}
    return json.dumps(fields)


def requests_of(setup: Setup, key: str) -> Iterator[bytes]:
    """The requests of the clients, without end."""
    requests = make_requests(model=setup.model, unique=setup.is_unique)
    if key != KEY:
        requests = (data.replace(KEY.encode(), key.encode()) for data in requests)
    if not setup.has_sessions:
        return requests
    return (
        data.replace(b"\r\nhost:", b"\r\nx-router-session: %d\r\nhost:" % number, 1)
        for number, data in zip(count(), requests)
    )


def cpu_of_trees(pids: Sequence[int]) -> float:
    """CPU time of these processes and all their descendants."""
    while True:
        try:
            return cpu_seconds([child for pid in pids for child in process_tree(pid)])
        except (FileNotFoundError, ProcessLookupError):
            continue  # one of them, such as a worker of autovacuum, has just ended


class Running(NamedTuple):
    """A setup that runs.

    Attributes:
        port: where clients connect.
        ports: of the proxies.
        servers: the first processes of each kind of server.
        urls: of the databases.
    """

    port: int
    ports: list[int]
    servers: Pids
    urls: list[str]

    def cpu_seconds(self) -> Row:
        """CPU time by kind of server. New processes count from their start."""
        return {kind: cpu_of_trees(pids) for kind, pids in self.servers.items()}


def start(
    stack: ExitStack, setup: Setup, folder: Path, model: Path, cores: Cores, server: PostgresServer
) -> Running:
    """Start all servers of a setup until the end of the stack."""
    urls: list[str] = []
    servers: Pids = {"proxies": []}
    if setup.database != "SQLite":
        urls.append(stack.enter_context(server.new_database()))
        servers["PostgreSQL"] = [server.pid]
    url = urls[0] if urls else ""
    if setup.database == "PgBouncer":
        pooler = stack.enter_context(PgBouncer(url))
        os.sched_setaffinity(pooler.pid, cores.servers)
        servers["PgBouncer"], url = [pooler.pid], pooler.url
    ports = free_ports(setup.proxies + 1)
    balancer = ports.pop()
    for number, port in enumerate(ports):
        home = folder / f"proxy-{number}"
        home.mkdir()
        (home / "config.yaml").write_text(config_of(setup, home, model, url))
        command = [sys.executable, "-m", "proxy.cli", "serve", "--config"]
        command += [str(home / "config.yaml"), "--port", str(port)]
        proxy = stack.enter_context(serving(cores.servers, command, port=port, path="/health"))
        servers["proxies"].append(proxy.pid)
        if setup.workers > 1:  # one of them answers; others may still be starting
            time.sleep(proxy.ready_seconds)
        if not urls or setup.database == "SQLite":
            urls.append(f"sqlite:///{home / 'bench.db'}")
    if not setup.has_balancer:
        return Running(ports[0], ports, servers, urls)
    file = folder / "haproxy.cfg"
    settings = balancer_config(setup.proxies)
    if not setup.reuses_connections:
        settings = settings.replace("http-reuse safe", "option http-server-close")
    file.write_text(settings)
    environment = balancer_environment(balancer, ports)
    command = [needs.find("haproxy"), "-db", "-f", str(file)]
    haproxy = stack.enter_context(
        serving(cores.servers, command, port=balancer, path="/health", environment=environment)
    )
    servers["HAProxy"] = [haproxy.pid]
    return Running(balancer, ports, servers, urls)


def measure(running: Running, requests: Iterable[bytes], *, clients: int, seconds: float) -> Row:
    """Measure once: CPU µs of a request by kind of server."""
    load = Load(running.port, requests, stream=False)
    before, started = running.cpu_seconds(), time.monotonic()
    uvloop.run(load.run(clients, seconds))
    elapsed = time.monotonic() - started
    time.sleep(SETTLE_SECONDS)
    after = running.cpu_seconds()
    row = {kind: (after[kind] - before[kind]) / load.answers * 1e6 for kind in after}
    return row | {"answers": load.answers, "per_second": load.answers / elapsed}


def measure_idle(running: Running, processes: int) -> Row:
    """CPU milliseconds a second of one process of a proxy, and of PostgreSQL for it."""
    before = running.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    after = running.cpu_seconds()
    return {
        kind: (after[kind] - before[kind]) / IDLE_SECONDS / processes * 1e3
        for kind in ("proxies", "PostgreSQL")
    }


def connections(running: Running) -> int:
    """The connections of all proxies to PostgreSQL; with PgBouncer, those of the pool."""
    return int(read(running.urls[0], OWN_CONNECTIONS)[0]["number"])


def check_complete(running: Running, answers: int) -> None:
    """Compare the rows and the metrics with the answers. Raises SystemExit if they differ."""
    deadline = time.monotonic() + ROWS_SECONDS
    query = "SELECT count(*) AS number, count(DISTINCT id) AS ids FROM requests"

    def counted() -> tuple[int, int]:
        rows = [read(url, query)[0] for url in running.urls]
        return sum(row["number"] for row in rows), sum(row["ids"] for row in rows)

    while (rows := counted())[0] < answers and time.monotonic() < deadline:
        time.sleep(0.1)
    metrics = sum(sum(count_reasons(port).values()) for port in running.ports)
    if rows != (answers, answers) or metrics != answers:
        raise SystemExit(
            f"{answers} requests were answered; rows, their ids: {rows}, metrics: {metrics}"
        )


def create_key(port: int) -> str:
    """Create an API key as the page does."""
    answer = httpx2.post(
        f"http://127.0.0.1:{port}/api/keys",
        json={"name": "bench"},
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
    )
    answer.raise_for_status()
    key: str = answer.json()["secret"]
    return key


def measure_setup(
    setup: Setup,
    model: Path,
    cores: Cores,
    server: PostgresServer,
    *,
    seconds: float,
    repeats: int,
) -> dict[str, Any]:
    """The medians of a setup, with its connections and memory."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = start(stack, setup, folder, model, cores, server)
        result: dict[str, Any] = {}
        processes = setup.proxies * setup.workers
        if setup.is_idle:
            result["idle_connections"] = connections(running)
            result["idle_ms_per_second"] = measure_idle(running, processes)
        requests = requests_of(setup, create_key(running.ports[0]) if setup.has_issued_key else KEY)
        run = partial(measure, running, requests, clients=setup.clients)
        answers = run(seconds=WARM_SECONDS)["answers"]
        rows = [run(seconds=seconds) for _ in range(repeats)]
        answers += sum(row.pop("answers") for row in rows)
        if setup.database != "SQLite":
            result["connections"] = connections(running)
        check_complete(running, int(answers))
        memory = sum(map(memory_mb, running.servers["proxies"]))
        per_second = statistics.median(row.pop("per_second") for row in rows)
        return result | {
            "answers": int(answers),
            "cpu_us": {kind: statistics.median(row[kind] for row in rows) for kind in rows[0]},
            "memory_mb_per_process": memory / processes,
            "per_second": per_second,
            "processes": processes,
        }


def run_all(
    setups: Mapping[str, Setup], model: Path, *, seconds: float, repeats: int
) -> dict[str, Any]:
    """All measurements, as written to the JSON file."""
    cores = share_cores()
    results: dict[str, Any] = {
        "machine": describe_machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": seconds,
        "repeats": repeats,
        "setups": {},
    }
    with ExitStack() as stack:
        os.sched_setaffinity(0, cores.servers)  # PostgreSQL inherits it
        server = stack.enter_context(PostgresServer())
        os.sched_setaffinity(0, {cores.load})
        stack.enter_context(serving({cores.load}, [*SELF, "--upstream"], port=UPSTREAM_PORT))
        for name, setup in setups.items():
            say(name)
            results["setups"][name] = measure_setup(
                setup, model, cores, server, seconds=seconds, repeats=repeats
            )
    return results


# ── The tables ────────────────────────────────────────────────────────────────────────────────


def costs_table(results: Mapping[str, Any]) -> str:
    """CPU of a request by kind of server."""
    kinds = ("proxies", "PostgreSQL", "PgBouncer", "HAProxy")

    def cells(result: Mapping[str, Any]) -> Iterator[str]:
        for kind in kinds:
            yield f"{result['cpu_us'][kind]:,.0f}" if kind in result["cpu_us"] else ""
        yield f"{sum(result['cpu_us'].values()):,.0f}"

    return markdown_table(
        ("CPU µs of a request", *kinds, "sum"),
        ((name, *cells(result)) for name, result in results["setups"].items()),
    )


def processes_table(results: Mapping[str, Any]) -> str:
    """Memory, connections, and the CPU without requests."""
    rows = []
    for name, result in results["setups"].items():
        if "idle_connections" not in result:
            continue
        idle = result["idle_ms_per_second"]
        rows.append(
            (
                name,
                f"{result['processes']}",
                f"{result['memory_mb_per_process']:.0f} MB",
                f"{result['idle_connections'] / result['processes']:.2g}",
                f"{result['connections'] / result['processes']:.2g}",
                f"{MAX_CONNECTIONS}",
                f"{idle['proxies']:.1f} ms",
                f"{idle['PostgreSQL']:.1f} ms",
            )
        )
    head = (
        "for each process", "processes", "memory", "connections, idle", "under load", "at most",
        "its CPU a second, idle", "PostgreSQL's for it",
    )  # fmt: skip
    return markdown_table(head, rows)


def cores_table(results: Mapping[str, Any]) -> str:
    """Cores for 1,000 requests a second, by kind of request."""
    rows = []
    for name, label in (
        ("rate limit and budgets", "the client names the tier"),
        ("routed, repeats", "routed, repeated prompts"),
        ("routed, unique", "routed, new prompts"),
    ):
        if name not in results["setups"]:
            continue
        cpu = results["setups"][name]["cpu_us"]
        cores = {kind: us / 1e3 / FILL for kind, us in cpu.items()}  # of 1,000 requests a second
        rows.append(
            (
                label,
                f"{FILL * 1e6 / cpu['proxies']:,.0f}",
                *(f"{cores[kind]:.2f}" for kind in ("proxies", "PostgreSQL", "HAProxy")),
            )
        )
    head = ("", "requests/s of a core", "cores for 1,000 requests/s: proxies", "PostgreSQL",
            "HAProxy")  # fmt: skip
    return markdown_table(head, rows)


def machine_line(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, Python {machine['python']}, "
        f"{results['date']}; the median of {results['repeats']} times {results['seconds']:g} "
        "seconds; servers on one core, the load on the other. The load average of the machine at "
        f"the start was {machine['load_before']:.1f}."
    )


def fill_in(document: str, results: Mapping[str, Any]) -> str:
    """Replace the tables of the guide."""
    costs = costs_table(results) + "\n\n" + machine_line(results)
    document = put_between(document, "bench-scale: costs", costs)
    document = put_between(document, "bench-scale: cores", cores_table(results))
    return put_between(document, "bench-scale: processes", processes_table(results))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement")
    parser.add_argument(
        "--repeats", type=int, default=3, help="measurements, of which the median is reported"
    )
    parser.add_argument("--only", help="a regular expression: the setups to measure")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument(
        "--out", type=Path, help="write the results as JSON here; setups not measured stay"
    )
    parser.add_argument(
        "--readme", action="store_true", help="update the guide's tables from the saved results"
    )
    arguments = parser.parse_args()
    if arguments.readme:
        text = fill_in(GUIDE.read_text("utf-8"), json.loads(RESULTS.read_text()))
        GUIDE.write_text(text, encoding="utf-8")
        return
    setups = {n: s for n, s in SETUPS.items() if re.search(arguments.only or "", n)}
    try:
        results = run_all(
            setups, arguments.model, seconds=arguments.seconds, repeats=arguments.repeats
        )
    except (NotHere, needs.Missing) as error:
        raise SystemExit(f"{error} (make test-tools)") from None
    if arguments.out:
        merge_into(arguments.out, results)
    print(f"{costs_table(results)}\n\n{processes_table(results)}\n\n{machine_line(results)}")


def merge_into(file: Path, results: dict[str, Any]) -> None:
    """Write the results. Setups that were measured before, and not now, keep theirs."""
    old = json.loads(file.read_text())["setups"] if file.exists() else {}
    merged = old | results["setups"]
    results["setups"] = {name: merged[name] for name in SETUPS if name in merged}
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
