"""Gain per dollar over a real socket: what the client, the row, the log and the pages show."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from fakes import EASY, HARD
from gains import flat_gain
from live import LiveProxy, StartProxy, chat_body
from proxy.evaluation.explain import explain
from router_model.manifest import Manifest, ThresholdTable
from router_model.model import RouterModel
from router_model.score import Score

FOLDER = Path(__file__).parents[2] / "data/models/router"
# The reference request costs 0.15 + 0.6 microdollars per million tokens of gpt-4o-mini.
GAIN = flat_gain(output_tokens=100.0)
BY_SCORE = ThresholdTable(threshold=0.05, threshold_why="why", thresholds=[])
AUTO = {"routing": {"threshold": "auto"}}
TRACE = {"x-router-trace": "true"}


class GainModel(RouterModel):
    """Both texts have the same score. Only for HARD the cloud's answer is expected to gain."""

    def __init__(self) -> None:
        self.manifest = msgspec.structs.replace(
            Manifest.load(FOLDER), gain=GAIN, by_score=BY_SCORE, threshold=0.6
        )

    def score(self, text: str) -> Score:
        return Score(0.8, 0.0 if HARD in text else 1.0, 1.0, None, 100.0)


@pytest.fixture
async def proxy(start: StartProxy) -> LiveProxy:
    return await start(AUTO, model=GainModel())


def shown(response: Any) -> tuple[str, ...]:
    assert response.status_code == 200, response.text
    names = ("target", "reason", "score", "merit", "threshold")
    return tuple(response.headers[f"x-router-{name}"] for name in names)


async def test_merit_decides_and_is_in_header_row_and_metrics(proxy: LiveProxy) -> None:
    easy = await proxy.chat(text=EASY)
    hard = await proxy.chat(text=HARD)
    assert shown(easy) == ("local", "score", "0.8000", "0.9999", "0.6000")
    assert shown(hard)[:3] == ("cloud", "score", "0.8000")
    merit = float(hard.headers["x-router-merit"])
    # About 10 tokens instead of 100 in the prompt: cheaper than the reference request.
    assert 0.4 < merit < 0.5
    outcome = await proxy.finish(2)
    rows = {row["id"]: row for row in outcome.rows}
    row = rows[hard.headers["x-request-id"]]
    assert (row["score"], row["merit"]) == (0.8, pytest.approx(merit, abs=1e-4))
    assert outcome.metrics("router_merit_bucket", le="0.5") == 1


LONG = "Answer in one sentence. " * 1_000
TOOL = {"type": "function", "function": {"name": "f", "description": LONG, "parameters": {}}}


async def test_dear_prompt_stays_local_at_equal_gain(proxy: LiveProxy) -> None:
    response = await proxy.chat(text=f"{HARD} {LONG}")
    assert shown(response)[:3] == ("local", "score", "0.8000")


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": HARD}]},
        {
            "messages": [
                {"role": "user", "content": LONG},
                {"role": "assistant", "content": LONG},
                {"role": "user", "content": HARD},
            ]
        },
        {"messages": [{"role": "user", "content": HARD}], "tools": [TOOL]},
    ],
    ids=["instructions", "earlier turns", "tools"],
)
async def test_what_comes_again_with_each_request_is_no_cost_of_one(
    proxy: LiveProxy, fields: dict[str, Any]
) -> None:
    alone = await proxy.chat(text=HARD)
    response = await proxy.chat(**fields)
    assert shown(response) == shown(alone)
    assert shown(response)[0] == "cloud"


async def test_explanation_and_trace_name_the_merit(proxy: LiveProxy) -> None:
    response = await proxy.chat(text=HARD, headers=TRACE)
    trace = response.headers["x-router-trace"]
    merit = response.headers["x-router-merit"]
    assert f"merit {merit} (gain +1.0000 for $0.00006" in trace
    row = await proxy.row_of(response)
    row |= {"judgements": [], "feedback": None}
    assert f"its merit {merit} (gain per dollar; score 0.8000) is below the threshold 0.6000" in (
        explain(row)
    )


async def test_preview_shows_gain_and_expected_cost(proxy: LiveProxy) -> None:
    answer = await proxy.client.post("/api/decisions", content=chat_body(text=HARD))
    decision = answer.json()
    assert (decision["target"], decision["gain"]) == ("cloud", 1.0)
    tokens = len(HARD) / 4
    assert decision["expected_cloud_usd"] == pytest.approx(tokens * 0.15e-6 + 100 * 0.6e-6)
    assert 0.4 < decision["merit"] < 0.5


async def test_objective_is_reloaded_with_its_thresholds(proxy: LiveProxy) -> None:
    assert shown(await proxy.chat(text=HARD))[0] == "cloud"
    proxy.configure({"routing": {"objective": "score"}})
    await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot.config.routing.objective == "score")
    response = await proxy.chat(text=HARD)
    assert shown(response) == ("local", "score", "0.8000", "0.8000", "0.0500")


async def test_merits_are_in_the_dashboard_figures(proxy: LiveProxy) -> None:
    for text in (EASY, HARD):
        await proxy.row_of(await proxy.chat(text=text))
    stats = (await proxy.client.get("/api/stats")).json()
    assert stats["scores"][80] == 2
    assert (stats["merits"][99], sum(stats["merits"][40:50])) == (1, 1)
    pareto = (await proxy.client.get("/api/pareto")).json()
    shares = {point["threshold"]: point["cloud_share"] for point in pareto["curve"]}
    assert (shares[0.4], shares[0.6], shares[0.99], shares[1.0]) == (0.0, 0.5, 0.5, 1.0)
