"""Soak test: mixed traffic for a long time. Checks for leaks, lost rows and stuck requests.

    make soak MINUTES=480 [DATABASE=postgresql]
    python tests/bench/soak.py --minutes 30 [--postgresql] --out data/results/soak.json

`hybrid-llm serve` with the shipped router model runs between two upstreams and many clients of
support/traffic.py. Meanwhile its configuration is edited, sometimes with errors, and each tier is
down for a while in turns. Its wall clock runs faster, so that two days pass: the day's budget
begins again at midnight, and retention deletes old rows every hour of that clock. With
`--postgresql` the database crashes and starts again from time to time.

At the end the client's view, the row and the metrics of every request must agree, the rollups must
match the rows, and nothing must have grown: see `slopes.LIMITS`.

The exit status is 1 when a check fails. Needs Linux (/proc). The load is moderate, about 30
requests a second: this measures endurance, tests/bench/bench.py speed.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import describe_machine
from fakes import FakeUpstream, whole
from fast_clock import fast_clock
from live import LOCAL_MODEL, Row, Samples, chat_body, check_agreement
from postgres import PostgresServer
from proxy import __version__
from proxy.record import DAY_SECONDS, HOUR_SECONDS, CallRecord
from proxy.storage import Maintenance, StoreUnavailable
from served import Served, ask
from slopes import Series, exceeded, measure, trend
from stored import config_of, fill, finished, integrity_errors, read
from traffic import DEADLINE_SECONDS, MAX_BODY_MB, PROBE, Client, Ledger, Script, judge

FAST_CLOCK: Final = Path(__file__).parents[1] / "support" / "fast_clock.py"

REQUEST_SECONDS: Final = 6.0  # server.request_timeout_seconds
PHASE_SECONDS: Final = 1.0  # upstreams.*.timeouts
QUIET_SECONDS: Final = 2.0  # without new requests, after which all are counted
POLL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 10.0
MAX_SHOWN: Final = 20  # failures; one bug may show in every row
DOWN_EVERY_SECONDS, DOWN_SECONDS = 40.0, 6.0
EDIT_SECONDS, EDITS = 60.0, 10  # an edit a minute, more often in runs with less than ten

DAYS: Final = 2.0  # that pass during a run, by the proxy's clock
RETENTION_DAYS: Final = 7.0
OLD_ROWS: Final = 20_000  # before the run, of the four days in whose middle retention begins
RESTART_SECONDS, RESTARTS = 300.0, 4  # of the database, more often in short runs
PROBE_SECONDS: Final = 0.5
SLOW_SAMPLE_SECONDS: Final = 5.0  # of the database and the budget
MAX_FILES_OPENED: Final = 15
# What the log may say while the database is down.
DATABASE_DOWN: Final = (
    "cannot write rows, will retry", "today's cloud spend is unknown",
    "cannot look up", "responses wait to be written",
)  # fmt: skip

# Endings that must occur, or the run did not test them.
ENDINGS: Final = ("ok", "rejected", "upstream_error", "timeout", "client_gone")
COLUMNS: Final = (
    "id, endpoint, target, reason, status, ending, input_tokens, cached_input_tokens, "
    "output_tokens, cost_usd, saved_usd, score, merit, ttft_ms, fallback_from, discarded_tokens, "
    "second_look, second_look_ms"
)


# --- operators ---


class Operator:
    """Edits the configuration, sometimes with errors, and checks that it is applied or rejected."""

    def __init__(self, proxy: Served, rng: random.Random, ledger: Ledger) -> None:
        self._proxy = proxy
        self._dice = rng
        self._ledger = ledger
        self.taken_up = 0
        self.refused = 0

    async def run(self, stop: asyncio.Event, *, every_seconds: float) -> None:
        for edit in itertools.cycle((self._edit, self._edit_wrongly, self._edit)):
            if await happens(stop, every_seconds):
                return
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await edit()
            except (TimeoutError, ConnectionError):
                self._ledger.wrong["an edit of the configuration was not noticed"] += 1

    async def _edit(self) -> None:
        """Change the threshold, which answers report, and a price, which rebuilds the tier."""
        threshold = f"{self._dice.uniform(0.2, 0.8):.4f}"
        price = {"output": self._dice.uniform(0.3, 0.9)}
        self._proxy.configure(
            {"routing": {"threshold": float(threshold)}, "upstreams": {"cloud": {"price": price}}}
        )
        if self._dice.random() < 0.5:
            self._proxy.signal(signal.SIGHUP)
        while True:
            if await self._threshold_in_use() == threshold:
                break
            await asyncio.sleep(POLL_SECONDS)
        await self._last_reload_was(1)
        self.taken_up += 1

    async def _threshold_in_use(self) -> str | None:
        """The threshold of a new request, which has a row like all others."""
        answer = await ask(self._proxy.port, chat_body())
        self._ledger.made["stays"] += 1
        self._ledger.note(answer.head, judge(answer.head, answer.body))
        return answer.head.headers.get("x-router-threshold")

    async def _edit_wrongly(self) -> None:
        good = self._proxy.config_file.read_text()
        self._proxy.config_file.write_text(good.replace('"threshold"', '"treshold"'))
        try:
            await self._last_reload_was(0)
        finally:
            self._proxy.config_file.write_text(good)
        self.refused += 1

    async def _last_reload_was(self, successful: int) -> None:
        while True:
            samples = await self._proxy.scrape()
            if samples("router_config_last_reload_successful") == successful:
                break
            await asyncio.sleep(POLL_SECONDS)


async def cause_outages(stop: asyncio.Event, scripts: list[Script]) -> None:
    """Take down one tier after the other for a while, never both."""
    for script in itertools.cycle(scripts):
        if await happens(stop, DOWN_EVERY_SECONDS):
            return
        script.down = True
        await happens(stop, DOWN_SECONDS)
        script.down = False


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event with a timeout; return whether it happened."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


# --- measurements ---


class Sample(NamedTuple):
    """A sample of the process."""

    seconds: float
    requests: int
    rss_mb: float
    files: int
    threads: int
    cpu_seconds: float
    health_ms: float


class Days:
    """The proxy's wall clock, which is faster, and what must happen on its days.

    Attributes:
        midnights_seen: how often the spent budget began again.
    """

    def __init__(self, minutes: float) -> None:
        self.speed = DAYS * DAY_SECONDS / (minutes * 60)
        # From noon on, two midnights pass.
        self.start = time.time() // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS / 2
        self.midnights_seen = 0
        self._clock: Callable[[], float] = lambda: self.start
        self._spent: list[tuple[float, float]] = []  # by the clock

    def begin(self) -> None:
        """Start the clock."""
        self._clock = fast_clock(self.start, self.speed)

    def now(self) -> float:
        return self._clock()

    def see_spent(self, usd: float) -> None:
        if self._spent and usd < self._spent[-1][1]:
            self.midnights_seen += 1
        self._spent.append((self.now(), usd))

    @property
    def midnights_passed(self) -> int:
        """Between the first and the last look at the spent budget."""
        first, last = self._spent[0][0], self._spent[-1][0]
        return int(last // DAY_SECONDS) - int(first // DAY_SECONDS)

    @property
    def command(self) -> list[str | Path]:
        """The proxy's program with this clock."""
        return [sys.executable, FAST_CLOCK, repr(self.now()), repr(self.speed)]

    def old_rows(self) -> list[CallRecord]:
        """Rows that retention deletes, during the whole run."""
        first = self.start - (RETENTION_DAYS + DAYS) * DAY_SECONDS
        return [
            finished(created_at=first + 2 * DAYS * DAY_SECONDS * number / OLD_ROWS)
            for number in range(OLD_ROWS)
        ]


