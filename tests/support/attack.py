"""Attacks over real sockets: what is sent, what is seen, and the checks that judge it.

An attack is held when its check returns None. Otherwise the check says what got through.
`hold` runs the attacks of a family one after another against one proxy, and reports them to the
table of `make attack`.
"""

import asyncio
import json
import logging
import resource
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from fakes import Call, FakeUpstream
from live import CLOUD_KEY, LOCAL_KEY, LiveProxy, chat_body

CHAT = "/v1/chat/completions"
# An unanswered attack is abandoned after this time.
ANSWER_SECONDS = 1.5
# A page of another client may be late by this much; continuous integration is busy.
LATE_SECONDS = 2.0
SMUGGLED = "smuggled"
PLAIN, OTHER, ADMIN = "sk-plain-0123456789", "sk-other-0123456789", "sk-admin-0123456789"
KEYS = {"server": {"api_keys": [{"key": PLAIN}, {"key": OTHER}, {"key": ADMIN, "admin": True}]}}
ATTACKS = "attacks"  # the property of a test's report


@dataclass(frozen=True)
class Reply:
    """One answer on a raw connection, with lower-case header names."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def is_envelope(self) -> bool:
        """Whether the body is an error in the form of OpenAI or, with a type, of Anthropic."""
        try:
            document = json.loads(self.body)
            error, fields = document["error"], {"message", "type"}
            if document.get("type") != "error":
                fields |= {"param", "code"}
            return fields == error.keys() and bool(error["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return False


@dataclass
class Seen:
    """What an attack caused.

    Attributes:
        raw: all bytes that the proxy sent.
        closed: whether the proxy closed the connection.
        calls: the requests that reached an upstream.
        errors: logged errors, with their tracebacks.
        facts: results of other kinds, by name.
    """

    raw: bytes = b""
    closed: bool = False
    replies: list[Reply] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def reply(self) -> Reply | None:
        return self.replies[0] if self.replies else None


Check = Callable[[Seen], str | None]


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        sent: the packets of a raw connection, or what the family's sender takes.
        check: returns what got through, or None if the attack was held.
    """

    family: str
    name: str
    sent: Any
    check: Check


# ── Checks ────────────────────────────────────────────────────────────────────────────────────


def sane(seen: Seen) -> str | None:
    """No internal error, no traceback, no secret."""
    if seen.errors:
        return f"logged an error: {seen.errors[0][-160:]!r}"
    if any(reply.status == 500 for reply in seen.replies):
        return "500"
    for secret in (CLOUD_KEY, LOCAL_KEY, "Traceback"):
        if secret.encode() in seen.raw:
            return f"shows {secret}"
    return None


def refused(seen: Seen) -> str | None:
    """An error of the client, in OpenAI's form, and nothing reached an upstream."""
    if seen.calls:
        return f"reached an upstream as {seen.calls[0].method} {seen.calls[0].path}"
    if seen.reply is None:
        return None if seen.closed else "no answer"
    statuses = [reply.status for reply in seen.replies]
    if not (400 <= statuses[0] < 500 or statuses[0] in (501, 505)):
        return f"answered {statuses[0]}"
    if not seen.replies[0].is_envelope:
        return f"{statuses[0]} is not the API's error form: {seen.replies[0].body[:60]!r}"
    return None


def refused_with(*statuses: int) -> Check:
    def check(seen: Seen) -> str | None:
        if seen.reply is not None and seen.reply.status not in statuses:
            return f"answered {seen.reply.status}, not {statuses}"
        return refused(seen)

    return check


def not_forwarded(seen: Seen) -> str | None:
    """Refused, or still waiting for the rest of the body."""
    if seen.calls:
        return f"reached an upstream as {seen.calls[0].method} {seen.calls[0].path}"
    return refused(seen) if seen.replies else None


def refused_and_closed(seen: Seen) -> str | None:
    return refused(seen) or (None if seen.closed else "the connection stays open")


def not_smuggled(seen: Seen) -> str | None:
    """No second request was read out of the first one's body."""
    if any(SMUGGLED in call.path for call in seen.calls):
        return "a request inside of a body was sent to an upstream"
    if len(seen.calls) > 1 or len(seen.replies) > 1:
        return f"{len(seen.replies)} answers to one request"
    return None if seen.replies or seen.closed else "no answer"


