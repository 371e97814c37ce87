"""Answers of any size: limits, and other requests that go on meanwhile."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import httpx2
import pytest

from fakes import (
    DONE,
    Answer,
    End,
    FakeUpstream,
    Gate,
    answer_json,
    chunk,
    chunked,
    event,
    head,
    whole,
)
from live import StartProxy, envelope_of
from proxy.record import MAX_TEXT_CHARS
from proxy.upstream.response import decode_body

MB = 2**20
SMALL = {"upstreams": {tier: {"max_response_mb": 0.5} for tier in ("local", "cloud")}}

TOO_LARGE: dict[str, Answer] = {
    "whole": whole(b" " * MB),
    "chunked": chunked(*[b" " * 65_536] * 16, Gate(), content_type="application/json"),
    "without-end": [head() + b" " * MB, Gate()],
    "gzip": whole(gzip.compress(b" " * 32 * MB), headers=[("content-encoding", "gzip")]),
    "many-gzip-members": whole(
        gzip.compress(b" " * 1000) * 1000, headers=[("content-encoding", "gzip")]
    ),
    "error": whole(b" " * MB, status=400),
}


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_an_answer_beyond_the_limit_is_one_clear_error(
    start: StartProxy, local: FakeUpstream, name: str
) -> None:
    proxy = await start(SMALL)
    local.answer = TOO_LARGE[name]
    response = await proxy.chat(model="local")
    assert response.status_code == 502
    error = envelope_of(response)
    assert error["code"] == "upstream_broken"
    assert "0.5 MB" in error["message"]
    if name in ("chunked", "without-end"):
        await local.call.closed()
    assert len(local.calls) == 1  # another attempt would be as large
    outcome = await proxy.finish()
    assert outcome.row["ending"] == "upstream_error"


async def test_the_other_tier_answers_for_one_that_says_too_much(
    start: StartProxy, local: FakeUpstream
) -> None:
    proxy = await start(SMALL)
    local.answer = whole(b" " * MB)
    response = await proxy.chat()
    assert (response.status_code, response.content) == (200, answer_json())


async def test_an_answer_within_the_limit_arrives(start: StartProxy, local: FakeUpstream) -> None:
    proxy = await start(SMALL)
    body = answer_json("x" * 500_000)
    for answer in (
        whole(body),
        whole(gzip.compress(body), headers=[("content-encoding", "gzip")]),
    ):
        local.answer = answer
        assert (await proxy.chat(model="local")).content == body


class Chunks(httpx2.AsyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for item in self._chunks:
            yield item


async def test_unpacking_lets_others_work() -> None:
    """A few hundred kilobytes may become hundreds of megabytes."""
    packed = gzip.compress(b" " * 64 * MB, compresslevel=1)
    pauses = []

    async def watch() -> None:
        while True:
            since = time.thread_time()
            await asyncio.sleep(0)
            pauses.append(time.thread_time() - since)

    watching = asyncio.create_task(watch())
    size = 0
    async for data in decode_body(Chunks(packed), "gzip"):
        assert len(data) <= 65_536
        size += len(data)
    watching.cancel()
    assert size == 64 * MB
    assert len(pauses) > 1000
    assert max(pauses) < 0.1


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 3 * 65_536])
async def test_unpacking_is_complete_at_the_edges_of_its_steps(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    packed = gzip.compress(data[:size])
    for step in (1, 7, len(packed)):
        pieces = [packed[start : start + step] for start in range(0, len(packed), step)]
        unpacked = b"".join([item async for item in decode_body(Chunks(*pieces), "gzip")])
        assert unpacked == data[:size]


async def test_a_stream_keeps_a_bounded_part_of_its_text(
    start: StartProxy, local: FakeUpstream
) -> None:
    pieces = [event(chunk({"content": "x" * 60_000})) for _ in range(40)]
    end = [event(chunk({}, "stop")), DONE]
    local.answer = chunked(*pieces, *end)
    proxy = await start()
    response = await proxy.chat(model="local", stream=True)
    assert response.content == b"".join([*pieces, *end])
    row = await proxy.row_of(response)
    assert MAX_TEXT_CHARS - 60_000 <= len(row["response"]) <= MAX_TEXT_CHARS


async def test_an_answer_keeps_a_bounded_part_of_its_text(
    start: StartProxy, local: FakeUpstream
) -> None:
    local.answer = whole(answer_json("x" * (MB + 9)))
    proxy = await start()
    response = await proxy.chat(model="local")
    row = await proxy.row_of(response)
    assert len(row["response"]) == MAX_TEXT_CHARS
    assert (row["input_tokens"], row["usage_source"]) == (19, "upstream")


@pytest.mark.parametrize("end", [b"", b'"}'], ids=["endless", "valid"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_a_model_list_beyond_the_limit_is_none(
    start: StartProxy, local: FakeUpstream, packed: bool, end: bytes
) -> None:
    listed = b'{"data":[{"id":"first"}],"x":"' + b"x" * 4 * MB + end
    headers = [("content-encoding", "gzip")] if packed else []
    local.models = [
        head(headers=headers) + (gzip.compress(listed) if packed else listed),
        End.FIN,
    ]
    proxy = await start()
    names = {model["id"] for model in (await proxy.client.get("/v1/models")).json()["data"]}
    assert "first" not in names
    local.models = whole(b'{"data":[{"id":"second"}]}')
    assert (await proxy.client.get("/health")).status_code == 200
