"""The effect of judging on clients: time to first token with and without it, in one run.

    make bench-judge      # or: python tests/bench/bench_judge.py --requests 600

Two proxies with the shipped router model get the same requests in turns. At one of them the other
tier answers every request, too, and the judge grades and compares both answers twice. That is a
hundred times a usual sampling rate. Writes data/results/bench_judge.json.
"""

import asyncio
import json
import os
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from fakes import Answer, Call, FakeUpstream, chunked, openai_events
from scripted_models import completion, verdict
from served import Connection, Served, request
from traffic import Pause

RESULTS = Path(__file__).parents[2] / "data" / "results" / "bench_judge.json"
CLIENTS = 4
FIRST_TOKEN_SECONDS = 0.02
WORDS = "why prove sort list what is the capital of France write a poem about 17 times 23".split()


def tier(call: Call) -> Answer:
    if call.json.get("stream"):
        return chunked(Pause(FIRST_TOKEN_SECONDS), *openai_events())
    return [Pause(FIRST_TOKEN_SECONDS), *completion("A second answer.")]


def judge(call: Call) -> Answer:
    return [Pause(FIRST_TOKEN_SECONDS), *completion(verdict(call.json))]


async def ask(port: int, text: str) -> float:
    """Milliseconds to the first token of a stream."""
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": text}]}
    connection = await Connection.open(port)
    started = time.perf_counter()
    first = None
    try:
        await connection.send(request(json.dumps(body).encode()))
        head = await connection.read_head()
        async for piece in connection.pieces(head):
            if first is None and b'"content"' in piece:
                first = time.perf_counter()
    finally:
        connection.leave()
    assert first is not None
    return (first - started) * 1e3


async def measure(requests: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"without": [], "with": []}
    rng = random.Random(0)
    async with FakeUpstream() as local, FakeUpstream() as cloud, FakeUpstream() as judging:
        local.answer = cloud.answer = tier
        judging.answer = judge
        settings = {
            "enabled": True, "model": "judge", "base_url": judging.base_url,
            "price": {"input": 0, "output": 0}, "sample_rate": 0, "shadow_rate": 1,
            "shadow_usd_per_day": 1_000,
        }  # fmt: skip
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            async with (
                Served(Path(one), local, cloud) as plain,
                Served(Path(other), local, cloud, changes={"judge": settings}) as judged,
            ):

                async def client() -> None:
                    for _ in range(requests // CLIENTS):
                        text = " ".join(rng.choices(WORDS, k=12))
                        for name, proxy in (("without", plain), ("with", judged)):
                            times[name].append(await ask(proxy.port, text))

                await asyncio.gather(*(client() for _ in range(CLIENTS)))
                for values in times.values():
                    del values[: requests // 10]  # warm-up
                calls = len(judging.calls)
                connection = sqlite3.connect(judged.database)
                [(done,)] = connection.execute("SELECT COUNT(*) FROM samples WHERE state = 'done'")
                connection.close()
    return {
        "machine": f"{os.cpu_count()} cores",
        "requests": requests,
        "judged_meanwhile": done,
        "judge_calls_meanwhile": calls,
        "ttft_ms": {
            name: {
                f"p{share:g}": round(sorted(values)[int(share / 100 * (len(values) - 1))], 2)
                for share in (50, 95, 99)
            }
            for name, values in times.items()
        },
    }


@click.command()
@click.option("--requests", default=2_000, show_default=True, help="Requests to each proxy.")
def main(requests: int) -> None:
    """Measure the time to first token with and without judging."""
    results = asyncio.run(measure(requests))
    click.echo(json.dumps(results, indent=2))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
