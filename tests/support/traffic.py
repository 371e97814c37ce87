"""Random traffic: upstreams and clients with all kinds of behaviour and faults.

    ledger = Ledger()
    upstream.answer = Script(random.Random(1))
    await Client(port, random.Random(2), ledger).run(over)

The given `rng` determine everything. The ledger has the expected outcome of each request.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from fakes import (
    DONE,
    WIRE_FORMS,
    Answer,
    Call,
    End,
    Pause,
    Step,
    answer_json,
    chunk,
    chunked,
    error_json,
    event,
    head,
    openai_events,
    whole,
)
from live import CLOUD_MODEL, LOCAL_MODEL
from load import WORDS
from served import Connection, Head, request

FOREVER_SECONDS: Final = 120.0  # longer than any timeout here
DEADLINE_SECONDS: Final = 20.0  # a client that waits longer counts as stuck
MAX_BODY_MB: Final = 1.0  # the `server.max_body_mb` that makes the large body too large
FAULT_SHARE: Final = 0.15
PROBE: Final = "Are you there?"  # answered at once, to measure the proxy's own latency
THINKING_SECONDS: Final = 0.25  # mean pause of a client between two requests


# --- upstreams ---


class Script:
    """The answers of one tier: mostly good, often slow, sometimes one of many faults."""

    def __init__(self, rng: random.Random) -> None:
        self._dice = rng
        self.down = False
        self.answers: Counter[str] = Counter()
        self._faults: dict[str, Callable[[bool], Answer]] = {
            "429": lambda _: self._error(429, ("retry-after", rng.choice(["0", "1", "30"]))),
            "429-quota": lambda _: self._error(429, code="insufficient_quota"),
            "500": lambda _: self._error(500),
            "503": lambda _: self._error(503, ("retry-after-ms", "100")),
            "400": lambda _: self._error(400),
            "error-inside": self._error_inside,
            "unfinished": lambda stream: self._cut(stream, End.FIN, ends_well=True),
            "fin-before": lambda _: [End.FIN],
            "fin-inside": lambda stream: self._cut(stream, End.FIN),
            "reset-before": lambda _: [End.RESET],
            "reset-inside": lambda stream: self._cut(stream, End.RESET),
            "silent-before": lambda _: [Pause(FOREVER_SECONDS)],
            "silent-inside": lambda stream: self._cut(stream, Pause(FOREVER_SECONDS)),
            "garbage": lambda _: self._garbage(),
        }

    def __call__(self, call: Call) -> Answer:
        body = call.json
        if body["messages"][-1]["content"] == PROBE:
            return whole(answer_json("Here."))
        if self.down:
            kind, answer = "down", self._error(503)
        elif self._dice.random() < FAULT_SHARE:
            kind = self._dice.choice(list(self._faults))
            answer = self._faults[kind](bool(body.get("stream")))
        else:
            kind, answer = "good", self._good(body)
        self.answers[kind] += 1
        return answer

    def _good(self, body: dict[str, Any]) -> Answer:
        words = [f"{word} " for word in self._dice.choices(WORDS, k=self._dice.randint(1, 60))]
        first = self._dice.choice([0.0, 0.0, 0.02, 0.1, 0.5])
        between = self._dice.choice([0.0, 0.0, 0.002, 0.01, 0.05])
        prompt = sum(len(message["content"].split()) for message in body["messages"]) + 20
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words)}
        if not body.get("stream"):
            answer = whole(answer_json("".join(words), usage=usage))
            return [Pause(first + between * len(words)), *answer]
        steps: list[Step] = [Pause(first)]
        for piece in self._dice.choice(list(WIRE_FORMS.values()))(words, usage):
            steps += [piece, Pause(between)] if between else [piece]
        return chunked(*steps)

    def _error(self, status: int, *headers: tuple[str, str], code: str | None = None) -> Answer:
        return whole(error_json("not now", code=code), status=status, headers=headers)

    def _error_inside(self, stream: bool) -> Answer:
        failure = error_json("out of memory")
        if not stream:
            return whole(failure)
        first = openai_events()[: self._dice.randint(0, 4)]
        return chunked(*first, event(failure), *self._dice.choice([[DONE], []]))

    def _cut(self, stream: bool, step: Step, *, ends_well: bool = False) -> Answer:
        """An answer that stops in the middle; with `ends_well` its HTTP is complete."""
        if not stream:
            return [head(headers=[("content-length", "999")]), b'{"id":', step]
        first = openai_events()[: self._dice.randint(0, 5)]
        return chunked(*first) if ends_well else chunked(*first, step)

    def _garbage(self) -> Answer:
        noise = self._dice.randbytes(self._dice.randint(1, 3_000))
        return self._dice.choice(
            [
                [noise, End.FIN],
                [head(headers=[("transfer-encoding", "chunked")]), b"zz\r\n" + noise, End.FIN],
                whole(noise),
                whole(b"<html>no such page</html>", status=502, content_type="text/html"),
                chunked(noise),
                chunked(event(noise.replace(b"\n", b" ")), *openai_events()),
                chunked(event(chunk({"content": "long " * 20_000})), *openai_events()[-3:]),
            ]
        )


# --- clients ---


class Seen(NamedTuple):
    """A client's view of a request whose answer has started."""

    status: int
    target: str | None
    reason: str | None
    verdict: str  # ok, error or left


