"""A live proxy with visitors, between scripted tiers, and a Prometheus that watches it.

    async with open_scene(folder, dice=random.Random(1)) as scene:
        ...
        series = await scene.prometheus.query("router_in_flight")

The router model is the shipped one. Visitors do everything that has a metric: they stream or not,
name a tier or not, hang up, err, and rate answers; tiers fail in several ways.
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
from monitoring.prometheus import Prometheus
from proxy.record import CallRecord, Ending, Reason, Target
from router_model.drift import MIN_REQUESTS
from router_model.model import RouterModel, Score
from served import MODEL
from stored import fill, finished
from traffic import FOREVER_SECONDS, TOOLS, Pause

DATA = Path(__file__).resolve().parents[2] / "data"
BROKEN = "the router model cannot score this"
BUDGET_USD = 5.0  # more than they spend: without a cloud there would be nothing to see of it
PAIRS = 240  # requests of which both tiers' answers are judged; well over 50 of them are local


class ShakyModel(RouterModel):
    """The shipped router model, but for texts on which it fails."""

    def score(self, text: str) -> Score:
        if BROKEN in text:
            raise RuntimeError(BROKEN)
        return super().score(text)


class Tier:
    """What a tier answers, and how fast; it fails now and then, and always while it is down.

    Args:
        first, between: seconds before the first word and between two, in the mean.
        words: of an answer, at most.
        trouble: share of the requests that it fails.
    """

    def __init__(
        self, dice: random.Random, *, first: float, between: float, words: int, trouble: float
    ) -> None:
        self._dice = dice
        self._first = first
        self._between = between
        self._words = words
        self._trouble = trouble
        self.down = False

    def __call__(self, call: Call) -> Answer:
        if self.down:
            return whole(error_json("down"), status=503)
        if self._dice.random() < self._trouble:
            return self._fail()
        return self._answer(call.json)

    def _fail(self) -> Answer:
        troubles: list[Answer] = [
            whole(error_json("out of memory"), status=500),
            whole(error_json("not now"), status=429),
            [End.RESET],
            [Pause(FOREVER_SECONDS)],
            chunked(*openai_events()[:3], End.FIN),
        ]
        return self._dice.choice(troubles)

    def _answer(self, asked: dict[str, Any]) -> Answer:
        words = ["word "] * self._dice.randint(3, self._words)
        prompt = sum(len(one["content"]) for one in asked["messages"]) // 4 + 10
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": 10 * len(words),
            "prompt_tokens_details": {"cached_tokens": self._dice.choice([0, prompt // 2])},
        }
        first = Pause(self._dice.lognormvariate(0, 0.4) * self._first)
        if not asked.get("stream"):
            writing = Pause(self._between * len(words))
            return [first, writing, *whole(answer_json("".join(words), usage=usage))]
        steps: list[Step] = [first]
        for one in openai_events(words, usage):
            steps += [one, Pause(self._between)]
        return chunked(*steps)


def yesterdays() -> list[CallRecord]:
    """Requests of an hour ago: enough to tell how traffic has changed. Nobody judges these."""
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


class Visitors:
    """People and programs that use a proxy, each for one request."""

    def __init__(self, proxy: LiveProxy, dice: random.Random, *, trouble: float) -> None:
        self._proxy = proxy
        self._dice = dice
        self._prompts = read_prompts()
        self._kinds = {
            self._ask: 1 - trouble,
            self._leave: trouble / 4,
            self._err: trouble / 4,
            self._ask_what_has_no_score: trouble / 4,
            self._ask_with_tools: trouble / 4,
        }

    async def come(self, rate: Callable[[float], float], over: asyncio.Event) -> None:
        """Arrive at random, so many a second at each moment (seconds); those who came may finish.

        Raises ExceptionGroup when somebody met what must not happen.
        """
        begun = time.monotonic()
        async with asyncio.TaskGroup() as visits:
            while not over.is_set():
                await asyncio.sleep(self._dice.expovariate(rate(time.monotonic() - begun)))
                (visit,) = self._dice.choices(list(self._kinds), list(self._kinds.values()))
                visits.create_task(visit())

    def _prompt(self) -> str:
        # A number, because one that begins like another belongs to its conversation.
        return f"{self._dice.choice(self._prompts)} ({self._dice.getrandbits(20)})"

    async def _ask(self, **fields: Any) -> None:
        model = self._dice.choice(["auto"] * 8 + ["local", "cloud"])
        streamed = self._dice.random() < 0.6
        asked: dict[str, Any] = {"model": model, "text": self._prompt(), "stream": streamed}
        response = await self._proxy.chat(**asked | fields)
        if response.status_code == 200 and self._dice.random() < 0.3:
            await self._rate(response.headers)

    async def _rate(self, headers: Mapping[str, str]) -> None:
        liked = 0.6 + 0.3 * float(headers.get("x-router-score", "0.5"))
        thumb = "up" if self._dice.random() < liked else "down"
        feedback = {"request_id": headers["x-request-id"], "thumb": thumb}
        await self._proxy.client.post("/v1/feedback", json=feedback)

    async def _ask_what_has_no_score(self) -> None:
        await self._ask(model="auto", text=f"{self._prompt()} {BROKEN}")

    async def _ask_with_tools(self) -> None:
        await self._ask(model="auto", tools=TOOLS)

    async def _leave(self) -> None:
        client = await self._proxy.connect(model="auto", text=self._prompt(), stream=True)
        await asyncio.sleep(self._dice.random() * 0.05)  # before its answer begins, or just then
        client.vanish()

    async def _err(self) -> None:
        await self._proxy.post(b'{"model": "auto", "messages": "hello"}')


def read_prompts() -> list[str]:
    """Everyday prompts, easy and demanding, and questions of an examination."""
    found = []
    for name in ("everyday", "sample"):
        lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found += [json.loads(line)["query"] for line in lines]
    return found


def judge(database: Path, dice: random.Random) -> int:
    """Give both tiers' answers to every scored request a judge's score; the number of them all.

    The local answer is as good as the cloud's as often as the router's score says.
    """
    connection = sqlite3.connect(database, timeout=30)
    try:
        asked = connection.execute(
            "select id, created_at, score from requests where score is not null and ending = 'ok' "
            "and id not in (select request_id from judgements)"
        ).fetchall()
        rows = []
        for request_id, created_at, score in asked:
            cloud = round(dice.triangular(6, 10, 9))
            local = cloud if dice.random() < score else max(1, cloud - dice.randint(1, 6))
            for tier, model, given in (
                ("local", LOCAL_MODEL, local),
                ("cloud", CLOUD_MODEL, cloud),
            ):
                rows.append((request_id, created_at, tier, model, given, "a judge"))
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
    """What stands on it."""

    proxy: LiveProxy
    local: Tier
    cloud: Tier
    visitors: Visitors
    prometheus: Prometheus
    database: Path


@asynccontextmanager
async def open_scene(
    folder: Path,
    *,
    dice: random.Random,
    speed: float = 1.0,
    trouble: float = 0.2,
) -> AsyncIterator[Scene]:
    """A proxy with a budget between two tiers, nobody there yet, and a Prometheus that scrapes it.

    Args:
        speed: of the tiers; at 1 answers take a tenth of a second or so.
        trouble: share of the requests that go wrong, at a tier or at a visitor's.
    """
    timeouts = {"connect": 1, "first_token": 1 / speed, "idle": 1 / speed}
    config = {
        "server": {"request_timeout_seconds": 2 / speed},
        "budget": {"cloud_usd_per_day": BUDGET_USD},
        "routing": {"threshold": "auto", "shadow_router": {"path": str(MODEL), "share": 0.2}},
        "upstreams": {
            "local": {"timeouts": timeouts, "max_concurrency": 6},
            "cloud": {"timeouts": timeouts},
        },
    }
    tiers = {
        "local": Tier(dice, first=0.06 / speed, between=0.004 / speed, words=20, trouble=trouble),
        "cloud": Tier(dice, first=0.1 / speed, between=0.001 / speed, words=40, trouble=trouble),
    }
    async with FakeUpstream() as local, FakeUpstream() as cloud:
        local.answer, cloud.answer = tiers["local"], tiers["cloud"]
        fill(f"sqlite:///{folder}/router.db", yesterdays())
        proxy = LiveProxy(folder, local, cloud, changes=config, model=ShakyModel.load(MODEL))
        prometheus = Prometheus(folder / "prometheus", [f"127.0.0.1:{proxy.port}"])
        async with proxy, prometheus:
            yield Scene(
                proxy,
                **tiers,
                visitors=Visitors(proxy, dice, trouble=trouble),
                prometheus=prometheus,
                database=folder / "router.db",
            )