class Database:
    """The database of the proxy, and its restarts."""

    def __init__(self, url: str, server: PostgresServer | None) -> None:
        self.url = url
        self.restarts = 0
        self._server = server

    async def run(self, stop: asyncio.Event, *, every_seconds: float) -> None:
        """Crash and start a PostgreSQL from time to time. Rows wait for it."""
        while self._server is not None and not await happens(stop, every_seconds):
            await asyncio.to_thread(self._server.restart)
            self.restarts += 1

    def size_mb(self) -> float | None:
        """None while it is down."""
        try:
            with Maintenance.open(config_of(self.url)) as maintenance:
                return maintenance.size_bytes() / 1e6
        except StoreUnavailable:
            return None

    def read(self, sql: str) -> list[Row]:
        return read(self.url, sql)

    def problems(self) -> list[str]:
        return integrity_errors(self.url)


class Watch:
    """Samples the process and its /health once a second, and its database more rarely.

    Attributes:
        series: of `slopes.LIMITS`.
    """

    def __init__(
        self,
        proxy: Served,
        upstreams: list[FakeUpstream],
        ledger: Ledger,
        on_sample: Callable[[Sample], None],
        *,
        database: Database,
        days: Days,
    ) -> None:
        self._proxy = proxy
        self._upstreams = upstreams
        self._ledger = ledger
        self._on_sample = on_sample
        self._database = database
        self._days = days
        self.started = time.monotonic()
        self.samples: list[Sample] = []
        self.probes_ms: list[tuple[float, float]] = []
        self.database_mb: list[tuple[float, float]] = []

    async def run(self, stop: asyncio.Event) -> None:
        while not await happens(stop, 1.0):
            if not self._proxy.runs:
                self._ledger.wrong["the proxy ended by itself"] += 1
                stop.set()
                return
            self.samples.append(await self.look())
            self._on_sample(self.samples[-1])
            for upstream in self._upstreams:
                upstream.calls.clear()  # else this process would leak

    async def probe(self, stop: asyncio.Event) -> None:
        """Time requests for the cloud that its upstream answers at once."""
        body = chat_body(text=PROBE, model="cloud")
        while not await happens(stop, PROBE_SECONDS):
            started = time.perf_counter()
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    answer = await ask(self._proxy.port, body)
            except (TimeoutError, ConnectionError):
                self._ledger.wrong["a probe was not answered"] += 1
                continue
            ms = (time.perf_counter() - started) * 1e3
            self._ledger.made["probes"] += 1
            self._ledger.note(answer.head, judge(answer.head, answer.body))
            if answer.head.status == 200:  # refused at once while the circuit breaker is open
                self.probes_ms.append((time.monotonic() - self.started, ms))

    async def watch_days(self, stop: asyncio.Event) -> None:
        """Sample the spent budget and the size of the database."""
        while not await happens(stop, SLOW_SAMPLE_SECONDS):
            samples = await self._proxy.scrape()
            self._days.see_spent(samples("router_budget_spent_usd"))
            size = await asyncio.to_thread(self._database.size_mb)
            if size is not None:
                self.database_mb.append((time.monotonic() - self.started, size))

    @property
    def series(self) -> dict[str, Series]:
        def of(name: str) -> Series:
            return [(sample.seconds, getattr(sample, name)) for sample in self.samples]

        return {
            "memory": of("rss_mb"),
            "open_files": of("files"),
            "threads": of("threads"),
            "cloud_p50": self.probes_ms,
            "cloud_p99": self.probes_ms,
            "database": self.database_mb,
        }

    async def look(self) -> Sample:
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await ask(self._proxy.port, path="/health")
        except (TimeoutError, ConnectionError):
            self._ledger.wrong["/health was not answered"] += 1
        health_ms = (time.perf_counter() - asked) * 1e3
        seconds = time.monotonic() - self.started
        return Sample(
            seconds,
            self._ledger.requests,
            *read_process(self._proxy.pid),
            health_ms=health_ms,
        )


