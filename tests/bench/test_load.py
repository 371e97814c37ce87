"""The parts of the benchmark: requests, parsing of answers, and tables."""

import asyncio
import json
import statistics
import time
from itertools import islice
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bench import decision_table, fill_in, machine_line, quantile
from load import (
    RECURRING,
    STREAM_CHUNKS,
    AnswerReader,
    Load,
    Probe,
    StreamReader,
    make_prompts,
    make_requests,
    run_upstream,
)

ROOT = Path(__file__).parents[2]


def body_of(request: bytes) -> dict[str, object]:
    head, _, data = request.partition(b"\r\n\r\n")
    assert f"content-length: {len(data)}".encode() in head
    body = json.loads(data)
    assert isinstance(body, dict)
    return body


def prompt_of(request: bytes) -> str:
    messages = body_of(request)["messages"]
    assert isinstance(messages, list)
    return str(messages[0]["content"])


# ── Requests ──────────────────────────────────────────────────────────────────────────────────


def test_prompts_have_a_realistic_length_distribution() -> None:
    tokenizer = Tokenizer.from_file(str(ROOT / "data/models/router/tokenizer.json"))
    tokenizer.no_truncation()
    prompts = list(islice(make_prompts(seed=1), 2_000))
    lengths = sorted(len(tokenizer.encode(prompt).ids) for prompt in prompts)
    assert 30 <= statistics.median(lengths) <= 50
    assert lengths[0] < 10
    assert 1_000 < lengths[-1] <= 2_100
    assert 0.005 < sum(length > 512 for length in lengths) / len(lengths) < 0.05


def test_unique_prompts_differ_and_recurring_ones_repeat() -> None:
    unique = make_requests(model="auto", unique=True)
    first, second = ([prompt_of(request) for request in islice(unique, 500)] for _ in range(2))
    assert len({*first, *second}) == 1_000

    recurring = make_requests(model="auto")
    first, second = (
        [prompt_of(request) for request in islice(recurring, RECURRING)] for _ in range(2)
    )
    assert first == second
    assert len({*first}) == RECURRING
    assert not {*first} & set(islice(make_prompts(seed=1), 1_000))


def test_requests_have_the_given_headers_model_and_stream() -> None:
    request = next(make_requests(model="cloud", stream=True, headers=b"x-one: 1\r\n"))
    assert b"\r\nx-one: 1\r\n" in request
    body = body_of(request)
    assert (body["model"], body["stream"]) == ("cloud", True)


# ── Answers ───────────────────────────────────────────────────────────────────────────────────

TIMES = [1, 1_234_567_890_123_456_789, 42]
EVENTS = [b'data: {"content":"@%019d "}\n\n' % time for time in TIMES]
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(event), event) for event in [*EVENTS, b"data: [DONE]\n\n"]
)
END = b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 20, 21, 64, 10_000])
def test_timestamps_are_parsed_however_a_stream_is_split(size: int) -> None:
    reader = StreamReader()
    times = []
    data = STREAM + END
    for at in range(0, len(data), size):
        assert not reader.is_whole
        times += reader.feed(data[at : at + size])
    assert times == TIMES
    assert reader.is_whole


def test_a_timestamp_is_returned_once_when_complete() -> None:
    reader = StreamReader()
    assert reader.feed(EVENTS[0][:-8]) == []
    assert reader.feed(EVENTS[0][-8:]) == TIMES[:1]
    assert reader.feed(b"\r\n") == []
    assert reader.feed(EVENTS[1] + EVENTS[2]) == TIMES[1:]


@pytest.mark.parametrize("size", [1, 2, 5, 40, 10_000])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["length", "empty", "chunks", "no-chunks"],
)
def test_the_end_of_an_answer_is_detected(answer: bytes, size: int) -> None:
    reader = AnswerReader()
    results = [reader.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    assert results == [False] * (len(results) - 1) + [True]


# ── The load on the mock ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_load_counts_what_the_mock_answers(unused_tcp_port: int, stream: bool) -> None:
    port = unused_tcp_port
    mock = asyncio.create_task(run_upstream(port))
    await asyncio.sleep(0.05)
    probe = Probe("/health", every_seconds=0.005)
    await asyncio.get_running_loop().create_connection(lambda: probe, "127.0.0.1", port)
    load = Load(port, make_requests(model="cloud", stream=stream), stream=stream)
    started = time.monotonic_ns()
    await load.run(clients=3, seconds=0.1)
    elapsed = time.monotonic_ns() - started
    probe.close()
    mock.cancel()
    assert load.answers == len(load.latencies) >= 3
    assert probe.latencies
    if stream:
        assert len(load.first_transits) == load.answers
        assert len(load.transits) == load.answers * (STREAM_CHUNKS - 1)
        assert all(0 < transit < elapsed for transit in load.transits + load.first_transits)


async def test_the_load_fails_on_an_error_status(unused_tcp_port: int) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", unused_tcp_port)
    async with server:
        load = Load(unused_tcp_port, make_requests(model="cloud"), stream=False)
        with pytest.raises(ConnectionError, match="503"):
            await load.run(clients=1, seconds=5.0)


# ── Tables ────────────────────────────────────────────────────────────────────────────────────


def test_a_quantile_is_the_nearest_rank() -> None:
    values = list(range(100, 0, -1))
    assert [quantile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert quantile([7], 0.5) == quantile([7], 0.99) == 7
    assert quantile([1, 2], 0.99) == 2


def test_the_decision_table_works_without_the_original() -> None:
    row = {"texts": 100, "mean_ms": 1.0, "p50_ms": 1.0, "p99_ms": 2.0}
    ours: dict[str, object] = {"ours": {"16": row, "mix": row}}
    assert decision_table(ours).splitlines()[2:] == [
        "| 16 tokens | 1.0 ms | 2.0 ms | 1.0 ms |",
        "| 100 prompts of the mix | 1.0 ms | 2.0 ms | 1.0 ms |",
    ]
    few = row | {"texts": 15, "p50_ms": 12.4}
    both = ours | {"original": {"16": few, "mix": row}, "faster": {"16": 12.4, "mix": 1.0}}
    assert decision_table(both).splitlines()[2].endswith("| 12 ms | | 1 ms | 12× |")


def test_a_document_gets_the_tables_that_it_has_markers_for() -> None:
    results = json.loads((ROOT / "data/results/bench.json").read_text(encoding="utf-8"))
    document = "# Fast\n\n<!-- bench: machine -->\nold\n<!-- bench: end -->\n\nThe end.\n"
    filled = fill_in(document, results)
    assert filled.splitlines()[4] == machine_line(results)
    assert "old" not in filled
    assert filled.endswith("<!-- bench: end -->\n\nThe end.\n")
    with pytest.raises(ValueError, match="bench: machine"):
        fill_in("<!-- bench: machine --> without an end", results)
