"""The APIs of the pages: decision previews, verdicts of the judge and the status."""

import json
import time
from typing import Any

import pytest

from fakes import EASY, HARD, Call, FakeUpstream, StubModel, answer_json, whole
from live import LiveProxy, StartProxy, chat_body, envelope_of
from proxy.record import key_hash
from router_model.score import Score

KEYS = {"server": {"api_keys": [{"key": "sk-team"}, {"key": "sk-boss", "admin": True}]}}
TEAM, ADMIN = ({"authorization": f"Bearer {key}"} for key in ("sk-team", "sk-boss"))
JUDGING = {"judge": {"enabled": True, "sample_rate": 0, "model": "gpt-4o-mini"}}


async def preview(proxy: LiveProxy, body: bytes, headers: dict[str, str] | None = None) -> Any:
    answer = await proxy.client.post("/api/decisions", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"text": EASY}, {}),
        ({"text": HARD}, {}),
        ({"text": EASY, "model": "cloud"}, {}),
        ({"text": HARD, "model": "auto:threshold=0.05"}, {}),
        ({"text": EASY}, {"x-router-threshold": "0.95"}),
        ({"text": HARD}, {"x-router-target": "local"}),
    ],
)
async def test_preview_equals_the_decision(
    proxy: LiveProxy, fields: dict[str, Any], headers: dict[str, str]
) -> None:
    body = chat_body(**fields)
    previewed = await preview(proxy, body, headers)
    answer = await proxy.post(body, headers)
    row = await proxy.row_of(answer)
    for name in ("target", "model", "reason", "score", "merit", "threshold", "p_local", "p_cloud"):
        assert previewed[name] == row[name], name
    assert previewed["latency_ms"] > 0
    (only,) = await proxy.rows_of(1)  # the row of the response
    assert only["id"] == row["id"]


