"""Judging in a running proxy, over real sockets, with a scripted judge.

Clients never notice the judge, its cost stays within the daily budget, and it never gets requests
with `x-router-no-store`.
"""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fakes import (
    EASY,
    HARD,
    Answer,
    Call,
    FakeUpstream,
    Gate,
    answer_json,
    chunked,
    error_json,
    openai_events,
    response_answer,
    whole,
)
from live import LOCAL_MODEL, LiveProxy, released
from looks import OLLAMA, SECOND_MODEL, LocalModels
from proxy.cli.main import main
from router_model.evidence import Evidence
from scripted_models import completion, verdict

JUDGE = "judge-1"
PRICE = {"input": 1.0, "output": 2.0}  # USD per million tokens
BILLED = (1_000 * 1.0 + 100 * 2.0) / 1e6


class JudgeServer:
    """The script of a judge: local answers get 4 points, cloud answers 9."""

    def __init__(self) -> None:
        self.billed = 0.0

    def __call__(self, call: Call) -> Answer:
        self.billed += BILLED
        usage = {"prompt_tokens": 1_000, "completion_tokens": 100}
        return completion(verdict(call.json), usage=usage)


def judging(judge: FakeUpstream | str, **changes: Any) -> dict[str, Any]:
    """A configuration that samples all requests for answers of both tiers."""
    url = judge if isinstance(judge, str) else judge.base_url
    defaults: dict[str, Any] = {
        "enabled": True, "model": JUDGE, "base_url": url, "price": PRICE,
        "sample_rate": 0, "shadow_rate": 1, "usd_per_day": 100, "shadow_usd_per_day": 100,
    }  # fmt: skip
    return {"judge": defaults | changes}


@pytest.fixture
async def judge() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        upstream.answer = JudgeServer()
        yield upstream


@pytest.fixture(autouse=True)
def tiers(local: FakeUpstream, cloud: FakeUpstream) -> None:
    local.answer = whole(answer_json("local says"))
    cloud.answer = whole(answer_json("cloud says"))


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(folder / "router.db")
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(sql)]
    finally:
        connection.close()


async def until_rows(
    folder: Path, sql: str, met: Callable[[list[dict[str, Any]]], bool]
) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while not met(result := rows(folder, sql)):  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(0.02)
        return result


async def all_done(folder: Path, number: int) -> None:
    await until_rows(
        folder,
        "SELECT * FROM samples WHERE state <> 'pending'",
        lambda samples: len(samples) == number,
    )


_BOB = {"basic_auth": {"username": "bob", "password": "x"}}
_OF_THE_CLOUD = {"headers": {"api-key": "of-the-cloud"}, **_BOB}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, (None, None)),
        ({"api_key": "of-the-judge"}, ("Bearer of-the-judge", None)),
        (_BOB, ("Basic Ym9iOng=", None)),
        ({"headers": {"api-key": "of-the-judge"}}, (None, "of-the-judge")),
    ],
)
async def test_a_judge_with_its_own_server_gets_only_its_own_credentials(
    tmp_path: Path,
    local: FakeUpstream,
    cloud: FakeUpstream,
    judge: FakeUpstream,
    own: dict[str, Any],
    expected: tuple[str | None, str | None],
) -> None:
    cloud_settings = {"upstreams": {"cloud": _OF_THE_CLOUD | {"api_key": None}}}
    changes = judging(judge, **({"api_key": None} | own)) | cloud_settings
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat()
        await all_done(tmp_path, 1)
    assert judge.calls
    for call in judge.calls:
        assert (call.header("authorization"), call.header("api-key")) == expected
    sent = cloud.call
    assert sent.header("authorization") == "Basic Ym9iOng="
    assert sent.header("api-key") == "of-the-cloud"


