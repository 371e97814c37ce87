"""Experiment steps, run as jobs of the proxy with the real commands."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest

from fakes import FakeUpstream
from proxy.budget.pricing import Prices
from proxy.budget.token_counter import TokenCounter
from proxy.config import load_config
from proxy.experiments.jobs import Job, Jobs
from proxy.experiments.planner import Planner
from proxy.experiments.results import key_figure, read_results
from proxy.experiments.steps import STEPS, STEPS_BY_NAME, Step
from proxy.record import Target
from proxy.storage.database import close_all, open_database
from scripted_models import CLOUD, JUDGE, LOCAL, PRICES, Models
from stored import config_of, migrate
from training import cli, label
from training.paid import Endpoint, Price, Tokens

PATIENCE_SECONDS = 120.0
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as server:
        server.answer = Models()
        yield server


@pytest.fixture
def planner(tmp_path: Path, upstream: FakeUpstream) -> Planner:
    """A planner with the shipped rows and router, and scripted models."""
    data = tmp_path / "outcomes"
    for folder in ("prompts", "annotated"):
        (data / folder).mkdir(parents=True)
    shutil.copy(ROOT / "data/sample.jsonl", data)
    (data / "prompts" / "mine.txt").write_text("A question\nAnother one, longer\n")
    rows = [
        {"question": f"q{i}", "answer": f"{('local', 'cloud')[i % 2]} {i}", "human_score": 3 + i}
        for i in range(4)
    ]
    (data / "annotated" / "people.jsonl").write_text("\n".join(map(json.dumps, rows)))
    tiers = {
        name: {
            "base_url": upstream.base_url,
            "model": model,
            "price": dict(zip(("input", "output"), PRICES[model], strict=True)),
        }
        for name, model in (("local", LOCAL), ("cloud", CLOUD))
    }
    fields = {
        "upstreams": tiers,
        "judge": {"model": JUDGE, "price": tiers["cloud"]["price"]},
        "routing": {"model_path": str(ROOT / "data/models/router")},
        "experiments": {
            "data": str(data), "work": str(tmp_path / "work"), "results": str(tmp_path / "results"),
        },
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(fields))
    config = load_config(path, environ={})
    tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
    return Planner(config, Prices(tiers, {}), TokenCounter())


def run(
    planner: Planner, name: str, folder: Path, *, max_usd: float = 0.0, **parameters: Any
) -> tuple[Job, str]:
    """Run a step to its end. Return the job and its log."""
    url = f"sqlite:///{folder / 'rows.db'}"
    migrate(url)
    database = open_database(config_of(url))
    jobs = Jobs(database, heartbeat_seconds=0.05)
    step = STEPS_BY_NAME[name]
    assert planner.problems(step) == []
    chosen = planner.resolve(step, parameters)
    plan = planner.plan(step, chosen, max_usd=max_usd)
    try:
        job = jobs.start(name, plan.commands, arguments=chosen, environment=plan.environment)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while jobs.running() is not None:
            assert time.monotonic() < deadline, jobs.read_log(job.id).text
            time.sleep(0.05)
        done = jobs.find(job.id)
        assert done is not None
        return done, jobs.read_log(job.id).text
    finally:
        jobs.close()
        close_all(database)


@pytest.mark.parametrize("name", ["evaluate", "errors"])
async def test_measuring_step_runs_with_the_real_commands(
    planner: Planner, tmp_path: Path, name: str
) -> None:
    done, log = await asyncio.to_thread(run, planner, name, tmp_path, split="test")
    assert (done.state, done.exit_status) == ("done", 0), log
    assert "$ prepare --data outcomes" in log
    step = STEPS_BY_NAME[name]
    stored = read_results(step, planner.folders)
    assert all(stored[name]["split"] == "test" for name in step.results)
    assert key_figure(step, stored) is not None
    assert str(tmp_path) not in json.dumps(stored)


@pytest.mark.parametrize(
    ("name", "parameters", "headline"),
    [
        ("benchmark", {"through_router": False}, r"local 4\.00, cloud 9\.00 of 10"),
        ("validate-judge", {}, r"rank correlation 0\.45 \[.*\] over 4 answers"),
        ("label", {}, r"2 prompts are labelled"),
    ],
)
async def test_model_calling_step_runs_with_the_real_commands(
    planner: Planner,
    tmp_path: Path,
    upstream: FakeUpstream,
    name: str,
    parameters: dict[str, Any],
    headline: str,
) -> None:
    done, log = await asyncio.to_thread(run, planner, name, tmp_path, max_usd=50.0, **parameters)
    assert (done.state, done.exit_status) == ("done", 0), log
    assert isinstance(upstream.answer, Models)
    assert done.cost_usd == pytest.approx(upstream.answer.billed_usd, abs=1e-5)
    step = STEPS_BY_NAME[name]
    assert re.fullmatch(headline, str(key_figure(step, read_results(step, planner.folders))))


async def test_spending_limit_stops_the_step(
    planner: Planner, tmp_path: Path, upstream: FakeUpstream
) -> None:
    done, log = await asyncio.to_thread(run, planner, "label", tmp_path, max_usd=0.01)
    assert done.state == "failed"
    assert "--max-usd 0.01 is used up" in log
    assert isinstance(upstream.answer, Models)
    assert upstream.answer.billed_usd <= 0.01


async def test_estimate_equals_that_of_the_pipeline(planner: Planner) -> None:
    prompts = label.read_prompts(ROOT / "data/sample.jsonl", source="own")
    shutil.copy(ROOT / "data/sample.jsonl", planner.folders.data / "prompts" / "s.jsonl")  # type: ignore[operator]
    for pairwise in (True, False):
        expected = label.estimate(
            prompts,
            Tokens(),
            **{
                role: Endpoint(
                    role=role, url="", model=model, price=Price(PRICES[model][0], *PRICES[model])
                )
                for role, model in (("local", LOCAL), ("cloud", CLOUD), ("judge", JUDGE))
            },
            max_tokens=2048,
            judge_max_tokens=512,
            pairwise=pairwise,
        )
        step = STEPS_BY_NAME["label"]
        chosen = planner.resolve(step, {"file": "s.jsonl", "pairwise": pairwise})
        estimate = planner.estimate(step, chosen)
        assert estimate.calls == sum(item.calls for item in expected)
        assert estimate.input_tokens == sum(item.input_tokens for item in expected)
        assert estimate.output_tokens == sum(item.output_tokens for item in expected)
        assert estimate.usd == pytest.approx(sum(item.usd for item in expected))
        assert estimate.most_usd == pytest.approx(sum(item.most_usd for item in expected))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_commands_accept_the_chosen_parameters(planner: Planner, step: Step) -> None:
    plan = planner.plan(step, planner.resolve(step, {}), max_usd=1.0)
    group = click.Context(cli.main)
    named = [command[0] for command in plan.commands]
    assert set(step.commands) <= set(named)
    for name, *arguments in plan.commands:
        command = cli.main.get_command(group, name)
        assert command is not None
        command.make_context(name, arguments)  # raises for an unknown option
