"""The proxy as users run it: uvicorn on a real port, here in its own thread.

    async with FakeUpstream() as local, FakeUpstream() as cloud, LiveProxy(…) as proxy:
        answer = await proxy.chat(model="auto")
        outcome = await proxy.finish()

`finish` stops the proxy and returns its rows and metrics. It also checks that they agree on every
request. The server is imported when the first proxy starts, so that test files load quickly.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import httpx2
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from fakes import EASY, PATIENCE_SECONDS, Call, FakeUpstream, StubModel
from proxy.config import UpstreamConfig, load_config
from proxy.record import PICODOLLARS, SecondLookResult, Target
from proxy.server.accepting import AcceptingServer

if TYPE_CHECKING:
    from proxy.routing.router import Model
    from proxy.server.app import Proxy
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
    """Apply `changes` to `base`, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value
    return merged


class Outcome:
    """The rows of a stopped proxy, in order of arrival, and its last metrics."""

    def __init__(self, rows: list[Row], metrics: Samples) -> None:
        self.rows = rows
        self.metrics = metrics

    @property
    def row(self) -> Row:
        """The only row."""
        (row,) = self.rows
        return row


class Samples:
    """Scraped metrics: `samples("router_tokens_total", target="local")` sums the matches."""

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
        """Counts by label values, which are sorted by label name."""
        counts: Counter[tuple[str, ...]] = Counter()
        for sample in self._samples:
            if sample.name == name and sample.value:
                counts[tuple(sample.labels[key] for key in sorted(sample.labels))] += int(
                    sample.value
                )
        return counts


