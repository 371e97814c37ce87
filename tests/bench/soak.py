"""The proxy under mixed traffic for a long time: does it leak, lose a row, or keep anyone waiting?

    make soak             # or: python tests/bench/soak.py --minutes 30 --out data/results/soak.json

`hybrid-llm serve` with the shipped router model runs between two upstreams and many clients that
do all that support/traffic.py knows, while its configuration is edited, now and then wrongly, and
one tier after the other is down for a while. In the end every request must be accounted for: what
its client saw, its row and the metrics say the same; and memory must not have grown.

The exit status is 1 when something does not hold. Needs Linux (/proc). The load is moderate, some
30 requests a second: this measures endurance, tests/bench/bench.py speed.
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
QUIET_SECONDS: Final = 2.0  # so long nothing more is counted once all clients are done
POLL_SECONDS: Final = 0.1
PROGRESS_SECONDS: Final = 10.0
MAX_SHOWN: Final = 20  # of what does not hold; one mistake can be seen in every row
DOWN_EVERY_SECONDS, DOWN_SECONDS = 40.0, 6.0
EDIT_SECONDS, EDITS = 60.0, 10  # an edit a minute, more often in runs with less than ten

# What must hold of memory after the first third, in which it settles. 20 MB are noise in minutes.
LONG_MINUTES, MAX_MB_PER_HOUR, MAX_MB_GROWN = 10.0, 10.0, 20.0
MAX_FILES_OPENED: Final = 15
BLOCKS: Final = 20

# In which all this must have ended some requests, or it was no test of them.
ENDINGS: Final = ("ok", "rejected", "upstream_error", "timeout", "client_gone")
COLUMNS: Final = (
    "id, endpoint, target, reason, status, ending, input_tokens, cached_input_tokens, "
    "output_tokens, cost_usd, saved_usd, score, ttft_ms, fallback_from"
)


# --- what operators do ---


class Operator:
    """Edits the configuration, now and then wrongly, and sees that it is taken up or refused."""

    def __init__(self, proxy: Served, dice: random.Random, ledger: Ledger) -> None:
        self._proxy = proxy
        self._dice = dice
        self._shared_limits = ledger
        self.taken_up = 0
        self.refused = 0

    async def run(self, over: asyncio.Event, *, every_seconds: float) -> None:
        for edit in itertools.cycle((self._edit, self._edit_wrongly, self._edit)):
            if await comes(over, every_seconds):
                return
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await edit()
            except (TimeoutError, ConnectionError):
                self._shared_limits.wrong["an edit of the configuration was not noticed"] += 1

    async def _edit(self) -> None:
        """Another threshold, which answers name, and another price, which makes the tier anew."""
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
        """What an answer says; this is a request like others and has its row."""
        answer = await ask(self._proxy.port, chat_body())
        self._shared_limits.made["stays"] += 1
        self._shared_limits.note(answer.head, judge(answer.head, answer.body))
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


async def let_tiers_fall(over: asyncio.Event, scripts: list[Script]) -> None:
    """One tier after the other is down for a while, never both."""
    for script in itertools.cycle(scripts):
        if await comes(over, DOWN_EVERY_SECONDS):
            return
        script.down = True
        await comes(over, DOWN_SECONDS)
        script.down = False


async def comes(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, so long at most; whether it came."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


# --- what is measured ---


class Sample(NamedTuple):
    """The process at one moment."""

    seconds: float
    requests: int
    rss_mb: float
    files: int
    threads: int
    cpu_seconds: float
    health_ms: float


class Watch:
    """Looks at the process once a second, and asks it how it is."""

    def __init__(
        self,
        proxy: Served,
        upstreams: list[FakeUpstream],
        ledger: Ledger,
        tell: Callable[[Sample], None],
    ) -> None:
        self._proxy = proxy
        self._upstreams = upstreams
        self._shared_limits = ledger
        self._tell = tell
        self.started = time.monotonic()
        self.samples: list[Sample] = []

    async def run(self, over: asyncio.Event) -> None:
        while not await comes(over, 1.0):
            if not self._proxy.runs:
                self._shared_limits.wrong["the proxy ended by itself"] += 1
                over.set()
                return
            self.samples.append(await self.look())
            self._tell(self.samples[-1])
            for upstream in self._upstreams:
                upstream.calls.clear()  # or the leak would be in this process

    async def look(self) -> Sample:
        asked = time.perf_counter()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await ask(self._proxy.port, path="/health")
        except (TimeoutError, ConnectionError):
            self._shared_limits.wrong["/health was not answered"] += 1
        health_ms = (time.perf_counter() - asked) * 1e3
        seconds = time.monotonic() - self.started
        return Sample(
            seconds,
            self._shared_limits.requests,
            *read_process(self._proxy.pid),
            health_ms=health_ms,
        )


def read_process(pid: int) -> tuple[float, int, int, float]:
    """Resident memory in MB, open files, threads, and processor seconds."""
    folder = Path(f"/proc/{pid}")
    status = (folder / "status").read_text()
    found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    ticks = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
    return (
        int(found["VmRSS"]) / 1024,
        sum(1 for _ in (folder / "fd").iterdir()),
        int(found["Threads"]),
        sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    )


def trend(x: list[float], y: list[float]) -> tuple[float, float]:
    """A slope by least squares, and its standard error.

    Over the means of BLOCKS stretches: memory now is much like memory a second ago, and the error
    of single samples would be far too small.
    """
    size = max(1, len(x) // BLOCKS)
    starts = range(0, len(x) - size + 1, size)
    x, y = ([statistics.fmean(one[start : start + size]) for start in starts] for one in (x, y))
    slope, intercept = statistics.linear_regression(x, y)
    rest = sum((b - intercept - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return slope, math.sqrt(rest / (len(x) - 2) / spread)


def summarise(samples: list[Sample]) -> dict[str, Any]:
    """Of the time after the first third; `warm` and `end` are that time's first and last tenth."""
    settled = samples[len(samples) // 3 :]
    tenth = max(1, len(settled) // 10)

    def stages(name: str) -> dict[str, float]:
        def middle(some: list[Sample]) -> float:
            return float(statistics.median(getattr(one, name) for one in some))

        return {
            "start": getattr(samples[0], name),
            "warm": middle(settled[:tenth]),
            "end": middle(settled[-tenth:]),
            "max": max(getattr(one, name) for one in samples),
        }

    memory = [one.rss_mb for one in settled]
    per_hour = trend([one.seconds / 3600 for one in settled], memory)
    per_1000 = trend([one.requests / 1000 for one in settled], memory)
    first, last = settled[0], settled[-1]
    cpu = (last.cpu_seconds - first.cpu_seconds) / (last.seconds - first.seconds)
    return {
        "rss_mb": stages("rss_mb"),
        "rss_mb_each_minute": [round(one.rss_mb, 1) for one in samples[::60]],
        "rss_mb_per_hour": dict(zip(("slope", "error"), per_hour, strict=True)),
        "rss_mb_per_1000_requests": dict(zip(("slope", "error"), per_1000, strict=True)),
        "open_files": stages("files"),
        "threads": stages("threads"),
        "cores_used": cpu,
        "health_ms": quantiles([one.health_ms for one in samples]),
    }


def quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(values)}


# --- what must hold ---


async def settle(proxy: Served, ledger: Ledger) -> Samples:
    """The metrics, once no request is running."""
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
            ledger.wrong["requests hold an upstream though all clients are gone"] += held
            return samples
        await asyncio.sleep(POLL_SECONDS)


def compare(rows: list[Row], samples: Samples, ledger: Ledger) -> dict[str, int]:
    """Hold what clients saw, rows and metrics against each other."""
    by_id = {row["id"]: row for row in rows}
    lost = len(ledger.seen.keys() - by_id.keys())
    # Requests whose id no client has seen. All were read but some of those that were reset.
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
            told = (row["status"], row["target"], row["reason"], row["ending"])
            ledger.wrong[f"a client saw {tuple(seen)}, its row says {told}"] += 1
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
    """Nothing is an error in the log but the configurations that were meant to be refused."""
    for line in log.decode(errors="replace").splitlines():
        _, level, text = (*line.split(" ", 3)[1:], "", "", "")[:3]
        if line.startswith("Traceback") or (
            level in ("ERROR", "CRITICAL") and not text.startswith("reload failed")
        ):
            ledger.wrong[f"the log says: {text or line}"] += 1


def failures(results: dict[str, Any], ledger: Ledger) -> Iterator[str]:
    """Everything that does not hold, a line for each."""
    for what, number in ledger.wrong.items():
        if number:
            yield f"{what} ({number}×)"
    if ledger.stuck:
        yield f"{ledger.stuck} clients waited for more than {DEADLINE_SECONDS:g} seconds"
    if results["exit_status"]:
        yield f"the exit status is {results['exit_status']}"
    for ending in ENDINGS:
        if not results["by_ending"].get(ending):
            yield f"no request ended as {ending}"
    for what, number in results["edits"].items():
        if not number:
            yield f"no configuration was {what.replace('_', ' ')}"
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


def become_ollama(upstream: FakeUpstream) -> None:
    """Answer what a local tier is asked about its model, too."""
    documents = {
        "version": {"version": "0.33.0"},
        "show": {"capabilities": ["completion"], "model_info": {"phi3.context_length": 131072}},
        "ps": {"models": [{"name": LOCAL_MODEL, "context_length": 4096}]},
    }
    for name, document in documents.items():
        upstream.native[f"/api/{name}"] = whole(json.dumps(document).encode())


async def soak(
    folder: Path, *, minutes: float, clients: int, seed: int, tell: Callable[[Sample], None]
) -> dict[str, Any]:
    """The whole run; what does not hold is under `failures`."""
    ledger = Ledger()
    scripts = [Script(random.Random(f"{seed} {tier}")) for tier in ("local", "cloud")]
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer, cloud.answer = scripts
        become_ollama(local)
        async with Served(folder, local, cloud, changes=configuration()) as proxy:
            watch = Watch(proxy, [local, cloud], ledger, tell)
            operator = Operator(proxy, random.Random(f"{seed} operator"), ledger)
            watch.samples.append(await watch.look())
            over = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch.run(over))
                tasks.create_task(let_tiers_fall(over, scripts))
                every = min(EDIT_SECONDS, minutes * 60 / EDITS)
                tasks.create_task(operator.run(over, every_seconds=every))
                for number in range(clients):
                    client = Client(proxy.port, random.Random(f"{seed} {number}"), ledger)
                    tasks.create_task(client.run(over))
                await comes(over, minutes * 60)
                over.set()
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
        "by_upstream_answer": dict(sum((one.answers for one in scripts), Counter()).most_common()),
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


