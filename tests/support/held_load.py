"""Load without pauses, and an upstream that holds chosen streams, for tests of shutdown."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from fakes import (
    DONE,
    PATIENCE_SECONDS,
    Answer,
    Call,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    openai_events,
    whole,
)
from live import chat_body
from served import Connection, until

CLIENTS = 6
HELD = "Wait for it."
HELD_BEGINNING = event(chunk({"role": "assistant", "content": "Hel"}))


class Completed(NamedTuple):
    """A request with a complete answer, and the monotonic time of its end."""

    id: str
    at: float
    status: int


class Load:
    """Clients in a closed loop, with streams and whole answers, routed and forced."""

    def __init__(self, port: int, *, clients: int = CLIENTS) -> None:
        self._port = port
        self.clients = clients
        self._over = False
        self.completed: list[Completed] = []
        self.cut = 0  # streams that ended without their last event
        self.broken = 0  # requests whose connection ended before their answer
        self.refused = 0  # connections

    def end(self) -> None:
        self._over = True

    async def run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for number in range(self.clients):
                clients.create_task(self._send_requests(number))

    async def _send_requests(self, number: int) -> None:
        sent = 0
        while not self._over:
            try:
                connection = await Connection.open(self._port)
            except ConnectionError:
                self.refused += 1
                await asyncio.sleep(0.01)
                continue
            try:
                while not self._over:
                    sent += 1
                    body = chat_body(
                        text=f"How much is {number} + {sent}?",
                        stream=sent % 2 == 0,
                        model=("auto", "local", "cloud")[sent % 3],
                    )
                    answer = await connection.ask(body)
                    completed = Completed(answer.request_id, time.monotonic(), answer.head.status)
                    self.completed.append(completed)
                    if answer.head.is_stream and not answer.body.endswith(DONE):
                        self.cut += 1
            except ConnectionError:
                self.broken += 1
            finally:
                connection.leave()


@asynccontextmanager
async def under_load(port: int, *, clients: int = CLIENTS) -> AsyncIterator[Load]:
    """Run clients until the end of the block, which starts when they get answers."""
    load = Load(port, clients=clients)
    running = asyncio.create_task(load.run())
    try:
        await until(
            lambda: len(load.completed) > clients,
            seconds=PATIENCE_SECONDS,
            what="clients are answered",
        )
        yield load
    finally:
        load.end()
        await asyncio.wait_for(running, PATIENCE_SECONDS)


def answers(call: Call) -> Answer:
    events = chunked(*openai_events())
    return events if call.json.get("stream") else whole(answer_json())


class Holding:
    """Answers immediately, but streams for HELD wait at the gate after their first word."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, call: Call) -> Answer:
        if call.json["messages"][0]["content"] != HELD:
            return answers(call)
        return chunked(HELD_BEGINNING, self.gate, *openai_events(["lo"]))