def read_process(pid: int) -> tuple[float, int, int, float]:
    """Resident memory in MB, open files, threads, and CPU seconds."""
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    ticks = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    return (
        int(fields["VmRSS"]) / 1024,
        sum(1 for _ in (folder / "fd").iterdir()),
        int(fields["Threads"]),
        sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    )


def summarise(samples: list[Sample]) -> dict[str, Any]:
    """Figures after the first third; `warm` and `end` are the first and last tenth of that time."""
    settled = samples[len(samples) // 3 :]
    tenth = max(1, len(settled) // 10)

    def stages(name: str) -> dict[str, float]:
        def median(some: list[Sample]) -> float:
            return float(statistics.median(getattr(sample, name) for sample in some))

        return {
            "start": getattr(samples[0], name),
            "warm": median(settled[:tenth]),
            "end": median(settled[-tenth:]),
            "max": max(getattr(sample, name) for sample in samples),
        }

    memory = [sample.rss_mb for sample in settled]
    per_1000 = trend([sample.requests / 1000 for sample in settled], memory)
    first, last = settled[0], settled[-1]
    cpu = (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds)
    return {
        "rss_mb": stages("rss_mb"),
        "rss_mb_each_minute": [round(sample.rss_mb, 1) for sample in samples[::60]],
        "rss_mb_per_1000_requests": dict(zip(("slope", "error"), per_1000, strict=True)),
        "open_files": stages("files"),
        "threads": stages("threads"),
        "cores_used": cpu,
        "health_ms": quantiles([sample.health_ms for sample in samples]),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(values)}


# --- checks ---


async def settle(proxy: Served, ledger: Ledger) -> Samples:
    """Wait until no request is running; return the metrics."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    counted, since = -1.0, time.monotonic()
    while True:
        samples = await proxy.scrape()
        held = int(samples("router_in_flight"))
        if held or samples("router_requests_total") != counted:
            counted, since = samples("router_requests_total"), time.monotonic()
        if time.monotonic() - since >= QUIET_SECONDS:
            return samples
        if time.monotonic() > deadline:
            ledger.wrong["upstream calls are open after all clients disconnected"] += held
            return samples
        await asyncio.sleep(POLL_SECONDS)


def compare(rows: list[Row], samples: Samples, ledger: Ledger) -> dict[str, int]:
    """Compare the clients' view, rows and metrics."""
    by_id = {row["id"]: row for row in rows}
    lost = len(ledger.seen.keys() - by_id.keys())
    # Requests whose id no client has seen. Only reset ones may not have been read.
    unread = ledger.unseen + ledger.unseen_reset - len(by_id.keys() - ledger.seen.keys())
    lost += max(0, unread - ledger.unseen_reset)
    ledger.wrong["rows are lost"] += lost
    ledger.wrong["ids have more than one row"] += len(rows) - len(by_id)
    ledger.wrong["rows belong to no request"] += max(0, -unread)
    for request_id in ledger.seen.keys() & by_id.keys():
        seen, row = ledger.seen[request_id], by_id[request_id]
        if seen[:3] != (row["status"], row["target"], row["reason"]) or (
            seen.verdict != "left" and (seen.verdict == "ok") != (row["ending"] == "ok")
        ):
            recorded = (row["status"], row["target"], row["reason"], row["ending"])
            ledger.wrong[f"a client saw {tuple(seen)}, its row has {recorded}"] += 1
    try:
        check_agreement(rows, samples)
    except AssertionError as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line
        ledger.wrong[f"rows and metrics do not agree: {line}"] += 1
    return {
        "rows": len(rows),
        "rows_lost": lost,
        "resets_before_read": max(0, min(unread, ledger.unseen_reset)),
        "requests_stuck": ledger.stuck,
    }


def check_log(log: bytes, ledger: Ledger, *, restarts: int) -> None:
    """The log has no errors but those of the invalid configurations, and of restarts."""
    expected = ("reload failed", *(DATABASE_DOWN if restarts else ()))
    for line in log.decode(errors="replace").splitlines():
        _, level, text = (*line.split(" ", 3)[1:], "", "", "")[:3]
        if line.startswith("Traceback") or (
            level in ("ERROR", "CRITICAL") and not any(part in text for part in expected)
        ):
            ledger.wrong[f"the log says: {text or line}"] += 1


def failures(results: dict[str, Any], ledger: Ledger) -> Iterator[str]:
    """All failed checks, a line for each."""
    for message, number in ledger.wrong.items():
        if number:
            yield f"{message} ({number}×)"
    if ledger.stuck:
        yield f"{ledger.stuck} clients waited for more than {DEADLINE_SECONDS:g} seconds"
    if results["exit_status"]:
        yield f"the exit status is {results['exit_status']}"
    for ending in ENDINGS:
        if not results["by_ending"].get(ending):
            yield f"no request ended as {ending}"
    for outcome, number in results["edits"].items():
        if not number:
            yield f"no configuration was {outcome.replace('_', ' ')}"
    files = results["open_files"]
    if files["end"] - files["warm"] > MAX_FILES_OPENED:
        yield f"{files['end'] - files['warm']:g} more files are open"
    yield from exceeded(results["slopes"], minutes=results["minutes"])
    days = results["days"]
    if days["old_rows_deleted"] == 0 or days["old_rows_overdue"]:
        yield f"retention deleted {days['old_rows_deleted']}, not {days['old_rows_overdue']}"
    if days["midnights_seen"] != days["midnights_passed"] or not days["midnights_seen"]:
        yield (
            f"the budget began again {days['midnights_seen']} times, "
            f"midnight passed {days['midnights_passed']} times"
        )
    if results["postgresql"] and not results["restarts"]:
        yield "the database was never restarted"


# --- the run ---


def configuration(url: str) -> dict[str, Any]:
    timeouts = dict.fromkeys(("connect", "first_token", "idle"), PHASE_SECONDS)
    return {
        "server": {"max_body_mb": MAX_BODY_MB, "request_timeout_seconds": REQUEST_SECONDS},
        "upstreams": {
            "local": {"timeouts": timeouts, "max_concurrency": 8},
            "cloud": {"timeouts": timeouts},
        },
        "budget": {"cloud_usd_per_day": 1_000.0},  # never spent
        "storage": {"url": url, "retention_days": RETENTION_DAYS},
    }


def imitate_ollama(upstream: FakeUpstream) -> None:
    """Make an upstream answer Ollama's endpoints about its model."""
    documents = {
        "version": {"version": "0.33.0"},
        "show": {"capabilities": ["completion"], "model_info": {"phi3.context_length": 131072}},
        "ps": {"models": [{"name": LOCAL_MODEL, "context_length": 4096}]},
    }
    for name, document in documents.items():
        upstream.native[f"/api/{name}"] = whole(json.dumps(document).encode())


async def soak(
    folder: Path,
    *,
    minutes: float,
    clients: int,
    seed: int,
    server: PostgresServer | None,
    url: str,
    on_sample: Callable[[Sample], None],
) -> dict[str, Any]:
    """Run the soak test; `failures` has the failed checks."""
    ledger, days, database = Ledger(), Days(minutes), Database(url, server)
    fill(url, days.old_rows())
    scripts = [Script(random.Random(f"{seed} {tier}")) for tier in ("local", "cloud")]
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer, cloud.answer = scripts
        imitate_ollama(local)
        days.begin()
        async with Served(
            folder, local, cloud, changes=configuration(url), command=days.command
        ) as proxy:
            watch = Watch(proxy, [local, cloud], ledger, on_sample, database=database, days=days)
            operator = Operator(proxy, random.Random(f"{seed} operator"), ledger)
            watch.samples.append(await watch.look())
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run(stop))
                tasks.create_task(watch.probe(stop))
                tasks.create_task(watch.watch_days(stop))
                tasks.create_task(cause_outages(stop, scripts))
                every = min(EDIT_SECONDS, minutes * 60 / EDITS)
                tasks.create_task(operator.run(stop, every_seconds=every))
                every = min(RESTART_SECONDS, minutes * 60 / (RESTARTS + 1))
                tasks.create_task(database.run(stop, every_seconds=every))
                for number in range(clients):
                    client = Client(proxy.port, random.Random(f"{seed} {number}"), ledger)
                    tasks.create_task(client.run(stop))
                await happens(stop, minutes * 60)
                stop.set()
            if not proxy.runs:
                raise SystemExit(f"The proxy ended by itself:\n{proxy.log[-5000:].decode()}")
            seconds = time.monotonic() - watch.started
            samples = await settle(proxy, ledger)
            idle = await watch.look()
            exit_status = await proxy.stop()
            began, due = days.start, days.now() - (RETENTION_DAYS * DAY_SECONDS + 2 * HOUR_SECONDS)
            rows = database.read(f"SELECT {COLUMNS} FROM requests WHERE created_at >= {began}")
            old = database.read(f"SELECT created_at FROM requests WHERE created_at < {began}")
            for problem in database.problems():
                ledger.wrong[f"hybrid-llm db check: {problem}"] += 1
            check_log(proxy.log, ledger, restarts=database.restarts)

    def count(column: str) -> dict[str, int]:
        return dict(Counter(row[column] or "none" for row in rows).most_common())

    results: dict[str, Any] = {
        "version": __version__,
        "minutes": minutes,
        "seconds": round(seconds, 1),
        "clients": clients,
        "seed": seed,
        "postgresql": server is not None,
        "restarts": database.restarts,
        "requests": ledger.requests,
        "requests_per_second": ledger.requests / seconds,
        **compare(rows, samples, ledger),
        "by_ending": count("ending"),
        "by_reason": count("reason"),
        "by_target": count("target"),
        "by_upstream_answer": dict(
            sum((script.answers for script in scripts), Counter()).most_common()
        ),
        "by_client": dict(ledger.made.most_common()),
        "edits": {"taken_up": operator.taken_up, "refused": operator.refused},
        "latency_ms": quantiles(ledger.latencies_ms),
        "overhead_ms": mean_ms(samples, "router_overhead_seconds"),
        "decision_ms": mean_ms(samples, "router_decision_seconds"),
        "probes": len(watch.probes_ms),
        "probe_ms": quantiles([ms for _, ms in watch.probes_ms]),
        "slopes": measure(watch.series),
        "days": {
            "passed": round(seconds * days.speed / DAY_SECONDS, 2),
            "midnights_passed": days.midnights_passed,
            "midnights_seen": days.midnights_seen,
            "old_rows_deleted": OLD_ROWS - len(old),
            "old_rows_overdue": sum(row["created_at"] < due for row in old),
        },
        **summarise(watch.samples),
        "exit_status": exit_status,
    }
    results["open_files"]["idle"] = idle.files
    results["failures"] = list(failures(results, ledger))
    return results


def mean_ms(samples: Samples, name: str) -> float:
    return samples(f"{name}_sum") / max(1.0, samples(f"{name}_count")) * 1e3


# --- output ---


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[Sample], None]]:
    """A progress bar on a terminal, else a line from time to time."""
    console = Console(stderr=True)

    def describe(sample: Sample) -> str:
        return (
            f"{sample.requests:,} requests, {sample.rss_mb:.1f} MB, {sample.files} files, "
            f"{sample.threads} threads"
        )

    if console.is_terminal:
        columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("", total=seconds)
            yield lambda sample: bar.update(
                task, completed=sample.seconds, description=describe(sample)
            )
        return
    due = PROGRESS_SECONDS

    def say(sample: Sample) -> None:
        nonlocal due
        if sample.seconds >= due:
            due += PROGRESS_SECONDS
            text = f"{sample.seconds:.0f} of {seconds:.0f} s: {describe(sample)}"
            print(text, file=sys.stderr, flush=True)

    yield say


