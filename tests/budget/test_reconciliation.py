"""Bills and records agree to twelve decimals on 10,000 mixed requests.

Streams and whole answers, chats, responses, completions and embeddings, both tiers, cached and
reasoning tokens, other models and service tiers, errors, fallbacks, retries, incomplete answers and
disconnecting clients. The upstreams write their own bills. Rows, hourly rollups and metrics must
agree with them, with one worker and two, in SQLite and in PostgreSQL.
"""

import asyncio
import json
import random
from collections import Counter
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import (
    DONE,
    Answer,
    Call,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    response_events,
    response_fields,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL, Row, Samples, check_agreement
from postgres import PostgresServer
from proxy.budget.pricing import pico
from proxy.config import StorageConfig
from proxy.storage.maintenance import Maintenance
from proxy.storage.queries import RequestQueries
from proxy.storage.request_log import RequestLog
from served import Connection, Served, request, until

REQUESTS = 10_000
CLIENTS = 16
PRICES = yaml.safe_load(
    (Path(__file__).parents[2] / "configs" / "pricing.yaml").read_text(encoding="utf-8")
)["models"]
OTHER_MODELS = ("gpt-5-mini", "gpt-4o-2024-11-20")
EMBEDDER = "text-embedding-3-small"
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5]}
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
Usage = dict[str, int]


class Bill:
    """What one tier charges, calculated without the proxy."""

    def __init__(self) -> None:
        self.usd = Decimal(0)
        self.cloud_usd = Decimal(0)  # the same tokens, uncached, at the cloud's prices
        self.tokens: Counter[str] = Counter()
        self.answers = 0

    def add(self, model: str, usage: Usage, service_tier: str) -> None:
        self.answers += 1
        self.tokens.update(usage)
        self.usd += _price(model, usage, service_tier)
        self.cloud_usd += _price(CLOUD_MODEL, usage | {"cached": 0}, "default")


def _price(model: str, usage: Usage, service_tier: str) -> Decimal:
    if model == LOCAL_MODEL:
        return Decimal(0)
    listed = PRICES.get(model) or PRICES[model.rpartition("-2024")[0]]
    listed = listed.get(service_tier) or listed
    usd = {
        "input": listed["input"],
        "cached": listed.get("cached_input", listed["input"]),
        "output": listed.get("output", 0),
    }
    counts = usage | {"input": usage["input"] - usage["cached"]}
    return sum((Decimal(str(usd[kind])) * counts[kind] for kind in usd), Decimal(0)) / 10**6


class Script:
    """The answers of one tier, with its bill."""

    def __init__(self, rng: random.Random) -> None:
        self._dice = rng
        self.bill = Bill()

    def __call__(self, call: Call) -> Answer:
        if call.method != "POST":
            return whole(b'{"object":"list","data":[]}')
        body, rng = call.json, self._dice
        kind = next(kind for kind, path in PATHS.items() if path == call.path)
        wanted = json.loads(body["user"])
        if wanted["leaves"]:  # the client disconnects before the end
            return [*chunked(*openai_events()[:3])[:-1], Gate()]
        if rng.random() < 0.04:
            return whole(error_json("not now"), status=rng.choice([400, 429, 500, 503]))
        if rng.random() < 0.02 and kind == "chat" and body.get("stream"):
            return chunked(*openai_events()[:4], End.RESET)
        usage = {"input": rng.randrange(1, 5_000), "output": rng.randrange(1, 900)}
        usage["cached"] = rng.choice([0, 0, rng.randrange(usage["input"] + 1)])
        usage["reasoning"] = rng.choice([0, 0, rng.randrange(usage["output"] + 1)])
        service_tier = rng.choice(["default", "default", "flex", "priority"])
        if kind == "embeddings":
            usage |= {"output": 0, "cached": 0, "reasoning": 0}
            service_tier = "default"
        self.bill.add(body["model"], usage, service_tier)
        return self._answer(kind, bool(body.get("stream")), usage, service_tier)

    def _answer(self, kind: str, stream: bool, usage: Usage, service_tier: str) -> Answer:
        if kind == "responses":
            reported = {
                "input_tokens": usage["input"],
                "output_tokens": usage["output"],
                "input_tokens_details": {"cached_tokens": usage["cached"]},
                "output_tokens_details": {"reasoning_tokens": usage["reasoning"]},
            }
            fields: dict[str, Any] = {"usage": reported, "service_tier": service_tier}
            fields["response_id"] = f"resp_{self._dice.getrandbits(64):x}"
            if stream:
                return chunked(*response_events(**fields))
            return whole(json.dumps(response_fields(**fields)).encode())
        reported = {
            "prompt_tokens": usage["input"],
            "completion_tokens": usage["output"],
            "prompt_tokens_details": {"cached_tokens": usage["cached"]},
            "completion_tokens_details": {"reasoning_tokens": usage["reasoning"]},
        }
        if kind == "embeddings":
            return whole(
                json.dumps({"object": "list", "data": [VECTOR], "usage": reported}).encode()
            )
        if stream:
            last = chunk(usage=reported, service_tier=service_tier) | {"choices": []}
            return chunked(*openai_events()[:-2], event(last), DONE)
        answer = json.loads(answer_json(usage=reported)) | {"service_tier": service_tier}
        return whole(json.dumps(answer).encode())


