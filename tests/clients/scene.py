"""Requests and expected answers of all clients, and a view of the upstreams' calls."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import tasks
from pydantic import BaseModel

LOCAL_MODEL, CLOUD_MODEL = "llama3.1:8b", "gpt-4o-mini"
EASY = "What is 2+2?"
HARD = "Find the eigenvalues of [[2,1,0],[1,3,1],[0,1,2]] and prove it to be positive definite."
PNG = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
TEXT = "2 + 2 is 4, naïvely 🙂."


class Report(BaseModel):
    """A report on the weather."""

    city: str
    degrees: float
    winds: list[str]


REPORT = Report(city="Zürich", degrees=21.5, winds=["Zürich"])
CITIES = ["Zürich", "Paris"]


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


async def cancel_reading(stream: AsyncIterator[object]) -> None:
    """Cancel the task that reads a stream, as servers do when their client leaves.

    The task is cancelled after the first piece. Raises the error of a stream that has none.
    """
    has_begun = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            has_begun.set()

    reading = asyncio.create_task(read())
    beginning = asyncio.create_task(has_begun.wait())
    await asyncio.wait([reading, beginning], return_when=asyncio.FIRST_COMPLETED)
    reading.cancel()
    beginning.cancel()
    with suppress(asyncio.CancelledError):
        await reading


class Call(NamedTuple):
    """A request that an upstream received."""

    tier: str
    path: str
    headers: dict[str, str]
    body: Any


class Stage:
    """The stage's record of the upstreams' calls."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def calls(self) -> list[Call]:
        return [Call(**call) for call in self._ask("GET", "/calls")]

    @property
    def call(self) -> Call:
        """The only call."""
        (call,) = self.calls
        return call

    @property
    def tiers(self) -> list[str]:
        return [call.tier for call in self.calls]

    def measure(self, ask: Callable[[str], object]) -> str:
        """The requests that both tiers received for the easy tasks, and for the hard ones.

        Args:
            ask: what the client does for one task.

        Returns:
            local+cloud of the easy tasks / local+cloud of the hard ones, as `5+0 / 0+5`.
        """
        return " / ".join(self._count(ask, texts) for texts in (tasks.EASY, tasks.HARD))

    def _count(self, ask: Callable[[str], object], texts: Iterable[str]) -> str:
        self.forget()
        for task in texts:
            before = len(self.calls)
            ask(task)
            assert len(self.calls) > before, f"no tier received {task!r}"
        return f"{self.tiers.count('local')}+{self.tiers.count('cloud')}"

    def forget(self) -> None:
        self._ask("DELETE", "/calls")

    def wait_until_released(self, number: int = 0) -> None:
        """Wait until the proxy has closed a call."""
        self._ask("GET", f"/calls/{number}/closed")

    def _ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self._url + path, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