class Ledger:
    """All requests of all clients, to compare with rows and metrics at the end."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}
        self.unseen = 0  # closed gracefully before an answer: the proxy has read the request
        self.unseen_reset = 0  # closed by a reset: the proxy may not have read it
        self.made: Counter[str] = Counter()
        self.latencies_ms: list[float] = []  # of good answers
        self.stuck = 0
        self.wrong: Counter[str] = Counter()  # failures

    @property
    def requests(self) -> int:
        return len(self.seen) + self.unseen + self.unseen_reset

    def note(self, answer: Head, verdict: str) -> None:
        names = answer.headers
        target, reason = names.get("x-router-target"), names.get("x-router-reason")
        if answer.request_id in self.seen:
            self.wrong["an id was used twice"] += 1
        if verdict == "cut":
            self.wrong["a stream ended without an end or an error"] += 1
        self.seen[answer.request_id] = Seen(answer.status, target, reason, verdict)


def judge(answer: Head, body: bytes) -> str:
    """Classify a complete answer: ok, error, or cut, which is a failure."""
    if answer.status >= 400:
        return "error"
    if not answer.is_stream:
        return "error" if body.startswith(b'{"error":') else "ok"
    if b'data: {"error":' in body:
        return "error"
    return "ok" if b"[DONE]" in body or b'"finish_reason": "stop"' in body else "cut"


WRONG_BODIES: Final = (
    b"{",
    b"[]",
    b'{"model":"auto"}',
    b'{"model":"auto","messages":"hello"}',
    b'{"model":"auto:threshold=high","messages":[{"role":"user","content":"Hi"}]}',
    b'{"model":"auto","messages":"%b"}' % (b"x" * int(1.1 * MAX_BODY_MB * 2**20)),
)
MODELS: Final = (
    *["auto"] * 8,
    CLOUD_MODEL,  # also routed
    "auto:threshold=0.7",
    "auto:cost=0.4",
    *["local", "cloud"] * 3,
    LOCAL_MODEL,
    "gpt-of-a-client",
)
PROMPT_WORDS: Final = (*[8, 20, 60, 250] * 10, 4_000)  # the last exceeds the local context
TOOLS: Final = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
GARBAGE: Final = (b"", b"POST /v1/chat", b"\x16\x03\x01 hi\r\n\r\n")
KINDS: Final = {"stays": 80, "leaves": 14, "errs": 5, "babbles": 1}


class Client:
    """A client that sends requests until it is stopped."""

    def __init__(self, port: int, rng: random.Random, ledger: Ledger) -> None:
        self._port = port
        self._dice = rng
        self._ledger = ledger
        self._connection: Connection | None = None

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(self._dice.expovariate(1 / THINKING_SECONDS))
            (kind,) = self._dice.choices(list(KINDS), list(KINDS.values()))
            self._ledger.made[kind] += 1
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await getattr(self, f"_{kind}")()
            except TimeoutError:
                self._ledger.stuck += 1
                self._drop()
            except ConnectionError:
                self._ledger.wrong[f"a client that {kind} lost its connection"] += 1
                self._drop()
        self._drop()

    async def _connect(self) -> Connection:
        """The connection of the previous request, or a new one."""
        if self._connection is None:
            self._connection = await Connection.open(self._port)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.leave()
        self._connection = None

    def _request(self) -> bytes:
        """A valid request with a new prompt."""
        rng = self._dice
        turns = [("user", self._words(rng.choice(PROMPT_WORDS)))]
        if rng.random() < 0.3:
            earlier = [("user", self._words(9)), ("assistant", "Yes.")]
            turns = [("system", "Answer briefly."), *earlier, *turns]
        fields: dict[str, Any] = {
            "model": rng.choice(MODELS),
            "messages": [{"role": role, "content": text} for role, text in turns],
            "stream": rng.random() < 0.5,
        }
        if fields["stream"] and rng.random() < 0.3:
            fields["stream_options"] = {"include_usage": True}
        if rng.random() < 0.1:
            fields["tools"] = TOOLS  # unsupported by the local model
        headers = {}
        if rng.random() < 0.1:
            headers["x-router-threshold"] = f"{rng.random():.2f}"
        return request(json.dumps(fields).encode(), headers)

    def _words(self, number: int) -> str:
        return f"{' '.join(self._dice.choices(WORDS, k=number))} {self._dice.getrandbits(60)}?"

    async def _stays(self) -> None:
        """Send a request and read the whole answer, sometimes slowly."""
        connection = await self._connect()
        started = time.perf_counter()
        await connection.send(self._request())
        answer = await connection.read_head()
        is_slow = self._dice.random() < 0.05
        parts = []
        async for piece in connection.pieces(answer):
            parts.append(piece)
            if is_slow:
                await asyncio.sleep(0.02)
        verdict = judge(answer, b"".join(parts))
        self._ledger.note(answer, verdict)
        if verdict == "ok":
            self._ledger.latencies_ms.append((time.perf_counter() - started) * 1e3)
        if self._dice.random() < 0.2 or not connection.reusable:
            self._drop()

    async def _leaves(self) -> None:
        """Send a request, and close or reset the connection at a random moment."""
        connection = await Connection.open(self._port)
        resets = self._dice.random() < 0.5
        when = self._dice.choice(["asking", "at once", "waiting", "reading", "reading"])
        data = self._request()
        if when == "asking":
            data = data[: data.index(b"\r\n\r\n") + 4 + self._dice.randint(0, 40)]
        answer = None
        try:
            await connection.send(data)
            if when == "waiting":
                await asyncio.sleep(self._dice.expovariate(1 / 0.1))
            elif when == "reading":
                answer = await connection.read_head()
                await self._read_some(connection, answer)
        finally:
            if resets:
                connection.vanish()
            else:
                connection.leave()
            if answer is not None:
                self._ledger.note(answer, "left")
            elif resets:
                self._ledger.unseen_reset += 1
            else:
                self._ledger.unseen += 1

    async def _read_some(self, connection: Connection, answer: Head) -> None:
        left = self._dice.randint(0, 5)
        async with aclosing(connection.pieces(answer)) as pieces:
            while left and await anext(pieces, None) is not None:
                left -= 1

    async def _errs(self) -> None:
        """Send an invalid request, and expect an error."""
        connection = await self._connect()
        await connection.send(request(self._dice.choice(WRONG_BODIES)))
        answer = await connection.read_answer()
        if answer.head.status not in (400, 413) or b'"invalid_request_error"' not in answer.body:
            self._ledger.wrong[f"a wrong request was answered with {answer.head.status}"] += 1
        self._ledger.note(answer.head, "error")
        if not connection.reusable:
            self._drop()

    async def _babbles(self) -> None:
        """Send garbage, which makes no row."""
        connection = await Connection.open(self._port)
        await connection.send(self._dice.choice(GARBAGE))
        await asyncio.sleep(0.01)
        connection.leave()