def as_table(results: dict[str, Any]) -> Table:
    def numbers(values: dict[str, Any], form: str = ",") -> str:
        return ", ".join(f"{name} {value:{form}}" for name, value in values.items())

    def slope(found: dict[str, Any]) -> str:
        return "{slope:+.2f} ± {error:.2f} {unit}, limit {limit:g}".format_map(found)

    table = Table(title="Soak", title_justify="left", show_header=False)
    rate = results["requests_per_second"]
    table.add_row("time", f"{results['minutes']:g} minutes, {results['clients']} clients")
    table.add_row("requests", f"{results['requests']:,}, {rate:.1f} a second")
    table.add_row("ending", numbers(results["by_ending"]))
    table.add_row("reason", numbers(results["by_reason"]))
    table.add_row("target", numbers(results["by_target"]))
    table.add_row(
        "rows",
        f"{results['rows']:,}; lost {results['rows_lost']}; "
        f"{results['resets_before_read']} requests were reset before they were read",
    )
    table.add_row("stuck", str(results["requests_stuck"]))
    table.add_row("edits", numbers(results["edits"]))
    table.add_row("memory, MB", numbers(results["rss_mb"], ".1f"))
    per_1000 = results["rss_mb_per_1000_requests"]
    table.add_row("… per 1,000 requests", "{slope:+.2f} ± {error:.2f} MB".format_map(per_1000))
    table.add_row("open files", numbers(results["open_files"], "g"))
    table.add_row("threads", numbers(results["threads"], "g"))
    table.add_row("cores in use", f"{results['cores_used']:.2f}")
    table.add_row("/health, ms", numbers(results["health_ms"], ".1f"))
    table.add_row("good answers, ms", numbers(results["latency_ms"], ".0f"))
    own = f"{results['overhead_ms']:.1f}, of which the decision {results['decision_ms']:.1f}"
    table.add_row("overhead, ms", own)
    table.add_row("forced to the cloud, ms", numbers(results["probe_ms"], ".1f"))
    for name, found in results["slopes"].items():
        table.add_row(f"{name.replace('_', ' ')} grows", slope(found))
    table.add_row("days", numbers(results["days"], "g"))
    table.add_row("restarts of the database", str(results["restarts"]))
    table.add_row("exit status", str(results["exit_status"]))
    return table


