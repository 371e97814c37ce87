"""Sizing: cores, memory, database and cost for a request rate, from measurements.

    python tests/bench/sizing.py  # 10, 1,000 and 100,000 requests/s
    python tests/bench/sizing.py --rates 250 --repeats 0.3      # 30 % repeated prompts
    python tests/bench/sizing.py --readme                       # the operators' tables

Measured: the cost of a request (`data/results/bench.json`, by `make bench`) and the rows per second
of a database (`bench_store.json`, `bench_store_postgresql.json`, by `make bench-store`). Simulated:
the utilisation of a worker. Requests arrive at random and queue; each needs the core for the relay
and, if its prompt is new, for a decision whose time grows with its length. Assumed: the prices; set
your own. Not included: the models themselves, which need far more.
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import ROOT, markdown_table, put_between
from load import make_prompts

RESULTS: Final = ROOT / "data" / "results"
GUIDE: Final = ROOT / "docs" / "scaling.md"
RATES: Final = (10, 1_000, 100_000)
USD_PER_CORE_HOUR: Final = 0.05  # about on-demand price of a large cloud, with memory
P99_SECONDS: Final = 0.1  # limit of queueing and decision
FILL: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
_REQUESTS: Final = 100_000
_TEXTS: Final = 4_000
_TOKENS_PER_WORD: Final = 1.06


class Costs(NamedTuple):
    """Measured costs, in seconds of one core and MB.

    Attributes:
        relay: a request without a decision.
        routed: a request of the mix with a decision.
        decision: a decision alone, by number of tokens; with a relay it takes somewhat longer.
        balancer: a request through nginx.
        worker_mb: memory of one worker.
        rows: rows per second, by database.
    """

    relay: float
    routed: float
    decision: Callable[[float], float]
    balancer: float
    worker_mb: float
    rows: Mapping[str, float]


def read_costs(results: Path) -> Costs:
    """Read the results. Raises FileNotFoundError or KeyError if a measurement is missing."""
    bench = json.loads((results / "bench.json").read_text())
    points = sorted(
        (int(tokens), row["mean_ms"] / 1e3)
        for tokens, row in bench["decision"]["ours"].items()
        if tokens.isdigit()
    )
    rows = {}
    for name, file in (
        ("SQLite", "bench_store.json"),
        ("PostgreSQL", "bench_store_postgresql.json"),
    ):
        measured = json.loads((results / file).read_text())
        rows[name] = max(each["written_per_second"] for each in measured["writer"])
    requests = bench["requests"]
    return Costs(
        relay=requests["routed, repeats"]["64"]["cpu_us"] / 1e6,
        routed=requests["routed, unique"]["64"]["cpu_us"] / 1e6,
        decision=lambda tokens: _between(points, tokens),
        balancer=requests["nginx"]["64"]["cpu_us"] / 1e6,
        worker_mb=bench["workers"]["2"]["memory_mb_per_worker"],
        rows=rows,
    )


def _between(points: list[tuple[int, float]], at: float) -> float:
    """Linear interpolation between points, constant outside of them."""
    at = min(max(at, points[0][0]), points[-1][0])
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return points[-1][1]


def service_times(costs: Costs, *, repeats: float, rng: random.Random) -> list[float]:
    """Service times, in seconds of a core, of many requests of the benchmark's mix."""
    lengths = [
        len(prompt.split()) * _TOKENS_PER_WORD for prompt in islice(make_prompts(seed=5), _TEXTS)
    ]
    alone = [costs.decision(length) for length in lengths]
    beside = (costs.routed - costs.relay) / (sum(alone) / len(alone))
    decisions = [seconds * beside for seconds in alone]
    return [
        costs.relay + (0.0 if rng.random() < repeats else rng.choice(decisions))
        for _ in range(_REQUESTS)
    ]


