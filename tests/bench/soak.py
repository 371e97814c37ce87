"""Soak test: mixed traffic for a long time. Checks for leaks, lost rows and stuck requests.

    make soak             # or: python tests/bench/soak.py --minutes 30 --out data/results/soak.json

`hybrid-llm serve` with the shipped router model runs between two upstreams and many clients of
support/traffic.py. Meanwhile its configuration is edited, sometimes with errors, and each tier is
down for a while in turns. At the end the client's view, the row and the metrics of every request
must agree, and memory must not have grown.

The exit status is 1 when a check fails. Needs Linux (/proc). The load is moderate, about 30
requests a second: this measures endurance, tests/bench/bench.py speed.
"""

import argparse
import asyncio
import itertools
import json
import math
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
from live import LOCAL_MODEL, Row, Samples, chat_body, check_agreement
from proxy import __version__
from served import Served, ask
from traffic import DEADLINE_SECONDS, MAX_BODY_MB, Client, Ledger, Script, judge

REQUEST_SECONDS: Final = 6.0  # server.request_timeout_seconds
PHASE_SECONDS: Final = 1.0  # upstreams.*.timeouts
QUIET_SECONDS: Final = 2.0  # without new requests, after which all are counted
POLL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 10.0
MAX_SHOWN: Final = 20  # failures; one bug may show in every row
DOWN_EVERY_SECONDS, DOWN_SECONDS = 40.0, 6.0
EDIT_SECONDS, EDITS = 60.0, 10  # an edit a minute, more often in runs with less than ten

# Limits of memory growth after the first third, in which memory settles. In minutes, 20 MB are
# noise.
LONG_MINUTES, MAX_MB_PER_HOUR, MAX_MB_GROWN = 10.0, 10.0, 20.0
MAX_FILES_OPENED: Final = 15
BLOCKS: Final = 20

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


class Watch:
    """Samples the process and its /health once a second."""

    def __init__(
        self,
        proxy: Served,
        upstreams: list[FakeUpstream],
        ledger: Ledger,
        on_sample: Callable[[Sample], None],
    ) -> None:
        self._proxy = proxy
        self._upstreams = upstreams
        self._ledger = ledger
        self._on_sample = on_sample
        self.started = time.monotonic()
        self.samples: list[Sample] = []

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


def trend(x: list[float], y: list[float]) -> tuple[float, float]:
    """The slope by least squares, and its standard error.

    Over the means of BLOCKS blocks: samples are autocorrelated, so the error over single samples
    would be far too small.
    """
    size = max(1, len(x) // BLOCKS)
    starts = range(0, len(x) - size + 1, size)
    x, y = (
        [statistics.fmean(values[start : start + size]) for start in starts] for values in (x, y)
    )
    slope, intercept = statistics.linear_regression(x, y)
    residuals = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return slope, math.sqrt(residuals / (len(x) - 2) / spread)


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
    per_hour = trend([sample.seconds / 3600 for sample in settled], memory)
    per_1000 = trend([sample.requests / 1000 for sample in settled], memory)
    first, last = settled[0], settled[-1]
    cpu = (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds)
    return {
        "rss_mb": stages("rss_mb"),
        "rss_mb_each_minute": [round(sample.rss_mb, 1) for sample in samples[::60]],
        "rss_mb_per_hour": dict(zip(("slope", "error"), per_hour, strict=True)),
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


def check_log(log: bytes, ledger: Ledger) -> None:
    """The log has no errors but those of the invalid configurations."""
    for line in log.decode(errors="replace").splitlines():
        _, level, text = (*line.split(" ", 3)[1:], "", "", "")[:3]
        if line.startswith("Traceback") or (
            level in ("ERROR", "CRITICAL") and not text.startswith("reload failed")
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
    memory, files = results["rss_mb"], results["open_files"]
    slope, error = results["rss_mb_per_hour"].values()
    if results["minutes"] < LONG_MINUTES:
        if memory["end"] - memory["warm"] > MAX_MB_GROWN:
            yield f"memory grew by {memory['end'] - memory['warm']:.1f} MB"
    elif slope > MAX_MB_PER_HOUR and slope > 2 * error:
        yield f"memory grows by {slope:.1f} ± {error:.1f} MB an hour"
    if files["end"] - files["warm"] > MAX_FILES_OPENED:
        yield f"{files['end'] - files['warm']:g} more files are open"


# --- the run ---


def configuration() -> dict[str, Any]:
    timeouts = dict.fromkeys(("connect", "first_token", "idle"), PHASE_SECONDS)
    return {
        "server": {"max_body_mb": MAX_BODY_MB, "request_timeout_seconds": REQUEST_SECONDS},
        "upstreams": {
            "local": {"timeouts": timeouts, "max_concurrency": 8},
            "cloud": {"timeouts": timeouts},
        },
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
    folder: Path, *, minutes: float, clients: int, seed: int, on_sample: Callable[[Sample], None]
) -> dict[str, Any]:
    """Run the soak test; `failures` has the failed checks."""
    ledger = Ledger()
    scripts = [Script(random.Random(f"{seed} {tier}")) for tier in ("local", "cloud")]
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer, cloud.answer = scripts
        imitate_ollama(local)
        async with Served(folder, local, cloud, changes=configuration()) as proxy:
            watch = Watch(proxy, [local, cloud], ledger, on_sample)
            operator = Operator(proxy, random.Random(f"{seed} operator"), ledger)
            watch.samples.append(await watch.look())
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run(stop))
                tasks.create_task(cause_outages(stop, scripts))
                every = min(EDIT_SECONDS, minutes * 60 / EDITS)
                tasks.create_task(operator.run(stop, every_seconds=every))
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
            rows = proxy.query(f"select {COLUMNS} from requests")
            if proxy.query("pragma integrity_check") != [{"integrity_check": "ok"}]:
                ledger.wrong["the database is damaged"] += 1
            check_log(proxy.log, ledger)

    def count(column: str) -> dict[str, int]:
        return dict(Counter(row[column] or "none" for row in rows).most_common())

    results: dict[str, Any] = {
        "version": __version__,
        "minutes": minutes,
        "seconds": round(seconds, 1),
        "clients": clients,
        "seed": seed,
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

    def slope(name: str) -> str:
        return "{slope:+.2f} ± {error:.2f} MB".format_map(results[name])

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
    table.add_row("… per hour", slope("rss_mb_per_hour"))
    table.add_row("… per 1,000 requests", slope("rss_mb_per_1000_requests"))
    table.add_row("open files", numbers(results["open_files"], "g"))
    table.add_row("threads", numbers(results["threads"], "g"))
    table.add_row("cores in use", f"{results['cores_used']:.2f}")
    table.add_row("/health, ms", numbers(results["health_ms"], ".1f"))
    table.add_row("good answers, ms", numbers(results["latency_ms"], ".0f"))
    own = f"{results['overhead_ms']:.1f}, of which the decision {results['decision_ms']:.1f}"
    table.add_row("overhead, ms", own)
    table.add_row("exit status", str(results["exit_status"]))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="at least 0.5")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--out", type=Path, help="write the results as JSON here")
    parser.add_argument("--keep", type=Path, help="copy configuration, database and log here")
    arguments = parser.parse_args()
    if arguments.minutes < 0.5:
        parser.error("--minutes: must be at least 0.5")
    machine = describe_machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        progress(arguments.minutes * 60) as on_sample,
    ):
        results = asyncio.run(
            soak(
                Path(folder),
                minutes=arguments.minutes,
                clients=arguments.clients,
                seed=arguments.seed,
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
