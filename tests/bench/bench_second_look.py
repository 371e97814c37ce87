"""The latency that a second look adds: in the band, and to requests outside of it.

    make bench-second-look

Two proxies with the shipped router get the same requests in turns; one has a fitted combiner. Each
model takes GENERATION_SECONDS. The second model agrees with half of the answers. Writes
data/results/bench_second_look.json.
"""

import asyncio
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fakes import Answer, Call, FakeUpstream, answer_json, whole
from looks import SECOND_MODEL, verification
from router_model.manifest import Manifest
from router_model.model import RouterModel
from router_model.value import CHARS_PER_TOKEN, GainPerDollar
from served import MODEL, Connection, Served, request
from traffic import Pause

RESULTS: Final = Path(__file__).parents[2] / "data" / "results" / "bench_second_look.json"
# Long enough that 64 clients do not saturate this process, which plays all models.
GENERATION_SECONDS: Final = 0.5
REQUESTS: Final = {4: 400, 64: 2_000}  # by the number of clients
_BAND_SHARE: Final = 0.4
_NUMBER: Final = re.compile(r"\((\d+)\)")


def tier(call: Call) -> Answer:
    """The number in the prompt is the answer. The second model is wrong about odd ones."""
    found = _NUMBER.search(call.json["messages"][-1]["content"])
    number = int(found[1]) if found else 0
    if call.json["model"] == SECOND_MODEL and number % 2:
        number += 1
    return [Pause(GENERATION_SECONDS), *whole(answer_json(f"The answer is {number}."))]


@contextmanager
def fitted_model() -> Iterator[Path]:
    """The shipped router with a combiner in which agreement decides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "router"
        shutil.copytree(MODEL, folder)
        manifest = Manifest.load(folder)
        fitted = msgspec.structs.replace(manifest, verification=verification())
        fitted.save(folder)
        yield folder


def texts_by_merit(rng: random.Random, number: int) -> tuple[list[str], tuple[float, float]]:
    """Prompts, and a band that has `_BAND_SHARE` of them in the middle."""
    model = RouterModel.load(MODEL)
    words = "why prove sort list what is the capital of France count the legs of 17 spiders".split()
    texts = [f"{' '.join(rng.choices(words, k=12))} ({index})" for index in range(number)]
    assert model.manifest.gain is not None  # the shipped router has one
    objective = GainPerDollar(model.manifest.gain)
    merits = sorted(
        objective.rate(model.score(text), input_tokens=len(text) / CHARS_PER_TOKEN).merit
        for text in texts
    )
    low, high = (int(number * (0.5 + side * _BAND_SHARE / 2)) for side in (-1, 1))
    return texts, (round(merits[low], 4), round(merits[high], 4))


async def ask(port: int, text: str) -> tuple[str, float]:
    """The result of the second look, or `outside`, and the milliseconds until the answer."""
    body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
    connection = await Connection.open(port)
    started = time.perf_counter()
    try:
        await connection.send(request(json.dumps(body).encode()))
        head = await connection.read_head()
        async for _ in connection.pieces(head):
            pass
    finally:
        connection.leave()
    ms = (time.perf_counter() - started) * 1e3
    return head.headers.get("x-router-second-look", "outside"), ms


async def measure(clients: int, requests: int, folder: Path) -> dict[str, Any]:
    rng = random.Random(clients)
    texts, band = texts_by_merit(rng, requests)
    middle = sum(band) / 2
    common = {"routing": {"threshold": middle}}
    looked = {"verify": {"second": SECOND_MODEL, "band": band}}
    own = {"routing": common["routing"] | {"model_path": str(folder)}}
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer = cloud.answer = tier
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            async with (
                Served(Path(one), local, cloud, changes=common) as plain,
                Served(Path(other), local, cloud, changes=own | looked) as verified,
            ):
                left = iter(texts)

                async def client() -> None:
                    for text in left:
                        before = await ask(plain.port, text)
                        result, ms = await ask(verified.port, text)
                        times[result]["without"].append(before[1])
                        times[result]["with"].append(ms)

                await asyncio.gather(*(client() for _ in range(clients)))
    return {
        result: {
            "requests": len(pairs["with"]),
            **{
                name: {f"p{share}": round(_quantile(values, share / 100), 2) for share in (50, 99)}
                for name, values in pairs.items()
            },
        }
        for result, pairs in sorted(times.items())
    }


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def main() -> None:
    """Measure the latency with and without second looks."""
    with fitted_model() as folder:
        results = {
            "machine": f"{os.cpu_count()} cores",
            "generation_ms": 1e3 * GENERATION_SECONDS,
            "latency_ms_by_clients": {
                clients: asyncio.run(measure(clients, requests, folder))
                for clients, requests in REQUESTS.items()
            },
        }
    print(json.dumps(results, indent=2))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
