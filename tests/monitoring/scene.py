"""A live proxy with simulated clients and scripted tiers, scraped by a Prometheus.

    async with open_scene(folder, rng=random.Random(1)) as scene:
        ...
        series = await scene.prometheus.query("router_in_flight")

The router model is the shipped one. The clients do everything that has a metric: streams and plain
requests, routed and forced, disconnects, errors and ratings. The tiers fail in several ways.
"""

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fakes import (
    Answer,
    Call,
    End,
    FakeUpstream,
    Step,
    answer_json,
    chunked,
    error_json,
    openai_events,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL, LiveProxy
from looks import verification
from monitoring.prometheus import Prometheus
from proxy.record import CallRecord, Ending, Reason, Target
from router_model.drift import MIN_REQUESTS
from router_model.model import RouterModel, Score
from router_model.verification import Input
from served import MODEL
from stored import fill, finished
from traffic import FOREVER_SECONDS, TOOLS, Pause

DATA = Path(__file__).resolve().parents[2] / "data"
BROKEN = "the router model cannot score this"
BUDGET_USD = 5.0  # more than they spend, so that the cloud is never cut off
KEY = "sk-scene"  # of all clients
PAIRS = 320  # judged pairs; more than 50 of them local


# Long answers speak for the cloud.
LOOK = verification(
    second="", band=(0.3, 0.98), evidence={"log_tokens": Input(2.7, 0.4, (2.0, 0.0, 0.0))}
)


class ShakyModel(RouterModel):
    """The shipped router model with a second look. It fails on some texts."""

    @classmethod
    def load(cls, folder: Path) -> "ShakyModel":
        model = super().load(folder)
        assert isinstance(model, cls)
        model.manifest = msgspec.structs.replace(model.manifest, verification=LOOK)
        return model

    def score(self, text: str) -> Score:
        if BROKEN in text:
            raise RuntimeError(BROKEN)
        return super().score(text)


class Tier:
    """The answers of a tier and their timing. It fails sometimes, and always while `down`.

    Args:
        first, between: mean seconds before the first word and between two words.
        words: maximum number of words of an answer.
        trouble: share of the requests that it fails.
    """

    def __init__(
        self, rng: random.Random, *, first: float, between: float, words: int, trouble: float
    ) -> None:
        self._dice = rng
        self._first = first
        self._between = between
        self._words = words
        self._trouble = trouble
        self.down = False

    def __call__(self, call: Call) -> Answer:
        if self.down:
            return whole(error_json("down"), status=503)
        if self._dice.random() < self._trouble:
            return self._fail(call.json)
        return self._answer(call.json)

    def _fail(self, body: dict[str, Any]) -> Answer:
        if not body.get("stream") and self._dice.random() < 0.5:
            return whole(answer_json(""))  # the cloud's replaces a local one
        troubles: list[Answer] = [
            whole(error_json("out of memory"), status=500),
            whole(error_json("not now"), status=429),
            [End.RESET],
            [Pause(FOREVER_SECONDS)],
            chunked(*openai_events()[:3], End.FIN),
        ]
        return self._dice.choice(troubles)

    def _answer(self, body: dict[str, Any]) -> Answer:
        words = ["word "] * self._dice.randint(3, self._words)
        prompt = sum(len(message["content"]) for message in body["messages"]) // 4 + 10
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": 10 * len(words),
            "prompt_tokens_details": {"cached_tokens": self._dice.choice([0, prompt // 2])},
        }
        first = Pause(self._dice.lognormvariate(0, 0.4) * self._first)
        if not body.get("stream"):
            writing = Pause(self._between * len(words))
            return [first, writing, *whole(answer_json("".join(words), usage=usage))]
        steps: list[Step] = [first]
        for event in openai_events(words, usage):
            steps += [event, Pause(self._between)]
        return chunked(*steps)


def earlier_requests() -> list[CallRecord]:
    """Requests of an hour ago, enough to detect drift. They are never judged."""
    common: dict[str, Any] = {"target": Target.LOCAL, "model": LOCAL_MODEL, "reason": Reason.SCORE}
    prompts = read_prompts()
    return [
        finished(
            **common,
            created_at=time.time() - 3_600,
            ending=Ending.CLIENT_GONE,
            score=0.5 + 0.4 * number / MIN_REQUESTS,
            turns=[("user", prompts[number % len(prompts)])],
        )
        for number in range(MIN_REQUESTS)
    ]


class Clients:
    """Simulated clients, each with one request."""

    def __init__(self, proxy: LiveProxy, rng: random.Random, *, trouble: float) -> None:
        self._proxy = proxy
        self._dice = rng
        self._prompts = read_prompts()
        self._kinds = {
            self._send: 1 - trouble,
            self._disconnect: trouble / 4,
            self._send_invalid: trouble / 4,
            self._send_unscorable: trouble / 4,
            self._send_with_tools: trouble / 4,
        }

    async def run(self, rate: Callable[[float], float], stop: asyncio.Event) -> None:
        """Start clients at random until `stop` is set, and wait for their requests.

        `rate` gives arrivals per second at a time in seconds. Raises ExceptionGroup on unexpected
        results.
        """
        started = time.monotonic()
        async with asyncio.TaskGroup() as visits:
            while not stop.is_set():
                await asyncio.sleep(self._dice.expovariate(rate(time.monotonic() - started)))
                (visit,) = self._dice.choices(list(self._kinds), list(self._kinds.values()))
                visits.create_task(visit())

    def _prompt(self) -> str:
        # The number makes the prompt unique: equal beginnings belong to one conversation.
        return f"{self._dice.choice(self._prompts)} ({self._dice.getrandbits(20)})"

    async def _send(self, **fields: Any) -> None:
        model = self._dice.choice(["auto"] * 8 + ["local", "cloud"])
        streamed = self._dice.random() < 0.6
        fields_sent: dict[str, Any] = {"model": model, "text": self._prompt(), "stream": streamed}
        response = await self._proxy.chat(**fields_sent | fields)
        if response.status_code == 200 and self._dice.random() < 0.3:
            await self._rate(response.headers)

    async def _rate(self, headers: Mapping[str, str]) -> None:
        liked = 0.6 + 0.3 * float(headers.get("x-router-score", "0.5"))
        thumb = "up" if self._dice.random() < liked else "down"
        feedback = {"request_id": headers["x-request-id"], "thumb": thumb}
        await self._proxy.client.post("/v1/feedback", json=feedback)

    async def _send_unscorable(self) -> None:
        await self._send(model="auto", text=f"{self._prompt()} {BROKEN}")

    async def _send_with_tools(self) -> None:
        await self._send(model="auto", tools=TOOLS)

    async def _disconnect(self) -> None:
        client = await self._proxy.connect(model="auto", text=self._prompt(), stream=True)
        await asyncio.sleep(self._dice.random() * 0.05)  # before or at the start of the answer
        client.vanish()

    async def _send_invalid(self) -> None:
        await self._proxy.post(b'{"model": "auto", "messages": "hello"}')


def read_prompts() -> list[str]:
    """The prompts of data/everyday.jsonl and data/sample.jsonl."""
    prompts = []
    for name in ("everyday", "sample"):
        lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        prompts += [json.loads(line)["query"] for line in lines]
    return prompts


def judge(database: Path, rng: random.Random) -> int:
    """Write judgements of both tiers' answers to all scored requests; return the number of pairs.

    The local answer is as good as the cloud's with the probability of the router's score.
    """
    connection = sqlite3.connect(database, timeout=30)
    try:
        requests = connection.execute(
            "select id, created_at, score from requests where score is not null and ending = 'ok' "
            "and id not in (select request_id from judgements)"
        ).fetchall()
        rows = []
        for request_id, created_at, score in requests:
            cloud = round(rng.triangular(6, 10, 9))
            local = cloud if rng.random() < score else max(1, cloud - rng.randint(1, 6))
            for tier, model, points in (
                ("local", LOCAL_MODEL, local),
                ("cloud", CLOUD_MODEL, cloud),
            ):
                rows.append((request_id, created_at, tier, model, points, "a judge"))
        with connection:
            connection.executemany(
                "insert into judgements "
                "(request_id, created_at, target, model, score, judge_model) "
                "values (?, ?, ?, ?, ?, ?)",
                rows,
            )
        (judged,) = connection.execute("select count(*) / 2 from judgements").fetchone()
        return int(judged)
    finally:
        connection.close()


@dataclass(frozen=True)
class Scene:
    """The parts of the scene."""

    proxy: LiveProxy
    local: Tier
    cloud: Tier
    clients: Clients
    prometheus: Prometheus
    database: Path


@asynccontextmanager
async def open_scene(
    folder: Path,
    *,
    rng: random.Random,
    speed: float = 1.0,
    trouble: float = 0.2,
) -> AsyncIterator[Scene]:
    """A proxy with a budget, two tiers and a Prometheus, without traffic yet.

    Args:
        speed: of the tiers; at 1 answers take about 0.1 seconds.
        trouble: share of the requests that fail, at a tier or a client.
    """
    timeouts = {"connect": 1, "first_token": 1 / speed, "idle": 1 / speed}
    config = {
        "server": {
            "request_timeout_seconds": 2 / speed,
            "api_keys": [{"key": KEY, "name": "scene", "cloud_usd_per_day": BUDGET_USD}],
        },
        "budget": {"cloud_usd_per_day": BUDGET_USD},
        "routing": {
            "threshold": "auto",
            "rules": [{"name": "tools", "when": {"needs": "tools"}, "use": "cloud"}],
            "shadow_router": {"path": str(MODEL), "share": 0.2},
        },
        "verify": {"max_wait_seconds": 0.8 / speed},
        "upstreams": {
            "local": {"timeouts": timeouts, "max_concurrency": 6},
            "cloud": {"timeouts": timeouts},
        },
    }
    tiers = {
        "local": Tier(rng, first=0.06 / speed, between=0.004 / speed, words=20, trouble=trouble),
        "cloud": Tier(rng, first=0.1 / speed, between=0.001 / speed, words=40, trouble=trouble),
    }
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer, cloud.answer = tiers["local"], tiers["cloud"]
        fill(f"sqlite:///{folder}/router.db", earlier_requests())
        proxy = LiveProxy(folder, local, cloud, changes=config, model=ShakyModel.load(MODEL))
        prometheus = Prometheus(folder / "prometheus", [f"127.0.0.1:{proxy.port}"])
        async with proxy, prometheus:
            proxy.client.headers["authorization"] = f"Bearer {KEY}"
            yield Scene(
                proxy,
                **tiers,
                clients=Clients(proxy, rng, trouble=trouble),
                prometheus=prometheus,
                database=folder / "router.db",
            )
