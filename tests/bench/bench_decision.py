"""The decision alone: CPU time by length, and decisions per second by cores.

    make bench-decision      # or: python tests/bench/bench_decision.py --passes 3

- "one core": the process was pinned before it started, as by taskset or systemd.
- "without AMX": ONNX Runtime was imported on that core only (router_model/runtime.py).
- Decisions per second: 16 clients in a closed loop, each text once, through the proxy's `Scorer`.
  The loop delay is what a timer of 2 ms is late in the event loop meanwhile.

Each row is a process of its own.
"""

import asyncio
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from bench import decide_all, quantile
from load import make_prompts

MODEL: Final = Path(__file__).parents[2] / "data" / "models" / "router"
CLIENTS: Final = 16
TIMER_SECONDS: Final = 0.002
LENGTHS: Final = ("16", "32", "64", "128", "256", "mix")


async def throughput(folder: Path, *, seconds: float) -> dict[str, float]:
    """Decisions per second and the 99th percentile of the loop's delay in ms."""
    from proxy.routing.router import Scorer
    from router_model.model import RouterModel

    scorer = Scorer(RouterModel.load(folder), timeout_seconds=30)
    prompts = make_prompts(seed=5)
    started = time.perf_counter()
    end = started + seconds
    delays: list[float] = []

    async def client() -> int:
        count = 0
        while time.perf_counter() < end:
            assert await scorer.score([("user", next(prompts))]) is not None
            count += 1
        return count

    async def watch() -> None:
        while (now := time.perf_counter()) < end:
            await asyncio.sleep(TIMER_SECONDS)
            delays.append((time.perf_counter() - now - TIMER_SECONDS) * 1e3)

    counts, _ = await asyncio.gather(asyncio.gather(*(client() for _ in range(CLIENTS))), watch())
    taken = time.perf_counter() - started
    scorer.close()
    return {"per_second": sum(counts) / taken, "delay_p99_ms": quantile(delays, 0.99)}


def measure(cores: int, *arguments: str) -> Any:
    """The JSON that a child process prints, which is pinned to the last `cores` cores."""
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-cores:])
    try:
        command = [sys.executable, str(Path(__file__).resolve()), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        os.sched_setaffinity(0, allowed)
    return json.loads(done.stdout)


@click.command()
@click.option("--model", type=click.Path(path_type=Path), default=MODEL)
@click.option("--passes", default=3, show_default=True, help="Passes over the texts.")
@click.option("--seconds", default=8.0, show_default=True, help="Of each throughput.")
@click.option("--child", type=click.Choice(["latency", "throughput"]), hidden=True)
@click.option("--plain-import", is_flag=True, hidden=True)
def main(
    model: Path,
    passes: int,
    seconds: float,
    child: str | None,
    plain_import: bool,
) -> None:
    """Print both tables."""
    if plain_import:
        importlib.import_module("onnxruntime")
    if child == "latency":
        print(json.dumps(decide_all(model, passes=passes, clock=time.thread_time_ns)))
        return
    if child == "throughput":
        print(json.dumps(asyncio.run(throughput(model, seconds=seconds))))
        return
    common = ["--model", str(model), "--passes", str(passes), "--seconds", str(seconds)]
    print(f"| CPU ms, p50 / p99 | {' | '.join(LENGTHS)} |\n|---{'|---:' * len(LENGTHS)}|")
    for name, extra in (("one core, without AMX", ["--plain-import"]), ("one core", [])):
        times = measure(1, *common, "--child", "latency", *extra)
        cells = [f"{quantile(times[n], 0.5):.1f} / {quantile(times[n], 0.99):.1f}" for n in LENGTHS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\n| cores | | decisions/s | loop delay p99 |\n|---:|---|---:|---:|")
    plain = ["--plain-import"]
    for cores, name, extra in ((1, "without AMX", plain), (1, "", []), (2, "", [])):
        if cores <= len(os.sched_getaffinity(0)):
            each = measure(cores, *common, "--child", "throughput", *extra)
            row = (cores, name, f"{each['per_second']:.0f}", f"{each['delay_p99_ms']:.1f} ms")
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