def quantile_at(fill: float, service: list[float], *, rng: random.Random) -> float:
    """The p99 of queueing and service, in seconds, at a worker with utilisation `fill`.

    Lindley's recursion (1952) for one server and random arrivals.
    """
    rate = fill * len(service) / sum(service)
    times = []
    wait = 0.0
    for seconds in service:
        times.append(wait + seconds)
        wait = max(0.0, wait + seconds - rng.expovariate(rate))
    times.sort()
    return times[int(0.99 * len(times))]


class Load(NamedTuple):
    """The capacity of a worker."""

    fill: float
    p99_ms: dict[float, float]  # by utilisation
    per_second: float
    mean_ms: float


def carry(costs: Costs, *, repeats: float) -> Load:
    """Simulate the highest utilisation within the latency limit."""
    rng = random.Random(1)
    service = service_times(costs, repeats=repeats, rng=rng)
    p99 = {fill: quantile_at(fill, service, rng=rng) for fill in FILL}
    allowed = [fill for fill, seconds in p99.items() if seconds <= P99_SECONDS]
    fill = max(allowed, default=FILL[0])
    mean = sum(service) / len(service)
    return Load(fill, {key: 1e3 * value for key, value in p99.items()}, fill / mean, 1e3 * mean)


def size(costs: Costs, load: Load, rates: Iterable[int], *, usd: float) -> list[list[str]]:
    """The rows of the table, one for each rate."""
    rows = []
    for rate in rates:
        workers = math.ceil(rate / load.per_second)
        balancers = math.ceil(rate * costs.balancer / 0.5) if workers > 1 else 0
        databases = math.ceil(rate / costs.rows["PostgreSQL"])
        cores = workers + balancers + (0 if rate <= costs.rows["SQLite"] and workers == 1
                                       else 2 * databases)  # fmt: skip
        rows.append(
            [
                f"{rate:,}",
                f"{workers:,}",
                f"{workers * costs.worker_mb / 1024:,.1f} GB",
                f"{balancers:,}" if balancers else "",
                "SQLite" if workers == 1 else f"{databases:,} PostgreSQL",
                f"{cores * usd / 3600 / rate * 1e6:,.2f} USD",
            ]
        )
    return rows


def tables(costs: Costs, *, rates: Iterable[int], repeats: float, usd: float) -> str:
    load = carry(costs, repeats=repeats)
    fills = markdown_table(
        ["a worker is busy", *(f"{fill:.0%}" for fill in load.p99_ms)],
        [["p99 of waiting and deciding", *(f"{ms:.0f} ms" for ms in load.p99_ms.values())]],
    )
    sizes = markdown_table(
        ["requests/s", "workers, a core each", "their memory", "balancer cores", "database",
         "a million requests"],
        size(costs, load, rates, usd=usd),
    )  # fmt: skip
    postgresql, sqlite = costs.rows["PostgreSQL"], costs.rows["SQLite"]
    summary = (
        f"A request takes {load.mean_ms:.2f} ms of a core in the mean"
        + (f" when {repeats:.0%} of the prompts are known" if repeats else " when all are new")
        + f"; a worker that is busy {load.fill:.0%} of the time carries {load.per_second:,.0f} a "
        f"second. One PostgreSQL takes {postgresql:,.0f} rows a second, an SQLite file "
        f"{sqlite:,.0f}. A core is taken to cost {usd:g} USD an hour; a database has two."
    )
    return f"{fills}\n\n{sizes}\n\n{summary}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="requests a second")
    parser.add_argument("--repeats", type=float, default=0.0, help="share of prompts seen before")
    parser.add_argument("--usd-per-core-hour", type=float, default=USD_PER_CORE_HOUR)
    parser.add_argument("--readme", action="store_true", help="update the guide's tables and exit")
    arguments = parser.parse_args()
    rates = [int(rate) for rate in arguments.rates.split(",")]
    options: dict[str, Any] = {"repeats": arguments.repeats, "usd": arguments.usd_per_core_hour}
    text = tables(read_costs(RESULTS), rates=rates, **options)
    if arguments.readme:
        GUIDE.write_text(put_between(GUIDE.read_text("utf-8"), "sizing", text), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
