"""Random requests against a cloud that bills as OpenAI does: the record has at least the bill.

`MONEY_REQUESTS` sets the number of requests, `MONEY_SEED` the seed, which a failure shows. The
cloud bills each attempt:

- an error status (4xx, 5xx) costs nothing;
- every other request that it has read costs its input, also one that gets no answer;
- the output that it has sent is billed, at the price of the model and of the service tier that
  answered. Of an answer with usage, hidden reasoning is billed and cached input is cheaper.

Demanded of each request, whatever its ending:

- recorded >= billed, where the output of a client that hangs up counts as far as the client got
  it. Output that was on its way then is not seen, and a whole answer is not seen in part.
- recorded == billed, within 1e-9 USD, where the only attempt has sent its usage. For a client that
  hangs up this holds where the proxy had read the usage (`usage_source`).
- Without a bill nothing is recorded, except that a client may hang up while its request is on its
  way to the cloud.
- A background answer that is not streamed is not counted, as docs/configuration.md says. A streamed
  one is.
- Budgets, of a key and of all: without its dearest request a burst costs at most the budget.

Not demanded, because the proxy cannot know it:

- The model and the service tier that an answer has not named yet are those of the request.
- A reused connection that ends at once, without a byte, counts as one that was closed while idle.
"""

import asyncio
import json
import os
import random
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from billing import (
    NUMBER_HEADER,
    WORD,
    BillingCloud,
    Draft,
    Request,
    draw,
    draw_conversation,
)
from fakes import HARD, Call, End, FakeUpstream, Gate, Step, answer_json, error_json, whole
from live import LiveProxy, RawClient, Row, StartProxy
from proxy.budget import TokenCounter
from proxy.record import key_hash

REQUESTS = int(os.environ.get("MONEY_REQUESTS", "150"))
SEED = int(os.environ.get("MONEY_SEED", "0")) or random.randrange(1, 2**31)
CLIENTS = 32
BURST = 20
WAIT_SECONDS = 30.0
EXACT_USD = Decimal("1e-9")
CHANGES: dict[str, Any] = {
    "server": {"request_timeout_seconds": 3, "hold_seconds": 0.3},
    "upstreams": {
        "local": {"max_concurrency": None, "timeouts": {"first_token": 0.8, "idle": 0.8}},
        "cloud": {"price": "auto", "timeouts": {"first_token": 0.8, "idle": 0.8}},
    },
}


