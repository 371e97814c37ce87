"""The loaded models of a replica, and when the proxy loads one."""

import asyncio
import json

from proxy.upstream.running_models import (
    FIRST_LOAD_PAUSE_SECONDS,
    MAX_LOAD_PAUSE_SECONDS,
    RunningModels,
)


class Server:
    """An Ollama, and the clock of the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.listed: list[str] | None = []
        self.load_answer: tuple[int, bytes] | None = (200, b"{}")
        self.loads_of: list[str] = []
        self.limits: list[float] = []
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.models = RunningModels(
            "local", "http://h:1/v1", send=self.send, load_seconds=77.0, clock=lambda: self.now
        )

    async def send(
        self, method: str, url: str, body: bytes = b"", *, seconds: float = 2.0
    ) -> tuple[int, bytes] | None:
        match method, url:
            case "GET", "http://h:1/api/ps" if self.listed is not None:
                return 200, json.dumps({"models": [{"name": n} for n in self.listed]}).encode()
            case "POST", "http://h:1/api/generate":
                self.loads_of.append(json.loads(body)["model"])
                self.limits.append(seconds)
                await self.may_finish.wait()
                if self.load_answer is not None and self.load_answer[0] == 200:
                    self.listed = [*(self.listed or []), *self.loads_of]
                return self.load_answer
        return 404, b""

    async def load(self, model: str = "phi3") -> bool:
        """Load a model to the end. Returns whether a load was possible."""
        task = self.models.load(model)
        if task is not None:
            await task
        return task is not None


async def test_nothing_is_cold_before_the_server_is_known() -> None:
    server = Server()
    await server.models.refresh()
    assert not server.models.is_cold("phi3")
    await server.models.detect()
    assert server.models.is_cold("phi3")


async def test_a_model_is_cold_until_its_load_is_answered() -> None:
    server = Server()
    await server.models.detect()
    server.may_finish.clear()
    task = server.models.load("phi3")
    assert task is not None
    assert server.models.load("phi3") is task  # a second request starts no second load
    server.listed = ["phi3:latest"]  # Ollama lists it from the start of the load
    await server.models.refresh()
    assert server.models.is_cold("phi3")
    server.may_finish.set()
    await task
    assert not server.models.is_cold("phi3")
    assert (server.loads_of, server.limits) == (["phi3"], [77.0])


async def test_a_server_that_stops_answering_tells_nothing() -> None:
    server = Server()
    await server.models.detect()
    server.listed = None
    await server.models.refresh()
    assert not server.models.is_cold("phi3")


async def test_models_are_told_apart() -> None:
    server = Server()
    server.listed = ["qwen3:4b"]
    await server.models.detect()
    assert (server.models.is_cold("phi3"), server.models.is_cold("qwen3:4b")) == (True, False)


async def test_the_pause_after_failed_loads_grows() -> None:
    server = Server()
    await server.models.detect()
    server.load_answer = (500, b"out of memory")
    pauses = []
    for _ in range(10):
        assert await server.load()
        assert server.models.is_cold("phi3")  # it cannot answer
        started = server.now
        while not await server.load():
            server.now += 1
            assert server.models.is_cold("phi3")
        pauses.append(server.now - started)
        server.now += MAX_LOAD_PAUSE_SECONDS
    assert pauses[0] == FIRST_LOAD_PAUSE_SECONDS
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_LOAD_PAUSE_SECONDS
    server.load_answer = (200, b"{}")
    assert await server.load()
    assert not server.models.is_cold("phi3")


async def test_a_load_without_an_answer_has_failed() -> None:
    server = Server()
    await server.models.detect()
    server.load_answer = None
    await server.load()
    assert (server.models.is_cold("phi3"), await server.load()) == (True, False)


async def test_a_refused_load_lets_requests_pass_for_the_pause() -> None:
    server = Server()
    await server.models.detect()
    server.load_answer = (404, b"model not found")
    await server.load()
    assert not server.models.is_cold("phi3")
    server.now += FIRST_LOAD_PAUSE_SECONDS
    assert server.models.is_cold("phi3")


async def test_a_bug_pauses_the_loads() -> None:
    server = Server()
    await server.models.detect()
    server.load_answer = (200, b"{}")
    server.may_finish = None  # type: ignore[assignment]
    assert await server.load()
    assert not await server.load()


async def test_closing_aborts_the_loads() -> None:
    server = Server()
    await server.models.detect()
    server.may_finish.clear()
    task = server.models.load("phi3")
    assert task is not None
    await asyncio.sleep(0)
    await server.models.close()
    assert task.cancelled()
    assert server.loads_of == ["phi3"]
