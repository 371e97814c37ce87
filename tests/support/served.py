"""The proxy as users run it: `hybrid-llm serve` in its own process, and clients of it.

    async with Served(folder, local, cloud) as proxy:
        answer = await ask(proxy.port, chat_body(model="auto"))
        assert await proxy.stop() == 0

A process can be killed and get signals; `live.LiveProxy`, a thread of the test process, cannot.
"""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fakes import FakeUpstream, reset
from live import Fields, Row, Samples, config_fields, merge

COMMAND = Path(sys.executable).with_name("hybrid-llm")
MODEL = Path(__file__).resolve().parents[2] / "data/models/router"
# Limit for a start or stop of a process on a busy machine.
START_SECONDS = 60.0
POLL_SECONDS = 0.01

_BASE_URL = re.compile(rb"base_url\W+http://127\.0\.0\.1:(\d+)/v1")


class Served:
    """A proxy process with its files in a folder, where it can be started again.

    Args:
        folder: for the configuration, the database and the log; the working directory.
        local, cloud: the two tiers.
        changes: applied to the test configuration.
        command: the program.
    """

    def __init__(
        self,
        folder: Path,
        local: FakeUpstream,
        cloud: FakeUpstream,
        *,
        changes: Fields | None = None,
        command: Sequence[str | Path] = (COMMAND,),
    ) -> None:
        self._command = command
        self.config_file = folder / "config.yaml"
        self.database = folder / "router.db"
        self.port = 0
        self._folder = folder
        self._log_file = folder / "proxy.log"
        self._process: subprocess.Popen[bytes] | None = None
        fields: dict[str, Any] = config_fields(folder, local.base_url, cloud.base_url)
        fields = merge(fields, {"server": {"port": 0}, "routing": {"model_path": str(MODEL)}})
        self.config_file.write_text(json.dumps(merge(fields, changes or {})))

    async def __aenter__(self) -> "Served":
        try:
            await self.start()
        except BaseException:
            self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Run the command; return when it listens. Every start has another port."""
        known = len(self.log)
        self._process = self._run()

        def listens() -> bool:
            assert self.runs, f"the proxy ended instead of starting:\n{self.log[known:].decode()}"
            match = _BASE_URL.search(self.log, known)
            self.port = int(match[1]) if match else 0
            return self.port != 0

        await until(listens, seconds=START_SECONDS, what="the proxy listens")

    def _run(self) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                [*self._command, "serve", "--config", self.config_file],
                cwd=self._folder,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ended(self) -> int:
        """Wait for its end; return the exit status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, START_SECONDS)

    async def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def configure(self, changes: Fields) -> None:
        """Apply changes to the configuration file, which the proxy watches."""
        fields = merge(json.loads(self.config_file.read_text()), changes)
        self.config_file.write_text(json.dumps(fields))

    @property
    def log(self) -> bytes:
        """The output and log of all starts."""
        return self._log_file.read_bytes() if self._log_file.exists() else b""

    async def scrape(self) -> Samples:
        return Samples((await ask(self.port, path="/metrics")).body.decode())

    def query(self, sql: str) -> list[Row]:
        """Query the database, whether the proxy runs or not."""
        connection = sqlite3.connect(self.database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql)]
        finally:
            connection.close()


class Head(NamedTuple):
    """The status and headers of an answer, with lower-case names."""

    status: int
    headers: Mapping[str, str]

    @property
    def request_id(self) -> str:
        return self.headers["x-request-id"]

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


class Answer(NamedTuple):
    """A complete answer."""

    head: Head
    body: bytes

    @property
    def request_id(self) -> str:
        return self.head.request_id


class IncompleteAnswer(ConnectionError):
    """The proxy closed the connection before the end of its answer."""


class Connection:
    """A client's connection for consecutive requests, which can be closed at any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reusable = True

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        with _incomplete_answers():
            await self._writer.drain()

    async def read_head(self) -> Head:
        with _incomplete_answers():
            text = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.reusable = headers.get("connection", "").lower() != "close"
        return Head(int(first.split(" ")[1]), headers)

    async def pieces(self, head: Head) -> AsyncGenerator[bytes, None]:
        """The pieces of the body that follows a head, as they arrive."""
        with _incomplete_answers():
            if "content-length" in head.headers:
                yield await self._reader.readexactly(int(head.headers["content-length"]))
                return
            assert head.headers["transfer-encoding"] == "chunked"
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)

    async def read_answer(self) -> Answer:
        head = await self.read_head()
        return Answer(head, b"".join([piece async for piece in self.pieces(head)]))

    async def ask(self, body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        await self.send(request(body, headers))
        return await self.read_answer()

    def leave(self) -> None:
        """Close the connection gracefully."""
        self._writer.close()

    def vanish(self) -> None:
        """Reset the connection, which discards unread data."""
        reset(self._writer)


@contextmanager
def _incomplete_answers() -> Iterator[None]:
    """Raise IncompleteAnswer for both errors that asyncio raises when the proxy disconnects."""
    try:
        yield
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise IncompleteAnswer(str(error)) from None


def request(
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    path: str = "/v1/chat/completions",
) -> bytes:
    """The bytes of a request, a POST if it has a body."""
    lines = [
        f"{'POST' if body else 'GET'} {path} HTTP/1.1",
        "host: localhost",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(
    port: int,
    body: bytes = b"",
    *,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request over a new connection."""
    connection = await Connection.open(port)
    try:
        await connection.send(request(body, headers, path=path))
        return await connection.read_answer()
    finally:
        connection.leave()


def children_of(pid: int) -> list[int]:
    """The running child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(
    met: Callable[[], bool | Awaitable[bool]], *, seconds: float = START_SECONDS, what: str
) -> None:
    """Wait for a condition. Raises TimeoutError with its description."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                result = met()
                if result if isinstance(result, bool) else await result:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise TimeoutError(f"not within {seconds:g} seconds: {what}") from None
