"""Random requests against a cloud that bills as OpenAI does: the record has at least the bill.

`MONEY_REQUESTS` sets the number of requests, `MONEY_SEED` the seed, which a failure shows.
"""

import asyncio
import json
import os
import random
from typing import Any

import pytest

from fakes import (
    Call,
    End,
    FakeUpstream,
    Gate,
    Step,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    openai_events,
    whole,
)
from live import Fields, LiveProxy, RawClient, StartProxy
from proxy.budget import TokenCounter

REQUESTS = int(os.environ.get("MONEY_REQUESTS", "120"))
SEED = int(os.environ.get("MONEY_SEED", "0")) or random.randrange(1, 2**31)
INPUT_USD, CACHED_USD, OUTPUT_USD = 0.15e-6, 0.075e-6, 0.60e-6
IMAGE_TOKENS = 25_501  # gpt-4o-mini's, of four tiles
TEXT = "Which of these totals is right, and why does the other one differ? "


class BillingCloud:
    """Answers at random, and bills the input of every request and the output that it has sent."""

    def __init__(self, dice: random.Random, tokens: TokenCounter) -> None:
        self._dice = dice
        self._tokens = tokens
        self.bills: dict[str, float] = {}  # by the text of the question
        self.inputs: dict[str, float] = {}  # the part of the bill that is input
        self.exact: set[str] = set()  # those with usage

    def answer(self, call: Call) -> list[Step]:
        body = call.json
        content = body["messages"][0]["content"]
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        name = parts[0]["text"]
        turns = [("user", name)]
        images = sum(part["type"] == "image_url" for part in parts)
        prompt = self._tokens.count_messages(turns) + images * IMAGE_TOKENS
        kind = self._dice.choices(
            ["answer", "error", "silent", "cut", "broken", "failed-event"], [8, 1, 2, 3, 2, 1]
        )[0]
        words = ["Because "] * self._dice.randrange(1, 40)
        if kind == "error":
            return whole(error_json("Busy."), status=self._dice.choice([400, 429, 500, 503]))
        if kind == "silent":
            self._bill(name, prompt, 0)
            return [Gate()] if self._dice.random() < 0.5 else [b"HTTP/1.1 200 OK\r\n", End.RESET]
        if kind == "failed-event" and body.get("stream"):
            self._bill(name, prompt, 0)
            return chunked(event({"error": {"message": "Failed.", "type": "server_error"}}))
        written = self._tokens.count("".join(words))
        if kind in ("cut", "broken") and body.get("stream"):
            seen = words[: self._dice.randrange(len(words) + 1)]
            self._bill(name, prompt, self._tokens.count("".join(seen)))
            events = [event(chunk({"content": word})) for word in seen]
            return chunked(*events, Gate() if kind == "cut" else End.FIN)
        if kind == "broken":
            self._bill(name, prompt, 0)
            return [b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{", End.RESET]
        cached = self._dice.randrange(prompt)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        self._bill(name, prompt, written, cached=cached)
        self.exact.add(name)
        if body.get("stream"):
            return chunked(*openai_events(words, usage))
        return whole(answer_json("".join(words), usage=usage))

    def _bill(self, name: str, prompt: int, output: int, *, cached: int = 0) -> None:
        usd = (prompt - cached) * INPUT_USD + cached * CACHED_USD + output * OUTPUT_USD
        self.bills[name] = self.bills.get(name, 0.0) + usd
        input_usd = usd - output * OUTPUT_USD
        self.inputs[name] = self.inputs.get(name, 0.0) + input_usd


def question(dice: random.Random, number: int) -> dict[str, Any]:
    """A random request, with its number in the text."""
    text = f"{number}: " + TEXT * dice.randrange(1, 30)
    content: Any = text
    if dice.random() < 0.2:
        image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
        content = [{"type": "text", "text": text}] + [image] * dice.randrange(1, 4)
    fields: dict[str, Any] = {
        "model": dice.choice(["cloud", "cloud", "auto"]),
        "messages": [{"role": "user", "content": content}],
        "stream": dice.random() < 0.6,
    }
    if dice.random() < 0.5:
        fields["max_tokens"] = dice.choice([64, 6.4e1, 200])
    return fields


async def send(proxy: LiveProxy, fields: Fields, *, leaves_after: float | None) -> None:
    """Send a request; hang up after some seconds, or read the answer."""
    client = await RawClient.open(proxy.port, json.dumps(fields).encode(), head=None)
    if leaves_after is not None:
        await asyncio.sleep(leaves_after)
        client.vanish()
        return
    try:
        async with asyncio.timeout(20):
            while await client.read_some():
                pass
    except (ConnectionError, TimeoutError):
        pass
    client.vanish()


CHANGES = {
    "server": {"request_timeout_seconds": 1.5},
    "upstreams": {"cloud": {"timeouts": {"first_token": 0.5, "idle": 0.5}}},
    "storage": {"prompts": "full"},
}


async def test_every_bill_is_recorded(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    dice, tokens = random.Random(SEED), TokenCounter()
    tokens.load()
    billing = BillingCloud(dice, tokens)
    cloud.answer = billing.answer
    proxy = await start(CHANGES)
    proxy.proxy._tokens.load()
    for first in range(0, REQUESTS, 20):
        batch = [question(dice, number) for number in range(first, min(first + 20, REQUESTS))]
        leaves = [dice.uniform(0, 0.3) if dice.random() < 0.3 else None for _ in batch]
        await asyncio.gather(
            *(
                send(proxy, fields, leaves_after=end)
                for fields, end in zip(batch, leaves, strict=True)
            )
        )
    samples = await proxy.settled()
    await asyncio.sleep(1.6)
    await proxy.stop()
    recorded: dict[str, tuple[float, str | None, Any]] = {}
    for row in proxy.rows():
        if row["prompt"] is None:
            continue
        turns = json.loads(row["prompt"])
        text = turns[0]["content"] if isinstance(turns[0], dict) else turns[0][1]
        recorded[text] = (row["cost_usd"] or 0.0, row["usage_source"], row)
    del samples
    for name, usd in billing.bills.items():
        cost, source, row = recorded[name]
        place = f"seed {SEED}, request {name[:5]!r}: billed {usd:.9f}, recorded {cost:.9f}, {row}"
        # Output that was on its way when a client hung up is not seen.
        least = billing.inputs[name] if row["ending"] == "client_gone" else usd
        assert cost >= least - 1e-9, place
        if source == "upstream" and name in billing.exact and row["fallback_from"] is None:
            calls = sum(call.body.find(name[:5].encode()) > 0 for call in cloud.calls)
            assert calls > 1 or cost == pytest.approx(usd, abs=1e-9), place
    for name, (cost, _, row) in recorded.items():
        assert name in billing.bills or not cost, f"seed {SEED}: not billed, {row}"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param([{"type": "image_url", "image_url": {"url": "https://e.org/a"}}], id="image"),
        pytest.param([{"type": "file", "file": {"file_id": "file-1"}}], id="file"),
        pytest.param([{"type": "text", "text": "Write on."}], id="open-ended"),
    ],
)
async def test_a_burst_exceeds_a_budget_by_one_request_at_most(
    start: StartProxy, cloud: FakeUpstream, content: Any
) -> None:
    kind = content[0]["type"]
    usage = {
        "prompt_tokens": {"image_url": 36_000, "file": 120_000, "text": 12}[kind],
        "completion_tokens": 16_000 if kind == "text" else 10,
    }
    price = (usage["prompt_tokens"] * 0.15 + usage["completion_tokens"] * 0.60) / 1e6
    gate = Gate()
    cloud.answer = [gate, *whole(answer_json(usage=usage))]
    budget = 0.01
    key = {"key": "sk-a", "cloud_usd_per_day": budget}
    proxy = await start({"server": {"api_keys": [key]}})
    fields = {"model": "cloud", "messages": [{"role": "user", "content": content}]}
    if kind != "text":
        fields["max_tokens"] = 1e1
    headers = {"authorization": "Bearer sk-a"}
    body = json.dumps(fields).encode()
    burst = [asyncio.create_task(proxy.post(body, headers)) for _ in range(20)]
    await gate.reached()
    await asyncio.sleep(0.3)
    gate.open()
    await asyncio.gather(*burst[:1])
    for task in burst:
        task.cancel()
    await asyncio.gather(*burst, return_exceptions=True)
    assert len(cloud.calls) * price <= budget + price
