"""No body of one client delays the others: measured with a proxy in a process of its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes import FakeUpstream, answer_json, whole
from served import Connection, Served, request

# The proxy's own share is well below 0.1 s; the rest is for a machine that is busy otherwise.
MAX_SECONDS = 1.0
SIZE = 31_000_000
MESSAGE = b'{"role":"user","content":"x"}'

BODIES = {
    "messages": ("/v1/chat/completions", b'"messages":[', MESSAGE + b",", MESSAGE + b"]"),
    "fields": ("/v1/chat/completions", b'"messages":[' + MESSAGE + b"],", b'"k":1,', b'"k":1'),
    "metadata": ("/v1/chat/completions", b'"metadata":{', b'"k":"",', b'"k":""}'),
    "parts": (
        "/v1/chat/completions",
        b'"messages":[{"role":"user","content":[',
        b'{"type":"text","text":"x"},',
        b'{"type":"text"}]}]',
    ),
    "tools": (
        "/v1/chat/completions",
        b'"messages":[' + MESSAGE + b'],"tools":[',
        b'{"type":"function"},',
        b"{}]",
    ),
    "tokens": ("/v1/completions", b'"prompt":[', b"1,", b"1]"),
    "token lists": ("/v1/completions", b'"prompt":[', b"[1],", b"[1]]"),
    "embedded tokens": ("/v1/embeddings", b'"input":[', b"1,", b"1]"),
    "items": ("/v1/responses", b'"input":[', MESSAGE + b",", MESSAGE + b"]"),
    "escapes": ("/v1/responses", b'"input":"', b"\\n", b'"'),
}


@pytest.fixture
async def served(tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream) -> AsyncIterator[Served]:
    local.answer = cloud.answer = whole(answer_json())
    async with Served(tmp_path, local, cloud) as proxy:
        yield proxy


async def post(port: int, data: bytes) -> int:
    """Returns the status."""
    connection = await Connection.open(port)
    for start in range(0, len(data), 2**18):
        await connection.send(data[start : start + 2**18])
    status = (await connection.read_head()).status
    connection.leave()
    return status


async def test_no_body_delays_other_clients(served: Served) -> None:
    other = await Connection.open(served.port)
    for name, (path, first, repeated, last) in BODIES.items():
        body = b'{"model":"cloud",' + first + repeated * (SIZE // len(repeated)) + last + b"}"
        sending = asyncio.create_task(post(served.port, request(body, path=path)))
        slowest = 0.0
        while not sending.done():
            since = time.perf_counter()
            await other.send(request(path="/health"))
            assert (await other.read_answer()).head.status == 200
            slowest = max(slowest, time.perf_counter() - since)
            await asyncio.sleep(0.005)
        assert (name, await sending) == (name, 400)
        assert slowest < MAX_SECONDS, name
    other.leave()
