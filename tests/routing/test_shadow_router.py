"""The shadow router scores live traffic, decides nothing and affects no request."""

import asyncio
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fakes import (
    EASY,
    HARD,
    PATIENCE_SECONDS,
    BrokenModel,
    FakeUpstream,
    Gate,
    answer_json,
    chunked,
    openai_events,
    whole,
)
from gains import flat_gain
from live import LiveProxy, StartProxy
from proxy.budget.pricing import Price
from proxy.config import load_config
from proxy.evaluation.queries import QualityQueries, ShadowComparison
from proxy.record import CallRecord, Target
from proxy.routing.router import Scorer
from proxy.routing.shadow_router import MAX_IN_FLIGHT, ShadowRouter
from proxy.server.app import Intervals, Proxy
from router_model.manifest import Manifest
from router_model.model import Score
from router_model.value import GainPerDollar, UsdPerToken
from stored import config_of

SHIPPED = Path(__file__).parents[2] / "data/models/router"
DECISIONS = "router_shadow_decisions_total"
COST = "router_shadow_cost_usd_total"
ANSWER_USD = 19 * 0.15e-6 + 10 * 0.60e-6  # the cloud price of either tier's response


def shadow_share(share: float) -> dict[str, Any]:
    return {"routing": {"shadow_router": {"path": "nowhere", "share": share}}}


class CloudModel:
    """A model that sends every request to the cloud."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, text: str) -> Score:
        self.texts.append(text)
        return Score(0.25, 0.5, 0.5)


class BlockedModel(CloudModel):
    """A model that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.release = threading.Event()

    def score(self, text: str) -> Score:
        self.started.set()
        assert self.release.wait(PATIENCE_SECONDS)
        return super().score(text)


def shadow_router_of(proxy: LiveProxy) -> ShadowRouter:
    shadow_router = proxy.proxy.gateway.snapshot.shadow_router
    assert shadow_router is not None
    return shadow_router


async def chat_after_shadow(proxy: LiveProxy, tier: FakeUpstream, **fields: Any) -> httpx2.Response:
    """A chat whose response starts after the shadow router has scored it."""
    gate = Gate()
    tier.answer = [gate, *whole(answer_json())]
    request = asyncio.create_task(proxy.chat(**fields))
    await gate.reached()
    await proxy.reloaded(lambda: not shadow_router_of(proxy)._tasks)
    gate.open()
    response: httpx2.Response = await request
    assert response.status_code == 200
    return response


def decision_of(response: httpx2.Response) -> dict[str, str]:
    names = ("target", "model", "score", "threshold", "reason")
    return {name: response.headers[f"x-router-{name}"] for name in names}


async def test_decisions_of_both_routers_are_compared(
    start: StartProxy, tmp_path: Path, local: FakeUpstream, cloud: FakeUpstream
) -> None:
    candidate = CloudModel()
    proxy = await start(shadow_share(1.0), candidate=candidate)
    easy = await chat_after_shadow(proxy, local, text=EASY)
    hard = await chat_after_shadow(proxy, cloud, text=HARD)
    assert decision_of(easy) == {
        "target": "local",
        "model": "phi3:latest",
        "score": "0.9000",
        "threshold": "0.5000",
        "reason": "score",
    }
    assert decision_of(hard)["target"] == "cloud"
    assert candidate.texts == [EASY, HARD]
    outcome = await proxy.finish(2)
    assert [row["candidate_score"] for row in outcome.rows] == [0.25, 0.25]
    assert outcome.metrics.by_labels(DECISIONS) == {("local", "cloud"): 1, ("cloud", "cloud"): 1}
    assert outcome.metrics(COST, router="live") == pytest.approx(ANSWER_USD)
    assert outcome.metrics(COST, router="shadow") == pytest.approx(2 * ANSWER_USD)
    with QualityQueries.open(config_of(f"sqlite:///{tmp_path}/router.db")) as stats:
        comparison = stats.shadow_comparison(0.0, threshold=0.5, local_price=Price())
    assert comparison == ShadowComparison(
        requests=2,
        agreed=1,
        live_cloud=1,
        candidate_cloud=2,
        live_usd=pytest.approx(ANSWER_USD),
        candidate_usd=pytest.approx(2 * ANSWER_USD),
        all_cloud_usd=pytest.approx(2 * ANSWER_USD),
    )


