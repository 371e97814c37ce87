"""Promotion: only a router that is better on held-out traffic replaces the one in use."""

import asyncio
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from fakes import EASY, PATIENCE_SECONDS, FakeUpstream
from gains import flat_gain
from judging import SHIPPED, TEXTS, change, configuration, content_of, judge, scramble
from live import LiveProxy
from proxy.cli.main import main
from proxy.config import load_config
from proxy.evaluation.comparison import MIN_HELD_OUT
from proxy.evaluation.dataset import dataset_of_pair
from proxy.evaluation.queries import QualityQueries
from router_model.manifest import HeadCalibration, Manifest, ThresholdTable
from router_model.model import RouterModel
from router_model.split import part_of, text_key

pytest_plugins = ["databases"]

JUDGED = 600


@pytest.fixture(scope="module")
def judged_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with enough judged requests, which the tests only read."""
    url = f"sqlite:///{tmp_path_factory.mktemp('judged')}/rows.db"
    judge(url, TEXTS[:JUDGED])
    return url


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "good"))


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return scramble(SHIPPED, tmp_path / "bad")


def promote(candidate: Path, config: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["promote", str(candidate), f"--config={config}", *more])


def test_a_worse_router_is_rejected_and_nothing_changes(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    before = content_of(good)
    done = promote(bad, configuration(tmp_path, judged_url, good), "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["promoted"], report["is_better"]) == (False, False)
    by_cost = Manifest.load(SHIPPED).gain is not None
    assert report["measure"] == ("pgr_at_cost" if by_cost else "apgr")
    assert report["difference"] < 0
    assert report["why"].startswith("no better")
    assert content_of(good) == before
    assert not good.with_name("good.previous").exists()


def test_a_better_router_is_promoted_and_the_old_one_is_saved(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    config = configuration(tmp_path, judged_url, bad)
    old, new = content_of(bad), content_of(good)
    done = promote(good, config, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    low, high = report["interval"]
    assert 0 < low <= report["difference"] <= high
    assert report["held_out"] >= MIN_HELD_OUT
    assert report["candidate"]["apgr"] > report["current"]["apgr"]
    assert content_of(bad) == new
    assert content_of(Path(report["previous"])) == old

    back = promote(Path(report["previous"]), config, "--force")
    assert back.exit_code == 0, back.output
    assert "Promoted: no better" in back.output
    assert content_of(bad) == old
    assert content_of(Path(report["previous"])) == new


async def test_a_running_proxy_uses_the_promoted_router(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    changes = {"routing": {"model_path": str(bad), "threshold": "auto"}}
    async with (
        FakeUpstream() as local,
        FakeUpstream() as cloud,
        LiveProxy(tmp_path, local, cloud, changes=changes, model="configured") as proxy,
    ):
        before = await proxy.chat(text=EASY)
        config = configuration(tmp_path, judged_url, bad)
        promoting = asyncio.create_task(asyncio.to_thread(promote, good, config))
        statuses = [before.status_code]
        version = Manifest.load(good).version
        # The comparison of the routers takes most of the time, in this process.
        async with asyncio.timeout(12 * PATIENCE_SECONDS):
            while proxy.proxy.gateway.snapshot.model_version != version:
                statuses.append((await proxy.chat(text=EASY)).status_code)
        done = await promoting
        assert done.exit_code == 0, done.output
        after = await proxy.chat(text=EASY)
        assert after.headers["x-router-score"] != before.headers["x-router-score"]
        expected = RouterModel.load(good).score(EASY).score
        assert float(after.headers["x-router-score"]) == pytest.approx(expected, abs=1e-4)
        assert {*statuses, after.status_code} == {200}


def test_too_few_judged_requests_are_not_enough(
    tmp_path: Path, good: Path, bad: Path, url: str
) -> None:
    judge(url, TEXTS[:200])
    config = configuration(tmp_path, url, bad)
    before = content_of(bad)
    done = promote(good, config)
    assert done.exit_code == 1
    assert f" of {MIN_HELD_OUT} held-out requests" in done.output
    assert "not enough data: " in done.output
    assert content_of(bad) == before
    assert promote(good, config, "--force").exit_code == 0
    assert RouterModel.load(bad).manifest == Manifest.load(good)


def test_old_requests_do_not_count(judged_url: str, tmp_path: Path, good: Path, bad: Path) -> None:
    config = configuration(tmp_path, judged_url, bad)
    done = promote(good, config, "--since=0m")
    assert done.exit_code == 1
    assert "not enough data: 0 of " in done.output
    assert promote(good, config, "--since=1h").exit_code == 0


def test_a_router_is_not_better_than_itself(judged_url: str, tmp_path: Path, good: Path) -> None:
    config = configuration(tmp_path, judged_url, good)
    done = promote(SHIPPED, config, "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert (report["difference"], report["interval"]) == (0.0, [0.0, 0.0])


def test_the_better_calibrated_of_two_routers_is_promoted(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    """Without a gain both order prompts equally, so their calibration decides."""
    change(good, gain=None, by_score=None)
    plain = Path(shutil.copytree(good, tmp_path / "plain"))
    config = configuration(tmp_path, judged_url, good)
    out = tmp_path / "own"
    arguments = ["calibrate", "--from-db", f"--config={config}", f"--out={out}"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    done = promote(out, config, "--json")
    report = json.loads(done.stdout)
    assert report["measure"] == "log_loss"
    assert done.exit_code == 0, done.output
    assert report["candidate"]["log_loss"] < report["current"]["log_loss"]
    back = promote(plain, config, "--json")
    assert back.exit_code == 1
    assert json.loads(back.stdout)["difference"] < 0


def test_a_calibration_with_a_gain_is_decided_by_dollars(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    """The same network: at the user's share of the dollars the better calibration wins."""
    gain = flat_gain(length=(4.0, 0.0, 0.0, 0.0, 0.0), input_tokens=40.0, output_tokens=120.0)
    change(good, gain=gain, threshold=0.75)
    calibration = Manifest.load(good).calibration
    config = configuration(tmp_path, judged_url, good)
    candidate = Path(shutil.copytree(good, tmp_path / "candidate"))
    flat = HeadCalibration(temperature=1e5, bias=0.0)  # sees no difference between prompts
    change(candidate, calibration=msgspec.structs.replace(calibration, local=flat))
    report = json.loads(promote(candidate, config, "--json").stdout)
    assert report["measure"] == "pgr_at_cost"
    assert 0.02 < report["cost_share"] < 0.98
    assert report["difference"] < 0
    assert promote(good, configuration(tmp_path, judged_url, candidate)).exit_code == 0