# --- what is shown ---


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[Sample], None]]:
    """A bar on a terminal, a line now and then elsewhere."""
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
    parser.add_argument("--minutes", type=float, default=30.0, help="half a one at least")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument("--out", type=Path, help="keep the results as JSON here")
    parser.add_argument("--keep", type=Path, help="leave configuration, database and log here")
    arguments = parser.parse_args()
    if arguments.minutes < 0.5:
        parser.error("--minutes: too few to say anything")
    machine = describe_machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        progress(arguments.minutes * 60) as tell,
    ):
        results = asyncio.run(
            soak(
                Path(folder),
                minutes=arguments.minutes,
                clients=arguments.clients,
                seed=arguments.seed,
                tell=tell,
            )
        )
        if arguments.keep:
            shutil.copytree(folder, arguments.keep, dirs_exist_ok=True)
    if arguments.out:
        text = json.dumps({"machine": machine} | results, indent=1)
        arguments.out.write_text(f"{text}\n")
    Console(width=120).print(as_table(results))
    for failure in results["failures"][:MAX_SHOWN]:
        print(f"does not hold: {failure}", file=sys.stderr)
    if (more := len(results["failures"]) - MAX_SHOWN) > 0:
        print(f"… and {more} more", file=sys.stderr)
    sys.exit(bool(results["failures"]))


if __name__ == "__main__":
    main()