class _Server(AcceptingServer):
    """The server; it reports when it listens and stops on request, both without polling."""

    def __init__(
        self, proxy: Proxy, *, head_seconds: float | None, connection: Mapping[str, Any]
    ) -> None:
        from proxy.web.client_connection import HEAD_SECONDS, Connection

        if head_seconds is None:
            head_seconds = HEAD_SECONDS
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
        """Replace uvicorn's shutdown, which sleeps 0.1 s; that adds up over hundreds of tests."""
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
    """A running proxy and a client of it. Arguments that are None have the server's defaults.

    Args:
        folder: for the configuration file and the database.
        local, cloud: the two tiers, or base URLs where nothing listens.
        changes: applied to the test configuration.
        model: the router model; "configured" loads `routing.model_path`; None is a stub.
        candidate: the shadow router's model.
        transport: opens a tier's connections.
        command: the first words of a command of the training pipeline.
        learning_seconds: between two checks whether self-calibration has enough judged pairs.
        probe_seconds: between two probes of a failed tier.
        load_seconds: the time limit of loading a local model.
        head_seconds, body_limits: time limits for receiving a request.
        connection: other limits of a client's connection.
        clock: measures the delay of the proxy's event loop.
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
        transport: OpenTransport | None = None,
        command: Sequence[str] | None = None,
        learning_seconds: float | None = None,
        probe_seconds: float | None = None,
        load_seconds: float | None = None,
        head_seconds: float | None = None,
        body_limits: BodyLimits | None = None,
        connection: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        is_demo: bool = False,
    ) -> None:
        from proxy.experiments.jobs import PIPELINE
        from proxy.server.app import Intervals, Proxy
        from proxy.upstream.running_models import LOAD_SECONDS
        from proxy.upstream.transport import open_transport

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
            transport=transport or open_transport,
            first_wait=0.002,
            load_seconds=LOAD_SECONDS if load_seconds is None else load_seconds,
            intervals=Intervals(
                watch=0.02,
                quality=0.5,
                drift=0.5,
                spent=0.05,
                keys=0.05,
                probe=Intervals.probe if probe_seconds is None else probe_seconds,
                learning=Intervals.learning if learning_seconds is None else learning_seconds,
            ),
            body_limits=body_limits,
            command=PIPELINE if command is None else command,
            clock=clock,
            is_demo=is_demo,
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
            verify=False,  # there is no TLS, and loading certificates takes time
        )

    async def __aenter__(self) -> LiveProxy:
        self._thread.start()
        assert await asyncio.to_thread(self._server.listening.wait, PATIENCE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop the server, which writes the pending rows."""
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

    async def connect(self, **fields: Any) -> RawClient:
        """Send a chat request over a new connection, without waiting for the answer."""
        return await RawClient.open(self.port, chat_body(**fields))

    async def connect_raw(self, data: bytes) -> RawClient:
        """Send these bytes over a new connection."""
        return await RawClient.open(self.port, b"", head=data)

    def configure(self, changes: Fields) -> None:
        """Apply changes to the configuration file, which the proxy watches."""
        fields = merge(json.loads(self.config_file.read_text()), changes)
        self.config_file.write_text(json.dumps(fields))

    async def reloaded(self, met: Callable[[], bool]) -> None:
        """Wait until a reload has made the condition true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not met():
                await self.client.get("/health")  # gives the proxy time

    async def scrape(self) -> Samples:
        return Samples((await self.client.get("/metrics")).text)

    async def queued(self, tier: str, requests: int = 1) -> None:
        """Wait until this many requests are queued for a slot of a tier."""
        upstream = self.proxy.gateway.snapshot.upstreams[Target(tier)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while upstream.queued < requests:
                await self.client.get("/health")  # gives the proxy time

    async def settled(self, requests: int = 1, *, in_flight: int = 0) -> Samples:
        """Wait until this many requests are counted; return the metrics.

        Args:
            in_flight: the number of upstream calls that remain open.
        """
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
                f"{samples('router_in_flight'):g} upstream calls are open"
            )

    async def finish(self, requests: int = 1) -> Outcome:
        """Stop the proxy; check that it has this many rows and that the metrics agree."""
        samples = await self.settled(requests)
        await self.stop()
        rows = self.rows()
        assert len(rows) == requests
        check_agreement(rows, samples)
        check_key_totals(self._database, rows)
        return Outcome(rows, samples)

    async def row_of(self, response: httpx2.Response) -> Row:
        """Wait for the row of an answer."""
        request_id = response.headers["x-request-id"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if rows := [row for row in self.rows() if row["id"] == request_id]:
                    (row,) = rows
                    return row
                await asyncio.sleep(0.02)

    async def rows_of(self, requests: int) -> list[Row]:
        """Wait until there are this many rows."""
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
    """Starts a proxy, which stops at the end of the test."""

    def __call__(
        self,
        changes: Fields | None = None,
        *,
        local: FakeUpstream | str | None = None,
        cloud: FakeUpstream | str | None = None,
        model: Model | Literal["configured"] | None = None,
        candidate: Model | None = None,
        transport: OpenTransport | None = None,
        probe_seconds: float | None = None,
        load_seconds: float | None = None,
        head_seconds: float | None = None,
        body_limits: BodyLimits | None = None,
        connection: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = ...,
        is_demo: bool = False,
    ) -> Awaitable[LiveProxy]: ...


@dataclass(frozen=True)
class World:
    """Both tiers and a proxy with the default configuration, shared by the tests of a file."""

    local: FakeUpstream
    cloud: FakeUpstream
    proxy: LiveProxy


class RawClient:
    """A client's raw connection: it can read in parts, close or abort."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, body: bytes, *, head: bytes | None = None) -> RawClient:
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

    async def read_some(self) -> bytes:
        return await self._reader.read(65_536)

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
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()

    def vanish(self) -> None:
        """Abort the connection."""
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
        of_target = [row for row in rows if row["target"] == target]
        for kind in ("input", "cached_input", "output"):
            total = sum(row[f"{kind}_tokens"] or 0 for row in of_target)
            assert samples("router_tokens_total", target=target, kind=kind) == total
        cost = sum(row["cost_usd"] or 0 for row in of_target)
        assert samples("router_cost_usd_total", target=target) == pytest.approx(cost)
        timed = sum(row["ttft_ms"] is not None for row in of_target)
        assert samples("router_time_to_first_token_seconds_count", target=target) == timed
    saved = sum(row["saved_usd"] or 0 for row in rows)
    net = samples("router_saved_usd_total") - samples("router_lost_usd_total")
    assert net == pytest.approx(saved, abs=1e-12)
    for name in ("score", "merit"):
        known = sum(row[name] is not None for row in rows)
        assert samples(f"router_{name}_count") == known
    fallbacks = sum(row["fallback_from"] is not None for row in rows)
    assert samples("router_fallbacks_total") == fallbacks
    for row in rows:  # the reason tells which local rows count against the cloud budgets
        if row["target"] == "local":
            assert (row["fallback_from"] == "cloud") == (row["reason"] == "fallback")
    discarded = sum(row["discarded_tokens"] or 0 for row in rows)
    assert samples("router_discarded_tokens_total") == discarded
    looks = [row for row in rows if row["second_look"] is not None]
    assert samples.by_labels("router_second_looks_total") == Counter(
        (row["second_look"],) for row in looks
    )
    for result in SecondLookResult:
        times = [row["second_look_ms"] for row in looks if row["second_look"] == result]
        known = [value / 1e3 for value in times if value is not None]
        seconds = "router_second_look_seconds"
        assert samples(f"{seconds}_count", result=result) == len(known)
        assert samples(f"{seconds}_sum", result=result) == pytest.approx(sum(known))
    assert samples("router_overhead_seconds_sum") >= 0
    assert samples("router_records_dropped_total") == 0