async def test_a_judge_of_the_cloud_uses_its_credentials(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    cloud.answer = JudgeServer()
    changes = judging(cloud, base_url=None, api_key=None, sample_rate=1, shadow_rate=0) | {
        "upstreams": {"cloud": _OF_THE_CLOUD | {"api_key": None}}
    }
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat()
        await all_done(tmp_path, 1)
    assert {call.header("api-key") for call in cloud.calls} == {"of-the-cloud"}
    assert {call.header("authorization") for call in cloud.calls} == {"Basic Ym9iOng="}


@pytest.mark.parametrize("streams", [False, True])
async def test_both_answers_are_graded_and_compared(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream, streams: bool
) -> None:
    if streams:
        local.answer = chunked(*openai_events(["local ", "says"]))
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        answer = await proxy.chat(stream=streams, temperature=0.5, unknown={"a": 1})
        request_id = answer.headers["x-request-id"]
        assert answer.headers["x-router-target"] == "local"
        await all_done(tmp_path, 1)
        samples = await proxy.scrape()
    (sample,) = rows(tmp_path, "SELECT * FROM samples")
    assert (sample["request_id"], sample["kind"], sample["state"]) == (request_id, "pair", "done")
    assert (sample["propensity"], sample["body"]) == (1.0, None)
    assert (sample["other_model"], sample["other_response"]) == ("gpt-4o-mini", "cloud says")
    body = cloud.call.json
    assert (body["model"], body["temperature"], body["unknown"]) == (
        "gpt-4o-mini", 0.5, {"a": 1},
    )  # fmt: skip
    assert (body["stream"], "stream_options" in body) == (False, False)
    judged = {row["target"]: row for row in rows(tmp_path, "SELECT * FROM judgements")}
    assert {target: row["score"] for target, row in judged.items()} == {"local": 4, "cloud": 9}
    assert {row["judge_model"] for row in judged.values()} == {JUDGE}
    (preference,) = rows(tmp_path, "SELECT * FROM preferences")
    assert [preference[name] for name in ("verdict", "first", "swapped")] == ["cloud"] * 3
    spent = {
        row["purpose"]: row["usd"]
        for row in rows(tmp_path, "SELECT purpose, SUM(usd) usd FROM expenses GROUP BY purpose")
    }
    assert isinstance(judge.answer, JudgeServer)
    assert spent["judge"] == pytest.approx(judge.answer.billed)
    assert spent["shadow"] > 0
    assert all(row["is_settled"] for row in rows(tmp_path, "SELECT * FROM expenses"))
    for purpose, usd in spent.items():
        assert samples("router_judge_cost_usd_total", purpose=purpose) == pytest.approx(usd)
    assert samples("router_judge_calls_total", purpose="judge", outcome="ok") == 4
    (row,) = rows(tmp_path, "SELECT * FROM requests")
    assert row["cost_usd"] == 0  # clients do not pay for judging


def evidence_of(folder: Path) -> Evidence:
    ((text,),) = [tuple(row.values()) for row in rows(folder, "SELECT evidence FROM samples")]
    evidence = Evidence.from_json(text)
    assert evidence is not None
    return evidence


async def test_the_local_answer_of_a_pair_has_the_evidence_of_a_second_look(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    """The cloud has answered the client, so the judge asks the local models."""
    local.answer, local.native = LocalModels("It has 8 legs.", "8"), dict(OLLAMA)
    verify = {"second": SECOND_MODEL, "self_check": True}
    changes = judging(judge) | {"verify": verify}
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat(text=f"{HARD} How many legs?")
        await all_done(tmp_path, 1)
    evidence = evidence_of(tmp_path)
    assert (evidence.agrees, evidence.second, evidence.broken) == (True, SECOND_MODEL, False)
    assert evidence.mean_logprob == pytest.approx(-0.1)
    assert evidence.margin == pytest.approx(2.0)
    assert evidence.self_check == 1.0
    assert [call.json["model"] for call in local.calls] == [LOCAL_MODEL, SECOND_MODEL, LOCAL_MODEL]


@pytest.mark.parametrize("second", ["8", "6", None])
async def test_an_answer_that_a_client_got_is_compared_as_well(
    tmp_path: Path,
    local: FakeUpstream,
    cloud: FakeUpstream,
    judge: FakeUpstream,
    second: str | None,
) -> None:
    """The second model may be missing, and the pair is judged all the same."""
    local.answer = LocalModels("It has 8 legs.", second)
    changes = judging(judge) | {"verify": {"second": SECOND_MODEL}}
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat(text=f"{EASY} How many legs?")
        await all_done(tmp_path, 1)
    evidence = evidence_of(tmp_path)
    assert evidence.agrees == {"8": True, "6": False, None: None}[second]
    assert evidence.mean_logprob is None  # of an answer that was not asked for with them
    assert len(rows(tmp_path, "SELECT * FROM preferences")) == 1


async def test_without_second_looks_the_judge_collects_no_evidence(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    changes = judging(judge) | {"verify": {"mode": "checks", "second": SECOND_MODEL}}
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat()
        await all_done(tmp_path, 1)
    assert len(local.calls) == 1
    assert [row["evidence"] for row in rows(tmp_path, "SELECT evidence FROM samples")] == [None]


async def test_grading_calls_no_other_tier(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    changes = judging(judge, sample_rate=1, shadow_rate=0)
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat(text=HARD)
        await all_done(tmp_path, 1)
    assert local.calls == []
    (row,) = rows(tmp_path, "SELECT * FROM judgements")
    assert (row["target"], row["model"], row["score"]) == ("cloud", "gpt-4o-mini", 9)


REFUSED: dict[str, Any] = {
    "no-store": {"headers": {"x-router-no-store": "true"}},
    "forced": {"model": "local"},
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    "several choices": {"n": 2},
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED)
async def test_unsuitable_requests_are_not_sampled(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream, fields: Any
) -> None:
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        assert (await proxy.chat(**fields)).status_code == 200
        await proxy.settled()
        await proxy.stop()
    assert rows(tmp_path, "SELECT * FROM samples") == []
    assert judge.calls == []
    assert len(local.calls) + len(cloud.calls) == 1


@pytest.mark.parametrize("prompts", ["hash", "none"])
async def test_without_stored_prompts_nothing_is_judged(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream, prompts: str
) -> None:
    url = f"sqlite:///{tmp_path}/router.db"
    changes = judging(judge) | {"storage": {"url": url, "prompts": prompts}}
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        await proxy.chat()
        await proxy.settled()
        await proxy.stop()
    assert rows(tmp_path, "SELECT * FROM samples") == []
    assert judge.calls == []


async def test_no_store_requests_are_neither_stored_nor_judged(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    secret = "xyzzy-plugh"
    local.answer = whole(answer_json(secret))
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        for value in ("true", "TRUE"):
            await proxy.chat(text=f"{EASY} {secret}", headers={"x-router-no-store": value})
        body = json.dumps({"model": "auto", "input": f"{EASY} {secret}"}).encode()
        await proxy.client.post(
            "/v1/responses", content=body, headers={"x-router-no-store": "true"}
        )
        refused = await proxy.chat(headers={"x-router-no-store": "maybe"})
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "x-router-no-store"
        await proxy.settled(4)
        await proxy.stop()
    for file in tmp_path.glob("router.db*"):  # noqa: ASYNC240 - the proxy has stopped
        assert secret.encode() not in file.read_bytes()
    assert all(call.header("x-router-no-store") is None for call in local.calls)
    assert judge.calls == []


async def test_a_truncated_answer_is_not_judged(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    """The client's answer is not sampled; the other tier's answer is refused."""
    local.answer = completion("local says ha", finish_reason="length")
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat(headers={"x-router-verify": "off"})  # else the cloud's replaces it
        await proxy.chat(text=HARD)
        await all_done(tmp_path, 1)
    (sample,) = rows(tmp_path, "SELECT * FROM samples")
    assert (sample["state"], sample["why"]) == ("refused", "the local tier's answer is truncated")
    assert judge.calls == []


TROUBLES: dict[str, Any] = {
    "500": whole(error_json("down"), status=500),
    "429": whole(error_json("slow down"), status=429),
    "401": whole(error_json("who?"), status=401),
    "no JSON": whole(b"<html>"),
    "no choices": whole(b'{"choices": []}'),
    "nonsense": completion("I would give it a 7."),
    "out of range": completion('{"reasoning": "So.", "score": 11}'),
    "cut off": completion('{"reasoning": "So', finish_reason="length"),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_a_failing_judge_is_retried_without_effect_on_clients(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream, trouble: Answer
) -> None:
    judge.answer = trouble
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat()
        await judge.called()
        for _ in range(3):
            assert (await proxy.chat()).status_code == 200
        (sample, *_) = await until_rows(
            tmp_path,
            "SELECT * FROM samples WHERE next_at > 0 AND claimed_by IS NULL",
            lambda samples: bool(samples),
        )
        assert sample["state"] == "pending"
    assert rows(tmp_path, "SELECT * FROM judgements") == []
    # The judge works again: waiting samples are judged.
    judge.answer = JudgeServer()
    due_now(tmp_path)
    command = ["judge", "--once", "--config", str(tmp_path / "config.yaml")]
    done = await asyncio.to_thread(CliRunner().invoke, main, command)
    assert done.exit_code == 0, done.output
    assert "4 judged, 0 refused, 0 pending" in done.output
    assert len(rows(tmp_path, "SELECT * FROM judgements")) == 8


def judge_process(folder: Path, *options: str) -> subprocess.Popen[str]:
    program = "from proxy.cli.main import main; main()"
    command = [sys.executable, "-c", program, "judge", "--config", str(folder / "config.yaml")]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)


def due_now(folder: Path) -> None:
    connection = sqlite3.connect(folder / "router.db")
    with connection:
        connection.execute("UPDATE samples SET next_at = 0, claimed_by = NULL")
    connection.close()


async def test_judge_says_why_a_sample_has_no_verdict(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    judge.answer = completion("I would give it a 7.")
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat()
        await until_rows(tmp_path, "SELECT * FROM samples WHERE next_at > 0", bool)
    due_now(tmp_path)
    process = judge_process(tmp_path, "--once")
    output, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert output.startswith("0 judged, 0 refused, 1 pending. Cost today: ")
    assert "\n  1 x the judge gave no verdict: " in output


async def test_judge_reports_its_progress_until_it_is_stopped(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    judge.answer = whole(error_json("down"), status=500)
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat()
        await until_rows(tmp_path, "SELECT * FROM samples WHERE next_at > 0", bool)
    judge.answer = JudgeServer()
    due_now(tmp_path)
    process = judge_process(tmp_path)
    assert process.stdout is not None
    try:
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.communicate, timeout=60)
    assert lines == [
        f"Judging with {JUDGE}: 1 pending. Stop with Ctrl+C.\n",
        "1 judged, 0 refused, 0 put off, 0 pending\n",
    ]
    assert process.returncode == 0


async def test_a_hung_judge_delays_neither_clients_nor_shutdown(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    judge.answer = [Gate()]
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat()
        await judge.called()
        for _ in range(3):
            assert (await proxy.chat()).status_code == 200
    (sample,) = rows(tmp_path, "SELECT * FROM samples WHERE next_at > 0 OR attempts > 0 LIMIT 1")
    assert (sample["state"], sample["claimed_by"]) == ("pending", None)
    (expense,) = rows(tmp_path, "SELECT * FROM expenses WHERE is_settled = 0")
    assert expense["usd"] > 0  # it may have been billed


async def test_samples_wait_when_the_judge_budget_is_exhausted(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    """No judge call may exceed the cap, also after a restart."""
    changes = judging(judge, sample_rate=1, shadow_rate=0, usd_per_day=0.02)
    for _ in range(2):
        async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
            for _ in range(20):
                await proxy.chat()
            await until_rows(
                tmp_path,
                "SELECT * FROM samples WHERE next_at > 0 AND claimed_by IS NULL "
                "AND state = 'pending'",
                lambda samples: bool(samples),
            )
    server = judge.answer
    assert isinstance(server, JudgeServer)
    assert 0.01 < server.billed <= 0.02
    assert rows(tmp_path, "SELECT SUM(usd) usd FROM expenses")[0]["usd"] <= 0.02


async def test_a_judge_without_a_price_is_not_called(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    changes = judging(judge, price="auto")
    async with LiveProxy(tmp_path, local, cloud, changes=changes) as proxy:
        assert (await proxy.chat()).status_code == 200
    assert "judge.price: no price is listed for judge-1" in caplog.text
    assert judge.calls == []


async def test_client_requests_preempt_the_second_answer(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    """A running second answer is cancelled when a client request arrives."""

    def answer(call: Call) -> Answer:
        if HARD in call.body.decode():
            return [Gate()]
        return whole(answer_json("local says"))

    local.answer = answer
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        await proxy.chat(text=HARD)
        second = await local.called()
        assert HARD in second.body.decode()
        assert (await proxy.chat()).status_code == 200
        await released(second)
        (sample, *_) = await until_rows(
            tmp_path,
            "SELECT * FROM samples WHERE next_at > 0 AND claimed_by IS NULL AND attempts = 0",
            lambda samples: bool(samples),
        )
        assert sample["state"] == "pending"
        assert (await proxy.scrape())(
            "router_judge_calls_total", purpose="shadow", outcome="disturbed"
        ) >= 1


async def test_judging_follows_the_configuration(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge, enabled=False)) as proxy:
        await proxy.chat()
        proxy.configure({"judge": {"enabled": True}})
        await proxy.reloaded(lambda: proxy.proxy.config.judge.enabled)
        await proxy.chat()
        await all_done(tmp_path, 1)
        proxy.configure({"judge": {"enabled": False}})
        await proxy.reloaded(lambda: not proxy.proxy.config.judge.enabled)
        await proxy.chat()
        await proxy.settled(3)
    assert len(rows(tmp_path, "SELECT * FROM samples")) == 1


async def test_responses_requests_are_sent_to_the_other_tier_as_chat(
    tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream, judge: FakeUpstream
) -> None:
    local.answer = response_answer("local says")
    async with LiveProxy(tmp_path, local, cloud, changes=judging(judge)) as proxy:
        body = json.dumps({"model": "auto", "instructions": "Be kind.", "input": EASY}).encode()
        answer = await proxy.client.post("/v1/responses", content=body)
        assert answer.status_code == 200
        await all_done(tmp_path, 1)
    assert [message["content"] for message in cloud.call.json["messages"]][-1] == EASY
