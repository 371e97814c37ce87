"""Calibration of the shipped router for another local model, from a database of judged requests."""

import asyncio
import json
import logging
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from fakes import FakeUpstream
from judging import (
    SHIPPED,
    TEXTS,
    change,
    configuration,
    content_of,
    judge,
    local_ok,
    rate,
    shipped,
    true_shares,
)
from live import LiveProxy
from proxy.budget import Prices
from proxy.cli.main import main
from proxy.config import StorageConfig, load_config
from proxy.evaluation.calibration import MIN_EVIDENCE, training_rows
from proxy.evaluation.dataset import MIN_REQUESTS
from proxy.evaluation.queries import QualityQueries
from proxy.record import CallRecord, Ending, Target
from proxy.routing import Router
from proxy.server.models import load_router
from proxy.storage.tables import Judgement, Request, Sample
from proxy.storage.writer import Store
from router_model.calibrate import merits
from router_model.categories import CATEGORIES
from router_model.evidence import Evidence
from router_model.manifest import Gain, Manifest
from router_model.metrics import Floats
from router_model.model import RouterModel
from router_model.task import routing_text
from router_model.value import expected_output_tokens, text_tokens
from stored import NOW, connected, execute
from training.sources import proxy_db

pytest_plugins = ["databases"]

ROOT = Path(__file__).parents[2]
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
    """Record answered requests with random judgements of both tiers' answers."""
    storage = load_config(config).storage
    store = Store(StorageConfig(url=storage.url, prompts=prompts))
    store.open()
    rng = random.Random(1)
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
            score = 9.0 if rng.random() < good else 3.0
            judgements.append((record.id, record.created_at, target, model, score, "judge"))
    store.close()
    with closing(sqlite3.connect(storage.url.path)) as database, database:
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
    report = json.loads(done.output)
    assert report["requests"] == 2 * len(PROMPTS)
    assert report["log_loss_after"] < report["log_loss_before"]
    assert report["ece_after"] < report["ece_before"]
    low, high = report["operating_point"]["quality_interval"]
    assert low <= report["operating_point"]["quality_share"] <= high

    fitted = RouterModel.load(target)
    mean = sum(fitted.score(text).p_local for text in PROMPTS) / len(PROMPTS)
    assert mean == pytest.approx(report["local_ok_share"], abs=0.03)
    manifest = fitted.manifest
    assert (manifest.local_model, manifest.cloud_model) == ("strong:latest", "gpt-4o-mini")
    assert manifest.threshold == report["threshold"]
    assert manifest.version != Manifest.load(SHIPPED).version
    assert f"{report['fitted']} judged requests" in manifest.threshold_why
    assert manifest.reference is not None
    assert manifest.reference.rows == report["fitted"]


def load(path: Path) -> Router:
    """The router of a configuration file."""
    config = load_config(path)
    return load_router(config, Prices.of(config, {}))[0]