def test_a_router_calibrated_on_all_requests_cannot_be_compared(
    tmp_path: Path, good: Path, sqlite_url: str
) -> None:
    judge(sqlite_url, TEXTS[:150])
    config = configuration(tmp_path, sqlite_url, good)
    out = tmp_path / "own"
    arguments = ["calibrate", "--from-db", f"--config={config}", f"--out={out}"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    done = promote(out, config)
    assert done.exit_code == 1
    assert "calibrated on all judged requests" in done.output


def test_routers_with_a_gain_are_compared_by_dollars(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    """Both heads of the candidate are the same, so that it expects no gain: the score ranks."""
    config = configuration(tmp_path, judged_url, good)
    gain = flat_gain(length=(4.0, 0.0, 0.0, 0.0, 0.0), input_tokens=40.0, output_tokens=120.0)
    change(good, gain=None, by_score=None)
    gained = Path(shutil.copytree(good, tmp_path / "gained"))  # the same network
    change(gained, gain=gain)
    assert json.loads(promote(gained, config, "--json").stdout)["measure"] == "apgr_by_cost"
    by_score = ThresholdTable(threshold=1.0, threshold_why="why", thresholds=[])
    head = HeadCalibration(temperature=1e5, bias=0.0)
    equal = msgspec.structs.replace(Manifest.load(bad).calibration, local=head, cloud=head)
    change(bad, gain=gain, calibration=equal, threshold=0.5, by_score=by_score)
    report = json.loads(promote(bad, config, "--json").stdout)
    assert report["measure"] == "apgr_by_cost"
    assert report["difference"] < 0
    assert report["candidate"]["at_threshold"]["local_share"] == 1.0
    config.write_text(config.read_text().replace("gain_per_usd", "score"))
    report = json.loads(promote(bad, config, "--json").stdout)
    assert report["measure"] == "apgr"
    assert report["candidate"]["at_threshold"]["local_share"] == 0.0


def test_without_a_better_cloud_routers_cannot_be_compared(
    tmp_path: Path, good: Path, bad: Path, sqlite_url: str
) -> None:
    judge(sqlite_url, TEXTS[:JUDGED], cloud_ok=0.5)
    done = promote(good, configuration(tmp_path, sqlite_url, bad))
    assert done.exit_code == 1
    assert "not significantly better than the local ones" in done.output


def test_an_insignificant_difference_reports_the_requests_needed(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    nearly = scramble(SHIPPED, tmp_path / "nearly", share=0.08)
    done = promote(good, configuration(tmp_path, judged_url, nearly), "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert report["interval"][0] < 0 < report["difference"]
    half = (report["interval"][1] - report["interval"][0]) / 2
    whole = report["judged"] * (half / report["difference"]) ** 2
    assert report["needed"] == pytest.approx(whole - report["judged"], rel=0.05)
    assert f"[{report['interval'][0]:+.4f}, " in report["why"]
    assert f"about {report['needed']} more" in report["why"]


def test_a_fixed_threshold_is_reported_to_override_the_model(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    done = promote(good, configuration(tmp_path, judged_url, bad, threshold=0.4))
    assert done.exit_code == 0, done.output
    assert "routing.threshold: 0.4 overrides" in done.stderr


def test_a_folder_without_a_router_model_is_a_one_line_error(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    config = configuration(tmp_path, judged_url, good)
    (tmp_path / "letters").mkdir()
    broken = Path(shutil.copytree(SHIPPED, tmp_path / "broken"))
    (broken / "model.onnx").write_bytes(b"half of it")
    for folder, why in ((tmp_path / "letters", "manifest.json is missing"), (broken, "sha256")):
        done = promote(folder, config, "--force")
        assert done.exit_code == 1
        assert why in done.output
        assert "Traceback" not in done.output
    (tmp_path / "good.previous").mkdir()
    (tmp_path / "good.previous/to-mother.txt").write_text("dear")
    change(good, version="older")
    before = content_of(good)
    done = promote(SHIPPED, config, "--force")
    assert done.exit_code == 1
    assert "is not a router model" in done.output
    assert content_of(good) == before


def test_held_out_prompts_do_not_occur_in_the_training_part(tmp_path: Path, url: str) -> None:
    """Other conversations with the same prompts may be in another part."""
    texts = TEXTS[:150]
    judge(url, texts * 2, sessions=[f"s{number}" for number in range(2 * len(texts))])
    config = load_config(configuration(tmp_path, url, SHIPPED))
    with QualityQueries.open(config.storage) as stats:
        judged = dataset_of_pair(stats.judged_requests(), config)
    held_out = judged.take(judged.held_out)
    trained = judged.take(~judged.is_test)
    assert 0 < len(held_out.texts) < judged.is_test.sum()
    assert not {text_key(text) for text in held_out.texts} & {
        text_key(text) for text in trained.texts
    }
    assert {part_of(group) for group in held_out.outcomes.group} == {"test"}