async def test_shadow_decision_for_local_costs_the_local_price(
    start: StartProxy, cloud: FakeUpstream
) -> None:
    """The shadow router keeps a request that the live router sends to the cloud."""
    changes = shadow_share(1.0) | {
        "upstreams": {"local": {"price": {"input": 0.01, "output": 0.02}}}
    }
    proxy = await start(changes, model=CloudModel(), candidate=LocalModel())
    await chat_after_shadow(proxy, cloud, text=EASY)
    samples = (await proxy.finish(1)).metrics
    assert samples.by_labels(DECISIONS) == {("cloud", "local"): 1}
    assert samples(COST, router="shadow") == pytest.approx(19 * 0.01e-6 + 10 * 0.02e-6)
    assert samples(COST, router="live") == pytest.approx(ANSWER_USD)


class LocalModel:
    """A model that keeps every request local."""

    def score(self, text: str) -> Score:
        return Score(0.75, 0.5, 0.5)


async def test_blocked_shadow_model_delays_no_request(
    start: StartProxy, local: FakeUpstream
) -> None:
    candidate = BlockedModel()
    proxy = await start(shadow_share(1.0), candidate=candidate)
    local.answer = chunked(*openai_events())
    try:
        for number in range(MAX_IN_FLIGHT + 4):  # distinct texts, which do not share a score
            response = await proxy.chat(stream=True, text=f"What is 2+{number}?")
            assert b"[DONE]" in response.content
            assert decision_of(response)["target"] == "local"
        assert candidate.started.wait(PATIENCE_SECONDS)
        in_flight = shadow_router_of(proxy)._tasks
        assert len(in_flight) == MAX_IN_FLIGHT
        await proxy.settled(MAX_IN_FLIGHT + 4)
    finally:
        candidate.release.set()
    await proxy.reloaded(lambda: not in_flight)
    assert len(candidate.texts) == MAX_IN_FLIGHT
    outcome = await proxy.finish(MAX_IN_FLIGHT + 4)
    for row in outcome.rows:  # the scores arrived after these requests had ended
        assert row["candidate_score"] is None
        assert row["ttft_ms"] is not None
    assert not outcome.metrics.by_labels(DECISIONS)


async def test_only_decisions_by_score_are_compared(start: StartProxy, cloud: FakeUpstream) -> None:
    """Forced tiers, explicit thresholds and sticky sessions are not compared."""
    candidate = CloudModel()
    proxy = await start(shadow_share(1.0), candidate=candidate)
    for model in ("local", "cloud", "auto:threshold=0.3"):
        assert (await proxy.chat(model=model)).status_code == 200
    await proxy.chat(headers={"x-router-threshold": "0.3"})
    session = {"x-router-session": "s"}
    await chat_after_shadow(proxy, cloud, text=HARD, headers=session)
    sticky = await proxy.chat(text=EASY, headers=session)
    assert (sticky.headers["x-router-reason"], candidate.texts) == ("sticky", [HARD])
    outcome = await proxy.finish(6)
    assert outcome.metrics.by_labels(DECISIONS) == {("cloud", "cloud"): 1}


async def test_shadow_requests_are_sampled() -> None:
    rolls = iter([0.09, 0.1, 0.5, 0.05])
    scorer = Scorer(CloudModel())
    shadow_router = ShadowRouter(scorer, threshold=0.5, share=0.1, rng=lambda: next(rolls))
    sampled = []
    for _ in range(4):
        before = len(shadow_router._tasks)
        record = CallRecord("chat.completions")
        record.turns = [("user", EASY)]
        shadow_router.ask(record)
        sampled.append(len(shadow_router._tasks) - before)
    assert sampled == [1, 0, 0, 1]
    await asyncio.gather(*shadow_router._tasks)
    scorer.close()


