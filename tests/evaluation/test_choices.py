"""What the choices of users change in a calibration, and what they must not change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from judging import SHIPPED, TEXTS, choose, configuration, judge, shipped
from proxy.cli.main import main
from proxy.config import load_config
from proxy.evaluation.choices import ChoiceQueries
from proxy.evaluation.dataset import dataset_of_pair, labels_of_choices
from proxy.evaluation.estimates import share_interval
from proxy.evaluation.queries import QualityQueries
from router_model.calibrate import CHOICE_WEIGHT, MAX_CHOICE_SHARE, Ratings
from router_model.manifest import Manifest
from router_model.split import part_of, text_key
from stored import config_of, execute, opened, read

pytest_plugins = ["databases"]

JUDGED, CHOSEN = TEXTS[:150], TEXTS[150:250]


def calibrated(config: Path, out: Path) -> dict[str, Any]:
    command = ["calibrate", "--from-db", f"--config={config}", f"--out={out}", "--json"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def mean_gain(folder: Path) -> float:
    """The mean of P(cloud good) - P(local good) over the judged texts."""
    calibration = Manifest.load(folder).calibration
    logits = [shipped().logits(text) for text in JUDGED]
    local, cloud = (
        np.mean([head.probability(row[column]) for row in logits])
        for column, head in enumerate((calibration.local, calibration.cloud))
    )
    return float(cloud - local)


def labels(url: str, config: Path) -> Ratings:
    with QualityQueries.open(config_of(url)) as queries:
        judged = dataset_of_pair(queries.judged_requests(), load_config(config))
        chosen = ChoiceQueries.sharing(queries).chosen_requests()
    return labels_of_choices(chosen, judged, load_config(config), shipped())


@pytest.mark.parametrize(("choice", "sign"), [("cloud", 1), ("local", -1)])
def test_choices_move_the_expected_gain_and_no_share(
    url: str, tmp_path: Path, choice: str, sign: int
) -> None:
    judge(url, JUDGED)
    config, out = configuration(tmp_path, url, SHIPPED), tmp_path / "own"
    before, gain_before = calibrated(config, out), None
    gain_before = mean_gain(out)
    choose(url, CHOSEN, choice)
    after = calibrated(config, out)
    assert before["choices"] == 0
    assert 60 <= after["choices"] < 100  # without those of the test part
    assert 0.02 < sign * (mean_gain(out) - gain_before) < 0.3
    # Users choose what they compare, so no share is estimated from choices.
    for name in ("local_ok_share", "cloud_better_share", "requests", "fitted", "ratings"):
        assert after[name] == before[name]


def test_a_tie_says_that_both_answers_are_good(sqlite_url: str, tmp_path: Path) -> None:
    judge(sqlite_url, JUDGED)
    config = configuration(tmp_path, sqlite_url, SHIPPED)
    for choice, of_local, of_cloud in (
        ("tie", True, True), ("local", True, False), ("cloud", False, True),
    ):  # fmt: skip
        execute(sqlite_url, "DELETE FROM choices")
        choose(sqlite_url, CHOSEN, choice)
        found = labels(sqlite_url, config)
        assert set(found.ok[found.is_local]) == {of_local}
        assert set(found.ok[~found.is_local]) == {of_cloud}


def test_choices_take_no_part_in_a_test(sqlite_url: str, tmp_path: Path) -> None:
    """Neither by their own conversation, nor by the text of a judged request that tests."""
    sessions = [f"s{index}" for index in range(len(JUDGED))]
    judge(sqlite_url, JUDGED, sessions=sessions)
    config = configuration(tmp_path, sqlite_url, SHIPPED)
    choose(sqlite_url, [*JUDGED, *CHOSEN], "cloud")
    found = labels(sqlite_url, config)
    assert "test" not in {part_of(group) for group in found.group}
    tested = {
        text_key(text)
        for text, session in zip(JUDGED, sessions, strict=True)
        if part_of(text_key(f"session {session}")) == "test"
    }
    assert len(tested) > 10
    assert not tested & set(found.group)  # choices without a session: the group is the text


def test_all_choices_together_have_a_limited_weight(sqlite_url: str, tmp_path: Path) -> None:
    judge(sqlite_url, JUDGED)
    config = configuration(tmp_path, sqlite_url, SHIPPED)
    choose(sqlite_url, CHOSEN[:20], "cloud")
    few = labels(sqlite_url, config)
    assert set(few.weight) == {CHOICE_WEIGHT}
    for _ in range(6):
        choose(sqlite_url, CHOSEN, "cloud")
    many = labels(sqlite_url, config)
    fitted = sum(part_of(text_key(text)) != "test" for text in JUDGED)
    assert many.ok.size > 700
    assert many.weight[many.is_local].sum() == pytest.approx(MAX_CHOICE_SHARE * fitted)
    assert many.weight[~many.is_local].sum() == pytest.approx(MAX_CHOICE_SHARE * fitted)


def test_only_choices_with_consent_text_and_these_models_are_used(url: str, tmp_path: Path) -> None:
    judge(url, JUDGED)
    config = configuration(tmp_path, url, SHIPPED)
    choose(url, CHOSEN[:20], "cloud", may_learn=False)
    choose(url, CHOSEN[20:40], "cloud", local_model="llama3")
    without_text = choose(url, CHOSEN[40:60], "cloud")
    quoted = ", ".join(f"'{key}'" for key in without_text)
    execute(url, f"UPDATE requests SET prompt = NULL WHERE id IN ({quoted})")
    graded = choose(url, CHOSEN[60:80], "cloud")
    quoted = ", ".join(f"'{key}'" for key in graded)
    execute(
        url,
        "INSERT INTO judgements (request_id, created_at, target, model, score, judge_model) "
        "SELECT id, created_at, 'local', 'phi3', 9, 'judge' FROM requests "
        f"WHERE id IN ({quoted})",
    )
    assert labels(url, config).ok.size == 0
    choose(url, CHOSEN[80:], "cloud", local_model="phi3:latest")
    assert 0 < labels(url, config).ok.size <= 40


def test_stats_show_the_choices(url: str, tmp_path: Path) -> None:
    judge(url, JUDGED)
    config = configuration(tmp_path, url, SHIPPED)
    command = ["stats", f"--config={config}"]
    assert "choices of users" not in CliRunner().invoke(main, command).output
    choose(url, CHOSEN[:14], "local", is_blind=True, may_learn=False)
    choose(url, CHOSEN[14:20], "cloud", is_blind=True)
    done = CliRunner().invoke(main, [*command, "--json"])
    choices = json.loads(done.stdout)["choices"]
    assert choices["usable"] == 6
    assert (choices["blind"]["local_good_enough"], choices["all"]["comparisons"]) == (14, 20)
    shown = CliRunner().invoke(main, command).output
    assert "choices of users, 6 of them for calibration" in shown
    assert "48.1% to 85.5%" in shown


def test_choices_are_deleted_with_their_requests(url: str, tmp_path: Path) -> None:
    choose(url, CHOSEN[:3], "local")
    execute(url, "UPDATE choices SET created_at = created_at - 86400 * 40")
    choose(url, CHOSEN[3:5], "local")
    with opened(url, retention_days=30) as store:
        store._sweep()
    assert len(read(url, "SELECT * FROM choices")) == 2


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(14, 20, 0.481, 0.855), (0, 5, 0.0, 0.434), (5, 5, 0.566, 1.0), (1, 1, 0.207, 1.0)],
)
def test_wilsons_interval(successes: int, trials: int, low: float, high: float) -> None:
    interval = share_interval(successes, trials)
    assert interval is not None
    assert interval.value == successes / trials
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-3)
    assert share_interval(0, 0) is None