def test_the_proxy_warns_until_the_new_model_is_named(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record_judged(config)
    target = tmp_path / "strong"
    assert calibrate(config, f"--out={target}").exit_code == 0
    with caplog.at_level(logging.WARNING):
        load(config).close()
        assert "was trained for phi3" in caplog.text
        caplog.clear()
        config.write_text(config.read_text().replace(str(SHIPPED), str(target)))
        load(config).close()
    assert caplog.text == ""


def test_the_table_names_the_written_model(config: Path, tmp_path: Path) -> None:
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


def test_without_a_better_cloud_the_threshold_keeps_everything_local(
    config: Path, tmp_path: Path
) -> None:
    record_judged(config, local_good=0.9, cloud_good=0.8)
    target = tmp_path / "strong"
    assert calibrate(config, f"--out={target}").exit_code == 0
    manifest = Manifest.load(target)
    assert manifest.threshold == 0.0
    assert "no better" in manifest.threshold_why
    assert {point.quality_share for point in manifest.thresholds} == {0.0}


def test_judgements_of_other_models_are_ignored(config: Path, tmp_path: Path) -> None:
    record_judged(config, local_model="phi3")
    done = calibrate(config, f"--out={tmp_path}/strong")
    assert done.exit_code == 1
    assert f"{MIN_REQUESTS} are needed" in done.output
    assert f"{2 * len(PROMPTS)} of phi3 and gpt-4o-mini" in done.output
    assert not (tmp_path / "strong").exists()


@pytest.mark.parametrize("prompts", ["hash", "none"])
def test_unreadable_prompts_are_reported_as_the_reason(
    config: Path, tmp_path: Path, prompts: Literal["hash", "none"]
) -> None:
    record_judged(config, prompts=prompts)
    done = calibrate(config, f"--out={tmp_path}/strong")
    assert done.exit_code == 1
    assert "storage.prompts" in done.output


def test_a_missing_database_is_a_one_line_error(config: Path) -> None:
    done = calibrate(config)
    assert done.exit_code == 1
    assert "rows.db" in done.output
    assert "Traceback" not in done.output


def test_a_folder_with_other_files_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/to-mother.txt").write_text("dear")
    done = calibrate(config, f"--out={tmp_path}/letters")
    assert done.exit_code == 1
    assert "has files but no router model" in done.output
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mother.txt"]


@pytest.mark.parametrize("age", ["7", "d", "-1d", "1y", ""])
def test_an_invalid_age_is_rejected(config: Path, age: str) -> None:
    done = calibrate(config, f"--since={age}")
    assert done.exit_code == 2
    assert "is not a duration" in done.output


def test_since_excludes_old_requests(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    path = load_config(config).storage.url.path
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update requests set created_at = created_at - 86400 * 10")
    done = calibrate(config, f"--out={tmp_path}/strong", "--since=1w")
    assert done.exit_code == 1
    assert "judged: none" in done.output


def test_the_report_is_available_as_json(config: Path, tmp_path: Path) -> None:
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
    assert {row["query"] for row in rows} == {routing_text([("user", text)]) for text in PROMPTS}
    for row in rows:
        assert row["source"] == "proxy"
        assert row["category"] in CATEGORIES
        assert (row["local_model"], row["cloud_model"]) == ("strong", "gpt-4o-mini")
        assert row["local_score"] in (3, 9)


# ── The second look ───────────────────────────────────────────────────────────────────────────


SECOND = "llama3"


def add_evidence(config: Path, *, requests: int, second: str = SECOND) -> None:
    """Evidence for the newest requests: the second model agrees where the local answer is good."""
    config.write_text(f"{config.read_text()}\nverify: {{second: {second}}}\n")
    url = str(load_config(config).storage.url)
    with connected(url) as database:
        good = {
            row.request_id: row.score > 5
            for row in Judgement.select().where(Judgement.target == "local").execute(database)
        }
        newest = Request.select(Request.id).order_by(Request.id.desc()).limit(requests)
        Sample.insert_many(
            {
                "request_id": request_id,
                "evidence": Evidence(agrees=good[request_id], second=SECOND).to_json(),
                "created_at": NOW, "kind": "pair", "propensity": 1.0, "turn": 0.5,
                "state": "done", "attempts": 0, "next_at": 0.0,
            }
            for (request_id,) in newest.tuples().execute(database)
        ).execute(database)  # fmt: skip


def test_the_second_look_is_fitted_to_evidence(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    add_evidence(config, requests=300)
    target = tmp_path / "strong"
    report = json.loads(calibrate(config, f"--out={target}", "--json").stdout)
    assert MIN_EVIDENCE <= report["evidence"] < 300  # without the held-out ones
    assert report["evidence_missing"] == 0
    manifest = Manifest.load(target)
    look = manifest.verification
    assert look is not None
    models = (look.local_model, look.cloud_model, look.second)
    assert models == ("strong:latest", "gpt-4o-mini", SECOND)
    assert look.pairs == report["evidence"]
    assert look.band == tuple(report["band"])
    assert look.band[0] <= manifest.threshold <= look.band[1]
    logits = RouterModel.load(target).logits(PROMPTS[0])
    agree, differ = (look.verify(logits, Evidence(agrees=value)) for value in (True, False))
    assert agree.gain < differ.gain
    assert manifest.for_objective("score").verification is None
    shown = calibrate(config, f"--out={target}").output
    assert f"fitted to {look.pairs} requests" in " ".join(shown.split())


def test_too_little_evidence_is_reported(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    add_evidence(config, requests=50)
    out = f"--out={tmp_path}/strong"
    report = json.loads(calibrate(config, out, "--json").stdout)
    assert 0 < report["evidence"] <= 50
    assert report["evidence"] + report["evidence_missing"] == MIN_EVIDENCE
    assert Manifest.load(tmp_path / "strong").verification is None
    assert f"{report['evidence_missing']} more are needed" in " ".join(
        calibrate(config, out).output.split()
    )


def test_evidence_of_another_second_model_does_not_count(config: Path, tmp_path: Path) -> None:
    record_judged(config)
    add_evidence(config, requests=300, second="mistral")
    report = json.loads(calibrate(config, f"--out={tmp_path}/strong", "--json").stdout)
    assert report["evidence"] == 0


# ── Targets, on traffic with known quality ────────────────────────────────────────────────────

FRESH = TEXTS[600:1600]


def calibrated(config: Path, *more: str) -> dict[str, Any]:
    done = calibrate(config, "--json", *more)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def on_fresh_traffic(model_path: Path, threshold: float) -> tuple[float, float]:
    return true_shares(merits_of(RouterModel.load(model_path), FRESH), FRESH, threshold)


def merits_of(model: RouterModel, texts: list[str]) -> Floats:
    """What the router compares with its threshold."""
    manifest, tokens = model.manifest, [text_tokens(text) for text in texts]
    logits = np.array([model.logits(text) for text in texts])
    return merits(logits, manifest.calibration, manifest.gain, tokens)


@pytest.fixture(scope="module")
def judged_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of 500 judged requests, which the tests only read."""
    url = f"sqlite:///{tmp_path_factory.mktemp('judged')}/rows.db"
    judge(url, TEXTS[:500])
    return url


@pytest.fixture
def used(tmp_path: Path) -> Path:
    """A copy of the shipped router whose threshold keeps everything local."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "used"))
    change(folder, threshold=0.0)
    return folder


@pytest.mark.parametrize(("option", "aim"), [("quality", 0.6), ("quality", 0.9), ("cost", 0.3)])
def test_calibration_reaches_a_quality_or_cost_target(
    judged_url: str, tmp_path: Path, used: Path, option: str, aim: float
) -> None:
    report = calibrated(
        configuration(tmp_path, judged_url, used), f"--{option}={aim}", "--apply", "--since=1d"
    )
    assert report["model_path"] == str(used)
    assert (report["threshold_before"], report["fitted"] + report["held_out"]) == (0.0, 500)
    assert 80 <= report["held_out"] <= 120
    manifest = Manifest.load(used)
    assert manifest.threshold == report["threshold"]
    which = {"quality": 0, "cost": 1}[option]
    truth = on_fresh_traffic(used, manifest.threshold)[which]
    for name in ("operating_point", "held_out_point"):
        low, high = report[name][f"{option}_interval"]
        assert low - 0.01 <= truth <= high + 0.01, name
    assert truth == pytest.approx(aim, abs=0.15)
    point = report["operating_point"]
    share = point[f"{option}_share"]
    assert share >= aim if option == "quality" else share <= aim


def test_an_unsettled_target_comes_with_a_sure_threshold(judged_url: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, judged_url, SHIPPED)
    report = calibrated(config, "--quality=0.8", f"--out={tmp_path}/own")
    assert not report["is_settled"]
    assert report["operating_point"]["quality_interval"][0] < 0.8
    table = Manifest.load(tmp_path / "own").thresholds
    sure = next(point for point in table if point.threshold == report["sure_threshold"])
    assert sure.quality_interval[0] >= 0.8
    assert report["threshold"] < sure.threshold < 1
    shown = calibrate(config, "--quality=0.8", f"--out={tmp_path}/own")
    assert f"no: part of the interval misses quality 0.8; threshold {sure.threshold:.4f} does" in (
        " ".join(shown.output.split())
    )
    everything = calibrated(config, "--cost=1", f"--out={tmp_path}/own")
    assert (everything["threshold"], everything["is_settled"]) == (1.0, True)


def with_gain(folder: Path) -> Path:
    """The router with a gain per dollar that is far from the judged traffic."""
    gain = Gain(
        length=(4.0, 0.2, 0.0, 0.0, 0.0),
        input_tokens=40.0,
        output_tokens=120.0,
        scale=1.5,
    )
    change(folder, gain=gain, by_score=None)
    return folder


def test_gain_per_dollar_is_fitted_with_a_threshold_for_each_objective(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    before = Manifest.load(with_gain(used)).gain
    config = configuration(tmp_path, judged_url, used)
    by_merit, out = f"--out={tmp_path}/merit", f"--out={tmp_path}/score"
    report = calibrated(config, "--quality=0.6", by_merit)
    manifest = Manifest.load(tmp_path / "merit")
    gain = manifest.gain
    assert before is not None
    assert gain is not None
    assert gain.scale == before.scale
    assert gain.length == before.length  # no answer of the cloud is on record
    assert (report["threshold"], report["threshold_before"]) == (manifest.threshold, 0.0)
    for index, name in enumerate(("quality", "cost")):
        truth = on_fresh_traffic(tmp_path / "merit", manifest.threshold)[index]
        low, high = report["held_out_point"][f"{name}_interval"]
        assert low <= truth <= high, name

    config.write_text(config.read_text().replace("gain_per_usd", "score"))
    report = calibrated(config, "--quality=0.6", out)
    again = Manifest.load(tmp_path / "score")
    by_score = again.for_objective("score")
    assert report["threshold"] == by_score.threshold != again.threshold
    assert report["operating_point"] in json.loads(msgspec.json.encode(by_score.thresholds))
    assert (again.threshold, again.gain) == (manifest.threshold, gain)


def test_length_of_answers_is_learnt_from_the_cloud(url: str, tmp_path: Path, used: Path) -> None:
    """A third of the requests went to the cloud; of another third it answered for the judge."""
    judge(url, TEXTS[:300], propensity=lambda text: 1.0)
    execute(
        url,
        "UPDATE requests SET input_tokens = 5000, output_tokens = 7",  # with instructions, tools
        "UPDATE requests SET target = 'cloud', output_tokens = 1000 "
        "WHERE id IN (SELECT id FROM requests ORDER BY id LIMIT 100)",
        f"UPDATE samples SET other_response = '{'word ' * 800}' "
        "WHERE request_id IN (SELECT id FROM requests ORDER BY id DESC LIMIT 100)",
    )
    config = configuration(tmp_path, url, with_gain(used))
    calibrated(config, f"--out={tmp_path}/own")
    gain = Manifest.load(tmp_path / "own").gain
    assert gain is not None
    new_tokens = sum(map(len, TEXTS[:300])) / 300 / 4
    assert gain.input_tokens == pytest.approx((240 * new_tokens + 100 * 40) / 340, rel=0.1)
    assert gain.output_tokens == pytest.approx((160 * 1000 + 100 * 120) / 260, rel=0.1)
    [length] = expected_output_tokens(gain, [[0.0, 0.0, 0.0]], 20.0)
    assert length == pytest.approx(1000, rel=0.4)


def test_sampled_requests_are_weighted_by_their_propensity(
    url: str, tmp_path: Path, used: Path
) -> None:
    """Hard prompts were judged five times as often as easy ones."""
    judge(url, TEXTS[:1000], propensity=lambda text: 1.0 if local_ok(text) < 0.5 else 0.2)
    config = configuration(tmp_path, url, used)
    good = float(np.mean([local_ok(text) for text in TEXTS[:1000]]))
    out = f"--out={tmp_path}/own"
    report = calibrated(config, "--quality=0.6", out)
    assert report["local_ok_share"] == pytest.approx(good, abs=0.06)
    quality, cost = on_fresh_traffic(tmp_path / "own", report["threshold"])
    point = report["operating_point"]
    for truth, (low, high) in (
        (quality, point["quality_interval"]),
        (cost, point["cost_interval"]),
    ):
        assert low <= truth <= high
    execute(url, "DELETE FROM samples")
    unweighted = calibrated(config, "--quality=0.6", out)
    assert unweighted["local_ok_share"] < good - 0.15
    low, high = unweighted["operating_point"]["cost_interval"]
    assert not low <= on_fresh_traffic(tmp_path / "own", unweighted["threshold"])[1] <= high


def test_ratings_move_a_head_slightly_and_no_share(url: str, tmp_path: Path) -> None:
    judge(url, TEXTS[:150])
    config = configuration(tmp_path, url, SHIPPED)
    out = tmp_path / "own"
    reports = [calibrated(config, f"--out={out}")]
    heads = [Manifest.load(out).calibration]
    rate(url, TEXTS[150:250], -1.0)
    reports.append(calibrated(config, f"--out={out}"))
    heads.append(Manifest.load(out).calibration)
    rate(url, TEXTS[:150], 1.0, tier="cloud")
    rate(url, TEXTS[250:300], 0.0)
    execute(url, "UPDATE requests SET ending = 'timeout' WHERE target = 'cloud'")
    reports.append(calibrated(config, f"--out={out}"))
    assert reports[0]["ratings"] == 0
    assert 60 <= reports[1]["ratings"] < 100  # without the held-out ones
    assert reports[2]["ratings"] == reports[1]["ratings"]  # neutral, or of failed answers
    means = [
        np.mean([head.local.probability(shipped().logits(text)[0]) for text in TEXTS[:150]])
        for head in heads
    ]
    assert 0.02 < means[0] - means[1] < 0.25  # a hundred judgements would have moved it fully
    assert heads[0].cloud == heads[1].cloud
    for name in ("local_ok_share", "cloud_better_share", "requests", "fitted"):
        assert reports[0][name] == reports[1][name]


def test_an_applied_calibration_can_be_reverted(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    before = content_of(used)
    config = configuration(tmp_path, judged_url, used)
    done = calibrate(config, "--apply")
    assert done.exit_code == 0, done.output
    after = content_of(used)
    assert after.pop("manifest.previous.json") == before["manifest.json"]
    assert after["manifest.json"] != before["manifest.json"]
    assert after | {"manifest.json": before["manifest.json"]} == before
    assert RouterModel.load(used).manifest.threshold > 0
    *_, source, target = done.output.split()
    shutil.copy(source, target)
    assert content_of(used)["manifest.json"] == before["manifest.json"]
    assert RouterModel.load(used).manifest.threshold == 0


def test_a_fixed_threshold_is_reported_to_override_the_model(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    done = calibrate(configuration(tmp_path, judged_url, used, threshold=0.4), "--apply")
    assert done.exit_code == 0, done.output
    assert "routing.threshold: 0.4 overrides" in done.stderr
    assert "overrides" not in calibrate(configuration(tmp_path, judged_url, used)).stderr


@pytest.mark.parametrize(
    "options", [["--quality=0.9", "--cost=0.3"], ["--apply", "--out=x"], ["--quality=2"]]
)
def test_contradictory_options_are_rejected(config: Path, options: list[str]) -> None:
    assert calibrate(config, *options).exit_code == 2


def test_a_broken_model_in_use_is_not_changed(judged_url: str, tmp_path: Path, used: Path) -> None:
    (used / "tokenizer.json").write_text("{}")
    before = content_of(used)
    done = calibrate(configuration(tmp_path, judged_url, used), "--apply")
    assert done.exit_code == 1
    assert "sha256" in done.output
    assert content_of(used) == before


async def test_a_running_proxy_uses_the_applied_threshold(
    judged_url: str, tmp_path: Path, used: Path
) -> None:
    changes = {"routing": {"model_path": str(used), "threshold": "auto"}}
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(tmp_path, local, cloud, changes=changes, model="configured") as proxy,
    ):
        assert (await proxy.chat()).headers["x-router-threshold"] == "0.0000"
        config = configuration(tmp_path, judged_url, used)
        report = await asyncio.to_thread(calibrated, config, "--apply")
        await proxy.reloaded(lambda: proxy.proxy.gateway.snapshot.router.threshold > 0)
        answer = await proxy.chat()
        assert float(answer.headers["x-router-threshold"]) == pytest.approx(report["threshold"])


def test_export_and_database_give_training_the_same_groups(sqlite_url: str, tmp_path: Path) -> None:
    """Else the proxy would hold out requests that a router was trained on through the file."""
    judge(sqlite_url, TEXTS[:20], sessions=[None, "s1", "s2", "s2"] * 5)
    with QualityQueries.open(StorageConfig(url=sqlite_url)) as stats:
        exported = {row["id"]: row["group"] for row in training_rows(stats.judged_requests())}
    read = proxy_db.rows(Path(sqlite_url.removeprefix("sqlite:///")))
    assert {row.id.removeprefix("proxy/"): row.group for row in read} == exported
