"""Fitting the shipped router to another local model, from a real database of judged requests."""

import json
import logging
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from click.testing import CliRunner, Result

from proxy.app import load_router
from proxy.cli import main
from proxy.config import StorageConfig, load_config
from proxy.judged import MIN_REQUESTS
from proxy.record import CallRecord, Ending, Target
from proxy.store import Store
from router_model.categories import CATEGORIES
from router_model.manifest import Manifest
from router_model.model import RouterModel

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "data/models/router"
PROMPTS = [
    json.loads(line)["query"]
    for name in ("everyday.jsonl", "sample.jsonl")
    for line in (ROOT / "data" / name).read_text().splitlines()
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    path.write_text(
        f"""\
upstreams:
  local: {{base_url: http://127.0.0.1:9/v1, model: strong:latest}}
  cloud: {{base_url: http://127.0.0.1:9/v1, model: gpt-4o-mini}}
routing: {{model_path: {SHIPPED}}}
storage: {{url: "sqlite:///{tmp_path}/rows.db"}}
"""
    )
    return path


def record_judged(
    config: Path,
    *,
    local_model: str = "strong",
    local_good: float = 0.8,
    cloud_good: float = 0.95,
    prompts: Literal["full", "hash", "none"] = "full",
    times: int = 2,
) -> None:
    """Prompts as answered requests, with judgements of both tiers' answers, good by chance."""
    storage = load_config(config).storage
    store = Store(StorageConfig(url=storage.url, prompts=prompts))
    store.open()
    dice = random.Random(1)
    judgements = []
    for text in PROMPTS * times:
        record = CallRecord("chat.completions")
        record.target, record.model = Target.LOCAL, local_model
        record.turns = [("user", text)]
        record.cloud_cost_usd = len(text) * 1e-6
        record.finish(Ending.OK)
        store.add(record)
        tiers = (("local", local_model, local_good), ("cloud", "gpt-4o-mini", cloud_good))
        for target, model, good in tiers:
            score = 9.0 if dice.random() < good else 3.0
            judgements.append((record.id, record.created_at, target, model, score, "judge"))
    store.close()
    with closing(sqlite3.connect(storage.url.removeprefix("sqlite:///"))) as database, database:
        database.executemany(
            "insert into judgements (request_id, created_at, target, model, score, judge_model)"
            " values (?, ?, ?, ?, ?, ?)",
            judgements,
        )


def calibrate(config: Path, *more: str) -> Result:
    arguments = ["calibrate", "--from-db", "--config", str(config), *more]
    return CliRunner().invoke(main, arguments)


def test_a_new_local_model_gets_its_own_probabilities_and_threshold(
    config: Path, tmp_path: Path
) -> None:
    record_judged(config)
    target = tmp_path / "strong"
    done = calibrate(config, f"--out={target}", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert told["requests"] == 2 * len(PROMPTS)
    assert told["log_loss_after"] < told["log_loss_before"]
    assert told["ece_after"] < told["ece_before"]
    low, high = told["operating_point"]["quality_interval"]
    assert low <= told["operating_point"]["quality_share"] <= high

    fitted = RouterModel.load(target)
    mean = sum(fitted.score(text).p_local for text in PROMPTS) / len(PROMPTS)
    assert mean == pytest.approx(told["local_ok_share"], abs=0.03)
    manifest = fitted.manifest
    assert (manifest.local_model, manifest.cloud_model) == ("strong:latest", "gpt-4o-mini")
    assert manifest.threshold == told["threshold"]
    assert manifest.version != Manifest.load(SHIPPED).version
    assert f"{told['fitted']} judged requests" in manifest.threshold_why


def test_the_proxy_warns_until_the_new_model_is_named(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record_judged(config)
    target = tmp_path / "strong"
    assert calibrate(config, f"--out={target}").exit_code == 0
    with caplog.at_level(logging.WARNING):
        load_router(load_config(config))[0].close()
        assert "was trained for phi3" in caplog.text
        caplog.clear()
        config.write_text(config.read_text().replace(str(SHIPPED), str(target)))
        load_router(load_config(config))[0].close()
    assert caplog.text == ""


def test_the_table_for_people_says_where_it_wrote(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    done = calibrate(config, f"--out={tmp_path}/strong", "--since=1d")
    assert done.exit_code == 0, done.output
    assert "before 0." in done.output
    assert f"model_path: {tmp_path}/strong" in done.output


def test_calibrating_again_starts_from_the_same_version(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    target = tmp_path / "strong"
    assert calibrate(config, f"--out={target}").exit_code == 0
    config.write_text(config.read_text().replace(str(SHIPPED), str(target)))
    assert calibrate(config, f"--out={target}").exit_code == 0
    shipped, again = Manifest.load(SHIPPED), Manifest.load(target)
    assert again.version.startswith(f"{shipped.version}+own.")
    assert again.version.count("+") == 1
    assert again.metrics["trained"] == shipped.metrics


def test_where_the_cloud_is_no_better_everything_stays_local(config: Path, tmp_path: Path) -> None:
    record_judged(config, local_good=0.9, cloud_good=0.8)
    target = tmp_path / "strong"
    assert calibrate(config, f"--out={target}").exit_code == 0
    manifest = Manifest.load(target)
    assert manifest.threshold == 0.0
    assert "no better" in manifest.threshold_why
    assert {point.quality_share for point in manifest.thresholds} == {0.0}


def test_another_models_judgements_are_not_taken(config: Path, tmp_path: Path) -> None:
    record_judged(config, local_model="phi3")
    done = calibrate(config, f"--out={tmp_path}/strong")
    assert done.exit_code == 1
    assert f"{MIN_REQUESTS} are needed" in done.output
    assert f"{2 * len(PROMPTS)} of phi3 and gpt-4o-mini" in done.output
    assert not (tmp_path / "strong").exists()


@pytest.mark.parametrize("prompts", ["hash", "none"])
def test_unreadable_prompts_are_named_as_the_reason(
    config: Path, tmp_path: Path, prompts: Literal["hash", "none"]
) -> None:
    record_judged(config, prompts=prompts)
    done = calibrate(config, f"--out={tmp_path}/strong")
    assert done.exit_code == 1
    assert "storage.prompts" in done.output


def test_no_database_is_one_clear_line(config: Path) -> None:
    done = calibrate(config)
    assert done.exit_code == 1
    assert "rows.db" in done.output
    assert "Traceback" not in done.output


def test_a_folder_of_something_else_is_left_alone(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to-mother.txt").write_text("dear")
    done = calibrate(config, f"--out={tmp_path}/letters")
    assert done.exit_code == 1
    assert "something else" in done.output
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mother.txt"]


@pytest.mark.parametrize("age", ["7", "d", "-1d", "1y", ""])
def test_a_wrong_age_is_refused(config: Path, age: str) -> None:
    done = calibrate(config, f"--since={age}")
    assert done.exit_code == 2
    assert "is not an age" in done.output


def test_old_requests_can_be_left_out(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    path = load_config(config).storage.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update requests set created_at = created_at - 86400 * 10")
    done = calibrate(config, f"--out={tmp_path}/strong", "--since=1w")
    assert done.exit_code == 1
    assert "judged: none" in done.output


def test_the_report_can_be_read_by_programs(config: Path, tmp_path: Path) -> None:
    record_judged(config, times=1)
    done = calibrate(config, f"--out={tmp_path}/strong", "--json")
    point = msgspec.json.decode(done.output)["operating_point"]
    assert set(point) >= {"local_share", "cost_share", "quality_share"}


def test_judged_requests_can_be_exported_for_training(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    out = tmp_path / "own.jsonl"
    done = CliRunner().invoke(main, ["export", "--judged", f"--out={out}", f"--config={config}"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2 * len(PROMPTS)
    assert {row["query"] for row in rows} == set(PROMPTS)
    for row in rows:
        assert row["source"] == "proxy"
        assert row["category"] in CATEGORIES
        assert (row["local_model"], row["cloud_model"]) == ("strong", "gpt-4o-mini")
        assert row["local_score"] in (3, 9)