def answered_once(seen: Seen) -> str | None:
    """One successful answer, and one upstream request with the whole body."""
    if seen.reply is None:
        return "no answer"
    if seen.reply.status != 200 or len(seen.replies) != 1:
        return f"answered {[reply.status for reply in seen.replies]}"
    return None if len(seen.calls) == 1 else f"{len(seen.calls)} upstream requests"


def refused_or_harmless(seen: Seen) -> str | None:
    """Refused, or answered like a well-formed request that contains no control character."""
    if seen.reply is None:
        return None if seen.closed else "no answer"
    for call in seen.calls:
        for name, value in call.headers:
            if any(character < " " and character != "\t" for character in name + value):
                return f"the upstream got {name!r}: {value!r}"
    if len(seen.calls) > 1:
        return f"{len(seen.calls)} upstream requests"
    return None if seen.reply.status == 200 else refused(seen)


# ── Raw connections ───────────────────────────────────────────────────────────────────────────


def request(
    body: bytes = b"",
    *lines: str | bytes,
    method: str | bytes = "POST",
    path: str | bytes = CHAT,
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
    length: bool = True,
    close: bool = True,
) -> bytes:
    """The bytes of a request. Lines are added to its head as they are."""
    first = b" ".join(
        part if isinstance(part, bytes) else part.encode("latin-1")
        for part in (method, path, version)
    )
    head = [first]
    if host is not None:
        head.append(b"Host: " + host.encode("latin-1"))
    head += [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    if body or length:
        head.append(b"Content-Type: application/json")
    if length:
        head.append(b"Content-Length: %d" % len(body))
    if close:
        head.append(b"Connection: close")
    return b"\r\n".join([*head, b"", b""]) + body


QUESTION = chat_body(model="local")


async def exchange(
    port: int,
    packets: Sequence[bytes],
    *,
    seconds: float = ANSWER_SECONDS,
    max_bytes: int = 2**40,
) -> tuple[bytes, bool]:
    """Send packets; read until the proxy closes. Returns the bytes, and whether it closed.

    Args:
        max_bytes: further bytes are read and dropped.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    raw = bytearray()
    closed = False
    try:
        async with asyncio.timeout(seconds):
            for number, packet in enumerate(packets):
                if number:
                    await asyncio.sleep(0.002)  # so that packets are received separately
                writer.write(packet)
                await writer.drain()
            while piece := await reader.read(65536):
                raw += piece[: max_bytes - len(raw)]
            closed = True
    except TimeoutError:
        pass
    except ConnectionError:
        closed = True
    finally:
        writer.transport.abort()
    return bytes(raw), closed


def read_replies(raw: bytes) -> list[Reply]:
    """The complete answers of a connection, without interim ones."""
    replies = []
    while True:
        head, blank, rest = raw.partition(b"\r\n\r\n")
        if not blank or not head.startswith(b"HTTP/"):
            return replies
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(":") for line in lines)
        ]
        status = int(first.split(" ")[1])
        named = dict(headers)
        if status < 200:
            raw = rest
            continue
        if named.get("transfer-encoding") == "chunked":
            body, rest = _dechunk(rest)
        elif "content-length" in named:
            size = int(named["content-length"])
            body, rest = rest[:size], rest[size:]
        elif status in (204, 304):
            body = b""
        else:
            body, rest = rest, b""
        replies.append(Reply(status, headers, body))
        raw = rest


def _dechunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        try:
            size = int(line, 16)
        except ValueError:
            return body, b""
        if size == 0:
            return body, data[2:]
        body, data = body + data[:size], data[size + 2 :]


# ── Running a family ──────────────────────────────────────────────────────────────────────────


class _Errors(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


Send = Callable[[Attack, Seen], Awaitable[None]]


class AttackRunner:
    """A proxy between two upstreams that attacks are tried on.

    Args:
        record_property: pytest's fixture, for the table.
    """

    def __init__(
        self,
        proxy: LiveProxy,
        local: FakeUpstream,
        cloud: FakeUpstream,
        record_property: Callable[[str, object], None],
    ) -> None:
        self.proxy = proxy
        self._tiers = (local, cloud)
        self._record_property = record_property

    async def hold(self, attacks: Iterable[Attack], send: Send | None = None) -> None:
        """Try all attacks; fail with the list of those that got through.

        Args:
            send: performs an attack whose `sent` is not the packets of one connection.
        """
        through: list[str] = []
        number = 0
        family = ""
        for attack in attacks:
            number, family = number + 1, attack.family
            if problem := await self.attempt(attack, send):
                through.append(f"{attack.name}: {problem}")
        if (status := (await self.proxy.client.get("/health")).status_code) != 200:
            through.append(f"afterwards /health: {status}")
        report(self._record_property, family, number, through)

    async def hold_together(self, attacks: Sequence[Attack], send: Send) -> None:
        """The same at once, for attacks that take time. None may reach an upstream."""
        errors = _Errors()
        logging.getLogger().addHandler(errors)
        pairs = [(attack, Seen()) for attack in attacks]
        try:
            await asyncio.gather(*(send(attack, seen) for attack, seen in pairs))
        finally:
            logging.getLogger().removeHandler(errors)
        through = [f"logged an error: {line[-160:]!r}" for line in errors.lines]
        through += [
            f"reached an upstream: {call.path}" for tier in self._tiers for call in tier.calls
        ]
        for attack, seen in pairs:
            if problem := attack.check(seen) or sane(seen):
                through.append(f"{attack.name}: {problem}")
        report(self._record_property, attacks[0].family, len(attacks), through)

    async def attempt(self, attack: Attack, send: Send | None = None) -> str | None:
        for tier in self._tiers:
            tier.calls.clear()
        seen = Seen()
        errors = _Errors()
        logging.getLogger().addHandler(errors)
        try:
            if send is not None:
                await send(attack, seen)
            else:
                packets = [attack.sent] if isinstance(attack.sent, bytes) else attack.sent
                seen.raw, seen.closed = await exchange(self.proxy.port, packets)
                seen.replies = read_replies(seen.raw)
        except (AssertionError, OSError, TimeoutError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            logging.getLogger().removeHandler(errors)
        seen.calls = [call for tier in self._tiers for call in tier.calls]
        seen.errors = errors.lines
        return attack.check(seen) or sane(seen)


class StartRunner(Protocol):
    """Starts the proxy of a family."""

    def __call__(self, changes: Any = None, **given: Any) -> Awaitable[AttackRunner]: ...


def report(
    record_property: Callable[[str, object], None],
    family: str,
    number: int,
    through: Sequence[str],
) -> None:
    """Add a family to the table; fail if attacks got through."""
    record_property(ATTACKS, [family, number, len(through)])
    if through:
        listed = "\n".join(f"  {item}" for item in through[:200])
        pytest.fail(
            f"{family}: {len(through)} of {number} attacks got through\n{listed}", pytrace=False
        )


# ── Delay and memory ──────────────────────────────────────────────────────────────────────────


class Bystander:
    """Another client, which asks for /health all the time. `worst` is its slowest answer, in s."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.worst = 0.0
        self.failures = 0

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        import http.client

        while not self._over.wait(0.01):
            started = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request("GET", "/health", headers={"connection": "close"})
                if connection.getresponse().status != 200:
                    self.failures += 1
            except OSError:
                self.failures += 1
            finally:
                connection.close()
            self.worst = max(self.worst, time.monotonic() - started)


def resident_mb() -> float:
    """Resident memory of this process, which contains the proxy, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


class Peak:
    """The growth of resident memory within a block, in MB."""

    def __init__(self) -> None:
        self.growth = 0.0
        self._over = threading.Event()

    def _watch(self, start: float) -> None:
        while not self._over.wait(0.005):
            self.growth = max(self.growth, resident_mb() - start)


@contextmanager
def peak_memory() -> Iterator[Peak]:
    peak = Peak()
    thread = threading.Thread(target=peak._watch, args=[resident_mb()])
    thread.start()
    try:
        yield peak
    finally:
        peak._over.set()
        thread.join()
