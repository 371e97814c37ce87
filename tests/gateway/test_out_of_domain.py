"""Texts that the router model cannot judge, over a real socket, with the shipped model."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fakes import FakeUpstream, response_answer, whole
from live import LOCAL_MODEL, LiveProxy, StartProxy
from router_model.model import RouterModel

MODEL = Path(__file__).parents[2] / "data/models/router"
HARD = "すべての有限体の乗法群が巡回群であることを証明し、無限体での反例を説明してください。"
THANKS = "ありがとう"
POLISH = "Udowodnij, że grupa multiplikatywna ciała skończonego jest cykliczna, i podaj przykład."
TRACE = {"x-router-trace": "true"}


@pytest.fixture(scope="module")
def model() -> RouterModel:
    return RouterModel.load(MODEL)


def routing(**keys: Any) -> dict[str, Any]:
    return {"routing": {"objective": "score", "threshold": 0.6, **keys}}


@pytest.mark.parametrize(
    ("text", "target", "signal"),
    [(HARD, "cloud", "script"), (POLISH, "cloud", "pieces"), (THANKS, "local", "word"),
     ("?", "local", "empty"), ("asdf qwer asdf zxcv", "local", "noise")],
)  # fmt: skip
async def test_answer_row_and_metric_have_the_reason(
    start: StartProxy, model: RouterModel, text: str, target: str, signal: str
) -> None:
    proxy = await start(routing(), model=model)
    answer = await proxy.chat(text=text, headers=TRACE)
    assert answer.headers["x-router-target"] == target
    assert answer.headers["x-router-reason"] == "out_of_domain"
    assert float(answer.headers["x-router-score"]) > 0.6  # information only
    assert f"not readable ({signal})" in answer.headers["x-router-trace"]
    outcome = await proxy.finish()
    row = outcome.row
    assert (row["target"], row["reason"], row["propensity"]) == (target, "out_of_domain", None)
    assert row["score"] > row["threshold"]
    assert outcome.metrics("router_requests_total", reason="out_of_domain", target=target) == 1


async def test_english_is_scored(start: StartProxy, model: RouterModel) -> None:
    proxy = await start(routing(), model=model)
    answer = await proxy.chat(text="What is the capital of France?")
    assert answer.headers["x-router-reason"] == "score"


@pytest.mark.parametrize(("policy", "reason"), [("score", "score"), ("local", "out_of_domain")])
async def test_policy(start: StartProxy, model: RouterModel, policy: str, reason: str) -> None:
    proxy = await start(routing(out_of_domain=policy), model=model)
    answer = await proxy.chat(text=HARD)
    assert answer.headers["x-router-target"] == "local"
    assert answer.headers["x-router-reason"] == reason


@pytest.mark.parametrize(
    ("model_name", "headers", "target", "reason"),
    [
        ("auto:threshold=0.7", {}, "cloud", "out_of_domain"),
        ("auto", {"x-router-threshold": "0.1"}, "cloud", "out_of_domain"),
        ("auto:threshold=0", {}, "local", "score"),
        ("local", {}, "local", "forced"),
        ("cloud", {}, "cloud", "forced"),
    ],
)
async def test_client_preference(
    start: StartProxy,
    model: RouterModel,
    model_name: str,
    headers: dict[str, str],
    target: str,
    reason: str,
) -> None:
    proxy = await start(routing(), model=model)
    answer = await proxy.chat(text=HARD, model=model_name, headers=headers)
    assert answer.headers["x-router-target"] == target
    assert answer.headers["x-router-reason"] == reason


async def test_spent_budget_keeps_it_local(start: StartProxy, model: RouterModel) -> None:
    changes = routing() | {"budget": {"cloud_usd_per_day": 0}}
    proxy = await start(changes, model=model)
    answer = await proxy.chat(text=HARD)
    assert answer.headers["x-router-target"] == "local"
    assert answer.headers["x-router-reason"] == "budget"


async def test_responses_api(start: StartProxy, model: RouterModel, cloud: FakeUpstream) -> None:
    cloud.answer = response_answer()
    proxy = await start(routing(), model=model)
    answer = await proxy.client.post("/v1/responses", json={"model": "auto", "input": HARD})
    assert answer.status_code == 200
    assert answer.headers["x-router-target"] == "cloud"
    assert answer.headers["x-router-reason"] == "out_of_domain"


async def test_fallback(start: StartProxy, model: RouterModel, cloud: FakeUpstream) -> None:
    cloud.answer = whole(b"{}", status=500)
    proxy = await start(routing(), model=model)
    answer = await proxy.chat(text=HARD)
    assert answer.headers["x-router-reason"] == "fallback"
    assert answer.headers["x-router-model"] == LOCAL_MODEL


async def test_judge_does_not_sample_it(start: StartProxy, model: RouterModel) -> None:
    judged = {"judge": {"enabled": True, "sample_rate": 1.0, "shadow_rate": 0.0}}
    proxy = await start(routing() | judged, model=model)
    unread: httpx2.Response = await proxy.chat(text=HARD)
    read: httpx2.Response = await proxy.chat(text="What is the capital of France?")
    await proxy.rows_of(2)
    sampled = await samples_of(proxy)
    assert read.headers["x-request-id"] in sampled
    assert unread.headers["x-request-id"] not in sampled


async def samples_of(proxy: LiveProxy) -> set[str]:
    await proxy.stop()
    with sqlite3.connect(proxy.config_file.with_name("router.db")) as database:
        return {name for (name,) in database.execute("SELECT request_id FROM samples")}
