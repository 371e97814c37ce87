"""Real steps, run as the page of experiments runs them: the proxy's jobs, the real commands."""

import json
import shutil
from pathlib import Path

import pytest

from proxy.config import load_config
from proxy.database import close_all, open_database
from proxy.findings import headline, results_of
from proxy.jobs import Jobs
from proxy.pipeline import Pipeline
from proxy.pricing import Prices
from proxy.record import Target
from proxy.steps import BY_NAME
from proxy.tokens import TokenCounter
from stored import config_of, migrated, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """With the rows that are in the repository, and the router that is."""
    data = tmp_path / "outcomes"
    data.mkdir()
    shutil.copy(ROOT / "data/sample.jsonl", data)
    tier = {"base_url": "http://127.0.0.1:9", "model": "m"}
    fields = {
        "upstreams": {"local": tier, "cloud": tier},
        "routing": {"model_path": str(ROOT / "data/models/router")},
        "experiments": {
            "data": str(data), "work": str(tmp_path / "work"), "results": str(tmp_path / "results"),
        },
    }  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(fields))
    config = load_config(path, environ={})
    tiers = {Target.LOCAL: config.upstreams.local, Target.CLOUD: config.upstreams.cloud}
    return Pipeline(config, Prices(tiers, {}), TokenCounter())


@pytest.mark.parametrize("name", ["evaluate", "errors"])
def test_a_step_runs_for_real(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    migrated(url)
    database = open_database(config_of(url))
    jobs = Jobs(database, beat_seconds=0.05)
    step = BY_NAME[name]
    assert pipeline.problems(step) == []
    chosen = pipeline.choose(step, {"split": "test"})
    plan = pipeline.plan(step, chosen, max_usd=0.0)
    try:
        job = jobs.start(name, plan.commands, arguments=chosen, environment=plan.environment)
        until(lambda: jobs.running() is None)
        done = jobs.find(job.id)
        log = jobs.read_log(job.id).text
    finally:
        jobs.close()
        close_all(database)
    assert done is not None
    assert (done.state, done.exit_status) == ("done", 0), log
    assert "$ prepare --data outcomes" in log
    found = results_of(step, pipeline.places)
    assert all(found[name]["split"] == "test" for name in step.results)
    assert headline(step, found) is not None
    assert str(tmp_path) not in json.dumps(found)