async def test_shadow_router_ranks_by_its_own_objective() -> None:
    class GainModel:
        def score(self, text: str) -> Score:
            return Score(0.25, 0.25, 0.75, None, 50.0)

    objective = GainPerDollar(flat_gain(scale=2.0), UsdPerToken(0.01, 0.02))
    scorer = Scorer(GainModel())
    shadow_router = ShadowRouter(scorer, threshold=0.6, share=1.0, objective=objective)
    targets = []
    for tokens in (100.0, 10_000.0):  # the dear request is worth less
        record = CallRecord("chat.completions")
        record.turns, record.threshold = [("user", EASY)], 0.5
        record.score, record.merit = 0.9, 0.3  # the live router's
        shadow_router.ask(record, input_tokens=tokens)
        await asyncio.gather(*shadow_router._tasks)
        targets.append(shadow_router.targets(record))
    assert record.candidate_score == pytest.approx(1 / (1 + 2 * 0.5 / 50.5))
    assert targets == [(Target.CLOUD, Target.CLOUD), (Target.CLOUD, Target.LOCAL)]
    scorer.close()


async def test_failing_shadow_model_fails_no_request(
    start: StartProxy, local: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await start(shadow_share(1.0), candidate=BrokenModel())
    with caplog.at_level(logging.ERROR):
        assert decision_of(await chat_after_shadow(proxy, local, text=EASY))["reason"] == "score"
    assert "the shadow router model failed" in caplog.text
    outcome = await proxy.finish(1)
    assert outcome.row["candidate_score"] is None
    assert not outcome.metrics.by_labels(DECISIONS)


async def test_missing_model_folder_disables_the_shadow_router(
    start: StartProxy, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        proxy = await start(shadow_share(1.0))
    assert "cannot load the shadow router model: no router model in nowhere" in caplog.text
    assert proxy.proxy.gateway.snapshot.shadow_router is None
    assert (await proxy.chat()).status_code == 200


# ── Reloading ─────────────────────────────────────────────────────────────────────────────────


async def test_reload_replaces_the_shadow_router(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "candidate"
    shutil.copytree(SHIPPED, folder)
    path = tmp_path / "router.yaml"

    def configure(candidate: str) -> None:
        path.write_text(
            "upstreams:\n"
            "  local: {base_url: http://127.0.0.1:9/v1, model: phi3}\n"
            "  cloud: {base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}\n"
            f"routing: {{model_path: {SHIPPED}, shadow_router: {candidate}}}\n"
            f"storage: {{url: 'sqlite:///{tmp_path}/rows.db'}}\n"
        )

    configure("null")
    proxy = Proxy(load_config(path, environ={}), path=path, intervals=Intervals(watch=3600))
    async with proxy.lifespan(proxy.app):
        assert proxy.gateway.snapshot.shadow_router is None
        configure(f"{{path: {folder}, share: 0.5}}")
        assert await proxy.reloader.reload()
        await check_shadow_router_reloads(proxy, folder, configure, caplog)


async def check_shadow_router_reloads(
    proxy: Proxy, folder: Path, configure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def shadow_router() -> ShadowRouter:
        current = proxy.gateway.snapshot.shadow_router
        assert current is not None
        return current

    manifest, scorer = Manifest.load(folder), shadow_router()._scorer
    assert (shadow_router().threshold, shadow_router()._share) == (manifest.threshold, 0.5)
    configure(f"{{path: {folder}, share: 0.25}}")
    assert await proxy.reloader.reload()
    assert (shadow_router()._share, shadow_router()._scorer) == (0.25, scorer)
    (folder / "manifest.json").write_text("{}")
    assert not await proxy.reloader.reload()
    assert shadow_router()._scorer is scorer
    msgspec.structs.replace(manifest, threshold=0.123).save(folder)
    assert proxy.reloader.has_changes()  # the file watch would notice it
    assert await proxy.reloader.reload()
    assert shadow_router().threshold == 0.123
    assert shadow_router()._scorer is not scorer
    assert scorer in proxy.reloader.retired
    configure("null")
    assert await proxy.reloader.reload()
    assert proxy.gateway.snapshot.shadow_router is None