def draw(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """Draw a request: its path and its body."""
    kind = rng.choices(list(PATHS), [6, 2, 1, 1])[0]
    model = rng.choice(["local", "cloud", "auto", "auto:threshold=0.2", *OTHER_MODELS])
    stream = kind != "embeddings" and rng.random() < 0.5
    leaves = kind == "chat" and stream and rng.random() < 0.02
    body: dict[str, Any] = {"model": model, "user": json.dumps({"leaves": leaves})}
    text = " ".join(rng.choices("what is a good way to prove that this holds".split(), k=9))
    match kind:
        case "chat":
            body["messages"] = [{"role": "user", "content": text}]
        case "completions":
            body["prompt"] = text
        case _:
            body["input"] = text
    if kind == "embeddings":
        body["model"] = EMBEDDER
    if stream:
        body["stream"] = True
    return PATHS[kind], body


async def send(port: int, rng: random.Random, left: list[None]) -> None:
    """Send requests as one client until none are left."""
    connection = await Connection.open(port)
    while left:
        left.pop()
        path, body = draw(rng)
        await connection.send(request(json.dumps(body).encode(), path=path))
        head = await connection.read_head()
        pieces = connection.pieces(head)
        if json.loads(body["user"])["leaves"] and head.is_stream:
            await anext(pieces)
            connection.leave()
            connection = await Connection.open(port)
        else:
            try:
                async for _ in pieces:
                    pass
            finally:
                await pieces.aclose()
            if not connection.reusable:
                connection = await Connection.open(port)
    connection.leave()


@pytest.mark.parametrize(("database", "workers"), [("sqlite", 1), ("sqlite", 2), ("postgresql", 2)])
async def test_rows_rollups_metrics_and_bills_agree(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, database: str, workers: int
) -> None:
    rng = random.Random(f"{database} {workers}")
    scripts = {"local": Script(rng), "cloud": Script(rng)}
    local.answer, cloud.answer = scripts["local"], scripts["cloud"]
    (tmp_path / "pricing.yaml").write_text(yaml.safe_dump({"models": PRICES}))
    changes: dict[str, Any] = {
        "server": {"workers": workers},
        "upstreams": {"local": {"max_concurrency": None}, "cloud": {"price": "auto"}},
    }
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/router.db"
        if database == "postgresql":
            url = stack.enter_context(stack.enter_context(PostgresServer()).new_database())
        changes["storage"] = {"url": url}
        async with Served(tmp_path, local, cloud, changes=changes) as proxy:
            left = [None] * REQUESTS
            clients = (send(proxy.port, random.Random(rng.random()), left) for _ in range(CLIENTS))
            await asyncio.gather(*clients)
            samples = await _settled(proxy)
            assert await proxy.stop() == 0
        storage = StorageConfig(url=url)
        with RequestQueries.open(storage) as stats:
            rows, total = list(RequestLog.sharing(stats).export()), stats.total()
        check(rows, samples, {tier: script.bill for tier, script in scripts.items()})
        assert total.requests == REQUESTS
        for name in ("cost_usd", "cloud_cost_usd", "saved_usd"):
            assert pico(getattr(total, name)) == sum(pico(row[name]) for row in rows)
        with Maintenance.open(storage) as maintenance:
            assert maintenance.check() == []


async def _settled(proxy: Served) -> Samples:
    scrapes: list[Samples] = []

    async def all_counted() -> bool:
        scrapes.append(await proxy.scrape())
        return scrapes[-1]("router_requests_total") == REQUESTS

    await until(all_counted, what="all requests are counted")
    return scrapes[-1]


def check(rows: list[Row], samples: Samples, bills: dict[str, Bill]) -> None:
    assert len(rows) == len({row["id"] for row in rows}) == REQUESTS
    check_agreement(rows, samples)
    for kind in ("fallback_from", "streamed", "reasoning_tokens", "cached_input_tokens"):
        assert any(row[kind] for row in rows), f"no request had {kind}"
    assert {row["ending"] for row in rows} >= {"ok", "upstream_error", "client_gone"}
    for tier, bill in bills.items():
        reported = [
            row for row in rows if row["target"] == tier and row["usage_source"] == "upstream"
        ]
        assert len(reported) == bill.answers, _overview(rows)
        for column, kind in (
            ("input_tokens", "input"),
            ("cached_input_tokens", "cached"),
            ("output_tokens", "output"),
            ("reasoning_tokens", "reasoning"),
        ):
            assert sum(row[column] for row in reported) == bill.tokens[kind]
        assert sum(pico(row["cost_usd"]) for row in reported) == bill.usd * 10**12
        estimated = [row for row in rows if row["usage_source"] == "estimated"]
        assert estimated
        spent = (
            bill.usd
            + sum(
                (Decimal(pico(row["cost_usd"])) for row in estimated if row["target"] == tier),
                Decimal(0),
            )
            / 10**12
        )
        assert samples("router_cost_usd_total", target=tier) == pytest.approx(
            float(spent), rel=0, abs=1e-9
        )
    saved = sum(pico(row["saved_usd"]) for row in rows if row["usage_source"] == "upstream")
    assert saved == bills["local"].cloud_usd * 10**12


def _overview(rows: list[Row]) -> Counter[tuple[str, ...]]:
    columns = ("endpoint", "target", "ending", "usage_source", "error_code", "fallback_from")
    return Counter(tuple(str(row[name]) for name in columns) for row in rows)