class Client:
    """A client with an API key of its own, which sends its requests one after the other."""

    def __init__(self, port: int, key: str, requests: list[Request]) -> None:
        self.key = key
        self.requests = requests
        self._port = port
        self._last_id: str | None = None  # of its last response

    async def send(self, request: Request) -> None:
        """Send a request; read the answer, or hang up where the request says."""
        if request.continues and self._last_id is not None:
            request.fields["previous_response_id"] = self._last_id
        body = json.dumps(request.fields, ensure_ascii=False).encode()
        head = (
            f"POST {request.path} HTTP/1.1\r\nhost: localhost\r\n"
            f"authorization: Bearer {self.key}\r\n{NUMBER_HEADER}: {request.number}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        if request.leaves == "sending":
            body = body[:-5]
        connection = await RawClient.open(self._port, body, head=head)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                answer = await self._read(connection, request)
        except ConnectionError:
            return
        finally:
            connection.vanish()
        if request.kind == "responses" and b'"completed"' in answer and request.leaves is None:
            self._last_id = f"resp_{request.number}"

    async def _read(self, connection: RawClient, request: Request) -> bytes:
        """Read the answer, until its end or until the client hangs up."""
        dice = random.Random(f"{SEED} {request.number}")
        answer = bytearray()
        reading = asyncio.create_task(_read_into(answer, connection))
        match request.leaves:
            case None:
                await reading
            case "sending" | "any time":
                await asyncio.wait([reading], timeout=dice.uniform(0, 0.3))
            case _:
                place = asyncio.create_task(request.reached.reached())
                await asyncio.wait([reading, place], return_when=asyncio.FIRST_COMPLETED)
                while not reading.done() and _words(answer) < request.leave_words:
                    await asyncio.wait([reading], timeout=0.005)
                if dice.random() < 0.5:
                    await asyncio.wait([reading], timeout=0.02)
                place.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        request.seen_words = _words(answer)
        return bytes(answer)


async def _read_into(answer: bytearray, connection: RawClient) -> None:
    while not (_is_whole(answer) or answer.endswith(b"\r\n0\r\n\r\n")):
        data = await connection.read_some()
        if not data:
            break
        answer += data


def _is_whole(answer: bytes | bytearray) -> bool:
    """Whether an answer with content-length is complete."""
    head, _, body = answer.partition(b"\r\n\r\n")
    size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return size.isdigit() and len(body) >= int(size)


def _words(answer: bytes | bytearray) -> int:
    """The words that a client has. The last events of a response repeat them."""
    repeats = (b'"response.output_text.done"', b'"response.completed"')
    lines = answer.split(b"\n")
    return sum(
        line.count(WORD.encode()) for line in lines if not any(kind in line for kind in repeats)
    )


def answer_locally(dice: random.Random) -> Any:
    """The answers of a local tier that fails at times."""

    def answer(_: Call) -> list[Step]:
        failed: list[list[Step]] = [
            whole(error_json("Busy."), status=500),
            [End.RESET],
            [Gate()],
        ]
        return dice.choice(failed) if dice.random() < 0.5 else whole(answer_json())

    return answer


def load_tokens(proxy: LiveProxy | None = None) -> TokenCounter:
    """A counter with its encoding; also that of a proxy, whose first counts are rough."""
    tokens = TokenCounter()
    tokens.load()
    if proxy is not None:
        proxy.proxy._tokens.load()
    return tokens


# ── Every bill is recorded ────────────────────────────────────────────────────────────────────


async def test_every_bill_is_recorded(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    tokens, drawn = load_tokens(), random.Random(SEED)
    conversations: list[list[Request]] = []
    while (number := sum(map(len, conversations))) < REQUESTS:
        conversations.append(draw_conversation(drawn, number, tokens))
    requests = {request.number: request for own in conversations for request in own}
    keys = [{"key": f"sk-{number}"} for number in range(len(conversations))]
    cloud.answer = BillingCloud(requests, seed=f"{SEED}").answer
    local.answer = answer_locally(random.Random(SEED))
    proxy = await start(CHANGES | {"server": CHANGES["server"] | {"api_keys": keys}})
    load_tokens(proxy)
    clients = [Client(proxy.port, f"sk-{number}", own) for number, own in enumerate(conversations)]
    waiting = iter(clients)

    async def run() -> None:
        for client in waiting:
            for request in client.requests:
                await client.send(request)

    await asyncio.gather(*(run() for _ in range(CLIENTS)))
    await proxy.stop()
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(proxy.rows(), key=lambda row: row["created_at"]):
        rows[row["client_key_hash"]].append(row)
    counts: Counter[str] = Counter()
    mistakes: list[str] = []
    worst = Decimal(0)
    for client in clients:
        own = rows[key_hash(client.key)]
        if len(own) < len(client.requests) and client.requests[-1].leaves is not None:
            client.requests.pop()  # its client left before the proxy had all of it
        assert len(own) == len(client.requests), f"seed {SEED}: {client.requests}, {own}"
        for request, row in zip(client.requests, own, strict=True):
            bill = Bill(request, row)
            mistakes += bill.mistakes()
            worst = max(worst, bill.difference)
            is_billed = "billed" if request.attempts else "not billed"
            counts.update((request.kind, f"{request.kind} {is_billed}", row["ending"]))
            counts[f"left {request.leaves}, {is_billed}"] += request.leaves is not None
            counts["several attempts"] += len(request.attempts) > 1
            counts["exact"] += bill.is_exact
    print(f"seed {SEED}: {dict(sorted(counts.items()))}; worst difference {worst:.12f} USD")
    assert not mistakes, f"seed {SEED}, {len(mistakes)} requests:\n" + "\n".join(mistakes[:10])


class Bill:
    """What the cloud bills for a request, as far as the proxy can know, beside its row.

    Attributes:
        is_exact: whether the row must have exactly the bill.
    """

    def __init__(self, request: Request, row: Row) -> None:
        self._request = request
        self._row = row
        self.recorded = Decimal(row["cost_usd"] or 0)
        self._attempts = list(request.attempts)
        self._has_left = row["ending"] == "client_gone"
        self.billed = Decimal(0)
        self.is_exact = False
        if request.in_background and self._attempts and row["ending"] == "ok":
            self._attempts.pop()  # not counted
        if not self._attempts:
            is_cut = self._has_left or row["ending"] == "timeout" or row["fallback_from"]
            self.is_exact = not is_cut  # the request was perhaps sent, and not read in time
            return
        *failed, last = self._attempts
        self.billed = sum((attempt.usd() for attempt in failed), Decimal(0))
        has_read_usage = last.has_usage and row["usage_source"] == "upstream"
        if self._has_left and not has_read_usage:
            self.billed += last.usd_of(min(last.output, request.seen_words))
        else:
            self.billed += last.usd()
            self.is_exact = last.has_usage and not failed and not row["fallback_from"]

    @property
    def difference(self) -> Decimal:
        """How far an exact record is from its bill, in USD."""
        return abs(self.recorded - self.billed) if self.is_exact else Decimal(0)

    def mistakes(self) -> list[str]:
        """What is wrong with the record."""
        if self.recorded >= self.billed - EXACT_USD and self.difference <= EXACT_USD:
            return []
        names = "model ending error_code usage_source input_tokens output_tokens fallback_from"
        row = {name: self._row[name] for name in names.split()}
        return [
            f"billed {self.billed:.12f}, recorded {self.recorded:.12f}: {self._request}; "
            f"{self._attempts}; {row}"
        ]


# ── No budget is exceeded by more than one request ────────────────────────────────────────────


@pytest.mark.parametrize("limits", ["key", "all"])
async def test_a_burst_exceeds_a_budget_by_one_request_at_most(
    start: StartProxy, cloud: FakeUpstream, tmp_path: Path, limits: str
) -> None:
    """Mixed requests, whose answers are as long as they may be and all come at once."""
    dice, tokens = random.Random(f"{SEED} {limits}"), load_tokens()
    for number in range(1 + REQUESTS // 200):
        requests = {
            index: request
            for index in range(BURST)
            if not (request := draw(Draft(dice, index, tokens))).in_background
        }
        gate = Gate()
        cloud.answer = BillingCloud(requests, seed=f"{SEED}", longest=True, gate=gate).answer
        usd_per_day = dice.choice([0.02, 0.5, 5.0])
        key: dict[str, Any] = {"key": "sk-burst"}
        changes = CHANGES | {
            "server": CHANGES["server"] | {"api_keys": [key]},
            "storage": {"url": f"sqlite:///{tmp_path}/burst-{number}.db"},
            "budget": {"pacing": False},
        }
        if limits == "key":
            key["cloud_usd_per_day"] = usd_per_day
        else:
            changes["budget"]["cloud_usd_per_day"] = usd_per_day
        for request in requests.values():
            request.fields.pop("background", None)
        proxy = await start(changes)
        burst = [
            asyncio.create_task(Client(proxy.port, "sk-burst", [request]).send(request))
            for request in requests.values()
        ]
        reached = asyncio.create_task(gate.reached())
        await asyncio.wait([reached, *burst], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.1)  # for more requests to arrive
        gate.open()
        await asyncio.gather(*burst)
        reached.cancel()
        await proxy.stop()
        bills = [
            sum((attempt.usd() for attempt in request.attempts), Decimal(0))
            for request in requests.values()
        ]
        place = f"seed {SEED}, burst {number}, {limits}, {usd_per_day} USD: {sorted(bills)}"
        assert any(bills), place
        assert sum(bills) - max(bills) <= Decimal(str(usd_per_day)), place


async def test_retries_exceed_a_budget_by_one_request_at_most(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    """Each attempt of these requests is billed and fails, and they are retried together."""
    gate = Gate()
    cloud.answer = [gate, b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", End.FIN]
    usd, budget = 25_000 * 0.15e-6, 0.05
    key = {"key": "sk-a", "cloud_usd_per_day": budget}
    proxy = await start({"server": {"api_keys": [key]}})
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    fields = {
        "model": "cloud",
        "messages": [{"role": "user", "content": [image]}],
        "max_tokens": 10,
    }
    body, headers = json.dumps(fields).encode(), {"authorization": "Bearer sk-a"}
    burst = [asyncio.create_task(proxy.post(body, headers)) for _ in range(8)]
    await gate.reached()
    await cloud.called(7)
    gate.open()
    await asyncio.gather(*burst, return_exceptions=True)
    await proxy.stop()
    dearest = max(row["cost_usd"] or 0 for row in proxy.rows())
    recorded = sum(row["cost_usd"] or 0 for row in proxy.rows())
    assert recorded > usd * len(cloud.calls)
    assert recorded - dearest <= budget


async def test_a_fallback_keeps_the_dollars_of_its_failed_attempts(
    start: StartProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    """The budget pays for one attempt: neither a retry nor another request follows it."""
    gate = Gate()
    local.answer = [gate, *whole(answer_json())]
    cloud.answer = [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", End.FIN]
    key = {"key": "sk-a", "cloud_usd_per_day": 0.0001}
    proxy = await start({"server": {"api_keys": [key]}})
    headers = {"authorization": "Bearer sk-a"}
    fallen = asyncio.create_task(proxy.chat(text=HARD * 200, headers=headers))
    await gate.reached()
    waiting = asyncio.create_task(proxy.chat(model="cloud", headers=headers))
    await asyncio.wait([waiting], timeout=0.3)
    assert len(cloud.calls) == 1
    gate.open()
    assert ((await waiting).status_code, (await fallen).status_code) == (429, 200)
    await proxy.stop()
    assert len(cloud.calls) == 1
    (row,) = [row for row in proxy.rows() if row["fallback_from"] == "cloud"]
    assert row["cost_usd"] > 0.0001
