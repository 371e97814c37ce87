"""The time of routing rules for one request, without the rest of the decision.

    python tests/bench/bench_rules.py

Half of the rules have eight words, half a pattern, and none matches, so that all are tried.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from proxy.config import Config, load_config
from proxy.routing import RuleInput
from proxy.routing.rules import Rules
from router_model import language

PROMPT = "Explain the difference between TCP and UDP in two short sentences, please. "
LENGTHS = {200: 2_000, 4_000: 500, 100_000: 50}  # characters, and repetitions
TIER = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}


def rules_of(number: int) -> list[dict[str, Any]]:
    """Rules that match no prompt of this benchmark."""
    return [
        {
            "name": f"rule {index}",
            "when": {"regex": rf"(?i)\bcase no\. {index}\d+"}
            if index % 2
            else {"words": [f"word{index}x{item}" for item in range(7)] + ["tax return"]},
            "use": "cloud",
        }
        for index in range(number)
    ]


def load(rules: list[dict[str, Any]]) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        fields = {"upstreams": {"local": TIER, "cloud": TIER}, "routing": {"rules": rules}}
        path.write_text(json.dumps(fields))
        return load_config(path, environ={})


async def measure(name: str, rules: Rules) -> None:
    for length, repetitions in LENGTHS.items():
        turns = [("user", (PROMPT * (length // len(PROMPT) + 1))[:length])]
        times = []
        for _ in range(repetitions):
            started = time.perf_counter()
            await rules.find(RuleInput(turns))
            times.append((time.perf_counter() - started) * 1e6)
        median = statistics.median(times)
        print(f"{name:12} {length:7,} characters  {min(times):9.1f} µs, median {median:9.1f} µs")


async def main() -> None:
    for number in (5, 50):
        await measure(f"{number} rules", Rules(load(rules_of(number))))
    language.load()
    rule = {"name": "German", "when": {"language": "de"}, "use": "cloud"}
    await measure("language", Rules(load([rule])))


if __name__ == "__main__":
    asyncio.run(main())
