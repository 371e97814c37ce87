"""The proxy as users run it: uvicorn on a real port, here in a thread of its own.

    async with FakeUpstream() as local, FakeUpstream() as cloud, LiveProxy(…) as proxy:
        answer = await proxy.chat(model="auto")
        outcome = await proxy.finish()

`finish` stops the proxy and returns what it kept: its rows and its metrics, which it also checks
against each other, because both must say the same of every request.
"""

import asyncio
import json
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from fakes import EASY, PATIENCE_SECONDS, Call, FakeUpstream, StubModel
from proxy.config import UpstreamConfig, load_config
from proxy.experiments.jobs import PIPELINE
from proxy.record import Target
from proxy.routing.router import Model
from proxy.server.app import Intervals, Proxy
from proxy.upstream.transport import open_transport
from proxy.web.client_connection import HEAD_SECONDS, Connection
from proxy.web.openai_api import BodyLimits

LOCAL_MODEL, CLOUD_MODEL = "phi3:latest", "gpt-4o-mini"
LOCAL_KEY, CLOUD_KEY = "local-key-of-ours", "sk-cloud-key-of-ours"
CLOUD_PRICE = {"input": 0.15, "cached_input": 0.075, "output": 0.60}

Row = dict[str, Any]
Fields = Mapping[str, Any]
Headers = Mapping[str, str] | Mapping[str, bytes]
OpenTransport = Callable[[UpstreamConfig], httpx2.AsyncBaseTransport]


def config_fields(folder: Path, local_url: str, cloud_url: str) -> dict[str, Any]:
    """A configuration for tests, as the mapping that a file would hold."""
    return {
        "upstreams": {
            "local": {
                "base_url": local_url,
                "model": LOCAL_MODEL,
                "api_key": LOCAL_KEY,
            },
            "cloud": {
                "base_url": cloud_url,
                "model": CLOUD_MODEL,
                "api_key": CLOUD_KEY,
                "price": CLOUD_PRICE,
            },
        },
        "routing": {"threshold": 0.5},
        "storage": {"url": f"sqlite:///{folder}/router.db"},
    }


def merge(base: Fields, changes: Fields) -> dict[str, Any]:
    """`changes` put over `base`, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value
    return merged


class Outcome:
    """What a proxy leaves behind: its rows in the order of arrival, and its metrics."""

    def __init__(self, rows: list[Row], metrics: "Samples") -> None:
        self.rows = rows
        self.metrics = metrics

    @property
    def row(self) -> Row:
        """The only row there is."""
        (row,) = self.rows
        return row


class Samples:
    """Scraped metrics: `samples("router_tokens_total", target="local")` sums what fits."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def by_labels(self, name: str) -> Counter[tuple[str, ...]]:
        """Label values in alphabetic order of their names, and the count."""
        found: Counter[tuple[str, ...]] = Counter()
        for sample in self._samples:
            if sample.name == name and sample.value:
                found[tuple(sample.labels[key] for key in sorted(sample.labels))] += int(
                    sample.value
                )
        return found