def report(file: Path) -> str:
    """A Markdown table of the slopes in a result."""
    results = json.loads(file.read_text(encoding="utf-8"))
    lines = ["| after the first third | growth | limit |", "|---|---:|---:|"]
    for name, found in results["slopes"].items():
        growth = "{slope:+.2f} ± {error:.2f} {unit}".format_map(found)
        lines.append(f"| {name.replace('_', ' ')} | {growth} | {found['limit']:g} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="at least 0.5")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--postgresql", action="store_true", help="on one that is restarted")
    parser.add_argument("--out", type=Path, help="write the results as JSON here")
    parser.add_argument("--keep", type=Path, help="copy configuration, database and log here")
    parser.add_argument("--report", type=Path, help="print a table of this result instead")
    arguments = parser.parse_args()
    if arguments.report:
        print(report(arguments.report))
        return
    if arguments.minutes < 0.5:
        parser.error("--minutes: must be at least 0.5")
    machine = describe_machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        progress(arguments.minutes * 60) as on_sample,
        contextlib.ExitStack() as stack,
    ):
        server, url = None, f"sqlite:///{folder}/router.db"
        if arguments.postgresql:
            server = stack.enter_context(PostgresServer())
            url = stack.enter_context(server.new_database())
        results = asyncio.run(
            soak(
                Path(folder),
                minutes=arguments.minutes,
                clients=arguments.clients,
                seed=arguments.seed,
                server=server,
                url=url,
                on_sample=on_sample,
            )
        )
        if arguments.keep:
            shutil.copytree(folder, arguments.keep, dirs_exist_ok=True)
    if arguments.out:
        text = json.dumps({"machine": machine} | results, indent=1)
        arguments.out.write_text(f"{text}\n")
    Console(width=120).print(as_table(results))
    for failure in results["failures"][:MAX_SHOWN]:
        print(f"failed: {failure}", file=sys.stderr)
    if (more := len(results["failures"]) - MAX_SHOWN) > 0:
        print(f"… and {more} more", file=sys.stderr)
    sys.exit(bool(results["failures"]))


if __name__ == "__main__":
    main()
