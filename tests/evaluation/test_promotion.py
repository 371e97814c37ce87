"""Only a router that is better on one's own held-out traffic takes the place of the one in use."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fakes import EASY, PATIENCE_SECONDS, FakeUpstream
from judging import SHIPPED, TEXTS, change, configuration, content_of, judge, mix_up
from live import LiveProxy
from proxy.cli.main import main
from proxy.config import load_config
from proxy.evaluation.dataset import dataset_of_pair
from proxy.evaluation.promotion import MIN_HELD_OUT
from proxy.evaluation.queries import QualityQueries
from router_model.manifest import Manifest
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
    return mix_up(SHIPPED, tmp_path / "bad")


def promote(candidate: Path, config: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["promote", str(candidate), f"--config={config}", *more])


def test_a_worse_router_is_refused_and_nothing_changes(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    before = content_of(good)
    done = promote(bad, configuration(tmp_path, judged_url, good), "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["promoted"], told["is_better"], told["measure"]) == (False, False, "apgr")
    assert told["difference"] < 0
    assert told["why"].startswith("no better")
    assert content_of(good) == before
    assert not good.with_name("good.previous").exists()


def test_a_better_router_is_promoted_and_the_old_one_kept(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    config = configuration(tmp_path, judged_url, bad)
    was, wanted = content_of(bad), content_of(good)
    done = promote(good, config, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    low, high = told["interval"]
    assert 0 < low <= told["difference"] <= high
    assert told["held_out"] >= MIN_HELD_OUT
    assert told["candidate"]["apgr"] > told["current"]["apgr"]
    assert content_of(bad) == wanted
    assert content_of(Path(told["previous"])) == was

    back = promote(Path(told["previous"]), config, "--force")
    assert back.exit_code == 0, back.output
    assert "Promoted: no better" in back.output
    assert content_of(bad) == was
    assert content_of(Path(told["previous"])) == wanted


async def test_a_running_proxy_takes_the_promoted_one_up(
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
        # Comparing the routers takes most of it, in this process and beside these requests.
        async with asyncio.timeout(12 * PATIENCE_SECONDS):
            while proxy.proxy.gateway.snapshot.model_version != version:
                statuses.append((await proxy.chat(text=EASY)).status_code)
        done = await promoting
        assert done.exit_code == 0, done.output
        after = await proxy.chat(text=EASY)
        assert after.headers["x-router-score"] != before.headers["x-router-score"]
        wanted = RouterModel.load(good).score(EASY).score
        assert float(after.headers["x-router-score"]) == pytest.approx(wanted, abs=1e-4)
        assert {*statuses, after.status_code} == {200}


def test_too_little_data_is_refused(tmp_path: Path, good: Path, bad: Path, url: str) -> None:
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
    told = json.loads(done.stdout)
    assert (told["difference"], told["interval"]) == (0.0, [0.0, 0.0])


def test_of_two_calibrations_the_better_fitting_is_promoted(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    """The order of prompts is the same, so what the score means decides."""
    config = configuration(tmp_path, judged_url, good)
    out = tmp_path / "own"
    arguments = ["calibrate", "--from-db", f"--config={config}", f"--out={out}"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    done = promote(out, config, "--json")
    told = json.loads(done.stdout)
    assert told["measure"] == "log_loss"
    assert done.exit_code == 0, done.output
    assert told["candidate"]["log_loss"] < told["current"]["log_loss"]
    back = promote(SHIPPED, config, "--json")
    assert back.exit_code == 1
    assert json.loads(back.stdout)["difference"] < 0


def test_a_calibration_on_everything_cannot_be_measured(
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


def test_where_the_cloud_is_no_better_nothing_is_compared(
    tmp_path: Path, good: Path, bad: Path, sqlite_url: str
) -> None:
    judge(sqlite_url, TEXTS[:JUDGED], cloud_ok=0.5)
    done = promote(good, configuration(tmp_path, sqlite_url, bad))
    assert done.exit_code == 1
    assert "not significantly better than the local ones" in done.output


def test_what_falls_short_says_by_how_much_and_what_it_takes(
    judged_url: str, tmp_path: Path, good: Path
) -> None:
    nearly = mix_up(SHIPPED, tmp_path / "nearly", share=0.15)
    done = promote(good, configuration(tmp_path, judged_url, nearly), "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert told["interval"][0] < 0 < told["difference"]
    half = (told["interval"][1] - told["interval"][0]) / 2
    whole = told["judged"] * (half / told["difference"]) ** 2
    assert told["needed"] == pytest.approx(whole - told["judged"], rel=0.05)
    assert f"[{told['interval'][0]:+.4f}, " in told["why"]
    assert f"about {told['needed']} more" in told["why"]


def test_a_fixed_threshold_is_reported_to_override_the_model(
    judged_url: str, tmp_path: Path, good: Path, bad: Path
) -> None:
    done = promote(good, configuration(tmp_path, judged_url, bad, threshold=0.4))
    assert done.exit_code == 0, done.output
    assert "routing.threshold: 0.4 overrides" in done.stderr


def test_a_folder_that_is_no_router_model_is_one_clear_line(
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


def test_no_prompt_that_was_trained_on_is_held_out(tmp_path: Path, url: str) -> None:
    """Others ask the same in conversations of their own, which may be in another part."""
    texts = TEXTS[:150]
    judge(url, texts * 2, sessions=[f"s{number}" for number in range(2 * len(texts))])
    config = load_config(configuration(tmp_path, url, SHIPPED))
    with QualityQueries.open(config.storage) as stats:
        judged = dataset_of_pair(stats.judged_requests(), config)
    kept = judged.take(judged.held_out)
    seen = judged.take(~judged.is_test)
    assert 0 < len(kept.texts) < judged.is_test.sum()
    assert not {text_key(text) for text in kept.texts} & {text_key(text) for text in seen.texts}
    assert {part_of(group) for group in kept.outcomes.group} == {"test"}
