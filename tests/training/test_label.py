"""Labelling over real sockets: paid answers are kept however the run ends, and paid only once."""

import asyncio
import itertools
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fakes import DONE, Answer, Call, End, FakeUpstream, Gate, whole
from scripted_models import (
    CLOUD,
    JUDGE,
    LOCAL,
    Models,
    arguments,
    completion,
    failure,
)
from training import cli, label
from training.dataset import DataError
from training.journal import Answer as Bought
from training.journal import Journal
from training.paid import Budget, Endpoint, PaidClient, Price, Stopped
from training.sources import pairs

CALLS_PER_PROMPT = 6
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        server.answer = Models()
        yield server


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write(tmp_path, *(f"question {i}" for i in range(6)))


def write(folder: Path, *texts: str) -> Path:
    path = folder / "prompts.jsonl"
    rows = ({"id": f"p{i}", "prompt": text} for i, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def run(upstream: FakeUpstream, prompts: Path, *more: object) -> Result:
    """`hybrid-llm-train label` in a thread, while the scripted models answer on this loop."""
    options = ["label", str(prompts), *arguments(upstream, *_outputs(prompts), *more)]
    return await asyncio.to_thread(CliRunner().invoke, cli.main, options)


def _outputs(prompts: Path) -> list[str]:
    return [f"--out={prompts.parent / 'rows.jsonl'}", f"--journal={prompts.parent / 'journal'}"]


async def start(upstream: FakeUpstream, prompts: Path, *more: object) -> asyncio.subprocess.Process:
    """Start the command in its own process, which can be killed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "training.cli",
        "label",
        str(prompts),
        *arguments(upstream, *_outputs(prompts), *more),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def rows(prompts: Path) -> list[dict[str, Any]]:
    return _lines(prompts.parent / "rows.jsonl")


def entries(prompts: Path, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in _lines(prompts.parent / "journal") if entry["type"] == kind]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_rows_can_be_read_for_training(upstream: FakeUpstream, prompts: Path) -> None:
    result = await run(upstream, prompts, "--source=mine")
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in rows(prompts)] == [f"p{i}" for i in range(6)]
    row = rows(prompts)[0]
    assert row["local_score"] == 4
    assert row["cloud_score"] == 9
    assert {row[f"preference{when}"] for when in ("", "_first", "_swapped")} == {"cloud"}
    assert row["local_response"] == "local answers: question 0"
    assert row["cloud_usd"] == pytest.approx((20 * 100 + 10 * 400) / 1e6)
    assert row["judge_usd"] == pytest.approx(4 * row["cloud_usd"])
    [first, *_] = pairs.rows(prompts.parent / "rows.jsonl")
    assert first.outcomes == {"local": 0.0, "cloud": 1.0}
    assert (first.source, first.text) == ("mine", "question 0")
    assert first.cloud_response_chars == len("cloud answers: question 0")
    assert len(upstream.calls) == 6 * CALLS_PER_PROMPT
    assert {call.json["temperature"] for call in upstream.calls} == {0}


async def test_second_run_costs_nothing(upstream: FakeUpstream, prompts: Path) -> None:
    await run(upstream, prompts)
    first = rows(prompts)
    upstream.calls.clear()
    result = await run(upstream, prompts)
    assert result.exit_code == 0
    assert not upstream.calls
    assert rows(prompts) == first
    assert "36 answers are reused from the journal" in result.output


async def test_killed_runs_pay_for_no_answer_twice(upstream: FakeUpstream, prompts: Path) -> None:
    models = Models()
    slots = 3
    for answered in (0, 7, 19):
        gate = Gate()
        upstream.calls.clear()

        # Counted here, since calls may arrive before the first of them is answered.
        turns = itertools.count()

        def answer(
            call: Call, gate: Gate = gate, answered: int = answered, turns: Iterator[int] = turns
        ) -> Answer:
            return models(call) if next(turns) < answered else [gate]

        upstream.answer = answer
        process = await start(upstream, prompts, f"--concurrency={slots}")
        # All slots wait for an answer, so all earlier answers are in the journal.
        await upstream.called(answered + slots)
        process.kill()
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert set(models.asked.values()) <= {1}
    upstream.answer = models
    result = await run(upstream, prompts)
    assert result.exit_code == 0, result.output
    assert set(models.asked.values()) == {1}
    assert len(models.asked) == 6 * CALLS_PER_PROMPT
    assert len(rows(prompts)) == 6
    # Calls in flight at the kill may have been billed. They count and are reported.
    assert "interrupted calls" in result.output


async def test_kill_under_concurrency_repeats_only_calls_in_flight(
    upstream: FakeUpstream, prompts: Path
) -> None:
    process = await start(upstream, prompts, "--concurrency=4")
    await upstream.called(15)
    process.kill()
    await process.communicate()
    models = upstream.answer
    assert isinstance(models, Models)
    journal = (prompts.parent / "journal").read_bytes().rpartition(b"\n")[0].splitlines()
    journaled = sum(json.loads(line)["type"] == "answered" for line in journal)
    result = await run(upstream, prompts)
    assert result.exit_code == 0, result.output
    # Only answers missing from the journal were requested again: those in flight.
    assert sum(models.asked.values()) - len(models.asked) <= 4
    assert len(models.asked) == 6 * CALLS_PER_PROMPT
    assert journaled >= 15 - 4


@pytest.mark.parametrize("max_usd", [0.0, 0.05, 0.5, 0.75])
async def test_max_usd_is_never_exceeded(
    upstream: FakeUpstream, prompts: Path, max_usd: float
) -> None:
    models = Models()

    def dearest(call: Call) -> Answer:
        # The maximum within the limits: one token per input byte, `max_tokens` of output.
        text = "cloud" if call.json["model"] == CLOUD else "local"
        if call.json["model"] == JUDGE:
            return models(call)
        size = sum(len(message["content"].encode()) for message in call.json["messages"])
        usage = {"prompt_tokens": size, "completion_tokens": call.json["max_tokens"]}
        return models.bill(call.json, completion(text, usage=usage))

    upstream.answer = dearest
    limits = ("--max-tokens=300", "--judge-max-tokens=50", "--concurrency=5")
    result = await run(upstream, prompts, *limits, f"--max-usd={max_usd}")
    assert result.exit_code == 1
    assert f"--max-usd {max_usd:g} is used up" in result.output
    assert models.billed_usd <= max_usd
    spent = models.billed_usd
    assert spent > 0 or max_usd < 0.2
    result = await run(upstream, prompts, *limits, "--max-usd=100")
    assert result.exit_code == 0, result.output
    assert len(rows(prompts)) == 6


async def test_reservations_wait_for_each_other() -> None:
    budget = Budget(1.0, spent_usd=0.2)
    await budget.reserve(0.5)
    second = asyncio.create_task(budget.reserve(0.5))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(0.5, 0.1)
    await second
    budget.settle(0.5, 0.5)
    assert budget.spent_usd == pytest.approx(0.8)
    with pytest.raises(Stopped, match=r"--max-usd 1 is used up: \$0\.800000 spent"):
        await budget.reserve(0.21)
    await budget.reserve(0.0)


async def test_torn_line_is_reported_and_requested_again(
    upstream: FakeUpstream, prompts: Path
) -> None:
    await run(upstream, prompts, "--concurrency=1")
    journal = prompts.parent / "journal"
    data = journal.read_bytes()
    for cut, calls in ((1, 0), (2, 1), (data.rindex(b"\n", 0, -1), 0)):
        keep = len(data) - cut if cut < 10 else cut + 5
        journal.write_bytes(data[:keep])
        upstream.calls.clear()
        result = await run(upstream, prompts)
        assert result.exit_code == 0
        torn = f"{journal}:{data.count(10)}: the last line is incomplete" in result.output
        assert torn == (cut != 1)
        assert len(upstream.calls) == (calls if cut < 10 else 1)
        assert len(rows(prompts)) == 6


async def test_damage_before_the_last_line_is_an_error(
    upstream: FakeUpstream, prompts: Path
) -> None:
    await run(upstream, prompts)
    journal = prompts.parent / "journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = b"{}\n"
    journal.write_bytes(b"".join(lines))
    upstream.calls.clear()
    result = await run(upstream, prompts)
    assert result.exit_code == 1
    assert f"{journal}:5: not a journal entry" in result.output
    journal.write_text('{"prompt": "this is a file of prompts"}\n')
    assert "journal:1: not a journal entry" in (await run(upstream, prompts)).output
    assert journal.read_text() == '{"prompt": "this is a file of prompts"}\n'
    assert not upstream.calls


async def test_failing_endpoint_stops_the_run(upstream: FakeUpstream, prompts: Path) -> None:
    models = Models()

    def dying(call: Call) -> Answer:
        return [End.RESET] if len(upstream.calls) > 12 else models(call)

    upstream.answer = dying
    result = await run(upstream, prompts, "--retries=2", "--concurrency=2")
    assert result.exit_code == 1
    assert "does not answer: ReadError" in result.output
    assert str(prompts.parent / "journal") in result.output
    assert len(rows(prompts)) == 2
    upstream.answer = models
    assert (await run(upstream, prompts)).exit_code == 0
    assert set(models.asked.values()) == {1}
    assert len(rows(prompts)) == 6


async def test_unreachable_endpoint_stops_the_run(
    upstream: FakeUpstream, prompts: Path, unused_tcp_port: int
) -> None:
    result = await run(
        upstream, prompts, f"--cloud-url=http://127.0.0.1:{unused_tcp_port}/v1", "--retries=1"
    )
    assert result.exit_code == 1
    assert f"cloud at http://127.0.0.1:{unused_tcp_port}/v1 does not answer" in result.output
    assert not [e for e in entries(prompts, "asked") if "cloud" not in e["what"]]
    assert len(entries(prompts, "not_billed")) == len(entries(prompts, "asked")) > 0
    assert "interrupted" not in result.output


async def test_unusable_answers_are_rejected(upstream: FakeUpstream, tmp_path: Path) -> None:
    prompts = write(tmp_path, "fine", "empty", "truncated 1", "truncated 2", "declined", "fine 2")
    result = await run(upstream, prompts, "--max-tokens=999")
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in rows(prompts)] == ["p0", "p5"]
    assert "rejected: 1 × local answer empty" in result.output
    assert "rejected: 2 × local answer truncated" in result.output
    assert "rejected: 1 × local declined: status 400: too long for this model" in result.output
    # An unusable answer causes no further calls.
    assert len(upstream.calls) == 2 * CALLS_PER_PROMPT + 4
    upstream.calls.clear()
    result = await run(upstream, prompts, "--max-tokens=1000")
    assert [row["id"] for row in rows(prompts)] == ["p0", "p2", "p3", "p5"]
    asked_again = [c.json["messages"][-1]["content"] for c in upstream.calls if _tier(c) == LOCAL]
    assert sorted(asked_again) == ["declined", "truncated 1", "truncated 2"]


def _tier(call: Call) -> str:
    return str(call.json["model"])


@pytest.mark.parametrize("finish_reason", ["length", "content_filter", None])
async def test_truncated_cloud_answer_is_rejected_without_judging(
    upstream: FakeUpstream, tmp_path: Path, finish_reason: str | None
) -> None:
    models = Models()
    upstream.answer = lambda call: (
        completion("cloud", finish_reason=finish_reason) if _tier(call) == CLOUD else models(call)
    )
    result = await run(upstream, write(tmp_path, "one"))
    assert result.exit_code == 1
    assert "rejected: 1 × cloud answer" in result.output
    assert len(upstream.calls) == 2


async def test_answer_to_a_truncated_prompt_is_rejected(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    # The usage reports 20 input tokens: the server dropped most of the prompt.
    result = await run(upstream, write(tmp_path, "many words " * 1000))
    assert "rejected: 1 × local answer to a truncated prompt" in result.output


async def test_invalid_verdict_is_requested_again_and_then_rejected(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()

    def babbling(call: Call) -> Answer:
        if _tier(call) == JUDGE and "hopeless" in call.json["messages"][1]["content"]:
            return completion("I'd give it a 9/10!")
        if _tier(call) == JUDGE and not call.json["temperature"]:
            return completion('{"reasoning": "x", "score": 11}')
        return models(call)

    upstream.answer = babbling
    result = await run(upstream, write(tmp_path, "fine", "hopeless"))
    assert result.exit_code == 0, result.output
    [row] = rows(tmp_path / "prompts.jsonl")
    assert row["id"] == "p0"
    assert row["judge_usd"] == pytest.approx(8 * row["cloud_usd"])
    assert "rejected: 1 × no verdict of the judge: the reply is no JSON object" in result.output
    judged = [call for call in upstream.calls if _tier(call) == JUDGE]
    assert len(judged) == 8 + 3
    assert all(call.json["response_format"] == {"type": "json_object"} for call in judged)


async def test_equal_answers_are_a_tie_without_a_comparison(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()
    upstream.answer = lambda call: (
        models(call) if _tier(call) == JUDGE else completion("cloud or local", model=_tier(call))
    )
    await run(upstream, write(tmp_path, "one"))
    [row] = rows(tmp_path / "prompts.jsonl")
    assert row["preference"] == "tie"
    assert len(upstream.calls) == 3  # one grade applies to both answers


async def test_no_pairwise_skips_the_comparison(upstream: FakeUpstream, tmp_path: Path) -> None:
    await run(upstream, write(tmp_path, "one"), "--no-pairwise")
    [row] = rows(tmp_path / "prompts.jsonl")
    assert row["preference"] is None
    assert len(upstream.calls) == 4


# ── Endpoints ─────────────────────────────────────────────────────────────────────────────────


async def test_busy_endpoints_are_retried(upstream: FakeUpstream, tmp_path: Path) -> None:
    models = Models()
    trouble = iter(
        [
            failure(429, "slow down", headers=[("retry-after", "0")]),
            failure(503, "queue full"),
            failure(500),
            [whole(b"x" * 100)[0][:80], End.FIN],
        ]
    )

    def busy(call: Call) -> Answer:
        return next(trouble, None) or models(call)

    upstream.answer = busy
    result = await run(upstream, write(tmp_path, "one"), "--retries=4")
    assert result.exit_code == 0, result.output
    assert len(upstream.calls) == CALLS_PER_PROMPT + 4


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (failure(401, "bad key"), "rejects the API key (its key comes from LOCAL_API_KEY)"),
        (failure(404, "model not found"), "does not know the address or the model"),
        (failure(429, "pay", code="insufficient_quota"), "has no quota left"),
        (whole(b"", status=301, headers=[("location", "/x")]), "redirects"),
        (whole(b"<html>hello</html>"), "status 200, but no chat completion"),
        (whole(b'{"choices": []}'), "no choices"),
        (whole(b'{"choices": [{"message": 5}]}'), "no chat completion"),
        (whole(b"[" * 100_000), "no chat completion"),
        (whole(DONE), "no chat completion"),
    ],
)
async def test_error_common_to_all_calls_stops_the_run(
    upstream: FakeUpstream, prompts: Path, answer: Answer, message: str
) -> None:
    upstream.answer = answer
    result = await run(upstream, prompts, "--retries=0", "--concurrency=1")
    assert result.exit_code == 1
    assert "stopped: local at http://127.0.0.1" in result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(upstream.calls) == 1


async def test_unsupported_parameters_are_omitted(upstream: FakeUpstream, tmp_path: Path) -> None:
    models = Models()

    def choosy(call: Call) -> Answer:
        for name in ("max_tokens", "temperature", "response_format"):
            if name in call.json and _tier(call) != LOCAL:
                error = {"message": "unsupported", "type": "x", "param": name, "code": None}
                return whole(json.dumps({"error": error}).encode(), status=400)
        return models(call)

    upstream.answer = choosy
    result = await run(upstream, write(tmp_path, "one", "two", "three"), "--retries=0")
    assert result.exit_code == 0, result.output
    assert len(rows(tmp_path / "prompts.jsonl")) == 3
    assert upstream.calls[-1].json["max_completion_tokens"] == 512


async def test_missing_usage_is_billed_at_its_maximum(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    models = Models()
    body = {"choices": [{"message": {"content": "cloud"}, "finish_reason": "stop"}]}
    upstream.answer = lambda call: (
        whole(json.dumps(body).encode()) if _tier(call) == CLOUD else models(call)
    )
    await run(upstream, write(tmp_path, "one"), "--max-tokens=100")
    [row] = rows(tmp_path / "prompts.jsonl")
    endpoint = Endpoint(role="cloud", url="", model="", price=Price(100, 100, 400))
    assert row["cloud_usd"] == endpoint.worst_usd([{"role": "user", "content": "one"}], 100)
    assert row["cloud_output_tokens"] == 1
    assert row["cloud_model"] == CLOUD


async def test_endpoint_over_max_tokens_stops_the_run(
    upstream: FakeUpstream, prompts: Path
) -> None:
    models = Models()
    usage = {"prompt_tokens": 10, "completion_tokens": 5000}
    upstream.answer = lambda call: (
        completion("cloud", usage=usage) if _tier(call) == CLOUD else models(call)
    )
    result = await run(upstream, prompts, "--max-tokens=100", "--concurrency=1")
    assert result.exit_code == 1
    assert "it does not respect max_tokens" in result.output
    assert len(upstream.calls) == 2


async def test_keys_are_sent_to_their_own_endpoint_only(
    upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("CLOUD_API_KEY", "sk-cloud")
    prompts = write(tmp_path, "one")
    await run(upstream, prompts)
    keys = {_tier(call): call.header("authorization") for call in upstream.calls}
    assert keys == {LOCAL: None, CLOUD: "Bearer sk-cloud", JUDGE: None}
    monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
    monkeypatch.delenv("CLOUD_API_KEY")
    upstream.calls.clear()
    await run(upstream, write(tmp_path, "two"))
    keys = {_tier(call): call.header("authorization") for call in upstream.calls}
    assert keys == {LOCAL: None, CLOUD: "Bearer sk-openai", JUDGE: "Bearer sk-openai"}
    assert "sk-" not in (tmp_path / "journal").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "cloud: OpenAI needs an API key; set OPENAI_API_KEY"),
        (["--cloud-model=gpt-5"], "the price of gpt-5 at https://api.openai.com/v1 is unknown"),
        (["--cloud-url=http://x/v1"], "the price of gpt-4o-mini at http://x/v1 is unknown"),
        (["--cloud-url=x"], "does not start with http"),
        (["--cloud-price=1"], "not a price"),
        (["--cloud-price=1,nan"], "not a price"),
        (["--cloud-price=-1,1"], "not a price"),
        (["--max-usd=-1"], "max-usd"),
    ],
)
def test_invalid_options_are_reported_before_any_call(
    prompts: Path, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CLOUD_API_KEY", "CLOUD_MODEL"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(cli.main, ["label", str(prompts), *_outputs(prompts), *options])
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not (prompts.parent / "journal").exists()


# ── Disks and concurrent runs ─────────────────────────────────────────────────────────────────


async def test_full_disk_for_the_rows_loses_no_answer(
    upstream: FakeUpstream, prompts: Path
) -> None:
    result = await run(upstream, prompts, "--out=/dev/full")
    assert result.exit_code == 1
    assert "/dev/full cannot be written: No space left on device" in result.output
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)  # noqa: PTH116
    upstream.calls.clear()
    assert (await run(upstream, prompts)).exit_code == 0
    assert not upstream.calls


async def test_journal_must_be_a_regular_file(upstream: FakeUpstream, prompts: Path) -> None:
    result = await run(upstream, prompts, "--journal=/dev/full")
    assert result.exit_code == 1
    assert "/dev/full is not a regular file" in result.output
    assert not upstream.calls


async def test_disk_that_fills_up_during_a_run_prints_the_answer(
    upstream: FakeUpstream, prompts: Path
) -> None:
    """A file size limit, against which the reserved space does not help."""
    models = Models()
    upstream.answer = lambda call: (
        models(call) if _tier(call) == JUDGE else completion("local " * 3_000)
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "training.cli", "label", str(prompts)),
        *arguments(upstream, *_outputs(prompts), "--concurrency=1"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limited,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    _, stderr = await process.communicate()
    assert process.returncode == 1
    printed, *message = stderr.decode().splitlines()
    assert json.loads(printed)["answer"]["text"] == "local " * 3_000
    assert "journal cannot be written: File too large" in message[0]
    assert "was printed: append that line to the journal" in message[0]
    assert len(entries(prompts, "answered")) == len(upstream.calls) - 1
    # The printed line is a valid journal entry and can be appended.
    with (prompts.parent / "journal").open("a") as stream:
        stream.write(printed + "\n")
    with Journal(prompts.parent / "journal") as journal:
        assert len(journal.answers) == len(upstream.calls)
        assert not journal.uncertain_usd


def bought_answer(text: str = "text") -> Bought:
    return Bought(
        text=text,
        finish_reason="stop",
        input_tokens=1,
        cached_input_tokens=0,
        output_tokens=1,
        usage_source="upstream",
        cost_usd=0.25,
        model="m",
        max_tokens=10,
        seconds=0.1,
    )


def test_answers_in_flight_use_the_reserved_space(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    reserve = tmp_path / "journal.room"
    full = False

    def write(fd: int, data: bytes) -> int:
        if full and reserve.exists():
            os.write(fd, data[:7])
            raise OSError(28, "No space left on device")
        return os.write(fd, data)

    with Journal(path, reserve_bytes=5000, write=write) as journal:
        assert reserve.stat().st_size == 5000
        call = journal.asked("one", 0.5)
        lost = journal.asked("two", 0.5)
        full = True
        with pytest.raises(OSError, match="No space"):
            journal.asked("three", 0.5)
        error = journal.answered(call, bought_answer(), key="k", what="one", role="cloud")
        assert error is not None
        assert error.errno == 28
    assert lost is not None
    assert not reserve.exists()
    with Journal(path) as journal:
        assert journal.answers == {"k": bought_answer()}
        assert journal.spent_usd == {"cloud": 0.25}
        assert journal.uncertain_usd == 0.5


@pytest.mark.parametrize("proxy", ["socks4://proxy:1080", "socks5://proxy:1080", "http://proxy:x"])
def test_a_proxy_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with (
        Journal(tmp_path / "journal") as journal,
        pytest.raises(DataError, match="a proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"),
    ):
        PaidClient(journal, max_usd=1)


def test_the_query_of_an_endpoint_follows_the_path() -> None:
    price = Price(input=0, cached_input=0, output=0)
    endpoint = Endpoint(role="cloud", url="http://x/v1?api-version=1", model="m", price=price)
    assert endpoint.chat_url == "http://x/v1/chat/completions?api-version=1"


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal"):
        with pytest.raises(DataError, match="is in use by another run"):
            Journal(tmp_path / "journal")
        assert (tmp_path / "journal.room").exists()
    Journal(tmp_path / "journal").close()


async def test_interrupt_waits_for_calls_in_flight(upstream: FakeUpstream, prompts: Path) -> None:
    models, gate = Models(), Gate()
    upstream.answer = lambda call: [gate, *models(call)]
    process = await start(upstream, prompts, "--concurrency=2")
    await upstream.called(2)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert b"waiting for the running calls" in await process.stdout.readline()
    gate.open()
    _, stderr = await process.communicate()
    assert process.returncode == 1
    assert b"stopped: interrupted" in stderr
    assert len(upstream.calls) == len(entries(prompts, "answered")) == 2


# ── Prompts ───────────────────────────────────────────────────────────────────────────────────


def test_every_invalid_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    valid = '{"id": "a", "prompt": "hi"}'
    invalid = {
        "not json": "not JSON",
        "[1]": "not a JSON object",
        "{}": "`prompt` or `messages` is missing",
        '{"prompt": " "}': "the prompt is empty",
        '{"prompt": 7}': "`prompt` is not a text",
        '{"prompt": "x", "id": ""}': "`id` is neither",
        valid: "id 'a' is already used by row 1",
        '{"messages": []}': "not a list of messages",
        '{"messages": [{"role": "robot"}]}': "message 1 has no role",
        '{"messages": [{"role": "user"}]}': "message 1 has no text",
    }
    path.write_text("\n".join([valid, "", *invalid]) + "\n")
    with pytest.raises(DataError) as caught:
        label.read_prompts(path, source="s")
    lines = str(caught.value).splitlines()
    assert len(lines) == len(invalid)
    for number, (line, message) in enumerate(zip(lines, invalid.values(), strict=True), start=3):
        assert line.startswith(f"{path}:{number}: ")
        assert message in line


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            "not from the user",
        ),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "other than text"),
        ([{"role": "user", "content": "  "}], "empty"),
    ],
)
def test_invalid_conversation_is_rejected(
    tmp_path: Path, messages: list[dict[str, Any]], error: str
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"messages": messages}))
    with pytest.raises(DataError, match=error):
        label.read_prompts(path, source="s")


def test_prompts_are_read_in_every_format(tmp_path: Path) -> None:
    plain = tmp_path / "prompts.txt"
    plain.write_bytes("\ufeffWhat is é?\n\nWHAT is é? \n".encode())
    first, second = label.read_prompts(plain, source="mine")
    assert (first.id, second.id) == ("mine/1", "mine/3")
    assert first.text == "What is é?"
    assert first.group == second.group
    path = tmp_path / "prompts.jsonl"
    system = {"role": "system", "content": "Be brief."}
    parts = {"role": "user", "content": [{"type": "text", "text": "and"}, {"text": "in Rust?"}]}
    turns = [system, {"role": "user", "content": "Sort."}, {"role": "assistant", "content": "."}]
    path.write_text(json.dumps({"id": 7, "messages": [*turns, parts], "group": "g"}))
    [prompt] = label.read_prompts(path, source="mine")
    assert (prompt.id, prompt.group, prompt.category) == ("7", "g", "unknown")
    assert prompt.messages[-1] == {"role": "user", "content": "and\nin Rust?"}
    assert prompt.text.startswith("system: Be brief.\n\nuser: Sort.")
    with pytest.raises(DataError, match="no prompts"):
        label.read_prompts(Path("/dev/null"), source="s")


async def test_conversation_is_sent_and_judged_completely(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    messages = [
        {"role": "user", "content": "Sort a list in Python."},
        {"role": "assistant", "content": "sorted(x)"},
        {"role": "user", "content": "and in Rust?"},
    ]
    path.write_text(json.dumps({"messages": messages, "reference": "x.sort()"}))
    result = await run(upstream, path)
    assert result.exit_code == 0, result.output
    assert upstream.calls[0].json["messages"] == messages
    material = upstream.calls[-1].json["messages"][1]["content"]
    assert "sorted(x)" in material
    assert "x.sort()" in material
    [row] = rows(path)
    assert row["query"] == "Sort a list in Python.\nand in Rust?"
    assert row["messages"] == messages


async def test_dry_run_makes_no_call(upstream: FakeUpstream, prompts: Path) -> None:
    result = await run(upstream, prompts, "--dry-run", "--max-tokens=700")
    assert result.exit_code == 0
    assert "cloud: 6 calls, 54 tokens in, about 2100 out" in result.output
    assert "judge: 24 calls" in result.output
    # 54 input and 6 * 700 output tokens, at 100 and 400 dollars per million.
    assert f"${(54 * 100 + 4200 * 400) / 1e6:.4f} if all reach their limit" in result.output
    assert not upstream.calls
    assert not (prompts.parent / "journal").exists()