def check_key_totals(database: Path, rows: list[Row]) -> None:
    """The totals by API key, of hours and of days, agree with the rows."""
    expected = Counter(
        (row["client_key_hash"], row["target"] or "", row["ending"])
        for row in rows
        if row["client_key_hash"] is not None
    )
    spent = sum(row["cost_usd"] or 0 for row in rows if row["client_key_hash"] is not None)
    connection = sqlite3.connect(database)
    try:
        for table in ("key_hours", "key_days"):
            counted: Counter[tuple[str, str, str]] = Counter()
            picos = 0
            for *key, requests, pico in connection.execute(
                f"SELECT key_hash, target, ending, requests, cost_pico FROM {table}"
            ):
                counted[tuple(key)] += requests
                picos += pico
            assert counted == expected
            assert picos / PICODOLLARS == pytest.approx(spent, abs=1e-11)
    finally:
        connection.close()


def check_headers(headers: Mapping[str, str], row: Row) -> None:
    """The `x-router-*` headers and the row are two views of the same record."""
    assert headers["x-request-id"] == row["id"]
    for name in ("target", "model", "reason"):
        assert headers.get(f"x-router-{name}") == row[name]
    for name, digits in (("score", 4), ("merit", 4), ("threshold", 4)):
        shown, stored = headers.get(f"x-router-{name}"), row[name]
        assert shown == (None if stored is None else f"{stored:.{digits}f}")
    # A stream's headers may have been sent before the result of the second look.
    for name, value in (
        ("second-look", row["second_look"]),
        ("verified-merit", row["verified_merit"] and f"{row['verified_merit']:.4f}"),
    ):
        shown = headers.get(f"x-router-{name}")
        assert shown == value or (row["streamed"] and shown is None)
    assert ("x-router-decision-ms" in headers) == (row["decision_ms"] is not None)
    assert ("x-router-fallback" in headers) == (row["fallback_from"] is not None)
    if "x-router-cost-usd" in headers:
        assert float(headers["x-router-cost-usd"]) == pytest.approx(row["cost_usd"], abs=1e-9)
        assert float(headers["x-router-saved-usd"]) == pytest.approx(row["saved_usd"], abs=1e-9)


def envelope_of(response: httpx2.Response) -> dict[str, Any]:
    """Check that an answer is OpenAI's error envelope; return its error."""
    assert response.headers["content-type"].startswith("application/json")
    document = response.json()
    assert document.keys() == {"error"}
    error: dict[str, Any] = document["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


async def released(call: Call) -> None:
    """Check that the upstream's connection was closed before its answer ended."""
    await call.closed()
    assert not call.answered.is_set()