class _Server(uvicorn.Server):
    """uvicorn that says when it listens and stops when told, without polling for either."""

    def __init__(self, proxy: Proxy, *, head_seconds: float, connection: Mapping[str, Any]) -> None:
        # The same settings as the command line's.
        super().__init__(
            uvicorn.Config(
                proxy.app,
                loop="uvloop",
                http=partial(  # type: ignore[arg-type]
                    Connection, head_seconds=head_seconds, **connection
                ),
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        self.listening = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        self.listening.set()
        await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's own sleeps a tenth of a second, which several hundred tests would add up."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=PATIENCE_SECONDS)
        await self.lifespan.shutdown()

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)


class LiveProxy:
    """A running proxy and a client of it.

    Args:
        folder: for its configuration file and its database.
        local, cloud: the two tiers, or base URLs where nobody answers.
        changes: put over the test configuration.
        model: the router model; "configured": what routing.model_path names.
        candidate: the one at `routing.shadow_router`.
        transport: makes a tier's connections.
        command: what a command of the pipeline begins with.
        probe_seconds: between two probes of a failed tier.
        head_seconds, body_limits: how slowly a request may arrive.
        connection: other limits of a client's connection.
    """

    def __init__(
        self,
        folder: Path,
        local: FakeUpstream | str,
        cloud: FakeUpstream | str,
        *,
        changes: Fields | None = None,
        model: Model | Literal["configured"] | None = None,
        candidate: Model | None = None,
        transport: OpenTransport = open_transport,
        command: Sequence[str] = PIPELINE,
        probe_seconds: float = Intervals.probe,
        head_seconds: float = HEAD_SECONDS,
        body_limits: BodyLimits | None = None,
        connection: Mapping[str, Any] | None = None,
    ) -> None:
        urls = [tier if isinstance(tier, str) else tier.base_url for tier in (local, cloud)]
        fields = merge(config_fields(folder, *urls), changes or {})
        path = folder / "config.yaml"
        path.write_text(json.dumps(fields))  # JSON is YAML
        self._database = folder / "router.db"
        config = load_config(path, environ={})
        self.config_file = path
        self.proxy = Proxy(
            config,
            path=path,
            model=None if model == "configured" else model or StubModel(),
            shadow_model=candidate,
            transport=transport,
            first_wait=0.002,
            intervals=Intervals(
                watch=0.02, quality=0.5, drift=0.5, spent=0.05, probe=probe_seconds
            ),
            body_limits=body_limits,
            command=command,
        )
        self._server = _Server(self.proxy, head_seconds=head_seconds, connection=connection or {})
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.origin}/v1"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self.client = httpx2.AsyncClient(
            base_url=self.origin,
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            verify=False,  # nothing to verify, and loading certificates takes its time
        )

    async def __aenter__(self) -> "LiveProxy":
        self._thread.start()
        assert await asyncio.to_thread(self._server.listening.wait, PATIENCE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the server, which writes what is pending."""
        await self.client.aclose()
        if self._thread.is_alive():
            self._server.stop()
            await asyncio.to_thread(self._thread.join, PATIENCE_SECONDS)
            assert not self._thread.is_alive()

    async def post(self, body: bytes, headers: Headers | None = None) -> httpx2.Response:
        """POST bytes to /v1/chat/completions and read the answer, stream or not."""
        return await self.client.post("/v1/chat/completions", content=body, headers=headers)

    async def chat(self, *, headers: Headers | None = None, **fields: Any) -> Any:
        """POST a chat request of these fields."""
        return await self.post(chat_body(**fields), headers)

    async def connect(self, **fields: Any) -> "RawClient":
        """Send a chat request over a connection of its own, without waiting for the answer."""
        return await RawClient.open(self.port, chat_body(**fields))

    async def connect_raw(self, data: bytes) -> "RawClient":
        """Send these bytes over a connection of its own."""
        return await RawClient.open(self.port, b"", head=data)

    def configure(self, changes: Fields) -> None:
        """Put changes over what is in the configuration file; the proxy watches it."""
        fields = merge(json.loads(self.config_file.read_text()), changes)
        self.config_file.write_text(json.dumps(fields))

    async def reloaded(self, met: Callable[[], bool]) -> None:
        """Wait until the proxy has taken up what was configured."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not met():
                await self.client.get("/health")  # the time in which it may happen

    async def scrape(self) -> Samples:
        return Samples((await self.client.get("/metrics")).text)

    async def queued(self, tier: str, requests: int = 1) -> None:
        """Wait until this many requests wait for a slot of a tier."""
        upstream = self.proxy.gateway.snapshot.upstreams[Target(tier)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while upstream.queued < requests:
                await self.client.get("/health")  # the time in which it may happen

    async def settled(self, requests: int = 1, *, in_flight: int = 0) -> Samples:
        """The metrics, once this many requests are counted and no more upstreams are held."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    samples = await self.scrape()
                    counted = samples("router_requests_total")
                    if counted >= requests and samples("router_in_flight") == in_flight:
                        return samples
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pytest.fail(
                f"{counted:g} of {requests} requests are counted, "
                f"{samples('router_in_flight'):g} upstreams still held"
            )

    async def finish(self, requests: int = 1) -> Outcome:
        """Stop, and return exactly this many rows with the metrics that agree with them."""
        samples = await self.settled(requests)
        await self.stop()
        rows = self.rows()
        assert len(rows) == requests
        check_agreement(rows, samples)
        return Outcome(rows, samples)

    async def row_of(self, response: httpx2.Response) -> Row:
        """The row of one answer, as soon as it is written."""
        request_id = response.headers["x-request-id"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if found := [row for row in self.rows() if row["id"] == request_id]:
                    (row,) = found
                    return row
                await asyncio.sleep(0.02)

    async def rows_of(self, requests: int) -> list[Row]:
        """The rows, as soon as there are this many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if len(rows := self.rows()) >= requests:
                    assert len(rows) == requests
                    return rows
                await asyncio.sleep(0.02)

    def rows(self) -> list[Row]:
        connection = sqlite3.connect(self._database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("select * from requests order by id")]
        finally:
            connection.close()


def chat_body(**fields: Any) -> bytes:
    """A chat request; by default an easy question to `auto`."""
    messages = [{"role": "user", "content": fields.pop("text", EASY)}]
    return json.dumps({"model": "auto", "messages": messages} | fields).encode()


class StartProxy(Protocol):
    """Starts a proxy; it stops with the test at the latest."""

    def __call__(
        self,
        changes: Fields | None = None,
        *,
        local: FakeUpstream | str | None = None,
        cloud: FakeUpstream | str | None = None,
        model: Model | Literal["configured"] | None = None,
        candidate: Model | None = None,
        transport: OpenTransport = open_transport,
        probe_seconds: float = Intervals.probe,
        head_seconds: float = HEAD_SECONDS,
        body_limits: BodyLimits | None = None,
        connection: Mapping[str, Any] | None = None,
    ) -> Awaitable[LiveProxy]: ...


@dataclass(frozen=True)
class World:
    """Both tiers and a proxy with the tests' default configuration, shared by a file's tests."""

    local: FakeUpstream
    cloud: FakeUpstream
    proxy: LiveProxy


class RawClient:
    """A client's side of one connection, to be read a little, closed or reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, body: bytes, *, head: bytes | None = None) -> "RawClient":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if head is None:
            head = (
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
        writer.write(head + body)
        await writer.drain()
        return cls(reader, writer)

    async def read_until(self, marker: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readuntil(marker)

    async def read_exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.readexactly(size)

    async def read_to_end(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._reader.read()

    def start_sending(self, data: bytes) -> None:
        """Send without waiting until the proxy has taken it."""
        self._writer.write(data)

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def leave(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()

    def vanish(self) -> None:
        """Drop the connection without a word."""
        self._writer.transport.abort()


def check_agreement(rows: list[Row], samples: Samples) -> None:
    """Rows and metrics are two views of the same records."""
    assert samples.by_labels("router_requests_total") == Counter(
        (row["ending"], row["endpoint"], row["reason"] or "none", row["target"] or "none")
        for row in rows
    )
    failed = sum(row["ending"] not in ("ok", "client_gone") for row in rows)
    assert samples("router_errors_total") == failed
    for target in ("local", "cloud"):
        mine = [row for row in rows if row["target"] == target]
        for kind in ("input", "cached_input", "output"):
            total = sum(row[f"{kind}_tokens"] or 0 for row in mine)
            assert samples("router_tokens_total", target=target, kind=kind) == total
        cost = sum(row["cost_usd"] or 0 for row in mine)
        assert samples("router_cost_usd_total", target=target) == pytest.approx(cost)
        timed = sum(row["ttft_ms"] is not None for row in mine)
        assert samples("router_time_to_first_token_seconds_count", target=target) == timed
    saved = sum(row["saved_usd"] or 0 for row in rows)
    assert samples("router_saved_usd_total") == pytest.approx(saved)
    assert samples("router_score_count") == sum(row["score"] is not None for row in rows)
    fallbacks = sum(row["fallback_from"] is not None for row in rows)
    assert samples("router_fallbacks_total") == fallbacks
    assert samples("router_overhead_seconds_sum") >= 0
    assert samples("router_records_dropped_total") == 0


def check_headers(headers: Mapping[str, str], row: Row) -> None:
    """The `x-router-*` headers and the row are two views of the same record."""
    assert headers["x-request-id"] == row["id"]
    for name in ("target", "model", "reason"):
        assert headers.get(f"x-router-{name}") == row[name]
    for name, digits in (("score", 4), ("threshold", 4)):
        shown, kept = headers.get(f"x-router-{name}"), row[name]
        assert shown == (None if kept is None else f"{kept:.{digits}f}")
    assert ("x-router-decision-ms" in headers) == (row["decision_ms"] is not None)
    assert ("x-router-fallback" in headers) == (row["fallback_from"] is not None)
    if "x-router-cost-usd" in headers:
        assert float(headers["x-router-cost-usd"]) == pytest.approx(row["cost_usd"], abs=1e-9)
        assert float(headers["x-router-saved-usd"]) == pytest.approx(row["saved_usd"], abs=1e-9)


def envelope_of(response: httpx2.Response) -> dict[str, Any]:
    """The error of an answer in OpenAI's envelope, its form checked."""
    assert response.headers["content-type"].startswith("application/json")
    document = response.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


async def released(call: Call) -> None:
    """The upstream's connection was closed before its answer was over."""
    await call.closed()
    assert not call.answered.is_set()