async def test_preview_calls_no_upstream(
    proxy: LiveProxy, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    await preview(proxy, chat_body(text=EASY))
    await preview(proxy, chat_body(text=HARD))
    assert [call.path for call in (*local.calls, *cloud.calls) if call.method == "POST"] == []
    samples = await proxy.scrape()
    assert samples("router_requests_total") == 0


class SlowModel(StubModel):
    """Takes 30 ms, and notes what it has scored."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, text: str) -> Score:
        self.texts.append(text)
        time.sleep(0.03)
        return super().score(text)


async def test_preview_measures_a_first_decision(start: StartProxy) -> None:
    """The time of a cached score says nothing about the router."""
    model = SlowModel()
    proxy = await start(model=model)
    for _ in range(2):
        assert (await preview(proxy, chat_body(text=EASY)))["latency_ms"] >= 30
    assert model.texts == [EASY, EASY]
    await proxy.post(chat_body(text=EASY))
    assert model.texts == [EASY, EASY]  # a request uses the cached score


async def test_preview_is_rejected_like_the_request(start: StartProxy) -> None:
    proxy = await start(KEYS)
    for body, headers, status, param in (
        (chat_body(text=EASY), {}, 401, None),
        (b"{", TEAM, 400, None),
        (chat_body(messages="?"), TEAM, 400, "messages"),
        (chat_body(model="auto:cost=2"), TEAM, 400, "model"),
    ):
        answer = await proxy.client.post("/api/decisions", content=body, headers=headers)
        assert answer.status_code == status
        assert envelope_of(answer)["param"] == param
    answer = await proxy.client.get("/api/decisions", headers=TEAM)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def verdict_answer(reasoning: str, **verdict: Any) -> list[Any]:
    return whole(answer_json(json.dumps({"reasoning": reasoning, **verdict})))


def biased_judge(call: Call) -> list[Any]:
    """A judge that prefers the first answer and grades by length."""
    prompt = json.dumps(call.json["messages"])
    if "ANSWER-A" in prompt:
        return verdict_answer("The first.", verdict="A")
    return verdict_answer("By length.", score=8 if "long answer" in prompt else 3)


def answers(**values: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": EASY}]
    defaults = {"request_id": "req_1", "messages": messages, "local": "4", "cloud": "A long answer"}
    return defaults | values


async def test_position_biased_judge_gives_a_tie(start: StartProxy, cloud: FakeUpstream) -> None:
    cloud.answer = biased_judge
    proxy = await start(JUDGING)
    answer = await proxy.client.post("/api/verdicts", json=answers())
    assert answer.json() == {
        "judge": "gpt-4o-mini",
        "local": {"score": 3, "reasoning": "By length."},
        "cloud": {"score": 8, "reasoning": "By length."},
        "verdict": "tie",
        "first": "local",
        "first_reasoning": "The first.",
        "swapped": "cloud",
        "swapped_reasoning": "The first.",
    }
    samples = await proxy.scrape()
    assert samples("router_judge_calls_total", purpose="judge", outcome="ok") == 4


async def test_exhausted_judge_budget_rejects_verdicts(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    cloud.answer = biased_judge
    proxy = await start({"judge": JUDGING["judge"] | {"usd_per_day": 0.0001}})
    answer = await proxy.client.post("/api/verdicts", json=answers())
    assert answer.status_code == 503
    assert "Today's judge budget is spent" in envelope_of(answer)["message"]
    assert [call for call in cloud.calls if call.method == "POST"] == []


@pytest.mark.parametrize(
    ("values", "param"),
    [({"messages": []}, "messages"), ({"local": ""}, "local"), ({"cloud": None}, "cloud"),
     ({"messages": [{"role": "user"}]}, "messages[0]"), ({"request_id": 1}, "request_id")],
)  # fmt: skip
async def test_invalid_verdict_request_is_rejected_by_name(
    start: StartProxy, values: dict[str, Any], param: str
) -> None:
    proxy = await start(JUDGING)
    answer = await proxy.client.post("/api/verdicts", json=answers(**values))
    assert answer.status_code == 400
    assert (envelope_of(answer)["param"] or "").startswith(param.partition("[")[0])


async def test_verdicts_require_an_admin_key_and_a_judge(start: StartProxy) -> None:
    proxy = await start(KEYS)
    for headers, status, code in ((TEAM, 403, "admin_only"), (ADMIN, 404, "judge_off")):
        answer = await proxy.client.post("/api/verdicts", json=answers(), headers=headers)
        assert answer.status_code == status
        assert envelope_of(answer)["code"] == code


async def test_status_reports_models_judge_and_permissions(start: StartProxy) -> None:
    proxy = await start({**KEYS, **JUDGING})
    status = (await proxy.client.get("/api/status", headers=TEAM)).json()
    assert status["tiers"]["cloud"]["model"] == "gpt-4o-mini"
    assert (status["judge"], status["keeps_prompts"]) == ("gpt-4o-mini", "full")
    assert (status["needs_key"], status["is_admin"], status["threshold"]) == (True, False, 0.5)
    admin = (await proxy.client.get("/api/status", headers=ADMIN)).json()
    assert admin["is_admin"] is True
    # The browser keeps the conversations of each key apart by it.
    assert status["key_hash"] == key_hash("sk-team") != admin["key_hash"]
    assert (await proxy.client.get("/api/status")).status_code == 401


async def test_page_requests_do_not_count_toward_the_rate_limit(start: StartProxy) -> None:
    key = {"key": "sk-team", "requests_per_minute": 2}
    proxy = await start({"server": {"api_keys": [key]}})
    for _ in range(5):
        for path in ("/api/status", "/api/stats", "/api/requests", "/api/experiments", "/api/jobs"):
            assert (await proxy.client.get(path, headers=TEAM)).status_code == 200, path
    for status in (200, 200, 429):
        assert (await proxy.chat(text=EASY, headers=TEAM)).status_code == status
    # A preview counts.
    answer = await proxy.client.post("/api/decisions", content=chat_body(), headers=TEAM)
    assert answer.status_code == 429
